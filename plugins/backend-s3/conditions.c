/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conditions.h"

#include "run.h"

#include "common/banned.h"

#define OTHER_ETAG "00000000000000000000000000000000"
#define LATE_S 3600 /* how long ago a signature ended that must not count */

enum proof { UNKNOWN, OBEYED, IGNORED };

struct dg_s3_conditions {
  GMutex mutex; /* held while trying: one is enough */
  enum proof absent;   /* If-None-Match: * */
  enum proof sharing;  /* and the others */
  const char *missing; /* when sharing is IGNORED */
  bool bare_etags;     /* If-Match holds without its quotes only */
  long status;         /* what the condition was answered with, when absent is IGNORED */
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

/* ---- One request -------------------------------------------------------------------- */

/* What is tried: a PUT of one byte with a condition, or a DELETE. */
struct attempt {
  const char *method;
  const char *header, *value; /* the condition, or NULL */
  int64_t signed_at_s;        /* not 0: a signature that held for a minute from then on */
};

struct outcome {
  long status;
  int64_t date_s;
  char etag[136];
};

/* Can it be the condition that is refused, and not who we are? A 403 may be a
 * policy's, about the header, which one server alone can do without. */
static bool is_refusal(const struct dg_s3 *s3, const struct dg_s3_answer *answer,
                       const struct dg_error *err)
{
  switch (answer->status) {
  case 412:
  case 501:
    return true;
  case 400:
  case 405:
  case 411:
  case 422:
    return err->code == DG_E_INTERNAL || err->code == DG_E_UNSUPPORTED;
  case 403:
    return !s3->shared && (!answer->code[0] || strcmp(answer->code, "AccessDenied") == 0);
  default:
    return false;
  }
}

/* Refusals of the condition are no failure; those of a plain request are. */
static int send_probe(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_slice name, const struct attempt *attempt,
                      struct outcome *ret_outcome, struct dg_error *err)
{
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  dg_s3_request_init(&request, attempt->method, bucket, name);
  if (strcmp(attempt->method, "PUT") == 0) {
    dg_s3_request_seal(s3, &request);
    dg_s3_request_text(&request, DG_SLICE("x"));
  }
  if (attempt->header)
    dg_s3_request_header(&request, attempt->header, dg_slice_str(attempt->value));
  if (attempt->signed_at_s) {
    request.signed_at_s = attempt->signed_at_s;
    request.valid_for_s = 60;
  }
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, err);
  ret_outcome->status = answer.status;
  ret_outcome->date_s = answer.date_s;
  (void)g_strlcpy(ret_outcome->etag, answer.etag, sizeof ret_outcome->etag);
  if (rc < 0 && (((attempt->header || attempt->signed_at_s) && is_refusal(s3, &answer, err)) ||
                 (attempt->signed_at_s && answer.status >= 400 && answer.status < 500)))
    rc = 0;
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

/* 412 may answer a repeat whose first attempt was done, and its answer lost. */
static bool was_stored(const struct outcome *outcome)
{
  return (outcome->status >= 200 && outcome->status < 300) || outcome->status == 412;
}

static bool was_taken(const struct outcome *outcome)
{
  return outcome->status >= 200 && outcome->status < 300;
}

/* ---- If-None-Match -------------------------------------------------------------------- */

static const struct attempt if_absent = {"PUT", "if-none-match", "*", 0};

/* Refused with the condition: because of it, if it is taken without. Else it is the
 * bucket, the name or the encryption that is refused, and nothing is known. */
static int try_plain(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice name, enum proof *ret_proof, struct dg_error *err)
{
  const struct attempt plain = {"PUT", NULL, NULL, 0};
  struct outcome outcome;

  if (send_probe(s3, call, bucket, name, &plain, &outcome, err) < 0)
    return -1;
  *ret_proof = IGNORED;
  return 0;
}

static int try_absent(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_slice name, struct outcome *ret_first, enum proof *ret_proof,
                      struct dg_error *err)
{
  struct outcome second;

  if (send_probe(s3, call, bucket, name, &if_absent, ret_first, err) < 0)
    return -1;
  s3->conditions->status = ret_first->status;
  if (!was_stored(ret_first))
    return try_plain(s3, call, bucket, name, ret_proof, err);
  if (send_probe(s3, call, bucket, name, &if_absent, &second, err) < 0)
    return -1;
  s3->conditions->status = second.status;
  if (!was_stored(&second))
    return try_plain(s3, call, bucket, name, ret_proof, err);
  *ret_proof = second.status == 412 ? OBEYED : IGNORED;
  return 0;
}

/* ---- What sharing needs besides --------------------------------------------------------- */

/* The probe object is there, as `first` tells. *ret_missing stays NULL if all is
 * well. */
static int try_match(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice name, const struct outcome *first, const char **ret_missing,
                     struct dg_error *err)
{
  g_autofree char *quoted = g_strdup_printf("\"%s\"", first->etag);
  const struct attempt others[] = {{"PUT", "if-match", "\"" OTHER_ETAG "\"", 0},
                                   {"PUT", "if-match", OTHER_ETAG, 0}};
  const struct attempt own[] = {{"PUT", "if-match", quoted, 0},
                                {"PUT", "if-match", first->etag, 0}};
  struct outcome outcome;

  for (int bare = 0; bare < 2; bare++) {
    if (send_probe(s3, call, bucket, name, &others[bare], &outcome, err) < 0)
      return -1;
    if (outcome.status != 412) {
      *ret_missing = "it does not obey If-Match on a PUT";
      return 0;
    }
    if (send_probe(s3, call, bucket, name, &own[bare], &outcome, err) < 0)
      return -1;
    if (was_taken(&outcome)) {
      s3->conditions->bare_etags = bare;
      return 0;
    }
  }
  *ret_missing = "it refuses a PUT whose If-Match is right";
  return 0;
}

static int try_sharing(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                       struct dg_slice name, const struct outcome *first,
                       const char **ret_missing, struct dg_error *err)
{
  const struct attempt late_put = {"PUT", NULL, NULL, first->date_s - LATE_S};
  const struct attempt late_delete = {"DELETE", NULL, NULL, first->date_s - LATE_S};
  const struct attempt timely_put = {"PUT", NULL, NULL, first->date_s};
  struct outcome outcome;

  *ret_missing = NULL;
  if (!first->date_s || !first->etag[0]) {
    *ret_missing = "its answers to PUT have no Date or no ETag";
    return 0;
  }
  if (try_match(s3, call, bucket, name, first, ret_missing, err) < 0)
    return -1;
  if (!*ret_missing && send_probe(s3, call, bucket, name, &late_put, &outcome, err) < 0)
    return -1;
  if (!*ret_missing && was_taken(&outcome))
    *ret_missing = "it takes a PUT whose signature has ended";
  if (!*ret_missing && send_probe(s3, call, bucket, name, &late_delete, &outcome, err) < 0)
    return -1;
  if (!*ret_missing && was_taken(&outcome))
    *ret_missing = "it takes a DELETE whose signature has ended";
  if (!*ret_missing && send_probe(s3, call, bucket, name, &timely_put, &outcome, err) < 0)
    return -1;
  if (!*ret_missing && !was_taken(&outcome))
    *ret_missing = "it refuses a PUT signed in the query";
  return 0;
}

/* ---- Both ------------------------------------------------------------------------------------ */

static int try_out_locked(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                          bool sharing, struct dg_error *err)
{
  struct dg_s3_conditions *conditions = s3->conditions;
  g_autofree char *uuid = g_uuid_string_random();
  g_autofree char *text = g_strconcat(".deltaglider/_cwprobe/", uuid, NULL);
  const struct attempt removal = {"DELETE", NULL, NULL, 0};
  struct dg_slice name = dg_slice_str(text);
  struct outcome first = {0}, ignored;
  struct dg_error cause;
  int rc = try_absent(s3, call, bucket, name, &first, &conditions->absent, err);

  if (rc == 0 && sharing && conditions->absent == OBEYED) {
    rc = try_sharing(s3, call, bucket, name, &first, &conditions->missing, err);
    if (rc == 0)
      conditions->sharing = conditions->missing ? IGNORED : OBEYED;
  } else if (rc == 0 && sharing) {
    conditions->sharing = IGNORED;
    conditions->missing = "it does not obey If-None-Match: * on a PUT";
  }
  (void)send_probe(s3, call, bucket, name, &removal, &ignored, &cause);
  return rc;
}

int dg_s3_conditions_proven(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                            bool *ret_yes, struct dg_error *err)
{
  struct dg_s3_conditions *conditions = s3->conditions;
  int rc = 0;

  g_mutex_lock(&conditions->mutex);
  if (conditions->absent == UNKNOWN) {
    rc = try_out_locked(s3, call, bucket, /* sharing= */ false, err);
    if (rc == 0 && conditions->absent == IGNORED)
      dg_s3_log(s3, DG_LOG_WARN, "s3.conditions.missing",
                "endpoint=%s status=%ld effect=\"only one server may write to these buckets\"",
                s3->endpoint.authority, conditions->status);
  }
  *ret_yes = conditions->absent == OBEYED;
  g_mutex_unlock(&conditions->mutex);
  return rc;
}

int dg_s3_conditions_sharing(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                             struct dg_error *err)
{
  struct dg_s3_conditions *conditions = s3->conditions;
  int rc = 0;

  g_mutex_lock(&conditions->mutex);
  if (conditions->sharing == UNKNOWN)
    rc = try_out_locked(s3, call, bucket, /* sharing= */ true, err);
  if (rc == 0 && conditions->sharing != OBEYED)
    rc = dg_fail(err, DG_E_UNSUPPORTED, "%s", conditions->missing);
  g_mutex_unlock(&conditions->mutex);
  return rc;
}

char *dg_s3_conditions_etag(struct dg_s3 *s3, const char *etag)
{
  struct dg_s3_conditions *conditions = s3->conditions;
  bool bare;

  g_mutex_lock(&conditions->mutex);
  bare = conditions->bare_etags;
  g_mutex_unlock(&conditions->mutex);
  return bare ? g_strdup(etag) : g_strdup_printf("\"%s\"", etag);
}
