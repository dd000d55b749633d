/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a configuration's backends can be used, when it is put in service. */
#ifndef DG_CORE_PROBING_H
#define DG_CORE_PROBING_H

#include "core/config/config.h"
#include "core/deploy.h"
#include "core/engine/health.h"

/* How backends are watched, but for the backend. [any] */
struct dg_health_params dg_probing_params(const struct dg_snapshot *snapshot, struct dg_log *log,
                                          struct dg_metrics *metrics);

/* Probes the backends that are new in the deployment, as boot_backend_probe says, and
 * logs which buckets have to wait. Fails with DG_E_CONFIG when one is wrongly
 * configured, and with `enforce` when at the start none can be used, or in a reload a
 * new one cannot. [startup] */
int dg_probing_run(const struct dg_deployment *deployment, const struct dg_snapshot *snapshot,
                   bool is_start, struct dg_log *log, struct dg_error *err);

/* After a reload: metrics no longer show the backends of old that are not in now.
 * [startup] */
void dg_probing_forget(const struct dg_deployment *old, const struct dg_deployment *now,
                       struct dg_metrics *metrics);

#endif
