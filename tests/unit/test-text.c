/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <check.h>
#include <stdlib.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/crc.h"
#include "common/hex.h"
#include "common/slice.h"
#include "common/uri.h"
#include "common/xml.h"
#include "common/xmlparse.h"

/* ---- hex and base64 ------------------------------------------------------------------ */

START_TEST(hex_and_base64_come_back)
{
  uint8_t bytes[64], back[64];
  char hex[129], base64[DG_BASE64_LEN(64) + 1];

  for (size_t i = 0; i < sizeof bytes; i++)
    bytes[i] = (uint8_t)(i * 37 + 200);
  for (size_t len = 0; len <= sizeof bytes; len++) {
    size_t got = 99;

    dg_hex_encode(bytes, len, hex);
    ck_assert(dg_hex_decode(dg_slice_str(hex), back, len));
    ck_assert_mem_eq(bytes, back, len);
    dg_base64_encode(bytes, len, base64);
    ck_assert_uint_eq(strlen(base64), DG_BASE64_LEN(len));
    ck_assert(dg_base64_decode(dg_slice_str(base64), back, sizeof back, &got));
    ck_assert_uint_eq(got, len);
    ck_assert_mem_eq(bytes, back, len);
  }
}
END_TEST

START_TEST(sloppy_base64_is_refused)
{
  static const char *const bad[] = {"A", "AA", "AAA", "AB==C", "AA=A", "====", "A===", "AB==",
                                    "AAB=", "AA-_", " AAA", "AAAA\n"};
  uint8_t out[16];
  size_t len;

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
    ck_assert_msg(!dg_base64_decode(dg_slice_str(bad[i]), out, sizeof out, &len), "%s", bad[i]);
  ck_assert(!dg_base64_decode(DG_SLICE("AAAAAAAA"), out, 5, &len));
  ck_assert(dg_base64_decode(DG_SLICE("AAAAAAAA"), out, 6, &len));
  ck_assert(dg_base64_decode(DG_SLICE(""), out, 0, &len));
}
END_TEST

START_TEST(sloppy_hex_is_refused)
{
  uint8_t out[4];

  ck_assert(!dg_hex_decode(DG_SLICE("0g"), out, 1));
  ck_assert(!dg_hex_decode(DG_SLICE("0"), out, 1));
  ck_assert(!dg_hex_decode(DG_SLICE("000"), out, 1));
  ck_assert(dg_hex_is(DG_SLICE("aB"), 2, false));
  ck_assert(!dg_hex_is(DG_SLICE("aB"), 2, true));
}
END_TEST

/* ---- times ------------------------------------------------------------------------------ */

START_TEST(every_form_of_a_time_names_the_same_second)
{
  static const char *const http[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
                                     "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"};
  static const char *const rfc3339[] = {
      "1994-11-06T08:49:37Z", "1994-11-06T08:49:37.000Z", "1994-11-06t08:49:37z",
      "1994-11-06T10:49:37+02:00", "1994-11-05T23:19:37.000000000-09:30", "1994-11-06 08:49:37Z"};
  char text[DG_RFC3339_SIZE];
  int64_t s;
  uint32_t ns;

  for (size_t i = 0; i < G_N_ELEMENTS(http); i++) {
    ck_assert(dg_time_parse_http(dg_slice_str(http[i]), &s));
    ck_assert_int_eq(s, 784111777);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(rfc3339); i++) {
    ck_assert(dg_time_parse_rfc3339(dg_slice_str(rfc3339[i]), &s, &ns));
    ck_assert_int_eq(s, 784111777);
    ck_assert_uint_eq(ns, 0);
  }
  ck_assert(dg_time_parse_basic(DG_SLICE("19941106T084937Z"), &s));
  ck_assert_int_eq(s, 784111777);
  dg_time_format_http(text, s);
  ck_assert_str_eq(text, http[0]);
  dg_time_format_basic(text, s);
  ck_assert_str_eq(text, "19941106T084937Z");
}
END_TEST

START_TEST(fractions_of_a_second_have_the_digits_asked_for)
{
  char text[DG_RFC3339_SIZE];
  int64_t s;
  uint32_t ns;

  ck_assert(dg_time_parse_rfc3339(DG_SLICE("2024-02-29T00:00:00.1234567891Z"), &s, &ns));
  ck_assert_uint_eq(ns, 123456789);
  ck_assert_uint_eq(dg_time_format_rfc3339(text, s, ns, 0), 20);
  ck_assert_str_eq(text, "2024-02-29T00:00:00Z");
  (void)dg_time_format_rfc3339(text, s, ns, 3);
  ck_assert_str_eq(text, "2024-02-29T00:00:00.123Z");
  (void)dg_time_format_rfc3339(text, s, ns, 6);
  ck_assert_str_eq(text, "2024-02-29T00:00:00.123456Z");
  (void)dg_time_format_rfc3339(text, s, ns, 9);
  ck_assert_str_eq(text, "2024-02-29T00:00:00.123456789Z");
}
END_TEST

START_TEST(days_of_four_centuries_come_back)
{
  for (int64_t day = -20000; day < 126097; day += 13) {
    int64_t s = day * 86400 + day * 7 % 86400, back;
    char text[DG_RFC3339_SIZE];
    uint32_t ns;

    (void)dg_time_format_rfc3339(text, s, 0, 0);
    ck_assert(dg_time_parse_rfc3339(dg_slice_str(text), &back, &ns));
    ck_assert_int_eq(back, s);
    dg_time_format_http(text, s);
    ck_assert(dg_time_parse_http(dg_slice_str(text), &back));
    ck_assert_int_eq(back, s);
  }
}
END_TEST

START_TEST(times_that_do_not_exist_are_refused)
{
  static const char *const bad[] = {"2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
                                    "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z",
                                    "2024-01-32T00:00:00Z", "2024-01-01T24:00:00Z",
                                    "2024-01-01T00:60:00Z", "2024-01-01T00:00:00",
                                    "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00+0200",
                                    "2024-01-01T00:00:00Zx", "0000-01-01T00:00:00Z", ""};
  static const char *const bad_http[] = {"", "Sun", "Sun, 6 Nov 1994 08:49:37 GMT",
                                         "Sun, 06 Nov 1994 08:49:37 CET",
                                         "Sun, 06 nov 1994 08:49:37 GMT", "06 Nov 1994",
                                         "Sun, 31 Feb 1994 08:49:37 GMT"};
  int64_t s;
  uint32_t ns;

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
    ck_assert_msg(!dg_time_parse_rfc3339(dg_slice_str(bad[i]), &s, &ns), "%s", bad[i]);
  for (size_t i = 0; i < G_N_ELEMENTS(bad_http); i++)
    ck_assert_msg(!dg_time_parse_http(dg_slice_str(bad_http[i]), &s), "%s", bad_http[i]);
}
END_TEST

/* ---- percent encoding ----------------------------------------------------------------------- */

START_TEST(every_byte_survives_encoding)
{
  char all[256], back[256 * 3];
  g_autoptr(GString) encoded = g_string_new(NULL);

  for (size_t i = 0; i < sizeof all; i++)
    all[i] = (char)i;
  dg_uri_encode(encoded, dg_slice_of(all, sizeof all), /* keep_slash= */ false);
  ck_assert_uint_eq(
      dg_uri_decode(dg_slice_of(encoded->str, encoded->len), /* plus_is_space= */ true, back), 256);
  ck_assert_mem_eq(back, all, 256);
}
END_TEST

START_TEST(recoding_gives_the_one_spelling)
{
  char out[256];
  struct dg_slice sent = DG_SLICE("a%2fb%2Fc/d+e%7e~!%C3%a9");
  size_t len = dg_uri_recode(sent, /* plus_is_space= */ false, /* keep_slash= */ true, out);

  ck_assert(dg_slice_equal_str(dg_slice_of(out, len), "a/b/c/d%2Be~~%21%C3%A9"));
  len = dg_uri_recode(sent, /* plus_is_space= */ true, /* keep_slash= */ false, out);
  ck_assert(dg_slice_equal_str(dg_slice_of(out, len), "a%2Fb%2Fc%2Fd%20e~~%21%C3%A9"));
  ck_assert_uint_eq(dg_uri_recode(DG_SLICE("%4"), false, false, out), SIZE_MAX);
  ck_assert_uint_eq(dg_uri_decode(DG_SLICE("%zz"), false, out), SIZE_MAX);
}
END_TEST

START_TEST(a_url_is_shown_without_what_may_be_secret)
{
  static const struct {
    const char *url, *shown;
  } cases[] = {
      {"https://h.example:9000/a%20b", "https://h.example:9000/a%20b"},
      {"https://us:pw@h.example/x", "https://...@h.example/x"},
      {"https://us:p/w@x@h", "https://...@h"},
      {"us:pw@h", "...@h"},
      {"http://h/x?token=pw", "http://h/x..."},
      {"http://h#pw", "http://h..."},
      {"http://us:p?w@h", "http://...@..."},
      {"http://h/?a=pw@pw", "http://...@..."},
      {"pw://", "pw://"},
      {"://us:pw@", "...@"},
      {"p w://us:pw@h", "...@h"},
      {"", ""},
      {"@", "...@"},
      {"?pw", "..."},
      {"h", "h"},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *shown = dg_url_for_show(cases[i].url);

    ck_assert_str_eq(shown, cases[i].shown);
  }
}
END_TEST

START_TEST(query_pairs_keep_the_difference_between_empty_and_absent)
{
  struct dg_slice query = DG_SLICE("&a=1&&b&c=&d=x=y&");
  struct dg_query_pair pair;

  ck_assert(dg_query_next(&query, &pair));
  ck_assert(dg_slice_equal_str(pair.value, "1"));
  ck_assert(dg_query_next(&query, &pair));
  ck_assert(dg_slice_equal_str(pair.name, "b") && !dg_slice_present(pair.value));
  ck_assert(dg_query_next(&query, &pair));
  ck_assert(dg_slice_equal_str(pair.name, "c") && dg_slice_present(pair.value));
  ck_assert(dg_query_next(&query, &pair));
  ck_assert(dg_slice_equal_str(pair.value, "x=y"));
  ck_assert(!dg_query_next(&query, &pair));
}
END_TEST

/* ---- XML --------------------------------------------------------------------------------------- */

static int collect_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  (void)err;
  g_string_append_printf(receiver, "<%u:%s>", depth, name);
  return 0;
}

static int collect_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                       struct dg_error *err)
{
  (void)err;
  (void)depth;
  g_string_append_printf(receiver, "[%.*s]</%s>", (int)text.len, text.data, name);
  return 0;
}

static int32_t parse_xml(const char *document, GString *out)
{
  static const struct dg_xml_handler handler = {collect_begin, collect_end};
  struct dg_error err = {0};

  return dg_xml_parse(dg_slice_str(document), &handler, out, &err) < 0 ? err.code : 0;
}

START_TEST(escaped_text_comes_back_through_a_parser)
{
  static const char odd[] = "a<b>&\"'\r\n\t\xC3\xA9\xF0\x9D\x84\x9E]]>";
  g_autoptr(GString) document = g_string_new(NULL);
  g_autoptr(GString) seen = g_string_new(NULL);
  g_autofree char *wanted = g_strdup_printf("<1:Key>[%s]</Key>", odd);

  dg_xml_text(document, "Key", dg_slice_str(odd));
  ck_assert_int_eq(parse_xml(document->str, seen), 0);
  ck_assert_str_eq(seen->str, wanted);
}
END_TEST

START_TEST(what_xml_cannot_carry_becomes_a_replacement_character)
{
  static const struct {
    struct dg_slice text;
    const char *wanted;
  } cases[] = {{DG_SLICE("a\x01" "b"), "a\xEF\xBF\xBD" "b"},
               {DG_SLICE("a\xFF" "b"), "a\xEF\xBF\xBD" "b"},
               {DG_SLICE("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
               {DG_SLICE("\xC3"), "\xEF\xBF\xBD"},
               {DG_SLICE("\xEF\xBF\xBF"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
               {DG_SLICE("a\0b"), "a\xEF\xBF\xBD" "b"}};

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GString) seen = g_string_new(NULL);

    dg_xml_escape(out, cases[i].text);
    ck_assert_str_eq(out->str, cases[i].wanted);
    g_string_prepend(out, "<a>");
    g_string_append(out, "</a>");
    ck_assert_int_eq(parse_xml(out->str, seen), 0);
  }
}
END_TEST

START_TEST(namespaces_and_prefixes_do_not_matter)
{
  g_autoptr(GString) seen = g_string_new(NULL);

  ck_assert_int_eq(
      parse_xml("<s3:A xmlns:s3=\"http://s3.amazonaws.com/\"><s3:B> x </s3:B>y</s3:A>", seen), 0);
  ck_assert_str_eq(seen->str, "<1:A><2:B>[ x ]</B>[y]</A>");
}
END_TEST

START_TEST(hostile_xml_is_refused)
{
  g_autoptr(GString) seen = g_string_new(NULL);
  g_autoptr(GString) deep = g_string_new(NULL);
  g_autoptr(GString) big = g_string_new("<a>");

  ck_assert_int_eq(parse_xml("<!DOCTYPE a [<!ENTITY b \"ccc\">]><a>&b;</a>", seen),
                   DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_xml("<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>", seen),
                   DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_xml("", seen), DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_xml("<a>", seen), DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_xml("<a></b>", seen), DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_xml("<a/><b/>", seen), DG_E_MALFORMED_XML);
  ck_assert_int_eq(parse_xml("<a>\xff</a>", seen), DG_E_MALFORMED_XML);
  for (int i = 0; i < 20; i++)
    g_string_append(deep, "<a>");
  ck_assert_int_eq(parse_xml(deep->str, seen), DG_E_MALFORMED_XML);
  for (int i = 0; i < 20000; i++)
    g_string_append_c(big, 'x');
  g_string_append(big, "</a>");
  ck_assert_int_eq(parse_xml(big->str, seen), DG_E_MALFORMED_XML);
}
END_TEST

/* ---- digests ------------------------------------------------------------------------------------- */

START_TEST(the_published_check_values_come_out)
{
  static const struct {
    uint32_t kind;
    const char *hex;
  } cases[] = {{DG_SUM_CRC32, "cbf43926"},
               {DG_SUM_CRC32C, "e3069283"},
               {DG_SUM_CRC64NVME, "ae8b14860a799888"},
               {DG_SUM_MD5, "25f9e794323b453885f5181f1b624d0b"},
               {DG_SUM_SHA1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"},
               {DG_SUM_SHA256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"}};
  struct dg_checksum sum = {0};

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    uint8_t digest[DG_SUM_MAX_BYTES];
    char hex[65];
    size_t len;

    dg_checksum_init(&sum, cases[i].kind);
    dg_checksum_update(&sum, "1234", 4);
    dg_checksum_update(&sum, "56789", 5);
    len = dg_checksum_final(&sum, digest);
    ck_assert_uint_eq(len, dg_checksum_len(cases[i].kind));
    dg_hex_encode(digest, len, hex);
    ck_assert_str_eq(hex, cases[i].hex);
    ck_assert_uint_eq(sum.size_bytes, 9);
  }
  dg_checksum_clear(&sum);
}
END_TEST

START_TEST(the_fast_crc_equals_the_tables_at_every_length_and_alignment)
{
  static uint8_t bytes[5000];
  static struct dg_crc *const kinds[] = {&dg_crc_ieee, &dg_crc_iscsi, &dg_crc_nvme64};
  uint32_t random = 12345;

  for (size_t i = 0; i < sizeof bytes; i++) {
    random = random * 1664525 + 1013904223;
    bytes[i] = (uint8_t)(random >> 24);
  }
  for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
    for (size_t len = 0; len < 700; len++) {
      size_t from = len % 17;
      uint64_t fast, table, start = len * UINT64_C(2654435761) & 0xffffffff;

      fast = dg_crc_update(kinds[k], start, bytes + from, len);
      dg_crc_use_portable(true);
      table = dg_crc_update(kinds[k], start, bytes + from, len);
      dg_crc_use_portable(false);
      ck_assert_msg(fast == table, "kind %zu length %zu", k, len);
    }
    /* Whole, in pieces, and combined. */
    for (size_t cut = 0; cut <= sizeof bytes; cut += 311) {
      uint64_t whole = dg_crc_update(kinds[k], 0, bytes, sizeof bytes);
      uint64_t first = dg_crc_update(kinds[k], 0, bytes, cut);
      uint64_t second = dg_crc_update(kinds[k], 0, bytes + cut, sizeof bytes - cut);

      ck_assert(dg_crc_update(kinds[k], first, bytes + cut, sizeof bytes - cut) == whole);
      ck_assert(dg_crc_combine(kinds[k], first, second, sizeof bytes - cut) == whole);
    }
  }
}
END_TEST

START_TEST(checksums_know_their_names)
{
  for (uint32_t kind = DG_SUM_CRC32; kind <= DG_SUM_SHA256; kind++) {
    ck_assert_uint_eq(dg_checksum_from_name(dg_slice_str(dg_checksum_name(kind))), kind);
    ck_assert_uint_eq(dg_checksum_from_header(dg_slice_str(dg_checksum_header(kind))), kind);
  }
  ck_assert_uint_eq(dg_checksum_from_name(DG_SLICE("crc64nvme")), DG_SUM_CRC64NVME);
  ck_assert_uint_eq(dg_checksum_from_name(DG_SLICE("CRC16")), DG_SUM_NONE);
  ck_assert(dg_checksum_valid(DG_SUM_CRC32, DG_SLICE("NSRBwg==")));
  ck_assert(!dg_checksum_valid(DG_SUM_CRC32, DG_SLICE("NSRBwgAA")));
  ck_assert(!dg_checksum_valid(DG_SUM_NONE, DG_SLICE("")));
}
END_TEST

START_TEST(hmac_matches_rfc_4231)
{
  uint8_t mac[32], key[131];
  char hex[65];

  dg_hmac_sha256("Jefe", 4, DG_SLICE("what do ya want for nothing?"), mac);
  dg_hex_encode(mac, 32, hex);
  ck_assert_str_eq(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  memset(key, 0xaa, sizeof key);
  dg_hmac_sha256(key, sizeof key,
                 DG_SLICE("Test Using Larger Than Block-Size Key - Hash Key First"), mac);
  dg_hex_encode(mac, 32, hex);
  ck_assert_str_eq(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("text");
  TCase *tc = tcase_create("text");
  SRunner *runner;
  int failed;

  tcase_add_test(tc, hex_and_base64_come_back);
  tcase_add_test(tc, sloppy_base64_is_refused);
  tcase_add_test(tc, sloppy_hex_is_refused);
  tcase_add_test(tc, every_form_of_a_time_names_the_same_second);
  tcase_add_test(tc, fractions_of_a_second_have_the_digits_asked_for);
  tcase_add_test(tc, days_of_four_centuries_come_back);
  tcase_add_test(tc, times_that_do_not_exist_are_refused);
  tcase_add_test(tc, every_byte_survives_encoding);
  tcase_add_test(tc, recoding_gives_the_one_spelling);
  tcase_add_test(tc, a_url_is_shown_without_what_may_be_secret);
  tcase_add_test(tc, query_pairs_keep_the_difference_between_empty_and_absent);
  tcase_add_test(tc, escaped_text_comes_back_through_a_parser);
  tcase_add_test(tc, what_xml_cannot_carry_becomes_a_replacement_character);
  tcase_add_test(tc, namespaces_and_prefixes_do_not_matter);
  tcase_add_test(tc, hostile_xml_is_refused);
  tcase_add_test(tc, the_published_check_values_come_out);
  tcase_add_test(tc, the_fast_crc_equals_the_tables_at_every_length_and_alignment);
  tcase_add_test(tc, checksums_know_their_names);
  tcase_add_test(tc, hmac_matches_rfc_4231);
  suite_add_tcase(suite, tc);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
