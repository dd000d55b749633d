/* SPDX-License-Identifier: Apache-2.0 */
/* Reference and target out of the input, through our encoder and back. Input:
 * method, where the reference ends, then commands that build the target from
 * pieces of the reference and fresh bytes. */
#include "config.h"

#include "tests/fuzz/codec-memory.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "common/banned.h"

#define TARGET_MAX 200000

static void build_target(GByteArray *target, const uint8_t *reference, size_t reference_size,
                         const uint8_t *at, const uint8_t *end)
{
  while (end - at >= 4 && target->len < TARGET_MAX) {
    size_t where = (size_t)at[1] << 8 | at[2];
    size_t len = (size_t)at[3] * (at[0] & 0x40 ? 50 : 1);

    if (at[0] & 0x80 && reference_size > 0) {
      where = where * 31 % reference_size;
      g_byte_array_append(target, reference + where, (guint)MIN(len, reference_size - where));
      at += 4;
    } else if (at[0] & 0x20 && target->len > 0) {
      for (size_t i = 0, from = where % target->len; i < len; i++) {
        uint8_t byte = target->data[from + i];

        g_byte_array_append(target, &byte, 1);
      }
      at += 4;
    } else {
      len = MIN((size_t)(end - at), 1 + (size_t)(at[0] & 0x1f));
      g_byte_array_append(target, at, (guint)len);
      at += len;
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const secondaries[] = {"none", "djw", "lzma"};
  g_autoptr(GByteArray) reference = g_byte_array_new();
  g_autoptr(GByteArray) target = g_byte_array_new();
  g_autoptr(GByteArray) delta = g_byte_array_new();
  g_autoptr(GByteArray) back = NULL;
  struct dg_encode_params params = {.struct_size = sizeof params};
  struct dg_encode_summary summary = {.struct_size = sizeof summary};
  uint8_t sha256[32] = {0};
  struct dg_encoder *encoder = NULL;
  struct dg_codec_ref *ref;
  struct dg_error err = {0};
  const void *part;
  size_t part_len, reference_len;
  uint64_t window, at = 0, number = 0;
  void *codec;

  if (size < 4)
    return 0;
  reference_len = MIN((size_t)data[1] << 8 | data[2], size - 3);
  /* Each byte of the input stands for a stretch, so that matches can grow. */
  for (size_t i = 0; i < reference_len; i++)
    for (unsigned k = 0; k < 1u + (data[3 + i] & 7); k++) {
      uint8_t byte = (uint8_t)(data[3 + i] * (k + 1) + i);

      g_byte_array_append(reference, &byte, 1);
    }
  build_target(target, reference->data, reference->len, data + 3 + reference_len, data + size);
  codec = memory_codec_new(secondaries[data[0] % 3], 1 << 16);
  ref = memory_ref_new(codec, reference->data, reference->len, 0);
  params.target_size = target->len;
  FUZZ_CHECK(codec_ops.encode_open(codec, NULL, ref, &params, &encoder, &err) == 0);
  window = codec_ops.encode_window_size(encoder);
  do {
    size_t len = (size_t)MIN(window, target->len - at);
    g_autofree uint8_t *exact = g_malloc(len + 1);

    if (len > 0)
      memcpy(exact + 1, target->data + at, len);
    FUZZ_CHECK(codec_ops.encode_window(encoder, number, exact + 1, len, &part, &part_len, &err) ==
               0);
    g_byte_array_append(delta, part, (guint)part_len);
    codec_ops.encode_release(encoder, number++);
    at += len;
  } while (at < target->len);
  FUZZ_CHECK(codec_ops.encode_finish(encoder, sha256, &summary, &part, &err) == 0);
  g_byte_array_prepend(delta, part, (guint)summary.header_size);
  codec_ops.encode_close(encoder);
  back = memory_decode(codec, ref, delta, target->len, (struct dg_range){0, DG_TO_END}, &err);
  FUZZ_CHECK(back != NULL && back->len == target->len);
  FUZZ_CHECK(back->len == 0 || memcmp(back->data, target->data, back->len) == 0);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  return 0;
}
