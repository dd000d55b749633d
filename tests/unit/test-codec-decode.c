/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder against deltas of the stock xdelta3 in all its settings, against
 * our own, and against damaged ones of both. */
#include "config.h"

#include "tests/unit/codec-fixture.h"

#include "common/vcdiff/header.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/banned.h"

/* ---- Helpers ------------------------------------------------------------------ */

static int memory_read_at(void *self, uint64_t offset, void *buffer, size_t len,
                          struct dg_error *err)
{
  const GByteArray *bytes = self;

  if (offset > bytes->len || len > bytes->len - offset)
    return dg_fail(err, DG_E_IO, "read past the end");
  if (len > 0)
    memcpy(buffer, bytes->data + offset, len);
  return 0;
}

static int same_bytes(const GByteArray *got, const uint8_t *wanted, size_t len)
{
  return got->len == len && (len == 0 || memcmp(got->data, wanted, len) == 0);
}

/* The first bytes of it, at least: what came out before an error. */
static int same_start(const GByteArray *got, const GByteArray *wanted)
{
  return got->len <= wanted->len && same_bytes(got, wanted->data, got->len);
}

static void sha256_of(const void *data, size_t len, uint8_t digest[32])
{
  g_autoptr(GChecksum) sha256 = g_checksum_new(G_CHECKSUM_SHA256);
  gsize digest_len = 32;

  g_checksum_update(sha256, data, (gssize)len);
  g_checksum_get_digest(sha256, digest, &digest_len);
}

/* One delta, open. */
struct opened {
  struct dg_source source;
  struct dg_decode_params params;
  struct dg_decode_info info;
  struct dg_decoder *decoder;
};

static int open_delta(struct opened *o, void *codec, const struct dg_codec_ref *ref,
                      const GByteArray *delta, uint64_t target_size, const uint8_t *header_sha256,
                      struct dg_error *err)
{
  *o = (struct opened){.source = {.struct_size = sizeof o->source,
                                  .self = (void *)(uintptr_t)delta,
                                  .size_bytes = delta->len,
                                  .read_at = memory_read_at},
                       .params = {.struct_size = sizeof o->params, .target_size = target_size}};
  o->params.delta = &o->source;
  if (header_sha256 != NULL)
    memcpy(o->params.header_sha256, header_sha256, 32);
  return codec_ops.decode_open(codec, NULL, ref, &o->params, &o->info, &o->decoder, err);
}

/* Reads a range in pieces of a given size. Returns what came out before an
 * error, which shows in err->code. */
static GByteArray *read_range(struct opened *o, struct dg_range range, size_t piece,
                              struct dg_error *err)
{
  GByteArray *out = g_byte_array_new();
  g_autofree uint8_t *buffer = g_malloc(piece);
  struct dg_reader *reader = NULL;
  size_t len = 1;

  err->code = 0;
  if (codec_ops.decode_range(o->decoder, range, &reader, err) < 0)
    return out;
  while (len > 0 && reader->ops->read(reader, buffer, piece, &len, err) == 0)
    g_byte_array_append(out, buffer, (guint)len);
  reader->ops->close(reader);
  return out;
}

static const struct dg_range everything = {0, DG_TO_END};

/* Decodes the whole and some ranges; all must equal the target. */
static void check_decodes(void *codec, const struct dg_codec_ref *ref, const GByteArray *delta,
                          const GByteArray *target, const char *name)
{
  struct opened o;
  struct dg_error err = {0};
  g_autoptr(GByteArray) whole = NULL;
  uint64_t seed = 99;

  ck_assert_msg(open_delta(&o, codec, ref, delta, target->len, NULL, &err) == 0, "%s: %s", name,
                err.detail);
  ck_assert_int_eq(o.info.verified, 0);
  whole = read_range(&o, everything, 100001, &err);
  ck_assert_msg(err.code == 0, "%s: %s", name, err.detail);
  ck_assert_msg(same_bytes(whole, target->data, target->len), "%s: other bytes", name);
  for (unsigned i = 0; i < 4 && target->len > 0; i++) {
    uint64_t offset = fixture_random(&seed) % target->len;
    uint64_t length = fixture_random(&seed) % (target->len - offset + 1);
    g_autoptr(GByteArray) part = read_range(&o, (struct dg_range){offset, length}, 5000, &err);

    ck_assert_msg(err.code == 0, "%s: %s", name, err.detail);
    ck_assert_msg(same_bytes(part, target->data + offset, length), "%s: other bytes in a range",
                  name);
  }
  codec_ops.decode_close(o.decoder);
}

/* A reference and a target that differ as versions of a program do: text-like
 * stretches, noise, runs, moved and edited blocks. */
static void make_pair(GByteArray *reference, GByteArray *target, size_t size, uint64_t seed)
{
  while (reference->len < size) {
    uint64_t r = fixture_random(&seed);
    size_t len = 1 + r % 3000;
    guint start = reference->len;

    if (r >> 60 < 2) {
      fixture_append_noise(reference, &seed, len);
    } else if (r >> 60 == 2) {
      g_byte_array_set_size(reference, (guint)(start + len));
      memset(reference->data + start, (int)(r >> 20 & 0xff), len);
    } else {
      for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)("etaoin shrdlu,.\n\0\1"[fixture_random(&seed) % 18]);

        g_byte_array_append(reference, &byte, 1);
      }
    }
  }
  for (guint at = 0; at < reference->len;) {
    uint64_t r = fixture_random(&seed);
    guint len = (guint)MIN(reference->len - at, 20 + r % 6000);

    g_byte_array_append(target, reference->data + at, len);
    at += len;
    switch (r >> 60) {
    case 0:
    case 1: /* an edit in place */
      target->data[target->len - 1 - (r >> 20) % len] ^= 0x55;
      break;
    case 2: /* something new */
      fixture_append_noise(target, &seed, 1 + (r >> 30) % 700);
      break;
    case 3: /* something moved here */
      g_byte_array_append(target, reference->data + (r >> 30) % (reference->len / 2),
                          (guint)MIN(reference->len / 2, 1 + (r >> 10) % 3000));
      break;
    case 4: { /* a repetition of a few bytes */
      uint8_t period[9] = "abcdefghi";

      for (unsigned i = 0; i < 60; i++)
        g_byte_array_append(target, period, (guint)(1 + (r >> 20) % 9));
      break;
    }
    default: /* something lost */
      at += (guint)MIN(reference->len - at, (r >> 30) % 300);
    }
  }
}

/* `xdelta3 -e` with more arguments, as a list that ends with NULL. */
static GByteArray *stock_encode(struct fixture *fixture, const GByteArray *reference,
                                const GByteArray *target, const char *const *more)
{
  g_autofree char *reference_path = fixture_path(fixture, "enc-reference");
  g_autofree char *target_path = fixture_path(fixture, "enc-target");
  g_autofree char *delta_path = fixture_path(fixture, "enc-delta");
  g_autoptr(GPtrArray) argv = g_ptr_array_new();
  g_autoptr(GError) error = NULL;
  char *bytes;
  gsize len;
  int status = -1;

  g_ptr_array_add(argv, (void *)(uintptr_t) "xdelta3");
  g_ptr_array_add(argv, (void *)(uintptr_t) "-efqD");
  for (; *more != NULL; more++)
    g_ptr_array_add(argv, (void *)(uintptr_t)*more);
  if (reference != NULL) {
    fixture_write(fixture, "enc-reference", reference->data, reference->len);
    g_ptr_array_add(argv, (void *)(uintptr_t) "-s");
    g_ptr_array_add(argv, reference_path);
  }
  fixture_write(fixture, "enc-target", target->data, target->len);
  g_ptr_array_add(argv, target_path);
  g_ptr_array_add(argv, delta_path);
  g_ptr_array_add(argv, NULL);
  ck_assert_msg(g_spawn_sync(NULL, (char **)argv->pdata, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                             NULL, NULL, &status, &error),
                "xdelta3 cannot be run (install the package xdelta3): %s",
                error ? error->message : "");
  ck_assert(g_spawn_check_wait_status(status, NULL));
  ck_assert(g_file_get_contents(delta_path, &bytes, &len, NULL));
  return g_byte_array_new_take((guint8 *)bytes, len);
}

/* Whether the stock decoder gives the target back. It may not: its FGK loses
 * step with itself. */
static int stock_accepts(struct fixture *fixture, const GByteArray *target)
{
  g_autofree char *reference_path = fixture_path(fixture, "enc-reference");
  g_autofree char *delta_path = fixture_path(fixture, "enc-delta");
  g_autofree char *back_path = fixture_path(fixture, "enc-back");
  const char *argv[] = {"xdelta3", "-dfqR", "-s", reference_path, delta_path, back_path, NULL};
  g_autofree char *bytes = NULL;
  gsize len = 0;
  int status = -1;

  ck_assert(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL,
                         G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL, NULL,
                         &status, NULL));
  return g_spawn_check_wait_status(status, NULL) &&
         g_file_get_contents(back_path, &bytes, &len, NULL) && len == target->len &&
         memcmp(bytes, target->data, len) == 0;
}

/* ---- Deltas of xdelta3 ---------------------------------------------------------- */

START_TEST(every_setting_of_xdelta3_is_decoded)
{
  static const char *const secondaries[] = {"none", "djw", "lzma", "fgk"};
  static const char *const levels[] = {"-0", "-1", "-3", "-6", "-9"};
  static const char *const windows[] = {"-W16384", "-W65536", "-W1048576", "-W8388608"};
  static const char *const sources[] = {"-B524288", "-B2097152", "-B67108864"};
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  struct dg_codec_ref *ref;
  void *codec;
  unsigned turn = 0, exempt = 0;

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, "none", 1 << 20);
  make_pair(reference, target, 900000, 1234567 + (uint64_t)_i);
  ref = fixture_ref(&fixture, codec, reference, DG_CODEC_REF_DECODE_ONLY);
  for (unsigned w = 0; w < G_N_ELEMENTS(windows); w++)
    for (unsigned l = 0; l < G_N_ELEMENTS(levels); l++, turn++) {
      const char *more[8] = {"-S", secondaries[_i], levels[l], windows[w],
                             sources[turn % G_N_ELEMENTS(sources)]};
      unsigned count = 5;
      g_autofree char *name = NULL;
      g_autoptr(GByteArray) delta = NULL;

      if (turn % 2 == 0)
        more[count++] = "-n";
      if (turn % 3 == 0)
        more[count++] = "-A=an application header";
      name = g_strjoinv(" ", (char **)(uintptr_t)more);
      delta = stock_encode(&fixture, reference, target, more);
      if (strcmp(secondaries[_i], "fgk") == 0 && !stock_accepts(&fixture, target)) {
        exempt++;
        continue;
      }
      check_decodes(codec, ref, delta, target, name);
    }
  ck_assert_msg(exempt < turn, "xdelta3 refuses all of its own deltas");
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

START_TEST(sizes_around_window_boundaries_are_decoded)
{
  static const size_t sizes[] = {0, 1, 2, 16383, 16384, 16385, 32768, 40000};
  static const char *const secondaries[] = {"none", "djw", "lzma"};
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  struct dg_codec_ref *ref;
  void *codec;

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, "none", 1 << 20);
  make_pair(reference, target, 50000, 4711);
  ref = fixture_ref(&fixture, codec, reference, DG_CODEC_REF_DECODE_ONLY);
  for (unsigned i = G_N_ELEMENTS(sizes); i-- > 0;) {
    const char *more[] = {"-S", secondaries[i % 3], "-W16384", NULL};
    g_autoptr(GByteArray) delta = NULL;

    g_byte_array_set_size(target, (guint)sizes[i]);
    delta = stock_encode(&fixture, reference, target, more);
    check_decodes(codec, ref, delta, target, "boundary");
    g_byte_array_unref(g_steal_pointer(&delta));
    delta = stock_encode(&fixture, NULL, target, more);
    check_decodes(codec, ref, delta, target, "without source");
  }
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

START_TEST(truncated_deltas_of_xdelta3_are_refused)
{
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = NULL;
  const char *more[] = {"-S", _i == 0 ? "none" : "djw", "-W16384", NULL};
  struct dg_codec_ref *ref;
  void *codec;

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, "none", 1 << 20);
  make_pair(reference, target, 60000, 4712);
  ref = fixture_ref(&fixture, codec, reference, DG_CODEC_REF_DECODE_ONLY);
  delta = stock_encode(&fixture, reference, target, more);
  while (delta->len > 0) {
    struct opened o;
    struct dg_error err = {0};

    g_byte_array_set_size(delta, delta->len - 1);
    ck_assert_int_eq(open_delta(&o, codec, ref, delta, target->len, NULL, &err), -1);
    ck_assert_int_eq(err.code, DG_E_CORRUPT);
  }
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

START_TEST(flipped_bits_end_in_an_error_or_in_an_unverified_result)
{
  static const char *const secondaries[] = {"none", "djw", "lzma", "fgk"};
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = NULL;
  const char *more[] = {"-S", secondaries[_i], "-W16384", NULL};
  struct dg_codec_ref *ref;
  void *codec;
  uint64_t seed = 5 + (uint64_t)_i;
  unsigned wrong = 0;

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, "none", 1 << 20);
  make_pair(reference, target, 60000, 4713);
  ref = fixture_ref(&fixture, codec, reference, DG_CODEC_REF_DECODE_ONLY);
  delta = stock_encode(&fixture, reference, target, more);
  for (unsigned round = 0; round < 1500; round++) {
    guint at = (guint)(fixture_random(&seed) % delta->len);
    uint8_t old = delta->data[at];
    struct opened o;
    struct dg_error err = {0};

    delta->data[at] ^= (uint8_t)(1u << fixture_random(&seed) % 8);
    if (open_delta(&o, codec, ref, delta, target->len, NULL, &err) == 0) {
      g_autoptr(GByteArray) out = read_range(&o, everything, 20000, &err);

      ck_assert_int_eq(o.info.verified, 0);
      if (err.code == 0)
        wrong += !same_bytes(out, target->data, target->len);
      codec_ops.decode_close(o.decoder);
    }
    if (err.code != 0)
      ck_assert_msg(err.code == DG_E_CORRUPT || err.code == DG_E_LIMIT ||
                        err.code == DG_E_UNSUPPORTED,
                    "%d: %s", err.code, err.detail);
    delta->data[at] = old;
  }
  /* Clearing the checksum bit, say, goes unnoticed here: hence the caller's
   * check of the whole. */
  ck_assert_msg(wrong < 15, "%u of 1500 came out wrong", wrong);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

/* ---- Our own deltas ------------------------------------------------------------- */

static void header_digest(const GByteArray *delta, uint8_t digest[32])
{
  struct dg_vcd_header header;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_vcd_header_parse(delta->data, delta->len, delta->len, &header, &err), 0);
  sha256_of(delta->data, (size_t)header.size_bytes, digest);
}

START_TEST(own_deltas_are_verified_when_the_header_is_known)
{
  static const char *const secondaries[] = {"none", "djw", "lzma"};
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = NULL;
  g_autoptr(GByteArray) out = NULL;
  struct dg_codec_ref *ref;
  void *codec;
  uint8_t digest[32];
  struct opened o;
  struct dg_error err = {0};

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, secondaries[_i], 1 << 16);
  make_pair(reference, target, 700000, 4714);
  ref = fixture_ref(&fixture, codec, reference, 0);
  delta = fixture_encode(codec, ref, target->data, target->len);
  check_decodes(codec, ref, delta, target, "own");
  header_digest(delta, digest);
  ck_assert_int_eq(open_delta(&o, codec, ref, delta, target->len, digest, &err), 0);
  ck_assert_int_ne(o.info.verified, 0);
  ck_assert_int_eq(o.info.seekable != 0, _i != 2);
  ck_assert_uint_eq(o.info.window_count, (target->len - 1) / 65536 + 1);
  out = read_range(&o, everything, 1 << 20, &err);
  ck_assert(same_bytes(out, target->data, target->len));
  codec_ops.decode_close(o.decoder);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

START_TEST(verified_reads_never_give_wrong_bytes)
{
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = NULL;
  struct dg_codec_ref *ref;
  void *codec;
  uint8_t digest[32];
  uint64_t seed = 6;
  unsigned noticed = 0;

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, _i == 0 ? "none" : "djw", 1 << 16);
  make_pair(reference, target, 200000, 4715);
  ref = fixture_ref(&fixture, codec, reference, 0);
  delta = fixture_encode(codec, ref, target->data, target->len);
  header_digest(delta, digest);
  for (unsigned round = 0; round < 1500; round++) {
    guint at = (guint)(fixture_random(&seed) % delta->len);
    uint8_t old = delta->data[at];
    struct opened o;
    struct dg_error err = {0};

    delta->data[at] ^= (uint8_t)(1u << fixture_random(&seed) % 8);
    if (open_delta(&o, codec, ref, delta, target->len, digest, &err) == 0) {
      g_autoptr(GByteArray) out = read_range(&o, everything, 20000, &err);

      /* Whatever came out, even before an error, is right if it is verified. */
      if (o.info.verified)
        ck_assert(same_start(out, target));
      codec_ops.decode_close(o.decoder);
    }
    noticed += err.code != 0;
    delta->data[at] = old;
  }
  ck_assert_uint_gt(noticed, 1000);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

START_TEST(a_damaged_reference_is_noticed)
{
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = NULL;
  g_autoptr(GByteArray) out = NULL;
  struct dg_codec_ref *ref;
  void *codec;
  uint8_t digest[32];
  struct opened o;
  struct dg_error err = {0};

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, "none", 1 << 16);
  make_pair(reference, target, 200000, 4716);
  ref = fixture_ref(&fixture, codec, reference, 0);
  delta = fixture_encode(codec, ref, target->data, target->len);
  header_digest(delta, digest);
  codec_ops.ref_close(ref);
  for (guint i = 100000; i < 100100; i++)
    reference->data[i] ^= 1;
  ref = fixture_ref(&fixture, codec, reference, DG_CODEC_REF_DECODE_ONLY);
  ck_assert_int_eq(open_delta(&o, codec, ref, delta, target->len, digest, &err), 0);
  out = read_range(&o, everything, 20000, &err);
  ck_assert_int_eq(err.code, DG_E_CORRUPT);
  ck_assert(same_start(out, target));
  codec_ops.decode_close(o.decoder);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

START_TEST(a_reference_cut_short_while_decoding_is_an_error)
{
  static const char *const secondaries[] = {"none", "djw", "lzma"};
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = NULL, before = NULL, after = NULL;
  g_autofree char *path = NULL;
  struct dg_codec_ref *ref;
  struct dg_error err = {0};
  struct opened o;
  void *codec;

  fixture_open(&fixture);
  path = fixture_path(&fixture, "reference");
  codec = fixture_codec(&fixture, secondaries[_i], 1 << 16);
  make_pair(reference, target, 700000, 4719);
  ref = fixture_ref(&fixture, codec, reference, 0);
  delta = fixture_encode(codec, ref, target->data, target->len);
  ck_assert_int_eq(open_delta(&o, codec, ref, delta, target->len, NULL, &err), 0);
  before = read_range(&o, (struct dg_range){0, target->len}, 1000, &err);
  ck_assert_int_eq(err.code, 0);
  ck_assert(same_bytes(before, target->data, target->len));
  ck_assert_int_eq(truncate(path, 5000), 0);
  after = read_range(&o, (struct dg_range){0, target->len}, 1000, &err);
  ck_assert_int_eq(err.code, DG_E_CORRUPT);
  ck_assert_msg(strstr(err.detail, path) != NULL, "%s", err.detail);
  ck_assert(same_start(after, target));
  codec_ops.decode_close(o.decoder);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

START_TEST(an_index_that_cannot_be_trusted_is_ignored_not_believed)
{
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = NULL;
  g_autoptr(GByteArray) out = NULL;
  struct dg_codec_ref *ref;
  void *codec;
  uint8_t digest[32];
  struct opened o;
  struct dg_error err = {0};

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, "none", 1 << 16);
  make_pair(reference, target, 200000, 4717);
  ref = fixture_ref(&fixture, codec, reference, 0);
  delta = fixture_encode(codec, ref, target->data, target->len);
  header_digest(delta, digest);
  delta->data[60] ^= 1; /* inside the index */
  ck_assert_int_eq(open_delta(&o, codec, ref, delta, target->len, digest, &err), 0);
  ck_assert_int_eq(o.info.verified, 0);
  ck_assert_ptr_nonnull(strstr(fixture.log->str, "codec.index_ignored"));
  out = read_range(&o, everything, 20000, &err);
  ck_assert_int_eq(err.code, 0);
  ck_assert(same_bytes(out, target->data, target->len));
  codec_ops.decode_close(o.decoder);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

START_TEST(a_range_behind_the_end_and_a_wrong_size_are_refused)
{
  struct fixture fixture;
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = NULL;
  g_autoptr(GByteArray) out = NULL;
  struct dg_codec_ref *ref;
  void *codec;
  struct opened o;
  struct dg_error err = {0};

  fixture_open(&fixture);
  codec = fixture_codec(&fixture, "none", 1 << 16);
  make_pair(reference, target, 100000, 4718);
  ref = fixture_ref(&fixture, codec, reference, 0);
  delta = fixture_encode(codec, ref, target->data, target->len);
  ck_assert_int_eq(open_delta(&o, codec, ref, delta, target->len + 1, NULL, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CORRUPT);
  ck_assert_int_eq(open_delta(&o, codec, ref, delta, target->len, NULL, &err), 0);
  out = read_range(&o, (struct dg_range){target->len - 5, 6}, 100, &err);
  ck_assert_int_eq(err.code, DG_E_INVALID_RANGE);
  g_byte_array_unref(g_steal_pointer(&out));
  out = read_range(&o, (struct dg_range){target->len, DG_TO_END}, 100, &err);
  ck_assert_int_eq(err.code, 0);
  ck_assert_uint_eq(out->len, 0);
  codec_ops.decode_close(o.decoder);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  fixture_close(&fixture);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("codec-decode");
  TCase *tcase = tcase_create("decode");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_set_timeout(tcase, 240);
  tcase_add_loop_test(tcase, every_setting_of_xdelta3_is_decoded, 0, 4);
  tcase_add_test(tcase, sizes_around_window_boundaries_are_decoded);
  tcase_add_loop_test(tcase, truncated_deltas_of_xdelta3_are_refused, 0, 2);
  tcase_add_loop_test(tcase, flipped_bits_end_in_an_error_or_in_an_unverified_result, 0, 4);
  tcase_add_loop_test(tcase, own_deltas_are_verified_when_the_header_is_known, 0, 3);
  tcase_add_loop_test(tcase, verified_reads_never_give_wrong_bytes, 0, 2);
  tcase_add_test(tcase, a_damaged_reference_is_noticed);
  tcase_add_loop_test(tcase, a_reference_cut_short_while_decoding_is_an_error, 0, 3);
  tcase_add_test(tcase, an_index_that_cannot_be_trusted_is_ignored_not_believed);
  tcase_add_test(tcase, a_range_behind_the_end_and_a_wrong_size_are_refused);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
