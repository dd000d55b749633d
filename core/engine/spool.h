/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that wait for a decision: in memory first, in an unnamed file of the
 * spool directory once there are many. A crash leaves nothing behind. */
#ifndef DG_CORE_ENGINE_SPOOL_H
#define DG_CORE_ENGINE_SPOOL_H

#include <glib.h>

#include <deltaglider/plugin.h>

#include "common/oserror.h" /* dg_errno_code(), which nearly every user needs */

struct dg_spool;

/* dir: borrowed for the spool's life. memory_max: bytes kept in memory. */
struct dg_spool *dg_spool_new(const char *dir, size_t memory_max);
void dg_spool_free(struct dg_spool *spool); /* NULL is fine */

uint64_t dg_spool_size(const struct dg_spool *spool);
/* [worker] DG_E_NO_SPACE when the spool directory is full. */
int dg_spool_append(struct dg_spool *spool, const void *data, size_t len, struct dg_error *err);
/* [worker] Writes everything, from the first byte, to a writer. */
int dg_spool_copy(struct dg_spool *spool, struct dg_writer *writer, struct dg_error *err);
/* [worker] A reader over a range; it keeps what it needs, so the spool may be
 * freed before it. Nothing may be appended later. */
int dg_spool_reader(struct dg_spool *spool, uint64_t offset, uint64_t length,
                    struct dg_reader **ret_reader, struct dg_error *err);

/* An unnamed file in dir, open for reading and writing; DG_E_NO_SPACE, DG_E_IO. */
int dg_spool_open_file(const char *dir, int *ret_fd, struct dg_error *err);
/* Writes all of it at offset. */
int dg_write_all_at(int fd, const void *data, size_t len, uint64_t offset, struct dg_error *err);

#endif
