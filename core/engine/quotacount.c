/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that reads the configuration and says which books are due, and those
 * that count: one for each backend, so that one which is dead holds up no other. */
#include "config.h"

#include "core/engine/quota-internal.h"

#include "common/clock.h"
#include "common/fault.h"

#include "common/banned.h"

#define DEFAULT_AGAIN_MS (300 * UINT64_C(1000))
#define AGAIN_SHARE 20u     /* counting takes at most this part of the time */
#define RETRY_MS 5000u      /* after a failure */
#define ABSENT_MS 60000u    /* a bucket that is not there, until somebody asks */
#define SYNC_MS 60000u      /* a changed configuration is noticed at the latest */
#define LOCK_MS 5000u       /* others queue behind these threads' locks */

void dg_quota_poke_locked(struct dg_quota *quota)
{
  quota->poked = true;
  g_cond_signal(&quota->wake);
  if (!quota->thread && !quota->stopping)
    quota->thread = g_thread_new("quota", dg_quota_run, quota);
}

static struct dg_call own_call(const struct dg_quota *quota, uint32_t limit_ms)
{
  return (struct dg_call){.struct_size = sizeof(struct dg_call),
                          .deadline_mono_ms = limit_ms ? dg_time_mono_ms() + limit_ms : 0,
                          .cancelled = &quota->cancelled};
}

/* ---- What is in doubt ---------------------------------------------------------------------- */

static int resolve(struct dg_quota *quota, struct dg_quota_book *book,
                   const struct dg_route *route, struct dg_slice key, struct dg_error *err)
{
  struct dg_call call = own_call(quota, LOCK_MS);
  struct dg_space_lock *lock = NULL;
  struct dg_found found = {0};
  int rc;

  if (dg_space_lock_take(quota->engine->locks, &call, dg_slice_str(route->bucket),
                         dg_key_deltaspace(key), &lock, err) < 0)
    return -1;
  rc = dg_object_find(route, &call, key, &found, err);
  if (rc < 0 && err->code == DG_E_NO_SUCH_BUCKET)
    rc = 0; /* nothing is there */
  if (rc == 0)
    dg_ledger_resolve(book->ledger, key, dg_quota_use(found.meta));
  dg_space_lock_release(lock);
  dg_found_clear(&found);
  return rc;
}

/* True: nothing is in doubt any more. */
static bool resolve_all(struct dg_quota *quota, struct dg_quota_book *book,
                        const struct dg_route *route)
{
  uint32_t failed = 0;
  struct dg_error err = {0};
  GBytes *key;

  while (!g_atomic_int_get(&quota->cancelled) && (key = dg_ledger_doubt(book->ledger, failed))) {
    gsize len;
    const void *data = g_bytes_get_data(key, &len);

    if (resolve(quota, book, route, dg_slice_of(data, len), &err) < 0)
      failed++;
    g_bytes_unref(key);
  }
  if (failed > 0 && !g_atomic_int_get(&quota->cancelled))
    dg_log_warn(quota->engine->log, "quota.doubt", "bucket=%s objects=%u cause=%s",
                DG_LOG_QUOTED(dg_slice_str(book->place)), failed,
                DG_LOG_QUOTED(dg_slice_str(err.detail)));
  return failed == 0;
}

/* ---- A count ---------------------------------------------------------------------------------- */

/* An object may come as two rows, after a crash: each waits for the next. */
struct counter {
  struct dg_quota *quota;
  struct dg_ledger *ledger;
  const struct dg_view *view;
  GString *key;
  bool waiting;
  struct dg_meta meta; /* of the waiting row: age, variant and flags only */
  struct dg_use use;
  bool stopped;
};

static void count_waiting(struct counter *counter)
{
  if (counter->waiting &&
      !dg_ledger_count_row(counter->ledger,
                           dg_slice_of(counter->key->str, counter->key->len), counter->use))
    counter->stopped = true;
  counter->waiting = false;
}

static int32_t take_row(void *receiver, const struct dg_list_row *row)
{
  struct counter *counter = receiver;

  /* A replaced view is not kept for as long as a large bucket takes. */
  if (g_atomic_int_get(&counter->quota->cancelled) ||
      g_atomic_int_get(&counter->view->superseded))
    counter->stopped = true;
  if (row->type != DG_ROW_OBJECT || !row->meta || counter->stopped)
    return counter->stopped;
  if (counter->waiting &&
      dg_slice_equal(dg_slice_of(counter->key->str, counter->key->len), row->key)) {
    if (dg_object_younger(&counter->meta, row->meta) == &counter->meta)
      return 0;
  } else {
    count_waiting(counter);
    (void)dg_fault("engine.quota.row");
  }
  g_string_truncate(counter->key, 0);
  dg_slice_append(counter->key, row->key);
  counter->meta = (struct dg_meta){.created_at_s = row->meta->created_at_s,
                                   .created_at_ns = row->meta->created_at_ns,
                                   .variant = row->meta->variant};
  counter->use = dg_quota_use(row->meta);
  counter->waiting = true;
  return counter->stopped;
}

/* Changes that began before the book was there end before this returns. */
static int wait_for_others(struct dg_quota *quota, const struct dg_route *route,
                           struct dg_error *err)
{
  struct dg_call call = own_call(quota, LOCK_MS);
  struct dg_bucket_lock *lock = NULL;

  if (dg_bucket_lock_take(quota->engine->locks, &call, dg_slice_str(route->bucket),
                          DG_LOCK_EXCLUSIVE, &lock, err) < 0)
    return -1;
  dg_bucket_lock_release(lock);
  return 0;
}

static const char *tell(const struct dg_quota *quota, const struct dg_quota_book *book,
                        const struct dg_ledger_state *before, struct dg_use use)
{
  if (!before->known) {
    dg_log_info(quota->engine->log, "quota.counted",
                "bucket=%s objects=%" G_GUINT64_FORMAT " bytes=%" G_GUINT64_FORMAT,
                DG_LOG_QUOTED(dg_slice_str(book->place)), use.objects, use.bytes);
    return "first";
  }
  if (before->use.objects == use.objects && before->use.bytes == use.bytes)
    return "same";
  dg_log_info(quota->engine->log, "quota.corrected",
              "bucket=%s objects=%" G_GUINT64_FORMAT " bytes=%" G_GUINT64_FORMAT
              " were_objects=%" G_GUINT64_FORMAT " were_bytes=%" G_GUINT64_FORMAT,
              DG_LOG_QUOTED(dg_slice_str(book->place)), use.objects, use.bytes,
              before->use.objects, before->use.bytes);
  return "corrected";
}

static int count(struct dg_quota *quota, struct dg_quota_book *book, const struct dg_route *route,
                 struct dg_error *err)
{
  struct dg_list_request request = {.struct_size = sizeof request,
                                    .bucket = dg_slice_str(route->bucket)};
  struct counter counter = {.quota = quota, .ledger = book->ledger, .view = route->view};
  struct dg_call call = own_call(quota, 0);
  struct dg_ledger_state before;
  struct dg_use use;
  int rc;

  counter.key = g_string_new(NULL);
  dg_ledger_count_begin(book->ledger);
  rc = dg_backend_list(route->backend, &call, &request, take_row, &counter, err);
  if (rc == 0)
    count_waiting(&counter);
  g_string_free(counter.key, TRUE);
  if (rc < 0 || counter.stopped) {
    dg_ledger_count_drop(book->ledger);
    return rc < 0 ? -1 : dg_fail(err, DG_E_CANCELLED, "the count was stopped");
  }
  if (dg_ledger_count_end(book->ledger, &before, &use))
    dg_metrics_add(quota->engine->metrics, DG_METRIC_QUOTA_COUNTS_TOTAL,
                   tell(quota, book, &before, use), NULL, NULL, 1);
  return 0;
}

/* ---- The round ------------------------------------------------------------------------------------ */

static uint64_t again_ms(const struct dg_quota *quota)
{
  struct dg_view *view = dg_engine_view(quota->engine);
  uint64_t ms = view->snapshot->usage_cache_ttl_s * UINT64_C(1000);

  dg_view_unref(view);
  return ms ? ms : DEFAULT_AGAIN_MS;
}

/* The route by which the book was found, if it still leads there. */
static bool open_route(struct dg_quota *quota, struct dg_quota_book *book,
                       struct dg_route *ret_route)
{
  struct dg_call call = own_call(quota, 0);
  g_autofree char *name = NULL;
  g_autofree char *place = NULL;
  struct dg_error err;

  g_mutex_lock(&quota->mutex);
  if (book->names->len > 0)
    name = g_strdup(book->names->pdata[0]);
  g_mutex_unlock(&quota->mutex);
  if (!name || dg_route_open(quota->engine, &call, dg_slice_str(name), ret_route, &err) < 0)
    return false;
  place = g_strconcat(dg_backend_name(ret_route->backend), "/", ret_route->bucket, NULL);
  if (strcmp(place, book->place) == 0)
    return true;
  dg_route_clear(ret_route);
  return false;
}

static int attempt(struct dg_quota *quota, struct dg_quota_book *book,
                   const struct dg_route *route, bool fresh)
{
  struct dg_error err = {0};
  int rc = fresh ? wait_for_others(quota, route, &err) : 0;

  if (rc == 0)
    rc = count(quota, book, route, &err);
  if (rc == 0)
    return 0;
  if (err.code != DG_E_NO_SUCH_BUCKET && err.code != DG_E_CANCELLED) {
    dg_log_warn(quota->engine->log, "quota.count", "bucket=%s cause=%s",
                DG_LOG_QUOTED(dg_slice_str(book->place)),
                DG_LOG_QUOTED(dg_slice_str(err.detail)));
    dg_metrics_add(quota->engine->metrics, DG_METRIC_QUOTA_COUNTS_TOTAL, "failed", NULL, NULL, 1);
  }
  return err.code;
}

/* What a count that ended so means for the next. */
static void note_attempt(struct dg_quota *quota, struct dg_quota_book *book, int code,
                         uint64_t resets, uint64_t took_ms)
{
  uint64_t now = dg_time_mono_ms(), again = again_ms(quota);

  g_mutex_lock(&quota->mutex);
  if (book->resets != resets || code == DG_E_CANCELLED) {
    /* It says nothing of the bucket as it is now. */
    book->due_mono_ms = now;
  } else {
    book->absent = code == DG_E_NO_SUCH_BUCKET;
    if (code == 0)
      book->fresh = false;
    book->pause_ms = took_ms * AGAIN_SHARE;
    book->due_mono_ms = now + (code == 0         ? MAX(again, book->pause_ms)
                               : book->absent    ? MIN(again, ABSENT_MS)
                                                 : RETRY_MS);
  }
  g_mutex_unlock(&quota->mutex);
}

static void serve(struct dg_quota *quota, struct dg_quota_book *book)
{
  struct dg_ledger_state state;
  struct dg_route route;
  uint64_t started = dg_time_mono_ms(), resets;
  bool due, fresh, settled = false;
  int code = DG_E_UNAVAILABLE;

  if (g_atomic_int_get(&quota->cancelled))
    return;
  g_mutex_lock(&quota->mutex);
  due = book->wanted || book->due_mono_ms <= started;
  fresh = book->fresh;
  resets = book->resets;
  book->wanted = false;
  g_mutex_unlock(&quota->mutex);
  dg_ledger_look(book->ledger, &state);
  if (!due && state.doubt_count == 0)
    return;
  if (open_route(quota, book, &route)) {
    settled = resolve_all(quota, book, &route);
    started = dg_time_mono_ms();
    if (due)
      code = attempt(quota, book, &route, fresh);
    dg_route_clear(&route);
  }
  if (due)
    note_attempt(quota, book, code, resets, dg_time_mono_ms() - started);
  g_mutex_lock(&quota->mutex);
  book->retry_mono_ms = settled ? 0 : dg_time_mono_ms() + RETRY_MS;
  if (book->resets == resets)
    book->rounds++;
  g_cond_broadcast(&quota->done);
  g_mutex_unlock(&quota->mutex);
}

struct worker {
  struct dg_quota *quota;
  struct dg_quota_book *book; /* a reference */
  GThread *thread;
  bool done; /* guarded by the registry's mutex */
};

static gpointer work(gpointer receiver)
{
  struct worker *worker = receiver;
  struct dg_quota *quota = worker->quota;

  serve(quota, worker->book);
  g_mutex_lock(&quota->mutex);
  worker->done = true;
  worker->book->busy = false;
  dg_quota_poke_locked(quota); /* another book of its backend may wait */
  g_mutex_unlock(&quota->mutex);
  return NULL;
}

static void start_worker_locked(struct dg_quota *quota, struct dg_quota_book *book)
{
  struct worker *worker = g_new0(struct worker, 1);

  book->busy = true;
  worker->quota = quota;
  worker->book = dg_quota_book_ref(book);
  worker->thread = g_thread_new("count", work, worker);
  quota->workers = g_slist_prepend(quota->workers, worker);
}

/* Joins those that are done, or waits for all. */
static void reap_workers(struct dg_quota *quota, bool all)
{
  GSList *left = NULL, *gone = NULL;

  g_mutex_lock(&quota->mutex);
  for (GSList *link = quota->workers; link; link = link->next) {
    struct worker *worker = link->data;

    if (all || worker->done)
      gone = g_slist_prepend(gone, worker);
    else
      left = g_slist_prepend(left, worker);
  }
  g_slist_free(quota->workers);
  quota->workers = left;
  g_mutex_unlock(&quota->mutex);
  for (GSList *link = gone; link; link = link->next) {
    struct worker *worker = link->data;

    (void)g_thread_join(worker->thread);
    dg_quota_book_unref(worker->book);
    g_free(worker);
  }
  g_slist_free(gone);
}

static bool is_due_locked(const struct dg_quota_book *book, uint64_t now)
{
  struct dg_ledger_state state;

  if (book->busy)
    return false;
  if (book->wanted || book->due_mono_ms <= now)
    return true;
  dg_ledger_look(book->ledger, &state);
  return state.doubt_count > 0 && book->retry_mono_ms <= now;
}

static bool backend_is_busy_locked(const struct dg_quota *quota, const struct dg_backend *backend)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, quota->books);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct dg_quota_book *book = value;

    if (book->busy && book->backend == backend)
      return true;
  }
  return false;
}

static void serve_due(struct dg_quota *quota)
{
  uint64_t now = dg_time_mono_ms(), again = again_ms(quota);
  GHashTableIter iter;
  gpointer value;

  g_mutex_lock(&quota->mutex);
  g_hash_table_iter_init(&iter, quota->books);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct dg_quota_book *book = value;

    /* The configuration may ask for it sooner than it did. */
    book->due_mono_ms = MIN(book->due_mono_ms, now + MAX(again, book->pause_ms));
    if (!is_due_locked(book, now) || backend_is_busy_locked(quota, book->backend))
      continue;
    start_worker_locked(quota, book);
  }
  g_mutex_unlock(&quota->mutex);
}

/* Who is busy, or behind a busy one, pokes when it is done. */
static uint64_t next_due_locked(const struct dg_quota *quota, uint64_t now)
{
  uint64_t due = now + SYNC_MS;
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, quota->books);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct dg_quota_book *book = value;

    if (backend_is_busy_locked(quota, book->backend))
      continue;
    due = MIN(due, book->wanted ? now : book->due_mono_ms);
    if (book->retry_mono_ms)
      due = MIN(due, book->retry_mono_ms);
  }
  return due;
}

static void wait_for_work(struct dg_quota *quota)
{
  g_mutex_lock(&quota->mutex);
  for (;;) {
    uint64_t now = dg_time_mono_ms(), due = next_due_locked(quota, now);

    if (quota->stopping || quota->poked || due <= now)
      break;
    if (!g_cond_wait_until(&quota->wake, &quota->mutex,
                           g_get_monotonic_time() + (gint64)(due - now) * 1000))
      break;
  }
  quota->poked = false;
  g_mutex_unlock(&quota->mutex);
}

gpointer dg_quota_run(gpointer receiver)
{
  struct dg_quota *quota = receiver;

  while (!g_atomic_int_get(&quota->cancelled)) {
    struct dg_call call = own_call(quota, LOCK_MS);

    dg_quota_sync(quota, &call);
    serve_due(quota);
    wait_for_work(quota);
    reap_workers(quota, /* all= */ false);
  }
  reap_workers(quota, /* all= */ true);
  return NULL;
}
