/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/djw.h"
#include "common/vcdiff/huffman.h"
#include "common/vcdiff/secondary.h"
#include "common/vcdiff/varint.h"

#include <glib.h>

#include "common/banned.h"

/* Below this the description of a code costs more than it saves. */
#define SECTION_MIN 48u

/* Longest code we make. The format allows 20; beyond 15 nothing measurable is
 * gained and the description of the code grows. */
#define LONGEST     15u

#define SECTOR_SIZE 80u /* measured on the sections of executables and archives */

#define CODES_MAX   DG_DJW_CODES_MAX
#define SYMBOLS     DG_HUFFMAN_SYMBOLS

/* Costs while sectors look for a code: sixteenths of a bit, for all codes at
 * once. A sector's sum stays below 2^16: 160 bytes of at most 20 bits. */
typedef uint16_t cost_row __attribute__((vector_size(16)));

struct counts {
  uint32_t of[SYMBOLS];
};

/* One section on its way through the encoder. */
struct section {
  const uint8_t *plain;
  size_t len;
  size_t sector_count;
  unsigned code_count;
  uint8_t *selectors; /* one per sector */
  struct counts total;
  struct counts counts[CODES_MAX];
  struct counts odd_counts[CODES_MAX]; /* while counting */
  uint8_t lengths[CODES_MAX][SYMBOLS];
};

static void count_bytes(const uint8_t *plain, size_t len, struct counts *ret_counts)
{
  /* Four tables, so that equal neighbours do not wait for each other. */
  struct counts part[4] = {{{0}}};
  size_t i = 0;

  for (; i + 4 <= len; i += 4) {
    part[0].of[plain[i]]++;
    part[1].of[plain[i + 1]]++;
    part[2].of[plain[i + 2]]++;
    part[3].of[plain[i + 3]]++;
  }
  for (; i < len; i++)
    part[0].of[plain[i]]++;
  for (unsigned s = 0; s < SYMBOLS; s++)
    ret_counts->of[s] = part[0].of[s] + part[1].of[s] + part[2].of[s] + part[3].of[s];
}

/* log2(value) in sixteenths, value > 0: the exponent, and the mantissa bent
 * towards the true curve. Off by less than a sixteenth. */
static inline unsigned log2_sixteenths(uint32_t value)
{
  unsigned exponent = 31 - (unsigned)__builtin_clz(value);
  unsigned mantissa = (unsigned)(((uint64_t)value << 8 >> exponent) & 0xff); /* of 256 */

  return exponent * 16 + (mantissa * 16 + mantissa * (256 - mantissa) * 11 / 512) / 256;
}

/* ---- Several codes ---------------------------------------------------------- */

static size_t sector_len(const struct section *section, size_t sector)
{
  size_t start = sector * SECTOR_SIZE;

  return section->len - start < SECTOR_SIZE ? section->len - start : SECTOR_SIZE;
}

/* What each byte would cost under each code, from how often that code met it. */
static void fill_costs(const struct section *section, cost_row costs[SYMBOLS])
{
  for (unsigned code = 0; code < section->code_count; code++) {
    uint64_t sum = 0;
    unsigned whole;

    for (unsigned s = 0; s < SYMBOLS; s++)
      sum += section->counts[code].of[s];
    whole = log2_sixteenths((uint32_t)(sum * 4 + SYMBOLS));
    for (unsigned s = 0; s < SYMBOLS; s++)
      costs[s][code] =
          (uint16_t)(section->counts[code].of[s] == 0
                         ? whole
                         : whole - log2_sixteenths(section->counts[code].of[s] * 4 + 1));
  }
  for (unsigned code = section->code_count; code < CODES_MAX; code++)
    for (unsigned s = 0; s < SYMBOLS; s++)
      costs[s][code] = UINT16_MAX / 256;
}

/* The cheapest code for a sector. */
static unsigned choose(const struct section *section, const cost_row costs[SYMBOLS], size_t sector)
{
  const uint8_t *at = section->plain + sector * SECTOR_SIZE;
  const uint8_t *end = at + sector_len(section, sector);
  cost_row sum = {0}, more = {0};
  unsigned best = 0;

  for (; end - at >= 4; at += 4) {
    sum += costs[at[0]] + costs[at[1]];
    more += costs[at[2]] + costs[at[3]];
  }
  while (at < end)
    sum += costs[*at++];
  sum += more;
  for (unsigned code = 1; code < section->code_count; code++)
    if (sum[code] < sum[best])
      best = code;
  return best;
}

/* Counts a sector's bytes for a code. Two tables take turns, so that equal
 * neighbours do not wait for each other; see join_counts(). */
static void add_sector(struct section *section, size_t sector, unsigned code)
{
  const uint8_t *at = section->plain + sector * SECTOR_SIZE;
  const uint8_t *end = at + sector_len(section, sector);
  uint32_t *even = section->counts[code].of;
  uint32_t *odd = section->odd_counts[code].of;

  for (; end - at >= 2; at += 2) {
    even[at[0]]++;
    odd[at[1]]++;
  }
  if (at < end)
    even[*at]++;
}

static void clear_counts(struct section *section)
{
  memset(section->counts, 0, section->code_count * sizeof section->counts[0]);
  memset(section->odd_counts, 0, section->code_count * sizeof section->odd_counts[0]);
}

static void join_counts(struct section *section)
{
  for (unsigned code = 0; code < section->code_count; code++)
    for (unsigned s = 0; s < SYMBOLS; s++)
      section->counts[code].of[s] += section->odd_counts[code].of[s];
}

/* Sorts sectors to codes: first guesses come from stretches of the section,
 * which differ because files do; some rounds on a sample move each sector to
 * its cheapest code; the last round covers all. */
static void assign_sectors(struct section *section)
{
  cost_row costs[SYMBOLS];
  size_t step = section->sector_count / 256 + 1;

  clear_counts(section);
  for (size_t sector = 0; sector < section->sector_count; sector += step)
    add_sector(section, sector, (unsigned)(sector * section->code_count / section->sector_count));
  join_counts(section);
  for (unsigned round = 0; round < 3; round++) {
    if (round == 2)
      step = 1;
    fill_costs(section, costs);
    clear_counts(section);
    for (size_t sector = 0; sector < section->sector_count; sector += step) {
      unsigned code = choose(section, costs, sector);

      section->selectors[sector] = (uint8_t)code;
      add_sector(section, sector, code);
    }
    join_counts(section);
  }
}

/* Forgets codes that no sector chose. */
static void drop_unused_codes(struct section *section)
{
  uint8_t renamed[CODES_MAX];
  size_t users[CODES_MAX] = {0};
  unsigned kept = 0;

  for (size_t sector = 0; sector < section->sector_count; sector++)
    users[section->selectors[sector]]++;
  for (unsigned code = 0; code < section->code_count; code++)
    if (users[code] > 0) {
      section->counts[kept] = section->counts[code];
      renamed[code] = (uint8_t)kept++;
    }
  for (size_t sector = 0; sector < section->sector_count; sector++)
    section->selectors[sector] = renamed[section->selectors[sector]];
  section->code_count = kept;
}

/* Code lengths for every code; returns the bits that the bytes take. A byte
 * that occurs at all must have a place in all codes: where one never meets it,
 * it weighs an eighth of an occurrence. */
static uint64_t make_codes(struct section *section)
{
  uint64_t bits = 0;

  for (unsigned code = 0; code < section->code_count; code++) {
    uint32_t weights[SYMBOLS];

    for (unsigned s = 0; s < SYMBOLS; s++)
      weights[s] = section->counts[code].of[s] * 8 +
                   (section->counts[code].of[s] == 0 && section->total.of[s] != 0);
    (void)dg_huffman_lengths(weights, SYMBOLS, LONGEST, section->lengths[code]);
    for (unsigned s = 0; s < SYMBOLS; s++)
      bits += (uint64_t)section->lengths[code][s] * section->counts[code].of[s];
  }
  return bits;
}

/* ---- Run- and move-to-front coding ------------------------------------------- */

/* Values on their way out: symbols, then a code for them. */
struct value_code {
  uint8_t *symbols;
  size_t count;
  uint64_t run;
  uint32_t frequencies[DG_DJW_LENGTH_SYMBOLS];
  uint8_t lengths[DG_DJW_LENGTH_SYMBOLS];
};

static void put_symbol(struct value_code *out, unsigned symbol)
{
  out->symbols[out->count++] = (uint8_t)symbol;
  out->frequencies[symbol]++;
}

/* Digits 1 and 2, lowest first. */
static void end_run(struct value_code *out)
{
  for (; out->run > 0; out->run = (out->run - 1) / 2)
    put_symbol(out, (out->run - 1) % 2);
}

static void put_value(struct value_code *out, uint8_t *front, uint8_t value)
{
  unsigned place = 0;

  while (front[place] != value)
    place++;
  if (place == 0) {
    out->run++;
    return;
  }
  end_run(out);
  memmove(front + 1, front, place);
  front[0] = value;
  put_symbol(out, place + 1);
}

/* The bits that the symbols take in their own code, lengths aside. */
static uint64_t finish_values(struct value_code *out, unsigned symbol_count, unsigned longest)
{
  end_run(out);
  return dg_huffman_lengths(out->frequencies, symbol_count, longest, out->lengths);
}

/* ---- Output ----------------------------------------------------------------- */

struct bit_writer {
  uint64_t window;
  unsigned count;
  uint8_t *at;
};

static inline void flush_bytes(struct bit_writer *writer)
{
  while (writer->count >= 8) {
    *writer->at++ = (uint8_t)writer->window;
    writer->window >>= 8;
    writer->count -= 8;
  }
}

/* Code already reversed. */
static inline void put_code(struct bit_writer *writer, uint32_t code, unsigned length)
{
  writer->window |= (uint64_t)code << writer->count;
  writer->count += length;
  if (writer->count >= 32)
    flush_bytes(writer);
}

static void put_number(struct bit_writer *writer, unsigned value, unsigned bits)
{
  for (unsigned i = bits; i-- > 0;)
    put_code(writer, value >> i & 1, 1);
}

static void put_symbols(struct bit_writer *writer, const struct value_code *values,
                        unsigned symbol_count)
{
  uint32_t codes[DG_DJW_LENGTH_SYMBOLS];

  dg_huffman_codes(values->lengths, symbol_count, codes);
  for (size_t i = 0; i < values->count; i++)
    put_code(writer, codes[values->symbols[i]], values->lengths[values->symbols[i]]);
}

/* A code and its length in one word, so that a byte costs one look-up. */
static void pack_code(const uint8_t lengths[SYMBOLS], uint32_t packed[SYMBOLS])
{
  dg_huffman_codes(lengths, SYMBOLS, packed);
  for (unsigned s = 0; s < SYMBOLS; s++)
    packed[s] |= (uint32_t)lengths[s] << 24;
}

/* Bytes of one sector. limit is the end of the output buffer. */
static void put_bytes(struct bit_writer *writer, const uint32_t packed[SYMBOLS],
                      const uint8_t *plain, size_t len, const uint8_t *limit)
{
  uint64_t window = writer->window;
  unsigned count = writer->count;
  uint8_t *at = writer->at;
  size_t i = 0;

#define PUT(byte)                                                                                  \
  do {                                                                                             \
    uint32_t word = packed[(byte)];                                                                \
    window |= (uint64_t)(word & 0xffffff) << count;                                                \
    count += word >> 24;                                                                           \
  } while (0)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  /* Three codes of up to 15 bits on top of at most 7 fit the window. */
  for (; i + 3 <= len && limit - at >= 8; i += 3) {
    PUT(plain[i]);
    PUT(plain[i + 1]);
    PUT(plain[i + 2]);
    memcpy(at, &window, sizeof window);
    at += count / 8;
    window >>= count & ~7u;
    count &= 7;
  }
#else
  (void)limit;
#endif
  for (; i < len; i++) {
    PUT(plain[i]);
    for (; count >= 8; count -= 8, window >>= 8)
      *at++ = (uint8_t)window;
  }
#undef PUT
  *writer = (struct bit_writer){window, count, at};
}

/* ---- One section ------------------------------------------------------------ */

/* Writes the section as planned, or returns 0 if that would not save. */
static size_t write_section(const struct section *section, uint64_t byte_bits, uint8_t *out)
{
  uint8_t length_front[DG_DJW_LENGTH_VALUES] = DG_DJW_LENGTH_ORDER;
  uint8_t code_front[CODES_MAX];
  uint8_t length_symbols[CODES_MAX * SYMBOLS];
  g_autofree uint8_t *selector_symbols = NULL;
  uint32_t packed[CODES_MAX][SYMBOLS];
  struct value_code lengths = {.symbols = length_symbols};
  struct value_code selectors = {0};
  unsigned code_count = section->code_count;
  unsigned given = DG_DJW_LENGTH_SYMBOLS;
  struct bit_writer writer = {0};
  uint64_t bits;

  for (unsigned code = 0; code < code_count; code++)
    for (unsigned s = 0; s < SYMBOLS; s++)
      if (code == 0 || section->total.of[s] != 0)
        put_value(&lengths, length_front, section->lengths[code][s]);
  bits = byte_bits + DG_DJW_CODES_BITS + DG_DJW_EXTRA_BITS +
         finish_values(&lengths, DG_DJW_LENGTH_SYMBOLS, (1u << DG_DJW_LENGTH_BITS) - 1);
  while (given > DG_DJW_LENGTH_ALWAYS && lengths.lengths[given - 1] == 0)
    given--;
  bits += given * DG_DJW_LENGTH_BITS;
  if (code_count > 1) {
    selectors.symbols = selector_symbols = g_malloc(section->sector_count + 64);
    for (unsigned code = 0; code < code_count; code++)
      code_front[code] = (uint8_t)code;
    for (size_t i = 0; i < section->sector_count; i++)
      put_value(&selectors, code_front, section->selectors[i]);
    bits += finish_values(&selectors, code_count + 1, DG_DJW_SELECTOR_LONGEST) +
            DG_DJW_SECTOR_BITS + (code_count + 1) * DG_DJW_SELECTOR_BITS;
  }
  if (dg_varint_size(section->len) + (bits + 7) / 8 >= section->len)
    return 0;

  writer.at = dg_varint_put(out, section->len);
  put_number(&writer, code_count - 1, DG_DJW_CODES_BITS);
  if (code_count > 1)
    put_number(&writer, SECTOR_SIZE / DG_DJW_SECTOR_UNIT - 1, DG_DJW_SECTOR_BITS);
  put_number(&writer, given - DG_DJW_LENGTH_ALWAYS, DG_DJW_EXTRA_BITS);
  for (unsigned i = 0; i < given; i++)
    put_number(&writer, lengths.lengths[i], DG_DJW_LENGTH_BITS);
  put_symbols(&writer, &lengths, DG_DJW_LENGTH_SYMBOLS);
  if (code_count > 1) {
    for (unsigned i = 0; i <= code_count; i++)
      put_number(&writer, selectors.lengths[i], DG_DJW_SELECTOR_BITS);
    put_symbols(&writer, &selectors, code_count + 1);
  }
  flush_bytes(&writer);
  for (unsigned code = 0; code < code_count; code++)
    pack_code(section->lengths[code], packed[code]);
  if (code_count == 1)
    put_bytes(&writer, packed[0], section->plain, section->len, out + section->len);
  else
    for (size_t i = 0; i < section->sector_count; i++)
      put_bytes(&writer, packed[section->selectors[i]], section->plain + i * SECTOR_SIZE,
                sector_len(section, i), out + section->len);
  flush_bytes(&writer);
  if (writer.count > 0)
    *writer.at++ = (uint8_t)writer.window;
  return (size_t)(writer.at - out);
}

/* How many codes are worth their description for a section of this size. */
static unsigned codes_for(size_t len)
{
  return len < 2000 ? 1 : len < 6000 ? 2 : len < 16000 ? 4 : CODES_MAX;
}

size_t dg_djw_encode(const uint8_t *plain, size_t len, uint8_t *out)
{
  struct section section = {.plain = plain, .len = len, .code_count = 1};
  g_autofree uint8_t *selectors = NULL;
  uint64_t bits, bits_one;

  if (len < SECTION_MIN || len >= UINT32_MAX / 8)
    return 0;
  count_bytes(plain, len, &section.total);
  section.counts[0] = section.total;
  bits_one = bits = make_codes(&section);
  section.code_count = codes_for(len);
  if (section.code_count > 1) {
    section.sector_count = (len - 1) / SECTOR_SIZE + 1;
    section.selectors = selectors = g_malloc(section.sector_count);
    assign_sectors(&section);
    drop_unused_codes(&section);
    bits = make_codes(&section);
    /* A description is at most some 60 bytes per code, a selector 3 bits. */
    if (section.code_count == 1 ||
        bits + (section.code_count - 1) * 480 + section.sector_count * 2 >= bits_one) {
      section.code_count = 1;
      section.counts[0] = section.total;
      bits = make_codes(&section);
    }
  }
  return write_section(&section, bits, out);
}

size_t dg_djw_estimate_saving(const uint8_t *plain, size_t len)
{
  /* Many small samples: what a section holds changes along its way. */
  const size_t sample = 256, samples = 16;
  struct counts counts = {{0}};
  size_t seen = len;
  uint64_t cost = 0;
  size_t saving;
  unsigned whole;

  if (len < SECTION_MIN)
    return 0;
  if (len <= sample * samples) {
    count_bytes(plain, len, &counts);
  } else {
    for (size_t i = 0; i < samples; i++) {
      const uint8_t *at = plain + (len - sample) / (samples - 1) * i;

      for (size_t k = 0; k < sample; k++)
        counts.of[at[k]]++;
    }
    seen = sample * samples;
  }
  whole = log2_sixteenths((uint32_t)seen);
  for (unsigned s = 0; s < SYMBOLS; s++)
    if (counts.of[s] != 0)
      cost += (uint64_t)counts.of[s] * MAX(16, whole - log2_sixteenths(counts.of[s]));
  cost /= 16 * 8;
  if (cost >= seen)
    return 0;
  saving = (size_t)((double)(seen - cost) / (double)seen * (double)len);
  return saving > 60 ? saving - 60 : 0;
}
