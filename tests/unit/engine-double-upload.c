/* SPDX-License-Identifier: Apache-2.0 */
/* The uploads of the backend in memory. One mutex for all stores: tests are small. */
#include "config.h"

#include "engine-double.h"

#include "common/meta.h"
#include "common/slice.h"
#include "engine-double-private.h"

static GMutex mutex; /* guards the tables of uploads, and what is in them */
static uint64_t serial;

struct upload {
  struct dg_meta *meta;
  GTree *parts; /* number -> GBytes * */
  bool joined;
  char mark[24]; /* the user pair of the object it became */
};

struct part_writer {
  struct dg_writer writer; /* first */
  struct double_store *store;
  GByteArray *bytes;
  char *token;
  uint32_t part_no;
};

static gint compare(gconstpointer a, gconstpointer b, gpointer unused)
{
  (void)unused;
  return GPOINTER_TO_INT(a) - GPOINTER_TO_INT(b);
}

void double_upload_free(gpointer value)
{
  struct upload *upload = value;

  dg_meta_unref(upload->meta);
  g_tree_unref(upload->parts);
  g_free(upload);
}

uint32_t double_store_upload_count(struct double_store *store)
{
  GHashTableIter iter;
  gpointer value;
  uint32_t count = 0;

  g_hash_table_iter_init(&iter, double_store_uploads(store));
  while (g_hash_table_iter_next(&iter, NULL, &value))
    count += !((struct upload *)value)->joined;
  return count;
}

int double_backend_upload_begin(void *self, const struct dg_call *call,
                                const struct dg_item *item, const struct dg_meta *meta,
                                char *ret_token, struct dg_error *err)
{
  struct upload *upload;

  (void)item;
  if (double_backend_bucket_head(self, call, item->bucket, err) < 0 ||
      double_store_step(self, err) < 0)
    return -1;
  if (dg_meta_user(meta, "odd").len)
    return dg_fail(err, DG_E_UNSUPPORTED, "an odd name");
  upload = g_new0(struct upload, 1);
  upload->meta = dg_meta_copy(meta);
  upload->parts = g_tree_new_full(compare, NULL, NULL, (GDestroyNotify)g_bytes_unref);
  g_mutex_lock(&mutex);
  (void)g_snprintf(upload->mark, sizeof upload->mark, "m%" G_GUINT64_FORMAT, ++serial);
  (void)g_snprintf(ret_token, DG_UPLOAD_TOKEN_MAX, "t%" G_GUINT64_FORMAT, serial);
  g_hash_table_insert(double_store_uploads(self), g_strdup(ret_token), upload);
  g_mutex_unlock(&mutex);
  return 0;
}

static struct upload *find_locked(struct double_store *store, const char *token,
                                  struct dg_error *err)
{
  struct upload *upload = g_hash_table_lookup(double_store_uploads(store), token);

  if (!upload)
    (void)dg_fail(err, DG_E_NO_SUCH_UPLOAD, "no upload '%s'", token);
  return upload;
}

static void part_abort(struct dg_writer *writer)
{
  struct part_writer *self = (struct part_writer *)writer;

  g_byte_array_unref(self->bytes);
  g_free(self->token);
  g_free(self);
}

static int part_write(struct dg_writer *writer, const void *data, size_t len,
                      struct dg_error *err)
{
  struct part_writer *self = (struct part_writer *)writer;

  if (double_store_step(self->store, err) < 0)
    return -1;
  g_byte_array_append(self->bytes, data, (guint)len);
  return 0;
}

static int part_commit(struct dg_writer *writer, const struct dg_item *item,
                       const struct dg_meta *meta, struct dg_commit_result *ret_result,
                       struct dg_error *err)
{
  struct part_writer *self = (struct part_writer *)writer;
  struct upload *upload = NULL;
  int rc = double_store_step(self->store, err);

  (void)item;
  if (rc == 0 && (meta->md5.len != 32 || meta->file_size != self->bytes->len))
    rc = dg_fail(err, DG_E_INTERNAL, "a part's commit tells no digest, or another size");
  g_mutex_lock(&mutex);
  if (rc == 0)
    upload = find_locked(self->store, self->token, err);
  if (upload && !upload->joined) {
    (void)g_snprintf(ret_result->tag, sizeof ret_result->tag, "tag-%.*s", DG_SLICE_ARG(meta->md5));
    g_tree_replace(upload->parts, GUINT_TO_POINTER(self->part_no),
                   g_bytes_new(self->bytes->data, self->bytes->len));
  } else {
    rc = -1;
  }
  g_mutex_unlock(&mutex);
  part_abort(writer);
  return rc;
}

static const struct dg_writer_ops part_ops = {.struct_size = sizeof part_ops,
                                              .write = part_write,
                                              .commit = part_commit,
                                              .abort = part_abort};

int double_backend_upload_part(void *self, const struct dg_call *call,
                               const struct dg_item *item, struct dg_slice token,
                               uint32_t part_no, uint64_t size_bytes,
                               struct dg_writer **ret_writer, struct dg_error *err)
{
  struct part_writer *writer = g_new0(struct part_writer, 1);

  (void)call;
  (void)item;
  (void)size_bytes;
  (void)err;
  writer->writer.ops = &part_ops;
  writer->store = self;
  writer->bytes = g_byte_array_new();
  writer->token = dg_slice_dup(token);
  writer->part_no = part_no;
  *ret_writer = &writer->writer;
  return 0;
}

static int join_locked(struct double_store *store, struct upload *upload, const char *bucket,
                       const char *key, const struct dg_upload_piece *pieces, uint32_t count,
                       struct dg_error *err)
{
  GByteArray *all = g_byte_array_new();
  struct dg_meta *meta = dg_meta_copy(upload->meta);
  g_autoptr(GBytes) body = NULL;
  char etag[64];
  int rc = 0;

  for (uint32_t i = 0; rc == 0 && i < count; i++) {
    GBytes *part = g_tree_lookup(upload->parts, GUINT_TO_POINTER(pieces[i].part_no));

    if (!part)
      rc = dg_fail(err, DG_E_INVALID_PART, "no part %u", pieces[i].part_no);
    else
      g_byte_array_append(all, g_bytes_get_data(part, NULL), (guint)g_bytes_get_size(part));
  }
  body = g_byte_array_free_to_bytes(all);
  meta->file_size = g_bytes_get_size(body);
  meta->created_at_s = 1000; /* of the storage's own clock */
  meta->flags = DG_META_UNMANAGED | DG_META_PLAIN;
  (void)g_snprintf(etag, sizeof etag, "%032x-%u", 7u, count);
  if (rc == 0)
    rc = dg_meta_set(meta, DG_FIELD_UNMANAGED_ETAG, dg_slice_str(etag), err);
  if (rc == 0)
    rc = dg_meta_add_user(meta, DG_SLICE("mark"), dg_slice_str(upload->mark), err);
  if (rc == 0) {
    double_store_put(store, bucket, key, DG_VARIANT_PASSTHROUGH, body, meta);
    upload->joined = true;
  }
  dg_meta_unref(meta);
  return rc;
}

int double_backend_upload_complete(void *self, const struct dg_call *call,
                                   const struct dg_item *item, struct dg_slice token,
                                   const struct dg_upload_piece *pieces, uint32_t count,
                                   struct dg_meta *meta, struct dg_error *err)
{
  g_autofree char *bucket = dg_slice_dup(item->bucket), *key = dg_slice_dup(item->key);
  struct upload *upload;
  const struct dg_meta *now;
  int rc = double_store_step(self, err);

  g_mutex_lock(&mutex);
  upload = rc == 0 ? find_locked(self, token.data, err) : NULL;
  now = double_store_meta(self, bucket, key, DG_VARIANT_PASSTHROUGH);
  if (!upload)
    rc = -1;
  else if (!upload->joined)
    rc = join_locked(self, upload, bucket, key, pieces, count, err);
  else if (!now || !dg_slice_equal_str(dg_meta_user(now, "mark"), upload->mark))
    rc = dg_fail(err, DG_E_NO_SUCH_UPLOAD, "joined, and gone");
  g_mutex_unlock(&mutex);
  /* The answer may be lost when all is done. */
  if (rc == 0)
    rc = double_store_step(self, err);
  return rc == 0 ? double_backend_head(self, call, item, meta, err) : -1;
}

int double_backend_upload_abort(void *self, const struct dg_call *call,
                                const struct dg_item *item, struct dg_slice token,
                                struct dg_error *err)
{
  struct upload *upload;
  int rc = double_store_step(self, err);

  (void)call;
  (void)item;
  g_mutex_lock(&mutex);
  upload = rc == 0 ? find_locked(self, token.data, err) : NULL;
  if (upload && upload->joined)
    rc = dg_fail(err, DG_E_NO_SUCH_UPLOAD, "it was joined");
  else if (upload)
    (void)g_hash_table_remove(double_store_uploads(self), token.data);
  else
    rc = -1;
  g_mutex_unlock(&mutex);
  return rc;
}
