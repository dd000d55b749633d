/* SPDX-License-Identifier: Apache-2.0 */
/* How much all spools together may take of the disk.
 *
 * What a request will need is taken at once, before it holds anything, and may be
 * waited for. What turns out to be needed beyond that is had at once or not at all:
 * nobody waits while holding a part, so nobody waits for each other. Whoever alone
 * needs more than there is gets it while no one else has any: the limit bounds how
 * much is worked on side by side, not how large an object may be. */
#ifndef DG_CORE_ENGINE_SPOOLBUDGET_H
#define DG_CORE_ENGINE_SPOOLBUDGET_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_spool_budget;

/* max_bytes: 0 is no limit. wait_ms: for dg_spool_budget_take(). waiters_max: threads
 * that may wait at a time. */
struct dg_spool_budget *dg_spool_budget_new(uint64_t max_bytes, uint32_t wait_ms,
                                            uint32_t waiters_max);
void dg_spool_budget_free(struct dg_spool_budget *budget); /* NULL is fine */
/* What is taken beyond a smaller limit stays taken. [any] */
void dg_spool_budget_resize(struct dg_spool_budget *budget, uint64_t max_bytes, uint32_t wait_ms);

/* [worker] Takes bytes, by a request that holds none. Waits, less if the call's
 * deadline is nearer, until the client leaves; then, or when too many wait already,
 * DG_E_SLOW_DOWN. Who came first goes first, so that a large request is not passed by
 * small ones for ever; once it has waited for half of the time they may pass, since it
 * waits for somebody slow then. ret_deferred: as in dg_get_request. */
int dg_spool_budget_take(struct dg_spool_budget *budget, const struct dg_call *call, uint64_t bytes,
                         bool *ret_deferred, struct dg_error *err);
/* Takes more for a request that holds `held` of it. False if it is not there. [any] */
bool dg_spool_budget_grow(struct dg_spool_budget *budget, uint64_t held, uint64_t bytes);
void dg_spool_budget_give(struct dg_spool_budget *budget, uint64_t bytes); /* [any] */

/* How many wait in take(), and what is taken now. [any] */
uint32_t dg_spool_budget_waiting(struct dg_spool_budget *budget);
uint64_t dg_spool_budget_used(struct dg_spool_budget *budget);

#endif
