/* SPDX-License-Identifier: Apache-2.0 */
/* The sources of a snapshot and their order: file, environment, command line;
 * each later one overrides. */
#include <config.h>

#include "core/config/config.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/config/internal.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

#include "common/banned.h"

#define CONFIG_MAX_BYTES (4u * 1024u * 1024u)

extern char **environ;

/* ---- The file ---------------------------------------------------------------------- */

int dg_snapshot_find_file(const struct dg_load_params *params, char **ret_file,
                          struct dg_error *err)
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

/* Text to the snapshot's document, in the canonical shape. */
static int parse_text(const struct dg_load *load, struct dg_slice raw, struct dg_error *err)
{
  g_autoptr(GArray) edits = NULL;
  GString *text = NULL;
  int result;

  if (dg_yaml_interpolate(raw, load->file, &text, &edits, err) < 0)
    return -1;
  result = dg_yaml_parse((struct dg_slice){text->str, text->len}, load->file, edits,
                         &load->snapshot->document, err);
  OPENSSL_cleanse(text->str, text->len); /* it may hold secrets of the file's */
  g_string_free(text, TRUE);
  return result < 0 ? -1 : dg_load_shape(load, load->snapshot->document, err);
}

static int parse_file(const struct dg_load *load, struct dg_error *err)
{
  g_autofree char *raw = NULL;
  gsize len = 0;
  int result;

  if (load->params->text.data)
    return parse_text(load, load->params->text, err);
  if (read_file(load->file, &raw, &len, err) < 0)
    return -1;
  result = parse_text(load, (struct dg_slice){raw, len}, err);
  OPENSSL_cleanse(raw, len);
  return result;
}

/* The options that stand in the sections themselves. */
static int load_sections(const struct dg_load *load, struct dg_error *err)
{
  for (int section = 0; section < DG_SECTION_TOP_COUNT; section++) {
    const char *name = dg_schema_section_name((enum dg_section)section);

    if (dg_load_entry(load, (enum dg_section)section, NULL, name,
                      dg_yaml_get(load->snapshot->document, name),
                      section < DG_SNAPSHOT_SECTIONS ? load->snapshot->options[section] : NULL,
                      err) < 0)
      return -1;
  }
  return 0;
}

/* ---- The environment and the command line ---------------------------------------------- */

static int apply_env(const struct dg_load *load, struct dg_error *err)
{
  for (int section = 0; section < DG_SNAPSHOT_SECTIONS; section++) {
    const struct dg_option *option = dg_schema_options((enum dg_section)section);

    for (; option->name; option++) {
      const char *name = dg_schema_env((enum dg_section)section, option);

      /* What a backend is made of is told from the environment as a whole. */
      if (!name || (section == DG_SECTION_STORAGE && dg_schema_shorthand(option->name)))
        continue;
      if (dg_load_env(load, load->snapshot->options[section], option, name, err) < 0)
        return -1;
    }
  }
  if (getenv("RUST_LOG") && *getenv("RUST_LOG"))
    return dg_config_set(load->snapshot->options[DG_SECTION_ADVANCED], "log_level",
                         getenv("RUST_LOG"), err);
  return 0;
}

/* A mistyped DGP_ variable would otherwise be silently without effect. */
static void warn_unknown_env(const struct dg_load *load)
{
  for (char **entry = environ; *entry; entry++) {
    g_autofree char *name = g_strndup(*entry, strcspn(*entry, "="));

    if (g_str_has_prefix(name, "DGP_") && !dg_schema_is_known_env(name))
      dg_load_warn(load->snapshot, "environment %s is not known to this version: no effect", name);
  }
}

static int apply_command_line(const struct dg_load *load, struct dg_error *err)
{
  const struct dg_load_params *params = load->params;
  struct dg_config *advanced = load->snapshot->options[DG_SECTION_ADVANCED];
  const struct dg_yaml *backends = dg_load_part(load, DG_SECTION_STORAGE, "backends");

  if (params->listen_addr && dg_config_set(advanced, "listen_addr", params->listen_addr, err) < 0)
    return -1;
  if (params->log_level && !dg_config_is_set(advanced, "log_level") &&
      dg_config_set(advanced, "log_level", params->log_level, err) < 0)
    return -1;
  if (params->data_dir && backends)
    return dg_load_fail(load, backends, err,
                        "storage.backends and --data-dir exclude each other: drop one");
  return 0;
}

/* ---- All of it --------------------------------------------------------------------------- */

/* The folder named, or one beside the data of the first filesystem backend. These
 * folders hold plaintext: they never lie beside what is sealed. */
static char *folder(const struct dg_load *load, const char *option, const char *name)
{
  const struct dg_config *advanced = load->snapshot->options[DG_SECTION_ADVANCED];
  const char *given = advanced->get_text(advanced, option);
  g_autofree char *beside = NULL;

  for (guint i = 0; !given && i < load->snapshot->backends->len; i++) {
    const struct dg_backend_config *backend = load->snapshot->backends->pdata[i];

    if (!strcmp(backend->type, "filesystem") && backend->options &&
        !(backend->encryption && backend->encryption->seals_writes))
      given = beside =
        g_build_filename(backend->options->get_text(backend->options, "path"), name, NULL);
  }
  return g_canonicalize_filename(given ? given : name, NULL);
}

/* The option holds what was chosen, so that two snapshots compare by it. */
static int choose_folder(const struct dg_load *load, const char *option, const char *name,
                         char **ret_folder, struct dg_error *err)
{
  char *path = folder(load, option, name);

  *ret_folder = path;
  return dg_config_set(load->snapshot->options[DG_SECTION_ADVANCED], option, path, err);
}

static int finish(const struct dg_load *load, struct dg_error *err)
{
  struct dg_snapshot *snapshot = load->snapshot;

  for (int section = 0; section < DG_SNAPSHOT_SECTIONS; section++)
    if (dg_config_finish(snapshot->options[section], err) < 0)
      return -1;
  if (dg_load_access(load, err) < 0 ||
      dg_snapshot_apply_advanced(snapshot, snapshot->options[DG_SECTION_ADVANCED], err) < 0 ||
      dg_load_tls(load, err) < 0 || dg_load_admission(load, err) < 0 ||
      dg_load_storage(load, err) < 0)
    return -1;
  if (choose_folder(load, "cache_dir", ".dg-cache", &snapshot->cache_dir, err) < 0 ||
      choose_folder(load, "spool_dir", ".dg-spool", &snapshot->spool_dir, err) < 0)
    return -1;
  return choose_folder(load, "state_dir", ".dg-state", &snapshot->state_dir, err);
}

static int load_all(struct dg_load *load, struct dg_error *err)
{
  char *file = NULL;

  if (dg_snapshot_find_file(load->params, &file, err) < 0)
    return -1;
  load->snapshot->file = file;
  load->file = g_strdup(file ? file : "(no file)");
  if (file && (parse_file(load, err) < 0 || load_sections(load, err) < 0))
    return -1;
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
  int result;

  for (int section = 0; section < DG_SNAPSHOT_SECTIONS; section++)
    load.snapshot->options[section] =
      dg_config_new(dg_schema_options((enum dg_section)section),
                    dg_schema_section_name((enum dg_section)section));
  result = load_all(&load, err);
  g_free(load.file);
  if (result < 0) {
    dg_snapshot_unref(load.snapshot);
    return -1;
  }
  *ret_snapshot = load.snapshot;
  return 0;
}
