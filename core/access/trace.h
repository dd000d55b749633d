/* SPDX-License-Identifier: Apache-2.0 */
/* What admission would decide about a request, told as JSON. [any] */
#ifndef DG_CORE_ACCESS_TRACE_H
#define DG_CORE_ACCESS_TRACE_H

#include <glib.h>

#include "core/config/config.h"

struct dg_trace_question {
  const char *method;    /* any case; NULL: GET */
  const char *path;      /* percent-encoded, from the '/' on; NULL: "/" */
  const char *query;     /* without the '?', or NULL */
  const char *source_ip; /* or NULL: unknown, and in no network */
  bool authenticated;    /* credentials are there; those of a presigned query count anyway */
};

/* Appends an indented JSON object: `resolved`, the question as the rules see it, and
 * `admission`, the answer. DG_E_INVALID_ARGUMENT or DG_E_LIMIT for what is no request. */
int dg_trace_print(const struct dg_snapshot *snapshot, const struct dg_trace_question *question,
                   GString *out, struct dg_error *err);

#endif
