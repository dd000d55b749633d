/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of threads on which everything that may block runs.
 *
 * A job is one bounded step of one exchange; its owner submits the next step
 * when it has come back, so a stream holds no thread while its client is slow.
 * Jobs start in the order they came, with one exception: bulk jobs (uploads,
 * whose commits may take long) never occupy every thread, so that short
 * requests always find one.
 *
 * An idle worker sleeps on a condition of its own and the one that went idle
 * last is woken first: one wake-up per job, on the warmest cache. */
#ifndef DG_CORE_HTTP_WORKER_H
#define DG_CORE_HTTP_WORKER_H

#include <stdbool.h>
#include <stdint.h>

struct dg_pool;

/* Embedded in its owner; untouched by the pool once run() was called. */
struct dg_job {
  struct dg_job *next;
  void (*run)(struct dg_job *job); /* [worker] */
  bool bulk;
};

/* Starts thread_count threads (at least 1). NULL when not even one starts. */
struct dg_pool *dg_pool_new(uint32_t thread_count);

/* [any] */
void dg_pool_submit(struct dg_pool *pool, struct dg_job *job);

/* Runs what is queued, joins every thread, frees. NULL is fine. */
void dg_pool_free(struct dg_pool *pool);

struct dg_pool_stats {
  uint32_t thread_count, idle_count, queued_count;
};
void dg_pool_stats(struct dg_pool *pool, struct dg_pool_stats *ret_stats); /* [any] */

#endif
