/* SPDX-License-Identifier: Apache-2.0 */
/* Which backend holds a bucket, and under which name. */
#include "config.h"

#include "core/engine/internal.h"

#include "common/clock.h"

#include "common/banned.h"

#define REMEMBER_MS 30000u
#define REMEMBER_MAX 10000u

/* Answers of HeadBucket for buckets without an entry of their own: only needed
 * when there is more than one backend. */
struct dg_route_cache {
  GMutex mutex; /* guards places */
  GHashTable *places; /* bucket name -> struct place * */
};

struct place {
  uint64_t view_serial; /* the index is one into this view's backends */
  size_t backend_index;
  uint64_t until_mono_ms;
};

struct dg_route_cache *dg_route_cache_new(void)
{
  struct dg_route_cache *cache = g_new0(struct dg_route_cache, 1);

  g_mutex_init(&cache->mutex);
  cache->places = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  return cache;
}

void dg_route_cache_free(struct dg_route_cache *cache)
{
  if (!cache)
    return;
  g_hash_table_unref(cache->places);
  g_mutex_clear(&cache->mutex);
  g_free(cache);
}

void dg_route_forget(struct dg_engine *engine, struct dg_slice bucket)
{
  g_mutex_lock(&engine->routes->mutex);
  if (!dg_slice_present(bucket)) {
    g_hash_table_remove_all(engine->routes->places);
  } else {
    g_autofree char *name = dg_slice_dup(bucket);

    (void)g_hash_table_remove(engine->routes->places, name);
  }
  g_mutex_unlock(&engine->routes->mutex);
}

static bool recall(struct dg_route_cache *cache, const struct dg_view *view, const char *bucket,
                   size_t *ret_index)
{
  const struct place *place;
  bool known;

  g_mutex_lock(&cache->mutex);
  place = g_hash_table_lookup(cache->places, bucket);
  known = place && place->view_serial == view->serial &&
          place->until_mono_ms > dg_time_mono_ms();
  if (known)
    *ret_index = place->backend_index;
  g_mutex_unlock(&cache->mutex);
  return known;
}

static void remember(struct dg_route_cache *cache, const struct dg_view *view,
                     const char *bucket, size_t index)
{
  struct place *place = g_new0(struct place, 1);

  *place = (struct place){view->serial, index, dg_time_mono_ms() + REMEMBER_MS};
  g_mutex_lock(&cache->mutex);
  if (g_hash_table_size(cache->places) >= REMEMBER_MAX)
    g_hash_table_remove_all(cache->places);
  g_hash_table_replace(cache->places, g_strdup(bucket), place);
  g_mutex_unlock(&cache->mutex);
}

static size_t backend_named(const struct dg_view *view, const char *name)
{
  for (size_t i = 0; name && i < view->backend_count; i++)
    if (strcmp(view->backends[i].name, name) == 0)
      return i;
  return SIZE_MAX;
}

/* The default backend if it has the bucket, else the first that has it. A
 * backend that cannot say keeps it: an outage must not move buckets. */
static size_t look_for_bucket(struct dg_engine *engine, const struct dg_view *view,
                              const struct dg_call *call, const char *bucket, size_t default_index)
{
  struct dg_error err;
  size_t index;

  if (view->backend_count == 1)
    return 0;
  if (recall(engine->routes, view, bucket, &index))
    return index;
  for (size_t i = 0; i <= view->backend_count; i++) {
    index = i == 0 ? default_index : i - 1;
    if (i > 0 && index == default_index)
      continue;
    if (dg_backend_bucket_head(view->backends[index].backend, call, dg_slice_str(bucket), &err) == 0) {
      remember(engine->routes, view, bucket, index);
      return index;
    }
    if (err.code != DG_E_NO_SUCH_BUCKET && err.code != DG_E_INVALID_BUCKET_NAME)
      return index;
  }
  return default_index;
}

static struct dg_codec *codec_of(const struct dg_view *view, const struct dg_bucket_config *policy)
{
  for (size_t i = 0; i < view->codec_count; i++)
    if (!policy->codec || strcmp(view->codecs[i].name, policy->codec) == 0)
      return view->codecs[i].codec;
  return NULL;
}

int dg_route_open(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                  struct dg_route *ret_route, struct dg_error *err)
{
  struct dg_route route = {0};
  size_t default_index, index;

  if (bucket.len == 0 || bucket.len > DG_BUCKET_NAME_MAX || memchr(bucket.data, '\0', bucket.len))
    return dg_fail(err, DG_E_INVALID_BUCKET_NAME, "a bucket name of %zu bytes", bucket.len);
  route.view = dg_engine_view(engine);
  route.snapshot = route.view->snapshot;
  route.policy = dg_snapshot_bucket(route.snapshot, bucket);
  if (route.policy->alias && route.policy->alias[0])
    (void)g_strlcpy(route.bucket, route.policy->alias, sizeof route.bucket);
  else
    memcpy(route.bucket, bucket.data, bucket.len);
  default_index = backend_named(route.view, route.snapshot->default_backend);
  if (default_index == SIZE_MAX)
    default_index = 0;
  index = backend_named(route.view, route.policy->backend);
  if (index == SIZE_MAX)
    index = look_for_bucket(engine, route.view, call, route.bucket, default_index);
  route.backend = route.view->backends[index].backend;
  route.codec = codec_of(route.view, route.policy);
  *ret_route = route;
  return 0;
}

void dg_route_copy(const struct dg_route *route, struct dg_route *ret_copy)
{
  *ret_copy = *route;
  (void)dg_view_ref(ret_copy->view);
}

struct dg_backend *dg_route_backend(const struct dg_route *route, const char *name)
{
  size_t index = backend_named(route->view, name);

  return index == SIZE_MAX ? NULL : route->view->backends[index].backend;
}

void dg_route_clear(struct dg_route *route)
{
  dg_view_unref(route->view);
  memset(route, 0, sizeof *route);
}
