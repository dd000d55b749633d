/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/postform.h"

#include <check.h>
#include <stdlib.h>

#include "common/slice.h"

#define TYPE "multipart/form-data; boundary=xYz"
#define PART(name, value) \
  "--xYz\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define FILE_PART(name, value)                                              \
  "--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" name \
  "\"\r\nContent-Type: text/plain\r\n\r\n" value "\r\n"
#define END "--xYz--\r\n"

#define NOON INT64_C(1709208000) /* 2024-02-29T12:00:00Z */

/* Parses a body in pieces; 0 or the error's code. The form is left in *ret_form
 * either way. */
static int32_t parse(const char *body, size_t len, size_t piece, GString *file,
                     struct dg_postform **ret_form)
{
  struct dg_error err = {0};
  struct dg_postform *form = NULL;

  *ret_form = NULL;
  if (dg_postform_new(DG_SLICE(TYPE), &form, &err) < 0)
    return err.code;
  *ret_form = form;
  for (size_t at = 0; at < len; at += piece) {
    struct dg_slice input = dg_slice_of(body + at, MIN(piece, len - at)), out;

    while (input.len) {
      if (dg_postform_feed(form, &input, &out, &err) < 0)
        return err.code;
      dg_slice_append(file, out);
    }
  }
  return dg_postform_finish(form, &err) < 0 ? err.code : 0;
}

static int32_t parse_text(const char *body)
{
  struct dg_postform *form;
  g_autoptr(GString) file = g_string_new(NULL);
  int32_t code = parse(body, strlen(body), 7, file, &form);

  dg_postform_free(form);
  return code;
}

START_TEST(a_form_parses_alike_in_pieces_of_any_size)
{
  /* The file holds all that may be taken for a delimiter. */
  static const char content[] = "\r\n--xY\r\n--xYy\r\r\n-\r\n\r\n--xy--\r\n--";
  static const char body[] = PART("key", "up/${filename}") PART("x-amz-meta-a", "")
      FILE_PART("dir/a \\\"b\\\".txt", "\r\n--xY\r\n--xYy\r\r\n-\r\n\r\n--xy--\r\n--") END
      "epilogue --xYz";

  for (size_t piece = 1; piece < sizeof body + 1; piece++) {
    struct dg_postform *form;
    struct dg_slice key;
    struct dg_error err;
    g_autoptr(GString) file = g_string_new(NULL);

    ck_assert_int_eq(parse(body, sizeof body - 1, piece, file, &form), 0);
    ck_assert_str_eq(file->str, content);
    ck_assert_uint_eq(dg_postform_field_count(form), 2);
    ck_assert(dg_slice_present(dg_postform_field(form, "X-AMZ-META-A")));
    ck_assert_uint_eq(dg_postform_field(form, "x-amz-meta-a").len, 0);
    ck_assert(dg_slice_equal_str(dg_postform_file_name(form), "a \"b\".txt"));
    ck_assert_int_eq(dg_postform_key(form, &key, &err), 0);
    ck_assert(dg_slice_equal_str(key, "up/a \"b\".txt"));
    dg_postform_free(form);
  }
}
END_TEST

START_TEST(feeding_stops_where_the_file_begins)
{
  static const char body[] = PART("key", "k") FILE_PART("f", "data") PART("later", "1") END;
  struct dg_postform *form;
  struct dg_slice input = dg_slice_str(body), out;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_postform_new(DG_SLICE(TYPE), &form, &err), 0);
  ck_assert_int_eq(dg_postform_feed(form, &input, &out, &err), 0);
  ck_assert(dg_postform_file_reached(form));
  ck_assert_uint_eq(out.len, 0);
  ck_assert(dg_slice_starts_with(input, DG_SLICE("data")));
  while (input.len)
    ck_assert_int_eq(dg_postform_feed(form, &input, &out, &err), 0);
  ck_assert_int_eq(dg_postform_finish(form, &err), 0);
  ck_assert(!dg_slice_present(dg_postform_field(form, "later")));
  dg_postform_free(form);
}
END_TEST

START_TEST(an_empty_file_is_a_file)
{
  ck_assert_int_eq(parse_text(PART("key", "k") FILE_PART("f", "") END), 0);
}
END_TEST

START_TEST(malformed_forms_are_refused)
{
  static const struct {
    const char *body;
    int32_t code;
  } cases[] = {
      {"", DG_E_MALFORMED_POST},
      {PART("key", "k") END, DG_E_INVALID_ARGUMENT},
      {PART("key", "k") FILE_PART("f", "cut"), DG_E_MALFORMED_POST},
      {PART("key", "k"), DG_E_MALFORMED_POST},
      {PART("key", "k") PART("KEY", "k") FILE_PART("f", "x") END, DG_E_INVALID_ARGUMENT},
      {"--xYz\r\n\r\nno headers\r\n" END, DG_E_MALFORMED_POST},
      {"--xYz\r\nContent-Disposition: form-data\r\n\r\nx\r\n" END, DG_E_MALFORMED_POST},
      {"--xYz\nContent-Disposition: form-data; name=a\n\nx\n" END, DG_E_MALFORMED_POST},
      {"--xYzQ\r\n", DG_E_MALFORMED_POST},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    ck_assert_msg(parse_text(cases[i].body) == cases[i].code, "case %zu", i);
}
END_TEST

START_TEST(fields_are_bounded)
{
  g_autoptr(GString) body = g_string_new("--xYz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n");
  g_autoptr(GString) many = g_string_new(NULL);

  for (int i = 0; i < 70000; i++)
    g_string_append_c(body, 'x');
  ck_assert_int_eq(parse_text(body->str), DG_E_ENTITY_TOO_LARGE);
  for (int i = 0; i < 150; i++)
    g_string_append_printf(
        many, "--xYz\r\nContent-Disposition: form-data; name=\"f%d\"\r\n\r\n1\r\n", i);
  ck_assert_int_eq(parse_text(many->str), DG_E_ENTITY_TOO_LARGE);
}
END_TEST

START_TEST(a_boundary_must_be_given)
{
  static const char *const types[] = {"", "text/plain", "multipart/form-data",
                                      "multipart/form-data; boundary=",
                                      "multipart/form-data; charset=x"};
  struct dg_postform *form = NULL;
  struct dg_error err;

  for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
    ck_assert_int_eq(dg_postform_new(dg_slice_str(types[i]), &form, &err), -1);
    ck_assert_int_eq(err.code, DG_E_MALFORMED_POST);
    ck_assert_ptr_null(form);
  }
  ck_assert_int_eq(
      dg_postform_new(DG_SLICE("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""), &form,
                      &err),
      0);
  dg_postform_free(form);
}
END_TEST

/* ---- policies ---------------------------------------------------------------------------------- */

/* The form of a test plus this policy; 0 or the error's code. */
static int32_t check_policy(const char *policy, const char *more_fields, int64_t now_s,
                            uint64_t *ret_min, uint64_t *ret_max)
{
  g_autofree char *encoded = g_base64_encode((const guchar *)policy, strlen(policy));
  g_autofree char *body = g_strconcat(
      PART("key", "user/eric/${filename}") PART("Content-Type", "image/jpeg")
          "--xYz\r\nContent-Disposition: form-data; name=\"policy\"\r\n\r\n",
      encoded, "\r\n", more_fields, FILE_PART("my.jpg", "data") END, NULL);
  g_autoptr(GString) file = g_string_new(NULL);
  struct dg_postform *form;
  struct dg_error err = {0};
  int32_t code = parse(body, strlen(body), 100, file, &form);

  ck_assert_int_eq(code, 0);
  if (dg_postform_policy_check(form, DG_SLICE("pictures"), now_s, ret_min, ret_max, &err) < 0)
    code = err.code;
  dg_postform_free(form);
  return code;
}

#define EXPIRES "\"expiration\": \"2024-02-29T12:00:00.000Z\""
#define COVER "[\"starts-with\",\"$Content-Type\",\"image/\"],"

START_TEST(a_policy_admits_what_it_describes)
{
  uint64_t low = 7, high = 7;

  ck_assert_int_eq(check_policy("{" EXPIRES ", \"conditions\": [{\"bucket\": \"pictures\"}," COVER
                                "[\"starts-with\", \"$key\", \"user/eric/\"],"
                                "[\"content-length-range\", 1, \"1000\"]]}",
                                "", NOON, &low, &high),
                   0);
  ck_assert_uint_eq(low, 1);
  ck_assert_uint_eq(high, 1000);
  ck_assert_int_eq(check_policy("{" EXPIRES ", \"conditions\": [" COVER
                                "[\"eq\", \"$key\", \"user/eric/my.jpg\"]]}",
                                PART("x-ignore-me", "1") PART("submit", "Upload"), NOON, &low,
                                &high),
                   0);
  ck_assert_uint_eq(low, 0);
  ck_assert_uint_eq(high, UINT64_MAX);
}
END_TEST

START_TEST(a_policy_denies_everything_else)
{
  static const struct {
    const char *policy, *fields;
    int64_t now_s;
  } cases[] = {
      {"{" EXPIRES ",\"conditions\":[" COVER "[\"starts-with\",\"$key\",\"\"]]}", "", NOON + 1},
      {"{" EXPIRES ",\"conditions\":[" COVER "[\"starts-with\",\"$key\",\"user/bob/\"]]}", "", NOON},
      {"{" EXPIRES ",\"conditions\":[" COVER "{\"key\":\"user/eric/${filename}\"}]}", "", NOON},
      {"{" EXPIRES ",\"conditions\":[" COVER "{\"bucket\":\"other\"},[\"starts-with\",\"$key\",\"\"]]}",
       "", NOON},
      {"{" EXPIRES ",\"conditions\":[" COVER "[\"starts-with\",\"$key\",\"\"]]}",
       PART("x-amz-meta-a", "1"), NOON},
      {"{" EXPIRES ",\"conditions\":[[\"starts-with\",\"$key\",\"\"]]}", "", NOON},
      {"{" EXPIRES ",\"conditions\":[" COVER "[\"starts-with\",\"$key\",\"\"],{\"acl\":\"private\"}]}",
       "", NOON},
      {"{" EXPIRES ",\"conditions\":[[\"eq\",\"$content-type\",\"image/png\"],"
       "[\"starts-with\",\"$key\",\"\"]]}", "", NOON},
  };
  uint64_t low, high;

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    ck_assert_msg(check_policy(cases[i].policy, cases[i].fields, cases[i].now_s, &low, &high) ==
                      DG_E_ACCESS_DENIED,
                  "case %zu", i);
}
END_TEST

START_TEST(a_policy_that_is_none_is_an_invalid_argument)
{
  static const char *const policies[] = {
      "", "{", "[]", "{}", "{" EXPIRES "}", "{\"conditions\": []}",
      "{\"expiration\": \"tomorrow\", \"conditions\": []}",
      "{" EXPIRES ", \"conditions\": {}}", "{" EXPIRES ", \"conditions\": [5]}",
      "{" EXPIRES ", \"conditions\": [[\"eq\", \"key\", \"a\"]]}",
      "{" EXPIRES ", \"conditions\": [[\"like\", \"$key\", \"a\"]]}",
      "{" EXPIRES ", \"conditions\": [[\"eq\", \"$key\"]]}",
      "{" EXPIRES ", \"conditions\": [{\"key\": 5}]}",
      "{" EXPIRES ", \"conditions\": [[\"content-length-range\", 5, 1]]}",
      "{" EXPIRES ", \"conditions\": [[\"content-length-range\", -5, 1]]}",
      "{" EXPIRES ", " EXPIRES ", \"conditions\": []}",
  };
  uint64_t low, high;

  for (size_t i = 0; i < G_N_ELEMENTS(policies); i++)
    ck_assert_msg(check_policy(policies[i], "", NOON, &low, &high) == DG_E_INVALID_ARGUMENT,
                  "case %zu", i);
}
END_TEST

START_TEST(a_content_type_list_must_fit_entry_by_entry)
{
  static const char policy[] = "{" EXPIRES ",\"conditions\":[[\"starts-with\",\"$type\",\"image/\"],"
                               COVER "[\"starts-with\",\"$key\",\"\"]]}";
  uint64_t low, high;

  ck_assert_int_eq(check_policy(policy, PART("type", "image/a,text/b"), NOON, &low, &high), 0);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("postform");
  TCase *tc = tcase_create("postform");
  SRunner *runner;
  int failed;

  tcase_add_test(tc, a_form_parses_alike_in_pieces_of_any_size);
  tcase_add_test(tc, feeding_stops_where_the_file_begins);
  tcase_add_test(tc, an_empty_file_is_a_file);
  tcase_add_test(tc, malformed_forms_are_refused);
  tcase_add_test(tc, fields_are_bounded);
  tcase_add_test(tc, a_boundary_must_be_given);
  tcase_add_test(tc, a_policy_admits_what_it_describes);
  tcase_add_test(tc, a_policy_denies_everything_else);
  tcase_add_test(tc, a_policy_that_is_none_is_an_invalid_argument);
  tcase_add_test(tc, a_content_type_list_must_fit_entry_by_entry);
  suite_add_tcase(suite, tc);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
