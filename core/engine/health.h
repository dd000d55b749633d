/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of one backend: does it answer, and which buckets it has.
 *
 * One dg_health stands beside each backend instance and lives as long as it. It
 * has a thread of its own, begun when first needed, which alone calls the
 * backend here: so a backend that hangs holds up nobody but those who wait for
 * it, and they give up at their own deadline.
 *
 *            probe succeeds                     two probes fail
 *   (start) ---------------> HEALTHY --------------------------> UNREACHABLE
 *                             ^   ^                              AUTH_REJECTED
 *                             |   |   a probe succeeds               |
 *                             |   +----------------------------------+
 *                             +-> ERRORING: answers, but with errors
 *
 * UNREACHABLE and AUTH_REJECTED *gate* the backend: requests for its buckets fail
 * at once. What is not healthy is probed again in the background, soon at first,
 * then every reprobe_ms. A healthy backend is probed when a call of it failed in a
 * way that speaks of an outage (dg_health_suspect()). */
#ifndef DG_CORE_ENGINE_HEALTH_H
#define DG_CORE_ENGINE_HEALTH_H

#include <glib.h>
#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_backend;
struct dg_health;
struct dg_log;
struct dg_metrics;

enum dg_health_state {
  DG_HEALTH_UNKNOWN, /* not probed yet: open */
  DG_HEALTH_HEALTHY,
  DG_HEALTH_ERRORING,
  DG_HEALTH_AUTH_REJECTED,
  DG_HEALTH_UNREACHABLE,
};

struct dg_health_params {
  struct dg_backend *backend; /* borrowed; outlives the health */
  struct dg_log *log;         /* borrowed, may be NULL */
  struct dg_metrics *metrics; /* borrowed, may be NULL */
  bool gates;                 /* false: nothing is probed and nothing gated */
  uint32_t reprobe_ms;        /* longest time between probes of what is not healthy */
  uint32_t list_timeout_ms;   /* for one listing of buckets, and one look for a bucket */
  uint32_t list_cooldown_ms;  /* how long a failed one is not asked again */
  uint32_t list_fresh_ms;     /* how long a listing is good */
};

struct dg_health *dg_health_new(const struct dg_health_params *params);
/* Cancels what is under way and waits for it. Before dg_backend_free(); NULL is
 * fine. [startup], or when the last user of the instance is gone. */
void dg_health_free(struct dg_health *health);

/* Probes all of them side by side: two tries of five seconds. Each one's outcome is
 * logged. *ret_gated: how many are gated now. Fails with DG_E_CONFIG when one says
 * that its configuration is wrong, which no waiting mends. For instances that are
 * new: at start, and in a reload. [startup], [worker] */
int dg_health_probe_new(struct dg_health *const *all, size_t count, size_t *ret_gated,
                        struct dg_error *err);

enum dg_health_state dg_health_state(struct dg_health *health); /* [any] */
/* The same in words: "unreachable", and so on. [any] */
const char *dg_health_text(struct dg_health *health);

/* May a request for a bucket of this backend (whom the configuration calls name) go
 * on? DG_E_BACKEND_DOWN with a text for the client when not. [any] */
int dg_health_check(struct dg_health *health, const char *name, struct dg_slice bucket,
                    struct dg_error *err);

/* A call of the backend failed with this code. What speaks of an outage
 * or of credentials that no longer hold (DG_E_UNAVAILABLE, DG_E_TIMEOUT,
 * DG_E_BACKEND_DENIED) makes it be probed, at most every few seconds;
 * anything else is ignored. [any] */
void dg_health_suspect(struct dg_health *health, int32_t code);

/* Asks all of them once, side by side, until call's deadline. Who is gated is not
 * asked and counts as failed. *ret_failed is always set; err tells of one that
 * failed. 0 when at least one works. [worker] */
int dg_health_ask(struct dg_health *const *all, size_t count, const struct dg_call *call,
                  size_t *ret_failed, struct dg_error *err);

/* ---- Looking for one bucket: core/engine/route.c ------------------------------- */

/* Until when (monotonic ms) a look for a bucket may take; 0: it is gated, or was
 * too slow just now, and is not asked. [any] */
uint64_t dg_health_look_until(struct dg_health *health);
/* A look ran into that deadline: others need not, for a while. [any] */
void dg_health_was_slow(struct dg_health *health);
/* DG_E_BACKEND_DOWN, for a look that cannot be made. [any] */
int dg_health_fail_down(struct dg_health *health, const char *name, struct dg_slice bucket,
                        struct dg_error *err);

/* ---- Buckets ---------------------------------------------------------------------- */

struct dg_bucket_seen {
  int64_t created_at_s;
  char name[];
};

/* Begins a listing unless there is a fresh one, or it is gated, or failed a while
 * ago (insist: then it is asked all the same). Returns a ticket for
 * dg_health_buckets_wait(), 0 when nothing was begun. [any] */
uint64_t dg_health_buckets_begin(struct dg_health *health, bool insist);
/* Waits for it, until the listing's own deadline or call's. Returns 0, or -1 when
 * the backend cannot list now. *ret_rows (struct dg_bucket_seen *, sorted by name;
 * shared, g_ptr_array_unref()) is then what it had last, or NULL when that was
 * never known. [worker] */
int dg_health_buckets_wait(struct dg_health *health, uint64_t ticket, const struct dg_call *call,
                           GPtrArray **ret_rows, struct dg_error *err);
/* A bucket came or went: what was listed before is no longer fresh. [any] */
void dg_health_buckets_forget(struct dg_health *health);
/* The listing tells that it has no such bucket. False when nobody knows. [any] */
bool dg_health_lacks_bucket(struct dg_health *health, const char *bucket);
/* Lets the thread list once in a while, so that there is something to tell from
 * when the backend is gone. [any] */
void dg_health_buckets_keep(struct dg_health *health);

#endif
