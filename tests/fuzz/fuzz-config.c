/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file. What loads must export, the export must load, and its own
 * export must be the same bytes. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>

#include "core/config/config.h"
#include "core/plug/plug.h"

#include "common/banned.h"

static const struct dg_option options[] = {
  {.name = "path", .type = DG_OPT_PATH, .dflt = "./data", .help = "Where."},
  {.name = "timeout", .type = DG_OPT_DURATION, .dflt = "30s", .help = "How long."},
  {.name = "endpoint", .type = DG_OPT_STRING, .help = "Where."},
  {.name = "secret_access_key", .type = DG_OPT_SECRET, .help = "What."},
  {.name = NULL},
};

static struct dg_plug_table *table;

static void add(uint32_t kind, const char *name)
{
  struct dg_module *module = g_new0(struct dg_module, 1);

  module->plugin.kind = kind;
  module->plugin.name = name;
  module->plugin.options = options;
  module->file = g_strdup("(built in)");
  dg_plug_table_add(table, module);
}

static void start(void)
{
  static const char *const nowhere[] = {NULL};

  g_setenv("FUZZ_SET", "a: \"b' #{", TRUE);
  table = dg_plug_table_new(nowhere);
  add(DG_KIND_BACKEND, "backend-fs");
  add(DG_KIND_BACKEND, "backend-s3");
  add(DG_KIND_CODEC, "codec-xdelta3");
}

/* NULL when it is refused. */
static struct dg_snapshot *load(const char *text, size_t len)
{
  struct dg_load_params params = {.config_file = "c.yaml", .text = {text, len}, .lint = true};
  struct dg_snapshot *snapshot = NULL;
  struct dg_error err = {0};

  if (dg_snapshot_load(&params, table, &snapshot, &err) < 0) {
    FUZZ_CHECK(err.code != 0 && err.detail[0]);
    return NULL;
  }
  return snapshot;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  g_autoptr(GString) first = g_string_new(NULL), second = g_string_new(NULL);
  struct dg_snapshot *snapshot;

  if (!table)
    start();
  snapshot = load((const char *)data, size);
  if (!snapshot)
    return 0;
  dg_snapshot_export(snapshot, DG_EXPORT_API, second);
  g_string_truncate(second, 0);
  dg_snapshot_export(snapshot, DG_EXPORT_PERSIST, first);
  dg_snapshot_unref(snapshot);
  snapshot = load(first->str, first->len);
  FUZZ_CHECK(snapshot != NULL);
  dg_snapshot_export(snapshot, DG_EXPORT_PERSIST, second);
  dg_snapshot_unref(snapshot);
  FUZZ_CHECK(g_string_equal(first, second));
  return 0;
}
