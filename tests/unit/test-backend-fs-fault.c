/* SPDX-License-Identifier: Apache-2.0 */
/* Every step of a write fails or is the last: what was acknowledged is there,
 * what was not is the old object or none, and nothing is left behind. */
#include "config.h"

#include <check.h>
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs-fixture.h"

static struct fs_fixture *fixture;

static void setup(void)
{
  fixture = fs_fixture_new(/* in_memory= */ false);
}

static void setup_in_memory(void)
{
  fixture = fs_fixture_new(/* in_memory= */ true);
}

static void teardown(void)
{
  fixture->fault_step = NULL;
  fs_fixture_free(fixture);
}

static void inject(const char *step, unsigned at, int errnum)
{
  fixture->fault_step = step;
  fixture->fault_at = at;
  fixture->fault_seen = 0;
  fixture->fault_errno = errnum;
}

static const struct {
  int errnum;
  int32_t code;
} errors[] = {{ENOSPC, DG_E_NO_SPACE}, {EDQUOT, DG_E_NO_SPACE}, {EMFILE, DG_E_SLOW_DOWN},
              {EROFS, DG_E_READ_ONLY}, {EIO, DG_E_IO}};

START_TEST(a_failing_step_of_a_put_leaves_the_old_object_and_no_temporary)
{
  static const char *const steps[] = {"fs.put.open",  "fs.put.write", "fs.put.dirs",
                                      "fs.put.xattr", "fs.put.fsync", "fs.put.rename",
                                      "fs.put.syncdir"};
  struct dg_error err = {0};

  fs_must_put(fixture, "d/old", "old");
  for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
    for (size_t j = 0; j < G_N_ELEMENTS(errors); j++) {
      inject(steps[i], 1, errors[j].errnum);
      ck_assert_int_eq(fs_put(fixture, "d/old", DG_VARIANT_PASSTHROUGH, "newer", 5, &err), -1);
      ck_assert_msg(err.code == errors[j].code, "%s: %s", steps[i], err.detail);
      inject(steps[i], 1, errors[j].errnum);
      ck_assert_int_eq(fs_put(fixture, "d/fresh", DG_VARIANT_PASSTHROUGH, "x", 1, &err), -1);
      ck_assert_int_eq(err.code, errors[j].code);
      fixture->fault_step = NULL;
      fs_must_hold(fixture, "d/old", "old");
      fs_must_lack(fixture, "d/fresh");
      ck_assert_uint_eq(fs_staged(fixture), 0);
    }
  }
  /* No restart is needed to go on. */
  fs_must_put(fixture, "d/old", "newer");
  fs_must_hold(fixture, "d/old", "newer");
}
END_TEST

START_TEST(a_failing_directory_leaves_no_object)
{
  static const char *const steps[] = {"fs.put.mkdir", "fs.put.mkdir.sync"};
  struct dg_error err = {0};

  for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
    inject(steps[i], 1, ENOSPC);
    ck_assert_int_eq(fs_put(fixture, "n/e/w", DG_VARIANT_PASSTHROUGH, "x", 1, &err), -1);
    ck_assert_int_eq(err.code, DG_E_NO_SPACE);
    fixture->fault_step = NULL;
    fs_must_lack(fixture, "n/e/w");
    ck_assert_uint_eq(fs_staged(fixture), 0);
  }
  fs_must_put(fixture, "n/e/w", "x");
}
END_TEST

START_TEST(other_operations_report_their_failures)
{
  struct dg_item item = fs_item("k", DG_VARIANT_PASSTHROUGH);
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};

  fs_must_put(fixture, "k", "v");
  ck_assert_int_eq(fixture->ops->head(fixture->self, NULL, &item, meta, &err), 0);
  inject("fs.remove.unlink", 1, EROFS);
  ck_assert_int_eq(fs_remove(fixture, "k", DG_VARIANT_PASSTHROUGH, &err), -1);
  ck_assert_int_eq(err.code, DG_E_READ_ONLY);
  inject("fs.meta.xattr", 1, ENOSPC);
  ck_assert_int_eq(fixture->ops->set_meta(fixture->self, NULL, &item, meta, &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SPACE);
  inject("fs.get.open", 1, EMFILE);
  ck_assert_ptr_null(fs_get(fixture, "k", DG_VARIANT_PASSTHROUGH, NULL, &err));
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  inject("fs.get.read", 1, EIO);
  ck_assert_ptr_null(fs_get(fixture, "k", DG_VARIANT_PASSTHROUGH, NULL, &err));
  ck_assert_int_eq(err.code, DG_E_IO);
  inject("fs.bucket.mkdir", 1, ENOSPC);
  ck_assert_int_eq(fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("new"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SPACE);
  inject("fs.bucket.sync", 1, EIO);
  ck_assert_int_eq(fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("new"), &err), -1);
  fixture->fault_step = NULL;
  ck_assert_int_eq(fixture->ops->bucket_head(fixture->self, NULL, DG_SLICE("new"), &err), -1);
  fs_must_hold(fixture, "k", "v");
  dg_meta_unref(meta);
}
END_TEST

START_TEST(a_new_root_is_served_from_only_once_it_is_on_disk)
{
  g_autofree char *root = g_strdup(fixture->config_path);
  struct dg_error err = {0};

  fs_fixture_close(fixture);
  g_free(fixture->config_path);
  fixture->config_path = g_build_filename(root, "new", "root", NULL);
  for (int i = 0; i < 2; i++) { /* not the second time either */
    inject("fs.start.sync", 1, EIO);
    ck_assert_int_eq(fs_fixture_open(fixture, &err), -1);
    ck_assert_int_eq(err.code, DG_E_IO);
  }
  fixture->fault_step = NULL;
  ck_assert_msg(fs_fixture_open(fixture, &err) == 0, "%s", err.detail);
  fs_fixture_close(fixture);
  inject("fs.start.sync", 1, EIO); /* it is once and for all */
  ck_assert_msg(fs_fixture_open(fixture, &err) == 0, "%s", err.detail);
  fixture->fault_step = NULL;
}
END_TEST

/* ---- Crashes ------------------------------------------------------------------ */

/* Runs `work` in a child that dies at the nth step from now; returns false
 * when the work ended, with success, before that. */
static bool crash_at(unsigned nth, int (*work)(struct dg_error *err))
{
  int status;
  pid_t child;

  fs_fixture_close(fixture); /* the child takes the lock */
  child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) {
    struct dg_error err = {0};

    if (fs_fixture_open(fixture, &err) < 0)
      _exit(1);
    inject("fs.", nth, -1);
    _exit(work(&err) < 0 ? 1 : 0);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status));
  ck_assert_int_ne(WEXITSTATUS(status), 1);
  fixture->fault_step = NULL;
  {
    struct dg_error err = {0};

    ck_assert_msg(fs_fixture_open(fixture, &err) == 0, "%s", err.detail);
  }
  ck_assert_uint_eq(fs_staged(fixture), 0);
  return WEXITSTATUS(status) == 99;
}

static int overwrite(struct dg_error *err)
{
  return fs_put(fixture, "d/k", DG_VARIANT_PASSTHROUGH, "new", 3, err);
}

START_TEST(a_crash_during_an_overwrite_leaves_old_or_new)
{
  bool crashed = true, seen_new = false;

  fs_must_put(fixture, "d/k", "old");
  for (unsigned nth = 1; crashed; nth++) {
    struct dg_error err = {0};
    g_autofree char *text = NULL;

    crashed = crash_at(nth, overwrite);
    text = fs_get(fixture, "d/k", DG_VARIANT_PASSTHROUGH, NULL, &err);
    ck_assert_msg(text != NULL, "step %u: %s", nth, err.detail);
    ck_assert(strcmp(text, "old") == 0 || strcmp(text, "new") == 0);
    ck_assert(!seen_new || strcmp(text, "new") == 0);
    seen_new = strcmp(text, "new") == 0;
    ck_assert(crashed || seen_new);
  }
  ck_assert(seen_new);
}
END_TEST

static int put_beside(struct dg_error *err)
{
  return fs_put(fixture, "f/.x/y", DG_VARIANT_PASSTHROUGH, "new", 3, err);
}

START_TEST(a_crash_while_escaped_directories_are_made_leaves_all_or_nothing)
{
  bool crashed = true;

  fs_must_put(fixture, "f", "file in the way");
  fs_drop_file(fixture, "bkt/deltaspaces/f%2F/literal", "foreign", NULL);
  for (unsigned nth = 1; crashed; nth++) {
    g_autofree char *text = NULL;
    struct dg_error err = {0};

    crashed = crash_at(nth, put_beside);
    text = fs_get(fixture, "f/.x/y", DG_VARIANT_PASSTHROUGH, NULL, &err);
    ck_assert(text ? strcmp(text, "new") == 0 : err.code == DG_E_NO_SUCH_KEY);
    ck_assert(crashed || text);
    fs_must_hold(fixture, "f", "file in the way");
    fs_must_hold(fixture, "f%2F/literal", "foreign");
    if (crashed && text)
      ck_assert_int_eq(fs_remove(fixture, "f/.x/y", DG_VARIANT_PASSTHROUGH, &err), 0);
  }
}
END_TEST

static int remove_it(struct dg_error *err)
{
  return fs_remove(fixture, "d/k", DG_VARIANT_PASSTHROUGH, err);
}

START_TEST(a_crash_during_a_removal_leaves_the_object_or_none)
{
  bool crashed = true;

  for (unsigned nth = 1; crashed; nth++) {
    g_autofree char *text = NULL;
    struct dg_error err = {0};

    fs_must_put(fixture, "d/k", "old");
    crashed = crash_at(nth, remove_it);
    text = fs_get(fixture, "d/k", DG_VARIANT_PASSTHROUGH, NULL, &err);
    ck_assert(text ? strcmp(text, "old") == 0 && crashed : err.code == DG_E_NO_SUCH_KEY);
  }
}
END_TEST

static int delete_bucket(struct dg_error *err)
{
  return fixture->ops->bucket_delete(fixture->self, NULL, DG_SLICE("bkt"), err);
}

START_TEST(a_crash_while_a_bucket_is_deleted_leaves_it_whole_or_gone)
{
  bool crashed = true;

  for (unsigned nth = 1; crashed; nth++) {
    struct dg_error err = {0};

    (void)fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("bkt"), &err);
    ck_assert_int_eq(fs_put(fixture, "r/", DG_VARIANT_REFERENCE, "ref", 3, &err), 0);
    crashed = crash_at(nth, delete_bucket);
    if (fixture->ops->bucket_head(fixture->self, NULL, DG_SLICE("bkt"), &err) == 0) {
      g_autofree char *text = fs_get(fixture, "r/", DG_VARIANT_REFERENCE, NULL, &err);

      ck_assert_str_eq(text, "ref");
      ck_assert(crashed);
    }
  }
}
END_TEST

/* ---- Many at once ---------------------------------------------------------------- */

#define THREADS 6
#define ROUNDS 150

static void *churn(void *number)
{
  unsigned me = GPOINTER_TO_UINT(number);
  GRand *random = g_rand_new_with_seed(me + 100);

  for (int i = 0; i < ROUNDS; i++) {
    /* Directories that come and go under each other's feet, names that are
     * file here and directory there; each thread has its own keys. */
    static const char *const shapes[] = {"s/t/%u", "s/t/%u/x", "s/.e/%u", "s/%u", "%u/x", "s/t/u/v/%u"};
    g_autofree char *key = NULL, *text = NULL;
    struct dg_error err = {0};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    key = g_strdup_printf(shapes[g_rand_int_range(random, 0, G_N_ELEMENTS(shapes))], me);
#pragma GCC diagnostic pop
    text = g_strdup_printf("%u-%d", me, i);
    fs_must_put(fixture, key, text);
    fs_must_hold(fixture, key, text);
    if (i % 7 == 0)
      g_free(fs_list(fixture, "s/", i % 2 ? "/" : "", "", 0, 50));
    ck_assert_msg(fs_remove(fixture, key, DG_VARIANT_PASSTHROUGH, &err) == 0, "%s: %s", key,
                  err.detail);
    fs_must_lack(fixture, key);
  }
  g_rand_free(random);
  return NULL;
}

START_TEST(threads_that_put_remove_and_list_do_not_disturb_each_other)
{
  pthread_t threads[THREADS];
  g_autofree char *rows = NULL;

  for (unsigned i = 0; i < THREADS; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, GUINT_TO_POINTER(i)), 0);
  for (unsigned i = 0; i < THREADS; i++)
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "");
  ck_assert_uint_eq(fs_staged(fixture), 0);
}
END_TEST

static void *put_shape(void *format)
{
  for (int i = 0; i < 200; i++) {
    g_autofree char *key = g_strdup_printf("c%d%s", i, (const char *)format);

    fs_must_put(fixture, key, key);
  }
  return NULL;
}

START_TEST(a_and_what_lies_below_a_are_made_at_the_same_time)
{
  static const char *const shapes[] = {"", "/x", "/x/y", "/z"};
  pthread_t threads[G_N_ELEMENTS(shapes)];
  g_autofree char *rows = NULL;
  unsigned count = 1;

  for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++)
    ck_assert_int_eq(
      pthread_create(&threads[i], NULL, put_shape, (void *)(uintptr_t)shapes[i]), 0);
  for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++)
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  for (int i = 0; i < 200; i++)
    for (size_t j = 0; j < G_N_ELEMENTS(shapes); j++) {
      g_autofree char *key = g_strdup_printf("c%d%s", i, shapes[j]);

      fs_must_hold(fixture, key, key);
    }
  rows = fs_list(fixture, "", "", "", 0, 0);
  for (const char *at = rows; *at; at++)
    count += *at == '\n';
  ck_assert_uint_eq(count, 200 * G_N_ELEMENTS(shapes));
}
END_TEST

static void *trade_places(void *stop)
{
  struct dg_error err = {0};

  /* "a" moves between a%00 and a as the directory comes and goes. */
  while (!g_atomic_int_get((gint *)stop)) {
    fs_must_put(fixture, "a", "x");
    ck_assert_int_eq(fs_remove(fixture, "a/b", DG_VARIANT_PASSTHROUGH, &err), 0);
    fs_must_put(fixture, "a", "x");
    ck_assert_int_eq(fs_remove(fixture, "a", DG_VARIANT_PASSTHROUGH, &err), 0);
    fs_must_put(fixture, "a/b", "y");
  }
  return NULL;
}

START_TEST(an_object_that_changes_its_name_on_disk_is_never_missed)
{
  pthread_t thread;
  gint stop = 0;

  /* The literal key moves aside once; the thread only makes it busy. */
  fs_must_put(fixture, "a/b", "y");
  ck_assert_int_eq(pthread_create(&thread, NULL, trade_places, &stop), 0);
  for (int i = 0; i < 200; i++) {
    g_autofree char *relative = g_strdup_printf("bkt/deltaspaces/%%2E%d", i);
    g_autofree char *literal = g_strdup_printf("%%2E%d", i), *ours = g_strdup_printf(".%d", i);

    fs_drop_file(fixture, relative, "literal", NULL);
    fs_must_put(fixture, ours, "ours");
    fs_must_hold(fixture, literal, "literal");
    fs_must_hold(fixture, ours, "ours");
  }
  g_atomic_int_set(&stop, 1);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

struct reading {
  gint stop, at;
};

static void *read_on(void *receiver)
{
  struct reading *reading = receiver;

  while (!g_atomic_int_get(&reading->stop)) {
    g_autofree char *key = g_strdup_printf("m%d", g_atomic_int_get(&reading->at));

    fs_must_hold(fixture, key, "x");
  }
  return NULL;
}

START_TEST(a_reader_sees_an_object_all_the_while_it_moves)
{
  struct reading reading = {0};
  struct dg_error err = {0};
  pthread_t thread;

  for (int i = 0; i < 200; i++) {
    g_autofree char *key = g_strdup_printf("m%d", i), *below = g_strconcat(key, "/b", NULL);

    fs_must_put(fixture, below, "y");
    fs_must_put(fixture, key, "x"); /* m0%00 */
  }
  ck_assert_int_eq(pthread_create(&thread, NULL, read_on, &reading), 0);
  for (int i = 0; i < 200; i++) {
    g_autofree char *key = g_strdup_printf("m%d", i), *below = g_strconcat(key, "/b", NULL);

    g_atomic_int_set(&reading.at, i);
    ck_assert_int_eq(fs_remove(fixture, below, DG_VARIANT_PASSTHROUGH, &err), 0);
    fs_must_put(fixture, key, "x"); /* m0, and m0%00 goes */
  }
  g_atomic_int_set(&reading.stop, 1);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static void *delete_and_make(void *stop)
{
  struct dg_error err = {0};

  while (!g_atomic_int_get((gint *)stop)) {
    if (fixture->ops->bucket_delete(fixture->self, NULL, DG_SLICE("bkt"), &err) == 0)
      (void)fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("bkt"), &err);
    else
      ck_assert_int_eq(err.code, DG_E_BUCKET_NOT_EMPTY);
  }
  return NULL;
}

START_TEST(deleting_a_bucket_never_takes_an_acknowledged_object)
{
  pthread_t thread;
  gint stop = 0;

  ck_assert_int_eq(pthread_create(&thread, NULL, delete_and_make, &stop), 0);
  for (int i = 0; i < 300; i++) {
    struct dg_error err = {0};

    if (fs_put(fixture, "a/b", DG_VARIANT_PASSTHROUGH, "x", 1, &err) == 0) {
      fs_must_hold(fixture, "a/b", "x");
      ck_assert_int_eq(fs_remove(fixture, "a/b", DG_VARIANT_PASSTHROUGH, &err), 0);
    } else {
      ck_assert_msg(err.code == DG_E_NO_SUCH_BUCKET, "%s", err.detail);
    }
  }
  g_atomic_int_set(&stop, 1);
  ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* A PUT of `.a` in a thread of its own, begun while `%2Ea` is being removed. */
static struct {
  pthread_t thread;
  bool begun;
  gint done;
  int rc;
} meanwhile;

static void *put_escaped(void *unused)
{
  struct dg_error err = {0};

  (void)unused;
  meanwhile.rc = fs_put(fixture, ".a", DG_VARIANT_PASSTHROUGH, "escaped", 7, &err);
  g_atomic_int_set(&meanwhile.done, 1);
  return NULL;
}

/* Between look and unlink. The PUT is given time to finish here, if nothing
 * holds it back. */
static int32_t begin_put(const struct dg_host *host, const char *step)
{
  (void)host;
  if (strcmp(step, "fs.remove.unlink") != 0 || meanwhile.begun)
    return 0;
  meanwhile.begun = true;
  ck_assert_int_eq(pthread_create(&meanwhile.thread, NULL, put_escaped, NULL), 0);
  for (unsigned i = 0; i < 300 && !g_atomic_int_get(&meanwhile.done); i++)
    g_usleep(1000);
  return 0;
}

START_TEST(removing_a_literal_name_never_takes_the_key_that_escapes_to_it)
{
  struct dg_error err = {0};

  fs_drop_file(fixture, "bkt/deltaspaces/%2Ea", "literal", NULL);
  fixture->host.fault = begin_put;
  ck_assert_int_eq(fs_remove(fixture, "%2Ea", DG_VARIANT_PASSTHROUGH, &err), 0);
  ck_assert(meanwhile.begun);
  ck_assert_int_eq(pthread_join(meanwhile.thread, NULL), 0);
  ck_assert_int_eq(meanwhile.rc, 0);
  fs_must_hold(fixture, ".a", "escaped");
  fs_must_lack(fixture, "%2Ea");
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-fs: faults");
  TCase *tcase = tcase_create("faults"), *memory = tcase_create("in memory");
  SRunner *runner;
  int failed;

  fs_fixture_require();
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_test(tcase, a_failing_step_of_a_put_leaves_the_old_object_and_no_temporary);
  tcase_add_test(tcase, a_failing_directory_leaves_no_object);
  tcase_add_test(tcase, other_operations_report_their_failures);
  tcase_add_test(tcase, a_new_root_is_served_from_only_once_it_is_on_disk);
  tcase_set_timeout(memory, 60);
  tcase_add_checked_fixture(memory, setup_in_memory, teardown);
  tcase_add_test(memory, a_crash_during_an_overwrite_leaves_old_or_new);
  tcase_add_test(memory, a_crash_while_escaped_directories_are_made_leaves_all_or_nothing);
  tcase_add_test(memory, a_crash_during_a_removal_leaves_the_object_or_none);
  tcase_add_test(memory, a_crash_while_a_bucket_is_deleted_leaves_it_whole_or_gone);
  tcase_add_test(memory, threads_that_put_remove_and_list_do_not_disturb_each_other);
  tcase_add_test(memory, a_and_what_lies_below_a_are_made_at_the_same_time);
  tcase_add_test(memory, an_object_that_changes_its_name_on_disk_is_never_missed);
  tcase_add_test(memory, a_reader_sees_an_object_all_the_while_it_moves);
  tcase_add_test(memory, removing_a_literal_name_never_takes_the_key_that_escapes_to_it);
  tcase_add_test(memory, deleting_a_bucket_never_takes_an_acknowledged_object);
  suite_add_tcase(suite, tcase);
  suite_add_tcase(suite, memory);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
