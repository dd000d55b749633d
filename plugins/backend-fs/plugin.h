/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor, for the module's entry point and for tests that link the
 * plugin in. */
#ifndef DG_FS_PLUGIN_H
#define DG_FS_PLUGIN_H

#include <deltaglider/plugin.h>

extern const struct dg_plugin dg_fs_plugin;

#endif
