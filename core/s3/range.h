/* SPDX-License-Identifier: Apache-2.0 */
/* The Range header. Thread: [any]. */
#ifndef DG_CORE_S3_RANGE_H
#define DG_CORE_S3_RANGE_H

#include <deltaglider/plugin.h>

enum dg_range_answer {
  DG_RANGE_WHOLE,         /* absent, malformed or several ranges: 200, everything */
  DG_RANGE_PART,          /* 206 */
  DG_RANGE_UNSATISFIABLE, /* 416 */
};

/* `bytes=a-b`, `bytes=a-`, `bytes=-n` against an object of size_bytes; the end
 * is clipped. *ret_range is set for WHOLE (0, size) and PART. A syntax error
 * is ignored, as RFC 9110 asks, and so are several ranges, as S3 does. */
enum dg_range_answer dg_range_resolve(struct dg_slice header, uint64_t size_bytes,
                                      struct dg_range *ret_range);

/* x-amz-copy-source-range: `bytes=a-b` and no other form; strictly within the
 * source. DG_E_INVALID_ARGUMENT, or DG_E_INVALID_RANGE past the end. */
int dg_copy_range_parse(struct dg_slice header, uint64_t size_bytes, struct dg_range *ret_range,
                        struct dg_error *err);

/* "bytes 0-9/100" for Content-Range, "bytes * /100" (without the blank) when
 * range is NULL. out holds 80. */
void dg_content_range_format(char out[80], const struct dg_range *range, uint64_t size_bytes);

#endif
