/* SPDX-License-Identifier: Apache-2.0 */
/* Finding an item's file among the names it may have. */
#include "config.h"

#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/banned.h"

#define FILE_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK)

static bool means_absent(int errnum)
{
  return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == ENXIO;
}

int dg_fs_open_entry(const struct dg_fs *fs, int dir_fd, const char *name,
                     enum dg_fs_accept accept, enum dg_fs_role role, struct dg_slice segment,
                     struct stat *ret_stat)
{
  DG_FS_AUTO_FD fd = openat(dir_fd, name, FILE_FLAGS | O_NOFOLLOW);

  if (fd < 0) {
    if (means_absent(errno))
      errno = ENOENT;
    return -1;
  }
  if (fstat(fd, ret_stat) < 0)
    return -1;
  if (!S_ISREG(ret_stat->st_mode)) {
    errno = ENOENT;
    return -1;
  }
  if (accept != DG_FS_PLAIN) {
    char mark[DG_FS_MARK_BYTES];
    struct dg_slice truth;
    bool marked = dg_fs_mark_read(fs, fd, name, role, mark, &truth);

    if (accept == DG_FS_MARKED ? !(marked && dg_fs_slice_equal(truth, segment)) : marked) {
      errno = ENOENT;
      return -1;
    }
  }
  return dg_fs_steal_fd(&fd);
}

int dg_fs_find_in_dirs(struct dg_fs *fs, const struct dg_fs_place *place, unsigned flags,
                       const struct dg_fs_names *names, const struct dg_fs_dirs *dirs,
                       struct dg_fs_found *ret_found, struct dg_error *err)
{
  for (unsigned i = 0; i < dirs->count; i++) {
    for (unsigned j = 0; j < names->count; j++) {
      struct stat stat;
      int fd = dg_fs_open_entry(fs, dirs->fd[i], names->name[j], names->accept[j], place->role,
                                place->name, &stat);
      int dir_fd = -1;

      if (fd < 0 && errno != ENOENT)
        return dg_fs_fail(err, errno, "open '%s'", names->name[j]);
      if (fd < 0)
        continue;
      if ((flags & DG_FS_FIND_DIR) && (dir_fd = fcntl(dirs->fd[i], F_DUPFD_CLOEXEC, 3)) < 0) {
        int errnum = errno;

        (void)close(fd);
        return dg_fs_fail(err, errnum, "hold the directory open");
      }
      ret_found->fd = fd;
      ret_found->dir_fd = dir_fd;
      ret_found->stat = stat;
      memcpy(ret_found->name, names->name[j], DG_FS_NAME_BYTES);
      return 0;
    }
  }
  return dg_fail(err, DG_E_NO_SUCH_KEY, "no such item");
}

static bool path_is_free(struct dg_fs *fs, const char *path)
{
  DG_FS_AUTO_FD fd = dg_fs_open_below(fs->root_fd, path, O_PATH | O_CLOEXEC);

  return fd < 0 && means_absent(errno);
}

/* The item is not under its plain path. Can it be elsewhere? Nearly every PUT
 * and GET asks for a variant that is not there, so a "no" must be cheap: one
 * failing lookup for each name that an escaped file or directory would have.
 * False sends the caller the long way. */
static bool surely_absent(struct dg_fs *fs, const struct dg_fs_place *place,
                          const struct dg_fs_names *names)
{
  g_autoptr(GString) path = g_string_sized_new(place->dir.len + 400);
  struct stat stat;
  size_t top;

  g_string_append_len(path, place->bucket.data, (gssize)place->bucket.len);
  if (fstatat(fs->root_fd, path->str, &stat, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(stat.st_mode))
    return false;
  g_string_append(path, "/" DG_FS_DELTASPACES "/");
  top = path->len;
  for (size_t i = 0, start = 0; i < place->dir.len; i++) {
    if (place->dir.data[i] != '/')
      continue;
    if (i - start + strlen("%2F") > fs->name_max)
      return false;
    start = i + 1;
    g_string_append_len(path, place->dir.data, (gssize)i);
    g_string_append(path, "%2F");
    if (!path_is_free(fs, path->str))
      return false;
    g_string_truncate(path, top);
  }
  g_string_append_len(path, place->dir.data, (gssize)place->dir.len);
  top = path->len;
  for (unsigned i = 1; i < names->count; i++) {
    g_string_append(path, names->name[i]);
    if (!path_is_free(fs, path->str))
      return false;
    g_string_truncate(path, top);
  }
  return true;
}

static int find_once(struct dg_fs *fs, const struct dg_fs_place *place, unsigned flags,
                     struct dg_fs_found *ret_found, struct dg_error *err)
{
  struct dg_fs_names names;
  struct dg_fs_dirs dirs = {0};
  int rc;

  dg_fs_names(fs, place->name, place->role, &names);
  if (!(flags & DG_FS_FIND_DIR) && names.accept[0] == DG_FS_PLAIN) {
    g_autofree char *path = dg_fs_plain_path(fs, place->bucket, place->dir, names.name[0]);
    DG_FS_AUTO_FD fd = path ? dg_fs_open_below(fs->root_fd, path, FILE_FLAGS) : -1;
    struct stat stat;

    if (path && fd < 0 && !means_absent(errno))
      return dg_fs_fail(err, errno, "open '%s'", path);
    if (fd >= 0 && fstat(fd, &stat) < 0)
      return dg_fs_fail(err, errno, "stat '%s'", path);
    if (fd >= 0 && S_ISREG(stat.st_mode)) {
      ret_found->fd = dg_fs_steal_fd(&fd);
      ret_found->dir_fd = -1;
      ret_found->stat = stat;
      memcpy(ret_found->name, names.name[0], DG_FS_NAME_BYTES);
      return 0;
    }
    if (path && surely_absent(fs, place, &names))
      return dg_fail(err, DG_E_NO_SUCH_KEY, "no such item");
  }
  if (dg_fs_dirs_find(fs, place->bucket, place->dir, &dirs, err) < 0)
    return -1;
  rc = dg_fs_find_in_dirs(fs, place, flags, &names, &dirs, ret_found, err);
  dg_fs_dirs_close(&dirs);
  return rc;
}

int dg_fs_find(struct dg_fs *fs, const struct dg_fs_place *place, unsigned flags,
               struct dg_fs_found *ret_found, struct dg_error *err)
{
  /* Names are tried one after the other, so an object on its way from one to
   * another could be missed under both. */
  for (;;) {
    unsigned before = atomic_load(&fs->name_changes);

    if (find_once(fs, place, flags, ret_found, err) == 0)
      return 0;
    if (err->code != DG_E_NO_SUCH_KEY || atomic_load(&fs->name_changes) == before)
      return -1;
  }
}

static int mark_and_move(struct dg_fs *fs, int dir_fd, int fd, const char *name,
                         struct dg_slice segment, enum dg_fs_role role, struct dg_error *err)
{
  struct dg_fs_names names;
  int errnum = dg_fs_step(fs, "fs.relocate.mark");

  /* The mark does not lead to the present name, so until the rename the
   * entry stays what it was: literal. */
  if (!errnum && (fsetxattr(fd, DG_FS_XATTR_NAME, segment.data, segment.len, 0) < 0 ||
                  fsync(fd) < 0))
    errnum = errno;
  if (!errnum)
    errnum = dg_fs_step(fs, "fs.relocate.rename");
  dg_fs_names(fs, segment, role, &names);
  (void)atomic_fetch_add(&fs->name_changes, 1);
  for (unsigned i = 0; !errnum && i < names.count; i++) {
    if (names.accept[i] != DG_FS_MARKED)
      continue;
    if (renameat2(dir_fd, name, dir_fd, names.name[i], RENAME_NOREPLACE) == 0) {
      if (fsync(dir_fd) < 0)
        errnum = errno;
      if (!errnum)
        errnum = dg_fs_step(fs, "fs.relocate.done");
      dg_fs_log(fs, DG_LOG_INFO, "fs.relocate", "from=\"%s\" to=\"%s\"", name, names.name[i]);
      return errnum ? dg_fs_fail(err, errnum, "move '%s' to its escaped name", name) : 0;
    }
    if (errno != EEXIST)
      errnum = errno;
  }
  return dg_fs_fail(err, errnum ? errnum : EEXIST, "move '%s' to its escaped name", name);
}

int dg_fs_relocate(struct dg_fs *fs, int dir_fd, const char *name, struct dg_error *err)
{
  DG_FS_AUTO_FD fd = openat(dir_fd, name, FILE_FLAGS | O_NOFOLLOW);
  struct dg_slice segment = {name, strlen(name)}, truth;
  enum dg_fs_role role = DG_FS_ROLE_DIR;
  char mark[DG_FS_MARK_BYTES];
  struct stat stat;

  if (fd < 0 && errno == ENOENT)
    return 0;
  if (fd < 0 || fstat(fd, &stat) < 0)
    return dg_fs_fail(err, errno, "open '%s', which is in the way", name);
  if (S_ISREG(stat.st_mode))
    role = dg_fs_file_role(name, segment.len, &segment);
  else if (!S_ISDIR(stat.st_mode))
    return dg_fail(err, DG_E_IO, "'%s' is in the way and neither file nor directory: remove it",
                   name);
  if (dg_fs_mark_read(fs, fd, name, role, mark, &truth) ||
      (role == DG_FS_ROLE_FILE &&
       dg_fs_mark_read(fs, fd, name, DG_FS_ROLE_REFERENCE, mark, &truth)))
    return 0; /* ours: the caller takes its next name */
  return mark_and_move(fs, dir_fd, fd, name, segment, role, err);
}
