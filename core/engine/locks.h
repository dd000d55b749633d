/* SPDX-License-Identifier: Apache-2.0 */
/* One lock per deltaspace: who may decide about its reference and variants.
 *
 * A table of locks named by bucket and deltaspace prefix, made on demand and
 * dropped with their last user. Waiters are served in order of arrival and
 * give up at the call's deadline. A lock is taken and released by the same
 * worker, and never held while a client sends bytes. */
#ifndef DG_CORE_ENGINE_LOCKS_H
#define DG_CORE_ENGINE_LOCKS_H

#include <deltaglider/plugin.h>

struct dg_lock_table;
struct dg_space_lock;

struct dg_lock_table *dg_lock_table_new(void);
void dg_lock_table_free(struct dg_lock_table *table); /* no lock may be held */

/* [worker] Waits for the lock. DG_E_SLOW_DOWN at the deadline (60 s without
 * one), DG_E_CANCELLED when the client left first. */
int dg_space_lock_take(struct dg_lock_table *table, const struct dg_call *call,
                       struct dg_slice bucket, struct dg_slice prefix,
                       struct dg_space_lock **ret_lock, struct dg_error *err);
void dg_space_lock_release(struct dg_space_lock *lock); /* NULL is fine */

#endif
