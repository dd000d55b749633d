/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of codec-xdelta3 share. The ops are documented in plugin.h. */
#ifndef DG_CODEC_XDELTA3_CODEC_H
#define DG_CODEC_XDELTA3_CODEC_H

#include <deltaglider/plugin.h>
#include <glib.h>
#include <pthread.h>
#include <stdint.h>

#include "common/mapguard.h"
#include "common/vcdiff/emit.h"
#include "common/vcdiff/index.h"
#include "common/vcdiff/match.h"

/* ---- The instance ----------------------------------------------------------- */

/* Scratch memory for one window under way. */
struct work {
  struct work *next;
  struct dg_matcher *matcher;
  struct dg_emitter *emitter;
  uint64_t window;  /* its number, while it holds a result */
  uint32_t largest; /* bytes of target it ever served */
};

struct codec {
  const struct dg_host *host; /* may be NULL in tests */
  uint32_t window_size;
  uint32_t secondary; /* DG_SECONDARY_* */
  uint32_t lzma_preset;
  uint64_t index_cache_size; /* of all kept indexes together */
  pthread_mutex_t mutex; /* guards idle, idle_count */
  struct work *idle; /* kept, so that memory is not faulted in for every window */
  unsigned idle_count;
};

/* Never NULL. [any] */
struct work *codec_work_take(struct codec *codec);
void codec_work_give(struct codec *codec, struct work *work);

DG_PRINTF(4, 5)
void codec_log(const struct codec *codec, uint32_t level, const char *event, const char *format,
               ...);

/* A named step that a test can fail: 0, or the errno to fail with. [any] */
int codec_fault(const struct codec *codec, const char *step);

/* ---- References (ref.c) ------------------------------------------------------ */

struct dg_codec_ref {
  const uint8_t *data; /* the whole reference, mapped; not NULL even if empty */
  uint64_t size;
  struct dg_mapguard *guard; /* of data; NULL: empty */
  char *path;                /* of the mapped file, for messages; NULL: unknown */
  uint8_t sha256[32];
  struct dg_index index; /* shape.bucket_count == 0: there is none */
  void *table;           /* what index.buckets lies in, or NULL */
  size_t table_size;
  struct dg_mapguard *table_guard; /* NULL: not in a file */
  size_t anonymous_size; /* how much of that is memory of our own */
};

int codec_ref_open(void *self, const struct dg_call *call,
                   const struct dg_codec_ref_params *params, struct dg_codec_ref **ret_ref,
                   struct dg_error *err);
uint64_t codec_ref_bytes(const struct dg_codec_ref *ref);
void codec_ref_close(struct dg_codec_ref *ref);

/* After anything was made of the reference's bytes: DG_E_CORRUPT if they went away
 * meanwhile (common/mapguard.h), and what was made of them is worth nothing. [any] */
int codec_ref_check(const struct dg_codec_ref *ref, struct dg_error *err);

/* ---- The index (index-file.c, index-build.c) ---------------------------------- */

/* Maps the index of a reference from cache_dir. Returns -1 when there is none,
 * or none that can be trusted: that one is removed. */
int codec_index_load(const struct codec *codec, const char *cache_dir, struct dg_codec_ref *ref);

/* Builds the index of a reference, whose shape stands in ref->index, and bounds
 * what is kept in cache_dir, which may be NULL. Takes file pages and a few MiB;
 * what memory of our own it keeps stands in ref->anonymous_size. Where there is
 * no room for a file, a large reference is left without an index: that is
 * logged, and the encoder follows the diagonal only. */
void codec_index_build(const struct codec *codec, const char *cache_dir, struct dg_codec_ref *ref);

/* ---- Encoding (encoder.c) ------------------------------------------------------ */

int codec_encode_open(void *self, const struct dg_call *call, const struct dg_codec_ref *ref,
                      const struct dg_encode_params *params, struct dg_encoder **ret_encoder,
                      struct dg_error *err);
uint64_t codec_encode_window_size(const struct dg_encoder *encoder);
int codec_encode_window(struct dg_encoder *encoder, uint64_t number, const void *target,
                        size_t len, const void **ret_data, size_t *ret_len, struct dg_error *err);
void codec_encode_release(struct dg_encoder *encoder, uint64_t number);
int codec_encode_finish(struct dg_encoder *encoder, const uint8_t target_sha256[32],
                        struct dg_encode_summary *ret_summary, const void **ret_header,
                        struct dg_error *err);
void codec_encode_close(struct dg_encoder *encoder);

/* ---- Decoding (decoder.c) ------------------------------------------------------ */

int codec_decode_open(void *self, const struct dg_call *call, const struct dg_codec_ref *ref,
                      const struct dg_decode_params *params, struct dg_decode_info *ret_info,
                      struct dg_decoder **ret_decoder, struct dg_error *err);
int codec_decode_range(struct dg_decoder *decoder, struct dg_range range,
                       struct dg_reader **ret_reader, struct dg_error *err);
void codec_decode_close(struct dg_decoder *decoder);

/* ---- The vtable, also for programs that link the codec instead of loading it -------- */

extern const struct dg_codec_ops codec_ops;
extern const struct dg_option codec_options[];

#endif
