/* SPDX-License-Identifier: Apache-2.0 */
/* What a request is aimed at: bucket, key, query parameters, operation.
 *
 * Path style `/bucket/key` and, under a configured base domain, virtual-host
 * style `bucket.base/key`. The key is whatever stands after the slash that ends
 * the bucket, percent-decoded once: `//`, a leading `/`, `.` and `..` are bytes
 * of the key like any other. Thread: [any] once parsed. */
#ifndef DG_CORE_S3_TARGET_H
#define DG_CORE_S3_TARGET_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#include "core/s3/request.h"

/* DG_OP_GET_OBJECT ...: every operation S3 knows, one row each. */
enum dg_op {
#define DG_OP_ROW(id, name, label, handler) DG_OP_##id,
#include "core/s3/operations.def"
#undef DG_OP_ROW
  DG_OP_COUNT
};

#define DG_TARGET_MAX_PARAMS 64

struct dg_param {
  struct dg_slice name, value; /* decoded, '+' as space; value absent without a '=' */
};

struct dg_target {
  enum dg_op op;
  bool virtual_host;
  struct dg_slice bucket; /* empty: the service itself */
  struct dg_slice key;    /* empty: the bucket itself. NUL-terminated for convenience */
  const struct dg_param *params; /* in order */
  uint32_t param_count;
  char *memory;           /* owns everything above */
};

/* Parses the target of a request and finds its operation. base_domains: NULL,
 * or a NULL-terminated list of lower-case names without port.
 *
 * Fails with DG_E_INVALID_ARGUMENT for a bad escape or a NUL byte,
 * DG_E_LIMIT for too many parameters. Does not judge names: see names.h.
 * An operation we know but do not serve is no error here.
 * ret_target needs dg_target_clear(). */
int dg_target_parse(const struct dg_request *request, const char *const *base_domains,
                    struct dg_target *ret_target, struct dg_error *err);
void dg_target_clear(struct dg_target *target);

/* The first parameter of that name. Absent and `?uploads` (present without a
 * value: data not NULL, len 0) differ; dg_target_has() tells. */
const struct dg_param *dg_target_find(const struct dg_target *target, struct dg_slice name);

static inline struct dg_slice dg_target_param(const struct dg_target *target, const char *name)
{
  const struct dg_param *param = dg_target_find(target, (struct dg_slice){name, strlen(name)});

  return !param              ? (struct dg_slice){NULL, 0}
         : param->value.data ? param->value
                             : (struct dg_slice){"", 0};
}

static inline bool dg_target_has(const struct dg_target *target, const char *name)
{
  return dg_target_find(target, (struct dg_slice){name, strlen(name)}) != NULL;
}

/* "GetObject", for logs and messages. */
const char *dg_op_name(enum dg_op op);
/* "get_object": the label of metrics, from a closed set. */
const char *dg_op_label(enum dg_op op);

/* Splits x-amz-copy-source: `/bucket/key` or `bucket/key`, percent-encoded,
 * maybe with `?versionId=`, into memory the caller frees with g_free().
 * DG_E_INVALID_ARGUMENT if malformed. ret_version is absent when not given. */
int dg_copy_source_parse(struct dg_slice header, char **ret_memory, struct dg_slice *ret_bucket,
                         struct dg_slice *ret_key, struct dg_slice *ret_version,
                         struct dg_error *err);

#endif
