/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_S3_PLUGIN_H
#define DG_S3_PLUGIN_H

#include <deltaglider/plugin.h>

extern const struct dg_plugin dg_s3_plugin;

#endif
