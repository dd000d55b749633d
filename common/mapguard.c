/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handler may interrupt any thread anywhere, so it takes no lock and calls
 * nothing but the bare system call (mmap() may be another library's by then, which
 * need not stand being called from a handler). It finds mappings in rows that are
 * never freed. A row's turn is odd while it stands for a mapping; the handler
 * looks at it before and after, and passes over a row that changes meanwhile: the
 * one it seeks does not, as a thread is reading that mapping.
 *
 * Atomics are sequentially consistent throughout: all of this is rare.
 */
#include "config.h"

#include "common/mapguard.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/banned.h"

#define BLOCK_ROWS 128u

struct dg_mapguard {
  atomic_uint turn;
  atomic_uintptr_t begin;
  atomic_size_t size; /* whole pages */
  atomic_int protection;
  atomic_int hurt;
};

struct block {
  struct dg_mapguard rows[BLOCK_ROWS];
  struct block *_Atomic next;
};

static struct block first_block;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* held by who changes turns */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct sigaction previous;

/* Puts zeros in the place of what is mapped there. Elsewhere than on 64 bits the call
   wants its offset in other units, or has another name. */
static bool put_zeros(uintptr_t begin, size_t size, int protection)
{
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

#if defined SYS_mmap && defined __LP64__
  return syscall(SYS_mmap, begin, size, (long)protection, (long)flags, -1L, 0L) != -1;
#else
  return mmap((void *)begin, size, protection, flags, -1, 0) != MAP_FAILED;
#endif
}

/* Puts zeros in the place of the mapping that holds this address. */
static bool replace(uintptr_t address)
{
  bool found = false;

  for (struct block *block = &first_block; block; block = atomic_load(&block->next))
    for (unsigned i = 0; i < BLOCK_ROWS; i++) {
      struct dg_mapguard *guard = &block->rows[i];
      unsigned turn = atomic_load(&guard->turn);
      uintptr_t begin = atomic_load(&guard->begin);
      size_t size = atomic_load(&guard->size);
      int protection = atomic_load(&guard->protection);

      if (turn % 2 == 0 || address - begin >= size || atomic_load(&guard->turn) != turn)
        continue;
      /* Before the zeros can be seen. */
      atomic_store(&guard->hurt, 1);
      if (put_zeros(begin, size, protection))
        found = true;
    }
  return found;
}

/* As if we were not there. */
static void pass_on(int number, siginfo_t *fault, void *context)
{
  struct sigaction usual;

  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(number, fault, context);
    return;
  }
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(number);
    return;
  }
  if (previous.sa_handler == SIG_IGN && fault->si_code <= 0)
    return;
  memset(&usual, 0, sizeof usual);
  usual.sa_handler = SIG_DFL;
  (void)sigaction(number, &usual, NULL);
  /* What faulted does so again on return; what another process sent does not. */
  if (fault->si_code <= 0)
    (void)raise(number);
}

static void on_bus_error(int number, siginfo_t *fault, void *context)
{
  int saved = errno;
  /* Codes above 0 are the kernel's; an address that is not aligned is no loss. */
  bool lost = fault->si_code > 0 && fault->si_code != BUS_ADRALN;

  if (!lost || !replace((uintptr_t)fault->si_addr))
    pass_on(number, fault, context);
  errno = saved;
}

static void install(void)
{
  struct sigaction action;

  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  (void)sigemptyset(&action.sa_mask);
  /* Asked for first, so that it is known when ours is called at once. */
  (void)sigaction(SIGBUS, NULL, &previous);
  (void)sigaction(SIGBUS, &action, &previous);
}

/* A row that stands for nothing. Caller holds the mutex. */
static struct dg_mapguard *find_free(void)
{
  struct block *block = &first_block, *next;

  for (;; block = next) {
    for (unsigned i = 0; i < BLOCK_ROWS; i++)
      if (atomic_load(&block->rows[i].turn) % 2 == 0)
        return &block->rows[i];
    next = atomic_load(&block->next);
    if (!next) {
      next = g_new0(struct block, 1);
      atomic_store(&block->next, next);
    }
  }
}

struct dg_mapguard *dg_mapguard_add(void *mapping, size_t size, int protection)
{
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  struct dg_mapguard *guard;

  (void)pthread_once(&once, install);
  (void)pthread_mutex_lock(&mutex);
  guard = find_free();
  atomic_store(&guard->begin, (uintptr_t)mapping);
  atomic_store(&guard->size, (size + page - 1) / page * page);
  atomic_store(&guard->protection, protection);
  atomic_store(&guard->hurt, 0);
  (void)atomic_fetch_add(&guard->turn, 1);
  (void)pthread_mutex_unlock(&mutex);
  return guard;
}

bool dg_mapguard_is_hurt(struct dg_mapguard *guard)
{
  /* A read-modify-write: what was read from the mapping before stays before it. */
  return guard && atomic_fetch_or(&guard->hurt, 0) != 0;
}

void dg_mapguard_remove(struct dg_mapguard *guard)
{
  if (!guard)
    return;
  (void)pthread_mutex_lock(&mutex);
  (void)atomic_fetch_add(&guard->turn, 1);
  (void)pthread_mutex_unlock(&mutex);
}
