/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/copy.h"
#include "core/engine/put.h"

#include "common/banned.h"

struct native_copy {
  const struct dg_copy_request *request;
  struct dg_route source;
  struct dg_found found; /* the source's */
  bool by_content; /* the target may be a delta: the source's first bytes tell */
  int64_t created_at_s;
};

static int decline(struct dg_error *err, const char *why)
{
  return dg_fail(err, DG_E_UNSUPPORTED, "%s", why);
}

/* A copy that keeps the source's bytes and digests must not need others. */
static int check_checksum(const struct native_copy *copy, struct dg_error *err)
{
  struct dg_object_info info;
  struct dg_slice text;
  uint32_t kind;

  dg_object_info_fill(&info, copy->found.meta);
  text = dg_object_checksum(&info, &kind);
  dg_object_info_clear(&info);
  if (copy->request->checksum_kind != DG_SUM_NONE && copy->request->checksum_kind != kind)
    return decline(err, "another checksum is wanted");
  /* That of a whole object, where the source had one of its parts. */
  if (text.len && memchr(text.data, '-', text.len))
    return decline(err, "the checksum has to be computed");
  return 0;
}

static int check_source(const struct native_copy *copy, struct dg_error *err)
{
  const struct dg_meta *meta = copy->found.meta;

  if (!meta || copy->found.hidden || meta->variant != DG_VARIANT_PASSTHROUGH ||
      (meta->flags & DG_META_CORRUPT))
    return decline(err, "the source is not stored as it is");
  if (meta->validator.len == 0)
    return decline(err, "the source has no validator");
  if (meta->stored_size != meta->file_size)
    return decline(err, "the source has not the size it should have");
  if (meta->flags & DG_META_UNMANAGED)
    return meta->flags & DG_META_PLAIN ? 0 : decline(err, "the source is not ours");
  if (meta->md5.len != 32 || meta->file_sha256.len != 64)
    return decline(err, "the source's digests have to be computed");
  return check_checksum(copy, err);
}

static int check_condition(const struct native_copy *copy, struct dg_error *err)
{
  const struct dg_copy_request *request = copy->request;
  struct dg_object_info info;
  int rc;

  if (!request->source_check)
    return 0;
  dg_object_info_fill(&info, copy->found.meta);
  rc = request->source_check(request->receiver, &info, err);
  dg_object_info_clear(&info);
  return rc;
}

static int set(struct dg_meta *meta, uint32_t field, struct dg_slice value, struct dg_error *err)
{
  return value.len ? dg_meta_set(meta, field, value, err) : 0;
}

/* What a copy of these bytes is stored with; NULL on failure. */
static struct dg_meta *build_meta(const struct native_copy *copy, struct dg_error *err)
{
  const struct dg_copy_request *request = copy->request;
  const struct dg_meta *source = copy->found.meta;
  struct dg_meta *inherited = request->replace_metadata ? NULL : dg_copy_inherited(source);
  const struct dg_meta *client = inherited ? inherited : request->meta;
  struct dg_meta *meta = dg_meta_new();
  struct dg_object_info info;
  struct dg_slice checksum;
  uint32_t kind;
  int rc = 0;

  dg_object_info_fill(&info, copy->found.meta);
  checksum = dg_object_checksum(&info, &kind);
  meta->variant = DG_VARIANT_PASSTHROUGH;
  meta->file_size = source->file_size;
  meta->stored_size = source->stored_size;
  meta->flags = source->flags;
  if (client)
    rc = set(meta, DG_FIELD_CONTENT_TYPE, client->content_type, err) < 0
           ? -1
           : dg_put_add_client_pairs(meta, client, err);
  if (rc == 0 && !(source->flags & DG_META_UNMANAGED) &&
      (set(meta, DG_FIELD_TOOL, DG_SLICE(DG_PUT_TOOL), err) < 0 ||
       set(meta, DG_FIELD_ORIGINAL_NAME, dg_key_basename(request->key), err) < 0 ||
       set(meta, DG_FIELD_FILE_SHA256, source->file_sha256, err) < 0 ||
       set(meta, DG_FIELD_MD5, source->md5, err) < 0 ||
       (checksum.len && dg_meta_add_extension(meta, dg_slice_str(dg_checksum_extension(kind)),
                                              checksum, err) < 0)))
    rc = -1;
  dg_object_info_clear(&info);
  dg_meta_unref(inherited);
  if (rc == 0)
    return meta;
  dg_meta_unref(meta);
  return NULL;
}

static int store_copy(void *receiver, struct dg_put *put, struct dg_meta *meta,
                      struct dg_put_result *result, struct dg_error *err)
{
  struct native_copy *copy = receiver;
  struct dg_item from =
    dg_route_item(&copy->source, copy->request->source_key, DG_VARIANT_PASSTHROUGH);
  struct dg_item to = dg_route_item(&put->route, put->key, DG_VARIANT_PASSTHROUGH);

  /* A reload between the two may have moved either. */
  if (put->route.backend != copy->source.backend)
    return decline(err, "the target lies elsewhere by now");
  if (dg_backend_copy(put->route.backend, put->call, &from, copy->found.meta->validator, &to, meta,
                      err) < 0) {
    /* The source is another one by now: it is read from the beginning. */
    return err->code == DG_E_PRECONDITION_FAILED || err->code == DG_E_NO_SUCH_KEY
             ? decline(err, "the source changed while it was copied")
             : -1;
  }
  if (meta->flags & DG_META_UNMANAGED) { /* its ETag and date are the storage's */
    dg_meta_clear(meta);
    if (dg_backend_head(put->route.backend, put->call, &to, meta, err) < 0)
      return -1;
  }
  copy->created_at_s = meta->created_at_s;
  result->variant = DG_VARIANT_PASSTHROUGH;
  result->stored_bytes = meta->stored_size;
  return 0;
}

/* The target's side: may the same bytes be what would be stored there? */
static int check_target(struct dg_engine *engine, const struct dg_call *call,
                        struct native_copy *copy, struct dg_error *err)
{
  const struct dg_copy_request *request = copy->request;
  enum dg_delta_chance chance;
  struct dg_route target;
  int rc = 0;

  if (dg_route_open(engine, call, request->bucket, &target, err) < 0)
    return -1;
  chance = dg_put_delta_chance(&target, request->key, DG_TO_END, /* from_parts= */ false);
  copy->by_content = chance == DG_DELTA_BY_CONTENT;
  if (target.backend != copy->source.backend)
    rc = decline(err, "source and target lie on different storage");
  else if (chance == DG_DELTA_TRIED)
    rc = decline(err, "the target may be a delta");
  else if (strcmp(target.bucket, copy->source.bucket) == 0 &&
           dg_slice_equal(request->key, request->source_key))
    rc = decline(err, "source and target are one");
  dg_route_clear(&target);
  return rc;
}

/* Should the source change meanwhile, the copy notices that by its validator. */
static int check_content(const struct dg_call *call, const struct native_copy *copy,
                         struct dg_error *err)
{
  struct dg_item item =
    dg_route_item(&copy->source, copy->request->source_key, DG_VARIANT_PASSTHROUGH);
  struct dg_range range = {0, MIN(copy->found.meta->file_size, DG_SNIFF_BYTES)};
  struct dg_meta *meta;
  struct dg_reader *reader;
  char head[DG_SNIFF_BYTES];
  size_t len = 0, got = 1;
  int rc;

  if (!copy->by_content || range.length == 0)
    return 0;
  meta = dg_meta_new();
  rc = dg_backend_get(copy->source.backend, call, &item, range, meta, &reader, err);
  dg_meta_unref(meta);
  if (rc < 0)
    return err->code == DG_E_NO_SUCH_KEY || err->code == DG_E_INVALID_RANGE
             ? decline(err, "the source changed while it was looked at")
             : -1;
  while (rc == 0 && got > 0 && len < range.length) {
    rc = dg_reader_read(reader, head + len, (size_t)range.length - len, &got, err);
    len += rc == 0 ? got : 0;
  }
  dg_reader_close(reader);
  if (rc == 0 && dg_sniff_suits_delta(head, len))
    rc = decline(err, "the target may be a delta, by its content");
  return rc;
}

static int copy_found(struct dg_engine *engine, const struct dg_call *call,
                      struct native_copy *copy, struct dg_put_result *ret_result,
                      struct dg_error *err)
{
  const struct dg_copy_request *request = copy->request;
  struct dg_put_request put_request = {.bucket = request->bucket,
                                       .key = request->key,
                                       .size_bytes = copy->found.meta->file_size,
                                       .check = request->check,
                                       .receiver = request->receiver};
  struct dg_put_ready ready = {.store = store_copy, .receiver = copy};
  int rc;

  if (check_condition(copy, err) < 0)
    return -1;
  ready.meta = build_meta(copy, err);
  if (!ready.meta)
    return -1;
  rc = dg_engine_put_ready(engine, call, &put_request, &ready, ret_result, err);
  dg_meta_unref(ready.meta);
  return rc;
}

int dg_copy_natively(struct dg_engine *engine, const struct dg_call *call,
                     const struct dg_copy_request *request, struct dg_put_result *ret_result,
                     int64_t *ret_last_modified_s, struct dg_error *err)
{
  struct native_copy copy = {.request = request};
  int rc;

  if (dg_route_open(engine, call, request->source_bucket, &copy.source, err) < 0)
    return -1;
  if (!dg_backend_has(copy.source.backend, DG_CAP_NATIVE_COPY | DG_CAP_VALIDATOR))
    rc = decline(err, "the storage copies nothing by itself");
  else
    rc = check_target(engine, call, &copy, err);
  if (rc == 0)
    rc = dg_object_find(&copy.source, call, request->source_key, &copy.found, err);
  if (rc == 0)
    rc = check_source(&copy, err);
  if (rc == 0)
    rc = check_content(call, &copy, err);
  if (rc == 0)
    rc = copy_found(engine, call, &copy, ret_result, err);
  if (rc == 0)
    *ret_last_modified_s = copy.created_at_s;
  dg_found_clear(&copy.found);
  dg_route_clear(&copy.source);
  return rc;
}
