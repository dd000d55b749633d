/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/sealing.h"

#include "core/engine/sealed.h"
#include "core/plug/backend.h"
#include "core/plug/crypt.h"

#include "common/banned.h"

/* Instances are named after the backend: key ids are derived from it. */
static int open_crypt(struct dg_plug_table *table, const struct dg_plug_services *services,
                      const struct dg_backend_config *config, const char *plugin,
                      struct dg_crypt **ret_crypt, struct dg_error *err)
{
  const struct dg_module *module;

  if (dg_plug_load(table, plugin, &module, err) < 0)
    return -1;
  return dg_crypt_new(module, config->name, config->encryption->options, services, ret_crypt, err);
}

static int seal_natively(struct dg_plug_table *table, const struct dg_plug_services *services,
                         const struct dg_backend_config *config, struct dg_backend *backend,
                         struct dg_error *err)
{
  struct dg_crypt *crypt;
  const struct dg_pair *pairs;
  uint32_t count;
  int rc;

  if (open_crypt(table, services, config, config->encryption->native, &crypt, err) < 0)
    return -1;
  rc = dg_crypt_native_headers(crypt, &pairs, &count, err);
  if (rc == 0)
    rc = dg_backend_seal_natively(backend, pairs, count, err);
  dg_crypt_free(crypt);
  return rc;
}

int dg_sealing_prepare(struct dg_plug_table *table, const struct dg_plug_services *services,
                       const struct dg_backend_config *config, struct dg_backend *inner,
                       struct dg_error *err)
{
  return config->encryption && config->encryption->native
           ? seal_natively(table, services, config, inner, err)
           : 0;
}

int dg_sealing_open(struct dg_plug_table *table, const struct dg_plug_services *services,
                    const struct dg_backend_config *config, struct dg_backend *inner,
                    struct dg_backend **ret_backend, struct dg_error *err)
{
  const struct dg_encryption_config *encryption = config->encryption;
  struct dg_sealed_params params = {.inner = inner};

  if (encryption) {
    params.seals_writes = encryption->seals_writes;
    if (encryption->crypt &&
        open_crypt(table, services, config, encryption->crypt, &params.crypt, err) < 0)
      return -1;
  }
  *ret_backend = dg_sealed_new(&params);
  return 0;
}
