/* SPDX-License-Identifier: Apache-2.0 */
/* From bucket and key to open directories and files. Symbolic links are never
 * followed below the root. */
#ifndef DG_FS_PATH_H
#define DG_FS_PATH_H

#include "fs.h"
#include "names.h"

/* An item taken apart. `dir` is the key up to and with its last '/', or
 * empty; `name` the rest (for a reference: ignored). Borrows the item. */
struct dg_fs_place {
  struct dg_slice bucket, dir, name;
  enum dg_fs_role role;
};

/* DG_E_INVALID_ARGUMENT for an item no client can name: unsafe bucket, NUL in
 * the key, key longer than 1024 bytes, unknown variant. */
int dg_fs_place(const struct dg_item *item, struct dg_fs_place *ret_place, struct dg_error *err);

/* DG_E_INVALID_BUCKET_NAME unless the name is safe as one directory name and
 * visible as a bucket: 3 to 63 of [a-z0-9.-], alphanumeric at both ends. */
int dg_fs_check_bucket(struct dg_slice bucket, struct dg_error *err);
bool dg_fs_bucket_name_valid(struct dg_slice bucket);

/* The directories that together hold one key prefix: nearly always one. More
 * only if DeltaGlider Proxy made `a/` while ours is the marked `a%2F`. */
#define DG_FS_DIRS_MAX 8u
struct dg_fs_dirs {
  unsigned count;
  int fd[DG_FS_DIRS_MAX];
};

void dg_fs_dirs_close(struct dg_fs_dirs *dirs);

/* Opens a path below a directory without following symbolic links. Returns a
 * descriptor or -1 with errno. */
int dg_fs_open_below(int dir_fd, const char *path, int flags);

/* "BUCKET/deltaspaces/DIR", plus "/name" unless NULL, relative to the root,
 * when every segment of dir lies under its own name; NULL otherwise. Free with
 * g_free(). */
char *dg_fs_plain_path(const struct dg_fs *fs, struct dg_slice bucket, struct dg_slice dir,
                       const char *name);

/* Opens every directory that holds keys beginning with `dir` (ending in '/',
 * or empty). count == 0 if there is none. DG_E_NO_SUCH_BUCKET. */
int dg_fs_dirs_find(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice dir,
                    struct dg_fs_dirs *ret_dirs, struct dg_error *err);

/* Appends the directories one segment below a directory to a set, by
 * preference. */
int dg_fs_dirs_add_below(const struct dg_fs *fs, int dir_fd, struct dg_slice segment,
                         struct dg_fs_dirs *dirs, struct dg_error *err);

/* Opens the one directory new items of that prefix go to, making what is
 * missing, durably. DG_E_NO_SUCH_BUCKET. */
int dg_fs_dir_make(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice dir, int *ret_fd,
                   struct dg_error *err);

/* Opens an item's file for reading. On success *ret_fd and *ret_stat, and if
 * not NULL the directory it lies in, and its name there. DG_E_NO_SUCH_KEY,
 * DG_E_NO_SUCH_BUCKET. */
struct dg_fs_found {
  int fd, dir_fd; /* dir_fd only if asked for, else -1 */
  struct stat stat;
  char name[DG_FS_NAME_BYTES];
};
#define DG_FS_FIND_DIR 1u      /* also open the directory */
int dg_fs_find(struct dg_fs *fs, const struct dg_fs_place *place, unsigned flags,
               struct dg_fs_found *ret_found, struct dg_error *err);

/* The same within directories already open. */
int dg_fs_find_in_dirs(struct dg_fs *fs, const struct dg_fs_place *place, unsigned flags,
                       const struct dg_fs_names *names, const struct dg_fs_dirs *dirs,
                       struct dg_fs_found *ret_found, struct dg_error *err);

/* Opens dir_fd/name if it is a regular file that `accept` allows for the
 * segment. Returns the descriptor, or -1 with errno ENOENT when it is not. */
int dg_fs_open_entry(const struct dg_fs *fs, int dir_fd, const char *name,
                     enum dg_fs_accept accept, enum dg_fs_role role, struct dg_slice segment,
                     struct stat *ret_stat);

/* Moves a literal entry whose name an escaped one needs to its own escaped
 * name. Caller holds layout_lock. */
int dg_fs_relocate(struct dg_fs *fs, int dir_fd, const char *name, struct dg_error *err);

/* Removes directories that became empty, from those of `dir` (whose
 * descriptors are transferred) upwards, never `deltaspaces` itself. Best
 * effort. */
void dg_fs_prune(struct dg_fs *fs, struct dg_fs_dirs *dirs, struct dg_slice dir);

#endif
