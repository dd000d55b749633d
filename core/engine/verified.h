/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies at rest that were found to have their SHA-256. A range has no digest of its
 * own: with verify_passthrough_reads on, the whole body is read once before the first
 * range of it goes out, and remembered by its validator, so that no further range of
 * the same version costs that again. */
#ifndef DG_CORE_ENGINE_VERIFIED_H
#define DG_CORE_ENGINE_VERIFIED_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_engine;
struct dg_route;
struct dg_verified;

struct dg_verified *dg_verified_new(void);
void dg_verified_free(struct dg_verified *verified); /* NULL is fine */

/* One version of one body. */
struct dg_verified_name {
  uint8_t sha256[32];
};
/* False: there is no digest to check it against, or no validator to know it by again. [any] */
bool dg_verified_name(const struct dg_route *route, struct dg_slice key, const struct dg_meta *meta,
                      struct dg_verified_name *ret_name);
/* Somebody has read all of it, and it was good. [any] */
void dg_verified_add(struct dg_verified *verified, const struct dg_verified_name *name);

/* [worker] Reads the passthrough that meta describes, unless it is known to be good.
 * One request does that at a time; the others wait as their calls allow. ret_deferred:
 * as in dg_get_request. DG_E_CORRUPT: it is not what it was. DG_E_NO_SUCH_KEY: not, or no
 * longer, the version of meta. Success when there is no digest. */
int dg_verified_ensure(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_route *route, struct dg_slice key,
                       const struct dg_meta *meta, bool *ret_deferred, struct dg_error *err);

#endif
