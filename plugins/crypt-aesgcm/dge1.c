/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/crypt-aesgcm/dge1.h"

#include <openssl/crypto.h>

#include "common/banned.h"

uint64_t dg_dge1_sealed_size(uint64_t plain_size)
{
  if (plain_size > DG_DGE1_PLAIN_MAX)
    return DG_TO_END;
  return DG_DGE1_HEADER + plain_size + (dg_dge1_last(plain_size) + 1) * DG_DGE1_EXTRA;
}

uint64_t dg_dge1_plain_size(uint64_t sealed_size)
{
  uint64_t frames, rest, plain;

  if (sealed_size < DG_DGE1_HEADER + DG_DGE1_EXTRA)
    return DG_TO_END;
  frames = (sealed_size - DG_DGE1_HEADER) / DG_DGE1_FRAME;
  rest = (sealed_size - DG_DGE1_HEADER) % DG_DGE1_FRAME;
  if (rest == 0)
    plain = frames * DG_DGE1_CHUNK;
  else if (rest > DG_DGE1_EXTRA || (rest == DG_DGE1_EXTRA && frames == 0))
    plain = frames * DG_DGE1_CHUNK + (rest - DG_DGE1_EXTRA);
  else
    return DG_TO_END;
  return plain <= DG_DGE1_PLAIN_MAX ? plain : DG_TO_END;
}

struct dg_range dg_dge1_locate(struct dg_range plain)
{
  uint64_t first = plain.offset / DG_DGE1_CHUNK, end, frames;
  struct dg_range stored = {first ? DG_DGE1_HEADER + first * DG_DGE1_FRAME : 0, DG_TO_END};

  if (plain.offset > DG_DGE1_PLAIN_MAX)
    return (struct dg_range){UINT64_MAX / 2, 0}; /* past every end */
  if (plain.length == DG_TO_END || __builtin_add_overflow(plain.offset, plain.length, &end) ||
      end > DG_DGE1_PLAIN_MAX)
    return stored;
  frames = plain.length ? (end - 1) / DG_DGE1_CHUNK - first + 1 : 1;
  stored.length = frames * DG_DGE1_FRAME + (first ? 0 : DG_DGE1_HEADER);
  return stored;
}

static void make_nonce(const uint8_t iv[12], uint32_t number, uint8_t nonce[12])
{
  memcpy(nonce, iv, 12);
  for (int i = 0; i < 4; i++)
    nonce[8 + i] ^= (uint8_t)(number >> (24 - 8 * i));
}

static void put_le32(uint8_t *out, uint32_t value)
{
  for (int i = 0; i < 4; i++)
    out[i] = (uint8_t)(value >> (8 * i));
}

static void make_aad(uint32_t number, bool is_last, uint8_t aad[16])
{
  memset(aad, 0, 16);
  memcpy(aad, DG_DGE1_MAGIC, 4);
  put_le32(aad + 4, number);
  aad[8] = is_last;
}

int dg_dge1_seal_frame(EVP_CIPHER_CTX *ctx, const uint8_t iv[12], uint64_t number, bool is_last,
                       const void *plain, size_t len, uint8_t *frame, struct dg_error *err)
{
  uint8_t nonce[12], aad[16];
  int done = 0;

  make_nonce(iv, (uint32_t)number, nonce);
  make_aad((uint32_t)number, is_last, aad);
  put_le32(frame, (uint32_t)(len + DG_AES_TAG));
  if (EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) != 1 ||
      EVP_EncryptUpdate(ctx, NULL, &done, aad, sizeof aad) != 1 ||
      (len && EVP_EncryptUpdate(ctx, frame + DG_DGE1_LENGTH, &done, plain, (int)len) != 1) ||
      EVP_EncryptFinal_ex(ctx, frame + DG_DGE1_LENGTH + len, &done) != 1 ||
      EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, DG_AES_TAG, frame + DG_DGE1_LENGTH + len) !=
        1)
    return dg_aes_fail(err, "AES-256-GCM encryption");
  return 0;
}

static int fail_frame(uint64_t number, void *plain, size_t len, struct dg_error *err)
{
  if (len)
    OPENSSL_cleanse(plain, len);
  return dg_fail(err, DG_E_CORRUPT,
                 "chunk %" G_GUINT64_FORMAT
                 " decryption failed (wrong key, tampered, or reordered)",
                 number);
}

int dg_dge1_open_frame(EVP_CIPHER_CTX *ctx, const uint8_t iv[12], uint64_t number, bool is_last,
                       const uint8_t *frame, void *plain, size_t len, struct dg_error *err)
{
  uint8_t nonce[12], aad[16], length[DG_DGE1_LENGTH], tag[DG_AES_TAG], none;
  int done = 0;

  put_le32(length, (uint32_t)(len + DG_AES_TAG));
  if (memcmp(frame, length, sizeof length) != 0)
    return fail_frame(number, plain, 0, err);
  make_nonce(iv, (uint32_t)number, nonce);
  make_aad((uint32_t)number, is_last, aad);
  memcpy(tag, frame + DG_DGE1_LENGTH + len, sizeof tag);
  if (EVP_DecryptInit_ex2(ctx, NULL, NULL, nonce, NULL) != 1 ||
      EVP_DecryptUpdate(ctx, NULL, &done, aad, sizeof aad) != 1 ||
      (len && EVP_DecryptUpdate(ctx, plain, &done, frame + DG_DGE1_LENGTH, (int)len) != 1) ||
      EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, DG_AES_TAG, tag) != 1 ||
      EVP_DecryptFinal_ex(ctx, &none, &done) != 1)
    return fail_frame(number, plain, len, err);
  return 0;
}
