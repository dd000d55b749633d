/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns the matches of a window into the bytes of a VCDIFF window: codes the
 * instructions, chooses address modes, adds the checksum, and applies
 * secondary compression to the sections that gain from it.
 */
#ifndef DG_COMMON_VCDIFF_EMIT_H
#define DG_COMMON_VCDIFF_EMIT_H

#include <stddef.h>
#include <stdint.h>

#include "common/vcdiff/match.h"
#include "common/vcdiff/secondary.h"

struct dg_error;

/* Scratch memory and the last result. One thread at a time. */
struct dg_emitter;
struct dg_emitter *dg_emitter_new(void);
void dg_emitter_free(struct dg_emitter *emitter); /* NULL is fine */

struct dg_emit_input {
  const uint8_t *window;
  uint32_t window_size;
  uint32_t secondary;              /* DG_SECONDARY_NONE, _DJW or _LZMA */
  const struct dg_matches *matches;
  uint64_t reference_size;
  struct dg_lzma_encoder *lzma;    /* _LZMA only: the windows come in order */
};

/* Writes one window. *ret_data belongs to the emitter until its next call. */
int dg_emitter_run(struct dg_emitter *emitter, const struct dg_emit_input *input,
                   const uint8_t **ret_data, size_t *ret_len, struct dg_error *err);

#endif
