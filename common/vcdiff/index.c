/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/index.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/banned.h"

/* Anchors per byte, as 1 in so many, and how full the table gets on average:
 * 4 bytes / (12 * 0.85) is 0.39 bytes of table per byte of reference. */
#define ANCHOR_RATE      12u
#define LOAD_PERCENT     88u
#define MAX_TABLE_BYTES  (UINT64_C(1) << 30)

/* Positions searched for anchors before these are inserted: far enough ahead
 * to hide the cache misses. */
#define BATCH (4 * DG_ANCHOR_SCAN)

void dg_index_shape_for(uint64_t reference_size, struct dg_index_shape *ret_shape)
{
  uint64_t rate = ANCHOR_RATE;
  uint64_t buckets;
  unsigned block_bits = 1;

  *ret_shape = (struct dg_index_shape){.reference_size = reference_size};
  if (reference_size < 2 * DG_ANCHOR_SIZE || reference_size > DG_INDEX_MAX_REFERENCE)
    return;
  for (;; rate *= 2) {
    buckets = reference_size / rate * 100 / LOAD_PERCENT / DG_INDEX_BUCKET + 4;
    if (buckets * DG_INDEX_BUCKET * sizeof(uint32_t) <= MAX_TABLE_BYTES)
      break;
  }
  while (block_bits < 31 && (reference_size >> DG_INDEX_BLOCK_SHIFT) >> block_bits)
    block_bits++;
  ret_shape->bucket_count = buckets;
  ret_shape->anchor_limit = (uint32_t)(UINT32_MAX - UINT32_MAX / rate);
  ret_shape->tag_bits = 32 - block_bits > 16 ? 16 : 32 - block_bits;
}

uint64_t dg_anchor_scan_some(const uint8_t *from, uint32_t count, uint32_t anchor_limit)
{
  uint64_t mask = 0;

  for (uint32_t i = 0; i < count; i++)
    mask |= (uint64_t)(dg_anchor_hash(from + i) >= anchor_limit) << i;
  return mask;
}

#if defined(__x86_64__)

/* Eight positions at a time: two shuffles spread the bytes, two products hash. */
__attribute__((target("avx2"))) static uint64_t anchor_scan_avx2(const uint8_t *from,
                                                                 uint32_t anchor_limit)
{
  const __m256i low = _mm256_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6, 4, 5, 6, 7,
                                       5, 6, 7, 8, 6, 7, 8, 9, 7, 8, 9, 10);
  const __m256i high = _mm256_add_epi8(low, _mm256_set1_epi8(4));
  const __m256i low_factor = _mm256_set1_epi32((int)0x9E3779B1);
  const __m256i high_factor = _mm256_set1_epi32((int)0x85EBCA77);
  const __m256i limit = _mm256_set1_epi32((int)anchor_limit);
  uint64_t mask = 0;

  for (unsigned i = 0; i < DG_ANCHOR_SCAN; i += 8) {
    __m256i bytes =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(from + i)));
    __m256i hash =
        _mm256_xor_si256(_mm256_mullo_epi32(_mm256_shuffle_epi8(bytes, low), low_factor),
                         _mm256_mullo_epi32(_mm256_shuffle_epi8(bytes, high), high_factor));
    __m256i is_anchor = _mm256_cmpeq_epi32(_mm256_max_epu32(hash, limit), hash);

    mask |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(is_anchor)) << i;
  }
  return mask;
}

#endif

uint64_t dg_anchor_scan(const uint8_t *from, uint32_t anchor_limit)
{
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2"))
    return anchor_scan_avx2(from, anchor_limit);
#endif
  return dg_anchor_scan_some(from, DG_ANCHOR_SCAN, anchor_limit);
}

static void insert(const struct dg_index *index, uint32_t *buckets, uint64_t print,
                   uint64_t position)
{
  uint32_t *bucket = buckets + (dg_index_bucket(index, print) - index->buckets);
  uint32_t tag = dg_index_tag(&index->shape, print);
  uint32_t entry = (uint32_t)((position >> DG_INDEX_BLOCK_SHIFT) << index->shape.tag_bits) | tag;
  uint32_t twins = dg_index_hits(&index->shape, bucket, tag);
  uint32_t free_entries;
  unsigned slot;

  if (twins) {
    uint32_t others = twins & (twins - 1);

    if (others & (others - 1))
      return; /* three already: a repetitive reference must not crowd out the rest */
    if (bucket[31 - __builtin_clz(twins)] == entry)
      return; /* two anchors of one block that share the tag: searching finds both */
  }
  /* Entries fill a bucket from the front, so the last one tells if it is full;
   * then the newcomer is dropped: its neighbours stand in for it. */
  if (bucket[DG_INDEX_BUCKET - 1])
    return;
  free_entries = dg_index_hits(&index->shape, bucket, 0);
  slot = (unsigned)__builtin_ctz(free_entries);
  bucket[slot] = entry;
}

/* Anchors on their way into the table. */
struct batch {
  uint32_t count;
  uint64_t positions[BATCH];
  uint64_t prints[BATCH];
};

/* Finds the anchors from start on and starts to load their buckets. */
static void collect(const struct dg_index *index, const uint8_t *reference, uint64_t start,
                    uint64_t end, struct batch *batch)
{
  uint32_t limit = index->shape.anchor_limit;

  batch->count = 0;
  for (uint64_t at = start; at < end && at < start + BATCH; at += DG_ANCHOR_SCAN) {
    /* Past `end` there are DG_ANCHOR_SIZE - 1 bytes. */
    uint64_t mask = end - at >= DG_ANCHOR_SCAN_BYTES
                        ? dg_anchor_scan(reference + at, limit)
                        : dg_anchor_scan_some(reference + at,
                                              (uint32_t)(end - at < DG_ANCHOR_SCAN ? end - at
                                                                                   : DG_ANCHOR_SCAN),
                                              limit);

    for (; mask; mask &= mask - 1) {
      uint64_t position = at + (unsigned)__builtin_ctzll(mask);
      uint64_t print = dg_anchor_print(reference + position);

      __builtin_prefetch(dg_index_bucket(index, print), 1);
      batch->positions[batch->count] = position;
      batch->prints[batch->count++] = print;
    }
  }
}

void dg_index_build(const struct dg_index_shape *shape, const uint8_t *reference,
                    uint32_t *buckets)
{
  const struct dg_index index = {.shape = *shape, .buckets = buckets};
  struct batch batches[2];
  unsigned now = 0;
  uint64_t end;

  if (!shape->bucket_count)
    return;
  end = shape->reference_size - DG_ANCHOR_SIZE + 1;
  batches[1].count = 0;
  for (uint64_t start = 0; start < end + BATCH; start += BATCH, now ^= 1) {
    const struct batch *before = &batches[now ^ 1];

    collect(&index, reference, start, end, &batches[now]);
    /* The batch before: its buckets have arrived by now. */
    for (uint32_t i = 0; i < before->count; i++)
      insert(&index, buckets, before->prints[i], before->positions[i]);
  }
}
