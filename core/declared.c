/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/declared.h"

#include "common/clock.h"
#include "common/slice.h"
#include "core/config/config.h"
#include "core/engine/engine.h"
#include "core/observe/log.h"
#include "core/s3/names.h"

#include "common/banned.h"

#define MAKE_MS 5000u /* a bucket without a backend of its own is first looked for on each */

/* Other storages have owners of their own who make buckets, and bill for them. */
static bool is_filesystem(const struct dg_snapshot *snapshot, const char *name)
{
  for (guint i = 0; name && i < snapshot->backends->len; i++) {
    const struct dg_backend_config *backend = snapshot->backends->pdata[i];

    if (strcmp(backend->name, name) == 0)
      return strcmp(backend->type, "filesystem") == 0;
  }
  return false;
}

static void make(struct dg_engine *engine, const char *name, struct dg_log *log)
{
  struct dg_call call = {.struct_size = sizeof call,
                         .deadline_mono_ms = dg_time_mono_ms() + MAKE_MS};
  struct dg_slice bucket = dg_slice_str(name);
  struct dg_error err = {0};

  if (dg_engine_bucket_head(engine, &call, bucket, &err) == 0)
    return;
  if (err.code == DG_E_NO_SUCH_BUCKET &&
      dg_engine_bucket_create(engine, &call, bucket, &err) == 0)
    dg_log_info(log, "bucket.made", "bucket=%s", DG_LOG_QUOTED(bucket));
  else if (err.code != DG_E_BUCKET_EXISTS)
    dg_log_warn(log, "bucket.not_made", "bucket=%s cause=%s", DG_LOG_QUOTED(bucket),
                DG_LOG_QUOTED(dg_slice_str(err.detail)));
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void dg_declared_make_buckets(struct dg_engine *engine, const struct dg_snapshot *snapshot,
                              struct dg_log *log)
{
  g_autoptr(GPtrArray) names = g_ptr_array_new();
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, snapshot->buckets);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct dg_bucket_config *bucket = value;
    const char *backend = bucket->backend ? bucket->backend : snapshot->default_backend;
    struct dg_error ignored;

    /* No client could use another name; the configuration was warned about. */
    if (is_filesystem(snapshot, backend) &&
        dg_bucket_name_check(dg_slice_str(bucket->name), &ignored) == 0)
      g_ptr_array_add(names, bucket->name);
  }
  g_ptr_array_sort(names, compare_names);
  for (guint i = 0; i < names->len; i++)
    make(engine, names->pdata[i], log);
}
