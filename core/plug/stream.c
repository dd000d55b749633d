/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/plug/stream.h"

#include "common/clock.h"

#include "common/banned.h"

/* Is `op` within the struct the other side was built with, and set? */
#define HAS_OP(ops, type, op) \
  ((ops)->struct_size >= offsetof(type, op) + sizeof((ops)->op) && (ops)->op)

int dg_normalise(int result, const char *instance, const char *op, struct dg_error *err)
{
  if (result == 0)
    return 0;
  err->detail[sizeof err->detail - 1] = '\0';
  if (result != -1)
    return dg_fail(err, DG_E_INTERNAL, "%s: %s returned %d instead of 0 or -1", instance, op,
                   result);
  if (err->code <= DG_E_OK || err->code >= DG_E_MAX) {
    int32_t code = err->code;

    return dg_fail(err, DG_E_INTERNAL, "%s: %s failed with the unknown code %d", instance, op,
                   code);
  }
  return -1;
}

int dg_reader_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                   struct dg_error *err)
{
  size_t len = 0;

  g_assert(capacity > 0);
  if (dg_normalise(reader->ops->read(reader, buffer, capacity, &len, err), "reader", "read", err) <
      0)
    return -1;
  if (len > capacity)
    return dg_fail(err, DG_E_INTERNAL, "reader: read returned %zu bytes into room for %zu", len,
                   capacity);
  *ret_len = len;
  return 0;
}

int dg_reader_read_full(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                        struct dg_error *err)
{
  size_t used = 0;

  while (used < capacity) {
    size_t len;

    if (dg_reader_read(reader, (char *)buffer + used, capacity - used, &len, err) < 0)
      return -1;
    if (len == 0)
      break;
    used += len;
  }
  *ret_len = used;
  return 0;
}

int dg_reader_file_range(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                         uint64_t *ret_length, struct dg_error *err)
{
  if (!HAS_OP(reader->ops, struct dg_reader_ops, file_range))
    return dg_fail(err, DG_E_UNSUPPORTED, "not the bytes of a plain file");
  return dg_normalise(reader->ops->file_range(reader, ret_fd, ret_offset, ret_length, err),
                      "reader", "file_range", err);
}

void dg_reader_close(struct dg_reader *reader)
{
  if (reader)
    reader->ops->close(reader);
}

int dg_call_check(const struct dg_call *call, struct dg_error *err)
{
  if (!call)
    return 0;
  if (call->cancelled && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED))
    return dg_fail(err, DG_E_CANCELLED, "the client left");
  if (call->deadline_mono_ms && dg_time_mono_ms() > call->deadline_mono_ms)
    return dg_fail(err, DG_E_TIMEOUT, "the request's deadline has passed");
  return 0;
}

int dg_reader_drain(struct dg_reader *reader, const struct dg_call *call, dg_sink_fn sink,
                    void *receiver, struct dg_error *err)
{
  g_autofree char *chunk = g_malloc(DG_STREAM_CHUNK);

  for (;;) {
    size_t len = 0;
    int rc;

    if (dg_call_check(call, err) < 0 ||
        dg_reader_read(reader, chunk, DG_STREAM_CHUNK, &len, err) < 0)
      return -1;
    if (len == 0)
      return 0;
    rc = sink(receiver, chunk, len, err);
    if (rc != 0)
      return rc < 0 ? -1 : 0;
  }
}

static int write_piece(void *writer, const void *data, size_t len, struct dg_error *err)
{
  return dg_writer_write(writer, data, len, err);
}

int dg_reader_copy(struct dg_reader *reader, const struct dg_call *call, struct dg_writer *writer,
                   struct dg_error *err)
{
  return dg_reader_drain(reader, call, write_piece, writer, err);
}

int dg_writer_write(struct dg_writer *writer, const void *data, size_t len, struct dg_error *err)
{
  if (len == 0)
    return 0;
  return dg_normalise(writer->ops->write(writer, data, len, err), "writer", "write", err);
}

int dg_writer_commit(struct dg_writer *writer, const struct dg_item *item,
                     const struct dg_meta *meta, struct dg_commit_result *ret_result,
                     struct dg_error *err)
{
  struct dg_commit_result result = {.struct_size = sizeof result};

  if (dg_normalise(writer->ops->commit(writer, item, meta, &result, err), "writer", "commit",
                   err) < 0)
    return -1;
  if (ret_result)
    *ret_result = result;
  return 0;
}

void dg_writer_abort(struct dg_writer *writer)
{
  if (writer)
    writer->ops->abort(writer);
}

int dg_writer_read_back(struct dg_writer *writer, struct dg_reader **ret_reader,
                        struct dg_error *err)
{
  if (!HAS_OP(writer->ops, struct dg_writer_ops, read_back))
    return dg_fail(err, DG_E_UNSUPPORTED, "the backend cannot read back before commit");
  return dg_normalise(writer->ops->read_back(writer, ret_reader, err), "writer", "read_back", err);
}

int dg_source_read_at(const struct dg_source *source, uint64_t offset, void *buffer, size_t len,
                      struct dg_error *err)
{
  uint64_t end;

  if (__builtin_add_overflow(offset, len, &end) || end > source->size_bytes)
    return dg_fail(err, DG_E_INTERNAL, "source: %zu bytes at %llu are past its end", len,
                   (unsigned long long)offset);
  if (len == 0)
    return 0;
  return dg_normalise(source->read_at(source->self, offset, buffer, len, err), "source", "read_at",
                      err);
}

/* ---- Streams of SERIAL plugins ------------------------------------------------- */

struct serial_reader {
  struct dg_reader reader; /* first */
  struct dg_reader *inner;
  GMutex *mutex;
};

static int serial_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct serial_reader *serial = (struct serial_reader *)reader;
  int result;

  g_mutex_lock(serial->mutex);
  result = dg_reader_read(serial->inner, buffer, capacity, ret_len, err);
  g_mutex_unlock(serial->mutex);
  return result;
}

static int serial_file_range(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                             uint64_t *ret_length, struct dg_error *err)
{
  struct serial_reader *serial = (struct serial_reader *)reader;
  int result;

  g_mutex_lock(serial->mutex);
  result = dg_reader_file_range(serial->inner, ret_fd, ret_offset, ret_length, err);
  g_mutex_unlock(serial->mutex);
  return result;
}

static void serial_reader_close(struct dg_reader *reader)
{
  struct serial_reader *serial = (struct serial_reader *)reader;

  g_mutex_lock(serial->mutex);
  dg_reader_close(serial->inner);
  g_mutex_unlock(serial->mutex);
  g_free(serial);
}

static const struct dg_reader_ops serial_reader_ops = {
  .struct_size = sizeof serial_reader_ops,
  .read = serial_read,
  .file_range = serial_file_range,
  .close = serial_reader_close,
};

struct dg_reader *dg_reader_serialise(struct dg_reader *reader, GMutex *mutex)
{
  struct serial_reader *serial = g_new0(struct serial_reader, 1);

  serial->reader.ops = &serial_reader_ops;
  serial->inner = reader;
  serial->mutex = mutex;
  return &serial->reader;
}

struct serial_writer {
  struct dg_writer writer; /* first */
  struct dg_writer *inner;
  GMutex *mutex;
};

static int serial_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct serial_writer *serial = (struct serial_writer *)writer;
  int result;

  g_mutex_lock(serial->mutex);
  result = dg_writer_write(serial->inner, data, len, err);
  g_mutex_unlock(serial->mutex);
  return result;
}

static int serial_commit(struct dg_writer *writer, const struct dg_item *item,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct serial_writer *serial = (struct serial_writer *)writer;
  int result;

  g_mutex_lock(serial->mutex);
  result = dg_writer_commit(serial->inner, item, meta, ret_result, err);
  g_mutex_unlock(serial->mutex);
  g_free(serial);
  return result;
}

static void serial_abort(struct dg_writer *writer)
{
  struct serial_writer *serial = (struct serial_writer *)writer;

  g_mutex_lock(serial->mutex);
  dg_writer_abort(serial->inner);
  g_mutex_unlock(serial->mutex);
  g_free(serial);
}

static int serial_read_back(struct dg_writer *writer, struct dg_reader **ret_reader,
                            struct dg_error *err)
{
  struct serial_writer *serial = (struct serial_writer *)writer;
  struct dg_reader *inner = NULL;
  int result;

  g_mutex_lock(serial->mutex);
  result = dg_writer_read_back(serial->inner, &inner, err);
  g_mutex_unlock(serial->mutex);
  if (result == 0)
    *ret_reader = dg_reader_serialise(inner, serial->mutex);
  return result;
}

static const struct dg_writer_ops serial_writer_ops = {
  .struct_size = sizeof serial_writer_ops,
  .write = serial_write,
  .commit = serial_commit,
  .abort = serial_abort,
  .read_back = serial_read_back,
};

struct dg_writer *dg_writer_serialise(struct dg_writer *writer, GMutex *mutex)
{
  struct serial_writer *serial = g_new0(struct serial_writer, 1);

  serial->writer.ops = &serial_writer_ops;
  serial->inner = writer;
  serial->mutex = mutex;
  return &serial->writer;
}
