/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/index.h"

#include "common/banned.h"

/* Anchors per byte, as 1 in so many, and how full the table gets on average:
 * 4 bytes / (12 * 0.85) is 0.39 bytes of table per byte of reference. */
#define ANCHOR_RATE      12u
#define LOAD_PERCENT     88u
#define MAX_TABLE_BYTES  (UINT64_C(1) << 30)

/* Bytes searched for anchors before these are inserted: far enough ahead to
 * hide the cache misses. */
#define BATCH 256u

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

void dg_index_build(const struct dg_index_shape *shape, const uint8_t *reference,
                    uint32_t *buckets)
{
  const struct dg_index index = {.shape = *shape, .buckets = buckets};
  uint64_t end = shape->reference_size - DG_ANCHOR_SIZE + 1;
  uint32_t limit = shape->anchor_limit;
  uint64_t prints[2][BATCH];
  uint32_t offsets[2][BATCH];
  uint64_t starts[2] = {0, 0};
  uint32_t found[2] = {0, 0};
  unsigned now = 0;

  if (!shape->bucket_count)
    return;
  for (uint64_t start = 0; start < end + BATCH; start += BATCH, now ^= 1) {
    uint32_t count = start >= end ? 0 : end - start < BATCH ? (uint32_t)(end - start) : BATCH;

    /* No branch on the hash: it would be mispredicted at every anchor. */
    starts[now] = start;
    found[now] = 0;
    for (uint32_t i = 0; i < count; i++) {
      offsets[now][found[now]] = i;
      found[now] += dg_anchor_hash(dg_load64(reference + start + i)) >= limit;
    }
    for (uint32_t i = 0; i < found[now]; i++) {
      prints[now][i] = dg_anchor_print(reference + start + offsets[now][i]);
      __builtin_prefetch(dg_index_bucket(&index, prints[now][i]), 1);
    }
    /* The batch before: its buckets have arrived by now. */
    for (uint32_t i = 0; i < found[now ^ 1]; i++)
      insert(&index, buckets, prints[now ^ 1][i], starts[now ^ 1] + offsets[now ^ 1][i]);
  }
}
