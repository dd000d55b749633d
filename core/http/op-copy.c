/* SPDX-License-Identifier: Apache-2.0 */
/* CopyObject and UploadPartCopy. */
#include "config.h"

#include "core/http/op.h"

#include "core/plug/stream.h"
#include "core/s3/answers.h"
#include "core/s3/range.h"

#include "common/banned.h"

struct source {
  char *memory;
  struct dg_slice bucket, key;
};

static int source_read(const struct dg_exchange *x, struct source *ret_source, struct dg_error *err)
{
  struct dg_slice version = DG_SLICE_NONE;
  struct source source = {0};

  if (dg_copy_source_parse(dg_op_header(x, "x-amz-copy-source"), &source.memory, &source.bucket,
                           &source.key, &version, err) < 0)
    return -1;
  if (dg_op_refuse_version(version, err) < 0) {
    g_free(source.memory);
    return -1;
  }
  *ret_source = source;
  return 0;
}

/* ---- CopyObject ------------------------------------------------------------------- */

/* x-amz-metadata-directive and its like: COPY (default) or REPLACE. */
static int directive(const struct dg_exchange *x, const char *name, bool *ret_replace,
                     struct dg_error *err)
{
  struct dg_slice value = dg_op_header(x, name);

  if (!value.len || dg_slice_equal_str(value, "COPY"))
    *ret_replace = false;
  else if (dg_slice_equal_str(value, "REPLACE"))
    *ret_replace = true;
  else
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "%s: must be COPY or REPLACE", name);
  return 0;
}

/* Copying an object onto itself without changing anything is a mistake that S3
 * reports; aws s3 and others rely on REPLACE passing. */
static int refuse_pointless(const struct dg_exchange *x, const struct source *source, bool replace,
                            struct dg_error *err)
{
  if (replace || !dg_slice_equal(source->bucket, x->target.bucket) ||
      !dg_slice_equal(source->key, x->target.key) || dg_op_header(x, "x-amz-storage-class").len ||
      dg_op_header(x, "x-amz-checksum-algorithm").len)
    return 0;
  return dg_fail(err, DG_E_INVALID_REQUEST,
                 "This copy request is illegal because it is trying to copy an object to itself "
                 "without changing the object's metadata, storage class, website redirect "
                 "location or encryption attributes.");
}

static int copy_to_target(struct dg_exchange *x, const struct source *source, struct dg_error *err)
{
  struct dg_copy_request request = {
      .source_bucket = source->bucket,
      .source_key = source->key,
      .bucket = x->target.bucket,
      .key = x->target.key,
      .source_check = dg_op_check_copy_source,
      .receiver = x,
  };
  struct dg_put_result result = {0};
  g_autoptr(dg_op_meta) meta = NULL;
  int64_t modified_s = 0;
  bool replace_tags;
  GString *out;

  if (dg_op_refuse_unkept(x, err) < 0 || dg_op_write_check(x, &request.check, err) < 0 ||
      directive(x, "x-amz-metadata-directive", &request.replace_metadata, err) < 0 ||
      directive(x, "x-amz-tagging-directive", &replace_tags, err) < 0 ||
      dg_op_checksum_wanted(x, &request.checksum_kind, err) < 0 ||
      refuse_pointless(x, source, request.replace_metadata, err) < 0 ||
      dg_op_meta_from_head(x, &meta, err) < 0)
    return -1;
  request.meta = meta;
  if (dg_engine_copy(x->server->engine, &x->call, &request, &result, &modified_s, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_copied(out, /* part= */ false, dg_slice_str(result.etag), modified_s,
                   result.checksum_kind, dg_op_text(result.checksum_base64));
  dg_op_stored_headers(x, result.variant, result.stored_bytes);
  dg_respond_xml(x, 200, out);
  return 0;
}

static int copy_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct source source;
  int result;

  if (source_read(x, &source, err) < 0)
    return -1;
  result = copy_to_target(x, &source, err);
  g_free(source.memory);
  return result;
}

const struct dg_handler dg_op_copy_object = {
    .operation = "put_object",
    .body_mode = DG_BODY_NONE,
    .finish = copy_finish,
    .slow = DG_SLOW_XML,
};

/* ---- UploadPartCopy ----------------------------------------------------------------- */

/* Conditions first; then the range, if one was asked for. */
static int resolve_part(void *receiver, const struct dg_object_info *info, struct dg_range *range,
                        struct dg_error *err)
{
  struct dg_exchange *x = receiver;
  struct dg_slice wanted = dg_op_header(x, "x-amz-copy-source-range");

  if (dg_op_check_copy_source(x, info, err) < 0)
    return -1;
  return wanted.len ? dg_copy_range_parse(wanted, info->size_bytes, range, err) : 0;
}

static int write_part(void *part, const void *data, size_t len, struct dg_error *err)
{
  return dg_part_write(part, data, len, err);
}

static int copy_part(struct dg_exchange *x, const struct source *source, uint32_t part_no,
                     struct dg_part_result *ret_result, struct dg_error *err)
{
  struct dg_get_request request = {
      .bucket = source->bucket, .key = source->key, .resolve = resolve_part, .receiver = x};
  struct dg_put_expect expect = {0};
  struct dg_object_info info = {0};
  struct dg_part_put *part = NULL;
  struct dg_reader *reader = NULL;
  struct dg_range range = {0, 0};
  int result = -1;

  if (dg_engine_get(x->server->engine, &x->call, &request, &info, &range, &reader, err) < 0)
    return -1;
  dg_object_info_clear(&info);
  if (dg_engine_part_open(x->server->engine, &x->call, x->target.bucket, x->target.key,
                          dg_op_query(x, "uploadId"), part_no, range.length, DG_SUM_NONE, &part,
                          err) == 0) {
    if (dg_reader_drain(reader, &x->call, write_part, part, err) < 0)
      dg_part_abort(part);
    else
      result = dg_part_commit(part, &expect, ret_result, err);
  }
  dg_reader_close(reader);
  return result;
}

static int part_copy_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_part_result part = {0};
  struct source source;
  uint64_t part_no;
  GString *out;
  int copied;

  if (dg_op_part_number(x, &part_no, err) < 0 || source_read(x, &source, err) < 0)
    return -1;
  copied = copy_part(x, &source, (uint32_t)part_no, &part, err);
  g_free(source.memory);
  if (copied < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_copied(out, /* part= */ true, dg_slice_str(part.etag), part.last_modified_s,
                   part.checksum_kind, dg_op_text(part.checksum_base64));
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_upload_part_copy = {
    .operation = "put_object",
    .body_mode = DG_BODY_NONE,
    .finish = part_copy_finish,
    .slow = DG_SLOW_XML,
};
