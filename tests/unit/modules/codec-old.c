/* SPDX-License-Identifier: Apache-2.0 */
/* Built for another ABI. */
#include "config.h"

#include <deltaglider/plugin.h>

static const struct dg_codec_ops ops = {.struct_size = sizeof ops};

static const struct dg_plugin plugin = {
  .struct_size = sizeof plugin,
  .abi_major = DG_ABI_MAJOR + 1,
  .abi_minor = 0,
  .kind = DG_KIND_CODEC,
  .threads = DG_THREADS_PARALLEL,
  .name = "codec-old",
  .version = "1",
  .summary = "A plugin of another ABI.",
  .ops = &ops,
};

DG_PLUGIN_ENTRY(codec_old, plugin)
