/* SPDX-License-Identifier: Apache-2.0 */
/* One request from its head to its log line, as an operation sees it.
 *
 * The gate parses the head on a loop thread, the front (admission, identity,
 * target) chooses a handler there, and the handler's callbacks then run on
 * worker threads, one at a time, never two at once. Between them the pump
 * moves body chunks. A handler never sees a socket, an event loop or evhtp.
 *
 *   loop    head -> front -> handler->fast            (answers from memory, or passes)
 *   worker  handler->begin                            (may answer: then the body is refused)
 *   worker  handler->body, once per decoded chunk     (DG_BODY_STREAM)
 *   worker  handler->finish                           (sets the response)
 *   worker  response.reader read by the pump, chunk by chunk, or sendfile
 *   worker  handler->release                          (always, last, exactly once)
 *
 * A callback that returns -1 with err turns into the S3 error of that code,
 * unless response bytes have left already: then the connection is cut. With one
 * exception: when finish() sets x->deferred, it is called once more, as a bulk job,
 * of which there are never so many that nothing else is served. */
#ifndef DG_CORE_HTTP_EXCHANGE_H
#define DG_CORE_HTTP_EXCHANGE_H

#include <glib.h>
#include <stdbool.h>

#include <deltaglider/plugin.h>

#include "core/s3/request.h"
#include "core/s3/target.h"
#include "core/access/identity.h"

struct dg_engine;
struct dg_snapshot;
struct dg_view;
struct dg_server_context; /* what main.c wires: engine, log, metrics (front.h) */
struct dg_exchange;

enum dg_body_mode {
  DG_BODY_NONE,    /* a body is drained and ignored, up to a bound */
  DG_BODY_COLLECT, /* handed to finish() whole, in x->body, at most handler->collect_max */
  DG_BODY_STREAM,  /* handed to body() chunk by chunk */
};

enum dg_slow {
  DG_SLOW_NO,
  DG_SLOW_XML,
  DG_SLOW_JSON, /* a late error is {"error":"CODE","request_id":"ID"} */
};

struct dg_handler {
  const char *operation;   /* label of metrics and logs: put_object ... */
  enum dg_body_mode body_mode;
  size_t collect_max;      /* bytes; past it: DG_E_MALFORMED_XML or _ENTITY_TOO_LARGE */
  bool raw_payload;        /* body() gets the bytes as sent, without aws-chunked decoding */
  /* finish() may take minutes, and answers with a document of this kind from memory.
   * When it takes long, the gate sends 200 and blanks meanwhile, and the document last,
   * be it a result or an error: S3's way with copies and completes. Headers set
   * by then are lost. */
  enum dg_slow slow;
  /* [loop] Optional. 1: response set; 0: not from memory. Must not block. */
  int (*fast)(struct dg_exchange *x);
  int (*begin)(struct dg_exchange *x, struct dg_error *err);  /* [worker] optional */
  int (*body)(struct dg_exchange *x, const void *data, size_t len, struct dg_error *err);
  int (*finish)(struct dg_exchange *x, struct dg_error *err); /* [worker] */
  void (*release)(struct dg_exchange *x);                     /* [worker] optional */
};

struct dg_response {
  uint16_t status;         /* 0: not set yet */
  GString *head;           /* "Name: value\r\n" lines; use dg_response_header() */
  GBytes *body;            /* owned; or */
  struct dg_reader *reader; /* owned: closed by the pump, on a worker */
  uint64_t length;         /* of reader, exact */
  bool close_after;        /* end the connection after this response */
};

/* A request in flight. Fields are written by one thread at a time. */
struct dg_exchange {
  struct dg_request request;
  struct dg_target target;      /* bucket, key, query: core/s3/target.h */
  struct dg_identity identity;
  char *const *list_prefixes;   /* of a stranger's listing: shown is what lies below these, a
                                   NULL-terminated list of its snapshot's; NULL: everything */
  struct dg_server_context *server;
  struct dg_view *view;         /* shared, of the front: what serves this request stays in service */
  const struct dg_snapshot *snapshot; /* the policies of this request, from its begin to its end */
  struct dg_call call;          /* request id, deadline, cancel flag: pass to the engine */
  const struct dg_handler *handler;
  GByteArray *collected;        /* DG_BODY_COLLECT; NULL if empty */
  uint64_t body_bytes;          /* decoded payload received so far */
  /* After the body, before finish(): what the payload itself promised. Set by
   * the payload decoder from headers or trailers. */
  struct dg_payload_facts {
    bool has_sha256;            /* x-amz-content-sha256 was a digest: compare at commit */
    uint8_t sha256[32];
    uint64_t decoded_length;    /* bytes of payload announced; DG_TO_END if unknown */
    uint32_t checksum_kind;     /* DG_SUM_* announced by header or x-amz-trailer */
    char checksum_base64[96];   /* from the header, or the trailer once seen */
  } payload;
  struct dg_response response;
  void *op;                     /* the handler's own state */
  bool may_defer;               /* finish() may set deferred: it is not in a bulk job yet */
  bool deferred;                /* finish() would take long, or wait for another request */
  /* For the log line. */
  uint64_t bytes_sent;
  struct dg_error error;        /* code != 0: why it failed */
  uint64_t started_mono_us;
};

/* ---- Setting the response [loop] in fast(), [worker] elsewhere --------------- */

/* Appends one header. CR, LF and NUL in value are refused (the header is left
 * out and DG_E_INTERNAL is logged): no response splitting. */
void dg_response_header(struct dg_exchange *x, const char *name, struct dg_slice value);
DG_PRINTF(3, 4)
void dg_response_headerf(struct dg_exchange *x, const char *name, const char *format, ...);

/* A complete answer from memory. body is transferred, may be NULL. Adds
 * Content-Length; content_type may be NULL. */
void dg_respond(struct dg_exchange *x, uint16_t status, const char *content_type, GBytes *body);
/* The same for an XML document under construction; transferred. */
void dg_respond_xml(struct dg_exchange *x, uint16_t status, GString *document);
/* Answers with `length` bytes pulled from reader (transferred). On HEAD the
 * reader may be NULL: only Content-Length is sent. */
void dg_respond_reader(struct dg_exchange *x, uint16_t status, struct dg_reader *reader,
                       uint64_t length);
/* The S3 error document for err->code. */
void dg_respond_error(struct dg_exchange *x, const struct dg_error *err);
/* The same for DG_E_ACCESS_DENIED, with a text that clients may see. */
DG_PRINTF(2, 3)
void dg_respond_denied(struct dg_exchange *x, const char *format, ...);

#endif
