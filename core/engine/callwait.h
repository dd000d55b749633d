/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting on a condition for a client that may leave meanwhile: nobody wakes up whom it
 * left waiting. */
#ifndef DG_CORE_ENGINE_CALLWAIT_H
#define DG_CORE_ENGINE_CALLWAIT_H

#include <glib.h>

#include <deltaglider/plugin.h>

/* Waits once, with mutex held, for what cond tells of; the caller then looks again, and
 * comes back if it must. Returns 0 after 100 ms at the latest. call may be NULL.
 *
 * until_mono_ms  no longer than to this moment: 1 when it is past, whatever the call's
 *                deadline. 0: that deadline counts, and fails with DG_E_TIMEOUT
 *
 * Fails with DG_E_CANCELLED when the client has left. Thread: [worker]. */
int dg_call_wait(const struct dg_call *call, GCond *cond, GMutex *mutex, uint64_t until_mono_ms,
                 struct dg_error *err);

#endif
