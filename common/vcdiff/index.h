/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The match index of a reference: where in it a given piece of content stands.
 *
 * Content picks its own landmarks: a position is an *anchor* when a hash of
 * the eight bytes there falls into a fixed range, about one in twelve. Both
 * sides find the same anchors in the same content, wherever it moved, so only
 * they are stored and only they are looked up. An entry is 32 bits: the block
 * of 16 bytes that holds the anchor, and a tag from a hash of the anchor's
 * first DG_ANCHOR_SIZE bytes. Sixteen entries make a bucket, one cache line,
 * so a look-up costs one miss and the table can be nearly full.
 *
 * The index is a flat block of memory without pointers: it can be written to a
 * file as it is and mapped back. Immutable once built, so any number of
 * threads may search it at once.
 */
#ifndef DG_COMMON_VCDIFF_INDEX_H
#define DG_COMMON_VCDIFF_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "common/vcdiff/bytes.h"

#define DG_ANCHOR_SIZE         12u
#define DG_INDEX_BUCKET        16u /* entries */
#define DG_INDEX_BLOCK_SHIFT   4u
#define DG_INDEX_MAX_REFERENCE (UINT64_C(1) << 35) /* 32 GiB: tags keep a bit or more */

/* What describes a table: computed from the reference's size alone. */
struct dg_index_shape {
  uint64_t reference_size;
  uint64_t bucket_count; /* 0: the reference is too small or too large to index */
  uint32_t anchor_limit; /* an anchor's hash is at least this */
  uint32_t tag_bits;
};

struct dg_index {
  struct dg_index_shape shape;
  const uint32_t *buckets; /* 64-byte aligned; borrowed */
};

/* The shape of an index over size bytes. Above a few GiB anchors get rarer,
 * so that no table exceeds about 1 GiB. */
void dg_index_shape_for(uint64_t reference_size, struct dg_index_shape *ret_shape);

static inline uint64_t dg_index_table_bytes(const struct dg_index_shape *shape)
{
  return shape->bucket_count * DG_INDEX_BUCKET * sizeof(uint32_t);
}

/* Fills count buckets, from the one numbered first on, from the reference; all
 * at once or range by range, the table comes out the same.
 *
 * buckets  count * DG_INDEX_BUCKET entries of zero, 64-byte aligned
 *
 * Every call searches the whole reference. Uses up to 2 MiB beside the table. */
void dg_index_build(const struct dg_index_shape *shape, const uint8_t *reference, uint64_t first,
                    uint64_t count, uint32_t *buckets);

/* ---- For the matcher ------------------------------------------------------ */

/* Zeroes hash to zero and are therefore never an anchor: no long row of them
 * floods a table or a search. Two 32-bit products, because vectors have them. */
static inline uint32_t dg_anchor_hash(const uint8_t *at)
{
  return (dg_load32(at) * UINT32_C(0x9E3779B1)) ^ (dg_load32(at + 4) * UINT32_C(0x85EBCA77));
}

#define DG_ANCHOR_SCAN       64u /* positions that one scan covers */
#define DG_ANCHOR_SCAN_BYTES 72u /* bytes it reads for that */

/* Bit i of the result: there is an anchor at from + i. */
uint64_t dg_anchor_scan(const uint8_t *from, uint32_t anchor_limit);

/* The same for the first count positions, where fewer than
 * DG_ANCHOR_SCAN_BYTES can be read; count + 7 can. */
uint64_t dg_anchor_scan_some(const uint8_t *from, uint32_t count, uint32_t anchor_limit);

/* Identifies the DG_ANCHOR_SIZE bytes at `at`. */
static inline uint64_t dg_anchor_print(const uint8_t *at)
{
  uint64_t head = dg_load64(at);
  uint64_t tail = dg_load64(at + DG_ANCHOR_SIZE - 8);
  uint64_t mixed = (head ^ (tail << 29 | tail >> 35)) * UINT64_C(0xD6E8FEB86659FD93);

  return mixed ^ mixed >> 32;
}

/* The number of the bucket that a print belongs into. */
static inline uint64_t dg_index_number(const struct dg_index_shape *shape, uint64_t print)
{
  return (uint64_t)(((unsigned __int128)print * shape->bucket_count) >> 64);
}

static inline const uint32_t *dg_index_bucket(const struct dg_index *index, uint64_t print)
{
  return index->buckets + dg_index_number(&index->shape, print) * DG_INDEX_BUCKET;
}

/* The tag of a print: never 0, which marks a free entry. */
static inline uint32_t dg_index_tag(const struct dg_index_shape *shape, uint64_t print)
{
  uint32_t tag = (uint32_t)print & ((1u << shape->tag_bits) - 1);

  return tag ? tag : 1;
}

/* Bit i of the result: entry i of the bucket has this tag. */
static inline uint32_t dg_index_hits(const struct dg_index_shape *shape, const uint32_t *bucket,
                                     uint32_t tag)
{
  uint32_t hits = 0;

#if defined(__SSE2__)
  const __m128i *entries = (const __m128i *)(const void *)bucket;
  __m128i wanted = _mm_set1_epi32((int)tag);
  __m128i mask = _mm_set1_epi32((int)((1u << shape->tag_bits) - 1));
  __m128i a = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(entries), mask), wanted);
  __m128i b = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(entries + 1), mask), wanted);
  __m128i c = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(entries + 2), mask), wanted);
  __m128i d = _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(entries + 3), mask), wanted);

  hits = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)));
#else
  uint32_t mask = (1u << shape->tag_bits) - 1;

  for (unsigned i = 0; i < DG_INDEX_BUCKET; i++)
    hits |= (uint32_t)((bucket[i] & mask) == tag) << i;
#endif
  return hits;
}

/* First byte of the block an entry names. */
static inline uint64_t dg_index_block(const struct dg_index_shape *shape, uint32_t entry)
{
  return ((uint64_t)(entry >> shape->tag_bits)) << DG_INDEX_BLOCK_SHIFT;
}

#endif
