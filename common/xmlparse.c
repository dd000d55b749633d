/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/xmlparse.h"

#include <expat.h>
#include <glib.h>

#include "common/slice.h"

#include "common/banned.h"

struct parse {
  XML_Parser parser;
  const struct dg_xml_handler *handler;
  void *receiver;
  struct dg_error *err;
  bool failed; /* err is set */
  unsigned depth;
  GString *text[DG_XML_MAX_DEPTH + 1]; /* by depth, made when needed */
};

static void stop(struct parse *parse)
{
  parse->failed = true;
  (void)XML_StopParser(parse->parser, XML_FALSE);
}

static const char *local_name(const char *name)
{
  const char *colon = strrchr(name, ':');

  return colon ? colon + 1 : name;
}

static void XMLCALL on_begin(void *user, const XML_Char *name, const XML_Char **attributes)
{
  struct parse *parse = user;

  (void)attributes;
  if (parse->failed)
    return;
  if (++parse->depth > DG_XML_MAX_DEPTH) {
    (void)dg_fail(parse->err, DG_E_MALFORMED_XML, "The XML you provided is nested too deeply.");
    stop(parse);
    return;
  }
  if (!parse->text[parse->depth])
    parse->text[parse->depth] = g_string_new(NULL);
  g_string_truncate(parse->text[parse->depth], 0);
  if (parse->handler->begin(parse->receiver, parse->depth, local_name(name), parse->err) < 0)
    stop(parse);
}

static void XMLCALL on_text(void *user, const XML_Char *text, int len)
{
  struct parse *parse = user;
  GString *own;

  if (parse->failed || parse->depth == 0)
    return;
  own = parse->text[parse->depth];
  if (own->len + (size_t)len > DG_XML_MAX_TEXT) {
    (void)dg_fail(parse->err, DG_E_MALFORMED_XML, "The XML you provided holds too long a text.");
    stop(parse);
    return;
  }
  g_string_append_len(own, text, len);
}

static void XMLCALL on_end(void *user, const XML_Char *name)
{
  struct parse *parse = user;
  GString *own;

  if (parse->failed)
    return;
  own = parse->text[parse->depth];
  if (parse->handler->end(parse->receiver, parse->depth, local_name(name),
                          dg_slice_of(own->str, own->len), parse->err) < 0)
    stop(parse);
  parse->depth--;
}

static void XMLCALL on_doctype(void *user, const XML_Char *name, const XML_Char *system_id,
                               const XML_Char *public_id, int has_internal)
{
  struct parse *parse = user;

  (void)name;
  (void)system_id;
  (void)public_id;
  (void)has_internal;
  if (parse->failed)
    return;
  (void)dg_fail(parse->err, DG_E_MALFORMED_XML, "A DOCTYPE is not allowed in the XML.");
  stop(parse);
}

int dg_xml_parse(struct dg_slice document, const struct dg_xml_handler *handler, void *receiver,
                 struct dg_error *err)
{
  struct parse parse = {.handler = handler, .receiver = receiver, .err = err};
  enum XML_Status status;

  if (document.len > INT32_MAX)
    return dg_fail(err, DG_E_MALFORMED_XML, "The XML you provided is too long.");
  parse.parser = XML_ParserCreate(NULL);
  if (!parse.parser)
    return dg_fail(err, DG_E_INTERNAL, "out of memory for an XML parser");
  XML_SetUserData(parse.parser, &parse);
  XML_SetElementHandler(parse.parser, on_begin, on_end);
  XML_SetCharacterDataHandler(parse.parser, on_text);
  XML_SetStartDoctypeDeclHandler(parse.parser, on_doctype);
  status = XML_Parse(parse.parser, document.data ? document.data : "", (int)document.len,
                     /* isFinal= */ 1);
  if (status != XML_STATUS_OK && !parse.failed) {
    (void)dg_fail(err, DG_E_MALFORMED_XML,
                  "The XML you provided was not well-formed: %s, line %lu.",
                  XML_ErrorString(XML_GetErrorCode(parse.parser)),
                  (unsigned long)XML_GetCurrentLineNumber(parse.parser));
    parse.failed = true;
  }
  XML_ParserFree(parse.parser);
  for (size_t i = 0; i < G_N_ELEMENTS(parse.text); i++)
    if (parse.text[i])
      g_string_free(parse.text[i], TRUE);
  return parse.failed ? -1 : 0;
}
