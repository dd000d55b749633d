/* SPDX-License-Identifier: Apache-2.0 */
/* backend-hello: objects in memory.
 *
 * It says DG_THREADS_SERIAL, so the host holds a mutex around every call and
 * the code needs no lock. It claims what it can keep: PUT_ATOMIC (a commit
 * swaps one pointer), LATE_NAME and READ_BACK; not DURABLE. */
#define DG_ABI_UNSTABLE
#include <deltaglider/plugin.h>

#include <stdlib.h>

#define FIELD_COUNT (DG_FIELD_UNMANAGED_ETAG + 1)

/* Bytes shared by an item and the readers that began before it changed. */
struct blob {
  int refs;
  size_t len;
  char *data;
};

struct item {
  char *bucket, *key; /* NUL-terminated: neither may hold a NUL */
  uint32_t variant;
  struct blob *blob;
  struct dg_meta meta;             /* numbers only */
  char *fields[FIELD_COUNT];       /* text, by DG_FIELD_* */
  char **pairs;                    /* name, value, name, value ...: client's, then extensions */
};

struct bucket {
  char *name;
  struct bucket *next; /* in byte order */
};

struct hello {
  const struct dg_host *host;
  struct bucket *buckets;
  struct item **items; /* sorted by bucket, key, variant */
  size_t item_count, item_capacity;
};

/* ---- Small helpers ------------------------------------------------------------- */

static void *must(void *memory)
{
  if (!memory)
    abort(); /* an example: a real plugin fails the call instead */
  return memory;
}

static char *copy(struct dg_slice text)
{
  char *out = must(malloc(text.len + 1));

  if (text.len > 0)
    memcpy(out, text.data, text.len);
  out[text.len] = '\0';
  return out;
}

static struct dg_slice slice(const char *text)
{
  struct dg_slice out = {text, strlen(text)};

  return out;
}

static int compare(struct dg_slice a, struct dg_slice b)
{
  size_t shorter = a.len < b.len ? a.len : b.len;
  int order = shorter ? memcmp(a.data, b.data, shorter) : 0;

  return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int begins_with(struct dg_slice text, struct dg_slice prefix)
{
  return text.len >= prefix.len && (prefix.len == 0 || !memcmp(text.data, prefix.data, prefix.len));
}

static void blob_unref(struct blob *blob)
{
  if (--blob->refs > 0)
    return;
  free(blob->data);
  free(blob);
}

/* ---- Items ------------------------------------------------------------------------ */

static void item_free(struct item *item)
{
  free(item->bucket);
  free(item->key);
  blob_unref(item->blob);
  for (uint32_t i = 0; i < FIELD_COUNT; i++)
    free(item->fields[i]);
  for (size_t i = 0; item->pairs && item->pairs[i]; i++)
    free(item->pairs[i]);
  free(item->pairs);
  free(item);
}

static int compare_item(const struct item *item, struct dg_slice bucket, struct dg_slice key,
                        uint32_t variant)
{
  int order = compare(slice(item->bucket), bucket);

  if (order == 0)
    order = compare(slice(item->key), key);
  return order ? order : (item->variant > variant) - (item->variant < variant);
}

/* The first item not before (bucket, key, variant). */
static size_t lower_bound(const struct hello *hello, struct dg_slice bucket, struct dg_slice key,
                          uint32_t variant)
{
  size_t low = 0, high = hello->item_count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (compare_item(hello->items[middle], bucket, key, variant) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static struct item *find(const struct hello *hello, const struct dg_item *name)
{
  size_t at = lower_bound(hello, name->bucket, name->key, name->variant);

  if (at < hello->item_count &&
      !compare_item(hello->items[at], name->bucket, name->key, name->variant))
    return hello->items[at];
  return NULL;
}

static struct bucket **find_bucket(struct hello *hello, struct dg_slice name)
{
  struct bucket **link = &hello->buckets;

  while (*link && compare(slice((*link)->name), name) < 0)
    link = &(*link)->next;
  return link;
}

static int has_bucket(struct hello *hello, struct dg_slice name, struct dg_error *err)
{
  struct bucket **link = find_bucket(hello, name);

  if (*link && !compare(slice((*link)->name), name))
    return 0;
  return dg_fail(err, DG_E_NO_SUCH_BUCKET, "no bucket '%.*s'", (int)name.len, name.data);
}

/* Metadata into our own memory, and back through the host. */
static void keep_meta(struct item *item, const struct dg_meta *meta)
{
  const struct dg_slice texts[FIELD_COUNT] = {
    [DG_FIELD_TOOL] = meta->tool,
    [DG_FIELD_ORIGINAL_NAME] = meta->original_name,
    [DG_FIELD_FILE_SHA256] = meta->file_sha256,
    [DG_FIELD_MD5] = meta->md5,
    [DG_FIELD_MULTIPART_ETAG] = meta->multipart_etag,
    [DG_FIELD_CONTENT_TYPE] = meta->content_type,
    [DG_FIELD_SOURCE_NAME] = meta->source_name,
    [DG_FIELD_REF_PATH] = meta->ref_path,
    [DG_FIELD_REF_SHA256] = meta->ref_sha256,
    [DG_FIELD_DELTA_CMD] = meta->delta_cmd,
  };
  size_t count = (size_t)meta->user_count + meta->extension_count;

  item->meta = *meta;
  for (uint32_t i = 0; i < FIELD_COUNT; i++)
    item->fields[i] = texts[i].len > 0 ? copy(texts[i]) : NULL;
  item->pairs = must(calloc(2 * count + 1, sizeof *item->pairs));
  for (size_t i = 0; i < count; i++) {
    const struct dg_pair *pair =
      i < meta->user_count ? &meta->user[i] : &meta->extensions[i - meta->user_count];

    item->pairs[2 * i] = copy(pair->name);
    item->pairs[2 * i + 1] = copy(pair->value);
  }
}

static int give_meta(const struct hello *hello, const struct item *item, struct dg_meta *meta,
                     struct dg_error *err)
{
  const struct dg_host *host = hello->host;

  meta->variant = item->variant;
  meta->file_size = item->meta.file_size;
  meta->stored_size = item->blob->len;
  meta->created_at_s = item->meta.created_at_s;
  meta->created_at_ns = item->meta.created_at_ns;
  meta->delta_size = item->meta.delta_size;
  for (uint32_t i = 0; i < FIELD_COUNT; i++)
    if (item->fields[i] && host->meta_set(meta, i, slice(item->fields[i]), err) < 0)
      return -1;
  for (size_t i = 0; item->pairs[2 * i]; i++) {
    struct dg_slice name = slice(item->pairs[2 * i]), value = slice(item->pairs[2 * i + 1]);

    if ((i < item->meta.user_count ? host->meta_add_user(meta, name, value, err)
                                   : host->meta_add_extension(meta, name, value, err)) < 0)
      return -1;
  }
  return 0;
}

/* ---- Life ------------------------------------------------------------------------- */

static int hello_create(const struct dg_host *host, const struct dg_config *config,
                        void **ret_self, struct dg_error *err)
{
  struct hello *hello = calloc(1, sizeof *hello);

  if (!hello)
    return dg_fail(err, DG_E_INTERNAL, "out of memory");
  hello->host = host;
  host->log(host, DG_LOG_INFO, "hello.started", config->get_text(config, "greeting"));
  *ret_self = hello;
  return 0;
}

static void hello_destroy(void *self)
{
  struct hello *hello = self;

  if (!hello)
    return;
  for (size_t i = 0; i < hello->item_count; i++)
    item_free(hello->items[i]);
  free(hello->items);
  while (hello->buckets) {
    struct bucket *next = hello->buckets->next;

    free(hello->buckets->name);
    free(hello->buckets);
    hello->buckets = next;
  }
  free(hello);
}

static int hello_probe(void *self, const struct dg_call *call, struct dg_error *err)
{
  (void)self, (void)call, (void)err;
  return 0;
}

/* ---- Buckets ------------------------------------------------------------------------ */

static int hello_bucket_create(void *self, const struct dg_call *call, struct dg_slice name,
                               struct dg_error *err)
{
  struct bucket **link = find_bucket(self, name), *bucket;

  (void)call;
  if (*link && !compare(slice((*link)->name), name))
    return dg_fail(err, DG_E_BUCKET_EXISTS, "bucket '%.*s' exists", (int)name.len, name.data);
  bucket = must(calloc(1, sizeof *bucket));
  bucket->name = copy(name);
  bucket->next = *link;
  *link = bucket;
  return 0;
}

static int hello_bucket_head(void *self, const struct dg_call *call, struct dg_slice name,
                             struct dg_error *err)
{
  (void)call;
  return has_bucket(self, name, err);
}

static void drop_item(struct hello *hello, size_t at)
{
  item_free(hello->items[at]);
  hello->item_count--;
  memmove(&hello->items[at], &hello->items[at + 1],
          (hello->item_count - at) * sizeof hello->items[0]);
}

static int hello_bucket_delete(void *self, const struct dg_call *call, struct dg_slice name,
                               struct dg_error *err)
{
  struct hello *hello = self;
  struct bucket **link, *bucket;
  struct dg_slice none = {NULL, 0};
  size_t first = lower_bound(hello, name, none, 0), at;

  (void)call;
  if (has_bucket(hello, name, err) < 0)
    return -1;
  for (at = first; at < hello->item_count && !compare(slice(hello->items[at]->bucket), name); at++)
    if (hello->items[at]->variant != DG_VARIANT_REFERENCE)
      return dg_fail(err, DG_E_BUCKET_NOT_EMPTY, "bucket '%.*s' holds objects", (int)name.len,
                     name.data);
  while (at-- > first)
    drop_item(hello, at); /* references alone do not count */
  link = find_bucket(hello, name);
  bucket = *link;
  *link = bucket->next;
  free(bucket->name);
  free(bucket);
  return 0;
}

static int hello_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                             void *receiver, struct dg_error *err)
{
  struct hello *hello = self;

  (void)call, (void)err;
  for (struct bucket *bucket = hello->buckets; bucket; bucket = bucket->next) {
    struct dg_bucket_row out = {.struct_size = sizeof out, .name = slice(bucket->name)};

    if (row(receiver, &out) != 0)
      break;
  }
  return 0;
}

/* ---- Reading -------------------------------------------------------------------------- */

struct hello_reader {
  struct dg_reader reader; /* first */
  struct blob *blob;
  size_t at, end;
};

static int reader_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct hello_reader *r = (struct hello_reader *)reader;
  size_t len = r->end - r->at < capacity ? r->end - r->at : capacity;

  (void)err;
  if (len > 0)
    memcpy(buffer, r->blob->data + r->at, len);
  r->at += len;
  *ret_len = len;
  return 0;
}

static void reader_close(struct dg_reader *reader)
{
  struct hello_reader *r = (struct hello_reader *)reader;

  blob_unref(r->blob);
  free(r);
}

static const struct dg_reader_ops reader_ops = {
  .struct_size = sizeof reader_ops,
  .read = reader_read,
  .close = reader_close,
};

static int open_blob(struct blob *blob, struct dg_range range, struct dg_reader **ret_reader,
                     struct dg_error *err)
{
  struct hello_reader *r;
  uint64_t left;

  left = range.offset < blob->len ? blob->len - range.offset : 0;
  if (range.offset > blob->len || (left == 0 && range.length != 0 && range.length != DG_TO_END))
    return dg_fail(err, DG_E_INVALID_RANGE, "the range begins past the end");
  if (range.length > left)
    range.length = left;
  r = must(calloc(1, sizeof *r));
  r->reader.ops = &reader_ops;
  r->blob = blob;
  r->at = (size_t)range.offset;
  r->end = (size_t)(range.offset + range.length);
  blob->refs++;
  *ret_reader = &r->reader;
  return 0;
}

static int no_such_key(struct hello *hello, const struct dg_item *name, struct dg_error *err)
{
  if (has_bucket(hello, name->bucket, err) < 0)
    return -1;
  return dg_fail(err, DG_E_NO_SUCH_KEY, "no key '%.*s'", (int)name->key.len, name->key.data);
}

static int hello_head(void *self, const struct dg_call *call, const struct dg_item *name,
                      struct dg_meta *meta, struct dg_error *err)
{
  const struct item *item = find(self, name);

  (void)call;
  return item ? give_meta(self, item, meta, err) : no_such_key(self, name, err);
}

static int hello_get(void *self, const struct dg_call *call, const struct dg_item *name,
                     struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
                     struct dg_error *err)
{
  const struct item *item = find(self, name);

  (void)call;
  if (!item)
    return no_such_key(self, name, err);
  if (give_meta(self, item, meta, err) < 0)
    return -1;
  return open_blob(item->blob, range, ret_reader, err);
}

/* ---- Writing ---------------------------------------------------------------------------- */

struct hello_writer {
  struct dg_writer writer; /* first */
  struct hello *hello;
  struct blob *blob;
  size_t capacity;
};

static int writer_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct hello_writer *w = (struct hello_writer *)writer;

  /* A reader from read_back() may share the bytes: it knows its own end, and
   * the host lets it end before the next write. */
  if (len > w->capacity - w->blob->len) {
    size_t wanted = 2 * w->capacity + len;
    char *grown = realloc(w->blob->data, wanted);

    if (!grown)
      return dg_fail(err, DG_E_NO_SPACE, "out of memory");
    w->blob->data = grown;
    w->capacity = wanted;
  }
  memcpy(w->blob->data + w->blob->len, data, len);
  w->blob->len += len;
  return 0;
}

static void writer_abort(struct dg_writer *writer)
{
  struct hello_writer *w = (struct hello_writer *)writer;

  blob_unref(w->blob);
  free(w);
}

static int writer_commit(struct dg_writer *writer, const struct dg_item *name,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct hello_writer *w = (struct hello_writer *)writer;
  struct hello *hello = w->hello;
  size_t at = lower_bound(hello, name->bucket, name->key, name->variant);
  struct item *item;

  if (has_bucket(hello, name->bucket, err) < 0) {
    writer_abort(writer);
    return -1;
  }
  item = must(calloc(1, sizeof *item));
  item->bucket = copy(name->bucket);
  item->key = copy(name->key);
  item->variant = name->variant;
  item->blob = w->blob;
  keep_meta(item, meta);
  ret_result->stored_size = item->blob->len;
  if (at < hello->item_count &&
      !compare_item(hello->items[at], name->bucket, name->key, name->variant)) {
    item_free(hello->items[at]);
  } else {
    if (hello->item_count == hello->item_capacity) {
      hello->item_capacity = 2 * hello->item_capacity + 16;
      hello->items = must(realloc(hello->items, hello->item_capacity * sizeof hello->items[0]));
    }
    memmove(&hello->items[at + 1], &hello->items[at],
            (hello->item_count - at) * sizeof hello->items[0]);
    hello->item_count++;
  }
  hello->items[at] = item;
  free(w);
  return 0;
}

static int writer_read_back(struct dg_writer *writer, struct dg_reader **ret_reader,
                            struct dg_error *err)
{
  struct dg_range whole = {0, DG_TO_END};

  return open_blob(((struct hello_writer *)writer)->blob, whole, ret_reader, err);
}

static const struct dg_writer_ops writer_ops = {
  .struct_size = sizeof writer_ops,
  .write = writer_write,
  .commit = writer_commit,
  .abort = writer_abort,
  .read_back = writer_read_back,
};

static int hello_put(void *self, const struct dg_call *call, const struct dg_item *name,
                     uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err)
{
  struct hello_writer *w;

  (void)call, (void)size_hint;
  if (has_bucket(self, name->bucket, err) < 0)
    return -1;
  w = must(calloc(1, sizeof *w));
  w->writer.ops = &writer_ops;
  w->hello = self;
  w->blob = must(calloc(1, sizeof *w->blob));
  w->blob->refs = 1;
  *ret_writer = &w->writer;
  return 0;
}

static int hello_remove(void *self, const struct dg_call *call, const struct dg_item *name,
                        struct dg_error *err)
{
  struct hello *hello = self;

  (void)call;
  if (!find(hello, name))
    return no_such_key(hello, name, err);
  drop_item(hello, lower_bound(hello, name->bucket, name->key, name->variant));
  return 0;
}

/* ---- Listing ------------------------------------------------------------------------------ */

/* The common prefix of key under the delimiter, or an empty slice. */
static struct dg_slice common_prefix(struct dg_slice key, const struct dg_list_request *request)
{
  struct dg_slice none = {NULL, 0};

  for (size_t i = request->prefix.len;
       request->delimiter.len > 0 && i + request->delimiter.len <= key.len; i++)
    if (!memcmp(key.data + i, request->delimiter.data, request->delimiter.len)) {
      struct dg_slice prefix = {key.data, i + request->delimiter.len};

      return prefix;
    }
  return none;
}

/* One row for an item. 1: the receiver wants no more. */
static int give_row(struct hello *hello, const struct item *item, uint32_t flags,
                    dg_list_row_fn row, void *receiver, struct dg_error *err)
{
  struct dg_list_row out = {
    .struct_size = sizeof out, .type = DG_ROW_OBJECT, .key = slice(item->key)};
  struct dg_meta meta = {.struct_size = sizeof meta,
                         .variant = item->variant,
                         .file_size = item->meta.file_size,
                         .stored_size = item->blob->len,
                         .created_at_s = item->meta.created_at_s,
                         .created_at_ns = item->meta.created_at_ns};

  (void)hello, (void)err;
  /* A row's metadata is ours: we point into the item, nothing is copied. */
  if (!(flags & DG_LIST_NO_META)) {
    if (item->fields[DG_FIELD_MD5])
      meta.md5 = slice(item->fields[DG_FIELD_MD5]);
    if (item->fields[DG_FIELD_FILE_SHA256])
      meta.file_sha256 = slice(item->fields[DG_FIELD_FILE_SHA256]);
    if (item->fields[DG_FIELD_MULTIPART_ETAG])
      meta.multipart_etag = slice(item->fields[DG_FIELD_MULTIPART_ETAG]);
    out.meta = &meta;
  }
  return row(receiver, &out) != 0;
}

static int hello_list(void *self, const struct dg_call *call,
                      const struct dg_list_request *request, dg_list_row_fn row, void *receiver,
                      struct dg_error *err)
{
  struct hello *hello = self;
  struct dg_slice last = {NULL, 0}; /* the prefix given last */
  size_t at = lower_bound(hello, request->bucket, request->prefix, 0);

  (void)call;
  if (has_bucket(hello, request->bucket, err) < 0)
    return -1;
  for (; at < hello->item_count; at++) {
    const struct item *item = hello->items[at];
    struct dg_slice key = slice(item->key), prefix;

    if (compare(slice(item->bucket), request->bucket) != 0 || !begins_with(key, request->prefix))
      break;
    if (item->variant == DG_VARIANT_REFERENCE && !(request->flags & DG_LIST_REFERENCES))
      continue;
    prefix = common_prefix(key, request);
    if (request->start_after.len > 0 &&
        (compare(key, request->start_after) <= 0 ||
         (prefix.len > 0 && !compare(prefix, request->start_after))))
      continue;
    if (prefix.len > 0) {
      struct dg_list_row out = {
        .struct_size = sizeof out, .type = DG_ROW_PREFIX, .key = prefix};

      if (last.len > 0 && !compare(prefix, last))
        continue;
      last = prefix;
      if (row(receiver, &out) != 0)
        break;
    } else if (give_row(hello, item, request->flags, row, receiver, err) != 0) {
      break;
    }
  }
  return 0;
}

/* ---- The plugin ------------------------------------------------------------------------------ */

static const struct dg_option options[] = {
  {.name = "greeting",
   .type = DG_OPT_STRING,
   .dflt = "hello",
   .help = "What it says in the log when it starts."},
  {.name = NULL},
};

static const struct dg_backend_ops ops = {
  .struct_size = sizeof ops,
  .caps = DG_CAP_PUT_ATOMIC | DG_CAP_LATE_NAME | DG_CAP_READ_BACK,
  .create = hello_create,
  .destroy = hello_destroy,
  .bucket_create = hello_bucket_create,
  .bucket_delete = hello_bucket_delete,
  .bucket_head = hello_bucket_head,
  .bucket_list = hello_bucket_list,
  .head = hello_head,
  .get = hello_get,
  .put = hello_put,
  .remove = hello_remove,
  .list = hello_list,
  .probe = hello_probe,
};

static const struct dg_plugin plugin = {
  .struct_size = sizeof plugin,
  .abi_major = DG_ABI_MAJOR,
  .abi_minor = DG_ABI_MINOR,
  .kind = DG_KIND_BACKEND,
  .threads = DG_THREADS_SERIAL,
  .name = "backend-hello",
  .version = "1.0",
  .summary = "Objects in memory, as an example.",
  .options = options,
  .ops = &ops,
};

DG_PLUGIN_ENTRY(backend_hello, plugin)
