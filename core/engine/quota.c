/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/quota-internal.h"

#include <math.h>
#include <unistd.h>

#include "common/clock.h"

#include "common/banned.h"

/* A bucket that is new to its quota is mostly counted at once; a large one is not
 * waited for, lest all workers wait. */
#define WAIT_MS 2000u
#define MAX_WAITERS 4u

/* ---- Life ------------------------------------------------------------------------------- */

static bool any_quota(const struct dg_snapshot *snapshot)
{
  GHashTableIter iter;
  gpointer policy;

  if (!snapshot->buckets)
    return false;
  g_hash_table_iter_init(&iter, snapshot->buckets);
  while (g_hash_table_iter_next(&iter, NULL, &policy))
    if (dg_quota_of(policy))
      return true;
  return false;
}

struct dg_quota *dg_quota_new(struct dg_engine *engine)
{
  struct dg_view *view = dg_engine_view(engine);
  struct dg_quota *quota = g_new0(struct dg_quota, 1);
  bool used = any_quota(view->snapshot);

  quota->engine = engine;
  quota->lock_fd = -1;
  g_mutex_init(&quota->mutex);
  g_cond_init(&quota->wake);
  g_cond_init(&quota->done);
  quota->books = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                       (GDestroyNotify)(void (*)(void))dg_quota_book_unref);
  dg_quota_dir_open(quota, used);
  quota->first_view = view->serial;
  quota->synced = !used;
  dg_view_unref(view);
  return quota;
}

void dg_quota_start(struct dg_quota *quota)
{
  if (g_atomic_int_get(&quota->synced))
    return;
  g_mutex_lock(&quota->mutex);
  dg_quota_poke_locked(quota);
  g_mutex_unlock(&quota->mutex);
}

void dg_quota_reread(struct dg_quota *quota)
{
  struct dg_view *view = dg_engine_view(quota->engine);

  if (any_quota(view->snapshot) || g_atomic_int_get(&quota->book_count) > 0) {
    g_mutex_lock(&quota->mutex);
    dg_quota_poke_locked(quota);
    g_mutex_unlock(&quota->mutex);
  }
  dg_view_unref(view);
}

void dg_quota_free(struct dg_quota *quota)
{
  GThread *thread;

  if (!quota)
    return;
  g_atomic_int_set(&quota->cancelled, 1);
  g_mutex_lock(&quota->mutex);
  quota->stopping = true;
  thread = g_steal_pointer(&quota->thread);
  g_cond_signal(&quota->wake);
  g_mutex_unlock(&quota->mutex);
  if (thread)
    (void)g_thread_join(thread);
  g_hash_table_unref(quota->books);
  if (quota->lock_fd >= 0)
    (void)close(quota->lock_fd);
  g_free(quota->dir);
  g_cond_clear(&quota->wake);
  g_cond_clear(&quota->done);
  g_mutex_clear(&quota->mutex);
  g_free(quota);
}

/* ---- Limits ------------------------------------------------------------------------------- */

struct dg_use dg_quota_use(const struct dg_meta *meta)
{
  return meta && !(meta->flags & DG_META_CORRUPT) ? dg_quota_object(meta->file_size)
                                                  : (struct dg_use){0};
}

struct limit {
  char name[DG_BUCKET_NAME_MAX + 1];
  struct dg_use_limit use;
};

/* NULL: this name has none. */
static const struct dg_use_limit *limit_of(const struct dg_route *route, struct dg_slice bucket,
                                           struct limit *limit)
{
  if (!dg_quota_of(route->policy))
    return NULL;
  (void)g_snprintf(limit->name, sizeof limit->name, "%.*s", DG_SLICE_ARG(bucket));
  limit->use = (struct dg_use_limit){
    .bucket = limit->name,
    .most = {.objects = route->policy->quota_objects, .bytes = route->policy->quota_bytes}};
  return &limit->use;
}

/* Says so once, where the request ends by it. Returns -1. */
static int refuse(struct dg_engine *engine, struct dg_slice bucket, struct dg_slice key,
                  const struct dg_use_limit *limit, const struct dg_error *err)
{
  if (err->code == DG_E_QUOTA) {
    dg_log_info(engine->log, "quota.refused", "bucket=%s key=%s cause=%s", DG_LOG_QUOTED(bucket),
                DG_LOG_QUOTED(key), DG_LOG_QUOTED(dg_slice_str(err->detail)));
    dg_metrics_add(engine->metrics, DG_METRIC_QUOTA_REFUSED_TOTAL, limit ? limit->bucket : NULL,
                   NULL, NULL, 1);
  }
  return -1;
}

/* ---- Before the body ----------------------------------------------------------------------- */

static bool is_settled(const struct dg_quota_book *book, bool *ret_known)
{
  struct dg_ledger_state state;

  dg_ledger_look(book->ledger, &state);
  *ret_known = state.known;
  return state.known && state.doubt_count == 0;
}

/* Until the thread has done what it can for this book. True: the bucket is not
 * there, which is for the caller's next step to say. */
static bool wait_for_thread(struct dg_quota *quota, struct dg_quota_book *book)
{
  gint64 until = g_get_monotonic_time() + WAIT_MS * G_GINT64_CONSTANT(1000);
  uint64_t rounds;
  bool known, absent;

  g_mutex_lock(&quota->mutex);
  rounds = book->rounds;
  book->retry_mono_ms = 0; /* look now */
  if (!is_settled(book, &known)) {
    book->wanted = book->wanted || !known;
    dg_quota_poke_locked(quota);
  }
  if (quota->waiter_count < MAX_WAITERS) {
    quota->waiter_count++;
    while (!is_settled(book, &known) && book->rounds == rounds && !quota->stopping &&
           g_cond_wait_until(&quota->done, &quota->mutex, until))
      ;
    quota->waiter_count--;
  }
  absent = !known && book->rounds != rounds && book->absent;
  g_mutex_unlock(&quota->mutex);
  return absent;
}

/* With nothing there it would be refused: is there something that it replaces? */
static int check_over(struct dg_quota_book *book, const struct dg_call *call,
                      const struct dg_route *route, struct dg_slice key, struct dg_use after,
                      const struct dg_use_limit *limit, struct dg_error *err)
{
  struct dg_found found = {0};
  int rc;

  if (dg_ledger_check(book->ledger, (struct dg_use){0}, after, limit, err) == 0)
    return 0;
  if (dg_object_find(route, call, key, &found, err) < 0)
    return -1;
  rc = dg_ledger_check(book->ledger, dg_quota_use(found.meta), after, limit, err);
  dg_found_clear(&found);
  return rc;
}

int dg_quota_admit(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_route *route, struct dg_slice bucket, struct dg_slice key,
                   uint64_t size_bytes, struct dg_error *err)
{
  struct dg_use after = dg_quota_object(size_bytes == DG_TO_END ? 0 : size_bytes);
  struct limit limit;
  const struct dg_use_limit *use = limit_of(route, bucket, &limit);
  struct dg_quota_book *book;
  int rc;

  if (!use)
    return 0;
  book = dg_quota_book_find(engine->quota, route, bucket);
  rc = check_over(book, call, route, key, after, use, err);
  if (rc < 0 && err->code == DG_E_SLOW_DOWN)
    rc = wait_for_thread(engine->quota, book)
           ? 0
           : check_over(book, call, route, key, after, use, err);
  dg_quota_book_unref(book);
  return rc < 0 ? refuse(engine, bucket, key, use, err) : 0;
}

/* ---- Around the change ------------------------------------------------------------------------ */

int dg_quota_begin(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_route *route, struct dg_slice bucket, struct dg_slice key,
                   const struct dg_found *found, struct dg_use after,
                   struct dg_quota_change *ret_change, struct dg_error *err)
{
  struct dg_quota_book *book = dg_quota_book_find(engine->quota, route, bucket);
  struct dg_use before = dg_quota_use(found->meta);
  struct limit limit;
  const struct dg_use_limit *use;
  uint32_t number;

  *ret_change = (struct dg_quota_change){0};
  if (!book)
    return 0;
  use = limit_of(route, bucket, &limit);
  if (dg_ledger_begin(book->ledger, call, key, before, after, use, &number, err) < 0) {
    dg_quota_book_unref(book);
    return refuse(engine, bucket, key, use, err);
  }
  *ret_change = (struct dg_quota_change){.book = book,
                                         .engine = engine,
                                         .call = call,
                                         .route = route,
                                         .key = key,
                                         .after = after,
                                         .number = number};
  return 0;
}

/* Nobody could see how it ended: the thread looks again. */
static void leave_in_doubt(struct dg_quota_change *change)
{
  struct dg_quota *quota = change->engine->quota;

  dg_ledger_end(change->book->ledger, change->number, NULL);
  g_mutex_lock(&quota->mutex);
  dg_quota_poke_locked(quota);
  g_mutex_unlock(&quota->mutex);
}

void dg_quota_end(struct dg_quota_change *change, bool done)
{
  struct dg_found found = {0};
  struct dg_error err;

  if (!change->book)
    return;
  if (done) {
    dg_ledger_end(change->book->ledger, change->number, &change->after);
  } else if (dg_object_find(change->route, change->call, change->key, &found, &err) == 0) {
    struct dg_use now = dg_quota_use(found.meta);

    dg_ledger_end(change->book->ledger, change->number, &now);
  } else {
    leave_in_doubt(change);
  }
  dg_found_clear(&found);
  dg_quota_book_unref(g_steal_pointer(&change->book));
}

void dg_quota_reset(struct dg_engine *engine, const struct dg_route *route, struct dg_slice bucket)
{
  struct dg_quota *quota = engine->quota;
  struct dg_quota_book *book = dg_quota_book_find(quota, route, bucket);

  if (!book)
    return;
  g_mutex_lock(&quota->mutex);
  dg_quota_book_reset_locked(quota, book);
  g_mutex_unlock(&quota->mutex);
  dg_quota_book_unref(book);
}

/* ---- Figures ------------------------------------------------------------------------------------ */

void dg_quota_gauges_unset(struct dg_metrics *metrics, const char *name)
{
  static const enum dg_metric gauges[] = {DG_METRIC_BUCKET_OBJECTS, DG_METRIC_BUCKET_LOGICAL_BYTES,
                                          DG_METRIC_BUCKET_QUOTA_OBJECTS,
                                          DG_METRIC_BUCKET_QUOTA_BYTES};

  for (size_t i = 0; i < G_N_ELEMENTS(gauges); i++)
    dg_metrics_set(metrics, gauges[i], name, NULL, NAN);
}

static double shown(uint64_t limit)
{
  return limit == DG_QUOTA_NONE ? NAN : (double)limit;
}

static void set_gauges(struct dg_metrics *metrics, const char *name,
                       const struct dg_bucket_config *policy, const struct dg_ledger_state *state)
{
  if (!dg_quota_of(policy)) {
    dg_quota_gauges_unset(metrics, name);
    return;
  }
  dg_metrics_set(metrics, DG_METRIC_BUCKET_OBJECTS, name, NULL,
                 state->known ? (double)state->use.objects : NAN);
  dg_metrics_set(metrics, DG_METRIC_BUCKET_LOGICAL_BYTES, name, NULL,
                 state->known ? (double)state->use.bytes : NAN);
  dg_metrics_set(metrics, DG_METRIC_BUCKET_QUOTA_OBJECTS, name, NULL,
                 shown(policy->quota_objects));
  dg_metrics_set(metrics, DG_METRIC_BUCKET_QUOTA_BYTES, name, NULL, shown(policy->quota_bytes));
}

void dg_engine_quota_gauges(struct dg_engine *engine)
{
  struct dg_quota *quota = engine->quota;
  struct dg_view *view = dg_engine_view(engine);
  GHashTableIter iter;
  gpointer value;

  g_mutex_lock(&quota->mutex);
  g_hash_table_iter_init(&iter, quota->books);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct dg_quota_book *book = value;
    struct dg_ledger_state state;

    dg_ledger_look(book->ledger, &state);
    for (guint i = 0; i < book->names->len; i++)
      set_gauges(engine->metrics, book->names->pdata[i],
                 dg_snapshot_bucket(view->snapshot, dg_slice_str(book->names->pdata[i])), &state);
  }
  g_mutex_unlock(&quota->mutex);
  dg_view_unref(view);
}
