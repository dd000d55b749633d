/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/match.h"

#include <glib.h>

#include "common/banned.h"

/* Costs are in half bits, as measured on deltas that went through DJW. */
#define COST_LITERAL 13 /* one byte of data */
#define COST_COPY    36 /* instructions of a copy, of the ADD it splits off, and their time */
#define COST_ADDRESS 15 /* one byte of address */

#define LOCAL_MIN    4u  /* shortest copy on a known diagonal */
#define DIAGONAL_RUN 8u  /* shortest one that keeps a diagonal alive */
#define FAR_MIN      16u /* shortest one on a new diagonal */

#define SHORT_GAP    12u /* a diagonal that resumes this soon is followed without a look-up */

#define DIAGONALS    3u  /* how many recent ones are tried before the index */

/* The widest source segment: stock decoders add its size and the window's in
 * 32 bits. */
#define SEGMENT_MAX (UINT64_C(0xFFFFFFFF) - 2 * DG_MATCH_MAX_WINDOW)

#define HASH_BITS  15u
#define ANCHORS    128u /* ring of anchors found ahead; a power of two */
#define SCAN_AHEAD 192u

struct anchor {
  uint32_t at;
  uint32_t tag;
  const uint32_t *bucket;
};

struct dg_matcher {
  struct dg_matches found;
  const struct dg_match_input *in;
  const uint8_t *window;
  uint32_t size;
  uint32_t literal_start;        /* end of the last match */
  int64_t diagonals[DIAGONALS];  /* reference position minus window position; latest first */
  uint32_t diagonal_count;       /* how many differ so far */
  uint32_t scanned;              /* anchors before this are in the ring, or dropped */
  uint32_t anchor_head, anchor_tail;
  struct anchor anchors[ANCHORS];
  int32_t hash_used;
  uint32_t hash[1u << HASH_BITS]; /* position + 1 of the latest five bytes with this hash */
};

struct dg_matcher *dg_matcher_new(void)
{
  return g_new0(struct dg_matcher, 1);
}

void dg_matcher_free(struct dg_matcher *matcher)
{
  if (!matcher)
    return;
  g_free(matcher->found.items);
  g_free(matcher);
}

/* ---- Output --------------------------------------------------------------- */

/* Could [from, from + len) of the reference join the source segment? */
static int fits_segment(const struct dg_matches *found, uint64_t from, uint64_t len)
{
  uint64_t low = MIN(found->source_low, from);
  uint64_t high = MAX(found->source_high, from + len);

  return high - low <= SEGMENT_MAX;
}

static inline void push(struct dg_matcher *m, unsigned kind, uint32_t at, uint32_t len, uint64_t from)
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

/* ---- Diagonals ------------------------------------------------------------ */

/* Bit i: window[at + i] equals the reference on the diagonal. Bits outside of
 * either, or at and after `end`, are 0. */
static uint64_t diagonal_mask(const struct dg_matcher *m, uint32_t at, uint32_t end,
                              int64_t diagonal)
{
  int64_t start = (int64_t)at + diagonal;
  int64_t reference_size = (int64_t)m->in->reference_size;
  uint64_t mask = 0;
  uint32_t count = end - at < 64 ? end - at : 64;

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
static inline uint64_t rows_of_4(uint64_t mask)
{
  mask &= mask >> 1;
  return mask & mask >> 2;
}

static inline uint64_t rows_of_8(uint64_t mask)
{
  mask = rows_of_4(mask);
  return mask & mask >> 4;
}

static void use_diagonal(struct dg_matcher *m, int64_t diagonal)
{
  unsigned place = 0;

  while (place < m->diagonal_count && m->diagonals[place] != diagonal)
    place++;
  if (place == m->diagonal_count) {
    if (m->diagonal_count < DIAGONALS)
      m->diagonal_count++;
    else
      place--;
  }
  for (; place > 0; place--)
    m->diagonals[place] = m->diagonals[place - 1];
  m->diagonals[0] = diagonal;
}

/* ---- Gaps: short matches between two long ones ----------------------------- */

static inline uint32_t hash5(const uint8_t *at)
{
  return (uint32_t)(((dg_load64(at) << 24) * UINT64_C(0x9FB21C651E98DF25)) >> (64 - HASH_BITS));
}

struct candidate {
  uint64_t from;
  uint32_t len;
  unsigned kind;
  int gain;
};

static void consider(struct candidate *best, unsigned kind, uint64_t from, uint32_t len,
                     int address_bytes)
{
  int gain = (int)MIN(len, 1u << 20) * COST_LITERAL - COST_COPY - address_bytes * COST_ADDRESS;

  if (gain > best->gain)
    *best = (struct candidate){.from = from, .len = len, .kind = kind, .gain = gain};
}

static inline int distance_bytes(uint32_t distance)
{
  return distance < 1u << 7 ? 1 : distance < 1u << 14 ? 2 : distance < 1u << 21 ? 3 : 4;
}

/* Length of the match on a diagonal from `at`, within `end`. */
static uint32_t diagonal_length(const struct dg_matcher *m, uint32_t at, uint32_t end,
                                int64_t diagonal)
{
  uint64_t from = (uint64_t)((int64_t)at + diagonal);
  uint64_t room = MIN((uint64_t)(end - at), m->in->reference_size - from);

  return (uint32_t)dg_match_forward(m->window + at, m->in->reference + from, room);
}

static void fill_gap(struct dg_matcher *m, uint32_t start, uint32_t end, int64_t left,
                     int64_t right)
{
  const uint8_t *window = m->window;
  uint32_t hash_end = m->size >= 8 ? m->size - 8 : 0;
  uint32_t at = start;
  /* A gap begins where the left diagonal breaks and ends where the right one
   * does, so a short one holds no row of four on them. */
  uint32_t mask_end = end - start < (left == right ? 6 : 5) ? end : start;
  uint32_t mask_at = start;
  uint32_t quiet_since = start;
  uint64_t left_rows = 0, right_rows = 0;

  if (end - start < LOCAL_MIN)
    return;
  if (!m->hash_used) {
    memset(m->hash, 0, sizeof m->hash);
    m->hash_used = 1;
  }
  while (at + LOCAL_MIN <= end) {
    struct candidate best = {0};
    uint32_t bit;

    if (at >= mask_end) {
      left_rows = rows_of_4(diagonal_mask(m, at, end, left));
      right_rows = right != left ? rows_of_4(diagonal_mask(m, at, end, right)) : 0;
      mask_at = at;
      mask_end = at + 61; /* rows of four may begin at 61 places */
    }
    bit = (at - mask_at) & 63;
    if (left_rows >> bit & 1)
      consider(&best, DG_MATCH_SOURCE, (uint64_t)(at + left), diagonal_length(m, at, end, left), 1);
    if (right_rows >> bit & 1)
      consider(&best, DG_MATCH_SOURCE, (uint64_t)(at + right),
               diagonal_length(m, at, end, right), 1);
    if (at < hash_end) {
      uint32_t *slot = &m->hash[hash5(window + at)];
      uint32_t earlier = *slot;

      *slot = at + 1;
      if (earlier && dg_load32(window + earlier - 1) == dg_load32(window + at)) {
        uint32_t from = earlier - 1;
        uint32_t len = (uint32_t)dg_match_forward(window + at, window + from, end - at);

        consider(&best, DG_MATCH_TARGET, from, len, distance_bytes(at - from));
      }
      if (at > 0 && dg_load32(window + at) == dg_load32(window + at - 1)) {
        uint32_t len = (uint32_t)dg_match_forward(window + at, window + at - 1, end - at);

        consider(&best, DG_MATCH_RUN, 0, len, 1);
      }
    }
    if (best.gain > 0 &&
        (best.kind != DG_MATCH_SOURCE || fits_segment(&m->found, best.from, best.len))) {
      push(m, best.kind, at, best.len, best.from);
      at += best.len;
      quiet_since = at;
    } else {
      at += 1 + ((at - quiet_since) >> 7);
    }
  }
}

/* ---- The walk along the window --------------------------------------------- */

/* Takes the match that holds at `at` on the diagonal: widens it, fills the
 * gap before it. */
static void take(struct dg_matcher *m, uint32_t at, int64_t diagonal)
{
  uint64_t from = (uint64_t)((int64_t)at + diagonal);
  uint64_t back_room = MIN((uint64_t)(at - m->literal_start), from);
  uint32_t back = (uint32_t)dg_match_backward(m->window + at, m->in->reference + from, back_room);
  uint32_t forward = diagonal_length(m, at, m->size, diagonal);

  fill_gap(m, m->literal_start, at - back, m->diagonals[0], diagonal);
  push(m, DG_MATCH_SOURCE, at - back, back + forward, from - back);
  m->literal_start = at + forward;
  use_diagonal(m, diagonal);
}

/* Finds anchors up to `end`, or a little further, and starts to load their
 * buckets. */
static void scan_anchors(struct dg_matcher *m, uint32_t end)
{
  const struct dg_index *index = m->in->index;
  uint32_t limit = index->shape.anchor_limit;
  uint32_t last = m->size - DG_ANCHOR_SIZE + 1;

  end = MIN(end, last);
  while (m->scanned < end && m->anchor_tail - m->anchor_head <= ANCHORS - DG_ANCHOR_SCAN) {
    const uint8_t *from = m->window + m->scanned;
    uint32_t left = last - m->scanned;
    uint64_t mask = left >= DG_ANCHOR_SCAN_BYTES
                        ? dg_anchor_scan(from, limit)
                        : dg_anchor_scan_some(from, MIN(left, DG_ANCHOR_SCAN), limit);

    for (; mask; mask &= mask - 1) {
      unsigned offset = (unsigned)__builtin_ctzll(mask);
      uint64_t print = dg_anchor_print(from + offset);
      struct anchor *anchor = &m->anchors[m->anchor_tail++ % ANCHORS];

      anchor->at = m->scanned + offset;
      anchor->tag = dg_index_tag(&index->shape, print);
      anchor->bucket = dg_index_bucket(index, print);
      __builtin_prefetch(anchor->bucket);
    }
    m->scanned += MIN(left, DG_ANCHOR_SCAN);
  }
}

/* Looks one anchor up. Returns the length of the best match through it, 0 when
 * there is none worth taking. */
static uint32_t look_up(const struct dg_matcher *m, const struct anchor *anchor,
                        int64_t *ret_diagonal)
{
  const struct dg_index *index = m->in->index;
  const uint8_t *reference = m->in->reference;
  const uint8_t *here = m->window + anchor->at;
  uint64_t head = dg_load64(here);
  uint32_t best = FAR_MIN - 1;
  uint32_t hits = dg_index_hits(&index->shape, anchor->bucket, anchor->tag);

  for (; hits; hits &= hits - 1) {
    uint64_t block = dg_index_block(&index->shape, anchor->bucket[__builtin_ctz(hits)]);
    uint64_t block_end = MIN(block + (1u << DG_INDEX_BLOCK_SHIFT),
                             m->in->reference_size - DG_ANCHOR_SIZE + 1);

    for (uint64_t from = block; from < block_end; from++) {
      uint64_t room = MIN((uint64_t)(m->size - anchor->at), m->in->reference_size - from);
      uint64_t back_room = MIN((uint64_t)(anchor->at - m->literal_start), from);
      uint32_t len;

      if (dg_load64(reference + from) != head)
        continue;
      len = (uint32_t)(dg_match_forward(here, reference + from, room) +
                       dg_match_backward(here, reference + from, back_room));
      if (len > best && fits_segment(&m->found, from - MIN(from, back_room), len)) {
        best = len;
        *ret_diagonal = (int64_t)from - (int64_t)anchor->at;
      }
    }
  }
  return best < FAR_MIN ? 0 : best;
}

/* One step from the gap position `at`: tries the known diagonals over the next
 * bytes, then the anchors before the place where one of them holds again.
 * Returns where to go on. */
static uint32_t step(struct dg_matcher *m, uint32_t at)
{
  uint32_t reach = MIN(at + 57, m->size); /* rows of eight may begin at 57 places */
  uint32_t resume = reach;
  int64_t diagonal = 0;

  for (unsigned i = 0; i < m->diagonal_count && resume == reach; i++) {
    uint64_t rows = rows_of_8(diagonal_mask(m, at, m->size, m->diagonals[i]));

    if (rows) {
      resume = at + (uint32_t)__builtin_ctzll(rows);
      diagonal = m->diagonals[i];
      if (!fits_segment(&m->found, (uint64_t)((int64_t)resume + diagonal), DIAGONAL_RUN))
        resume = reach;
    }
  }
  if (m->in->index && m->size >= DG_ANCHOR_SIZE && (resume == reach || resume - at > SHORT_GAP)) {
    if (m->scanned < at) {
      m->scanned = at;
      m->anchor_head = m->anchor_tail;
    }
    scan_anchors(m, resume + (resume == reach ? SCAN_AHEAD : 0));
    while (m->anchor_head != m->anchor_tail) {
      const struct anchor *anchor = &m->anchors[m->anchor_head % ANCHORS];
      int64_t found;

      if (anchor->at >= resume)
        break;
      m->anchor_head++;
      if (anchor->at >= at && look_up(m, anchor, &found)) {
        take(m, anchor->at, found);
        return m->literal_start;
      }
    }
  }
  if (resume < reach) {
    take(m, resume, diagonal);
    return m->literal_start;
  }
  return reach;
}

const struct dg_matches *dg_matcher_run(struct dg_matcher *matcher,
                                        const struct dg_match_input *input)
{
  uint32_t at = 0;

  matcher->in = input;
  matcher->window = input->window;
  matcher->size = input->window_size;
  matcher->found.count = 0;
  matcher->found.source_low = UINT64_MAX;
  matcher->found.source_high = 0;
  matcher->literal_start = 0;
  matcher->scanned = 0;
  matcher->anchor_head = matcher->anchor_tail = 0;
  matcher->hash_used = 0;
  matcher->diagonals[0] = (int64_t)input->window_offset;
  matcher->diagonal_count = 1;

  if (input->reference_size > 0)
    while (at < matcher->size)
      at = step(matcher, at);
  fill_gap(matcher, matcher->literal_start, matcher->size, matcher->diagonals[0],
           matcher->diagonals[0]);
  if (!matcher->found.source_high)
    matcher->found.source_low = 0;
  return &matcher->found;
}
