/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both sides of DJW know: the shape of a coded section.
 *
 * DJW (after D. J. Wheeler) is static Huffman coding with up to eight codes,
 * of which every sector of the section picks one. All numbers stand most
 * significant bit first in bytes that fill from their lowest bit:
 *
 *   3 bits   codes - 1
 *   5 bits   sector size / 5 - 1; only with more than one code
 *   4 bits   n: how many of the 22 length symbols follow beyond the first 7
 *   4 bits   the code length of each of those 7 + n symbols
 *   symbols  256 code lengths per code, run- and move-to-front coded; a byte
 *            whose length was 0 in the code before has no place in the next
 *   3 bits   the code length of each of codes + 1 selector symbols; only with
 *            more than one code, like the next
 *   symbols  one selector per sector, run- and move-to-front coded
 *   symbols  the bytes of the section
 *
 * In run- and move-to-front coding, symbols 0 and 1 are the digits 1 and 2 of
 * a number in base two, lowest digit first, that tells how often the front
 * value repeats; symbol s > 1 brings the value at place s - 1 to the front.
 */
#ifndef DG_COMMON_VCDIFF_DJW_H
#define DG_COMMON_VCDIFF_DJW_H

#include <stddef.h>
#include <stdint.h>

struct dg_error;

#define DG_DJW_CODES_MAX        8u
#define DG_DJW_CODES_BITS       3u
#define DG_DJW_SECTOR_UNIT      5u
#define DG_DJW_SECTOR_BITS      5u
#define DG_DJW_LENGTH_SYMBOLS   22u /* two run digits, places 1 to 20 */
#define DG_DJW_LENGTH_ALWAYS    7u
#define DG_DJW_EXTRA_BITS       4u
#define DG_DJW_LENGTH_BITS      4u
#define DG_DJW_SELECTOR_BITS    3u
#define DG_DJW_SELECTOR_LONGEST 7u

/* The order in which code lengths stand in the move-to-front list at first. */
#define DG_DJW_LENGTH_ORDER                                                                        \
  {                                                                                                \
    0, 4, 5, 6, 7, 8, 9, 10, 3, 11, 2, 12, 13, 1, 14, 15, 16, 17, 18, 19, 20                       \
  }
#define DG_DJW_LENGTH_VALUES 21u

/* The coded bytes of a section, without the size in front of them, and where
 * their plain form goes. */
struct dg_djw_piece {
  const uint8_t *coded;
  size_t coded_len;
  uint8_t *plain;
  size_t plain_len;
};

/* Decodes up to DG_DJW_PIECES sections, three at a time, which takes a third
 * to half of the time they take one by one. DG_E_CORRUPT. */
#define DG_DJW_PIECES 6u
int dg_djw_decode(const struct dg_djw_piece *pieces, unsigned count, struct dg_error *err);

#endif
