/* SPDX-License-Identifier: Apache-2.0 */
/* One parsed request head, as text. The gate fills it on a loop thread and
 * owns the bytes every slice points into; they stay valid for the life of the
 * exchange. Nothing here is decoded: path and query are as the client sent
 * them, which is what signatures are about. Immutable once filled: [any]. */
#ifndef DG_CORE_S3_REQUEST_H
#define DG_CORE_S3_REQUEST_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#define DG_REQUEST_ID_LEN 36

struct dg_request {
  char method[24];               /* "GET": upper case, NUL-terminated */
  struct dg_slice raw_path;      /* "/bucket/a%20b", up to the '?'; never empty */
  struct dg_slice raw_query;     /* after the '?'; absent without one */
  uint8_t http_minor;            /* 0 or 1 */
  bool chunked;                  /* Transfer-Encoding: chunked */
  bool expect100;                /* Expect: 100-continue */
  bool tls;
  int64_t content_length;        /* -1: no such header */
  const struct dg_pair *headers; /* in order, names as sent, values trimmed */
  uint32_t header_count;
  char peer[64];                 /* address of the connection's other end, without port */
  char client[64];               /* of the client behind it, if a proxy said so; else "" */
  char id[DG_REQUEST_ID_LEN + 1]; /* a UUID: x-amz-request-id and the log */
};

/* The first header of that name (any case), trimmed; absent (data NULL) if
 * there is none. */
struct dg_slice dg_request_header_find(const struct dg_request *request, struct dg_slice name);

static inline struct dg_slice dg_request_header(const struct dg_request *request, const char *name)
{
  /* Inline, so that the length of a literal is known when compiled. */
  return dg_request_header_find(request, (struct dg_slice){name, strlen(name)});
}

/* How many headers bear that name. */
unsigned dg_request_header_count(const struct dg_request *request, const char *name);

/* Is it this method? */
static inline bool dg_request_is(const struct dg_request *request, const char *method)
{
  return strcmp(request->method, method) == 0;
}

/* Neither GET, HEAD nor OPTIONS: it may change something. */
bool dg_request_mutates(const struct dg_request *request);

#endif
