/* SPDX-License-Identifier: Apache-2.0 */
/* XML request bodies, parsed strictly and bounded: wrong root or nesting, a
 * DOCTYPE, missing or doubled fields are DG_E_MALFORMED_XML. Elements we do not
 * know are passed over, as S3 grows. Thread: [any]. */
#ifndef DG_CORE_S3_BODIES_H
#define DG_CORE_S3_BODIES_H

#include <deltaglider/plugin.h>
#include <glib.h>
#include <stdbool.h>

#define DG_DELETE_MAX_OBJECTS    1000
#define DG_COMPLETE_MAX_PARTS    10000
#define DG_DELETE_MAX_BODY       (2u * 1024 * 1024 + 512 * 1024) /* 1000 keys, worst escaping */
#define DG_COMPLETE_MAX_BODY     (4u * 1024 * 1024)
#define DG_CREATE_BUCKET_MAX_BODY (64u * 1024)

/* <Delete>: up to 1000 objects. Free with dg_delete_body_free(). */
struct dg_delete_entry {
  char *key;        /* NUL-terminated; key_len bytes */
  size_t key_len;
  char *version_id; /* or NULL */
  char *etag;       /* or NULL: delete only if it matches */
};
struct dg_delete_body {
  bool quiet;
  GArray *entries; /* struct dg_delete_entry */
};
int dg_delete_body_parse(struct dg_slice body, struct dg_delete_body **ret_body,
                         struct dg_error *err);
void dg_delete_body_free(struct dg_delete_body *body); /* NULL is fine */

/* <CompleteMultipartUpload>: 1 to 10000 parts, numbers 1..10000, ascending
 * (else DG_E_INVALID_PART_ORDER). */
struct dg_complete_entry {
  uint32_t part_no;
  uint32_t checksum_kind;    /* DG_SUM_*, or DG_SUM_NONE */
  char etag[72];             /* as sent, quotes too */
  char checksum_base64[48];
};
struct dg_complete_body {
  GArray *parts; /* struct dg_complete_entry */
};
int dg_complete_body_parse(struct dg_slice body, struct dg_complete_body **ret_body,
                           struct dg_error *err);
void dg_complete_body_free(struct dg_complete_body *body); /* NULL is fine */

/* <CreateBucketConfiguration>; an empty body is fine. Any location is taken
 * and ignored: there is one region. */
int dg_create_bucket_body_check(struct dg_slice body, struct dg_error *err);

#endif
