/* SPDX-License-Identifier: Apache-2.0 */
/* Hexadecimal and base64 text of digests. Thread: [any]. */
#ifndef DG_COMMON_HEX_H
#define DG_COMMON_HEX_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

/* Lower-case hex of len bytes, NUL-terminated: out holds 2 * len + 1. */
void dg_hex_encode(const void *bytes, size_t len, char *out);

/* Exactly 2 * len hex digits, either case. False (out unspecified) otherwise. */
bool dg_hex_decode(struct dg_slice text, void *out, size_t len);

/* True for exactly `digits` hex digits; lower case only if asked for. */
bool dg_hex_is(struct dg_slice text, size_t digits, bool lower_only);

/* Bytes of base64 text of len bytes, without the NUL. */
#define DG_BASE64_LEN(len) (((len) + 2) / 3 * 4)

/* Padded standard base64, NUL-terminated: out holds DG_BASE64_LEN(len) + 1. */
void dg_base64_encode(const void *bytes, size_t len, char *out);

/* Decodes padded standard base64 into at most capacity bytes. Refuses foreign
 * characters, missing padding and non-zero leftover bits. */
bool dg_base64_decode(struct dg_slice text, void *out, size_t capacity, size_t *ret_len);

#endif
