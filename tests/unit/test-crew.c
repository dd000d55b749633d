/* SPDX-License-Identifier: Apache-2.0 */
/* Work that idle threads take over, and the digests that are computed so. */
#include "config.h"

#include "common/crew.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/checksum.h"
#include "core/engine/hashes.h"
#include "plugins/backend-s3/sums.h"

#include "common/banned.h"

#define MIB ((size_t)1 << 20)

static char bytes[5 * MIB];

static void setup(void)
{
  uint64_t seed = 5;

  for (size_t i = 0; i < sizeof bytes; i++) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    bytes[i] = (char)(seed >> 56);
  }
}

static struct dg_crew *idle_crew(unsigned threads)
{
  struct dg_crew *crew = dg_crew_new(threads);

  while (!dg_crew_is_free(crew))
    g_usleep(1000);
  return crew;
}

struct gate {
  gint entered, open;
  GThread *who;
};

static void wait_for_gate(void *receiver)
{
  struct gate *gate = receiver;

  gate->who = g_thread_self();
  g_atomic_int_set(&gate->entered, 1);
  while (!g_atomic_int_get(&gate->open))
    g_usleep(1000);
}

static void note_thread(void *receiver)
{
  *(GThread **)receiver = g_thread_self();
}

START_TEST(a_task_runs_beside_its_owner)
{
  struct dg_crew *crew = idle_crew(1);
  struct dg_crew_task task = {0};
  struct gate gate = {0};

  ck_assert(dg_crew_offer(crew, &task, wait_for_gate, &gate));
  while (!g_atomic_int_get(&gate.entered))
    g_usleep(1000);
  g_atomic_int_set(&gate.open, 1);
  dg_crew_join(crew, &task);
  ck_assert_ptr_ne(gate.who, g_thread_self());
  dg_crew_join(crew, &task); /* nothing is under way */
  dg_crew_free(crew);
}
END_TEST

START_TEST(who_finds_nobody_free_is_told_so)
{
  struct dg_crew *crew = idle_crew(1), *none = dg_crew_new(0);
  struct dg_crew_task busy = {0}, task = {0};
  struct gate gate = {0};

  ck_assert(dg_crew_offer(crew, &busy, wait_for_gate, &gate));
  ck_assert(!dg_crew_is_free(crew));
  ck_assert(!dg_crew_offer(crew, &task, note_thread, &task));
  ck_assert(!dg_crew_offer(none, &task, note_thread, &task));
  ck_assert(!dg_crew_offer(NULL, &task, note_thread, &task));
  dg_crew_join(crew, &task);
  g_atomic_int_set(&gate.open, 1);
  dg_crew_join(crew, &busy);
  while (!dg_crew_is_free(crew))
    g_usleep(1000);
  dg_crew_free(crew);
  dg_crew_free(none);
}
END_TEST

START_TEST(every_offered_task_runs_once_whoever_is_first)
{
  struct dg_crew *crew = idle_crew(2);
  unsigned own = 0, others = 0;

  for (unsigned i = 0; i < 5000; i++) {
    struct dg_crew_task task = {0};
    GThread *who = NULL;

    if (!dg_crew_offer(crew, &task, note_thread, &who))
      continue;
    if (i % 2)
      g_thread_yield();
    dg_crew_join(crew, &task);
    ck_assert_ptr_nonnull(who);
    own += who == g_thread_self();
    others += who != g_thread_self();
  }
  ck_assert_uint_gt(own + others, 0);
  dg_crew_free(crew);
}
END_TEST

/* ---- Digests ---------------------------------------------------------------------- */

START_TEST(digests_are_the_same_with_and_without_a_crew)
{
  struct dg_crew *crew = idle_crew(1);
  struct dg_hashes *with = dg_hashes_new(DG_SUM_CRC32C, crew);
  struct dg_hashes *without = dg_hashes_new(DG_SUM_CRC32C, NULL);
  struct dg_digests a, b;
  size_t at = 0, step = 1;

  while (at < sizeof bytes) {
    size_t len = MIN(step, sizeof bytes - at);

    dg_hashes_update(with, bytes + at, len);
    dg_hashes_update(without, bytes + at, len);
    at += len;
    step = step * 7 % 700001 + 1;
  }
  dg_hashes_finish(with, &a);
  dg_hashes_finish(without, &b);
  ck_assert_mem_eq(&a, &b, sizeof a);
  dg_hashes_free(with);
  dg_hashes_free(without);
  dg_crew_free(crew);
}
END_TEST

static void check_part(struct dg_s3_sums *sums, size_t offset, size_t length)
{
  uint8_t expected[32], found[32] = {0};

  dg_sha256(bytes + offset, length, expected);
  ck_assert(dg_s3_sums_find(sums, offset, length, found));
  ck_assert_mem_eq(found, expected, 32);
}

START_TEST(parts_have_their_digests_when_the_last_byte_is_in)
{
  struct dg_crew *crew = idle_crew(1);
  const size_t part = 3 * MIB / 2, total = 4 * MIB + 17;

  for (unsigned round = 0; round < 2; round++) {
    struct dg_s3_sums *sums = dg_s3_sums_new(part, round ? crew : NULL);
    size_t at = 0, step = 100000;
    uint8_t none[32];

    while (at < total) {
      char *own = g_memdup2(bytes + at, MIN(step, total - at));

      dg_s3_sums_add(sums, own, MIN(step, total - at));
      memset(own, 0, MIN(step, total - at)); /* what was added is not looked at again */
      g_free(own);
      at += MIN(step, total - at);
      step = step * 3 % 1000003;
    }
    check_part(sums, 2 * part, total - 2 * part);
    check_part(sums, 0, part);
    check_part(sums, part, part);
    check_part(sums, 2 * part, total - 2 * part);
    ck_assert(!dg_s3_sums_find(sums, 0, total, none));
    ck_assert(!dg_s3_sums_find(sums, 0, part - 1, none));
    ck_assert(!dg_s3_sums_find(sums, 1, part, none));
    ck_assert(!dg_s3_sums_find(sums, 2 * part, part, none));
    ck_assert(!dg_s3_sums_find(sums, total, 0, none));
    dg_s3_sums_free(sums);
  }
  dg_crew_free(crew);
}
END_TEST

START_TEST(a_body_that_ends_with_a_part_has_no_empty_one_behind_it)
{
  struct dg_s3_sums *sums = dg_s3_sums_new(MIB, NULL);
  uint8_t none[32];

  dg_s3_sums_add(sums, bytes, 2 * MIB);
  check_part(sums, MIB, MIB);
  ck_assert(!dg_s3_sums_find(sums, 2 * MIB, MIB, none));
  ck_assert(!dg_s3_sums_find(sums, 2 * MIB, 0, none));
  dg_s3_sums_free(sums);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("crew");
  TCase *tcase = tcase_create("crew");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_checked_fixture(tcase, setup, NULL);
  tcase_set_timeout(tcase, 60);
  tcase_add_test(tcase, a_task_runs_beside_its_owner);
  tcase_add_test(tcase, who_finds_nobody_free_is_told_so);
  tcase_add_test(tcase, every_offered_task_runs_once_whoever_is_first);
  tcase_add_test(tcase, digests_are_the_same_with_and_without_a_crew);
  tcase_add_test(tcase, parts_have_their_digests_when_the_last_byte_is_in);
  tcase_add_test(tcase, a_body_that_ends_with_a_part_has_no_empty_one_behind_it);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
