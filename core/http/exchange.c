/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/exchange.h"

#include <string.h>

#include "common/slice.h"
#include "core/http/front.h"
#include "core/http/gate.h"
#include "core/observe/log.h"
#include "core/s3/errors.h"

#include "common/banned.h"

static GString *response_head(struct dg_exchange *x)
{
  if (!x->response.head)
    x->response.head = g_string_sized_new(512);
  return x->response.head;
}

void dg_response_header(struct dg_exchange *x, const char *name, struct dg_slice value)
{
  GString *head = response_head(x);

  /* Values come from stored metadata and from response-* parameters: a line
   * break in one would let a client write the rest of the response. */
  for (size_t i = 0; i < value.len; i++) {
    unsigned char byte = (unsigned char)value.data[i];

    if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
      dg_log_error(x->server ? x->server->log : NULL, "http.header_refused",
                   "request_id=%s header=%s reason=control-character", x->request.id, name);
      return;
    }
  }
  g_string_append(head, name);
  g_string_append_len(head, ": ", 2);
  dg_slice_append(head, value);
  g_string_append_len(head, "\r\n", 2);
}

void dg_response_headerf(struct dg_exchange *x, const char *name, const char *format, ...)
{
  char room[512];
  g_autofree char *large = NULL;
  va_list args;
  int len;

  va_start(args, format);
  len = g_vsnprintf(room, sizeof room, format, args);
  va_end(args);
  if (len < 0)
    return;
  if ((size_t)len >= sizeof room) {
    va_start(args, format);
    large = g_strdup_vprintf(format, args);
    va_end(args);
  }
  dg_response_header(x, name, dg_slice_of(large ? large : room, (size_t)len));
}

void dg_respond(struct dg_exchange *x, uint16_t status, const char *content_type, GBytes *body)
{
  if (content_type)
    dg_response_header(x, "Content-Type", dg_slice_str(content_type));
  g_clear_pointer(&x->response.body, g_bytes_unref);
  x->response.status = status;
  x->response.body = body;
  x->response.length = body ? g_bytes_get_size(body) : 0;
}

void dg_respond_xml(struct dg_exchange *x, uint16_t status, GString *document)
{
  dg_respond(x, status, "application/xml", g_string_free_to_bytes(document));
}

void dg_respond_reader(struct dg_exchange *x, uint16_t status, struct dg_reader *reader,
                       uint64_t length)
{
  x->response.status = status;
  x->response.reader = reader;
  x->response.length = length;
}

void dg_respond_error(struct dg_exchange *x, const struct dg_error *err)
{
  const struct dg_s3_error *row = dg_s3_error(err->code);
  GString *document;

  x->error = *err;
  if (x->response.head)
    g_string_truncate(x->response.head, 0);
  /* 304 is an answer, not a failure: it has no body to explain itself. */
  if (row->status == 304) {
    dg_respond(x, row->status, NULL, NULL);
    return;
  }
  document = g_string_sized_new(512);
  dg_s3_error_xml(document, err, x->request.raw_path, dg_slice_str(x->request.id));
  dg_respond_xml(x, row->status, document);
}

void dg_respond_denied(struct dg_exchange *x, const char *format, ...)
{
  GString *document = g_string_sized_new(512);
  va_list args;

  x->error.code = DG_E_ACCESS_DENIED;
  va_start(args, format);
  (void)g_vsnprintf(x->error.detail, sizeof x->error.detail, format, args);
  va_end(args);
  if (x->response.head)
    g_string_truncate(x->response.head, 0);
  dg_s3_error_xml_with(document, DG_E_ACCESS_DENIED, x->error.detail, x->request.raw_path,
                       dg_slice_str(x->request.id));
  dg_respond_xml(x, dg_s3_error(DG_E_ACCESS_DENIED)->status, document);
}

void dg_exchange_reset(struct dg_exchange *x)
{
  GString *head = x->response.head;

  dg_target_clear(&x->target);
  dg_identity_clear(&x->identity);
  g_clear_pointer(&x->collected, g_byte_array_unref);
  g_clear_pointer(&x->response.body, g_bytes_unref);
  if (head)
    g_string_truncate(head, 0);
  memset(x, 0, sizeof *x);
  x->response.head = head;
}
