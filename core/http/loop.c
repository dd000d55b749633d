/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/loop.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/http/gate.h"
#include "core/http/libevhtp.h"
#include "core/http/tls.h"
#include "core/observe/log.h"

#include "common/banned.h"

#define BACKLOG 1024
#define ACCEPT_PAUSE_MS 200 /* after accept() found no descriptor */
#define STACK_BYTES (1024u * 1024u)

/* ---- Hand-over --------------------------------------------------------------- */

void dg_loop_post(struct dg_loop *loop, struct dg_task *task)
{
  bool was_empty;

  task->next = NULL;
  pthread_mutex_lock(&loop->mutex);
  was_empty = loop->first == NULL;
  *loop->last = task;
  loop->last = &task->next;
  pthread_mutex_unlock(&loop->mutex);
  /* The loop takes the whole list at once: one wake-up serves many tasks. */
  if (was_empty) {
    uint64_t one = 1;
    ssize_t written;

    do
      written = write(loop->wake_fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
  }
}

static void on_wake(evutil_socket_t fd, short what, void *argument)
{
  struct dg_loop *loop = argument;
  struct dg_task *task;

  /* Edge-triggered: each write wakes us anew, so the counter is never read. */
  (void)fd;
  (void)what;
  pthread_mutex_lock(&loop->mutex);
  task = loop->first;
  loop->first = NULL;
  loop->last = &loop->first;
  pthread_mutex_unlock(&loop->mutex);
  dg_loop_clock(loop);
  while (task) {
    struct dg_task *next = task->next;

    task->run(task);
    task = next;
  }
}

/* ---- Clock, sweep, random ------------------------------------------------------ */

void dg_loop_clock(struct dg_loop *loop)
{
  struct timespec now;

  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  loop->now_us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
  loop->now_ms = loop->now_us / 1000u;
}

void dg_loop_need_sweep(struct dg_loop *loop)
{
  struct timeval period = {0, DG_GATE_SWEEP_MS * 1000};

  if (loop->sweep_armed)
    return;
  loop->sweep_armed = true;
  event_add(loop->sweep_event, &period);
}

static void on_sweep(evutil_socket_t fd, short what, void *argument)
{
  struct dg_loop *loop = argument;

  (void)fd;
  (void)what;
  loop->sweep_armed = false;
  dg_gate_sweep(loop);
  if (loop->conn_count > 0)
    dg_loop_need_sweep(loop);
}

static uint64_t rotate(uint64_t word, unsigned by)
{
  return word << by | word >> (64 - by);
}

/* xoshiro256**, by Blackman and Vigna; seeded from the kernel. */
uint64_t dg_loop_random(struct dg_loop *loop)
{
  uint64_t *state = loop->random;
  uint64_t result = rotate(state[1] * 5, 7) * 9, moved = state[1] << 17;

  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= moved;
  state[3] = rotate(state[3], 45);
  return result;
}

/* ---- Listeners ------------------------------------------------------------------ */

/* Beyond the cap a socket is closed unanswered: an answer would cost what the
 * cap is there to save. */
static evhtp_res on_pre_accept(evhtp_connection_t *ec, void *argument)
{
  struct dg_gate *gate = ((struct dg_listener *)argument)->loop->gate;

  (void)ec;
  if (atomic_fetch_add(&gate->conn_count, 1) < gate->params.max_connections) {
    atomic_fetch_add_explicit(&gate->accepted_total, 1, memory_order_relaxed);
    return EVHTP_RES_OK;
  }
  atomic_fetch_sub(&gate->conn_count, 1);
  atomic_fetch_add_explicit(&gate->refused_total, 1, memory_order_relaxed);
  return EVHTP_RES_ERROR;
}

static evhtp_res on_post_accept(evhtp_connection_t *ec, void *argument)
{
  dg_gate_attach(((struct dg_listener *)argument)->loop, ec);
  return EVHTP_RES_OK;
}

/* Never called: a request would need evhtp's parser to have run. */
static void on_evhtp_request(evhtp_request_t *request, void *argument)
{
  (void)request;
  (void)argument;
}

/* accept() failed, mostly for lack of descriptors. The listening socket stays
 * readable, so without a pause this would spin. */
static void on_accept_error(struct evconnlistener *server, void *argument)
{
  struct dg_listener *listener = ((evhtp_t *)argument)->arg;
  struct timeval pause = {0, ACCEPT_PAUSE_MS * 1000};
  int code = EVUTIL_SOCKET_ERROR();

  evconnlistener_disable(server);
  event_add(listener->resume, &pause);
  dg_log_warn(listener->loop->gate->context->log, "http.accept_failed",
              "loop=%u cause=\"%s\" pause_ms=%d", listener->loop->number, g_strerror(code),
              ACCEPT_PAUSE_MS);
}

static void on_resume(evutil_socket_t fd, short what, void *argument)
{
  struct dg_listener *listener = argument;

  (void)fd;
  (void)what;
  if (listener->htp->server)
    evconnlistener_enable(listener->htp->server);
}

int dg_loop_listen(struct dg_loop *loop, uint32_t index, int fd, struct dg_error *err)
{
  struct dg_listener *listener = &loop->listeners[index];

  listener->loop = loop;
  listener->htp = evhtp_new(loop->base, listener);
  listener->resume = event_new(loop->base, -1, 0, on_resume, listener);
  if (!listener->htp || !listener->resume)
    return dg_fail(err, DG_E_INTERNAL, "no memory for a listener");
  evhtp_disable_flag(listener->htp, EVHTP_FLAG_ENABLE_100_CONT);
  evhtp_set_gencb(listener->htp, on_evhtp_request, NULL);
  evhtp_set_pre_accept_cb(listener->htp, on_pre_accept, listener);
  evhtp_set_post_accept_cb(listener->htp, on_post_accept, listener);
  if (evhtp_accept_socket(listener->htp, fd, BACKLOG) < 0)
    return dg_fail(err, DG_E_CONFIG, "listen: %s", g_strerror(errno));
  evconnlistener_set_error_cb(listener->htp->server, on_accept_error);
  return 0;
}

void dg_loop_unlisten(struct dg_loop *loop)
{
  for (uint32_t i = 0; i < loop->listener_count; i++) {
    struct dg_listener *listener = &loop->listeners[i];

    if (listener->resume)
      event_del(listener->resume);
    if (listener->htp && listener->htp->server)
      evhtp_unbind_socket(listener->htp);
  }
}

/* ---- The thread -------------------------------------------------------------------- */

static void *loop_main(void *argument)
{
  struct dg_loop *loop = argument;

  (void)event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
  return NULL;
}

int dg_loop_init(struct dg_loop *loop, struct dg_gate *gate, uint32_t number,
                 uint32_t listener_count, struct dg_error *err)
{
  struct event_config *config;

  loop->gate = gate;
  loop->number = number;
  loop->last = &loop->first;
  loop->wake_fd = -1;
  pthread_mutex_init(&loop->mutex, NULL);
  loop->listeners = g_new0(struct dg_listener, listener_count);
  loop->listener_count = listener_count;
  loop->scratch = g_string_sized_new(2048);
  dg_slot_init(loop);
  if (getrandom(loop->random, sizeof loop->random, 0) != sizeof loop->random)
    return dg_fail(err, DG_E_INTERNAL, "getrandom: %s", g_strerror(errno));
  config = event_config_new();
  /* Nothing but dg_loop_post() comes from outside, so the base needs no lock. */
  if (config)
    (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
  loop->base = config ? event_base_new_with_config(config) : NULL;
  if (config)
    event_config_free(config);
  if (!loop->base)
    return dg_fail(err, DG_E_INTERNAL, "event_base_new: %s", g_strerror(errno));
  loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (loop->wake_fd < 0)
    return dg_fail(err, DG_E_INTERNAL, "eventfd: %s", g_strerror(errno));
  loop->wake_event =
      event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST | EV_ET, on_wake, loop);
  loop->sweep_event = event_new(loop->base, -1, 0, on_sweep, loop);
  if (!loop->wake_event || !loop->sweep_event || event_add(loop->wake_event, NULL) < 0)
    return dg_fail(err, DG_E_INTERNAL, "no memory for an event");
  return 0;
}

int dg_loop_start(struct dg_loop *loop, struct dg_error *err)
{
  pthread_attr_t attributes;
  sigset_t all, before;
  int code;

  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  sigfillset(&all);
  sigdelset(&all, SIGBUS); /* common/mapguard.h */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  code = pthread_create(&loop->thread, &attributes, loop_main, loop);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (code != 0)
    return dg_fail(err, DG_E_INTERNAL, "pthread_create: %s", g_strerror(code));
  loop->started = true;
  return 0;
}

void dg_loop_end(struct dg_loop *loop)
{
  (void)event_base_loopbreak(loop->base);
}

void dg_loop_join(struct dg_loop *loop)
{
  if (loop->started)
    pthread_join(loop->thread, NULL);
  loop->started = false;
}

void dg_loop_clear(struct dg_loop *loop)
{
  if (!loop->gate)
    return;
  dg_loop_unlisten(loop);
  for (uint32_t i = 0; i < loop->listener_count; i++) {
    if (loop->listeners[i].resume)
      event_free(loop->listeners[i].resume);
    if (loop->listeners[i].htp)
      evhtp_free(loop->listeners[i].htp);
  }
  dg_stream_spares_free(loop);
  if (loop->wake_event)
    event_free(loop->wake_event);
  if (loop->sweep_event)
    event_free(loop->sweep_event);
  if (loop->base)
    event_base_free(loop->base);
  if (loop->wake_fd >= 0)
    (void)close(loop->wake_fd);
  g_string_free(loop->scratch, TRUE);
  dg_tls_unref(loop->tls);
  g_free(loop->listeners);
  pthread_mutex_destroy(&loop->mutex);
  memset(loop, 0, sizeof *loop);
}
