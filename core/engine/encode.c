/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/encode.h"

#include <glib.h>

#include "common/checksum.h"
#include "core/engine/permits.h"
#include "core/engine/reference.h"
#include "core/engine/spool.h"
#include "core/plug/codec.h"

#include "common/banned.h"

#define SLOT_COUNT 4u
#define SPOOL_MEMORY_BYTES (1024u * 1024u)
/* When to judge: the first 1/16 of the object, at least 4 windows, at most
 * 32 MiB. Below 5 % saved there, the rest is not worth the CPU. */
#define JUDGE_SHARE 16u
#define JUDGE_WINDOWS 4u
#define JUDGE_MAX_BYTES (UINT64_C(32) << 20)
#define HOPELESS_RATIO 0.95

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_QUEUED, SLOT_RUNNING, SLOT_DONE };

struct slot {
  enum slot_state state;
  uint64_t number;
  uint8_t *target; /* window_size bytes, taken from the stack of buffers */
  size_t target_len;
  const void *output; /* the encoder's, until released */
  size_t output_len;
  int rc;
  struct dg_error error;
};

struct dg_encode {
  gint refs; /* the owner, and each task in the pool */
  GMutex mutex; /* guards slot states, closed */
  GCond done;
  bool closed;
  struct slot slots[SLOT_COUNT]; /* window n lives in slot n % SLOT_COUNT */

  /* Constant after open. */
  const struct dg_call *call;
  struct dg_encode_pool *pool; /* NULL: windows one after the other, here */
  struct dg_permits *permits;
  struct dg_codec *codec;
  struct dg_encoder *encoder;
  struct dg_ref *ref;
  size_t window_size;
  uint64_t target_size;
  double max_ratio;

  /* The owner's. */
  uint64_t next_number;    /* the window being filled */
  uint64_t next_output;    /* the window whose result the spool waits for */
  uint64_t encoded_bytes;  /* target bytes whose result is in the spool */
  uint8_t *buffers[SLOT_COUNT];
  uint32_t buffer_count;
  struct dg_spool *spool;
  const void *header;
  size_t header_len;
};

static void encode_unref(struct dg_encode *encode)
{
  if (!g_atomic_int_dec_and_test(&encode->refs))
    return;
  g_mutex_clear(&encode->mutex);
  g_cond_clear(&encode->done);
  g_free(encode);
}

static struct slot *slot_of(struct dg_encode *encode, uint64_t number)
{
  return &encode->slots[number % SLOT_COUNT];
}

/* Encodes a slot that the caller has set to SLOT_RUNNING. */
static void run_slot(struct dg_encode *encode, struct slot *slot)
{
  int rc = dg_codec_encode_window(encode->codec, encode->encoder, slot->number, slot->target,
                                  slot->target_len, &slot->output, &slot->output_len, &slot->error);

  g_mutex_lock(&encode->mutex);
  slot->rc = rc;
  slot->state = SLOT_DONE;
  g_cond_broadcast(&encode->done);
  g_mutex_unlock(&encode->mutex);
}

static struct slot *claim_queued(struct dg_encode *encode)
{
  struct slot *best = NULL;

  g_mutex_lock(&encode->mutex);
  for (uint32_t i = 0; !encode->closed && i < SLOT_COUNT; i++) {
    struct slot *slot = &encode->slots[i];

    if (slot->state == SLOT_QUEUED && (!best || slot->number < best->number))
      best = slot;
  }
  if (best)
    best->state = SLOT_RUNNING;
  g_mutex_unlock(&encode->mutex);
  return best;
}

/* ---- The pool --------------------------------------------------------------------- */

struct dg_encode_pool {
  GMutex mutex; /* guards tasks, stopping; never taken with an encode's own */
  GCond changed;
  GQueue tasks; /* struct dg_encode *, a reference each */
  bool stopping;
  GThread **threads;
  uint32_t thread_count;
};

/* One task: one queued window, if nobody has taken it yet. Without a free permit
 * the window is left to the feeding worker, which may wait. */
static void run_task(struct dg_encode *encode)
{
  if (dg_permits_try(encode->permits)) {
    struct slot *slot = claim_queued(encode);

    if (slot)
      run_slot(encode, slot);
    dg_permits_give(encode->permits);
  }
  encode_unref(encode);
}

static gpointer pool_thread(gpointer data)
{
  struct dg_encode_pool *pool = data;

  g_mutex_lock(&pool->mutex);
  for (;;) {
    struct dg_encode *encode = g_queue_pop_head(&pool->tasks);

    if (encode) {
      g_mutex_unlock(&pool->mutex);
      run_task(encode);
      g_mutex_lock(&pool->mutex);
    } else if (pool->stopping) {
      break;
    } else {
      g_cond_wait(&pool->changed, &pool->mutex);
    }
  }
  g_mutex_unlock(&pool->mutex);
  return NULL;
}

struct dg_encode_pool *dg_encode_pool_new(uint32_t thread_count)
{
  struct dg_encode_pool *pool = g_new0(struct dg_encode_pool, 1);

  g_mutex_init(&pool->mutex);
  g_cond_init(&pool->changed);
  g_queue_init(&pool->tasks);
  pool->threads = g_new0(GThread *, thread_count + 1);
  pool->thread_count = thread_count;
  for (uint32_t i = 0; i < thread_count; i++)
    pool->threads[i] = g_thread_new("encode", pool_thread, pool);
  return pool;
}

void dg_encode_pool_free(struct dg_encode_pool *pool)
{
  if (!pool)
    return;
  g_mutex_lock(&pool->mutex);
  pool->stopping = true;
  g_cond_broadcast(&pool->changed);
  g_mutex_unlock(&pool->mutex);
  for (uint32_t i = 0; i < pool->thread_count; i++)
    (void)g_thread_join(pool->threads[i]);
  g_mutex_clear(&pool->mutex);
  g_cond_clear(&pool->changed);
  g_free(pool->threads);
  g_free(pool);
}

static void pool_push(struct dg_encode_pool *pool, struct dg_encode *encode)
{
  g_atomic_int_inc(&encode->refs);
  g_mutex_lock(&pool->mutex);
  g_queue_push_tail(&pool->tasks, encode);
  g_cond_signal(&pool->changed);
  g_mutex_unlock(&pool->mutex);
}

/* ---- Feeding ---------------------------------------------------------------------- */

static void set_state(struct dg_encode *encode, struct slot *slot, enum slot_state state)
{
  g_mutex_lock(&encode->mutex);
  slot->state = state;
  g_mutex_unlock(&encode->mutex);
}

int dg_encode_open(const struct dg_call *call, const struct dg_encode_request *request,
                   struct dg_encode **ret_encode, struct dg_error *err)
{
  struct dg_encode_params params = {
    .struct_size = sizeof params,
    .flags = request->ref ? 0 : DG_ENCODE_IDENTITY,
    .target_size = request->target_size,
  };
  struct dg_encoder *encoder;
  struct dg_encode *encode;

  if (dg_codec_encode_open(request->codec, call, request->ref ? dg_ref_codec(request->ref) : NULL,
                           &params, &encoder, err) < 0) {
    dg_ref_close(request->ref);
    return -1;
  }
  encode = g_new0(struct dg_encode, 1);
  encode->refs = 1;
  g_mutex_init(&encode->mutex);
  g_cond_init(&encode->done);
  encode->call = call;
  encode->permits = request->permits;
  encode->codec = request->codec;
  encode->encoder = encoder;
  encode->ref = request->ref;
  encode->target_size = request->target_size;
  encode->max_ratio = request->max_ratio;
  encode->window_size = (size_t)dg_codec_encode_window_size(request->codec, encoder);
  if (dg_codec_has(request->codec, DG_CAP_PARALLEL_WINDOWS))
    encode->pool = request->pool;
  encode->spool = dg_spool_new(request->spool_dir, request->spool_budget, SPOOL_MEMORY_BYTES);
  if (request->beside)
    dg_spool_join(encode->spool, request->beside);
  else
    dg_spool_join_room(encode->spool, request->room);
  *ret_encode = encode;
  return 0;
}

/* Encodes one queued window on this thread, or waits for a running one, until
 * the given window is done. */
static int await_window(struct dg_encode *encode, struct slot *wanted, struct dg_error *err)
{
  for (;;) {
    struct slot *slot;
    bool done;

    g_mutex_lock(&encode->mutex);
    while (wanted->state == SLOT_RUNNING)
      g_cond_wait(&encode->done, &encode->mutex);
    done = wanted->state == SLOT_DONE;
    g_mutex_unlock(&encode->mutex);
    if (done)
      return 0;
    if (dg_permits_take(encode->permits, encode->call, DG_PERMIT_WAIT_PUT_MS, err) < 0)
      return -1;
    slot = claim_queued(encode);
    if (slot)
      run_slot(encode, slot);
    dg_permits_give(encode->permits);
  }
}

/* Takes the result of the oldest window into the spool and frees its slot. */
static int take_output(struct dg_encode *encode, struct dg_error *err)
{
  struct slot *slot = slot_of(encode, encode->next_output);
  int rc = 0;

  if (await_window(encode, slot, err) < 0)
    return -1;
  if (slot->rc < 0) {
    *err = slot->error;
    rc = -1;
  } else {
    rc = dg_spool_append(encode->spool, slot->output, slot->output_len, err);
    dg_codec_encode_release(encode->codec, encode->encoder, slot->number);
  }
  encode->encoded_bytes += slot->target_len;
  encode->buffers[encode->buffer_count++] = g_steal_pointer(&slot->target);
  set_state(encode, slot, SLOT_FREE);
  encode->next_output++;
  return rc;
}

static bool is_done(struct dg_encode *encode, const struct slot *slot)
{
  bool done;

  g_mutex_lock(&encode->mutex);
  done = slot->state == SLOT_DONE;
  g_mutex_unlock(&encode->mutex);
  return done;
}

static bool may_judge(const struct dg_encode *encode)
{
  uint64_t judge_at = MIN(encode->target_size / JUDGE_SHARE, JUDGE_MAX_BYTES);

  return encode->next_output >= JUDGE_WINDOWS && encode->encoded_bytes >= judge_at;
}

static bool is_hopeless(const struct dg_encode *encode)
{
  double delta = (double)dg_spool_size(encode->spool);

  if (delta >= encode->max_ratio * (double)encode->target_size)
    return true;
  return may_judge(encode) && delta >= HOPELESS_RATIO * (double)encode->encoded_bytes;
}

/* Until the verdict, windows ahead of it are likely to be encoded for nothing. */
static uint64_t windows_ahead(const struct dg_encode *encode)
{
  return may_judge(encode) ? SLOT_COUNT : SLOT_COUNT / 2;
}

static int queue_window(struct dg_encode *encode, struct dg_error *err)
{
  struct slot *slot = slot_of(encode, encode->next_number);

  set_state(encode, slot, SLOT_QUEUED);
  encode->next_number++;
  if (!encode->pool) {
    while (encode->next_output < encode->next_number)
      if (take_output(encode, err) < 0)
        return -1;
    return 0;
  }
  /* The last window comes right before finish(), which encodes it itself. */
  if (encode->next_number * encode->window_size < encode->target_size)
    pool_push(encode->pool, encode);
  return 0;
}

static uint8_t *take_buffer(struct dg_encode *encode)
{
  return encode->buffer_count ? encode->buffers[--encode->buffer_count]
                              : g_malloc(encode->window_size);
}

int dg_encode_feed(struct dg_encode *encode, const void *data, size_t len, bool *ret_hopeless,
                   struct dg_error *err)
{
  const char *at = data;

  while (len) {
    struct slot *slot = slot_of(encode, encode->next_number);
    size_t step;

    if (encode->next_number - encode->next_output >= windows_ahead(encode)) {
      if (take_output(encode, err) < 0)
        return -1;
      continue;
    }
    if (slot->state == SLOT_FREE) {
      slot->number = encode->next_number;
      slot->target = take_buffer(encode);
      slot->target_len = 0;
      set_state(encode, slot, SLOT_FILLING);
    }
    step = MIN(len, encode->window_size - slot->target_len);
    memcpy(slot->target + slot->target_len, at, step);
    slot->target_len += step;
    at += step;
    len -= step;
    if (slot->target_len == encode->window_size && queue_window(encode, err) < 0)
      return -1;
  }
  while (encode->next_output < encode->next_number &&
         is_done(encode, slot_of(encode, encode->next_output)))
    if (take_output(encode, err) < 0)
      return -1;
  *ret_hopeless = is_hopeless(encode);
  return 0;
}

int dg_encode_finish(struct dg_encode *encode, const uint8_t target_sha256[32],
                     struct dg_encode_result *ret_result, struct dg_error *err)
{
  struct dg_encode_summary summary = {.struct_size = sizeof summary};

  if (slot_of(encode, encode->next_number)->state == SLOT_FILLING && queue_window(encode, err) < 0)
    return -1;
  while (encode->next_output < encode->next_number)
    if (take_output(encode, err) < 0)
      return -1;
  if (dg_codec_encode_finish(encode->codec, encode->encoder, target_sha256, &summary,
                             &encode->header, err) < 0)
    return -1;
  if (summary.windows_size != dg_spool_size(encode->spool))
    return dg_fail(err, DG_E_INTERNAL, "the codec counted other windows than it gave");
  encode->header_len = (size_t)summary.header_size;
  ret_result->delta_size = summary.header_size + summary.windows_size;
  dg_sha256(encode->header, encode->header_len, ret_result->header_sha256);
  return 0;
}

int dg_encode_copy(struct dg_encode *encode, struct dg_writer *writer, struct dg_error *err)
{
  if (dg_writer_write(writer, encode->header, encode->header_len, err) < 0)
    return -1;
  return dg_spool_copy(encode->spool, writer, err);
}

void dg_encode_close(struct dg_encode *encode)
{
  if (!encode)
    return;
  g_mutex_lock(&encode->mutex);
  encode->closed = true;
  for (uint32_t i = 0; i < SLOT_COUNT; i++)
    while (encode->slots[i].state == SLOT_RUNNING)
      g_cond_wait(&encode->done, &encode->mutex);
  g_mutex_unlock(&encode->mutex);
  dg_codec_encode_close(encode->codec, encode->encoder);
  for (uint32_t i = 0; i < SLOT_COUNT; i++)
    g_free(encode->slots[i].target);
  while (encode->buffer_count)
    g_free(encode->buffers[--encode->buffer_count]);
  dg_spool_free(encode->spool);
  dg_ref_close(encode->ref);
  encode_unref(encode);
}
