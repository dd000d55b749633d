/* SPDX-License-Identifier: Apache-2.0 */
/* Walks one directory's visible entries in order: small ones are read and
 * sorted, large ones come from their index (dirindex.h). */
#ifndef DG_FS_CURSOR_H
#define DG_FS_CURSOR_H

#include "dirscan.h"

struct dg_fs_cursor;

/* Positioned before the first entry. Borrows dir_fd. [worker] */
int dg_fs_cursor_open(struct dg_fs *fs, int dir_fd, struct dg_fs_cursor **ret_cursor,
                      struct dg_error *err);
void dg_fs_cursor_close(struct dg_fs_cursor *cursor); /* NULL is fine */

/* To the first entry whose sort is `sort` or greater. */
void dg_fs_cursor_seek(struct dg_fs_cursor *cursor, struct dg_slice sort);

/* The entry at the position, or NULL at the end or after a failure; valid until
 * the cursor moves. */
const struct dg_fs_entry *dg_fs_cursor_peek(struct dg_fs_cursor *cursor);
void dg_fs_cursor_next(struct dg_fs_cursor *cursor);

/* Fails if the cursor stopped before the end. Ask before an entry, or the end, is
 * believed. */
int dg_fs_cursor_check(const struct dg_fs_cursor *cursor, struct dg_error *err);

/* That entry, met on the way, is not there after all. */
void dg_fs_cursor_forget(struct dg_fs_cursor *cursor, const struct dg_fs_entry *entry);

#endif
