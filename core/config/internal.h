/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of core/config only. */
#ifndef DG_CORE_CONFIG_INTERNAL_H
#define DG_CORE_CONFIG_INTERNAL_H

#include "core/config/config.h"
#include "core/config/schema.h"
#include "core/config/tree.h"

struct dg_module;

/* One load in progress. */
struct dg_load {
  const struct dg_load_params *params;
  struct dg_plug_table *table;
  char *file;                       /* for messages; never NULL */
  struct dg_snapshot *snapshot;     /* its options and document fill up first */
};

struct dg_snapshot *dg_snapshot_new(void);

/* ---- Nodes to options (option.c) --------------------------------------------------- */

/* `FILE:LINE:COLUMN: message` with DG_E_CONFIG. */
DG_PRINTF(4, 5)
int dg_load_fail(const struct dg_load *load, const struct dg_yaml *node, struct dg_error *err,
                 const char *format, ...);

DG_PRINTF(2, 3)
void dg_load_warn(struct dg_snapshot *snapshot, const char *format, ...);
/* Wrong, but the server can go on without it. */
DG_PRINTF(2, 3)
void dg_load_error(struct dg_snapshot *snapshot, const char *format, ...);

/* Sets the options of one map: those of section's table, or those of plugin (NULL:
 * none) when it has one; then the section's own options are the caller's to
 * read. Parts are the caller's too. Unknown keys fail. map may be null or NULL.
 * path is the map's, for messages. */
int dg_load_entry(const struct dg_load *load, enum dg_section section,
                  const struct dg_option *plugin, const char *path, const struct dg_yaml *map,
                  struct dg_config *config, struct dg_error *err);

/* The node of a section's part, or of an entry's; NULL if absent or null. */
const struct dg_yaml *dg_load_part(const struct dg_load *load, enum dg_section section,
                                   const char *key);
const struct dg_yaml *dg_load_entry_part(const struct dg_yaml *map, const char *key);

/* `secret_file: PATH` stands for the secret option `secret`: that, or NULL. */
const struct dg_option *dg_load_secret_of_file_key(const struct dg_option *table, const char *key);

/* Sets one option from the environment variable of that name, if it is set. A
 * bad truth value is a warning. */
int dg_load_env(const struct dg_load *load, struct dg_config *config,
                const struct dg_option *option, const char *env, struct dg_error *err);

/* "a, b" -> {"a", "b", NULL}, lower case, blanks trimmed. Free with g_strfreev(). */
char **dg_split_list(const char *text);

/* ---- The parts of a load ------------------------------------------------------------- */

/* Brings the tree into the canonical shape (shape.c). */
int dg_load_shape(const struct dg_load *load, struct dg_yaml *root, struct dg_error *err);

/* From finished access and advanced options to the snapshot's fields and bucket
 * defaults (fields.c). */
int dg_load_access(const struct dg_load *load, struct dg_error *err);
int dg_snapshot_apply_advanced(struct dg_snapshot *snapshot, const struct dg_config *advanced,
                               struct dg_error *err);
/* The value of `verify_passthrough_reads`, which is set. */
enum dg_verify_reads dg_verify_reads_of(const struct dg_config *options);

/* advanced.tls to snapshot->tls (tls.c). */
int dg_load_tls(const struct dg_load *load, struct dg_error *err);
GArray *dg_tls_pairs_new(void);
void dg_tls_config_clear(struct dg_tls_config *tls);

/* admission.blocks to snapshot->admission (admission.c). */
int dg_load_admission(const struct dg_load *load, struct dg_error *err);
void dg_admission_block_free(void *block); /* GDestroyNotify */

/* From the storage nodes to backends, codecs and buckets (storage.c, bucket.c).
 * After dg_snapshot_apply_advanced(). */
int dg_load_storage(const struct dg_load *load, struct dg_error *err);
int dg_load_buckets(const struct dg_load *load, struct dg_error *err);
void dg_bucket_config_clear(struct dg_bucket_config *bucket);
const struct dg_backend_config *dg_snapshot_find_backend(const struct dg_snapshot *snapshot,
                                                         const char *name);
/* "xdelta3" or "codec-xdelta3" -> "codec-xdelta3". Transferred. */
char *dg_plugin_of_codec(const char *codec);
/* "filesystem" -> "backend-fs", any other X -> "backend-X". Transferred. */
char *dg_plugin_of_backend_type(const char *type);
/* Fills backend->encryption from its map (NULL: none) and the environment
 * (encryption.c). path is the map's, for messages; is_single: the one backend. */
int dg_load_encryption(const struct dg_load *load, struct dg_backend_config *backend,
                       const struct dg_module *backend_plugin, const struct dg_yaml *map,
                       const char *path, bool is_single, struct dg_error *err);
/* What two backends must not say of their keys. */
int dg_check_encryption(const struct dg_load *load, struct dg_error *err);
void dg_encryption_config_free(struct dg_encryption_config *config); /* NULL is fine */
/* The options an encryption map of the document was read with, or NULL. */
const struct dg_option *dg_encryption_table(const struct dg_snapshot *snapshot,
                                            const struct dg_yaml *map);
/* The options of the plugin that an entry of the document is for; NULL if it has none, or
 * was not loaded, because something else took its place. name: of an entry that has one. */
const struct dg_option *dg_document_table(const struct dg_snapshot *snapshot,
                                          enum dg_section section, const char *name,
                                          const struct dg_yaml *map);
/* Loads a codec's options once; what names it, for messages. */
int dg_load_codec(const struct dg_load *load, const char *plugin_name, const char *what,
                  struct dg_error *err);

#endif
