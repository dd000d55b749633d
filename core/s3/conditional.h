/* SPDX-License-Identifier: Apache-2.0 */
/* Conditional requests: If-Match, If-None-Match, If-Modified-Since,
 * If-Unmodified-Since and the x-amz-copy-source-if-* family. Thread: [any]. */
#ifndef DG_CORE_S3_CONDITIONAL_H
#define DG_CORE_S3_CONDITIONAL_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#include "core/s3/request.h"

/* Slices borrow from the request; absent ones ask nothing. */
struct dg_conditions {
  struct dg_slice if_match, if_none_match;
  bool has_modified_since, has_unmodified_since; /* present and a valid date */
  int64_t modified_since_s, unmodified_since_s;
};

/* Reads the plain headers, or those with x-amz-copy-source- before them. */
void dg_conditions_read(const struct dg_request *request, bool copy_source,
                        struct dg_conditions *ret_conditions);
bool dg_conditions_any(const struct dg_conditions *conditions);

/* Decides a GET or HEAD of an object with this ETag (quoted; "" if unknown).
 * Precedence: If-Match, else If-Unmodified-Since; then If-None-Match, else
 * If-Modified-Since. 0 to go on, or -1 with DG_E_PRECONDITION_FAILED or
 * DG_E_NOT_MODIFIED. */
int dg_conditions_check_read(const struct dg_conditions *conditions, const char *etag,
                             int64_t last_modified_s, struct dg_error *err);

/* The same for a copy's source: every failure is DG_E_PRECONDITION_FAILED. */
int dg_conditions_check_copy(const struct dg_conditions *conditions, const char *etag,
                             int64_t last_modified_s, struct dg_error *err);

/* Is the form of a write's conditions one we serve? Both headers at once, or an
 * If-None-Match other than `*`, is DG_E_NOT_IMPLEMENTED, as on S3. Ask before the body is
 * read. */
int dg_conditions_check_form(const struct dg_conditions *conditions, struct dg_error *err);

/* Decides a write (PUT, Complete, DELETE) against what is there; exists false:
 * nothing. If-None-Match: * wants nothing there; If-Match wants that ETag, or
 * with `*` anything. -1 with DG_E_PRECONDITION_FAILED, or DG_E_NO_SUCH_KEY for
 * If-Match on nothing. */
int dg_conditions_check_write(const struct dg_conditions *conditions, bool exists,
                              const char *etag, struct dg_error *err);

/* Does an If-Match list (`*`, `"a", W/"b"`, or bare) name this quoted ETag?
 * weak: W/ entries count too, as for If-None-Match. */
bool dg_etag_list_matches(struct dg_slice list, const char *etag, bool weak);

#endif
