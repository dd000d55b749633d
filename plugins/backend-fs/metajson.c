/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "metajson.h"

#include <inttypes.h>
#include <stdbool.h>
#include <time.h>

#include <jansson.h>

#include "common/banned.h"

/* ---- Writing ---------------------------------------------------------------- */

static void append_string(GString *out, struct dg_slice text)
{
  static const char hex[] = "0123456789abcdef";

  g_string_append_c(out, '"');
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.data[i];
    static const char shorts[] = "btn\0fr"; /* 0x08 to 0x0d; 0x0b has none */

    if (c == '"' || c == '\\') {
      g_string_append_c(out, '\\');
      g_string_append_c(out, (char)c);
    } else if (c >= 0x08 && c <= 0x0d && shorts[c - 0x08]) {
      g_string_append_c(out, '\\');
      g_string_append_c(out, shorts[c - 0x08]);
    } else if (c < 0x20) {
      g_string_append(out, "\\u00");
      g_string_append_c(out, hex[c >> 4]);
      g_string_append_c(out, hex[c & 15]);
    } else {
      g_string_append_c(out, (char)c);
    }
  }
  g_string_append_c(out, '"');
}

static void append_field(GString *out, const char *name, struct dg_slice value)
{
  g_string_append_printf(out, "%s\"%s\":", out->len && out->str[out->len - 1] == '{' ? "" : ",",
                         name);
  append_string(out, value);
}

static void append_number(GString *out, const char *name, uint64_t value)
{
  g_string_append_printf(out, ",\"%s\":%" PRIu64, name, value);
}

static void append_pairs(GString *out, const char *name, const struct dg_pair *pairs,
                         uint32_t count)
{
  if (!count)
    return;
  g_string_append_printf(out, ",\"%s\":{", name);
  for (uint32_t i = 0; i < count; i++) {
    if (i)
      g_string_append_c(out, ',');
    append_string(out, pairs[i].name);
    g_string_append_c(out, ':');
    append_string(out, pairs[i].value);
  }
  g_string_append_c(out, '}');
}

void dg_fs_time_append(GString *out, int64_t s, uint32_t ns)
{
  time_t seconds = (time_t)s;
  struct tm tm;

  if (!gmtime_r(&seconds, &tm))
    memset(&tm, 0, sizeof tm);
  g_string_append_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
                         tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
  if (ns == 0)
    g_string_append_c(out, 'Z');
  else if (ns % 1000000u == 0)
    g_string_append_printf(out, ".%03" PRIu32 "Z", ns / 1000000u);
  else if (ns % 1000u == 0)
    g_string_append_printf(out, ".%06" PRIu32 "Z", ns / 1000u);
  else
    g_string_append_printf(out, ".%09" PRIu32 "Z", ns);
}

static bool pairs_are_utf8(const struct dg_pair *pairs, uint32_t count)
{
  for (uint32_t i = 0; i < count; i++)
    if (!g_utf8_validate_len(pairs[i].name.data, pairs[i].name.len, NULL) ||
        !g_utf8_validate_len(pairs[i].value.data, pairs[i].value.len, NULL))
      return false;
  return true;
}

static int check_text(const struct dg_meta *meta, struct dg_error *err)
{
  const struct dg_slice *texts[] = {&meta->tool,           &meta->original_name,
                                    &meta->file_sha256,    &meta->md5,
                                    &meta->multipart_etag, &meta->content_type,
                                    &meta->source_name,    &meta->ref_path,
                                    &meta->ref_sha256,     &meta->delta_cmd};

  for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
    if (texts[i]->len && !g_utf8_validate_len(texts[i]->data, texts[i]->len, NULL))
      return dg_fail(err, DG_E_INVALID_ARGUMENT, "metadata text is not UTF-8");
  if (!pairs_are_utf8(meta->user, meta->user_count) ||
      !pairs_are_utf8(meta->extensions, meta->extension_count))
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "user metadata is not UTF-8: encode it, for instance as RFC 2047");
  return 0;
}

int dg_fs_json_write(const struct dg_meta *meta, unsigned flags, GString *out,
                     struct dg_error *err)
{
  bool terse = (flags & DG_FS_JSON_TERSE) != 0;
  static const char *const notes[] = {NULL, "passthrough", "delta", "reference"};

  if (meta->variant < DG_VARIANT_PASSTHROUGH || meta->variant > DG_VARIANT_REFERENCE)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "metadata of unknown variant %u", meta->variant);
  if (check_text(meta, err) < 0)
    return -1;
  g_string_append_c(out, '{');
  append_field(out, "tool", meta->tool);
  append_field(out, "original_name", terse ? DG_SLICE("") : meta->original_name);
  append_field(out, "file_sha256", meta->file_sha256);
  append_number(out, "file_size", meta->file_size);
  append_field(out, "md5", meta->md5);
  if (meta->multipart_etag.len)
    append_field(out, "multipart_etag", meta->multipart_etag);
  g_string_append(out, ",\"created_at\":\"");
  dg_fs_time_append(out, meta->created_at_s, meta->created_at_ns);
  g_string_append_c(out, '"');
  if (meta->content_type.len)
    append_field(out, "content_type", meta->content_type);
  append_pairs(out, "user_metadata", meta->user, meta->user_count);
  append_field(out, "note",
               (struct dg_slice){notes[meta->variant], strlen(notes[meta->variant])});
  if (meta->variant == DG_VARIANT_REFERENCE)
    append_field(out, "source_name", meta->source_name);
  if (meta->variant == DG_VARIANT_DELTA) {
    append_field(out, "ref_path", meta->ref_path);
    append_field(out, "ref_sha256", meta->ref_sha256);
    append_number(out, "delta_size", meta->delta_size);
    append_field(out, "delta_cmd", terse ? DG_SLICE("") : meta->delta_cmd);
  }
  append_pairs(out, "dg_ext", meta->extensions, meta->extension_count);
  g_string_append_c(out, '}');
  return 0;
}

/* ---- Reading ---------------------------------------------------------------- */

static bool take_digits(const char **at, int count, int *ret_value)
{
  int value = 0;

  for (int i = 0; i < count; i++, (*at)++) {
    if (!g_ascii_isdigit(**at))
      return false;
    value = value * 10 + (**at - '0');
  }
  *ret_value = value;
  return true;
}

static bool take(const char **at, const char *any_of)
{
  if (!**at || !strchr(any_of, **at))
    return false;
  (*at)++;
  return true;
}

int dg_fs_time_parse(const char *text, int64_t *ret_s, uint32_t *ret_ns)
{
  int year, month, day, hour, minute, second, offset_s = 0;
  uint32_t ns = 0;
  struct tm tm = {0};

  if (!take_digits(&text, 4, &year) || !take(&text, "-") || !take_digits(&text, 2, &month) ||
      !take(&text, "-") || !take_digits(&text, 2, &day) || !take(&text, "Tt ") ||
      !take_digits(&text, 2, &hour) || !take(&text, ":") || !take_digits(&text, 2, &minute) ||
      !take(&text, ":") || !take_digits(&text, 2, &second))
    return -1;
  if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
    return -1;
  if (take(&text, ".")) {
    uint32_t unit = 100000000u;

    if (!g_ascii_isdigit(*text))
      return -1;
    for (; g_ascii_isdigit(*text); text++, unit /= 10)
      ns += (uint32_t)(*text - '0') * unit;
  }
  if (*text == '+' || *text == '-') {
    int sign = *text++ == '-' ? -1 : 1, hours, minutes;

    if (!take_digits(&text, 2, &hours) || !take(&text, ":") || !take_digits(&text, 2, &minutes) ||
        hours > 23 || minutes > 59)
      return -1;
    offset_s = sign * (hours * 3600 + minutes * 60);
  } else if (!take(&text, "Zz")) {
    return -1;
  }
  if (*text)
    return -1;
  tm.tm_year = year - 1900;
  tm.tm_mon = month - 1;
  tm.tm_mday = day;
  tm.tm_hour = hour;
  tm.tm_min = minute;
  tm.tm_sec = second;
  *ret_s = (int64_t)timegm(&tm) - offset_s;
  *ret_ns = ns;
  return 0;
}

static int corrupt(struct dg_error *err, const char *name)
{
  return dg_fail(err, DG_E_CORRUPT, "metadata field '%s' is missing or of the wrong type", name);
}

/* Copies one text field; absent and null count as empty. */
static int read_text(const struct dg_host *host, const json_t *object, const char *name,
                     uint32_t field, struct dg_meta *meta, struct dg_error *err)
{
  const json_t *value = json_object_get(object, name);

  if (!value || json_is_null(value))
    return 0;
  if (!json_is_string(value))
    return corrupt(err, name);
  if (json_string_length(value) == 0)
    return 0;
  return host->meta_set(meta, field,
                        (struct dg_slice){json_string_value(value), json_string_length(value)},
                        err);
}

static int read_size(const json_t *object, const char *name, bool required, uint64_t *ret_value,
                     struct dg_error *err)
{
  const json_t *value = json_object_get(object, name);

  if (!value && !required)
    return 0;
  if (!json_is_integer(value) || json_integer_value(value) < 0)
    return corrupt(err, name);
  *ret_value = (uint64_t)json_integer_value(value);
  return 0;
}

static int read_pairs(json_t *object, const char *name,
                      int (*add)(struct dg_meta *, struct dg_slice, struct dg_slice,
                                 struct dg_error *),
                      struct dg_meta *meta, struct dg_error *err)
{
  json_t *pairs = json_object_get(object, name);
  const char *key;
  json_t *value;

  if (!pairs || json_is_null(pairs))
    return 0;
  if (!json_is_object(pairs))
    return corrupt(err, name);
  json_object_foreach(pairs, key, value)
  {
    if (!json_is_string(value))
      return corrupt(err, name);
    if (add(meta, (struct dg_slice){key, strlen(key)},
            (struct dg_slice){json_string_value(value), json_string_length(value)}, err) < 0)
      return -1;
  }
  return 0;
}

static int read_reference_path(const struct dg_host *host, const json_t *object,
                               struct dg_meta *meta, struct dg_error *err)
{
  const json_t *value = json_object_get(object, "ref_path");
  struct dg_slice path;

  if (!value)
    value = json_object_get(object, "ref_key");
  if (!value || json_is_null(value))
    return 0;
  if (!json_is_string(value))
    return corrupt(err, "ref_path");
  path = (struct dg_slice){json_string_value(value), json_string_length(value)};
  /* Old writers stored a whole key: only its last segment means anything. */
  for (size_t i = path.len; i-- > 0;)
    if (path.data[i] == '/') {
      path.data += i + 1;
      path.len -= i + 1;
      break;
    }
  return path.len ? host->meta_set(meta, DG_FIELD_REF_PATH, path, err) : 0;
}

static int read_variant(const json_t *object, struct dg_meta *meta, struct dg_error *err)
{
  const json_t *value = json_object_get(object, "note");
  const char *note = value && json_is_string(value) ? json_string_value(value) : "";

  if (value && !json_is_string(value) && !json_is_null(value))
    return corrupt(err, "note");
  if (strcmp(note, "reference") == 0)
    meta->variant = DG_VARIANT_REFERENCE;
  else if (strcmp(note, "passthrough") == 0 || strcmp(note, "direct") == 0)
    meta->variant = DG_VARIANT_PASSTHROUGH;
  else if (meta->ref_path.len || strcmp(note, "delta") == 0 ||
           strncmp(note, "zero-diff", strlen("zero-diff")) == 0)
    meta->variant = DG_VARIANT_DELTA;
  else
    meta->variant = DG_VARIANT_PASSTHROUGH;
  return 0;
}

static int read_created_at(const json_t *object, struct dg_meta *meta, struct dg_error *err)
{
  const char *text = json_string_value(json_object_get(object, "created_at"));

  if (!text || dg_fs_time_parse(text, &meta->created_at_s, &meta->created_at_ns) < 0)
    return corrupt(err, "created_at");
  return 0;
}

static int read_object(const struct dg_host *host, json_t *object, struct dg_meta *meta,
                       struct dg_error *err)
{
  static const struct {
    const char *name;
    uint32_t field;
  } texts[] = {{"tool", DG_FIELD_TOOL},
               {"original_name", DG_FIELD_ORIGINAL_NAME},
               {"file_sha256", DG_FIELD_FILE_SHA256},
               {"md5", DG_FIELD_MD5},
               {"multipart_etag", DG_FIELD_MULTIPART_ETAG},
               {"content_type", DG_FIELD_CONTENT_TYPE},
               {"source_name", DG_FIELD_SOURCE_NAME},
               {"ref_sha256", DG_FIELD_REF_SHA256},
               {"delta_cmd", DG_FIELD_DELTA_CMD}};

  for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
    if (read_text(host, object, texts[i].name, texts[i].field, meta, err) < 0)
      return -1;
  if (read_size(object, "file_size", /* required= */ true, &meta->file_size, err) < 0 ||
      read_size(object, "delta_size", /* required= */ false, &meta->delta_size, err) < 0 ||
      read_created_at(object, meta, err) < 0 ||
      read_reference_path(host, object, meta, err) < 0 || read_variant(object, meta, err) < 0 ||
      read_pairs(object, "user_metadata", host->meta_add_user, meta, err) < 0 ||
      read_pairs(object, "dg_ext", host->meta_add_extension, meta, err) < 0)
    return -1;
  /* A delta that does not say against what cannot be decoded safely. */
  if (meta->variant == DG_VARIANT_DELTA && !meta->ref_sha256.len)
    return corrupt(err, "ref_sha256");
  return 0;
}

int dg_fs_json_read(const struct dg_host *host, struct dg_slice json, struct dg_meta *meta,
                    struct dg_error *err)
{
  json_error_t why;
  json_t *object = json_loadb(json.data, json.len, JSON_REJECT_DUPLICATES, &why);
  int rc;

  if (!object)
    return dg_fail(err, DG_E_CORRUPT, "metadata is not JSON: %s at byte %d", why.text,
                   why.position);
  if (json_is_object(object))
    rc = read_object(host, object, meta, err);
  else
    rc = dg_fail(err, DG_E_CORRUPT, "metadata is not a JSON object");
  json_decref(object);
  if (rc < 0)
    err->code = DG_E_CORRUPT;
  return rc;
}
