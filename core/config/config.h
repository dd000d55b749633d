/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as one immutable snapshot.
 *
 * Sources, strongest first: command line, DGP_* environment, YAML file,
 * default. All values come from option tables (options.def and each plugin's
 * own), which also give --show-env, `config lint` and the manual. A snapshot is
 * shared by reference count and never changes; a reload builds a new one.
 * [any] once built. */
#ifndef DG_CORE_CONFIG_CONFIG_H
#define DG_CORE_CONFIG_CONFIG_H

#include <glib.h>
#include <stdbool.h>

#include <deltaglider/plugin.h>

/* One entry of storage.backends, or the singleton named "default". */
struct dg_backend_config {
  char *name;
  char *type;                   /* "filesystem", "s3", or X for the plugin backend-X */
  char *plugin_name;            /* "backend-fs" ... */
  struct dg_config *options;    /* parsed against the plugin's table */
};

struct dg_bucket_config {
  char *name;
  char *backend;                /* or NULL: the default backend */
  char *alias;                  /* real bucket name, or NULL */
  bool compression;
  double max_delta_ratio;
  char **delta_suffixes;        /* lower case, NULL-terminated: eligible for delta */
  char *codec;                  /* plugin name, e.g. "codec-xdelta3" */
  bool verify_passthrough_reads; /* as configured */
};

struct dg_snapshot {
  int refs;
  char *file;                   /* that was read, or NULL */
  /* access */
  bool authentication_none;
  char *access_key_id, *secret_access_key; /* both or neither; the secret is wiped when freed */
  /* advanced */
  char *listen_addr;            /* "127.0.0.1:9000", "[::1]:9000" */
  uint32_t log_level;           /* DG_LOG_*; 0: off */
  double max_delta_ratio;
  uint64_t max_object_size, max_delta_object_size, max_passthrough_object_size; /* bytes */
  uint64_t cache_bytes;         /* references and bodies in memory */
  uint64_t metadata_cache_bytes;
  uint32_t codec_concurrency, worker_threads, loop_threads;
  char *cache_dir, *spool_dir, *state_dir; /* state_dir: open multipart uploads; durable */
  char **base_domains;          /* virtual-host style, NULL-terminated, may be NULL */
  uint32_t max_concurrent_requests, request_timeout_s, clock_skew_s, replay_window_s;
  uint32_t max_multipart_uploads, multipart_idle_ttl_s, multipart_sweep_interval_s;
  bool debug_headers, stats_open, json_log;
  /* storage */
  GPtrArray *backends;          /* struct dg_backend_config *, at least one */
  char *default_backend;
  GHashTable *codecs;           /* plugin name -> struct dg_config *: those some bucket uses */
  GHashTable *buckets;          /* name -> struct dg_bucket_config *: the configured ones */
  struct dg_bucket_config bucket_defaults; /* every other bucket */
  GPtrArray *warnings;          /* char *: to be logged at start */
};

/* ---- Loading ---------------------------------------------------------------- */

struct dg_plug_table;

struct dg_load_params {
  const char *config_file;      /* --config; NULL: DGP_CONFIG, then the usual places */
  const char *listen_addr;      /* --listen, or NULL */
  const char *data_dir;         /* --data-dir, or NULL */
  const char *log_level;        /* --verbose gives "debug", or NULL */
  bool lint;                    /* `config lint`: the file alone counts; missing credentials are a
                                   warning */
};

/* Reads every source and checks all of it. Loads the plugins that the
 * backends and codecs name, to know their options. *ret_snapshot is
 * transferred, with one reference. Errors: DG_E_IO (cannot read),
 * DG_E_INVALID_ARGUMENT (not YAML), DG_E_CONFIG (everything else), each with
 * FILE:LINE:COLUMN where there is one. [startup] */
int dg_snapshot_load(const struct dg_load_params *params, struct dg_plug_table *table,
                     struct dg_snapshot **ret_snapshot, struct dg_error *err);

/* Defaults, no authentication, one backend "default" of type filesystem
 * without options; cache, spool and state folders below data_dir. For tests. */
struct dg_snapshot *dg_snapshot_new_for_test(const char *data_dir);

/* "debug" or "deltaglider_proxy=debug,other=info" -> DG_LOG_*; 0 is off, -1
 * not a level. */
int dg_log_level_parse(const char *text);

struct dg_snapshot *dg_snapshot_ref(struct dg_snapshot *snapshot);
void dg_snapshot_unref(struct dg_snapshot *snapshot);

/* The policy of one bucket: its own entry or the defaults. Borrowed. */
const struct dg_bucket_config *dg_snapshot_bucket(const struct dg_snapshot *snapshot,
                                                  struct dg_slice bucket);

#endif
