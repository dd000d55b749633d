/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/plug/crypt.h"

#include "core/plug/instance.h"

#include "common/banned.h"

struct dg_crypt {
  struct dg_instance instance;
  const struct dg_crypt_ops *ops;
};

int dg_crypt_new(const struct dg_module *module, const char *instance_name,
                 const struct dg_config *config, const struct dg_plug_services *services,
                 struct dg_crypt **ret_crypt, struct dg_error *err)
{
  struct dg_crypt *crypt = g_new0(struct dg_crypt, 1);

  if (dg_instance_init(&crypt->instance, module, DG_KIND_CRYPT, instance_name, config, services,
                       err) < 0) {
    g_free(crypt);
    return -1;
  }
  crypt->ops = &module->ops.crypt;
  *ret_crypt = crypt;
  return 0;
}

void dg_crypt_free(struct dg_crypt *crypt)
{
  if (!crypt)
    return;
  dg_instance_clear(&crypt->instance);
  g_free(crypt);
}

const char *dg_crypt_name(const struct dg_crypt *crypt)
{
  return crypt->instance.name;
}

const char *dg_crypt_plugin_name(const struct dg_crypt *crypt)
{
  return crypt->instance.module->plugin.name;
}

bool dg_crypt_has(const struct dg_crypt *crypt, uint64_t caps)
{
  return (crypt->ops->caps & caps) == caps;
}

/* [any] functions take no mutex: they read what never changes. */
bool dg_crypt_sealed(const struct dg_crypt *crypt, const struct dg_meta *meta,
                     uint64_t *ret_plain_size)
{
  uint64_t plain_size = DG_TO_END;

  if (dg_crypt_has(crypt, DG_CAP_SEALS_NATIVELY) ||
      !crypt->ops->sealed(crypt->instance.self, meta, &plain_size))
    return false;
  *ret_plain_size = plain_size;
  return true;
}

uint64_t dg_crypt_sealed_size(const struct dg_crypt *crypt, uint32_t variant, uint64_t plain_size)
{
  if (plain_size == DG_TO_END)
    return DG_TO_END;
  return crypt->ops->sealed_size(crypt->instance.self, variant, plain_size);
}

struct dg_range dg_crypt_locate(const struct dg_crypt *crypt, uint32_t variant,
                                struct dg_range plain)
{
  return crypt->ops->locate(crypt->instance.self, variant, plain);
}

/* One op between enter and leave. */
#define CALL(crypt, op, ...)                                                 \
  (dg_instance_enter(&(crypt)->instance),                                    \
   dg_instance_leave(&(crypt)->instance, #op,                                \
                     (crypt)->ops->op((crypt)->instance.self, __VA_ARGS__), err))

static int must_not_be_native(const struct dg_crypt *crypt, const char *op, struct dg_error *err)
{
  if (!dg_crypt_has(crypt, DG_CAP_SEALS_NATIVELY))
    return 0;
  return dg_fail(err, DG_E_UNSUPPORTED, "%s: %s: the storage seals, not the plugin",
                 crypt->instance.name, op);
}

int dg_crypt_seal(struct dg_crypt *crypt, const struct dg_call *call,
                  const struct dg_seal_params *params, struct dg_writer *inner,
                  struct dg_meta *marks, struct dg_writer **ret_writer, struct dg_error *err)
{
  struct dg_writer *writer = NULL;

  if (must_not_be_native(crypt, "seal", err) < 0 ||
      CALL(crypt, seal, call, params, inner, marks, &writer, err) < 0)
    return -1;
  if (!writer)
    return dg_fail(err, DG_E_INTERNAL, "%s: seal succeeded without a writer",
                   crypt->instance.name);
  *ret_writer = crypt->instance.is_serial ? dg_writer_serialise(writer, &crypt->instance.mutex)
                                          : writer;
  return 0;
}

int dg_crypt_unseal(struct dg_crypt *crypt, const struct dg_call *call,
                    const struct dg_unseal_params *params, struct dg_reader **ret_reader,
                    struct dg_error *err)
{
  struct dg_reader *reader = NULL;

  if (params->plain.offset > params->plain_size ||
      params->plain.length > params->plain_size - params->plain.offset)
    return dg_fail(err, DG_E_INTERNAL, "%s: unseal beyond the end", crypt->instance.name);
  if (must_not_be_native(crypt, "unseal", err) < 0 ||
      CALL(crypt, unseal, call, params, &reader, err) < 0)
    return -1;
  if (!reader)
    return dg_fail(err, DG_E_INTERNAL, "%s: unseal succeeded without a reader",
                   crypt->instance.name);
  *ret_reader = crypt->instance.is_serial ? dg_reader_serialise(reader, &crypt->instance.mutex)
                                          : reader;
  return 0;
}

int dg_crypt_native_headers(struct dg_crypt *crypt, const struct dg_pair **ret_pairs,
                            uint32_t *ret_count, struct dg_error *err)
{
  if (!dg_crypt_has(crypt, DG_CAP_SEALS_NATIVELY))
    return dg_fail(err, DG_E_UNSUPPORTED, "%s: the plugin seals, not the storage",
                   crypt->instance.name);
  return CALL(crypt, native_headers, ret_pairs, ret_count, err);
}
