/* SPDX-License-Identifier: Apache-2.0 */
/* Body framing: from the socket into the block that the next job gets.
 *
 * libevent 2.1 reads at most 4 KiB at a time, whatever it is told, so payload
 * is received straight into the block; the bufferevent brings only what came
 * with the head, and the framing between chunks.
 *
 * Backpressure: while a worker is busy with one block and the next is full,
 * nothing is received, and TCP tells the client. */
#include "config.h"

#include "core/http/gate.h"

#include <event2/buffer.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/http/wire.h"

#include "common/banned.h"

/* Thrown away at once, of a refused body. */
#define DISCARD_BYTES (1024u * 1024u)
/* Decrypted at once between chunks: payload among it is copied once more. */
#define FRAMING_BYTES 4096u

/* The next payload bytes that may be received without touching what follows. */
static uint64_t payload_left(const struct dg_conn *conn)
{
  return conn->framing == DG_FRAMING_CHUNKED ? dg_chunked_payload_left(&conn->chunked)
                                             : conn->body_left;
}

static void took(struct dg_conn *conn, size_t len)
{
  conn->in_bytes += len;
  if (conn->framing == DG_FRAMING_CHUNKED)
    return;
  conn->body_left -= len;
  conn->body_done = conn->body_left == 0;
}

/* The block being filled, or NULL: without memory the connection ends. */
static struct dg_block *fill_block(struct dg_conn *conn)
{
  struct dg_stream *stream = conn->stream;

  if (!stream->fill) {
    uint64_t want = conn->framing == DG_FRAMING_LENGTH && conn->body_left < DG_BLOCK_BYTES
                        ? conn->body_left
                        : DG_BLOCK_BYTES;

    stream->fill = dg_block_new((size_t)want);
    if (!stream->fill)
      dg_conn_doom(conn);
  }
  return stream->fill;
}

/* Up to len bytes of payload from the socket: into memory, or nowhere (then
 * the kernel does not even copy them). 0: none there. */
static size_t receive(struct dg_conn *conn, void *memory, size_t len)
{
  ssize_t got;

  if (conn->wire)
    return dg_wire_receive(conn->wire, memory, len);
  /* An end or an error is left for libevent to find and report. With MSG_TRUNC
   * nothing is written, which the sanitizers' recv() does not know. */
  if (memory)
    got = recv(conn->fd, memory, len, MSG_DONTWAIT);
  else
    got = syscall(SYS_recvfrom, conn->fd, NULL, len, MSG_DONTWAIT | MSG_TRUNC, NULL, NULL);
  return got > 0 ? (size_t)got : 0;
}

/* Payload bytes that libevent has brought: at most `len` of them. */
static void take_from_input(struct dg_conn *conn, struct evbuffer *input, size_t len)
{
  struct dg_stream *stream = conn->stream;

  if (conn->body_refused) {
    evbuffer_drain(input, len);
  } else {
    evbuffer_remove(input, stream->fill->data + stream->fill->len, len);
    stream->fill->len += len;
  }
  took(conn, len);
}

static int step_input_chunked(struct dg_conn *conn, struct evbuffer *input, size_t room)
{
  struct evbuffer_iovec span;
  size_t skip, payload;
  enum dg_chunked_result result;

  if (evbuffer_peek(input, -1, NULL, &span, 1) < 1)
    return 0;
  if (span.iov_len > room)
    span.iov_len = room; /* never more payload than fits */
  result = dg_chunked_step(&conn->chunked, span.iov_base, span.iov_len, &skip, &payload);
  evbuffer_drain(input, skip);
  if (result == DG_CHUNKED_MALFORMED)
    return -1;
  if (result == DG_CHUNKED_END)
    conn->body_done = true;
  else if (payload)
    take_from_input(conn, input, payload);
  return 0;
}

/* Straight from the socket, once libevent's input is used up. */
static bool step_socket(struct dg_conn *conn, size_t room)
{
  struct dg_block *fill = conn->body_refused ? NULL : conn->stream->fill;
  uint64_t left = payload_left(conn);
  size_t got;

  if (left == 0) /* between chunks: the bufferevent brings by itself what stands there */
    return conn->wire && dg_wire_pull(conn->wire, FRAMING_BYTES) > 0;
  got = receive(conn, fill ? fill->data + fill->len : NULL, left < room ? (size_t)left : room);
  if (got == 0)
    return false;
  if (fill)
    fill->len += got;
  if (conn->framing == DG_FRAMING_CHUNKED)
    dg_chunked_took(&conn->chunked, got);
  took(conn, got);
  return true;
}

int dg_body_step(struct dg_conn *conn)
{
  struct evbuffer *input = conn->input;

  while (!conn->body_done && !conn->doomed) {
    size_t arrived = evbuffer_get_length(input), room = DISCARD_BYTES;

    if (!conn->body_refused) {
      struct dg_block *fill = fill_block(conn);

      room = fill ? fill->capacity - fill->len : 0;
      if (room == 0)
        return 0;
    }
    if (arrived == 0) {
      if (!step_socket(conn, room))
        return 0;
    } else if (conn->framing == DG_FRAMING_CHUNKED) {
      if (step_input_chunked(conn, input, room) < 0)
        return -1;
    } else {
      if (arrived > conn->body_left)
        arrived = (size_t)conn->body_left;
      take_from_input(conn, input, arrived < room ? arrived : room);
    }
  }
  return conn->body_done ? 1 : 0;
}

/* A refused body, or whatever else still comes: how much was thrown away. */
size_t dg_body_discard(struct dg_conn *conn)
{
  struct evbuffer *input = conn->input;
  size_t count = evbuffer_get_length(input);

  evbuffer_drain(input, count);
  count += receive(conn, NULL, DISCARD_BYTES);
  return count;
}
