/* SPDX-License-Identifier: Apache-2.0 */
/* What backends, codecs and crypts share: a created plugin, its host and its mutex.
 * Private to core/plug. */
#ifndef DG_CORE_PLUG_INSTANCE_H
#define DG_CORE_PLUG_INSTANCE_H

#include <glib.h>
#include <stdbool.h>

#include "core/plug/plug.h"

struct dg_instance {
  const struct dg_module *module;
  char *name, *cache_dir;
  void *self;              /* the plugin's */
  struct dg_host host;
  struct dg_plug_services services;
  bool is_serial;
  GMutex mutex;            /* SERIAL plugins: held around every op; leaf of the lock order */
};

/* Fills the host, makes the cache folder, calls create(). On failure nothing
 * is left. */
int dg_instance_init(struct dg_instance *instance, const struct dg_module *module, uint32_t kind,
                     const char *name, const struct dg_config *config,
                     const struct dg_plug_services *services, struct dg_error *err);
/* An instance without a module: a layer of the host's own. */
void dg_instance_init_layer(struct dg_instance *instance, void *self, const char *name);
void dg_instance_clear(struct dg_instance *instance); /* calls the module's destroy() */

static inline void dg_instance_enter(struct dg_instance *instance)
{
  if (instance->is_serial)
    g_mutex_lock(&instance->mutex);
}

/* Ends an op: leaves the mutex, normalises the error, counts. */
int dg_instance_leave(struct dg_instance *instance, const char *op, int result,
                      struct dg_error *err);

#endif
