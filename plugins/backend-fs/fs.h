/* SPDX-License-Identifier: Apache-2.0 */
/* One instance of backend-fs: state shared by all its files, and the few
 * helpers every one of them needs.
 *
 * On disk, below the data root:
 *
 *   BUCKET/deltaspaces/KEY            passthrough object
 *   BUCKET/deltaspaces/KEY.delta      delta
 *   BUCKET/deltaspaces/DIR/reference.bin
 *   BUCKET/.dg-notes/ID               notes (notes.h)
 *   .dg-staging/                      whatever is not committed yet
 *   .dg-lock                          flock: one server per root
 *
 * Object metadata is the extended attribute `user.dg.metadata` (metajson.h).
 * A name that had to be escaped (names.h) also carries `user.dg.name`, the
 * true segment; directories as well as files.
 *
 * FAULT POINTS: dg_fs_step() asks the host before the step of that name runs;
 * the `.done` ones come after the last step, so that "crash after" has a name
 * too. The names are stable:
 *
 *   fs.put.open      before the temporary is created
 *   fs.put.write     before each write(2) of a body
 *   fs.put.dirs      before the target directory is looked up or made
 *   fs.put.mkdir     before one missing directory is made
 *   fs.put.mkdir.sync  before the parent of a new directory is synced
 *   fs.put.xattr     before the metadata is attached to the temporary
 *   fs.put.fsync     before the temporary is synced
 *   fs.put.rename    before it is renamed into place
 *   fs.put.syncdir   before the target directory is synced
 *   fs.put.clean     durable; before superseded copies of the item are dropped
 *   fs.put.done      after the last step
 *   fs.remove.unlink, fs.remove.syncdir, fs.remove.prune, fs.remove.done
 *   fs.meta.xattr, fs.meta.fsync, fs.meta.done
 *   fs.get.open, fs.get.read, fs.list.open
 *   fs.bucket.mkdir, fs.bucket.sync, fs.bucket.rename, fs.bucket.rmdir,
 *   fs.bucket.done
 *   fs.relocate.mark, fs.relocate.rename, fs.relocate.done
 *   fs.note.write, fs.note.rename, fs.note.remove
 *   fs.start.xattr, fs.start.sync, fs.probe */
#ifndef DG_FS_H
#define DG_FS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include <glib.h>

#include <deltaglider/plugin.h>

#define DG_FS_STAGING ".dg-staging"
#define DG_FS_LOCK ".dg-lock"
#define DG_FS_XATTR_PROBE ".dg_xattr_probe"
#define DG_FS_DELTASPACES "deltaspaces"
#define DG_FS_NOTES ".dg-notes"
#define DG_FS_XATTR_META "user.dg.metadata"
#define DG_FS_XATTR_NAME "user.dg.name"
#define DG_FS_BUCKET_LOCKS 64u
#define DG_FS_NAME_MAX 255u

struct dg_dirindex_set;

struct dg_fs {
  const struct dg_host *host;
  char *root_path;  /* absolute, for messages */
  int root_fd, staging_fd, lock_fd;
  dev_t device;
  size_t name_max;  /* longest file name, at most 255 */
  atomic_uint_fast64_t next_temp; /* numbers the temporaries */
  _Atomic int64_t last_stamp_ns;  /* newest modification time handed out */

  /* Guards the decision which name a new directory gets, relocations, and the
   * removal of files under literal names, which these would move.
   * Taken after a bucket lock, before nothing. */
  pthread_mutex_t layout_lock;
  atomic_int unsynced_dirs; /* directories made but not durable yet; see path.c */

  /* Raised before an object leaves one of its names because it is (or will
   * be) under another: whoever missed both looks again. See find.c. */
  atomic_uint name_changes;

  /* By hash of the bucket's name. Shared: a commit or removal. Exclusive:
   * deleting the bucket. */
  pthread_rwlock_t bucket_locks[DG_FS_BUCKET_LOCKS];

  struct dg_dirindex_set *indexes;
};

/* Closes *fd unless negative; for scope-bound descriptors. */
static inline void dg_fs_close_fd(int *fd);
#define DG_FS_AUTO_FD __attribute__((cleanup(dg_fs_close_fd))) int

/* Fills err from an errno value, naming what was done; returns -1.
 * The code is that of dg_errno_code(). */
DG_PRINTF(3, 4)
int dg_fs_fail(struct dg_error *err, int errnum, const char *format, ...);

/* 0, or the errno that the named step must fail with. [any] */
int dg_fs_step(const struct dg_fs *fs, const char *step);

/* Logs one line through the host, if it takes any. [any] */
DG_PRINTF(4, 5)
void dg_fs_log(const struct dg_fs *fs, uint32_t level, const char *event, const char *format, ...);

/* Non-zero error (DG_E_CANCELLED, DG_E_TIMEOUT) when the call is over. */
int dg_fs_check_call(const struct dg_call *call, struct dg_error *err);

/* The lock that covers a bucket. */
pthread_rwlock_t *dg_fs_bucket_lock(struct dg_fs *fs, struct dg_slice bucket);

/* A fresh name in the staging directory; out holds 32 bytes. */
void dg_fs_temp_name(struct dg_fs *fs, char out[static 32]);

/* Slices as a GLib-free convenience. */
static inline bool dg_fs_slice_equal(struct dg_slice a, struct dg_slice b)
{
  return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

int dg_fs_slice_compare(struct dg_slice a, struct dg_slice b);

#include <unistd.h>

static inline void dg_fs_close_fd(int *fd)
{
  if (*fd >= 0)
    (void)close(*fd);
}

static inline int dg_fs_steal_fd(int *fd)
{
  int stolen = *fd;

  *fd = -1;
  return stolen;
}

#endif
