/* SPDX-License-Identifier: Apache-2.0 */
/* DG_E_* codes as S3 errors: status, name, text for clients. Thread: [any]. */
#ifndef DG_CORE_S3_ERRORS_H
#define DG_CORE_S3_ERRORS_H

#include <deltaglider/plugin.h>
#include <glib.h>
#include <stdbool.h>

struct dg_s3_error {
  uint16_t status;     /* HTTP */
  bool retryable;      /* the same request may succeed later */
  const char *code;    /* "NoSuchKey" */
  const char *message; /* for clients; never the operator's detail */
};

/* The row of a code; that of DG_E_INTERNAL for anything unknown. Static. */
const struct dg_s3_error *dg_s3_error(int32_t code);

/* Text for clients that may say more: for the codes whose detail is about the
 * client's own input (InvalidArgument, MalformedXML, AuthorizationHeader...,
 * see errors.def) it is err->detail, else the row's message. Borrowed from err
 * or static. */
const char *dg_s3_error_message(const struct dg_error *err);

/* Appends the error document. resource: the raw path of the request. */
void dg_s3_error_xml(GString *out, const struct dg_error *err, struct dg_slice resource,
                     struct dg_slice request_id);
/* The same with a message of the caller's, for clients to read. */
void dg_s3_error_xml_with(GString *out, int32_t code, const char *message,
                          struct dg_slice resource, struct dg_slice request_id);

#endif
