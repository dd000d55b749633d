/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "dirindex.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "dirbuild.h"
#include "watch.h"

#include "common/banned.h"

/* Indexes alive at once; each holds a descriptor, a watch and a mapping. */
#define LIVE_MAX 256u
/* Names to look at again, per index; beyond, reading anew is cheaper. */
#define PENDING_MAX 65536u
/* Writers take over when so many have gathered. */
#define PENDING_BATCH 8192u
/* The overlay is folded in beyond this, or a sixteenth of the file. */
#define OVERLAY_MIN 16384u
/* The kernel's queue holds 16384 events; a write makes at most four. */
#define CHANGES_PER_DRAIN 1024u
/* Times younger than this may not show a change yet to come. */
#define RACY_NS INT64_C(100000000)
/* Files nobody wrote or restamped for so long go at start. */
#define KEEP_DAYS 30

struct dg_dirindex {
  atomic_int refs;
  struct dg_dirindex_set *set;
  uint64_t device, inode;
  int dir_fd;

  /* Guarded by set->mutex. */
  int watch;           /* -1: none */
  bool overflowed;     /* changes were lost */
  GHashTable *pending; /* names to look at again */
  uint64_t used_at;    /* for choosing whom to drop */

  /* Guarded by mutex. */
  pthread_mutex_t mutex;
  struct dg_indexfile *file; /* NULL: not built yet */
  GTree *overlay;
  struct dg_indexfile_stamp seen; /* directory's times that file and overlay
                                     agree with, when there is no watch */
};

struct dg_dirindex_set {
  struct dg_fs *fs;
  int index_dir_fd; /* -1: files are not kept */
  int queue_fd;
  atomic_uint changes, scans, loads, folds;
  atomic_uint live_count; /* mirrors the table, for a look without the lock */

  pthread_mutex_t mutex; /* guards what follows, and some of each index */
  GHashTable *live;      /* struct dg_dirindex to itself, by device and inode */
  GHashTable *by_watch;
  uint64_t clock;
};

/* ---- The set -------------------------------------------------------------------- */

static guint hash_index(const void *key)
{
  const struct dg_dirindex *index = key;

  return (guint)(index->inode ^ (index->inode >> 32) ^ (index->device * 31));
}

static gboolean equal_index(const void *a, const void *b)
{
  const struct dg_dirindex *left = a, *right = b;

  return left->inode == right->inode && left->device == right->device;
}

/* Temporaries of a process that died, and what nobody used for long. */
static void tidy(int index_dir_fd)
{
  int fd = openat(index_dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  const struct dirent *row;

  if (!dir) {
    dg_fs_close_fd(&fd);
    return;
  }
  while ((row = readdir(dir))) {
    struct stat stat;

    if (fstatat(fd, row->d_name, &stat, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(stat.st_mode))
      continue;
    if (g_str_has_suffix(row->d_name, ".idx.new") ||
        (g_str_has_suffix(row->d_name, ".idx") &&
         stat.st_mtim.tv_sec < time(NULL) - KEEP_DAYS * 86400))
      (void)unlinkat(fd, row->d_name, 0);
  }
  (void)closedir(dir);
}

struct dg_dirindex_set *dg_dirindex_set_new(struct dg_fs *fs, const char *dir)
{
  struct dg_dirindex_set *set = g_new0(struct dg_dirindex_set, 1);

  set->fs = fs;
  set->index_dir_fd = -1;
  if (dir && *dir) {
    if (g_mkdir_with_parents(dir, 0700) == 0)
      set->index_dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (set->index_dir_fd < 0)
      dg_fs_log(fs, DG_LOG_WARN, "fs.index.dir", "path=\"%s\" error=\"%s\" effect=\"listing "
                                                 "indexes are rebuilt after each start\"",
                dir, g_strerror(errno));
    else
      tidy(set->index_dir_fd);
  }
  set->queue_fd = dg_watch_open();
  (void)pthread_mutex_init(&set->mutex, NULL);
  set->live = g_hash_table_new(hash_index, equal_index);
  set->by_watch = g_hash_table_new(NULL, NULL);
  return set;
}

static void note_change(void *receiver, int watch, uint32_t what, const char *name)
{
  struct dg_dirindex_set *set = receiver;
  struct dg_dirindex *index;
  GHashTableIter iter;

  if (what == DG_WATCH_OVERFLOW) {
    g_hash_table_iter_init(&iter, set->live);
    while (g_hash_table_iter_next(&iter, (void **)&index, NULL))
      index->overflowed = true;
    return;
  }
  index = g_hash_table_lookup(set->by_watch, GINT_TO_POINTER(watch));
  if (!index)
    return;
  if (what == DG_WATCH_GONE) {
    (void)g_hash_table_remove(set->by_watch, GINT_TO_POINTER(watch));
    index->watch = -1;
    index->overflowed = true;
  } else if (!index->overflowed) {
    (void)g_hash_table_add(index->pending, g_strdup(name));
    if (g_hash_table_size(index->pending) > PENDING_MAX)
      index->overflowed = true;
  }
}

/* Caller holds set->mutex. */
static void drain(struct dg_dirindex_set *set)
{
  dg_watch_drain(set->queue_fd, note_change, set);
}

void dg_dirindex_unref(struct dg_dirindex *index)
{
  if (!index || atomic_fetch_sub(&index->refs, 1) != 1)
    return;
  dg_indexfile_unref(index->file);
  g_tree_unref(index->overlay);
  g_hash_table_unref(index->pending);
  (void)pthread_mutex_destroy(&index->mutex);
  dg_fs_close_fd(&index->dir_fd);
  g_free(index);
}

/* Takes an index out of the set. Caller holds set->mutex. */
static void retire(struct dg_dirindex_set *set, struct dg_dirindex *index)
{
  if (index->watch >= 0) {
    (void)g_hash_table_remove(set->by_watch, GINT_TO_POINTER(index->watch));
    dg_watch_remove(set->queue_fd, index->watch);
    index->watch = -1;
    index->overflowed = true;
  }
  (void)g_hash_table_remove(set->live, index);
  atomic_store(&set->live_count, g_hash_table_size(set->live));
  dg_dirindex_unref(index);
}

static void retire_oldest(struct dg_dirindex_set *set)
{
  struct dg_dirindex *index, *oldest = NULL;
  GHashTableIter iter;

  g_hash_table_iter_init(&iter, set->live);
  while (g_hash_table_iter_next(&iter, (void **)&index, NULL))
    if (!oldest || index->used_at < oldest->used_at)
      oldest = index;
  if (oldest)
    retire(set, oldest);
}

static struct dg_dirindex *find_locked(struct dg_dirindex_set *set, const struct stat *stat)
{
  struct dg_dirindex key = {.device = (uint64_t)stat->st_dev, .inode = (uint64_t)stat->st_ino};
  struct dg_dirindex *index = g_hash_table_lookup(set->live, &key);

  if (index) {
    (void)atomic_fetch_add(&index->refs, 1);
    index->used_at = ++set->clock;
  }
  return index;
}

struct dg_dirindex *dg_dirindex_find(struct dg_dirindex_set *set, int dir_fd)
{
  struct dg_dirindex *index;
  struct stat stat;

  if (!atomic_load(&set->live_count) || fstat(dir_fd, &stat) < 0)
    return NULL;
  (void)pthread_mutex_lock(&set->mutex);
  index = find_locked(set, &stat);
  (void)pthread_mutex_unlock(&set->mutex);
  return index;
}

static struct dg_dirindex *add_locked(struct dg_dirindex_set *set, const struct stat *stat,
                                      int held_fd)
{
  struct dg_dirindex *index = g_new0(struct dg_dirindex, 1);

  if (g_hash_table_size(set->live) >= LIVE_MAX)
    retire_oldest(set);
  atomic_init(&index->refs, 2); /* the table's and the caller's */
  index->set = set;
  index->device = (uint64_t)stat->st_dev;
  index->inode = (uint64_t)stat->st_ino;
  index->dir_fd = held_fd;
  index->pending = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  index->overlay = dg_dirchange_tree();
  index->used_at = ++set->clock;
  (void)pthread_mutex_init(&index->mutex, NULL);
  index->watch = dg_watch_add(set->queue_fd, held_fd);
  if (index->watch >= 0)
    (void)g_hash_table_insert(set->by_watch, GINT_TO_POINTER(index->watch), index);
  (void)g_hash_table_add(set->live, index);
  atomic_store(&set->live_count, g_hash_table_size(set->live));
  return index;
}

int dg_dirindex_open(struct dg_dirindex_set *set, int dir_fd, struct dg_dirindex **ret_index,
                     struct dg_error *err)
{
  struct dg_dirindex *index;
  struct stat stat;

  if (fstat(dir_fd, &stat) < 0)
    return dg_fs_fail(err, errno, "stat a directory");
  (void)pthread_mutex_lock(&set->mutex);
  index = find_locked(set, &stat);
  if (!index) {
    int held = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (held < 0) {
      int errnum = errno;

      (void)pthread_mutex_unlock(&set->mutex);
      return dg_fs_fail(err, errnum, "hold a directory open");
    }
    index = add_locked(set, &stat, held);
  }
  (void)pthread_mutex_unlock(&set->mutex);
  if (dg_dirindex_refresh(index, err) < 0) {
    dg_dirindex_unref(index);
    return -1;
  }
  *ret_index = index;
  return 0;
}

/* ---- One index -------------------------------------------------------------------- */

static int64_t ns_of(int64_t s, int64_t ns)
{
  return s * 1000000000 + ns;
}

/* The directory's times. False if a change could still hide behind them. */
static bool take_stamp(const struct dg_dirindex *index, struct dg_indexfile_stamp *ret_stamp)
{
  struct timespec now;
  struct stat stat;
  int64_t newest;

  memset(ret_stamp, 0, sizeof *ret_stamp);
  if (fstat(index->dir_fd, &stat) < 0)
    return false;
  *ret_stamp = (struct dg_indexfile_stamp){.device = (uint64_t)stat.st_dev,
                                           .inode = (uint64_t)stat.st_ino,
                                           .mtime_s = stat.st_mtim.tv_sec,
                                           .mtime_ns = stat.st_mtim.tv_nsec,
                                           .ctime_s = stat.st_ctim.tv_sec,
                                           .ctime_ns = stat.st_ctim.tv_nsec};
  (void)clock_gettime(CLOCK_REALTIME, &now);
  newest = MAX(ns_of(ret_stamp->mtime_s, ret_stamp->mtime_ns),
               ns_of(ret_stamp->ctime_s, ret_stamp->ctime_ns));
  return ns_of(now.tv_sec, now.tv_nsec) - newest > RACY_NS;
}

static bool stamps_equal(const struct dg_indexfile_stamp *a, const struct dg_indexfile_stamp *b)
{
  return memcmp(a, b, sizeof *a) == 0;
}

static void file_name(const struct dg_dirindex *index, const char *suffix, char out[static 64])
{
  (void)snprintf(out, 64, "%" PRIx64 "-%" PRIx64 ".idx%s", index->device, index->inode, suffix);
}

/* Where the next file is written: in the index directory under a temporary
 * name, or nowhere. */
static int create_file(const struct dg_dirindex *index, bool in_memory)
{
  int fd = -1;

  if (in_memory)
    return dg_dirbuild_anonymous(index->set->fs, /* in_memory= */ true);

  if (index->set->index_dir_fd >= 0) {
    char name[64];

    file_name(index, ".new", name);
    (void)unlinkat(index->set->index_dir_fd, name, 0);
    fd = openat(index->set->index_dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  }
  /* A full or vanished cache directory costs the next start, not this one. */
  return fd >= 0 ? fd : dg_dirbuild_anonymous(index->set->fs, /* in_memory= */ false);
}

static void publish_file(const struct dg_dirindex *index)
{
  char from[64], to[64];

  if (index->set->index_dir_fd < 0)
    return;
  file_name(index, ".new", from);
  file_name(index, "", to);
  (void)renameat(index->set->index_dir_fd, from, index->set->index_dir_fd, to);
}

static void adopt(struct dg_dirindex *index, struct dg_indexfile *file)
{
  dg_indexfile_unref(index->file);
  index->file = file;
  g_tree_unref(index->overlay);
  index->overlay = dg_dirchange_tree();
}

/* A file of an earlier run, if it still describes the directory. */
static bool load(struct dg_dirindex *index)
{
  struct dg_indexfile_stamp now;
  struct dg_indexfile *file;
  struct dg_error why;
  char name[64];
  int fd;

  if (index->set->index_dir_fd < 0)
    return false;
  file_name(index, "", name);
  fd = openat(index->set->index_dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return false;
  if (dg_indexfile_map(fd, &file, &why) < 0) {
    dg_fs_log(index->set->fs, DG_LOG_WARN, "fs.index.damaged", "file=%s why=\"%s\"", name,
              why.detail);
    return false;
  }
  (void)take_stamp(index, &now);
  if (!stamps_equal(&now, dg_indexfile_stamp(file))) {
    dg_indexfile_unref(file);
    return false;
  }
  adopt(index, file);
  index->seen = now;
  (void)atomic_fetch_add(&index->set->loads, 1);
  return true;
}

/* Scans the directory, or folds the overlay in. Where files cannot be written
 * (a full disk must still be listed), memory has to do. */
static int write_file(struct dg_dirindex *index, bool scan, struct dg_indexfile **ret_file,
                      struct dg_error *err)
{
  for (int in_memory = 0;; in_memory++) {
    int fd = create_file(index, in_memory != 0), rc;

    if (fd < 0)
      rc = dg_fs_fail(err, errno, "create a directory index");
    else if (scan)
      rc = dg_dirbuild_scan(index->set->fs, index->dir_fd, fd, in_memory != 0, ret_file, err);
    else
      rc = dg_dirbuild_fold(index->file, index->overlay, fd, ret_file, err);
    if (rc == 0 || in_memory || (err->code != DG_E_NO_SPACE && err->code != DG_E_READ_ONLY))
      return rc;
  }
}

static int rebuild(struct dg_dirindex *index, struct dg_error *err)
{
  struct dg_indexfile_stamp before, after;
  struct dg_indexfile *file;

  (void)take_stamp(index, &before);
  if (write_file(index, /* scan= */ true, &file, err) < 0)
    return -1;
  (void)atomic_fetch_add(&index->set->scans, 1);
  memset(&index->seen, 0, sizeof index->seen);
  if (take_stamp(index, &after) && stamps_equal(&before, &after)) {
    struct dg_error ignored;

    index->seen = after;
    (void)dg_indexfile_restamp(file, &after, &ignored);
  }
  adopt(index, file);
  publish_file(index);
  dg_fs_log(index->set->fs, DG_LOG_DEBUG, "fs.index.scan", "inode=%" PRIu64 " entries=%" PRIu64,
            index->inode, dg_indexfile_count(file));
  return 0;
}

static int fold(struct dg_dirindex *index, struct dg_error *err)
{
  struct dg_indexfile *file;

  if (write_file(index, /* scan= */ false, &file, err) < 0)
    return -1;
  (void)atomic_fetch_add(&index->set->folds, 1);
  adopt(index, file);
  publish_file(index);
  return 0;
}

static void record(struct dg_dirindex *index, const struct dg_fs_entry *entry, bool present)
{
  g_tree_replace(index->overlay, dg_dirchange_new(entry, present), NULL);
}

/* Looks at one name again. What it was before follows from the name, unless
 * it looks escaped; then a marked row stays as a ghost until a reader trips
 * over it. */
static int apply(struct dg_dirindex *index, const char *name, struct dg_error *err)
{
  size_t len = strlen(name);
  struct dg_fs_entry_room room;
  struct dg_fs_entry now = {0}, file = {0}, dir = {0};
  g_autofree char *with_slash = NULL;
  int seen;

  if (name[0] == '.' || len >= DG_FS_NAME_BYTES)
    return 0;
  seen = dg_fs_classify(index->set->fs, index->dir_fd, name, DT_UNKNOWN, &room, &now, err);
  if (seen < 0)
    return -1;
  with_slash = g_strconcat(name, "/", NULL);
  dir = (struct dg_fs_entry){{with_slash, len + 1}, {"", 0}, DG_FS_ENTRY_DIR};
  file.disk.data = "";
  switch (dg_fs_file_role(name, len, &file.sort)) {
  case DG_FS_ROLE_DELTA:
    file.kind = DG_FS_ENTRY_DELTA;
    break;
  case DG_FS_ROLE_FILE:
    file.kind = DG_FS_ENTRY_FILE;
    break;
  default:
    file.kind = 0; /* a reference is in no index */
    break;
  }
  if (file.kind && !(seen && dg_fs_entry_compare(&now, &file) == 0))
    record(index, &file, /* present= */ false);
  if (!(seen && dg_fs_entry_compare(&now, &dir) == 0))
    record(index, &dir, /* present= */ false);
  if (seen)
    record(index, &now, /* present= */ true);
  return 0;
}

static int apply_all(struct dg_dirindex *index, GHashTable *names, struct dg_error *err)
{
  GHashTableIter iter;
  const char *name;

  g_hash_table_iter_init(&iter, names);
  while (g_hash_table_iter_next(&iter, (void **)&name, NULL))
    if (apply(index, name, err) < 0)
      return -1;
  if ((guint)g_tree_nnodes(index->overlay) >
      MAX(OVERLAY_MIN, dg_indexfile_count(index->file) / 16))
    return fold(index, err);
  return 0;
}

/* Without a watch, equal times mean no change. */
static bool unwatched_and_changed(const struct dg_dirindex *index)
{
  struct dg_indexfile_stamp now;

  (void)take_stamp(index, &now);
  return !stamps_equal(&now, &index->seen);
}

static bool is_hurt(const struct dg_dirindex *index)
{
  return index->file && dg_indexfile_is_hurt(index->file);
}

/* Caller holds index->mutex. */
static int refresh_locked(struct dg_dirindex *index, struct dg_error *err)
{
  struct dg_dirindex_set *set = index->set;
  g_autoptr(GHashTable) names = NULL;
  bool lost, watched;
  int rc;

  (void)pthread_mutex_lock(&set->mutex);
  drain(set);
  watched = index->watch >= 0;
  lost = index->overflowed;
  index->overflowed = false;
  if (g_hash_table_size(index->pending) || lost) {
    names = index->pending;
    index->pending = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  }
  (void)pthread_mutex_unlock(&set->mutex);
  if (!index->file && !lost && load(index))
    rc = names ? apply_all(index, names, err) : 0;
  else if (!index->file || lost || is_hurt(index) || (!watched && unwatched_and_changed(index)))
    rc = rebuild(index, err);
  else
    rc = names ? apply_all(index, names, err) : 0;
  if (rc < 0 && is_hurt(index))
    rc = rebuild(index, err);
  if (rc < 0) {
    /* Changes taken from the queue are lost now: read anew next time. */
    (void)pthread_mutex_lock(&set->mutex);
    index->overflowed = true;
    (void)pthread_mutex_unlock(&set->mutex);
  }
  return rc;
}

int dg_dirindex_refresh(struct dg_dirindex *index, struct dg_error *err)
{
  int rc;

  (void)pthread_mutex_lock(&index->mutex);
  rc = refresh_locked(index, err);
  (void)pthread_mutex_unlock(&index->mutex);
  return rc;
}

/* Caller holds index->mutex. */
static void take_rows(const struct dg_dirindex *index, const struct dg_fs_entry *from, bool after,
                      unsigned max, struct dg_fs_entries *entries)
{
  struct dg_dirmerge merge;
  struct dg_fs_entry entry;

  if (!index->file)
    return;
  dg_dirmerge_start(&merge, index->file, index->overlay, from, after);
  while (max-- && dg_dirmerge_next(&merge, &entry))
    dg_fs_entries_add(entries, &entry);
}

int dg_dirindex_fetch(struct dg_dirindex *index, const struct dg_fs_entry *from, bool after,
                      unsigned max, struct dg_fs_entries *entries, struct dg_error *err)
{
  int rc = 0;

  (void)pthread_mutex_lock(&index->mutex);
  take_rows(index, from, after, max, entries);
  if (is_hurt(index)) {
    dg_fs_log(index->set->fs, DG_LOG_WARN, "fs.index.lost",
              "inode=%" PRIu64 " why=\"its file was cut short, or its disk fails\" action=rebuild",
              index->inode);
    dg_fs_entries_empty(entries);
    rc = rebuild(index, err);
    if (rc == 0)
      take_rows(index, from, after, max, entries);
    if (rc == 0 && is_hurt(index)) {
      dg_fs_entries_empty(entries);
      rc = dg_fail(err, DG_E_IO, "the file of a directory index does not stay readable");
    }
  }
  (void)pthread_mutex_unlock(&index->mutex);
  return rc;
}

void dg_dirindex_forget(struct dg_dirindex *index, const struct dg_fs_entry *entry)
{
  char disk[DG_FS_NAME_BYTES];
  struct dg_fs_entry_room room;
  struct dg_fs_entry now;
  struct dg_error ignored;
  int seen;

  if (!dg_fs_entry_disk(entry, disk))
    return;
  (void)pthread_mutex_lock(&index->mutex);
  /* It may be back by now. If it comes back after this look, its event is
   * still to be applied, which needs the lock. */
  seen = dg_fs_classify(index->set->fs, index->dir_fd, disk, DT_UNKNOWN, &room, &now, &ignored);
  if (seen == 0 || (seen == 1 && dg_fs_entry_compare(&now, entry) != 0))
    record(index, entry, /* present= */ false);
  (void)pthread_mutex_unlock(&index->mutex);
}

void dg_dirindex_changed(struct dg_dirindex_set *set)
{
  g_autoptr(GPtrArray) full = NULL;
  struct dg_dirindex *index;
  GHashTableIter iter;

  if (!atomic_load(&set->live_count) ||
      (atomic_fetch_add(&set->changes, 1) + 1) % CHANGES_PER_DRAIN != 0)
    return;
  full = g_ptr_array_new();
  (void)pthread_mutex_lock(&set->mutex);
  drain(set);
  g_hash_table_iter_init(&iter, set->live);
  while (g_hash_table_iter_next(&iter, (void **)&index, NULL))
    if (!index->overflowed && g_hash_table_size(index->pending) > PENDING_BATCH) {
      (void)atomic_fetch_add(&index->refs, 1);
      g_ptr_array_add(full, index);
    }
  (void)pthread_mutex_unlock(&set->mutex);
  for (guint i = 0; i < full->len; i++) {
    struct dg_error ignored; /* whoever lists next meets it again */

    (void)dg_dirindex_refresh(full->pdata[i], &ignored);
    dg_dirindex_unref(full->pdata[i]);
  }
}

/* Leaves a file that the next start can use, if the directory has been quiet
 * for a moment. */
static void keep_for_next_start(struct dg_dirindex *index)
{
  struct dg_indexfile_stamp now;
  struct dg_error ignored;

  if (!index->file || index->set->index_dir_fd < 0 || index->watch < 0 ||
      !take_stamp(index, &now) || refresh_locked(index, &ignored) < 0)
    return;
  if (g_tree_nnodes(index->overlay) > 0 && fold(index, &ignored) < 0)
    return;
  if (!stamps_equal(&now, dg_indexfile_stamp(index->file)))
    (void)dg_indexfile_restamp(index->file, &now, &ignored);
}

void dg_dirindex_set_free(struct dg_dirindex_set *set)
{
  g_autoptr(GPtrArray) all = g_ptr_array_new();
  struct dg_dirindex *index;
  GHashTableIter iter;

  if (!set)
    return;
  g_hash_table_iter_init(&iter, set->live);
  while (g_hash_table_iter_next(&iter, (void **)&index, NULL))
    g_ptr_array_add(all, index);
  for (guint i = 0; i < all->len; i++) {
    keep_for_next_start(all->pdata[i]);
    (void)pthread_mutex_lock(&set->mutex);
    retire(set, all->pdata[i]);
    (void)pthread_mutex_unlock(&set->mutex);
  }
  g_hash_table_unref(set->live);
  g_hash_table_unref(set->by_watch);
  (void)pthread_mutex_destroy(&set->mutex);
  dg_fs_close_fd(&set->queue_fd);
  dg_fs_close_fd(&set->index_dir_fd);
  g_free(set);
}

void dg_dirindex_stats(struct dg_dirindex_set *set, struct dg_dirindex_stats *ret_stats)
{
  ret_stats->live = atomic_load(&set->live_count);
  ret_stats->scans = atomic_load(&set->scans);
  ret_stats->loads = atomic_load(&set->loads);
  ret_stats->folds = atomic_load(&set->folds);
}

void dg_dirindex_without_watches(struct dg_dirindex_set *set)
{
  (void)pthread_mutex_lock(&set->mutex);
  dg_fs_close_fd(&set->queue_fd);
  set->queue_fd = -1;
  (void)pthread_mutex_unlock(&set->mutex);
}
