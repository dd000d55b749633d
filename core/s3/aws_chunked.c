/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/aws_chunked.h"

#include <openssl/crypto.h>

#include "common/checksum.h"
#include "common/hex.h"
#include "common/slice.h"

#include "common/banned.h"

/*            size line              data               CRLF
 *   SIZE_LINE ----------> DATA -------------> DATA_END ------> SIZE_LINE
 *        | size 0
 *        v
 *   TRAILER: header lines and empty lines, to the end of the raw body
 *
 * The last empty line does not end it: some clients put empty lines between the
 * trailer and its signature, and the HTTP body around us ends anyway. */
enum state { SIZE_LINE, DATA, DATA_END, TRAILER };

#define MAX_EMPTY_LINES 8

struct dg_aws_chunked {
  enum dg_payload_mode mode;
  enum state state;
  bool verify;
  bool trailer_signed; /* the signature line was seen and is right */
  struct dg_sigv4_seed seed;
  uint64_t announced, size_bytes, chunk_left;
  char chunk_signature[65];
  struct dg_checksum chunk_sum;                       /* SHA-256 of the chunk's data so far */
  GString *line;                                      /* a line that spans inputs */
  GString *trailer_block;                             /* what the trailer's signature covers */
  struct dg_pair trailers[DG_AWS_CHUNK_MAX_TRAILERS]; /* owned text */
  unsigned trailer_count, empty_lines;
};

struct dg_aws_chunked *dg_aws_chunked_new(enum dg_payload_mode mode,
                                          const struct dg_sigv4_seed *seed, uint64_t decoded_length)
{
  struct dg_aws_chunked *decoder = g_new0(struct dg_aws_chunked, 1);

  decoder->mode = mode;
  decoder->announced = decoded_length;
  decoder->line = g_string_new(NULL);
  decoder->trailer_block = g_string_new(NULL);
  if (seed && mode != DG_PAYLOAD_UNSIGNED_TRAILER) {
    decoder->verify = true;
    decoder->seed = *seed;
  }
  return decoder;
}

void dg_aws_chunked_free(struct dg_aws_chunked *decoder)
{
  if (!decoder)
    return;
  for (unsigned i = 0; i < decoder->trailer_count; i++) {
    g_free((char *)(uintptr_t)decoder->trailers[i].name.data);
    g_free((char *)(uintptr_t)decoder->trailers[i].value.data);
  }
  g_string_free(decoder->line, TRUE);
  g_string_free(decoder->trailer_block, TRUE);
  dg_checksum_clear(&decoder->chunk_sum);
  OPENSSL_cleanse(&decoder->seed, sizeof decoder->seed);
  g_free(decoder);
}

static int fail_framing(struct dg_error *err, const char *what)
{
  return dg_fail(err, DG_E_INVALID_REQUEST, "The aws-chunked body is malformed: %s.", what);
}

/* A wrong signature says no more than the standard text does. */
static int fail_signature(struct dg_error *err)
{
  err->code = DG_E_SIGNATURE_MISMATCH;
  err->detail[0] = '\0';
  return -1;
}

/* Collects up to LF. 1: *ret_line is the line without CR LF, valid until the
 * next call; 0: more input needed. */
static int take_line(struct dg_aws_chunked *decoder, struct dg_slice *io_input,
                     struct dg_slice *ret_line, struct dg_error *err)
{
  size_t lf = dg_slice_find(*io_input, '\n', 0);
  size_t taken = lf == SIZE_MAX ? io_input->len : lf + 1;
  GString *line = decoder->line;

  if (line->len + taken > DG_AWS_CHUNK_MAX_LINE)
    return fail_framing(err, "a line is too long");
  g_string_append_len(line, io_input->data, (gssize)taken);
  *io_input = dg_slice_skip(*io_input, taken);
  if (lf == SIZE_MAX)
    return 0;
  /* The trailer of the unsigned mode is sent with a bare LF by some clients. */
  g_string_truncate(line, line->len - 1);
  if (line->len && line->str[line->len - 1] == '\r')
    g_string_truncate(line, line->len - 1);
  else if (decoder->state != TRAILER)
    return fail_framing(err, "a size line does not end in CR LF");
  *ret_line = dg_slice_of(line->str, line->len);
  return 1;
}

static bool parse_size(struct dg_slice text, uint64_t *ret_size)
{
  uint64_t size = 0;

  if (text.len == 0 || text.len > 16)
    return false;
  for (size_t i = 0; i < text.len; i++) {
    int digit = g_ascii_xdigit_value(text.data[i]);

    if (digit < 0 || size >> 60)
      return false;
    size = size << 4 | (uint64_t)digit;
  }
  *ret_size = size;
  return true;
}

static int parse_size_line(struct dg_aws_chunked *decoder, struct dg_slice line,
                           struct dg_error *err)
{
  static const char name[] = "chunk-signature=";
  size_t semicolon = dg_slice_find(line, ';', 0);
  struct dg_slice size = line, extension = DG_SLICE_NONE;
  uint64_t total;

  if (semicolon != SIZE_MAX) {
    size = dg_slice_of(line.data, semicolon);
    extension = dg_slice_skip(line, semicolon + 1);
  }
  if (!parse_size(dg_slice_trim(size), &decoder->chunk_left))
    return fail_framing(err, "a chunk size is no hex number");
  if (__builtin_add_overflow(decoder->size_bytes, decoder->chunk_left, &total) ||
      total > decoder->announced)
    return dg_fail(err, DG_E_INCOMPLETE_BODY, "more data than x-amz-decoded-content-length");
  if (decoder->verify) {
    extension = dg_slice_trim(extension);
    if (!dg_slice_starts_with(extension, dg_slice_str(name)) ||
        !dg_hex_is(dg_slice_skip(extension, sizeof name - 1), 64, /* lower_only= */ false))
      return fail_framing(err, "a chunk has no chunk-signature");
    for (size_t i = 0; i < 64; i++)
      decoder->chunk_signature[i] = g_ascii_tolower(extension.data[sizeof name - 1 + i]);
    dg_checksum_init(&decoder->chunk_sum, DG_SUM_SHA256);
  }
  return 0;
}

/* The chunk is complete: its signature becomes the base of the next one's. */
static int verify_chunk(struct dg_aws_chunked *decoder, struct dg_error *err)
{
  uint8_t digest[DG_SUM_MAX_BYTES];
  char expected[65];

  if (!decoder->verify)
    return 0;
  (void)dg_checksum_final(&decoder->chunk_sum, digest);
  dg_sigv4_sign_chunk(&decoder->seed, digest, expected);
  if (!dg_equal_secret(expected, decoder->chunk_signature, 64))
    return fail_signature(err);
  memcpy(decoder->seed.signature, expected, sizeof expected);
  return 0;
}

static int verify_trailer(struct dg_aws_chunked *decoder, struct dg_slice signature,
                          struct dg_error *err)
{
  uint8_t digest[32];
  char expected[65], given[64];

  if (!dg_hex_is(signature, 64, /* lower_only= */ false))
    return fail_framing(err, "x-amz-trailer-signature is no signature");
  for (size_t i = 0; i < 64; i++)
    given[i] = g_ascii_tolower(signature.data[i]);
  dg_sha256(decoder->trailer_block->str, decoder->trailer_block->len, digest);
  dg_sigv4_sign_trailer(&decoder->seed, digest, expected);
  if (!dg_equal_secret(expected, given, 64))
    return fail_signature(err);
  decoder->trailer_signed = true;
  return 0;
}

static int parse_trailer_line(struct dg_aws_chunked *decoder, struct dg_slice line,
                              struct dg_error *err)
{
  size_t colon = dg_slice_find(line, ':', 0);
  struct dg_slice name, value;
  struct dg_pair *trailer;

  if (colon == SIZE_MAX || colon == 0)
    return fail_framing(err, "a trailer line is not name:value");
  name = dg_slice_trim(dg_slice_of(line.data, colon));
  value = dg_slice_trim(dg_slice_skip(line, colon + 1));
  if (memchr(line.data, '\0', line.len))
    return fail_framing(err, "a trailer holds a NUL byte");
  if (decoder->mode == DG_PAYLOAD_SIGNED_CHUNKS)
    return fail_framing(err, "a trailer was not announced");
  if (decoder->trailer_signed)
    return fail_framing(err, "a trailer follows the trailer's signature");
  if (dg_slice_equal_nocase(name, DG_SLICE("x-amz-trailer-signature")))
    return decoder->verify ? verify_trailer(decoder, value, err) : 0;
  if (decoder->trailer_count == DG_AWS_CHUNK_MAX_TRAILERS)
    return fail_framing(err, "too many trailers");
  for (unsigned i = 0; i < decoder->trailer_count; i++)
    if (dg_slice_equal_nocase(decoder->trailers[i].name, name))
      return fail_framing(err, "a trailer is given twice");
  trailer = &decoder->trailers[decoder->trailer_count++];
  trailer->name = dg_slice_of(g_ascii_strdown(name.data, (gssize)name.len), name.len);
  trailer->value = dg_slice_of(g_strndup(value.data, value.len), value.len);
  dg_slice_append(decoder->trailer_block, trailer->name);
  g_string_append_c(decoder->trailer_block, ':');
  dg_slice_append(decoder->trailer_block, value);
  g_string_append_c(decoder->trailer_block, '\n');
  return 0;
}

/* A size line or a line of the trailer is complete. */
static int handle_line(struct dg_aws_chunked *decoder, struct dg_slice line, struct dg_error *err)
{
  if (decoder->state == TRAILER) {
    if (line.len)
      return parse_trailer_line(decoder, line, err);
    return ++decoder->empty_lines > MAX_EMPTY_LINES
               ? fail_framing(err, "too many empty lines at its end")
               : 0;
  }
  if (parse_size_line(decoder, line, err) < 0)
    return -1;
  if (decoder->chunk_left) {
    decoder->state = DATA;
    return 0;
  }
  if (verify_chunk(decoder, err) < 0)
    return -1;
  if (decoder->announced != DG_TO_END && decoder->size_bytes != decoder->announced)
    return dg_fail(err, DG_E_INCOMPLETE_BODY, "less data than x-amz-decoded-content-length");
  decoder->state = TRAILER;
  return 0;
}

/* The CR LF after a chunk's data, maybe split between inputs. */
static int take_data_end(struct dg_aws_chunked *decoder, struct dg_slice *io_input,
                         struct dg_error *err)
{
  while (io_input->len && decoder->line->len < 2) {
    g_string_append_c(decoder->line, io_input->data[0]);
    *io_input = dg_slice_skip(*io_input, 1);
  }
  if (decoder->line->len < 2)
    return 0;
  if (memcmp(decoder->line->str, "\r\n", 2) != 0)
    return fail_framing(err, "a chunk's data does not end in CR LF");
  g_string_truncate(decoder->line, 0);
  decoder->state = SIZE_LINE;
  return verify_chunk(decoder, err);
}

static void take_data(struct dg_aws_chunked *decoder, struct dg_slice *io_input,
                      struct dg_slice *ret_payload)
{
  size_t len = io_input->len < decoder->chunk_left ? io_input->len : (size_t)decoder->chunk_left;

  *ret_payload = dg_slice_of(io_input->data, len);
  *io_input = dg_slice_skip(*io_input, len);
  if (decoder->verify)
    dg_checksum_update(&decoder->chunk_sum, ret_payload->data, len);
  decoder->chunk_left -= len;
  decoder->size_bytes += len;
  if (decoder->chunk_left == 0)
    decoder->state = DATA_END;
}

int dg_aws_chunked_feed(struct dg_aws_chunked *decoder, struct dg_slice *io_input,
                        struct dg_slice *ret_payload, struct dg_error *err)
{
  *ret_payload = DG_SLICE("");
  while (io_input->len) {
    struct dg_slice line;
    int got;

    switch (decoder->state) {
    case DATA:
      take_data(decoder, io_input, ret_payload);
      return 0;
    case DATA_END:
      if (take_data_end(decoder, io_input, err) < 0)
        return -1;
      break;
    case SIZE_LINE:
    case TRAILER:
      got = take_line(decoder, io_input, &line, err);
      if (got < 0 || (got > 0 && handle_line(decoder, line, err) < 0))
        return -1;
      if (got > 0)
        g_string_truncate(decoder->line, 0);
      break;
    }
  }
  return 0;
}

int dg_aws_chunked_finish(struct dg_aws_chunked *decoder, struct dg_error *err)
{
  if (decoder->state != TRAILER)
    return dg_fail(err, DG_E_INCOMPLETE_BODY, "the aws-chunked body ends before its last chunk");
  if (decoder->line->len) { /* a line whose end was left out */
    struct dg_slice rest = DG_SLICE("\n"), line;

    if (take_line(decoder, &rest, &line, err) < 0 || handle_line(decoder, line, err) < 0)
      return -1;
    g_string_truncate(decoder->line, 0);
  }
  if (decoder->verify && decoder->mode == DG_PAYLOAD_SIGNED_TRAILER && !decoder->trailer_signed)
    return fail_framing(err, "x-amz-trailer-signature is missing");
  return 0;
}

struct dg_slice dg_aws_chunked_trailer(const struct dg_aws_chunked *decoder, const char *name)
{
  for (unsigned i = 0; i < decoder->trailer_count; i++)
    if (dg_slice_equal_nocase(decoder->trailers[i].name, dg_slice_str(name)))
      return decoder->trailers[i].value;
  return DG_SLICE_NONE;
}

uint64_t dg_aws_chunked_size(const struct dg_aws_chunked *decoder)
{
  return decoder->size_bytes;
}

char *dg_content_encoding_kept(struct dg_slice header)
{
  g_autoptr(GString) kept = g_string_new(NULL);

  while (header.len) {
    size_t comma = dg_slice_find(header, ',', 0);
    size_t end = comma == SIZE_MAX ? header.len : comma;
    struct dg_slice coding = dg_slice_trim(dg_slice_of(header.data, end));

    if (coding.len && !dg_slice_equal_nocase(coding, DG_SLICE("aws-chunked"))) {
      if (kept->len)
        g_string_append_c(kept, ',');
      dg_slice_append(kept, coding);
    }
    header = dg_slice_skip(header, end + 1);
  }
  return kept->len ? g_strdup(kept->str) : NULL;
}
