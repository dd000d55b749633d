/* SPDX-License-Identifier: Apache-2.0 */
/* What a HEAD or GET tells about an upstream object, in one immutable piece
 * that can be kept. */
#ifndef DG_S3_FACTS_H
#define DG_S3_FACTS_H

#include <stdbool.h>

#include <glib.h>

#include <deltaglider/plugin.h>

#include "answer.h"

struct dg_s3_facts {
  gint refs;
  uint64_t size;
  int64_t modified_s;     /* Last-Modified; 0: not known (a PUT does not say it) */
  int64_t seen_s;         /* the upstream's clock when it said so */
  bool is_stray_vcdiff;   /* a delta that lost its metadata: peeked at */
  bool sealed_upstream;   /* the ETag is no MD5 */
  char etag[136];
  char *content_type;
  uint32_t pair_count;
  struct dg_pair *pairs;  /* sorted by name: x-amz-meta-* without that prefix, and headers as
                             DG_S3_HEADER_MARK name */
  char *text;             /* what the pairs point into */
};

/* From an answer's head. size: of the whole object. */
struct dg_s3_facts *dg_s3_facts_new(const struct dg_s3_answer *answer, uint64_t size);
struct dg_s3_facts *dg_s3_facts_ref(struct dg_s3_facts *facts);
void dg_s3_facts_unref(struct dg_s3_facts *facts); /* NULL is fine */

/* Appends them as bytes. False, with something appended, if they are too much. */
bool dg_s3_facts_pack(const struct dg_s3_facts *facts, GByteArray *out);
/* NULL if the bytes are not what pack() wrote. */
struct dg_s3_facts *dg_s3_facts_unpack(struct dg_slice bytes);

/* The value of a name; absent if it is missing or empty. */
struct dg_slice dg_s3_facts_find(const struct dg_s3_facts *facts, const char *name);

/* How many of the pairs are metadata, not headers. */
uint32_t dg_s3_facts_meta_count(const struct dg_s3_facts *facts);

/* 16 bytes that change whenever the object or its metadata do. */
#define DG_S3_VALIDATOR_BYTES 16
void dg_s3_facts_validator(const struct dg_s3_facts *facts, uint8_t out[DG_S3_VALIDATOR_BYTES]);

#endif
