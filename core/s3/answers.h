/* SPDX-License-Identifier: Apache-2.0 */
/* XML response documents, from plain structs. Each function appends one
 * complete document, except rows, which stand between begin and end. Slices are
 * borrowed for the call. Thread: [any]. */
#ifndef DG_CORE_S3_ANSWERS_H
#define DG_CORE_S3_ANSWERS_H

#include <deltaglider/plugin.h>
#include <glib.h>
#include <stdbool.h>

#define DG_OWNER_ID   "deltaglider_proxy"
#define DG_OWNER_NAME "DeltaGlider Proxy"

/* ListBuckets: begin, one row each, end. next_token absent: the last page. */
void dg_answer_buckets_begin(GString *out);
void dg_answer_buckets_row(GString *out, struct dg_slice name, int64_t created_at_s);
void dg_answer_buckets_end(GString *out, struct dg_slice prefix, struct dg_slice next_token);

/* ListObjects, both versions. Rows may come in any mixture of objects and
 * prefixes; they are collected apart and written at the end. */
struct dg_answer_list {
  bool v2;
  bool encode_url;             /* encoding-type=url: keys, prefixes and markers encoded */
  bool fetch_owner;            /* v2; v1 always shows the owner */
  bool metadata;               /* v2: each object with its UserMetadata */
  bool truncated;
  struct dg_slice bucket, prefix, delimiter;
  struct dg_slice marker, next_marker;                   /* v1 */
  struct dg_slice token, next_token, start_after;        /* v2; absent: not shown */
  uint32_t max_keys, row_count;                          /* row_count: KeyCount, v2 */
};
struct dg_answer_object {
  struct dg_slice key;
  int64_t last_modified_s;
  struct dg_slice etag;          /* with quotes */
  uint64_t size_bytes;
  uint32_t checksum_kind;        /* DG_SUM_*: <ChecksumAlgorithm>; 0 for none */
  const struct dg_pair *items;   /* of UserMetadata; read only if list->metadata */
  uint32_t item_count;
};
void dg_answer_list_object(GString *contents, const struct dg_answer_list *list,
                           const struct dg_answer_object *object);
void dg_answer_list_prefix(GString *prefixes, const struct dg_answer_list *list,
                           struct dg_slice prefix);
/* contents and prefixes as built by the two above; may be NULL. */
void dg_answer_list(GString *out, const struct dg_answer_list *list, const GString *contents,
                    const GString *prefixes);

/* Fixed answers about buckets and objects. */
void dg_answer_location(GString *out);   /* empty: us-east-1 */
void dg_answer_versioning(GString *out); /* empty: never enabled */
void dg_answer_acl(GString *out);        /* owner, FULL_CONTROL */
void dg_answer_tagging(GString *out);    /* an empty TagSet */

/* Multipart. */
void dg_answer_upload_created(GString *out, struct dg_slice bucket, struct dg_slice key,
                              struct dg_slice upload_id);
struct dg_answer_completed {
  struct dg_slice location, bucket, key, etag;
  uint32_t checksum_kind;
  struct dg_slice checksum_base64; /* absent: none */
  bool composite;                  /* ChecksumType: COMPOSITE, else FULL_OBJECT */
};
void dg_answer_upload_completed(GString *out, const struct dg_answer_completed *completed);

struct dg_answer_parts {
  struct dg_slice bucket, key, upload_id;
  uint32_t part_marker, next_part_marker, max_parts;
  bool truncated, encode_url;
  uint32_t checksum_kind;
};
struct dg_answer_part {
  uint32_t part_no, checksum_kind;
  int64_t last_modified_s;
  struct dg_slice etag, checksum_base64;
  uint64_t size_bytes;
};
void dg_answer_part_row(GString *rows, const struct dg_answer_part *part);
void dg_answer_parts(GString *out, const struct dg_answer_parts *parts, const GString *rows);

struct dg_answer_uploads {
  struct dg_slice bucket, prefix, delimiter;
  struct dg_slice key_marker, upload_id_marker, next_key_marker, next_upload_id_marker;
  uint32_t max_uploads;
  bool truncated, encode_url;
};
void dg_answer_upload_row(GString *rows, const struct dg_answer_uploads *uploads,
                          struct dg_slice key, struct dg_slice upload_id, int64_t initiated_s,
                          uint32_t checksum_kind);
void dg_answer_upload_prefix(GString *prefixes, const struct dg_answer_uploads *uploads,
                             struct dg_slice prefix);
void dg_answer_uploads(GString *out, const struct dg_answer_uploads *uploads, const GString *rows,
                       const GString *prefixes);

/* CopyObjectResult and CopyPartResult. checksum absent: none. */
void dg_answer_copied(GString *out, bool part, struct dg_slice etag, int64_t last_modified_s,
                      uint32_t checksum_kind, struct dg_slice checksum_base64);

/* DeleteResult: begin, rows, end. Quiet leaves out the deleted. */
void dg_answer_deleted_begin(GString *out);
void dg_answer_deleted_row(GString *out, struct dg_slice key);
void dg_answer_deleted_error(GString *out, struct dg_slice key, const struct dg_error *err);
void dg_answer_deleted_end(GString *out);

/* PostResponse, for success_action_status=201. */
void dg_answer_post(GString *out, struct dg_slice location, struct dg_slice bucket,
                    struct dg_slice key, struct dg_slice etag);

#endif
