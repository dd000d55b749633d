/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/errors.h"

#include "common/slice.h"
#include "common/xml.h"

#include "common/banned.h"

static const struct dg_s3_error rows[] = {
#define X(code, status, name, retryable, shown, text) [code] = {status, retryable, name, text},
#include "core/s3/errors.def"
#undef X
};

static const bool detail_shown[] = {
#define X(code, status, name, retryable, shown, text) [code] = shown,
#include "core/s3/errors.def"
#undef X
};

/* One row per code: the largest index is the last code, and as many rows are
 * listed as there are codes (a doubled index is an error by itself). */
_Static_assert(G_N_ELEMENTS(rows) == DG_E_MAX, "errors.def: a row is missing at the end");
_Static_assert(0
#define X(code, status, name, retryable, shown, text) +1
#include "core/s3/errors.def"
#undef X
                   == DG_E_MAX,
               "errors.def must have exactly one row per DG_E_* code");

const struct dg_s3_error *dg_s3_error(int32_t code)
{
  return code > DG_E_OK && code < DG_E_MAX ? &rows[code] : &rows[DG_E_INTERNAL];
}

const char *dg_s3_error_message(const struct dg_error *err)
{
  const struct dg_s3_error *row = dg_s3_error(err->code);

  if (err->code > DG_E_OK && err->code < DG_E_MAX && detail_shown[err->code] && err->detail[0])
    return err->detail;
  return row->message;
}

void dg_s3_error_xml_with(GString *out, int32_t code, const char *message,
                          struct dg_slice resource, struct dg_slice request_id)
{
  g_string_append(out, DG_XML_DECLARATION "<Error>");
  dg_xml_text(out, "Code", dg_slice_str(dg_s3_error(code)->code));
  dg_xml_text(out, "Message", dg_slice_str(message));
  dg_xml_text(out, "Resource", resource);
  dg_xml_text(out, "RequestId", request_id);
  dg_xml_end(out, "Error");
}

void dg_s3_error_xml(GString *out, const struct dg_error *err, struct dg_slice resource,
                     struct dg_slice request_id)
{
  dg_s3_error_xml_with(out, err->code, dg_s3_error_message(err), resource, request_id);
}
