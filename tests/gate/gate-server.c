/* SPDX-License-Identifier: Apache-2.0 */
/* The gate with a front and handlers of its own, for tests and measurements:
 * no S3, no storage, but every shape of request and response a handler can
 * have, and counters that tell whether each was released exactly once.
 *
 *   gate-server PORT [-a ADDRESSES] [-l LOOPS] [-w WORKERS] [-c CONCURRENT] [-n CONNECTIONS]
 *               [-t REQUEST_MS] [-T SLOW_MS] [-k BLANK_MS] [-h HEAD_MS] [-i IDLE_MS]
 *               [-b WINDOW_MS] [-g GRACE_MS] [-f FILE] [-L LOGFILE]
 *
 * Prints "ready PORT" once it serves; ends on SIGTERM with exit 0 (all
 * finished), 1 (something was cut) or 2 (a worker was stuck).
 *
 * Handlers that pause stop doing so on SIGUSR1; those that begin after it pause
 * again. From SIGUSR2 on nobody pauses. So a test needs no guess of how long a
 * busy machine takes: it lets a handler pause for a minute, waits for what should
 * happen meanwhile, and sends the signal. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/slice.h"
#include "common/xml.h"
#include "core/http/front.h"
#include "core/http/payload.h"
#include "core/http/server.h"
#include "core/observe/log.h"

#include "common/banned.h"

static const char *file_path;
static struct dg_server *server;
static struct dg_server_context context;
static atomic_long pauses_ended; /* how often; LONG_MAX: for good */
static atomic_long pausing, opened, released, done, cancelled_seen, readers_live, double_release;

/* ---- Parameters of the query: "n=5&delay=3" -------------------------------------- */

static uint64_t param(const struct dg_exchange *x, const char *name, uint64_t dflt)
{
  struct dg_slice query = x->request.raw_query;
  size_t name_len = strlen(name);

  for (size_t at = 0; at < query.len;) {
    size_t next = dg_slice_find(query, '&', at);
    struct dg_slice word = dg_slice_skip(query, at);

    if (next != SIZE_MAX)
      word.len = next - at;
    at = next == SIZE_MAX ? query.len : next + 1;
    if (word.len > name_len && memcmp(word.data, name, name_len) == 0 &&
        word.data[name_len] == '=' && dg_slice_to_u64(dg_slice_skip(word, name_len + 1), &dflt))
      return dflt;
  }
  return dflt;
}

static bool is_cancelled(const struct dg_exchange *x)
{
  return __atomic_load_n(x->call.cancelled, __ATOMIC_RELAXED) != 0;
}

/* x: stops when it is cancelled; NULL: does not. */
static void pause_ms(const struct dg_exchange *x, uint64_t ms)
{
  long ended = atomic_load(&pauses_ended);

  if (ms == 0 || ended == LONG_MAX)
    return;
  atomic_fetch_add(&pausing, 1); /* `ended` is known: whoever is counted will go on when told */
  for (; ms > 0 && atomic_load(&pauses_ended) == ended && !(x && is_cancelled(x));
       ms -= MIN(ms, 5)) {
    struct timespec left = {0, (long)MIN(ms, 5) * 1000000};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
      ;
  }
  atomic_fetch_sub(&pausing, 1);
}

/* ---- Handler state, to see that release() comes exactly once ---------------------- */

struct op {
  uint64_t bytes, sum;
  bool released;
};

static int op_begin(struct dg_exchange *x, struct dg_error *err)
{
  (void)err;
  x->op = g_new0(struct op, 1);
  atomic_fetch_add(&opened, 1);
  return 0;
}

static void op_release(struct dg_exchange *x)
{
  struct op *op = x->op;

  if (is_cancelled(x))
    atomic_fetch_add(&cancelled_seen, 1);
  if (!op)
    return;
  if (op->released)
    atomic_fetch_add(&double_release, 1);
  op->released = true;
  atomic_fetch_add(&released, 1);
  x->op = NULL;
  g_free(op);
}

/* ---- Readers ----------------------------------------------------------------------- */

struct test_reader {
  struct dg_reader base;
  uint64_t at, end, delay_ms, fail_at;
  int fd;
};

static int reader_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct test_reader *self = (struct test_reader *)reader;
  uint64_t left = self->end - self->at;
  uint8_t *bytes = buffer;

  pause_ms(NULL, self->delay_ms);
  if (self->at >= self->fail_at)
    return dg_fail(err, DG_E_CORRUPT, "told to fail");
  if (left > capacity)
    left = capacity;
  if (self->fail_at - self->at < left)
    left = self->fail_at - self->at;
  if (self->fd >= 0) {
    ssize_t got = pread(self->fd, buffer, left, (off_t)self->at);

    if (got < 0)
      return dg_fail(err, DG_E_IO, "pread: %s", g_strerror(errno));
    left = (uint64_t)got;
  } else {
    /* Each 8 bytes tell their position: order and loss show. */
    for (uint64_t i = 0; i < left; i++) {
      uint64_t position = self->at + i;

      if ((position & 7) == 0 && i + 8 <= left) {
        uint64_t word = GUINT64_TO_BE(position);

        memcpy(bytes + i, &word, 8);
        i += 7;
      } else {
        bytes[i] = (uint8_t)((position & ~UINT64_C(7)) >> (56 - 8 * (position & 7)));
      }
    }
  }
  self->at += left;
  *ret_len = left;
  return 0;
}

static int reader_file_range(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                             uint64_t *ret_length, struct dg_error *err)
{
  struct test_reader *self = (struct test_reader *)reader;

  if (self->fd < 0)
    return dg_fail(err, DG_E_UNSUPPORTED, "not a file");
  *ret_fd = self->fd;
  *ret_offset = self->at;
  *ret_length = self->end - self->at;
  self->fd = -1;
  return 0;
}

static void reader_close(struct dg_reader *reader)
{
  struct test_reader *self = (struct test_reader *)reader;

  if (self->fd >= 0)
    (void)close(self->fd);
  atomic_fetch_sub(&readers_live, 1);
  g_free(self);
}

static const struct dg_reader_ops reader_ops = {sizeof reader_ops, 0, reader_read,
                                                reader_file_range, reader_close};

static struct test_reader *reader_new(uint64_t length)
{
  struct test_reader *reader = g_new0(struct test_reader, 1);

  reader->base.ops = &reader_ops;
  reader->end = length;
  reader->fail_at = UINT64_MAX;
  reader->fd = -1;
  atomic_fetch_add(&readers_live, 1);
  return reader;
}

/* ---- Handlers ------------------------------------------------------------------------ */

static const char hello[] = "hello world\n";

static GBytes *hello_bytes(void)
{
  return g_bytes_new_static(hello, sizeof hello - 1);
}

static int tiny_fast(struct dg_exchange *x)
{
  dg_respond(x, 200, "text/plain", hello_bytes());
  return 1;
}

/* From memory, but leaves something for release(). */
static int kept_fast(struct dg_exchange *x)
{
  x->op = g_new0(struct op, 1);
  atomic_fetch_add(&opened, 1);
  return tiny_fast(x);
}

static int hop_finish(struct dg_exchange *x, struct dg_error *err)
{
  (void)err;
  dg_respond(x, 200, "text/plain", hello_bytes());
  return 0;
}

static int large_fast(struct dg_exchange *x)
{
  uint64_t len = param(x, "n", 1000);
  g_autofree uint8_t *bytes = g_malloc(len ? len : 1);

  memset(bytes, 'L', len);
  dg_respond(x, 200, NULL, g_bytes_new_take(g_steal_pointer(&bytes), len));
  return 1;
}

static int status_finish(struct dg_exchange *x, struct dg_error *err)
{
  uint16_t status = (uint16_t)param(x, "code", 200);

  if (status == 0)
    return dg_fail(err, DG_E_NO_SUCH_KEY, "told to");
  dg_response_header(x, "ETag", DG_SLICE("\"e\""));
  dg_respond(x, status, "text/plain", hello_bytes());
  return 0;
}

static int stream_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct test_reader *reader = reader_new(param(x, "n", 1000));

  (void)err;
  reader->delay_ms = param(x, "delay", 0);
  reader->fail_at = param(x, "fail", UINT64_MAX);
  dg_respond_reader(x, 200, &reader->base, reader->end + param(x, "missing", 0));
  return 0;
}

static int file_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct test_reader *reader;
  struct stat status;
  int fd = file_path ? open(file_path, O_RDONLY | O_CLOEXEC) : -1;

  if (fd < 0 || fstat(fd, &status) < 0)
    return dg_fail(err, DG_E_NO_SUCH_KEY, "no file");
  reader = reader_new((uint64_t)status.st_size);
  reader->fd = fd;
  dg_respond_reader(x, 200, &reader->base, reader->end);
  return 0;
}

static int sleep_finish(struct dg_exchange *x, struct dg_error *err)
{
  pause_ms(param(x, "deaf", 0) ? NULL : x, param(x, "ms", 100));
  if (is_cancelled(x))
    return dg_fail(err, DG_E_CANCELLED, "told to stop");
  dg_respond(x, 200, "text/plain", hello_bytes());
  return 0;
}

/* A long operation with an XML answer, or an error for code=0. */
static int slow_finish(struct dg_exchange *x, struct dg_error *err)
{
  pause_ms(x, param(x, "ms", 0));
  if (is_cancelled(x))
    return dg_fail(err, DG_E_CANCELLED, "told to stop");
  if (param(x, "code", 200) == 0)
    return dg_fail(err, DG_E_NO_SUCH_KEY, "told to");
  dg_respond_xml(x, 200, g_string_new(DG_XML_DECLARATION "<Done/>"));
  return 0;
}

static int sink_body(struct dg_exchange *x, const void *data, size_t len, struct dg_error *err)
{
  struct op *op = x->op;
  const uint8_t *bytes = data;

  pause_ms(NULL, param(x, "delay", 0));
  op->bytes += len;
  if (!param(x, "fast", 0))
    for (size_t i = 0; i < len; i++)
      op->sum = op->sum * 31 + bytes[i];
  if (op->bytes > param(x, "refuse", UINT64_MAX))
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "told to refuse");
  return 0;
}

static int sink_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct op *op = x->op;
  g_autofree char *text = g_strdup_printf("got %" PRIu64 " %" PRIu64 "\n", op->bytes, op->sum);
  size_t len = strlen(text);

  (void)err;
  dg_respond(x, 200, "text/plain", g_bytes_new_take(g_steal_pointer(&text), len));
  return 0;
}

static int refuse_begin(struct dg_exchange *x, struct dg_error *err)
{
  (void)op_begin(x, err);
  return dg_fail(err, DG_E_NO_SUCH_BUCKET, "told to");
}

static int collect_finish(struct dg_exchange *x, struct dg_error *err)
{
  (void)err;
  dg_respond(x, 200, "text/plain",
             x->collected ? g_byte_array_free_to_bytes(g_steal_pointer(&x->collected)) : NULL);
  return 0;
}

static void append_field(GString *out, const char *name, struct dg_slice value)
{
  g_string_append_printf(out, "%s=", name);
  for (size_t i = 0; i < value.len; i++)
    g_string_append_printf(out, "%02x", (unsigned char)value.data[i]);
  g_string_append_c(out, '\n');
}

/* The request as the handlers see it, in hex: byte-exact. */
static int echo_fast(struct dg_exchange *x)
{
  GString *out = g_string_new(NULL);

  append_field(out, "method", dg_slice_str(x->request.method));
  append_field(out, "path", x->request.raw_path);
  if (x->request.raw_query.data)
    append_field(out, "query", x->request.raw_query);
  append_field(out, "peer", dg_slice_str(x->request.peer));
  for (uint32_t i = 0; i < x->request.header_count; i++) {
    append_field(out, "name", x->request.headers[i].name);
    append_field(out, "value", x->request.headers[i].value);
  }
  dg_respond(x, 200, "text/plain", g_string_free_to_bytes(out));
  return 1;
}

/* Which loop serves this connection. */
static int thread_fast(struct dg_exchange *x)
{
  g_autofree char *text = g_strdup_printf("%d\n", gettid());
  size_t len = strlen(text);

  dg_respond(x, 200, "text/plain", g_bytes_new_take(g_steal_pointer(&text), len));
  return 1;
}

/* Tries to split the response. */
static int split_fast(struct dg_exchange *x)
{
  dg_response_header(x, "X-Bad", DG_SLICE("a\r\nInjected: yes"));
  dg_response_headerf(x, "X-Good", "%d", 5);
  return tiny_fast(x);
}

#ifdef DG_SANITIZERS
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static int stats_fast(struct dg_exchange *x)
{
  struct dg_server_stats stats;
  GString *out = g_string_new(NULL);

  dg_server_stats(server, &stats);
  g_string_printf(out,
                  "{\"opened\":%ld,\"released\":%ld,\"done\":%ld,\"cancelled\":%ld,"
                  "\"readers\":%ld,\"double_release\":%ld,\"connections\":%u,\"active\":%u,"
                  "\"queued\":%u,\"idle_workers\":%u,\"workers\":%u,\"requests\":%" PRIu64
                  ",\"pausing\":%ld,\"sanitized\":%d}\n",
                  atomic_load(&opened), atomic_load(&released), atomic_load(&done),
                  atomic_load(&cancelled_seen), atomic_load(&readers_live),
                  atomic_load(&double_release), stats.connections, stats.active_requests,
                  stats.queued_requests, stats.idle_workers, stats.worker_threads,
                  stats.requests_total, atomic_load(&pausing), SANITIZED);
  dg_respond(x, 200, "application/json", g_string_free_to_bytes(out));
  return 1;
}

/* ---- The front ------------------------------------------------------------------------- */

static const struct route {
  const char *path;
  struct dg_handler handler;
} routes[] = {
    {"/tiny", {.operation = "tiny", .fast = tiny_fast, .finish = hop_finish}},
    {"/kept", {.operation = "kept", .fast = kept_fast, .finish = hop_finish, .release = op_release}},
    {"/large", {.operation = "large", .fast = large_fast, .finish = hop_finish}},
    {"/hop", {.operation = "hop", .begin = op_begin, .finish = hop_finish, .release = op_release}},
    {"/echo", {.operation = "echo", .fast = echo_fast, .finish = hop_finish}},
    {"/thread", {.operation = "thread", .fast = thread_fast, .finish = hop_finish}},
    {"/split", {.operation = "split", .fast = split_fast, .finish = hop_finish}},
    {"/_/stats", {.operation = "stats", .fast = stats_fast, .finish = hop_finish}},
    {"/stats", {.operation = "stats", .fast = stats_fast, .finish = hop_finish}},
    {"/status",
     {.operation = "status", .begin = op_begin, .finish = status_finish, .release = op_release}},
    {"/stream",
     {.operation = "stream", .begin = op_begin, .finish = stream_finish, .release = op_release}},
    {"/file",
     {.operation = "file", .begin = op_begin, .finish = file_finish, .release = op_release}},
    {"/sleep",
     {.operation = "sleep", .begin = op_begin, .finish = sleep_finish, .release = op_release}},
    {"/slow",
     {.operation = "slow", .body_mode = DG_BODY_COLLECT, .collect_max = 100000, .begin = op_begin,
      .finish = slow_finish, .release = op_release, .slow = DG_SLOW_XML}},
    {"/sink",
     {.operation = "sink", .body_mode = DG_BODY_STREAM, .begin = op_begin, .body = sink_body,
      .finish = sink_finish, .release = op_release}},
    {"/refuse",
     {.operation = "refuse", .body_mode = DG_BODY_STREAM, .begin = refuse_begin, .body = sink_body,
      .finish = sink_finish, .release = op_release}},
    {"/collect",
     {.operation = "collect", .body_mode = DG_BODY_COLLECT, .collect_max = 100000,
      .begin = op_begin, .finish = collect_finish, .release = op_release}},
};

int dg_front_route(struct dg_exchange *x)
{
  struct dg_error err = {0};

  if (dg_slice_equal_str(x->request.raw_path, "/deny")) {
    (void)dg_fail(&err, DG_E_ACCESS_DENIED, "told to");
    dg_respond_error(x, &err);
    return -1;
  }
  if (dg_slice_equal_str(x->request.raw_path, "/held")) {
    x->identity.delay_ms = (uint32_t)param(x, "ms", 0);
    (void)dg_fail(&err, DG_E_ACCESS_DENIED, "told to");
    dg_respond_error(x, &err);
    return -1;
  }
  for (size_t i = 0; i < G_N_ELEMENTS(routes); i++)
    if (dg_slice_equal_str(x->request.raw_path, routes[i].path)) {
      x->handler = &routes[i].handler;
      return 0;
    }
  (void)dg_fail(&err, DG_E_NO_SUCH_KEY, "no such route");
  dg_respond_error(x, &err);
  return -1;
}

void dg_front_leave(struct dg_exchange *x)
{
  (void)x;
}

void dg_front_done(struct dg_exchange *x)
{
  struct timespec now;

  atomic_fetch_add(&done, 1);
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  dg_log_info(context.log, "http.request",
              "request_id=%s peer=%s method=%s path=%s status=%u bytes=%" PRIu64
              " duration_us=%" PRIu64 " error=%d",
              x->request.id, x->request.peer, x->request.method,
              DG_LOG_QUOTED(x->request.raw_path), x->response.status, x->bytes_sent,
              (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u -
                  x->started_mono_us,
              x->error.code);
}

/* Nobody is identified here. */
void dg_identity_clear(struct dg_identity *identity)
{
  (void)identity;
}

/* Bodies here are never aws-chunked. */
struct dg_payload {
  struct dg_exchange *x;
};

int dg_payload_open(struct dg_exchange *x, uint64_t raw_length, struct dg_payload **ret_payload,
                    struct dg_error *err)
{
  if (x->handler->collect_max && raw_length != DG_TO_END && raw_length > x->handler->collect_max)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "more than is collected");
  *ret_payload = g_new0(struct dg_payload, 1);
  (*ret_payload)->x = x;
  return 0;
}

int dg_payload_write(struct dg_payload *payload, const void *data, size_t len, struct dg_error *err)
{
  struct dg_exchange *x = payload->x;

  if (x->handler->body_mode != DG_BODY_COLLECT)
    return x->handler->body(x, data, len, err);
  if (!x->collected)
    x->collected = g_byte_array_new();
  if (x->collected->len + len > x->handler->collect_max)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "more than is collected");
  g_byte_array_append(x->collected, data, (guint)len);
  return 0;
}

int dg_payload_end(struct dg_payload *payload, struct dg_error *err)
{
  (void)payload;
  (void)err;
  return 0;
}

void dg_payload_free(struct dg_payload *payload)
{
  g_free(payload);
}

/* A thread's: pauses end while the server stops, too. */
static void *end_pauses(void *signals)
{
  int number;

  while (sigwait(signals, &number) == 0)
    if (number == SIGUSR2)
      atomic_store(&pauses_ended, LONG_MAX);
    else if (atomic_load(&pauses_ended) != LONG_MAX)
      atomic_fetch_add(&pauses_ended, 1);
  return NULL;
}

/* ---- Main --------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
  g_autofree char *address = NULL;
  /* A refused client may be silent for longer than by default: the machine is busy. */
  struct dg_server_params params = {.context = &context, .linger_ms = 15000};
  struct dg_error err = {0};
  uint32_t grace_ms = 10000;
  static sigset_t pauses;
  pthread_t pauses_thread;
  sigset_t ends;
  int option, number, log_fd = -1;

  if (argc < 2)
    return 64;
  address = g_strdup_printf("127.0.0.1:%s", argv[1]);
  optind = 2;
  while ((option = getopt(argc, argv, "a:l:w:c:n:t:T:k:h:i:b:g:f:L:")) != -1) {
    uint32_t value = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;

    switch (option) {
    case 'a': g_free(address); address = g_strdup(optarg); break;
    case 'l': params.loop_threads = value; break;
    case 'w': params.worker_threads = value; break;
    case 'c': params.max_concurrent_requests = value; break;
    case 'n': params.max_connections = value; break;
    case 't': params.request_timeout_ms = value; break;
    case 'T': params.slow_timeout_ms = value; break;
    case 'k': params.blank_ms = value; break;
    case 'h': params.head_ms = value; break;
    case 'i': params.idle_ms = value; break;
    case 'b': params.window_ms = params.stall_ms = value; break;
    case 'g': grace_ms = value; break;
    case 'f': file_path = optarg; break;
    case 'L': log_fd = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600); break;
    default: return 64;
    }
  }
  context.log = dg_log_new(log_fd >= 0 ? log_fd : 2, DG_LOG_FORMAT_TEXT,
                           log_fd >= 0 ? DG_LOG_INFO : DG_LOG_ERROR);
  params.listen_addr = address;
  sigemptyset(&ends);
  sigemptyset(&pauses);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, NULL);
  sigaddset(&pauses, SIGUSR1);
  sigaddset(&pauses, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &pauses, NULL);
  if (pthread_create(&pauses_thread, NULL, end_pauses, &pauses) != 0)
    return 64;
  (void)pthread_detach(pauses_thread);
  if (dg_server_start(&params, &server, &err) < 0) {
    fprintf(stderr, "gate-server: %s\n", err.detail);
    return 3;
  }
  printf("ready %u\n", dg_server_port(server));
  fflush(stdout);
  (void)sigwait(&ends, &number);
  switch (dg_server_stop(server, grace_ms)) {
  case 0: option = 0; break;
  case 1: option = 1; break;
  default: _exit(2);
  }
  dg_server_free(server);
  dg_log_free(context.log);
  fprintf(stderr, "opened=%ld released=%ld readers=%ld double=%ld\n", atomic_load(&opened),
          atomic_load(&released), atomic_load(&readers_live), atomic_load(&double_release));
  if (atomic_load(&opened) != atomic_load(&released) || atomic_load(&readers_live) ||
      atomic_load(&double_release))
    return 4;
  return option;
}
