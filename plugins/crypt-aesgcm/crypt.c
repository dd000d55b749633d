/* SPDX-License-Identifier: Apache-2.0 */
/* The instance: its options, what is sealed how, and which part does it. */
#include "config.h"

#include <openssl/err.h>
#include <openssl/rand.h>

#include "common/meta.h"
#include "common/slice.h"
#include "plugins/crypt-aesgcm/aesgcm.h"
#include "plugins/crypt-aesgcm/dge1.h"

#include "common/banned.h"

static const struct dg_option options[] = {
  {.name = "key",
   .type = DG_OPT_SECRET,
   .choices = "^[0-9A-Fa-f]{64}$",
   .help = "The key, 64 hex digits. key_file names a file that holds it instead."},
  {.name = "key_id",
   .type = DG_OPT_STRING,
   .help = "Name of the key, stamped on what it seals; without it, derived from backend and key."},
  {.name = "legacy_key",
   .type = DG_OPT_SECRET,
   .choices = "^[0-9A-Fa-f]{64}$",
   .help = "An older key, 64 hex digits, that only reads. legacy_key_file names a file with it."},
  {.name = "legacy_key_id",
   .type = DG_OPT_STRING,
   .help = "Name of that key, as stamped on what it sealed; without it, derived."},
  {.name = "seal_deltas",
   .type = DG_OPT_ENUM,
   .choices = "streamed|compatible",
   .dflt = "streamed",
   .help = "How references and deltas are written: streamed, or so that DeltaGlider Proxy reads "
           "them."},
  {.name = "spool_limit",
   .type = DG_OPT_SIZE,
   .dflt = "16GiB",
   .min = 1 << 20,
   .max = INT64_MAX,
   .help = "Disk space for bodies of the older format while they are read, all together."},
  {.name = NULL},
};

int dg_aes_fail(struct dg_error *err, const char *what)
{
  char cause[120] = "no cause given";

  if (ERR_peek_last_error())
    ERR_error_string_n(ERR_peek_last_error(), cause, sizeof cause);
  ERR_clear_error();
  return dg_fail(err, DG_E_INTERNAL, "%s failed: %s", what, cause);
}

int dg_aes_random(void *bytes, size_t len, struct dg_error *err)
{
  return RAND_bytes(bytes, (int)len) == 1 ? 0 : dg_aes_fail(err, "the random generator");
}

int dg_aes_read_exact(struct dg_reader *inner, void *buffer, size_t len, struct dg_error *err)
{
  uint8_t *at = buffer;

  while (len) {
    size_t got = 0;

    if (inner->ops->read(inner, at, len, &got, err) < 0)
      return -1;
    if (got == 0)
      return dg_fail(err, DG_E_CORRUPT, "the sealed body ends %zu bytes early", len);
    at += got;
    len -= got;
  }
  return 0;
}

int dg_aes_read_end(struct dg_reader *inner, struct dg_error *err)
{
  uint8_t more;
  size_t got = 0;

  if (inner->ops->read(inner, &more, 1, &got, err) < 0)
    return -1;
  return got ? dg_fail(err, DG_E_CORRUPT, "bytes follow the end of the sealed body") : 0;
}

/* ---- Ops ------------------------------------------------------------------------ */

static int create(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                  struct dg_error *err)
{
  struct dg_aes *aes = g_new0(struct dg_aes, 1);

  aes->host = host;
  aes->random = dg_aes_random;
  aes->v1_deltas = !strcmp(config->get_text(config, "seal_deltas"), "compatible");
  aes->spool_limit = (uint64_t)config->get_int(config, "spool_limit");
  if (dg_aes_keys_init(&aes->keys, config, err) < 0) {
    g_free(aes);
    return -1;
  }
  *ret_self = aes;
  return 0;
}

static void destroy(void *self)
{
  struct dg_aes *aes = self;

  if (!aes)
    return;
  dg_aes_keys_clear(&aes->keys);
  g_free(aes);
}

enum format { UNKNOWN, V1, CHUNKED };

static enum format format_of(const struct dg_meta *meta)
{
  struct dg_slice mark = dg_meta_user(meta, DG_MARK_ALGORITHM);

  return dg_slice_equal_str(mark, DG_AES_V1)        ? V1
         : dg_slice_equal_str(mark, DG_AES_CHUNKED) ? CHUNKED
                                                    : UNKNOWN;
}

static uint64_t v1_plain_size(uint64_t sealed_size)
{
  if (sealed_size < DG_AES_V1_EXTRA || sealed_size - DG_AES_V1_EXTRA > DG_AES_V1_MAX)
    return DG_TO_END;
  return sealed_size - DG_AES_V1_EXTRA;
}

static int32_t sealed(void *self, const struct dg_meta *meta, uint64_t *ret_plain_size)
{
  enum format format = format_of(meta);

  (void)self;
  if (format == UNKNOWN)
    return 0;
  *ret_plain_size =
    format == V1 ? v1_plain_size(meta->stored_size) : dg_dge1_plain_size(meta->stored_size);
  return 1;
}

static uint64_t sealed_size(void *self, uint32_t variant, uint64_t plain_size)
{
  if (!dg_aes_writes_v1(self, variant))
    return dg_dge1_sealed_size(plain_size);
  return plain_size <= DG_AES_V1_MAX ? plain_size + DG_AES_V1_EXTRA : DG_TO_END;
}

static struct dg_range locate(void *self, uint32_t variant, struct dg_range plain)
{
  if (dg_aes_writes_v1(self, variant))
    return (struct dg_range){0, DG_TO_END};
  return dg_dge1_locate(plain);
}

static int stamp(const struct dg_aes *aes, const char *algorithm, struct dg_meta *marks,
                 struct dg_error *err)
{
  const char *id = aes->keys.primary.id;

  if (aes->host->meta_add_user(marks, DG_SLICE(DG_MARK_ALGORITHM), dg_slice_str(algorithm), err) <
      0)
    return -1;
  return aes->host->meta_add_user(marks, DG_SLICE(DG_MARK_KEY_ID), dg_slice_str(id), err);
}

static int seal(void *self, const struct dg_call *call, const struct dg_seal_params *params,
                struct dg_writer *inner, struct dg_meta *marks, struct dg_writer **ret_writer,
                struct dg_error *err)
{
  struct dg_aes *aes = self;
  bool v1 = dg_aes_writes_v1(aes, params->variant);

  (void)call; /* the inner writer looks at it */
  if (!aes->keys.primary.ctx)
    return dg_fail(err, DG_E_INTERNAL,
                   "no encryption key is configured, so nothing is written: set the key, or "
                   "allow_plaintext_writes");
  if (stamp(aes, v1 ? DG_AES_V1 : DG_AES_CHUNKED, marks, err) < 0)
    return -1;
  return v1 ? dg_v1_seal(aes, params, inner, marks, ret_writer, err)
            : dg_dge1_seal(aes, params, inner, marks, ret_writer, err);
}

static int unseal(void *self, const struct dg_call *call, const struct dg_unseal_params *params,
                  struct dg_reader **ret_reader, struct dg_error *err)
{
  struct dg_aes *aes = self;
  enum format format = format_of(params->meta);
  const EVP_CIPHER_CTX *key = NULL;
  uint64_t plain_size;

  if (!sealed(self, params->meta, &plain_size))
    return dg_fail(err, DG_E_INTERNAL, "the body is not sealed by this plugin");
  if (plain_size == DG_TO_END || plain_size != params->plain_size)
    return dg_fail(err, DG_E_CORRUPT, "no sealed body has %" G_GUINT64_FORMAT " bytes",
                   params->meta->stored_size);
  if (dg_aes_keys_choose(&aes->keys, aes->host, dg_meta_user(params->meta, DG_MARK_KEY_ID), &key,
                         err) < 0)
    return -1;
  return format == V1 ? dg_v1_unseal(aes, call, key, params, ret_reader, err)
                      : dg_dge1_unseal(aes, key, params, ret_reader, err);
}

static const struct dg_crypt_ops ops = {
  .struct_size = sizeof ops,
  .create = create,
  .destroy = destroy,
  .sealed = sealed,
  .sealed_size = sealed_size,
  .locate = locate,
  .seal = seal,
  .unseal = unseal,
};

const struct dg_plugin dg_aes_plugin = {
  .struct_size = sizeof dg_aes_plugin,
  .abi_major = DG_ABI_MAJOR,
  .abi_minor = DG_ABI_MINOR,
  .kind = DG_KIND_CRYPT,
  .threads = DG_THREADS_PARALLEL,
  .name = "crypt-aesgcm",
  .version = PACKAGE_VERSION,
  .summary = "Seals bodies with AES-256-GCM before the storage sees them",
  .options = options,
  .ops = &ops,
};
