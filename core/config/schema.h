/* SPDX-License-Identifier: Apache-2.0 */
/* The core's option tables (options.def), by section. [any] */
#ifndef DG_CORE_CONFIG_SCHEMA_H
#define DG_CORE_CONFIG_SCHEMA_H

#include <glib.h>

#include <deltaglider/plugin.h>

enum dg_section {
  DG_SECTION_ACCESS,
  DG_SECTION_ADVANCED,
  DG_SECTION_STORAGE,
  DG_SECTION_BUCKET, /* one entry of storage.buckets */
  DG_SECTION_COUNT
};

/* Ends at name == NULL. */
const struct dg_option *dg_schema_options(enum dg_section section);
/* "access", "storage.buckets.NAME" ... */
const char *dg_schema_section_name(enum dg_section section);
/* The environment variable of a row of those tables, or NULL. */
const char *dg_schema_env(enum dg_section section, const struct dg_option *option);
gboolean dg_schema_is_list(const struct dg_option *option);

/* Why a key of an existing deployment's file is refused: it is known, but this
 * version does not do it. path is "storage.replication", "storage.backend.encryption".
 * NULL: simply unknown. */
const char *dg_schema_unsupported(const char *section, const char *key);

/* For `config defaults`: every section as YAML, with help as comments. */
void dg_schema_print_defaults(GString *out);
/* For --show-env: each variable, what it sets, its value now (secrets hidden). */
void dg_schema_print_env(GString *out);
/* One option table as the manual and --describe-plugin show it. */
void dg_schema_print_options(GString *out, const struct dg_option *table);

#endif
