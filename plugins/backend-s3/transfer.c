/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "transfer.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

#include "common/banned.h"

#define SEND_BUFFER_BYTES (128L * 1024)
#define SMALL_BUFFER_BYTES (16L * 1024) /* to receive in, while sending */
#define ERROR_BODY_MAX (256u * 1024)

/* ---- Callbacks --------------------------------------------------------------------- */

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
  struct dg_s3_transfer *transfer = user;
  size_t len = size * count;

  transfer->line->moves++;
  dg_s3_answer_line(transfer->answer, dg_slice_of(data, len));
  if ((len == 2 && data[0] == '\r') || (len == 1 && data[0] == '\n'))
    transfer->heads_done = transfer->answer->status >= 200;
  return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
  struct dg_s3_transfer *transfer = user;
  struct dg_s3_answer *answer = transfer->answer;
  size_t len = size * count;

  transfer->line->moves++;
  if (answer->status < 300 && transfer->sink)
    return transfer->sink(transfer->receiver, data, len);
  if (answer->body->len + len > (answer->status < 300 ? DG_S3_ANSWER_MAX : ERROR_BODY_MAX))
    return 0;
  g_string_append_len(answer->body, data, (gssize)len);
  return len;
}

static size_t on_send(char *buffer, size_t size, size_t count, void *user)
{
  struct dg_s3_transfer *transfer = user;
  const struct dg_s3_body *body = &transfer->request->body;
  size_t want = (size_t)MIN((uint64_t)(size * count), body->length - transfer->sent);
  ssize_t got;

  transfer->line->moves++;
  if (transfer->source && want) {
    size_t given = transfer->source(transfer->receiver, buffer, want);

    if (given <= want)
      transfer->sent += given;
    return given;
  }
  if (body->memory) {
    memcpy(buffer, body->memory + transfer->sent, want);
    transfer->sent += want;
    return want;
  }
  do
    got = want ? pread(body->fd, buffer, want, (off_t)(body->offset + transfer->sent)) : 0;
  while (got < 0 && errno == EINTR);
  if (got < 0 || (got == 0 && want))
    return CURL_READFUNC_ABORT;
  transfer->sent += (uint64_t)got;
  return (size_t)got;
}

/* libcurl rewinds when it finds, while sending, that a kept connection died. */
static int on_rewind(void *user, curl_off_t offset, int origin)
{
  struct dg_s3_transfer *transfer = user;

  if (transfer->source && transfer->sent)
    return CURL_SEEKFUNC_FAIL; /* what was given is gone */
  if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > transfer->request->body.length)
    return CURL_SEEKFUNC_FAIL;
  transfer->sent = (uint64_t)offset;
  return CURL_SEEKFUNC_OK;
}

/* The name may lead anywhere by the time it is resolved: what counts is the
 * address that is about to be connected to. */
static curl_socket_t on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
  struct dg_s3_transfer *transfer = user;

  (void)purpose;
  if (!transfer->s3->endpoint.allow_local && !dg_s3_address_is_public(&address->addr)) {
    transfer->refused_local = true;
    return CURL_SOCKET_BAD;
  }
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- Options -------------------------------------------------------------------------- */

#define SET(option, value) (void)curl_easy_setopt(easy, option, value)

static void set_common(struct dg_s3_transfer *transfer)
{
  const struct dg_s3 *s3 = transfer->s3;
  CURL *easy = transfer->easy;

  SET(CURLOPT_NOSIGNAL, 1L);
  SET(CURLOPT_PROTOCOLS_STR, s3->endpoint.https ? "https" : "http");
  SET(CURLOPT_PROXY, "");
  SET(CURLOPT_PATH_AS_IS, 1L);
  SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  SET(CURLOPT_FOLLOWLOCATION, 0L);
  SET(CURLOPT_TCP_NODELAY, 1L);
  SET(CURLOPT_CONNECTTIMEOUT_MS, (long)s3->connect_timeout_ms);
  if (!transfer->source) { /* whose client may be slow */
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)MAX(s3->idle_timeout_ms / 1000u, 1u));
  }
  SET(CURLOPT_ERRORBUFFER, transfer->text);
  SET(CURLOPT_PRIVATE, (void *)transfer);
  if (s3->ca_bundle)
    SET(CURLOPT_CAINFO, s3->ca_bundle);
  SET(CURLOPT_OPENSOCKETFUNCTION, on_socket);
  SET(CURLOPT_OPENSOCKETDATA, (void *)transfer);
  SET(CURLOPT_HEADERFUNCTION, on_header);
  SET(CURLOPT_HEADERDATA, (void *)transfer);
  SET(CURLOPT_WRITEFUNCTION, on_body);
  SET(CURLOPT_WRITEDATA, (void *)transfer);
}

static void set_method(struct dg_s3_transfer *transfer)
{
  const struct dg_s3_request *request = transfer->request;
  CURL *easy = transfer->easy;

  SET(CURLOPT_BUFFERSIZE, request->has_body ? SMALL_BUFFER_BYTES : (long)DG_S3_RECEIVE_BUFFER_BYTES);
  if (request->has_body || strcmp(request->method, "PUT") == 0) {
    SET(CURLOPT_UPLOAD, 1L);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER_BYTES);
    SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body.length);
    SET(CURLOPT_READFUNCTION, on_send);
    SET(CURLOPT_READDATA, (void *)transfer);
    SET(CURLOPT_SEEKFUNCTION, on_rewind);
    SET(CURLOPT_SEEKDATA, (void *)transfer);
  } else if (strcmp(request->method, "HEAD") == 0) {
    SET(CURLOPT_NOBODY, 1L);
  }
  SET(CURLOPT_CUSTOMREQUEST, request->method);
}

void dg_s3_transfer_begin(struct dg_s3_transfer *transfer)
{
  const struct dg_s3 *s3 = transfer->s3;
  CURL *easy = transfer->easy = dg_s3_line_easy(transfer->line);

  transfer->sent = 0;
  transfer->heads_done = transfer->done = transfer->refused_local = false;
  transfer->result = CURLE_OK;
  transfer->text[0] = '\0';
  dg_s3_answer_reset(transfer->answer);
  dg_s3_request_sign(s3, transfer->request, dg_time_now_s(), &transfer->url, &transfer->headers);
  if (transfer->request->body.length <= 1024 * 1024) {
    /* Waiting for 100 Continue costs a round trip; a small body is sent again. */
    transfer->headers = curl_slist_append(transfer->headers, "Expect:");
    if (!transfer->sink && !transfer->source)
      SET(CURLOPT_TIMEOUT_MS, (long)s3->attempt_timeout_ms);
  }
  set_common(transfer);
  set_method(transfer);
  SET(CURLOPT_URL, transfer->url);
  SET(CURLOPT_HTTPHEADER, transfer->headers);
  if (curl_multi_add_handle(transfer->line->multi, easy) != CURLM_OK) {
    transfer->done = true;
    transfer->result = CURLE_FAILED_INIT;
  }
}

void dg_s3_transfer_end(struct dg_s3_transfer *transfer)
{
  if (!transfer->easy)
    return;
  (void)curl_multi_remove_handle(transfer->line->multi, transfer->easy);
  dg_s3_line_return(transfer->line, g_steal_pointer(&transfer->easy));
  curl_slist_free_all(g_steal_pointer(&transfer->headers));
  g_clear_pointer(&transfer->url, g_free);
}

static void collect(struct dg_s3_line *line)
{
  CURLMsg *message;
  int left;

  while ((message = curl_multi_info_read(line->multi, &left))) {
    struct dg_s3_transfer *transfer = NULL;

    if (message->msg != CURLMSG_DONE)
      continue;
    (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    transfer->result = message->data.result;
    transfer->done = true;
    if (transfer->refused_local && transfer->result != CURLE_OK)
      (void)g_strlcpy(transfer->text,
                      "the endpoint's address is not public: set allow_local if it is meant",
                      sizeof transfer->text);
  }
}

void dg_s3_line_drive(struct dg_s3_line *line, int timeout_ms)
{
  uint64_t before = line->moves;
  int running = 0, count;

  (void)curl_multi_perform(line->multi, &running);
  /* A transfer that paused in this turn has no socket to wait for: it would wait in
   * vain, with what it brought in hand. */
  if (running && timeout_ms > 0 && line->moves == before) {
    (void)curl_multi_poll(line->multi, NULL, 0, timeout_ms, &count);
    (void)curl_multi_perform(line->multi, &running);
  }
  collect(line);
}
