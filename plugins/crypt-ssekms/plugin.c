/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/crypt-ssekms/ssekms.h"

#include "common/banned.h"

DG_PLUGIN_ENTRY(crypt_ssekms, dg_ssekms_plugin)
