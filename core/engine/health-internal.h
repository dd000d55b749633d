/* SPDX-License-Identifier: Apache-2.0 */
/* Between health.c and healthbuckets.c. */
#ifndef DG_CORE_ENGINE_HEALTH_INTERNAL_H
#define DG_CORE_ENGINE_HEALTH_INTERNAL_H

#include "core/engine/health.h"

/* What the thread can be asked to do; the lower goes first. */
enum dg_health_task { DG_TASK_LIST, DG_TASK_ASK, DG_TASK_PROBE, DG_TASK_COUNT };

/* Runs of a task are numbered from 1: whoever wants one waits until the one with
 * its number has ended. */
struct dg_health_run {
  bool wanted, running;
  uint64_t begun, ended;
  struct dg_error outcome; /* of the last that ended; code 0: success */
};

struct dg_health {
  struct dg_health_params params;
  int32_t stop; /* atomic; the cancel flag of every call made here */
  GMutex mutex; /* guards what follows; leaf: nothing is called under it */
  GCond changed; /* a task is wanted or has ended, or the end */
  GThread *thread; /* NULL until the first task */
  struct dg_health_run runs[DG_TASK_COUNT];
  uint64_t ask_until_ms, list_until_ms; /* deadlines of those tasks, monotonic */

  enum dg_health_state state;
  uint32_t failures;       /* probes in a row that failed */
  uint64_t probe_due_ms;   /* 0: none */
  uint64_t probed_ms;      /* when the last one ended */
  uint64_t slow_until_ms;  /* looks for buckets are not made until then */

  /* Buckets. A generation ends when the server itself makes or removes one. */
  uint64_t generation, list_generation, rows_generation;
  GPtrArray *rows; /* of the last listing that succeeded; NULL: none yet */
  bool list_good;  /* the last listing succeeded */
  uint64_t fresh_until_ms, skip_until_ms, listed_ms;
};

/* Wants a run of the task. join: one under way will do. Returns its number.
 * With the mutex held. */
uint64_t dg_health_want_locked(struct dg_health *health, enum dg_health_task task, bool join);
/* False when the run has not ended by then. With the mutex held. */
bool dg_health_await_locked(struct dg_health *health, enum dg_health_task task, uint64_t number,
                            uint64_t until_ms);
bool dg_health_is_gated_locked(const struct dg_health *health);

/* On the thread, without the mutex. */
void dg_health_run_list(struct dg_health *health, struct dg_error *err);

#endif
