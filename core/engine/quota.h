/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets with a quota: what they hold, and whether more fits.
 *
 * Each has a ledger (ledger.h), found by where the bucket lies: all names of one
 * bucket count together, and one without a quota counts with another that has one.
 * Where no bucket has a quota, all of this is one load of an atomic.
 *
 * Threads of their own count, at most one for each backend: each bucket that is not
 * known (new to its quota, made anew, or after the machine went down), what a killed
 * server left in doubt, and each bucket again and again to see what others wrote
 * there. Until a bucket is known, what would grow it is refused with DG_E_SLOW_DOWN;
 * the rest goes on.
 *
 * Lock order: those of locks.h -> the registry's mutex -> a ledger's. These threads
 * take bucket and deltaspace locks while they hold no mutex. */
#ifndef DG_CORE_ENGINE_QUOTA_H
#define DG_CORE_ENGINE_QUOTA_H

#include "core/engine/internal.h"
#include "core/engine/ledger.h"

struct dg_quota;

/* [startup] Never fails: a state
 * directory that cannot be written costs counts at the next start. */
struct dg_quota *dg_quota_new(struct dg_engine *engine);
void dg_quota_start(struct dg_quota *quota);  /* [startup] once the engine is whole */
void dg_quota_reread(struct dg_quota *quota); /* [any] the engine's view is another one */
/* [startup] After the last change; before the locks and the routes go. NULL is fine. */
void dg_quota_free(struct dg_quota *quota);

/* What an object counts: nothing, if clients do not see it. */
struct dg_use dg_quota_use(const struct dg_meta *meta); /* NULL: none */
static inline struct dg_use dg_quota_object(uint64_t size_bytes)
{
  return (struct dg_use){.objects = 1, .bytes = size_bytes};
}

/* ---- Hooks of what changes objects ------------------------------------------------- */

struct dg_quota_book;

struct dg_quota_change {
  struct dg_quota_book *book; /* NULL: nobody counts here */
  struct dg_engine *engine;
  const struct dg_call *call;
  const struct dg_route *route;
  struct dg_slice key;
  struct dg_use after;
  uint32_t number;
};

/* [worker] Before a body is sent: would it fit? size_bytes: DG_TO_END if unknown. A
 * hint that saves the way; dg_quota_begin() decides. Holds no lock: it may wait for
 * a count for a while. DG_E_QUOTA, DG_E_SLOW_DOWN. */
int dg_quota_admit(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_route *route, struct dg_slice bucket, struct dg_slice key,
                   uint64_t size_bytes, struct dg_error *err);

/* [worker] Under the lock of the key, once `found` is known and before the object is
 * touched. after: what it will count; {0} for a deletion. Everything stays valid until
 * dg_quota_end(), which must follow success, under the same lock. What shrinks, or
 * stays as it is, always passes the limit. DG_E_QUOTA, DG_E_SLOW_DOWN. */
int dg_quota_begin(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_route *route, struct dg_slice bucket, struct dg_slice key,
                   const struct dg_found *found, struct dg_use after,
                   struct dg_quota_change *ret_change, struct dg_error *err);
/* done: the object is what it was to become. Else it is looked at: a step that
 * fails late may have been taken all the same. */
void dg_quota_end(struct dg_quota_change *change, bool done);

/* [worker] The bucket was made or deleted: it is counted anew. */
void dg_quota_reset(struct dg_engine *engine, const struct dg_route *route,
                    struct dg_slice bucket);

#endif
