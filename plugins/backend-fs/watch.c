/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "watch.h"

#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/banned.h"

#define MASK                                                                             \
  (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_ONLYDIR |    \
   IN_EXCL_UNLINK)

int dg_watch_open(void)
{
  return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

int dg_watch_add(int queue_fd, int dir_fd)
{
  char path[48];

  if (queue_fd < 0)
    return -1;
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", dir_fd);
  return inotify_add_watch(queue_fd, path, MASK);
}

void dg_watch_remove(int queue_fd, int watch)
{
  if (queue_fd >= 0 && watch >= 0)
    (void)inotify_rm_watch(queue_fd, watch);
}

void dg_watch_drain(int queue_fd, dg_watch_fn changed, void *receiver)
{
  _Alignas(struct inotify_event) char buffer[64 * 1024];

  if (queue_fd < 0)
    return;
  for (;;) {
    ssize_t got = read(queue_fd, buffer, sizeof buffer);

    if (got <= 0)
      return;
    for (ssize_t at = 0; at < got;) {
      const struct inotify_event *event =
        (const struct inotify_event *)(const void *)(buffer + at);

      if (event->mask & IN_Q_OVERFLOW)
        changed(receiver, -1, DG_WATCH_OVERFLOW, "");
      else if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_UNMOUNT))
        changed(receiver, event->wd, DG_WATCH_GONE, "");
      else if (event->len)
        changed(receiver, event->wd, DG_WATCH_CHANGED, event->name);
      at += (ssize_t)(sizeof *event + event->len);
    }
  }
}
