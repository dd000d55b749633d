/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/metacache.h"

#include "common/clock.h"

#include "common/banned.h"

#define SHARD_COUNT 16u
#define SLOT_COUNT 256u /* per shard: write marks, shared by the keys that hash there */
#define ENTRY_OVERHEAD 350u

/* Keys come from clients: the hash is seeded, so nobody can aim at one bucket. */
struct entry {
  struct entry *hash_next;
  struct entry *newer, *older; /* least recently used last */
  uint64_t hash; /* of the name alone: whoever writes finds every home's entry */
  const void *home;
  struct dg_meta *meta;
  GBytes *body;
  uint64_t confirmed_mono_ms;
  uint32_t bucket_len, name_len;
  uint32_t meta_bytes;
  char name[]; /* bucket NUL key */
};

/* Generation counts finished and begun writes; nothing is kept while one runs. */
struct slot {
  uint64_t generation;
  uint32_t writers;
};

struct shard {
  GMutex mutex; /* guards everything below */
  struct entry **heads;
  size_t head_count; /* a power of two */
  size_t entry_count;
  struct entry *newest, *oldest;
  uint64_t meta_bytes, body_bytes;
  struct slot slots[SLOT_COUNT];
};

struct dg_metacache {
  uint64_t seed;
  uint64_t shard_body_all;                 /* with metadata; without it there are no bodies */
  _Atomic uint64_t shard_meta_max, shard_body_max;
  struct shard shards[SHARD_COUNT];
};

struct dg_metacache *dg_metacache_new(uint64_t meta_max_bytes, uint64_t body_max_bytes)
{
  struct dg_metacache *cache = g_new0(struct dg_metacache, 1);

  cache->seed = (uint64_t)g_random_int() << 32 | g_random_int();
  cache->shard_meta_max = meta_max_bytes / SHARD_COUNT;
  cache->shard_body_all = body_max_bytes / SHARD_COUNT;
  cache->shard_body_max = meta_max_bytes ? cache->shard_body_all : 0;
  for (size_t i = 0; i < SHARD_COUNT; i++) {
    struct shard *shard = &cache->shards[i];

    g_mutex_init(&shard->mutex);
    shard->head_count = 64;
    shard->heads = g_new0(struct entry *, shard->head_count);
  }
  return cache;
}

static uint64_t mix(uint64_t hash, const char *data, size_t len)
{
  while (len >= 8) {
    uint64_t word;

    memcpy(&word, data, sizeof word);
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    hash ^= hash >> 29;
    data += 8;
    len -= 8;
  }
  for (; len; len--, data++)
    hash = (hash ^ (uint8_t)*data) * UINT64_C(0x100000001B3);
  return hash;
}

static uint64_t hash_name(const struct dg_metacache *cache, struct dg_slice bucket,
                          struct dg_slice key)
{
  uint64_t hash = mix(cache->seed, bucket.data, bucket.len);

  hash = mix((hash ^ bucket.len) * UINT64_C(0x9E3779B97F4A7C15), key.data, key.len);
  hash ^= hash >> 32;
  hash *= UINT64_C(0xD6E8FEB86659FD93);
  return hash ^ (hash >> 32);
}

static struct shard *shard_of(struct dg_metacache *cache, uint64_t hash)
{
  return &cache->shards[hash % SHARD_COUNT];
}

static struct slot *slot_of(struct shard *shard, uint64_t hash)
{
  return &shard->slots[(hash >> 8) % SLOT_COUNT];
}

/* home NULL: whosever. */
static struct entry **find_locked(struct shard *shard, uint64_t hash, const void *home,
                                  struct dg_slice bucket, struct dg_slice key)
{
  struct entry **link = &shard->heads[(hash >> 16) & (shard->head_count - 1)];

  for (; *link; link = &(*link)->hash_next) {
    const struct entry *entry = *link;

    if (entry->hash == hash && (!home || entry->home == home) &&
        entry->bucket_len == bucket.len &&
        entry->name_len == bucket.len + 1 + key.len &&
        memcmp(entry->name, bucket.data, bucket.len) == 0 &&
        (key.len == 0 || memcmp(entry->name + bucket.len + 1, key.data, key.len) == 0))
      break;
  }
  return link;
}

static void unchain_locked(struct shard *shard, struct entry *entry)
{
  if (entry->newer)
    entry->newer->older = entry->older;
  else
    shard->newest = entry->older;
  if (entry->older)
    entry->older->newer = entry->newer;
  else
    shard->oldest = entry->newer;
}

static void chain_newest_locked(struct shard *shard, struct entry *entry)
{
  entry->newer = NULL;
  entry->older = shard->newest;
  if (shard->newest)
    shard->newest->newer = entry;
  else
    shard->oldest = entry;
  shard->newest = entry;
}

static uint64_t body_len(const struct entry *entry)
{
  return entry->body ? g_bytes_get_size(entry->body) + sizeof(void *) * 4 : 0;
}

static void remove_locked(struct shard *shard, struct entry **link)
{
  struct entry *entry = *link;

  *link = entry->hash_next;
  unchain_locked(shard, entry);
  shard->entry_count--;
  shard->meta_bytes -= entry->meta_bytes;
  shard->body_bytes -= body_len(entry);
  dg_meta_unref(entry->meta);
  g_clear_pointer(&entry->body, g_bytes_unref);
  g_free(entry);
}

static struct entry **link_to_locked(struct shard *shard, struct entry *entry)
{
  struct entry **link = &shard->heads[(entry->hash >> 16) & (shard->head_count - 1)];

  while (*link != entry)
    link = &(*link)->hash_next;
  return link;
}

static void grow_locked(struct shard *shard)
{
  size_t wider = shard->head_count * 2;
  struct entry **heads;

  if (shard->entry_count < shard->head_count || wider > (UINT64_C(1) << 22))
    return;
  heads = g_new0(struct entry *, wider);
  for (size_t i = 0; i < shard->head_count; i++) {
    while (shard->heads[i]) {
      struct entry *entry = shard->heads[i];
      struct entry **link = &heads[(entry->hash >> 16) & (wider - 1)];

      shard->heads[i] = entry->hash_next;
      entry->hash_next = *link;
      *link = entry;
    }
  }
  g_free(shard->heads);
  shard->heads = heads;
  shard->head_count = wider;
}

void dg_metacache_clear(struct dg_metacache *cache)
{
  for (size_t i = 0; i < SHARD_COUNT; i++) {
    struct shard *shard = &cache->shards[i];

    g_mutex_lock(&shard->mutex);
    while (shard->oldest)
      remove_locked(shard, link_to_locked(shard, shard->oldest));
    for (size_t slot = 0; slot < SLOT_COUNT; slot++)
      shard->slots[slot].generation++;
    g_mutex_unlock(&shard->mutex);
  }
}

static void evict_locked(struct dg_metacache *cache, struct shard *shard)
{
  while (shard->oldest &&
         (shard->meta_bytes > cache->shard_meta_max || shard->body_bytes > cache->shard_body_max))
    remove_locked(shard, link_to_locked(shard, shard->oldest));
}

void dg_metacache_resize(struct dg_metacache *cache, uint64_t meta_max_bytes)
{
  cache->shard_meta_max = meta_max_bytes / SHARD_COUNT;
  cache->shard_body_max = meta_max_bytes ? cache->shard_body_all : 0;
  for (size_t i = 0; i < SHARD_COUNT; i++) {
    g_mutex_lock(&cache->shards[i].mutex);
    evict_locked(cache, &cache->shards[i]);
    g_mutex_unlock(&cache->shards[i].mutex);
  }
}

void dg_metacache_free(struct dg_metacache *cache)
{
  if (!cache)
    return;
  dg_metacache_clear(cache);
  for (size_t i = 0; i < SHARD_COUNT; i++) {
    g_mutex_clear(&cache->shards[i].mutex);
    g_free(cache->shards[i].heads);
  }
  g_free(cache);
}

void dg_cached_clear(struct dg_cached *cached)
{
  dg_meta_unref(cached->meta);
  g_clear_pointer(&cached->body, g_bytes_unref);
  memset(cached, 0, sizeof *cached);
}

static bool is_fresh(const struct entry *entry)
{
  return dg_time_mono_ms() - entry->confirmed_mono_ms < DG_METACACHE_FRESH_MS;
}

bool dg_metacache_get(struct dg_metacache *cache, const void *home, struct dg_slice bucket,
                      struct dg_slice key, struct dg_cached *ret_cached)
{
  uint64_t hash = hash_name(cache, bucket, key);
  struct shard *shard = shard_of(cache, hash);
  struct entry **link;
  bool found;

  g_mutex_lock(&shard->mutex);
  link = find_locked(shard, hash, home, bucket, key);
  if (*link && !is_fresh(*link) && (*link)->meta->validator.len == 0)
    remove_locked(shard, link);
  else if (*link && shard->newest != *link) {
    unchain_locked(shard, *link);
    chain_newest_locked(shard, *link);
  }
  link = find_locked(shard, hash, home, bucket, key);
  found = *link != NULL;
  if (found)
    *ret_cached = (struct dg_cached){.meta = dg_meta_ref((*link)->meta),
                                     .body = (*link)->body ? g_bytes_ref((*link)->body) : NULL,
                                     .fresh = is_fresh(*link)};
  g_mutex_unlock(&shard->mutex);
  return found;
}

uint64_t dg_metacache_ticket(struct dg_metacache *cache, struct dg_slice bucket,
                             struct dg_slice key)
{
  uint64_t hash = hash_name(cache, bucket, key);
  struct shard *shard = shard_of(cache, hash);
  uint64_t ticket;

  g_mutex_lock(&shard->mutex);
  ticket = slot_of(shard, hash)->generation;
  g_mutex_unlock(&shard->mutex);
  return ticket;
}

static bool ticket_holds_locked(struct shard *shard, uint64_t hash, uint64_t ticket)
{
  const struct slot *slot = slot_of(shard, hash);

  return slot->writers == 0 && slot->generation == ticket;
}

void dg_metacache_put(struct dg_metacache *cache, const void *home, struct dg_slice bucket,
                      struct dg_slice key, uint64_t ticket, struct dg_meta *meta, GBytes *body)
{
  uint64_t hash = hash_name(cache, bucket, key);
  struct shard *shard = shard_of(cache, hash);
  size_t name_len = bucket.len + 1 + key.len;
  size_t meta_bytes = sizeof(struct entry) + name_len + ENTRY_OVERHEAD + dg_meta_memory(meta);
  struct entry *entry, **link;

  if (meta_bytes > cache->shard_meta_max)
    return;
  if (body && g_bytes_get_size(body) > cache->shard_body_max)
    body = NULL;
  entry = g_malloc0(sizeof *entry + name_len);
  entry->hash = hash;
  entry->home = home;
  entry->meta = dg_meta_ref(meta);
  entry->body = body ? g_bytes_ref(body) : NULL;
  entry->confirmed_mono_ms = dg_time_mono_ms();
  entry->bucket_len = (uint32_t)bucket.len;
  entry->name_len = (uint32_t)name_len;
  entry->meta_bytes = (uint32_t)meta_bytes;
  memcpy(entry->name, bucket.data, bucket.len);
  if (key.len)
    memcpy(entry->name + bucket.len + 1, key.data, key.len);

  g_mutex_lock(&shard->mutex);
  if (ticket_holds_locked(shard, hash, ticket)) {
    link = find_locked(shard, hash, home, bucket, key);
    if (*link)
      remove_locked(shard, link);
    grow_locked(shard);
    link = &shard->heads[(hash >> 16) & (shard->head_count - 1)];
    entry->hash_next = *link;
    *link = entry;
    chain_newest_locked(shard, entry);
    shard->entry_count++;
    shard->meta_bytes += entry->meta_bytes;
    shard->body_bytes += body_len(entry);
    evict_locked(cache, shard);
    entry = NULL;
  }
  g_mutex_unlock(&shard->mutex);
  if (entry) {
    dg_meta_unref(entry->meta);
    g_clear_pointer(&entry->body, g_bytes_unref);
    g_free(entry);
  }
}

void dg_metacache_confirm(struct dg_metacache *cache, const void *home, struct dg_slice bucket,
                          struct dg_slice key, uint64_t ticket, const struct dg_meta *meta)
{
  uint64_t hash = hash_name(cache, bucket, key);
  struct shard *shard = shard_of(cache, hash);
  struct entry *entry;

  g_mutex_lock(&shard->mutex);
  entry = *find_locked(shard, hash, home, bucket, key);
  if (entry && entry->meta == meta && ticket_holds_locked(shard, hash, ticket))
    entry->confirmed_mono_ms = dg_time_mono_ms();
  g_mutex_unlock(&shard->mutex);
}

static void forget(struct dg_metacache *cache, struct dg_slice bucket, struct dg_slice key,
                   int writers)
{
  uint64_t hash = hash_name(cache, bucket, key);
  struct shard *shard = shard_of(cache, hash);
  struct entry **link;

  g_mutex_lock(&shard->mutex);
  slot_of(shard, hash)->generation++;
  slot_of(shard, hash)->writers += (uint32_t)writers;
  while (*(link = find_locked(shard, hash, /* home= */ NULL, bucket, key)))
    remove_locked(shard, link);
  g_mutex_unlock(&shard->mutex);
}

void dg_metacache_drop(struct dg_metacache *cache, struct dg_slice bucket, struct dg_slice key)
{
  forget(cache, bucket, key, 0);
}

void dg_metacache_write_begin(struct dg_metacache *cache, struct dg_slice bucket,
                              struct dg_slice key)
{
  forget(cache, bucket, key, 1);
}

void dg_metacache_write_end(struct dg_metacache *cache, struct dg_slice bucket,
                            struct dg_slice key)
{
  forget(cache, bucket, key, -1);
}

void dg_metacache_usage(struct dg_metacache *cache, uint64_t *ret_body_bytes, uint64_t *ret_entries)
{
  uint64_t bytes = 0, entries = 0;

  for (size_t i = 0; i < SHARD_COUNT; i++) {
    struct shard *shard = &cache->shards[i];

    g_mutex_lock(&shard->mutex);
    bytes += shard->body_bytes;
    entries += shard->entry_count;
    g_mutex_unlock(&shard->mutex);
  }
  *ret_body_bytes = bytes;
  *ret_entries = entries;
}

uint64_t dg_metacache_body_max(const struct dg_metacache *cache)
{
  return cache->shard_body_max * SHARD_COUNT;
}
