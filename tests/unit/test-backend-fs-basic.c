/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs-fixture.h"

static struct fs_fixture *fixture;

static void setup(void)
{
  fixture = fs_fixture_new(/* in_memory= */ false);
}

static void teardown(void)
{
  fs_fixture_free(fixture);
}

START_TEST(an_object_comes_back_and_leaves_nothing_staged)
{
  fs_must_put(fixture, "a/b/one.txt", "hello");
  fs_must_hold(fixture, "a/b/one.txt", "hello");
  ck_assert_uint_eq(fs_staged(fixture), 0);
  fs_must_put(fixture, "a/b/one.txt", "second");
  fs_must_hold(fixture, "a/b/one.txt", "second");
  ck_assert_uint_eq(fs_staged(fixture), 0);
}
END_TEST

START_TEST(the_layout_is_the_one_of_deltaglider_proxy)
{
  struct dg_error err = {0};
  const char *paths[] = {"bkt/deltaspaces/a/b/app.zip", "bkt/deltaspaces/a/b/app.zip.delta",
                         "bkt/deltaspaces/a/b/reference.bin", "bkt/deltaspaces/top.txt"};

  ck_assert_int_eq(fs_put(fixture, "a/b/app.zip", DG_VARIANT_PASSTHROUGH, "p", 1, &err), 0);
  ck_assert_int_eq(fs_put(fixture, "a/b/app.zip", DG_VARIANT_DELTA, "d", 1, &err), 0);
  ck_assert_int_eq(fs_put(fixture, "a/b/", DG_VARIANT_REFERENCE, "r", 1, &err), 0);
  ck_assert_int_eq(fs_put(fixture, "top.txt", DG_VARIANT_PASSTHROUGH, "t", 1, &err), 0);
  for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
    g_autofree char *path = fs_path(fixture, paths[i]);

    ck_assert_msg(getxattr(path, "user.dg.metadata", NULL, 0) > 0, "%s", path);
    ck_assert_msg(getxattr(path, "user.dg.name", NULL, 0) < 0, "%s is marked", path);
  }
}
END_TEST

START_TEST(a_removed_object_is_gone_and_empty_directories_go_with_it)
{
  g_autofree char *dir = fs_path(fixture, "bkt/deltaspaces/a");
  g_autofree char *top = fs_path(fixture, "bkt/deltaspaces");
  struct dg_error err = {0};

  fs_must_put(fixture, "a/b/one.txt", "hello");
  ck_assert_int_eq(fs_remove(fixture, "a/b/one.txt", DG_VARIANT_DELTA, &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_KEY);
  ck_assert_int_eq(fs_remove(fixture, "a/b/one.txt", DG_VARIANT_PASSTHROUGH, &err), 0);
  fs_must_lack(fixture, "a/b/one.txt");
  ck_assert_int_eq(g_access(dir, F_OK), -1);
  ck_assert_int_eq(g_access(top, F_OK), 0);
}
END_TEST

START_TEST(a_put_never_makes_a_bucket)
{
  struct dg_item item = {DG_SLICE("nope"), DG_SLICE("k"), DG_VARIANT_PASSTHROUGH, 0};
  struct dg_writer *writer;
  struct dg_error err = {0};

  ck_assert_int_eq(fixture->ops->put(fixture->self, NULL, &item, 1, &writer, &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_BUCKET);
}
END_TEST

START_TEST(ranges_are_checked_and_read_exactly)
{
  struct dg_item item = fs_item("k", DG_VARIANT_PASSTHROUGH);
  const struct {
    uint64_t offset, length;
    const char *text; /* NULL: refused */
  } cases[] = {{0, 5, "hello"}, {1, 3, "ell"},  {4, DG_TO_END, "o"}, {5, DG_TO_END, ""},
               {5, 0, ""},      {5, 1, NULL},   {6, DG_TO_END, NULL}, {2, 4, "llo"},
               {2, UINT64_MAX - 1, "llo"}};

  fs_must_put(fixture, "k", "hello");
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    struct dg_range range = {cases[i].offset, cases[i].length};
    struct dg_meta *meta = dg_meta_new();
    struct dg_reader *reader;
    struct dg_error err = {0};
    int rc = fixture->ops->get(fixture->self, NULL, &item, range, meta, &reader, &err);
    char buffer[16] = {0};
    size_t len;

    ck_assert_int_eq(rc, cases[i].text ? 0 : -1);
    if (rc < 0) {
      ck_assert_int_eq(err.code, DG_E_INVALID_RANGE);
    } else {
      int32_t fd;
      uint64_t offset, length;

      ck_assert_int_eq(reader->ops->file_range(reader, &fd, &offset, &length, &err), 0);
      ck_assert_uint_eq(offset, range.offset);
      ck_assert_uint_eq(length, strlen(cases[i].text));
      (void)close(fd);
      ck_assert_int_eq(reader->ops->read(reader, buffer, sizeof buffer, &len, &err), 0);
      ck_assert_str_eq(buffer, cases[i].text);
      reader->ops->close(reader);
    }
    dg_meta_unref(meta);
  }
}
END_TEST

START_TEST(a_reader_keeps_its_version_while_the_object_is_replaced)
{
  struct dg_item item = fs_item("k", DG_VARIANT_PASSTHROUGH);
  struct dg_meta *meta = dg_meta_new();
  struct dg_reader *reader;
  struct dg_error err = {0};
  char buffer[16] = {0};
  size_t len;

  fs_must_put(fixture, "k", "old");
  ck_assert_int_eq(fixture->ops->get(fixture->self, NULL, &item, (struct dg_range){0, DG_TO_END},
                                     meta, &reader, &err),
                   0);
  fs_must_put(fixture, "k", "newer");
  ck_assert_int_eq(reader->ops->read(reader, buffer, sizeof buffer, &len, &err), 0);
  ck_assert_str_eq(buffer, "old");
  ck_assert_uint_eq(meta->stored_size, 3);
  reader->ops->close(reader);
  dg_meta_unref(meta);
}
END_TEST

START_TEST(what_was_written_can_be_read_back_and_named_late)
{
  struct dg_item opened = fs_item("d/x.zip", DG_VARIANT_REFERENCE);
  struct dg_item other = fs_item("d/x.zip", DG_VARIANT_PASSTHROUGH);
  struct dg_meta *meta = dg_meta_new();
  g_autofree char *big = g_malloc(700000), *back = g_malloc0(700001);
  struct dg_writer *writer;
  struct dg_reader *reader;
  struct dg_error err = {0};
  size_t got = 0, len = 1;

  memset(big, 'x', 700000);
  meta->variant = DG_VARIANT_PASSTHROUGH;
  ck_assert_int_eq(
    fixture->ops->put(fixture->self, NULL, &opened, DG_TO_END, &writer, &err), 0);
  ck_assert_int_eq(writer->ops->write(writer, "ab", 2, &err), 0);
  ck_assert_int_eq(writer->ops->write(writer, big, 600000, &err), 0);
  ck_assert_int_eq(writer->ops->read_back(writer, &reader, &err), 0);
  while (len) {
    ck_assert_int_eq(reader->ops->read(reader, back + got, 100000, &len, &err), 0);
    got += len;
  }
  reader->ops->close(reader);
  ck_assert_uint_eq(got, 600002);
  ck_assert_int_eq(memcmp(back, "abxx", 4), 0);
  ck_assert_int_eq(writer->ops->write(writer, "z", 1, &err), 0);
  ck_assert_int_eq(writer->ops->commit(writer, &other, meta, NULL, &err), 0);
  g_free(big);
  big = fs_get(fixture, "d/x.zip", DG_VARIANT_PASSTHROUGH, NULL, &err);
  ck_assert_uint_eq(strlen(big), 600003);
  ck_assert_int_eq(big[600002], 'z');
  dg_meta_unref(meta);
}
END_TEST

START_TEST(an_aborted_write_leaves_nothing)
{
  struct dg_item item = fs_item("k", DG_VARIANT_PASSTHROUGH);
  struct dg_writer *writer;
  struct dg_error err = {0};

  ck_assert_int_eq(fixture->ops->put(fixture->self, NULL, &item, 4, &writer, &err), 0);
  ck_assert_int_eq(writer->ops->write(writer, "data", 4, &err), 0);
  writer->ops->abort(writer);
  ck_assert_uint_eq(fs_staged(fixture), 0);
  fs_must_lack(fixture, "k");
}
END_TEST

START_TEST(the_validator_changes_with_bytes_and_with_metadata)
{
  struct dg_item item = fs_item("k", DG_VARIANT_PASSTHROUGH);
  struct dg_error err = {0};
  struct dg_meta *first = dg_meta_new(), *second = dg_meta_new();
  int32_t same = 0;

  fs_must_put(fixture, "k", "abc");
  ck_assert_int_eq(fixture->ops->head(fixture->self, NULL, &item, first, &err), 0);
  ck_assert_int_eq(
    fixture->ops->validate(fixture->self, NULL, &item, first->validator, &same, &err), 0);
  ck_assert_int_ne(same, 0);
  ck_assert_int_eq(dg_meta_add_user(first, DG_SLICE("k"), DG_SLICE("v"), &err), 0);
  ck_assert_int_eq(fixture->ops->set_meta(fixture->self, NULL, &item, first, &err), 0);
  ck_assert_int_eq(
    fixture->ops->validate(fixture->self, NULL, &item, first->validator, &same, &err), 0);
  ck_assert_int_eq(same, 0);
  ck_assert_int_eq(fixture->ops->head(fixture->self, NULL, &item, second, &err), 0);
  ck_assert_uint_eq(second->user_count, 1);
  fs_must_hold(fixture, "k", "abc");
  for (int i = 0; i < 50; i++) {
    dg_meta_clear(first);
    ck_assert_int_eq(fixture->ops->head(fixture->self, NULL, &item, first, &err), 0);
    fs_must_put(fixture, "k", "abd"); /* may get the inode of the one before */
    ck_assert_int_eq(
      fixture->ops->validate(fixture->self, NULL, &item, first->validator, &same, &err), 0);
    ck_assert_int_eq(same, 0);
  }
  ck_assert_int_eq(fs_remove(fixture, "k", DG_VARIANT_PASSTHROUGH, &err), 0);
  ck_assert_int_eq(
    fixture->ops->validate(fixture->self, NULL, &item, first->validator, &same, &err), 0);
  ck_assert_int_eq(same, 0);
  dg_meta_unref(first);
  dg_meta_unref(second);
}
END_TEST

static int32_t collect_bucket(void *receiver, const struct dg_bucket_row *row)
{
  g_string_append_len(receiver, row->name.data, (gssize)row->name.len);
  g_string_append_c(receiver, ' ');
  ck_assert(row->created_at_s > 1600000000);
  return 0;
}

START_TEST(buckets_are_made_listed_and_deleted)
{
  struct dg_error err = {0};
  g_autoptr(GString) names = g_string_new(NULL);

  fs_drop_file(fixture, "lost+found/x", "", NULL);
  fs_drop_file(fixture, "afile", "", NULL);
  ck_assert_int_eq(fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("zzz"), &err), 0);
  ck_assert_int_eq(fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("aaa"), &err), 0);
  ck_assert_int_eq(fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("aaa"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_BUCKET_EXISTS);
  ck_assert_int_eq(fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("../x"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_INVALID_BUCKET_NAME);
  ck_assert_int_eq(fixture->ops->bucket_list(fixture->self, NULL, collect_bucket, names, &err), 0);
  ck_assert_str_eq(names->str, "aaa bkt zzz ");
  ck_assert_int_eq(fixture->ops->bucket_delete(fixture->self, NULL, DG_SLICE("aaa"), &err), 0);
  ck_assert_int_eq(fixture->ops->bucket_head(fixture->self, NULL, DG_SLICE("aaa"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_BUCKET);
  ck_assert_int_eq(fixture->ops->bucket_delete(fixture->self, NULL, DG_SLICE("aaa"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_BUCKET);
  ck_assert_int_eq(fixture->ops->bucket_head(fixture->self, NULL, DG_SLICE("zzz"), &err), 0);
}
END_TEST

static gpointer make_buckets(gpointer stop)
{
  struct dg_error err;

  while (!g_atomic_int_get((gint *)stop))
    if (fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("racy"), &err) < 0 &&
        err.code != DG_E_BUCKET_EXISTS)
      return g_strdup(err.detail);
  return NULL;
}

START_TEST(making_and_deleting_a_bucket_never_meet_half_way)
{
  gint stop = 0;
  GThread *maker = g_thread_new("maker", make_buckets, &stop);
  struct dg_error err;
  g_autofree char *complaint = NULL;

  for (int i = 0; i < 300; i++)
    if (fixture->ops->bucket_delete(fixture->self, NULL, DG_SLICE("racy"), &err) < 0)
      ck_assert_int_eq(err.code, DG_E_NO_SUCH_BUCKET);
  g_atomic_int_set(&stop, 1);
  complaint = g_thread_join(maker);
  ck_assert_ptr_null(complaint);
}
END_TEST

START_TEST(a_bucket_with_objects_stays_and_one_with_references_goes)
{
  struct dg_error err = {0};

  ck_assert_int_eq(fs_put(fixture, "a/", DG_VARIANT_REFERENCE, "r", 1, &err), 0);
  fs_must_put(fixture, "a/b/c", "x");
  ck_assert_int_eq(fixture->ops->bucket_delete(fixture->self, NULL, DG_SLICE("bkt"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_BUCKET_NOT_EMPTY);
  fs_must_hold(fixture, "a/b/c", "x");
  ck_assert_int_eq(fs_remove(fixture, "a/b/c", DG_VARIANT_PASSTHROUGH, &err), 0);
  ck_assert_int_eq(fixture->ops->bucket_delete(fixture->self, NULL, DG_SLICE("bkt"), &err), 0);
  ck_assert_uint_eq(fs_staged(fixture), 0);
}
END_TEST

START_TEST(a_second_server_on_the_root_is_refused_with_the_remedy)
{
  struct fs_fixture second = *fixture;
  struct dg_error err = {0};

  second.self = NULL;
  ck_assert_int_eq(fs_fixture_open(&second, &err), -1);
  ck_assert_ptr_nonnull(strstr(err.detail, "in use by another server: stop that one"));
}
END_TEST

START_TEST(the_staging_directory_is_swept_at_start)
{
  fs_drop_file(fixture, ".dg-staging/t1", "left", NULL);
  fs_drop_file(fixture, ".dg-staging/t2/deltaspaces/reference.bin", "left", NULL);
  fs_fixture_restart(fixture);
  ck_assert_uint_eq(fs_staged(fixture), 0);
}
END_TEST

START_TEST(a_filesystem_without_attributes_is_refused_with_the_remedy)
{
  struct dg_error err = {0};

  fs_fixture_close(fixture);
  fixture->fault_step = "fs.start.xattr";
  fixture->fault_at = 1;
  fixture->fault_errno = 95; /* ENOTSUP */
  ck_assert_int_eq(fs_fixture_open(fixture, &err), -1);
  ck_assert_ptr_nonnull(
    strstr(err.detail, "Data directory does not support extended attributes"));
  ck_assert_ptr_nonnull(strstr(err.detail, "user_xattr"));
  fs_fixture_restart(fixture);
}
END_TEST

START_TEST(the_probe_notices_a_root_that_was_replaced)
{
  g_autofree char *aside = g_strconcat(fixture->root, ".aside", NULL);
  struct dg_error err = {0};

  ck_assert_int_eq(fixture->ops->probe(fixture->self, NULL, &err), 0);
  ck_assert_int_eq(g_rename(fixture->root, aside), 0);
  ck_assert_int_eq(fixture->ops->probe(fixture->self, NULL, &err), -1);
  ck_assert_int_eq(g_mkdir(fixture->root, 0700), 0);
  ck_assert_int_eq(fixture->ops->probe(fixture->self, NULL, &err), -1);
  ck_assert_int_eq(err.code, DG_E_UNAVAILABLE);
}
END_TEST

START_TEST(symbolic_links_are_never_followed)
{
  g_autofree char *secret = g_build_filename(fixture->base, "secret", NULL);
  g_autofree char *file = fs_path(fixture, "bkt/deltaspaces/link");
  g_autofree char *dir = fs_path(fixture, "bkt/deltaspaces/dirlink");
  g_autofree char *rows = NULL;

  ck_assert(g_file_set_contents(secret, "secret", -1, NULL));
  ck_assert_int_eq(symlink(secret, file), 0);
  ck_assert_int_eq(symlink(fixture->base, dir), 0);
  fs_must_lack(fixture, "link");
  fs_must_lack(fixture, "dirlink/secret");
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "");
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-fs: basics");
  TCase *tcase = tcase_create("basics");
  SRunner *runner;
  int failed;

  fs_fixture_require();
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_test(tcase, an_object_comes_back_and_leaves_nothing_staged);
  tcase_add_test(tcase, the_layout_is_the_one_of_deltaglider_proxy);
  tcase_add_test(tcase, a_removed_object_is_gone_and_empty_directories_go_with_it);
  tcase_add_test(tcase, a_put_never_makes_a_bucket);
  tcase_add_test(tcase, ranges_are_checked_and_read_exactly);
  tcase_add_test(tcase, a_reader_keeps_its_version_while_the_object_is_replaced);
  tcase_add_test(tcase, what_was_written_can_be_read_back_and_named_late);
  tcase_add_test(tcase, an_aborted_write_leaves_nothing);
  tcase_add_test(tcase, the_validator_changes_with_bytes_and_with_metadata);
  tcase_add_test(tcase, buckets_are_made_listed_and_deleted);
  tcase_add_test(tcase, making_and_deleting_a_bucket_never_meet_half_way);
  tcase_add_test(tcase, a_bucket_with_objects_stays_and_one_with_references_goes);
  tcase_add_test(tcase, a_second_server_on_the_root_is_refused_with_the_remedy);
  tcase_add_test(tcase, the_staging_directory_is_swept_at_start);
  tcase_add_test(tcase, a_filesystem_without_attributes_is_refused_with_the_remedy);
  tcase_add_test(tcase, the_probe_notices_a_root_that_was_replaced);
  tcase_add_test(tcase, symbolic_links_are_never_followed);
  suite_add_tcase(suite, tcase);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
