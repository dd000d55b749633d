/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's life and its figures. */
#include "config.h"

#include "core/engine/internal.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "core/engine/encode.h"
#include "core/engine/upload.h"
#include "core/engine/usage.h"

#include "common/banned.h"

static int make_dir(const char *path, const char *what, struct dg_error *err)
{
  if (g_mkdir_with_parents(path, 0700) < 0)
    return dg_fail(err, DG_E_CONFIG, "%s '%s' cannot be made: %s", what, path, g_strerror(errno));
  return 0;
}

static void copy_plugins(struct dg_engine *engine, const struct dg_engine_params *params)
{
  engine->backend_count = params->backend_count;
  engine->backends = g_new0(struct dg_named_backend, params->backend_count + 1);
  for (size_t i = 0; i < params->backend_count; i++)
    engine->backends[i] = (struct dg_named_backend){g_strdup(params->backends[i].name),
                                                    params->backends[i].backend};
  engine->codec_count = params->codec_count;
  engine->codecs = g_new0(struct dg_named_codec, params->codec_count + 1);
  for (size_t i = 0; i < params->codec_count; i++)
    engine->codecs[i] =
      (struct dg_named_codec){g_strdup(params->codecs[i].name), params->codecs[i].codec};
}

int dg_engine_new(const struct dg_engine_params *params, struct dg_engine **ret_engine,
                  struct dg_error *err)
{
  const struct dg_snapshot *snapshot = params->snapshot;
  uint64_t body_bytes = snapshot->cache_bytes / 4;
  struct dg_engine *engine = g_new0(struct dg_engine, 1);
  uint32_t encoders = MAX(snapshot->codec_concurrency, 1);

  g_assert(params->backend_count > 0);
  g_mutex_init(&engine->snapshot_mutex);
  engine->snapshot = dg_snapshot_ref(params->snapshot);
  engine->log = params->log;
  engine->metrics = params->metrics;
  copy_plugins(engine, params);
  engine->cache_dir = g_build_filename(snapshot->cache_dir, "references", NULL);
  engine->spool_dir = g_strdup(snapshot->spool_dir);
  engine->state_dir = g_build_filename(snapshot->state_dir, "uploads", NULL);
  engine->locks = dg_lock_table_new();
  engine->metacache = dg_metacache_new(snapshot->metadata_cache_bytes, body_bytes);
  engine->permits = dg_permits_new(encoders, params->metrics);
  engine->routes = dg_route_cache_new();
  engine->usage = dg_usage_cache_new();
  if (make_dir(engine->cache_dir, "the cache directory", err) < 0 ||
      make_dir(engine->spool_dir, "the spool directory", err) < 0 ||
      make_dir(engine->state_dir, "the state directory", err) < 0)
    goto fail;
  engine->refs = dg_refcache_new(engine->cache_dir, snapshot->cache_bytes - body_bytes,
                                 engine->log, engine->metrics);
  engine->encode_pool = dg_encode_pool_new(MIN(encoders, g_get_num_processors()));
  if (dg_upload_table_new(engine, &engine->uploads, err) < 0)
    goto fail;
  *ret_engine = engine;
  return 0;

fail:
  dg_engine_free(engine);
  return -1;
}

void dg_engine_free(struct dg_engine *engine)
{
  if (!engine)
    return;
  dg_upload_table_free(engine->uploads);
  dg_encode_pool_free(engine->encode_pool);
  dg_refcache_free(engine->refs);
  dg_usage_cache_free(engine->usage);
  dg_route_cache_free(engine->routes);
  dg_permits_free(engine->permits);
  dg_metacache_free(engine->metacache);
  dg_lock_table_free(engine->locks);
  for (size_t i = 0; i < engine->backend_count; i++)
    g_free((char *)(uintptr_t)engine->backends[i].name);
  for (size_t i = 0; i < engine->codec_count; i++)
    g_free((char *)(uintptr_t)engine->codecs[i].name);
  g_free(engine->backends);
  g_free(engine->codecs);
  g_free(engine->cache_dir);
  g_free(engine->spool_dir);
  g_free(engine->state_dir);
  dg_snapshot_unref(engine->snapshot);
  g_mutex_clear(&engine->snapshot_mutex);
  g_free(engine);
}

struct dg_snapshot *dg_engine_snapshot(struct dg_engine *engine)
{
  struct dg_snapshot *snapshot;

  g_mutex_lock(&engine->snapshot_mutex);
  snapshot = dg_snapshot_ref(engine->snapshot);
  g_mutex_unlock(&engine->snapshot_mutex);
  return snapshot;
}

void dg_engine_set_snapshot(struct dg_engine *engine, struct dg_snapshot *snapshot)
{
  struct dg_snapshot *old;

  g_mutex_lock(&engine->snapshot_mutex);
  old = engine->snapshot;
  engine->snapshot = dg_snapshot_ref(snapshot);
  g_mutex_unlock(&engine->snapshot_mutex);
  dg_snapshot_unref(old);
  dg_route_forget(engine, DG_SLICE_NONE);
  /* A bucket may have moved: what was confirmed there says nothing here. */
  dg_metacache_clear(engine->metacache);
}

void dg_engine_stats(const struct dg_engine *engine, struct dg_engine_stats *ret_stats)
{
  uint64_t body_bytes, body_entries, ref_bytes, ref_entries;

  dg_metacache_usage(engine->metacache, &body_bytes, &body_entries);
  dg_refcache_usage(engine->refs, &ref_bytes, &ref_entries);
  *ret_stats = (struct dg_engine_stats){
    .cache_size_bytes = body_bytes + ref_bytes,
    .cache_max_bytes = dg_refcache_max(engine->refs) + dg_metacache_body_max(engine->metacache),
    .cache_entries = body_entries + ref_entries,
    .uploads_inflight = dg_upload_table_open_count(engine->uploads),
  };
}

int dg_engine_ready(struct dg_engine *engine, const struct dg_call *call, size_t *ret_failed,
                    struct dg_error *err)
{
  *ret_failed = 0;
  for (size_t i = 0; i < engine->backend_count; i++) {
    struct dg_call probe = *call;
    uint64_t now = dg_time_mono_ms();

    /* A share for each that is still to come: one that hangs must not use up
     * the time of those behind it. */
    if (call->deadline_mono_ms > now)
      probe.deadline_mono_ms = now + (call->deadline_mono_ms - now) / (engine->backend_count - i);
    if (dg_backend_probe(engine->backends[i].backend, &probe, err) < 0)
      ++*ret_failed;
  }
  return *ret_failed < engine->backend_count ? 0 : -1;
}

void dg_engine_report_corrupt(struct dg_engine *engine, struct dg_slice bucket, struct dg_slice key,
                              const char *what, const struct dg_error *err)
{
  dg_metrics_add(engine->metrics, DG_METRIC_CORRUPTION_DETECTED_TOTAL, what, NULL, NULL, 1);
  dg_log_error(engine->log, "engine.corrupt", "kind=%s bucket=%s key=%s cause=%s", what,
               DG_LOG_QUOTED(bucket), DG_LOG_QUOTED(key), DG_LOG_QUOTED(dg_slice_str(err->detail)));
}
