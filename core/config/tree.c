/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "core/config/tree.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <yaml.h>

#include "common/banned.h"

#define MAX_DEPTH 16
#define MAX_NODES 200000

struct parse {
  yaml_parser_t parser;
  const char *file;
  const GArray *edits; /* or NULL */
  unsigned nodes;
};

/* ---- Places ------------------------------------------------------------------------ */

/* The last replacement that begins at or before the place, on its line; or NULL. */
static const struct dg_yaml_edit *edit_before(const GArray *edits, unsigned line, unsigned column)
{
  guint low = 0, high = edits ? edits->len : 0;

  while (low < high) { /* the first one behind the place */
    guint middle = low + (high - low) / 2;
    const struct dg_yaml_edit *edit = &g_array_index(edits, struct dg_yaml_edit, middle);

    if (edit->line > line || (edit->line == line && edit->column > column))
      high = middle;
    else
      low = middle + 1;
  }
  if (low == 0 || g_array_index(edits, struct dg_yaml_edit, low - 1).line != line)
    return NULL;
  return &g_array_index(edits, struct dg_yaml_edit, low - 1);
}

/* Where a mark stood in the file, before references were replaced. */
static unsigned file_column(const struct parse *parse, yaml_mark_t mark)
{
  unsigned column = (unsigned)mark.column + 1;
  const struct dg_yaml_edit *edit = edit_before(parse->edits, (unsigned)mark.line + 1, column);

  if (!edit)
    return column;
  return column < edit->end_column ? edit->file_column
                                   : edit->file_end_column + (column - edit->end_column);
}

/* ---- Nodes ------------------------------------------------------------------------- */

static struct dg_yaml *node_new(enum dg_yaml_type type, unsigned line, unsigned column)
{
  struct dg_yaml *node = g_new0(struct dg_yaml, 1);

  node->type = type;
  node->line = line;
  node->column = column;
  if (type == DG_YAML_MAP)
    node->keys = g_ptr_array_new_with_free_func((GDestroyNotify)dg_yaml_free);
  if (type != DG_YAML_SCALAR)
    node->values = g_ptr_array_new_with_free_func((GDestroyNotify)dg_yaml_free);
  return node;
}

static void wipe(char *text)
{
  if (text)
    OPENSSL_cleanse(text, strlen(text));
  g_free(text);
}

void dg_yaml_free(struct dg_yaml *node)
{
  if (!node)
    return;
  if (node->keys)
    g_ptr_array_unref(node->keys);
  if (node->values)
    g_ptr_array_unref(node->values);
  wipe(node->text);
  wipe(node->ref);
  g_free(node);
}

struct dg_yaml *dg_yaml_get(const struct dg_yaml *map, const char *key)
{
  for (guint i = 0; map->keys && i < map->keys->len; i++)
    if (!strcmp(((struct dg_yaml *)map->keys->pdata[i])->text, key))
      return map->values->pdata[i];
  return NULL;
}

struct dg_yaml *dg_yaml_new_map(const struct dg_yaml *at)
{
  return node_new(DG_YAML_MAP, at ? at->line : 1, at ? at->column : 1);
}

struct dg_yaml *dg_yaml_new_list(const struct dg_yaml *at)
{
  return node_new(DG_YAML_LIST, at ? at->line : 1, at ? at->column : 1);
}

struct dg_yaml *dg_yaml_new_text(const struct dg_yaml *at, const char *text)
{
  struct dg_yaml *node = node_new(DG_YAML_SCALAR, at ? at->line : 1, at ? at->column : 1);

  node->text = g_strdup(text);
  return node;
}

void dg_yaml_put(struct dg_yaml *map, struct dg_yaml *key, struct dg_yaml *value)
{
  g_ptr_array_add(map->keys, key);
  g_ptr_array_add(map->values, value);
}

void dg_yaml_take(struct dg_yaml *map, guint i, struct dg_yaml **ret_key,
                  struct dg_yaml **ret_value)
{
  *ret_key = g_ptr_array_steal_index(map->keys, i);
  *ret_value = g_ptr_array_steal_index(map->values, i);
}

/* ---- Parsing ----------------------------------------------------------------------- */

static int fail_at(const struct parse *parse, yaml_mark_t mark, struct dg_error *err,
                   const char *cause)
{
  return dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%zu:%u: %s", parse->file, mark.line + 1,
                 file_column(parse, mark), cause);
}

static int next_event(struct parse *parse, yaml_event_t *event, struct dg_error *err)
{
  if (yaml_parser_parse(&parse->parser, event))
    return 0;
  return dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%zu:%u: %s%s%s", parse->file,
                 parse->parser.problem_mark.line + 1,
                 file_column(parse, parse->parser.problem_mark),
                 parse->parser.context ? parse->parser.context : "",
                 parse->parser.context ? ": " : "",
                 parse->parser.problem ? parse->parser.problem : "not YAML");
}

/* What a scalar says may be a secret. */
static void event_clear(yaml_event_t *event)
{
  if (event->type == YAML_SCALAR_EVENT)
    OPENSSL_cleanse(event->data.scalar.value, event->data.scalar.length);
  yaml_event_delete(event);
}

static struct dg_yaml *node_at(const struct parse *parse, enum dg_yaml_type type,
                               yaml_mark_t mark)
{
  return node_new(type, (unsigned)mark.line + 1, file_column(parse, mark));
}

static gboolean is_null_text(const char *text)
{
  return !*text || !strcmp(text, "~") || !strcmp(text, "null") || !strcmp(text, "Null") ||
         !strcmp(text, "NULL");
}

/* What a replacement put in the place of the marker c, which stands in the scalar;
 * NULL: the character is itself. */
static const struct dg_yaml_edit *edit_marked(const struct parse *parse,
                                              const yaml_event_t *event, gunichar c)
{
  const struct dg_yaml_edit *edit;

  if (!parse->edits || c < DG_YAML_MARKER || c - DG_YAML_MARKER >= parse->edits->len)
    return NULL;
  edit = &g_array_index(parse->edits, struct dg_yaml_edit, c - DG_YAML_MARKER);
  return edit->value && edit->index >= event->start_mark.index &&
             edit->index < event->end_mark.index
           ? edit
           : NULL;
}

/* text with the values in the place of their markers, or with the references. Of its final
 * size from the start: growing would leave parts of a secret behind. Transferred. */
static char *unmarked(const struct parse *parse, const yaml_event_t *event, const char *text,
                      gboolean with_refs)
{
  size_t size = strlen(text);
  GString *out;

  for (const char *next = text; *next; next = g_utf8_next_char(next)) {
    const struct dg_yaml_edit *edit = edit_marked(parse, event, g_utf8_get_char(next));

    if (edit)
      size += strlen(with_refs && edit->ref ? edit->ref : edit->value);
  }
  out = g_string_sized_new(size + 1);
  for (; *text; text = g_utf8_next_char(text)) {
    const struct dg_yaml_edit *edit = edit_marked(parse, event, g_utf8_get_char(text));

    if (!edit)
      g_string_append_unichar(out, g_utf8_get_char(text));
    else
      g_string_append(out, with_refs && edit->ref ? edit->ref : edit->value);
  }
  return g_string_free(out, FALSE);
}

/* Are there references in the text, and is there anything else? */
static void find_refs(const struct parse *parse, const yaml_event_t *event, const char *text,
                      gboolean *ret_some, gboolean *ret_only)
{
  *ret_some = FALSE;
  *ret_only = TRUE;
  for (; *text; text = g_utf8_next_char(text)) {
    const struct dg_yaml_edit *edit = edit_marked(parse, event, g_utf8_get_char(text));

    if (edit && edit->ref)
      *ret_some = TRUE;
    if (!edit || !edit->ref || strstr(edit->ref, ":-"))
      *ret_only = FALSE;
  }
}

static enum dg_yaml_quote quote_of(const yaml_event_t *event)
{
  switch (event->data.scalar.style) {
  case YAML_PLAIN_SCALAR_STYLE:
    return DG_YAML_PLAIN;
  case YAML_DOUBLE_QUOTED_SCALAR_STYLE:
    return DG_YAML_DOUBLE;
  default:
    return DG_YAML_SINGLE;
  }
}

static void scalar_text(const struct parse *parse, const yaml_event_t *event,
                        struct dg_yaml *node)
{
  const char *text = (const char *)event->data.scalar.value;
  gboolean has_refs;

  node->is_null = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && is_null_text(text);
  node->text = node->is_null ? g_strdup("") : unmarked(parse, event, text, /* with_refs= */ FALSE);
  find_refs(parse, event, text, &has_refs, &node->is_only_refs);
  if (has_refs) {
    GString *quoted = g_string_sized_new(strlen(text) * 6 + 3); /* an escape has six characters */

    dg_yaml_print_text(text, quote_of(event), quoted);
    node->ref = unmarked(parse, event, quoted->str, /* with_refs= */ TRUE);
    OPENSSL_cleanse(quoted->str, quoted->len);
    g_string_free(quoted, TRUE);
  } else {
    node->is_only_refs = FALSE;
  }
}

static int scalar_node(const struct parse *parse, const yaml_event_t *event,
                       struct dg_yaml **ret_node, struct dg_error *err)
{
  const char *text = (const char *)event->data.scalar.value;
  struct dg_yaml *node;

  if (strlen(text) != event->data.scalar.length)
    return fail_at(parse, event->start_mark, err, "a value holds a NUL byte");
  node = node_at(parse, DG_YAML_SCALAR, event->start_mark);
  scalar_text(parse, event, node);
  *ret_node = node;
  return 0;
}

static gboolean has_anchor(const yaml_event_t *event)
{
  switch (event->type) {
  case YAML_ALIAS_EVENT:
    return TRUE;
  case YAML_SCALAR_EVENT:
    return event->data.scalar.anchor || event->data.scalar.tag;
  case YAML_MAPPING_START_EVENT:
    return event->data.mapping_start.anchor || event->data.mapping_start.tag;
  case YAML_SEQUENCE_START_EVENT:
    return event->data.sequence_start.anchor || event->data.sequence_start.tag;
  default:
    return FALSE;
  }
}

static int parse_node(struct parse *parse, yaml_event_t *event, unsigned depth,
                      struct dg_yaml **ret_node, struct dg_error *err);

/* Reads keys and values up to the end of the map. */
static int parse_map(struct parse *parse, struct dg_yaml *map, unsigned depth,
                     struct dg_error *err)
{
  for (;;) {
    struct dg_yaml *key = NULL, *value = NULL;
    yaml_event_t event;
    int result;

    if (next_event(parse, &event, err) < 0)
      return -1;
    if (event.type == YAML_MAPPING_END_EVENT) {
      event_clear(&event);
      return 0;
    }
    result = parse_node(parse, &event, depth, &key, err);
    if (result == 0 && key->type != DG_YAML_SCALAR)
      result = fail_at(parse, event.start_mark, err, "a key must be plain text");
    if (result == 0 && dg_yaml_get(map, key->text))
      result = dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%u:%u: the key '%.60s' stands here twice",
                       parse->file, key->line, key->column, key->text);
    event_clear(&event);
    if (result == 0 && next_event(parse, &event, err) == 0) {
      result = parse_node(parse, &event, depth, &value, err);
      event_clear(&event);
    } else {
      result = -1;
    }
    if (result < 0) {
      dg_yaml_free(key);
      return -1;
    }
    g_ptr_array_add(map->keys, key);
    g_ptr_array_add(map->values, value);
  }
}

static int parse_list(struct parse *parse, struct dg_yaml *list, unsigned depth,
                      struct dg_error *err)
{
  for (;;) {
    struct dg_yaml *value = NULL;
    yaml_event_t event;
    int result;

    if (next_event(parse, &event, err) < 0)
      return -1;
    if (event.type == YAML_SEQUENCE_END_EVENT) {
      event_clear(&event);
      return 0;
    }
    result = parse_node(parse, &event, depth, &value, err);
    event_clear(&event);
    if (result < 0)
      return -1;
    g_ptr_array_add(list->values, value);
  }
}

/* The node that begins with event, which the caller deletes. */
static int parse_node(struct parse *parse, yaml_event_t *event, unsigned depth,
                      struct dg_yaml **ret_node, struct dg_error *err)
{
  struct dg_yaml *node;
  int result;

  if (has_anchor(event))
    return fail_at(parse, event->start_mark, err, "anchors, aliases and tags are not supported");
  if (depth > MAX_DEPTH || ++parse->nodes > MAX_NODES)
    return fail_at(parse, event->start_mark, err, "too deeply nested, or too large");
  if (event->type == YAML_SCALAR_EVENT)
    return scalar_node(parse, event, ret_node, err);
  if (event->type == YAML_MAPPING_START_EVENT) {
    node = node_at(parse, DG_YAML_MAP, event->start_mark);
    result = parse_map(parse, node, depth + 1, err);
  } else {
    node = node_at(parse, DG_YAML_LIST, event->start_mark);
    result = parse_list(parse, node, depth + 1, err);
  }
  if (result < 0) {
    dg_yaml_free(node);
    return -1;
  }
  *ret_node = node;
  return 0;
}

/* The events of one document, from its start to the end of the stream. */
static int parse_stream(struct parse *parse, struct dg_yaml **root, struct dg_error *err)
{
  for (;;) {
    yaml_event_t event;
    gboolean is_end;
    int result = 0;

    if (next_event(parse, &event, err) < 0)
      return -1;
    is_end = event.type == YAML_STREAM_END_EVENT;
    if (event.type == YAML_DOCUMENT_START_EVENT && *root)
      result = fail_at(parse, event.start_mark, err, "a second document: use one file each");
    else if (event.type == YAML_SCALAR_EVENT || event.type == YAML_MAPPING_START_EVENT ||
             event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_ALIAS_EVENT)
      result = parse_node(parse, &event, 0, root, err);
    event_clear(&event);
    if (result < 0 || is_end)
      return result;
  }
}

/* libyaml keeps pieces of the file as it came and as characters. */
static void parser_clear(yaml_parser_t *parser)
{
  OPENSSL_cleanse(parser->raw_buffer.start,
                  (size_t)(parser->raw_buffer.end - parser->raw_buffer.start));
  OPENSSL_cleanse(parser->buffer.start, (size_t)(parser->buffer.end - parser->buffer.start));
  yaml_parser_delete(parser);
}

int dg_yaml_parse(struct dg_slice text, const char *file, const GArray *edits,
                  struct dg_yaml **ret_root, struct dg_error *err)
{
  struct parse parse = {.file = file, .edits = edits};
  struct dg_yaml *root = NULL;
  int result;

  if (!yaml_parser_initialize(&parse.parser))
    g_error("libyaml does not start");
  yaml_parser_set_input_string(&parse.parser, (const unsigned char *)text.data, text.len);
  result = parse_stream(&parse, &root, err);
  parser_clear(&parse.parser);
  if (result == 0 && root && root->type == DG_YAML_SCALAR && root->is_null) {
    dg_yaml_free(root);
    root = NULL;
  }
  if (result == 0 && !root)
    root = dg_yaml_new_map(NULL);
  if (result == 0 && root->type != DG_YAML_MAP)
    result = dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%u:%u: the file must be a map of sections",
                     file, root->line, root->column);
  if (result < 0) {
    dg_yaml_free(root);
    return -1;
  }
  *ret_root = root;
  return 0;
}
