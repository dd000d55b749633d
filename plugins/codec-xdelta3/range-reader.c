/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader over a range of the target: one window at a time is read, decoded,
 * checked and handed out. Its memory is one window and two encodings, whatever
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

/* A window on its way: read from the delta, its sections in plain form. */
struct slot {
  uint64_t number; /* NO_WINDOW: free */
  struct dg_vcd_window window;
  struct dg_vcd_sections sections;
  struct buffer encoded;
  struct buffer plain[DG_SECTIONS];
};

struct range_reader {
  struct dg_reader reader;
  struct dg_decoder *decoder; /* borrowed */
  uint64_t position, end;     /* in the target */
  uint64_t window;            /* the one in `target`, or NO_WINDOW */
  uint64_t next_window;       /* what stateful sections expect next */
  struct dg_secondary_decoder *secondary;
  struct slot slots[2]; /* the window under way, and the one after it */
  struct buffer target;
  int failed; /* after an error nothing more comes out */
  struct dg_error failure;
};

/* Room for size bytes and the decoder's slack behind them. The old content is
 * lost. */
static int buffer_reserve(struct buffer *buffer, size_t size, struct dg_error *err)
{
  size_t wanted = size + DG_VCD_SLACK;

  if (wanted > buffer->capacity) {
    wanted += wanted / 8; /* windows differ a little: do not grow for each */
    g_free(buffer->data);
    buffer->capacity = 0;
    buffer->data = g_try_malloc(wanted);
    if (buffer->data == NULL)
      return dg_fail(err, DG_E_LIMIT, "no memory for a window of %zu bytes", size);
    buffer->capacity = wanted;
  }
  /* Damaged instructions read it, before they are found to have run too far. */
  memset(buffer->data + size, 0, DG_VCD_SLACK);
  return 0;
}

/* Reads a window's bytes into a slot, parses their header and finds the
 * sections. Those that are compressed are appended to pieces. */
static int fetch_window(struct range_reader *reader, struct slot *slot, uint64_t number,
                        struct dg_secondary_piece *pieces, unsigned *piece_count,
                        struct dg_error *err)
{
  const struct dg_decoder *decoder = reader->decoder;
  const struct window_row *row = &decoder->rows[number];
  struct dg_vcd_window *window = &slot->window;
  uint64_t target_size = row[1].target_offset - row[0].target_offset;
  uint64_t size = row[1].delta_offset - row[0].delta_offset;
  const uint8_t *at;

  if (size > DG_SECTIONS * DG_VCD_SECTION_LIMIT(target_size) + DG_VCD_WINDOW_PROBE)
    return dg_fail(err, DG_E_LIMIT,
                   "window %" G_GUINT64_FORMAT ": %" G_GUINT64_FORMAT " bytes are too many", number,
                   size);
  if (buffer_reserve(&slot->encoded, (size_t)size, err) < 0 ||
      decoder->delta->read_at(decoder->delta->self, row->delta_offset, slot->encoded.data,
                              (size_t)size, err) < 0 ||
      dg_vcd_window_parse(slot->encoded.data, (size_t)size, window, err) < 0)
    return -1;
  if (window->size_bytes != size || window->target_size != target_size)
    return dg_fail(err, DG_E_CORRUPT,
                   "window %" G_GUINT64_FORMAT " is not what the index says it is", number);
  at = slot->encoded.data + window->header_size;
  for (unsigned kind = 0; kind < DG_SECTIONS; kind++) {
    size_t section_len = window->section_size[kind];

    slot->sections.data[kind] = at;
    slot->sections.size[kind] = section_len;
    /* The bits of the delta indicator stand in the order of the sections. */
    if (window->compressed & (DG_VCD_SEC_DATA << kind)) {
      struct buffer *plain = &slot->plain[kind];
      size_t plain_len;

      if (dg_secondary_plain_size(at, section_len, DG_VCD_SECTION_LIMIT(window->target_size),
                                  &plain_len, err) < 0 ||
          buffer_reserve(plain, plain_len, err) < 0)
        return -1;
      pieces[(*piece_count)++] =
          (struct dg_secondary_piece){kind, at, section_len, plain->data, plain_len};
      slot->sections.data[kind] = plain->data;
      slot->sections.size[kind] = plain_len;
    }
    at += section_len;
  }
  return 0;
}

/* Makes a window's sections ready. Where windows stand alone and their sections
 * are compressed, the next one is made ready with it, if it will be needed:
 * together they take less time than one after the other. */
static int prepare_window(struct range_reader *reader, uint64_t number, struct slot **ret_slot,
                          struct dg_error *err)
{
  const struct dg_decoder *decoder = reader->decoder;
  struct dg_secondary_piece pieces[DG_SECONDARY_PIECES];
  struct slot *slot = &reader->slots[0], *ahead = &reader->slots[1];
  unsigned own_count = 0, count;

  if (ahead->number == number) {
    *ret_slot = ahead;
    return 0;
  }
  slot->number = ahead->number = NO_WINDOW;
  if (fetch_window(reader, slot, number, pieces, &own_count, err) < 0)
    return -1;
  count = own_count;
  if (decoder->seekable && count > 0 && number + 1 < decoder->window_count &&
      decoder->rows[number + 1].target_offset < reader->end) {
    struct dg_error later;

    /* Its faults are told when its turn comes. */
    if (fetch_window(reader, ahead, number + 1, pieces, &count, &later) == 0 &&
        dg_secondary_decode(reader->secondary, pieces, count, &later) == 0) {
      ahead->number = number + 1;
      own_count = 0;
    }
  }
  if (own_count > 0 && dg_secondary_decode(reader->secondary, pieces, own_count, err) < 0)
    return -1;
  slot->number = number;
  *ret_slot = slot;
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
  struct slot *slot = NULL;

  reader->window = NO_WINDOW;
  if (decoder_check_call(decoder->call, err) < 0)
    return -1;
  /* Sections that run through all windows need those before this one, but not
   * the instructions in them. */
  for (; !decoder->seekable && reader->next_window < number; reader->next_window++)
    if (prepare_window(reader, reader->next_window, &slot, err) < 0 ||
        decoder_check_call(decoder->call, err) < 0)
      return -1;
  if (prepare_window(reader, number, &slot, err) < 0 ||
      buffer_reserve(&reader->target, slot->window.target_size, err) < 0 ||
      dg_vcd_window_decode(&slot->window, &slot->sections, decoder->ref->data, decoder->ref->size,
                           reader->target.data, err) < 0 ||
      codec_ref_check(decoder->ref, err) < 0 ||
      check_window(reader, number, &slot->window, err) < 0)
    return -1;
  slot->number = NO_WINDOW;
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
  for (unsigned i = 0; i < G_N_ELEMENTS(reader->slots); i++) {
    g_free(reader->slots[i].encoded.data);
    for (unsigned kind = 0; kind < DG_SECTIONS; kind++)
      g_free(reader->slots[i].plain[kind].data);
  }
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
  reader->window = reader->slots[0].number = reader->slots[1].number = NO_WINDOW;
  if (dg_secondary_decoder_new(decoder->secondary, &reader->secondary, err) < 0) {
    g_free(reader);
    return -1;
  }
  *ret_reader = &reader->reader;
  return 0;
}
