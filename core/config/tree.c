/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "core/config/tree.h"

#include <stdlib.h>
#include <yaml.h>

#include "common/banned.h"

#define MAX_DEPTH 16
#define MAX_NODES 200000

struct parse {
  yaml_parser_t parser;
  const char *file;
  unsigned nodes;
};

static struct dg_yaml *node_new(enum dg_yaml_type type, yaml_mark_t mark)
{
  struct dg_yaml *node = g_new0(struct dg_yaml, 1);

  node->type = type;
  node->line = (unsigned)mark.line + 1;
  node->column = (unsigned)mark.column + 1;
  if (type == DG_YAML_MAP)
    node->keys = g_ptr_array_new_with_free_func((GDestroyNotify)dg_yaml_free);
  if (type != DG_YAML_SCALAR)
    node->values = g_ptr_array_new_with_free_func((GDestroyNotify)dg_yaml_free);
  return node;
}

void dg_yaml_free(struct dg_yaml *node)
{
  if (!node)
    return;
  if (node->keys)
    g_ptr_array_unref(node->keys);
  if (node->values)
    g_ptr_array_unref(node->values);
  g_free(node->text);
  g_free(node);
}

struct dg_yaml *dg_yaml_get(const struct dg_yaml *map, const char *key)
{
  for (guint i = 0; map->keys && i < map->keys->len; i++)
    if (!strcmp(((struct dg_yaml *)map->keys->pdata[i])->text, key))
      return map->values->pdata[i];
  return NULL;
}

static int fail_at(const struct parse *parse, yaml_mark_t mark, struct dg_error *err,
                   const char *cause)
{
  return dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%zu:%zu: %s", parse->file, mark.line + 1,
                 mark.column + 1, cause);
}

static int next_event(struct parse *parse, yaml_event_t *event, struct dg_error *err)
{
  if (yaml_parser_parse(&parse->parser, event))
    return 0;
  return dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%zu:%zu: %s%s%s", parse->file,
                 parse->parser.problem_mark.line + 1, parse->parser.problem_mark.column + 1,
                 parse->parser.context ? parse->parser.context : "",
                 parse->parser.context ? ": " : "",
                 parse->parser.problem ? parse->parser.problem : "not YAML");
}

static gboolean is_null_text(const char *text)
{
  return !*text || !strcmp(text, "~") || !strcmp(text, "null") || !strcmp(text, "Null") ||
         !strcmp(text, "NULL");
}

static int scalar_node(const struct parse *parse, const yaml_event_t *event,
                       struct dg_yaml **ret_node, struct dg_error *err)
{
  const char *text = (const char *)event->data.scalar.value;
  struct dg_yaml *node;

  if (strlen(text) != event->data.scalar.length)
    return fail_at(parse, event->start_mark, err, "a value holds a NUL byte");
  node = node_new(DG_YAML_SCALAR, event->start_mark);
  node->is_null = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && is_null_text(text);
  node->text = g_strdup(node->is_null ? "" : text);
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
      yaml_event_delete(&event);
      return 0;
    }
    result = parse_node(parse, &event, depth, &key, err);
    if (result == 0 && key->type != DG_YAML_SCALAR)
      result = fail_at(parse, event.start_mark, err, "a key must be plain text");
    if (result == 0 && dg_yaml_get(map, key->text))
      result = dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%u:%u: the key '%.60s' stands here twice",
                       parse->file, key->line, key->column, key->text);
    yaml_event_delete(&event);
    if (result == 0 && next_event(parse, &event, err) == 0) {
      result = parse_node(parse, &event, depth, &value, err);
      yaml_event_delete(&event);
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
      yaml_event_delete(&event);
      return 0;
    }
    result = parse_node(parse, &event, depth, &value, err);
    yaml_event_delete(&event);
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
    node = node_new(DG_YAML_MAP, event->start_mark);
    result = parse_map(parse, node, depth + 1, err);
  } else {
    node = node_new(DG_YAML_LIST, event->start_mark);
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
    yaml_event_delete(&event);
    if (result < 0 || is_end)
      return result;
  }
}

int dg_yaml_parse(struct dg_slice text, const char *file, struct dg_yaml **ret_root,
                  struct dg_error *err)
{
  struct parse parse = {.file = file};
  struct dg_yaml *root = NULL;
  int result;

  if (!yaml_parser_initialize(&parse.parser))
    g_error("libyaml does not start");
  yaml_parser_set_input_string(&parse.parser, (const unsigned char *)text.data, text.len);
  result = parse_stream(&parse, &root, err);
  yaml_parser_delete(&parse.parser);
  if (result == 0 && root && root->type == DG_YAML_SCALAR && root->is_null) {
    dg_yaml_free(root);
    root = NULL;
  }
  if (result == 0 && !root)
    root = node_new(DG_YAML_MAP, (yaml_mark_t){0});
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

/* ---- Interpolation ------------------------------------------------------------- */

static int fail_in_text(struct dg_slice text, size_t at, const char *file, const char *name,
                        const char *cause, struct dg_error *err)
{
  unsigned line = 1, column = 1;

  for (size_t i = 0; i < at; i++) {
    column++;
    if (text.data[i] == '\n')
      line++, column = 1;
  }
  return dg_fail(err, DG_E_INVALID_ARGUMENT, "%s:%u:%u: ${env:%.60s}: %s", file, line, column,
                 name, cause);
}

/* The reference whose "${env:" begins at `at`; *ret_end is past its brace. */
static int expand(struct dg_slice text, size_t at, const char *file, GString *out,
                  size_t *ret_end, struct dg_error *err)
{
  size_t start = at + strlen("${env:");
  const char *close = memchr(text.data + start, '}', text.len - start);
  g_autofree char *body = NULL;
  const char *value;
  char *dflt;

  if (!close || memchr(text.data + start, '\n', (size_t)(close - text.data) - start))
    return fail_in_text(text, at, file, "", "its closing brace is missing", err);
  body = g_strndup(text.data + start, (gsize)(close - text.data) - start);
  dflt = strstr(body, ":-");
  if (dflt) {
    *dflt = '\0';
    dflt += 2;
  }
  if (!*body || g_ascii_isdigit(*body) ||
      body[strspn(body, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")])
    return fail_in_text(text, at, file, body, "that is no variable name", err);
  value = getenv(body);
  if (!value || !*value)
    value = dflt;
  if (!value)
    return fail_in_text(text, at, file, body,
                        "the variable is not set: set it or write ${env:NAME:-default}", err);
  for (const char *c = value; *c; c++)
    if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
      return fail_in_text(text, at, file, body, "its value holds a control character", err);
  g_string_append(out, value);
  *ret_end = (size_t)(close - text.data) + 1;
  return 0;
}

int dg_yaml_interpolate(struct dg_slice text, const char *file, GString **ret_text,
                        struct dg_error *err)
{
  GString *out = g_string_sized_new(text.len);
  size_t i = 0;

  while (i < text.len) {
    size_t left = text.len - i;

    if (left >= 2 && !memcmp(text.data + i, "$$", 2)) {
      g_string_append_c(out, '$');
      i += 2;
    } else if (left > 6 && !memcmp(text.data + i, "${env:", 6)) {
      if (expand(text, i, file, out, &i, err) < 0) {
        g_string_free(out, TRUE);
        return -1;
      }
    } else {
      g_string_append_c(out, text.data[i++]);
    }
  }
  *ret_text = out;
  return 0;
}
