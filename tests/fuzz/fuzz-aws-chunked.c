/* SPDX-License-Identifier: Apache-2.0 */
/* aws-chunked bodies. Byte 0 chooses mode, signatures and the size of pieces;
 * the rest is the body. Whole or in pieces, the outcome must be the same. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>

#include "common/slice.h"
#include "core/s3/aws_chunked.h"

#include "common/banned.h"

static int32_t decode(uint8_t choice, size_t piece, const uint8_t *data, size_t size,
                      GString *payload)
{
  static const struct dg_sigv4_seed seed = {.timestamp = "20130524T000000Z",
                                            .scope = "20130524/us-east-1/s3/aws4_request"};
  enum dg_payload_mode mode = DG_PAYLOAD_SIGNED_CHUNKS + choice % 3;
  struct dg_aws_chunked *decoder =
      dg_aws_chunked_new(mode, choice & 4 ? &seed : NULL, choice & 8 ? 16 : DG_TO_END);
  struct dg_error err = {0};

  for (size_t at = 0; at < size && err.code == 0; at += piece) {
    /* Exact copies, so that a sanitizer sees each piece's end. */
    g_autofree char *exact = g_memdup2(data + at, MIN(piece, size - at));
    struct dg_slice input = dg_slice_of(exact, MIN(piece, size - at)), out;

    while (input.len) {
      if (dg_aws_chunked_feed(decoder, &input, &out, &err) < 0)
        break;
      dg_slice_append(payload, out);
    }
  }
  if (err.code == 0 && dg_aws_chunked_finish(decoder, &err) == 0) {
    FUZZ_CHECK(dg_aws_chunked_size(decoder) == payload->len);
    (void)dg_aws_chunked_trailer(decoder, "x-amz-checksum-crc32");
  }
  dg_aws_chunked_free(decoder);
  return err.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  g_autoptr(GString) whole = g_string_new(NULL);
  g_autoptr(GString) pieces = g_string_new(NULL);
  int32_t code;

  if (size == 0)
    return 0;
  code = decode(data[0], size, data + 1, size - 1, whole);
  FUZZ_CHECK(decode(data[0], 1 + (data[0] >> 4), data + 1, size - 1, pieces) == code);
  FUZZ_CHECK(code != 0 || g_string_equal(whole, pieces));
  return 0;
}
