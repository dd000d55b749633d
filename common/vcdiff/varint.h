/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The integers of RFC 3284 section 2: base 128, most significant group first,
 * every byte but the last with its top bit set.
 */
#ifndef DG_COMMON_VCDIFF_VARINT_H
#define DG_COMMON_VCDIFF_VARINT_H

#include <stdint.h>

#define DG_VARINT_MAX 10 /* bytes that any uint64_t needs at most */

/* Bytes that dg_varint_put() writes for value: 1..10. */
static inline unsigned dg_varint_size(uint64_t value)
{
  return (unsigned)(70 - __builtin_clzll(value | 1)) / 7;
}

/* Writes value at out, which has room for it, and returns the end. */
static inline uint8_t *dg_varint_put(uint8_t *out, uint64_t value)
{
  unsigned size = dg_varint_size(value);

  for (unsigned i = size; i-- > 0; value >>= 7)
    out[i] = (uint8_t)((value & 0x7f) | (i + 1 < size ? 0x80 : 0));
  return out + size;
}

/* Reads one integer from [*at, end) and moves *at behind it. Returns -1, with
 * nothing touched, when it is cut off or does not fit 64 bits. */
static inline int dg_varint_get(const uint8_t **at, const uint8_t *end, uint64_t *ret_value)
{
  const uint8_t *next = *at;
  uint64_t value = 0;

  for (;;) {
    uint8_t byte;

    if (next >= end || value >> 57)
      return -1;
    byte = *next++;
    value = value << 7 | (byte & 0x7f);
    if (!(byte & 0x80))
      break;
  }
  *at = next;
  *ret_value = value;
  return 0;
}

#endif
