/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/answers.h"

#include "common/checksum.h"
#include "common/clock.h"
#include "common/slice.h"
#include "common/uri.h"
#include "common/xml.h"
#include "core/s3/errors.h"

#include "common/banned.h"

static void put_time(GString *out, const char *name, int64_t s)
{
  char text[DG_RFC3339_SIZE];

  (void)dg_time_format_rfc3339(text, s, 0, 3);
  dg_xml_text(out, name, dg_slice_str(text));
}

static void put_owner(GString *out, const char *element)
{
  dg_xml_begin(out, element);
  dg_xml_text(out, "ID", DG_SLICE(DG_OWNER_ID));
  dg_xml_text(out, "DisplayName", DG_SLICE(DG_OWNER_NAME));
  dg_xml_end(out, element);
}

/* A name as text, or under encoding-type=url encoded: then it survives XML
 * whatever bytes it holds. */
static void put_name(GString *out, const char *element, struct dg_slice name, bool encode_url)
{
  if (!encode_url) {
    dg_xml_text(out, element, name);
    return;
  }
  dg_xml_begin(out, element);
  dg_uri_encode(out, name, /* keep_slash= */ true);
  dg_xml_end(out, element);
}

static void put_optional(GString *out, const char *element, struct dg_slice text)
{
  if (dg_slice_present(text))
    dg_xml_text(out, element, text);
}

static void put_checksum(GString *out, uint32_t kind, struct dg_slice base64)
{
  const char *element = dg_checksum_element(kind);

  if (element && base64.len)
    dg_xml_text(out, element, base64);
}

static void append_rows(GString *out, const GString *rows)
{
  if (rows)
    g_string_append_len(out, rows->str, (gssize)rows->len);
}

/* ---- Buckets ---- */

void dg_answer_buckets_begin(GString *out)
{
  dg_xml_document(out, "ListAllMyBucketsResult");
  put_owner(out, "Owner");
  dg_xml_begin(out, "Buckets");
}

void dg_answer_buckets_row(GString *out, struct dg_slice name, int64_t created_at_s)
{
  dg_xml_begin(out, "Bucket");
  dg_xml_text(out, "Name", name);
  put_time(out, "CreationDate", created_at_s);
  dg_xml_end(out, "Bucket");
}

void dg_answer_buckets_end(GString *out, struct dg_slice prefix, struct dg_slice next_token)
{
  dg_xml_end(out, "Buckets");
  if (prefix.len)
    dg_xml_text(out, "Prefix", prefix);
  put_optional(out, "ContinuationToken", next_token);
  dg_xml_end(out, "ListAllMyBucketsResult");
}

void dg_answer_location(GString *out)
{
  dg_xml_document(out, "LocationConstraint");
  dg_xml_end(out, "LocationConstraint");
}

void dg_answer_versioning(GString *out)
{
  dg_xml_document(out, "VersioningConfiguration");
  dg_xml_end(out, "VersioningConfiguration");
}

void dg_answer_acl(GString *out)
{
  dg_xml_document(out, "AccessControlPolicy");
  put_owner(out, "Owner");
  g_string_append(out, "<AccessControlList><Grant><Grantee "
                       "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" "
                       "xsi:type=\"CanonicalUser\">");
  dg_xml_text(out, "ID", DG_SLICE(DG_OWNER_ID));
  dg_xml_text(out, "DisplayName", DG_SLICE(DG_OWNER_NAME));
  g_string_append(out, "</Grantee><Permission>FULL_CONTROL</Permission></Grant>"
                       "</AccessControlList></AccessControlPolicy>");
}

void dg_answer_tagging(GString *out)
{
  dg_xml_document(out, "Tagging");
  dg_xml_empty(out, "TagSet");
  dg_xml_end(out, "Tagging");
}

/* ---- Listings ---- */

/* An extension of DeltaGlider Proxy's: a page tells what would else be one HEAD
 * per object. */
static void put_user_metadata(GString *out, const struct dg_answer_object *object)
{
  dg_xml_begin(out, "UserMetadata");
  for (uint32_t i = 0; i < object->item_count; i++) {
    dg_xml_begin(out, "Items");
    dg_xml_text(out, "Key", object->items[i].name);
    dg_xml_text(out, "Value", object->items[i].value);
    dg_xml_end(out, "Items");
  }
  dg_xml_end(out, "UserMetadata");
}

void dg_answer_list_object(GString *contents, const struct dg_answer_list *list,
                           const struct dg_answer_object *object)
{
  dg_xml_begin(contents, "Contents");
  put_name(contents, "Key", object->key, list->encode_url);
  put_time(contents, "LastModified", object->last_modified_s);
  dg_xml_text(contents, "ETag", object->etag);
  if (dg_checksum_element(object->checksum_kind))
    dg_xml_text(contents, "ChecksumAlgorithm",
                dg_slice_str(dg_checksum_name(object->checksum_kind)));
  dg_xml_uint(contents, "Size", object->size_bytes);
  if (!list->v2 || list->fetch_owner)
    put_owner(contents, "Owner");
  g_string_append(contents, "<StorageClass>STANDARD</StorageClass>");
  if (list->metadata)
    put_user_metadata(contents, object);
  dg_xml_end(contents, "Contents");
}

void dg_answer_list_prefix(GString *prefixes, const struct dg_answer_list *list,
                           struct dg_slice prefix)
{
  dg_xml_begin(prefixes, "CommonPrefixes");
  put_name(prefixes, "Prefix", prefix, list->encode_url);
  dg_xml_end(prefixes, "CommonPrefixes");
}

static void put_list_position(GString *out, const struct dg_answer_list *list)
{
  if (!list->v2) {
    put_name(out, "Marker", list->marker, list->encode_url);
    if (dg_slice_present(list->next_marker))
      put_name(out, "NextMarker", list->next_marker, list->encode_url);
    return;
  }
  dg_xml_uint(out, "KeyCount", list->row_count);
  /* Tokens are opaque to clients and go back as they came: never encoded. */
  put_optional(out, "ContinuationToken", list->token);
  put_optional(out, "NextContinuationToken", list->next_token);
  if (dg_slice_present(list->start_after))
    put_name(out, "StartAfter", list->start_after, list->encode_url);
}

void dg_answer_list(GString *out, const struct dg_answer_list *list, const GString *contents,
                    const GString *prefixes)
{
  dg_xml_document(out, "ListBucketResult");
  dg_xml_text(out, "Name", list->bucket);
  put_name(out, "Prefix", list->prefix, list->encode_url);
  put_list_position(out, list);
  dg_xml_uint(out, "MaxKeys", list->max_keys);
  if (list->delimiter.len)
    put_name(out, "Delimiter", list->delimiter, list->encode_url);
  if (list->encode_url)
    dg_xml_text(out, "EncodingType", DG_SLICE("url"));
  dg_xml_bool(out, "IsTruncated", list->truncated);
  append_rows(out, contents);
  append_rows(out, prefixes);
  dg_xml_end(out, "ListBucketResult");
}

/* ---- Multipart ---- */

void dg_answer_upload_created(GString *out, struct dg_slice bucket, struct dg_slice key,
                              struct dg_slice upload_id)
{
  dg_xml_document(out, "InitiateMultipartUploadResult");
  dg_xml_text(out, "Bucket", bucket);
  dg_xml_text(out, "Key", key);
  dg_xml_text(out, "UploadId", upload_id);
  dg_xml_end(out, "InitiateMultipartUploadResult");
}

void dg_answer_upload_completed(GString *out, const struct dg_answer_completed *completed)
{
  dg_xml_document(out, "CompleteMultipartUploadResult");
  dg_xml_text(out, "Location", completed->location);
  dg_xml_text(out, "Bucket", completed->bucket);
  dg_xml_text(out, "Key", completed->key);
  dg_xml_text(out, "ETag", completed->etag);
  if (completed->checksum_base64.len && dg_checksum_element(completed->checksum_kind)) {
    put_checksum(out, completed->checksum_kind, completed->checksum_base64);
    dg_xml_text(out, "ChecksumType",
                dg_slice_str(completed->composite ? "COMPOSITE" : "FULL_OBJECT"));
  }
  dg_xml_end(out, "CompleteMultipartUploadResult");
}

void dg_answer_part_row(GString *rows, const struct dg_answer_part *part)
{
  dg_xml_begin(rows, "Part");
  dg_xml_uint(rows, "PartNumber", part->part_no);
  put_time(rows, "LastModified", part->last_modified_s);
  dg_xml_text(rows, "ETag", part->etag);
  dg_xml_uint(rows, "Size", part->size_bytes);
  put_checksum(rows, part->checksum_kind, part->checksum_base64);
  dg_xml_end(rows, "Part");
}

void dg_answer_parts(GString *out, const struct dg_answer_parts *parts, const GString *rows)
{
  dg_xml_document(out, "ListPartsResult");
  dg_xml_text(out, "Bucket", parts->bucket);
  put_name(out, "Key", parts->key, parts->encode_url);
  dg_xml_text(out, "UploadId", parts->upload_id);
  if (parts->encode_url)
    dg_xml_text(out, "EncodingType", DG_SLICE("url"));
  put_owner(out, "Initiator");
  put_owner(out, "Owner");
  g_string_append(out, "<StorageClass>STANDARD</StorageClass>");
  dg_xml_uint(out, "PartNumberMarker", parts->part_marker);
  if (parts->truncated)
    dg_xml_uint(out, "NextPartNumberMarker", parts->next_part_marker);
  dg_xml_uint(out, "MaxParts", parts->max_parts);
  dg_xml_bool(out, "IsTruncated", parts->truncated);
  if (dg_checksum_element(parts->checksum_kind))
    dg_xml_text(out, "ChecksumAlgorithm", dg_slice_str(dg_checksum_name(parts->checksum_kind)));
  append_rows(out, rows);
  dg_xml_end(out, "ListPartsResult");
}

void dg_answer_upload_row(GString *rows, const struct dg_answer_uploads *uploads,
                          struct dg_slice key, struct dg_slice upload_id, int64_t initiated_s,
                          uint32_t checksum_kind)
{
  dg_xml_begin(rows, "Upload");
  put_name(rows, "Key", key, uploads->encode_url);
  dg_xml_text(rows, "UploadId", upload_id);
  put_owner(rows, "Initiator");
  put_owner(rows, "Owner");
  g_string_append(rows, "<StorageClass>STANDARD</StorageClass>");
  put_time(rows, "Initiated", initiated_s);
  if (dg_checksum_element(checksum_kind))
    dg_xml_text(rows, "ChecksumAlgorithm", dg_slice_str(dg_checksum_name(checksum_kind)));
  dg_xml_end(rows, "Upload");
}

void dg_answer_upload_prefix(GString *prefixes, const struct dg_answer_uploads *uploads,
                             struct dg_slice prefix)
{
  dg_xml_begin(prefixes, "CommonPrefixes");
  put_name(prefixes, "Prefix", prefix, uploads->encode_url);
  dg_xml_end(prefixes, "CommonPrefixes");
}

void dg_answer_uploads(GString *out, const struct dg_answer_uploads *uploads, const GString *rows,
                       const GString *prefixes)
{
  dg_xml_document(out, "ListMultipartUploadsResult");
  dg_xml_text(out, "Bucket", uploads->bucket);
  put_name(out, "KeyMarker", uploads->key_marker, uploads->encode_url);
  dg_xml_text(out, "UploadIdMarker", uploads->upload_id_marker);
  if (uploads->truncated) {
    put_name(out, "NextKeyMarker", uploads->next_key_marker, uploads->encode_url);
    dg_xml_text(out, "NextUploadIdMarker", uploads->next_upload_id_marker);
  }
  put_name(out, "Prefix", uploads->prefix, uploads->encode_url);
  if (uploads->delimiter.len)
    put_name(out, "Delimiter", uploads->delimiter, uploads->encode_url);
  if (uploads->encode_url)
    dg_xml_text(out, "EncodingType", DG_SLICE("url"));
  dg_xml_uint(out, "MaxUploads", uploads->max_uploads);
  dg_xml_bool(out, "IsTruncated", uploads->truncated);
  append_rows(out, rows);
  append_rows(out, prefixes);
  dg_xml_end(out, "ListMultipartUploadsResult");
}

/* ---- Copy, delete, form ---- */

void dg_answer_copied(GString *out, bool part, struct dg_slice etag, int64_t last_modified_s,
                      uint32_t checksum_kind, struct dg_slice checksum_base64)
{
  const char *root = part ? "CopyPartResult" : "CopyObjectResult";

  dg_xml_document(out, root);
  put_time(out, "LastModified", last_modified_s);
  dg_xml_text(out, "ETag", etag);
  put_checksum(out, checksum_kind, checksum_base64);
  dg_xml_end(out, root);
}

void dg_answer_deleted_begin(GString *out)
{
  dg_xml_document(out, "DeleteResult");
}

void dg_answer_deleted_row(GString *out, struct dg_slice key)
{
  dg_xml_begin(out, "Deleted");
  dg_xml_text(out, "Key", key);
  dg_xml_end(out, "Deleted");
}

void dg_answer_deleted_error(GString *out, struct dg_slice key, const struct dg_error *err)
{
  dg_xml_begin(out, "Error");
  dg_xml_text(out, "Key", key);
  dg_xml_text(out, "Code", dg_slice_str(dg_s3_error(err->code)->code));
  dg_xml_text(out, "Message", dg_slice_str(dg_s3_error_message(err)));
  dg_xml_end(out, "Error");
}

void dg_answer_deleted_end(GString *out)
{
  dg_xml_end(out, "DeleteResult");
}

void dg_answer_post(GString *out, struct dg_slice location, struct dg_slice bucket,
                    struct dg_slice key, struct dg_slice etag)
{
  dg_xml_document(out, "PostResponse");
  dg_xml_text(out, "Location", location);
  dg_xml_text(out, "Bucket", bucket);
  dg_xml_text(out, "Key", key);
  dg_xml_text(out, "ETag", etag);
  dg_xml_end(out, "PostResponse");
}
