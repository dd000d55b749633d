/* SPDX-License-Identifier: Apache-2.0 */
/* PUT: bytes are spooled; commit, which knows name, size and digests, sends
 * them in one PutObject or in parts. [worker] */
#ifndef DG_S3_WRITER_H
#define DG_S3_WRITER_H

#include "s3.h"

int dg_s3_put(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
              uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err);

#endif
