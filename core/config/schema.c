/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "core/config/schema.h"

#include <stdlib.h>

#include "core/plug/options.h"

#include "common/banned.h"

struct row {
  enum dg_section section;
  struct dg_option option;
  const char *env;
};

static const struct row rows[] = {
#define DG_OPTION_ROW(section, name, type, dflt, choices, min, max, env, help) \
  {DG_SECTION_##section, {#name, DG_OPT_##type, 0, dflt, choices, min, max, help}, env},
#include "core/config/options.def"
#undef DG_OPTION_ROW
};

static struct dg_option tables[DG_SECTION_COUNT][G_N_ELEMENTS(rows) + 1];

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

const char *dg_schema_section_name(enum dg_section section)
{
  static const char *const names[] = {"access", "advanced", "storage", "storage.buckets.NAME"};

  return names[section];
}

const char *dg_schema_env(enum dg_section section, const struct dg_option *option)
{
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    if (rows[i].section == section && !strcmp(rows[i].option.name, option->name))
      return rows[i].env;
  return NULL;
}

gboolean dg_schema_is_list(const struct dg_option *option)
{
  return option->type == DG_OPT_STRING && option->choices && !strcmp(option->choices, ",");
}

const char *dg_schema_unsupported(const char *section, const char *key)
{
  static const char *const known[] = {
    "admission",
    "access.iam_mode",
    "access.iam_users",
    "access.iam_groups",
    "access.auth_providers",
    "access.group_mapping_rules",
    "storage.s3",
    "storage.region",
    "storage.force_path_style",
    "storage.allow_local",
    "storage.backend_encryption",
    "storage.replication",
    "storage.lifecycle",
    "storage.backend.encryption",
    "storage.bucket.public",
    "storage.bucket.public_prefixes",
    "storage.bucket.quota_bytes",
    "storage.bucket.replication_target_only",
    "advanced.tls",
    "advanced.config_sync_bucket",
    "advanced.config_sync_object_key",
    "advanced.bootstrap_password_hash",
    "advanced.event_delivery",
  };
  g_autofree char *path = *section ? g_strdup_printf("%s.%s", section, key) : g_strdup(key);

  if (!strcmp(path, "advanced.encryption_key"))
    return "encryption stands in storage.backend_encryption, which this version does not have "
           "yet: take it out";
  for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
    if (!strcmp(known[i], path))
      return "this version does not have it yet: take it out";
  return NULL;
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

static void print_section(GString *out, enum dg_section section, const char *indent)
{
  for (const struct dg_option *o = dg_schema_options(section); o->name; o++) {
    const char *env = dg_schema_env(section, o);

    g_string_append_printf(out, "%s# %s", indent, o->help);
    if (env)
      g_string_append_printf(out, " [%s]", env);
    g_string_append_printf(out, "\n%s%s%s: ", indent, o->dflt ? "" : "# ", o->name);
    print_value(out, o);
    g_string_append_c(out, '\n');
  }
}

void dg_schema_print_defaults(GString *out)
{
  g_string_append(out, "access:\n");
  print_section(out, DG_SECTION_ACCESS, "  ");
  g_string_append(out, "\nstorage:\n");
  print_section(out, DG_SECTION_STORAGE, "  ");
  g_string_append(out, "  # backend: { type: filesystem, path: ./data }\n"
                       "  # backends: [ { name: archive, type: filesystem, path: /srv/archive } ]\n"
                       "  # buckets:\n  #   releases:\n");
  print_section(out, DG_SECTION_BUCKET, "  #     ");
  g_string_append(out, "\nadvanced:\n");
  print_section(out, DG_SECTION_ADVANCED, "  ");
}

void dg_schema_print_env(GString *out)
{
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    const char *value = rows[i].env ? getenv(rows[i].env) : NULL;

    if (!rows[i].env)
      continue;
    g_string_append_printf(out, "%s=%s\n    %s.%s: %s", rows[i].env,
                           !value                                     ? ""
                           : rows[i].option.type == DG_OPT_SECRET ? "(set, not shown)"
                                                                  : value,
                           dg_schema_section_name(rows[i].section), rows[i].option.name,
                           rows[i].option.help);
    if (rows[i].option.dflt)
      g_string_append_printf(out, " Default: %s", rows[i].option.dflt);
    g_string_append_c(out, '\n');
  }
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
