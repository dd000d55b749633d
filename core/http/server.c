/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/server.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/http/gate.h"
#include "core/http/tls.h"
#include "core/observe/log.h"

#include "common/banned.h"

#define MAX_LOOPS 16u
#define WORKERS_PER_CPU 4u
#define WORKERS_MIN 16u
#define WORKERS_FAR 128u /* at least so many, see dg_server_default_workers() */
#define MAX_ADDRESSES 16u
#define CUT_MS 1000u /* after the deadline, for workers to notice the cancel */

struct loop_order {
  struct dg_task task;
  struct dg_loop *loop;
};

/* A set of certificates on its way to a loop. */
struct tls_order {
  struct dg_task task;
  struct dg_loop *loop;
  struct dg_tls *tls;
};

struct dg_server {
  struct dg_gate gate;
  struct dg_tls *tls; /* the newest set; NULL: plain HTTP */
  struct sockaddr_storage addresses[MAX_ADDRESSES];
  socklen_t address_lens[MAX_ADDRESSES];
  uint32_t address_count;
  struct loop_order stop_orders[MAX_LOOPS], kill_orders[MAX_LOOPS], end_orders[MAX_LOOPS];
  bool serving;
  pthread_mutex_t mutex; /* guards the rest */
  pthread_cond_t changed;
  uint32_t idle_loops;
  bool loop_is_idle[MAX_LOOPS];
};

/* ---- Addresses ------------------------------------------------------------------ */

/* "host:port", "[v6]:port", ":port". */
static int resolve_one(struct dg_server *server, const char *text, struct dg_error *err)
{
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
  struct addrinfo *found = NULL;
  const char *colon = strrchr(text, ':');
  g_autofree char *host = NULL;
  int code;

  if (!colon || !colon[1])
    return dg_fail(err, DG_E_CONFIG, "listen address '%s': write HOST:PORT or [IPV6]:PORT", text);
  host = g_strndup(text, (size_t)(colon - text));
  if (host[0] == '[' && strchr(host, ']') == host + strlen(host) - 1) {
    memmove(host, host + 1, strlen(host));
    host[strlen(host) - 1] = '\0';
  } else if (strchr(host, ':')) {
    return dg_fail(err, DG_E_CONFIG, "listen address '%s': write IPv6 as [ADDRESS]:PORT", text);
  }
  code = getaddrinfo(host[0] && strcmp(host, "*") != 0 ? host : NULL, colon + 1, &hints, &found);
  if (code != 0)
    return dg_fail(err, DG_E_CONFIG, "listen address '%s': %s", text, gai_strerror(code));
  for (struct addrinfo *one = found; one; one = one->ai_next) {
    if (server->address_count == MAX_ADDRESSES) {
      freeaddrinfo(found);
      return dg_fail(err, DG_E_CONFIG, "more than %u listen addresses", MAX_ADDRESSES);
    }
    memcpy(&server->addresses[server->address_count], one->ai_addr, one->ai_addrlen);
    server->address_lens[server->address_count++] = one->ai_addrlen;
  }
  freeaddrinfo(found);
  return 0;
}

static int resolve(struct dg_server *server, const char *list, struct dg_error *err)
{
  g_auto(GStrv) parts = g_strsplit(list, ",", -1);

  for (char **part = parts; *part; part++)
    if (resolve_one(server, g_strstrip(*part), err) < 0)
      return -1;
  if (server->address_count == 0)
    return dg_fail(err, DG_E_CONFIG, "no listen address given");
  return 0;
}

static int open_socket(const struct sockaddr_storage *address, socklen_t len, bool share,
                       struct dg_error *err)
{
  char host[64] = "?", port[16] = "?";
  int fd, one = 1;

  (void)getnameinfo((const struct sockaddr *)(const void *)address, len, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
  fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return dg_fail(err, DG_E_CONFIG, "listen on %s port %s: socket: %s", host, port,
                   g_strerror(errno));
  (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (share)
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted ones inherit it */
  if (address->ss_family == AF_INET6)
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (bind(fd, (const struct sockaddr *)(const void *)address, len) < 0) {
    int code = errno;

    (void)close(fd);
    return dg_fail(err, DG_E_CONFIG, "listen on %s port %s: %s%s", host, port, g_strerror(code),
                   code == EADDRINUSE ? " (is another server running?)" : "");
  }
  return fd;
}

static void set_port(struct sockaddr_storage *address, in_port_t port)
{
  if (address->ss_family == AF_INET6)
    ((struct sockaddr_in6 *)(void *)address)->sin6_port = port;
  else
    ((struct sockaddr_in *)(void *)address)->sin_port = port;
}

static in_port_t get_port(const struct sockaddr_storage *address)
{
  return address->ss_family == AF_INET6
             ? ((const struct sockaddr_in6 *)(const void *)address)->sin6_port
             : ((const struct sockaddr_in *)(const void *)address)->sin_port;
}

/* Binds every address for every loop. The first bind of each comes without
 * SO_REUSEPORT, which alone would let two servers share a port unnoticed. */
static int bind_all(struct dg_server *server, struct dg_error *err)
{
  in_port_t any_port = 0;

  for (uint32_t a = 0; a < server->address_count; a++) {
    struct sockaddr_storage *address = &server->addresses[a];
    socklen_t len = server->address_lens[a];
    int probe;

    if (get_port(address) == 0)
      set_port(address, any_port);
    probe = open_socket(address, len, /* share= */ false, err);
    if (probe < 0)
      return -1;
    if (get_port(address) == 0) {
      (void)getsockname(probe, (struct sockaddr *)(void *)address, &len);
      any_port = get_port(address);
    }
    (void)close(probe);
    for (uint32_t l = 0; l < server->gate.loop_count; l++) {
      int fd = open_socket(address, server->address_lens[a], /* share= */ true, err);

      if (fd < 0)
        return -1;
      if (dg_loop_listen(&server->gate.loops[l], a, fd, err) < 0) {
        (void)close(fd);
        return -1;
      }
    }
  }
  return 0;
}

/* ---- Start ---------------------------------------------------------------------- */

static uint32_t cpu_count(void)
{
  cpu_set_t set;

  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
    return (uint32_t)CPU_COUNT(&set);
  return 1;
}

uint32_t dg_server_default_workers(bool far)
{
  return MAX(far ? WORKERS_FAR : WORKERS_MIN, WORKERS_PER_CPU * cpu_count());
}

/* Each connection may need a second descriptor, for the file it is sent. */
static uint32_t default_max_connections(void)
{
  struct rlimit limit;

  if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
    return 512;
  if (limit.rlim_cur < limit.rlim_max) {
    struct rlimit raised = {limit.rlim_max, limit.rlim_max};

    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
      limit = raised;
  }
  if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > 200000)
    return 100000;
  return limit.rlim_cur > 64 ? (uint32_t)(limit.rlim_cur / 2) : 32;
}

static uint32_t or_default(uint32_t value, uint32_t dflt)
{
  return value ? value : dflt;
}

static void fill_gate(struct dg_server *server, const struct dg_server_params *params)
{
  struct dg_gate *gate = &server->gate;
  uint32_t room = default_max_connections();
  uint64_t random = 0;

  gate->params = (struct dg_gate_params){
      .head_ms = or_default(params->head_ms, DG_GATE_HEAD_MS),
      .idle_ms = or_default(params->idle_ms, DG_GATE_IDLE_MS),
      .window_ms = or_default(params->window_ms, DG_GATE_WINDOW_MS),
      .window_bytes = or_default(params->window_bytes, DG_GATE_WINDOW_BYTES),
      .stall_ms = or_default(params->stall_ms, DG_GATE_STALL_MS),
      .linger_ms = or_default(params->linger_ms, DG_GATE_LINGER_MS),
      .max_connections = or_default(params->max_connections, room),
      .max_concurrent_requests = or_default(params->max_concurrent_requests, 1024),
      .request_timeout_ms = or_default(params->request_timeout_ms, 300000),
      .slow_timeout_ms = or_default(params->slow_timeout_ms, DG_GATE_SLOW_MS),
      .blank_ms = or_default(params->blank_ms, DG_GATE_BLANK_MS),
  };
  gate->context = params->context;
  gate->owner = server;
  gate->loop_count = or_default(params->loop_threads, cpu_count());
  if (gate->loop_count > MAX_LOOPS)
    gate->loop_count = MAX_LOOPS;
  gate->loops = g_new0(struct dg_loop, gate->loop_count);
  if (getrandom(&random, sizeof random, 0) != sizeof random)
    random = (uint64_t)getpid();
  g_snprintf(gate->host_id, sizeof gate->host_id, "%016" G_GINT64_MODIFIER "x-",
             (guint64)random);
}

static void on_loop_idle(struct dg_gate *gate, struct dg_loop *loop)
{
  struct dg_server *server = gate->owner;

  pthread_mutex_lock(&server->mutex);
  if (!server->loop_is_idle[loop->number]) {
    server->loop_is_idle[loop->number] = true;
    server->idle_loops++;
    pthread_cond_signal(&server->changed);
  }
  pthread_mutex_unlock(&server->mutex);
}

int dg_server_start(const struct dg_server_params *params, struct dg_server **ret_server,
                    struct dg_error *err)
{
  struct dg_server *server = g_new0(struct dg_server, 1);
  struct dg_gate *gate = &server->gate;
  struct dg_server *before;
  uint32_t workers = or_default(params->worker_threads, dg_server_default_workers(/* far= */ false));
  uint32_t loop_count;
  pthread_condattr_t monotonic;

  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of one write */
  (void)evthread_use_pthreads();
  pthread_mutex_init(&server->mutex, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&server->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  fill_gate(server, params);
  loop_count = gate->loop_count;
  gate->on_idle = on_loop_idle;
  if (resolve(server, params->listen_addr, err) < 0)
    goto fail;
  for (uint32_t i = 0; i < gate->loop_count; i++)
    if (dg_loop_init(&gate->loops[i], gate, i, server->address_count, err) < 0)
      goto fail;
  if (params->tls && params->tls->enabled &&
      dg_tls_new(params->tls, /* before= */ NULL, &server->tls, err) < 0)
    goto fail;
  for (uint32_t i = 0; server->tls && i < gate->loop_count; i++)
    gate->loops[i].tls = dg_tls_ref(server->tls);
  if (bind_all(server, err) < 0)
    goto fail;
  gate->pool = dg_pool_new(workers);
  if (!gate->pool) {
    (void)dg_fail(err, DG_E_INTERNAL, "no worker thread could be started");
    goto fail;
  }
  /* A request may ask its context for this server before we return. */
  before = *ret_server;
  *ret_server = server;
  server->serving = true;
  for (uint32_t i = 0; i < gate->loop_count; i++) {
    if (dg_loop_start(&gate->loops[i], err) < 0) {
      *ret_server = before;
      gate->loop_count = i; /* those that run */
      (void)dg_server_stop(server, 0);
      gate->loop_count = loop_count;
      goto fail;
    }
  }
  return 0;
fail:
  dg_server_free(server);
  return -1;
}

uint16_t dg_server_port(const struct dg_server *server)
{
  return ntohs(get_port(&server->addresses[0]));
}

/* ---- Certificates ------------------------------------------------------------------ */

static void run_tls(struct dg_task *task)
{
  struct tls_order *order = (struct tls_order *)task;

  dg_tls_unref(order->loop->tls);
  order->loop->tls = order->tls;
  g_free(order);
}

int dg_server_check_tls(const struct dg_tls_config *config, struct dg_error *err)
{
  struct dg_tls *tls = NULL;

  if (config->enabled && dg_tls_new(config, /* before= */ NULL, &tls, err) < 0)
    return -1;
  dg_tls_unref(tls);
  return 0;
}

int dg_server_reload_tls(struct dg_server *server, const struct dg_tls_config *config,
                         struct dg_error *err)
{
  struct dg_tls *tls;

  g_assert(server->serving && server->tls);
  if (dg_tls_new(config, server->tls, &tls, err) < 0)
    return -1;
  for (uint32_t i = 0; i < server->gate.loop_count; i++) {
    struct tls_order *order = g_new0(struct tls_order, 1);

    order->task.run = run_tls;
    order->loop = &server->gate.loops[i];
    order->tls = dg_tls_ref(tls);
    dg_loop_post(order->loop, &order->task);
  }
  dg_tls_unref(server->tls);
  server->tls = tls;
  return 0;
}

int64_t dg_server_tls_expires_s(const struct dg_server *server)
{
  return server->tls ? dg_tls_expires_s(server->tls) : 0;
}

/* ---- Stop ------------------------------------------------------------------------- */

static void run_stop(struct dg_task *task)
{
  dg_gate_stop(((struct loop_order *)task)->loop);
}

static void run_kill(struct dg_task *task)
{
  dg_gate_kill(((struct loop_order *)task)->loop);
}

static void run_end(struct dg_task *task)
{
  dg_loop_end(((struct loop_order *)task)->loop);
}

static void order_all(struct dg_server *server, struct loop_order *orders,
                      void (*run)(struct dg_task *task))
{
  for (uint32_t i = 0; i < server->gate.loop_count; i++) {
    orders[i].task.run = run;
    orders[i].loop = &server->gate.loops[i];
    dg_loop_post(orders[i].loop, &orders[i].task);
  }
}

/* Whether every loop ran out of work in time. */
static bool wait_idle(struct dg_server *server, uint32_t wait_ms)
{
  struct timespec until;
  bool idle;

  (void)clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += wait_ms / 1000;
  until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  pthread_mutex_lock(&server->mutex);
  while (server->idle_loops < server->gate.loop_count)
    if (pthread_cond_timedwait(&server->changed, &server->mutex, &until) != 0)
      break;
  idle = server->idle_loops == server->gate.loop_count;
  pthread_mutex_unlock(&server->mutex);
  return idle;
}

int dg_server_stop(struct dg_server *server, uint32_t grace_ms)
{
  int result = 0;

  if (!server->serving)
    return 0;
  order_all(server, server->stop_orders, run_stop);
  if (!wait_idle(server, grace_ms)) {
    result = 1;
    order_all(server, server->kill_orders, run_kill);
    if (!wait_idle(server, CUT_MS))
      return -1;
  }
  order_all(server, server->end_orders, run_end);
  for (uint32_t i = 0; i < server->gate.loop_count; i++)
    dg_loop_join(&server->gate.loops[i]);
  server->serving = false;
  return result;
}

void dg_server_free(struct dg_server *server)
{
  if (!server)
    return;
  g_assert(!server->serving);
  dg_pool_free(server->gate.pool);
  for (uint32_t i = 0; i < server->gate.loop_count; i++)
    dg_loop_clear(&server->gate.loops[i]);
  g_free(server->gate.loops);
  dg_tls_unref(server->tls);
  pthread_cond_destroy(&server->changed);
  pthread_mutex_destroy(&server->mutex);
  g_free(server);
}

void dg_server_stats(struct dg_server *server, struct dg_server_stats *ret_stats)
{
  struct dg_gate *gate = &server->gate;
  struct dg_pool_stats pool;

  dg_pool_stats(gate->pool, &pool);
  *ret_stats = (struct dg_server_stats){
      .connections = atomic_load(&gate->conn_count),
      .active_requests = atomic_load(&gate->active_count),
      .queued_requests = atomic_load(&gate->waiting_count),
      .worker_threads = pool.thread_count,
      .idle_workers = pool.idle_count,
      .queued_jobs = pool.queued_count,
      .accepted_total = atomic_load(&gate->accepted_total),
      .refused_total = atomic_load(&gate->refused_total),
      .requests_total = atomic_load(&gate->request_total),
  };
}
