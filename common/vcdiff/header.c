/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/header.h"

#include "common/vcdiff/codetable.h"
#include "common/vcdiff/secondary.h"
#include "common/vcdiff/varint.h"

#include <deltaglider/plugin.h>
#include <string.h>

/* On x86 the library chooses the widest vectors the processor has, which more
 * than doubles the speed of every window's digest. */
#if defined(__x86_64__) && defined(HAVE_XXH_X86DISPATCH_H)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include "common/banned.h"

static const uint8_t vcd_magic[4] = {0xd6, 0xc3, 0xc4, 0x00};

int dg_vcd_header_parse(const uint8_t *bytes, size_t len, uint64_t delta_size,
                        struct dg_vcd_header *ret_header, struct dg_error *err)
{
  struct dg_vcd_header header = {.secondary = DG_SECONDARY_NONE};
  const uint8_t *at, *end;
  uint8_t indicator;

  if (len < sizeof vcd_magic + 1 || memcmp(bytes, vcd_magic, sizeof vcd_magic) != 0)
    return dg_fail(err, DG_E_CORRUPT, "not a VCDIFF delta: magic missing");
  at = bytes + sizeof vcd_magic;
  end = bytes + len;
  indicator = *at++;
  if (indicator & ~(DG_VCD_HDR_SECONDARY | DG_VCD_HDR_CODETABLE | DG_VCD_HDR_APPHEADER))
    return dg_fail(err, DG_E_CORRUPT, "VCDIFF header: unknown indicator bits 0x%02x", indicator);
  if (indicator & DG_VCD_HDR_CODETABLE)
    return dg_fail(err, DG_E_UNSUPPORTED,
                   "VCDIFF header: application code tables are not supported");
  if (indicator & DG_VCD_HDR_SECONDARY) {
    if (at >= end)
      return dg_fail(err, DG_E_CORRUPT, "VCDIFF header: cut off");
    header.secondary = *at++;
    if (header.secondary != DG_SECONDARY_DJW && header.secondary != DG_SECONDARY_LZMA &&
        header.secondary != DG_SECONDARY_FGK)
      return dg_fail(err, DG_E_UNSUPPORTED, "VCDIFF header: unknown secondary compressor %u",
                     header.secondary);
  }
  if (indicator & DG_VCD_HDR_APPHEADER) {
    if (dg_varint_get(&at, end, &header.app_size) < 0)
      return dg_fail(err, DG_E_CORRUPT, "VCDIFF header: cut off");
    header.app_offset = (uint64_t)(at - bytes);
    if (header.app_size > delta_size - header.app_offset)
      return dg_fail(err, DG_E_CORRUPT, "VCDIFF header: application header cut off");
  }
  header.size_bytes = (uint64_t)(at - bytes) + header.app_size;
  *ret_header = header;
  return 0;
}

/* ---- dgx1 ------------------------------------------------------------------- */

static uint8_t *put_be(uint8_t *out, uint64_t value, unsigned bytes)
{
  for (unsigned i = bytes; i-- > 0; value >>= 8)
    out[i] = (uint8_t)value;
  return out + bytes;
}

static uint64_t get_be(const uint8_t *in, unsigned bytes)
{
  uint64_t value = 0;

  for (unsigned i = 0; i < bytes; i++)
    value = value << 8 | in[i];
  return value;
}

void dg_window_digest(const void *target, size_t len, uint8_t ret_digest[DG_DGX1_DIGEST_SIZE])
{
  XXH128_canonical_t canonical;

  XXH128_canonicalFromHash(&canonical, XXH3_128bits(target, len));
  memcpy(ret_digest, canonical.digest, DG_DGX1_DIGEST_SIZE);
}

/* The windows a target of this size has, or 0 if the figures make no sense.
 * An empty target has one empty window, as xdelta3 writes it. */
static uint64_t count_windows(uint64_t target_size, uint64_t window_size)
{
  if (window_size == 0 || window_size > DG_VCD_WINDOW_MAX)
    return 0;
  return target_size == 0 ? 1 : (target_size - 1) / window_size + 1;
}

int dg_dgx1_write(uint32_t secondary, const struct dg_dgx1 *index,
                  const struct dg_dgx1_window *windows, GByteArray *out, struct dg_error *err)
{
  uint64_t app_size = DG_DGX1_FIXED_SIZE + (uint64_t)index->window_count * DG_DGX1_ENTRY_SIZE +
                      DG_DGX1_TRAILER_SIZE;
  uint8_t lead[sizeof vcd_magic + 2 + DG_VARINT_MAX];
  uint8_t *at = lead;
  guint start;

  if (count_windows(index->target_size, index->window_size) != index->window_count)
    return dg_fail(err, DG_E_INTERNAL, "dgx1: %u windows do not make up the target",
                   index->window_count);
  if (app_size > DG_DGX1_MAX_SIZE)
    return dg_fail(err, DG_E_LIMIT, "dgx1: %u windows are too many", index->window_count);
  memcpy(at, vcd_magic, sizeof vcd_magic);
  at += sizeof vcd_magic;
  *at++ =
      (uint8_t)(DG_VCD_HDR_APPHEADER | (secondary == DG_SECONDARY_NONE ? 0 : DG_VCD_HDR_SECONDARY));
  if (secondary != DG_SECONDARY_NONE)
    *at++ = (uint8_t)secondary;
  at = dg_varint_put(at, app_size);
  g_byte_array_append(out, lead, (guint)(at - lead));

  start = out->len;
  g_byte_array_set_size(out, start + (guint)app_size);
  at = out->data + start;
  memset(at, 0, DG_DGX1_FIXED_SIZE);
  memcpy(at, DG_DGX1_MAGIC, sizeof DG_DGX1_MAGIC);
  put_be(at + 8, index->target_size, 8);
  put_be(at + 16, index->reference_size, 8);
  put_be(at + 24, index->window_size, 4);
  put_be(at + 28, index->window_count, 4);
  memcpy(at + 32, index->target_sha256, 32);
  at += DG_DGX1_FIXED_SIZE;
  for (uint32_t i = 0; i < index->window_count; i++) {
    at = put_be(at, windows[i].delta_size, 4);
    memcpy(at, windows[i].digest, DG_DGX1_DIGEST_SIZE);
    at += DG_DGX1_DIGEST_SIZE;
  }
  put_be(at, XXH3_64bits(out->data + start, (size_t)(at - (out->data + start))),
         DG_DGX1_TRAILER_SIZE);
  return 0;
}

int dg_dgx1_is(const uint8_t *app, size_t len)
{
  return len >= sizeof DG_DGX1_MAGIC && memcmp(app, DG_DGX1_MAGIC, sizeof DG_DGX1_MAGIC) == 0;
}

int dg_dgx1_parse(const uint8_t *app, size_t len, struct dg_dgx1 *ret_index, struct dg_error *err)
{
  struct dg_dgx1 index;

  if (!dg_dgx1_is(app, len) || len < DG_DGX1_FIXED_SIZE + DG_DGX1_TRAILER_SIZE)
    return dg_fail(err, DG_E_CORRUPT, "dgx1: not an index");
  if (XXH3_64bits(app, len - DG_DGX1_TRAILER_SIZE) !=
      get_be(app + len - DG_DGX1_TRAILER_SIZE, DG_DGX1_TRAILER_SIZE))
    return dg_fail(err, DG_E_CORRUPT, "dgx1: the index does not match its own checksum");
  if (app[5] != 0 || app[6] != 0 || app[7] != 0)
    return dg_fail(err, DG_E_CORRUPT, "dgx1: reserved bytes are set");
  index.target_size = get_be(app + 8, 8);
  index.reference_size = get_be(app + 16, 8);
  index.window_size = (uint32_t)get_be(app + 24, 4);
  index.window_count = (uint32_t)get_be(app + 28, 4);
  memcpy(index.target_sha256, app + 32, 32);
  if (index.window_count == 0 ||
      count_windows(index.target_size, index.window_size) != index.window_count ||
      len != DG_DGX1_FIXED_SIZE + (uint64_t)index.window_count * DG_DGX1_ENTRY_SIZE +
                 DG_DGX1_TRAILER_SIZE)
    return dg_fail(err, DG_E_CORRUPT, "dgx1: the index contradicts itself");
  *ret_index = index;
  return 0;
}

void dg_dgx1_entry(const uint8_t *app, uint32_t number, struct dg_dgx1_window *ret_window)
{
  const uint8_t *at = app + DG_DGX1_FIXED_SIZE + (size_t)number * DG_DGX1_ENTRY_SIZE;

  ret_window->delta_size = (uint32_t)get_be(at, 4);
  memcpy(ret_window->digest, at + 4, DG_DGX1_DIGEST_SIZE);
}
