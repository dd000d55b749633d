/* SPDX-License-Identifier: Apache-2.0 */
/* What a signed request claims, as text: parsed and judged for form, verified
 * nowhere yet. Private to core/access. Thread: [any]. */
#ifndef DG_CORE_ACCESS_CLAIM_H
#define DG_CORE_ACCESS_CLAIM_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#include "common/sigv4.h"
#include "core/s3/request.h"
#include "core/s3/target.h"

struct dg_claim {
  bool presigned;
  struct dg_slice access_key;
  struct dg_sigv4_scope scope;
  struct dg_slice signed_headers; /* "host;x-amz-date" */
  uint8_t signature[32];
  char timestamp[17];
  int64_t timestamp_s;
  int64_t expires_s; /* presigned only */
};

enum dg_claim_kind {
  DG_CLAIM_NONE,      /* no credentials at all */
  DG_CLAIM_HEADER,    /* Authorization */
  DG_CLAIM_PRESIGNED, /* X-Amz-* in the query */
};

/* Where are the credentials? SigV2, and both places at once, are
 * DG_E_INVALID_REQUEST and DG_E_INVALID_ARGUMENT. */
int dg_claim_find(const struct dg_request *request, const struct dg_target *target,
                  enum dg_claim_kind *ret_kind, struct dg_error *err);

/* Parses them; slices borrow from request and target. DG_E_AUTH_MALFORMED, or
 * DG_E_AUTH_QUERY for the query. *ret_claim keeps what was parsed before a
 * failure. */
int dg_claim_parse(const struct dg_request *request, const struct dg_target *target,
                   enum dg_claim_kind kind, struct dg_claim *ret_claim, struct dg_error *err);

/* ACCESSKEY/YYYYMMDD/REGION/s3/aws4_request. Fails with `code`. */
int dg_claim_credential(struct dg_slice credential, int32_t code, struct dg_slice *ret_access_key,
                        struct dg_sigv4_scope *ret_scope, struct dg_error *err);

#endif
