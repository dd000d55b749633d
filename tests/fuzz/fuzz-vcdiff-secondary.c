/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed sections. The first byte picks the method; the rest is a section,
 * given twice for those that remember. The rest as plain bytes goes through
 * our encoders, too. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "common/vcdiff/secondary.h"

#include <deltaglider/plugin.h>
#include <glib.h>
#include <string.h>

#include "common/banned.h"

#define PLAIN_MAX (1u << 18)

static void check_back(uint32_t id, const uint8_t *section, size_t section_len,
                       const uint8_t *plain, size_t len)
{
  g_autofree uint8_t *back = g_malloc(len);
  g_autofree uint8_t *exact = g_memdup2(section, section_len);
  struct dg_secondary_piece piece = {0, exact, section_len, back, len};
  struct dg_secondary_decoder *decoder;
  struct dg_error err;

  FUZZ_CHECK(dg_secondary_decoder_new(id, &decoder, &err) == 0);
  FUZZ_CHECK(dg_secondary_decode(decoder, &piece, 1, &err) == 0);
  FUZZ_CHECK(memcmp(back, plain, len) == 0);
  dg_secondary_decoder_free(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const uint32_t ids[] = {DG_SECONDARY_DJW, DG_SECONDARY_LZMA, DG_SECONDARY_FGK};
  struct dg_secondary_decoder *decoder;
  struct dg_error err = {0};
  size_t plain_size, section_len;
  uint32_t id;

  if (size < 2)
    return 0;
  id = ids[data[0] % 3];
  data++;
  size--;
  FUZZ_CHECK(dg_secondary_decoder_new(id, &decoder, &err) == 0);
  if (dg_secondary_plain_size(data, size, PLAIN_MAX, &plain_size, &err) == 0) {
    g_autofree uint8_t *plain = g_malloc(plain_size);
    g_autofree uint8_t *other = g_malloc(plain_size);
    struct dg_secondary_piece pieces[2] = {{1, data, size, plain, plain_size},
                                           {2, data, size, other, plain_size}};

    /* Again for those that remember; two lanes side by side for DJW. */
    if (dg_secondary_decode(decoder, pieces, 1, &err) == 0)
      (void)dg_secondary_decode(decoder, pieces, 2, &err);
  }
  dg_secondary_decoder_free(decoder);

  if (id == DG_SECONDARY_DJW) {
    g_autofree uint8_t *section = g_malloc(size);

    section_len = dg_djw_encode(data, size, section);
    if (section_len > 0)
      check_back(id, section, section_len, data, size);
  } else if (id == DG_SECONDARY_LZMA) {
    g_autofree uint8_t *section = g_malloc(dg_lzma_bound(size));
    struct dg_lzma_encoder *encoder;

    FUZZ_CHECK(dg_lzma_encoder_new(0, &encoder, &err) == 0);
    FUZZ_CHECK(dg_lzma_encode(encoder, 0, data, size, section, dg_lzma_bound(size), &section_len,
                              &err) == 0);
    if (section_len > 0)
      check_back(id, section, section_len, data, size);
    dg_lzma_encoder_free(encoder);
  }
  return 0;
}
