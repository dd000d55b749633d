/* SPDX-License-Identifier: Apache-2.0 */
/* The digests of a body, computed once, while its bytes are in the CPU cache. */
#ifndef DG_CORE_ENGINE_HASHES_H
#define DG_CORE_ENGINE_HASHES_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_crew;
struct dg_hashes;
struct dg_put_expect;

struct dg_digests {
  uint8_t md5[16];
  uint8_t sha256[32];
  uint32_t checksum_kind;
  uint32_t checksum_len; /* 0: none */
  uint8_t checksum[32];  /* as base64 would encode it: big-endian for the CRCs */
};

/* checksum_kind: DG_SUM_*. crew: computes MD5 beside the others if it is idle; may be NULL. */
struct dg_hashes *dg_hashes_new(uint32_t checksum_kind, struct dg_crew *crew);
void dg_hashes_free(struct dg_hashes *hashes); /* NULL is fine */
void dg_hashes_update(struct dg_hashes *hashes, const void *data, size_t len);
/* Once, at the end. */
void dg_hashes_finish(struct dg_hashes *hashes, struct dg_digests *ret_digests);

/* Compares with what the client promised: DG_E_BAD_DIGEST, _PAYLOAD_MISMATCH,
 * _CHECKSUM_MISMATCH. expect may be NULL. */
int dg_digests_check(const struct dg_digests *digests, const struct dg_put_expect *expect,
                     struct dg_error *err);
/* Base64 of the checksum, NUL-terminated; "" if there is none. */
void dg_digests_checksum_text(const struct dg_digests *digests, char out[96]);

#endif
