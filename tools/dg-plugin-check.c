/* SPDX-License-Identifier: Apache-2.0 */
/* dg-plugin-check FILE|NAME: loads a plugin as the server would, runs the
 * conformance suite of its kind, and prints a TAP report. */
#include "config.h"

#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "core/plug/options.h"
#include "core/plug/plug.h"
#include "tests/contract/contract.h"

#include "common/banned.h"

static const char usage[] =
  "Usage: dg-plugin-check [OPTION]... FILE|NAME\n"
  "\n"
  "Checks a plugin against its contract: FILE is a .la or .so, NAME one on the\n"
  "search path. Prints a TAP report; exits with 1 if a case failed.\n"
  "\n"
  "  -o, --option NAME=VALUE  sets an option of the plugin; an option `path`\n"
  "                           that is not set points into the scratch folder\n"
  "  -s, --scratch FOLDER     works in a new folder below this (default: $TMPDIR\n"
  "                           or /tmp); for backends its filesystem matters\n"
  "      --plugin-dir FOLDER  looks for NAME here first\n"
  "  -v, --verbose            shows what the plugin logs\n"
  "  -h, --help               shows this\n";

static int remove_entry(const char *path, const struct stat *facts, int type, struct FTW *walk)
{
  (void)facts, (void)type, (void)walk;
  return remove(path);
}

static void print_message(void *receiver, const char *instance, uint32_t level, const char *event,
                          const char *message)
{
  (void)receiver, (void)level;
  (void)printf("# %s: %s %s\n", instance, event, message);
}

/* Applies NAME=VALUE pairs; fills `path` with a folder of our own. */
static struct dg_config *make_config(const struct dg_module *module, char **pairs,
                                     const char *scratch, struct dg_error *err)
{
  struct dg_config *config = dg_config_new(module->plugin.options, "contract");
  const struct dg_option *path = dg_options_find(module->plugin.options, "path");
  g_autofree char *data = g_build_filename(scratch, "data", NULL);
  int status = 0;

  for (; status == 0 && pairs && *pairs; pairs++) {
    g_auto(GStrv) parts = g_strsplit(*pairs, "=", 2);

    status = g_strv_length(parts) == 2
               ? dg_config_set(config, parts[0], parts[1], err)
               : dg_fail(err, DG_E_CONFIG, "--option %s: use NAME=VALUE", *pairs);
  }
  if (status == 0 && path && path->type == DG_OPT_PATH && !dg_config_is_set(config, "path"))
    status = dg_config_set(config, "path", data, err);
  if (status == 0)
    status = dg_config_finish(config, err);
  if (status < 0) {
    dg_config_free(config);
    return NULL;
  }
  return config;
}

static int check(struct dg_plug_table *table, const char *what, char **pairs, const char *scratch,
                 bool verbose)
{
  g_autofree char *cache = g_build_filename(scratch, "cache", NULL);
  struct contract contract = {
    .scratch = scratch, .services = {.log = verbose ? print_message : NULL,
                                        .cache_dir = cache}};
  struct dg_config *config = NULL;
  struct dg_error err = {0};
  int status = strchr(what, '/') || g_str_has_suffix(what, ".la") || g_str_has_suffix(what, ".so")
                 ? dg_plug_load_file(table, what, &contract.module, &err)
                 : dg_plug_load(table, what, &contract.module, &err);

  if (status == 0)
    config = make_config(contract.module, pairs, scratch, &err);
  if (!config) {
    (void)printf("Bail out! %s\n", err.detail);
    return 1;
  }
  contract.config = config;
  (void)g_mkdir_with_parents(cache, 0700);
  (void)printf("# %s %s, %s, %s\n", contract.module->plugin.name, contract.module->plugin.version,
               dg_kind_name(contract.module->plugin.kind), contract.module->file);
  if (contract.module->plugin.kind == DG_KIND_BACKEND)
    contract_backend(&contract);
  else if (contract.module->plugin.kind == DG_KIND_CRYPT)
    contract_crypt(&contract);
  else
    contract_codec(&contract);
  (void)printf("1..%u\n# %u passed, %u failed, %u skipped\n", contract.number,
               contract.number - contract.failed - contract.skipped, contract.failed,
               contract.skipped);
  dg_config_free(config);
  return contract.failed > 0;
}

int main(int argc, char **argv)
{
  static const struct option options[] = {
    {"option", required_argument, NULL, 'o'}, {"scratch", required_argument, NULL, 's'},
    {"plugin-dir", required_argument, NULL, 'p'}, {"help", no_argument, NULL, 'h'},
    {"verbose", no_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
  };
  g_autoptr(GPtrArray) pairs = g_ptr_array_new();
  const char *plugin_dir = NULL, *below = g_get_tmp_dir();
  g_autofree char *scratch = NULL;
  g_auto(GStrv) dirs = NULL;
  struct dg_plug_table *table;
  bool verbose = false;
  int option, result;

  while ((option = getopt_long(argc, argv, "o:s:hv", options, NULL)) != -1) {
    if (option == 'o')
      g_ptr_array_add(pairs, optarg);
    else if (option == 's')
      below = optarg;
    else if (option == 'p')
      plugin_dir = optarg;
    else if (option == 'v')
      verbose = true;
    else {
      (void)fputs(usage, option == 'h' ? stdout : stderr);
      return option == 'h' ? 0 : 2;
    }
  }
  if (argc - optind != 1) {
    (void)fputs(usage, stderr);
    return 2;
  }
  g_ptr_array_add(pairs, NULL);
  scratch = g_build_filename(below, "dg-plugin-check-XXXXXX", NULL);
  if (!g_mkdtemp(scratch)) {
    (void)fprintf(stderr, "dg-plugin-check: cannot make a folder in %s\n", below);
    return 1;
  }
  dirs = dg_plug_search_path(plugin_dir);
  table = dg_plug_table_new((const char *const *)dirs);
  result = check(table, argv[optind], (char **)pairs->pdata, scratch, verbose);
  dg_plug_table_free(table);
  (void)nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  return result;
}
