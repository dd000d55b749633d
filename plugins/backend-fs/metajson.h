/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON inside the attribute user.dg.metadata, as DeltaGlider Proxy writes
 * it, byte for byte: compact, in this order,
 *
 *   tool original_name file_sha256 file_size md5 [multipart_etag] created_at
 *   [content_type] [user_metadata] note, then
 *     reference: source_name
 *     delta:     ref_path ref_sha256 delta_size delta_cmd
 *
 * Our own fields follow in one object, which DeltaGlider Proxy ignores:
 *
 *   "dg_ext":{"NAME":"VALUE",...}
 *
 * and in the attribute, last of all,
 *
 *   "dg_sum":"SIXTEEN HEX DIGITS"
 *
 * XXH3-64 of every byte before its comma, so that a flipped bit that leaves valid
 * JSON is noticed. It is a matter of those very bytes: whatever does not end so, as
 * DeltaGlider Proxy's own metadata, also what it rewrites of ours, is read without.
 *
 * Reading ignores unknown fields and takes the aliases `direct` for
 * `passthrough` and `ref_key` for `ref_path`. */
#ifndef DG_FS_METAJSON_H
#define DG_FS_METAJSON_H

#include <stdbool.h>

#include <glib.h>

#include <deltaglider/plugin.h>

/* Leaves out what only informs humans and can be had elsewhere
 * (original_name, delta_cmd): for filesystems with little room. */
#define DG_FS_JSON_TERSE 1u
/* Leaves out DG_EXTENSION_PART_SIZES. */
#define DG_FS_JSON_NO_PART_SIZES 2u

/* Appends the JSON of meta. DG_E_INVALID_ARGUMENT if a text is not UTF-8 or
 * the variant is unknown. [any] */
int dg_fs_json_write(const struct dg_meta *meta, unsigned flags, GString *out,
                     struct dg_error *err);

/* Appends the checksum to a finished JSON object. [any] */
void dg_fs_json_seal(GString *json);

/* Takes the checksum off, if there is one: *len shrinks, and what remains is the
 * object without it. False if it is of something else than what stands before it.
 * [any] */
bool dg_fs_json_unseal(char *json, size_t *len);

/* Parses JSON into an empty meta through the host's meta services.
 * DG_E_CORRUPT, with the reason, for anything that cannot be trusted. [any] */
int dg_fs_json_read(const struct dg_host *host, struct dg_slice json, struct dg_meta *meta,
                    struct dg_error *err);

/* RFC 3339 with an offset or 'Z'; up to 9 fraction digits kept. Returns 0 or
 * -1. [any] */
int dg_fs_time_parse(const char *text, int64_t *ret_s, uint32_t *ret_ns);

/* UTC with 'Z' and 0, 3, 6 or 9 fraction digits, whichever is exact. [any] */
void dg_fs_time_append(GString *out, int64_t s, uint32_t ns);

#endif
