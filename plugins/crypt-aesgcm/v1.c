/* SPDX-License-Identifier: Apache-2.0 */
/* The older format: IV[12] | ciphertext | tag[16], one piece, no marker bytes, no
 * additional data. Nothing of it can be trusted before all of it was read, so a
 * reader decrypts into memory, or a file without a name, and gives from there. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "plugins/crypt-aesgcm/sealer.h"

#include "common/banned.h"

#define STEP (256u * 1024u)
#define IN_MEMORY (1024u * 1024u) /* larger bodies go to a file */

/* ---- Writing ----------------------------------------------------------------------- */

struct v1_writer {
  struct dg_sealer sealer; /* first */
  bool begun;
  uint8_t iv[DG_AES_IV];
  uint8_t *out;
};

static int begin(struct v1_writer *self, struct dg_error *err)
{
  if (self->begun)
    return 0;
  self->begun = true;
  return dg_sealer_push(&self->sealer, self->iv, sizeof self->iv, err);
}

static int take(struct dg_sealer *sealer, const uint8_t *data, size_t len, struct dg_error *err)
{
  struct v1_writer *self = (struct v1_writer *)sealer;

  if (begin(self, err) < 0)
    return -1;
  while (len) {
    int part = (int)MIN(len, STEP), done = 0;

    if (EVP_EncryptUpdate(sealer->ctx, self->out, &done, data, part) != 1 || done != part)
      return dg_aes_fail(err, "AES-256-GCM encryption");
    if (dg_sealer_push(sealer, self->out, (size_t)part, err) < 0)
      return -1;
    data += part;
    len -= (size_t)part;
  }
  return 0;
}

static int finish(struct dg_sealer *sealer, struct dg_error *err)
{
  uint8_t tag[DG_AES_TAG];
  int done = 0;

  if (begin((struct v1_writer *)sealer, err) < 0)
    return -1;
  if (EVP_EncryptFinal_ex(sealer->ctx, tag, &done) != 1 ||
      EVP_CIPHER_CTX_ctrl(sealer->ctx, EVP_CTRL_AEAD_GET_TAG, sizeof tag, tag) != 1)
    return dg_aes_fail(err, "AES-256-GCM encryption");
  return dg_sealer_push(sealer, tag, sizeof tag, err);
}

static void release(struct dg_sealer *sealer)
{
  struct v1_writer *self = (struct v1_writer *)sealer;

  g_free(self->out);
  g_free(self);
}

static const struct dg_sealer_format format = {
  .max_size = DG_AES_V1_MAX,
  .take = take,
  .finish = finish,
  .release = release,
};

int dg_v1_seal(struct dg_aes *aes, const struct dg_seal_params *params, struct dg_writer *inner,
               struct dg_meta *marks, struct dg_writer **ret_writer, struct dg_error *err)
{
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  struct v1_writer *self;
  uint8_t iv[DG_AES_IV];

  (void)marks;
  if (aes->random(iv, sizeof iv, err) < 0) {
    EVP_CIPHER_CTX_free(ctx);
    return -1;
  }
  if (!ctx || EVP_CIPHER_CTX_copy(ctx, aes->keys.primary.ctx) != 1 ||
      EVP_EncryptInit_ex2(ctx, NULL, NULL, iv, NULL) != 1) {
    EVP_CIPHER_CTX_free(ctx);
    return dg_aes_fail(err, "AES-256-GCM");
  }
  self = g_new0(struct v1_writer, 1);
  dg_sealer_init(&self->sealer, &format, inner, ctx, params->plain_size);
  memcpy(self->iv, iv, sizeof iv);
  self->out = g_malloc(STEP);
  *ret_writer = &self->sealer.writer;
  return 0;
}

/* ---- Reading ----------------------------------------------------------------------- */

struct v1_reader {
  struct dg_reader reader; /* first: the public face */
  struct dg_aes *aes;
  uint64_t size;           /* of the whole plaintext */
  uint64_t at, end;        /* what is still to be given */
  uint8_t *memory;         /* one of these two */
  int fd;
};

static int reader_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct v1_reader *self = (struct v1_reader *)reader;
  size_t want = (size_t)MIN((uint64_t)MIN(capacity, (size_t)SSIZE_MAX), self->end - self->at);
  ssize_t got = (ssize_t)want;

  if (want && self->memory) {
    memcpy(buffer, self->memory + self->at, want);
  } else if (want) {
    do
      got = pread(self->fd, buffer, want, (off_t)self->at);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
      return dg_fail(err, DG_E_IO, "read of the spool: %s",
                     got < 0 ? g_strerror(errno) : "it is too short");
  }
  self->at += (uint64_t)got;
  *ret_len = (size_t)got;
  return 0;
}

/* The spool is a plain file, and verified. Whoever takes it keeps its space after
 * the reader is closed and no longer counted: those are few and short-lived. */
static int reader_file_range(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                             uint64_t *ret_length, struct dg_error *err)
{
  struct v1_reader *self = (struct v1_reader *)reader;
  int fd;

  if (self->memory)
    return dg_fail(err, DG_E_UNSUPPORTED, "the body is in memory");
  fd = fcntl(self->fd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0)
    return dg_fail(err, DG_E_IO, "open the spool again: %s", g_strerror(errno));
  *ret_fd = fd;
  *ret_offset = self->at;
  *ret_length = self->end - self->at;
  return 0;
}

static void reader_close(struct dg_reader *reader)
{
  struct v1_reader *self = (struct v1_reader *)reader;

  if (!self)
    return;
  if (self->memory)
    OPENSSL_cleanse(self->memory, (size_t)self->size);
  g_free(self->memory);
  if (self->fd >= 0) {
    (void)close(self->fd);
    (void)atomic_fetch_sub(&self->aes->spooled, self->size);
  }
  g_free(self);
}

static const struct dg_reader_ops reader_ops = {
  .struct_size = sizeof reader_ops,
  .read = reader_read,
  .file_range = reader_file_range,
  .close = reader_close,
};

/* A file that is gone with its descriptor, whatever happens. */
static int open_spool(struct v1_reader *self, struct dg_error *err)
{
  struct dg_aes *aes = self->aes;
  const char *dir = aes->host->cache_dir ? aes->host->cache_dir : g_get_tmp_dir();
  uint64_t limit = aes->spool_limit, before = atomic_fetch_add(&aes->spooled, self->size);

  if (self->size > limit || before > limit - self->size) {
    (void)atomic_fetch_sub(&aes->spooled, self->size);
    return dg_fail(err, DG_E_SLOW_DOWN,
                   "%" G_GUINT64_FORMAT " bytes of the older format do not fit spool_limit now",
                   self->size);
  }
  self->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (self->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    g_autofree char *path = g_build_filename(dir, "unseal-XXXXXX", NULL);

    self->fd = mkostemp(path, O_CLOEXEC);
    if (self->fd >= 0)
      (void)unlink(path);
  }
  if (self->fd >= 0)
    return 0;
  (void)atomic_fetch_sub(&aes->spooled, self->size);
  return dg_fail(err, errno == ENOSPC ? DG_E_NO_SPACE : DG_E_IO, "open a spool file in '%s': %s",
                 dir, g_strerror(errno));
}

static int keep(struct v1_reader *self, const uint8_t *data, size_t len, uint64_t offset,
                struct dg_error *err)
{
  if (self->memory) {
    memcpy(self->memory + offset, data, len);
    return 0;
  }
  while (len) {
    ssize_t put = pwrite(self->fd, data, len, (off_t)offset);

    if (put < 0 && errno == EINTR)
      continue;
    if (put <= 0)
      return dg_fail(err, put == 0 || errno == ENOSPC || errno == EDQUOT ? DG_E_NO_SPACE : DG_E_IO,
                     "write to the spool: %s", g_strerror(put < 0 ? errno : ENOSPC));
    data += put;
    len -= (size_t)put;
    offset += (uint64_t)put;
  }
  return 0;
}

static int check_call(const struct dg_call *call, struct dg_error *err)
{
  if (call && call->cancelled && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED))
    return dg_fail(err, DG_E_CANCELLED, "the client left");
  return 0;
}

static int decrypt(struct v1_reader *self, const struct dg_call *call, EVP_CIPHER_CTX *ctx,
                   struct dg_reader *inner, struct dg_error *err)
{
  g_autofree uint8_t *in = g_malloc(STEP), *out = g_malloc(STEP);
  uint8_t iv[DG_AES_IV], tag[DG_AES_TAG];
  int done = 0, rc = dg_aes_read_exact(inner, iv, sizeof iv, err);

  if (rc == 0 && EVP_DecryptInit_ex2(ctx, NULL, NULL, iv, NULL) != 1)
    rc = dg_aes_fail(err, "AES-256-GCM");
  for (uint64_t offset = 0; rc == 0 && offset < self->size;) {
    size_t part = (size_t)MIN(self->size - offset, STEP);

    rc = check_call(call, err);
    if (rc == 0)
      rc = dg_aes_read_exact(inner, in, part, err);
    if (rc == 0 && EVP_DecryptUpdate(ctx, out, &done, in, (int)part) != 1)
      rc = dg_aes_fail(err, "AES-256-GCM decryption");
    if (rc == 0)
      rc = keep(self, out, part, offset, err);
    offset += part;
  }
  OPENSSL_cleanse(out, STEP);
  if (rc < 0 || dg_aes_read_exact(inner, tag, sizeof tag, err) < 0 ||
      dg_aes_read_end(inner, err) < 0)
    return -1;
  if (EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) != 1 ||
      EVP_DecryptFinal_ex(ctx, tag, &done) != 1)
    return dg_fail(err, DG_E_CORRUPT, "decryption failed (wrong key or tampered data)");
  return 0;
}

int dg_v1_unseal(struct dg_aes *aes, const struct dg_call *call, const EVP_CIPHER_CTX *key,
                 const struct dg_unseal_params *params, struct dg_reader **ret_reader,
                 struct dg_error *err)
{
  struct v1_reader *self = g_new0(struct v1_reader, 1);
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  struct dg_reader *inner = NULL;
  int rc = 0;

  self->reader.ops = &reader_ops;
  self->aes = aes;
  self->fd = -1;
  self->size = params->plain_size;
  self->at = params->plain.offset;
  self->end = params->plain.offset + params->plain.length;
  if (!ctx || EVP_CIPHER_CTX_copy(ctx, key) != 1)
    rc = dg_aes_fail(err, "AES-256-GCM");
  else if (self->size <= IN_MEMORY)
    self->memory = g_malloc((size_t)self->size + 1);
  else
    rc = open_spool(self, err);
  if (rc == 0 &&
      params->fetch(params->receiver, (struct dg_range){0, DG_TO_END}, &inner, err) == 0) {
    rc = decrypt(self, call, ctx, inner, err);
    inner->ops->close(inner);
  } else {
    rc = -1;
  }
  EVP_CIPHER_CTX_free(ctx);
  if (rc < 0) {
    reader_close(&self->reader);
    return -1;
  }
  *ret_reader = &self->reader;
  return 0;
}
