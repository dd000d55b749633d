/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/app.h"

#include <stdatomic.h>
#include <unistd.h>

#include "common/fault.h"
#include "core/access/identity.h"
#include "core/engine/engine.h"
#include "core/http/front.h"
#include "core/http/server.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/plug/backend.h"
#include "core/plug/codec.h"
#include "core/plug/plug.h"
#include "core/sealing.h"

#include "common/banned.h"

#define TICK_MS 60000u
#define RECOMMENDED_CACHE_MB 1024u

struct dg_app {
  struct dg_log *log;
  struct dg_metrics *metrics;
  struct dg_plug_table *table;
  struct dg_plug_services services;
  struct dg_snapshot *snapshot;
  GArray *backends; /* struct dg_named_backend */
  GArray *codecs;   /* struct dg_named_codec */
  struct dg_engine *engine;
  struct dg_access *access;
  struct dg_server_context context;
  struct dg_server *server;
  uint64_t next_sweep_ms;
  _Atomic uint64_t refused_seen; /* of dg_server_stats.refused_total, already counted */
  double hits_seen, misses_seen; /* at the last tick */
};

struct dg_log *dg_app_log(struct dg_app *app)
{
  return app->log;
}

static uint64_t now_ms(void)
{
  return (uint64_t)g_get_monotonic_time() / 1000;
}

/* ---- Hooks of plugins ------------------------------------------------------------ */

static void on_plugin_log(void *receiver, const char *instance, uint32_t level, const char *event,
                          const char *message)
{
  const struct dg_app *app = receiver;

  dg_log_write(app->log, level, event, "instance=%s %s", instance, message);
}

static void on_plugin_call(void *receiver, const char *instance, const char *op,
                           int32_t error_code)
{
  const struct dg_app *app = receiver;

  dg_metrics_add(app->metrics, DG_METRIC_PLUGIN_CALLS_TOTAL, instance, op,
                 error_code ? "error" : "ok", 1);
  if (!strcmp(op, "list"))
    dg_metrics_add(app->metrics, DG_METRIC_DELEGATED_LIST_UPSTREAM_PAGES_TOTAL, NULL, NULL, NULL,
                   1);
}

static double miss_rate(double hits, double misses)
{
  return hits + misses > 0 ? misses / (hits + misses) : 0;
}

static void collect(void *receiver, struct dg_metrics *metrics)
{
  struct dg_app *app = receiver;
  struct dg_server_stats stats;
  uint64_t seen;

  dg_metrics_set(metrics, DG_METRIC_CACHE_MISS_RATE_RATIO, NULL, NULL,
                 miss_rate(dg_metrics_counter(metrics, DG_METRIC_CACHE_HITS_TOTAL),
                           dg_metrics_counter(metrics, DG_METRIC_CACHE_MISSES_TOTAL)));
  if (!app->server)
    return;
  dg_server_stats(app->server, &stats);
  dg_metrics_set(metrics, DG_METRIC_HTTP_CONNECTIONS, NULL, NULL, stats.connections);
  dg_metrics_set(metrics, DG_METRIC_HTTP_REQUESTS_INFLIGHT, NULL, NULL, stats.active_requests);
  seen = atomic_exchange(&app->refused_seen, stats.refused_total);
  if (stats.refused_total > seen)
    dg_metrics_add(metrics, DG_METRIC_HTTP_REFUSED_TOTAL, "too_many_connections", NULL, NULL,
                   (double)(stats.refused_total - seen));
}

/* ---- Start-up lines ----------------------------------------------------------------- */

static void say_backend(const struct dg_app *app, const struct dg_backend_config *backend)
{
  static const struct {
    const char *option, *title;
  } shown[] = {{"path", "Data directory"}, {"region", "Region"}, {"endpoint", "Endpoint"}};
  const char *kind = !strcmp(backend->type, "filesystem") ? "Filesystem"
                     : !strcmp(backend->type, "s3")       ? "S3"
                                                          : backend->type;

  if (!strcmp(backend->name, "default"))
    dg_log_info(app->log, "start", "  Backend: %s", kind);
  else
    dg_log_info(app->log, "start", "  Backend: %s (%s)", kind, backend->name);
  for (size_t i = 0; i < G_N_ELEMENTS(shown); i++) {
    const char *value = backend->options->get_text(backend->options, shown[i].option);

    if (value)
      dg_log_info(app->log, "start", "  %s: %s", shown[i].title, value);
  }
  if (backend->encryption)
    dg_log_info(app->log, "start", "  Encryption: %s", backend->encryption->mode);
}

static void say_caches(const struct dg_app *app)
{
  uint64_t metadata_mb = app->snapshot->metadata_cache_bytes >> 20;
  uint64_t reference_mb = app->snapshot->cache_bytes >> 20;

  dg_log_info(app->log, "start",
              "[cache] In-memory metadata cache: %" G_GUINT64_FORMAT
              " MB (metadata_cache_mb or DGP_METADATA_CACHE_MB)",
              metadata_mb);
  if (reference_mb == 0)
    dg_log_warn(app->log, "start",
                "[cache] In-memory reference cache is DISABLED (0 MB). Set cache_size_mb or "
                "DGP_CACHE_MB.");
  else if (reference_mb < RECOMMENDED_CACHE_MB)
    dg_log_warn(app->log, "start",
                "[cache] In-memory reference cache is only %" G_GUINT64_FORMAT
                " MB — recommend ≥%u MB for production. Set cache_size_mb or DGP_CACHE_MB.",
                reference_mb, RECOMMENDED_CACHE_MB);
  else
    dg_log_info(app->log, "start", "[cache] In-memory reference cache: %" G_GUINT64_FORMAT " MB",
                reference_mb);
}

static void say_hello(const struct dg_app *app)
{
  const struct dg_snapshot *s = app->snapshot;

  dg_log_info(app->log, "start", "Starting DeltaGlider v%s (built %s)", PACKAGE_VERSION, DG_BUILT);
  if (s->file)
    dg_log_info(app->log, "start", "  Configuration: %s", s->file);
  dg_log_info(app->log, "start", "  Listen address: %s", s->listen_addr);
  for (guint i = 0; i < s->backends->len; i++)
    say_backend(app, s->backends->pdata[i]);
  dg_log_info(app->log, "start", "  Max delta ratio: %g", s->max_delta_ratio);
  dg_log_info(app->log, "start", "  Max object size: %" G_GUINT64_FORMAT " MB",
              s->max_object_size >> 20);
  say_caches(app);
  if (s->authentication_none)
    dg_log_warn(app->log, "start", "  Authentication: DISABLED (authentication: none)");
  else
    dg_log_info(app->log, "start", "  Authentication: SigV4 ENABLED (access key: %s)",
                s->access_key_id);
  for (guint i = 0; i < s->errors->len; i++)
    dg_log_error(app->log, "config.error", "%s", (const char *)s->errors->pdata[i]);
  for (guint i = 0; i < s->warnings->len; i++)
    dg_log_warn(app->log, "config.warning", "%s", (const char *)s->warnings->pdata[i]);
}

/* What a configuration may say and the server does not do yet: serving without it
 * would be less than was asked for. */
static int refuse_unserved(const struct dg_snapshot *s, struct dg_error *err)
{
  const char *what = NULL;
  const struct dg_bucket_config *bucket;
  GHashTableIter iter;
  gpointer name, value;

  g_hash_table_iter_init(&iter, s->buckets);
  while (!what && g_hash_table_iter_next(&iter, &name, &value)) {
    bucket = value;
    what = bucket->quota_bytes != DG_QUOTA_NONE && bucket->quota_bytes > 0
             ? "storage.buckets: quota_bytes"
           : bucket->quota_objects != DG_QUOTA_NONE ? "storage.buckets: quota_objects"
                                                    : NULL;
  }
  if (!what)
    return 0;
  return dg_fail(err, DG_E_CONFIG,
                 "%s: %s: this version reads it but does not serve it yet: take it out",
                 s->file ? s->file : "environment", what);
}

/* ---- Parts ----------------------------------------------------------------------------- */

static int start_backends(struct dg_app *app, struct dg_error *err)
{
  static const struct dg_call call = {.struct_size = sizeof call};

  for (guint i = 0; i < app->snapshot->backends->len; i++) {
    const struct dg_backend_config *config = app->snapshot->backends->pdata[i];
    struct dg_named_backend named = {.name = config->name};
    struct dg_backend *plain = NULL;
    const struct dg_module *module;

    if (dg_plug_load(app->table, config->plugin_name, &module, err) < 0 ||
        dg_backend_new(module, config->name, config->options, &app->services, &plain, err) < 0)
      return -1;
    if (dg_sealing_open(app->table, &app->services, config, plain, &named.backend, err) < 0) {
      dg_backend_free(plain);
      return -1;
    }
    g_array_append_val(app->backends, named);
    if (dg_backend_probe(named.backend, &call, err) < 0)
      return -1;
    dg_log_info(app->log, "start", "backend health: '%s' — connection healthy", config->name);
    dg_metrics_set(app->metrics, DG_METRIC_BUILD_INFO, PACKAGE_VERSION, config->type, 1);
  }
  return 0;
}

static int start_codecs(struct dg_app *app, struct dg_error *err)
{
  GHashTableIter iter;
  gpointer name, options;

  g_hash_table_iter_init(&iter, app->snapshot->codecs);
  while (g_hash_table_iter_next(&iter, &name, &options)) {
    struct dg_named_codec named = {.name = name};
    const struct dg_module *module;

    if (dg_plug_load(app->table, name, &module, err) < 0 ||
        dg_codec_new(module, name, options, &app->services, &named.codec, err) < 0)
      return -1;
    g_array_append_val(app->codecs, named);
  }
  return 0;
}

static int start_engine(struct dg_app *app, struct dg_error *err)
{
  struct dg_engine_params params = {
    .snapshot = app->snapshot,
    .backends = (const struct dg_named_backend *)(const void *)app->backends->data,
    .backend_count = app->backends->len,
    .codecs = (const struct dg_named_codec *)(const void *)app->codecs->data,
    .codec_count = app->codecs->len,
    .log = app->log,
    .metrics = app->metrics,
  };

  return dg_engine_new(&params, &app->engine, err);
}

/* An expired one is served all the same: no answer would help nobody. */
static void say_certificate(const struct dg_app *app)
{
  int64_t expires_s = dg_server_tls_expires_s(app->server);
  g_autoptr(GDateTime) end = g_date_time_new_from_unix_utc(expires_s);
  g_autofree char *text = end ? g_date_time_format_iso8601(end) : g_strdup("?");

  if (expires_s < g_get_real_time() / G_USEC_PER_SEC)
    dg_log_warn(app->log, "tls.expired", "The TLS certificate has expired not_after=%s", text);
  else
    dg_log_info(app->log, "tls.loaded", "TLS certificate not_after=%s", text);
}

static int start_server(struct dg_app *app, struct dg_error *err)
{
  const struct dg_snapshot *s = app->snapshot;
  struct dg_access_params access = {
    .open = s->authentication_none,
    .access_key = s->access_key_id,
    .secret = s->secret_access_key,
    .clock_skew_s = s->clock_skew_s,
    .replay_window_s = s->replay_window_s,
    .lockout_failures = s->rate_limit_max_attempts,
    .lockout_window_s = s->rate_limit_window_s,
    .lockout_s = s->rate_limit_lockout_s,
  };
  struct dg_server_params params = {
    .context = &app->context,
    .listen_addr = s->listen_addr,
    .loop_threads = s->loop_threads,
    .worker_threads = s->worker_threads,
    .max_concurrent_requests = s->max_concurrent_requests,
    .max_connections = s->max_connections,
    .request_timeout_ms = s->request_timeout_s * 1000,
    .slow_timeout_ms = s->multipart_completing_timeout_s * 1000,
    .blank_ms = s->answer_keepalive_s * 1000,
    .head_ms = s->head_timeout_s * 1000,
    .idle_ms = s->idle_timeout_s * 1000,
    .window_ms = s->body_timeout_s * 1000,
    .window_bytes = s->body_min_bytes,
    .stall_ms = s->response_timeout_s * 1000,
    .tls = &s->tls,
  };

  app->access = dg_access_new(&access);
  app->context = (struct dg_server_context){
    .engine = app->engine,
    .snapshot = app->snapshot,
    .access = app->access,
    .log = app->log,
    .metrics = app->metrics,
    .version = PACKAGE_VERSION,
    .started_s = g_get_real_time() / G_USEC_PER_SEC,
  };
  if (dg_server_start(&params, &app->server, err) < 0)
    return -1;
  if (s->tls.enabled)
    say_certificate(app);
  dg_log_info(app->log, "ready", "DeltaGlider listening on %s://%s (port=%u)",
              s->tls.enabled ? "https" : "http", s->listen_addr, dg_server_port(app->server));
  return 0;
}

static void free_app(struct dg_app *app)
{
  dg_server_free(app->server);
  dg_access_free(app->access);
  dg_engine_free(app->engine);
  for (guint i = 0; i < app->codecs->len; i++)
    dg_codec_free(g_array_index(app->codecs, struct dg_named_codec, i).codec);
  for (guint i = 0; i < app->backends->len; i++)
    dg_backend_free(g_array_index(app->backends, struct dg_named_backend, i).backend);
  g_array_unref(app->codecs);
  g_array_unref(app->backends);
  dg_snapshot_unref(app->snapshot);
  dg_plug_table_free(app->table);
  dg_metrics_free(app->metrics);
  dg_log_free(app->log);
  g_free(app);
}

int dg_app_start(const struct dg_cli *cli, struct dg_app **ret_app, struct dg_error *err)
{
  g_auto(GStrv) dirs = dg_plug_search_path(cli->plugin_dir);
  struct dg_app *app = g_new0(struct dg_app, 1);

  app->backends = g_array_new(FALSE, FALSE, sizeof(struct dg_named_backend));
  app->codecs = g_array_new(FALSE, FALSE, sizeof(struct dg_named_codec));
  app->metrics = dg_metrics_new();
  dg_metrics_set_collector(app->metrics, collect, app);
  app->table = dg_plug_table_new((const char *const *)dirs);
  if (dg_fault_init(err) < 0 ||
      dg_snapshot_load(&cli->load, app->table, &app->snapshot, err) < 0 ||
      refuse_unserved(app->snapshot, err) < 0 ||
      dg_server_check_tls(&app->snapshot->tls, err) < 0) {
    free_app(app);
    return -1;
  }
  app->log =
    dg_log_new(STDERR_FILENO, app->snapshot->json_log ? DG_LOG_FORMAT_JSON : DG_LOG_FORMAT_TEXT,
               app->snapshot->log_level);
  app->services = (struct dg_plug_services){
    .receiver = app,
    .log = on_plugin_log,
    .count = on_plugin_call,
    .cache_dir = app->snapshot->cache_dir,
  };
  say_hello(app);
  if (start_backends(app, err) < 0 || start_codecs(app, err) < 0 || start_engine(app, err) < 0 ||
      start_server(app, err) < 0) {
    free_app(app);
    return -1;
  }
  app->next_sweep_ms = now_ms() + app->snapshot->multipart_sweep_interval_s * UINT64_C(1000);
  *ret_app = app;
  return 0;
}

/* ---- Running and ending -------------------------------------------------------------------- */

/* Once a minute: is the cache too small for what is asked of it? */
static void warn_about_cache(struct dg_app *app)
{
  double hits = dg_metrics_counter(app->metrics, DG_METRIC_CACHE_HITS_TOTAL);
  double misses = dg_metrics_counter(app->metrics, DG_METRIC_CACHE_MISSES_TOTAL);
  double new_hits = hits - app->hits_seen, new_misses = misses - app->misses_seen;
  struct dg_engine_stats stats;

  dg_engine_stats(app->engine, &stats);
  if (stats.cache_max_bytes > 0 && stats.cache_size_bytes > stats.cache_max_bytes / 10 * 9)
    dg_log_warn(app->log, "cache.full",
                "[cache] In-memory reference cache is over 90%% full used_bytes=%" G_GUINT64_FORMAT
                " max_bytes=%" G_GUINT64_FORMAT,
                stats.cache_size_bytes, stats.cache_max_bytes);
  if (new_hits + new_misses >= 10 && miss_rate(new_hits, new_misses) > 0.5)
    dg_log_warn(app->log, "cache.misses",
                "[cache] More than half of the look-ups missed hits=%.0f misses=%.0f: raise "
                "cache_size_mb or DGP_CACHE_MB",
                new_hits, new_misses);
  app->hits_seen = hits;
  app->misses_seen = misses;
}

uint32_t dg_app_tick(struct dg_app *app)
{
  uint64_t now = now_ms();

  warn_about_cache(app);
  if (now >= app->next_sweep_ms) {
    dg_engine_sweep(app->engine);
    app->next_sweep_ms = now + app->snapshot->multipart_sweep_interval_s * UINT64_C(1000);
  }
  return (uint32_t)MIN(app->next_sweep_ms > now ? app->next_sweep_ms - now : 1, TICK_MS);
}

void dg_app_reload(struct dg_app *app)
{
  struct dg_error err = {0};

  if (!app->snapshot->tls.enabled)
    dg_log_info(app->log, "reload", "Restart the server to read a changed configuration");
  else if (dg_server_reload_tls(app->server, &app->snapshot->tls, &err) < 0)
    dg_log_error(app->log, "reload", "The certificates stay as they are cause=\"%s\"", err.detail);
  else
    say_certificate(app);
}

int dg_app_stop(struct dg_app *app, uint32_t grace_ms)
{
  int result;

  dg_log_info(app->log, "stop", "Stopping: finishing what is in flight grace_ms=%u", grace_ms);
  result = dg_server_stop(app->server, grace_ms);
  if (result < 0) {
    dg_log_error(app->log, "stop", "A worker did not return: leaving without it");
    return DG_EXIT_START;
  }
  dg_log_info(app->log, "stop", "%s",
              result > 0 ? "Stopped: some requests were cut" : "Stopped: every request finished");
  free_app(app);
  return DG_EXIT_OK;
}
