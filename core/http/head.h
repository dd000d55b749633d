/* SPDX-License-Identifier: Apache-2.0 */
/* The strict reading of one HTTP/1 request head.
 *
 * Two parsers that disagree about where a request ends are what request
 * smuggling lives on, so nothing is guessed and nothing is repaired here: a
 * head is read the one way RFC 9112 allows, or refused. Pure: no I/O, no
 * allocation; every slice points into the head that was given. [any] */
#ifndef DG_CORE_HTTP_HEAD_H
#define DG_CORE_HTTP_HEAD_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

#define DG_HEAD_MAX_BYTES (64u * 1024u)  /* request line and headers together: 431 */
#define DG_HEAD_MAX_TARGET (8u * 1024u)  /* 414 */
#define DG_HEAD_MAX_FIELD (8u * 1024u)   /* one header line: 431 */
#define DG_HEAD_MAX_FIELDS 200u          /* 431 */
#define DG_HEAD_MAX_METHOD 20u

/* How the body that follows is delimited. */
enum dg_head_framing {
  DG_FRAMING_NONE,    /* no body, or Content-Length: 0 */
  DG_FRAMING_LENGTH,  /* content_length bytes, at least one */
  DG_FRAMING_CHUNKED,
};

struct dg_head {
  struct dg_slice method;
  struct dg_slice raw_path;   /* byte-exact; "*" only for OPTIONS */
  struct dg_slice raw_query;  /* after the first '?'; data is NULL without one */
  struct dg_slice host;       /* data is NULL when absent (HTTP/1.0 only) */
  enum dg_head_framing framing;
  uint64_t content_length;
  bool has_content_length;    /* also true for Content-Length: 0 */
  bool minor_version_0;       /* HTTP/1.0 */
  bool keep_alive;            /* what the client wants, version default included */
  bool close_requested;       /* the client itself said close */
  bool expect_continue;
  uint32_t field_count;
  struct dg_pair *fields;     /* the caller's table; names as sent, values trimmed */
};

/* Why a head was refused. */
struct dg_head_refusal {
  uint16_t status;      /* 400, 405, 414, 417, 431, 501 or 505 */
  const char *reason;   /* a literal, fit for the client */
};

/* Reads the head in [text, text + len), which ends with its empty line.
 * head->fields must point to room for field_capacity pairs (at most
 * DG_HEAD_MAX_FIELDS are used); everything else in *head is overwritten.
 *
 * Returns 0, or -1 with *ret_refusal set and *head unspecified.
 *
 * Decided here, because a proxy in front may differ:
 * - "GET http://host/path": accepted when its authority equals Host, since
 *   then both readings agree; else 400.
 * - "OPTIONS *": accepted; "*" with any other method: 400.
 * - Content-Length beside Transfer-Encoding, or twice, even if equal: 400.
 * - a method S3 has no use for: 501; CONNECT and TRACE: 405. */
int dg_head_parse(const char *text, size_t len, uint32_t field_capacity, struct dg_head *head,
                  struct dg_head_refusal *ret_refusal);

#endif
