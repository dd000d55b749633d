/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "core/config/schema.h"

#include <stdlib.h>

#include "core/plug/options.h"

#include "common/banned.h"

enum { HOT = 0, RESTART = 1, REQUIRED = 2 };

struct row {
  enum dg_section section;
  unsigned flags;
  struct dg_option option;
  const char *env;
};

static const struct row rows[] = {
#define DG_OPTION_ROW(section, name, flags, type, dflt, choices, min, max, env, help) \
  {DG_SECTION_##section,                                                              \
   (flags),                                                                           \
   {#name, DG_OPT_##type, ((flags)&REQUIRED) != 0, dflt, choices, min, max, help},    \
   env},
#include "core/config/options.def"
#undef DG_OPTION_ROW
};

const struct dg_part dg_schema_parts[] = {
#define DG_PART_ROW(section, key, flat_key, shape, entry, help) \
  {DG_SECTION_##section, #key, flat_key, DG_PART_##shape, DG_SECTION_##entry, help},
#include "core/config/parts.def"
#undef DG_PART_ROW
  {.key = NULL},
};

/* The last one stays empty: no section. */
static struct dg_option tables[DG_SECTION_COUNT + 1][G_N_ELEMENTS(rows) + 1];

static gpointer build_tables(gpointer unused)
{
  size_t count[DG_SECTION_COUNT] = {0};

  (void)unused;
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    tables[rows[i].section][count[rows[i].section]++] = rows[i].option;
  return NULL;
}

const struct dg_option *dg_schema_options(enum dg_section section)
{
  static GOnce once = G_ONCE_INIT;

  (void)g_once(&once, build_tables, NULL);
  return tables[section];
}

const struct dg_part *dg_schema_part(enum dg_section section, const char *key)
{
  for (const struct dg_part *part = dg_schema_parts; part->key; part++)
    if (part->section == section && !strcmp(part->key, key))
      return part;
  return NULL;
}

const char *dg_schema_section_name(enum dg_section section)
{
  static const char *const names[] = {
    [DG_SECTION_ACCESS] = "access",
    [DG_SECTION_ADVANCED] = "advanced",
    [DG_SECTION_STORAGE] = "storage",
    [DG_SECTION_ADMISSION] = "admission",
    [DG_SECTION_BUCKET] = "storage.buckets.NAME",
    [DG_SECTION_BACKEND] = "storage.backends[]",
    [DG_SECTION_CODEC] = "storage.codecs.NAME",
    [DG_SECTION_ENCRYPTION] = "storage.backends[].encryption",
    [DG_SECTION_TLS] = "advanced.tls",
    [DG_SECTION_TLS_CERTIFICATE] = "advanced.tls.certificates[]",
    [DG_SECTION_ADMISSION_BLOCK] = "admission.blocks[]",
    [DG_SECTION_ADMISSION_MATCH] = "admission.blocks[].match",
    [DG_SECTION_ADMISSION_ACTION] = "admission.blocks[].action",
  };

  return names[section];
}

static const struct row *row_of(enum dg_section section, const struct dg_option *option)
{
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    if (rows[i].section == section && !strcmp(rows[i].option.name, option->name))
      return &rows[i];
  return NULL;
}

const char *dg_schema_env(enum dg_section section, const struct dg_option *option)
{
  const struct row *row = row_of(section, option);

  return row ? row->env : NULL;
}

gboolean dg_schema_needs_restart(enum dg_section section, const struct dg_option *option)
{
  const struct row *row = row_of(section, option);

  return row && (row->flags & RESTART);
}

gboolean dg_schema_is_list(const struct dg_option *option)
{
  return option->type == DG_OPT_STRING && option->choices && !strcmp(option->choices, ",");
}

const char *dg_schema_shorthand(const char *storage_key)
{
  static const char *const alone[] = {"region", "access_key_id", "secret_access_key",
                                      "force_path_style", "allow_local", NULL};

  if (!strcmp(storage_key, "filesystem"))
    return "path";
  if (!strcmp(storage_key, "s3"))
    return "endpoint";
  for (size_t i = 0; alone[i]; i++)
    if (!strcmp(storage_key, alone[i]))
      return alone[i];
  return NULL;
}

const char *dg_schema_unsupported(const char *section, const char *key)
{
  static const char *const known[] = {
    "access.iam_mode",
    "access.iam_users",
    "access.iam_groups",
    "access.auth_providers",
    "access.group_mapping_rules",
    "storage.replication",
    "storage.lifecycle",
    "advanced.config_sync_bucket",
    "advanced.config_sync_object_key",
    "advanced.bootstrap_password_hash",
    "advanced.admin_password_hash",
    "advanced.event_delivery",
  };
  g_autofree char *path = *section ? g_strdup_printf("%s.%s", section, key) : g_strdup(key);

  if (!strcmp(path, "advanced.encryption_key"))
    return "encryption stands in storage.backend_encryption: move it there";
  for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
    if (!strcmp(known[i], path))
      return "this version does not have it yet: take it out";
  return NULL;
}

/* ---- Hints ------------------------------------------------------------------------- */

/* Names that may stand in a section: its options, its parts, the plugin's. */
static GPtrArray *names_in(enum dg_section section, const struct dg_option *plugin)
{
  GPtrArray *names = g_ptr_array_new();

  for (const struct dg_option *o = dg_schema_options(section); o->name; o++)
    g_ptr_array_add(names, (gpointer)(uintptr_t)o->name);
  for (const struct dg_option *o = plugin; o && o->name; o++)
    g_ptr_array_add(names, (gpointer)(uintptr_t)o->name);
  for (const struct dg_part *part = dg_schema_parts; part->key; part++)
    if (part->section == section)
      g_ptr_array_add(names, (gpointer)(uintptr_t)part->key);
  g_ptr_array_add(names, NULL);
  return names;
}

/* The section of the file or of its parts, other than this one, that has the key. */
static const char *elsewhere(enum dg_section section, const char *key)
{
  for (int other = 0; other < DG_SECTION_COUNT; other++)
    if (other != (int)section && (dg_options_find(dg_schema_options((enum dg_section)other), key) ||
                                  dg_schema_part((enum dg_section)other, key)))
      return dg_schema_section_name((enum dg_section)other);
  return NULL;
}

char *dg_schema_hint(enum dg_section section, const struct dg_option *plugin, const char *key)
{
  g_autoptr(GPtrArray) names = names_in(section, plugin);
  const char *near = dg_nearest_name((const char *const *)names->pdata, key);
  const char *home = elsewhere(section, key);

  if (home && near)
    return g_strdup_printf(": did you mean '%s', or '%s' of %s?", near, key, home);
  if (home)
    return g_strdup_printf(": it stands in %s", home);
  return near ? g_strdup_printf(": did you mean '%s'?", near) : g_strdup("");
}

/* ---- Printing ---------------------------------------------------------------------- */

/* Text as a YAML value: quoted unless plain. */
static void print_value(GString *out, const struct dg_option *option)
{
  if (!option->dflt)
    g_string_append(out, "");
  else if (dg_schema_is_list(option))
    g_string_append_printf(out, "[%s]", option->dflt);
  else if (option->type == DG_OPT_STRING)
    g_string_append_printf(out, "\"%s\"", option->dflt);
  else
    g_string_append(out, option->dflt);
}

/* `dead`: everything is a comment, for there is no such entry by default. */
static void print_section(GString *out, enum dg_section section, const char *indent,
                          gboolean dead)
{
  for (const struct dg_option *o = dg_schema_options(section); o->name; o++) {
    const char *env = dg_schema_env(section, o);

    g_string_append_printf(out, "%s# %s", indent, o->help);
    if (env)
      g_string_append_printf(out, " [%s]", env);
    g_string_append_printf(out, "\n%s%s%s: ", indent, o->dflt && !dead ? "" : "# ", o->name);
    print_value(out, o);
    g_string_append_c(out, '\n');
  }
  for (const struct dg_part *part = dg_schema_parts; part->key; part++) {
    g_autofree char *inner = g_strdup_printf("%s%s", indent, dead ? "  " : "#     ");
    const char *lead = dead ? "" : "# ";

    if (part->section != section)
      continue;
    g_string_append_printf(out, "%s# %s\n%s# %s:\n", indent, part->help, indent, part->key);
    if (part->shape != DG_PART_MAP)
      g_string_append_printf(out, "%s%s  %s\n", indent, lead,
                             part->shape == DG_PART_LIST ? "-" : "NAME:");
    print_section(out, part->entry, inner, /* dead= */ TRUE);
  }
}

void dg_schema_print_example(GString *out)
{
  static const enum dg_section order[] = {DG_SECTION_ADMISSION, DG_SECTION_ACCESS,
                                          DG_SECTION_STORAGE, DG_SECTION_ADVANCED};

  for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
    g_string_append_printf(out, "%s%s:\n", i > 0 ? "\n" : "", dg_schema_section_name(order[i]));
    print_section(out, order[i], "  ", /* dead= */ FALSE);
  }
}

/* What is no option of the core. */
static const struct {
  const char *name, *help;
  gboolean is_secret;
} other_env[] = {
  {"DGP_CONFIG", "The configuration file, unless --config names one.", FALSE},
  {"DGP_PLUGIN_DIR", "Folders of plugins, with colons between them.", FALSE},
  {"DGP_ENCRYPTION_KEY", "storage.backend_encryption.key, of the one backend.", TRUE},
  {"DGP_SSE_KMS_KEY_ID", "storage.backend_encryption.kms_key_id, of the one backend.", FALSE},
  {"RUST_LOG", "advanced.log_level, stronger than DGP_LOG_LEVEL.", FALSE},
};

static const struct dg_seconds_env seconds_env[] = {
  {"DGP_S3_CONNECT_TIMEOUT_SECS", "s3", "connect_timeout",
   "connect_timeout of backends of type s3 that do not set it. Default: 10"},
  {"DGP_S3_READ_TIMEOUT_SECS", "s3", "read_timeout",
   "read_timeout of backends of type s3 that do not set it. Default: 60"},
  {"DGP_S3_OPERATION_ATTEMPT_TIMEOUT_SECS", "s3", "attempt_timeout",
   "attempt_timeout of backends of type s3 that do not set it. Default: 300"},
  {NULL, NULL, NULL, NULL},
};

const struct dg_seconds_env *dg_schema_seconds_env(void)
{
  return seconds_env;
}

gboolean dg_schema_is_known_env(const char *name)
{
  for (const struct dg_seconds_env *row = seconds_env; row->name; row++)
    if (!strcmp(row->name, name))
      return TRUE;
  for (size_t i = 0; i < G_N_ELEMENTS(other_env); i++)
    if (!strcmp(other_env[i].name, name))
      return TRUE;
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    if (!g_strcmp0(rows[i].env, name))
      return TRUE;
  /* Options of instances, and faults for tests. */
  return g_str_has_prefix(name, "DGP_BACKEND_") || !strcmp(name, "DGP_FAULT");
}

static const char *or_empty(const char *text)
{
  return text ? text : "";
}

static const char *shown_env(size_t i)
{
  const char *value = or_empty(getenv(other_env[i].name));

  return other_env[i].is_secret && *value ? "(set, not shown)" : value;
}

/* Variables of instances: their plugins are not known here, so neither is what
 * is secret. */
static void print_instance_env(GString *out)
{
  g_auto(GStrv) names = g_listenv();

  for (char **name = names; *name; name++)
    if (g_str_has_prefix(*name, "DGP_BACKEND_") && strcmp(*name, "DGP_BACKEND_ALLOW_LOCAL") != 0)
      g_string_append_printf(out, "%s=(set, not shown)\n    An option of a backend.\n", *name);
}

void dg_schema_print_env(GString *out)
{
  for (size_t i = 0; i < G_N_ELEMENTS(other_env); i++)
    g_string_append_printf(out, "%s=%s\n    %s\n", other_env[i].name,
                           shown_env(i), other_env[i].help);
  for (const struct dg_seconds_env *row = seconds_env; row->name; row++)
    g_string_append_printf(out, "%s=%s\n    %s\n", row->name, or_empty(getenv(row->name)),
                           row->help);
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    const char *value = rows[i].env ? getenv(rows[i].env) : NULL;

    if (!rows[i].env)
      continue;
    g_string_append_printf(out, "%s=%s\n    %s.%s: %s", rows[i].env,
                           value && rows[i].option.type == DG_OPT_SECRET ? "(set, not shown)"
                                                                         : or_empty(value),
                           dg_schema_section_name(rows[i].section), rows[i].option.name,
                           rows[i].option.help);
    if (rows[i].option.dflt)
      g_string_append_printf(out, " Default: %s", rows[i].option.dflt);
    g_string_append_c(out, '\n');
  }
  print_instance_env(out);
}

void dg_schema_print_options(GString *out, const struct dg_option *table)
{
  for (const struct dg_option *o = table; o && o->name; o++) {
    g_string_append_printf(out, "  %s (%s", o->name,
                           dg_schema_is_list(o) ? "list" : dg_option_type_name(o->type));
    if (o->type == DG_OPT_ENUM)
      g_string_append_printf(out, ": %s", o->choices);
    if (o->required)
      g_string_append(out, ", required");
    if (o->dflt)
      g_string_append_printf(out, ", default %s", o->dflt);
    g_string_append_printf(out, ")\n      %s\n", o->help);
  }
}
