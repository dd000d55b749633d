/* SPDX-License-Identifier: Apache-2.0 */
/* How far two byte strings agree: the inner loops of the matcher. SSE2 is part
 * of x86-64, so there is nothing to dispatch; elsewhere plain words do. [any] */
#ifndef DG_COMMON_VCDIFF_BYTES_H
#define DG_COMMON_VCDIFF_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static inline uint64_t dg_load64(const uint8_t *at)
{
  uint64_t value;

  memcpy(&value, at, sizeof value);
  return value;
}

static inline uint32_t dg_load32(const uint8_t *at)
{
  uint32_t value;

  memcpy(&value, at, sizeof value);
  return value;
}

/* Index of the first differing byte of two words that differ, by address. */
static inline unsigned dg_first_byte(uint64_t difference)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  return (unsigned)__builtin_clzll(difference) / 8;
#else
  return (unsigned)__builtin_ctzll(difference) / 8;
#endif
}

/* Bytes that agree before the first difference, counted from the end. */
static inline unsigned dg_last_byte(uint64_t difference)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  return (unsigned)__builtin_ctzll(difference) / 8;
#else
  return (unsigned)__builtin_clzll(difference) / 8;
#endif
}

/* Bit i of the result: a[i] == b[i]. Both have 64 readable bytes. */
static inline uint64_t dg_equal_mask64(const uint8_t *a, const uint8_t *b)
{
#if defined(__SSE2__)
  const __m128i *x = (const __m128i *)(const void *)a;
  const __m128i *y = (const __m128i *)(const void *)b;
  __m128i e0 = _mm_cmpeq_epi8(_mm_loadu_si128(x), _mm_loadu_si128(y));
  __m128i e1 = _mm_cmpeq_epi8(_mm_loadu_si128(x + 1), _mm_loadu_si128(y + 1));
  __m128i e2 = _mm_cmpeq_epi8(_mm_loadu_si128(x + 2), _mm_loadu_si128(y + 2));
  __m128i e3 = _mm_cmpeq_epi8(_mm_loadu_si128(x + 3), _mm_loadu_si128(y + 3));

  return (uint64_t)(uint32_t)_mm_movemask_epi8(e0) |
         (uint64_t)(uint32_t)_mm_movemask_epi8(e1) << 16 |
         (uint64_t)(uint32_t)_mm_movemask_epi8(e2) << 32 |
         (uint64_t)(uint32_t)_mm_movemask_epi8(e3) << 48;
#else
  uint64_t mask = 0;

  for (unsigned i = 0; i < 64; i++)
    mask |= (uint64_t)(a[i] == b[i]) << i;
  return mask;
#endif
}

/* How many bytes agree from a and b on, at most max. */
static inline size_t dg_match_forward(const uint8_t *a, const uint8_t *b, size_t max)
{
  size_t len = 0;

  if (max >= 8) {
    uint64_t difference = dg_load64(a) ^ dg_load64(b);

    if (difference)
      return dg_first_byte(difference);
    len = 8;
  }
#if defined(__SSE2__)
  while (len + 64 <= max) {
    uint64_t mask = dg_equal_mask64(a + len, b + len);

    if (mask != UINT64_MAX)
      return len + (size_t)__builtin_ctzll(~mask);
    len += 64;
  }
#endif
  while (len + 8 <= max) {
    uint64_t difference = dg_load64(a + len) ^ dg_load64(b + len);

    if (difference)
      return len + dg_first_byte(difference);
    len += 8;
  }
  while (len < max && a[len] == b[len])
    len++;
  return len;
}

/* How many bytes agree before a and b, at most max. */
static inline size_t dg_match_backward(const uint8_t *a, const uint8_t *b, size_t max)
{
  size_t len = 0;

  while (len + 8 <= max) {
    uint64_t difference = dg_load64(a - len - 8) ^ dg_load64(b - len - 8);

    if (difference)
      return len + dg_last_byte(difference);
    len += 8;
  }
  while (len < max && a[-1 - (ptrdiff_t)len] == b[-1 - (ptrdiff_t)len])
    len++;
  return len;
}

#endif
