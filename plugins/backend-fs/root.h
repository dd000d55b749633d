/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, checking and closing the data root. */
#ifndef DG_FS_ROOT_H
#define DG_FS_ROOT_H

#include "fs.h"

/* Opens the root, making the directory if it is missing, locks it against a
 * second server, checks for extended attributes, sweeps the staging directory.
 * Messages name the remedy. *ret_fs: free with dg_fs_close(). [startup] */
int dg_fs_open(const struct dg_host *host, const char *path, const char *index_dir,
               struct dg_fs **ret_fs, struct dg_error *err);
void dg_fs_close(struct dg_fs *fs); /* NULL is fine. [startup] */

/* Is the root there, the one we opened, and writable? [worker] */
int dg_fs_probe(struct dg_fs *fs, struct dg_error *err);

#endif
