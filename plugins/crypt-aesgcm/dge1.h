/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked format, to the byte:
 *
 *   "DGE1" | base IV[12] | frame*       frame: u32 LE length | ciphertext | tag[16]
 *
 * Each frame holds 64 KiB of plaintext, the last one the rest; an empty body
 * has one frame without ciphertext. A frame's nonce is the base IV with its
 * number XORed (big endian) into the last four bytes. Its additional data bind
 * number and place: "DGE1", number as u32 LE, 1 for the last frame or 0, seven
 * zeros. All sizes follow from the body's length, so a frame is never looked
 * for: what is not where it must be does not verify. */
#ifndef DG_CRYPT_AESGCM_DGE1_H
#define DG_CRYPT_AESGCM_DGE1_H

#include <stdbool.h>
#include <stdint.h>

#include "plugins/crypt-aesgcm/aesgcm.h"

#define DG_DGE1_MAGIC "DGE1"
#define DG_DGE1_HEADER 16u
#define DG_DGE1_CHUNK 65536u
#define DG_DGE1_LENGTH 4u                                         /* the length field */
#define DG_DGE1_EXTRA (DG_DGE1_LENGTH + DG_AES_TAG)                /* per frame */
#define DG_DGE1_FRAME (DG_DGE1_CHUNK + DG_DGE1_EXTRA)
#define DG_DGE1_PLAIN_MAX ((UINT64_C(1) << 32) * DG_DGE1_CHUNK)    /* frame numbers have 32 bits */

/* Number of the last frame. */
static inline uint64_t dg_dge1_last(uint64_t plain_size)
{
  return plain_size ? (plain_size - 1) / DG_DGE1_CHUNK : 0;
}

uint64_t dg_dge1_sealed_size(uint64_t plain_size); /* DG_TO_END: too large */
uint64_t dg_dge1_plain_size(uint64_t sealed_size); /* DG_TO_END: no body has that length */
/* Where a plaintext range lies; from the header on if it begins in frame 0. */
struct dg_range dg_dge1_locate(struct dg_range plain);

/* One frame: [u32 length | ciphertext | tag] with len bytes of plaintext. ctx
 * holds the key and is used by one thread at a time. */
int dg_dge1_seal_frame(EVP_CIPHER_CTX *ctx, const uint8_t iv[12], uint64_t number, bool is_last,
                       const void *plain, size_t len, uint8_t *frame, struct dg_error *err);
/* DG_E_CORRUPT if it does not verify; then plain holds zeros. len bytes of
 * plaintext are expected. */
int dg_dge1_open_frame(EVP_CIPHER_CTX *ctx, const uint8_t iv[12], uint64_t number, bool is_last,
                       const uint8_t *frame, void *plain, size_t len, struct dg_error *err);

#endif
