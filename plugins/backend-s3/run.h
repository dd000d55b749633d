/* SPDX-License-Identifier: Apache-2.0 */
/* Requests run to their end: attempts, waits between them, many at once. */
#ifndef DG_S3_RUN_H
#define DG_S3_RUN_H

#include "errors.h"
#include "request.h"
#include "transfer.h"

/* One request of a batch. Zeroed, then `request` (and `prepare`) set. */
struct dg_s3_job {
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  struct dg_error err;
  int rc;
  /* Optional: completes the request just before its first attempt. */
  int (*prepare)(struct dg_s3_job *job, struct dg_error *err);
  void *receiver;

  /* private to run.c */
  struct dg_s3_transfer transfer;
  uint32_t attempt;
  uint32_t state;
  uint64_t not_before_ms;
};

/* Frees what the job holds, its request and answer included. */
void dg_s3_job_clear(struct dg_s3_job *job);

#define DG_S3_STOP_AT_FAILURE 1u /* the first job that fails ends all */

/* [worker] Runs the jobs, up to `parallel` at a time. Returns 0 when every job
 * has its own rc (and err); -1 when the call is over or, with
 * DG_S3_STOP_AT_FAILURE, when a job failed: err says why. */
int dg_s3_run_jobs(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_job *jobs,
                   size_t count, uint32_t parallel, uint32_t flags, struct dg_error *err);

/* [worker] One request, whose small answer is left in `answer` (initialised).
 * Fails as dg_s3_fail() says; the answer then still tells the status. */
int dg_s3_run(struct dg_s3 *s3, const struct dg_call *call, const struct dg_s3_request *request,
              struct dg_s3_answer *answer, struct dg_error *err);

/* How long to wait before attempt number `attempt` (1 is the first repeat):
 * anything up to a bound that doubles, at least what Retry-After says. */
uint32_t dg_s3_backoff_ms(uint32_t attempt, uint32_t retry_after_s, uint32_t random);

/* May an attempt with this verdict be followed by another one? */
bool dg_s3_may_repeat(enum dg_s3_repeat repeat, enum dg_s3_verdict verdict);

/* Sleeps, unless the call is over first. */
int dg_s3_pause(const struct dg_call *call, uint32_t wait_ms, struct dg_error *err);

/* Waits until the governor lets a request go. DG_E_UNAVAILABLE when the
 * breaker is open, DG_E_SLOW_DOWN when there is no room for too long. */
int dg_s3_enter(struct dg_s3 *s3, const struct dg_call *call, struct dg_error *err);
/* Tells the governor how an attempt went. */
void dg_s3_leave(struct dg_s3 *s3, enum dg_s3_verdict verdict);
/* An attempt that waits for somebody else than the upstream holds no place meanwhile. */
void dg_s3_step_out(struct dg_s3 *s3);
void dg_s3_step_in(struct dg_s3 *s3);

#endif
