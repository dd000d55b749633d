/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/sigv4.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#include "common/checksum.h"
#include "common/hex.h"
#include "common/slice.h"
#include "common/uri.h"

#include "common/banned.h"

#define MAX_QUERY_PAIRS 256

bool dg_payload_mode_parse(struct dg_slice value, enum dg_payload_mode *ret_mode)
{
  static const struct {
    const char *text;
    enum dg_payload_mode mode;
  } words[] = {
      {"UNSIGNED-PAYLOAD", DG_PAYLOAD_UNSIGNED},
      {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", DG_PAYLOAD_SIGNED_CHUNKS},
      {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", DG_PAYLOAD_SIGNED_TRAILER},
      {"STREAMING-UNSIGNED-PAYLOAD-TRAILER", DG_PAYLOAD_UNSIGNED_TRAILER},
  };

  if (dg_hex_is(value, 64, /* lower_only= */ false)) {
    *ret_mode = DG_PAYLOAD_SHA256;
    return true;
  }
  for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
    if (dg_slice_equal_str(value, words[i].text)) {
      *ret_mode = words[i].mode;
      return true;
    }
  }
  return false;
}

void dg_sigv4_key(struct dg_slice secret, const struct dg_sigv4_scope *scope, uint8_t out[32])
{
  g_autofree char *first = g_malloc(secret.len + 4);

  memcpy(first, "AWS4", 4);
  if (secret.len)
    memcpy(first + 4, secret.data, secret.len);
  dg_hmac_sha256(first, secret.len + 4, scope->date, out);
  dg_hmac_sha256(out, 32, scope->region, out);
  dg_hmac_sha256(out, 32, scope->service, out);
  dg_hmac_sha256(out, 32, DG_SLICE("aws4_request"), out);
  OPENSSL_cleanse(first, secret.len + 4);
}

/* Makes room for `more` bytes at the end and returns where they go; the caller
 * then sets the length. */
static char *reserve(GString *out, size_t more)
{
  gsize len = out->len;

  g_string_set_size(out, len + more);
  out->len = len;
  return out->str + len;
}

static void set_length(GString *out, size_t len)
{
  out->len = len;
  out->str[len] = '\0';
}

static bool append_recoded(GString *out, struct dg_slice text, bool query, bool as_sent)
{
  size_t len;

  if (as_sent) {
    dg_slice_append(out, text);
    return true;
  }
  len = dg_uri_recode(text, /* plus_is_space= */ query, /* keep_slash= */ !query,
                      reserve(out, 3 * text.len));
  if (len == SIZE_MAX) {
    set_length(out, out->len);
    return false;
  }
  set_length(out, out->len + len);
  return true;
}

bool dg_sigv4_append_path(GString *out, struct dg_slice raw_path, bool as_sent)
{
  return append_recoded(out, raw_path, /* query= */ false, as_sent);
}

static int compare_pairs(const void *a, const void *b)
{
  const struct dg_query_pair *x = a, *y = b;
  int order = dg_slice_compare(x->name, y->name);

  return order ? order : dg_slice_compare(x->value, y->value);
}

bool dg_sigv4_append_query(GString *out, struct dg_slice raw_query, struct dg_slice omit,
                           bool as_sent)
{
  struct dg_query_pair pairs[MAX_QUERY_PAIRS], pair;
  g_autofree char *encoded = NULL;
  char *place;
  size_t count = 0;

  if (raw_query.len == 0)
    return true;
  /* Encoded first: the order is that of the encoded bytes. */
  place = encoded = g_malloc(3 * raw_query.len + 1);
  while (dg_query_next(&raw_query, &pair)) {
    if (omit.len && dg_slice_equal(pair.name, omit))
      continue;
    if (count == MAX_QUERY_PAIRS)
      return false;
    if (!as_sent) {
      struct dg_slice *parts[] = {&pair.name, &pair.value};

      for (size_t i = 0; i < 2; i++) {
        size_t len = dg_uri_recode(*parts[i], /* plus_is_space= */ true,
                                   /* keep_slash= */ false, place);

        if (len == SIZE_MAX)
          return false;
        *parts[i] = dg_slice_of(place, len);
        place += len;
      }
    }
    pairs[count++] = pair;
  }
  qsort(pairs, count, sizeof pairs[0], compare_pairs);
  for (size_t i = 0; i < count; i++) {
    if (i)
      g_string_append_c(out, '&');
    dg_slice_append(out, pairs[i].name);
    g_string_append_c(out, '=');
    dg_slice_append(out, pairs[i].value);
  }
  return true;
}

void dg_sigv4_append_value(GString *out, struct dg_slice value)
{
  value = dg_slice_trim(value);
  for (size_t i = 0; i < value.len;) {
    const char *space = memchr(value.data + i, ' ', value.len - i);
    size_t run = space ? (size_t)(space - value.data) - i + 1 : value.len - i;

    g_string_append_len(out, value.data + i, (gssize)run);
    i += run;
    while (i < value.len && space && value.data[i] == ' ')
      i++;
  }
}

static void append_scope(GString *out, const struct dg_sigv4_scope *scope)
{
  dg_slice_append(out, scope->date);
  g_string_append_c(out, '/');
  dg_slice_append(out, scope->region);
  g_string_append_c(out, '/');
  dg_slice_append(out, scope->service);
  g_string_append(out, "/aws4_request");
}

void dg_sigv4_string_to_sign(GString *out, struct dg_slice timestamp,
                             const struct dg_sigv4_scope *scope, const GString *canonical)
{
  uint8_t digest[32];
  char hex[65];

  g_string_append(out, DG_SIGV4_ALGORITHM "\n");
  dg_slice_append(out, timestamp);
  g_string_append_c(out, '\n');
  append_scope(out, scope);
  g_string_append_c(out, '\n');
  dg_sha256(canonical->str, canonical->len, digest);
  dg_hex_encode(digest, sizeof digest, hex);
  g_string_append_len(out, hex, 64);
}

void dg_sigv4_sign(const uint8_t key[32], struct dg_slice text, char out[65])
{
  uint8_t mac[32];

  dg_hmac_sha256(key, 32, text, mac);
  dg_hex_encode(mac, sizeof mac, out);
}

/* Both kinds share a frame; only a chunk names the (empty) chunk headers. */
static void sign_piece(const struct dg_sigv4_seed *seed, const char *algorithm,
                       const char *extra_line, const uint8_t sha256[32], char out[65])
{
  char text[512], hex[65];
  int len;

  dg_hex_encode(sha256, 32, hex);
  len = g_snprintf(text, sizeof text, "%s\n%s\n%s\n%s\n%s%s", algorithm, seed->timestamp,
                   seed->scope, seed->signature, extra_line, hex);
  dg_sigv4_sign(seed->key, dg_slice_of(text, (size_t)len), out);
}

void dg_sigv4_sign_chunk(const struct dg_sigv4_seed *seed, const uint8_t data_sha256[32],
                         char out[65])
{
  sign_piece(seed, "AWS4-HMAC-SHA256-PAYLOAD", DG_SHA256_EMPTY_HEX "\n", data_sha256, out);
}

void dg_sigv4_sign_trailer(const struct dg_sigv4_seed *seed, const uint8_t trailer_sha256[32],
                           char out[65])
{
  sign_piece(seed, "AWS4-HMAC-SHA256-TRAILER", "", trailer_sha256, out);
}
