/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot outlives the moment its secrets are needed: they are taken out of its
 * options and of the file's document, which keeps a reference or a fingerprint. */
#include <config.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "core/config/internal.h"
#include "core/plug/options.h"

#include "common/banned.h"

/* ---- The document ---------------------------------------------------------------------- */

/* What a comparison may show: the same secret, or another one. */
static char *fingerprint(const char *text)
{
  uint8_t digest[EVP_MAX_MD_SIZE];

  if (EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL) != 1)
    g_error("a digest failed");
  return g_strdup_printf("fp:%02x%02x%02x%02x", digest[0], digest[1], digest[2], digest[3]);
}

static void wipe(char *text)
{
  if (text)
    OPENSSL_cleanse(text, strlen(text));
  g_free(text);
}

static void forget_scalar(struct dg_yaml *node)
{
  char *shown;

  if (node->is_null || node->is_forgotten)
    return;
  shown = fingerprint(node->text);
  wipe(node->text);
  node->text = shown;
  node->is_forgotten = TRUE;
  if (node->is_only_refs)
    return; /* names of variables */
  wipe(node->ref);
  node->ref = NULL;
}

/* Whatever is below: nobody knows what it is. */
static void forget_all(struct dg_yaml *node)
{
  if (node->type == DG_YAML_SCALAR)
    forget_scalar(node);
  for (guint i = 0; node->values && i < node->values->len; i++)
    forget_all(node->values->pdata[i]);
}

static void forget_entry(const struct dg_snapshot *snapshot, enum dg_section section,
                         const char *name, struct dg_yaml *map);

static void forget_part(const struct dg_snapshot *snapshot, const struct dg_part *part,
                        struct dg_yaml *node)
{
  if (part->shape == DG_PART_MAP) {
    forget_entry(snapshot, part->entry, NULL, node);
    return;
  }
  for (guint i = 0; node->values && i < node->values->len; i++) {
    const struct dg_yaml *key = node->keys ? node->keys->pdata[i] : NULL;

    forget_entry(snapshot, part->entry, key ? key->text : NULL, node->values->pdata[i]);
  }
}

/* An option that no table knows stands in an entry that was not loaded, because
 * something else took its place: it may be a secret. */
static void forget_key(const struct dg_snapshot *snapshot, enum dg_section section,
                       const struct dg_option *plugin, const char *key, struct dg_yaml *value)
{
  const struct dg_option *own = dg_schema_options(section);
  const struct dg_option *option = dg_options_find(plugin, key);
  const struct dg_part *part = dg_schema_part(section, key);

  if (!option)
    option = dg_options_find(own, key);
  if (part)
    forget_part(snapshot, part, value);
  else if (option ? option->type == DG_OPT_SECRET
                  : !dg_load_secret_of_file_key(plugin ? plugin : own, key))
    forget_all(value);
}

static void forget_entry(const struct dg_snapshot *snapshot, enum dg_section section,
                         const char *name, struct dg_yaml *map)
{
  const struct dg_option *plugin = dg_document_table(snapshot, section, name, map);

  for (guint i = 0; map->keys && i < map->keys->len; i++)
    forget_key(snapshot, section, plugin, ((const struct dg_yaml *)map->keys->pdata[i])->text,
               map->values->pdata[i]);
}

static void forget_document(const struct dg_snapshot *snapshot)
{
  for (int section = 0; section < DG_SECTION_TOP_COUNT; section++) {
    struct dg_yaml *map =
      dg_yaml_get(snapshot->document, dg_schema_section_name((enum dg_section)section));

    if (map)
      forget_entry(snapshot, (enum dg_section)section, NULL, map);
  }
}

/* ---- All of it ---------------------------------------------------------------------------- */

void dg_snapshot_forget_secrets(struct dg_snapshot *snapshot)
{
  GHashTableIter iter;
  gpointer options;

  wipe(snapshot->secret_access_key);
  snapshot->secret_access_key = NULL;
  if (snapshot->document)
    forget_document(snapshot);
  for (int section = 0; section < DG_SNAPSHOT_SECTIONS; section++)
    if (snapshot->options[section])
      dg_config_forget_secrets(snapshot->options[section]);
  for (guint i = 0; i < snapshot->backends->len; i++) {
    const struct dg_backend_config *backend = snapshot->backends->pdata[i];

    if (backend->options)
      dg_config_forget_secrets(backend->options);
    if (backend->encryption)
      dg_config_forget_secrets(backend->encryption->options);
  }
  g_hash_table_iter_init(&iter, snapshot->codecs);
  while (g_hash_table_iter_next(&iter, NULL, &options))
    dg_config_forget_secrets(options);
}
