/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "errors.h"

#include "common/slice.h"
#include "xmlread.h"

#include "common/banned.h"

struct meaning {
  const char *code;
  int32_t error;
  enum dg_s3_verdict verdict;
};

/* Codes that say more than their status does. */
static const struct meaning known[] = {
  {"NoSuchKey", DG_E_NO_SUCH_KEY, DG_S3_FINAL},
  {"NoSuchBucket", DG_E_NO_SUCH_BUCKET, DG_S3_FINAL},
  {"NoSuchUpload", DG_E_NO_SUCH_UPLOAD, DG_S3_FINAL},
  {"BucketAlreadyOwnedByYou", DG_E_BUCKET_EXISTS, DG_S3_FINAL},
  {"BucketAlreadyExists", DG_E_BUCKET_TAKEN, DG_S3_FINAL},
  {"BucketNotEmpty", DG_E_BUCKET_NOT_EMPTY, DG_S3_FINAL},
  {"InvalidBucketName", DG_E_INVALID_BUCKET_NAME, DG_S3_FINAL},
  {"KeyTooLongError", DG_E_KEY_TOO_LONG, DG_S3_FINAL},
  {"KeyTooLong", DG_E_KEY_TOO_LONG, DG_S3_FINAL},
  {"MetadataTooLarge", DG_E_METADATA_TOO_LARGE, DG_S3_FINAL},
  {"EntityTooLarge", DG_E_ENTITY_TOO_LARGE, DG_S3_FINAL},
  {"InvalidRange", DG_E_INVALID_RANGE, DG_S3_FINAL},
  {"PreconditionFailed", DG_E_PRECONDITION_FAILED, DG_S3_FINAL},
  {"ConditionalRequestConflict", DG_E_CONFLICT, DG_S3_FINAL},
  {"NotImplemented", DG_E_UNSUPPORTED, DG_S3_FINAL},
  {"QuotaExceeded", DG_E_NO_SPACE, DG_S3_FINAL},
  {"XMinioStorageFull", DG_E_NO_SPACE, DG_S3_FINAL},
  {"SlowDown", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"SlowDownRead", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"SlowDownWrite", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"RequestLimitExceeded", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"TooManyRequests", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"Throttling", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"ServiceUnavailable", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"InternalError", DG_E_UNAVAILABLE, DG_S3_BROKEN},
  {"OperationAborted", DG_E_UNAVAILABLE, DG_S3_BROKEN},
  {"RequestTimeout", DG_E_TIMEOUT, DG_S3_BROKEN},
  {"IncompleteBody", DG_E_IO, DG_S3_BROKEN},
  {"BadDigest", DG_E_IO, DG_S3_BROKEN},
  {"XAmzContentSHA256Mismatch", DG_E_IO, DG_S3_BROKEN},
  {"InvalidArgument", DG_E_INTERNAL, DG_S3_FINAL},
  {"InvalidRequest", DG_E_INTERNAL, DG_S3_FINAL},
  {"MalformedXML", DG_E_INTERNAL, DG_S3_FINAL},
  {"InvalidPart", DG_E_INTERNAL, DG_S3_FINAL},
  {"InvalidPartOrder", DG_E_INTERNAL, DG_S3_FINAL},
  {"EntityTooSmall", DG_E_INTERNAL, DG_S3_FINAL},
  /* Some of these come with 400. */
  {"InvalidAccessKeyId", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"SignatureDoesNotMatch", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"AuthorizationHeaderMalformed", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"RequestTimeTooSkewed", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"ExpiredToken", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"InvalidToken", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"AccountProblem", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"AllAccessDisabled", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"NotSignedUp", DG_E_BACKEND_DENIED, DG_S3_FINAL},
  {"KMS.DisabledException", DG_E_KMS_DISABLED, DG_S3_FINAL},
  {"KMS.NotFoundException", DG_E_KMS_NOT_FOUND, DG_S3_FINAL},
  {"KMS.AccessDeniedException", DG_E_KMS_DENIED, DG_S3_FINAL},
  {"KMS.ThrottlingException", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"KMS.LimitExceededException", DG_E_SLOW_DOWN, DG_S3_THROTTLED},
  {"KMS.KMSInternalException", DG_E_UNAVAILABLE, DG_S3_ODD},
  {"KMS.InternalException", DG_E_UNAVAILABLE, DG_S3_ODD},
  {"KMS.DependencyTimeoutException", DG_E_UNAVAILABLE, DG_S3_ODD},
  {"KMS.KeyUnavailableException", DG_E_UNAVAILABLE, DG_S3_ODD},
};

/* All others that a key service can say: the key's state, its kind, its use. */
static const struct meaning other_kms = {"KMS.", DG_E_KMS_UNUSABLE, DG_S3_FINAL};
/* AWS has no code of its own for a key that is denied: the message tells. */
static const struct meaning denied_key = {"AccessDenied", DG_E_KMS_DENIED, DG_S3_FINAL};

/* NULL: the status has to do. */
static const struct meaning *find_meaning(const struct dg_s3_answer *answer)
{
  const char *code = answer->code;

  for (size_t i = 0; *code && i < G_N_ELEMENTS(known); i++)
    if (strcmp(known[i].code, code) == 0)
      return &known[i];
  if (g_str_has_prefix(code, other_kms.code))
    return &other_kms;
  if (strcmp(code, denied_key.code) == 0 && strstr(answer->message, " kms:"))
    return &denied_key;
  return NULL;
}

static enum dg_s3_verdict judge_status(const struct dg_s3_request *request, long status)
{
  if (status == 429 || status == 503)
    return DG_S3_THROTTLED;
  if (status == 500 || status == 502 || status == 504 || status == 408)
    return DG_S3_BROKEN;
  /* Some providers answer a percent of all uploads with an unexplained 400. */
  if (status == 400 && strcmp(request->method, "PUT") == 0)
    return DG_S3_ODD;
  return DG_S3_FINAL;
}

enum dg_s3_verdict dg_s3_judge(const struct dg_s3_request *request, CURLcode result,
                               struct dg_s3_answer *answer)
{
  const struct meaning *meaning;

  switch (result) {
  case CURLE_OK:
    break;
  case CURLE_COULDNT_RESOLVE_PROXY:
  case CURLE_COULDNT_RESOLVE_HOST:
  case CURLE_COULDNT_CONNECT:
    return DG_S3_AWAY;
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
    return DG_S3_AWAY;
  default:
    /* The upstream may answer early, and close while we still send. */
    if (answer->status < 300)
      return DG_S3_LOST;
    break;
  }
  if (answer->status == 0)
    return DG_S3_LOST;
  dg_s3_xml_error(dg_slice_of(answer->body->str, answer->body->len), answer);
  if (answer->status < 300 && !answer->code[0])
    return DG_S3_GOOD;
  meaning = find_meaning(answer);
  if (meaning)
    return meaning->verdict;
  return answer->status < 300 ? DG_S3_BROKEN : judge_status(request, answer->status);
}

static int32_t code_of_status(const struct dg_s3_request *request, long status)
{
  switch (status) {
  case 404:
    return request->name.len ? DG_E_NO_SUCH_KEY : DG_E_NO_SUCH_BUCKET;
  case 409:
    return DG_E_CONFLICT;
  case 412:
    return DG_E_PRECONDITION_FAILED;
  case 416:
    return DG_E_INVALID_RANGE;
  case 429:
  case 503:
    return DG_E_SLOW_DOWN;
  case 408:
  case 504:
    return DG_E_TIMEOUT;
  case 301:
  case 302:
  case 307:
  case 308:
  case 500:
  case 502:
    return DG_E_UNAVAILABLE;
  case 401:
  case 403:
    return DG_E_BACKEND_DENIED;
  case 501:
    return DG_E_UNSUPPORTED;
  case 507:
    return DG_E_NO_SPACE;
  default:
    return DG_E_INTERNAL;
  }
}

static const char *name_of(const struct dg_s3 *s3)
{
  return s3->name ? s3->name : "s3";
}

static int fail_transport(const struct dg_s3 *s3, const struct dg_s3_request *request,
                          enum dg_s3_verdict verdict, CURLcode result, const char *text,
                          struct dg_error *err)
{
  int32_t code = verdict == DG_S3_AWAY ? DG_E_UNAVAILABLE : DG_E_IO;

  if (result == CURLE_OPERATION_TIMEDOUT)
    code = DG_E_TIMEOUT;
  else if (result == CURLE_SEND_ERROR || result == CURLE_RECV_ERROR || result == CURLE_GOT_NOTHING)
    code = DG_E_UNAVAILABLE;
  return dg_fail(err, code, "backend '%s': upstream %s: %s%s", name_of(s3), request->method,
                 text && *text ? text : curl_easy_strerror(result),
                 result == CURLE_PEER_FAILED_VERIFICATION
                   ? ": 'ca_bundle' names the authorities to trust, 'endpoint' the host in the "
                     "certificate"
                   : "");
}

/* A signature with an end that came too late is refused as if it were wrong. */
static bool is_late(const struct dg_s3_request *request, const struct dg_s3_answer *answer)
{
  return request->valid_for_s &&
         answer->date_s >= request->signed_at_s + (int64_t)request->valid_for_s;
}

/* The key that the upstream is asked to encrypt with; NULL: its default, or none. */
static const char *key_of(const struct dg_s3 *s3)
{
  for (guint i = 0; s3->seal_headers && i + 1 < s3->seal_headers->len; i += 2)
    if (strcmp(s3->seal_headers->pdata[i], DG_S3_KMS_KEY_HEADER) == 0)
      return s3->seal_headers->pdata[i + 1];
  return NULL;
}

static bool is_about_key(int32_t code)
{
  return code == DG_E_KMS_DISABLED || code == DG_E_KMS_NOT_FOUND || code == DG_E_KMS_DENIED ||
         code == DG_E_KMS_UNUSABLE;
}

int dg_s3_fail(const struct dg_s3 *s3, const struct dg_s3_request *request,
               enum dg_s3_verdict verdict, CURLcode result, const char *curl_text,
               const struct dg_s3_answer *answer, struct dg_error *err)
{
  const struct meaning *meaning = find_meaning(answer);
  int32_t code = meaning ? meaning->error : code_of_status(request, answer->status);
  const char *key = is_about_key(code) ? key_of(s3) : NULL;

  if (verdict == DG_S3_AWAY || verdict == DG_S3_LOST)
    return fail_transport(s3, request, verdict, result, curl_text, err);
  if (code == DG_E_BACKEND_DENIED && is_late(request, answer))
    code = DG_E_UNAVAILABLE;
  /* What is long stands last: the detail is cut. */
  return dg_fail(err, code, "backend '%s': %s%.90s%supstream %s answered %ld%s%s request-id=%s%s%s",
                 name_of(s3), key ? "key '" : "", key ? key : "", key ? "': " : "",
                 request->method, answer->status, answer->code[0] ? " " : "", answer->code,
                 answer->request_id, answer->message[0] ? ": " : "", answer->message);
}
