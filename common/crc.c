/* SPDX-License-Identifier: Apache-2.0 */
/* The fast path folds 64 bytes at a time with carry-less multiplication. A
 * register of 128 bits X, standing D bits before newer data, may be replaced by
 * X * x^D mod P, added to that data. With the bits reflected, the low half of X
 * holds its higher coefficients, and a product of two reflected 64-bit words
 * comes out one position short, so the multipliers are x^(D+63) and x^(D-1).
 * What is left at the end, 16 bytes, goes through the tables like any input:
 * no second set of constants, and one piece of code for all polynomials. */
#include "config.h"

#include "common/crc.h"

#include "common/checksum.h"

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/banned.h"

struct dg_crc {
  unsigned bits;         /* 32 or 64 */
  uint64_t poly;         /* reflected, in the low `bits` */
  uint64_t fold_far[2];  /* by 512 bits: for the low and the high half */
  uint64_t fold_near[2]; /* by 128 bits */
  uint64_t table[8][256];
};

struct dg_crc dg_crc_ieee = {.bits = 32, .poly = 0xEDB88320u};
struct dg_crc dg_crc_iscsi = {.bits = 32, .poly = 0x82F63B78u};
struct dg_crc dg_crc_nvme64 = {.bits = 64, .poly = UINT64_C(0x9A6C9329AC4BC9B5)};

static pthread_once_t tables_once = PTHREAD_ONCE_INIT;
static bool cpu_folds;
static atomic_bool use_portable;

/* x^n mod P, reflected into the top of 64 bits. */
static uint64_t power_of_x(const struct dg_crc *kind, unsigned n)
{
  uint64_t r = UINT64_C(1) << (kind->bits - 1);

  while (n--)
    r = (r >> 1) ^ (r & 1 ? kind->poly : 0);
  return r << (64 - kind->bits);
}

static void build_tables(struct dg_crc *kind)
{
  for (unsigned byte = 0; byte < 256; byte++) {
    uint64_t r = byte;

    for (unsigned bit = 0; bit < 8; bit++)
      r = (r >> 1) ^ (r & 1 ? kind->poly : 0);
    kind->table[0][byte] = r;
  }
  for (unsigned step = 1; step < 8; step++) {
    for (unsigned byte = 0; byte < 256; byte++) {
      uint64_t r = kind->table[step - 1][byte];

      kind->table[step][byte] = (r >> 8) ^ kind->table[0][r & 255];
    }
  }
  kind->fold_far[0] = power_of_x(kind, 512 + 63);
  kind->fold_far[1] = power_of_x(kind, 512 - 1);
  kind->fold_near[0] = power_of_x(kind, 128 + 63);
  kind->fold_near[1] = power_of_x(kind, 128 - 1);
}

static void build_all(void)
{
  build_tables(&dg_crc_ieee);
  build_tables(&dg_crc_iscsi);
  build_tables(&dg_crc_nvme64);
#if defined(__x86_64__)
  __builtin_cpu_init();
  cpu_folds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

static uint64_t load64(const uint8_t *p)
{
  uint64_t v;

  memcpy(&v, p, sizeof v);
  return GUINT64_FROM_LE(v);
}

/* r is the raw register here: no inversion before or after. */
static uint64_t update_table(const struct dg_crc *kind, uint64_t r, const uint8_t *p, size_t len)
{
  while (len >= 8) {
    uint64_t v = load64(p) ^ r;

    r = kind->table[7][v & 255] ^ kind->table[6][v >> 8 & 255] ^ kind->table[5][v >> 16 & 255] ^
        kind->table[4][v >> 24 & 255] ^ kind->table[3][v >> 32 & 255] ^
        kind->table[2][v >> 40 & 255] ^ kind->table[1][v >> 48 & 255] ^ kind->table[0][v >> 56];
    p += 8;
    len -= 8;
  }
  while (len--)
    r = (r >> 8) ^ kind->table[0][(r ^ *p++) & 255];
  return r;
}

#if defined(__x86_64__)
__attribute__((target("pclmul,sse4.1"))) static inline __m128i fold(__m128i x, __m128i by)
{
  return _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11));
}

__attribute__((target("pclmul,sse4.1"))) static inline __m128i load128(const uint8_t *p)
{
  return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* len >= 64 */
__attribute__((target("pclmul,sse4.1"))) static uint64_t
update_folding(const struct dg_crc *kind, uint64_t r, const uint8_t *p, size_t len)
{
  const __m128i far = _mm_set_epi64x((long long)kind->fold_far[1], (long long)kind->fold_far[0]);
  const __m128i near = _mm_set_epi64x((long long)kind->fold_near[1], (long long)kind->fold_near[0]);
  __m128i x0 = _mm_xor_si128(load128(p), _mm_cvtsi64_si128((long long)r));
  __m128i x1 = load128(p + 16), x2 = load128(p + 32), x3 = load128(p + 48);
  uint8_t rest[16];

  p += 64;
  len -= 64;
  while (len >= 64) {
    x0 = _mm_xor_si128(fold(x0, far), load128(p));
    x1 = _mm_xor_si128(fold(x1, far), load128(p + 16));
    x2 = _mm_xor_si128(fold(x2, far), load128(p + 32));
    x3 = _mm_xor_si128(fold(x3, far), load128(p + 48));
    p += 64;
    len -= 64;
  }
  x1 = _mm_xor_si128(fold(x0, near), x1);
  x2 = _mm_xor_si128(fold(x1, near), x2);
  x3 = _mm_xor_si128(fold(x2, near), x3);
  while (len >= 16) {
    x3 = _mm_xor_si128(fold(x3, near), load128(p));
    p += 16;
    len -= 16;
  }
  _mm_storeu_si128((__m128i *)(void *)rest, x3);
  return update_table(kind, update_table(kind, 0, rest, sizeof rest), p, len);
}
#endif

uint64_t dg_crc_update(struct dg_crc *kind, uint64_t crc, const void *bytes, size_t len)
{
  uint64_t ones = kind->bits == 64 ? UINT64_MAX : UINT32_MAX, r = crc ^ ones;

  (void)pthread_once(&tables_once, build_all);
#if defined(__x86_64__)
  if (len >= 64 && cpu_folds && !atomic_load_explicit(&use_portable, memory_order_relaxed))
    return update_folding(kind, r, bytes, len) ^ ones;
#endif
  return update_table(kind, r, bytes, len) ^ ones;
}

/* a * b mod P; both reflected in the low `bits`. */
static uint64_t multiply(const struct dg_crc *kind, uint64_t a, uint64_t b)
{
  uint64_t product = 0;

  for (uint64_t bit = UINT64_C(1) << (kind->bits - 1); bit; bit >>= 1) {
    if (a & bit)
      product ^= b;
    b = (b >> 1) ^ (b & 1 ? kind->poly : 0);
  }
  return product;
}

uint64_t dg_crc_combine(struct dg_crc *kind, uint64_t first, uint64_t second, uint64_t second_bytes)
{
  uint64_t shift = UINT64_C(1) << (kind->bits - 1); /* x^0 */
  uint64_t square = shift >> 8;                     /* x^8: one byte further */

  for (; second_bytes; second_bytes >>= 1) {
    if (second_bytes & 1)
      shift = multiply(kind, shift, square);
    square = multiply(kind, square, square);
  }
  return multiply(kind, shift, first) ^ second;
}

void dg_crc_use_portable(bool portable)
{
  atomic_store(&use_portable, portable);
}
