/* SPDX-License-Identifier: Apache-2.0 */
/* One upstream request as data: it can be signed and sent any number of times. */
#ifndef DG_S3_REQUEST_H
#define DG_S3_REQUEST_H

#include <stdbool.h>

#include <curl/curl.h>
#include <glib.h>

#include <deltaglider/plugin.h>

#include "s3.h"

struct dg_s3_lease;

#define DG_S3_UNSIGNED "UNSIGNED-PAYLOAD" /* the body's digest is not known when it begins */
#define DG_S3_CONTENT_TYPE "application/octet-stream"

/* Bytes at rest to send, in memory or in a file; borrowed. */
struct dg_s3_body {
  const char *memory; /* NULL: fd */
  int fd;
  uint64_t offset, length;
};

/* What may be done after an answer was lost. */
enum dg_s3_repeat {
  DG_S3_REPEAT,            /* doing it twice is the same as once */
  DG_S3_REPEAT_IF_REFUSED, /* only when the upstream said that it did not do it */
  DG_S3_ONCE,              /* only when it certainly did not begin */
};

struct dg_s3_request {
  const char *method;
  struct dg_slice bucket; /* borrowed; may be empty */
  struct dg_slice name;   /* upstream name, borrowed; may be empty */
  enum dg_s3_repeat repeat;
  bool changes; /* an object, that is; what ends without an answer is in doubt (doubts.h) */
  bool knocks; /* a probe: goes once, whatever the governor says (governor.h) */
  GPtrArray *query;   /* name, value, name, value ... raw */
  GPtrArray *headers; /* name, value ...; names in lower case */
  struct dg_s3_body body;
  bool has_body;
  char sha256[65]; /* of the body; "" for an empty one; or DG_S3_UNSIGNED */
  struct dg_s3_lease *lease; /* shared, may be NULL: under which it may take effect (lease.h) */
  /* Signed in the query, with an end, instead of in a header. */
  uint32_t valid_for_s; /* 0: not so */
  int64_t signed_at_s;
};

/* method is a literal. */
void dg_s3_request_init(struct dg_s3_request *request, const char *method, struct dg_slice bucket,
                        struct dg_slice name);
void dg_s3_request_clear(struct dg_s3_request *request); /* zeroed is fine */

void dg_s3_request_query(struct dg_s3_request *request, const char *name, struct dg_slice value);
/* name in lower case; the value is copied. */
void dg_s3_request_header(struct dg_s3_request *request, const char *name, struct dg_slice value);
/* What goes with every request that stores an object (PutObject,
 * CreateMultipartUpload, a copy): its metadata, names without x-amz-meta- in
 * pairs, the one content type that the layout has, and how the upstream is to
 * encrypt it. */
void dg_s3_request_meta(const struct dg_s3 *s3, struct dg_s3_request *request,
                        const GPtrArray *pairs);
/* The last of these alone. */
void dg_s3_request_seal(const struct dg_s3 *s3, struct dg_s3_request *request);
/* A small body, borrowed; hashed here. */
void dg_s3_request_text(struct dg_s3_request *request, struct dg_slice text);
/* Any body with its SHA-256 in hex, or what stands for that. */
void dg_s3_request_body(struct dg_s3_request *request, const struct dg_s3_body *body,
                        const char *sha256);

/* Fills in the URL and the header list of one attempt, signed now. Both are
 * transferred: g_free(), curl_slist_free_all(). [any] */
void dg_s3_request_sign(const struct dg_s3 *s3, const struct dg_s3_request *request, int64_t now_s,
                        char **ret_url, struct curl_slist **ret_headers);

#endif
