/* SPDX-License-Identifier: Apache-2.0 */
/* The sealed formats to the byte, and the choice of keys. What every crypt must
 * do besides is in tests/contract/crypt.c. */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/hex.h"
#include "common/meta.h"
#include "common/slice.h"
#include "core/plug/options.h"
#include "plugins/crypt-aesgcm/aesgcm.h"
#include "plugins/crypt-aesgcm/dge1.h"
#include "plugins/crypt-ssekms/ssekms.h"

#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_KEY "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff"

static const struct dg_crypt_ops *ops;
static const struct dg_call call = {.struct_size = sizeof call};
static char logged[600];

static void keep_log(const struct dg_host *host, uint32_t level, const char *event,
                     const char *message)
{
  (void)host, (void)level, (void)event;
  (void)g_strlcpy(logged, message, sizeof logged);
}

static struct dg_host host = {
  .struct_size = sizeof host,
  .log = keep_log,
  .meta_set = dg_meta_set,
  .meta_add_user = dg_meta_add_user,
  .meta_add_extension = dg_meta_add_extension,
};

/* The IV of the vectors: 01..0c. */
static int fixed_iv(void *bytes, size_t len, struct dg_error *err)
{
  (void)err;
  for (size_t i = 0; i < len; i++)
    ((uint8_t *)bytes)[i] = (uint8_t)(i + 1);
  return 0;
}

/* Options as name, value, ... NULL, for the backend "default". */
static struct dg_aes *open_crypt(const char *first, ...)
{
  struct dg_config *config = dg_config_new(dg_aes_plugin.options, "default");
  struct dg_error err = {0};
  void *self = NULL;
  va_list args;

  ops = dg_aes_plugin.ops;
  va_start(args, first);
  for (const char *name = first; name; name = va_arg(args, const char *))
    ck_assert_msg(dg_config_set(config, name, va_arg(args, const char *), &err) == 0, "%s",
                  err.detail);
  va_end(args);
  ck_assert_int_eq(dg_config_finish(config, &err), 0);
  ck_assert_msg(ops->create(&host, config, &self, &err) == 0, "%s", err.detail);
  dg_config_free(config);
  ((struct dg_aes *)self)->random = fixed_iv;
  return self;
}

/* ---- Bodies in memory --------------------------------------------------------------- */

struct sink {
  struct dg_writer writer;
  GByteArray *bytes;
};

static int sink_write(struct dg_writer *writer, const void *data, size_t len, struct dg_error *err)
{
  (void)err;
  g_byte_array_append(((struct sink *)writer)->bytes, data, (guint)len);
  return 0;
}

static int sink_commit(struct dg_writer *writer, const struct dg_item *item,
                       const struct dg_meta *meta, struct dg_commit_result *ret_result,
                       struct dg_error *err)
{
  (void)item, (void)meta, (void)ret_result, (void)err;
  g_free(writer);
  return 0;
}

static void sink_abort(struct dg_writer *writer)
{
  g_free(writer);
}

static const struct dg_writer_ops sink_ops = {
  .struct_size = sizeof sink_ops, .write = sink_write, .commit = sink_commit, .abort = sink_abort};

static GByteArray *seal(struct dg_aes *aes, uint32_t variant, const void *data, size_t len,
                        struct dg_meta *marks)
{
  struct dg_seal_params params = {
    .struct_size = sizeof params, .variant = variant, .plain_size = len};
  struct dg_item item = {DG_SLICE("b"), DG_SLICE("k"), variant, 0};
  GByteArray *bytes = g_byte_array_new();
  struct sink *sink = g_new0(struct sink, 1);
  struct dg_writer *writer;
  struct dg_error err = {0};

  sink->writer.ops = &sink_ops;
  sink->bytes = bytes;
  ck_assert_msg(ops->seal(aes, &call, &params, &sink->writer, marks, &writer, &err) == 0, "%s",
                err.detail);
  ck_assert_int_eq(writer->ops->write(writer, data, len, &err), 0);
  ck_assert_int_eq(writer->ops->commit(writer, &item, marks, NULL, &err), 0);
  marks->stored_size = bytes->len;
  return bytes;
}

struct tap {
  struct dg_reader reader;
  const uint8_t *at;
  size_t left;
};

static int tap_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                    struct dg_error *err)
{
  struct tap *tap = (struct tap *)reader;
  size_t len = MIN(capacity, tap->left);

  (void)err;
  if (len)
    memcpy(buffer, tap->at, len);
  tap->at += len;
  tap->left -= len;
  *ret_len = len;
  return 0;
}

static void tap_close(struct dg_reader *reader)
{
  g_free(reader);
}

static const struct dg_reader_ops tap_ops = {
  .struct_size = sizeof tap_ops, .read = tap_read, .close = tap_close};

struct body {
  const uint8_t *data;
  size_t len;
  struct dg_range asked[8];
  unsigned asked_count;
};

static int fetch(void *receiver, struct dg_range stored, struct dg_reader **ret_reader,
                 struct dg_error *err)
{
  struct body *body = receiver;
  struct tap *tap;

  ck_assert_uint_lt(body->asked_count, G_N_ELEMENTS(body->asked));
  body->asked[body->asked_count++] = stored;
  if (stored.offset > body->len)
    return dg_fail(err, DG_E_INVALID_RANGE, "past the end");
  tap = g_new0(struct tap, 1);
  tap->reader.ops = &tap_ops;
  tap->at = body->data + stored.offset;
  tap->left = (size_t)MIN(stored.length, body->len - stored.offset);
  *ret_reader = &tap->reader;
  return 0;
}

static struct dg_meta *marks_of(const char *algorithm, const char *key_id, size_t stored_size)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err;

  (void)dg_meta_add_user(meta, DG_SLICE("dg-encrypted"), dg_slice_str(algorithm), &err);
  if (key_id)
    (void)dg_meta_add_user(meta, DG_SLICE("dg-encryption-key-id"), dg_slice_str(key_id), &err);
  meta->stored_size = stored_size;
  return meta;
}

/* Into got (room for the range); *ret_len bytes. */
static int unseal(struct dg_aes *aes, struct body *body, const struct dg_meta *meta,
                  struct dg_range plain, uint8_t *got, size_t *ret_len, struct dg_error *err)
{
  struct dg_unseal_params params = {
    .struct_size = sizeof params, .meta = meta, .plain = plain, .receiver = body, .fetch = fetch};
  struct dg_reader *reader;
  size_t len;
  int rc;

  *ret_len = 0;
  ck_assert(ops->sealed(aes, meta, &params.plain_size));
  if (params.plain_size == DG_TO_END)
    return dg_fail(err, DG_E_CORRUPT, "no such length");
  params.plain.length = MIN(plain.length, params.plain_size - plain.offset);
  if (ops->unseal(aes, &call, &params, &reader, err) < 0)
    return -1;
  do {
    len = 0;
    rc = params.plain.length - *ret_len
           ? reader->ops->read(reader, got + *ret_len, params.plain.length - *ret_len, &len, err)
           : 0;
    *ret_len += len;
  } while (rc == 0 && len);
  reader->ops->close(reader);
  return rc;
}

static void expect_hex(const GByteArray *bytes, const char *hex)
{
  g_autofree char *text = g_malloc(2 * bytes->len + 1);

  dg_hex_encode(bytes->data, bytes->len, text);
  ck_assert_str_eq(text, hex);
}

/* One vector, both ways. */
static void check_vector(const char *algorithm, uint32_t variant, const char *plain,
                         const char *hex)
{
  struct dg_aes *aes = open_crypt("key", KEY, "seal_deltas", "compatible", NULL);
  struct dg_meta *marks = dg_meta_new();
  GByteArray *bytes = seal(aes, variant, plain, strlen(plain), marks);
  struct dg_meta *foreign = marks_of(algorithm, "ba11f1de37ceed36", strlen(hex) / 2);
  g_autofree uint8_t *given = g_malloc(strlen(hex) / 2);
  struct body body = {.data = given, .len = strlen(hex) / 2};
  struct dg_error err = {0};
  uint8_t got[64];
  size_t len;

  expect_hex(bytes, hex);
  ck_assert(dg_slice_equal_str(dg_meta_user(marks, "dg-encrypted"), algorithm));
  ck_assert(dg_slice_equal_str(dg_meta_user(marks, "dg-encryption-key-id"), "ba11f1de37ceed36"));
  ck_assert(dg_hex_decode(dg_slice_str(hex), given, body.len));
  ck_assert_msg(unseal(aes, &body, foreign, (struct dg_range){0, DG_TO_END}, got, &len, &err) == 0,
                "%s", err.detail);
  ck_assert_uint_eq(len, strlen(plain));
  ck_assert_mem_eq(got, plain, len);
  g_byte_array_unref(bytes);
  dg_meta_unref(marks);
  dg_meta_unref(foreign);
  ops->destroy(aes);
}

/* ---- Formats ---------------------------------------------------------------------------- */

START_TEST(the_one_piece_format_is_right_to_the_byte)
{
  check_vector("aes-256-gcm-v1", DG_VARIANT_REFERENCE, "hello",
               "0102030405060708090a0b0c6d8f36b98352ea56e00e3a29eba41faf3a910a35cb");
}
END_TEST

START_TEST(the_chunked_format_is_right_to_the_byte)
{
  check_vector("aes-256-gcm-chunked-v1", DG_VARIANT_PASSTHROUGH, "hello",
               "444745310102030405060708090a0b0c150000006d8f36b983fd13d474b9318dc7a3bc5b85719bf0f5");
  check_vector("aes-256-gcm-chunked-v1", DG_VARIANT_PASSTHROUGH, "",
               "444745310102030405060708090a0b0c10000000479a41e80f15685b289d203d2aeb330f");
}
END_TEST

START_TEST(two_chunks_are_right_to_the_byte)
{
  struct dg_aes *aes = open_crypt("key", KEY, NULL);
  struct dg_meta *marks = dg_meta_new();
  g_autofree uint8_t *plain = g_malloc(65537), *got = g_malloc(65537);
  struct dg_error err = {0};
  struct body body = {0};
  GByteArray *bytes;
  uint8_t digest[32];
  char hex[65];
  size_t len;

  memset(plain, 'A', 65536);
  plain[65536] = 'B';
  bytes = seal(aes, DG_VARIANT_DELTA, plain, 65537, marks);
  ck_assert_uint_eq(bytes->len, 65593);
  dg_sha256(bytes->data, bytes->len, digest);
  dg_hex_encode(digest, 32, hex);
  ck_assert_str_eq(hex, "55bda9fa5faeef15d4961b5debbf99d52bec57a68dace7ddb9e5559113a9b375");
  body = (struct body){.data = bytes->data, .len = bytes->len};
  ck_assert_msg(unseal(aes, &body, marks, (struct dg_range){0, DG_TO_END}, got, &len, &err) == 0,
                "%s", err.detail);
  ck_assert_uint_eq(len, 65537);
  ck_assert_mem_eq(got, plain, len);
  g_byte_array_unref(bytes);
  dg_meta_unref(marks);
  ops->destroy(aes);
}
END_TEST

START_TEST(key_ids_are_derived_from_backend_and_key)
{
  uint8_t key[32];
  char id[17];

  ck_assert(dg_hex_decode(DG_SLICE(KEY), key, 32));
  dg_aes_derive_id("default", key, id);
  ck_assert_str_eq(id, "ba11f1de37ceed36");
  dg_aes_derive_id("default::legacy", key, id);
  ck_assert_str_eq(id, "0a969fc069d52b4b");
}
END_TEST

START_TEST(sizes_follow_from_each_other)
{
  const uint64_t plain[] = {0, 1, 65535, 65536, 65537, 131072, UINT64_C(5) << 40};

  for (size_t i = 0; i < G_N_ELEMENTS(plain); i++)
    ck_assert_uint_eq(dg_dge1_plain_size(dg_dge1_sealed_size(plain[i])), plain[i]);
  /* Lengths that no body has. */
  ck_assert_uint_eq(dg_dge1_plain_size(0), DG_TO_END);
  ck_assert_uint_eq(dg_dge1_plain_size(35), DG_TO_END);
  ck_assert_uint_eq(dg_dge1_plain_size(16 + 65556 + 19), DG_TO_END);
  ck_assert_uint_eq(dg_dge1_plain_size(16 + 65556 + 20), DG_TO_END);
  ck_assert_uint_eq(dg_dge1_plain_size(16 + 65556 + 21), 65537);
}
END_TEST

/* ---- Ranges ------------------------------------------------------------------------------- */

/* A body of 300 000 bytes, and what reads of it ask for. */
struct big {
  struct dg_aes *aes;
  struct dg_meta *marks;
  GByteArray *bytes;
  uint8_t plain[300000], got[300000];
  struct body body;
};

static struct big *big_new(uint32_t variant, const char *seal_deltas)
{
  struct big *big = g_new0(struct big, 1);

  for (size_t i = 0; i < sizeof big->plain; i++)
    big->plain[i] = (uint8_t)(i * 7 + (i >> 8));
  big->aes = open_crypt("key", KEY, "seal_deltas", seal_deltas, NULL);
  big->marks = dg_meta_new();
  big->bytes = seal(big->aes, variant, big->plain, sizeof big->plain, big->marks);
  big->body = (struct body){.data = big->bytes->data, .len = big->bytes->len};
  return big;
}

static void big_free(struct big *big)
{
  ops->destroy(big->aes);
  dg_meta_unref(big->marks);
  g_byte_array_unref(big->bytes);
  g_free(big);
}

static void big_read(struct big *big, uint64_t offset, uint64_t length)
{
  struct dg_error err = {0};
  size_t len;

  big->body.asked_count = 0;
  ck_assert_msg(unseal(big->aes, &big->body, big->marks, (struct dg_range){offset, length},
                       big->got, &len, &err) == 0,
                "%s", err.detail);
  ck_assert_uint_eq(len, length);
  ck_assert_mem_eq(big->got, big->plain + offset, length);
}

START_TEST(a_range_reads_only_its_chunks_in_one_request)
{
  struct big *big = big_new(DG_VARIANT_PASSTHROUGH, "streamed");

  big_read(big, 140000, 10);
  ck_assert_uint_eq(big->body.asked_count, 1);
  ck_assert_uint_eq(big->body.asked[0].offset, 16 + 2 * 65556);
  ck_assert_uint_eq(big->body.asked[0].length, 65556);
  big_read(big, 131071, 2);
  ck_assert_uint_eq(big->body.asked_count, 1);
  ck_assert_uint_eq(big->body.asked[0].offset, 16 + 65556);
  ck_assert_uint_eq(big->body.asked[0].length, 2 * 65556);
  big_free(big);
}
END_TEST

START_TEST(a_range_without_our_iv_mark_reads_the_header)
{
  struct big *big = big_new(DG_VARIANT_PASSTHROUGH, "streamed");

  big->marks->extension_count = 0;
  big_read(big, 140000, 10);
  ck_assert_uint_eq(big->body.asked_count, 2);
  ck_assert_uint_eq(big->body.asked[1].offset, 0);
  ck_assert_uint_eq(big->body.asked[1].length, 16);
  big_free(big);
}
END_TEST

START_TEST(a_stale_iv_mark_loses_to_the_header)
{
  struct big *big = big_new(DG_VARIANT_PASSTHROUGH, "streamed");
  struct dg_error err;

  big->marks->extension_count = 0;
  ck_assert_int_eq(dg_meta_add_extension(big->marks, DG_SLICE("crypt-iv"),
                                         DG_SLICE("aabbccddeeff00112233445566"), &err),
                   0);
  big_read(big, 140000, 10); /* not even an IV */
  big->marks->extension_count = 0;
  ck_assert_int_eq(dg_meta_add_extension(big->marks, DG_SLICE("crypt-iv"),
                                         DG_SLICE("aabbccddeeff001122334455"), &err),
                   0);
  big_read(big, 140000, 10);
  big_free(big);
}
END_TEST

START_TEST(the_one_piece_format_ranges_too)
{
  struct big *big = big_new(DG_VARIANT_DELTA, "compatible");

  ck_assert(dg_slice_equal_str(dg_meta_user(big->marks, "dg-encrypted"), "aes-256-gcm-v1"));
  big_read(big, 140000, 10);
  big_read(big, 0, 300000);
  big_free(big);
}
END_TEST

START_TEST(large_bodies_of_one_piece_go_through_a_bounded_file)
{
  struct dg_aes *aes = open_crypt("key", KEY, "seal_deltas", "compatible", "spool_limit", "3MiB",
                                  NULL);
  struct dg_meta *marks = dg_meta_new();
  size_t size = 2500000, len;
  g_autofree uint8_t *plain = g_malloc0(size), *got = g_malloc(size);
  GByteArray *bytes = seal(aes, DG_VARIANT_REFERENCE, plain, size, marks);
  struct body body = {.data = bytes->data, .len = bytes->len};
  struct dg_unseal_params params = {.struct_size = sizeof params,
                                    .meta = marks,
                                    .plain = {0, size},
                                    .plain_size = size,
                                    .receiver = &body,
                                    .fetch = fetch};
  struct dg_reader *first, *second;
  struct dg_error err = {0};
  uint64_t offset, length;
  int32_t fd;

  ck_assert_int_eq(ops->unseal(aes, &call, &params, &first, &err), 0);
  ck_assert_int_eq(ops->unseal(aes, &call, &params, &second, &err), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  ck_assert_int_eq(first->ops->file_range(first, &fd, &offset, &length, &err), 0);
  ck_assert_uint_eq(length, size);
  (void)close(fd);
  first->ops->close(first);
  ck_assert_int_eq(unseal(aes, &body, marks, (struct dg_range){0, size}, got, &len, &err), 0);
  ck_assert_uint_eq(len, size);
  ck_assert_mem_eq(got, plain, size);
  g_byte_array_unref(bytes);
  dg_meta_unref(marks);
  ops->destroy(aes);
}
END_TEST

/* ---- Damage ------------------------------------------------------------------------------- */

START_TEST(the_message_names_the_chunk)
{
  struct big *big = big_new(DG_VARIANT_PASSTHROUGH, "streamed");
  struct dg_error err = {0};
  size_t len;

  big->bytes->data[16 + 2 * 65556 + 100] ^= 1;
  ck_assert_int_eq(unseal(big->aes, &big->body, big->marks, (struct dg_range){140000, 5}, big->got,
                          &len, &err),
                   -1);
  ck_assert_int_eq(err.code, DG_E_CORRUPT);
  ck_assert_str_eq(err.detail,
                   "chunk 2 decryption failed (wrong key, tampered, or reordered)");
  big_free(big);
}
END_TEST

START_TEST(swapped_chunks_are_refused)
{
  struct big *big = big_new(DG_VARIANT_PASSTHROUGH, "streamed");
  g_autofree uint8_t *one = g_memdup2(big->bytes->data + 16, 65556);
  struct dg_error err = {0};
  size_t len;

  memcpy(big->bytes->data + 16, big->bytes->data + 16 + 65556, 65556);
  memcpy(big->bytes->data + 16 + 65556, one, 65556);
  ck_assert_int_eq(unseal(big->aes, &big->body, big->marks, (struct dg_range){0, 300000}, big->got,
                          &len, &err),
                   -1);
  ck_assert_uint_eq(len, 0);
  ck_assert_str_eq(err.detail,
                   "chunk 0 decryption failed (wrong key, tampered, or reordered)");
  big_free(big);
}
END_TEST

START_TEST(a_chunk_length_that_lies_is_refused)
{
  struct big *big = big_new(DG_VARIANT_PASSTHROUGH, "streamed");
  struct dg_error err = {0};
  size_t len;

  for (int bit = 0; bit < 32; bit++) {
    big->body.asked_count = 0;
    big->bytes->data[16 + bit / 8] ^= (uint8_t)(1 << bit % 8);
    ck_assert_int_eq(unseal(big->aes, &big->body, big->marks, (struct dg_range){0, 300000},
                            big->got, &len, &err),
                     -1);
    ck_assert_int_eq(err.code, DG_E_CORRUPT);
    ck_assert_uint_eq(len, 0);
    big->bytes->data[16 + bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  big_free(big);
}
END_TEST

START_TEST(damage_in_one_piece_shows_before_the_first_byte)
{
  struct big *big = big_new(DG_VARIANT_REFERENCE, "compatible");
  struct dg_error err = {0};
  size_t len;

  big->bytes->data[big->bytes->len - 1] ^= 1;
  ck_assert_int_eq(unseal(big->aes, &big->body, big->marks, (struct dg_range){0, 300000}, big->got,
                          &len, &err),
                   -1);
  ck_assert_uint_eq(len, 0);
  ck_assert_int_eq(err.code, DG_E_CORRUPT);
  ck_assert_str_eq(err.detail, "decryption failed (wrong key or tampered data)");
  big_free(big);
}
END_TEST

/* ---- Keys ------------------------------------------------------------------------------------ */

#define HELLO_V1 "0102030405060708090a0b0c6d8f36b98352ea56e00e3a29eba41faf3a910a35cb"

/* Reads the one-piece "hello" stamped so; the message, or "" when it came. */
static const char *read_hello(struct dg_aes *aes, const char *stamp)
{
  static struct dg_error err;
  struct dg_meta *meta = marks_of("aes-256-gcm-v1", stamp, strlen(HELLO_V1) / 2);
  uint8_t bytes[sizeof HELLO_V1 / 2], got[5];
  struct body body = {.data = bytes, .len = strlen(HELLO_V1) / 2};
  size_t len;
  int rc;

  ck_assert(dg_hex_decode(DG_SLICE(HELLO_V1), bytes, body.len));
  err = (struct dg_error){0};
  rc = unseal(aes, &body, meta, (struct dg_range){0, 5}, got, &len, &err);
  dg_meta_unref(meta);
  ops->destroy(aes);
  if (rc == 0)
    ck_assert_mem_eq(got, "hello", 5);
  return rc == 0 ? "" : err.detail;
}

START_TEST(the_stamp_chooses_the_key)
{
  ck_assert_str_eq(read_hello(open_crypt("key", KEY, NULL), "ba11f1de37ceed36"), "");
  ck_assert_str_eq(read_hello(open_crypt("key", KEY, NULL), NULL), "");
  ck_assert_str_eq(read_hello(open_crypt("key", KEY, "key_id", "blue", NULL), "blue"), "");
  ck_assert_str_eq(read_hello(open_crypt("key", OTHER_KEY, "legacy_key", KEY, NULL),
                              "0a969fc069d52b4b"),
                   "");
  ck_assert_str_eq(read_hello(open_crypt("key", OTHER_KEY, "legacy_key", KEY, "legacy_key_id",
                                         "old", NULL),
                              "old"),
                   "");
  /* A legacy key is recognised by the id it had while it sealed. */
  ck_assert_str_eq(read_hello(open_crypt("key", OTHER_KEY, "legacy_key", KEY, NULL),
                              "ba11f1de37ceed36"),
                   "");
  ck_assert_str_eq(read_hello(open_crypt("legacy_key", KEY, NULL), "0a969fc069d52b4b"), "");
}
END_TEST

START_TEST(a_body_without_a_key_says_so)
{
  ck_assert_str_eq(read_hello(open_crypt(NULL, NULL), NULL),
                   "object is encrypted but no key is configured");
  ck_assert_ptr_nonnull(strstr(read_hello(open_crypt(NULL, NULL), "blue"),
                               "object was encrypted with key id 'blue', but this backend has NO "
                               "encryption key configured. "));
}
END_TEST

START_TEST(a_body_of_another_key_names_both_ids)
{
  static const char text[] =
    "object was encrypted with key id 'blue', but this backend is configured with key id "
    "'ba11f1de37ceed36' (no legacy-shim match either). This usually means: (a) ";

  logged[0] = '\0';
  ck_assert_ptr_nonnull(strstr(read_hello(open_crypt("key", KEY, NULL), "blue"), text));
  /* The log has all of it. */
  ck_assert_ptr_nonnull(strstr(logged, text));
  ck_assert_ptr_nonnull(strstr(logged, "rotated without legacy_key"));
  ck_assert_ptr_nonnull(strstr(logged, "(b) the bucket is routed to the wrong backend; (c) two "
                                       "backends share physical storage with different keys. "));
}
END_TEST

START_TEST(the_wrong_key_never_gives_bytes)
{
  ck_assert_str_eq(read_hello(open_crypt("key", OTHER_KEY, "key_id", "blue", NULL), "blue"),
                   "decryption failed (wrong key or tampered data)");
}
END_TEST

START_TEST(nothing_is_sealed_without_a_key)
{
  struct dg_aes *aes = open_crypt("legacy_key", KEY, NULL);
  struct dg_seal_params params = {.struct_size = sizeof params,
                                  .variant = DG_VARIANT_PASSTHROUGH};
  struct dg_meta *marks = dg_meta_new();
  struct dg_writer *writer = NULL;
  struct sink sink = {.writer.ops = &sink_ops};
  struct dg_error err = {0};

  ck_assert_int_eq(ops->seal(aes, &call, &params, &sink.writer, marks, &writer, &err), -1);
  ck_assert_int_eq(err.code, DG_E_INTERNAL);
  ck_assert_ptr_null(writer);
  dg_meta_unref(marks);
  ops->destroy(aes);
}
END_TEST

START_TEST(a_malformed_key_is_refused_and_not_repeated)
{
  struct dg_config *config = dg_config_new(dg_aes_plugin.options, "default");
  struct dg_error err = {0};

  ck_assert_int_eq(dg_config_set(config, "key", "0123secret", &err), -1);
  ck_assert_int_eq(err.code, DG_E_CONFIG);
  ck_assert_ptr_null(strstr(err.detail, "0123secret"));
  dg_config_free(config);
}
END_TEST

/* ---- crypt-ssekms --------------------------------------------------------------------------- */

static const char *native(const char *mode, const char *kms_key_id, const char *bucket_key,
                          unsigned number)
{
  static char line[300];
  const struct dg_crypt_ops *native_ops = dg_ssekms_plugin.ops;
  struct dg_config *config = dg_config_new(dg_ssekms_plugin.options, "default");
  const struct dg_pair *pairs;
  struct dg_error err = {0};
  void *self = NULL;
  uint32_t count = 0;

  ck_assert_int_eq(dg_config_set(config, "mode", mode, &err), 0);
  if (kms_key_id)
    ck_assert_int_eq(dg_config_set(config, "kms_key_id", kms_key_id, &err), 0);
  if (bucket_key)
    ck_assert_int_eq(dg_config_set(config, "bucket_key_enabled", bucket_key, &err), 0);
  ck_assert_int_eq(dg_config_finish(config, &err), 0);
  if (native_ops->create(&host, config, &self, &err) == 0) {
    ck_assert_int_eq(native_ops->native_headers(self, &pairs, &count, &err), 0);
    line[0] = '\0';
    if (number < count)
      (void)g_snprintf(line, sizeof line, "%.*s: %.*s", DG_SLICE_ARG(pairs[number].name),
                       DG_SLICE_ARG(pairs[number].value));
    native_ops->destroy(self);
  } else {
    (void)g_strlcpy(line, err.detail, sizeof line);
  }
  dg_config_free(config);
  return line;
}

START_TEST(native_modes_become_headers)
{
  ck_assert_str_eq(native("sse-s3", NULL, NULL, 0), "x-amz-server-side-encryption: AES256");
  ck_assert_str_eq(native("sse-s3", NULL, NULL, 1), "");
  ck_assert_str_eq(native("sse-kms", "alias/one", NULL, 0),
                   "x-amz-server-side-encryption: aws:kms");
  ck_assert_str_eq(native("sse-kms", "alias/one", NULL, 1),
                   "x-amz-server-side-encryption-aws-kms-key-id: alias/one");
  ck_assert_str_eq(native("sse-kms", "alias/one", NULL, 2),
                   "x-amz-server-side-encryption-bucket-key-enabled: true");
  ck_assert_str_eq(native("sse-kms", NULL, "false", 1),
                   "x-amz-server-side-encryption-bucket-key-enabled: false");
  ck_assert_ptr_nonnull(strstr(native("sse-s3", "alias/one", NULL, 0), "kms_key_id means nothing"));
}
END_TEST

int main(void)
{
  const TTest *const tests[] = {
    the_one_piece_format_is_right_to_the_byte,
    the_chunked_format_is_right_to_the_byte,
    two_chunks_are_right_to_the_byte,
    key_ids_are_derived_from_backend_and_key,
    sizes_follow_from_each_other,
    a_range_reads_only_its_chunks_in_one_request,
    a_range_without_our_iv_mark_reads_the_header,
    a_stale_iv_mark_loses_to_the_header,
    the_one_piece_format_ranges_too,
    large_bodies_of_one_piece_go_through_a_bounded_file,
    the_message_names_the_chunk,
    swapped_chunks_are_refused,
    a_chunk_length_that_lies_is_refused,
    damage_in_one_piece_shows_before_the_first_byte,
    the_stamp_chooses_the_key,
    a_body_without_a_key_says_so,
    a_body_of_another_key_names_both_ids,
    the_wrong_key_never_gives_bytes,
    nothing_is_sealed_without_a_key,
    a_malformed_key_is_refused_and_not_repeated,
    native_modes_become_headers,
  };
  Suite *suite = suite_create("crypt-aesgcm");
  TCase *cases = tcase_create("crypt-aesgcm");
  SRunner *runner = srunner_create(suite);
  int failed;

  for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
    tcase_add_test(cases, tests[i]);
  suite_add_tcase(suite, cases);
  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
