/* SPDX-License-Identifier: Apache-2.0 */
/* The operator's endpoints, without signatures: /_/health, /_/ready, /_/stats,
 * /_/metrics. */
#include "config.h"

#include <stdatomic.h>

#include "core/http/op.h"

#include "common/clock.h"
#include "core/config/config.h"
#include "core/observe/health.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"

#include "common/banned.h"

#define READY_PAUSE_MS 200u /* before a backend that failed is asked again */

static void respond_text(struct dg_exchange *x, uint16_t status, const char *type, GString *text)
{
  dg_response_header(x, "Cache-Control", DG_SLICE("no-store"));
  dg_respond(x, status, type, g_string_free_to_bytes(text));
}

/* ---- /_/health: is the process alive; never blocks ------------------------------ */

static int health_fast(struct dg_exchange *x)
{
  struct dg_engine_stats stats = {0};
  GString *out = g_string_new(NULL);

  dg_engine_stats(x->server->engine, &stats);
  dg_health_print(out, &(struct dg_health_facts){.cache_size_bytes = stats.cache_size_bytes,
                                                 .cache_max_bytes = stats.cache_max_bytes,
                                                 .cache_entries = stats.cache_entries});
  respond_text(x, 200, "application/json", out);
  return 1;
}

static int health_finish(struct dg_exchange *x, struct dg_error *err)
{
  (void)err;
  (void)health_fast(x);
  return 0;
}

const struct dg_handler dg_op_health = {
    .operation = "health", .body_mode = DG_BODY_NONE, .fast = health_fast, .finish = health_finish};

/* ---- /_/ready: would a request be served ------------------------------------------ */

/* The state of the backends: asked for, and again after a pause when they fail. */
static const char *ask_backends(struct dg_exchange *x)
{
  const struct dg_snapshot *snapshot = x->snapshot;

  for (uint32_t attempt = 0;; attempt++) {
    struct dg_call call = x->call;
    struct dg_error why = {0};
    size_t failed = 0;
    const char *state;
    int result;

    call.deadline_mono_ms = dg_time_mono_ms() + snapshot->ready_timeout_s * UINT64_C(1000);
    result = dg_engine_ready(x->server->engine, &call, &failed, &why);
    if (result == 0 && failed == 0)
      return "ready";
    state = result == 0 ? "degraded" : why.code == DG_E_TIMEOUT ? "timeout" : "unreachable";
    if (attempt >= snapshot->ready_retries) {
      dg_log_warn(x->server->log, "ready.backend", "state=%s failed=%zu error=%s", state, failed,
                  DG_LOG_QUOTED(dg_slice_str(why.detail)));
      return state;
    }
    g_usleep(READY_PAUSE_MS * 1000u);
  }
}

static int ready_finish(struct dg_exchange *x, struct dg_error *err)
{
  uint64_t keep_ms = x->snapshot->ready_cache_ttl_s * UINT64_C(1000);
  GString *out = g_string_new(NULL);
  const char *backend = "cached";
  int status;

  (void)err;
  if (dg_time_mono_ms() >= atomic_load(&x->server->ready_until_ms)) {
    backend = ask_backends(x);
    if (keep_ms && strcmp(backend, "ready") == 0)
      atomic_store(&x->server->ready_until_ms, dg_time_mono_ms() + keep_ms);
  }
  status = dg_ready_print(out, backend, "absent");
  respond_text(x, (uint16_t)status, "application/json", out);
  return 0;
}

const struct dg_handler dg_op_ready = {
    .operation = "health", .body_mode = DG_BODY_NONE, .finish = ready_finish};

/* ---- /_/stats ---------------------------------------------------------------------- */

static int stats_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_slice bucket = dg_op_query(x, "bucket");
  struct dg_usage usage = {0};
  GString *out;

  if (!x->snapshot->stats_open)
    return dg_fail(err, DG_E_ACCESS_DENIED, "statistics are not open");
  if (dg_engine_usage(x->server->engine, &x->call, bucket, x->may_defer ? &x->deferred : NULL,
                      &usage, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_stats_print(out, &(struct dg_stats_facts){.total_objects = usage.total_objects,
                                               .total_original_size = usage.total_original_bytes,
                                               .total_stored_size = usage.total_stored_bytes,
                                               .age_seconds = usage.age_ms / 1000});
  respond_text(x, 200, "application/json", out);
  return 0;
}

const struct dg_handler dg_op_stats = {
    .operation = "stats", .body_mode = DG_BODY_NONE, .finish = stats_finish};

/* ---- /_/metrics ---------------------------------------------------------------------- */

static void set_gauges(struct dg_exchange *x)
{
  struct dg_metrics *metrics = x->server->metrics;
  struct dg_engine_stats stats = {0};

  dg_engine_stats(x->server->engine, &stats);
  dg_metrics_set(metrics, DG_METRIC_CACHE_SIZE_BYTES, NULL, NULL, (double)stats.cache_size_bytes);
  dg_metrics_set(metrics, DG_METRIC_CACHE_MAX_BYTES, NULL, NULL, (double)stats.cache_max_bytes);
  dg_metrics_set(metrics, DG_METRIC_CACHE_ENTRIES, NULL, NULL, (double)stats.cache_entries);
  dg_metrics_set(metrics, DG_METRIC_CACHE_UTILIZATION_RATIO, NULL, NULL,
                 stats.cache_max_bytes
                     ? (double)stats.cache_size_bytes / (double)stats.cache_max_bytes
                     : 0.0);
  dg_metrics_set(metrics, DG_METRIC_MULTIPART_UPLOADS_INFLIGHT, NULL, NULL,
                 (double)stats.uploads_inflight);
  dg_metrics_set(metrics, DG_METRIC_MULTIPART_PART_BYTES, NULL, NULL,
                 (double)stats.upload_part_bytes);
  dg_engine_quota_gauges(x->server->engine);
}

static int metrics_finish(struct dg_exchange *x, struct dg_error *err)
{
  GString *out = g_string_new(NULL);

  (void)err;
  set_gauges(x);
  dg_metrics_print(x->server->metrics, out);
  respond_text(x, 200, "text/plain; version=0.0.4; charset=utf-8", out);
  return 0;
}

const struct dg_handler dg_op_metrics = {
    .operation = "metrics", .body_mode = DG_BODY_NONE, .finish = metrics_finish};
