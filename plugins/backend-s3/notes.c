/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "notes.h"

#include "bucket.h"
#include "request.h"
#include "run.h"

#include "common/slice.h"

#include "common/banned.h"

struct exchange {
  char name[sizeof DG_S3_NOTES + DG_NOTE_ID_MAX];
  struct dg_s3_request request;
  struct dg_s3_answer answer;
};

static void begin(struct exchange *exchange, const char *method, struct dg_slice bucket,
                  struct dg_slice id)
{
  int len = g_snprintf(exchange->name, sizeof exchange->name, DG_S3_NOTES "%.*s",
                       DG_SLICE_ARG(id));

  dg_s3_request_init(&exchange->request, method, bucket,
                     dg_slice_of(exchange->name, (size_t)len));
  dg_s3_answer_init(&exchange->answer);
}

static void end(struct exchange *exchange)
{
  dg_s3_request_clear(&exchange->request);
  dg_s3_answer_clear(&exchange->answer);
}

int dg_s3_note_put(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                   struct dg_slice id, struct dg_slice text, struct dg_error *err)
{
  struct exchange exchange;
  int rc;

  begin(&exchange, "PUT", bucket, id);
  dg_s3_request_seal(s3, &exchange.request);
  dg_s3_request_header(&exchange.request, "content-type", DG_SLICE(DG_S3_CONTENT_TYPE));
  dg_s3_request_text(&exchange.request, text);
  rc = dg_s3_run(s3, call, &exchange.request, &exchange.answer, err);
  end(&exchange);
  if (rc < 0 && err->code == DG_E_NO_SUCH_KEY)
    err->code = DG_E_NO_SUCH_BUCKET;
  if (rc < 0 && err->code == DG_E_NO_SUCH_BUCKET)
    dg_s3_bucket_forget(s3, bucket);
  return rc;
}

int dg_s3_note_get(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                   struct dg_slice id, char *buffer, size_t *ret_len, struct dg_error *err)
{
  struct exchange exchange;
  const GString *body;
  int rc;

  begin(&exchange, "GET", bucket, id);
  rc = dg_s3_run(s3, call, &exchange.request, &exchange.answer, err);
  body = exchange.answer.body;
  if (rc == 0 && body->len > DG_NOTE_MAX)
    rc = dg_fail(err, DG_E_CORRUPT, "a note of %zu bytes", body->len);
  if (rc == 0) {
    memcpy(buffer, body->str, body->len);
    *ret_len = body->len;
  }
  end(&exchange);
  return rc;
}

int dg_s3_note_remove(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_slice id, struct dg_error *err)
{
  struct exchange exchange;
  int rc;

  begin(&exchange, "DELETE", bucket, id);
  rc = dg_s3_run(s3, call, &exchange.request, &exchange.answer, err);
  end(&exchange);
  return rc < 0 && (err->code == DG_E_NO_SUCH_KEY || err->code == DG_E_NO_SUCH_BUCKET) ? 0 : rc;
}
