/* SPDX-License-Identifier: Apache-2.0 */
/* The backend in memory. */
#include "config.h"

#include "engine-double.h"

#include "common/meta.h"
#include "common/slice.h"
#include "engine-double-private.h"

struct thing {
  GBytes *body;
  struct dg_meta *meta;
};

struct double_store {
  GMutex mutex;
  uint64_t caps;
  GTree *things;       /* "bucket NUL key NUL variant-digit" -> thing; slices as GBytes */
  GHashTable *buckets; /* name -> itself */
  uint64_t version;
  uint64_t steps, fail_at;
  int32_t fail_code, fail_reference;
  bool crash, crashed, failed;
  int open_streams;
  GHashTable *uploads;
  GHashTable *notes; /* BUCKET/ID -> GBytes *; of engine-double-notes.c */
  uint32_t copies;
  GCond held_changed;
  enum double_hold hold;
  uint32_t held; /* calls that wait */
  const char *passed_key; /* by the next listing, during which meanwhile() runs; guarded */
  const char *looked_key; /* by the next head; guarded */
  void (*meanwhile)(void);
};

static void thing_free(gpointer value)
{
  struct thing *thing = value;

  g_bytes_unref(thing->body);
  dg_meta_unref(thing->meta);
  g_free(thing);
}

static gint compare(gconstpointer a, gconstpointer b, gpointer unused)
{
  (void)unused;
  return g_bytes_compare(a, b);
}

struct double_store *double_store_new(uint64_t caps)
{
  struct double_store *store = g_new0(struct double_store, 1);

  g_mutex_init(&store->mutex);
  g_cond_init(&store->held_changed);
  store->caps = caps;
  store->things = g_tree_new_full(compare, NULL, (GDestroyNotify)g_bytes_unref, thing_free);
  store->buckets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  store->uploads = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, double_upload_free);
  store->notes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                       (GDestroyNotify)g_bytes_unref);
  g_hash_table_add(store->buckets, g_strdup("b"));
  g_hash_table_add(store->buckets, g_strdup("c"));
  return store;
}

void double_store_free(struct double_store *store)
{
  g_tree_unref(store->things);
  g_hash_table_unref(store->buckets);
  g_hash_table_unref(store->uploads);
  g_hash_table_unref(store->notes);
  g_cond_clear(&store->held_changed);
  g_mutex_clear(&store->mutex);
  g_free(store);
}

void double_store_hold(struct double_store *store, enum double_hold hold)
{
  g_mutex_lock(&store->mutex);
  store->hold = hold;
  g_cond_broadcast(&store->held_changed);
  g_mutex_unlock(&store->mutex);
}

void double_store_wait_held(struct double_store *store, uint32_t count)
{
  g_mutex_lock(&store->mutex);
  while (store->held < count)
    g_cond_wait(&store->held_changed, &store->mutex);
  g_mutex_unlock(&store->mutex);
}

static void stay_held_locked(struct double_store *store, enum double_hold what)
{
  if (store->hold != what)
    return;
  store->held++;
  g_cond_broadcast(&store->held_changed);
  while (store->hold == what)
    g_cond_wait(&store->held_changed, &store->mutex);
  store->held--;
}

uint64_t double_store_caps(const struct double_store *store)
{
  return store->caps;
}

void double_store_fail(struct double_store *store, uint64_t n, int32_t code, bool crash)
{
  g_mutex_lock(&store->mutex);
  store->fail_at = n ? store->steps + n : 0;
  store->fail_code = code;
  store->crash = crash;
  store->failed = false;
  g_mutex_unlock(&store->mutex);
}

void double_store_revive(struct double_store *store)
{
  g_mutex_lock(&store->mutex);
  store->crashed = false;
  store->fail_at = 0;
  g_mutex_unlock(&store->mutex);
}

uint64_t double_store_steps(struct double_store *store)
{
  uint64_t steps;

  g_mutex_lock(&store->mutex);
  steps = store->steps;
  g_mutex_unlock(&store->mutex);
  return steps;
}

bool double_store_failed(struct double_store *store)
{
  bool failed;

  g_mutex_lock(&store->mutex);
  failed = store->failed;
  g_mutex_unlock(&store->mutex);
  return failed;
}

void double_store_fail_reference(struct double_store *store, int32_t code)
{
  g_mutex_lock(&store->mutex);
  store->fail_reference = code;
  g_mutex_unlock(&store->mutex);
}

int double_store_open_streams(struct double_store *store)
{
  return g_atomic_int_get(&store->open_streams);
}

static GBytes *name_of(struct dg_slice bucket, struct dg_slice key, uint32_t variant)
{
  GString *name = g_string_new_len(bucket.data, (gssize)bucket.len);

  g_string_append_c(name, '\0');
  if (key.len)
    g_string_append_len(name, key.data, (gssize)key.len);
  g_string_append_c(name, '\0');
  g_string_append_c(name, (char)('0' + variant));
  return g_string_free_to_bytes(name);
}

/* Every call passes here first. */
static int enter_locked(struct double_store *store, bool changes, struct dg_error *err)
{
  if (store->crashed)
    return dg_fail(err, DG_E_IO, "crashed");
  if (changes && ++store->steps == store->fail_at) {
    store->failed = true;
    store->crashed = store->crash;
    return dg_fail(err, store->fail_code, "step %" G_GUINT64_FORMAT " fails as asked",
                   store->steps);
  }
  return 0;
}

int double_store_step(struct double_store *store, struct dg_error *err)
{
  int rc;

  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ true, err);
  g_mutex_unlock(&store->mutex);
  return rc;
}

GHashTable *double_store_notes(struct double_store *store)
{
  return store->notes;
}

GHashTable *double_store_uploads(struct double_store *store)
{
  return store->uploads;
}

static struct thing *find_locked(struct double_store *store, struct dg_slice bucket,
                                 struct dg_slice key, uint32_t variant)
{
  g_autoptr(GBytes) name = name_of(bucket, key, variant);

  return g_tree_lookup(store->things, name);
}

static void put_locked(struct double_store *store, struct dg_slice bucket, struct dg_slice key,
                       uint32_t variant, GBytes *body, const struct dg_meta *meta)
{
  struct thing *thing = g_new0(struct thing, 1);
  char validator[32];
  struct dg_error err;

  thing->body = g_bytes_ref(body);
  thing->meta = dg_meta_copy(meta);
  thing->meta->variant = variant;
  thing->meta->stored_size = g_bytes_get_size(body);
  (void)g_snprintf(validator, sizeof validator, "v%" G_GUINT64_FORMAT, ++store->version);
  (void)dg_meta_set(thing->meta, DG_FIELD_VALIDATOR, dg_slice_str(validator), &err);
  g_tree_replace(store->things, name_of(bucket, key, variant), thing);
}

/* ---- Looks from outside --------------------------------------------------------- */

bool double_store_has(struct double_store *store, const char *bucket, const char *key,
                      uint32_t variant)
{
  bool has;

  g_mutex_lock(&store->mutex);
  has = find_locked(store, dg_slice_str(bucket), dg_slice_str(key), variant) != NULL;
  g_mutex_unlock(&store->mutex);
  return has;
}

const struct dg_meta *double_store_meta(struct double_store *store, const char *bucket,
                                        const char *key, uint32_t variant)
{
  const struct dg_meta *meta;
  struct thing *thing;

  g_mutex_lock(&store->mutex);
  thing = find_locked(store, dg_slice_str(bucket), dg_slice_str(key), variant);
  meta = thing ? thing->meta : NULL;
  g_mutex_unlock(&store->mutex);
  return meta;
}

void double_store_put(struct double_store *store, const char *bucket, const char *key,
                      uint32_t variant, GBytes *body, struct dg_meta *meta)
{
  struct thing *old;

  g_mutex_lock(&store->mutex);
  old = find_locked(store, dg_slice_str(bucket), dg_slice_str(key), variant);
  if (!body)
    body = old->body;
  if (!meta)
    meta = old->meta;
  g_bytes_ref(body);
  dg_meta_ref(meta);
  put_locked(store, dg_slice_str(bucket), dg_slice_str(key), variant, body, meta);
  g_bytes_unref(body);
  dg_meta_unref(meta);
  g_mutex_unlock(&store->mutex);
}

void double_store_remove(struct double_store *store, const char *bucket, const char *key,
                         uint32_t variant)
{
  g_autoptr(GBytes) name = name_of(dg_slice_str(bucket), dg_slice_str(key), variant);

  g_mutex_lock(&store->mutex);
  (void)g_tree_remove(store->things, name);
  g_mutex_unlock(&store->mutex);
}

/* A bit rots: same metadata, same validator. */
void double_store_flip(struct double_store *store, const char *bucket, const char *key,
                       uint32_t variant, size_t at)
{
  struct thing *thing;
  size_t size;
  char *data;

  g_mutex_lock(&store->mutex);
  thing = find_locked(store, dg_slice_str(bucket), dg_slice_str(key), variant);
  size = g_bytes_get_size(thing->body);
  data = g_memdup2(g_bytes_get_data(thing->body, NULL), size);
  data[at] ^= 1;
  g_bytes_unref(thing->body);
  thing->body = g_bytes_new_take(data, size);
  g_mutex_unlock(&store->mutex);
}

struct counter {
  uint32_t variant, count;
};

static gboolean count_thing(gpointer name, gpointer value, gpointer receiver)
{
  struct counter *counter = receiver;

  (void)name;
  counter->count += ((struct thing *)value)->meta->variant == counter->variant;
  return FALSE;
}

uint32_t double_store_count(struct double_store *store, uint32_t variant)
{
  struct counter counter = {variant, 0};

  g_mutex_lock(&store->mutex);
  g_tree_foreach(store->things, count_thing, &counter);
  g_mutex_unlock(&store->mutex);
  return counter.count;
}

/* ---- Readers and writers ------------------------------------------------------------ */

struct memory_reader {
  struct dg_reader reader;
  struct double_store *store;
  GBytes *body;
  size_t at, end;
};

static int memory_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct memory_reader *self = (struct memory_reader *)reader;
  /* Short reads are allowed: make them happen. */
  size_t len = MIN(MIN(capacity, self->end - self->at), 3000);

  if (self->store->crashed)
    return dg_fail(err, DG_E_IO, "crashed");
  memcpy(buffer, (const char *)g_bytes_get_data(self->body, NULL) + self->at, len);
  self->at += len;
  *ret_len = len;
  return 0;
}

static void memory_close(struct dg_reader *reader)
{
  struct memory_reader *self = (struct memory_reader *)reader;

  (void)g_atomic_int_add(&self->store->open_streams, -1);
  g_bytes_unref(self->body);
  g_free(self);
}

static const struct dg_reader_ops memory_reader_ops = {
  .struct_size = sizeof memory_reader_ops, .read = memory_read, .close = memory_close};

static struct dg_reader *reader_new(struct double_store *store, GBytes *body, size_t at, size_t end)
{
  struct memory_reader *self = g_new0(struct memory_reader, 1);

  self->reader.ops = &memory_reader_ops;
  self->store = store;
  self->body = g_bytes_ref(body);
  self->at = at;
  self->end = end;
  (void)g_atomic_int_add(&store->open_streams, 1);
  return &self->reader;
}

struct memory_writer {
  struct dg_writer writer;
  struct double_store *store;
  GByteArray *bytes;
  char *bucket, *key;
  uint32_t variant;
};

static void writer_free(struct memory_writer *self)
{
  (void)g_atomic_int_add(&self->store->open_streams, -1);
  g_byte_array_unref(self->bytes);
  g_free(self->bucket);
  g_free(self->key);
  g_free(self);
}

static int memory_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct memory_writer *self = (struct memory_writer *)writer;
  int rc;

  g_mutex_lock(&self->store->mutex);
  rc = enter_locked(self->store, /* changes= */ true, err);
  g_mutex_unlock(&self->store->mutex);
  if (rc == 0)
    g_byte_array_append(self->bytes, data, (guint)len);
  return rc;
}

static int memory_commit(struct dg_writer *writer, const struct dg_item *item,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct memory_writer *self = (struct memory_writer *)writer;
  struct double_store *store = self->store;
  g_autoptr(GBytes) body = g_bytes_new(self->bytes->data, self->bytes->len);
  int rc;

  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ true, err);
  if (rc == 0 && !(store->caps & DG_CAP_LATE_NAME) &&
      (self->variant != item->variant ||
       !dg_slice_equal(item->key, dg_slice_str(self->key))))
    rc = dg_fail(err, DG_E_INTERNAL, "committed under another name than opened");
  if (rc == 0) {
    put_locked(store, item->bucket, item->key, item->variant, body, meta);
    ret_result->stored_size = g_bytes_get_size(body);
  }
  g_mutex_unlock(&store->mutex);
  writer_free(self);
  return rc;
}

static void memory_abort(struct dg_writer *writer)
{
  writer_free((struct memory_writer *)writer);
}

static int memory_read_back(struct dg_writer *writer, struct dg_reader **ret_reader,
                            struct dg_error *err)
{
  struct memory_writer *self = (struct memory_writer *)writer;
  g_autoptr(GBytes) body = g_bytes_new(self->bytes->data, self->bytes->len);

  if (!(self->store->caps & DG_CAP_READ_BACK))
    return dg_fail(err, DG_E_UNSUPPORTED, "no read_back");
  *ret_reader = reader_new(self->store, body, 0, self->bytes->len);
  return 0;
}

static const struct dg_writer_ops memory_writer_ops = {.struct_size = sizeof memory_writer_ops,
                                                       .write = memory_write,
                                                       .commit = memory_commit,
                                                       .abort = memory_abort,
                                                       .read_back = memory_read_back};

/* ---- Ops ------------------------------------------------------------------------------- */

static int need_bucket_locked(struct double_store *store, struct dg_slice bucket,
                              struct dg_error *err)
{
  g_autofree char *name = dg_slice_dup(bucket);

  return g_hash_table_contains(store->buckets, name)
           ? 0
           : dg_fail(err, DG_E_NO_SUCH_BUCKET, "no bucket '%s'", name);
}

int double_backend_head(void *self, const struct dg_call *call, const struct dg_item *item,
                        struct dg_meta *meta, struct dg_error *err)
{
  struct double_store *store = self;
  struct dg_reader *reader;
  int rc = double_backend_get(self, call, item, (struct dg_range){0, DG_TO_END}, meta, &reader, err);

  bool halfway;

  if (rc == 0)
    reader->ops->close(reader);
  g_mutex_lock(&store->mutex);
  halfway = item->variant == DG_VARIANT_PASSTHROUGH && store->looked_key &&
            dg_slice_equal_str(item->key, store->looked_key);
  if (halfway)
    store->looked_key = NULL;
  g_mutex_unlock(&store->mutex);
  if (halfway)
    store->meanwhile();
  return rc;
}

static void copy_meta(const struct dg_meta *from, struct dg_meta *to)
{
  struct dg_slice const texts[] = {
    [DG_FIELD_TOOL] = from->tool,
    [DG_FIELD_ORIGINAL_NAME] = from->original_name,
    [DG_FIELD_FILE_SHA256] = from->file_sha256,
    [DG_FIELD_MD5] = from->md5,
    [DG_FIELD_MULTIPART_ETAG] = from->multipart_etag,
    [DG_FIELD_CONTENT_TYPE] = from->content_type,
    [DG_FIELD_SOURCE_NAME] = from->source_name,
    [DG_FIELD_REF_PATH] = from->ref_path,
    [DG_FIELD_REF_SHA256] = from->ref_sha256,
    [DG_FIELD_DELTA_CMD] = from->delta_cmd,
    [DG_FIELD_UNMANAGED_ETAG] = from->unmanaged_etag,
    [DG_FIELD_VALIDATOR] = from->validator,
  };
  struct dg_error err;

  to->variant = from->variant;
  to->file_size = from->file_size;
  to->stored_size = from->stored_size;
  to->created_at_s = from->created_at_s;
  to->created_at_ns = from->created_at_ns;
  to->flags = from->flags;
  to->delta_size = from->delta_size;
  for (uint32_t i = 1; i < G_N_ELEMENTS(texts); i++)
    if (texts[i].len)
      (void)dg_meta_set(to, i, texts[i], &err);
  for (uint32_t i = 0; i < from->user_count; i++)
    (void)dg_meta_add_user(to, from->user[i].name, from->user[i].value, &err);
  for (uint32_t i = 0; i < from->extension_count; i++)
    (void)dg_meta_add_extension(to, from->extensions[i].name, from->extensions[i].value, &err);
}

int double_backend_get(void *self, const struct dg_call *call, const struct dg_item *item,
                       struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
                       struct dg_error *err)
{
  struct double_store *store = self;
  struct thing *thing;
  int rc;

  (void)call;
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ false, err);
  if (rc == 0)
    rc = need_bucket_locked(store, item->bucket, err);
  if (rc == 0 && item->variant == DG_VARIANT_REFERENCE)
    stay_held_locked(store, DOUBLE_HOLD_REFERENCES);
  if (rc == 0 && item->variant == DG_VARIANT_REFERENCE && store->fail_reference) {
    rc = dg_fail(err, store->fail_reference, "fails as asked");
    store->fail_reference = 0;
  }
  thing = rc == 0 ? find_locked(store, item->bucket, item->key, item->variant) : NULL;
  if (rc == 0 && !thing)
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "no such item");
  if (rc == 0) {
    size_t size = g_bytes_get_size(thing->body);
    size_t end = range.length < size ? MIN(size, (size_t)(range.offset + range.length)) : size;
    bool wants_some = range.length != 0 && range.length != DG_TO_END;

    if (range.offset > size || (range.offset == size && wants_some)) {
      rc = dg_fail(err, DG_E_INVALID_RANGE, "past the end");
    } else {
      copy_meta(thing->meta, meta);
      *ret_reader = reader_new(store, thing->body, (size_t)range.offset, end);
    }
  }
  g_mutex_unlock(&store->mutex);
  return rc;
}

int double_backend_put(void *self, const struct dg_call *call, const struct dg_item *item,
                       uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err)
{
  struct double_store *store = self;
  struct memory_writer *writer;
  int rc;

  (void)call;
  (void)size_hint;
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ false, err);
  if (rc == 0)
    rc = need_bucket_locked(store, item->bucket, err);
  g_mutex_unlock(&store->mutex);
  if (rc < 0)
    return -1;
  writer = g_new0(struct memory_writer, 1);
  writer->writer.ops = &memory_writer_ops;
  writer->store = store;
  writer->bytes = g_byte_array_new();
  writer->bucket = dg_slice_dup(item->bucket);
  writer->key = g_strndup(item->key.len ? item->key.data : "", item->key.len);
  writer->variant = item->variant;
  (void)g_atomic_int_add(&store->open_streams, 1);
  *ret_writer = &writer->writer;
  return 0;
}

int double_backend_remove(void *self, const struct dg_call *call, const struct dg_item *item,
                          struct dg_error *err)
{
  struct double_store *store = self;
  g_autoptr(GBytes) name = name_of(item->bucket, item->key, item->variant);
  int rc;

  (void)call;
  if (item->flags & DG_ITEM_UNSEEN) /* here nothing comes late */
    return dg_fail(err, DG_E_NO_SUCH_KEY, "no such item");
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ true, err);
  if (rc == 0 && !g_tree_remove(store->things, name))
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "no such item");
  g_mutex_unlock(&store->mutex);
  return rc;
}

int double_backend_set_meta(void *self, const struct dg_call *call, const struct dg_item *item,
                            const struct dg_meta *meta, struct dg_error *err)
{
  struct double_store *store = self;
  struct thing *thing;
  int rc;

  (void)call;
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ true, err);
  thing = rc == 0 ? find_locked(store, item->bucket, item->key, item->variant) : NULL;
  if (thing) {
    g_autoptr(GBytes) body = g_bytes_ref(thing->body);

    put_locked(store, item->bucket, item->key, item->variant, body, meta);
  } else if (rc == 0) {
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "no such item");
  }
  g_mutex_unlock(&store->mutex);
  return rc;
}

int double_backend_validate(void *self, const struct dg_call *call, const struct dg_item *item,
                            struct dg_slice validator, int32_t *ret_same, struct dg_error *err)
{
  struct double_store *store = self;
  struct thing *thing;
  int rc;

  (void)call;
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ false, err);
  thing = rc == 0 ? find_locked(store, item->bucket, item->key, item->variant) : NULL;
  *ret_same = thing && dg_slice_equal(thing->meta->validator, validator);
  g_mutex_unlock(&store->mutex);
  return rc;
}

uint32_t double_store_copies(struct double_store *store)
{
  return store->copies;
}

int double_backend_copy(void *self, const struct dg_call *call, const struct dg_item *from,
                        struct dg_slice validator, const struct dg_item *to,
                        const struct dg_meta *meta, struct dg_error *err)
{
  struct double_store *store = self;
  struct thing *thing;
  int rc;

  (void)call;
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ true, err);
  if (rc == 0)
    rc = need_bucket_locked(store, to->bucket, err);
  thing = rc == 0 ? find_locked(store, from->bucket, from->key, from->variant) : NULL;
  if (rc == 0 && !thing)
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "no such item");
  else if (rc == 0 && !dg_slice_equal(thing->meta->validator, validator))
    rc = dg_fail(err, DG_E_PRECONDITION_FAILED, "another version");
  if (rc == 0) {
    g_autoptr(GBytes) body = g_bytes_ref(thing->body);

    put_locked(store, to->bucket, to->key, to->variant, body, meta);
    store->copies++;
  }
  g_mutex_unlock(&store->mutex);
  return rc;
}

int double_backend_probe(void *self, const struct dg_call *call, struct dg_error *err)
{
  (void)call;
  return ((struct double_store *)self)->crashed ? dg_fail(err, DG_E_UNAVAILABLE, "crashed") : 0;
}

void double_store_list_slowly(struct double_store *store, const char *key,
                              void (*meanwhile)(void))
{
  store->passed_key = key;
  store->meanwhile = meanwhile;
}

void double_store_look_slowly(struct double_store *store, const char *key,
                              void (*meanwhile)(void))
{
  store->looked_key = key;
  store->meanwhile = meanwhile;
}

struct walk {
  const struct dg_list_request *request;
  GPtrArray *names, *metas;
};

static gboolean collect(gpointer name, gpointer value, gpointer receiver)
{
  struct walk *walk = receiver;

  g_ptr_array_add(walk->names, g_bytes_ref(name));
  g_ptr_array_add(walk->metas, dg_meta_copy(((struct thing *)value)->meta));
  return FALSE;
}

/* Rows of one bucket, common prefixes folded. */
int double_backend_list(void *self, const struct dg_call *call,
                        const struct dg_list_request *request, dg_list_row_fn row, void *receiver,
                        struct dg_error *err)
{
  struct double_store *store = self;
  g_autoptr(GString) folded = g_string_new(NULL);
  struct walk walk = {request, g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref),
                      g_ptr_array_new_with_free_func((GDestroyNotify)dg_meta_unref)};
  const char *passed_key;
  int rc;

  (void)call;
  g_mutex_lock(&store->mutex);
  passed_key = g_steal_pointer(&store->passed_key);
  stay_held_locked(store, DOUBLE_HOLD_LISTS);
  rc = enter_locked(store, /* changes= */ false, err);
  if (rc == 0)
    rc = need_bucket_locked(store, request->bucket, err);
  if (rc == 0)
    g_tree_foreach(store->things, collect, &walk);
  g_mutex_unlock(&store->mutex);
  if (passed_key)
    store->meanwhile();
  for (guint i = 0; rc == 0 && i < walk.names->len; i++) {
    size_t len;
    const char *name = g_bytes_get_data(walk.names->pdata[i], &len);
    const struct dg_meta *meta = walk.metas->pdata[i];
    struct dg_slice bucket = dg_slice_of(name, strlen(name));
    struct dg_slice key = dg_slice_of(name + bucket.len + 1, len - bucket.len - 3);
    struct dg_list_row out = {.struct_size = sizeof out, .type = DG_ROW_OBJECT, .key = key,
                              .meta = meta};

    if (!dg_slice_equal(bucket, request->bucket) ||
        (meta->variant == DG_VARIANT_REFERENCE && !(request->flags & DG_LIST_REFERENCES)) ||
        !dg_slice_starts_with(key, request->prefix) ||
        (passed_key && dg_slice_equal_str(key, passed_key)) ||
        (request->start_after.len && dg_slice_compare(key, request->start_after) <= 0))
      continue;
    if (request->delimiter.len == 1) {
      size_t cut = dg_slice_find(key, request->delimiter.data[0], request->prefix.len);

      if (cut != SIZE_MAX) {
        struct dg_slice prefix = dg_slice_of(key.data, cut + 1);

        if (dg_slice_equal_str(prefix, folded->str) ||
            dg_slice_equal(prefix, request->start_after))
          continue;
        g_string_assign(folded, "");
        dg_slice_append(folded, prefix);
        out = (struct dg_list_row){.struct_size = sizeof out, .type = DG_ROW_PREFIX,
                                   .key = prefix};
      }
    }
    if (row(receiver, &out))
      break;
  }
  g_ptr_array_unref(walk.names);
  g_ptr_array_unref(walk.metas);
  return rc;
}

int double_backend_bucket_create(void *self, const struct dg_call *call, struct dg_slice bucket,
                                 struct dg_error *err)
{
  struct double_store *store = self;
  int rc;

  (void)call;
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ true, err);
  if (rc == 0 && !g_hash_table_add(store->buckets, dg_slice_dup(bucket)))
    rc = dg_fail(err, DG_E_BUCKET_EXISTS, "the bucket exists");
  g_mutex_unlock(&store->mutex);
  return rc;
}

static gboolean is_in_bucket(gpointer name, gpointer value, gpointer receiver)
{
  struct dg_slice *bucket = receiver;
  size_t len;
  const char *text = g_bytes_get_data(name, &len);

  (void)value;
  if (len <= bucket->len || text[bucket->len] != '\0' ||
      memcmp(text, bucket->data, bucket->len) != 0)
    return FALSE;
  bucket->len = 0; /* found */
  return TRUE;
}

/* Where others write too, everything counts that is in a bucket. */
static int check_empty_locked(struct double_store *store, struct dg_slice bucket,
                              struct dg_error *err)
{
  if (double_settings.instances <= 1)
    return 0;
  g_tree_foreach(store->things, is_in_bucket, &bucket);
  return bucket.len && double_lease_count() == 0
           ? 0
           : dg_fail(err, DG_E_BUCKET_NOT_EMPTY, "the bucket is not empty");
}

int double_backend_bucket_delete(void *self, const struct dg_call *call, struct dg_slice bucket,
                                 struct dg_error *err)
{
  struct double_store *store = self;
  g_autofree char *name = dg_slice_dup(bucket);
  int rc;

  (void)call;
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ true, err);
  if (rc == 0)
    rc = check_empty_locked(store, bucket, err);
  if (rc == 0 && !g_hash_table_remove(store->buckets, name))
    rc = dg_fail(err, DG_E_NO_SUCH_BUCKET, "no bucket '%s'", name);
  g_mutex_unlock(&store->mutex);
  return rc;
}

int double_backend_bucket_head(void *self, const struct dg_call *call, struct dg_slice bucket,
                               struct dg_error *err)
{
  struct double_store *store = self;
  int rc;

  (void)call;
  g_mutex_lock(&store->mutex);
  rc = enter_locked(store, /* changes= */ false, err);
  if (rc == 0)
    rc = need_bucket_locked(store, bucket, err);
  g_mutex_unlock(&store->mutex);
  return rc;
}

int double_backend_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                               void *receiver, struct dg_error *err)
{
  struct double_store *store = self;
  g_autoptr(GList) names = NULL;

  (void)call;
  (void)err;
  g_mutex_lock(&store->mutex);
  names = g_list_sort(g_hash_table_get_keys(store->buckets), (GCompareFunc)(void (*)(void))strcmp);
  g_mutex_unlock(&store->mutex);
  for (GList *at = names; at; at = at->next) {
    struct dg_bucket_row out = {.struct_size = sizeof out, .name = dg_slice_str(at->data)};

    if (row(receiver, &out))
      break;
  }
  return 0;
}
