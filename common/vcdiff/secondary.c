/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/secondary.h"

#include "common/vcdiff/djw.h"
#include "common/vcdiff/secondary-private.h"
#include "common/vcdiff/varint.h"

#include <deltaglider/plugin.h>
#include <glib.h>

#include "common/banned.h"

/* Decoders are made when a section of their kind first turns up: most deltas
 * that name a method never use it for all three. */
struct dg_secondary_decoder {
  uint32_t id;
  struct dg_fgk *fgk[DG_SECTIONS];
  struct dg_lzma_decoder *lzma[DG_SECTIONS];
};

int dg_secondary_decoder_new(uint32_t id, struct dg_secondary_decoder **ret_decoder,
                             struct dg_error *err)
{
  struct dg_secondary_decoder *decoder;

  if (id != DG_SECONDARY_NONE && id != DG_SECONDARY_DJW && id != DG_SECONDARY_LZMA &&
      id != DG_SECONDARY_FGK)
    return dg_fail(err, DG_E_CORRUPT, "unknown secondary compressor %u", id);
  decoder = g_new0(struct dg_secondary_decoder, 1);
  decoder->id = id;
  *ret_decoder = decoder;
  return 0;
}

void dg_secondary_decoder_free(struct dg_secondary_decoder *decoder)
{
  if (decoder == NULL)
    return;
  for (unsigned kind = 0; kind < DG_SECTIONS; kind++) {
    dg_fgk_free(decoder->fgk[kind]);
    dg_lzma_decoder_free(decoder->lzma[kind]);
  }
  g_free(decoder);
}

int dg_secondary_decoder_is_stateless(const struct dg_secondary_decoder *decoder)
{
  return decoder->id == DG_SECONDARY_NONE || decoder->id == DG_SECONDARY_DJW;
}

int dg_secondary_plain_size(const uint8_t *section, size_t section_len, size_t limit,
                            size_t *ret_size, struct dg_error *err)
{
  uint64_t size;

  if (dg_varint_get(&section, section + section_len, &size) < 0)
    return dg_fail(err, DG_E_CORRUPT, "compressed section: its size is cut off");
  if (size > limit)
    return dg_fail(err, DG_E_LIMIT, "compressed section: %" G_GUINT64_FORMAT " bytes declared",
                   size);
  *ret_size = (size_t)size;
  return 0;
}

int dg_secondary_decode(struct dg_secondary_decoder *decoder,
                        const struct dg_secondary_piece *pieces, unsigned count,
                        struct dg_error *err)
{
  struct dg_djw_piece together[DG_SECONDARY_PIECES];
  unsigned together_count = 0;

  for (const struct dg_secondary_piece *piece = pieces; piece < pieces + count; piece++) {
    const uint8_t *coded = piece->section;
    const uint8_t *end = coded + piece->section_len;
    unsigned kind = piece->kind;
    uint64_t declared;
    size_t coded_len;

    if (dg_varint_get(&coded, end, &declared) < 0 || declared != piece->plain_len || declared == 0)
      return dg_fail(err, DG_E_CORRUPT, "compressed section: bad size");
    coded_len = (size_t)(end - coded);
    switch (decoder->id) {
    case DG_SECONDARY_DJW:
      together[together_count++] =
          (struct dg_djw_piece){coded, coded_len, piece->plain, piece->plain_len};
      break;
    case DG_SECONDARY_LZMA:
      if (decoder->lzma[kind] == NULL)
        decoder->lzma[kind] = dg_lzma_decoder_new();
      if (dg_lzma_decode(decoder->lzma[kind], coded, coded_len, piece->plain, piece->plain_len,
                         err) < 0)
        return -1;
      break;
    case DG_SECONDARY_FGK:
      if (decoder->fgk[kind] == NULL)
        decoder->fgk[kind] = dg_fgk_new();
      if (dg_fgk_decode(decoder->fgk[kind], coded, coded_len, piece->plain, piece->plain_len, err) <
          0)
        return -1;
      break;
    default:
      return dg_fail(err, DG_E_CORRUPT, "compressed section in a delta without a compressor");
    }
  }
  return together_count > 0 ? dg_djw_decode(together, together_count, err) : 0;
}
