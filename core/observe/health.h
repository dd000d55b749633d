/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON documents of /_/health, /_/ready and /_/stats, from plain figures:
 * who asks, and where the figures come from, is the front's matter. [any] */
#ifndef DG_CORE_OBSERVE_HEALTH_H
#define DG_CORE_OBSERVE_HEALTH_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct dg_health_facts {
  uint64_t cache_size_bytes, cache_max_bytes, cache_entries;
};
/* {"status":"healthy", ...}. Asks the kernel for the peak resident set itself, which
 * does not block: fit for a loop. */
void dg_health_print(GString *out, const struct dg_health_facts *facts);

/* backend: "ready", "degraded", "cached", "unreachable" or "timeout".
 * Returns the HTTP status, 200 or 503. */
int dg_ready_print(GString *out, const char *backend, const char *config_db);

struct dg_stats_facts {
  uint64_t total_objects, total_original_size, total_stored_size; /* bytes */
  uint64_t age_seconds;
};
void dg_stats_print(GString *out, const struct dg_stats_facts *facts);

#endif
