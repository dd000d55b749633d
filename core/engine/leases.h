/* SPDX-License-Identifier: Apache-2.0 */
/* Leases on deltaspaces, where several servers share a storage: taken when a
 * worker needs one, renewed while it works, given back soon after.
 *
 *   none --enter--> used --leave--> parked --enter--> used ...
 *                                     |
 *                                   given
 *
 * A parked lease waits a moment for the next worker, so that a burst of writes
 * costs one lease; after a turn of half a second it goes back all the same, for
 * the other servers. One that cannot be given back yet (dg_backend_ops.lease_give)
 * stays parked and is not used again.
 *
 * Two threads: one renews and gives back, the other looks for leases that a dead
 * server left, and tidies up behind it. */
#ifndef DG_CORE_ENGINE_LEASES_H
#define DG_CORE_ENGINE_LEASES_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_engine;
struct dg_route;
struct dg_leases;
struct dg_lease_hold;

/* ttl_ms, wait_ms: how long a lease lasts, and how long a worker waits for one
 * that another server has. [startup] */
struct dg_leases *dg_leases_new(struct dg_engine *engine, uint32_t ttl_ms, uint32_t wait_ms);
void dg_leases_start(struct dg_leases *leases); /* [startup] once the engine is whole */
void dg_leases_free(struct dg_leases *leases); /* no lease is used; NULL is fine. [startup] */

/* [worker] The caller keeps every other worker of this server away from the
 * deltaspace. began_mono_ms: when it began to wait, for them first: those who
 * queued behind one that waited in vain are not to wait as long again, each in its
 * turn. *ret_lapsed: it was taken over from a server that never gave it
 * back, and may have left something half done. DG_E_SLOW_DOWN: another server
 * has it, all the time. */
int dg_lease_enter(struct dg_leases *leases, const struct dg_call *call,
                   const struct dg_route *route, struct dg_slice prefix, uint64_t began_mono_ms,
                   struct dg_lease_hold **ret_hold, bool *ret_lapsed, struct dg_error *err);
#define DG_LEASE_PARK 0u /* the next worker may have it */
#define DG_LEASE_GIVE 1u /* back, before this returns */
#define DG_LEASE_KEEP 2u /* left to lapse: whoever takes it over has to tidy up */
void dg_lease_leave(struct dg_lease_hold *hold, uint32_t how);

/* [worker] Gives back what is parked for a bucket. */
void dg_leases_flush(struct dg_leases *leases, const struct dg_route *route);

#endif
