/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, and the commands that answer without serving. [startup] */
#ifndef DG_CORE_CLI_H
#define DG_CORE_CLI_H

#include "core/access/trace.h"
#include "core/config/config.h"

/* Exit codes. */
#define DG_EXIT_OK 0
#define DG_EXIT_START 1    /* the server could not start */
#define DG_EXIT_USAGE 2
#define DG_EXIT_IO 3       /* a file could not be read or written */
#define DG_EXIT_PARSE 4    /* a file is not YAML */
#define DG_EXIT_REJECTED 6 /* a file is YAML but not a configuration */

enum dg_command {
  DG_COMMAND_SERVE,
  DG_COMMAND_HELP,
  DG_COMMAND_VERSION,
  DG_COMMAND_LIST_PLUGINS,
  DG_COMMAND_DESCRIBE_PLUGIN,
  DG_COMMAND_SHOW_ENV,
  DG_COMMAND_CONFIG_LINT,
  DG_COMMAND_CONFIG_SCHEMA,
  DG_COMMAND_CONFIG_EXAMPLE,
  DG_COMMAND_CONFIG_EXPORT,
  DG_COMMAND_ADMISSION_TRACE,
  DG_COMMAND_EXPLAIN,
};

struct dg_cli {
  enum dg_command command;
  bool serves;             /* the command is DG_COMMAND_SERVE, or would be without --explain */
  const char *argument;    /* plugin or file; borrowed from argv */
  const char *out_file;    /* --out, or NULL: standard output */
  const char *plugin_dir;
  struct dg_trace_question trace;
  struct dg_load_params load;
};

/* 0, or DG_EXIT_USAGE after telling stderr what is wrong. */
int dg_cli_parse(int argc, char **argv, struct dg_cli *ret_cli);

/* Runs any command but DG_COMMAND_SERVE; returns the exit code. */
int dg_cli_run(const struct dg_cli *cli);

#endif
