/* SPDX-License-Identifier: Apache-2.0 */
/* YAML text as a small tree that remembers where everything stood.
 *
 * Scalars stay text: types come from option tables, so `no` is text until a
 * boolean option says otherwise. Anchors, aliases, tags and a second document
 * are refused: they have no use here and are how small files grow large. */
#ifndef DG_CORE_CONFIG_TREE_H
#define DG_CORE_CONFIG_TREE_H

#include <glib.h>

#include <deltaglider/plugin.h>

enum dg_yaml_type { DG_YAML_SCALAR, DG_YAML_MAP, DG_YAML_LIST };

struct dg_yaml {
  enum dg_yaml_type type;
  unsigned line, column;    /* from 1 */
  char *text;               /* scalar; "" for a null */
  gboolean is_null;         /* plain ~, null or nothing */
  GPtrArray *keys;          /* map: struct dg_yaml * scalars, in file order */
  GPtrArray *values;        /* map: parallel to keys; list: the entries */
};

/* file is for messages. An empty document gives an empty map. Errors:
 * DG_E_INVALID_ARGUMENT, `FILE:LINE:COLUMN: cause`. *ret_root is transferred. */
int dg_yaml_parse(struct dg_slice text, const char *file, struct dg_yaml **ret_root,
                  struct dg_error *err);
void dg_yaml_free(struct dg_yaml *node); /* NULL is fine */

/* The value of a key of a map, or NULL. Borrowed. */
struct dg_yaml *dg_yaml_get(const struct dg_yaml *map, const char *key);

/* Replaces ${env:NAME} and ${env:NAME:-default} by the environment, `$$` by
 * `$`; other dollars stay. Errors name file, line and column. *ret_text is
 * transferred. */
int dg_yaml_interpolate(struct dg_slice text, const char *file, GString **ret_text,
                        struct dg_error *err);

#endif
