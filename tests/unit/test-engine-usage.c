/* SPDX-License-Identifier: Apache-2.0 */
/* Many who ask at once how much there is. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "core/engine/internal.h"
#include "core/engine/usage.h"
#include "engine-double.h"

#define MANY 12u

static struct double_store *store;
static struct double_engine engine;

/* One who asks, on a thread of its own. */
struct asker {
  struct double_caller caller;
  struct dg_usage usage;
};

static void setup(void)
{
  g_autoptr(GBytes) body = double_bytes(1000, 1);
  struct dg_error err;

  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  store = double_store_new(DG_CAP_VALIDATOR);
  double_engine_open(&engine, store, NULL);
  /* Nothing counted stays good. */
  dg_usage_cache_free(engine.engine->usage);
  engine.engine->usage = dg_usage_cache_new(0);
  ck_assert_int_eq(double_put(&engine, "b", "k.txt", body, NULL, &err), 0);
}

static void teardown(void)
{
  double_engine_close(&engine);
  double_store_free(store);
}

static int ask(struct double_caller *caller)
{
  struct asker *asker = (struct asker *)(void *)caller;

  return dg_engine_usage(engine.engine, &caller->call, double_str("b"),
                         caller->defers ? &caller->deferred : NULL, &asker->usage, &caller->err);
}

static void start(struct asker *asker, uint64_t limit_ms)
{
  double_caller_start(&asker->caller, ask, limit_ms);
}

static void assert_counted(struct asker *asker)
{
  double_caller_join(&asker->caller, DG_E_OK);
  ck_assert_uint_eq(asker->usage.total_objects, 1);
  ck_assert_uint_eq(asker->usage.total_original_bytes, 1000);
}

static void assert_failed(struct asker *asker, int32_t code)
{
  double_caller_join(&asker->caller, code);
}

START_TEST(few_wait_for_a_count_and_the_rest_is_asked_to_come_back)
{
  struct asker askers[MANY] = {0};
  uint32_t ended = 0, refused = 0;

  double_store_hold(store, DOUBLE_HOLD_LISTS);
  for (uint32_t i = 0; i < MANY; i++)
    start(&askers[i], DOUBLE_FAR_MS);
  double_store_wait_held(store, 1);
  for (; ended < MANY - 5; g_usleep(1000)) {
    ended = 0;
    for (uint32_t i = 0; i < MANY; i++)
      ended += (uint32_t)g_atomic_int_get(&askers[i].caller.ended);
  }
  double_store_hold(store, DOUBLE_HOLD_NONE);
  for (uint32_t i = 0; i < MANY; i++) {
    (void)g_thread_join(askers[i].caller.thread);
    refused += askers[i].caller.rc < 0;
    ck_assert(askers[i].caller.rc == 0 || askers[i].caller.err.code == DG_E_SLOW_DOWN);
  }
  ck_assert_uint_eq(refused, MANY - 5);
}
END_TEST

START_TEST(a_wait_for_a_count_ends_with_its_own_request)
{
  struct asker counts = {0}, leaves = {0}, expires = {0}, stays = {0};

  double_store_hold(store, DOUBLE_HOLD_LISTS);
  start(&counts, DOUBLE_FAR_MS);
  double_store_wait_held(store, 1);
  start(&leaves, DOUBLE_FAR_MS);
  start(&expires, 50);
  start(&stays, DOUBLE_FAR_MS);
  double_caller_leave(&leaves.caller);
  assert_failed(&leaves, DG_E_CANCELLED);
  assert_failed(&expires, DG_E_TIMEOUT);
  double_store_hold(store, DOUBLE_HOLD_NONE);
  assert_counted(&counts);
  assert_counted(&stays);
}
END_TEST

START_TEST(while_one_counts_the_others_get_the_last_result)
{
  struct asker before = {0}, counts = {0}, meanwhile = {0};

  start(&before, DOUBLE_FAR_MS);
  assert_counted(&before);
  double_store_hold(store, DOUBLE_HOLD_LISTS);
  start(&counts, DOUBLE_FAR_MS);
  double_store_wait_held(store, 1);
  g_usleep(30000); /* that old is the last result, at least */
  start(&meanwhile, DOUBLE_FAR_MS);
  assert_counted(&meanwhile);
  ck_assert(!g_atomic_int_get(&counts.caller.ended));
  ck_assert_uint_ge(meanwhile.usage.age_ms, 30);
  double_store_hold(store, DOUBLE_HOLD_NONE);
  assert_counted(&counts);
}
END_TEST

START_TEST(a_request_that_may_come_back_neither_counts_nor_waits_for_a_count)
{
  struct asker counts = {0}, early = {.caller = {.defers = true}}, comes_back = {.caller = {.defers = true}};

  start(&early, DOUBLE_FAR_MS);
  assert_failed(&early, DG_E_SLOW_DOWN);
  ck_assert(early.caller.deferred);
  double_store_hold(store, DOUBLE_HOLD_LISTS);
  start(&counts, DOUBLE_FAR_MS);
  double_store_wait_held(store, 1);
  start(&comes_back, DOUBLE_FAR_MS);
  assert_failed(&comes_back, DG_E_SLOW_DOWN);
  ck_assert(comes_back.caller.deferred);
  double_store_hold(store, DOUBLE_HOLD_NONE);
  assert_counted(&counts);
}
END_TEST

static Suite *usage_suite(void)
{
  Suite *suite = suite_create("engine usage");
  TCase *cases = tcase_create("usage");

  tcase_set_timeout(cases, 60);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, few_wait_for_a_count_and_the_rest_is_asked_to_come_back);
  tcase_add_test(cases, a_wait_for_a_count_ends_with_its_own_request);
  tcase_add_test(cases, while_one_counts_the_others_get_the_last_result);
  tcase_add_test(cases, a_request_that_may_come_back_neither_counts_nor_waits_for_a_count);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(usage_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
