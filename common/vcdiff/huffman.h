/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical prefix codes over at most 256 symbols, with the bit order of the
 * secondary compressors of xdelta3: bytes fill from their lowest bit, and a
 * code enters with its most significant bit first.
 *
 * [any] Everything works on the caller's memory.
 */
#ifndef DG_COMMON_VCDIFF_HUFFMAN_H
#define DG_COMMON_VCDIFF_HUFFMAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DG_HUFFMAN_SYMBOLS    256u
#define DG_HUFFMAN_MAX_LENGTH 20u
#define DG_HUFFMAN_TABLE_BITS 11u
#define DG_HUFFMAN_TABLE_SIZE (1u << DG_HUFFMAN_TABLE_BITS)

/* ---- Building --------------------------------------------------------------- */

/* Code lengths, at most max_length, for symbols of these frequencies; 0 where
 * the frequency is 0. A lone symbol gets one bit. The sum of all frequencies
 * is below 2^32 and 2^max_length >= count. Returns the bits that the
 * whole input takes. */
uint64_t dg_huffman_lengths(const uint32_t *frequencies, unsigned count, unsigned max_length,
                            uint8_t *ret_lengths);

/* The canonical code of each symbol, bits reversed so that it can be or-ed
 * into an accumulator that fills from its lowest bit. */
void dg_huffman_codes(const uint8_t *lengths, unsigned count, uint32_t *ret_codes);

/* ---- Reading bits ----------------------------------------------------------- */

/* A cursor over input bits. Past the end it supplies zeros and counts them, so
 * that callers check once, at the end. */
struct dg_bits {
  uint64_t window; /* bits not yet taken, the next one lowest */
  unsigned count;  /* of valid bits in window */
  unsigned missing_bytes;
  const uint8_t *next;
  const uint8_t *end;
};

static inline void dg_bits_init(struct dg_bits *bits, const uint8_t *data, size_t len)
{
  *bits = (struct dg_bits){.next = data, .end = data + len};
}

/* Tops the window up to at least 56 bits. */
static inline void dg_bits_fill(struct dg_bits *bits)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  if (bits->end - bits->next >= 8) {
    uint64_t word;

    memcpy(&word, bits->next, sizeof word);
    bits->window |= word << bits->count;
    bits->next += (63 - bits->count) >> 3;
    bits->count |= 56;
    return;
  }
#endif
  while (bits->count <= 56) {
    if (bits->next < bits->end)
      bits->window |= (uint64_t)*bits->next++ << bits->count;
    else
      bits->missing_bytes++;
    bits->count += 8;
  }
}

static inline void dg_bits_drop(struct dg_bits *bits, unsigned count)
{
  bits->window >>= count;
  bits->count -= count;
}

/* A plain number of count (1..8) bits, most significant first. */
static inline unsigned dg_bits_number(struct dg_bits *bits, unsigned count)
{
  unsigned value = 0;

  dg_bits_fill(bits);
  for (unsigned i = 0; i < count; i++)
    value = value << 1 | (unsigned)(bits->window >> i & 1);
  dg_bits_drop(bits, count);
  return value;
}

/* Non-zero if no bit beyond the input was taken. */
static inline int dg_bits_sound(const struct dg_bits *bits)
{
  return bits->missing_bytes * 8 <= bits->count;
}

/* Non-zero if the input was used up to its last byte, and not beyond. */
static inline int dg_bits_spent(const struct dg_bits *bits)
{
  return dg_bits_sound(bits) && bits->next == bits->end &&
         bits->count - bits->missing_bytes * 8 < 8;
}

/* ---- Decoding --------------------------------------------------------------- */

/* One code, ready to decode: a table for codes of up to
 * DG_HUFFMAN_TABLE_BITS bits, and ranges per length for longer ones. */
struct dg_huffman {
  uint16_t table[DG_HUFFMAN_TABLE_SIZE];      /* symbol << 8 | length; 0: longer, or no code */
  uint8_t sorted[DG_HUFFMAN_SYMBOLS];         /* symbols in the order of their codes */
  uint32_t first[DG_HUFFMAN_MAX_LENGTH + 1];  /* the first code of each length */
  uint32_t count[DG_HUFFMAN_MAX_LENGTH + 1];  /* codes of each length */
  uint32_t before[DG_HUFFMAN_MAX_LENGTH + 1]; /* codes of all shorter lengths */
  unsigned longest;
};

/* Returns -1 when no prefix code has these lengths (each at most
 * DG_HUFFMAN_MAX_LENGTH); a code with gaps is fine until a gap is hit. */
int dg_huffman_init(struct dg_huffman *code, const uint8_t *lengths, unsigned count);

/* A code longer than the table reaches: its symbol, or -1. */
int dg_huffman_decode_long(const struct dg_huffman *code, struct dg_bits *bits);

/* The next symbol, or -1 for bits that are no code. The window must hold at
 * least DG_HUFFMAN_MAX_LENGTH bits. */
static inline int dg_huffman_decode(const struct dg_huffman *code, struct dg_bits *bits)
{
  unsigned entry = code->table[bits->window & (DG_HUFFMAN_TABLE_SIZE - 1)];

  if (__builtin_expect(entry == 0, 0))
    return dg_huffman_decode_long(code, bits);
  dg_bits_drop(bits, entry & 0xff);
  return (int)(entry >> 8);
}

#endif
