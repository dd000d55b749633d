/* SPDX-License-Identifier: Apache-2.0 */
/* storage.backend_encryption and storage.backends[].encryption: a mode, which names
 * the plugin, and that plugin's options. */
#include <config.h>

#include <stdlib.h>

#include "core/config/internal.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

#include "common/banned.h"

/* Reads what was sealed here before, whatever the mode is now. */
#define READER "crypt-aesgcm"

/* What is being loaded. */
struct encryption {
  const struct dg_load *load;
  const struct dg_backend_config *backend;
  const struct dg_yaml *map; /* NULL: none */
  const char *path;          /* of the map, for messages */
  bool is_single;
  struct dg_encryption_config *config;
  const struct dg_module *mode_plugin; /* NULL: mode none */
  GArray *table;             /* struct dg_option */
};

static char *plugin_of_mode(const char *mode)
{
  if (!strcmp(mode, "none"))
    return NULL;
  if (!strcmp(mode, "aes256-gcm-proxy"))
    return g_strdup("crypt-aesgcm");
  if (!strcmp(mode, "sse-kms") || !strcmp(mode, "sse-s3"))
    return g_strdup("crypt-ssekms");
  return g_strconcat("crypt-", mode, NULL);
}

void dg_encryption_config_free(struct dg_encryption_config *config)
{
  if (!config)
    return;
  dg_config_free(config->options);
  g_free(config->table);
  g_free(config->mode);
  g_free(config->crypt);
  g_free(config->native);
  g_free(config);
}

static int fail(const struct encryption *e, const struct dg_yaml *node, struct dg_error *err,
                const char *message)
{
  if (node)
    return dg_load_fail(e->load, node, err, "%s: %.180s", e->path, message);
  return dg_fail(err, DG_E_CONFIG, "%s: %s", e->path, message);
}

/* ---- The environment ---------------------------------------------------------------- */

static const struct {
  const char *option, *name;
} variables[] = {{"key", "ENCRYPTION_KEY"}, {"kms_key_id", "SSE_KMS_KEY_ID"}};

/* DGP_BACKEND_<NAME>_<WHAT>; the single backend also hears DGP_<WHAT>. The name
 * of the one that is set, or NULL. */
static char *variable_set(const struct encryption *e, const char *what)
{
  g_autofree char *upper = g_ascii_strup(e->backend->name, -1);
  char *name;

  if (e->load->params->lint)
    return NULL;
  for (char *c = upper; *c; c++)
    if (*c == '-' || *c == '.')
      *c = '_';
  name = g_strdup_printf("DGP_BACKEND_%s_%s", upper, what);
  if (!(getenv(name) && *getenv(name)) && e->is_single) {
    g_free(name);
    name = g_strdup_printf("DGP_%s", what);
  }
  if (getenv(name) && *getenv(name))
    return name;
  g_free(name);
  return NULL;
}

static int apply_env(const struct encryption *e, struct dg_config *options, struct dg_error *err)
{
  for (size_t i = 0; i < G_N_ELEMENTS(variables); i++) {
    g_autofree char *name = variable_set(e, variables[i].name);
    const struct dg_option *option = dg_options_find(e->config->table, variables[i].option);

    if (name && option && dg_load_env(e->load, options, option, name, err) < 0)
      return -1;
  }
  return 0;
}

/* ---- The table ------------------------------------------------------------------------ */

static bool has_row(const GArray *table, const char *name)
{
  for (guint i = 0; i < table->len; i++)
    if (!strcmp(g_array_index(table, struct dg_option, i).name, name))
      return true;
  return false;
}

static void add_rows(GArray *table, const struct dg_option *rows)
{
  for (; rows && rows->name; rows++)
    if (!has_row(table, rows->name))
      g_array_append_val(table, *rows);
}

/* `key_file` stands for the secret `key`. */
static bool has_key(const GArray *table, const char *key)
{
  g_autofree char *stem =
    g_str_has_suffix(key, "_file") ? g_strndup(key, strlen(key) - strlen("_file")) : NULL;

  return has_row(table, key) || (stem && has_row(table, stem));
}

/* Does the mode's own plugin not know what is given? Then the reader may. */
static bool wants_reader(const struct encryption *e)
{
  g_autofree char *variable = variable_set(e, variables[0].name);

  if (variable && !has_row(e->table, variables[0].option))
    return true;
  for (guint i = 0; e->map && i < e->map->keys->len; i++)
    if (!has_key(e->table, ((const struct dg_yaml *)e->map->keys->pdata[i])->text))
      return true;
  return false;
}

/* Which plugins, and all their options as one table. */
static int choose_plugins(struct encryption *e, const struct dg_yaml *mode, struct dg_error *err)
{
  g_autofree char *name = plugin_of_mode(e->config->mode);
  const struct dg_module *reader;
  struct dg_error cause = {0};

  if (name) {
    if (dg_plug_load(e->load->table, name, &e->mode_plugin, &cause) < 0)
      return fail(e, mode, err, cause.detail);
    if (e->mode_plugin->plugin.kind != DG_KIND_CRYPT)
      return fail(e, mode, err, "the mode names no crypt plugin");
    add_rows(e->table, e->mode_plugin->plugin.options);
  }
  add_rows(e->table, dg_schema_options(DG_SECTION_ENCRYPTION));
  if (e->mode_plugin && !(e->mode_plugin->ops.crypt.caps & DG_CAP_SEALS_NATIVELY)) {
    e->config->crypt = g_steal_pointer(&name);
    return 0;
  }
  e->config->native = g_steal_pointer(&name);
  if (!wants_reader(e))
    return 0;
  if (dg_plug_load(e->load->table, READER, &reader, &cause) < 0)
    return fail(e, mode, err, cause.detail);
  add_rows(e->table, reader->plugin.options);
  e->config->crypt = g_strdup(READER);
  return 0;
}

/* ---- Checks ------------------------------------------------------------------------------ */

static bool is_set(const struct dg_config *options, const char *name)
{
  const char *text = options->get_text(options, name);

  return text && *text;
}

static bool is_key_id(const char *id)
{
  return *id && strlen(id) <= 64 &&
         !id[strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")];
}

static void check_key_ids(const struct encryption *e)
{
  static const char *const names[] = {"key_id", "legacy_key_id"};
  const struct dg_config *options = e->config->options;

  for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
    if (is_set(options, names[i]) && !is_key_id(options->get_text(options, names[i])))
      dg_load_warn(e->load->snapshot,
                   "backend '%s' encryption %s should be 1 to 64 letters, digits, '.', '_' and '-'",
                   e->backend->name, names[i]);
}

/* Decides what happens to writes, and tells of what looks like a mistake. */
static void check_key(const struct encryption *e)
{
  struct dg_encryption_config *config = e->config;
  g_autofree char *variable = variable_set(e, variables[0].name);
  bool allows_plain = config->options->get_bool(config->options, "allow_plaintext_writes");
  const struct dg_yaml *key = e->map ? dg_yaml_get(e->map, "key") : NULL;

  config->seals_writes = e->mode_plugin && config->crypt && !config->native;
  if (config->seals_writes && dg_options_find(config->table, "key") &&
      !is_set(config->options, "key")) {
    dg_load_warn(e->load->snapshot,
                 "backend '%s' has encryption mode %s but no key is configured: %s",
                 e->backend->name, config->mode,
                 allows_plain ? "what is written stays plaintext" : "writes are refused");
    config->seals_writes = !allows_plain;
  }
  if (key && !key->is_null && !variable)
    dg_load_warn(e->load->snapshot,
                 "backend '%s' encryption key was loaded from config file (not "
                 "DGP_*_ENCRYPTION_KEY)",
                 e->backend->name);
}

/* ---- Loading ------------------------------------------------------------------------------ */

/* Those that no plugin has to know. */
static int load_own(const struct encryption *e, struct dg_error *err)
{
  for (const struct dg_option *o = dg_schema_options(DG_SECTION_ENCRYPTION); o->name; o++) {
    const struct dg_yaml *node = dg_load_entry_part(e->map, o->name);
    struct dg_error cause = {0};

    if (node && node->type != DG_YAML_SCALAR)
      return fail(e, node, err, "plain text is expected here");
    if (node && dg_config_set(e->config->options, o->name, node->text, &cause) < 0)
      return fail(e, node, err, cause.detail);
  }
  return 0;
}

static int load_options(struct encryption *e, struct dg_error *err)
{
  struct dg_encryption_config *config = e->config;
  struct dg_error cause = {0};

  config->table = g_new0(struct dg_option, e->table->len + 1);
  memcpy(config->table, e->table->data, e->table->len * sizeof config->table[0]);
  config->options = dg_config_new(config->table, e->backend->name);
  if (dg_load_entry(e->load, DG_SECTION_ENCRYPTION, config->table, e->path, e->map,
                    config->options, err) < 0 ||
      load_own(e, err) < 0)
    return -1;
  if (apply_env(e, config->options, err) < 0)
    return -1;
  return dg_config_finish(config->options, &cause) < 0 ? fail(e, e->map, err, cause.detail) : 0;
}

static int load_mode(struct encryption *e, const struct dg_yaml **ret_mode, struct dg_error *err)
{
  const struct dg_yaml *mode = e->map ? dg_yaml_get(e->map, "mode") : NULL;

  if (mode && mode->type != DG_YAML_SCALAR)
    return fail(e, mode, err, "its mode is plain text: none, aes256-gcm-proxy, sse-kms, sse-s3");
  e->config->mode = g_strdup(mode && !mode->is_null ? mode->text : "none");
  *ret_mode = mode ? mode : e->map;
  return 0;
}

static int load_all(struct encryption *e, const struct dg_module *backend_plugin,
                    struct dg_error *err)
{
  const struct dg_yaml *mode = NULL;

  if (e->map && e->map->type != DG_YAML_MAP)
    return fail(e, e->map, err, "a map with a mode and its options is expected here");
  if (load_mode(e, &mode, err) < 0 || choose_plugins(e, mode, err) < 0 ||
      load_options(e, err) < 0)
    return -1;
  if (e->config->native && !(backend_plugin->ops.backend.caps & DG_CAP_NATIVE_SEAL)) {
    g_autofree char *message = g_strdup_printf(
      "mode %s needs a storage that encrypts by itself, which type %s is not: use "
      "aes256-gcm-proxy or none",
      e->config->mode, e->backend->type);

    return fail(e, mode, err, message);
  }
  check_key_ids(e);
  check_key(e);
  return 0;
}

int dg_load_encryption(const struct dg_load *load, struct dg_backend_config *backend,
                       const struct dg_module *backend_plugin, const struct dg_yaml *map,
                       const char *path, bool is_single, struct dg_error *err)
{
  struct encryption e = {.load = load,
                         .backend = backend,
                         .map = map && map->is_null ? NULL : map,
                         .path = path,
                         .is_single = is_single};
  g_autofree char *variable = variable_set(&e, variables[0].name);
  int result;

  if (!e.map && !variable)
    return 0;
  e.config = g_new0(struct dg_encryption_config, 1);
  e.table = g_array_new(FALSE, FALSE, sizeof(struct dg_option));
  result = load_all(&e, backend_plugin, err);
  g_array_unref(e.table);
  if (result < 0) {
    dg_encryption_config_free(e.config);
    return -1;
  }
  backend->encryption = e.config;
  return 0;
}

/* ---- For exports ----------------------------------------------------------------------------- */

static bool knows(const struct dg_option *table, const struct dg_yaml *map)
{
  for (guint i = 0; i < map->keys->len; i++) {
    const char *key = ((const struct dg_yaml *)map->keys->pdata[i])->text;

    if (!dg_options_find(table, key) && !dg_load_secret_of_file_key(table, key))
      return false;
  }
  return true;
}

const struct dg_option *dg_encryption_table(const struct dg_snapshot *snapshot,
                                            const struct dg_yaml *map)
{
  const struct dg_yaml *mode = dg_load_entry_part(map, "mode");

  for (guint i = 0; i < snapshot->backends->len; i++) {
    const struct dg_backend_config *backend = snapshot->backends->pdata[i];
    const struct dg_encryption_config *encryption = backend->encryption;

    if (encryption && !strcmp(encryption->mode, mode ? mode->text : "none") &&
        knows(encryption->table, map))
      return encryption->table;
  }
  return NULL;
}

/* ---- Across backends ----------------------------------------------------------------------- */

static const struct dg_config *options_of(const struct dg_snapshot *snapshot, guint number)
{
  const struct dg_backend_config *backend = snapshot->backends->pdata[number];

  return backend->encryption ? backend->encryption->options : NULL;
}

/* Two keys under one id: what one wrote, the other would take for damaged. */
static bool keys_clash(const struct dg_config *a, const struct dg_config *b)
{
  return a && b && is_set(a, "key_id") && is_set(b, "key_id") && is_set(a, "key") &&
         is_set(b, "key") && !strcmp(a->get_text(a, "key_id"), b->get_text(b, "key_id")) &&
         g_ascii_strcasecmp(a->get_text(a, "key"), b->get_text(b, "key")) != 0;
}

int dg_check_encryption(const struct dg_load *load, struct dg_error *err)
{
  const struct dg_snapshot *snapshot = load->snapshot;

  for (guint i = 0; i < snapshot->backends->len; i++)
    for (guint j = i + 1; j < snapshot->backends->len; j++) {
      const struct dg_backend_config *a = snapshot->backends->pdata[i];
      const struct dg_backend_config *b = snapshot->backends->pdata[j];

      if (keys_clash(options_of(snapshot, i), options_of(snapshot, j)))
        return dg_fail(err, DG_E_CONFIG,
                       "%s: backends %s and %s share key_id but declare DIFFERENT keys: give each "
                       "key an id of its own",
                       load->file, a->name, b->name);
    }
  return 0;
}
