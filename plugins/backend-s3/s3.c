/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "s3.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <curl/curl.h>
#include <openssl/crypto.h>

#include "bucket.h"
#include "common/clock.h"
#include "common/crew.h"
#include "conditions.h"
#include "doubts.h"
#include "governor.h"
#include "lease.h"
#include "metaindex.h"
#include "pool.h"

#include "common/banned.h"

#define PART_MIN_BYTES (UINT64_C(5) << 20)

void dg_s3_log(const struct dg_s3 *s3, uint32_t level, const char *event, const char *format, ...)
{
  char message[1024];
  va_list args;

  if (!s3->host || !s3->host->log)
    return;
  va_start(args, format);
  (void)vsnprintf(message, sizeof message, format, args);
  va_end(args);
  s3->host->log(s3->host, level, event, message);
}

uint64_t dg_s3_time_left_ms(const struct dg_call *call)
{
  uint64_t now;

  if (!call || !call->deadline_mono_ms)
    return UINT64_MAX;
  now = dg_time_mono_ms();
  return call->deadline_mono_ms > now ? call->deadline_mono_ms - now : 0;
}

int dg_s3_check_call(const struct dg_call *call, struct dg_error *err)
{
  if (call && call->cancelled && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED))
    return dg_fail(err, DG_E_CANCELLED, "the client left");
  if (dg_s3_time_left_ms(call) == 0)
    return dg_fail(err, DG_E_TIMEOUT, "the request's deadline has passed");
  return 0;
}

/* In milliseconds; 0 is no time at all, and means the default. */
static uint32_t timeout_ms(const struct dg_config *config, const char *option, uint32_t dflt_s)
{
  int64_t ms = config->get_int(config, option);

  return ms > 0 ? (uint32_t)MIN(ms, INT32_MAX) : dflt_s * 1000u;
}

static char *text_or_null(const struct dg_config *config, const char *name)
{
  const char *text = config->get_text(config, name);

  return text && *text ? g_strdup(text) : NULL;
}

static int read_options(struct dg_s3 *s3, const struct dg_config *config, struct dg_error *err)
{
  g_autofree char *url = text_or_null(config, "endpoint");

  s3->region = text_or_null(config, "region");
  if (!s3->region)
    s3->region = g_strdup("us-east-1");
  s3->access_key_id = text_or_null(config, "access_key_id");
  s3->secret_access_key = text_or_null(config, "secret_access_key");
  if (!s3->access_key_id != !s3->secret_access_key)
    return dg_fail(err, DG_E_CONFIG,
                   "access_key_id and secret_access_key: give both, or none for open buckets");
  s3->ca_bundle = text_or_null(config, "ca_bundle");
  if (s3->ca_bundle && access(s3->ca_bundle, R_OK) < 0)
    return dg_fail(err, DG_E_CONFIG, "ca_bundle '%s': %s", s3->ca_bundle, g_strerror(errno));
  s3->spool_dir = text_or_null(config, "spool_dir");
  if (!s3->spool_dir)
    s3->spool_dir = g_strdup(s3->host->cache_dir ? s3->host->cache_dir : g_get_tmp_dir());
  if (access(s3->spool_dir, W_OK) < 0)
    return dg_fail(err, DG_E_CONFIG, "spool_dir '%s': %s", s3->spool_dir, g_strerror(errno));
  s3->connect_timeout_ms = timeout_ms(config, "connect_timeout", 10);
  s3->idle_timeout_ms = timeout_ms(config, "read_timeout", 60);
  s3->attempt_timeout_ms = timeout_ms(config, "attempt_timeout", 300);
  s3->attempts = (uint32_t)config->get_int(config, "attempts");
  s3->multipart_from = (uint64_t)config->get_int(config, "multipart_threshold");
  s3->part_bytes = MAX((uint64_t)config->get_int(config, "part_size"), PART_MIN_BYTES);
  s3->part_parallel = (uint32_t)config->get_int(config, "part_concurrency");
  s3->native_uploads = config->get_bool(config, "native_uploads") != 0;
  s3->head_parallel = (uint32_t)config->get_int(config, "head_concurrency");
  return dg_s3_endpoint_parse(&s3->endpoint, url, s3->region,
                              config->get_bool(config, "force_path_style") != 0,
                              config->get_bool(config, "allow_local") != 0, err);
}

static char *index_path(const struct dg_s3 *s3)
{
  return s3->host->cache_dir ? g_build_filename(s3->host->cache_dir, "metadata.index", NULL)
                             : NULL;
}

static void load_index(struct dg_s3 *s3)
{
  g_autofree char *path = index_path(s3);
  struct dg_error err;

  if (!path || access(path, F_OK) < 0)
    return;
  if (dg_s3_metaindex_load(s3->index, path, s3->endpoint.authority, &err) < 0)
    dg_s3_log(s3, DG_LOG_WARN, "s3.index.unused", "cause=\"%s\"", err.detail);
}

static void save_index(struct dg_s3 *s3)
{
  g_autofree char *path = index_path(s3);
  struct dg_error err;

  if (path && s3->index &&
      dg_s3_metaindex_save(s3->index, path, s3->endpoint.authority, &err) < 0)
    dg_s3_log(s3, DG_LOG_WARN, "s3.index.unsaved", "cause=\"%s\"", err.detail);
}

int dg_s3_open(const struct dg_host *host, const struct dg_config *config, struct dg_s3 **ret_s3,
               struct dg_error *err)
{
  struct dg_s3 *s3 = g_new0(struct dg_s3, 1);

  s3->host = host;
  s3->name = g_strdup(config->instance_name);
  if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    g_free(s3->name);
    g_free(s3);
    return dg_fail(err, DG_E_INTERNAL, "libcurl cannot be initialised");
  }
  if (read_options(s3, config, err) < 0) {
    dg_s3_close(s3);
    return -1;
  }
  s3->pool = dg_s3_pool_new();
  s3->crew = dg_crew_new(dg_crew_default_threads());
  s3->governor = dg_s3_governor_new((uint32_t)config->get_int(config, "max_requests"));
  s3->index = dg_s3_metaindex_new((uint64_t)config->get_int(config, "metadata_index"));
  load_index(s3);
  s3->conditions = dg_s3_conditions_new();
  s3->known = dg_s3_known_new();
  s3->leases = dg_s3_leases_new();
  s3->doubts = dg_s3_doubts_new();
  *ret_s3 = s3;
  return 0;
}

void dg_s3_close(struct dg_s3 *s3)
{
  if (!s3)
    return;
  save_index(s3);
  dg_s3_pool_free(s3->pool);
  dg_crew_free(s3->crew);
  dg_s3_governor_free(s3->governor);
  dg_s3_metaindex_free(s3->index);
  dg_s3_conditions_free(s3->conditions);
  dg_s3_known_free(s3->known);
  dg_s3_leases_free(s3->leases);
  dg_s3_doubts_free(s3->doubts);
  dg_s3_endpoint_clear(&s3->endpoint);
  if (s3->secret_access_key)
    OPENSSL_cleanse(s3->secret_access_key, strlen(s3->secret_access_key));
  g_free(s3->secret_access_key);
  g_free(s3->access_key_id);
  g_free(s3->name);
  g_free(s3->region);
  g_free(s3->ca_bundle);
  g_free(s3->spool_dir);
  g_clear_pointer(&s3->seal_headers, g_ptr_array_unref);
  g_free(s3);
  curl_global_cleanup();
}

int dg_s3_seal_natively(struct dg_s3 *s3, const struct dg_pair *pairs, uint32_t count,
                        struct dg_error *err)
{
  g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);

  for (uint32_t i = 0; i < count; i++) {
    if (pairs[i].name.len <= 6 || g_ascii_strncasecmp(pairs[i].name.data, "x-amz-", 6) != 0)
      return dg_fail(err, DG_E_CONFIG, "'%.*s' is no header by which S3 encrypts",
                     DG_SLICE_ARG(pairs[i].name));
    g_ptr_array_add(headers, g_ascii_strdown(pairs[i].name.data, (gssize)pairs[i].name.len));
    g_ptr_array_add(headers, g_strndup(pairs[i].value.data, pairs[i].value.len));
  }
  g_clear_pointer(&s3->seal_headers, g_ptr_array_unref);
  s3->seal_headers = g_steal_pointer(&headers);
  return 0;
}
