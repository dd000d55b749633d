/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/crew.h"

#include "common/banned.h"

#define THREADS_MAX 8u

enum { NONE, OFFERED, RUNNING, DONE };

struct dg_crew {
  GMutex mutex; /* guards everything below and the state of tasks; leaf */
  GCond offered, done;
  GQueue tasks;    /* offered, by their links; no more of them than threads are idle */
  guint idle;
  bool stopping;
  guint thread_count;
  GThread *threads[THREADS_MAX];
};

static gpointer work(gpointer data)
{
  struct dg_crew *crew = data;

  g_mutex_lock(&crew->mutex);
  crew->idle++;
  for (;;) {
    GList *link = g_queue_pop_head_link(&crew->tasks);
    struct dg_crew_task *task;

    if (!link) {
      if (crew->stopping)
        break;
      g_cond_wait(&crew->offered, &crew->mutex);
      continue;
    }
    task = link->data;
    task->state = RUNNING;
    crew->idle--;
    g_mutex_unlock(&crew->mutex);
    task->run(task->receiver);
    g_mutex_lock(&crew->mutex);
    crew->idle++;
    task->state = DONE;
    g_cond_broadcast(&crew->done);
  }
  g_mutex_unlock(&crew->mutex);
  return NULL;
}

unsigned dg_crew_default_threads(void)
{
  return MIN(g_get_num_processors() - 1, THREADS_MAX);
}

struct dg_crew *dg_crew_new(unsigned threads)
{
  struct dg_crew *crew = g_new0(struct dg_crew, 1);

  g_mutex_init(&crew->mutex);
  g_cond_init(&crew->offered);
  g_cond_init(&crew->done);
  g_queue_init(&crew->tasks);
  /* Where no more threads can be made, fewer do, or none. */
  while (crew->thread_count < MIN(threads, THREADS_MAX)) {
    GThread *thread = g_thread_try_new("crew", work, crew, NULL);

    if (!thread)
      break;
    crew->threads[crew->thread_count++] = thread;
  }
  return crew;
}

void dg_crew_free(struct dg_crew *crew)
{
  if (!crew)
    return;
  g_mutex_lock(&crew->mutex);
  crew->stopping = true;
  g_cond_broadcast(&crew->offered);
  g_mutex_unlock(&crew->mutex);
  for (guint i = 0; i < crew->thread_count; i++)
    (void)g_thread_join(crew->threads[i]);
  g_cond_clear(&crew->offered);
  g_cond_clear(&crew->done);
  g_mutex_clear(&crew->mutex);
  g_free(crew);
}

bool dg_crew_is_free(struct dg_crew *crew)
{
  bool is_free;

  if (!crew || crew->thread_count == 0)
    return false;
  g_mutex_lock(&crew->mutex);
  is_free = crew->tasks.length < crew->idle;
  g_mutex_unlock(&crew->mutex);
  return is_free;
}

bool dg_crew_offer(struct dg_crew *crew, struct dg_crew_task *task, void (*run)(void *receiver),
                   void *receiver)
{
  bool taken;

  g_assert(task->state == NONE);
  if (!crew || crew->thread_count == 0)
    return false;
  g_mutex_lock(&crew->mutex);
  taken = crew->tasks.length < crew->idle;
  if (taken) {
    task->run = run;
    task->receiver = receiver;
    task->state = OFFERED;
    task->link = (GList){.data = task};
    g_queue_push_tail_link(&crew->tasks, &task->link);
    g_cond_signal(&crew->offered);
  }
  g_mutex_unlock(&crew->mutex);
  return taken;
}

void dg_crew_join(struct dg_crew *crew, struct dg_crew_task *task)
{
  bool is_mine = false;

  if (!task->run)
    return;
  g_mutex_lock(&crew->mutex);
  if (task->state == OFFERED) {
    g_queue_unlink(&crew->tasks, &task->link);
    is_mine = true;
  }
  while (task->state == RUNNING)
    g_cond_wait(&crew->done, &crew->mutex);
  g_mutex_unlock(&crew->mutex);
  if (is_mine)
    task->run(task->receiver);
  *task = (struct dg_crew_task){0};
}
