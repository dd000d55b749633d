/* SPDX-License-Identifier: Apache-2.0 */
/* A depth-first walk. Each level stands for one key prefix ending in '/' (or
 * empty) and merges the directories that hold it, in practice one. Because a
 * directory sorts as "name/", the walk meets keys in byte order, and a bound
 * of the form "first key at or after" is found by one seek per level. */
#include "config.h"

#include "list.h"

#include <errno.h>

#include "common/meta.h"
#include "common/slice.h"
#include "cursor.h"
#include "metaio.h"
#include "path.h"

#include "common/banned.h"

struct level {
  struct dg_fs_dirs dirs;
  struct dg_fs_cursor *cursors[DG_FS_DIRS_MAX];
  size_t key_len;         /* this much of lister.key is the level's prefix */
  bool reference_pending; /* the prefix's reference was not looked for yet */
};

struct lister {
  struct dg_fs *fs;
  const struct dg_call *call;
  const struct dg_list_request *request;
  dg_list_row_fn row;
  void *receiver;
  GArray *levels; /* struct level */
  GString *key;   /* prefix of the top level, then the entry at hand */
  GString *bound; /* no row below this */
  bool strict;    /* nor at it */
  bool stop;
  unsigned steps;
  struct dg_meta *meta; /* reused from row to row */
};

static struct dg_slice text_of(const GString *text)
{
  return (struct dg_slice){text->str, text->len};
}

static bool begins_with(struct dg_slice text, struct dg_slice prefix)
{
  return text.len >= prefix.len && (!prefix.len || memcmp(text.data, prefix.data, prefix.len) == 0);
}

static struct level *top(struct lister *lister)
{
  return &g_array_index(lister->levels, struct level, lister->levels->len - 1);
}

static void pop(struct lister *lister)
{
  struct level *level = top(lister);

  for (unsigned i = 0; i < level->dirs.count; i++)
    dg_fs_cursor_close(level->cursors[i]);
  dg_fs_dirs_close(&level->dirs);
  g_array_set_size(lister->levels, lister->levels->len - 1);
}

/* Moves a level's cursors to where the bound can still be met. */
static void position(struct lister *lister, struct level *level)
{
  struct dg_slice prefix = {lister->key->str, level->key_len}, rest = text_of(lister->bound);

  if (!begins_with(rest, prefix)) {
    /* Only levels wholly beyond the bound get here: begin at the start. */
    rest = DG_SLICE("");
  } else {
    const char *slash;

    rest.data += prefix.len;
    rest.len -= prefix.len;
    /* "a/b" may lie inside the directory that sorts as "a/". */
    slash = rest.len ? memchr(rest.data, '/', rest.len) : NULL;
    if (slash)
      rest.len = (size_t)(slash - rest.data) + 1;
  }
  for (unsigned i = 0; i < level->dirs.count; i++)
    dg_fs_cursor_seek(level->cursors[i], rest);
}

/* Opens a level over directories, which are transferred, whose prefix is the
 * whole of lister->key. */
static int push(struct lister *lister, struct dg_fs_dirs *dirs, struct dg_error *err)
{
  struct level level = {.dirs = *dirs,
                        .key_len = lister->key->len,
                        .reference_pending = (lister->request->flags & DG_LIST_REFERENCES) != 0};

  for (unsigned i = 0; i < dirs->count; i++) {
    if (dg_fs_cursor_open(lister->fs, dirs->fd[i], &level.cursors[i], err) < 0) {
      while (i-- > 0)
        dg_fs_cursor_close(level.cursors[i]);
      dg_fs_dirs_close(dirs);
      return -1;
    }
  }
  dirs->count = 0;
  g_array_append_val(lister->levels, level);
  position(lister, top(lister));
  return 0;
}

/* From here on no row below `bound`, or at it if strict. Levels inside what is
 * skipped are left. */
static void skip_to(struct lister *lister, struct dg_slice bound)
{
  g_string_truncate(lister->bound, 0);
  g_string_append_len(lister->bound, bound.data, (gssize)bound.len);
  lister->strict = false;
  while (lister->levels->len > 1 &&
         !begins_with(bound, (struct dg_slice){lister->key->str, top(lister)->key_len}))
    pop(lister);
  position(lister, top(lister));
}

/* Turns a string into the least one that sorts after everything beginning
 * with it. False if there is none. */
static bool successor(GString *text)
{
  while (text->len) {
    unsigned char last = (unsigned char)text->str[text->len - 1];

    if (last != 0xff) {
      text->str[text->len - 1] = (char)(last + 1);
      return true;
    }
    g_string_truncate(text, text->len - 1);
  }
  return false;
}

static int emit(struct lister *lister, uint32_t type, struct dg_slice key,
                const struct dg_meta *meta)
{
  struct dg_list_row row = {.struct_size = sizeof row, .type = type, .key = key, .meta = meta};

  if (lister->row(lister->receiver, &row))
    lister->stop = true;
  return 0;
}

/* The common prefix a key falls into. False if it stands for itself. */
static bool common_prefix(const struct lister *lister, struct dg_slice key,
                          struct dg_slice *ret_prefix)
{
  const struct dg_list_request *request = lister->request;

  *ret_prefix = dg_slice_roll_up(key, request->prefix.len, request->delimiter);
  return dg_slice_present(*ret_prefix);
}

static bool before_bound(const struct lister *lister, struct dg_slice key)
{
  int order = dg_fs_slice_compare(key, text_of(lister->bound));

  return order < 0 || (order == 0 && lister->strict);
}

/* Emits a common prefix and skips what is below it. */
static int emit_prefix(struct lister *lister, struct dg_slice prefix)
{
  g_autoptr(GString) bound = g_string_new_len(prefix.data, (gssize)prefix.len);

  (void)emit(lister, DG_ROW_PREFIX, prefix, NULL);
  if (lister->stop)
    return 0;
  if (successor(bound))
    skip_to(lister, text_of(bound));
  else
    lister->stop = true;
  return 0;
}

/* Emits one object, or its common prefix, given an open file. */
static int emit_object(struct lister *lister, struct dg_slice key, int fd, const struct stat *stat,
                       enum dg_fs_role role, struct dg_slice name, struct dg_error *err)
{
  struct dg_slice prefix;

  if (common_prefix(lister, key, &prefix))
    return emit_prefix(lister, prefix);
  if (lister->request->flags & DG_LIST_NO_META)
    return emit(lister, DG_ROW_OBJECT, key, NULL);
  dg_meta_clear(lister->meta);
  if (dg_fs_meta_load(lister->fs, fd, stat, role, name, lister->meta, err) < 0)
    return -1;
  if (lister->meta->flags & DG_META_CORRUPT)
    return 0;
  return emit(lister, DG_ROW_OBJECT, key, lister->meta);
}

/* Finds the entry with the least sort and kind among a level's cursors, copies
 * it (cursors may move) and moves past it and its doubles. Returns false at
 * the end. *ret_dir: where it lies; *ret_doubles: also in other places. */
static bool take_entry(struct level *level, struct dg_fs_entry_room *room,
                       struct dg_fs_entry *ret_entry, unsigned *ret_dir, bool *ret_doubles)
{
  const struct dg_fs_entry *least = NULL;
  unsigned count = 0;

  for (unsigned i = 0; i < level->dirs.count; i++) {
    const struct dg_fs_entry *entry = dg_fs_cursor_peek(level->cursors[i]);
    int order = 0;

    if (entry && least) {
      order = dg_fs_slice_compare(entry->sort, least->sort);
      if (order == 0)
        order = (entry->kind > least->kind) - (entry->kind < least->kind);
    }
    if (entry && (!least || order < 0)) {
      least = entry;
      *ret_dir = i;
    }
  }
  if (!least)
    return false;
  *ret_entry = dg_fs_entry_copy(least, room);
  for (unsigned i = 0; i < level->dirs.count; i++) {
    const struct dg_fs_entry *entry;

    while ((entry = dg_fs_cursor_peek(level->cursors[i])) && entry->kind == ret_entry->kind &&
           dg_fs_slice_equal(entry->sort, ret_entry->sort)) {
      count++;
      dg_fs_cursor_next(level->cursors[i]);
    }
  }
  *ret_doubles = count > 1;
  return true;
}

static int visit_file(struct lister *lister, struct level *level, const struct dg_fs_entry *entry,
                      unsigned dir, bool doubles, struct dg_error *err)
{
  enum dg_fs_role role =
    entry->kind == DG_FS_ENTRY_DELTA ? DG_FS_ROLE_DELTA : DG_FS_ROLE_FILE;
  struct dg_fs_found found = {.fd = -1, .dir_fd = -1};
  char disk[DG_FS_NAME_BYTES];
  int rc;

  if (doubles) {
    struct dg_fs_place place = {.name = entry->sort, .role = role};
    struct dg_fs_names names;

    dg_fs_names(lister->fs, entry->sort, role, &names);
    if (dg_fs_find_in_dirs(lister->fs, &place, 0, &names, &level->dirs, &found, err) < 0)
      return err->code == DG_E_NO_SUCH_KEY ? 0 : -1;
  } else if (!(lister->request->flags & DG_LIST_NO_META) || entry->disk.len) {
    if (!dg_fs_entry_disk(entry, disk))
      return 0;
    found.fd = dg_fs_open_entry(lister->fs, level->dirs.fd[dir], disk,
                                dg_fs_entry_accept(entry, disk), role, entry->sort, &found.stat);
    if (found.fd < 0 && errno == ENOENT) {
      if (entry->disk.len)
        dg_fs_cursor_forget(level->cursors[dir], entry);
      return 0;
    }
    if (found.fd < 0)
      return dg_fs_fail(err, errno, "open '%s'", disk);
  }
  rc = emit_object(lister, text_of(lister->key), found.fd, &found.stat, role, entry->sort, err);
  dg_fs_close_fd(&found.fd);
  return rc;
}

static int visit_dir(struct lister *lister, struct level *level, const struct dg_fs_entry *entry,
                     unsigned dir, struct dg_error *err)
{
  struct dg_slice segment = {entry->sort.data, entry->sort.len - 1};
  struct dg_slice key = text_of(lister->key), prefix;
  struct dg_fs_dirs below = {0};
  bool has = false;
  int rc = 0;

  for (unsigned i = 0; i < level->dirs.count && rc == 0; i++)
    rc = dg_fs_dirs_add_below(lister->fs, level->dirs.fd[i], segment, &below, err);
  if (rc == 0 && !below.count && entry->disk.len)
    dg_fs_cursor_forget(level->cursors[dir], entry);
  /* When the whole directory is one common prefix, all that matters is
   * whether it holds anything. Not so when the bound lies inside it. */
  if (rc == 0 && !begins_with(text_of(lister->bound), key) &&
      begins_with(key, lister->request->prefix) && common_prefix(lister, key, &prefix)) {
    for (unsigned i = 0; i < below.count && rc == 0 && !has; i++)
      rc = dg_fs_dir_has_objects(lister->fs, below.fd[i],
                                 (lister->request->flags & DG_LIST_REFERENCES) != 0, &has, err);
    dg_fs_dirs_close(&below);
    return rc == 0 && has ? emit_prefix(lister, prefix) : rc;
  }
  if (rc == 0 && below.count)
    rc = push(lister, &below, err);
  dg_fs_dirs_close(&below);
  return rc;
}

/* With DG_LIST_REFERENCES, the reference sorts first: its key is the prefix
 * itself. */
static int visit_reference(struct lister *lister, struct level *level, struct dg_error *err)
{
  struct dg_fs_place place = {.name = DG_SLICE("reference.bin"), .role = DG_FS_ROLE_REFERENCE};
  struct dg_fs_found found = {.fd = -1, .dir_fd = -1};
  struct dg_slice key = {lister->key->str, level->key_len};
  struct dg_fs_names names;
  int rc;

  level->reference_pending = false;
  if (!begins_with(key, lister->request->prefix) || before_bound(lister, key))
    return 0;
  dg_fs_names(lister->fs, place.name, place.role, &names);
  if (dg_fs_find_in_dirs(lister->fs, &place, 0, &names, &level->dirs, &found, err) < 0)
    return err->code == DG_E_NO_SUCH_KEY ? 0 : -1;
  rc = emit_object(lister, key, found.fd, &found.stat, place.role, place.name, err);
  dg_fs_close_fd(&found.fd);
  return rc;
}

/* One step of the walk. */
static int step(struct lister *lister, struct dg_error *err)
{
  struct level *level = top(lister);
  struct dg_fs_entry_room room;
  struct dg_fs_entry entry;
  struct dg_slice key, prefix = lister->request->prefix;
  unsigned dir = 0;
  bool doubles = false, more;

  g_string_truncate(lister->key, level->key_len);
  if (level->reference_pending)
    return visit_reference(lister, level, err);
  more = take_entry(level, &room, &entry, &dir, &doubles);
  for (unsigned i = 0; i < level->dirs.count; i++)
    if (dg_fs_cursor_check(level->cursors[i], err) < 0)
      return -1;
  if (!more) {
    pop(lister);
    return 0;
  }
  g_string_append_len(lister->key, entry.sort.data, (gssize)entry.sort.len);
  key = text_of(lister->key);
  if (entry.kind == DG_FS_ENTRY_DIR) {
    /* Neither ahead of the bound nor around it: nothing of interest. */
    if (dg_fs_slice_compare(key, text_of(lister->bound)) < 0 &&
        !begins_with(text_of(lister->bound), key))
      return 0;
    if (!begins_with(key, prefix) && !begins_with(prefix, key)) {
      lister->stop = dg_fs_slice_compare(key, prefix) > 0;
      return 0;
    }
    return visit_dir(lister, level, &entry, dir, err);
  }
  if (before_bound(lister, key))
    return 0;
  if (!begins_with(key, prefix)) {
    lister->stop = dg_fs_slice_compare(key, prefix) > 0;
    return 0;
  }
  return visit_file(lister, level, &entry, dir, doubles, err);
}

/* Where the walk begins: the directory part of the prefix, and the greater of
 * prefix and start_after. False if nothing can match. */
static bool set_bound(struct lister *lister)
{
  const struct dg_list_request *request = lister->request;

  g_string_append_len(lister->bound, request->prefix.data, (gssize)request->prefix.len);
  if (dg_fs_slice_compare(request->start_after, request->prefix) >= 0 && request->start_after.len) {
    struct dg_slice after = request->start_after, delimiter = request->delimiter;

    g_string_truncate(lister->bound, 0);
    g_string_append_len(lister->bound, after.data, (gssize)after.len);
    lister->strict = true;
    if (delimiter.len && after.len >= request->prefix.len + delimiter.len &&
        begins_with(after, request->prefix) &&
        memcmp(after.data + after.len - delimiter.len, delimiter.data, delimiter.len) == 0) {
      lister->strict = false;
      return successor(lister->bound);
    }
  }
  return true;
}

static int walk(struct lister *lister, struct dg_error *err)
{
  const struct dg_list_request *request = lister->request;
  struct dg_slice dir = request->prefix;
  struct dg_fs_dirs dirs = {0};

  while (dir.len && dir.data[dir.len - 1] != '/')
    dir.len--;
  if (dg_fs_dirs_find(lister->fs, request->bucket, dir, &dirs, err) < 0)
    return -1;
  if (!set_bound(lister) || dirs.count == 0) {
    dg_fs_dirs_close(&dirs);
    return 0;
  }
  g_string_append_len(lister->key, dir.data, (gssize)dir.len);
  if (push(lister, &dirs, err) < 0)
    return -1;
  while (lister->levels->len && !lister->stop) {
    if (lister->steps++ % 64u == 0 && dg_fs_check_call(lister->call, err) < 0)
      return -1;
    if (step(lister, err) < 0)
      return -1;
  }
  return 0;
}

int dg_fs_list(struct dg_fs *fs, const struct dg_call *call, const struct dg_list_request *request,
               dg_list_row_fn row, void *receiver, struct dg_error *err)
{
  struct lister lister = {.fs = fs,
                          .call = call,
                          .request = request,
                          .row = row,
                          .receiver = receiver,
                          .levels = g_array_new(FALSE, FALSE, sizeof(struct level)),
                          .key = g_string_sized_new(256),
                          .bound = g_string_sized_new(256),
                          .meta = dg_meta_new()};
  int rc = dg_fs_check_bucket(request->bucket, err);

  if (rc == 0)
    rc = walk(&lister, err);
  while (lister.levels->len)
    pop(&lister);
  g_array_unref(lister.levels);
  (void)g_string_free(lister.key, TRUE);
  (void)g_string_free(lister.bound, TRUE);
  dg_meta_unref(lister.meta);
  return rc;
}
