/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader over a range of the target: one window at a time is read, decoded,
 * checked and handed out. Its memory is one window and its encoding, whatever
 * the object's size.
 */
#include "config.h"

#include "plugins/codec-xdelta3/decoder.h"

#include "common/vcdiff/adler.h"
#include "common/vcdiff/codetable.h"
#include "common/vcdiff/window.h"

#include "common/banned.h"

#define NO_WINDOW UINT64_MAX

/* Memory that grows to what the windows need, and stays. */
struct buffer {
  uint8_t *data;
  size_t capacity;
};

struct range_reader {
  struct dg_reader reader;
  struct dg_decoder *decoder; /* borrowed */
  uint64_t position, end;     /* in the target */
  uint64_t window;            /* the one in `target`, or NO_WINDOW */
  uint64_t next_window;       /* what stateful sections expect next */
  struct dg_secondary_decoder *secondary;
  struct buffer encoded;
  struct buffer plain[DG_SECTIONS];
  struct buffer target;
  int failed; /* after an error nothing more comes out */
  struct dg_error failure;
};

/* Room for size bytes and the decoder's slack behind them. The old content is
 * lost. */
static int buffer_reserve(struct buffer *buffer, size_t size, struct dg_error *err)
{
  size_t wanted = size + DG_VCD_SLACK;

  if (wanted <= buffer->capacity)
    return 0;
  wanted += wanted / 8; /* windows differ a little: do not grow for each */
  g_free(buffer->data);
  buffer->capacity = 0;
  buffer->data = g_try_malloc(wanted);
  if (buffer->data == NULL)
    return dg_fail(err, DG_E_LIMIT, "no memory for a window of %zu bytes", size);
  buffer->capacity = wanted;
  return 0;
}

/* Reads a window's bytes and parses their header. */
static int fetch_window(struct range_reader *reader, uint64_t number,
                        struct dg_vcd_window *ret_window, struct dg_error *err)
{
  const struct dg_decoder *decoder = reader->decoder;
  const struct window_row *row = &decoder->rows[number];
  uint64_t target_size = row[1].target_offset - row[0].target_offset;
  uint64_t size = row[1].delta_offset - row[0].delta_offset;
  struct dg_vcd_window window;

  if (size > DG_SECTIONS * DG_VCD_SECTION_LIMIT(target_size) + DG_VCD_WINDOW_PROBE)
    return dg_fail(err, DG_E_LIMIT,
                   "window %" G_GUINT64_FORMAT ": %" G_GUINT64_FORMAT " bytes are too many", number,
                   size);
  if (buffer_reserve(&reader->encoded, (size_t)size, err) < 0 ||
      decoder->delta->read_at(decoder->delta->self, row->delta_offset, reader->encoded.data,
                              (size_t)size, err) < 0 ||
      dg_vcd_window_parse(reader->encoded.data, (size_t)size, &window, err) < 0)
    return -1;
  if (window.size_bytes != size || window.target_size != target_size)
    return dg_fail(err, DG_E_CORRUPT,
                   "window %" G_GUINT64_FORMAT " is not what the index says it is", number);
  *ret_window = window;
  return 0;
}

/* Points at the three sections, decompressed where need be. */
static int open_sections(struct range_reader *reader, const struct dg_vcd_window *window,
                         struct dg_vcd_sections *ret_sections, struct dg_error *err)
{
  const uint8_t *at = reader->encoded.data + window->header_size;
  struct dg_secondary_piece pieces[DG_SECTIONS] = {{0}};
  struct dg_vcd_sections sections;

  for (unsigned kind = 0; kind < DG_SECTIONS; kind++) {
    size_t size = window->section_size[kind];

    sections.data[kind] = at;
    sections.size[kind] = size;
    /* The bits of the delta indicator stand in the order of the sections. */
    if (window->compressed & (DG_VCD_SEC_DATA << kind)) {
      struct buffer *plain = &reader->plain[kind];
      size_t plain_size;

      if (dg_secondary_plain_size(at, size, DG_VCD_SECTION_LIMIT(window->target_size), &plain_size,
                                  err) < 0 ||
          buffer_reserve(plain, plain_size, err) < 0)
        return -1;
      pieces[kind] = (struct dg_secondary_piece){at, size, plain->data, plain_size};
      sections.data[kind] = plain->data;
      sections.size[kind] = plain_size;
    }
    at += size;
  }
  if (window->compressed != 0 && dg_secondary_decode(reader->secondary, pieces, err) < 0)
    return -1;
  *ret_sections = sections;
  return 0;
}

/* Compares a decoded window with what the delta says about it. */
static int check_window(const struct range_reader *reader, uint64_t number,
                        const struct dg_vcd_window *window, struct dg_error *err)
{
  const struct dg_decoder *decoder = reader->decoder;

  if (decoder->app != NULL) {
    struct dg_dgx1_window entry;
    uint8_t digest[DG_DGX1_DIGEST_SIZE];

    dg_dgx1_entry(decoder->app, (uint32_t)number, &entry);
    dg_window_digest(reader->target.data, window->target_size, digest);
    if (memcmp(digest, entry.digest, sizeof digest) != 0)
      return dg_fail(err, DG_E_CORRUPT,
                     "window %" G_GUINT64_FORMAT " does not match its digest: the delta or its "
                     "reference is damaged",
                     number);
  } else if (window->indicator & DG_VCD_WIN_ADLER32) {
    if (dg_adler32(DG_ADLER32_INIT, reader->target.data, window->target_size) != window->adler32)
      return dg_fail(err, DG_E_CORRUPT,
                     "window %" G_GUINT64_FORMAT " does not match its Adler-32: the delta or its "
                     "reference is damaged",
                     number);
  }
  return 0;
}

static int decode_window(struct range_reader *reader, uint64_t number, struct dg_error *err)
{
  const struct dg_decoder *decoder = reader->decoder;
  struct dg_vcd_window window;
  struct dg_vcd_sections sections;

  /* Sections that run through all windows need those before this one, but not
   * the instructions in them. */
  while (!decoder->seekable && reader->next_window < number) {
    if (decoder_check_call(decoder->call, err) < 0 ||
        fetch_window(reader, reader->next_window, &window, err) < 0 ||
        open_sections(reader, &window, &sections, err) < 0)
      return -1;
    reader->next_window++;
  }
  reader->window = NO_WINDOW;
  if (decoder_check_call(decoder->call, err) < 0 ||
      fetch_window(reader, number, &window, err) < 0 ||
      open_sections(reader, &window, &sections, err) < 0 ||
      buffer_reserve(&reader->target, window.target_size, err) < 0 ||
      dg_vcd_window_decode(&window, &sections, decoder->reference, decoder->reference_size,
                           reader->target.data, err) < 0 ||
      check_window(reader, number, &window, err) < 0)
    return -1;
  reader->next_window = number + 1;
  reader->window = number;
  return 0;
}

/* The window that holds this byte of the target. */
static uint64_t find_window(const struct dg_decoder *decoder, uint64_t position)
{
  uint64_t low = 0, high = decoder->window_count;

  if (decoder->app != NULL)
    return position / decoder->index.window_size;
  /* The last row that does not begin behind it; empty windows come before. */
  while (high - low > 1) {
    uint64_t middle = low + (high - low) / 2;

    if (decoder->rows[middle].target_offset <= position)
      low = middle;
    else
      high = middle;
  }
  return low;
}

static int range_read(struct dg_reader *base, void *buffer, size_t capacity, size_t *ret_len,
                      struct dg_error *err)
{
  struct range_reader *reader = (struct range_reader *)(void *)base;
  const struct dg_decoder *decoder = reader->decoder;
  const struct window_row *row;
  uint64_t offset;
  size_t len;

  if (reader->failed) {
    *err = reader->failure;
    return -1;
  }
  if (reader->position >= reader->end || capacity == 0) {
    *ret_len = 0;
    return 0;
  }
  if (reader->window == NO_WINDOW ||
      reader->position >= decoder->rows[reader->window + 1].target_offset) {
    if (decode_window(reader, find_window(decoder, reader->position), err) < 0) {
      reader->failed = 1;
      reader->failure = *err;
      return -1;
    }
  }
  row = &decoder->rows[reader->window];
  offset = reader->position - row->target_offset;
  len = (size_t)MIN(capacity, MIN(reader->end, row[1].target_offset) - reader->position);
  memcpy(buffer, reader->target.data + offset, len);
  reader->position += len;
  *ret_len = len;
  return 0;
}

static void range_close(struct dg_reader *base)
{
  struct range_reader *reader = (struct range_reader *)(void *)base;

  dg_secondary_decoder_free(reader->secondary);
  g_free(reader->encoded.data);
  for (unsigned kind = 0; kind < DG_SECTIONS; kind++)
    g_free(reader->plain[kind].data);
  g_free(reader->target.data);
  g_free(reader);
}

static const struct dg_reader_ops range_reader_ops = {
    .struct_size = sizeof range_reader_ops,
    .read = range_read,
    .close = range_close,
};

int codec_decode_range(struct dg_decoder *decoder, struct dg_range range,
                       struct dg_reader **ret_reader, struct dg_error *err)
{
  uint64_t size = decoder->rows[decoder->window_count].target_offset;
  struct range_reader *reader;

  if (range.offset > size || (range.length != DG_TO_END && range.length > size - range.offset))
    return dg_fail(err, DG_E_INVALID_RANGE, "the range ends behind byte %" G_GUINT64_FORMAT, size);
  reader = g_new0(struct range_reader, 1);
  reader->reader.ops = &range_reader_ops;
  reader->decoder = decoder;
  reader->position = range.offset;
  reader->end = range.length == DG_TO_END ? size : range.offset + range.length;
  reader->window = NO_WINDOW;
  if (dg_secondary_decoder_new(decoder->secondary, &reader->secondary, err) < 0) {
    g_free(reader);
    return -1;
  }
  *ret_reader = &reader->reader;
  return 0;
}
