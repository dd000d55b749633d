/* SPDX-License-Identifier: Apache-2.0 */
/* Does the upstream obey `If-None-Match: *` on a PUT? Some refuse the header,
 * some ignore it without a word. So it is tried out, once, when it is first
 * needed: a small object is put twice, and the second must be refused. */
#ifndef DG_S3_CONDITIONS_H
#define DG_S3_CONDITIONS_H

#include "s3.h"

struct dg_s3_conditions *dg_s3_conditions_new(void);
void dg_s3_conditions_free(struct dg_s3_conditions *conditions); /* NULL is fine */

/* [worker] *ret_yes: it does. Fails only when the upstream cannot be asked;
 * the next caller tries again. */
int dg_s3_conditions_proven(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                            bool *ret_yes, struct dg_error *err);

#endif
