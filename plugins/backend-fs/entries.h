/* SPDX-License-Identifier: Apache-2.0 */
/* A growing list of entries that owns its strings. */
#ifndef DG_FS_ENTRIES_H
#define DG_FS_ENTRIES_H

#include "dirscan.h"

struct dg_fs_entries {
  GArray *rows; /* struct dg_fs_entry */
  GPtrArray *chunks;
  size_t used, bytes; /* in the last chunk; in all of them and the rows */
};

void dg_fs_entries_init(struct dg_fs_entries *entries);
void dg_fs_entries_clear(struct dg_fs_entries *entries);
void dg_fs_entries_empty(struct dg_fs_entries *entries); /* keeps some memory */
void dg_fs_entries_add(struct dg_fs_entries *entries, const struct dg_fs_entry *entry);
void dg_fs_entries_sort(struct dg_fs_entries *entries);

static inline const struct dg_fs_entry *dg_fs_entries_at(const struct dg_fs_entries *entries,
                                                         size_t number)
{
  return &g_array_index(entries->rows, struct dg_fs_entry, number);
}

/* Number of the first entry that is not less than `sort`, in a sorted list. */
size_t dg_fs_entries_lower_bound(const struct dg_fs_entries *entries, struct dg_slice sort);

#endif
