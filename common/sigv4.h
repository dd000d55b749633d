/* SPDX-License-Identifier: Apache-2.0 */
/* AWS Signature Version 4 as pure functions: the canonical request, the string
 * to sign, the signing key. A server that verifies and a client that signs
 * build the same bytes with these. Thread: [any]. */
#ifndef DG_COMMON_SIGV4_H
#define DG_COMMON_SIGV4_H

#include <deltaglider/plugin.h>
#include <glib.h>
#include <stdbool.h>

#define DG_SIGV4_ALGORITHM "AWS4-HMAC-SHA256"
/* SHA-256 of no bytes, in hex. */
#define DG_SHA256_EMPTY_HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* How the payload is sent and protected: what x-amz-content-sha256 says. */
enum dg_payload_mode {
  DG_PAYLOAD_NONE,             /* header absent (open mode, presigned) */
  DG_PAYLOAD_SHA256,           /* a digest of the whole body */
  DG_PAYLOAD_UNSIGNED,         /* UNSIGNED-PAYLOAD */
  DG_PAYLOAD_SIGNED_CHUNKS,    /* STREAMING-AWS4-HMAC-SHA256-PAYLOAD */
  DG_PAYLOAD_SIGNED_TRAILER,   /* STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER */
  DG_PAYLOAD_UNSIGNED_TRAILER, /* STREAMING-UNSIGNED-PAYLOAD-TRAILER */
};

/* Reads the header's value; a digest is 64 hex digits. False if it is none of
 * the above. */
bool dg_payload_mode_parse(struct dg_slice value, enum dg_payload_mode *ret_mode);

/* True for the three modes whose body is aws-chunked. */
static inline bool dg_payload_mode_chunked(enum dg_payload_mode mode)
{
  return mode >= DG_PAYLOAD_SIGNED_CHUNKS;
}

/* The credential scope: YYYYMMDD/region/service/aws4_request. Borrowed. */
struct dg_sigv4_scope {
  struct dg_slice date, region, service;
};

/* Derives the signing key: four HMACs. Cache it per (secret, scope). */
void dg_sigv4_key(struct dg_slice secret, const struct dg_sigv4_scope *scope, uint8_t out[32]);

/* ---- The canonical request ---------------------------------------------------
 *
 * Append in this order: method LF, path LF, query LF, each header line, LF,
 * signed header names LF, payload hash (no LF). */

/* The path as S3 canonicalises it: every byte decoded once and encoded again,
 * slashes kept, nothing normalised (`//` and `..` stay). as_sent: the client's
 * own spelling instead. False on a bad escape. */
bool dg_sigv4_append_path(GString *out, struct dg_slice raw_path, bool as_sent);

/* The query, sorted by encoded name, then value; `name` becomes `name=`.
 * The pair whose raw name is `omit` (X-Amz-Signature; may be empty) is left
 * out. False on a bad escape or more than 256 pairs. */
bool dg_sigv4_append_query(GString *out, struct dg_slice raw_query, struct dg_slice omit,
                           bool as_sent);

/* A header's value, trimmed, runs of spaces folded to one. */
void dg_sigv4_append_value(GString *out, struct dg_slice value);

/* The string to sign over SHA-256 of the canonical request. timestamp:
 * YYYYMMDDTHHMMSSZ. */
void dg_sigv4_string_to_sign(GString *out, struct dg_slice timestamp,
                             const struct dg_sigv4_scope *scope, const GString *canonical);

/* Hex of HMAC(key, text), with NUL. */
void dg_sigv4_sign(const uint8_t key[32], struct dg_slice text, char out[65]);

/* ---- Streams of signed chunks -------------------------------------------------- */

/* What chunk signatures build on; copied around, wiped by its owner. */
struct dg_sigv4_seed {
  uint8_t key[32];
  char signature[65]; /* of the request; then of the last chunk */
  char timestamp[17];
  char scope[160];    /* date/region/service/aws4_request */
};

/* The signature of a chunk whose data has this SHA-256, given the one before. */
void dg_sigv4_sign_chunk(const struct dg_sigv4_seed *seed, const uint8_t data_sha256[32],
                         char out[65]);
/* The signature of the trailer block: `name:value\n` per line, in order. */
void dg_sigv4_sign_trailer(const struct dg_sigv4_seed *seed, const uint8_t trailer_sha256[32],
                           char out[65]);

#endif
