/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/hex.h"
#include "common/oserror.h"

#include "common/banned.h"

#define MEMORY_MAX_BYTES (256u * 1024)
#define STEP_BYTES (256u * 1024)

struct dg_s3_spool *dg_s3_spool_new(const char *dir)
{
  struct dg_s3_spool *spool = g_new0(struct dg_s3_spool, 1);

  spool->dir = dir;
  spool->memory = g_byte_array_new();
  spool->fd = -1;
  spool->refs = 1;
  return spool;
}

struct dg_s3_spool *dg_s3_spool_ref(struct dg_s3_spool *spool)
{
  g_atomic_int_inc(&spool->refs);
  return spool;
}

void dg_s3_spool_unref(struct dg_s3_spool *spool)
{
  if (!spool || !g_atomic_int_dec_and_test(&spool->refs))
    return;
  dg_s3_sums_free(spool->sums);
  if (spool->memory)
    g_byte_array_unref(spool->memory);
  if (spool->fd >= 0)
    (void)close(spool->fd);
  g_free(spool);
}

void dg_s3_spool_sum_parts(struct dg_s3_spool *spool, uint64_t part_bytes, struct dg_crew *crew)
{
  g_assert(spool->length == 0 && !spool->sums);
  spool->sums = dg_s3_sums_new(part_bytes, crew);
}

static int fail_errno(struct dg_error *err, int number, const char *what, const char *dir)
{
  return dg_fail(err, dg_errno_code(number), "%s in spool_dir '%s': %s", what, dir, g_strerror(number));
}

/* Unnamed where the filesystem can, else named for an instant. */
static int open_file(const char *dir, struct dg_error *err)
{
  g_autofree char *path = NULL;
  int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

  if (fd >= 0)
    return fd;
  path = g_build_filename(dir, "s3-body-XXXXXX", NULL);
  fd = mkostemp(path, O_CLOEXEC);
  if (fd < 0)
    return fail_errno(err, errno, "make a file", dir);
  (void)unlink(path);
  return fd;
}

static int write_all(struct dg_s3_spool *spool, const char *data, size_t len, struct dg_error *err)
{
  while (len) {
    ssize_t put = pwrite(spool->fd, data, len, (off_t)spool->length);

    if (put < 0 && errno == EINTR)
      continue;
    if (put < 0)
      return fail_errno(err, errno, "write", spool->dir);
    data += put;
    len -= (size_t)put;
    spool->length += (uint64_t)put;
  }
  return 0;
}

int dg_s3_spool_append(struct dg_s3_spool *spool, const void *data, size_t len,
                       struct dg_error *err)
{
  if (spool->sums)
    dg_s3_sums_add(spool->sums, data, len);
  if (spool->memory && spool->length + len <= MEMORY_MAX_BYTES) {
    (void)g_byte_array_append(spool->memory, data, (guint)len);
    spool->length += len;
    return 0;
  }
  if (spool->memory) {
    g_autoptr(GByteArray) kept = NULL;

    spool->fd = open_file(spool->dir, err);
    if (spool->fd < 0)
      return -1;
    kept = g_steal_pointer(&spool->memory);
    spool->length = 0;
    if (write_all(spool, (const char *)kept->data, kept->len, err) < 0)
      return -1;
  }
  return write_all(spool, data, len, err);
}

int dg_s3_spool_read_at(const struct dg_s3_spool *spool, uint64_t offset, void *buffer, size_t len,
                        struct dg_error *err)
{
  char *at = buffer;

  if (offset > spool->length || len > spool->length - offset)
    return dg_fail(err, DG_E_INTERNAL, "a spool of %" G_GUINT64_FORMAT " bytes is read past its end",
                   spool->length);
  if (spool->memory) {
    if (len)
      memcpy(at, spool->memory->data + offset, len);
    return 0;
  }
  while (len) {
    ssize_t got = pread(spool->fd, at, len, (off_t)offset);

    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return fail_errno(err, got < 0 ? errno : EIO, "read", spool->dir);
    at += got;
    offset += (uint64_t)got;
    len -= (size_t)got;
  }
  return 0;
}

struct dg_s3_body dg_s3_spool_body(const struct dg_s3_spool *spool, uint64_t offset,
                                   uint64_t length)
{
  struct dg_s3_body body = {.fd = spool->fd, .offset = offset, .length = length};

  if (spool->memory)
    body.memory = length ? (const char *)spool->memory->data + offset : "";
  return body;
}

int dg_s3_spool_sha256(const struct dg_s3_spool *spool, uint64_t offset, uint64_t length,
                       char out[65], struct dg_error *err)
{
  g_autofree char *buffer = NULL;
  struct dg_checksum sum = {0};
  uint8_t digest[DG_SUM_MAX_BYTES];
  int rc = 0;

  if (spool->sums && dg_s3_sums_find(spool->sums, offset, length, digest)) {
    dg_hex_encode(digest, 32, out);
    return 0;
  }
  buffer = g_malloc(STEP_BYTES);
  dg_checksum_init(&sum, DG_SUM_SHA256);
  while (rc == 0 && length) {
    size_t step = (size_t)MIN(length, STEP_BYTES);

    rc = dg_s3_spool_read_at(spool, offset, buffer, step, err);
    if (rc == 0)
      dg_checksum_update(&sum, buffer, step);
    offset += step;
    length -= step;
  }
  if (rc == 0) {
    (void)dg_checksum_final(&sum, digest);
    dg_hex_encode(digest, 32, out);
  }
  dg_checksum_clear(&sum);
  return rc;
}

/* ---- Reading back ----------------------------------------------------------------------- */

struct spool_reader {
  struct dg_reader reader; /* first */
  struct dg_s3_spool *spool;
  uint64_t at, end;
};

static int spool_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                      struct dg_error *err)
{
  struct spool_reader *self = (struct spool_reader *)reader;
  size_t len = (size_t)MIN((uint64_t)capacity, self->end - self->at);

  if (dg_s3_spool_read_at(self->spool, self->at, buffer, len, err) < 0)
    return -1;
  self->at += len;
  *ret_len = len;
  return 0;
}

static void spool_close(struct dg_reader *reader)
{
  struct spool_reader *self = (struct spool_reader *)reader;

  if (!self)
    return;
  dg_s3_spool_unref(self->spool);
  g_free(self);
}

static const struct dg_reader_ops spool_reader_ops = {
  .struct_size = sizeof spool_reader_ops,
  .read = spool_read,
  .close = spool_close,
};

struct dg_reader *dg_s3_spool_reader(struct dg_s3_spool *spool)
{
  struct spool_reader *self = g_new0(struct spool_reader, 1);

  self->reader.ops = &spool_reader_ops;
  self->spool = dg_s3_spool_ref(spool);
  self->end = spool->length;
  return &self->reader;
}
