/* SPDX-License-Identifier: Apache-2.0 */
/* One instance of backend-s3: its settings, and what all its files share.
 *
 * Upstream, in each bucket:
 *
 *   KEY                   passthrough object
 *   KEY.delta             delta
 *   PREFIXreference.bin   reference of the deltaspace PREFIX
 *   KEY~dg                an object whose own name is reserved (names.h)
 *
 * Object metadata travels as x-amz-meta-* headers (metahdr.h).
 *
 * A request is built (request.h), signed, run with its repeats (run.h) on
 * pooled handles (pool.h) under the rule of one governor (governor.h), and its
 * answer read (answer.h). Every op is a few such requests. */
#ifndef DG_S3_S3_H
#define DG_S3_S3_H

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include <deltaglider/plugin.h>

#include "common/slice.h"
#include "endpoint.h"

struct dg_s3_pool;
struct dg_crew;
struct dg_s3_governor;
struct dg_s3_metaindex;
struct dg_s3_conditions;
struct dg_s3_known;
struct dg_s3_leases;
struct dg_s3_doubts;

struct dg_s3 {
  const struct dg_host *host;
  char *name; /* of the instance, for logs; may be NULL */
  struct dg_s3_endpoint endpoint;
  char *region, *access_key_id, *secret_access_key;
  char *ca_bundle; /* NULL: the system's */
  char *spool_dir; /* where bodies wait for their commit */

  uint32_t connect_timeout_ms;
  uint32_t idle_timeout_ms;    /* no byte moved for so long ends an attempt */
  uint32_t attempt_timeout_ms; /* requests without a large body: in all */
  uint32_t attempts;           /* tries of one request */
  uint64_t multipart_from;     /* larger bodies go up in parts */
  uint64_t part_bytes;
  uint32_t part_parallel, head_parallel;
  bool native_uploads;

#define DG_S3_KMS_KEY_HEADER "x-amz-server-side-encryption-aws-kms-key-id"
  GPtrArray *seal_headers; /* name, value ...: how the upstream encrypts; may be NULL */

  struct dg_s3_pool *pool;
  struct dg_crew *crew; /* computes digests beside the workers */
  struct dg_s3_governor *governor;
  struct dg_s3_metaindex *index;
  struct dg_s3_conditions *conditions;
  struct dg_s3_known *known; /* buckets seen a moment ago */
  struct dg_s3_leases *leases;
  struct dg_s3_doubts *doubts;
  bool shared; /* other servers write here too: set once, before any other thread runs */
};

/* Logs one line through the host, if it takes any. [any] */
DG_PRINTF(4, 5)
void dg_s3_log(const struct dg_s3 *s3, uint32_t level, const char *event, const char *format, ...);

/* DG_E_CANCELLED, DG_E_TIMEOUT when the call is over. call may be NULL. [any] */
int dg_s3_check_call(const struct dg_call *call, struct dg_error *err);

/* Milliseconds left before the call's deadline; UINT64_MAX without one. [any] */
uint64_t dg_s3_time_left_ms(const struct dg_call *call);

/* [startup] Reads the options; DG_E_CONFIG names the bad one. */
int dg_s3_open(const struct dg_host *host, const struct dg_config *config, struct dg_s3 **ret_s3,
               struct dg_error *err);
void dg_s3_close(struct dg_s3 *s3); /* NULL is fine */

/* [startup] Headers that go with every request that stores an object. */
int dg_s3_seal_natively(struct dg_s3 *s3, const struct dg_pair *pairs, uint32_t count,
                        struct dg_error *err);

#endif
