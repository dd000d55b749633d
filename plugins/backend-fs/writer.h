/* SPDX-License-Identifier: Apache-2.0 */
/* Writing an object: a temporary in the staging directory, then
 *
 *   body -> metadata -> fsync -> rename -> fsync of the directory
 *
 * An overwritten file trades places with the temporary (RENAME_EXCHANGE), so
 * that a failing directory sync can still bring the old object back. A crash
 * leaves at most one file per write in flight, all in the staging directory. */
#ifndef DG_FS_WRITER_H
#define DG_FS_WRITER_H

#include "fs.h"

/* Opens a temporary. [worker] */
int dg_fs_writer_open(struct dg_fs *fs, const struct dg_call *call, struct dg_writer **ret_writer,
                      struct dg_error *err);

#endif
