/* SPDX-License-Identifier: Apache-2.0 */
/* Which buckets a backend has, as far as that is known. */
#include "config.h"

#include "core/engine/health.h"

#include "common/clock.h"
#include "common/slice.h"
#include "core/engine/health-internal.h"
#include "core/plug/backend.h"

#include "common/banned.h"

#define SLACK_MS 250u  /* for a listing to notice its deadline */
#define KEEP_MS 30000u /* dg_health_buckets_keep() */

static int32_t take_row(void *receiver, const struct dg_bucket_row *row)
{
  struct dg_bucket_seen *seen = g_malloc(sizeof *seen + row->name.len + 1);

  seen->created_at_s = row->created_at_s;
  memcpy(seen->name, row->name.data, row->name.len);
  seen->name[row->name.len] = '\0';
  g_ptr_array_add(receiver, seen);
  return 0;
}

/* Takes the rows over when it succeeded; else keeps those it had. */
static void settle(struct dg_health *health, GPtrArray **rows, bool good)
{
  uint64_t now = dg_time_mono_ms();

  g_mutex_lock(&health->mutex);
  health->list_good = good;
  health->listed_ms = now;
  if (good) {
    GPtrArray *old = health->rows;

    health->rows = *rows;
    *rows = old;
    health->rows_generation = health->list_generation;
    health->skip_until_ms = 0;
    health->slow_until_ms = 0;
    if (health->list_generation == health->generation)
      health->fresh_until_ms = now + health->params.list_fresh_ms;
  } else {
    health->skip_until_ms = now + health->params.list_cooldown_ms;
  }
  g_mutex_unlock(&health->mutex);
}

void dg_health_run_list(struct dg_health *health, struct dg_error *err)
{
  GPtrArray *rows = g_ptr_array_new_with_free_func(g_free);
  struct dg_call call = {.struct_size = sizeof call, .cancelled = &health->stop};
  int rc;

  g_mutex_lock(&health->mutex);
  health->list_generation = health->generation;
  health->list_until_ms = dg_time_mono_ms() + health->params.list_timeout_ms;
  call.deadline_mono_ms = health->list_until_ms;
  g_mutex_unlock(&health->mutex);
  rc = dg_backend_bucket_list(health->params.backend, &call, take_row, rows, err);
  settle(health, &rows, rc == 0);
  g_clear_pointer(&rows, g_ptr_array_unref);
  if (rc == 0)
    err->code = DG_E_OK;
}

/* With the mutex held: is there reason to list now? */
static bool due_locked(const struct dg_health *health, uint64_t now)
{
  return !dg_health_is_gated_locked(health) && now >= health->fresh_until_ms &&
         now >= health->skip_until_ms;
}

static uint64_t want_list_locked(struct dg_health *health, uint64_t now)
{
  const struct dg_health_run *run = &health->runs[DG_TASK_LIST];
  bool join = health->list_generation == health->generation;

  /* The thread may be busy: its own time begins later, that of who waits now. */
  if (!run->running && !run->wanted)
    health->list_until_ms = now + health->params.list_timeout_ms;
  return dg_health_want_locked(health, DG_TASK_LIST, join);
}

uint64_t dg_health_buckets_begin(struct dg_health *health, bool insist)
{
  uint64_t now = dg_time_mono_ms(), ticket = 0;

  g_mutex_lock(&health->mutex);
  if (insist)
    health->skip_until_ms = 0;
  if (due_locked(health, now))
    ticket = want_list_locked(health, now);
  g_mutex_unlock(&health->mutex);
  return ticket;
}

int dg_health_buckets_wait(struct dg_health *health, uint64_t ticket, const struct dg_call *call,
                           GPtrArray **ret_rows, struct dg_error *err)
{
  const struct dg_health_run *run = &health->runs[DG_TASK_LIST];
  const char *name = dg_backend_name(health->params.backend);
  uint64_t until_ms;
  int rc = 0;

  g_mutex_lock(&health->mutex);
  until_ms = health->list_until_ms + SLACK_MS;
  if (call->deadline_mono_ms)
    until_ms = MIN(until_ms, call->deadline_mono_ms);
  if (ticket && !dg_health_await_locked(health, DG_TASK_LIST, ticket, until_ms)) {
    health->list_good = false;
    health->skip_until_ms = dg_time_mono_ms() + health->params.list_cooldown_ms;
    rc = dg_fail(err, DG_E_TIMEOUT, "backend '%s' did not list its buckets in time", name);
  } else if (dg_health_is_gated_locked(health)) {
    rc = dg_fail(err, DG_E_UNAVAILABLE, "backend '%s' is unavailable", name);
  } else if (!health->list_good) {
    if (run->outcome.code != DG_E_OK)
      *err = run->outcome;
    else
      (void)dg_fail(err, DG_E_TIMEOUT, "backend '%s' did not list its buckets in time", name);
    rc = -1;
  }
  *ret_rows = health->rows ? g_ptr_array_ref(health->rows) : NULL;
  g_mutex_unlock(&health->mutex);
  if (rc < 0 && ticket)
    dg_health_suspect(health, err->code);
  return rc;
}

void dg_health_buckets_forget(struct dg_health *health)
{
  g_mutex_lock(&health->mutex);
  health->generation++;
  health->fresh_until_ms = 0;
  g_mutex_unlock(&health->mutex);
}

static gint compare_name(gconstpointer a, gconstpointer b)
{
  return strcmp(((const struct dg_bucket_seen *)a)->name, b);
}

/* GPtrArray holds pointers; rows are sorted by name. */
static bool has_row(const GPtrArray *rows, const char *name)
{
  guint low = 0, high = rows->len;

  while (low < high) {
    guint middle = low + (high - low) / 2;
    gint order = compare_name(rows->pdata[middle], name);

    if (order == 0)
      return true;
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return false;
}

bool dg_health_lacks_bucket(struct dg_health *health, const char *bucket)
{
  bool lacks;

  g_mutex_lock(&health->mutex);
  lacks = health->rows && health->rows_generation == health->generation &&
          !has_row(health->rows, bucket);
  g_mutex_unlock(&health->mutex);
  return lacks;
}

void dg_health_buckets_keep(struct dg_health *health)
{
  uint64_t now = dg_time_mono_ms();
  bool stale;

  g_mutex_lock(&health->mutex);
  stale = !health->rows || health->rows_generation != health->generation ||
          now >= health->listed_ms + KEEP_MS;
  if (stale && due_locked(health, now))
    (void)want_list_locked(health, now);
  g_mutex_unlock(&health->mutex);
}
