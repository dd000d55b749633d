/* SPDX-License-Identifier: Apache-2.0 */
/* The signatures seen lately, so that a captured request is not served twice.
 * Bounded: the oldest make room. Sharded; locks inside. Thread: [any]. */
#ifndef DG_CORE_ACCESS_REPLAY_H
#define DG_CORE_ACCESS_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DG_REPLAY_MAX_ENTRIES 500000u

struct dg_replay;

struct dg_replay *dg_replay_new(uint32_t window_s, size_t max_entries);
void dg_replay_free(struct dg_replay *replay); /* NULL is fine */

/* True if this (verified) signature came within the last window_s seconds;
 * else remembers it. A window of 0 remembers nothing. */
bool dg_replay_seen(struct dg_replay *replay, const uint8_t signature[32], int64_t now_s);

/* The request came to nothing: its signature may come again. */
void dg_replay_forget(struct dg_replay *replay, const uint8_t signature[32]);

/* Entries held now, for tests and metrics. */
size_t dg_replay_count(struct dg_replay *replay);

#endif
