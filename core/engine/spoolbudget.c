/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/spoolbudget.h"

#include <glib.h>

#include "common/clock.h"
#include "core/engine/callwait.h"

#include "common/banned.h"

struct dg_spool_budget {
  GMutex mutex; /* guards everything below */
  GCond changed; /* something was given back, or the queue is another one */
  uint64_t max_bytes, used_bytes;
  uint32_t wait_ms;
  uint32_t waiters_max;
  GQueue waiters; /* struct waiter, borrowed from their threads, the oldest first */
};

struct waiter {
  uint64_t first_until_ms; /* until then nobody who came later goes first */
};

struct dg_spool_budget *dg_spool_budget_new(uint64_t max_bytes, uint32_t wait_ms,
                                            uint32_t waiters_max)
{
  struct dg_spool_budget *budget = g_new0(struct dg_spool_budget, 1);

  g_mutex_init(&budget->mutex);
  g_cond_init(&budget->changed);
  g_queue_init(&budget->waiters);
  budget->max_bytes = max_bytes;
  budget->wait_ms = wait_ms;
  budget->waiters_max = waiters_max;
  return budget;
}

void dg_spool_budget_free(struct dg_spool_budget *budget)
{
  if (!budget)
    return;
  g_mutex_clear(&budget->mutex);
  g_cond_clear(&budget->changed);
  g_free(budget);
}

void dg_spool_budget_resize(struct dg_spool_budget *budget, uint64_t max_bytes, uint32_t wait_ms)
{
  g_mutex_lock(&budget->mutex);
  budget->max_bytes = max_bytes;
  budget->wait_ms = wait_ms;
  g_cond_broadcast(&budget->changed);
  g_mutex_unlock(&budget->mutex);
}

/* held: what the asker has of it already. */
static bool fits_locked(const struct dg_spool_budget *budget, uint64_t held, uint64_t bytes)
{
  uint64_t max = budget->max_bytes, used = budget->used_bytes;

  return max == 0 || used == held || (used <= max && bytes <= max - used);
}

/* Is it the turn of one who came after all up to `before`, and is there room? A small
 * request that fits would else take what a large one waits for, again and again. But
 * whoever still waits after half of its time waits for somebody slow, and keeping the
 * others back does not make it come sooner. */
static bool may_enter_locked(const struct dg_spool_budget *budget, const GList *before,
                             uint64_t bytes)
{
  uint64_t now_ms = before ? dg_time_mono_ms() : 0;

  for (; before; before = before->prev)
    if (now_ms < ((const struct waiter *)before->data)->first_until_ms)
      return false;
  return fits_locked(budget, 0, bytes);
}

/* Waits for its turn and its room. */
static int wait_locked(struct dg_spool_budget *budget, const struct dg_call *call, uint64_t bytes,
                       struct dg_error *err)
{
  uint64_t start_ms = dg_time_mono_ms(), until_ms = start_ms + budget->wait_ms;
  struct waiter self = {start_ms + budget->wait_ms / 2};
  GList *place;
  int rc = 0;

  if (call && call->deadline_mono_ms)
    until_ms = MIN(until_ms, call->deadline_mono_ms);
  g_queue_push_tail(&budget->waiters, &self);
  place = g_queue_peek_tail_link(&budget->waiters);
  while (rc == 0 && !may_enter_locked(budget, place->prev, bytes)) {
    rc = dg_call_wait(call, &budget->changed, &budget->mutex, until_ms, err);
    if (rc > 0)
      rc = dg_fail(err, DG_E_SLOW_DOWN,
                   "no room in the spool for %" G_GUINT64_FORMAT " bytes for too long "
                   "(spool_max_bytes %" G_GUINT64_FORMAT ")",
                   bytes, budget->max_bytes);
  }
  g_queue_delete_link(&budget->waiters, place);
  g_cond_broadcast(&budget->changed);
  return rc;
}

int dg_spool_budget_take(struct dg_spool_budget *budget, const struct dg_call *call, uint64_t bytes,
                         bool *ret_deferred, struct dg_error *err)
{
  int rc = 0;

  g_mutex_lock(&budget->mutex);
  if (!may_enter_locked(budget, g_queue_peek_tail_link(&budget->waiters), bytes)) {
    if (ret_deferred) {
      *ret_deferred = true;
      rc = dg_fail(err, DG_E_SLOW_DOWN, "other requests fill the spool");
    } else if (budget->waiters.length >= budget->waiters_max) {
      rc = dg_fail(err, DG_E_SLOW_DOWN, "too many requests wait for room in the spool");
    } else {
      rc = wait_locked(budget, call, bytes, err);
    }
  }
  if (rc == 0)
    budget->used_bytes += bytes;
  g_mutex_unlock(&budget->mutex);
  return rc;
}

uint32_t dg_spool_budget_waiting(struct dg_spool_budget *budget)
{
  uint32_t waiting;

  g_mutex_lock(&budget->mutex);
  waiting = budget->waiters.length;
  g_mutex_unlock(&budget->mutex);
  return waiting;
}

bool dg_spool_budget_grow(struct dg_spool_budget *budget, uint64_t held, uint64_t bytes)
{
  bool fits;

  g_mutex_lock(&budget->mutex);
  fits = fits_locked(budget, held, bytes);
  if (fits)
    budget->used_bytes += bytes;
  g_mutex_unlock(&budget->mutex);
  return fits;
}

void dg_spool_budget_give(struct dg_spool_budget *budget, uint64_t bytes)
{
  g_mutex_lock(&budget->mutex);
  budget->used_bytes -= bytes;
  g_cond_broadcast(&budget->changed);
  g_mutex_unlock(&budget->mutex);
}

uint64_t dg_spool_budget_used(struct dg_spool_budget *budget)
{
  uint64_t used;

  g_mutex_lock(&budget->mutex);
  used = budget->used_bytes;
  g_mutex_unlock(&budget->mutex);
  return used;
}
