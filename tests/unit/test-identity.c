/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/identity.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/hex.h"
#include "common/slice.h"
#include "core/access/client.h"
#include "core/access/credentials.h"
#include "core/access/limiter.h"
#include "core/access/replay.h"
#include "request-text.h"

#define KEY    "AKIAIOSFODNN7EXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SCOPE  KEY "/20130524/us-east-1/s3/aws4_request"
#define DAY    INT64_C(1369353600) /* 2013-05-24T00:00:00Z */

static const char *const virtual_hosts[] = {"s3.amazonaws.com", NULL};

static struct dg_access_params standard_params(void)
{
  return (struct dg_access_params){.replay_window_s = 2, .lockout_failures = 100};
}

static struct dg_credentials *standard_credentials(void)
{
  struct dg_credentials *credentials = dg_credentials_new();

  dg_credentials_add(credentials, KEY, SECRET);
  return credentials;
}

/* Verifies a head; returns the error code, 0 for success. */
static int32_t verify_as(struct dg_access *access, struct dg_credentials *credentials,
                         const char *head, int64_t now_s, struct dg_identity *ret_identity)
{
  struct request_text r;
  struct dg_target target = {0};
  struct dg_error err = {0};
  int32_t code = 0;

  request_text_init(&r, head);
  if (dg_target_parse(&r.request, virtual_hosts, &target, &err) < 0 ||
      dg_identity_verify(access, credentials, &r.request, &target, now_s, ret_identity, &err) < 0)
    code = err.code;
  dg_target_clear(&target);
  request_text_clear(&r);
  return code;
}

static int32_t verify_with(struct dg_access *access, const char *head, int64_t now_s,
                           struct dg_identity *ret_identity)
{
  struct dg_credentials *credentials = standard_credentials();
  int32_t code = verify_as(access, credentials, head, now_s, ret_identity);

  dg_credentials_unref(credentials);
  return code;
}

static int32_t verify(const char *head, int64_t now_s, struct dg_identity *ret_identity)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  int32_t code = verify_with(access, head, now_s, ret_identity);

  dg_access_free(access);
  return code;
}

/* ---- The examples of Amazon's own documentation ---------------------------------- */

#define AUTH(headers, signature)                                                       \
  "Authorization: AWS4-HMAC-SHA256 Credential=" SCOPE ",SignedHeaders=" headers \
  ",Signature=" signature "\n"

static const char get_object[] =
    "GET /test.txt HTTP/1.1\n"
    "Host: examplebucket.s3.amazonaws.com\n"
    AUTH("host;range;x-amz-content-sha256;x-amz-date",
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
    "Range: bytes=0-9\n"
    "x-amz-content-sha256:" DG_SHA256_EMPTY_HEX "\n"
    "x-amz-date: 20130524T000000Z\n";

static const char put_object[] =
    "PUT /test%24file.text HTTP/1.1\n"
    "Host: examplebucket.s3.amazonaws.com\n"
    "Date: Fri, 24 May 2013 00:00:00 GMT\n"
    AUTH("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")
    "x-amz-date: 20130524T000000Z\n"
    "x-amz-storage-class: REDUCED_REDUNDANCY\n"
    "x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\n";

static const char presigned[] =
    "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\n"
    "Host: examplebucket.s3.amazonaws.com\n";

START_TEST(the_documented_examples_verify)
{
  static const char *const heads[] = {
      get_object, put_object,
      "GET /?lifecycle HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\n"
      AUTH("host;x-amz-content-sha256;x-amz-date",
           "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")
      "x-amz-date: 20130524T000000Z\nx-amz-content-sha256:" DG_SHA256_EMPTY_HEX "\n",
      "GET /?max-keys=2&prefix=J HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\n"
      AUTH("host;x-amz-content-sha256;x-amz-date",
           "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
      "x-amz-date: 20130524T000000Z\nx-amz-content-sha256:" DG_SHA256_EMPTY_HEX "\n",
      presigned};

  for (size_t i = 0; i < G_N_ELEMENTS(heads); i++) {
    struct dg_identity identity;

    ck_assert_msg(verify(heads[i], DAY + 10, &identity) == 0, "example %zu", i);
    ck_assert_int_eq(identity.kind, DG_IDENTITY_USER);
    ck_assert_str_eq(identity.access_key, KEY);
    ck_assert_ptr_null(identity.failure);
  }
}
END_TEST

START_TEST(a_changed_byte_anywhere_is_refused)
{
  struct dg_identity identity;
  size_t refused = 0;

  for (size_t i = 0; i < sizeof presigned - 1; i++) {
    g_autofree char *head = g_strdup(presigned);

    /* The version and the end of lines are not signed; a host in capitals stays
     * the same name but is signed text. */
    if (head[i] == '\n' || head[i] == ' ' || (head[i] == ':') ||
        strstr(head + i, "HTTP/1.1") == NULL || g_str_has_prefix(head + i, "HTTP"))
      continue;
    head[i] = head[i] == 'b' ? 'c' : 'b';
    if (strchr(head, ' ') && strstr(head, " HTTP/1.1")) {
      ck_assert_msg(verify(head, DAY + 10, &identity) != 0, "byte %zu: %s", i, head);
      refused++;
    }
  }
  ck_assert_uint_gt(refused, 200);
}
END_TEST

START_TEST(an_upper_case_signature_is_the_same_signature)
{
  struct dg_identity identity;
  g_autofree char *head = g_strdup(presigned);

  for (char *p = strstr(head, "Signature=aeee") + 10; *p != ' '; p++)
    *p = g_ascii_toupper(*p);
  ck_assert_int_eq(verify(head, DAY + 10, &identity), 0);
}
END_TEST

START_TEST(a_clock_too_far_off_is_refused)
{
  struct dg_identity identity;

  ck_assert_int_eq(verify(get_object, DAY + 300, &identity), 0);
  ck_assert_int_eq(verify(get_object, DAY - 300, &identity), 0);
  ck_assert_int_eq(verify(get_object, DAY + 301, &identity), DG_E_TIME_SKEWED);
  ck_assert_int_eq(verify(get_object, DAY - 301, &identity), DG_E_TIME_SKEWED);
}
END_TEST

START_TEST(a_presigned_url_ends_when_it_says_so)
{
  struct dg_identity identity;

  ck_assert_int_eq(verify(presigned, DAY + 86400, &identity), 0);
  ck_assert_int_eq(verify(presigned, DAY + 86401, &identity), DG_E_EXPIRED_TOKEN);
  ck_assert_str_eq(identity.failure, "invalid_presigned");
  ck_assert_int_eq(verify(presigned, DAY - 301, &identity), DG_E_ACCESS_DENIED);
}
END_TEST

START_TEST(expires_must_be_a_number_up_to_a_week)
{
  static const char *const values[] = {"0", "604801", "-1", "abc", "", "99999999999999999999999"};

  for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
    struct dg_identity identity;
    g_autofree char *with = g_strdup_printf("X-Amz-Expires=%s&", values[i]);
    g_autoptr(GString) head = g_string_new(presigned);

    g_string_replace(head, "X-Amz-Expires=86400&", with, 0);
    ck_assert_int_eq(verify(head->str, DAY + 10, &identity), DG_E_AUTH_QUERY);
  }
}
END_TEST

START_TEST(a_query_parameter_of_the_signature_may_not_stand_twice)
{
  struct dg_identity identity;
  g_autoptr(GString) head = g_string_new(presigned);

  g_string_replace(head, "X-Amz-Expires=86400", "X-Amz-Expires=86400&X-Amz-Expires=604800", 0);
  ck_assert_int_eq(verify(head->str, DAY + 10, &identity), DG_E_AUTH_QUERY);
}
END_TEST

START_TEST(two_mechanisms_at_once_are_refused)
{
  struct dg_identity identity;
  g_autofree char *head =
      g_strconcat(presigned, strstr(get_object, "Authorization"), NULL);

  ck_assert_int_eq(verify(head, DAY + 10, &identity), DG_E_INVALID_ARGUMENT);
}
END_TEST

START_TEST(signature_version_2_is_named_as_unsupported)
{
  struct dg_identity identity;

  ck_assert_int_eq(verify("GET /b/k HTTP/1.1\nHost: h\nAuthorization: AWS " KEY ":abc=\n", DAY,
                          &identity),
                   DG_E_INVALID_REQUEST);
  ck_assert_int_eq(verify("GET /b/k?AWSAccessKeyId=" KEY "&Expires=1&Signature=x HTTP/1.1\n"
                          "Host: h\n",
                          DAY, &identity),
                   DG_E_INVALID_REQUEST);
}
END_TEST

START_TEST(an_unknown_key_is_denied_like_no_key)
{
  struct dg_identity identity;
  g_autoptr(GString) head = g_string_new(get_object);

  g_string_replace(head, KEY, "AKIAIOSFODNN7EXAMPLF", 0);
  ck_assert_int_eq(verify(head->str, DAY, &identity), DG_E_ACCESS_DENIED);
  ck_assert_str_eq(identity.failure, "invalid_access_key");
  ck_assert_int_eq(verify("GET /b/k HTTP/1.1\nHost: h\n", DAY, &identity), DG_E_ACCESS_DENIED);
  ck_assert_str_eq(identity.failure, "missing_header");
}
END_TEST

START_TEST(options_head_root_and_forms_pass_unsigned)
{
  struct dg_identity identity;

  ck_assert_int_eq(verify("OPTIONS /b/k HTTP/1.1\nHost: h\n", DAY, &identity), 0);
  ck_assert_int_eq(identity.kind, DG_IDENTITY_ANONYMOUS);
  ck_assert_int_eq(verify("HEAD / HTTP/1.1\nHost: h\n", DAY, &identity), 0);
  ck_assert_int_eq(verify("POST /b HTTP/1.1\nHost: h\n", DAY, &identity), 0);
  ck_assert_int_eq(verify("POST /b?delete HTTP/1.1\nHost: h\n", DAY, &identity),
                   DG_E_ACCESS_DENIED);
  ck_assert_int_eq(verify("GET / HTTP/1.1\nHost: h\n", DAY, &identity), DG_E_ACCESS_DENIED);
}
END_TEST

START_TEST(an_unsigned_amz_header_is_refused)
{
  struct dg_identity identity;
  g_autofree char *head = g_strconcat(get_object, "X-Amz-Acl: public-read\n", NULL);
  g_autofree char *query_head = g_strconcat(presigned, "x-amz-meta-a: b\n", NULL);

  ck_assert_int_eq(verify(head, DAY, &identity), DG_E_SIGNATURE_MISMATCH);
  ck_assert_int_eq(verify(query_head, DAY, &identity), DG_E_SIGNATURE_MISMATCH);
}
END_TEST

START_TEST(host_must_be_signed)
{
  struct dg_identity identity;
  g_autoptr(GString) head = g_string_new(get_object);

  g_string_replace(head, "SignedHeaders=host;", "SignedHeaders=", 0);
  ck_assert_int_eq(verify(head->str, DAY, &identity), DG_E_SIGNATURE_MISMATCH);
}
END_TEST

START_TEST(malformed_authorization_headers_are_told_apart_from_wrong_ones)
{
  static const struct {
    const char *from, *to;
    int32_t code;
  } cases[] = {
      {"Credential=" SCOPE, "Credential=" KEY, DG_E_AUTH_MALFORMED},
      {"20130524/us-east-1", "2013052x/us-east-1", DG_E_AUTH_MALFORMED},
      {"20130524/us-east-1", "20130525/us-east-1", DG_E_AUTH_MALFORMED},
      {"/s3/", "/iam/", DG_E_AUTH_MALFORMED},
      {"aws4_request", "aws5_request", DG_E_AUTH_MALFORMED},
      {"Signature=f0", "Signature=xx", DG_E_AUTH_MALFORMED},
      {",Signature=", ",Signature=1,Signature=", DG_E_AUTH_MALFORMED},
      {",Signature=", ",Foo=", DG_E_AUTH_MALFORMED},
      {"SignedHeaders=host", "SignedHeaders=Host", DG_E_AUTH_MALFORMED},
      {"x-amz-date: 20130524T000000Z", "x-amz-date: yesterday", DG_E_AUTH_MALFORMED},
      {"x-amz-date: 20130524T000000Z", "x-other: 1", DG_E_AUTH_MALFORMED},
      {"AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 ", DG_E_INVALID_REQUEST},
      {"us-east-1", "mars-north-7", DG_E_SIGNATURE_MISMATCH},
      {"x-amz-content-sha256:", "x-other:", DG_E_INVALID_REQUEST},
      {"x-amz-content-sha256:" DG_SHA256_EMPTY_HEX, "x-amz-content-sha256:abc",
       DG_E_INVALID_ARGUMENT},
      {"x-amz-content-sha256:" DG_SHA256_EMPTY_HEX,
       "x-amz-content-sha256:STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", DG_E_NOT_IMPLEMENTED},
      {"Range: bytes=0-9", "Range: bytes=0-8", DG_E_SIGNATURE_MISMATCH},
      {"GET ", "PUT ", DG_E_SIGNATURE_MISMATCH},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct dg_identity identity;
    g_autoptr(GString) head = g_string_new(get_object);

    ck_assert_uint_ge(g_string_replace(head, cases[i].from, cases[i].to, 0), 1);
    ck_assert_msg(verify(head->str, DAY, &identity) == cases[i].code, "case %zu", i);
  }
}
END_TEST

START_TEST(a_repeated_mutation_is_a_replay_and_a_repeated_read_is_not)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  struct dg_identity identity;

  ck_assert_int_eq(verify_with(access, put_object, DAY, &identity), 0);
  ck_assert_int_eq(verify_with(access, put_object, DAY + 1, &identity), DG_E_REPLAY);
  ck_assert_str_eq(identity.failure, "replay");
  ck_assert_int_eq(verify_with(access, put_object, DAY + 5, &identity), 0);
  ck_assert_int_eq(verify_with(access, get_object, DAY, &identity), 0);
  ck_assert_int_eq(verify_with(access, get_object, DAY, &identity), 0);
  dg_access_free(access);
}
END_TEST

START_TEST(a_wrong_signature_is_not_remembered_as_seen)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  struct dg_identity identity;
  g_autoptr(GString) wrong = g_string_new(put_object);

  g_string_replace(wrong, "REDUCED_REDUNDANCY", "STANDARD", 0);
  ck_assert_int_eq(verify_with(access, wrong->str, DAY, &identity), DG_E_SIGNATURE_MISMATCH);
  ck_assert_int_eq(verify_with(access, put_object, DAY, &identity), 0);
  dg_access_free(access);
}
END_TEST

START_TEST(a_hundred_wrong_signatures_lock_that_key_at_that_address)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  struct dg_identity identity;
  g_autoptr(GString) wrong = g_string_new(get_object);

  g_string_replace(wrong, "bytes=0-9", "bytes=0-8", 0);
  for (int i = 0; i < 100; i++)
    ck_assert_int_eq(verify_with(access, wrong->str, DAY, &identity), DG_E_SIGNATURE_MISMATCH);
  ck_assert_int_eq(verify_with(access, get_object, DAY, &identity), DG_E_SLOW_DOWN);
  ck_assert_int_eq(verify_with(access, presigned, DAY + 599, &identity), DG_E_SLOW_DOWN);
  ck_assert_int_eq(verify_with(access, presigned, DAY + 600, &identity), 0);
  dg_access_free(access);
}
END_TEST

/* The code that a request with this signature gets from this address. */
static int32_t verify_from(struct dg_access *access, const char *head, const char *peer)
{
  struct dg_credentials *credentials = standard_credentials();
  struct request_text r;
  struct dg_target target = {0};
  struct dg_identity identity;
  struct dg_error err = {0};

  request_text_init(&r, head);
  g_strlcpy(r.request.peer, peer, sizeof r.request.peer);
  ck_assert_int_eq(dg_target_parse(&r.request, virtual_hosts, &target, &err), 0);
  if (dg_identity_verify(access, credentials, &r.request, &target, DAY, &identity, &err) == 0)
    err.code = 0;
  dg_target_clear(&target);
  request_text_clear(&r);
  dg_credentials_unref(credentials);
  return err.code;
}

START_TEST(an_ipv6_client_is_its_whole_network)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  g_autoptr(GString) wrong = g_string_new(get_object);

  g_string_replace(wrong, "bytes=0-9", "bytes=0-8", 0);
  for (int i = 0; i < 100; i++) {
    g_autofree char *peer = g_strdup_printf("2001:db8:0:1::%x", i + 1);

    ck_assert_int_eq(verify_from(access, wrong->str, peer), DG_E_SIGNATURE_MISMATCH);
  }
  ck_assert_int_eq(verify_from(access, get_object, "2001:db8:0:1:ffff::1"), DG_E_SLOW_DOWN);
  ck_assert_int_eq(verify_from(access, get_object, "2001:db8:0:2::1"), 0);
  ck_assert_int_eq(verify_from(access, get_object, "::ffff:192.0.2.9"), 0);
  dg_access_free(access);
}
END_TEST

START_TEST(unknown_keys_lock_the_address_and_nobody_elses)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  g_autoptr(GString) unknown = g_string_new(get_object);

  g_string_replace(unknown, KEY, "AKIAIOSFODNN7EXAMPLF", 0);
  for (int i = 0; i < 100; i++)
    ck_assert_int_eq(verify_from(access, unknown->str, "192.0.2.7"), DG_E_ACCESS_DENIED);
  ck_assert_int_eq(verify_from(access, get_object, "192.0.2.7"), DG_E_SLOW_DOWN);
  ck_assert_int_eq(verify_from(access, get_object, "192.0.2.8"), 0);
  dg_access_free(access);
}
END_TEST

START_TEST(a_success_forgets_earlier_failures)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  struct dg_identity identity;
  g_autoptr(GString) wrong = g_string_new(get_object);

  g_string_replace(wrong, "bytes=0-9", "bytes=0-8", 0);
  for (int i = 0; i < 150; i++) {
    ck_assert_int_eq(verify_with(access, wrong->str, DAY, &identity), DG_E_SIGNATURE_MISMATCH);
    if (i % 90 == 89)
      ck_assert_int_eq(verify_with(access, get_object, DAY, &identity), 0);
  }
  dg_access_free(access);
}
END_TEST

START_TEST(open_mode_verifies_nothing_but_reads_the_payload_mode)
{
  struct dg_access_params params = {.open = true};
  struct dg_access *access = dg_access_new(&params);
  struct dg_identity identity;

  ck_assert_int_eq(verify_with(access, "GET /b/k HTTP/1.1\nHost: h\n", DAY, &identity), 0);
  ck_assert_int_eq(identity.kind, DG_IDENTITY_OPEN);
  ck_assert_int_eq(identity.payload_mode, DG_PAYLOAD_NONE);
  ck_assert_int_eq(verify_with(access, put_object, DAY + 100000, &identity), 0);
  ck_assert_int_eq(identity.payload_mode, DG_PAYLOAD_SHA256);
  ck_assert_str_eq(identity.access_key, KEY);
  ck_assert_int_eq(verify_with(access,
                               "PUT /b/k HTTP/1.1\nHost: h\n"
                               "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\n",
                               DAY, &identity),
                   0);
  ck_assert_int_eq(identity.payload_mode, DG_PAYLOAD_SIGNED_CHUNKS);
  ck_assert(!identity.signed_chunks);
  ck_assert_int_eq(
      verify_with(access, "PUT /b/k HTTP/1.1\nHost: h\nContent-Encoding: gzip, aws-chunked\n", DAY,
                  &identity),
      0);
  ck_assert_int_eq(identity.payload_mode, DG_PAYLOAD_UNSIGNED_TRAILER);
  dg_access_free(access);
}
END_TEST

START_TEST(no_credentials_configured_means_nobody_gets_in)
{
  struct dg_access_params params = {.open = false};
  struct dg_access *access = dg_access_new(&params);
  struct dg_identity identity;

  for (int empty = 0; empty < 2; empty++) {
    struct dg_credentials *credentials = empty ? dg_credentials_new() : NULL;

    ck_assert_int_eq(verify_as(access, credentials, get_object, DAY, &identity),
                     DG_E_ACCESS_DENIED);
    ck_assert_int_eq(
      verify_as(access, credentials, "GET / HTTP/1.1\nHost: h\n", DAY, &identity),
      DG_E_ACCESS_DENIED);
    dg_credentials_unref(credentials);
  }
  dg_access_free(access);
}
END_TEST

/* Requests signed by botocore, an independent implementation, and a few by
 * clients that sign the path as they spell it. */
START_TEST(requests_signed_by_botocore_verify)
{
  json_error_t error;
  json_t *cases = json_load_file(TEST_DATA "/sigv4-botocore.json", 0, &error), *row;
  size_t i;

  ck_assert_msg(cases != NULL, "%s", error.text);
  ck_assert_uint_gt(json_array_size(cases), 100);
  json_array_foreach(cases, i, row)
  {
    struct dg_identity identity;
    const char *head = json_string_value(json_object_get(row, "head"));
    int64_t now_s = json_integer_value(json_object_get(row, "now"));
    int32_t code = verify(head, now_s, &identity);

    ck_assert_msg(code == 0, "case %zu: error %d for\n%s", i, code, head);
    ck_assert_int_eq(identity.kind, DG_IDENTITY_USER);
  }
  json_decref(cases);
}
END_TEST

START_TEST(a_form_policy_is_verified)
{
  struct dg_credentials *credentials = standard_credentials();
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  struct dg_request request = {.peer = "192.0.2.1"};
  struct dg_identity identity;
  struct dg_error err = {0};
  /* Documented example: SigV4 browser-based upload. */
  struct dg_form_credentials form = {
      .policy = DG_SLICE("eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0"
                         "aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBb"
                         "InN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJw"
                         "dWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDov"
                         "L3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2Fk"
                         "Lmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2Uv"
                         "Il0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7"
                         "IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFy"
                         "dHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRl"
                         "bnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3"
                         "czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEy"
                         "NTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9"),
      .algorithm = DG_SLICE("AWS4-HMAC-SHA256"),
      .credential = DG_SLICE(KEY "/20151229/us-east-1/s3/aws4_request"),
      .date = DG_SLICE("20151229T000000Z"),
      .signature = DG_SLICE("8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"),
  };

  ck_assert_int_eq(
      dg_identity_verify_form(access, credentials, &form, &request, DAY, &identity, &err), 0);
  ck_assert_int_eq(identity.kind, DG_IDENTITY_USER);
  form.policy.len--;
  ck_assert_int_eq(
      dg_identity_verify_form(access, credentials, &form, &request, DAY, &identity, &err), -1);
  ck_assert_int_eq(err.code, DG_E_SIGNATURE_MISMATCH);
  ck_assert_str_eq(identity.failure, "form_post_denied");
  form.signature = DG_SLICE_NONE;
  ck_assert_int_eq(
      dg_identity_verify_form(access, credentials, &form, &request, DAY, &identity, &err), -1);
  ck_assert_int_eq(err.code, DG_E_ACCESS_DENIED);
  dg_credentials_unref(credentials);
  dg_access_free(access);
}
END_TEST

/* ---- Replay memory and limiter by themselves ------------------------------------------ */

static void make_signature(uint32_t number, uint8_t out[32])
{
  memset(out, 0, 32);
  number *= 2654435761u; /* spread over shards and buckets */
  memcpy(out, &number, 4);
  memcpy(out + 4, &number, 4);
}

START_TEST(the_replay_memory_is_bounded_and_forgets_the_oldest)
{
  struct dg_replay *replay = dg_replay_new(10, 16 * 300);
  uint8_t signature[32];

  for (uint32_t i = 0; i < 20000; i++) {
    make_signature(i, signature);
    ck_assert(!dg_replay_seen(replay, signature, 100));
  }
  ck_assert_uint_le(dg_replay_count(replay), 16 * 300);
  make_signature(19999, signature);
  ck_assert(dg_replay_seen(replay, signature, 105));
  make_signature(0, signature);
  ck_assert(!dg_replay_seen(replay, signature, 105));
  make_signature(19999, signature);
  ck_assert(!dg_replay_seen(replay, signature, 111));
  dg_replay_free(replay);
}
END_TEST

START_TEST(a_forgotten_signature_may_come_again)
{
  struct dg_replay *replay = dg_replay_new(10, 1000);
  uint8_t signature[32] = {1, 2, 3}, other[32] = {1, 2, 4};

  dg_replay_forget(replay, signature);
  ck_assert(!dg_replay_seen(replay, signature, 100));
  ck_assert(!dg_replay_seen(replay, other, 100));
  ck_assert(dg_replay_seen(replay, signature, 101));
  dg_replay_forget(replay, signature);
  ck_assert(!dg_replay_seen(replay, signature, 102));
  ck_assert(dg_replay_seen(replay, signature, 103));
  ck_assert(dg_replay_seen(replay, other, 103));
  dg_replay_free(replay);
}
END_TEST

START_TEST(the_replay_memory_survives_a_clock_set_back)
{
  struct dg_replay *replay = dg_replay_new(2, 1000);
  uint8_t signature[32];

  make_signature(1, signature);
  ck_assert(!dg_replay_seen(replay, signature, 1000000));
  ck_assert(!dg_replay_seen(replay, signature, 5));
  ck_assert(dg_replay_seen(replay, signature, 6));
  dg_replay_free(replay);
}
END_TEST

START_TEST(failures_outside_the_window_do_not_add_up)
{
  struct dg_limiter *limiter = dg_limiter_new(3, 300, 600);
  struct dg_slice source = DG_SLICE("10.0.0.1");

  ck_assert_uint_eq(dg_limiter_fail(limiter, source, 0), 1);
  ck_assert_uint_eq(dg_limiter_fail(limiter, source, 299), 2);
  ck_assert_uint_eq(dg_limiter_fail(limiter, source, 300), 1);
  ck_assert_uint_eq(dg_limiter_fail(limiter, source, 301), 2);
  ck_assert(!dg_limiter_locked(limiter, source, 301));
  ck_assert_uint_eq(dg_limiter_fail(limiter, source, 302), 3);
  ck_assert(dg_limiter_locked(limiter, source, 901));
  ck_assert(!dg_limiter_locked(limiter, source, 902));
  ck_assert(!dg_limiter_locked(limiter, DG_SLICE("10.0.0.2"), 400));
  dg_limiter_free(limiter);
}
END_TEST

START_TEST(a_limit_of_none_counts_nothing)
{
  struct dg_limiter *limiter = dg_limiter_new(0, 300, 600);

  for (int i = 0; i < 200; i++)
    ck_assert_uint_eq(dg_limiter_fail(limiter, DG_SLICE("10.0.0.1"), 1), 0);
  ck_assert(!dg_limiter_locked(limiter, DG_SLICE("10.0.0.1"), 1));
  dg_limiter_free(limiter);
}
END_TEST

START_TEST(the_delay_doubles_from_the_eleventh_failure_to_five_seconds)
{
  static const uint32_t want_ms[] = {200, 400, 800, 1600, 3200, 5000, 5000};

  for (uint32_t failures = 0; failures <= 10; failures++)
    ck_assert_uint_eq(dg_limiter_delay_ms(failures), 0);
  for (uint32_t i = 0; i < G_N_ELEMENTS(want_ms); i++)
    ck_assert_uint_eq(dg_limiter_delay_ms(11 + i), want_ms[i]);
  ck_assert_uint_eq(dg_limiter_delay_ms(UINT32_MAX), 5000);
}
END_TEST

START_TEST(wrong_signatures_are_delayed_per_key_and_address_until_a_right_one)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  struct dg_identity identity;
  g_autoptr(GString) wrong = g_string_new(get_object);
  g_autoptr(GString) unknown = g_string_new(get_object);

  g_string_replace(wrong, "bytes=0-9", "bytes=0-8", 0);
  g_string_replace(unknown, KEY, "AKIAIOSFODNN7EXAMPLF", 0);
  for (int i = 1; i <= 12; i++) {
    ck_assert_int_eq(verify_with(access, wrong->str, DAY, &identity), DG_E_SIGNATURE_MISMATCH);
    ck_assert_uint_eq(identity.delay_ms, i == 11 ? 200 : i == 12 ? 400 : 0);
  }
  /* Unknown keys are counted apart, and other addresses too. */
  ck_assert_int_eq(verify_with(access, unknown->str, DAY, &identity), DG_E_ACCESS_DENIED);
  ck_assert_uint_eq(identity.delay_ms, 0);
  ck_assert_int_eq(verify_with(access, get_object, DAY, &identity), 0);
  ck_assert_uint_eq(identity.delay_ms, 0);
  ck_assert_int_eq(verify_with(access, wrong->str, DAY, &identity), DG_E_SIGNATURE_MISMATCH);
  ck_assert_uint_eq(identity.delay_ms, 0);
  dg_access_free(access);
}
END_TEST

START_TEST(the_client_is_the_peer_whatever_headers_say)
{
  struct request_text r;

  request_text_init(&r, "GET / HTTP/1.1\nHost: h\nX-Forwarded-For: 192.0.2.1\n"
                        "X-Real-IP: 192.0.2.2\nForwarded: for=192.0.2.3\n");
  g_strlcpy(r.request.peer, "198.51.100.7", sizeof r.request.peer);
  ck_assert_str_eq(dg_client_address(&r.request), "198.51.100.7");
  g_strlcpy(r.request.peer, "::ffff:198.51.100.7", sizeof r.request.peer);
  ck_assert_str_eq(dg_client_address(&r.request), "198.51.100.7");
  g_strlcpy(r.request.peer, "2001:db8::7", sizeof r.request.peer);
  ck_assert_str_eq(dg_client_address(&r.request), "2001:db8::7");
  request_text_clear(&r);
}
END_TEST

START_TEST(a_flood_of_sources_does_not_free_a_locked_one_easily)
{
  struct dg_limiter *limiter = dg_limiter_new(2, 300, 600);

  (void)dg_limiter_fail(limiter, DG_SLICE("bad"), 1);
  ck_assert_uint_eq(dg_limiter_fail(limiter, DG_SLICE("bad"), 1), 2);
  for (int i = 0; i < 4000; i++) {
    char source[32];
    int len = g_snprintf(source, sizeof source, "10.1.%d.%d", i / 250, i % 250);

    (void)dg_limiter_fail(limiter, dg_slice_of(source, (size_t)len), 2);
  }
  ck_assert(dg_limiter_locked(limiter, DG_SLICE("bad"), 3));
  dg_limiter_free(limiter);
}
END_TEST

/* Several loops share one table: meant for ThreadSanitizer above all. */
static gpointer verify_many(gpointer shared)
{
  g_autoptr(GString) wrong = g_string_new(get_object);
  size_t right = 0;

  g_string_replace(wrong, "bytes=0-9", "bytes=0-8", 0);
  for (int i = 0; i < 300; i++) {
    struct dg_identity identity;

    right += verify_with(shared, i % 2 ? presigned : get_object, DAY, &identity) == 0;
    (void)verify_with(shared, put_object, DAY, &identity);
    if (i % 10 == 0)
      right += verify_with(shared, wrong->str, DAY, &identity) == DG_E_SIGNATURE_MISMATCH;
    dg_identity_clear(&identity);
  }
  return GSIZE_TO_POINTER(right);
}

START_TEST(threads_share_one_table)
{
  struct dg_access_params params = standard_params();
  struct dg_access *access = dg_access_new(&params);
  GThread *threads[4];

  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("verify", verify_many, access);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    ck_assert_uint_eq(GPOINTER_TO_SIZE(g_thread_join(threads[i])), 330);
  dg_access_free(access);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("identity");
  TCase *tc = tcase_create("identity");
  SRunner *runner;
  int failed;

  tcase_add_test(tc, the_documented_examples_verify);
  tcase_add_test(tc, a_changed_byte_anywhere_is_refused);
  tcase_add_test(tc, an_upper_case_signature_is_the_same_signature);
  tcase_add_test(tc, a_clock_too_far_off_is_refused);
  tcase_add_test(tc, a_presigned_url_ends_when_it_says_so);
  tcase_add_test(tc, expires_must_be_a_number_up_to_a_week);
  tcase_add_test(tc, a_query_parameter_of_the_signature_may_not_stand_twice);
  tcase_add_test(tc, two_mechanisms_at_once_are_refused);
  tcase_add_test(tc, signature_version_2_is_named_as_unsupported);
  tcase_add_test(tc, an_unknown_key_is_denied_like_no_key);
  tcase_add_test(tc, options_head_root_and_forms_pass_unsigned);
  tcase_add_test(tc, an_unsigned_amz_header_is_refused);
  tcase_add_test(tc, host_must_be_signed);
  tcase_add_test(tc, malformed_authorization_headers_are_told_apart_from_wrong_ones);
  tcase_add_test(tc, a_repeated_mutation_is_a_replay_and_a_repeated_read_is_not);
  tcase_add_test(tc, a_wrong_signature_is_not_remembered_as_seen);
  tcase_add_test(tc, a_hundred_wrong_signatures_lock_that_key_at_that_address);
  tcase_add_test(tc, an_ipv6_client_is_its_whole_network);
  tcase_add_test(tc, unknown_keys_lock_the_address_and_nobody_elses);
  tcase_add_test(tc, a_success_forgets_earlier_failures);
  tcase_add_test(tc, open_mode_verifies_nothing_but_reads_the_payload_mode);
  tcase_add_test(tc, no_credentials_configured_means_nobody_gets_in);
  tcase_add_test(tc, requests_signed_by_botocore_verify);
  tcase_add_test(tc, a_form_policy_is_verified);
  tcase_add_test(tc, the_replay_memory_is_bounded_and_forgets_the_oldest);
  tcase_add_test(tc, a_forgotten_signature_may_come_again);
  tcase_add_test(tc, the_replay_memory_survives_a_clock_set_back);
  tcase_add_test(tc, failures_outside_the_window_do_not_add_up);
  tcase_add_test(tc, a_limit_of_none_counts_nothing);
  tcase_add_test(tc, the_delay_doubles_from_the_eleventh_failure_to_five_seconds);
  tcase_add_test(tc, wrong_signatures_are_delayed_per_key_and_address_until_a_right_one);
  tcase_add_test(tc, the_client_is_the_peer_whatever_headers_say);
  tcase_add_test(tc, threads_share_one_table);
  tcase_add_test(tc, a_flood_of_sources_does_not_free_a_locked_one_easily);
  suite_add_tcase(suite, tc);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
