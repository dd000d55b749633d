/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/codetable.h"

#include "common/banned.h"

/* The rows in the order of the RFC's own summary, so that the table can be
 * compared with it line by line. */
#define ADD(s)                                                                                     \
  {                                                                                                \
    DG_VCD_ADD, (s), 0, DG_VCD_NOOP, 0, 0                                                          \
  }
#define COPY(m, s)                                                                                 \
  {                                                                                                \
    DG_VCD_COPY, (s), (m), DG_VCD_NOOP, 0, 0                                                       \
  }
#define PAIR(a, m, c)                                                                              \
  {                                                                                                \
    DG_VCD_ADD, (a), 0, DG_VCD_COPY, (c), (m)                                                      \
  }
#define TAIL(m)                                                                                    \
  {                                                                                                \
    DG_VCD_COPY, 4, (m), DG_VCD_ADD, 1, 0                                                          \
  }

#define COPIES(m)                                                                                  \
  COPY(m, 0), COPY(m, 4), COPY(m, 5), COPY(m, 6), COPY(m, 7), COPY(m, 8), COPY(m, 9), COPY(m, 10), \
      COPY(m, 11), COPY(m, 12), COPY(m, 13), COPY(m, 14), COPY(m, 15), COPY(m, 16), COPY(m, 17),   \
      COPY(m, 18)
#define PAIR_SIZES(a, m) PAIR(a, m, 4), PAIR(a, m, 5), PAIR(a, m, 6)
#define PAIRS(m)         PAIR_SIZES(1, m), PAIR_SIZES(2, m), PAIR_SIZES(3, m), PAIR_SIZES(4, m)
#define PAIRS_SAME(m)    PAIR(1, m, 4), PAIR(2, m, 4), PAIR(3, m, 4), PAIR(4, m, 4)

const struct dg_vcd_code dg_vcd_codes[256] = {
    {DG_VCD_RUN, 0, 0, DG_VCD_NOOP, 0, 0},
    ADD(0),
    ADD(1),
    ADD(2),
    ADD(3),
    ADD(4),
    ADD(5),
    ADD(6),
    ADD(7),
    ADD(8),
    ADD(9),
    ADD(10),
    ADD(11),
    ADD(12),
    ADD(13),
    ADD(14),
    ADD(15),
    ADD(16),
    ADD(17),
    COPIES(0),
    COPIES(1),
    COPIES(2),
    COPIES(3),
    COPIES(4),
    COPIES(5),
    COPIES(6),
    COPIES(7),
    COPIES(8),
    PAIRS(0),
    PAIRS(1),
    PAIRS(2),
    PAIRS(3),
    PAIRS(4),
    PAIRS(5),
    PAIRS_SAME(6),
    PAIRS_SAME(7),
    PAIRS_SAME(8),
    TAIL(0),
    TAIL(1),
    TAIL(2),
    TAIL(3),
    TAIL(4),
    TAIL(5),
    TAIL(6),
    TAIL(7),
    TAIL(8),
};
