/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "bucket.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "dirscan.h"
#include "path.h"
#include "tree.h"

#include "common/banned.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int create_locked(struct dg_fs *fs, const char *name, struct dg_error *err)
{
  DG_FS_AUTO_FD fd = -1;
  int errnum;

  errnum = dg_fs_step(fs, "fs.bucket.mkdir");
  if (!errnum && mkdirat(fs->root_fd, name, 0777) < 0)
    errnum = errno;
  if (errnum == EEXIST)
    return dg_fail(err, DG_E_BUCKET_EXISTS, "bucket '%s' exists", name);
  if (errnum)
    return dg_fs_fail(err, errnum, "make bucket '%s'", name);
  fd = openat(fs->root_fd, name, DIR_FLAGS);
  if (fd < 0 || (mkdirat(fd, DG_FS_DELTASPACES, 0777) < 0 && errno != EEXIST) || fsync(fd) < 0)
    errnum = errno;
  if (!errnum)
    errnum = dg_fs_step(fs, "fs.bucket.sync");
  if (!errnum && fsync(fs->root_fd) < 0)
    errnum = errno;
  if (errnum) {
    if (fd >= 0)
      (void)unlinkat(fd, DG_FS_DELTASPACES, AT_REMOVEDIR);
    (void)unlinkat(fs->root_fd, name, AT_REMOVEDIR);
    return dg_fs_fail(err, errnum, "make bucket '%s'", name);
  }
  (void)dg_fs_step(fs, "fs.bucket.done");
  return 0;
}

/* Alone with the bucket: a removal in between would take away what is being
 * made, and the clean-up after a failure what another call has made since. */
int dg_fs_bucket_create(struct dg_fs *fs, struct dg_slice bucket, struct dg_error *err)
{
  pthread_rwlock_t *lock = dg_fs_bucket_lock(fs, bucket);
  g_autofree char *name = g_strndup(bucket.data, bucket.len);
  int rc;

  if (dg_fs_check_bucket(bucket, err) < 0)
    return -1;
  (void)pthread_rwlock_wrlock(lock);
  rc = create_locked(fs, name, err);
  (void)pthread_rwlock_unlock(lock);
  return rc;
}

static int open_bucket(struct dg_fs *fs, const char *name, int *ret_fd, struct dg_error *err)
{
  int fd = openat(fs->root_fd, name, DIR_FLAGS);

  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
    return dg_fail(err, DG_E_NO_SUCH_BUCKET, "no directory '%s' in %s", name, fs->root_path);
  if (fd < 0)
    return dg_fs_fail(err, errno, "open bucket '%s'", name);
  *ret_fd = fd;
  return 0;
}

int dg_fs_bucket_head(struct dg_fs *fs, struct dg_slice bucket, struct dg_error *err)
{
  g_autofree char *name = g_strndup(bucket.data, bucket.len);
  DG_FS_AUTO_FD fd = -1;

  if (!dg_fs_bucket_name_valid(bucket))
    return dg_fail(err, DG_E_NO_SUCH_BUCKET, "no bucket has such a name");
  return open_bucket(fs, name, &fd, err);
}

/* Anything but `deltaspaces` and dot-files was put there by someone else. */
static int find_stranger(int bucket_fd, char *ret_name, size_t capacity, struct dg_error *err)
{
  int fd = openat(bucket_fd, ".", DIR_FLAGS);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  const struct dirent *row;

  if (!dir) {
    int errnum = errno;

    dg_fs_close_fd(&fd);
    return dg_fs_fail(err, errnum, "read a bucket's directory");
  }
  ret_name[0] = '\0';
  while ((row = readdir(dir)))
    if (row->d_name[0] != '.' && strcmp(row->d_name, DG_FS_DELTASPACES) != 0)
      (void)g_strlcpy(ret_name, row->d_name, capacity);
  (void)closedir(dir);
  return 0;
}

static int check_empty(struct dg_fs *fs, const char *name, int bucket_fd, struct dg_error *err)
{
  DG_FS_AUTO_FD top = openat(bucket_fd, DG_FS_DELTASPACES, DIR_FLAGS);
  char stranger[DG_FS_NAME_BYTES];
  bool has = false;

  if (top < 0 && errno != ENOENT)
    return dg_fs_fail(err, errno, "open '%s/" DG_FS_DELTASPACES "'", name);
  if (top >= 0 && dg_fs_dir_has_objects(fs, top, /* count_references= */ false, &has, err) < 0)
    return -1;
  if (has)
    return dg_fail(err, DG_E_BUCKET_NOT_EMPTY, "bucket '%s' holds objects", name);
  if (find_stranger(bucket_fd, stranger, sizeof stranger, err) < 0)
    return -1;
  if (stranger[0])
    return dg_fail(err, DG_E_BUCKET_NOT_EMPTY,
                   "the directory of bucket '%s' holds '%s', which is not ours: remove it by hand",
                   name, stranger);
  return 0;
}

static int delete_locked(struct dg_fs *fs, const char *name, struct dg_error *err)
{
  DG_FS_AUTO_FD fd = -1;
  char temp[32];
  int errnum;

  if (open_bucket(fs, name, &fd, err) < 0 || check_empty(fs, name, fd, err) < 0)
    return -1;
  /* Gone in one step; its residue is deleted from the staging directory, by
   * the sweep if we do not get to it. */
  dg_fs_temp_name(fs, temp);
  errnum = dg_fs_step(fs, "fs.bucket.rename");
  if (!errnum && renameat(fs->root_fd, name, fs->staging_fd, temp) < 0)
    errnum = errno;
  if (errnum)
    return dg_fs_fail(err, errnum, "remove bucket '%s'", name);
  errnum = dg_fs_step(fs, "fs.bucket.sync");
  if (!errnum && fsync(fs->root_fd) < 0)
    errnum = errno;
  if (errnum) {
    (void)renameat2(fs->staging_fd, temp, fs->root_fd, name, RENAME_NOREPLACE);
    return dg_fs_fail(err, errnum, "remove bucket '%s'", name);
  }
  if (dg_fs_step(fs, "fs.bucket.rmdir") == 0)
    (void)dg_fs_tree_delete(fs->staging_fd, temp);
  (void)dg_fs_step(fs, "fs.bucket.done");
  return 0;
}

int dg_fs_bucket_delete(struct dg_fs *fs, struct dg_slice bucket, struct dg_error *err)
{
  pthread_rwlock_t *lock = dg_fs_bucket_lock(fs, bucket);
  g_autofree char *name = g_strndup(bucket.data, bucket.len);
  int rc;

  if (!dg_fs_bucket_name_valid(bucket))
    return dg_fail(err, DG_E_NO_SUCH_BUCKET, "no bucket has such a name");
  (void)pthread_rwlock_wrlock(lock);
  rc = delete_locked(fs, name, err);
  (void)pthread_rwlock_unlock(lock);
  return rc;
}

static int compare_names(const void *a, const void *b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* When the directory was made, where the filesystem remembers. */
static bool created_at(struct dg_fs *fs, const char *name, int64_t *ret_s)
{
  struct statx stat;

  if (statx(fs->root_fd, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_BTIME | STATX_MTIME,
            &stat) < 0 ||
      !S_ISDIR(stat.stx_mode))
    return false;
  *ret_s = stat.stx_mask & STATX_BTIME ? stat.stx_btime.tv_sec : stat.stx_mtime.tv_sec;
  return true;
}

int dg_fs_bucket_list(struct dg_fs *fs, dg_bucket_row_fn row, void *receiver, struct dg_error *err)
{
  int fd = openat(fs->root_fd, ".", DIR_FLAGS);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  const struct dirent *entry;

  if (!dir) {
    int errnum = errno;

    dg_fs_close_fd(&fd);
    return dg_fs_fail(err, errnum, "read %s", fs->root_path);
  }
  while ((entry = readdir(dir)))
    if (dg_fs_bucket_name_valid((struct dg_slice){entry->d_name, strlen(entry->d_name)}))
      g_ptr_array_add(names, g_strdup(entry->d_name));
  (void)closedir(dir);
  g_ptr_array_sort(names, compare_names);
  for (guint i = 0; i < names->len; i++) {
    const char *name = names->pdata[i];
    struct dg_bucket_row bucket = {.struct_size = sizeof bucket, .name = {name, strlen(name)}};

    if (created_at(fs, name, &bucket.created_at_s) && row(receiver, &bucket))
      break;
  }
  return 0;
}
