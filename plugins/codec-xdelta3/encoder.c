/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/codec-xdelta3/codec.h"

#include <string.h>
#include <time.h>

#include "common/vcdiff/header.h"

#include "common/banned.h"

/* Objects above this get larger windows. */
#define WINDOW_DOUBLES_ABOVE (UINT64_C(8) << 30)

/* How long a window waits for the one before it (lzma) between two looks at
 * the cancel flag. */
#define TURN_POLL_NS 50000000L
#define NS_PER_S     1000000000L

struct dg_encoder {
  struct codec *codec;
  const struct dg_call *call;
  const struct dg_codec_ref *ref; /* NULL: identity */
  uint64_t target_size;
  uint64_t window_count;
  uint32_t window_size;

  pthread_mutex_t mutex; /* guards everything below */
  pthread_cond_t turn;
  struct work *held;                /* results not yet released */
  struct dg_dgx1_window *windows;   /* by number; delta_size 0: not yet encoded */
  uint64_t windows_size;
  uint64_t next_in_turn;            /* lzma: the window whose sections come next */
  int failed;                       /* lzma: the streams are broken off */
  struct dg_lzma_encoder *lzma;
  GByteArray *header;
};

int codec_encode_open(void *self, const struct dg_call *call, const struct dg_codec_ref *ref,
                      const struct dg_encode_params *params, struct dg_encoder **ret_encoder,
                      struct dg_error *err)
{
  struct codec *codec = self;
  int identity = (params->flags & DG_ENCODE_IDENTITY) != 0;
  uint64_t limit = WINDOW_DOUBLES_ABOVE;
  uint32_t window_size = codec->window_size;
  struct dg_lzma_encoder *lzma = NULL;
  struct dg_dgx1_window *windows;
  struct dg_encoder *encoder;
  pthread_condattr_t monotonic;
  uint64_t count;

  if (identity != (ref == NULL))
    return dg_fail(err, DG_E_INTERNAL, "encoding needs a reference, or the identity flag");
  if (ref && dg_mapguard_is_hurt(ref->table_guard))
    codec_log(codec, DG_LOG_WARN, "codec.index_lost",
              "reference_bytes=%" G_GUINT64_FORMAT " effect=\"deltas are larger\"", ref->size);
  for (; params->target_size > limit && window_size < DG_MATCH_MAX_WINDOW; limit *= 2)
    window_size = MIN(2 * window_size, DG_MATCH_MAX_WINDOW);
  count = params->target_size == 0 ? 1 : (params->target_size - 1) / window_size + 1;
  if (count > DG_DGX1_MAX_SIZE / DG_DGX1_ENTRY_SIZE)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE,
                   "object of %" G_GUINT64_FORMAT " bytes has too many windows for a delta",
                   params->target_size);
  windows = g_try_new0(struct dg_dgx1_window, (gsize)count);
  if (!windows)
    return dg_fail(err, DG_E_INTERNAL, "no memory for an index of %" G_GUINT64_FORMAT " windows",
                   count);
  if (codec->secondary == DG_SECONDARY_LZMA &&
      dg_lzma_encoder_new(codec->lzma_preset, &lzma, err) < 0) {
    g_free(windows);
    return -1;
  }
  encoder = g_new0(struct dg_encoder, 1);
  encoder->codec = codec;
  encoder->call = call;
  encoder->ref = ref;
  encoder->target_size = params->target_size;
  encoder->window_size = window_size;
  encoder->window_count = count;
  encoder->windows = windows;
  encoder->lzma = lzma;
  (void)pthread_mutex_init(&encoder->mutex, NULL);
  (void)pthread_condattr_init(&monotonic);
  (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  (void)pthread_cond_init(&encoder->turn, &monotonic);
  (void)pthread_condattr_destroy(&monotonic);
  *ret_encoder = encoder;
  return 0;
}

uint64_t codec_encode_window_size(const struct dg_encoder *encoder)
{
  return encoder->window_size;
}

static int is_cancelled(const struct dg_encoder *encoder)
{
  const struct dg_call *call = encoder->call;

  return call && call->cancelled && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED) != 0;
}

/* ---- Turns: xz streams run through all windows, so these pass in order ------- */

static int turn_wait(struct dg_encoder *encoder, uint64_t number, struct dg_error *err)
{
  struct timespec until;
  int result = 0;

  (void)pthread_mutex_lock(&encoder->mutex);
  while (encoder->next_in_turn != number) {
    if (encoder->failed || encoder->next_in_turn > number) {
      result = dg_fail(err, DG_E_INTERNAL, "an earlier window could not be encoded");
      break;
    }
    if (is_cancelled(encoder)) {
      result = dg_fail(err, DG_E_CANCELLED, "cancelled while a window waited for its turn");
      break;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TURN_POLL_NS;
    if (until.tv_nsec >= NS_PER_S) {
      until.tv_nsec -= NS_PER_S;
      until.tv_sec++;
    }
    (void)pthread_cond_timedwait(&encoder->turn, &encoder->mutex, &until);
  }
  (void)pthread_mutex_unlock(&encoder->mutex);
  return result;
}

static void turn_end(struct dg_encoder *encoder, int result)
{
  (void)pthread_mutex_lock(&encoder->mutex);
  encoder->next_in_turn++;
  if (result < 0)
    encoder->failed = 1;
  (void)pthread_cond_broadcast(&encoder->turn);
  (void)pthread_mutex_unlock(&encoder->mutex);
}

/* ---- Windows ------------------------------------------------------------------- */

/* A window whose matches cannot be trusted still has its turn, so that the others
 * learn that it failed. */
static int emit_in_turn(struct dg_encoder *encoder, struct work *work, uint64_t number,
                        const struct dg_emit_input *emit, int sound, const uint8_t **ret_data,
                        size_t *ret_len, struct dg_error *err)
{
  struct dg_error late;
  int result = -1;

  if (turn_wait(encoder, number, sound ? err : &late) < 0)
    return -1;
  if (sound)
    result = dg_emitter_run(work->emitter, emit, ret_data, ret_len, err);
  turn_end(encoder, result);
  return result;
}

static int encode_window(struct dg_encoder *encoder, struct work *work, uint64_t number,
                         const uint8_t *target, uint32_t len, const uint8_t **ret_data,
                         size_t *ret_len, struct dg_error *err)
{
  uint64_t offset = number * encoder->window_size;
  struct dg_match whole = dg_match_make(DG_MATCH_SOURCE, 0, len, offset);
  struct dg_matches identity = {.items = &whole,
                                .count = len > 0,
                                .source_low = len > 0 ? offset : 0,
                                .source_high = len > 0 ? offset + len : 0};
  struct dg_emit_input emit = {
      .window = target,
      .window_size = len,
      .secondary = encoder->codec->secondary,
      .matches = &identity,
      .lzma = encoder->lzma,
  };
  int sound = 1;

  if (encoder->ref) {
    const struct dg_codec_ref *ref = encoder->ref;
    struct dg_match_input match = {
        .index = ref->index.buckets ? &ref->index : NULL,
        .reference = ref->data,
        .reference_size = ref->size,
        .window = target,
        .window_size = len,
        .window_offset = offset,
    };

    emit.matches = dg_matcher_run(work->matcher, &match);
    /* A lost index is no harm: whatever it says is looked up in the reference. */
    sound = codec_ref_check(encoder->ref, err) == 0;
  }
  if (encoder->lzma)
    return emit_in_turn(encoder, work, number, &emit, sound, ret_data, ret_len, err);
  return sound ? dg_emitter_run(work->emitter, &emit, ret_data, ret_len, err) : -1;
}

int codec_encode_window(struct dg_encoder *encoder, uint64_t number, const void *target,
                        size_t len, const void **ret_data, size_t *ret_len, struct dg_error *err)
{
  struct dg_dgx1_window entry = {0};
  const uint8_t *data;
  struct work *work;
  size_t data_len;
  uint64_t expected;

  if (number >= encoder->window_count)
    return dg_fail(err, DG_E_INTERNAL, "window %" G_GUINT64_FORMAT " lies behind the target",
                   number);
  expected = MIN(encoder->window_size, encoder->target_size - number * encoder->window_size);
  if (len != expected)
    return dg_fail(err, DG_E_INTERNAL,
                   "window %" G_GUINT64_FORMAT " has %zu bytes instead of %" G_GUINT64_FORMAT,
                   number, len, expected);
  if (is_cancelled(encoder))
    return dg_fail(err, DG_E_CANCELLED, "cancelled before window %" G_GUINT64_FORMAT, number);

  work = codec_work_take(encoder->codec);
  work->window = number;
  work->largest = MAX(work->largest, (uint32_t)len);
  if (encode_window(encoder, work, number, target, (uint32_t)len, &data, &data_len, err) < 0) {
    codec_work_give(encoder->codec, work);
    return -1;
  }
  entry.delta_size = (uint32_t)data_len;
  dg_window_digest(target, len, entry.digest);

  (void)pthread_mutex_lock(&encoder->mutex);
  work->next = encoder->held;
  encoder->held = work;
  encoder->windows_size += data_len - encoder->windows[number].delta_size;
  encoder->windows[number] = entry;
  (void)pthread_mutex_unlock(&encoder->mutex);
  *ret_data = data;
  *ret_len = data_len;
  return 0;
}

void codec_encode_release(struct dg_encoder *encoder, uint64_t number)
{
  struct work *work = NULL;

  (void)pthread_mutex_lock(&encoder->mutex);
  for (struct work **link = &encoder->held; *link; link = &(*link)->next) {
    if ((*link)->window == number) {
      work = *link;
      *link = work->next;
      break;
    }
  }
  (void)pthread_mutex_unlock(&encoder->mutex);
  if (work)
    codec_work_give(encoder->codec, work);
}

int codec_encode_finish(struct dg_encoder *encoder, const uint8_t target_sha256[32],
                        struct dg_encode_summary *ret_summary, const void **ret_header,
                        struct dg_error *err)
{
  struct dg_dgx1 index = {
      .target_size = encoder->target_size,
      .reference_size = encoder->ref ? encoder->ref->size : encoder->target_size,
      .window_size = encoder->window_size,
      .window_count = (uint32_t)encoder->window_count,
  };
  g_autoptr(GByteArray) header = g_byte_array_new();

  for (uint64_t i = 0; i < encoder->window_count; i++)
    if (encoder->windows[i].delta_size == 0)
      return dg_fail(err, DG_E_INTERNAL, "window %" G_GUINT64_FORMAT " was not encoded", i);
  memcpy(index.target_sha256, target_sha256, sizeof index.target_sha256);
  if (dg_dgx1_write(encoder->codec->secondary, &index, encoder->windows, header, err) < 0)
    return -1;
  ret_summary->window_count = encoder->window_count;
  ret_summary->header_size = header->len;
  ret_summary->windows_size = encoder->windows_size;
  *ret_header = header->data;
  if (encoder->header)
    g_byte_array_unref(encoder->header);
  encoder->header = g_steal_pointer(&header);
  return 0;
}

void codec_encode_close(struct dg_encoder *encoder)
{
  if (!encoder)
    return;
  while (encoder->held) {
    struct work *work = encoder->held;

    encoder->held = work->next;
    codec_work_give(encoder->codec, work);
  }
  dg_lzma_encoder_free(encoder->lzma);
  if (encoder->header)
    g_byte_array_unref(encoder->header);
  g_free(encoder->windows);
  (void)pthread_cond_destroy(&encoder->turn);
  (void)pthread_mutex_destroy(&encoder->mutex);
  g_free(encoder);
}
