/* SPDX-License-Identifier: Apache-2.0 */
/* Multipart uploads, on doubles. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utime.h>

#include "common/checksum.h"
#include "common/fault.h"
#include "common/hex.h"
#include "engine-double.h"

#define FLEXIBLE (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;
static char *dir;

static void setup(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  store = double_store_new(FLEXIBLE);
  dir = g_dir_make_tmp("engine-upload-XXXXXX", NULL);
  double_engine_open(&engine, store, dir);
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

static int create(const char *key, uint32_t kind, bool full, char id[33])
{
  return double_upload_create(&engine, key, kind, full, /* meta= */ NULL, id, &err);
}

static int send_part(const char *key, const char *id, uint32_t number, GBytes *body,
                     struct dg_part_result *result)
{
  return double_upload_part(&engine, key, id, number, body, result, &err);
}

static int complete(const char *key, const char *id, const struct dg_part_result *parts,
                    uint32_t count, const char *checksum, struct dg_put_result *result)
{
  return double_upload_complete(&engine, key, id, parts, count, checksum, /* check= */ NULL,
                                result, &err);
}

static GBytes *join(GBytes **parts, size_t count)
{
  GByteArray *all = g_byte_array_new();

  for (size_t i = 0; i < count; i++)
    g_byte_array_append(all, g_bytes_get_data(parts[i], NULL),
                        (guint)g_bytes_get_size(parts[i]));
  return g_byte_array_free_to_bytes(all);
}

static void assert_reads(const char *key, GBytes *body)
{
  g_autoptr(GBytes) got = NULL;

  assert_ok(double_get(&engine, "b", key, &got, &err));
  ck_assert(g_bytes_equal(got, body));
}

static struct {
  char id[33];
  GBytes *bytes[3], *whole;
  struct dg_part_result parts[3];
} up;

/* Three parts: 300000, 300000, 1000 bytes. */
static void upload_three(const char *key, uint32_t kind, bool full)
{
  const size_t sizes[] = {300000, 300000, 1000};

  assert_ok(create(key, kind, full, up.id));
  for (uint32_t i = 0; i < 3; i++) {
    up.bytes[i] = double_bytes(sizes[i], i + 1);
    assert_ok(send_part(key, up.id, i + 1, up.bytes[i], &up.parts[i]));
  }
  up.whole = join(up.bytes, 3);
}

static void drop_three(void)
{
  for (size_t i = 0; i < 3; i++)
    g_bytes_unref(up.bytes[i]);
  g_bytes_unref(up.whole);
}

START_TEST(parts_become_one_object_with_a_composite_etag)
{
  struct dg_put_result result;
  struct dg_object_info info;
  struct dg_range range;
  uint8_t md5s[48], digest[DG_SUM_MAX_BYTES];
  struct dg_checksum sum = {0};
  char hex[33], expected[64];

  upload_three("big.txt", DG_SUM_NONE, false);
  assert_ok(complete("big.txt", up.id, up.parts, 3, "", &result));
  for (size_t i = 0; i < 3; i++)
    ck_assert(dg_hex_decode((struct dg_slice){up.parts[i].etag + 1, 32}, md5s + 16 * i, 16));
  dg_checksum_init(&sum, DG_SUM_MD5);
  dg_checksum_update(&sum, md5s, sizeof md5s);
  (void)dg_checksum_final(&sum, digest);
  dg_checksum_clear(&sum);
  dg_hex_encode(digest, 16, hex);
  (void)g_snprintf(expected, sizeof expected, "\"%s-3\"", hex);
  ck_assert_str_eq(result.etag, expected);
  ck_assert_uint_eq(result.size_bytes, 601000);
  assert_reads("big.txt", up.whole);
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("big.txt"),
                           &info, &err));
  ck_assert_str_eq(info.etag, expected);
  ck_assert_uint_eq(info.part_count, 3);
  ck_assert_str_eq(dg_meta_extension(info.meta, "part-sizes").data, "300000x2,1000");
  assert_ok(dg_object_part_range(&info, 2, &range, &err));
  ck_assert_uint_eq(range.offset, 300000);
  ck_assert_uint_eq(range.length, 300000);
  assert_ok(dg_object_part_range(&info, 3, &range, &err));
  ck_assert_uint_eq(range.offset, 600000);
  ck_assert_uint_eq(range.length, 1000);
  assert_code(dg_object_part_range(&info, 4, &range, &err), DG_E_INVALID_RANGE);
  assert_code(dg_object_part_range(&info, 0, &range, &err), DG_E_INVALID_RANGE);
  dg_object_info_clear(&info);
  drop_three();
}
END_TEST

START_TEST(every_one_of_many_unequal_parts_can_be_found)
{
  enum { COUNT = 150 };
  static struct dg_part_result parts[COUNT];
  g_autoptr(GBytes) bytes = double_bytes(2 * COUNT, 5);
  struct dg_put_result result;
  struct dg_object_info info;
  struct dg_range range;
  uint64_t offset = 0;

  assert_ok(create("many.txt", DG_SUM_NONE, false, up.id));
  for (uint32_t i = 0; i < COUNT; i++) {
    g_autoptr(GBytes) body = g_bytes_new_from_bytes(bytes, 0, COUNT + i * 7 % COUNT);

    assert_ok(send_part("many.txt", up.id, i + 1, body, &parts[i]));
  }
  assert_ok(complete("many.txt", up.id, parts, COUNT, "", &result));
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("many.txt"),
                           &info, &err));
  for (uint32_t i = 0; i < COUNT; i++) {
    assert_ok(dg_object_part_range(&info, i + 1, &range, &err));
    ck_assert_uint_eq(range.offset, offset);
    ck_assert_uint_eq(range.length, parts[i].size_bytes);
    offset += range.length;
  }
  ck_assert_uint_eq(offset, info.size_bytes);
  assert_code(dg_object_part_range(&info, COUNT + 1, &range, &err), DG_E_INVALID_RANGE);
  dg_object_info_clear(&info);
}
END_TEST

/* A backend without room for the sizes, or an older writer, left them out. */
START_TEST(sizes_that_were_not_recorded_fail_the_part_number_alone)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_object_info info;
  struct dg_range range;
  g_autoptr(GBytes) body = double_bytes(1000, 1);

  meta->variant = DG_VARIANT_PASSTHROUGH;
  meta->file_size = 1000;
  assert_ok(dg_meta_set(meta, DG_FIELD_MULTIPART_ETAG,
                        DG_SLICE("\"0123456789abcdef0123456789abcdef-3\""), &err));
  double_store_put(store, "b", "bare.txt", DG_VARIANT_PASSTHROUGH, body, meta);
  dg_meta_unref(meta);
  assert_ok(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("bare.txt"),
                           &info, &err));
  ck_assert_uint_eq(info.part_count, 3);
  assert_code(dg_object_part_range(&info, 3, &range, &err), DG_E_NOT_IMPLEMENTED);
  assert_code(dg_object_part_range(&info, 4, &range, &err), DG_E_INVALID_RANGE);
  dg_object_info_clear(&info);
  assert_reads("bare.txt", body);
}
END_TEST

START_TEST(an_eligible_upload_becomes_a_delta)
{
  struct dg_put_result result;

  upload_three("rel/big.zip", DG_SUM_NONE, false);
  assert_ok(complete("rel/big.zip", up.id, up.parts, 3, "", &result));
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  ck_assert(g_str_has_suffix(result.etag, "-3\""));
  assert_reads("rel/big.zip", up.whole);
  drop_three();
}
END_TEST

START_TEST(an_upload_above_its_limit_is_stored_as_it_is)
{
  struct dg_put_result result;

  double_settings.mpu_delta_max_bytes = 601000;
  reopen();
  upload_three("rel/fits.zip", DG_SUM_NONE, false);
  assert_ok(complete("rel/fits.zip", up.id, up.parts, 3, "", &result));
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  drop_three();
  double_settings.mpu_delta_max_bytes--;
  reopen();
  upload_three("rel/big.zip", DG_SUM_NONE, false);
  assert_ok(complete("rel/big.zip", up.id, up.parts, 3, "", &result));
  ck_assert_uint_eq(result.variant, DG_VARIANT_PASSTHROUGH);
  assert_reads("rel/big.zip", up.whole);
  /* One request with the same bytes is no upload. */
  assert_ok(double_put(&engine, "b", "rel/one.zip", up.whole, &result, &err));
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  assert_reads("rel/one.zip", up.whole);
  drop_three();
}
END_TEST

START_TEST(an_upload_survives_a_restart)
{
  struct dg_put_result result, again;

  upload_three("big.zip", DG_SUM_CRC32, false);
  reopen();
  assert_ok(complete("big.zip", up.id, up.parts, 3, "", &result));
  assert_reads("big.zip", up.whole);
  ck_assert_uint_eq(result.checksum_kind, DG_SUM_CRC32);
  ck_assert(g_str_has_suffix(result.checksum_base64, "-3"));
  /* Asked again, before and after another restart: the same answer. */
  assert_ok(complete("big.zip", up.id, up.parts, 3, "", &again));
  ck_assert_str_eq(again.etag, result.etag);
  reopen();
  memset(&again, 0, sizeof again);
  assert_ok(complete("big.zip", up.id, up.parts, 3, "", &again));
  ck_assert_str_eq(again.etag, result.etag);
  ck_assert_str_eq(again.checksum_base64, result.checksum_base64);
  ck_assert_uint_eq(again.size_bytes, 601000);
  /* Another Complete is not that one. */
  assert_code(complete("big.zip", up.id, up.parts, 2, "", &again), DG_E_NO_SUCH_UPLOAD);
  assert_code(dg_engine_upload_abort(engine.engine, &double_call, double_str("b"),
                                     double_str("big.zip"), double_str(up.id), &err),
              DG_E_NO_SUCH_UPLOAD);
  drop_three();
}
END_TEST

START_TEST(a_full_object_checksum_is_that_of_the_bytes)
{
  struct dg_put_result result;
  struct dg_checksum sum = {0};
  char expected[DG_SUM_MAX_BASE64];

  upload_three("sum.txt", DG_SUM_CRC64NVME, false);
  dg_checksum_init(&sum, DG_SUM_CRC64NVME);
  dg_checksum_update(&sum, g_bytes_get_data(up.whole, NULL), g_bytes_get_size(up.whole));
  dg_checksum_final_base64(&sum, expected);
  dg_checksum_clear(&sum);
  assert_code(complete("sum.txt", up.id, up.parts, 3, "AAAAAAAAAAA=", &result),
              DG_E_CHECKSUM_MISMATCH);
  assert_ok(complete("sum.txt", up.id, up.parts, 3, expected, &result));
  ck_assert_str_eq(result.checksum_base64, expected);
  drop_three();
}
END_TEST

START_TEST(a_sha_checksum_cannot_be_of_the_full_object)
{
  char id[33];

  assert_code(create("x", DG_SUM_SHA256, true, id), DG_E_INVALID_REQUEST);
}
END_TEST

START_TEST(wrong_completes_are_refused_and_the_upload_stays)
{
  struct dg_part_result wrong[3];
  struct dg_put_result result;
  struct dg_complete_part disorder[2];
  struct dg_complete_request request;

  upload_three("big.txt", DG_SUM_NONE, false);
  memcpy(wrong, up.parts, sizeof wrong);
  wrong[1] = wrong[0];
  assert_code(complete("big.txt", up.id, wrong, 3, "", &result), DG_E_INVALID_PART);
  assert_code(complete("big.txt", up.id, up.parts, 0, "", &result), DG_E_MALFORMED_XML);
  disorder[0] = (struct dg_complete_part){.part_no = 2, .etag = double_str(up.parts[1].etag)};
  disorder[1] = (struct dg_complete_part){.part_no = 1, .etag = double_str(up.parts[0].etag)};
  request = (struct dg_complete_request){.bucket = double_str("b"),
                                         .key = double_str("big.txt"),
                                         .upload_id = double_str(up.id),
                                         .parts = disorder,
                                         .part_count = 2};
  assert_code(dg_engine_upload_complete(engine.engine, &double_call, &request, &result, &err),
              DG_E_INVALID_PART_ORDER);
  assert_code(complete("other.txt", up.id, up.parts, 3, "", &result), DG_E_NO_SUCH_UPLOAD);
  assert_ok(complete("big.txt", up.id, up.parts, 3, "", &result));
  drop_three();
}
END_TEST

START_TEST(a_failed_commit_leaves_the_upload_open)
{
  struct dg_put_result result;

  upload_three("big.zip", DG_SUM_NONE, false);
  for (uint64_t n = 1;; n++) {
    double_store_fail(store, n, DG_E_NO_SPACE, /* crash= */ false);
    if (complete("big.zip", up.id, up.parts, 3, "", &result) == 0)
      break;
    ck_assert_int_eq(err.code, DG_E_NO_SPACE);
    ck_assert_uint_lt(n, 1000);
  }
  assert_reads("big.zip", up.whole);
  drop_three();
}
END_TEST

START_TEST(a_part_sent_again_replaces_the_first)
{
  g_autoptr(GBytes) better = double_bytes(777, 9);
  struct dg_put_result result;

  upload_three("big.txt", DG_SUM_NONE, false);
  assert_ok(send_part("big.txt", up.id, 1, better, &up.parts[0]));
  assert_ok(complete("big.txt", up.id, up.parts, 1, "", &result));
  assert_reads("big.txt", better);
  drop_three();
}
END_TEST

static int count_part(void *receiver, const struct dg_part_row *row)
{
  *(uint32_t *)receiver += row->part_no;
  return 0;
}

static int join_upload(void *receiver, const struct dg_upload_row *row)
{
  GString *out = receiver;

  g_string_append_printf(out, "%.*s%s ", (int)row->key.len, row->key.data,
                         row->is_prefix ? "*" : "");
  return 0;
}

START_TEST(parts_and_uploads_are_listed_in_pages)
{
  g_autoptr(GString) out = g_string_new(NULL);
  char id[33];
  uint32_t sum = 0;
  bool more;

  upload_three("b.txt", DG_SUM_NONE, false);
  assert_ok(create("d/x.txt", DG_SUM_NONE, false, id));
  assert_ok(create("a.txt", DG_SUM_NONE, false, id));
  assert_ok(dg_engine_part_list(engine.engine, &double_call, double_str("b"), double_str("b.txt"),
                                double_str(up.id), 1, 1, count_part, &sum, &more, &err));
  ck_assert_uint_eq(sum, 2);
  ck_assert(more);
  assert_ok(dg_engine_upload_list(engine.engine, &double_call, double_str("b"), double_str(""),
                                  double_str("/"), double_str(""), double_str(""), 2, join_upload,
                                  out, &more, &err));
  ck_assert_str_eq(out->str, "a.txt b.txt ");
  ck_assert(more);
  g_string_truncate(out, 0);
  assert_ok(dg_engine_upload_list(engine.engine, &double_call, double_str("b"), double_str(""),
                                  double_str("/"), double_str("b.txt"), double_str(""), 2,
                                  join_upload, out, &more, &err));
  ck_assert_str_eq(out->str, "d/* ");
  ck_assert(!more);
  drop_three();
}
END_TEST

START_TEST(an_abort_frees_everything)
{
  g_autofree char *path = NULL;
  struct dg_put_result result;

  upload_three("b.txt", DG_SUM_NONE, false);
  path = g_build_filename(dir, "state", "uploads", up.id, NULL);
  ck_assert(g_file_test(path, G_FILE_TEST_IS_DIR));
  assert_ok(dg_engine_upload_abort(engine.engine, &double_call, double_str("b"),
                                   double_str("b.txt"), double_str(up.id), &err));
  ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
  assert_code(complete("b.txt", up.id, up.parts, 3, "", &result), DG_E_NO_SUCH_UPLOAD);
  drop_three();
}
END_TEST

START_TEST(idle_uploads_and_orphans_go_at_the_start)
{
  g_autofree char *orphan = NULL, *path = NULL;
  struct utimbuf long_ago = {1000, 1000};

  upload_three("b.txt", DG_SUM_NONE, false);
  orphan = g_build_filename(dir, "state", "uploads", "0123456789abcdef0123456789abcdef", NULL);
  ck_assert_int_eq(mkdir(orphan, 0700), 0);
  path = g_build_filename(dir, "state", "uploads", up.id, NULL);
  ck_assert_int_eq(utime(path, &long_ago), 0);
  reopen();
  ck_assert(!g_file_test(orphan, G_FILE_TEST_EXISTS));
  ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
  drop_three();
}
END_TEST

START_TEST(a_part_that_rots_is_found)
{
  g_autofree char *path = NULL, *data = NULL;
  struct dg_put_result result;
  gsize len;

  upload_three("big.txt", DG_SUM_NONE, false);
  path = g_build_filename(dir, "state", "uploads", up.id, "part-00002", NULL);
  ck_assert(g_file_get_contents(path, &data, &len, NULL));
  data[1000] ^= 1;
  ck_assert(g_file_set_contents(path, data, (gssize)len, NULL));
  assert_code(complete("big.txt", up.id, up.parts, 3, "", &result), DG_E_CORRUPT);
  /* Sent again, it is fine. */
  assert_ok(send_part("big.txt", up.id, 2, up.bytes[1], &up.parts[1]));
  assert_ok(complete("big.txt", up.id, up.parts, 3, "", &result));
  assert_reads("big.txt", up.whole);
  drop_three();
}
END_TEST

START_TEST(too_many_uploads_are_refused)
{
  char id[33];

  double_settings.max_uploads = 2;
  reopen();
  assert_ok(create("1", DG_SUM_NONE, false, id));
  assert_ok(create("2", DG_SUM_NONE, false, id));
  assert_code(create("3", DG_SUM_NONE, false, id), DG_E_SLOW_DOWN);
}
END_TEST

static gint created_count;

static gpointer create_in_thread(gpointer number)
{
  g_autofree char *key = g_strdup_printf("t%u", GPOINTER_TO_UINT(number));
  struct dg_put_request request = {.bucket = double_str("b"), .key = double_str(key)};
  struct dg_error error;
  char id[33];

  for (uint32_t i = 0; i < 10; i++) {
    if (dg_engine_upload_create(engine.engine, &double_call, &request, id, &error) == 0)
      (void)g_atomic_int_add(&created_count, 1);
    else
      ck_assert_int_eq(error.code, DG_E_SLOW_DOWN);
  }
  return NULL;
}

START_TEST(racing_creates_never_exceed_the_limit)
{
  enum { CREATORS = 8, LIMIT = 13 };
  GThread *threads[CREATORS];
  struct dg_engine_stats stats;

  double_settings.max_uploads = LIMIT;
  reopen();
  created_count = 0;
  for (uint32_t i = 0; i < CREATORS; i++)
    threads[i] = g_thread_new("create", create_in_thread, GUINT_TO_POINTER(i));
  for (uint32_t i = 0; i < CREATORS; i++)
    g_thread_join(threads[i]);
  ck_assert_int_eq(created_count, LIMIT);
  dg_engine_stats(engine.engine, &stats);
  ck_assert_uint_eq(stats.uploads_inflight, LIMIT);
}
END_TEST

START_TEST(an_upload_that_ends_or_fails_to_begin_makes_room_for_another)
{
  struct dg_put_result result;
  struct dg_engine_stats stats;
  char id[33];

  double_settings.max_uploads = 1;
  reopen();
  assert_ok(dg_fault_set("engine.upload.create:ENOSPC", &err));
  assert_code(create("1", DG_SUM_NONE, false, id), DG_E_NO_SPACE);
  assert_ok(dg_fault_set(NULL, &err));
  for (uint32_t i = 0; i < 3; i++) {
    upload_three("big.txt", DG_SUM_NONE, false);
    assert_code(create("2", DG_SUM_NONE, false, id), DG_E_SLOW_DOWN);
    reopen(); /* counted again from the disk */
    assert_code(create("2", DG_SUM_NONE, false, id), DG_E_SLOW_DOWN);
    if (i == 0)
      assert_ok(dg_engine_upload_abort(engine.engine, &double_call, double_str("b"),
                                       double_str("big.txt"), double_str(up.id), &err));
    else
      assert_ok(complete("big.txt", up.id, up.parts, 3, "", &result));
    drop_three();
  }
  dg_engine_stats(engine.engine, &stats);
  ck_assert_uint_eq(stats.uploads_inflight, 0);
}
END_TEST

static uint64_t waiting_bytes(void)
{
  struct dg_engine_stats stats;

  dg_engine_stats(engine.engine, &stats);
  return stats.upload_part_bytes;
}

START_TEST(parts_on_disk_are_bounded_together_and_counted_exactly)
{
  g_autoptr(GBytes) four = double_bytes(4000, 1), three = double_bytes(3000, 2);
  g_autoptr(GBytes) one = double_bytes(1000, 3);
  struct dg_part_result parts[2], unused;
  struct dg_put_result result;
  struct dg_part_put *open_part;
  char first[33], second[33];

  double_settings.max_part_bytes = 10000;
  reopen();
  assert_ok(create("first", DG_SUM_NONE, false, first));
  assert_ok(create("second", DG_SUM_NONE, false, second));
  assert_ok(send_part("first", first, 1, four, &parts[0]));
  assert_ok(send_part("second", second, 1, four, &unused));
  assert_code(send_part("second", second, 2, three, &unused), DG_E_SLOW_DOWN);
  ck_assert_uint_eq(waiting_bytes(), 8000);
  /* A smaller one in the place of a larger one, both on disk for a moment. */
  assert_ok(send_part("second", second, 1, one, &unused));
  ck_assert_uint_eq(waiting_bytes(), 5000);
  reopen();
  ck_assert_uint_eq(waiting_bytes(), 5000);
  /* What is on its way counts, whether its size is known or not. */
  assert_ok(dg_engine_part_open(engine.engine, &double_call, double_str("b"), double_str("first"),
                                double_str(first), 2, DG_TO_END, DG_SUM_NONE, &open_part, &err));
  assert_ok(dg_part_write(open_part, g_bytes_get_data(four, NULL), 4000, &err));
  ck_assert_uint_eq(waiting_bytes(), 9000);
  assert_code(send_part("second", second, 2, three, &unused), DG_E_SLOW_DOWN);
  assert_code(dg_part_write(open_part, g_bytes_get_data(four, NULL), 4000, &err),
              DG_E_SLOW_DOWN);
  dg_part_abort(open_part);
  ck_assert_uint_eq(waiting_bytes(), 5000);
  /* After a start the sizes of former parts are known again. */
  assert_ok(send_part("second", second, 1, three, &unused));
  ck_assert_uint_eq(waiting_bytes(), 7000);
  assert_ok(send_part("first", first, 2, three, &parts[1]));
  ck_assert_uint_eq(waiting_bytes(), 10000);
  assert_ok(complete("first", first, parts, 2, "", &result));
  ck_assert_uint_eq(waiting_bytes(), 3000);
  assert_ok(dg_engine_upload_abort(engine.engine, &double_call, double_str("b"),
                                   double_str("second"), double_str(second), &err));
  ck_assert_uint_eq(waiting_bytes(), 0);
  reopen();
  ck_assert_uint_eq(waiting_bytes(), 0);
}
END_TEST

struct completer {
  struct dg_put_result result;
  struct dg_error error;
  int rc;
};

static gpointer complete_in_thread(gpointer data)
{
  struct completer *self = data;
  struct dg_complete_part parts[3];
  struct dg_complete_request request = {.bucket = double_str("b"),
                                        .key = double_str("big.zip"),
                                        .upload_id = double_str(up.id),
                                        .parts = parts,
                                        .part_count = 3};

  for (uint32_t i = 0; i < 3; i++)
    parts[i] = (struct dg_complete_part){.part_no = i + 1, .etag = double_str(up.parts[i].etag)};
  self->rc = dg_engine_upload_complete(engine.engine, &double_call, &request, &self->result,
                                       &self->error);
  return NULL;
}

START_TEST(identical_completes_share_one_commit)
{
  struct completer completers[6] = {0};
  GThread *threads[6];
  uint64_t steps;

  upload_three("big.zip", DG_SUM_NONE, false);
  for (size_t i = 0; i < 6; i++)
    threads[i] = g_thread_new("complete", complete_in_thread, &completers[i]);
  for (size_t i = 0; i < 6; i++)
    g_thread_join(threads[i]);
  steps = double_store_steps(store);
  for (size_t i = 0; i < 6; i++) {
    ck_assert_msg(completers[i].rc == 0, "%s", completers[i].error.detail);
    ck_assert_str_eq(completers[i].result.etag, completers[0].result.etag);
  }
  assert_reads("big.zip", up.whole);
  ck_assert_uint_eq(double_store_steps(store), steps);
  drop_three();
}
END_TEST

static Suite *upload_suite(void)
{
  Suite *suite = suite_create("engine uploads");
  TCase *cases = tcase_create("uploads");

  tcase_set_timeout(cases, 60); /* every part is synced to the disk */
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, parts_become_one_object_with_a_composite_etag);
  tcase_add_test(cases, every_one_of_many_unequal_parts_can_be_found);
  tcase_add_test(cases, sizes_that_were_not_recorded_fail_the_part_number_alone);
  tcase_add_test(cases, an_eligible_upload_becomes_a_delta);
  tcase_add_test(cases, an_upload_above_its_limit_is_stored_as_it_is);
  tcase_add_test(cases, an_upload_survives_a_restart);
  tcase_add_test(cases, a_full_object_checksum_is_that_of_the_bytes);
  tcase_add_test(cases, a_sha_checksum_cannot_be_of_the_full_object);
  tcase_add_test(cases, wrong_completes_are_refused_and_the_upload_stays);
  tcase_add_test(cases, a_failed_commit_leaves_the_upload_open);
  tcase_add_test(cases, a_part_sent_again_replaces_the_first);
  tcase_add_test(cases, parts_and_uploads_are_listed_in_pages);
  tcase_add_test(cases, an_abort_frees_everything);
  tcase_add_test(cases, idle_uploads_and_orphans_go_at_the_start);
  tcase_add_test(cases, a_part_that_rots_is_found);
  tcase_add_test(cases, too_many_uploads_are_refused);
  tcase_add_test(cases, racing_creates_never_exceed_the_limit);
  tcase_add_test(cases, parts_on_disk_are_bounded_together_and_counted_exactly);
  tcase_add_test(cases, an_upload_that_ends_or_fails_to_begin_makes_room_for_another);
  tcase_add_test(cases, identical_completes_share_one_commit);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(upload_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
