/* SPDX-License-Identifier: Apache-2.0 */
/* A small XML writer on GString: escaping, no reflection. Thread: [any].
 *
 *   dg_xml_begin(out, "Owner");
 *   dg_xml_text(out, "ID", DG_SLICE("x"));
 *   dg_xml_end(out, "Owner");
 *
 * Element names are literals of ours. Content is escaped: & < > " ' as
 * entities, CR and the bytes below 0x20 that XML 1.0 knows (tab, LF) as
 * character references; what XML cannot carry (other controls, bad UTF-8,
 * U+FFFE, U+FFFF) as U+FFFD, so that one odd key never breaks a listing. */
#ifndef DG_COMMON_XML_H
#define DG_COMMON_XML_H

#include <deltaglider/plugin.h>
#include <glib.h>

#define DG_XML_S3_NS       "http://s3.amazonaws.com/doc/2006-03-01/"
#define DG_XML_DECLARATION "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

/* The declaration, and the root element with S3's namespace. */
void dg_xml_document(GString *out, const char *root);

void dg_xml_begin(GString *out, const char *name);
void dg_xml_end(GString *out, const char *name);
void dg_xml_text(GString *out, const char *name, struct dg_slice text);
void dg_xml_uint(GString *out, const char *name, uint64_t number);
void dg_xml_bool(GString *out, const char *name, int value);
void dg_xml_empty(GString *out, const char *name);

/* Escaped content alone. */
void dg_xml_escape(GString *out, struct dg_slice text);

#endif
