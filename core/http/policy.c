/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/policy.h"

#include "common/slice.h"
#include "core/access/admission.h"
#include "core/config/config.h"
#include "core/http/front.h"

#include "common/banned.h"

enum effect {
  EFFECT_NONE,
  EFFECT_ADDS,    /* objects, or parts of them */
  EFFECT_REMOVES,
};

static enum effect effect_of(enum dg_op op)
{
  switch (op) {
  case DG_OP_PUT_OBJECT:
  case DG_OP_COPY_OBJECT:
  case DG_OP_POST_OBJECT:
  case DG_OP_CREATE_MULTIPART_UPLOAD:
  case DG_OP_UPLOAD_PART:
  case DG_OP_UPLOAD_PART_COPY:
  case DG_OP_COMPLETE_MULTIPART_UPLOAD:
    return EFFECT_ADDS;
  case DG_OP_DELETE_OBJECT:
  case DG_OP_DELETE_OBJECTS:
  case DG_OP_DELETE_PREFIX:
  case DG_OP_DELETE_BUCKET:
    return EFFECT_REMOVES;
  default:
    return EFFECT_NONE;
  }
}

int dg_policy_check_write(const struct dg_exchange *x, struct dg_error *err)
{
  enum effect effect = effect_of(x->target.op);
  const struct dg_bucket_config *bucket;

  if (effect == EFFECT_NONE)
    return 0;
  bucket = dg_snapshot_bucket(x->snapshot, x->target.bucket);
  if (bucket->replication_target_only)
    return dg_fail(err, DG_E_ACCESS_DENIED, "only replication writes to '%.*s'",
                   DG_SLICE_ARG(x->target.bucket));
  if (bucket->frozen && effect == EFFECT_ADDS)
    return dg_fail(err, DG_E_QUOTA, "The bucket is frozen: nothing can be added to it.");
  return 0;
}

int dg_policy_check_removal(const struct dg_exchange *x, struct dg_slice key,
                            struct dg_error *err)
{
  struct dg_admission_request request;
  struct dg_admission_trace trace;

  if (x->snapshot->admission->len == 0)
    return 0;
  dg_admission_request_fill(&x->request, &x->target, &request);
  request.method = "DELETE";
  request.op = DG_OP_DELETE_OBJECT;
  request.key = key;
  dg_admission_evaluate(x->snapshot, &request, &trace);
  if (trace.decision != DG_ADMISSION_DENY && trace.decision != DG_ADMISSION_REJECT)
    return 0;
  return dg_fail(err, DG_E_ACCESS_DENIED, "denied by the admission block '%s'", trace.matched);
}
