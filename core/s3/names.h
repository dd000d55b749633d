/* SPDX-License-Identifier: Apache-2.0 */
/* Which names we take, and headers that carry names. Thread: [any]. */
#ifndef DG_CORE_S3_NAMES_H
#define DG_CORE_S3_NAMES_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#define DG_KEY_MAX_BYTES 1024
/* S3's bound on user metadata: names (without x-amz-meta-) plus values. */
#define DG_USER_META_MAX_BYTES 2048

/* A bucket name by S3's rules: 3 to 63 of [a-z0-9.-], alphanumeric at both
 * ends, no "..", not an IPv4 address, no reserved prefix or suffix.
 * DG_E_INVALID_BUCKET_NAME. */
int dg_bucket_name_check(struct dg_slice name, struct dg_error *err);

/* A key: 1 to 1024 bytes of valid UTF-8 without NUL. Anything else is allowed:
 * `//`, a leading slash, `..`, backslashes, control characters. Fails with
 * DG_E_KEY_TOO_LONG or DG_E_INVALID_ARGUMENT. */
int dg_key_check(struct dg_slice key, struct dg_error *err);

/* If this header is client metadata (x-amz-meta-NAME), its NAME, else absent.
 * `x-amz-meta-dg-*` counts as absent: those fields are ours, and a client that
 * sends them (a copy of what an older proxy returned) must not forge them. */
struct dg_slice dg_user_meta_name(struct dg_slice header_name);

/* Valid UTF-8, any content. */
bool dg_utf8_valid(struct dg_slice text);

#endif
