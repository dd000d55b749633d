/* SPDX-License-Identifier: Apache-2.0 */
/* Fault points: named steps at which a test can kill the process, fail a call
 * or slow it down.
 *
 * The environment says what happens, so that an end-to-end test needs nothing
 * but a restart:
 *
 *   DGP_FAULT="STEP:ACTION[:HITS][,...]"
 *
 *   STEP    a name such as fs.rename, or a prefix ending in '*'
 *   ACTION  kill        SIGKILL to this process
 *           ENOSPC ...  the errno the step fails with, by name
 *           delay_N     sleeps N milliseconds, then goes on
 *           print       writes "fault: STEP" to stderr, then goes on
 *   HITS    3 (the third time only), 1-2, 2- (from the second on); default 1-
 *
 * Without DGP_FAULT a fault point costs one relaxed load. Built with
 * --disable-fault-points it costs nothing and the variable is refused. */
#ifndef DG_COMMON_FAULT_H
#define DG_COMMON_FAULT_H

#include <deltaglider/plugin.h>

/* Sets the rules; NULL or "" clears them. DG_E_CONFIG with the bad part named.
 * [startup], or tests between calls. */
int dg_fault_set(const char *rules, struct dg_error *err);

/* The same from DGP_FAULT. [startup] */
int dg_fault_init(struct dg_error *err);

#ifdef DG_FAULT_POINTS
/* 0: go on. Else the errno this step must fail with. [any] */
int dg_fault(const char *step);
#else
static inline int dg_fault(const char *step)
{
  (void)step;
  return 0;
}
#endif

#endif
