/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/replay.h"

#include <glib.h>
#include <pthread.h>
#include <string.h>

#include "common/banned.h"

#define SHARDS      16
#define FIRST_SLOTS 256u
#define NONE        UINT32_MAX

/* Half of an HMAC is plenty to tell signatures apart, and since only verified
 * ones come here, its bits are as good as random for the hash. */
struct entry {
  uint8_t signature[16];
  int64_t seen_s;
  uint32_t next; /* in its bucket */
};

/* A ring in order of arrival, with a chained hash over it: the oldest entry is
 * always the one to forget. */
struct shard {
  pthread_mutex_t mutex; /* guards everything below; never held with another */
  struct entry *ring;
  uint32_t *buckets; /* as many as slots */
  uint32_t slots;    /* a power of two, 0 at first */
  uint32_t head, count;
};

struct dg_replay {
  uint32_t window_s;
  uint32_t shard_max;
  struct shard shards[SHARDS];
};

struct dg_replay *dg_replay_new(uint32_t window_s, size_t max_entries)
{
  struct dg_replay *replay = g_new0(struct dg_replay, 1);

  replay->window_s = window_s;
  replay->shard_max = (uint32_t)MAX(max_entries / SHARDS, 1);
  for (size_t i = 0; i < SHARDS; i++)
    (void)pthread_mutex_init(&replay->shards[i].mutex, NULL);
  return replay;
}

void dg_replay_free(struct dg_replay *replay)
{
  if (!replay)
    return;
  for (size_t i = 0; i < SHARDS; i++) {
    (void)pthread_mutex_destroy(&replay->shards[i].mutex);
    g_free(replay->shards[i].ring);
    g_free(replay->shards[i].buckets);
  }
  g_free(replay);
}

static uint32_t bucket_of(const struct shard *shard, const uint8_t *signature)
{
  uint32_t hash;

  memcpy(&hash, signature + 4, sizeof hash);
  return hash & (shard->slots - 1);
}

static void link_entry(struct shard *shard, uint32_t index)
{
  uint32_t bucket = bucket_of(shard, shard->ring[index].signature);

  shard->ring[index].next = shard->buckets[bucket];
  shard->buckets[bucket] = index;
}

static void forget_oldest(struct shard *shard)
{
  struct entry *oldest = &shard->ring[shard->head];
  uint32_t *link = &shard->buckets[bucket_of(shard, oldest->signature)];

  while (*link != shard->head)
    link = &shard->ring[*link].next;
  *link = oldest->next;
  shard->head = (shard->head + 1) & (shard->slots - 1);
  shard->count--;
}

static void grow(struct shard *shard)
{
  uint32_t slots = shard->slots ? shard->slots * 2 : FIRST_SLOTS;
  struct entry *ring = g_new(struct entry, slots);

  for (uint32_t i = 0; i < shard->count; i++)
    ring[i] = shard->ring[(shard->head + i) & (shard->slots - 1)];
  g_free(shard->ring);
  g_free(shard->buckets);
  shard->ring = ring;
  shard->buckets = g_new(uint32_t, slots);
  memset(shard->buckets, 0xff, slots * sizeof *shard->buckets);
  shard->slots = slots;
  shard->head = 0;
  for (uint32_t i = 0; i < shard->count; i++)
    link_entry(shard, i);
}

/* A clock that was set back must not keep entries for ever: those from the
 * future go as well. */
static bool expired(const struct dg_replay *replay, int64_t seen_s, int64_t now_s)
{
  return now_s - seen_s > (int64_t)replay->window_s || seen_s - now_s > (int64_t)replay->window_s;
}

static bool find(const struct dg_replay *replay, const struct shard *shard,
                 const uint8_t *signature, int64_t now_s)
{
  for (uint32_t i = shard->buckets[bucket_of(shard, signature)]; i != NONE;
       i = shard->ring[i].next) {
    if (memcmp(shard->ring[i].signature, signature, sizeof shard->ring[i].signature) == 0 &&
        !expired(replay, shard->ring[i].seen_s, now_s))
      return true;
  }
  return false;
}

bool dg_replay_seen(struct dg_replay *replay, const uint8_t signature[32], int64_t now_s)
{
  struct shard *shard = &replay->shards[signature[0] % SHARDS];
  bool seen = false;

  if (replay->window_s == 0)
    return false;
  (void)pthread_mutex_lock(&shard->mutex);
  while (shard->count && (shard->count >= replay->shard_max ||
                          expired(replay, shard->ring[shard->head].seen_s, now_s)))
    forget_oldest(shard);
  if (shard->count)
    seen = find(replay, shard, signature, now_s);
  if (!seen) {
    uint32_t index;

    if (shard->count == shard->slots)
      grow(shard);
    index = (shard->head + shard->count) & (shard->slots - 1);
    memcpy(shard->ring[index].signature, signature, sizeof shard->ring[index].signature);
    shard->ring[index].seen_s = now_s;
    link_entry(shard, index);
    shard->count++;
  }
  (void)pthread_mutex_unlock(&shard->mutex);
  return seen;
}

/* The entry keeps its place in the ring and its hash chain; it has expired. */
void dg_replay_forget(struct dg_replay *replay, const uint8_t signature[32])
{
  struct shard *shard = &replay->shards[signature[0] % SHARDS];

  (void)pthread_mutex_lock(&shard->mutex);
  for (uint32_t *link = shard->count ? &shard->buckets[bucket_of(shard, signature)] : NULL;
       link && *link != NONE; link = &shard->ring[*link].next) {
    struct entry *entry = &shard->ring[*link];

    if (memcmp(entry->signature, signature, sizeof entry->signature) == 0) {
      entry->seen_s = INT64_MIN / 2;
      break;
    }
  }
  (void)pthread_mutex_unlock(&shard->mutex);
}

size_t dg_replay_count(struct dg_replay *replay)
{
  size_t count = 0;

  for (size_t i = 0; i < SHARDS; i++) {
    (void)pthread_mutex_lock(&replay->shards[i].mutex);
    count += replay->shards[i].count;
    (void)pthread_mutex_unlock(&replay->shards[i].mutex);
  }
  return count;
}
