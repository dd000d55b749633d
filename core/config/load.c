/* SPDX-License-Identifier: Apache-2.0 */
/* The sources of a snapshot and their order: file, environment, command line;
 * each later one overrides. */
#include <config.h>

#include "core/config/config.h"

#include <errno.h>
#include <math.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/config/internal.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

#include "common/banned.h"

#define CONFIG_MAX_BYTES (4u * 1024u * 1024u)

extern char **environ;

/* ---- Helpers ----------------------------------------------------------------- */

int dg_load_fail(const struct dg_load *load, const struct dg_yaml *node, struct dg_error *err,
                 const char *format, ...)
{
  char message[200];
  va_list args;

  va_start(args, format);
  (void)g_vsnprintf(message, sizeof message, format, args);
  va_end(args);
  return dg_fail(err, DG_E_CONFIG, "%s:%u:%u: %s", load->file, node->line, node->column, message);
}

void dg_load_warn(struct dg_snapshot *snapshot, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  g_ptr_array_add(snapshot->warnings, g_strdup_vprintf(format, args));
  va_end(args);
}

char **dg_split_list(const char *text)
{
  char **parts = g_strsplit(text ? text : "", ",", -1);
  unsigned kept = 0;

  for (unsigned i = 0; parts[i]; i++) {
    char *lower = g_ascii_strdown(g_strstrip(parts[i]), -1);

    g_free(parts[i]);
    if (*lower)
      parts[kept++] = lower;
    else
      g_free(lower);
  }
  parts[kept] = NULL;
  return parts;
}

int dg_log_level_parse(const char *text)
{
  static const char *const names[] = {"off", "error", "warn", "info", "debug", "trace"};
  g_auto(GStrv) rules = g_strsplit(text, ",", -1);
  int highest = -1;

  for (unsigned i = 0; rules[i]; i++) {
    const char *equals = strchr(rules[i], '=');
    char *level = g_strstrip(equals ? (char *)(uintptr_t)equals + 1 : rules[i]);
    int found = -1;

    for (int n = 0; n < (int)G_N_ELEMENTS(names); n++)
      if (!g_ascii_strcasecmp(level, names[n]))
        found = MIN(n, (int)DG_LOG_DEBUG);
    if (found < 0)
      return -1;
    highest = MAX(highest, found);
  }
  return highest;
}

/* A scalar's text, or a list's entries joined by commas. */
static int node_text(struct dg_load *load, const char *path, const struct dg_option *option,
                     const struct dg_yaml *value, char **ret_text, struct dg_error *err)
{
  GString *joined;

  if (value->type == DG_YAML_SCALAR) {
    *ret_text = g_strdup(value->text);
    return 0;
  }
  if (value->type == DG_YAML_MAP || !dg_schema_is_list(option))
    return dg_load_fail(load, value, err, "%s%s%s: a %s is expected here", path, *path ? "." : "",
                        option->name, dg_option_type_name(option->type));
  joined = g_string_new(NULL);
  for (guint i = 0; i < value->values->len; i++) {
    const struct dg_yaml *entry = value->values->pdata[i];

    if (entry->type != DG_YAML_SCALAR) {
      g_string_free(joined, TRUE);
      return dg_load_fail(load, entry, err, "%s.%s: a list of plain texts is expected here", path,
                          option->name);
    }
    g_string_append_printf(joined, "%s%s", i > 0 ? "," : "", entry->text);
  }
  *ret_text = g_string_free(joined, FALSE);
  return 0;
}

/* `secret_file: PATH` stands for the secret option `secret`. */
static const struct dg_option *secret_of_file_key(const struct dg_option *table, const char *key)
{
  g_autofree char *stem = NULL;
  const struct dg_option *option;

  if (!g_str_has_suffix(key, "_file"))
    return NULL;
  stem = g_strndup(key, strlen(key) - strlen("_file"));
  option = dg_options_find(table, stem);
  return option && option->type == DG_OPT_SECRET ? option : NULL;
}

static int set_secret_from_file(struct dg_load *load, struct dg_config *config,
                                const struct dg_option *option, const struct dg_yaml *value,
                                struct dg_error *err)
{
  g_autoptr(GError) cause = NULL;
  struct dg_error bad = {0};
  char *text = NULL;
  gsize len = 0;
  int result;

  if (value->type != DG_YAML_SCALAR)
    return dg_load_fail(load, value, err, "%s_file: a path is expected here", option->name);
  if (!g_file_get_contents(value->text, &text, &len, &cause))
    return dg_load_fail(load, value, err, "%s_file: %s", option->name, cause->message);
  text[strcspn(text, "\r\n")] = '\0';
  result = dg_config_set(config, option->name, text, &bad);
  OPENSSL_cleanse(text, len);
  g_free(text);
  return result < 0 ? dg_load_fail(load, value, err, "%s", bad.detail) : 0;
}

static int fail_unknown(struct dg_load *load, const char *path, const struct dg_option *table,
                        const struct dg_yaml *key, struct dg_error *err)
{
  const char *near = dg_options_nearest(table, key->text);

  return dg_load_fail(load, key, err, "%s: unknown key '%.60s'%s%s%s", *path ? path : "top level",
                      key->text, near ? ": did you mean '" : "", near ? near : "",
                      near ? "'?" : "");
}

int dg_load_option(struct dg_load *load, struct dg_config *config, const char *path,
                   const struct dg_option *table, const struct dg_yaml *key,
                   const struct dg_yaml *value, struct dg_error *err)
{
  const struct dg_option *option = dg_options_find(table, key->text);
  const struct dg_option *secret = option ? NULL : secret_of_file_key(table, key->text);
  g_autofree char *text = NULL;
  struct dg_error cause = {0};

  if (secret)
    return set_secret_from_file(load, config, secret, value, err);
  if (!option)
    return fail_unknown(load, path, table, key, err);
  if (value->is_null)
    return 0; /* `key:` with nothing: as if absent */
  if (node_text(load, path, option, value, &text, err) < 0)
    return -1;
  if (dg_config_set(config, option->name, text, &cause) < 0)
    return dg_load_fail(load, value, err, "%s.%s", path, cause.detail);
  return 0;
}

/* ---- Sections ------------------------------------------------------------------- */

/* The nested parts of the storage section. */
static const struct dg_yaml **storage_part(struct dg_load *load, const char *key)
{
  if (!strcmp(key, "backend"))
    return &load->backend;
  if (!strcmp(key, "backends"))
    return &load->backends;
  if (!strcmp(key, "buckets"))
    return &load->buckets;
  if (!strcmp(key, "codecs"))
    return &load->codecs;
  return NULL;
}

static int load_key(struct dg_load *load, enum dg_section section, const struct dg_yaml *key,
                    const struct dg_yaml *value, struct dg_error *err)
{
  const char *path = dg_schema_section_name(section);
  const char *unsupported = dg_schema_unsupported(path, key->text);
  const struct dg_yaml **part =
    section == DG_SECTION_STORAGE ? storage_part(load, key->text) : NULL;

  if (unsupported)
    return dg_load_fail(load, key, err, "%s.%s: %s", path, key->text, unsupported);
  if (part) {
    if (!value->is_null)
      *part = value;
    return 0;
  }
  return dg_load_option(load, load->sections[section], path, dg_schema_options(section), key,
                        value, err);
}

static int load_section(struct dg_load *load, enum dg_section section, const struct dg_yaml *map,
                        struct dg_error *err)
{
  if (map->is_null)
    return 0;
  if (map->type != DG_YAML_MAP)
    return dg_load_fail(load, map, err, "%s: a map of options is expected here",
                        dg_schema_section_name(section));
  for (guint i = 0; i < map->keys->len; i++)
    if (load_key(load, section, map->keys->pdata[i], map->values->pdata[i], err) < 0)
      return -1;
  return 0;
}

/* The section a key of the flat shape belongs to, or -1. */
static int flat_section(struct dg_load *load, const char *key)
{
  if (storage_part(load, key))
    return DG_SECTION_STORAGE;
  for (int section = DG_SECTION_ACCESS; section <= DG_SECTION_STORAGE; section++)
    if (dg_options_find(dg_schema_options((enum dg_section)section), key) ||
        secret_of_file_key(dg_schema_options((enum dg_section)section), key) ||
        dg_schema_unsupported(dg_schema_section_name((enum dg_section)section), key))
      return section;
  return -1;
}

/* `access`, `advanced`, `storage` or -1. */
static int named_section(const char *key)
{
  for (int section = DG_SECTION_ACCESS; section <= DG_SECTION_STORAGE; section++)
    if (!strcmp(dg_schema_section_name((enum dg_section)section), key))
      return section;
  return -1;
}

/* Sections, or the older flat shape with the same keys at the root; not both. */
static int load_tree(struct dg_load *load, const struct dg_yaml *root, struct dg_error *err)
{
  static const char *const sections[] = {"access", "storage", "advanced", "defaults", NULL};
  const struct dg_yaml *first_section = NULL, *first_flat = NULL;

  for (guint i = 0; i < root->keys->len; i++) {
    const struct dg_yaml *key = root->keys->pdata[i], *value = root->values->pdata[i];
    const char *unsupported = dg_schema_unsupported("", key->text);
    int section = named_section(key->text), flat = section < 0 ? flat_section(load, key->text) : -1;

    if (unsupported)
      return dg_load_fail(load, key, err, "%s: %s", key->text, unsupported);
    if (!strcmp(key->text, "defaults")) {
      if (value->type != DG_YAML_SCALAR || strcmp(value->text, "v1") != 0)
        return dg_load_fail(load, value, err, "defaults: only v1 is known");
      continue;
    }
    if (section < 0 && flat < 0) {
      const char *near = dg_nearest_name(sections, key->text);

      return dg_load_fail(load, key, err, "unknown key '%.60s'%s%s%s", key->text,
                          near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (section >= 0 && !first_section)
      first_section = key;
    if (flat >= 0 && !first_flat)
      first_flat = key;
    if (first_section && first_flat)
      return dg_load_fail(load, key, err,
                          "the section '%s' and the option '%s' stand side by side: put every "
                          "option into its section",
                          first_section->text, first_flat->text);
    if (section >= 0 ? load_section(load, (enum dg_section)section, value, err) < 0
                     : load_key(load, (enum dg_section)flat, key, value, err) < 0)
      return -1;
  }
  return 0;
}

/* ---- Sources ---------------------------------------------------------------------- */

/* *ret_file is NULL when there is no file, which is fine. */
static int find_file(const struct dg_load_params *params, char **ret_file, struct dg_error *err)
{
  static const char *const places[] = {
    "deltaglider_proxy.yaml",
    "deltaglider_proxy.yml",
    "deltaglider_proxy.toml",
    "/etc/deltaglider_proxy/config.yaml",
    "/etc/deltaglider_proxy/config.yml",
    "/etc/deltaglider_proxy/config.toml",
  };
  const char *file = params->config_file;

  if (!file && !params->lint && getenv("DGP_CONFIG") && *getenv("DGP_CONFIG"))
    file = getenv("DGP_CONFIG");
  for (size_t i = 0; !file && i < G_N_ELEMENTS(places); i++)
    if (g_file_test(places[i], G_FILE_TEST_EXISTS))
      file = places[i];
  if (file && g_str_has_suffix(file, ".toml"))
    return dg_fail(err, DG_E_CONFIG, "%s: TOML is not supported: write the same keys as YAML",
                   file);
  *ret_file = g_strdup(file);
  return 0;
}

static int read_file(const char *file, char **ret_text, gsize *ret_len, struct dg_error *err)
{
  g_autoptr(GError) cause = NULL;
  struct stat facts;

  if (stat(file, &facts) == 0 && facts.st_size > CONFIG_MAX_BYTES)
    return dg_fail(err, DG_E_IO, "%s: a configuration has at most %u bytes", file,
                   CONFIG_MAX_BYTES);
  if (!g_file_get_contents(file, ret_text, ret_len, &cause))
    return dg_fail(err, DG_E_IO, "cannot read the configuration: %s", cause->message);
  return 0;
}

static int parse_file(struct dg_load *load, struct dg_yaml **ret_root, struct dg_error *err)
{
  g_autofree char *raw = NULL;
  GString *text = NULL;
  gsize len = 0;
  int result;

  if (read_file(load->file, &raw, &len, err) < 0 ||
      dg_yaml_interpolate((struct dg_slice){raw, len}, load->file, &text, err) < 0)
    return -1;
  result = dg_yaml_parse((struct dg_slice){text->str, text->len}, load->file, ret_root, err);
  OPENSSL_cleanse(text->str, text->len); /* it may hold secrets */
  OPENSSL_cleanse(raw, len);
  g_string_free(text, TRUE);
  return result;
}

static int apply_env(struct dg_load *load, struct dg_error *err)
{
  for (int section = DG_SECTION_ACCESS; section <= DG_SECTION_STORAGE; section++) {
    const struct dg_option *option = dg_schema_options((enum dg_section)section);

    for (; option->name; option++) {
      const char *name = dg_schema_env((enum dg_section)section, option);
      const char *text = name ? getenv(name) : NULL;
      struct dg_error cause = {0};

      if (!text || !*text)
        continue;
      if (dg_config_set(load->sections[section], option->name, text, &cause) == 0)
        continue;
      if (option->type != DG_OPT_BOOL)
        return dg_fail(err, DG_E_CONFIG, "environment %s: %s", name, cause.detail);
      dg_load_warn(load->snapshot, "environment %s: %s: ignored", name, cause.detail);
    }
  }
  if (getenv("RUST_LOG") && *getenv("RUST_LOG"))
    return dg_config_set(load->sections[DG_SECTION_ADVANCED], "log_level", getenv("RUST_LOG"),
                         err);
  return 0;
}

/* A mistyped DGP_ variable would otherwise be silently without effect. */
static void warn_unknown_env(struct dg_load *load)
{
  static const char *const others[] = {"DGP_CONFIG", "DGP_PLUGIN_DIR", "DGP_FAULT"};

  for (char **entry = environ; *entry; entry++) {
    g_autofree char *name = g_strndup(*entry, strcspn(*entry, "="));
    gboolean known = !g_str_has_prefix(name, "DGP_") || g_str_has_prefix(name, "DGP_BACKEND_");

    for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
      known = known || !strcmp(name, others[i]);
    for (int section = DG_SECTION_ACCESS; !known && section <= DG_SECTION_STORAGE; section++)
      for (const struct dg_option *o = dg_schema_options((enum dg_section)section); o->name; o++)
        known = known || !g_strcmp0(dg_schema_env((enum dg_section)section, o), name);
    if (!known)
      dg_load_warn(load->snapshot, "environment %s is not known to this version: no effect", name);
  }
}

static int apply_command_line(struct dg_load *load, struct dg_error *err)
{
  const struct dg_load_params *params = load->params;

  if (params->listen_addr && dg_config_set(load->sections[DG_SECTION_ADVANCED], "listen_addr",
                                           params->listen_addr, err) < 0)
    return -1;
  if (params->log_level && !dg_config_is_set(load->sections[DG_SECTION_ADVANCED], "log_level") &&
      dg_config_set(load->sections[DG_SECTION_ADVANCED], "log_level", params->log_level, err) < 0)
    return -1;
  if (params->data_dir) {
    if (load->backends)
      return dg_load_fail(load, load->backends, err,
                          "storage.backends and --data-dir exclude each other: drop one");
    return dg_config_set(load->sections[DG_SECTION_STORAGE], "filesystem", params->data_dir, err);
  }
  return 0;
}

/* ---- From options to fields --------------------------------------------------------- */

/* Up to one number per CPU, as the manual says of 0. */
static uint32_t threads_or(int64_t number, unsigned per_cpu, unsigned minimum)
{
  return number > 0 ? (uint32_t)number : MAX(g_get_num_processors() * per_cpu, minimum);
}

static double sane_ratio(struct dg_snapshot *snapshot, double ratio)
{
  if (isfinite(ratio) && ratio >= 0)
    return ratio;
  dg_load_warn(snapshot, "advanced.max_delta_ratio is not a ratio: 0.75 is used");
  return 0.75;
}

static char *codec_plugin_name(const char *codec)
{
  return g_str_has_prefix(codec, "codec-") ? g_strdup(codec) : g_strconcat("codec-", codec, NULL);
}

static int apply_log(struct dg_snapshot *snapshot, const struct dg_config *advanced,
                     struct dg_error *err)
{
  const char *text = advanced->get_text(advanced, "log_level");
  int level = dg_log_level_parse(text);

  if (level < 0)
    return dg_fail(err, DG_E_CONFIG,
                   "advanced.log_level: '%s' is not a log level: use off, error, warn, info or "
                   "debug",
                   text);
  snapshot->log_level = (uint32_t)level;
  snapshot->json_log = !strcmp(advanced->get_text(advanced, "log_format"), "json");
  return 0;
}

int dg_snapshot_apply_advanced(struct dg_snapshot *snapshot, const struct dg_config *advanced,
                               struct dg_error *err)
{
  const struct dg_config *a = advanced;
  struct dg_bucket_config *defaults = &snapshot->bucket_defaults;
  int64_t workers = a->get_int(a, "worker_threads");

  if (apply_log(snapshot, a, err) < 0)
    return -1;
  snapshot->listen_addr = g_strdup(a->get_text(a, "listen_addr"));
  snapshot->max_delta_ratio = sane_ratio(snapshot, a->get_double(a, "max_delta_ratio"));
  snapshot->max_object_size = (uint64_t)a->get_int(a, "max_object_size");
  snapshot->max_delta_object_size = (uint64_t)a->get_int(a, "max_delta_object_size");
  snapshot->max_passthrough_object_size = (uint64_t)a->get_int(a, "max_passthrough_object_size");
  snapshot->cache_bytes = (uint64_t)a->get_int(a, "cache_size_mb") << 20;
  snapshot->metadata_cache_bytes = (uint64_t)a->get_int(a, "metadata_cache_mb") << 20;
  snapshot->codec_concurrency = threads_or(a->get_int(a, "codec_concurrency"), 4, 16);
  snapshot->worker_threads =
    threads_or(workers > 0 ? workers : a->get_int(a, "blocking_threads"), 4, 16);
  snapshot->loop_threads = threads_or(a->get_int(a, "loop_threads"), 1, 1);
  if (a->get_text(a, "base_domains"))
    snapshot->base_domains = dg_split_list(a->get_text(a, "base_domains"));
  snapshot->max_concurrent_requests = (uint32_t)a->get_int(a, "max_concurrent_requests");
  snapshot->request_timeout_s = (uint32_t)a->get_int(a, "request_timeout_secs");
  snapshot->clock_skew_s = (uint32_t)a->get_int(a, "clock_skew_seconds");
  snapshot->replay_window_s = (uint32_t)a->get_int(a, "replay_window_secs");
  snapshot->max_multipart_uploads = (uint32_t)a->get_int(a, "max_multipart_uploads");
  snapshot->multipart_idle_ttl_s = (uint32_t)a->get_int(a, "multipart_idle_ttl_hours") * 3600;
  snapshot->multipart_sweep_interval_s =
    (uint32_t)a->get_int(a, "multipart_sweep_interval_secs");
  snapshot->debug_headers = a->get_bool(a, "debug_headers");
  snapshot->stats_open = a->get_bool(a, "stats_open");

  defaults->name = g_strdup("");
  defaults->compression = snapshot->max_delta_ratio > 0;
  defaults->max_delta_ratio = snapshot->max_delta_ratio;
  defaults->delta_suffixes = dg_split_list(a->get_text(a, "delta_suffixes"));
  defaults->codec = codec_plugin_name(a->get_text(a, "codec"));
  defaults->verify_passthrough_reads = a->get_bool(a, "verify_passthrough_reads");
  return 0;
}

static int apply_access(struct dg_load *load, struct dg_error *err)
{
  const struct dg_config *access = load->sections[DG_SECTION_ACCESS];
  struct dg_snapshot *snapshot = load->snapshot;
  const char *key = access->get_text(access, "access_key_id");
  const char *secret = access->get_text(access, "secret_access_key");
  bool has_key = key && *key, has_secret = secret && *secret;

  snapshot->authentication_none = access->get_text(access, "authentication") != NULL;
  if (has_key != has_secret)
    return dg_fail(err, DG_E_CONFIG,
                   "access.%s is set without access.%s: set both (DGP_ACCESS_KEY_ID and "
                   "DGP_SECRET_ACCESS_KEY), or neither",
                   has_key ? "access_key_id" : "secret_access_key",
                   has_key ? "secret_access_key" : "access_key_id");
  if (has_key && snapshot->authentication_none) {
    dg_load_warn(snapshot, "access.authentication is none: the configured credentials are ignored "
                           "and all data is open to everyone who can connect");
    return 0;
  }
  if (snapshot->authentication_none)
    dg_load_warn(snapshot, "access.authentication is none: all data is open to everyone who can "
                           "connect");
  if (has_key) {
    snapshot->access_key_id = g_strdup(key);
    snapshot->secret_access_key = g_strdup(secret);
  } else if (!snapshot->authentication_none && load->params->lint) {
    dg_load_warn(snapshot, "no credentials here: the server starts only with DGP_ACCESS_KEY_ID and "
                           "DGP_SECRET_ACCESS_KEY in its environment");
  } else if (!snapshot->authentication_none) {
    return dg_fail(err, DG_E_CONFIG,
                   "no credentials: set access.access_key_id and access.secret_access_key "
                   "(DGP_ACCESS_KEY_ID, DGP_SECRET_ACCESS_KEY), or say access.authentication: "
                   "none to serve everyone");
  }
  return 0;
}

/* The folder named, or one beside the data of the first filesystem backend. */
static char *folder(const struct dg_load *load, const char *option, const char *name)
{
  const struct dg_config *advanced = load->sections[DG_SECTION_ADVANCED];
  const char *given = advanced->get_text(advanced, option);
  g_autofree char *beside = NULL;

  for (guint i = 0; !given && i < load->snapshot->backends->len; i++) {
    const struct dg_backend_config *backend = load->snapshot->backends->pdata[i];

    if (!strcmp(backend->type, "filesystem") && backend->options)
      given = beside =
        g_build_filename(backend->options->get_text(backend->options, "path"), name, NULL);
  }
  return g_canonicalize_filename(given ? given : name, NULL);
}

static int finish(struct dg_load *load, struct dg_error *err)
{
  struct dg_snapshot *snapshot = load->snapshot;

  for (int section = DG_SECTION_ACCESS; section <= DG_SECTION_STORAGE; section++)
    if (dg_config_finish(load->sections[section], err) < 0)
      return -1;
  if (apply_access(load, err) < 0 ||
      dg_snapshot_apply_advanced(snapshot, load->sections[DG_SECTION_ADVANCED], err) < 0 ||
      dg_load_storage(load, err) < 0)
    return -1;
  snapshot->cache_dir = folder(load, "cache_dir", ".dg-cache");
  snapshot->spool_dir = folder(load, "spool_dir", ".dg-spool");
  snapshot->state_dir = folder(load, "state_dir", ".dg-state");
  return 0;
}

static int load_all(struct dg_load *load, struct dg_yaml **root, struct dg_error *err)
{
  char *file = NULL;

  if (find_file(load->params, &file, err) < 0)
    return -1;
  if (file) {
    load->file = file;
    load->snapshot->file = g_strdup(file);
    if (parse_file(load, root, err) < 0 || load_tree(load, *root, err) < 0)
      return -1;
  } else {
    load->file = g_strdup("(no file)");
  }
  if (!load->params->lint) {
    if (apply_env(load, err) < 0)
      return -1;
    warn_unknown_env(load);
  }
  if (apply_command_line(load, err) < 0)
    return -1;
  return finish(load, err);
}

int dg_snapshot_load(const struct dg_load_params *params, struct dg_plug_table *table,
                     struct dg_snapshot **ret_snapshot, struct dg_error *err)
{
  struct dg_load load = {.params = params, .table = table, .snapshot = dg_snapshot_new()};
  struct dg_yaml *root = NULL;
  int result;

  for (int section = DG_SECTION_ACCESS; section <= DG_SECTION_STORAGE; section++)
    load.sections[section] = dg_config_new(dg_schema_options((enum dg_section)section),
                                           dg_schema_section_name((enum dg_section)section));
  result = load_all(&load, &root, err);
  for (int section = DG_SECTION_ACCESS; section <= DG_SECTION_STORAGE; section++)
    dg_config_free(load.sections[section]);
  dg_yaml_free(root);
  g_free(load.file);
  if (result < 0) {
    dg_snapshot_unref(load.snapshot);
    return -1;
  }
  *ret_snapshot = load.snapshot;
  return 0;
}
