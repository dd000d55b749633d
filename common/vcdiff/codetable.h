/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default code table of RFC 3284 section 5.6, read both ways: what an
 * opcode stands for, and which opcode stands for an instruction.
 *
 * [any] Constant data and pure functions.
 */
#ifndef DG_COMMON_VCDIFF_CODETABLE_H
#define DG_COMMON_VCDIFF_CODETABLE_H

#include <stdint.h>

/* Instruction types. */
#define DG_VCD_NOOP          0u
#define DG_VCD_ADD           1u
#define DG_VCD_RUN           2u
#define DG_VCD_COPY          3u

/* Address modes of COPY: 0 absolute, 1 back from here, then the caches. */
#define DG_VCD_MODE_SELF     0u
#define DG_VCD_MODE_HERE     1u
#define DG_VCD_MODE_NEAR     2u /* ..5: relative to one of the four recent addresses */
#define DG_VCD_MODE_SAME     6u /* ..8: one byte picks from three tables of 256 */
#define DG_VCD_MODES         9u
#define DG_VCD_NEAR_SLOTS    4u
#define DG_VCD_SAME_SLOTS    768u

/* Bits of the file header, the window header and the delta indicator. */
#define DG_VCD_HDR_SECONDARY 0x01u
#define DG_VCD_HDR_CODETABLE 0x02u
#define DG_VCD_HDR_APPHEADER 0x04u
#define DG_VCD_WIN_SOURCE    0x01u
#define DG_VCD_WIN_TARGET    0x02u
#define DG_VCD_WIN_ADLER32   0x04u /* xdelta3's: four big-endian bytes behind the lengths */
#define DG_VCD_SEC_DATA      0x01u /* this section went through the secondary compressor */
#define DG_VCD_SEC_INST      0x02u
#define DG_VCD_SEC_ADDR      0x04u

/* One row: up to two instructions. A size of 0 (but for NOOP) means that the
 * size follows the opcode as an integer. mode counts for COPY only. */
struct dg_vcd_code {
  uint8_t type1, size1, mode1;
  uint8_t type2, size2, mode2;
};

extern const struct dg_vcd_code dg_vcd_codes[256];

#define DG_VCD_OP_RUN 0u /* its size always follows */

/* Opcode of a lone ADD. With *ret_size_follows the integer size comes next. */
static inline uint8_t dg_vcd_op_add(uint64_t size, int *ret_size_follows)
{
  *ret_size_follows = size > 17;
  return (uint8_t)(size > 17 ? 1 : 1 + size);
}

/* Opcode of a lone COPY. */
static inline uint8_t dg_vcd_op_copy(unsigned mode, uint64_t size, int *ret_size_follows)
{
  int coded = size >= 4 && size <= 18;

  *ret_size_follows = !coded;
  return (uint8_t)(19 + 16 * mode + (coded ? (unsigned)size - 3 : 0));
}

/* Opcode of ADD then COPY in one, or 0 when the table has none. */
static inline uint8_t dg_vcd_op_add_copy(uint64_t add_size, unsigned mode, uint64_t copy_size)
{
  if (add_size < 1 || add_size > 4 || copy_size < 4)
    return 0;
  if (mode < DG_VCD_MODE_SAME)
    return copy_size > 6 ? 0 : (uint8_t)(163 + 12 * mode + 3 * (add_size - 1) + (copy_size - 4));
  return copy_size > 4 ? 0 : (uint8_t)(235 + 4 * (mode - DG_VCD_MODE_SAME) + (add_size - 1));
}

/* Opcode of COPY then ADD in one, or 0 when the table has none. */
static inline uint8_t dg_vcd_op_copy_add(unsigned mode, uint64_t copy_size, uint64_t add_size)
{
  return copy_size == 4 && add_size == 1 ? (uint8_t)(247 + mode) : 0;
}

#endif
