/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/worker.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <glib.h>

#include "core/http/fanout.h"

#include "common/banned.h"

struct test_job {
  struct dg_job base;
  int number;
};

static atomic_int ran, most_at_once, running;
static int order[64];

/* A gate that jobs wait at until the test opens it. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int waiting, finished;
static bool open_gate;

static void wait_at_gate(struct dg_job *job)
{
  (void)job;
  pthread_mutex_lock(&mutex);
  waiting++;
  pthread_cond_broadcast(&changed);
  while (!open_gate)
    pthread_cond_wait(&changed, &mutex);
  waiting--;
  finished++;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

static void note_order(struct dg_job *job)
{
  pthread_mutex_lock(&mutex);
  order[finished++] = ((struct test_job *)job)->number;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

static void count(struct dg_job *job)
{
  int now = atomic_fetch_add(&running, 1) + 1, most = atomic_load(&most_at_once);

  (void)job;
  while (now > most && !atomic_compare_exchange_weak(&most_at_once, &most, now))
    ;
  atomic_fetch_add(&ran, 1);
  atomic_fetch_sub(&running, 1);
}

static void wait_for(const int *number, int value)
{
  pthread_mutex_lock(&mutex);
  while (*number < value)
    pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
}

static void open_the_gate(void)
{
  pthread_mutex_lock(&mutex);
  open_gate = true;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}

START_TEST(every_job_runs_exactly_once)
{
  enum { COUNT = 20000 };
  struct dg_pool *pool = dg_pool_new(4);
  struct test_job *jobs = calloc(COUNT, sizeof *jobs);

  for (int i = 0; i < COUNT; i++) {
    jobs[i].base.run = count;
    jobs[i].base.bulk = i % 3 == 0;
    dg_pool_submit(pool, &jobs[i].base);
  }
  dg_pool_free(pool);
  ck_assert_int_eq(atomic_load(&ran), COUNT);
  ck_assert_int_le(atomic_load(&most_at_once), 4);
  free(jobs);
}
END_TEST

START_TEST(one_worker_runs_jobs_in_the_order_they_came)
{
  struct dg_pool *pool = dg_pool_new(1);
  struct test_job blocker = {.base.run = wait_at_gate}, jobs[20];

  dg_pool_submit(pool, &blocker.base);
  wait_for(&waiting, 1);
  for (int i = 0; i < 20; i++) {
    jobs[i] = (struct test_job){.base.run = note_order, .number = i};
    dg_pool_submit(pool, &jobs[i].base);
  }
  finished = -1; /* the blocker's own step */
  open_the_gate();
  dg_pool_free(pool);
  for (int i = 0; i < 20; i++)
    ck_assert_int_eq(order[i], i);
}
END_TEST

START_TEST(bulk_jobs_leave_a_worker_for_short_ones)
{
  struct dg_pool *pool = dg_pool_new(4);
  struct test_job bulk[8], brief = {.base.run = count};
  struct dg_pool_stats stats;

  for (int i = 0; i < 8; i++) {
    bulk[i] = (struct test_job){.base = {.run = wait_at_gate, .bulk = true}};
    dg_pool_submit(pool, &bulk[i].base);
  }
  wait_for(&waiting, 3);
  dg_pool_submit(pool, &brief.base);
  while (atomic_load(&ran) == 0)
    sched_yield();
  dg_pool_stats(pool, &stats);
  ck_assert_int_eq(waiting, 3);
  ck_assert_uint_eq(stats.queued_count, 5);
  ck_assert_uint_eq(stats.thread_count, 4);
  open_the_gate();
  dg_pool_free(pool);
  ck_assert_int_eq(finished, 8);
}
END_TEST

START_TEST(a_single_worker_serves_bulk_jobs_too)
{
  struct dg_pool *pool = dg_pool_new(1);
  struct test_job bulk = {.base = {.run = count, .bulk = true}};

  dg_pool_submit(pool, &bulk.base);
  dg_pool_free(pool);
  ck_assert_int_eq(atomic_load(&ran), 1);
}
END_TEST

/* ---- Steps of one request, side by side ------------------------------------------ */

#define STEPS 200u

static GMutex steps_mutex;
static GCond steps_changed;
static uint32_t steps_done[STEPS], steps_inside, steps_together;

static void note_step(void *receiver, uint32_t i)
{
  gint64 until = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;

  ck_assert_ptr_eq(receiver, steps_done);
  g_mutex_lock(&steps_mutex);
  steps_done[i]++;
  steps_inside++;
  steps_together = MAX(steps_together, steps_inside);
  g_cond_broadcast(&steps_changed);
  /* The first ones wait for company. */
  while (steps_together < 2 && g_cond_wait_until(&steps_changed, &steps_mutex, until))
    ;
  steps_inside--;
  g_mutex_unlock(&steps_mutex);
}

START_TEST(steps_that_fan_out_run_once_each_and_side_by_side)
{
  dg_fan_out(0, note_step, steps_done);
  dg_fan_out(STEPS, note_step, steps_done);
  for (uint32_t i = 0; i < STEPS; i++)
    ck_assert_uint_eq(steps_done[i], 1);
  ck_assert_uint_ge(steps_together, 2);
  ck_assert_uint_le(steps_together, DG_FANOUT_THREADS);
}
END_TEST

static gpointer fan_out_some(gpointer unused)
{
  dg_fan_out(STEPS, note_step, steps_done);
  return unused;
}

START_TEST(many_requests_that_fan_out_do_not_wait_for_threads)
{
  GThread *requests[20];

  for (guint i = 0; i < G_N_ELEMENTS(requests); i++)
    requests[i] = g_thread_new("request", fan_out_some, NULL);
  for (guint i = 0; i < G_N_ELEMENTS(requests); i++)
    g_thread_join(requests[i]);
  for (uint32_t i = 0; i < STEPS; i++)
    ck_assert_uint_eq(steps_done[i], G_N_ELEMENTS(requests));
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("http-worker");
  TCase *tcase = tcase_create("worker");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_test(tcase, every_job_runs_exactly_once);
  tcase_add_test(tcase, one_worker_runs_jobs_in_the_order_they_came);
  tcase_add_test(tcase, bulk_jobs_leave_a_worker_for_short_ones);
  tcase_add_test(tcase, a_single_worker_serves_bulk_jobs_too);
  tcase_add_test(tcase, steps_that_fan_out_run_once_each_and_side_by_side);
  tcase_add_test(tcase, many_requests_that_fan_out_do_not_wait_for_threads);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
