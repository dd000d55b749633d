/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/djw.h"
#include "common/vcdiff/huffman.h"

#include <deltaglider/plugin.h>
#include <glib.h>

#include "common/banned.h"

/* ---- Run- and move-to-front coding ------------------------------------------ */

/* Values on their way in. A run may go on from one call to the next. */
struct values {
  struct dg_bits *bits;
  const struct dg_huffman *code;
  uint8_t *front; /* the possible values, in order; room for eight or more */
  unsigned front_len;
  unsigned digit; /* of the run being read */
  uint64_t run;   /* how often front[0] is still to be repeated */
};

/* Takes the value at `place` of the row and puts it in front. */
static inline uint8_t take_to_front(uint8_t *front, unsigned place)
{
  uint8_t value = front[place];

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  /* Every row has eight bytes or more, and mostly it is one of them. */
  if (__builtin_expect(place < 8, 1)) {
    uint64_t row;
    uint64_t moved = UINT64_MAX >> (56 - 8 * place);

    memcpy(&row, front, sizeof row);
    row = (row & ~moved) | ((row << 8 | value) & moved);
    memcpy(front, &row, sizeof row);
    return value;
  }
#endif
  memmove(front + 1, front, place);
  front[0] = value;
  return value;
}

static int read_values(struct values *in, uint8_t *out, size_t count)
{
  uint8_t *end = out + count;

  while (out < end) {
    int symbol;

    if (in->run > 0) {
      size_t part = in->run < (size_t)(end - out) ? (size_t)in->run : (size_t)(end - out);

      memset(out, in->front[0], part);
      out += part;
      in->run -= part;
      continue;
    }
    dg_bits_fill(in->bits);
    symbol = dg_huffman_decode(in->code, in->bits);
    if (symbol < 0 || !dg_bits_sound(in->bits))
      return -1;
    if (symbol <= 1) {
      if (in->digit > 32)
        return -1;
      in->run = (uint64_t)(symbol + 1) << in->digit++;
    } else {
      unsigned place = (unsigned)symbol - 1;

      if (place >= in->front_len)
        return -1;
      *out++ = take_to_front(in->front, place);
      in->digit = 0;
    }
  }
  return 0;
}

/* The code for code lengths, then those lengths for every code. */
static int read_codes(struct dg_bits *bits, struct dg_huffman *codes, unsigned code_count)
{
  uint8_t front[DG_DJW_LENGTH_VALUES] = DG_DJW_LENGTH_ORDER;
  uint8_t symbol_lengths[DG_DJW_LENGTH_SYMBOLS] = {0};
  uint8_t lengths[DG_HUFFMAN_SYMBOLS], given[DG_HUFFMAN_SYMBOLS], used[DG_HUFFMAN_SYMBOLS];
  unsigned symbol_count = DG_DJW_LENGTH_ALWAYS + dg_bits_number(bits, DG_DJW_EXTRA_BITS);
  struct dg_huffman length_code;
  struct values in = {
      .bits = bits, .code = &length_code, .front = front, .front_len = DG_DJW_LENGTH_VALUES};

  for (unsigned i = 0; i < symbol_count; i++)
    symbol_lengths[i] = (uint8_t)dg_bits_number(bits, DG_DJW_LENGTH_BITS);
  if (dg_huffman_init(&length_code, symbol_lengths, DG_DJW_LENGTH_SYMBOLS) < 0)
    return -1;
  memset(lengths, 1, sizeof lengths);
  for (unsigned code = 0; code < code_count; code++) {
    unsigned used_count = 0;

    /* A byte that the code before does not know is not mentioned any more. */
    for (unsigned s = 0; s < DG_HUFFMAN_SYMBOLS; s++) {
      used[used_count] = (uint8_t)s;
      used_count += lengths[s] != 0;
    }
    if (read_values(&in, given, used_count) < 0)
      return -1;
    for (unsigned i = 0; i < used_count; i++)
      lengths[used[i]] = given[i];
    if (dg_huffman_init(&codes[code], lengths, DG_HUFFMAN_SYMBOLS) < 0)
      return -1;
  }
  return in.run == 0 ? 0 : -1;
}

static int read_selectors(struct dg_bits *bits, unsigned code_count, uint8_t *selectors,
                          size_t sector_count)
{
  uint8_t front[MAX(DG_DJW_CODES_MAX, 8)] = {0};
  uint8_t lengths[DG_DJW_CODES_MAX + 1];
  struct dg_huffman code;
  struct values in = {.bits = bits, .code = &code, .front = front, .front_len = code_count};

  for (unsigned i = 0; i <= code_count; i++)
    lengths[i] = (uint8_t)dg_bits_number(bits, DG_DJW_SELECTOR_BITS);
  for (unsigned i = 0; i < code_count; i++)
    front[i] = (uint8_t)i;
  if (dg_huffman_init(&code, lengths, code_count + 1) < 0 ||
      read_values(&in, selectors, sector_count) < 0)
    return -1;
  return in.run == 0 ? 0 : -1;
}

/* ---- Bytes ------------------------------------------------------------------ */

/* A section whose bytes are being decoded. One code after the other depends on
 * the length of the one before, so a processor spends most of such a loop
 * waiting. Sections have nothing to do with each other: decoded side by side,
 * they fill each other's pauses. Three is what the registers hold. */
#define LANES 3u

struct lane {
  const uint8_t *coded;
  size_t coded_len;
  uint64_t position; /* in bits */
  uint8_t *out, *out_end;
  uint8_t *sector_end;
  size_t sector_size;
  const uint8_t *selector;        /* of the sector under way; NULL: one code */
  const struct dg_huffman *codes; /* all of them */
  const struct dg_huffman *code;  /* of the sector under way */
  int stuck;                      /* before a code that its table lacks */
};

/* Codes that are taken from one load of the window: 5 of at most 11 bits on top
 * of at most 7. */
#define ROUND 5

/* The rounds a lane can do without looking: within its sector, and with eight
 * readable bytes at each load; a round moves on by at most eight. */
static size_t safe_rounds(const struct lane *lane)
{
  size_t rounds = (size_t)(lane->sector_end - lane->out) / ROUND;
  uint64_t byte = lane->position / 8;
  size_t loads = byte + 8 <= lane->coded_len ? (size_t)(lane->coded_len - 8 - byte) / 8 + 1 : 0;

  return rounds < loads ? rounds : loads;
}

/* Runs lanes side by side for so many rounds. Returns -1 in front of a round in
 * which one of them meets a code that its table does not hold. lane_count is
 * constant where this is inlined. */
static inline __attribute__((always_inline)) int run_lanes(struct lane *const lanes[],
                                                           const unsigned lane_count, size_t rounds)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  const uint16_t *table[LANES];
  const uint8_t *coded[LANES];
  uint64_t position[LANES], window[LANES];
  uint8_t *out[LANES];
  unsigned entry[LANES] = {0}, sum[LANES];
  int result = 0;

#pragma GCC unroll 3
  for (unsigned i = 0; i < lane_count; i++) {
    table[i] = lanes[i]->code->table;
    coded[i] = lanes[i]->coded;
    position[i] = lanes[i]->position;
    out[i] = lanes[i]->out;
  }
  for (; rounds > 0; rounds--) {
    unsigned unknown = 0;

#pragma GCC unroll 3
    for (unsigned i = 0; i < lane_count; i++) {
      memcpy(&window[i], coded[i] + (position[i] >> 3), sizeof window[i]);
      window[i] >>= position[i] & 7;
      sum[i] = 0;
    }
#pragma GCC unroll 5
    for (unsigned k = 0; k < ROUND; k++) {
#pragma GCC unroll 3
      for (unsigned i = 0; i < lane_count; i++)
        entry[i] = table[i][window[i] & (DG_HUFFMAN_TABLE_SIZE - 1)];
#pragma GCC unroll 3
      for (unsigned i = 0; i < lane_count; i++) {
        window[i] >>= entry[i] & 63;
        sum[i] += entry[i]; /* the lengths add up in its low byte */
        out[i][k] = (uint8_t)(entry[i] >> 8);
      }
    }
    /* A code that the table lacks is an entry of 0. It leaves the window where
     * it was, so the rest of the round is 0, too, and its end tells. */
#pragma GCC unroll 3
    for (unsigned i = 0; i < lane_count; i++)
      unknown |= entry[i] == 0;
    if (__builtin_expect(unknown, 0)) {
#pragma GCC unroll 3
      for (unsigned i = 0; i < lane_count; i++)
        lanes[i]->stuck = entry[i] == 0;
      result = -1;
      break;
    }
#pragma GCC unroll 3
    for (unsigned i = 0; i < lane_count; i++) {
      position[i] += sum[i] & 0xff;
      out[i] += ROUND;
    }
  }
#pragma GCC unroll 3
  for (unsigned i = 0; i < lane_count; i++) {
    lanes[i]->position = position[i];
    lanes[i]->out = out[i];
  }
  return result;
#else
  (void)rounds;
  for (unsigned i = 0; i < lane_count; i++)
    lanes[i]->stuck = 1;
  return -1;
#endif
}

static inline __attribute__((always_inline)) int run_any_lanes(struct lane *const lanes[],
                                                               unsigned lane_count, size_t rounds)
{
  if (lane_count == 3)
    return run_lanes(lanes, 3, rounds);
  if (lane_count == 2)
    return run_lanes(lanes, 2, rounds);
  return run_lanes(lanes, 1, rounds);
}

static int run_portable(struct lane *const lanes[], unsigned lane_count, size_t rounds)
{
  return run_any_lanes(lanes, lane_count, rounds);
}

typedef int (*run_fn)(struct lane *const lanes[], unsigned lane_count, size_t rounds);

#if defined(__x86_64__)
/* With shifts by any register. */
__attribute__((target("bmi2"))) static int run_bmi2(struct lane *const lanes[], unsigned lane_count,
                                                    size_t rounds)
{
  return run_any_lanes(lanes, lane_count, rounds);
}
#endif

static run_fn choose_run(void)
{
#if defined(__x86_64__)
  if (__builtin_cpu_supports("bmi2"))
    return run_bmi2;
#endif
  return run_portable;
}

/* The next few bytes of a lane, any code, anywhere, up to the sector's end. */
static int step_lane(struct lane *lane)
{
  struct dg_bits bits;
  uint64_t byte = lane->position / 8;

  if (byte > lane->coded_len)
    return -1;
  dg_bits_init(&bits, lane->coded + byte, lane->coded_len - (size_t)byte);
  dg_bits_fill(&bits);
  dg_bits_drop(&bits, lane->position & 7);
  for (unsigned i = 0; i < ROUND && lane->out < lane->sector_end; i++) {
    unsigned before;
    int symbol;

    dg_bits_fill(&bits);
    before = bits.count;
    symbol = dg_huffman_decode(lane->code, &bits);
    if (symbol < 0 || !dg_bits_sound(&bits))
      return -1;
    lane->position += before - bits.count;
    *lane->out++ = (uint8_t)symbol;
  }
  return 0;
}

static void begin_sector(struct lane *lane)
{
  size_t left = (size_t)(lane->out_end - lane->out);

  lane->sector_end = lane->out + (left < lane->sector_size ? left : lane->sector_size);
  lane->code = &lane->codes[lane->selector != NULL ? *lane->selector++ : 0];
}

/* ---- Sections --------------------------------------------------------------- */

/* Everything before the bytes. ret_codes and ret_selectors are transferred,
 * also on failure. */
static int open_lane(const struct dg_djw_piece *piece, struct lane *lane,
                     struct dg_huffman **ret_codes, uint8_t **ret_selectors, struct dg_error *err)
{
  struct dg_bits bits;
  size_t sector_size = piece->plain_len;
  unsigned code_count;

  if (piece->plain_len == 0)
    return dg_fail(err, DG_E_CORRUPT, "DJW: an empty section cannot be compressed");
  dg_bits_init(&bits, piece->coded, piece->coded_len);
  code_count = dg_bits_number(&bits, DG_DJW_CODES_BITS) + 1;
  *ret_codes = g_new(struct dg_huffman, code_count);
  if (code_count > 1)
    sector_size = (size_t)(dg_bits_number(&bits, DG_DJW_SECTOR_BITS) + 1) * DG_DJW_SECTOR_UNIT;
  if (read_codes(&bits, *ret_codes, code_count) < 0)
    return dg_fail(err, DG_E_CORRUPT, "DJW: bad code lengths");
  if (code_count > 1) {
    size_t sector_count = (piece->plain_len - 1) / sector_size + 1;

    *ret_selectors = g_malloc(sector_count);
    if (read_selectors(&bits, code_count, *ret_selectors, sector_count) < 0)
      return dg_fail(err, DG_E_CORRUPT, "DJW: bad selectors");
  }
  if (!dg_bits_sound(&bits))
    return dg_fail(err, DG_E_CORRUPT, "DJW: the section is cut off");
  *lane = (struct lane){.coded = piece->coded,
                        .coded_len = piece->coded_len,
                        .position = (uint64_t)(bits.next - piece->coded) * 8 +
                                    bits.missing_bytes * 8 - bits.count,
                        .out = piece->plain,
                        .out_end = piece->plain + piece->plain_len,
                        .sector_size = sector_size,
                        .selector = *ret_selectors,
                        .codes = *ret_codes};
  begin_sector(lane);
  return 0;
}

/* Runs all lanes to their end, three at a time, the longest first. */
static int run_all(struct lane *lanes, unsigned lane_count, struct dg_error *err)
{
  struct lane *order[DG_DJW_PIECES];
  run_fn run = choose_run();

  for (unsigned i = 0; i < lane_count; i++) {
    size_t len = (size_t)(lanes[i].out_end - lanes[i].out);
    unsigned at = i;

    for (; at > 0 && (size_t)(order[at - 1]->out_end - order[at - 1]->out) < len; at--)
      order[at] = order[at - 1];
    order[at] = &lanes[i];
  }
  while (lane_count > 0) {
    unsigned active = 0;
    size_t rounds = SIZE_MAX;

    for (unsigned i = 0; i < lane_count && active < LANES;) {
      struct lane *lane = order[i];
      size_t safe;

      if (lane->out == lane->out_end) {
        lane_count--;
        memmove(&order[i], &order[i + 1], (lane_count - i) * sizeof order[0]);
        continue;
      }
      if (lane->out == lane->sector_end)
        begin_sector(lane);
      safe = safe_rounds(lane);
      if (safe < rounds)
        rounds = safe;
      active++;
      i++;
    }
    if (active == 0 || (rounds > 0 && run(order, active, rounds) == 0))
      continue;
    for (unsigned i = 0; i < active; i++)
      if ((rounds > 0 ? order[i]->stuck : safe_rounds(order[i]) == 0) && step_lane(order[i]) < 0)
        return dg_fail(err, DG_E_CORRUPT, "DJW: bad code, or the section is cut off");
  }
  return 0;
}

int dg_djw_decode(const struct dg_djw_piece *pieces, unsigned count, struct dg_error *err)
{
  struct lane lanes[DG_DJW_PIECES];
  struct dg_huffman *codes[DG_DJW_PIECES] = {NULL};
  uint8_t *selectors[DG_DJW_PIECES] = {NULL};
  int result = 0;

  for (unsigned i = 0; i < count && result == 0; i++)
    result = open_lane(&pieces[i], &lanes[i], &codes[i], &selectors[i], err);
  if (result == 0)
    result = run_all(lanes, count, err);
  for (unsigned i = 0; i < count; i++) {
    if (result == 0 && (lanes[i].position + 7) / 8 != pieces[i].coded_len)
      result = dg_fail(err, DG_E_CORRUPT, "DJW: bytes left over behind the section");
    g_free(codes[i]);
    g_free(selectors[i]);
  }
  return result;
}
