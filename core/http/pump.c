/* SPDX-License-Identifier: Apache-2.0 */
/* The job of a stream: everything of one exchange that may block.
 *
 * One run does as much as its input allows: a small GET opens, reads and
 * releases in a single trip to a worker, a small PUT takes its body and
 * commits in one. What is left waits for the loop to submit the next run. */
#include "config.h"

#include "core/http/gate.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "core/plug/stream.h"

#include "common/banned.h"

/* A chunk that a slow source has not filled after this goes out as it is. */
#define PATIENCE_US 20000u

#define FIRST_BLOCK_BYTES (64u * 1024u)
#define LARGE_BYTES (1024u * 1024u)

static bool cancelled(const struct dg_stream *stream)
{
  return __atomic_load_n(&stream->cancelled, __ATOMIC_RELAXED) != 0;
}

static uint64_t now_us(void)
{
  struct timespec now;

  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* ---- The request's side ------------------------------------------------------ */

static int feed(struct dg_stream *stream, struct dg_error *err)
{
  const struct dg_block *input = stream->input;

  return input && input->len ? dg_payload_write(stream->payload, input->data, input->len, err) : 0;
}

static int begin(struct dg_stream *stream, struct dg_error *err)
{
  struct dg_exchange *x = &stream->x;
  uint64_t raw_length = stream->head.framing == DG_FRAMING_CHUNKED ? DG_TO_END
                                                                   : stream->head.content_length;

  stream->begun = true;
  if (x->handler->body_mode != DG_BODY_NONE &&
      dg_payload_open(x, raw_length, &stream->payload, err) < 0)
    return -1;
  return x->handler->begin ? x->handler->begin(x, err) : 0;
}

static int finish(struct dg_stream *stream, struct dg_error *err)
{
  struct dg_exchange *x = &stream->x;

  stream->finished = true;
  x->may_defer = !stream->job.bulk && !stream->payload;
  if (stream->payload && dg_payload_end(stream->payload, err) < 0)
    return -1;
  if (x->response.status == 0 && x->handler->finish(x, err) < 0)
    return -1;
  if (x->response.status == 0)
    return dg_fail(err, DG_E_INTERNAL, "operation %s set no response", x->handler->operation);
  return 0;
}

static int take_request(struct dg_stream *stream, struct dg_error *err)
{
  if (cancelled(stream))
    return dg_fail(err, DG_E_CANCELLED, "the client left");
  if (!stream->begun && begin(stream, err) < 0)
    return -1;
  if (stream->x.response.status != 0)
    return 0;
  if (stream->payload && feed(stream, err) < 0)
    return -1;
  if (stream->x.response.status != 0 || !stream->input_ended)
    return 0;
  return finish(stream, err);
}

/* ---- The response's side ------------------------------------------------------ */

static void close_reader(struct dg_stream *stream)
{
  struct dg_reader *reader = stream->x.response.reader;

  stream->x.response.reader = NULL;
  stream->reading = false;
  dg_reader_close(reader);
}

/* The rest as a plain file, which the loop sends without us: 1 if it is one,
 * 0 if it must be read, or -1. */
static int take_file(struct dg_stream *stream, struct dg_error *err)
{
  struct dg_reader *reader = stream->x.response.reader;
  struct dg_error refused = {0};
  int32_t fd = -1;
  uint64_t offset = 0, length = 0;

  stream->asked_file = true;
  if (!stream->may_sendfile || stream->reader_left < DG_GATE_SENDFILE_MIN ||
      dg_reader_file_range(reader, &fd, &offset, &length, &refused) < 0)
    return 0;
  if (length != stream->reader_left) {
    (void)close(fd);
    return dg_fail(err, DG_E_INTERNAL,
                   "file_range gave %" PRIu64 " bytes for a response of %" PRIu64, length,
                   stream->reader_left);
  }
  stream->file_fd = fd;
  stream->file_offset = offset;
  stream->file_length = length;
  stream->reader_left = 0;
  return 1;
}

/* A large body begins with a small block: the client waits for it to be filled and checked. */
static size_t next_block_bytes(const struct dg_stream *stream)
{
  size_t most = !stream->head_sent && stream->reader_left >= LARGE_BYTES ? FIRST_BLOCK_BYTES
                                                                         : DG_BLOCK_READ_BYTES;

  return stream->reader_left < most ? (size_t)stream->reader_left : most;
}

/* Fills one block. */
static int read_block(struct dg_stream *stream, struct dg_block **ret_block, struct dg_error *err)
{
  struct dg_reader *reader = stream->x.response.reader;
  size_t room = next_block_bytes(stream);
  struct dg_block *block = dg_block_new(room);
  uint64_t until_us = 0;

  if (!block)
    return dg_fail(err, DG_E_SLOW_DOWN, "no memory for a response block");
  while (block->len < room) {
    size_t got = 0;

    if (cancelled(stream)) {
      dg_block_free(block);
      return dg_fail(err, DG_E_CANCELLED, "the client left during the download");
    }
    if (dg_reader_read(reader, block->data + block->len, room - block->len, &got, err) < 0) {
      dg_block_free(block);
      return -1;
    }
    if (got == 0) {
      size_t had = block->len;

      dg_block_free(block);
      return dg_fail(err, DG_E_CORRUPT, "the object ended %" PRIu64 " bytes early",
                     stream->reader_left - had);
    }
    block->len += got;
    if (block->len < room) {
      uint64_t now = now_us();

      if (until_us == 0)
        until_us = now + PATIENCE_US;
      else if (now > until_us)
        break;
    }
  }
  stream->reader_left -= block->len;
  *ret_block = block;
  return 0;
}

static int give_response(struct dg_stream *stream, struct dg_error *err)
{
  struct dg_response *response = &stream->x.response;

  if (!stream->reading) {
    stream->reader_left = response->length;
    stream->reading = true;
  }
  if (dg_request_is(&stream->x.request, "HEAD") || response->status == 204 ||
      response->status == 304)
    stream->reader_left = 0;
  if (stream->reader_left && !stream->asked_file) {
    int taken = take_file(stream, err);

    if (taken != 0)
      return taken < 0 ? -1 : 0;
  }
  return stream->reader_left ? read_block(stream, &stream->block, err) : 0;
}

/* ---- The job ------------------------------------------------------------------ */

/* Nothing of the handler remains: exactly once, whatever happened before. */
static void release(struct dg_stream *stream)
{
  struct dg_exchange *x = &stream->x;

  if (stream->released)
    return;
  stream->released = true;
  close_reader(stream);
  dg_payload_free(stream->payload);
  stream->payload = NULL;
  if (x->handler && x->handler->release)
    x->handler->release(x);
}

/* An error turns into an answer as long as no byte of another one has left. */
static void answer_error(struct dg_stream *stream, const struct dg_error *err)
{
  g_clear_pointer(&stream->block, dg_block_free);
  close_reader(stream);
  if (stream->head_sent) {
    stream->x.error = *err;
    stream->broken = true;
  } else {
    dg_respond_error(&stream->x, err);
  }
}

/* What reads much that others want too, or waits for them, may occupy most of the
 * workers, never all: it goes behind the others, and into the queue of bulk jobs. Its
 * deadline stays. */
static bool defer(struct dg_stream *stream)
{
  if (!stream->x.deferred)
    return false;
  stream->x.deferred = false;
  stream->finished = false;
  stream->job.bulk = true;
  dg_pool_submit(stream->loop->gate->pool, &stream->job);
  return true;
}

void dg_pump_run(struct dg_job *job)
{
  struct dg_stream *stream = (struct dg_stream *)((char *)job - offsetof(struct dg_stream, job));
  struct dg_exchange *x = &stream->x;
  struct dg_error err = {0};

  if (x->response.status == 0 && take_request(stream, &err) < 0) {
    if (defer(stream))
      return;
    answer_error(stream, &err);
  }
  g_clear_pointer(&stream->input, dg_block_free);
  if (x->response.status != 0 && x->response.reader && !cancelled(stream) &&
      give_response(stream, &err) < 0)
    answer_error(stream, &err);
  if (cancelled(stream) || stream->broken ||
      (x->response.status != 0 && (!x->response.reader || stream->reader_left == 0)))
    release(stream);
  dg_loop_post(stream->loop, &stream->done);
}
