/* SPDX-License-Identifier: Apache-2.0 */
/* The instances of plugins that a configuration names.
 *
 * A reload deploys anew and takes over what did not change, be it in service or still
 * in use by requests from before: a data directory is
 * locked by the instance that has it, and an instance that stays keeps its
 * connections and caches. An instance is shared by the deployments that name it
 * and goes with the last of them. Main thread only: [startup]. */
#ifndef DG_CORE_DEPLOY_H
#define DG_CORE_DEPLOY_H

#include "core/config/config.h"
#include "core/engine/engine.h"
#include "core/engine/health.h"
#include "core/plug/plug.h"

struct dg_deployment;

/* What instances are made with. Members outlive the deployments. */
struct dg_deploy_means {
  struct dg_plug_table *table;
  const struct dg_plug_services *services;
  const struct dg_health_params *health; /* of every backend, but for the backend itself */
};

/* Makes, or takes over from one of living, what snapshot names, by its secrets among others.
 * living: struct dg_deployment *, the one in service first; may be NULL. It, means and
 * snapshot are borrowed for the call, and stay whole, also on failure. */
int dg_deployment_new(const struct dg_deploy_means *means, const struct dg_snapshot *snapshot,
                      const GPtrArray *living, struct dg_deployment **ret_deployment,
                      struct dg_error *err);
/* Nothing uses the instances any more that no other deployment shares. NULL is fine. */
void dg_deployment_free(struct dg_deployment *deployment);

/* Borrowed; in the order of the configuration. */
const struct dg_named_backend *dg_deployment_backends(const struct dg_deployment *deployment,
                                                      size_t *ret_count);
const struct dg_named_codec *dg_deployment_codecs(const struct dg_deployment *deployment,
                                                  size_t *ret_count);
/* Was the connection of backend number index made for this deployment? Then nobody has
 * seen it work yet. */
bool dg_deployment_is_new(const struct dg_deployment *deployment, size_t index);

#endif
