/* SPDX-License-Identifier: Apache-2.0 */
/* The codec: a window is one copy if the reference holds the same bytes at the
 * same place, else a literal. Header: "DBL1", window count, then per window the
 * length of its code and its SHA-256. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "common/checksum.h"
#include "engine-double-private.h"

#define ROW_BYTES 36u

struct double_codec_switches double_codec;

struct dg_codec_ref {
  char *data;
  size_t size;
};

struct window {
  GByteArray *code;
  uint8_t sha256[32];
};

struct dg_encoder {
  const struct dg_codec_ref *ref;
  bool identity;
  uint64_t target_size;
  GMutex mutex;
  GHashTable *windows; /* number -> GByteArray */
  GByteArray *header;
  GArray *rows; /* of uint8_t[ROW_BYTES] */
  uint64_t windows_size;
};

struct dg_decoder {
  const struct dg_codec_ref *ref;
  struct dg_decode_params params;
  uint32_t count;
  uint8_t *rows;
};

static int codec_create(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                        struct dg_error *err)
{
  (void)host;
  (void)config;
  (void)err;
  *ret_self = &double_codec;
  return 0;
}

static void codec_destroy(void *self)
{
  (void)self;
}

static int ref_open(void *self, const struct dg_call *call, const struct dg_codec_ref_params *params,
                    struct dg_codec_ref **ret_ref, struct dg_error *err)
{
  struct dg_codec_ref *ref = g_new0(struct dg_codec_ref, 1);

  (void)self;
  (void)call;
  ref->size = (size_t)params->size_bytes;
  ref->data = g_malloc(ref->size + 1);
  if (pread(params->fd, ref->data, ref->size, (off_t)params->offset) != (ssize_t)ref->size) {
    g_free(ref->data);
    g_free(ref);
    return dg_fail(err, DG_E_IO, "short reference");
  }
  *ret_ref = ref;
  return 0;
}

static uint64_t ref_bytes(const struct dg_codec_ref *ref)
{
  return ref->size;
}

static void ref_close(struct dg_codec_ref *ref)
{
  g_free(ref->data);
  g_free(ref);
}

static int encode_open(void *self, const struct dg_call *call, const struct dg_codec_ref *ref,
                       const struct dg_encode_params *params, struct dg_encoder **ret_encoder,
                       struct dg_error *err)
{
  struct dg_encoder *encoder = g_new0(struct dg_encoder, 1);

  (void)self;
  (void)call;
  (void)err;
  encoder->ref = ref;
  encoder->identity = params->flags & DG_ENCODE_IDENTITY;
  encoder->target_size = params->target_size;
  g_mutex_init(&encoder->mutex);
  encoder->windows = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                           (GDestroyNotify)g_byte_array_unref);
  encoder->rows = g_array_new(FALSE, TRUE, ROW_BYTES);
  *ret_encoder = encoder;
  return 0;
}

static uint64_t encode_window_size(const struct dg_encoder *encoder)
{
  (void)encoder;
  return DOUBLE_WINDOW;
}

static int encode_window(struct dg_encoder *encoder, uint64_t number, const void *target,
                         size_t len, const void **ret_data, size_t *ret_len, struct dg_error *err)
{
  GByteArray *code = g_byte_array_new();
  size_t at = (size_t)number * DOUBLE_WINDOW;
  uint8_t row[ROW_BYTES];
  uint32_t code_len;

  if (double_codec.fail_window) {
    g_byte_array_unref(code);
    return dg_fail(err, double_codec.fail_window, "fails as asked");
  }
  if (encoder->identity || (encoder->ref && at + len <= encoder->ref->size &&
                            memcmp(encoder->ref->data + at, target, len) == 0)) {
    g_byte_array_append(code, (const guint8 *)"C", 1);
  } else {
    g_byte_array_append(code, (const guint8 *)"L", 1);
    g_byte_array_append(code, target, (guint)len);
  }
  code_len = code->len;
  memcpy(row, &code_len, 4);
  dg_sha256(target, len, row + 4);
  g_mutex_lock(&encoder->mutex);
  if (encoder->rows->len <= number)
    g_array_set_size(encoder->rows, (guint)number + 1);
  memcpy(encoder->rows->data + number * ROW_BYTES, row, ROW_BYTES);
  encoder->windows_size += code_len;
  g_hash_table_insert(encoder->windows, g_memdup2(&number, sizeof number), code);
  g_mutex_unlock(&encoder->mutex);
  *ret_data = code->data;
  *ret_len = code->len;
  return 0;
}

static void encode_release(struct dg_encoder *encoder, uint64_t number)
{
  g_mutex_lock(&encoder->mutex);
  g_hash_table_remove(encoder->windows, &number);
  g_mutex_unlock(&encoder->mutex);
}

static int encode_finish(struct dg_encoder *encoder, const uint8_t target_sha256[32],
                         struct dg_encode_summary *ret_summary, const void **ret_header,
                         struct dg_error *err)
{
  uint32_t count = encoder->rows->len;

  (void)target_sha256;
  (void)err;
  encoder->header = g_byte_array_new();
  g_byte_array_append(encoder->header, (const guint8 *)"DBL1", 4);
  g_byte_array_append(encoder->header, (const guint8 *)&count, 4);
  g_byte_array_append(encoder->header, (const guint8 *)encoder->rows->data, count * ROW_BYTES);
  ret_summary->window_count = count;
  ret_summary->header_size = encoder->header->len;
  ret_summary->windows_size = encoder->windows_size;
  *ret_header = encoder->header->data;
  return 0;
}

static void encode_close(struct dg_encoder *encoder)
{
  g_hash_table_unref(encoder->windows);
  g_array_unref(encoder->rows);
  if (encoder->header)
    g_byte_array_unref(encoder->header);
  g_mutex_clear(&encoder->mutex);
  g_free(encoder);
}

static int decode_open(void *self, const struct dg_call *call, const struct dg_codec_ref *ref,
                       const struct dg_decode_params *params, struct dg_decode_info *ret_info,
                       struct dg_decoder **ret_decoder, struct dg_error *err)
{
  struct dg_decoder *decoder;
  uint8_t start[8], digest[32];
  g_autofree uint8_t *header = NULL;
  uint32_t count;

  (void)self;
  (void)call;
  if (params->delta->read_at(params->delta->self, 0, start, 8, err) < 0)
    return -1;
  memcpy(&count, start + 4, 4);
  if (memcmp(start, "DBL1", 4) != 0 ||
      count != (params->target_size + DOUBLE_WINDOW - 1) / DOUBLE_WINDOW)
    return dg_fail(err, DG_E_CORRUPT, "not a delta of this object");
  header = g_malloc(8 + (size_t)count * ROW_BYTES);
  if (params->delta->read_at(params->delta->self, 0, header, 8 + (size_t)count * ROW_BYTES, err) < 0)
    return -1;
  dg_sha256(header, 8 + (size_t)count * ROW_BYTES, digest);
  ret_info->verified =
    !double_codec.unverified && memcmp(digest, params->header_sha256, sizeof digest) == 0;
  ret_info->seekable = 1;
  ret_info->window_count = count;
  decoder = g_new0(struct dg_decoder, 1);
  decoder->ref = ref;
  decoder->params = *params;
  decoder->count = count;
  decoder->rows = g_memdup2(header + 8, (size_t)count * ROW_BYTES);
  *ret_decoder = decoder;
  return 0;
}

struct plain_reader {
  struct dg_reader reader;
  struct dg_decoder *decoder;
  uint64_t at, end;
  bool verify;
};

static int plain_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                      struct dg_error *err)
{
  struct plain_reader *self = (struct plain_reader *)reader;
  const struct dg_decoder *decoder = self->decoder;
  uint64_t number = self->at / DOUBLE_WINDOW, start = number * DOUBLE_WINDOW;
  uint64_t code_at = 8 + (uint64_t)decoder->count * ROW_BYTES;
  size_t window_len =
    (size_t)MIN(DOUBLE_WINDOW, decoder->params.target_size - MIN(start, decoder->params.target_size));
  uint8_t window[DOUBLE_WINDOW], kind, digest[32];
  size_t len;

  if (self->at >= self->end) {
    *ret_len = 0;
    return 0;
  }
  for (uint64_t i = 0; i < number; i++) {
    uint32_t code_len;

    memcpy(&code_len, decoder->rows + i * ROW_BYTES, 4);
    code_at += code_len;
  }
  if (decoder->params.delta->read_at(decoder->params.delta->self, code_at, &kind, 1, err) < 0)
    return -1;
  if (kind == 'C') {
    if (start + window_len > decoder->ref->size)
      return dg_fail(err, DG_E_CORRUPT, "copy past the reference");
    memcpy(window, decoder->ref->data + start, window_len);
  } else if (decoder->params.delta->read_at(decoder->params.delta->self, code_at + 1, window,
                                            window_len, err) < 0) {
    return -1;
  }
  dg_sha256(window, window_len, digest);
  if (!double_codec.unverified &&
      memcmp(digest, decoder->rows + number * ROW_BYTES + 4, sizeof digest) != 0)
    return dg_fail(err, DG_E_CORRUPT, "window %u is damaged", (unsigned)number);
  len = (size_t)MIN(MIN(capacity, self->end - self->at), start + window_len - self->at);
  memcpy(buffer, window + (self->at - start), len);
  self->at += len;
  *ret_len = len;
  return 0;
}

static void plain_close(struct dg_reader *reader)
{
  g_free(reader);
}

static const struct dg_reader_ops plain_ops = {
  .struct_size = sizeof plain_ops, .read = plain_read, .close = plain_close};

static int decode_range(struct dg_decoder *decoder, struct dg_range range,
                        struct dg_reader **ret_reader, struct dg_error *err)
{
  struct plain_reader *self = g_new0(struct plain_reader, 1);

  (void)err;
  self->reader.ops = &plain_ops;
  self->decoder = decoder;
  self->at = range.offset;
  self->end = range.length == DG_TO_END ? decoder->params.target_size : range.offset + range.length;
  *ret_reader = &self->reader;
  return 0;
}

static void decode_close(struct dg_decoder *decoder)
{
  g_free(decoder->rows);
  g_free(decoder);
}

const struct dg_codec_ops double_codec_ops = {
  .struct_size = sizeof double_codec_ops,
  .caps = DG_CAP_PARALLEL_WINDOWS | DG_CAP_VERIFIED_WINDOWS,
  .create = codec_create,
  .destroy = codec_destroy,
  .ref_open = ref_open,
  .ref_bytes = ref_bytes,
  .ref_close = ref_close,
  .encode_open = encode_open,
  .encode_window_size = encode_window_size,
  .encode_window = encode_window,
  .encode_release = encode_release,
  .encode_finish = encode_finish,
  .encode_close = encode_close,
  .decode_open = decode_open,
  .decode_range = decode_range,
  .decode_close = decode_close,
};
