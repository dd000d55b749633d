/* SPDX-License-Identifier: Apache-2.0 */
/* Listings as clients see them: one row per key, the younger variant. */
#include "config.h"

#include "core/engine/internal.h"

#include "core/engine/changeovers.h"
#include "core/engine/quota.h"
#include "core/engine/upload.h"

#include "common/banned.h"

/* An object may come as two adjacent rows (a crash left both variants), so each
 * object row waits until the next one shows another key. */
struct lister {
  const struct dg_call *call;
  const struct dg_route *route;
  const struct dg_listing_request *request;
  int (*row)(void *receiver, const struct dg_listing_row *row);
  void *receiver;
  GString *key; /* of the waiting object */
  struct dg_meta *waiting;
  GString *shown; /* the last row given, while nothing waits */
  struct dg_changeover_watch *watch;
  uint32_t row_count;
  bool truncated, stopped;
  struct dg_error *err;
  int rc;
};

/* Non-zero: no more. */
static int32_t emit(struct lister *lister, const struct dg_listing_row *row)
{
  g_string_truncate(lister->shown, 0);
  dg_slice_append(lister->shown, row->key);
  if (lister->row_count >= lister->request->max_rows) {
    lister->truncated = lister->request->max_rows > 0;
    lister->stopped = true;
    return 1;
  }
  lister->row_count++;
  if (lister->row(lister->receiver, row) != 0) {
    lister->truncated = true;
    lister->stopped = true;
  }
  return lister->stopped;
}

static int32_t emit_object(struct lister *lister, struct dg_slice key, struct dg_meta *meta)
{
  struct dg_object_info info;
  struct dg_listing_row row = {.key = key, .info = &info};
  int32_t stop;

  if (meta->flags & DG_META_CORRUPT)
    return 0;
  dg_object_info_fill(&info, meta);
  stop = emit(lister, &row);
  dg_object_info_clear(&info);
  return stop;
}

static int32_t emit_waiting(struct lister *lister)
{
  int32_t stop;

  if (!lister->waiting || lister->stopped)
    return lister->stopped;
  stop = emit_object(lister, dg_slice_of(lister->key->str, lister->key->len), lister->waiting);
  g_clear_pointer(&lister->waiting, dg_meta_unref);
  return stop;
}

/* ---- What changed over meanwhile --------------------------------------------------
 *
 * An object that the backend passed without a row, though it was never absent, was
 * noted before that row could be given whose key is greater. */

/* The row in which clients find a key: itself, or a common prefix. */
static struct dg_slice row_of(const struct dg_listing_request *request, struct dg_slice key,
                              bool *ret_is_prefix)
{
  struct dg_slice prefix = dg_slice_roll_up(key, request->prefix.len, request->delimiter);

  *ret_is_prefix = dg_slice_present(prefix);
  return *ret_is_prefix ? prefix : key;
}

/* By start_after (see dg_list_request), or by a row that was given. */
static bool is_passed(const struct lister *lister, struct dg_slice key, struct dg_slice row)
{
  struct dg_slice after = lister->request->start_after;
  struct dg_slice shown = dg_slice_of(lister->shown->str, lister->shown->len);
  bool whole_prefix = false;

  if (after.len && dg_slice_starts_with(after, lister->request->prefix))
    whole_prefix = row_of(lister->request, after, &whole_prefix).len == after.len && whole_prefix;
  return (after.len && dg_slice_compare(key, after) <= 0) ||
         (whole_prefix && dg_slice_starts_with(key, after)) ||
         (shown.len && dg_slice_compare(row, shown) <= 0);
}

/* Two looks: while it changes over once more, one may see neither variant. */
static void give_missed(struct lister *lister, struct dg_slice key, struct dg_slice row,
                        bool is_prefix)
{
  struct dg_found found = {0};

  if (dg_object_find(lister->route, lister->call, key, &found, lister->err) < 0 ||
      (!found.meta && dg_object_find(lister->route, lister->call, key, &found, lister->err) < 0)) {
    lister->rc = -1; /* to leave it out would make it look deleted */
    lister->stopped = true;
    return;
  }
  if (found.meta && is_prefix)
    (void)emit(lister, &(struct dg_listing_row){.is_prefix = true, .key = row});
  else if (found.meta)
    (void)emit_object(lister, key, found.meta);
  dg_found_clear(&found);
}

/* Rows below the next one of the backend; without one (NULL) all that are left. */
static int32_t give_changed_over(struct lister *lister, const struct dg_slice *next)
{
  g_autoptr(GString) noted = NULL;

  if (!lister->watch)
    return lister->stopped;
  noted = g_string_new(NULL);
  while (!lister->stopped && dg_changeover_first(lister->watch, noted)) {
    struct dg_slice key = dg_slice_of(noted->str, noted->len), row;
    bool is_prefix;

    row = row_of(lister->request, key, &is_prefix);
    if (next && dg_slice_compare(row, *next) > 0)
      break;
    if (!is_passed(lister, key, row) && !(next && dg_slice_equal(row, *next)))
      give_missed(lister, key, row, is_prefix);
    dg_changeover_drop(lister->watch, noted);
  }
  return lister->stopped;
}

static int32_t take_row(void *receiver, const struct dg_list_row *backend_row)
{
  struct lister *lister = receiver;
  struct dg_slice waiting_key = dg_slice_of(lister->key->str, lister->key->len);

  if (backend_row->type == DG_ROW_OBJECT && lister->waiting &&
      dg_slice_equal(waiting_key, backend_row->key)) {
    if (dg_object_younger(lister->waiting, backend_row->meta) == backend_row->meta) {
      dg_meta_unref(lister->waiting);
      lister->waiting = dg_meta_copy(backend_row->meta);
    }
    return 0;
  }
  if (emit_waiting(lister) || give_changed_over(lister, &backend_row->key))
    return 1;
  if (backend_row->type == DG_ROW_PREFIX)
    return emit(lister, &(struct dg_listing_row){.is_prefix = true, .key = backend_row->key});
  g_string_truncate(lister->key, 0);
  dg_slice_append(lister->key, backend_row->key);
  lister->waiting = dg_meta_copy(backend_row->meta);
  return 0;
}

static int list_rows(struct dg_engine *engine, struct lister *lister,
                     const struct dg_list_request *request, struct dg_error *err)
{
  int rc;

  lister->key = g_string_new(NULL);
  lister->shown = g_string_new(NULL);
  /* One that is called by one thread at a time changes nothing while it lists. */
  if (!dg_backend_is_serial(lister->route->backend))
    lister->watch = dg_changeover_watch_begin(engine->changeovers, request->bucket,
                                              request->prefix);
  rc = dg_backend_list(lister->route->backend, lister->call, request, take_row, lister, err);
  if (rc == 0 && emit_waiting(lister) == 0)
    (void)give_changed_over(lister, NULL);
  dg_changeover_watch_end(lister->watch);
  dg_meta_unref(lister->waiting);
  g_string_free(lister->shown, TRUE);
  g_string_free(lister->key, TRUE);
  return rc < 0 ? rc : lister->rc;
}

int dg_engine_list(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_listing_request *request,
                   int (*row)(void *receiver, const struct dg_listing_row *row), void *receiver,
                   bool *ret_truncated, struct dg_error *err)
{
  struct dg_route route;
  struct lister lister = {.call = call,
                          .route = &route,
                          .request = request,
                          .row = row,
                          .receiver = receiver,
                          .err = err};
  struct dg_list_request backend_request = {
    .struct_size = sizeof backend_request,
    .prefix = request->prefix,
    .delimiter = request->delimiter,
    .start_after = request->start_after,
    /* One more tells whether the page is cut; and that may be a second variant. */
    .max_rows = (uint64_t)request->max_rows + 1,
  };
  int rc;

  if (dg_route_open(engine, call, request->bucket, &route, err) < 0)
    return -1;
  backend_request.bucket = dg_slice_str(route.bucket);
  if (request->max_rows == 0)
    rc = dg_backend_bucket_head(route.backend, call, backend_request.bucket, err);
  else
    rc = list_rows(engine, &lister, &backend_request, err);
  dg_route_clear(&route);
  if (rc == 0)
    *ret_truncated = lister.truncated;
  return rc;
}

/* ---- Buckets ------------------------------------------------------------------- */

int dg_engine_bucket_create(struct dg_engine *engine, const struct dg_call *call,
                            struct dg_slice bucket, struct dg_error *err)
{
  struct dg_bucket_lock *lock = NULL;
  struct dg_route route;
  int rc;

  if (dg_route_open(engine, call, bucket, &route, err) < 0)
    return -1;
  /* Not before a deletion has dropped the old bucket's uploads. */
  rc = dg_upload_drop_settle(engine, call, &route, bucket, err);
  if (rc == 0)
    rc = dg_bucket_lock_take(engine->locks, call, dg_slice_str(route.bucket), DG_LOCK_SHARED,
                             &lock, err);
  if (rc == 0)
    rc = dg_backend_bucket_create(route.backend, call, dg_slice_str(route.bucket), err);
  if (rc == 0)
    dg_quota_reset(engine, &route, bucket);
  dg_route_forget(engine, dg_slice_str(route.bucket));
  dg_health_buckets_forget(route.health);
  dg_bucket_lock_release(lock);
  dg_route_clear(&route);
  return rc;
}

int dg_engine_bucket_head(struct dg_engine *engine, const struct dg_call *call,
                          struct dg_slice bucket, struct dg_error *err)
{
  struct dg_route route;
  int rc;

  if (dg_route_open(engine, call, bucket, &route, err) < 0)
    return -1;
  rc = dg_backend_bucket_head(route.backend, call, dg_slice_str(route.bucket), err);
  dg_route_clear(&route);
  return rc;
}
