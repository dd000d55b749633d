/* SPDX-License-Identifier: Apache-2.0 */
/* Copies that the storage makes, on doubles: which ones, and what they are. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "engine-double.h"

#define CAPS                                                                    \
  (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC | \
   DG_CAP_NATIVE_UPLOAD | DG_CAP_NATIVE_COPY)

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;
static GBytes *body;

static void setup(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  store = double_store_new(CAPS);
  double_engine_open(&engine, store, NULL);
  body = double_bytes(50000, 1);
}

static void teardown(void)
{
  g_bytes_unref(body);
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
}

#define assert_ok(call) ck_assert_msg((call) == 0, "%s", err.detail)
#define assert_code(call, expected)         \
  do {                                      \
    ck_assert_int_eq((call), -1);           \
    ck_assert_int_eq(err.code, (expected)); \
  } while (0)

static struct dg_put_result result;

static int copy_as(const char *from, const char *bucket, const char *to,
                   const struct dg_copy_request *more)
{
  struct dg_copy_request request = more ? *more : (struct dg_copy_request){0};
  int64_t modified_s;

  request.source_bucket = double_str("b");
  request.source_key = double_str(from);
  request.bucket = double_str(bucket);
  request.key = double_str(to);
  return dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s, &err);
}

static int copy(const char *from, const char *to)
{
  return copy_as(from, "b", to, NULL);
}

static void put_with(const char *key, uint32_t kind)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_put_request request = {.bucket = double_str("b"),
                                   .key = double_str(key),
                                   .size_bytes = g_bytes_get_size(body),
                                   .meta = meta,
                                   .checksum_kind = kind};
  struct dg_put *put;

  assert_ok(dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, DG_SLICE("text/x"), &err));
  assert_ok(dg_meta_add_user(meta, DG_SLICE("a"), DG_SLICE("1"), &err));
  assert_ok(dg_meta_add_extension(meta, DG_SLICE("cache-control"), DG_SLICE("private"), &err));
  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  dg_meta_unref(meta);
  assert_ok(dg_put_write(put, g_bytes_get_data(body, NULL), g_bytes_get_size(body), &err));
  assert_ok(dg_put_commit(put, NULL, &result, &err));
}

static void assert_reads(const char *bucket, const char *key, GBytes *expected)
{
  g_autoptr(GBytes) got = NULL;

  assert_ok(double_get(&engine, bucket, key, &got, &err));
  ck_assert(g_bytes_equal(got, expected));
}

static bool text_is(struct dg_slice text, const char *expected)
{
  return text.len == strlen(expected) && memcmp(text.data, expected, text.len) == 0;
}

START_TEST(a_plain_object_is_copied_by_the_storage)
{
  const struct dg_meta *from, *to;
  char etag[80];

  put_with("from.bin", DG_SUM_CRC32);
  memcpy(etag, result.etag, sizeof etag);
  assert_ok(copy("from.bin", "d/to.bin"));
  ck_assert_uint_eq(double_store_copies(store), 1);
  ck_assert_str_eq(result.etag, etag);
  ck_assert_uint_eq(result.checksum_kind, DG_SUM_CRC32);
  ck_assert_uint_eq(result.size_bytes, 50000);
  assert_reads("b", "d/to.bin", body);
  from = double_store_meta(store, "b", "from.bin", DG_VARIANT_PASSTHROUGH);
  to = double_store_meta(store, "b", "d/to.bin", DG_VARIANT_PASSTHROUGH);
  ck_assert(text_is(to->original_name, "to.bin"));
  ck_assert(text_is(to->content_type, "text/x"));
  ck_assert(text_is(dg_meta_user(to, "a"), "1"));
  ck_assert(text_is(dg_meta_extension(to, "cache-control"), "private"));
  ck_assert(memcmp(to->file_sha256.data, from->file_sha256.data, 64) == 0);
  ck_assert(dg_meta_extension(to, "checksum-crc32").len);
  assert_ok(copy_as("from.bin", "c", "to.bin", NULL));
  assert_reads("c", "to.bin", body);
  ck_assert_uint_eq(double_store_copies(store), 2);
}
END_TEST

START_TEST(metadata_may_be_replaced)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_copy_request more = {.replace_metadata = true, .meta = meta};
  const struct dg_meta *to;

  put_with("from.bin", DG_SUM_NONE);
  assert_ok(dg_meta_add_user(meta, DG_SLICE("b"), DG_SLICE("2"), &err));
  assert_ok(copy_as("from.bin", "b", "to.bin", &more));
  dg_meta_unref(meta);
  ck_assert_uint_eq(double_store_copies(store), 1);
  to = double_store_meta(store, "b", "to.bin", DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(dg_meta_user(to, "a").len, 0);
  ck_assert(text_is(dg_meta_user(to, "b"), "2"));
  ck_assert_uint_eq(to->content_type.len, 0);
  ck_assert_uint_eq(dg_meta_extension(to, "cache-control").len, 0);
  assert_reads("b", "to.bin", body);
}
END_TEST

START_TEST(what_would_be_stored_otherwise_is_carried)
{
  struct dg_copy_request other_sum = {.checksum_kind = DG_SUM_SHA256};

  put_with("from.bin", DG_SUM_NONE);
  put_with("from.zip", DG_SUM_NONE);
  assert_ok(copy("from.zip", "to.bin"));
  assert_reads("b", "to.bin", body);
  assert_ok(copy("from.bin", "d/to.zip"));
  assert_reads("b", "d/to.zip", body);
  ck_assert(double_store_has(store, "b", "d/to.zip", DG_VARIANT_DELTA));
  assert_ok(copy_as("from.bin", "b", "sum.bin", &other_sum));
  assert_reads("b", "sum.bin", body);
  ck_assert_uint_eq(result.checksum_kind, DG_SUM_SHA256);
  ck_assert_uint_eq(double_store_copies(store), 0);
  assert_code(copy("none.bin", "to.bin"), DG_E_NO_SUCH_KEY);
  assert_code(copy_as("from.bin", "none", "to.bin", NULL), DG_E_NO_SUCH_BUCKET);
}
END_TEST

START_TEST(a_copy_takes_the_place_of_a_delta)
{
  g_autoptr(GBytes) old = double_bytes(20000, 9);

  put_with("from.bin", DG_SUM_NONE);
  assert_ok(double_put(&engine, "b", "to.zip", old, &result, &err));
  ck_assert(double_store_has(store, "b", "to.zip", DG_VARIANT_DELTA));
  double_engine_close(&engine);
  double_settings.max_delta_ratio = 0;
  double_engine_open(&engine, store, NULL);
  assert_ok(copy("from.bin", "to.zip"));
  ck_assert_uint_eq(double_store_copies(store), 1);
  ck_assert(!double_store_has(store, "b", "to.zip", DG_VARIANT_DELTA));
  assert_reads("b", "to.zip", body);
}
END_TEST

static int refuse(void *receiver, const struct dg_object_info *info, struct dg_error *error)
{
  const bool *also_absent = receiver;

  return info || *also_absent ? dg_fail(error, DG_E_PRECONDITION_FAILED, "no") : 0;
}

START_TEST(conditions_on_both_sides_are_judged)
{
  bool also_absent = false;
  struct dg_copy_request source = {.source_check = refuse, .receiver = &also_absent};
  struct dg_copy_request target = {.check = refuse, .receiver = &also_absent};

  put_with("from.bin", DG_SUM_NONE);
  assert_code(copy_as("from.bin", "b", "to.bin", &source), DG_E_PRECONDITION_FAILED);
  ck_assert_uint_eq(double_store_copies(store), 0);
  assert_ok(copy_as("from.bin", "b", "to.bin", &target));
  assert_code(copy_as("from.bin", "b", "to.bin", &target), DG_E_PRECONDITION_FAILED);
  ck_assert_uint_eq(double_store_copies(store), 1);
}
END_TEST

/* Between the look at the source and the copy. */
static int change_source(void *receiver, const struct dg_object_info *info, struct dg_error *error)
{
  struct dg_meta *meta =
    dg_meta_copy(double_store_meta(store, "b", "other.bin", DG_VARIANT_PASSTHROUGH));

  (void)info;
  (void)error;
  double_store_put(store, "b", "from.bin", DG_VARIANT_PASSTHROUGH, receiver, meta);
  dg_meta_unref(meta);
  return 0;
}

START_TEST(a_source_that_changes_is_copied_as_it_is_then)
{
  g_autoptr(GBytes) other = double_bytes(50000, 2);
  struct dg_copy_request more = {.check = change_source, .receiver = other};

  put_with("from.bin", DG_SUM_NONE);
  assert_ok(double_put(&engine, "b", "other.bin", other, &result, &err));
  assert_ok(copy_as("from.bin", "b", "to.bin", &more));
  ck_assert_uint_eq(double_store_copies(store), 0);
  assert_reads("b", "to.bin", other);
}
END_TEST

START_TEST(a_copy_that_fails_is_the_old_object_or_the_new_one)
{
  g_autoptr(GBytes) old = double_bytes(100, 3), got = NULL;

  put_with("from.bin", DG_SUM_NONE);
  assert_ok(double_put(&engine, "b", "to.bin", old, &result, &err));
  double_store_fail(store, 1, DG_E_UNAVAILABLE, /* crash= */ false);
  assert_code(copy("from.bin", "to.bin"), DG_E_UNAVAILABLE);
  ck_assert(double_store_failed(store));
  assert_ok(double_get(&engine, "b", "to.bin", &got, &err));
  ck_assert(g_bytes_equal(got, old) || g_bytes_equal(got, body));
  assert_ok(copy("from.bin", "to.bin"));
  assert_reads("b", "to.bin", body);
}
END_TEST

static Suite *copy_suite(void)
{
  Suite *suite = suite_create("engine native copies");
  TCase *cases = tcase_create("copies");

  tcase_set_timeout(cases, 60);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, a_plain_object_is_copied_by_the_storage);
  tcase_add_test(cases, metadata_may_be_replaced);
  tcase_add_test(cases, what_would_be_stored_otherwise_is_carried);
  tcase_add_test(cases, a_copy_takes_the_place_of_a_delta);
  tcase_add_test(cases, conditions_on_both_sides_are_judged);
  tcase_add_test(cases, a_source_that_changes_is_copied_as_it_is_then);
  tcase_add_test(cases, a_copy_that_fails_is_the_old_object_or_the_new_one);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(copy_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
