/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, answers and what is made of them, without a network. */
#include "config.h"

#include <arpa/inet.h>
#include <check.h>
#include <glib.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "common/slice.h"
#include "plugins/backend-s3/endpoint.h"
#include "plugins/backend-s3/errors.h"
#include "plugins/backend-s3/governor.h"
#include "plugins/backend-s3/request.h"
#include "plugins/backend-s3/run.h"
#include "plugins/backend-s3/upload.h"
#include "plugins/backend-s3/xmlread.h"

/* ---- Endpoints --------------------------------------------------------------------- */

static char *located(const char *url, bool path_style, const char *bucket, const char *key)
{
  struct dg_s3_endpoint endpoint = {0};
  g_autoptr(GString) host = g_string_new(NULL);
  g_autoptr(GString) path = g_string_new(NULL);
  struct dg_error err = {0};
  int rc = dg_s3_endpoint_parse(&endpoint, url, "eu-central-1", path_style, true, &err);

  ck_assert_msg(rc == 0, "%s: %s", url, err.detail);
  dg_s3_endpoint_locate(&endpoint, dg_slice_str(bucket), dg_slice_str(key), host, path);
  dg_s3_endpoint_clear(&endpoint);
  return g_strdup_printf("%s %s", host->str, path->str);
}

START_TEST(buckets_stand_in_the_path_or_in_the_host)
{
  static const struct {
    const char *url;
    bool path_style;
    const char *bucket, *key, *where;
  } rows[] = {
    {NULL, true, "b", "k", "s3.eu-central-1.amazonaws.com /b/k"},
    {NULL, false, "b", "k", "b.s3.eu-central-1.amazonaws.com /k"},
    {NULL, false, "b", "", "b.s3.eu-central-1.amazonaws.com /"},
    {NULL, false, "", "", "s3.eu-central-1.amazonaws.com /"},
    {NULL, false, "with.dots", "k", "s3.eu-central-1.amazonaws.com /with.dots/k"},
    {"http://h:80/", false, "with.dots", "k", "with.dots.h /k"},
    {"https://h:443", true, "b", "", "h /b"},
    {"https://h:444", true, "b", "/k", "h:444 /b//k"},
    {"http://127.0.0.1:9000", false, "b", "k", "127.0.0.1:9000 /b/k"},
    {"http://[::1]:9000", false, "b", "k", "[::1]:9000 /b/k"},
    {"http://[::1]", false, "b", "k", "[::1] /b/k"},
    {"https://h/sub/", true, "b", "k", "h /sub/b/k"},
    {"https://h", true, "b", "a b/../%41~\xc3\xbc+", "h /b/a%20b/../%2541~%C3%BC%2B"},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *where =
      located(rows[i].url, rows[i].path_style, rows[i].bucket, rows[i].key);

    ck_assert_str_eq(where, rows[i].where);
  }
}
END_TEST

START_TEST(endpoints_that_are_not_public_must_be_meant)
{
  static const char *const urls[] = {
    "http://s3.example.com",     "https://127.0.0.1",      "https://10.1.2.3",
    "https://169.254.169.254",   "https://[::1]",          "https://[fd00::1]",
    "https://[::ffff:10.0.0.1]", "https://localhost:9000", "https://100.64.1.1",
    "https://0.0.0.0",           "https://[64:ff9b::a00:1]"};

  for (size_t i = 0; i < G_N_ELEMENTS(urls); i++) {
    struct dg_s3_endpoint endpoint = {0};
    struct dg_error err = {0};

    ck_assert_msg(dg_s3_endpoint_parse(&endpoint, urls[i], "r", true, false, &err) < 0, "%s",
                  urls[i]);
    ck_assert_int_eq(err.code, DG_E_CONFIG);
    ck_assert_msg(strstr(err.detail, "allow_local") != NULL, "%s", err.detail);
    dg_s3_endpoint_clear(&endpoint);
    ck_assert_msg(dg_s3_endpoint_parse(&endpoint, urls[i], "r", true, true, &err) == 0, "%s",
                  urls[i]);
    dg_s3_endpoint_clear(&endpoint);
  }
}
END_TEST

START_TEST(endpoints_that_make_no_sense_are_refused)
{
  static const char *const urls[] = {"s3.example.com", "ftp://h",  "https://",
                                     "https://h:0",    "https://h:70000", "https://u:p@h",
                                     "https://h/?x",   "https://h o", "https://[::1"};

  for (size_t i = 0; i < G_N_ELEMENTS(urls); i++) {
    struct dg_s3_endpoint endpoint = {0};
    struct dg_error err = {0};

    ck_assert_msg(dg_s3_endpoint_parse(&endpoint, urls[i], "r", true, true, &err) < 0, "%s",
                  urls[i]);
    ck_assert_int_eq(err.code, DG_E_CONFIG);
    dg_s3_endpoint_clear(&endpoint);
  }
}
END_TEST

START_TEST(addresses_are_judged_when_they_are_connected_to)
{
  static const struct {
    const char *address;
    bool is_public;
  } rows[] = {{"8.8.8.8", true},      {"172.15.0.1", true},  {"172.16.0.1", false},
              {"172.32.0.1", true},   {"192.168.0.1", false}, {"198.18.0.1", false},
              {"224.0.0.1", false},   {"255.255.255.255", false}};
  struct in6_addr wide;

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    struct sockaddr_in in = {.sin_family = AF_INET};

    ck_assert_int_eq(inet_pton(AF_INET, rows[i].address, &in.sin_addr), 1);
    ck_assert_msg(dg_s3_address_is_public((struct sockaddr *)&in) == rows[i].is_public, "%s",
                  rows[i].address);
  }
  ck_assert_int_eq(inet_pton(AF_INET6, "2a00:1450::1", &wide), 1);
  ck_assert(dg_s3_address_is_public(
    (struct sockaddr *)&(struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = wide}));
}
END_TEST

/* ---- Signatures ---------------------------------------------------------------------- */

/* The examples that AWS publishes for S3. */
START_TEST(requests_are_signed_as_aws_documents)
{
  static const struct {
    const char *names[2], *values[2], *signature, *url;
  } rows[] = {
    {{"lifecycle", NULL}, {"", NULL},
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
     "https://examplebucket.s3.amazonaws.com/?lifecycle="},
    {{"prefix", "max-keys"}, {"J", "2"},
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
     "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J"},
  };
  struct dg_s3 s3 = {.region = (char *)(uintptr_t) "us-east-1",
                     .access_key_id = (char *)(uintptr_t) "AKIAIOSFODNN7EXAMPLE",
                     .secret_access_key =
                       (char *)(uintptr_t) "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
  struct dg_error err = {0};

  ck_assert_int_eq(dg_s3_endpoint_parse(&s3.endpoint, "https://s3.amazonaws.com", s3.region, false,
                                        false, &err),
                   0);
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    struct dg_s3_request request;
    struct curl_slist *headers = NULL;
    g_autofree char *url = NULL;
    const char *authorization = NULL;

    dg_s3_request_init(&request, "GET", DG_SLICE("examplebucket"), DG_SLICE(""));
    for (size_t j = 0; j < 2 && rows[i].names[j]; j++)
      dg_s3_request_query(&request, rows[i].names[j], dg_slice_str(rows[i].values[j]));
    dg_s3_request_sign(&s3, &request, 1369353600, &url, &headers);
    ck_assert_str_eq(url, rows[i].url);
    for (struct curl_slist *line = headers; line; line = line->next)
      if (g_str_has_prefix(line->data, "Authorization: "))
        authorization = line->data;
    ck_assert_ptr_nonnull(authorization);
    ck_assert_msg(g_str_has_suffix(authorization, rows[i].signature), "%s", authorization);
    curl_slist_free_all(headers);
    dg_s3_request_clear(&request);
  }
  dg_s3_endpoint_clear(&s3.endpoint);
}
END_TEST

/* The expected URL was computed apart, from the specification. */
START_TEST(signatures_with_an_end_stand_in_the_query)
{
  struct dg_s3 s3 = {.region = (char *)(uintptr_t) "us-east-1",
                     .access_key_id = (char *)(uintptr_t) "AKIAIOSFODNN7EXAMPLE",
                     .secret_access_key =
                       (char *)(uintptr_t) "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
  struct dg_s3_request request;
  struct curl_slist *headers = NULL;
  g_autofree char *url = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_s3_endpoint_parse(&s3.endpoint, "https://s3.amazonaws.com", s3.region, false,
                                        false, &err),
                   0);
  dg_s3_request_init(&request, "DELETE", DG_SLICE("examplebucket"), DG_SLICE("test.txt"));
  request.signed_at_s = 1369353600;
  request.valid_for_s = 20;
  dg_s3_request_sign(&s3, &request, /* now_s= */ 1, &url, &headers);
  ck_assert_str_eq(url, "https://examplebucket.s3.amazonaws.com/test.txt"
                        "?X-Amz-Algorithm=AWS4-HMAC-SHA256"
                        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3"
                        "%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=20"
                        "&X-Amz-SignedHeaders=host%3Bx-amz-content-sha256"
                        "&X-Amz-Signature="
                        "58b3bf64530b7be54a74d295e0468099f34112fb37be34894d3b5af1f16b4bb4");
  for (struct curl_slist *line = headers; line; line = line->next)
    ck_assert(!g_str_has_prefix(line->data, "Authorization") &&
              !g_str_has_prefix(line->data, "x-amz-date"));
  curl_slist_free_all(headers);
  dg_s3_request_clear(&request);
  dg_s3_endpoint_clear(&s3.endpoint);
}
END_TEST

START_TEST(without_credentials_nothing_is_signed)
{
  struct dg_s3 s3 = {.region = (char *)(uintptr_t) "us-east-1"};
  struct dg_s3_request request;
  struct curl_slist *headers = NULL;
  g_autofree char *url = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(
    dg_s3_endpoint_parse(&s3.endpoint, "https://h", s3.region, true, false, &err), 0);
  dg_s3_request_init(&request, "GET", DG_SLICE("b"), DG_SLICE("k"));
  dg_s3_request_sign(&s3, &request, 1369353600, &url, &headers);
  for (struct curl_slist *line = headers; line; line = line->next)
    ck_assert(!g_str_has_prefix(line->data, "Authorization"));
  curl_slist_free_all(headers);
  dg_s3_request_clear(&request);
  dg_s3_endpoint_clear(&s3.endpoint);
}
END_TEST

/* ---- Answers --------------------------------------------------------------------------- */

static const struct dg_s3_request get_object = {
  .method = "GET", .bucket = {"b", 1}, .name = {"k", 1}};
static const struct dg_s3_request put_object = {
  .method = "PUT", .bucket = {"b", 1}, .name = {"k", 1}};
#define NOW_S 1760000000
static const struct dg_s3_request late_put = {.method = "PUT", .bucket = {"b", 1}, .name = {"k", 1},
                                              .signed_at_s = NOW_S - 20, .valid_for_s = 20};
static const struct dg_s3_request timely_put = {.method = "PUT", .bucket = {"b", 1}, .name = {"k", 1},
                                                .signed_at_s = NOW_S - 19, .valid_for_s = 20};
static const struct dg_s3_request put_bucket = {.method = "PUT", .bucket = {"b", 1}};
static const struct dg_s3_request head_bucket = {.method = "HEAD", .bucket = {"b", 1}};

static const struct dg_s3 plain = {.name = (char *)(uintptr_t) "up"};

static enum dg_s3_verdict judged(const struct dg_s3_request *request, CURLcode result, long status,
                                 const char *body, struct dg_error *err)
{
  struct dg_s3_answer answer = {0};
  enum dg_s3_verdict verdict;

  dg_s3_answer_init(&answer);
  answer.status = status;
  answer.date_s = NOW_S;
  g_string_assign(answer.body, body);
  verdict = dg_s3_judge(request, result, &answer);
  *err = (struct dg_error){0};
  if (verdict != DG_S3_GOOD)
    ck_assert_int_eq(dg_s3_fail(&plain, request, verdict, result, "", &answer, err), -1);
  dg_s3_answer_clear(&answer);
  return verdict;
}

#define ERROR(code) "<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message/></Error>"

START_TEST(what_stores_an_object_says_how_to_encrypt_it)
{
  const struct dg_pair kms = {DG_SLICE("X-Amz-Server-Side-Encryption"), DG_SLICE("aws:kms")};
  const struct dg_pair odd = {DG_SLICE("authorization"), DG_SLICE("x")};
  g_autoptr(GPtrArray) pairs = g_ptr_array_new();
  struct dg_s3 s3 = {0};
  struct dg_s3_request request;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_s3_seal_natively(&s3, &odd, 1, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CONFIG);
  ck_assert_int_eq(dg_s3_seal_natively(&s3, &kms, 1, &err), 0);
  dg_s3_request_init(&request, "PUT", DG_SLICE("b"), DG_SLICE("k"));
  dg_s3_request_meta(&s3, &request, pairs);
  ck_assert_str_eq(request.headers->pdata[0], "x-amz-server-side-encryption");
  ck_assert_str_eq(request.headers->pdata[1], "aws:kms");
  ck_assert_str_eq(request.headers->pdata[2], "content-type");
  dg_s3_request_clear(&request);
  g_ptr_array_unref(s3.seal_headers);
}
END_TEST

START_TEST(refusals_have_their_meaning)
{
  static const struct {
    const struct dg_s3_request *request;
    long status;
    const char *body;
    enum dg_s3_verdict verdict;
    int32_t code;
  } rows[] = {
    {&get_object, 200, "", DG_S3_GOOD, DG_E_OK},
    {&get_object, 404, "", DG_S3_FINAL, DG_E_NO_SUCH_KEY},
    {&get_object, 404, ERROR("NoSuchBucket"), DG_S3_FINAL, DG_E_NO_SUCH_BUCKET},
    {&head_bucket, 404, "", DG_S3_FINAL, DG_E_NO_SUCH_BUCKET},
    {&get_object, 403, ERROR("AccessDenied"), DG_S3_FINAL, DG_E_BACKEND_DENIED},
    {&get_object, 403, "", DG_S3_FINAL, DG_E_BACKEND_DENIED},
    {&get_object, 401, "", DG_S3_FINAL, DG_E_BACKEND_DENIED},
    {&get_object, 403, ERROR("SignatureDoesNotMatch"), DG_S3_FINAL, DG_E_BACKEND_DENIED},
    {&put_object, 400, ERROR("ExpiredToken"), DG_S3_FINAL, DG_E_BACKEND_DENIED},
    {&late_put, 403, ERROR("AccessDenied"), DG_S3_FINAL, DG_E_UNAVAILABLE},
    {&timely_put, 403, ERROR("AccessDenied"), DG_S3_FINAL, DG_E_BACKEND_DENIED},
    {&put_bucket, 409, ERROR("BucketAlreadyExists"), DG_S3_FINAL, DG_E_BUCKET_TAKEN},
    {&put_bucket, 409, ERROR("BucketAlreadyOwnedByYou"), DG_S3_FINAL, DG_E_BUCKET_EXISTS},
    {&get_object, 503, "", DG_S3_THROTTLED, DG_E_SLOW_DOWN},
    {&get_object, 429, "busy", DG_S3_THROTTLED, DG_E_SLOW_DOWN},
    {&get_object, 400, ERROR("SlowDown"), DG_S3_THROTTLED, DG_E_SLOW_DOWN},
    {&get_object, 500, ERROR("InternalError"), DG_S3_BROKEN, DG_E_UNAVAILABLE},
    {&get_object, 502, "<html>", DG_S3_BROKEN, DG_E_UNAVAILABLE},
    {&get_object, 400, "", DG_S3_FINAL, DG_E_INTERNAL},
    {&put_object, 400, "", DG_S3_ODD, DG_E_INTERNAL},
    {&put_object, 400, ERROR("Odd"), DG_S3_ODD, DG_E_INTERNAL},
    {&put_object, 400, ERROR("KMS.DisabledException"), DG_S3_FINAL, DG_E_KMS_DISABLED},
    {&put_object, 404, ERROR("KMS.NotFoundException"), DG_S3_FINAL, DG_E_KMS_NOT_FOUND},
    {&get_object, 400, ERROR("KMS.AccessDeniedException"), DG_S3_FINAL, DG_E_KMS_DENIED},
    {&put_object, 400, ERROR("KMS.KMSInvalidStateException"), DG_S3_FINAL, DG_E_KMS_UNUSABLE},
    {&get_object, 400, ERROR("KMS.Whatever"), DG_S3_FINAL, DG_E_KMS_UNUSABLE},
    {&put_object, 400, ERROR("KMS.ThrottlingException"), DG_S3_THROTTLED, DG_E_SLOW_DOWN},
    {&put_object, 500, ERROR("KMS.InternalException"), DG_S3_ODD, DG_E_UNAVAILABLE},
    {&put_object, 400, ERROR("InvalidArgument"), DG_S3_FINAL, DG_E_INTERNAL},
    {&put_object, 400, ERROR("BadDigest"), DG_S3_BROKEN, DG_E_IO},
    {&put_object, 200, ERROR("InternalError"), DG_S3_BROKEN, DG_E_UNAVAILABLE},
    {&put_object, 200, ERROR("Whatever"), DG_S3_BROKEN, DG_E_INTERNAL},
    {&get_object, 416, ERROR("InvalidRange"), DG_S3_FINAL, DG_E_INVALID_RANGE},
    {&get_object, 412, "", DG_S3_FINAL, DG_E_PRECONDITION_FAILED},
    {&put_object, 507, "", DG_S3_FINAL, DG_E_NO_SPACE},
    {&get_object, 301, ERROR("PermanentRedirect"), DG_S3_FINAL, DG_E_UNAVAILABLE},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    struct dg_error err;
    enum dg_s3_verdict verdict =
      judged(rows[i].request, CURLE_OK, rows[i].status, rows[i].body, &err);

    ck_assert_msg(verdict == rows[i].verdict && err.code == rows[i].code,
                  "row %zu: verdict %d, code %d: %s", i, (int)verdict, err.code, err.detail);
  }
}
END_TEST

START_TEST(a_refused_key_is_named_to_the_operator)
{
  const struct dg_pair pairs[] = {
    {DG_SLICE("x-amz-server-side-encryption"), DG_SLICE("aws:kms")},
    {DG_SLICE("x-amz-server-side-encryption-aws-kms-key-id"), DG_SLICE("alias/releases")}};
  static const char denial[] =
    "<Error><Code>AccessDenied</Code><Message>User: arn:aws:sts::123456789012:assumed-role/a-role-of-"
    "ours/session-0123456789 is not authorized to perform: kms:GenerateDataKey on the resource "
    "</Message></Error>";
  struct dg_s3 s3 = {.name = (char *)(uintptr_t) "cheap"};
  struct dg_s3_answer answer = {0};
  struct dg_error err = {0};

  ck_assert_int_eq(dg_s3_seal_natively(&s3, pairs, 2, &err), 0);
  dg_s3_answer_init(&answer);
  answer.status = 403;
  g_string_assign(answer.body, denial);
  ck_assert_int_eq(dg_s3_judge(&put_object, CURLE_OK, &answer), DG_S3_FINAL);
  (void)dg_s3_fail(&s3, &put_object, DG_S3_FINAL, CURLE_OK, "", &answer, &err);
  ck_assert_int_eq(err.code, DG_E_KMS_DENIED);
  ck_assert_msg(strstr(err.detail, "backend 'cheap': key 'alias/releases': ") &&
                  strstr(err.detail, "403 AccessDenied"),
                "%s", err.detail);
  dg_s3_answer_clear(&answer);
  g_ptr_array_unref(s3.seal_headers);
}
END_TEST

START_TEST(an_unexplained_refusal_is_repeated_and_no_sign_of_an_outage)
{
  struct dg_s3 s3 = {.governor = dg_s3_governor_new(100)};

  ck_assert(dg_s3_may_repeat(DG_S3_REPEAT, DG_S3_ODD));
  ck_assert(dg_s3_may_repeat(DG_S3_REPEAT_IF_REFUSED, DG_S3_ODD));
  ck_assert(!dg_s3_may_repeat(DG_S3_ONCE, DG_S3_ODD));
  for (int i = 0; i < 100; i++) {
    ck_assert_int_eq(dg_s3_governor_enter(s3.governor, 1000), DG_S3_GO);
    dg_s3_leave(&s3, DG_S3_ODD);
  }
  ck_assert_int_eq(dg_s3_governor_enter(s3.governor, 1000), DG_S3_GO);
  dg_s3_governor_free(s3.governor);
}
END_TEST

START_TEST(a_lost_answer_is_not_a_refusal)
{
  struct dg_error err;

  ck_assert_int_eq(judged(&put_object, CURLE_COULDNT_CONNECT, 0, "", &err), DG_S3_AWAY);
  ck_assert_int_eq(err.code, DG_E_UNAVAILABLE);
  ck_assert_int_eq(judged(&put_object, CURLE_RECV_ERROR, 0, "", &err), DG_S3_LOST);
  ck_assert_int_eq(err.code, DG_E_UNAVAILABLE);
  ck_assert_int_eq(judged(&put_object, CURLE_OPERATION_TIMEDOUT, 0, "", &err), DG_S3_LOST);
  ck_assert_int_eq(err.code, DG_E_TIMEOUT);
  ck_assert_int_eq(judged(&get_object, CURLE_PARTIAL_FILE, 200, "", &err), DG_S3_LOST);
  ck_assert_int_eq(err.code, DG_E_IO);
  /* refused while we still sent */
  ck_assert_int_eq(judged(&put_object, CURLE_SEND_ERROR, 403, "", &err), DG_S3_FINAL);
  ck_assert(dg_s3_may_repeat(DG_S3_REPEAT, DG_S3_LOST));
  ck_assert(!dg_s3_may_repeat(DG_S3_REPEAT_IF_REFUSED, DG_S3_LOST));
  ck_assert(dg_s3_may_repeat(DG_S3_REPEAT_IF_REFUSED, DG_S3_BROKEN));
  ck_assert(!dg_s3_may_repeat(DG_S3_REPEAT, DG_S3_FINAL));
  ck_assert(!dg_s3_may_repeat(DG_S3_ONCE, DG_S3_LOST));
  ck_assert(!dg_s3_may_repeat(DG_S3_ONCE, DG_S3_BROKEN));
  ck_assert(dg_s3_may_repeat(DG_S3_ONCE, DG_S3_AWAY));
}
END_TEST

START_TEST(waits_are_jittered_bounded_and_obey_retry_after)
{
  ck_assert_uint_eq(dg_s3_backoff_ms(1, 0, 0), 0);
  for (uint32_t attempt = 1; attempt < 40; attempt++)
    for (uint32_t random = 0; random < 20000; random += 7)
      ck_assert_uint_le(dg_s3_backoff_ms(attempt, 0, random), 5000);
  ck_assert_uint_le(dg_s3_backoff_ms(1, 0, UINT32_MAX), 100);
  ck_assert_uint_ge(dg_s3_backoff_ms(1, 3, 0), 3000);
}
END_TEST

START_TEST(heads_are_read_without_regard_to_case)
{
  struct dg_s3_answer answer = {0};

  dg_s3_answer_init(&answer);
  dg_s3_answer_line(&answer, DG_SLICE("HTTP/1.1 100 Continue\r\n"));
  dg_s3_answer_line(&answer, DG_SLICE("x-amz-meta-stale: x\r\n"));
  dg_s3_answer_line(&answer, DG_SLICE("HTTP/1.1 206 Partial Content\r\n"));
  dg_s3_answer_line(&answer, DG_SLICE("CONTENT-RANGE: bytes 3-6/17\r\n"));
  dg_s3_answer_line(&answer, DG_SLICE("content-length:4\r\n"));
  dg_s3_answer_line(&answer, DG_SLICE("ETAG: W/\"abc\"\r\n"));
  dg_s3_answer_line(&answer, DG_SLICE("X-Amz-Meta-Dg-Tool:  t \r\n"));
  dg_s3_answer_line(&answer, DG_SLICE("Retry-After: 7\r\n"));
  ck_assert_int_eq(answer.status, 206);
  ck_assert_uint_eq(answer.total_length, 17);
  ck_assert_uint_eq(answer.content_length, 4);
  ck_assert_str_eq(answer.etag, "abc");
  ck_assert_uint_eq(answer.retry_after_s, 7);
  ck_assert_uint_eq(answer.meta->len, 2);
  ck_assert_str_eq(answer.meta->pdata[0], "dg-tool");
  ck_assert_str_eq(answer.meta->pdata[1], "t");
  dg_s3_answer_clear(&answer);
}
END_TEST

/* ---- XML ---------------------------------------------------------------------------------- */

START_TEST(a_page_is_sorted_and_decoded)
{
  static const char document[] =
    "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
    "<Name>b</Name><Prefix>p</Prefix><IsTruncated>true</IsTruncated>"
    "<NextContinuationToken>tok&amp;en</NextContinuationToken>"
    "<Contents><Key>b%01+c</Key><Size>5</Size><ETag>&quot;e1&quot;</ETag>"
    "<LastModified>2026-01-02T03:04:05.678Z</LastModified>"
    "<Owner><ID>x</ID><DisplayName>Key</DisplayName></Owner></Contents>"
    "<CommonPrefixes><Prefix>a%2F</Prefix></CommonPrefixes>"
    "<EncodingType>url</EncodingType></ListBucketResult>";
  struct dg_s3_page page = {0};
  struct dg_error err = {0};
  const struct dg_s3_entry *entry;

  ck_assert_msg(dg_s3_xml_page(dg_slice_str(document), &page, &err) == 0, "%s", err.detail);
  ck_assert(page.truncated);
  ck_assert_str_eq(page.token, "tok&en");
  ck_assert_uint_eq(page.entries->len, 2);
  entry = &g_array_index(page.entries, struct dg_s3_entry, 0);
  ck_assert(entry->is_prefix);
  ck_assert_str_eq(entry->name, "a/");
  entry = &g_array_index(page.entries, struct dg_s3_entry, 1);
  ck_assert_str_eq(entry->name, "b\x01 c");
  ck_assert_uint_eq(entry->size, 5);
  ck_assert_str_eq(entry->etag, "e1");
  ck_assert_int_eq(entry->modified_s, 1767323045);
  dg_s3_page_clear(&page);
}
END_TEST

START_TEST(nonsense_is_no_empty_listing)
{
  static const char *const documents[] = {
    "", "<html/>", "<ListBucketResult>", "hello",
    "<ListBucketResult><Contents><Key>a</Key><Size>x</Size></Contents></ListBucketResult>",
    "<ListBucketResult><Contents><Key>%</Key></Contents><EncodingType>url</EncodingType>"
    "</ListBucketResult>"};

  for (size_t i = 0; i < G_N_ELEMENTS(documents); i++) {
    struct dg_s3_page page = {0};
    struct dg_error err = {0};

    ck_assert_msg(dg_s3_xml_page(dg_slice_str(documents[i]), &page, &err) < 0, "%s", documents[i]);
    ck_assert_int_eq(err.code, DG_E_IO);
  }
}
END_TEST

/* ---- Restraint ------------------------------------------------------------------------------ */

START_TEST(the_breaker_opens_probes_and_closes)
{
  struct dg_s3_governor *governor = dg_s3_governor_new(100);
  int change = 0;
  uint64_t now = 1000;

  for (int i = 0; i < 100 && change == 0; i++) {
    ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
    change = dg_s3_governor_leave(governor, now, DG_S3_FAILED);
  }
  ck_assert_int_eq(change, 1);
  ck_assert_int_eq(dg_s3_governor_enter(governor, now + 1), DG_S3_SHUT);
  /* one probe, and no second beside it */
  now += 60000;
  ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
  ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_SHUT);
  ck_assert_int_eq(dg_s3_governor_leave(governor, now, DG_S3_FAILED), 1);
  ck_assert_int_eq(dg_s3_governor_enter(governor, now + 1), DG_S3_SHUT);
  now += 60000;
  ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
  ck_assert_int_eq(dg_s3_governor_leave(governor, now, DG_S3_NO_WORD), 0);
  ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
  ck_assert_int_eq(dg_s3_governor_leave(governor, now, DG_S3_DONE), -1);
  ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
  ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
  dg_s3_governor_free(governor);
}
END_TEST

START_TEST(a_probe_passes_an_open_breaker_and_its_success_closes_it)
{
  struct dg_s3_governor *governor = dg_s3_governor_new(1);

  for (int i = 0; i < 10; i++) {
    ck_assert_int_eq(dg_s3_governor_enter(governor, 1000), DG_S3_GO);
    ck_assert_int_eq(dg_s3_governor_leave(governor, 1000, DG_S3_FAILED), i == 9);
  }
  ck_assert_int_eq(dg_s3_governor_enter(governor, 1001), DG_S3_SHUT);
  ck_assert_int_eq(dg_s3_governor_knock(governor), DG_S3_GO);
  ck_assert_int_eq(dg_s3_governor_enter(governor, 1001), DG_S3_SHUT);
  ck_assert_int_eq(dg_s3_governor_leave(governor, 1001, DG_S3_NO_WORD), 0);
  ck_assert_int_eq(dg_s3_governor_enter(governor, 1001), DG_S3_SHUT);
  ck_assert_int_eq(dg_s3_governor_knock(governor), DG_S3_GO);
  ck_assert_int_eq(dg_s3_governor_leave(governor, 1002, DG_S3_DONE), -1);
  ck_assert_int_eq(dg_s3_governor_enter(governor, 1002), DG_S3_GO);
  /* all that is allowed is under way */
  ck_assert_int_eq(dg_s3_governor_enter(governor, 1002), DG_S3_FULL);
  ck_assert_int_eq(dg_s3_governor_knock(governor), DG_S3_GO);
  dg_s3_governor_free(governor);
}
END_TEST

START_TEST(one_success_between_failures_keeps_the_breaker_closed)
{
  struct dg_s3_governor *governor = dg_s3_governor_new(100);

  for (int i = 0; i < 200; i++) {
    ck_assert_int_eq(dg_s3_governor_enter(governor, 1000), DG_S3_GO);
    ck_assert_int_eq(
      dg_s3_governor_leave(governor, 1000, i % 5 ? DG_S3_FAILED : DG_S3_DONE), 0);
  }
  dg_s3_governor_free(governor);
}
END_TEST

START_TEST(the_limit_shrinks_while_slowed_and_grows_again)
{
  struct dg_s3_governor *governor = dg_s3_governor_new(64);
  uint64_t now = 1000;
  uint32_t least;

  for (int wave = 0; wave < 20; wave++, now += 1000) {
    ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
    (void)dg_s3_governor_leave(governor, now, DG_S3_SLOWED);
  }
  least = dg_s3_governor_limit(governor);
  ck_assert_uint_ge(least, 1);
  ck_assert_uint_le(least, 4);
  for (uint32_t i = 0; i < least; i++)
    ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
  ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_FULL);
  for (uint32_t i = 0; i < least; i++)
    (void)dg_s3_governor_leave(governor, now, DG_S3_DONE);
  for (int i = 0; i < 5000; i++) {
    ck_assert_int_eq(dg_s3_governor_enter(governor, now), DG_S3_GO);
    (void)dg_s3_governor_leave(governor, now, DG_S3_DONE);
  }
  ck_assert_uint_eq(dg_s3_governor_limit(governor), 64);
  dg_s3_governor_free(governor);
}
END_TEST

START_TEST(ten_thousand_parts_are_always_enough)
{
  const uint64_t mib = 1 << 20, tib = UINT64_C(1) << 40;
  static const uint64_t lengths[] = {1, 16 << 20, (UINT64_C(160) << 30) + 1, UINT64_C(5) << 40};

  for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
    uint64_t size = dg_s3_part_size(lengths[i], 16 * mib);

    ck_assert_uint_ge(size, 16 * mib);
    ck_assert_uint_le((lengths[i] + size - 1) / size, 10000);
  }
  ck_assert_uint_eq(dg_s3_part_size(tib / 1024, 16 * mib), 16 * mib);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-s3-wire");
  TCase *all = tcase_create("all");
  SRunner *runner;
  int failed;

  tcase_add_test(all, buckets_stand_in_the_path_or_in_the_host);
  tcase_add_test(all, endpoints_that_are_not_public_must_be_meant);
  tcase_add_test(all, endpoints_that_make_no_sense_are_refused);
  tcase_add_test(all, addresses_are_judged_when_they_are_connected_to);
  tcase_add_test(all, requests_are_signed_as_aws_documents);
  tcase_add_test(all, signatures_with_an_end_stand_in_the_query);
  tcase_add_test(all, without_credentials_nothing_is_signed);
  tcase_add_test(all, what_stores_an_object_says_how_to_encrypt_it);
  tcase_add_test(all, refusals_have_their_meaning);
  tcase_add_test(all, a_refused_key_is_named_to_the_operator);
  tcase_add_test(all, an_unexplained_refusal_is_repeated_and_no_sign_of_an_outage);
  tcase_add_test(all, a_lost_answer_is_not_a_refusal);
  tcase_add_test(all, waits_are_jittered_bounded_and_obey_retry_after);
  tcase_add_test(all, heads_are_read_without_regard_to_case);
  tcase_add_test(all, a_page_is_sorted_and_decoded);
  tcase_add_test(all, nonsense_is_no_empty_listing);
  tcase_add_test(all, the_breaker_opens_probes_and_closes);
  tcase_add_test(all, a_probe_passes_an_open_breaker_and_its_success_closes_it);
  tcase_add_test(all, one_success_between_failures_keeps_the_breaker_closed);
  tcase_add_test(all, the_limit_shrinks_while_slowed_and_grows_again);
  tcase_add_test(all, ten_thousand_parts_are_always_enough);
  suite_add_tcase(suite, all);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
