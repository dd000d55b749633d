/* SPDX-License-Identifier: Apache-2.0 */
/* Spools, and how much of the disk all of them together may take. */
#include "config.h"

#include "core/engine/spool.h"

#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "core/plug/stream.h"

#include "common/banned.h"

#define MIB (UINT64_C(1) << 20)
#define LONG_MS 60000u

static char *dir;
static char piece[MIB];

static void setup(void)
{
  dir = g_dir_make_tmp("test-spool-XXXXXX", NULL);
  ck_assert_ptr_nonnull(dir);
  memset(piece, 'p', sizeof piece);
}

static void teardown(void)
{
  (void)g_rmdir(dir);
  g_free(dir);
}

/* A spool in a file, of so many MiB; the error's code when it does not work out. */
static int fill(struct dg_spool *spool, unsigned mib)
{
  struct dg_error err = {0};

  for (unsigned i = 0; i < mib; i++)
    if (dg_spool_append(spool, piece, sizeof piece, &err) < 0)
      return err.code;
  return 0;
}

static int reserve(struct dg_spool *spool, uint64_t bytes)
{
  struct dg_error err = {0};

  return dg_spool_reserve(spool, NULL, bytes, NULL, &err) < 0 ? err.code : 0;
}

START_TEST(room_is_counted_from_the_reservation_to_the_last_reader)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(8 * MIB, LONG_MS, 4);
  struct dg_spool *spool = dg_spool_new(dir, budget, 1000);
  struct dg_reader *reader;
  struct dg_error err = {0};
  uint64_t offset, length;
  char first[3];
  size_t len = 0;
  int32_t fd;

  ck_assert_int_eq(reserve(spool, 3 * MIB - 5), 0);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 3 * MIB);
  ck_assert_int_eq(fill(spool, 3), 0);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 3 * MIB);
  ck_assert_int_eq(fill(spool, 1), 0);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 4 * MIB);
  ck_assert_int_eq(dg_spool_reader(spool, 1, 4 * MIB - 1, &reader, &err), 0);
  dg_spool_free(spool);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 4 * MIB);
  /* A file given away would be sent when nobody counts it any more. */
  ck_assert_int_eq(dg_reader_file_range(reader, &fd, &offset, &length, &err), -1);
  ck_assert_int_eq(err.code, DG_E_UNSUPPORTED);
  ck_assert_int_eq(dg_reader_read(reader, first, sizeof first, &len, &err), 0);
  ck_assert_uint_eq(len, 3);
  ck_assert_mem_eq(first, "ppp", 3);
  dg_reader_close(reader);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 0);
  dg_spool_budget_free(budget);
}
END_TEST

START_TEST(what_stays_in_memory_is_not_counted)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(MIB, LONG_MS, 4);
  struct dg_spool *spool = dg_spool_new(dir, budget, 5 * MIB);

  ck_assert_int_eq(reserve(spool, 5 * MIB), 0);
  ck_assert_int_eq(fill(spool, 5), 0);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 0);
  dg_spool_free(spool);
  dg_spool_budget_free(budget);
}
END_TEST

START_TEST(growth_beyond_the_budget_fails_at_once)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(8 * MIB, LONG_MS, 4);
  struct dg_spool *other = dg_spool_new(dir, budget, 0);
  struct dg_spool *spool = dg_spool_new(dir, budget, 0), *late = dg_spool_new(dir, budget, 0);
  uint64_t start_ms = dg_time_mono_ms();

  ck_assert_int_eq(fill(other, 5), 0);
  ck_assert_int_eq(fill(spool, 4), DG_E_SLOW_DOWN);
  dg_spool_join(late, other);
  ck_assert_int_eq(reserve(late, MIB), DG_E_SLOW_DOWN);
  ck_assert_uint_lt(dg_time_mono_ms() - start_ms, LONG_MS / 2);
  ck_assert_uint_eq(dg_spool_size(spool), 3 * MIB);
  dg_spool_free(late);
  dg_spool_free(spool);
  dg_spool_free(other);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 0);
  dg_spool_budget_free(budget);
}
END_TEST

START_TEST(who_needs_more_than_there_is_goes_alone)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(2 * MIB, 50, 4);
  struct dg_spool *large = dg_spool_new(dir, budget, 0), *other = dg_spool_new(dir, budget, 0);
  struct dg_spool *beside = dg_spool_new(dir, budget, 0);

  ck_assert_int_eq(reserve(large, 5 * MIB), 0);
  ck_assert_int_eq(fill(large, 6), 0);
  /* Another spool of the same request, and one that is not. */
  dg_spool_join(beside, large);
  ck_assert_int_eq(fill(beside, 2), 0);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 8 * MIB);
  ck_assert_int_eq(reserve(other, MIB), DG_E_SLOW_DOWN);
  dg_spool_free(large);
  ck_assert_int_eq(reserve(other, MIB), DG_E_SLOW_DOWN);
  dg_spool_free(beside);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 0);
  ck_assert_int_eq(reserve(other, MIB), 0);
  dg_spool_free(other);
  dg_spool_budget_free(budget);
}
END_TEST

/* A copy of an object that was decoded into the spool, larger than half of it. */
START_TEST(what_is_copied_from_a_spool_to_a_spool_may_go_alone)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(4 * MIB, LONG_MS, 4);
  struct dg_spool *source = dg_spool_new(dir, budget, 0), *target = dg_spool_new(dir, budget, 0);
  struct dg_spool *other = dg_spool_new(dir, budget, 0), *again = dg_spool_new(dir, budget, 0);
  struct dg_spool_room *room;
  struct dg_reader *reader;
  struct dg_error err = {0};
  uint64_t start_ms = dg_time_mono_ms();

  ck_assert_int_eq(reserve(source, 3 * MIB), 0);
  ck_assert_int_eq(fill(source, 3), 0);
  ck_assert_int_eq(dg_spool_reader(source, 0, 3 * MIB, &reader, &err), 0);
  dg_spool_free(source);
  room = dg_spool_room_of(reader);
  ck_assert_ptr_nonnull(room);
  dg_spool_join_room(target, room);
  ck_assert_int_eq(reserve(target, 3 * MIB), 0);
  ck_assert_int_eq(fill(target, 3), 0);
  dg_spool_free(target);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 6 * MIB);
  dg_spool_room_unref(room);
  dg_reader_close(reader);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 0);
  /* Beside another request it fails at once: two that waited so might wait for each other. */
  ck_assert_int_eq(fill(other, 1), 0);
  source = dg_spool_new(dir, budget, 0);
  ck_assert_int_eq(fill(source, 3), 0);
  dg_spool_join(again, source);
  ck_assert_int_eq(reserve(again, 3 * MIB), DG_E_SLOW_DOWN);
  ck_assert_uint_lt(dg_time_mono_ms() - start_ms, LONG_MS / 2);
  dg_spool_free(again);
  dg_spool_free(source);
  dg_spool_free(other);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 0);
  dg_spool_budget_free(budget);
}
END_TEST

START_TEST(waiting_ends_with_the_time_the_deadline_the_client_or_too_many_others)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(MIB, 50, 1);
  struct dg_spool_budget *patient = dg_spool_budget_new(MIB, LONG_MS, 0);
  struct dg_spool_budget *lasting = dg_spool_budget_new(MIB, LONG_MS, 1);
  int32_t cancelled = 1;
  struct dg_call left = {.struct_size = sizeof left, .cancelled = &cancelled};
  struct dg_call late = {.struct_size = sizeof late, .deadline_mono_ms = dg_time_mono_ms() + 20};
  struct dg_error err = {0};
  bool deferred = false;

  ck_assert_int_eq(dg_spool_budget_take(budget, NULL, MIB, NULL, &err), 0);
  ck_assert_int_eq(dg_spool_budget_take(budget, NULL, 1, NULL, &err), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  ck_assert_int_eq(dg_spool_budget_take(patient, NULL, MIB, NULL, &err), 0);
  ck_assert_int_eq(dg_spool_budget_take(patient, NULL, 1, NULL, &err), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  ck_assert_int_eq(dg_spool_budget_take(lasting, NULL, MIB, NULL, &err), 0);
  ck_assert_int_eq(dg_spool_budget_take(lasting, &left, 1, NULL, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CANCELLED);
  ck_assert_int_eq(dg_spool_budget_take(lasting, &late, 1, NULL, &err), -1);
  ck_assert_int_ne(err.code, DG_E_CANCELLED);
  ck_assert_int_eq(dg_spool_budget_take(lasting, NULL, 1, &deferred, &err), -1);
  ck_assert(deferred);
  ck_assert_uint_eq(dg_spool_budget_used(lasting), MIB);
  dg_spool_budget_free(budget);
  dg_spool_budget_free(patient);
  dg_spool_budget_free(lasting);
}
END_TEST

/* ---- Threads -------------------------------------------------------------------- */

#define THREADS 8u
#define LIMIT (8 * MIB)

static struct dg_spool_budget *shared;
static gint held_mib, most_mib;

/* Takes an amount, grows a little, gives it back. */
static gpointer take_and_give(gpointer data)
{
  uint64_t seed = GPOINTER_TO_UINT(data) + 1;

  for (unsigned i = 0; i < 300; i++) {
    struct dg_error err = {0};
    uint64_t mib;
    gint now;

    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    mib = 1 + (seed >> 33) % 5;
    ck_assert_int_eq(dg_spool_budget_take(shared, NULL, mib * MIB, NULL, &err), 0);
    now = g_atomic_int_add(&held_mib, (gint)mib) + (gint)mib;
    for (gint most = g_atomic_int_get(&most_mib);
         now > most && !g_atomic_int_compare_and_exchange(&most_mib, most, now);
         most = g_atomic_int_get(&most_mib))
      ;
    if (dg_spool_budget_grow(shared, mib * MIB, MIB))
      dg_spool_budget_give(shared, MIB);
    g_thread_yield();
    (void)g_atomic_int_add(&held_mib, -(gint)mib);
    dg_spool_budget_give(shared, mib * MIB);
  }
  return NULL;
}

START_TEST(threads_that_take_all_at_once_never_pass_the_limit_nor_wait_for_each_other)
{
  GThread *threads[THREADS];

  shared = dg_spool_budget_new(LIMIT, LONG_MS, THREADS);
  for (unsigned i = 0; i < THREADS; i++)
    threads[i] = g_thread_new("taker", take_and_give, GUINT_TO_POINTER(i));
  for (unsigned i = 0; i < THREADS; i++)
    (void)g_thread_join(threads[i]);
  ck_assert_int_le(most_mib, (int)(LIMIT / MIB));
  ck_assert_uint_eq(dg_spool_budget_used(shared), 0);
  dg_spool_budget_free(shared);
}
END_TEST

/* ---- Who goes first ---------------------------------------------------------------- */

struct taker {
  GThread *thread;
  struct dg_spool_budget *budget;
  uint64_t bytes;
  gint place; /* in which it was served; 0: not yet */
};

static gint served;

static gpointer take(gpointer data)
{
  struct taker *taker = data;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_spool_budget_take(taker->budget, NULL, taker->bytes, NULL, &err), 0);
  g_atomic_int_set(&taker->place, g_atomic_int_add(&served, 1) + 1);
  return NULL;
}

/* Returns when the taker waits behind `ahead` others. */
static void begin_to_wait(struct taker *taker, struct dg_spool_budget *budget, uint64_t bytes,
                          uint32_t ahead)
{
  *taker = (struct taker){.budget = budget, .bytes = bytes};
  taker->thread = g_thread_new("taker", take, taker);
  while (dg_spool_budget_waiting(budget) <= ahead)
    g_usleep(1000);
}

START_TEST(a_large_request_is_not_passed_by_small_ones_that_come_later)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(8 * MIB, 2 * LONG_MS, 8);
  struct taker large, small, whole;
  bool deferred = false;
  struct dg_error err = {0};

  served = 0;
  ck_assert_int_eq(dg_spool_budget_take(budget, NULL, 4 * MIB, NULL, &err), 0);
  begin_to_wait(&large, budget, 7 * MIB, 0);
  begin_to_wait(&small, budget, MIB, 1);
  begin_to_wait(&whole, budget, 8 * MIB, 2);
  /* There would be room. */
  ck_assert_int_eq(dg_spool_budget_take(budget, NULL, MIB, &deferred, &err), -1);
  ck_assert(deferred);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 4 * MIB);
  dg_spool_budget_give(budget, 4 * MIB);
  (void)g_thread_join(large.thread);
  (void)g_thread_join(small.thread);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 8 * MIB);
  dg_spool_budget_give(budget, 7 * MIB);
  ck_assert_int_eq(g_atomic_int_get(&whole.place), 0);
  dg_spool_budget_give(budget, MIB);
  (void)g_thread_join(whole.thread);
  ck_assert_int_eq(whole.place, 3);
  dg_spool_budget_give(budget, 8 * MIB);
  ck_assert_uint_eq(dg_spool_budget_used(budget), 0);
  dg_spool_budget_free(budget);
}
END_TEST

START_TEST(small_requests_pass_one_that_waits_for_somebody_slow)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(8 * MIB, 8000, 8);
  struct taker endless;
  struct dg_error err = {0};

  served = 0;
  ck_assert_int_eq(dg_spool_budget_take(budget, NULL, MIB, NULL, &err), 0);
  begin_to_wait(&endless, budget, 100 * MIB, 0);
  ck_assert_int_eq(dg_spool_budget_take(budget, NULL, MIB, NULL, &err), 0);
  ck_assert_int_eq(g_atomic_int_get(&endless.place), 0);
  dg_spool_budget_give(budget, 2 * MIB);
  (void)g_thread_join(endless.thread);
  dg_spool_budget_give(budget, 100 * MIB);
  dg_spool_budget_free(budget);
}
END_TEST

START_TEST(who_gives_up_waiting_makes_way)
{
  struct dg_spool_budget *budget = dg_spool_budget_new(8 * MIB, 2 * LONG_MS, 8);
  struct dg_call late = {.struct_size = sizeof late, .deadline_mono_ms = dg_time_mono_ms() + 20};
  struct dg_error err = {0};

  ck_assert_int_eq(dg_spool_budget_take(budget, NULL, MIB, NULL, &err), 0);
  ck_assert_int_eq(dg_spool_budget_take(budget, &late, 8 * MIB, NULL, &err), -1);
  ck_assert_uint_eq(dg_spool_budget_waiting(budget), 0);
  ck_assert_int_eq(dg_spool_budget_take(budget, NULL, MIB, NULL, &err), 0);
  dg_spool_budget_free(budget);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("spool");
  TCase *tcase = tcase_create("spool");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_test(tcase, room_is_counted_from_the_reservation_to_the_last_reader);
  tcase_add_test(tcase, what_stays_in_memory_is_not_counted);
  tcase_add_test(tcase, growth_beyond_the_budget_fails_at_once);
  tcase_add_test(tcase, who_needs_more_than_there_is_goes_alone);
  tcase_add_test(tcase, what_is_copied_from_a_spool_to_a_spool_may_go_alone);
  tcase_add_test(tcase, waiting_ends_with_the_time_the_deadline_the_client_or_too_many_others);
  tcase_add_test(tcase,
                 threads_that_take_all_at_once_never_pass_the_limit_nor_wait_for_each_other);
  tcase_add_test(tcase, a_large_request_is_not_passed_by_small_ones_that_come_later);
  tcase_add_test(tcase, small_requests_pass_one_that_waits_for_somebody_slow);
  tcase_add_test(tcase, who_gives_up_waiting_makes_way);
  tcase_set_timeout(tcase, 60);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
