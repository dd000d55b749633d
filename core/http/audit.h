/* SPDX-License-Identifier: Apache-2.0 */
/* The lines that others read by machine: who did what, and what looks like an
 * attack. Their form is fixed:
 *
 *   AUDIT | action=A | user=U | target=T | ip=I | ua=A | bucket=B | path=P
 *   SECURITY | event=E | ip=I | bucket_key=K | trust_proxy=T | attempts=N | reason=R | ua=A
 *
 * `|`, backslashes and control characters of a value are escaped; a value has at most
 * 256 bytes, a path 1024. Thread: [any]. */
#ifndef DG_CORE_HTTP_AUDIT_H
#define DG_CORE_HTTP_AUDIT_H

#include "core/http/exchange.h"

/* action: replay_rejected, public_read, s3_post_denied. The target is the operation. */
void dg_audit(const struct dg_exchange *x, const char *action);

/* What the identity of x has to report: an alarm, or a replay. */
void dg_audit_identity(const struct dg_exchange *x);

#endif
