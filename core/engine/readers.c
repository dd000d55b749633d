/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/readers.h"

#include <errno.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "core/plug/stream.h"

#include "common/banned.h"

/* ---- Memory ---------------------------------------------------------------- */

struct bytes_reader {
  struct dg_reader reader;
  GBytes *bytes;
  const char *at;
  size_t left;
};

static int bytes_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                      struct dg_error *err)
{
  struct bytes_reader *self = (struct bytes_reader *)reader;
  size_t len = MIN(capacity, self->left);

  (void)err;
  if (len)
    memcpy(buffer, self->at, len);
  self->at += len;
  self->left -= len;
  *ret_len = len;
  return 0;
}

static void bytes_close(struct dg_reader *reader)
{
  struct bytes_reader *self = (struct bytes_reader *)reader;

  g_bytes_unref(self->bytes);
  g_free(self);
}

static const struct dg_reader_ops bytes_ops = {
  .struct_size = sizeof bytes_ops,
  .read = bytes_read,
  .close = bytes_close,
};

struct dg_reader *dg_bytes_reader_new(GBytes *bytes, uint64_t offset, uint64_t length)
{
  struct bytes_reader *self = g_new0(struct bytes_reader, 1);
  size_t size;
  const char *data = g_bytes_get_data(bytes, &size);

  g_assert(offset <= size && length <= size - offset);
  self->reader.ops = &bytes_ops;
  self->bytes = g_bytes_ref(bytes);
  self->at = data + offset;
  self->left = (size_t)length;
  return &self->reader;
}

/* ---- A local file ---------------------------------------------------------- */

struct file_reader {
  struct dg_reader reader;
  int fd;
  uint64_t offset, left;
};

static int file_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                     struct dg_error *err)
{
  struct file_reader *self = (struct file_reader *)reader;
  size_t want = (size_t)MIN((uint64_t)capacity, self->left);
  ssize_t got = 0;

  if (want) {
    do
      got = pread(self->fd, buffer, want, (off_t)self->offset);
    while (got < 0 && errno == EINTR);
    if (got < 0)
      return dg_fail(err, DG_E_IO, "read of a local file: %s", g_strerror(errno));
    if (got == 0)
      return dg_fail(err, DG_E_IO, "a local file ended %" G_GUINT64_FORMAT " bytes early",
                     self->left);
  }
  self->offset += (uint64_t)got;
  self->left -= (uint64_t)got;
  *ret_len = (size_t)got;
  return 0;
}

static int file_file_range(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                           uint64_t *ret_length, struct dg_error *err)
{
  struct file_reader *self = (struct file_reader *)reader;

  if (self->fd < 0)
    return dg_fail(err, DG_E_UNSUPPORTED, "the file was given away already");
  *ret_fd = self->fd;
  *ret_offset = self->offset;
  *ret_length = self->left;
  self->fd = -1;
  self->left = 0;
  return 0;
}

static void file_close(struct dg_reader *reader)
{
  struct file_reader *self = (struct file_reader *)reader;

  if (self->fd >= 0)
    (void)close(self->fd);
  g_free(self);
}

static const struct dg_reader_ops file_ops = {
  .struct_size = sizeof file_ops,
  .read = file_read,
  .file_range = file_file_range,
  .close = file_close,
};

struct dg_reader *dg_file_reader_new(int fd, uint64_t offset, uint64_t length)
{
  struct file_reader *self = g_new0(struct file_reader, 1);

  self->reader.ops = &file_ops;
  self->fd = fd;
  self->offset = offset;
  self->left = length;
  return &self->reader;
}

/* ---- Verification ------------------------------------------------------------ */

struct verify_reader {
  struct dg_reader reader;
  struct dg_reader *inner;
  EVP_MD_CTX *sha256;
  uint8_t expected[32];
  bool gives_file; /* not once a byte was read: half a check is none */
  uint64_t left;
  void (*report)(void *receiver, const struct dg_error *err);
  void *receiver;
  GDestroyNotify free_receiver;
};

static int verify_end(struct verify_reader *self, struct dg_error *err)
{
  uint8_t digest[EVP_MAX_MD_SIZE], extra;
  size_t more = 0;

  if (dg_reader_read(self->inner, &extra, 1, &more, err) < 0)
    return -1;
  if (more == 0 && EVP_DigestFinal_ex(self->sha256, digest, NULL) == 1 &&
      memcmp(digest, self->expected, sizeof self->expected) == 0) {
    if (self->report)
      self->report(self->receiver, NULL);
    return 0;
  }
  (void)dg_fail(err, DG_E_CORRUPT, "stored bytes do not match their SHA-256");
  if (self->report)
    self->report(self->receiver, err);
  return -1;
}

static int verify_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct verify_reader *self = (struct verify_reader *)reader;
  size_t got = 0;

  self->gives_file = false;
  if (self->left == 0) {
    *ret_len = 0;
    return 0;
  }
  if (dg_reader_read(self->inner, buffer, (size_t)MIN((uint64_t)capacity, self->left),
                             &got, err) < 0)
    return -1;
  if (got == 0) {
    (void)dg_fail(err, DG_E_CORRUPT, "%" G_GUINT64_FORMAT " stored bytes are missing", self->left);
    if (self->report)
      self->report(self->receiver, err);
    return -1;
  }
  if (EVP_DigestUpdate(self->sha256, buffer, got) != 1)
    return dg_fail(err, DG_E_INTERNAL, "SHA-256 failed");
  self->left -= got;
  if (self->left == 0 && verify_end(self, err) < 0)
    return -1;
  *ret_len = got;
  return 0;
}

static int verify_file_range(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                             uint64_t *ret_length, struct dg_error *err)
{
  struct verify_reader *self = (struct verify_reader *)reader;

  if (!self->gives_file)
    return dg_fail(err, DG_E_UNSUPPORTED, "the bytes have to be checked");
  if (dg_reader_file_range(self->inner, ret_fd, ret_offset, ret_length, err) < 0)
    return -1;
  self->left = 0;
  return 0;
}

static void verify_close(struct dg_reader *reader)
{
  struct verify_reader *self = (struct verify_reader *)reader;

  dg_reader_close(self->inner);
  EVP_MD_CTX_free(self->sha256);
  if (self->free_receiver)
    self->free_receiver(self->receiver);
  g_free(self);
}

static const struct dg_reader_ops verify_ops = {
  .struct_size = sizeof verify_ops,
  .read = verify_read,
  .file_range = verify_file_range,
  .close = verify_close,
};

struct dg_reader *dg_verify_reader_new(struct dg_reader *inner, uint64_t size_bytes,
                                       const uint8_t sha256[32], bool gives_file,
                                       void (*report)(void *receiver, const struct dg_error *err),
                                       void *receiver, GDestroyNotify free_receiver)
{
  struct verify_reader *self = g_new0(struct verify_reader, 1);

  self->reader.ops = &verify_ops;
  self->inner = inner;
  self->sha256 = EVP_MD_CTX_new();
  g_assert(self->sha256 && EVP_DigestInit_ex(self->sha256, EVP_sha256(), NULL) == 1);
  memcpy(self->expected, sha256, sizeof self->expected);
  self->gives_file = gives_file;
  self->left = size_bytes;
  self->report = report;
  self->receiver = receiver;
  self->free_receiver = free_receiver;
  return &self->reader;
}
