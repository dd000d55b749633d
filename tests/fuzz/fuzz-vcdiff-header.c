/* SPDX-License-Identifier: Apache-2.0 */
/* The file header and the dgx1 index. The index's own checksum would stop every
 * mutation, so the target repairs it first. What parses must come out of the
 * writer byte for byte. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "common/vcdiff/header.h"

#include <deltaglider/plugin.h>
#include <string.h>
#include <xxhash.h>

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  g_autofree uint8_t *bytes = g_memdup2(data, size);
  g_autoptr(GByteArray) again = g_byte_array_new();
  g_autofree struct dg_dgx1_window *windows = NULL;
  struct dg_vcd_header header;
  struct dg_dgx1 index;
  struct dg_error err = {0};
  uint8_t *app;

  if (dg_vcd_header_parse(bytes, size, size, &header, &err) < 0)
    return 0;
  FUZZ_CHECK(header.size_bytes <= size);
  FUZZ_CHECK(header.app_size == 0 || header.app_offset + header.app_size == header.size_bytes);
  if (header.app_size < DG_DGX1_FIXED_SIZE + DG_DGX1_TRAILER_SIZE)
    return 0;
  app = bytes + header.app_offset;
  XXH64_canonicalFromHash((XXH64_canonical_t *)(void *)(app + header.app_size - 8),
                          XXH3_64bits(app, (size_t)header.app_size - 8));
  if (dg_dgx1_parse(app, (size_t)header.app_size, &index, &err) < 0)
    return 0;
  windows = g_new(struct dg_dgx1_window, index.window_count);
  for (uint32_t i = 0; i < index.window_count; i++)
    dg_dgx1_entry(app, i, &windows[i]);
  FUZZ_CHECK(dg_dgx1_write(header.secondary, &index, windows, again, &err) == 0);
  /* The length of the app header has more than one spelling. */
  FUZZ_CHECK(again->len >= header.app_size);
  FUZZ_CHECK(memcmp(again->data + again->len - header.app_size, app, (size_t)header.app_size) == 0);
  return 0;
}
