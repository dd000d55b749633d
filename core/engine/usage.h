/* SPDX-License-Identifier: Apache-2.0 */
/* Objects and bytes of a bucket, counted by listing it, kept for ten seconds. */
#ifndef DG_CORE_ENGINE_USAGE_H
#define DG_CORE_ENGINE_USAGE_H

struct dg_usage_cache;

struct dg_usage_cache *dg_usage_cache_new(void);
void dg_usage_cache_free(struct dg_usage_cache *cache); /* NULL is fine */

#endif
