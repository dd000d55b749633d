/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed bodies of either format, whole and in part. Bytes 0-3 choose the format,
 * how the metadata looks and the range; the rest is the body, or, with bit 7 of
 * byte 0, a plaintext that is sealed here and then damaged. A body that was not
 * sealed with the key gives no byte; a damaged one no wrong byte. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>
#include <string.h>

#include "common/meta.h"
#include "common/slice.h"
#include "core/plug/options.h"
#include "plugins/crypt-aesgcm/aesgcm.h"

#include "common/banned.h"

#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static const struct dg_host host = {.struct_size = sizeof host,
                                    .meta_set = dg_meta_set,
                                    .meta_add_user = dg_meta_add_user,
                                    .meta_add_extension = dg_meta_add_extension};

static int fixed_iv(void *bytes, size_t len, struct dg_error *err)
{
  (void)err;
  memset(bytes, 7, len);
  return 0;
}

struct tap {
  struct dg_reader reader;
  const uint8_t *at;
  size_t left, step;
};

static int tap_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                    struct dg_error *err)
{
  struct tap *tap = (struct tap *)reader;
  size_t len = MIN(MIN(capacity, tap->left), tap->step);

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
  GByteArray *bytes;
  size_t step;
};

static int fetch(void *receiver, struct dg_range stored, struct dg_reader **ret_reader,
                 struct dg_error *err)
{
  const struct body *body = receiver;
  struct tap *tap;

  if (stored.offset > body->bytes->len)
    return dg_fail(err, DG_E_INVALID_RANGE, "past the end");
  tap = g_new0(struct tap, 1);
  tap->reader.ops = &tap_ops;
  tap->at = body->bytes->data + stored.offset;
  tap->left = (size_t)MIN(stored.length, body->bytes->len - stored.offset);
  tap->step = body->step;
  *ret_reader = &tap->reader;
  return 0;
}

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
  (void)writer, (void)item, (void)meta, (void)ret_result, (void)err;
  return 0;
}

static void sink_abort(struct dg_writer *writer)
{
  (void)writer;
}

static const struct dg_writer_ops sink_ops = {
  .struct_size = sizeof sink_ops, .write = sink_write, .commit = sink_commit, .abort = sink_abort};

static void seal(const struct dg_crypt_ops *ops, void *aes, uint32_t variant, const uint8_t *data,
                 size_t len, struct dg_meta *marks, GByteArray *bytes)
{
  struct dg_seal_params params = {
    .struct_size = sizeof params, .variant = variant, .plain_size = len};
  struct dg_item item = {DG_SLICE("b"), DG_SLICE("k"), variant, 0};
  struct sink sink = {{&sink_ops}, bytes};
  struct dg_writer *writer;
  struct dg_error err;

  FUZZ_CHECK(ops->seal(aes, NULL, &params, &sink.writer, marks, &writer, &err) == 0);
  FUZZ_CHECK(writer->ops->write(writer, data, len, &err) == 0);
  FUZZ_CHECK(writer->ops->commit(writer, &item, marks, NULL, &err) == 0);
  FUZZ_CHECK(ops->sealed_size(aes, variant, len) == bytes->len);
}

/* Reads the range; what comes must be plain's, if there is a plain. *ret_whole:
 * all of it came. */
static void unseal(const struct dg_crypt_ops *ops, void *aes, struct body *body,
                   const struct dg_meta *meta, uint64_t from, uint64_t length,
                   const uint8_t *plain, size_t plain_len, int *ret_whole)
{
  struct dg_unseal_params params = {
    .struct_size = sizeof params, .meta = meta, .receiver = body, .fetch = fetch};
  struct dg_reader *reader;
  struct dg_error err = {0};
  uint8_t buffer[4099];
  uint64_t done = 0;
  size_t len;

  *ret_whole = 0;
  if (!ops->sealed(aes, meta, &params.plain_size) || params.plain_size == DG_TO_END)
    return;
  FUZZ_CHECK(params.plain_size <= body->bytes->len);
  params.plain.offset = MIN(from, params.plain_size);
  params.plain.length = MIN(length, params.plain_size - params.plain.offset);
  if (ops->unseal(aes, NULL, &params, &reader, &err) < 0) {
    FUZZ_CHECK(err.code == DG_E_CORRUPT || err.code == DG_E_INVALID_RANGE);
    return;
  }
  do {
    len = 0;
    if (reader->ops->read(reader, buffer, sizeof buffer, &len, &err) < 0) {
      FUZZ_CHECK(err.code == DG_E_CORRUPT);
      break;
    }
    FUZZ_CHECK(len <= params.plain.length - done);
    if (plain) {
      FUZZ_CHECK(params.plain.offset + done + len <= plain_len);
      FUZZ_CHECK(memcmp(buffer, plain + params.plain.offset + done, len) == 0);
    }
    done += len;
  } while (len);
  reader->ops->close(reader);
  *ret_whole = done == params.plain.length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const struct dg_crypt_ops *ops = dg_aes_plugin.ops;
  struct dg_config *config = dg_config_of(dg_aes_plugin.options, "default", "key", KEY,
                                          "seal_deltas", "compatible", NULL);
  struct body body = {.bytes = g_byte_array_new()};
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};
  void *aes = NULL;
  int whole;

  FUZZ_CHECK(ops->create(&host, config, &aes, &err) == 0);
  dg_config_free(config);
  ((struct dg_aes *)aes)->random = fixed_iv;
  if (size > 8) {
    uint32_t variant = data[0] & 1 ? DG_VARIANT_DELTA : DG_VARIANT_PASSTHROUGH;
    uint64_t from = (uint64_t)data[1] * 1021, length = data[2] ? (uint64_t)data[2] * 517 : DG_TO_END;

    body.step = data[3] ? (size_t)data[3] * 37 : 1u << 20;
    if (data[0] & 0x80) {
      size_t at;

      seal(ops, aes, variant, data + 8, size - 8, meta, body.bytes);
      at = ((size_t)data[4] << 8 | data[5]) * 31 % body.bytes->len;
      body.bytes->data[at] ^= data[6];
      if (data[7])
        g_byte_array_set_size(body.bytes, body.bytes->len - MIN(body.bytes->len, data[7]));
      meta->stored_size = body.bytes->len;
      unseal(ops, aes, &body, meta, 0, DG_TO_END, data + 8, size - 8, &whole);
      FUZZ_CHECK(whole == (data[6] == 0 && data[7] == 0));
      unseal(ops, aes, &body, meta, from, length, data + 8, size - 8, &whole);
    } else {
      g_byte_array_append(body.bytes, data + 4, (guint)(size - 4));
      (void)dg_meta_add_user(meta, DG_SLICE("dg-encrypted"),
                             data[0] & 1 ? DG_SLICE("aes-256-gcm-v1")
                                         : DG_SLICE("aes-256-gcm-chunked-v1"),
                             &err);
      if (data[0] & 2)
        (void)dg_meta_add_extension(meta, DG_SLICE("crypt-iv"),
                                    DG_SLICE("0102030405060708090a0b0c"), &err);
      meta->stored_size = body.bytes->len;
      unseal(ops, aes, &body, meta, 0, DG_TO_END, NULL, 0, &whole);
      unseal(ops, aes, &body, meta, from, length, NULL, 0, &whole);
    }
  }
  ops->destroy(aes);
  dg_meta_unref(meta);
  g_byte_array_unref(body.bytes);
  return 0;
}
