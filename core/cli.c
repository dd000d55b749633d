/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/cli.h"

#include <getopt.h>
#include <stdio.h>

#include "core/config/schema.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

#include "common/banned.h"

static const char usage_text[] =
  "Usage: deltaglider_proxy [OPTION]...\n"
  "       deltaglider_proxy config lint FILE\n"
  "       deltaglider_proxy config defaults\n"
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
  "      --version               show the version\n"
  "  -h, --help                  show this\n"
  "\n"
  "The server does not start without credentials: set DGP_ACCESS_KEY_ID and\n"
  "DGP_SECRET_ACCESS_KEY, or say access.authentication: none in its file.\n"
  "See deltaglider_proxy(8) and deltaglider_proxy.yaml(5).\n";

enum { OPT_PLUGIN_DIR = 256, OPT_LIST, OPT_DESCRIBE, OPT_SHOW_ENV, OPT_VERSION };

static const struct option long_options[] = {
  {"config", required_argument, NULL, 'c'},
  {"listen", required_argument, NULL, 'l'},
  {"data-dir", required_argument, NULL, 'd'},
  {"plugin-dir", required_argument, NULL, OPT_PLUGIN_DIR},
  {"verbose", no_argument, NULL, 'v'},
  {"list-plugins", no_argument, NULL, OPT_LIST},
  {"describe-plugin", required_argument, NULL, OPT_DESCRIBE},
  {"show-env", no_argument, NULL, OPT_SHOW_ENV},
  {"version", no_argument, NULL, OPT_VERSION},
  {"help", no_argument, NULL, 'h'},
  {NULL, 0, NULL, 0},
};

static int usage_error(const char *cause)
{
  (void)fprintf(stderr, "deltaglider_proxy: %s\nTry 'deltaglider_proxy --help'.\n", cause);
  return DG_EXIT_USAGE;
}

static int parse_command(int count, char **words, struct dg_cli *cli)
{
  if (count == 0)
    return 0;
  if (count == 3 && !strcmp(words[0], "config") && !strcmp(words[1], "lint")) {
    cli->command = DG_COMMAND_CONFIG_LINT;
    cli->argument = words[2];
    return 0;
  }
  if (count == 2 && !strcmp(words[0], "config") && !strcmp(words[1], "defaults")) {
    cli->command = DG_COMMAND_CONFIG_DEFAULTS;
    return 0;
  }
  return usage_error("unknown command: use no command, 'config lint FILE' or 'config defaults'");
}

int dg_cli_parse(int argc, char **argv, struct dg_cli *ret_cli)
{
  struct dg_cli cli = {.command = DG_COMMAND_SERVE};
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
    case OPT_VERSION:
      cli.command = DG_COMMAND_VERSION;
      break;
    default: /* getopt_long has told what is wrong */
      (void)fprintf(stderr, "Try 'deltaglider_proxy --help'.\n");
      return DG_EXIT_USAGE;
    }
  }
  if (parse_command(argc - optind, argv + optind, &cli) != 0)
    return DG_EXIT_USAGE;
  *ret_cli = cli;
  return 0;
}

/* ---- Commands ----------------------------------------------------------------- */

static int print(GString *text)
{
  return fputs(text->str, stdout) < 0 || fflush(stdout) != 0 ? DG_EXIT_IO : DG_EXIT_OK;
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

static int lint(const struct dg_cli *cli)
{
  struct dg_load_params params = {.config_file = cli->argument, .lint = true};
  struct dg_plug_table *table = open_table(cli);
  struct dg_snapshot *snapshot = NULL;
  struct dg_error err = {0};
  int result = DG_EXIT_OK;

  if (dg_snapshot_load(&params, table, &snapshot, &err) < 0) {
    (void)fprintf(stderr, "%s\n", err.detail);
    result = err.code == DG_E_IO                 ? DG_EXIT_IO
             : err.code == DG_E_INVALID_ARGUMENT ? DG_EXIT_PARSE
                                                 : DG_EXIT_REJECTED;
  } else {
    for (guint i = 0; i < snapshot->warnings->len; i++)
      (void)fprintf(stderr, "warning: %s\n", (const char *)snapshot->warnings->pdata[i]);
    (void)printf("%s: valid\n", cli->argument);
  }
  dg_snapshot_unref(snapshot);
  dg_plug_table_free(table);
  return result;
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
  case DG_COMMAND_CONFIG_DEFAULTS:
    dg_schema_print_defaults(out);
    return print(out);
  case DG_COMMAND_LIST_PLUGINS:
    return list_plugins(cli);
  case DG_COMMAND_DESCRIBE_PLUGIN:
    return describe_plugin(cli);
  case DG_COMMAND_CONFIG_LINT:
    return lint(cli);
  case DG_COMMAND_SERVE:
    break;
  }
  return DG_EXIT_USAGE;
}
