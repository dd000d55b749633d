/* SPDX-License-Identifier: Apache-2.0 */
/* Body framing: from the connection's input to the stream, without copying.
 *
 * Backpressure needs no flag: while a worker is busy with one chunk and the
 * next is complete, nothing is taken from the input; it fills up to its
 * watermark, libevent stops reading, and TCP tells the client. */
#include "config.h"

#include "core/http/gate.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "common/banned.h"

static void take(struct dg_conn *conn, struct evbuffer *input, size_t len)
{
  struct dg_stream *stream = conn->stream;

  conn->in_bytes += len;
  if (conn->body_refused || !stream) {
    evbuffer_drain(input, len);
    return;
  }
  if (!stream->pending)
    stream->pending = evbuffer_new();
  if (!stream->pending || evbuffer_remove_buffer(input, stream->pending, len) < 0) {
    dg_conn_doom(conn);
    return;
  }
  stream->pending_bytes += len;
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
      conn->body_left -= arrived;
      take(conn, input, arrived);
      conn->body_done = conn->body_left == 0;
    }
  }
  return conn->body_done ? 1 : 0;
}
