/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/banned.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

bool dg_fs_bucket_name_valid(struct dg_slice bucket)
{
  if (bucket.len < 3 || bucket.len > 63 || !g_ascii_isalnum(bucket.data[0]) ||
      !g_ascii_isalnum(bucket.data[bucket.len - 1]))
    return false;
  for (size_t i = 0; i < bucket.len; i++) {
    char c = bucket.data[i];

    if (!g_ascii_islower(c) && !g_ascii_isdigit(c) && c != '.' && c != '-')
      return false;
  }
  return true;
}

int dg_fs_check_bucket(struct dg_slice bucket, struct dg_error *err)
{
  if (!dg_fs_bucket_name_valid(bucket))
    return dg_fail(err, DG_E_INVALID_BUCKET_NAME,
                   "bucket names are 3 to 63 of [a-z0-9.-] and begin and end alphanumeric");
  return 0;
}

int dg_fs_place(const struct dg_item *item, struct dg_fs_place *ret_place, struct dg_error *err)
{
  struct dg_fs_place place = {.bucket = item->bucket, .dir = item->key};
  size_t cut = item->key.len;

  if (dg_fs_check_bucket(item->bucket, err) < 0)
    return -1;
  if (item->key.len > 1024)
    return dg_fail(err, DG_E_KEY_TOO_LONG, "a key has at most 1024 bytes, this one has %zu",
                   item->key.len);
  if (item->key.len && memchr(item->key.data, '\0', item->key.len))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "a key cannot hold a NUL byte");
  while (cut > 0 && item->key.data[cut - 1] != '/')
    cut--;
  place.dir.len = cut;
  switch (item->variant) {
  case DG_VARIANT_PASSTHROUGH:
    place.role = DG_FS_ROLE_FILE;
    break;
  case DG_VARIANT_DELTA:
    place.role = DG_FS_ROLE_DELTA;
    break;
  case DG_VARIANT_REFERENCE:
    if (cut != item->key.len)
      return dg_fail(err, DG_E_INVALID_ARGUMENT, "a reference's key is empty or ends in '/'");
    place.role = DG_FS_ROLE_REFERENCE;
    place.name = DG_SLICE("reference.bin");
    *ret_place = place;
    return 0;
  default:
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "unknown variant %u", item->variant);
  }
  if (item->key.len == 0)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "an object's key cannot be empty");
  place.name = (struct dg_slice){item->key.data + cut, item->key.len - cut};
  *ret_place = place;
  return 0;
}

void dg_fs_dirs_close(struct dg_fs_dirs *dirs)
{
  for (unsigned i = 0; i < dirs->count; i++)
    (void)close(dirs->fd[i]);
  dirs->count = 0;
}

/* One component at a time: for kernels or sandboxes without openat2(), and
 * for paths beyond PATH_MAX, which 1024 bytes of '/' reach once escaped. */
static int open_by_walk(int dir_fd, const char *path, int flags)
{
  DG_FS_AUTO_FD held = -1;
  int at = dir_fd;

  for (;;) {
    const char *slash = strchr(path, '/');
    char name[NAME_MAX + 1];
    size_t len = slash ? (size_t)(slash - path) : strlen(path);
    int next;

    if (len > NAME_MAX) {
      errno = ENAMETOOLONG;
      return -1;
    }
    memcpy(name, path, len);
    name[len] = '\0';
    next = openat(at, name, (slash ? O_PATH | O_DIRECTORY | O_CLOEXEC : flags) | O_NOFOLLOW);
    if (next < 0 || !slash)
      return next;
    dg_fs_close_fd(&held);
    at = held = next;
    path = slash + 1;
  }
}

int dg_fs_open_below(int dir_fd, const char *path, int flags)
{
  static atomic_int openat2_missing; /* a fact about the kernel, not state of ours */

  if (!atomic_load_explicit(&openat2_missing, memory_order_relaxed) && strlen(path) < PATH_MAX) {
    struct open_how how = {.flags = (uint64_t)(unsigned)flags | O_NOFOLLOW,
                           .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);

    /* A sandbox that does not know the call answers EPERM; opening a file for
     * reading otherwise never does. */
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
      return (int)fd;
    atomic_store_explicit(&openat2_missing, 1, memory_order_relaxed);
  }
  return open_by_walk(dir_fd, path, flags);
}

static bool means_absent(int errnum)
{
  return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP;
}

char *dg_fs_plain_path(const struct dg_fs *fs, struct dg_slice bucket, struct dg_slice dir,
                       const char *name)
{
  GString *path = g_string_sized_new(bucket.len + dir.len + 32);
  size_t start = 0;

  g_string_append_len(path, bucket.data, (gssize)bucket.len);
  g_string_append(path, "/" DG_FS_DELTASPACES);
  for (size_t i = 0; i < dir.len; i++) {
    struct dg_slice segment = {dir.data + start, i - start};

    if (dir.data[i] != '/')
      continue;
    /* The cheap half of dg_fs_names(): most segments need no escaping. */
    if (segment.len == 0 || segment.len > fs->name_max || segment.data[0] == '.' ||
        memchr(segment.data, '%', segment.len) ||
        (segment.len >= 6 && memcmp(segment.data + segment.len - 6, ".delta", 6) == 0) ||
        dg_fs_slice_equal(segment, DG_SLICE("reference.bin"))) {
      (void)g_string_free(path, TRUE);
      return NULL;
    }
    g_string_append_c(path, '/');
    g_string_append_len(path, segment.data, (gssize)segment.len);
    start = i + 1;
  }
  if (name) {
    g_string_append_c(path, '/');
    g_string_append(path, name);
  }
  return g_string_free(path, FALSE);
}

/* A directory entry that `accept` allows for the segment, or -1 with errno. */
static int open_dir_entry(const struct dg_fs *fs, int dir_fd, const char *name,
                          enum dg_fs_accept accept, struct dg_slice segment)
{
  DG_FS_AUTO_FD fd = openat(dir_fd, name, DIR_FLAGS | O_NOFOLLOW);
  char mark[DG_FS_MARK_BYTES];
  struct dg_slice truth;
  bool marked;

  if (fd < 0 || accept == DG_FS_PLAIN)
    return dg_fs_steal_fd(&fd);
  marked = dg_fs_mark_read(fs, fd, name, DG_FS_ROLE_DIR, mark, &truth);
  if (accept == DG_FS_MARKED ? marked && dg_fs_slice_equal(truth, segment) : !marked)
    return dg_fs_steal_fd(&fd);
  errno = ENOENT;
  return -1;
}

int dg_fs_dirs_add_below(const struct dg_fs *fs, int dir_fd, struct dg_slice segment,
                         struct dg_fs_dirs *dirs, struct dg_error *err)
{
  struct dg_fs_names names;

  dg_fs_names(fs, segment, DG_FS_ROLE_DIR, &names);
  for (unsigned i = 0; i < names.count && dirs->count < DG_FS_DIRS_MAX; i++) {
    int fd = open_dir_entry(fs, dir_fd, names.name[i], names.accept[i], segment);

    if (fd >= 0)
      dirs->fd[dirs->count++] = fd;
    else if (!means_absent(errno))
      return dg_fs_fail(err, errno, "open directory '%s'", names.name[i]);
  }
  return 0;
}

/* Opens BUCKET, for the error, then BUCKET/deltaspaces; *ret_fd -1 if only
 * the latter is missing. */
static int open_top(struct dg_fs *fs, struct dg_slice bucket, int *ret_fd, struct dg_error *err)
{
  g_autofree char *name = g_strndup(bucket.data, bucket.len);
  g_autofree char *path = g_strconcat(name, "/" DG_FS_DELTASPACES, NULL);
  int fd = dg_fs_open_below(fs->root_fd, path, DIR_FLAGS);

  if (fd < 0 && means_absent(errno)) {
    DG_FS_AUTO_FD bucket_fd = dg_fs_open_below(fs->root_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (bucket_fd < 0 && means_absent(errno))
      return dg_fail(err, DG_E_NO_SUCH_BUCKET, "no directory '%s' in %s", name, fs->root_path);
    if (bucket_fd < 0)
      return dg_fs_fail(err, errno, "open bucket '%s'", name);
  } else if (fd < 0) {
    return dg_fs_fail(err, errno, "open '%s'", path);
  }
  *ret_fd = fd;
  return 0;
}

int dg_fs_dirs_find(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice dir,
                    struct dg_fs_dirs *ret_dirs, struct dg_error *err)
{
  struct dg_fs_dirs level = {0};
  int top = -1;
  size_t start = 0;

  if (open_top(fs, bucket, &top, err) < 0)
    return -1;
  if (top >= 0) {
    level.fd[0] = top;
    level.count = 1;
  }
  for (size_t i = 0; i < dir.len && level.count; i++) {
    struct dg_fs_dirs below = {0};
    struct dg_slice segment = {dir.data + start, i - start};
    int rc = 0;

    if (dir.data[i] != '/')
      continue;
    start = i + 1;
    for (unsigned j = 0; j < level.count && rc == 0; j++)
      rc = dg_fs_dirs_add_below(fs, level.fd[j], segment, &below, err);
    dg_fs_dirs_close(&level);
    if (rc < 0) {
      dg_fs_dirs_close(&below);
      return -1;
    }
    level = below;
  }
  *ret_dirs = level;
  return 0;
}

/* ---- Making directories ---------------------------------------------------- */

static int sync_dir(struct dg_fs *fs, int fd, const char *step, struct dg_error *err)
{
  int errnum = dg_fs_step(fs, step);

  if (!errnum && fsync(fd) < 0)
    errnum = errno;
  return errnum ? dg_fs_fail(err, errnum, "sync a directory") : 0;
}

/* Makes a directory under a marked name: the mark is on it before the name
 * shows. EEXIST if the name is taken. Returns an errno or 0. */
static int make_marked(struct dg_fs *fs, int parent, const char *name, struct dg_slice segment)
{
  char temp[32];
  int errnum = 0;

  dg_fs_temp_name(fs, temp);
  if (mkdirat(fs->staging_fd, temp, 0777) < 0)
    return errno;
  {
    DG_FS_AUTO_FD fd = openat(fs->staging_fd, temp, DIR_FLAGS | O_NOFOLLOW);

    if (fd < 0 || fsetxattr(fd, DG_FS_XATTR_NAME, segment.data ? segment.data : "", segment.len,
                            0) < 0 ||
        fsync(fd) < 0)
      errnum = errno;
  }
  if (!errnum && renameat2(fs->staging_fd, temp, parent, name, RENAME_NOREPLACE) < 0)
    errnum = errno;
  if (errnum)
    (void)unlinkat(fs->staging_fd, temp, AT_REMOVEDIR);
  return errnum;
}

/* Makes one directory under the first name that is free. Caller holds
 * layout_lock, so that no two threads choose different names. */
static int make_segment(struct dg_fs *fs, int parent, struct dg_slice segment, int *ret_fd,
                        struct dg_error *err)
{
  struct dg_fs_dirs dirs = {0};
  struct dg_fs_names names;

  for (int attempt = 0; attempt < 64; attempt++) {
    if (dg_fs_dirs_add_below(fs, parent, segment, &dirs, err) < 0)
      return -1;
    if (dirs.count) {
      *ret_fd = dirs.fd[0];
      dirs.fd[0] = -1;
      for (unsigned i = 1; i < dirs.count; i++)
        (void)close(dirs.fd[i]);
      return 0;
    }
    dg_fs_names(fs, segment, DG_FS_ROLE_DIR, &names);
    for (unsigned i = 0; i < names.count; i++) {
      int errnum = dg_fs_step(fs, "fs.put.mkdir");

      if (names.accept[i] == DG_FS_LITERAL)
        continue;
      if (!errnum && names.accept[i] == DG_FS_MARKED)
        errnum = make_marked(fs, parent, names.name[i], segment);
      else if (!errnum && mkdirat(parent, names.name[i], 0777) < 0)
        errnum = errno;
      if (!errnum)
        break;
      if (errnum == ENOENT)
        return dg_fail(err, DG_E_CONFLICT, "a parent directory was pruned meanwhile");
      if (errnum != EEXIST)
        return dg_fs_fail(err, errnum, "make directory '%s'", names.name[i]);
      /* Taken. By a literal entry: that one moves away and we try again. By a
       * file of ours: the next name is for that case. */
      if (names.accept[i] == DG_FS_MARKED && dg_fs_relocate(fs, parent, names.name[i], err) < 0)
        return -1;
    }
  }
  return dg_fail(err, DG_E_IO, "a directory in the way keeps changing");
}

static int make_segment_durably(struct dg_fs *fs, int parent, struct dg_slice segment, int *ret_fd,
                                struct dg_error *err)
{
  int fd = -1, rc;

  (void)pthread_mutex_lock(&fs->layout_lock);
  /* Raised before the directory shows: whoever finds it and sees zero knows
   * that its entry is on disk. See dg_fs_dir_make(). */
  (void)atomic_fetch_add(&fs->unsynced_dirs, 1);
  rc = make_segment(fs, parent, segment, &fd, err);
  if (rc == 0 && sync_dir(fs, parent, "fs.put.mkdir.sync", err) < 0) {
    (void)close(fd);
    rc = -1;
  }
  (void)atomic_fetch_sub(&fs->unsynced_dirs, 1);
  (void)pthread_mutex_unlock(&fs->layout_lock);
  if (rc == 0)
    *ret_fd = fd;
  return rc;
}

/* Another thread may have made this directory and not synced it yet. */
static void await_unsynced(struct dg_fs *fs)
{
  if (atomic_load(&fs->unsynced_dirs)) {
    (void)pthread_mutex_lock(&fs->layout_lock);
    (void)pthread_mutex_unlock(&fs->layout_lock);
  }
}

static int make_top(struct dg_fs *fs, struct dg_slice bucket, int *ret_fd, struct dg_error *err)
{
  int fd = -1;

  if (open_top(fs, bucket, &fd, err) < 0)
    return -1;
  if (fd < 0) {
    g_autofree char *name = g_strndup(bucket.data, bucket.len);
    DG_FS_AUTO_FD bucket_fd = dg_fs_open_below(fs->root_fd, name, DIR_FLAGS);

    if (bucket_fd < 0)
      return dg_fs_fail(err, errno, "open bucket '%s'", name);
    return make_segment_durably(fs, bucket_fd, DG_SLICE(DG_FS_DELTASPACES), ret_fd, err);
  }
  *ret_fd = fd;
  return 0;
}

static int dir_make_once(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice dir,
                         int *ret_fd, struct dg_error *err)
{
  g_autofree char *path = dg_fs_plain_path(fs, bucket, dir, NULL);
  int errnum = dg_fs_step(fs, "fs.put.dirs");
  int fd = -1;
  size_t start = 0;

  if (errnum)
    return dg_fs_fail(err, errnum, "look up the target directory");
  if (path) {
    fd = dg_fs_open_below(fs->root_fd, path, DIR_FLAGS);
    if (fd >= 0) {
      await_unsynced(fs);
      *ret_fd = fd;
      return 0;
    }
    if (!means_absent(errno))
      return dg_fs_fail(err, errno, "open '%s'", path);
  }
  if (make_top(fs, bucket, &fd, err) < 0)
    return -1;
  for (size_t i = 0; i < dir.len; i++) {
    struct dg_slice segment = {dir.data + start, i - start};
    struct dg_fs_dirs below = {0};
    int next = -1, rc;

    if (dir.data[i] != '/')
      continue;
    start = i + 1;
    rc = dg_fs_dirs_add_below(fs, fd, segment, &below, err);
    if (rc == 0 && below.count)
      next = dup(below.fd[0]);
    dg_fs_dirs_close(&below);
    if (rc == 0 && next < 0)
      rc = make_segment_durably(fs, fd, segment, &next, err);
    (void)close(fd);
    if (rc < 0)
      return -1;
    fd = next;
  }
  await_unsynced(fs);
  *ret_fd = fd;
  return 0;
}

int dg_fs_dir_make(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice dir, int *ret_fd,
                   struct dg_error *err)
{
  /* A removal may prune what we stand on; each round is progress for it. */
  for (int attempt = 0;; attempt++) {
    if (dir_make_once(fs, bucket, dir, ret_fd, err) == 0)
      return 0;
    if (err->code != DG_E_CONFLICT)
      return -1;
    if (attempt == 1000)
      return dg_fail(err, DG_E_SLOW_DOWN, "the target directory is pruned again and again");
  }
}

/* Upwards from one directory, which is transferred. The parent is taken
 * before the removal, through "..": nothing on the way is a link. */
static void prune_from(struct dg_fs *fs, int fd, struct dg_slice dir)
{
  while (dir.len && fd >= 0) {
    DG_FS_AUTO_FD child = fd;
    struct dg_fs_names names;
    struct dg_slice segment = {dir.data, dir.len - 1};
    bool removed = false;

    fd = openat(child, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (segment.len && segment.data[segment.len - 1] != '/')
      segment.len--;
    dir.len -= 1;
    segment = (struct dg_slice){dir.data + segment.len, dir.len - segment.len};
    dir.len -= segment.len;
    dg_fs_names(fs, segment, DG_FS_ROLE_DIR, &names);
    for (unsigned i = 0; i < names.count && fd >= 0 && !removed; i++)
      removed = unlinkat(fd, names.name[i], AT_REMOVEDIR) == 0;
    if (!removed) {
      dg_fs_close_fd(&fd);
      return;
    }
  }
  dg_fs_close_fd(&fd);
}

void dg_fs_prune(struct dg_fs *fs, struct dg_fs_dirs *dirs, struct dg_slice dir)
{
  for (unsigned i = 0; i < dirs->count; i++)
    prune_from(fs, dirs->fd[i], dir);
  dirs->count = 0;
}
