/* SPDX-License-Identifier: Apache-2.0 */
/* What one directory holds, as keys see it. */
#ifndef DG_FS_DIRSCAN_H
#define DG_FS_DIRSCAN_H

#include "fs.h"
#include "names.h"

#define DG_FS_ENTRY_FILE 1u
#define DG_FS_ENTRY_DELTA 2u
#define DG_FS_ENTRY_DIR 3u

/* One visible entry. `sort` is the true segment, for a directory with '/'
 * appended, so that plain byte order of `sort` is the order of keys. `disk` is
 * the name on disk if it does not follow from sort and kind, else empty. */
struct dg_fs_entry {
  struct dg_slice sort;
  struct dg_slice disk;
  uint32_t kind; /* DG_FS_ENTRY_* */
};

/* Order of sort, then kind, then disk. Total over one directory. */
int dg_fs_entry_compare(const struct dg_fs_entry *a, const struct dg_fs_entry *b);

/* The name on disk, NUL-terminated. False if it is longer than a name can be. */
bool dg_fs_entry_disk(const struct dg_fs_entry *entry, char out[static DG_FS_NAME_BYTES]);

/* What must hold for the file under that name (names.h). */
enum dg_fs_accept dg_fs_entry_accept(const struct dg_fs_entry *entry, const char *disk);

/* Room for the strings of one classified entry. */
struct dg_fs_entry_room {
  char text[DG_FS_MARK_BYTES + 2 + DG_FS_NAME_BYTES];
};

/* A copy whose texts lie in `room`. */
struct dg_fs_entry dg_fs_entry_copy(const struct dg_fs_entry *entry,
                                    struct dg_fs_entry_room *room);

/* Classifies one name of a directory. `type` is a DT_* value, DT_UNKNOWN
 * included. Returns 1 and fills *ret_entry (strings in `name` or `room`), 0 if
 * clients do not see it: dot names, references, links, devices, what is not
 * there (any more). -1: the filesystem failed. */
int dg_fs_classify(const struct dg_fs *fs, int dir_fd, const char *name, unsigned char type,
                   struct dg_fs_entry_room *room, struct dg_fs_entry *ret_entry,
                   struct dg_error *err);

/* Calls `entry` for every visible entry, in no order. A non-zero result ends
 * the scan early (not an error). */
typedef int (*dg_fs_entry_fn)(void *receiver, const struct dg_fs_entry *entry);
int dg_fs_dir_scan(const struct dg_fs *fs, int dir_fd, dg_fs_entry_fn entry, void *receiver,
                   struct dg_error *err);

/* Is any object below that directory, at any depth? References count only if
 * asked for. */
int dg_fs_dir_has_objects(const struct dg_fs *fs, int dir_fd, bool count_references,
                          bool *ret_has, struct dg_error *err);

#endif
