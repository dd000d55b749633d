/* SPDX-License-Identifier: Apache-2.0 */
/* Which change has to wait for which, told by a call that has no time to wait. */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/slice.h"
#include "plugins/backend-s3/doubts.h"
#include "plugins/backend-s3/s3.h"

static struct dg_s3 s3;

static void set_up(void)
{
  s3.doubts = dg_s3_doubts_new();
}

static void tear_down(void)
{
  g_clear_pointer(&s3.doubts, dg_s3_doubts_free);
}

static void change(struct dg_s3_request *request, const char *method, const char *name)
{
  dg_s3_request_init(request, method, DG_SLICE("bucket"), dg_slice_str(name));
  request->changes = true;
}

static void doubt(const char *method, const char *name)
{
  struct dg_s3_request request;

  change(&request, method, name);
  dg_s3_doubt(&s3, &request);
  dg_s3_request_clear(&request);
}

static bool has_to_wait(const char *method, const char *name)
{
  struct dg_call call = {.struct_size = sizeof call,
                         .deadline_mono_ms = dg_time_mono_ms() + 1000};
  struct dg_s3_request request;
  struct dg_error err = {0};
  int rc;

  change(&request, method, name);
  rc = dg_s3_doubt_wait(&s3, &call, &request, &err);
  dg_s3_request_clear(&request);
  if (rc < 0)
    ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  return rc < 0;
}

static bool has_to_wait_to_stay(const char *name)
{
  struct dg_call call = {.struct_size = sizeof call,
                         .deadline_mono_ms = dg_time_mono_ms() + 1000};
  struct dg_error err = {0};

  return dg_s3_doubt_wait_to_stay(&s3, &call, DG_SLICE("bucket"), dg_slice_str(name), &err) < 0;
}

START_TEST(another_change_of_a_name_in_doubt_waits)
{
  doubt("PUT", "a");
  ck_assert(has_to_wait("DELETE", "a"));
  ck_assert(!has_to_wait("PUT", "a"));
  ck_assert(!has_to_wait("DELETE", "b"));
}
END_TEST

START_TEST(what_must_stay_waits_for_removals_alone)
{
  doubt("PUT", "a");
  ck_assert(!has_to_wait_to_stay("a"));
  doubt("DELETE", "b");
  ck_assert(has_to_wait_to_stay("b"));
}
END_TEST

START_TEST(names_are_told_apart_to_their_last_byte)
{
  g_autofree char *long_name = g_strnfill(1000, 'n');
  g_autofree char *one = g_strconcat(long_name, "1", NULL);
  g_autofree char *other = g_strconcat(long_name, "2", NULL);

  doubt("DELETE", one);
  doubt("PUT", other);
  ck_assert(has_to_wait_to_stay(one));
  ck_assert(!has_to_wait_to_stay(other));
  ck_assert(!has_to_wait("PUT", other));
}
END_TEST

START_TEST(what_changes_nothing_is_never_in_doubt)
{
  struct dg_s3_request request;

  change(&request, "GET", "a");
  request.changes = false;
  dg_s3_doubt(&s3, &request);
  dg_s3_request_clear(&request);
  ck_assert(!has_to_wait("DELETE", "a"));
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-s3-doubts");
  TCase *all = tcase_create("all");
  SRunner *runner;
  int failed;

  tcase_add_checked_fixture(all, set_up, tear_down);
  tcase_add_test(all, another_change_of_a_name_in_doubt_waits);
  tcase_add_test(all, what_must_stay_waits_for_removals_alone);
  tcase_add_test(all, names_are_told_apart_to_their_last_byte);
  tcase_add_test(all, what_changes_nothing_is_never_in_doubt);
  suite_add_tcase(suite, all);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
