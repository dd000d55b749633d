/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/locks.h"

#include <glib.h>
#include <stdbool.h>

#include "common/clock.h"
#include "common/slice.h"
#include "core/engine/callwait.h"

#include "common/banned.h"

#define WAIT_WITHOUT_DEADLINE_MS UINT64_C(60000)

/* Tickets make it a queue: a waiter that gives up leaves a hole, which whoever
 * goes next skips. */
struct waiter {
  struct waiter *next;
  GCond turn;
};

struct lock {
  struct dg_lock_table *table;
  GBytes *name; /* key in the table */
  bool exclusive; /* held so */
  uint32_t sharers;
  struct waiter *first, **last_link;
};

struct dg_lock_table {
  GMutex mutex; /* guards every lock of the table: held for a few instructions only */
  GHashTable *locks;
};

struct dg_space_lock {
  struct lock *bucket, *space;
  struct lock *key; /* NULL: the deltaspace is held alone */
};

struct dg_bucket_lock {
  struct lock *bucket;
};

struct dg_lock_table *dg_lock_table_new(void)
{
  struct dg_lock_table *table = g_new0(struct dg_lock_table, 1);

  g_mutex_init(&table->mutex);
  table->locks = g_hash_table_new(g_bytes_hash, g_bytes_equal);
  return table;
}

void dg_lock_table_free(struct dg_lock_table *table)
{
  if (!table)
    return;
  g_assert(g_hash_table_size(table->locks) == 0);
  g_hash_table_unref(table->locks);
  g_mutex_clear(&table->mutex);
  g_free(table);
}

/* BUCKET, BUCKET NUL PREFIX, or BUCKET NUL NUL KEY: a key may be a prefix too. */
static GBytes *lock_name(struct dg_slice bucket, uint32_t nul_count, struct dg_slice rest)
{
  size_t len = bucket.len + nul_count + rest.len;
  char *name = g_malloc0(len + 1);

  memcpy(name, bucket.data, bucket.len);
  if (rest.len)
    memcpy(name + bucket.len + nul_count, rest.data, rest.len);
  return g_bytes_new_take(name, len);
}

static GBytes *bucket_name(struct dg_slice bucket)
{
  return lock_name(bucket, 0, DG_SLICE(""));
}

static GBytes *space_name(struct dg_slice bucket, struct dg_slice prefix)
{
  return lock_name(bucket, 1, prefix);
}

static GBytes *key_name(struct dg_slice bucket, struct dg_slice key)
{
  return lock_name(bucket, 2, key);
}

static struct lock *find_locked(struct dg_lock_table *table, GBytes *name)
{
  struct lock *lock = g_hash_table_lookup(table->locks, name);

  if (!lock) {
    lock = g_new0(struct lock, 1);
    lock->table = table;
    lock->name = g_bytes_ref(name);
    lock->last_link = &lock->first;
    g_hash_table_insert(table->locks, lock->name, lock);
  }
  return lock;
}

static void drop_locked(struct lock *lock)
{
  if (lock->exclusive || lock->sharers || lock->first)
    return;
  g_hash_table_remove(lock->table->locks, lock->name);
  g_bytes_unref(lock->name);
  g_free(lock);
}

static void unlink_waiter(struct lock *lock, struct waiter *waiter)
{
  struct waiter **link = &lock->first;

  while (*link != waiter)
    link = &(*link)->next;
  *link = waiter->next;
  if (!waiter->next)
    lock->last_link = link;
}

static bool is_free(const struct lock *lock, uint32_t mode)
{
  return !lock->exclusive && (mode == DG_LOCK_SHARED || lock->sharers == 0);
}

/* Waits until this waiter heads the queue of a lock that is free for it. */
static int wait_turn(struct lock *lock, const struct dg_call *call, uint32_t mode,
                     struct waiter *waiter, struct dg_error *err)
{
  uint64_t deadline_ms = call->deadline_mono_ms ? call->deadline_mono_ms
                                                : dg_time_mono_ms() + WAIT_WITHOUT_DEADLINE_MS;

  while (!is_free(lock, mode) || lock->first != waiter) {
    int rc = dg_call_wait(call, &waiter->turn, &lock->table->mutex, deadline_ms, err);

    if (rc != 0)
      return rc < 0 ? -1
                    : dg_fail(err, DG_E_SLOW_DOWN, "the lock was not free before the deadline");
  }
  return 0;
}

/* name is transferred. */
static int take(struct dg_lock_table *table, const struct dg_call *call, GBytes *name,
                uint32_t mode, struct lock **ret_lock, struct dg_error *err)
{
  struct waiter waiter = {0};
  struct lock *lock;
  int rc;

  g_mutex_lock(&table->mutex);
  lock = find_locked(table, name);
  g_cond_init(&waiter.turn);
  *lock->last_link = &waiter;
  lock->last_link = &waiter.next;
  rc = wait_turn(lock, call, mode, &waiter, err);
  unlink_waiter(lock, &waiter);
  if (rc == 0) {
    if (mode == DG_LOCK_EXCLUSIVE)
      lock->exclusive = true;
    else
      lock->sharers++;
    *ret_lock = lock;
  }
  /* The one behind may have been waiting for us to leave the head, with the
   * lock (both share it) or without. */
  if (!lock->exclusive && lock->first)
    g_cond_signal(&lock->first->turn);
  drop_locked(lock);
  g_cond_clear(&waiter.turn);
  g_mutex_unlock(&table->mutex);
  g_bytes_unref(name);
  return rc;
}

static void release(struct lock *lock)
{
  struct dg_lock_table *table = lock->table;

  g_mutex_lock(&table->mutex);
  if (lock->exclusive)
    lock->exclusive = false;
  else
    lock->sharers--;
  if (lock->first)
    g_cond_signal(&lock->first->turn);
  drop_locked(lock);
  g_mutex_unlock(&table->mutex);
}

static int take_space(struct dg_lock_table *table, const struct dg_call *call,
                      struct dg_slice bucket, struct dg_slice prefix, uint32_t mode,
                      struct dg_space_lock *lock, struct dg_error *err)
{
  if (take(table, call, bucket_name(bucket), DG_LOCK_SHARED, &lock->bucket, err) < 0)
    return -1;
  if (take(table, call, space_name(bucket, prefix), mode, &lock->space, err) < 0) {
    release(lock->bucket);
    return -1;
  }
  return 0;
}

int dg_space_lock_take(struct dg_lock_table *table, const struct dg_call *call,
                       struct dg_slice bucket, struct dg_slice prefix,
                       struct dg_space_lock **ret_lock, struct dg_error *err)
{
  struct dg_space_lock lock = {0};

  if (take_space(table, call, bucket, prefix, DG_LOCK_EXCLUSIVE, &lock, err) < 0)
    return -1;
  *ret_lock = g_memdup2(&lock, sizeof lock);
  return 0;
}

int dg_key_lock_take(struct dg_lock_table *table, const struct dg_call *call,
                     struct dg_slice bucket, struct dg_slice prefix, struct dg_slice key,
                     struct dg_space_lock **ret_lock, struct dg_error *err)
{
  struct dg_space_lock lock = {0};

  /* The key first: who waits for it must not keep a whole deltaspace waiting. */
  if (take(table, call, key_name(bucket, key), DG_LOCK_EXCLUSIVE, &lock.key, err) < 0)
    return -1;
  if (take_space(table, call, bucket, prefix, DG_LOCK_SHARED, &lock, err) < 0) {
    release(lock.key);
    return -1;
  }
  *ret_lock = g_memdup2(&lock, sizeof lock);
  return 0;
}

void dg_space_lock_release(struct dg_space_lock *lock)
{
  if (!lock)
    return;
  release(lock->space);
  release(lock->bucket);
  if (lock->key)
    release(lock->key);
  g_free(lock);
}

int dg_bucket_lock_take(struct dg_lock_table *table, const struct dg_call *call,
                        struct dg_slice bucket, uint32_t mode, struct dg_bucket_lock **ret_lock,
                        struct dg_error *err)
{
  struct dg_bucket_lock lock;

  if (take(table, call, bucket_name(bucket), mode, &lock.bucket, err) < 0)
    return -1;
  *ret_lock = g_memdup2(&lock, sizeof lock);
  return 0;
}

void dg_bucket_lock_release(struct dg_bucket_lock *lock)
{
  if (!lock)
    return;
  release(lock->bucket);
  g_free(lock);
}
