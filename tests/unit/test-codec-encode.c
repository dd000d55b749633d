/* SPDX-License-Identifier: Apache-2.0 */
/* Every delta we write is decoded by the stock xdelta3. */
#include "config.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utime.h>

#include "tests/unit/codec-fixture.h"

#include "common/banned.h"

#define WINDOW (64u * 1024u) /* the smallest: many boundaries in little data */

static struct fixture fixture;
static uint64_t seed;

static void setup(void)
{
  fixture_open(&fixture);
  seed = 88172645463325252u;
}

static void teardown(void)
{
  fixture_close(&fixture);
}

static GByteArray *noise(size_t len)
{
  GByteArray *bytes = g_byte_array_new();

  fixture_append_noise(bytes, &seed, len);
  return bytes;
}

/* Bytes with the statistics of machine code: few values, short repetitions. */
static GByteArray *code_like(size_t len)
{
  GByteArray *bytes = noise(len);

  for (size_t i = 0; i < len; i++)
    bytes->data[i] = bytes->data[i] < 90 ? 0x48 : (uint8_t)(bytes->data[i] & 0x3f);
  return bytes;
}

/* Encodes, lets xdelta3 decode, compares. Returns the size of the delta. */
static size_t round_trip(const char *secondary, const GByteArray *reference,
                         const GByteArray *target)
{
  void *codec = fixture_codec(&fixture, secondary, WINDOW);
  struct dg_codec_ref *ref = fixture_ref(&fixture, codec, reference, 0);
  g_autoptr(GByteArray) delta = fixture_encode(codec, ref, target->data, target->len);
  g_autoptr(GByteArray) decoded = fixture_xdelta3_decode(&fixture, reference, delta);

  ck_assert_uint_eq(decoded->len, target->len);
  if (target->len > 0)
    ck_assert_mem_eq(decoded->data, target->data, target->len);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  return delta->len;
}

static const char *const secondaries[] = {"none", "djw", "lzma"};

START_TEST(sizes_around_window_boundaries_come_back)
{
  static const size_t sizes[] = {0,          1,          2,          7,
                                 63,         64,         65,         WINDOW - 1,
                                 WINDOW,     WINDOW + 1, 2 * WINDOW, 3 * WINDOW + 5};
  g_autoptr(GByteArray) reference = noise(2 * WINDOW);

  for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
    g_autoptr(GByteArray) target = g_byte_array_new();

    while (target->len < sizes[i])
      g_byte_array_append(target, reference->data,
                          (guint)MIN(sizes[i] - target->len, reference->len));
    if (target->len > 100)
      target->data[target->len / 2] ^= 1;
    (void)round_trip(secondaries[_i], reference, target);
  }
}
END_TEST

START_TEST(references_of_every_small_size_are_used)
{
  for (size_t size = 0; size < 40; size += size < 16 ? 1 : 5) {
    g_autoptr(GByteArray) reference = noise(size);
    g_autoptr(GByteArray) target = noise(300);

    g_byte_array_append(target, reference->data, reference->len);
    g_byte_array_prepend(target, reference->data, reference->len);
    (void)round_trip("djw", reference, target);
  }
}
END_TEST

START_TEST(random_edits_insertions_moves_and_runs_come_back)
{
  for (unsigned round = 0; round < 12; round++) {
    g_autoptr(GByteArray) reference =
        round % 2 ? code_like(3 * WINDOW + round * 1000) : noise(2 * WINDOW + round);
    g_autoptr(GByteArray) target = g_byte_array_new();
    size_t delta_size;

    while (target->len < 4 * WINDOW) {
      size_t len = fixture_random(&seed) % 5000;
      size_t from = fixture_random(&seed) % (reference->len - len);

      switch (fixture_random(&seed) % 8) {
      case 0:
        fixture_append_noise(target, &seed, len / 20);
        break;
      case 1:
        g_byte_array_set_size(target, target->len + (guint)len);
        memset(target->data + target->len - len, (int)(from & 0xff), len);
        break;
      case 2:
        from = fixture_random(&seed) % (target->len + 1);
        len = MIN(len, target->len - from);
        if (len > 0) {
          g_autofree void *piece = g_memdup2(target->data + from, len);

          g_byte_array_append(target, piece, (guint)len);
        }
        break;
      default:
        g_byte_array_append(target, reference->data + from, (guint)len);
        for (size_t i = 0; i < len; i += 1 + fixture_random(&seed) % 60)
          target->data[target->len - len + i] ^= (uint8_t)(1 + round);
      }
    }
    delta_size = round_trip(secondaries[round % 3], reference, target);
    ck_assert_uint_lt(delta_size, target->len / 2);
  }
}
END_TEST

START_TEST(an_unchanged_object_costs_some_dozen_bytes_per_window)
{
  g_autoptr(GByteArray) reference = noise(20 * WINDOW);

  ck_assert_uint_lt(round_trip("djw", reference, reference), 100 + 20 * 60);
}
END_TEST

START_TEST(a_run_of_one_byte_is_one_instruction)
{
  g_autoptr(GByteArray) reference = noise(100);
  g_autoptr(GByteArray) target = g_byte_array_new();

  g_byte_array_set_size(target, 5 * WINDOW);
  memset(target->data, 0, target->len);
  ck_assert_uint_lt(round_trip("none", reference, target), 100 + 5 * 60);
}
END_TEST

START_TEST(hopeless_data_grows_by_less_than_a_thousandth)
{
  g_autoptr(GByteArray) reference = noise(4 * WINDOW);
  g_autoptr(GByteArray) target = noise(8 * WINDOW);

  ck_assert_uint_lt(round_trip("djw", reference, target), target->len + target->len / 1000 + 200);
}
END_TEST

START_TEST(an_identity_delta_needs_no_reference_and_comes_back)
{
  static const size_t sizes[] = {0, 1, WINDOW, 5 * WINDOW + 17};

  for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
    g_autoptr(GByteArray) reference = noise(sizes[i]);
    void *codec = fixture_codec(&fixture, "djw", WINDOW);
    g_autoptr(GByteArray) delta = fixture_encode(codec, NULL, reference->data, reference->len);
    g_autoptr(GByteArray) decoded = fixture_xdelta3_decode(&fixture, reference, delta);

    ck_assert_uint_eq(decoded->len, reference->len);
    if (reference->len > 0)
      ck_assert_mem_eq(decoded->data, reference->data, reference->len);
    ck_assert_uint_lt(delta->len, 200 + 60 * (reference->len / WINDOW));
    codec_ops.destroy(codec);
  }
}
END_TEST

/* ---- Windows in parallel -------------------------------------------------------- */

struct shared {
  struct dg_encoder *encoder;
  const GByteArray *target;
  GByteArray *windows[16];
  gint next;
};

static void *encode_some(void *argument)
{
  struct shared *shared = argument;

  for (;;) {
    gint number = g_atomic_int_add(&shared->next, 1);
    size_t at = (size_t)number * WINDOW;
    struct dg_error err = {0};
    const void *data;
    size_t len;

    if (at >= shared->target->len)
      return NULL;
    ck_assert_msg(codec_ops.encode_window(shared->encoder, (uint64_t)number,
                                          shared->target->data + at,
                                          MIN(WINDOW, shared->target->len - at), &data, &len,
                                          &err) == 0,
                  "%s", err.detail);
    shared->windows[number] = g_byte_array_append(g_byte_array_new(), data, (guint)len);
    codec_ops.encode_release(shared->encoder, (uint64_t)number);
  }
}

START_TEST(parallel_windows_make_the_same_bytes)
{
  g_autoptr(GByteArray) reference = code_like(14 * WINDOW);
  g_autoptr(GByteArray) target = code_like(14 * WINDOW + 9);
  void *codec = fixture_codec(&fixture, secondaries[_i], WINDOW);
  struct dg_codec_ref *ref;
  struct dg_encode_params params = {.struct_size = sizeof params, .target_size = target->len};
  struct shared shared = {.target = target};
  g_autoptr(GByteArray) in_order = NULL;
  g_autoptr(GByteArray) together = g_byte_array_new();
  struct dg_error err = {0};
  GThread *threads[4];

  for (size_t i = 0; i + 5000 < target->len; i += 4500)
    memcpy(target->data + i, reference->data + (i * 7) % (reference->len - 4000), 4000);
  ref = fixture_ref(&fixture, codec, reference, 0);
  in_order = fixture_encode(codec, ref, target->data, target->len);
  ck_assert_int_eq(codec_ops.encode_open(codec, NULL, ref, &params, &shared.encoder, &err), 0);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("window", encode_some, &shared);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    (void)g_thread_join(threads[i]);
  for (size_t i = 0; i < 15; i++) {
    g_byte_array_append(together, shared.windows[i]->data, shared.windows[i]->len);
    g_byte_array_unref(shared.windows[i]);
  }
  codec_ops.encode_close(shared.encoder);
  ck_assert_uint_lt(together->len, in_order->len);
  ck_assert_mem_eq(together->data, in_order->data + (in_order->len - together->len),
                   together->len);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
}
END_TEST

/* ---- The kept index --------------------------------------------------------------- */

static char *index_file(void)
{
  GDir *dir = g_dir_open(fixture.cache_directory, 0, NULL);
  const char *name = g_dir_read_name(dir);
  char *path = name ? g_build_filename(fixture.cache_directory, name, NULL) : NULL;

  ck_assert_ptr_null(g_dir_read_name(dir)); /* and nothing beside it, no temporary */
  g_dir_close(dir);
  return path;
}

START_TEST(an_index_is_kept_and_mapped_back)
{
  g_autoptr(GByteArray) reference = noise(300000);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  struct dg_codec_ref *built = fixture_ref(&fixture, codec, reference, 0);
  g_autofree char *path = index_file();
  struct dg_codec_ref *mapped = fixture_ref(&fixture, codec, reference, 0);

  ck_assert_ptr_nonnull(path);
  ck_assert_uint_eq(mapped->anonymous_size, 0);
  ck_assert_uint_lt(codec_ops.ref_bytes(mapped), 10000);
  ck_assert_mem_eq(mapped->index.buckets, built->index.buckets,
                   dg_index_table_bytes(&built->index.shape));
  ck_assert_str_eq(fixture.log->str, "");
  codec_ops.ref_close(built);
  codec_ops.ref_close(mapped);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(a_damaged_index_is_reported_and_rebuilt)
{
  g_autoptr(GByteArray) reference = noise(300000);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  size_t full_size = 0;

  for (unsigned damage = 0; damage < 6; damage++) {
    struct dg_codec_ref *ref = fixture_ref(&fixture, codec, reference, 0);
    g_autofree char *path = index_file();
    g_autofree char *bytes = NULL;
    gsize len;

    codec_ops.ref_close(ref);
    ck_assert(g_file_get_contents(path, &bytes, &len, NULL));
    if (damage == 0)
      full_size = len;
    ck_assert_uint_eq(len, full_size);
    if (damage > 0)
      ck_assert_ptr_nonnull(strstr(fixture.log->str, "codec.index_damaged"));
    g_string_truncate(fixture.log, 0);
    switch (damage) {
    case 0:
      bytes[len - 1000] ^= 4; /* the table */
      break;
    case 1:
      bytes[13] ^= 1; /* the version */
      break;
    case 2:
      len = 5000; /* torn */
      break;
    case 3:
      len = 0;
      break;
    case 4:
      bytes[20] ^= 1; /* of another reference */
      break;
    default:
      bytes[100] ^= 1; /* the digests */
    }
    ck_assert(g_file_set_contents(path, bytes, (gssize)len, NULL));
  }
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(kept_indexes_are_bounded_and_abandoned_files_removed)
{
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  struct utimbuf long_ago = {.actime = 1000, .modtime = 1000};
  g_autofree char *oldest = NULL;
  g_autofree char *abandoned =
      g_build_filename(fixture.cache_directory, "0.xd3index.tmp-abc", NULL);
  unsigned count = 0;
  GDir *dir;

  ck_assert(g_file_set_contents(abandoned, "x", 1, NULL));
  ck_assert_int_eq(utime(abandoned, &long_ago), 0);
  for (unsigned i = 0; i < 10; i++) {
    g_autoptr(GByteArray) reference = noise(300000);

    codec_ops.ref_close(fixture_ref(&fixture, codec, reference, 0));
    if (i == 0) {
      oldest = index_file();
      ck_assert_int_eq(utime(oldest, &long_ago), 0);
    }
  }
  ck_assert(!g_file_test(oldest, G_FILE_TEST_EXISTS));
  ck_assert(!g_file_test(abandoned, G_FILE_TEST_EXISTS));
  dir = g_dir_open(fixture.cache_directory, 0, NULL);
  while (g_dir_read_name(dir))
    count++;
  g_dir_close(dir);
  ck_assert_uint_ge(count, 4);
  ck_assert_uint_le(count, 7);
  codec_ops.destroy(codec);
}
END_TEST

/* ---- Trouble while it is built ----------------------------------------------------- */

/* The errno each step fails with; what was seen when it was reached. */
static struct {
  int claim, seal, write;
  unsigned seals;
  uint64_t anonymous_kib; /* most at any step */
  bool publish;           /* at the seal: gives the unfinished file its final name */
} trouble;

static uint64_t status_kib(const char *name)
{
  g_autofree char *status = NULL;
  const char *at;

  ck_assert(g_file_get_contents("/proc/self/status", &status, NULL, NULL));
  at = strstr(status, name);
  ck_assert_ptr_nonnull(at);
  return g_ascii_strtoull(at + strlen(name), NULL, 10);
}

static void publish_unfinished_file(void)
{
  g_autofree char *temporary = index_file();
  g_autofree char *path = g_strdup(temporary);
  g_autofree char *bytes = NULL;
  gsize len;

  *strstr(path, ".tmp-") = '\0';
  ck_assert(g_file_get_contents(temporary, &bytes, &len, NULL));
  ck_assert(g_file_set_contents(path, bytes, (gssize)len, NULL));
}

static int32_t trouble_at(const struct dg_host *host, const char *step)
{
  (void)host;
  trouble.anonymous_kib = MAX(trouble.anonymous_kib, status_kib("RssAnon:"));
  if (strcmp(step, "codec.index.claim") == 0)
    return trouble.claim;
  if (strcmp(step, "codec.index.write") == 0)
    return trouble.write;
  ck_assert_str_eq(step, "codec.index.seal");
  trouble.seals++;
  if (trouble.publish)
    publish_unfinished_file();
  trouble.publish = false; /* there may be a second try, elsewhere */
  return trouble.seal;
}

static void expect_trouble(void)
{
  memset(&trouble, 0, sizeof trouble);
  fixture.host.fault = trouble_at;
}

/* The shadow of a sanitizer is anonymous memory too, several times what it shadows. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SHADOWED true
#else
#define SHADOWED false
#endif

START_TEST(building_an_index_takes_file_pages_not_memory)
{
  g_autoptr(GByteArray) reference = noise(64u << 20);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  uint64_t before_kib;
  struct dg_codec_ref *ref;

  expect_trouble();
  before_kib = status_kib("RssAnon:");
  ref = fixture_ref(&fixture, codec, reference, 0);
  ck_assert_uint_gt(dg_index_table_bytes(&ref->index.shape), 20u << 20);
  ck_assert_uint_lt(codec_ops.ref_bytes(ref), 10000);
  /* Where files cannot be mapped for writing the table was built in memory. */
  if (trouble.seals > 0 && !SHADOWED)
    ck_assert_uint_lt(trouble.anonymous_kib, before_kib + 8 * 1024);
  if (!SHADOWED)
    ck_assert_uint_lt(status_kib("RssAnon:"), before_kib + 8 * 1024);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(a_full_disk_costs_the_kept_index_not_the_object)
{
  g_autoptr(GByteArray) reference = noise(300000);
  g_autoptr(GByteArray) healthy = NULL;
  g_autoptr(GByteArray) target = noise(100);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);

  g_byte_array_append(target, reference->data, reference->len);
  expect_trouble();
  for (unsigned i = 0; i < 4; i++) {
    struct dg_codec_ref *ref;
    g_autoptr(GByteArray) delta = NULL;
    g_autofree char *kept = NULL;

    trouble.claim = i == 1 ? ENOSPC : i == 3 ? EOPNOTSUPP : 0;
    trouble.seal = i == 2 ? EDQUOT : 0;
    trouble.write = i == 3 ? ENOSPC : 0;
    ref = fixture_ref(&fixture, codec, reference, 0);
    delta = fixture_encode(codec, ref, target->data, target->len);
    codec_ops.ref_close(ref);
    kept = index_file();
    if (i == 0) {
      ck_assert_ptr_nonnull(kept);
      ck_assert_str_eq(fixture.log->str, "");
      ck_assert_int_eq(g_unlink(kept), 0);
      healthy = g_steal_pointer(&delta);
      continue;
    }
    ck_assert_ptr_null(kept);
    ck_assert_ptr_nonnull(strstr(fixture.log->str, "codec.index_not_kept"));
    g_string_truncate(fixture.log, 0);
    ck_assert_uint_eq(delta->len, healthy->len);
    ck_assert_mem_eq(delta->data, healthy->data, healthy->len);
  }
  codec_ops.destroy(codec);
}
END_TEST

/* Opens the file `reference` of the fixture, padded with zeroes to size. */
static struct dg_codec_ref *ref_of_size(void *codec, uint64_t size)
{
  g_autofree char *path = fixture_path(&fixture, "reference");
  struct dg_codec_ref_params params = {.struct_size = sizeof params,
                                       .size_bytes = size,
                                       .cache_dir = fixture.cache_directory};
  struct dg_codec_ref *ref = NULL;
  struct dg_error err = {0};

  params.fd = open(path, O_RDWR | O_CLOEXEC);
  ck_assert_int_ge(params.fd, 0);
  ck_assert_int_eq(ftruncate(params.fd, (off_t)size), 0);
  ck_assert_msg(codec_ops.ref_open(codec, NULL, &params, &ref, &err) == 0, "%s", err.detail);
  (void)close(params.fd);
  return ref;
}

START_TEST(a_limit_on_file_sizes_costs_the_kept_index_not_the_object)
{
  g_autoptr(GByteArray) reference = noise(300000);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  struct dg_codec_ref *ref;
  g_autoptr(GByteArray) delta = NULL;
  struct rlimit old, small;

  fixture_write(&fixture, "reference", reference->data, reference->len);
  ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
  small = old;
  small.rlim_cur = 50000;
  (void)signal(SIGXFSZ, SIG_IGN);
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
  ref = ref_of_size(codec, reference->len);
  ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
  ck_assert_ptr_nonnull(strstr(fixture.log->str, "codec.index_not_kept"));
  ck_assert_ptr_null(index_file());
  ck_assert_uint_gt(codec_ops.ref_bytes(ref), 90000); /* in memory, and owned up to */
  delta = fixture_encode(codec, ref, reference->data + 150001, 100000);
  ck_assert_uint_lt(delta->len, 1000);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(a_large_reference_without_room_for_an_index_is_followed_in_step)
{
  g_autoptr(GByteArray) reference = noise(200000);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  struct dg_codec_ref *ref;
  g_autoptr(GByteArray) delta = NULL;

  fixture_write(&fixture, "reference", reference->data, reference->len);
  expect_trouble();
  trouble.claim = ENOSPC;
  ref = ref_of_size(codec, 200u << 20);
  ck_assert_ptr_nonnull(strstr(fixture.log->str, "codec.index_missing"));
  ck_assert_uint_lt(codec_ops.ref_bytes(ref), 10000);
  delta = fixture_encode(codec, ref, reference->data, reference->len);
  ck_assert_uint_lt(delta->len, 1000);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(a_table_written_in_segments_makes_the_same_file)
{
  g_autoptr(GByteArray) reference = noise(300000);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  char *bytes[2] = {NULL, NULL};
  gsize len[2];

  expect_trouble();
  for (unsigned i = 0; i < 2; i++) {
    g_autofree char *path = NULL;

    trouble.claim = i == 0 ? 0 : EOPNOTSUPP;
    codec_ops.ref_close(fixture_ref(&fixture, codec, reference, 0));
    path = index_file();
    ck_assert(g_file_get_contents(path, &bytes[i], &len[i], NULL));
    ck_assert_int_eq(g_unlink(path), 0);
  }
  ck_assert_str_eq(fixture.log->str, "");
  ck_assert_uint_eq(len[0], len[1]);
  ck_assert_mem_eq(bytes[0], bytes[1], len[0]);
  g_free(bytes[0]);
  g_free(bytes[1]);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(an_index_that_a_crash_left_unfinished_is_not_believed)
{
  g_autoptr(GByteArray) reference = noise(300000);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  g_autofree char *kept = NULL;

  expect_trouble();
  trouble.publish = true;
  trouble.seal = EIO;
  trouble.write = EIO;
  codec_ops.ref_close(fixture_ref(&fixture, codec, reference, 0));
  kept = index_file();
  g_string_truncate(fixture.log, 0);
  trouble.seal = trouble.write = 0;
  codec_ops.ref_close(fixture_ref(&fixture, codec, reference, 0));
  if (kept) /* nothing is mapped for writing here otherwise */
    ck_assert_ptr_nonnull(strstr(fixture.log->str, "codec.index_damaged"));
  g_string_truncate(fixture.log, 0);
  codec_ops.ref_close(fixture_ref(&fixture, codec, reference, 0));
  ck_assert_str_eq(fixture.log->str, "");
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(an_unwritable_cache_directory_costs_the_kept_index_not_the_object)
{
  g_autoptr(GByteArray) reference = noise(300000);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  struct dg_codec_ref *ref;
  g_autoptr(GByteArray) delta = NULL;

  ck_assert_int_eq(g_rmdir(fixture.cache_directory), 0);
  ref = fixture_ref(&fixture, codec, reference, 0);
  ck_assert_ptr_nonnull(strstr(fixture.log->str, "codec.index_not_kept"));
  delta = fixture_encode(codec, ref, reference->data + 150001, 100000);
  ck_assert_uint_lt(delta->len, 1000);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(a_decoder_needs_no_index)
{
  g_autoptr(GByteArray) reference = noise(300000);
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  struct dg_codec_ref *ref = fixture_ref(&fixture, codec, reference, DG_CODEC_REF_DECODE_ONLY);

  ck_assert_ptr_null(index_file());
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
}
END_TEST

static void *raise_flag(void *flag)
{
  __atomic_store_n((int32_t *)flag, 1, __ATOMIC_RELAXED);
  return NULL;
}

/* ---- Refusals ----------------------------------------------------------------------- */

START_TEST(a_reference_file_that_is_too_short_is_refused)
{
  g_autofree char *path = fixture_path(&fixture, "short");
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  struct dg_codec_ref_params params = {.struct_size = sizeof params, .size_bytes = 5000};
  struct dg_codec_ref *ref = NULL;
  struct dg_error err = {0};

  fixture_write(&fixture, "short", "abc", 3);
  params.fd = open(path, O_RDONLY | O_CLOEXEC);
  ck_assert_int_eq(codec_ops.ref_open(codec, NULL, &params, &ref, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CORRUPT);
  ck_assert_ptr_null(ref);
  (void)close(params.fd);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(a_window_of_the_wrong_size_is_refused)
{
  void *codec = fixture_codec(&fixture, "djw", WINDOW);
  struct dg_encode_params params = {.struct_size = sizeof params,
                                    .flags = DG_ENCODE_IDENTITY,
                                    .target_size = WINDOW + 10};
  struct dg_encode_summary summary = {.struct_size = sizeof summary};
  struct dg_encoder *encoder = NULL;
  struct dg_error err = {0};
  uint8_t sha256[32] = {0};
  const void *data;
  size_t len;

  ck_assert_int_eq(codec_ops.encode_open(codec, NULL, NULL, &params, &encoder, &err), 0);
  ck_assert_int_eq(codec_ops.encode_window(encoder, 1, "x", 1, &data, &len, &err), -1);
  ck_assert_int_eq(codec_ops.encode_window(encoder, 2, "x", 1, &data, &len, &err), -1);
  ck_assert_int_eq(codec_ops.encode_window(encoder, 1, "0123456789", 10, &data, &len, &err), 0);
  ck_assert_int_eq(codec_ops.encode_finish(encoder, sha256, &summary, &data, &err), -1);
  ck_assert_ptr_nonnull(strstr(err.detail, "window 0 was not encoded"));
  codec_ops.encode_close(encoder); /* with a window not released */
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(a_window_that_waits_for_its_turn_notices_that_the_client_left)
{
  void *codec = fixture_codec(&fixture, "lzma", WINDOW);
  int32_t cancelled = 0;
  struct dg_call call = {.struct_size = sizeof call, .cancelled = &cancelled};
  struct dg_encode_params params = {.struct_size = sizeof params,
                                    .flags = DG_ENCODE_IDENTITY,
                                    .target_size = WINDOW + 1};
  struct dg_encoder *encoder = NULL;
  struct dg_error err = {0};
  GThread *canceller;
  const void *data;
  size_t len;

  ck_assert_int_eq(codec_ops.encode_open(codec, &call, NULL, &params, &encoder, &err), 0);
  canceller = g_thread_new("cancel", raise_flag, &cancelled);
  ck_assert_int_eq(codec_ops.encode_window(encoder, 1, "x", 1, &data, &len, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CANCELLED);
  (void)g_thread_join(canceller);
  codec_ops.encode_close(encoder);
  codec_ops.destroy(codec);
}
END_TEST

/* ---- A reference that goes away while it is open ------------------------------- */

static void cut_reference(off_t size)
{
  g_autofree char *path = fixture_path(&fixture, "reference");

  ck_assert_int_eq(truncate(path, size), 0);
}

struct lost_window {
  struct dg_encoder *encoder;
  const GByteArray *target;
  uint64_t number;
  struct dg_error err;
};

static gpointer encode_lost_window(gpointer data)
{
  struct lost_window *lost = data;
  const void *bytes;
  size_t len;

  ck_assert_int_eq(codec_ops.encode_window(lost->encoder, lost->number,
                                           lost->target->data + lost->number * WINDOW, WINDOW,
                                           &bytes, &len, &lost->err),
                   -1);
  return NULL;
}

START_TEST(a_reference_cut_short_while_encoding_is_an_error)
{
  void *codec = fixture_codec(&fixture, secondaries[_i], WINDOW);
  g_autoptr(GByteArray) reference = code_like(8 * WINDOW);
  struct dg_codec_ref *ref = fixture_ref(&fixture, codec, reference, 0);
  struct dg_encode_params params = {.struct_size = sizeof params, .target_size = 8 * WINDOW};
  struct lost_window lost[4] = {0};
  GThread *threads[G_N_ELEMENTS(lost)];
  struct dg_encoder *encoder = NULL;
  struct dg_error err = {0};
  const void *data;
  size_t len;

  ck_assert_int_eq(codec_ops.encode_open(codec, NULL, ref, &params, &encoder, &err), 0);
  ck_assert_int_eq(
      codec_ops.encode_window(encoder, 0, reference->data, WINDOW, &data, &len, &err), 0);
  codec_ops.encode_release(encoder, 0);
  cut_reference(0);
  for (unsigned i = 0; i < G_N_ELEMENTS(lost); i++) {
    lost[i] = (struct lost_window){.encoder = encoder, .target = reference, .number = i + 1};
    threads[i] = g_thread_new("window", encode_lost_window, &lost[i]);
  }
  for (unsigned i = 0; i < G_N_ELEMENTS(lost); i++)
    (void)g_thread_join(threads[i]);
  /* With lzma, those after the first may only know that one before them failed. */
  ck_assert_int_eq(lost[0].err.code, DG_E_CORRUPT);
  ck_assert_msg(strstr(lost[0].err.detail, "/reference'") != NULL, "%s", lost[0].err.detail);
  for (unsigned i = 1; i < G_N_ELEMENTS(lost) && strcmp(secondaries[_i], "lzma") != 0; i++)
    ck_assert_int_eq(lost[i].err.code, DG_E_CORRUPT);
  codec_ops.encode_close(encoder);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(an_index_cut_short_while_encoding_costs_room_only)
{
  void *codec = fixture_codec(&fixture, "none", WINDOW);
  g_autoptr(GByteArray) reference = noise(4 * WINDOW);
  g_autoptr(GByteArray) delta = NULL, back = NULL;
  struct dg_codec_ref *ref = fixture_ref(&fixture, codec, reference, 0);
  g_autofree char *path = index_file();

  ck_assert_int_eq(truncate(path, 0), 0);
  g_byte_array_unref(fixture_encode(codec, ref, reference->data + WINDOW + 77, WINDOW));
  delta = fixture_encode(codec, ref, reference->data, reference->len);
  back = fixture_xdelta3_decode(&fixture, reference, delta);
  ck_assert_uint_eq(back->len, reference->len);
  ck_assert_mem_eq(back->data, reference->data, reference->len);
  ck_assert_ptr_nonnull(strstr(fixture.log->str, "codec.index_lost"));
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
}
END_TEST

START_TEST(huge_objects_get_larger_windows)
{
  static const struct {
    uint64_t target, window;
  } rows[] = {{UINT64_C(8) << 30, 1 << 20},
              {(UINT64_C(8) << 30) + 1, 2 << 20},
              {UINT64_C(40) << 30, 8 << 20},
              {UINT64_C(1) << 40, 16 << 20}};
  void *codec = fixture_codec(&fixture, "none", 1 << 20);

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    struct dg_encode_params params = {.struct_size = sizeof params,
                                      .flags = DG_ENCODE_IDENTITY,
                                      .target_size = rows[i].target};
    struct dg_encoder *encoder = NULL;
    struct dg_error err = {0};

    ck_assert_int_eq(codec_ops.encode_open(codec, NULL, NULL, &params, &encoder, &err), 0);
    ck_assert_uint_eq(codec_ops.encode_window_size(encoder), rows[i].window);
    codec_ops.encode_close(encoder);
  }
  codec_ops.destroy(codec);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("codec-encode");
  TCase *tcase = tcase_create("encode");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_loop_test(tcase, sizes_around_window_boundaries_come_back, 0, 3);
  tcase_add_test(tcase, references_of_every_small_size_are_used);
  tcase_add_test(tcase, random_edits_insertions_moves_and_runs_come_back);
  tcase_add_test(tcase, an_unchanged_object_costs_some_dozen_bytes_per_window);
  tcase_add_test(tcase, a_run_of_one_byte_is_one_instruction);
  tcase_add_test(tcase, hopeless_data_grows_by_less_than_a_thousandth);
  tcase_add_test(tcase, an_identity_delta_needs_no_reference_and_comes_back);
  tcase_add_loop_test(tcase, parallel_windows_make_the_same_bytes, 0, 3);
  tcase_add_test(tcase, an_index_is_kept_and_mapped_back);
  tcase_add_test(tcase, a_damaged_index_is_reported_and_rebuilt);
  tcase_add_test(tcase, kept_indexes_are_bounded_and_abandoned_files_removed);
  tcase_add_test(tcase, building_an_index_takes_file_pages_not_memory);
  tcase_add_test(tcase, a_full_disk_costs_the_kept_index_not_the_object);
  tcase_add_test(tcase, a_limit_on_file_sizes_costs_the_kept_index_not_the_object);
  tcase_add_test(tcase, a_large_reference_without_room_for_an_index_is_followed_in_step);
  tcase_add_test(tcase, a_table_written_in_segments_makes_the_same_file);
  tcase_add_test(tcase, an_index_that_a_crash_left_unfinished_is_not_believed);
  tcase_add_test(tcase, an_unwritable_cache_directory_costs_the_kept_index_not_the_object);
  tcase_add_test(tcase, a_decoder_needs_no_index);
  tcase_add_test(tcase, a_reference_file_that_is_too_short_is_refused);
  tcase_add_test(tcase, a_window_of_the_wrong_size_is_refused);
  tcase_add_test(tcase, a_window_that_waits_for_its_turn_notices_that_the_client_left);
  tcase_add_loop_test(tcase, a_reference_cut_short_while_encoding_is_an_error, 0, 3);
  tcase_add_test(tcase, an_index_cut_short_while_encoding_costs_room_only);
  tcase_add_test(tcase, huge_objects_get_larger_windows);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
