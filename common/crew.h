/* SPDX-License-Identifier: Apache-2.0 */
/* A few threads that take over a piece of work if they are idle, so that two digests of
 * the same bytes are computed side by side. Who offers a piece does it himself when
 * nobody is free, and when nobody has begun by the time he needs it: under load nothing
 * waits for a crew. */
#ifndef DG_COMMON_CREW_H
#define DG_COMMON_CREW_H

#include <glib.h>
#include <stdbool.h>

struct dg_crew;

/* One piece of work; the fields are the crew's. Zeroed to begin with, and whenever it was
 * joined. */
struct dg_crew_task {
  void (*run)(void *receiver);
  void *receiver;
  GList link;
  int state;
};

/* threads: 0 is fine, and so is a NULL crew: nobody is ever free. [startup] */
struct dg_crew *dg_crew_new(unsigned threads);
/* As many as there are processors besides the one that offers, a few at most. */
unsigned dg_crew_default_threads(void);
/* No task may be offered any more. NULL is fine. [startup] */
void dg_crew_free(struct dg_crew *crew);

/* Is a thread free? A hint: it may be taken by the time of the offer. [any] */
bool dg_crew_is_free(struct dg_crew *crew);
/* True: run(receiver) happens on another thread, or in join(), which must follow; task
 * and what run() uses stay until then. False: nobody is free. [any] */
bool dg_crew_offer(struct dg_crew *crew, struct dg_crew_task *task, void (*run)(void *receiver),
                   void *receiver);
/* Returns when it is done; does it on this thread if nobody has begun. Nothing when no
 * task is offered. [any] */
void dg_crew_join(struct dg_crew *crew, struct dg_crew_task *task);

#endif
