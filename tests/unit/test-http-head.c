/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/head.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/slice.h"

#include "common/banned.h"

static struct dg_pair fields[DG_HEAD_MAX_FIELDS];
static struct dg_head head;
static struct dg_head_refusal refusal;

static int parse_bytes(const char *text, size_t len)
{
  /* A copy without slack, so that a read past the end is seen by ASan. */
  static char *copy;

  free(copy);
  copy = malloc(len ? len : 1);
  memcpy(copy, text, len);
  memset(&refusal, 0, sizeof refusal);
  head.fields = fields;
  return dg_head_parse(copy, len, DG_HEAD_MAX_FIELDS, &head, &refusal);
}

static int parse(const char *text)
{
  return parse_bytes(text, strlen(text));
}

/* A GET with these further header lines. */
static int parse_with(const char *lines)
{
  char text[4096];

  g_snprintf(text, sizeof text, "GET /a HTTP/1.1\r\nHost: h\r\n%s\r\n", lines);
  return parse(text);
}

#define ck_slice(slice, text) \
  ck_assert_msg(dg_slice_equal_str((slice), (text)), "%.*s", (int)(slice).len, (slice).data)
#define ck_refused(call, code)                 \
  do {                                         \
    ck_assert_int_eq((call), -1);              \
    ck_assert_uint_eq(refusal.status, (code)); \
    ck_assert_ptr_nonnull(refusal.reason);     \
  } while (0)

START_TEST(path_and_query_are_kept_byte_for_byte)
{
  ck_assert_int_eq(parse("PUT /b//..%2f+\xc3\xa9;=@?x=1?y&z HTTP/1.1\r\nHost: h:9\r\n\r\n"), 0);
  ck_slice(head.method, "PUT");
  ck_slice(head.raw_path, "/b//..%2f+\xc3\xa9;=@");
  ck_slice(head.raw_query, "x=1?y&z");
  ck_slice(head.host, "h:9");
  ck_assert(head.keep_alive);
  ck_assert_int_eq(head.framing, DG_FRAMING_NONE);
  ck_assert(!head.has_content_length);
}
END_TEST

START_TEST(an_empty_query_differs_from_none)
{
  ck_assert_int_eq(parse("GET /a? HTTP/1.1\r\nHost: h\r\n\r\n"), 0);
  ck_assert_ptr_nonnull(head.raw_query.data);
  ck_assert_uint_eq(head.raw_query.len, 0);
  ck_assert_int_eq(parse("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), 0);
  ck_assert_ptr_null(head.raw_query.data);
}
END_TEST

START_TEST(fields_keep_order_case_and_duplicates_and_lose_outer_blanks)
{
  ck_assert_int_eq(parse_with("X-Amz-A: \t one two \t\r\nx-amz-a:\r\n"), 0);
  ck_assert_uint_eq(head.field_count, 3);
  ck_slice(fields[1].name, "X-Amz-A");
  ck_slice(fields[1].value, "one two");
  ck_slice(fields[2].name, "x-amz-a");
  ck_assert_uint_eq(fields[2].value.len, 0);
}
END_TEST

START_TEST(request_lines_that_are_not_one_are_refused)
{
  static const struct {
    const char *line;
    unsigned status;
  } rows[] = {
      {"get / HTTP/1.1", 400},
      {" GET / HTTP/1.1", 400},
      {"GET  / HTTP/1.1", 400},
      {"GET /  HTTP/1.1", 400},
      {"GET /\tHTTP/1.1", 400},
      {"GET /a b HTTP/1.1", 400},
      {"GET /a#b HTTP/1.1", 400},
      {"GET /a\x7f HTTP/1.1", 400},
      {"GET /a\x01 HTTP/1.1", 400},
      {"GET a HTTP/1.1", 400},
      {"GET /a", 400},
      {"GET /a HTTP/1.1 ", 400},
      {"GET /a http/1.1", 400},
      {"GET /a HTTP/11", 400},
      {"GET /a HTTP/2.0", 505},
      {"GET /a HTTP/1.2", 505},
      {"GET /a HTTP/0.9", 505},
      {"GETTTTTTTTTTTTTTTTTTTTT /a HTTP/1.1", 400},
      {"", 400},
      {"CONNECT h:80 HTTP/1.1", 405},
      {"TRACE / HTTP/1.1", 405},
      {"M-SEARCH / HTTP/1.1", 501},
      {"PATCH / HTTP/1.1", 501},
      {"GET * HTTP/1.1", 400},
      {"GET ftp://h/a HTTP/1.1", 400},
      {"GET http://h HTTP/1.1", 400},
      {"GET http://other/a HTTP/1.1", 400},
  };
  char text[256];

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_snprintf(text, sizeof text, "%s\r\nHost: h\r\n\r\n", rows[i].line);
    ck_assert_msg(parse(text) == -1, "accepted: %s", rows[i].line);
    ck_assert_msg(refusal.status == rows[i].status, "%u for: %s", refusal.status, rows[i].line);
  }
}
END_TEST

START_TEST(absolute_targets_pass_when_host_agrees)
{
  ck_assert_int_eq(parse("GET http://H:9000/b/k?q HTTP/1.1\r\nHost: h:9000\r\n\r\n"), 0);
  ck_slice(head.raw_path, "/b/k");
  ck_slice(head.raw_query, "q");
  ck_refused(parse("GET http://h/b HTTP/1.0\r\n\r\n"), 400);
}
END_TEST

START_TEST(options_star_passes)
{
  ck_assert_int_eq(parse("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), 0);
  ck_slice(head.raw_path, "*");
}
END_TEST

START_TEST(nul_control_and_bare_line_ends_are_refused_everywhere)
{
  static const char whole[] = "GET /abc HTTP/1.1\r\nHost: h\r\nX-A: value\r\n\r\n";
  static const char bad[] = {'\0', '\r', '\n', '\x01', '\x7f', '\v'};
  char text[sizeof whole];

  for (size_t at = 0; at + 1 < sizeof whole - 4; at++)
    for (size_t b = 0; b < sizeof bad; b++) {
      memcpy(text, whole, sizeof whole);
      if (text[at] == bad[b])
        continue;
      text[at] = bad[b];
      ck_assert_msg(parse_bytes(text, sizeof whole - 1) == -1, "byte %d at %zu", bad[b], at);
      ck_assert_uint_ge(refusal.status, 400);
    }
}
END_TEST

START_TEST(header_lines_that_are_not_one_are_refused)
{
  ck_refused(parse_with("X-A : v\r\n"), 400);
  ck_refused(parse_with("X A: v\r\n"), 400);
  ck_refused(parse_with(": v\r\n"), 400);
  ck_refused(parse_with("X-A\r\n"), 400);
  ck_refused(parse_with(" folded: v\r\n"), 400);
  ck_refused(parse_with("\tfolded\r\n"), 400);
  ck_refused(parse_with("X\xc3\xa9: v\r\n"), 400);
  ck_assert_int_eq(parse_with("X-A: \xc3\xa9\r\n"), 0);
}
END_TEST

START_TEST(host_is_required_once_and_plain)
{
  ck_refused(parse("GET / HTTP/1.1\r\n\r\n"), 400);
  ck_refused(parse_with("Host: h\r\n"), 400);
  ck_refused(parse("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400);
  ck_refused(parse("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), 400);
  ck_refused(parse("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
  ck_assert_int_eq(parse("GET / HTTP/1.0\r\n\r\n"), 0);
  ck_assert_ptr_null(head.host.data);
  ck_assert_int_eq(parse("GET / HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n"), 0);
}
END_TEST

START_TEST(content_length_is_digits_once)
{
  ck_assert_int_eq(parse_with("Content-Length: 123456789012345678\r\n"), 0);
  ck_assert_uint_eq(head.content_length, UINT64_C(123456789012345678));
  ck_assert_int_eq(head.framing, DG_FRAMING_LENGTH);
  ck_assert_int_eq(parse_with("content-length: 0\r\n"), 0);
  ck_assert_int_eq(head.framing, DG_FRAMING_NONE);
  ck_assert(head.has_content_length);
  ck_refused(parse_with("Content-Length: 1234567890123456789\r\n"), 400);
  ck_refused(parse_with("Content-Length:\r\n"), 400);
  ck_refused(parse_with("Content-Length: +5\r\n"), 400);
  ck_refused(parse_with("Content-Length: -5\r\n"), 400);
  ck_refused(parse_with("Content-Length: 5 5\r\n"), 400);
  ck_refused(parse_with("Content-Length: 5, 5\r\n"), 400);
  ck_refused(parse_with("Content-Length: 0x5\r\n"), 400);
  ck_refused(parse_with("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
  ck_refused(parse_with("Content-Length : 5\r\n"), 400);
}
END_TEST

START_TEST(transfer_encoding_is_exactly_chunked)
{
  ck_assert_int_eq(parse_with("Transfer-Encoding: chunked\r\n"), 0);
  ck_assert_int_eq(head.framing, DG_FRAMING_CHUNKED);
  ck_assert_int_eq(parse_with("transfer-encoding:\tCHUNKED \r\n"), 0);
  ck_assert_int_eq(head.framing, DG_FRAMING_CHUNKED);
  ck_refused(parse_with("Transfer-Encoding: gzip, chunked\r\n"), 400);
  ck_refused(parse_with("Transfer-Encoding: chunked, chunked\r\n"), 400);
  ck_refused(parse_with("Transfer-Encoding: identity\r\n"), 400);
  ck_refused(parse_with("Transfer-Encoding:\r\n"), 400);
  ck_refused(parse_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400);
  ck_refused(parse_with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400);
  ck_refused(parse_with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400);
  ck_refused(parse_with("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400);
  ck_refused(parse("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}
END_TEST

START_TEST(expect_is_100_continue_or_refused)
{
  ck_assert_int_eq(parse_with("Expect: 100-Continue\r\n"), 0);
  ck_assert(head.expect_continue);
  ck_refused(parse_with("Expect: 200-ok\r\n"), 417);
  ck_assert_int_eq(parse("PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"), 0);
  ck_assert(!head.expect_continue);
}
END_TEST

START_TEST(connection_is_a_list_and_close_wins)
{
  ck_assert_int_eq(parse_with("Connection: TE, CLOSE\r\n"), 0);
  ck_assert(!head.keep_alive);
  ck_assert_int_eq(parse_with("Connection: close\r\nConnection: keep-alive\r\n"), 0);
  ck_assert(!head.keep_alive);
  ck_assert_int_eq(parse_with("Connection: closed\r\n"), 0);
  ck_assert(head.keep_alive);
  ck_assert_int_eq(parse("GET / HTTP/1.0\r\n\r\n"), 0);
  ck_assert(!head.keep_alive);
  ck_assert_int_eq(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), 0);
  ck_assert(head.keep_alive);
}
END_TEST

START_TEST(sizes_are_bounded_to_the_byte)
{
  GString *text = g_string_new("GET /");

  for (size_t i = 1; i < DG_HEAD_MAX_TARGET; i++)
    g_string_append_c(text, 'a');
  g_string_append(text, " HTTP/1.1\r\nHost: h\r\n\r\n");
  ck_assert_int_eq(parse_bytes(text->str, text->len), 0);
  g_string_insert_c(text, 5, 'a');
  ck_refused(parse_bytes(text->str, text->len), 414);

  g_string_assign(text, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
  for (size_t i = 3; i < DG_HEAD_MAX_FIELD; i++)
    g_string_append_c(text, 'a');
  g_string_append(text, "\r\n\r\n");
  ck_assert_int_eq(parse_bytes(text->str, text->len), 0);
  g_string_insert(text, (gssize)text->len - 4, "a");
  ck_refused(parse_bytes(text->str, text->len), 431);

  g_string_assign(text, "GET / HTTP/1.1\r\nHost: h\r\n");
  for (size_t i = 1; i < DG_HEAD_MAX_FIELDS; i++)
    g_string_append(text, "X: 1\r\n");
  g_string_append(text, "\r\n");
  ck_assert_int_eq(parse_bytes(text->str, text->len), 0);
  g_string_insert(text, (gssize)text->len - 2, "X: 1\r\n");
  ck_refused(parse_bytes(text->str, text->len), 431);
  g_string_free(text, TRUE);
}
END_TEST

START_TEST(every_cut_head_is_refused_and_nothing_is_read_past_it)
{
  static const char whole[] = "PUT /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n"
                              "Connection: close, x\r\nExpect: 100-continue\r\n\r\n";

  for (size_t len = 0; len < sizeof whole - 1; len++)
    ck_assert_int_eq(parse_bytes(whole, len), -1);
  ck_assert_int_eq(parse_bytes(whole, sizeof whole - 1), 0);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("http-head");
  TCase *tcase = tcase_create("head");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_test(tcase, path_and_query_are_kept_byte_for_byte);
  tcase_add_test(tcase, an_empty_query_differs_from_none);
  tcase_add_test(tcase, fields_keep_order_case_and_duplicates_and_lose_outer_blanks);
  tcase_add_test(tcase, request_lines_that_are_not_one_are_refused);
  tcase_add_test(tcase, absolute_targets_pass_when_host_agrees);
  tcase_add_test(tcase, options_star_passes);
  tcase_add_test(tcase, nul_control_and_bare_line_ends_are_refused_everywhere);
  tcase_add_test(tcase, header_lines_that_are_not_one_are_refused);
  tcase_add_test(tcase, host_is_required_once_and_plain);
  tcase_add_test(tcase, content_length_is_digits_once);
  tcase_add_test(tcase, transfer_encoding_is_exactly_chunked);
  tcase_add_test(tcase, expect_is_100_continue_or_refused);
  tcase_add_test(tcase, connection_is_a_list_and_close_wins);
  tcase_add_test(tcase, sizes_are_bounded_to_the_byte);
  tcase_add_test(tcase, every_cut_head_is_refused_and_nothing_is_read_past_it);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
