/* SPDX-License-Identifier: Apache-2.0 */
/* A reader over part of an open file. */
#ifndef DG_FS_READER_H
#define DG_FS_READER_H

#include "fs.h"

/* Reads [offset, offset + length) of fd, which is transferred. [worker] */
struct dg_reader *dg_fs_reader_new(const struct dg_fs *fs, int fd, uint64_t offset,
                                   uint64_t length);

#endif
