/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "metahdr.h"

#include <inttypes.h>

#include "common/clock.h"
#include "common/hex.h"
#include "common/slice.h"

#include "common/banned.h"

#define WORD_BEGIN "=?UTF-8?B?"
#define WORD_END "?="
#define USER_PREFIX "user-"
#define EXTENSION_PREFIX "dg-ext-"

/* ---- Values --------------------------------------------------------------------------- */

static bool is_plain(struct dg_slice value)
{
  if (value.len == 0 || value.data[0] == ' ' || value.data[value.len - 1] == ' ' ||
      dg_slice_starts_with(value, DG_SLICE("=?")))
    return false;
  for (size_t i = 0; i < value.len; i++)
    if (value.data[i] < 0x20 || value.data[i] > 0x7e ||
        (value.data[i] == ' ' && value.data[i + 1] == ' '))
      return false;
  return true;
}

void dg_s3_value_encode(GString *out, struct dg_slice value)
{
  g_autofree char *base64 = NULL;

  if (is_plain(value)) {
    dg_slice_append(out, value);
    return;
  }
  base64 = g_malloc(DG_BASE64_LEN(value.len) + 1);
  dg_base64_encode(value.data, value.len, base64);
  g_string_append_printf(out, WORD_BEGIN "%s" WORD_END, base64);
}

static bool decode_base64(GString *out, struct dg_slice text)
{
  gsize before = out->len;
  size_t len = 0;

  g_string_set_size(out, before + text.len + 1);
  if (!dg_base64_decode(text, out->str + before, text.len + 1, &len)) {
    g_string_truncate(out, before);
    return false;
  }
  g_string_truncate(out, before + len);
  return true;
}

static bool decode_quoted(GString *out, struct dg_slice text)
{
  for (size_t i = 0; i < text.len; i++) {
    uint8_t byte;

    if (text.data[i] == '_') {
      g_string_append_c(out, ' ');
    } else if (text.data[i] != '=') {
      g_string_append_c(out, text.data[i]);
    } else {
      if (text.len - i < 3 || !dg_hex_decode(dg_slice_of(text.data + i + 1, 2), &byte, 1))
        return false;
      g_string_append_c(out, (char)byte);
      i += 2;
    }
  }
  return true;
}

/* One encoded word at the front of *rest, in UTF-8 or its subset ASCII. */
static bool take_word(GString *out, struct dg_slice *rest)
{
  struct dg_slice text = dg_slice_skip(*rest, 2), charset, body;
  size_t mark, end;
  char kind;

  if (!dg_slice_starts_with(*rest, DG_SLICE("=?")))
    return false;
  mark = dg_slice_find(text, '?', 0);
  if (mark == SIZE_MAX || text.len < mark + 3 || text.data[mark + 2] != '?')
    return false;
  charset = dg_slice_of(text.data, mark);
  kind = g_ascii_toupper(text.data[mark + 1]);
  text = dg_slice_skip(text, mark + 3);
  end = dg_slice_find(text, '?', 0);
  if (end == SIZE_MAX || end + 1 >= text.len || text.data[end + 1] != '=')
    return false;
  body = dg_slice_of(text.data, end);
  *rest = dg_slice_skip(text, end + 2);
  if (!dg_slice_equal_nocase(charset, DG_SLICE("utf-8")) &&
      !dg_slice_equal_nocase(charset, DG_SLICE("us-ascii")))
    return false;
  return kind == 'B' ? decode_base64(out, body) : kind == 'Q' && decode_quoted(out, body);
}

void dg_s3_value_decode(GString *out, struct dg_slice header)
{
  struct dg_slice rest = header;
  gsize before = out->len;

  /* All of it is words, or none of it is: anything else is somebody's text. */
  do {
    if (!take_word(out, &rest)) {
      g_string_truncate(out, before);
      dg_slice_append(out, header);
      return;
    }
    rest = dg_slice_trim(rest);
  } while (rest.len);
  if (!g_utf8_validate_len(out->str + before, out->len - before, NULL)) {
    g_string_truncate(out, before);
    dg_slice_append(out, header);
  }
}

/* ---- Writing ------------------------------------------------------------------------------ */

static void add(GPtrArray *pairs, const char *prefix, struct dg_slice name, struct dg_slice value)
{
  g_autoptr(GString) full = g_string_new(prefix);
  g_autoptr(GString) text = g_string_new(NULL);

  dg_slice_append(full, name);
  dg_s3_value_encode(text, value);
  g_ptr_array_add(pairs, g_ascii_strdown(full->str, (gssize)full->len));
  g_ptr_array_add(pairs, g_strndup(text->str, text->len));
}

static void add_text(GPtrArray *pairs, const char *name, struct dg_slice value)
{
  if (value.len)
    add(pairs, "", dg_slice_str(name), value);
}

static void add_number(GPtrArray *pairs, const char *name, uint64_t number)
{
  char text[24];
  int len = g_snprintf(text, sizeof text, "%" PRIu64, number);

  add(pairs, "", dg_slice_str(name), dg_slice_of(text, (size_t)len));
}

static void add_times(GPtrArray *pairs, const struct dg_meta *meta)
{
  char created[DG_RFC3339_SIZE];
  size_t len = dg_time_format_rfc3339(created, meta->created_at_s, meta->created_at_ns, 6);

  add_text(pairs, "dg-created-at", dg_slice_of(created, len));
  if (meta->created_at_ns % 1000u)
    add_number(pairs, "dg-created-ns", meta->created_at_ns % 1000u);
}

static size_t bytes_of(const GPtrArray *pairs)
{
  size_t bytes = 0;

  for (guint i = 0; i < pairs->len; i++)
    bytes += strlen(pairs->pdata[i]);
  return bytes;
}

static void drop(GPtrArray *pairs, const char *name)
{
  for (guint i = 0; i + 1 < pairs->len; i += 2)
    if (strcmp(pairs->pdata[i], name) == 0) {
      g_ptr_array_remove_range(pairs, i, 2);
      return;
    }
}

static const char *note_of(uint32_t variant)
{
  return variant == DG_VARIANT_DELTA       ? "delta"
         : variant == DG_VARIANT_REFERENCE ? "reference"
                                           : "passthrough";
}

int dg_s3_meta_write(const struct dg_meta *meta, GPtrArray *pairs, struct dg_error *err)
{
  static const char *const optional[] = {"dg-delta-cmd", EXTENSION_PREFIX DG_EXTENSION_PART_SIZES,
                                         "dg-original-name"};

  add_text(pairs, "dg-tool", meta->tool);
  add_text(pairs, "dg-original-name", meta->original_name);
  add_text(pairs, "dg-file-sha256", meta->file_sha256);
  add_number(pairs, "dg-file-size", meta->file_size);
  add_text(pairs, "dg-md5", meta->md5);
  add_times(pairs, meta);
  add_text(pairs, "dg-multipart-etag", meta->multipart_etag);
  add_text(pairs, "content-type", meta->content_type);
  add_text(pairs, "dg-note", dg_slice_str(note_of(meta->variant)));
  if (meta->variant == DG_VARIANT_REFERENCE)
    add_text(pairs, "dg-source-name", meta->source_name);
  if (meta->variant == DG_VARIANT_DELTA) {
    add_text(pairs, "dg-ref-path", meta->ref_path);
    add_text(pairs, "dg-ref-sha256", meta->ref_sha256);
    add_number(pairs, "dg-delta-size", meta->delta_size);
    add_text(pairs, "dg-delta-cmd", meta->delta_cmd);
  }
  for (uint32_t i = 0; i < meta->user_count; i++)
    add(pairs, USER_PREFIX, meta->user[i].name, meta->user[i].value);
  for (uint32_t i = 0; i < meta->extension_count; i++)
    add(pairs, EXTENSION_PREFIX, meta->extensions[i].name, meta->extensions[i].value);
  for (size_t i = 0; i < G_N_ELEMENTS(optional) && bytes_of(pairs) > DG_S3_META_MAX; i++)
    drop(pairs, optional[i]);
  if (bytes_of(pairs) > DG_S3_META_MAX)
    return dg_fail(err, DG_E_METADATA_TOO_LARGE,
                   "%zu bytes of metadata do not fit the %u that S3 keeps with an object",
                   bytes_of(pairs), DG_S3_META_MAX);
  return 0;
}

/* Names that somebody who reads the layout would take for a field of it. */
static bool is_layout_name(struct dg_slice name)
{
  static const char *const names[] = {"tool",     "original-name", "source-name", "file-sha256",
                                      "file-size", "created-at",   "note",        "ref-path",
                                      "ref-key",  "ref-sha256",    "delta-size",  "delta-cmd",
                                      "content-type"};

  for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
    if (dg_slice_equal_nocase(name, dg_slice_str(names[i])))
      return true;
  return name.len >= 3 && g_ascii_strncasecmp(name.data, "dg-", 3) == 0;
}

int dg_s3_meta_write_plain(const struct dg_meta *meta, const char *upload, GPtrArray *headers,
                           struct dg_error *err)
{
  size_t bytes = strlen(DG_S3_UPLOAD_MARK) + strlen(upload);

  add(headers, "", DG_SLICE("content-type"),
      meta->content_type.len ? meta->content_type : DG_SLICE(DG_S3_CONTENT_TYPE));
  add(headers, "x-amz-meta-", DG_SLICE(DG_S3_UPLOAD_MARK), dg_slice_str(upload));
  for (uint32_t i = 0; i < meta->extension_count; i++) {
    struct dg_slice name = meta->extensions[i].name;

    if (dg_slice_equal_str(name, DG_EXTENSION_PART_SIZES)) {
      add(headers, "x-amz-meta-" EXTENSION_PREFIX, name, meta->extensions[i].value);
      bytes += strlen(EXTENSION_PREFIX) + name.len + meta->extensions[i].value.len;
      continue;
    }
    if (!dg_s3_is_kept_header(name))
      return dg_fail(err, DG_E_UNSUPPORTED, "no header of an object is called '%.*s'",
                     DG_SLICE_ARG(name));
    if (meta->extensions[i].value.len)
      add(headers, "", name, meta->extensions[i].value);
  }
  for (uint32_t i = 0; i < meta->user_count; i++) {
    if (is_layout_name(meta->user[i].name))
      return dg_fail(err, DG_E_UNSUPPORTED, "'%.*s' means something else in the layout",
                     DG_SLICE_ARG(meta->user[i].name));
    add(headers, "x-amz-meta-", meta->user[i].name, meta->user[i].value);
    bytes += meta->user[i].name.len + strlen(headers->pdata[headers->len - 1]);
  }
  if (bytes > DG_S3_META_MAX)
    return dg_fail(err, DG_E_METADATA_TOO_LARGE,
                   "%zu bytes of metadata do not fit the %u that S3 keeps with an object", bytes,
                   DG_S3_META_MAX);
  return 0;
}

/* ---- Reading ------------------------------------------------------------------------------- */

struct reading {
  const struct dg_host *host;
  const struct dg_s3_facts *facts;
  struct dg_meta *meta;
  GString *room;
  struct dg_error *err;
};

/* The first of some names that is there and not empty, decoded into room. */
static struct dg_slice first_of(struct reading *reading, const char *const *names)
{
  for (; *names; names++) {
    struct dg_slice value = dg_s3_facts_find(reading->facts, *names);

    if (!value.len)
      continue;
    g_string_truncate(reading->room, 0);
    dg_s3_value_decode(reading->room, value);
    return dg_slice_of(reading->room->str, reading->room->len);
  }
  return DG_SLICE_NONE;
}

#define FIRST_OF(reading, ...) first_of(reading, (const char *const[]){__VA_ARGS__, NULL})

static int set(struct reading *reading, uint32_t field, struct dg_slice value)
{
  return value.len ? reading->host->meta_set(reading->meta, field, value, reading->err) : 0;
}

/* Old writers wrote times without a zone: UTC. */
static void read_created(struct reading *reading)
{
  struct dg_meta *meta = reading->meta;
  struct dg_slice text = FIRST_OF(reading, "dg-created-at", "created-at");
  uint64_t below_us = 0;

  meta->created_at_s = reading->facts->modified_s;
  meta->created_at_ns = 0;
  if (!text.len)
    return;
  if (!dg_time_parse_rfc3339(text, &meta->created_at_s, &meta->created_at_ns)) {
    g_string_append_c(reading->room, 'Z');
    text = dg_slice_of(reading->room->str, reading->room->len);
    if (!dg_time_parse_rfc3339(text, &meta->created_at_s, &meta->created_at_ns)) {
      meta->created_at_s = reading->facts->modified_s;
      meta->created_at_ns = 0;
      return;
    }
  }
  if (dg_slice_to_u64(dg_s3_facts_find(reading->facts, "dg-created-ns"), &below_us) &&
      below_us < 1000 && meta->created_at_ns % 1000u == 0)
    meta->created_at_ns += (uint32_t)below_us;
}

static int read_pairs(struct reading *reading)
{
  for (uint32_t i = 0; i < reading->facts->pair_count; i++) {
    struct dg_slice name = reading->facts->pairs[i].name;
    bool user = dg_slice_starts_with(name, DG_SLICE(USER_PREFIX));
    struct dg_slice value;

    if (!user && !dg_slice_starts_with(name, DG_SLICE(EXTENSION_PREFIX)))
      continue;
    name = dg_slice_skip(name, user ? strlen(USER_PREFIX) : strlen(EXTENSION_PREFIX));
    if (!name.len)
      continue;
    g_string_truncate(reading->room, 0);
    dg_s3_value_decode(reading->room, reading->facts->pairs[i].value);
    value = dg_slice_of(reading->room->str, reading->room->len);
    if ((user ? reading->host->meta_add_user
              : reading->host->meta_add_extension)(reading->meta, name, value, reading->err) < 0)
      return -1;
  }
  return 0;
}

/* What the metadata says it belongs to. */
static uint32_t variant_of(struct reading *reading)
{
  struct dg_slice path;
  bool note_delta;

  {
    struct dg_slice note = FIRST_OF(reading, "dg-note", "note");

    if (dg_slice_equal_str(note, "reference"))
      return DG_VARIANT_REFERENCE;
    note_delta =
      dg_slice_equal_str(note, "delta") || dg_slice_starts_with(note, DG_SLICE("zero-diff"));
  }
  path = FIRST_OF(reading, "dg-ref-path", "dg-ref-key", "ref-path", "ref-key");
  return path.len || note_delta ? DG_VARIANT_DELTA : DG_VARIANT_PASSTHROUGH;
}

static int read_delta_fields(struct reading *reading)
{
  struct dg_slice path =
    FIRST_OF(reading, "dg-ref-path", "dg-ref-key", "ref-path", "ref-key");

  for (size_t i = path.len; i-- > 0;)
    if (path.data[i] == '/') {
      path = dg_slice_skip(path, i + 1);
      break;
    }
  if (set(reading, DG_FIELD_REF_PATH, path.len ? path : DG_SLICE("reference.bin")) < 0 ||
      set(reading, DG_FIELD_REF_SHA256, FIRST_OF(reading, "dg-ref-sha256", "ref-sha256")) < 0 ||
      set(reading, DG_FIELD_DELTA_CMD, FIRST_OF(reading, "dg-delta-cmd", "delta-cmd")) < 0)
    return -1;
  if (!dg_slice_to_u64(FIRST_OF(reading, "dg-delta-size", "delta-size"),
                       &reading->meta->delta_size))
    reading->meta->delta_size = reading->facts->size;
  return 0;
}

static int read_managed(struct reading *reading, struct dg_slice key_name)
{
  struct dg_meta *meta = reading->meta;
  struct dg_slice name =
    FIRST_OF(reading, "dg-original-name", "original-name", "dg-source-name", "source-name");

  if (!name.len && meta->variant != DG_VARIANT_REFERENCE)
    name = key_name;
  if (set(reading, DG_FIELD_ORIGINAL_NAME, name) < 0 ||
      set(reading, DG_FIELD_TOOL, FIRST_OF(reading, "dg-tool", "tool")) < 0 ||
      set(reading, DG_FIELD_FILE_SHA256, FIRST_OF(reading, "dg-file-sha256", "file-sha256")) < 0 ||
      set(reading, DG_FIELD_MD5, FIRST_OF(reading, "dg-md5")) < 0 ||
      set(reading, DG_FIELD_MULTIPART_ETAG, FIRST_OF(reading, "dg-multipart-etag")) < 0 ||
      set(reading, DG_FIELD_CONTENT_TYPE, FIRST_OF(reading, "content-type")) < 0)
    return -1;
  if (!dg_slice_to_u64(FIRST_OF(reading, "dg-file-size", "file-size"), &meta->file_size))
    meta->file_size = 0;
  read_created(reading);
  if (meta->variant == DG_VARIANT_REFERENCE &&
      set(reading, DG_FIELD_SOURCE_NAME, FIRST_OF(reading, "dg-source-name", "source-name")) < 0)
    return -1;
  if (meta->variant == DG_VARIANT_DELTA && read_delta_fields(reading) < 0)
    return -1;
  return read_pairs(reading);
}

/* The one field of the layout that an object has whose parts the upstream joined. */
static int add_part_sizes(struct reading *reading)
{
  struct dg_slice text = FIRST_OF(reading, EXTENSION_PREFIX DG_EXTENSION_PART_SIZES);

  if (text.len == 0 || !dg_s3_facts_find(reading->facts, DG_S3_UPLOAD_MARK).len)
    return 0;
  return reading->host->meta_add_extension(reading->meta, DG_SLICE(DG_EXTENSION_PART_SIZES), text,
                                           reading->err);
}

static int read_unmanaged(struct reading *reading)
{
  const struct dg_s3_facts *facts = reading->facts;
  struct dg_meta *meta = reading->meta;

  meta->flags = facts->is_stray_vcdiff ? DG_META_CORRUPT : DG_META_UNMANAGED;
  if (dg_s3_facts_find(facts, DG_S3_UPLOAD_MARK).len)
    meta->flags |= DG_META_PLAIN;
  meta->file_size = facts->size;
  meta->created_at_s = facts->modified_s;
  if (add_part_sizes(reading) < 0 ||
      set(reading, DG_FIELD_UNMANAGED_ETAG, dg_slice_str(facts->etag)) < 0 ||
      set(reading, DG_FIELD_CONTENT_TYPE, dg_slice_str(facts->content_type)) < 0)
    return -1;
  /* Somebody else's object: its metadata are its own, but for our names. */
  for (uint32_t i = 0; i < facts->pair_count; i++) {
    struct dg_slice name = facts->pairs[i].name, value;

    if (dg_slice_starts_with(name, DG_SLICE("dg-")))
      continue;
    g_string_truncate(reading->room, 0);
    dg_s3_value_decode(reading->room, facts->pairs[i].value);
    value = dg_slice_of(reading->room->str, reading->room->len);
    if (name.len && name.data[0] == DG_S3_HEADER_MARK) {
      if (reading->host->meta_add_extension(meta, dg_slice_skip(name, 1), value, reading->err) < 0)
        return -1;
    } else if (reading->host->meta_add_user(meta, name, value, reading->err) < 0) {
      return -1;
    }
  }
  return 0;
}

static bool is_managed(struct reading *reading, uint32_t claimed)
{
  return FIRST_OF(reading, "dg-file-sha256", "file-sha256").len &&
         (claimed != DG_VARIANT_DELTA || FIRST_OF(reading, "dg-ref-sha256", "ref-sha256").len);
}

int dg_s3_meta_read(const struct dg_host *host, const struct dg_s3_facts *facts, uint32_t variant,
                    struct dg_slice key_name, struct dg_meta *meta, struct dg_error *err)
{
  g_autoptr(GString) room = g_string_new(NULL);
  struct reading reading = {.host = host, .facts = facts, .meta = meta, .room = room, .err = err};
  uint32_t claimed = variant_of(&reading);
  uint8_t validator[DG_S3_VALIDATOR_BYTES];
  int rc;

  meta->variant = variant;
  meta->stored_size = facts->size;
  if (!is_managed(&reading, claimed)) {
    rc = read_unmanaged(&reading);
  } else if (claimed == variant) {
    rc = read_managed(&reading, key_name);
  } else if (variant == DG_VARIANT_REFERENCE) {
    rc = read_unmanaged(&reading); /* the engine heals references */
  } else {
    meta->flags = DG_META_CORRUPT;
    meta->file_size = facts->size;
    meta->created_at_s = facts->modified_s;
    rc = 0;
  }
  if (rc < 0)
    return -1;
  dg_s3_facts_validator(facts, validator);
  return host->meta_set(meta, DG_FIELD_VALIDATOR,
                        dg_slice_of(validator, sizeof validator), err);
}
