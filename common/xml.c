/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/xml.h"

#include "common/slice.h"

#include "common/banned.h"

void dg_xml_document(GString *out, const char *root)
{
  g_string_append_printf(out, DG_XML_DECLARATION "<%s xmlns=\"%s\">", root,
                         DG_XML_S3_NS);
}

void dg_xml_begin(GString *out, const char *name)
{
  g_string_append_c(out, '<');
  g_string_append(out, name);
  g_string_append_c(out, '>');
}

void dg_xml_end(GString *out, const char *name)
{
  g_string_append_len(out, "</", 2);
  g_string_append(out, name);
  g_string_append_c(out, '>');
}

void dg_xml_empty(GString *out, const char *name)
{
  g_string_append_c(out, '<');
  g_string_append(out, name);
  g_string_append_len(out, "/>", 2);
}

static const char *entity(uint8_t byte)
{
  switch (byte) {
  case '&':
    return "&amp;";
  case '<':
    return "&lt;";
  case '>':
    return "&gt;";
  case '"':
    return "&quot;";
  case '\'':
    return "&#39;";
  case '\r':
    return "&#13;";
  case '\n':
    return "&#10;";
  case '\t':
    return "&#9;";
  default:
    return NULL;
  }
}

/* Length of the valid character at p, or 0 if XML cannot carry it. */
static size_t character_length(const char *p, size_t left)
{
  gunichar c = g_utf8_get_char_validated(p, (gssize)left);

  if (c == (gunichar)-1 || c == (gunichar)-2 || c == 0 || c == 0xFFFE || c == 0xFFFF ||
      (c >= 0xD800 && c <= 0xDFFF))
    return 0;
  return (size_t)g_utf8_skip[(uint8_t)*p];
}

void dg_xml_escape(GString *out, struct dg_slice text)
{
  size_t plain_from = 0, at = 0;

  while (at < text.len) {
    uint8_t byte = (uint8_t)text.data[at];
    const char *replacement = NULL;
    size_t len = 1;

    if (byte >= 0x80) {
      len = character_length(text.data + at, text.len - at);
      if (len == 0) {
        len = 1;
        replacement = "\xEF\xBF\xBD";
      }
    } else {
      replacement = entity(byte);
      if (!replacement && byte < 0x20)
        replacement = "\xEF\xBF\xBD";
    }
    if (replacement) {
      g_string_append_len(out, text.data + plain_from, (gssize)(at - plain_from));
      g_string_append(out, replacement);
      plain_from = at + len;
    }
    at += len;
  }
  if (at > plain_from)
    g_string_append_len(out, text.data + plain_from, (gssize)(at - plain_from));
}

void dg_xml_text(GString *out, const char *name, struct dg_slice text)
{
  dg_xml_begin(out, name);
  dg_xml_escape(out, text);
  dg_xml_end(out, name);
}

void dg_xml_uint(GString *out, const char *name, uint64_t number)
{
  dg_xml_begin(out, name);
  g_string_append_printf(out, "%" G_GUINT64_FORMAT, number);
  dg_xml_end(out, name);
}

void dg_xml_bool(GString *out, const char *name, int value)
{
  dg_xml_text(out, name, dg_slice_str(value ? "true" : "false"));
}
