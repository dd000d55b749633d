/* SPDX-License-Identifier: Apache-2.0 */
/* Calls what nobody defines: loading must fail, with the symbol's name. */
#include "config.h"

#include <deltaglider/plugin.h>

int nobody_defines_this(void);

static void destroy(void *self)
{
  (void)self;
  (void)nobody_defines_this();
}

static const struct dg_codec_ops ops = {.struct_size = sizeof ops, .destroy = destroy};

static const struct dg_plugin plugin = {
  .struct_size = sizeof plugin,
  .abi_major = DG_ABI_MAJOR,
  .abi_minor = DG_ABI_MINOR,
  .kind = DG_KIND_CODEC,
  .threads = DG_THREADS_PARALLEL,
  .name = "codec-broken",
  .version = "1",
  .summary = "A plugin with a missing symbol.",
  .ops = &ops,
};

DG_PLUGIN_ENTRY(codec_broken, plugin)
