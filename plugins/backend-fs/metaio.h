/* SPDX-License-Identifier: Apache-2.0 */
/* An open file's attributes and times as struct dg_meta, and back. */
#ifndef DG_FS_METAIO_H
#define DG_FS_METAIO_H

#include "fs.h"
#include "names.h"

/* What validate() compares: device, inode, size, and both times to the
 * nanosecond, of a file this process never gives the same time twice. */
struct dg_fs_validator {
  uint64_t device, inode, size;
  int64_t mtime_s, ctime_s;
  uint32_t mtime_ns, ctime_ns;
};
void dg_fs_validator(const struct stat *stat, struct dg_fs_validator *ret_validator);

/* Fills an empty meta from fd. `stat` must have been taken before this call.
 * `name` is the key's last segment. Sets DG_META_UNMANAGED or DG_META_CORRUPT
 * rather than failing:
 *
 *   no attribute                    unmanaged
 *   the same, a delta's name, and a body that begins D6 C3 C4: corrupt. It is
 *   a VCDIFF whose metadata was stripped; no client wants it raw. Any other
 *   body under such a name is no delta but somebody's file, served as it is
 *   attribute unreadable            corrupt
 *   metadata of another kind than the name says: corrupt
 *   the same on reference.bin       unmanaged: the engine heals references
 *
 * The variant is always that of the name.
 *
 * Fails only when the filesystem does. */
int dg_fs_meta_load(const struct dg_fs *fs, int fd, const struct stat *stat, enum dg_fs_role role,
                    struct dg_slice name, struct dg_meta *meta, struct dg_error *err);

/* Attaches metadata to an open file, without the sizes of its parts if the
 * filesystem has no room for those. DG_E_METADATA_TOO_LARGE if it has none for
 * the rest either, even in terse form. */
int dg_fs_meta_store(const struct dg_fs *fs, int fd, const struct dg_meta *meta, const char *step,
                     struct dg_error *err);

/* Attaches or removes (segment.data == NULL) the mark of an escaped name. */
int dg_fs_mark_store(const struct dg_fs *fs, int fd, struct dg_slice segment,
                     struct dg_error *err);

/* Gives the file a modification time no other file got from this process. */
int dg_fs_stamp(struct dg_fs *fs, int fd, struct dg_error *err);

/* ETag of a file without metadata: 32 hex digits and NUL. */
void dg_fs_unmanaged_etag(uint64_t size, int64_t mtime_s, uint32_t mtime_ns,
                          char out[static 33]);

#endif
