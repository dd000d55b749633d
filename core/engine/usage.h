/* SPDX-License-Identifier: Apache-2.0 */
/* Objects and bytes of a bucket, counted by listing it, and kept for a while. One
 * count is made at a time. */
#ifndef DG_CORE_ENGINE_USAGE_H
#define DG_CORE_ENGINE_USAGE_H

#include <stdint.h>

struct dg_usage_cache;

#define DG_USAGE_KEEP_MS 10000u

struct dg_usage_cache *dg_usage_cache_new(uint64_t keep_ms);
void dg_usage_cache_free(struct dg_usage_cache *cache); /* NULL is fine */

#endif
