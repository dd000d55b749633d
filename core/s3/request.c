/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/request.h"

#include "common/slice.h"

#include "common/banned.h"

struct dg_slice dg_request_header_find(const struct dg_request *request, struct dg_slice name)
{
  for (uint32_t i = 0; i < request->header_count; i++)
    if (dg_slice_equal_nocase(request->headers[i].name, name))
      return request->headers[i].value;
  return DG_SLICE_NONE;
}

unsigned dg_request_header_count(const struct dg_request *request, const char *name)
{
  struct dg_slice wanted = dg_slice_str(name);
  unsigned count = 0;

  for (uint32_t i = 0; i < request->header_count; i++)
    count += dg_slice_equal_nocase(request->headers[i].name, wanted);
  return count;
}

bool dg_request_mutates(const struct dg_request *request)
{
  return !dg_request_is(request, "GET") && !dg_request_is(request, "HEAD") &&
         !dg_request_is(request, "OPTIONS");
}
