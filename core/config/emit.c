/* SPDX-License-Identifier: Apache-2.0 */
/* A tree written as YAML: always the same bytes for the same tree. */
#include <config.h>

#include "core/config/tree.h"

#include "common/banned.h"

/* Would another reader of YAML see something other than this text? Anything that
 * begins like a number is quoted, so addresses and versions stay text. */
static gboolean is_plain(const char *text)
{
  static const char *const special[] = {"null", "true", "false", "yes", "no",
                                        "on",   "off",  "y",     "n",   NULL};

  if (!g_ascii_isalpha(*text) && *text != '/' && *text != '_')
    return FALSE;
  for (size_t i = 0; special[i]; i++)
    if (!g_ascii_strcasecmp(text, special[i]))
      return FALSE;
  for (const char *c = text; *c; c++)
    if (!g_ascii_isalnum(*c) && !strchr("/_.-+@%", *c) &&
        !(*c == ':' && c[1] && c[1] != ' ')) /* a URL */
      return FALSE;
  return TRUE;
}

/* `$` is doubled: the next interpolation halves it. */
static void append_char(GString *out, gunichar c)
{
  if (c == '$')
    g_string_append_c(out, '$');
  g_string_append_unichar(out, c);
}

static gboolean needs_escapes(const char *text)
{
  for (; *text; text = g_utf8_next_char(text)) {
    gunichar c = g_utf8_get_char(text);

    if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff)
      return TRUE;
  }
  return FALSE;
}

static void print_double_quoted(const char *text, GString *out)
{
  g_string_append_c(out, '"');
  for (; *text; text = g_utf8_next_char(text)) {
    gunichar c = g_utf8_get_char(text);

    if (c == '\n')
      g_string_append(out, "\\n");
    else if (c == '"' || c == '\\')
      g_string_append_printf(out, "\\%c", (int)c);
    else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff)
      g_string_append_printf(out, "\\u%04x", (unsigned)c);
    else
      append_char(out, c);
  }
  g_string_append_c(out, '"');
}

static void print_single_quoted(const char *text, GString *out)
{
  g_string_append_c(out, '\'');
  for (; *text; text = g_utf8_next_char(text)) {
    if (*text == '\'')
      g_string_append_c(out, '\'');
    append_char(out, g_utf8_get_char(text));
  }
  g_string_append_c(out, '\'');
}

void dg_yaml_print_text(const char *text, enum dg_yaml_quote quote, GString *out)
{
  if (quote == DG_YAML_DOUBLE || needs_escapes(text))
    print_double_quoted(text, out);
  else if (quote == DG_YAML_SINGLE)
    print_single_quoted(text, out);
  else
    for (; *text; text = g_utf8_next_char(text))
      append_char(out, g_utf8_get_char(text));
}

static void print_scalar(const struct dg_yaml *node, GString *out)
{
  if (node->is_verbatim || is_plain(node->text))
    g_string_append(out, node->text);
  else
    dg_yaml_print_text(node->text, DG_YAML_SINGLE, out);
}

static int compare_keys(gconstpointer a, gconstpointer b, gpointer user_data)
{
  const struct dg_yaml *map = user_data;
  const struct dg_yaml *left = map->keys->pdata[*(const guint *)a];
  const struct dg_yaml *right = map->keys->pdata[*(const guint *)b];

  return strcmp(left->text, right->text);
}

static void print_map(const struct dg_yaml *map, unsigned indent, gboolean is_begun, GString *out);

/* What stands behind a key or a dash, up to the end of its last line. */
static void print_value(const struct dg_yaml *node, unsigned indent, GString *out)
{
  if (node->type == DG_YAML_SCALAR) {
    g_string_append_c(out, ' ');
    print_scalar(node, out);
    g_string_append_c(out, '\n');
  } else if (node->values->len == 0) {
    g_string_append(out, node->type == DG_YAML_MAP ? " {}\n" : " []\n");
  } else if (node->type == DG_YAML_MAP) {
    g_string_append_c(out, '\n');
    print_map(node, indent, /* is_begun= */ FALSE, out);
  } else {
    g_string_append_c(out, '\n');
    for (guint i = 0; i < node->values->len; i++) {
      const struct dg_yaml *entry = node->values->pdata[i];

      g_string_append_printf(out, "%*s-", (int)indent, "");
      if (entry->type == DG_YAML_MAP && entry->values->len > 0) {
        g_string_append_c(out, ' ');
        print_map(entry, indent + 2, /* is_begun= */ TRUE, out);
      } else {
        print_value(entry, indent + 2, out);
      }
    }
  }
}

/* is_begun: the first key goes on the line that is there. */
static void print_map(const struct dg_yaml *map, unsigned indent, gboolean is_begun, GString *out)
{
  g_autofree guint *order = g_new(guint, map->keys->len);

  for (guint i = 0; i < map->keys->len; i++)
    order[i] = i;
  g_qsort_with_data(order, (gint)map->keys->len, sizeof *order, compare_keys,
                    (gpointer)(uintptr_t)map);
  for (guint i = 0; i < map->keys->len; i++) {
    if (i > 0 || !is_begun)
      g_string_append_printf(out, "%*s", (int)indent, "");
    print_scalar(map->keys->pdata[order[i]], out);
    g_string_append_c(out, ':');
    print_value(map->values->pdata[order[i]], indent + 2, out);
  }
}

void dg_yaml_print(const struct dg_yaml *map, GString *out)
{
  if (map->keys->len == 0)
    g_string_append(out, "{}\n");
  else
    print_map(map, 0, /* is_begun= */ FALSE, out);
}
