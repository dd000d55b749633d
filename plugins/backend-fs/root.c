/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "dirindex.h"
#include "tree.h"

#include "common/banned.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

static int open_root(struct dg_fs *fs, const char *path, struct dg_error *err)
{
  struct stat stat;
  struct statvfs vfs;

  if (g_mkdir_with_parents(path, 0777) < 0)
    return dg_fs_fail(err, errno, "data directory '%s' cannot be made: set 'path' to a directory "
                                  "the server may write to", path);
  fs->root_fd = open(path, DIR_FLAGS);
  if (fs->root_fd < 0 || fstat(fs->root_fd, &stat) < 0 || fstatvfs(fs->root_fd, &vfs) < 0)
    return dg_fs_fail(err, errno, "data directory '%s' cannot be opened", path);
  fs->device = stat.st_dev;
  fs->name_max = MIN(MAX(vfs.f_namemax, 100u), DG_FS_NAME_MAX);
  return 0;
}

static int lock_root(struct dg_fs *fs, struct dg_error *err)
{
  fs->lock_fd = openat(fs->root_fd, DG_FS_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fs->lock_fd < 0 && errno == EROFS)
    return dg_fail(err, DG_E_READ_ONLY,
                   "data directory '%s' is on a read-only filesystem: remount it read-write or "
                   "set 'path' to another one",
                   fs->root_path);
  if (fs->lock_fd < 0 && (errno == EACCES || errno == EPERM))
    return dg_fail(err, DG_E_CONFIG,
                   "data directory '%s' is not writable for user id %u: change its owner or set "
                   "'path' to another one",
                   fs->root_path, (unsigned)geteuid());
  if (fs->lock_fd < 0)
    return dg_fs_fail(err, errno, "lock file '%s/" DG_FS_LOCK "' cannot be opened", fs->root_path);
  if (flock(fs->lock_fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  if (errno == EWOULDBLOCK)
    return dg_fail(err, DG_E_CONFIG,
                   "data directory '%s' is in use by another server: stop that one, or set 'path' "
                   "to a directory of its own",
                   fs->root_path);
  return dg_fs_fail(err, errno, "data directory '%s' cannot be locked", fs->root_path);
}

static int probe_xattr(struct dg_fs *fs, struct dg_error *err)
{
  static const char value[] = "probe";
  char back[sizeof value];
  DG_FS_AUTO_FD fd = openat(fs->root_fd, DG_FS_XATTR_PROBE,
                            O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  int errnum = 0;

  if (fd < 0)
    return dg_fs_fail(err, errno, "create '%s/" DG_FS_XATTR_PROBE "'", fs->root_path);
  errnum = dg_fs_step(fs, "fs.start.xattr");
  if (!errnum && (fsetxattr(fd, DG_FS_XATTR_META, value, sizeof value, 0) < 0 ||
                  fgetxattr(fd, DG_FS_XATTR_META, back, sizeof back) != sizeof value))
    errnum = errno;
  (void)unlinkat(fs->root_fd, DG_FS_XATTR_PROBE, 0);
  if (errnum == ENOTSUP || errnum == EPERM)
    return dg_fail(err, DG_E_CONFIG,
                   "Data directory does not support extended attributes: '%s' needs a filesystem "
                   "with user xattrs (ext4, XFS, Btrfs, ZFS with xattr=sa); move 'path' there or "
                   "mount this one with user_xattr",
                   fs->root_path);
  return errnum ? dg_fs_fail(err, errnum, "set an extended attribute in '%s'", fs->root_path) : 0;
}

/* The directories above the root, as far as its own filesystem goes: what is mounted was
 * there before. Returns an errno or 0. */
static int sync_above(const struct dg_fs *fs)
{
  g_autofree char *path = g_path_get_dirname(fs->root_path);

  for (;;) {
    DG_FS_AUTO_FD fd = open(path, DIR_FLAGS);
    char *parent;
    struct stat stat;

    if (fd < 0)
      return errno == EACCES ? 0 : errno; /* not ours to look into */
    if (fstat(fd, &stat) < 0)
      return errno;
    if (stat.st_dev != fs->device)
      return 0;
    if (fsync(fd) < 0)
      return errno;
    if (strcmp(path, "/") == 0)
      return 0;
    parent = g_path_get_dirname(path);
    g_free(path);
    path = parent;
  }
}

/* A root that was never served from may have been made just now, and directories above
 * it: their entries must be on disk before anything below them is acknowledged. */
static int sync_new_root(struct dg_fs *fs, struct dg_error *err)
{
  struct stat stat;
  int errnum;

  if (fstatat(fs->root_fd, DG_FS_STAGING, &stat, AT_SYMLINK_NOFOLLOW) == 0)
    return 0;
  errnum = dg_fs_step(fs, "fs.start.sync");
  if (!errnum)
    errnum = sync_above(fs);
  return errnum ? dg_fs_fail(err, errnum, "sync the new data directory '%s'", fs->root_path) : 0;
}

static int open_staging(struct dg_fs *fs, struct dg_error *err)
{
  struct stat stat;
  unsigned count = 0;
  int errnum;

  if (sync_new_root(fs, err) < 0)
    return -1;
  if (mkdirat(fs->root_fd, DG_FS_STAGING, 0700) < 0 && errno != EEXIST)
    return dg_fs_fail(err, errno, "make '%s/" DG_FS_STAGING "'", fs->root_path);
  fs->staging_fd = openat(fs->root_fd, DG_FS_STAGING, DIR_FLAGS | O_NOFOLLOW);
  if (fs->staging_fd < 0 || fstat(fs->staging_fd, &stat) < 0)
    return dg_fs_fail(err, errno, "open '%s/" DG_FS_STAGING "'", fs->root_path);
  if (stat.st_dev != fs->device)
    return dg_fail(err, DG_E_CONFIG,
                   "'%s/" DG_FS_STAGING "' is on another filesystem: unmount it, objects are "
                   "renamed out of it",
                   fs->root_path);
  errnum = dg_fs_tree_empty(fs->staging_fd, &count);
  if (errnum)
    return dg_fs_fail(err, errnum, "sweep '%s/" DG_FS_STAGING "'", fs->root_path);
  if (count)
    dg_fs_log(fs, DG_LOG_INFO, "fs.sweep", "root=\"%s\" removed=%u", fs->root_path, count);
  return 0;
}

int dg_fs_open(const struct dg_host *host, const char *path, const char *index_dir,
               struct dg_fs **ret_fs, struct dg_error *err)
{
  struct dg_fs *fs = g_new0(struct dg_fs, 1);

  fs->host = host;
  fs->root_path = g_canonicalize_filename(path, NULL);
  fs->root_fd = fs->staging_fd = fs->lock_fd = -1;
  (void)pthread_mutex_init(&fs->layout_lock, NULL);
  for (unsigned i = 0; i < DG_FS_BUCKET_LOCKS; i++)
    (void)pthread_rwlock_init(&fs->bucket_locks[i], NULL);
  if (open_root(fs, path, err) < 0 || lock_root(fs, err) < 0 || probe_xattr(fs, err) < 0 ||
      open_staging(fs, err) < 0) {
    dg_fs_close(fs);
    return -1;
  }
  fs->indexes = dg_dirindex_set_new(fs, index_dir);
  *ret_fs = fs;
  return 0;
}

void dg_fs_close(struct dg_fs *fs)
{
  if (!fs)
    return;
  dg_dirindex_set_free(fs->indexes);
  dg_fs_close_fd(&fs->staging_fd);
  dg_fs_close_fd(&fs->root_fd);
  dg_fs_close_fd(&fs->lock_fd); /* last: until here nobody else may sweep */
  (void)pthread_mutex_destroy(&fs->layout_lock);
  for (unsigned i = 0; i < DG_FS_BUCKET_LOCKS; i++)
    (void)pthread_rwlock_destroy(&fs->bucket_locks[i]);
  g_free(fs->root_path);
  g_free(fs);
}

int dg_fs_probe(struct dg_fs *fs, struct dg_error *err)
{
  struct stat held, named;
  struct statvfs vfs;
  int errnum = dg_fs_step(fs, "fs.probe");

  if (errnum)
    return dg_fs_fail(err, errnum, "probe %s", fs->root_path);
  if (stat(fs->root_path, &named) < 0 || fstat(fs->root_fd, &held) < 0 ||
      fstatvfs(fs->root_fd, &vfs) < 0)
    return dg_fs_fail(err, errno, "data directory '%s' cannot be reached", fs->root_path);
  if (named.st_dev != held.st_dev || named.st_ino != held.st_ino)
    return dg_fail(err, DG_E_UNAVAILABLE,
                   "'%s' is no longer the directory opened at start: mount it again, or restart",
                   fs->root_path);
  if (vfs.f_flag & ST_RDONLY)
    return dg_fail(err, DG_E_READ_ONLY, "the filesystem of '%s' is read-only", fs->root_path);
  if (faccessat(fs->staging_fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
    return dg_fs_fail(err, errno, "'%s/" DG_FS_STAGING "' is not writable", fs->root_path);
  return 0;
}
