/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/app.h"

#include <stdatomic.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/slice.h"
#include "core/access/credentials.h"
#include "core/access/identity.h"
#include "core/declared.h"
#include "core/deploy.h"
#include "core/engine/engine.h"
#include "core/http/front.h"
#include "core/http/server.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/plug/backend.h"
#include "core/plug/plug.h"
#include "core/probing.h"
#include "core/startlines.h"

#include "common/banned.h"

#define TICK_MS 60000u
#define DRAIN_TICK_MS 200u
#define SHARE_MS 15000u /* to find out whether a storage can be shared */

struct dg_app {
  struct dg_log *log;
  struct dg_metrics *metrics;
  struct dg_plug_table *table;
  struct dg_plug_services services;
  struct dg_health_params health;
  struct dg_deploy_means means;
  struct dg_load_params load; /* where the configuration comes from, also on a reload */
  struct dg_snapshot *snapshot;
  struct dg_deployment *deployment;
  GQueue retired; /* struct retired *: replaced, but still in use */
  char *cache_dir;
  uint32_t instances; /* as at the start: a reload does not change it */
  struct dg_engine *engine;
  struct dg_access *access;
  struct dg_credentials *credentials; /* of the view in service */
  struct dg_server_context context;
  struct dg_server *server;
  bool serves_tls; /* as it was started; the snapshot may say otherwise since */
  uint64_t next_sweep_ms, next_look_ms;
  _Atomic uint64_t refused_seen; /* of dg_server_stats.refused_total, already counted */
  double hits_seen, misses_seen; /* at the last tick */
};

struct retired {
  struct dg_view *view;
  struct dg_deployment *deployment;
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

/* ---- Parts ----------------------------------------------------------------------------- */

/* Every new backend that several servers cannot share is named in the log; the error
 * has the remedy. */
static int share_backends(const struct dg_app *app, const struct dg_deployment *deployment,
                          struct dg_error *err)
{
  g_autoptr(GString) names = g_string_new(NULL);
  size_t count;
  const struct dg_named_backend *backends = dg_deployment_backends(deployment, &count);

  for (size_t i = 0; app->instances > 1 && i < count; i++) {
    struct dg_call call = {.struct_size = sizeof call};
    struct dg_error cause = {0};

    /* Of one that is away nothing is asked: its first write will find out. */
    call.deadline_mono_ms = now_ms();
    if (dg_health_check(backends[i].health, backends[i].name, DG_SLICE(""), &cause) == 0)
      call.deadline_mono_ms += SHARE_MS;
    if (!dg_deployment_is_new(deployment, i) ||
        dg_backend_share(backends[i].backend, &call, &cause) == 0)
      continue;
    dg_log_error(app->log, "start", "backend '%s' cannot be shared by %u instances: %s",
                 backends[i].name, app->instances, cause.detail);
    g_string_append_printf(names, "%s'%s'", names->len ? ", " : "", backends[i].name);
  }
  if (names->len == 0)
    return 0;
  return dg_fail(err, DG_E_CONFIG,
                 "advanced.instances is %u, but backend %.60s cannot be shared: use an S3 storage "
                 "with conditional writes, or one server with advanced.instances: 1",
                 app->instances, names->str);
}

static void show_backends(struct dg_app *app)
{
  for (guint i = 0; i < app->snapshot->backends->len; i++) {
    const struct dg_backend_config *config = app->snapshot->backends->pdata[i];

    dg_metrics_set(app->metrics, DG_METRIC_BUILD_INFO, PACKAGE_VERSION, config->type, 1);
  }
}

static struct dg_credentials *credentials_of(const struct dg_snapshot *snapshot)
{
  struct dg_credentials *credentials = dg_credentials_new();

  if (snapshot->access_key_id)
    dg_credentials_add(credentials, snapshot->access_key_id, snapshot->secret_access_key);
  return credentials;
}

static uint32_t worker_count(const struct dg_snapshot *snapshot,
                             const struct dg_deployment *deployment)
{
  size_t count;
  const struct dg_named_backend *backends = dg_deployment_backends(deployment, &count);
  bool far = false;

  for (size_t i = 0; i < count; i++)
    far |= !dg_backend_has(dg_backend_base(backends[i].backend), DG_CAP_LOCAL_FILE);
  return snapshot->worker_threads > 0 ? snapshot->worker_threads : dg_server_default_workers(far);
}

/* Borrows from the deployment, and forgets the snapshot's secrets: who needs one has it.
 * The requests' credentials go with the view, so that none meets the keys of one
 * configuration and the policy of another. */
static struct dg_engine_params engine_params(struct dg_app *app, struct dg_snapshot *snapshot,
                                             const struct dg_deployment *deployment)
{
  struct dg_engine_params params = {
    .snapshot = snapshot,
    .worker_count = worker_count(snapshot, deployment),
    .log = app->log,
    .metrics = app->metrics,
  };

  params.backends = dg_deployment_backends(deployment, &params.backend_count);
  params.codecs = dg_deployment_codecs(deployment, &params.codec_count);
  if (snapshot->access_key_id || !app->credentials) {
    dg_credentials_unref(app->credentials);
    app->credentials = credentials_of(snapshot);
  }
  params.companion = dg_credentials_ref(app->credentials);
  params.free_companion = dg_credentials_unref;
  dg_snapshot_forget_secrets(snapshot);
  return params;
}

static int start_engine(struct dg_app *app, struct dg_error *err)
{
  struct dg_engine_params params;

  app->health = dg_probing_params(app->snapshot, app->log, app->metrics);
  app->means = (struct dg_deploy_means){app->table, &app->services, &app->health};
  if (dg_deployment_new(&app->means, app->snapshot, NULL, &app->deployment, err) < 0 ||
      dg_probing_run(app->deployment, app->snapshot, /* is_start= */ true, app->log, err) < 0 ||
      share_backends(app, app->deployment, err) < 0)
    return -1;
  show_backends(app);
  params = engine_params(app, app->snapshot, app->deployment);
  if (dg_engine_new(&params, &app->engine, err) < 0)
    return -1;
  dg_declared_make_buckets(app->engine, app->snapshot, app->log);
  return 0;
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
    .worker_threads = worker_count(s, app->deployment),
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
    .access = app->access,
    .log = app->log,
    .metrics = app->metrics,
    .version = PACKAGE_VERSION,
    .started_s = g_get_real_time() / G_USEC_PER_SEC,
  };
  if (dg_server_start(&params, &app->server, err) < 0)
    return -1;
  app->serves_tls = s->tls.enabled;
  if (app->serves_tls)
    say_certificate(app);
  dg_log_info(app->log, "ready", "DeltaGlider listening on %s://%s (port=%u)",
              s->tls.enabled ? "https" : "http", s->listen_addr, dg_server_port(app->server));
  return 0;
}

static void retired_free(void *pointer)
{
  struct retired *retired = pointer;

  dg_view_unref(retired->view);
  dg_deployment_free(retired->deployment);
  g_free(retired);
}

static void free_app(struct dg_app *app)
{
  dg_server_free(app->server);
  dg_access_free(app->access);
  dg_credentials_unref(app->credentials);
  dg_engine_free(app->engine);
  g_queue_clear_full(&app->retired, retired_free);
  dg_deployment_free(app->deployment);
  dg_snapshot_unref(app->snapshot);
  dg_plug_table_free(app->table);
  dg_metrics_free(app->metrics);
  dg_log_free(app->log);
  g_free(app->cache_dir);
  g_free(app);
}

int dg_app_start(const struct dg_cli *cli, struct dg_app **ret_app, struct dg_error *err)
{
  g_auto(GStrv) dirs = dg_plug_search_path(cli->plugin_dir);
  struct dg_app *app = g_new0(struct dg_app, 1);

  app->load = cli->load;
  g_queue_init(&app->retired);
  app->metrics = dg_metrics_new();
  dg_metrics_set_collector(app->metrics, collect, app);
  app->table = dg_plug_table_new((const char *const *)dirs);
  if (dg_fault_init(err) < 0 ||
      dg_snapshot_load(&cli->load, app->table, &app->snapshot, err) < 0 ||
      dg_server_check_tls(&app->snapshot->tls, err) < 0) {
    free_app(app);
    return -1;
  }
  app->log =
    dg_log_new(STDERR_FILENO, app->snapshot->json_log ? DG_LOG_FORMAT_JSON : DG_LOG_FORMAT_TEXT,
               app->snapshot->log_level);
  app->cache_dir = g_strdup(app->snapshot->cache_dir);
  app->instances = app->snapshot->instances;
  app->services = (struct dg_plug_services){
    .receiver = app,
    .log = on_plugin_log,
    .count = on_plugin_call,
    .cache_dir = app->cache_dir,
  };
  dg_say_start(app->log, app->snapshot);
  if (start_engine(app, err) < 0 || start_server(app, err) < 0) {
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

static bool is_deployed(const struct dg_app *app, const struct dg_codec *codec)
{
  size_t count;
  const struct dg_named_codec *codecs = dg_deployment_codecs(app->deployment, &count);

  for (size_t i = 0; i < count; i++)
    if (codecs[i].codec == codec)
      return true;
  return false;
}

/* Frees what nobody uses any more, the oldest first. True: there is more to come. */
static bool free_retired(struct dg_app *app)
{
  struct retired *oldest;

  while ((oldest = g_queue_peek_head(&app->retired)) && dg_view_is_unused(oldest->view)) {
    size_t count;
    const struct dg_named_codec *codecs = dg_deployment_codecs(oldest->deployment, &count);

    for (size_t i = 0; i < count; i++)
      if (!is_deployed(app, codecs[i].codec))
        dg_engine_forget_codec(app->engine, codecs[i].codec);
    retired_free(g_queue_pop_head(&app->retired));
    dg_log_info(app->log, "reload.drained", "The configuration before is out of use");
  }
  return oldest != NULL;
}

uint32_t dg_app_tick(struct dg_app *app)
{
  uint64_t now = now_ms();
  bool draining = free_retired(app);

  if (now >= app->next_look_ms) {
    warn_about_cache(app);
    app->next_look_ms = now + TICK_MS;
  }
  if (now >= app->next_sweep_ms) {
    dg_engine_sweep(app->engine);
    app->next_sweep_ms = now + app->snapshot->multipart_sweep_interval_s * UINT64_C(1000);
  }
  return (uint32_t)MIN(app->next_sweep_ms > now ? app->next_sweep_ms - now : 1,
                       draining ? DRAIN_TICK_MS : TICK_MS);
}

/* ---- Reloading ------------------------------------------------------------------------------ */

/* A new configuration that could serve, or an error and nothing done. */
static int prepare(struct dg_app *app, struct dg_snapshot **ret_snapshot,
                   struct dg_deployment **ret_deployment, struct dg_error *err)
{
  g_autoptr(GPtrArray) living = g_ptr_array_new();
  struct dg_load_params load = app->load;

  g_ptr_array_add(living, app->deployment);
  for (const GList *link = app->retired.tail; link; link = link->prev)
    g_ptr_array_add(living, ((struct retired *)link->data)->deployment);
  /* At the start a bucket that routes nowhere is better served from the default backend
   * than nothing is; here what runs is better than that. */
  load.strict_routes = true;
  if (dg_snapshot_load(&load, app->table, ret_snapshot, err) < 0)
    return -1;
  if (dg_server_check_tls(&(*ret_snapshot)->tls, err) < 0 ||
      dg_deployment_new(&app->means, *ret_snapshot, living, ret_deployment, err) < 0) {
    dg_snapshot_unref(*ret_snapshot);
    return -1;
  }
  if (dg_probing_run(*ret_deployment, *ret_snapshot, /* is_start= */ false, app->log, err) < 0 ||
      share_backends(app, *ret_deployment, err) < 0) {
    dg_deployment_free(*ret_deployment);
    dg_snapshot_unref(*ret_snapshot);
    return -1;
  }
  return 0;
}

static void reload_certificates(struct dg_app *app, const struct dg_tls_config *tls)
{
  struct dg_error err = {0};

  if (!app->serves_tls || !tls->enabled)
    return; /* whether there is TLS is for the next start */
  if (dg_server_reload_tls(app->server, tls, &err) < 0)
    dg_log_error(app->log, "reload", "The certificates stay as they are cause=\"%s\"", err.detail);
  else
    say_certificate(app);
}

static void say_changes(const struct dg_app *app, const struct dg_snapshot *old)
{
  g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

  dg_say_findings(app->log, app->snapshot);
  dg_snapshot_restart_changes(old, app->snapshot, paths);
  for (guint i = 0; i < paths->len; i++)
    dg_log_warn(app->log, "reload.restart", "%s takes effect with the next start",
                (const char *)paths->pdata[i]);
}

void dg_app_reload(struct dg_app *app)
{
  struct dg_snapshot *old = app->snapshot, *snapshot;
  struct dg_deployment *deployment;
  struct dg_engine_params params;
  struct retired *retired;
  struct dg_error err = {0};

  if (prepare(app, &snapshot, &deployment, &err) < 0) {
    dg_log_error(app->log, "reload.refused", "The configuration stays as it was cause=%s",
                 DG_LOG_QUOTED(dg_slice_str(err.detail)));
    reload_certificates(app, &old->tls);
    return;
  }
  /* Needs a restart, all of it: half applied, some would be let in and others not. */
  snapshot->authentication_none = old->authentication_none;
  retired = g_new0(struct retired, 1);
  retired->deployment = app->deployment;
  params = engine_params(app, snapshot, deployment);
  dg_engine_replace(app->engine, &params, &retired->view);
  (void)dg_fault("app.reload.replaced");
  g_queue_push_tail(&app->retired, retired);
  app->deployment = deployment;
  app->snapshot = snapshot;
  dg_log_set_level(app->log, snapshot->log_level);
  reload_certificates(app, &snapshot->tls);
  show_backends(app);
  dg_probing_forget(retired->deployment, deployment, app->metrics);
  say_changes(app, old);
  dg_declared_make_buckets(app->engine, snapshot, app->log);
  dg_snapshot_unref(old);
  dg_log_info(app->log, "reload.done", "The configuration was read anew file=%s",
              snapshot->file ? snapshot->file : "-");
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
