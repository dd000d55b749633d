/* SPDX-License-Identifier: Apache-2.0 */
/* Loads, but lacks every operation. */
#include "config.h"

#include <deltaglider/plugin.h>

static const struct dg_backend_ops ops = {.struct_size = sizeof ops};

static const struct dg_plugin plugin = {
  .struct_size = sizeof plugin,
  .abi_major = DG_ABI_MAJOR,
  .abi_minor = DG_ABI_MINOR,
  .kind = DG_KIND_BACKEND,
  .threads = DG_THREADS_PARALLEL,
  .name = "backend-lame",
  .version = "1",
  .summary = "A plugin without operations.",
  .ops = &ops,
};

DG_PLUGIN_ENTRY(backend_lame, plugin)
