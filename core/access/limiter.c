/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/limiter.h"

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/checksum.h"
#include "common/slice.h"

#include "common/banned.h"

#define SETS 2048u
#define WAYS 8u

/* Of the answers to failures. Typing errors cost nothing, guessing soon does. */
#define FREE_FAILURES 10u
#define FIRST_DELAY_MS 200u
#define DOUBLINGS 5u
#define MAX_DELAY_MS 5000u

struct entry {
  uint8_t source[16]; /* start of a seeded digest */
  int64_t window_start_s;
  int64_t locked_until_s; /* 0: not locked */
  uint32_t failures;      /* 0: free */
};

struct dg_limiter {
  uint32_t failures, window_s, lockout_s;
  uint8_t seed[16];       /* so that nobody can aim at one set */
  _Atomic int64_t idle_s; /* from then on nothing remembered matters */
  pthread_mutex_t mutex;  /* guards entries */
  struct entry *entries;  /* SETS * WAYS, untouched pages cost nothing */
};

struct dg_limiter *dg_limiter_new(uint32_t failures, uint32_t window_s, uint32_t lockout_s)
{
  struct dg_limiter *limiter = g_new0(struct dg_limiter, 1);

  limiter->failures = failures;
  limiter->window_s = window_s;
  limiter->lockout_s = lockout_s;
  for (size_t i = 0; i < sizeof limiter->seed; i += 4) {
    guint32 random = g_random_int();

    memcpy(limiter->seed + i, &random, 4);
  }
  atomic_init(&limiter->idle_s, INT64_MIN);
  (void)pthread_mutex_init(&limiter->mutex, NULL);
  limiter->entries = g_new0(struct entry, (gsize)SETS * WAYS);
  return limiter;
}

void dg_limiter_free(struct dg_limiter *limiter)
{
  if (!limiter)
    return;
  (void)pthread_mutex_destroy(&limiter->mutex);
  g_free(limiter->entries);
  g_free(limiter);
}

bool dg_limiter_idle(const struct dg_limiter *limiter, int64_t now_s)
{
  return limiter->failures == 0 ||
         now_s >= atomic_load_explicit(&limiter->idle_s, memory_order_relaxed);
}

/* Digests the source; returns its set. */
static struct entry *set_of(struct dg_limiter *limiter, struct dg_slice source, uint8_t digest[32])
{
  uint32_t number;

  dg_hmac_sha256(limiter->seed, sizeof limiter->seed, source, digest);
  memcpy(&number, digest + 16, sizeof number);
  return limiter->entries + (size_t)(number % SETS) * WAYS;
}

static struct entry *find(struct entry *set, const uint8_t *digest)
{
  for (size_t i = 0; i < WAYS; i++)
    if (set[i].failures && memcmp(set[i].source, digest, sizeof set[i].source) == 0)
      return &set[i];
  return NULL;
}

/* When an entry stops mattering. */
static int64_t entry_end(const struct dg_limiter *limiter, const struct entry *entry)
{
  return entry->locked_until_s ? entry->locked_until_s
                               : entry->window_start_s + (int64_t)limiter->window_s;
}

static struct entry *pick_victim(const struct dg_limiter *limiter, struct entry *set)
{
  struct entry *victim = &set[0];

  for (size_t i = 0; i < WAYS; i++) {
    if (set[i].failures == 0)
      return &set[i];
    if (entry_end(limiter, &set[i]) < entry_end(limiter, victim))
      victim = &set[i];
  }
  return victim;
}

bool dg_limiter_is_too_many(const struct dg_limiter *limiter, uint32_t failures)
{
  return limiter->failures > 0 && failures >= limiter->failures;
}

uint32_t dg_limiter_locked(struct dg_limiter *limiter, struct dg_slice source, int64_t now_s)
{
  uint8_t digest[32];
  struct entry *set, *entry;
  uint32_t failures;

  if (dg_limiter_idle(limiter, now_s))
    return 0;
  set = set_of(limiter, source, digest);
  (void)pthread_mutex_lock(&limiter->mutex);
  entry = find(set, digest);
  failures = entry && entry->locked_until_s > now_s ? entry->failures : 0;
  (void)pthread_mutex_unlock(&limiter->mutex);
  return failures;
}

uint32_t dg_limiter_delay_ms(uint32_t failures)
{
  if (failures <= FREE_FAILURES)
    return 0;
  if (failures - FREE_FAILURES > DOUBLINGS)
    return MAX_DELAY_MS;
  return FIRST_DELAY_MS << (failures - FREE_FAILURES - 1);
}

uint32_t dg_limiter_fail(struct dg_limiter *limiter, struct dg_slice source, int64_t now_s)
{
  uint8_t digest[32];
  struct entry *set, *entry;
  uint32_t count;

  if (limiter->failures == 0)
    return 0;
  set = set_of(limiter, source, digest);
  (void)pthread_mutex_lock(&limiter->mutex);
  entry = find(set, digest);
  if (!entry) {
    entry = pick_victim(limiter, set);
    *entry = (struct entry){.window_start_s = now_s};
    memcpy(entry->source, digest, sizeof entry->source);
  } else if (now_s >= entry_end(limiter, entry)) {
    entry->window_start_s = now_s;
    entry->locked_until_s = 0;
    entry->failures = 0;
  }
  count = ++entry->failures;
  if (count >= limiter->failures && entry->locked_until_s == 0)
    entry->locked_until_s = now_s + (int64_t)limiter->lockout_s;
  if (entry_end(limiter, entry) > atomic_load(&limiter->idle_s))
    atomic_store(&limiter->idle_s, entry_end(limiter, entry));
  (void)pthread_mutex_unlock(&limiter->mutex);
  return count;
}

void dg_limiter_success(struct dg_limiter *limiter, struct dg_slice source, int64_t now_s)
{
  uint8_t digest[32];
  struct entry *set, *entry;

  if (dg_limiter_idle(limiter, now_s))
    return;
  set = set_of(limiter, source, digest);
  (void)pthread_mutex_lock(&limiter->mutex);
  entry = find(set, digest);
  if (entry)
    entry->failures = 0;
  (void)pthread_mutex_unlock(&limiter->mutex);
}
