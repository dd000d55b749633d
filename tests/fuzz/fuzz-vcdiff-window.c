/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions of one window, by both paths of the decoder. Input: lengths of
 * the data and address sections and of the target, two bytes each; data;
 * addresses; instructions. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include "common/vcdiff/window.h"

#include <deltaglider/plugin.h>
#include <glib.h>
#include <string.h>

#include "common/banned.h"

#define REFERENCE_SIZE 300

static unsigned take(const uint8_t **data, size_t *size)
{
  unsigned value = (unsigned)(*data)[0] << 8 | (*data)[1];

  *data += 2;
  *size -= 2;
  return value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  uint8_t reference[REFERENCE_SIZE];
  struct dg_vcd_window window = {.source_offset = 7};
  struct dg_vcd_sections sections;
  size_t lens[DG_SECTIONS];
  static const unsigned order[DG_SECTIONS] = {DG_SECTION_DATA, DG_SECTION_ADDR, DG_SECTION_INST};
  uint8_t *blocks[DG_SECTIONS], *targets[2];
  int results[2];
  struct dg_error err = {0};

  if (size < 6)
    return 0;
  lens[0] = take(&data, &size);
  lens[1] = take(&data, &size);
  window.target_size = take(&data, &size);
  lens[0] = MIN(lens[0], size);
  lens[1] = MIN(lens[1], size - lens[0]);
  lens[2] = size - lens[0] - lens[1];
  window.source_size = window.target_size % (REFERENCE_SIZE - 6);
  for (size_t i = 0; i < sizeof reference; i++)
    reference[i] = (uint8_t)(i * 7);
  for (unsigned i = 0; i < DG_SECTIONS; i++) {
    blocks[i] = g_malloc(lens[i] + DG_VCD_SLACK);
    memcpy(blocks[i], data, lens[i]);
    memset(blocks[i] + lens[i], 0xff, DG_VCD_SLACK);
    data += lens[i];
    sections.data[order[i]] = blocks[i];
    sections.size[order[i]] = lens[i];
  }
  for (unsigned i = 0; i < 2; i++) {
    targets[i] = g_malloc(window.target_size + DG_VCD_SLACK);
    results[i] = (i == 0 ? dg_vcd_window_decode : dg_vcd_window_decode_portable)(
        &window, &sections, reference, sizeof reference, targets[i], &err);
  }
  FUZZ_CHECK(results[0] == results[1]);
  if (results[0] == 0)
    FUZZ_CHECK(memcmp(targets[0], targets[1], window.target_size) == 0);
  for (unsigned i = 0; i < DG_SECTIONS; i++)
    g_free(blocks[i]);
  g_free(targets[0]);
  g_free(targets[1]);
  return 0;
}
