/* SPDX-License-Identifier: Apache-2.0 */
/* What an object is: buckets, deltaspaces, variants, multipart uploads.
 *
 * The engine turns S3 semantics into items on backends: which variant an
 * object takes, which reference it is a delta against, who may write when,
 * what is cached. It knows no HTTP and no XML.
 *
 * Every function that takes a dg_call blocks: call it on a [worker]. Those
 * marked [any] do not block and may run on a loop thread.
 *
 * Keys and buckets are borrowed for the call; a put or a reader copies what it
 * keeps. Errors: the DG_E_* code is what the client sees, detail is for the
 * log. */
#ifndef DG_CORE_ENGINE_ENGINE_H
#define DG_CORE_ENGINE_ENGINE_H

#include <glib.h>
#include <stdbool.h>

#include <deltaglider/plugin.h>

#include "common/checksum.h" /* DG_SUM_* */
#include "common/meta.h"

struct dg_engine;
struct dg_snapshot;
struct dg_log;
struct dg_metrics;
struct dg_backend;
struct dg_codec;
struct dg_health;
struct dg_view;

/* ---- Lifetime --------------------------------------------------------------- */

/* A loaded plugin instance under the name the configuration gives it. */
struct dg_named_backend {
  const char *name;            /* backend instance: "default" ... */
  struct dg_backend *backend;  /* borrowed; outlives the view, see dg_engine_replace() */
  struct dg_health *health;    /* of the connection behind it; likewise */
};
struct dg_named_codec {
  const char *name;            /* plugin name: "codec-xdelta3" */
  struct dg_codec *codec;      /* borrowed; outlives the view */
};

struct dg_engine_params {
  struct dg_snapshot *snapshot;             /* shared: the engine takes its own reference */
  const struct dg_named_backend *backends;  /* at least one; copied */
  size_t backend_count;
  const struct dg_named_codec *codecs;      /* copied; none: everything is passthrough */
  size_t codec_count;
  uint32_t worker_count;                    /* threads that will call the engine */
  struct dg_log *log;                       /* borrowed, may be NULL */
  struct dg_metrics *metrics;               /* borrowed, may be NULL */
  /* What else comes and goes with this configuration, unknown here: transferred, freed with
   * the view. Both may be NULL. */
  void *companion;
  void (*free_companion)(void *companion);  /* [any] */
};

/* Opens the engine: makes its directories (cache, spool, state), clears what a
 * crash left in them and loads the open multipart uploads. [startup] */
int dg_engine_new(const struct dg_engine_params *params, struct dg_engine **ret_engine,
                  struct dg_error *err);
/* After the last call ended and the last reader closed. NULL is fine. [startup] */
void dg_engine_free(struct dg_engine *engine);

/* What is in service now: policies, backends, codecs. Whoever holds the reference may
 * use what the engine hands out meanwhile, also after a replacement. [any] */
struct dg_view *dg_engine_view(struct dg_engine *engine);
const struct dg_snapshot *dg_view_snapshot(const struct dg_view *view); /* borrowed */
void *dg_view_companion(const struct dg_view *view);                    /* borrowed */
void dg_view_unref(struct dg_view *view);                               /* NULL is fine */
/* In one step: later calls use these params (log, metrics and worker_count are ignored); calls under
 * way end with what they began. Directories and the size of the reference cache stay as they were.
 * *ret_old: what was replaced, transferred. When dg_view_is_unused() nobody else holds it,
 * and what only it named may be freed. [startup] */
void dg_engine_replace(struct dg_engine *engine, const struct dg_engine_params *params,
                       struct dg_view **ret_old);
bool dg_view_is_unused(const struct dg_view *view);
/* Before a codec is freed: forgets the references it prepared. Nobody uses it. [startup] */
void dg_engine_forget_codec(struct dg_engine *engine, const struct dg_codec *codec);

/* Expires idle multipart uploads and old replay records, removes notes that crashes
 * left beside objects; call it once in a while (multipart_sweep_interval_s). [worker] */
void dg_engine_sweep(struct dg_engine *engine);

/* ---- Objects: reading ----------------------------------------------------- */

/* How an object came to rest, for debug headers and metrics. */
struct dg_object_info {
  struct dg_meta *meta;        /* shared: unref through dg_object_info_clear() */
  char etag[80];               /* with its quotes; "" if unknown */
  uint64_t size_bytes;         /* plaintext */
  uint64_t stored_bytes;       /* at rest, of the served variant */
  int64_t last_modified_s;
  uint32_t part_count;         /* 0: not a multipart object */
  bool cache_hit;              /* reference (delta) or body (passthrough) came from memory */
};
void dg_object_info_clear(struct dg_object_info *info);

/* Part part_no (from 1) of the object as a range of its bytes. An object that
 * is no multipart object has one part. DG_E_INVALID_RANGE when there is no such
 * part, DG_E_NOT_IMPLEMENTED when the metadata do not tell. [any] */
int dg_object_part_range(const struct dg_object_info *info, uint32_t part_no,
                         struct dg_range *ret_range, struct dg_error *err);
/* The same, and what lies beside the object or only the storage knows is asked for. Then
 * DG_E_NOT_IMPLEMENTED means that nobody knows; DG_E_NO_SUCH_KEY: the object is another
 * one by now, look at it again. Good within dg_get_request.resolve. [worker] */
int dg_engine_part_range(struct dg_engine *engine, const struct dg_call *call,
                         struct dg_slice bucket, struct dg_slice key,
                         const struct dg_object_info *info, uint32_t part_no,
                         struct dg_range *ret_range, struct dg_error *err);

/* The stored checksum: base64 of kind ret_kind, with "-N" after a composite
 * one; DG_SUM_NONE and an empty slice if there is none. Borrowed from info. [any] */
struct dg_slice dg_object_checksum(const struct dg_object_info *info, uint32_t *ret_kind);

/* Decides a conditional read on the metadata: returns 0 to go on, or -1 with
 * DG_E_NOT_MODIFIED, DG_E_PRECONDITION_FAILED. */
typedef int (*dg_read_check_fn)(void *receiver, const struct dg_object_info *info,
                                struct dg_error *err);

int dg_engine_head(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                   struct dg_slice key, struct dg_object_info *ret_info, struct dg_error *err);

/* Which bytes: all, a range resolved against the size by `resolve`, or a part. */
struct dg_get_request {
  struct dg_slice bucket, key;
  /* Called once the size is known, before anything is opened: checks the
   * conditions and narrows *range (given as the whole object). */
  int (*resolve)(void *receiver, const struct dg_object_info *info, struct dg_range *range,
                 struct dg_error *err);
  void *receiver;
  /* NULL: takes its time. Else set, with DG_E_SLOW_DOWN, when something large must be
   * read first that other requests may want too (a reference, all of an object to check
   * it): the caller repeats the call from where waiting holds up nobody. */
  bool *ret_deferred;
};

/* Metadata, the range chosen, and a reader over exactly that range.
 * *ret_reader is transferred; it may fail mid-way with DG_E_CORRUPT, and then
 * the response must be cut, never completed. */
int dg_engine_get(struct dg_engine *engine, const struct dg_call *call,
                  const struct dg_get_request *request, struct dg_object_info *ret_info,
                  struct dg_range *ret_range, struct dg_reader **ret_reader, struct dg_error *err);

/* [any] The same from the validated memory cache alone: 1 when *ret_info and
 * *ret_body (the whole object, shared) are set, 0 when a worker must look. */
int dg_engine_get_cached(struct dg_engine *engine, struct dg_slice bucket, struct dg_slice key,
                         struct dg_object_info *ret_info, GBytes **ret_body);

/* ---- Objects: writing ----------------------------------------------------- */

/* Decides a conditional write against what is there now (NULL: nothing), under
 * the object's lock: 0, or -1 with DG_E_PRECONDITION_FAILED or _CONFLICT. May be
 * asked twice. */
typedef int (*dg_write_check_fn)(void *receiver, const struct dg_object_info *current,
                                 struct dg_error *err);

struct dg_put_request {
  struct dg_slice bucket, key;
  uint64_t size_bytes;            /* exact, or DG_TO_END when unknown (form uploads) */
  const struct dg_meta *meta;     /* content_type, user pairs, extensions (cache-control ...);
                                     copied */
  uint32_t checksum_kind;         /* DG_SUM_*: computed, kept in metadata, returned */
  bool checksum_full_object;      /* uploads only: x-amz-checksum-type FULL_OBJECT. CRC64NVME is
                                     always so, SHA1 and SHA256 never (DG_E_INVALID_REQUEST) */
  bool from_parts;                /* a completed upload: mpu_delta_reconstruct_max_bytes holds */
  dg_write_check_fn check;        /* may be NULL */
  void *receiver;                 /* stays valid until commit or abort */
  const struct dg_reader *source; /* where the body comes from; may be NULL. What it holds of the
                                     spool, as an object that is decoded there, is this put's */
};

/* What the client promised; each is compared at commit, before anything
 * becomes visible. Empty or zero: not promised. */
struct dg_put_expect {
  bool has_md5, has_sha256;
  uint8_t md5[16];                /* Content-MD5: DG_E_BAD_DIGEST */
  uint8_t sha256[32];             /* x-amz-content-sha256: DG_E_PAYLOAD_MISMATCH */
  struct dg_slice checksum_base64; /* of checksum_kind: DG_E_CHECKSUM_MISMATCH */
};

struct dg_put_result {
  char etag[80];                  /* with quotes */
  char checksum_base64[96];       /* of checksum_kind, or "" */
  uint32_t checksum_kind;
  uint32_t variant;               /* DG_VARIANT_* it came to rest as */
  uint64_t size_bytes, stored_bytes;
};

struct dg_put;

/* Opens a put: checks the bucket, chooses the path (delta candidate or
 * passthrough). Holds no lock while the client uploads. */
int dg_engine_put_open(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_put_request *request, struct dg_put **ret_put,
                       struct dg_error *err);
int dg_put_write(struct dg_put *put, const void *data, size_t len, struct dg_error *err);
/* Durable and visible when it returns 0. Frees the put either way. */
int dg_put_commit(struct dg_put *put, const struct dg_put_expect *expect,
                  struct dg_put_result *ret_result, struct dg_error *err);
void dg_put_abort(struct dg_put *put); /* NULL is fine */

/* Removes an object. A missing key is success, a missing bucket is not.
 * check as for a put (If-Match on DELETE); may be NULL. */
int dg_engine_delete(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice key, dg_write_check_fn check, void *receiver,
                     struct dg_error *err);

struct dg_copy_request {
  struct dg_slice source_bucket, source_key;
  struct dg_slice bucket, key;
  bool replace_metadata;          /* x-amz-metadata-directive: REPLACE */
  const struct dg_meta *meta;     /* used when replace_metadata */
  uint32_t checksum_kind;         /* DG_SUM_NONE: keep the source's */
  dg_read_check_fn source_check;  /* x-amz-copy-source-if-*; may be NULL */
  dg_write_check_fn check;        /* may be NULL */
  void *receiver;
};
int dg_engine_copy(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_copy_request *request, struct dg_put_result *ret_result,
                   int64_t *ret_last_modified_s, struct dg_error *err);

/* ---- Buckets and listings -------------------------------------------------- */

int dg_engine_bucket_create(struct dg_engine *engine, const struct dg_call *call,
                            struct dg_slice bucket, struct dg_error *err);
int dg_engine_bucket_delete(struct dg_engine *engine, const struct dg_call *call,
                            struct dg_slice bucket, struct dg_error *err);
int dg_engine_bucket_head(struct dg_engine *engine, const struct dg_call *call,
                          struct dg_slice bucket, struct dg_error *err);
/* Every bucket of every backend, merged, in byte order. */
int dg_engine_bucket_list(struct dg_engine *engine, const struct dg_call *call,
                          dg_bucket_row_fn row, void *receiver, struct dg_error *err);

struct dg_listing_row {
  bool is_prefix;
  struct dg_slice key;            /* or common prefix */
  const struct dg_object_info *info; /* objects only: same size, ETag and date as HEAD */
};
struct dg_listing_request {
  struct dg_slice bucket, prefix, delimiter, start_after;
  uint32_t max_rows;              /* objects and prefixes together; 0 gives none */
};
/* One page in byte order. *ret_truncated: more exists after the last row. */
int dg_engine_list(struct dg_engine *engine, const struct dg_call *call,
                   const struct dg_listing_request *request,
                   int (*row)(void *receiver, const struct dg_listing_row *row), void *receiver,
                   bool *ret_truncated, struct dg_error *err);

/* ---- Multipart uploads ------------------------------------------------------ */

#define DG_UPLOAD_ID_LEN 32

/* Creates an upload; its state is on disk before this returns.
 * ret_id: 32 hex characters and a NUL. */
int dg_engine_upload_create(struct dg_engine *engine, const struct dg_call *call,
                            const struct dg_put_request *request, char ret_id[33],
                            struct dg_error *err);

struct dg_part_put;
struct dg_part_result {
  char etag[40];                  /* with quotes */
  char checksum_base64[96];
  uint32_t checksum_kind;
  uint64_t size_bytes;
  int64_t last_modified_s;
};
/* part_no 1..10000; size_bytes exact or DG_TO_END. Streams to disk, or to a storage that
 * joins parts itself. Replaces
 * an earlier part of that number at commit. checksum_kind DG_SUM_NONE: the
 * upload's own. */
int dg_engine_part_open(struct dg_engine *engine, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice key, struct dg_slice upload_id,
                        uint32_t part_no, uint64_t size_bytes, uint32_t checksum_kind,
                        struct dg_part_put **ret_part, struct dg_error *err);
int dg_part_write(struct dg_part_put *part, const void *data, size_t len, struct dg_error *err);
int dg_part_commit(struct dg_part_put *part, const struct dg_put_expect *expect,
                   struct dg_part_result *ret_result, struct dg_error *err);
void dg_part_abort(struct dg_part_put *part);

struct dg_complete_part {
  uint32_t part_no;
  struct dg_slice etag;            /* with or without quotes */
  struct dg_slice checksum_base64; /* optional */
};
struct dg_complete_request {
  struct dg_slice bucket, key, upload_id;
  const struct dg_complete_part *parts;
  uint32_t part_count;
  struct dg_slice checksum_base64; /* whole object, optional */
  dg_write_check_fn check;
  void *receiver;
};
/* An identical Complete joins one in flight, or replays its result for a while. */
int dg_engine_upload_complete(struct dg_engine *engine, const struct dg_call *call,
                              const struct dg_complete_request *request,
                              struct dg_put_result *ret_result, struct dg_error *err);
int dg_engine_upload_abort(struct dg_engine *engine, const struct dg_call *call,
                           struct dg_slice bucket, struct dg_slice key, struct dg_slice upload_id,
                           struct dg_error *err);

struct dg_part_row {
  uint32_t part_no;
  const struct dg_part_result *part;
};
int dg_engine_part_list(struct dg_engine *engine, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice key, struct dg_slice upload_id,
                        uint32_t after_part_no, uint32_t max_rows,
                        int (*row)(void *receiver, const struct dg_part_row *row), void *receiver,
                        bool *ret_truncated, struct dg_error *err);

struct dg_upload_row {
  bool is_prefix;
  struct dg_slice key, upload_id;
  int64_t initiated_s;
  uint32_t checksum_kind;
  bool checksum_full_object;
};
int dg_engine_upload_list(struct dg_engine *engine, const struct dg_call *call,
                          struct dg_slice bucket, struct dg_slice prefix,
                          struct dg_slice delimiter, struct dg_slice key_marker,
                          struct dg_slice upload_id_marker, uint32_t max_rows,
                          int (*row)(void *receiver, const struct dg_upload_row *row),
                          void *receiver, bool *ret_truncated, struct dg_error *err);

/* ---- Whole-engine state ------------------------------------------------------ */

struct dg_engine_stats {
  uint64_t cache_size_bytes, cache_max_bytes, cache_entries;
  uint64_t uploads_inflight, upload_part_bytes;
};
void dg_engine_stats(const struct dg_engine *engine, struct dg_engine_stats *ret_stats); /* [any] */

/* For /_/stats: objects and bytes of one bucket, or of all (empty slice).
 * Walks listings; cached 10 s. One request counts at a time; others get what was
 * counted in the last ten minutes, or wait as their call allows, a few of them: the next
 * fails with DG_E_SLOW_DOWN. ret_deferred: as in dg_get_request. [worker] */
struct dg_usage {
  uint64_t total_objects, total_original_bytes, total_stored_bytes;
  uint64_t age_ms; /* ago the count began: what changed since may be missing */
};
int dg_engine_usage(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                    bool *ret_deferred, struct dg_usage *ret_usage, struct dg_error *err);
/* Sets the gauges of buckets with a quota: what they hold, and their limits. [any] */
void dg_engine_quota_gauges(struct dg_engine *engine);
/* Asks every backend whether it is usable now. 0 when at least one is; ret_failed
 * (always set) says how many are not. err tells of the last one that failed. */
int dg_engine_ready(struct dg_engine *engine, const struct dg_call *call, size_t *ret_failed,
                    struct dg_error *err);

#endif
