/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a backend and the thread that finds it out. */
#include "config.h"

#include "core/engine/health.h"

#include "common/clock.h"
#include "common/slice.h"
#include "core/engine/health-internal.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/plug/backend.h"

#include "common/banned.h"

#define PROBE_MS 5000u
#define PROBE_TRIES 2u
#define PROBE_PAUSE_MS 200u
#define REPROBE_FIRST_MS 1000u
#define SUSPECT_GAP_MS 5000u /* failed calls between two probes need no third */
#define SLACK_MS 250u        /* for a call to notice its deadline */

/* ---- States --------------------------------------------------------------------- */

static bool gates(enum dg_health_state state)
{
  return state == DG_HEALTH_AUTH_REJECTED || state == DG_HEALTH_UNREACHABLE;
}

bool dg_health_is_gated_locked(const struct dg_health *health)
{
  return gates(health->state);
}

static enum dg_health_state state_of(const struct dg_error *outcome)
{
  switch (outcome->code) {
  case DG_E_OK:
    return DG_HEALTH_HEALTHY;
  case DG_E_ACCESS_DENIED:
  case DG_E_BACKEND_DENIED:
    return DG_HEALTH_AUTH_REJECTED;
  case DG_E_UNAVAILABLE:
  case DG_E_TIMEOUT:
    return DG_HEALTH_UNREACHABLE;
  default:
    return DG_HEALTH_ERRORING;
  }
}

static const char *text_of(enum dg_health_state state)
{
  switch (state) {
  case DG_HEALTH_AUTH_REJECTED:
    return "credentials rejected";
  case DG_HEALTH_UNREACHABLE:
    return "unreachable";
  case DG_HEALTH_ERRORING:
    return "answers with errors";
  case DG_HEALTH_UNKNOWN:
  case DG_HEALTH_HEALTHY:
    break;
  }
  return "connection healthy";
}

static void announce(const struct dg_health *health, enum dg_health_state state,
                     const struct dg_error *outcome)
{
  const char *name = dg_backend_name(health->params.backend);
  uint32_t level = gates(state) ? DG_LOG_ERROR
                   : state == DG_HEALTH_ERRORING ? DG_LOG_WARN
                                                 : DG_LOG_INFO;

  dg_metrics_set(health->params.metrics, DG_METRIC_BACKEND_UP, name, NULL, gates(state) ? 0 : 1);
  if (state == DG_HEALTH_HEALTHY)
    dg_log_write(health->params.log, level, "backend.health", "backend health: '%s' — %s", name,
                 text_of(state));
  else
    dg_log_write(health->params.log, level, "backend.health",
                 "backend health: '%s' — %s: %sprobed again every %u s cause=%s", name,
                 text_of(state), gates(state) ? "requests for its buckets get 503, " : "",
                 MAX(health->params.reprobe_ms / 1000u, 1u),
                 DG_LOG_QUOTED(dg_slice_str(outcome->detail)));
}

/* Takes the outcome of a probe over. Without the mutex. */
static void settle(struct dg_health *health, const struct dg_error *outcome)
{
  enum dg_health_state state = state_of(outcome);
  uint32_t wait_ms;
  bool changed;

  if (outcome->code == DG_E_CANCELLED)
    return;
  g_mutex_lock(&health->mutex);
  changed = state != health->state;
  health->state = state;
  health->probed_ms = dg_time_mono_ms();
  if (state == DG_HEALTH_HEALTHY) {
    /* What failed before says nothing any more. */
    health->failures = 0;
    health->probe_due_ms = health->slow_until_ms = health->skip_until_ms = 0;
  } else {
    wait_ms = REPROBE_FIRST_MS << MIN(health->failures, 10u);
    health->failures++;
    health->probe_due_ms = health->probed_ms + MIN(wait_ms, health->params.reprobe_ms);
  }
  g_mutex_unlock(&health->mutex);
  if (changed)
    announce(health, state, outcome);
}

/* ---- Tasks ------------------------------------------------------------------------ */

static gpointer work(gpointer receiver);

uint64_t dg_health_want_locked(struct dg_health *health, enum dg_health_task task, bool join)
{
  struct dg_health_run *run = &health->runs[task];

  if (run->running && join)
    return run->begun;
  run->wanted = true;
  if (!health->thread)
    health->thread = g_thread_new("dg-health", work, health);
  g_cond_broadcast(&health->changed);
  return run->begun + 1;
}

bool dg_health_await_locked(struct dg_health *health, enum dg_health_task task, uint64_t number,
                            uint64_t until_ms)
{
  while (health->runs[task].ended < number)
    if (!g_cond_wait_until(&health->changed, &health->mutex, (gint64)until_ms * 1000))
      return health->runs[task].ended >= number;
  return true;
}

static bool stopped(const struct dg_health *health)
{
  return __atomic_load_n(&health->stop, __ATOMIC_RELAXED) != 0;
}

/* Sleeps, unless it is to stop. */
static void pause_ms(struct dg_health *health, uint32_t ms)
{
  gint64 until = g_get_monotonic_time() + (gint64)ms * 1000;

  g_mutex_lock(&health->mutex);
  while (!stopped(health) && g_cond_wait_until(&health->changed, &health->mutex, until))
    continue;
  g_mutex_unlock(&health->mutex);
}

/* err->code is 0 after a success. */
static void probe_once(struct dg_health *health, uint64_t until_ms, struct dg_error *err)
{
  struct dg_call call = {
    .struct_size = sizeof call, .deadline_mono_ms = until_ms, .cancelled = &health->stop};

  if (dg_backend_probe(health->params.backend, &call, err) == 0)
    err->code = DG_E_OK;
}

static void run_probe(struct dg_health *health, struct dg_error *err)
{
  for (uint32_t i = 0; i < PROBE_TRIES; i++) {
    if (i > 0)
      pause_ms(health, PROBE_PAUSE_MS);
    probe_once(health, dg_time_mono_ms() + PROBE_MS, err);
    /* A refusal is not mended by asking at once again. */
    if (err->code == DG_E_OK || err->code == DG_E_ACCESS_DENIED ||
        err->code == DG_E_BACKEND_DENIED || err->code == DG_E_CONFIG || stopped(health))
      break;
  }
  settle(health, err);
}

static void run_ask(struct dg_health *health, struct dg_error *err)
{
  probe_once(health, health->ask_until_ms, err);
}

/* That it did something shows that it works; that it did not is to be looked into. */
static void learn(struct dg_health *health, const struct dg_error *outcome)
{
  if (outcome->code != DG_E_OK)
    dg_health_suspect(health, outcome->code);
  else if (dg_health_state(health) != DG_HEALTH_HEALTHY)
    settle(health, outcome);
}

static void run_task(struct dg_health *health, enum dg_health_task task, struct dg_error *err)
{
  switch (task) {
  case DG_TASK_LIST:
    dg_health_run_list(health, err);
    learn(health, err);
    break;
  case DG_TASK_ASK:
    run_ask(health, err);
    learn(health, err);
    break;
  case DG_TASK_PROBE:
  case DG_TASK_COUNT:
    run_probe(health, err);
    break;
  }
}

static enum dg_health_task next_locked(struct dg_health *health)
{
  if (health->probe_due_ms && dg_time_mono_ms() >= health->probe_due_ms)
    health->runs[DG_TASK_PROBE].wanted = true;
  for (enum dg_health_task task = 0; task < DG_TASK_COUNT; task++)
    if (health->runs[task].wanted)
      return task;
  return DG_TASK_COUNT;
}

static gpointer work(gpointer receiver)
{
  struct dg_health *health = receiver;

  g_mutex_lock(&health->mutex);
  while (!stopped(health)) {
    enum dg_health_task task = next_locked(health);
    struct dg_health_run *run;
    struct dg_error err = {0};

    if (task == DG_TASK_COUNT) {
      if (health->probe_due_ms)
        (void)g_cond_wait_until(&health->changed, &health->mutex,
                                (gint64)health->probe_due_ms * 1000);
      else
        g_cond_wait(&health->changed, &health->mutex);
      continue;
    }
    run = &health->runs[task];
    run->wanted = false;
    run->running = true;
    run->begun++;
    g_mutex_unlock(&health->mutex);
    run_task(health, task, &err);
    g_mutex_lock(&health->mutex);
    run->running = false;
    run->ended = run->begun;
    run->outcome = err;
    g_cond_broadcast(&health->changed);
  }
  g_mutex_unlock(&health->mutex);
  return NULL;
}

/* ---- Life --------------------------------------------------------------------------- */

struct dg_health *dg_health_new(const struct dg_health_params *params)
{
  struct dg_health *health = g_new0(struct dg_health, 1);

  health->params = *params;
  health->params.reprobe_ms = MAX(params->reprobe_ms, 1u);
  g_mutex_init(&health->mutex);
  g_cond_init(&health->changed);
  dg_metrics_set(params->metrics, DG_METRIC_BACKEND_UP, dg_backend_name(params->backend), NULL, 1);
  return health;
}

void dg_health_free(struct dg_health *health)
{
  if (!health)
    return;
  __atomic_store_n(&health->stop, 1, __ATOMIC_RELAXED);
  g_mutex_lock(&health->mutex);
  g_cond_broadcast(&health->changed);
  g_mutex_unlock(&health->mutex);
  if (health->thread)
    (void)g_thread_join(health->thread);
  g_clear_pointer(&health->rows, g_ptr_array_unref);
  g_cond_clear(&health->changed);
  g_mutex_clear(&health->mutex);
  g_free(health);
}

/* ---- Asking ---------------------------------------------------------------------------- */

enum dg_health_state dg_health_state(struct dg_health *health)
{
  enum dg_health_state state;

  g_mutex_lock(&health->mutex);
  state = health->state;
  g_mutex_unlock(&health->mutex);
  return state;
}

const char *dg_health_text(struct dg_health *health)
{
  return text_of(dg_health_state(health));
}

static int fail_down(const char *name, struct dg_slice bucket, const char *cause,
                     struct dg_error *err)
{
  return dg_fail(err, DG_E_BACKEND_DOWN,
                 "bucket '%.*s' is on backend '%s', which is currently unavailable: %s",
                 DG_SLICE_ARG(bucket), name, cause);
}

int dg_health_check(struct dg_health *health, const char *name, struct dg_slice bucket,
                    struct dg_error *err)
{
  enum dg_health_state state = dg_health_state(health);

  return gates(state) ? fail_down(name, bucket, text_of(state), err) : 0;
}

void dg_health_suspect(struct dg_health *health, int32_t code)
{
  uint64_t now = dg_time_mono_ms();

  if (!health->params.gates ||
      (code != DG_E_UNAVAILABLE && code != DG_E_TIMEOUT && code != DG_E_BACKEND_DENIED))
    return;
  g_mutex_lock(&health->mutex);
  if (!dg_health_is_gated_locked(health) && !health->runs[DG_TASK_PROBE].running &&
      now >= health->probed_ms + MIN(SUSPECT_GAP_MS, health->params.reprobe_ms))
    (void)dg_health_want_locked(health, DG_TASK_PROBE, /* join= */ true);
  g_mutex_unlock(&health->mutex);
}

/* The outcome of run `number`; false, and so in the outcome, when it is not there in time. */
static bool await_outcome(struct dg_health *health, enum dg_health_task task, uint64_t number,
                          uint64_t until_ms, struct dg_error *ret_outcome)
{
  bool ended;

  g_mutex_lock(&health->mutex);
  ended = dg_health_await_locked(health, task, number, until_ms);
  if (ended)
    *ret_outcome = health->runs[task].outcome;
  else
    (void)dg_fail(ret_outcome, DG_E_TIMEOUT, "backend '%s' did not answer in time",
                  dg_backend_name(health->params.backend));
  g_mutex_unlock(&health->mutex);
  return ended;
}

int dg_health_probe_new(struct dg_health *const *all, size_t count, size_t *ret_gated,
                        struct dg_error *err)
{
  g_autofree uint64_t *numbers = g_new0(uint64_t, count + 1);
  uint64_t until_ms = dg_time_mono_ms() + PROBE_TRIES * (PROBE_MS + PROBE_PAUSE_MS) + SLACK_MS;
  size_t gated = 0;
  int rc = 0;

  for (size_t i = 0; i < count; i++) {
    if (!all[i]->params.gates)
      continue;
    g_mutex_lock(&all[i]->mutex);
    numbers[i] = dg_health_want_locked(all[i], DG_TASK_PROBE, /* join= */ true);
    g_mutex_unlock(&all[i]->mutex);
  }
  for (size_t i = 0; i < count; i++) {
    struct dg_error outcome = {0};

    if (!numbers[i])
      continue;
    if (!await_outcome(all[i], DG_TASK_PROBE, numbers[i], until_ms, &outcome))
      settle(all[i], &outcome); /* the plugin itself hangs */
    if (outcome.code == DG_E_CONFIG) {
      *err = outcome;
      rc = -1;
    }
    gated += gates(dg_health_state(all[i]));
  }
  if (rc == 0)
    *ret_gated = gated;
  return rc;
}

int dg_health_ask(struct dg_health *const *all, size_t count, const struct dg_call *call,
                  size_t *ret_failed, struct dg_error *err)
{
  g_autofree uint64_t *numbers = g_new0(uint64_t, count + 1);
  uint64_t until_ms = dg_time_mono_ms() + PROBE_MS;
  size_t failed = 0;

  if (call->deadline_mono_ms)
    until_ms = call->deadline_mono_ms;
  for (size_t i = 0; i < count; i++) {
    g_mutex_lock(&all[i]->mutex);
    if (!dg_health_is_gated_locked(all[i])) {
      if (!all[i]->runs[DG_TASK_ASK].running)
        all[i]->ask_until_ms = until_ms;
      numbers[i] = dg_health_want_locked(all[i], DG_TASK_ASK, /* join= */ true);
    }
    g_mutex_unlock(&all[i]->mutex);
  }
  for (size_t i = 0; i < count; i++) {
    struct dg_error outcome = {0};

    if (numbers[i])
      (void)await_outcome(all[i], DG_TASK_ASK, numbers[i], until_ms + SLACK_MS, &outcome);
    else
      (void)dg_fail(&outcome, DG_E_UNAVAILABLE, "backend '%s': %s",
                    dg_backend_name(all[i]->params.backend), text_of(dg_health_state(all[i])));
    if (outcome.code != DG_E_OK) {
      failed++;
      *err = outcome;
    }
  }
  *ret_failed = failed;
  return failed < count ? 0 : -1;
}

/* ---- Looking for one bucket --------------------------------------------------------------- */

uint64_t dg_health_look_until(struct dg_health *health)
{
  uint64_t now = dg_time_mono_ms(), until_ms = now + health->params.list_timeout_ms;

  g_mutex_lock(&health->mutex);
  if (dg_health_is_gated_locked(health) || now < health->slow_until_ms)
    until_ms = 0;
  g_mutex_unlock(&health->mutex);
  return until_ms;
}

void dg_health_was_slow(struct dg_health *health)
{
  g_mutex_lock(&health->mutex);
  health->slow_until_ms = dg_time_mono_ms() + health->params.list_cooldown_ms;
  g_mutex_unlock(&health->mutex);
  dg_health_suspect(health, DG_E_TIMEOUT);
}

int dg_health_fail_down(struct dg_health *health, const char *name, struct dg_slice bucket,
                        struct dg_error *err)
{
  enum dg_health_state state = dg_health_state(health);

  return fail_down(name, bucket, gates(state) ? text_of(state) : "no answer in time", err);
}
