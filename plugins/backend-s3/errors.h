/* SPDX-License-Identifier: Apache-2.0 */
/* What an upstream's refusal means for us and for our client. */
#ifndef DG_S3_ERRORS_H
#define DG_S3_ERRORS_H

#include <curl/curl.h>

#include "answer.h"
#include "request.h"

enum dg_s3_verdict {
  DG_S3_GOOD,      /* done: 2xx, or a status the caller asked for */
  DG_S3_FINAL,     /* refused; asking again gives the same */
  DG_S3_THROTTLED, /* too much at once: 503, 429, SlowDown */
  DG_S3_BROKEN,    /* refused for now: 500, 502, 504, a body damaged on the way */
  DG_S3_ODD,       /* refused, and it may pass; but the upstream is well: an unexplained 400 */
  DG_S3_LOST,      /* no whole answer: nobody knows whether it was done */
  DG_S3_AWAY,      /* no connection: certainly not done */
};

/* Judges one attempt. Reads the error code out of the body into the answer.
 * An <Error> inside a 200 counts as the error it names. [any] */
enum dg_s3_verdict dg_s3_judge(const struct dg_s3_request *request, CURLcode result,
                               struct dg_s3_answer *answer);

/* Fills err for anything but DG_S3_GOOD; returns -1. The detail names the backend,
 * the upstream's code, and the key if it is about one. Whatever the upstream
 * denies us is our trouble, not the client's: DG_E_BACKEND_DENIED. [any] */
int dg_s3_fail(const struct dg_s3 *s3, const struct dg_s3_request *request,
               enum dg_s3_verdict verdict, CURLcode result, const char *curl_text,
               const struct dg_s3_answer *answer, struct dg_error *err);

#endif
