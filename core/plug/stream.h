/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of readers, writers and sources, whoever made them: plugin or engine.
 * The only callers of their op pointers. [worker], one call at a time per
 * object. */
#ifndef DG_CORE_PLUG_STREAM_H
#define DG_CORE_PLUG_STREAM_H

#include <glib.h>

#include <deltaglider/plugin.h>

/* Up to capacity (> 0) bytes; *ret_len 0 means the end. */
int dg_reader_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                   struct dg_error *err);
/* Reads until buffer is full or the stream ends. */
int dg_reader_read_full(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                        struct dg_error *err);
/* DG_E_UNSUPPORTED when the stream is not plain file bytes. *ret_fd is
 * transferred. */
int dg_reader_file_range(struct dg_reader *reader, int32_t *ret_fd, uint64_t *ret_offset,
                         uint64_t *ret_length, struct dg_error *err);
void dg_reader_close(struct dg_reader *reader); /* NULL is fine */

/* DG_E_CANCELLED once the client has left, DG_E_TIMEOUT past the deadline. Ask
 * between chunks. call NULL: never. [any] */
int dg_call_check(const struct dg_call *call, struct dg_error *err);

/* Takes a piece of a stream: 0, 1 when it needs no more, or -1. */
typedef int (*dg_sink_fn)(void *receiver, const void *data, size_t len, struct dg_error *err);
/* Gives the rest of reader to sink, DG_STREAM_CHUNK bytes at most a time, with
 * dg_call_check() before each. The reader stays open. [worker] */
int dg_reader_drain(struct dg_reader *reader, const struct dg_call *call, dg_sink_fn sink,
                    void *receiver, struct dg_error *err);
/* The same into a writer, which stays open too. */
int dg_reader_copy(struct dg_reader *reader, const struct dg_call *call, struct dg_writer *writer,
                   struct dg_error *err);
#define DG_STREAM_CHUNK (256u * 1024u)

int dg_writer_write(struct dg_writer *writer, const void *data, size_t len, struct dg_error *err);
/* Frees the writer, success or not. ret_result may be NULL. */
int dg_writer_commit(struct dg_writer *writer, const struct dg_item *item,
                     const struct dg_meta *meta, struct dg_commit_result *ret_result,
                     struct dg_error *err);
void dg_writer_abort(struct dg_writer *writer); /* NULL is fine */
int dg_writer_read_back(struct dg_writer *writer, struct dg_reader **ret_reader,
                        struct dg_error *err);

int dg_source_read_at(const struct dg_source *source, uint64_t offset, void *buffer, size_t len,
                      struct dg_error *err);

/* ---- For the wrappers of this folder ------------------------------------------- */

/* Turns what a plugin returned into 0 or -1 with a code from the table. what
 * names the culprit, e.g. "backend-fs put". Returns result normalised. */
int dg_normalise(int result, const char *instance, const char *op, struct dg_error *err);

/* The same stream with every call under mutex (borrowed; must outlive it): for
 * SERIAL plugins. */
struct dg_reader *dg_reader_serialise(struct dg_reader *reader, GMutex *mutex);
struct dg_writer *dg_writer_serialise(struct dg_writer *writer, GMutex *mutex);

#endif
