/* SPDX-License-Identifier: Apache-2.0 */
/* Between headers and objects: metadata in and out, and the payload decoder. */
#include "config.h"

#include <check.h>

#include "common/clock.h"
#include "core/config/config.h"
#include "core/http/op.h"
#include "core/http/payload.h"
#include "core/http/policy.h"

#include "common/banned.h"

/* ---- An exchange without a connection --------------------------------------------- */

struct rig {
  struct dg_snapshot snapshot;
  struct dg_server_context server;
  struct dg_handler handler;
  struct dg_exchange x;
  struct dg_pair headers[16];
  struct dg_param params[8];
  GString *seen; /* what body() got */
};

static int body(struct dg_exchange *x, const void *data, size_t len, struct dg_error *err)
{
  GString *seen = x->op;

  (void)err;
  g_string_append_len(seen, data, (gssize)len);
  return 0;
}

static void rig_open(struct rig *rig)
{
  memset(rig, 0, sizeof *rig);
  rig->snapshot.max_object_size = 1000;
  rig->snapshot.bucket_defaults.quota_bytes = DG_QUOTA_NONE;
  rig->snapshot.bucket_defaults.quota_objects = DG_QUOTA_NONE;
  rig->x.snapshot = &rig->snapshot;
  rig->handler.body_mode = DG_BODY_STREAM;
  rig->handler.body = body;
  rig->seen = g_string_new(NULL);
  rig->x.server = &rig->server;
  rig->x.handler = &rig->handler;
  rig->x.op = rig->seen;
  rig->x.request.headers = rig->headers;
  rig->x.request.content_length = -1;
  rig->x.target.params = rig->params;
}

static void rig_close(struct rig *rig)
{
  g_string_free(rig->seen, TRUE);
  g_clear_pointer(&rig->x.collected, g_byte_array_unref);
  if (rig->x.response.head)
    g_string_free(rig->x.response.head, TRUE);
}

static void header(struct rig *rig, const char *name, const char *value)
{
  rig->headers[rig->x.request.header_count++] =
      (struct dg_pair){dg_slice_str(name), dg_slice_str(value)};
}

static void param(struct rig *rig, const char *name, const char *value)
{
  rig->params[rig->x.target.param_count++] =
      (struct dg_param){dg_slice_str(name), dg_slice_str(value)};
}

static bool answered(const struct rig *rig, const char *line)
{
  g_autofree char *whole = g_strconcat(line, "\r\n", NULL);

  return rig->x.response.head && strstr(rig->x.response.head->str, whole);
}

/* ---- Metadata --------------------------------------------------------------------------- */

static struct dg_meta *meta_of(struct rig *rig)
{
  struct dg_error err = {0};
  struct dg_meta *meta = NULL;

  ck_assert_msg(dg_op_meta_from_head(&rig->x, &meta, &err) == 0, "%s", err.detail);
  return meta;
}

static void answer_with(struct rig *rig, struct dg_meta *meta)
{
  struct dg_object_info info = {.meta = meta, .size_bytes = 5, .last_modified_s = 784111777};

  (void)g_strlcpy(info.etag, "\"abc\"", sizeof info.etag);
  dg_op_object_headers(&rig->x, &info);
}

START_TEST(content_headers_and_user_metadata_come_back_as_they_were)
{
  struct rig rig;
  struct dg_meta *meta;

  rig_open(&rig);
  header(&rig, "Content-Type", "text/x");
  header(&rig, "Cache-Control", "no-cache");
  header(&rig, "Content-Encoding", "aws-chunked, gzip");
  header(&rig, "X-Amz-Meta-Mixed", "Value");
  header(&rig, "x-amz-meta-word", "=?UTF-8?B?w7w=?=");
  header(&rig, "x-amz-other", "not kept");
  meta = meta_of(&rig);
  ck_assert_uint_eq(meta->user_count, 2);
  answer_with(&rig, meta);
  ck_assert(answered(&rig, "Content-Type: text/x"));
  ck_assert(answered(&rig, "Cache-Control: no-cache"));
  ck_assert(answered(&rig, "Content-Encoding: gzip"));
  ck_assert(answered(&rig, "x-amz-meta-mixed: Value"));
  ck_assert(answered(&rig, "x-amz-meta-word: =?UTF-8?B?w7w=?="));
  ck_assert(answered(&rig, "ETag: \"abc\""));
  ck_assert(answered(&rig, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"));
  ck_assert(!strstr(rig.x.response.head->str, "not kept"));
  dg_meta_unref(meta);
  rig_close(&rig);
}
END_TEST

START_TEST(an_encoding_of_nothing_but_aws_chunked_is_none)
{
  struct rig rig;
  struct dg_meta *meta;

  rig_open(&rig);
  header(&rig, "content-encoding", "aws-chunked");
  meta = meta_of(&rig);
  ck_assert_uint_eq(meta->extension_count, 0);
  dg_meta_unref(meta);
  rig_close(&rig);
}
END_TEST

START_TEST(values_beyond_ascii_go_out_as_encoded_words)
{
  struct rig rig;
  struct dg_meta *meta;

  rig_open(&rig);
  header(&rig, "x-amz-meta-utf8", "\xc3\xbc");
  header(&rig, "x-amz-meta-latin", "\xfc");
  meta = meta_of(&rig);
  ck_assert(dg_slice_equal_str(dg_meta_user(meta, "utf8"), "\xc3\xbc"));
  ck_assert(dg_slice_equal_str(dg_meta_user(meta, "latin"), "\xc3\xbc"));
  answer_with(&rig, meta);
  ck_assert(answered(&rig, "x-amz-meta-utf8: =?UTF-8?B?w7w=?="));
  ck_assert(answered(&rig, "x-amz-meta-latin: =?UTF-8?B?w7w=?="));
  dg_meta_unref(meta);
  rig_close(&rig);
}
END_TEST

START_TEST(a_long_encoded_value_is_cut_between_characters)
{
  struct rig rig;
  struct dg_meta *meta;
  g_autoptr(GString) long_value = g_string_new("x");

  for (int i = 0; i < 60; i++)
    g_string_append(long_value, "\xe2\x98\x83");
  rig_open(&rig);
  header(&rig, "x-amz-meta-snow", long_value->str);
  meta = meta_of(&rig);
  answer_with(&rig, meta);
  {
    const char *word = strstr(rig.x.response.head->str, "x-amz-meta-snow: ");
    g_autoptr(GString) decoded = g_string_new(NULL);

    ck_assert_ptr_nonnull(word);
    while ((word = strstr(word, "=?UTF-8?B?"))) {
      const char *end = strstr(word, "?=");
      g_autofree char *base64 = g_strndup(word + 10, (gsize)(end - word - 10));
      gsize len;
      g_autofree guchar *bytes = g_base64_decode(base64, &len);

      ck_assert_int_le((int)(end + 2 - word), 75);
      ck_assert(g_utf8_validate((char *)bytes, (gssize)len, NULL));
      g_string_append_len(decoded, (char *)bytes, (gssize)len);
      word = end;
    }
    ck_assert_str_eq(decoded->str, long_value->str);
  }
  dg_meta_unref(meta);
  rig_close(&rig);
}
END_TEST

START_TEST(repeated_metadata_headers_are_joined)
{
  struct rig rig;
  struct dg_meta *meta;

  rig_open(&rig);
  header(&rig, "x-amz-meta-a", "1");
  header(&rig, "x-amz-meta-b", "x");
  header(&rig, "X-AMZ-META-A", "2");
  meta = meta_of(&rig);
  ck_assert_uint_eq(meta->user_count, 2);
  ck_assert(dg_slice_equal_str(dg_meta_user(meta, "a"), "1,2"));
  dg_meta_unref(meta);
  rig_close(&rig);
}
END_TEST

START_TEST(metadata_of_more_than_two_kibibytes_is_refused)
{
  struct rig rig;
  struct dg_error err = {0};
  struct dg_meta *meta = NULL;
  g_autofree char *value = g_strnfill(2048, 'v');

  rig_open(&rig);
  header(&rig, "x-amz-meta-k", value);
  ck_assert_int_eq(dg_op_meta_from_head(&rig.x, &meta, &err), -1);
  ck_assert_int_eq(err.code, DG_E_METADATA_TOO_LARGE);
  ck_assert_ptr_null(meta);
  value[2047] = '\0';
  rig.headers[0].value.len = 2047;
  meta = meta_of(&rig);
  dg_meta_unref(meta);
  rig_close(&rig);
}
END_TEST

START_TEST(a_chosen_header_wins_and_cannot_split_the_answer)
{
  struct rig rig;
  struct dg_error err = {0};
  struct dg_meta *meta;

  rig_open(&rig);
  header(&rig, "content-type", "text/x");
  param(&rig, "response-content-type", "image/png");
  meta = meta_of(&rig);
  ck_assert_int_eq(dg_op_check_overrides(&rig.x, &err), 0);
  answer_with(&rig, meta);
  ck_assert(answered(&rig, "Content-Type: image/png"));
  param(&rig, "response-expires", "x\r\nEvil: 1");
  ck_assert_int_eq(dg_op_check_overrides(&rig.x, &err), -1);
  ck_assert_int_eq(err.code, DG_E_INVALID_ARGUMENT);
  dg_meta_unref(meta);
  rig_close(&rig);
}
END_TEST

START_TEST(a_presigned_link_may_carry_metadata_in_its_query)
{
  struct rig rig;
  struct dg_meta *meta;

  rig_open(&rig);
  header(&rig, "x-amz-meta-both", "header");
  param(&rig, "x-amz-meta-a", "1");
  param(&rig, "x-amz-meta-both", "query");
  param(&rig, "x-amz-acl", "public-read");
  meta = meta_of(&rig);
  ck_assert_uint_eq(meta->user_count, 1); /* unsigned parameters mean nothing */
  ck_assert(!dg_slice_present(dg_op_header(&rig.x, "x-amz-acl")));
  dg_meta_unref(meta);
  rig.x.identity.presigned = true;
  meta = meta_of(&rig);
  ck_assert_uint_eq(meta->user_count, 2);
  ck_assert(dg_slice_equal_str(dg_meta_user(meta, "a"), "1"));
  ck_assert(dg_slice_equal_str(dg_meta_user(meta, "both"), "header"));
  ck_assert(dg_slice_equal_str(dg_op_header(&rig.x, "x-amz-acl"), "public-read"));
  dg_meta_unref(meta);
  rig_close(&rig);
}
END_TEST

/* ---- Payload ------------------------------------------------------------------------------ */

/* Opens, feeds raw in steps of `step` bytes, ends. The error's code, or 0. */
static int32_t run_payload(struct rig *rig, const char *raw, size_t step)
{
  struct dg_error err = {0};
  struct dg_payload *payload = NULL;
  size_t len = strlen(raw);

  if (dg_payload_facts_read(&rig->x, &err) < 0 || dg_payload_open(&rig->x, len, &payload, &err) < 0)
    return err.code;
  for (size_t at = 0; at < len && err.code == 0; at += step)
    (void)dg_payload_write(payload, raw + at, MIN(step, len - at), &err);
  if (err.code == 0)
    (void)dg_payload_end(payload, &err);
  dg_payload_free(payload);
  return err.code;
}

START_TEST(a_plain_body_passes_through)
{
  struct rig rig;

  rig_open(&rig);
  rig.x.request.content_length = 5;
  ck_assert_int_eq(run_payload(&rig, "hello", 2), 0);
  ck_assert_str_eq(rig.seen->str, "hello");
  ck_assert_uint_eq(rig.x.body_bytes, 5);
  rig_close(&rig);
}
END_TEST

START_TEST(a_body_longer_than_the_limit_is_refused_before_or_while_it_comes)
{
  struct rig rig;
  g_autofree char *long_body = g_strnfill(1001, 'x');

  rig_open(&rig);
  rig.x.request.content_length = 1001;
  ck_assert_int_eq(run_payload(&rig, long_body, 100), DG_E_ENTITY_TOO_LARGE);
  ck_assert_uint_eq(rig.seen->len, 0);
  rig_close(&rig);

  rig_open(&rig);
  rig.x.request.chunked = true;
  {
    struct dg_error err = {0};
    struct dg_payload *payload = NULL;

    ck_assert_int_eq(dg_payload_facts_read(&rig.x, &err), 0);
    ck_assert_int_eq(dg_payload_open(&rig.x, DG_TO_END, &payload, &err), 0);
    ck_assert_int_eq(dg_payload_write(payload, long_body, 1000, &err), 0);
    ck_assert_int_eq(dg_payload_write(payload, long_body, 1, &err), -1);
    ck_assert_int_eq(err.code, DG_E_ENTITY_TOO_LARGE);
    dg_payload_free(payload);
  }
  rig_close(&rig);
}
END_TEST

START_TEST(chunks_with_a_trailer_come_out_bare_however_they_are_cut)
{
  static const char raw[] = "3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:hYfYZQ==\r\n\r\n";

  for (size_t step = 1; step < sizeof raw; step++) {
    struct rig rig;

    rig_open(&rig);
    rig.x.identity.payload_mode = DG_PAYLOAD_UNSIGNED_TRAILER;
    header(&rig, "x-amz-decoded-content-length", "5");
    header(&rig, "x-amz-trailer", "x-amz-checksum-crc32");
    ck_assert_int_eq(run_payload(&rig, raw, step), 0);
    ck_assert_str_eq(rig.seen->str, "abcde");
    ck_assert_uint_eq(rig.x.payload.checksum_kind, DG_SUM_CRC32);
    ck_assert_str_eq(rig.x.payload.checksum_base64, "hYfYZQ==");
    rig_close(&rig);
  }
}
END_TEST

START_TEST(an_announced_trailer_must_come)
{
  struct rig rig;

  rig_open(&rig);
  rig.x.identity.payload_mode = DG_PAYLOAD_UNSIGNED_TRAILER;
  header(&rig, "x-amz-decoded-content-length", "1");
  header(&rig, "x-amz-trailer", "x-amz-checksum-crc32");
  ck_assert_int_eq(run_payload(&rig, "1\r\na\r\n0\r\n\r\n", 100), DG_E_INVALID_REQUEST);
  rig_close(&rig);
}
END_TEST

START_TEST(chunks_without_a_decoded_length_are_refused)
{
  struct rig rig;

  rig_open(&rig);
  rig.x.identity.payload_mode = DG_PAYLOAD_UNSIGNED_TRAILER;
  ck_assert_int_eq(run_payload(&rig, "0\r\n\r\n", 100), DG_E_MISSING_LENGTH);
  rig_close(&rig);
}
END_TEST

START_TEST(two_checksums_or_a_malformed_one_are_refused)
{
  struct rig rig;

  rig_open(&rig);
  header(&rig, "x-amz-checksum-crc32", "AAAAAA==");
  header(&rig, "x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
  ck_assert_int_eq(run_payload(&rig, "", 1), DG_E_INVALID_REQUEST);
  rig_close(&rig);

  rig_open(&rig);
  header(&rig, "x-amz-checksum-crc32", "AAAA");
  ck_assert_int_eq(run_payload(&rig, "", 1), DG_E_INVALID_REQUEST);
  rig_close(&rig);
}
END_TEST

START_TEST(a_collected_document_is_verified)
{
  static const struct {
    const char *name, *value;
    int32_t code;
  } rows[] = {
      {"content-md5", "XUFAKrxLKna5cZ2REBfFkg==", 0}, /* of "hello" */
      {"content-md5", "AAAAAAAAAAAAAAAAAAAAAA==", DG_E_BAD_DIGEST},
      {"content-md5", "short", DG_E_INVALID_DIGEST},
      {"x-amz-checksum-crc32", "NhCmhg==", 0},
      {"x-amz-checksum-crc32", "AAAAAA==", DG_E_CHECKSUM_MISMATCH},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    struct rig rig;

    rig_open(&rig);
    rig.handler.body_mode = DG_BODY_COLLECT;
    rig.handler.collect_max = 10;
    rig.x.request.content_length = 5;
    header(&rig, rows[i].name, rows[i].value);
    ck_assert_int_eq(run_payload(&rig, "hello", 3), rows[i].code);
    rig_close(&rig);
  }
}
END_TEST

START_TEST(a_document_past_its_bound_is_refused)
{
  struct rig rig;

  rig_open(&rig);
  rig.handler.body_mode = DG_BODY_COLLECT;
  rig.handler.collect_max = 4;
  rig.x.request.content_length = 5;
  ck_assert_int_eq(run_payload(&rig, "hello", 5), DG_E_ENTITY_TOO_LARGE);
  rig_close(&rig);
}
END_TEST

/* ---- Small readers -------------------------------------------------------------------------- */

START_TEST(numbers_in_the_query_are_bounded)
{
  struct rig rig;
  struct dg_error err = {0};
  uint64_t number = 99;

  rig_open(&rig);
  ck_assert_int_eq(dg_op_query_uint(&rig.x, "max-keys", 0, 10, 7, &number, &err), 0);
  ck_assert_uint_eq(number, 7);
  param(&rig, "max-keys", "11");
  ck_assert_int_eq(dg_op_query_uint(&rig.x, "max-keys", 0, 10, 7, &number, &err), -1);
  ck_assert_int_eq(err.code, DG_E_INVALID_ARGUMENT);
  ck_assert_uint_eq(number, 7);
  param(&rig, "part", "-1");
  ck_assert_int_eq(dg_op_query_uint(&rig.x, "part", 0, 10, 7, &number, &err), -1);
  param(&rig, "ten", "10");
  ck_assert_int_eq(dg_op_query_uint(&rig.x, "ten", 0, 10, 7, &number, &err), 0);
  ck_assert_uint_eq(number, 10);
  rig_close(&rig);
}
END_TEST

START_TEST(what_would_be_promised_and_not_kept_is_refused)
{
  static const struct {
    const char *name, *value;
    int32_t code;
  } rows[] = {
      {"x-amz-acl", "private", 0},
      {"x-amz-acl", "public-read", DG_E_NOT_IMPLEMENTED},
      {"x-amz-server-side-encryption", "AES256", DG_E_NOT_IMPLEMENTED},
      {"x-amz-tagging", "a=b", DG_E_NOT_IMPLEMENTED},
      {"x-amz-storage-class", "STANDARD", 0},
      {"x-amz-storage-class", "FLOPPY", DG_E_INVALID_ARGUMENT},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    struct rig rig;
    struct dg_error err = {0};

    rig_open(&rig);
    header(&rig, rows[i].name, rows[i].value);
    (void)dg_op_refuse_unkept(&rig.x, &err);
    ck_assert_int_eq(err.code, rows[i].code);
    rig_close(&rig);
  }
}
END_TEST

/* ---- What a bucket's clients may not -------------------------------------------------- */

START_TEST(a_key_among_many_is_removed_only_where_a_delete_of_it_would_be)
{
  char *methods[] = {(char[]){"DELETE"}, NULL};
  struct dg_admission_block block = {.name = (char[]){"keep"},
                                     .methods = methods,
                                     .path_glob = (char[]){"a/keep*"},
                                     .action = DG_ADMISSION_DENY};
  struct dg_error err = {0};
  struct rig rig;

  rig_open(&rig);
  rig.snapshot.buckets = g_hash_table_new(g_str_hash, g_str_equal);
  rig.snapshot.admission = g_ptr_array_new();
  (void)g_strlcpy(rig.x.request.method, "POST", sizeof rig.x.request.method);
  rig.x.target.op = DG_OP_DELETE_OBJECTS;
  rig.x.target.bucket = DG_SLICE("bucket");
  ck_assert_int_eq(dg_policy_check_removal(&rig.x, DG_SLICE("a/keep"), &err), 0);
  g_ptr_array_add(rig.snapshot.admission, &block);
  ck_assert_int_eq(dg_policy_check_removal(&rig.x, DG_SLICE("a/kept"), &err), 0);
  ck_assert_int_eq(dg_policy_check_removal(&rig.x, DG_SLICE("a/keep-1"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_ACCESS_DENIED);
  block.action = DG_ADMISSION_REJECT;
  ck_assert_int_eq(dg_policy_check_removal(&rig.x, DG_SLICE("a/keep-1"), &err), -1);
  block.action = DG_ADMISSION_CONTINUE;
  ck_assert_int_eq(dg_policy_check_removal(&rig.x, DG_SLICE("a/keep-1"), &err), 0);
  g_ptr_array_unref(rig.snapshot.admission);
  g_hash_table_unref(rig.snapshot.buckets);
  rig_close(&rig);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("http-ops");
  TCase *tc = tcase_create("http-ops");
  SRunner *runner;
  int failed;

  tcase_add_test(tc, content_headers_and_user_metadata_come_back_as_they_were);
  tcase_add_test(tc, an_encoding_of_nothing_but_aws_chunked_is_none);
  tcase_add_test(tc, values_beyond_ascii_go_out_as_encoded_words);
  tcase_add_test(tc, a_long_encoded_value_is_cut_between_characters);
  tcase_add_test(tc, repeated_metadata_headers_are_joined);
  tcase_add_test(tc, metadata_of_more_than_two_kibibytes_is_refused);
  tcase_add_test(tc, a_chosen_header_wins_and_cannot_split_the_answer);
  tcase_add_test(tc, a_presigned_link_may_carry_metadata_in_its_query);
  tcase_add_test(tc, a_plain_body_passes_through);
  tcase_add_test(tc, a_body_longer_than_the_limit_is_refused_before_or_while_it_comes);
  tcase_add_test(tc, chunks_with_a_trailer_come_out_bare_however_they_are_cut);
  tcase_add_test(tc, an_announced_trailer_must_come);
  tcase_add_test(tc, chunks_without_a_decoded_length_are_refused);
  tcase_add_test(tc, two_checksums_or_a_malformed_one_are_refused);
  tcase_add_test(tc, a_collected_document_is_verified);
  tcase_add_test(tc, a_document_past_its_bound_is_refused);
  tcase_add_test(tc, numbers_in_the_query_are_bounded);
  tcase_add_test(tc, what_would_be_promised_and_not_kept_is_refused);
  tcase_add_test(tc, a_key_among_many_is_removed_only_where_a_delete_of_it_would_be);
  suite_add_tcase(suite, tc);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? 0 : 1;
}
