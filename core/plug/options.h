/* SPDX-License-Identifier: Apache-2.0 */
/* Typed options: from a table and texts to the struct dg_config a plugin reads.
 * The core's own sections use the same tables. [startup] unless noted. */
#ifndef DG_CORE_PLUG_OPTIONS_H
#define DG_CORE_PLUG_OPTIONS_H

#include <glib.h>

#include <deltaglider/plugin.h>

struct evp_md_ctx_st;

struct dg_option_value {
  char *text;     /* as given; NULL: not set. Wiped when freed if secret */
  int64_t number; /* INT, SIZE (bytes), DURATION (ms), BOOL (0, 1) */
  double real;    /* DOUBLE, and INT as well */
};

/* Parses text by the row's type and range. On failure err->detail reads
 * `'12 parsecs' is not a duration: use 500ms, 30s, 5m, 2h or 1d`, without the
 * option's name: callers know where it stands. ret_value is init'ed and must
 * be cleared. */
int dg_option_parse(const struct dg_option *option, const char *text,
                    struct dg_option_value *ret_value, struct dg_error *err);
void dg_option_value_clear(const struct dg_option *option, struct dg_option_value *value);

/* "string", "size" ... for messages and manuals. */
const char *dg_option_type_name(uint32_t type);

/* Is the table well formed: names, types, defaults that parse, help present?
 * A NULL table is fine. */
int dg_options_check(const struct dg_option *table, struct dg_error *err);

/* The row of that name, or NULL. */
const struct dg_option *dg_options_find(const struct dg_option *table, const char *name);
/* The nearest name in the table for "did you mean"; NULL if none is near. */
const char *dg_options_nearest(const struct dg_option *table, const char *name);
/* The same over a NULL-terminated list of names. */
const char *dg_nearest_name(const char *const *names, const char *name);

/* A configuration under construction. The table and nothing else is borrowed
 * for its life. Free with dg_config_free(). */
struct dg_config *dg_config_new(const struct dg_option *table, const char *instance_name);
/* Sets one option. Unknown names and bad values: DG_E_CONFIG. */
int dg_config_set(struct dg_config *config, const char *name, const char *text,
                  struct dg_error *err);
int dg_config_is_set(const struct dg_config *config, const char *name);
/* The table it was made with. Borrowed. */
const struct dg_option *dg_config_table(const struct dg_config *config);
/* Fills in defaults; fails on a required option that is missing. */
int dg_config_finish(struct dg_config *config, struct dg_error *err);
/* Adds every name and value to hash, an EVP_MD_CTX: two configurations of one table
 * with the same digest are equal. Secrets count, so before they are wiped. */
void dg_config_hash(const struct dg_config *config, struct evp_md_ctx_st *hash);
/* Wipes the secrets, as if they had not been set. */
void dg_config_forget_secrets(struct dg_config *config);
void dg_config_free(struct dg_config *config);

/* A finished configuration from name, value, ... NULL. Fails by g_error(): for
 * tests and tools. */
struct dg_config *dg_config_of(const struct dg_option *table, const char *instance_name,
                               ...) G_GNUC_NULL_TERMINATED;

#endif
