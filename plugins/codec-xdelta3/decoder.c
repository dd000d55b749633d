/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a delta: where its windows lie, and how far they can be trusted.
 *
 * Our own deltas say so themselves, in the dgx1 index; others are walked from
 * window header to window header, without decoding. What the readers then do
 * is in range-reader.c.
 */
#include "config.h"

#include "plugins/codec-xdelta3/decoder.h"

#include <openssl/evp.h>

#include "common/vcdiff/codetable.h"
#include "common/vcdiff/header.h"
#include "common/vcdiff/window.h"

#include "common/banned.h"

/* How many windows a walk may find for a target of this size: bounds the memory
 * that a hostile delta of empty windows could claim. xdelta3 makes none below
 * 16 KiB but the last. */
#define WALK_LIMIT(target_size) ((target_size) / 4096 + 4096)

int decoder_check_call(const struct dg_call *call, struct dg_error *err)
{
  if (call != NULL && call->cancelled != NULL && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED))
    return dg_fail(err, DG_E_CANCELLED, "decoding was cancelled");
  return 0;
}

static int is_zero(const uint8_t *bytes, size_t len)
{
  for (size_t i = 0; i < len; i++)
    if (bytes[i] != 0)
      return 0;
  return 1;
}

/* ---- Our own deltas ----------------------------------------------------------- */

/* Turns the index into rows. */
static int index_rows(struct dg_decoder *decoder, uint64_t first_window, struct dg_error *err)
{
  const struct dg_dgx1 *index = &decoder->index;
  struct window_row *rows = g_try_new(struct window_row, (gsize)index->window_count + 1);
  uint64_t at = first_window;

  if (rows == NULL)
    return dg_fail(err, DG_E_LIMIT, "no memory for an index of %u windows", index->window_count);
  for (uint32_t i = 0; i < index->window_count; i++) {
    struct dg_dgx1_window window;

    dg_dgx1_entry(decoder->app, i, &window);
    rows[i] = (struct window_row){(uint64_t)i * index->window_size, at};
    at += window.delta_size;
  }
  rows[index->window_count] = (struct window_row){index->target_size, at};
  if (at != decoder->delta->size_bytes) {
    g_free(rows);
    return dg_fail(err, DG_E_CORRUPT,
                   "dgx1: the windows end at byte %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT, at,
                   decoder->delta->size_bytes);
  }
  decoder->rows = rows;
  decoder->window_count = index->window_count;
  decoder->largest_window = (uint32_t)MIN(index->target_size, (uint64_t)index->window_size);
  return 0;
}

/* Reads a header that claims to be ours. Fails without harm when it cannot be
 * used: the windows can still be walked. */
static int open_index(struct dg_decoder *decoder, const struct dg_vcd_header *header,
                      const struct dg_decode_params *params, struct dg_error *err)
{
  uint8_t sha256[32];
  int bound = !is_zero(params->header_sha256, sizeof params->header_sha256);

  decoder->header = g_try_malloc((gsize)header->size_bytes);
  if (decoder->header == NULL)
    return dg_fail(err, DG_E_LIMIT, "no memory for a header of %" G_GUINT64_FORMAT " bytes",
                   header->size_bytes);
  if (decoder->delta->read_at(decoder->delta->self, 0, decoder->header, (size_t)header->size_bytes,
                              err) < 0)
    return -1;
  decoder->app = decoder->header + header->app_offset;
  if (bound) {
    if (EVP_Digest(decoder->header, (size_t)header->size_bytes, sha256, NULL, EVP_sha256(), NULL) !=
        1)
      return dg_fail(err, DG_E_INTERNAL, "SHA-256 failed");
    if (memcmp(sha256, params->header_sha256, sizeof sha256) != 0)
      return dg_fail(err, DG_E_CORRUPT, "dgx1: the header is not the one written at PUT");
  }
  if (dg_dgx1_parse(decoder->app, (size_t)header->app_size, &decoder->index, err) < 0)
    return -1;
  if (decoder->index.target_size != params->target_size)
    return dg_fail(err, DG_E_CORRUPT, "dgx1: the index is for another object, by its size");
  if (!is_zero(params->target_sha256, sizeof params->target_sha256) &&
      memcmp(decoder->index.target_sha256, params->target_sha256, 32) != 0)
    return dg_fail(err, DG_E_CORRUPT, "dgx1: the index is for another object, by its SHA-256");
  if (decoder->index.reference_size != decoder->ref->size)
    return dg_fail(err, DG_E_CORRUPT, "dgx1: the index is for another reference, by its size");
  if (index_rows(decoder, header->size_bytes, err) < 0)
    return -1;
  decoder->verified = bound;
  return 0;
}

/* ---- Deltas of others --------------------------------------------------------- */

static int walk_windows(struct dg_decoder *decoder, uint64_t first_window,
                        const struct dg_decode_params *params, struct dg_error *err)
{
  g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(struct window_row));
  struct window_row row = {0, first_window};
  const struct dg_source *delta = decoder->delta;

  while (row.delta_offset < delta->size_bytes) {
    uint8_t probe[DG_VCD_WINDOW_PROBE];
    size_t probe_len = (size_t)MIN(sizeof probe, delta->size_bytes - row.delta_offset);
    struct dg_vcd_window window;

    if (decoder_check_call(decoder->call, err) < 0 ||
        delta->read_at(delta->self, row.delta_offset, probe, probe_len, err) < 0 ||
        dg_vcd_window_parse(probe, probe_len, &window, err) < 0)
      return -1;
    if (window.size_bytes > delta->size_bytes - row.delta_offset)
      return dg_fail(err, DG_E_CORRUPT, "window %u is cut off", rows->len);
    if (window.target_size > params->target_size - row.target_offset)
      return dg_fail(err, DG_E_CORRUPT, "the delta makes more than %" G_GUINT64_FORMAT " bytes",
                     params->target_size);
    if (rows->len >= WALK_LIMIT(params->target_size))
      return dg_fail(err, DG_E_LIMIT, "the delta has too many windows for its target");
    g_array_append_val(rows, row);
    row.target_offset += window.target_size;
    row.delta_offset += window.size_bytes;
    decoder->largest_window = MAX(decoder->largest_window, window.target_size);
  }
  if (row.target_offset != params->target_size)
    return dg_fail(err, DG_E_CORRUPT,
                   "the delta makes %" G_GUINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT,
                   row.target_offset, params->target_size);
  decoder->window_count = rows->len;
  g_array_append_val(rows, row);
  decoder->rows = (struct window_row *)(void *)g_array_free(g_steal_pointer(&rows), FALSE);
  return 0;
}

/* ---- The ops ------------------------------------------------------------------ */

/* Whether the application header is worth reading in full. */
static int looks_like_ours(const struct dg_source *delta, const struct dg_vcd_header *header,
                           struct dg_error *err)
{
  uint8_t magic[sizeof DG_DGX1_MAGIC];

  if (header->app_size < sizeof magic || header->app_size > DG_DGX1_MAX_SIZE)
    return 0;
  if (delta->read_at(delta->self, header->app_offset, magic, sizeof magic, err) < 0)
    return -1;
  return dg_dgx1_is(magic, sizeof magic);
}

int codec_decode_open(void *self, const struct dg_call *call, const struct dg_codec_ref *ref,
                      const struct dg_decode_params *params, struct dg_decode_info *ret_info,
                      struct dg_decoder **ret_decoder, struct dg_error *err)
{
  const struct dg_source *delta = params->delta;
  g_autoptr(dg_decoder) decoder = g_new0(struct dg_decoder, 1);
  uint8_t probe[DG_VCD_HEADER_PROBE];
  size_t probe_len = (size_t)MIN(sizeof probe, delta->size_bytes);
  struct dg_vcd_header header;
  int ours;

  decoder->call = call;
  decoder->delta = delta;
  decoder->ref = ref;
  if (delta->read_at(delta->self, 0, probe, probe_len, err) < 0 ||
      dg_vcd_header_parse(probe, probe_len, delta->size_bytes, &header, err) < 0)
    return -1;
  decoder->secondary = header.secondary;
  ours = looks_like_ours(delta, &header, err);
  if (ours < 0)
    return -1;
  if (ours && open_index(decoder, &header, params, err) < 0) {
    /* A fault of the storage ends it here. A bad index does not: the windows
     * may be sound, and the caller checks the whole. */
    if (err->code != DG_E_CORRUPT)
      return -1;
    if (self != NULL)
      codec_log(self, DG_LOG_WARN, "codec.index_ignored", "reason=\"%s\"", err->detail);
    g_clear_pointer(&decoder->rows, g_free);
    ours = 0;
  }
  if (!ours) {
    g_clear_pointer(&decoder->header, g_free);
    decoder->app = NULL;
    if (walk_windows(decoder, header.size_bytes, params, err) < 0)
      return -1;
  }
  decoder->seekable = header.secondary == DG_SECONDARY_NONE || header.secondary == DG_SECONDARY_DJW;
  *ret_info = (struct dg_decode_info){.struct_size = sizeof *ret_info,
                                      .verified = decoder->verified,
                                      .seekable = decoder->seekable,
                                      .window_count = decoder->window_count,
                                      .largest_window = decoder->largest_window};
  *ret_decoder = g_steal_pointer(&decoder);
  return 0;
}

void codec_decode_close(struct dg_decoder *decoder)
{
  if (decoder == NULL)
    return;
  g_free(decoder->rows);
  g_free(decoder->header);
  g_free(decoder);
}
