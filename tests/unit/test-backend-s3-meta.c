/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata as headers: ours, DeltaGlider Proxy's, its Python forerunner's, and
 * anybody else's. */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <stdlib.h>

#include "common/meta.h"
#include "common/slice.h"
#include "plugins/backend-s3/facts.h"
#include "plugins/backend-s3/metahdr.h"
#include "plugins/backend-s3/metaindex.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define MD5_C "cccccccccccccccccccccccccccccccc"

static const struct dg_host host = {
  .struct_size = sizeof host,
  .meta_set = dg_meta_set,
  .meta_add_user = dg_meta_add_user,
  .meta_add_extension = dg_meta_add_extension,
};

/* Facts from header lines, as an upstream would send them. */
static struct dg_s3_facts *facts_of(uint64_t size, const char *const *lines)
{
  struct dg_s3_answer answer = {0};
  struct dg_s3_facts *facts;

  dg_s3_answer_init(&answer);
  dg_s3_answer_line(&answer, DG_SLICE("HTTP/1.1 200 OK\r\n"));
  for (; *lines; lines++)
    dg_s3_answer_line(&answer, dg_slice_str(*lines));
  facts = dg_s3_facts_new(&answer, size);
  dg_s3_answer_clear(&answer);
  return facts;
}

static struct dg_meta *read_lines(uint32_t variant, uint64_t size, const char *const *lines)
{
  struct dg_s3_facts *facts = facts_of(size, lines);
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};

  ck_assert_msg(
    dg_s3_meta_read(&host, facts, variant, DG_SLICE("app-2.zip"), meta, &err) == 0, "%s",
    err.detail);
  dg_s3_facts_unref(facts);
  return meta;
}

#define LINES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_text(struct dg_slice got, const char *expected)
{
  ck_assert_msg(dg_slice_equal_str(got, expected), "'%.*s' instead of '%s'", DG_SLICE_ARG(got),
                expected);
}

static char *through(const char *value)
{
  g_autoptr(GString) header = g_string_new(NULL);
  GString *back = g_string_new(NULL);

  dg_s3_value_encode(header, dg_slice_str(value));
  for (gsize i = 0; i < header->len; i++)
    ck_assert(header->str[i] >= 0x20 && header->str[i] < 0x7f);
  ck_assert(header->len > 0);
  dg_s3_value_decode(back, dg_slice_of(header->str, header->len));
  return g_string_free(back, FALSE);
}

START_TEST(every_value_survives_a_header)
{
  static const char *const values[] = {
    "plain", "two words", " leading", "trailing ", "two  spaces", "", "gr\xc3\xbcn",
    "\xf0\x9f\x92\xbe", "tab\there", "=?UTF-8?B?Z3LDvG4=?=", "=?", "=", "?=", "\"quoted\"",
    "a=?UTF-8?B?Z3LDvG4=?=", "\x7f"};

  for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
    g_autofree char *back = through(values[i]);

    ck_assert_str_eq(back, values[i]);
  }
}
END_TEST

START_TEST(encoded_words_of_others_are_read)
{
  static const struct {
    const char *header, *value;
  } rows[] = {
    {"=?UTF-8?B?Z3LDvG4=?=", "gr\xc3\xbcn"},
    {"=?utf-8?q?gr=C3=BCn_x?=", "gr\xc3\xbcn x"},
    {"=?UTF-8?B?Z3I=?= =?UTF-8?B?w7xu?=", "gr\xc3\xbcn"},
    {"=?UTF-8?B?!?=", "=?UTF-8?B?!?="},
    {"=?KOI8-R?B?Z3I=?=", "=?KOI8-R?B?Z3I=?="},
    {"=?UTF-8?B?/w==?=", "=?UTF-8?B?/w==?="},
    {"=?UTF-8?B?Z3I=?= and more", "=?UTF-8?B?Z3I=?= and more"},
    {"=?", "=?"},
    {"=?UTF-8?B", "=?UTF-8?B"},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(GString) out = g_string_new(NULL);

    dg_s3_value_decode(out, dg_slice_str(rows[i].header));
    ck_assert_str_eq(out->str, rows[i].value);
  }
}
END_TEST

#define DELTA_LINES                                                                      \
  "x-amz-meta-dg-tool: deltaglider_proxy/1.19.0", "x-amz-meta-dg-original-name: app-2.zip", \
    "x-amz-meta-dg-file-sha256: " SHA_A, "x-amz-meta-dg-file-size: 5242880",                \
    "x-amz-meta-dg-md5: " MD5_C, "x-amz-meta-dg-multipart-etag: \"9b2c-3\"",                \
    "x-amz-meta-dg-created-at: 2026-04-01T12:30:05.123456Z",                                \
    "x-amz-meta-content-type: application/zip", "x-amz-meta-user-team: core",               \
    "x-amz-meta-dg-note: delta", "x-amz-meta-dg-ref-path: reference.bin",                   \
    "x-amz-meta-dg-ref-sha256: " SHA_B, "x-amz-meta-dg-delta-size: 393",                    \
    "x-amz-meta-dg-delta-cmd: xdelta3 -e -9 -s reference.bin app-2.zip app-2.zip.delta"

START_TEST(what_deltaglider_proxy_wrote_is_read)
{
  struct dg_meta *meta = read_lines(DG_VARIANT_DELTA, 401, LINES(DELTA_LINES));

  ck_assert_uint_eq(meta->flags, 0);
  ck_assert_uint_eq(meta->variant, DG_VARIANT_DELTA);
  ck_assert_uint_eq(meta->file_size, 5242880);
  ck_assert_uint_eq(meta->stored_size, 401);
  ck_assert_uint_eq(meta->delta_size, 393);
  ck_assert_int_eq(meta->created_at_s, 1775046605);
  ck_assert_uint_eq(meta->created_at_ns, 123456000);
  assert_text(meta->file_sha256, SHA_A);
  assert_text(meta->md5, MD5_C);
  assert_text(meta->multipart_etag, "\"9b2c-3\"");
  assert_text(meta->content_type, "application/zip");
  assert_text(meta->ref_path, "reference.bin");
  assert_text(meta->ref_sha256, SHA_B);
  assert_text(dg_meta_user(meta, "team"), "core");
  ck_assert_uint_eq(meta->user_count, 1);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(what_we_write_has_the_names_of_deltaglider_proxy)
{
  g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) text = g_string_new(NULL);
  struct dg_meta *meta = read_lines(DG_VARIANT_DELTA, 401, LINES(DELTA_LINES));
  struct dg_error err = {0};

  ck_assert_int_eq(dg_s3_meta_write(meta, pairs, &err), 0);
  for (guint i = 0; i < pairs->len; i += 2)
    g_string_append_printf(text, "x-amz-meta-%s: %s\n", (char *)pairs->pdata[i],
                           (char *)pairs->pdata[i + 1]);
  for (const char *const *line = LINES(DELTA_LINES); *line; line++)
    ck_assert_msg(strstr(text->str, *line), "lacks '%s':\n%s", *line, text->str);
  ck_assert_uint_eq(pairs->len, 2 * 14);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(what_the_python_tool_wrote_is_read)
{
  struct dg_meta *meta = read_lines(
    DG_VARIANT_DELTA, 401,
    LINES("x-amz-meta-tool: deltaglider/0.1.0", "x-amz-meta-original-name: app-2.zip",
          "x-amz-meta-file-sha256: " SHA_A, "x-amz-meta-file-size: 77",
          "x-amz-meta-created-at: 2025-01-02T03:04:05.678901", "x-amz-meta-note: zero-diff (x)",
          "x-amz-meta-ref-key: s3://bucket/a/b/reference.bin", "x-amz-meta-ref-sha256: " SHA_B,
          "x-amz-meta-delta-size: 393"));

  ck_assert_uint_eq(meta->flags, 0);
  ck_assert_uint_eq(meta->file_size, 77);
  ck_assert_int_eq(meta->created_at_s, 1735787045);
  ck_assert_uint_eq(meta->created_at_ns, 678901000);
  assert_text(meta->ref_path, "reference.bin");
  ck_assert_uint_eq(meta->md5.len, 0);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(an_object_of_somebody_else_is_unmanaged)
{
  struct dg_meta *meta =
    read_lines(DG_VARIANT_PASSTHROUGH, 12,
               LINES("ETag: \"0123456789abcdef0123456789abcdef-2\"", "Content-Type: text/plain",
                     "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "x-amz-meta-Colour: green",
                     "x-amz-meta-dg-encrypted: aes-256-gcm-v1"));

  ck_assert_uint_eq(meta->flags, DG_META_UNMANAGED);
  ck_assert_uint_eq(meta->file_size, 12);
  ck_assert_int_eq(meta->created_at_s, 784111777);
  assert_text(meta->unmanaged_etag, "0123456789abcdef0123456789abcdef-2");
  assert_text(meta->content_type, "text/plain");
  assert_text(dg_meta_user(meta, "colour"), "green");
  ck_assert_uint_eq(meta->user_count, 1);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(metadata_of_another_kind_than_the_name_is_corrupt)
{
  struct dg_meta *meta = read_lines(DG_VARIANT_PASSTHROUGH, 401, LINES(DELTA_LINES));

  ck_assert_uint_eq(meta->flags, DG_META_CORRUPT);
  dg_meta_unref(meta);
  meta = read_lines(DG_VARIANT_REFERENCE, 401, LINES(DELTA_LINES));
  ck_assert_uint_eq(meta->flags, DG_META_UNMANAGED);
  dg_meta_unref(meta);
  /* a delta that does not say against what */
  meta = read_lines(DG_VARIANT_DELTA, 401,
                    LINES("x-amz-meta-dg-file-sha256: " SHA_A, "x-amz-meta-dg-note: delta"));
  ck_assert_uint_eq(meta->flags, DG_META_UNMANAGED);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(more_metadata_than_s3_keeps_is_refused)
{
  struct dg_meta *meta = read_lines(DG_VARIANT_DELTA, 401, LINES(DELTA_LINES));
  g_autofree char *long_name = g_strnfill(500, 'n');
  g_autofree char *much = g_strnfill(900, 'x');
  struct dg_error err = {0};

  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_ORIGINAL_NAME, dg_slice_str(long_name), &err), 0);
  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_DELTA_CMD, dg_slice_str(much), &err), 0);
  for (int i = 0; i < 3; i++) {
    g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
    int rc;

    err.code = 0;
    rc = dg_s3_meta_write(meta, pairs, &err);
    /* what only informs humans makes room first */
    if (i < 2)
      ck_assert_msg(rc == 0, "%s", err.detail);
    else
      ck_assert(rc < 0 && err.code == DG_E_METADATA_TOO_LARGE);
    ck_assert_int_eq(dg_meta_add_user(meta, DG_SLICE("k"), dg_slice_str(much), &err), 0);
  }
  dg_meta_unref(meta);
}
END_TEST

static const char *value_of(const GPtrArray *pairs, const char *name)
{
  for (guint i = 0; i + 1 < pairs->len; i += 2)
    if (!strcmp(pairs->pdata[i], name))
      return pairs->pdata[i + 1];
  return NULL;
}

START_TEST(part_sizes_are_kept_as_long_as_they_fit_and_never_cost_the_object)
{
  for (size_t len = 100; len <= 40000; len *= 400) {
    struct dg_meta *meta = read_lines(DG_VARIANT_DELTA, 401, LINES(DELTA_LINES));
    g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *sizes = g_strnfill(len, '1');
    struct dg_error err = {0};

    ck_assert_int_eq(dg_meta_add_extension(meta, DG_SLICE(DG_EXTENSION_PART_SIZES),
                                           dg_slice_str(sizes), &err),
                     0);
    ck_assert_msg(dg_s3_meta_write(meta, pairs, &err) == 0, "%s", err.detail);
    ck_assert(!value_of(pairs, "dg-ext-" DG_EXTENSION_PART_SIZES) == (len > 1000));
    ck_assert_ptr_nonnull(value_of(pairs, "dg-original-name"));
    dg_meta_unref(meta);
  }
}
END_TEST

/* ---- What listings believe ------------------------------------------------------------- */

static struct dg_s3_entry listed(const char *etag, uint64_t size, int64_t modified_s)
{
  struct dg_s3_entry entry = {
    .name = (char *)(uintptr_t)"k", .name_len = 1, .size = size, .modified_s = modified_s};

  (void)g_strlcpy(entry.etag, etag, sizeof entry.etag);
  return entry;
}

static bool believed(struct dg_s3_metaindex *index, const char *etag, uint64_t size, int64_t at)
{
  struct dg_s3_entry entry = listed(etag, size, at);
  struct dg_s3_facts *facts = dg_s3_metaindex_get(index, DG_SLICE("b"), &entry);
  bool yes = facts != NULL;

  ck_assert(!facts || facts->modified_s == at);
  dg_s3_facts_unref(facts);
  return yes;
}

START_TEST(facts_are_believed_while_the_listing_agrees)
{
  struct dg_s3_metaindex *index = dg_s3_metaindex_new(1 << 20);
  struct dg_s3_facts *facts =
    facts_of(7, LINES("ETag: \"e1\"", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
                      "Date: Sun, 06 Nov 1994 08:50:00 GMT"));

  dg_s3_metaindex_put(index, DG_SLICE("b"), DG_SLICE("k"), facts);
  ck_assert(believed(index, "e1", 7, 784111777));
  ck_assert(!believed(index, "e2", 7, 784111777));
  ck_assert(!believed(index, "e1", 8, 784111777));
  ck_assert(!believed(index, "e1", 7, 784111778));
  dg_s3_metaindex_drop(index, DG_SLICE("b"), DG_SLICE("k"));
  ck_assert(!believed(index, "e1", 7, 784111777));
  dg_s3_facts_unref(facts);
  dg_s3_metaindex_free(index);
}
END_TEST

START_TEST(facts_seen_in_the_second_of_a_change_are_not_believed)
{
  struct dg_s3_metaindex *index = dg_s3_metaindex_new(1 << 20);
  struct dg_s3_facts *facts =
    facts_of(7, LINES("ETag: \"e1\"", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
                      "Date: Sun, 06 Nov 1994 08:49:37 GMT"));

  dg_s3_metaindex_put(index, DG_SLICE("b"), DG_SLICE("k"), facts);
  ck_assert(!believed(index, "e1", 7, 784111777));
  dg_s3_facts_unref(facts);
  dg_s3_metaindex_free(index);
}
END_TEST

START_TEST(the_index_stays_within_its_budget)
{
  struct dg_s3_metaindex *index = dg_s3_metaindex_new(4096);
  struct dg_s3_facts *facts = facts_of(7, LINES("ETag: \"e1\"", "Date: Sun, 06 Nov 1994 08:49:37 GMT"));
  unsigned kept = 0;

  for (unsigned i = 0; i < 100; i++) {
    char name[8];

    (void)g_snprintf(name, sizeof name, "%u", i);
    dg_s3_metaindex_put(index, DG_SLICE("b"), dg_slice_str(name), facts);
  }
  for (unsigned i = 0; i < 100; i++) {
    struct dg_s3_entry entry = listed("e1", 7, 784111777);
    char name[8];
    struct dg_s3_facts *found;

    (void)g_snprintf(name, sizeof name, "%u", i);
    entry.name = name;
    entry.name_len = strlen(name);
    found = dg_s3_metaindex_get(index, DG_SLICE("b"), &entry);
    kept += found != NULL;
    ck_assert(!found || i > 40);
    dg_s3_facts_unref(found);
  }
  ck_assert(kept > 1 && kept < 60);
  dg_s3_facts_unref(facts);
  dg_s3_metaindex_free(index);
}
END_TEST

START_TEST(facts_survive_as_bytes_and_damage_is_noticed)
{
  struct dg_s3_facts *facts =
    facts_of(401, LINES(DELTA_LINES, "ETag: \"e\"", "Content-Type: a/b",
                        "x-amz-meta-unheard-of: \xff", "x-amz-server-side-encryption: AES256"));
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  struct dg_s3_facts *back;
  uint8_t before[16], after[16];

  ck_assert(dg_s3_facts_pack(facts, bytes));
  back = dg_s3_facts_unpack(dg_slice_of(bytes->data, bytes->len));
  ck_assert_ptr_nonnull(back);
  dg_s3_facts_validator(facts, before);
  dg_s3_facts_validator(back, after);
  ck_assert_mem_eq(before, after, 16);
  ck_assert(back->sealed_upstream);
  ck_assert_uint_eq(back->pair_count, facts->pair_count);
  dg_s3_facts_unref(back);
  for (guint len = 0; len < bytes->len; len++) {
    g_autofree uint8_t *cut = g_memdup2(bytes->data, len);

    ck_assert_ptr_null(dg_s3_facts_unpack(dg_slice_of(cut, len)));
  }
  dg_s3_facts_unref(facts);
}
END_TEST

START_TEST(the_index_is_taken_up_from_its_file)
{
  g_autofree char *folder = g_dir_make_tmp("dg-index-XXXXXX", NULL);
  g_autofree char *path = g_build_filename(folder, "index", NULL);
  struct dg_s3_metaindex *index = dg_s3_metaindex_new(1 << 20), *next;
  struct dg_s3_facts *facts =
    facts_of(7, LINES("ETag: \"e1\"", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
                      "Date: Sun, 06 Nov 1994 08:50:00 GMT"));
  g_autofree char *text = NULL;
  struct dg_error err = {0};
  gsize len;

  dg_s3_metaindex_put(index, DG_SLICE("b"), DG_SLICE("k"), facts);
  dg_s3_metaindex_put(index, DG_SLICE("b"), DG_SLICE("other"), facts);
  ck_assert_msg(dg_s3_metaindex_save(index, path, "host", &err) == 0, "%s", err.detail);
  next = dg_s3_metaindex_new(1 << 20);
  ck_assert_msg(dg_s3_metaindex_load(next, path, "host", &err) == 0, "%s", err.detail);
  ck_assert(believed(next, "e1", 7, 784111777));
  ck_assert(!believed(next, "e2", 7, 784111777));
  dg_s3_metaindex_free(next);
  next = dg_s3_metaindex_new(1 << 20);
  ck_assert_int_eq(dg_s3_metaindex_load(next, path, "another", &err), -1);
  ck_assert(g_file_get_contents(path, &text, &len, NULL));
  for (gsize at = 0; at < len; at += 3) {
    text[at] ^= 1;
    ck_assert(g_file_set_contents(path, text, (gssize)len, NULL));
    ck_assert_int_eq(dg_s3_metaindex_load(next, path, "host", &err), -1);
    text[at] ^= 1;
  }
  ck_assert(!believed(next, "e1", 7, 784111777));
  (void)remove(path);
  (void)remove(folder);
  dg_s3_facts_unref(facts);
  dg_s3_metaindex_free(next);
  dg_s3_metaindex_free(index);
}
END_TEST

START_TEST(a_validator_changes_with_metadata_alone)
{
  struct dg_s3_facts *a = facts_of(7, LINES("ETag: \"e\"", "x-amz-meta-b: 1", "x-amz-meta-a: 2"));
  struct dg_s3_facts *b = facts_of(7, LINES("ETag: \"e\"", "x-amz-meta-a: 2", "x-amz-meta-b: 1"));
  struct dg_s3_facts *c = facts_of(7, LINES("ETag: \"e\"", "x-amz-meta-a: 2", "x-amz-meta-b: 2"));
  uint8_t of_a[16], of_b[16], of_c[16];

  dg_s3_facts_validator(a, of_a);
  dg_s3_facts_validator(b, of_b);
  dg_s3_facts_validator(c, of_c);
  ck_assert_mem_eq(of_a, of_b, 16);
  ck_assert_mem_ne(of_a, of_c, 16);
  dg_s3_facts_unref(a);
  dg_s3_facts_unref(b);
  dg_s3_facts_unref(c);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-s3-meta");
  TCase *all = tcase_create("all");
  SRunner *runner;
  int failed;

  tcase_add_test(all, every_value_survives_a_header);
  tcase_add_test(all, encoded_words_of_others_are_read);
  tcase_add_test(all, what_deltaglider_proxy_wrote_is_read);
  tcase_add_test(all, what_we_write_has_the_names_of_deltaglider_proxy);
  tcase_add_test(all, what_the_python_tool_wrote_is_read);
  tcase_add_test(all, an_object_of_somebody_else_is_unmanaged);
  tcase_add_test(all, metadata_of_another_kind_than_the_name_is_corrupt);
  tcase_add_test(all, more_metadata_than_s3_keeps_is_refused);
  tcase_add_test(all, part_sizes_are_kept_as_long_as_they_fit_and_never_cost_the_object);
  tcase_add_test(all, facts_are_believed_while_the_listing_agrees);
  tcase_add_test(all, facts_seen_in_the_second_of_a_change_are_not_believed);
  tcase_add_test(all, the_index_stays_within_its_budget);
  tcase_add_test(all, facts_survive_as_bytes_and_damage_is_noticed);
  tcase_add_test(all, the_index_is_taken_up_from_its_file);
  tcase_add_test(all, a_validator_changes_with_metadata_alone);
  suite_add_tcase(suite, all);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
