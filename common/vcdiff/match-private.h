/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the matcher share: match.c walks along the window
 * from one long match to the next, gap.c fills what lies between. */
#ifndef DG_COMMON_VCDIFF_MATCH_PRIVATE_H
#define DG_COMMON_VCDIFF_MATCH_PRIVATE_H

#include <glib.h>

#include "common/vcdiff/match.h"

#define DG_MATCH_DIAGONALS   3u   /* how many recent ones are tried before the index */
#define DG_MATCH_ANCHORS     128u /* ring of anchors found ahead; a power of two */
#define DG_MATCH_WINDOW_BITS 15u  /* of the table of window content */
#define DG_MATCH_NEAR_BITS   12u  /* of the table of reference content near a gap */

/* The widest source segment: stock decoders add its size and the window's in
 * 32 bits, and a match may still grow by a window after it was checked. */
#define DG_MATCH_SEGMENT_MAX (UINT64_C(0xFFFFFFFF) - 2 * DG_MATCH_MAX_WINDOW)

struct dg_match_anchor {
  uint32_t at;
  uint32_t tag;
  const uint32_t *bucket;
};

struct dg_matcher {
  struct dg_matches found;
  const struct dg_match_input *in;
  const uint8_t *window;
  uint32_t size;

  /* The walk. */
  uint32_t literal_start;                /* end of the last match */
  uint32_t diagonal_count;               /* how many differ so far */
  int64_t diagonals[DG_MATCH_DIAGONALS]; /* reference minus window position; latest first */
  uint32_t scanned;                      /* anchors before this are in the ring, or dropped */
  uint32_t anchor_head, anchor_tail;
  struct dg_match_anchor anchors[DG_MATCH_ANCHORS];

  /* Gaps. */
  uint32_t tables_used;                          /* 0: they hold another window's content */
  int64_t learnt[2];                             /* reference bytes before this are in `near`;
                                                    along the left and the right diagonal */
  uint32_t near[1u << DG_MATCH_NEAR_BITS];       /* low bits of reference positions */
  uint32_t earlier[1u << DG_MATCH_WINDOW_BITS];  /* window positions + 1 */
};

/* Finds what it can in [start, end) of the window. left is the diagonal of the
 * match that ends at start, right that of the one that begins at end. */
void dg_match_fill_gap(struct dg_matcher *m, uint32_t start, uint32_t end, int64_t left,
                       int64_t right);

/* Could [from, from + len) of the reference join the source segment? */
static inline int dg_match_fits_segment(const struct dg_matches *found, uint64_t from, uint64_t len)
{
  uint64_t low = MIN(found->source_low, from);
  uint64_t high = MAX(found->source_high, from + len);

  return high - low <= DG_MATCH_SEGMENT_MAX;
}

static inline void dg_match_push(struct dg_matcher *m, unsigned kind, uint32_t at, uint32_t len,
                                 uint64_t from)
{
  struct dg_matches *found = &m->found;

  if (found->count == found->capacity) {
    found->capacity = MAX(found->capacity * 2, 4096);
    found->items = g_renew(struct dg_match, found->items, found->capacity);
  }
  found->items[found->count++] = dg_match_make(kind, at, len, from);
  if (kind == DG_MATCH_SOURCE) {
    found->source_low = MIN(found->source_low, from);
    found->source_high = MAX(found->source_high, from + len);
  }
}

/* Bit i: window[at + i] equals the reference on the diagonal. Bits outside of
 * either, or at and after `end`, are 0. */
static inline uint64_t dg_match_diagonal_mask(const struct dg_matcher *m, uint32_t at, uint32_t end,
                                              int64_t diagonal)
{
  int64_t start = (int64_t)at + diagonal;
  int64_t reference_size = (int64_t)m->in->reference_size;
  uint64_t mask = 0;
  uint32_t count = MIN(end - at, 64);

  if (start >= 0 && start + 64 <= reference_size && at + 64 <= m->size) {
    mask = dg_equal_mask64(m->window + at, m->in->reference + start);
    return count == 64 ? mask : mask & ((UINT64_C(1) << count) - 1);
  }
  if (start >= reference_size || start + 64 <= 0)
    return 0;
  for (uint32_t i = 0; i < count; i++) {
    int64_t from = start + i;

    if (from >= 0 && from < reference_size)
      mask |= (uint64_t)(m->window[at + i] == m->in->reference[from]) << i;
  }
  return mask;
}

/* Bits where a row of four, or eight, set bits begins. */
static inline uint64_t dg_match_rows_of_4(uint64_t mask)
{
  mask &= mask >> 1;
  return mask & mask >> 2;
}

static inline uint64_t dg_match_rows_of_8(uint64_t mask)
{
  mask = dg_match_rows_of_4(mask);
  return mask & mask >> 4;
}

/* Length of the match on a diagonal from `at`, within `end`. The diagonal
 * meets the reference at `at`. */
static inline uint32_t dg_match_diagonal_length(const struct dg_matcher *m, uint32_t at,
                                                uint32_t end, int64_t diagonal)
{
  uint64_t from = (uint64_t)((int64_t)at + diagonal);
  uint64_t room = MIN((uint64_t)(end - at), m->in->reference_size - from);

  return (uint32_t)dg_match_forward(m->window + at, m->in->reference + from, room);
}

#endif
