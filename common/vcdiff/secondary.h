/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secondary compression: what may be applied to the three sections of a
 * window once the delta itself is done. RFC 3284 leaves the methods open;
 * these are the ones of xdelta3.
 *
 * A compressed section is the integer size of its plain form, then the coded
 * bytes. Encoders here write both; decoders take the whole section.
 */
#ifndef DG_COMMON_VCDIFF_SECONDARY_H
#define DG_COMMON_VCDIFF_SECONDARY_H

#include <stddef.h>
#include <stdint.h>

struct dg_error;

/* Ids, as they stand in the file header. */
#define DG_SECONDARY_NONE 0u
#define DG_SECONDARY_DJW  1u  /* static Huffman, each section alone */
#define DG_SECONDARY_LZMA 2u  /* one xz stream per section kind through all windows */
#define DG_SECONDARY_FGK  16u /* adaptive Huffman, one tree per section kind through all windows */

#define DG_SECTION_DATA   0u
#define DG_SECTION_INST   1u
#define DG_SECTION_ADDR   2u
#define DG_SECTIONS       3u

/* ---- Decoding ------------------------------------------------------------- */

/* The state of one delta: nothing for DJW, whose sections stand alone; for LZMA
 * and FGK one decoder per section kind, and windows must come in order. One
 * thread at a time. */
struct dg_secondary_decoder;

/* Fails with DG_E_CORRUPT for an id that is none of the above. */
int dg_secondary_decoder_new(uint32_t id, struct dg_secondary_decoder **ret_decoder,
                             struct dg_error *err);
void dg_secondary_decoder_free(struct dg_secondary_decoder *decoder); /* NULL is fine */

/* Non-zero: any window decodes without those before it. */
int dg_secondary_decoder_is_stateless(const struct dg_secondary_decoder *decoder);

/* Tells the plain size of a compressed section: reads its first integer.
 * Fails with DG_E_CORRUPT when cut off, DG_E_LIMIT when above limit. */
int dg_secondary_plain_size(const uint8_t *section, size_t section_len, size_t limit,
                            size_t *ret_size, struct dg_error *err);

/* One compressed section, and room for the plain_len bytes that
 * dg_secondary_plain_size() told. */
struct dg_secondary_piece {
  unsigned kind; /* DG_SECTION_* */
  const uint8_t *section;
  size_t section_len;
  uint8_t *plain;
  size_t plain_len;
};

#define DG_SECONDARY_PIECES (2 * DG_SECTIONS)

/* Decodes up to DG_SECONDARY_PIECES sections of one or more windows, in the
 * order of the delta; several at once are faster than one by one. Reads nothing
 * outside the sections and writes nothing outside the plain buffers, whatever
 * the input. DG_E_CORRUPT. */
int dg_secondary_decode(struct dg_secondary_decoder *decoder,
                        const struct dg_secondary_piece *pieces, unsigned count,
                        struct dg_error *err);

/* ---- Encoding: DJW, each section alone, any thread ------------------------ */

/* Roughly how many bytes dg_djw_encode() would save (0: do not bother). Looks
 * at a sample, so it costs little whatever len is. */
size_t dg_djw_estimate_saving(const uint8_t *plain, size_t len);

/* Encodes a section. out has room for len bytes. Returns the size of the whole
 * section, or 0 when it would not be smaller than the plain one: then write
 * the section as it is and leave its DG_VCD_SEC_* bit clear. */
size_t dg_djw_encode(const uint8_t *plain, size_t len, uint8_t *out);

/* ---- Encoding: LZMA, windows in order -------------------------------------- */

/* Three xz streams that run through all windows of one delta. */
struct dg_lzma_encoder;

/* preset 0..9 as in xz(1). */
int dg_lzma_encoder_new(uint32_t preset, struct dg_lzma_encoder **ret_encoder,
                        struct dg_error *err);
void dg_lzma_encoder_free(struct dg_lzma_encoder *encoder); /* NULL is fine */

/* Room that dg_lzma_encode() may need for a section of len bytes. */
size_t dg_lzma_bound(size_t len);

/* Encodes one section, flushed so that this window decodes now. Call it for
 * the sections of each window in the order of the file. *ret_len == 0: the
 * section is better left as it is, and the stream did not see it. */
int dg_lzma_encode(struct dg_lzma_encoder *encoder, unsigned kind, const uint8_t *plain, size_t len,
                   uint8_t *out, size_t out_capacity, size_t *ret_len, struct dg_error *err);

#endif
