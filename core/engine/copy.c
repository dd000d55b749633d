/* SPDX-License-Identifier: Apache-2.0 */
/* CopyObject: decoded here, put there, through the whole pipeline. */
#include "config.h"

#include "core/engine/internal.h"

#include "core/engine/put.h"

#include "common/banned.h"

struct source_check {
  dg_read_check_fn check;
  void *receiver;
};

static int resolve_source(void *receiver, const struct dg_object_info *info, struct dg_range *range,
                          struct dg_error *err)
{
  const struct source_check *source = receiver;

  (void)range;
  return source->check ? source->check(source->receiver, info, err) : 0;
}

static int64_t created_s(struct dg_engine *engine, const struct dg_call *call,
                         const struct dg_copy_request *request)
{
  struct dg_object_info info;
  struct dg_error err;
  int64_t seconds = 0;

  if (dg_engine_head(engine, call, request->bucket, request->key, &info, &err) == 0) {
    seconds = info.last_modified_s;
    dg_object_info_clear(&info);
  }
  return seconds;
}

static int copy_bytes(struct dg_put *put, struct dg_reader *reader, struct dg_error *err)
{
  g_autofree char *buffer = g_malloc(DG_COPY_CHUNK);

  for (;;) {
    size_t len = 0;

    if (dg_call_check(put->call, err) < 0 ||
        dg_reader_read(reader, buffer, DG_COPY_CHUNK, &len, err) < 0)
      return -1;
    if (len == 0)
      return 0;
    if (dg_put_write(put, buffer, len, err) < 0)
      return -1;
  }
}

/* What the copy inherits: content type, user metadata, headers; its checksum is
 * computed anew, its ETag becomes that of a plain object. */
static struct dg_meta *inherited(const struct dg_meta *source)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err;

  /* What was stored once passes the same caps again. */
  if (source->content_type.len)
    (void)dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, source->content_type, &err);
  for (uint32_t i = 0; i < source->user_count; i++)
    (void)dg_meta_add_user(meta, source->user[i].name, source->user[i].value, &err);
  for (uint32_t i = 0; i < source->extension_count; i++) {
    struct dg_slice name = source->extensions[i].name;

    if (!dg_slice_starts_with(name, DG_SLICE("checksum-")) &&
        !dg_slice_equal_str(name, "dgx1-sha256") && !dg_slice_equal_str(name, "part-sizes"))
      (void)dg_meta_add_extension(meta, name, source->extensions[i].value, &err);
  }
  return meta;
}

int dg_engine_copy(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_copy_request *request, struct dg_put_result *ret_result,
                   int64_t *ret_last_modified_s, struct dg_error *err)
{
  struct source_check source = {request->source_check, request->receiver};
  struct dg_get_request get = {.bucket = request->source_bucket,
                               .key = request->source_key,
                               .resolve = resolve_source,
                               .receiver = &source};
  struct dg_put_request put_request = {.bucket = request->bucket,
                                       .key = request->key,
                                       .checksum_kind = request->checksum_kind,
                                       .check = request->check,
                                       .receiver = request->receiver};
  struct dg_object_info info;
  struct dg_meta *meta;
  struct dg_range range;
  struct dg_reader *reader;
  struct dg_put *put = NULL;
  uint32_t kind;
  int rc;

  if (dg_engine_get(engine, call, &get, &info, &range, &reader, err) < 0)
    return -1;
  meta = request->replace_metadata ? NULL : inherited(info.meta);
  put_request.meta = meta ? meta : request->meta;
  put_request.size_bytes = info.size_bytes;
  (void)dg_object_checksum(&info, &kind);
  if (put_request.checksum_kind == DG_SUM_NONE)
    put_request.checksum_kind = kind;
  rc = dg_engine_put_open(engine, call, &put_request, &put, err);
  if (rc == 0)
    rc = copy_bytes(put, reader, err);
  dg_reader_close(reader);
  if (rc == 0)
    rc = dg_put_commit(g_steal_pointer(&put), NULL, ret_result, err);
  dg_put_abort(put);
  dg_meta_unref(meta);
  dg_object_info_clear(&info);
  if (rc == 0)
    *ret_last_modified_s = created_s(engine, call, request);
  return rc;
}
