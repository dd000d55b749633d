/* SPDX-License-Identifier: Apache-2.0 */
/* GET: a stream pulled from the upstream as it is read. [worker] */
#ifndef DG_S3_READER_H
#define DG_S3_READER_H

#include "s3.h"

int dg_s3_get(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
              struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
              struct dg_error *err);

#endif
