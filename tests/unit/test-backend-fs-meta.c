/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata as DeltaGlider Proxy writes and reads it, and stores it made. */
#include "config.h"

#include <check.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs-fixture.h"
#include "plugins/backend-fs/metaio.h"
#include "plugins/backend-fs/metajson.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define MD5_C "cccccccccccccccccccccccccccccccc"

#define DELTA_JSON                                                                           \
  "{\"tool\":\"deltaglider_proxy/1.19.0\",\"original_name\":\"app-2.zip\",\"file_sha256\":\"" \
  SHA_A "\",\"file_size\":5242880,\"md5\":\"" MD5_C                                           \
  "\",\"multipart_etag\":\"\\\"9b2c-3\\\"\",\"created_at\":\"2026-04-01T12:30:05.123456Z\","   \
  "\"content_type\":\"application/zip\",\"user_metadata\":{\"team\":\"core\",\"x\":\"\\u001f\"}," \
  "\"note\":\"delta\",\"ref_path\":\"reference.bin\",\"ref_sha256\":\"" SHA_B                  \
  "\",\"delta_size\":393,\"delta_cmd\":\"xdelta3 -e -9 -s reference.bin app-2.zip "            \
  "app-2.zip.delta\"}"

#define PLAIN_JSON(note)                                                                       \
  "{\"tool\":\"deltaglider_proxy/1.19.0\",\"original_name\":\"k\",\"file_sha256\":\"" SHA_A       \
  "\",\"file_size\":5,\"md5\":\"" MD5_C "\",\"created_at\":\"2026-04-01T12:30:05Z\",\"note\":\""  \
  note "\"}"

static struct fs_fixture *fixture;

static void setup(void)
{
  fixture = fs_fixture_new(/* in_memory= */ true);
}

static void teardown(void)
{
  fs_fixture_free(fixture);
}

static struct dg_meta *head(const char *key, uint32_t variant)
{
  struct dg_item item = fs_item(key, variant);
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};

  ck_assert_msg(fixture->ops->head(fixture->self, NULL, &item, meta, &err) == 0, "%s: %s", key,
                err.detail);
  return meta;
}

static char *attribute(const char *relative)
{
  g_autofree char *path = fs_path(fixture, relative);
  char buffer[8192] = {0};

  ck_assert(getxattr(path, "user.dg.metadata", buffer, sizeof buffer - 1) > 0);
  return g_strdup(buffer);
}

START_TEST(what_deltaglider_wrote_is_written_back_byte_for_byte)
{
  static const char *const samples[] = {
    DELTA_JSON, PLAIN_JSON("passthrough"),
    "{\"tool\":\"t\",\"original_name\":\"__reference__\",\"file_sha256\":\"\",\"file_size\":0,"
    "\"md5\":\"\",\"created_at\":\"2026-04-01T12:30:05.5Z\",\"note\":\"reference\","
    "\"source_name\":\"a/b/app-1.zip\"}",
    "{\"tool\":\"\",\"original_name\":\"\xc3\xa4 \\\"\\\\\\b\\f\\n\\r\\t/\",\"file_sha256\":\"\","
    "\"file_size\":18446744073709551,\"md5\":\"\",\"created_at\":\"1969-12-31T23:59:59.000000001Z\","
    "\"note\":\"passthrough\",\"dg_ext\":{\"cache-control\":\"no-store\"}}"};

  for (size_t i = 0; i < G_N_ELEMENTS(samples); i++) {
    struct dg_meta *meta = dg_meta_new();
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *expected = g_strdup(samples[i]);
    char *half = strstr(expected, "05.5Z");
    struct dg_error err = {0};

    ck_assert_msg(dg_fs_json_read(&fixture->host, fs_slice(samples[i]), meta, &err) == 0, "%s",
                  err.detail);
    ck_assert_int_eq(dg_fs_json_write(meta, 0, out, &err), 0);
    if (half) { /* three digits, not one */
      g_autofree char *head_part = g_strndup(expected, (gsize)(half - expected));
      char *whole = g_strconcat(head_part, "05.500Z", half + 5, NULL);

      g_free(expected);
      expected = whole;
    }
    ck_assert_str_eq(out->str, expected);
    dg_meta_unref(meta);
  }
}
END_TEST

START_TEST(a_delta_of_deltaglider_is_understood)
{
  struct dg_meta *meta;

  fs_drop_file(fixture, "bkt/deltaspaces/a/b/app-2.zip.delta", "\xd6\xc3\xc4 body", DELTA_JSON);
  meta = head("a/b/app-2.zip", DG_VARIANT_DELTA);
  ck_assert_uint_eq(meta->flags, 0);
  ck_assert_uint_eq(meta->variant, DG_VARIANT_DELTA);
  ck_assert_uint_eq(meta->file_size, 5242880);
  ck_assert_uint_eq(meta->stored_size, 8);
  ck_assert_uint_eq(meta->delta_size, 393);
  ck_assert_int_eq(meta->created_at_s, 1775046605);
  ck_assert_uint_eq(meta->created_at_ns, 123456000);
  ck_assert_str_eq(meta->multipart_etag.data, "\"9b2c-3\"");
  ck_assert_str_eq(meta->content_type.data, "application/zip");
  ck_assert_str_eq(meta->ref_path.data, "reference.bin");
  ck_assert_str_eq(meta->ref_sha256.data, SHA_B);
  ck_assert_uint_eq(meta->user_count, 2);
  ck_assert_str_eq(dg_meta_user(meta, "team").data, "core");
  dg_meta_unref(meta);
}
END_TEST

START_TEST(aliases_of_older_writers_are_read)
{
  static const struct {
    const char *tail;
    uint32_t variant;
  } cases[] = {
    {"\"note\":\"direct\"}", DG_VARIANT_PASSTHROUGH},
    {"\"note\":\"zero-diff (identical)\",\"ref_key\":\"x/y/reference.bin\",\"ref_sha256\":\"" SHA_B
     "\",\"delta_size\":1}",
     DG_VARIANT_DELTA},
    {"\"ref_key\":\"/abs/reference.bin\",\"ref_sha256\":\"" SHA_B "\"}", DG_VARIANT_DELTA},
    {"\"note\":\"reference\",\"source_name\":\"s\",\"future\":{\"deep\":[1]}}",
     DG_VARIANT_REFERENCE},
    {"\"content_type\":null,\"user_metadata\":null,\"note\":\"passthrough\"}",
     DG_VARIANT_PASSTHROUGH},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *json =
      g_strconcat("{\"tool\":\"t\",\"original_name\":\"n\",\"file_sha256\":\"\",\"file_size\":1,"
                  "\"md5\":\"\",\"created_at\":\"2026-04-01T14:30:05+02:00\",",
                  cases[i].tail, NULL);
    struct dg_meta *meta = dg_meta_new();
    struct dg_error err = {0};

    ck_assert_msg(dg_fs_json_read(&fixture->host, fs_slice(json), meta, &err) == 0, "%s",
                  err.detail);
    ck_assert_uint_eq(meta->variant, cases[i].variant);
    ck_assert_int_eq(meta->created_at_s, 1775046605);
    if (meta->variant == DG_VARIANT_DELTA)
      ck_assert_str_eq(meta->ref_path.data, "reference.bin");
    dg_meta_unref(meta);
  }
}
END_TEST

START_TEST(what_cannot_be_trusted_is_corrupt)
{
  static const char *const bad[] = {
    "", "{", "[]", "null", "{\"file_size\":1}", "{\"created_at\":\"2026-04-01T12:30:05Z\"}",
    "{\"file_size\":-1,\"created_at\":\"2026-04-01T12:30:05Z\"}",
    "{\"file_size\":1,\"created_at\":\"yesterday\"}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05\"}",
    "{\"file_size\":\"1\",\"created_at\":\"2026-04-01T12:30:05Z\"}",
    "{\"file_size\":1,\"file_size\":2,\"created_at\":\"2026-04-01T12:30:05Z\"}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",\"md5\":7}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",\"user_metadata\":{\"a\":1}}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",\"note\":\"delta\"}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\"}trailing",
    "{\"file_size\":01,\"created_at\":\"2026-04-01T12:30:05Z\"}",
    "{\"file_size\":1.0,\"created_at\":\"2026-04-01T12:30:05Z\"}",
    "{\"file_size\":18446744073709551616,\"created_at\":\"2026-04-01T12:30:05Z\"}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",\"md5\":\"\\ud800\"}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",\"md5\":\"\\u0000\"}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",\"md5\":\"a\nb\"}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",\"u\":nul}",
    "{\"file_size\":1,\"created_at\":\"2026-04-01T12:30:05Z\",\"user_metadata\":{\"a\":\"\",\"a\":\"\"}}",
    "{\"file_size\":1,\"created_at\":\"9999-12-31T23:59:59-23:59\"}",
    "\xff\xfe"};

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    struct dg_meta *meta = dg_meta_new();
    struct dg_error err = {0};

    ck_assert_msg(dg_fs_json_read(&fixture->host, fs_slice(bad[i]), meta, &err) == -1, "%s",
                  bad[i]);
    ck_assert_int_eq(err.code, DG_E_CORRUPT);
    dg_meta_unref(meta);
  }
}
END_TEST

START_TEST(corrupt_objects_are_flagged_and_left_out_of_listings)
{
  g_autofree char *rows = NULL, *raw = NULL;
  struct dg_meta *meta;

  fs_drop_file(fixture, "bkt/deltaspaces/bad", "x", "{nonsense");
  fs_drop_file(fixture, "bkt/deltaspaces/moved", "x", DELTA_JSON);
  fs_drop_file(fixture, "bkt/deltaspaces/good", "x", PLAIN_JSON("passthrough"));
  meta = head("bad", DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(meta->flags, DG_META_CORRUPT);
  dg_meta_unref(meta);
  meta = head("moved", DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(meta->flags, DG_META_CORRUPT);
  dg_meta_unref(meta);
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "good");
  raw = fs_list(fixture, "", "", "", DG_LIST_NO_META, 0);
  ck_assert_str_eq(raw, "bad\ngood\nmoved");
}
END_TEST

START_TEST(unmanaged_etags_match_the_published_vector)
{
  char etag[33];

  dg_fs_unmanaged_etag(1024, 1700000000, 0, etag);
  ck_assert_str_eq(etag, "b9b2a6388b140fd5e2e41f8d27cb65e7");
  dg_fs_unmanaged_etag(0, 1700000000, 0, etag);
  ck_assert_str_eq(etag, "d41d8cd98f00b204e9800998ecf8427e");
}
END_TEST

START_TEST(unmanaged_files_are_served_as_they_are)
{
  g_autofree char *path = fs_path(fixture, "bkt/deltaspaces/d/plain.bin");
  g_autofree char *body = g_strnfill(1024, 'u');
  struct timespec times[2] = {{1700000000, 0}, {1700000000, 0}};
  g_autofree char *rows = NULL;
  struct dg_meta *meta;

  fs_drop_file(fixture, "bkt/deltaspaces/d/plain.bin", body, NULL);
  ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
  meta = head("d/plain.bin", DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(meta->flags, DG_META_UNMANAGED);
  ck_assert_uint_eq(meta->file_size, 1024);
  ck_assert_int_eq(meta->created_at_s, 1700000000);
  ck_assert_str_eq(meta->unmanaged_etag.data, "b9b2a6388b140fd5e2e41f8d27cb65e7");
  dg_meta_unref(meta);
  fs_must_hold(fixture, "d/plain.bin", body);
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "d/plain.bin");
}
END_TEST

START_TEST(a_delta_that_lost_its_metadata_is_corrupt_but_a_text_called_so_is_served)
{
  g_autofree char *rows = NULL;
  struct dg_meta *meta;
  struct dg_error err = {0};
  g_autofree char *text = NULL;

  fs_drop_file(fixture, "bkt/deltaspaces/app.zip.delta", "\xd6\xc3\xc4\x01 raw", NULL);
  fs_drop_file(fixture, "bkt/deltaspaces/notes.delta", "just text", NULL);
  meta = head("app.zip", DG_VARIANT_DELTA);
  ck_assert_uint_eq(meta->flags, DG_META_CORRUPT);
  dg_meta_unref(meta);
  meta = head("notes", DG_VARIANT_DELTA);
  ck_assert_uint_eq(meta->flags, DG_META_UNMANAGED);
  ck_assert_uint_eq(meta->variant, DG_VARIANT_DELTA);
  dg_meta_unref(meta);
  text = fs_get(fixture, "notes", DG_VARIANT_DELTA, NULL, &err);
  ck_assert_str_eq(text, "just text");
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "notes");
}
END_TEST

START_TEST(a_reference_that_lost_its_metadata_is_unmanaged_so_that_it_can_be_healed)
{
  struct dg_meta *meta;

  fs_drop_file(fixture, "bkt/deltaspaces/d/reference.bin", "ref", NULL);
  meta = head("d/", DG_VARIANT_REFERENCE);
  ck_assert_uint_eq(meta->flags, DG_META_UNMANAGED);
  ck_assert_uint_eq(meta->variant, DG_VARIANT_REFERENCE);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(a_put_writes_the_documented_json)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};
  g_autofree char *json = NULL;

  ck_assert_int_eq(dg_fs_json_read(&fixture->host, fs_slice(DELTA_JSON), meta, &err), 0);
  ck_assert_int_eq(fs_put_meta(fixture, "d/app-2.zip", "x", 1, meta, &err), 0);
  json = attribute("bkt/deltaspaces/d/app-2.zip.delta");
  ck_assert_int_eq(strncmp(json, DELTA_JSON, strlen(DELTA_JSON) - 1), 0);
  /* The layout of others, and then our checksum of these very bytes. */
  ck_assert_str_eq(json + strlen(DELTA_JSON) - 1, ",\"dg_sum\":\"cca98426fcff1425\"}");
  dg_meta_unref(meta);
}
END_TEST

/* Everything that a client is told of an object. */
static char *told(const struct dg_meta *meta)
{
  g_autoptr(GString) out = g_string_new(NULL);
  struct dg_error err = {0};

  ck_assert_int_eq(dg_fs_json_write(meta, 0, out, &err), 0);
  return g_string_free(g_steal_pointer(&out), FALSE);
}

START_TEST(every_flipped_bit_of_metadata_is_noticed_or_changes_nothing)
{
  g_autofree char *path = fs_path(fixture, "bkt/deltaspaces/k");
  struct dg_meta *meta = dg_meta_new();
  g_autofree char *whole = NULL, *before = NULL;
  struct dg_error err = {0};
  unsigned harmless = 0;
  size_t len;

  ck_assert_int_eq(dg_fs_json_read(&fixture->host, fs_slice(PLAIN_JSON("passthrough")), meta, &err),
                   0);
  ck_assert_int_eq(dg_meta_add_user(meta, DG_SLICE("team"), DG_SLICE("core"), &err), 0);
  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, DG_SLICE("text/plain"), &err), 0);
  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_MULTIPART_ETAG, DG_SLICE("\"9b2c-3\""), &err), 0);
  ck_assert_int_eq(
      dg_meta_add_extension(meta, DG_SLICE("cache-control"), DG_SLICE("no-store"), &err), 0);
  ck_assert_int_eq(fs_put_meta(fixture, "k", "12345", 5, meta, &err), 0);
  dg_meta_unref(meta);
  meta = head("k", DG_VARIANT_PASSTHROUGH);
  before = told(meta);
  dg_meta_unref(meta);
  whole = attribute("bkt/deltaspaces/k");
  len = strlen(whole);
  for (size_t bit = 0; bit < 8 * len; bit++) {
    whole[bit / 8] = (char)(whole[bit / 8] ^ 1 << bit % 8);
    ck_assert_int_eq(setxattr(path, "user.dg.metadata", whole, len, 0), 0);
    whole[bit / 8] = (char)(whole[bit / 8] ^ 1 << bit % 8);
    meta = head("k", DG_VARIANT_PASSTHROUGH);
    if (meta->flags == 0) {
      g_autofree char *now = told(meta);

      ck_assert_str_eq(now, before);
      harmless++; /* in the name of the checksum's own member */
    } else {
      ck_assert_uint_eq(meta->flags, DG_META_CORRUPT);
    }
    dg_meta_unref(meta);
  }
  ck_assert_uint_le(harmless, 8 * strlen("dg_sum"));
}
END_TEST

START_TEST(changed_metadata_has_a_new_checksum)
{
  struct dg_item item = fs_item("k", DG_VARIANT_PASSTHROUGH);
  g_autofree char *first = NULL, *second = NULL;
  struct dg_error err = {0};
  struct dg_meta *meta;

  fs_must_put(fixture, "k", "text");
  first = attribute("bkt/deltaspaces/k");
  meta = head("k", DG_VARIANT_PASSTHROUGH);
  ck_assert_int_eq(dg_meta_add_user(meta, DG_SLICE("team"), DG_SLICE("core"), &err), 0);
  ck_assert_int_eq(fixture->ops->set_meta(fixture->self, NULL, &item, meta, &err), 0);
  dg_meta_unref(meta);
  second = attribute("bkt/deltaspaces/k");
  ck_assert_str_ne(strstr(first, "dg_sum"), strstr(second, "dg_sum"));
  meta = head("k", DG_VARIANT_PASSTHROUGH);
  ck_assert_uint_eq(meta->flags, 0);
  ck_assert_str_eq(dg_meta_user(meta, "team").data, "core");
  ck_assert_uint_eq(meta->extension_count, 0);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(what_others_make_of_our_metadata_is_read)
{
  /* Written anew without our members; formatted or ordered otherwise with a checksum
   * of what was; and by a writer that has such a member of its own. */
  static const char *const rewritten[] = {
    PLAIN_JSON("passthrough"),
    "{\"dg_sum\":\"0123456789abcdef\",\"file_size\":4,\"created_at\":\"2026-04-01T12:30:05Z\"}",
    "{\"file_size\": 4, \"created_at\": \"2026-04-01T12:30:05Z\", \"dg_sum\": \"0123456789abcdef\"}",
    "{\"file_size\":4,\"created_at\":\"2026-04-01T12:30:05Z\",\"dg_sum\":\"short\"}"};
  g_autofree char *path = NULL;

  fs_must_put(fixture, "k", "text");
  path = fs_path(fixture, "bkt/deltaspaces/k");
  for (size_t i = 0; i < G_N_ELEMENTS(rewritten); i++) {
    struct dg_meta *meta;

    ck_assert_int_eq(setxattr(path, "user.dg.metadata", rewritten[i], strlen(rewritten[i]), 0), 0);
    meta = head("k", DG_VARIANT_PASSTHROUGH);
    ck_assert_uint_eq(meta->flags, 0);
    dg_meta_unref(meta);
  }
}
END_TEST

START_TEST(metadata_beyond_the_filesystem_is_refused_and_the_old_object_stays)
{
  struct dg_meta *meta = dg_meta_new();
  g_autofree char *huge = g_strnfill(80000, 'm');
  struct dg_item item = fs_item("k", DG_VARIANT_PASSTHROUGH);
  struct dg_error err = {0};

  fs_must_put(fixture, "k", "old");
  meta->variant = DG_VARIANT_PASSTHROUGH;
  ck_assert_int_eq(dg_meta_add_user(meta, DG_SLICE("k"), fs_slice(huge), &err), 0);
  ck_assert_int_eq(fs_put_meta(fixture, "k", "new", 3, meta, &err), -1);
  ck_assert_int_eq(err.code, DG_E_METADATA_TOO_LARGE);
  ck_assert_int_eq(fixture->ops->set_meta(fixture->self, NULL, &item, meta, &err), -1);
  ck_assert_int_eq(err.code, DG_E_METADATA_TOO_LARGE);
  fs_must_hold(fixture, "k", "old");
  ck_assert_uint_eq(fs_staged(fixture), 0);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(the_longest_key_with_two_kilobytes_of_metadata_fits_a_real_disk)
{
  struct fs_fixture *disk = fs_fixture_new(/* in_memory= */ false);
  struct dg_meta *meta = dg_meta_new(), *back = dg_meta_new();
  g_autofree char *key = g_strnfill(1020, 'k'), *value = g_strnfill(2040, 'v');
  struct dg_item item = fs_item(key, DG_VARIANT_DELTA);
  struct dg_error err = {0};

  ck_assert_int_eq(dg_fs_json_read(&fixture->host, fs_slice(DELTA_JSON), meta, &err), 0);
  meta->user_count = 0;
  ck_assert_int_eq(dg_meta_add_user(meta, DG_SLICE("k"), fs_slice(value), &err), 0);
  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_ORIGINAL_NAME, fs_slice(key), &err), 0);
  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_DELTA_CMD, fs_slice(value), &err), 0);
  ck_assert_msg(fs_put_meta(disk, key, "x", 1, meta, &err) == 0, "%s", err.detail);
  ck_assert_int_eq(disk->ops->head(disk->self, NULL, &item, back, &err), 0);
  ck_assert_str_eq(back->original_name.data, key);
  ck_assert_str_eq(dg_meta_user(back, "k").data, value);
  dg_meta_unref(meta);
  dg_meta_unref(back);
  fs_fixture_free(disk);
}
END_TEST

/* Puts an object whose list of part sizes has this length; is the list kept? */
static bool keeps_part_sizes(struct fs_fixture *where, size_t len)
{
  struct dg_meta *meta = dg_meta_new(), *back = dg_meta_new();
  g_autofree char *sizes = g_strnfill(len, '1');
  struct dg_item item = fs_item("many", DG_VARIANT_PASSTHROUGH);
  struct dg_error err = {0};
  bool kept;

  meta->variant = DG_VARIANT_PASSTHROUGH;
  ck_assert_int_eq(dg_meta_add_user(meta, DG_SLICE("k"), DG_SLICE("v"), &err), 0);
  ck_assert_int_eq(dg_meta_set(meta, DG_FIELD_ORIGINAL_NAME, DG_SLICE("many"), &err), 0);
  ck_assert_int_eq(dg_meta_add_extension(meta, DG_SLICE(DG_EXTENSION_PART_SIZES), fs_slice(sizes),
                                         &err),
                   0);
  ck_assert_int_eq(dg_meta_add_extension(meta, DG_SLICE("cache-control"), DG_SLICE("private"),
                                         &err),
                   0);
  ck_assert_msg(fs_put_meta(where, "many", "body", 4, meta, &err) == 0, "%s", err.detail);
  ck_assert_int_eq(where->ops->head(where->self, NULL, &item, back, &err), 0);
  ck_assert_str_eq(dg_meta_user(back, "k").data, "v");
  ck_assert_str_eq(back->original_name.data, "many");
  ck_assert_str_eq(dg_meta_extension(back, "cache-control").data, "private");
  kept = dg_meta_extension(back, DG_EXTENSION_PART_SIZES).len > 0;
  if (kept)
    ck_assert_str_eq(dg_meta_extension(back, DG_EXTENSION_PART_SIZES).data, sizes);
  dg_meta_unref(meta);
  dg_meta_unref(back);
  return kept;
}

START_TEST(part_sizes_are_kept_as_long_as_they_fit_and_never_cost_the_object)
{
  struct fs_fixture *disk = fs_fixture_new(/* in_memory= */ false);

  ck_assert(keeps_part_sizes(disk, 2500));
  (void)keeps_part_sizes(disk, 39000); /* depends on the filesystem */
  ck_assert(!keeps_part_sizes(disk, 70000)); /* more than Linux has room for */
  ck_assert(keeps_part_sizes(disk, 2500));
  fs_fixture_free(disk);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-fs: metadata");
  TCase *tcase = tcase_create("metadata");
  SRunner *runner;
  int failed;

  fs_fixture_require();
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_test(tcase, what_deltaglider_wrote_is_written_back_byte_for_byte);
  tcase_add_test(tcase, a_delta_of_deltaglider_is_understood);
  tcase_add_test(tcase, aliases_of_older_writers_are_read);
  tcase_add_test(tcase, what_cannot_be_trusted_is_corrupt);
  tcase_add_test(tcase, corrupt_objects_are_flagged_and_left_out_of_listings);
  tcase_add_test(tcase, unmanaged_etags_match_the_published_vector);
  tcase_add_test(tcase, unmanaged_files_are_served_as_they_are);
  tcase_add_test(tcase, a_delta_that_lost_its_metadata_is_corrupt_but_a_text_called_so_is_served);
  tcase_add_test(tcase, a_reference_that_lost_its_metadata_is_unmanaged_so_that_it_can_be_healed);
  tcase_add_test(tcase, a_put_writes_the_documented_json);
  tcase_add_test(tcase, every_flipped_bit_of_metadata_is_noticed_or_changes_nothing);
  tcase_add_test(tcase, changed_metadata_has_a_new_checksum);
  tcase_add_test(tcase, what_others_make_of_our_metadata_is_read);
  tcase_add_test(tcase, metadata_beyond_the_filesystem_is_refused_and_the_old_object_stays);
  tcase_add_test(tcase, the_longest_key_with_two_kilobytes_of_metadata_fits_a_real_disk);
  tcase_add_test(tcase, part_sizes_are_kept_as_long_as_they_fit_and_never_cost_the_object);
  suite_add_tcase(suite, tcase);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
