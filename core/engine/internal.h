/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the engine share; nobody else includes it. */
#ifndef DG_CORE_ENGINE_INTERNAL_H
#define DG_CORE_ENGINE_INTERNAL_H

#include "core/engine/engine.h"

#include "common/slice.h"
#include "core/config/config.h"
#include "core/engine/health.h"
#include "core/engine/locks.h"
#include "core/engine/metacache.h"
#include "core/engine/permits.h"
#include "core/engine/reference.h"
#include "core/engine/view.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/plug/backend.h"
#include "core/plug/codec.h"
#include "core/plug/stream.h"

#define DG_BUCKET_NAME_MAX 255u
#define DG_MEMORY_BODY_MAX (256u * 1024u) /* bodies up to this may be cached whole */

struct dg_changeovers;
struct dg_crew;
struct dg_leases;
struct dg_part_notes;
struct dg_upload_table;
struct dg_route_cache;
struct dg_usage_cache;
struct dg_quota;
struct dg_spool_budget;
struct dg_verified;

struct dg_engine {
  GMutex view_mutex; /* guards the pointer only */
  struct dg_view *view;
  struct dg_log *log;
  struct dg_metrics *metrics;
  char *cache_dir, *spool_dir, *state_dir;
  struct dg_spool_budget *spool_budget;
  struct dg_lock_table *locks;
  struct dg_changeovers *changeovers;
  struct dg_leases *leases; /* NULL: no other server shares the storage */
  struct dg_metacache *metacache;
  struct dg_refcache *refs;
  struct dg_permits *permits; /* codec steps that may run at once */
  struct dg_encode_pool *encode_pool;
  struct dg_route_cache *routes;
  struct dg_usage_cache *usage;
  struct dg_verified *verified;
  struct dg_crew *crew; /* computes digests beside the workers */
  struct dg_quota *quota;
  struct dg_part_notes *notes;
  struct dg_upload_table *uploads;
};

/* ---- Routing: engine.c, route.c ------------------------------------------- */

/* Where a bucket lives, for the length of one operation. */
struct dg_route {
  struct dg_view *view;                  /* shared; all below is borrowed from it */
  const struct dg_snapshot *snapshot;
  const struct dg_bucket_config *policy;
  const char *backend_name; /* the configuration's */
  struct dg_backend *backend;
  struct dg_health *health; /* of that backend */
  struct dg_codec *codec; /* NULL: none is loaded */
  char bucket[DG_BUCKET_NAME_MAX + 1]; /* its name on the backend */
};
/* [worker] Fails on a name no backend can hold, and with DG_E_BACKEND_DOWN when the
 * bucket's backend is gated, or nobody can say now which one it is. */
int dg_route_open(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                  struct dg_route *ret_route, struct dg_error *err);
/* The same though the backend may be gated: to know where, not to call it. */
int dg_route_find(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                  struct dg_route *ret_route, struct dg_error *err);
/* [any] The same without asking anybody: false when somebody would have to be. */
bool dg_route_known(struct dg_engine *engine, struct dg_slice bucket, struct dg_route *ret_route);
/* A copy that outlives the operation: clear it too. */
void dg_route_copy(const struct dg_route *route, struct dg_route *ret_copy);
void dg_route_clear(struct dg_route *route);
/* Another backend of the same configuration, for as long as the route is open; NULL. */
struct dg_backend *dg_route_backend(const struct dg_route *route, const char *name);

/* Index of the backend for whatever is nowhere yet. [any] */
size_t dg_route_default(const struct dg_view *view);
/* Index of the backend that is asked as number i: that one first, the others in order. [any] */
size_t dg_route_turn(size_t i, size_t default_index);

struct dg_route_cache *dg_route_cache_new(void);
void dg_route_cache_free(struct dg_route_cache *cache);
void dg_route_forget(struct dg_engine *engine, struct dg_slice bucket);

static inline struct dg_item dg_route_item(const struct dg_route *route, struct dg_slice key,
                                           uint32_t variant)
{
  return (struct dg_item){.bucket = dg_slice_str(route->bucket), .key = key, .variant = variant};
}

/* ---- What an object is: object.c ------------------------------------------ */

/* The deltaspace of a key: up to and with its last '/'. */
struct dg_slice dg_key_deltaspace(struct dg_slice key);
struct dg_slice dg_key_basename(struct dg_slice key);
bool dg_key_eligible(struct dg_slice key, char *const *suffixes);

/* Fills info with a new reference to meta. */
void dg_object_info_fill(struct dg_object_info *info, struct dg_meta *meta);

/* Must its bytes be decoded? An unmanaged file with a delta's name is none. */
static inline bool dg_meta_is_delta(const struct dg_meta *meta)
{
  return meta->variant == DG_VARIANT_DELTA && !(meta->flags & DG_META_UNMANAGED);
}

/* The variant that counts, and the one it hides (after a crash), if any. */
struct dg_found {
  struct dg_meta *meta, *hidden; /* owned; either may be NULL */
};
void dg_found_clear(struct dg_found *found);
/* [worker] Both variants of an object straight from the backend. Finding none
 * is success with meta NULL; a missing bucket is not. Unreadable metadata is
 * found too (DG_META_CORRUPT): the caller decides. */
int dg_object_find(const struct dg_route *route, const struct dg_call *call, struct dg_slice key,
                   struct dg_found *ret_found, struct dg_error *err);
/* Which of two variants of one object is served: the younger, else the delta. */
const struct dg_meta *dg_object_younger(const struct dg_meta *a, const struct dg_meta *b);
/* Two looks at one item saw the same bytes. */
bool dg_meta_same_version(const struct dg_meta *a, const struct dg_meta *b);
/* DG_E_CORRUPT when this metadata must not be served. */
int dg_object_check_usable(const struct dg_meta *meta, struct dg_error *err);

/* A checksum extension's name for DG_SUM_*: "checksum-crc32" ..., or NULL. */
const char *dg_checksum_extension(uint32_t kind);

/* ---- Reading: read.c, deltaread.c ------------------------------------------ */

/* [worker] A verified reader over a range of a delta object's plaintext.
 * Shares meta. *ret_hit: the reference was in memory. ret_deferred: as in
 * dg_get_request. */
int dg_delta_open(struct dg_engine *engine, const struct dg_call *call,
                  const struct dg_route *route, struct dg_slice bucket, struct dg_slice key,
                  struct dg_meta *meta, struct dg_range range, bool *ret_deferred,
                  struct dg_reader **ret_reader, bool *ret_hit, struct dg_error *err);

/* One log line and one metric for bytes that do not match their digest. */
void dg_engine_report_corrupt(struct dg_engine *engine, struct dg_slice bucket, struct dg_slice key,
                              const char *what, const struct dg_error *err);

#endif
