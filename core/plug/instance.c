/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/plug/instance.h"

#include <errno.h>

#include "common/fault.h"
#include "common/meta.h"
#include "core/plug/stream.h"

#include "common/banned.h"

static void host_log(const struct dg_host *host, uint32_t level, const char *event,
                     const char *message)
{
  const struct dg_instance *instance = host->self;

  if (instance->services.log)
    instance->services.log(instance->services.receiver, instance->name, level, event, message);
}

static int32_t host_fault(const struct dg_host *host, const char *step)
{
  (void)host;
  return dg_fault(step);
}

/* CACHE_DIR/plugins/INSTANCE. Instance names come from the configuration,
 * which allows letters, digits, '.', '_' and '-' only; anything else becomes
 * '_' here, so that a name can never leave the folder. */
static int make_cache_dir(struct dg_instance *instance, struct dg_error *err)
{
  g_autofree char *safe = g_strdup(instance->name);

  if (!instance->services.cache_dir)
    return 0;
  for (char *c = safe; *c; c++)
    if (!g_ascii_isalnum(*c) && *c != '-' && *c != '_' && (*c != '.' || c == safe))
      *c = '_';
  instance->cache_dir = g_build_filename(instance->services.cache_dir, "plugins", safe, NULL);
  if (g_mkdir_with_parents(instance->cache_dir, 0700) < 0)
    return dg_fail(err, DG_E_CONFIG, "cannot make the cache directory '%s': %s: check cache_dir",
                   instance->cache_dir, g_strerror(errno));
  return 0;
}

/* Every kind's ops table has create and destroy, at different offsets. */
static int call_create(struct dg_instance *instance, const struct dg_config *config,
                       struct dg_error *err)
{
  const struct dg_module *module = instance->module;

  switch (module->plugin.kind) {
  case DG_KIND_BACKEND:
    return module->ops.backend.create(&instance->host, config, &instance->self, err);
  case DG_KIND_CRYPT:
    return module->ops.crypt.create(&instance->host, config, &instance->self, err);
  default:
    return module->ops.codec.create(&instance->host, config, &instance->self, err);
  }
}

static void free_parts(struct dg_instance *instance)
{
  g_free(instance->name);
  g_free(instance->cache_dir);
  g_mutex_clear(&instance->mutex);
}

int dg_instance_init(struct dg_instance *instance, const struct dg_module *module, uint32_t kind,
                     const char *name, const struct dg_config *config,
                     const struct dg_plug_services *services, struct dg_error *err)
{
  struct dg_error cause = {0};

  if (module->plugin.kind != kind)
    return dg_fail(err, DG_E_CONFIG, "%s: '%s' is a %s plugin, a %s is needed", name,
                   module->plugin.name, dg_kind_name(module->plugin.kind), dg_kind_name(kind));
  memset(instance, 0, sizeof *instance);
  instance->module = module;
  instance->name = g_strdup(name);
  if (services)
    instance->services = *services;
  instance->is_serial = module->plugin.threads == DG_THREADS_SERIAL;
  g_mutex_init(&instance->mutex);
  if (make_cache_dir(instance, err) < 0) {
    free_parts(instance);
    return -1;
  }
  instance->host = (struct dg_host){
    .struct_size = sizeof instance->host,
    .abi_major = DG_ABI_MAJOR,
    .abi_minor = DG_ABI_MINOR,
    .self = instance,
    .log = host_log,
    .cache_dir = instance->cache_dir,
    .meta_set = dg_meta_set,
    .meta_add_user = dg_meta_add_user,
    .meta_add_extension = dg_meta_add_extension,
    .fault = host_fault,
  };
  if (dg_normalise(call_create(instance, config, &cause), name, "create", &cause) < 0) {
    free_parts(instance);
    return dg_fail(err, cause.code, "%s (%s): %.180s", name, module->plugin.name, cause.detail);
  }
  return 0;
}

void dg_instance_init_layer(struct dg_instance *instance, void *self, const char *name)
{
  memset(instance, 0, sizeof *instance);
  instance->name = g_strdup(name);
  instance->self = self;
  g_mutex_init(&instance->mutex);
}

void dg_instance_clear(struct dg_instance *instance)
{
  const struct dg_module *module = instance->module;

  if (module && module->plugin.kind == DG_KIND_BACKEND)
    module->ops.backend.destroy(instance->self);
  else if (module && module->plugin.kind == DG_KIND_CRYPT)
    module->ops.crypt.destroy(instance->self);
  else if (module)
    module->ops.codec.destroy(instance->self);
  free_parts(instance);
}

int dg_instance_leave(struct dg_instance *instance, const char *op, int result,
                      struct dg_error *err)
{
  if (instance->is_serial)
    g_mutex_unlock(&instance->mutex);
  result = dg_normalise(result, instance->name, op, err);
  if (instance->services.count)
    instance->services.count(instance->services.receiver, instance->name, op,
                             result < 0 ? err->code : 0);
  return result;
}
