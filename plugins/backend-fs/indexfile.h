/* SPDX-License-Identifier: Apache-2.0 */
/* One directory's entries, sorted, in a file: written once, then only mapped.
 *
 *   header   struct dg_indexfile_header, 128 bytes
 *   rows     u16 sort length, u16 disk length, u8 kind, then both texts
 *   offsets  u64 per row, from the start of the file, 8-aligned
 *
 * Host byte order: the file is a cache of this machine. A checksum covers rows
 * and offsets, another the header; whatever does not check is not used. What is cut
 * short or cannot be read later is noticed by dg_indexfile_is_hurt(). */
#ifndef DG_FS_INDEXFILE_H
#define DG_FS_INDEXFILE_H

#include "dirscan.h"

/* Which state of which directory the rows describe. */
struct dg_indexfile_stamp {
  uint64_t device, inode;
  int64_t mtime_s, mtime_ns, ctime_s, ctime_ns;
};

struct dg_indexfile;  /* shared; immutable */
struct dg_indexfile_writer;

/* Writes rows to fd, an empty file open for reading and writing; transferred. */
struct dg_indexfile_writer *dg_indexfile_writer_new(int fd);
/* Rows must come in ascending order. Errors are kept until finish. */
void dg_indexfile_add(struct dg_indexfile_writer *writer, const struct dg_fs_entry *entry);
/* Completes and maps the file; frees the writer, success or not. stamp NULL:
 * the file describes no state that can be recognised later. */
int dg_indexfile_finish(struct dg_indexfile_writer *writer, const struct dg_indexfile_stamp *stamp,
                        struct dg_indexfile **ret_file, struct dg_error *err);
void dg_indexfile_writer_abort(struct dg_indexfile_writer *writer); /* NULL is fine */

/* Maps and checks a file; fd is transferred. DG_E_CORRUPT if it is damaged. */
int dg_indexfile_map(int fd, struct dg_indexfile **ret_file, struct dg_error *err);
struct dg_indexfile *dg_indexfile_ref(struct dg_indexfile *file);
void dg_indexfile_unref(struct dg_indexfile *file); /* NULL is fine */

/* Rewrites the stamp of a finished file. */
int dg_indexfile_restamp(struct dg_indexfile *file, const struct dg_indexfile_stamp *stamp,
                         struct dg_error *err);
const struct dg_indexfile_stamp *dg_indexfile_stamp(const struct dg_indexfile *file);

/* After rows were taken: whether some of the file went away meanwhile
 * (common/mapguard.h). Then none of them can be believed. */
bool dg_indexfile_is_hurt(const struct dg_indexfile *file);

uint64_t dg_indexfile_count(const struct dg_indexfile *file);
struct dg_fs_entry dg_indexfile_at(const struct dg_indexfile *file, uint64_t number);

/* The first row that is not less than `entry` (or, if `after`, greater). */
uint64_t dg_indexfile_bound(const struct dg_indexfile *file, const struct dg_fs_entry *entry,
                            bool after);

#endif
