/* SPDX-License-Identifier: Apache-2.0 */
/* The core's option tables (options.def) and how they nest (parts.def). [any] */
#ifndef DG_CORE_CONFIG_SCHEMA_H
#define DG_CORE_CONFIG_SCHEMA_H

#include <glib.h>

#include <deltaglider/plugin.h>

struct dg_plug_table;

enum dg_section {
  /* Sections of the file. The first three have options that hold once, in
   * dg_snapshot.options. */
  DG_SECTION_ACCESS,
  DG_SECTION_ADVANCED,
  DG_SECTION_STORAGE,
  DG_SECTION_ADMISSION,
  DG_SECTION_TOP_COUNT,
  /* Entries of their parts. */
  DG_SECTION_BUCKET = DG_SECTION_TOP_COUNT,
  DG_SECTION_BACKEND, /* and the options of its plugin */
  DG_SECTION_CODEC,   /* the options of its plugin alone */
  DG_SECTION_ENCRYPTION, /* of one backend, and the options of its plugin */
  DG_SECTION_TLS,
  DG_SECTION_TLS_CERTIFICATE,
  DG_SECTION_ADMISSION_BLOCK,
  DG_SECTION_ADMISSION_MATCH,
  DG_SECTION_ADMISSION_ACTION,
  DG_SECTION_COUNT
};

enum dg_part_shape {
  DG_PART_MAP,   /* one entry */
  DG_PART_LIST,  /* a list of entries */
  DG_PART_NAMED, /* a map from names to entries */
};

/* One row of parts.def. */
struct dg_part {
  enum dg_section section; /* where it stands */
  const char *key;
  const char *flat_key;    /* in the older flat shape; NULL: not at the root */
  enum dg_part_shape shape;
  enum dg_section entry;
  const char *help;
};

/* Ends at key == NULL. */
extern const struct dg_part dg_schema_parts[];
/* The row of that key, or NULL. */
const struct dg_part *dg_schema_part(enum dg_section section, const char *key);

/* Ends at name == NULL. */
const struct dg_option *dg_schema_options(enum dg_section section);
/* "access", "storage.buckets.NAME" ... */
const char *dg_schema_section_name(enum dg_section section);
/* The environment variable of a row of those tables, or NULL. */
const char *dg_schema_env(enum dg_section section, const struct dg_option *option);
/* A variable in seconds that existing deployments have: it sets an option, a
 * duration, of every backend of a type, unless the backend's entry does. */
struct dg_seconds_env {
  const char *name, *type, *option, *help;
};
/* Static; ends at name == NULL. */
const struct dg_seconds_env *dg_schema_seconds_env(void);
/* Does anything listen to this DGP_ variable? */
gboolean dg_schema_is_known_env(const char *name);
gboolean dg_schema_needs_restart(enum dg_section section, const struct dg_option *option);
gboolean dg_schema_is_list(const struct dg_option *option);

/* storage.filesystem, storage.s3 and what stands beside it: the option of the
 * one backend that the key is short for ("path", "endpoint" ...), or NULL. */
const char *dg_schema_shorthand(const char *storage_key);

/* Why a key of an existing deployment's file is refused: it is known, but this
 * version does not do it. section is "storage", "storage.backend" ... or "" for
 * the top. NULL: simply unknown. */
const char *dg_schema_unsupported(const char *section, const char *key);

/* What to say behind "unknown key 'X'": "", or ": did you mean 'Y'?", or where
 * else the key stands. section may be DG_SECTION_COUNT: none. plugin is the table
 * of the entry's plugin, or NULL. Transferred. */
char *dg_schema_hint(enum dg_section section, const struct dg_option *plugin, const char *key);

/* For `config example`: every section as YAML, with help as comments. */
void dg_schema_print_example(GString *out);
/* For `config schema`: JSON Schema, draft-07, of the sectioned shape, with the
 * options of every plugin that table finds. Plugins that do not load add a
 * message to warnings (char *). [startup] */
void dg_schema_print_json(struct dg_plug_table *table, GPtrArray *warnings, GString *out);
/* For --show-env: each variable, what it sets, its value now (secrets hidden). */
void dg_schema_print_env(GString *out);
/* One option table as the manual and --describe-plugin show it. */
void dg_schema_print_options(GString *out, const struct dg_option *table);

#endif
