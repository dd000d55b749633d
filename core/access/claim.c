/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/claim.h"

#include "common/clock.h"
#include "common/hex.h"
#include "common/slice.h"
#include "core/access/credentials.h"

#include "common/banned.h"

#define MAX_EXPIRES_S 604800

int dg_claim_find(const struct dg_request *request, const struct dg_target *target,
                  enum dg_claim_kind *ret_kind, struct dg_error *err)
{
  struct dg_slice header = dg_request_header(request, "authorization");
  bool in_header = dg_slice_present(header);
  bool in_query =
      dg_target_has(target, "X-Amz-Algorithm") || dg_target_has(target, "X-Amz-Signature");

  if (in_header && in_query)
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or "
                   "the Authorization header should be specified.");
  if (dg_request_header_count(request, "authorization") > 1)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "More than one Authorization header.");
  if ((in_header && dg_slice_starts_with(header, DG_SLICE("AWS "))) ||
      (!in_query && dg_target_has(target, "AWSAccessKeyId") && dg_target_has(target, "Signature")))
    return dg_fail(err, DG_E_INVALID_REQUEST,
                   "The authorization mechanism you have provided (Signature Version 2) is not "
                   "supported. Please use AWS4-HMAC-SHA256.");
  *ret_kind = in_header ? DG_CLAIM_HEADER : in_query ? DG_CLAIM_PRESIGNED : DG_CLAIM_NONE;
  return 0;
}

/* Takes the piece after the last '/' off the end. */
static bool take_last(struct dg_slice *text, struct dg_slice *ret_piece)
{
  for (size_t i = text->len; i-- > 0;) {
    if (text->data[i] == '/') {
      *ret_piece = dg_slice_skip(*text, i + 1);
      text->len = i;
      return true;
    }
  }
  return false;
}

static bool is_date(struct dg_slice text)
{
  if (text.len != 8)
    return false;
  for (size_t i = 0; i < 8; i++)
    if (text.data[i] < '0' || text.data[i] > '9')
      return false;
  return true;
}

/* Letters, digits and a few marks: these go into logs and the string to sign. */
static bool is_plain(struct dg_slice text)
{
  for (size_t i = 0; i < text.len; i++)
    if (text.data[i] <= ' ' || text.data[i] >= 0x7f)
      return false;
  return true;
}

int dg_claim_credential(struct dg_slice credential, int32_t code, struct dg_slice *ret_access_key,
                        struct dg_sigv4_scope *ret_scope, struct dg_error *err)
{
  struct dg_slice terminator;
  struct dg_sigv4_scope scope;

  if (!take_last(&credential, &terminator) || !take_last(&credential, &scope.service) ||
      !take_last(&credential, &scope.region) || !take_last(&credential, &scope.date) ||
      credential.len == 0)
    return dg_fail(err, code,
                   "The Credential is malformed; expecting "
                   "\"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".");
  if (credential.len > DG_ACCESS_KEY_MAX || !is_plain(credential))
    return dg_fail(err, code, "The Credential's access key is malformed.");
  *ret_access_key = credential;
  if (!is_date(scope.date))
    return dg_fail(err, code, "The Credential's date is malformed; expecting YYYYMMDD.");
  if (scope.region.len > DG_REGION_MAX || !is_plain(scope.region))
    return dg_fail(err, code, "The Credential's region is malformed.");
  if (!dg_slice_equal_str(scope.service, "s3"))
    return dg_fail(err, code, "The Credential's service must be \"s3\".");
  if (!dg_slice_equal_str(terminator, "aws4_request"))
    return dg_fail(err, code, "The Credential must end in \"aws4_request\".");
  *ret_scope = scope;
  return 0;
}

static int parse_signature(struct dg_slice text, int32_t code, struct dg_claim *claim,
                           struct dg_error *err)
{
  if (!dg_hex_decode(text, claim->signature, sizeof claim->signature))
    return dg_fail(err, code, "The Signature is malformed; expecting 64 hex digits.");
  return 0;
}

/* The scope must be of the day the request was signed. */
static int set_timestamp(struct dg_claim *claim, int64_t s, int32_t code, struct dg_error *err)
{
  claim->timestamp_s = s;
  dg_time_format_basic(claim->timestamp, s);
  if (!dg_slice_equal(claim->scope.date, dg_slice_of(claim->timestamp, 8)))
    return dg_fail(err, code, "The Credential's date is not the date of the request: '%.*s'.",
                   DG_SLICE_ARG(dg_slice_str(claim->timestamp)));
  return 0;
}

static int parse_header_time(const struct dg_request *request, struct dg_claim *claim,
                             struct dg_error *err)
{
  struct dg_slice text = dg_request_header(request, "x-amz-date");
  int64_t s;

  if (dg_request_header_count(request, "x-amz-date") > 1)
    return dg_fail(err, DG_E_AUTH_MALFORMED, "More than one x-amz-date header.");
  if (dg_slice_present(text)) {
    if (!dg_time_parse_basic(text, &s) && !dg_time_parse_http(text, &s))
      return dg_fail(err, DG_E_AUTH_MALFORMED,
                     "The x-amz-date header is malformed; expecting YYYYMMDDTHHMMSSZ.");
  } else {
    text = dg_request_header(request, "date");
    if (!dg_slice_present(text))
      return dg_fail(err, DG_E_AUTH_MALFORMED,
                     "A signed request needs an x-amz-date or a Date header.");
    if (!dg_time_parse_http(text, &s) && !dg_time_parse_basic(text, &s))
      return dg_fail(err, DG_E_AUTH_MALFORMED, "The Date header is malformed.");
  }
  return set_timestamp(claim, s, DG_E_AUTH_MALFORMED, err);
}

static int parse_header(const struct dg_request *request, struct dg_claim *claim,
                        struct dg_error *err)
{
  struct dg_slice rest = dg_request_header(request, "authorization");
  struct dg_slice credential = DG_SLICE_NONE, signature = DG_SLICE_NONE;
  const struct {
    struct dg_slice name;
    struct dg_slice *value;
  } parts[] = {
      {DG_SLICE("Credential="), &credential},
      {DG_SLICE("SignedHeaders="), &claim->signed_headers},
      {DG_SLICE("Signature="), &signature},
  };

  if (!dg_slice_starts_with(rest, DG_SLICE(DG_SIGV4_ALGORITHM)) ||
      rest.len < sizeof DG_SIGV4_ALGORITHM ||
      (rest.data[sizeof DG_SIGV4_ALGORITHM - 1] != ' ' &&
       rest.data[sizeof DG_SIGV4_ALGORITHM - 1] != '\t'))
    return dg_fail(err, DG_E_INVALID_REQUEST,
                   "The authorization mechanism you have provided is not supported. Please use "
                   "AWS4-HMAC-SHA256.");
  rest = dg_slice_skip(rest, sizeof DG_SIGV4_ALGORITHM);
  while (rest.len) {
    size_t comma = dg_slice_find(rest, ',', 0), i;
    struct dg_slice part =
        dg_slice_trim(dg_slice_of(rest.data, comma == SIZE_MAX ? rest.len : comma));

    for (i = 0; i < G_N_ELEMENTS(parts); i++) {
      if (dg_slice_starts_with(part, parts[i].name)) {
        if (dg_slice_present(*parts[i].value))
          return dg_fail(err, DG_E_AUTH_MALFORMED, "The Authorization header gives %.*s twice.",
                         (int)parts[i].name.len - 1, parts[i].name.data);
        *parts[i].value = dg_slice_skip(part, parts[i].name.len);
        break;
      }
    }
    if (i == G_N_ELEMENTS(parts) && part.len)
      return dg_fail(err, DG_E_AUTH_MALFORMED,
                     "The Authorization header consists of Credential, SignedHeaders and "
                     "Signature, separated by commas.");
    rest = comma == SIZE_MAX ? dg_slice_skip(rest, rest.len) : dg_slice_skip(rest, comma + 1);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
    if (parts[i].value->len == 0)
      return dg_fail(err, DG_E_AUTH_MALFORMED, "The Authorization header lacks %.*s.",
                     (int)parts[i].name.len - 1, parts[i].name.data);
  if (dg_claim_credential(credential, DG_E_AUTH_MALFORMED, &claim->access_key, &claim->scope, err) <
          0 ||
      parse_signature(signature, DG_E_AUTH_MALFORMED, claim, err) < 0)
    return -1;
  return parse_header_time(request, claim, err);
}

/* A parameter that must stand exactly once. */
static int only_param(const struct dg_target *target, const char *name, struct dg_slice *ret_value,
                      struct dg_error *err)
{
  unsigned count = 0;

  for (uint32_t i = 0; i < target->param_count; i++)
    count += dg_slice_equal_str(target->params[i].name, name);
  if (count > 1)
    return dg_fail(err, DG_E_AUTH_QUERY, "The query parameter %s stands there more than once.",
                   name);
  *ret_value = dg_target_param(target, name);
  if (ret_value->len == 0)
    return dg_fail(err, DG_E_AUTH_QUERY,
                   "Query-string authentication version 4 requires the X-Amz-Algorithm, "
                   "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
                   "X-Amz-Expires parameters; %s is missing.",
                   name);
  return 0;
}

static int parse_query(const struct dg_target *target, struct dg_claim *claim, struct dg_error *err)
{
  struct dg_slice algorithm, credential, signature, date, expires;
  uint64_t expires_s;
  int64_t s;

  claim->presigned = true;
  if (only_param(target, "X-Amz-Algorithm", &algorithm, err) < 0 ||
      only_param(target, "X-Amz-Credential", &credential, err) < 0 ||
      only_param(target, "X-Amz-Signature", &signature, err) < 0 ||
      only_param(target, "X-Amz-Date", &date, err) < 0 ||
      only_param(target, "X-Amz-SignedHeaders", &claim->signed_headers, err) < 0 ||
      only_param(target, "X-Amz-Expires", &expires, err) < 0)
    return -1;
  if (!dg_slice_equal_str(algorithm, DG_SIGV4_ALGORITHM))
    return dg_fail(err, DG_E_AUTH_QUERY, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\".");
  if (dg_claim_credential(credential, DG_E_AUTH_QUERY, &claim->access_key, &claim->scope, err) <
          0 ||
      parse_signature(signature, DG_E_AUTH_QUERY, claim, err) < 0)
    return -1;
  if (!dg_time_parse_basic(date, &s))
    return dg_fail(err, DG_E_AUTH_QUERY,
                   "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\".");
  if (!dg_slice_to_u64(expires, &expires_s))
    return dg_fail(err, DG_E_AUTH_QUERY, "X-Amz-Expires should be a number.");
  if (expires_s < 1 || expires_s > MAX_EXPIRES_S)
    return dg_fail(err, DG_E_AUTH_QUERY,
                   "X-Amz-Expires must be at least 1 and less than a week (in seconds); that is, "
                   "the given X-Amz-Expires must be 1 to 604800.");
  claim->expires_s = (int64_t)expires_s;
  return set_timestamp(claim, s, DG_E_AUTH_QUERY, err);
}

int dg_claim_parse(const struct dg_request *request, const struct dg_target *target,
                   enum dg_claim_kind kind, struct dg_claim *ret_claim, struct dg_error *err)
{
  *ret_claim = (struct dg_claim){0};
  return kind == DG_CLAIM_PRESIGNED ? parse_query(target, ret_claim, err)
                                    : parse_header(request, ret_claim, err);
}
