/* SPDX-License-Identifier: Apache-2.0 */
/* One exchange as its loop sees it: from the parsed head through the front and
 * the workers to the last byte in the output. */
#include "config.h"

#include "core/http/gate.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/slice.h"
#include "common/xml.h"
#include "core/s3/errors.h"

#include "common/banned.h"

#define SPARES 64 /* streams kept per loop, with their buffers */

/* For a client that drains a chunk faster than this the next is read meanwhile. */
#define DRAIN_FAST_US 5000u

/* ---- Making and ending ------------------------------------------------------- */

static void on_job_done(struct dg_task *task)
{
  struct dg_stream *stream = (struct dg_stream *)((char *)task - offsetof(struct dg_stream, done));
  struct dg_conn *conn = stream->conn;

  stream->job_running = false;
  if (!conn) {
    dg_stream_advance(stream);
    return;
  }
  dg_conn_enter(conn);
  dg_loop_clock(conn->loop);
  dg_stream_advance(stream);
  dg_gate_run(conn);
  dg_conn_leave(conn);
}

/* A UUID, version 4: fit to be looked for in a log, not to be a secret. */
static void make_request_id(struct dg_loop *loop, char id[DG_REQUEST_ID_LEN + 1])
{
  static const char hex[] = "0123456789abcdef";
  uint64_t high = (dg_loop_random(loop) & ~UINT64_C(0xf000)) | UINT64_C(0x4000);
  uint64_t low = (dg_loop_random(loop) & ~(UINT64_C(3) << 62)) | UINT64_C(2) << 62;

  for (unsigned i = 0, at = 0; i < 32; i++) {
    uint64_t word = i < 16 ? high : low;

    if (i == 8 || i == 12 || i == 16 || i == 20)
      id[at++] = '-';
    id[at++] = hex[word >> (60 - 4 * (i % 16)) & 15];
  }
  id[DG_REQUEST_ID_LEN] = '\0';
}

struct dg_stream *dg_stream_new(struct dg_loop *loop, struct dg_conn *conn, size_t head_len)
{
  struct dg_stream *stream = loop->spare_streams;

  if (stream) {
    loop->spare_streams = stream->next_spare;
    loop->spare_count--;
  } else {
    stream = g_new0(struct dg_stream, 1);
    stream->loop = loop;
    stream->job.run = dg_pump_run;
    stream->done.run = on_job_done;
    stream->fields = stream->inline_fields;
    stream->head_text = stream->inline_head;
  }
  loop->stream_count++;
  if (head_len > DG_STREAM_INLINE_HEAD)
    stream->head_text = g_malloc(head_len);
  stream->conn = conn;
  stream->file_fd = -1;
  stream->x.server = loop->gate->context;
  stream->x.started_mono_us = loop->now_us;
  stream->x.call.struct_size = sizeof stream->x.call;
  stream->x.call.cancelled = &stream->cancelled;
  make_request_id(loop, stream->x.request.id);
  stream->x.call.request_id = dg_slice_of(stream->x.request.id, DG_REQUEST_ID_LEN);
  if (conn) {
    conn->stream = stream;
    memcpy(stream->x.request.peer, conn->peer, sizeof conn->peer);
  }
  return stream;
}

static void drop_blocks(struct dg_stream *stream)
{
  g_clear_pointer(&stream->block, dg_block_free);
  if (stream->file_fd >= 0)
    (void)close(stream->file_fd);
  stream->file_fd = -1;
  g_clear_pointer(&stream->fill, dg_block_free);
  g_clear_pointer(&stream->input, dg_block_free);
}

static void stream_free(struct dg_stream *stream)
{
  if (stream->x.response.head)
    g_string_free(stream->x.response.head, TRUE);
  g_free(stream);
}

void dg_stream_spares_free(struct dg_loop *loop)
{
  for (struct dg_stream *stream; (stream = loop->spare_streams);) {
    loop->spare_streams = stream->next_spare;
    stream_free(stream);
  }
  loop->spare_count = 0;
}

/* Nobody holds it any more: no conn, no job, nothing of the handler. */
static void end(struct dg_stream *stream)
{
  struct dg_loop *loop = stream->loop;
  struct dg_exchange *x = &stream->x;

  drop_blocks(stream);
  dg_slot_give(stream);
  x->bytes_sent = stream->body_out - (stream->unsent < stream->body_out ? stream->unsent
                                                                        : stream->body_out);
  if (x->error.code == DG_E_OK && (!stream->all_sent || stream->unsent))
    (void)dg_fail(&x->error, DG_E_CANCELLED, "the client left before the end");
  if (!stream->muted)
    dg_front_done(x);
  dg_front_leave(x);
  dg_exchange_reset(x);
  if (stream->fields != stream->inline_fields)
    g_free(stream->fields);
  if (stream->head_text != stream->inline_head)
    g_free(stream->head_text);
  loop->stream_count--;
  if (loop->spare_count < SPARES) {
    /* All but the exchange, which is reset, and the inline arrays, whose
     * bytes mean nothing now. */
    memset((char *)stream + offsetof(struct dg_stream, conn), 0,
           offsetof(struct dg_stream, inline_fields) - offsetof(struct dg_stream, conn));
    stream->job.run = dg_pump_run;
    stream->done.run = on_job_done;
    stream->fields = stream->inline_fields;
    stream->head_text = stream->inline_head;
    stream->next_spare = loop->spare_streams;
    loop->spare_streams = stream;
    loop->spare_count++;
  } else {
    stream_free(stream);
  }
  dg_gate_check_idle(loop);
}

void dg_stream_detach(struct dg_stream *stream)
{
  struct dg_conn *conn = stream->conn;

  if (conn) {
    conn->stream = NULL;
    stream->unsent = dg_out_pending(conn);
  }
  stream->conn = NULL;
  if (!stream->all_sent)
    __atomic_store_n(&stream->cancelled, 1, __ATOMIC_RELAXED);
  dg_stream_advance(stream);
}

/* ---- Jobs -------------------------------------------------------------------- */

static void submit(struct dg_stream *stream)
{
  struct dg_loop *loop = stream->loop;
  const struct dg_gate_params *params = &loop->gate->params;
  const struct dg_handler *handler = stream->x.handler;

  stream->input = g_steal_pointer(&stream->fill);
  stream->input_ended = stream->body_ended;
  stream->may_sendfile = stream->conn && !stream->conn->wire;
  stream->job_limit_ms =
      handler && handler->slow ? params->slow_timeout_ms : params->request_timeout_ms;
  stream->x.call.deadline_mono_ms = loop->now_ms + stream->job_limit_ms;
  stream->job.bulk = handler && handler->body_mode == DG_BODY_STREAM;
  stream->job_running = true;
  stream->job_since_ms = loop->now_ms;
  dg_pool_submit(loop->gate->pool, &stream->job);
}

/* ---- The response's way out ---------------------------------------------------- */

static void block_span_free(const void *data, size_t len, void *owner)
{
  (void)data;
  (void)len;
  dg_block_free(owner);
}

static void bytes_span_free(const void *data, size_t len, void *owner)
{
  (void)data;
  (void)len;
  g_bytes_unref(owner);
}

static struct dg_span take_block(struct dg_stream *stream)
{
  struct dg_block *block = g_steal_pointer(&stream->block);

  stream->body_out += block->len;
  return (struct dg_span){block->data, block->len, block_span_free, block};
}

static bool has_body(const struct dg_stream *stream)
{
  uint16_t status = stream->x.response.status;

  return status != 204 && status != 304 && !dg_request_is(&stream->x.request, "HEAD");
}

/* Whether the connection can serve another request after this response. An
 * unread body must be drained for that: worth it only if little of it is left,
 * and impossible when we never said 100 Continue: some clients then send the
 * body anyway, some do not. */
static void decide_keep(struct dg_conn *conn, struct dg_stream *stream)
{
  if (stream->x.response.close_after || conn->loop->stopping)
    conn->keep = false;
  if (conn->body_done)
    return;
  if (conn->expect_pending || conn->framing == DG_FRAMING_CHUNKED ||
      conn->body_left > DG_GATE_DRAIN_BYTES)
    conn->keep = false;
  conn->body_refused = true;
  g_clear_pointer(&stream->fill, dg_block_free);
}

/* Head, and what of the body is at hand, in one write. */
static void send_head(struct dg_stream *stream)
{
  struct dg_conn *conn = stream->conn;
  struct dg_response *response = &stream->x.response;
  GString *head = stream->loop->scratch;
  struct dg_span spans[2];
  unsigned count = 1;

  decide_keep(conn, stream);
  g_string_truncate(head, 0);
  dg_out_head(stream, head);
  spans[0] = (struct dg_span){head->str, head->len, NULL, NULL};
  if (has_body(stream)) {
    if (response->body && response->length) {
      gsize len;
      const void *data = g_bytes_get_data(response->body, &len);

      spans[count++] =
          (struct dg_span){data, len, bytes_span_free, g_bytes_ref(response->body)};
      stream->body_out = len;
    } else if (stream->block) {
      spans[count++] = take_block(stream);
    }
    stream->all_sent = stream->body_out == response->length;
  } else {
    stream->all_sent = true;
  }
  stream->head_sent = true;
  stream->chunk_since_us = stream->loop->now_us;
  dg_out_spans(conn, spans, count, !stream->all_sent);
  dg_slot_give(stream);
}

/* The next job may read while the kernel takes this chunk, for a client that took the
 * last one at once. A slow one is not read ahead for: two blocks are what it may make
 * us hold. */
static bool may_read_ahead(const struct dg_stream *stream)
{
  return stream->is_fast && !stream->released && !stream->conn->doomed &&
         stream->body_out < stream->x.response.length && dg_out_pending(stream->conn) == 0;
}

static void send_more(struct dg_stream *stream)
{
  if (stream->block) {
    struct dg_span span = take_block(stream);

    stream->chunk_since_us = stream->loop->now_us;
    if (may_read_ahead(stream))
      submit(stream);
    dg_out_spans(stream->conn, &span, 1, /* more= */ false);
  }
  if (stream->file_fd >= 0) {
    if (dg_out_file(stream->conn, stream->file_fd, stream->file_offset, stream->file_length) < 0) {
      dg_conn_doom(stream->conn);
    } else {
      stream->file_fd = -1;
      stream->body_out += stream->file_length;
    }
  }
  stream->all_sent = stream->body_out == stream->x.response.length;
}

/* ---- Answers that take long ----
 *
 * Clients and the proxies before them give up after a minute of silence. So the
 * head goes out before the outcome is known, and blanks follow, which XML allows
 * between its declaration and its root, and JSON before its value. Only the loop's
 * own fields are touched while the job runs. */

/* One piece of a body without length. data: a literal, or owned by bytes (which
 * is transferred). */
static void send_piece(struct dg_stream *stream, const void *data, size_t len, GBytes *bytes,
                       bool last)
{
  bool chunked = stream->x.request.http_minor > 0;
  const char *end = !chunked ? "" : last ? "\r\n0\r\n\r\n" : "\r\n";
  char size[24] = "";
  struct dg_span spans[3];

  if (chunked)
    (void)g_snprintf(size, sizeof size, "%zx\r\n", len);
  spans[0] = (struct dg_span){size, strlen(size), NULL, NULL};
  spans[1] = (struct dg_span){data, len, bytes ? bytes_span_free : NULL, bytes};
  spans[2] = (struct dg_span){end, strlen(end), NULL, NULL};
  stream->body_out += len;
  dg_out_spans(stream->conn, spans, G_N_ELEMENTS(spans), /* more= */ false);
}

static void send_early_head(struct dg_stream *stream)
{
  struct dg_conn *conn = stream->conn;
  GString *head = stream->loop->scratch;
  struct dg_span span;

  if (conn->loop->stopping || stream->x.request.http_minor == 0)
    conn->keep = false;
  g_string_truncate(head, 0);
  dg_out_early_head(stream, head);
  span = (struct dg_span){head->str, head->len, NULL, NULL};
  dg_out_spans(conn, &span, 1, /* more= */ true);
  if (stream->x.handler->slow == DG_SLOW_XML)
    send_piece(stream, DG_XML_DECLARATION, sizeof DG_XML_DECLARATION - 1, NULL,
               /* last= */ false);
}

void dg_stream_keep_waiting(struct dg_stream *stream)
{
  const struct dg_handler *handler = stream->x.handler;
  struct dg_conn *conn = stream->conn;
  uint64_t since_ms = stream->early_ms ? stream->early_ms : stream->job_since_ms;

  if (!handler || !handler->slow || conn->state != DG_CONN_RESP || stream->head_sent ||
      stream->loop->now_ms - since_ms < stream->loop->gate->params.blank_ms)
    return;
  if (!stream->early_ms)
    send_early_head(stream);
  stream->early_ms = stream->loop->now_ms;
  send_piece(stream, "\n", 1, NULL, /* last= */ false);
}

/* An error answer is XML, whoever gives it; behind a JSON head it is said anew. */
static GBytes *late_json(const struct dg_exchange *x)
{
  char *text;

  if (x->response.status == 200)
    return x->response.body ? g_bytes_ref(x->response.body) : NULL;
  text = g_strdup_printf("{\"error\":\"%s\",\"request_id\":\"%s\"}\n",
                         dg_s3_error(x->error.code)->code, x->request.id);
  return g_bytes_new_take(text, strlen(text));
}

/* The document without what went before it; NULL if it is none. Transferred. */
static GBytes *late_document(const struct dg_stream *stream)
{
  const size_t declared = sizeof DG_XML_DECLARATION - 1;
  GBytes *body = stream->x.response.body;
  const char *data;
  gsize len = 0;

  if (stream->x.handler->slow == DG_SLOW_JSON)
    return late_json(&stream->x);
  data = body ? g_bytes_get_data(body, &len) : NULL;
  if (len <= declared || memcmp(data, DG_XML_DECLARATION, declared) != 0)
    return NULL;
  return g_bytes_new_from_bytes(body, declared, len - declared);
}

/* The document, once the outcome is known. */
static void send_late(struct dg_stream *stream)
{
  GBytes *document = late_document(stream);
  const char *data;
  gsize len;

  if (!document) {
    (void)dg_fail(&stream->x.error, DG_E_INTERNAL, "a slow handler gave no document");
    dg_conn_doom(stream->conn);
    return;
  }
  data = g_bytes_get_data(document, &len);
  stream->head_sent = true;
  stream->all_sent = true;
  send_piece(stream, data, len, document, /* last= */ true);
  dg_slot_give(stream);
}

/* Whether the answer has to wait: that of one who fails to identify himself
 * again and again. The sweep comes back to it. Meanwhile it holds a connection,
 * but no slot, no worker and no memory for a body. */
static bool is_held(struct dg_stream *stream)
{
  struct dg_conn *conn = stream->conn;
  uint32_t *delay_ms = &stream->x.identity.delay_ms;

  if (*delay_ms && !stream->head_sent && !conn->loop->stopping) {
    stream->held_until_ms = stream->loop->now_ms + *delay_ms;
    dg_slot_give(stream);
    if (!conn->body_done) {
      conn->body_refused = true;
      g_clear_pointer(&stream->fill, dg_block_free);
    }
  }
  *delay_ms = 0;
  if (stream->held_until_ms > stream->loop->now_ms && !conn->loop->stopping)
    return true;
  stream->held_until_ms = 0;
  return false;
}

static void respond(struct dg_stream *stream)
{
  struct dg_conn *conn = stream->conn;

  if (stream->broken) {
    dg_conn_doom(conn);
    return;
  }
  if (is_held(stream))
    return;
  if (stream->early_ms && !stream->head_sent)
    send_late(stream);
  else if (!stream->head_sent)
    send_head(stream);
  if (!stream->all_sent && !conn->doomed)
    send_more(stream);
  if (conn->doomed || stream->job_running)
    return;
  if (!stream->all_sent) {
    if (stream->released) {
      /* The reader is done and yet bytes are missing: never complete it. */
      dg_conn_doom(conn);
    } else if (dg_out_pending(conn) <= DG_GATE_OUT_LOW) {
      stream->is_fast = stream->loop->now_us - stream->chunk_since_us < DRAIN_FAST_US;
      submit(stream);
    }
    return;
  }
  if (!stream->released)
    submit(stream);
  dg_conn_settle(conn);
}

static void say_continue(struct dg_conn *conn)
{
  static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
  struct dg_span span = {text, sizeof text - 1, NULL, NULL};

  conn->expect_pending = false;
  dg_out_spans(conn, &span, 1, false);
}

void dg_stream_advance(struct dg_stream *stream)
{
  struct dg_conn *conn = stream->conn;

  if (stream->job_running)
    return;
  if (!conn) {
    if (stream->released || !stream->x.handler)
      end(stream);
    else
      submit(stream);
    return;
  }
  if (conn->doomed)
    return;
  if (stream->x.response.status != 0) {
    respond(stream);
    return;
  }
  if (stream->begun && conn->expect_pending && !conn->body_refused)
    say_continue(conn);
  if (!stream->begun || (stream->fill && stream->fill->len == stream->fill->capacity) ||
      (stream->body_ended && !stream->finished))
    submit(stream);
}

/* ---- The beginning -------------------------------------------------------------- */

void dg_stream_fill(struct dg_stream *stream)
{
  struct dg_request *request = &stream->x.request;
  const struct dg_head *head = &stream->head;

  memcpy(request->method, head->method.data, head->method.len);
  request->method[head->method.len] = '\0';
  request->raw_path = head->raw_path;
  request->raw_query = head->raw_query;
  request->http_minor = head->minor_version_0 ? 0 : 1;
  request->chunked = head->framing == DG_FRAMING_CHUNKED;
  request->expect100 = head->expect_continue;
  request->tls = stream->conn && stream->conn->wire;
  request->content_length = head->has_content_length ? (int64_t)head->content_length : -1;
  request->headers = head->fields;
  request->header_count = head->field_count;
}

void dg_stream_start(struct dg_stream *stream)
{
  struct dg_exchange *x = &stream->x;
  struct dg_conn *conn = stream->conn;

  atomic_fetch_add_explicit(&stream->loop->gate->request_total, 1, memory_order_relaxed);
  conn->state = conn->body_done ? DG_CONN_RESP : DG_CONN_BODY;
  stream->body_ended = conn->body_done;
  conn->since_ms = stream->loop->now_ms;
  /* Nothing to wait for, but botocore takes a final answer without the 100 for
   * an early refusal and misreads the next one on this connection. */
  if (stream->head.expect_continue && conn->body_done)
    say_continue(conn);
  if (conn->doomed)
    return;
  if (dg_front_route(x) < 0) {
    stream->released = true; /* no callback of the handler runs */
    if (x->response.status == 0) {
      struct dg_error err = {0};

      (void)dg_fail(&err, DG_E_INTERNAL, "the front refused without an answer");
      dg_respond_error(x, &err);
    }
  } else if (x->handler->fast && x->handler->fast(x) == 1 && x->response.status != 0) {
    /* Answered from memory. A handler that kept nothing needs no worker. */
    stream->released = !x->handler->release || !x->op;
    stream->begun = stream->finished = true;
  } else if (x->handler->body_mode == DG_BODY_NONE && !conn->body_done) {
    conn->body_refused = true;
    stream->body_ended = true;
  }
  /* A body that comes unasked may be here already: then one job does it all.
   * The gate calls again once it has looked. */
  if (x->response.status == 0 && conn->state == DG_CONN_BODY && !conn->expect_pending)
    return;
  dg_stream_advance(stream);
}

/* ---- Answers of the gate's own ---------------------------------------------------- */

static const char *refusal_code(uint16_t status, int32_t *ret_code)
{
  *ret_code = DG_E_INVALID_REQUEST;
  switch (status) {
  case 405:
    *ret_code = DG_E_METHOD_NOT_ALLOWED;
    return "MethodNotAllowed";
  case 408:
    *ret_code = DG_E_REQUEST_TIMEOUT;
    return "RequestTimeout";
  case 414:
    *ret_code = DG_E_LIMIT;
    return "URITooLong";
  case 417:
    return "ExpectationFailed";
  case 431:
    *ret_code = DG_E_LIMIT;
    return "RequestHeaderSectionTooLarge";
  case 501:
    *ret_code = DG_E_NOT_IMPLEMENTED;
    return "NotImplemented";
  case 503:
    *ret_code = DG_E_SLOW_DOWN;
    return "SlowDown";
  case 504:
    *ret_code = DG_E_TIMEOUT;
    return "GatewayTimeout";
  case 505:
    return "HTTPVersionNotSupported";
  default:
    return "InvalidRequest";
  }
}

/* What of an older stream's request the log line of its replacement needs. */
static void inherit(struct dg_stream *stream, const struct dg_stream *old)
{
  size_t len = old->x.request.raw_path.len;

  memcpy(stream->x.request.id, old->x.request.id, sizeof stream->x.request.id);
  memcpy(stream->x.request.method, old->x.request.method, sizeof stream->x.request.method);
  stream->x.started_mono_us = old->x.started_mono_us;
  stream->x.handler = old->x.handler; /* for its label; its callbacks never run */
  if (len > DG_STREAM_INLINE_HEAD)
    len = DG_STREAM_INLINE_HEAD;
  if (len)
    memcpy(stream->head_text, old->x.request.raw_path.data, len);
  stream->x.request.raw_path = dg_slice_of(stream->head_text, len);
  stream->x.request.http_minor = old->x.request.http_minor;
}

void dg_stream_refuse(struct dg_conn *conn, uint16_t status, const char *reason)
{
  struct dg_stream *old = conn->stream, *stream;
  GString *document;
  int32_t code;
  const char *name = refusal_code(status, &code);

  if (old && old->head_sent) {
    dg_conn_doom(conn);
    return;
  }
  dg_slot_forget(conn);
  conn->stream = NULL;
  stream = dg_stream_new(conn->loop, conn, 0);
  stream->x.request.raw_path = DG_SLICE("-");
  memcpy(stream->x.request.method, "-", 2);
  stream->x.request.http_minor = 1;
  if (old) {
    if (old->x.request.method[0] != '\0')
      inherit(stream, old);
    stream->early_ms = old->early_ms; /* then only the document is still to be sent */
    stream->body_out = old->body_out;
    old->muted = true;
    old->conn = NULL;
    __atomic_store_n(&old->cancelled, 1, __ATOMIC_RELAXED);
    dg_stream_advance(old);
  }
  stream->begun = stream->finished = stream->released = true;
  (void)dg_fail(&stream->x.error, code, "%s", reason);
  document = g_string_sized_new(256);
  g_string_printf(document,
                  DG_XML_DECLARATION "<Error><Code>%s</Code>"
                  "<Message>%s</Message><RequestId>%s</RequestId></Error>",
                  name, reason, stream->x.request.id);
  dg_respond_xml(&stream->x, status, document);
  stream->x.response.close_after = true;
  conn->keep = false;
  conn->polite_close = false;
  conn->body_refused = true;
  conn->state = DG_CONN_RESP;
  dg_stream_advance(stream);
}

void dg_stream_answer_options(struct dg_stream *stream)
{
  struct dg_conn *conn = stream->conn;

  conn->state = conn->body_done ? DG_CONN_RESP : DG_CONN_BODY;
  stream->begun = stream->finished = stream->released = true;
  dg_response_header(&stream->x, "Allow", DG_SLICE("GET, HEAD, PUT, POST, DELETE, OPTIONS"));
  dg_respond(&stream->x, 200, NULL, NULL);
  dg_stream_advance(stream);
}
