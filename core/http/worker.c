/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/worker.h"

#include <glib.h>
#include <pthread.h>
#include <signal.h>

#include "common/banned.h"

/* Handlers build XML and deltas on the stack of libraries we do not own. */
#define STACK_BYTES (1024u * 1024u)

struct queue {
  struct dg_job *first, **last;
  uint32_t count;
};

struct worker {
  struct dg_pool *pool;
  struct worker *next_idle;
  pthread_cond_t wake;
  struct dg_job *given; /* handed over by submit(), under pool->mutex */
  bool idle;
  pthread_t thread;
};

struct dg_pool {
  pthread_mutex_t mutex; /* guards all below */
  struct queue brief, bulk;
  struct worker *idle;   /* stack: last in, first out */
  uint32_t idle_count;
  uint32_t bulk_running, bulk_max;
  bool ending;
  bool bulk_turn;        /* who goes next when both queues wait */
  uint32_t worker_count;
  struct worker *workers;
};

static void queue_push(struct queue *queue, struct dg_job *job)
{
  job->next = NULL;
  *queue->last = job;
  queue->last = &job->next;
  queue->count++;
}

static struct dg_job *queue_pop(struct queue *queue)
{
  struct dg_job *job = queue->first;

  queue->first = job->next;
  if (!queue->first)
    queue->last = &queue->first;
  queue->count--;
  return job;
}

/* Under the mutex: the job to run now, or NULL. Two waiting queues alternate. */
static struct dg_job *next_job(struct dg_pool *pool)
{
  bool bulk_may = pool->bulk.first && pool->bulk_running < pool->bulk_max;

  if (bulk_may && (pool->bulk_turn || !pool->brief.first)) {
    pool->bulk_turn = false;
    pool->bulk_running++;
    return queue_pop(&pool->bulk);
  }
  if (!pool->brief.first)
    return NULL;
  pool->bulk_turn = true;
  return queue_pop(&pool->brief);
}

static void *worker_main(void *argument)
{
  struct worker *self = argument;
  struct dg_pool *pool = self->pool;

  pthread_mutex_lock(&pool->mutex);
  for (;;) {
    struct dg_job *job = self->given;
    bool bulk;

    self->given = NULL;
    if (!job)
      job = next_job(pool);
    if (!job) {
      if (pool->ending)
        break;
      self->idle = true;
      self->next_idle = pool->idle;
      pool->idle = self;
      pool->idle_count++;
      while (self->idle)
        pthread_cond_wait(&self->wake, &pool->mutex);
      continue;
    }
    bulk = job->bulk; /* the job may be gone once it ran */
    pthread_mutex_unlock(&pool->mutex);
    job->run(job);
    pthread_mutex_lock(&pool->mutex);
    if (bulk)
      pool->bulk_running--;
  }
  pthread_mutex_unlock(&pool->mutex);
  return NULL;
}

/* Under the mutex. */
static struct worker *take_idle(struct dg_pool *pool)
{
  struct worker *worker = pool->idle;

  if (worker) {
    pool->idle = worker->next_idle;
    pool->idle_count--;
    worker->idle = false;
  }
  return worker;
}

void dg_pool_submit(struct dg_pool *pool, struct dg_job *job)
{
  struct worker *worker = NULL;

  pthread_mutex_lock(&pool->mutex);
  if (!job->bulk || pool->bulk_running < pool->bulk_max)
    worker = take_idle(pool);
  if (worker) {
    worker->given = job;
    if (job->bulk)
      pool->bulk_running++;
  } else {
    queue_push(job->bulk ? &pool->bulk : &pool->brief, job);
  }
  pthread_mutex_unlock(&pool->mutex);
  if (worker)
    pthread_cond_signal(&worker->wake);
}

struct dg_pool *dg_pool_new(uint32_t thread_count)
{
  struct dg_pool *pool = g_new0(struct dg_pool, 1);
  pthread_attr_t attributes;
  sigset_t all, before;

  if (thread_count < 1)
    thread_count = 1;
  pthread_mutex_init(&pool->mutex, NULL);
  pool->brief.last = &pool->brief.first;
  pool->bulk.last = &pool->bulk.first;
  pool->workers = g_new0(struct worker, thread_count);
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  /* Signals are the main thread's business, but a fault belongs to who made it: if it
   * is blocked there, it kills (common/mapguard.h). */
  sigfillset(&all);
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_mutex_lock(&pool->mutex);
  for (uint32_t i = 0; i < thread_count; i++) {
    struct worker *worker = &pool->workers[i];

    worker->pool = pool;
    pthread_cond_init(&worker->wake, NULL);
    if (pthread_create(&worker->thread, &attributes, worker_main, worker) != 0) {
      pthread_cond_destroy(&worker->wake);
      break;
    }
    pool->worker_count++;
  }
  /* A quarter of the threads, at least one, stays free of bulk jobs. */
  pool->bulk_max = pool->worker_count - (pool->worker_count + 3) / 4;
  if (pool->bulk_max < 1)
    pool->bulk_max = 1;
  pthread_mutex_unlock(&pool->mutex);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (pool->worker_count == 0) {
    dg_pool_free(pool);
    return NULL;
  }
  return pool;
}

void dg_pool_free(struct dg_pool *pool)
{
  if (!pool)
    return;
  pthread_mutex_lock(&pool->mutex);
  pool->ending = true;
  for (struct worker *worker; (worker = take_idle(pool));)
    pthread_cond_signal(&worker->wake);
  pthread_mutex_unlock(&pool->mutex);
  for (uint32_t i = 0; i < pool->worker_count; i++) {
    pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->workers[i].wake);
  }
  pthread_mutex_destroy(&pool->mutex);
  g_free(pool->workers);
  g_free(pool);
}

void dg_pool_stats(struct dg_pool *pool, struct dg_pool_stats *ret_stats)
{
  pthread_mutex_lock(&pool->mutex);
  ret_stats->thread_count = pool->worker_count;
  ret_stats->idle_count = pool->idle_count;
  ret_stats->queued_count = pool->brief.count + pool->bulk.count;
  pthread_mutex_unlock(&pool->mutex);
}
