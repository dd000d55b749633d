/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/crypt-aesgcm/aesgcm.h"

#include "common/banned.h"

DG_PLUGIN_ENTRY(crypt_aesgcm, dg_aes_plugin)
