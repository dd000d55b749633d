/* SPDX-License-Identifier: Apache-2.0 */
/* What the operations share: reading a request's fields, metadata in and out
 * of headers, conditions, and the handlers themselves. */
#ifndef DG_CORE_HTTP_OP_H
#define DG_CORE_HTTP_OP_H

#include "common/checksum.h"
#include "common/meta.h"
#include "common/slice.h"
#include "core/engine/engine.h"
#include "core/http/exchange.h"
#include "core/http/front.h"

typedef struct dg_meta dg_op_meta;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(dg_op_meta, dg_meta_unref)

/* S3's own bounds. */
#define DG_OP_MAX_PAGE  1000u
#define DG_OP_MAX_PARTS 10000u

#define DG_OP_REGION    "us-east-1"

/* ---- Reading the request [any] ---------------------------------------------- */

/* The trimmed value of a header, absent if missing. name in lower case. An x-amz-
 * header of a presigned request may stand in its query. */
struct dg_slice dg_op_header(const struct dg_exchange *x, const char *name);
/* A decoded query parameter; absent if missing, empty without a value. */
struct dg_slice dg_op_query(const struct dg_exchange *x, const char *name);
bool dg_op_has_query(const struct dg_exchange *x, const char *name);
/* A number in min..max from the query, dflt if missing or empty.
 * DG_E_INVALID_ARGUMENT otherwise. */
int dg_op_query_uint(const struct dg_exchange *x, const char *name, uint64_t min, uint64_t max,
                     uint64_t dflt, uint64_t *ret_number, struct dg_error *err);

/* encoding-type: DG_E_INVALID_ARGUMENT for anything but url. */
int dg_op_encoding(const struct dg_exchange *x, bool *ret_url_encode, struct dg_error *err);
/* The collected body; empty if there was none. */
struct dg_slice dg_op_collected(const struct dg_exchange *x);
/* text, absent if it is empty. */
static inline struct dg_slice dg_op_text(const char *text)
{
  return *text ? dg_slice_str(text) : DG_SLICE_NONE;
}
/* versionId: only the null version exists. DG_E_INVALID_ARGUMENT. */
int dg_op_refuse_version(struct dg_slice version, struct dg_error *err);

/* partNumber, 1..10000, beside an uploadId. DG_E_INVALID_ARGUMENT. */
int dg_op_part_number(const struct dg_exchange *x, uint64_t *ret_part_no, struct dg_error *err);
/* x-amz-checksum-algorithm; DG_SUM_NONE without it. DG_E_INVALID_REQUEST. */
int dg_op_checksum_wanted(const struct dg_exchange *x, uint32_t *ret_kind, struct dg_error *err);

/* ---- Metadata between headers and objects ----------------------------------- */

/* Adds one request header to an object's metadata, if it is one that objects
 * keep: content headers and x-amz-meta-*. Others are passed over. */
int dg_op_meta_add(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                   struct dg_error *err);
/* Everything the head says. *ret_meta is transferred (unref). */
int dg_op_meta_from_head(const struct dg_exchange *x, struct dg_meta **ret_meta,
                         struct dg_error *err);
/* S3 counts names and values of user metadata: DG_E_METADATA_TOO_LARGE. */
int dg_op_meta_check(const struct dg_meta *meta, struct dg_error *err);
/* Refuses headers that promise what this server does not do (encryption, ACLs
 * but private, tags, locks): ignoring them would break the promise silently. */
int dg_op_refuse_unkept(const struct dg_exchange *x, struct dg_error *err);

/* ETag, Last-Modified, content headers, x-amz-meta-*, debug headers. On a GET,
 * response-* parameters win. */
void dg_op_object_headers(struct dg_exchange *x, const struct dg_object_info *info);
/* The object's metadata as items of a listing with metadata=true: content-type,
 * client pairs as x-amz-meta-user-NAME, and in debug mode the system's own.
 * items: struct dg_pair; names: owns what they point to beyond meta. Both are
 * appended to. */
void dg_op_list_items(const struct dg_exchange *x, const struct dg_meta *meta, GArray *items,
                      GStringChunk *names);
/* ETag and Last-Modified alone. */
void dg_op_validator_headers(struct dg_exchange *x, const struct dg_object_info *info);
/* In debug mode: x-amz-storage-type, x-deltaglider-stored-size. */
void dg_op_stored_headers(struct dg_exchange *x, uint32_t variant, uint64_t stored_bytes);
/* response-* values that could end a header line: DG_E_INVALID_ARGUMENT. */
int dg_op_check_overrides(const struct dg_exchange *x, struct dg_error *err);
/* x-amz-checksum-* and its type, when the request asks for them. */
void dg_op_checksum_headers(struct dg_exchange *x, const struct dg_object_info *info);
/* The header of one checksum, if there is one. */
void dg_op_checksum_header(struct dg_exchange *x, uint32_t kind, const char *base64);

/* ---- Checksums -------------------------------------------------------------- */

/* Made of the parts' checksums: such a value ends in -N. */
bool dg_op_sum_composite(struct dg_slice base64);

/* What the payload promised, for a commit: Content-MD5, x-amz-content-sha256,
 * x-amz-checksum-*. Slices point into x. */
int dg_op_expect(const struct dg_exchange *x, struct dg_put_expect *ret_expect,
                 struct dg_error *err);

/* ---- Listings ---------------------------------------------------------------- */

/* As dg_engine_list(), but of the keys below the given prefixes only; pages are
 * full all the same. prefixes: NULL-terminated, each ending with '/' or empty.
 * [worker] */
int dg_op_list_shown(const struct dg_exchange *x, char *const *prefixes,
                     const struct dg_listing_request *request,
                     int (*row)(void *receiver, const struct dg_listing_row *row), void *receiver,
                     bool *ret_truncated, struct dg_error *err);

/* ---- Conditions ------------------------------------------------------------- */

/* A read's conditions on an object: see dg_conditions_check_read(). */
int dg_op_check_read(const struct dg_exchange *x, const struct dg_object_info *info,
                     struct dg_error *err);
/* A copy's conditions on its source; receiver is the exchange. */
int dg_op_check_copy_source(void *receiver, const struct dg_object_info *info,
                            struct dg_error *err);
/* The function that decides a write's If-Match and If-None-Match, to be called
 * with the exchange as its receiver; NULL when there are none.
 * DG_E_NOT_IMPLEMENTED for forms that S3 does not have. */
int dg_op_write_check(const struct dg_exchange *x, dg_write_check_fn *ret_check,
                      struct dg_error *err);

/* ---- The handlers ----------------------------------------------------------- */

extern const struct dg_handler dg_op_list_buckets, dg_op_create_bucket, dg_op_delete_bucket,
    dg_op_head_bucket, dg_op_bucket_location;
extern const struct dg_handler dg_op_get_object, dg_op_head_object, dg_op_object_attributes;
extern const struct dg_handler dg_op_put_object;
extern const struct dg_handler dg_op_copy_object, dg_op_upload_part_copy;
extern const struct dg_handler dg_op_delete_object, dg_op_delete_objects,
    dg_op_delete_prefix;
extern const struct dg_handler dg_op_list_objects, dg_op_list_objects_v2;
extern const struct dg_handler dg_op_create_upload, dg_op_upload_part, dg_op_complete_upload,
    dg_op_abort_upload, dg_op_list_parts, dg_op_list_uploads;
extern const struct dg_handler dg_op_post_object;
extern const struct dg_handler dg_op_bucket_acl, dg_op_object_acl, dg_op_bucket_versioning,
    dg_op_object_tagging, dg_op_not_implemented, dg_op_head_root, dg_op_options;
extern const struct dg_handler dg_op_health, dg_op_ready, dg_op_stats, dg_op_metrics;

#endif
