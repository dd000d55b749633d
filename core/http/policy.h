/* SPDX-License-Identifier: Apache-2.0 */
/* What a bucket's configuration forbids its clients, whoever they are. The one
 * place that decides it; the server's own work goes through the engine, which
 * does not ask. A pure function over the snapshot. Thread: [any]. */
#ifndef DG_CORE_HTTP_POLICY_H
#define DG_CORE_HTTP_POLICY_H

#include "core/http/exchange.h"

/* May this request change its bucket? To be asked once the client is known: a
 * stranger learns nothing of the configuration.
 *
 *   replication_target_only  DG_E_ACCESS_DENIED for whatever adds or removes objects
 *   frozen                   DG_E_QUOTA for what adds; deletes and aborts make room
 *
 * Reads pass, and the end of an upload that was begun earlier. */
int dg_policy_check_write(const struct dg_exchange *x, struct dg_error *err);

/* May this request, which removes many keys, remove this one? The admission blocks judge
 * it as a DELETE of its own, so that what they protect is safe from DeleteObjects and from
 * the removal of a prefix alike. DG_E_ACCESS_DENIED. */
int dg_policy_check_removal(const struct dg_exchange *x, struct dg_slice key,
                            struct dg_error *err);

#endif
