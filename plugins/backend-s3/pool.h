/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl handles that keep their connections.
 *
 * A line is a multi handle, which owns the connections, with the easy handles
 * that were ever used on it. One thread at a time has a line. */
#ifndef DG_S3_POOL_H
#define DG_S3_POOL_H

#include <curl/curl.h>
#include <glib.h>
#include <stdint.h>

struct dg_s3_line {
  CURLM *multi;
  GPtrArray *idle; /* CURL *, reset, not added to the multi */
  uint64_t moves; /* callbacks of its transfers so far: whether a turn brought anything */
};

struct dg_s3_pool;

struct dg_s3_pool *dg_s3_pool_new(void);
void dg_s3_pool_free(struct dg_s3_pool *pool); /* all lines are back; NULL is fine */

/* Never NULL: a new one is made when none is idle. [worker] */
struct dg_s3_line *dg_s3_line_take(struct dg_s3_pool *pool);
void dg_s3_line_give(struct dg_s3_pool *pool, struct dg_s3_line *line);

/* An easy handle of the line, reset. Give it back removed from the multi. */
CURL *dg_s3_line_easy(struct dg_s3_line *line);
void dg_s3_line_return(struct dg_s3_line *line, CURL *easy);

#endif
