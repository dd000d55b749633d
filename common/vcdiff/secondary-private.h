/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stateful decoders behind secondary.h, one object per section kind. Each
 * decodes the coded bytes of a section, without the size in front of it, into
 * exactly plain_len bytes, or fails with DG_E_CORRUPT.
 */
#ifndef DG_COMMON_VCDIFF_SECONDARY_PRIVATE_H
#define DG_COMMON_VCDIFF_SECONDARY_PRIVATE_H

#include <stddef.h>
#include <stdint.h>

struct dg_error;

struct dg_fgk;
struct dg_fgk *dg_fgk_new(void);
void dg_fgk_free(struct dg_fgk *fgk);
int dg_fgk_decode(struct dg_fgk *fgk, const uint8_t *coded, size_t coded_len, uint8_t *plain,
                  size_t plain_len, struct dg_error *err);

struct dg_lzma_decoder;
struct dg_lzma_decoder *dg_lzma_decoder_new(void);
void dg_lzma_decoder_free(struct dg_lzma_decoder *decoder);
int dg_lzma_decode(struct dg_lzma_decoder *decoder, const uint8_t *coded, size_t coded_len,
                   uint8_t *plain, size_t plain_len, struct dg_error *err);

#endif
