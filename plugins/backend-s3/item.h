/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on one stored item: dg_backend_ops of the same names. [worker] */
#ifndef DG_S3_ITEM_H
#define DG_S3_ITEM_H

#include "facts.h"
#include "s3.h"

int dg_s3_head(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
               struct dg_meta *meta, struct dg_error *err);
int dg_s3_head_both(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                    struct dg_slice key, struct dg_meta *passthrough, struct dg_meta *delta,
                    uint32_t *ret_found, struct dg_error *err);
int dg_s3_remove(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                 struct dg_error *err);
int dg_s3_validate(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                   struct dg_slice validator, int32_t *ret_same, struct dg_error *err);

/* The facts of an upstream name, from the upstream; remembered. DG_E_NO_SUCH_KEY.
 * *ret_facts is transferred. */
int dg_s3_look(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
               struct dg_slice name, struct dg_s3_facts **ret_facts, struct dg_error *err);

/* Looks at the first bytes of a delta that seems to have no metadata. A VCDIFF
 * is nothing to be served as it is. Changes facts, which nobody else has yet. */
int dg_s3_peek(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
               struct dg_slice name, struct dg_s3_facts *facts, struct dg_error *err);

#endif
