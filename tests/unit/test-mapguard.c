/* SPDX-License-Identifier: Apache-2.0 */
/* Mapped files that are cut short while they are read. */
#include "config.h"

#include "common/mapguard.h"

#include <check.h>
#include <glib.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/banned.h"

#define SIZE (64u * 4096u)

/* A file of SIZE bytes of 'x' without a name, mapped. */
struct mapped {
  int fd;
  volatile uint8_t *bytes;
};

static struct mapped map_file(int protection)
{
  struct mapped mapped = {.fd = memfd_create("test-mapguard", MFD_CLOEXEC)};
  g_autofree char *text = g_strnfill(SIZE, 'x');
  void *map;

  ck_assert_int_ge(mapped.fd, 0);
  ck_assert_int_eq(write(mapped.fd, text, SIZE), SIZE);
  map = mmap(NULL, SIZE, protection, MAP_SHARED, mapped.fd, 0);
  ck_assert(map != MAP_FAILED);
  mapped.bytes = map;
  return mapped;
}

static void cut(const struct mapped *mapped, off_t size)
{
  ck_assert_int_eq(ftruncate(mapped->fd, size), 0);
}

static struct dg_mapguard *guard_of(const struct mapped *mapped, int protection)
{
  return dg_mapguard_add((void *)(uintptr_t)mapped->bytes, SIZE, protection);
}

static void unmap(const struct mapped *mapped, struct dg_mapguard *guard)
{
  dg_mapguard_remove(guard);
  ck_assert_int_eq(munmap((void *)(uintptr_t)mapped->bytes, SIZE), 0);
  (void)close(mapped->fd);
}

START_TEST(what_is_cut_off_reads_as_zeros_and_is_told)
{
  struct mapped mapped = map_file(PROT_READ);
  struct dg_mapguard *guard = guard_of(&mapped, PROT_READ);

  ck_assert_int_eq(mapped.bytes[SIZE - 1], 'x');
  ck_assert(!dg_mapguard_is_hurt(guard));
  cut(&mapped, 4096);
  ck_assert_int_eq(mapped.bytes[0], 'x');
  ck_assert(!dg_mapguard_is_hurt(guard));
  ck_assert_int_eq(mapped.bytes[SIZE - 1], 0);
  ck_assert(dg_mapguard_is_hurt(guard));
  /* All of it, at once and for good. */
  ck_assert_int_eq(mapped.bytes[0], 0);
  cut(&mapped, SIZE);
  ck_assert_int_eq(mapped.bytes[5000], 0);
  ck_assert(dg_mapguard_is_hurt(guard));
  unmap(&mapped, guard);
  ck_assert(!dg_mapguard_is_hurt(NULL));
}
END_TEST

START_TEST(writes_to_what_is_cut_off_go_nowhere)
{
  struct mapped mapped = map_file(PROT_READ | PROT_WRITE);
  struct dg_mapguard *guard = guard_of(&mapped, PROT_READ | PROT_WRITE);

  cut(&mapped, 0);
  mapped.bytes[70000] = 'y';
  ck_assert(dg_mapguard_is_hurt(guard));
  unmap(&mapped, guard);
}
END_TEST

START_TEST(each_of_many_mappings_is_told_apart)
{
  enum { COUNT = 400 };
  static struct mapped mapped[COUNT];
  static struct dg_mapguard *guards[COUNT];

  for (unsigned round = 0; round < 2; round++) {
    for (unsigned i = 0; i < COUNT; i++) {
      mapped[i] = map_file(PROT_READ);
      guards[i] = guard_of(&mapped[i], PROT_READ);
    }
    for (unsigned i = 0; i < COUNT; i += 3)
      cut(&mapped[i], 0);
    for (unsigned i = 0; i < COUNT; i++) {
      ck_assert_int_eq(mapped[i].bytes[8192], i % 3 == 0 ? 0 : 'x');
      ck_assert_int_eq(dg_mapguard_is_hurt(guards[i]), i % 3 == 0);
    }
    for (unsigned i = 0; i < COUNT; i++)
      unmap(&mapped[i], guards[i]);
  }
}
END_TEST

static gpointer read_all(gpointer data)
{
  const volatile uint8_t *bytes = data;
  uintptr_t sum = 0;

  for (unsigned i = 0; i < SIZE; i += 64)
    sum += bytes[i];
  return (gpointer)sum;
}

START_TEST(many_threads_may_meet_the_loss_at_once)
{
  GThread *threads[8];

  for (unsigned round = 0; round < 50; round++) {
    struct mapped mapped = map_file(PROT_READ);
    struct dg_mapguard *guard = guard_of(&mapped, PROT_READ);

    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
      threads[i] = g_thread_new("reader", read_all, (gpointer)(uintptr_t)mapped.bytes);
    cut(&mapped, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
      (void)g_thread_join(threads[i]);
    (void)mapped.bytes[0];
    ck_assert(dg_mapguard_is_hurt(guard));
    unmap(&mapped, guard);
  }
}
END_TEST

/* ---- What is none of ours ------------------------------------------------------ */

/* How a child ended that did this: its status, or 128 and its signal. */
static int end_of(void (*deed)(void))
{
  pid_t child = fork();
  int status;

  ck_assert_int_ge(child, 0);
  if (child == 0) {
    deed();
    _exit(0);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void fault_elsewhere(void)
{
  struct mapped guarded = map_file(PROT_READ), other = map_file(PROT_READ);

  (void)guard_of(&guarded, PROT_READ);
  cut(&other, 0);
  (void)other.bytes[0];
}

static void fault_after_removal(void)
{
  struct mapped mapped = map_file(PROT_READ);

  dg_mapguard_remove(guard_of(&mapped, PROT_READ));
  cut(&mapped, 0);
  (void)mapped.bytes[0];
}

static void send_signal(void)
{
  struct mapped mapped = map_file(PROT_READ);

  (void)guard_of(&mapped, PROT_READ);
  (void)kill(getpid(), SIGBUS);
}

static void leave_with_7(int number)
{
  (void)number;
  _exit(7);
}

static void fault_elsewhere_with_a_handler(void)
{
  struct sigaction action;

  memset(&action, 0, sizeof action);
  action.sa_handler = leave_with_7;
  (void)sigaction(SIGBUS, &action, NULL);
  fault_elsewhere();
}

static void send_what_is_ignored(void)
{
  struct mapped mapped = map_file(PROT_READ);
  struct dg_mapguard *guard;

  (void)signal(SIGBUS, SIG_IGN);
  guard = guard_of(&mapped, PROT_READ);
  (void)kill(getpid(), SIGBUS);
  cut(&mapped, 0);
  if (mapped.bytes[0] == 0 && dg_mapguard_is_hurt(guard))
    _exit(9);
}

static void must_die(void (*deed)(void))
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  ck_assert_int_ne(end_of(deed), 0); /* their handlers report and leave */
#else
  ck_assert_int_eq(end_of(deed), 128 + SIGBUS);
#endif
}

START_TEST(other_faults_and_signals_do_what_they_did)
{
  struct sigaction now;

  must_die(fault_elsewhere);
  must_die(fault_after_removal);
  must_die(send_signal);
  ck_assert_int_eq(end_of(fault_elsewhere_with_a_handler), 7);
  /* Not with CK_FORK=no: by now the handler stands before what a child could set. */
  ck_assert_int_eq(sigaction(SIGBUS, NULL, &now), 0);
  if (!(now.sa_flags & SA_SIGINFO))
    ck_assert_int_eq(end_of(send_what_is_ignored), 9);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("mapguard");
  TCase *tcase = tcase_create("mapguard");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_test(tcase, what_is_cut_off_reads_as_zeros_and_is_told);
  tcase_add_test(tcase, writes_to_what_is_cut_off_go_nowhere);
  tcase_add_test(tcase, each_of_many_mappings_is_told_apart);
  tcase_add_test(tcase, many_threads_may_meet_the_loss_at_once);
  tcase_add_test(tcase, other_faults_and_signals_do_what_they_did);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
