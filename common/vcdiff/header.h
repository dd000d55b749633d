/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VCDIFF file header, and `dgx1`, the window index that our own deltas
 * carry in its application header. doc/dgx1.md documents the latter to the
 * byte; tools that do not know it skip it.
 *
 * [any] Pure functions.
 */
#ifndef DG_COMMON_VCDIFF_HEADER_H
#define DG_COMMON_VCDIFF_HEADER_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

struct dg_error;

/* Largest window any xdelta3 decodes: a compiled-in limit of that program. */
#define DG_VCD_WINDOW_MAX   (16u << 20)

/* ---- The file header ------------------------------------------------------- */

#define DG_VCD_HEADER_PROBE 32u /* bytes that always hold all but the app header */

struct dg_vcd_header {
  uint32_t secondary;  /* DG_SECONDARY_* */
  uint64_t app_offset; /* of the application header; app_size 0: there is none */
  uint64_t app_size;
  uint64_t size_bytes; /* of the whole header: where the first window starts */
};

/* Parses what stands before the first window. bytes are the first len bytes of
 * a delta of delta_size bytes; len is at least DG_VCD_HEADER_PROBE or the
 * whole delta. The app header need not be in them.
 * DG_E_CORRUPT; DG_E_UNSUPPORTED for a code table of the file's own. */
int dg_vcd_header_parse(const uint8_t *bytes, size_t len, uint64_t delta_size,
                        struct dg_vcd_header *ret_header, struct dg_error *err);

/* ---- dgx1 ------------------------------------------------------------------- */

#define DG_DGX1_MAGIC        "dgx1" /* with its NUL */
#define DG_DGX1_FIXED_SIZE   64u
#define DG_DGX1_ENTRY_SIZE   20u
#define DG_DGX1_TRAILER_SIZE 8u
#define DG_DGX1_MAX_SIZE     (32u << 20) /* of one app header we are willing to read */
#define DG_DGX1_DIGEST_SIZE  16u

struct dg_dgx1_window {
  uint32_t delta_size;                 /* the window's bytes in the delta, its header included */
  uint8_t digest[DG_DGX1_DIGEST_SIZE]; /* dg_window_digest() of its target */
};

struct dg_dgx1 {
  uint64_t target_size;
  uint64_t reference_size;
  uint32_t window_size; /* bytes of target in every window but the last */
  uint32_t window_count;
  uint8_t target_sha256[32];
};

/* XXH3-128 of one window's target, in canonical (big-endian) order. */
void dg_window_digest(const void *target, size_t len, uint8_t ret_digest[DG_DGX1_DIGEST_SIZE]);

/* Appends a whole file header with the index to out: magic, secondary id
 * (DG_SECONDARY_*), application header. index->window_count windows.
 * DG_E_LIMIT when the index would pass DG_DGX1_MAX_SIZE. */
int dg_dgx1_write(uint32_t secondary, const struct dg_dgx1 *index,
                  const struct dg_dgx1_window *windows, GByteArray *out, struct dg_error *err);

/* Non-zero if an application header that begins with these bytes is ours. */
int dg_dgx1_is(const uint8_t *app, size_t len);

/* Parses a whole application header. Checks its own integrity and that its
 * figures agree with each other; what they say about the object is the
 * caller's to check. Entries are read with dg_dgx1_entry(). DG_E_CORRUPT. */
int dg_dgx1_parse(const uint8_t *app, size_t len, struct dg_dgx1 *ret_index, struct dg_error *err);

/* Entry number (< window_count) of a parsed application header. */
void dg_dgx1_entry(const uint8_t *app, uint32_t number, struct dg_dgx1_window *ret_window);

#endif
