/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/callwait.h"

#include "common/clock.h"
#include "core/plug/stream.h"

#include "common/banned.h"

#define POLL_MS UINT64_C(100) /* how late a client that left is noticed */

int dg_call_wait(const struct dg_call *call, GCond *cond, GMutex *mutex, uint64_t until_mono_ms,
                 struct dg_error *err)
{
  struct dg_call judged = call ? *call : (struct dg_call){0};
  uint64_t now_ms, wait_ms = POLL_MS;

  if (until_mono_ms)
    judged.deadline_mono_ms = 0;
  if (dg_call_check(&judged, err) < 0)
    return -1;
  now_ms = dg_time_mono_ms();
  if (until_mono_ms && until_mono_ms <= now_ms)
    return 1;
  if (judged.deadline_mono_ms)
    until_mono_ms = judged.deadline_mono_ms;
  if (until_mono_ms > now_ms) /* by one more, the deadline is past */
    wait_ms = MIN(until_mono_ms - now_ms + 1, POLL_MS);
  (void)g_cond_wait_until(cond, mutex, g_get_monotonic_time() + (gint64)wait_ms * 1000);
  return 0;
}
