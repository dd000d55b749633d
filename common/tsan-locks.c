/* SPDX-License-Identifier: Apache-2.0 */
/* GLib's mutexes, visible to ThreadSanitizer.
 *
 * GMutex and GCond wait on futexes inside a library that is not instrumented,
 * so ThreadSanitizer sees no order between threads that share one and reports
 * races that are none. In such a build these definitions win over the library's
 * for our own calls, and are made of pthread locks, which it knows. Elsewhere
 * this file is empty. */
#include "config.h"

#include <glib.h>

#ifdef __SANITIZE_THREAD__

#include <errno.h>
#include <pthread.h>
#include <time.h>

static pthread_mutex_t *mutex_of(GMutex *mutex)
{
  pthread_mutex_t *impl = __atomic_load_n((pthread_mutex_t **)&mutex->p, __ATOMIC_ACQUIRE);
  pthread_mutex_t *made;

  if (impl)
    return impl;
  made = g_new0(pthread_mutex_t, 1);
  pthread_mutex_init(made, NULL);
  if (__atomic_compare_exchange_n((pthread_mutex_t **)&mutex->p, &impl, made, 0, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE))
    return made;
  pthread_mutex_destroy(made);
  g_free(made);
  return impl;
}

static pthread_cond_t *cond_of(GCond *cond)
{
  pthread_cond_t *impl = __atomic_load_n((pthread_cond_t **)&cond->p, __ATOMIC_ACQUIRE);
  pthread_condattr_t attributes;
  pthread_cond_t *made;

  if (impl)
    return impl;
  made = g_new0(pthread_cond_t, 1);
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(made, &attributes);
  pthread_condattr_destroy(&attributes);
  if (__atomic_compare_exchange_n((pthread_cond_t **)&cond->p, &impl, made, 0, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE))
    return made;
  pthread_cond_destroy(made);
  g_free(made);
  return impl;
}

void g_mutex_init(GMutex *mutex)
{
  mutex->p = NULL;
}

void g_mutex_clear(GMutex *mutex)
{
  if (!mutex->p)
    return;
  pthread_mutex_destroy(mutex->p);
  g_free(mutex->p);
  mutex->p = NULL;
}

void g_mutex_lock(GMutex *mutex)
{
  pthread_mutex_lock(mutex_of(mutex));
}

gboolean g_mutex_trylock(GMutex *mutex)
{
  return pthread_mutex_trylock(mutex_of(mutex)) == 0;
}

void g_mutex_unlock(GMutex *mutex)
{
  pthread_mutex_unlock(mutex_of(mutex));
}

void g_cond_init(GCond *cond)
{
  cond->p = NULL;
}

void g_cond_clear(GCond *cond)
{
  if (!cond->p)
    return;
  pthread_cond_destroy(cond->p);
  g_free(cond->p);
  cond->p = NULL;
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
  pthread_cond_wait(cond_of(cond), mutex_of(mutex));
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
  struct timespec until = {.tv_sec = end_time / G_USEC_PER_SEC,
                           .tv_nsec = end_time % G_USEC_PER_SEC * 1000};

  return pthread_cond_timedwait(cond_of(cond), mutex_of(mutex), &until) != ETIMEDOUT;
}

void g_cond_signal(GCond *cond)
{
  pthread_cond_signal(cond_of(cond));
}

void g_cond_broadcast(GCond *cond)
{
  pthread_cond_broadcast(cond_of(cond));
}

#endif
