/* SPDX-License-Identifier: Apache-2.0 */
/* GetObject, HeadObject, GetObjectAttributes.
 *
 * A GET decides everything (conditions, range, part) on the metadata before a
 * byte is opened, in one function that serves three callers: the fast path on
 * the loop, the worker's GET through dg_engine_get(), and its HEAD. */
#include "config.h"

#include "core/http/op.h"

#include "common/clock.h"
#include "common/xml.h"
#include "core/s3/range.h"

#include "common/banned.h"

#define HEAD_ATTEMPTS 4

/* What a request asks of an object, decided on its metadata. */
struct selection {
  struct dg_exchange *x;
  uint16_t status; /* 200 or 206 */
  struct dg_range range;
  uint64_t size_bytes;
  bool part; /* by partNumber */
  bool on_loop;    /* nothing may be asked for */
  bool put_off;    /* something would have had to be: a worker is to decide */
  bool seen; /* info below is what the decision was made on */
  char etag[80];
  int64_t last_modified_s;
  struct dg_meta *meta; /* shared */
};

static void selection_clear(struct selection *s)
{
  dg_meta_unref(s->meta);
  s->meta = NULL;
}

/* If-Range: the range counts only while the object is still that one. */
static bool range_applies(const struct dg_exchange *x, const struct dg_object_info *info)
{
  struct dg_slice value = dg_op_header(x, "if-range");
  int64_t date_s;

  if (!value.len)
    return true;
  if (value.data[0] == '"')
    return dg_slice_equal_str(value, info->etag);
  return dg_time_parse_http(value, &date_s) && date_s == info->last_modified_s;
}

static int select_part(struct selection *s, const struct dg_object_info *info, struct dg_error *err)
{
  uint64_t part_no;

  if (dg_op_query_uint(s->x, "partNumber", 1, DG_OP_MAX_PARTS, 0, &part_no, err) < 0)
    return -1;
  if (dg_slice_present(dg_op_header(s->x, "range")))
    return dg_fail(err, DG_E_INVALID_REQUEST, "Range and partNumber exclude each other");
  if (s->on_loop && dg_object_part_range(info, (uint32_t)part_no, &s->range, err) < 0) {
    s->put_off = err->code == DG_E_NOT_IMPLEMENTED;
    return -1;
  }
  if (!s->on_loop &&
      dg_engine_part_range(s->x->server->engine, &s->x->call, s->x->target.bucket,
                           s->x->target.key, info, (uint32_t)part_no, &s->range, err) < 0)
    return -1;
  s->part = true;
  s->status = 206;
  return 0;
}

/* In the shape of dg_get_request.resolve: range comes in as the whole object. */
static int resolve(void *receiver, const struct dg_object_info *info, struct dg_range *range,
                   struct dg_error *err)
{
  struct selection *s = receiver;
  struct dg_slice header = dg_op_header(s->x, "range");

  selection_clear(s);
  s->seen = true;
  s->status = 200;
  s->part = false;
  s->size_bytes = info->size_bytes;
  s->range = (struct dg_range){0, info->size_bytes};
  s->last_modified_s = info->last_modified_s;
  memcpy(s->etag, info->etag, sizeof s->etag);
  s->meta = info->meta ? dg_meta_ref(info->meta) : NULL;
  if (dg_op_check_read(s->x, info, err) < 0)
    return -1;
  if (dg_op_has_query(s->x, "partNumber")) {
    if (select_part(s, info, err) < 0)
      return -1;
  } else if (header.len && range_applies(s->x, info)) {
    enum dg_range_answer found = dg_range_resolve(header, info->size_bytes, &s->range);

    if (found == DG_RANGE_UNSATISFIABLE)
      return dg_fail(err, DG_E_INVALID_RANGE, "range '%.*s' of %" G_GUINT64_FORMAT " bytes",
                     DG_SLICE_ARG(header), info->size_bytes);
    if (found == DG_RANGE_PART)
      s->status = 206;
  }
  *range = s->range;
  return 0;
}

static void content_range(struct dg_exchange *x, const struct dg_range *range, uint64_t size_bytes)
{
  char text[80];

  dg_content_range_format(text, range, size_bytes);
  dg_response_header(x, "Content-Range", dg_slice_str(text));
}

/* Headers of the answer, once info and selection are known. */
static void object_head(struct dg_exchange *x, const struct selection *s,
                        const struct dg_object_info *info)
{
  dg_op_object_headers(x, info);
  if (s->status == 206 && s->size_bytes > 0)
    content_range(x, &s->range, s->size_bytes);
  if (s->part && info->part_count)
    dg_response_headerf(x, "x-amz-mp-parts-count", "%u", info->part_count);
  /* The checksum is of the whole object: with a range clients would compare
   * it to the wrong bytes. */
  if (s->status == 200 || s->range.length == s->size_bytes)
    dg_op_checksum_headers(x, info);
}

/* Turns a decision against the request into the answer it deserves: 304 with
 * its validators, 416 with the size. -1: everything else, left to the caller. */
static int refuse(struct dg_exchange *x, const struct selection *s, const struct dg_error *err)
{
  struct dg_object_info info = {
      .meta = s->meta, .size_bytes = s->size_bytes, .last_modified_s = s->last_modified_s};

  if (!s->seen || (err->code != DG_E_INVALID_RANGE && err->code != DG_E_NOT_MODIFIED))
    return -1;
  dg_respond_error(x, err);
  if (err->code == DG_E_INVALID_RANGE) {
    content_range(x, NULL, s->size_bytes);
  } else {
    memcpy(info.etag, s->etag, sizeof info.etag);
    dg_op_validator_headers(x, &info);
  }
  return 0;
}

/* ---- GET ---------------------------------------------------------------------- */

/* What is wrong whatever the object is. */
static int refuse_request(const struct dg_exchange *x, struct dg_error *err)
{
  if (dg_op_refuse_version(dg_op_query(x, "versionId"), err) < 0)
    return -1;
  return dg_op_check_overrides(x, err);
}

/* GET and HEAD from memory, on the loop: conditions, ranges and all. Of the
 * answer to a HEAD the gate sends the head alone. */
static int cached_fast(struct dg_exchange *x)
{
  struct dg_object_info info = {0};
  struct selection s = {.x = x, .on_loop = true};
  struct dg_error err = {0};
  struct dg_range range;
  GBytes *body = NULL;

  if (refuse_request(x, &err) < 0 ||
      dg_engine_get_cached(x->server->engine, x->target.bucket, x->target.key, &info, &body) != 1)
    return 0;
  range = (struct dg_range){0, info.size_bytes};
  if (resolve(&s, &info, &range, &err) < 0) {
    if (!s.put_off && refuse(x, &s, &err) < 0)
      dg_respond_error(x, &err);
  } else {
    object_head(x, &s, &info);
    if (range.length != g_bytes_get_size(body)) {
      GBytes *slice = g_bytes_new_from_bytes(body, range.offset, range.length);

      g_bytes_unref(body);
      body = slice;
    }
    dg_respond(x, s.status, NULL, g_steal_pointer(&body));
  }
  if (body)
    g_bytes_unref(body);
  selection_clear(&s);
  dg_object_info_clear(&info);
  return !s.put_off;
}

static int get_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_object_info info = {0};
  struct selection s = {.x = x};
  struct dg_get_request request = {
      .bucket = x->target.bucket, .key = x->target.key, .resolve = resolve, .receiver = &s,
      .ret_deferred = x->may_defer ? &x->deferred : NULL};
  struct dg_range range = {0, 0};
  struct dg_reader *reader = NULL;
  int result = 0;

  if (refuse_request(x, err) < 0)
    return -1;
  if (dg_engine_get(x->server->engine, &x->call, &request, &info, &range, &reader, err) < 0) {
    result = refuse(x, &s, err);
  } else {
    object_head(x, &s, &info);
    dg_respond_reader(x, s.status, reader, range.length);
    dg_object_info_clear(&info);
  }
  selection_clear(&s);
  return result;
}

const struct dg_handler dg_op_get_object = {
    .operation = "get_object",
    .body_mode = DG_BODY_NONE,
    .fast = cached_fast,
    .finish = get_finish,
};

/* ---- HEAD --------------------------------------------------------------------- */

/* Where a part lies may be asked of an object that is another one by then: *ret_again. */
static int head_once(struct dg_exchange *x, bool *ret_again, struct dg_error *err)
{
  struct dg_object_info info = {0};
  struct selection s = {.x = x};
  struct dg_range range;
  int result = 0;

  *ret_again = false;
  if (dg_engine_head(x->server->engine, &x->call, x->target.bucket, x->target.key, &info, err) < 0)
    return -1;
  range = (struct dg_range){0, info.size_bytes};
  if (resolve(&s, &info, &range, err) < 0) {
    *ret_again = err->code == DG_E_NO_SUCH_KEY;
    result = refuse(x, &s, err);
  } else {
    object_head(x, &s, &info);
    dg_respond_reader(x, s.status, NULL, range.length);
  }
  selection_clear(&s);
  dg_object_info_clear(&info);
  return result;
}

static int head_finish(struct dg_exchange *x, struct dg_error *err)
{
  bool again = true;
  int result = -1;

  if (refuse_request(x, err) < 0)
    return -1;
  for (int attempt = 0; again && attempt < HEAD_ATTEMPTS; attempt++)
    result = head_once(x, &again, err);
  if (again)
    err->code = DG_E_UNAVAILABLE;
  return result;
}

const struct dg_handler dg_op_head_object = {
    .operation = "head_object",
    .body_mode = DG_BODY_NONE,
    .fast = cached_fast,
    .finish = head_finish,
};

/* ---- GetObjectAttributes -------------------------------------------------------- */

static bool wants(struct dg_slice list, const char *name)
{
  size_t from = 0;

  while (from <= list.len) {
    size_t comma = dg_slice_find(list, ',', from);
    size_t end = comma == SIZE_MAX ? list.len : comma;

    if (dg_slice_equal_str(dg_slice_trim(dg_slice_of(list.data + from, end - from)), name))
      return true;
    from = end + 1;
  }
  return false;
}

static int attributes_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_slice wanted = dg_op_header(x, "x-amz-object-attributes");
  struct dg_object_info info = {0};
  struct dg_slice sum, etag;
  uint32_t sum_kind;
  GString *out;

  if (!wanted.len)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "x-amz-object-attributes: name at least one");
  if (refuse_request(x, err) < 0 ||
      dg_engine_head(x->server->engine, &x->call, x->target.bucket, x->target.key, &info, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_xml_document(out, "GetObjectAttributesResponse");
  etag = dg_slice_str(info.etag);
  if (etag.len >= 2 && wants(wanted, "ETag")) /* here, and only here, without quotes */
    dg_xml_text(out, "ETag", dg_slice_of(etag.data + 1, etag.len - 2));
  sum = dg_object_checksum(&info, &sum_kind);
  if (sum_kind != DG_SUM_NONE && wants(wanted, "Checksum")) {
    dg_xml_begin(out, "Checksum");
    dg_xml_text(out, dg_checksum_element(sum_kind), sum);
    dg_xml_text(out, "ChecksumType",
                dg_slice_str(dg_op_sum_composite(sum) ? "COMPOSITE" : "FULL_OBJECT"));
    dg_xml_end(out, "Checksum");
  }
  if (info.part_count && wants(wanted, "ObjectParts")) {
    dg_xml_begin(out, "ObjectParts");
    dg_xml_uint(out, "PartsCount", info.part_count);
    dg_xml_end(out, "ObjectParts");
  }
  if (wants(wanted, "StorageClass"))
    dg_xml_text(out, "StorageClass", DG_SLICE("STANDARD"));
  if (wants(wanted, "ObjectSize"))
    dg_xml_uint(out, "ObjectSize", info.size_bytes);
  dg_xml_end(out, "GetObjectAttributesResponse");
  {
    char date[DG_HTTP_DATE_SIZE];

    dg_time_format_http(date, info.last_modified_s);
    dg_response_header(x, "Last-Modified", dg_slice_str(date));
  }
  dg_object_info_clear(&info);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_object_attributes = {
    .operation = "head_object",
    .body_mode = DG_BODY_NONE,
    .finish = attributes_finish,
};
