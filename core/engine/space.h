/* SPDX-License-Identifier: Apache-2.0 */
/* The right to change a deltaspace, or one object in it: the locks that keep other
 * workers of this server away (locks.h) and, on a storage that several servers
 * share, the lease that keeps those away (leases.h). A lease is for a whole
 * deltaspace: there the right to one object is the right to all. */
#ifndef DG_CORE_ENGINE_SPACE_H
#define DG_CORE_ENGINE_SPACE_H

#include "core/engine/internal.h"

struct dg_space;

/* [worker] Waits for all of it, alone: to make or remove its reference. route and
 * prefix stay valid until dg_space_leave(). DG_E_SLOW_DOWN when it is not to be had,
 * DG_E_CANCELLED. */
int dg_space_enter(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_route *route, struct dg_slice prefix,
                   struct dg_space **ret_space, struct dg_error *err);
/* [worker] The same for one object: others of its deltaspace may change meanwhile, a
 * reference that is there stays. */
int dg_space_enter_key(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_route *route, struct dg_slice key,
                       struct dg_space **ret_space, struct dg_error *err);
/* May the reference be made or removed? */
bool dg_space_is_alone(const struct dg_space *space);
/* [worker] NULL is fine. */
void dg_space_leave(struct dg_space *space);

/* [any] A reference may have been left without a delta: it is looked for before
 * the deltaspace is left, and removed. Does nothing on a storage of our own: there
 * the next put uses it. */
void dg_space_soil(struct dg_space *space);

/* [any] Something that was begun may take effect later: the lease is left to lapse, and
 * whoever takes it over looks for what was left. Does nothing on a storage of our own. */
void dg_space_forsake(struct dg_space *space);

/* [worker] Under that right: removes a reference that no object needs. Failing,
 * which is logged, may leave it behind. delete.c */
int dg_reference_tidy(struct dg_engine *engine, const struct dg_route *route,
                      const struct dg_call *call, struct dg_slice prefix);

#endif
