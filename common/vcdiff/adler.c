/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/adler.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/banned.h"

#define ADLER_BASE 65521u

/* The most bytes for which the sums of the portable loop stay below 2^32. */
#define PORTABLE_STEP 5552u

uint32_t dg_adler32_portable(uint32_t adler, const void *data, size_t len)
{
  const uint8_t *at = data;
  uint32_t low = adler & 0xffff;
  uint32_t high = adler >> 16;

  while (len > 0) {
    size_t step = len < PORTABLE_STEP ? len : PORTABLE_STEP;

    len -= step;
    for (; step >= 8; step -= 8, at += 8) {
      /* Eight bytes at once: high gains 8 * low plus a weighted sum. */
      uint32_t sum = 0, weighted = 0;

      for (unsigned i = 0; i < 8; i++) {
        sum += at[i];
        weighted += (8 - i) * at[i];
      }
      high += 8 * low + weighted;
      low += sum;
    }
    while (step-- > 0) {
      low += *at++;
      high += low;
    }
    low %= ADLER_BASE;
    high %= ADLER_BASE;
  }
  return high << 16 | low;
}

#if defined(__x86_64__)

/* Vectors of 32 bytes before the 32-bit lanes could overflow: a lane of
 * `weighted` gains less than 2^15 per vector and the others hold 64 bits;
 * 1024 vectors stay below 2^25. */
#define AVX2_STEP 1024u

__attribute__((target("avx2"))) static uint32_t adler32_avx2(uint32_t adler, const uint8_t *at,
                                                             size_t len)
{
  const __m256i weights = _mm256_set_epi8(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
                                          18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                          32);
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i zero = _mm256_setzero_si256();
  uint64_t low = adler & 0xffff;
  uint64_t high = adler >> 16;

  while (len >= 32) {
    size_t vectors = len / 32 < AVX2_STEP ? len / 32 : AVX2_STEP;
    __m256i sum = zero, weighted = zero, prefix = zero;
    uint64_t lanes64[4];
    uint32_t lanes32[8];

    len -= vectors * 32;
    high += low * 32 * vectors;
    for (; vectors > 0; vectors--, at += 32) {
      __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)at);

      /* Bytes of earlier vectors count 32 more for each vector after them. */
      prefix = _mm256_add_epi64(prefix, sum);
      sum = _mm256_add_epi64(sum, _mm256_sad_epu8(bytes, zero));
      weighted = _mm256_add_epi32(
          weighted, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, weights), ones));
    }
    _mm256_storeu_si256((__m256i *)(void *)lanes64, sum);
    low += lanes64[0] + lanes64[1] + lanes64[2] + lanes64[3];
    _mm256_storeu_si256((__m256i *)(void *)lanes64, prefix);
    high += 32 * (lanes64[0] + lanes64[1] + lanes64[2] + lanes64[3]);
    _mm256_storeu_si256((__m256i *)(void *)lanes32, weighted);
    for (unsigned i = 0; i < 8; i++)
      high += lanes32[i];
    low %= ADLER_BASE;
    high %= ADLER_BASE;
  }
  return dg_adler32_portable((uint32_t)(high << 16 | low), at, len);
}

#endif

uint32_t dg_adler32(uint32_t adler, const void *data, size_t len)
{
#if defined(__x86_64__)
  if (len >= 64 && __builtin_cpu_supports("avx2"))
    return adler32_avx2(adler, data, len);
#endif
  return dg_adler32_portable(adler, data, len);
}
