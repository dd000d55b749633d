/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: the rules looked at before anyone is known.
 *
 *   the operator's blocks, in their order
 *     -> public-prefix:BUCKET, one per bucket with public prefixes
 *     -> continue: authentication decides
 *
 * The first that matches decides. Pure functions over the snapshot, without I/O.
 * Thread: [any], meant for loops. */
#ifndef DG_CORE_ACCESS_ADMISSION_H
#define DG_CORE_ACCESS_ADMISSION_H

#include "core/config/config.h"
#include "core/s3/request.h"
#include "core/s3/target.h"

/* What blocks may ask of a request. */
struct dg_admission_request {
  const char *method;           /* "GET" */
  bool has_source;              /* false: the client's address is unknown */
  uint8_t source[16];           /* as IPv6 */
  struct dg_slice bucket;       /* empty: the service itself */
  struct dg_slice key;          /* decoded; empty: the bucket itself */
  struct dg_slice list_prefix;  /* of a listing; absent without one */
  bool authenticated;           /* credentials are there, right or wrong */
  bool maintenance;             /* a job has stopped writes to the bucket */
  enum dg_op op;
};

/* What was decided, and why. */
struct dg_admission_trace {
  enum dg_admission_action decision;
  const struct dg_admission_block *block; /* the operator's that matched, borrowed; or NULL */
  char matched[160];                      /* name of the block that matched; "" if none did */
  /* Of DG_ADMISSION_ALLOW_ANONYMOUS: does it give a right to this very request? A
   * public prefix does. A block of the operator lets a key be read, nothing else. */
  bool granted;
  /* What a granted listing may show: NULL-terminated, borrowed from the snapshot. */
  char *const *list_prefixes;
};

/* Are credentials there, in a header or the query, right or wrong? */
bool dg_admission_is_authenticated(const struct dg_request *request,
                                   const struct dg_target *target);

/* Reads from a request what blocks may ask. Slices borrow from target. */
void dg_admission_request_fill(const struct dg_request *request, const struct dg_target *target,
                               struct dg_admission_request *ret_request);

/* Decides. ret_trace borrows from snapshot. */
void dg_admission_evaluate(const struct dg_snapshot *snapshot,
                           const struct dg_admission_request *request,
                           struct dg_admission_trace *ret_trace);

#endif
