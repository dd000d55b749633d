/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded parser for small XML documents, on expat. It refuses a DOCTYPE,
 * deep nesting and long text, so a document costs memory in proportion to its
 * size and nothing is ever expanded. Namespaces prefixes are cut off: S3
 * clients send the namespace or leave it out. Thread: [any]. */
#ifndef DG_COMMON_XMLPARSE_H
#define DG_COMMON_XMLPARSE_H

#include <deltaglider/plugin.h>

#define DG_XML_MAX_DEPTH 16
#define DG_XML_MAX_TEXT  (16u * 1024) /* bytes of one element's own text */

struct dg_xml_handler {
  /* An element begins. depth is 1 for the root. -1 with err ends the parse. */
  int (*begin)(void *receiver, unsigned depth, const char *name, struct dg_error *err);
  /* It ends; text is its own character data, untrimmed, borrowed. */
  int (*end)(void *receiver, unsigned depth, const char *name, struct dg_slice text,
             struct dg_error *err);
};

/* Parses a whole document. Fails with DG_E_MALFORMED_XML, or as a callback
 * did. */
int dg_xml_parse(struct dg_slice document, const struct dg_xml_handler *handler, void *receiver,
                 struct dg_error *err);

#endif
