/* SPDX-License-Identifier: Apache-2.0 */
/* Between what clients call an object and what it is called upstream.
 *
 *   passthrough  KEY
 *   delta        KEY.delta
 *   reference    PREFIXreference.bin
 *
 * A key that would mean something else upstream is reserved: its last segment
 * is `reference.bin` or ends in `.delta`, it lies below `.deltaglider/` or
 * `_dgp/`, or it is such a key followed by "~dg". It gets "~dg" appended:
 *
 *   x.delta           x.delta~dg
 *   a/reference.bin   a/reference.bin~dg      (its delta: ...~dg.delta)
 *   x.delta~dg        x.delta~dg~dg
 *
 * Nothing but the name is needed to read it back, so listings need no look at
 * the object. An upstream name always sorts after its key, with nothing but
 * keys that begin with it in between: listings rest on that. Upstream names
 * that no key leads to (`.deltaglider/config.db`, `x.delta.delta`) are hidden.
 * Thread: [any]. */
#ifndef DG_S3_NAMES_H
#define DG_S3_NAMES_H

#include <stdbool.h>

#include <glib.h>

#include <deltaglider/plugin.h>

#define DG_S3_NAME_MAX 1024u
#define DG_S3_DELTA ".delta"
#define DG_S3_REFERENCE "reference.bin"
#define DG_S3_MARK "~dg"

bool dg_s3_name_reserved(struct dg_slice key);

/* Appends the upstream name. False, with `out` as it was, if it is longer than
 * S3 allows: then nothing can be stored under it. */
bool dg_s3_name_append(GString *out, struct dg_slice key, uint32_t variant);

/* The key and variant behind an upstream name; *ret_key lies within name.
 * False for what is hidden. */
bool dg_s3_name_parse(struct dg_slice name, struct dg_slice *ret_key, uint32_t *ret_variant);

#endif
