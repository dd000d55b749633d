/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run.h"

#include "common/clock.h"
#include "doubts.h"
#include "governor.h"
#include "lease.h"

#include "common/banned.h"

#define BACKOFF_FIRST_MS 100u
#define BACKOFF_MAX_MS 5000u
#define RETRY_AFTER_MAX_S 10u /* longer than that the client may wait itself */
#define STEP_MS 100           /* how soon a cancelled call is noticed */
#define ROOM_WAIT_MS 10000u   /* for the governor's limit */

enum state { WAITING, RUNNING, OVER };

uint32_t dg_s3_backoff_ms(uint32_t attempt, uint32_t retry_after_s, uint32_t random)
{
  uint32_t bound = BACKOFF_FIRST_MS << MIN(attempt - 1, 10u);

  bound = MIN(bound, BACKOFF_MAX_MS);
  return MIN(retry_after_s, RETRY_AFTER_MAX_S) * 1000u + random % (bound + 1);
}

bool dg_s3_may_repeat(enum dg_s3_repeat repeat, enum dg_s3_verdict verdict)
{
  switch (verdict) {
  case DG_S3_THROTTLED:
  case DG_S3_AWAY:
    return true;
  case DG_S3_BROKEN:
  case DG_S3_ODD:
    return repeat != DG_S3_ONCE;
  case DG_S3_LOST:
    return repeat == DG_S3_REPEAT;
  case DG_S3_GOOD:
  case DG_S3_FINAL:
    break;
  }
  return false;
}

static enum dg_s3_leave leave_of(enum dg_s3_verdict verdict)
{
  switch (verdict) {
  case DG_S3_GOOD:
  case DG_S3_FINAL:
  case DG_S3_ODD:
    return DG_S3_DONE;
  case DG_S3_THROTTLED:
    return DG_S3_SLOWED;
  case DG_S3_BROKEN:
  case DG_S3_LOST:
  case DG_S3_AWAY:
    break;
  }
  return DG_S3_FAILED;
}

static void leave(struct dg_s3 *s3, enum dg_s3_leave how)
{
  int change = dg_s3_governor_leave(s3->governor, dg_time_mono_ms(), how);

  if (change > 0)
    dg_s3_log(s3, DG_LOG_WARN, "s3.breaker.open", "endpoint=%s", s3->endpoint.authority);
  else if (change < 0)
    dg_s3_log(s3, DG_LOG_INFO, "s3.breaker.closed", "endpoint=%s", s3->endpoint.authority);
}

void dg_s3_leave(struct dg_s3 *s3, enum dg_s3_verdict verdict)
{
  leave(s3, leave_of(verdict));
}

void dg_s3_step_out(struct dg_s3 *s3)
{
  leave(s3, DG_S3_NO_WORD);
}

void dg_s3_step_in(struct dg_s3 *s3)
{
  dg_s3_governor_resume(s3->governor);
}

static int fail_shut(struct dg_s3 *s3, struct dg_error *err)
{
  return dg_fail(err, DG_E_UNAVAILABLE, "%s failed too often just now: not asked again yet",
                 s3->endpoint.authority);
}

int dg_s3_enter(struct dg_s3 *s3, const struct dg_call *call, struct dg_error *err)
{
  uint64_t until = dg_time_mono_ms() + ROOM_WAIT_MS;

  for (;;) {
    uint64_t now = dg_time_mono_ms();

    if (dg_s3_check_call(call, err) < 0)
      return -1;
    switch (dg_s3_governor_enter(s3->governor, now)) {
    case DG_S3_GO:
      return 0;
    case DG_S3_SHUT:
      return fail_shut(s3, err);
    case DG_S3_FULL:
      break;
    }
    if (now > until)
      return dg_fail(err, DG_E_SLOW_DOWN, "too many requests wait for %s", s3->endpoint.authority);
    g_usleep(5000);
  }
}

int dg_s3_pause(const struct dg_call *call, uint32_t wait_ms, struct dg_error *err)
{
  uint64_t until = dg_time_mono_ms() + wait_ms, now;

  while ((now = dg_time_mono_ms()) < until) {
    if (dg_s3_check_call(call, err) < 0)
      return -1;
    g_usleep((gulong)MIN(until - now, STEP_MS) * 1000u);
  }
  return 0;
}

/* ---- One job --------------------------------------------------------------------------- */

static void finish(struct dg_s3_job *job, int rc)
{
  job->rc = rc;
  job->state = OVER;
}

/* Starts a job if the governor lets it. */
static void start(struct dg_s3 *s3, struct dg_s3_line *line, struct dg_s3_job *job)
{
  enum dg_s3_gate gate;

  if (job->attempt == 0 && job->prepare && job->prepare(job, &job->err) < 0) {
    finish(job, -1);
    return;
  }
  if (job->request.lease && dg_s3_lease_stamp(job->request.lease, &job->request, &job->err) < 0) {
    finish(job, -1);
    return;
  }
  gate = job->request.knocks ? dg_s3_governor_knock(s3->governor)
                             : dg_s3_governor_enter(s3->governor, dg_time_mono_ms());
  switch (gate) {
  case DG_S3_FULL:
    job->prepare = NULL;
    return;
  case DG_S3_SHUT:
    finish(job, fail_shut(s3, &job->err));
    return;
  case DG_S3_GO:
    break;
  }
  job->prepare = NULL;
  job->attempt++;
  job->state = RUNNING;
  job->transfer.s3 = s3;
  job->transfer.line = line;
  job->transfer.request = &job->request;
  job->transfer.answer = &job->answer;
  dg_s3_transfer_begin(&job->transfer);
}

static void log_repeat(struct dg_s3 *s3, const struct dg_call *call, const struct dg_s3_job *job,
                       uint32_t wait_ms)
{
  struct dg_slice id = call ? call->request_id : DG_SLICE("");

  dg_s3_log(s3, DG_LOG_WARN, "s3.retry", "request_id=%.*s attempt=%u wait_ms=%u cause=\"%s\"",
            DG_SLICE_ARG(id), job->attempt, wait_ms, job->err.detail);
}

/* The attempt is over without a word. What lacks some of its body takes no effect. */
static void doubt(struct dg_s3 *s3, const struct dg_s3_job *job)
{
  if (job->transfer.sent >= job->request.body.length)
    dg_s3_doubt(s3, &job->request);
}

/* Nobody can tell whether, or when, it takes effect. An upstream that answers has ended the
 * request; what stands in front of it may only have given up to wait. */
static bool is_in_doubt(enum dg_s3_verdict verdict, const struct dg_s3_answer *answer)
{
  return verdict == DG_S3_LOST ||
         (verdict == DG_S3_BROKEN && (answer->status == 502 || answer->status == 504));
}

static void settle(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_job *job)
{
  CURLcode result = job->transfer.result;
  enum dg_s3_verdict verdict = dg_s3_judge(&job->request, result, &job->answer);
  uint32_t wait_ms;

  if (job->request.knocks && leave_of(verdict) == DG_S3_FAILED)
    leave(s3, DG_S3_NO_WORD);
  else
    dg_s3_leave(s3, verdict);
  if (verdict != DG_S3_GOOD)
    (void)dg_s3_fail(s3, &job->request, verdict, result, job->transfer.text, &job->answer,
                     &job->err);
  dg_s3_transfer_end(&job->transfer);
  if (job->request.lease && (verdict == DG_S3_LOST || verdict == DG_S3_BROKEN))
    dg_s3_lease_doubt(job->request.lease);
  if (is_in_doubt(verdict, &job->answer))
    doubt(s3, job);
  if (verdict == DG_S3_GOOD) {
    finish(job, job->request.lease ? dg_s3_lease_check(job->request.lease, &job->err) : 0);
    return;
  }
  wait_ms = dg_s3_backoff_ms(job->attempt, job->answer.retry_after_s, g_random_int());
  if (!dg_s3_may_repeat(job->request.repeat, verdict) || job->attempt >= s3->attempts ||
      job->request.knocks ||
      job->answer.retry_after_s > RETRY_AFTER_MAX_S || wait_ms >= dg_s3_time_left_ms(call)) {
    finish(job, -1);
    return;
  }
  log_repeat(s3, call, job, wait_ms);
  job->not_before_ms = dg_time_mono_ms() + wait_ms;
  job->state = WAITING;
}

/* ---- The batch ----------------------------------------------------------------------------- */

struct batch {
  size_t running, over;
  const struct dg_s3_job *failed;
  uint64_t wake_ms; /* the next job that waits may start then */
  bool waits_for_room;
};

static void look_over(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_line *line,
                      struct dg_s3_job *jobs, size_t count, uint32_t parallel,
                      struct batch *batch)
{
  uint64_t now = dg_time_mono_ms();

  *batch = (struct batch){.wake_ms = UINT64_MAX};
  for (size_t i = 0; i < count; i++) {
    struct dg_s3_job *job = &jobs[i];

    if (job->state == RUNNING && job->transfer.done)
      settle(s3, call, job);
    batch->running += job->state == RUNNING;
  }
  for (size_t i = 0; i < count; i++) {
    struct dg_s3_job *job = &jobs[i];

    if (job->state == WAITING && job->not_before_ms > now) {
      batch->wake_ms = MIN(batch->wake_ms, job->not_before_ms);
    } else if (job->state == WAITING && batch->running < parallel && !batch->waits_for_room) {
      start(s3, line, job);
      batch->running += job->state == RUNNING;
      batch->waits_for_room = job->state == WAITING;
    }
    batch->over += job->state == OVER;
    if (job->state == OVER && job->rc < 0 && !batch->failed)
      batch->failed = job;
  }
}

static void wait_for_more(struct dg_s3_line *line, const struct batch *batch)
{
  uint64_t now = dg_time_mono_ms();
  int timeout = STEP_MS;

  if (batch->wake_ms != UINT64_MAX)
    timeout = batch->wake_ms > now ? (int)MIN(batch->wake_ms - now, STEP_MS) : 0;
  if (batch->waits_for_room)
    timeout = MIN(timeout, 5);
  if (batch->running)
    dg_s3_line_drive(line, timeout);
  else
    g_usleep((gulong)timeout * 1000u);
}

int dg_s3_run_jobs(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_job *jobs,
                   size_t count, uint32_t parallel, uint32_t flags, struct dg_error *err)
{
  struct dg_s3_line *line = dg_s3_line_take(s3->pool);
  uint64_t room_until = dg_time_mono_ms() + ROOM_WAIT_MS;
  struct batch batch;
  int rc = 0;

  for (size_t i = 0; i < count; i++)
    dg_s3_answer_init(&jobs[i].answer);
  for (;;) {
    look_over(s3, call, line, jobs, count, MAX(parallel, 1u), &batch);
    if (batch.failed && (flags & DG_S3_STOP_AT_FAILURE)) {
      *err = batch.failed->err;
      rc = -1;
      break;
    }
    if (batch.over == count)
      break;
    if (dg_s3_check_call(call, err) < 0) {
      rc = -1;
      break;
    }
    if (batch.running || !batch.waits_for_room)
      room_until = dg_time_mono_ms() + ROOM_WAIT_MS;
    if (dg_time_mono_ms() > room_until) {
      rc = dg_fail(err, DG_E_SLOW_DOWN, "too many requests wait for %s", s3->endpoint.authority);
      break;
    }
    wait_for_more(line, &batch);
  }
  for (size_t i = 0; i < count; i++) {
    if (jobs[i].state != RUNNING)
      continue;
    if (jobs[i].request.lease)
      dg_s3_lease_doubt(jobs[i].request.lease);
    doubt(s3, &jobs[i]);
    dg_s3_transfer_end(&jobs[i].transfer);
    leave(s3, DG_S3_NO_WORD);
  }
  dg_s3_line_give(s3->pool, line);
  return rc;
}

void dg_s3_job_clear(struct dg_s3_job *job)
{
  dg_s3_request_clear(&job->request);
  dg_s3_answer_clear(&job->answer);
}

int dg_s3_run(struct dg_s3 *s3, const struct dg_call *call, const struct dg_s3_request *request,
              struct dg_s3_answer *answer, struct dg_error *err)
{
  struct dg_s3_job job = {.request = *request};
  int rc = dg_s3_run_jobs(s3, call, &job, 1, 1, 0, err);

  if (rc == 0 && job.rc < 0) {
    *err = job.err;
    rc = -1;
  }
  dg_s3_answer_clear(answer);
  *answer = job.answer;
  return rc;
}
