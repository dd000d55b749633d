/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/chunked.h"

#include <check.h>
#include <glib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/banned.h"

/* Decodes text in pieces of `piece` bytes. Returns the payload, or NULL when
 * it is malformed; *ret_used is where the body ended, 0 if it did not. */
static GString *decode(const char *text, size_t len, size_t piece, size_t *ret_used)
{
  struct dg_chunked chunked = {0};
  GString *payload = g_string_new(NULL);
  size_t at = 0;

  *ret_used = 0;
  while (at < len) {
    size_t here = len - at < piece ? len - at : piece, skip, count;
    char *copy = malloc(here); /* without slack, for ASan */
    enum dg_chunked_result result;

    memcpy(copy, text + at, here);
    result = dg_chunked_step(&chunked, copy, here, &skip, &count);
    ck_assert_uint_le(skip + count, here);
    if (result == DG_CHUNKED_DATA) {
      ck_assert_uint_gt(count, 0);
      g_string_append_len(payload, copy + skip, (gssize)count);
    }
    free(copy);
    at += skip + count;
    if (result == DG_CHUNKED_MALFORMED) {
      g_string_free(payload, TRUE);
      return NULL;
    }
    if (result == DG_CHUNKED_END) {
      *ret_used = at;
      break;
    }
    ck_assert(result == DG_CHUNKED_DATA || skip == here);
  }
  return payload;
}

static bool refused(const char *text)
{
  for (size_t piece = 1; piece < 9; piece += 7) {
    size_t used;
    GString *payload = decode(text, strlen(text), piece, &used);

    if (payload) {
      g_string_free(payload, TRUE);
      return false;
    }
  }
  return true;
}

START_TEST(a_body_is_decoded_whatever_the_pieces_it_comes_in)
{
  static const char text[] = "5\r\nhello\r\n00A;ext=\"q\"\r\n, world!!!\r\n0\r\nX-Trailer: v\r\n"
                             "Empty:\r\n\r\nGET /next";

  for (size_t piece = 1; piece < sizeof text; piece++) {
    size_t used;
    GString *payload = decode(text, sizeof text - 1, piece, &used);

    ck_assert_ptr_nonnull(payload);
    ck_assert_str_eq(payload->str, "hello, world!!!");
    ck_assert_uint_eq(used, sizeof text - 1 - strlen("GET /next"));
    g_string_free(payload, TRUE);
  }
}
END_TEST

START_TEST(what_other_parsers_let_pass_is_refused)
{
  ck_assert(refused("\r\n"));
  ck_assert(refused("g\r\n"));
  ck_assert(refused("-1\r\n"));
  ck_assert(refused("+1\r\n"));
  ck_assert(refused("0x1\r\n"));
  ck_assert(refused(" 1\r\n"));
  ck_assert(refused("1 \r\n"));
  ck_assert(refused("1\n"));
  ck_assert(refused("1\rx"));
  ck_assert(refused("\xb1\r\n"));
  ck_assert(refused("1;a\x01\r\n"));
  ck_assert(refused("1;a\nb\r\n"));
  ck_assert(refused("1\r\naX"));
  ck_assert(refused("1\r\na\rX"));
  ck_assert(refused("1\r\na\n"));
  ck_assert(refused("0\r\n folded\r\n"));
  ck_assert(refused("0\r\nno colon\r\n"));
  ck_assert(refused("0\r\nname\r\n"));
  ck_assert(refused("0\r\nname: v\n"));
  ck_assert(refused("0\r\n: v\r\n"));
  ck_assert(refused("0\r\n\rX"));
}
END_TEST

START_TEST(sizes_do_not_wrap)
{
  struct dg_chunked chunked = {0};
  size_t skip, count;

  ck_assert(refused("1000000000000000\r\n"));
  ck_assert(refused("00000000000000001\r\n"));
  ck_assert_int_eq(dg_chunked_step(&chunked, "fffffffffffffff\r\nab", 19, &skip, &count),
                   DG_CHUNKED_DATA);
  ck_assert_uint_eq(skip, 17);
  ck_assert_uint_eq(count, 2);
  ck_assert_uint_eq(chunked.left, UINT64_C(0xfffffffffffffff) - 2);
}
END_TEST

START_TEST(extensions_and_trailers_are_bounded)
{
  GString *text = g_string_new("1;");
  size_t used;
  GString *payload;

  while (text->len < DG_CHUNKED_MAX_LINE + 2)
    g_string_append_c(text, 'e');
  g_string_append(text, "\r\n");
  ck_assert_ptr_null(decode(text->str, text->len, 1000, &used));
  g_string_assign(text, "0\r\n");
  while (text->len < DG_CHUNKED_MAX_TRAILER - 100)
    g_string_append(text, "X-T: some value\r\n");
  payload = decode(text->str, text->len, 1000, &used);
  ck_assert_ptr_nonnull(payload);
  g_string_free(payload, TRUE);
  while (text->len < DG_CHUNKED_MAX_TRAILER + 100)
    g_string_append(text, "X-T: some value\r\n");
  ck_assert_ptr_null(decode(text->str, text->len, 1000, &used));
  g_string_free(text, TRUE);
}
END_TEST

START_TEST(a_broken_body_stays_broken)
{
  struct dg_chunked chunked = {0};
  size_t skip, count;

  ck_assert_int_eq(dg_chunked_step(&chunked, "x", 1, &skip, &count), DG_CHUNKED_MALFORMED);
  ck_assert_int_eq(dg_chunked_step(&chunked, "0\r\n\r\n", 5, &skip, &count), DG_CHUNKED_MALFORMED);
  ck_assert_uint_eq(skip, 0);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("http-chunked");
  TCase *tcase = tcase_create("chunked");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_test(tcase, a_body_is_decoded_whatever_the_pieces_it_comes_in);
  tcase_add_test(tcase, what_other_parsers_let_pass_is_refused);
  tcase_add_test(tcase, sizes_do_not_wrap);
  tcase_add_test(tcase, extensions_and_trailers_are_bounded);
  tcase_add_test(tcase, a_broken_body_stays_broken);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
