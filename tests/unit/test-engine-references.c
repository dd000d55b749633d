/* SPDX-License-Identifier: Apache-2.0 */
/* Several requests that want one reference which is not at hand. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "core/observe/metrics.h"
#include "core/plug/stream.h"
#include "engine-double.h"

#define FLEXIBLE (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)

static struct double_store *store;
static struct double_engine engine;
static GBytes *wanted;

/* A GET on a thread of its own. */
struct getter {
  struct double_caller caller;
  GBytes *body;
};

static void setup(void)
{
  g_autoptr(GBytes) first = double_bytes(30000, 1);
  struct dg_put_result result;
  struct dg_error err;

  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  double_settings.metadata_cache_bytes = 0;
  store = double_store_new(FLEXIBLE);
  double_engine_open(&engine, store, NULL);
  wanted = double_edit(first, 1000, 10, 2);
  ck_assert_int_eq(double_put(&engine, "b", "d/1.zip", first, NULL, &err), 0);
  ck_assert_int_eq(double_put(&engine, "b", "d/2.zip", wanted, &result, &err), 0);
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  double_engine_close(&engine);
  /* A fresh one: the reference is neither in memory nor in the cache directory. */
  double_engine_open(&engine, store, NULL);
}

static void teardown(void)
{
  g_bytes_unref(wanted);
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
}

static int get(struct double_caller *caller)
{
  struct getter *getter = (struct getter *)(void *)caller;
  struct dg_get_request request = {.bucket = double_str("b"),
                                   .key = double_str("d/2.zip"),
                                   .ret_deferred = caller->defers ? &caller->deferred : NULL};
  struct dg_object_info info;
  struct dg_range range;
  struct dg_reader *reader;
  size_t len = 0;
  char *data;
  int rc;

  if (dg_engine_get(engine.engine, &caller->call, &request, &info, &range, &reader,
                    &caller->err) < 0)
    return -1;
  data = g_malloc(range.length + 1);
  rc = dg_reader_read_full(reader, data, range.length + 1, &len, &caller->err);
  dg_reader_close(reader);
  dg_object_info_clear(&info);
  getter->body = g_bytes_new_take(data, len);
  return rc;
}

static void start(struct getter *getter, uint64_t limit_ms)
{
  double_caller_start(&getter->caller, get, limit_ms);
}

static void assert_got_it(struct getter *getter)
{
  double_caller_join(&getter->caller, DG_E_OK);
  ck_assert(g_bytes_equal(getter->body, wanted));
  g_bytes_unref(getter->body);
}

static void assert_failed(struct getter *getter, int32_t code)
{
  double_caller_join(&getter->caller, code);
}

/* Until so many have looked for the reference, in vain: they load it or wait. */
static void wait_for_misses(uint32_t count)
{
  g_autofree char *row = g_strdup_printf("\ndeltaglider_cache_misses_total %u\n", count);

  for (;;) {
    g_autoptr(GString) text = g_string_new(NULL);

    dg_metrics_print(engine.metrics, text);
    if (strstr(text->str, row))
      return;
    g_usleep(1000);
  }
}

START_TEST(a_client_that_leaves_does_not_fail_those_who_wait_for_its_load)
{
  struct getter first = {0}, second = {0}, third = {0};

  double_store_hold(store, DOUBLE_HOLD_REFERENCES);
  start(&first, DOUBLE_FAR_MS);
  double_store_wait_held(store, 1);
  start(&second, DOUBLE_FAR_MS);
  start(&third, DOUBLE_FAR_MS);
  wait_for_misses(3);
  double_caller_leave(&first.caller);
  double_store_hold(store, DOUBLE_HOLD_NONE);
  assert_failed(&first, DG_E_CANCELLED);
  assert_got_it(&second);
  assert_got_it(&third);
}
END_TEST

START_TEST(an_impatient_load_does_not_fail_those_who_wait_for_it)
{
  struct getter first = {0}, second = {0};

  double_store_hold(store, DOUBLE_HOLD_REFERENCES);
  start(&first, 200);
  double_store_wait_held(store, 1);
  start(&second, DOUBLE_FAR_MS);
  wait_for_misses(2);
  while (dg_time_mono_ms() <= first.caller.call.deadline_mono_ms)
    g_usleep(1000);
  double_store_hold(store, DOUBLE_HOLD_NONE);
  assert_failed(&first, DG_E_TIMEOUT);
  assert_got_it(&second);
}
END_TEST

START_TEST(a_wait_for_a_reference_ends_with_its_own_request)
{
  struct getter loads = {0}, leaves = {0}, expires = {0};

  double_store_hold(store, DOUBLE_HOLD_REFERENCES);
  start(&loads, DOUBLE_FAR_MS);
  double_store_wait_held(store, 1);
  start(&leaves, DOUBLE_FAR_MS);
  start(&expires, 100);
  wait_for_misses(3);
  double_caller_leave(&leaves.caller);
  assert_failed(&leaves, DG_E_CANCELLED);
  assert_failed(&expires, DG_E_TIMEOUT);
  double_store_hold(store, DOUBLE_HOLD_NONE);
  assert_got_it(&loads);
}
END_TEST

START_TEST(a_request_that_may_come_back_neither_loads_a_reference_nor_waits_for_it)
{
  struct getter loads = {0}, comes_back = {.caller = {.defers = true}};

  start(&comes_back, DOUBLE_FAR_MS);
  assert_failed(&comes_back, DG_E_SLOW_DOWN);
  ck_assert(comes_back.caller.deferred);
  double_store_hold(store, DOUBLE_HOLD_REFERENCES);
  start(&loads, DOUBLE_FAR_MS);
  double_store_wait_held(store, 1);
  start(&comes_back, DOUBLE_FAR_MS);
  assert_failed(&comes_back, DG_E_SLOW_DOWN);
  ck_assert(comes_back.caller.deferred);
  double_store_hold(store, DOUBLE_HOLD_NONE);
  assert_got_it(&loads);
  start(&comes_back, DOUBLE_FAR_MS);
  assert_got_it(&comes_back);
  ck_assert(!comes_back.caller.deferred);
}
END_TEST

/* It is not read again from a backend that may be far away. */
START_TEST(a_check_that_is_cut_short_keeps_the_local_copy)
{
  struct getter getter = {0};
  char *dir;

  start(&getter, DOUBLE_FAR_MS);
  assert_got_it(&getter);
  dir = g_strdup(engine.dir);
  engine.owns_dir = false;
  double_engine_close(&engine);
  double_engine_open(&engine, store, dir);
  engine.owns_dir = true;
  g_free(dir);
  start(&getter, 0);
  assert_failed(&getter, DG_E_TIMEOUT);
  double_store_remove(store, "b", "d/", DG_VARIANT_REFERENCE);
  start(&getter, DOUBLE_FAR_MS);
  assert_got_it(&getter);
}
END_TEST

static Suite *reference_suite(void)
{
  Suite *suite = suite_create("engine references");
  TCase *cases = tcase_create("references");

  tcase_set_timeout(cases, 60);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, a_client_that_leaves_does_not_fail_those_who_wait_for_its_load);
  tcase_add_test(cases, an_impatient_load_does_not_fail_those_who_wait_for_it);
  tcase_add_test(cases, a_wait_for_a_reference_ends_with_its_own_request);
  tcase_add_test(cases, a_request_that_may_come_back_neither_loads_a_reference_nor_waits_for_it);
  tcase_add_test(cases, a_check_that_is_cut_short_keeps_the_local_copy);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(reference_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
