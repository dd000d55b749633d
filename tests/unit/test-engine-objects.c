/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine promises about single objects, on doubles. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "engine-double.h"

#define FLEXIBLE (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;

static void setup(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  store = double_store_new(FLEXIBLE);
  double_engine_open(&engine, store, NULL);
}

static void teardown(void)
{
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
}

static void reopen(void)
{
  double_engine_close(&engine);
  double_engine_open(&engine, store, NULL);
}

#define assert_ok(call) ck_assert_msg((call) == 0, "%s", err.detail)
#define assert_code(call, expected)            \
  do {                                         \
    ck_assert_int_eq((call), -1);              \
    ck_assert_int_eq(err.code, (expected));    \
  } while (0)

static void assert_reads(const char *key, GBytes *body)
{
  g_autoptr(GBytes) got = NULL;

  assert_ok(double_get(&engine, "b", key, &got, &err));
  ck_assert(g_bytes_equal(got, body));
}

static void put_ok(const char *key, GBytes *body, uint32_t variant)
{
  struct dg_put_result result;

  assert_ok(double_put(&engine, "b", key, body, &result, &err));
  ck_assert_uint_eq(result.variant, variant);
  ck_assert_uint_eq(result.size_bytes, g_bytes_get_size(body));
}

START_TEST(what_was_put_is_read_back)
{
  const size_t sizes[] = {0, 1, 4095, 4096, 4097, 70000, 262144, 262145, 700000};

  for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
    g_autoptr(GBytes) body = double_bytes(sizes[i], (uint32_t)i);

    put_ok("plain.txt", body, DG_VARIANT_PASSTHROUGH);
    assert_reads("plain.txt", body);
    assert_reads("plain.txt", body); /* from the cache, if small */
  }
}
END_TEST

START_TEST(a_missing_key_and_a_missing_bucket_differ)
{
  GBytes *body;
  struct dg_object_info info;

  assert_code(double_get(&engine, "b", "nothing", &body, &err), DG_E_NO_SUCH_KEY);
  assert_code(double_get(&engine, "nope", "x", &body, &err), DG_E_NO_SUCH_BUCKET);
  assert_code(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("x"), &info,
                             &err),
              DG_E_NO_SUCH_KEY);
  body = double_bytes(10, 1);
  assert_code(double_put(&engine, "nope", "x", body, NULL, &err), DG_E_NO_SUCH_BUCKET);
  assert_code(double_put(&engine, "nope", "x.zip", body, NULL, &err), DG_E_NO_SUCH_BUCKET);
  assert_code(double_delete(&engine, "nope", "x", &err), DG_E_NO_SUCH_BUCKET);
  assert_ok(double_delete(&engine, "b", "x", &err));
  g_bytes_unref(body);
}
END_TEST

START_TEST(the_first_eligible_object_becomes_reference_and_delta)
{
  g_autoptr(GBytes) body = double_bytes(100000, 1);
  const struct dg_meta *delta, *reference;

  put_ok("rel/app-1.zip", body, DG_VARIANT_DELTA);
  ck_assert(!double_store_has(store, "b", "rel/app-1.zip", DG_VARIANT_PASSTHROUGH));
  delta = double_store_meta(store, "b", "rel/app-1.zip", DG_VARIANT_DELTA);
  reference = double_store_meta(store, "b", "rel/", DG_VARIANT_REFERENCE);
  ck_assert_ptr_nonnull(delta);
  ck_assert_ptr_nonnull(reference);
  ck_assert_str_eq(delta->ref_sha256.data, reference->file_sha256.data);
  ck_assert_str_eq(delta->ref_path.data, "reference.bin");
  ck_assert_str_eq(delta->original_name.data, "app-1.zip");
  ck_assert_str_eq(delta->delta_cmd.data,
                   "xdelta3 -e -9 -s reference.bin app-1.zip app-1.zip.delta");
  ck_assert_str_eq(reference->original_name.data, "__reference__");
  ck_assert_str_eq(reference->source_name.data, "rel/app-1.zip");
  ck_assert_uint_eq(delta->delta_size, delta->stored_size);
  ck_assert_uint_eq(delta->file_size, 100000);
  assert_reads("rel/app-1.zip", body);
}
END_TEST

START_TEST(a_later_version_is_a_delta_against_the_first)
{
  g_autoptr(GBytes) first = double_bytes(100000, 1);
  g_autoptr(GBytes) second = double_edit(first, 50000, 100, 1);
  g_autoptr(GBytes) range = NULL, expected = g_bytes_new_from_bytes(second, 49000, 9000);

  put_ok("rel/app-1.zip", first, DG_VARIANT_DELTA);
  put_ok("rel/app-2.zip", second, DG_VARIANT_DELTA);
  ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 1);
  assert_reads("rel/app-2.zip", second);
  reopen();
  assert_reads("rel/app-2.zip", second);
  assert_ok(double_get_range(&engine, "b", "rel/app-2.zip", (struct dg_range){49000, 9000}, &range,
                             &err));
  ck_assert(g_bytes_equal(range, expected));
}
END_TEST

START_TEST(large_deltas_are_read_by_window)
{
  g_autoptr(GBytes) first = double_bytes(3000000, 1);
  g_autoptr(GBytes) second = double_edit(first, 1000000, 1400000, 1);
  g_autoptr(GBytes) range = NULL, expected = g_bytes_new_from_bytes(second, 999000, 500000);

  put_ok("rel/app-1.zip", first, DG_VARIANT_DELTA);
  put_ok("rel/app-2.zip", second, DG_VARIANT_DELTA);
  reopen();
  assert_ok(double_get_range(&engine, "b", "rel/app-2.zip", (struct dg_range){999000, 500000},
                             &range, &err));
  ck_assert(g_bytes_equal(range, expected));
  assert_reads("rel/app-2.zip", second);
}
END_TEST

START_TEST(a_foreign_delta_is_verified_whole_before_its_first_byte)
{
  g_autoptr(GBytes) first = double_bytes(600000, 1);
  g_autoptr(GBytes) second = double_edit(first, 50000, 100, 1);
  g_autoptr(GBytes) range = NULL, expected = g_bytes_new_from_bytes(second, 49000, 9000);
  GBytes *body;

  put_ok("app-1.zip", first, DG_VARIANT_DELTA);
  put_ok("app-2.zip", second, DG_VARIANT_DELTA);
  double_codec.unverified = true;
  assert_reads("app-2.zip", second);
  assert_ok(
    double_get_range(&engine, "b", "app-2.zip", (struct dg_range){49000, 9000}, &range, &err));
  ck_assert(g_bytes_equal(range, expected));
  double_store_flip(store, "b", "app-2.zip", DG_VARIANT_DELTA, 8 + 36 * 147 + 2000);
  assert_code(double_get(&engine, "b", "app-2.zip", &body, &err), DG_E_CORRUPT);
}
END_TEST

START_TEST(a_version_unlike_the_reference_stays_as_it_is)
{
  g_autoptr(GBytes) first = double_bytes(100000, 1);
  g_autoptr(GBytes) other = double_bytes(120000, 2);

  put_ok("rel/app-1.zip", first, DG_VARIANT_DELTA);
  put_ok("rel/app-2.zip", other, DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 1);
  assert_reads("rel/app-2.zip", other);
}
END_TEST

START_TEST(the_ratio_decides_exactly)
{
  /* One literal window of four: header 8 + 4 * 36, code 1 + 4096 + 3. */
  const double delta_size = 8 + 4 * 36 + 4097 + 3;
  g_autoptr(GBytes) first = double_bytes(4 * DOUBLE_WINDOW, 1);
  g_autoptr(GBytes) second = double_edit(first, 0, 10, 1);

  double_settings.max_delta_ratio = delta_size / (4 * DOUBLE_WINDOW);
  reopen();
  put_ok("a-1.zip", first, DG_VARIANT_DELTA);
  put_ok("a-2.zip", second, DG_VARIANT_PASSTHROUGH); /* equal is not below */
  double_settings.max_delta_ratio = (delta_size + 1) / (4 * DOUBLE_WINDOW);
  reopen();
  put_ok("a-2.zip", second, DG_VARIANT_DELTA);
  assert_reads("a-2.zip", second);
}
END_TEST

START_TEST(an_object_too_small_to_gain_makes_no_reference)
{
  g_autoptr(GBytes) tiny = double_bytes(20, 1);

  put_ok("rel/tiny.zip", tiny, DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 0);
}
END_TEST

START_TEST(overwriting_leaves_exactly_one_variant)
{
  g_autoptr(GBytes) first = double_bytes(100000, 1);
  g_autoptr(GBytes) other = double_bytes(100000, 2);

  put_ok("a.zip", first, DG_VARIANT_DELTA);
  put_ok("a.zip", other, DG_VARIANT_PASSTHROUGH);
  ck_assert(!double_store_has(store, "b", "a.zip", DG_VARIANT_DELTA));
  assert_reads("a.zip", other);
  put_ok("a.zip", first, DG_VARIANT_DELTA);
  ck_assert(!double_store_has(store, "b", "a.zip", DG_VARIANT_PASSTHROUGH));
  assert_reads("a.zip", first);
}
END_TEST

static struct dg_meta *stored_meta(const char *key, uint32_t variant)
{
  return dg_meta_copy(double_store_meta(store, "b", key, variant));
}

START_TEST(of_two_variants_the_younger_is_served_and_a_tie_is_the_delta)
{
  g_autoptr(GBytes) first = double_bytes(50000, 1);
  g_autoptr(GBytes) other = double_bytes(50000, 2);
  struct dg_meta *delta, *plain;

  put_ok("a.zip", first, DG_VARIANT_DELTA);
  delta = stored_meta("a.zip", DG_VARIANT_DELTA);
  put_ok("x.txt", other, DG_VARIANT_PASSTHROUGH);
  plain = stored_meta("x.txt", DG_VARIANT_PASSTHROUGH);
  plain->created_at_s = delta->created_at_s;
  plain->created_at_ns = delta->created_at_ns;
  double_store_put(store, "b", "a.zip", DG_VARIANT_PASSTHROUGH, other, plain);
  reopen();
  assert_reads("a.zip", first);
  plain->created_at_s++;
  double_store_put(store, "b", "a.zip", DG_VARIANT_PASSTHROUGH, other, plain);
  reopen();
  assert_reads("a.zip", other);
  /* What replaces both is younger than both, whatever the clock says. */
  plain->created_at_s += 1000000;
  double_store_put(store, "b", "a.zip", DG_VARIANT_PASSTHROUGH, other, plain);
  put_ok("a.zip", first, DG_VARIANT_DELTA);
  ck_assert(!double_store_has(store, "b", "a.zip", DG_VARIANT_PASSTHROUGH));
  ck_assert_int_ge(double_store_meta(store, "b", "a.zip", DG_VARIANT_DELTA)->created_at_s,
                   plain->created_at_s);
  dg_meta_unref(delta);
  dg_meta_unref(plain);
}
END_TEST

START_TEST(the_last_delete_takes_the_reference_along)
{
  g_autoptr(GBytes) first = double_bytes(50000, 1);
  g_autoptr(GBytes) second = double_edit(first, 100, 10, 1);

  put_ok("rel/a-1.zip", first, DG_VARIANT_DELTA);
  put_ok("rel/a-2.zip", second, DG_VARIANT_DELTA);
  put_ok("rel/sub/note.txt", second, DG_VARIANT_PASSTHROUGH);
  assert_ok(double_delete(&engine, "b", "rel/a-1.zip", &err));
  ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 1);
  assert_reads("rel/a-2.zip", second);
  assert_ok(double_delete(&engine, "b", "rel/a-2.zip", &err));
  ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 0);
  assert_ok(double_delete(&engine, "b", "rel/a-2.zip", &err));
}
END_TEST

START_TEST(an_unanswered_question_about_the_reference_fails_the_put)
{
  g_autoptr(GBytes) first = double_bytes(50000, 1);
  uint64_t steps;

  put_ok("a-1.zip", first, DG_VARIANT_DELTA);
  steps = double_store_steps(store);
  double_store_fail_reference(store, DG_E_UNAVAILABLE);
  assert_code(double_put(&engine, "b", "a-2.zip", first, NULL, &err), DG_E_UNAVAILABLE);
  ck_assert_uint_eq(double_store_steps(store), steps);
}
END_TEST

START_TEST(a_reference_without_metadata_is_healed)
{
  g_autoptr(GBytes) first = double_bytes(50000, 1);
  struct dg_meta *bare = dg_meta_new();
  const struct dg_meta *healed;

  put_ok("a-1.zip", first, DG_VARIANT_DELTA);
  bare->flags = DG_META_UNMANAGED;
  bare->created_at_s = 42;
  double_store_put(store, "b", "", DG_VARIANT_REFERENCE, NULL, bare);
  reopen();
  put_ok("a-2.zip", first, DG_VARIANT_DELTA);
  healed = double_store_meta(store, "b", "", DG_VARIANT_REFERENCE);
  ck_assert_str_eq(healed->source_name.data, "__reference__");
  ck_assert_str_eq(healed->original_name.data, "__reference__");
  ck_assert_uint_eq(healed->file_size, 50000);
  ck_assert_str_eq(healed->file_sha256.data,
                   double_store_meta(store, "b", "a-1.zip", DG_VARIANT_DELTA)->ref_sha256.data);
  assert_reads("a-1.zip", first);
  dg_meta_unref(bare);
}
END_TEST

START_TEST(a_damaged_reference_never_gives_wrong_bytes)
{
  g_autoptr(GBytes) first = double_bytes(50000, 1);
  g_autoptr(GBytes) second = double_edit(first, 100, 10, 1);
  GBytes *body;

  put_ok("a-1.zip", first, DG_VARIANT_DELTA);
  put_ok("a-2.zip", second, DG_VARIANT_DELTA);
  double_store_flip(store, "b", "", DG_VARIANT_REFERENCE, 30000);
  reopen();
  assert_code(double_get(&engine, "b", "a-2.zip", &body, &err), DG_E_CORRUPT);
  /* A new version is kept safe on its own. */
  put_ok("a-3.zip", second, DG_VARIANT_PASSTHROUGH);
  assert_reads("a-3.zip", second);
  double_store_flip(store, "b", "", DG_VARIANT_REFERENCE, 30000);
  assert_reads("a-2.zip", second);
}
END_TEST

START_TEST(a_missing_reference_is_an_error_and_not_a_missing_object)
{
  g_autoptr(GBytes) first = double_bytes(50000, 1);
  GBytes *body;

  put_ok("a-1.zip", first, DG_VARIANT_DELTA);
  double_store_remove(store, "b", "", DG_VARIANT_REFERENCE);
  reopen();
  assert_code(double_get(&engine, "b", "a-1.zip", &body, &err), DG_E_CORRUPT);
}
END_TEST

START_TEST(damage_in_deltas_bodies_and_metadata_is_found)
{
  g_autoptr(GBytes) first = double_bytes(600000, 1);
  struct dg_meta *corrupt = dg_meta_new();
  GBytes *body;

  put_ok("a-1.zip", first, DG_VARIANT_DELTA);
  double_store_flip(store, "b", "a-1.zip", DG_VARIANT_DELTA, 100);
  assert_code(double_get(&engine, "b", "a-1.zip", &body, &err), DG_E_CORRUPT);

  put_ok("big.txt", first, DG_VARIANT_PASSTHROUGH);
  double_store_flip(store, "b", "big.txt", DG_VARIANT_PASSTHROUGH, 599999);
  assert_code(double_get(&engine, "b", "big.txt", &body, &err), DG_E_CORRUPT);

  corrupt->flags = DG_META_CORRUPT;
  double_store_put(store, "b", "big.txt", DG_VARIANT_PASSTHROUGH, NULL, corrupt);
  assert_code(double_get(&engine, "b", "big.txt", &body, &err), DG_E_CORRUPT);
  put_ok("big.txt", first, DG_VARIANT_PASSTHROUGH); /* and it can be replaced */
  assert_reads("big.txt", first);
  dg_meta_unref(corrupt);
}
END_TEST

static int copy_to(const char *source, const char *key)
{
  struct dg_copy_request request = {.source_bucket = double_str("b"),
                                    .source_key = double_str(source),
                                    .bucket = double_str("b"),
                                    .key = double_str(key)};
  struct dg_put_result result;
  int64_t modified_s;

  return dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s, &err);
}

START_TEST(whole_reads_of_bodies_at_rest_are_verified_as_configured)
{
  static const enum dg_verify_reads ways[] = {DG_VERIFY_AUTO, DG_VERIFY_ON, DG_VERIFY_OFF};
  g_autoptr(GBytes) first = double_bytes(600000, 1);

  put_ok("big.txt", first, DG_VARIANT_PASSTHROUGH);
  double_store_flip(store, "b", "big.txt", DG_VARIANT_PASSTHROUGH, 599999);
  for (size_t i = 0; i < G_N_ELEMENTS(ways); i++) {
    bool checked = ways[i] != DG_VERIFY_OFF;
    GBytes *body;

    double_settings.verify_passthrough_reads = ways[i];
    reopen();
    if (checked) {
      assert_code(double_get(&engine, "b", "big.txt", &body, &err), DG_E_CORRUPT);
      /* A copy would give the wrong bytes a digest of their own. */
      assert_code(copy_to("big.txt", "copy.txt"), DG_E_CORRUPT);
      ck_assert(!double_store_has(store, "b", "copy.txt", DG_VARIANT_PASSTHROUGH));
    } else {
      assert_ok(double_get(&engine, "b", "big.txt", &body, &err));
      ck_assert(!g_bytes_equal(body, first));
      g_bytes_unref(body);
    }
    if (ways[i] == DG_VERIFY_ON) {
      assert_code(double_get_range(&engine, "b", "big.txt", (struct dg_range){10, 10}, &body, &err),
                  DG_E_CORRUPT);
    } else {
      assert_ok(
        double_get_range(&engine, "b", "big.txt", (struct dg_range){599990, 10}, &body, &err));
      g_bytes_unref(body);
    }
  }
}
END_TEST

static void assert_range_good(const char *key)
{
  GBytes *body;

  assert_ok(double_get_range(&engine, "b", key, (struct dg_range){10, 10}, &body, &err));
  g_bytes_unref(body);
}

START_TEST(ranges_are_verified_once_for_each_version)
{
  g_autoptr(GBytes) first = double_bytes(600000, 1), second = double_bytes(600000, 2);
  GBytes *body;

  double_settings.verify_passthrough_reads = DG_VERIFY_ON;
  reopen();
  put_ok("one.txt", first, DG_VARIANT_PASSTHROUGH);
  put_ok("two.txt", first, DG_VARIANT_PASSTHROUGH);
  assert_range_good("one.txt");
  assert_ok(double_get(&engine, "b", "two.txt", &body, &err));
  g_bytes_unref(body);
  /* Nothing tells that these change, so they are not read whole again. */
  double_store_flip(store, "b", "one.txt", DG_VARIANT_PASSTHROUGH, 599999);
  double_store_flip(store, "b", "two.txt", DG_VARIANT_PASSTHROUGH, 599999);
  assert_range_good("one.txt");
  assert_range_good("two.txt");
  put_ok("one.txt", second, DG_VARIANT_PASSTHROUGH);
  double_store_flip(store, "b", "one.txt", DG_VARIANT_PASSTHROUGH, 599999);
  for (int i = 0; i < 2; i++)
    assert_code(double_get_range(&engine, "b", "one.txt", (struct dg_range){10, 10}, &body, &err),
                DG_E_CORRUPT);
}
END_TEST

START_TEST(a_small_body_is_always_verified)
{
  g_autoptr(GBytes) small = double_bytes(1000, 1);
  GBytes *body;

  put_ok("small.txt", small, DG_VARIANT_PASSTHROUGH);
  double_store_flip(store, "b", "small.txt", DG_VARIANT_PASSTHROUGH, 5);
  assert_code(double_get(&engine, "b", "small.txt", &body, &err), DG_E_CORRUPT);
}
END_TEST

START_TEST(unmanaged_objects_are_served_as_they_are)
{
  g_autoptr(GBytes) body = double_bytes(1000, 1);
  struct dg_meta *meta = dg_meta_new();
  struct dg_object_info info;

  meta->flags = DG_META_UNMANAGED;
  meta->file_size = 1000;
  ck_assert_int_eq(
    dg_meta_set(meta, DG_FIELD_UNMANAGED_ETAG, double_str("b9b2a6388b140fd5"), &err), 0);
  double_store_put(store, "b", "old.bin", DG_VARIANT_PASSTHROUGH, body, meta);
  assert_reads("old.bin", body);
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("old.bin"),
                           &info, &err));
  ck_assert_str_eq(info.etag, "\"b9b2a6388b140fd5\"");
  dg_object_info_clear(&info);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(an_object_without_md5_has_a_made_up_etag)
{
  g_autoptr(GBytes) body = double_bytes(1024, 1);
  struct dg_meta *meta = dg_meta_new();
  struct dg_object_info info;

  meta->file_size = 1024;
  meta->created_at_s = 1700000000;
  double_store_put(store, "b", "cli.bin", DG_VARIANT_PASSTHROUGH, body, meta);
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("cli.bin"),
                           &info, &err));
  ck_assert_str_eq(info.etag, "\"b9b2a6388b140fd5e2e41f8d27cb65e7\"");
  dg_object_info_clear(&info);
  dg_meta_unref(meta);
}
END_TEST

/* ---- Promises of the client --------------------------------------------------------- */

static int put_expecting(const char *key, GBytes *body, const struct dg_put_expect *expect,
                         uint32_t checksum_kind, struct dg_put_result *result)
{
  struct dg_put_request request = {.bucket = double_str("b"),
                                   .key = double_str(key),
                                   .size_bytes = g_bytes_get_size(body),
                                   .checksum_kind = checksum_kind};
  struct dg_put *put;

  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_ok(dg_put_write(put, g_bytes_get_data(body, NULL), g_bytes_get_size(body), &err));
  return dg_put_commit(put, expect, result, &err);
}

START_TEST(a_broken_promise_stores_nothing)
{
  g_autoptr(GBytes) body = double_bytes(50000, 1);
  struct dg_put_result result;
  struct dg_put_expect md5 = {.has_md5 = true}, sha = {.has_sha256 = true};
  struct dg_put_expect sum = {.checksum_base64 = double_str("AAAAAA==")};

  assert_code(put_expecting("x.txt", body, &md5, DG_SUM_NONE, &result), DG_E_BAD_DIGEST);
  assert_code(put_expecting("x.zip", body, &sha, DG_SUM_NONE, &result), DG_E_PAYLOAD_MISMATCH);
  assert_code(put_expecting("x.txt", body, &sum, DG_SUM_CRC32, &result), DG_E_CHECKSUM_MISMATCH);
  for (uint32_t variant = DG_VARIANT_PASSTHROUGH; variant <= DG_VARIANT_REFERENCE; variant++)
    ck_assert_uint_eq(double_store_count(store, variant), 0);
}
END_TEST

START_TEST(checksums_are_kept_and_returned)
{
  static const struct {
    uint32_t kind;
    const char *base64;
  } rows[] = {{DG_SUM_CRC32, "y/Q5Jg=="},
              {DG_SUM_CRC32C, "4waSgw=="},
              {DG_SUM_CRC64NVME, "rosUhgp5mIg="},
              {DG_SUM_SHA1, "98O8HYCOBHMq32eZZczDTKeuNEE="},
              {DG_SUM_SHA256, "FeKw0zuCUuAkFeR/DtPa15/PbLLI2qkUZtZEI5Zt0iU="}};
  g_autoptr(GBytes) body = g_bytes_new_static("123456789", 9);

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    struct dg_put_expect expect = {.checksum_base64 = double_str(rows[i].base64)};
    struct dg_put_result result;
    struct dg_object_info info;
    struct dg_slice kept;
    uint32_t kind;

    if (rows[i].kind == DG_SUM_SHA256)
      expect.checksum_base64.len = 0; /* not a value worth typing */
    assert_ok(put_expecting("c.txt", body, &expect, rows[i].kind, &result));
    if (rows[i].kind != DG_SUM_SHA256)
      ck_assert_str_eq(result.checksum_base64, rows[i].base64);
    ck_assert_uint_eq(result.checksum_kind, rows[i].kind);
    assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("c.txt"),
                             &info, &err));
    kept = dg_object_checksum(&info, &kind);
    ck_assert_uint_eq(kind, rows[i].kind);
    ck_assert_str_eq(kept.data, result.checksum_base64);
    dg_object_info_clear(&info);
  }
}
END_TEST

START_TEST(a_body_of_another_length_is_refused)
{
  struct dg_put_request request = {
    .bucket = double_str("b"), .key = double_str("x.zip"), .size_bytes = 10};
  struct dg_put_result result;
  struct dg_put *put;

  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_ok(dg_put_write(put, "abc", 3, &err));
  assert_code(dg_put_commit(put, NULL, &result, &err), DG_E_INCOMPLETE_BODY);
  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_code(dg_put_write(put, "12345678901", 11, &err), DG_E_INCOMPLETE_BODY);
  dg_put_abort(put);
}
END_TEST

START_TEST(a_body_of_unknown_length_can_still_become_a_delta)
{
  g_autoptr(GBytes) body = double_bytes(50000, 1);
  struct dg_put_request request = {
    .bucket = double_str("b"), .key = double_str("form.zip"), .size_bytes = DG_TO_END};
  struct dg_put_result result;
  struct dg_put *put;

  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_ok(dg_put_write(put, g_bytes_get_data(body, NULL), 50000, &err));
  assert_ok(dg_put_commit(put, NULL, &result, &err));
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  assert_reads("form.zip", body);
}
END_TEST

START_TEST(objects_above_the_limit_are_refused)
{
  g_autoptr(GBytes) body = double_bytes(1001, 1);
  struct dg_put_request request = {
    .bucket = double_str("b"), .key = double_str("x"), .size_bytes = DG_TO_END};
  struct dg_put *put;

  double_settings.max_object_size = 1000;
  reopen();
  assert_code(double_put(&engine, "b", "x", body, NULL, &err), DG_E_ENTITY_TOO_LARGE);
  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_code(dg_put_write(put, g_bytes_get_data(body, NULL), 1001, &err), DG_E_ENTITY_TOO_LARGE);
  dg_put_abort(put);
}
END_TEST

static int must_be_new(void *receiver, const struct dg_object_info *current, struct dg_error *e)
{
  (*(int *)receiver)++;
  return current ? dg_fail(e, DG_E_PRECONDITION_FAILED, "exists") : 0;
}

START_TEST(conditions_are_decided_on_what_is_there)
{
  g_autoptr(GBytes) body = double_bytes(50000, 1);
  g_autoptr(GBytes) other = double_bytes(50000, 2);
  struct dg_put_result result;
  int asked = 0;

  assert_ok(double_put_checked(&engine, "b", "a.zip", body, must_be_new, &asked, &result, &err));
  assert_code(double_put_checked(&engine, "b", "a.zip", other, must_be_new, &asked, &result, &err),
              DG_E_PRECONDITION_FAILED);
  ck_assert_int_eq(asked, 2);
  assert_reads("a.zip", body);
  assert_code(dg_engine_delete(engine.engine, &double_call, double_str("b"), double_str("a.zip"),
                               must_be_new, &asked, &err),
              DG_E_PRECONDITION_FAILED);
  assert_reads("a.zip", body);
}
END_TEST

START_TEST(client_metadata_is_kept_but_not_the_names_of_the_house)
{
  g_autoptr(GBytes) body = double_bytes(50000, 1);
  struct dg_meta *meta = dg_meta_new();
  struct dg_put_request request = {
    .bucket = double_str("b"), .key = double_str("m.zip"), .size_bytes = 50000, .meta = meta};
  struct dg_put_result result;
  struct dg_object_info info;
  struct dg_put *put;

  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, double_str("text/x"), &err), 0);
  ck_assert_int_eq(dg_meta_add_user(meta, double_str("colour"), double_str("blue"), &err), 0);
  ck_assert_int_eq(dg_meta_add_user(meta, double_str("DG-encrypted"), double_str("yes"), &err), 0);
  ck_assert_int_eq(
    dg_meta_add_extension(meta, double_str("cache-control"), double_str("no-store"), &err), 0);
  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_ok(dg_put_write(put, g_bytes_get_data(body, NULL), 50000, &err));
  assert_ok(dg_put_commit(put, NULL, &result, &err));
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("m.zip"),
                           &info, &err));
  ck_assert_str_eq(info.meta->content_type.data, "text/x");
  ck_assert_uint_eq(info.meta->user_count, 1);
  ck_assert_str_eq(dg_meta_user(info.meta, "colour").data, "blue");
  ck_assert_str_eq(dg_meta_extension(info.meta, "cache-control").data, "no-store");
  ck_assert_str_eq(info.etag, result.etag);
  dg_object_info_clear(&info);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(a_codec_that_fails_costs_space_and_not_the_upload)
{
  g_autoptr(GBytes) body = double_bytes(50000, 1);

  double_codec.fail_window = DG_E_INTERNAL;
  put_ok("a.zip", body, DG_VARIANT_PASSTHROUGH);
  assert_reads("a.zip", body);
  double_codec.fail_window = 0;
}
END_TEST

START_TEST(a_serial_codec_and_a_rigid_backend_work_too)
{
  g_autoptr(GBytes) first = double_bytes(3000000, 1);
  g_autoptr(GBytes) second = double_edit(first, 2000000, 100, 1);
  g_autoptr(GBytes) other = double_bytes(1500000, 2);

  teardown();
  double_codec.serial = true;
  store = double_store_new(0);
  double_engine_open(&engine, store, NULL);
  put_ok("a-1.zip", first, DG_VARIANT_DELTA);
  put_ok("a-2.zip", second, DG_VARIANT_DELTA);
  put_ok("a-3.zip", other, DG_VARIANT_PASSTHROUGH);
  assert_reads("a-1.zip", first);
  assert_reads("a-2.zip", second);
  assert_reads("a-3.zip", other);
}
END_TEST

/* ---- The cache ------------------------------------------------------------------------ */

START_TEST(small_bodies_come_from_memory_and_never_stale)
{
  g_autoptr(GBytes) one = double_bytes(1000, 1), two = double_bytes(1000, 2);
  g_autoptr(GBytes) cached = NULL;
  struct dg_object_info info;

  put_ok("s.txt", one, DG_VARIANT_PASSTHROUGH);
  ck_assert_int_eq(dg_engine_get_cached(engine.engine, double_str("b"), double_str("s.txt"), &info,
                                        &cached),
                   0);
  assert_reads("s.txt", one);
  ck_assert_int_eq(dg_engine_get_cached(engine.engine, double_str("b"), double_str("s.txt"), &info,
                                        &cached),
                   1);
  ck_assert(g_bytes_equal(cached, one));
  dg_object_info_clear(&info);
  put_ok("s.txt", two, DG_VARIANT_PASSTHROUGH);
  assert_reads("s.txt", two);
  assert_ok(double_delete(&engine, "b", "s.txt", &err));
  ck_assert_int_eq(dg_engine_get_cached(engine.engine, double_str("b"), double_str("s.txt"), &info,
                                        &cached),
                   0);
}
END_TEST

START_TEST(a_copy_keeps_or_replaces_metadata)
{
  g_autoptr(GBytes) body = double_bytes(50000, 1);
  struct dg_meta *meta = dg_meta_new();
  struct dg_copy_request request = {.source_bucket = double_str("b"),
                                    .source_key = double_str("a.zip"),
                                    .bucket = double_str("c"),
                                    .key = double_str("copy.zip"),
                                    .meta = meta};
  g_autoptr(GBytes) got = NULL;
  struct dg_put_result result;
  struct dg_object_info info;
  int64_t modified = 0;

  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, double_str("text/new"), &err), 0);
  put_ok("a.zip", body, DG_VARIANT_DELTA);
  assert_ok(dg_engine_copy(engine.engine, &double_call, &request, &result, &modified, &err));
  ck_assert_int_ne(modified, 0);
  assert_ok(double_get(&engine, "c", "copy.zip", &got, &err));
  ck_assert(g_bytes_equal(got, body));
  /* Onto itself: metadata only. */
  request.bucket = double_str("b");
  request.key = double_str("a.zip");
  request.replace_metadata = true;
  assert_ok(dg_engine_copy(engine.engine, &double_call, &request, &result, &modified, &err));
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("a.zip"),
                           &info, &err));
  ck_assert_str_eq(info.meta->content_type.data, "text/new");
  dg_object_info_clear(&info);
  assert_reads("a.zip", body);
  dg_meta_unref(meta);
}
END_TEST

/* ---- Listings ---------------------------------------------------------------------------- */

static int join_row(void *receiver, const struct dg_listing_row *row)
{
  GString *out = receiver;

  g_string_append_printf(out, "%.*s%s ", (int)row->key.len, row->key.data,
                         row->is_prefix ? "*" : "");
  if (!row->is_prefix)
    ck_assert(row->info->etag[0] == '"');
  return 0;
}

static void assert_lists(const char *prefix, const char *delimiter, const char *after,
                         uint32_t max_rows, const char *expected, bool truncated)
{
  g_autoptr(GString) out = g_string_new(NULL);
  struct dg_listing_request request = {.bucket = double_str("b"),
                                       .prefix = double_str(prefix),
                                       .delimiter = double_str(delimiter),
                                       .start_after = double_str(after),
                                       .max_rows = max_rows};
  bool more = false;

  assert_ok(dg_engine_list(engine.engine, &double_call, &request, join_row, out, &more, &err));
  ck_assert_str_eq(out->str, expected);
  ck_assert_int_eq(more, truncated);
}

START_TEST(listings_show_each_key_once)
{
  g_autoptr(GBytes) first = double_bytes(50000, 1);
  g_autoptr(GBytes) other = double_bytes(100, 2);
  struct dg_meta *meta;

  put_ok("a.zip", first, DG_VARIANT_DELTA);
  put_ok("d/e.zip", first, DG_VARIANT_DELTA);
  put_ok("d/f.txt", other, DG_VARIANT_PASSTHROUGH);
  put_ok("z.txt", other, DG_VARIANT_PASSTHROUGH);
  meta = stored_meta("z.txt", DG_VARIANT_PASSTHROUGH);
  double_store_put(store, "b", "a.zip", DG_VARIANT_PASSTHROUGH, other, meta);
  assert_lists("", "", "", 100, "a.zip d/e.zip d/f.txt z.txt ", false);
  assert_lists("", "/", "", 100, "a.zip d/* z.txt ", false);
  assert_lists("", "/", "", 2, "a.zip d/* ", true);
  assert_lists("", "/", "d/", 2, "z.txt ", false);
  assert_lists("", "", "", 3, "a.zip d/e.zip d/f.txt ", true);
  assert_lists("", "", "", 4, "a.zip d/e.zip d/f.txt z.txt ", false);
  assert_lists("", "", "", 1, "a.zip ", true);
  assert_lists("d/", "", "d/e.zip", 10, "d/f.txt ", false);
  assert_lists("", "", "", 0, "", false);
  dg_meta_unref(meta);
}
END_TEST

static Suite *engine_suite(void)
{
  Suite *suite = suite_create("engine objects");
  TCase *cases = tcase_create("objects");

  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, what_was_put_is_read_back);
  tcase_add_test(cases, a_missing_key_and_a_missing_bucket_differ);
  tcase_add_test(cases, the_first_eligible_object_becomes_reference_and_delta);
  tcase_add_test(cases, a_later_version_is_a_delta_against_the_first);
  tcase_add_test(cases, large_deltas_are_read_by_window);
  tcase_add_test(cases, a_foreign_delta_is_verified_whole_before_its_first_byte);
  tcase_add_test(cases, a_version_unlike_the_reference_stays_as_it_is);
  tcase_add_test(cases, the_ratio_decides_exactly);
  tcase_add_test(cases, an_object_too_small_to_gain_makes_no_reference);
  tcase_add_test(cases, overwriting_leaves_exactly_one_variant);
  tcase_add_test(cases, of_two_variants_the_younger_is_served_and_a_tie_is_the_delta);
  tcase_add_test(cases, the_last_delete_takes_the_reference_along);
  tcase_add_test(cases, an_unanswered_question_about_the_reference_fails_the_put);
  tcase_add_test(cases, a_reference_without_metadata_is_healed);
  tcase_add_test(cases, a_damaged_reference_never_gives_wrong_bytes);
  tcase_add_test(cases, a_missing_reference_is_an_error_and_not_a_missing_object);
  tcase_add_test(cases, damage_in_deltas_bodies_and_metadata_is_found);
  tcase_add_test(cases, whole_reads_of_bodies_at_rest_are_verified_as_configured);
  tcase_add_test(cases, ranges_are_verified_once_for_each_version);
  tcase_add_test(cases, a_small_body_is_always_verified);
  tcase_add_test(cases, unmanaged_objects_are_served_as_they_are);
  tcase_add_test(cases, an_object_without_md5_has_a_made_up_etag);
  tcase_add_test(cases, a_broken_promise_stores_nothing);
  tcase_add_test(cases, checksums_are_kept_and_returned);
  tcase_add_test(cases, a_body_of_another_length_is_refused);
  tcase_add_test(cases, a_body_of_unknown_length_can_still_become_a_delta);
  tcase_add_test(cases, objects_above_the_limit_are_refused);
  tcase_add_test(cases, conditions_are_decided_on_what_is_there);
  tcase_add_test(cases, client_metadata_is_kept_but_not_the_names_of_the_house);
  tcase_add_test(cases, a_codec_that_fails_costs_space_and_not_the_upload);
  tcase_add_test(cases, a_serial_codec_and_a_rigid_backend_work_too);
  tcase_add_test(cases, small_bodies_come_from_memory_and_never_stale);
  tcase_add_test(cases, a_copy_keeps_or_replaces_metadata);
  tcase_add_test(cases, listings_show_each_key_once);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(engine_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
