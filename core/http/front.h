/* SPDX-License-Identifier: Apache-2.0 */
/* The front: from a parsed head to the handler that serves it, and the account
 * of it afterwards.
 *
 *   gate: head complete, x->request filled
 *     -> dg_front_route()     target -> admission -> identity -> handler
 *     -> handler->fast() ...  as in exchange.h
 *   gate: last byte sent, or connection cut
 *     -> dg_front_done()      one log line, one count
 *     -> dg_front_leave()     the request's configuration may go
 *
 * Everything here is a pure function over the immutable snapshot: no I/O, no
 * locks held, safe on a loop thread. */
#ifndef DG_CORE_HTTP_FRONT_H
#define DG_CORE_HTTP_FRONT_H

#include "core/http/exchange.h"

struct dg_log;
struct dg_metrics;
struct dg_access;

/* What main.c wires, shared by every request. Borrowed for the server's life;
 * everything in it is safe for use from any thread. */
struct dg_server_context {
  struct dg_engine *engine;   /* its views' companion: struct dg_credentials, or NULL */
  struct dg_access *access;   /* replay memory, lockouts: core/access */
  struct dg_log *log;         /* may be NULL */
  struct dg_metrics *metrics; /* may be NULL */
  const char *version;        /* for /_/metrics build_info */
  int64_t started_s;
  _Atomic uint64_t ready_until_ms; /* monotonic: /_/ready answers from memory until then */
};

/* [loop] Reads x->request; sets x->target, x->identity and x->handler, and the
 * facts of x->payload that stand in the head. Takes the configuration of now for
 * the whole request. Returns 0 with x->handler set,
 * or -1 with the answer already set by dg_respond_error() (x->handler may be
 * NULL, or set for its label): then no callback runs and the body is refused. */
int dg_front_route(struct dg_exchange *x);

/* [loop] Counts and logs one finished request. x->bytes_sent, x->error and
 * x->response.status are final. */
void dg_front_done(struct dg_exchange *x);

/* [loop] After dg_front_route(), last of all: nothing of the handler is left, the
 * reader of the response is closed. Lets go of the configuration. */
void dg_front_leave(struct dg_exchange *x);

#endif
