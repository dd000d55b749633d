/* SPDX-License-Identifier: Apache-2.0 */
/* The option tables as JSON Schema, draft-07, for editors and admin pages. It
 * describes the sectioned shape. What it accepts may still be refused: rules
 * between options are the loader's. */
#include <config.h>

#include <jansson.h>

#include "core/config/schema.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

#include "common/banned.h"

#define REFERENCE "\\$\\{env:[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}"

struct plugins {
  GPtrArray *backends, *codecs, *crypts; /* const struct dg_module * */
};

static void set(json_t *object, const char *key, json_t *value)
{
  (void)json_object_set_new(object, key, value);
}

static void append(json_t *array, json_t *value)
{
  (void)json_array_append_new(array, value);
}

static json_t *texts(const char *first, ...) G_GNUC_NULL_TERMINATED;
static json_t *texts(const char *first, ...)
{
  json_t *array = json_array();
  va_list args;

  va_start(args, first);
  for (const char *text = first; text; text = va_arg(args, const char *))
    append(array, json_string(text));
  va_end(args);
  return array;
}

/* ---- One option --------------------------------------------------------------------- */

/* A number or its text, in range; null is "as if absent" everywhere. */
static json_t *number_schema(const struct dg_option *option, const char *json_type,
                             const char *pattern)
{
  json_t *schema = json_object();
  g_autofree char *full = g_strdup_printf("^(%s|%s)$", pattern, REFERENCE);

  set(schema, "type", json_type ? texts(json_type, "string", "null", NULL)
                                : texts("string", "null", NULL));
  if (json_type && (option->min != 0 || option->max != 0)) {
    set(schema, "minimum", json_integer(option->min));
    set(schema, "maximum", json_integer(option->max));
  }
  set(schema, "pattern", json_string(full));
  return schema;
}

/* A choice such as 1.2 reads as a number where it is not quoted. */
static void append_choice(json_t *values, const char *choice)
{
  char *end;
  double number = g_ascii_strtod(choice, &end);

  append(values, json_string(choice));
  if (*choice && !*end)
    append(values, json_real(number));
}

static json_t *choice_schema(json_t *values)
{
  json_t *schema = json_object(), *any = json_array(), *one = json_object(),
         *reference = json_object();

  append(values, json_null());
  set(one, "enum", values);
  set(reference, "$ref", json_string("#/definitions/reference"));
  append(any, one);
  append(any, reference);
  set(schema, "anyOf", any);
  return schema;
}

static void append_truth_values(json_t *values)
{
  append(values, json_true());
  append(values, json_false());
  append(values, json_integer(1));
  append(values, json_integer(0));
}

static json_t *enum_schema(const struct dg_option *option)
{
  g_auto(GStrv) choices = g_strsplit(option->choices, "|", -1);
  const char *const *list = (const char *const *)choices;
  json_t *values = json_array();

  for (char **choice = choices; *choice; choice++)
    append_choice(values, *choice);
  if (g_strv_contains(list, "on") && g_strv_contains(list, "off")) {
    append(values, json_string("true"));
    append(values, json_string("false"));
    append(values, json_string("yes"));
    append(values, json_string("no"));
    append_truth_values(values);
  }
  return choice_schema(values);
}

static json_t *bool_schema(void)
{
  json_t *values = texts("true", "false", "yes", "no", "on", "off", "1", "0", NULL);

  append_truth_values(values);
  return choice_schema(values);
}

static json_t *text_schema(void)
{
  json_t *schema = json_object();

  /* Text that looks like a number or a truth value need not be quoted. */
  set(schema, "type", texts("string", "number", "boolean", "null", NULL));
  return schema;
}

static json_t *list_schema(void)
{
  json_t *schema = json_object();

  set(schema, "type", texts("array", "string", "number", "null", NULL));
  set(schema, "items", text_schema());
  return schema;
}

static json_t *type_schema(const struct dg_option *option)
{
  switch (option->type) {
  case DG_OPT_BOOL:
    return bool_schema();
  case DG_OPT_INT:
    return number_schema(option, "integer", "-?[0-9]+");
  case DG_OPT_SIZE:
    return number_schema(option, "integer", "[0-9]+ *([Bb]|[KkMmGgTt][Ii][Bb])?");
  case DG_OPT_DURATION:
    return number_schema(option, NULL, "([0-9]+(ms|s|m|h|d))+");
  case DG_OPT_DOUBLE:
    return number_schema(option, "number", "[-+0-9.eEinfaINFA]+");
  case DG_OPT_ENUM:
    return enum_schema(option);
  default:
    return dg_schema_is_list(option) ? list_schema() : text_schema();
  }
}

static json_t *default_value(const struct dg_option *option)
{
  struct dg_option_value value;
  struct dg_error err = {0};
  json_t *result;

  if (dg_schema_is_list(option)) {
    g_auto(GStrv) words = g_strsplit(option->dflt, ",", -1);

    result = json_array();
    for (char **word = words; *word; word++)
      append(result, json_string(*word));
    return result;
  }
  if (dg_option_parse(option, option->dflt, &value, &err) < 0)
    return json_string(option->dflt);
  result = option->type == DG_OPT_BOOL     ? json_boolean(value.number != 0)
           : option->type == DG_OPT_INT    ? json_integer(value.number)
           : option->type == DG_OPT_DOUBLE ? json_real(value.real)
                                           : json_string(option->dflt);
  dg_option_value_clear(option, &value);
  return result;
}

static void add_option(json_t *properties, const struct dg_option *option)
{
  json_t *schema = type_schema(option);

  set(schema, "description", json_string(option->help));
  if (option->dflt)
    set(schema, "default", default_value(option));
  set(properties, option->name, schema);
  if (option->type == DG_OPT_SECRET) {
    g_autofree char *name = g_strdup_printf("%s_file", option->name);
    g_autofree char *help = g_strdup_printf("A file that holds %s.", option->name);

    schema = text_schema();
    set(schema, "description", json_string(help));
    set(properties, name, schema);
  }
}

/* ---- Sections and their parts ----------------------------------------------------------- */

static json_t *entry_schema(const struct plugins *plugins, enum dg_section section);

static json_t *object_schema(json_t *properties)
{
  json_t *schema = json_object();

  set(schema, "type", texts("object", "null", NULL));
  set(schema, "additionalProperties", json_false());
  set(schema, "properties", properties);
  return schema;
}

static json_t *definition_ref(const struct dg_module *module)
{
  g_autofree char *path = g_strdup_printf("#/definitions/%s", module->plugin.name);
  json_t *schema = json_object();

  set(schema, "$ref", json_string(path));
  return schema;
}

/* Whatever its type, one of the plugins' own. A list's entry needs a name. */
static json_t *backend_schema(const struct plugins *plugins, gboolean needs_name)
{
  json_t *schema = json_object(), *any = json_array();

  for (guint i = 0; i < plugins->backends->len; i++)
    append(any, definition_ref(plugins->backends->pdata[i]));
  set(schema, "anyOf", any);
  if (needs_name)
    set(schema, "required", texts("name", NULL));
  return schema;
}

/* Codecs go by their short or their full name. */
static json_t *codecs_schema(const struct plugins *plugins)
{
  json_t *properties = json_object();

  for (guint i = 0; i < plugins->codecs->len; i++) {
    const struct dg_module *module = plugins->codecs->pdata[i];

    set(properties, module->plugin.name + strlen("codec-"), definition_ref(module));
    set(properties, module->plugin.name, definition_ref(module));
  }
  return object_schema(properties);
}

static json_t *shaped(const struct plugins *plugins, const struct dg_part *part)
{
  json_t *entry, *schema;

  if (part->entry == DG_SECTION_CODEC)
    return codecs_schema(plugins);
  entry = part->entry == DG_SECTION_BACKEND
            ? backend_schema(plugins, part->shape == DG_PART_LIST)
            : entry_schema(plugins, part->entry);
  if (part->shape == DG_PART_MAP)
    return entry;
  schema = json_object();
  set(schema, "type", texts(part->shape == DG_PART_LIST ? "array" : "object", "null", NULL));
  set(schema, part->shape == DG_PART_LIST ? "items" : "additionalProperties", entry);
  return schema;
}

static void add_rows(const struct plugins *plugins, enum dg_section section, json_t *schema)
{
  json_t *properties = json_object_get(schema, "properties"), *required = json_array();

  for (const struct dg_option *o = dg_schema_options(section); o->name; o++) {
    add_option(properties, o);
    if (o->required)
      append(required, json_string(o->name));
  }
  for (const struct dg_part *part = dg_schema_parts; part->key; part++) {
    json_t *value;

    if (part->section != section)
      continue;
    value = shaped(plugins, part);
    set(value, "description", json_string(part->help));
    set(properties, part->key, value);
  }
  if (json_array_size(required) > 0)
    set(schema, "required", required);
  else
    json_decref(required);
}

/* An action may be given by its name alone. */
static json_t *action_schema(json_t *map)
{
  json_t *schema = json_object(), *any = json_array();

  append(any, enum_schema(
                dg_options_find(dg_schema_options(DG_SECTION_ADMISSION_ACTION), "type")));
  append(any, map);
  set(schema, "anyOf", any);
  return schema;
}

/* Whatever its mode, the options of every crypt: which belong together is the
 * loader's matter. */
static void add_crypt_options(const struct plugins *plugins, json_t *properties)
{
  for (guint i = 0; i < plugins->crypts->len; i++) {
    const struct dg_module *module = plugins->crypts->pdata[i];

    for (const struct dg_option *o = module->plugin.options; o && o->name; o++)
      if (!json_object_get(properties, o->name))
        add_option(properties, o);
  }
}

static json_t *entry_schema(const struct plugins *plugins, enum dg_section section)
{
  json_t *schema = object_schema(json_object());

  add_rows(plugins, section, schema);
  if (section == DG_SECTION_ENCRYPTION)
    add_crypt_options(plugins, json_object_get(schema, "properties"));
  return section == DG_SECTION_ADMISSION_ACTION ? action_schema(schema) : schema;
}

/* ---- Plugins -------------------------------------------------------------------------------- */

static json_t *plugin_schema(const struct plugins *plugins, const struct dg_module *module)
{
  json_t *schema = object_schema(json_object());
  json_t *properties = json_object_get(schema, "properties");

  set(schema, "description", json_string(module->plugin.summary ? module->plugin.summary : ""));
  if (module->plugin.kind == DG_KIND_BACKEND) {
    json_t *type = json_object(), *names = texts(module->plugin.name + strlen("backend-"), NULL);

    add_rows(plugins, DG_SECTION_BACKEND, schema);
    if (!strcmp(module->plugin.name, "backend-fs"))
      append(names, json_string("filesystem"));
    set(type, "enum", names);
    set(type, "description",
        json_string(dg_options_find(dg_schema_options(DG_SECTION_BACKEND), "type")->help));
    set(properties, "type", type);
  }
  for (const struct dg_option *o = module->plugin.options; o && o->name; o++)
    add_option(properties, o);
  return schema;
}

static void find_plugins(struct dg_plug_table *table, struct plugins *plugins, GPtrArray *warnings)
{
  g_auto(GStrv) names = dg_plug_names(table);

  for (char **name = names; *name; name++) {
    const struct dg_module *module;
    struct dg_error err = {0};

    if (!g_str_has_prefix(*name, "backend-") && !g_str_has_prefix(*name, "codec-") &&
        !g_str_has_prefix(*name, "crypt-"))
      continue;
    if (dg_plug_load(table, *name, &module, &err) < 0)
      g_ptr_array_add(warnings, g_strdup_printf("%s is left out: %s", *name, err.detail));
    else
      g_ptr_array_add(module->plugin.kind == DG_KIND_BACKEND ? plugins->backends
                      : module->plugin.kind == DG_KIND_CRYPT ? plugins->crypts
                                                             : plugins->codecs,
                      (gpointer)(uintptr_t)module);
  }
}

static json_t *definitions(const struct plugins *plugins)
{
  json_t *all = json_object(), *reference = json_object();

  set(reference, "type", json_string("string"));
  set(reference, "pattern", json_string("^" REFERENCE "$"));
  set(reference, "description", json_string("Replaced by the environment when the file is read."));
  set(all, "reference", reference);
  for (guint i = 0; i < plugins->backends->len; i++) {
    const struct dg_module *module = plugins->backends->pdata[i];

    set(all, module->plugin.name, plugin_schema(plugins, module));
  }
  for (guint i = 0; i < plugins->codecs->len; i++) {
    const struct dg_module *module = plugins->codecs->pdata[i];

    set(all, module->plugin.name, plugin_schema(plugins, module));
  }
  return all;
}

void dg_schema_print_json(struct dg_plug_table *table, GPtrArray *warnings, GString *out)
{
  struct plugins plugins = {g_ptr_array_new(), g_ptr_array_new(), g_ptr_array_new()};
  json_t *properties = json_object(), *root = object_schema(properties),
         *version = json_object();
  char *text;

  find_plugins(table, &plugins, warnings);
  set(root, "$schema", json_string("http://json-schema.org/draft-07/schema#"));
  set(root, "title", json_string("deltaglider_proxy.yaml"));
  set(version, "enum", texts("v1", NULL));
  set(version, "description", json_string("Which defaults hold for what is left out."));
  set(properties, "defaults", version);
  for (int section = 0; section < DG_SECTION_TOP_COUNT; section++)
    set(properties, dg_schema_section_name((enum dg_section)section),
        entry_schema(&plugins, (enum dg_section)section));
  set(root, "definitions", definitions(&plugins));
  text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
  g_string_append(out, text);
  g_string_append_c(out, '\n');
  free(text);
  json_decref(root);
  g_ptr_array_unref(plugins.backends);
  g_ptr_array_unref(plugins.codecs);
  g_ptr_array_unref(plugins.crypts);
}
