/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads that the upstream joins: dg_backend_ops of the same names. [worker]
 *
 * A token is MARK.ID: ID is the upstream's, MARK 32 hex digits of ours. The object
 * carries MARK as dg-upload, so that after a lost answer it can be told whether the
 * completion was done. */
#ifndef DG_S3_NATIVE_H
#define DG_S3_NATIVE_H

#include "s3.h"

#define DG_S3_UPLOAD_MARK_SIZE 33
void dg_s3_upload_mark(char out[DG_S3_UPLOAD_MARK_SIZE]); /* a new one */

int dg_s3_upload_begin(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                       const struct dg_meta *meta, char *ret_token, struct dg_error *err);
int dg_s3_upload_part(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                      struct dg_slice token, uint32_t part_no, uint64_t size_bytes,
                      struct dg_writer **ret_writer, struct dg_error *err);
int dg_s3_upload_complete(struct dg_s3 *s3, const struct dg_call *call,
                          const struct dg_item *item, struct dg_slice token,
                          const struct dg_upload_piece *pieces, uint32_t count,
                          struct dg_meta *meta, struct dg_error *err);
int dg_s3_upload_abort(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                       struct dg_slice token, struct dg_error *err);

/* One HEAD with partNumber. The answer's Content-Range is believed, if it is about the
 * version that is meant; an upstream that does not know partNumber sends none. */
int dg_s3_locate_part(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                      struct dg_slice validator, uint32_t part_no, struct dg_range *ret_range,
                      struct dg_error *err);

#endif
