/* SPDX-License-Identifier: Apache-2.0 */
/* Listings as clients see them: one row per key, the younger variant. */
#include "config.h"

#include "core/engine/internal.h"

#include "core/engine/quota.h"
#include "core/engine/upload.h"

#include "common/banned.h"

/* An object may come as two adjacent rows (a crash left both variants), so each
 * object row waits until the next one shows another key. */
struct lister {
  const struct dg_listing_request *request;
  int (*row)(void *receiver, const struct dg_listing_row *row);
  void *receiver;
  GString *key; /* of the waiting object */
  struct dg_meta *waiting;
  uint32_t row_count;
  bool truncated, stopped;
};

/* Non-zero: no more. */
static int32_t emit(struct lister *lister, const struct dg_listing_row *row)
{
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

static int32_t emit_waiting(struct lister *lister)
{
  struct dg_object_info info;
  struct dg_listing_row row = {.info = &info};
  int32_t stop = 0;

  if (!lister->waiting || lister->stopped)
    return lister->stopped;
  if (!(lister->waiting->flags & DG_META_CORRUPT)) {
    dg_object_info_fill(&info, lister->waiting);
    row.key = dg_slice_of(lister->key->str, lister->key->len);
    stop = emit(lister, &row);
    dg_object_info_clear(&info);
  }
  g_clear_pointer(&lister->waiting, dg_meta_unref);
  return stop;
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
  if (emit_waiting(lister))
    return 1;
  if (backend_row->type == DG_ROW_PREFIX)
    return emit(lister, &(struct dg_listing_row){.is_prefix = true, .key = backend_row->key});
  g_string_truncate(lister->key, 0);
  dg_slice_append(lister->key, backend_row->key);
  lister->waiting = dg_meta_copy(backend_row->meta);
  return 0;
}

int dg_engine_list(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_listing_request *request,
                   int (*row)(void *receiver, const struct dg_listing_row *row), void *receiver,
                   bool *ret_truncated, struct dg_error *err)
{
  struct lister lister = {.request = request, .row = row, .receiver = receiver};
  struct dg_list_request backend_request = {
    .struct_size = sizeof backend_request,
    .prefix = request->prefix,
    .delimiter = request->delimiter,
    .start_after = request->start_after,
    /* One more tells whether the page is cut; and that may be a second variant. */
    .max_rows = (uint64_t)request->max_rows + 1,
  };
  struct dg_route route;
  int rc;

  if (dg_route_open(engine, call, request->bucket, &route, err) < 0)
    return -1;
  backend_request.bucket = dg_slice_str(route.bucket);
  if (request->max_rows == 0) {
    rc = dg_backend_bucket_head(route.backend, call, backend_request.bucket, err);
  } else {
    lister.key = g_string_new(NULL);
    rc = dg_backend_list(route.backend, call, &backend_request, take_row, &lister, err);
    if (rc == 0)
      (void)emit_waiting(&lister);
    dg_meta_unref(lister.waiting);
    g_string_free(lister.key, TRUE);
  }
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
