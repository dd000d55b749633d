/* SPDX-License-Identifier: Apache-2.0 */
/* The operator's endpoints, without signatures: /_/health, /_/ready, /_/stats,
 * /_/metrics. */
#include "config.h"

#include <sys/resource.h>

#include "core/http/op.h"

#include "common/clock.h"
#include "core/config/config.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"

#include "common/banned.h"

#define READY_BACKEND_WAIT_MS 3000u

static void respond_text(struct dg_exchange *x, uint16_t status, const char *type, GString *text)
{
  dg_response_header(x, "Cache-Control", DG_SLICE("no-store"));
  dg_respond(x, status, type, g_string_free_to_bytes(text));
}

static uint64_t peak_rss_bytes(void)
{
  struct rusage usage;

  if (getrusage(RUSAGE_SELF, &usage) < 0)
    return 0;
  return (uint64_t)usage.ru_maxrss * 1024u;
}

static double utilization_pct(const struct dg_engine_stats *stats)
{
  if (stats->cache_max_bytes == 0)
    return 0;
  return 100.0 * (double)stats->cache_size_bytes / (double)stats->cache_max_bytes;
}

/* A double as JSON, whatever the locale says about commas. */
static void append_number(GString *out, double number)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];

  g_string_append(out, g_ascii_formatd(text, sizeof text, "%.2f", number));
}

/* ---- /_/health: is the process alive; never blocks ------------------------------ */

static int health_fast(struct dg_exchange *x)
{
  struct dg_engine_stats stats = {0};
  GString *out = g_string_new(NULL);

  dg_engine_stats(x->server->engine, &stats);
  g_string_append_printf(
      out,
      "{\"status\":\"healthy\",\"peak_rss_bytes\":%" G_GUINT64_FORMAT
      ",\"cache_size_bytes\":%" G_GUINT64_FORMAT ",\"cache_max_bytes\":%" G_GUINT64_FORMAT
      ",\"cache_entries\":%" G_GUINT64_FORMAT ",\"cache_utilization_pct\":",
      peak_rss_bytes(), stats.cache_size_bytes, stats.cache_max_bytes, stats.cache_entries);
  append_number(out, utilization_pct(&stats));
  g_string_append(out, ",\"backend\":\"live\"}\n");
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

static int ready_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_call call = x->call;
  struct dg_error why = {0};
  const char *backend = "ready";
  uint16_t status = 200;
  GString *out;

  (void)err;
  call.deadline_mono_ms = dg_time_mono_ms() + READY_BACKEND_WAIT_MS;
  if (dg_engine_ready(x->server->engine, &call, &why) < 0) {
    status = 503;
    backend = why.code == DG_E_TIMEOUT ? "timeout" : "unreachable";
    dg_log_warn(x->server->log, "ready.backend", "state=%s error=%s", backend,
                DG_LOG_QUOTED(dg_slice_str(why.detail)));
  }
  out = g_string_new(NULL);
  g_string_append_printf(out, "{\"status\":\"%s\",\"backend\":\"%s\",\"config_db\":\"absent\"}\n",
                         status == 200 ? "ready" : "not_ready", backend);
  respond_text(x, status, "application/json", out);
  return 0;
}

const struct dg_handler dg_op_ready = {
    .operation = "health", .body_mode = DG_BODY_NONE, .finish = ready_finish};

/* ---- /_/stats ---------------------------------------------------------------------- */

static int stats_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_slice bucket = dg_op_query(x, "bucket");
  struct dg_usage usage = {0};
  double saved = 0;
  GString *out;

  if (!x->server->snapshot->stats_open)
    return dg_fail(err, DG_E_ACCESS_DENIED, "statistics are not open");
  if (dg_engine_usage(x->server->engine, &x->call, bucket, &usage, err) < 0)
    return -1;
  if (usage.total_original_bytes > 0)
    saved = 100.0 * (1.0 - (double)usage.total_stored_bytes / (double)usage.total_original_bytes);
  out = g_string_new(NULL);
  g_string_append_printf(out,
                         "{\"total_objects\":%" G_GUINT64_FORMAT
                         ",\"total_original_size\":%" G_GUINT64_FORMAT
                         ",\"total_stored_size\":%" G_GUINT64_FORMAT ",\"savings_percentage\":",
                         usage.total_objects, usage.total_original_bytes, usage.total_stored_bytes);
  append_number(out, CLAMP(saved, 0.0, 99.99));
  g_string_append(out, "}\n");
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
                 utilization_pct(&stats) / 100.0);
  dg_metrics_set(metrics, DG_METRIC_MULTIPART_UPLOADS_INFLIGHT, NULL, NULL,
                 (double)stats.uploads_inflight);
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
