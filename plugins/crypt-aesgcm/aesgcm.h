/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of crypt-aesgcm share. The ops are documented in plugin.h. */
#ifndef DG_CRYPT_AESGCM_H
#define DG_CRYPT_AESGCM_H

#include <deltaglider/plugin.h>
#include <glib.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

#include "plugins/crypt-aesgcm/keys.h"

#define DG_AES_V1 "aes-256-gcm-v1"                /* marks */
#define DG_AES_CHUNKED "aes-256-gcm-chunked-v1"
#define DG_AES_IV_MARK DG_MARK_PREFIX "iv"        /* base IV of a DGE1 body, 24 hex */

#define DG_AES_IV 12u
#define DG_AES_TAG 16u

/* ---- The instance ----------------------------------------------------------- */

struct dg_aes {
  const struct dg_host *host;
  struct dg_aes_keys keys;
  bool v1_deltas;           /* seal_deltas: compatible */
  /* Where IVs come from: dg_aes_random(), but in tests. */
  int (*random)(void *bytes, size_t len, struct dg_error *err);
  uint64_t spool_limit;     /* bytes all v1 bodies being read may spool together */
  _Atomic uint64_t spooled; /* so far */
};

/* What a variant is written as now. */
static inline bool dg_aes_writes_v1(const struct dg_aes *aes, uint32_t variant)
{
  return aes->v1_deltas && variant != DG_VARIANT_PASSTHROUGH;
}

int dg_aes_random(void *bytes, size_t len, struct dg_error *err);
/* Fails with DG_E_INTERNAL: OpenSSL refused `what`, which does not depend on data. */
int dg_aes_fail(struct dg_error *err, const char *what);

/* ---- Pulling from and pushing to the next layer (crypt.c) --------------------- */

/* Exactly len bytes. DG_E_CORRUPT when the body ends before. */
int dg_aes_read_exact(struct dg_reader *inner, void *buffer, size_t len, struct dg_error *err);
/* DG_E_CORRUPT unless the body ends here. */
int dg_aes_read_end(struct dg_reader *inner, struct dg_error *err);

/* ---- DGE1 (dge1-writer.c, dge1-reader.c) --------------------------------------- */

int dg_dge1_seal(struct dg_aes *aes, const struct dg_seal_params *params, struct dg_writer *inner,
                 struct dg_meta *marks, struct dg_writer **ret_writer, struct dg_error *err);
int dg_dge1_unseal(struct dg_aes *aes, const EVP_CIPHER_CTX *key,
                   const struct dg_unseal_params *params, struct dg_reader **ret_reader,
                   struct dg_error *err);

/* ---- v1 (v1.c) ------------------------------------------------------------------- */

#define DG_AES_V1_EXTRA (DG_AES_IV + DG_AES_TAG)
#define DG_AES_V1_MAX ((UINT64_C(1) << 36) - 32) /* plaintext bytes that GCM allows under one IV */

int dg_v1_seal(struct dg_aes *aes, const struct dg_seal_params *params, struct dg_writer *inner,
               struct dg_meta *marks, struct dg_writer **ret_writer, struct dg_error *err);
int dg_v1_unseal(struct dg_aes *aes, const struct dg_call *call, const EVP_CIPHER_CTX *key,
                 const struct dg_unseal_params *params, struct dg_reader **ret_reader,
                 struct dg_error *err);

/* ---- For the module's entry point, tests and programs that link the plugin in ------ */

extern const struct dg_plugin dg_aes_plugin;

#endif
