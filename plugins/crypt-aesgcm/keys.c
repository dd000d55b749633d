/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/crypt-aesgcm/keys.h"

#include <glib.h>
#include <openssl/crypto.h>

#include "common/hex.h"
#include "common/slice.h"
#include "plugins/crypt-aesgcm/aesgcm.h"

#include "common/banned.h"

void dg_aes_derive_id(const char *name, const uint8_t key[32], char ret_id[17])
{
  EVP_MD_CTX *sha256 = EVP_MD_CTX_new();
  uint8_t digest[EVP_MAX_MD_SIZE];

  /* The NUL of name separates it from the key. */
  g_assert(sha256 && EVP_DigestInit_ex(sha256, EVP_sha256(), NULL) == 1 &&
           EVP_DigestUpdate(sha256, name, strlen(name) + 1) == 1 &&
           EVP_DigestUpdate(sha256, key, 32) == 1 &&
           EVP_DigestFinal_ex(sha256, digest, NULL) == 1);
  EVP_MD_CTX_free(sha256);
  dg_hex_encode(digest, 8, ret_id);
}

static int prepare(const uint8_t bytes[32], EVP_CIPHER_CTX **ret_ctx, struct dg_error *err)
{
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
  bool good = ctx && cipher && EVP_EncryptInit_ex2(ctx, cipher, bytes, NULL, NULL) == 1;

  EVP_CIPHER_free(cipher);
  if (!good) {
    EVP_CIPHER_CTX_free(ctx);
    return dg_aes_fail(err, "AES-256-GCM");
  }
  *ret_ctx = ctx;
  return 0;
}

static int check_id(const char *option, const char *id, struct dg_error *err)
{
  size_t len = strlen(id);

  for (size_t i = 0; i < len; i++)
    if (id[i] <= ' ' || id[i] > '~')
      return dg_fail(err, DG_E_CONFIG, "%s: use letters, digits, '.', '_' and '-'", option);
  if (len == 0 || len > DG_AES_KEY_ID_MAX)
    return dg_fail(err, DG_E_CONFIG, "%s: use 1 to 64 characters", option);
  return 0;
}

/* legacy: the key that only reads. */
static int load_key(struct dg_aes_key *key, const struct dg_config *config, bool legacy,
                    struct dg_error *err)
{
  const char *option = legacy ? "legacy_key" : "key";
  const char *id_option = legacy ? "legacy_key_id" : "key_id";
  const char *hex = config->get_text(config, option), *id = config->get_text(config, id_option);
  g_autofree char *legacy_name = g_strconcat(config->instance_name, "::legacy", NULL);
  uint8_t bytes[32];
  int rc;

  if (!hex || !*hex)
    return 0;
  if (!dg_hex_decode(dg_slice_str(hex), bytes, sizeof bytes))
    return dg_fail(err, DG_E_CONFIG, "%s: 64 hex digits are needed", option);
  rc = id && *id ? check_id(id_option, id, err) : 0;
  if (rc == 0 && id && *id) {
    (void)g_strlcpy(key->id, id, sizeof key->id);
  } else if (rc == 0) {
    dg_aes_derive_id(legacy ? legacy_name : config->instance_name, bytes, key->id);
    if (legacy)
      dg_aes_derive_id(config->instance_name, bytes, key->alias);
  }
  if (rc == 0)
    rc = prepare(bytes, &key->ctx, err);
  OPENSSL_cleanse(bytes, sizeof bytes);
  return rc;
}

int dg_aes_keys_init(struct dg_aes_keys *keys, const struct dg_config *config,
                     struct dg_error *err)
{
  memset(keys, 0, sizeof *keys);
  if (load_key(&keys->primary, config, /* legacy= */ false, err) == 0 &&
      load_key(&keys->legacy, config, /* legacy= */ true, err) == 0)
    return 0;
  dg_aes_keys_clear(keys);
  return -1;
}

void dg_aes_keys_clear(struct dg_aes_keys *keys)
{
  EVP_CIPHER_CTX_free(keys->primary.ctx); /* wipes the key schedule */
  EVP_CIPHER_CTX_free(keys->legacy.ctx);
  OPENSSL_cleanse(keys, sizeof *keys);
}

static bool has_id(const struct dg_aes_key *key, struct dg_slice id)
{
  return key->ctx && (dg_slice_equal_str(id, key->id) ||
                      (key->alias[0] && dg_slice_equal_str(id, key->alias)));
}

/* The texts are fixed up to where they say what to do; tools look for them. */
static char *explain(const struct dg_aes_keys *keys, struct dg_slice stamp)
{
  if (!keys->primary.ctx && !keys->legacy.ctx && stamp.len == 0)
    return g_strdup("object is encrypted but no key is configured");
  if (!keys->primary.ctx && !keys->legacy.ctx)
    return g_strdup_printf("object was encrypted with key id '%.*s', but this backend has NO "
                           "encryption key configured. Configure the key it was written with.",
                           DG_SLICE_ARG(stamp));
  if (!keys->primary.ctx)
    return g_strdup_printf("object was encrypted with key id '%.*s', but this backend has NO "
                           "encryption key configured. Its legacy key has the id '%s'.",
                           DG_SLICE_ARG(stamp), keys->legacy.id);
  return g_strdup_printf(
    "object was encrypted with key id '%.*s', but this backend is configured with key id '%s' (no "
    "legacy-shim match either). This usually means: (a) the key was rotated without legacy_key and "
    "legacy_key_id; (b) the bucket is routed to the wrong backend; (c) two backends share physical "
    "storage with different keys. The object is intact: configure the key it was written with.",
    DG_SLICE_ARG(stamp), keys->primary.id);
}

int dg_aes_keys_choose(const struct dg_aes_keys *keys, const struct dg_host *host,
                       struct dg_slice stamp, const EVP_CIPHER_CTX **ret_ctx,
                       struct dg_error *err)
{
  const struct dg_aes_key *chosen = NULL;
  g_autofree char *text = NULL;

  if (stamp.len == 0)
    chosen = keys->primary.ctx ? &keys->primary : &keys->legacy;
  else if (has_id(&keys->primary, stamp))
    chosen = &keys->primary;
  else if (has_id(&keys->legacy, stamp))
    chosen = &keys->legacy;
  if (chosen && chosen->ctx) {
    *ret_ctx = chosen->ctx;
    return 0;
  }
  stamp.len = MIN(stamp.len, 64); /* of what may come from anywhere */
  text = explain(keys, stamp);
  if (host && host->log) {
    g_autofree char *quoted = g_strescape(text, NULL);
    g_autofree char *line = g_strdup_printf("cause=\"%s\"", quoted);

    host->log(host, DG_LOG_ERROR, "crypt.key", line);
  }
  return dg_fail(err, DG_E_INTERNAL, "%s", text);
}
