/* SPDX-License-Identifier: Apache-2.0 */
/* CopyObject: decoded here, put there, through the whole pipeline, unless the storage can
 * copy the very bytes. */
#include "config.h"

#include "core/engine/copy.h"

#include "core/engine/put.h"
#include "core/engine/space.h"

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

/* What the copy inherits: content type, user metadata, headers; its checksum is
 * computed anew, its ETag becomes that of a plain object. */
struct dg_meta *dg_copy_inherited(const struct dg_meta *source)
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
        !dg_slice_equal_str(name, "dgx1-sha256") && !dg_slice_equal_str(name, DG_EXTENSION_PART_SIZES))
      (void)dg_meta_add_extension(meta, name, source->extensions[i].value, &err);
  }
  return meta;
}

/* ---- Onto itself: metadata alone ----------------------------------------------- */

static int replace_fields(struct dg_meta *meta, const struct dg_meta *client, struct dg_error *err)
{
  if (client && client->content_type.len &&
      dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, client->content_type, err) < 0)
    return -1;
  return client ? dg_put_add_client_pairs(meta, client, err) : 0;
}

/* The stored item's metadata with the client's part exchanged. */
static struct dg_meta *replaced(const struct dg_meta *old, const struct dg_meta *client,
                                struct dg_error *err)
{
  static const char *const kept[] = {"dgx1-sha256", DG_EXTENSION_PART_SIZES, "checksum-crc32",
                                     "checksum-crc32c", "checksum-crc64nvme", "checksum-sha1",
                                     "checksum-sha256"};
  struct dg_meta *bare = dg_meta_copy(old);
  struct dg_meta *meta;

  bare->user_count = 0;
  bare->extension_count = 0;
  bare->content_type.len = 0;
  meta = dg_meta_copy(bare);
  dg_meta_unref(bare);
  if (replace_fields(meta, client, err) < 0)
    goto fail;
  for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
    struct dg_slice value = dg_meta_extension(old, kept[i]);

    if (value.len && dg_meta_add_extension(meta, dg_slice_str(kept[i]), value, err) < 0)
      goto fail;
  }
  return meta;

fail:
  dg_meta_unref(meta);
  return NULL;
}

static int check_both(const struct dg_copy_request *request, const struct dg_meta *current,
                      struct dg_error *err)
{
  struct dg_object_info info;
  int rc = 0;

  dg_object_info_fill(&info, (struct dg_meta *)(uintptr_t)current);
  if (request->source_check)
    rc = request->source_check(request->receiver, &info, err);
  if (rc == 0 && request->check)
    rc = request->check(request->receiver, &info, err);
  dg_object_info_clear(&info);
  return rc;
}

static void fill_result(const struct dg_meta *meta, struct dg_put_result *result)
{
  struct dg_object_info info;
  struct dg_slice checksum;

  memset(result, 0, sizeof *result);
  dg_object_info_fill(&info, (struct dg_meta *)(uintptr_t)meta);
  (void)g_strlcpy(result->etag, info.etag, sizeof result->etag);
  checksum = dg_object_checksum(&info, &result->checksum_kind);
  (void)g_snprintf(result->checksum_base64, sizeof result->checksum_base64, "%.*s",
                   DG_SLICE_ARG(checksum));
  result->variant = meta->variant;
  result->size_bytes = info.size_bytes;
  result->stored_bytes = info.stored_bytes;
  dg_object_info_clear(&info);
}

static int update_locked(struct dg_engine *engine, const struct dg_call *call,
                         const struct dg_route *route, const struct dg_copy_request *request,
                         struct dg_put_result *ret_result, int64_t *ret_last_modified_s,
                         struct dg_error *err)
{
  struct dg_found found = {0};
  struct dg_meta *meta = NULL;
  struct dg_item item;
  int rc = -1;

  if (dg_object_find(route, call, request->key, &found, err) < 0)
    return -1;
  if (!found.meta) {
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "no object '%.*s'", DG_SLICE_ARG(request->key));
  } else if (found.hidden || (found.meta->flags & (DG_META_UNMANAGED | DG_META_CORRUPT))) {
    rc = dg_fail(err, DG_E_UNSUPPORTED, "the object has to be written anew");
  } else if (check_both(request, found.meta, err) == 0) {
    meta = replaced(found.meta, request->meta, err);
    if (meta) {
      dg_put_set_created(meta, &found);
      item = dg_route_item(route, request->key, meta->variant);
      dg_metacache_write_begin(engine->metacache, dg_slice_str(route->bucket), request->key);
      rc = dg_backend_set_meta(route->backend, call, &item, meta, err);
      dg_metacache_write_end(engine->metacache, dg_slice_str(route->bucket), request->key);
    }
  }
  if (rc == 0) {
    fill_result(meta, ret_result);
    *ret_last_modified_s = meta->created_at_s;
  }
  dg_meta_unref(meta);
  dg_found_clear(&found);
  return rc;
}

/* DG_E_UNSUPPORTED: the object has to be rewritten instead. */
static int update_metadata(struct dg_engine *engine, const struct dg_call *call,
                           const struct dg_copy_request *request, struct dg_put_result *ret_result,
                           int64_t *ret_last_modified_s, struct dg_error *err)
{
  struct dg_space *space = NULL;
  struct dg_route route;
  int rc;

  if (dg_route_open(engine, call, request->bucket, &route, err) < 0)
    return -1;
  rc = dg_space_enter_key(engine, call, &route, request->key, &space, err);
  if (rc == 0)
    rc = update_locked(engine, call, &route, request, ret_result, ret_last_modified_s, err);
  dg_space_leave(space);
  dg_route_clear(&route);
  return rc;
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

  if (request->replace_metadata && request->checksum_kind == DG_SUM_NONE &&
      dg_slice_equal(request->source_bucket, request->bucket) &&
      dg_slice_equal(request->source_key, request->key)) {
    rc = update_metadata(engine, call, request, ret_result, ret_last_modified_s, err);
    if (rc == 0 || err->code != DG_E_UNSUPPORTED)
      return rc;
  }
  rc = dg_copy_natively(engine, call, request, ret_result, ret_last_modified_s, err);
  if (rc == 0 || err->code != DG_E_UNSUPPORTED)
    return rc;
  if (dg_engine_get(engine, call, &get, &info, &range, &reader, err) < 0)
    return -1;
  meta = request->replace_metadata ? NULL : dg_copy_inherited(info.meta);
  put_request.meta = meta ? meta : request->meta;
  put_request.size_bytes = info.size_bytes;
  put_request.source = reader;
  (void)dg_object_checksum(&info, &kind);
  if (put_request.checksum_kind == DG_SUM_NONE)
    put_request.checksum_kind = kind;
  rc = dg_engine_put_open(engine, call, &put_request, &put, err);
  if (rc == 0)
    rc = dg_put_drain(put, reader, err);
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
