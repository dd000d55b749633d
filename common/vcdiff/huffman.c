/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/huffman.h"

#include "common/banned.h"

/* ---- Building --------------------------------------------------------------- */

struct ranked {
  uint32_t weight;
  uint32_t symbol;
};

/* Sorts by weight, ascending and stable: one counting pass per byte in use. */
static struct ranked *sort_by_weight(struct ranked *items, struct ranked *spare, unsigned count)
{
  uint32_t heaviest = 0;

  for (unsigned i = 0; i < count; i++)
    heaviest |= items[i].weight;
  for (unsigned shift = 0; shift < 32 && heaviest >> shift != 0; shift += 8) {
    uint16_t start[257] = {0};
    struct ranked *swap = items;

    for (unsigned i = 0; i < count; i++)
      start[(items[i].weight >> shift & 0xff) + 1]++;
    for (unsigned i = 1; i < 256; i++)
      start[i] = (uint16_t)(start[i] + start[i - 1]);
    for (unsigned i = 0; i < count; i++)
      spare[start[items[i].weight >> shift & 0xff]++] = items[i];
    items = spare;
    spare = swap;
  }
  return items;
}

/* Huffman's tree over ascending weights: the two lightest join until one is
 * left. Joined nodes arise in ascending order too, so two queues suffice.
 * Fills depth[i] for leaf i. */
static void tree_depths(const struct ranked *leaves, unsigned count, uint8_t *depth)
{
  uint32_t joined[DG_HUFFMAN_SYMBOLS];
  uint16_t parent[2 * DG_HUFFMAN_SYMBOLS]; /* leaves first, then joined nodes */
  uint8_t level[DG_HUFFMAN_SYMBOLS];
  unsigned leaf = 0, oldest = 0, made;

  for (made = 0; made < count - 1; made++) {
    uint32_t weight = 0;

    for (int half = 0; half < 2; half++) {
      if (leaf < count && (oldest == made || leaves[leaf].weight <= joined[oldest])) {
        weight += leaves[leaf].weight;
        parent[leaf++] = (uint16_t)made;
      } else {
        weight += joined[oldest];
        parent[count + oldest++] = (uint16_t)made;
      }
    }
    joined[made] = weight;
  }
  level[made - 1] = 0;
  for (unsigned i = made - 1; i-- > 0;)
    level[i] = (uint8_t)(level[parent[count + i]] + 1);
  for (unsigned i = 0; i < count; i++)
    depth[i] = (uint8_t)(level[parent[i]] + 1);
}

/* Shortens codes that are too long, then repays: the lightest symbols that
 * still can grow by a bit, until the lengths fit one code again; what room is
 * left over goes to the heaviest. leaves ascend by weight. */
static void limit_depths(uint8_t *depth, unsigned count, unsigned max_length)
{
  uint64_t room = UINT64_C(1) << max_length;
  uint64_t used = 0;

  for (unsigned i = 0; i < count; i++) {
    if (depth[i] > max_length)
      depth[i] = (uint8_t)max_length;
    used += room >> depth[i];
  }
  while (used > room)
    for (unsigned i = 0; i < count && used > room; i++)
      if (depth[i] < max_length) {
        depth[i]++;
        used -= room >> depth[i];
      }
  for (unsigned i = count; i-- > 0;)
    while (depth[i] > 1 && used + (room >> depth[i]) <= room) {
      used += room >> depth[i];
      depth[i]--;
    }
}

uint64_t dg_huffman_lengths(const uint32_t *frequencies, unsigned count, unsigned max_length,
                            uint8_t *ret_lengths)
{
  struct ranked buffers[2][DG_HUFFMAN_SYMBOLS];
  struct ranked *leaves = buffers[0];
  uint8_t depth[DG_HUFFMAN_SYMBOLS] = {0};
  unsigned used = 0;
  unsigned deepest = 0;
  uint64_t bits = 0;

  memset(ret_lengths, 0, count);
  for (unsigned i = 0; i < count; i++)
    if (frequencies[i] != 0)
      leaves[used++] = (struct ranked){frequencies[i], i};
  if (used == 0)
    return 0;
  if (used == 1) {
    ret_lengths[leaves[0].symbol] = 1;
    return leaves[0].weight;
  }
  leaves = sort_by_weight(leaves, buffers[1], used);
  tree_depths(leaves, used, depth);
  for (unsigned i = 0; i < used; i++)
    if (depth[i] > deepest)
      deepest = depth[i];
  if (deepest > max_length)
    limit_depths(depth, used, max_length);
  for (unsigned i = 0; i < used; i++) {
    ret_lengths[leaves[i].symbol] = depth[i];
    bits += (uint64_t)depth[i] * leaves[i].weight;
  }
  return bits;
}

/* The low `length` (1..32) bits of code, back to front. */
static uint32_t reverse_bits(uint32_t code, unsigned length)
{
  code = (code & 0x55555555) << 1 | (code >> 1 & 0x55555555);
  code = (code & 0x33333333) << 2 | (code >> 2 & 0x33333333);
  code = (code & 0x0f0f0f0f) << 4 | (code >> 4 & 0x0f0f0f0f);
  return __builtin_bswap32(code) >> (32 - length);
}

void dg_huffman_codes(const uint8_t *lengths, unsigned count, uint32_t *ret_codes)
{
  uint32_t next[DG_HUFFMAN_MAX_LENGTH + 2] = {0};
  uint32_t of_length[DG_HUFFMAN_MAX_LENGTH + 2] = {0};

  for (unsigned i = 0; i < count; i++)
    of_length[lengths[i]]++;
  of_length[0] = 0;
  for (unsigned length = 1; length <= DG_HUFFMAN_MAX_LENGTH; length++)
    next[length] = (next[length - 1] + of_length[length - 1]) << 1;
  for (unsigned i = 0; i < count; i++)
    ret_codes[i] = lengths[i] == 0 ? 0 : reverse_bits(next[lengths[i]]++, lengths[i]);
}

/* ---- Decoding --------------------------------------------------------------- */

/* The table grows from one entry, doubling with each length: what shorter codes
 * have filled in repeats, and codes of this length take their places among
 * what is still empty. */
static void fill_table(struct dg_huffman *code)
{
  size_t size = 1;

  code->table[0] = 0;
  for (unsigned length = 1; length <= DG_HUFFMAN_TABLE_BITS; length++, size *= 2) {
    memcpy(code->table + size, code->table, size * sizeof code->table[0]);
    for (uint32_t i = 0; i < code->count[length]; i++)
      code->table[reverse_bits(code->first[length] + i, length)] =
          (uint16_t)(code->sorted[code->before[length] + i] << 8 | length);
  }
}

int dg_huffman_init(struct dg_huffman *code, const uint8_t *lengths, unsigned count)
{
  uint32_t slot[DG_HUFFMAN_MAX_LENGTH + 1];
  uint32_t next = 0;
  uint32_t before = 0;

  memset(code->count, 0, sizeof code->count);
  code->longest = 0;
  for (unsigned i = 0; i < count; i++)
    code->count[lengths[i]]++;
  code->count[0] = 0;
  for (unsigned length = 0; length <= DG_HUFFMAN_MAX_LENGTH; length++) {
    next <<= 1;
    code->first[length] = next;
    code->before[length] = slot[length] = before;
    next += code->count[length];
    before += code->count[length];
    if (next > UINT32_C(1) << length)
      return -1;
    if (code->count[length] != 0)
      code->longest = length;
  }
  for (unsigned i = 0; i < count; i++)
    if (lengths[i] != 0)
      code->sorted[slot[lengths[i]]++] = (uint8_t)i;
  fill_table(code);
  return 0;
}

int dg_huffman_decode_long(const struct dg_huffman *code, struct dg_bits *bits)
{
  uint32_t value = 0;

  for (unsigned length = 1; length <= code->longest; length++) {
    value = value << 1 | (uint32_t)(bits->window >> (length - 1) & 1);
    if (value - code->first[length] < code->count[length]) {
      dg_bits_drop(bits, length);
      return code->sorted[code->before[length] + value - code->first[length]];
    }
  }
  return -1;
}
