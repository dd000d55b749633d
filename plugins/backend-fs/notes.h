/* SPDX-License-Identifier: Apache-2.0 */
/* Notes: dg_backend_ops of the same names. [worker]
 *
 * One file each, BUCKET/.dg-notes/ID, beside `deltaspaces`: no listing comes there, and
 * what deletes the bucket takes it along. */
#ifndef DG_FS_NOTES_H
#define DG_FS_NOTES_H

#include "fs.h"

int dg_fs_note_put(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice id,
                   struct dg_slice text, struct dg_error *err);
int dg_fs_note_get(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice id, char *buffer,
                   size_t *ret_len, struct dg_error *err);
int dg_fs_note_remove(struct dg_fs *fs, struct dg_slice bucket, struct dg_slice id,
                      struct dg_error *err);

#endif
