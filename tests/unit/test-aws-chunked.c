/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/aws_chunked.h"

#include <check.h>
#include <stdlib.h>

#include "common/slice.h"

#define SCOPE "20130524/us-east-1/s3/aws4_request"

/* Amazon's documented uploads of 65 KiB of 'a' in chunks of 64 KiB. */
#define SEED_PLAIN   "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
#define SEED_TRAILER "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"

static struct dg_sigv4_seed make_seed(const char *signature)
{
  struct dg_sigv4_seed seed = {.timestamp = "20130524T000000Z", .scope = SCOPE};
  struct dg_sigv4_scope scope = {DG_SLICE("20130524"), DG_SLICE("us-east-1"), DG_SLICE("s3")};

  dg_sigv4_key(DG_SLICE("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), &scope, seed.key);
  g_strlcpy(seed.signature, signature, sizeof seed.signature);
  return seed;
}

static void append_chunk(GString *body, size_t size, const char *signature)
{
  g_string_append_printf(body, "%zx", size);
  if (signature)
    g_string_append_printf(body, ";chunk-signature=%s", signature);
  g_string_append(body, "\r\n");
  for (size_t i = 0; i < size; i++)
    g_string_append_c(body, 'a');
  if (size)
    g_string_append(body, "\r\n");
}

static GString *documented_body(void)
{
  GString *body = g_string_new(NULL);

  append_chunk(body, 65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648");
  append_chunk(body, 1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497");
  append_chunk(body, 0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9");
  g_string_append(body, "\r\n");
  return body;
}

static GString *documented_trailer_body(const char *ending)
{
  GString *body = g_string_new(NULL);

  append_chunk(body, 65536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2");
  append_chunk(body, 1024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7");
  append_chunk(body, 0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992");
  g_string_append_printf(body,
                         "x-amz-checksum-crc32c:sOO8/Q==%s"
                         "x-amz-trailer-signature:"
                         "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435%s%s",
                         ending, ending, ending);
  return body;
}

/* Feeds a body in pieces; 0 or the error's code. */
static int32_t decode(enum dg_payload_mode mode, const struct dg_sigv4_seed *seed,
                      uint64_t announced, const GString *body, size_t piece, GString *payload,
                      char **ret_crc32c)
{
  struct dg_aws_chunked *decoder = dg_aws_chunked_new(mode, seed, announced);
  struct dg_error err = {0};

  for (size_t at = 0; at < body->len && err.code == 0; at += piece) {
    struct dg_slice input = dg_slice_of(body->str + at, MIN(piece, body->len - at)), out;

    while (input.len) {
      if (dg_aws_chunked_feed(decoder, &input, &out, &err) < 0)
        break;
      dg_slice_append(payload, out);
    }
  }
  if (err.code == 0 && dg_aws_chunked_finish(decoder, &err) == 0) {
    ck_assert_uint_eq(dg_aws_chunked_size(decoder), payload->len);
    if (ret_crc32c)
      *ret_crc32c = dg_slice_dup(dg_aws_chunked_trailer(decoder, "X-Amz-Checksum-CRC32C"));
  }
  dg_aws_chunked_free(decoder);
  return err.code;
}

static int32_t decode_text(enum dg_payload_mode mode, uint64_t announced, const char *text)
{
  g_autoptr(GString) body = g_string_new(text);
  g_autoptr(GString) payload = g_string_new(NULL);
  g_autoptr(GString) again = g_string_new(NULL);
  int32_t code = decode(mode, NULL, announced, body, 4096, payload, NULL);

  /* The pieces it arrives in never matter. */
  ck_assert_int_eq(decode(mode, NULL, announced, body, 1, again, NULL), code);
  if (code == 0)
    ck_assert_str_eq(payload->str, again->str);
  return code;
}

START_TEST(the_documented_chunks_verify_in_pieces_of_any_size)
{
  static const size_t pieces[] = {1, 2, 3, 17, 64, 1000, 65536, 1000000};
  struct dg_sigv4_seed seed = make_seed(SEED_PLAIN);
  g_autoptr(GString) body = documented_body();

  for (size_t i = 0; i < G_N_ELEMENTS(pieces); i++) {
    g_autoptr(GString) payload = g_string_new(NULL);

    ck_assert_int_eq(
        decode(DG_PAYLOAD_SIGNED_CHUNKS, &seed, 66560, body, pieces[i], payload, NULL), 0);
    ck_assert_uint_eq(payload->len, 66560);
    ck_assert_uint_eq(strspn(payload->str, "a"), 66560);
  }
}
END_TEST

START_TEST(the_documented_trailer_verifies_and_is_returned)
{
  static const char *const endings[] = {"\r\n", "\n", "\n\r\n"};
  struct dg_sigv4_seed seed = make_seed(SEED_TRAILER);

  for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
    g_autoptr(GString) body = documented_trailer_body(endings[i]);
    g_autoptr(GString) payload = g_string_new(NULL);
    g_autofree char *crc = NULL;

    ck_assert_int_eq(decode(DG_PAYLOAD_SIGNED_TRAILER, &seed, 66560, body, 777, payload, &crc), 0);
    ck_assert_str_eq(crc, "sOO8/Q==");
  }
}
END_TEST

START_TEST(any_changed_byte_of_data_or_signature_is_refused)
{
  static const size_t places[] = {8, 40, 100, 30000, 65620, 65700, 66000};
  struct dg_sigv4_seed seed = make_seed(SEED_PLAIN);

  for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
    g_autoptr(GString) body = documented_body();
    g_autoptr(GString) payload = g_string_new(NULL);

    body->str[places[i]] ^= 1;
    ck_assert_int_ne(
        decode(DG_PAYLOAD_SIGNED_CHUNKS, &seed, 66560, body, 5000, payload, NULL), 0);
  }
}
END_TEST

START_TEST(a_changed_trailer_is_refused)
{
  struct dg_sigv4_seed seed = make_seed(SEED_TRAILER);
  g_autoptr(GString) body = documented_trailer_body("\r\n");
  g_autoptr(GString) payload = g_string_new(NULL);

  g_string_replace(body, "sOO8/Q==", "sOO8/A==", 0);
  ck_assert_int_eq(decode(DG_PAYLOAD_SIGNED_TRAILER, &seed, 66560, body, 5000, payload, NULL),
                   DG_E_SIGNATURE_MISMATCH);
}
END_TEST

START_TEST(a_signed_trailer_may_not_be_left_out)
{
  struct dg_sigv4_seed seed = make_seed(SEED_TRAILER);
  g_autoptr(GString) body = documented_trailer_body("\r\n");
  g_autoptr(GString) payload = g_string_new(NULL);

  g_string_truncate(body, (gsize)(strstr(body->str, "x-amz-checksum") - body->str));
  g_string_append(body, "\r\n");
  ck_assert_int_eq(decode(DG_PAYLOAD_SIGNED_TRAILER, &seed, 66560, body, 5000, payload, NULL),
                   DG_E_INVALID_REQUEST);
}
END_TEST

START_TEST(a_body_cut_short_is_incomplete)
{
  struct dg_sigv4_seed seed = make_seed(SEED_PLAIN);
  static const size_t lengths[] = {0, 1, 50, 90, 65625, 66700};

  for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
    g_autoptr(GString) body = documented_body();
    g_autoptr(GString) payload = g_string_new(NULL);

    g_string_truncate(body, lengths[i]);
    ck_assert_int_eq(
        decode(DG_PAYLOAD_SIGNED_CHUNKS, &seed, 66560, body, 5000, payload, NULL),
        DG_E_INCOMPLETE_BODY);
  }
}
END_TEST

START_TEST(the_announced_length_is_enforced)
{
  const enum dg_payload_mode mode = DG_PAYLOAD_UNSIGNED_TRAILER;

  ck_assert_int_eq(decode_text(mode, 3, "3\r\nabc\r\n0\r\n\r\n"), 0);
  ck_assert_int_eq(decode_text(mode, DG_TO_END, "3\r\nabc\r\n0\r\n\r\n"), 0);
  ck_assert_int_eq(decode_text(mode, 2, "3\r\nabc\r\n0\r\n\r\n"), DG_E_INCOMPLETE_BODY);
  ck_assert_int_eq(decode_text(mode, 4, "3\r\nabc\r\n0\r\n\r\n"), DG_E_INCOMPLETE_BODY);
  ck_assert_int_eq(decode_text(mode, 0, "0\r\n\r\n"), 0);
}
END_TEST

START_TEST(the_unsigned_trailer_mode_takes_what_clients_send)
{
  const enum dg_payload_mode mode = DG_PAYLOAD_UNSIGNED_TRAILER;

  ck_assert_int_eq(decode_text(mode, 3, "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n"),
                   0);
  ck_assert_int_eq(decode_text(mode, 3, "3\r\nabc\r\n0\r\nx-amz-checksum-crc32: NSRBwg==\r\n"), 0);
  ck_assert_int_eq(decode_text(mode, 3, "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\n\r\n\r\n"),
                   0);
  ck_assert_int_eq(decode_text(mode, 3, "3\r\nabc\r\n0\r\n"), 0);
  ck_assert_int_eq(decode_text(mode, 3, "1\r\na\r\n2\r\nbc\r\n000\r\n\r\n"), 0);
}
END_TEST

START_TEST(broken_framing_is_refused)
{
  static const char *const bodies[] = {
      "x\r\nabc\r\n0\r\n\r\n",          "3\nabc\r\n0\r\n\r\n",     "3\r\nabcd\r\n0\r\n\r\n",
      "\r\n3\r\nabc\r\n0\r\n\r\n",      "-3\r\nabc\r\n0\r\n\r\n",  "11111111111111111\r\nabc",
      "3\r\nabc\r\n0\r\nnonsense\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nmore",
      "3\r\nabc\r\n0\r\na:1\r\nA:2\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n",
  };
  g_autoptr(GString) long_line = g_string_new("3;");
  g_autoptr(GString) many = g_string_new("0\r\n");

  for (size_t i = 0; i < G_N_ELEMENTS(bodies); i++)
    ck_assert_msg(decode_text(DG_PAYLOAD_UNSIGNED_TRAILER, DG_TO_END, bodies[i]) ==
                      DG_E_INVALID_REQUEST,
                  "body %zu", i);
  for (int i = 0; i < 5000; i++)
    g_string_append_c(long_line, 'x');
  ck_assert_int_eq(decode_text(DG_PAYLOAD_UNSIGNED_TRAILER, DG_TO_END, long_line->str),
                   DG_E_INVALID_REQUEST);
  for (int i = 0; i < 20; i++)
    g_string_append_printf(many, "name%d:value\r\n", i);
  ck_assert_int_eq(decode_text(DG_PAYLOAD_UNSIGNED_TRAILER, DG_TO_END, many->str),
                   DG_E_INVALID_REQUEST);
}
END_TEST

START_TEST(open_mode_decodes_signed_chunks_without_looking_at_signatures)
{
  g_autoptr(GString) body = documented_body();
  g_autoptr(GString) payload = g_string_new(NULL);

  body->str[40] ^= 1;
  ck_assert_int_eq(decode(DG_PAYLOAD_SIGNED_CHUNKS, NULL, 66560, body, 5000, payload, NULL), 0);
}
END_TEST

START_TEST(payload_spans_point_into_the_input)
{
  struct dg_aws_chunked *decoder =
      dg_aws_chunked_new(DG_PAYLOAD_UNSIGNED_TRAILER, NULL, DG_TO_END);
  struct dg_slice input = DG_SLICE("5\r\nhello\r\n0\r\n\r\n"), out;
  const char *start = input.data;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_aws_chunked_feed(decoder, &input, &out, &err), 0);
  ck_assert_ptr_eq(out.data, start + 3);
  ck_assert_uint_eq(out.len, 5);
  dg_aws_chunked_free(decoder);
}
END_TEST

START_TEST(aws_chunked_is_no_content_encoding_of_the_object)
{
  static const struct {
    const char *sent, *kept;
  } cases[] = {{"aws-chunked", NULL},         {"gzip", "gzip"},      {"aws-chunked,gzip", "gzip"},
               {"gzip, AWS-Chunked", "gzip"}, {"a, aws-chunked, b", "a,b"}, {"", NULL}};

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *kept = dg_content_encoding_kept(dg_slice_str(cases[i].sent));

    ck_assert_pstr_eq(kept, cases[i].kept);
  }
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("aws-chunked");
  TCase *tc = tcase_create("aws-chunked");
  SRunner *runner;
  int failed;

  tcase_add_test(tc, the_documented_chunks_verify_in_pieces_of_any_size);
  tcase_add_test(tc, the_documented_trailer_verifies_and_is_returned);
  tcase_add_test(tc, any_changed_byte_of_data_or_signature_is_refused);
  tcase_add_test(tc, a_changed_trailer_is_refused);
  tcase_add_test(tc, a_signed_trailer_may_not_be_left_out);
  tcase_add_test(tc, a_body_cut_short_is_incomplete);
  tcase_add_test(tc, the_announced_length_is_enforced);
  tcase_add_test(tc, the_unsigned_trailer_mode_takes_what_clients_send);
  tcase_add_test(tc, broken_framing_is_refused);
  tcase_add_test(tc, open_mode_decodes_signed_chunks_without_looking_at_signatures);
  tcase_add_test(tc, payload_spans_point_into_the_input);
  tcase_add_test(tc, aws_chunked_is_no_content_encoding_of_the_object);
  suite_add_tcase(suite, tc);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
