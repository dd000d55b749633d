/* SPDX-License-Identifier: Apache-2.0 */
/* Copies that the upstream makes, of an object to another name or, for other metadata,
 * onto itself: dg_backend_ops of the same names. [worker] */
#ifndef DG_S3_COPY_H
#define DG_S3_COPY_H

#include "s3.h"

int dg_s3_set_meta(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                   const struct dg_meta *meta, struct dg_error *err);
int dg_s3_copy(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *from,
               struct dg_slice validator, const struct dg_item *to, const struct dg_meta *meta,
               struct dg_error *err);

#endif
