/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/bodies.h"

#include "common/checksum.h"
#include "common/slice.h"
#include "common/xmlparse.h"

#include "common/banned.h"

static int fail_schema(struct dg_error *err, const char *what)
{
  return dg_fail(err, DG_E_MALFORMED_XML,
                 "The XML you provided did not validate against our published schema: %s.", what);
}

static bool is(const char *name, const char *wanted)
{
  return strcmp(name, wanted) == 0;
}

static int check_root(unsigned depth, const char *name, const char *wanted, struct dg_error *err)
{
  if (depth == 1 && !is(name, wanted))
    return dg_fail(err, DG_E_MALFORMED_XML, "The XML's root element must be <%s>.", wanted);
  return 0;
}

/* ---- Delete ---- */

struct delete_parse {
  struct dg_delete_body *body;
  struct dg_delete_entry entry;
  bool in_object;
};

static void clear_delete_entry(gpointer row)
{
  struct dg_delete_entry *entry = row;

  g_clear_pointer(&entry->key, g_free);
  g_clear_pointer(&entry->version_id, g_free);
  g_clear_pointer(&entry->etag, g_free);
}

void dg_delete_body_free(struct dg_delete_body *body)
{
  if (!body)
    return;
  g_array_unref(body->entries);
  g_free(body);
}

static int delete_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  struct delete_parse *parse = receiver;

  if (check_root(depth, name, "Delete", err) < 0)
    return -1;
  if (depth == 2 && is(name, "Object")) {
    if (parse->body->entries->len == DG_DELETE_MAX_OBJECTS)
      return fail_schema(err, "more than 1000 objects");
    parse->in_object = true;
  }
  return 0;
}

static int set_once(char **field, struct dg_slice text, struct dg_error *err)
{
  if (*field)
    return fail_schema(err, "an element stands twice");
  *field = g_strndup(text.data, text.len);
  return 0;
}

static int delete_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                      struct dg_error *err)
{
  struct delete_parse *parse = receiver;

  if (depth == 3 && parse->in_object) {
    if (is(name, "Key")) {
      parse->entry.key_len = text.len;
      return set_once(&parse->entry.key, text, err);
    }
    if (is(name, "VersionId"))
      return set_once(&parse->entry.version_id, dg_slice_trim(text), err);
    if (is(name, "ETag"))
      return set_once(&parse->entry.etag, dg_slice_trim(text), err);
    return 0;
  }
  if (depth == 2 && is(name, "Object")) {
    if (!parse->entry.key)
      return fail_schema(err, "an Object without a Key");
    g_array_append_val(parse->body->entries, parse->entry);
    parse->entry = (struct dg_delete_entry){0};
    parse->in_object = false;
  } else if (depth == 2 && is(name, "Quiet")) {
    parse->body->quiet = dg_slice_equal_nocase(dg_slice_trim(text), DG_SLICE("true"));
  }
  return 0;
}

int dg_delete_body_parse(struct dg_slice body, struct dg_delete_body **ret_body,
                         struct dg_error *err)
{
  static const struct dg_xml_handler handler = {delete_begin, delete_end};
  struct delete_parse parse = {.body = g_new0(struct dg_delete_body, 1)};
  int result;

  parse.body->entries = g_array_new(FALSE, FALSE, sizeof(struct dg_delete_entry));
  g_array_set_clear_func(parse.body->entries, clear_delete_entry);
  result = dg_xml_parse(body, &handler, &parse, err);
  clear_delete_entry(&parse.entry);
  if (result == 0 && parse.body->entries->len == 0)
    result = fail_schema(err, "no Object");
  if (result < 0) {
    dg_delete_body_free(parse.body);
    return -1;
  }
  *ret_body = parse.body;
  return 0;
}

/* ---- CompleteMultipartUpload ---- */

struct complete_parse {
  struct dg_complete_body *body;
  struct dg_complete_entry entry;
  bool in_part;
};

void dg_complete_body_free(struct dg_complete_body *body)
{
  if (!body)
    return;
  g_array_unref(body->parts);
  g_free(body);
}

static int complete_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  struct complete_parse *parse = receiver;

  if (check_root(depth, name, "CompleteMultipartUpload", err) < 0)
    return -1;
  if (depth == 2 && is(name, "Part")) {
    if (parse->body->parts->len == DG_COMPLETE_MAX_PARTS)
      return fail_schema(err, "more than 10000 parts");
    parse->in_part = true;
    parse->entry = (struct dg_complete_entry){0};
  }
  return 0;
}

static int complete_field(struct dg_complete_entry *entry, const char *name, struct dg_slice text,
                          struct dg_error *err)
{
  uint64_t number;

  if (is(name, "PartNumber")) {
    if (entry->part_no || !dg_slice_to_u64(text, &number))
      return fail_schema(err, "PartNumber is no number, or stands twice");
    if (number < 1 || number > DG_COMPLETE_MAX_PARTS)
      return dg_fail(err, DG_E_INVALID_ARGUMENT,
                     "PartNumber must be an integer between 1 and 10000, inclusive.");
    entry->part_no = (uint32_t)number;
  } else if (is(name, "ETag")) {
    if (entry->etag[0] || text.len == 0 || text.len >= sizeof entry->etag)
      return fail_schema(err, "ETag is empty, too long, or stands twice");
    memcpy(entry->etag, text.data, text.len);
  } else {
    for (uint32_t kind = DG_SUM_CRC32; kind <= DG_SUM_SHA256; kind++) {
      if (!is(name, dg_checksum_element(kind)))
        continue;
      if (entry->checksum_kind || !dg_checksum_valid(kind, text))
        return fail_schema(err, "a part's checksum is no checksum, or stands twice");
      entry->checksum_kind = kind;
      memcpy(entry->checksum_base64, text.data, text.len);
    }
  }
  return 0;
}

static int complete_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                        struct dg_error *err)
{
  struct complete_parse *parse = receiver;
  GArray *parts = parse->body->parts;

  if (depth == 3 && parse->in_part)
    return complete_field(&parse->entry, name, dg_slice_trim(text), err);
  if (depth == 2 && is(name, "Part")) {
    if (!parse->entry.part_no || !parse->entry.etag[0])
      return fail_schema(err, "a Part without PartNumber or ETag");
    if (parts->len && g_array_index(parts, struct dg_complete_entry, parts->len - 1).part_no >=
                          parse->entry.part_no)
      return dg_fail(err, DG_E_INVALID_PART_ORDER, "part %u after a higher or equal one",
                     parse->entry.part_no);
    g_array_append_val(parts, parse->entry);
    parse->in_part = false;
  }
  return 0;
}

int dg_complete_body_parse(struct dg_slice body, struct dg_complete_body **ret_body,
                           struct dg_error *err)
{
  static const struct dg_xml_handler handler = {complete_begin, complete_end};
  struct complete_parse parse = {.body = g_new0(struct dg_complete_body, 1)};
  int result;

  parse.body->parts = g_array_new(FALSE, FALSE, sizeof(struct dg_complete_entry));
  result = dg_xml_parse(body, &handler, &parse, err);
  if (result == 0 && parse.body->parts->len == 0)
    result = fail_schema(err, "no Part");
  if (result < 0) {
    dg_complete_body_free(parse.body);
    return -1;
  }
  *ret_body = parse.body;
  return 0;
}

/* ---- CreateBucketConfiguration ---- */

static int create_begin(void *receiver, unsigned depth, const char *name, struct dg_error *err)
{
  (void)receiver;
  return check_root(depth, name, "CreateBucketConfiguration", err);
}

static int create_end(void *receiver, unsigned depth, const char *name, struct dg_slice text,
                      struct dg_error *err)
{
  (void)receiver;
  if (depth == 2 && is(name, "LocationConstraint") && text.len > 64)
    return fail_schema(err, "LocationConstraint is too long");
  return 0;
}

int dg_create_bucket_body_check(struct dg_slice body, struct dg_error *err)
{
  static const struct dg_xml_handler handler = {create_begin, create_end};

  return body.len == 0 ? 0 : dg_xml_parse(body, &handler, NULL, err);
}
