/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads that the storage joins, on doubles: what may fail on the way, and what is
 * there then. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/checksum.h"
#include "common/hex.h"
#include "engine-double.h"

#define CAPS                                                                           \
  (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC | \
   DG_CAP_NATIVE_UPLOAD)
#define LARGE ((size_t)5 << 20)

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;
static char *dir;

static struct {
  char id[33];
  GBytes *bytes[3], *whole;
  struct dg_part_result parts[3];
} up;

static void setup_with(uint64_t caps)
{
  static const size_t sizes[] = {LARGE, LARGE + 7, 1000};
  GByteArray *all = g_byte_array_new();

  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  store = double_store_new(caps);
  dir = g_dir_make_tmp("engine-native-XXXXXX", NULL);
  double_engine_open(&engine, store, dir);
  for (uint32_t i = 0; i < 3; i++) {
    up.bytes[i] = double_bytes(sizes[i], i + 1);
    g_byte_array_append(all, g_bytes_get_data(up.bytes[i], NULL), (guint)sizes[i]);
  }
  up.whole = g_byte_array_free_to_bytes(all);
}

static void setup(void)
{
  setup_with(CAPS);
}

static void teardown(void)
{
  for (size_t i = 0; i < 3; i++)
    g_bytes_unref(up.bytes[i]);
  g_bytes_unref(up.whole);
  engine.owns_dir = true;
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
  g_free(dir);
}

static void reopen(void)
{
  double_engine_close(&engine);
  double_engine_open(&engine, store, dir);
}

#define assert_ok(call) ck_assert_msg((call) == 0, "%s", err.detail)
#define assert_code(call, expected)         \
  do {                                      \
    ck_assert_int_eq((call), -1);           \
    ck_assert_int_eq(err.code, (expected)); \
  } while (0)

static int create(const char *key, uint32_t kind, bool full, const struct dg_meta *meta)
{
  return double_upload_create(&engine, key, kind, full, meta, up.id, &err);
}

static int send_part(const char *key, uint32_t number)
{
  return double_upload_part(&engine, key, up.id, number, up.bytes[number - 1],
                            &up.parts[number - 1], &err);
}

static void send_all(const char *key)
{
  for (uint32_t i = 1; i <= 3; i++)
    assert_ok(send_part(key, i));
}

static int complete_as(const char *key, const char *checksum, dg_write_check_fn check,
                       struct dg_put_result *result)
{
  return double_upload_complete(&engine, key, up.id, up.parts, 3, checksum, check, result, &err);
}

static int complete(const char *key, struct dg_put_result *result)
{
  return complete_as(key, "", NULL, result);
}

static int abort_upload(const char *key)
{
  return dg_engine_upload_abort(engine.engine, &double_call, double_str("b"), double_str(key),
                                double_str(up.id), &err);
}

static void assert_reads(const char *key, GBytes *body)
{
  g_autoptr(GBytes) got = NULL;

  assert_ok(double_get(&engine, "b", key, &got, &err));
  ck_assert(g_bytes_equal(got, body));
}

/* Bytes of the parts' files, those of the upload's own notes left out. */
static uint64_t bytes_here(void)
{
  g_autofree char *folder = g_build_filename(dir, "state", "uploads", up.id, NULL);
  g_autoptr(GDir) files = g_dir_open(folder, 0, NULL);
  uint64_t bytes = 0;
  const char *name;

  while (files && (name = g_dir_read_name(files))) {
    g_autofree char *path = g_build_filename(folder, name, NULL);
    struct stat st;

    if (!g_str_has_suffix(name, ".json") && stat(path, &st) == 0)
      bytes += (uint64_t)st.st_size;
  }
  return bytes;
}

START_TEST(large_parts_go_to_the_storage_and_become_an_unmanaged_object)
{
  struct dg_put_result result;
  struct dg_object_info info;
  const struct dg_meta *meta;
  struct dg_range range;

  assert_ok(create("k.bin", DG_SUM_NONE, false, NULL));
  ck_assert_uint_eq(double_store_upload_count(store), 0);
  send_all("k.bin");
  ck_assert_uint_eq(double_store_upload_count(store), 1);
  ck_assert_uint_le(bytes_here(), 3 * 256);
  assert_ok(complete("k.bin", &result));
  ck_assert_uint_eq(double_store_upload_count(store), 0);
  ck_assert_str_eq(result.etag, "\"00000000000000000000000000000007-3\"");
  ck_assert_uint_eq(result.size_bytes, g_bytes_get_size(up.whole));
  meta = double_store_meta(store, "b", "k.bin", DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(meta->flags, DG_META_UNMANAGED | DG_META_PLAIN);
  assert_reads("k.bin", up.whole);
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("k.bin"), &info,
                           &err));
  ck_assert_str_eq(info.etag, result.etag);
  ck_assert_uint_eq(info.part_count, 3);
  assert_code(dg_object_part_range(&info, 1, &range, &err), DG_E_NOT_IMPLEMENTED);
  dg_object_info_clear(&info);
}
END_TEST

START_TEST(names_of_versions_and_what_the_storage_refuses_stay_here)
{
  struct dg_meta *odd = dg_meta_new();
  struct dg_put_result result;

  assert_ok(dg_meta_add_user(odd, DG_SLICE("odd"), DG_SLICE("1"), &err));
  for (int i = 0; i < 2; i++) {
    const char *key = i ? "k.bin" : "k.zip";

    assert_ok(create(key, DG_SUM_NONE, false, i ? odd : NULL));
    send_all(key);
    ck_assert_uint_eq(double_store_upload_count(store), 0);
    ck_assert_uint_gt(bytes_here(), 2 * LARGE);
    assert_ok(complete(key, &result));
    assert_reads(key, up.whole);
  }
  dg_meta_unref(odd);
}
END_TEST

START_TEST(an_upload_that_is_too_large_for_a_delta_goes_to_the_storage)
{
  struct dg_put_result result;

  for (int i = 0; i < 2; i++) {
    double_settings.mpu_delta_max_bytes = i ? LARGE - 1 : LARGE;
    reopen();
    assert_ok(create("k.zip", DG_SUM_NONE, false, NULL));
    assert_ok(send_part("k.zip", 1));
    ck_assert_uint_eq(double_store_upload_count(store), (unsigned)i);
    assert_ok(send_part("k.zip", 2));
    assert_ok(send_part("k.zip", 3));
    assert_ok(complete("k.zip", &result));
    ck_assert_uint_eq(result.variant, DG_VARIANT_PASSTHROUGH);
    assert_reads("k.zip", up.whole);
  }
}
END_TEST

START_TEST(a_small_part_that_came_first_is_sent_at_the_end)
{
  struct dg_put_result result;

  assert_ok(create("k.bin", DG_SUM_NONE, false, NULL));
  assert_ok(send_part("k.bin", 3));
  ck_assert_uint_eq(double_store_upload_count(store), 0);
  assert_ok(send_part("k.bin", 2));
  assert_ok(send_part("k.bin", 1));
  ck_assert_uint_eq(double_store_upload_count(store), 1);
  assert_ok(complete("k.bin", &result));
  assert_reads("k.bin", up.whole);
}
END_TEST

/* Whatever step fails, asking again mends it, after a restart too. */
/* Of all that was sent only the first part, which is here, is asked for. */
static int complete_first(const char *key, struct dg_put_result *result)
{
  struct dg_complete_part first = {.part_no = 1, .etag = double_str(up.parts[0].etag)};
  struct dg_complete_request request = {.bucket = double_str("b"),
                                        .key = double_str(key),
                                        .upload_id = double_str(up.id),
                                        .parts = &first,
                                        .part_count = 1};

  return dg_engine_upload_complete(engine.engine, &double_call, &request, result, &err);
}

static void send_small_and_large(const char *key)
{
  g_bytes_unref(up.bytes[0]);
  up.bytes[0] = double_bytes(1000, 9);
  assert_ok(create(key, DG_SUM_NONE, false, NULL));
  assert_ok(send_part(key, 1));
  assert_ok(send_part(key, 2));
  ck_assert_uint_eq(double_store_upload_count(store), 1);
}

START_TEST(what_the_storage_was_sent_in_vain_is_dropped_with_the_completion)
{
  struct dg_put_result result;

  send_small_and_large("k.bin");
  assert_ok(complete_first("k.bin", &result));
  assert_reads("k.bin", up.bytes[0]);
  ck_assert_uint_eq(double_store_upload_count(store), 0);
  assert_ok(complete_first("k.bin", &result));
}
END_TEST

START_TEST(what_was_sent_in_vain_and_could_not_be_dropped_goes_with_a_sweep)
{
  struct dg_put_result result;
  uint64_t steps;

  send_small_and_large("one.bin");
  steps = double_store_steps(store);
  assert_ok(complete_first("one.bin", &result));
  steps = double_store_steps(store) - steps;
  /* The same again; its last step is to drop. */
  send_small_and_large("two.bin");
  double_store_fail(store, steps, DG_E_UNAVAILABLE, /* crash= */ false);
  assert_ok(complete_first("two.bin", &result));
  ck_assert(double_store_failed(store));
  ck_assert_uint_eq(double_store_upload_count(store), 1);
  reopen();
  ck_assert_uint_eq(double_store_upload_count(store), 1);
  dg_engine_sweep(engine.engine);
  ck_assert_uint_eq(double_store_upload_count(store), 0);
  assert_reads("two.bin", up.bytes[0]);
  assert_ok(complete_first("two.bin", &result));
}
END_TEST

START_TEST(any_failure_is_mended_by_asking_again)
{
  bool crash = _i == 1;

  for (uint64_t n = 1;; n++) {
    g_autofree char *key = g_strdup_printf("k%d-%" G_GUINT64_FORMAT ".bin", _i, n);
    struct dg_put_result result;
    bool failed;

    assert_ok(create(key, DG_SUM_NONE, false, NULL));
    double_store_fail(store, n, DG_E_UNAVAILABLE, crash);
    for (uint32_t part = 1; part <= 3; part++)
      if (send_part(key, part) < 0) {
        ck_assert_int_eq(err.code, crash && part > 1 ? err.code : DG_E_UNAVAILABLE);
        double_store_revive(store);
        if (crash)
          reopen();
        assert_ok(send_part(key, part));
      }
    if (complete(key, &result) < 0) {
      g_autoptr(GBytes) got = NULL;

      double_store_revive(store);
      if (crash)
        reopen();
      if (double_get(&engine, "b", key, &got, &err) == 0)
        ck_assert(g_bytes_equal(got, up.whole));
      assert_ok(complete(key, &result));
    }
    failed = double_store_failed(store);
    double_store_revive(store);
    ck_assert_uint_eq(result.size_bytes, g_bytes_get_size(up.whole));
    assert_reads(key, up.whole);
    ck_assert_uint_eq(double_store_upload_count(store), 0);
    assert_ok(double_delete(&engine, "b", key, &err));
    if (!failed) {
      ck_assert_uint_gt(n, 8);
      break;
    }
  }
}
END_TEST

START_TEST(an_abort_that_fails_leaves_the_upload)
{
  struct dg_put_result result;

  assert_ok(create("k.bin", DG_SUM_NONE, false, NULL));
  send_all("k.bin");
  double_store_fail(store, 1, DG_E_UNAVAILABLE, /* crash= */ false);
  assert_code(abort_upload("k.bin"), DG_E_UNAVAILABLE);
  ck_assert_uint_eq(double_store_upload_count(store), 1);
  reopen();
  assert_ok(abort_upload("k.bin"));
  ck_assert_uint_eq(double_store_upload_count(store), 0);
  assert_code(abort_upload("k.bin"), DG_E_NO_SUCH_UPLOAD);
  assert_code(complete("k.bin", &result), DG_E_NO_SUCH_UPLOAD);
}
END_TEST

/* By its age alone the delta would win: the storage's clock says another thing. */
START_TEST(a_delta_of_that_name_goes_or_the_completion_fails)
{
  g_autoptr(GBytes) old = double_bytes(20000, 9);
  struct dg_put_result result;

  assert_ok(double_put(&engine, "b", "k.zip", old, &result, &err));
  ck_assert(double_store_has(store, "b", "k.zip", DG_VARIANT_DELTA));
  double_settings.max_delta_ratio = 0;
  reopen();
  assert_ok(create("k.zip", DG_SUM_NONE, false, NULL));
  send_all("k.zip");
  /* join, answer, and then the removal of the delta */
  double_store_fail(store, 3, DG_E_UNAVAILABLE, /* crash= */ false);
  assert_code(complete("k.zip", &result), DG_E_UNAVAILABLE);
  ck_assert(double_store_failed(store));
  assert_ok(complete("k.zip", &result));
  ck_assert(!double_store_has(store, "b", "k.zip", DG_VARIANT_DELTA));
  assert_reads("k.zip", up.whole);
}
END_TEST

START_TEST(the_checksum_of_the_whole_follows_from_the_parts)
{
  static const uint32_t kinds[] = {DG_SUM_CRC32, DG_SUM_CRC32C, DG_SUM_CRC64NVME};

  for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
    struct dg_checksum sum = {0};
    struct dg_put_result result;
    char text[DG_SUM_MAX_BASE64];

    dg_checksum_init(&sum, kinds[i]);
    dg_checksum_update(&sum, g_bytes_get_data(up.whole, NULL), g_bytes_get_size(up.whole));
    dg_checksum_final_base64(&sum, text);
    dg_checksum_clear(&sum);
    assert_ok(create("k.bin", kinds[i], /* full= */ true, NULL));
    send_all("k.bin");
    assert_code(complete_as("k.bin", "AAAAAA==", NULL, &result), DG_E_CHECKSUM_MISMATCH);
    assert_ok(complete_as("k.bin", text, NULL, &result));
    ck_assert_str_eq(result.checksum_base64, text);
    ck_assert_uint_eq(result.checksum_kind, kinds[i]);
  }
}
END_TEST

static int refuse_any(void *receiver, const struct dg_object_info *current, struct dg_error *error)
{
  (void)receiver;
  return current ? dg_fail(error, DG_E_PRECONDITION_FAILED, "it is there") : 0;
}

START_TEST(a_condition_is_judged_before_the_parts_are_joined)
{
  g_autoptr(GBytes) old = double_bytes(100, 9);
  struct dg_put_result result;

  assert_ok(double_put(&engine, "b", "k.bin", old, &result, &err));
  assert_ok(create("k.bin", DG_SUM_NONE, false, NULL));
  send_all("k.bin");
  assert_code(complete_as("k.bin", "", refuse_any, &result), DG_E_PRECONDITION_FAILED);
  assert_reads("k.bin", old);
  ck_assert_uint_eq(double_store_upload_count(store), 1);
  assert_ok(double_delete(&engine, "b", "k.bin", &err));
  assert_ok(complete_as("k.bin", "", refuse_any, &result));
  assert_reads("k.bin", up.whole);
}
END_TEST

START_TEST(one_upload_is_begun_however_many_parts_arrive_first)
{
  struct dg_part_put *parts[3];
  struct dg_put_result result;

  /* Two that are open at once, and one that is given up. */
  assert_ok(create("k.bin", DG_SUM_NONE, false, NULL));
  for (uint32_t i = 0; i < 3; i++) {
    GBytes *body = up.bytes[i % 2];

    assert_ok(dg_engine_part_open(engine.engine, &double_call, double_str("b"),
                                  double_str("k.bin"), double_str(up.id), i + 1,
                                  g_bytes_get_size(body), DG_SUM_NONE, &parts[i], &err));
    assert_ok(dg_part_write(parts[i], g_bytes_get_data(body, NULL), g_bytes_get_size(body), &err));
  }
  dg_part_abort(parts[2]);
  for (uint32_t i = 0; i < 2; i++)
    assert_ok(dg_part_commit(parts[i], NULL, &up.parts[i], &err));
  ck_assert_uint_eq(double_store_upload_count(store), 1);
  assert_ok(send_part("k.bin", 3));
  assert_ok(complete("k.bin", &result));
  assert_reads("k.bin", up.whole);
}
END_TEST

START_TEST(a_part_with_a_wrong_digest_changes_nothing)
{
  struct dg_put_expect expect = {.has_md5 = true};
  struct dg_put_result result;
  struct dg_part_result part;
  struct dg_part_put *put;

  assert_ok(create("k.bin", DG_SUM_NONE, false, NULL));
  send_all("k.bin");
  assert_ok(dg_engine_part_open(engine.engine, &double_call, double_str("b"), double_str("k.bin"),
                                double_str(up.id), 1, LARGE + 7, DG_SUM_NONE, &put, &err));
  assert_ok(dg_part_write(put, g_bytes_get_data(up.bytes[1], NULL), LARGE + 7, &err));
  assert_code(dg_part_commit(put, &expect, &part, &err), DG_E_BAD_DIGEST);
  assert_ok(complete("k.bin", &result));
  assert_reads("k.bin", up.whole);
}
END_TEST

/* With a storage that keeps notes: `unequal` parts, or two of one size and a smaller one. */
START_TEST(each_part_of_what_the_storage_joined_is_found)
{
  bool unequal = _i == 1;
  struct dg_put_result result;
  struct dg_object_info info;
  struct dg_range range;
  uint64_t at = 0;

  teardown();
  setup_with(CAPS | DG_CAP_NOTES);
  if (!unequal) {
    g_bytes_unref(up.bytes[1]);
    up.bytes[1] = double_bytes(LARGE, 2);
  }
  assert_ok(create("k.bin", DG_SUM_NONE, false, NULL));
  assert_ok(send_part("k.bin", 1));
  reopen();
  assert_ok(send_part("k.bin", 2));
  assert_ok(send_part("k.bin", 3));
  assert_ok(complete("k.bin", &result));
  ck_assert_uint_eq(double_store_note_count(store), unequal ? 1 : 0);
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("k.bin"), &info,
                           &err));
  for (uint32_t i = 0; i < 3; i++) {
    assert_ok(dg_engine_part_range(engine.engine, &double_call, double_str("b"),
                                   double_str("k.bin"), &info, i + 1, &range, &err));
    ck_assert_uint_eq(range.offset, at);
    ck_assert_uint_eq(range.length, g_bytes_get_size(up.bytes[i]));
    at += range.length;
  }
  dg_object_info_clear(&info);
  assert_ok(double_delete(&engine, "b", "k.bin", &err));
  ck_assert_uint_eq(double_store_note_count(store), 0);
}
END_TEST

static Suite *native_suite(void)
{
  Suite *suite = suite_create("engine native uploads");
  TCase *cases = tcase_create("native");

  tcase_set_timeout(cases, 120); /* every part's note is synced to the disk */
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, large_parts_go_to_the_storage_and_become_an_unmanaged_object);
  tcase_add_loop_test(cases, each_part_of_what_the_storage_joined_is_found, 0, 2);
  tcase_add_test(cases, names_of_versions_and_what_the_storage_refuses_stay_here);
  tcase_add_test(cases, an_upload_that_is_too_large_for_a_delta_goes_to_the_storage);
  tcase_add_test(cases, a_small_part_that_came_first_is_sent_at_the_end);
  tcase_add_test(cases, what_the_storage_was_sent_in_vain_is_dropped_with_the_completion);
  tcase_add_test(cases, what_was_sent_in_vain_and_could_not_be_dropped_goes_with_a_sweep);
  tcase_add_loop_test(cases, any_failure_is_mended_by_asking_again, 0, 2);
  tcase_add_test(cases, an_abort_that_fails_leaves_the_upload);
  tcase_add_test(cases, a_delta_of_that_name_goes_or_the_completion_fails);
  tcase_add_test(cases, the_checksum_of_the_whole_follows_from_the_parts);
  tcase_add_test(cases, a_condition_is_judged_before_the_parts_are_joined);
  tcase_add_test(cases, one_upload_is_begun_however_many_parts_arrive_first);
  tcase_add_test(cases, a_part_with_a_wrong_digest_changes_nothing);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(native_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
