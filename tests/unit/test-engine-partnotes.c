/* SPDX-License-Identifier: Apache-2.0 */
/* Where the parts of an object lie when its metadata have no room to tell, on doubles:
 * notes beside objects, what failures leave of them, and what a storage knows. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/meta.h"
#include "common/slice.h"
#include "core/engine/partnotes.h"
#include "core/engine/partsizes.h"
#include "core/engine/put.h"
#include "engine-double.h"

#define CAPS (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)
#define MANY 10000u
#define FEW 400u /* too many for the metadata */

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;
static char *dir;
static uint64_t sizes[MANY];

static void open_with(uint64_t caps)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  store = double_store_new(CAPS | caps);
  dir = g_dir_make_tmp("engine-notes-XXXXXX", NULL);
  double_engine_open(&engine, store, dir);
}

static void setup(void)
{
  open_with(DG_CAP_NOTES);
}

static void teardown(void)
{
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

/* Unequal sizes, and the body that they make. */
static GBytes *parts_of(uint32_t count, uint32_t seed)
{
  uint64_t all = 0;

  for (uint32_t i = 0; i < count; i++) {
    seed = seed * 1664525u + 1013904223u;
    sizes[i] = (seed >> 16) % 1000;
    all += sizes[i];
  }
  return double_bytes(all, seed);
}

/* As a completed upload would be stored. */
static int put_parts(const char *key, GBytes *body, uint32_t count, const struct dg_meta *meta)
{
  g_autofree char *text = dg_part_sizes_write(sizes, count);
  g_autofree char *etag = g_strdup_printf("\"%032x-%u\"", count, count);
  struct dg_put_request request = {.bucket = double_str("b"),
                                   .key = double_str(key),
                                   .size_bytes = g_bytes_get_size(body),
                                   .meta = meta};
  struct dg_put_extra extra = {.multipart_etag = double_str(etag), .part_sizes = double_str(text)};
  struct dg_put_result result;
  struct dg_put *put;

  if (dg_engine_put_open(engine.engine, &double_call, &request, &put, &err) < 0)
    return -1;
  dg_put_set_extra(put, &extra);
  if (dg_put_write(put, g_bytes_get_data(body, NULL), g_bytes_get_size(body), &err) < 0) {
    dg_put_abort(put);
    return -1;
  }
  return dg_put_commit(put, NULL, &result, &err);
}

static int look(const char *key, struct dg_object_info *info)
{
  return dg_engine_head(engine.engine, &double_call, double_str("b"), double_str(key), info, &err);
}

static int locate(const char *key, const struct dg_object_info *info, uint32_t part_no,
                  struct dg_range *range)
{
  return dg_engine_part_range(engine.engine, &double_call, double_str("b"), double_str(key), info,
                              part_no, range, &err);
}

static void assert_parts(const char *key, uint32_t count)
{
  struct dg_object_info info;
  struct dg_range range;
  uint64_t at = 0;

  assert_ok(look(key, &info));
  ck_assert_uint_eq(info.part_count, count);
  for (uint32_t i = 0; i < count; i++) {
    if (i % 97 == 0 || i + 1 == count) {
      assert_ok(locate(key, &info, i + 1, &range));
      ck_assert_uint_eq(range.offset, at);
      ck_assert_uint_eq(range.length, sizes[i]);
    }
    at += sizes[i];
  }
  assert_code(locate(key, &info, count + 1, &range), DG_E_INVALID_RANGE);
  dg_object_info_clear(&info);
}

static uint32_t files_left(void)
{
  g_autofree char *path = g_build_filename(engine.snapshot->state_dir, "notes", NULL);
  GDir *files = g_dir_open(path, 0, NULL);
  uint32_t count = 0;

  while (files && g_dir_read_name(files))
    count++;
  if (files)
    g_dir_close(files);
  return count;
}

START_TEST(ten_thousand_unequal_parts_are_found_beside_the_longest_metadata)
{
  g_autoptr(GBytes) body = parts_of(MANY, 1);
  struct dg_meta *meta = dg_meta_new();
  g_autofree char *value = g_strnfill(2000, 'm');
  const char *key = _i ? "k.zip" : "k.bin";
  struct dg_slice kept;

  assert_ok(dg_meta_add_user(meta, DG_SLICE("long"), double_str(value), &err));
  assert_ok(put_parts(key, body, MANY, meta));
  dg_meta_unref(meta);
  kept = dg_meta_extension(double_store_meta(store, "b", key, _i ? DG_VARIANT_DELTA
                                                                 : DG_VARIANT_PASSTHROUGH),
                           DG_EXTENSION_PART_SIZES);
  ck_assert_uint_le(kept.len, 40);
  ck_assert_uint_eq(double_store_note_count(store), 1);
  ck_assert_uint_eq(files_left(), 0);
  assert_parts(key, MANY);
  reopen();
  assert_parts(key, MANY);
}
END_TEST

START_TEST(sizes_that_are_short_stay_in_the_metadata)
{
  g_autoptr(GBytes) body = parts_of(20, 2);

  assert_ok(put_parts("k", body, 20, NULL));
  ck_assert_uint_eq(double_store_note_count(store), 0);
  assert_parts("k", 20);
}
END_TEST

START_TEST(a_note_goes_with_its_object)
{
  g_autoptr(GBytes) body = parts_of(FEW, 3), other = double_bytes(100, 4);
  struct dg_put_result result;

  assert_ok(put_parts("k", body, FEW, NULL));
  ck_assert_uint_eq(double_store_note_count(store), 1);
  assert_ok(put_parts("k", body, FEW, NULL));
  ck_assert_uint_eq(double_store_note_count(store), 1);
  assert_parts("k", FEW);
  assert_ok(double_put(&engine, "b", "k", other, &result, &err));
  ck_assert_uint_eq(double_store_note_count(store), 0);
  assert_ok(put_parts("k", body, FEW, NULL));
  ck_assert_uint_eq(double_store_note_count(store), 1);
  assert_ok(double_delete(&engine, "b", "k", &err));
  ck_assert_uint_eq(double_store_note_count(store), 0);
  ck_assert_uint_eq(files_left(), 0);
}
END_TEST

START_TEST(a_copy_needs_no_note_and_new_metadata_keep_the_old_one)
{
  g_autoptr(GBytes) body = parts_of(FEW, 5);
  struct dg_meta *meta = dg_meta_new();
  struct dg_copy_request request = {.source_bucket = double_str("b"),
                                    .source_key = double_str("k"),
                                    .bucket = double_str("b"),
                                    .key = double_str("copy")};
  struct dg_put_result result;
  int64_t modified_s;

  assert_ok(put_parts("k", body, FEW, NULL));
  assert_ok(dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s, &err));
  ck_assert_uint_eq(double_store_note_count(store), 1);
  assert_ok(double_delete(&engine, "b", "copy", &err));
  ck_assert_uint_eq(double_store_note_count(store), 1);
  assert_ok(dg_meta_add_user(meta, DG_SLICE("new"), DG_SLICE("yes"), &err));
  request.key = double_str("k");
  request.replace_metadata = true;
  request.meta = meta;
  assert_ok(dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s, &err));
  dg_meta_unref(meta);
  assert_parts("k", FEW);
  ck_assert_uint_eq(double_store_note_count(store), 1);
}
END_TEST

/* The note of what is there, if any, and no other. */
static void assert_tidy(const char *key)
{
  const struct dg_meta *meta = double_store_meta(store, "b", key, DG_VARIANT_PASSTHROUGH);
  struct dg_slice id = meta ? dg_part_note_id(meta) : DG_SLICE_NONE;

  ck_assert_uint_eq(double_store_note_count(store),
                    id.len && double_store_has_note(store, "b", id) ? 1 : 0);
  ck_assert_uint_eq(files_left(), 0);
}

/* Whichever step is the last: 0 an overwrite by parts, 1 by a plain object, 2 a deletion. */
static int change(int kind, GBytes *body, GBytes *plain)
{
  struct dg_put_result result;

  if (kind == 0)
    return put_parts("k", body, FEW, NULL);
  return kind == 1 ? double_put(&engine, "b", "k", plain, &result, &err)
                   : double_delete(&engine, "b", "k", &err);
}

START_TEST(whatever_step_fails_no_note_is_left_after_a_sweep)
{
  bool crash = _i % 2;
  int kind = _i / 2;
  bool reached = true;

  teardown();
  open_with(DG_CAP_NOTES | DG_CAP_LOCAL_FILE); /* elsewhere the sweep waits first */
  for (uint64_t step = 1; reached; step++) {
    g_autoptr(GBytes) body = parts_of(FEW, 6), plain = double_bytes(100, 7), got = NULL;
    struct dg_object_info info;
    struct dg_range range;

    assert_ok(put_parts("k", body, FEW, NULL));
    double_store_fail(store, step, DG_E_IO, crash);
    (void)change(kind, body, plain);
    reached = double_store_failed(store);
    double_store_revive(store);
    if (crash)
      reopen();
    if (double_get(&engine, "b", "k", &got, &err) == 0) {
      ck_assert(g_bytes_equal(got, body) || (kind == 1 && g_bytes_equal(got, plain)));
      assert_ok(look("k", &info));
      if (locate("k", &info, 2, &range) == 0)
        ck_assert_uint_eq(range.length, sizes[1]);
      else
        ck_assert_int_eq(err.code, info.part_count ? DG_E_NOT_IMPLEMENTED : DG_E_INVALID_RANGE);
      dg_object_info_clear(&info);
    } else {
      ck_assert_int_eq(err.code, DG_E_NO_SUCH_KEY);
      ck_assert_int_eq(kind, 2);
    }
    dg_engine_sweep(engine.engine);
    assert_tidy("k");
  }
}
END_TEST

START_TEST(a_note_stays_while_a_far_storage_may_yet_store_its_object)
{
  g_autoptr(GBytes) body = parts_of(FEW, 14);
  bool reached = true;
  uint32_t notes = 0;

  for (uint64_t step = 1; reached; step++) {
    double_store_fail(store, step, DG_E_TIMEOUT, /* crash= */ false);
    (void)put_parts("k", body, FEW, NULL);
    reached = double_store_failed(store);
    double_store_revive(store);
    notes = double_store_note_count(store);
    dg_engine_sweep(engine.engine);
    ck_assert_uint_eq(double_store_note_count(store), notes);
  }
  /* What is there has one, and more than that is left. */
  ck_assert_uint_gt(notes, 1);
  ck_assert_uint_gt(files_left(), 0);
  reopen();
  dg_engine_sweep(engine.engine);
  ck_assert_uint_eq(double_store_note_count(store), notes);
}
END_TEST

START_TEST(files_of_changes_that_cannot_be_read_are_removed)
{
  static const char *const texts[] = {
    "", "deltaglider-notes 1\n", "deltaglider-notes 1\nmain\nreal\nzz\n6b\nid\nend\n",
    "deltaglider-notes 1\nmain\nreal\n62\n6\nid\nend\n",
    "deltaglider-notes 1\nmain\nreal\n62\nzz\nid\nend\n"};
  g_autoptr(GBytes) body = parts_of(FEW, 15);

  assert_ok(put_parts("k", body, FEW, NULL));
  for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
    g_autofree char *path = g_build_filename(engine.snapshot->state_dir, "notes", "damaged", NULL);

    ck_assert(g_file_set_contents(path, texts[i], -1, NULL));
    dg_engine_sweep(engine.engine);
    ck_assert_msg(!g_file_test(path, G_FILE_TEST_EXISTS), "text %zu", i);
  }
  ck_assert_uint_eq(double_store_note_count(store), 1);
}
END_TEST

START_TEST(a_note_that_is_missing_or_damaged_costs_part_numbers_alone)
{
  g_autoptr(GBytes) body = parts_of(FEW, 8), got = NULL;
  struct dg_object_info info;
  struct dg_range range = {7, 7};

  assert_ok(put_parts("k", body, FEW, NULL));
  double_store_change_notes(store, "~AAAA");
  assert_ok(look("k", &info));
  assert_code(locate("k", &info, 2, &range), DG_E_CORRUPT);
  double_store_change_notes(store, NULL);
  assert_code(locate("k", &info, 2, &range), DG_E_NOT_IMPLEMENTED);
  ck_assert_uint_eq(range.offset, 7);
  dg_object_info_clear(&info);
  assert_ok(double_get(&engine, "b", "k", &got, &err));
  ck_assert(g_bytes_equal(got, body));
  assert_ok(double_delete(&engine, "b", "k", &err));
}
END_TEST

START_TEST(an_object_that_was_replaced_meanwhile_is_looked_at_again)
{
  g_autoptr(GBytes) body = parts_of(FEW, 9);
  struct dg_object_info info;
  struct dg_range range;

  assert_ok(put_parts("k", body, FEW, NULL));
  assert_ok(look("k", &info));
  assert_ok(put_parts("k", body, FEW, NULL));
  assert_code(locate("k", &info, 2, &range), DG_E_NO_SUCH_KEY);
  dg_object_info_clear(&info);
  assert_parts("k", FEW);
}
END_TEST

START_TEST(storage_that_keeps_no_notes_gets_all_in_the_metadata)
{
  g_autoptr(GBytes) body = NULL;

  teardown();
  open_with(0);
  body = parts_of(MANY, 10);
  assert_ok(put_parts("k", body, MANY, NULL));
  assert_parts("k", MANY);
}
END_TEST

/* ---- What a storage knows ------------------------------------------------------------- */

static void store_unmanaged(void)
{
  g_autoptr(GBytes) body = double_bytes(1000, 11);
  struct dg_meta *meta = dg_meta_new();

  meta->file_size = 1000;
  meta->flags = DG_META_UNMANAGED;
  assert_ok(dg_meta_set(meta, DG_FIELD_UNMANAGED_ETAG,
                        DG_SLICE("00000000000000000000000000000007-3"), &err));
  double_store_put(store, "b", "theirs", DG_VARIANT_PASSTHROUGH, body, meta);
  dg_meta_unref(meta);
}

START_TEST(the_storage_is_asked_for_the_parts_of_what_it_joined)
{
  struct dg_object_info info;
  struct dg_range range = {7, 7};

  teardown();
  open_with(DG_CAP_LOCATE_PART);
  store_unmanaged();
  assert_ok(look("theirs", &info));
  double_store_place(&(struct double_place){.range = {400, 600}});
  assert_ok(locate("theirs", &info, 2, &range));
  ck_assert_uint_eq(range.offset, 400);
  ck_assert_uint_eq(range.length, 600);
  /* Nothing it says reaches beyond the object. */
  double_store_place(&(struct double_place){.range = {400, 601}});
  assert_code(locate("theirs", &info, 2, &range), DG_E_IO);
  for (int i = 0; i < 2; i++) {
    double_store_place(
      &(struct double_place){.code = i ? DG_E_PRECONDITION_FAILED : DG_E_UNSUPPORTED});
    assert_code(locate("theirs", &info, 2, &range), DG_E_NOT_IMPLEMENTED);
  }
  double_store_place(&(struct double_place){.code = DG_E_TIMEOUT});
  assert_code(locate("theirs", &info, 2, &range), DG_E_TIMEOUT);
  ck_assert_uint_eq(double_store_asked(), 1);
  /* More parts than the ETag tells are not asked for. */
  assert_code(locate("theirs", &info, 4, &range), DG_E_INVALID_RANGE);
  ck_assert_uint_eq(double_store_asked(), 1);
  store_unmanaged();
  double_store_place(&(struct double_place){.code = DG_E_PRECONDITION_FAILED});
  assert_code(locate("theirs", &info, 2, &range), DG_E_NO_SUCH_KEY);
  dg_object_info_clear(&info);
}
END_TEST

START_TEST(the_storage_is_never_asked_for_the_parts_of_what_we_joined)
{
  g_autoptr(GBytes) body = NULL;
  struct dg_object_info info;
  struct dg_range range;

  teardown();
  open_with(DG_CAP_LOCATE_PART | DG_CAP_NOTES);
  body = parts_of(FEW, 12);
  assert_ok(put_parts("k", body, FEW, NULL));
  double_store_change_notes(store, NULL);
  double_store_place(&(struct double_place){.range = {0, 1}});
  assert_ok(look("k", &info));
  assert_code(locate("k", &info, 2, &range), DG_E_NOT_IMPLEMENTED);
  ck_assert_uint_eq(double_store_asked(), 0);
  dg_object_info_clear(&info);
}
END_TEST

static Suite *notes_suite(void)
{
  Suite *suite = suite_create("engine part notes");
  TCase *cases = tcase_create("notes");

  tcase_set_timeout(cases, 120);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_loop_test(cases, ten_thousand_unequal_parts_are_found_beside_the_longest_metadata, 0,
                      2);
  tcase_add_test(cases, sizes_that_are_short_stay_in_the_metadata);
  tcase_add_test(cases, a_note_goes_with_its_object);
  tcase_add_test(cases, a_copy_needs_no_note_and_new_metadata_keep_the_old_one);
  tcase_add_loop_test(cases, whatever_step_fails_no_note_is_left_after_a_sweep, 0, 6);
  tcase_add_test(cases, a_note_stays_while_a_far_storage_may_yet_store_its_object);
  tcase_add_test(cases, files_of_changes_that_cannot_be_read_are_removed);
  tcase_add_test(cases, a_note_that_is_missing_or_damaged_costs_part_numbers_alone);
  tcase_add_test(cases, an_object_that_was_replaced_meanwhile_is_looked_at_again);
  tcase_add_test(cases, storage_that_keeps_no_notes_gets_all_in_the_metadata);
  tcase_add_test(cases, the_storage_is_asked_for_the_parts_of_what_it_joined);
  tcase_add_test(cases, the_storage_is_never_asked_for_the_parts_of_what_we_joined);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(notes_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
