/* SPDX-License-Identifier: Apache-2.0 */
/* One attempt at one request, on an easy handle of a line. */
#ifndef DG_S3_TRANSFER_H
#define DG_S3_TRANSFER_H

#include <stdbool.h>

#include "answer.h"
#include "pool.h"
#include "request.h"

/* What libcurl takes from a connection in one turn. */
#define DG_S3_RECEIVE_BUFFER_BYTES ((size_t)128 * 1024)

/* Takes bytes of a good answer's body; returns how many it took, or
 * CURL_WRITEFUNC_PAUSE for "later". */
typedef size_t (*dg_s3_sink_fn)(void *receiver, const char *data, size_t len);

/* Gives bytes of the request's body, at least one; or CURL_READFUNC_PAUSE for "later", and
 * then curl_easy_pause() goes on. */
typedef size_t (*dg_s3_source_fn)(void *receiver, char *buffer, size_t capacity);

struct dg_s3_transfer {
  struct dg_s3 *s3;
  struct dg_s3_line *line;
  const struct dg_s3_request *request;
  struct dg_s3_answer *answer;
  dg_s3_sink_fn sink; /* NULL: bodies are collected in the answer */
  dg_s3_source_fn source; /* NULL: the body is what the request holds. The caller watches over
                             its progress and its time */
  void *receiver;
  CURL *easy;
  struct curl_slist *headers;
  char *url;
  uint64_t sent;       /* bytes of the request's body read so far */
  bool heads_done;     /* the final head is in */
  bool done;           /* result is valid */
  bool refused_local;  /* the upstream's address is not public */
  CURLcode result;
  char text[CURL_ERROR_SIZE];
};

/* Signs and starts; the answer is reset. Nothing moves until the line's multi
 * is driven. Everything given is borrowed until dg_s3_transfer_end(). */
void dg_s3_transfer_begin(struct dg_s3_transfer *transfer);
/* Ends it, in whatever state, and gives the handle back. */
void dg_s3_transfer_end(struct dg_s3_transfer *transfer);

/* Lets the line's transfers run for up to timeout_ms, or until something
 * happened; marks those that ended. [worker] */
void dg_s3_line_drive(struct dg_s3_line *line, int timeout_ms);

#endif
