/* SPDX-License-Identifier: Apache-2.0 */
/* References to the environment. What a variable holds is text, whatever it looks
 * like: YAML never reads it. One private character, a marker, stands in its place
 * while the file is parsed; the parser puts the value into the scalar. */
#include <config.h>

#include "core/config/tree.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#include "common/banned.h"

struct expansion {
  struct dg_slice text;
  const char *file;
  size_t at;                            /* of the next byte of text */
  GString *out;
  unsigned line, column, file_column;   /* of the next character: out's, the file's */
  size_t index;                         /* of the next character of out, as libyaml counts */
  GArray *edits;
};

static void wipe(char *text)
{
  if (text)
    OPENSSL_cleanse(text, strlen(text));
  g_free(text);
}

static void edit_clear(void *pointer)
{
  struct dg_yaml_edit *edit = pointer;

  wipe(edit->value);
  wipe(edit->ref); /* a default may be as secret */
}

static int fail_in_text(const struct expansion *expansion, const char *name, const char *cause,
                        struct dg_error *err)
{
  return dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%u:%u: ${env:%.60s}: %s", expansion->file,
                 expansion->line, expansion->file_column, name, cause);
}

static unsigned char_count(const char *text, size_t len)
{
  unsigned count = 0;

  for (size_t i = 0; i < len; i++)
    count += ((unsigned char)text[i] & 0xc0) != 0x80; /* not a continuation of UTF-8 */
  return count;
}

static void copy_byte(struct expansion *expansion)
{
  char c = expansion->text.data[expansion->at++];

  g_string_append_c(expansion->out, c);
  if (((unsigned char)c & 0xc0) != 0x80)
    expansion->index++;
  if (c == '\n') {
    expansion->line++;
    expansion->column = expansion->file_column = 1;
  } else if (((unsigned char)c & 0xc0) != 0x80) {
    expansion->column++;
    expansion->file_column++;
  }
}

/* Puts text in the place of the next len bytes. The rest is kept in *edit, and what
 * it owns is transferred. */
static void replace(struct expansion *expansion, size_t len, const char *text,
                    struct dg_yaml_edit *edit)
{
  unsigned count = char_count(text, strlen(text));

  edit->line = expansion->line;
  edit->column = expansion->column;
  edit->file_column = expansion->file_column;
  edit->index = expansion->index;
  g_string_append(expansion->out, text);
  expansion->index += count;
  expansion->column += count;
  expansion->file_column += char_count(expansion->text.data + expansion->at, len);
  expansion->at += len;
  edit->end_column = expansion->column;
  edit->file_end_column = expansion->file_column;
  g_array_append_val(expansion->edits, *edit);
}

/* Puts the marker of a new replacement in the place of the next len bytes. */
static int mark(struct expansion *expansion, size_t len, struct dg_yaml_edit *edit,
                struct dg_error *err)
{
  char marker[8] = {0};

  if (expansion->edits->len > DG_YAML_MARKER_LAST - DG_YAML_MARKER)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%u:%u: too many dollars before this one",
                   expansion->file, expansion->line, expansion->file_column);
  g_unichar_to_utf8(DG_YAML_MARKER + expansion->edits->len, marker);
  replace(expansion, len, marker, edit);
  return 0;
}

static gboolean is_env_name(const char *name)
{
  return *name && !g_ascii_isdigit(*name) &&
         !name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")];
}

/* NULL: the value may stand in a text. */
static const char *fault_of(const char *value)
{
  if (!g_utf8_validate(value, -1, NULL))
    return "its value is not UTF-8";
  for (; *value; value = g_utf8_next_char(value))
    if (*value != '\t' && g_unichar_iscntrl(g_utf8_get_char(value)))
      return "its value holds a control character";
  return NULL;
}

/* Does a character of the markers' begin the text: U+F0000 to U+FFFFF? */
static gboolean is_private(const char *text, size_t len)
{
  return len >= 4 && (unsigned char)text[0] == 0xf3 && (unsigned char)text[1] >= 0xb0 &&
         g_utf8_validate(text, 4, NULL);
}

/* Puts what the variable holds, or the default, in the place of the next len bytes. */
static int fill(struct expansion *expansion, size_t len, const char *name, const char *dflt,
                struct dg_error *err)
{
  const char *value = getenv(name), *fault;
  struct dg_yaml_edit edit = {0};

  if ((!value || !*value) && dflt) {
    replace(expansion, len, dflt, &edit); /* the file's own words: YAML */
    return 0;
  }
  if (!value || !*value)
    return fail_in_text(expansion, name,
                        "the variable is not set: set it or write ${env:NAME:-default}", err);
  fault = fault_of(value);
  if (fault)
    return fail_in_text(expansion, name, fault, err);
  edit.value = g_strdup(value);
  edit.ref = g_strndup(expansion->text.data + expansion->at, len);
  if (mark(expansion, len, &edit, err) == 0)
    return 0;
  edit_clear(&edit);
  return -1;
}

/* The reference that begins with the next byte. */
static int expand(struct expansion *expansion, struct dg_error *err)
{
  const char *start = expansion->text.data + expansion->at;
  const char *close = memchr(start, '}', expansion->text.len - expansion->at);
  char *name, *dflt;
  size_t len;
  int result;

  if (!close || memchr(start, '\n', (size_t)(close - start)))
    return fail_in_text(expansion, "", "its closing brace is missing", err);
  len = (size_t)(close - start) - strlen("${env:");
  name = g_strndup(start + strlen("${env:"), len);
  dflt = strstr(name, ":-");
  if (dflt) {
    *dflt = '\0';
    dflt += 2;
  }
  result = is_env_name(name) ? fill(expansion, (size_t)(close - start) + 1, name, dflt, err)
                             : fail_in_text(expansion, name, "that is no variable name", err);
  OPENSSL_cleanse(name, len);
  g_free(name);
  return result;
}

/* A private character that the file itself holds, which is no marker. */
static int keep_private(struct expansion *expansion, struct dg_error *err)
{
  struct dg_yaml_edit edit = {
    .value = g_strndup(expansion->text.data + expansion->at, 4),
  };

  if (mark(expansion, 4, &edit, err) == 0)
    return 0;
  edit_clear(&edit);
  return -1;
}

int dg_yaml_interpolate(struct dg_slice text, const char *file, GString **ret_text,
                        GArray **ret_edits, struct dg_error *err)
{
  struct expansion expansion = {
    .text = text,
    .file = file,
    .out = g_string_sized_new(text.len),
    .line = 1,
    .column = 1,
    .file_column = 1,
    .edits = g_array_new(FALSE, FALSE, sizeof(struct dg_yaml_edit)),
  };
  int result = 0;

  g_array_set_clear_func(expansion.edits, edit_clear);
  if (text.len >= 3 && !memcmp(text.data, "\xef\xbb\xbf", 3))
    expansion.index = (size_t)-1; /* libyaml does not count the mark of the byte order */
  while (result == 0 && expansion.at < text.len) {
    const char *next = text.data + expansion.at;
    size_t left = text.len - expansion.at;

    if (left >= 2 && !memcmp(next, "$$", 2))
      replace(&expansion, 2, "$", &(struct dg_yaml_edit){0});
    else if (is_private(next, left))
      result = keep_private(&expansion, err);
    else if (left >= 6 && !memcmp(next, "${env:", 6))
      result = expand(&expansion, err);
    else
      copy_byte(&expansion);
  }
  if (result < 0) {
    OPENSSL_cleanse(expansion.out->str, expansion.out->len); /* secrets of the file's */
    g_string_free(expansion.out, TRUE);
    g_array_unref(expansion.edits);
    return -1;
  }
  *ret_text = expansion.out;
  *ret_edits = expansion.edits;
  return 0;
}
