/* SPDX-License-Identifier: Apache-2.0 */
/* What opening a delta (decoder.c) and reading from it (range-reader.c) share. */
#ifndef DG_CODEC_XDELTA3_DECODER_H
#define DG_CODEC_XDELTA3_DECODER_H

#include "plugins/codec-xdelta3/codec.h"

#include "common/vcdiff/header.h"

/* Where a window begins, in the target and in the delta. */
struct window_row {
  uint64_t target_offset;
  uint64_t delta_offset;
};

/* Immutable once open: any number of readers share it. */
struct dg_decoder {
  const struct dg_call *call;    /* borrowed; may be NULL in tests */
  const struct dg_source *delta; /* borrowed */
  const struct dg_codec_ref *ref; /* borrowed */
  uint32_t secondary; /* DG_SECONDARY_* */
  int verified;
  int seekable;
  uint64_t window_count;
  uint32_t largest_window;
  struct window_row *rows; /* window_count + 1: the last one is the end */
  uint8_t *header;         /* of our own deltas: the whole header, else NULL */
  const uint8_t *app;      /* the index inside it: digests are read from here */
  struct dg_dgx1 index;
};

typedef struct dg_decoder dg_decoder;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(dg_decoder, codec_decode_close)

/* DG_E_CANCELLED once the client has left. */
int decoder_check_call(const struct dg_call *call, struct dg_error *err);

#endif
