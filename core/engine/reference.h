/* SPDX-License-Identifier: Apache-2.0 */
/* References at hand: verified, mapped, with the codec's index, shared by all
 * puts and gets. Named by the SHA-256 of their content, so an entry can never
 * be stale. Opening one is done once, however many wait for it; when the request
 * that does it is ended, one of those that wait goes on. */
#ifndef DG_CORE_ENGINE_REFERENCE_H
#define DG_CORE_ENGINE_REFERENCE_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_codec;
struct dg_codec_ref;
struct dg_log;
struct dg_metrics;
struct dg_permits;
struct dg_refcache;
struct dg_ref;
struct dg_route;

/* dir: holds copies of references whose backend has no local file; borrowed
 * strings are copied. max_bytes: anonymous memory of entries nobody uses. */
struct dg_refcache *dg_refcache_new(const char *dir, uint64_t max_bytes, struct dg_log *log,
                                    struct dg_metrics *metrics);
void dg_refcache_free(struct dg_refcache *cache); /* every dg_ref closed; NULL is fine */

#define DG_REF_FOR_DECODE 1u /* no match index needed */
#define DG_REF_FOR_ENCODE 2u

/* [worker] The reference of a deltaspace, whose content must have this SHA-256.
 * DG_E_NO_SUCH_KEY: there is none. DG_E_CORRUPT: it has another content.
 * *ret_hit: it was in memory.
 * ret_deferred: NULL, or set, with DG_E_SLOW_DOWN, when it would have to be loaded, or
 * another request's load to be waited for. Waits end with the call (DG_E_CANCELLED, _TIMEOUT). */
int dg_refcache_open(struct dg_refcache *cache, const struct dg_call *call,
                     const struct dg_route *route, struct dg_permits *permits,
                     struct dg_slice prefix, const uint8_t sha256[32], uint32_t purpose,
                     bool *ret_deferred, struct dg_ref **ret_ref, bool *ret_hit,
                     struct dg_error *err);
void dg_ref_close(struct dg_ref *ref); /* [worker] NULL is fine */
const struct dg_codec_ref *dg_ref_codec(const struct dg_ref *ref);

/* What was prepared for this codec, which nobody uses any more. [startup] */
void dg_refcache_evict_codec(struct dg_refcache *cache, const struct dg_codec *codec);
/* [any] Distrusts a content: the next open verifies it again. */
void dg_refcache_evict(struct dg_refcache *cache, const uint8_t sha256[32]);

/* [worker] The same for a reference that was deleted: its copy and index in the
 * cache directory go too. */
void dg_refcache_forget(struct dg_refcache *cache, const uint8_t sha256[32]);

uint64_t dg_refcache_max(const struct dg_refcache *cache);
void dg_refcache_usage(struct dg_refcache *cache, uint64_t *ret_bytes, uint64_t *ret_entries);

#endif
