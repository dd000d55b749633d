/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's life: made, shared, freed. Loading is load.c. */
#include <config.h>

#include "core/config/config.h"

#include <openssl/crypto.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

static void backend_free(void *pointer)
{
  struct dg_backend_config *backend = pointer;

  g_free(backend->name);
  g_free(backend->type);
  g_free(backend->plugin_name);
  dg_config_free(backend->options);
  dg_encryption_config_free(backend->encryption);
  g_free(backend);
}

static void bucket_free(void *pointer)
{
  dg_bucket_config_clear(pointer);
  g_free(pointer);
}

struct dg_snapshot *dg_snapshot_new(void)
{
  struct dg_snapshot *snapshot = g_new0(struct dg_snapshot, 1);

  snapshot->refs = 1;
  snapshot->backends = g_ptr_array_new_with_free_func(backend_free);
  snapshot->errors = g_ptr_array_new_with_free_func(g_free);
  snapshot->warnings = g_ptr_array_new_with_free_func(g_free);
  snapshot->admission = g_ptr_array_new_with_free_func(dg_admission_block_free);
  snapshot->tls.certificates = dg_tls_pairs_new();
  snapshot->buckets = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, bucket_free);
  snapshot->codecs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                           (GDestroyNotify)dg_config_free);
  return snapshot;
}

struct dg_snapshot *dg_snapshot_ref(struct dg_snapshot *snapshot)
{
  (void)g_atomic_int_add(&snapshot->refs, 1);
  return snapshot;
}

void dg_snapshot_unref(struct dg_snapshot *snapshot)
{
  if (!snapshot || !g_atomic_int_dec_and_test(&snapshot->refs))
    return;
  if (snapshot->secret_access_key)
    OPENSSL_cleanse(snapshot->secret_access_key, strlen(snapshot->secret_access_key));
  g_free(snapshot->secret_access_key);
  g_free(snapshot->access_key_id);
  g_free(snapshot->file);
  g_free(snapshot->listen_addr);
  g_free(snapshot->cache_dir);
  g_free(snapshot->spool_dir);
  g_free(snapshot->state_dir);
  g_strfreev(snapshot->base_domains);
  g_free(snapshot->trusted_proxies);
  g_free(snapshot->default_backend);
  g_ptr_array_unref(snapshot->backends);
  g_ptr_array_unref(snapshot->errors);
  g_ptr_array_unref(snapshot->warnings);
  g_ptr_array_unref(snapshot->admission);
  dg_tls_config_clear(&snapshot->tls);
  g_hash_table_unref(snapshot->buckets);
  g_hash_table_unref(snapshot->codecs);
  dg_bucket_config_clear(&snapshot->bucket_defaults);
  for (int section = 0; section < DG_SNAPSHOT_SECTIONS; section++)
    dg_config_free(snapshot->options[section]);
  dg_config_free(snapshot->tls_options);
  dg_yaml_free(snapshot->document);
  g_free(snapshot);
}

const struct dg_bucket_config *dg_snapshot_bucket(const struct dg_snapshot *snapshot,
                                                  struct dg_slice bucket)
{
  const struct dg_bucket_config *config = NULL;
  char name[64]; /* bucket names have at most 63 characters */

  if (bucket.len < sizeof name && g_hash_table_size(snapshot->buckets) > 0) {
    memcpy(name, bucket.data, bucket.len);
    name[bucket.len] = '\0';
    config = g_hash_table_lookup(snapshot->buckets, name);
  }
  return config ? config : &snapshot->bucket_defaults;
}

struct dg_snapshot *dg_snapshot_new_for_test(const char *data_dir)
{
  struct dg_snapshot *snapshot = dg_snapshot_new();
  struct dg_config *advanced = dg_config_of(dg_schema_options(DG_SECTION_ADVANCED), "test", NULL);
  struct dg_backend_config *backend = g_new0(struct dg_backend_config, 1);
  struct dg_error err = {0};

  backend->name = g_strdup("default");
  backend->type = g_strdup("filesystem");
  backend->plugin_name = g_strdup("backend-fs");
  g_ptr_array_add(snapshot->backends, backend);
  snapshot->default_backend = g_strdup("default");
  snapshot->authentication_none = true;
  if (dg_snapshot_apply_advanced(snapshot, advanced, &err) < 0)
    g_error("%s", err.detail);
  snapshot->cache_dir = g_build_filename(data_dir, ".dg-cache", NULL);
  snapshot->spool_dir = g_build_filename(data_dir, ".dg-spool", NULL);
  snapshot->state_dir = g_build_filename(data_dir, ".dg-state", NULL);
  dg_config_free(advanced);
  return snapshot;
}
