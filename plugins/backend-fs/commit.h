/* SPDX-License-Identifier: Apache-2.0 */
/* The moment an object becomes visible, and the moment it is gone. */
#ifndef DG_FS_COMMIT_H
#define DG_FS_COMMIT_H

#include "fs.h"
#include "path.h"

/* Makes the staged file `temp`, open as fd, durable under item with meta. On
 * success and failure alike the staging directory may still hold `temp` (the
 * old object after an overwrite): the caller unlinks it. [worker] */
int dg_fs_commit(struct dg_fs *fs, int fd, const char *temp, const struct dg_item *item,
                 const struct dg_meta *meta, struct dg_error *err);

/* Removes every copy of the item durably, and directories left empty.
 * DG_E_NO_SUCH_KEY, DG_E_NO_SUCH_BUCKET. [worker] */
int dg_fs_remove(struct dg_fs *fs, const struct dg_item *item, struct dg_error *err);

#endif
