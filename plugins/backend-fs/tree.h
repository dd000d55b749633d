/* SPDX-License-Identifier: Apache-2.0 */
/* Deleting what nobody refers to any more. */
#ifndef DG_FS_TREE_H
#define DG_FS_TREE_H

#include "fs.h"

/* Deletes dir_fd/name, a file or a whole tree, symbolic links not followed.
 * Returns 0 or the first errno; goes on after an error. */
int dg_fs_tree_delete(int dir_fd, const char *name);

/* Deletes what is in a directory. *ret_count: entries at its top. */
int dg_fs_tree_empty(int dir_fd, unsigned *ret_count);

#endif
