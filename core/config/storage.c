/* SPDX-License-Identifier: Apache-2.0 */
/* The storage section: backends, and the codecs that buckets use. */
#include <config.h>

#include <stdlib.h>

#include "core/config/internal.h"
#include "core/plug/backend.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

#include "common/banned.h"

/* Of a plugin without options. */
static const struct dg_option no_options[] = {{.name = NULL}};

/* "filesystem" is the name existing deployments use for backend-fs. */
char *dg_plugin_of_backend_type(const char *type)
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

const struct dg_backend_config *dg_snapshot_find_backend(const struct dg_snapshot *snapshot,
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

/* The variables in seconds that all backends of a type hear. Before the file, which
 * says more. */
static int apply_seconds_env(const char *type, const struct dg_option *table,
                             struct dg_config *config, struct dg_error *err)
{
  for (const struct dg_seconds_env *row = dg_schema_seconds_env(); row->name; row++) {
    const char *seconds = getenv(row->name);
    g_autofree char *text = seconds ? g_strconcat(seconds, "s", NULL) : NULL;
    struct dg_error cause = {0};

    if (!text || !*seconds || strcmp(row->type, type) != 0 ||
        !dg_options_find(table, row->option))
      continue;
    if (seconds[strspn(seconds, "0123456789")])
      return dg_fail(err, DG_E_CONFIG, "environment %s: '%.40s' is not a number of seconds",
                     row->name, seconds);
    if (dg_config_set(config, row->option, text, &cause) < 0)
      return dg_fail(err, DG_E_CONFIG, "environment %s: %s", row->name, cause.detail);
  }
  return 0;
}

/* One instance's variables; a plugin with allow_local also hears the one for all. */
static int apply_instance_env(const struct dg_load *load, struct dg_config *config,
                              const struct dg_option *table, struct dg_error *err)
{
  const struct dg_option *allow_local = dg_options_find(table, "allow_local");

  if (allow_local && dg_load_env(load, config, allow_local, "DGP_BACKEND_ALLOW_LOCAL", err) < 0)
    return -1;
  for (const struct dg_option *o = table; o->name; o++) {
    g_autofree char *name = option_env(config->instance_name, o->name);

    if (dg_load_env(load, config, o, name, err) < 0)
      return -1;
  }
  return 0;
}

/* The one backend of type s3 takes each part of itself from the variables of the
 * shorthand. */
static int apply_shorthand_env(const struct dg_load *load, struct dg_config *config,
                               const struct dg_option *table, struct dg_error *err)
{
  for (const struct dg_option *o = dg_schema_options(DG_SECTION_STORAGE); o->name; o++) {
    const char *target = strcmp(o->name, "filesystem") != 0 ? dg_schema_shorthand(o->name) : NULL;
    const struct dg_option *option = target ? dg_options_find(table, target) : NULL;

    if (option &&
        dg_load_env(load, config, option, dg_schema_env(DG_SECTION_STORAGE, o), err) < 0)
      return -1;
  }
  return 0;
}

/* Two names that differ in '-', '.' and case only have the same variables. */
static void warn_shared_env(const struct dg_load *load, const char *name)
{
  g_autofree char *mine = option_env(name, "");

  for (guint i = 0; i < load->snapshot->backends->len; i++) {
    const struct dg_backend_config *other = load->snapshot->backends->pdata[i];
    g_autofree char *theirs = option_env(other->name, "");

    if (!strcmp(mine, theirs))
      dg_load_warn(load->snapshot, "backends '%s' and '%s' share their environment variables %s*",
                   other->name, name, mine);
  }
}

/* ---- Backends ------------------------------------------------------------------------ */

/* Where a backend's options come from. */
struct backend_source {
  const char *name, *type;
  const struct dg_yaml *map; /* or NULL: the command line or the environment alone */
  const char *path;          /* of the map, for messages */
  const char *data_dir;      /* the option `path` besides, or NULL */
  gboolean is_single;        /* the one backend */
};

static int fill_backend(const struct dg_load *load, const struct backend_source *source,
                        const struct dg_option *table, struct dg_config *options,
                        struct dg_error *err)
{
  struct dg_error cause = {0};

  if (!load->params->lint && apply_seconds_env(source->type, table, options, err) < 0)
    return -1;
  if (dg_load_entry(load, DG_SECTION_BACKEND, table, source->path, source->map, options, err) < 0)
    return -1;
  if (source->data_dir && dg_config_set(options, "path", source->data_dir, err) < 0)
    return -1;
  if (!load->params->lint && source->is_single && !strcmp(source->type, "s3") &&
      apply_shorthand_env(load, options, table, err) < 0)
    return -1;
  if (!load->params->lint && apply_instance_env(load, options, table, err) < 0)
    return -1;
  if (dg_config_finish(options, &cause) == 0)
    return 0;
  return source->map ? dg_load_fail(load, source->map, err, "%s: %s", source->path, cause.detail)
                     : dg_fail(err, DG_E_CONFIG, "backend %s: %s", source->name, cause.detail);
}

/* In each entry, or beside the one backend; of that it holds too when the
 * environment or the command line put another in its place. */
static int add_encryption(const struct dg_load *load, const struct backend_source *source,
                          struct dg_backend_config *backend, const struct dg_module *module,
                          struct dg_error *err)
{
  const struct dg_yaml *map = source->map || !source->is_single
                                ? source->map
                                : dg_load_part(load, DG_SECTION_STORAGE, "backend");
  const struct dg_yaml *own = dg_load_entry_part(map, "encryption");
  const struct dg_yaml *beside =
    source->is_single ? dg_load_part(load, DG_SECTION_STORAGE, "backend_encryption") : NULL;
  g_autofree char *path = own || !source->is_single ? g_strconcat(source->path, ".encryption", NULL)
                                                    : g_strdup("storage.backend_encryption");

  if (own && beside)
    return dg_load_fail(load, own, err,
                        "%s and storage.backend_encryption exclude each other: drop one", path);
  return dg_load_encryption(load, backend, module, own ? own : beside, path, source->is_single,
                            err);
}

/* What no look at the storage is needed for: the start tries the rest. */
static int check_instances(const struct dg_load *load, const struct backend_source *source,
                           const struct dg_module *module, struct dg_error *err)
{
  g_autofree char *message = NULL;

  if (load->snapshot->instances <= 1 || dg_backend_module_can_share(module))
    return 0;
  message = g_strdup_printf("backend '%.40s' cannot be shared by %u instances: %s is for one "
                            "server: use an S3 storage with conditional writes, or one server "
                            "with advanced.instances: 1",
                            source->name, load->snapshot->instances, module->plugin.name);
  return source->map ? dg_load_fail(load, source->map, err, "%s", message)
                     : dg_fail(err, DG_E_CONFIG, "%s", message);
}

static int add_backend(const struct dg_load *load, const struct backend_source *source,
                       struct dg_error *err)
{
  g_autofree char *plugin_name = dg_plugin_of_backend_type(source->type);
  const struct dg_option *table;
  const struct dg_module *module;
  struct dg_backend_config *backend;
  struct dg_config *options;
  struct dg_error cause = {0};

  if (dg_snapshot_find_backend(load->snapshot, source->name))
    return dg_load_fail(load, source->map, err, "%s: two backends are named '%s': rename one",
                        source->path, source->name);
  if (dg_plug_load(load->table, plugin_name, &module, &cause) < 0)
    return source->map
             ? dg_load_fail(load, source->map, err, "%s.type: %s", source->path, cause.detail)
             : dg_fail(err, cause.code, "%s", cause.detail);
  if (check_instances(load, source, module, err) < 0)
    return -1;
  warn_shared_env(load, source->name);
  table = module->plugin.options ? module->plugin.options : no_options;
  options = dg_config_new(table, source->name);
  if (fill_backend(load, source, table, options, err) < 0) {
    dg_config_free(options);
    return -1;
  }
  backend = g_new0(struct dg_backend_config, 1);
  backend->name = g_strdup(source->name);
  backend->type = g_strdup(source->type);
  backend->plugin_name = g_steal_pointer(&plugin_name);
  backend->options = options;
  g_ptr_array_add(load->snapshot->backends, backend);
  return add_encryption(load, source, backend, module, err);
}

/* The text of a scalar key, or dflt; an error when it is no scalar. */
static int text_key(const struct dg_load *load, const struct dg_yaml *map, const char *path,
                    const char *key, const char *dflt, const char **ret_text,
                    struct dg_error *err)
{
  const struct dg_yaml *value = dg_yaml_get(map, key);

  if (value && value->type != DG_YAML_SCALAR)
    return dg_load_fail(load, value, err, "%s.%s: plain text is expected here", path, key);
  *ret_text = value && !value->is_null ? value->text : dflt;
  return 0;
}

/* default_name: of the one backend; NULL: it must say its own. */
static int load_backend_map(const struct dg_load *load, const struct dg_yaml *map,
                            const char *path, const char *default_name, struct dg_error *err)
{
  struct backend_source source = {.map = map, .path = path, .is_single = default_name != NULL};

  if (map->type != DG_YAML_MAP)
    return dg_load_fail(load, map, err, "%s: a map with type and options is expected here", path);
  if (text_key(load, map, path, "name", default_name, &source.name, err) < 0 ||
      text_key(load, map, path, "type", NULL, &source.type, err) < 0)
    return -1;
  if (!source.name)
    return dg_load_fail(load, map, err, "%s: its name is missing", path);
  if (!is_instance_name(source.name))
    return dg_load_fail(load, map, err,
                        "%s.name: use 1 to 64 letters, digits, '.', '_' and '-'", path);
  if (!source.type)
    return dg_load_fail(load, map, err, "%s: its type is missing: filesystem, or X for the plugin "
                                        "backend-X",
                        path);
  return add_backend(load, &source, err);
}

static int load_backend_list(const struct dg_load *load, const struct dg_yaml *list,
                             struct dg_error *err)
{
  for (guint i = 0; i < list->values->len; i++) {
    g_autofree char *path = g_strdup_printf("storage.backends[%u]", i);

    if (load_backend_map(load, list->values->pdata[i], path, NULL, err) < 0)
      return -1;
  }
  return 0;
}

/* The one backend that the environment asks for as a whole; its type is NULL if
 * it asks for none. */
static struct backend_source source_of_env(const struct dg_load *load)
{
  struct backend_source source = {
    .name = "default", .path = "storage.backend", .is_single = TRUE};
  const char *endpoint = getenv("DGP_S3_ENDPOINT"), *region = getenv("DGP_S3_REGION");
  const char *data_dir = getenv("DGP_DATA_DIR");

  if (load->params->lint)
    return source;
  if ((endpoint && *endpoint) || (region && *region)) {
    source.type = "s3";
  } else if (data_dir && *data_dir) {
    source.type = "filesystem";
    source.data_dir = data_dir;
  }
  return source;
}

static int load_backends(const struct dg_load *load, struct dg_error *err)
{
  const struct dg_yaml *list = dg_load_part(load, DG_SECTION_STORAGE, "backends");
  const struct dg_yaml *map = dg_load_part(load, DG_SECTION_STORAGE, "backend");
  struct backend_source source = source_of_env(load);

  if (list && list->type != DG_YAML_LIST)
    return dg_load_fail(load, list, err, "storage.backends: a list is expected here");
  if (list && list->values->len > 0) {
    if (map || source.type || dg_load_part(load, DG_SECTION_STORAGE, "backend_encryption"))
      dg_load_warn(load->snapshot, "storage.backends is set: the single backend is ignored");
    return load_backend_list(load, list, err);
  }
  if (load->params->data_dir) {
    source.type = "filesystem";
    source.data_dir = load->params->data_dir;
  } else if (!source.type && map) {
    return load_backend_map(load, map, "storage.backend", "default", err);
  } else if (!source.type) {
    source.type = "filesystem";
    source.data_dir = "./data";
  }
  return add_backend(load, &source, err);
}

static void choose_default_backend(const struct dg_load *load)
{
  const struct dg_config *storage = load->snapshot->options[DG_SECTION_STORAGE];
  const char *name = storage->get_text(storage, "default_backend");
  const struct dg_backend_config *first = load->snapshot->backends->pdata[0];

  if (name && !dg_snapshot_find_backend(load->snapshot, name)) {
    dg_load_warn(load->snapshot, "storage.default_backend: unknown backend '%s': '%s' is used",
                 name, first->name);
    name = NULL;
  }
  load->snapshot->default_backend = g_strdup(name ? name : first->name);
}

/* ---- Codecs ---------------------------------------------------------------------------- */

char *dg_plugin_of_codec(const char *codec)
{
  return g_str_has_prefix(codec, "codec-") ? g_strdup(codec) : g_strconcat("codec-", codec, NULL);
}

/* storage.codecs.NAME of this plugin, or NULL. */
static const struct dg_yaml *codec_map(const struct dg_load *load, const char *plugin_name)
{
  const struct dg_yaml *codecs = dg_load_part(load, DG_SECTION_STORAGE, "codecs");

  for (guint i = 0; codecs && i < codecs->keys->len; i++) {
    g_autofree char *name =
      dg_plugin_of_codec(((const struct dg_yaml *)codecs->keys->pdata[i])->text);

    if (!strcmp(name, plugin_name))
      return codecs->values->pdata[i];
  }
  return NULL;
}

int dg_load_codec(const struct dg_load *load, const char *plugin_name, const char *what,
                  struct dg_error *err)
{
  const struct dg_yaml *map = codec_map(load, plugin_name);
  g_autofree char *path = g_strdup_printf("storage.codecs.%s", plugin_name + strlen("codec-"));
  const struct dg_option *table;
  const struct dg_module *module;
  struct dg_config *options;
  struct dg_error cause = {0};

  if (g_hash_table_contains(load->snapshot->codecs, plugin_name))
    return 0;
  if (dg_plug_load(load->table, plugin_name, &module, &cause) < 0)
    return dg_fail(err, DG_E_CONFIG, "%s: %.200s", what, cause.detail);
  table = module->plugin.options ? module->plugin.options : no_options;
  options = dg_config_new(table, plugin_name);
  if (dg_load_entry(load, DG_SECTION_CODEC, table, path, map, options, err) < 0) {
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

/* Options of a codec that nobody uses may still be for a later bucket. */
static int load_codec_maps(const struct dg_load *load, struct dg_error *err)
{
  const struct dg_yaml *codecs = dg_load_part(load, DG_SECTION_STORAGE, "codecs");

  if (codecs && codecs->type != DG_YAML_MAP)
    return dg_load_fail(load, codecs, err, "storage.codecs: a map of codecs is expected here");
  for (guint i = 0; codecs && i < codecs->keys->len; i++) {
    const struct dg_yaml *key = codecs->keys->pdata[i];
    g_autofree char *name = dg_plugin_of_codec(key->text);
    g_autofree char *what = g_strdup_printf("%s:%u:%u: storage.codecs.%s", load->file, key->line,
                                            key->column, key->text);

    if (codec_map(load, name) != codecs->values->pdata[i])
      return dg_load_fail(load, key, err, "storage.codecs.%s stands here twice", key->text);
    if (dg_load_codec(load, name, what, err) < 0)
      return -1;
  }
  return 0;
}

int dg_load_storage(const struct dg_load *load, struct dg_error *err)
{
  if (load_backends(load, err) < 0 || dg_check_encryption(load, err) < 0)
    return -1;
  choose_default_backend(load);
  if (load_codec_maps(load, err) < 0 ||
      dg_load_codec(load, load->snapshot->bucket_defaults.codec, "advanced.codec", err) < 0)
    return -1;
  return dg_load_buckets(load, err);
}
