/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "entries.h"

#include "common/banned.h"

#define CHUNK_BYTES (16u * 1024u)

void dg_fs_entries_init(struct dg_fs_entries *entries)
{
  entries->rows = g_array_new(FALSE, FALSE, sizeof(struct dg_fs_entry));
  entries->chunks = g_ptr_array_new_with_free_func(g_free);
  entries->used = CHUNK_BYTES;
  entries->bytes = 0;
}

void dg_fs_entries_clear(struct dg_fs_entries *entries)
{
  if (entries->rows)
    g_array_unref(entries->rows);
  if (entries->chunks)
    g_ptr_array_unref(entries->chunks);
  memset(entries, 0, sizeof *entries);
}

void dg_fs_entries_empty(struct dg_fs_entries *entries)
{
  g_array_set_size(entries->rows, 0);
  if (entries->chunks->len > 1)
    g_ptr_array_set_size(entries->chunks, 1);
  entries->used = entries->chunks->len ? 0 : CHUNK_BYTES;
  entries->bytes = 0;
}

static struct dg_slice keep(struct dg_fs_entries *entries, struct dg_slice text)
{
  char *at;

  if (CHUNK_BYTES - entries->used < text.len) { /* no text is longer than a chunk */
    g_ptr_array_add(entries->chunks, g_malloc(CHUNK_BYTES));
    entries->used = 0;
    entries->bytes += CHUNK_BYTES;
  }
  if (!text.len)
    return (struct dg_slice){"", 0};
  at = (char *)entries->chunks->pdata[entries->chunks->len - 1] + entries->used;
  memcpy(at, text.data, text.len);
  entries->used += text.len;
  return (struct dg_slice){at, text.len};
}

void dg_fs_entries_add(struct dg_fs_entries *entries, const struct dg_fs_entry *entry)
{
  struct dg_fs_entry kept = {keep(entries, entry->sort), keep(entries, entry->disk), entry->kind};

  g_array_append_val(entries->rows, kept);
  entries->bytes += sizeof kept;
}

static int compare(const void *a, const void *b)
{
  return dg_fs_entry_compare(a, b);
}

void dg_fs_entries_sort(struct dg_fs_entries *entries)
{
  g_array_sort(entries->rows, compare);
}

size_t dg_fs_entries_lower_bound(const struct dg_fs_entries *entries, struct dg_slice sort)
{
  size_t low = 0, high = entries->rows->len;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (dg_fs_slice_compare(dg_fs_entries_at(entries, middle)->sort, sort) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}
