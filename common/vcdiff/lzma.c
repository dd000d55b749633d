/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/secondary-private.h"
#include "common/vcdiff/secondary.h"
#include "common/vcdiff/varint.h"

#include <deltaglider/plugin.h>
#include <glib.h>
#include <lzma.h>

#include "common/banned.h"

/* xdelta3 goes up to preset 9, whose dictionary is 64 MiB. */
#define DECODER_MEMORY (80u << 20)

/* Sections shorter than this stay as they are: the framing alone costs more. */
#define SECTION_MIN    16u

/* ---- Decoding --------------------------------------------------------------- */

struct dg_lzma_decoder {
  lzma_stream stream;
  int ready;
};

struct dg_lzma_decoder *dg_lzma_decoder_new(void)
{
  return g_new0(struct dg_lzma_decoder, 1);
}

void dg_lzma_decoder_free(struct dg_lzma_decoder *decoder)
{
  if (decoder == NULL)
    return;
  lzma_end(&decoder->stream);
  g_free(decoder);
}

int dg_lzma_decode(struct dg_lzma_decoder *decoder, const uint8_t *coded, size_t coded_len,
                   uint8_t *plain, size_t plain_len, struct dg_error *err)
{
  lzma_stream *stream = &decoder->stream;

  if (!decoder->ready) {
    if (lzma_stream_decoder(stream, DECODER_MEMORY, 0) != LZMA_OK)
      return dg_fail(err, DG_E_INTERNAL, "LZMA: no memory for a decoder");
    decoder->ready = 1;
  }
  stream->next_in = coded;
  stream->avail_in = coded_len;
  stream->next_out = plain;
  stream->avail_out = plain_len;
  /* A flushed piece may end with bytes that yield nothing, so go on until the
   * input is used up; liblzma reports a call without progress by itself. */
  while (stream->avail_in > 0 || stream->avail_out > 0) {
    lzma_ret result = lzma_code(stream, LZMA_RUN);

    if (result == LZMA_MEMLIMIT_ERROR)
      return dg_fail(err, DG_E_LIMIT, "LZMA: the section wants a dictionary above %u MiB",
                     DECODER_MEMORY >> 20);
    if (result == LZMA_STREAM_END && stream->avail_in == 0 && stream->avail_out == 0)
      break;
    if (result != LZMA_OK)
      return dg_fail(err, DG_E_CORRUPT, "LZMA: bad section (%d)", (int)result);
  }
  return 0;
}

/* ---- Encoding --------------------------------------------------------------- */

struct dg_lzma_encoder {
  lzma_options_lzma options;
  lzma_stream streams[DG_SECTIONS];
  int ready[DG_SECTIONS];
};

int dg_lzma_encoder_new(uint32_t preset, struct dg_lzma_encoder **ret_encoder, struct dg_error *err)
{
  struct dg_lzma_encoder *encoder = g_new0(struct dg_lzma_encoder, 1);

  if (preset > 9 || lzma_lzma_preset(&encoder->options, preset)) {
    g_free(encoder);
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "LZMA: preset %u is not in 0..9", preset);
  }
  *ret_encoder = encoder;
  return 0;
}

void dg_lzma_encoder_free(struct dg_lzma_encoder *encoder)
{
  if (encoder == NULL)
    return;
  for (unsigned kind = 0; kind < DG_SECTIONS; kind++)
    lzma_end(&encoder->streams[kind]);
  g_free(encoder);
}

size_t dg_lzma_bound(size_t len)
{
  /* LZMA2 stores what it cannot shrink in chunks of up to 64 KiB with three
   * bytes each; the stream and block headers come once. */
  return len + len / 4096 + 256;
}

int dg_lzma_encode(struct dg_lzma_encoder *encoder, unsigned kind, const uint8_t *plain, size_t len,
                   uint8_t *out, size_t out_capacity, size_t *ret_len, struct dg_error *err)
{
  lzma_stream *stream = &encoder->streams[kind];
  lzma_ret result;
  uint8_t *coded;

  if (len < SECTION_MIN) {
    *ret_len = 0;
    return 0;
  }
  if (out_capacity < dg_lzma_bound(len))
    return dg_fail(err, DG_E_INTERNAL, "LZMA: output buffer too small");
  if (!encoder->ready[kind]) {
    lzma_filter filters[] = {{.id = LZMA_FILTER_LZMA2, .options = &encoder->options},
                             {.id = LZMA_VLI_UNKNOWN}};

    if (lzma_stream_encoder(stream, filters, LZMA_CHECK_NONE) != LZMA_OK)
      return dg_fail(err, DG_E_INTERNAL, "LZMA: no memory for an encoder");
    encoder->ready[kind] = 1;
  }
  coded = dg_varint_put(out, len);
  stream->next_in = plain;
  stream->avail_in = len;
  stream->next_out = coded;
  stream->avail_out = out_capacity - (size_t)(coded - out);
  do
    result = lzma_code(stream, LZMA_SYNC_FLUSH);
  while (result == LZMA_OK && stream->avail_out > 0);
  if (result != LZMA_STREAM_END)
    return dg_fail(err, DG_E_INTERNAL, "LZMA: the encoder failed (%d)", (int)result);
  *ret_len = (size_t)(stream->next_out - out);
  return 0;
}
