/* SPDX-License-Identifier: Apache-2.0 */
/* How one segment of a key becomes one name on disk.
 *
 * DeltaGlider's layout keeps segments as they are. What it cannot hold is
 * escaped as %XX, upper-case hex:
 *
 *   a leading '.'                     .a            %2Ea
 *   the reserved names                reference.bin reference%2Ebin
 *                                     x.delta       x%2Edelta
 *   '%' followed by two hex digits    %2E           %252E
 *   the empty segment                 file %00, directory %2F
 *   longer than a file name may be    %00 + SHA-256 of the segment, in hex
 *                                     (directories: + %2F)
 *   `a` while a directory `a` exists  a%00
 *   `a/` while a file `a` exists      a%2F
 *
 * NUL and '/' never occur in a segment, so %00 and %2F are free as signs.
 * A delta's name is its object's with `.delta` appended. Every escaped name
 * carries the true segment in the attribute user.dg.name, and counts as
 * escaped only if that attribute is there and leads back to this very name;
 * otherwise the name is literal, as DeltaGlider Proxy wrote it.
 *
 * A segment can therefore lie under one of several names. They are tried in
 * order; writers use the first that is free, and drop the others. */
#ifndef DG_FS_NAMES_H
#define DG_FS_NAMES_H

#include "fs.h"

enum dg_fs_role {
  DG_FS_ROLE_DIR = 0,
  DG_FS_ROLE_FILE = 1,  /* passthrough */
  DG_FS_ROLE_DELTA = 2,
  DG_FS_ROLE_REFERENCE = 3, /* segment is ignored: the name is reference.bin */
};

/* What must hold for an entry of that name to be ours. */
enum dg_fs_accept {
  DG_FS_PLAIN,   /* the name speaks for itself */
  DG_FS_MARKED,  /* user.dg.name equals the true segment */
  DG_FS_LITERAL, /* no valid mark: written by DeltaGlider Proxy */
};

#define DG_FS_NAME_BYTES 256u
#define DG_FS_NAMES_MAX 3u

struct dg_fs_names {
  unsigned count;
  enum dg_fs_accept accept[DG_FS_NAMES_MAX];
  char name[DG_FS_NAMES_MAX][DG_FS_NAME_BYTES];
};

/* All names the segment may have, best first. The last marked one never
 * collides with an entry of another kind. [any] */
void dg_fs_names(const struct dg_fs *fs, struct dg_slice segment, enum dg_fs_role role,
                 struct dg_fs_names *ret_names);

/* Does the name hold a '%' followed by two hex digits? Only such names can
 * be marked. [any] */
bool dg_fs_name_has_escape(const char *name, size_t len);

/* Is `disk` one of the marked names of that segment? [any] */
bool dg_fs_name_leads_to(const struct dg_fs *fs, struct dg_slice segment, enum dg_fs_role role,
                         const char *disk);

/* The role a file's name on disk claims, and the literal segment it stands
 * for if it carries no mark. [any] */
enum dg_fs_role dg_fs_file_role(const char *disk, size_t len, struct dg_slice *ret_segment);

/* The mark of an open file or directory, or of an entry: true and *ret_segment
 * filled (NUL-terminated, 1024 bytes of room + 1) when it is valid for that
 * name and role. */
#define DG_FS_MARK_BYTES 1025u
bool dg_fs_mark_read(const struct dg_fs *fs, int fd, const char *disk, enum dg_fs_role role,
                     char mark[static DG_FS_MARK_BYTES], struct dg_slice *ret_segment);

#endif
