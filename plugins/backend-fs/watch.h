/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of directories as the kernel reports them. */
#ifndef DG_FS_WATCH_H
#define DG_FS_WATCH_H

#include "fs.h"

#define DG_WATCH_CHANGED 1u  /* that name was made, removed or renamed */
#define DG_WATCH_GONE 2u     /* the watch ended with its directory */
#define DG_WATCH_OVERFLOW 3u /* changes of any watch were lost */

typedef void (*dg_watch_fn)(void *receiver, int watch, uint32_t what, const char *name);

/* A queue of changes, or -1 if the system grants none. */
int dg_watch_open(void);
/* Watches an open directory; its number, or -1. */
int dg_watch_add(int queue_fd, int dir_fd);
void dg_watch_remove(int queue_fd, int watch);
/* Reports what is queued; never waits. */
void dg_watch_drain(int queue_fd, dg_watch_fn changed, void *receiver);

#endif
