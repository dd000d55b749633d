/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "metaindex.h"

#include <stdlib.h>

#include "common/checksum.h"
#include "common/slice.h"

#include "common/banned.h"

/* A PUT does not tell the time the upstream gives the object, only its clock
 * when it answered: the object's time is near that. */
#define PUT_CLOCK_SLACK_S 2

/* One piece of memory: a million of them may be kept. */
struct entry {
  GList link; /* in `recent`; data is the entry */
  const char *name; /* bucket NUL name; in bytes, but for a key to look up with */
  uint32_t name_len, packed_len;
  char bytes[]; /* name, packed facts */
};

#define ENTRY_OVERHEAD (sizeof(struct entry) + 48) /* its slot in the table, and malloc's */

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

  for (uint32_t i = 0; i < entry->name_len; i++)
    hash = (hash ^ (guint8)entry->name[i]) * 16777619u;
  return hash;
}

static gboolean equal_entries(gconstpointer a, gconstpointer b)
{
  const struct entry *x = a, *y = b;

  return x->name_len == y->name_len && memcmp(x->name, y->name, x->name_len) == 0;
}

struct dg_s3_metaindex *dg_s3_metaindex_new(uint64_t max_bytes)
{
  struct dg_s3_metaindex *index = g_new0(struct dg_s3_metaindex, 1);

  g_mutex_init(&index->mutex);
  index->entries = g_hash_table_new_full(hash_entry, equal_entries, NULL, g_free);
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

/* A key to look up with; free its name. */
static struct entry named(struct dg_slice bucket, struct dg_slice name)
{
  struct entry entry = {.name_len = (uint32_t)(bucket.len + 1 + name.len)};
  char *text = g_malloc(entry.name_len + 1u);

  memcpy(text, bucket.data, bucket.len);
  text[bucket.len] = '\0';
  memcpy(text + bucket.len + 1, name.data, name.len);
  entry.name = text;
  return entry;
}

static size_t memory_of(const struct entry *entry)
{
  return ENTRY_OVERHEAD + entry->name_len + entry->packed_len;
}

static void remove_locked(struct dg_s3_metaindex *index, struct entry *entry)
{
  index->bytes -= memory_of(entry);
  g_queue_unlink(&index->recent, &entry->link);
  (void)g_hash_table_remove(index->entries, entry);
}

static void add(struct dg_s3_metaindex *index, struct dg_slice name, struct dg_slice packed)
{
  struct entry *entry = g_malloc0(sizeof *entry + name.len + packed.len), *old;

  entry->link.data = entry;
  entry->name = entry->bytes;
  entry->name_len = (uint32_t)name.len;
  entry->packed_len = (uint32_t)packed.len;
  memcpy(entry->bytes, name.data, name.len);
  memcpy(entry->bytes + name.len, packed.data, packed.len);
  g_mutex_lock(&index->mutex);
  old = g_hash_table_lookup(index->entries, entry);
  if (old)
    remove_locked(index, old);
  (void)g_hash_table_add(index->entries, entry);
  g_queue_push_head_link(&index->recent, &entry->link);
  index->bytes += memory_of(entry);
  while (index->bytes > index->max_bytes)
    remove_locked(index, index->recent.tail->data);
  g_mutex_unlock(&index->mutex);
}

void dg_s3_metaindex_put(struct dg_s3_metaindex *index, struct dg_slice bucket,
                         struct dg_slice name, const struct dg_s3_facts *facts)
{
  g_autoptr(GByteArray) packed = g_byte_array_new();
  struct entry key;

  if (!dg_s3_facts_pack(facts, packed)) {
    dg_s3_metaindex_drop(index, bucket, name);
    return;
  }
  key = named(bucket, name);
  add(index, dg_slice_of(key.name, key.name_len), dg_slice_of(packed->data, packed->len));
  g_free((gpointer)(uintptr_t)key.name);
}

void dg_s3_metaindex_drop(struct dg_s3_metaindex *index, struct dg_slice bucket,
                          struct dg_slice name)
{
  struct entry wanted = named(bucket, name), *entry;

  g_mutex_lock(&index->mutex);
  entry = g_hash_table_lookup(index->entries, &wanted);
  if (entry)
    remove_locked(index, entry);
  g_mutex_unlock(&index->mutex);
  g_free((gpointer)(uintptr_t)wanted.name);
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
  struct entry wanted = named(bucket, dg_slice_of(listed->name, listed->name_len)), *entry;
  struct dg_s3_facts *facts = NULL;

  g_mutex_lock(&index->mutex);
  entry = g_hash_table_lookup(index->entries, &wanted);
  if (entry) {
    g_queue_unlink(&index->recent, &entry->link);
    g_queue_push_head_link(&index->recent, &entry->link);
    facts =
      dg_s3_facts_unpack(dg_slice_of(entry->bytes + entry->name_len, entry->packed_len));
  }
  g_mutex_unlock(&index->mutex);
  g_free((gpointer)(uintptr_t)wanted.name);
  if (facts && !still_true(facts, listed)) {
    dg_s3_facts_unref(facts);
    return NULL;
  }
  /* Nobody else has it yet: the listing knows the date that a PUT did not. */
  if (facts && facts->modified_s == 0)
    facts->modified_s = listed->modified_s;
  return facts;
}

/* ---- The file ------------------------------------------------------------------------------
 *
 *   magic, u32 length of tag, tag, records, SHA-256 of all before it
 *   record: u32 length of name, u32 length of facts, name, facts; the one used
 *   last comes last */

static const char magic[8] = "DGS3IX1";
#define DIGEST_BYTES 32u

static void append_number(GByteArray *out, uint32_t number)
{
  (void)g_byte_array_append(out, (const guint8 *)&number, sizeof number);
}

int dg_s3_metaindex_save(struct dg_s3_metaindex *index, const char *path, const char *tag,
                         struct dg_error *err)
{
  g_autoptr(GByteArray) out = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  uint8_t digest[DIGEST_BYTES];

  (void)g_byte_array_append(out, (const guint8 *)magic, sizeof magic);
  append_number(out, (uint32_t)strlen(tag));
  (void)g_byte_array_append(out, (const guint8 *)tag, (guint)strlen(tag));
  g_mutex_lock(&index->mutex);
  for (GList *link = index->recent.tail; link && out->len < INT32_MAX; link = link->prev) {
    const struct entry *entry = link->data;

    append_number(out, entry->name_len);
    append_number(out, entry->packed_len);
    (void)g_byte_array_append(out, (const guint8 *)entry->bytes,
                              entry->name_len + entry->packed_len);
  }
  g_mutex_unlock(&index->mutex);
  dg_sha256(out->data, out->len, digest);
  (void)g_byte_array_append(out, digest, sizeof digest);
  if (!g_file_set_contents_full(path, (const char *)out->data, out->len,
                                G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
    return dg_fail(err, DG_E_IO, "%s", error->message);
  return 0;
}

static bool take_number(struct dg_slice *from, uint32_t *ret_number)
{
  if (from->len < sizeof *ret_number)
    return false;
  memcpy(ret_number, from->data, sizeof *ret_number);
  *from = dg_slice_skip(*from, sizeof *ret_number);
  return true;
}

static bool take_records(struct dg_s3_metaindex *index, struct dg_slice from)
{
  while (from.len) {
    uint32_t name_len, packed_len;

    if (!take_number(&from, &name_len) || !take_number(&from, &packed_len) ||
        name_len > from.len || packed_len > from.len - name_len)
      return false;
    add(index, dg_slice_of(from.data, name_len), dg_slice_of(from.data + name_len, packed_len));
    from = dg_slice_skip(from, (size_t)name_len + packed_len);
  }
  return true;
}

int dg_s3_metaindex_load(struct dg_s3_metaindex *index, const char *path, const char *tag,
                         struct dg_error *err)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GMappedFile) file = g_mapped_file_new(path, FALSE, &error);
  uint8_t digest[DIGEST_BYTES];
  struct dg_slice from;
  uint32_t tag_len;

  if (!file)
    return dg_fail(err, DG_E_IO, "%s", error->message);
  from = dg_slice_of(g_mapped_file_get_contents(file), g_mapped_file_get_length(file));
  if (from.len < sizeof magic + DIGEST_BYTES || memcmp(from.data, magic, sizeof magic) != 0)
    return dg_fail(err, DG_E_CORRUPT, "'%s' is no index", path);
  from.len -= DIGEST_BYTES;
  dg_sha256(from.data, from.len, digest);
  if (memcmp(digest, from.data + from.len, DIGEST_BYTES) != 0)
    return dg_fail(err, DG_E_CORRUPT, "'%s' is damaged", path);
  from = dg_slice_skip(from, sizeof magic);
  if (!take_number(&from, &tag_len) || tag_len > from.len ||
      !dg_slice_equal_str(dg_slice_of(from.data, tag_len), tag))
    return dg_fail(err, DG_E_CONFIG, "'%s' belongs to another upstream", path);
  if (!take_records(index, dg_slice_skip(from, tag_len)))
    return dg_fail(err, DG_E_CORRUPT, "'%s' is damaged", path);
  return 0;
}
