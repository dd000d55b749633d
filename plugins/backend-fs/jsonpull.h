/* SPDX-License-Identifier: Apache-2.0 */
/* Reading JSON in place, without building a tree: metadata is parsed for each
 * row of a listing and each object served, and a general parser took half of
 * that time. Strict as RFC 8259 demands; the document must be UTF-8. */
#ifndef DG_FS_JSONPULL_H
#define DG_FS_JSONPULL_H

#include <stdbool.h>

#include <glib.h>

#include <deltaglider/plugin.h>

#define DG_JSON_MAX_DEPTH 32u

struct dg_json {
  const char *at, *end;
};

/* Called for each member of an object with json->at on its value, which it
 * must consume. `key` is valid for the call. False stops. */
typedef bool (*dg_json_member_fn)(void *receiver, struct dg_json *json, struct dg_slice key);

/* Each consumes one value of its type and returns false, leaving json
 * anywhere, if that is not what stands there. [any] */
bool dg_json_object(struct dg_json *json, dg_json_member_fn member, void *receiver);
/* *ret_text lies in the document, or in `room` if it holds escapes. */
bool dg_json_string(struct dg_json *json, GString *room, struct dg_slice *ret_text);
/* A non-negative integer that fits. */
bool dg_json_u64(struct dg_json *json, uint64_t *ret_value);
bool dg_json_null(struct dg_json *json);
bool dg_json_skip(struct dg_json *json); /* any value */

void dg_json_space(struct dg_json *json);

/* What begins at json->at, or NUL at the end. */
static inline char dg_json_peek(const struct dg_json *json)
{
  return json->at < json->end ? *json->at : '\0';
}

#endif
