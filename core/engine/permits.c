/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/permits.h"

#include <glib.h>

#include "common/clock.h"
#include "core/engine/callwait.h"
#include "core/observe/metrics.h"

#include "common/banned.h"

#define WAITERS_PER_PERMIT 64u

struct dg_permits {
  GMutex mutex; /* guards the counts */
  GCond freed;
  uint32_t count, taken, waiting;
  struct dg_metrics *metrics;
};

struct dg_permits *dg_permits_new(uint32_t count, struct dg_metrics *metrics)
{
  struct dg_permits *permits = g_new0(struct dg_permits, 1);

  g_mutex_init(&permits->mutex);
  g_cond_init(&permits->freed);
  permits->count = MAX(count, 1);
  permits->metrics = metrics;
  dg_metrics_set(metrics, DG_METRIC_CODEC_SEMAPHORE_AVAILABLE, NULL, NULL, permits->count);
  return permits;
}

void dg_permits_free(struct dg_permits *permits)
{
  if (!permits)
    return;
  g_mutex_clear(&permits->mutex);
  g_cond_clear(&permits->freed);
  g_free(permits);
}

static uint32_t free_locked(const struct dg_permits *permits)
{
  return permits->count > permits->taken ? permits->count - permits->taken : 0;
}

static void show_locked(struct dg_permits *permits)
{
  dg_metrics_set(permits->metrics, DG_METRIC_CODEC_SEMAPHORE_AVAILABLE, NULL, NULL,
                 free_locked(permits));
}

void dg_permits_resize(struct dg_permits *permits, uint32_t count)
{
  g_mutex_lock(&permits->mutex);
  permits->count = MAX(count, 1);
  show_locked(permits);
  g_cond_broadcast(&permits->freed);
  g_mutex_unlock(&permits->mutex);
}

uint32_t dg_permits_count(struct dg_permits *permits)
{
  uint32_t count;

  g_mutex_lock(&permits->mutex);
  count = permits->count;
  g_mutex_unlock(&permits->mutex);
  return count;
}

int dg_permits_take(struct dg_permits *permits, const struct dg_call *call, uint32_t wait_ms,
                    struct dg_error *err)
{
  uint64_t until_ms = dg_time_mono_ms() + wait_ms;
  int rc = 0;

  if (call->deadline_mono_ms)
    until_ms = MIN(until_ms, call->deadline_mono_ms);
  g_mutex_lock(&permits->mutex);
  if (free_locked(permits) == 0 && permits->waiting >= permits->count * WAITERS_PER_PERMIT) {
    rc = dg_fail(err, DG_E_SLOW_DOWN, "too many requests wait for the codec");
  } else {
    permits->waiting++;
    while (rc == 0 && free_locked(permits) == 0) {
      rc = dg_call_wait(call, &permits->freed, &permits->mutex, until_ms, err);
      if (rc > 0)
        rc = dg_fail(err, DG_E_SLOW_DOWN, "the codec was busy for too long (codec_concurrency %u)",
                     permits->count);
    }
    permits->waiting--;
    if (rc == 0) {
      permits->taken++;
      show_locked(permits);
    }
  }
  g_mutex_unlock(&permits->mutex);
  return rc;
}

bool dg_permits_try(struct dg_permits *permits)
{
  bool taken;

  g_mutex_lock(&permits->mutex);
  taken = free_locked(permits) > 0;
  if (taken) {
    permits->taken++;
    show_locked(permits);
  }
  g_mutex_unlock(&permits->mutex);
  return taken;
}

void dg_permits_give(struct dg_permits *permits)
{
  g_mutex_lock(&permits->mutex);
  permits->taken--;
  show_locked(permits);
  g_cond_signal(&permits->freed); /* should it meet one who leaves, the others look soon */
  g_mutex_unlock(&permits->mutex);
}
