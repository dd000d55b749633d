/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/partsizes.h"

#include <glib.h>

#include "common/hex.h"
#include "common/slice.h"

#include "common/banned.h"

#define PLAIN_MAX 256u /* bytes of text an operator may still want to read */
#define PACKED_MARK '~'

struct run {
  uint64_t size;
  uint64_t count;
};

/* ---- Bits, the highest first ---------------------------------------------------- */

struct bits_out {
  GByteArray *bytes;
  unsigned used; /* bits of the last byte; 8: it is full */
};

static void put_bits(struct bits_out *out, uint64_t value, unsigned count)
{
  while (count-- > 0) {
    if (out->used == 8) {
      g_byte_array_append(out->bytes, (const guint8[]){0}, 1);
      out->used = 0;
    }
    if (value >> count & 1)
      out->bytes->data[out->bytes->len - 1] |= (guint8)(0x80u >> out->used);
    out->used++;
  }
}

struct bits_in {
  const uint8_t *bytes;
  size_t len;
  uint64_t at; /* in bits */
};

/* The caller knows that they are there. */
static uint64_t get_bits(struct bits_in *in, unsigned count)
{
  uint64_t value = 0;

  for (; count > 0; count--, in->at++)
    value = value << 1 | (in->bytes[in->at / 8] >> (7 - in->at % 8) & 1);
  return value;
}

static unsigned width(uint64_t value)
{
  return value ? 64u - (unsigned)__builtin_clzll(value) : 0;
}

static void put_varint(GByteArray *bytes, uint64_t value)
{
  do {
    guint8 byte = (guint8)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));

    g_byte_array_append(bytes, &byte, 1);
    value >>= 7;
  } while (value);
}

static bool get_varint(struct bits_in *in, uint64_t *ret_value)
{
  uint64_t value = 0;

  for (unsigned shift = 0; shift < 64 && in->at / 8 < in->len; shift += 7) {
    uint8_t byte = (uint8_t)get_bits(in, 8);

    value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) {
      *ret_value = value;
      return true;
    }
  }
  return false;
}

/* ---- Writing ---------------------------------------------------------------------- */

static GArray *runs_of(const uint64_t *sizes, uint32_t count)
{
  GArray *runs = g_array_new(FALSE, FALSE, sizeof(struct run));

  for (uint32_t i = 0; i < count; i++) {
    struct run *last = runs->len ? &g_array_index(runs, struct run, runs->len - 1) : NULL;

    if (last && last->size == sizes[i])
      last->count++;
    else
      g_array_append_vals(runs, &(struct run){sizes[i], 1}, 1);
  }
  return runs;
}

static char *write_plain(const GArray *runs)
{
  GString *text = g_string_new(NULL);

  for (guint i = 0; i < runs->len; i++) {
    const struct run *run = &g_array_index(runs, struct run, i);

    g_string_append_printf(text, "%s%" G_GUINT64_FORMAT, i ? "," : "", run->size);
    if (run->count > 1)
      g_string_append_printf(text, "x%" G_GUINT64_FORMAT, run->count);
  }
  return g_string_free(text, FALSE);
}

static char *write_packed(const GArray *runs)
{
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  struct bits_out out = {.bytes = bytes, .used = 8};
  uint64_t smallest = UINT64_MAX, largest = 0, most = 1;
  char *text;

  for (guint i = 0; i < runs->len; i++) {
    const struct run *run = &g_array_index(runs, struct run, i);

    smallest = MIN(smallest, run->size);
    largest = MAX(largest, run->size);
    most = MAX(most, run->count);
  }
  put_varint(bytes, runs->len);
  put_varint(bytes, smallest);
  put_bits(&out, width(largest - smallest), 8);
  put_bits(&out, width(most - 1), 8);
  for (guint i = 0; i < runs->len; i++) {
    const struct run *run = &g_array_index(runs, struct run, i);

    put_bits(&out, run->size - smallest, width(largest - smallest));
    put_bits(&out, run->count - 1, width(most - 1));
  }
  text = g_malloc(1 + DG_BASE64_LEN(bytes->len) + 1);
  text[0] = PACKED_MARK;
  dg_base64_encode(bytes->data, bytes->len, text + 1);
  return text;
}

char *dg_part_sizes_write(const uint64_t *sizes, uint32_t count)
{
  g_autoptr(GArray) runs = runs_of(sizes, count);
  g_autofree char *plain = write_plain(runs);
  g_autofree char *packed = NULL;

  if (strlen(plain) <= PLAIN_MAX)
    return g_steal_pointer(&plain);
  packed = write_packed(runs);
  return strlen(packed) < strlen(plain) ? g_steal_pointer(&packed) : g_steal_pointer(&plain);
}

/* ---- Reading ---------------------------------------------------------------------- */

/* Walks the runs up to the one that holds the part. */
struct search {
  uint64_t left;   /* parts before it */
  uint64_t offset; /* where the next run begins */
  uint64_t size_bytes;
};

enum verdict { GO_ON, FOUND, NONSENSE };

static enum verdict visit(struct search *search, struct run run, struct dg_range *ret_range)
{
  uint64_t skipped = MIN(run.count, search->left), bytes, end;

  if (run.count == 0 || __builtin_mul_overflow(skipped, run.size, &bytes) ||
      __builtin_add_overflow(search->offset, bytes, &search->offset) ||
      search->offset > search->size_bytes)
    return NONSENSE;
  search->left -= skipped;
  if (skipped == run.count)
    return GO_ON;
  if (__builtin_add_overflow(search->offset, run.size, &end) || end > search->size_bytes)
    return NONSENSE;
  *ret_range = (struct dg_range){search->offset, run.size};
  return FOUND;
}

static bool find_plain(struct dg_slice text, struct search *search, struct dg_range *ret_range)
{
  enum verdict verdict = GO_ON;

  while (verdict == GO_ON && text.len) {
    struct dg_slice piece = dg_slice_of(text.data, MIN(dg_slice_find(text, ',', 0), text.len));
    size_t times = dg_slice_find(piece, 'x', 0);
    struct run run = {.count = 1};

    if (!dg_slice_to_u64(dg_slice_of(piece.data, MIN(times, piece.len)), &run.size) ||
        (times < piece.len && !dg_slice_to_u64(dg_slice_skip(piece, times + 1), &run.count)))
      return false;
    verdict = visit(search, run, ret_range);
    text = dg_slice_skip(text, MIN(piece.len + 1, text.len));
  }
  return verdict == FOUND;
}

static bool find_packed(struct bits_in in, struct search *search, struct dg_range *ret_range)
{
  uint64_t runs, smallest, bits, size_width, count_width;
  enum verdict verdict = GO_ON;

  if (!get_varint(&in, &runs) || !get_varint(&in, &smallest) || in.len - in.at / 8 < 2)
    return false;
  size_width = get_bits(&in, 8);
  count_width = get_bits(&in, 8);
  if (size_width > 64 || count_width > 32 ||
      __builtin_mul_overflow(runs, size_width + count_width, &bits) ||
      bits > (uint64_t)in.len * 8 - in.at)
    return false;
  /* Runs of no bits at all say nothing new after the first. */
  for (uint64_t i = 0; verdict == GO_ON && i < (bits ? runs : 1); i++) {
    struct run run = {.size = get_bits(&in, (unsigned)size_width)};

    run.count = get_bits(&in, (unsigned)count_width) + 1;
    if (__builtin_add_overflow(run.size, smallest, &run.size))
      return false;
    verdict = visit(search, run, ret_range);
  }
  return verdict == FOUND;
}

bool dg_part_sizes_find(struct dg_slice text, uint32_t part_no, uint64_t size_bytes,
                        struct dg_range *ret_range)
{
  struct search search = {.left = (uint64_t)part_no - 1, .size_bytes = size_bytes};
  g_autofree uint8_t *bytes = NULL;
  size_t len;

  if (part_no == 0 || text.len == 0)
    return false;
  if (text.data[0] != PACKED_MARK)
    return find_plain(text, &search, ret_range);
  bytes = g_malloc(text.len);
  if (!dg_base64_decode(dg_slice_skip(text, 1), bytes, text.len, &len))
    return false;
  return find_packed((struct bits_in){.bytes = bytes, .len = len}, &search, ret_range);
}
