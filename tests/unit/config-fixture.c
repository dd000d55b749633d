/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "config-fixture.h"

#include <glib/gstdio.h>
#include <unistd.h>

#include "core/config/schema.h"
#include "core/plug/options.h"

char config_folder[] = "/tmp/test-config-XXXXXX";
char *config_file;
struct dg_plug_table *config_table;

/* A checked module needs every op; none is ever called here. */
static const struct dg_option fs_options[] = {
  {.name = "path", .type = DG_OPT_PATH, .dflt = "./data", .help = "Where."},
  {.name = "timeout", .type = DG_OPT_DURATION, .dflt = "30s", .help = "How long."},
  {.name = "token", .type = DG_OPT_SECRET, .help = "What."},
  {.name = NULL},
};

static const struct dg_option s3_options[] = {
  {.name = "endpoint", .type = DG_OPT_STRING, .help = "Where."},
  {.name = "region", .type = DG_OPT_STRING, .dflt = "us-east-1", .help = "Its region."},
  {.name = "force_path_style", .type = DG_OPT_BOOL, .dflt = "true", .help = "How."},
  {.name = "access_key_id", .type = DG_OPT_STRING, .help = "Who."},
  {.name = "secret_access_key", .type = DG_OPT_SECRET, .help = "Prove it."},
  {.name = "allow_local", .type = DG_OPT_BOOL, .dflt = "false", .help = "Near."},
  {.name = "read_timeout", .type = DG_OPT_DURATION, .max = 3600000, .help = "How long."},
  {.name = "part_size", .type = DG_OPT_SIZE, .dflt = "64MiB", .help = "How much."},
  {.name = NULL},
};

static struct dg_module *fake_module(uint32_t kind, const char *name,
                                     const struct dg_option *options)
{
  struct dg_module *module = g_new0(struct dg_module, 1);

  module->plugin.kind = kind;
  module->plugin.name = name;
  module->plugin.options = options;
  module->file = g_strdup("(built in)");
  return module;
}

void config_setup(void)
{
  static const char *const nowhere[] = {NULL};

  for (int section = 0; section < DG_SECTION_COUNT; section++)
    for (const struct dg_option *o = dg_schema_options((enum dg_section)section); o->name; o++)
      if (dg_schema_env((enum dg_section)section, o))
        g_unsetenv(dg_schema_env((enum dg_section)section, o));
  g_unsetenv("DGP_CONFIG");
  g_unsetenv("RUST_LOG");
  (void)g_strlcpy(config_folder, "/tmp/test-config-XXXXXX", sizeof "/tmp/test-config-XXXXXX");
  ck_assert_ptr_nonnull(g_mkdtemp(config_folder));
  ck_assert_int_eq(g_chdir(config_folder), 0);
  config_file = g_build_filename(config_folder, "c.yaml", NULL);
  config_table = dg_plug_table_new(nowhere);
  dg_plug_table_add(config_table, fake_module(DG_KIND_BACKEND, "backend-fs", fs_options));
  dg_plug_table_add(config_table, fake_module(DG_KIND_BACKEND, "backend-null", NULL));
  dg_plug_table_add(config_table, fake_module(DG_KIND_BACKEND, "backend-s3", s3_options));
  dg_plug_table_add(config_table, fake_module(DG_KIND_CODEC, "codec-xdelta3", NULL));
}

void config_teardown(void)
{
  (void)unlink(config_file);
  (void)g_chdir("/");
  (void)rmdir(config_folder);
  g_free(config_file);
  dg_plug_table_free(config_table);
}

int config_load(const char *text, struct dg_snapshot **snapshot, struct dg_error *err)
{
  struct dg_load_params params = {.config_file = text ? config_file : NULL};

  if (text)
    ck_assert(g_file_set_contents(config_file, text, -1, NULL));
  return dg_snapshot_load(&params, config_table, snapshot, err);
}

struct dg_snapshot *config_loaded(const char *text)
{
  struct dg_snapshot *snapshot = NULL;
  struct dg_error err = {0};

  ck_assert_msg(config_load(text, &snapshot, &err) == 0, "%s", err.detail);
  return snapshot;
}

void config_refused(const char *text, int32_t code, const char *words)
{
  struct dg_snapshot *snapshot = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(config_load(text, &snapshot, &err), -1);
  ck_assert_msg(strstr(err.detail, words), "'%s' lacks '%s'", err.detail, words);
  ck_assert_int_eq(err.code, code);
  ck_assert_ptr_null(snapshot);
}

static gboolean holds(const GPtrArray *messages, const char *words)
{
  for (guint i = 0; i < messages->len; i++)
    if (strstr(messages->pdata[i], words))
      return TRUE;
  return FALSE;
}

gboolean config_warned(const struct dg_snapshot *snapshot, const char *words)
{
  return holds(snapshot->warnings, words) || holds(snapshot->errors, words);
}

const struct dg_bucket_config *config_bucket(const struct dg_snapshot *snapshot, const char *name)
{
  return dg_snapshot_bucket(snapshot, (struct dg_slice){name, strlen(name)});
}

int config_run(TCase *tests)
{
  Suite *suite = suite_create("config");
  SRunner *runner;
  int failed;

  tcase_add_checked_fixture(tests, config_setup, config_teardown);
  suite_add_tcase(suite, tests);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
