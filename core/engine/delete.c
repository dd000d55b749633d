/* SPDX-License-Identifier: Apache-2.0 */
/* DELETE, and the end of a deltaspace or a bucket. */
#include "config.h"

#include "core/engine/internal.h"

#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "core/engine/leases.h"
#include "core/engine/partnotes.h"
#include "core/engine/quota.h"
#include "core/engine/space.h"
#include "core/engine/spool.h"
#include "core/engine/upload.h"

#include "common/banned.h"

#define LOCK_WAIT_MS 5000u /* commits queue behind a waiting deletion */
#define LEASE_POLL_MS 50

static int remove_variant(const struct dg_route *route, const struct dg_call *call,
                          struct dg_slice key, const struct dg_meta *meta, struct dg_error *err)
{
  struct dg_item item;
  int number;

  if (!meta)
    return 0;
  number = dg_fault("engine.delete.variant");
  if (number)
    return dg_fail(err, dg_errno_code(number), "injected at engine.delete.variant");
  item = dg_route_item(route, key, meta->variant);
  if (dg_backend_remove(route->backend, call, &item, err) < 0 && err->code != DG_E_NO_SUCH_KEY)
    return -1;
  return 0;
}

static int32_t note_object(void *receiver, const struct dg_list_row *row)
{
  bool *found = receiver;

  if (row->type == DG_ROW_OBJECT)
    *found = true;
  return *found;
}

/* A reference that no object needs; *ret_unused false: there is none. */
static int find_unused(const struct dg_route *route, const struct dg_call *call,
                       struct dg_slice prefix, struct dg_meta *reference, bool *ret_unused,
                       struct dg_error *err)
{
  struct dg_item item = dg_route_item(route, prefix, DG_VARIANT_REFERENCE);
  struct dg_list_request request = {
    .struct_size = sizeof request,
    .flags = DG_LIST_NO_META,
    .bucket = item.bucket,
    .prefix = prefix,
    .delimiter = DG_SLICE("/"),
    .max_rows = 1,
  };
  bool in_use = false;

  *ret_unused = false;
  if (dg_backend_head(route->backend, call, &item, reference, err) < 0)
    return err->code == DG_E_NO_SUCH_KEY || err->code == DG_E_NO_SUCH_BUCKET ? 0 : -1;
  if (dg_backend_list(route->backend, call, &request, note_object, &in_use, err) < 0)
    return -1;
  *ret_unused = !in_use;
  return 0;
}

static void report_left(struct dg_engine *engine, const struct dg_route *route,
                        struct dg_slice prefix, const struct dg_error *err)
{
  dg_log_warn(engine->log, "engine.reference_left", "bucket=%s deltaspace=%s cause=%s",
              DG_LOG_QUOTED(dg_slice_str(route->bucket)), DG_LOG_QUOTED(prefix),
              DG_LOG_QUOTED(dg_slice_str(err->detail)));
}

/* The last object of a deltaspace takes the reference with it. The object is gone
 * already: failing here only leaves the reference behind, for the next put to use
 * or, where others use the storage too, for whoever takes the lease over. */
int dg_reference_tidy(struct dg_engine *engine, const struct dg_route *route,
                      const struct dg_call *call, struct dg_slice prefix)
{
  struct dg_item item = dg_route_item(route, prefix, DG_VARIANT_REFERENCE);
  struct dg_meta *reference = dg_meta_new();
  bool unused = false;
  uint8_t sha256[32];
  struct dg_error err;
  int rc = find_unused(route, call, prefix, reference, &unused, &err), number;

  if (rc == 0 && unused) {
    number = dg_fault("engine.delete.reference");
    rc = number ? dg_fail(&err, dg_errno_code(number), "injected at engine.delete.reference")
                : dg_backend_remove(route->backend, call, &item, &err);
    if (rc == 0 && dg_hex_decode(reference->file_sha256, sha256, sizeof sha256))
      dg_refcache_forget(engine->refs, sha256);
  }
  if (rc < 0)
    report_left(engine, route, prefix, &err);
  dg_meta_unref(reference);
  return rc;
}

/* The same, by whoever has just removed an object and let go of its key. Whether the
 * reference is needed is seen without a lock: of several who remove the last ones, the
 * last to look sees that none is left. Only then is the deltaspace taken, and what
 * was seen is looked at again. */
static void tidy_behind(struct dg_engine *engine, const struct dg_route *route,
                        const struct dg_call *call, struct dg_slice prefix)
{
  struct dg_meta *reference = dg_meta_new();
  struct dg_space *space = NULL;
  bool unused = false;
  struct dg_error err;
  int rc = find_unused(route, call, prefix, reference, &unused, &err);

  dg_meta_unref(reference);
  if (rc == 0 && unused)
    rc = dg_space_enter(engine, call, route, prefix, &space, &err);
  if (rc < 0)
    report_left(engine, route, prefix, &err);
  if (space)
    (void)dg_reference_tidy(engine, route, call, prefix);
  dg_space_leave(space);
}

static bool is_of(const struct dg_meta *meta, uint32_t variant)
{
  return meta && meta->variant == variant;
}

/* What was not found may come after all: a storage elsewhere was told to store it, and
 * has not answered. Then it must not come behind the removal. *ret_came: it had. */
static int remove_unseen(struct dg_engine *engine, const struct dg_route *route,
                         const struct dg_call *call, struct dg_slice key,
                         const struct dg_found *found, bool *ret_came, struct dg_error *err)
{
  static const uint32_t variants[] = {DG_VARIANT_PASSTHROUGH, DG_VARIANT_DELTA};
  int rc = 0;

  if (dg_backend_has(route->backend, DG_CAP_LOCAL_FILE))
    return 0;
  dg_metacache_write_begin(engine->metacache, dg_slice_str(route->bucket), key);
  for (size_t i = 0; rc == 0 && i < G_N_ELEMENTS(variants); i++) {
    struct dg_item item = dg_route_item(route, key, variants[i]);

    item.flags = DG_ITEM_UNSEEN;
    if (is_of(found->meta, variants[i]) || is_of(found->hidden, variants[i]))
      continue;
    if (dg_backend_remove(route->backend, call, &item, err) == 0)
      *ret_came = true;
    else if (err->code != DG_E_NO_SUCH_KEY && err->code != DG_E_NO_SUCH_BUCKET)
      rc = -1;
  }
  dg_metacache_write_end(engine->metacache, dg_slice_str(route->bucket), key);
  return rc;
}

static int remove_object(struct dg_engine *engine, const struct dg_route *route,
                         const struct dg_call *call, struct dg_slice bucket, struct dg_slice key,
                         const struct dg_found *found, struct dg_error *err)
{
  struct dg_quota_change change;
  struct dg_note_change notes;
  int rc;

  if (dg_quota_begin(engine, call, route, bucket, key, found, (struct dg_use){0}, &change, err) < 0)
    return -1;
  dg_part_notes_begin(engine, call, route, bucket, key, found, /* new_id= */ NULL, &notes);
  dg_metacache_write_begin(engine->metacache, dg_slice_str(route->bucket), key);
  /* The older one first: a crash in between must not bring it back. */
  rc = remove_variant(route, call, key, found->hidden, err);
  if (rc == 0)
    rc = remove_variant(route, call, key, found->meta, err);
  dg_quota_end(&change, rc == 0);
  dg_metacache_write_end(engine->metacache, dg_slice_str(route->bucket), key);
  dg_part_notes_end(&notes, /* now= */ NULL, rc == 0);
  return rc;
}

/* *ret_behind: something was removed, and the reference is still to be looked at. */
static int delete_locked(struct dg_engine *engine, const struct dg_route *route,
                         const struct dg_call *call, struct dg_slice bucket, struct dg_slice key,
                         dg_write_check_fn check, void *receiver, struct dg_space *space,
                         bool *ret_behind, struct dg_error *err)
{
  struct dg_found found = {0};
  struct dg_object_info info = {0};
  bool came = false;
  int rc = 0;

  if (dg_object_find(route, call, key, &found, err) < 0)
    return -1;
  if (check) {
    if (found.meta)
      dg_object_info_fill(&info, found.meta);
    rc = check(receiver, found.meta ? &info : NULL, err);
    dg_object_info_clear(&info);
  }
  if (rc == 0)
    rc = remove_unseen(engine, route, call, key, &found, &came, err);
  if (rc == 0 && (found.meta || came)) {
    if (found.meta)
      rc = remove_object(engine, route, call, bucket, key, &found, err);
    *ret_behind = rc == 0 && !dg_space_is_alone(space);
    if (rc < 0 || (dg_space_is_alone(space) &&
                   dg_reference_tidy(engine, route, call, dg_key_deltaspace(key)) < 0))
      dg_space_soil(space);
  } else if (rc == 0) {
    rc = dg_backend_bucket_head(route->backend, call, dg_slice_str(route->bucket), err);
  }
  dg_found_clear(&found);
  return rc;
}

int dg_engine_delete(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice key, dg_write_check_fn check, void *receiver,
                     struct dg_error *err)
{
  struct dg_space *space = NULL;
  struct dg_route route;
  bool behind = false;
  int rc;

  if (dg_route_open(engine, call, bucket, &route, err) < 0)
    return -1;
  rc = dg_space_enter_key(engine, call, &route, key, &space, err);
  if (rc == 0)
    rc = delete_locked(engine, &route, call, bucket, key, check, receiver, space, &behind, err);
  dg_space_leave(space);
  if (behind)
    tidy_behind(engine, &route, call, dg_key_deltaspace(key));
  dg_route_clear(&route);
  return rc;
}

/* ---- A bucket, while other servers may write to it --------------------------------- */

struct leftovers {
  bool object;           /* something that is not left over */
  uint32_t other_leases; /* of servers that are at work */
  GHashTable *prefixes;  /* char *: deltaspaces with a reference, or a lapsed lease */
};

static int32_t note_leftover(void *receiver, const struct dg_list_row *row)
{
  struct leftovers *left = receiver;

  if (row->type == DG_ROW_OBJECT && row->meta && row->meta->variant == DG_VARIANT_REFERENCE)
    (void)g_hash_table_add(left->prefixes, dg_slice_dup(row->key));
  else if (row->type == DG_ROW_OBJECT)
    left->object = true;
  return left->object;
}

static int32_t note_lease(void *receiver, const struct dg_lease_row *row)
{
  struct leftovers *left = receiver;

  if (row->flags & DG_LEASE_LAPSED)
    (void)g_hash_table_add(left->prefixes, dg_slice_dup(row->prefix));
  else
    left->other_leases++;
  return 0;
}

static int find_leftovers(const struct dg_call *call, const struct dg_route *route,
                          struct leftovers *left, struct dg_error *err)
{
  struct dg_list_request request = {
    .struct_size = sizeof request,
    .flags = DG_LIST_REFERENCES,
    .bucket = dg_slice_str(route->bucket),
  };

  if (dg_backend_list(route->backend, call, &request, note_leftover, left, err) < 0 ||
      dg_backend_lease_list(route->backend, call, request.bucket, note_lease, left, err) < 0)
    return -1;
  return left->object
           ? dg_fail(err, DG_E_BUCKET_NOT_EMPTY, "bucket '%s' holds objects", route->bucket)
           : 0;
}

/* The bucket's lock keeps this server's workers away, so the lease is enough. */
static int tidy_under_lease(struct dg_engine *engine, const struct dg_call *call,
                            const struct dg_route *route, struct dg_slice prefix,
                            struct dg_error *err)
{
  struct dg_lease_hold *hold;
  bool lapsed;
  int rc;

  if (dg_lease_enter(engine->leases, call, route, prefix, dg_time_mono_ms(), &hold, &lapsed,
                     err) < 0)
    return -1;
  rc = dg_reference_tidy(engine, route, call, prefix);
  dg_lease_leave(hold, rc < 0 ? DG_LEASE_KEEP : DG_LEASE_GIVE);
  return rc < 0 ? dg_fail(err, DG_E_UNAVAILABLE, "a reference could not be removed") : 0;
}

static int tidy_all(struct dg_engine *engine, const struct dg_call *call,
                    const struct dg_route *route, const struct leftovers *left,
                    struct dg_error *err)
{
  GHashTableIter iter;
  gpointer prefix;
  int rc = 0;

  g_hash_table_iter_init(&iter, left->prefixes);
  while (rc == 0 && g_hash_table_iter_next(&iter, &prefix, NULL))
    rc = tidy_under_lease(engine, call, route, dg_slice_str(prefix), err);
  return rc;
}

/* Leases are objects too: those of servers that have just finished go in a moment. */
static int shared_bucket_delete(struct dg_engine *engine, const struct dg_call *call,
                                const struct dg_route *route, struct dg_error *err)
{
  uint64_t until = dg_time_mono_ms() + LOCK_WAIT_MS;

  for (;;) {
    struct leftovers left = {0};
    int rc;

    dg_leases_flush(engine->leases, route);
    if (dg_backend_bucket_delete(route->backend, call, dg_slice_str(route->bucket), err) == 0)
      return 0;
    if (err->code != DG_E_BUCKET_NOT_EMPTY || dg_time_mono_ms() > until)
      return -1;
    left.prefixes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    rc = find_leftovers(call, route, &left, err);
    if (rc == 0)
      rc = tidy_all(engine, call, route, &left, err);
    g_hash_table_unref(left.prefixes);
    if (rc == 0)
      rc = dg_call_check(call, err);
    if (rc < 0)
      return -1;
    if (left.other_leases)
      g_usleep(LEASE_POLL_MS * 1000);
  }
}

static int backend_bucket_delete(struct dg_engine *engine, const struct dg_call *call,
                                 const struct dg_route *route, struct dg_error *err)
{
  return dg_backend_is_shared(route->backend)
           ? shared_bucket_delete(engine, call, route, err)
           : dg_backend_bucket_delete(route->backend, call, dg_slice_str(route->bucket), err);
}

static int bucket_delete_locked(struct dg_engine *engine, const struct dg_call *call,
                                const struct dg_route *route, struct dg_slice bucket,
                                struct dg_error *err)
{
  bool uploads = false;
  int rc;

  if (dg_upload_drop_begin(engine, call, route, bucket, &uploads, err) < 0)
    return -1;
  rc = backend_bucket_delete(engine, call, route, err);
  dg_route_forget(engine, dg_slice_str(route->bucket));
  dg_health_buckets_forget(route->health);
  if (uploads)
    dg_upload_drop_end(engine, call, route, bucket, rc == 0 ? DG_E_OK : err->code);
  /* References went with it, and perhaps objects that others put there. */
  if (rc == 0) {
    dg_metacache_clear(engine->metacache);
    dg_quota_reset(engine, route, bucket);
  }
  return rc;
}

static int32_t stop_at_object(void *receiver, const struct dg_list_row *row)
{
  bool *found = receiver;

  *found = *found || row->type == DG_ROW_OBJECT;
  return *found;
}

/* Whoever waits for the exclusive lock keeps later commits waiting, so a bucket
 * that plainly holds something is refused without it. */
static int check_looks_empty(const struct dg_call *call, const struct dg_route *route,
                             struct dg_error *err)
{
  struct dg_list_request request = {
    .struct_size = sizeof request,
    .flags = DG_LIST_NO_META,
    .bucket = dg_slice_str(route->bucket),
  };
  bool found = false;

  if (dg_backend_list(route->backend, call, &request, stop_at_object, &found, err) < 0)
    return -1;
  return found ? dg_fail(err, DG_E_BUCKET_NOT_EMPTY, "bucket '%s' holds objects", route->bucket)
               : 0;
}

/* The call, but with a short deadline for the lock. */
static struct dg_call lock_call(const struct dg_call *call)
{
  struct dg_call result = *call;
  uint64_t limit = dg_time_mono_ms() + LOCK_WAIT_MS;

  if (!result.deadline_mono_ms || result.deadline_mono_ms > limit)
    result.deadline_mono_ms = limit;
  return result;
}

int dg_engine_bucket_delete(struct dg_engine *engine, const struct dg_call *call,
                            struct dg_slice bucket, struct dg_error *err)
{
  struct dg_bucket_lock *lock = NULL;
  struct dg_route route;
  struct dg_call waiting;
  int rc;

  if (dg_route_open(engine, call, bucket, &route, err) < 0)
    return -1;
  rc = check_looks_empty(call, &route, err);
  waiting = lock_call(call);
  if (rc == 0)
    rc = dg_bucket_lock_take(engine->locks, &waiting, dg_slice_str(route.bucket),
                             DG_LOCK_EXCLUSIVE, &lock, err);
  if (rc == 0)
    rc = bucket_delete_locked(engine, call, &route, bucket, err);
  dg_bucket_lock_release(lock);
  dg_route_clear(&route);
  return rc;
}
