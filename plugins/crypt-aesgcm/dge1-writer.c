/* SPDX-License-Identifier: Apache-2.0 */
/* Plaintext in, frames out. The last frame is sealed as the last one, so when
 * the size is not known a full chunk waits until more comes, or nothing does. */
#include "config.h"

#include <openssl/crypto.h>

#include "common/hex.h"
#include "common/slice.h"
#include "plugins/crypt-aesgcm/dge1.h"
#include "plugins/crypt-aesgcm/sealer.h"

#include "common/banned.h"

#define FRAMES_AT_ONCE 4u

struct dge1_writer {
  struct dg_sealer sealer; /* first */
  uint8_t iv[DG_AES_IV];
  uint64_t number; /* of the next frame */
  bool finished;   /* the last frame is sealed */
  uint8_t *chunk;  /* plaintext that waits */
  size_t chunk_len;
  uint8_t *out;    /* sealed, on its way to inner */
  size_t out_len, out_capacity;
};

static int flush(struct dge1_writer *self, struct dg_error *err)
{
  size_t len = self->out_len;

  self->out_len = 0;
  return len ? dg_sealer_push(&self->sealer, self->out, len, err) : 0;
}

static int seal_chunk(struct dge1_writer *self, const uint8_t *plain, size_t len, bool is_last,
                      struct dg_error *err)
{
  if (self->out_len + len + DG_DGE1_EXTRA > self->out_capacity && flush(self, err) < 0)
    return -1;
  if (self->number > UINT32_MAX)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "a sealed body has at most 2^32 chunks");
  if (dg_dge1_seal_frame(self->sealer.ctx, self->iv, self->number, is_last, plain, len,
                         self->out + self->out_len, err) < 0)
    return -1;
  self->out_len += len + DG_DGE1_EXTRA;
  self->number++;
  self->finished = is_last;
  return 0;
}

/* The next chunk lies whole in plain and `more` bytes follow it there. */
static bool can_seal(const struct dge1_writer *self, size_t more)
{
  return more > 0 || self->sealer.plain_size != DG_TO_END;
}

static bool is_last(const struct dge1_writer *self)
{
  return self->sealer.plain_size != DG_TO_END && self->number == dg_dge1_last(self->sealer.plain_size);
}

static int take(struct dg_sealer *sealer, const uint8_t *data, size_t len, struct dg_error *err)
{
  struct dge1_writer *self = (struct dge1_writer *)sealer;

  while (len) {
    size_t room = DG_DGE1_CHUNK - self->chunk_len, part = MIN(len, room);

    if (room == 0) {
      if (seal_chunk(self, self->chunk, DG_DGE1_CHUNK, is_last(self), err) < 0)
        return -1;
      self->chunk_len = 0;
    } else if (self->chunk_len == 0 && len >= DG_DGE1_CHUNK && can_seal(self, len - part)) {
      if (seal_chunk(self, data, DG_DGE1_CHUNK, is_last(self), err) < 0)
        return -1;
      data += part;
      len -= part;
    } else {
      if (!self->chunk)
        self->chunk = g_malloc(DG_DGE1_CHUNK);
      memcpy(self->chunk + self->chunk_len, data, part);
      self->chunk_len += part;
      data += part;
      len -= part;
    }
  }
  return 0;
}

static int finish(struct dg_sealer *sealer, struct dg_error *err)
{
  struct dge1_writer *self = (struct dge1_writer *)sealer;

  if (!self->finished && seal_chunk(self, self->chunk, self->chunk_len, /* is_last= */ true, err) < 0)
    return -1;
  return flush(self, err);
}

static void release(struct dg_sealer *sealer)
{
  struct dge1_writer *self = (struct dge1_writer *)sealer;

  if (self->chunk)
    OPENSSL_cleanse(self->chunk, DG_DGE1_CHUNK);
  g_free(self->chunk);
  g_free(self->out);
  g_free(self);
}

static const struct dg_sealer_format format = {
  .max_size = DG_DGE1_PLAIN_MAX,
  .take = take,
  .finish = finish,
  .release = release,
};

int dg_dge1_seal(struct dg_aes *aes, const struct dg_seal_params *params, struct dg_writer *inner,
                 struct dg_meta *marks, struct dg_writer **ret_writer, struct dg_error *err)
{
  size_t capacity = DG_DGE1_HEADER + FRAMES_AT_ONCE * DG_DGE1_FRAME;
  uint64_t size = params->plain_size == DG_TO_END ? 0 : dg_dge1_sealed_size(params->plain_size);
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  char hex[2 * DG_AES_IV + 1];
  struct dge1_writer *self;
  uint8_t iv[DG_AES_IV];

  if (!ctx || EVP_CIPHER_CTX_copy(ctx, aes->keys.primary.ctx) != 1) {
    EVP_CIPHER_CTX_free(ctx);
    return dg_aes_fail(err, "AES-256-GCM");
  }
  if (aes->random(iv, sizeof iv, err) < 0)
    goto fail;
  dg_hex_encode(iv, sizeof iv, hex);
  if (aes->host->meta_add_extension(marks, DG_SLICE(DG_AES_IV_MARK), dg_slice_str(hex), err) < 0)
    goto fail;
  self = g_new0(struct dge1_writer, 1);
  dg_sealer_init(&self->sealer, &format, inner, ctx, params->plain_size);
  memcpy(self->iv, iv, sizeof iv);
  self->out_capacity = size ? (size_t)MIN(size, capacity) : capacity;
  self->out = g_malloc(self->out_capacity);
  memcpy(self->out, DG_DGE1_MAGIC, 4);
  memcpy(self->out + 4, iv, sizeof iv);
  self->out_len = DG_DGE1_HEADER;
  *ret_writer = &self->sealer.writer;
  return 0;

fail:
  EVP_CIPHER_CTX_free(ctx);
  return -1;
}
