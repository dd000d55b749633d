/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The matcher: which bytes of a window of target stand already in the
 * reference, or earlier in the window itself.
 *
 * It follows the *diagonal* (the distance between a target position and the
 * reference position that matched last) as long as it holds, looks content up
 * in the index where it breaks, and fills what remains with short matches near
 * the diagonals on both sides, in the window, and runs. The result depends
 * only on the arguments of one call, never on earlier windows or threads.
 */
#ifndef DG_COMMON_VCDIFF_MATCH_H
#define DG_COMMON_VCDIFF_MATCH_H

#include <stddef.h>
#include <stdint.h>

#include "common/vcdiff/index.h"

/* Largest window the matcher takes; also the hard limit of xdelta3's decoder. */
#define DG_MATCH_MAX_WINDOW (16u << 20)

#define DG_MATCH_SOURCE 0u /* copy from the reference, at `from` */
#define DG_MATCH_TARGET 1u /* copy from this window, at `from`; may overlap itself */
#define DG_MATCH_RUN    2u /* one byte, repeated */

/* Bytes [at, at + len) of the window. */
struct dg_match {
  uint64_t from : 62;
  uint64_t kind : 2; /* DG_MATCH_* */
  uint32_t at;
  uint32_t len;
};

static inline struct dg_match dg_match_make(unsigned kind, uint32_t at, uint32_t len, uint64_t from)
{
  return (struct dg_match){
      .from = from & (UINT64_MAX >> 2), .kind = kind & 3, .at = at, .len = len};
}

/* In ascending order of `at`, never overlapping; what lies between is literal. */
struct dg_matches {
  struct dg_match *items;
  size_t count;
  size_t capacity;
  uint64_t source_low; /* the reference bytes that all source copies lie in */
  uint64_t source_high;
};

/* Scratch memory of one thread: reused from window to window. */
struct dg_matcher;
struct dg_matcher *dg_matcher_new(void);
void dg_matcher_free(struct dg_matcher *matcher); /* NULL is fine */

struct dg_match_input {
  const struct dg_index *index; /* NULL: match inside the window only */
  const uint8_t *reference;
  uint64_t reference_size;
  const uint8_t *window;
  uint32_t window_size;    /* at most DG_MATCH_MAX_WINDOW */
  uint64_t window_offset;  /* of the window in the target: the first diagonal tried */
};

/* Finds the matches of one window. The result belongs to the matcher and stays
 * valid until its next call. One thread at a time. */
const struct dg_matches *dg_matcher_run(struct dg_matcher *matcher,
                                        const struct dg_match_input *input);

#endif
