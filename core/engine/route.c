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

/* Where it was found last. fresh: a moment ago, so that nobody need be asked. */
static bool recall(struct dg_route_cache *cache, const struct dg_view *view, const char *bucket,
                   bool fresh, size_t *ret_index)
{
  const struct place *place;
  bool known;

  g_mutex_lock(&cache->mutex);
  place = g_hash_table_lookup(cache->places, bucket);
  known = place && place->view_serial == view->serial &&
          (!fresh || place->until_mono_ms > dg_time_mono_ms());
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

size_t dg_route_default(const struct dg_view *view)
{
  size_t index = backend_named(view, view->snapshot->default_backend);

  return index == SIZE_MAX ? 0 : index;
}

size_t dg_route_turn(size_t i, size_t default_index)
{
  return i == 0 ? default_index : i <= default_index ? i - 1 : i;
}

struct look {
  struct dg_engine *engine;
  const struct dg_view *view;
  const struct dg_call *call;
  struct dg_slice asked_for; /* the bucket as the client calls it */
  const char *bucket;        /* and as it is called on a backend */
};

enum answer {
  HAS_IT,
  LACKS_IT,
  CANNOT_SAY, /* it answered, but with an error */
  IS_AWAY,    /* there was no answer in time, or it is known to give none */
};

static enum answer ask(const struct look *look, const struct dg_named_backend *named)
{
  struct dg_call call = *look->call;
  uint64_t until_ms = dg_health_look_until(named->health);
  struct dg_error err;

  if (!until_ms)
    return IS_AWAY;
  if (!call.deadline_mono_ms || call.deadline_mono_ms > until_ms)
    call.deadline_mono_ms = until_ms;
  if (dg_backend_bucket_head(named->backend, &call, dg_slice_str(look->bucket), &err) == 0)
    return HAS_IT;
  if (err.code == DG_E_NO_SUCH_BUCKET || err.code == DG_E_INVALID_BUCKET_NAME)
    return LACKS_IT;
  dg_health_suspect(named->health, err.code);
  /* Somebody else's or ours, and kept from us: a list of ours can tell. */
  if (err.code == DG_E_BACKEND_DENIED)
    dg_health_buckets_keep(named->health);
  if (err.code != DG_E_TIMEOUT)
    return CANNOT_SAY;
  if (dg_time_mono_ms() >= until_ms)
    dg_health_was_slow(named->health);
  return IS_AWAY;
}

static int fail_away(const struct look *look, size_t index, struct dg_error *err)
{
  const struct dg_named_backend *named = &look->view->backends[index];

  return dg_health_fail_down(named->health, named->name, look->asked_for, err);
}

/* Asks one after the other, the default backend first. A backend that cannot say
 * keeps the bucket: an outage must not move it. Unless it was found elsewhere before,
 * or this backend did not have it when it last listed what it has, and has not shown
 * it since. */
static int ask_all(const struct look *look, size_t *ret_index, struct dg_error *err)
{
  struct dg_route_cache *routes = look->engine->routes;
  size_t default_index = dg_route_default(look->view);
  enum answer of_default = LACKS_IT;

  for (size_t i = 0; i < look->view->backend_count; i++) {
    size_t index = dg_route_turn(i, default_index);
    struct dg_health *health = look->view->backends[index].health;
    enum answer answer = ask(look, &look->view->backends[index]);
    size_t found;
    bool was_found;

    if (i == 0)
      of_default = answer;
    if (answer == HAS_IT || answer == LACKS_IT)
      dg_health_buckets_keep(health);
    if (answer == HAS_IT) {
      remember(routes, look->view, look->bucket, index);
      *ret_index = index;
      return 0;
    }
    if (answer == LACKS_IT)
      continue;
    was_found = recall(routes, look->view, look->bucket, /* fresh= */ false, &found);
    if (!(was_found && found == index) && dg_health_lacks_bucket(health, look->bucket))
      continue;
    *ret_index = was_found ? found : index;
    if (was_found)
      return 0;
    return answer == IS_AWAY ? fail_away(look, index, err) : 0;
  }
  *ret_index = default_index;
  return of_default == IS_AWAY ? fail_away(look, default_index, err) : 0;
}

static int look_for_bucket(const struct look *look, size_t *ret_index, struct dg_error *err)
{
  if (look->view->backend_count == 1) {
    *ret_index = 0;
    return 0;
  }
  if (recall(look->engine->routes, look->view, look->bucket, /* fresh= */ true, ret_index))
    return 0;
  return ask_all(look, ret_index, err);
}

static struct dg_codec *codec_of(const struct dg_view *view, const struct dg_bucket_config *policy)
{
  for (size_t i = 0; i < view->codec_count; i++)
    if (!policy->codec || strcmp(view->codecs[i].name, policy->codec) == 0)
      return view->codecs[i].codec;
  return NULL;
}

/* All but the backend; what it holds is cleared by the caller. */
static int begin_route(struct dg_engine *engine, struct dg_slice bucket, struct dg_route *route,
                       struct dg_error *err)
{
  if (bucket.len == 0 || bucket.len > DG_BUCKET_NAME_MAX || memchr(bucket.data, '\0', bucket.len))
    return dg_fail(err, DG_E_INVALID_BUCKET_NAME, "a bucket name of %zu bytes", bucket.len);
  route->view = dg_engine_view(engine);
  route->snapshot = route->view->snapshot;
  route->policy = dg_snapshot_bucket(route->snapshot, bucket);
  if (route->policy->alias && route->policy->alias[0])
    (void)g_strlcpy(route->bucket, route->policy->alias, sizeof route->bucket);
  else
    memcpy(route->bucket, bucket.data, bucket.len);
  return 0;
}

static void end_route(struct dg_route *route, size_t index)
{
  route->backend_name = route->view->backends[index].name;
  route->backend = route->view->backends[index].backend;
  route->health = route->view->backends[index].health;
  route->codec = codec_of(route->view, route->policy);
}

int dg_route_find(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                  struct dg_route *ret_route, struct dg_error *err)
{
  struct look look = {engine, .call = call, .asked_for = bucket};
  struct dg_route route = {0};
  size_t index;

  if (begin_route(engine, bucket, &route, err) < 0)
    return -1;
  index = backend_named(route.view, route.policy->backend);
  look.view = route.view;
  look.bucket = route.bucket;
  if (index == SIZE_MAX && look_for_bucket(&look, &index, err) < 0) {
    dg_route_clear(&route);
    return -1;
  }
  end_route(&route, index);
  *ret_route = route;
  return 0;
}

bool dg_route_known(struct dg_engine *engine, struct dg_slice bucket, struct dg_route *ret_route)
{
  struct dg_route route = {0};
  struct dg_error ignored;
  size_t index;

  if (begin_route(engine, bucket, &route, &ignored) < 0)
    return false;
  index = backend_named(route.view, route.policy->backend);
  if (index == SIZE_MAX && route.view->backend_count == 1)
    index = 0;
  if (index == SIZE_MAX &&
      !recall(engine->routes, route.view, route.bucket, /* fresh= */ true, &index)) {
    dg_route_clear(&route);
    return false;
  }
  end_route(&route, index);
  *ret_route = route;
  return true;
}

int dg_route_open(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                  struct dg_route *ret_route, struct dg_error *err)
{
  struct dg_route route;

  if (dg_route_find(engine, call, bucket, &route, err) < 0)
    return -1;
  if (dg_health_check(route.health, route.backend_name, bucket, err) < 0) {
    dg_route_clear(&route);
    return -1;
  }
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
