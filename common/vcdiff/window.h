/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VCDIFF window: its header, and its instructions carried out.
 *
 * [any] Everything works on the caller's memory; nothing is allocated.
 */
#ifndef DG_COMMON_VCDIFF_WINDOW_H
#define DG_COMMON_VCDIFF_WINDOW_H

#include "common/vcdiff/secondary.h"

#include <stddef.h>
#include <stdint.h>

struct dg_error;

#define DG_VCD_WINDOW_PROBE               80u /* bytes that hold any window's header */

/* Bytes that the decoder may read behind every section, and write behind the
 * target. Their values do not matter, and the target's are lost. */
#define DG_VCD_SLACK                      64u

/* The largest section any sane encoder needs for a window of this target. */
#define DG_VCD_SECTION_LIMIT(target_size) ((size_t)(target_size)*3 + 65536)

struct dg_vcd_window {
  uint32_t indicator;  /* DG_VCD_WIN_* */
  uint32_t compressed; /* DG_VCD_SEC_* */
  uint64_t source_size;
  uint64_t source_offset;
  uint32_t target_size;
  uint32_t section_size[DG_SECTIONS]; /* as they stand in the delta, in this order */
  uint32_t adler32;                   /* with DG_VCD_WIN_ADLER32 */
  uint32_t header_size;               /* bytes up to the first section */
  uint64_t size_bytes;                /* of the whole window */
};

/* Parses a window's header from the first len bytes of it: at least
 * DG_VCD_WINDOW_PROBE, or all there is. Does not look at the sections.
 * DG_E_CORRUPT; DG_E_LIMIT for a target above DG_VCD_WINDOW_MAX or sections
 * out of proportion; DG_E_UNSUPPORTED for a window that copies from the
 * target file, which no xdelta3 reads or writes. */
int dg_vcd_window_parse(const uint8_t *bytes, size_t len, struct dg_vcd_window *ret_window,
                        struct dg_error *err);

/* The three sections in plain form. DG_VCD_SLACK bytes behind each may be read. */
struct dg_vcd_sections {
  const uint8_t *data[DG_SECTIONS];
  size_t size[DG_SECTIONS];
};

/* Carries out a window's instructions. reference is the whole reference file,
 * in which the window's source segment lies; target has room for
 * target_size + DG_VCD_SLACK bytes. Does not look at the Adler-32. Whatever
 * the input, nothing outside these is touched. DG_E_CORRUPT. */
int dg_vcd_window_decode(const struct dg_vcd_window *window, const struct dg_vcd_sections *sections,
                         const uint8_t *reference, uint64_t reference_size, uint8_t *target,
                         struct dg_error *err);

/* The same without special instructions of the processor, for tests. */
int dg_vcd_window_decode_portable(const struct dg_vcd_window *window,
                                  const struct dg_vcd_sections *sections, const uint8_t *reference,
                                  uint64_t reference_size, uint8_t *target, struct dg_error *err);

#endif
