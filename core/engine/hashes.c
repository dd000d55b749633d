/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/hashes.h"

#include <glib.h>

#include "common/crew.h"
#include "common/hex.h"
#include "common/slice.h"
#include "core/engine/engine.h"

#include "common/banned.h"

#define STEP_BYTES (64u * 1024u) /* all digests of one step while it is in the L2 cache */
#define SHARED_BYTES (128u * 1024u) /* worth waking another thread for */

struct dg_hashes {
  struct dg_checksum md5, sha256, extra;
  struct dg_crew *crew;
  struct dg_slice for_md5; /* what the crew is to add to it */
};

struct dg_hashes *dg_hashes_new(uint32_t checksum_kind, struct dg_crew *crew)
{
  struct dg_hashes *hashes = g_new0(struct dg_hashes, 1);

  hashes->crew = crew;
  dg_checksum_init(&hashes->md5, DG_SUM_MD5);
  dg_checksum_init(&hashes->sha256, DG_SUM_SHA256);
  /* SHA-256 is computed anyway: once is enough. */
  dg_checksum_init(&hashes->extra,
                   checksum_kind == DG_SUM_SHA256 ? (uint32_t)DG_SUM_NONE : checksum_kind);
  hashes->extra.kind = checksum_kind;
  return hashes;
}

void dg_hashes_free(struct dg_hashes *hashes)
{
  if (!hashes)
    return;
  dg_checksum_clear(&hashes->md5);
  dg_checksum_clear(&hashes->sha256);
  dg_checksum_clear(&hashes->extra);
  g_free(hashes);
}

static void update_md5(void *receiver)
{
  struct dg_hashes *hashes = receiver;

  dg_checksum_update(&hashes->md5, hashes->for_md5.data, hashes->for_md5.len);
}

void dg_hashes_update(struct dg_hashes *hashes, const void *data, size_t len)
{
  struct dg_crew_task task = {0};
  const char *at = data;
  bool shared;

  hashes->for_md5 = dg_slice_of(data, len);
  shared = len >= SHARED_BYTES && dg_crew_offer(hashes->crew, &task, update_md5, hashes);
  while (len) {
    size_t step = MIN(len, STEP_BYTES);

    if (!shared)
      dg_checksum_update(&hashes->md5, at, step);
    dg_checksum_update(&hashes->sha256, at, step);
    if (hashes->extra.kind != DG_SUM_SHA256 && hashes->extra.kind != DG_SUM_NONE)
      dg_checksum_update(&hashes->extra, at, step);
    at += step;
    len -= step;
  }
  dg_crew_join(hashes->crew, &task);
}

void dg_hashes_finish(struct dg_hashes *hashes, struct dg_digests *ret_digests)
{
  uint8_t digest[DG_SUM_MAX_BYTES];

  memset(ret_digests, 0, sizeof *ret_digests);
  (void)dg_checksum_final(&hashes->md5, digest);
  memcpy(ret_digests->md5, digest, sizeof ret_digests->md5);
  (void)dg_checksum_final(&hashes->sha256, digest);
  memcpy(ret_digests->sha256, digest, sizeof ret_digests->sha256);
  ret_digests->checksum_kind = hashes->extra.kind;
  ret_digests->checksum_len = (uint32_t)dg_checksum_len(hashes->extra.kind);
  if (hashes->extra.kind == DG_SUM_SHA256)
    memcpy(ret_digests->checksum, ret_digests->sha256, sizeof ret_digests->sha256);
  else if (hashes->extra.kind != DG_SUM_NONE)
    (void)dg_checksum_final(&hashes->extra, ret_digests->checksum);
}

void dg_digests_checksum_text(const struct dg_digests *digests, char out[96])
{
  out[0] = '\0';
  if (digests->checksum_len)
    dg_base64_encode(digests->checksum, digests->checksum_len, out);
}

int dg_digests_check(const struct dg_digests *digests, const struct dg_put_expect *expect,
                     struct dg_error *err)
{
  char text[96];

  if (!expect)
    return 0;
  if (expect->has_sha256 &&
      memcmp(expect->sha256, digests->sha256, sizeof digests->sha256) != 0)
    return dg_fail(err, DG_E_PAYLOAD_MISMATCH,
                   "the body does not have the SHA-256 of x-amz-content-sha256");
  if (expect->has_md5 && memcmp(expect->md5, digests->md5, sizeof digests->md5) != 0)
    return dg_fail(err, DG_E_BAD_DIGEST, "the body does not have the MD5 of Content-MD5");
  if (expect->checksum_base64.len && digests->checksum_len) {
    dg_digests_checksum_text(digests, text);
    if (!dg_slice_equal_str(expect->checksum_base64, text))
      return dg_fail(err, DG_E_CHECKSUM_MISMATCH,
                     "the body does not have the checksum announced (computed %s)", text);
  }
  return 0;
}
