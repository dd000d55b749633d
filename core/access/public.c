/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/public.h"

#include "common/slice.h"

#include "common/banned.h"

bool dg_public_key(char *const *prefixes, struct dg_slice key)
{
  for (; *prefixes; prefixes++)
    if (dg_slice_starts_with(key, dg_slice_str(*prefixes)))
      return true;
  return false;
}

bool dg_public_listing(char *const *prefixes, struct dg_slice prefix)
{
  if (dg_public_key(prefixes, prefix))
    return true;
  for (; *prefixes; prefixes++)
    if (dg_slice_starts_with(dg_slice_str(*prefixes), prefix))
      return true;
  return false;
}
