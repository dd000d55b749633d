/* SPDX-License-Identifier: Apache-2.0 */
/* What every backend must do with buckets and single items; listings are in
 * backend-list.c, uploads in backend-upload.c. */
#include "config.h"

#include "common/checksum.h"
#include "common/hex.h"
#include "common/meta.h"
#include "core/plug/backend.h"
#include "tests/contract/backend.h"
#include "tests/contract/contract.h"

#include <unistd.h>

#include "common/banned.h"

const struct dg_call contract_call = {.struct_size = sizeof contract_call};

#define call (&contract_call)

struct dg_slice contract_slice(const char *text)
{
  return (struct dg_slice){text, strlen(text)};
}

struct dg_item contract_item(const char *bucket, const char *key, uint32_t variant)
{
  return (struct dg_item){
    .bucket = contract_slice(bucket), .key = contract_slice(key), .variant = variant};
}

static void set_digest(struct dg_meta *meta, uint32_t field, uint32_t kind, const void *data,
                       size_t len)
{
  struct dg_checksum sum = {0};
  uint8_t digest[DG_SUM_MAX_BYTES];
  char hex[2 * DG_SUM_MAX_BYTES + 1];
  struct dg_error err = {0};

  dg_checksum_init(&sum, kind);
  dg_checksum_update(&sum, data, len);
  len = dg_checksum_final(&sum, digest);
  dg_hex_encode(digest, len, hex);
  dg_checksum_clear(&sum);
  (void)dg_meta_set(meta, field, contract_slice(hex), &err);
}

/* Metadata with every field that fits the variant. The digests are those of
 * data, which a backend may have its storage verify. Free with
 * dg_meta_unref(). */
static struct dg_meta *full_meta(uint32_t variant, const void *data, size_t size)
{
  static const char hash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};

  meta->variant = variant;
  meta->file_size = size;
  meta->created_at_s = 1700000000;
  meta->created_at_ns = 123456789;
  (void)dg_meta_set(meta, DG_FIELD_TOOL, DG_SLICE("contract/1.0"), &err);
  (void)dg_meta_set(meta, DG_FIELD_ORIGINAL_NAME, DG_SLICE("app.zip"), &err);
  set_digest(meta, DG_FIELD_FILE_SHA256, DG_SUM_SHA256, data, size);
  set_digest(meta, DG_FIELD_MD5, DG_SUM_MD5, data, size);
  (void)dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, DG_SLICE("application/x-\"q\""), &err);
  (void)dg_meta_add_user(meta, DG_SLICE("colour"), DG_SLICE("gr\xc3\xbcn"), &err);
  (void)dg_meta_add_user(meta, DG_SLICE("empty"), DG_SLICE(""), &err);
  (void)dg_meta_add_extension(meta, DG_SLICE("cache-control"), DG_SLICE("no-store"), &err);
  if (variant == DG_VARIANT_DELTA) {
    meta->delta_size = size / 2;
    (void)dg_meta_set(meta, DG_FIELD_REF_PATH, DG_SLICE("reference.bin"), &err);
    (void)dg_meta_set(meta, DG_FIELD_REF_SHA256, contract_slice(hash), &err);
    (void)dg_meta_set(meta, DG_FIELD_DELTA_CMD, DG_SLICE("xdelta3 -e"), &err);
  }
  if (variant == DG_VARIANT_REFERENCE)
    (void)dg_meta_set(meta, DG_FIELD_SOURCE_NAME, DG_SLICE("a/app.zip"), &err);
  return meta;
}

int contract_put(struct contract *contract, struct dg_backend *backend, const struct dg_item *item,
                 const void *data, size_t len)
{
  struct dg_meta *meta = full_meta(item->variant, data, len);
  struct dg_commit_result result = {0};
  struct dg_writer *writer = NULL;
  struct dg_error err = {0};
  size_t sent = 0;
  int status;

  status = dg_backend_put(backend, call, item, len, &writer, &err);
  for (size_t step = 1; status == 0 && sent < len; step = step * 3 + 1) {
    size_t part = MIN(step, len - sent);

    status = dg_writer_write(writer, (const char *)data + sent, part, &err);
    sent += part;
    if (status < 0)
      dg_writer_abort(writer);
  }
  if (status == 0)
    status = dg_writer_commit(writer, item, meta, &result, &err);
  dg_meta_unref(meta);
  CONTRACT_INT(contract, status == 0, "put of %zu bytes as '%.*s' failed: %s", len,
               (int)item->key.len, item->key.data, err.detail);
  CONTRACT_INT(contract, result.stored_size == len, "commit reports %llu stored bytes of %zu",
               (unsigned long long)result.stored_size, len);
  return 0;
}

int contract_expect(struct contract *contract, struct dg_backend *backend,
                    const struct dg_item *item, const void *data, size_t len)
{
  struct dg_meta *meta = dg_meta_new();
  g_autofree char *buffer = g_malloc(len + 2);
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};
  size_t got = 0;
  int status =
    dg_backend_get(backend, call, item, (struct dg_range){0, DG_TO_END}, meta, &reader, &err);
  uint64_t stored = meta->stored_size;

  if (status == 0) {
    status = dg_reader_read_full(reader, buffer, len + 1, &got, &err);
    dg_reader_close(reader);
  }
  dg_meta_unref(meta);
  CONTRACT_INT(contract, status == 0, "get of '%.*s' failed: %s", (int)item->key.len,
               item->key.data, err.detail);
  CONTRACT_INT(contract, got == len, "get of '%.*s' gave %zu bytes of %zu", (int)item->key.len,
               item->key.data, got, len);
  CONTRACT_INT(contract, stored == len, "its metadata says %llu stored bytes of %zu",
               (unsigned long long)stored, len);
  CONTRACT_INT(contract, len == 0 || !memcmp(buffer, data, len), "'%.*s' has other bytes",
               (int)item->key.len, item->key.data);
  return 0;
}

int contract_expect_error(struct contract *contract, struct dg_backend *backend,
                          const struct dg_item *item, int32_t code)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_reader *reader = NULL;
  struct dg_error head_err = {0}, get_err = {0};
  int head = dg_backend_head(backend, call, item, meta, &head_err), get;

  dg_meta_clear(meta);
  get = dg_backend_get(backend, call, item, (struct dg_range){0, DG_TO_END}, meta, &reader,
                       &get_err);
  dg_meta_unref(meta);
  if (get == 0)
    dg_reader_close(reader);
  CONTRACT_INT(contract, head < 0 && get < 0, "'%.*s' is there and should not be",
               (int)item->key.len, item->key.data);
  CONTRACT_INT(contract, head_err.code == code && get_err.code == code,
               "head and get fail with codes %d and %d instead of %d", head_err.code, get_err.code,
               code);
  CONTRACT_INT(contract, reader == NULL, "ret_reader was touched by a failed get");
  return 0;
}

/* ---- Buckets ------------------------------------------------------------------- */

static void buckets_live_and_die(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_slice bucket = DG_SLICE("contract-life");
  struct dg_error err = {0};

  CONTRACT(contract, dg_backend_bucket_head(backend, call, bucket, &err) < 0 &&
             err.code == DG_E_NO_SUCH_BUCKET,
           "head of a missing bucket: code %d", err.code);
  CONTRACT(contract, dg_backend_bucket_create(backend, call, bucket, &err) == 0, "create: %s",
           err.detail);
  CONTRACT(contract, dg_backend_bucket_head(backend, call, bucket, &err) == 0, "head: %s",
           err.detail);
  CONTRACT(contract, dg_backend_bucket_create(backend, call, bucket, &err) < 0 &&
             err.code == DG_E_BUCKET_EXISTS,
           "creating it twice: code %d", err.code);
  CONTRACT(contract, dg_backend_bucket_delete(backend, call, bucket, &err) == 0, "delete: %s",
           err.detail);
  CONTRACT(contract, dg_backend_bucket_delete(backend, call, bucket, &err) < 0 &&
             err.code == DG_E_NO_SUCH_BUCKET,
           "deleting it twice: code %d", err.code);
}

struct names {
  GPtrArray *list;
  guint stop_at;
};

static int32_t collect_bucket(void *receiver, const struct dg_bucket_row *row)
{
  struct names *names = receiver;

  g_ptr_array_add(names->list, g_strndup(row->name.data, row->name.len));
  return names->list->len >= names->stop_at;
}

static void buckets_are_listed_in_order(struct contract *contract, void *instance)
{
  static const char *const made[] = {"contract-ab", "contract-aa", "contract-ac.d"};
  struct dg_backend *backend = instance;
  struct names names = {g_ptr_array_new_with_free_func(g_free), G_MAXUINT};
  struct dg_error err = {0};
  g_autofree char *joined = NULL;
  guint seen;
  int status;

  for (size_t i = 0; i < G_N_ELEMENTS(made); i++)
    CONTRACT(contract, dg_backend_bucket_create(backend, call, contract_slice(made[i]), &err) == 0,
             "create: %s", err.detail);
  status = dg_backend_bucket_list(backend, call, collect_bucket, &names, &err);
  g_ptr_array_add(names.list, NULL);
  joined = g_strjoinv(" ", (char **)names.list->pdata);
  g_ptr_array_set_size(names.list, 0);
  names.stop_at = 1;
  if (status == 0)
    status = dg_backend_bucket_list(backend, call, collect_bucket, &names, &err);
  seen = names.list->len;
  g_ptr_array_unref(names.list);
  for (size_t i = 0; i < G_N_ELEMENTS(made); i++)
    (void)dg_backend_bucket_delete(backend, call, contract_slice(made[i]), &err);
  CONTRACT(contract, status == 0, "bucket_list: %s", err.detail);
  CONTRACT(contract, strstr(joined, "contract-aa contract-ab contract-ac.d"), "the order is: %s",
           joined);
  CONTRACT(contract, seen == 1, "a listing stopped after 1 row gave %u", seen);
}

static void a_bucket_with_objects_stays(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_slice bucket = DG_SLICE("contract-full");
  struct dg_item object = contract_item("contract-full", "a/b.zip", DG_VARIANT_PASSTHROUGH);
  struct dg_item reference = contract_item("contract-full", "a/", DG_VARIANT_REFERENCE);
  struct dg_error err = {0};

  CONTRACT(contract, dg_backend_bucket_create(backend, call, bucket, &err) == 0, "create: %s",
           err.detail);
  if (contract_put(contract, backend, &object, "x", 1) < 0 ||
      contract_put(contract, backend, &reference, "r", 1) < 0)
    return;
  CONTRACT(contract, dg_backend_bucket_delete(backend, call, bucket, &err) < 0 &&
             err.code == DG_E_BUCKET_NOT_EMPTY,
           "deleting a bucket with an object: code %d", err.code);
  CONTRACT(contract, dg_backend_remove(backend, call, &object, &err) == 0, "remove: %s",
           err.detail);
  CONTRACT(contract, dg_backend_bucket_delete(backend, call, bucket, &err) == 0,
           "a bucket that holds only references must be deletable: %s", err.detail);
}

/* ---- Items ------------------------------------------------------------------------ */

static void missing_things_have_their_codes(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item no_key = contract_item(CONTRACT_BUCKET, "missing", DG_VARIANT_PASSTHROUGH);
  struct dg_item no_bucket = contract_item("contract-none", "x", DG_VARIANT_PASSTHROUGH);
  struct dg_writer *writer = NULL;
  struct dg_error err = {0};
  int status;

  if (contract_expect_error(contract, backend, &no_key, DG_E_NO_SUCH_KEY) < 0)
    return;
  CONTRACT(contract, dg_backend_remove(backend, call, &no_key, &err) < 0 &&
             err.code == DG_E_NO_SUCH_KEY,
           "removing a missing key: code %d", err.code);
  status = dg_backend_put(backend, call, &no_bucket, 1, &writer, &err);
  if (status == 0) { /* allowed to notice at commit */
    struct dg_meta *meta = full_meta(DG_VARIANT_PASSTHROUGH, "x", 1);

    (void)dg_writer_write(writer, "x", 1, &err);
    status = dg_writer_commit(writer, &no_bucket, meta, NULL, &err);
    dg_meta_unref(meta);
  }
  CONTRACT(contract, status < 0 && err.code == DG_E_NO_SUCH_BUCKET,
           "a put into a missing bucket: status %d, code %d", status, err.code);
}

static void bytes_of_every_size_come_back(struct contract *contract, void *instance)
{
  static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 65536, 300001, 2u << 20};
  struct dg_backend *backend = instance;
  g_autofree uint8_t *data = g_malloc(2u << 20);

  for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
    struct dg_item item = contract_item(CONTRACT_BUCKET, "sizes/object", DG_VARIANT_PASSTHROUGH);
    struct dg_error err = {0};

    contract_bytes(data, sizes[i], (uint32_t)i + 1);
    if (contract_put(contract, backend, &item, data, sizes[i]) < 0 ||
        contract_expect(contract, backend, &item, data, sizes[i]) < 0)
      return;
    CONTRACT(contract, dg_backend_remove(backend, call, &item, &err) == 0, "remove: %s",
             err.detail);
    if (contract_expect_error(contract, backend, &item, DG_E_NO_SUCH_KEY) < 0)
      return;
  }
}

static bool same(struct dg_slice a, struct dg_slice b)
{
  return a.len == b.len && (a.len == 0 || !memcmp(a.data, b.data, a.len));
}

/* Compares what a backend gave back with what it was given. */
static void compare_meta(struct contract *contract, const struct dg_meta *a,
                         const struct dg_meta *b)
{
  CONTRACT(contract, a->variant == b->variant, "variant %u became %u", a->variant, b->variant);
  CONTRACT(contract, a->file_size == b->file_size, "file_size changed");
  CONTRACT(contract, a->created_at_s == b->created_at_s && a->created_at_ns == b->created_at_ns,
           "created_at changed");
  CONTRACT(contract, b->flags == 0, "flags %u on a good object", b->flags);
  CONTRACT(contract, a->delta_size == b->delta_size, "delta_size changed");
  CONTRACT(contract, same(a->tool, b->tool) && same(a->original_name, b->original_name) &&
             same(a->file_sha256, b->file_sha256) && same(a->md5, b->md5) &&
             same(a->content_type, b->content_type) && same(a->source_name, b->source_name) &&
             same(a->ref_path, b->ref_path) && same(a->ref_sha256, b->ref_sha256) &&
             same(a->delta_cmd, b->delta_cmd),
           "a text field changed");
  CONTRACT(contract, b->user_count == a->user_count && b->extension_count == a->extension_count,
           "%u client pairs became %u, %u extensions became %u", a->user_count, b->user_count,
           a->extension_count, b->extension_count);
  for (uint32_t i = 0; i < a->user_count; i++)
    CONTRACT(contract,
             same(a->user[i].value, dg_meta_user(b, a->user[i].name.data)),
             "the client's pair '%s' changed", a->user[i].name.data);
  CONTRACT(contract, same(dg_meta_extension(b, "cache-control"), DG_SLICE("no-store")),
           "an extension changed");
}

static void metadata_comes_back(struct contract *contract, void *instance)
{
  static const struct {
    const char *key;
    uint32_t variant;
  } items[] = {
    {"meta/app.zip", DG_VARIANT_PASSTHROUGH},
    {"meta/delta.zip", DG_VARIANT_DELTA},
    {"meta/", DG_VARIANT_REFERENCE},
  };
  struct dg_backend *backend = instance;

  for (size_t i = 0; i < G_N_ELEMENTS(items) && !contract->failure; i++) {
    struct dg_item item = contract_item(CONTRACT_BUCKET, items[i].key, items[i].variant);
    struct dg_meta *given = full_meta(items[i].variant, "hello", 5), *got = dg_meta_new();
    struct dg_error err = {0};

    if (contract_put(contract, backend, &item, "hello", 5) == 0) {
      if (dg_backend_head(backend, call, &item, got, &err) < 0)
        contract_fail(contract, "head: %s", err.detail);
      else
        compare_meta(contract, given, got);
    }
    dg_meta_unref(given);
    dg_meta_unref(got);
    (void)dg_backend_remove(backend, call, &item, &err);
  }
}

static void variants_of_a_key_are_apart(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item plain = contract_item(CONTRACT_BUCKET, "v/x.zip", DG_VARIANT_PASSTHROUGH);
  struct dg_item delta = contract_item(CONTRACT_BUCKET, "v/x.zip", DG_VARIANT_DELTA);
  struct dg_item reference = contract_item(CONTRACT_BUCKET, "v/", DG_VARIANT_REFERENCE);
  struct dg_error err = {0};

  if (contract_put(contract, backend, &plain, "plain", 5) < 0 ||
      contract_put(contract, backend, &delta, "delta!", 6) < 0 ||
      contract_put(contract, backend, &reference, "reference", 9) < 0 ||
      contract_expect(contract, backend, &plain, "plain", 5) < 0 ||
      contract_expect(contract, backend, &delta, "delta!", 6) < 0 ||
      contract_expect(contract, backend, &reference, "reference", 9) < 0)
    return;
  CONTRACT(contract, dg_backend_remove(backend, call, &plain, &err) == 0, "remove: %s",
           err.detail);
  if (contract_expect(contract, backend, &delta, "delta!", 6) < 0)
    return;
  (void)dg_backend_remove(backend, call, &delta, &err);
  (void)dg_backend_remove(backend, call, &reference, &err);
}

/* In one step or in two: the same as head() tells, one by one. */
static void expect_both(struct contract *contract, struct dg_backend *backend, const char *key,
                        uint32_t expected)
{
  static const uint32_t bits[] = {DG_FOUND_PASSTHROUGH, DG_FOUND_DELTA};
  static const uint32_t variants[] = {DG_VARIANT_PASSTHROUGH, DG_VARIANT_DELTA};
  struct dg_meta *metas[] = {dg_meta_new(), dg_meta_new()}, *alone = dg_meta_new();
  struct dg_error err = {0};
  uint32_t found = 99;

  if (dg_backend_head_both(backend, call, DG_SLICE(CONTRACT_BUCKET), contract_slice(key), metas[0],
                           metas[1], &found, &err) < 0)
    contract_fail(contract, "head_both: %s", err.detail);
  else if (found != expected)
    contract_fail(contract, "head_both of '%s' finds %u instead of %u", key, found, expected);
  for (size_t i = 0; i < 2 && !contract->failure; i++) {
    struct dg_item item = contract_item(CONTRACT_BUCKET, key, variants[i]);

    if (!(expected & bits[i]))
      continue;
    dg_meta_clear(alone);
    if (dg_backend_head(backend, call, &item, alone, &err) < 0)
      contract_fail(contract, "head: %s", err.detail);
    else
      compare_meta(contract, alone, metas[i]);
    if (!contract->failure && !same(alone->validator, metas[i]->validator))
      contract_fail(contract, "head_both and head have different validators");
  }
  dg_meta_unref(metas[0]);
  dg_meta_unref(metas[1]);
  dg_meta_unref(alone);
}

static void both_variants_are_found_at_once(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item plain = contract_item(CONTRACT_BUCKET, "both/x.zip", DG_VARIANT_PASSTHROUGH);
  struct dg_item delta = contract_item(CONTRACT_BUCKET, "both/x.zip", DG_VARIANT_DELTA);
  struct dg_error err = {0};

  expect_both(contract, backend, "both/x.zip", 0);
  if (contract_put(contract, backend, &plain, "plain", 5) == 0)
    expect_both(contract, backend, "both/x.zip", DG_FOUND_PASSTHROUGH);
  if (contract_put(contract, backend, &delta, "delta!", 6) == 0)
    expect_both(contract, backend, "both/x.zip", DG_FOUND_PASSTHROUGH | DG_FOUND_DELTA);
  (void)dg_backend_remove(backend, call, &plain, &err);
  if (!contract->failure)
    expect_both(contract, backend, "both/x.zip", DG_FOUND_DELTA);
  (void)dg_backend_remove(backend, call, &delta, &err);
}

static void ranges_are_exact(struct contract *contract, void *instance)
{
  static const struct {
    uint64_t offset, length;
    size_t expected;
  } ranges[] = {{0, 1, 1}, {0, DG_TO_END, 100000}, {99999, 1, 1}, {4095, 5000, 5000},
                {50000, DG_TO_END, 50000}, {99990, 500, 10}, {1, UINT64_MAX - 1, 99999}};
  struct dg_backend *backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "ranges", DG_VARIANT_PASSTHROUGH);
  g_autofree uint8_t *data = g_malloc(100000), *got = g_malloc(100001);
  struct dg_error err = {0};

  contract_bytes(data, 100000, 7);
  if (contract_put(contract, backend, &item, data, 100000) < 0)
    return;
  for (size_t i = 0; i < G_N_ELEMENTS(ranges); i++) {
    struct dg_range range = {ranges[i].offset, ranges[i].length};
    struct dg_meta *meta = dg_meta_new();
    struct dg_reader *reader = NULL;
    size_t len = 0;
    int status = dg_backend_get(backend, call, &item, range, meta, &reader, &err);

    if (status == 0)
      status = dg_reader_read_full(reader, got, 100001, &len, &err);
    dg_reader_close(reader);
    dg_meta_unref(meta);
    CONTRACT(contract, status == 0, "range at %llu: %s", (unsigned long long)range.offset,
             err.detail);
    CONTRACT(contract, len == ranges[i].expected && !memcmp(got, data + range.offset, len),
             "the range at %llu gave %zu bytes of %zu, or others",
             (unsigned long long)range.offset, len, ranges[i].expected);
  }
  for (int i = 0; i < 2; i++) {
    struct dg_range range = {i ? 100000 : 100001, 1};
    struct dg_meta *meta = dg_meta_new();
    struct dg_reader *reader = NULL;
    int status = dg_backend_get(backend, call, &item, range, meta, &reader, &err);

    dg_meta_unref(meta);
    if (status == 0)
      dg_reader_close(reader);
    CONTRACT(contract, status < 0 && err.code == DG_E_INVALID_RANGE,
             "a range past the end: status %d, code %d", status, err.code);
  }
  (void)dg_backend_remove(backend, call, &item, &err);
}

static void nothing_shows_before_commit_or_after_abort(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "late", DG_VARIANT_PASSTHROUGH);
  struct dg_writer *writer = NULL;
  struct dg_error err = {0};

  CONTRACT(contract, dg_backend_put(backend, call, &item, DG_TO_END, &writer, &err) == 0,
           "put: %s", err.detail);
  CONTRACT(contract, dg_writer_write(writer, "half", 4, &err) == 0, "write: %s", err.detail);
  if (contract_expect_error(contract, backend, &item, DG_E_NO_SUCH_KEY) < 0)
    return;
  dg_writer_abort(writer);
  (void)contract_expect_error(contract, backend, &item, DG_E_NO_SUCH_KEY);
}

static void an_overwrite_is_all_or_nothing(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "over", DG_VARIANT_PASSTHROUGH);
  g_autofree uint8_t *old = g_malloc(500000), *new = g_malloc(400000), *got = g_malloc(500001);
  struct dg_meta *meta = dg_meta_new();
  struct dg_reader *reader = NULL;
  struct dg_writer *writer = NULL;
  struct dg_error err = {0};
  size_t len = 0;
  int status;

  contract_bytes(old, 500000, 1);
  contract_bytes(new, 400000, 2);
  status = contract_put(contract, backend, &item, old, 500000);
  /* an aborted overwrite changes nothing */
  if (status == 0 && dg_backend_put(backend, call, &item, 4, &writer, &err) == 0) {
    (void)dg_writer_write(writer, "oops", 4, &err);
    dg_writer_abort(writer);
    status = contract_expect(contract, backend, &item, old, 500000);
  }
  /* a reader opened before sees the old object to its end */
  if (status == 0)
    status = dg_backend_get(backend, call, &item, (struct dg_range){0, DG_TO_END}, meta, &reader,
                            &err);
  if (status == 0)
    status = contract_put(contract, backend, &item, new, 400000);
  if (status == 0)
    status = dg_reader_read_full(reader, got, 500001, &len, &err);
  dg_reader_close(reader);
  dg_meta_unref(meta);
  CONTRACT(contract, status == 0, "%s", err.detail);
  CONTRACT(contract, len == 500000 && !memcmp(got, old, len),
           "a reader opened before the overwrite got %zu bytes, or mixed ones", len);
  if (contract_expect(contract, backend, &item, new, 400000) < 0)
    return;
  (void)dg_backend_remove(backend, call, &item, &err);
}

static void a_commit_may_choose_another_name(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item opened = contract_item(CONTRACT_BUCKET, "n/one.zip", DG_VARIANT_PASSTHROUGH);
  struct dg_item committed = contract_item(CONTRACT_BUCKET, "n/one.zip", DG_VARIANT_DELTA);
  struct dg_meta *meta = full_meta(DG_VARIANT_DELTA, "hello", 5);
  struct dg_writer *writer = NULL;
  struct dg_error err = {0};
  int status = dg_backend_put(backend, call, &opened, DG_TO_END, &writer, &err);

  if (status == 0 && dg_writer_write(writer, "hello", 5, &err) == 0)
    status = dg_writer_commit(writer, &committed, meta, NULL, &err);
  dg_meta_unref(meta);
  CONTRACT(contract, status == 0, "%s", err.detail);
  if (contract_expect(contract, backend, &committed, "hello", 5) < 0 ||
      contract_expect_error(contract, backend, &opened, DG_E_NO_SUCH_KEY) < 0)
    return;
  (void)dg_backend_remove(backend, call, &committed, &err);
}

static int put_if_absent(struct dg_backend *backend, const char *data, struct dg_error *err)
{
  struct dg_item item = contract_item(CONTRACT_BUCKET, "absent", DG_VARIANT_PASSTHROUGH);
  struct dg_meta *meta = full_meta(DG_VARIANT_PASSTHROUGH, data, strlen(data));
  struct dg_writer *writer = NULL;
  int status = dg_backend_put(backend, call, &item, strlen(data), &writer, err);

  if (status == 0)
    status = dg_writer_write(writer, data, strlen(data), err);
  item.flags = DG_ITEM_IF_ABSENT;
  if (status == 0)
    status = dg_writer_commit(writer, &item, meta, NULL, err);
  dg_meta_unref(meta);
  return status;
}

static void a_commit_may_demand_that_nothing_is_there(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "absent", DG_VARIANT_PASSTHROUGH);
  struct dg_error err = {0};

  CONTRACT(contract, put_if_absent(backend, "first", &err) == 0, "%s", err.detail);
  CONTRACT(contract, put_if_absent(backend, "second", &err) < 0 &&
             err.code == DG_E_PRECONDITION_FAILED,
           "over an object: code %d", err.code);
  if (contract_expect(contract, backend, &item, "first", 5) < 0)
    return;
  (void)dg_backend_remove(backend, call, &item, &err);
  CONTRACT(contract, put_if_absent(backend, "third", &err) == 0, "once it is gone: %s",
           err.detail);
  (void)dg_backend_remove(backend, call, &item, &err);
}

static void a_writer_reads_back(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "back", DG_VARIANT_PASSTHROUGH);
  struct dg_writer *writer = NULL;
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};
  char got[16];
  size_t len = 0;
  int status = dg_backend_put(backend, call, &item, DG_TO_END, &writer, &err);

  if (status == 0)
    status = dg_writer_write(writer, "hello", 5, &err);
  if (status == 0)
    status = dg_writer_read_back(writer, &reader, &err);
  if (status == 0)
    status = dg_reader_read_full(reader, got, sizeof got, &len, &err);
  dg_reader_close(reader);
  if (status == 0)
    status = dg_writer_write(writer, "!", 1, &err);
  if (status == 0) {
    struct dg_meta *meta = full_meta(DG_VARIANT_PASSTHROUGH, "hello!", 6);

    status = dg_writer_commit(writer, &item, meta, NULL, &err);
    dg_meta_unref(meta);
  }
  CONTRACT(contract, status == 0, "%s", err.detail);
  CONTRACT(contract, len == 5 && !memcmp(got, "hello", 5), "read_back gave other bytes");
  if (contract_expect(contract, backend, &item, "hello!", 6) < 0)
    return;
  (void)dg_backend_remove(backend, call, &item, &err);
}

static void validators_notice_every_change(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "valid", DG_VARIANT_PASSTHROUGH);
  struct dg_error err = {0};

  for (int round = 0; round < 20 && !contract->failure; round++) {
    struct dg_meta *meta = dg_meta_new();
    bool same_before = false, same_after = true;
    int status = contract_put(contract, backend, &item, round % 2 ? "aaaa" : "bbbb", 4);

    if (status == 0)
      status = dg_backend_head(backend, call, &item, meta, &err);
    if (status == 0)
      status = dg_backend_validate(backend, call, &item, meta->validator, &same_before, &err);
    /* the same size, at once: the clock alone may not tell */
    if (status == 0)
      status = contract_put(contract, backend, &item, round % 2 ? "AAAA" : "BBBB", 4);
    if (status == 0)
      status = dg_backend_validate(backend, call, &item, meta->validator, &same_after, &err);
    if (status < 0)
      contract_fail(contract, "%s", err.detail);
    else if (meta->validator.len == 0)
      contract_fail(contract, "head gave no validator");
    else if (!same_before || same_after)
      contract_fail(contract, "unchanged: %d, overwritten: %d", same_before, same_after);
    dg_meta_unref(meta);
  }
  (void)dg_backend_remove(backend, call, &item, &err);
}

static void readers_tell_their_file(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "file", DG_VARIANT_PASSTHROUGH);
  struct dg_meta *meta = dg_meta_new();
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};
  uint64_t offset = 0, length = 0;
  int32_t fd = -1;
  char got[4] = "";
  int status = contract_put(contract, backend, &item, "0123456789", 10);

  if (status == 0)
    status = dg_backend_get(backend, call, &item, (struct dg_range){3, 4}, meta, &reader, &err);
  if (status == 0)
    status = dg_reader_file_range(reader, &fd, &offset, &length, &err);
  dg_reader_close(reader);
  dg_meta_unref(meta);
  CONTRACT(contract, status == 0, "%s", err.detail);
  if (pread(fd, got, 4, (off_t)offset) != 4)
    contract_fail(contract, "its file cannot be read");
  (void)close(fd);
  CONTRACT(contract, length == 4 && !memcmp(got, "3456", 4),
           "the file range has %llu bytes, or others", (unsigned long long)length);
  (void)dg_backend_remove(backend, call, &item, &err);
}

static void metadata_alone_is_replaced(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "retag", DG_VARIANT_PASSTHROUGH);
  struct dg_meta *meta = full_meta(DG_VARIANT_PASSTHROUGH, "hello", 5), *got = dg_meta_new();
  struct dg_error err = {0};
  int status = contract_put(contract, backend, &item, "hello", 5);

  (void)dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, DG_SLICE("text/new"), &err);
  if (status == 0)
    status = dg_backend_set_meta(backend, call, &item, meta, &err);
  if (status == 0)
    status = dg_backend_head(backend, call, &item, got, &err);
  if (status < 0)
    contract_fail(contract, "%s", err.detail);
  else if (!same(got->content_type, DG_SLICE("text/new")))
    contract_fail(contract, "the content type did not change");
  dg_meta_unref(meta);
  dg_meta_unref(got);
  if (contract_expect(contract, backend, &item, "hello", 5) < 0)
    return;
  (void)dg_backend_remove(backend, call, &item, &err);
}

static void the_storage_probes_well(struct contract *contract, void *instance)
{
  struct dg_error err = {0};

  CONTRACT(contract, dg_backend_probe(instance, call, &err) == 0, "probe: %s", err.detail);
}

/* ---- Threads ------------------------------------------------------------------------ */

struct racer {
  struct dg_backend *backend;
  unsigned number;
  char failure[300];
};

/* Each thread works on keys of its own and on one all share. */
static gpointer race(gpointer receiver)
{
  struct racer *racer = receiver;
  struct contract quiet = {0};
  uint8_t data[5000];

  for (unsigned round = 0; round < 25 && !quiet.failure; round++) {
    g_autofree char *key = g_strdup_printf("race/%u/%u", racer->number, round % 5);
    struct dg_item own = contract_item(CONTRACT_BUCKET, key, DG_VARIANT_PASSTHROUGH);
    struct dg_item shared = contract_item(CONTRACT_BUCKET, "race/all", DG_VARIANT_PASSTHROUGH);
    struct dg_error err = {0};

    contract_bytes(data, sizeof data, racer->number * 1000 + round);
    if (contract_put(&quiet, racer->backend, &own, data, sizeof data) < 0 ||
        contract_expect(&quiet, racer->backend, &own, data, sizeof data) < 0 ||
        contract_put(&quiet, racer->backend, &shared, data, sizeof data) < 0)
      break;
    if (dg_backend_remove(racer->backend, call, &own, &err) < 0)
      contract_fail(&quiet, "remove: %s", err.detail);
  }
  if (quiet.failure)
    (void)g_strlcpy(racer->failure, quiet.failure, sizeof racer->failure);
  return NULL;
}

static void threads_do_not_disturb_each_other(struct contract *contract, void *instance)
{
  struct racer racers[4];
  GThread *threads[4];
  struct dg_item shared = contract_item(CONTRACT_BUCKET, "race/all", DG_VARIANT_PASSTHROUGH);
  struct dg_error err = {0};

  for (unsigned i = 0; i < 4; i++) {
    racers[i] = (struct racer){.backend = instance, .number = i};
    threads[i] = g_thread_new("race", race, &racers[i]);
  }
  for (unsigned i = 0; i < 4; i++)
    (void)g_thread_join(threads[i]);
  for (unsigned i = 0; i < 4; i++)
    CONTRACT(contract, !racers[i].failure[0], "%s", racers[i].failure);
  (void)dg_backend_remove(instance, call, &shared, &err);
}

/* ---- The suite -------------------------------------------------------------------------- */

static const struct contract_case cases[] = {
  {"buckets are made, found and removed", buckets_live_and_die, 0},
  {"buckets are listed in byte order", buckets_are_listed_in_order, 0},
  {"a bucket with objects is not removed, one with references is", a_bucket_with_objects_stays, 0},
  {"missing buckets and keys have their own errors", missing_things_have_their_codes, 0},
  {"objects of every size come back", bytes_of_every_size_come_back, 0},
  {"metadata comes back", metadata_comes_back, 0},
  {"the variants of a key are separate items", variants_of_a_key_are_apart, 0},
  {"both variants are found at once", both_variants_are_found_at_once, 0},
  {"ranges are exact", ranges_are_exact, 0},
  {"nothing shows before commit or after abort", nothing_shows_before_commit_or_after_abort, 0},
  {"an overwrite is all or nothing", an_overwrite_is_all_or_nothing, DG_CAP_PUT_ATOMIC},
  {"a commit may choose another name", a_commit_may_choose_another_name, DG_CAP_LATE_NAME},
  {"a commit may demand that nothing is there", a_commit_may_demand_that_nothing_is_there,
   DG_CAP_IF_ABSENT},
  {"a writer reads back what it wrote", a_writer_reads_back, DG_CAP_READ_BACK},
  {"validators notice every change", validators_notice_every_change, DG_CAP_VALIDATOR},
  {"readers tell their file", readers_tell_their_file, DG_CAP_LOCAL_FILE},
  {"the storage probes well", the_storage_probes_well, 0},
  {"threads do not disturb each other", threads_do_not_disturb_each_other, 0},
};

static const struct contract_case set_meta_case = {"metadata alone is replaced",
                                                   metadata_alone_is_replaced, 0};

/* A second instance over the same storage finds what the first one stored. */
static void objects_outlive_the_instance(struct contract *contract, void *instance)
{
  struct dg_backend **backend = instance;
  struct dg_item item = contract_item(CONTRACT_BUCKET, "durable", DG_VARIANT_PASSTHROUGH);
  struct dg_error err = {0};

  if (contract_put(contract, *backend, &item, "still here", 10) < 0)
    return;
  dg_backend_free(*backend);
  *backend = NULL;
  CONTRACT(contract, dg_backend_new(contract->module, "contract", contract->config,
                                    &contract->services, backend, &err) == 0,
           "the second create: %s", err.detail);
  (void)contract_expect(contract, *backend, &item, "still here", 10);
  (void)dg_backend_remove(*backend, call, &item, &err);
}

static const struct contract_case durable_case = {"objects outlive the instance",
                                                  objects_outlive_the_instance, DG_CAP_DURABLE};

void contract_backend(struct contract *contract)
{
  struct dg_backend *backend = NULL;
  struct dg_error err = {0};

  if (dg_backend_new(contract->module, "contract", contract->config, &contract->services, &backend,
                     &err) < 0 ||
      dg_backend_bucket_create(backend, call, DG_SLICE(CONTRACT_BUCKET), &err) < 0) {
    g_print("Bail out! %s\n", err.detail);
    contract->failed++;
    dg_backend_free(backend);
    return;
  }
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    contract_run(contract, &cases[i], backend, dg_backend_has(backend, cases[i].caps));
  contract_run(contract, &set_meta_case, backend, dg_backend_can_set_meta(backend));
  contract_backend_list(contract, backend);
  contract_backend_lease(contract);
  contract_backend_copy(contract, backend);
  contract_backend_notes(contract, backend);
  contract_backend_upload(contract, &backend);
  if (backend)
    contract_run(contract, &durable_case, &backend, dg_backend_has(backend, DG_CAP_DURABLE));
  if (backend)
    (void)dg_backend_bucket_delete(backend, call, DG_SLICE(CONTRACT_BUCKET), &err);
  dg_backend_free(backend);
}
