/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/glob.h"

#include <glib.h>

#include "common/banned.h"

/* The character at `at`, which moves past it. */
static gunichar take(const char *text, size_t len, size_t *at)
{
  gunichar c = g_utf8_get_char_validated(text + *at, (gssize)(len - *at));

  if (c >= (gunichar)-2) {
    c = (unsigned char)text[*at];
    (*at)++;
  } else {
    *at += (size_t)g_unichar_to_utf8(c, NULL);
  }
  return c;
}

/* The set that begins behind a '['; *at moves behind its ']'. */
static bool set_holds(const char *glob, size_t len, size_t *at, gunichar c)
{
  bool negated = glob[*at] == '!' || glob[*at] == '^', held = false;
  size_t begin;

  *at += negated;
  /* A ']' that comes first is one of the set. */
  for (begin = *at; *at < len && (glob[*at] != ']' || *at == begin);) {
    gunichar low = take(glob, len, at), high = low;

    if (*at + 1 < len && glob[*at] == '-' && glob[*at + 1] != ']') {
      (*at)++;
      high = take(glob, len, at);
    }
    held = held || (c >= low && c <= high);
  }
  *at += *at < len;
  return held != negated;
}

/* One character of the text against what stands at *glob_at, which is not '*'. */
static bool match_one(const char *glob, size_t glob_len, size_t *glob_at, struct dg_slice text,
                      size_t *text_at)
{
  gunichar c = take(text.data, text.len, text_at), wanted = take(glob, glob_len, glob_at);

  if (wanted == '?')
    return true;
  if (wanted == '[')
    return set_holds(glob, glob_len, glob_at, c);
  if (wanted == '\\' && *glob_at < glob_len)
    wanted = take(glob, glob_len, glob_at);
  return c == wanted;
}

bool dg_glob_matches(const char *glob, struct dg_slice text)
{
  size_t glob_len = strlen(glob), glob_at = 0, text_at = 0;
  size_t star = SIZE_MAX, star_text = 0; /* behind the last '*', and how much it took */

  while (glob_at < glob_len || text_at < text.len) {
    size_t next_glob = glob_at, next_text = text_at;

    if (glob_at < glob_len && glob[glob_at] == '*') {
      star = ++glob_at;
      star_text = text_at;
    } else if (text_at < text.len && glob_at < glob_len &&
               match_one(glob, glob_len, &next_glob, text, &next_text)) {
      glob_at = next_glob;
      text_at = next_text;
    } else if (star != SIZE_MAX && text_at < text.len) {
      /* Only the last star takes one more: what an earlier one would leave, the last can
       * cover too. */
      (void)take(text.data, text.len, &star_text);
      glob_at = star;
      text_at = star_text;
    } else {
      return false;
    }
  }
  return true;
}
