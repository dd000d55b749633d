/* SPDX-License-Identifier: Apache-2.0 */
/* The layer's operations but get(): metadata loses its marks on the way up and
 * gets them back on the way down; bodies are sealed on the way down. */
#include "config.h"

#include "core/engine/sealed.h"

#include "common/meta.h"
#include "common/slice.h"
#include "core/engine/sealed-internal.h"

#include "common/banned.h"

/* ---- Marks --------------------------------------------------------------------- */

static bool is_user_mark(struct dg_slice name)
{
  return dg_slice_equal_nocase(name, DG_SLICE(DG_MARK_ALGORITHM)) ||
         dg_slice_equal_nocase(name, DG_SLICE(DG_MARK_KEY_ID));
}

static bool is_extension_mark(struct dg_slice name)
{
  return dg_slice_starts_with(name, DG_SLICE(DG_MARK_PREFIX));
}

static bool has_any_mark(const struct dg_meta *meta)
{
  for (uint32_t i = 0; i < meta->user_count; i++)
    if (is_user_mark(meta->user[i].name))
      return true;
  for (uint32_t i = 0; i < meta->extension_count; i++)
    if (is_extension_mark(meta->extensions[i].name))
      return true;
  return false;
}

bool dg_sealed_is_marked(const struct dg_meta *meta)
{
  for (uint32_t i = 0; i < meta->user_count; i++)
    if (dg_slice_equal_nocase(meta->user[i].name, DG_SLICE(DG_MARK_ALGORITHM)))
      return true;
  return false;
}

void dg_sealed_settle(const struct dg_sealed *sealed, struct dg_meta *meta)
{
  uint64_t plain_size = DG_TO_END;

  if (sealed->crypt && dg_sealed_is_marked(meta) &&
      dg_crypt_sealed(sealed->crypt, meta, &plain_size) && plain_size != DG_TO_END) {
    if (meta->flags & DG_META_UNMANAGED)
      meta->file_size = plain_size;
    meta->stored_size = plain_size;
  }
  dg_meta_remove_user(meta, is_user_mark);
  dg_meta_remove_extensions(meta, is_extension_mark);
}

static int add_marks(struct dg_meta *meta, const struct dg_meta *from, struct dg_error *err)
{
  for (uint32_t i = 0; i < from->user_count; i++)
    if (is_user_mark(from->user[i].name) &&
        dg_meta_add_user(meta, from->user[i].name, from->user[i].value, err) < 0)
      return -1;
  for (uint32_t i = 0; i < from->extension_count; i++)
    if (is_extension_mark(from->extensions[i].name) &&
        dg_meta_add_extension(meta, from->extensions[i].name, from->extensions[i].value, err) < 0)
      return -1;
  return 0;
}

/* meta with the marks of `from`, and none of its own. NULL on failure. */
static struct dg_meta *with_marks(const struct dg_meta *meta, const struct dg_meta *from,
                                  struct dg_error *err)
{
  struct dg_meta *marked = dg_meta_copy(meta);

  dg_meta_remove_user(marked, is_user_mark);
  dg_meta_remove_extensions(marked, is_extension_mark);
  if (add_marks(marked, from, err) == 0)
    return marked;
  dg_meta_unref(marked);
  return NULL;
}

/* ---- Metadata --------------------------------------------------------------------- */

static int sealed_head(void *self, const struct dg_call *call, const struct dg_item *item,
                       struct dg_meta *meta, struct dg_error *err)
{
  struct dg_sealed *sealed = self;

  if (dg_backend_head(sealed->inner, call, item, meta, err) < 0)
    return -1;
  dg_sealed_settle(sealed, meta);
  return 0;
}

static int sealed_head_both(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_slice key, struct dg_meta *passthrough,
                            struct dg_meta *delta, uint32_t *ret_found, struct dg_error *err)
{
  struct dg_sealed *sealed = self;

  if (dg_backend_head_both(sealed->inner, call, bucket, key, passthrough, delta, ret_found, err) <
      0)
    return -1;
  if (*ret_found & DG_FOUND_PASSTHROUGH)
    dg_sealed_settle(sealed, passthrough);
  if (*ret_found & DG_FOUND_DELTA)
    dg_sealed_settle(sealed, delta);
  return 0;
}

struct listing {
  const struct dg_sealed *sealed;
  dg_list_row_fn row;
  void *receiver;
};

static int32_t settle_row(void *receiver, const struct dg_list_row *row)
{
  const struct listing *listing = receiver;
  struct dg_list_row settled = *row;
  struct dg_meta *meta;
  int32_t stop;

  if (!row->meta || !has_any_mark(row->meta))
    return listing->row(listing->receiver, row);
  meta = dg_meta_copy(row->meta);
  dg_sealed_settle(listing->sealed, meta);
  settled.meta = meta;
  stop = listing->row(listing->receiver, &settled);
  dg_meta_unref(meta);
  return stop;
}

static int sealed_list(void *self, const struct dg_call *call,
                       const struct dg_list_request *request, dg_list_row_fn row, void *receiver,
                       struct dg_error *err)
{
  struct dg_sealed *sealed = self;
  struct listing listing = {sealed, row, receiver};

  return dg_backend_list(sealed->inner, call, request, settle_row, &listing, err);
}

/* The body stays, so its marks do. */
static int sealed_set_meta(void *self, const struct dg_call *call, const struct dg_item *item,
                           const struct dg_meta *meta, struct dg_error *err)
{
  struct dg_sealed *sealed = self;
  struct dg_meta *now = dg_meta_new(), *marked = NULL;
  int rc = dg_backend_head(sealed->inner, call, item, now, err);

  if (rc == 0) {
    marked = with_marks(meta, now, err);
    rc = marked ? dg_backend_set_meta(sealed->inner, call, item, marked, err) : -1;
  }
  dg_meta_unref(marked);
  dg_meta_unref(now);
  return rc;
}

/* ---- Writing ------------------------------------------------------------------------ */

struct sealed_writer {
  struct dg_writer writer; /* first */
  struct dg_writer *plain; /* the crypt's */
  struct dg_meta *marks;
  uint32_t variant;
  uint64_t written;
};

static int writer_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct sealed_writer *self = (struct sealed_writer *)writer;

  if (dg_writer_write(self->plain, data, len, err) < 0)
    return -1;
  self->written += len;
  return 0;
}

static void writer_free(struct sealed_writer *self)
{
  dg_writer_abort(self->plain);
  dg_meta_unref(self->marks);
  g_free(self);
}

static int writer_commit(struct dg_writer *writer, const struct dg_item *item,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct sealed_writer *self = (struct sealed_writer *)writer;
  struct dg_meta *marked = NULL;
  int rc = -1;

  /* The form of the body may depend on the variant. */
  if (item->variant != self->variant)
    (void)dg_fail(err, DG_E_INTERNAL, "a body sealed as variant %u is committed as %u",
                  self->variant, item->variant);
  else
    marked = with_marks(meta, self->marks, err);
  if (marked) {
    rc = dg_writer_commit(g_steal_pointer(&self->plain), item, marked, ret_result, err);
    dg_meta_unref(marked);
  }
  if (rc == 0 && ret_result)
    ret_result->stored_size = self->written;
  writer_free(self);
  return rc;
}

static void writer_abort(struct dg_writer *writer)
{
  writer_free((struct sealed_writer *)writer);
}

static const struct dg_writer_ops writer_ops = {
  .struct_size = sizeof writer_ops,
  .write = writer_write,
  .commit = writer_commit,
  .abort = writer_abort,
};

static int sealed_put(void *self, const struct dg_call *call, const struct dg_item *item,
                      uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err)
{
  struct dg_sealed *sealed = self;
  struct dg_seal_params params = {
    .struct_size = sizeof params, .variant = item->variant, .plain_size = size_hint};
  struct dg_writer *inner, *plain;
  struct dg_meta *marks;
  struct sealed_writer *writer;
  uint64_t stored_size;

  if (!sealed->seals_writes)
    return dg_backend_put(sealed->inner, call, item, size_hint, ret_writer, err);
  stored_size = dg_crypt_sealed_size(sealed->crypt, item->variant, size_hint);
  if (stored_size == DG_TO_END && size_hint != DG_TO_END)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "%s seals no body of %" G_GUINT64_FORMAT " bytes",
                   dg_crypt_plugin_name(sealed->crypt), size_hint);
  if (dg_backend_put(sealed->inner, call, item, stored_size, &inner, err) < 0)
    return -1;
  marks = dg_meta_new();
  if (dg_crypt_seal(sealed->crypt, call, &params, inner, marks, &plain, err) < 0) {
    dg_writer_abort(inner);
    dg_meta_unref(marks);
    return -1;
  }
  writer = g_new0(struct sealed_writer, 1);
  writer->writer.ops = &writer_ops;
  writer->plain = plain;
  writer->marks = marks;
  writer->variant = item->variant;
  *ret_writer = &writer->writer;
  return 0;
}

/* ---- What passes through --------------------------------------------------------------- */

static int sealed_bucket_create(void *self, const struct dg_call *call, struct dg_slice bucket,
                                struct dg_error *err)
{
  return dg_backend_bucket_create(((struct dg_sealed *)self)->inner, call, bucket, err);
}

static int sealed_bucket_delete(void *self, const struct dg_call *call, struct dg_slice bucket,
                                struct dg_error *err)
{
  return dg_backend_bucket_delete(((struct dg_sealed *)self)->inner, call, bucket, err);
}

static int sealed_bucket_head(void *self, const struct dg_call *call, struct dg_slice bucket,
                              struct dg_error *err)
{
  return dg_backend_bucket_head(((struct dg_sealed *)self)->inner, call, bucket, err);
}

static int sealed_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                              void *receiver, struct dg_error *err)
{
  return dg_backend_bucket_list(((struct dg_sealed *)self)->inner, call, row, receiver, err);
}

static int sealed_remove(void *self, const struct dg_call *call, const struct dg_item *item,
                         struct dg_error *err)
{
  return dg_backend_remove(((struct dg_sealed *)self)->inner, call, item, err);
}

static int sealed_validate(void *self, const struct dg_call *call, const struct dg_item *item,
                           struct dg_slice validator, int32_t *ret_same, struct dg_error *err)
{
  bool same = false;

  if (dg_backend_validate(((struct dg_sealed *)self)->inner, call, item, validator, &same, err) <
      0)
    return -1;
  *ret_same = same;
  return 0;
}

static int sealed_probe(void *self, const struct dg_call *call, struct dg_error *err)
{
  return dg_backend_probe(((struct dg_sealed *)self)->inner, call, err);
}

static int sealed_share(void *self, const struct dg_call *call, struct dg_error *err)
{
  return dg_backend_share(((struct dg_sealed *)self)->inner, call, err);
}

static int sealed_lease_take(void *self, const struct dg_call *call, struct dg_slice bucket,
                             struct dg_slice prefix, uint32_t ttl_ms, uint32_t *ret_flags,
                             struct dg_error *err)
{
  return dg_backend_lease_take(((struct dg_sealed *)self)->inner, call, bucket, prefix, ttl_ms,
                               ret_flags, err);
}

static int sealed_lease_renew(void *self, const struct dg_call *call, struct dg_slice bucket,
                              struct dg_slice prefix, uint32_t ttl_ms, struct dg_error *err)
{
  return dg_backend_lease_renew(((struct dg_sealed *)self)->inner, call, bucket, prefix, ttl_ms,
                                err);
}

static int sealed_lease_give(void *self, const struct dg_call *call, struct dg_slice bucket,
                             struct dg_slice prefix, int32_t keep, uint32_t *ret_wait_ms,
                             struct dg_error *err)
{
  return dg_backend_lease_give(((struct dg_sealed *)self)->inner, call, bucket, prefix, keep != 0,
                               ret_wait_ms, err);
}

static int sealed_lease_list(void *self, const struct dg_call *call, struct dg_slice bucket,
                             dg_lease_row_fn row, void *receiver, struct dg_error *err)
{
  return dg_backend_lease_list(((struct dg_sealed *)self)->inner, call, bucket, row, receiver,
                               err);
}

/* ---- Uploads that the storage joins: plaintext only ------------------------------------ */

static int refuse_plain(const struct dg_sealed *sealed, struct dg_error *err)
{
  if (!sealed->seals_writes)
    return 0;
  return dg_fail(err, DG_E_UNSUPPORTED, "%s seals what it stores", dg_backend_name(sealed->inner));
}

static int sealed_upload_begin(void *self, const struct dg_call *call, const struct dg_item *item,
                               const struct dg_meta *meta, char *ret_token, struct dg_error *err)
{
  struct dg_sealed *sealed = self;
  char *token;

  if (refuse_plain(sealed, err) < 0 ||
      dg_backend_upload_begin(sealed->inner, call, item, meta, &token, err) < 0)
    return -1;
  (void)g_strlcpy(ret_token, token, DG_UPLOAD_TOKEN_MAX);
  g_free(token);
  return 0;
}

static int sealed_upload_part(void *self, const struct dg_call *call, const struct dg_item *item,
                              struct dg_slice token, uint32_t part_no, uint64_t size_bytes,
                              struct dg_writer **ret_writer, struct dg_error *err)
{
  struct dg_sealed *sealed = self;

  if (refuse_plain(sealed, err) < 0)
    return -1;
  return dg_backend_upload_part(sealed->inner, call, item, token.data, part_no, size_bytes,
                                ret_writer, err);
}

static int sealed_upload_complete(void *self, const struct dg_call *call,
                                  const struct dg_item *item, struct dg_slice token,
                                  const struct dg_upload_piece *pieces, uint32_t count,
                                  struct dg_meta *meta, struct dg_error *err)
{
  struct dg_sealed *sealed = self;

  if (refuse_plain(sealed, err) < 0)
    return -1;
  return dg_backend_upload_complete(sealed->inner, call, item, token.data, pieces, count, meta,
                                    err);
}

/* Also of one that began before bodies were sealed. */
static int sealed_upload_abort(void *self, const struct dg_call *call, const struct dg_item *item,
                               struct dg_slice token, struct dg_error *err)
{
  return dg_backend_upload_abort(((struct dg_sealed *)self)->inner, call, item, token.data, err);
}

/* What is marked below is refused there: its marks are of its own bytes and name. */
static int sealed_copy(void *self, const struct dg_call *call, const struct dg_item *from,
                       struct dg_slice validator, const struct dg_item *to,
                       const struct dg_meta *meta, struct dg_error *err)
{
  struct dg_sealed *sealed = self;

  if (refuse_plain(sealed, err) < 0)
    return -1;
  return dg_backend_copy(sealed->inner, call, from, validator, to, meta, err);
}

/* ---- Notes: metadata that has outgrown its place, and as readable --------------------- */

static int sealed_note_put(void *self, const struct dg_call *call, struct dg_slice bucket,
                           struct dg_slice id, struct dg_slice text, struct dg_error *err)
{
  return dg_backend_note_put(((struct dg_sealed *)self)->inner, call, bucket, id, text, err);
}

static int sealed_note_get(void *self, const struct dg_call *call, struct dg_slice bucket,
                           struct dg_slice id, char *buffer, size_t *ret_len,
                           struct dg_error *err)
{
  g_autofree char *text = NULL;

  if (dg_backend_note_get(((struct dg_sealed *)self)->inner, call, bucket, id, &text, ret_len,
                          err) < 0)
    return -1;
  memcpy(buffer, text, *ret_len);
  return 0;
}

static int sealed_note_remove(void *self, const struct dg_call *call, struct dg_slice bucket,
                              struct dg_slice id, struct dg_error *err)
{
  return dg_backend_note_remove(((struct dg_sealed *)self)->inner, call, bucket, id, err);
}

/* The storage would speak of sealed bytes. */
static int sealed_locate_part(void *self, const struct dg_call *call, const struct dg_item *item,
                              struct dg_slice validator, uint32_t part_no,
                              struct dg_range *ret_range, struct dg_error *err)
{
  struct dg_sealed *sealed = self;

  if (sealed->crypt) {
    struct dg_meta *meta = dg_meta_new();
    int rc = dg_backend_head(sealed->inner, call, item, meta, err);

    if (rc == 0 && dg_sealed_is_marked(meta))
      rc = dg_fail(err, DG_E_UNSUPPORTED, "the object is sealed");
    dg_meta_unref(meta);
    if (rc < 0)
      return -1;
  }
  return dg_backend_locate_part(sealed->inner, call, item, validator, part_no, ret_range, err);
}

static void sealed_destroy(void *self)
{
  struct dg_sealed *sealed = self;

  dg_crypt_free(sealed->crypt);
  g_free(sealed);
}

/* What the layer below can do and this one keeps up. */
static uint64_t caps_of(const struct dg_sealed *sealed)
{
  uint64_t caps = DG_CAP_PUT_ATOMIC | DG_CAP_DURABLE | DG_CAP_VALIDATOR | DG_CAP_IF_ABSENT |
                  DG_CAP_NOTES | DG_CAP_LOCATE_PART;
  uint64_t kept = 0;

  if (!sealed->seals_writes)
    caps |= DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_NATIVE_UPLOAD | DG_CAP_NATIVE_COPY;
  if (!sealed->crypt)
    caps |= DG_CAP_LOCAL_FILE;
  for (uint64_t bit = 1; bit && bit <= caps; bit <<= 1)
    if ((caps & bit) && dg_backend_has(sealed->inner, bit))
      kept |= bit;
  return kept;
}

struct dg_backend *dg_sealed_new(const struct dg_sealed_params *params)
{
  struct dg_sealed *sealed = g_new0(struct dg_sealed, 1);
  struct dg_backend *layer;
  struct dg_backend_ops ops = {
    .struct_size = sizeof ops,
    .destroy = sealed_destroy,
    .bucket_create = sealed_bucket_create,
    .bucket_delete = sealed_bucket_delete,
    .bucket_head = sealed_bucket_head,
    .bucket_list = sealed_bucket_list,
    .head = sealed_head,
    .head_both = sealed_head_both,
    .get = dg_sealed_get,
    .put = sealed_put,
    .remove = sealed_remove,
    .list = sealed_list,
    .validate = sealed_validate,
    .probe = sealed_probe,
    .share = sealed_share,
    .lease_take = sealed_lease_take,
    .lease_renew = sealed_lease_renew,
    .lease_give = sealed_lease_give,
    .lease_list = sealed_lease_list,
    .note_put = sealed_note_put,
    .note_get = sealed_note_get,
    .note_remove = sealed_note_remove,
    .locate_part = sealed_locate_part,
  };

  g_assert(params->crypt || !params->seals_writes);
  sealed->inner = params->inner;
  sealed->crypt = params->crypt;
  sealed->seals_writes = params->seals_writes;
  ops.caps = caps_of(sealed);
  if (dg_backend_can_set_meta(params->inner))
    ops.set_meta = sealed_set_meta;
  if (dg_backend_has(params->inner, DG_CAP_NATIVE_UPLOAD)) {
    ops.upload_begin = sealed_upload_begin;
    ops.upload_part = sealed_upload_part;
    ops.upload_complete = sealed_upload_complete;
    ops.upload_abort = sealed_upload_abort;
  }
  if (dg_backend_has(params->inner, DG_CAP_NATIVE_COPY))
    ops.copy = sealed_copy;
  layer = dg_backend_wrap(&ops, sealed, dg_backend_name(params->inner),
                          dg_backend_plugin_name(params->inner));
  dg_backend_set_inner(layer, params->inner);
  return layer;
}
