/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/window.h"

#include "common/vcdiff/codetable.h"
#include "common/vcdiff/header.h"
#include "common/vcdiff/varint.h"

#include <deltaglider/plugin.h>
#include <string.h>

#include "common/banned.h"

/* ---- The header ------------------------------------------------------------- */

int dg_vcd_window_parse(const uint8_t *bytes, size_t len, struct dg_vcd_window *ret_window,
                        struct dg_error *err)
{
  struct dg_vcd_window window = {0};
  const uint8_t *at = bytes;
  const uint8_t *end = bytes + len;
  const uint8_t *encoding;
  uint64_t encoding_size, target_size, section_size[DG_SECTIONS];
  uint64_t total = 0;

  if (at >= end)
    return dg_fail(err, DG_E_CORRUPT, "window header: cut off");
  window.indicator = *at++;
  if (window.indicator & DG_VCD_WIN_TARGET)
    return dg_fail(err, DG_E_UNSUPPORTED, "window header: copies from the target file");
  if (window.indicator & ~(DG_VCD_WIN_SOURCE | DG_VCD_WIN_ADLER32))
    return dg_fail(err, DG_E_CORRUPT, "window header: unknown indicator bits 0x%02x",
                   window.indicator);
  if ((window.indicator & DG_VCD_WIN_SOURCE) &&
      (dg_varint_get(&at, end, &window.source_size) < 0 ||
       dg_varint_get(&at, end, &window.source_offset) < 0))
    return dg_fail(err, DG_E_CORRUPT, "window header: cut off");
  if (dg_varint_get(&at, end, &encoding_size) < 0)
    return dg_fail(err, DG_E_CORRUPT, "window header: cut off");
  encoding = at;
  if (dg_varint_get(&at, end, &target_size) < 0 || at >= end)
    return dg_fail(err, DG_E_CORRUPT, "window header: cut off");
  if (target_size > DG_VCD_WINDOW_MAX)
    return dg_fail(err, DG_E_LIMIT, "window header: a window of %llu bytes, above %u",
                   (unsigned long long)target_size, DG_VCD_WINDOW_MAX);
  window.target_size = (uint32_t)target_size;
  window.compressed = *at++;
  if (window.compressed & ~(DG_VCD_SEC_DATA | DG_VCD_SEC_INST | DG_VCD_SEC_ADDR))
    return dg_fail(err, DG_E_CORRUPT, "window header: unknown section bits 0x%02x",
                   window.compressed);
  for (unsigned i = 0; i < DG_SECTIONS; i++) {
    if (dg_varint_get(&at, end, &section_size[i]) < 0)
      return dg_fail(err, DG_E_CORRUPT, "window header: cut off");
    if (section_size[i] > DG_VCD_SECTION_LIMIT(target_size))
      return dg_fail(err, DG_E_LIMIT, "window header: a section of %llu bytes for %u of target",
                     (unsigned long long)section_size[i], window.target_size);
    window.section_size[i] = (uint32_t)section_size[i];
    total += section_size[i];
  }
  if (window.indicator & DG_VCD_WIN_ADLER32) {
    if (end - at < 4)
      return dg_fail(err, DG_E_CORRUPT, "window header: cut off");
    window.adler32 = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    at += 4;
  }
  if (encoding_size != (uint64_t)(at - encoding) + total)
    return dg_fail(err, DG_E_CORRUPT, "window header: its lengths contradict each other");
  window.header_size = (uint32_t)(at - bytes);
  window.size_bytes = window.header_size + total;
  *ret_window = window;
  return 0;
}

/* ---- Copies ----------------------------------------------------------------- */

/* Sixteen-byte pieces would do for the average instruction, but 32 cost the
 * same and save the branch for most of the rest. */
#define WIDE 32u

static inline void copy_wide(uint8_t *to, const uint8_t *from)
{
  uint8_t piece[WIDE];

  memcpy(piece, from, WIDE);
  memcpy(to, piece, WIDE);
}

/* Copies len bytes in whole pieces: reads and writes up to WIDE - 1 bytes more.
 * from is WIDE or more away from to. */
static inline void copy_pieces(uint8_t *to, const uint8_t *from, size_t len)
{
  uint8_t *end = to + len;

  do {
    copy_wide(to, from);
    to += WIDE;
    from += WIDE;
  } while (to < end);
}

/* A copy from `distance` bytes back that may overlap itself: the first period
 * repeats. Writes up to WIDE - 1 bytes more. */
static void copy_overlapping(uint8_t *to, size_t distance, size_t len)
{
  const uint8_t *from = to - distance;

  if (distance == 1) {
    memset(to, *from, len);
    return;
  }
  /* Double the period until it is as wide as a piece. */
  while (distance < WIDE && len > 0) {
    size_t count = distance < len ? distance : len;

    memcpy(to, from, count);
    to += count;
    len -= count;
    distance *= 2;
  }
  if (len > 0)
    copy_pieces(to, from, len);
}

/* ---- Instructions ----------------------------------------------------------- */

/* Everything a COPY needs to know about addresses. */
struct addresses {
  const uint8_t *at, *end;
  /* What an address of each mode is relative to: fixed for SELF, filled in for
   * HERE, four recent addresses, nothing for the SAME modes. */
  uint64_t base[DG_VCD_MODES];
  unsigned next_near;
  /* One table more than there are SAME modes, so that a look-up that turns out
   * not to be wanted stays inside. */
  uint64_t same[DG_VCD_SAME_SLOTS + 256];
};

/* An integer that has DG_VCD_SLACK readable bytes behind its section. The
 * caller checks afterwards whether *at ran past the end. No branch depends on
 * the length. Returns UINT64_MAX for one longer than eight bytes: no address
 * or size in a window needs more. */
static inline uint64_t read_integer(const uint8_t **at)
{
  uint64_t value, last;
  unsigned bits;

  memcpy(&value, *at, sizeof value);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  value = __builtin_bswap64(value);
#endif
  last = ~value & UINT64_C(0x8080808080808080);
  if (__builtin_expect(last == 0, 0))
    return UINT64_MAX;
  bits = (unsigned)__builtin_clzll(last) + 8;
  *at += bits / 8;
  value >>= 64 - bits;
  /* Close the gaps of the top bits: pairs, then fours, then eights. */
  value &= UINT64_C(0x7f7f7f7f7f7f7f7f);
  value = (value & UINT64_C(0x007f007f007f007f)) | (value & UINT64_C(0x7f007f007f007f00)) >> 1;
  value = (value & UINT64_C(0x00003fff00003fff)) | (value & UINT64_C(0x3fff00003fff0000)) >> 2;
  return (value & UINT64_C(0x000000000fffffff)) | (value & UINT64_C(0x0fffffff00000000)) >> 4;
}

/* The next address. Computes all modes and picks one, which beats a branch
 * that the processor cannot foresee. */
static inline uint64_t read_address(struct addresses *addresses, unsigned mode, uint64_t here)
{
  const uint8_t *behind = addresses->at;
  uint64_t same = addresses->same[((mode - DG_VCD_MODE_SAME) & 3) * 256 + *addresses->at];
  uint64_t offset = read_integer(&behind);
  uint64_t negate = -(uint64_t)(mode == DG_VCD_MODE_HERE);
  uint64_t address;

  addresses->base[DG_VCD_MODE_HERE] = here;
  address = addresses->base[mode] + ((offset ^ negate) - negate);
  if (mode >= DG_VCD_MODE_SAME) {
    address = same;
    behind = addresses->at + 1;
  }
  addresses->at = behind;
  addresses->base[DG_VCD_MODE_NEAR + addresses->next_near] = address;
  addresses->next_near = (addresses->next_near + 1) % DG_VCD_NEAR_SLOTS;
  addresses->same[address % DG_VCD_SAME_SLOTS] = address;
  return address;
}

/* The window being decoded. */
struct job {
  const uint8_t *source; /* the segment */
  uint64_t source_size;
  uint64_t source_readable; /* bytes from source on that exist at all */
  uint8_t *target;
  uint8_t *out;
  uint8_t *out_end;
};

/* The copies that the fast path leaves: long, near the end of the reference,
 * overlapping, or across the seam of source and target. The caller has checked
 * address < here and len <= out_end - out. */
static int copy_any(struct job *job, uint64_t address, size_t len)
{
  if (address < job->source_size) {
    uint64_t part = job->source_size - address;

    if (part > len)
      part = len;
    memcpy(job->out, job->source + address, (size_t)part);
    job->out += part;
    len -= (size_t)part;
    if (len == 0)
      return 0;
    address += part;
  }
  if (address - job->source_size >= (uint64_t)(job->out - job->target))
    return -1;
  copy_overlapping(job->out, (size_t)(job->out - (job->target + (address - job->source_size))),
                   len);
  job->out += len;
  return 0;
}

static inline __attribute__((always_inline)) int
do_copy(struct job *job, struct addresses *addresses, unsigned mode, size_t len)
{
  uint64_t here = job->source_size + (uint64_t)(job->out - job->target);
  uint64_t address = read_address(addresses, mode, here);
  const uint8_t *from;
  uint64_t room;

  if (address >= here || len > (size_t)(job->out_end - job->out))
    return -1;
  if (address < job->source_size) {
    from = job->source + address;
    room = job->source_readable - address;
    if (len > job->source_size - address)
      room = 0;
  } else {
    from = job->target + (address - job->source_size);
    room = here - address;
    /* Far enough back that a whole piece never meets its own output. */
    room = room >= WIDE ? UINT64_MAX : 0;
  }
  if (room < len + (uint64_t)WIDE)
    return copy_any(job, address, len);
  if (len <= WIDE)
    copy_wide(job->out, from);
  else if (len <= 1024)
    copy_pieces(job->out, from, len);
  else
    return copy_any(job, address, len);
  job->out += len;
  return 0;
}

static inline __attribute__((always_inline)) int do_add(struct job *job, const uint8_t **data,
                                                        const uint8_t *data_end, size_t len)
{
  if (len > (size_t)(data_end - *data) || len > (size_t)(job->out_end - job->out))
    return -1;
  if (len <= WIDE)
    copy_wide(job->out, *data);
  else
    memcpy(job->out, *data, len);
  *data += len;
  job->out += len;
  return 0;
}

/* The loop, inlined once for each kind of processor. */
static inline __attribute__((always_inline)) int
run_instructions(const struct dg_vcd_window *window, const struct dg_vcd_sections *sections,
                 const uint8_t *reference, uint64_t reference_size, uint8_t *target,
                 struct dg_error *err)
{
  const uint8_t *data = sections->data[DG_SECTION_DATA];
  const uint8_t *data_end = data + sections->size[DG_SECTION_DATA];
  const uint8_t *inst = sections->data[DG_SECTION_INST];
  const uint8_t *inst_end = inst + sections->size[DG_SECTION_INST];
  struct addresses addresses = {.at = sections->data[DG_SECTION_ADDR]};
  struct job job = {.source_size = window->source_size,
                    .target = target,
                    .out = target,
                    .out_end = target + window->target_size};

  addresses.end = addresses.at + sections->size[DG_SECTION_ADDR];
  if (window->source_size > 0) {
    if (window->source_offset > reference_size ||
        window->source_size > reference_size - window->source_offset)
      return dg_fail(err, DG_E_CORRUPT, "window: its source segment lies outside the reference");
    job.source = reference + window->source_offset;
    job.source_readable = reference_size - window->source_offset;
  }
  while (inst < inst_end) {
    const struct dg_vcd_code *code = &dg_vcd_codes[*inst++];
    size_t size1 = code->size1;

    if (size1 == 0) {
      size1 = (size_t)read_integer(&inst);
      if (size1 > window->target_size)
        goto corrupt;
    }
    switch (code->type1) {
    case DG_VCD_COPY:
      if (do_copy(&job, &addresses, code->mode1, size1) < 0)
        goto corrupt;
      if (code->type2 == DG_VCD_ADD && do_add(&job, &data, data_end, code->size2) < 0)
        goto corrupt;
      break;
    case DG_VCD_ADD:
      if (do_add(&job, &data, data_end, size1) < 0)
        goto corrupt;
      if (code->type2 == DG_VCD_COPY && do_copy(&job, &addresses, code->mode2, code->size2) < 0)
        goto corrupt;
      break;
    default: /* RUN: the table has no NOOP in first place */
      if (data >= data_end || size1 > (size_t)(job.out_end - job.out))
        goto corrupt;
      memset(job.out, *data++, size1);
      job.out += size1;
    }
    if (addresses.at > addresses.end)
      goto corrupt;
  }
  if (inst != inst_end || data != data_end || addresses.at != addresses.end ||
      job.out != job.out_end)
    goto corrupt;
  return 0;

corrupt:
  return dg_fail(err, DG_E_CORRUPT, "window: its instructions do not add up");
}

int dg_vcd_window_decode_portable(const struct dg_vcd_window *window,
                                  const struct dg_vcd_sections *sections, const uint8_t *reference,
                                  uint64_t reference_size, uint8_t *target, struct dg_error *err)
{
  return run_instructions(window, sections, reference, reference_size, target, err);
}

#if defined(__x86_64__)
__attribute__((target("avx2,bmi,bmi2,lzcnt"))) static int
decode_avx2(const struct dg_vcd_window *window, const struct dg_vcd_sections *sections,
            const uint8_t *reference, uint64_t reference_size, uint8_t *target,
            struct dg_error *err)
{
  return run_instructions(window, sections, reference, reference_size, target, err);
}
#endif

int dg_vcd_window_decode(const struct dg_vcd_window *window, const struct dg_vcd_sections *sections,
                         const uint8_t *reference, uint64_t reference_size, uint8_t *target,
                         struct dg_error *err)
{
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
    return decode_avx2(window, sections, reference, reference_size, target, err);
#endif
  return dg_vcd_window_decode_portable(window, sections, reference, reference_size, target, err);
}
