/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/space.h"

#include "common/clock.h"
#include "core/engine/leases.h"

#include "common/banned.h"

#define TIDY_MS 10000u /* the client's own time may be over */

struct dg_space {
  struct dg_engine *engine;
  const struct dg_route *route;
  struct dg_slice prefix;
  struct dg_space_lock *lock;
  struct dg_lease_hold *hold; /* NULL: the storage is not shared */
  bool alone, soiled, forsaken;
};

int dg_space_enter(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_route *route, struct dg_slice prefix,
                   struct dg_space **ret_space, struct dg_error *err)
{
  struct dg_space space = {.engine = engine, .route = route, .prefix = prefix, .alone = true};
  uint64_t began = dg_time_mono_ms();
  bool lapsed = false;

  if (dg_space_lock_take(engine->locks, call, dg_slice_str(route->bucket), prefix, &space.lock,
                         err) < 0)
    return -1;
  if (dg_backend_is_shared(route->backend) &&
      dg_lease_enter(engine->leases, call, route, prefix, began, &space.hold, &lapsed, err) < 0) {
    dg_space_lock_release(space.lock);
    return -1;
  }
  if (lapsed) {
    dg_log_warn(engine->log, "engine.lease_taken_over", "bucket=%s deltaspace=%s",
                DG_LOG_QUOTED(dg_slice_str(route->bucket)), DG_LOG_QUOTED(prefix));
    space.soiled = true;
  }
  *ret_space = g_memdup2(&space, sizeof space);
  return 0;
}

int dg_space_enter_key(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_route *route, struct dg_slice key,
                       struct dg_space **ret_space, struct dg_error *err)
{
  struct dg_space space = {.engine = engine, .route = route, .prefix = dg_key_deltaspace(key)};

  if (dg_backend_is_shared(route->backend))
    return dg_space_enter(engine, call, route, space.prefix, ret_space, err);
  if (dg_key_lock_take(engine->locks, call, dg_slice_str(route->bucket), space.prefix, key,
                       &space.lock, err) < 0)
    return -1;
  *ret_space = g_memdup2(&space, sizeof space);
  return 0;
}

bool dg_space_is_alone(const struct dg_space *space)
{
  return space->alone;
}

void dg_space_soil(struct dg_space *space)
{
  space->soiled = true;
}

void dg_space_forsake(struct dg_space *space)
{
  space->forsaken = true;
}

void dg_space_leave(struct dg_space *space)
{
  uint32_t how = DG_LEASE_PARK;

  if (!space)
    return;
  if (space->hold && space->forsaken) {
    how = DG_LEASE_KEEP;
  } else if (space->hold && space->soiled) {
    struct dg_call call = {.struct_size = sizeof call,
                           .deadline_mono_ms = dg_time_mono_ms() + TIDY_MS};

    if (dg_reference_tidy(space->engine, space->route, &call, space->prefix) < 0)
      how = DG_LEASE_KEEP;
  }
  if (space->hold)
    dg_lease_leave(space->hold, how);
  dg_space_lock_release(space->lock);
  g_free(space);
}
