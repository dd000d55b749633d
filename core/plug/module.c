/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor, checked and copied. The copy takes min(theirs, ours) bytes
 * into zeroed structs, so a plugin built on an older minor version reads as
 * NULL where it has nothing to say, and one built on a newer shows what we
 * know. */
#include "config.h"

#include "core/plug/plug.h"

#include <stddef.h>

#include "core/plug/options.h"

#include "common/banned.h"

/* What every struct that crosses must at least hold. */
#define PLUGIN_MIN_SIZE (offsetof(struct dg_plugin, ops) + sizeof(void *))
#define OPS_MIN_SIZE 16u

struct op_row {
  const char *name;
  size_t offset;
};

#define OP(table, op) {#op, offsetof(struct table, op)}
static const struct op_row backend_required[] = {
  OP(dg_backend_ops, create),      OP(dg_backend_ops, destroy),
  OP(dg_backend_ops, bucket_create), OP(dg_backend_ops, bucket_delete),
  OP(dg_backend_ops, bucket_head), OP(dg_backend_ops, bucket_list),
  OP(dg_backend_ops, head),        OP(dg_backend_ops, get),
  OP(dg_backend_ops, put),         OP(dg_backend_ops, remove),
  OP(dg_backend_ops, list),        OP(dg_backend_ops, probe),
};
static const struct op_row codec_required[] = {
  OP(dg_codec_ops, create),         OP(dg_codec_ops, destroy),
  OP(dg_codec_ops, ref_open),       OP(dg_codec_ops, ref_bytes),
  OP(dg_codec_ops, ref_close),      OP(dg_codec_ops, encode_open),
  OP(dg_codec_ops, encode_window_size), OP(dg_codec_ops, encode_window),
  OP(dg_codec_ops, encode_release), OP(dg_codec_ops, encode_finish),
  OP(dg_codec_ops, encode_close),   OP(dg_codec_ops, decode_open),
  OP(dg_codec_ops, decode_range),   OP(dg_codec_ops, decode_close),
};
static const struct op_row crypt_required[] = {
  OP(dg_crypt_ops, create), OP(dg_crypt_ops, destroy), OP(dg_crypt_ops, sealed),
  OP(dg_crypt_ops, sealed_size), OP(dg_crypt_ops, locate), OP(dg_crypt_ops, seal),
  OP(dg_crypt_ops, unseal),
};
static const struct op_row native_crypt_required[] = {
  OP(dg_crypt_ops, create), OP(dg_crypt_ops, destroy), OP(dg_crypt_ops, native_headers),
};
/* What a promise needs. */
static const struct {
  uint64_t cap;
  const char *promise;
  struct op_row op;
} promised[] = {
  {DG_CAP_VALIDATOR, "DG_CAP_VALIDATOR", OP(dg_backend_ops, validate)},
  {DG_CAP_NATIVE_SEAL, "DG_CAP_NATIVE_SEAL", OP(dg_backend_ops, seal_natively)},
  {DG_CAP_NATIVE_UPLOAD, "DG_CAP_NATIVE_UPLOAD", OP(dg_backend_ops, upload_begin)},
  {DG_CAP_NATIVE_UPLOAD, "DG_CAP_NATIVE_UPLOAD", OP(dg_backend_ops, upload_part)},
  {DG_CAP_NATIVE_UPLOAD, "DG_CAP_NATIVE_UPLOAD", OP(dg_backend_ops, upload_complete)},
  {DG_CAP_NATIVE_UPLOAD, "DG_CAP_NATIVE_UPLOAD", OP(dg_backend_ops, upload_abort)},
  {DG_CAP_NATIVE_COPY, "DG_CAP_NATIVE_COPY", OP(dg_backend_ops, copy)},
  {DG_CAP_NOTES, "DG_CAP_NOTES", OP(dg_backend_ops, note_put)},
  {DG_CAP_NOTES, "DG_CAP_NOTES", OP(dg_backend_ops, note_get)},
  {DG_CAP_NOTES, "DG_CAP_NOTES", OP(dg_backend_ops, note_remove)},
  {DG_CAP_LOCATE_PART, "DG_CAP_LOCATE_PART", OP(dg_backend_ops, locate_part)},
};
#undef OP

const char *dg_kind_name(uint32_t kind)
{
  static const char *const names[] = {NULL, "backend", "codec", "crypt", "auth", "meta", "notify"};

  return kind < G_N_ELEMENTS(names) ? names[kind] : NULL;
}

/* Of our own struct; 0: no such plugins yet. */
static size_t ops_size_of(uint32_t kind)
{
  switch (kind) {
  case DG_KIND_BACKEND:
    return sizeof(struct dg_backend_ops);
  case DG_KIND_CODEC:
    return sizeof(struct dg_codec_ops);
  case DG_KIND_CRYPT:
    return sizeof(struct dg_crypt_ops);
  default:
    return 0;
  }
}

static int check_name(const char *name, const char *kind)
{
  size_t kind_len = strlen(kind);

  return name && !strncmp(name, kind, kind_len) && name[kind_len] == '-' && name[kind_len + 1] &&
         !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")];
}

static int check_descriptor(const struct dg_plugin *plugin, const char *file, struct dg_error *err)
{
  const char *kind;

  if (plugin->struct_size < PLUGIN_MIN_SIZE)
    return dg_fail(err, DG_E_CONFIG,
                   "%s: its descriptor says %u bytes, at least %zu are needed: set "
                   ".struct_size = sizeof and rebuild",
                   file, plugin->struct_size, PLUGIN_MIN_SIZE);
  if (plugin->abi_major != DG_ABI_MAJOR)
    return dg_fail(err, DG_E_CONFIG,
                   "%s: built for plugin ABI %u.%u, this server speaks %u.%u: rebuild it against "
                   "this server's deltaglider/plugin.h",
                   file, plugin->abi_major, plugin->abi_minor, DG_ABI_MAJOR, DG_ABI_MINOR);
  kind = dg_kind_name(plugin->kind);
  if (!kind)
    return dg_fail(err, DG_E_CONFIG, "%s: unknown plugin kind %u: use a DG_KIND_* value", file,
                   plugin->kind);
  if (ops_size_of(plugin->kind) == 0)
    return dg_fail(err, DG_E_CONFIG,
                   "%s: plugins of kind %s are reserved; this server loads backend, codec and "
                   "crypt",
                   file, kind);
  if (!check_name(plugin->name, kind))
    return dg_fail(err, DG_E_CONFIG,
                   "%s: bad plugin name '%s': use %s-NAME, lower-case letters, digits and dashes",
                   file, plugin->name ? plugin->name : "(null)", kind);
  if (plugin->threads != DG_THREADS_PARALLEL && plugin->threads != DG_THREADS_SERIAL)
    return dg_fail(err, DG_E_CONFIG,
                   "%s: thread mode %u: say DG_THREADS_PARALLEL or DG_THREADS_SERIAL in .threads",
                   file, plugin->threads);
  if (!plugin->version || !plugin->summary)
    return dg_fail(err, DG_E_CONFIG, "%s: .version or .summary is missing in its descriptor", file);
  if (!plugin->ops)
    return dg_fail(err, DG_E_CONFIG, "%s: .ops is missing in its descriptor", file);
  return 0;
}

static int check_op_rows(const struct dg_module *module, const struct op_row *required,
                         size_t count, struct dg_error *err)
{
  for (size_t i = 0; i < count; i++) {
    void *op;

    memcpy(&op, (const char *)&module->ops + required[i].offset, sizeof op);
    if (!op)
      return dg_fail(err, DG_E_CONFIG,
                     "%s: the required operation '%s' is missing: a %s plugin must implement it",
                     module->file, required[i].name, dg_kind_name(module->plugin.kind));
  }
  return 0;
}

static int check_ops(const struct dg_module *module, struct dg_error *err)
{
  switch (module->plugin.kind) {
  case DG_KIND_BACKEND:
    return check_op_rows(module, backend_required, G_N_ELEMENTS(backend_required), err);
  case DG_KIND_CRYPT:
    if (module->ops.crypt.caps & DG_CAP_SEALS_NATIVELY)
      return check_op_rows(module, native_crypt_required, G_N_ELEMENTS(native_crypt_required),
                           err);
    return check_op_rows(module, crypt_required, G_N_ELEMENTS(crypt_required), err);
  default:
    return check_op_rows(module, codec_required, G_N_ELEMENTS(codec_required), err);
  }
}

/* A promise that needs ops is refused without them. */
static int check_caps(const struct dg_module *module, struct dg_error *err)
{
  if (module->plugin.kind != DG_KIND_BACKEND)
    return 0;
  for (size_t i = 0; i < G_N_ELEMENTS(promised); i++) {
    void *op;

    memcpy(&op, (const char *)&module->ops + promised[i].op.offset, sizeof op);
    if ((module->ops.backend.caps & promised[i].cap) && !op)
      return dg_fail(err, DG_E_CONFIG,
                     "%s: it promises %s without the operation '%s': implement it or drop the "
                     "promise",
                     module->file, promised[i].promise, promised[i].op.name);
  }
  return 0;
}

int dg_module_new(const struct dg_plugin *plugin, const char *file, struct dg_module **ret_module,
                  struct dg_error *err)
{
  struct dg_module *module;
  struct dg_error cause = {0};
  uint32_t ops_size;
  int result;

  if (!plugin)
    return dg_fail(err, DG_E_CONFIG, "%s: its entry function returned no descriptor", file);
  if (check_descriptor(plugin, file, err) < 0)
    return -1;
  memcpy(&ops_size, plugin->ops, sizeof ops_size);
  if (ops_size < OPS_MIN_SIZE)
    return dg_fail(err, DG_E_CONFIG,
                   "%s: its operations table says %u bytes: set .struct_size = sizeof and rebuild",
                   file, ops_size);

  module = g_new0(struct dg_module, 1);
  module->file = g_strdup(file);
  memcpy(&module->plugin, plugin, MIN(plugin->struct_size, sizeof module->plugin));
  memcpy(&module->ops, plugin->ops, MIN(ops_size, ops_size_of(plugin->kind)));
  module->plugin.ops = &module->ops;
  result = check_ops(module, err);
  if (result == 0)
    result = check_caps(module, err);
  if (result == 0 && dg_options_check(module->plugin.options, &cause) < 0)
    result = dg_fail(err, DG_E_CONFIG, "%s: %s: mend its option table", file, cause.detail);
  if (result < 0) {
    dg_module_free(module);
    return -1;
  }
  *ret_module = module;
  return 0;
}

void dg_module_free(struct dg_module *module)
{
  if (!module)
    return;
  g_free(module->file);
  g_free(module);
}
