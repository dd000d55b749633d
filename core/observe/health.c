/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/observe/health.h"

#include <string.h>
#include <sys/resource.h>

#include "common/banned.h"

static void print_percentage(GString *out, double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];

  g_string_append(out, g_ascii_formatd(text, sizeof text, "%.2f", value));
}

static uint64_t peak_rss_bytes(void)
{
  struct rusage usage;

  return getrusage(RUSAGE_SELF, &usage) < 0 ? 0 : (uint64_t)usage.ru_maxrss * 1024u;
}

void dg_health_print(GString *out, const struct dg_health_facts *facts)
{
  double used_pct =
    facts->cache_max_bytes
      ? 100.0 * (double)facts->cache_size_bytes / (double)facts->cache_max_bytes
      : 0.0;

  g_string_append_printf(out,
                         "{\"status\":\"healthy\",\"backend\":\"live\""
                         ",\"peak_rss_bytes\":%" G_GUINT64_FORMAT
                         ",\"cache_size_bytes\":%" G_GUINT64_FORMAT
                         ",\"cache_max_bytes\":%" G_GUINT64_FORMAT
                         ",\"cache_entries\":%" G_GUINT64_FORMAT ",\"cache_utilization_pct\":",
                         peak_rss_bytes(), facts->cache_size_bytes, facts->cache_max_bytes,
                         facts->cache_entries);
  print_percentage(out, used_pct);
  g_string_append(out, "}\n");
}

int dg_ready_print(GString *out, const char *backend, const char *config_db)
{
  bool is_ready = strcmp(backend, "unreachable") != 0 && strcmp(backend, "timeout") != 0;

  g_string_append_printf(out, "{\"status\":\"%s\",\"backend\":\"%s\",\"config_db\":\"%s\"}\n",
                         is_ready ? "ready" : "not_ready", backend, config_db);
  return is_ready ? 200 : 503;
}

void dg_stats_print(GString *out, const struct dg_stats_facts *facts)
{
  double saved_pct = 0.0;

  if (facts->total_original_size > 0)
    saved_pct =
      100.0 * (1.0 - (double)facts->total_stored_size / (double)facts->total_original_size);
  /* The dashboard's contract: never a full 100, never below 0. */
  saved_pct = CLAMP(saved_pct, 0.0, 99.99);
  g_string_append_printf(out,
                         "{\"total_objects\":%" G_GUINT64_FORMAT
                         ",\"total_original_size\":%" G_GUINT64_FORMAT
                         ",\"total_stored_size\":%" G_GUINT64_FORMAT ",\"savings_percentage\":",
                         facts->total_objects, facts->total_original_size,
                         facts->total_stored_size);
  print_percentage(out, saved_pct);
  g_string_append_printf(out, ",\"age_seconds\":%" G_GUINT64_FORMAT "}\n", facts->age_seconds);
}
