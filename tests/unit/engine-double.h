/* SPDX-License-Identifier: Apache-2.0 */
/* A backend in memory, a codec in fifty lines, and an engine on top of them.
 *
 * The store outlives the engine, so a test can let a step fail, or "crash" (every
 * later call fails), open a new engine on the same store and look what is left. */
#ifndef TESTS_UNIT_ENGINE_DOUBLE_H
#define TESTS_UNIT_ENGINE_DOUBLE_H

#include <glib.h>
#include <stdbool.h>

#include "core/config/config.h"
#include "core/engine/engine.h"
#include "core/engine/health.h"

#define DOUBLE_WINDOW 4096u

struct double_store;
struct dg_plug_services;

struct double_store *double_store_new(uint64_t caps);
void double_store_free(struct double_store *store);

/* The n-th changing step from now (1 is the next: write, commit, remove,
 * set_meta) fails with `code`; crash: so does everything after it, until
 * double_store_revive(). 0 turns it off. */
void double_store_fail(struct double_store *store, uint64_t n, int32_t code, bool crash);
void double_store_revive(struct double_store *store);
/* Changing steps seen so far. */
uint64_t double_store_steps(struct double_store *store);
/* True if the step asked for was reached. */
bool double_store_failed(struct double_store *store);
/* The next head or get of a reference fails with this code. */
void double_store_fail_reference(struct double_store *store, int32_t code);
/* Gets of references, or listings, wait until it is something else. [any] */
enum double_hold { DOUBLE_HOLD_NONE, DOUBLE_HOLD_REFERENCES, DOUBLE_HOLD_LISTS };
void double_store_hold(struct double_store *store, enum double_hold hold);
void double_store_wait_held(struct double_store *store, uint32_t count); /* until so many do */

/* Looks and changes behind the engine's back. key: deltaspace prefix for a
 * reference. */
bool double_store_has(struct double_store *store, const char *bucket, const char *key,
                      uint32_t variant);
const struct dg_meta *double_store_meta(struct double_store *store, const char *bucket,
                                        const char *key, uint32_t variant);
void double_store_put(struct double_store *store, const char *bucket, const char *key,
                      uint32_t variant, GBytes *body, struct dg_meta *meta);
void double_store_remove(struct double_store *store, const char *bucket, const char *key,
                         uint32_t variant);
void double_store_flip(struct double_store *store, const char *bucket, const char *key,
                       uint32_t variant, size_t at);
/* The next listing passes the name of one variant of the key, then meanwhile() runs, then
 * it passes the other's: it shows no row for the key. */
void double_store_list_slowly(struct double_store *store, const char *key,
                              void (*meanwhile)(void));
/* The same for the next look at the key's two names. */
void double_store_look_slowly(struct double_store *store, const char *key,
                              void (*meanwhile)(void));
/* Copies that the store made by itself. */
uint32_t double_store_copies(struct double_store *store);
/* Uploads that the store was told to join, and neither joined nor dropped. Not while
 * others use it. */
uint32_t double_store_upload_count(struct double_store *store);
uint32_t double_store_count(struct double_store *store, uint32_t variant);
/* Notes that are there. */
uint32_t double_store_note_count(struct double_store *store);
bool double_store_has_note(struct double_store *store, const char *bucket, struct dg_slice id);
/* All of them get that text; NULL: they go. */
void double_store_change_notes(struct double_store *store, const char *text);
/* What all stores tell of any part from now on, and how often they have been asked since. */
struct double_place {
  int32_t code; /* 0: range */
  struct dg_range range;
  uint32_t asked;
};
void double_store_place(const struct double_place *known);
uint32_t double_store_asked(void);
/* Writers opened and neither committed nor aborted, readers not closed. */
int double_store_open_streams(struct double_store *store);

/* Leases, with more than one instance: first of all a fresh table. Taken as by another
 * server, for so long; given back by it; those that are there. */
void double_lease_reset(void);
void double_lease_set(const char *bucket, const char *prefix, uint32_t ttl_ms);
void double_lease_remove(const char *bucket, const char *prefix);
uint32_t double_lease_count(void);

/* How the codec behaves. Global: one test at a time. */
struct double_codec_switches {
  bool unverified;       /* its deltas look foreign */
  bool serial;           /* no parallel windows */
  int32_t fail_window;   /* this error from encode_window() */
};
extern struct double_codec_switches double_codec;

/* Before double_engine_open(): puts a layer over the backend (given transferred),
 * and hears of its calls. NULL: none. */
extern struct dg_backend *(*double_wrap)(struct dg_backend *inner);
extern const struct dg_plug_services *double_services;

/* An engine on a store, with directories of its own. */
struct double_engine {
  struct dg_engine *engine;
  struct dg_snapshot *snapshot;
  struct dg_backend *plain; /* under backend, when that is a layer */
  struct dg_backend *backend;
  struct dg_health *health;
  struct dg_codec *codec;
  struct dg_module *backend_module, *codec_module;
  struct dg_metrics *metrics;
  char *dir;
  bool owns_dir;
};
/* dir: NULL for a fresh one. */
void double_engine_open(struct double_engine *engine, struct double_store *store, const char *dir);
void double_engine_close(struct double_engine *engine);
/* The same on backend-fs and codec-xdelta3 (engine-real.c). dir is kept. */
void double_real_open(struct double_engine *engine, const char *dir);
/* A fresh directory for it, in memory if possible. Transferred. */
char *double_real_dir(void);
/* Before double_engine_open(): what the snapshot says. */
struct double_settings {
  uint64_t metadata_cache_bytes, cache_bytes, max_object_size, max_delta_object_size;
  uint64_t mpu_delta_max_bytes;
  double max_delta_ratio;
  bool delta_sniffing;
  enum dg_verify_reads verify_passthrough_reads;
  uint32_t max_uploads, idle_ttl_s;
  uint64_t max_part_bytes; /* 0: no limit */
  /* Of the bucket double_limited alone; 0: none. */
  uint64_t quota_bytes, quota_objects;
  const char *alias;
  uint32_t usage_cache_ttl_s;
  uint32_t instances, lease_ttl_s, lease_wait_s; /* 0 instances: this one alone */
};
extern struct double_settings double_settings;
extern const char *double_limited; /* "b", which all doubles have */
void double_settings_reset(void);

/* ---- Short forms ---- */

extern const struct dg_call double_call;

GBytes *double_bytes(size_t size, uint32_t seed);
/* base with some bytes changed from `at` on. */
GBytes *double_edit(GBytes *base, size_t at, size_t len, uint32_t seed);

int double_put(struct double_engine *engine, const char *bucket, const char *key, GBytes *body,
               struct dg_put_result *ret_result, struct dg_error *err);
int double_put_checked(struct double_engine *engine, const char *bucket, const char *key,
                       GBytes *body, dg_write_check_fn check, void *receiver,
                       struct dg_put_result *ret_result, struct dg_error *err);
int double_get(struct double_engine *engine, const char *bucket, const char *key, GBytes **ret_body,
               struct dg_error *err);
int double_get_range(struct double_engine *engine, const char *bucket, const char *key,
                     struct dg_range range, GBytes **ret_body, struct dg_error *err);
int double_delete(struct double_engine *engine, const char *bucket, const char *key,
                  struct dg_error *err);
struct dg_slice double_str(const char *text);

/* Uploads into the bucket "b". meta may be NULL. */
int double_upload_create(struct double_engine *engine, const char *key, uint32_t kind, bool full,
                         const struct dg_meta *meta, char ret_id[33], struct dg_error *err);
int double_upload_part(struct double_engine *engine, const char *key, const char *id,
                       uint32_t number, GBytes *body, struct dg_part_result *ret_result,
                       struct dg_error *err);
/* Of parts 1 to count. checksum: of the whole, or "". check may be NULL. */
int double_upload_complete(struct double_engine *engine, const char *key, const char *id,
                           const struct dg_part_result *parts, uint32_t count,
                           const char *checksum, dg_write_check_fn check,
                           struct dg_put_result *ret_result, struct dg_error *err);

/* ---- Requests on threads of their own ---- */

#define DOUBLE_FAR_MS 60000u

/* Stands first in what a test keeps of such a request. */
struct double_caller {
  struct dg_call call;
  int32_t cancelled;
  bool defers, deferred; /* it may come back: set by the test, and by the engine */
  int rc;
  struct dg_error err;
  gint ended; /* atomic */
  int (*request)(struct double_caller *caller); /* with call; gives rc, and err */
  GThread *thread;
};
/* Starts it, anew; limit_ms 0: it is too late from the beginning. */
void double_caller_start(struct double_caller *caller, int (*request)(struct double_caller *caller),
                         uint64_t limit_ms);
void double_caller_leave(struct double_caller *caller);
/* Waits for its end; asserts that it failed so, or succeeded (DG_E_OK). */
void double_caller_join(struct double_caller *caller, int32_t code);

#endif
