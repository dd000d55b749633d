/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/startlines.h"

#include "common/uri.h"
#include "core/config/config.h"
#include "core/observe/log.h"

#include "common/banned.h"

#define RECOMMENDED_CACHE_MB 1024u

static void say_backend(struct dg_log *log, const struct dg_backend_config *backend)
{
  static const struct {
    const char *option, *title;
  } shown[] = {{"path", "Data directory"}, {"region", "Region"}, {"endpoint", "Endpoint"}};
  const char *kind = !strcmp(backend->type, "filesystem") ? "Filesystem"
                     : !strcmp(backend->type, "s3")       ? "S3"
                                                          : backend->type;

  if (!strcmp(backend->name, "default"))
    dg_log_info(log, "start", "  Backend: %s", kind);
  else
    dg_log_info(log, "start", "  Backend: %s (%s)", kind, backend->name);
  for (size_t i = 0; i < G_N_ELEMENTS(shown); i++) {
    const char *value = backend->options->get_text(backend->options, shown[i].option);
    g_autofree char *url = value ? dg_url_for_show(value) : NULL;

    if (value)
      dg_log_info(log, "start", "  %s: %s", shown[i].title,
                  !strcmp(shown[i].option, "endpoint") ? url : value);
  }
  if (backend->encryption)
    dg_log_info(log, "start", "  Encryption: %s", backend->encryption->mode);
}

static void say_caches(struct dg_log *log, const struct dg_snapshot *s)
{
  uint64_t metadata_mb = s->metadata_cache_bytes >> 20;
  uint64_t reference_mb = s->cache_bytes >> 20;

  dg_log_info(log, "start",
              "[cache] In-memory metadata cache: %" G_GUINT64_FORMAT
              " MB (metadata_cache_mb or DGP_METADATA_CACHE_MB)",
              metadata_mb);
  if (reference_mb == 0)
    dg_log_warn(log, "start",
                "[cache] In-memory reference cache is DISABLED (0 MB). Set cache_size_mb or "
                "DGP_CACHE_MB.");
  else if (reference_mb < RECOMMENDED_CACHE_MB)
    dg_log_warn(log, "start",
                "[cache] In-memory reference cache is only %" G_GUINT64_FORMAT
                " MB — recommend ≥%u MB for production. Set cache_size_mb or DGP_CACHE_MB.",
                reference_mb, RECOMMENDED_CACHE_MB);
  else
    dg_log_info(log, "start", "[cache] In-memory reference cache: %" G_GUINT64_FORMAT " MB",
                reference_mb);
}

void dg_say_findings(struct dg_log *log, const struct dg_snapshot *s)
{
  for (guint i = 0; i < s->errors->len; i++)
    dg_log_error(log, "config.error", "%s", (const char *)s->errors->pdata[i]);
  for (guint i = 0; i < s->warnings->len; i++) {
    const char *text = s->warnings->pdata[i];

    if (g_str_has_prefix(text, "(info) "))
      dg_log_info(log, "config.advice", "%s", text + strlen("(info) "));
    else
      dg_log_warn(log, "config.warning", "%s", text);
  }
}

void dg_say_start(struct dg_log *log, const struct dg_snapshot *s)
{
  dg_log_info(log, "start", "Starting DeltaGlider v%s (built %s)", PACKAGE_VERSION, DG_BUILT);
  if (s->file)
    dg_log_info(log, "start", "  Configuration: %s", s->file);
  dg_log_info(log, "start", "  Listen address: %s", s->listen_addr);
  for (guint i = 0; i < s->backends->len; i++)
    say_backend(log, s->backends->pdata[i]);
  dg_log_info(log, "start", "  Max delta ratio: %g", s->max_delta_ratio);
  dg_log_info(log, "start", "  Max object size: %" G_GUINT64_FORMAT " MB",
              s->max_object_size >> 20);
  say_caches(log, s);
  if (s->authentication_none)
    dg_log_warn(log, "start", "  Authentication: DISABLED (authentication: none)");
  else
    dg_log_info(log, "start", "  Authentication: SigV4 ENABLED (access key: %s)",
                s->access_key_id);
  dg_say_findings(log, s);
}
