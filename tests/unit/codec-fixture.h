/* SPDX-License-Identifier: Apache-2.0 */
/* A codec-xdelta3 instance in a test's own process, and the stock xdelta3
 * beside it. Everything aborts the test on failure. */
#ifndef DG_TESTS_UNIT_CODEC_FIXTURE_H
#define DG_TESTS_UNIT_CODEC_FIXTURE_H

#include <glib.h>

#include "plugins/codec-xdelta3/codec.h"

/* A directory of its own, removed with everything in it by fixture_close(). */
struct fixture {
  char *directory;
  char *cache_directory;
  GString *log; /* one line per event */
  struct dg_host host;
};

void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);

char *fixture_path(const struct fixture *fixture, const char *name);
void fixture_write(const struct fixture *fixture, const char *name, const void *data, size_t len);

/* secondary: "none", "djw", "lzma". Free with codec_ops.destroy(). */
void *fixture_codec(struct fixture *fixture, const char *secondary, uint64_t window_size);

/* Opens a reference through a file. flags: DG_CODEC_REF_*. */
struct dg_codec_ref *fixture_ref(struct fixture *fixture, void *codec, const GByteArray *reference,
                                 uint32_t flags);

/* A whole delta, header first. ref NULL: identity. */
GByteArray *fixture_encode(void *codec, const struct dg_codec_ref *ref, const void *target,
                           size_t len);

/* What `xdelta3 -d` makes of a delta. */
GByteArray *fixture_xdelta3_decode(struct fixture *fixture, const GByteArray *reference,
                                   const GByteArray *delta);

/* Deterministic noise. */
uint64_t fixture_random(uint64_t *seed);
void fixture_append_noise(GByteArray *out, uint64_t *seed, size_t len);

#endif
