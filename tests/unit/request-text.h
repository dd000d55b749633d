/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: a struct dg_request from the text of a request head. */
#ifndef TESTS_UNIT_REQUEST_TEXT_H
#define TESTS_UNIT_REQUEST_TEXT_H

#include <check.h>

#include "common/slice.h"
#include "core/s3/request.h"

struct request_text {
  struct dg_request request;
  struct dg_pair headers[64];
  char *memory;
};

/* text: lines ended by LF alone, "GET /path HTTP/1.1" first. */
static inline void request_text_init(struct request_text *r, const char *text)
{
  struct dg_slice rest, line, target;
  size_t end, space, question;

  memset(r, 0, sizeof *r);
  r->memory = g_strdup(text);
  rest = dg_slice_str(r->memory);
  end = dg_slice_find(rest, '\n', 0);
  line = dg_slice_of(rest.data, end == SIZE_MAX ? rest.len : end);
  rest = dg_slice_skip(rest, line.len + 1);
  space = dg_slice_find(line, ' ', 0);
  ck_assert_uint_lt(space, sizeof r->request.method);
  memcpy(r->request.method, line.data, space);
  target = dg_slice_skip(line, space + 1);
  target.len = (size_t)(g_strrstr_len(target.data, (gssize)target.len, " ") - target.data);
  question = dg_slice_find(target, '?', 0);
  r->request.raw_path = dg_slice_of(target.data, question == SIZE_MAX ? target.len : question);
  if (question != SIZE_MAX)
    r->request.raw_query = dg_slice_skip(target, question + 1);
  r->request.http_minor = 1;
  r->request.content_length = -1;
  r->request.headers = r->headers;
  while (rest.len) {
    size_t colon;

    end = dg_slice_find(rest, '\n', 0);
    line = dg_slice_of(rest.data, end == SIZE_MAX ? rest.len : end);
    rest = dg_slice_skip(rest, line.len + 1);
    colon = dg_slice_find(line, ':', 0);
    ck_assert_uint_ne(colon, SIZE_MAX);
    ck_assert_uint_lt(r->request.header_count, G_N_ELEMENTS(r->headers));
    r->headers[r->request.header_count].name = dg_slice_of(line.data, colon);
    r->headers[r->request.header_count++].value = dg_slice_trim(dg_slice_skip(line, colon + 1));
  }
  g_strlcpy(r->request.peer, "192.0.2.1", sizeof r->request.peer);
  g_strlcpy(r->request.id, "00000000-0000-4000-8000-000000000000", sizeof r->request.id);
}

static inline void request_text_clear(struct request_text *r)
{
  g_free(r->memory);
}

#endif
