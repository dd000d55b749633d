/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/usage.h"

#include "common/clock.h"
#include "core/engine/callwait.h"
#include "core/engine/internal.h"

#include "common/banned.h"

#define KEEP_MAX 1000u
#define OLD_MS 600000u     /* shown while a new count is made */
#define WAITERS_MAX 4u     /* each holds a worker */

/* Whoever finds no good count makes one, but one at a time: a count may list millions
 * of objects, and asking for it takes no signature. */
struct dg_usage_cache {
  uint64_t keep_ms;
  GMutex mutex; /* guards all below; not held while a count is made */
  GCond ended;  /* a count */
  bool counting;
  uint32_t waiting;
  GHashTable *counts; /* bucket -> struct count * */
};

struct count {
  struct dg_usage usage; /* without its age */
  uint64_t begun_mono_ms, since_mono_ms;
};

struct dg_usage_cache *dg_usage_cache_new(uint64_t keep_ms)
{
  struct dg_usage_cache *cache = g_new0(struct dg_usage_cache, 1);

  cache->keep_ms = keep_ms;
  g_mutex_init(&cache->mutex);
  g_cond_init(&cache->ended);
  cache->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  return cache;
}

void dg_usage_cache_free(struct dg_usage_cache *cache)
{
  if (!cache)
    return;
  g_hash_table_unref(cache->counts);
  g_cond_clear(&cache->ended);
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

static void show(const struct count *count, struct dg_usage *ret_usage)
{
  *ret_usage = count->usage;
  ret_usage->age_ms = dg_time_mono_ms() - count->begun_mono_ms;
}

static bool find_locked(struct dg_usage_cache *cache, const char *name, uint64_t max_age_ms,
                        struct dg_usage *ret_usage)
{
  const struct count *count = g_hash_table_lookup(cache->counts, name);

  if (!count || dg_time_mono_ms() - count->since_mono_ms >= max_age_ms)
    return false;
  show(count, ret_usage);
  return true;
}

static int make_locked(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                       const char *name, struct dg_usage *ret_usage, struct dg_error *err)
{
  struct dg_usage_cache *cache = engine->usage;
  uint64_t begun_mono_ms = dg_time_mono_ms();
  struct dg_usage usage = {0};
  struct count *count;
  int rc;

  cache->counting = true;
  g_mutex_unlock(&cache->mutex);
  rc = bucket.len ? count_bucket(engine, call, bucket, &usage, err)
                  : count_all(engine, call, &usage, err);
  g_mutex_lock(&cache->mutex);
  cache->counting = false;
  g_cond_broadcast(&cache->ended);
  if (rc < 0)
    return -1;
  if (g_hash_table_size(cache->counts) >= KEEP_MAX)
    g_hash_table_remove_all(cache->counts);
  count = g_new(struct count, 1);
  *count = (struct count){usage, begun_mono_ms, dg_time_mono_ms()};
  g_hash_table_replace(cache->counts, g_strdup(name), count);
  show(count, ret_usage);
  return 0;
}

/* Waits while another request counts. */
static int wait_locked(struct dg_usage_cache *cache, const struct dg_call *call,
                       struct dg_error *err)
{
  int rc = 0;

  if (cache->waiting >= WAITERS_MAX)
    return dg_fail(err, DG_E_SLOW_DOWN, "too many requests wait for a count");
  cache->waiting++;
  while (rc == 0 && cache->counting)
    rc = dg_call_wait(call, &cache->ended, &cache->mutex, /* until_mono_ms= */ 0, err);
  cache->waiting--;
  return rc;
}

int dg_engine_usage(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                    bool *ret_deferred, struct dg_usage *ret_usage, struct dg_error *err)
{
  struct dg_usage_cache *cache = engine->usage;
  g_autofree char *name = g_strndup(bucket.len ? bucket.data : "", bucket.len);
  bool found = false;
  int rc = 0;

  g_mutex_lock(&cache->mutex);
  while (rc == 0 && !found) {
    found = find_locked(cache, name, cache->counting ? OLD_MS : cache->keep_ms, ret_usage);
    if (found)
      break;
    if (ret_deferred) {
      *ret_deferred = true;
      rc = dg_fail(err, DG_E_SLOW_DOWN, "this has to be counted");
    } else if (cache->counting) {
      rc = wait_locked(cache, call, err);
    } else {
      rc = make_locked(engine, call, bucket, name, ret_usage, err);
      found = rc == 0;
    }
  }
  g_mutex_unlock(&cache->mutex);
  return rc;
}
