/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cursor.h"

#include "entries.h"

#include "common/banned.h"

struct dg_fs_cursor {
  struct dg_fs_entries entries; /* the whole directory */
  size_t at;
};

static int collect(void *receiver, const struct dg_fs_entry *entry)
{
  dg_fs_entries_add(receiver, entry);
  return 0;
}

int dg_fs_cursor_open(struct dg_fs *fs, int dir_fd, struct dg_fs_cursor **ret_cursor,
                      struct dg_error *err)
{
  struct dg_fs_cursor *cursor = g_new0(struct dg_fs_cursor, 1);

  dg_fs_entries_init(&cursor->entries);
  if (dg_fs_dir_scan(fs, dir_fd, collect, &cursor->entries, err) < 0) {
    dg_fs_cursor_close(cursor);
    return -1;
  }
  dg_fs_entries_sort(&cursor->entries);
  *ret_cursor = cursor;
  return 0;
}

void dg_fs_cursor_close(struct dg_fs_cursor *cursor)
{
  if (!cursor)
    return;
  dg_fs_entries_clear(&cursor->entries);
  g_free(cursor);
}

void dg_fs_cursor_seek(struct dg_fs_cursor *cursor, struct dg_slice sort)
{
  cursor->at = dg_fs_entries_lower_bound(&cursor->entries, sort);
}

const struct dg_fs_entry *dg_fs_cursor_peek(struct dg_fs_cursor *cursor)
{
  return cursor->at < cursor->entries.rows->len ? dg_fs_entries_at(&cursor->entries, cursor->at)
                                                 : NULL;
}

void dg_fs_cursor_next(struct dg_fs_cursor *cursor)
{
  cursor->at++;
}
