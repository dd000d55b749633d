/* SPDX-License-Identifier: Apache-2.0 */
/* Remembers what HEADs told, so that a listing need not ask again: S3 lists
 * name, size, ETag and time of change, but no metadata. What is remembered is
 * used only while those still agree. Bounded, in memory, kept in a file from one
 * run to the next, always rebuildable. Thread: [any]. */
#ifndef DG_S3_METAINDEX_H
#define DG_S3_METAINDEX_H

#include <stdint.h>

#include "facts.h"
#include "xmlread.h"

struct dg_s3_metaindex;

struct dg_s3_metaindex *dg_s3_metaindex_new(uint64_t max_bytes); /* 0: remembers nothing */
void dg_s3_metaindex_free(struct dg_s3_metaindex *index);        /* NULL is fine */

/* [startup] Keeps everything in a file, and takes it up again: what that file
 * holds is believed as little as what is in memory. tag: the file is of use only
 * under the same one. Failing costs no more than time; the reason is in err. */
int dg_s3_metaindex_save(struct dg_s3_metaindex *index, const char *path, const char *tag,
                         struct dg_error *err);
int dg_s3_metaindex_load(struct dg_s3_metaindex *index, const char *path, const char *tag,
                         struct dg_error *err);

/* Remembers, replacing what was known. */
void dg_s3_metaindex_put(struct dg_s3_metaindex *index, struct dg_slice bucket,
                         struct dg_slice name, const struct dg_s3_facts *facts);
void dg_s3_metaindex_drop(struct dg_s3_metaindex *index, struct dg_slice bucket,
                          struct dg_slice name);

/* The facts behind a listed row if they are still its own; NULL if not known.
 * Transferred: unref. */
struct dg_s3_facts *dg_s3_metaindex_get(struct dg_s3_metaindex *index, struct dg_slice bucket,
                                        const struct dg_s3_entry *entry);

#endif
