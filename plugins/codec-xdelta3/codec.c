/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/codec-xdelta3/codec.h"

#include <stdarg.h>
#include <string.h>

#include "common/banned.h"

/* Idle scratch kept: about as many windows as a machine works on at once, and
 * none that served a large window, so that what stays is some 30 MiB. */
#define IDLE_MAX      8u
#define IDLE_MAX_SIZE (2u << 20)

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)

const struct dg_option codec_options[] = {
    {.name = "secondary",
     .type = DG_OPT_ENUM,
     .dflt = "djw",
     .choices = "none|djw|lzma",
     .help = "Compression of each window's sections: djw (Huffman) keeps windows independent, "
             "none is fastest, lzma is smallest but makes every range read decode from the start."},
    {.name = "window",
     .type = DG_OPT_SIZE,
     .dflt = "1MiB",
     .min = 64 * KIB,
     .max = 16 * MIB,
     .help = "Bytes of an object that one window of a delta covers; it doubles for objects above "
             "8 GiB, up to the 16 MiB that xdelta3 accepts."},
    {.name = "lzma_preset",
     .type = DG_OPT_INT,
     .dflt = "2",
     .min = 0,
     .max = 9,
     .help = "Effort of secondary: lzma, as in xz(1); each object being written needs about three "
             "times the memory xz states for it."},
    {.name = "index_cache",
     .type = DG_OPT_SIZE,
     .dflt = "8GiB",
     .min = 0,
     .max = 1024 * 1024 * 1024 * KIB,
     .help = "Room in the cache directory for the kept indexes of references, some 0.4 bytes per "
             "byte of reference; beyond it those used least recently are removed."},
    {.name = NULL},
};

static int create(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                  struct dg_error *err)
{
  const char *secondary = config->get_text(config, "secondary");
  int64_t window = config->get_int(config, "window");
  int64_t preset = config->get_int(config, "lzma_preset");
  int64_t index_cache = config->get_int(config, "index_cache");
  struct codec *codec;
  uint32_t id;

  if (!secondary || strcmp(secondary, "djw") == 0)
    id = DG_SECONDARY_DJW;
  else if (strcmp(secondary, "none") == 0)
    id = DG_SECONDARY_NONE;
  else if (strcmp(secondary, "lzma") == 0)
    id = DG_SECONDARY_LZMA;
  else
    return dg_fail(err, DG_E_CONFIG, "secondary '%.32s' is not one of none, djw, lzma", secondary);
  if (window < 64 * KIB || window > 16 * MIB)
    return dg_fail(err, DG_E_CONFIG, "window must lie between 64KiB and 16MiB");
  if (preset < 0 || preset > 9)
    return dg_fail(err, DG_E_CONFIG, "lzma_preset must lie between 0 and 9");
  if (index_cache < 0)
    return dg_fail(err, DG_E_CONFIG, "index_cache must not be negative");

  codec = g_new0(struct codec, 1);
  codec->host = host;
  codec->secondary = id;
  codec->window_size = (uint32_t)window;
  codec->lzma_preset = (uint32_t)preset;
  codec->index_cache_size = (uint64_t)index_cache;
  (void)pthread_mutex_init(&codec->mutex, NULL);
  *ret_self = codec;
  return 0;
}

static void work_free(struct work *work)
{
  dg_matcher_free(work->matcher);
  dg_emitter_free(work->emitter);
  g_free(work);
}

static void destroy(void *self)
{
  struct codec *codec = self;

  if (!codec)
    return;
  while (codec->idle) {
    struct work *work = codec->idle;

    codec->idle = work->next;
    work_free(work);
  }
  (void)pthread_mutex_destroy(&codec->mutex);
  g_free(codec);
}

struct work *codec_work_take(struct codec *codec)
{
  struct work *work;

  (void)pthread_mutex_lock(&codec->mutex);
  work = codec->idle;
  if (work) {
    codec->idle = work->next;
    codec->idle_count--;
  }
  (void)pthread_mutex_unlock(&codec->mutex);
  if (!work) {
    work = g_new0(struct work, 1);
    work->matcher = dg_matcher_new();
    work->emitter = dg_emitter_new();
  }
  work->next = NULL;
  return work;
}

void codec_work_give(struct codec *codec, struct work *work)
{
  (void)pthread_mutex_lock(&codec->mutex);
  if (codec->idle_count < IDLE_MAX && work->largest <= IDLE_MAX_SIZE) {
    work->next = codec->idle;
    codec->idle = work;
    codec->idle_count++;
    work = NULL;
  }
  (void)pthread_mutex_unlock(&codec->mutex);
  if (work)
    work_free(work);
}

void codec_log(const struct codec *codec, uint32_t level, const char *event, const char *format,
               ...)
{
  va_list args;
  g_autofree char *message = NULL;

  if (!codec->host || !codec->host->log)
    return;
  va_start(args, format);
  message = g_strdup_vprintf(format, args);
  va_end(args);
  codec->host->log(codec->host, level, event, message);
}

int codec_fault(const struct codec *codec, const char *step)
{
  return codec->host && codec->host->fault ? codec->host->fault(codec->host, step) : 0;
}

const struct dg_codec_ops codec_ops = {
    .struct_size = sizeof codec_ops,
    .caps = DG_CAP_PARALLEL_WINDOWS | DG_CAP_VERIFIED_WINDOWS,
    .create = create,
    .destroy = destroy,
    .ref_open = codec_ref_open,
    .ref_bytes = codec_ref_bytes,
    .ref_close = codec_ref_close,
    .encode_open = codec_encode_open,
    .encode_window_size = codec_encode_window_size,
    .encode_window = codec_encode_window,
    .encode_release = codec_encode_release,
    .encode_finish = codec_encode_finish,
    .encode_close = codec_encode_close,
    .decode_open = codec_decode_open,
    .decode_range = codec_decode_range,
    .decode_close = codec_decode_close,
};
