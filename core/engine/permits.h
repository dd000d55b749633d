/* SPDX-License-Identifier: Apache-2.0 */
/* How many codec steps may run at once. A permit covers one bounded step (one
 * window encoded, one chunk decoded), never a whole transfer, so a slow client
 * holds none. */
#ifndef DG_CORE_ENGINE_PERMITS_H
#define DG_CORE_ENGINE_PERMITS_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_metrics;
struct dg_permits;

#define DG_PERMIT_WAIT_PUT_MS 5000u
#define DG_PERMIT_WAIT_GET_MS 60000u

/* metrics: borrowed, may be NULL; shows how many are free. */
struct dg_permits *dg_permits_new(uint32_t count, struct dg_metrics *metrics);
void dg_permits_free(struct dg_permits *permits);
/* Those beyond a smaller count leave as they are given back. [any] */
void dg_permits_resize(struct dg_permits *permits, uint32_t count);
uint32_t dg_permits_count(struct dg_permits *permits);

/* [worker] Waits at most wait_ms, less if the call's deadline is nearer, then
 * fails with DG_E_SLOW_DOWN. At most 64 callers per permit wait; the next fails
 * at once. */
int dg_permits_take(struct dg_permits *permits, const struct dg_call *call, uint32_t wait_ms,
                    struct dg_error *err);
bool dg_permits_try(struct dg_permits *permits); /* [any] */
void dg_permits_give(struct dg_permits *permits);

#endif
