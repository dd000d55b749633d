/* SPDX-License-Identifier: Apache-2.0 */
/* An upstream's answer: the few headers we use, and a small body. */
#ifndef DG_S3_ANSWER_H
#define DG_S3_ANSWER_H

#include <stdbool.h>

#include <glib.h>

#include <deltaglider/plugin.h>

#define DG_S3_ANSWER_MAX (32u << 20) /* bytes of a small body: a page of the longest keys */

struct dg_s3_answer {
  long status; /* 0: none came */
  uint64_t content_length; /* UINT64_MAX: not said */
  uint64_t total_length;   /* of a Content-Range; UINT64_MAX: not said */
  uint64_t first_byte, last_byte; /* the same */
  int64_t last_modified_s, date_s; /* 0: not said */
  uint32_t retry_after_s;
  char etag[136];       /* without quotes; "" if there is none */
  char content_type[256];
  char request_id[72];
  bool sealed_upstream; /* x-amz-server-side-encryption: the ETag is no MD5 */
  GPtrArray *meta;      /* name, value ...: x-amz-meta-* without that prefix, lower case; and the
                           headers that an object keeps, as DG_S3_HEADER_MARK name */
  GString *body;
  char code[64];        /* the error's code from the body; "" if there is none */
  char message[224];
};

/* No header's name can begin so. */
#define DG_S3_HEADER_MARK ':'

/* Headers besides its type that an object keeps and tells: cache-control,
 * content-disposition, content-encoding, content-language, expires. Any case. */
bool dg_s3_is_kept_header(struct dg_slice name);

void dg_s3_answer_init(struct dg_s3_answer *answer);
void dg_s3_answer_reset(struct dg_s3_answer *answer); /* for the next attempt */
void dg_s3_answer_clear(struct dg_s3_answer *answer); /* zeroed is fine */

/* One header line, with or without its end. A status line starts anew. */
void dg_s3_answer_line(struct dg_s3_answer *answer, struct dg_slice line);

/* Copies an ETag without quotes and weakness mark; "" if it is too long. */
void dg_s3_etag_copy(char out[136], struct dg_slice value);

#endif
