/* SPDX-License-Identifier: Apache-2.0 */
/* metajson.h: the reading half. */
#include "config.h"

#include "metajson.h"

#include <stdbool.h>
#include <time.h>

#include "jsonpull.h"

#include "common/banned.h"

/* What four digits of a year can say, in seconds since 1970. */
#define YEAR_0 INT64_C(-62167219200)
#define YEAR_9999_END INT64_C(253402300799)

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
  int64_t s;
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
  s = (int64_t)timegm(&tm) - offset_s;
  if (s < YEAR_0 || s > YEAR_9999_END)
    return -1;
  *ret_s = s;
  *ret_ns = ns;
  return 0;
}

/* Every member we know, and whether it was met. */
enum member {
  TOOL,
  ORIGINAL_NAME,
  FILE_SHA256,
  MD5,
  MULTIPART_ETAG,
  CONTENT_TYPE,
  SOURCE_NAME,
  REF_SHA256,
  DELTA_CMD,
  TEXT_MEMBERS, /* so far: texts that are copied as they are */
  FILE_SIZE = TEXT_MEMBERS,
  DELTA_SIZE,
  CREATED_AT,
  NOTE,
  REF_PATH,
  REF_KEY,
  USER_METADATA,
  DG_EXT,
  MEMBERS
};

static const struct {
  struct dg_slice name;
  uint32_t field; /* DG_FIELD_* of a text */
} members[MEMBERS] = {
  [TOOL] = {{"tool", 4}, DG_FIELD_TOOL},
  [ORIGINAL_NAME] = {{"original_name", 13}, DG_FIELD_ORIGINAL_NAME},
  [FILE_SHA256] = {{"file_sha256", 11}, DG_FIELD_FILE_SHA256},
  [MD5] = {{"md5", 3}, DG_FIELD_MD5},
  [MULTIPART_ETAG] = {{"multipart_etag", 14}, DG_FIELD_MULTIPART_ETAG},
  [CONTENT_TYPE] = {{"content_type", 12}, DG_FIELD_CONTENT_TYPE},
  [SOURCE_NAME] = {{"source_name", 11}, DG_FIELD_SOURCE_NAME},
  [REF_SHA256] = {{"ref_sha256", 10}, DG_FIELD_REF_SHA256},
  [DELTA_CMD] = {{"delta_cmd", 9}, DG_FIELD_DELTA_CMD},
  [FILE_SIZE] = {{"file_size", 9}, 0},
  [DELTA_SIZE] = {{"delta_size", 10}, 0},
  [CREATED_AT] = {{"created_at", 10}, 0},
  [NOTE] = {{"note", 4}, 0},
  [REF_PATH] = {{"ref_path", 8}, 0},
  [REF_KEY] = {{"ref_key", 7}, 0},
  [USER_METADATA] = {{"user_metadata", 13}, 0},
  [DG_EXT] = {{"dg_ext", 6}, 0},
};

struct reading {
  const struct dg_host *host;
  struct dg_meta *meta;
  GString *room;
  uint32_t seen; /* bit per member */
  char note[16]; /* enough to tell them apart */
  bool add_extension; /* where pairs go */
  struct dg_error *err;
};

static bool has(const struct reading *reading, enum member number)
{
  return (reading->seen >> number & 1u) != 0;
}

static bool set_text(struct reading *reading, uint32_t field, struct dg_slice text)
{
  return text.len == 0 ||
         reading->host->meta_set(reading->meta, field, text, reading->err) == 0;
}

/* Old writers stored a whole key: only its last segment means anything. */
static bool set_reference_path(struct reading *reading, struct dg_slice path)
{
  for (size_t i = path.len; i-- > 0;)
    if (path.data[i] == '/') {
      path.data += i + 1;
      path.len -= i + 1;
      break;
    }
  return set_text(reading, DG_FIELD_REF_PATH, path);
}

static bool set_created_at(struct reading *reading, struct dg_slice text)
{
  char copy[64];

  if (text.len >= sizeof copy)
    return false;
  memcpy(copy, text.data, text.len);
  copy[text.len] = '\0';
  return dg_fs_time_parse(copy, &reading->meta->created_at_s, &reading->meta->created_at_ns) == 0;
}

static bool met_before(const struct reading *reading, struct dg_slice name)
{
  const struct dg_meta *meta = reading->meta;
  const struct dg_pair *pairs = reading->add_extension ? meta->extensions : meta->user;
  uint32_t count = reading->add_extension ? meta->extension_count : meta->user_count;

  for (uint32_t i = 0; i < count; i++)
    if (pairs[i].name.len == name.len && memcmp(pairs[i].name.data, name.data, name.len) == 0)
      return true;
  return false;
}

static bool read_pair(void *receiver, struct dg_json *json, struct dg_slice name)
{
  struct reading *reading = receiver;
  struct dg_slice value;

  if (met_before(reading, name) || !dg_json_string(json, reading->room, &value))
    return false;
  return (reading->add_extension ? reading->host->meta_add_extension
                                 : reading->host->meta_add_user)(reading->meta, name, value,
                                                                 reading->err) == 0;
}

static bool read_string(struct reading *reading, struct dg_json *json, enum member number)
{
  struct dg_slice text;

  if (!dg_json_string(json, reading->room, &text))
    return false;
  switch (number) {
  case CREATED_AT:
    return set_created_at(reading, text);
  case NOTE:
    memcpy(reading->note, text.data, MIN(text.len, sizeof reading->note - 1));
    return true;
  case REF_PATH:
    return set_reference_path(reading, text);
  case REF_KEY:
    return has(reading, REF_PATH) || set_reference_path(reading, text);
  default:
    return set_text(reading, members[number].field, text);
  }
}

static bool read_known(struct reading *reading, struct dg_json *json, enum member number)
{
  switch (number) {
  case FILE_SIZE:
    return dg_json_u64(json, &reading->meta->file_size);
  case DELTA_SIZE:
    return dg_json_u64(json, &reading->meta->delta_size);
  case USER_METADATA:
  case DG_EXT:
    reading->add_extension = number == DG_EXT;
    return dg_json_object(json, read_pair, reading);
  default:
    return read_string(reading, json, number);
  }
}

static bool read_member(void *receiver, struct dg_json *json, struct dg_slice key)
{
  struct reading *reading = receiver;
  uint32_t number = 0;

  while (number < MEMBERS &&
         (members[number].name.len != key.len ||
          memcmp(members[number].name.data, key.data, key.len) != 0))
    number++;
  if (number == MEMBERS)
    return dg_json_skip(json);
  if (has(reading, number)) {
    (void)dg_fail(reading->err, DG_E_CORRUPT, "metadata field '%s' stands twice",
                  members[number].name.data);
    return false;
  }
  /* null is absent; of a required field, that is found out at the end. */
  if (dg_json_peek(json) == 'n')
    return dg_json_null(json);
  reading->err->code = DG_E_OK;
  if (!read_known(reading, json, number)) {
    if (reading->err->code == DG_E_OK)
      (void)dg_fail(reading->err, DG_E_CORRUPT, "metadata field '%s' is not what it should be",
                    members[number].name.data);
    return false;
  }
  reading->seen |= 1u << number;
  return true;
}

static uint32_t variant_of(const struct reading *reading)
{
  const char *note = reading->note;

  if (strcmp(note, "reference") == 0)
    return DG_VARIANT_REFERENCE;
  if (strcmp(note, "passthrough") == 0 || strcmp(note, "direct") == 0)
    return DG_VARIANT_PASSTHROUGH;
  if (reading->meta->ref_path.len || strcmp(note, "delta") == 0 ||
      strncmp(note, "zero-diff", strlen("zero-diff")) == 0)
    return DG_VARIANT_DELTA;
  return DG_VARIANT_PASSTHROUGH;
}

static int check_complete(struct reading *reading)
{
  if (!has(reading, FILE_SIZE) || !has(reading, CREATED_AT))
    return dg_fail(reading->err, DG_E_CORRUPT, "metadata field '%s' is missing",
                   has(reading, FILE_SIZE) ? "created_at" : "file_size");
  reading->meta->variant = variant_of(reading);
  /* A delta that does not say against what cannot be decoded safely. */
  if (reading->meta->variant == DG_VARIANT_DELTA && !reading->meta->ref_sha256.len)
    return dg_fail(reading->err, DG_E_CORRUPT, "metadata field 'ref_sha256' is missing");
  return 0;
}

int dg_fs_json_read(const struct dg_host *host, struct dg_slice text, struct dg_meta *meta,
                    struct dg_error *err)
{
  g_autoptr(GString) room = g_string_new(NULL);
  struct reading reading = {.host = host, .meta = meta, .room = room, .err = err};
  struct dg_json json = {text.data, text.data + text.len};

  if (!g_utf8_validate_len(text.data, text.len, NULL))
    return dg_fail(err, DG_E_CORRUPT, "metadata is not UTF-8");
  err->code = DG_E_OK;
  dg_json_space(&json);
  if (!dg_json_object(&json, read_member, &reading)) {
    size_t at = (size_t)(json.at - text.data);

    if (err->code == DG_E_OK)
      return dg_fail(err, DG_E_CORRUPT, "metadata is not JSON, at byte %zu of %zu", at, text.len);
    err->code = DG_E_CORRUPT;
    return -1;
  }
  dg_json_space(&json);
  if (json.at != json.end)
    return dg_fail(err, DG_E_CORRUPT, "something follows the metadata's JSON");
  return check_complete(&reading);
}
