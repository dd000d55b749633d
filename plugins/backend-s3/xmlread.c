/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "xmlread.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/slice.h"
#include "common/uri.h"
#include "common/xmlparse.h"

#include "common/banned.h"

static int ignore_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  (void)receiver;
  (void)depth;
  (void)name;
  (void)err;
  return 0;
}

static bool is_xml(struct dg_slice document)
{
  while (document.len && g_ascii_isspace(document.data[0]))
    document = dg_slice_skip(document, 1);
  return document.len && document.data[0] == '<';
}

/* ---- Errors ---------------------------------------------------------------------- */

struct error_reading {
  struct dg_s3_answer *answer;
  bool is_error;
};

static int error_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  struct error_reading *reading = receiver;

  if (depth == 1)
    reading->is_error = strcmp(name, "Error") == 0;
  return depth == 1 && !reading->is_error ? dg_fail(err, DG_E_OK, "another document") : 0;
}

static void copy_printable(char *out, size_t size, struct dg_slice text)
{
  size_t len = 0;

  for (size_t i = 0; i < text.len && len + 1 < size; i++)
    out[len++] = g_ascii_isprint(text.data[i]) ? text.data[i] : '?';
  out[len] = '\0';
}

static int error_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                     struct dg_error *err)
{
  struct error_reading *reading = receiver;

  (void)err;
  if (depth == 2 && strcmp(name, "Code") == 0)
    copy_printable(reading->answer->code, sizeof reading->answer->code, text);
  if (depth == 2 && strcmp(name, "Message") == 0)
    copy_printable(reading->answer->message, sizeof reading->answer->message, text);
  return 0;
}

void dg_s3_xml_error(struct dg_slice document, struct dg_s3_answer *answer)
{
  static const struct dg_xml_handler handler = {error_begin, error_end};
  struct error_reading reading = {.answer = answer};
  struct dg_error ignored;

  if (is_xml(document))
    (void)dg_xml_parse(document, &handler, &reading, &ignored);
}

/* ---- One text ---------------------------------------------------------------------- */

struct finding {
  const char *name;
  char *text;
};

static int find_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                    struct dg_error *err)
{
  struct finding *finding = receiver;

  (void)depth;
  (void)err;
  if (!finding->text && strcmp(name, finding->name) == 0)
    finding->text = g_strndup(text.data, text.len);
  return 0;
}

bool dg_s3_xml_find(struct dg_slice document, const char *name, char **ret_text)
{
  static const struct dg_xml_handler handler = {ignore_begin, find_end};
  struct finding finding = {.name = name};
  struct dg_error ignored;

  if (!is_xml(document) || dg_xml_parse(document, &handler, &finding, &ignored) < 0 ||
      !finding.text) {
    g_free(finding.text);
    return false;
  }
  *ret_text = finding.text;
  return true;
}

/* ---- Pages of a listing --------------------------------------------------------------- */

struct page_reading {
  struct dg_s3_page *page;
  struct dg_s3_entry entry;
  bool encoded, root_seen, name_seen;
};

static void clear_entry(gpointer item)
{
  g_free(((struct dg_s3_entry *)item)->name);
}

static int page_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  struct page_reading *reading = receiver;

  if (depth == 1 && strcmp(name, "ListBucketResult") != 0)
    return dg_fail(err, DG_E_IO, "a listing begins with <%.40s>", name);
  reading->root_seen = true;
  if (depth == 2) {
    g_clear_pointer(&reading->entry.name, g_free);
    reading->entry = (struct dg_s3_entry){0};
    reading->name_seen = false;
  }
  return 0;
}

static void take_name(struct page_reading *reading, struct dg_slice text)
{
  g_free(reading->entry.name);
  reading->entry.name = g_strndup(text.data, text.len);
  reading->entry.name_len = text.len;
  reading->name_seen = true;
}

static int take_field(struct page_reading *reading, const char *name, struct dg_slice text,
                      struct dg_error *err)
{
  struct dg_s3_entry *entry = &reading->entry;
  uint32_t ns;

  if (strcmp(name, "Key") == 0 || strcmp(name, "Prefix") == 0)
    take_name(reading, text);
  else if (strcmp(name, "Size") == 0 && !dg_slice_to_u64(dg_slice_trim(text), &entry->size))
    return dg_fail(err, DG_E_IO, "a listing has a size that is no number");
  else if (strcmp(name, "LastModified") == 0 &&
           !dg_time_parse_rfc3339(dg_slice_trim(text), &entry->modified_s, &ns))
    return dg_fail(err, DG_E_IO, "a listing has a date that is none");
  else if (strcmp(name, "ETag") == 0)
    dg_s3_etag_copy(entry->etag, text);
  return 0;
}

static int page_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                    struct dg_error *err)
{
  struct page_reading *reading = receiver;
  struct dg_s3_page *page = reading->page;

  if (depth == 3)
    return take_field(reading, name, text, err);
  if (depth != 2)
    return 0;
  if (strcmp(name, "IsTruncated") == 0) {
    page->truncated = dg_slice_equal_str(dg_slice_trim(text), "true");
  } else if (strcmp(name, "NextContinuationToken") == 0) {
    g_free(page->token);
    page->token = g_strndup(text.data, text.len);
  } else if (strcmp(name, "EncodingType") == 0) {
    reading->encoded = dg_slice_equal_str(dg_slice_trim(text), "url");
  } else if (reading->name_seen &&
             (strcmp(name, "Contents") == 0 || strcmp(name, "CommonPrefixes") == 0)) {
    reading->entry.is_prefix = strcmp(name, "CommonPrefixes") == 0;
    g_array_append_val(page->entries, reading->entry);
    reading->entry.name = NULL;
  }
  return 0;
}

static int compare_entries(const void *a, const void *b)
{
  const struct dg_s3_entry *x = a, *y = b;

  return dg_slice_compare(dg_slice_of(x->name, x->name_len), dg_slice_of(y->name, y->name_len));
}

static int decode_names(GArray *entries, struct dg_error *err)
{
  for (guint i = 0; i < entries->len; i++) {
    struct dg_s3_entry *entry = &g_array_index(entries, struct dg_s3_entry, i);
    size_t len = dg_uri_decode(dg_slice_of(entry->name, entry->name_len),
                               /* plus_is_space= */ true, entry->name);

    if (len == SIZE_MAX)
      return dg_fail(err, DG_E_IO, "a listing has a key that is not well encoded");
    entry->name[len] = '\0';
    entry->name_len = len;
  }
  return 0;
}

void dg_s3_page_clear(struct dg_s3_page *page)
{
  g_clear_pointer(&page->entries, g_array_unref);
  g_clear_pointer(&page->token, g_free);
}

int dg_s3_xml_page(struct dg_slice document, struct dg_s3_page *ret_page, struct dg_error *err)
{
  static const struct dg_xml_handler handler = {page_begin, page_end};
  struct dg_s3_page page = {.entries = g_array_new(FALSE, FALSE, sizeof(struct dg_s3_entry))};
  struct page_reading reading = {.page = &page};
  int rc;

  g_array_set_clear_func(page.entries, clear_entry);
  rc = dg_xml_parse(document, &handler, &reading, err);
  g_free(reading.entry.name);
  if (rc < 0)
    err->code = DG_E_IO; /* not the client's XML */
  else if (reading.encoded)
    rc = decode_names(page.entries, err);
  if (rc < 0) {
    dg_s3_page_clear(&page);
    return -1;
  }
  qsort(page.entries->data, page.entries->len, sizeof(struct dg_s3_entry), compare_entries);
  *ret_page = page;
  return 0;
}

/* ---- Buckets ------------------------------------------------------------------------------ */

struct buckets_reading {
  GArray *buckets;
  struct dg_s3_bucket bucket;
};

static int buckets_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  (void)receiver;
  if (depth == 1 && strcmp(name, "ListAllMyBucketsResult") != 0)
    return dg_fail(err, DG_E_IO, "the list of buckets begins with <%.40s>", name);
  return 0;
}

static int buckets_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                       struct dg_error *err)
{
  struct buckets_reading *reading = receiver;
  uint32_t ns;

  (void)err;
  if (depth == 4 && strcmp(name, "Name") == 0) {
    g_free(reading->bucket.name);
    reading->bucket.name = g_strndup(text.data, text.len);
  } else if (depth == 4 && strcmp(name, "CreationDate") == 0) {
    (void)dg_time_parse_rfc3339(dg_slice_trim(text), &reading->bucket.created_s, &ns);
  } else if (depth == 3 && strcmp(name, "Bucket") == 0 && reading->bucket.name) {
    g_array_append_val(reading->buckets, reading->bucket);
    reading->bucket = (struct dg_s3_bucket){0};
  }
  return 0;
}

int dg_s3_xml_buckets(struct dg_slice document, GArray *buckets, struct dg_error *err)
{
  static const struct dg_xml_handler handler = {buckets_begin, buckets_end};
  struct buckets_reading reading = {.buckets = buckets};
  int rc = dg_xml_parse(document, &handler, &reading, err);

  g_free(reading.bucket.name);
  if (rc < 0)
    err->code = DG_E_IO;
  return rc;
}
