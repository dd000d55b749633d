/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked coding: the same bytes in one piece, and in pieces of which the
 * first input byte tells the size, some of their payload taken unseen as the
 * gate does it, must give the same payload and the same end. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "core/http/chunked.h"

#include "common/banned.h"

struct outcome {
  enum dg_chunked_result result;
  uint64_t payload, sum;
  size_t used;
};

static void add(struct outcome *outcome, const uint8_t *data, size_t len)
{
  outcome->payload += len;
  for (size_t i = 0; i < len; i++)
    outcome->sum = outcome->sum * 31 + data[i];
}

static struct outcome decode(const uint8_t *data, size_t size, size_t piece, int unseen)
{
  struct dg_chunked chunked = {0};
  struct outcome outcome = {.result = DG_CHUNKED_MORE};

  while (outcome.used < size) {
    size_t here = size - outcome.used < piece ? size - outcome.used : piece, skip, len;
    uint64_t left = dg_chunked_payload_left(&chunked);

    if (unseen && left > 0) {
      if (here > left)
        here = (size_t)left;
      add(&outcome, data + outcome.used, here);
      dg_chunked_took(&chunked, here);
      outcome.used += here;
      continue;
    }
    outcome.result = dg_chunked_step(&chunked, data + outcome.used, here, &skip, &len);
    FUZZ_CHECK(skip + len <= here);
    FUZZ_CHECK(outcome.result == DG_CHUNKED_DATA ? len > 0 : len == 0);
    add(&outcome, data + outcome.used + skip, len);
    outcome.used += skip + len;
    if (outcome.result == DG_CHUNKED_MALFORMED || outcome.result == DG_CHUNKED_END)
      return outcome;
  }
  outcome.result = DG_CHUNKED_MORE;
  return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct outcome whole, parts;
  size_t piece;

  if (size < 1)
    return 0;
  piece = (size_t)data[0] % 61 + 1;
  whole = decode(data + 1, size - 1, size, 0);
  parts = decode(data + 1, size - 1, piece, data[0] & 1);
  FUZZ_CHECK(whole.result == parts.result);
  FUZZ_CHECK(whole.payload == parts.payload && whole.sum == parts.sum);
  FUZZ_CHECK(whole.used == parts.used);
  return 0;
}
