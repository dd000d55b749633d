/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/config/schema.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

#include "common/banned.h"

static const char usage_text[] =
  "Usage: deltaglider_proxy [OPTION]...\n"
  "       deltaglider_proxy config lint FILE\n"
  "       deltaglider_proxy config schema|defaults|example [--out FILE]\n"
  "       deltaglider_proxy config export FILE [--out FILE]\n"
  "       deltaglider_proxy admission trace --method METHOD --path PATH [--query QUERY]\n"
  "                         [--authenticated] [--source-ip ADDRESS] [--config FILE]\n"
  "\n"
  "Serves S3 in front of existing storage, and keeps versions of binaries as\n"
  "deltas. Without a command it serves until SIGTERM.\n"
  "\n"
  "  -c, --config FILE           read this configuration\n"
  "  -l, --listen ADDRESS:PORT   listen here (advanced.listen_addr)\n"
  "  -d, --data-dir FOLDER       one filesystem backend there (storage.filesystem)\n"
  "      --plugin-dir FOLDER     look for plugins here first\n"
  "  -v, --verbose               log debug messages\n"
  "      --list-plugins          name the plugins on the search path\n"
  "      --describe-plugin NAME  show a plugin and its options\n"
  "      --show-env              show the environment variables and their values\n"
  "      --explain               do nothing but tell what the other arguments mean\n"
  "      --out FILE              write there what a config command prints\n"
  "      --version               show the version\n"
  "  -h, --help                  show this\n"
  "\n"
  "The server does not start without credentials: set DGP_ACCESS_KEY_ID and\n"
  "DGP_SECRET_ACCESS_KEY, or say access.authentication: none in its file.\n"
  "See deltaglider_proxy(8) and deltaglider_proxy.yaml(5).\n";

enum {
  OPT_PLUGIN_DIR = 256,
  OPT_LIST,
  OPT_DESCRIBE,
  OPT_SHOW_ENV,
  OPT_EXPLAIN,
  OPT_OUT,
  OPT_VERSION,
  OPT_METHOD,
  OPT_PATH,
  OPT_QUERY,
  OPT_SOURCE_IP,
  OPT_AUTHENTICATED,
};

static const struct option long_options[] = {
  {"config", required_argument, NULL, 'c'},
  {"listen", required_argument, NULL, 'l'},
  {"data-dir", required_argument, NULL, 'd'},
  {"plugin-dir", required_argument, NULL, OPT_PLUGIN_DIR},
  {"verbose", no_argument, NULL, 'v'},
  {"list-plugins", no_argument, NULL, OPT_LIST},
  {"describe-plugin", required_argument, NULL, OPT_DESCRIBE},
  {"show-env", no_argument, NULL, OPT_SHOW_ENV},
  {"explain", no_argument, NULL, OPT_EXPLAIN},
  {"out", required_argument, NULL, OPT_OUT},
  {"version", no_argument, NULL, OPT_VERSION},
  {"method", required_argument, NULL, OPT_METHOD},
  {"path", required_argument, NULL, OPT_PATH},
  {"query", required_argument, NULL, OPT_QUERY},
  {"source-ip", required_argument, NULL, OPT_SOURCE_IP},
  {"authenticated", no_argument, NULL, OPT_AUTHENTICATED},
  {"help", no_argument, NULL, 'h'},
  {NULL, 0, NULL, 0},
};

static int usage_error(const char *cause)
{
  (void)fprintf(stderr, "deltaglider_proxy: %s\nTry 'deltaglider_proxy --help'.\n", cause);
  return DG_EXIT_USAGE;
}

/* The words behind `config`. */
static const struct {
  const char *name;
  enum dg_command command;
  int argument_count;
} config_commands[] = {
  {"lint", DG_COMMAND_CONFIG_LINT, 1},
  {"schema", DG_COMMAND_CONFIG_SCHEMA, 0},
  {"defaults", DG_COMMAND_CONFIG_SCHEMA, 0}, /* the schema has them */
  {"example", DG_COMMAND_CONFIG_EXAMPLE, 0},
  {"export", DG_COMMAND_CONFIG_EXPORT, 1},
};

static bool asks_to_trace(const struct dg_trace_question *trace)
{
  return trace->method || trace->path || trace->query || trace->source_ip || trace->authenticated;
}

static int parse_trace(struct dg_cli *cli)
{
  if (!cli->trace.method || !cli->trace.path || cli->out_file)
    return usage_error("admission trace needs --method and --path, and takes no --out");
  cli->command = DG_COMMAND_ADMISSION_TRACE;
  return 0;
}

static int parse_command(int count, char **words, struct dg_cli *cli)
{
  if (count == 2 && !strcmp(words[0], "admission") && !strcmp(words[1], "trace"))
    return parse_trace(cli);
  if (asks_to_trace(&cli->trace))
    return usage_error("--method, --path, --query, --source-ip and --authenticated go with "
                       "admission trace");
  if (count == 0)
    return cli->out_file ? usage_error("--out goes with a config command that prints") : 0;
  for (size_t i = 0; i < G_N_ELEMENTS(config_commands) && !strcmp(words[0], "config"); i++) {
    if (count != 2 + config_commands[i].argument_count ||
        strcmp(words[1], config_commands[i].name) != 0)
      continue;
    cli->command = config_commands[i].command;
    cli->argument = config_commands[i].argument_count ? words[2] : NULL;
    return cli->out_file && cli->command == DG_COMMAND_CONFIG_LINT
             ? usage_error("config lint takes no --out")
             : 0;
  }
  return usage_error("unknown command: use no command, 'config lint FILE', 'config export FILE', "
                     "'config schema', 'config defaults', 'config example' or 'admission trace'");
}

int dg_cli_parse(int argc, char **argv, struct dg_cli *ret_cli)
{
  struct dg_cli cli = {.command = DG_COMMAND_SERVE};
  bool explains = false;
  int option;

  while ((option = getopt_long(argc, argv, "c:l:d:vh", long_options, NULL)) != -1) {
    switch (option) {
    case 'c':
      cli.load.config_file = optarg;
      break;
    case 'l':
      cli.load.listen_addr = optarg;
      break;
    case 'd':
      cli.load.data_dir = optarg;
      break;
    case 'v':
      cli.load.log_level = "debug";
      break;
    case 'h':
      cli.command = DG_COMMAND_HELP;
      break;
    case OPT_PLUGIN_DIR:
      cli.plugin_dir = optarg;
      break;
    case OPT_LIST:
      cli.command = DG_COMMAND_LIST_PLUGINS;
      break;
    case OPT_DESCRIBE:
      cli.command = DG_COMMAND_DESCRIBE_PLUGIN;
      cli.argument = optarg;
      break;
    case OPT_SHOW_ENV:
      cli.command = DG_COMMAND_SHOW_ENV;
      break;
    case OPT_EXPLAIN:
      explains = true;
      break;
    case OPT_OUT:
      cli.out_file = optarg;
      break;
    case OPT_VERSION:
      cli.command = DG_COMMAND_VERSION;
      break;
    case OPT_METHOD:
      cli.trace.method = optarg;
      break;
    case OPT_PATH:
      cli.trace.path = optarg;
      break;
    case OPT_QUERY:
      cli.trace.query = optarg;
      break;
    case OPT_SOURCE_IP:
      cli.trace.source_ip = optarg;
      break;
    case OPT_AUTHENTICATED:
      cli.trace.authenticated = true;
      break;
    default: /* getopt_long has told what is wrong */
      (void)fprintf(stderr, "Try 'deltaglider_proxy --help'.\n");
      return DG_EXIT_USAGE;
    }
  }
  if (parse_command(argc - optind, argv + optind, &cli) != 0)
    return DG_EXIT_USAGE;
  cli.serves = cli.command == DG_COMMAND_SERVE;
  if (explains)
    cli.command = DG_COMMAND_EXPLAIN;
  *ret_cli = cli;
  return 0;
}

/* ---- Commands ----------------------------------------------------------------- */

static int print(GString *text)
{
  return fputs(text->str, stdout) < 0 || fflush(stdout) != 0 ? DG_EXIT_IO : DG_EXIT_OK;
}

/* To --out, whole or not at all; else to standard output. */
static int deliver(const struct dg_cli *cli, GString *text)
{
  g_autoptr(GError) cause = NULL;

  if (!cli->out_file)
    return print(text);
  if (g_file_set_contents_full(cli->out_file, text->str, (gssize)text->len,
                               G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0666,
                               &cause))
    return DG_EXIT_OK;
  (void)fprintf(stderr, "deltaglider_proxy: %s\n", cause->message);
  return DG_EXIT_IO;
}

static struct dg_plug_table *open_table(const struct dg_cli *cli)
{
  g_auto(GStrv) dirs = dg_plug_search_path(cli->plugin_dir);

  return dg_plug_table_new((const char *const *)dirs);
}

static int list_plugins(const struct dg_cli *cli)
{
  struct dg_plug_table *table = open_table(cli);
  g_auto(GStrv) names = dg_plug_names(table);
  g_autoptr(GString) out = g_string_new(NULL);
  int result = DG_EXIT_OK;

  for (char **name = names; *name; name++) {
    const struct dg_module *module;
    struct dg_error err = {0};

    if (dg_plug_load(table, *name, &module, &err) < 0) {
      (void)fprintf(stderr, "%s: does not load: %s\n", *name, err.detail);
      result = DG_EXIT_START;
      continue;
    }
    g_string_append_printf(out, "%-20s %-10s %s\n", *name, module->plugin.version,
                           module->plugin.summary);
  }
  (void)print(out);
  dg_plug_table_free(table);
  return result;
}

static int describe_plugin(const struct dg_cli *cli)
{
  struct dg_plug_table *table = open_table(cli);
  g_autoptr(GString) out = g_string_new(NULL);
  const struct dg_module *module;
  struct dg_error err = {0};

  if (dg_plug_load(table, cli->argument, &module, &err) < 0) {
    (void)fprintf(stderr, "deltaglider_proxy: %s\n", err.detail);
    dg_plug_table_free(table);
    return DG_EXIT_START;
  }
  g_string_append_printf(out, "%s %s: %s\n", module->plugin.name, module->plugin.version,
                         module->plugin.summary);
  g_string_append_printf(out, "file: %s\nkind: %s, plugin ABI %u.%u, %s\n", module->file,
                         dg_kind_name(module->plugin.kind), module->plugin.abi_major,
                         module->plugin.abi_minor,
                         module->plugin.threads == DG_THREADS_SERIAL ? "serial" : "parallel");
  g_string_append(out, module->plugin.options && module->plugin.options->name
                         ? "options:\n"
                         : "options: none\n");
  dg_schema_print_options(out, module->plugin.options);
  dg_plug_table_free(table);
  return print(out);
}

/* The file alone, without environment and command line. Tells stderr about
 * failures and returns their exit code. */
static int load_file(const char *file, struct dg_plug_table *table,
                     struct dg_snapshot **ret_snapshot)
{
  struct dg_load_params params = {.config_file = file, .lint = true};
  struct dg_error err = {0};

  if (dg_snapshot_load(&params, table, ret_snapshot, &err) == 0)
    return DG_EXIT_OK;
  (void)fprintf(stderr, "%s\n", err.detail);
  return err.code == DG_E_IO                 ? DG_EXIT_IO
         : err.code == DG_E_INVALID_ARGUMENT ? DG_EXIT_PARSE
                                             : DG_EXIT_REJECTED;
}

static int lint(const struct dg_cli *cli)
{
  struct dg_plug_table *table = open_table(cli);
  struct dg_snapshot *snapshot = NULL;
  int result = load_file(cli->argument, table, &snapshot);

  for (guint i = 0; snapshot && i < snapshot->errors->len; i++)
    (void)fprintf(stderr, "error: %s\n", (const char *)snapshot->errors->pdata[i]);
  for (guint i = 0; snapshot && i < snapshot->warnings->len; i++)
    (void)fprintf(stderr, "warning: %s\n", (const char *)snapshot->warnings->pdata[i]);
  if (snapshot)
    (void)printf("%s: valid\n", cli->argument);
  dg_snapshot_unref(snapshot);
  dg_plug_table_free(table);
  return result;
}

static int export_file(const struct dg_cli *cli)
{
  struct dg_plug_table *table = open_table(cli);
  struct dg_snapshot *snapshot = NULL;
  g_autoptr(GString) out = g_string_new(NULL);
  int result = load_file(cli->argument, table, &snapshot);

  if (snapshot) {
    dg_snapshot_export(snapshot, DG_EXPORT_API, out);
    result = deliver(cli, out);
  }
  dg_snapshot_unref(snapshot);
  dg_plug_table_free(table);
  return result;
}

/* Over the file that the server would read: the rules come from nowhere else. */
static int trace(const struct dg_cli *cli)
{
  struct dg_plug_table *table = open_table(cli);
  struct dg_snapshot *snapshot = NULL;
  g_autoptr(GString) out = g_string_new(NULL);
  const char *named = getenv("DGP_CONFIG");
  const char *file = cli->load.config_file ? cli->load.config_file
                     : named && *named     ? named
                                           : NULL;
  struct dg_error err = {0};
  int result = load_file(file, table, &snapshot);

  if (snapshot && dg_trace_print(snapshot, &cli->trace, out, &err) < 0)
    result = usage_error(err.detail);
  else if (snapshot)
    result = print(out);
  dg_snapshot_unref(snapshot);
  dg_plug_table_free(table);
  return result;
}

static void append_assignment(GString *out, const char *name, const char *value)
{
  g_autofree char *quoted = g_shell_quote(value ? value : "");

  g_string_append_printf(out, "%s=%s\n", name, quoted);
}

/* For scripts that start the server: they need not know its options. */
static int explain(const struct dg_cli *cli)
{
  g_autoptr(GString) out = g_string_new(NULL);
  g_autofree char *file = NULL;
  struct dg_error err = {0};

  if (cli->serves && dg_snapshot_find_file(&cli->load, &file, &err) < 0) {
    (void)fprintf(stderr, "deltaglider_proxy: %s\n", err.detail);
    return DG_EXIT_START;
  }
  append_assignment(out, "serves", cli->serves ? "yes" : "no");
  append_assignment(out, "config_file", file);
  append_assignment(out, "data_dir", cli->load.data_dir);
  append_assignment(out, "listen", cli->load.listen_addr);
  return print(out);
}

static int print_schema(const struct dg_cli *cli)
{
  struct dg_plug_table *table = open_table(cli);
  g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) out = g_string_new(NULL);

  dg_schema_print_json(table, warnings, out);
  for (guint i = 0; i < warnings->len; i++)
    (void)fprintf(stderr, "warning: %s\n", (const char *)warnings->pdata[i]);
  dg_plug_table_free(table);
  return deliver(cli, out);
}

int dg_cli_run(const struct dg_cli *cli)
{
  g_autoptr(GString) out = g_string_new(NULL);

  switch (cli->command) {
  case DG_COMMAND_HELP:
    g_string_append(out, usage_text);
    return print(out);
  case DG_COMMAND_VERSION:
    g_string_append_printf(out, "deltaglider_proxy %s (plugin ABI %d.%d)\n", PACKAGE_VERSION,
                           DG_ABI_MAJOR, DG_ABI_MINOR);
    return print(out);
  case DG_COMMAND_SHOW_ENV:
    dg_schema_print_env(out);
    return print(out);
  case DG_COMMAND_CONFIG_SCHEMA:
    return print_schema(cli);
  case DG_COMMAND_CONFIG_EXAMPLE:
    dg_schema_print_example(out);
    return deliver(cli, out);
  case DG_COMMAND_CONFIG_EXPORT:
    return export_file(cli);
  case DG_COMMAND_LIST_PLUGINS:
    return list_plugins(cli);
  case DG_COMMAND_DESCRIBE_PLUGIN:
    return describe_plugin(cli);
  case DG_COMMAND_CONFIG_LINT:
    return lint(cli);
  case DG_COMMAND_ADMISSION_TRACE:
    return trace(cli);
  case DG_COMMAND_EXPLAIN:
    return explain(cli);
  case DG_COMMAND_SERVE:
    break;
  }
  return DG_EXIT_USAGE;
}
