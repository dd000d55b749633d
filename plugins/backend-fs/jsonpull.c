/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "jsonpull.h"

#include "common/banned.h"

void dg_json_space(struct dg_json *json)
{
  while (json->at < json->end &&
         (*json->at == ' ' || *json->at == '\t' || *json->at == '\n' || *json->at == '\r'))
    json->at++;
}

static bool take(struct dg_json *json, char expected)
{
  if (dg_json_peek(json) != expected || json->at == json->end)
    return false;
  json->at++;
  return true;
}

static bool take_word(struct dg_json *json, const char *word)
{
  size_t len = strlen(word);

  if ((size_t)(json->end - json->at) < len || memcmp(json->at, word, len) != 0)
    return false;
  json->at += len;
  return true;
}

static bool take_hex4(struct dg_json *json, gunichar *ret_value)
{
  gunichar value = 0;

  if (json->end - json->at < 4)
    return false;
  for (int i = 0; i < 4; i++, json->at++) {
    int digit = g_ascii_xdigit_value(*json->at);

    if (digit < 0)
      return false;
    value = value * 16 + (gunichar)digit;
  }
  *ret_value = value;
  return true;
}

/* After "\u": one code point, of a pair of surrogates if need be. */
static bool take_code_point(struct dg_json *json, GString *room)
{
  gunichar high, low;

  if (!take_hex4(json, &high) || high == 0)
    return false;
  if (high >= 0xdc00 && high <= 0xdfff)
    return false;
  if (high >= 0xd800 && high <= 0xdbff) {
    if (!take_word(json, "\\u") || !take_hex4(json, &low) || low < 0xdc00 || low > 0xdfff)
      return false;
    high = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }
  g_string_append_unichar(room, high);
  return true;
}

static bool take_escape(struct dg_json *json, GString *room)
{
  static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  const char *found;

  if (json->at == json->end)
    return false;
  if (*json->at == 'u') {
    json->at++;
    return take_code_point(json, room);
  }
  found = *json->at ? strchr(names, *json->at) : NULL;
  if (!found)
    return false;
  g_string_append_c(room, values[found - names]);
  json->at++;
  return true;
}

bool dg_json_string(struct dg_json *json, GString *room, struct dg_slice *ret_text)
{
  const char *from;
  bool escaped = false;

  if (!take(json, '"'))
    return false;
  from = json->at;
  for (; json->at < json->end; json->at++) {
    unsigned char c = (unsigned char)*json->at;

    if (c < 0x20)
      return false;
    if (c != '"' && c != '\\')
      continue;
    if (escaped || c == '\\') {
      if (!escaped)
        g_string_truncate(room, 0);
      g_string_append_len(room, from, json->at - from);
      escaped = true;
    }
    if (c == '"') {
      *ret_text = escaped ? (struct dg_slice){room->str, room->len}
                          : (struct dg_slice){from, (size_t)(json->at - from)};
      json->at++;
      return true;
    }
    json->at++;
    if (!take_escape(json, room))
      return false;
    from = json->at;
    json->at--; /* the loop steps on */
  }
  return false;
}

bool dg_json_u64(struct dg_json *json, uint64_t *ret_value)
{
  const char *from = json->at;
  uint64_t value = 0;

  for (; json->at < json->end && g_ascii_isdigit(*json->at); json->at++)
    if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
        __builtin_add_overflow(value, (uint64_t)(*json->at - '0'), &value))
      return false;
  if (json->at == from || (*from == '0' && json->at > from + 1))
    return false;
  if (json->at < json->end && strchr(".eE", *json->at))
    return false;
  *ret_value = value;
  return true;
}

bool dg_json_null(struct dg_json *json)
{
  return take_word(json, "null");
}

static bool skip_digits(struct dg_json *json)
{
  const char *from = json->at;

  while (json->at < json->end && g_ascii_isdigit(*json->at))
    json->at++;
  return json->at > from;
}

static bool skip_number(struct dg_json *json)
{
  (void)take(json, '-');
  if (!take(json, '0') && !skip_digits(json))
    return false;
  if (take(json, '.') && !skip_digits(json))
    return false;
  if (take(json, 'e') || take(json, 'E')) {
    if (!take(json, '+'))
      (void)take(json, '-');
    return skip_digits(json);
  }
  return true;
}

static bool skip_value(struct dg_json *json, GString *room, unsigned depth);

static bool skip_members(struct dg_json *json, GString *room, unsigned depth, bool object)
{
  char close = object ? '}' : ']';
  struct dg_slice key;

  json->at++;
  dg_json_space(json);
  if (take(json, close))
    return true;
  for (;;) {
    dg_json_space(json);
    if (object) {
      if (!dg_json_string(json, room, &key))
        return false;
      dg_json_space(json);
      if (!take(json, ':'))
        return false;
      dg_json_space(json);
    }
    if (!skip_value(json, room, depth + 1))
      return false;
    dg_json_space(json);
    if (take(json, close))
      return true;
    if (!take(json, ','))
      return false;
  }
}

static bool skip_value(struct dg_json *json, GString *room, unsigned depth)
{
  struct dg_slice text;

  if (depth > DG_JSON_MAX_DEPTH)
    return false;
  switch (dg_json_peek(json)) {
  case '"':
    return dg_json_string(json, room, &text);
  case '{':
    return skip_members(json, room, depth, /* object= */ true);
  case '[':
    return skip_members(json, room, depth, /* object= */ false);
  case 't':
    return take_word(json, "true");
  case 'f':
    return take_word(json, "false");
  case 'n':
    return take_word(json, "null");
  default:
    return skip_number(json);
  }
}

bool dg_json_skip(struct dg_json *json)
{
  g_autoptr(GString) room = g_string_new(NULL);

  return skip_value(json, room, 0);
}

bool dg_json_object(struct dg_json *json, dg_json_member_fn member, void *receiver)
{
  g_autoptr(GString) room = g_string_new(NULL);
  struct dg_slice key;

  if (!take(json, '{'))
    return false;
  dg_json_space(json);
  if (take(json, '}'))
    return true;
  for (;;) {
    dg_json_space(json);
    if (!dg_json_string(json, room, &key))
      return false;
    dg_json_space(json);
    if (!take(json, ':'))
      return false;
    dg_json_space(json);
    if (!member(receiver, json, key))
      return false;
    dg_json_space(json);
    if (take(json, '}'))
      return true;
    if (!take(json, ','))
      return false;
  }
}
