/* SPDX-License-Identifier: Apache-2.0 */
/*   HANDSHAKE --done--> OPEN --dg_wire_end_output()--> DEAF
 *       |                 |
 *       +-----failed------+---> DEAF, or the conn is doomed
 *
 * DEAF: OpenSSL is not asked any more. The gate lingers, the socket is drained. */
#include "config.h"

#include "core/http/wire.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/http/gate.h"
#include "core/http/tls.h"
#include "core/observe/log.h"

#include "common/banned.h"

#define RECORD_BYTES 16384u /* the most that TLS puts in one record */

enum wire_state { HANDSHAKE, OPEN, DEAF };

struct dg_wire {
  struct dg_conn *conn;
  struct dg_tls *tls;
  SSL *ssl;
  enum wire_state state;
  bool broken;  /* OpenSSL met an error after which nothing may be said */
  bool reading;
  bool dry;     /* OpenSSL holds nothing that it could give without the socket */
  struct event *readable, *writable;
  struct evbuffer *input, *output; /* conn's; the bufferevent would send its own as they are */
};

bool dg_wire_ready(const struct dg_wire *wire)
{
  return wire->state != HANDSHAKE;
}

/* ---- Results of OpenSSL ---------------------------------------------------------------- */

/* A call gave nothing. Returns true when it only has to wait. */
static bool must_wait(struct dg_wire *wire, int result)
{
  switch (SSL_get_error(wire->ssl, result)) {
  case SSL_ERROR_WANT_READ:
    wire->dry = true;
    return true;
  case SSL_ERROR_WANT_WRITE:
    (void)event_add(wire->writable, NULL);
    return true;
  case SSL_ERROR_ZERO_RETURN: /* the client said that it is done */
    return false;
  default:
    wire->broken = true;
    return false;
  }
}

/* The alert that OpenSSL sent must arrive, and closing with unread bytes in the
 * socket might destroy it. */
static void fail_handshake(struct dg_wire *wire)
{
  struct dg_conn *conn = wire->conn;
  char cause[128];

  dg_tls_cause(cause, sizeof cause);
  dg_log_debug(conn->loop->gate->context->log, "http.tls_failed", "peer=%s cause=\"%s\"",
               conn->peer, cause);
  wire->broken = true;
  dg_gate_linger(conn);
}

static void shake_hands(struct dg_wire *wire)
{
  int result;

  ERR_clear_error();
  result = SSL_do_handshake(wire->ssl);
  if (result == 1) {
    wire->state = OPEN;
    wire->dry = !SSL_has_pending(wire->ssl);
    wire->conn->since_ms = wire->conn->loop->now_ms;
  } else if (!must_wait(wire, result)) {
    fail_handshake(wire);
  }
}

/* ---- In ------------------------------------------------------------------------------- */

/* With MSG_TRUNC the kernel does not even copy what it throws away. */
static size_t drain_socket(struct dg_wire *wire, size_t len)
{
  ssize_t got = syscall(SYS_recvfrom, wire->conn->fd, NULL, len, MSG_DONTWAIT | MSG_TRUNC, NULL,
                        NULL);

  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
    dg_conn_doom(wire->conn);
  return got > 0 ? (size_t)got : 0;
}

size_t dg_wire_receive(struct dg_wire *wire, void *memory, size_t len)
{
  char nowhere[RECORD_BYTES];
  int got;

  if (wire->state == DEAF)
    return memory ? 0 : drain_socket(wire, len);
  if (wire->state != OPEN || wire->conn->doomed)
    return 0;
  if (!memory && len > sizeof nowhere)
    len = sizeof nowhere;
  ERR_clear_error();
  got = SSL_read(wire->ssl, memory ? memory : nowhere, (int)MIN(len, (size_t)INT_MAX));
  if (got > 0) {
    wire->dry = !SSL_has_pending(wire->ssl);
    return (size_t)got;
  }
  if (!must_wait(wire, got))
    dg_conn_doom(wire->conn);
  return 0;
}

size_t dg_wire_pull(struct dg_wire *wire, size_t len)
{
  char record[RECORD_BYTES];
  size_t got = dg_wire_receive(wire, record, MIN(len, sizeof record));

  if (got > 0 && evbuffer_add(wire->conn->input, record, got) < 0)
    dg_conn_doom(wire->conn);
  return got;
}

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
  struct dg_wire *wire = argument;
  struct dg_conn *conn = wire->conn;

  (void)fd;
  (void)what;
  dg_conn_enter(conn);
  dg_loop_clock(conn->loop);
  if (wire->state == HANDSHAKE)
    shake_hands(wire);
  /* A body goes straight where it belongs, not through the input. */
  if (wire->state == OPEN && wire->reading && conn->state != DG_CONN_BODY)
    (void)dg_wire_pull(wire, RECORD_BYTES);
  if (wire->state != HANDSHAKE && !conn->doomed)
    dg_gate_run(conn);
  dg_conn_leave(conn);
}

void dg_wire_set_reading(struct dg_wire *wire, bool reading)
{
  if (wire->reading != reading) {
    wire->reading = reading;
    (void)(reading ? event_add(wire->readable, NULL) : event_del(wire->readable));
  }
  /* The socket does not wake us for what OpenSSL took out of it. */
  if (reading && wire->state == OPEN && !wire->dry)
    dg_wire_trigger(wire);
}

void dg_wire_trigger(struct dg_wire *wire)
{
  event_active(wire->readable, EV_READ, 0);
}

/* ---- Out ------------------------------------------------------------------------------ */

/* One record's worth of the output: less is sent only when there is no more, for
 * each record costs 22 bytes and a system call. An attempt that has to be
 * repeated begins with the same bytes and is never shorter, as OpenSSL demands:
 * output is only added behind. */
static int send_record(struct dg_wire *wire, struct evbuffer *output, size_t held)
{
  size_t len = MIN(held, (size_t)RECORD_BYTES);
  char gathered[RECORD_BYTES];
  struct evbuffer_iovec span;
  const void *data = gathered;

  if (evbuffer_peek(output, -1, NULL, &span, 1) > 0 && span.iov_len >= len)
    data = span.iov_base;
  else
    (void)evbuffer_copyout(output, gathered, len);
  ERR_clear_error();
  return SSL_write(wire->ssl, data, (int)len);
}

void dg_wire_flush(struct dg_wire *wire)
{
  struct evbuffer *output = wire->conn->output;
  size_t held;

  while (wire->state == OPEN && !wire->conn->doomed &&
         (held = evbuffer_get_length(output)) > 0) {
    int sent = send_record(wire, output, held);

    if (sent > 0) {
      evbuffer_drain(output, (size_t)sent);
    } else {
      if (!must_wait(wire, sent))
        dg_conn_doom(wire->conn);
      return;
    }
  }
}

static void on_writable(evutil_socket_t fd, short what, void *argument)
{
  struct dg_wire *wire = argument;
  struct dg_conn *conn = wire->conn;

  dg_conn_enter(conn);
  dg_loop_clock(conn->loop);
  if (wire->state == HANDSHAKE) {
    on_readable(fd, what, wire);
  } else {
    dg_wire_flush(wire);
    if (dg_out_pending(conn) <= DG_GATE_OUT_LOW)
      dg_gate_drained(conn);
    /* Reading may have waited for this: a client may ask for new keys. */
    if (!conn->doomed && wire->reading)
      dg_wire_trigger(wire);
  }
  dg_conn_leave(conn);
}

void dg_wire_end_output(struct dg_wire *wire)
{
  if (wire->state == OPEN && !wire->broken) {
    ERR_clear_error();
    (void)SSL_shutdown(wire->ssl);
  }
  wire->state = DEAF;
}

uint64_t dg_wire_sent_bytes(const struct dg_wire *wire)
{
  return BIO_number_written(SSL_get_wbio(wire->ssl));
}

/* ---- Life ----------------------------------------------------------------------------- */

static void free_parts(struct dg_wire *wire)
{
  SSL_free(wire->ssl);
  if (wire->readable)
    event_free(wire->readable);
  if (wire->writable)
    event_free(wire->writable);
  if (wire->input)
    evbuffer_free(wire->input);
  if (wire->output)
    evbuffer_free(wire->output);
  dg_tls_unref(wire->tls);
  g_free(wire);
}

int dg_wire_attach(struct dg_conn *conn, struct dg_tls *tls)
{
  struct dg_wire *wire = g_new0(struct dg_wire, 1);
  struct event_base *base = conn->loop->base;

  wire->conn = conn;
  wire->tls = dg_tls_ref(tls);
  wire->ssl = dg_tls_accept(tls);
  wire->readable = event_new(base, conn->fd, EV_READ | EV_PERSIST, on_readable, wire);
  wire->writable = event_new(base, conn->fd, EV_WRITE, on_writable, wire);
  wire->input = evbuffer_new();
  wire->output = evbuffer_new();
  wire->dry = true;
  if (!wire->ssl || !wire->input || !wire->output || !wire->readable || !wire->writable || SSL_set_fd(wire->ssl, conn->fd) != 1) {
    free_parts(wire);
    return -1;
  }
  conn->wire = wire;
  conn->input = wire->input;
  conn->output = wire->output;
  return 0;
}

void dg_wire_free(struct dg_wire *wire)
{
  if (wire)
    free_parts(wire);
}
