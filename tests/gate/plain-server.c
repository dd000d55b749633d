/* SPDX-License-Identifier: Apache-2.0 */
/* libevhtp as its manual has one use it, without the gate.
 *
 * Each test of the gate that is about one of libevhtp's defects must fail
 * here: that is how we know that it tests something.
 *
 *   plain-server PORT [-r RECV_TIMEOUT_MS] [-t THREADS] [-f FILE] */
#include "config.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/http/libevhtp.h"

#include "common/banned.h"

static const char *file_path;

static void say(evhtp_request_t *request, evhtp_res code, const char *text)
{
  evbuffer_add(request->buffer_out, text, strlen(text));
  evhtp_send_reply(request, code);
}

static bool is_path(const evhtp_request_t *request, const char *path)
{
  return request->uri && request->uri->path && strcmp(request->uri->path->full, path) == 0;
}

static volatile sig_atomic_t may_answer;

static void on_signal(int number)
{
  (void)number;
  may_answer = 1;
}

/* To /slow, once a SIGUSR1 says so. */
static void reply_later(evutil_socket_t fd, short what, void *argument)
{
  struct timeval delay = {0, 10000};
  evhtp_request_t *request = argument;

  (void)fd;
  (void)what;
  if (may_answer)
    say(request, EVHTP_RES_OK, "late\n");
  else
    event_base_once(request->conn->evbase, -1, EV_TIMEOUT, reply_later, request, &delay);
}

static void end_later(evutil_socket_t fd, short what, void *argument)
{
  (void)fd;
  (void)what;
  evhtp_send_reply_end(argument);
}

static void resume_later(evutil_socket_t fd, short what, void *argument)
{
  (void)fd;
  (void)what;
  evhtp_connection_resume(argument);
}

static void later(evhtp_request_t *request, event_callback_fn callback, void *argument)
{
  struct timeval delay = {0, 200000};

  event_base_once(request->conn->evbase, -1, EV_TIMEOUT, callback, argument, &delay);
}

static void on_request(evhtp_request_t *request, void *argument)
{
  char text[16384];

  (void)argument;
  if (is_path(request, "/slow")) {
    later(request, reply_later, request);
  } else if (is_path(request, "/trickle")) {
    struct evbuffer *piece = evbuffer_new();

    evhtp_send_reply_start(request, EVHTP_RES_OK);
    evbuffer_add(piece, "hello\n", 6);
    evhtp_send_reply_body(request, piece);
    evbuffer_free(piece);
    later(request, end_later, request);
  } else if (is_path(request, "/file")) {
    struct stat status;
    int fd = open(file_path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &status) < 0)
      abort();
    evbuffer_add_file(request->buffer_out, fd, 0, status.st_size);
    evhtp_send_reply(request, EVHTP_RES_OK);
  } else if (is_path(request, "/thread")) {
    snprintf(text, sizeof text, "%d\n", gettid());
    say(request, EVHTP_RES_OK, text);
  } else if (is_path(request, "/nope")) {
    say(request, EVHTP_RES_NOTFOUND, "no\n");
  } else {
    snprintf(text, sizeof text, "path=%s query=%s body=%zu\n",
             request->uri ? request->uri->path->full : "?",
             request->uri && request->uri->query_raw ? (const char *)request->uri->query_raw : "",
             evbuffer_get_length(request->buffer_in));
    say(request, EVHTP_RES_OK, text);
  }
}

static evhtp_res on_headers(evhtp_request_t *request, evhtp_headers_t *headers, void *argument)
{
  (void)headers;
  (void)argument;
  if (is_path(request, "/deny")) {
    say(request, EVHTP_RES_FORBIDDEN, "denied\n");
    return EVHTP_RES_OK;
  }
  if (is_path(request, "/deny-error")) {
    say(request, EVHTP_RES_FORBIDDEN, "denied\n");
    return EVHTP_RES_FORBIDDEN;
  }
  return EVHTP_RES_OK;
}

static evhtp_res on_read(evhtp_request_t *request, struct evbuffer *buffer, void *argument)
{
  (void)buffer;
  (void)argument;
  if (is_path(request, "/sink")) { /* a busy worker asks for a pause */
    later(request, resume_later, request->conn);
    return EVHTP_RES_PAUSE;
  }
  return EVHTP_RES_OK;
}

static evhtp_res on_accept(evhtp_connection_t *conn, void *argument)
{
  (void)argument;
  evhtp_connection_set_hook(conn, evhtp_hook_on_headers, (evhtp_hook)on_headers, NULL);
  evhtp_connection_set_hook(conn, evhtp_hook_on_read, (evhtp_hook)on_read, NULL);
  return EVHTP_RES_OK;
}

int main(int argc, char **argv)
{
  struct event_base *base;
  evhtp_t *htp;
  unsigned long recv_ms = 0;
  int option, threads = 0;

  if (argc < 2)
    return 64;
  optind = 2;
  while ((option = getopt(argc, argv, "r:t:f:")) != -1) {
    switch (option) {
    case 'r': recv_ms = strtoul(optarg, NULL, 10); break;
    case 't': threads = (int)strtol(optarg, NULL, 10); break;
    case 'f': file_path = optarg; break;
    default: return 64;
    }
  }
  (void)signal(SIGPIPE, SIG_IGN);
  base = event_base_new();
  htp = evhtp_new(base, NULL);
  evhtp_set_gencb(htp, on_request, NULL);
  evhtp_set_post_accept_cb(htp, on_accept, NULL);
  if (recv_ms) {
    struct timeval wait = {(time_t)(recv_ms / 1000), (suseconds_t)(recv_ms % 1000) * 1000};

    evhtp_set_timeouts(htp, &wait, &wait);
  }
  if (threads)
    evhtp_use_threads_wexit(htp, NULL, NULL, threads, NULL);
  if (evhtp_bind_socket(htp, "127.0.0.1", (uint16_t)strtoul(argv[1], NULL, 10), 1024) < 0)
    return 3;
  signal(SIGUSR1, on_signal);
  printf("ready %s\n", argv[1]);
  fflush(stdout);
  event_base_loop(base, 0);
  return 0;
}
