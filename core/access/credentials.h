/* SPDX-License-Identifier: Apache-2.0 */
/* The credential table of one configuration, and the cache of signing keys derived from
 * it. Whoever has one only makes, fills and shares it; core/access does the rest. */
#ifndef DG_CORE_ACCESS_CREDENTIALS_H
#define DG_CORE_ACCESS_CREDENTIALS_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#include "common/sigv4.h"

#define DG_ACCESS_KEY_MAX 128
#define DG_REGION_MAX     64

struct dg_credential {
  struct dg_slice access_key, secret; /* owned by the table */
};

struct dg_credentials;

/* Shared by reference count. Immutable once filled: add first, then only look up. */
struct dg_credentials *dg_credentials_new(void);
struct dg_credentials *dg_credentials_ref(struct dg_credentials *table); /* [any] */
/* The last one wipes. table: struct dg_credentials *; NULL is fine. [any] */
void dg_credentials_unref(void *table);
void dg_credentials_add(struct dg_credentials *table, const char *access_key, const char *secret);
/* NULL if unknown. Borrowed. [any] */
const struct dg_credential *dg_credentials_find(const struct dg_credentials *table,
                                                struct dg_slice access_key);

/* The signing key, from the cache or derived. True if it came from the cache:
 * else remember it once the signature has proved right, so that nobody without
 * the secret can push entries out. [any] */
bool dg_credentials_key(struct dg_credentials *table, const struct dg_credential *credential,
                        const struct dg_sigv4_scope *scope, uint8_t out[32]);
void dg_credentials_remember(struct dg_credentials *table, const struct dg_credential *credential,
                             const struct dg_sigv4_scope *scope, const uint8_t key[32]);

#endif
