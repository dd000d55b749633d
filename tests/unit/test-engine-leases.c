/* SPDX-License-Identifier: Apache-2.0 */
/* Several servers on one storage, here in one process. Run it under ThreadSanitizer
 * too. */
#include "config.h"

#include <check.h>
#include <stdlib.h>

#include "common/meta.h"
#include "common/slice.h"
#include "engine-double.h"

#define FLEXIBLE (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)
#define THREADS 4u
#define ROUNDS 60u
#define BODIES 6u

static struct double_store *store;
static struct double_engine one, two;
static GBytes *bodies[BODIES];
static const char *const keys[] = {"d/a.zip", "d/b.zip", "d/c.txt"};

static void setup(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  double_settings.instances = 2;
  double_settings.lease_ttl_s = 2;
  double_settings.lease_wait_s = 60;
  double_lease_reset();
  store = double_store_new(FLEXIBLE);
  for (uint32_t i = 0; i < BODIES; i++)
    bodies[i] = double_bytes(20000, i < BODIES / 2 ? 1 : i);
  for (uint32_t i = 1; i < BODIES / 2; i++) {
    GBytes *edited = double_edit(bodies[0], 1000 * i, 10, i);

    g_bytes_unref(bodies[i]);
    bodies[i] = edited;
  }
}

static void teardown(void)
{
  for (uint32_t i = 0; i < BODIES; i++)
    g_bytes_unref(bodies[i]);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
}

static void open_both(void)
{
  double_engine_open(&one, store, NULL);
  double_engine_open(&two, store, NULL);
}

static void close_both(void)
{
  double_engine_close(&one);
  double_engine_close(&two);
}

static bool holds_reference(void)
{
  return double_store_has(store, "b", "d/", DG_VARIANT_REFERENCE);
}

/* Nothing tells when another thread is done with it. */
static void wait_for(bool (*condition)(void), const char *what)
{
  for (int i = 0; i < 6000 && !condition(); i++)
    g_usleep(10000);
  ck_assert_msg(condition(), "%s", what);
}

static bool no_lease(void)
{
  return double_lease_count() == 0;
}

static bool nothing_left(void)
{
  return !holds_reference() && no_lease();
}

/* A reference whose delta never came, as a killed server leaves it. */
static void leave_orphan(void)
{
  struct dg_error err = {0};

  ck_assert_msg(double_put(&one, "b", "d/a.zip", bodies[0], NULL, &err) == 0, "%s", err.detail);
  wait_for(no_lease, "the lease is given back");
  double_store_remove(store, "b", "d/a.zip", DG_VARIANT_DELTA);
  ck_assert(holds_reference());
}

START_TEST(a_write_gives_its_lease_back)
{
  struct dg_error err = {0};

  open_both();
  ck_assert_msg(double_put(&one, "b", "d/a.zip", bodies[0], NULL, &err) == 0, "%s", err.detail);
  wait_for(no_lease, "the lease is given back");
  ck_assert_msg(double_delete(&two, "b", "d/a.zip", &err) == 0, "%s", err.detail);
  wait_for(nothing_left, "the reference and the lease go");
  close_both();
}
END_TEST

START_TEST(what_waits_for_its_next_user_is_given_back_at_the_end)
{
  struct dg_error err = {0};

  double_engine_open(&one, store, NULL);
  ck_assert_msg(double_put(&one, "b", "d/a.zip", bodies[0], NULL, &err) == 0, "%s", err.detail);
  double_engine_close(&one);
  ck_assert_uint_eq(double_lease_count(), 0);
}
END_TEST

static gpointer give_later(gpointer unused)
{
  (void)unused;
  g_usleep(300000);
  double_lease_remove("b", "d/");
  return NULL;
}

START_TEST(a_lease_of_another_server_is_waited_for)
{
  struct dg_error err = {0};
  gint64 began = g_get_monotonic_time();
  GThread *thread;

  double_engine_open(&one, store, NULL);
  double_lease_set("b", "d/", 60000);
  thread = g_thread_new("giver", give_later, NULL);
  ck_assert_msg(double_put(&one, "b", "d/a.zip", bodies[0], NULL, &err) == 0, "%s", err.detail);
  ck_assert_int_ge(g_get_monotonic_time() - began, 250000);
  (void)g_thread_join(thread);
  double_engine_close(&one);
}
END_TEST

START_TEST(whoever_waits_too_long_is_told_to_come_back)
{
  struct dg_error err = {0};

  double_settings.lease_wait_s = 1;
  double_engine_open(&one, store, NULL);
  double_lease_set("b", "d/", 60000);
  ck_assert_int_eq(double_put(&one, "b", "d/a.zip", bodies[0], NULL, &err), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  ck_assert_uint_eq(double_lease_count(), 1);
  ck_assert_msg(double_put(&one, "b", "e/a.zip", bodies[0], NULL, &err) == 0, "%s", err.detail);
  double_engine_close(&one);
}
END_TEST

static gpointer put_in_vain(gpointer unused)
{
  struct dg_error err = {0};

  (void)unused;
  ck_assert_int_eq(double_put(&one, "b", "d/a.zip", bodies[0], NULL, &err), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  return NULL;
}

START_TEST(a_queue_waits_once_and_not_each_in_its_turn)
{
  GThread *threads[6];
  gint64 began = g_get_monotonic_time();

  double_settings.lease_wait_s = 3;
  double_engine_open(&one, store, NULL);
  double_lease_set("b", "d/", 60000);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("in vain", put_in_vain, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    (void)g_thread_join(threads[i]);
  ck_assert_int_lt(g_get_monotonic_time() - began, 12 * G_USEC_PER_SEC);
  double_engine_close(&one);
}
END_TEST

START_TEST(whoever_takes_a_lapsed_lease_over_tidies_up)
{
  struct dg_error err = {0};

  double_settings.lease_ttl_s = 60; /* no sweep comes first */
  double_engine_open(&one, store, NULL);
  leave_orphan();
  double_lease_set("b", "d/", 0);
  ck_assert_msg(double_delete(&one, "b", "d/absent.txt", &err) == 0, "%s", err.detail);
  wait_for(nothing_left, "the reference and the lease go");
  double_engine_close(&one);
}
END_TEST

START_TEST(what_a_dead_server_left_is_found_by_the_others)
{
  double_engine_open(&one, store, NULL);
  leave_orphan();
  double_lease_set("b", "d/", 0);
  wait_for(nothing_left, "the reference and the lease go");
  double_engine_close(&one);
}
END_TEST

START_TEST(who_cannot_tidy_up_leaves_the_lease_to_lapse)
{
  struct dg_error err = {0};

  double_engine_open(&one, store, NULL);
  ck_assert_msg(double_put(&one, "b", "d/a.zip", bodies[0], NULL, &err) == 0, "%s", err.detail);
  wait_for(no_lease, "the lease is given back");
  /* The delta goes, its reference does not, now and later. */
  double_store_fail(store, 2, DG_E_IO, /* crash= */ true);
  ck_assert_msg(double_delete(&one, "b", "d/a.zip", &err) == 0, "%s", err.detail);
  ck_assert(double_store_failed(store));
  ck_assert(holds_reference());
  ck_assert_uint_eq(double_lease_count(), 1);
  double_store_revive(store);
  wait_for(nothing_left, "the reference and the lease go");
  double_engine_close(&one);
}
END_TEST

START_TEST(what_another_server_wrote_is_seen_at_once)
{
  struct dg_error err = {0};
  g_autoptr(GBytes) first = NULL;
  g_autoptr(GBytes) second = NULL;
  g_autoptr(GBytes) third = NULL;

  open_both();
  ck_assert_int_eq(double_put(&one, "b", "d/a.zip", bodies[0], NULL, &err), 0);
  ck_assert_int_eq(double_get(&two, "b", "d/a.zip", &first, &err), 0);
  ck_assert(g_bytes_equal(first, bodies[0]));
  ck_assert_int_eq(double_put(&one, "b", "d/a.zip", bodies[BODIES - 1], NULL, &err), 0);
  ck_assert_int_eq(double_get(&two, "b", "d/a.zip", &second, &err), 0);
  ck_assert(g_bytes_equal(second, bodies[BODIES - 1]));
  ck_assert_int_eq(double_delete(&one, "b", "d/a.zip", &err), 0);
  ck_assert_int_eq(double_get(&two, "b", "d/a.zip", &third, &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_KEY);
  close_both();
}
END_TEST

START_TEST(a_bucket_with_an_idle_reference_is_deleted)
{
  struct dg_error err = {0};

  double_engine_open(&one, store, NULL);
  leave_orphan();
  double_lease_set("b", "d/", 0);
  ck_assert_msg(dg_engine_bucket_delete(one.engine, &double_call, DG_SLICE("b"), &err) == 0, "%s",
                err.detail);
  ck_assert(!holds_reference());
  double_engine_close(&one);
}
END_TEST

/* ---- Races ------------------------------------------------------------------------------- */

static gint corrupt;

static uint32_t next(uint32_t *state)
{
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static bool is_one_of_ours(GBytes *body)
{
  for (uint32_t i = 0; i < BODIES; i++)
    if (g_bytes_equal(body, bodies[i]))
      return true;
  return false;
}

static gpointer work(gpointer number)
{
  uint32_t state = GPOINTER_TO_UINT(number) * 77 + 5;
  struct double_engine *engine = GPOINTER_TO_UINT(number) % 2 ? &one : &two;

  for (uint32_t i = 0; i < ROUNDS; i++) {
    const char *key = keys[next(&state) % G_N_ELEMENTS(keys)];
    struct dg_error err = {0};
    GBytes *body = NULL;

    switch (next(&state) % 3) {
    case 0:
      if (double_put(engine, "b", key, bodies[next(&state) % BODIES], NULL, &err) < 0)
        (void)g_atomic_int_add(&corrupt, 1);
      break;
    case 1:
      if (double_delete(engine, "b", key, &err) < 0)
        (void)g_atomic_int_add(&corrupt, 1);
      break;
    default:
      if (double_get(engine, "b", key, &body, &err) == 0) {
        if (!is_one_of_ours(body))
          (void)g_atomic_int_add(&corrupt, 1);
        g_bytes_unref(body);
      } else if (err.code == DG_E_CORRUPT) {
        (void)g_atomic_int_add(&corrupt, 1);
      }
    }
  }
  return NULL;
}

START_TEST(two_servers_at_once_leave_every_delta_its_reference)
{
  GThread *threads[THREADS];
  struct dg_error err = {0};

  open_both();
  corrupt = 0;
  for (uint32_t i = 0; i < THREADS; i++)
    threads[i] = g_thread_new("server", work, GUINT_TO_POINTER(i));
  for (uint32_t i = 0; i < THREADS; i++)
    (void)g_thread_join(threads[i]);
  ck_assert_int_eq(g_atomic_int_get(&corrupt), 0);
  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
    g_autoptr(GBytes) seen = NULL;
    g_autoptr(GBytes) also = NULL;
    int there = double_get(&one, "b", keys[i], &seen, &err);

    ck_assert(there == 0 || err.code == DG_E_NO_SUCH_KEY);
    ck_assert_int_eq(double_get(&two, "b", keys[i], &also, &err), there);
    ck_assert(there < 0 || g_bytes_equal(seen, also));
    ck_assert_int_eq(double_delete(i % 2 ? &one : &two, "b", keys[i], &err), 0);
  }
  wait_for(nothing_left, "the reference and the leases go");
  close_both();
}
END_TEST

static Suite *lease_suite(void)
{
  Suite *suite = suite_create("engine leases");
  TCase *all = tcase_create("leases");

  tcase_set_timeout(all, 300);
  tcase_add_checked_fixture(all, setup, teardown);
  tcase_add_test(all, a_write_gives_its_lease_back);
  tcase_add_test(all, what_waits_for_its_next_user_is_given_back_at_the_end);
  tcase_add_test(all, a_lease_of_another_server_is_waited_for);
  tcase_add_test(all, whoever_waits_too_long_is_told_to_come_back);
  tcase_add_test(all, a_queue_waits_once_and_not_each_in_its_turn);
  tcase_add_test(all, whoever_takes_a_lapsed_lease_over_tidies_up);
  tcase_add_test(all, what_a_dead_server_left_is_found_by_the_others);
  tcase_add_test(all, who_cannot_tidy_up_leaves_the_lease_to_lapse);
  tcase_add_test(all, what_another_server_wrote_is_seen_at_once);
  tcase_add_test(all, a_bucket_with_an_idle_reference_is_deleted);
  tcase_add_test(all, two_servers_at_once_leave_every_delta_its_reference);
  suite_add_tcase(suite, all);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(lease_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
