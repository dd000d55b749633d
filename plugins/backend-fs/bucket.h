/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets: the directories of the data root whose names are bucket names.
 * dg_backend_ops of the same names. [worker] */
#ifndef DG_FS_BUCKET_H
#define DG_FS_BUCKET_H

#include "fs.h"

int dg_fs_bucket_create(struct dg_fs *fs, struct dg_slice bucket, struct dg_error *err);

/* What is not an object goes with the bucket: references, empty directories,
 * dot-files. Objects with unreadable metadata count as objects, and so does
 * anything beside `deltaspaces`. */
int dg_fs_bucket_delete(struct dg_fs *fs, struct dg_slice bucket, struct dg_error *err);

int dg_fs_bucket_head(struct dg_fs *fs, struct dg_slice bucket, struct dg_error *err);
int dg_fs_bucket_list(struct dg_fs *fs, dg_bucket_row_fn row, void *receiver,
                      struct dg_error *err);

#endif
