/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's life and its figures. */
#include "config.h"

#include "core/engine/internal.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/crew.h"
#include "core/engine/changeovers.h"
#include "core/engine/encode.h"
#include "core/engine/leases.h"
#include "core/engine/partnotes.h"
#include "core/engine/quota.h"
#include "core/engine/spoolbudget.h"
#include "core/engine/upload.h"
#include "core/engine/spool.h"
#include "core/engine/usage.h"
#include "core/engine/verified.h"

#include "common/banned.h"

/* One worker of so many may wait for room in the spool: those who will give some back
 * need workers, too. */
#define SPOOL_WAITERS_SHARE 8u

static int make_dir(const char *path, const char *what, struct dg_error *err)
{
  if (g_mkdir_with_parents(path, 0700) < 0)
    return dg_fail(err, DG_E_CONFIG, "%s '%s' cannot be made: %s", what, path, g_strerror(errno));
  return 0;
}

int dg_engine_new(const struct dg_engine_params *params, struct dg_engine **ret_engine,
                  struct dg_error *err)
{
  const struct dg_snapshot *snapshot = params->snapshot;
  uint64_t body_bytes = snapshot->cache_bytes / 4;
  struct dg_engine *engine = g_new0(struct dg_engine, 1);
  uint32_t encoders = MAX(snapshot->codec_concurrency, 1);

  g_assert(params->backend_count > 0);
  g_mutex_init(&engine->view_mutex);
  engine->view = dg_view_new(params);
  engine->log = params->log;
  engine->metrics = params->metrics;
  engine->cache_dir = g_build_filename(snapshot->cache_dir, "references", NULL);
  engine->spool_dir = g_strdup(snapshot->spool_dir);
  engine->spool_budget = dg_spool_budget_new(
    snapshot->spool_max_bytes, snapshot->spool_acquire_timeout_s * 1000,
    MAX(params->worker_count / SPOOL_WAITERS_SHARE, 1));
  engine->state_dir = g_build_filename(snapshot->state_dir, "uploads", NULL);
  engine->notes = dg_part_notes_new(snapshot->state_dir);
  engine->locks = dg_lock_table_new();
  engine->changeovers = dg_changeovers_new();
  engine->metacache = dg_metacache_new(snapshot->metadata_cache_bytes, body_bytes);
  engine->permits = dg_permits_new(encoders, params->metrics);
  engine->routes = dg_route_cache_new();
  engine->usage = dg_usage_cache_new(DG_USAGE_KEEP_MS);
  engine->verified = dg_verified_new();
  engine->crew = dg_crew_new(dg_crew_default_threads());
  if (make_dir(engine->cache_dir, "the cache directory", err) < 0 ||
      make_dir(engine->spool_dir, "the spool directory", err) < 0 ||
      make_dir(engine->state_dir, "the state directory", err) < 0)
    goto fail;
  dg_spool_sweep(engine->spool_dir);
  engine->refs = dg_refcache_new(engine->cache_dir, snapshot->cache_bytes - body_bytes,
                                 engine->log, engine->metrics);
  engine->encode_pool = dg_encode_pool_new(MIN(encoders, g_get_num_processors()));
  if (dg_upload_table_new(engine, &engine->uploads, err) < 0)
    goto fail;
  if (snapshot->instances > 1)
    engine->leases = dg_leases_new(engine, snapshot->lease_ttl_s * 1000,
                                   snapshot->lease_wait_s * 1000);
  engine->quota = dg_quota_new(engine);
  if (engine->leases)
    dg_leases_start(engine->leases);
  dg_quota_start(engine->quota);
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
  dg_quota_free(engine->quota);
  dg_leases_free(engine->leases);
  dg_upload_table_free(engine->uploads);
  dg_encode_pool_free(engine->encode_pool);
  dg_refcache_free(engine->refs);
  dg_verified_free(engine->verified);
  dg_crew_free(engine->crew);
  dg_usage_cache_free(engine->usage);
  dg_route_cache_free(engine->routes);
  dg_permits_free(engine->permits);
  dg_metacache_free(engine->metacache);
  dg_changeovers_free(engine->changeovers);
  dg_lock_table_free(engine->locks);
  dg_part_notes_free(engine->notes);
  g_free(engine->cache_dir);
  dg_spool_budget_free(engine->spool_budget);
  g_free(engine->spool_dir);
  g_free(engine->state_dir);
  dg_view_unref(engine->view);
  g_mutex_clear(&engine->view_mutex);
  g_free(engine);
}

struct dg_view *dg_engine_view(struct dg_engine *engine)
{
  struct dg_view *view;

  g_mutex_lock(&engine->view_mutex);
  view = dg_view_ref(engine->view);
  g_mutex_unlock(&engine->view_mutex);
  return view;
}

void dg_engine_replace(struct dg_engine *engine, const struct dg_engine_params *params,
                       struct dg_view **ret_old)
{
  const struct dg_snapshot *snapshot = params->snapshot;
  struct dg_view *view = dg_view_new(params);
  struct dg_view *old;

  g_mutex_lock(&engine->view_mutex);
  old = engine->view;
  old->next = dg_view_ref(view);
  engine->view = view;
  g_mutex_unlock(&engine->view_mutex);
  /* A bucket may have moved: what was confirmed there says nothing here. Whoever
   * still looks there keeps nothing, once this is set. */
  g_atomic_int_set(&old->superseded, 1);
  dg_route_forget(engine, DG_SLICE_NONE);
  dg_metacache_clear(engine->metacache);
  dg_metacache_resize(engine->metacache, snapshot->metadata_cache_bytes);
  dg_permits_resize(engine->permits, MAX(snapshot->codec_concurrency, 1));
  dg_spool_budget_resize(engine->spool_budget, snapshot->spool_max_bytes,
                         snapshot->spool_acquire_timeout_s * 1000);
  dg_quota_reread(engine->quota);
  *ret_old = old;
}

void dg_engine_forget_codec(struct dg_engine *engine, const struct dg_codec *codec)
{
  dg_refcache_evict_codec(engine->refs, codec);
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
    .upload_part_bytes = dg_upload_table_part_bytes(engine->uploads),
  };
}

int dg_engine_ready(struct dg_engine *engine, const struct dg_call *call, size_t *ret_failed,
                    struct dg_error *err)
{
  struct dg_view *view = dg_engine_view(engine);
  g_autofree struct dg_health **all = g_new(struct dg_health *, view->backend_count);
  int rc;

  for (size_t i = 0; i < view->backend_count; i++)
    all[i] = view->backends[i].health;
  rc = dg_health_ask(all, view->backend_count, call, ret_failed, err);
  dg_view_unref(view);
  return rc;
}

void dg_engine_report_corrupt(struct dg_engine *engine, struct dg_slice bucket, struct dg_slice key,
                              const char *what, const struct dg_error *err)
{
  dg_metrics_add(engine->metrics, DG_METRIC_CORRUPTION_DETECTED_TOTAL, what, NULL, NULL, 1);
  dg_log_error(engine->log, "engine.corrupt", "kind=%s bucket=%s key=%s cause=%s", what,
               DG_LOG_QUOTED(bucket), DG_LOG_QUOTED(key), DG_LOG_QUOTED(dg_slice_str(err->detail)));
}
