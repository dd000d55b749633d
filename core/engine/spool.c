/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fault.h"
#include "core/engine/readers.h"
#include "core/plug/stream.h"

#include "common/banned.h"

#define NAME_PREFIX "spool-"
#define NAME_LEN (sizeof NAME_PREFIX - 1 + 6)

/* The budget is asked for so much at a time. */
#define BUDGET_STEP (UINT64_C(1) << 20)

/* A request's room on the disk, given back when its spools and their readers are gone. */
struct dg_spool_room {
  gint refs;
  struct dg_spool_budget *budget; /* NULL: not counted */
  uint64_t bytes;
};

struct dg_spool {
  const char *dir;
  struct dg_spool_room *share;
  uint64_t room_bytes; /* what of it is this spool's */
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
    g_autofree char *path = g_strdup_printf("%s/" NAME_PREFIX "XXXXXX", dir);

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

void dg_spool_sweep(const char *path)
{
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    struct stat st;

    /* Its bytes come when the name has gone: whatever holds some is somebody else's. */
    if (g_str_has_prefix(name, NAME_PREFIX) && strlen(name) == NAME_LEN &&
        lstat(child, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0)
      (void)unlink(child);
  }
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

void dg_spool_room_unref(struct dg_spool_room *share)
{
  if (!share || !g_atomic_int_dec_and_test(&share->refs))
    return;
  if (share->bytes)
    dg_spool_budget_give(share->budget, share->bytes);
  g_free(share);
}

struct dg_spool *dg_spool_new(const char *dir, struct dg_spool_budget *budget, size_t memory_max)
{
  struct dg_spool *spool = g_new0(struct dg_spool, 1);

  spool->dir = dir;
  spool->share = g_new0(struct dg_spool_room, 1);
  spool->share->refs = 1;
  spool->share->budget = budget;
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
  dg_spool_room_unref(spool->share);
  g_free(spool);
}

static void join_room(struct dg_spool *spool, struct dg_spool_room *room)
{
  g_assert(spool->room_bytes == 0);
  g_atomic_int_inc(&room->refs);
  dg_spool_room_unref(spool->share);
  spool->share = room;
}

void dg_spool_join(struct dg_spool *spool, const struct dg_spool *other)
{
  join_room(spool, other->share);
}

void dg_spool_join_room(struct dg_spool *spool, struct dg_spool_room *room)
{
  if (room)
    join_room(spool, room);
}

static uint64_t whole_steps(uint64_t bytes)
{
  return (bytes + BUDGET_STEP - 1) / BUDGET_STEP * BUDGET_STEP;
}

/* Room in the file for so many bytes in all. */
static int make_room(struct dg_spool *spool, uint64_t size_bytes, struct dg_error *err)
{
  struct dg_spool_room *share = spool->share;
  uint64_t more;

  if (!share->budget || size_bytes <= spool->room_bytes)
    return 0;
  more = whole_steps(size_bytes) - spool->room_bytes;
  if (!dg_spool_budget_grow(share->budget, share->bytes, more))
    return dg_fail(err, DG_E_SLOW_DOWN, "the spool has no room left (spool_max_bytes)");
  share->bytes += more;
  spool->room_bytes += more;
  return 0;
}

int dg_spool_reserve(struct dg_spool *spool, const struct dg_call *call, uint64_t size_bytes,
                     bool *ret_deferred, struct dg_error *err)
{
  struct dg_spool_room *share = spool->share;

  if (!share->budget || size_bytes <= spool->memory_max)
    return 0;
  if (share->bytes) /* who holds some must not wait for others, who may do the same */
    return make_room(spool, size_bytes, err);
  if (dg_spool_budget_take(share->budget, call, whole_steps(size_bytes), ret_deferred, err) < 0)
    return -1;
  share->bytes = spool->room_bytes = whole_steps(size_bytes);
  return 0;
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
  if ((spool->fd >= 0 || len > spool->memory_max - spool->memory->len) &&
      make_room(spool, spool->size_bytes + len, err) < 0)
    return -1;
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

/* Keeps the spool's room until it is closed. It does not give its file away: that
 * would be sent, at the client's pace, after the reader was closed. */
struct counted_reader {
  struct dg_reader reader;
  struct dg_reader *inner;
  struct dg_spool_room *share;
};

static int counted_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                        struct dg_error *err)
{
  return dg_reader_read(((struct counted_reader *)reader)->inner, buffer, capacity, ret_len, err);
}

static void counted_close(struct dg_reader *reader)
{
  struct counted_reader *self = (struct counted_reader *)reader;

  dg_reader_close(self->inner);
  dg_spool_room_unref(self->share);
  g_free(self);
}

static const struct dg_reader_ops counted_ops = {
  .struct_size = sizeof counted_ops,
  .read = counted_read,
  .close = counted_close,
};

struct dg_spool_room *dg_spool_room_of(const struct dg_reader *reader)
{
  struct dg_spool_room *room;

  if (reader->ops != &counted_ops)
    return NULL;
  room = ((const struct counted_reader *)reader)->share;
  g_atomic_int_inc(&room->refs);
  return room;
}

static struct dg_reader *count(struct dg_spool_room *share, struct dg_reader *inner)
{
  struct counted_reader *self;

  if (share->bytes == 0)
    return inner;
  self = g_new0(struct counted_reader, 1);
  self->reader.ops = &counted_ops;
  self->inner = inner;
  g_atomic_int_inc(&share->refs);
  self->share = share;
  return &self->reader;
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
  *ret_reader = count(spool->share, dg_file_reader_new(fd, offset, length));
  return 0;
}
