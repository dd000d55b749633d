/* SPDX-License-Identifier: Apache-2.0 */
/* A reader owns a line for as long as it lives. libcurl writes straight into
 * the caller's buffer; what does not fit waits here, and nothing more is taken
 * from the connection until it is asked for. So a slow client holds that and
 * what the kernel keeps.
 *
 * A connection that breaks in the middle is made anew from where it broke,
 * as long as the object is still the same one. */
#include "config.h"

#include "reader.h"

#include <inttypes.h>

#include "facts.h"
#include "item.h"
#include "metahdr.h"
#include "metaindex.h"
#include "names.h"
#include "run.h"

#include "common/banned.h"

/* Pausing makes libcurl copy what it has aside: with room for what it can bring
 * in two turns that never happens, but over TLS. */
#define SPARE_BYTES (2 * DG_S3_RECEIVE_BUFFER_BYTES)
#define PROGRESS_BYTES (UINT64_C(4) << 20)

struct s3_reader {
  struct dg_reader reader; /* first: the public face */
  struct dg_s3 *s3;
  const struct dg_call *call; /* borrowed as long as the reader lives */
  char *bucket;
  GString *name;
  uint64_t at, end;   /* of the object; at: handed out so far */
  uint64_t size;      /* of the whole object */
  char etag[136];
  uint32_t failures;  /* without much progress in between */
  uint64_t failed_at; /* offset of the last one */

  struct dg_s3_line *line; /* NULL: nothing is open */
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  struct dg_s3_transfer transfer;
  uint64_t arrived; /* offset behind the last byte libcurl gave us */
  char *room;       /* the caller's, during a read */
  size_t room_len, filled;
  bool paused;
  char *spare; /* SPARE_BYTES, made when first needed */
  size_t spare_at, spare_len;
};

static size_t take_bytes(void *receiver, const char *data, size_t len)
{
  struct s3_reader *self = receiver;
  size_t direct = self->spare_at < self->spare_len ? 0 : MIN(len, self->room_len - self->filled);

  if (len > self->end - self->arrived)
    return 0; /* more than was asked for: not what we think it is */
  if (self->spare_at == self->spare_len)
    self->spare_at = self->spare_len = 0;
  if (len - direct > SPARE_BYTES - self->spare_len) {
    self->paused = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  if (direct)
    memcpy(self->room + self->filled, data, direct);
  self->filled += direct;
  if (len > direct) {
    if (!self->spare)
      self->spare = g_malloc(SPARE_BYTES);
    memcpy(self->spare + self->spare_len, data + direct, len - direct);
    self->spare_len += len - direct;
  }
  self->arrived += len;
  return len;
}

static void disconnect(struct s3_reader *self)
{
  if (!self->line)
    return;
  dg_s3_transfer_end(&self->transfer);
  dg_s3_line_give(self->s3->pool, g_steal_pointer(&self->line));
  dg_s3_request_clear(&self->request);
}

static void add_range(struct s3_reader *self, uint64_t from)
{
  g_autofree char *range = NULL;

  if (from == 0 && self->end == UINT64_MAX)
    return;
  range = self->end == UINT64_MAX
            ? g_strdup_printf("bytes=%" PRIu64 "-", from)
            : g_strdup_printf("bytes=%" PRIu64 "-%" PRIu64, from, self->end - 1);
  dg_s3_request_header(&self->request, "range", dg_slice_str(range));
  if (self->etag[0]) {
    g_autofree char *match = g_strdup_printf("\"%s\"", self->etag);

    dg_s3_request_header(&self->request, "if-match", dg_slice_str(match));
  }
}

/* Sends the request and waits for the head of its answer. */
static int connect_once(struct s3_reader *self, uint64_t from, enum dg_s3_verdict *ret_verdict,
                        struct dg_error *err)
{
  struct dg_s3_transfer *transfer = &self->transfer;

  *ret_verdict = DG_S3_FINAL; /* the governor's refusals are */
  if (dg_s3_enter(self->s3, self->call, err) < 0)
    return -1;
  self->line = dg_s3_line_take(self->s3->pool);
  self->arrived = from;
  self->paused = false;
  dg_s3_request_init(&self->request, "GET", dg_slice_str(self->bucket),
                     dg_slice_of(self->name->str, self->name->len));
  add_range(self, from);
  *transfer = (struct dg_s3_transfer){.s3 = self->s3,
                                      .line = self->line,
                                      .request = &self->request,
                                      .answer = &self->answer,
                                      .sink = take_bytes,
                                      .receiver = self};
  dg_s3_transfer_begin(transfer);
  while (!transfer->done && !(transfer->heads_done && self->answer.status < 300)) {
    if (dg_s3_check_call(self->call, err) < 0) {
      dg_s3_leave(self->s3, DG_S3_FINAL);
      disconnect(self);
      return -1;
    }
    dg_s3_line_drive(self->line, 100);
  }
  *ret_verdict = !transfer->done || (transfer->heads_done && self->answer.status < 300)
                   ? DG_S3_GOOD
                   : dg_s3_judge(&self->request, transfer->result, &self->answer);
  dg_s3_leave(self->s3, *ret_verdict);
  if (*ret_verdict == DG_S3_GOOD)
    return 0;
  (void)dg_s3_fail(self->s3, &self->request, *ret_verdict, transfer->result, transfer->text,
                   &self->answer, err);
  disconnect(self);
  return -1;
}

/* The same with its repeats. */
static int connect_from(struct s3_reader *self, uint64_t from, struct dg_error *err)
{
  for (;;) {
    enum dg_s3_verdict verdict;
    uint32_t wait_ms;

    if (connect_once(self, from, &verdict, err) == 0)
      return 0;
    self->failures++;
    wait_ms = dg_s3_backoff_ms(self->failures, self->answer.retry_after_s, g_random_int());
    if (!dg_s3_may_repeat(DG_S3_REPEAT, verdict) || self->failures >= self->s3->attempts ||
        wait_ms >= dg_s3_time_left_ms(self->call))
      return -1;
    dg_s3_log(self->s3, DG_LOG_WARN, "s3.retry", "attempt=%u wait_ms=%u cause=\"%s\"",
              self->failures, wait_ms, err->detail);
    if (dg_s3_pause(self->call, wait_ms, err) < 0)
      return -1;
  }
}

/* ---- Reading ------------------------------------------------------------------------------ */

/* The rest again over a new connection, if what is there is still the same. */
static int resume(struct s3_reader *self, struct dg_error *err)
{
  const struct dg_s3_answer *answer = &self->answer;
  uint64_t from = self->at + self->filled + (self->spare_len - self->spare_at);

  disconnect(self);
  if (connect_from(self, from, err) < 0) {
    if (err->code == DG_E_PRECONDITION_FAILED || err->code == DG_E_NO_SUCH_KEY ||
        err->code == DG_E_INVALID_RANGE)
      err->code = DG_E_IO; /* in the middle of a body it is no answer to the client */
    return -1;
  }
  if (strcmp(answer->etag, self->etag) != 0 ||
      (from > 0 && (answer->status != 206 || answer->total_length != self->size)) ||
      (from == 0 && answer->status == 200 && answer->content_length != self->size)) {
    disconnect(self);
    return dg_fail(err, DG_E_IO, "the object changed upstream while it was read");
  }
  return 0;
}

/* The transfer ended before all bytes were there. */
static int go_on(struct s3_reader *self, struct dg_error *err)
{
  CURLcode result = self->transfer.result;

  self->failures++;
  self->failed_at = self->at;
  (void)dg_s3_fail(self->s3, &self->request, DG_S3_LOST, result, self->transfer.text,
                   &self->answer, err);
  if (result == CURLE_OK)
    (void)dg_fail(err, DG_E_IO, "upstream GET ended at byte %" PRIu64 " of %" PRIu64,
                  self->arrived, self->end);
  if (self->failures >= self->s3->attempts || result == CURLE_WRITE_ERROR)
    return -1;
  dg_s3_log(self->s3, DG_LOG_WARN, "s3.resume", "offset=%" PRIu64 " cause=\"%s\"", self->arrived,
            err->detail);
  if (dg_s3_pause(self->call, dg_s3_backoff_ms(self->failures, 0, g_random_int()), err) < 0)
    return -1;
  return resume(self, err);
}

static void serve_spare(struct s3_reader *self)
{
  size_t len = MIN(self->room_len - self->filled, self->spare_len - self->spare_at);

  memcpy(self->room + self->filled, self->spare + self->spare_at, len);
  self->filled += len;
  self->spare_at += len;
}

static int fill(struct s3_reader *self, struct dg_error *err)
{
  while (self->filled < self->room_len && self->arrived < self->end) {
    size_t before = self->filled;

    if (self->transfer.done) {
      if (self->filled)
        return 0; /* the next read finds out what to do */
      if (go_on(self, err) < 0)
        return -1;
      continue;
    }
    if (dg_s3_check_call(self->call, err) < 0)
      return -1;
    if (self->paused) {
      self->paused = false;
      (void)curl_easy_pause(self->transfer.easy, CURLPAUSE_CONT);
    }
    dg_s3_line_drive(self->line, before ? 0 : 100);
    if (before && self->filled == before)
      return 0;
  }
  return 0;
}

static int reader_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct s3_reader *self = (struct s3_reader *)reader;
  int rc = 0;

  self->room = buffer;
  self->room_len = capacity;
  self->filled = 0;
  if (self->spare_at < self->spare_len)
    serve_spare(self);
  if (self->spare_at == self->spare_len)
    rc = fill(self, err);
  self->room = NULL;
  self->room_len = 0;
  if (rc < 0 && !self->filled) {
    self->filled = 0;
    return -1;
  }
  self->at += self->filled;
  /* An upstream that gives a little each time must not be asked for ever. */
  if (self->at - self->failed_at >= PROGRESS_BYTES)
    self->failures = 0;
  *ret_len = self->filled;
  self->filled = 0;
  return 0;
}

static void reader_close(struct dg_reader *reader)
{
  struct s3_reader *self = (struct s3_reader *)reader;

  if (!self)
    return;
  /* All bytes are there, the end of the transfer may not be noticed yet: only
   * a finished one leaves its connection to the next. */
  if (self->line && self->arrived == self->end && !self->transfer.done)
    dg_s3_line_drive(self->line, 1);
  disconnect(self);
  dg_s3_answer_clear(&self->answer);
  g_free(self->spare);
  g_string_free(self->name, TRUE);
  g_free(self->bucket);
  g_free(self);
}

static const struct dg_reader_ops reader_ops = {
  .struct_size = sizeof reader_ops,
  .read = reader_read,
  .close = reader_close,
};

/* ---- Opening ------------------------------------------------------------------------------ */

static int fill_meta(struct s3_reader *self, const struct dg_item *item, struct dg_s3_facts *facts,
                     struct dg_meta *meta, struct dg_error *err)
{
  struct dg_slice name = dg_slice_of(self->name->str, self->name->len), segment = item->key;
  size_t from = segment.len;

  while (from && segment.data[from - 1] != '/')
    from--;
  segment = dg_slice_skip(segment, from);
  if (item->variant == DG_VARIANT_DELTA &&
      dg_s3_peek(self->s3, self->call, item->bucket, name, facts, err) < 0)
    return -1;
  dg_s3_metaindex_put(self->s3->index, item->bucket, name, facts);
  return dg_s3_meta_read(self->s3->host, facts, item->variant, segment, meta, err);
}

static int fail_range(struct dg_range range, uint64_t size, struct dg_error *err)
{
  return dg_fail(err, DG_E_INVALID_RANGE, "bytes %" PRIu64 "+%" PRIu64 " of an item that has %" PRIu64,
                 range.offset, range.length, size);
}

/* Nothing of the body is wanted, or the range begins at the very end: there is
 * no way to ask S3 for that. */
static int open_empty(struct s3_reader *self, const struct dg_item *item, struct dg_range range,
                      struct dg_meta *meta, struct dg_error *err)
{
  struct dg_s3_facts *facts;
  int rc;

  if (dg_s3_look(self->s3, self->call, item->bucket,
                 dg_slice_of(self->name->str, self->name->len), &facts, err) < 0)
    return -1;
  if (range.offset > facts->size ||
      (range.offset < facts->size && range.length != 0) ||
      (range.length != 0 && range.length != DG_TO_END))
    rc = fail_range(range, facts->size, err);
  else
    rc = fill_meta(self, item, facts, meta, err);
  dg_s3_facts_unref(facts);
  self->at = self->end = self->arrived = range.offset;
  return rc;
}

static int open_body(struct s3_reader *self, const struct dg_item *item, struct dg_range range,
                     struct dg_meta *meta, struct dg_error *err)
{
  const struct dg_s3_answer *answer = &self->answer;
  struct dg_s3_facts *facts;
  uint64_t size;
  int rc;

  self->at = self->failed_at = range.offset;
  self->end = range.length == DG_TO_END ? UINT64_MAX : range.offset + range.length;
  if (connect_from(self, range.offset, err) < 0)
    return -1;
  size = answer->status == 206 ? answer->total_length : answer->content_length;
  if (size == UINT64_MAX || (answer->status == 200 && range.offset > 0)) {
    disconnect(self);
    return dg_fail(err, DG_E_IO, "upstream GET answered %ld without a usable length or range",
                   answer->status);
  }
  if (range.offset > size || (range.offset == size && range.length != DG_TO_END)) {
    disconnect(self);
    return fail_range(range, size, err);
  }
  self->size = size;
  self->end = MIN(self->end, size);
  (void)g_strlcpy(self->etag, answer->etag, sizeof self->etag);
  facts = dg_s3_facts_new(answer, size);
  rc = fill_meta(self, item, facts, meta, err);
  dg_s3_facts_unref(facts);
  return rc;
}

int dg_s3_get(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
              struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
              struct dg_error *err)
{
  struct s3_reader *self = g_new0(struct s3_reader, 1);
  int rc;

  self->reader.ops = &reader_ops;
  self->s3 = s3;
  self->call = call;
  self->bucket = dg_slice_dup(item->bucket);
  self->name = g_string_new(NULL);
  dg_s3_answer_init(&self->answer);
  if (range.length > UINT64_MAX - 1 - range.offset)
    range.length = DG_TO_END; /* ends past every end */
  if (!dg_s3_name_append(self->name, item->key, item->variant))
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "the key is too long for this variant");
  else if (range.length == 0)
    rc = open_empty(self, item, range, meta, err);
  else
    rc = open_body(self, item, range, meta, err);
  if (rc < 0 && err->code == DG_E_INVALID_RANGE && range.length == DG_TO_END)
    rc = open_empty(self, item, range, meta, err);
  if (rc < 0) {
    reader_close(&self->reader);
    return -1;
  }
  *ret_reader = &self->reader;
  return 0;
}
