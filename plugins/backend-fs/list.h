/* SPDX-License-Identifier: Apache-2.0 */
/* Listing a bucket in the byte order of its keys. */
#ifndef DG_FS_LIST_H
#define DG_FS_LIST_H

#include "fs.h"

/* dg_backend_ops.list. [worker] */
int dg_fs_list(struct dg_fs *fs, const struct dg_call *call, const struct dg_list_request *request,
               dg_list_row_fn row, void *receiver, struct dg_error *err);

#endif
