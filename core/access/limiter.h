/* SPDX-License-Identifier: Apache-2.0 */
/* Failed attempts per source, and the lockout that follows too many. Memory is
 * fixed: when a set is full, the entry least worth keeping makes room. While no
 * failure is remembered, questions cost one atomic load. Thread: [any]. */
#ifndef DG_CORE_ACCESS_LIMITER_H
#define DG_CORE_ACCESS_LIMITER_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

struct dg_limiter;

/* failures: in window_s seconds, before a lockout of lockout_s. 0: never. */
struct dg_limiter *dg_limiter_new(uint32_t failures, uint32_t window_s, uint32_t lockout_s);
void dg_limiter_free(struct dg_limiter *limiter); /* NULL is fine */

/* Is no failure remembered that still matters? Then nobody is locked out. */
bool dg_limiter_idle(const struct dg_limiter *limiter, int64_t now_s);

/* Is this source locked out? Then the failures that led there, else 0. Sources are
 * any text, an address or a pair. */
uint32_t dg_limiter_locked(struct dg_limiter *limiter, struct dg_slice source, int64_t now_s);

/* Does so many failures start a lockout? */
bool dg_limiter_is_too_many(const struct dg_limiter *limiter, uint32_t failures);

/* Counts a failure and returns how many the window now holds, this one
 * included; 0 when nothing is limited. The one that reaches the limit starts the
 * lockout. */
uint32_t dg_limiter_fail(struct dg_limiter *limiter, struct dg_slice source, int64_t now_s);

/* How long the answer to that failure waits, in milliseconds: none up to the
 * tenth, then 200 and twice as much each time, 5 s from the sixteenth on. */
uint32_t dg_limiter_delay_ms(uint32_t failures);

/* Forgets the failures of a source that has proved itself. */
void dg_limiter_success(struct dg_limiter *limiter, struct dg_slice source, int64_t now_s);

#endif
