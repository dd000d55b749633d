/* SPDX-License-Identifier: Apache-2.0 */
/* Which conditions does the upstream obey? Some refuse the headers, some ignore
 * them without a word. So it is tried out, once, when it is first needed: on
 * small objects below .deltaglider/_cwprobe/, which are removed again. */
#ifndef DG_S3_CONDITIONS_H
#define DG_S3_CONDITIONS_H

#include "s3.h"

struct dg_s3_conditions *dg_s3_conditions_new(void);
void dg_s3_conditions_free(struct dg_s3_conditions *conditions); /* NULL is fine */

/* [worker] *ret_yes: `If-None-Match: *` on a PUT keeps what is there. An upstream
 * that refuses the header lacks it, like one that ignores it. Fails when the
 * upstream cannot be asked, or refuses the PUT without the header, too: then it is
 * this bucket, or a policy; the next caller tries again. */
int dg_s3_conditions_proven(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                            bool *ret_yes, struct dg_error *err);

/* [worker] All that keeps several servers apart: If-None-Match and If-Match on a
 * PUT, and an end to signatures. DG_E_UNSUPPORTED names what is missing. */
int dg_s3_conditions_sharing(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                             struct dg_error *err);

/* [any] An If-Match's value, as this upstream understands it: some compare it
 * with its quotes, and never find it equal. Once sharing is proven. g_free(). */
char *dg_s3_conditions_etag(struct dg_s3 *s3, const char *etag);

#endif
