/* SPDX-License-Identifier: Apache-2.0 */
/* A body that waits for its commit: in memory while it is small, then in an
 * unnamed file, so that every part of it can be sent again. */
#ifndef DG_S3_SPOOL_H
#define DG_S3_SPOOL_H

#include "common/crew.h"
#include "request.h"
#include "sums.h"

struct dg_s3_spool {
  const char *dir; /* borrowed */
  GByteArray *memory; /* NULL once there is a file */
  int fd;          /* -1: none */
  uint64_t length;
  gint refs;       /* a reader may outlive the writer */
  struct dg_s3_sums *sums; /* NULL: digests are computed when they are asked for */
};

struct dg_s3_spool *dg_s3_spool_new(const char *dir);
/* Before the first byte: computes the SHA-256 of each part while it arrives. crew: borrowed,
 * takes that over if it is idle; may be NULL. */
void dg_s3_spool_sum_parts(struct dg_s3_spool *spool, uint64_t part_bytes, struct dg_crew *crew);
struct dg_s3_spool *dg_s3_spool_ref(struct dg_s3_spool *spool);
void dg_s3_spool_unref(struct dg_s3_spool *spool); /* NULL is fine */

/* [worker] DG_E_NO_SPACE, DG_E_IO. */
int dg_s3_spool_append(struct dg_s3_spool *spool, const void *data, size_t len,
                       struct dg_error *err);
/* [worker] Fails rather than reading short. */
int dg_s3_spool_read_at(const struct dg_s3_spool *spool, uint64_t offset, void *buffer, size_t len,
                        struct dg_error *err);

/* A range of it as a request's body; valid until the next append. */
struct dg_s3_body dg_s3_spool_body(const struct dg_s3_spool *spool, uint64_t offset,
                                   uint64_t length);
/* [worker] SHA-256 of a range, in hex; of a part that was summed without reading it. Nothing
 * may be appended later. */
int dg_s3_spool_sha256(const struct dg_s3_spool *spool, uint64_t offset, uint64_t length,
                       char out[65], struct dg_error *err);

/* [worker] A reader over what is there now. */
struct dg_reader *dg_s3_spool_reader(struct dg_s3_spool *spool);

#endif
