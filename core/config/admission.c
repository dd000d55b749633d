/* SPDX-License-Identifier: Apache-2.0 */
/* admission.blocks: from YAML to checked data. Nothing is evaluated here. */
#include <config.h>

#include <arpa/inet.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

#define NAME_MAX_CHARS 128
#define GLOB_MAX_CHARS 1024
#define SOURCES_MAX 4096

void dg_admission_block_free(void *pointer)
{
  struct dg_admission_block *block = pointer;

  if (!block)
    return;
  g_free(block->name);
  g_strfreev(block->methods);
  g_free(block->sources);
  g_free(block->bucket);
  g_free(block->path_glob);
  g_free(block->config_flag);
  g_free(block->reject_message);
  g_free(block);
}

/* ---- Addresses ------------------------------------------------------------------------- */

/* Digits only, at most `most`. */
static gboolean parse_bits(const char *text, unsigned most, unsigned *ret_bits)
{
  guint64 bits;

  if (!g_ascii_string_to_unsigned(text, 10, 0, most, &bits, NULL))
    return FALSE;
  *ret_bits = (unsigned)bits;
  return TRUE;
}

static void clear_bits_past(uint8_t address[16], unsigned bits)
{
  for (unsigned bit = bits; bit < 128; bit++)
    address[bit / 8] &= (uint8_t)~(0x80u >> (bit % 8));
}

bool dg_ip_range_parse(const char *text, struct dg_ip_range *ret_range)
{
  static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const char *slash = strchr(text, '/');
  g_autofree char *host = slash ? g_strndup(text, (gsize)(slash - text)) : g_strdup(text);
  struct dg_ip_range range = {.prefix_bits = 128};
  gboolean is_v4 = inet_pton(AF_INET, host, range.address + 12) == 1;
  unsigned bits = is_v4 ? 32 : 128;

  if (is_v4)
    memcpy(range.address, mapped, sizeof mapped);
  else if (inet_pton(AF_INET6, host, range.address) != 1)
    return false;
  if (slash && !parse_bits(slash + 1, bits, &bits))
    return false;
  range.prefix_bits = (uint8_t)(is_v4 ? bits + 96 : bits);
  clear_bits_past(range.address, range.prefix_bits);
  *ret_range = range;
  return true;
}

static int add_sources(const struct dg_load *load, const char *path, const struct dg_yaml *node,
                       const char *text, struct dg_admission_block *block, struct dg_error *err)
{
  g_auto(GStrv) words = g_strsplit(text, ",", -1);
  guint count = g_strv_length(words);

  if (count > SOURCES_MAX)
    return dg_load_fail(load, node, err, "%s: at most %d addresses and networks", path,
                        SOURCES_MAX);
  block->sources = g_new0(struct dg_ip_range, count);
  for (guint i = 0; i < count; i++)
    if (!dg_ip_range_parse(g_strstrip(words[i]), &block->sources[block->source_count++]))
      return dg_load_fail(load, node, err,
                          "%s: '%.60s' is neither an address nor a network such as 10.0.0.0/8",
                          path, words[i]);
  return 0;
}

/* ---- match -------------------------------------------------------------------------------- */

static int match_methods(const struct dg_load *load, const char *path, const struct dg_yaml *node,
                         const char *text, struct dg_admission_block *block, struct dg_error *err)
{
  static const char *const known[] = {"GET",    "HEAD",  "PUT",     "POST",
                                      "DELETE", "PATCH", "OPTIONS", NULL};
  g_autoptr(GPtrArray) methods = g_ptr_array_new_with_free_func(g_free);
  g_auto(GStrv) words = dg_split_list(text);

  if (!words[0])
    return dg_load_fail(load, node, err, "%s.method: name at least one method", path);
  for (char **word = words; *word; word++) {
    g_autofree char *upper = g_ascii_strup(*word, -1);

    if (!g_strv_contains(known, upper))
      return dg_load_fail(load, node, err,
                          "%s.method: '%.20s' is not one of GET, HEAD, PUT, POST, DELETE, PATCH, "
                          "OPTIONS",
                          path, upper);
    g_ptr_array_add(methods, g_steal_pointer(&upper));
  }
  g_ptr_array_add(methods, NULL);
  block->methods = (char **)g_ptr_array_free(g_steal_pointer(&methods), FALSE);
  return 0;
}

static int match_sources(const struct dg_load *load, const char *path, const struct dg_yaml *map,
                         const struct dg_config *options, struct dg_admission_block *block,
                         struct dg_error *err)
{
  const char *one = options->get_text(options, "source_ip");
  const char *list = options->get_text(options, "source_ip_list");
  const char *key = one ? "source_ip" : "source_ip_list";
  g_autofree char *full = g_strdup_printf("%s.%s", path, key);

  if (one && list)
    return dg_load_fail(load, map, err, "%s: source_ip and source_ip_list exclude each other: "
                                        "drop one",
                        path);
  if (!one && !list)
    return 0;
  if (one && strchr(one, ','))
    return dg_load_fail(load, dg_yaml_get(map, key), err,
                        "%s: one address or network: source_ip_list takes more", full);
  return add_sources(load, full, dg_yaml_get(map, key), one ? one : list, block, err);
}

/* What a pattern must be whoever evaluates it: closed brackets, no stray escape. */
static const char *glob_fault(const char *glob)
{
  const char *c;

  if (!*glob)
    return "is empty";
  if (strlen(glob) > GLOB_MAX_CHARS)
    return "is too long";
  for (c = glob; *c; c++) {
    if (*c == '\\' && !*++c)
      return "ends with a lone '\\'";
    if (*c == '[') {
      c += c[1] == '!' || c[1] == '^' ? 2 : 1;
      c = *c ? strchr(c + 1, ']') : NULL; /* the first one may be a ']' itself */
      if (!c)
        return "has a '[' without its ']'";
    }
  }
  return NULL;
}

static int match_rest(const struct dg_load *load, const char *path, const struct dg_yaml *map,
                      const struct dg_config *options, struct dg_admission_block *block,
                      struct dg_error *err)
{
  const char *bucket = options->get_text(options, "bucket");
  const char *glob = options->get_text(options, "path_glob");
  const char *fault = glob ? glob_fault(glob) : NULL;

  if (fault)
    return dg_load_fail(load, dg_yaml_get(map, "path_glob"), err, "%s.path_glob: '%.60s' %s", path,
                        glob, fault);
  block->bucket = bucket ? g_ascii_strdown(bucket, -1) : NULL;
  block->path_glob = g_strdup(glob);
  if (dg_config_is_set(options, "authenticated"))
    block->authenticated = options->get_bool(options, "authenticated") ? DG_ADMISSION_SIGNED
                                                                       : DG_ADMISSION_UNSIGNED;
  block->config_flag = g_strdup(options->get_text(options, "config_flag"));
  if (block->config_flag && strcmp(block->config_flag, "maintenance_mode") != 0)
    dg_load_warn(load->snapshot,
                 "%s.config_flag: '%s' is not known: the block '%s' never matches", path,
                 block->config_flag, block->name);
  return 0;
}

static int load_match(const struct dg_load *load, const char *block_path,
                      const struct dg_yaml *map, struct dg_admission_block *block,
                      struct dg_error *err)
{
  g_autofree char *path = g_strdup_printf("%s.match", block_path);
  struct dg_config *options;
  const char *methods;
  int result;

  if (!map)
    return 0;
  options = dg_config_new(dg_schema_options(DG_SECTION_ADMISSION_MATCH), path);
  result = dg_load_entry(load, DG_SECTION_ADMISSION_MATCH, NULL, path, map, options, err);
  methods = options->get_text(options, "method");
  if (result == 0 && methods)
    result = match_methods(load, path, dg_yaml_get(map, "method"), methods, block, err);
  if (result == 0)
    result = match_sources(load, path, map, options, block, err);
  if (result == 0)
    result = match_rest(load, path, map, options, block, err);
  dg_config_free(options);
  return result;
}

/* ---- action ------------------------------------------------------------------------------- */

static int judge_action(const struct dg_load *load, const char *path, const struct dg_yaml *node,
                        const struct dg_config *options, struct dg_admission_block *block,
                        struct dg_error *err)
{
  static const struct {
    const char *name;
    enum dg_admission_action action;
  } actions[] = {{"allow-anonymous", DG_ADMISSION_ALLOW_ANONYMOUS},
                 {"deny", DG_ADMISSION_DENY},
                 {"continue", DG_ADMISSION_CONTINUE},
                 {"reject", DG_ADMISSION_REJECT}};
  const char *type = options->get_text(options, "type");
  gboolean has_status = dg_config_is_set(options, "status");

  for (size_t i = 0; i < G_N_ELEMENTS(actions); i++)
    if (!strcmp(type, actions[i].name))
      block->action = actions[i].action;
  if (block->action == DG_ADMISSION_REJECT && !has_status)
    return dg_load_fail(load, node, err, "%s: reject needs a status, 400 to 599", path);
  if (block->action != DG_ADMISSION_REJECT &&
      (has_status || dg_config_is_set(options, "message")))
    return dg_load_fail(load, node, err, "%s: only reject takes a status and a message", path);
  block->reject_status = (uint32_t)options->get_int(options, "status");
  block->reject_message = g_strdup(options->get_text(options, "message"));
  return 0;
}

static int load_action(const struct dg_load *load, const char *block_path,
                       const struct dg_yaml *block_map, const struct dg_yaml *node,
                       struct dg_admission_block *block, struct dg_error *err)
{
  g_autofree char *path = g_strdup_printf("%s.action", block_path);
  struct dg_config *options;
  struct dg_error cause = {0};
  int result = 0;

  if (!node)
    return dg_load_fail(load, block_map, err,
                        "%s: its action is missing: allow-anonymous, deny, continue or reject",
                        block_path);
  options = dg_config_new(dg_schema_options(DG_SECTION_ADMISSION_ACTION), path);
  if (node->type == DG_YAML_SCALAR) {
    if (dg_config_set(options, "type", node->text, &cause) < 0)
      result = dg_load_fail(load, node, err, "%s: %s", path, cause.detail + strlen("type: "));
  } else {
    result = dg_load_entry(load, DG_SECTION_ADMISSION_ACTION, NULL, path, node, options, err);
  }
  if (result == 0 && dg_config_finish(options, &cause) < 0)
    result = dg_load_fail(load, node, err, "%s: %s", path, cause.detail);
  if (result == 0)
    result = judge_action(load, path, node, options, block, err);
  dg_config_free(options);
  return result;
}

/* ---- Blocks ------------------------------------------------------------------------------- */

static const char *name_fault(const struct dg_load *load, const char *name)
{
  if (!*name || strlen(name) > NAME_MAX_CHARS ||
      name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_:.-")])
    return "use 1 to 128 letters, digits, '_', ':', '.' and '-'";
  if (g_str_has_prefix(name, "public-prefix:"))
    return "names that begin with 'public-prefix:' are the server's own";
  for (guint i = 0; i < load->snapshot->admission->len; i++) {
    const struct dg_admission_block *other = load->snapshot->admission->pdata[i];

    if (!strcmp(other->name, name))
      return "another block has this name";
  }
  return NULL;
}

static int load_name(const struct dg_load *load, const char *path, const struct dg_yaml *map,
                     struct dg_admission_block *block, struct dg_error *err)
{
  struct dg_config *options = dg_config_new(dg_schema_options(DG_SECTION_ADMISSION_BLOCK), path);
  struct dg_error cause = {0};
  const char *fault;
  int result = dg_load_entry(load, DG_SECTION_ADMISSION_BLOCK, NULL, path, map, options, err);

  if (result == 0 && dg_config_finish(options, &cause) < 0)
    result = dg_load_fail(load, map, err, "%s: %s", path, cause.detail);
  if (result == 0) {
    block->name = g_strdup(options->get_text(options, "name"));
    fault = name_fault(load, block->name);
    if (fault)
      result = dg_load_fail(load, dg_yaml_get(map, "name"), err, "%s.name: '%.60s': %s", path,
                            block->name, fault);
  }
  dg_config_free(options);
  return result;
}

static int load_block(const struct dg_load *load, const char *path, const struct dg_yaml *map,
                      struct dg_error *err)
{
  struct dg_admission_block *block = g_new0(struct dg_admission_block, 1);

  if (load_name(load, path, map, block, err) < 0 ||
      load_match(load, path, dg_load_entry_part(map, "match"), block, err) < 0 ||
      load_action(load, path, map, dg_load_entry_part(map, "action"), block, err) < 0) {
    dg_admission_block_free(block);
    return -1;
  }
  g_ptr_array_add(load->snapshot->admission, block);
  return 0;
}

int dg_load_admission(const struct dg_load *load, struct dg_error *err)
{
  const struct dg_yaml *list = dg_load_part(load, DG_SECTION_ADMISSION, "blocks");

  if (list && list->type != DG_YAML_LIST)
    return dg_load_fail(load, list, err, "admission.blocks: a list of blocks is expected here");
  for (guint i = 0; list && i < list->values->len; i++) {
    g_autofree char *path = g_strdup_printf("admission.blocks[%u]", i);

    if (load_block(load, path, list->values->pdata[i], err) < 0)
      return -1;
  }
  return 0;
}
