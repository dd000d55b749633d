/* SPDX-License-Identifier: Apache-2.0 */
/* From a node of the tree to an option of a table, with messages that say where. */
#include <config.h>

#include "core/config/internal.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#include "core/plug/options.h"

#include "common/banned.h"

/* ---- Messages ------------------------------------------------------------------ */

int dg_load_fail(const struct dg_load *load, const struct dg_yaml *node, struct dg_error *err,
                 const char *format, ...)
{
  char message[200];
  va_list args;

  va_start(args, format);
  (void)g_vsnprintf(message, sizeof message, format, args);
  va_end(args);
  return dg_fail(err, DG_E_CONFIG, "%s:%u:%u: %s", load->file, node->line, node->column, message);
}

void dg_load_warn(struct dg_snapshot *snapshot, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  g_ptr_array_add(snapshot->warnings, g_strdup_vprintf(format, args));
  va_end(args);
}

void dg_load_error(struct dg_snapshot *snapshot, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  g_ptr_array_add(snapshot->errors, g_strdup_vprintf(format, args));
  va_end(args);
}

/* ---- Values ---------------------------------------------------------------------- */

char **dg_split_list(const char *text)
{
  char **parts = g_strsplit(text ? text : "", ",", -1);
  unsigned kept = 0;

  for (unsigned i = 0; parts[i]; i++) {
    char *lower = g_ascii_strdown(g_strstrip(parts[i]), -1);

    g_free(parts[i]);
    if (*lower)
      parts[kept++] = lower;
    else
      g_free(lower);
  }
  parts[kept] = NULL;
  return parts;
}

/* A scalar's text, or a list's entries joined by commas. */
static int node_text(const struct dg_load *load, const char *path, const struct dg_option *option,
                     const struct dg_yaml *value, char **ret_text, struct dg_error *err)
{
  GString *joined;

  if (value->type == DG_YAML_SCALAR) {
    if (value->ref && dg_schema_is_list(option) && *value->text == '[')
      return dg_load_fail(load, value, err,
                          "%s.%s: what a variable holds is text: a list is written there with "
                          "commas and without brackets",
                          path, option->name);
    *ret_text = g_strdup(value->text);
    return 0;
  }
  if (value->type == DG_YAML_MAP || !dg_schema_is_list(option))
    return dg_load_fail(load, value, err, "%s.%s: a %s is expected here", path, option->name,
                        dg_option_type_name(option->type));
  joined = g_string_new(NULL);
  for (guint i = 0; i < value->values->len; i++) {
    const struct dg_yaml *entry = value->values->pdata[i];

    if (entry->type != DG_YAML_SCALAR) {
      g_string_free(joined, TRUE);
      return dg_load_fail(load, entry, err, "%s.%s: a list of plain texts is expected here", path,
                          option->name);
    }
    g_string_append_printf(joined, "%s%s", i > 0 ? "," : "", entry->text);
  }
  *ret_text = g_string_free(joined, FALSE);
  return 0;
}

const struct dg_option *dg_load_secret_of_file_key(const struct dg_option *table, const char *key)
{
  g_autofree char *stem = NULL;
  const struct dg_option *option;

  if (!g_str_has_suffix(key, "_file"))
    return NULL;
  stem = g_strndup(key, strlen(key) - strlen("_file"));
  option = dg_options_find(table, stem);
  return option && option->type == DG_OPT_SECRET ? option : NULL;
}

static int set_secret_from_file(const struct dg_load *load, struct dg_config *config,
                                const char *path, const struct dg_option *option,
                                const struct dg_yaml *value, struct dg_error *err)
{
  g_autoptr(GError) cause = NULL;
  struct dg_error bad = {0};
  char *text = NULL;
  gsize len = 0;
  int result;

  if (value->type != DG_YAML_SCALAR)
    return dg_load_fail(load, value, err, "%s.%s_file: a path is expected here", path,
                        option->name);
  if (!g_file_get_contents(value->text, &text, &len, &cause))
    return dg_load_fail(load, value, err, "%s.%s_file: %s", path, option->name, cause->message);
  text[strcspn(text, "\r\n")] = '\0';
  result = dg_config_set(config, option->name, text, &bad);
  OPENSSL_cleanse(text, len);
  g_free(text);
  return result < 0 ? dg_load_fail(load, value, err, "%s.%s", path, bad.detail) : 0;
}

static void free_secret(const struct dg_option *option, char *text)
{
  if (text && option->type == DG_OPT_SECRET)
    OPENSSL_cleanse(text, strlen(text));
  g_free(text);
}

/* `x` and `x_file` side by side: which one counts would be a guess. */
static int check_not_both(const struct dg_load *load, const struct dg_yaml *map, const char *path,
                          const struct dg_option *secret, const struct dg_yaml *key,
                          struct dg_error *err)
{
  const struct dg_yaml *plain = dg_yaml_get(map, secret->name);

  if (plain && !plain->is_null)
    return dg_load_fail(load, key, err, "%s.%s and %s.%s exclude each other: drop one", path,
                        secret->name, path, key->text);
  return 0;
}

static int load_option(const struct dg_load *load, struct dg_config *config, const char *path,
                       const struct dg_option *option, const struct dg_yaml *value,
                       struct dg_error *err)
{
  struct dg_error cause = {0};
  char *text = NULL;
  int result;

  if (node_text(load, path, option, value, &text, err) < 0)
    return -1;
  result = dg_config_set(config, option->name, text, &cause);
  free_secret(option, text);
  return result < 0 ? dg_load_fail(load, value, err, "%s.%s", path, cause.detail) : 0;
}

/* ---- Maps -------------------------------------------------------------------------- */

/* As dg_schema_unsupported() names the places. */
static const char *unsupported_in(enum dg_section section, const char *key)
{
  return dg_schema_unsupported(section == DG_SECTION_BACKEND  ? "storage.backend"
                               : section == DG_SECTION_BUCKET ? "storage.bucket"
                                                              : dg_schema_section_name(section),
                               key);
}

static int load_key(const struct dg_load *load, enum dg_section section,
                    const struct dg_option *plugin, const char *path, const struct dg_yaml *map,
                    guint i, struct dg_config *config, struct dg_error *err)
{
  const struct dg_yaml *key = map->keys->pdata[i], *value = map->values->pdata[i];
  const struct dg_option *own = dg_schema_options(section), *table = plugin ? plugin : own;
  const struct dg_option *option = dg_options_find(table, key->text);
  const struct dg_option *secret = option ? NULL : dg_load_secret_of_file_key(table, key->text);
  const char *unsupported = option || secret ? NULL : unsupported_in(section, key->text);
  g_autofree char *hint = NULL;

  if (unsupported)
    return dg_load_fail(load, key, err, "%s.%s: %s", path, key->text, unsupported);
  if (dg_schema_part(section, key->text) || (plugin && dg_options_find(own, key->text)))
    return 0; /* the caller's */
  if (!option && !secret) {
    hint = dg_schema_hint(section, plugin, key->text);
    return dg_load_fail(load, key, err, "%s: unknown key '%.60s'%s", path, key->text, hint);
  }
  if (value->is_null)
    return 0; /* `key:` with nothing: as if absent */
  if (option)
    return load_option(load, config, path, option, value, err);
  if (check_not_both(load, map, path, secret, key, err) < 0)
    return -1;
  return set_secret_from_file(load, config, path, secret, value, err);
}

int dg_load_entry(const struct dg_load *load, enum dg_section section,
                  const struct dg_option *plugin, const char *path, const struct dg_yaml *map,
                  struct dg_config *config, struct dg_error *err)
{
  if (!map || map->is_null)
    return 0;
  if (map->type != DG_YAML_MAP)
    return dg_load_fail(load, map, err, "%s: a map of options is expected here", path);
  for (guint i = 0; i < map->keys->len; i++)
    if (load_key(load, section, plugin, path, map, i, config, err) < 0)
      return -1;
  return 0;
}

const struct dg_yaml *dg_load_entry_part(const struct dg_yaml *map, const char *key)
{
  const struct dg_yaml *part = map && map->type == DG_YAML_MAP ? dg_yaml_get(map, key) : NULL;

  return part && !part->is_null ? part : NULL;
}

const struct dg_yaml *dg_load_part(const struct dg_load *load, enum dg_section section,
                                   const char *key)
{
  const struct dg_yaml *root = load->snapshot->document;

  if (!root)
    return NULL;
  return dg_load_entry_part(dg_yaml_get(root, dg_schema_section_name(section)), key);
}

int dg_load_env(const struct dg_load *load, struct dg_config *config,
                const struct dg_option *option, const char *env, struct dg_error *err)
{
  const char *text = getenv(env);
  struct dg_error cause = {0};

  if (!text || !*text || dg_config_set(config, option->name, text, &cause) == 0)
    return 0;
  if (option->type != DG_OPT_BOOL)
    return dg_fail(err, DG_E_CONFIG, "environment %s: %s", env, cause.detail);
  dg_load_warn(load->snapshot, "environment %s: %s: ignored", env, cause.detail);
  return 0;
}
