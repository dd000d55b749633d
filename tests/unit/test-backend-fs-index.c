/* SPDX-License-Identifier: Apache-2.0 */
/* Large directories: listings stay exact whatever happens to the directory,
 * by us or behind our back, and cost little once indexed. */
#include "config.h"

#include <check.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs-fixture.h"
#include "plugins/backend-fs/dirindex.h"

#define MANY (DG_DIRINDEX_MIN + 500u)

static struct fs_fixture *fixture;

static void setup(void)
{
  fixture = fs_fixture_new(/* in_memory= */ true);
}

static void teardown(void)
{
  fixture->fault_step = NULL;
  fs_fixture_free(fixture);
}

static void drop(const char *key)
{
  g_autofree char *relative = g_strconcat("bkt/deltaspaces/", key, NULL);

  fs_drop_file(fixture, relative, "", NULL);
}

static void fill(const char *prefix, unsigned count)
{
  for (unsigned i = 0; i < count; i++) {
    g_autofree char *key = g_strdup_printf("%sk%06u", prefix, i * 2);

    drop(key);
  }
}

static unsigned count_rows(const char *rows)
{
  unsigned count = *rows ? 1 : 0;

  for (; *rows; rows++)
    count += *rows == '\n';
  return count;
}

static struct dg_dirindex_stats stats(void)
{
  struct dg_dirindex_stats now;
  struct dg_fs *fs = fixture->self;

  dg_dirindex_stats(fs->indexes, &now);
  return now;
}

/* All keys, and the same by pages of `page`. */
static char *list_all(unsigned page)
{
  char *whole = fs_list(fixture, "", "", "", DG_LIST_NO_META, 0);
  g_autoptr(GString) paged = g_string_new(NULL);
  g_autofree char *after = g_strdup("");

  for (;;) {
    g_autofree char *rows = fs_list(fixture, "", "", after, 0, page);
    char *last;

    if (!*rows)
      break;
    g_string_append_printf(paged, "%s%s", paged->len ? "\n" : "", rows);
    last = strrchr(rows, '\n');
    g_free(after);
    after = g_strdup(last ? last + 1 : rows);
  }
  ck_assert_str_eq(paged->str, whole);
  return whole;
}

START_TEST(a_large_directory_is_scanned_once_and_then_indexed)
{
  g_autofree char *rows = NULL, *page = NULL;

  fill("", MANY);
  rows = list_all(700);
  ck_assert_uint_eq(count_rows(rows), MANY);
  ck_assert_uint_eq(stats().scans, 1);
  page = fs_list(fixture, "k0001", "", "k000107", 0, 3);
  ck_assert_str_eq(page, "k000108\nk000110\nk000112");
  ck_assert_uint_eq(stats().scans, 1);
}
END_TEST

START_TEST(our_own_changes_show_at_once)
{
  struct dg_error err = {0};
  g_autofree char *rows = NULL, *page = NULL, *prefixes = NULL;

  fill("", MANY);
  rows = list_all(1000);
  fs_must_put(fixture, "k000001", "x");
  fs_must_put(fixture, "k000002/below", "x");
  fs_must_put(fixture, ".dot", "x");
  ck_assert_int_eq(fs_put(fixture, "k000004", DG_VARIANT_DELTA, "d", 1, &err), 0);
  ck_assert_int_eq(fs_remove(fixture, "k000006", DG_VARIANT_PASSTHROUGH, &err), 0);
  page = fs_list(fixture, "", "", "", 0, 8);
  ck_assert_str_eq(page, ".dot\nk000000\nk000001\nk000002\nk000002/below\nk000004\nk000004\n"
                         "k000008");
  prefixes = fs_list(fixture, "k00000", "/", "k000001", 0, 3);
  ck_assert_str_eq(prefixes, "k000002\nPRE:k000002/\nk000004");
  ck_assert_int_eq(fs_remove(fixture, ".dot", DG_VARIANT_PASSTHROUGH, &err), 0);
  g_free(page);
  page = fs_list(fixture, "", "", "", DG_LIST_NO_META, 2);
  ck_assert_str_eq(page, "k000000\nk000001");
  ck_assert_uint_eq(stats().scans, 1);
}
END_TEST

START_TEST(changes_behind_our_back_are_noticed)
{
  g_autofree char *rows = NULL, *page = NULL;
  g_autofree char *from = fs_path(fixture, "bkt/deltaspaces/k000000");
  g_autofree char *to = fs_path(fixture, "bkt/deltaspaces/k000003");
  g_autofree char *gone = fs_path(fixture, "bkt/deltaspaces/k000002");

  fill("", MANY);
  rows = list_all(1000);
  ck_assert_int_eq(g_rename(from, to), 0);
  ck_assert_int_eq(g_unlink(gone), 0);
  drop("%2Ek");
  ck_assert_int_eq(g_mkdir(gone, 0777), 0); /* the file is a directory now */
  drop("k000002/in");
  page = fs_list(fixture, "", "", "", 0, 5);
  ck_assert_str_eq(page, "%2Ek\nk000002/in\nk000003\nk000004\nk000006");
  ck_assert_uint_eq(stats().scans, 1);
}
END_TEST

START_TEST(an_overflowing_queue_means_reading_anew)
{
  g_autofree char *rows = NULL, *again = NULL;

  fill("", MANY);
  rows = list_all(1000);
  for (unsigned i = 0; i < 17000; i++) {
    g_autofree char *key = g_strdup_printf("z%06u", i);

    drop(key);
  }
  again = list_all(1000);
  ck_assert_uint_eq(count_rows(again), MANY + 17000);
  ck_assert_uint_ge(stats().scans, 2);
}
END_TEST

START_TEST(a_kept_index_is_used_after_a_restart_unless_the_directory_changed)
{
  g_autofree char *rows = NULL, *again = NULL;
  struct timespec old[2] = {{1700000000, 0}, {1700000000, 0}};
  g_autofree char *top = fs_path(fixture, "bkt/deltaspaces");

  fill("", MANY);
  rows = list_all(1000);
  fs_must_put(fixture, "k000001", "x");
  /* The change time is never old enough here by itself, and waiting is no
   * way to test: the clock's tick decides, so give it one. */
  ck_assert_int_eq(utimensat(AT_FDCWD, top, old, 0), 0);
  g_usleep(150 * 1000);
  fs_fixture_restart(fixture);
  again = list_all(1000);
  ck_assert_uint_eq(count_rows(again), MANY + 1);
  ck_assert_uint_eq(stats().loads, 1);
  ck_assert_uint_eq(stats().scans, 0);
  fs_fixture_close(fixture);
  drop("k000003");
  {
    struct dg_error err = {0};
    g_autofree char *third = NULL;

    ck_assert_int_eq(fs_fixture_open(fixture, &err), 0);
    third = list_all(1000);
    ck_assert_uint_eq(count_rows(third), MANY + 2);
    ck_assert_uint_eq(stats().loads, 0);
  }
}
END_TEST

START_TEST(a_damaged_index_is_rebuilt)
{
  g_autofree char *rows = NULL;
  GDir *dir;
  const char *name;
  unsigned files = 0;

  fill("", MANY);
  rows = list_all(1000);
  g_usleep(150 * 1000); /* see above */
  fs_fixture_close(fixture);
  dir = g_dir_open(fixture->cache, 0, NULL);
  while ((name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(fixture->cache, name, NULL);
    int fd = open(path, O_RDWR);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq((int)pwrite(fd, "\xff\xff\xff", 3, 5000), 3);
    (void)close(fd);
    files++;
  }
  g_dir_close(dir);
  ck_assert_uint_eq(files, 1);
  {
    struct dg_error err = {0};
    g_autofree char *again = NULL;

    ck_assert_int_eq(fs_fixture_open(fixture, &err), 0);
    again = list_all(1000);
    ck_assert_str_eq(again, rows);
    ck_assert_uint_eq(stats().scans, 1);
  }
}
END_TEST

/* Of the one kept file. */
static off_t index_file_size(void)
{
  GDir *dir = g_dir_open(fixture->cache, 0, NULL);
  g_autofree char *path = g_build_filename(fixture->cache, g_dir_read_name(dir), NULL);
  struct stat stat;

  g_dir_close(dir);
  ck_assert_int_eq(lstat(path, &stat), 0);
  return stat.st_size;
}

/* Cuts every kept file, while it is mapped. */
static void cut_index_files(off_t size)
{
  GDir *dir = g_dir_open(fixture->cache, 0, NULL);
  const char *name;
  unsigned files = 0;

  while ((name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(fixture->cache, name, NULL);

    ck_assert_int_eq(truncate(path, size), 0);
    files++;
  }
  g_dir_close(dir);
  ck_assert_uint_eq(files, 1);
}

START_TEST(an_index_cut_short_while_in_use_is_rebuilt)
{
  struct dg_error err = {0};
  g_autofree char *rows = NULL;

  fill("", 4 * MANY);
  rows = list_all(1000);
  for (unsigned i = 0; i < 2; i++) {
    g_autofree char *again = NULL;

    cut_index_files(i == 0 ? 0 : 8192);
    again = list_all(1000);
    ck_assert_str_eq(again, rows);
    ck_assert_uint_eq(stats().scans, 2 + i);
  }
  /* Also when it shows while changes are folded in. */
  cut_index_files(8192);
  fill("a", 4 * MANY);
  fs_must_put(fixture, "b", "new");
  {
    g_autofree char *more = list_all(3000);

    ck_assert_uint_eq(count_rows(more), 8 * MANY + 1);
  }
  ck_assert_int_eq(fs_remove(fixture, "b", DG_VARIANT_PASSTHROUGH, &err), 0);
}
END_TEST

/* Nothing faults: the kernel has zeros for the rest of the last page. */
START_TEST(an_index_cut_by_a_few_bytes_while_in_use_is_rebuilt)
{
  g_autofree char *rows = NULL;

  fill("", MANY);
  rows = list_all(1000);
  for (unsigned cut = 1; cut <= 8; cut++) {
    g_autofree char *again = NULL;

    cut_index_files(index_file_size() - (off_t)cut);
    again = list_all(1000);
    ck_assert_str_eq(again, rows);
    ck_assert_uint_eq(stats().scans, 1 + cut);
  }
}
END_TEST

START_TEST(without_watches_changes_are_seen_by_the_directory_times)
{
  g_autofree char *rows = NULL, *again = NULL;
  struct dg_fs *fs;

  fs_fixture_close(fixture);
  {
    struct dg_error err = {0};

    ck_assert_int_eq(fs_fixture_open(fixture, &err), 0);
  }
  fs = fixture->self;
  dg_dirindex_without_watches(fs->indexes);
  fill("", MANY);
  rows = list_all(1000);
  drop("k000001");
  again = list_all(1000);
  ck_assert_uint_eq(count_rows(again), MANY + 1);
  /* Once the times have settled, nothing is read twice. */
  g_usleep(150 * 1000);
  g_free(fs_list(fixture, "", "", "", 0, 10));
  {
    unsigned scans = stats().scans;

    g_free(fs_list(fixture, "", "", "", 0, 10));
    ck_assert_uint_eq(stats().scans, scans);
  }
}
END_TEST

START_TEST(escaped_names_in_a_large_directory_come_and_go)
{
  struct dg_error err = {0};
  g_autofree char *rows = NULL, *page = NULL, *later = NULL;
  g_autofree char *hidden = fs_path(fixture, "bkt/deltaspaces/%2E0");

  fill("", MANY);
  rows = list_all(1000);
  fs_must_put(fixture, ".0", "x");
  fs_must_put(fixture, ".1/y", "x");
  fs_must_put(fixture, "%2E0", "literal text as key");
  page = fs_list(fixture, "", "", "", 0, 3);
  ck_assert_str_eq(page, "%2E0\n.0\n.1/y");
  ck_assert_int_eq(g_unlink(hidden), 0);
  ck_assert_int_eq(fs_remove(fixture, ".1/y", DG_VARIANT_PASSTHROUGH, &err), 0);
  later = fs_list(fixture, "", "", "", DG_LIST_NO_META, 2);
  ck_assert_str_eq(later, "%2E0\nk000000");
}
END_TEST

START_TEST(many_changes_are_folded_in)
{
  g_autofree char *rows = NULL, *again = NULL;
  struct dg_fs *fs = fixture->self;
  unsigned total = MANY;

  fill("", MANY);
  rows = list_all(1000);
  for (unsigned round = 0; round < 10; round++) {
    for (unsigned i = 0; i < 1800; i++) {
      g_autofree char *key = g_strdup_printf("r%u-%u", round, i);

      drop(key);
    }
    total += 1800;
    for (unsigned i = 0; i < 1024; i++)
      dg_dirindex_changed(fs->indexes);
    g_free(fs_list(fixture, "", "", "", DG_LIST_NO_META, 1));
  }
  again = fs_list(fixture, "", "", "", DG_LIST_NO_META, 0);
  ck_assert_uint_eq(count_rows(again), total);
  ck_assert_uint_ge(stats().folds, 1);
}
END_TEST

static void *write_some(void *number)
{
  for (unsigned i = 0; i < 300; i++) {
    g_autofree char *key = g_strdup_printf("w%u-%03u", GPOINTER_TO_UINT(number), i);
    struct dg_error err = {0};

    fs_must_put(fixture, key, "x");
    if (i % 3 == 0)
      ck_assert_int_eq(fs_remove(fixture, key, DG_VARIANT_PASSTHROUGH, &err), 0);
  }
  return NULL;
}

START_TEST(listing_while_others_write_never_misses_what_stays)
{
  pthread_t threads[4];
  g_autofree char *rows = NULL;

  fill("", MANY);
  for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, write_some, GUINT_TO_POINTER(i)), 0);
  for (int i = 0; i < 20; i++) {
    g_autofree char *page = fs_list(fixture, "k", "", "", DG_LIST_NO_META, 0);

    ck_assert_uint_eq(count_rows(page), MANY);
  }
  for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  rows = fs_list(fixture, "w", "", "", 0, 0);
  ck_assert_uint_eq(count_rows(rows), 4 * 200);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-fs: index");
  TCase *tcase = tcase_create("index");
  SRunner *runner;
  int failed;

  fs_fixture_require();
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_test(tcase, a_large_directory_is_scanned_once_and_then_indexed);
  tcase_add_test(tcase, our_own_changes_show_at_once);
  tcase_add_test(tcase, changes_behind_our_back_are_noticed);
  tcase_add_test(tcase, an_overflowing_queue_means_reading_anew);
  tcase_add_test(tcase, a_kept_index_is_used_after_a_restart_unless_the_directory_changed);
  tcase_add_test(tcase, a_damaged_index_is_rebuilt);
  tcase_add_test(tcase, an_index_cut_short_while_in_use_is_rebuilt);
  tcase_add_test(tcase, an_index_cut_by_a_few_bytes_while_in_use_is_rebuilt);
  tcase_add_test(tcase, without_watches_changes_are_seen_by_the_directory_times);
  tcase_add_test(tcase, escaped_names_in_a_large_directory_come_and_go);
  tcase_add_test(tcase, many_changes_are_folded_in);
  tcase_add_test(tcase, listing_while_others_write_never_misses_what_stays);
  suite_add_tcase(suite, tcase);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
