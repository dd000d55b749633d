/* SPDX-License-Identifier: Apache-2.0 */
/* Writing index files: from a directory, or from an older file and changes. */
#ifndef DG_FS_DIRBUILD_H
#define DG_FS_DIRBUILD_H

#include "indexfile.h"

/* A name that is there now, or is not any more. Key and value of an overlay. */
struct dg_dirchange {
  struct dg_fs_entry entry; /* texts in `text` */
  bool present;
  char text[];
};

struct dg_dirchange *dg_dirchange_new(const struct dg_fs_entry *entry, bool present);
/* A GTree of them, in the order of entries; it owns them. */
GTree *dg_dirchange_tree(void);

/* Walks base and overlay together, in order. */
struct dg_dirmerge {
  const struct dg_indexfile *base;
  uint64_t at;
  GTreeNode *node;
};
void dg_dirmerge_start(struct dg_dirmerge *merge, const struct dg_indexfile *base, GTree *overlay,
                       const struct dg_fs_entry *from, bool after);
bool dg_dirmerge_next(struct dg_dirmerge *merge, struct dg_fs_entry *ret_entry);

/* Reads the directory into out_fd (transferred), in bounded memory: sorted
 * runs first (in files, or in memory), then one merge. The file carries no stamp yet. */
int dg_dirbuild_scan(struct dg_fs *fs, int dir_fd, int out_fd, bool in_memory,
                     struct dg_indexfile **ret_file, struct dg_error *err);

/* Writes base and overlay as one file to out_fd (transferred), without a
 * stamp. */
int dg_dirbuild_fold(const struct dg_indexfile *base, GTree *overlay, int out_fd,
                     struct dg_indexfile **ret_file, struct dg_error *err);

/* A file without a name, in the staging directory or in memory; -1 with
 * errno. */
int dg_dirbuild_anonymous(struct dg_fs *fs, bool in_memory);

#endif
