/* SPDX-License-Identifier: Apache-2.0 */
/* The multipart family but UploadPartCopy: create, upload a part, complete,
 * abort, and the two listings. */
#include "config.h"

#include "core/http/op.h"

#include "common/uri.h"
#include "core/s3/answers.h"
#include "core/s3/bodies.h"

#include "common/banned.h"

int dg_op_part_number(const struct dg_exchange *x, uint64_t *ret_part_no, struct dg_error *err)
{
  uint64_t part_no;

  if (dg_op_query_uint(x, "partNumber", 1, DG_OP_MAX_PARTS, 0, &part_no, err) < 0)
    return -1;
  if (part_no == 0 || !dg_op_query(x, "uploadId").len)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "partNumber and uploadId must both be given");
  *ret_part_no = part_no;
  return 0;
}

int dg_op_checksum_wanted(const struct dg_exchange *x, uint32_t *ret_kind, struct dg_error *err)
{
  struct dg_slice name = dg_op_header(x, "x-amz-checksum-algorithm");
  uint32_t kind = DG_SUM_NONE;

  if (name.len) {
    kind = dg_checksum_from_name(name);
    if (kind == DG_SUM_NONE || kind == DG_SUM_MD5)
      return dg_fail(err, DG_E_INVALID_REQUEST,
                     "x-amz-checksum-algorithm: must be CRC32, CRC32C, CRC64NVME, SHA1 or SHA256");
  }
  *ret_kind = kind;
  return 0;
}

/* x-amz-checksum-type: how the parts' checksums make the object's. */
static int checksum_type(const struct dg_exchange *x, struct dg_put_request *request,
                         struct dg_error *err)
{
  struct dg_slice type = dg_op_header(x, "x-amz-checksum-type");

  request->checksum_full_object =
      request->checksum_kind == DG_SUM_CRC64NVME || dg_slice_equal_str(type, "FULL_OBJECT");
  if (!type.len)
    return 0;
  if (request->checksum_kind == DG_SUM_NONE)
    return dg_fail(err, DG_E_INVALID_REQUEST,
                   "x-amz-checksum-type needs an x-amz-checksum-algorithm.");
  if (!request->checksum_full_object && !dg_slice_equal_str(type, "COMPOSITE"))
    return dg_fail(err, DG_E_INVALID_REQUEST,
                   "x-amz-checksum-type must be COMPOSITE or FULL_OBJECT.");
  if (request->checksum_kind == DG_SUM_CRC64NVME && dg_slice_equal_str(type, "COMPOSITE"))
    return dg_fail(err, DG_E_INVALID_REQUEST,
                   "The COMPOSITE checksum type cannot be used with CRC64NVME.");
  return 0;
}

/* ---- CreateMultipartUpload -------------------------------------------------------- */

static int create_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_put_request request = {
      .bucket = x->target.bucket, .key = x->target.key, .size_bytes = DG_TO_END};
  g_autoptr(dg_op_meta) meta = NULL;
  char id[33];
  GString *out;

  if (dg_op_refuse_unkept(x, err) < 0 ||
      dg_op_checksum_wanted(x, &request.checksum_kind, err) < 0 ||
      checksum_type(x, &request, err) < 0 || dg_op_meta_from_head(x, &meta, err) < 0)
    return -1;
  request.meta = meta;
  if (dg_engine_upload_create(x->server->engine, &x->call, &request, id, err) < 0)
    return -1;
  if (request.checksum_kind != DG_SUM_NONE) {
    dg_response_header(x, "x-amz-checksum-algorithm",
                       dg_slice_str(dg_checksum_name(request.checksum_kind)));
    dg_response_header(x, "x-amz-checksum-type",
                       dg_slice_str(request.checksum_full_object ? "FULL_OBJECT" : "COMPOSITE"));
  }
  out = g_string_new(NULL);
  dg_answer_upload_created(out, x->target.bucket, x->target.key, dg_slice_str(id));
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_create_upload = {
    .operation = "post_object",
    .body_mode = DG_BODY_NONE,
    .finish = create_finish,
};

/* ---- UploadPart --------------------------------------------------------------------- */

static int part_begin(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_put_expect expect;
  struct dg_part_put *part;
  uint64_t part_no;

  if (dg_op_part_number(x, &part_no, err) < 0 || dg_op_refuse_unkept(x, err) < 0 ||
      dg_op_expect(x, &expect, err) < 0 ||
      dg_engine_part_open(x->server->engine, &x->call, x->target.bucket, x->target.key,
                          dg_op_query(x, "uploadId"), (uint32_t)part_no, x->payload.decoded_length,
                          x->payload.checksum_kind, &part, err) < 0)
    return -1;
  x->op = part;
  return 0;
}

static int part_body(struct dg_exchange *x, const void *data, size_t len, struct dg_error *err)
{
  return dg_part_write(x->op, data, len, err);
}

static int part_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_part_put *part = g_steal_pointer(&x->op);
  struct dg_part_result result = {0};
  struct dg_put_expect expect;

  if (dg_op_expect(x, &expect, err) < 0) {
    dg_part_abort(part);
    return -1;
  }
  if (dg_part_commit(part, &expect, &result, err) < 0)
    return -1;
  dg_response_header(x, "ETag", dg_slice_str(result.etag));
  if (result.checksum_base64[0] && dg_checksum_header(result.checksum_kind))
    dg_response_header(x, dg_checksum_header(result.checksum_kind),
                       dg_slice_str(result.checksum_base64));
  dg_respond(x, 200, NULL, NULL);
  return 0;
}

static void part_release(struct dg_exchange *x)
{
  if (x->op)
    dg_part_abort(x->op);
  x->op = NULL;
}

const struct dg_handler dg_op_upload_part = {
    .operation = "put_object",
    .body_mode = DG_BODY_STREAM,
    .begin = part_begin,
    .body = part_body,
    .finish = part_finish,
    .release = part_release,
};

/* ---- CompleteMultipartUpload ---------------------------------------------------------- */

/* The whole object's checksum rides in a header of this request. */
static struct dg_slice object_checksum(const struct dg_exchange *x)
{
  for (uint32_t kind = DG_SUM_CRC32; kind <= DG_SUM_SHA256; kind++) {
    struct dg_slice value = dg_op_header(x, dg_checksum_header(kind));

    if (value.len)
      return value;
  }
  return DG_SLICE_NONE;
}

static char *location_of(const struct dg_exchange *x)
{
  const struct dg_target *target = &x->target;
  g_autoptr(GString) url = g_string_new(x->request.tls ? "https://" : "http://");

  dg_slice_append(url, dg_op_header(x, "host"));
  if (!target->virtual_host) {
    g_string_append_c(url, '/');
    dg_slice_append(url, target->bucket);
  }
  g_string_append_c(url, '/');
  dg_uri_encode(url, target->key, /* keep_slash= */ true);
  return g_string_free(g_steal_pointer(&url), FALSE);
}

static int complete(struct dg_exchange *x, const struct dg_complete_body *body,
                    struct dg_put_result *ret_result, struct dg_error *err)
{
  g_autofree struct dg_complete_part *parts = g_new0(struct dg_complete_part, body->parts->len);
  struct dg_complete_request request = {
      .bucket = x->target.bucket,
      .key = x->target.key,
      .upload_id = dg_op_query(x, "uploadId"),
      .parts = parts,
      .part_count = body->parts->len,
      .checksum_base64 = object_checksum(x),
      .receiver = x,
  };

  for (guint i = 0; i < body->parts->len; i++) {
    const struct dg_complete_entry *entry =
        &g_array_index(body->parts, struct dg_complete_entry, i);

    parts[i] = (struct dg_complete_part){.part_no = entry->part_no,
                                         .etag = dg_slice_str(entry->etag),
                                         .checksum_base64 = dg_op_text(entry->checksum_base64)};
  }
  if (dg_op_write_check(x, &request.check, err) < 0)
    return -1;
  return dg_engine_upload_complete(x->server->engine, &x->call, &request, ret_result, err);
}

static int complete_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_answer_completed answer = {.bucket = x->target.bucket, .key = x->target.key};
  struct dg_complete_body *body = NULL;
  g_autofree char *location = NULL;
  struct dg_put_result result = {0};
  GString *out;
  int completed;

  if (dg_complete_body_parse(dg_op_collected(x), &body, err) < 0)
    return -1;
  completed = complete(x, body, &result, err);
  dg_complete_body_free(body);
  if (completed < 0)
    return -1;
  location = location_of(x);
  answer.location = dg_slice_str(location);
  answer.etag = dg_slice_str(result.etag);
  answer.checksum_kind = result.checksum_kind;
  answer.checksum_base64 = dg_op_text(result.checksum_base64);
  answer.composite = dg_op_sum_composite(answer.checksum_base64);
  out = g_string_new(NULL);
  dg_answer_upload_completed(out, &answer);
  dg_op_stored_headers(x, result.variant, result.stored_bytes);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_complete_upload = {
    .operation = "post_object",
    .body_mode = DG_BODY_COLLECT,
    .collect_max = DG_COMPLETE_MAX_BODY,
    .finish = complete_finish,
    .slow = DG_SLOW_XML,
};

/* ---- AbortMultipartUpload ------------------------------------------------------------- */

static int abort_finish(struct dg_exchange *x, struct dg_error *err)
{
  if (dg_engine_upload_abort(x->server->engine, &x->call, x->target.bucket, x->target.key,
                             dg_op_query(x, "uploadId"), err) < 0)
    return -1;
  dg_respond(x, 204, NULL, NULL);
  return 0;
}

const struct dg_handler dg_op_abort_upload = {
    .operation = "delete_object",
    .body_mode = DG_BODY_NONE,
    .finish = abort_finish,
};

/* ---- ListParts -------------------------------------------------------------------------- */

struct part_page {
  struct dg_answer_parts answer;
  GString *rows;
};

static int part_row(void *receiver, const struct dg_part_row *row)
{
  struct part_page *page = receiver;
  struct dg_answer_part part = {
      .part_no = row->part_no,
      .checksum_kind = row->part->checksum_kind,
      .last_modified_s = row->part->last_modified_s,
      .etag = dg_slice_str(row->part->etag),
      .checksum_base64 = dg_op_text(row->part->checksum_base64),
      .size_bytes = row->part->size_bytes,
  };

  page->answer.next_part_marker = row->part_no;
  page->answer.checksum_kind = row->part->checksum_kind;
  dg_answer_part_row(page->rows, &part);
  return 0;
}

static int list_parts_finish(struct dg_exchange *x, struct dg_error *err)
{
  g_autoptr(GString) rows = g_string_new(NULL);
  struct part_page page = {.rows = rows};
  struct dg_answer_parts *answer = &page.answer;
  uint64_t marker, max_parts;
  GString *out;

  if (dg_op_query_uint(x, "part-number-marker", 0, INT32_MAX, 0, &marker, err) < 0 ||
      dg_op_query_uint(x, "max-parts", 0, INT32_MAX, DG_OP_MAX_PAGE, &max_parts, err) < 0 ||
      dg_op_encoding(x, &answer->encode_url, err) < 0)
    return -1;
  answer->bucket = x->target.bucket;
  answer->key = x->target.key;
  answer->upload_id = dg_op_query(x, "uploadId");
  answer->part_marker = (uint32_t)marker;
  answer->max_parts = (uint32_t)MIN(max_parts, DG_OP_MAX_PAGE);
  if (dg_engine_part_list(x->server->engine, &x->call, answer->bucket, answer->key,
                          answer->upload_id, answer->part_marker, answer->max_parts, part_row,
                          &page, &answer->truncated, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_parts(out, answer, rows);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_list_parts = {
    .operation = "get_object",
    .body_mode = DG_BODY_NONE,
    .finish = list_parts_finish,
};

/* ---- ListMultipartUploads ----------------------------------------------------------------- */

struct upload_page {
  struct dg_answer_uploads answer;
  GString *rows, *prefixes, *last_key, *last_id;
};

static int upload_row(void *receiver, const struct dg_upload_row *row)
{
  struct upload_page *page = receiver;

  g_string_truncate(page->last_key, 0);
  g_string_truncate(page->last_id, 0);
  dg_slice_append(page->last_key, row->key);
  if (row->is_prefix) {
    dg_answer_upload_prefix(page->prefixes, &page->answer, row->key);
    return 0;
  }
  dg_slice_append(page->last_id, row->upload_id);
  dg_answer_upload_row(page->rows, &page->answer, row->key, row->upload_id, row->initiated_s,
                       row->checksum_kind);
  return 0;
}

static int list_uploads_finish(struct dg_exchange *x, struct dg_error *err)
{
  g_autoptr(GString) rows = g_string_new(NULL);
  g_autoptr(GString) prefixes = g_string_new(NULL);
  g_autoptr(GString) last_key = g_string_new(NULL);
  g_autoptr(GString) last_id = g_string_new(NULL);
  struct upload_page page = {
      .rows = rows, .prefixes = prefixes, .last_key = last_key, .last_id = last_id};
  struct dg_answer_uploads *answer = &page.answer;
  uint64_t max_uploads;
  GString *out;

  if (dg_op_query_uint(x, "max-uploads", 0, INT32_MAX, DG_OP_MAX_PAGE, &max_uploads, err) < 0 ||
      dg_op_encoding(x, &answer->encode_url, err) < 0)
    return -1;
  answer->bucket = x->target.bucket;
  answer->prefix = dg_op_query(x, "prefix");
  answer->delimiter = dg_op_query(x, "delimiter");
  answer->key_marker = dg_op_query(x, "key-marker");
  /* Without a key marker the other one has no meaning. */
  if (answer->key_marker.len)
    answer->upload_id_marker = dg_op_query(x, "upload-id-marker");
  answer->max_uploads = (uint32_t)MIN(max_uploads, DG_OP_MAX_PAGE);
  if (dg_engine_upload_list(x->server->engine, &x->call, answer->bucket, answer->prefix,
                            answer->delimiter, answer->key_marker, answer->upload_id_marker,
                            answer->max_uploads, upload_row, &page, &answer->truncated, err) < 0)
    return -1;
  if (answer->truncated) {
    answer->next_key_marker = dg_slice_of(last_key->str, last_key->len);
    answer->next_upload_id_marker = dg_slice_of(last_id->str, last_id->len);
  }
  out = g_string_new(NULL);
  dg_answer_uploads(out, answer, rows, prefixes);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_list_uploads = {
    .operation = "list_objects",
    .body_mode = DG_BODY_NONE,
    .finish = list_uploads_finish,
};
