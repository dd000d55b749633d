/* SPDX-License-Identifier: Apache-2.0 */
/* One shape for every configuration file: the older flat keys move into their
 * sections, the shorthands of the storage section become a backend. What loads
 * and what exports sees the canonical shape only; places stay the file's. */
#include <config.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

/* ---- Sections, or the older flat shape ----------------------------------------------- */

/* The section of that name, or -1. */
static int section_named(const char *key)
{
  for (int section = 0; section < DG_SECTION_TOP_COUNT; section++)
    if (!strcmp(dg_schema_section_name((enum dg_section)section), key))
      return section;
  return -1;
}

/* The part that a flat key stands for, or NULL. */
static const struct dg_part *part_of_flat_key(const char *key)
{
  for (const struct dg_part *part = dg_schema_parts; part->key; part++)
    if (part->flat_key && !strcmp(part->flat_key, key))
      return part;
  return NULL;
}

/* The section that a key of the flat shape belongs to, or -1. */
static int section_of_flat_key(const char *key)
{
  const struct dg_part *part = part_of_flat_key(key);

  if (part)
    return (int)part->section;
  for (int section = 0; section < DG_SECTION_TOP_COUNT; section++) {
    const struct dg_option *table = dg_schema_options((enum dg_section)section);

    if (dg_options_find(table, key) || dg_load_secret_of_file_key(table, key) ||
        dg_schema_unsupported(dg_schema_section_name((enum dg_section)section), key))
      return section;
  }
  return -1;
}

static int fail_unknown_top(const struct dg_load *load, const struct dg_yaml *key, gboolean is_flat,
                            struct dg_error *err)
{
  static const char *const sections[] = {"admission", "access", "storage", "advanced", "defaults",
                                         NULL};
  const char *near = dg_nearest_name(sections, key->text);
  g_autofree char *hint = NULL;

  for (int section = 0; !near && is_flat && section < DG_SECTION_TOP_COUNT; section++)
    near = dg_options_nearest(dg_schema_options((enum dg_section)section), key->text);
  hint = near ? g_strdup_printf(": did you mean '%s'?", near)
              : dg_schema_hint(DG_SECTION_COUNT, NULL, key->text);
  return dg_load_fail(load, key, err, "unknown key '%.60s'%s", key->text, hint);
}

static void join_key(GString *names, const char *key)
{
  g_string_append_printf(names, "%s%.40s", names->len > 0 ? ", " : "", key);
}

/* Refuses unknown keys, and files that have both shapes. */
static int judge_shape(const struct dg_load *load, const struct dg_yaml *root,
                       gboolean *ret_is_flat, struct dg_error *err)
{
  g_autoptr(GString) sections = g_string_new(NULL), flat = g_string_new(NULL);
  const struct dg_yaml *second = NULL;

  for (guint i = 0; i < root->keys->len; i++) {
    const struct dg_yaml *key = root->keys->pdata[i];
    gboolean had_one = (sections->len > 0) != (flat->len > 0);

    if (section_named(key->text) >= 0)
      join_key(sections, key->text);
    else if (section_of_flat_key(key->text) >= 0)
      join_key(flat, key->text);
    else if (strcmp(key->text, "defaults") != 0)
      return fail_unknown_top(load, key, sections->len == 0, err);
    if (had_one && sections->len > 0 && flat->len > 0)
      second = key;
  }
  if (second)
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "%s:%u:%u: sections (%.60s) and flat keys (%.60s) do not mix: put every key "
                   "into its section",
                   load->file, second->line, second->column, sections->str, flat->str);
  *ret_is_flat = flat->len > 0;
  return 0;
}

/* Moves every flat key into its section; the sections are made as needed. */
static void move_into_sections(struct dg_yaml *root)
{
  struct dg_yaml *moved = dg_yaml_new_map(root);

  while (root->keys->len > 0) {
    struct dg_yaml *key, *value, *home;
    const struct dg_part *part;
    const char *section;

    dg_yaml_take(root, 0, &key, &value);
    if (!strcmp(key->text, "defaults")) {
      dg_yaml_put(moved, key, value);
      continue;
    }
    part = part_of_flat_key(key->text);
    section = dg_schema_section_name((enum dg_section)section_of_flat_key(key->text));
    if (part) {
      g_free(key->text);
      key->text = g_strdup(part->key);
    }
    home = dg_yaml_get(moved, section);
    if (!home) {
      home = dg_yaml_new_map(key);
      dg_yaml_put(moved, dg_yaml_new_text(key, section), home);
    }
    dg_yaml_put(home, key, value);
  }
  while (moved->keys->len > 0) {
    struct dg_yaml *key, *value;

    dg_yaml_take(moved, 0, &key, &value);
    dg_yaml_put(root, key, value);
  }
  dg_yaml_free(moved);
}

/* ---- Shorthands of the storage section -------------------------------------------------- */

/* The backend option that a key is short for, `x_file` keys included; or NULL.
 * Transferred. */
static char *shorthand_target(const char *key)
{
  const char *option = dg_schema_shorthand(key);
  const struct dg_option *secret;

  if (option)
    return g_strdup(option);
  secret = dg_load_secret_of_file_key(dg_schema_options(DG_SECTION_STORAGE), key);
  return secret ? g_strconcat(dg_schema_shorthand(secret->name), "_file", NULL) : NULL;
}

static gboolean has_dotdot(const char *path)
{
  g_auto(GStrv) parts = g_strsplit(path, "/", -1);

  return g_strv_contains((const char *const *)parts, "..");
}

static int check_path(const struct dg_load *load, const struct dg_yaml *path, struct dg_error *err)
{
  if (path->type != DG_YAML_SCALAR || path->is_null || !*path->text)
    return dg_load_fail(load, path, err, "storage.filesystem: a path is expected here");
  if (has_dotdot(path->text))
    return dg_load_fail(load, path, err, "storage.filesystem: '..' is not allowed in '%.100s'",
                        path->text);
  return 0;
}

static int check_url(const struct dg_load *load, const struct dg_yaml *url, struct dg_error *err)
{
  if (url->type != DG_YAML_SCALAR || strlen(url->text) > 4096 ||
      (g_ascii_strncasecmp(url->text, "http://", 7) != 0 &&
       g_ascii_strncasecmp(url->text, "https://", 8) != 0))
    return dg_load_fail(load, url, err,
                        "storage.s3: a URL is expected here, http:// or https://, of at most 4096 "
                        "characters");
  return 0;
}

/* Exactly one of backend, s3 and filesystem; what goes with s3 needs it. */
static int judge_storage(const struct dg_load *load, const struct dg_yaml *storage,
                         const char **ret_type, struct dg_error *err)
{
  static const char *const kinds[] = {"backend", "filesystem", "s3"};
  const char *chosen = NULL;

  for (guint i = 0; i < storage->keys->len; i++) {
    const struct dg_yaml *key = storage->keys->pdata[i], *value = storage->values->pdata[i];

    for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
      if (strcmp(key->text, kinds[k]) != 0 || value->is_null)
        continue;
      if (chosen)
        return dg_load_fail(load, key, err,
                            "storage.%s and storage.%s exclude each other: drop one", chosen,
                            kinds[k]);
      chosen = kinds[k];
    }
  }
  for (guint i = 0; i < storage->keys->len; i++) {
    const struct dg_yaml *key = storage->keys->pdata[i], *value = storage->values->pdata[i];
    g_autofree char *target = shorthand_target(key->text);

    if (target && !value->is_null && strcmp(key->text, "filesystem") != 0 &&
        g_strcmp0(chosen, "s3") != 0)
      return dg_load_fail(load, key, err,
                          "storage.%s goes with storage.s3, which is not there: give the URL, or "
                          "write it into storage.backend",
                          key->text);
  }
  *ret_type = chosen;
  return 0;
}

/* Turns `filesystem: X` and `s3: X` with its companions into `backend: {...}`. */
static void expand_shorthand(struct dg_yaml *storage, const char *type)
{
  struct dg_yaml *backend = NULL;

  for (guint i = 0; i < storage->keys->len;) {
    const struct dg_yaml *at = storage->keys->pdata[i];
    gboolean is_null = ((const struct dg_yaml *)storage->values->pdata[i])->is_null;
    char *target = shorthand_target(at->text);
    struct dg_yaml *key, *value;

    if (!target && !(is_null && !strcmp(at->text, "backend"))) {
      i++;
      continue;
    }
    dg_yaml_take(storage, i, &key, &value);
    if (is_null) { /* as if absent */
      dg_yaml_free(key);
      dg_yaml_free(value);
      g_free(target);
      continue;
    }
    if (!backend) {
      backend = dg_yaml_new_map(key);
      dg_yaml_put(backend, dg_yaml_new_text(key, "type"), dg_yaml_new_text(key, type));
    }
    g_free(key->text);
    key->text = target;
    dg_yaml_put(backend, key, value);
  }
  if (backend)
    dg_yaml_put(storage, dg_yaml_new_text(backend, "backend"), backend);
}

static int shape_storage(const struct dg_load *load, struct dg_yaml *storage, struct dg_error *err)
{
  const struct dg_yaml *value;
  const char *type = NULL;

  if (!storage || storage->type != DG_YAML_MAP) /* load_section() says what is wrong */
    return 0;
  if (judge_storage(load, storage, &type, err) < 0)
    return -1;
  value = type ? dg_yaml_get(storage, type) : NULL;
  if (!g_strcmp0(type, "filesystem") && check_path(load, value, err) < 0)
    return -1;
  if (!g_strcmp0(type, "s3") && check_url(load, value, err) < 0)
    return -1;
  expand_shorthand(storage, type);
  return 0;
}

int dg_load_shape(const struct dg_load *load, struct dg_yaml *root, struct dg_error *err)
{
  const struct dg_yaml *defaults;
  gboolean is_flat = FALSE;

  if (judge_shape(load, root, &is_flat, err) < 0)
    return -1;
  defaults = dg_yaml_get(root, "defaults");
  if (defaults && (defaults->type != DG_YAML_SCALAR || strcmp(defaults->text, "v1") != 0))
    return dg_load_fail(load, defaults, err, "defaults: only v1 is known");
  if (is_flat)
    move_into_sections(root);
  return shape_storage(load, dg_yaml_get(root, "storage"), err);
}
