/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads of a bucket that is deleted. None of them may ever complete into a
 * bucket made later under that name, and none of a later one may be dropped:
 *
 *   create      bucket lock shared:     the bucket is there -> the upload is saved
 *   complete    lock of its key (holds the bucket shared):
 *                                       the upload is not dropped -> commit
 *   delete      bucket lock exclusive:  note -> bucket deleted -> uploads dropped
 *                                       -> note removed
 *   new bucket  bucket lock shared:     so after the drop
 *
 * The note, STATE/uploads/drop-HEX.json, HEX the SHA-256 of the bucket's name,
 * is what a crash in between leaves, or a delete whose outcome is unknown. The
 * start, the sweep and the next creation of that bucket settle it: the uploads
 * are dropped when the backend says that there is no such bucket, and stay when
 * it has it or cannot say. */
#include "config.h"

#include "core/engine/upload.h"

#include <unistd.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "common/oserror.h"

#include "common/banned.h"

#define NOTE_PREFIX "drop-"
#define SETTLE_MS 5000u /* for a backend to say whether a bucket is there */

/* Two names of clients may mean one bucket: an alias, and the name itself. */
static bool same_bucket(struct dg_engine *engine, const struct dg_call *call,
                        const struct dg_route *route, struct dg_slice bucket,
                        const struct dg_upload *upload)
{
  struct dg_slice name = dg_slice_str(upload->bucket);
  const struct dg_bucket_config *policy;
  const char *real;
  struct dg_route other;
  struct dg_error err;
  bool same;

  if (dg_slice_equal(name, bucket))
    return true;
  policy = dg_snapshot_bucket(route->snapshot, name);
  real = policy->alias && policy->alias[0] ? policy->alias : upload->bucket;
  if (strcmp(real, route->bucket) != 0 || dg_route_open(engine, call, name, &other, &err) < 0)
    return false;
  /* By name: a reload between the two may have put another instance in its place. */
  same = strcmp(dg_backend_name(other.backend), dg_backend_name(route->backend)) == 0;
  dg_route_clear(&other);
  return same;
}

static char *note_name(struct dg_slice bucket)
{
  uint8_t sha256[32];
  char hex[65];

  dg_sha256(bucket.data, bucket.len, sha256);
  dg_hex_encode(sha256, sizeof sha256, hex);
  return g_strconcat(NOTE_PREFIX, hex, ".json", NULL);
}

static void remove_note(struct dg_engine *engine, struct dg_slice bucket)
{
  g_autofree char *name = note_name(bucket);
  g_autofree char *path = g_build_filename(engine->state_dir, name, NULL);

  (void)unlink(path);
}

static bool note_stands(struct dg_engine *engine, struct dg_slice bucket)
{
  g_autofree char *name = note_name(bucket);
  g_autofree char *path = g_build_filename(engine->state_dir, name, NULL);

  return access(path, F_OK) == 0;
}

int dg_upload_drop_begin(struct dg_engine *engine, const struct dg_call *call,
                         const struct dg_route *route, struct dg_slice bucket, bool *ret_any,
                         struct dg_error *err)
{
  g_autoptr(GPtrArray) all = dg_upload_table_all(engine->uploads);
  g_autofree char *name = NULL;

  *ret_any = false;
  for (guint i = 0; i < all->len && !*ret_any; i++)
    *ret_any = same_bucket(engine, call, route, bucket, all->pdata[i]);
  if (!*ret_any)
    return 0;
  name = note_name(bucket);
  return dg_upload_note_save(engine->state_dir, name, bucket, err);
}

/* The bucket is gone: nobody may complete what was begun for it. */
static void drop_all(struct dg_upload_table *table, struct dg_engine *engine,
                     const struct dg_call *call, const struct dg_route *route,
                     struct dg_slice bucket)
{
  g_autoptr(GPtrArray) all = dg_upload_table_all(table);

  if (dg_fault("engine.bucket.drop") != 0)
    return; /* as a crash would leave it */
  for (guint i = 0; i < all->len; i++) {
    struct dg_upload *upload = all->pdata[i];

    if (!same_bucket(engine, call, route, bucket, upload))
      continue;
    g_mutex_lock(&upload->mutex);
    dg_upload_end_locked(table, upload, DG_UPLOAD_GONE);
    g_cond_broadcast(&upload->changed);
    g_mutex_unlock(&upload->mutex);
    (void)dg_upload_remove(table, upload);
  }
  remove_note(engine, bucket);
}

/* Acts on a clear answer only: while the backend cannot say whether the bucket
 * is there, uploads and note stay. */
static int resolve(struct dg_upload_table *table, struct dg_engine *engine,
                   const struct dg_call *call, const struct dg_route *route,
                   struct dg_slice bucket, struct dg_error *err)
{
  int number = dg_fault("engine.bucket.drop-head");
  int rc = number ? dg_fail(err, dg_errno_code(number), "injected at engine.bucket.drop-head")
                  : dg_backend_bucket_head(route->backend, call, dg_slice_str(route->bucket), err);

  if (rc == 0) {
    remove_note(engine, bucket);
    return 0;
  }
  if (err->code != DG_E_NO_SUCH_BUCKET) {
    dg_log_warn(engine->log, "engine.uploads_kept",
                "bucket=%s is it still there? cause=%s: its uploads stay until that is known",
                DG_LOG_QUOTED(bucket), DG_LOG_QUOTED(dg_slice_str(err->detail)));
    return -1;
  }
  drop_all(table, engine, call, route, bucket);
  return 0;
}

void dg_upload_drop_end(struct dg_engine *engine, const struct dg_call *call,
                        const struct dg_route *route, struct dg_slice bucket,
                        int32_t delete_code)
{
  struct dg_error err;

  switch (delete_code) {
  case DG_E_OK:
  case DG_E_NO_SUCH_BUCKET: /* gone as well: perhaps by a request whose answer was lost */
    drop_all(engine->uploads, engine, call, route, bucket);
    break;
  case DG_E_BUCKET_NOT_EMPTY:
    remove_note(engine, bucket);
    break;
  default:
    (void)resolve(engine->uploads, engine, call, route, bucket, &err);
  }
}

int dg_upload_drop_settle(struct dg_engine *engine, const struct dg_call *call,
                          const struct dg_route *route, struct dg_slice bucket,
                          struct dg_error *err)
{
  struct dg_bucket_lock *lock = NULL;
  int rc;

  if (!note_stands(engine, bucket))
    return 0;
  rc = dg_bucket_lock_take(engine->locks, call, dg_slice_str(route->bucket), DG_LOCK_EXCLUSIVE,
                           &lock, err);
  if (rc == 0 && note_stands(engine, bucket))
    rc = resolve(engine->uploads, engine, call, route, bucket, err);
  dg_bucket_lock_release(lock);
  return rc;
}

/* One note that a crash left, or a backend that could not answer. */
static void finish_drop(struct dg_upload_table *table, struct dg_engine *engine, const char *name)
{
  struct dg_call call = {.struct_size = sizeof call,
                         .deadline_mono_ms = dg_time_mono_ms() + SETTLE_MS};
  g_autofree char *text = dg_upload_note_load(engine->state_dir, name);
  struct dg_slice bucket = dg_slice_str(text ? text : "");
  struct dg_bucket_lock *lock = NULL;
  struct dg_route route;
  struct dg_error err;

  if (!text) {
    g_autofree char *path = g_build_filename(engine->state_dir, name, NULL);

    (void)unlink(path); /* the note was not yet whole: the deletion had not begun */
    return;
  }
  if (dg_route_open(engine, &call, bucket, &route, &err) < 0)
    return;
  if (dg_bucket_lock_take(engine->locks, &call, dg_slice_str(route.bucket), DG_LOCK_EXCLUSIVE,
                          &lock, &err) == 0 &&
      note_stands(engine, bucket))
    (void)resolve(table, engine, &call, &route, bucket, &err);
  dg_bucket_lock_release(lock);
  dg_route_clear(&route);
}

void dg_upload_drop_recover(struct dg_upload_table *table, struct dg_engine *engine,
                            bool is_start)
{
  g_autoptr(GDir) dir = g_dir_open(engine->state_dir, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    if (is_start && g_str_has_prefix(name, "tmp-")) {
      g_autofree char *path = g_build_filename(engine->state_dir, name, NULL);

      (void)unlink(path);
    } else if (g_str_has_prefix(name, NOTE_PREFIX)) {
      finish_drop(table, engine, name);
    }
  }
}
