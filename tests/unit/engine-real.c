/* SPDX-License-Identifier: Apache-2.0 */
/* An engine on backend-fs and codec-xdelta3, linked in. */
#include "config.h"

#include <check.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/observe/metrics.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"
#include "engine-double-private.h"
#include "plugins/backend-fs/plugin.h"
#include "plugins/codec-xdelta3/codec.h"

/* Thousands of fsyncs: in memory where memory files take user attributes. What
 * dies here is the process, not the machine, so nothing is lost by it. */
char *double_real_dir(void)
{
  char *made = g_strdup("/dev/shm/engine-real-XXXXXX");

  if (g_mkdtemp(made) && setxattr(made, "user.dg.test", "1", 1, 0) == 0)
    return made;
  (void)rmdir(made);
  g_free(made);
  made = g_strdup_printf("%s/engine-real-XXXXXX", g_get_tmp_dir());
  ck_assert_ptr_nonnull(g_mkdtemp(made));
  return made;
}

void double_real_open(struct double_engine *engine, const char *dir)
{
  static const struct dg_plugin codec_plugin = {
    .struct_size = sizeof codec_plugin,
    .abi_major = DG_ABI_MAJOR,
    .abi_minor = DG_ABI_MINOR,
    .kind = DG_KIND_CODEC,
    .threads = DG_THREADS_PARALLEL,
    .name = "codec-xdelta3",
    .version = PACKAGE_VERSION,
    .summary = "linked in",
    .options = codec_options,
    .ops = &codec_ops,
  };
  g_autofree char *data = g_build_filename(dir, "data", NULL);
  struct dg_named_backend backend = {.name = "default"};
  struct dg_health_params health = {.list_timeout_ms = 60000};
  struct dg_named_codec codec = {.name = "codec-xdelta3"};
  struct dg_engine_params params = {
    .backends = &backend, .backend_count = 1, .codecs = &codec, .codec_count = 1};
  struct dg_config *backend_config, *codec_config;
  struct dg_error err = {0};

  memset(engine, 0, sizeof *engine);
  (void)g_mkdir_with_parents(data, 0700);
  engine->dir = g_strdup(dir);
  engine->snapshot = double_snapshot_new(dir);
  engine->metrics = dg_metrics_new();
  backend_config = dg_config_of(dg_fs_plugin.options, "default", "path", data, NULL);
  codec_config = dg_config_of(codec_options, "codec-xdelta3", NULL);
  ck_assert_msg(dg_module_new(&dg_fs_plugin, "(linked)", &engine->backend_module, &err) == 0 &&
                  dg_backend_new(engine->backend_module, "default", backend_config, NULL,
                                 &engine->backend, &err) == 0 &&
                  dg_module_new(&codec_plugin, "(linked)", &engine->codec_module, &err) == 0 &&
                  dg_codec_new(engine->codec_module, "codec-xdelta3", codec_config, NULL,
                               &engine->codec, &err) == 0,
                "%s", err.detail);
  dg_config_free(backend_config);
  dg_config_free(codec_config);
  backend.backend = engine->backend;
  health.backend = engine->backend;
  backend.health = engine->health = dg_health_new(&health);
  codec.codec = engine->codec;
  params.snapshot = engine->snapshot;
  params.metrics = engine->metrics;
  ck_assert_msg(dg_engine_new(&params, &engine->engine, &err) == 0, "%s", err.detail);
}
