/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on one stored item: dg_backend_ops of the same names. [worker] */
#ifndef DG_FS_ITEM_H
#define DG_FS_ITEM_H

#include "fs.h"

int dg_fs_head(struct dg_fs *fs, const struct dg_item *item, struct dg_meta *meta,
               struct dg_error *err);
int dg_fs_get(struct dg_fs *fs, const struct dg_item *item, struct dg_range range,
              struct dg_meta *meta, struct dg_reader **ret_reader, struct dg_error *err);
int dg_fs_set_meta(struct dg_fs *fs, const struct dg_item *item, const struct dg_meta *meta,
                   struct dg_error *err);
int dg_fs_validate(struct dg_fs *fs, const struct dg_item *item, struct dg_slice validator,
                   int32_t *ret_same, struct dg_error *err);

#endif
