/* SPDX-License-Identifier: Apache-2.0 */
/* The storage section: backends, the codecs that buckets use, buckets. */
#include <config.h>

#include <stdlib.h>

#include "core/config/internal.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

#include "common/banned.h"

/* "filesystem" is the name existing deployments use for backend-fs. */
static char *plugin_of_type(const char *type)
{
  if (!strcmp(type, "filesystem"))
    return g_strdup("backend-fs");
  return g_strconcat("backend-", type, NULL);
}

static gboolean is_instance_name(const char *name)
{
  return *name && strlen(name) <= 64 &&
         !name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")];
}

static const struct dg_backend_config *find_backend(const struct dg_snapshot *snapshot,
                                                    const char *name)
{
  for (guint i = 0; i < snapshot->backends->len; i++) {
    const struct dg_backend_config *backend = snapshot->backends->pdata[i];

    if (!strcmp(backend->name, name))
      return backend;
  }
  return NULL;
}

/* DGP_BACKEND_<NAME>_<OPTION>: upper case, '-' and '.' as '_'. */
static char *option_env(const char *instance, const char *option)
{
  g_autofree char *name = g_strdup_printf("DGP_BACKEND_%s_%s", instance, option);

  for (char *c = name; *c; c++)
    if (*c == '-' || *c == '.')
      *c = '_';
  return g_ascii_strup(name, -1);
}

static int apply_plugin_env(struct dg_config *config, const struct dg_option *table,
                            struct dg_error *err)
{
  for (const struct dg_option *o = table; o && o->name; o++) {
    g_autofree char *name = option_env(config->instance_name, o->name);
    const char *text = getenv(name);
    struct dg_error cause = {0};

    if (text && *text && dg_config_set(config, o->name, text, &cause) < 0)
      return dg_fail(err, DG_E_CONFIG, "environment %s: %s", name, cause.detail);
  }
  return 0;
}

/* ---- Backends ------------------------------------------------------------------------ */

/* Adds one backend. map may be NULL (shorthand); path is for messages. */
static int add_backend(struct dg_load *load, const char *name, const char *type,
                       const struct dg_yaml *map, const char *path, const char *root,
                       struct dg_error *err)
{
  g_autofree char *plugin_name = plugin_of_type(type);
  const struct dg_module *module;
  struct dg_backend_config *backend;
  struct dg_config *options;
  struct dg_error cause = {0};
  int result = 0;

  if (find_backend(load->snapshot, name))
    return dg_fail(err, DG_E_CONFIG, "%s: two backends are named '%s': rename one", load->file,
                   name);
  if (dg_plug_load(load->table, plugin_name, &module, &cause) < 0)
    return map ? dg_load_fail(load, map, err, "%s.type: %s", path, cause.detail)
               : dg_fail(err, cause.code, "%s", cause.detail);
  options = dg_config_new(module->plugin.options, name);
  for (guint i = 0; map && result == 0 && i < map->keys->len; i++) {
    const struct dg_yaml *key = map->keys->pdata[i];
    const char *unsupported = dg_schema_unsupported("storage.backend", key->text);

    if (!strcmp(key->text, "type") || !strcmp(key->text, "name"))
      continue;
    if (unsupported && !dg_options_find(module->plugin.options, key->text))
      result = dg_load_fail(load, key, err, "%s.%s: %s", path, key->text, unsupported);
    else
      result = dg_load_option(load, options, path, module->plugin.options, key,
                              map->values->pdata[i], err);
  }
  if (result == 0 && root)
    result = dg_config_set(options, "path", root, err);
  if (result == 0 && !load->params->lint)
    result = apply_plugin_env(options, module->plugin.options, err);
  if (result == 0 && dg_config_finish(options, &cause) < 0)
    result = map ? dg_load_fail(load, map, err, "%s: %s", path, cause.detail)
                 : dg_fail(err, DG_E_CONFIG, "backend %s: %s", name, cause.detail);
  if (result < 0) {
    dg_config_free(options);
    return -1;
  }
  backend = g_new0(struct dg_backend_config, 1);
  backend->name = g_strdup(name);
  backend->type = g_strdup(type);
  backend->plugin_name = g_steal_pointer(&plugin_name);
  backend->options = options;
  g_ptr_array_add(load->snapshot->backends, backend);
  return 0;
}

/* The text of a scalar key, or dflt; an error when it is no scalar. */
static int text_key(struct dg_load *load, const struct dg_yaml *map, const char *path,
                    const char *key, const char *dflt, const char **ret_text,
                    struct dg_error *err)
{
  const struct dg_yaml *value = dg_yaml_get(map, key);

  if (value && value->type != DG_YAML_SCALAR)
    return dg_load_fail(load, value, err, "%s.%s: plain text is expected here", path, key);
  *ret_text = value && !value->is_null ? value->text : dflt;
  return 0;
}

static int load_backend_map(struct dg_load *load, const struct dg_yaml *map, const char *path,
                            const char *default_name, struct dg_error *err)
{
  const char *name = NULL, *type = NULL;

  if (map->type != DG_YAML_MAP)
    return dg_load_fail(load, map, err, "%s: a map with type and options is expected here", path);
  if (text_key(load, map, path, "name", default_name, &name, err) < 0 ||
      text_key(load, map, path, "type", NULL, &type, err) < 0)
    return -1;
  if (!name)
    return dg_load_fail(load, map, err, "%s: its name is missing", path);
  if (!is_instance_name(name))
    return dg_load_fail(load, map, err,
                        "%s.name: use 1 to 64 letters, digits, '.', '_' and '-'", path);
  if (!type)
    return dg_load_fail(load, map, err, "%s: its type is missing: filesystem, or X for the plugin "
                                        "backend-X",
                        path);
  return add_backend(load, name, type, map, path, NULL, err);
}

static int load_backend_list(struct dg_load *load, const struct dg_yaml *list,
                             struct dg_error *err)
{
  if (list->type != DG_YAML_LIST)
    return dg_load_fail(load, list, err, "storage.backends: a list is expected here");
  for (guint i = 0; i < list->values->len; i++) {
    g_autofree char *path = g_strdup_printf("storage.backends[%u]", i);

    if (load_backend_map(load, list->values->pdata[i], path, NULL, err) < 0)
      return -1;
  }
  return 0;
}

static gboolean has_dotdot(const char *path)
{
  g_auto(GStrv) parts = g_strsplit(path, "/", -1);

  return g_strv_contains((const char *const *)parts, "..");
}

static int load_backends(struct dg_load *load, struct dg_error *err)
{
  const struct dg_config *storage = load->sections[DG_SECTION_STORAGE];
  const char *root = storage->get_text(storage, "filesystem");
  const char *from_env = load->params->lint ? NULL : getenv("DGP_DATA_DIR");
  gboolean overridden = load->params->data_dir || (from_env && *from_env);

  if (load->backends && load->backends->type == DG_YAML_LIST && load->backends->values->len > 0) {
    if (root || load->backend)
      dg_load_warn(load->snapshot, "storage.backends is set: the single backend is ignored");
    return load_backend_list(load, load->backends, err);
  }
  if (load->backends && load->backends->type != DG_YAML_LIST)
    return load_backend_list(load, load->backends, err);
  if (root && load->backend && !overridden)
    return dg_load_fail(load, load->backend, err,
                        "storage.backend and storage.filesystem exclude each other: drop one");
  if (load->backend && !overridden)
    return load_backend_map(load, load->backend, "storage.backend", "default", err);
  if (root && !overridden && has_dotdot(root))
    return dg_fail(err, DG_E_CONFIG, "%s: storage.filesystem: '..' is not allowed in '%s'",
                   load->file, root);
  return add_backend(load, "default", "filesystem", NULL, "storage.filesystem",
                     root ? root : "./data", err);
}

static int choose_default_backend(struct dg_load *load)
{
  const struct dg_config *storage = load->sections[DG_SECTION_STORAGE];
  const char *name = storage->get_text(storage, "default_backend");
  const struct dg_backend_config *first = load->snapshot->backends->pdata[0];

  if (name && !find_backend(load->snapshot, name)) {
    dg_load_warn(load->snapshot, "storage.default_backend: unknown backend '%s': '%s' is used",
                 name, first->name);
    name = NULL;
  }
  load->snapshot->default_backend = g_strdup(name ? name : first->name);
  return 0;
}

/* ---- Codecs ---------------------------------------------------------------------------- */

static char *codec_plugin(const char *name)
{
  return g_str_has_prefix(name, "codec-") ? g_strdup(name) : g_strconcat("codec-", name, NULL);
}

/* storage.codecs.NAME of this plugin, or NULL. */
static const struct dg_yaml *codec_map(const struct dg_load *load, const char *plugin_name)
{
  for (guint i = 0; load->codecs && i < load->codecs->keys->len; i++) {
    g_autofree char *name =
      codec_plugin(((const struct dg_yaml *)load->codecs->keys->pdata[i])->text);

    if (!strcmp(name, plugin_name))
      return load->codecs->values->pdata[i];
  }
  return NULL;
}

/* Loads a codec's options once; what names it, for messages. */
static int need_codec(struct dg_load *load, const char *plugin_name, const char *what,
                      struct dg_error *err)
{
  const struct dg_yaml *map = codec_map(load, plugin_name);
  g_autofree char *path = g_strdup_printf("storage.codecs.%s", plugin_name + strlen("codec-"));
  const struct dg_module *module;
  struct dg_config *options;
  struct dg_error cause = {0};

  if (g_hash_table_contains(load->snapshot->codecs, plugin_name))
    return 0;
  if (dg_plug_load(load->table, plugin_name, &module, &cause) < 0)
    return dg_fail(err, DG_E_CONFIG, "%s: %.200s", what, cause.detail);
  if (map && !map->is_null && map->type != DG_YAML_MAP)
    return dg_load_fail(load, map, err, "%s: a map of options is expected here", path);
  options = dg_config_new(module->plugin.options, plugin_name);
  for (guint i = 0; map && map->keys && i < map->keys->len; i++)
    if (dg_load_option(load, options, path, module->plugin.options, map->keys->pdata[i],
                       map->values->pdata[i], err) < 0) {
      dg_config_free(options);
      return -1;
    }
  if (dg_config_finish(options, &cause) < 0) {
    dg_config_free(options);
    return dg_fail(err, DG_E_CONFIG, "%s: %s", path, cause.detail);
  }
  g_hash_table_insert(load->snapshot->codecs, g_strdup(plugin_name), options);
  return 0;
}

/* Options of a codec that nobody uses are a mistake in one name or the other. */
static int check_codec_maps(struct dg_load *load, struct dg_error *err)
{
  if (load->codecs && load->codecs->type != DG_YAML_MAP)
    return dg_load_fail(load, load->codecs, err, "storage.codecs: a map of codecs is expected "
                                                 "here");
  for (guint i = 0; load->codecs && i < load->codecs->keys->len; i++) {
    const struct dg_yaml *key = load->codecs->keys->pdata[i];
    g_autofree char *name = codec_plugin(key->text);
    g_autofree char *what = g_strdup_printf("storage.codecs.%s", key->text);

    if (need_codec(load, name, what, err) < 0)
      return -1;
  }
  return 0;
}

/* ---- Buckets ----------------------------------------------------------------------------- */

static void apply_ratio(struct dg_load *load, const struct dg_config *options,
                        struct dg_bucket_config *bucket)
{
  double ratio = options->get_double(options, "max_delta_ratio");
  gboolean wants = dg_config_is_set(options, "compression") &&
                   options->get_bool(options, "compression");

  bucket->max_delta_ratio = load->snapshot->max_delta_ratio;
  bucket->compression = bucket->max_delta_ratio > 0;
  if (dg_config_is_set(options, "max_delta_ratio")) {
    if (ratio >= 0 && ratio <= 1) {
      bucket->max_delta_ratio = ratio;
      bucket->compression = ratio > 0;
    } else {
      dg_load_warn(load->snapshot, "storage.buckets.%s.max_delta_ratio is outside 0..1: ignored",
                   bucket->name);
    }
  } else if (wants && bucket->max_delta_ratio <= 0) {
    bucket->max_delta_ratio = 0.75; /* asked for here, off elsewhere */
    bucket->compression = true;
  }
  if (dg_config_is_set(options, "compression") && !wants)
    bucket->compression = false;
}

static int apply_route(struct dg_load *load, const struct dg_yaml *key,
                       const struct dg_config *options, struct dg_bucket_config *bucket,
                       struct dg_error *err)
{
  const struct dg_config *storage = load->sections[DG_SECTION_STORAGE];
  const char *backend = options->get_text(options, "backend");

  bucket->alias = g_strdup(options->get_text(options, "alias"));
  if (!backend)
    return 0;
  if (find_backend(load->snapshot, backend)) {
    bucket->backend = g_strdup(backend);
    return 0;
  }
  if (storage->get_bool(storage, "strict_routes"))
    return dg_load_fail(load, key, err, "bucket '%s' routes to unknown backend '%s'", bucket->name,
                        backend);
  dg_load_warn(load->snapshot,
               "bucket '%s' routes to unknown backend '%s' — route will be ignored", bucket->name,
               backend);
  return 0;
}

static int fill_bucket(struct dg_load *load, const struct dg_yaml *key,
                       const struct dg_config *options, struct dg_bucket_config *bucket,
                       struct dg_error *err)
{
  const struct dg_bucket_config *defaults = &load->snapshot->bucket_defaults;
  g_autofree char *what = g_strdup_printf("storage.buckets.%s.codec", bucket->name);

  apply_ratio(load, options, bucket);
  bucket->delta_suffixes = dg_config_is_set(options, "delta_suffixes")
                             ? dg_split_list(options->get_text(options, "delta_suffixes"))
                             : g_strdupv(defaults->delta_suffixes);
  bucket->codec = dg_config_is_set(options, "codec")
                    ? codec_plugin(options->get_text(options, "codec"))
                    : g_strdup(defaults->codec);
  bucket->verify_passthrough_reads = dg_config_is_set(options, "verify_passthrough_reads")
                                       ? options->get_bool(options, "verify_passthrough_reads")
                                       : defaults->verify_passthrough_reads;
  if (need_codec(load, bucket->codec, what, err) < 0)
    return -1;
  return apply_route(load, key, options, bucket, err);
}

static int load_bucket(struct dg_load *load, const struct dg_yaml *key, const struct dg_yaml *map,
                       struct dg_error *err)
{
  const struct dg_option *table = dg_schema_options(DG_SECTION_BUCKET);
  struct dg_bucket_config *bucket = g_new0(struct dg_bucket_config, 1);
  g_autofree char *path = NULL;
  struct dg_config *options;
  int result = 0;

  bucket->name = g_ascii_strdown(key->text, -1);
  path = g_strdup_printf("storage.buckets.%s", bucket->name);
  options = dg_config_new(table, bucket->name);
  if (map->type != DG_YAML_MAP && !map->is_null)
    result = dg_load_fail(load, map, err, "%s: a map of options is expected here", path);
  if (g_hash_table_contains(load->snapshot->buckets, bucket->name))
    result = dg_load_fail(load, key, err, "%s stands here twice", path);
  for (guint i = 0; result == 0 && map->keys && i < map->keys->len; i++) {
    const struct dg_yaml *name = map->keys->pdata[i];
    const char *unsupported = dg_schema_unsupported("storage.bucket", name->text);

    result = unsupported
               ? dg_load_fail(load, name, err, "%s.%s: %s", path, name->text, unsupported)
               : dg_load_option(load, options, path, table, name, map->values->pdata[i], err);
  }
  if (result == 0)
    result = fill_bucket(load, key, options, bucket, err);
  dg_config_free(options);
  /* The table owns it from here, complete or not: the snapshot frees both. */
  if (result == 0 || !g_hash_table_contains(load->snapshot->buckets, bucket->name)) {
    g_hash_table_insert(load->snapshot->buckets, bucket->name, bucket);
  } else {
    g_free(bucket->name);
    g_free(bucket);
  }
  return result;
}

int dg_load_storage(struct dg_load *load, struct dg_error *err)
{
  if (load_backends(load, err) < 0 || choose_default_backend(load) < 0)
    return -1;
  if (check_codec_maps(load, err) < 0 ||
      need_codec(load, load->snapshot->bucket_defaults.codec, "advanced.codec", err) < 0)
    return -1;
  if (load->buckets && load->buckets->type != DG_YAML_MAP)
    return dg_load_fail(load, load->buckets, err, "storage.buckets: a map of buckets is expected "
                                                  "here");
  for (guint i = 0; load->buckets && i < load->buckets->keys->len; i++)
    if (load_bucket(load, load->buckets->keys->pdata[i], load->buckets->values->pdata[i], err) < 0)
      return -1;
  return 0;
}
