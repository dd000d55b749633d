/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of one backend: the one that seals, and an older one that only
 * reads. A key is kept as a prepared cipher, never as bytes. */
#ifndef DG_CRYPT_AESGCM_KEYS_H
#define DG_CRYPT_AESGCM_KEYS_H

#include <deltaglider/plugin.h>
#include <openssl/evp.h>

#define DG_AES_KEY_ID_MAX 128u

struct dg_aes_key {
  EVP_CIPHER_CTX *ctx; /* with the key, without an IV: to be copied; NULL: no key */
  char id[DG_AES_KEY_ID_MAX + 1];
  char alias[17];      /* legacy key without an explicit id: its id when it was the primary one */
};

struct dg_aes_keys {
  struct dg_aes_key primary, legacy;
};

/* 16 hex digits and a NUL: the id of a key that has none of its own. */
void dg_aes_derive_id(const char *name, const uint8_t key[32], char ret_id[17]);

/* From the options key, key_id, legacy_key, legacy_key_id; DG_E_CONFIG. */
int dg_aes_keys_init(struct dg_aes_keys *keys, const struct dg_config *config,
                     struct dg_error *err);
void dg_aes_keys_clear(struct dg_aes_keys *keys);

/* The key for a body stamped with this id (empty: not stamped). DG_E_INTERNAL
 * says which ids met; the message is also logged, as err may cut it. [any] */
int dg_aes_keys_choose(const struct dg_aes_keys *keys, const struct dg_host *host,
                       struct dg_slice stamp, const EVP_CIPHER_CTX **ret_ctx,
                       struct dg_error *err);

#endif
