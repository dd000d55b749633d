/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "dirindex.h"
#include "metaio.h"

#include "common/banned.h"

struct commit {
  struct dg_fs *fs;
  const struct dg_fs_place *place;
  const struct dg_meta *meta;
  struct dg_fs_names names;
  int fd;           /* the staged file */
  const char *temp; /* its name in the staging directory */
  int dir_fd;       /* where it goes */
  unsigned chosen;  /* index into names */
  bool exchanged;   /* the staging directory holds the old file */
};

/* What lies under a name now, as far as choosing it is concerned. */
enum occupant { FREE, OURS, FOREIGN };

static int occupant(const struct commit *commit, unsigned number, enum occupant *ret_occupant,
                    struct dg_error *err)
{
  const char *name = commit->names.name[number];
  struct stat stat;
  int fd;

  if (fstatat(commit->dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno != ENOENT)
      return dg_fs_fail(err, errno, "stat '%s'", name);
    *ret_occupant = FREE;
    return 0;
  }
  *ret_occupant = FOREIGN;
  if (!S_ISREG(stat.st_mode))
    return 0;
  fd = dg_fs_open_entry(commit->fs, commit->dir_fd, name, commit->names.accept[number],
                        commit->place->role, commit->place->name, &stat);
  if (fd >= 0) {
    (void)close(fd);
    *ret_occupant = OURS;
  } else if (errno != ENOENT) {
    return dg_fs_fail(err, errno, "open '%s'", name);
  }
  return 0;
}

/* The first name that is free or already the item's. A literal file under a
 * marked name belongs to another key and is moved out of the way. */
static int choose(struct commit *commit, unsigned *ret_number, bool *ret_replaces,
                  struct dg_error *err)
{
  for (unsigned i = 0; i < commit->names.count; i++) {
    enum occupant who;

    if (commit->names.accept[i] == DG_FS_LITERAL)
      continue;
    if (occupant(commit, i, &who, err) < 0)
      return -1;
    if (who == FOREIGN && commit->names.accept[i] == DG_FS_MARKED) {
      int rc;

      (void)pthread_mutex_lock(&commit->fs->layout_lock);
      rc = dg_fs_relocate(commit->fs, commit->dir_fd, commit->names.name[i], err);
      (void)pthread_mutex_unlock(&commit->fs->layout_lock);
      if (rc < 0 || occupant(commit, i, &who, err) < 0)
        return -1;
    }
    if (who != FOREIGN) {
      *ret_number = i;
      *ret_replaces = who == OURS;
      return 0;
    }
  }
  return dg_fail(err, DG_E_IO, "every name for this key is taken by something else");
}

static int seal(const struct commit *commit, unsigned number, struct dg_error *err)
{
  struct dg_slice mark = {0};
  int errnum;

  if (commit->names.accept[number] == DG_FS_MARKED)
    mark = (struct dg_slice){commit->place->name.len ? commit->place->name.data : "",
                             commit->place->name.len};
  if (dg_fs_mark_store(commit->fs, commit->fd, mark, err) < 0 ||
      dg_fs_meta_store(commit->fs, commit->fd, commit->meta, "fs.put.xattr", err) < 0 ||
      dg_fs_stamp(commit->fs, commit->fd, err) < 0)
    return -1;
  errnum = dg_fs_step(commit->fs, "fs.put.fsync");
  if (!errnum && fsync(commit->fd) < 0)
    errnum = errno;
  return errnum ? dg_fs_fail(err, errnum, "sync a new object") : 0;
}

/* Puts the staged file under its name. Returns 0, or an errno: EEXIST or
 * ENOENT when the directory changed under us and names must be chosen anew. */
static int place_file(struct commit *commit, const char *name, bool replaces)
{
  struct dg_fs *fs = commit->fs;
  struct stat stat;

  if (!replaces) {
    if (renameat2(fs->staging_fd, commit->temp, commit->dir_fd, name, RENAME_NOREPLACE) == 0)
      return 0;
    if (errno != EINVAL && errno != ENOSYS)
      return errno;
    return renameat(fs->staging_fd, commit->temp, commit->dir_fd, name) < 0 ? errno : 0;
  }
  if (renameat2(fs->staging_fd, commit->temp, commit->dir_fd, name, RENAME_EXCHANGE) < 0) {
    if (errno != EINVAL && errno != ENOSYS)
      return errno;
    /* This filesystem cannot exchange: the old object is gone for good. */
    return renameat(fs->staging_fd, commit->temp, commit->dir_fd, name) < 0 ? errno : 0;
  }
  commit->exchanged = true;
  /* Someone behind our back put a directory there: give it back. */
  if (fstatat(fs->staging_fd, commit->temp, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
      !S_ISREG(stat.st_mode)) {
    commit->exchanged = false;
    return renameat2(fs->staging_fd, commit->temp, commit->dir_fd, name, RENAME_EXCHANGE) < 0
             ? errno
             : EEXIST;
  }
  return 0;
}

static void undo(struct commit *commit, const char *name)
{
  if (commit->exchanged)
    (void)renameat2(commit->fs->staging_fd, commit->temp, commit->dir_fd, name, RENAME_EXCHANGE);
  else
    (void)unlinkat(commit->dir_fd, name, 0);
  (void)fsync(commit->dir_fd);
}

/* Unlinks the file of that name if it is the item's. A literal name may be
 * given to another key between look and unlink: choose() moves the file away
 * under layout_lock, so both happen under it. superseded: the item stays, under
 * a better name. Returns 0, ENOENT if there was nothing of the item's, or
 * another errno. */
static int unlink_ours(struct dg_fs *fs, const struct dg_fs_place *place,
                       const struct dg_fs_names *names, unsigned number, int dir_fd,
                       bool superseded)
{
  const char *name = names->name[number];
  bool literal = names->accept[number] == DG_FS_LITERAL;
  struct stat stat;
  int errnum = 0, fd;

  if (literal)
    (void)pthread_mutex_lock(&fs->layout_lock);
  fd = dg_fs_open_entry(fs, dir_fd, name, names->accept[number], place->role, place->name, &stat);
  if (fd < 0) {
    errnum = errno;
  } else {
    (void)close(fd);
    if (superseded)
      (void)atomic_fetch_add(&fs->name_changes, 1);
    else
      errnum = dg_fs_step(fs, "fs.remove.unlink");
    if (!errnum && unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
      errnum = errno;
  }
  if (literal)
    (void)pthread_mutex_unlock(&fs->layout_lock);
  return errnum;
}

/* Copies under names of lower preference are older: nobody looks at them as
 * long as the new one is there, but they must not come back after it. The
 * least preferred first: a literal one may be on its way to a better name. */
static void drop_superseded(const struct commit *commit)
{
  for (unsigned i = commit->names.count; i-- > 0;)
    if (i != commit->chosen)
      (void)unlink_ours(commit->fs, commit->place, &commit->names, i, commit->dir_fd,
                        /* superseded= */ true);
}

/* One try: 0, -1 with err, or 1 when the directory vanished or changed. */
static int try_commit(struct commit *commit, unsigned *sealed_as, struct dg_error *err)
{
  bool replaces = false;
  const char *name;
  int errnum;

  if (choose(commit, &commit->chosen, &replaces, err) < 0)
    return -1;
  name = commit->names.name[commit->chosen];
  if (*sealed_as != commit->chosen && seal(commit, commit->chosen, err) < 0)
    return -1;
  *sealed_as = commit->chosen;
  errnum = dg_fs_step(commit->fs, "fs.put.rename");
  if (errnum)
    return dg_fs_fail(err, errnum, "rename a new object into place");
  errnum = place_file(commit, name, replaces);
  if (errnum == EEXIST || errnum == ENOENT)
    return 1;
  if (errnum == EXDEV)
    return dg_fail(err, DG_E_IO,
                   "the bucket lies on another filesystem than %s: mount filesystems at the data "
                   "root, not below it",
                   commit->fs->root_path);
  if (errnum)
    return dg_fs_fail(err, errnum, "rename a new object to '%s'", name);
  errnum = dg_fs_step(commit->fs, "fs.put.syncdir");
  if (!errnum && fsync(commit->dir_fd) < 0)
    errnum = errno;
  if (errnum) {
    undo(commit, name);
    return dg_fs_fail(err, errnum, "sync the directory of a new object");
  }
  return 0;
}

static int commit_locked(struct commit *commit, struct dg_error *err)
{
  unsigned sealed_as = UINT32_MAX;

  for (int attempt = 0; attempt < 1000; attempt++) {
    int rc;

    if (dg_fs_dir_make(commit->fs, commit->place->bucket, commit->place->dir, &commit->dir_fd,
                       err) < 0)
      return -1;
    rc = try_commit(commit, &sealed_as, err);
    if (rc == 0) {
      /* Durable: from here on only good housekeeping, whatever happens. */
      if (dg_fs_step(commit->fs, "fs.put.clean") == 0)
        drop_superseded(commit);
      (void)dg_fs_step(commit->fs, "fs.put.done");
    }
    (void)close(commit->dir_fd);
    if (rc <= 0)
      return rc;
  }
  return dg_fail(err, DG_E_SLOW_DOWN, "the target directory keeps changing");
}

int dg_fs_commit(struct dg_fs *fs, int fd, const char *temp, const struct dg_item *item,
                 const struct dg_meta *meta, struct dg_error *err)
{
  pthread_rwlock_t *lock = dg_fs_bucket_lock(fs, item->bucket);
  struct dg_fs_place place;
  struct commit commit = {.fs = fs, .place = &place, .meta = meta, .fd = fd, .temp = temp};
  int rc;

  if (dg_fs_place(item, &place, err) < 0)
    return -1;
  if (meta->variant != item->variant)
    return dg_fail(err, DG_E_INTERNAL, "metadata of variant %u for an item of variant %u",
                   meta->variant, item->variant);
  dg_fs_names(fs, place.name, place.role, &commit.names);
  (void)pthread_rwlock_rdlock(lock);
  rc = commit_locked(&commit, err);
  (void)pthread_rwlock_unlock(lock);
  dg_dirindex_changed(fs->indexes);
  return rc;
}

/* ---- Removal ----------------------------------------------------------------- */

/* Unlinks the item's copies in one directory, the least preferred first, so
 * that a crash in between never shows an older one again. */
static int remove_in_dir(struct dg_fs *fs, const struct dg_fs_place *place,
                         const struct dg_fs_names *names, int dir_fd, bool *ret_found,
                         struct dg_error *err)
{
  bool found = false;
  int errnum = 0;

  for (unsigned i = names->count; i-- > 0;) {
    errnum = unlink_ours(fs, place, names, i, dir_fd, /* superseded= */ false);
    if (errnum && errnum != ENOENT)
      return dg_fs_fail(err, errnum, "remove '%s'", names->name[i]);
    found |= errnum == 0;
  }
  if (found) {
    errnum = dg_fs_step(fs, "fs.remove.syncdir");
    if (!errnum && fsync(dir_fd) < 0)
      errnum = errno;
    if (errnum)
      return dg_fs_fail(err, errnum, "sync a directory after a removal");
  }
  *ret_found |= found;
  return 0;
}

int dg_fs_remove(struct dg_fs *fs, const struct dg_item *item, struct dg_error *err)
{
  pthread_rwlock_t *lock = dg_fs_bucket_lock(fs, item->bucket);
  struct dg_fs_dirs dirs = {0};
  struct dg_fs_place place;
  struct dg_fs_names names;
  bool found = false;
  int rc;

  if (dg_fs_place(item, &place, err) < 0)
    return -1;
  dg_fs_names(fs, place.name, place.role, &names);
  (void)pthread_rwlock_rdlock(lock);
  rc = dg_fs_dirs_find(fs, place.bucket, place.dir, &dirs, err);
  for (unsigned i = dirs.count; rc == 0 && i-- > 0;)
    rc = remove_in_dir(fs, &place, &names, dirs.fd[i], &found, err);
  if (rc == 0 && !found)
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "no such item");
  if (rc == 0 && dg_fs_step(fs, "fs.remove.prune") == 0)
    dg_fs_prune(fs, &dirs, place.dir);
  dg_fs_dirs_close(&dirs);
  (void)pthread_rwlock_unlock(lock);
  dg_dirindex_changed(fs->indexes);
  if (rc == 0)
    (void)dg_fs_step(fs, "fs.remove.done");
  return rc;
}
