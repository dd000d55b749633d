/* SPDX-License-Identifier: Apache-2.0 */
/* A folder, a file in it and a table of fake plugins, to load configurations
 * from. Fixtures of libcheck. */
#ifndef CONFIG_FIXTURE_H
#define CONFIG_FIXTURE_H

#include <check.h>
#include <glib.h>
#include <stdlib.h>

#include "core/config/config.h"
#include "core/plug/plug.h"

#define CREDENTIALS "access: {access_key_id: AK, secret_access_key: SK}\n"

extern char config_folder[];
extern char *config_file;
/* backend-fs, backend-null (no options), backend-s3, codec-xdelta3. */
extern struct dg_plug_table *config_table;

void config_setup(void);    /* and no DGP_* variable is set */
void config_teardown(void);

/* text: of the file; NULL: no file. */
int config_load(const char *text, struct dg_snapshot **snapshot, struct dg_error *err);
/* Must load. */
struct dg_snapshot *config_loaded(const char *text);
/* Must not load; the message must hold `words`. */
void config_refused(const char *text, int32_t code, const char *words);
gboolean config_warned(const struct dg_snapshot *snapshot, const char *words);
const struct dg_bucket_config *config_bucket(const struct dg_snapshot *snapshot, const char *name);

/* Runs the case with the fixture; returns main()'s result. */
int config_run(TCase *tests);

#endif
