/* SPDX-License-Identifier: Apache-2.0 */
/* Object metadata and small bodies in memory, served only while validated.
 *
 * An entry says what the backend held at the moment it was confirmed. It is
 * served as it is for DG_METACACHE_FRESH_MS after that; later it must be
 * confirmed again by its validator. Writes through this server take the entry
 * out at once: between write_begin() and write_end() nothing is kept for that
 * key, and what a reader fetched before the write ended is refused.
 *
 * `bucket` is the name the bucket has on its backend, and `home` that backend: an
 * address that is compared and nothing else. Clients may reach one bucket by several
 * names and through several backends, and two backends may have buckets of one name.
 * So who looks asks for one home; who writes takes out what any home holds. */
#ifndef DG_CORE_ENGINE_METACACHE_H
#define DG_CORE_ENGINE_METACACHE_H

#include <glib.h>
#include <stdbool.h>

#include <deltaglider/plugin.h>

#include "common/meta.h"

#define DG_METACACHE_FRESH_MS 1000u

struct dg_metacache;

/* meta_max_bytes bounds metadata, body_max_bytes bodies; 0 keeps none. */
struct dg_metacache *dg_metacache_new(uint64_t meta_max_bytes, uint64_t body_max_bytes);
void dg_metacache_free(struct dg_metacache *cache);
/* [any] Another bound for metadata; 0 keeps nothing. What is too much goes now. */
void dg_metacache_resize(struct dg_metacache *cache, uint64_t meta_max_bytes);

/* One answer; clear it. */
struct dg_cached {
  struct dg_meta *meta; /* shared */
  GBytes *body;         /* shared, the whole plaintext; NULL: not kept */
  bool fresh;           /* false: confirm by meta->validator first */
};
void dg_cached_clear(struct dg_cached *cached);

/* [any] True if there is an entry. */
bool dg_metacache_get(struct dg_metacache *cache, const void *home, struct dg_slice bucket,
                      struct dg_slice key, struct dg_cached *ret_cached);

/* [any] Before asking the backend: the moment of the question. */
uint64_t dg_metacache_ticket(struct dg_metacache *cache, struct dg_slice bucket,
                             struct dg_slice key);
/* [any] Keeps meta (shared) and body (shared, or NULL) unless a write came
 * between. meta must not change any more. Without a validator the entry ends
 * with its freshness. */
void dg_metacache_put(struct dg_metacache *cache, const void *home, struct dg_slice bucket,
                      struct dg_slice key, uint64_t ticket, struct dg_meta *meta, GBytes *body);
/* [any] The backend still holds what `meta` says: fresh again. */
void dg_metacache_confirm(struct dg_metacache *cache, const void *home, struct dg_slice bucket,
                          struct dg_slice key, uint64_t ticket, const struct dg_meta *meta);
/* [any] Forgets one key. */
void dg_metacache_drop(struct dg_metacache *cache, struct dg_slice bucket, struct dg_slice key);
/* [any] Forgets everything, and refuses what readers have fetched until now. */
void dg_metacache_clear(struct dg_metacache *cache);

/* [any] Around each change of an object. */
void dg_metacache_write_begin(struct dg_metacache *cache, struct dg_slice bucket,
                              struct dg_slice key);
void dg_metacache_write_end(struct dg_metacache *cache, struct dg_slice bucket,
                            struct dg_slice key);

uint64_t dg_metacache_body_max(const struct dg_metacache *cache); /* [any] */
/* [any] Bytes of bodies held, and entries. */
void dg_metacache_usage(struct dg_metacache *cache, uint64_t *ret_body_bytes,
                        uint64_t *ret_entries);

#endif
