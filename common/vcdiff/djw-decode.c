/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/djw.h"
#include "common/vcdiff/huffman.h"

#include <deltaglider/plugin.h>
#include <glib.h>

#include "common/banned.h"

/* Reads count values in run- and move-to-front coding. front is the list of
 * possible values, in order. With `stride`, a value that was 0 that far back
 * is 0 again and takes no part. */
static int read_values(struct dg_bits *bits, const struct dg_huffman *code, uint8_t *front,
                       unsigned front_len, size_t stride, uint8_t *values, size_t count)
{
  uint64_t run = 0;
  unsigned digit = 0;

  for (size_t i = 0; i < count;) {
    int symbol;

    if (stride != 0 && i >= stride && values[i - stride] == 0) {
      values[i++] = 0;
      continue;
    }
    if (run > 0) {
      values[i++] = front[0];
      run--;
      continue;
    }
    dg_bits_fill(bits);
    symbol = dg_huffman_decode(code, bits);
    if (symbol < 0 || !dg_bits_sound(bits))
      return -1;
    if (symbol <= 1) {
      run = (uint64_t)(symbol + 1) << digit;
      if (++digit > 32)
        return -1;
    } else {
      unsigned place = (unsigned)symbol - 1;
      uint8_t value;

      if (place >= front_len)
        return -1;
      value = front[place];
      memmove(front + 1, front, place);
      front[0] = value;
      values[i++] = value;
      digit = 0;
    }
  }
  return run == 0 ? 0 : -1;
}

/* Bytes of one sector. */
static int read_bytes(struct dg_bits *bits, const struct dg_huffman *code, uint8_t *out,
                      size_t count)
{
  struct dg_bits local = *bits;
  uint8_t *end = out + count;

  /* Five codes that the table holds fit one fill. */
  while (end - out >= 5) {
    unsigned e0, e1, e2, e3, e4;

    dg_bits_fill(&local);
#define TAKE(entry)                                                                                \
  (entry) = code->table[local.window & (DG_HUFFMAN_TABLE_SIZE - 1)];                               \
  if (__builtin_expect((entry) == 0, 0))                                                           \
    goto one;                                                                                      \
  dg_bits_drop(&local, (entry)&0xff);                                                              \
  *out++ = (uint8_t)((entry) >> 8)
    TAKE(e0);
    TAKE(e1);
    TAKE(e2);
    TAKE(e3);
    TAKE(e4);
#undef TAKE
    continue;
  one : {
    int symbol;

    dg_bits_fill(&local);
    symbol = dg_huffman_decode(code, &local);
    if (symbol < 0)
      return -1;
    *out++ = (uint8_t)symbol;
  }
  }
  while (out < end) {
    int symbol;

    dg_bits_fill(&local);
    symbol = dg_huffman_decode(code, &local);
    if (symbol < 0)
      return -1;
    *out++ = (uint8_t)symbol;
  }
  *bits = local;
  return dg_bits_sound(bits) ? 0 : -1;
}

/* The code for code lengths, then those lengths for every code. */
static int read_codes(struct dg_bits *bits, struct dg_huffman *codes, unsigned code_count)
{
  uint8_t front[DG_DJW_LENGTH_VALUES] = DG_DJW_LENGTH_ORDER;
  uint8_t symbol_lengths[DG_DJW_LENGTH_SYMBOLS] = {0};
  uint8_t lengths[DG_DJW_CODES_MAX * DG_HUFFMAN_SYMBOLS];
  unsigned given = DG_DJW_LENGTH_ALWAYS + dg_bits_number(bits, DG_DJW_EXTRA_BITS);

  for (unsigned i = 0; i < given; i++)
    symbol_lengths[i] = (uint8_t)dg_bits_number(bits, DG_DJW_LENGTH_BITS);
  /* The room of the first code serves for the code of code lengths: it is
   * built anew right after. */
  if (dg_huffman_init(&codes[0], symbol_lengths, DG_DJW_LENGTH_SYMBOLS) < 0 ||
      read_values(bits, &codes[0], front, DG_DJW_LENGTH_VALUES, DG_HUFFMAN_SYMBOLS, lengths,
                  (size_t)code_count * DG_HUFFMAN_SYMBOLS) < 0)
    return -1;
  for (unsigned i = 0; i < code_count; i++)
    if (dg_huffman_init(&codes[i], lengths + (size_t)i * DG_HUFFMAN_SYMBOLS, DG_HUFFMAN_SYMBOLS) <
        0)
      return -1;
  return 0;
}

static int read_selectors(struct dg_bits *bits, unsigned code_count, uint8_t *selectors,
                          size_t sector_count)
{
  uint8_t front[DG_DJW_CODES_MAX];
  uint8_t lengths[DG_DJW_CODES_MAX + 1];
  struct dg_huffman code;

  for (unsigned i = 0; i <= code_count; i++)
    lengths[i] = (uint8_t)dg_bits_number(bits, DG_DJW_SELECTOR_BITS);
  for (unsigned i = 0; i < code_count; i++)
    front[i] = (uint8_t)i;
  if (dg_huffman_init(&code, lengths, code_count + 1) < 0)
    return -1;
  return read_values(bits, &code, front, code_count, 0, selectors, sector_count);
}

int dg_djw_decode(const uint8_t *coded, size_t coded_len, uint8_t *plain, size_t plain_len,
                  struct dg_error *err)
{
  g_autofree struct dg_huffman *codes = NULL;
  g_autofree uint8_t *selectors = NULL;
  struct dg_bits bits;
  size_t sector_size = plain_len;
  size_t sector_count = 1;
  unsigned code_count;

  if (plain_len == 0)
    return dg_fail(err, DG_E_CORRUPT, "DJW: an empty section cannot be compressed");
  dg_bits_init(&bits, coded, coded_len);
  code_count = dg_bits_number(&bits, DG_DJW_CODES_BITS) + 1;
  codes = g_new(struct dg_huffman, code_count);
  if (code_count > 1) {
    sector_size = (size_t)(dg_bits_number(&bits, DG_DJW_SECTOR_BITS) + 1) * DG_DJW_SECTOR_UNIT;
    sector_count = (plain_len - 1) / sector_size + 1;
    selectors = g_malloc(sector_count);
  }
  if (read_codes(&bits, codes, code_count) < 0)
    return dg_fail(err, DG_E_CORRUPT, "DJW: bad code lengths");
  if (selectors != NULL && read_selectors(&bits, code_count, selectors, sector_count) < 0)
    return dg_fail(err, DG_E_CORRUPT, "DJW: bad selectors");
  for (size_t i = 0, done = 0; i < sector_count; i++, done += sector_size) {
    size_t count = plain_len - done < sector_size ? plain_len - done : sector_size;

    if (read_bytes(&bits, &codes[selectors != NULL ? selectors[i] : 0], plain + done, count) < 0)
      return dg_fail(err, DG_E_CORRUPT, "DJW: bad code, or the section is cut off");
  }
  if (!dg_bits_spent(&bits))
    return dg_fail(err, DG_E_CORRUPT, "DJW: bytes left over behind the section");
  return 0;
}
