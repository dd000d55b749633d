/* SPDX-License-Identifier: Apache-2.0 */
/* What stands between a socket and everything else: internal to core/http.
 *
 * libevhtp accepts connections and owns their bufferevents; TLS is the wire's
 * (wire.h). Its HTTP parser and its request objects are never used: the gate
 * takes the bufferevent's callbacks over and no attacker's byte reaches evhtp.
 *
 *                 head complete         body consumed, response flushed
 *   accept -> HEAD ------------> BODY ------------> RESP ------------> HEAD ...
 *              | (queue)           |                  |
 *              +---- refused ------+---- refused -----+--> LINGER -> closed
 *
 * conn    the socket and its framing; lives and dies on its loop.
 * stream  one exchange. The conn points at it while it serves it. At most one
 *         job of it is on a worker at a time; while one is, the loop touches
 *         only the fields marked [loop]. When the client leaves, the stream
 *         loses its conn, is cancelled, and ends by itself. */
#ifndef DG_CORE_HTTP_GATE_H
#define DG_CORE_HTTP_GATE_H

#include <stdatomic.h>

#include "core/http/block.h"
#include "core/http/chunked.h"
#include "core/http/exchange.h"
#include "core/http/front.h"
#include "core/http/head.h"
#include "core/http/loop.h"
#include "core/http/payload.h"
#include "core/http/worker.h"

struct bufferevent;
struct dg_wire;
struct evbuffer;
struct evhtp_connection;

/* Bounds a client may run into. 0 in any field of dg_gate_params takes the
 * default named here. */
#define DG_GATE_HEAD_MS 30000u         /* first byte of a head to its end: 408 */
#define DG_GATE_IDLE_MS 75000u         /* between requests, and before the first: closed */
#define DG_GATE_WINDOW_MS 20000u       /* a body must bring... */
#define DG_GATE_WINDOW_BYTES 4096u     /* ...this much per window: 408 */
#define DG_GATE_STALL_MS 60000u        /* a response of which nothing was taken so long: cut. Both
                                          kernels hold megabytes, so progress shows in large steps */
#define DG_GATE_LINGER_MS 2000u        /* silence that ends the draining of a refused body */
#define DG_GATE_LINGER_TOTAL_MS 30000u
#define DG_GATE_LINGER_BYTES (1024u * 1024u * 1024u) /* thrown away uncopied */
#define DG_GATE_DRAIN_BYTES (1024u * 1024u) /* rest of a refused body worth keeping alive for */
#define DG_GATE_BLANK_MS 10000u        /* a slow handler's client gets a sign of life so often */
#define DG_GATE_SLOW_MS 3600000u       /* what a slow handler may take */
#define DG_GATE_SWEEP_MS 250u

#define DG_GATE_HEAD_INPUT (96u * 1024u)  /* input held while the next request must wait */
#define DG_GATE_WAKE_MIN (64u * 1024u)    /* of a body: with less to come, every byte wakes us */
#define DG_GATE_OUT_LOW (128u * 1024u)    /* output below this: read on */
#define DG_GATE_SENDFILE_MIN (64u * 1024u) /* below: read it with the first job, one write */
#define DG_GATE_HEAD_TURN 32u             /* requests of one burst before others get their turn */

struct dg_gate_params {
  uint32_t head_ms, idle_ms, window_ms, window_bytes, stall_ms, linger_ms;
  uint32_t max_connections;         /* over all loops; beyond: closed on accept */
  uint32_t max_concurrent_requests; /* from dispatch to response head; beyond: queued */
  uint32_t request_timeout_ms;      /* one step of the server's own work; beyond: 504 */
  uint32_t slow_timeout_ms;         /* the same of a slow handler */
  uint32_t blank_ms;                /* between signs of life of a slow handler */
};

/* Shared by all loops. */
struct dg_gate {
  struct dg_gate_params params; /* no zeroes left */
  struct dg_server_context *context;
  struct dg_pool *pool;
  struct dg_loop *loops;
  uint32_t loop_count;
  char host_id[24];             /* x-amz-id-2 begins with it */
  atomic_uint conn_count, active_count, waiting_count;
  atomic_ullong accepted_total, refused_total, request_total;
  void (*on_idle)(struct dg_gate *gate, struct dg_loop *loop); /* [loop] stopping, nothing left */
  void *owner;
};

enum dg_conn_state {
  DG_CONN_HEAD,   /* between requests, or a head is arriving */
  DG_CONN_QUEUED, /* a head is complete, the request waits for a slot */
  DG_CONN_BODY,
  DG_CONN_RESP,   /* body consumed; bytes of the next request stay in the input */
  DG_CONN_LINGER, /* our side is closed; what comes is thrown away for a while */
};

struct dg_conn {
  struct dg_conn *next, **link;      /* loop->conns */
  struct dg_conn *queue_next, **queue_link; /* waiting for a slot: queue_link is not NULL */
  struct dg_loop *loop;
  struct evhtp_connection *ec;
  struct bufferevent *bev;
  struct evbuffer *input, *output;   /* plain text, both: the bufferevent's, or the wire's */
  struct dg_wire *wire;              /* with TLS; else NULL */
  int fd;
  enum dg_conn_state state;
  uint32_t depth;                    /* callbacks under way: the free is delayed */
  bool doomed;                       /* to be freed when depth is 0 again */
  bool running;                      /* dg_gate_run() is on the stack */
  bool keep;                         /* another request may follow this one */
  bool corked;                       /* TCP_CORK is on: a file is being sent */
  bool polite_close;                 /* the client asked for the close itself */
  /* Body framing. */
  enum dg_head_framing framing;
  uint64_t body_left;
  struct dg_chunked chunked;
  bool body_done, body_refused;      /* refused: drained, nobody wants it */
  bool expect_pending;               /* Expect seen, 100 not sent */
  size_t scanned;                    /* of an incomplete head */
  bool reading;                      /* EV_READ is enabled */
  int wake_bytes;                    /* SO_RCVLOWAT set now */
  struct dg_stream *stream;
  /* Clocks, looked at by the sweep. */
  uint64_t since_ms;                 /* of the state, the head's first byte, the last window */
  uint64_t linger_since_ms, linger_bytes;
  char peer[64];                     /* the client's address, without port */
  uint64_t in_bytes, out_bytes;      /* so far: of bodies; given to the socket or its buffer */
  uint64_t window_in, window_out;    /* what had moved when the window began */
};

/* Bytes on their way out. free(data, len, owner) is called once they are sent. */
struct dg_span {
  const void *data;
  size_t len;
  void (*free)(const void *data, size_t len, void *owner); /* NULL: copied if need be */
  void *owner;
};

#define DG_STREAM_INLINE_FIELDS 40
#define DG_STREAM_INLINE_HEAD 3072

struct dg_stream {
  struct dg_exchange x;       /* a job's while one runs, else the loop's */
  struct dg_stream *next_spare;
  struct dg_loop *loop;
  struct dg_conn *conn;       /* [loop] NULL once the client left */
  struct dg_job job;
  struct dg_task done;
  bool job_running;           /* [loop] */
  bool muted;                 /* [loop] its log line is written by another stream */
  bool has_slot;              /* [loop] counts in gate->active_count */
  int32_t cancelled;          /* atomic; x.call.cancelled */
  uint64_t job_since_ms;      /* [loop] */
  uint64_t job_limit_ms;      /* [loop] how long it may take */
  uint64_t early_ms;          /* [loop] the last sign of life of a slow handler; 0: none. The head
                                 is out then, though head_sent waits for the answer */
  uint64_t held_until_ms;     /* [loop] the answer waits for that moment; 0: it does not */

  /* The request, loop side. */
  struct dg_head head;
  struct dg_block *fill;      /* [loop] body bytes for the next job; may be NULL */
  bool body_ended;            /* [loop] all of it is in fill or was handed over */

  /* Handed to the job. */
  struct dg_block *input;     /* may be NULL; freed by the job */
  bool input_ended;
  bool may_sendfile;
  /* The job's own. */
  struct dg_payload *payload;
  bool begun, finished;
  bool reading;               /* response.reader is open */
  bool asked_file;            /* file_range() was tried */
  bool released;              /* nothing of the handler is left */
  bool broken;                /* the response failed after its first byte */
  uint64_t reader_left;
  /* Given back by the job, taken by the loop. */
  struct dg_block *block;     /* of the response's body; may be NULL */
  int file_fd;                /* -1: none */
  uint64_t file_offset, file_length;

  /* The response, loop side. */
  bool head_sent;
  bool all_sent;              /* every byte is in the output or beyond */
  uint64_t body_out;          /* response body bytes put out so far */
  uint64_t chunk_since_us;    /* when the last chunk went out */
  bool is_fast;               /* the client took one at once */
  uint64_t unsent;            /* of it, when the conn went away */

  struct dg_pair inline_fields[DG_STREAM_INLINE_FIELDS];
  struct dg_pair *fields;     /* inline_fields, or allocated */
  char *head_text;            /* inline_head, or allocated */
  char inline_head[DG_STREAM_INLINE_HEAD];
};

/* gate.c [loop] */
int dg_gate_attach(struct dg_loop *loop, struct evhtp_connection *ec);
void dg_gate_run(struct dg_conn *conn);
/* The output fell to its low mark, or is empty. */
void dg_gate_drained(struct dg_conn *conn);
/* Closes our side and throws away what comes, for a while. */
void dg_gate_linger(struct dg_conn *conn);
void dg_gate_sweep(struct dg_loop *loop);
void dg_gate_stop(struct dg_loop *loop); /* no new requests; idle connections close */
void dg_gate_kill(struct dg_loop *loop); /* every connection closes */
void dg_gate_check_idle(struct dg_loop *loop);
/* Brackets around everything that may touch a conn: leave() may free it. */
void dg_conn_enter(struct dg_conn *conn);
void dg_conn_leave(struct dg_conn *conn);
void dg_conn_doom(struct dg_conn *conn);
/* The response is out and the body consumed, or given up: what comes next. */
void dg_conn_settle(struct dg_conn *conn);

/* gate-body.c [loop] Moves what has arrived of the body to the stream: 1 when
 * the body is complete, 0 when it wants more bytes or the stream must first
 * take what it has, -1 when its framing is malformed. */
int dg_body_step(struct dg_conn *conn);
size_t dg_body_discard(struct dg_conn *conn);

/* slots.c [loop] */
bool dg_slot_take(struct dg_conn *conn);    /* false: queued; dg_gate_run() comes later */
void dg_slot_give(struct dg_stream *stream);
void dg_slot_forget(struct dg_conn *conn);  /* a queued conn goes away */
void dg_slot_init(struct dg_loop *loop);

/* stream.c [loop] */
struct dg_stream *dg_stream_new(struct dg_loop *loop, struct dg_conn *conn, size_t head_len);
/* From stream->head to stream->x.request. */
void dg_stream_fill(struct dg_stream *stream);
/* To the front and on. */
void dg_stream_start(struct dg_stream *stream);
/* Does whatever can be done now: sends what is ready, submits the next job. */
void dg_stream_advance(struct dg_stream *stream);
/* The conn lets go: the stream ends by itself, cancelled if unfinished. */
void dg_stream_detach(struct dg_stream *stream);
/* Answers with an error the gate itself found, and closes afterwards. A stream
 * under way is replaced, and cancelled: its worker may be stuck. When its
 * response has begun with more than blanks, the connection is cut instead.
 * reason: a literal. */
void dg_stream_refuse(struct dg_conn *conn, uint16_t status, const char *reason);
/* While a slow handler's job runs: a sign of life, when one is due. */
void dg_stream_keep_waiting(struct dg_stream *stream);
/* "OPTIONS *", which is about the server and not about S3. */
void dg_stream_answer_options(struct dg_stream *stream);
void dg_stream_spares_free(struct dg_loop *loop);

/* pump.c [worker] The job of every stream. */
void dg_pump_run(struct dg_job *job);

/* out.c [loop] */
size_t dg_out_pending(const struct dg_conn *conn);
/* Sends spans in order, at once where the socket takes them. more: other bytes
 * follow at once. Takes every span's ownership. */
void dg_out_spans(struct dg_conn *conn, struct dg_span *spans, unsigned count, bool more);
int dg_out_file(struct dg_conn *conn, int fd, uint64_t offset, uint64_t length);
/* The response is in the socket: nothing of it may wait for more. */
void dg_out_flush(struct dg_conn *conn);
/* The response head of stream->x, appended to out. */
void dg_out_head(struct dg_stream *stream, GString *out);
/* That of an answer whose outcome and length are not known yet: 200, XML, in
 * chunks (HTTP/1.0: to the end of the connection). Touches nothing of a job's. */
void dg_out_early_head(struct dg_stream *stream, GString *out);
const char *dg_out_status_text(uint16_t status);

/* exchange.c [any] Everything an exchange owns, freed; zeroed but for
 * response.head, which stays allocated. */
void dg_exchange_reset(struct dg_exchange *x);

#endif
