/* SPDX-License-Identifier: Apache-2.0 */
/* A large body in parts. [worker] */
#ifndef DG_S3_UPLOAD_H
#define DG_S3_UPLOAD_H

#include "answer.h"
#include "spool.h"

/* Sends the whole spool as one object with that metadata (pairs as of
 * dg_s3_meta_write()). All or nothing: a failed upload is aborted. The answer
 * (initialised) is that of the completion.
 *
 * if_absent  fails with DG_E_PRECONDITION_FAILED if the name is taken. Some
 *            upstreams know that condition only for a PUT in one piece: there two
 *            uploads that begin at once may both end */
int dg_s3_upload(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                 struct dg_slice name, const GPtrArray *pairs, const struct dg_s3_spool *spool,
                 bool if_absent, struct dg_s3_answer *answer, struct dg_error *err);

/* After an answer that was lost: is what is there now what we sent? Its metadata,
 * which hold the moment to the microsecond, are the same. */
bool dg_s3_stored_is(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice name, uint64_t length, const GPtrArray *pairs);

/* Steps of an upload, for those who take them one by one. create: the caller made a POST
 * with the object's metadata; *ret_id is transferred. */
int dg_s3_upload_create(struct dg_s3 *s3, const struct dg_call *call,
                        struct dg_s3_request *request, char **ret_id, struct dg_error *err);
int dg_s3_upload_drop(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_slice name, const char *id, struct dg_error *err);
/* The document that completes one: begun, a part more, ended. etag: without quotes. */
GString *dg_s3_completion_new(void);
void dg_s3_completion_part(GString *text, uint32_t part_no, struct dg_slice etag);
void dg_s3_completion_end(GString *text);

/* The size of each part but the last: at most 10000 of them. */
uint64_t dg_s3_part_size(uint64_t length, uint64_t wanted);

#endif
