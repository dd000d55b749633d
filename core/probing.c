/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/probing.h"

#include <math.h>

#include "common/slice.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"

#include "common/banned.h"

struct dg_health_params dg_probing_params(const struct dg_snapshot *snapshot, struct dg_log *log,
                                          struct dg_metrics *metrics)
{
  return (struct dg_health_params){
    .log = log,
    .metrics = metrics,
    .gates = snapshot->boot_backend_probe != DG_BOOT_PROBE_OFF,
    .reprobe_ms = snapshot->backend_probe_interval_s * 1000,
    .list_timeout_ms = snapshot->backend_list_timeout_s * 1000,
    .list_cooldown_ms = snapshot->backend_list_cooldown_s * 1000,
    .list_fresh_ms = snapshot->backend_list_fresh_s * 1000,
  };
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The buckets that the configuration puts there, with commas. Transferred. */
static char *buckets_of(const struct dg_snapshot *snapshot, const char *backend)
{
  g_autoptr(GPtrArray) names = g_ptr_array_new();
  GString *text = g_string_new(NULL);
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, snapshot->buckets);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct dg_bucket_config *bucket = value;

    if (bucket->backend && strcmp(bucket->backend, backend) == 0)
      g_ptr_array_add(names, bucket->name);
  }
  g_ptr_array_sort(names, compare_names);
  if (snapshot->default_backend && strcmp(snapshot->default_backend, backend) == 0)
    g_ptr_array_add(names, (char *)(uintptr_t) "all without a route");
  for (guint i = 0; i < names->len; i++)
    g_string_append_printf(text, "%s%s", i ? ", " : "", (const char *)names->pdata[i]);
  return g_string_free(text, FALSE);
}

static void say_who_waits(const struct dg_snapshot *snapshot, const struct dg_named_backend *named,
                          struct dg_log *log)
{
  g_autofree char *buckets = buckets_of(snapshot, named->name);

  dg_log_error(log, "backend.waits", "backend=%s buckets=%s", named->name,
               DG_LOG_QUOTED(dg_slice_str(buckets)));
}

static int judge(const struct dg_snapshot *snapshot, const struct dg_named_backend *gated,
                 bool is_start, struct dg_error *err)
{
  if (snapshot->boot_backend_probe != DG_BOOT_PROBE_ENFORCE)
    return 0;
  return dg_fail(err, DG_E_UNAVAILABLE,
                 "%s '%s' cannot be used (%s): mend it, or set boot_backend_probe to warn to %s "
                 "all the same",
                 is_start ? "no backend can be used:" : "the new backend", gated->name,
                 dg_health_text(gated->health), is_start ? "start" : "go on");
}

int dg_probing_run(const struct dg_deployment *deployment, const struct dg_snapshot *snapshot,
                   bool is_start, struct dg_log *log, struct dg_error *err)
{
  size_t count, new_count = 0, gated_count = 0;
  const struct dg_named_backend *backends = dg_deployment_backends(deployment, &count);
  const struct dg_named_backend *gated = NULL;
  g_autofree struct dg_health **all = g_new(struct dg_health *, count + 1);
  struct dg_error ignored;

  for (size_t i = 0; i < count; i++)
    if (dg_deployment_is_new(deployment, i))
      all[new_count++] = backends[i].health;
  if (dg_health_probe_new(all, new_count, &gated_count, err) < 0)
    return -1;
  for (size_t i = 0; i < count; i++) {
    if (!dg_deployment_is_new(deployment, i) ||
        dg_health_check(backends[i].health, backends[i].name, DG_SLICE(""), &ignored) == 0)
      continue;
    gated = &backends[i];
    say_who_waits(snapshot, gated, log);
  }
  if (gated && (!is_start || gated_count == count))
    return judge(snapshot, gated, is_start, err);
  return 0;
}

static bool has_backend(const struct dg_deployment *deployment, const char *name)
{
  size_t count;
  const struct dg_named_backend *backends = dg_deployment_backends(deployment, &count);

  for (size_t i = 0; i < count; i++)
    if (strcmp(backends[i].name, name) == 0)
      return true;
  return false;
}

void dg_probing_forget(const struct dg_deployment *old, const struct dg_deployment *now,
                       struct dg_metrics *metrics)
{
  size_t count;
  const struct dg_named_backend *backends = dg_deployment_backends(old, &count);

  for (size_t i = 0; i < count; i++)
    if (!has_backend(now, backends[i].name))
      dg_metrics_set(metrics, DG_METRIC_BACKEND_UP, backends[i].name, NULL, (double)NAN);
}
