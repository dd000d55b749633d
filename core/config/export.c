/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical export: the file's own document, walked with the option tables,
 * without defaults and without what the tier keeps back. */
#include <config.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

struct export {
  const struct dg_snapshot *snapshot;
  enum dg_export_tier tier;
};

/* ---- Values ------------------------------------------------------------------------- */

static char *unit_text(int64_t number, const char *const *units, const int64_t *factors,
                       size_t count)
{
  for (size_t i = count; i-- > 0;)
    if (number != 0 && number % factors[i] == 0)
      return g_strdup_printf("%" G_GINT64_FORMAT "%s", number / factors[i], units[i]);
  return g_strdup_printf("%" G_GINT64_FORMAT "%s", number, units[0]);
}

static char *size_text(int64_t bytes)
{
  static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
  static const int64_t factors[] = {1, INT64_C(1) << 10, INT64_C(1) << 20, INT64_C(1) << 30,
                                    INT64_C(1) << 40};

  return unit_text(bytes, units, factors, G_N_ELEMENTS(units));
}

static char *duration_text(int64_t ms)
{
  static const char *const units[] = {"ms", "s", "m", "h", "d"};
  static const int64_t factors[] = {1, 1000, 60000, 3600000, 86400000};

  return unit_text(ms, units, factors, G_N_ELEMENTS(units));
}

/* The shortest text that reads back as the same number. */
static char *double_text(double real)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];

  for (int digits = 1; digits <= 17; digits++) {
    g_autofree char *format = g_strdup_printf("%%.%dg", digits);

    (void)g_ascii_formatd(text, sizeof text, format, real);
    if (!(g_ascii_strtod(text, NULL) < real) && !(g_ascii_strtod(text, NULL) > real))
      break;
  }
  return g_strdup(text);
}

/* One spelling for each value; NULL: text, as it was written. */
static char *typed_text(const struct dg_option *option, const struct dg_option_value *value)
{
  switch (option->type) {
  case DG_OPT_BOOL:
    return g_strdup(value->number ? "true" : "false");
  case DG_OPT_INT:
    return g_strdup_printf("%" G_GINT64_FORMAT, value->number);
  case DG_OPT_SIZE:
    return size_text(value->number);
  case DG_OPT_DURATION:
    return duration_text(value->number);
  case DG_OPT_DOUBLE:
    return double_text(value->real);
  case DG_OPT_ENUM:
    return g_strdup(value->text); /* true stands for on */
  default:
    return NULL;
  }
}

static struct dg_yaml *verbatim(const struct dg_yaml *at, const char *text)
{
  struct dg_yaml *node = dg_yaml_new_text(at, text);

  node->is_verbatim = TRUE;
  return node;
}

/* A scalar as itself, or with the references as the file has them. */
static struct dg_yaml *plain_copy(const struct dg_yaml *node)
{
  return node->ref ? verbatim(node, node->ref) : dg_yaml_new_text(node, node->text);
}

static struct dg_yaml *list_copy(const struct dg_yaml *node)
{
  struct dg_yaml *list = dg_yaml_new_list(node);
  g_auto(GStrv) words = NULL;

  if (node->type == DG_YAML_LIST) {
    for (guint i = 0; i < node->values->len; i++)
      if (((const struct dg_yaml *)node->values->pdata[i])->type == DG_YAML_SCALAR)
        g_ptr_array_add(list->values, plain_copy(node->values->pdata[i]));
    return list;
  }
  words = g_strsplit(node->text, ",", -1);
  for (char **word = words; *word; word++)
    g_ptr_array_add(list->values, dg_yaml_new_text(node, g_strstrip(*word)));
  return list;
}

static char *joined(const struct dg_yaml *list)
{
  GString *text = g_string_new(NULL);

  for (guint i = 0; i < list->values->len; i++)
    g_string_append_printf(text, "%s%s", i > 0 ? "," : "",
                           ((const struct dg_yaml *)list->values->pdata[i])->text);
  return g_string_free(text, FALSE);
}

/* The canonical node of one option; NULL if it says what holds anyway. */
static struct dg_yaml *option_copy(const struct dg_option *option, const struct dg_yaml *node)
{
  struct dg_option_value value = {0}, dflt = {0};
  struct dg_yaml *copy = NULL;
  struct dg_error err = {0};
  g_autofree char *text = NULL, *dflt_text = NULL;

  if (node->type == DG_YAML_LIST || (dg_schema_is_list(option) && !node->ref)) {
    copy = list_copy(node);
    text = joined(copy);
    if (option->dflt && !g_ascii_strcasecmp(text, option->dflt))
      g_clear_pointer(&copy, dg_yaml_free);
    return copy;
  }
  if (node->ref)
    return plain_copy(node);
  if (dg_option_parse(option, node->text, &value, &err) < 0)
    return plain_copy(node); /* not loaded: the environment was used instead */
  text = typed_text(option, &value);
  if (option->dflt && dg_option_parse(option, option->dflt, &dflt, &err) == 0) {
    dflt_text = typed_text(option, &dflt);
    if (!strcmp(text ? text : node->text, dflt_text ? dflt_text : option->dflt))
      goto out;
  }
  if (option->type == DG_OPT_ENUM)
    copy = dg_yaml_new_text(node, text);
  else
    copy = text ? verbatim(node, text) : plain_copy(node);
out:
  dg_option_value_clear(option, &value);
  dg_option_value_clear(option, &dflt);
  return copy;
}

/* ---- What is kept back -------------------------------------------------------------------- */

/* Nothing of the value itself: what stands beside a reference, or its default, is
 * as secret as the whole. */
static gboolean is_reference(const struct dg_yaml *node)
{
  return node->type == DG_YAML_SCALAR && node->is_only_refs;
}

/* Credentials of the server and of backends leave with the API tier; any other
 * secret, such as a key that seals objects, already with the canonical one. */
static gboolean is_kept_back(const struct export *export, enum dg_section section,
                             const struct dg_option *option, const struct dg_yaml *node)
{
  gboolean is_credential = section == DG_SECTION_ACCESS || section == DG_SECTION_BACKEND;

  if (is_reference(node))
    return FALSE;
  if (node->is_forgotten)
    return TRUE; /* what is left of it is no secret and none that could be loaded */
  if (export->tier == DG_EXPORT_PERSIST)
    return FALSE;
  if (option->type == DG_OPT_SECRET)
    return export->tier == DG_EXPORT_API || !is_credential;
  /* The other half of the pair. */
  return export->tier == DG_EXPORT_API && !strcmp(option->name, "access_key_id");
}

/* ---- Maps ----------------------------------------------------------------------------------- */

static struct dg_yaml *entry_copy(const struct export *export, enum dg_section section,
                                  const char *name, const struct dg_yaml *map);

static void put(struct dg_yaml *map, const char *key, struct dg_yaml *value)
{
  dg_yaml_put(map, dg_yaml_new_text(value, key), value);
}

static struct dg_yaml *part_copy(const struct export *export, const struct dg_part *part,
                                 const struct dg_yaml *node)
{
  struct dg_yaml *copy;

  switch (part->shape) {
  case DG_PART_LIST:
    copy = dg_yaml_new_list(node);
    for (guint i = 0; i < node->values->len; i++)
      g_ptr_array_add(copy->values,
                      entry_copy(export, part->entry, NULL, node->values->pdata[i]));
    return copy;
  case DG_PART_NAMED:
    copy = dg_yaml_new_map(node);
    for (guint i = 0; i < node->keys->len; i++) {
      const struct dg_yaml *key = node->keys->pdata[i];
      g_autofree char *name = part->entry == DG_SECTION_BUCKET ? g_ascii_strdown(key->text, -1)
                                                               : g_strdup(key->text);
      struct dg_yaml *value = entry_copy(export, part->entry, name, node->values->pdata[i]);

      dg_yaml_put(copy, key->ref ? plain_copy(key) : dg_yaml_new_text(value, name), value);
    }
    return copy;
  case DG_PART_MAP:
    break;
  }
  return entry_copy(export, part->entry, NULL, node);
}

const struct dg_option *dg_document_table(const struct dg_snapshot *snapshot,
                                          enum dg_section section, const char *name,
                                          const struct dg_yaml *map)
{
  if (section == DG_SECTION_CODEC) {
    g_autofree char *plugin_name = dg_plugin_of_codec(name);
    const struct dg_config *options = g_hash_table_lookup(snapshot->codecs, plugin_name);

    return options ? dg_config_table(options) : NULL;
  }
  if (section == DG_SECTION_ENCRYPTION)
    return dg_encryption_table(snapshot, map);
  if (section == DG_SECTION_BACKEND) {
    const struct dg_yaml *type = dg_load_entry_part(map, "type");

    for (guint i = 0; type && i < snapshot->backends->len; i++) {
      const struct dg_backend_config *backend = snapshot->backends->pdata[i];

      if (!g_strcmp0(backend->type, type->text) && backend->options)
        return dg_config_table(backend->options);
    }
  }
  return NULL;
}

static void copy_key(const struct export *export, enum dg_section section,
                     const struct dg_option *plugin, const struct dg_yaml *key,
                     const struct dg_yaml *value, struct dg_yaml *copy)
{
  const struct dg_part *part = dg_schema_part(section, key->text);
  const struct dg_option *own = dg_schema_options(section);
  const struct dg_option *option = dg_options_find(plugin, key->text);
  struct dg_yaml *node;

  if (!option)
    option = dg_options_find(own, key->text);
  /* A map where none belongs was not loaded: something else took its place. */
  if (value->is_null || (value->type == DG_YAML_MAP && !part))
    return;
  if (part) {
    node = part_copy(export, part, value);
    if (part->shape == DG_PART_MAP && node->type == DG_YAML_MAP && node->keys->len == 0)
      g_clear_pointer(&node, dg_yaml_free);
  } else if (option) {
    node = is_kept_back(export, section, option, value) ? NULL : option_copy(option, value);
  } else if (value->type == DG_YAML_SCALAR && (!value->is_forgotten || is_reference(value)) &&
             (dg_load_secret_of_file_key(plugin ? plugin : own, key->text) ||
              export->tier == DG_EXPORT_PERSIST)) {
    node = plain_copy(value); /* a path, or an option of a plugin that is not loaded */
  } else {
    node = NULL;
  }
  if (node)
    put(copy, key->text, node);
}

/* `public_prefixes: [""]` and `public: true` are one thing. */
static void unify_public(struct dg_yaml *bucket)
{
  for (guint i = 0; i < bucket->keys->len; i++) {
    const struct dg_yaml *key = bucket->keys->pdata[i], *list = bucket->values->pdata[i];
    struct dg_yaml *old_key, *old_value;

    if (strcmp(key->text, "public_prefixes") != 0 || list->type != DG_YAML_LIST ||
        list->values->len != 1 || *((const struct dg_yaml *)list->values->pdata[0])->text)
      continue;
    dg_yaml_take(bucket, i, &old_key, &old_value);
    if (!dg_yaml_get(bucket, "public"))
      put(bucket, "public", verbatim(old_key, "true"));
    dg_yaml_free(old_key);
    dg_yaml_free(old_value);
    return;
  }
}

/* `{type: deny}` is `deny`. */
static struct dg_yaml *shorten_action(struct dg_yaml *action)
{
  struct dg_yaml *key, *value;

  if (action->keys->len != 1)
    return action;
  dg_yaml_take(action, 0, &key, &value);
  dg_yaml_free(key);
  dg_yaml_free(action);
  return value;
}

static struct dg_yaml *entry_copy(const struct export *export, enum dg_section section,
                                  const char *name, const struct dg_yaml *map)
{
  const struct dg_option *plugin = dg_document_table(export->snapshot, section, name, map);
  struct dg_yaml *copy;

  if (map->type == DG_YAML_SCALAR && !map->is_null)
    return plain_copy(map); /* an action by its name */
  copy = dg_yaml_new_map(map);
  for (guint i = 0; map->keys && i < map->keys->len; i++)
    copy_key(export, section, plugin, map->keys->pdata[i], map->values->pdata[i], copy);
  if (section == DG_SECTION_BUCKET)
    unify_public(copy);
  return section == DG_SECTION_ADMISSION_ACTION ? shorten_action(copy) : copy;
}

/* `backend: {type: filesystem}` is what holds without it. */
static void drop_default_backend(struct dg_yaml *storage)
{
  for (guint i = 0; i < storage->keys->len; i++) {
    const struct dg_yaml *key = storage->keys->pdata[i], *map = storage->values->pdata[i];
    struct dg_yaml *old_key, *old_value;

    if (strcmp(key->text, "backend") != 0 || map->type != DG_YAML_MAP || map->keys->len != 1 ||
        ((const struct dg_yaml *)map->values->pdata[0])->is_verbatim ||
        strcmp(((const struct dg_yaml *)map->values->pdata[0])->text, "filesystem") != 0)
      continue;
    dg_yaml_take(storage, i, &old_key, &old_value);
    dg_yaml_free(old_key);
    dg_yaml_free(old_value);
    return;
  }
}

void dg_snapshot_export(const struct dg_snapshot *snapshot, enum dg_export_tier tier,
                        GString *out)
{
  struct export export = {.snapshot = snapshot, .tier = tier};
  struct dg_yaml *root = dg_yaml_new_map(NULL);

  for (int section = 0; snapshot->document && section < DG_SECTION_TOP_COUNT; section++) {
    const char *name = dg_schema_section_name((enum dg_section)section);
    const struct dg_yaml *map = dg_load_entry_part(snapshot->document, name);
    struct dg_yaml *copy = map ? entry_copy(&export, (enum dg_section)section, NULL, map) : NULL;

    if (copy && section == DG_SECTION_STORAGE)
      drop_default_backend(copy);
    if (copy && copy->keys->len > 0)
      put(root, name, copy);
    else
      dg_yaml_free(copy);
  }
  dg_yaml_print(root, out);
  dg_yaml_free(root);
}
