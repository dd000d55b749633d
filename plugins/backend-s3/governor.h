/* SPDX-License-Identifier: Apache-2.0 */
/* Decides whether a request may go out now: a circuit breaker, and a limit on
 * requests in flight that shrinks while the upstream says SlowDown.
 *
 *   CLOSED     all may go. FAILURES in a row without one success: OPEN
 *   OPEN       none may go, for a while that doubles each time; then HALF_OPEN
 *   HALF_OPEN  one may go: its success closes, its failure opens again
 *
 * Thread: [any]. */
#ifndef DG_S3_GOVERNOR_H
#define DG_S3_GOVERNOR_H

#include <stdint.h>

struct dg_s3_governor;

enum dg_s3_leave {
  DG_S3_DONE,     /* the upstream answered, whatever it said */
  DG_S3_SLOWED,   /* it asked for less */
  DG_S3_FAILED,   /* it did not answer, or said that it is broken */
  DG_S3_NO_WORD,  /* we gave up ourselves: says nothing about the upstream */
};

enum dg_s3_gate {
  DG_S3_GO,   /* leave() must follow */
  DG_S3_FULL, /* as many as allowed are under way: ask again soon */
  DG_S3_SHUT, /* the breaker is open: fail at once */
};

struct dg_s3_governor *dg_s3_governor_new(uint32_t max_requests);
void dg_s3_governor_free(struct dg_s3_governor *governor); /* NULL is fine */

enum dg_s3_gate dg_s3_governor_enter(struct dg_s3_governor *governor, uint64_t now_ms);

/* After a leave() with DG_S3_NO_WORD: the same request goes on, and is counted again. */
void dg_s3_governor_resume(struct dg_s3_governor *governor);

/* The same for a request that is to find out whether the upstream works: it always
 * goes. Its success closes the breaker; when it fails, leave with DG_S3_NO_WORD: a
 * probe that repeats itself is not what the breaker counts. */
enum dg_s3_gate dg_s3_governor_knock(struct dg_s3_governor *governor);

/* Returns 1 when this opened the breaker, -1 when it closed it, else 0: the
 * caller logs it. */
int dg_s3_governor_leave(struct dg_s3_governor *governor, uint64_t now_ms, enum dg_s3_leave how);

/* The present limit, for tests. */
uint32_t dg_s3_governor_limit(struct dg_s3_governor *governor);

#endif
