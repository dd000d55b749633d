/* SPDX-License-Identifier: Apache-2.0 */
/* The SHA-256 of each part of a body, computed while it arrives: the upstream is told it
 * before the part is sent, and to read all once more then would take as long as sending. */
#ifndef DG_S3_SUMS_H
#define DG_S3_SUMS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/crew.h"

struct dg_s3_sums;

/* crew: borrowed, does it beside the caller if it is idle; may be NULL. */
struct dg_s3_sums *dg_s3_sums_new(uint64_t part_bytes, struct dg_crew *crew);
void dg_s3_sums_free(struct dg_s3_sums *sums); /* NULL is fine */
/* [worker] */
void dg_s3_sums_add(struct dg_s3_sums *sums, const void *data, size_t len);
/* [worker] False if this is not one of the parts, the last one being shorter. Nothing may
 * be added later. */
bool dg_s3_sums_find(struct dg_s3_sums *sums, uint64_t offset, uint64_t length, uint8_t out[32]);

#endif
