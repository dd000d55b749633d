/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing as the engine and the store see it: plaintext above, sealed bodies and
 * marks below, and every refusal in between. */
#include "config.h"

#include <check.h>
#include <stdlib.h>

#include "common/meta.h"
#include "common/slice.h"
#include "core/engine/sealed.h"
#include "core/plug/options.h"
#include "engine-double.h"
#include "plugins/crypt-aesgcm/aesgcm.h"

#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_KEY "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff"
#define ALL_CAPS \
  (DG_CAP_PUT_ATOMIC | DG_CAP_DURABLE | DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR)

static struct double_store *store;
static struct double_engine engine;
static struct dg_module *crypt_module;
static unsigned gets, heads;

/* What the next engine is opened with. */
static struct {
  bool crypt, seals;
  const char *key, *legacy_key, *seal_deltas;
} how;

static struct dg_backend *wrap(struct dg_backend *inner)
{
  struct dg_sealed_params params = {.inner = inner, .seals_writes = how.seals};
  struct dg_config *config = dg_config_new(dg_aes_plugin.options, "default");
  struct dg_error err = {0};

  if (how.crypt) {
    if (how.key)
      ck_assert_int_eq(dg_config_set(config, "key", how.key, &err), 0);
    if (how.legacy_key)
      ck_assert_int_eq(dg_config_set(config, "legacy_key", how.legacy_key, &err), 0);
    if (how.seal_deltas)
      ck_assert_int_eq(dg_config_set(config, "seal_deltas", how.seal_deltas, &err), 0);
    ck_assert_int_eq(dg_config_finish(config, &err), 0);
    ck_assert_msg(dg_crypt_new(crypt_module, "default", config, NULL, &params.crypt, &err) == 0,
                  "%s", err.detail);
  }
  dg_config_free(config);
  return dg_sealed_new(&params);
}

static void count(void *receiver, const char *instance, const char *op, int32_t error_code)
{
  (void)receiver, (void)instance, (void)error_code;
  gets += !strcmp(op, "get");
  heads += !strcmp(op, "head");
}

static const struct dg_plug_services services = {.count = count};

static void reopen(bool crypt, bool seals, const char *key)
{
  if (engine.engine)
    double_engine_close(&engine);
  how.crypt = crypt;
  how.seals = seals;
  how.key = key;
  double_engine_open(&engine, store, NULL);
}

static void setup(void)
{
  struct dg_error err = {0};

  double_settings_reset();
  double_settings.cache_bytes = 0; /* so that every read asks the store */
  double_settings.metadata_cache_bytes = 0;
  store = double_store_new(ALL_CAPS);
  memset(&how, 0, sizeof how);
  memset(&engine, 0, sizeof engine);
  double_wrap = wrap;
  double_services = &services;
  ck_assert_msg(dg_module_new(&dg_aes_plugin, "(linked)", &crypt_module, &err) == 0, "%s",
                err.detail);
  reopen(true, true, KEY);
}

static void teardown(void)
{
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  dg_module_free(crypt_module);
  double_store_free(store);
}

static void must_put(const char *key, GBytes *body, uint32_t variant)
{
  struct dg_put_result result;
  struct dg_error err = {0};

  ck_assert_msg(double_put(&engine, "b", key, body, &result, &err) == 0, "%s", err.detail);
  ck_assert_uint_eq(result.variant, variant);
}

static void must_get(const char *key, GBytes *body)
{
  struct dg_error err = {0};
  GBytes *got;

  ck_assert_msg(double_get(&engine, "b", key, &got, &err) == 0, "%s: %s", key, err.detail);
  ck_assert(g_bytes_equal(got, body));
  g_bytes_unref(got);
}

static void must_get_range(const char *key, GBytes *body, uint64_t offset, uint64_t length)
{
  g_autoptr(GBytes) part = g_bytes_new_from_bytes(body, offset, length);
  struct dg_error err = {0};
  GBytes *got;

  ck_assert_msg(double_get_range(&engine, "b", key, (struct dg_range){offset, length}, &got,
                                 &err) == 0,
                "%s: %s", key, err.detail);
  ck_assert(g_bytes_equal(got, part));
  g_bytes_unref(got);
}

static void must_fail(const char *key, uint64_t offset, uint64_t length, int32_t code,
                      const char *words)
{
  struct dg_error err = {0};
  GBytes *got;

  ck_assert_int_eq(double_get_range(&engine, "b", key, (struct dg_range){offset, length}, &got,
                                    &err),
                   -1);
  ck_assert_int_eq(err.code, code);
  ck_assert_msg(strstr(err.detail, words), "%s", err.detail);
}

static bool has_mark(const char *key, uint32_t variant, const char *algorithm)
{
  const struct dg_meta *meta = double_store_meta(store, "b", key, variant);

  ck_assert_ptr_nonnull(meta);
  return dg_slice_equal_str(dg_meta_user(meta, "dg-encrypted"), algorithm);
}

/* As a restore without attributes leaves an item: the same bytes, unmanaged. */
static void strip(const char *key, uint32_t variant)
{
  struct dg_backend *inner = NULL;
  struct dg_item item = {DG_SLICE("b"), dg_slice_str(key), variant, 0};
  struct dg_meta *bare = dg_meta_new(), *old = dg_meta_new();
  struct dg_reader *reader;
  struct dg_error err = {0};
  char *data = g_malloc(4 << 20);
  GBytes *body;
  size_t len;

  /* Without a crypt, but from the store itself. */
  double_wrap = NULL;
  double_engine_close(&engine);
  double_engine_open(&engine, store, NULL);
  inner = engine.backend;
  ck_assert_int_eq(dg_backend_get(inner, &double_call, &item, (struct dg_range){0, DG_TO_END}, old,
                                  &reader, &err),
                   0);
  ck_assert_int_eq(dg_reader_read_full(reader, data, 4 << 20, &len, &err), 0);
  dg_reader_close(reader);
  body = g_bytes_new_take(data, len);
  bare->flags = DG_META_UNMANAGED;
  bare->variant = variant;
  bare->file_size = bare->stored_size = len;
  bare->created_at_s = old->created_at_s;
  double_store_put(store, "b", key, variant, body, bare);
  g_bytes_unref(body);
  dg_meta_unref(bare);
  dg_meta_unref(old);
  double_wrap = wrap;
  reopen(how.crypt, how.seals, how.key);
}

#define STRIPPED "object body begins with chunked-encryption magic but metadata has no dg-encrypted"

/* ---- The common case --------------------------------------------------------------------- */

START_TEST(what_is_written_is_sealed_and_comes_back)
{
  g_autoptr(GBytes) plain = double_bytes(700000, 1), first = double_bytes(900000, 2);
  g_autoptr(GBytes) second = double_edit(first, 400000, 5000, 3);
  struct dg_object_info info;
  struct dg_error err = {0};

  must_put("a.bin", plain, DG_VARIANT_PASSTHROUGH);
  must_put("one.zip", first, DG_VARIANT_DELTA);
  must_put("two.zip", second, DG_VARIANT_DELTA);
  ck_assert(has_mark("a.bin", DG_VARIANT_PASSTHROUGH, "aes-256-gcm-chunked-v1"));
  ck_assert(has_mark("two.zip", DG_VARIANT_DELTA, "aes-256-gcm-chunked-v1"));
  ck_assert(has_mark("", DG_VARIANT_REFERENCE, "aes-256-gcm-chunked-v1"));
  must_get("a.bin", plain);
  must_get("one.zip", first);
  must_get("two.zip", second);
  must_get_range("a.bin", plain, 300000, 70000);
  must_get_range("two.zip", second, 399999, 7000);
  ck_assert_int_eq(dg_engine_head(engine.engine, &double_call, DG_SLICE("b"), DG_SLICE("a.bin"),
                                  &info, &err),
                   0);
  ck_assert_uint_eq(info.size_bytes, 700000);
  ck_assert_uint_eq(info.stored_bytes, 700000);
  ck_assert_uint_eq(info.meta->user_count, 0);
  ck_assert_uint_eq(dg_meta_extension(info.meta, "crypt-iv").len, 0);
  dg_object_info_clear(&info);
}
END_TEST

START_TEST(references_and_deltas_may_be_written_as_one_piece)
{
  g_autoptr(GBytes) first = double_bytes(1500000, 2);
  g_autoptr(GBytes) second = double_edit(first, 400000, 5000, 3);

  how.seal_deltas = "compatible";
  reopen(true, true, KEY);
  must_put("one.zip", first, DG_VARIANT_DELTA);
  must_put("two.zip", second, DG_VARIANT_DELTA);
  must_put("a.bin", first, DG_VARIANT_PASSTHROUGH);
  ck_assert(has_mark("two.zip", DG_VARIANT_DELTA, "aes-256-gcm-v1"));
  ck_assert(has_mark("", DG_VARIANT_REFERENCE, "aes-256-gcm-v1"));
  ck_assert(has_mark("a.bin", DG_VARIANT_PASSTHROUGH, "aes-256-gcm-chunked-v1"));
  must_get("two.zip", second);
  must_get_range("two.zip", second, 399999, 7000);
  how.seal_deltas = "streamed"; /* both are read, whatever is written */
  reopen(true, true, KEY);
  must_get("one.zip", first);
  must_put("three.zip", second, DG_VARIANT_DELTA);
  must_get("three.zip", second);
}
END_TEST

/* One get through the layer, counted below it. */
static void layer_get(struct dg_range range, GBytes *body, unsigned expected_gets)
{
  struct dg_item item = {DG_SLICE("b"), DG_SLICE("a.bin"), DG_VARIANT_PASSTHROUGH, 0};
  struct dg_meta *meta = dg_meta_new();
  struct dg_reader *reader;
  struct dg_error err = {0};
  g_autofree char *got = g_malloc(1 << 20);
  size_t len, length = MIN(range.length, g_bytes_get_size(body) - range.offset);

  gets = heads = 0;
  ck_assert_msg(dg_backend_get(engine.backend, &double_call, &item, range, meta, &reader, &err) ==
                  0,
                "%s", err.detail);
  ck_assert_int_eq(dg_reader_read_full(reader, got, 1 << 20, &len, &err), 0);
  dg_reader_close(reader);
  ck_assert_uint_eq(len, length);
  ck_assert_mem_eq(got, (const char *)g_bytes_get_data(body, NULL) + range.offset, len);
  ck_assert_uint_eq(meta->user_count, 0);
  ck_assert_uint_eq(gets, expected_gets);
  ck_assert_uint_eq(heads, 0);
  dg_meta_unref(meta);
}

START_TEST(a_get_is_one_request_below)
{
  g_autoptr(GBytes) body = double_bytes(700000, 1);

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  layer_get((struct dg_range){0, DG_TO_END}, body, 1);
  layer_get((struct dg_range){0, 10}, body, 1);
  layer_get((struct dg_range){100000, 200000}, body, 1);
  layer_get((struct dg_range){699999, 1}, body, 1);
  layer_get((struct dg_range){699000, 5000}, body, 1); /* past the end: cut */
  layer_get((struct dg_range){500000, DG_TO_END}, body, 1);
}
END_TEST

START_TEST(plain_objects_from_before_stay_readable)
{
  g_autoptr(GBytes) body = double_bytes(655370, 1);

  reopen(false, false, NULL);
  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  layer_get((struct dg_range){100, 10}, body, 1);
  reopen(true, true, KEY);
  layer_get((struct dg_range){0, DG_TO_END}, body, 1);
  layer_get((struct dg_range){100000, 1000}, body, 2);
  /* Where it would lie if sealed, there is nothing. */
  layer_get((struct dg_range){655365, 5}, body, 2);
  must_get("a.bin", body);
}
END_TEST

START_TEST(a_bad_range_is_one_in_any_form)
{
  struct dg_item item = {DG_SLICE("b"), DG_SLICE("a.bin"), DG_VARIANT_PASSTHROUGH, 0};
  g_autoptr(GBytes) body = double_bytes(70000, 1);
  struct dg_meta *meta = dg_meta_new();
  struct dg_reader *reader;
  struct dg_error err = {0};

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  for (uint64_t offset = 70000; offset < 300000; offset += 65000) {
    dg_meta_clear(meta);
    ck_assert_int_eq(dg_backend_get(engine.backend, &double_call, &item,
                                    (struct dg_range){offset, 5}, meta, &reader, &err),
                     -1);
    ck_assert_int_eq(err.code, DG_E_INVALID_RANGE);
  }
  dg_meta_unref(meta);
}
END_TEST

/* ---- Keys -------------------------------------------------------------------------------- */

START_TEST(without_a_key_metadata_is_told_and_bodies_are_refused)
{
  g_autoptr(GBytes) body = double_bytes(70000, 1), zip = double_bytes(90000, 2);
  struct dg_object_info info;
  struct dg_error err = {0};

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  must_put("one.zip", zip, DG_VARIANT_DELTA);
  reopen(false, false, NULL);
  must_fail("a.bin", 0, DG_TO_END, DG_E_INTERNAL,
            "object was encrypted with key id 'ba11f1de37ceed36', but this backend has NO "
            "encryption key configured. ");
  must_fail("a.bin", 5, 5, DG_E_INTERNAL, "has NO encryption key configured");
  must_fail("one.zip", 5, 5, DG_E_INTERNAL, "has NO encryption key configured");
  ck_assert_int_eq(dg_engine_head(engine.engine, &double_call, DG_SLICE("b"), DG_SLICE("a.bin"),
                                  &info, &err),
                   0);
  ck_assert_uint_eq(info.size_bytes, 70000);
  ck_assert_uint_eq(info.meta->user_count, 0);
  dg_object_info_clear(&info);
}
END_TEST

START_TEST(a_rotated_key_reads_old_and_new)
{
  g_autoptr(GBytes) body = double_bytes(70000, 1), other = double_bytes(80000, 2);

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  reopen(true, true, OTHER_KEY);
  must_fail("a.bin", 0, DG_TO_END, DG_E_INTERNAL, "(no legacy-shim match either)");
  how.legacy_key = KEY;
  reopen(true, true, OTHER_KEY);
  must_put("b.bin", other, DG_VARIANT_PASSTHROUGH);
  must_get("a.bin", body);
  must_get("b.bin", other);
  /* Off, but old bodies are still read. */
  reopen(true, false, NULL);
  must_get("a.bin", body);
  must_fail("b.bin", 0, DG_TO_END, DG_E_INTERNAL, "NO encryption key configured");
  must_put("c.bin", other, DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(double_store_meta(store, "b", "c.bin", DG_VARIANT_PASSTHROUGH)->user_count, 0);
}
END_TEST

START_TEST(without_a_key_nothing_is_written)
{
  g_autoptr(GBytes) body = double_bytes(70000, 1);
  struct dg_error err = {0};

  reopen(true, true, NULL);
  ck_assert_int_eq(double_put(&engine, "b", "a.bin", body, NULL, &err), -1);
  ck_assert_int_eq(err.code, DG_E_INTERNAL);
  ck_assert(!double_store_has(store, "b", "a.bin", DG_VARIANT_PASSTHROUGH));
}
END_TEST

START_TEST(a_seal_of_others_is_refused)
{
  g_autoptr(GBytes) body = double_bytes(70000, 1);
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err;

  meta->file_size = 70000;
  meta->variant = DG_VARIANT_PASSTHROUGH;
  (void)dg_meta_add_user(meta, DG_SLICE("dg-encrypted"), DG_SLICE("rot13"), &err);
  double_store_put(store, "b", "a.bin", DG_VARIANT_PASSTHROUGH, body, meta);
  dg_meta_unref(meta);
  must_fail("a.bin", 0, DG_TO_END, DG_E_INTERNAL, "object is encrypted as 'rot13'");
}
END_TEST

/* ---- Stripped, damaged, forged -------------------------------------------------------------- */

START_TEST(sealed_bytes_without_marks_are_never_served)
{
  g_autoptr(GBytes) body = double_bytes(700000, 1), first = double_bytes(900000, 2);
  g_autoptr(GBytes) second = double_edit(first, 400000, 5000, 3);

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  must_put("one.zip", first, DG_VARIANT_DELTA);
  must_put("two.zip", second, DG_VARIANT_DELTA);
  strip("a.bin", DG_VARIANT_PASSTHROUGH);
  must_fail("a.bin", 0, DG_TO_END, DG_E_CORRUPT, STRIPPED);
  must_fail("a.bin", 0, 2, DG_E_CORRUPT, STRIPPED);
  must_fail("a.bin", 300000, 5, DG_E_CORRUPT, STRIPPED);
  reopen(false, false, NULL); /* with no key at all, too */
  must_fail("a.bin", 0, DG_TO_END, DG_E_CORRUPT, STRIPPED);
  must_fail("a.bin", 300000, 5, DG_E_CORRUPT, STRIPPED);
  reopen(true, true, KEY);
  strip("one.zip", DG_VARIANT_DELTA);
  must_fail("one.zip", 5, 5, DG_E_CORRUPT, STRIPPED);
  strip("", DG_VARIANT_REFERENCE);
  must_fail("two.zip", 5, 5, DG_E_CORRUPT, STRIPPED);
}
END_TEST

START_TEST(marks_lost_from_managed_metadata_are_noticed)
{
  g_autoptr(GBytes) body = double_bytes(700000, 1);
  struct dg_meta *bare;

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  bare = dg_meta_copy(double_store_meta(store, "b", "a.bin", DG_VARIANT_PASSTHROUGH));
  strip("a.bin", DG_VARIANT_PASSTHROUGH);
  bare->user_count = 0;
  {
    struct dg_item item = {DG_SLICE("b"), DG_SLICE("a.bin"), DG_VARIANT_PASSTHROUGH, 0};
    struct dg_error err = {0};

    ck_assert_int_eq(dg_backend_set_meta(engine.backend, &double_call, &item, bare, &err), 0);
  }
  dg_meta_unref(bare);
  must_fail("a.bin", 0, DG_TO_END, DG_E_CORRUPT, STRIPPED);
  must_fail("a.bin", 300000, 5, DG_E_CORRUPT, STRIPPED);
}
END_TEST

START_TEST(a_clients_own_bytes_may_begin_with_the_magic)
{
  g_autofree char *data = g_malloc0(100000);
  GBytes *body;

  memcpy(data, "DGE1", 4);
  body = g_bytes_new_take(g_steal_pointer(&data), 100000);
  reopen(false, false, NULL);
  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  must_get("a.bin", body);
  must_get_range("a.bin", body, 70000, 10);
  g_bytes_unref(body);
}
END_TEST

START_TEST(unmanaged_objects_without_the_magic_are_served)
{
  g_autoptr(GBytes) body = double_bytes(300000, 9);
  struct dg_meta *meta = dg_meta_new();

  meta->flags = DG_META_UNMANAGED;
  meta->variant = DG_VARIANT_PASSTHROUGH;
  meta->file_size = 300000;
  double_store_put(store, "b", "a.bin", DG_VARIANT_PASSTHROUGH, body, meta);
  dg_meta_unref(meta);
  must_get("a.bin", body);
  must_get_range("a.bin", body, 0, 3);
  must_get_range("a.bin", body, 200000, 10);
  reopen(false, false, NULL);
  must_get("a.bin", body);
  must_get_range("a.bin", body, 200000, 10);
}
END_TEST

START_TEST(an_unmanaged_sealed_object_has_its_plaintext_size)
{
  g_autoptr(GBytes) body = double_bytes(300000, 9);
  struct dg_meta *meta;
  struct dg_object_info info;
  struct dg_error err = {0};

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  meta = (struct dg_meta *)(uintptr_t)double_store_meta(store, "b", "a.bin",
                                                        DG_VARIANT_PASSTHROUGH);
  meta->flags = DG_META_UNMANAGED;
  meta->file_size = meta->stored_size;
  meta->extension_count = 0;
  ck_assert_int_eq(dg_engine_head(engine.engine, &double_call, DG_SLICE("b"), DG_SLICE("a.bin"),
                                  &info, &err),
                   0);
  ck_assert_uint_eq(info.size_bytes, 300000);
  dg_object_info_clear(&info);
  must_get("a.bin", body);
  must_get_range("a.bin", body, 200000, 10);
}
END_TEST

START_TEST(a_flipped_bit_is_an_error_and_never_wrong_bytes)
{
  g_autoptr(GBytes) body = double_bytes(300000, 1);

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  double_store_flip(store, "b", "a.bin", DG_VARIANT_PASSTHROUGH, 200000);
  must_fail("a.bin", 0, DG_TO_END, DG_E_CORRUPT, "chunk 3 decryption failed");
  must_fail("a.bin", 199000, 5000, DG_E_CORRUPT, "chunk 3 decryption failed");
  must_get_range("a.bin", body, 0, 1000);
}
END_TEST

START_TEST(a_size_that_lies_is_refused)
{
  g_autoptr(GBytes) body = double_bytes(300000, 1);
  struct dg_meta *meta;

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  meta = (struct dg_meta *)(uintptr_t)double_store_meta(store, "b", "a.bin",
                                                        DG_VARIANT_PASSTHROUGH);
  meta->file_size = 200000;
  must_fail("a.bin", 0, DG_TO_END, DG_E_CORRUPT, "cannot hold");
}
END_TEST

/* ---- Metadata -------------------------------------------------------------------------------- */

static struct dg_meta *with_user(const char *name, const char *value)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err;

  ck_assert_int_eq(dg_meta_add_user(meta, dg_slice_str(name), dg_slice_str(value), &err), 0);
  return meta;
}

START_TEST(new_metadata_keeps_the_marks)
{
  g_autoptr(GBytes) body = double_bytes(300000, 1);
  struct dg_meta *meta = with_user("colour", "blue");
  struct dg_copy_request request = {.source_bucket = DG_SLICE("b"),
                                    .source_key = DG_SLICE("a.bin"),
                                    .bucket = DG_SLICE("b"),
                                    .key = DG_SLICE("a.bin"),
                                    .replace_metadata = true,
                                    .meta = meta};
  struct dg_put_result result;
  struct dg_error err = {0};
  int64_t modified_s;

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  ck_assert_msg(dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s, &err) ==
                  0,
                "%s", err.detail);
  ck_assert(has_mark("a.bin", DG_VARIANT_PASSTHROUGH, "aes-256-gcm-chunked-v1"));
  must_get("a.bin", body);
  must_get_range("a.bin", body, 200000, 10);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(a_copy_has_marks_of_its_own)
{
  g_autoptr(GBytes) body = double_bytes(300000, 1);
  struct dg_copy_request request = {.source_bucket = DG_SLICE("b"),
                                    .source_key = DG_SLICE("a.bin"),
                                    .bucket = DG_SLICE("b"),
                                    .key = DG_SLICE("c.bin")};
  struct dg_put_result result;
  struct dg_error err = {0};
  struct dg_slice a, c;
  int64_t modified_s;

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  ck_assert_int_eq(dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s,
                                  &err),
                   0);
  must_get("c.bin", body);
  a = dg_meta_extension(double_store_meta(store, "b", "a.bin", DG_VARIANT_PASSTHROUGH), "crypt-iv");
  c = dg_meta_extension(double_store_meta(store, "b", "c.bin", DG_VARIANT_PASSTHROUGH), "crypt-iv");
  ck_assert_uint_eq(a.len, 24);
  ck_assert_uint_eq(c.len, 24);
  ck_assert(!dg_slice_equal(a, c));
  ck_assert_uint_eq(double_store_meta(store, "b", "c.bin", DG_VARIANT_PASSTHROUGH)->user_count, 2);
  /* Copied where nothing is sealed, it carries none. */
  reopen(true, false, KEY);
  request.key = DG_SLICE("d.bin");
  ck_assert_int_eq(dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s,
                                  &err),
                   0);
  ck_assert_uint_eq(double_store_meta(store, "b", "d.bin", DG_VARIANT_PASSTHROUGH)->user_count, 0);
  ck_assert_uint_eq(
    dg_meta_extension(double_store_meta(store, "b", "d.bin", DG_VARIANT_PASSTHROUGH), "crypt-iv").len,
    0);
  must_get("d.bin", body);
}
END_TEST

START_TEST(a_failed_store_leaves_the_old_object)
{
  g_autoptr(GBytes) body = double_bytes(300000, 1), other = double_bytes(300000, 2);
  struct dg_error err = {0};

  must_put("a.bin", body, DG_VARIANT_PASSTHROUGH);
  for (uint64_t step = 1; step < 40; step++) {
    double_store_fail(store, step, DG_E_NO_SPACE, /* crash= */ false);
    if (double_put(&engine, "b", "a.bin", other, NULL, &err) == 0)
      break;
    ck_assert_int_eq(err.code, DG_E_NO_SPACE);
    double_store_fail(store, 0, 0, false);
    must_get("a.bin", body);
  }
  double_store_fail(store, 0, 0, false);
  must_get("a.bin", other);
}
END_TEST

static Suite *sealed_suite(void)
{
  Suite *suite = suite_create("engine sealed");
  TCase *cases = tcase_create("sealed");

  tcase_set_timeout(cases, 60);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, what_is_written_is_sealed_and_comes_back);
  tcase_add_test(cases, references_and_deltas_may_be_written_as_one_piece);
  tcase_add_test(cases, a_get_is_one_request_below);
  tcase_add_test(cases, plain_objects_from_before_stay_readable);
  tcase_add_test(cases, a_bad_range_is_one_in_any_form);
  tcase_add_test(cases, without_a_key_metadata_is_told_and_bodies_are_refused);
  tcase_add_test(cases, a_rotated_key_reads_old_and_new);
  tcase_add_test(cases, without_a_key_nothing_is_written);
  tcase_add_test(cases, a_seal_of_others_is_refused);
  tcase_add_test(cases, sealed_bytes_without_marks_are_never_served);
  tcase_add_test(cases, marks_lost_from_managed_metadata_are_noticed);
  tcase_add_test(cases, a_clients_own_bytes_may_begin_with_the_magic);
  tcase_add_test(cases, unmanaged_objects_without_the_magic_are_served);
  tcase_add_test(cases, an_unmanaged_sealed_object_has_its_plaintext_size);
  tcase_add_test(cases, a_flipped_bit_is_an_error_and_never_wrong_bytes);
  tcase_add_test(cases, a_size_that_lies_is_refused);
  tcase_add_test(cases, new_metadata_keeps_the_marks);
  tcase_add_test(cases, a_copy_has_marks_of_its_own);
  tcase_add_test(cases, a_failed_store_leaves_the_old_object);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(sealed_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
