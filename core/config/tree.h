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
  unsigned line, column;    /* from 1, in the file as written */
  char *text;               /* scalar; "" for a null. Wiped when freed */
  char *ref;                /* scalar with ${env:NAME}: as YAML, references and all; or NULL.
                               Wiped when freed: it may hold a secret's default */
  gboolean is_only_refs;    /* ref is nothing but references, none with a default */
  gboolean is_null;         /* plain ~, null or nothing */
  gboolean is_forgotten;    /* scalar: a secret was here; text is its fingerprint */
  gboolean is_verbatim;     /* scalar: written as it is, neither quoted nor escaped */
  GPtrArray *keys;          /* map: struct dg_yaml * scalars, in file order */
  GPtrArray *values;        /* map: parallel to keys; list: the entries */
};

/* ---- References to the environment ------------------------------------------------ */

/* The marker of replacement number i is U+F0000 + i. */
#define DG_YAML_MARKER 0xf0000u
#define DG_YAML_MARKER_LAST 0xffffdu

/* One replacement: where it stands in the text that came out and in the file, and
 * what belongs in the place of its marker. Columns from 1, in characters; ends are
 * past it. */
struct dg_yaml_edit {
  unsigned line, column, end_column;
  unsigned file_column, file_end_column;
  size_t index; /* of its first character in the text that came out */
  char *value;  /* of the variable, wiped when freed; NULL: no marker, but a default or `$` */
  char *ref;    /* "${env:NAME}", "${env:NAME:-default}"; NULL: the file's own private character */
};

/* Replaces ${env:NAME} and ${env:NAME:-default} by a marker if the variable is set,
 * else by the default, and `$$` by `$`; other dollars stay. The text that comes out
 * holds nothing of the environment. DG_E_INVALID_ARGUMENT, `FILE:LINE:COLUMN: cause`.
 * *ret_text is transferred. *ret_edits (struct dg_yaml_edit, in order) is transferred;
 * free it with g_array_unref(). */
int dg_yaml_interpolate(struct dg_slice text, const char *file, GString **ret_text,
                        GArray **ret_edits, struct dg_error *err);

/* ---- Parsing ------------------------------------------------------------------------- */

/* file is for messages; edits (may be NULL) are those of the interpolation, whose
 * values come to stand in the scalars.
 * An empty document gives an empty map. Errors: DG_E_INVALID_ARGUMENT,
 * `FILE:LINE:COLUMN: cause`. *ret_root is transferred. */
int dg_yaml_parse(struct dg_slice text, const char *file, const GArray *edits,
                  struct dg_yaml **ret_root, struct dg_error *err);
void dg_yaml_free(struct dg_yaml *node); /* NULL is fine */

/* ---- Reading and rebuilding ------------------------------------------------------------ */

/* The value of a key of a map, or NULL. Borrowed. */
struct dg_yaml *dg_yaml_get(const struct dg_yaml *map, const char *key);

/* New nodes with the place of `at`, which may be NULL. Transferred. */
struct dg_yaml *dg_yaml_new_map(const struct dg_yaml *at);
struct dg_yaml *dg_yaml_new_list(const struct dg_yaml *at);
struct dg_yaml *dg_yaml_new_text(const struct dg_yaml *at, const char *text);
/* Appends to a map; key and value are transferred. */
void dg_yaml_put(struct dg_yaml *map, struct dg_yaml *key, struct dg_yaml *value);
/* Takes entry i out of a map; both are transferred to the caller. */
void dg_yaml_take(struct dg_yaml *map, guint i, struct dg_yaml **ret_key,
                  struct dg_yaml **ret_value);

/* ---- Writing ----------------------------------------------------------------------------- */

/* Writes a map so that interpolation and parsing give it back: block style, keys
 * sorted by their bytes, lists in order. */
void dg_yaml_print(const struct dg_yaml *map, GString *out);

/* Writes one text, for the value of a key, in these quotes; in double quotes where
 * these cannot hold it. */
enum dg_yaml_quote { DG_YAML_PLAIN, DG_YAML_SINGLE, DG_YAML_DOUBLE };
void dg_yaml_print_text(const char *text, enum dg_yaml_quote quote, GString *out);

#endif
