/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/emit.h"

#include <deltaglider/plugin.h>
#include <glib.h>

#include "common/vcdiff/adler.h"
#include "common/vcdiff/codetable.h"
#include "common/vcdiff/varint.h"

#include "common/banned.h"

/* Below this a section is not worth a look. */
#define SECONDARY_MIN 32u

/* A section is compressed when that saves more than one byte in so many: less
 * is not worth the time of every read to come. */
#define SAVING_PART 32u

struct bytes {
  uint8_t *data;
  size_t len;
  size_t capacity;
};

struct dg_emitter {
  struct bytes sections[DG_SECTIONS];
  struct bytes packed[DG_SECTIONS];
  struct bytes window;
};

/* The address caches of RFC 3284 section 5.1, and the open instruction. */
struct coder {
  uint8_t *data, *inst, *addr; /* ends of what is written */
  const uint8_t *window_end;
  uint8_t *open;               /* opcode byte of a lone ADD or COPY that may become a pair */
  uint32_t open_type;          /* DG_VCD_ADD, DG_VCD_COPY, or 0 */
  uint32_t open_size;
  uint32_t open_mode;
  uint32_t near_next;
  uint32_t near[DG_VCD_NEAR_SLOTS] __attribute__((aligned(16)));
  uint32_t same[DG_VCD_SAME_SLOTS];
};

struct dg_emitter *dg_emitter_new(void)
{
  return g_new0(struct dg_emitter, 1);
}

static void bytes_clear(struct bytes *bytes)
{
  g_free(bytes->data);
}

void dg_emitter_free(struct dg_emitter *emitter)
{
  if (!emitter)
    return;
  for (unsigned i = 0; i < DG_SECTIONS; i++) {
    bytes_clear(&emitter->sections[i]);
    bytes_clear(&emitter->packed[i]);
  }
  bytes_clear(&emitter->window);
  g_free(emitter);
}

/* Empties it, with room for capacity bytes. */
static void bytes_reset(struct bytes *bytes, size_t capacity)
{
  bytes->len = 0;
  if (bytes->data && bytes->capacity >= capacity)
    return;
  g_free(bytes->data);
  bytes->capacity = capacity + capacity / 4 + 64;
  bytes->data = g_malloc(bytes->capacity);
}

/* ---- Instructions ----------------------------------------------------------- */

static inline uint8_t *put_size(uint8_t *out, uint32_t size)
{
  if (size < 128) {
    *out = (uint8_t)size;
    return out + 1;
  }
  return dg_varint_put(out, size);
}

static void put_add(struct coder *c, const uint8_t *from, uint32_t size)
{
  int size_follows;

  if (size <= 16 && (size_t)(c->window_end - from) >= 16)
    memcpy(c->data, from, 16); /* of a constant size: two moves instead of a call */
  else
    memcpy(c->data, from, size);
  c->data += size;
  if (c->open_type == DG_VCD_COPY) {
    uint8_t pair = dg_vcd_op_copy_add(c->open_mode, c->open_size, size);

    if (pair) {
      *c->open = pair;
      c->open_type = 0;
      return;
    }
  }
  c->open = c->inst;
  c->open_type = DG_VCD_ADD;
  c->open_size = size;
  *c->inst++ = dg_vcd_op_add(size, &size_follows);
  if (size_follows)
    c->inst = put_size(c->inst, size);
}

static void put_run(struct coder *c, uint8_t byte, uint32_t size)
{
  *c->data++ = byte;
  *c->inst++ = DG_VCD_OP_RUN;
  c->inst = put_size(c->inst, size);
  c->open_type = 0;
}

/* Bit i of the result: the address lies 0 to 127 behind near[i]. */
static inline unsigned near_in_one_byte(const struct coder *c, uint32_t address)
{
#if defined(__SSE2__)
  __m128i distance = _mm_sub_epi32(_mm_set1_epi32((int)address),
                                   _mm_load_si128((const __m128i *)(const void *)c->near));
  __m128i high = _mm_and_si128(distance, _mm_set1_epi32(~127));

  return (unsigned)_mm_movemask_ps(
      _mm_castsi128_ps(_mm_cmpeq_epi32(high, _mm_setzero_si128())));
#else
  unsigned mask = 0;

  for (unsigned i = 0; i < DG_VCD_NEAR_SLOTS; i++)
    mask |= (unsigned)(address - c->near[i] < 128) << i;
  return mask;
#endif
}

/* Writes an address that no near slot reaches in one byte: the shortest of
 * the other modes. */
static unsigned put_far_address(struct coder *c, uint32_t address, uint64_t here, uint32_t known)
{
  uint32_t slot = address % DG_VCD_SAME_SLOTS;
  uint32_t back = (uint32_t)(here - address);
  uint32_t best = address;
  unsigned best_size = dg_varint_size(address);
  unsigned mode = DG_VCD_MODE_SELF;

  if (known == address && best_size > 1) {
    *c->addr++ = (uint8_t)(slot % 256);
    return DG_VCD_MODE_SAME + slot / 256;
  }
  for (unsigned i = 0; i < DG_VCD_NEAR_SLOTS; i++) {
    if (address >= c->near[i] && dg_varint_size(address - c->near[i]) < best_size) {
      best = address - c->near[i];
      best_size = dg_varint_size(best);
      mode = DG_VCD_MODE_NEAR + i;
    }
  }
  if (dg_varint_size(back) < best_size) {
    best = back;
    mode = DG_VCD_MODE_HERE;
  }
  c->addr = dg_varint_put(c->addr, best);
  return mode;
}

/* Writes the address in its shortest mode, which it returns. Among equals the
 * lowest near slot wins: modes that repeat cost Huffman codes less. */
static inline unsigned put_address(struct coder *c, uint32_t address, uint64_t here)
{
  uint32_t *same = &c->same[address % DG_VCD_SAME_SLOTS];
  unsigned near = near_in_one_byte(c, address);
  unsigned mode;

  if (__builtin_expect(near != 0, 1)) {
    unsigned slot = (unsigned)__builtin_ctz(near);

    *c->addr++ = (uint8_t)(address - c->near[slot]);
    mode = DG_VCD_MODE_NEAR + slot;
  } else {
    mode = put_far_address(c, address, here, *same);
  }
  *same = address;
  c->near[c->near_next] = address;
  c->near_next = (c->near_next + 1) % DG_VCD_NEAR_SLOTS;
  return mode;
}

static void put_copy(struct coder *c, uint32_t address, uint64_t here, uint32_t size)
{
  unsigned mode = put_address(c, address, here);
  int size_follows;

  if (c->open_type == DG_VCD_ADD) {
    uint8_t pair = dg_vcd_op_add_copy(c->open_size, mode, size);

    if (pair) {
      *c->open = pair;
      c->open_type = 0;
      return;
    }
  }
  c->open = c->inst;
  c->open_type = DG_VCD_COPY;
  c->open_size = size;
  c->open_mode = mode;
  *c->inst++ = dg_vcd_op_copy(mode, size, &size_follows);
  if (size_follows)
    c->inst = put_size(c->inst, size);
}

static void code_matches(struct dg_emitter *emitter, const struct dg_emit_input *in,
                         uint64_t source_low, uint64_t source_size)
{
  const struct dg_matches *matches = in->matches;
  struct bytes *sections = emitter->sections;
  struct coder c = {.window_end = in->window + in->window_size};
  uint32_t at = 0;

  bytes_reset(&sections[DG_SECTION_DATA], (size_t)in->window_size + 16); /* put_add() overshoots */
  bytes_reset(&sections[DG_SECTION_INST], 12 * (matches->count + 1));
  bytes_reset(&sections[DG_SECTION_ADDR], DG_VARINT_MAX * matches->count + 1);
  c.data = sections[DG_SECTION_DATA].data;
  c.inst = sections[DG_SECTION_INST].data;
  c.addr = sections[DG_SECTION_ADDR].data;
  for (size_t i = 0; i < matches->count; i++) {
    const struct dg_match *match = &matches->items[i];

    if (match->at > at)
      put_add(&c, in->window + at, match->at - at);
    if (match->kind == DG_MATCH_RUN)
      put_run(&c, in->window[match->at], match->len);
    else
      put_copy(&c,
               (uint32_t)(match->kind == DG_MATCH_SOURCE ? match->from - source_low
                                                         : source_size + match->from),
               source_size + match->at, match->len);
    at = match->at + match->len;
  }
  if (at < in->window_size)
    put_add(&c, in->window + at, in->window_size - at);
  sections[DG_SECTION_DATA].len = (size_t)(c.data - sections[DG_SECTION_DATA].data);
  sections[DG_SECTION_INST].len = (size_t)(c.inst - sections[DG_SECTION_INST].data);
  sections[DG_SECTION_ADDR].len = (size_t)(c.addr - sections[DG_SECTION_ADDR].data);
}

/* ---- Sections and the window ------------------------------------------------ */

/* Compresses what gains from it into packed[]. Returns the delta indicator. */
static int compress_sections(struct dg_emitter *emitter, const struct dg_emit_input *in,
                             uint8_t *ret_indicator, struct dg_error *err)
{
  uint8_t indicator = 0;

  for (unsigned i = 0; i < DG_SECTIONS; i++) {
    const struct bytes *plain = &emitter->sections[i];
    struct bytes *packed = &emitter->packed[i];

    if (plain->len < SECONDARY_MIN)
      continue;
    if (in->secondary == DG_SECONDARY_DJW) {
      if (dg_djw_estimate_saving(plain->data, plain->len) <= plain->len / SAVING_PART)
        continue;
      bytes_reset(packed, plain->len);
      packed->len = dg_djw_encode(plain->data, plain->len, packed->data);
    } else if (in->secondary == DG_SECONDARY_LZMA) {
      bytes_reset(packed, dg_lzma_bound(plain->len));
      if (dg_lzma_encode(in->lzma, i, plain->data, plain->len, packed->data, packed->capacity,
                         &packed->len, err) < 0)
        return -1;
    } else {
      break;
    }
    if (packed->len > 0)
      indicator |= (uint8_t)(1u << i);
  }
  *ret_indicator = indicator;
  return 0;
}

int dg_emitter_run(struct dg_emitter *emitter, const struct dg_emit_input *input,
                   const uint8_t **ret_data, size_t *ret_len, struct dg_error *err)
{
  uint64_t source_low = input->matches->source_low;
  uint64_t source_size = input->matches->source_high - source_low;
  const struct bytes *chosen[DG_SECTIONS];
  uint64_t body = 0;
  uint32_t adler;
  uint8_t indicator;
  uint8_t *out;

  code_matches(emitter, input, source_low, source_size);
  if (compress_sections(emitter, input, &indicator, err) < 0)
    return -1;
  for (unsigned i = 0; i < DG_SECTIONS; i++) {
    chosen[i] = indicator >> i & 1 ? &emitter->packed[i] : &emitter->sections[i];
    body += chosen[i]->len + dg_varint_size(chosen[i]->len);
  }
  body += dg_varint_size(input->window_size) + 1 + 4; /* indicator, checksum */
  bytes_reset(&emitter->window, 1 + 3 * DG_VARINT_MAX + body);
  out = emitter->window.data;

  *out++ = (uint8_t)((source_size ? DG_VCD_WIN_SOURCE : 0) | DG_VCD_WIN_ADLER32);
  if (source_size) {
    out = dg_varint_put(out, source_size);
    out = dg_varint_put(out, source_low);
  }
  out = dg_varint_put(out, body);
  out = dg_varint_put(out, input->window_size);
  *out++ = indicator;
  for (unsigned i = 0; i < DG_SECTIONS; i++)
    out = dg_varint_put(out, chosen[i]->len);
  adler = dg_adler32(DG_ADLER32_INIT, input->window, input->window_size);
  for (unsigned i = 0; i < 4; i++)
    *out++ = (uint8_t)(adler >> (24 - 8 * i));
  for (unsigned i = 0; i < DG_SECTIONS; i++) {
    memcpy(out, chosen[i]->data, chosen[i]->len);
    out += chosen[i]->len;
  }
  *ret_data = emitter->window.data;
  *ret_len = (size_t)(out - emitter->window.data);
  return 0;
}
