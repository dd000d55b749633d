/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "metaindex.h"

#include <stdlib.h>

#include "common/slice.h"

#include "common/banned.h"

/* A PUT does not tell the time the upstream gives the object, only its clock
 * when it answered: the object's time is near that. */
#define PUT_CLOCK_SLACK_S 2

struct entry {
  GList link; /* in `recent`; data is the entry */
  char *name; /* bucket NUL name */
  gsize name_len;
  struct dg_s3_facts *facts;
  size_t memory;
};

struct dg_s3_metaindex {
  GMutex mutex; /* guards everything; leaf */
  GHashTable *entries;
  GQueue recent; /* least recently used last */
  uint64_t bytes, max_bytes;
};

static guint hash_entry(gconstpointer item)
{
  const struct entry *entry = item;
  guint hash = 2166136261u;

  for (gsize i = 0; i < entry->name_len; i++)
    hash = (hash ^ (guint8)entry->name[i]) * 16777619u;
  return hash;
}

static gboolean equal_entries(gconstpointer a, gconstpointer b)
{
  const struct entry *x = a, *y = b;

  return x->name_len == y->name_len && memcmp(x->name, y->name, x->name_len) == 0;
}

static void entry_free(gpointer item)
{
  struct entry *entry = item;

  dg_s3_facts_unref(entry->facts);
  g_free(entry->name);
  g_free(entry);
}

struct dg_s3_metaindex *dg_s3_metaindex_new(uint64_t max_bytes)
{
  struct dg_s3_metaindex *index = g_new0(struct dg_s3_metaindex, 1);

  g_mutex_init(&index->mutex);
  index->entries = g_hash_table_new_full(hash_entry, equal_entries, NULL, entry_free);
  g_queue_init(&index->recent);
  index->max_bytes = max_bytes;
  return index;
}

void dg_s3_metaindex_free(struct dg_s3_metaindex *index)
{
  if (!index)
    return;
  g_hash_table_unref(index->entries);
  g_mutex_clear(&index->mutex);
  g_free(index);
}

static void name_entry(struct entry *entry, struct dg_slice bucket, struct dg_slice name)
{
  entry->name_len = bucket.len + 1 + name.len;
  entry->name = g_malloc(entry->name_len + 1);
  memcpy(entry->name, bucket.data, bucket.len);
  entry->name[bucket.len] = '\0';
  memcpy(entry->name + bucket.len + 1, name.data, name.len);
}

static void remove_locked(struct dg_s3_metaindex *index, struct entry *entry)
{
  index->bytes -= entry->memory;
  g_queue_unlink(&index->recent, &entry->link);
  (void)g_hash_table_remove(index->entries, entry);
}

void dg_s3_metaindex_put(struct dg_s3_metaindex *index, struct dg_slice bucket,
                         struct dg_slice name, struct dg_s3_facts *facts)
{
  struct entry *entry = g_new0(struct entry, 1), *old;

  name_entry(entry, bucket, name);
  entry->facts = dg_s3_facts_ref(facts);
  entry->link.data = entry;
  entry->memory = facts->memory + entry->name_len + sizeof *entry + 64;
  g_mutex_lock(&index->mutex);
  old = g_hash_table_lookup(index->entries, entry);
  if (old)
    remove_locked(index, old);
  (void)g_hash_table_add(index->entries, entry);
  g_queue_push_head_link(&index->recent, &entry->link);
  index->bytes += entry->memory;
  while (index->bytes > index->max_bytes)
    remove_locked(index, index->recent.tail->data);
  g_mutex_unlock(&index->mutex);
}

void dg_s3_metaindex_drop(struct dg_s3_metaindex *index, struct dg_slice bucket,
                          struct dg_slice name)
{
  struct entry wanted = {0}, *entry;

  name_entry(&wanted, bucket, name);
  g_mutex_lock(&index->mutex);
  entry = g_hash_table_lookup(index->entries, &wanted);
  if (entry)
    remove_locked(index, entry);
  g_mutex_unlock(&index->mutex);
  g_free(wanted.name);
}

/* The same object? One that changed within the second in which it was looked
 * at may have changed again unseen, with the same ETag if only its metadata
 * did: such facts are not believed. */
static bool still_true(const struct dg_s3_facts *facts, const struct dg_s3_entry *entry)
{
  if (facts->size != entry->size || strcmp(facts->etag, entry->etag) != 0)
    return false;
  if (facts->modified_s == 0)
    return facts->seen_s && llabs(entry->modified_s - facts->seen_s) <= PUT_CLOCK_SLACK_S;
  return facts->modified_s == entry->modified_s && facts->seen_s > facts->modified_s;
}

struct dg_s3_facts *dg_s3_metaindex_get(struct dg_s3_metaindex *index, struct dg_slice bucket,
                                        const struct dg_s3_entry *listed)
{
  struct dg_s3_facts *facts = NULL;
  struct entry wanted = {0}, *entry;

  name_entry(&wanted, bucket, dg_slice_of(listed->name, listed->name_len));
  g_mutex_lock(&index->mutex);
  entry = g_hash_table_lookup(index->entries, &wanted);
  if (entry && still_true(entry->facts, listed)) {
    g_queue_unlink(&index->recent, &entry->link);
    g_queue_push_head_link(&index->recent, &entry->link);
    facts = dg_s3_facts_ref(entry->facts);
  }
  g_mutex_unlock(&index->mutex);
  g_free(wanted.name);
  if (facts && facts->modified_s == 0) {
    struct dg_s3_facts *dated = dg_s3_facts_dated(facts, listed->modified_s);

    dg_s3_facts_unref(facts);
    facts = dated;
  }
  return facts;
}
