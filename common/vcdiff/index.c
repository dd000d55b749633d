/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/index.h"

#include <glib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/banned.h"

/* Anchors per byte, as 1 in so many, and how full the table gets on average:
 * 4 bytes / (12 * 0.85) is 0.39 bytes of table per byte of reference. */
#define ANCHOR_RATE      12u
#define LOAD_PERCENT     88u
#define MAX_TABLE_BYTES  (UINT64_C(1) << 30)

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

/* ---- Building ---------------------------------------------------------------- */

/* Anchors are sorted by the part of the table they go to before they go there.
 * A part spans few enough pages for the processor to remember them all; straight
 * from the search every entry would wait for an address translation. Each part
 * takes its anchors in the order of the reference, so the table is the same. */
#define PARTS_MAX      64u
#define PART_ANCHORS   4096u /* waiting for one part, at most */
#define PART_MIN_SHIFT 14u   /* buckets: 1 MiB */
#define PREFETCH_AHEAD 16u

/* An anchor on its way: where it goes, counted from the first bucket that is
 * built, and what is put there. */
struct placed {
  uint32_t number;
  uint32_t entry;
};

struct part {
  uint32_t waiting_count;
  struct placed waiting[PART_ANCHORS];
};

struct builder {
  const struct dg_index_shape *shape;
  const uint8_t *reference;
  uint32_t *buckets;
  uint64_t first, count; /* of the buckets to build */
  unsigned part_shift;   /* a part is this many bits' worth of buckets */
  unsigned part_count;
  struct part *parts;
};

static void insert(const struct dg_index_shape *shape, uint32_t *bucket, uint32_t entry)
{
  uint32_t tag = entry & ((1u << shape->tag_bits) - 1);
  uint32_t twins = dg_index_hits(shape, bucket, tag);
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
  free_entries = dg_index_hits(shape, bucket, 0);
  slot = (unsigned)__builtin_ctz(free_entries);
  bucket[slot] = entry;
}

/* Puts the anchors that wait for a part into the table. */
static void flush_part(const struct builder *builder, struct part *part)
{
  uint32_t count = part->waiting_count;

  for (uint32_t i = 0; i < count; i++) {
    const struct placed *now = &part->waiting[i];
    const struct placed *later = now + (i + PREFETCH_AHEAD < count ? PREFETCH_AHEAD : 0);

    __builtin_prefetch(builder->buckets + (size_t)later->number * DG_INDEX_BUCKET, 1);
    insert(builder->shape, builder->buckets + (size_t)now->number * DG_INDEX_BUCKET, now->entry);
  }
  part->waiting_count = 0;
}

/* Sends the anchor at this position on its way. */
static inline void place(const struct builder *builder, uint64_t position)
{
  const struct dg_index_shape *shape = builder->shape;
  uint64_t print = dg_anchor_print(builder->reference + position);
  uint64_t number = dg_index_number(shape, print) - builder->first;
  struct part *part;

  if (number >= builder->count) /* those before the first wrap around and are above it, too */
    return;
  part = &builder->parts[number >> builder->part_shift];
  part->waiting[part->waiting_count++] = (struct placed){
      (uint32_t)number, (uint32_t)((position >> DG_INDEX_BLOCK_SHIFT) << shape->tag_bits) |
                            dg_index_tag(shape, print)};
  if (part->waiting_count == PART_ANCHORS)
    flush_part(builder, part);
}

static void place_all(const struct builder *builder)
{
  uint32_t limit = builder->shape->anchor_limit;
  uint64_t end = builder->shape->reference_size - DG_ANCHOR_SIZE + 1;

  for (uint64_t at = 0; at < end; at += DG_ANCHOR_SCAN) {
    uint64_t left = end - at;
    const uint8_t *from = builder->reference + at;
    /* Past `end` there are DG_ANCHOR_SIZE - 1 bytes. */
    uint64_t mask =
        left >= DG_ANCHOR_SCAN_BYTES
            ? dg_anchor_scan(from, limit)
            : dg_anchor_scan_some(from, (uint32_t)(left < DG_ANCHOR_SCAN ? left : DG_ANCHOR_SCAN),
                                  limit);

    for (; mask; mask &= mask - 1)
      place(builder, at + (unsigned)__builtin_ctzll(mask));
  }
}

void dg_index_build(const struct dg_index_shape *shape, const uint8_t *reference, uint64_t first,
                    uint64_t count, uint32_t *buckets)
{
  struct builder builder = {.shape = shape,
                            .reference = reference,
                            .buckets = buckets,
                            .first = first,
                            .count = count,
                            .part_shift = PART_MIN_SHIFT};

  if (count == 0)
    return;
  while ((count - 1) >> builder.part_shift >= PARTS_MAX)
    builder.part_shift++;
  builder.part_count = (unsigned)((count - 1) >> builder.part_shift) + 1;
  builder.parts = g_new(struct part, builder.part_count);
  for (unsigned i = 0; i < builder.part_count; i++)
    builder.parts[i].waiting_count = 0;
  place_all(&builder);
  for (unsigned i = 0; i < builder.part_count; i++)
    flush_part(&builder, &builder.parts[i]);
  g_free(builder.parts);
}
