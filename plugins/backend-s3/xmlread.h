/* SPDX-License-Identifier: Apache-2.0 */
/* The XML an upstream answers with. Thread: [any]. */
#ifndef DG_S3_XMLREAD_H
#define DG_S3_XMLREAD_H

#include <stdbool.h>

#include <glib.h>

#include <deltaglider/plugin.h>

#include "answer.h"

/* Copies Code and Message of an <Error> document into the answer. Leaves it as
 * it is for anything else. */
void dg_s3_xml_error(struct dg_slice document, struct dg_s3_answer *answer);

/* The text of the first element of that name, anywhere. False if there is none
 * or the document is broken. Free *ret_text with g_free(). */
bool dg_s3_xml_find(struct dg_slice document, const char *name, char **ret_text);

/* One row of ListObjectsV2, or one common prefix. */
struct dg_s3_entry {
  char *name; /* upstream name; owned */
  size_t name_len;
  bool is_prefix;
  uint64_t size;
  int64_t modified_s;
  char etag[136];
};

struct dg_s3_page {
  GArray *entries; /* struct dg_s3_entry, in byte order of name */
  bool truncated;
  char *token; /* NextContinuationToken, or NULL */
};

void dg_s3_page_clear(struct dg_s3_page *page); /* zeroed is fine */

/* DG_E_IO if the document is not what it should be: an upstream that answers
 * nonsense must not look like an empty bucket. */
int dg_s3_xml_page(struct dg_slice document, struct dg_s3_page *ret_page, struct dg_error *err);

struct dg_s3_bucket {
  char *name; /* owned */
  int64_t created_s;
};
/* Appends struct dg_s3_bucket to buckets. */
int dg_s3_xml_buckets(struct dg_slice document, GArray *buckets, struct dg_error *err);

#endif
