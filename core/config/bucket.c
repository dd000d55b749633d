/* SPDX-License-Identifier: Apache-2.0 */
/* storage.buckets: where a bucket lies, how it is stored, who may fill and see it. */
#include <config.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

/* ---- How it is stored ------------------------------------------------------------------ */

static void apply_ratio(const struct dg_load *load, const struct dg_config *options,
                        struct dg_bucket_config *bucket)
{
  double ratio = options->get_double(options, "max_delta_ratio");
  gboolean wants = dg_config_is_set(options, "compression") &&
                   options->get_bool(options, "compression");

  bucket->max_delta_ratio = load->snapshot->max_delta_ratio;
  bucket->compression = bucket->max_delta_ratio > 0;
  if (dg_config_is_set(options, "max_delta_ratio")) {
    if (ratio >= 0 && ratio <= 1) {
      bucket->max_delta_ratio = ratio;
      bucket->compression = ratio > 0;
    } else {
      dg_load_warn(load->snapshot, "storage.buckets.%s.max_delta_ratio is outside 0..1: ignored",
                   bucket->name);
    }
  } else if (wants && bucket->max_delta_ratio <= 0) {
    bucket->max_delta_ratio = 0.75; /* asked for here, off elsewhere */
    bucket->compression = true;
  }
  if (dg_config_is_set(options, "compression") && !wants)
    bucket->compression = false;
}

static int apply_codec(const struct dg_load *load, const struct dg_config *options,
                       struct dg_bucket_config *bucket, struct dg_error *err)
{
  const struct dg_bucket_config *defaults = &load->snapshot->bucket_defaults;
  g_autofree char *what = g_strdup_printf("storage.buckets.%s.codec", bucket->name);

  apply_ratio(load, options, bucket);
  bucket->delta_suffixes = dg_config_is_set(options, "delta_suffixes")
                             ? dg_split_list(options->get_text(options, "delta_suffixes"))
                             : g_strdupv(defaults->delta_suffixes);
  bucket->delta_sniffing = dg_config_is_set(options, "delta_sniffing")
                             ? options->get_bool(options, "delta_sniffing")
                             : defaults->delta_sniffing;
  bucket->codec = dg_config_is_set(options, "codec")
                    ? dg_plugin_of_codec(options->get_text(options, "codec"))
                    : g_strdup(defaults->codec);
  bucket->verify_passthrough_reads = dg_config_is_set(options, "verify_passthrough_reads")
                                       ? dg_verify_reads_of(options)
                                       : defaults->verify_passthrough_reads;
  return dg_load_codec(load, bucket->codec, what, err);
}

/* ---- Where it lies ------------------------------------------------------------------------ */

static int apply_route(const struct dg_load *load, const struct dg_yaml *key,
                       const struct dg_config *options, struct dg_bucket_config *bucket,
                       struct dg_error *err)
{
  const struct dg_config *storage = load->snapshot->options[DG_SECTION_STORAGE];
  const char *backend = options->get_text(options, "backend");

  bucket->alias = g_strdup(options->get_text(options, "alias"));
  if (!backend)
    return 0;
  if (dg_snapshot_find_backend(load->snapshot, backend)) {
    bucket->backend = g_strdup(backend);
    return 0;
  }
  if (load->params->strict_routes || storage->get_bool(storage, "strict_routes"))
    return dg_load_fail(load, key, err, "bucket '%s' routes to unknown backend '%s'", bucket->name,
                        backend);
  dg_load_warn(load->snapshot,
               "bucket '%s' routes to unknown backend '%s' — route will be ignored", bucket->name,
               backend);
  return 0;
}

/* ---- How much it holds ------------------------------------------------------------------- */

static void apply_quota(const struct dg_load *load, const struct dg_config *options,
                        struct dg_bucket_config *bucket)
{
  bucket->quota_bytes = dg_config_is_set(options, "quota_bytes")
                          ? (uint64_t)options->get_int(options, "quota_bytes")
                          : DG_QUOTA_NONE;
  bucket->quota_objects = dg_config_is_set(options, "quota_objects")
                            ? (uint64_t)options->get_int(options, "quota_objects")
                            : DG_QUOTA_NONE;
  bucket->frozen = bucket->quota_bytes == 0 || options->get_bool(options, "frozen");
  bucket->replication_target_only = options->get_bool(options, "replication_target_only");
  if (bucket->replication_target_only)
    dg_load_warn(load->snapshot,
                 "storage.buckets.%s.replication_target_only: there is no rule that fills the "
                 "bucket, as this version does not replicate: clients cannot change it, and "
                 "nobody else does",
                 bucket->name);
  if (bucket->quota_bytes == 0)
    dg_load_warn(load->snapshot,
                 "(info) storage.buckets.%s.quota_bytes is 0: the bucket is frozen, clients cannot "
                 "write to it",
                 bucket->name);
}

/* ---- Who may see it ------------------------------------------------------------------------ */

/* Why everyone cannot be let in below a prefix, or NULL. */
static const char *prefix_fault(const char *prefix)
{
  g_auto(GStrv) parts = g_strsplit(prefix, "/", -1);

  if (!prefix[strspn(prefix, "/")])
    return "holds nothing but slashes";
  if (strstr(prefix, "//"))
    return "holds '//'";
  if (g_strv_contains((const char *const *)parts, ".."))
    return "holds '..'";
  if (!g_str_has_suffix(prefix, "/"))
    return "does not end with '/'";
  return NULL;
}

/* Adds one prefix, or says why not and goes on without it: a prefix that is
 * dropped lets in nobody. */
static void add_prefix(const struct dg_load *load, const struct dg_yaml *node, const char *prefix,
                       const char *bucket_name, GPtrArray *prefixes)
{
  const char *fault = *prefix ? prefix_fault(prefix) : NULL;

  if (fault) {
    dg_load_error(load->snapshot,
                  "%s:%u:%u: storage.buckets.%s: the public prefix '%s' %s: it is dropped",
                  load->file, node->line, node->column, bucket_name, prefix, fault);
    return;
  }
  for (guint i = 0; i < prefixes->len; i++)
    if (!strcmp(prefixes->pdata[i], prefix))
      return;
  if (!*prefix)
    dg_load_warn(load->snapshot, "bucket '%s' is public as a whole: everyone may read all of it",
                 bucket_name);
  g_ptr_array_add(prefixes, g_strdup(prefix));
}

/* The list's own nodes: an entry may hold a comma. */
static int read_prefixes(const struct dg_load *load, const struct dg_yaml *list,
                         const char *bucket_name, GPtrArray *prefixes, struct dg_error *err)
{
  gboolean is_text = list && list->type == DG_YAML_SCALAR;
  g_auto(GStrv) words = g_strsplit(is_text ? list->text : "", ",", -1);

  for (char **word = words; *word; word++)
    add_prefix(load, list, g_strstrip(*word), bucket_name, prefixes);
  for (guint i = 0; list && list->type == DG_YAML_LIST && i < list->values->len; i++) {
    const struct dg_yaml *entry = list->values->pdata[i];

    if (entry->type != DG_YAML_SCALAR)
      return dg_load_fail(load, entry, err,
                          "storage.buckets.%s.public_prefixes: a list of plain texts is expected "
                          "here",
                          bucket_name);
    add_prefix(load, entry, entry->text, bucket_name, prefixes);
  }
  return 0;
}

static gboolean has_other_than_whole(const GPtrArray *prefixes)
{
  for (guint i = 0; i < prefixes->len; i++)
    if (*(const char *)prefixes->pdata[i])
      return TRUE;
  return FALSE;
}

static int apply_public(const struct dg_load *load, const struct dg_yaml *map,
                        const struct dg_config *options, struct dg_bucket_config *bucket,
                        struct dg_error *err)
{
  const struct dg_yaml *list = dg_load_entry_part(map, "public_prefixes");
  g_autoptr(GPtrArray) prefixes = g_ptr_array_new_with_free_func(g_free);

  if (read_prefixes(load, list, bucket->name, prefixes, err) < 0)
    return -1;
  if (options->get_bool(options, "public")) {
    if (has_other_than_whole(prefixes))
      return dg_load_fail(load, list, err,
                          "storage.buckets.%s: public: true is the whole bucket, public_prefixes "
                          "are parts of it: drop one",
                          bucket->name);
    add_prefix(load, map, "", bucket->name, prefixes);
  }
  if (prefixes->len == 0)
    return 0;
  if (load->snapshot->authentication_none)
    dg_load_warn(load->snapshot,
                 "(info) storage.buckets.%s is public, but access.authentication is none: "
                 "everything is",
                 bucket->name);
  g_ptr_array_add(prefixes, NULL);
  bucket->public_prefixes = (char **)g_ptr_array_free(g_steal_pointer(&prefixes), FALSE);
  return 0;
}

/* ---- The map of buckets ----------------------------------------------------------------- */

void dg_bucket_config_clear(struct dg_bucket_config *bucket)
{
  g_free(bucket->name);
  g_free(bucket->backend);
  g_free(bucket->alias);
  g_free(bucket->codec);
  g_strfreev(bucket->delta_suffixes);
  g_strfreev(bucket->public_prefixes);
}

static int fill_bucket(const struct dg_load *load, const struct dg_yaml *key,
                       const struct dg_yaml *map, struct dg_config *options,
                       struct dg_bucket_config *bucket, struct dg_error *err)
{
  g_autofree char *path = g_strdup_printf("storage.buckets.%s", bucket->name);

  if (dg_load_entry(load, DG_SECTION_BUCKET, NULL, path, map, options, err) < 0 ||
      apply_codec(load, options, bucket, err) < 0 ||
      apply_route(load, key, options, bucket, err) < 0)
    return -1;
  apply_quota(load, options, bucket);
  return apply_public(load, map, options, bucket, err);
}

static void warn_impossible_name(const struct dg_load *load, const char *name)
{
  size_t len = strlen(name);

  if (len < 3 || len > 63 || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_")])
    dg_load_warn(load->snapshot, "storage.buckets.%s: no bucket can have this name", name);
}

static int load_bucket(const struct dg_load *load, const struct dg_yaml *key,
                       const struct dg_yaml *map, struct dg_error *err)
{
  g_autofree char *name = g_ascii_strdown(key->text, -1);
  struct dg_bucket_config *bucket;
  struct dg_config *options;
  int result;

  if (g_hash_table_contains(load->snapshot->buckets, name))
    return dg_load_fail(load, key, err, "storage.buckets.%s stands here twice", name);
  warn_impossible_name(load, name);
  bucket = g_new0(struct dg_bucket_config, 1);
  bucket->name = g_steal_pointer(&name);
  options = dg_config_new(dg_schema_options(DG_SECTION_BUCKET), bucket->name);
  result = fill_bucket(load, key, map, options, bucket, err);
  dg_config_free(options);
  /* Owned by the table from here, complete or not: the snapshot frees both. */
  g_hash_table_insert(load->snapshot->buckets, bucket->name, bucket);
  return result;
}

int dg_load_buckets(const struct dg_load *load, struct dg_error *err)
{
  const struct dg_yaml *buckets = dg_load_part(load, DG_SECTION_STORAGE, "buckets");

  if (buckets && buckets->type != DG_YAML_MAP)
    return dg_load_fail(load, buckets, err, "storage.buckets: a map of buckets is expected here");
  for (guint i = 0; buckets && i < buckets->keys->len; i++)
    if (load_bucket(load, buckets->keys->pdata[i], buckets->values->pdata[i], err) < 0)
      return -1;
  return 0;
}
