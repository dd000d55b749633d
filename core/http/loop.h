/* SPDX-License-Identifier: Apache-2.0 */
/* One event loop: a thread, its listeners, its connections, and the queue by
 * which workers hand results back.
 *
 * libevhtp locks nothing, so connections, bufferevents and evbuffers belong to
 * the loop they were accepted on. The only way in from another thread is
 * dg_loop_post(). */
#ifndef DG_CORE_HTTP_LOOP_H
#define DG_CORE_HTTP_LOOP_H

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <deltaglider/plugin.h>

struct dg_conn;
struct dg_gate;
struct dg_loop;
struct dg_stream;
struct dg_tls;
struct event;
struct event_base;
struct evhtp;

/* Something to be done on the loop. Embedded in its owner; run() may free it. */
struct dg_task {
  struct dg_task *next;
  void (*run)(struct dg_task *task); /* [loop] */
};

struct dg_listener {
  struct dg_loop *loop;
  struct evhtp *htp;
  struct event *resume; /* after EMFILE: accept again */
};

struct dg_loop {
  struct dg_gate *gate;         /* what all loops share */
  uint32_t number;
  pthread_t thread;
  bool started;
  struct event_base *base;
  struct dg_listener *listeners;
  uint32_t listener_count;

  pthread_mutex_t mutex;        /* guards the three below */
  struct dg_task *first, **last;
  bool ended;
  int wake_fd;
  struct event *wake_event;

  /* Everything below: this loop's thread only. */
  struct event *sweep_event;
  bool sweep_armed;
  uint64_t now_ms, now_us;      /* CLOCK_MONOTONIC, refreshed by dg_loop_clock() */
  struct dg_conn *conns;        /* doubly linked */
  uint32_t conn_count;
  struct dg_conn *queue_first, **queue_last; /* heads read, waiting for a slot */
  atomic_uint queue_count;      /* of them; read by other loops */
  atomic_bool slot_posted;      /* slot_task is on its way */
  struct dg_task slot_task;
  GString *scratch;             /* response heads are put together here */
  uint32_t stream_count;        /* live, with and without a connection */
  struct dg_stream *spare_streams;
  uint32_t spare_count;
  bool stopping;
  struct dg_tls *tls;           /* of connections to come; shared; NULL: they are not encrypted */
  uint64_t random[4];           /* xoshiro256** state: request ids */
  int64_t date_s;
  char date_block[256];         /* the headers every answer carries */
  uint32_t date_block_len;
};

/* Prepares a loop without starting its thread. -1 with err; dg_loop_clear()
 * is fine either way. [startup] */
int dg_loop_init(struct dg_loop *loop, struct dg_gate *gate, uint32_t number,
                 uint32_t listener_count, struct dg_error *err);
/* Adopts a bound, unlistened socket as listener `index`. [startup] */
int dg_loop_listen(struct dg_loop *loop, uint32_t index, int fd, struct dg_error *err);
int dg_loop_start(struct dg_loop *loop, struct dg_error *err); /* [startup] */

/* Runs task->run() on the loop, after everything posted before. [any] */
void dg_loop_post(struct dg_loop *loop, struct dg_task *task);

/* Closes the listeners. [loop] */
void dg_loop_unlisten(struct dg_loop *loop);
/* Makes the thread end; all connections must be gone. [loop] */
void dg_loop_end(struct dg_loop *loop);
void dg_loop_join(struct dg_loop *loop);  /* [startup] */
void dg_loop_clear(struct dg_loop *loop); /* [startup] after join */

/* Reads the clock into now_ms and now_us. [loop] */
void dg_loop_clock(struct dg_loop *loop);
/* Keeps the periodic sweep running while there is something to sweep. [loop] */
void dg_loop_need_sweep(struct dg_loop *loop);
uint64_t dg_loop_random(struct dg_loop *loop); /* [loop] not for secrets */

#endif
