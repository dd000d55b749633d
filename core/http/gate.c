/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/gate.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/http/libevhtp.h"
#include "core/http/wire.h"

#include "common/banned.h"

/* Of a window's mark: its first look sets it. */
#define FRESH UINT64_MAX
#define MAX_SINGLE_WRITE (2u * 1024u * 1024u)

/* ---- A connection's life -------------------------------------------------------- */

static void conn_free(struct dg_conn *conn)
{
  struct dg_loop *loop = conn->loop;

  *conn->link = conn->next;
  if (conn->next)
    conn->next->link = conn->link;
  dg_slot_forget(conn);
  /* To say goodbye after half a response would call it a whole one. */
  if (conn->wire && !conn->stream && dg_out_pending(conn) == 0)
    dg_wire_end_output(conn->wire);
  if (conn->stream)
    dg_stream_detach(conn->stream);
  dg_wire_free(conn->wire);
  /* Since none of its requests ever began, evhtp has only memory to free. */
  bufferevent_setcb(conn->bev, NULL, NULL, NULL, NULL);
  evhtp_connection_free(conn->ec);
  g_free(conn);
  loop->conn_count--;
  atomic_fetch_sub(&loop->gate->conn_count, 1);
  dg_gate_check_idle(loop);
}

void dg_conn_enter(struct dg_conn *conn)
{
  conn->depth++;
}

void dg_conn_leave(struct dg_conn *conn)
{
  if (--conn->depth == 0 && conn->doomed)
    conn_free(conn);
}

void dg_conn_doom(struct dg_conn *conn)
{
  conn->doomed = true;
}

static struct evbuffer *input_of(const struct dg_conn *conn)
{
  return conn->input;
}

static void set_input_terms(struct dg_conn *conn);

/* Closing with unread bytes in the socket sends a reset, which may destroy our
 * answer on its way. So our side is closed first and the rest drained. */
void dg_gate_linger(struct dg_conn *conn)
{
  conn->state = DG_CONN_LINGER;
  conn->since_ms = conn->linger_since_ms = conn->loop->now_ms;
  conn->linger_bytes = evbuffer_get_length(input_of(conn));
  evbuffer_drain(input_of(conn), conn->linger_bytes);
  if (conn->wire)
    dg_wire_end_output(conn->wire);
  (void)shutdown(conn->fd, SHUT_WR);
  set_input_terms(conn); /* reading may be off: a handler was slower than the client */
}

static void drain_lingering(struct dg_conn *conn)
{
  conn->since_ms = conn->loop->now_ms;
  conn->linger_bytes += dg_body_discard(conn);
  if (conn->linger_bytes > DG_GATE_LINGER_BYTES)
    dg_conn_doom(conn);
}

void dg_conn_settle(struct dg_conn *conn)
{
  struct dg_stream *stream = conn->stream;

  if (conn->doomed || !stream || !stream->all_sent || dg_out_pending(conn) > 0)
    return;
  dg_out_flush(conn);
  if (conn->keep && !conn->body_done)
    return; /* the rest of the body is still being drained */
  dg_stream_detach(stream);
  if (conn->keep) {
    conn->state = DG_CONN_HEAD;
    conn->scanned = 0;
    conn->since_ms = conn->loop->now_ms;
  } else if (conn->polite_close && conn->body_done && evbuffer_get_length(input_of(conn)) == 0) {
    dg_conn_doom(conn);
  } else {
    dg_gate_linger(conn);
  }
}

/* ---- HEAD ------------------------------------------------------------------------- */

/* Length of the complete head at the front of input, 0 if incomplete. */
static size_t find_head_end(struct dg_conn *conn, struct evbuffer *input, size_t arrived)
{
  struct evbuffer_iovec span;
  struct evbuffer_ptr from, hit;
  size_t start = conn->scanned > 3 ? conn->scanned - 3 : 0;

  if (evbuffer_peek(input, -1, NULL, &span, 1) == 1 && span.iov_len == arrived) {
    const char *text = span.iov_base;
    const char *end = memmem(text + start, span.iov_len - start, "\r\n\r\n", 4);

    return end ? (size_t)(end - text) + 4 : 0;
  }
  evbuffer_ptr_set(input, &from, start, EVBUFFER_PTR_SET);
  hit = evbuffer_search(input, "\r\n\r\n", 4, &from);
  return hit.pos < 0 ? 0 : (size_t)hit.pos + 4;
}

/* Some clients end a body with a stray line break; RFC 9112 2.2 has us skip it. */
static void skip_blank_lines(struct evbuffer *input)
{
  struct evbuffer_iovec span;
  size_t blank;

  while (evbuffer_peek(input, -1, NULL, &span, 1) > 0 && span.iov_len > 0) {
    const char *text = span.iov_base;

    for (blank = 0; blank < span.iov_len && (text[blank] == '\r' || text[blank] == '\n'); blank++)
      ;
    evbuffer_drain(input, blank);
    if (blank < span.iov_len)
      return;
  }
}

static int parse_head(struct dg_stream *stream, size_t len, struct dg_head_refusal *ret_refusal)
{
  stream->head.fields = stream->fields;
  if (dg_head_parse(stream->head_text, len, DG_STREAM_INLINE_FIELDS, &stream->head,
                    ret_refusal) == 0)
    return 0;
  if (ret_refusal->status != 431 || stream->fields != stream->inline_fields)
    return -1;
  /* More fields than the stream has room for, which is rare: once more. */
  stream->fields = g_new(struct dg_pair, DG_HEAD_MAX_FIELDS);
  stream->head.fields = stream->fields;
  return dg_head_parse(stream->head_text, len, DG_HEAD_MAX_FIELDS, &stream->head, ret_refusal);
}

/* Health and metrics are asked for most when every slot is taken: they need none. */
static bool is_own_endpoint(struct dg_slice raw_path)
{
  return raw_path.len >= 3 && memcmp(raw_path.data, "/_/", 3) == 0;
}

/* Returns whether there is more to do now. */
static bool run_head(struct dg_conn *conn)
{
  struct evbuffer *input = input_of(conn);
  struct dg_head_refusal refusal = {0};
  struct dg_stream *stream;
  size_t arrived, len;

  if (conn->scanned == 0)
    skip_blank_lines(input);
  arrived = evbuffer_get_length(input);
  if (arrived == 0) {
    if (conn->loop->stopping)
      dg_conn_doom(conn);
    return false;
  }
  if (conn->scanned == 0)
    conn->since_ms = conn->loop->now_ms;
  len = find_head_end(conn, input, arrived);
  if (len == 0 && arrived <= DG_HEAD_MAX_BYTES) {
    conn->scanned = arrived;
    return false;
  }
  conn->body_done = true;
  conn->expect_pending = false;
  if (len == 0 || len > DG_HEAD_MAX_BYTES) {
    dg_stream_refuse(conn, 431, "The request head is longer than 65536 bytes.");
    return true;
  }

  conn->scanned = 0;
  stream = dg_stream_new(conn->loop, conn, len);
  evbuffer_remove(input, stream->head_text, len);
  if (parse_head(stream, len, &refusal) < 0) {
    dg_stream_refuse(conn, refusal.status, refusal.reason);
    return true;
  }
  dg_stream_fill(stream);
  conn->keep = stream->head.keep_alive;
  conn->polite_close = !stream->head.keep_alive;
  conn->framing = stream->head.framing;
  conn->body_left = stream->head.content_length;
  conn->chunked = (struct dg_chunked){0};
  conn->body_done = conn->framing == DG_FRAMING_NONE;
  conn->body_refused = false;
  conn->expect_pending = stream->head.expect_continue && !conn->body_done;
  conn->window_in = conn->window_out = FRESH;
  if (stream->head.raw_path.data[0] == '*') {
    dg_stream_answer_options(stream);
  } else if (is_own_endpoint(stream->head.raw_path) || dg_slot_take(conn)) {
    dg_stream_start(stream);
  } else {
    conn->state = DG_CONN_QUEUED;
    conn->since_ms = conn->loop->now_ms;
  }
  return true;
}

/* ---- BODY ------------------------------------------------------------------------- */

static bool run_body(struct dg_conn *conn)
{
  struct dg_stream *stream = conn->stream;
  int step = dg_body_step(conn);
  bool had_block = stream->fill != NULL;

  if (step < 0) {
    if (stream->held_until_ms > 0) { /* the answer is ready, and the last one here */
      conn->keep = false;
      conn->state = DG_CONN_RESP;
      stream->body_ended = true;
    } else if (conn->body_refused) { /* already answered: nothing can follow */
      dg_conn_doom(conn);
    } else {
      dg_stream_refuse(conn, 400, "The chunked transfer coding of the body is malformed.");
    }
    return false;
  }
  if (step == 1) {
    conn->state = DG_CONN_RESP;
    stream->body_ended = true;
  }
  dg_stream_advance(stream);
  if (step == 1)
    dg_conn_settle(conn);
  /* A block just went to a worker: go on with the next. */
  return step == 1 || (conn->state == DG_CONN_BODY && conn->stream && had_block &&
                       !conn->stream->fill);
}

/* ---- The engine --------------------------------------------------------------------- */

/* Of the bytes that must still arrive for what is being read, how many are
 * worth a wake-up. */
static int worth_waking(const struct dg_conn *conn)
{
  uint64_t left = conn->framing == DG_FRAMING_CHUNKED ? dg_chunked_payload_left(&conn->chunked)
                                                      : conn->body_left;
  size_t held = evbuffer_get_length(input_of(conn));

  if (conn->state != DG_CONN_BODY || conn->wire || left < held + DG_GATE_WAKE_MIN)
    return 1;
  left -= held;
  return left < DG_BLOCK_BYTES ? (int)left : (int)DG_BLOCK_BYTES;
}

/* Whether more input could be used now, or has to wait in the kernel. */
static bool wants_input(const struct dg_conn *conn)
{
  const struct dg_block *fill = conn->stream ? conn->stream->fill : NULL;

  if (conn->state == DG_CONN_BODY)
    return conn->body_refused || !fill || fill->len < fill->capacity;
  return conn->state == DG_CONN_LINGER ||
         evbuffer_get_length(input_of(conn)) < DG_GATE_HEAD_INPUT;
}

/* What the socket and the bufferevent should do next about input.
 *
 * Reading is stopped by hand and not by a high watermark: libevent 2.1.9 and
 * later run the callback again and again while the input stands at it.
 *
 * During a body the loop asks to be woken once per block: on a fast network it
 * would otherwise wake for every segment and spend more on system calls than
 * on bytes. */
static void set_input_terms(struct dg_conn *conn)
{
  bool reading = wants_input(conn);
  int wake = worth_waking(conn);

  if (conn->wire) {
    dg_wire_set_reading(conn->wire, reading);
    return;
  }
  if (conn->reading != reading) {
    conn->reading = reading;
    (void)(reading ? bufferevent_enable : bufferevent_disable)(conn->bev, EV_READ);
  }
  if (conn->wake_bytes != wake) {
    conn->wake_bytes = wake;
    (void)setsockopt(conn->fd, SOL_SOCKET, SO_RCVLOWAT, &wake, sizeof wake);
  }
}

/* Bytes the kernel holds back because they are not worth a wake-up. */
static uint64_t held_back(const struct dg_conn *conn)
{
  int count = 0;

  if (conn->wake_bytes <= 1 || ioctl(conn->fd, FIONREAD, &count) < 0 || count < 0)
    return 0;
  return (uint64_t)count;
}

/* On the loop's next turn. */
static void run_later(struct dg_conn *conn)
{
  if (conn->wire)
    dg_wire_trigger(conn->wire);
  else
    bufferevent_trigger(conn->bev, EV_READ,
                        BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

void dg_gate_run(struct dg_conn *conn)
{
  unsigned heads = 0;
  bool more = true;

  if (conn->running)
    return;
  conn->running = true;
  while (more && !conn->doomed) {
    switch (conn->state) {
    case DG_CONN_HEAD:
      if (heads++ < DG_GATE_HEAD_TURN) {
        more = run_head(conn);
      } else {
        run_later(conn);
        more = false;
      }
      break;
    case DG_CONN_BODY:
      more = run_body(conn);
      break;
    case DG_CONN_LINGER:
      drain_lingering(conn);
      more = false;
      break;
    case DG_CONN_QUEUED:
    case DG_CONN_RESP:
      more = false;
      break;
    }
  }
  conn->running = false;
  if (!conn->doomed)
    set_input_terms(conn);
}

static void on_read(struct bufferevent *bev, void *argument)
{
  struct dg_conn *conn = argument;

  (void)bev;
  dg_conn_enter(conn);
  dg_loop_clock(conn->loop);
  dg_gate_run(conn);
  dg_conn_leave(conn);
}

void dg_gate_drained(struct dg_conn *conn)
{
  if (conn->stream && !conn->doomed) {
    if (!conn->stream->all_sent)
      dg_stream_advance(conn->stream);
    dg_conn_settle(conn);
  }
  if (!conn->doomed && conn->state == DG_CONN_HEAD)
    dg_gate_run(conn);
}

static void on_write(struct bufferevent *bev, void *argument)
{
  struct dg_conn *conn = argument;

  (void)bev;
  dg_conn_enter(conn);
  dg_loop_clock(conn->loop);
  dg_gate_drained(conn);
  dg_conn_leave(conn);
}

/* The client left, or half of it did: an HTTP client that will not send any
 * more cannot be told from one that is gone, so both end the exchange. */
static void on_event(struct bufferevent *bev, short what, void *argument)
{
  struct dg_conn *conn = argument;

  (void)bev;
  (void)what;
  dg_conn_enter(conn);
  dg_loop_clock(conn->loop);
  dg_conn_doom(conn);
  dg_conn_leave(conn);
}

static void format_peer(const struct sockaddr *address, char *text, size_t room)
{
  text[0] = '\0';
  if (!address)
    return;
  if (address->sa_family == AF_INET)
    (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, text,
                    (socklen_t)room);
  else if (address->sa_family == AF_INET6)
    (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr,
                    text, (socklen_t)room);
}

/* Without memory for TLS the next sweep closes it: not before, since evhtp is not
 * done with accepting it. */
static void attach_wire(struct dg_conn *conn)
{
  bufferevent_setcb(conn->bev, NULL, NULL, NULL, NULL);
  (void)bufferevent_disable(conn->bev, EV_READ | EV_WRITE);
  if (dg_wire_attach(conn, conn->loop->tls) < 0)
    dg_conn_doom(conn);
  else
    set_input_terms(conn);
}

int dg_gate_attach(struct dg_loop *loop, struct evhtp_connection *ec)
{
  struct dg_conn *conn = g_new0(struct dg_conn, 1);

  dg_loop_clock(loop);
  conn->loop = loop;
  conn->ec = ec;
  conn->bev = ec->bev;
  conn->fd = ec->sock;
  conn->state = DG_CONN_HEAD;
  conn->since_ms = loop->now_ms;
  format_peer(ec->saddr, conn->peer, sizeof conn->peer);
  conn->next = loop->conns;
  conn->link = &loop->conns;
  if (conn->next)
    conn->next->link = &conn->next;
  loop->conns = conn;
  loop->conn_count++;
  conn->wake_bytes = 1;
  dg_loop_need_sweep(loop);
  conn->input = bufferevent_get_input(conn->bev);
  conn->output = bufferevent_get_output(conn->bev);
  if (loop->tls) {
    attach_wire(conn);
    return 0;
  }
  /* The callbacks that were here are evhtp's: its parser starts from them. */
  bufferevent_setcb(conn->bev, on_read, on_write, on_event, conn);
  bufferevent_setwatermark(conn->bev, EV_WRITE, DG_GATE_OUT_LOW, 0);
  bufferevent_set_max_single_write(conn->bev, MAX_SINGLE_WRITE);
  conn->reading = true;
  set_input_terms(conn);
  return 0;
}

/* ---- Time --------------------------------------------------------------------------- */

/* Bytes that have reached the client. What our buffers gave to the kernel tells
 * little: it holds megabytes, and a slow client that reads all the time frees
 * some of them once a minute. */
static uint64_t acknowledged(const struct dg_conn *conn, size_t unsent)
{
  int queued = 0;

  if (ioctl(conn->fd, SIOCOUTQ, &queued) < 0 || queued < 0)
    queued = 0;
  if (conn->wire)
    return dg_wire_sent_bytes(conn->wire) - (uint64_t)queued;
  return conn->out_bytes - unsent - (uint64_t)queued;
}

/* Less than `least` bytes moved in a whole window, while it was the client's
 * turn. */
static bool window_missed(struct dg_conn *conn, bool clients_turn, uint64_t moved,
                          uint64_t *window_mark, uint32_t window_ms, uint32_t least)
{
  bool missed;

  if (!clients_turn || *window_mark == FRESH) {
    conn->since_ms = conn->loop->now_ms;
    *window_mark = moved;
    return false;
  }
  if (conn->loop->now_ms - conn->since_ms < window_ms)
    return false;
  missed = moved - *window_mark < least;
  conn->since_ms = conn->loop->now_ms;
  *window_mark = moved;
  return missed;
}

static void sweep_exchange(struct dg_conn *conn)
{
  const struct dg_gate_params *params = &conn->loop->gate->params;
  struct dg_stream *stream = conn->stream;
  uint64_t now_ms = conn->loop->now_ms;
  size_t unsent = dg_out_pending(conn);

  if (stream->held_until_ms > 0) {
    dg_stream_advance(stream);
    dg_gate_run(conn);
  } else if (unsent > 0) {
    if (window_missed(conn, true, acknowledged(conn, unsent), &conn->window_out, params->stall_ms,
                      1))
      dg_conn_doom(conn);
  } else if (stream->job_running) {
    (void)window_missed(conn, false, conn->in_bytes + held_back(conn), &conn->window_in, 0, 0);
    if (now_ms - stream->job_since_ms > stream->job_limit_ms)
      dg_stream_refuse(conn, 504, "The request took the server too long.");
    else
      dg_stream_keep_waiting(stream);
  } else if (conn->state == DG_CONN_BODY &&
             window_missed(conn, true, conn->in_bytes + held_back(conn), &conn->window_in,
                           params->window_ms, params->window_bytes)) {
    dg_stream_refuse(conn, 408, "The request body came too slowly.");
  }
}

static void sweep_conn(struct dg_conn *conn)
{
  const struct dg_gate_params *params = &conn->loop->gate->params;
  uint64_t waited_ms = conn->loop->now_ms - conn->since_ms;

  switch (conn->state) {
  case DG_CONN_HEAD:
    if (conn->scanned == 0) {
      if (waited_ms > (conn->wire && !dg_wire_ready(conn->wire) ? params->head_ms : params->idle_ms))
        dg_conn_doom(conn);
    } else if (waited_ms > params->head_ms) {
      conn->body_done = true;
      dg_stream_refuse(conn, 408, "The request head came too slowly.");
    }
    break;
  case DG_CONN_QUEUED:
    if (waited_ms > params->request_timeout_ms)
      dg_stream_refuse(conn, 503, "Please reduce your request rate.");
    break;
  case DG_CONN_BODY:
  case DG_CONN_RESP:
    sweep_exchange(conn);
    break;
  case DG_CONN_LINGER:
    if (waited_ms > params->linger_ms ||
        conn->loop->now_ms - conn->linger_since_ms > DG_GATE_LINGER_TOTAL_MS)
      dg_conn_doom(conn);
    break;
  }
}

static void for_each_conn(struct dg_loop *loop, void (*visit)(struct dg_conn *conn))
{
  struct dg_conn *next;

  for (struct dg_conn *conn = loop->conns; conn; conn = next) {
    next = conn->next;
    dg_conn_enter(conn);
    visit(conn);
    dg_conn_leave(conn);
  }
}

void dg_gate_sweep(struct dg_loop *loop)
{
  dg_loop_clock(loop);
  for_each_conn(loop, sweep_conn);
}

/* ---- The end -------------------------------------------------------------------------- */

void dg_gate_check_idle(struct dg_loop *loop)
{
  if (loop->stopping && loop->conn_count == 0 && loop->stream_count == 0 && loop->gate->on_idle)
    loop->gate->on_idle(loop->gate, loop);
}

static void stop_conn(struct dg_conn *conn)
{
  if (conn->state == DG_CONN_HEAD && conn->scanned == 0 &&
      evbuffer_get_length(input_of(conn)) == 0)
    dg_conn_doom(conn);
}

void dg_gate_stop(struct dg_loop *loop)
{
  dg_loop_unlisten(loop);
  loop->stopping = true;
  for_each_conn(loop, stop_conn);
  dg_gate_check_idle(loop);
}

void dg_gate_kill(struct dg_loop *loop)
{
  for_each_conn(loop, dg_conn_doom);
}
