/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conditions.h"

#include "run.h"

#include "common/banned.h"

enum proof { UNKNOWN, OBEYED, IGNORED };

struct dg_s3_conditions {
  GMutex mutex; /* held while trying: one is enough */
  enum proof proof;
};

struct dg_s3_conditions *dg_s3_conditions_new(void)
{
  struct dg_s3_conditions *conditions = g_new0(struct dg_s3_conditions, 1);

  g_mutex_init(&conditions->mutex);
  return conditions;
}

void dg_s3_conditions_free(struct dg_s3_conditions *conditions)
{
  if (!conditions)
    return;
  g_mutex_clear(&conditions->mutex);
  g_free(conditions);
}

/* *ret_status: what the upstream answered, refusals of the condition included. */
static int send_probe(struct dg_s3 *s3, const struct dg_call *call, const char *method,
                struct dg_slice bucket, struct dg_slice name, long *ret_status,
                struct dg_error *err)
{
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  dg_s3_request_init(&request, method, bucket, name);
  if (strcmp(method, "PUT") == 0) {
    dg_s3_request_text(&request, DG_SLICE("x"));
    dg_s3_request_header(&request, "if-none-match", DG_SLICE("*"));
  }
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, err);
  *ret_status = answer.status;
  if (rc < 0 && (answer.status == 412 || answer.status == 501))
    rc = 0;
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

static int try_out(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                   enum proof *ret_proof, struct dg_error *err)
{
  g_autofree char *uuid = g_uuid_string_random();
  g_autofree char *text = g_strconcat(".deltaglider/_cwprobe/", uuid, NULL);
  struct dg_slice name = dg_slice_str(text);
  long first, second = 0, ignored;
  struct dg_error cause;

  if (send_probe(s3, call, "PUT", bucket, name, &first, err) < 0)
    return -1;
  if (first == 501) {
    *ret_proof = IGNORED;
    return 0;
  }
  if (send_probe(s3, call, "PUT", bucket, name, &second, err) < 0) {
    (void)send_probe(s3, call, "DELETE", bucket, name, &ignored, &cause);
    return -1;
  }
  (void)send_probe(s3, call, "DELETE", bucket, name, &ignored, &cause);
  *ret_proof = second == 412 ? OBEYED : IGNORED;
  return 0;
}

int dg_s3_conditions_proven(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                            bool *ret_yes, struct dg_error *err)
{
  struct dg_s3_conditions *conditions = s3->conditions;
  int rc = 0;

  g_mutex_lock(&conditions->mutex);
  if (conditions->proof == UNKNOWN) {
    rc = try_out(s3, call, bucket, &conditions->proof, err);
    if (rc == 0 && conditions->proof == IGNORED)
      dg_s3_log(s3, DG_LOG_WARN, "s3.conditions.missing",
                "endpoint=%s effect=\"only one server may write to these buckets\"",
                s3->endpoint.authority);
  }
  *ret_yes = conditions->proof == OBEYED;
  g_mutex_unlock(&conditions->mutex);
  return rc;
}
