/* SPDX-License-Identifier: Apache-2.0 */
/* Body framing: from the connection to the stream.
 *
 * Payload is gathered in blocks of one chunk. Backpressure needs no flag: while a worker is busy with one chunk and the
 * next is complete, nothing is taken from the input; it fills up to its
 * watermark, libevent stops reading, and TCP tells the client. */
#include "config.h"

#include "core/http/gate.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <sys/socket.h>

#include "core/http/block.h"

#include "common/banned.h"

static void block_free(const void *data, size_t len, void *owner)
{
  (void)data;
  (void)len;
  dg_block_free(owner);
}

/* What was gathered is a whole chunk, or the end: the next job takes it. */
static void hand_over(struct dg_conn *conn)
{
  struct dg_stream *stream = conn->stream;
  struct dg_block *block = stream->filling;

  if (!block)
    return;
  stream->filling = NULL;
  if (!stream->pending)
    stream->pending = evbuffer_new();
  if (!stream->pending ||
      evbuffer_add_reference(stream->pending, block->data, block->len, block_free, block) < 0) {
    dg_block_free(block);
    dg_conn_doom(conn);
    return;
  }
  stream->pending_bytes += block->len;
}

/* Where the next bytes of the body go, in one piece as large as may be: the
 * longer the pieces, the fewer calls into hashes and storage. */
static struct dg_block *open_block(struct dg_conn *conn)
{
  struct dg_stream *stream = conn->stream;

  if (!stream->filling) {
    uint64_t wanted = conn->framing == DG_FRAMING_CHUNKED ? DG_GATE_BODY_CHUNK : conn->body_left;

    stream->filling = dg_block_new(wanted < DG_GATE_BODY_CHUNK ? (size_t)wanted
                                                               : DG_GATE_BODY_CHUNK);
    if (!stream->filling)
      dg_conn_doom(conn);
  }
  return stream->filling;
}

/* The next len bytes of the input are payload. */
static void take(struct dg_conn *conn, struct evbuffer *input, size_t len)
{
  while (len > 0 && !conn->doomed) {
    struct dg_block *block;
    size_t part;

    if (conn->body_refused || !conn->stream) {
      conn->in_bytes += len;
      evbuffer_drain(input, len);
      return;
    }
    block = open_block(conn);
    if (!block)
      return;
    part = block->capacity - block->len < len ? block->capacity - block->len : len;
    evbuffer_remove(input, block->data + block->len, part);
    block->len += part;
    conn->in_bytes += part;
    len -= part;
    if (block->len == block->capacity)
      hand_over(conn);
  }
}

/* libevent reads 4 KiB at a time. What else has arrived goes from the socket
 * into the block, with one call. An end or an error is left for libevent to
 * meet again. */
static void take_from_socket(struct dg_conn *conn)
{
  while (conn->body_left > 0 && !conn->doomed &&
         conn->stream->pending_bytes < DG_GATE_BODY_CHUNK) {
    struct dg_block *block;
    size_t wanted;
    ssize_t got;

    if (!conn->stream->filling && conn->body_left < DG_GATE_DIRECT_MIN)
      return;
    block = open_block(conn);
    if (!block)
      return;
    wanted = block->capacity - block->len;
    if (wanted > conn->body_left)
      wanted = (size_t)conn->body_left;
    got = recv(conn->fd, block->data + block->len, wanted, MSG_DONTWAIT);
    if (got <= 0)
      return;
    block->len += (size_t)got;
    conn->in_bytes += (size_t)got;
    conn->body_left -= (size_t)got;
    conn->body_done = conn->body_left == 0;
    if (block->len == block->capacity)
      hand_over(conn);
    if ((size_t)got < wanted)
      return;
  }
}

static int step_chunked(struct dg_conn *conn, struct evbuffer *input)
{
  struct evbuffer_iovec span;
  size_t skip, payload;
  enum dg_chunked_result result;

  if (evbuffer_peek(input, -1, NULL, &span, 1) < 1)
    return 0;
  result = dg_chunked_step(&conn->chunked, span.iov_base, span.iov_len, &skip, &payload);
  evbuffer_drain(input, skip);
  if (result == DG_CHUNKED_MALFORMED)
    return -1;
  if (result == DG_CHUNKED_END)
    conn->body_done = true;
  else if (payload)
    take(conn, input, payload);
  return 0;
}

int dg_body_step(struct dg_conn *conn)
{
  struct evbuffer *input = bufferevent_get_input(conn->bev);
  size_t arrived;

  while (!conn->body_done && !conn->doomed && (arrived = evbuffer_get_length(input)) > 0) {
    if (!conn->body_refused && conn->stream &&
        conn->stream->pending_bytes >= DG_GATE_BODY_CHUNK)
      return 0;
    if (conn->framing == DG_FRAMING_CHUNKED) {
      if (step_chunked(conn, input) < 0)
        return -1;
    } else {
      if (arrived > conn->body_left)
        arrived = (size_t)conn->body_left;
      take(conn, input, arrived);
      conn->body_left -= arrived;
      conn->body_done = conn->body_left == 0;
    }
  }
  if (conn->doomed || conn->body_refused || !conn->stream)
    return conn->body_done ? 1 : 0;
  if (conn->framing == DG_FRAMING_LENGTH && !conn->tls && !conn->body_done &&
      evbuffer_get_length(input) == 0)
    take_from_socket(conn);
  if (conn->body_done)
    hand_over(conn);
  return conn->body_done ? 1 : 0;
}
