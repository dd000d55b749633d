/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the chunked transfer coding off a request body.
 *
 * A byte-wise state machine over framing only: payload bytes are pointed at,
 * never copied. Strict where leniency has been used to smuggle requests: CRLF
 * everywhere, 1 to 15 hex digits, no blanks around the size. Extensions are
 * skipped; trailer lines are checked, bounded and dropped. Pure. [any] */
#ifndef DG_CORE_HTTP_CHUNKED_H
#define DG_CORE_HTTP_CHUNKED_H

#include <stddef.h>
#include <stdint.h>

#define DG_CHUNKED_MAX_LINE 4096u    /* size line with its extensions */
#define DG_CHUNKED_MAX_TRAILER 8192u /* all trailer lines together */

/* Zero it to begin. */
struct dg_chunked {
  uint32_t state;       /* see chunked.c */
  uint32_t line_bytes;  /* of the current size line, or of the whole trailer */
  uint32_t digits;
  uint32_t reserved;
  uint64_t left;        /* payload bytes left in the current chunk */
};

enum dg_chunked_result {
  DG_CHUNKED_MORE,      /* all of it was framing: give more */
  DG_CHUNKED_DATA,      /* payload follows the framing */
  DG_CHUNKED_END,       /* the body is complete; bytes after *ret_skip are not ours */
  DG_CHUNKED_MALFORMED,
};

/* Looks at [data, data + len). *ret_skip is how many bytes of framing stand in
 * front; with DG_CHUNKED_DATA, *ret_data (at least 1) payload bytes follow
 * them. The caller consumes both: the state moves on as if it had. */
enum dg_chunked_result dg_chunked_step(struct dg_chunked *chunked, const void *data, size_t len,
                                       size_t *ret_skip, size_t *ret_data);

/* For a caller that receives payload without showing it: how many bytes of the
 * current chunk are still to come (0 while framing is due), and that it has
 * received so many of them. */
uint64_t dg_chunked_payload_left(const struct dg_chunked *chunked);
void dg_chunked_took(struct dg_chunked *chunked, size_t len);

#endif
