/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/banned.h"

int dg_fs_tree_empty(int dir_fd, unsigned *ret_count)
{
  int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), errnum = 0;
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  const struct dirent *row;

  if (!dir) {
    errnum = errno;
    dg_fs_close_fd(&fd);
    return errnum;
  }
  /* First all names, then deletion: unlinking while reading may skip some. */
  while ((row = readdir(dir)))
    if (strcmp(row->d_name, ".") != 0 && strcmp(row->d_name, "..") != 0)
      g_ptr_array_add(names, g_strdup(row->d_name));
  for (guint i = 0; i < names->len; i++) {
    int failed = dg_fs_tree_delete(fd, names->pdata[i]);

    if (!errnum)
      errnum = failed;
  }
  (void)closedir(dir);
  *ret_count = names->len;
  return errnum;
}

int dg_fs_tree_delete(int dir_fd, const char *name)
{
  unsigned ignored;
  int errnum;

  if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
    return 0;
  if (errno != EISDIR && errno != EPERM)
    return errno;
  {
    DG_FS_AUTO_FD fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
      return errno;
    errnum = dg_fs_tree_empty(fd, &ignored);
  }
  if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT && !errnum)
    errnum = errno;
  return errnum;
}
