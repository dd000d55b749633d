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

/* Bytes that a copy moves at once, needed or not: all loads first, then all
 * stores. What is too much is overwritten by what follows. */
#define WIDE 64u

typedef uint8_t piece __attribute__((vector_size(32), aligned(1), may_alias));

/* Literals are short: half a piece's worth is enough. */
static inline __attribute__((always_inline)) void copy_half(uint8_t *to, const uint8_t *from)
{
  *(piece *)to = *(const piece *)from;
}

static inline __attribute__((always_inline)) void copy_wide(uint8_t *to, const uint8_t *from)
{
  piece first = *(const piece *)from;
  piece second = *(const piece *)(from + WIDE / 2);

  *(piece *)to = first;
  *(piece *)(to + WIDE / 2) = second;
}

/* Copies len bytes in whole pieces: reads and writes up to WIDE - 1 bytes more.
 * from is WIDE or more away from to, or len is at most that distance. */
static inline __attribute__((always_inline)) void copy_pieces(uint8_t *to, const uint8_t *from,
                                                              size_t len)
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

/* The window being decoded, as far as it does not change. */
struct job {
  const uint8_t *source; /* the segment */
  uint64_t source_size;
  uint64_t source_wide; /* copies that end up to here may read WIDE bytes more */
  uint8_t *target;
  uint8_t *out_end;
};

/* A COPY of any kind: long, near the end of the reference, overlapping, or
 * across the seam of source and target. The caller has checked that len bytes
 * fit. Returns the new end of output, or NULL for an address not yet there. */
static uint8_t *copy_any(const struct job *job, uint8_t *out, uint64_t address, size_t len)
{
  if (address < job->source_size) {
    uint64_t part = job->source_size - address;

    if (part > len)
      part = len;
    memcpy(out, job->source + address, (size_t)part);
    out += part;
    len -= (size_t)part;
    if (len == 0)
      return out;
    address += part;
  }
  address -= job->source_size;
  if (address >= (uint64_t)(out - job->target))
    return NULL;
  copy_overlapping(out, (size_t)(out - job->target) - (size_t)address, len);
  return out + len;
}

/* ---- Addresses -------------------------------------------------------------- */

struct addresses {
  const uint8_t *at, *end;
  /* What an address of each mode is relative to: nothing for SELF, recent
   * addresses for the NEAR modes; the others are here to be looked up in vain. */
  uint64_t base[DG_VCD_MODES];
  unsigned next_near;
  uint64_t same[DG_VCD_SAME_SLOTS];
};

/* An integer that has DG_VCD_SLACK readable bytes behind its section. The
 * caller checks afterwards whether *at ran past the end. No branch depends on
 * the length. Returns UINT64_MAX for one longer than eight bytes: no address
 * or size in a window needs more. */
static inline __attribute__((always_inline)) uint64_t read_integer(const uint8_t **at)
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

/* The next address. Modes but SAME, which are rare, are told apart without a
 * branch: no processor foresees them. */
static inline __attribute__((always_inline)) uint64_t read_address(struct addresses *addresses,
                                                                   unsigned mode, uint64_t here)
{
  uint64_t address;

  if (__builtin_expect(mode >= DG_VCD_MODE_SAME, 0)) {
    address = addresses->same[(mode - DG_VCD_MODE_SAME) * 256 + *addresses->at++];
  } else {
    uint64_t offset = read_integer(&addresses->at);
    uint64_t back = -(uint64_t)(mode == DG_VCD_MODE_HERE);

    address = (addresses->base[mode] | (here & back)) + ((offset ^ back) - back);
  }
  addresses->base[DG_VCD_MODE_NEAR + addresses->next_near] = address;
  addresses->next_near = (addresses->next_near + 1) % DG_VCD_NEAR_SLOTS;
  addresses->same[address % DG_VCD_SAME_SLOTS] = address;
  return address;
}

/* ---- Instructions ----------------------------------------------------------- */

static inline __attribute__((always_inline)) uint8_t *
do_copy(const struct job *job, struct addresses *addresses, uint8_t *out, unsigned mode, size_t len)
{
  uint64_t here = job->source_size + (uint64_t)(out - job->target);
  uint64_t address = read_address(addresses, mode, here);
  const uint8_t *from;

  /* Nothing to copy wraps around and ends up here, too. */
  if (__builtin_expect(address >= here || len - 1 >= (size_t)(job->out_end - out), 0))
    return address < here && len == 0 ? out : NULL;
  if (address + len <= job->source_wide) {
    from = job->source + address;
  } else {
    /* From the target: whole pieces, unless they would meet their own output. */
    uint64_t distance = here - address;

    if (address < job->source_size || (distance < len && distance < WIDE))
      return copy_any(job, out, address, len);
    from = out - distance;
  }
  if (__builtin_expect(len <= WIDE, 1))
    copy_wide(out, from);
  else if (len <= 2048)
    copy_pieces(out, from, len);
  else
    return copy_any(job, out, address, len);
  return out + len;
}

static inline __attribute__((always_inline)) uint8_t *do_add(const struct job *job, uint8_t *out,
                                                             const uint8_t **data,
                                                             const uint8_t *data_end, size_t len)
{
  if (__builtin_expect(len > (size_t)(data_end - *data) || len > (size_t)(job->out_end - out), 0))
    return NULL;
  if (__builtin_expect(len <= WIDE / 2, 1))
    copy_half(out, *data);
  else
    memcpy(out, *data, len);
  *data += len;
  return out + len;
}

/* The code table once more, as the fast path wants it: an optional ADD, then a
 * COPY. Where that does not fit, the row is RARE. */
struct pair {
  uint8_t add_size, copy_size, mode;
  uint8_t flags;
};

#define PAIR_LONE    1u /* an ADD whose COPY, if any, is the next opcode */
#define PAIR_FOLLOWS 2u /* the size of the COPY follows */
#define PAIR_RARE    4u

#define RARE                                                                                       \
  {                                                                                                \
    0, 0, 0, PAIR_RARE                                                                             \
  }
#define ADD(a)                                                                                     \
  {                                                                                                \
    (a), 0, 0, PAIR_LONE                                                                           \
  }
#define COPY(m, c)                                                                                 \
  {                                                                                                \
    0, (c), (m), 0                                                                                 \
  }
#define COPIES(m)                                                                                  \
  {0, 0, (m), PAIR_FOLLOWS}, COPY(m, 4), COPY(m, 5), COPY(m, 6), COPY(m, 7), COPY(m, 8),           \
      COPY(m, 9), COPY(m, 10), COPY(m, 11), COPY(m, 12), COPY(m, 13), COPY(m, 14), COPY(m, 15),    \
      COPY(m, 16), COPY(m, 17), COPY(m, 18)
#define BOTH(a, m, c)                                                                              \
  {                                                                                                \
    (a), (c), (m), 0                                                                               \
  }
#define BOTH_SIZES(a, m) BOTH(a, m, 4), BOTH(a, m, 5), BOTH(a, m, 6)
#define BOTHS(m)         BOTH_SIZES(1, m), BOTH_SIZES(2, m), BOTH_SIZES(3, m), BOTH_SIZES(4, m)
#define BOTHS_SAME(m)    BOTH(1, m, 4), BOTH(2, m, 4), BOTH(3, m, 4), BOTH(4, m, 4)

static const struct pair pairs[256] = {
    RARE,          RARE,          ADD(1),    ADD(2),    ADD(3),    ADD(4),    ADD(5),
    ADD(6),        ADD(7),        ADD(8),    ADD(9),    ADD(10),   ADD(11),   ADD(12),
    ADD(13),       ADD(14),       ADD(15),   ADD(16),   ADD(17),   COPIES(0), COPIES(1),
    COPIES(2),     COPIES(3),     COPIES(4), COPIES(5), COPIES(6), COPIES(7), COPIES(8),
    BOTHS(0),      BOTHS(1),      BOTHS(2),  BOTHS(3),  BOTHS(4),  BOTHS(5),  BOTHS_SAME(6),
    BOTHS_SAME(7), BOTHS_SAME(8), RARE,      RARE,      RARE,      RARE,      RARE,
    RARE,          RARE,          RARE,      RARE,
};

/* One opcode of any kind. Returns the new end of output, or NULL. */
static inline __attribute__((always_inline)) uint8_t *
do_any(const struct job *job, struct addresses *addresses, uint8_t *out, const uint8_t **inst,
       const uint8_t **data, const uint8_t *data_end)
{
  const struct dg_vcd_code *code = &dg_vcd_codes[*(*inst)++];
  uint64_t size1 = code->size1;

  if (size1 == 0)
    size1 = read_integer(inst);
  if (size1 > (uint64_t)(job->out_end - out))
    return NULL;
  switch (code->type1) {
  case DG_VCD_COPY:
    out = do_copy(job, addresses, out, code->mode1, (size_t)size1);
    if (out != NULL && code->type2 == DG_VCD_ADD)
      out = do_add(job, out, data, data_end, code->size2);
    return out;
  case DG_VCD_ADD:
    out = do_add(job, out, data, data_end, (size_t)size1);
    if (out != NULL && code->type2 == DG_VCD_COPY)
      out = do_copy(job, addresses, out, code->mode2, code->size2);
    return out;
  default: /* RUN: the table has no NOOP in first place */
    if (*data >= data_end)
      return NULL;
    memset(out, *(*data)++, (size_t)size1);
    return out + size1;
  }
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
                    .out_end = target + window->target_size};
  uint8_t *out = target;

  addresses.end = addresses.at + sections->size[DG_SECTION_ADDR];
  if (window->source_size > 0) {
    uint64_t readable;

    if (window->source_offset > reference_size ||
        window->source_size > reference_size - window->source_offset)
      return dg_fail(err, DG_E_CORRUPT, "window: its source segment lies outside the reference");
    job.source = reference + window->source_offset;
    readable = reference_size - window->source_offset;
    readable = readable < WIDE ? 0 : readable - WIDE;
    job.source_wide = window->source_size < readable ? window->source_size : readable;
  }
  while (inst < inst_end) {
    /* Mostly an ADD and a COPY alternate. Both are taken in one go, whether
     * they share an opcode or not, and without a branch to tell. */
    if (__builtin_expect(inst_end - inst >= 4, 1)) {
      struct pair add = pairs[inst[0]];
      unsigned lone = add.flags & PAIR_LONE;
      struct pair copy = pairs[inst[lone]];
      const uint8_t *next = inst + lone + 1;
      unsigned follows = copy.flags / PAIR_FOLLOWS & 1;
      size_t size = copy.copy_size + (*next & -follows);

      if (__builtin_expect(((add.flags | copy.flags) & PAIR_RARE) == 0 &&
                               ((unsigned)copy.add_size & -lone) == 0 && size < 0x80 &&
                               (size_t)(job.out_end - out) >= add.add_size + size &&
                               (size_t)(data_end - data) >= add.add_size,
                           1)) {
        inst = next + follows;
        copy_half(out, data);
        data += add.add_size;
        out += add.add_size;
        out = do_copy(&job, &addresses, out, copy.mode, size);
        if (__builtin_expect(out == NULL || addresses.at > addresses.end, 0))
          goto corrupt;
        continue;
      }
    }
    out = do_any(&job, &addresses, out, &inst, &data, data_end);
    if (out == NULL || addresses.at > addresses.end)
      goto corrupt;
  }
  if (inst != inst_end || data != data_end || addresses.at != addresses.end || out != job.out_end)
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
