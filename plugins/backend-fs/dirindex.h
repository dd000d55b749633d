/* SPDX-License-Identifier: Apache-2.0 */
/* The sorted names of large directories, so that a page of a listing costs
 * what the page holds, not what the directory holds.
 *
 * An index is an immutable mapped file (indexfile.h) plus a small sorted
 * overlay of changes in memory. It is built by one scan, kept right by
 * inotify, which sees our own changes like anybody's, and folded into a new
 * file when the overlay has grown. Each change is only a hint to look at that
 * name again, so order and doubles do not matter.
 *
 *           scan                 event             overlay large
 *   (none) ------> file + {} ------------> file + {changes} ------> file' + {}
 *                    ^                          |
 *                    +--- queue overflowed, or no watch and times differ ---+
 *
 * Between runs the file stays in the index directory, with the directory's
 * inode and times; it is used again only if those still agree and were not
 * fresh when taken. Deleting the index directory's content is always safe.
 *
 * An index may list an escaped name that is gone (its true segment cannot be
 * told from the name): readers open what they list and report ghosts with
 * dg_dirindex_forget(). It never lacks a name.
 *
 * Locks: index->mutex, then set->mutex. */
#ifndef DG_FS_DIRINDEX_H
#define DG_FS_DIRINDEX_H

#include "entries.h"

/* Directories with fewer visible entries are simply read. */
#define DG_DIRINDEX_MIN 2048u

struct dg_dirindex_set;
struct dg_dirindex;

/* dir: where index files are kept; NULL: not kept from run to run. [startup] */
struct dg_dirindex_set *dg_dirindex_set_new(struct dg_fs *fs, const char *dir);
void dg_dirindex_set_free(struct dg_dirindex_set *set); /* NULL is fine. [startup] */

/* The live index of an open directory, or NULL. Shared: unref. [worker] */
struct dg_dirindex *dg_dirindex_find(struct dg_dirindex_set *set, int dir_fd);
/* The same, loading or building it. [worker] */
int dg_dirindex_open(struct dg_dirindex_set *set, int dir_fd, struct dg_dirindex **ret_index,
                     struct dg_error *err);
void dg_dirindex_unref(struct dg_dirindex *index); /* NULL is fine */

/* Brings an index up to date; call before a page. [worker] */
int dg_dirindex_refresh(struct dg_dirindex *index, struct dg_error *err);

/* Appends up to `max` entries that are not less than `from` (or, if `after`,
 * greater) to an empty list. An index whose file went away is built anew for it.
 * [worker] */
int dg_dirindex_fetch(struct dg_dirindex *index, const struct dg_fs_entry *from, bool after,
                      unsigned max, struct dg_fs_entries *entries, struct dg_error *err);

/* That entry turned out not to be there. [worker] */
void dg_dirindex_forget(struct dg_dirindex *index, const struct dg_fs_entry *entry);

/* A write or removal took place: now and then takes the kernel's queue in, so
 * that it does not overflow while nobody lists. [worker] */
void dg_dirindex_changed(struct dg_dirindex_set *set);

/* For tests and the benchmark. */
struct dg_dirindex_stats {
  unsigned live, scans, loads, folds;
};
void dg_dirindex_stats(struct dg_dirindex_set *set, struct dg_dirindex_stats *ret_stats);

/* For tests: as if the system granted no watches, for indexes yet to come. */
void dg_dirindex_without_watches(struct dg_dirindex_set *set);

#endif
