/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cursor.h"

#include "dirindex.h"
#include "entries.h"

#include "common/banned.h"

/* Rows taken from an index at a time. */
#define BATCH 256u

struct dg_fs_cursor {
  struct dg_dirindex *index;    /* NULL: entries are the whole directory */
  struct dg_fs_entries entries; /* else a stretch of it */
  size_t at;
  bool last; /* nothing follows the stretch */
  bool failed;
  struct dg_error failure;
};

struct collect {
  struct dg_fs_entries *entries;
  bool too_many;
};

static int collect(void *receiver, const struct dg_fs_entry *entry)
{
  struct collect *into = receiver;

  if (into->entries->rows->len == DG_DIRINDEX_MIN) {
    into->too_many = true;
    return 1;
  }
  dg_fs_entries_add(into->entries, entry);
  return 0;
}

static void fetch(struct dg_fs_cursor *cursor, const struct dg_fs_entry *from, bool after)
{
  if (dg_dirindex_fetch(cursor->index, from, after, BATCH, &cursor->entries, &cursor->failure) < 0)
    cursor->failed = true;
  cursor->last = cursor->entries.rows->len < BATCH;
  cursor->at = 0;
}

int dg_fs_cursor_open(struct dg_fs *fs, int dir_fd, struct dg_fs_cursor **ret_cursor,
                      struct dg_error *err)
{
  struct dg_fs_cursor *cursor = g_new0(struct dg_fs_cursor, 1);
  struct collect into = {&cursor->entries, false};
  int rc = 0;

  dg_fs_entries_init(&cursor->entries);
  cursor->index = dg_dirindex_find(fs->indexes, dir_fd);
  if (cursor->index) {
    rc = dg_dirindex_refresh(cursor->index, err);
  } else {
    rc = dg_fs_dir_scan(fs, dir_fd, collect, &into, err);
    if (rc == 0 && into.too_many)
      rc = dg_dirindex_open(fs->indexes, dir_fd, &cursor->index, err);
    else if (rc == 0)
      dg_fs_entries_sort(&cursor->entries);
  }
  if (rc < 0) {
    dg_fs_cursor_close(cursor);
    return -1;
  }
  if (cursor->index)
    dg_fs_cursor_seek(cursor, DG_SLICE(""));
  *ret_cursor = cursor;
  return 0;
}

void dg_fs_cursor_close(struct dg_fs_cursor *cursor)
{
  if (!cursor)
    return;
  dg_dirindex_unref(cursor->index);
  dg_fs_entries_clear(&cursor->entries);
  g_free(cursor);
}

void dg_fs_cursor_seek(struct dg_fs_cursor *cursor, struct dg_slice sort)
{
  if (cursor->index) {
    struct dg_fs_entry from = {sort, {"", 0}, 0};

    dg_fs_entries_empty(&cursor->entries);
    fetch(cursor, &from, /* after= */ false);
  } else {
    cursor->at = dg_fs_entries_lower_bound(&cursor->entries, sort);
  }
}

const struct dg_fs_entry *dg_fs_cursor_peek(struct dg_fs_cursor *cursor)
{
  if (cursor->at < cursor->entries.rows->len)
    return dg_fs_entries_at(&cursor->entries, cursor->at);
  if (!cursor->index || cursor->last || cursor->entries.rows->len == 0)
    return NULL;
  {
    /* The next stretch begins after the last row, whose texts go away. */
    const struct dg_fs_entry *row = dg_fs_entries_at(&cursor->entries, cursor->at - 1);
    struct dg_fs_entry_room room;
    struct dg_fs_entry from = dg_fs_entry_copy(row, &room);

    dg_fs_entries_empty(&cursor->entries);
    fetch(cursor, &from, /* after= */ true);
  }
  return cursor->entries.rows->len ? dg_fs_entries_at(&cursor->entries, 0) : NULL;
}

int dg_fs_cursor_check(const struct dg_fs_cursor *cursor, struct dg_error *err)
{
  if (!cursor->failed)
    return 0;
  *err = cursor->failure;
  return -1;
}

void dg_fs_cursor_next(struct dg_fs_cursor *cursor)
{
  cursor->at++;
}

void dg_fs_cursor_forget(struct dg_fs_cursor *cursor, const struct dg_fs_entry *entry)
{
  if (cursor->index)
    dg_dirindex_forget(cursor->index, entry);
}
