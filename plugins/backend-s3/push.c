/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "push.h"

#include <inttypes.h>

#include "common/clock.h"
#include "common/slice.h"
#include "names.h"
#include "run.h"
#include "spool.h"

#include "common/banned.h"

#define TAIL_BYTES ((uint64_t)64 * 1024) /* kept back until the commit */

struct part_writer {
  struct dg_writer writer; /* first: the public face */
  struct dg_s3 *s3;
  const struct dg_call *call; /* borrowed as long as the writer lives */
  char *bucket, *id;
  GString *name;
  uint32_t part_no;
  uint64_t size, taken;  /* of the part; given by the caller so far */
  GByteArray *tail;

  struct dg_s3_line *line; /* NULL: nothing is under way */
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  struct dg_s3_transfer transfer;
  const char *at; /* what libcurl may take now */
  size_t left;
  bool paused;
  uint32_t failures;
};

static void set_request(struct part_writer *self)
{
  char text[16];

  dg_s3_request_init(&self->request, "PUT", dg_slice_str(self->bucket),
                     dg_slice_of(self->name->str, self->name->len));
  (void)g_snprintf(text, sizeof text, "%u", self->part_no);
  dg_s3_request_query(&self->request, "partNumber", dg_slice_str(text));
  dg_s3_request_query(&self->request, "uploadId", dg_slice_str(self->id));
}

static void disconnect(struct part_writer *self)
{
  if (!self->line)
    return;
  dg_s3_transfer_end(&self->transfer);
  dg_s3_line_give(self->s3->pool, g_steal_pointer(&self->line));
  dg_s3_request_clear(&self->request);
}

static void writer_free(struct part_writer *self)
{
  disconnect(self);
  dg_s3_answer_clear(&self->answer);
  g_byte_array_unref(self->tail);
  g_string_free(self->name, TRUE);
  g_free(self->bucket);
  g_free(self->id);
  g_free(self);
}

static void writer_abort(struct dg_writer *writer)
{
  if (writer)
    writer_free((struct part_writer *)writer);
}

/* ---- The transfer --------------------------------------------------------------------- */

static size_t give_bytes(void *receiver, char *buffer, size_t capacity)
{
  struct part_writer *self = receiver;
  size_t len = MIN(capacity, self->left);

  if (len == 0) {
    self->paused = true;
    return CURL_READFUNC_PAUSE;
  }
  memcpy(buffer, self->at, len);
  self->at += len;
  self->left -= len;
  return len;
}

/* Takes a place at the governor, which the caller gives back. */
static int connect_once(struct part_writer *self, struct dg_error *err)
{
  struct dg_s3_body body = {.fd = -1, .length = self->size};

  if (dg_s3_enter(self->s3, self->call, err) < 0)
    return -1;
  self->line = dg_s3_line_take(self->s3->pool);
  self->paused = false;
  set_request(self);
  dg_s3_request_body(&self->request, &body, DG_S3_UNSIGNED);
  self->transfer = (struct dg_s3_transfer){.s3 = self->s3,
                                           .line = self->line,
                                           .request = &self->request,
                                           .answer = &self->answer,
                                           .source = give_bytes,
                                           .receiver = self};
  dg_s3_transfer_begin(&self->transfer);
  return 0;
}

/* Drives the transfer until libcurl has taken what there is (to_end: until the answer is
 * in), or until it is over. */
static int drive(struct part_writer *self, bool to_end, struct dg_error *err)
{
  uint64_t moved_ms = dg_time_mono_ms();
  size_t before = self->left;

  while (!self->transfer.done && (to_end || self->left)) {
    if (dg_s3_check_call(self->call, err) < 0)
      return -1;
    if (self->left != before) {
      before = self->left;
      moved_ms = dg_time_mono_ms();
    } else if (dg_time_mono_ms() - moved_ms > self->s3->idle_timeout_ms) {
      return dg_fail(err, DG_E_TIMEOUT, "upstream took nothing of a part, or did not answer it");
    }
    if (self->paused && self->left) {
      self->paused = false;
      (void)curl_easy_pause(self->transfer.easy, CURLPAUSE_CONT);
    }
    dg_s3_line_drive(self->line, 100);
  }
  return 0;
}

/* What an ended transfer says: 0, or -1 with the verdict. The place is given back. */
static int judge(struct part_writer *self, enum dg_s3_verdict *ret_verdict, struct dg_error *err)
{
  CURLcode result = self->transfer.result;

  *ret_verdict = dg_s3_judge(&self->request, result, &self->answer);
  if (*ret_verdict == DG_S3_GOOD && self->left)
    *ret_verdict = DG_S3_LOST; /* an answer to something else */
  dg_s3_leave(self->s3, *ret_verdict);
  if (*ret_verdict == DG_S3_GOOD)
    return 0;
  return dg_s3_fail(self->s3, &self->request, *ret_verdict, result, self->transfer.text,
                    &self->answer, err);
}

/* One attempt to pass bytes on, with a place at the governor meanwhile. A slow client
 * must not hold one while nothing comes. *ret_verdict: whether to try again. */
static int pass_once(struct part_writer *self, const void *data, size_t len,
                     enum dg_s3_verdict *ret_verdict, struct dg_error *err)
{
  *ret_verdict = DG_S3_FINAL;
  if (self->line)
    dg_s3_step_in(self->s3);
  else if (connect_once(self, err) < 0)
    return -1;
  self->at = data;
  self->left = len;
  if (drive(self, /* to_end= */ false, err) < 0) {
    dg_s3_step_out(self->s3);
  } else if (!self->transfer.done) {
    dg_s3_step_out(self->s3);
    return 0;
  } else if (judge(self, ret_verdict, err) == 0) {
    return 0;
  }
  disconnect(self);
  return -1;
}

static int pass_on(struct part_writer *self, const void *data, size_t len, bool is_first,
                   struct dg_error *err)
{
  enum dg_s3_verdict verdict;
  uint32_t wait_ms;

  while (pass_once(self, data, len, &verdict, err) < 0) {
    self->failures++;
    wait_ms = dg_s3_backoff_ms(self->failures, self->answer.retry_after_s, g_random_int());
    if (!is_first || !dg_s3_may_repeat(DG_S3_REPEAT, verdict) ||
        self->failures >= self->s3->attempts || wait_ms >= dg_s3_time_left_ms(self->call))
      return -1;
    dg_s3_log(self->s3, DG_LOG_WARN, "s3.retry", "attempt=%u wait_ms=%u cause=\"%s\"",
              self->failures, wait_ms, err->detail);
    if (dg_s3_pause(self->call, wait_ms, err) < 0)
      return -1;
  }
  return 0;
}

static int writer_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct part_writer *self = (struct part_writer *)writer;
  uint64_t passing = self->size - MIN(self->size, TAIL_BYTES), before = self->taken;
  size_t now;

  if (dg_s3_check_call(self->call, err) < 0)
    return -1;
  if (len > self->size - before)
    return dg_fail(err, DG_E_INTERNAL, "a part is longer than announced");
  now = (size_t)MIN(passing - MIN(passing, before), len);
  if (now && before && !self->line)
    return dg_fail(err, DG_E_IO, "a part that failed is written on");
  if (now && pass_on(self, data, now, before == 0, err) < 0)
    return -1;
  if (len > now)
    g_byte_array_append(self->tail, (const guint8 *)data + now, (guint)(len - now));
  self->taken += len;
  return 0;
}

/* ---- Commit --------------------------------------------------------------------------- */

/* A small part is all in the tail, and can be sent as often as it takes. */
static int send_small(struct part_writer *self, struct dg_error *err)
{
  struct dg_slice bytes = dg_slice_of((const char *)self->tail->data, self->tail->len);
  int rc;

  set_request(self);
  dg_s3_request_text(&self->request, bytes);
  rc = dg_s3_run(self->s3, self->call, &self->request, &self->answer, err);
  dg_s3_request_clear(&self->request);
  return rc;
}

static int send_rest(struct part_writer *self, struct dg_error *err)
{
  enum dg_s3_verdict verdict;
  int rc;

  if (!self->line)
    return dg_fail(err, DG_E_IO, "a part that failed is committed");
  dg_s3_step_in(self->s3);
  self->at = (const char *)self->tail->data;
  self->left = self->tail->len;
  rc = drive(self, /* to_end= */ true, err);
  if (rc < 0)
    dg_s3_step_out(self->s3);
  else
    rc = judge(self, &verdict, err);
  disconnect(self);
  return rc;
}

static int check_etag(const struct part_writer *self, const struct dg_meta *meta,
                      struct dg_error *err)
{
  const char *etag = self->answer.etag;

  if (!etag[0] || strlen(etag) >= DG_PART_TAG_MAX)
    return dg_fail(err, DG_E_IO, "upstream took part %u without an ETag", self->part_no);
  if (meta && meta->md5.len == 32 && !self->answer.sealed_upstream && strlen(etag) == 32 &&
      strspn(etag, "0123456789abcdefABCDEF") == 32 &&
      !dg_slice_equal_nocase(meta->md5, dg_slice_str(etag)))
    return dg_fail(err, DG_E_IO, "upstream stored other bytes: part %u has the ETag %s",
                   self->part_no, etag);
  return 0;
}

static int writer_commit(struct dg_writer *writer, const struct dg_item *item,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct part_writer *self = (struct part_writer *)writer;
  int rc;

  (void)item;
  if (self->taken != self->size)
    rc = dg_fail(err, DG_E_INCOMPLETE_BODY, "%" PRIu64 " bytes of a part of %" PRIu64, self->taken,
                 self->size);
  else
    rc = self->size <= TAIL_BYTES ? send_small(self, err) : send_rest(self, err);
  if (rc == 0)
    rc = check_etag(self, meta, err);
  /* "No such key" can mean nothing else here. */
  else if (err->code == DG_E_NO_SUCH_KEY)
    err->code = DG_E_NO_SUCH_UPLOAD;
  if (rc == 0) {
    ret_result->stored_size = self->size;
    (void)g_strlcpy(ret_result->tag, self->answer.etag, sizeof ret_result->tag);
  }
  writer_free(self);
  return rc;
}

static const struct dg_writer_ops writer_ops = {
  .struct_size = sizeof writer_ops,
  .write = writer_write,
  .commit = writer_commit,
  .abort = writer_abort,
};

int dg_s3_push_part(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                    const char *id, uint32_t part_no, uint64_t size_bytes,
                    struct dg_writer **ret_writer, struct dg_error *err)
{
  struct part_writer *self = g_new0(struct part_writer, 1);

  self->writer.ops = &writer_ops;
  self->s3 = s3;
  self->call = call;
  self->bucket = dg_slice_dup(item->bucket);
  self->id = g_strdup(id);
  self->name = g_string_new(NULL);
  self->part_no = part_no;
  self->size = size_bytes;
  self->tail = g_byte_array_new();
  dg_s3_answer_init(&self->answer);
  if (!dg_s3_name_append(self->name, item->key, item->variant)) {
    writer_free(self);
    return dg_fail(err, DG_E_KEY_TOO_LONG, "the key is too long for this variant");
  }
  *ret_writer = &self->writer;
  return 0;
}
