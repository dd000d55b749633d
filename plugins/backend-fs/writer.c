/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "commit.h"
#include "reader.h"

#include "common/banned.h"

/* Small writes are gathered to this size; larger ones go straight through. */
#define GATHER_BYTES (256u * 1024u)
#define DIRECT_BYTES (64u * 1024u)
/* Write-back starts every so many bytes, so that little is left for fsync. */
#define WRITEBACK_BYTES (UINT64_C(8) * 1024u * 1024u)

struct fs_writer {
  struct dg_writer writer; /* first: the public face */
  struct dg_fs *fs;
  const struct dg_call *call; /* borrowed as long as the writer lives */
  int fd;
  char temp[32];
  uint64_t written, writeback_from;
  char *gathered;
  size_t gathered_len;
};

static int write_out(struct fs_writer *self, const char *data, size_t len, struct dg_error *err)
{
  int errnum = dg_fs_step(self->fs, "fs.put.write");

  while (!errnum && len) {
    ssize_t put = pwrite(self->fd, data, len, (off_t)self->written);

    if (put < 0 && errno == EINTR)
      continue;
    if (put < 0) {
      errnum = errno;
      break;
    }
    data += put;
    len -= (size_t)put;
    self->written += (uint64_t)put;
  }
  if (errnum)
    return dg_fs_fail(err, errnum, "write byte %" G_GUINT64_FORMAT " of a new object",
                      self->written);
  if (self->written - self->writeback_from >= WRITEBACK_BYTES) {
    /* Only a hint: what cannot be started now is written by fsync. */
    (void)sync_file_range(self->fd, (off_t)self->writeback_from,
                          (off_t)(self->written - self->writeback_from), SYNC_FILE_RANGE_WRITE);
    self->writeback_from = self->written;
  }
  return 0;
}

static int flush(struct fs_writer *self, struct dg_error *err)
{
  size_t len = self->gathered_len;

  self->gathered_len = 0;
  return len ? write_out(self, self->gathered, len, err) : 0;
}

static int writer_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct fs_writer *self = (struct fs_writer *)writer;

  if (dg_fs_check_call(self->call, err) < 0)
    return -1;
  if (self->gathered_len + len > GATHER_BYTES || len >= DIRECT_BYTES) {
    if (flush(self, err) < 0)
      return -1;
    if (len >= DIRECT_BYTES)
      return write_out(self, data, len, err);
  }
  if (len == 0)
    return 0;
  if (!self->gathered)
    self->gathered = g_malloc(GATHER_BYTES);
  memcpy(self->gathered + self->gathered_len, data, len);
  self->gathered_len += len;
  return 0;
}

static void writer_free(struct fs_writer *self)
{
  if (self->fd >= 0)
    (void)close(self->fd);
  if (self->temp[0])
    (void)unlinkat(self->fs->staging_fd, self->temp, 0);
  g_free(self->gathered);
  g_free(self);
}

static void writer_abort(struct dg_writer *writer)
{
  if (writer)
    writer_free((struct fs_writer *)writer);
}

static int writer_commit(struct dg_writer *writer, const struct dg_item *item,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct fs_writer *self = (struct fs_writer *)writer;
  int rc = dg_fs_check_call(self->call, err);

  if (rc == 0)
    rc = flush(self, err);
  if (rc == 0)
    rc = dg_fs_commit(self->fs, self->fd, self->temp, item, meta, err);
  if (rc == 0 && ret_result)
    ret_result->stored_size = self->written;
  writer_free(self);
  return rc;
}

static int writer_read_back(struct dg_writer *writer, struct dg_reader **ret_reader,
                            struct dg_error *err)
{
  struct fs_writer *self = (struct fs_writer *)writer;
  int fd;

  if (flush(self, err) < 0)
    return -1;
  fd = fcntl(self->fd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0)
    return dg_fs_fail(err, errno, "duplicate a file descriptor");
  *ret_reader = dg_fs_reader_new(self->fs, fd, 0, self->written);
  return 0;
}

static const struct dg_writer_ops writer_ops = {
  .struct_size = sizeof writer_ops,
  .write = writer_write,
  .commit = writer_commit,
  .abort = writer_abort,
  .read_back = writer_read_back,
};

int dg_fs_writer_open(struct dg_fs *fs, const struct dg_call *call, struct dg_writer **ret_writer,
                      struct dg_error *err)
{
  struct fs_writer *self;
  char temp[32];
  int errnum = dg_fs_step(fs, "fs.put.open"), fd = -1;

  dg_fs_temp_name(fs, temp);
  if (!errnum) {
    fd = openat(fs->staging_fd, temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
      errnum = errno;
  }
  if (errnum)
    return dg_fs_fail(err, errnum, "create a temporary in %s/" DG_FS_STAGING, fs->root_path);
  self = g_new0(struct fs_writer, 1);
  self->writer.ops = &writer_ops;
  self->fs = fs;
  self->call = call;
  self->fd = fd;
  memcpy(self->temp, temp, sizeof self->temp);
  *ret_writer = &self->writer;
  return 0;
}
