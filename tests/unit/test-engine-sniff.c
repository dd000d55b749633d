/* SPDX-License-Identifier: Apache-2.0 */
/* Deltas of objects whose names say nothing: what first bytes say, and that they decide
 * on every way an object can come. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine/sniff.h"
#include "engine-double.h"

#define FLEXIBLE                                                                     \
  (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC |      \
   DG_CAP_NATIVE_UPLOAD | DG_CAP_NATIVE_COPY)
#define RIGID (DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)
#define SIZE 50000u

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;
static struct dg_put_result result;
static GBytes *archive, *plain;

#define assert_ok(call) ck_assert_msg((call) == 0, "%s", err.detail)

/* Bytes that mean nothing, but for a signature. */
static GBytes *body_with(size_t offset, const char *signature, size_t len, uint32_t seed)
{
  g_autoptr(GBytes) noise = double_bytes(SIZE, seed);
  gsize size;
  char *bytes = g_bytes_unref_to_data(g_steal_pointer(&noise), &size);

  memset(bytes, 'x', DG_SNIFF_BYTES);
  memcpy(bytes + offset, signature, len);
  return g_bytes_new_take(bytes, size);
}

static void open_on(uint64_t caps, bool sniffs)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  double_settings.delta_sniffing = sniffs;
  store = double_store_new(caps);
  double_engine_open(&engine, store, NULL);
  archive = body_with(257, "ustar", 5, 1);
  plain = body_with(0, "\x1f\x8b\x08", 3, 1);
}

static void close_all(void)
{
  g_bytes_unref(archive);
  g_bytes_unref(plain);
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
}

static void assert_reads(const char *key, GBytes *body)
{
  g_autoptr(GBytes) got = NULL;

  assert_ok(double_get(&engine, "b", key, &got, &err));
  ck_assert(g_bytes_equal(got, body));
}

/* A put whose body comes in pieces of so many bytes. */
static uint32_t put_in_pieces(const char *key, GBytes *body, size_t piece, bool tells_size)
{
  size_t size = g_bytes_get_size(body);
  const char *bytes = g_bytes_get_data(body, NULL);
  struct dg_put_request request = {.bucket = double_str("b"),
                                   .key = double_str(key),
                                   .size_bytes = tells_size ? size : DG_TO_END};
  struct dg_put *put;

  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  for (size_t at = 0; at < size; at += piece)
    assert_ok(dg_put_write(put, bytes + at, MIN(piece, size - at), &err));
  assert_ok(dg_put_commit(put, NULL, &result, &err));
  assert_reads(key, body);
  return result.variant;
}

/* ---- The table ------------------------------------------------------------------------ */

START_TEST(what_is_stored_in_plain_suits_and_what_is_compressed_does_not)
{
  static const struct {
    size_t offset, len;
    const char *bytes;
    bool suits;
  } rows[] = {
    {0, 4, "PK\3\4", true},
    {257, 8, "ustar  \0", true}, /* GNU */
    {257, 8, "ustar\0" "00", true},
    {0, 6, "070701", true},
    {0, 4, "\177ELF", true},
    {0, 2, "MZ", true},
    {0, 4, "\xcf\xfa\xed\xfe", true},
    {0, 4, "\xca\xfe\xba\xbe", true},
    {0, 16, "SQLite format 3", true},
    {0, 4, "QFI\xfb", true},
    {510, 2, "\x55\xaa", true},
    {1, 4, "PK\3\4", false},
    {256, 5, "ustar", false},
    {0, 15, "SQLite format 4", false},
    {0, 3, "\x1f\x8b\x08", false},             /* gzip */
    {0, 6, "\xfd" "7zXZ\0", false},            /* xz */
    {0, 4, "\x28\xb5\x2f\xfd", false},         /* zstd */
    {0, 3, "BZh", false},                      /* bzip2 */
    {0, 6, "7z\xbc\xaf\x27\x1c", false},       /* 7z */
    {0, 8, "\x89PNG\r\n\x1a\n", false},        /* pictures */
    {0, 4, "\xff\xd8\xff\xe0", false},
    {0, 5, "%PDF-", false},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(GBytes) body = body_with(rows[i].offset, rows[i].bytes, rows[i].len, 1);
    const char *bytes = g_bytes_get_data(body, NULL);
    size_t end = rows[i].offset + rows[i].len;

    ck_assert_msg(dg_sniff_suits_delta(bytes, DG_SNIFF_BYTES) == rows[i].suits, "row %zu", i);
    /* A short object is never looked at behind its end. */
    if (rows[i].offset == 0)
      ck_assert_msg(dg_sniff_suits_delta(bytes, end) == rows[i].suits, "row %zu, short", i);
    ck_assert_msg(!dg_sniff_suits_delta(bytes, MIN(end - 1, 1)), "row %zu, cut", i);
  }
  ck_assert(!dg_sniff_suits_delta("", 0));
}
END_TEST

/* ---- On every way --------------------------------------------------------------------- */

START_TEST(first_bytes_decide_however_the_body_comes)
{
  static const size_t pieces[] = {1, 100, DG_SNIFF_BYTES - 1, DG_SNIFF_BYTES, DG_SNIFF_BYTES + 1,
                                  SIZE};
  g_autofree char *key = NULL;

  for (unsigned i = 0; i < 4 * G_N_ELEMENTS(pieces); i++) {
    if (i % (2 * G_N_ELEMENTS(pieces)) == 0) {
      if (i)
        close_all();
      open_on(i ? RIGID : FLEXIBLE, /* sniffs= */ true);
    }
    g_free(key);
    key = g_strdup_printf("d/%u.bin", i);
    ck_assert_uint_eq(put_in_pieces(key, archive, pieces[i / 2 % G_N_ELEMENTS(pieces)], i % 2),
                      DG_VARIANT_DELTA);
    ck_assert_uint_eq(put_in_pieces(key, plain, pieces[i / 2 % G_N_ELEMENTS(pieces)], i % 2),
                      DG_VARIANT_PASSTHROUGH);
    /* The name still decides where it says something. */
    ck_assert_uint_eq(put_in_pieces("z/x.zip", plain, pieces[i / 2 % G_N_ELEMENTS(pieces)], i % 2),
                      DG_VARIANT_DELTA);
  }
  close_all();
}
END_TEST

START_TEST(short_and_empty_objects_are_stored)
{
  open_on(RIGID, /* sniffs= */ true);
  for (size_t size = 0; size < 2 * DG_SNIFF_BYTES; size += size < 8 ? 1 : 63) {
    g_autoptr(GBytes) body = g_bytes_new_from_bytes(archive, 0, size);

    (void)put_in_pieces("short", body, 7, size % 2);
    ck_assert_uint_eq(result.size_bytes, size);
  }
  close_all();
}
END_TEST

START_TEST(without_sniffing_the_name_decides_alone)
{
  open_on(FLEXIBLE, /* sniffs= */ false);
  ck_assert_uint_eq(put_in_pieces("d/a.bin", archive, SIZE, true), DG_VARIANT_PASSTHROUGH);
  close_all();
}
END_TEST

START_TEST(a_put_that_ends_before_it_is_decided_leaves_nothing)
{
  struct dg_put_request request = {
    .bucket = double_str("b"), .key = double_str("k"), .size_bytes = 1000};
  struct dg_put *put;

  open_on(FLEXIBLE, /* sniffs= */ true);
  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_ok(dg_put_write(put, "abc", 3, &err));
  dg_put_abort(put);
  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_ok(dg_put_write(put, "abc", 3, &err));
  ck_assert_int_eq(dg_put_commit(put, NULL, &result, &err), -1);
  ck_assert_int_eq(err.code, DG_E_INCOMPLETE_BODY);
  request.bucket = double_str("none");
  request.size_bytes = 3;
  assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err));
  assert_ok(dg_put_write(put, "abc", 3, &err));
  ck_assert_int_eq(dg_put_commit(put, NULL, &result, &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_BUCKET);
  close_all();
}
END_TEST

static int copy(const char *from, const char *to)
{
  struct dg_copy_request request = {.source_bucket = double_str("b"),
                                    .source_key = double_str(from),
                                    .bucket = double_str("b"),
                                    .key = double_str(to)};
  int64_t modified_s;

  return dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s, &err);
}

START_TEST(a_copy_is_looked_at_before_the_storage_makes_it)
{
  open_on(FLEXIBLE, /* sniffs= */ false);
  (void)put_in_pieces("archive", archive, SIZE, true);
  (void)put_in_pieces("plain", plain, SIZE, true);
  double_engine_close(&engine);
  double_settings.delta_sniffing = true;
  double_engine_open(&engine, store, NULL);
  assert_ok(copy("plain", "d/plain"));
  ck_assert_uint_eq(result.variant, DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(double_store_copies(store), 1);
  assert_ok(copy("archive", "d/archive"));
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  ck_assert_uint_eq(double_store_copies(store), 1);
  assert_reads("d/plain", plain);
  assert_reads("d/archive", archive);
  close_all();
}
END_TEST

static void upload(const char *key, GBytes *body, size_t first)
{
  struct dg_part_result sent[2] = {0};
  char id[33];

  assert_ok(double_upload_create(&engine, key, DG_SUM_NONE, false, NULL, id, &err));
  for (uint32_t i = 0; i < 2; i++) {
    g_autoptr(GBytes) part =
      g_bytes_new_from_bytes(body, i ? first : 0, i ? SIZE - first : first);

    assert_ok(double_upload_part(&engine, key, id, i + 1, part, &sent[i], &err));
  }
  assert_ok(double_upload_complete(&engine, key, id, sent, 2, "", NULL, &result, &err));
  assert_reads(key, body);
}

START_TEST(the_parts_of_an_upload_are_looked_at_as_one)
{
  open_on(FLEXIBLE, /* sniffs= */ true);
  upload("d/one", archive, 100); /* the signature lies in the second part */
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  upload("d/two", plain, 100);
  ck_assert_uint_eq(result.variant, DG_VARIANT_PASSTHROUGH);
  close_all();
}
END_TEST

START_TEST(parts_that_may_become_a_delta_stay_here)
{
  g_autoptr(GBytes) large = double_bytes((size_t)5 << 20, 1);

  for (int sniffs = 0; sniffs < 2; sniffs++) {
    struct dg_part_result sent;
    char id[33];

    open_on(FLEXIBLE, sniffs);
    assert_ok(double_upload_create(&engine, "k", DG_SUM_NONE, false, NULL, id, &err));
    assert_ok(double_upload_part(&engine, "k", id, 1, large, &sent, &err));
    ck_assert_uint_eq(double_store_upload_count(store), sniffs ? 0 : 1);
    assert_ok(dg_engine_upload_abort(engine.engine, &double_call, double_str("b"),
                                     double_str("k"), double_str(id), &err));
    close_all();
  }
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("engine-sniff");
  TCase *cases = tcase_create("all");
  SRunner *runner;
  int failed;

  tcase_set_timeout(cases, 120);
  tcase_add_test(cases, what_is_stored_in_plain_suits_and_what_is_compressed_does_not);
  tcase_add_test(cases, first_bytes_decide_however_the_body_comes);
  tcase_add_test(cases, short_and_empty_objects_are_stored);
  tcase_add_test(cases, without_sniffing_the_name_decides_alone);
  tcase_add_test(cases, a_put_that_ends_before_it_is_decided_leaves_nothing);
  tcase_add_test(cases, a_copy_is_looked_at_before_the_storage_makes_it);
  tcase_add_test(cases, the_parts_of_an_upload_are_looked_at_as_one);
  tcase_add_test(cases, parts_that_may_become_a_delta_stay_here);
  suite_add_tcase(suite, cases);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
