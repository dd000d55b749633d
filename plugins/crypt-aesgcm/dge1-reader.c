/* SPDX-License-Identifier: Apache-2.0 */
/* Frames in, plaintext out. The first frame is opened at once, so that a wrong
 * key or a damaged head is an error before anything is answered. */
#include "config.h"

#include <openssl/crypto.h>

#include "common/hex.h"
#include "common/meta.h"
#include "plugins/crypt-aesgcm/dge1.h"

#include "common/banned.h"

#define FRAMES_AT_ONCE 4u

struct dge1_reader {
  struct dg_reader reader; /* first: the public face */
  struct dg_reader *inner;
  EVP_CIPHER_CTX *ctx;
  uint8_t iv[DG_AES_IV];
  uint64_t plain_size;
  uint64_t number, end;      /* next frame; one past the last that is wanted */
  uint64_t skip, left;       /* plaintext: to drop from the next frame, to deliver after that */
  bool to_end;               /* nothing may follow the last frame */
  uint8_t *frames;           /* sealed bytes, read ahead */
  size_t frames_at, frames_len, frames_capacity;
  uint8_t *plain;            /* an opened chunk that is not yet delivered */
  size_t plain_at, plain_len;
};

static size_t plain_len_of(const struct dge1_reader *self, uint64_t number)
{
  return (size_t)MIN(self->plain_size - MIN(number * DG_DGE1_CHUNK, self->plain_size),
                     DG_DGE1_CHUNK);
}

static uint64_t sealed_left(const struct dge1_reader *self)
{
  size_t last = plain_len_of(self, self->end - 1);

  return (self->end - 1 - self->number) * DG_DGE1_FRAME + last + DG_DGE1_EXTRA;
}

/* Makes the next frame lie whole at frames + frames_at. */
static int fill(struct dge1_reader *self, size_t need, struct dg_error *err)
{
  size_t have = self->frames_len - self->frames_at, want;

  if (have >= need)
    return 0;
  if (have)
    memmove(self->frames, self->frames + self->frames_at, have);
  self->frames_at = 0;
  self->frames_len = have;
  want = (size_t)MIN(sealed_left(self), self->frames_capacity);
  while (self->frames_len < want) {
    size_t got = 0;

    if (self->inner->ops->read(self->inner, self->frames + self->frames_len,
                               want - self->frames_len, &got, err) < 0)
      return -1;
    if (got == 0)
      return dg_fail(err, DG_E_CORRUPT, "the sealed body ends inside chunk %" G_GUINT64_FORMAT,
                     self->number);
    self->frames_len += got;
  }
  return 0;
}

/* Opens the next frame into buffer, which holds its plain_len_of(). */
static int open_next(struct dge1_reader *self, void *buffer, struct dg_error *err)
{
  size_t len = plain_len_of(self, self->number);

  if (fill(self, len + DG_DGE1_EXTRA, err) < 0 ||
      dg_dge1_open_frame(self->ctx, self->iv, self->number,
                         self->number == dg_dge1_last(self->plain_size),
                         self->frames + self->frames_at, buffer, len, err) < 0)
    return -1;
  self->frames_at += len + DG_DGE1_EXTRA;
  self->number++;
  return self->number == self->end && self->to_end ? dg_aes_read_end(self->inner, err) : 0;
}

/* The next frame, into the buffer of our own. */
static int open_own(struct dge1_reader *self, struct dg_error *err)
{
  size_t len = plain_len_of(self, self->number);

  if (open_next(self, self->plain, err) < 0)
    return -1;
  self->plain_at = (size_t)MIN(self->skip, len);
  self->plain_len = (size_t)MIN(len, self->plain_at + self->left);
  self->skip = 0;
  return 0;
}

static int reader_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct dge1_reader *self = (struct dge1_reader *)reader;
  uint8_t *out = buffer;
  size_t done = 0;

  while (done < capacity && self->left) {
    size_t part = self->plain_len - self->plain_at;

    if (part) {
      part = MIN(part, capacity - done);
      memcpy(out + done, self->plain + self->plain_at, part);
      self->plain_at += part;
    } else {
      part = plain_len_of(self, self->number);
      if (part > capacity - done || part > self->left) {
        if (done)
          break; /* what there is goes first */
        if (open_own(self, err) < 0)
          return -1;
        continue;
      }
      if (open_next(self, out + done, err) < 0) {
        OPENSSL_cleanse(buffer, done + part);
        return -1;
      }
    }
    done += part;
    self->left -= part;
  }
  *ret_len = done;
  return 0;
}

static void reader_close(struct dg_reader *reader)
{
  struct dge1_reader *self = (struct dge1_reader *)reader;

  if (!self)
    return;
  if (self->inner)
    self->inner->ops->close(self->inner);
  EVP_CIPHER_CTX_free(self->ctx);
  if (self->plain)
    OPENSSL_cleanse(self->plain, DG_DGE1_CHUNK);
  g_free(self->plain);
  g_free(self->frames);
  g_free(self);
}

static const struct dg_reader_ops reader_ops = {
  .struct_size = sizeof reader_ops,
  .read = reader_read,
  .close = reader_close,
};

static int read_header(struct dg_reader *inner, uint8_t iv[DG_AES_IV], struct dg_error *err)
{
  uint8_t header[DG_DGE1_HEADER];

  if (dg_aes_read_exact(inner, header, sizeof header, err) < 0)
    return -1;
  if (memcmp(header, DG_DGE1_MAGIC, 4) != 0)
    return dg_fail(err, DG_E_CORRUPT, "the sealed body does not begin with " DG_DGE1_MAGIC);
  memcpy(iv, header + 4, DG_AES_IV);
  return 0;
}

static int fetch_header(const struct dg_unseal_params *params, uint8_t iv[DG_AES_IV],
                        struct dg_error *err)
{
  struct dg_reader *inner = NULL;
  int rc;

  if (params->fetch(params->receiver, (struct dg_range){0, DG_DGE1_HEADER}, &inner, err) < 0)
    return -1;
  rc = read_header(inner, iv, err);
  inner->ops->close(inner);
  return rc;
}

/* The IV comes from the header when the range begins there, else from the mark,
 * else it costs a request. A mark that other tools carried over from an older
 * body is no damage: the header has the last word. */
static int open_first(struct dge1_reader *self, const struct dg_unseal_params *params,
                      bool has_header, struct dg_error *err)
{
  struct dg_slice mark = dg_meta_extension(params->meta, DG_AES_IV_MARK);
  uint8_t iv[DG_AES_IV];
  struct dg_error cause;

  if (has_header)
    return read_header(self->inner, self->iv, err) < 0 ? -1 : open_own(self, err);
  if (!dg_hex_decode(mark, self->iv, sizeof self->iv))
    return fetch_header(params, self->iv, err) < 0 ? -1 : open_own(self, err);
  if (open_own(self, err) == 0)
    return 0;
  if (err->code != DG_E_CORRUPT || self->frames_len == 0 ||
      fetch_header(params, iv, &cause) < 0 || memcmp(iv, self->iv, sizeof iv) == 0)
    return -1;
  memcpy(self->iv, iv, sizeof iv);
  return open_own(self, err);
}

int dg_dge1_unseal(struct dg_aes *aes, const EVP_CIPHER_CTX *key,
                   const struct dg_unseal_params *params, struct dg_reader **ret_reader,
                   struct dg_error *err)
{
  struct dg_range stored = dg_dge1_locate(params->plain);
  uint64_t last = dg_dge1_last(params->plain_size), end = params->plain.offset + params->plain.length;
  struct dge1_reader *self = g_new0(struct dge1_reader, 1);

  (void)aes;
  self->reader.ops = &reader_ops;
  self->plain_size = params->plain_size;
  self->number = MIN(params->plain.offset / DG_DGE1_CHUNK, last);
  self->end = params->plain.length ? dg_dge1_last(end) + 1 : self->number + 1;
  self->skip = params->plain.offset - self->number * DG_DGE1_CHUNK;
  self->left = params->plain.length;
  self->to_end = self->end == last + 1;
  if (self->number != params->plain.offset / DG_DGE1_CHUNK)
    stored = dg_dge1_locate((struct dg_range){self->number * DG_DGE1_CHUNK, 1}); /* the very end */
  if (self->to_end)
    stored.length = DG_TO_END; /* so that what follows it shows */
  self->frames_capacity = (size_t)MIN(sealed_left(self), FRAMES_AT_ONCE * DG_DGE1_FRAME);
  self->frames = g_malloc(self->frames_capacity);
  self->plain = g_malloc(DG_DGE1_CHUNK);
  self->ctx = EVP_CIPHER_CTX_new();
  if (!self->ctx || EVP_CIPHER_CTX_copy(self->ctx, key) != 1) {
    (void)dg_aes_fail(err, "AES-256-GCM");
  } else if (params->fetch(params->receiver, stored, &self->inner, err) < 0) {
    self->inner = NULL;
  } else if (open_first(self, params, stored.offset == 0, err) == 0) {
    *ret_reader = &self->reader;
    return 0;
  }
  reader_close(&self->reader);
  return -1;
}
