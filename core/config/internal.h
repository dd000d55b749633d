/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of core/config only. */
#ifndef DG_CORE_CONFIG_INTERNAL_H
#define DG_CORE_CONFIG_INTERNAL_H

#include "core/config/config.h"
#include "core/config/schema.h"
#include "core/config/tree.h"

/* One load in progress. */
struct dg_load {
  const struct dg_load_params *params;
  struct dg_plug_table *table;
  char *file;                       /* for messages; never NULL */
  struct dg_config *sections[DG_SECTION_COUNT]; /* access, advanced, storage */
  struct dg_snapshot *snapshot;
  /* Of the storage section; borrowed from the tree, NULL if absent. */
  const struct dg_yaml *backend, *backends, *buckets, *codecs;
};

struct dg_snapshot *dg_snapshot_new(void);

/* From finished advanced options to the snapshot's fields and bucket defaults. */
int dg_snapshot_apply_advanced(struct dg_snapshot *snapshot, const struct dg_config *advanced,
                               struct dg_error *err);

/* From the storage nodes to backends, codecs and buckets. After
 * dg_snapshot_apply_advanced(). */
int dg_load_storage(struct dg_load *load, struct dg_error *err);

/* Sets one option from a node; path is the map's, for messages. */
int dg_load_option(struct dg_load *load, struct dg_config *config, const char *path,
                   const struct dg_option *table, const struct dg_yaml *key,
                   const struct dg_yaml *value, struct dg_error *err);

/* `FILE:LINE:COLUMN: message` with DG_E_CONFIG. */
DG_PRINTF(4, 5)
int dg_load_fail(const struct dg_load *load, const struct dg_yaml *node, struct dg_error *err,
                 const char *format, ...);

DG_PRINTF(2, 3)
void dg_load_warn(struct dg_snapshot *snapshot, const char *format, ...);

/* "a, b" -> {"a", "b", NULL}, lower case, blanks trimmed. Free with g_strfreev(). */
char **dg_split_list(const char *text);

#endif
