/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <check.h>
#include <stdlib.h>

#include "common/checksum.h"
#include "common/slice.h"
#include "common/xmlparse.h"
#include "core/s3/answers.h"
#include "core/s3/bodies.h"
#include "core/s3/conditional.h"
#include "core/s3/errors.h"
#include "core/s3/names.h"
#include "core/s3/range.h"
#include "core/s3/target.h"
#include "request-text.h"

static const char *const domains[] = {"s3.example.com", "example.org", NULL};

/* ---- targets ---------------------------------------------------------------------------- */

/* Parses "METHOD /path" with a host; 0 or the error's code. */
static int32_t parse_target(const char *line, const char *host, struct dg_target *ret_target)
{
  g_autofree char *head = g_strdup_printf("%s HTTP/1.1\nHost: %s\n", line, host);
  struct request_text r;
  struct dg_error err = {0};
  int32_t code = 0;

  request_text_init(&r, head);
  if (dg_target_parse(&r.request, domains, ret_target, &err) < 0)
    code = err.code;
  request_text_clear(&r);
  return code;
}

START_TEST(paths_split_into_bucket_and_key_byte_for_byte)
{
  static const struct {
    const char *path, *host, *bucket, *key;
  } cases[] = {
      {"/", "localhost:9000", "", ""},
      {"/b", "localhost", "b", ""},
      {"/b/", "localhost", "b", ""},
      {"/b/k", "localhost", "b", "k"},
      {"/b//k", "localhost", "b", "/k"},
      {"/b/a//b/../c/./d/", "localhost", "b", "a//b/../c/./d/"},
      {"/b/%2e%2e%2Fx", "localhost", "b", "../x"},
      {"/b/a+b%2Bc%20d", "localhost", "b", "a+b+c d"},
      {"/b/%E6%97%A5", "localhost", "b", "\xE6\x97\xA5"},
      {"/b/%25", "localhost", "b", "%"},
      {"/", "pics.s3.example.com", "pics", ""},
      {"/k", "pics.s3.example.com:9000", "pics", "k"},
      {"//k", "Pics.S3.Example.com", "pics", "/k"},
      {"/k", "a.b.s3.example.com", "a.b", "k"},
      {"/b/k", "s3.example.com", "b", "k"},
      {"/k", "x.example.org", "x", "k"},
      {"/b/k", "xs3.example.com", "b", "k"},
      {"/b/k", "[::1]:9000", "b", "k"},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *line = g_strconcat("GET ", cases[i].path, NULL);
    struct dg_target target;

    ck_assert_msg(parse_target(line, cases[i].host, &target) == 0, "case %zu", i);
    ck_assert_msg(dg_slice_equal_str(target.bucket, cases[i].bucket), "case %zu bucket", i);
    ck_assert_msg(dg_slice_equal_str(target.key, cases[i].key), "case %zu key", i);
    dg_target_clear(&target);
  }
}
END_TEST

START_TEST(bad_escapes_and_nul_bytes_are_refused)
{
  static const char *const lines[] = {"GET /b/%", "GET /b/%2", "GET /b/%zz", "GET /b/a%00b",
                                      "GET /b%00/k", "GET /b?prefix=%", "GET /b?prefix=%00",
                                      "GET /b?%zz=1"};
  struct dg_target target = {0};

  for (size_t i = 0; i < G_N_ELEMENTS(lines); i++)
    ck_assert_int_eq(parse_target(lines[i], "h", &target), DG_E_INVALID_ARGUMENT);
  ck_assert_int_eq(parse_target("GET //k", "h", &target), DG_E_INVALID_BUCKET_NAME);
  ck_assert_ptr_null(target.memory);
}
END_TEST

START_TEST(parameters_decode_and_tell_empty_from_absent)
{
  struct dg_target target;
  g_autoptr(GString) many = g_string_new("GET /b?a");

  ck_assert_int_eq(parse_target("GET /b?prefix=a%2Fb+c&delimiter=&uploads&x=1&x=2", "h", &target),
                   0);
  ck_assert(dg_slice_equal_str(dg_target_param(&target, "prefix"), "a/b c"));
  ck_assert(dg_target_has(&target, "delimiter"));
  ck_assert(dg_slice_present(dg_target_param(&target, "uploads")));
  ck_assert(!dg_slice_present(dg_target_param(&target, "marker")));
  ck_assert(dg_slice_equal_str(dg_target_param(&target, "x"), "1"));
  ck_assert_uint_eq(target.param_count, 5);
  dg_target_clear(&target);
  for (int i = 0; i < 70; i++)
    g_string_append(many, "&a=1");
  ck_assert_int_eq(parse_target(many->str, "h", &target), DG_E_INVALID_ARGUMENT);
}
END_TEST

START_TEST(every_operation_is_found)
{
  static const struct {
    const char *line;
    enum dg_op op;
  } cases[] = {
      {"GET /", DG_OP_LIST_BUCKETS},
      {"HEAD /", DG_OP_HEAD_ROOT},
      {"PUT /", DG_OP_UNKNOWN},
      {"OPTIONS /b/k", DG_OP_OPTIONS},
      {"GET /b", DG_OP_LIST_OBJECTS},
      {"GET /b?list-type=2&prefix=acl", DG_OP_LIST_OBJECTS_V2},
      {"GET /b?location", DG_OP_GET_BUCKET_LOCATION},
      {"GET /b?uploads=", DG_OP_LIST_MULTIPART_UPLOADS},
      {"GET /b?versions", DG_OP_LIST_OBJECT_VERSIONS},
      {"GET /b?lifecycle", DG_OP_GET_BUCKET_LIFECYCLE},
      {"PUT /b", DG_OP_CREATE_BUCKET},
      {"PUT /b?versioning", DG_OP_PUT_BUCKET_VERSIONING},
      {"DELETE /b", DG_OP_DELETE_BUCKET},
      {"DELETE /b?policy", DG_OP_DELETE_BUCKET_POLICY},
      {"HEAD /b", DG_OP_HEAD_BUCKET},
      {"POST /b?delete", DG_OP_DELETE_OBJECTS},
      {"POST /b", DG_OP_POST_OBJECT},
      {"PATCH /b/k", DG_OP_UNKNOWN},
      {"GET /b/k", DG_OP_GET_OBJECT},
      {"GET /b/k?partNumber=1", DG_OP_GET_OBJECT},
      {"GET /b/k?uploadId=x", DG_OP_LIST_PARTS},
      {"GET /b/k?acl", DG_OP_GET_OBJECT_ACL},
      {"GET /b/k?torrent", DG_OP_GET_OBJECT_TORRENT},
      {"HEAD /b/k", DG_OP_HEAD_OBJECT},
      {"PUT /b/k", DG_OP_PUT_OBJECT},
      {"PUT /b/k?partNumber=1&uploadId=x", DG_OP_UPLOAD_PART},
      {"PUT /b/k?tagging", DG_OP_PUT_OBJECT_TAGGING},
      {"DELETE /b/k", DG_OP_DELETE_OBJECT},
      {"DELETE /b/k?uploadId=x", DG_OP_ABORT_MULTIPART_UPLOAD},
      {"POST /b/k?uploads", DG_OP_CREATE_MULTIPART_UPLOAD},
      {"POST /b/k?uploadId=x", DG_OP_COMPLETE_MULTIPART_UPLOAD},
      {"POST /b/k?select&select-type=2", DG_OP_SELECT_OBJECT_CONTENT},
      {"POST /b/k", DG_OP_UNKNOWN},
      {"DELETE /b?metadataTable", DG_OP_UNKNOWN},
      {"PUT /b/k?encryption", DG_OP_UNKNOWN},
      {"DELETE /b/k?legal-hold=", DG_OP_UNKNOWN},
      {"PUT /b/k?x-id=PutObject", DG_OP_PUT_OBJECT},
      {"DELETE /b?Policy&my-own=1", DG_OP_DELETE_BUCKET},
      {"PUT /b/k HTTP/1.1\nx-amz-copy-source: /a/b\nx: y", DG_OP_COPY_OBJECT},
      {"PUT /b/k?uploadId=1 HTTP/1.1\nx-amz-copy-source: /a/b\nx: y", DG_OP_UPLOAD_PART_COPY},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct dg_target target;

    ck_assert_int_eq(parse_target(cases[i].line, "h", &target), 0);
    ck_assert_msg(target.op == cases[i].op, "%s is %s", cases[i].line, dg_op_name(target.op));
    dg_target_clear(&target);
  }
}
END_TEST

/* Above all none that removes or replaces what the client did not name. */
START_TEST(a_subresource_never_falls_through_to_the_bare_operation)
{
  static const char *const names[] = {
      "abac", "accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption",
      "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "location", "logging",
      "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable", "metadataTable",
      "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus",
      "publicAccessBlock", "renameObject", "replication", "requestPayment", "restore", "retention",
      "select", "session", "tagging", "torrent", "uploadId", "uploads", "versioning", "versions",
      "website"};
  static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "DELETE"};
  static const char *const places[] = {"/", "/b", "/b/", "/b/k"};
  static const enum dg_op bare[] = {
      DG_OP_LIST_BUCKETS, DG_OP_HEAD_ROOT,   DG_OP_LIST_OBJECTS, DG_OP_HEAD_BUCKET,
      DG_OP_CREATE_BUCKET, DG_OP_DELETE_BUCKET, DG_OP_POST_OBJECT, DG_OP_GET_OBJECT,
      DG_OP_HEAD_OBJECT,  DG_OP_PUT_OBJECT,  DG_OP_DELETE_OBJECT};

  for (size_t n = 0; n < G_N_ELEMENTS(names); n++)
    for (size_t m = 0; m < G_N_ELEMENTS(methods); m++)
      for (size_t p = 0; p < G_N_ELEMENTS(places); p++) {
        g_autofree char *line =
            g_strdup_printf("%s %s?x-id=1&%s", methods[m], places[p], names[n]);
        struct dg_target target;

        ck_assert_int_eq(parse_target(line, "h", &target), 0);
        for (size_t i = 0; i < G_N_ELEMENTS(bare); i++)
          ck_assert_msg(target.op != bare[i], "%s is %s", line, dg_op_name(target.op));
        dg_target_clear(&target);
      }
}
END_TEST

START_TEST(labels_come_from_the_closed_set)
{
  static const char *const labels[] = {
      "list_buckets",  "head_root",     "list_objects",  "create_bucket", "delete_bucket",
      "head_bucket",   "post_bucket",   "get_object",    "put_object",    "delete_object",
      "head_object",   "post_object",   "unknown"};

  for (enum dg_op op = 0; op < DG_OP_COUNT; op++) {
    bool found = false;

    for (size_t i = 0; i < G_N_ELEMENTS(labels); i++)
      found |= strcmp(labels[i], dg_op_label(op)) == 0;
    ck_assert_msg(found, "%s", dg_op_label(op));
  }
}
END_TEST

START_TEST(copy_sources_split_with_and_without_encoding)
{
  static const struct {
    const char *header, *bucket, *key, *version;
  } cases[] = {
      {"/b/k", "b", "k", NULL},
      {"b/k/l", "b", "k/l", NULL},
      {"b//k", "b", "/k", NULL},
      {"b%2Fk%20l", "b", "k l", NULL},
      {"/b/a%3Fb+c", "b", "a?b+c", NULL},
      {"/b/k?versionId=null", "b", "k", "null"},
  };
  static const char *const bad[] = {"", "/", "/b", "b/", "/b/", "//k", "/b/%", "/b/k?x=1",
                                    "/b/a%00b", "b%2F"};
  struct dg_slice bucket, key, version;
  struct dg_error err;
  char *memory = NULL;

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    ck_assert_int_eq(dg_copy_source_parse(dg_slice_str(cases[i].header), &memory, &bucket, &key,
                                          &version, &err),
                     0);
    ck_assert(dg_slice_equal_str(bucket, cases[i].bucket));
    ck_assert(dg_slice_equal_str(key, cases[i].key));
    ck_assert_int_eq(dg_slice_present(version), cases[i].version != NULL);
    g_clear_pointer(&memory, g_free);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    ck_assert_msg(dg_copy_source_parse(dg_slice_str(bad[i]), &memory, &bucket, &key, &version,
                                       &err) == -1,
                  "'%s'", bad[i]);
    ck_assert_int_eq(err.code, DG_E_INVALID_ARGUMENT);
    ck_assert_ptr_null(memory);
  }
}
END_TEST

START_TEST(headers_are_found_in_any_case)
{
  struct request_text r;

  request_text_init(&r, "GET / HTTP/1.1\nX-AMZ-Date:  a \nx-amz-date: b\n");
  ck_assert(dg_slice_equal_str(dg_request_header(&r.request, "x-amz-date"), "a"));
  ck_assert_uint_eq(dg_request_header_count(&r.request, "X-Amz-Date"), 2);
  ck_assert(!dg_slice_present(dg_request_header(&r.request, "x-amz-dat")));
  request_text_clear(&r);
}
END_TEST

/* ---- names --------------------------------------------------------------------------------- */

START_TEST(bucket_names_follow_the_rules)
{
  static const char *const good[] = {"abc", "a.b-c", "1.2.3.4.5", "0a0", "my-bucket.example",
                                     "192.168.1.1111"};
  static const char *const bad[] = {"", "ab", "Abc", "a_b", "-ab", "ab-", ".ab", "ab.", "a..b",
                                    "192.168.1.1", "xn--abc", "a/b", "a b", "\xC3\xA9" "ab"};
  struct dg_error err;

  for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
    ck_assert_msg(dg_bucket_name_check(dg_slice_str(good[i]), &err) == 0, "%s", good[i]);
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    ck_assert_msg(dg_bucket_name_check(dg_slice_str(bad[i]), &err) == -1, "%s", bad[i]);
    ck_assert_int_eq(err.code, DG_E_INVALID_BUCKET_NAME);
  }
}
END_TEST

START_TEST(keys_may_be_anything_but_empty_long_or_broken_utf8)
{
  char long_key[1025];
  struct dg_error err;
  static const struct dg_slice good[] = {
      DG_SLICE("a"), DG_SLICE("/"), DG_SLICE("//a//"), DG_SLICE(".."), DG_SLICE("a\\b"),
      DG_SLICE("\x01\x7f\n"), DG_SLICE("\xF0\x9D\x84\x9E"), DG_SLICE("%2F")};

  for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
    ck_assert_int_eq(dg_key_check(good[i], &err), 0);
  memset(long_key, 'k', sizeof long_key);
  ck_assert_int_eq(dg_key_check(dg_slice_of(long_key, 1024), &err), 0);
  ck_assert_int_eq(dg_key_check(dg_slice_of(long_key, 1025), &err), -1);
  ck_assert_int_eq(err.code, DG_E_KEY_TOO_LONG);
  ck_assert_int_eq(dg_key_check(DG_SLICE(""), &err), -1);
  ck_assert_int_eq(dg_key_check(DG_SLICE("a\0b"), &err), -1);
  ck_assert_int_eq(dg_key_check(DG_SLICE("a\xFF"), &err), -1);
  ck_assert_int_eq(dg_key_check(DG_SLICE("\xED\xA0\x80"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_INVALID_ARGUMENT);
}
END_TEST

START_TEST(client_metadata_may_not_use_our_names)
{
  ck_assert(dg_slice_equal_str(dg_user_meta_name(DG_SLICE("X-Amz-Meta-Color")), "Color"));
  ck_assert(!dg_slice_present(dg_user_meta_name(DG_SLICE("x-amz-meta-DG-encrypted"))));
  ck_assert(dg_slice_present(dg_user_meta_name(DG_SLICE("x-amz-meta-dgx"))));
  ck_assert(!dg_slice_present(dg_user_meta_name(DG_SLICE("x-amz-meta-"))));
  ck_assert(!dg_slice_present(dg_user_meta_name(DG_SLICE("content-type"))));
}
END_TEST

/* ---- ranges ---------------------------------------------------------------------------------- */

START_TEST(ranges_resolve_against_the_size)
{
  static const struct {
    const char *header;
    uint64_t size;
    enum dg_range_answer answer;
    uint64_t offset, length;
  } cases[] = {
      {"bytes=0-0", 10, DG_RANGE_PART, 0, 1},
      {"bytes=0-9", 10, DG_RANGE_PART, 0, 10},
      {"bytes=2-5", 10, DG_RANGE_PART, 2, 4},
      {"bytes=5-", 10, DG_RANGE_PART, 5, 5},
      {"bytes=9-100", 10, DG_RANGE_PART, 9, 1},
      {"bytes=-3", 10, DG_RANGE_PART, 7, 3},
      {"bytes=-30", 10, DG_RANGE_PART, 0, 10},
      {"Bytes= 1 - 2 ", 10, DG_RANGE_PART, 1, 2},
      {"bytes=0-18446744073709551615", 10, DG_RANGE_PART, 0, 10},
      {"bytes=0-99999999999999999999999999", 10, DG_RANGE_PART, 0, 10},
      {"bytes=00000000000000000000000000001-2", 10, DG_RANGE_PART, 1, 2},
      {"bytes=10-", 10, DG_RANGE_UNSATISFIABLE, 0, 0},
      {"bytes=10-20", 10, DG_RANGE_UNSATISFIABLE, 0, 0},
      {"bytes=99999999999999999999999-", 10, DG_RANGE_UNSATISFIABLE, 0, 0},
      {"bytes=-0", 10, DG_RANGE_UNSATISFIABLE, 0, 0},
      {"bytes=0-", 0, DG_RANGE_UNSATISFIABLE, 0, 0},
      {"bytes=-5", 0, DG_RANGE_UNSATISFIABLE, 0, 0},
      {"", 10, DG_RANGE_WHOLE, 0, 10},
      {"bytes", 10, DG_RANGE_WHOLE, 0, 10},
      {"bytes=", 10, DG_RANGE_WHOLE, 0, 10},
      {"bytes=-", 10, DG_RANGE_WHOLE, 0, 10},
      {"bytes=5-2", 10, DG_RANGE_WHOLE, 0, 10},
      {"bytes=0-1,3-4", 10, DG_RANGE_WHOLE, 0, 10},
      {"bytes=a-b", 10, DG_RANGE_WHOLE, 0, 10},
      {"bytes=+1-2", 10, DG_RANGE_WHOLE, 0, 10},
      {"bytes=--1", 10, DG_RANGE_WHOLE, 0, 10},
      {"items=0-1", 10, DG_RANGE_WHOLE, 0, 10},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct dg_range range = {99, 99};

    ck_assert_msg(dg_range_resolve(dg_slice_str(cases[i].header), cases[i].size, &range) ==
                      cases[i].answer,
                  "%s", cases[i].header);
    if (cases[i].answer != DG_RANGE_UNSATISFIABLE) {
      ck_assert_uint_eq(range.offset, cases[i].offset);
      ck_assert_uint_eq(range.length, cases[i].length);
    }
  }
}
END_TEST

START_TEST(copy_ranges_are_strict)
{
  struct dg_range range;
  struct dg_error err;
  char text[80];

  ck_assert_int_eq(dg_copy_range_parse(DG_SLICE("bytes=1-3"), 4, &range, &err), 0);
  ck_assert_uint_eq(range.offset, 1);
  ck_assert_uint_eq(range.length, 3);
  ck_assert_int_eq(dg_copy_range_parse(DG_SLICE("bytes=1-4"), 4, &range, &err), -1);
  ck_assert_int_eq(err.code, DG_E_INVALID_RANGE);
  ck_assert_int_eq(dg_copy_range_parse(DG_SLICE("bytes=1-"), 4, &range, &err), -1);
  ck_assert_int_eq(err.code, DG_E_INVALID_ARGUMENT);
  ck_assert_int_eq(dg_copy_range_parse(DG_SLICE("bytes=-1"), 4, &range, &err), -1);
  dg_content_range_format(text, &range, 4);
  ck_assert_str_eq(text, "bytes 1-3/4");
  dg_content_range_format(text, NULL, 4);
  ck_assert_str_eq(text, "bytes */4");
}
END_TEST

/* ---- conditions -------------------------------------------------------------------------------- */

#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define SAME   "Sun, 06 Nov 1994 08:49:37 GMT"
#define MTIME  INT64_C(784111777)

static struct dg_conditions read_conditions(struct request_text *r, const char *headers, bool copy)
{
  g_autofree char *head = g_strconcat("GET / HTTP/1.1\n", headers, NULL);
  struct dg_conditions conditions;

  request_text_init(r, head);
  dg_conditions_read(&r->request, copy, &conditions);
  return conditions;
}

START_TEST(reads_follow_the_precedence_of_rfc_9110)
{
  static const struct {
    const char *headers;
    int32_t code;
  } cases[] = {
      {"", 0},
      {"If-Match: \"a\"\n", 0},
      {"If-Match: a\n", 0},
      {"If-Match: *\n", 0},
      {"If-Match: \"x\", \"a\"\n", 0},
      {"If-Match: \"x,y\",\"a\"\n", 0},
      {"If-Match: W/\"a\"\n", DG_E_PRECONDITION_FAILED},
      {"If-Match: \"b\"\n", DG_E_PRECONDITION_FAILED},
      {"If-None-Match: \"a\"\n", DG_E_NOT_MODIFIED},
      {"If-None-Match: W/\"a\"\n", DG_E_NOT_MODIFIED},
      {"If-None-Match: *\n", DG_E_NOT_MODIFIED},
      {"If-None-Match: \"b\"\n", 0},
      {"If-Modified-Since: " SAME "\n", DG_E_NOT_MODIFIED},
      {"If-Modified-Since: " BEFORE "\n", 0},
      {"If-Modified-Since: nonsense\n", 0},
      {"If-Unmodified-Since: " SAME "\n", 0},
      {"If-Unmodified-Since: " BEFORE "\n", DG_E_PRECONDITION_FAILED},
      {"If-Match: \"a\"\nIf-Unmodified-Since: " BEFORE "\n", 0},
      {"If-None-Match: \"b\"\nIf-Modified-Since: " SAME "\n", 0},
      {"If-None-Match: \"a\"\nIf-Modified-Since: " BEFORE "\n", DG_E_NOT_MODIFIED},
      {"If-Match: \"b\"\nIf-None-Match: \"a\"\n", DG_E_PRECONDITION_FAILED},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct request_text r;
    struct dg_conditions conditions = read_conditions(&r, cases[i].headers, false);
    struct dg_error err = {0};
    int result = dg_conditions_check_read(&conditions, "\"a\"", MTIME, &err);

    ck_assert_msg((result < 0 ? err.code : 0) == cases[i].code, "case %zu", i);
    request_text_clear(&r);
  }
}
END_TEST

START_TEST(a_copy_source_fails_with_412_only)
{
  struct request_text r;
  struct dg_conditions conditions =
      read_conditions(&r, "x-amz-copy-source-if-none-match: \"a\"\nIf-Match: \"zzz\"\n", true);
  struct dg_error err = {0};

  ck_assert_int_eq(dg_conditions_check_copy(&conditions, "\"a\"", MTIME, &err), -1);
  ck_assert_int_eq(err.code, DG_E_PRECONDITION_FAILED);
  ck_assert_int_eq(dg_conditions_check_copy(&conditions, "\"b\"", MTIME, &err), 0);
  request_text_clear(&r);
}
END_TEST

START_TEST(writes_are_decided_by_what_is_there)
{
  static const struct {
    const char *headers;
    bool exists;
    int32_t form, code;
  } cases[] = {
      {"If-None-Match: *\n", false, 0, 0},
      {"If-None-Match: *\n", true, 0, DG_E_PRECONDITION_FAILED},
      {"If-None-Match: \"a\"\n", true, DG_E_NOT_IMPLEMENTED, DG_E_PRECONDITION_FAILED},
      {"If-Match: \"a\"\n", true, 0, 0},
      {"If-Match: \"b\"\n", true, 0, DG_E_PRECONDITION_FAILED},
      {"If-Match: \"a\"\n", false, 0, DG_E_NO_SUCH_KEY},
      {"If-Match: *\nIf-None-Match: *\n", true, DG_E_NOT_IMPLEMENTED, DG_E_PRECONDITION_FAILED},
      {"", true, 0, 0},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct request_text r;
    struct dg_conditions conditions = read_conditions(&r, cases[i].headers, false);
    struct dg_error err = {0};

    ck_assert_int_eq(dg_conditions_check_form(&conditions, &err) < 0 ? err.code : 0,
                     cases[i].form);
    ck_assert_msg((dg_conditions_check_write(&conditions, cases[i].exists,
                                             cases[i].exists ? "\"a\"" : "", &err) < 0
                       ? err.code
                       : 0) == cases[i].code,
                  "case %zu", i);
    request_text_clear(&r);
  }
}
END_TEST

/* ---- errors -------------------------------------------------------------------------------------- */

START_TEST(every_code_has_a_complete_row)
{
  for (int32_t code = -1; code <= DG_E_MAX; code++) {
    const struct dg_s3_error *row = dg_s3_error(code);

    ck_assert_uint_ge(row->status, 300);
    ck_assert_uint_lt(row->status, 600);
    ck_assert(row->code && *row->code && row->message && *row->message);
  }
  ck_assert_str_eq(dg_s3_error(12345)->code, "InternalError");
}
END_TEST

START_TEST(operators_details_do_not_reach_clients)
{
  struct dg_error err;
  g_autoptr(GString) out = g_string_new(NULL);

  (void)dg_fail(&err, DG_E_IO, "open '/secret/path': denied");
  dg_s3_error_xml(out, &err, DG_SLICE("/b/<k>"), DG_SLICE("id-1"));
  ck_assert_str_eq(out->str,
                   "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InternalError</Code>"
                   "<Message>Internal server error. See server logs for details.</Message>"
                   "<Resource>/b/&lt;k&gt;</Resource><RequestId>id-1</RequestId></Error>");
  (void)dg_fail(&err, DG_E_INVALID_ARGUMENT, "max-keys must be a number.");
  ck_assert_str_eq(dg_s3_error_message(&err), "max-keys must be a number.");
}
END_TEST

/* ---- bodies -------------------------------------------------------------------------------------- */

START_TEST(a_delete_body_lists_its_keys)
{
  struct dg_delete_body *body = NULL;
  struct dg_error err = {0};
  struct dg_delete_entry *entry;

  ck_assert_int_eq(
      dg_delete_body_parse(DG_SLICE("<?xml version=\"1.0\"?><Delete xmlns=\"http://s3.amazonaws."
                                    "com/doc/2006-03-01/\"> <Object><Key> a &amp; b\n</Key>"
                                    "</Object><Object><Key>c</Key><VersionId>null</VersionId>"
                                    "<ETag>\"e\"</ETag><New>1</New></Object><Quiet>true</Quiet>"
                                    "</Delete>"),
                           &body, &err),
      0);
  ck_assert(body->quiet);
  ck_assert_uint_eq(body->entries->len, 2);
  entry = &g_array_index(body->entries, struct dg_delete_entry, 0);
  ck_assert_str_eq(entry->key, " a & b\n");
  ck_assert_ptr_null(entry->version_id);
  entry = &g_array_index(body->entries, struct dg_delete_entry, 1);
  ck_assert_str_eq(entry->version_id, "null");
  ck_assert_str_eq(entry->etag, "\"e\"");
  dg_delete_body_free(body);
}
END_TEST

static int32_t parse_delete(const char *text)
{
  struct dg_delete_body *body = NULL;
  struct dg_error err = {0};

  if (dg_delete_body_parse(dg_slice_str(text), &body, &err) < 0)
    return err.code;
  dg_delete_body_free(body);
  return 0;
}

START_TEST(a_delete_body_has_1_to_1000_objects)
{
  g_autoptr(GString) text = g_string_new("<Delete>");

  for (int i = 0; i < 1000; i++)
    g_string_append(text, "<Object><Key>k</Key></Object>");
  g_string_append(text, "</Delete>");
  ck_assert_int_eq(parse_delete(text->str), 0);
  g_string_insert(text, 8, "<Object><Key>k</Key></Object>");
  ck_assert_int_eq(parse_delete(text->str), DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_delete("<Delete/>"), DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_delete("<Delete><Object/></Delete>"), DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_delete("<Erase><Object><Key>k</Key></Object></Erase>"),
                   DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_delete("<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>"),
                   DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_delete(""), DG_E_MALFORMED_XML);
}
END_TEST

#define PART(number, etag) "<Part><PartNumber>" number "</PartNumber><ETag>" etag "</ETag></Part>"

static int32_t parse_complete(const char *parts, struct dg_complete_body **ret_body)
{
  g_autofree char *text =
      g_strconcat("<CompleteMultipartUpload>", parts, "</CompleteMultipartUpload>", NULL);
  struct dg_error err = {0};

  return dg_complete_body_parse(dg_slice_str(text), ret_body, &err) < 0 ? err.code : 0;
}

START_TEST(a_complete_body_lists_parts_in_order)
{
  struct dg_complete_body *body = NULL;
  struct dg_complete_entry *part;

  ck_assert_int_eq(parse_complete(PART("1", "&quot;aa&quot;")
                                  "<Part><ETag>bb</ETag><ChecksumCRC32>NSRBwg==</ChecksumCRC32>"
                                  "<PartNumber> 7 </PartNumber></Part>",
                                  &body),
                   0);
  ck_assert_uint_eq(body->parts->len, 2);
  part = &g_array_index(body->parts, struct dg_complete_entry, 0);
  ck_assert_str_eq(part->etag, "\"aa\"");
  part = &g_array_index(body->parts, struct dg_complete_entry, 1);
  ck_assert_uint_eq(part->part_no, 7);
  ck_assert_uint_eq(part->checksum_kind, DG_SUM_CRC32);
  ck_assert_str_eq(part->checksum_base64, "NSRBwg==");
  dg_complete_body_free(body);
}
END_TEST

START_TEST(complete_bodies_out_of_order_or_form_are_refused)
{
  static const struct {
    const char *parts;
    int32_t code;
  } cases[] = {
      {"", DG_E_MALFORMED_XML},
      {PART("2", "a") PART("1", "a"), DG_E_INVALID_PART_ORDER},
      {PART("1", "a") PART("1", "a"), DG_E_INVALID_PART_ORDER},
      {PART("0", "a"), DG_E_INVALID_ARGUMENT},
      {PART("10001", "a"), DG_E_INVALID_ARGUMENT},
      {PART("x", "a"), DG_E_MALFORMED_XML},
      {PART("1", ""), DG_E_MALFORMED_XML},
      {"<Part><ETag>a</ETag></Part>", DG_E_MALFORMED_XML},
      {"<Part><PartNumber>1</PartNumber></Part>", DG_E_MALFORMED_XML},
      {"<Part><PartNumber>1</PartNumber><ETag>a</ETag><ChecksumSHA1>x</ChecksumSHA1></Part>",
       DG_E_MALFORMED_XML},
  };
  struct dg_complete_body *body = NULL;

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    ck_assert_msg(parse_complete(cases[i].parts, &body) == cases[i].code, "case %zu", i);
  ck_assert_ptr_null(body);
}
END_TEST

START_TEST(a_create_bucket_body_may_be_missing)
{
  struct dg_error err = {0};

  ck_assert_int_eq(dg_create_bucket_body_check(DG_SLICE(""), &err), 0);
  ck_assert_int_eq(
      dg_create_bucket_body_check(
          DG_SLICE("<CreateBucketConfiguration><LocationConstraint>eu-west-1"
                   "</LocationConstraint></CreateBucketConfiguration>"),
          &err),
      0);
  ck_assert_int_eq(dg_create_bucket_body_check(DG_SLICE("<Other/>"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_MALFORMED_XML);
}
END_TEST

/* ---- answers --------------------------------------------------------------------------------------- */

static int no_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  (void)receiver;
  (void)depth;
  (void)name;
  (void)err;
  return 0;
}

static int no_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                  struct dg_error *err)
{
  (void)text;
  return no_begin(receiver, depth, name, err);
}

static void assert_well_formed(GString *document)
{
  static const struct dg_xml_handler handler = {no_begin, no_end};
  struct dg_error err = {0};

  ck_assert_msg(dg_xml_parse(dg_slice_of(document->str, document->len), &handler, NULL, &err) == 0,
                "%s in\n%s", err.detail, document->str);
  g_string_truncate(document, 0);
}

START_TEST(a_listing_encodes_names_when_asked_to)
{
  struct dg_answer_list list = {.v2 = true, .encode_url = true, .bucket = DG_SLICE("b"),
                                .prefix = DG_SLICE("a b/"), .delimiter = DG_SLICE("/"),
                                .max_keys = 2, .row_count = 2, .truncated = true,
                                .next_token = DG_SLICE("t<")};
  struct dg_answer_object object = {.key = DG_SLICE("a b/\x01+\xC3\xA9"), .etag = DG_SLICE("\"e\""),
                                    .size_bytes = 5, .last_modified_s = MTIME};
  g_autoptr(GString) contents = g_string_new(NULL);
  g_autoptr(GString) prefixes = g_string_new(NULL);
  g_autoptr(GString) out = g_string_new(NULL);

  dg_answer_list_object(contents, &list, &object);
  dg_answer_list_prefix(prefixes, &list, DG_SLICE("a b/c/"));
  dg_answer_list(out, &list, contents, prefixes);
  ck_assert_str_eq(
      out->str,
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
      "<Prefix>a%20b/</Prefix><KeyCount>2</KeyCount><NextContinuationToken>t&lt;"
      "</NextContinuationToken><MaxKeys>2</MaxKeys><Delimiter>/</Delimiter>"
      "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
      "<Contents><Key>a%20b/%01%2B%C3%A9</Key><LastModified>1994-11-06T08:49:37.000Z"
      "</LastModified><ETag>&quot;e&quot;</ETag><Size>5</Size>"
      "<StorageClass>STANDARD</StorageClass></Contents>"
      "<CommonPrefixes><Prefix>a%20b/c/</Prefix></CommonPrefixes></ListBucketResult>");
  assert_well_formed(out);
}
END_TEST

START_TEST(every_answer_is_well_formed)
{
  static const struct dg_slice odd = DG_SLICE("<a&\"'>\r\n\x02\xFF");
  struct dg_answer_list v1 = {.bucket = odd, .prefix = odd, .marker = odd, .next_marker = odd,
                              .delimiter = odd};
  struct dg_answer_object object = {.key = odd, .etag = odd, .checksum_kind = DG_SUM_CRC32};
  struct dg_answer_completed completed = {odd, odd, odd, odd, DG_SUM_SHA1, odd, true};
  struct dg_answer_parts parts = {.bucket = odd, .key = odd, .upload_id = odd, .truncated = true,
                                  .checksum_kind = DG_SUM_SHA256};
  struct dg_answer_part part = {1, DG_SUM_CRC32C, 0, odd, odd, 5};
  struct dg_answer_uploads uploads = {.bucket = odd, .prefix = odd, .delimiter = odd,
                                      .key_marker = odd, .next_key_marker = odd,
                                      .truncated = true};
  struct dg_error err = {.code = DG_E_ACCESS_DENIED};
  g_autoptr(GString) out = g_string_new(NULL);
  g_autoptr(GString) rows = g_string_new(NULL);
  g_autoptr(GString) prefixes = g_string_new(NULL);

  dg_answer_buckets_begin(out);
  dg_answer_buckets_row(out, odd, 0);
  dg_answer_buckets_end(out, odd, odd);
  assert_well_formed(out);
  dg_answer_list_object(rows, &v1, &object);
  dg_answer_list_prefix(prefixes, &v1, odd);
  dg_answer_list(out, &v1, rows, prefixes);
  assert_well_formed(out);
  dg_answer_list(out, &v1, NULL, NULL);
  assert_well_formed(out);
  dg_answer_location(out);
  assert_well_formed(out);
  dg_answer_versioning(out);
  assert_well_formed(out);
  dg_answer_acl(out);
  assert_well_formed(out);
  dg_answer_tagging(out);
  assert_well_formed(out);
  dg_answer_upload_created(out, odd, odd, odd);
  assert_well_formed(out);
  dg_answer_upload_completed(out, &completed);
  assert_well_formed(out);
  g_string_truncate(rows, 0);
  dg_answer_part_row(rows, &part);
  dg_answer_parts(out, &parts, rows);
  assert_well_formed(out);
  g_string_truncate(rows, 0);
  dg_answer_upload_row(rows, &uploads, odd, odd, 0, DG_SUM_CRC32);
  dg_answer_upload_prefix(rows, &uploads, odd);
  dg_answer_uploads(out, &uploads, rows, NULL);
  assert_well_formed(out);
  dg_answer_copied(out, true, odd, 0, DG_SUM_CRC32, odd);
  assert_well_formed(out);
  dg_answer_deleted_begin(out);
  dg_answer_deleted_row(out, odd);
  dg_answer_deleted_error(out, odd, &err);
  dg_answer_deleted_end(out);
  assert_well_formed(out);
  dg_answer_post(out, odd, odd, odd, odd);
  assert_well_formed(out);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("s3text");
  TCase *tc = tcase_create("s3text");
  SRunner *runner;
  int failed;

  tcase_add_test(tc, paths_split_into_bucket_and_key_byte_for_byte);
  tcase_add_test(tc, bad_escapes_and_nul_bytes_are_refused);
  tcase_add_test(tc, parameters_decode_and_tell_empty_from_absent);
  tcase_add_test(tc, every_operation_is_found);
  tcase_add_test(tc, a_subresource_never_falls_through_to_the_bare_operation);
  tcase_add_test(tc, labels_come_from_the_closed_set);
  tcase_add_test(tc, copy_sources_split_with_and_without_encoding);
  tcase_add_test(tc, headers_are_found_in_any_case);
  tcase_add_test(tc, bucket_names_follow_the_rules);
  tcase_add_test(tc, keys_may_be_anything_but_empty_long_or_broken_utf8);
  tcase_add_test(tc, client_metadata_may_not_use_our_names);
  tcase_add_test(tc, ranges_resolve_against_the_size);
  tcase_add_test(tc, copy_ranges_are_strict);
  tcase_add_test(tc, reads_follow_the_precedence_of_rfc_9110);
  tcase_add_test(tc, a_copy_source_fails_with_412_only);
  tcase_add_test(tc, writes_are_decided_by_what_is_there);
  tcase_add_test(tc, every_code_has_a_complete_row);
  tcase_add_test(tc, operators_details_do_not_reach_clients);
  tcase_add_test(tc, a_delete_body_lists_its_keys);
  tcase_add_test(tc, a_delete_body_has_1_to_1000_objects);
  tcase_add_test(tc, a_complete_body_lists_parts_in_order);
  tcase_add_test(tc, complete_bodies_out_of_order_or_form_are_refused);
  tcase_add_test(tc, a_create_bucket_body_may_be_missing);
  tcase_add_test(tc, a_listing_encodes_names_when_asked_to);
  tcase_add_test(tc, every_answer_is_well_formed);
  suite_add_tcase(suite, tc);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
