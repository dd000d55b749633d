/* SPDX-License-Identifier: Apache-2.0 */
/* One part of an upload, passed on while it comes. [worker]
 *
 * What the caller writes goes straight into the connection; only the last bytes wait
 * for the commit, so that an abort leaves the upstream with an unfinished request, which
 * it drops. What has gone cannot be sent again: a failure in the middle is the caller's,
 * who can send the part anew. Small parts, and failures before anything else was taken,
 * are repeated here. */
#ifndef DG_S3_PUSH_H
#define DG_S3_PUSH_H

#include "s3.h"

/* id: the upstream's, of an upload of that item. */
int dg_s3_push_part(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                    const char *id, uint32_t part_no, uint64_t size_bytes,
                    struct dg_writer **ret_writer, struct dg_error *err);

#endif
