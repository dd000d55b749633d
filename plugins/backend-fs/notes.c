/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "notes.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "path.h"

#include "common/banned.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct name {
  char text[DG_NOTE_ID_MAX + 1];
};

static struct name name_of(struct dg_slice id)
{
  struct name name = {""};

  memcpy(name.text, id.data, MIN(id.len, DG_NOTE_ID_MAX));
  return name;
}

/* *ret_fd: of the bucket's notes; -1 when it has none and they are not to be made. */
static int open_notes(struct dg_fs *fs, struct dg_slice bucket, bool make, int *ret_fd,
                      struct dg_error *err)
{
  g_autofree char *name = g_strndup(bucket.data, bucket.len);
  DG_FS_AUTO_FD bucket_fd = -1;
  int fd;

  if (!dg_fs_bucket_name_valid(bucket))
    return dg_fail(err, DG_E_NO_SUCH_BUCKET, "no bucket has such a name");
  bucket_fd = openat(fs->root_fd, name, DIR_FLAGS);
  if (bucket_fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
    return dg_fail(err, DG_E_NO_SUCH_BUCKET, "no directory '%s' in %s", name, fs->root_path);
  if (bucket_fd < 0)
    return dg_fs_fail(err, errno, "open bucket '%s'", name);
  fd = openat(bucket_fd, DG_FS_NOTES, DIR_FLAGS);
  if (fd < 0 && errno == ENOENT && make) {
    if ((mkdirat(bucket_fd, DG_FS_NOTES, 0777) < 0 && errno != EEXIST) || fsync(bucket_fd) < 0)
      return dg_fs_fail(err, errno, "make '%s/" DG_FS_NOTES "'", name);
    fd = openat(bucket_fd, DG_FS_NOTES, DIR_FLAGS);
  }
  if (fd < 0 && (make || errno != ENOENT))
    return dg_fs_fail(err, errno, "open '%s/" DG_FS_NOTES "'", name);
  *ret_fd = fd;
  return 0;
}

/* Returns 0 or an errno. */
static int write_all(int fd, struct dg_slice text)
{
  while (text.len) {
    ssize_t put = write(fd, text.data, text.len);

    if (put < 0 && errno == EINTR)
      continue;
    if (put < 0)
      return errno;
    text.data += put;
    text.len -= (size_t)put;
  }
  return fsync(fd) < 0 ? errno : 0;
}

/* A durable temporary gets its name. Returns 0 or an errno. */
static int store(struct dg_fs *fs, int notes_fd, const char *name, struct dg_slice text)
{
  DG_FS_AUTO_FD fd = -1;
  char temp[32];
  int errnum = dg_fs_step(fs, "fs.note.write");

  if (errnum)
    return errnum;
  dg_fs_temp_name(fs, temp);
  fd = openat(fs->staging_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0)
    return errno;
  errnum = write_all(fd, text);
  if (!errnum)
    errnum = dg_fs_step(fs, "fs.note.rename");
  if (!errnum && renameat(fs->staging_fd, temp, notes_fd, name) < 0)
    errnum = errno;
  if (errnum)
    (void)unlinkat(fs->staging_fd, temp, 0);
  else if (fsync(notes_fd) < 0)
    errnum = errno;
  return errnum;
}

int dg_fs_note_put(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice id,
                   struct dg_slice text, struct dg_error *err)
{
  pthread_rwlock_t *lock = dg_fs_bucket_lock(fs, bucket);
  struct name name = name_of(id);
  DG_FS_AUTO_FD fd = -1;
  int rc, errnum;

  (void)pthread_rwlock_rdlock(lock);
  rc = open_notes(fs, bucket, /* make= */ true, &fd, err);
  errnum = rc == 0 ? store(fs, fd, name.text, text) : 0;
  (void)pthread_rwlock_unlock(lock);
  return errnum ? dg_fs_fail(err, errnum, "write a note") : rc;
}

int dg_fs_note_get(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice id, char *buffer,
                   size_t *ret_len, struct dg_error *err)
{
  struct name name = name_of(id);
  DG_FS_AUTO_FD notes_fd = -1;
  DG_FS_AUTO_FD fd = -1;
  size_t len = 0;

  if (open_notes(fs, bucket, /* make= */ false, &notes_fd, err) < 0)
    return -1;
  fd = notes_fd < 0 ? -1 : openat(notes_fd, name.text, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (notes_fd < 0 || (fd < 0 && errno == ENOENT))
    return dg_fail(err, DG_E_NO_SUCH_KEY, "no note '%s'", name.text);
  if (fd < 0)
    return dg_fs_fail(err, errno, "open a note");
  while (len < DG_NOTE_MAX) {
    ssize_t got = read(fd, buffer + len, DG_NOTE_MAX - len);

    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return dg_fs_fail(err, errno, "read a note");
    if (got == 0)
      break;
    len += (size_t)got;
  }
  *ret_len = len;
  return 0;
}

int dg_fs_note_remove(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice id,
                      struct dg_error *err)
{
  struct name name = name_of(id);
  DG_FS_AUTO_FD fd = -1;
  int errnum = dg_fs_step(fs, "fs.note.remove");

  if (errnum)
    return dg_fs_fail(err, errnum, "remove a note");
  if (open_notes(fs, bucket, /* make= */ false, &fd, err) < 0)
    return err->code == DG_E_NO_SUCH_BUCKET ? 0 : -1;
  if (fd >= 0 && unlinkat(fd, name.text, 0) < 0 && errno != ENOENT)
    return dg_fs_fail(err, errno, "remove a note");
  return 0;
}
