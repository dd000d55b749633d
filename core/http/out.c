/* SPDX-License-Identifier: Apache-2.0 */
/* The way out: response heads, and bytes to the socket.
 *
 * A bufferevent writes on the loop's next turn, which costs two epoll_ctl and
 * one epoll_wait per small answer. As long as its output is empty the gate
 * writes to the socket itself, head and body in one sendmsg, and leaves to the
 * bufferevent only what the socket did not take. */
#include "config.h"

#include "core/http/gate.h"

#include <errno.h>
#include <event2/buffer.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "common/slice.h"
#include "core/http/wire.h"

#include "common/banned.h"

#define MAX_SPANS 8

size_t dg_out_pending(const struct dg_conn *conn)
{
  return evbuffer_get_length(conn->output);
}

/* How much the socket takes right now; 0 when it takes nothing, or the
 * connection is broken (then it is doomed). */
static size_t send_now(struct dg_conn *conn, const struct dg_span *spans, unsigned count, bool more)
{
  struct iovec vector[MAX_SPANS];
  struct msghdr message = {.msg_iov = vector, .msg_iovlen = count};
  ssize_t sent;

  for (unsigned i = 0; i < count; i++) {
    vector[i].iov_base = (void *)(uintptr_t)spans[i].data;
    vector[i].iov_len = spans[i].len;
  }
  do
    sent = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
  while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS && errno != ENOMEM)
      dg_conn_doom(conn);
    return 0;
  }
  return (size_t)sent;
}

void dg_out_spans(struct dg_conn *conn, struct dg_span *spans, unsigned count, bool more)
{
  struct evbuffer *output = conn->output;
  size_t sent = 0;

  g_assert(count <= MAX_SPANS);
  if (!conn->wire && !conn->doomed && evbuffer_get_length(output) == 0)
    sent = send_now(conn, spans, count, more);
  for (unsigned i = 0; i < count; i++) {
    struct dg_span *span = &spans[i];
    size_t gone = sent < span->len ? sent : span->len;
    const char *rest = (const char *)span->data + gone;

    sent -= gone;
    conn->out_bytes += span->len;
    if (gone == span->len || conn->doomed) {
      if (span->free)
        span->free(span->data, span->len, span->owner);
    } else if (!span->free) {
      if (evbuffer_add(output, rest, span->len - gone) < 0)
        dg_conn_doom(conn);
    } else if (evbuffer_add_reference(output, rest, span->len - gone, span->free, span->owner) < 0) {
      span->free(span->data, span->len, span->owner);
      dg_conn_doom(conn);
    }
  }
  if (conn->wire)
    dg_wire_flush(conn->wire);
}

/* Corked, the kernel sends only full segments: without it every piece of a file
 * wakes the receiver, which costs half as much again as sending it. The socket
 * does not delay by itself, so uncorking sends what is left at once. */
static void cork(struct dg_conn *conn, bool on)
{
  int value = on;

  if (conn->corked != on &&
      setsockopt(conn->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof value) == 0)
    conn->corked = on;
}

void dg_out_flush(struct dg_conn *conn)
{
  cork(conn, /* on= */ false);
}

/* Takes fd. Never with TLS: libevent would map the file there, and a file
 * truncated meanwhile would kill the process. */
int dg_out_file(struct dg_conn *conn, int fd, uint64_t offset, uint64_t length)
{
  g_assert(!conn->wire);
  if (evbuffer_add_file(conn->output, fd, (ev_off_t)offset,
                        (ev_off_t)length) < 0)
    return -1;
  cork(conn, /* on= */ true);
  conn->out_bytes += length;
  return 0;
}

/* ---- Response heads -------------------------------------------------------- */

const char *dg_out_status_text(uint16_t status)
{
  switch (status) {
  case 200: return "OK";
  case 201: return "Created";
  case 202: return "Accepted";
  case 204: return "No Content";
  case 206: return "Partial Content";
  case 301: return "Moved Permanently";
  case 302: return "Found";
  case 303: return "See Other";
  case 304: return "Not Modified";
  case 307: return "Temporary Redirect";
  case 308: return "Permanent Redirect";
  case 400: return "Bad Request";
  case 401: return "Unauthorized";
  case 403: return "Forbidden";
  case 404: return "Not Found";
  case 405: return "Method Not Allowed";
  case 408: return "Request Timeout";
  case 409: return "Conflict";
  case 411: return "Length Required";
  case 412: return "Precondition Failed";
  case 413: return "Content Too Large";
  case 414: return "URI Too Long";
  case 415: return "Unsupported Media Type";
  case 416: return "Range Not Satisfiable";
  case 417: return "Expectation Failed";
  case 429: return "Too Many Requests";
  case 431: return "Request Header Fields Too Large";
  case 500: return "Internal Server Error";
  case 501: return "Not Implemented";
  case 502: return "Bad Gateway";
  case 503: return "Service Unavailable";
  case 504: return "Gateway Timeout";
  case 505: return "HTTP Version Not Supported";
  case 507: return "Insufficient Storage";
  default: return "Unknown";
  }
}

/* Server, Date and the headers that keep browsers from guessing: rendered
 * once a second. */
static void refresh_date_block(struct dg_loop *loop)
{
  static const char days[] = "SunMonTueWedThuFriSat";
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  struct timespec now;
  struct tm parts;

  (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec == loop->date_s)
    return;
  loop->date_s = now.tv_sec;
  (void)gmtime_r(&now.tv_sec, &parts);
  loop->date_block_len = (uint32_t)g_snprintf(
      loop->date_block, sizeof loop->date_block,
      "Server: DeltaGlider\r\nDate: %.3s, %02d %.3s %d %02d:%02d:%02d GMT\r\n"
      "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n%s",
      days + 3 * parts.tm_wday, parts.tm_mday, months + 3 * parts.tm_mon, parts.tm_year + 1900,
      parts.tm_hour, parts.tm_min, parts.tm_sec,
      loop->tls ? "Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n" : "");
}

static void append_number(GString *out, uint64_t number)
{
  char digits[20];
  size_t at = sizeof digits;

  do
    digits[--at] = (char)('0' + number % 10);
  while (number /= 10);
  g_string_append_len(out, digits + at, (gssize)(sizeof digits - at));
}

#define APPEND_LITERAL(out, text) g_string_append_len((out), (text), sizeof(text) - 1)

static void begin_head(struct dg_stream *stream, uint16_t status, GString *out)
{
  refresh_date_block(stream->loop);
  APPEND_LITERAL(out, "HTTP/1.1 ");
  append_number(out, status);
  g_string_append_c(out, ' ');
  g_string_append(out, dg_out_status_text(status));
  APPEND_LITERAL(out, "\r\n");
  g_string_append_len(out, stream->loop->date_block, (gssize)stream->loop->date_block_len);
  APPEND_LITERAL(out, "x-amz-request-id: ");
  g_string_append(out, stream->x.request.id);
  APPEND_LITERAL(out, "\r\nx-amz-id-2: ");
  g_string_append(out, stream->loop->gate->host_id);
  g_string_append_len(out, stream->x.request.id + 24, 12);
  APPEND_LITERAL(out, "\r\n");
}

static void end_head(const struct dg_stream *stream, GString *out)
{
  if (!stream->conn->keep)
    APPEND_LITERAL(out, "Connection: close\r\n");
  else if (stream->x.request.http_minor == 0)
    APPEND_LITERAL(out, "Connection: keep-alive\r\n");
  APPEND_LITERAL(out, "\r\n");
}

void dg_out_head(struct dg_stream *stream, GString *out)
{
  const struct dg_response *response = &stream->x.response;

  begin_head(stream, response->status, out);
  if (response->head)
    g_string_append_len(out, response->head->str, (gssize)response->head->len);
  /* 204 and 304 end with their head; everything else says its length. */
  if (response->status != 204 && response->status != 304) {
    APPEND_LITERAL(out, "Content-Length: ");
    append_number(out, response->length);
    APPEND_LITERAL(out, "\r\n");
  }
  end_head(stream, out);
}

void dg_out_early_head(struct dg_stream *stream, GString *out)
{
  begin_head(stream, 200, out);
  if (stream->x.handler->slow == DG_SLOW_JSON)
    APPEND_LITERAL(out, "Content-Type: application/json\r\n");
  else
    APPEND_LITERAL(out, "Content-Type: application/xml\r\n");
  if (stream->x.request.http_minor > 0)
    APPEND_LITERAL(out, "Transfer-Encoding: chunked\r\n");
  end_head(stream, out);
}
