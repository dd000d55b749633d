/* SPDX-License-Identifier: Apache-2.0 */
/* From finished options to the fields of a snapshot: credentials, limits, sizes. */
#include <config.h>

#include <math.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

int dg_log_level_parse(const char *text)
{
  static const char *const names[] = {"off", "error", "warn", "info", "debug", "trace"};
  g_auto(GStrv) rules = g_strsplit(text, ",", -1);
  int highest = -1;

  for (unsigned i = 0; rules[i]; i++) {
    const char *equals = strchr(rules[i], '=');
    char *level = g_strstrip(equals ? (char *)(uintptr_t)equals + 1 : rules[i]);
    int found = -1;

    for (int n = 0; n < (int)G_N_ELEMENTS(names); n++)
      if (!g_ascii_strcasecmp(level, names[n]))
        found = MIN(n, (int)DG_LOG_DEBUG);
    if (found < 0)
      return -1;
    highest = MAX(highest, found);
  }
  return highest;
}

/* Up to one number per CPU, as the manual says of 0. */
static uint32_t threads_or(int64_t number, unsigned per_cpu, unsigned minimum)
{
  return number > 0 ? (uint32_t)number : MAX(g_get_num_processors() * per_cpu, minimum);
}

static double sane_ratio(struct dg_snapshot *snapshot, double ratio)
{
  if (!isfinite(ratio) || ratio < 0) {
    dg_load_warn(snapshot, "advanced.max_delta_ratio is not a ratio: 0.75 is used");
    return 0.75;
  }
  if (ratio > 1)
    dg_load_warn(snapshot, "advanced.max_delta_ratio is outside 0..1");
  return ratio;
}

static int apply_log(struct dg_snapshot *snapshot, const struct dg_config *advanced,
                     struct dg_error *err)
{
  const char *text = advanced->get_text(advanced, "log_level");
  int level = dg_log_level_parse(text);

  if (level < 0)
    return dg_fail(err, DG_E_CONFIG,
                   "advanced.log_level: '%s' is not a log level: use off, error, warn, info or "
                   "debug",
                   text);
  snapshot->log_level = (uint32_t)level;
  snapshot->json_log = !strcmp(advanced->get_text(advanced, "log_format"), "json");
  return 0;
}

static int apply_proxies(struct dg_snapshot *snapshot, const struct dg_config *advanced,
                         struct dg_error *err)
{
  g_auto(GStrv) words = dg_split_list(advanced->get_text(advanced, "trusted_proxy_cidrs"));

  snapshot->trust_proxy_headers = advanced->get_bool(advanced, "trust_proxy_headers");
  snapshot->trusted_proxies = g_new0(struct dg_ip_range, g_strv_length(words));
  for (char **word = words; *word; word++)
    if (!dg_ip_range_parse(*word, &snapshot->trusted_proxies[snapshot->trusted_proxy_count++]))
      return dg_fail(err, DG_E_CONFIG,
                     "advanced.trusted_proxy_cidrs: '%.60s' is neither an address nor a network "
                     "such as 10.0.0.0/8",
                     *word);
  if (snapshot->trust_proxy_headers && !words[0])
    dg_load_warn(snapshot, "advanced.trust_proxy_headers without trusted_proxy_cidrs: every client "
                           "can say that it is another");
  if (!snapshot->trust_proxy_headers && words[0])
    dg_load_warn(snapshot, "advanced.trusted_proxy_cidrs has no effect without "
                           "trust_proxy_headers");
  return 0;
}

/* Failures count by the client's address, and behind a proxy that is the proxy's. */
static void advise_on_limiter(struct dg_snapshot *snapshot)
{
  if (snapshot->rate_limit_max_attempts > 0 && !snapshot->trust_proxy_headers &&
      !snapshot->authentication_none)
    dg_load_warn(snapshot, "(info) advanced.trust_proxy_headers is off: behind a reverse proxy all "
                           "clients have its address, and the failures of one lock out the others "
                           "(advanced.rate_limit_max_attempts)");
}

/* If every upload that may be open had come so far. */
static uint64_t quarter_of_all(const struct dg_snapshot *snapshot)
{
  uint64_t all;

  return __builtin_mul_overflow(snapshot->max_object_size, snapshot->max_multipart_uploads, &all)
           ? UINT64_MAX
           : all / 4;
}

static enum dg_boot_probe boot_probe_of(const struct dg_config *advanced)
{
  const char *text = advanced->get_text(advanced, "boot_backend_probe");

  return !strcmp(text, "off")    ? DG_BOOT_PROBE_OFF
         : !strcmp(text, "warn") ? DG_BOOT_PROBE_WARN
                                 : DG_BOOT_PROBE_ENFORCE;
}

int dg_snapshot_apply_advanced(struct dg_snapshot *snapshot, const struct dg_config *advanced,
                               struct dg_error *err)
{
  const struct dg_config *a = advanced;
  struct dg_bucket_config *defaults = &snapshot->bucket_defaults;
  int64_t workers = a->get_int(a, "worker_threads");

  if (apply_log(snapshot, a, err) < 0 || apply_proxies(snapshot, a, err) < 0)
    return -1;
  snapshot->listen_addr = g_strdup(a->get_text(a, "listen_addr"));
  snapshot->max_delta_ratio = sane_ratio(snapshot, a->get_double(a, "max_delta_ratio"));
  snapshot->max_object_size = (uint64_t)a->get_int(a, "max_object_size");
  if (snapshot->max_object_size == 0)
    dg_load_warn(snapshot, "advanced.max_object_size is 0: only empty objects are accepted");
  snapshot->max_delta_object_size = (uint64_t)a->get_int(a, "max_delta_object_size");
  snapshot->mpu_delta_max_bytes = (uint64_t)a->get_int(a, "mpu_delta_reconstruct_max_bytes");
  snapshot->max_passthrough_object_size = (uint64_t)a->get_int(a, "max_passthrough_object_size");
  snapshot->cache_bytes = (uint64_t)a->get_int(a, "cache_size_mb") << 20;
  snapshot->metadata_cache_bytes = (uint64_t)a->get_int(a, "metadata_cache_mb") << 20;
  snapshot->spool_max_bytes = (uint64_t)a->get_int(a, "spool_max_bytes");
  snapshot->spool_acquire_timeout_s = (uint32_t)a->get_int(a, "spool_acquire_timeout_secs");
  snapshot->codec_concurrency = threads_or(a->get_int(a, "codec_concurrency"), 4, 16);
  snapshot->worker_threads =
    (uint32_t)(workers > 0 ? workers : a->get_int(a, "blocking_threads"));
  snapshot->loop_threads = threads_or(a->get_int(a, "loop_threads"), 1, 1);
  if (a->get_text(a, "base_domains"))
    snapshot->base_domains = dg_split_list(a->get_text(a, "base_domains"));
  snapshot->max_concurrent_requests = (uint32_t)a->get_int(a, "max_concurrent_requests");
  snapshot->request_timeout_s = (uint32_t)a->get_int(a, "request_timeout_secs");
  snapshot->answer_keepalive_s = (uint32_t)a->get_int(a, "answer_keepalive_secs");
  snapshot->multipart_completing_timeout_s =
    (uint32_t)a->get_int(a, "multipart_completing_timeout_secs");
  snapshot->max_connections = (uint32_t)a->get_int(a, "max_connections");
  snapshot->idle_timeout_s = (uint32_t)a->get_int(a, "idle_timeout_secs");
  snapshot->head_timeout_s = (uint32_t)a->get_int(a, "head_timeout_secs");
  snapshot->body_timeout_s = (uint32_t)a->get_int(a, "body_timeout_secs");
  snapshot->body_min_bytes = (uint32_t)a->get_int(a, "body_min_bytes");
  snapshot->response_timeout_s = (uint32_t)a->get_int(a, "response_timeout_secs");
  snapshot->clock_skew_s = (uint32_t)a->get_int(a, "clock_skew_seconds");
  snapshot->replay_window_s = (uint32_t)a->get_int(a, "replay_window_secs");
  snapshot->rate_limit_max_attempts = (uint32_t)a->get_int(a, "rate_limit_max_attempts");
  snapshot->rate_limit_window_s = (uint32_t)a->get_int(a, "rate_limit_window_secs");
  snapshot->rate_limit_lockout_s = (uint32_t)a->get_int(a, "rate_limit_lockout_secs");
  advise_on_limiter(snapshot);
  snapshot->instances = (uint32_t)a->get_int(a, "instances");
  snapshot->lease_ttl_s = (uint32_t)a->get_int(a, "lease_ttl_secs");
  snapshot->lease_wait_s = (uint32_t)a->get_int(a, "lease_wait_secs");
  snapshot->max_multipart_uploads = (uint32_t)a->get_int(a, "max_multipart_uploads");
  snapshot->max_total_multipart_bytes = (uint64_t)a->get_int(a, "max_total_multipart_bytes");
  if (snapshot->max_total_multipart_bytes == 0)
    snapshot->max_total_multipart_bytes = quarter_of_all(snapshot);
  snapshot->multipart_idle_ttl_s = (uint32_t)a->get_int(a, "multipart_idle_ttl_hours") * 3600;
  snapshot->multipart_sweep_interval_s =
    (uint32_t)a->get_int(a, "multipart_sweep_interval_secs");
  snapshot->usage_cache_ttl_s = (uint32_t)a->get_int(a, "usage_cache_ttl_secs");
  snapshot->enforce_min_part_size = a->get_bool(a, "enforce_min_part_size");
  snapshot->recursive_delete = a->get_bool(a, "recursive_delete");
  snapshot->recursive_delete_page = (uint32_t)a->get_int(a, "recursive_delete_page_size");
  snapshot->debug_headers = a->get_bool(a, "debug_headers");
  snapshot->ready_timeout_s = (uint32_t)a->get_int(a, "ready_timeout_secs");
  snapshot->ready_retries = (uint32_t)a->get_int(a, "ready_retries");
  snapshot->ready_cache_ttl_s = (uint32_t)a->get_int(a, "ready_cache_ttl_secs");
  snapshot->boot_backend_probe = boot_probe_of(a);
  snapshot->backend_probe_interval_s = (uint32_t)a->get_int(a, "backend_probe_interval_secs");
  snapshot->backend_list_timeout_s = (uint32_t)a->get_int(a, "backend_list_timeout_secs");
  snapshot->backend_list_cooldown_s = (uint32_t)a->get_int(a, "backend_list_cooldown_secs");
  snapshot->backend_list_fresh_s = (uint32_t)a->get_int(a, "backend_list_fresh_secs");
  snapshot->stats_open = a->get_bool(a, "stats_open");

  defaults->name = g_strdup("");
  defaults->quota_bytes = defaults->quota_objects = DG_QUOTA_NONE;
  defaults->compression = snapshot->max_delta_ratio > 0;
  defaults->max_delta_ratio = snapshot->max_delta_ratio;
  defaults->delta_suffixes = dg_split_list(a->get_text(a, "delta_suffixes"));
  defaults->delta_sniffing = a->get_bool(a, "delta_sniffing");
  defaults->codec = dg_plugin_of_codec(a->get_text(a, "codec"));
  defaults->verify_passthrough_reads = dg_verify_reads_of(a);
  return 0;
}

enum dg_verify_reads dg_verify_reads_of(const struct dg_config *options)
{
  const char *text = options->get_text(options, "verify_passthrough_reads");

  return !strcmp(text, "on") ? DG_VERIFY_ON : !strcmp(text, "off") ? DG_VERIFY_OFF : DG_VERIFY_AUTO;
}

int dg_load_access(const struct dg_load *load, struct dg_error *err)
{
  const struct dg_config *access = load->snapshot->options[DG_SECTION_ACCESS];
  struct dg_snapshot *snapshot = load->snapshot;
  const char *key = access->get_text(access, "access_key_id");
  const char *secret = access->get_text(access, "secret_access_key");
  bool has_key = key && *key, has_secret = secret && *secret;

  snapshot->authentication_none = access->get_text(access, "authentication") != NULL;
  if (has_key != has_secret)
    return dg_fail(err, DG_E_CONFIG,
                   "access.%s is set without access.%s: set both (DGP_ACCESS_KEY_ID and "
                   "DGP_SECRET_ACCESS_KEY), or neither",
                   has_key ? "access_key_id" : "secret_access_key",
                   has_key ? "secret_access_key" : "access_key_id");
  if (has_key && snapshot->authentication_none) {
    dg_load_warn(snapshot, "access.authentication is none: the configured credentials are ignored "
                           "and all data is open to everyone who can connect");
    return 0;
  }
  if (snapshot->authentication_none)
    dg_load_warn(snapshot, "access.authentication is none: all data is open to everyone who can "
                           "connect");
  if (has_key) {
    snapshot->access_key_id = g_strdup(key);
    snapshot->secret_access_key = g_strdup(secret);
  } else if (!snapshot->authentication_none && load->params->lint) {
    dg_load_warn(snapshot, "no credentials here: the server starts only with DGP_ACCESS_KEY_ID and "
                           "DGP_SECRET_ACCESS_KEY in its environment");
  } else if (!snapshot->authentication_none) {
    return dg_fail(err, DG_E_CONFIG,
                   "no credentials: set access.access_key_id and access.secret_access_key "
                   "(DGP_ACCESS_KEY_ID, DGP_SECRET_ACCESS_KEY), or say access.authentication: "
                   "none to serve everyone");
  }
  return 0;
}
