/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <deltaglider/plugin.h>

#include "plugins/codec-xdelta3/codec.h"

#include "common/banned.h"

static const struct dg_plugin plugin = {
    .struct_size = sizeof plugin,
    .abi_major = DG_ABI_MAJOR,
    .abi_minor = DG_ABI_MINOR,
    .kind = DG_KIND_CODEC,
    .threads = DG_THREADS_PARALLEL,
    .name = "codec-xdelta3",
    .version = PACKAGE_VERSION,
    .summary = "VCDIFF deltas that xdelta3 reads, and those it writes",
    .options = codec_options,
    .ops = &codec_ops,
};

DG_PLUGIN_ENTRY(codec_xdelta3, plugin)
