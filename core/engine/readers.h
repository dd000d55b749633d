/* SPDX-License-Identifier: Apache-2.0 */
/* Small readers that the engine puts on top of, or in place of, a backend's. */
#ifndef DG_CORE_ENGINE_READERS_H
#define DG_CORE_ENGINE_READERS_H

#include <glib.h>
#include <stdbool.h>

#include <deltaglider/plugin.h>

/* Part of a block of memory; shares bytes. */
struct dg_reader *dg_bytes_reader_new(GBytes *bytes, uint64_t offset, uint64_t length);

/* Part of a local file; fd is transferred. Supports file_range. */
struct dg_reader *dg_file_reader_new(int fd, uint64_t offset, uint64_t length);

/* Passes a whole object on while hashing it. The last bytes are held back until
 * the digest is known: a mismatch fails with DG_E_CORRUPT instead of ending the
 * stream. inner is transferred. gives_file: file_range() passes the file on
 * unread, if inner has one; otherwise it is refused, so that all is read. report
 * (may be NULL) is called on a mismatch, or with NULL when all was read and is good. */
struct dg_reader *dg_verify_reader_new(struct dg_reader *inner, uint64_t size_bytes,
                                       const uint8_t sha256[32], bool gives_file,
                                       void (*report)(void *receiver, const struct dg_error *err),
                                       void *receiver, GDestroyNotify free_receiver);

#endif
