/* SPDX-License-Identifier: Apache-2.0 */
/* codec-xdelta3 on bytes in memory, for fuzz targets. Ends the run when
 * something fails that must not. */
#ifndef DG_TESTS_FUZZ_CODEC_MEMORY_H
#define DG_TESTS_FUZZ_CODEC_MEMORY_H

#include "plugins/codec-xdelta3/codec.h"

/* secondary: "none", "djw", "lzma". */
void *memory_codec_new(const char *secondary, int64_t window_size);

/* A reference of these bytes. Freed with codec_ops.ref_close(). */
struct dg_codec_ref *memory_ref_new(void *codec, const uint8_t *bytes, size_t len, uint32_t flags);

/* read_at over a GByteArray. */
struct dg_source memory_source(const GByteArray *bytes);

/* Decodes a range. Returns NULL with err filled when that fails. */
GByteArray *memory_decode(void *codec, const struct dg_codec_ref *ref, const GByteArray *delta,
                          uint64_t target_size, struct dg_range range, struct dg_error *err);

#endif
