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
#include <string.h>

#include <deltaglider/plugin.h>

/* How a backend's bodies are sealed. */
struct dg_encryption_config {
  char *mode;                   /* "none", "aes256-gcm-proxy", "sse-kms" ... */
  char *crypt;                  /* plugin that seals or reads bodies, or NULL */
  char *native;                 /* plugin whose headers the backend's writes carry, or NULL */
  bool seals_writes;            /* by crypt; false: it only reads */
  struct dg_option *table;      /* of both plugins, and of the core */
  struct dg_config *options;    /* dg_snapshot_forget_secrets() */
};

/* One entry of storage.backends, or the singleton named "default". */
struct dg_backend_config {
  char *name;
  char *type;                   /* "filesystem", "s3", or X for the plugin backend-X */
  char *plugin_name;            /* "backend-fs" ... */
  struct dg_config *options;    /* parsed against the plugin's table */
  struct dg_encryption_config *encryption; /* NULL: none, and nothing sealed can be read */
};

#define DG_QUOTA_NONE UINT64_MAX

/* Which whole reads of passthrough objects are compared with their SHA-256. */
enum dg_verify_reads {
  DG_VERIFY_AUTO, /* those that are not given away as a file */
  DG_VERIFY_ON,
  DG_VERIFY_OFF,
};

/* What is asked of the backends at the start. */
enum dg_boot_probe {
  DG_BOOT_PROBE_ENFORCE, /* one of them must work */
  DG_BOOT_PROBE_WARN,
  DG_BOOT_PROBE_OFF, /* nothing, nor later */
};

struct dg_bucket_config {
  char *name;
  char *backend;                /* or NULL: the default backend */
  char *alias;                  /* real bucket name, or NULL */
  bool compression;
  double max_delta_ratio;
  char **delta_suffixes;        /* lower case, NULL-terminated: eligible for delta */
  bool delta_sniffing;          /* and so are others by their first bytes */
  char *codec;                  /* plugin name, e.g. "codec-xdelta3" */
  enum dg_verify_reads verify_passthrough_reads;
  uint64_t quota_bytes, quota_objects; /* DG_QUOTA_NONE: no limit. Bytes as clients count them */
  bool frozen;                  /* client writes are refused: said so, or quota_bytes is 0 */
  bool replication_target_only; /* client writes are refused */
  /* What everyone may read: NULL-terminated, may be NULL; each ends with '/',
   * or is "": the whole bucket. */
  char **public_prefixes;
};

/* ---- Admission: rules looked at before anyone is known ------------------------- */

enum dg_admission_action {
  DG_ADMISSION_CONTINUE, /* to authentication, past the other blocks */
  DG_ADMISSION_ALLOW_ANONYMOUS,
  DG_ADMISSION_DENY,     /* 403 AccessDenied */
  DG_ADMISSION_REJECT,   /* with the block's own status and message */
};

enum dg_admission_authenticated {
  DG_ADMISSION_ANYONE,
  DG_ADMISSION_SIGNED,   /* an Authorization header or a presigned query, unverified */
  DG_ADMISSION_UNSIGNED,
};

/* Addresses whose first prefix_bits bits are equal. IPv4 is kept as IPv6,
 * ::ffff:a.b.c.d, so 10.0.0.0/8 has 104 bits. */
struct dg_ip_range {
  uint8_t address[16];   /* bits past prefix_bits are zero */
  uint8_t prefix_bits;   /* 0..128 */
};

/* Does the range hold the address? Both as IPv6. */
static inline bool dg_ip_range_holds(const struct dg_ip_range *range, const uint8_t address[16])
{
  unsigned whole = range->prefix_bits / 8, rest = range->prefix_bits % 8;

  return memcmp(range->address, address, whole) == 0 &&
         (rest == 0 || (range->address[whole] ^ address[whole]) >> (8 - rest) == 0);
}

/* "192.0.2.7", "10.0.0.0/8", "2001:db8::/32"; a single address has 128 bits. An
 * IPv4-mapped IPv6 network is the IPv4 one; bits past the prefix are cleared.
 * False: it is none of these. [any] */
bool dg_ip_range_parse(const char *text, struct dg_ip_range *ret_range);

/* One entry of admission.blocks. Every predicate that is given must hold; one
 * that is absent holds always. */
struct dg_admission_block {
  char *name;            /* unique, never "public-prefix:..." */
  char **methods;        /* upper case, NULL-terminated; NULL: any */
  struct dg_ip_range *sources; /* NULL: any; an unknown client address is in none */
  size_t source_count;
  char *bucket;          /* lower case; NULL: any */
  char *path_glob;       /* over the decoded key, else the list prefix, else ""; NULL: any */
  enum dg_admission_authenticated authenticated;
  char *config_flag;     /* "maintenance_mode"; an unknown flag never holds; NULL: not asked */
  enum dg_admission_action action;
  uint32_t reject_status; /* 400..599, for DG_ADMISSION_REJECT */
  char *reject_message;  /* or NULL */
};

/* ---- TLS --------------------------------------------------------------------------- */

struct dg_tls_pair {
  char *cert_path, *key_path; /* PEM files; both or neither */
};

struct dg_tls_config {
  bool enabled;
  struct dg_tls_pair main;    /* neither: an ephemeral self-signed certificate */
  GArray *certificates;       /* struct dg_tls_pair: more of them, chosen by the name asked for */
  char *client_ca_path;       /* PEM; clients are asked for a certificate from these; or NULL */
  bool client_cert_required;  /* with client_ca_path: a client without one is turned away */
  bool tls13_only;            /* else 1.2 and 1.3 */
};

#define DG_SNAPSHOT_SECTIONS 3
struct dg_yaml;

struct dg_snapshot {
  int refs;
  char *file;                   /* that was read, or NULL */
  /* access */
  bool authentication_none;
  char *access_key_id, *secret_access_key; /* both or neither, until the secret is forgotten */
  /* advanced */
  char *listen_addr;            /* "127.0.0.1:9000", "[::1]:9000" */
  uint32_t log_level;           /* DG_LOG_*; 0: off */
  double max_delta_ratio;
  uint64_t max_object_size, max_delta_object_size, max_passthrough_object_size; /* bytes */
  uint64_t mpu_delta_max_bytes; /* of an object made of parts */
  uint64_t cache_bytes;         /* references and bodies in memory */
  uint64_t metadata_cache_bytes;
  uint32_t codec_concurrency, loop_threads;
  uint32_t worker_threads; /* 0: as the backends need them */
  uint64_t spool_max_bytes;     /* of all bodies in flight below spool_dir together; 0: no limit */
  uint32_t spool_acquire_timeout_s;
  char *cache_dir, *spool_dir, *state_dir; /* state_dir: open multipart uploads; durable */
  char **base_domains;          /* virtual-host style, NULL-terminated, may be NULL */
  bool trust_proxy_headers;     /* core/access/client.h */
  struct dg_ip_range *trusted_proxies;
  size_t trusted_proxy_count;
  uint32_t max_concurrent_requests, request_timeout_s, clock_skew_s, replay_window_s;
  /* The client's deadlines; bytes in body_min_bytes. max_connections 0: as many as descriptors
   * allow. */
  uint32_t max_connections, idle_timeout_s, head_timeout_s, body_timeout_s, body_min_bytes;
  uint32_t response_timeout_s, answer_keepalive_s;
  uint32_t rate_limit_max_attempts, rate_limit_window_s, rate_limit_lockout_s; /* 0 attempts: off */
  uint32_t instances;           /* servers that share the storage, this one included */
  uint32_t lease_ttl_s, lease_wait_s; /* of a lease on a deltaspace; more than one instance */
  uint64_t max_total_multipart_bytes; /* of parts on disk */
  uint32_t max_multipart_uploads, multipart_idle_ttl_s, multipart_sweep_interval_s;
  uint32_t multipart_completing_timeout_s;
  uint32_t usage_cache_ttl_s;   /* buckets with a quota are counted again this often; 0: the default */
  uint32_t ready_timeout_s, ready_retries, ready_cache_ttl_s;
  enum dg_boot_probe boot_backend_probe;
  uint32_t backend_probe_interval_s;
  uint32_t backend_list_timeout_s, backend_list_cooldown_s, backend_list_fresh_s;
  bool enforce_min_part_size;   /* of all parts but the last */
  bool recursive_delete;        /* DELETE of a key that ends with '/' removes what is below it */
  uint32_t recursive_delete_page; /* objects listed at a time */
  bool debug_headers, stats_open, json_log;
  struct dg_tls_config tls;
  /* admission */
  GPtrArray *admission;         /* struct dg_admission_block *, in order; may be empty */
  /* storage */
  GPtrArray *backends;          /* struct dg_backend_config *, at least one */
  char *default_backend;
  GHashTable *codecs;           /* plugin name -> struct dg_config *: those some bucket uses */
  GHashTable *buckets;          /* name -> struct dg_bucket_config *: the configured ones */
  struct dg_bucket_config bucket_defaults; /* every other bucket */
  GPtrArray *errors;            /* char *: to be logged as errors at start, which goes on */
  GPtrArray *warnings;          /* char *: to be logged at start */
  /* Of core/config alone. */
  struct dg_config *options[DG_SNAPSHOT_SECTIONS]; /* access, advanced, storage: as they hold */
  struct dg_config *tls_options;
  struct dg_yaml *document;     /* what the file said, in the canonical shape; or NULL */
};

/* ---- Loading ---------------------------------------------------------------- */

struct dg_plug_table;

struct dg_load_params {
  const char *config_file;      /* --config; NULL: DGP_CONFIG, then the usual places */
  struct dg_slice text;         /* present: what config_file would hold; it is not read then */
  const char *listen_addr;      /* --listen, or NULL */
  const char *data_dir;         /* --data-dir, or NULL */
  const char *log_level;        /* --verbose gives "debug", or NULL */
  bool strict_routes;           /* an unknown backend is refused, as storage.strict_routes does:
                                   for changes made while serving */
  bool lint;                    /* `config lint`: the file alone counts; missing credentials are a
                                   warning */
};

/* Which file the next one reads: the one named, here or by DGP_CONFIG, or the first there is
 * of the usual places. *ret_file is transferred, NULL when there is none, which is fine.
 * DG_E_CONFIG for what this version does not read. [startup] */
int dg_snapshot_find_file(const struct dg_load_params *params, char **ret_file,
                          struct dg_error *err);
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

/* Wipes every secret: of the options, and of the file's document, which keeps references
 * to the environment, and fingerprints ("fp:0123abcd") of all else. For when the instances
 * are made and the credentials handed over; before others share it. An export then leaves
 * secrets out in every tier, but for references. Again is fine. [startup] */
void dg_snapshot_forget_secrets(struct dg_snapshot *snapshot);

struct dg_snapshot *dg_snapshot_ref(struct dg_snapshot *snapshot);
void dg_snapshot_unref(struct dg_snapshot *snapshot);

/* ---- Export and comparison ------------------------------------------------------- */

/* What an export leaves out. ${env:NAME} references stay in every tier. */
enum dg_export_tier {
  DG_EXPORT_PERSIST,   /* for the file itself: every secret is there that was not forgotten */
  DG_EXPORT_CANONICAL, /* no secret but the credentials of the server and of backends */
  DG_EXPORT_API,       /* without any secret, nor the access keys beside them */
};

/* The configuration file in its canonical shape: sections, no shorthands,
 * defaults left out, maps sorted by key. What came from the environment or the
 * command line is not in it. The same snapshot gives the same bytes; loading
 * them gives an equal snapshot but for what the tier leaves out. [any] */
void dg_snapshot_export(const struct dg_snapshot *snapshot, enum dg_export_tier tier,
                        GString *out);

/* Adds the paths ("advanced.listen_addr") of the options that differ and only
 * take effect with a restart to ret_paths: char *, freed with g_free(). [any] */
void dg_snapshot_restart_changes(const struct dg_snapshot *old_snapshot,
                                 const struct dg_snapshot *new_snapshot, GPtrArray *ret_paths);

/* The policy of one bucket: its own entry or the defaults. Borrowed. */
const struct dg_bucket_config *dg_snapshot_bucket(const struct dg_snapshot *snapshot,
                                                  struct dg_slice bucket);

#endif
