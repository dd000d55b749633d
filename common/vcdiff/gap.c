/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/match-private.h"

#include "common/banned.h"

/* Costs are in half bits, as measured on deltas that went through DJW. */
#define COST_LITERAL 13 /* one byte of data */
#define COST_COPY    36 /* instructions of a copy, of the ADD it splits off, and their time */
#define COST_ADDRESS 15 /* one byte of address */

#define LOCAL_MIN 4u /* shortest copy */

/* Gaps shorter than this are not worth a look at the reference around them. */
#define NEAR_GAP 16u
/* How far around a position on the diagonal the reference is learnt, and that
 * at every second byte: together within a hundredth of doing more of either. */
#define NEAR_REACH 64
#define NEAR_STEP  2

/* After so many bytes without a match the reference around is not learnt any
 * more, and after each 128 the steps get one byte wider. */
#define NEAR_PATIENCE 4096u
#define STEP_SHIFT    7u

/* Positions covered by one mask of rows of four. */
#define MASK_REACH 61u

/* Look-ups need eight readable bytes, however few of them are hashed. */
static inline uint32_t hash_near(const uint8_t *at) /* five bytes */
{
  return (uint32_t)((dg_load64(at) << 24) * UINT64_C(0x9FB21C651E98DF25) >>
                    (64 - DG_MATCH_NEAR_BITS));
}

static inline uint32_t hash_earlier(const uint8_t *at) /* six bytes */
{
  return (uint32_t)((dg_load64(at) << 16) * UINT64_C(0x9FB21C651E98DF25) >>
                    (64 - DG_MATCH_WINDOW_BITS));
}

/* One gap being filled. */
struct gap {
  struct dg_matcher *m;
  uint32_t start, end;
  uint32_t hash_end;      /* look-ups are possible before this */
  uint32_t literal_start; /* end of the last match in it */
  int64_t left, right;
  uint64_t last_from; /* about where the last copy from the reference stood */
};

struct candidate {
  uint64_t from;
  uint32_t len;
  unsigned kind;
  int gain;
};

static inline void consider(struct candidate *best, unsigned kind, uint64_t from, uint32_t len,
                            int address_bytes)
{
  int gain = (int)MIN(len, 1u << 20) * COST_LITERAL - COST_COPY - address_bytes * COST_ADDRESS;

  if (gain > best->gain)
    *best = (struct candidate){.from = from, .len = len, .kind = kind, .gain = gain};
}

/* ---- The reference around the gap ------------------------------------------- */

/* Enters what stands around `at` on a diagonal, as far as it is not yet. */
static void learn(struct dg_matcher *m, int64_t diagonal, uint32_t at, int64_t *learnt)
{
  const uint8_t *reference = m->in->reference;
  int64_t from = (int64_t)at + diagonal - NEAR_REACH;
  int64_t to = (int64_t)at + diagonal + MASK_REACH + NEAR_REACH;

  to = MIN(to, (int64_t)m->in->reference_size - 7);
  from = MAX(from, 0);
  if (*learnt > from && *learnt <= to)
    from = *learnt;
  for (; from < to; from += NEAR_STEP)
    m->near[hash_near(reference + from)] = (uint32_t)from;
  *learnt = from;
}

/* A table holds the low 32 bits: the position meant is the one nearest to the
 * diagonal. Entries may be stale, so all is verified. */
static void consider_near(const struct gap *gap, uint32_t at, struct candidate *best)
{
  const struct dg_matcher *m = gap->m;
  uint64_t expected = (uint64_t)((int64_t)at + gap->left);
  uint32_t offset = m->near[hash_near(m->window + at)] - (uint32_t)expected;
  uint64_t from = expected + (uint64_t)(int64_t)(int32_t)offset;
  int64_t distance = (int64_t)(from - gap->last_from);
  uint32_t len;

  if (from >= m->in->reference_size || m->in->reference_size - from < 8 ||
      dg_load32(m->in->reference + from) != dg_load32(m->window + at))
    return;
  len = dg_match_diagonal_length(m, at, gap->end, (int64_t)(from - at));
  /* Near slots reach forward only, from where recent copies began. */
  consider(best, DG_MATCH_SOURCE, from, len,
           distance < 0 ? 3 : distance < 100 ? 1 : distance < 16000 ? 2 : 3);
}

/* ---- The window before the gap ----------------------------------------------- */

static inline int back_bytes(uint32_t distance)
{
  return distance < 1u << 7 ? 1 : distance < 1u << 14 ? 2 : distance < 1u << 21 ? 3 : 4;
}

static void consider_earlier(const struct gap *gap, uint32_t at, struct candidate *best)
{
  struct dg_matcher *m = gap->m;
  const uint8_t *window = m->window;
  uint32_t *slot = &m->earlier[hash_earlier(window + at)];
  uint32_t earlier = *slot;

  *slot = at + 1;
  if (earlier && dg_load32(window + earlier - 1) == dg_load32(window + at)) {
    uint32_t from = earlier - 1;

    consider(best, DG_MATCH_TARGET, from,
             (uint32_t)dg_match_forward(window + at, window + from, gap->end - at),
             back_bytes(at - from));
  }
  if (at > 0 && dg_load32(window + at) == dg_load32(window + at - 1))
    consider(best, DG_MATCH_RUN, 0,
             (uint32_t)dg_match_forward(window + at, window + at - 1, gap->end - at), 1);
}

/* ---- The gap ------------------------------------------------------------------- */

/* Writes a match, widened over the literals before it. */
static void accept(struct gap *gap, uint32_t at, const struct candidate *found)
{
  struct dg_matcher *m = gap->m;
  const uint8_t *other = found->kind == DG_MATCH_SOURCE ? m->in->reference : m->window;
  uint32_t back = 0;

  if (found->kind != DG_MATCH_RUN)
    back = (uint32_t)dg_match_backward(m->window + at, other + found->from,
                                       MIN((uint64_t)(at - gap->literal_start), found->from));
  dg_match_push(m, found->kind, at - back, found->len + back, found->from - back);
  if (found->kind == DG_MATCH_SOURCE)
    gap->last_from = found->from - back;
  gap->literal_start = at + found->len;
  /* New content that repeats itself does so again and again: enter all of it,
   * but of a very long match only a sample. */
  for (uint32_t i = at + 1; i < MIN(gap->literal_start, gap->hash_end); i += 1 + (found->len >> 10))
    m->earlier[hash_earlier(m->window + i)] = i + 1;
}

static void learn_around(struct gap *gap, uint32_t at)
{
  struct dg_matcher *m = gap->m;

  if (gap->end - gap->start < NEAR_GAP || at - gap->literal_start > NEAR_PATIENCE)
    return;
  learn(m, gap->left, at, &m->learnt[0]);
  if (gap->right - gap->left > NEAR_REACH || gap->left - gap->right > NEAR_REACH)
    learn(m, gap->right, at, &m->learnt[1]);
}

void dg_match_fill_gap(struct dg_matcher *m, uint32_t start, uint32_t end, int64_t left,
                       int64_t right)
{
  struct gap gap = {.m = m,
                    .start = start,
                    .end = end,
                    .hash_end = m->size >= 8 ? m->size - 7 : 0,
                    .literal_start = start,
                    .left = left,
                    .right = right,
                    .last_from = (uint64_t)((int64_t)start + left)};
  uint64_t left_rows = 0, right_rows = 0;
  uint32_t mask_at = start;
  /* A gap begins where the left diagonal breaks and ends where the right one
   * does, so a short one holds no row of four on them. */
  uint32_t mask_end = end - start < (left == right ? 6 : 5) ? end : start;
  int use_near = end - start >= NEAR_GAP && m->in->reference_size > 0;
  uint32_t at = start;

  if (end - start < LOCAL_MIN)
    return;
  if (!m->tables_used) {
    memset(m->earlier, 0, sizeof m->earlier);
    memset(m->near, 0, sizeof m->near);
    m->learnt[0] = m->learnt[1] = 0;
    m->tables_used = 1;
  }
  while (at + LOCAL_MIN <= end) {
    struct candidate best = {0};
    uint32_t bit;

    if (at >= mask_end) {
      left_rows = dg_match_rows_of_4(dg_match_diagonal_mask(m, at, end, left));
      right_rows =
          right == left ? 0 : dg_match_rows_of_4(dg_match_diagonal_mask(m, at, end, right));
      mask_at = at;
      mask_end = at + MASK_REACH;
      learn_around(&gap, at);
    }
    bit = (at - mask_at) & 63;
    if (left_rows >> bit & 1)
      consider(&best, DG_MATCH_SOURCE, (uint64_t)((int64_t)at + left),
               dg_match_diagonal_length(m, at, end, left), 1);
    if (right_rows >> bit & 1)
      consider(&best, DG_MATCH_SOURCE, (uint64_t)((int64_t)at + right),
               dg_match_diagonal_length(m, at, end, right), 1);
    if (at < gap.hash_end) {
      if (use_near)
        consider_near(&gap, at, &best);
      consider_earlier(&gap, at, &best);
    }
    if (best.gain > 0 && (best.kind != DG_MATCH_SOURCE ||
                          dg_match_fits_segment(&m->found, best.from, best.len))) {
      accept(&gap, at, &best);
      at = gap.literal_start;
    } else {
      at += 1 + ((at - gap.literal_start) >> STEP_SHIFT);
    }
  }
}
