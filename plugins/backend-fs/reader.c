/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/banned.h"

struct fs_reader {
  struct dg_reader reader; /* first: the public face */
  const struct dg_fs *fs;
  int fd;
  uint64_t at, end;
};

static int reader_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct fs_reader *self = (struct fs_reader *)reader;
  size_t want = (size_t)MIN((uint64_t)MIN(capacity, (size_t)SSIZE_MAX), self->end - self->at);
  int errnum = dg_fs_step(self->fs, "fs.get.read");
  ssize_t got = 0;

  if (errnum)
    return dg_fs_fail(err, errnum, "read at byte %" G_GUINT64_FORMAT, self->at);
  if (want) {
    do
      got = pread(self->fd, buffer, want, (off_t)self->at);
    while (got < 0 && errno == EINTR);
    if (got < 0)
      return dg_fs_fail(err, errno, "read at byte %" G_GUINT64_FORMAT, self->at);
    if (got == 0)
      return dg_fail(err, DG_E_IO,
                     "the file ends at byte %" G_GUINT64_FORMAT ", before the %" G_GUINT64_FORMAT
                     " it had when opened",
                     self->at, self->end);
  }
  self->at += (uint64_t)got;
  *ret_len = (size_t)got;
  return 0;
}

static int reader_file_range(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                             uint64_t *ret_length, struct dg_error *err)
{
  struct fs_reader *self = (struct fs_reader *)reader;
  int fd = fcntl(self->fd, F_DUPFD_CLOEXEC, 3);

  if (fd < 0)
    return dg_fs_fail(err, errno, "duplicate a file descriptor");
  *ret_fd = fd;
  *ret_offset = self->at;
  *ret_length = self->end - self->at;
  return 0;
}

static void reader_close(struct dg_reader *reader)
{
  struct fs_reader *self = (struct fs_reader *)reader;

  if (!self)
    return;
  (void)close(self->fd);
  g_free(self);
}

static const struct dg_reader_ops reader_ops = {
  .struct_size = sizeof reader_ops,
  .read = reader_read,
  .file_range = reader_file_range,
  .close = reader_close,
};

struct dg_reader *dg_fs_reader_new(const struct dg_fs *fs, int fd, uint64_t offset,
                                   uint64_t length)
{
  struct fs_reader *self = g_new0(struct fs_reader, 1);

  self->reader.ops = &reader_ops;
  self->fs = fs;
  self->fd = fd;
  self->at = offset;
  self->end = offset + length;
  return &self->reader;
}
