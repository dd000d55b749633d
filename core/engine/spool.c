/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/fault.h"
#include "core/engine/readers.h"
#include "core/plug/stream.h"

#include "common/banned.h"

struct dg_spool {
  const char *dir;
  size_t memory_max;
  GByteArray *memory; /* everything, while fd is -1 */
  int fd;
  uint64_t size_bytes;
};

int dg_spool_open_file(const char *dir, int *ret_fd, struct dg_error *err)
{
  int number = dg_fault("engine.spool.open");
  int fd = number ? (errno = number, -1) : open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    g_autofree char *path = g_strdup_printf("%s/spool-XXXXXX", dir);

    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
      (void)unlink(path);
  }
  if (fd < 0)
    return dg_fail(err, dg_errno_code(errno), "open a spool file in '%s': %s", dir,
                   g_strerror(errno));
  *ret_fd = fd;
  return 0;
}

int dg_write_all_at(int fd, const void *data, size_t len, uint64_t offset, struct dg_error *err)
{
  const char *at = data;

  while (len) {
    ssize_t wrote = pwrite(fd, at, len, (off_t)offset);

    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote <= 0)
      return dg_fail(err, dg_errno_code(wrote < 0 ? errno : ENOSPC), "write to a local file: %s",
                     g_strerror(wrote < 0 ? errno : ENOSPC));
    at += wrote;
    len -= (size_t)wrote;
    offset += (uint64_t)wrote;
  }
  return 0;
}

struct dg_spool *dg_spool_new(const char *dir, size_t memory_max)
{
  struct dg_spool *spool = g_new0(struct dg_spool, 1);

  spool->dir = dir;
  spool->memory_max = memory_max;
  spool->memory = g_byte_array_new();
  spool->fd = -1;
  return spool;
}

void dg_spool_free(struct dg_spool *spool)
{
  if (!spool)
    return;
  g_byte_array_unref(spool->memory);
  if (spool->fd >= 0)
    (void)close(spool->fd);
  g_free(spool);
}

uint64_t dg_spool_size(const struct dg_spool *spool)
{
  return spool->size_bytes;
}

static int move_to_file(struct dg_spool *spool, struct dg_error *err)
{
  int fd;

  if (dg_spool_open_file(spool->dir, &fd, err) < 0)
    return -1;
  if (dg_write_all_at(fd, spool->memory->data, spool->memory->len, 0, err) < 0) {
    (void)close(fd);
    return -1;
  }
  spool->fd = fd;
  g_byte_array_unref(spool->memory);
  spool->memory = g_byte_array_new();
  return 0;
}

int dg_spool_append(struct dg_spool *spool, const void *data, size_t len, struct dg_error *err)
{
  if (spool->fd < 0 && len > spool->memory_max - spool->memory->len && move_to_file(spool, err) < 0)
    return -1;
  if (spool->fd < 0)
    g_byte_array_append(spool->memory, data, (guint)len);
  else if (dg_write_all_at(spool->fd, data, len, spool->size_bytes, err) < 0)
    return -1;
  spool->size_bytes += len;
  return 0;
}

int dg_spool_copy(struct dg_spool *spool, struct dg_writer *writer, struct dg_error *err)
{
  struct dg_reader *reader;
  int rc;

  if (spool->fd < 0)
    return spool->memory->len
             ? dg_writer_write(writer, spool->memory->data, spool->memory->len, err)
             : 0;
  if (dg_spool_reader(spool, 0, spool->size_bytes, &reader, err) < 0)
    return -1;
  rc = dg_reader_copy(reader, /* call= */ NULL, writer, err);
  dg_reader_close(reader);
  return rc;
}

int dg_spool_reader(struct dg_spool *spool, uint64_t offset, uint64_t length,
                    struct dg_reader **ret_reader, struct dg_error *err)
{
  int fd;

  g_assert(offset <= spool->size_bytes && length <= spool->size_bytes - offset);
  if (spool->fd < 0) {
    g_autoptr(GBytes) bytes = g_bytes_new(spool->memory->data, spool->memory->len);

    *ret_reader = dg_bytes_reader_new(bytes, offset, length);
    return 0;
  }
  fd = fcntl(spool->fd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0)
    return dg_fail(err, dg_errno_code(errno), "open the spool again: %s", g_strerror(errno));
  *ret_reader = dg_file_reader_new(fd, offset, length);
  return 0;
}
