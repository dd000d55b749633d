/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "metajson.h"

#include <inttypes.h>
#include <stdbool.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

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

/* except: a name to leave out, or NULL. */
static void append_pairs(GString *out, const char *name, const struct dg_pair *pairs,
                         uint32_t count, const char *except)
{
  bool any = false;

  for (uint32_t i = 0; i < count; i++) {
    if (except && pairs[i].name.len == strlen(except) &&
        memcmp(pairs[i].name.data, except, pairs[i].name.len) == 0)
      continue;
    if (any)
      g_string_append_c(out, ',');
    else
      g_string_append_printf(out, ",\"%s\":{", name);
    any = true;
    append_string(out, pairs[i].name);
    g_string_append_c(out, ':');
    append_string(out, pairs[i].value);
  }
  if (any)
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
  append_pairs(out, "user_metadata", meta->user, meta->user_count, /* except= */ NULL);
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
  append_pairs(out, "dg_ext", meta->extensions, meta->extension_count,
               flags & DG_FS_JSON_NO_PART_SIZES ? DG_EXTENSION_PART_SIZES : NULL);
  g_string_append_c(out, '}');
  return 0;
}

/* ---- The checksum ------------------------------------------------------------- */

#define SUM_HEAD ",\"dg_sum\":\""
#define SUM_TAIL "\"}"
#define SUM_DIGITS 16u
#define SUM_BYTES (sizeof SUM_HEAD - 1 + SUM_DIGITS + sizeof SUM_TAIL - 1)

static void make_sum(const char *json, size_t len, char out[static SUM_DIGITS])
{
  static const char hex[] = "0123456789abcdef";
  uint64_t sum = XXH3_64bits(json, len);

  for (unsigned i = 0; i < SUM_DIGITS; i++)
    out[i] = hex[sum >> (60 - 4 * i) & 15];
}

void dg_fs_json_seal(GString *json)
{
  char digits[SUM_DIGITS];

  g_assert(json->len > 0 && json->str[json->len - 1] == '}');
  g_string_truncate(json, json->len - 1);
  make_sum(json->str, json->len, digits);
  g_string_append(json, SUM_HEAD);
  g_string_append_len(json, digits, SUM_DIGITS);
  g_string_append(json, SUM_TAIL);
}

bool dg_fs_json_unseal(char *json, size_t *len)
{
  char digits[SUM_DIGITS];
  char *at;

  if (*len < SUM_BYTES)
    return true;
  at = json + *len - SUM_BYTES;
  if (memcmp(at, SUM_HEAD, sizeof SUM_HEAD - 1) != 0 ||
      memcmp(at + SUM_BYTES - (sizeof SUM_TAIL - 1), SUM_TAIL, sizeof SUM_TAIL - 1) != 0)
    return true;
  make_sum(json, *len - SUM_BYTES, digits);
  if (memcmp(at + sizeof SUM_HEAD - 1, digits, SUM_DIGITS) != 0)
    return false;
  *at = '}';
  *len -= SUM_BYTES - 1;
  return true;
}
