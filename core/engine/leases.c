/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/leases.h"

#include "common/clock.h"
#include "core/engine/callwait.h"
#include "core/engine/internal.h"
#include "core/engine/space.h"
#include "core/engine/view.h"

#include "common/banned.h"

#define LINGER_MS 5u      /* how long a parked lease waits for the next worker */
#define TURN_MS 500u      /* how long it may be handed on */
#define PARKED_MAX 8u     /* more: workers give back themselves */
#define POLL_MIN_MS 20    /* between looks at a lease that another server has */
#define POLL_MAX_MS 100
#define PAUSE_MS 80u      /* after a whole turn: more than most of these looks */
#define CALL_MS 10000u    /* for a request of ours */
#define SWEEP_TTLS 2u     /* times the length of a lease, between two sweeps */

enum state { USED, PARKED, GIVING };

struct dg_lease_hold {
  struct dg_leases *leases;
  struct dg_route route; /* a copy of its own */
  char *prefix;
  GBytes *name; /* key in holds */
  enum state state;
  bool tired;    /* parked: not used again */
  bool renewing; /* the thread asks the backend: nobody else does */
  bool keep;     /* left to lapse */
  uint64_t taken_mono_ms, renew_mono_ms, give_mono_ms;
};

struct dg_leases {
  struct dg_engine *engine;
  uint32_t ttl_ms, wait_ms;
  GThread *keeper, *sweeper;
  GMutex mutex; /* guards what follows and every hold; leaf */
  GCond changed;
  GHashTable *holds;
  size_t parked_count;
  bool stopping;
};

static struct dg_call own_call(uint32_t limit_ms)
{
  return (struct dg_call){.struct_size = sizeof(struct dg_call),
                          .deadline_mono_ms = dg_time_mono_ms() + limit_ms};
}

/* BACKEND NUL BUCKET NUL PREFIX. */
static GBytes *hold_name(const struct dg_route *route, struct dg_slice prefix)
{
  g_autoptr(GString) name = g_string_new(dg_backend_name(route->backend));

  g_string_append_c(name, '\0');
  g_string_append_len(name, route->bucket, (gssize)strlen(route->bucket) + 1);
  dg_slice_append(name, prefix);
  return g_bytes_new(name->str, name->len);
}

static void free_hold(struct dg_lease_hold *hold)
{
  dg_route_clear(&hold->route);
  g_bytes_unref(hold->name);
  g_free(hold->prefix);
  g_free(hold);
}

/* ---- Giving back ------------------------------------------------------------------- */

/* The hold is in state GIVING. Leaves the mutex for the request; the hold may be
 * gone afterwards. */
static void give_locked(struct dg_leases *leases, struct dg_lease_hold *hold)
{
  struct dg_call call = own_call(CALL_MS);
  uint32_t wait_ms = 0;
  struct dg_error err;
  int rc;

  g_mutex_unlock(&leases->mutex);
  rc = dg_backend_lease_give(hold->route.backend, &call, dg_slice_str(hold->route.bucket),
                             dg_slice_str(hold->prefix), hold->keep, &wait_ms, &err);
  if (rc < 0)
    dg_log_warn(leases->engine->log, "engine.lease_left", "bucket=%s deltaspace=%s cause=%s",
                DG_LOG_QUOTED(dg_slice_str(hold->route.bucket)),
                DG_LOG_QUOTED(dg_slice_str(hold->prefix)), DG_LOG_QUOTED(dg_slice_str(err.detail)));
  g_mutex_lock(&leases->mutex);
  if (rc == 0 && wait_ms > 0) {
    hold->state = PARKED;
    hold->tired = true;
    hold->give_mono_ms = dg_time_mono_ms() + wait_ms;
    leases->parked_count++;
  } else {
    (void)g_hash_table_remove(leases->holds, hold->name);
    free_hold(hold);
  }
  g_cond_broadcast(&leases->changed);
}

void dg_lease_leave(struct dg_lease_hold *hold, uint32_t how)
{
  struct dg_leases *leases = hold->leases;
  uint64_t now = dg_time_mono_ms();

  g_mutex_lock(&leases->mutex);
  while (hold->renewing)
    g_cond_wait(&leases->changed, &leases->mutex);
  hold->keep = how == DG_LEASE_KEEP;
  hold->tired = hold->tired || now - hold->taken_mono_ms > TURN_MS;
  if (how != DG_LEASE_PARK || hold->tired || leases->parked_count >= PARKED_MAX) {
    hold->state = GIVING;
    give_locked(leases, hold);
  } else {
    hold->state = PARKED;
    hold->give_mono_ms = now + LINGER_MS;
    leases->parked_count++;
    g_cond_broadcast(&leases->changed);
  }
  g_mutex_unlock(&leases->mutex);
}

static bool in_bucket(const struct dg_lease_hold *hold, const struct dg_route *route)
{
  return hold->route.backend == route->backend && strcmp(hold->route.bucket, route->bucket) == 0;
}

static struct dg_lease_hold *find_parked_locked(struct dg_leases *leases,
                                                const struct dg_route *route)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, leases->holds);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct dg_lease_hold *hold = value;

    if (hold->state == PARKED && !hold->tired && in_bucket(hold, route))
      return hold;
  }
  return NULL;
}

void dg_leases_flush(struct dg_leases *leases, const struct dg_route *route)
{
  struct dg_lease_hold *hold;

  g_mutex_lock(&leases->mutex);
  while ((hold = find_parked_locked(leases, route))) {
    hold->state = GIVING;
    leases->parked_count--;
    give_locked(leases, hold);
  }
  g_mutex_unlock(&leases->mutex);
}

/* ---- Taking -------------------------------------------------------------------------- */

/* 1: the parked lease is the caller's; 0: there is none. Waits for one that goes
 * back; *had_turn: after a whole turn. */
static int take_parked(struct dg_leases *leases, const struct dg_call *call,
                       const struct dg_route *route, GBytes *name, uint64_t until_mono_ms,
                       struct dg_lease_hold **ret_hold, bool *had_turn, struct dg_error *err)
{
  struct dg_lease_hold *hold;
  int rc = 0;

  g_mutex_lock(&leases->mutex);
  while (rc == 0 && (hold = g_hash_table_lookup(leases->holds, name))) {
    if (hold->state == PARKED && !hold->tired && hold->route.backend == route->backend) {
      hold->state = USED;
      leases->parked_count--;
      *ret_hold = hold;
      rc = 1;
      break;
    }
    *had_turn = *had_turn || hold->tired;
    if (hold->state == PARKED)
      hold->tired = true; /* a reload put another instance in the backend's place */
    if (dg_time_mono_ms() > until_mono_ms)
      rc = dg_fail(err, DG_E_SLOW_DOWN, "the deltaspace's lease waits for a lost answer");
    else
      rc = dg_call_wait(call, &leases->changed, &leases->mutex, /* until_mono_ms= */ 0, err);
  }
  g_mutex_unlock(&leases->mutex);
  return rc;
}

static struct dg_lease_hold *new_hold(struct dg_leases *leases, const struct dg_route *route,
                                      struct dg_slice prefix, GBytes *name, uint64_t began)
{
  struct dg_lease_hold *hold = g_new0(struct dg_lease_hold, 1);

  hold->leases = leases;
  dg_route_copy(route, &hold->route);
  hold->prefix = dg_slice_dup(prefix);
  hold->name = g_bytes_ref(name);
  hold->taken_mono_ms = dg_time_mono_ms();
  hold->renew_mono_ms = began + leases->ttl_ms / 4;
  g_mutex_lock(&leases->mutex);
  g_hash_table_insert(leases->holds, hold->name, hold);
  g_cond_broadcast(&leases->changed);
  g_mutex_unlock(&leases->mutex);
  return hold;
}

static int pause_before_next(const struct dg_call *call, uint32_t wait_ms, struct dg_error *err)
{
  g_usleep((gulong)wait_ms * 1000u);
  return dg_call_check(call, err);
}

static int take_fresh(struct dg_leases *leases, const struct dg_call *call,
                      const struct dg_route *route, struct dg_slice prefix, GBytes *name,
                      uint64_t until_mono_ms, struct dg_lease_hold **ret_hold, bool *ret_lapsed,
                      struct dg_error *err)
{
  for (;;) {
    uint64_t began = dg_time_mono_ms();
    uint32_t flags = 0;

    if (dg_backend_lease_take(route->backend, call, dg_slice_str(route->bucket), prefix,
                              leases->ttl_ms, &flags, err) == 0) {
      *ret_lapsed = (flags & DG_LEASE_LAPSED) != 0;
      *ret_hold = new_hold(leases, route, prefix, name, began);
      return 0;
    }
    if (err->code != DG_E_CONFLICT)
      return -1;
    if (dg_time_mono_ms() > until_mono_ms)
      return dg_fail(err, DG_E_SLOW_DOWN, "another server is at work in the deltaspace");
    if (pause_before_next(call, (uint32_t)g_random_int_range(POLL_MIN_MS, POLL_MAX_MS + 1), err) <
        0)
      return -1;
  }
}

int dg_lease_enter(struct dg_leases *leases, const struct dg_call *call,
                   const struct dg_route *route, struct dg_slice prefix, uint64_t began_mono_ms,
                   struct dg_lease_hold **ret_hold, bool *ret_lapsed, struct dg_error *err)
{
  uint64_t until = began_mono_ms + leases->wait_ms;
  g_autoptr(GBytes) name = hold_name(route, prefix);
  bool had_turn = false;
  int rc;

  *ret_lapsed = false;
  rc = take_parked(leases, call, route, name, until, ret_hold, &had_turn, err);
  if (rc != 0)
    return rc > 0 ? 0 : -1;
  /* It went back for the others: let them find it. */
  if (had_turn && pause_before_next(call, PAUSE_MS, err) < 0)
    return -1;
  return take_fresh(leases, call, route, prefix, name, until, ret_hold, ret_lapsed, err);
}

/* ---- The keeper ------------------------------------------------------------------------- */

static void renew_locked(struct dg_leases *leases, struct dg_lease_hold *hold)
{
  struct dg_call call = own_call(leases->ttl_ms / 6);
  uint64_t began = dg_time_mono_ms();
  struct dg_error err;
  int rc;

  hold->renewing = true;
  g_mutex_unlock(&leases->mutex);
  rc = dg_backend_lease_renew(hold->route.backend, &call, dg_slice_str(hold->route.bucket),
                              dg_slice_str(hold->prefix), leases->ttl_ms, &err);
  if (rc < 0)
    dg_log_warn(leases->engine->log, "engine.lease_not_renewed", "bucket=%s deltaspace=%s cause=%s",
                DG_LOG_QUOTED(dg_slice_str(hold->route.bucket)),
                DG_LOG_QUOTED(dg_slice_str(hold->prefix)), DG_LOG_QUOTED(dg_slice_str(err.detail)));
  g_mutex_lock(&leases->mutex);
  hold->renewing = false;
  hold->renew_mono_ms = rc == 0 ? began + leases->ttl_ms / 4
                                : dg_time_mono_ms() + leases->ttl_ms / 12;
  g_cond_broadcast(&leases->changed);
}

/* What is due, or NULL and *wake_mono_ms is when to look again. */
static struct dg_lease_hold *find_due_locked(struct dg_leases *leases, uint64_t now,
                                             uint64_t *wake_mono_ms)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, leases->holds);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct dg_lease_hold *hold = value;
    uint64_t due = hold->state == USED     ? hold->renew_mono_ms
                   : hold->state == PARKED ? hold->give_mono_ms
                                           : UINT64_MAX;

    if (due <= now)
      return hold;
    *wake_mono_ms = MIN(*wake_mono_ms, due);
  }
  return NULL;
}

static gpointer keep_leases(gpointer receiver)
{
  struct dg_leases *leases = receiver;

  g_mutex_lock(&leases->mutex);
  while (!leases->stopping) {
    uint64_t now = dg_time_mono_ms(), wake = now + 60000;
    struct dg_lease_hold *hold = find_due_locked(leases, now, &wake);

    if (!hold) {
      (void)g_cond_wait_until(&leases->changed, &leases->mutex,
                              g_get_monotonic_time() + (gint64)(wake - now) * 1000);
    } else if (hold->state == USED) {
      renew_locked(leases, hold);
    } else {
      hold->state = GIVING;
      leases->parked_count--;
      give_locked(leases, hold);
    }
  }
  g_mutex_unlock(&leases->mutex);
  return NULL;
}

/* ---- The sweeper --------------------------------------------------------------------------- */

static int32_t note_bucket(void *receiver, const struct dg_bucket_row *row)
{
  g_ptr_array_add(receiver, dg_slice_dup(row->name));
  return 0;
}

static int32_t note_lapsed(void *receiver, const struct dg_lease_row *row)
{
  if (row->flags & DG_LEASE_LAPSED)
    g_ptr_array_add(receiver, dg_slice_dup(row->prefix));
  return 0;
}

static bool is_stopping(struct dg_leases *leases)
{
  bool stopping;

  g_mutex_lock(&leases->mutex);
  stopping = leases->stopping;
  g_mutex_unlock(&leases->mutex);
  return stopping;
}

/* A replaced view is not kept for as long as many buckets take. */
static bool may_stop_sweep(struct dg_leases *leases, const struct dg_view *view)
{
  return is_stopping(leases) || g_atomic_int_get(&view->superseded);
}

static void sweep_bucket(struct dg_leases *leases, const struct dg_route *route)
{
  g_autoptr(GPtrArray) prefixes = g_ptr_array_new_with_free_func(g_free);
  struct dg_call call = own_call(60000);
  struct dg_error err;

  if (dg_backend_lease_list(route->backend, &call, dg_slice_str(route->bucket), note_lapsed,
                            prefixes, &err) < 0)
    return; /* the next sweep asks again */
  for (guint i = 0; i < prefixes->len && !is_stopping(leases); i++) {
    struct dg_space *space;

    /* Taking it over is all: who does that tidies up. */
    call = own_call(60000);
    if (dg_space_enter(leases->engine, &call, route, dg_slice_str(prefixes->pdata[i]), &space,
                       &err) == 0)
      dg_space_leave(space);
  }
}

static void sweep_backend(struct dg_leases *leases, struct dg_view *view,
                          struct dg_backend *backend)
{
  g_autoptr(GPtrArray) buckets = g_ptr_array_new_with_free_func(g_free);
  struct dg_call call = own_call(60000);
  struct dg_error err;

  if (!dg_backend_is_shared(backend) ||
      dg_backend_bucket_list(backend, &call, note_bucket, buckets, &err) < 0)
    return;
  for (guint i = 0; i < buckets->len && !may_stop_sweep(leases, view); i++) {
    struct dg_route route = {
      .view = dg_view_ref(view), .snapshot = view->snapshot, .backend = backend};

    if (g_strlcpy(route.bucket, buckets->pdata[i], sizeof route.bucket) < sizeof route.bucket)
      sweep_bucket(leases, &route);
    dg_route_clear(&route);
  }
}

static gpointer sweep_leases(gpointer receiver)
{
  struct dg_leases *leases = receiver;
  gint64 pause_us = (gint64)leases->ttl_ms * SWEEP_TTLS * 1000;
  /* The first one soon: the server that was here before may have died. */
  gint64 next_us = g_get_monotonic_time() + (gint64)leases->ttl_ms * 1000;

  while (!is_stopping(leases)) {
    struct dg_view *view;

    g_mutex_lock(&leases->mutex);
    while (!leases->stopping && g_get_monotonic_time() < next_us)
      (void)g_cond_wait_until(&leases->changed, &leases->mutex, next_us);
    g_mutex_unlock(&leases->mutex);
    view = dg_engine_view(leases->engine);
    for (size_t i = 0; i < view->backend_count && !may_stop_sweep(leases, view); i++)
      sweep_backend(leases, view, view->backends[i].backend);
    dg_view_unref(view);
    next_us = g_get_monotonic_time() + pause_us;
  }
  return NULL;
}

/* ---- Lifetime -------------------------------------------------------------------------------- */

struct dg_leases *dg_leases_new(struct dg_engine *engine, uint32_t ttl_ms, uint32_t wait_ms)
{
  struct dg_leases *leases = g_new0(struct dg_leases, 1);

  leases->engine = engine;
  leases->ttl_ms = ttl_ms;
  leases->wait_ms = wait_ms;
  leases->holds = g_hash_table_new(g_bytes_hash, g_bytes_equal);
  g_mutex_init(&leases->mutex);
  g_cond_init(&leases->changed);
  return leases;
}

void dg_leases_start(struct dg_leases *leases)
{
  leases->keeper = g_thread_new("dg-leases", keep_leases, leases);
  leases->sweeper = g_thread_new("dg-sweep", sweep_leases, leases);
}

/* What still waits for a lost answer is left to lapse. */
static void give_all(struct dg_leases *leases)
{
  g_autoptr(GList) holds = g_hash_table_get_values(leases->holds);

  g_mutex_lock(&leases->mutex);
  for (GList *link = holds; link; link = link->next) {
    struct dg_lease_hold *hold = link->data;

    g_assert(hold->state == PARKED);
    hold->keep = hold->tired;
    hold->state = GIVING;
    give_locked(leases, hold);
  }
  g_mutex_unlock(&leases->mutex);
}

void dg_leases_free(struct dg_leases *leases)
{
  GHashTableIter iter;
  gpointer hold;

  if (!leases)
    return;
  g_mutex_lock(&leases->mutex);
  leases->stopping = true;
  g_cond_broadcast(&leases->changed);
  g_mutex_unlock(&leases->mutex);
  if (leases->keeper)
    (void)g_thread_join(leases->keeper);
  if (leases->sweeper)
    (void)g_thread_join(leases->sweeper);
  give_all(leases);
  g_hash_table_iter_init(&iter, leases->holds);
  while (g_hash_table_iter_next(&iter, NULL, &hold))
    free_hold(hold);
  g_hash_table_unref(leases->holds);
  g_cond_clear(&leases->changed);
  g_mutex_clear(&leases->mutex);
  g_free(leases);
}
