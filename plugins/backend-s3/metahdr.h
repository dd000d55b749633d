/* SPDX-License-Identifier: Apache-2.0 */
/* Object metadata as x-amz-meta-* headers, both ways.
 *
 * Written, in the names of DeltaGlider Proxy:
 *
 *   dg-tool dg-original-name dg-file-sha256 dg-file-size dg-md5 dg-created-at
 *   [dg-multipart-etag] [content-type] dg-note
 *     reference: dg-source-name
 *     delta:     dg-ref-path dg-ref-sha256 dg-delta-size dg-delta-cmd
 *   user-NAME     client metadata
 *   dg-ext-NAME   our own fields, which DeltaGlider Proxy ignores
 *   dg-created-ns what dg-created-at cannot hold of the nanoseconds, if any
 *
 * An object that the upstream joined of parts has no digests, so it is unmanaged: its
 * headers and x-amz-meta-NAME are the client's as they are, dg-upload tells that we
 * stored it, and dg-ext-part-sizes what its parts are.
 *
 * Read: these, and the older names without `dg-`, `dg-ref-key` and `ref-key`.
 *
 * A header holds printable ASCII without spaces at its ends. Any other value,
 * an empty one, and one that begins like an encoded word is written as one
 * RFC 2047 word in UTF-8 and base64: what S3 itself answers with. Thread: [any]. */
#ifndef DG_S3_METAHDR_H
#define DG_S3_METAHDR_H

#include <glib.h>

#include <deltaglider/plugin.h>

#include "facts.h"
#include "request.h"

/* S3's limit on names and values together. */
#define DG_S3_META_MAX 2048u

/* Appends name, value, ... to pairs (strings, transferred), names without
 * x-amz-meta-. What only informs humans (dg-delta-cmd, dg-original-name) and
 * the sizes of the parts are left out when there is no room.
 * DG_E_METADATA_TOO_LARGE. */
int dg_s3_meta_write(const struct dg_meta *meta, GPtrArray *pairs, struct dg_error *err);

/* The same for an object without digests that is ours: pairs are whole header names
 * with their values, and its size need not be known. upload: what dg-upload will say.
 * DG_E_UNSUPPORTED: something in it cannot be told as it is, or would read as a field of
 * the layout. */
int dg_s3_meta_write_plain(const struct dg_meta *meta, const char *upload, GPtrArray *headers,
                           struct dg_error *err);
#define DG_S3_UPLOAD_MARK "dg-upload"

/* Fills an empty meta. Never fails for what upstream holds: an object without
 * usable metadata is DG_META_UNMANAGED, one whose metadata is of another kind
 * than its name is DG_META_CORRUPT. key_name: the key's last segment. */
int dg_s3_meta_read(const struct dg_host *host, const struct dg_s3_facts *facts, uint32_t variant,
                    struct dg_slice key_name, struct dg_meta *meta, struct dg_error *err);

/* One value as a header, and back; appended to out. */
void dg_s3_value_encode(GString *out, struct dg_slice value);
void dg_s3_value_decode(GString *out, struct dg_slice header);

#endif
