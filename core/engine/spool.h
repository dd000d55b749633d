/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that wait for a decision: in memory first, in an unnamed file of the
 * spool directory once there are many. A crash leaves nothing behind. */
#ifndef DG_CORE_ENGINE_SPOOL_H
#define DG_CORE_ENGINE_SPOOL_H

#include <glib.h>

#include <deltaglider/plugin.h>

#include "common/oserror.h" /* dg_errno_code(), which nearly every user needs */
#include "core/engine/spoolbudget.h"

struct dg_spool;
struct dg_spool_room; /* what a request holds of the budget, by its spools and their readers */

/* dir: borrowed for the spool's life. budget: likewise, and for that of its readers;
 * NULL: none. memory_max: bytes kept in memory, which the budget does not count. */
struct dg_spool *dg_spool_new(const char *dir, struct dg_spool_budget *budget, size_t memory_max);
void dg_spool_free(struct dg_spool *spool); /* NULL is fine */

/* [worker] Before the first byte: makes sure of room for so many. Waits for it, unless the
 * spool was joined to a request that holds some. DG_E_SLOW_DOWN; ret_deferred as in
 * dg_get_request. */
int dg_spool_reserve(struct dg_spool *spool, const struct dg_call *call, uint64_t size_bytes,
                     bool *ret_deferred, struct dg_error *err);

/* Before the first byte: counts as the same request as another spool, which is used by the
 * same thread. */
void dg_spool_join(struct dg_spool *spool, const struct dg_spool *other);
/* The same with a reader of a spool, by its room; NULL: nothing is joined. */
void dg_spool_join_room(struct dg_spool *spool, struct dg_spool_room *room);
/* The room that a reader keeps; NULL: none. Transferred. */
struct dg_spool_room *dg_spool_room_of(const struct dg_reader *reader);
void dg_spool_room_unref(struct dg_spool_room *room); /* NULL is fine */

uint64_t dg_spool_size(const struct dg_spool *spool);
/* [worker] DG_E_NO_SPACE when the spool directory is full. DG_E_SLOW_DOWN, without
 * waiting, when it is more than was reserved and the budget is used up. */
int dg_spool_append(struct dg_spool *spool, const void *data, size_t len, struct dg_error *err);
/* [worker] Writes everything, from the first byte, to a writer. */
int dg_spool_copy(struct dg_spool *spool, struct dg_writer *writer, struct dg_error *err);
/* [worker] A reader over a range; it keeps what it needs, so the spool may be
 * freed before it. Nothing may be appended later. */
int dg_spool_reader(struct dg_spool *spool, uint64_t offset, uint64_t length,
                    struct dg_reader **ret_reader, struct dg_error *err);

/* An unnamed file in dir, open for reading and writing; DG_E_NO_SPACE, DG_E_IO. */
int dg_spool_open_file(const char *dir, int *ret_fd, struct dg_error *err);
/* [startup] Where files cannot be made without a name, they have one for a moment: a crash
 * may leave it, empty. Removes such; a server that just makes one is not disturbed. */
void dg_spool_sweep(const char *dir);
/* Writes all of it at offset. */
int dg_write_all_at(int fd, const void *data, size_t len, uint64_t offset, struct dg_error *err);

#endif
