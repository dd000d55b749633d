/* SPDX-License-Identifier: Apache-2.0 */
/* Who may decide: about a deltaspace's reference and variants, and about a
 * bucket's existence.
 *
 * Three levels of locks, made on demand and dropped with their last user:
 *
 *   key          one holder at a time. It holds the deltaspace shared, so the
 *                reference outlives every decision that rests on it
 *   deltaspace   exclusive: by who makes or removes its reference. Both hold the
 *                bucket shared, so that outlives every decision about what is in it
 *   bucket       shared: by those, and by whoever creates something that
 *                belongs to the bucket. Exclusive: by its deletion
 *
 * Waiters are served in order of arrival (shared neighbours together) and give
 * up at the call's deadline. A lock is taken and released by the same worker,
 * never held while a client sends bytes, and nobody who holds one takes a second
 * one. */
#ifndef DG_CORE_ENGINE_LOCKS_H
#define DG_CORE_ENGINE_LOCKS_H

#include <deltaglider/plugin.h>

struct dg_lock_table;
struct dg_space_lock;
struct dg_bucket_lock;

struct dg_lock_table *dg_lock_table_new(void);
void dg_lock_table_free(struct dg_lock_table *table); /* no lock may be held */

/* [worker] Waits for the deltaspace, alone. DG_E_SLOW_DOWN at the deadline (60 s
 * without one), DG_E_CANCELLED when the client left first. */
int dg_space_lock_take(struct dg_lock_table *table, const struct dg_call *call,
                       struct dg_slice bucket, struct dg_slice prefix,
                       struct dg_space_lock **ret_lock, struct dg_error *err);
/* [worker] The same for one key of the deltaspace, which others may share. */
int dg_key_lock_take(struct dg_lock_table *table, const struct dg_call *call,
                     struct dg_slice bucket, struct dg_slice prefix, struct dg_slice key,
                     struct dg_space_lock **ret_lock, struct dg_error *err);
void dg_space_lock_release(struct dg_space_lock *lock); /* either; NULL is fine */

#define DG_LOCK_SHARED 1u
#define DG_LOCK_EXCLUSIVE 2u

/* [worker] The same for a bucket. mode: DG_LOCK_*. */
int dg_bucket_lock_take(struct dg_lock_table *table, const struct dg_call *call,
                        struct dg_slice bucket, uint32_t mode, struct dg_bucket_lock **ret_lock,
                        struct dg_error *err);
void dg_bucket_lock_release(struct dg_bucket_lock *lock); /* NULL is fine */

#endif
