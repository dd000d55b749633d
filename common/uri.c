/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/uri.h"

#include "common/banned.h"

static const char upper_digits[] = "0123456789ABCDEF";

/* 1 for the bytes that are never escaped. */
static const uint8_t unreserved[256] = {
    ['-'] = 1,         ['.'] = 1,         ['_'] = 1,         ['~'] = 1,
    ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

/* Value of a hex digit plus one; 0 for anything else. */
static const uint8_t digit_plus_one[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

static inline size_t encode_byte(uint8_t byte, bool keep_slash, char *out)
{
  if (unreserved[byte] || (keep_slash && byte == '/')) {
    out[0] = (char)byte;
    return 1;
  }
  out[0] = '%';
  out[1] = upper_digits[byte >> 4];
  out[2] = upper_digits[byte & 15];
  return 3;
}

/* The byte behind the '%' at text[at], or -1 on a bad escape. */
static inline int escaped_byte(struct dg_slice text, size_t at)
{
  uint8_t high, low;

  if (text.len - at < 3)
    return -1;
  high = digit_plus_one[(uint8_t)text.data[at + 1]];
  low = digit_plus_one[(uint8_t)text.data[at + 2]];
  return high && low ? (high - 1) << 4 | (low - 1) : -1;
}

void dg_uri_encode(GString *out, struct dg_slice text, bool keep_slash)
{
  char escaped[3];

  for (size_t i = 0; i < text.len; i++) {
    size_t len = encode_byte((uint8_t)text.data[i], keep_slash, escaped);

    g_string_append_len(out, escaped, (gssize)len);
  }
}

size_t dg_uri_decode(struct dg_slice text, bool plus_is_space, char *out)
{
  size_t len = 0;

  for (size_t at = 0; at < text.len; at++) {
    char c = text.data[at];

    if (c == '%') {
      int byte = escaped_byte(text, at);

      if (byte < 0)
        return SIZE_MAX;
      c = (char)byte;
      at += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    out[len++] = c;
  }
  return len;
}

size_t dg_uri_recode(struct dg_slice text, bool plus_is_space, bool keep_slash, char *out)
{
  size_t len = 0;

  for (size_t at = 0; at < text.len; at++) {
    uint8_t c = (uint8_t)text.data[at];

    if (unreserved[c]) {
      out[len++] = (char)c;
      continue;
    }
    if (c == '%') {
      int byte = escaped_byte(text, at);

      if (byte < 0)
        return SIZE_MAX;
      c = (uint8_t)byte;
      at += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    len += encode_byte(c, keep_slash, out + len);
  }
  return len;
}

bool dg_query_next(struct dg_slice *query, struct dg_query_pair *ret_pair)
{
  while (query->len) {
    const char *amp = memchr(query->data, '&', query->len);
    size_t len = amp ? (size_t)(amp - query->data) : query->len;
    struct dg_slice pair = {query->data, len};

    query->data += len + (amp ? 1 : 0);
    query->len -= len + (amp ? 1 : 0);
    if (len) {
      const char *equals = memchr(pair.data, '=', pair.len);

      if (equals) {
        ret_pair->name = (struct dg_slice){pair.data, (size_t)(equals - pair.data)};
        ret_pair->value = (struct dg_slice){equals + 1, (size_t)(pair.data + len - equals - 1)};
      } else {
        ret_pair->name = pair;
        ret_pair->value = (struct dg_slice){NULL, 0};
      }
      return true;
    }
  }
  return false;
}

static size_t scheme_len(const char *url)
{
  size_t len = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");

  return len > 0 && g_str_has_prefix(url + len, "://") ? len + 3 : 0;
}

char *dg_url_for_show(const char *url)
{
  size_t scheme = scheme_len(url), query = strcspn(url, "?#");
  const char *at = strrchr(url, '@');
  const char *shown = at ? at + 1 : url + scheme;
  size_t len = shown <= url + query ? (size_t)(url + query - shown) : 0;

  return g_strdup_printf("%.*s%s%.*s%s", (int)scheme, url, at ? "...@" : "", (int)len, shown,
                         url[query] ? "..." : "");
}
