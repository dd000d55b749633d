/* SPDX-License-Identifier: Apache-2.0 */
/* What lies below a bucket's public prefixes. prefixes: as in struct
 * dg_bucket_config, NULL-terminated; each ends with '/', or is "": the whole
 * bucket. Thread: [any]. */
#ifndef DG_CORE_ACCESS_PUBLIC_H
#define DG_CORE_ACCESS_PUBLIC_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

/* May everyone read this key? */
bool dg_public_key(char *const *prefixes, struct dg_slice key);

/* May a listing with this prefix (may be absent) hold a public key? Such a
 * listing is admitted, and shows the public keys alone. */
bool dg_public_listing(char *const *prefixes, struct dg_slice prefix);

#endif
