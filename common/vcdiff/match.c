/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/match-private.h"

#include "common/banned.h"

#define DIAGONAL_RUN 8u   /* shortest match that keeps a diagonal alive */
#define FAR_MIN      16u  /* shortest one on a new diagonal */
#define SHORT_GAP    12u  /* a diagonal that resumes this soon is followed without a look-up */
#define SCAN_AHEAD   192u /* bytes searched for anchors before they are needed */
#define STEP_REACH   57u  /* rows of eight bytes may begin at so many places of a mask */

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

/* ---- The walk along the window --------------------------------------------- */

static void use_diagonal(struct dg_matcher *m, int64_t diagonal)
{
  unsigned place = 0;

  while (place < m->diagonal_count && m->diagonals[place] != diagonal)
    place++;
  if (place == m->diagonal_count) {
    if (m->diagonal_count < DG_MATCH_DIAGONALS)
      m->diagonal_count++;
    else
      place--;
  }
  for (; place > 0; place--)
    m->diagonals[place] = m->diagonals[place - 1];
  m->diagonals[0] = diagonal;
}

/* Takes the match that holds at `at` on the diagonal: widens it, fills the
 * gap before it. */
static void take(struct dg_matcher *m, uint32_t at, int64_t diagonal)
{
  uint64_t from = (uint64_t)((int64_t)at + diagonal);
  uint64_t back_room = MIN((uint64_t)(at - m->literal_start), from);
  uint32_t back = (uint32_t)dg_match_backward(m->window + at, m->in->reference + from, back_room);
  uint32_t forward = dg_match_diagonal_length(m, at, m->size, diagonal);

  dg_match_fill_gap(m, m->literal_start, at - back, m->diagonals[0], diagonal);
  dg_match_push(m, DG_MATCH_SOURCE, at - back, back + forward, from - back);
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
  while (m->scanned < end && m->anchor_tail - m->anchor_head <= DG_MATCH_ANCHORS - DG_ANCHOR_SCAN) {
    const uint8_t *from = m->window + m->scanned;
    uint32_t left = last - m->scanned;
    uint64_t mask = left >= DG_ANCHOR_SCAN_BYTES
                        ? dg_anchor_scan(from, limit)
                        : dg_anchor_scan_some(from, MIN(left, DG_ANCHOR_SCAN), limit);

    for (; mask; mask &= mask - 1) {
      unsigned offset = (unsigned)__builtin_ctzll(mask);
      uint64_t print = dg_anchor_print(from + offset);
      struct dg_match_anchor *anchor = &m->anchors[m->anchor_tail++ % DG_MATCH_ANCHORS];

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
static uint32_t look_up(const struct dg_matcher *m, const struct dg_match_anchor *anchor,
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
      if (len > best && dg_match_fits_segment(&m->found, from - MIN(from, back_room), len)) {
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
  uint32_t reach = MIN(at + STEP_REACH, m->size);
  uint32_t resume = reach;
  int64_t diagonal = 0;

  for (unsigned i = 0; i < m->diagonal_count && resume == reach; i++) {
    uint64_t rows = dg_match_rows_of_8(dg_match_diagonal_mask(m, at, m->size, m->diagonals[i]));

    if (rows) {
      resume = at + (uint32_t)__builtin_ctzll(rows);
      diagonal = m->diagonals[i];
      if (!dg_match_fits_segment(&m->found, (uint64_t)((int64_t)resume + diagonal), DIAGONAL_RUN))
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
      const struct dg_match_anchor *anchor = &m->anchors[m->anchor_head % DG_MATCH_ANCHORS];
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
  matcher->tables_used = 0;
  matcher->diagonals[0] = (int64_t)input->window_offset;
  matcher->diagonal_count = 1;

  if (input->reference_size > 0)
    while (at < matcher->size)
      at = step(matcher, at);
  dg_match_fill_gap(matcher, matcher->literal_start, matcher->size, matcher->diagonals[0],
           matcher->diagonals[0]);
  if (!matcher->found.source_high)
    matcher->found.source_low = 0;
  return &matcher->found;
}
