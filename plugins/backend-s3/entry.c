/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugin.h"

#include "common/banned.h"

DG_PLUGIN_ENTRY(backend_s3, dg_s3_plugin)
