/* SPDX-License-Identifier: Apache-2.0 */
/* Whole deltas: header, windows, sections, instructions. */
#include "config.h"

#include "tests/fuzz/codec-memory.h"
#include "tests/fuzz/fuzz.h"

#include "common/vcdiff/header.h"
#include "common/vcdiff/window.h"

#include <string.h>

#include "common/banned.h"

#define REFERENCE_SIZE 5000
#define TARGET_MAX     (4u << 20)

/* What the windows say they add up to, so that the size does not end every run
 * at once. */
static uint64_t declared_size(const uint8_t *data, size_t size)
{
  struct dg_vcd_header header;
  struct dg_vcd_window window;
  struct dg_error err;
  uint64_t total = 0;
  uint64_t at;

  if (dg_vcd_header_parse(data, size, size, &header, &err) < 0)
    return 0;
  for (at = header.size_bytes; at < size; at += window.size_bytes) {
    if (dg_vcd_window_parse(data + at, size - at, &window, &err) < 0 ||
        window.size_bytes > size - at)
      break;
    total += window.target_size;
  }
  return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  uint8_t reference[REFERENCE_SIZE];
  g_autoptr(GByteArray) delta = g_byte_array_new();
  g_autoptr(GByteArray) whole = NULL;
  g_autoptr(GByteArray) part = NULL;
  uint64_t target_size = declared_size(data, size);
  struct dg_range range = {target_size / 3, target_size / 2};
  struct dg_codec_ref *ref;
  struct dg_error err = {0};
  void *codec;

  if (target_size > TARGET_MAX)
    return 0;
  for (size_t i = 0; i < sizeof reference; i++)
    reference[i] = (uint8_t)(i * i >> 7 ^ i);
  g_byte_array_append(delta, data, (guint)size);
  codec = memory_codec_new("none", 1 << 16);
  ref = memory_ref_new(codec, reference, sizeof reference, DG_CODEC_REF_DECODE_ONLY);
  whole = memory_decode(codec, ref, delta, target_size, (struct dg_range){0, DG_TO_END}, &err);
  part = memory_decode(codec, ref, delta, target_size, range, &err);
  if (whole != NULL) {
    FUZZ_CHECK(whole->len == target_size);
    FUZZ_CHECK(part != NULL && part->len == range.length);
    FUZZ_CHECK(part->len == 0 || memcmp(part->data, whole->data + range.offset, part->len) == 0);
  }
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  return 0;
}
