/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/usage.h"

#include "common/clock.h"
#include "core/engine/internal.h"

#include "common/banned.h"

#define KEEP_MS 10000u
#define KEEP_MAX 1000u

struct dg_usage_cache {
  GMutex mutex; /* guards counts; also makes one count at a time */
  GHashTable *counts; /* bucket -> struct count * */
};

struct count {
  struct dg_usage usage;
  uint64_t until_mono_ms;
};

struct dg_usage_cache *dg_usage_cache_new(void)
{
  struct dg_usage_cache *cache = g_new0(struct dg_usage_cache, 1);

  g_mutex_init(&cache->mutex);
  cache->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  return cache;
}

void dg_usage_cache_free(struct dg_usage_cache *cache)
{
  if (!cache)
    return;
  g_hash_table_unref(cache->counts);
  g_mutex_clear(&cache->mutex);
  g_free(cache);
}

/* References count as stored only: no client sees them. */
static int32_t count_row(void *receiver, const struct dg_list_row *row)
{
  struct dg_usage *usage = receiver;

  if (row->type != DG_ROW_OBJECT || !row->meta)
    return 0;
  usage->total_stored_bytes += row->meta->stored_size;
  if (row->meta->variant != DG_VARIANT_REFERENCE) {
    usage->total_objects++;
    usage->total_original_bytes += row->meta->file_size;
  }
  return 0;
}

static int count_bucket(struct dg_engine *engine, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_usage *usage, struct dg_error *err)
{
  struct dg_list_request request = {.struct_size = sizeof request, .flags = DG_LIST_REFERENCES};
  struct dg_route route;
  int rc;

  if (dg_route_open(engine, call, bucket, &route, err) < 0)
    return -1;
  request.bucket = dg_slice_str(route.bucket);
  rc = dg_backend_list(route.backend, call, &request, count_row, usage, err);
  dg_route_clear(&route);
  return rc;
}

static int32_t add_name(void *receiver, const struct dg_bucket_row *row)
{
  g_ptr_array_add(receiver, dg_slice_dup(row->name));
  return 0;
}

static int count_all(struct dg_engine *engine, const struct dg_call *call, struct dg_usage *usage,
                     struct dg_error *err)
{
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

  if (dg_engine_bucket_list(engine, call, add_name, names, err) < 0)
    return -1;
  for (guint i = 0; i < names->len; i++)
    if (count_bucket(engine, call, dg_slice_str(names->pdata[i]), usage, err) < 0 &&
        err->code != DG_E_NO_SUCH_BUCKET && err->code != DG_E_BACKEND_DOWN)
      return -1;
  return 0;
}

int dg_engine_usage(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                    struct dg_usage *ret_usage, struct dg_error *err)
{
  struct dg_usage_cache *cache = engine->usage;
  g_autofree char *name = g_strndup(bucket.len ? bucket.data : "", bucket.len);
  struct dg_usage usage = {0};
  struct count *count;
  int rc = 0;

  g_mutex_lock(&cache->mutex);
  count = g_hash_table_lookup(cache->counts, name);
  if (count && count->until_mono_ms > dg_time_mono_ms()) {
    usage = count->usage;
  } else {
    rc = bucket.len ? count_bucket(engine, call, bucket, &usage, err)
                    : count_all(engine, call, &usage, err);
    if (rc == 0) {
      if (g_hash_table_size(cache->counts) >= KEEP_MAX)
        g_hash_table_remove_all(cache->counts);
      count = g_new(struct count, 1);
      *count = (struct count){usage, dg_time_mono_ms() + KEEP_MS};
      g_hash_table_replace(cache->counts, g_steal_pointer(&name), count);
    }
  }
  g_mutex_unlock(&cache->mutex);
  if (rc == 0)
    *ret_usage = usage;
  return rc;
}
