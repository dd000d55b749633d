/* SPDX-License-Identifier: Apache-2.0 */
/* A shared object that is no plugin. */
#include "config.h"

#include <deltaglider/plugin.h>

DG_EXPORT int backend_mute_says(void);

DG_EXPORT int backend_mute_says(void)
{
  return 0;
}
