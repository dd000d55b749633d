/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor, for the module's entry point and for tests that link the
 * plugin in. */
#ifndef DG_CRYPT_SSEKMS_H
#define DG_CRYPT_SSEKMS_H

#include <deltaglider/plugin.h>

extern const struct dg_plugin dg_ssekms_plugin;

#endif
