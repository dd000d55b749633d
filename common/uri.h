/* SPDX-License-Identifier: Apache-2.0 */
/* Percent encoding as S3 does it: unreserved bytes `A-Z a-z 0-9 - . _ ~` stay,
 * every other byte becomes %XX in upper case. Thread: [any]. */
#ifndef DG_COMMON_URI_H
#define DG_COMMON_URI_H

#include <deltaglider/plugin.h>
#include <glib.h>
#include <stdbool.h>

/* Appends the encoded text; keep_slash leaves '/' as it is. */
void dg_uri_encode(GString *out, struct dg_slice text, bool keep_slash);

/* Writes the decoded bytes to out, which holds text.len bytes, and returns how
 * many there are, or SIZE_MAX when a '%' is not followed by two hex digits.
 * plus_is_space: as in a query string. Any byte may come out, NUL too. */
size_t dg_uri_decode(struct dg_slice text, bool plus_is_space, char *out);

/* Writes text into out as it would look decoded and encoded again: the one
 * canonical spelling. out holds 3 * text.len bytes. Returns the length, or
 * SIZE_MAX on a bad escape. */
size_t dg_uri_recode(struct dg_slice text, bool plus_is_space, bool keep_slash, char *out);

/* One `name=value` of a raw query string. */
struct dg_query_pair {
  struct dg_slice name, value; /* as sent; value is absent without a '=' */
};

/* Takes the next pair off *query; empty ones (`&&`) are passed over. False at
 * the end. */
bool dg_query_next(struct dg_slice *query, struct dg_query_pair *ret_pair);

/* A URL as it may be shown: user and password, query and fragment are "...". All
 * before the last '@' may be a password, all behind a '?' or '#' a token.
 * Transferred. */
char *dg_url_for_show(const char *url);

#endif
