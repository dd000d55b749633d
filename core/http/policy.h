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

#endif
