/* SPDX-License-Identifier: Apache-2.0 */
/* Changes that may still take effect although nobody waits for them any more: an answer
 * was lost, or a request given up. Whatever is stored or removed under the same name
 * before they have must expect to be undone by them, so the next change of that name
 * waits.
 *
 * The same change again need not: which of the two comes last is all the same.
 *
 * This is about one server. What others may do meanwhile is for leases (lease.h), under
 * which requests are also signed so that the upstream refuses them later. Without a
 * lease the time is a guess: what an upstream has held back longer hits. */
#ifndef DG_S3_DOUBTS_H
#define DG_S3_DOUBTS_H

#include "request.h"

#define DG_S3_DOUBT_MS 21000u /* a second longer than signatures under a lease hold */

struct dg_s3_doubts;

struct dg_s3_doubts *dg_s3_doubts_new(void);
void dg_s3_doubts_free(struct dg_s3_doubts *doubts); /* NULL is fine */

/* [any] An attempt at the request, if that changes something, has ended without an
 * answer. */
void dg_s3_doubt(struct dg_s3 *s3, const struct dg_s3_request *request);
/* [any] Is a change of this name in doubt? */
bool dg_s3_is_in_doubt(struct dg_s3 *s3, struct dg_slice bucket, struct dg_slice name);
/* [worker] Before the first attempt at a change that is complete but for its signature:
 * waits until no other one of its name is in doubt. DG_E_SLOW_DOWN at once when that is
 * later than the call's deadline; else as dg_s3_pause(). */
int dg_s3_doubt_wait(struct dg_s3 *s3, const struct dg_call *call,
                     const struct dg_s3_request *request, struct dg_error *err);
/* [worker] The same before a look at what must not vanish afterwards: waits for removals
 * alone. */
int dg_s3_doubt_wait_to_stay(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                             struct dg_slice name, struct dg_error *err);

#endif
