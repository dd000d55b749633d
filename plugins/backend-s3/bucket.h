/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on buckets: dg_backend_ops of the same names. [worker] */
#ifndef DG_S3_BUCKET_H
#define DG_S3_BUCKET_H

#include "s3.h"

/* DG_E_BUCKET_TAKEN when somebody else has it, whom we cannot see. */
int dg_s3_bucket_create(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                        struct dg_error *err);
int dg_s3_bucket_delete(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                        struct dg_error *err);
/* DG_E_BACKEND_DENIED for a bucket that is denied to us: it may be ours, or, in a
 * namespace that many share, somebody else's. */
int dg_s3_bucket_head(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_error *err);
int dg_s3_bucket_list(struct dg_s3 *s3, const struct dg_call *call, dg_bucket_row_fn row,
                      void *receiver, struct dg_error *err);
/* Through an open circuit breaker, too, which a success closes. */
int dg_s3_probe(struct dg_s3 *s3, const struct dg_call *call, struct dg_error *err);

/* Is the bucket there? An answer of yes is remembered for some seconds: puts
 * ask this before a byte is sent. DG_E_NO_SUCH_BUCKET. */
int dg_s3_bucket_expect(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                        struct dg_error *err);
void dg_s3_bucket_forget(struct dg_s3 *s3, struct dg_slice bucket);

struct dg_s3_known *dg_s3_known_new(void);
void dg_s3_known_free(struct dg_s3_known *known); /* NULL is fine */

#endif
