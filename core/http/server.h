/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server: loops, workers, listeners, and their end.
 *
 *   dg_server_start()  binds, starts the threads, serves
 *   dg_server_stop()   no new connections, finish what is in flight, deadline
 *   dg_server_free()
 *
 * Everything here is called by the main thread [startup], but the statistics. */
#ifndef DG_CORE_HTTP_SERVER_H
#define DG_CORE_HTTP_SERVER_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_server;
struct dg_server_context;
struct dg_tls_config;

/* Worker threads that go with these CPUs. far: looks at the storage are round trips, and
 * threads wait more than they work. [any] */
uint32_t dg_server_default_workers(bool far);

/* Zero takes the default. */
struct dg_server_params {
  struct dg_server_context *context;  /* borrowed; required */
  const char *listen_addr;            /* "127.0.0.1:9000", "[::1]:9000", "localhost:9000", ":9000"
                                         (every address); several with commas. Port 0: any */
  uint32_t loop_threads;              /* default: one per CPU, at most 16 */
  uint32_t worker_threads;            /* default: as for storage that is not far */
  uint32_t max_concurrent_requests;   /* default 1024 */
  uint32_t max_connections;           /* default: half of the descriptors this process may open */
  uint32_t request_timeout_ms;        /* default 300000 */
  uint32_t slow_timeout_ms;           /* of copies and completes; default 3600000 */
  uint32_t blank_ms;                  /* between the blanks they send meanwhile; default 10000 */
  /* The client's deadlines; see core/http/gate.h. */
  uint32_t head_ms, idle_ms, window_ms, window_bytes, stall_ms, linger_ms;
  const struct dg_tls_config *tls;    /* borrowed for the call; NULL or not enabled: plain HTTP */
};

/* Serves when it returns 0; *ret_server is set before the first request is
 * taken. Ignores SIGPIPE and SIGXFSZ, raises the soft limit of open
 * descriptors to the hard one. An address that another process listens on is
 * refused, though SO_REUSEPORT would let us share it. DG_E_CONFIG names the
 * address. */
int dg_server_start(const struct dg_server_params *params, struct dg_server **ret_server,
                    struct dg_error *err);

/* The port of the first address: for tests that asked for port 0. */
uint16_t dg_server_port(const struct dg_server *server);

/* Whether a server could serve with these files: to be asked before anything else is
 * begun. */
int dg_server_check_tls(const struct dg_tls_config *config, struct dg_error *err);

/* Reads the files that config (borrowed for the call) names once more. Connections
 * accepted from now on begin with them; those that are open go on as they are.
 * On an error, which names the file, everything stays as it was. Only for a
 * server that was started with TLS. */
int dg_server_reload_tls(struct dg_server *server, const struct dg_tls_config *config,
                         struct dg_error *err);

/* When the certificate ends, in seconds since 1970; 0 without TLS. */
int64_t dg_server_tls_expires_s(const struct dg_server *server);

/* Closes the listeners and idle connections, lets requests finish with
 * `Connection: close`. After grace_ms the rest is cut, and workers have
 * another second to notice. Returns 0 when everything ended by itself, 1 when
 * something was cut, -1 when a worker is still stuck in a call: then
 * dg_server_free() must not be called and the process should _exit(). */
int dg_server_stop(struct dg_server *server, uint32_t grace_ms);

void dg_server_free(struct dg_server *server); /* after stop; NULL is fine */

struct dg_server_stats {
  uint32_t connections;       /* open now */
  uint32_t active_requests;   /* dispatched, no response head yet */
  uint32_t queued_requests;   /* waiting for max_concurrent_requests */
  uint32_t worker_threads, idle_workers, queued_jobs;
  uint64_t accepted_total;    /* connections */
  uint64_t refused_total;     /* closed on accept: too many */
  uint64_t requests_total;
};
void dg_server_stats(struct dg_server *server, struct dg_server_stats *ret_stats); /* [any] */

#endif
