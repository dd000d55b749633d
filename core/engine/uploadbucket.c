/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads of a bucket that is deleted. None of them may ever complete into a
 * bucket made later under that name, and none of a later one may be dropped:
 *
 *   create      bucket lock shared:     the bucket is there -> the upload is saved
 *   complete    deltaspace lock (holds the bucket shared):
 *                                       the upload is not dropped -> commit
 *   delete      bucket lock exclusive:  note -> bucket deleted -> uploads dropped
 *                                       -> note removed
 *   new bucket  bucket lock shared:     so after the drop
 *
 * The note, STATE/uploads/drop-HEX.json, HEX the SHA-256 of the bucket's name,
 * is what a crash in between leaves: the start finishes the drop, unless the
 * bucket is still there. */
#include "config.h"

#include "core/engine/upload.h"

#include <unistd.h>

#include "common/checksum.h"
#include "common/fault.h"
#include "common/hex.h"

#include "common/banned.h"

#define NOTE_PREFIX "drop-"

/* Two names of clients may mean one bucket: an alias, and the name itself. */
static bool same_bucket(const struct dg_route *route, struct dg_slice bucket,
                        const struct dg_upload *upload)
{
  struct dg_slice name = dg_slice_str(upload->bucket);
  const struct dg_bucket_config *policy;
  const char *real;

  if (dg_slice_equal(name, bucket))
    return true;
  policy = dg_snapshot_bucket(route->snapshot, name);
  real = policy->alias && policy->alias[0] ? policy->alias : upload->bucket;
  return strcmp(real, route->bucket) == 0 &&
         g_strcmp0(policy->backend, route->policy->backend) == 0;
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

int dg_upload_drop_begin(struct dg_upload_table *table, struct dg_engine *engine,
                         const struct dg_route *route, struct dg_slice bucket, bool *ret_any,
                         struct dg_error *err)
{
  g_autoptr(GPtrArray) all = dg_upload_table_all(table);
  g_autofree char *name = NULL;

  *ret_any = false;
  for (guint i = 0; i < all->len && !*ret_any; i++)
    *ret_any = same_bucket(route, bucket, all->pdata[i]);
  if (!*ret_any)
    return 0;
  name = note_name(bucket);
  return dg_upload_note_save(engine->state_dir, name, bucket, err);
}

void dg_upload_drop_end(struct dg_upload_table *table, struct dg_engine *engine,
                        const struct dg_route *route, struct dg_slice bucket, bool deleted)
{
  g_autoptr(GPtrArray) all = dg_upload_table_all(table);

  if (deleted && dg_fault("engine.bucket.drop") != 0)
    return; /* as a crash would leave it */
  for (guint i = 0; deleted && i < all->len; i++) {
    struct dg_upload *upload = all->pdata[i];

    if (!same_bucket(route, bucket, upload))
      continue;
    g_mutex_lock(&upload->mutex);
    dg_upload_end_locked(table, upload, DG_UPLOAD_GONE);
    g_cond_broadcast(&upload->changed);
    g_mutex_unlock(&upload->mutex);
    (void)dg_upload_remove(table, upload);
  }
  remove_note(engine, bucket);
}

static void finish_drop(struct dg_upload_table *table, struct dg_engine *engine, const char *name)
{
  static const struct dg_call call = {.struct_size = sizeof call};
  g_autofree char *text = dg_upload_note_load(engine->state_dir, name);
  struct dg_slice bucket = dg_slice_str(text ? text : "");
  struct dg_route route;
  struct dg_error err;
  bool there;

  if (!text || dg_route_open(engine, &call, bucket, &route, &err) < 0) {
    g_autofree char *path = g_build_filename(engine->state_dir, name, NULL);

    (void)unlink(path); /* the note was not yet whole: the deletion had not begun */
    return;
  }
  there = dg_backend_bucket_head(route.backend, &call, dg_slice_str(route.bucket), &err) == 0;
  dg_upload_drop_end(table, engine, &route, bucket, !there);
  dg_route_clear(&route);
}

void dg_upload_drop_recover(struct dg_upload_table *table, struct dg_engine *engine)
{
  g_autoptr(GDir) dir = g_dir_open(engine->state_dir, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    if (g_str_has_prefix(name, "tmp-")) {
      g_autofree char *path = g_build_filename(engine->state_dir, name, NULL);

      (void)unlink(path);
    } else if (g_str_has_prefix(name, NOTE_PREFIX)) {
      finish_drop(table, engine, name);
    }
  }
}
