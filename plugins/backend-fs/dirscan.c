/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "dirscan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/banned.h"

#define READ_BYTES (64u * 1024u)

static const char delta_suffix[] = ".delta";

int dg_fs_entry_compare(const struct dg_fs_entry *a, const struct dg_fs_entry *b)
{
  int order = dg_fs_slice_compare(a->sort, b->sort);

  if (order == 0)
    order = (a->kind > b->kind) - (a->kind < b->kind);
  return order ? order : dg_fs_slice_compare(a->disk, b->disk);
}

bool dg_fs_entry_disk(const struct dg_fs_entry *entry, char out[static DG_FS_NAME_BYTES])
{
  struct dg_slice name = entry->disk.len ? entry->disk : entry->sort;
  bool suffix = !entry->disk.len && entry->kind == DG_FS_ENTRY_DELTA;

  if (!entry->disk.len && entry->kind == DG_FS_ENTRY_DIR)
    name.len--;
  if (name.len + (suffix ? sizeof delta_suffix : 1) > DG_FS_NAME_BYTES)
    return false;
  if (name.len)
    memcpy(out, name.data, name.len);
  out[name.len] = '\0';
  if (suffix)
    memcpy(out + name.len, delta_suffix, sizeof delta_suffix);
  return true;
}

enum dg_fs_accept dg_fs_entry_accept(const struct dg_fs_entry *entry, const char *disk)
{
  if (entry->disk.len)
    return DG_FS_MARKED;
  return dg_fs_name_has_escape(disk, strlen(disk)) ? DG_FS_LITERAL : DG_FS_PLAIN;
}

struct dg_fs_entry dg_fs_entry_copy(const struct dg_fs_entry *entry,
                                    struct dg_fs_entry_room *room)
{
  char *disk = room->text + entry->sort.len;

  if (entry->sort.len)
    memcpy(room->text, entry->sort.data, entry->sort.len);
  if (entry->disk.len)
    memcpy(disk, entry->disk.data, entry->disk.len);
  return (struct dg_fs_entry){
    {room->text, entry->sort.len}, {disk, entry->disk.len}, entry->kind};
}

/* Reads the mark of an escape-looking name. 1: marked, 0: literal, 2: it is a
 * reference, -1: failed. *ret_segment lies in room. */
static int read_mark(const struct dg_fs *fs, int dir_fd, const char *name, enum dg_fs_role role,
                     struct dg_fs_entry_room *room, struct dg_slice *ret_segment,
                     struct dg_error *err)
{
  DG_FS_AUTO_FD fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

  if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
    return 0;
  if (fd < 0)
    return dg_fs_fail(err, errno, "open '%s'", name);
  if (dg_fs_mark_read(fs, fd, name, role, room->text, ret_segment))
    return 1;
  return role == DG_FS_ROLE_FILE &&
             dg_fs_mark_read(fs, fd, name, DG_FS_ROLE_REFERENCE, room->text, ret_segment)
           ? 2
           : 0;
}

static int classify_dir(const struct dg_fs *fs, int dir_fd, const char *name, size_t len,
                        struct dg_fs_entry_room *room, struct dg_fs_entry *entry,
                        struct dg_error *err)
{
  struct dg_slice segment = {name, len};
  int marked = 0;

  entry->kind = DG_FS_ENTRY_DIR;
  if (dg_fs_name_has_escape(name, len))
    marked = read_mark(fs, dir_fd, name, DG_FS_ROLE_DIR, room, &segment, err);
  if (marked < 0)
    return -1;
  if (!marked)
    memcpy(room->text, name, len);
  else
    entry->disk = (struct dg_slice){name, len};
  room->text[segment.len] = '/';
  entry->sort = (struct dg_slice){room->text, segment.len + 1};
  return 1;
}

static int classify_file(const struct dg_fs *fs, int dir_fd, const char *name, size_t len,
                         struct dg_fs_entry_room *room, struct dg_fs_entry *entry,
                         struct dg_error *err)
{
  struct dg_slice segment;
  enum dg_fs_role role = dg_fs_file_role(name, len, &segment);
  int marked = 0;

  if (role == DG_FS_ROLE_REFERENCE)
    return 0;
  entry->kind = role == DG_FS_ROLE_DELTA ? DG_FS_ENTRY_DELTA : DG_FS_ENTRY_FILE;
  if (dg_fs_name_has_escape(name, len))
    marked = read_mark(fs, dir_fd, name, role, room, &segment, err);
  if (marked < 0)
    return -1;
  if (marked == 2)
    return 0;
  if (marked == 1)
    entry->disk = (struct dg_slice){name, len};
  entry->sort = segment;
  return 1;
}

int dg_fs_classify(const struct dg_fs *fs, int dir_fd, const char *name, unsigned char type,
                   struct dg_fs_entry_room *room, struct dg_fs_entry *ret_entry,
                   struct dg_error *err)
{
  size_t len = strlen(name);

  if (name[0] == '.' || len == 0 || len >= DG_FS_NAME_BYTES)
    return 0;
  if (type == DT_UNKNOWN) {
    struct stat stat;

    if (fstatat(dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
      return errno == ENOENT ? 0 : dg_fs_fail(err, errno, "stat '%s'", name);
    type = S_ISREG(stat.st_mode) ? DT_REG : S_ISDIR(stat.st_mode) ? DT_DIR : DT_CHR;
  }
  memset(ret_entry, 0, sizeof *ret_entry);
  if (type == DT_DIR)
    return classify_dir(fs, dir_fd, name, len, room, ret_entry, err);
  if (type == DT_REG)
    return classify_file(fs, dir_fd, name, len, room, ret_entry, err);
  return 0;
}

typedef int (*raw_fn)(void *receiver, const char *name, unsigned char type);

/* Every entry of a directory but "." and "..". */
static int scan_raw(int dir_fd, raw_fn raw, void *receiver, struct dg_error *err)
{
  /* A description of its own: the caller's may be read by others. */
  DG_FS_AUTO_FD fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *buffer = g_malloc(READ_BYTES);

  if (fd < 0)
    return errno == ENOENT ? 0 : dg_fs_fail(err, errno, "open a directory");
  for (;;) {
    ssize_t got = getdents64(fd, buffer, READ_BYTES);

    if (got < 0)
      return errno == ENOENT ? 0 : dg_fs_fail(err, errno, "read a directory");
    if (got == 0)
      return 0;
    for (ssize_t at = 0; at < got;) {
      const struct dirent64 *row = (const struct dirent64 *)(const void *)(buffer + at);
      bool dots = strcmp(row->d_name, ".") == 0 || strcmp(row->d_name, "..") == 0;
      int rc = dots ? 0 : raw(receiver, row->d_name, row->d_type);

      if (rc)
        return rc;
      at += row->d_reclen;
    }
  }
}

struct scan {
  const struct dg_fs *fs;
  int dir_fd;
  dg_fs_entry_fn entry;
  void *receiver;
  struct dg_error *err;
};

static int scan_one(void *receiver, const char *name, unsigned char type)
{
  struct scan *scan = receiver;
  struct dg_fs_entry_room room;
  struct dg_fs_entry entry;
  int seen = dg_fs_classify(scan->fs, scan->dir_fd, name, type, &room, &entry, scan->err);

  if (seen <= 0)
    return seen;
  return scan->entry(scan->receiver, &entry) ? 1 : 0;
}

int dg_fs_dir_scan(const struct dg_fs *fs, int dir_fd, dg_fs_entry_fn entry, void *receiver,
                   struct dg_error *err)
{
  struct scan scan = {fs, dir_fd, entry, receiver, err};
  int errnum = dg_fs_step(fs, "fs.list.open");

  if (errnum)
    return dg_fs_fail(err, errnum, "open a directory");
  return scan_raw(dir_fd, scan_one, &scan, err) < 0 ? -1 : 0;
}

struct search {
  const struct dg_fs *fs;
  int dir_fd;
  bool count_references, has;
  GPtrArray *below; /* directories to look into */
  struct dg_error *err;
};

static int search_one(void *receiver, const char *name, unsigned char type)
{
  struct search *search = receiver;
  struct dg_fs_entry_room room;
  struct dg_fs_entry entry;
  int seen = dg_fs_classify(search->fs, search->dir_fd, name, type, &room, &entry, search->err);

  if (seen < 0)
    return -1;
  if (seen && entry.kind == DG_FS_ENTRY_DIR) {
    g_ptr_array_add(search->below, g_strdup(name));
    return 0;
  }
  if (!seen && !(search->count_references && strcmp(name, "reference.bin") == 0))
    return 0;
  search->has = true;
  return 1;
}

int dg_fs_dir_has_objects(const struct dg_fs *fs, int dir_fd, bool count_references, bool *ret_has,
                          struct dg_error *err)
{
  g_autoptr(GPtrArray) below = g_ptr_array_new_with_free_func(g_free);
  struct search search = {fs, dir_fd, count_references, false, below, err};

  if (scan_raw(dir_fd, search_one, &search, err) < 0)
    return -1;
  for (guint i = 0; i < below->len && !search.has; i++) {
    DG_FS_AUTO_FD fd =
      openat(dir_fd, below->pdata[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
      return dg_fs_fail(err, errno, "open directory '%s'", (char *)below->pdata[i]);
    if (fd >= 0 && dg_fs_dir_has_objects(fs, fd, count_references, &search.has, err) < 0)
      return -1;
  }
  *ret_has = search.has;
  return 0;
}
