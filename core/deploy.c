/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/deploy.h"

#include <openssl/evp.h>

#include "core/plug/backend.h"
#include "core/plug/codec.h"
#include "core/plug/options.h"
#include "core/sealing.h"

#include "common/banned.h"

/* One instance, as it was configured. */
struct instance {
  unsigned refs;
  uint8_t digest[EVP_MAX_MD_SIZE]; /* of all that it was made from */
  char *name;
  struct dg_backend *backend; /* or codec */
  struct dg_codec *codec;
  struct instance *below; /* shared: the backend under this layer, or NULL */
  struct dg_health *health; /* of a backend that is no layer */
  const struct dg_plug_services *services; /* what it tells is passed on to */
};

struct dg_deployment {
  GArray *named_backends; /* struct dg_named_backend */
  GArray *named_codecs;   /* struct dg_named_codec */
  GPtrArray *sealed;      /* struct instance *: one per backend, each over a plain one */
  GPtrArray *codecs;      /* struct instance * */
  GArray *is_new;         /* gboolean, per backend */
};

/* ---- Instances -------------------------------------------------------------- */

static struct instance *instance_ref(struct instance *instance)
{
  instance->refs++;
  return instance;
}

static void instance_unref(void *pointer)
{
  struct instance *instance = pointer;

  if (--instance->refs > 0)
    return;
  dg_health_free(instance->health);
  dg_backend_free(instance->backend);
  dg_codec_free(instance->codec);
  if (instance->below)
    instance_unref(instance->below);
  g_free(instance->name);
  g_free(instance);
}

static struct instance *instance_new(const char *name, const uint8_t digest[EVP_MAX_MD_SIZE])
{
  struct instance *instance = g_new0(struct instance, 1);

  instance->refs = 1;
  instance->name = g_strdup(name);
  memcpy(instance->digest, digest, sizeof instance->digest);
  return instance;
}

static bool is_same(const struct instance *instance, const char *name,
                    const uint8_t digest[EVP_MAX_MD_SIZE])
{
  return memcmp(instance->digest, digest, sizeof instance->digest) == 0 &&
         strcmp(instance->name, name) == 0;
}

/* ---- What an instance is made from --------------------------------------------- */

static void add_text(EVP_MD_CTX *hash, const char *text)
{
  if (EVP_DigestUpdate(hash, text ? text : "", text ? strlen(text) + 1 : 1) != 1)
    g_error("a digest failed");
}

static EVP_MD_CTX *digest_begin(void)
{
  EVP_MD_CTX *hash = EVP_MD_CTX_new();

  if (!hash || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)
    g_error("a digest failed");
  return hash;
}

static void digest_end(EVP_MD_CTX *hash, uint8_t digest[EVP_MAX_MD_SIZE])
{
  memset(digest, 0, EVP_MAX_MD_SIZE);
  if (EVP_DigestFinal_ex(hash, digest, NULL) != 1)
    g_error("a digest failed");
  EVP_MD_CTX_free(hash);
}

static void add_encryption(EVP_MD_CTX *hash, const struct dg_encryption_config *encryption)
{
  add_text(hash, encryption->mode);
  add_text(hash, encryption->crypt);
  add_text(hash, encryption->native);
  add_text(hash, encryption->seals_writes ? "seals" : "");
  dg_config_hash(encryption->options, hash);
}

/* A backend that is told how to encrypt is another one when it is told otherwise. */
static void digest_plain(const struct dg_backend_config *config, uint8_t digest[EVP_MAX_MD_SIZE])
{
  EVP_MD_CTX *hash = digest_begin();

  add_text(hash, config->plugin_name);
  dg_config_hash(config->options, hash);
  if (config->encryption && config->encryption->native)
    add_encryption(hash, config->encryption);
  digest_end(hash, digest);
}

static void digest_sealed(const struct dg_backend_config *config, uint8_t digest[EVP_MAX_MD_SIZE])
{
  EVP_MD_CTX *hash = digest_begin();

  add_text(hash, config->plugin_name);
  dg_config_hash(config->options, hash);
  if (config->encryption)
    add_encryption(hash, config->encryption);
  digest_end(hash, digest);
}

static void digest_codec(const char *plugin, const struct dg_config *options,
                         uint8_t digest[EVP_MAX_MD_SIZE])
{
  EVP_MD_CTX *hash = digest_begin();

  add_text(hash, plugin);
  dg_config_hash(options, hash);
  digest_end(hash, digest);
}

/* ---- Backends ---------------------------------------------------------------------- */

struct deploy {
  struct dg_plug_table *table;
  const struct dg_plug_services *services;
  const struct dg_health_params *health;
  const struct dg_snapshot *snapshot;
  const GPtrArray *living; /* struct dg_deployment *; or NULL */
  struct dg_deployment *made;
};

static guint living_count(const struct deploy *deploy)
{
  return deploy->living ? deploy->living->len : 0;
}

static struct instance *find_in(const GPtrArray *instances, const char *name,
                                const uint8_t digest[EVP_MAX_MD_SIZE])
{
  for (guint i = 0; i < instances->len; i++)
    if (is_same(instances->pdata[i], name, digest))
      return instances->pdata[i];
  return NULL;
}

static struct instance *find_sealed(const struct deploy *deploy, const char *name,
                                    const uint8_t digest[EVP_MAX_MD_SIZE])
{
  struct instance *found = NULL;

  for (guint i = 0; !found && i < living_count(deploy); i++)
    found = find_in(((struct dg_deployment *)deploy->living->pdata[i])->sealed, name, digest);
  return found;
}

static struct instance *find_codec(const struct deploy *deploy, const char *name,
                                   const uint8_t digest[EVP_MAX_MD_SIZE])
{
  struct instance *found = NULL;

  for (guint i = 0; !found && i < living_count(deploy); i++)
    found = find_in(((struct dg_deployment *)deploy->living->pdata[i])->codecs, name, digest);
  return found;
}

static bool is_configured(const struct dg_snapshot *snapshot, const char *name)
{
  for (guint i = 0; i < snapshot->backends->len; i++)
    if (strcmp(((const struct dg_backend_config *)snapshot->backends->pdata[i])->name, name) == 0)
      return true;
  return false;
}

static struct instance *find_plain_in(const struct deploy *deploy, const GPtrArray *sealed,
                                      const char *name, const uint8_t digest[EVP_MAX_MD_SIZE])
{
  struct instance *renamed = NULL;

  for (guint i = 0; i < sealed->len; i++) {
    struct instance *plain = ((struct instance *)sealed->pdata[i])->below;

    if (is_same(plain, name, digest))
      return plain;
    if (is_same(plain, plain->name, digest) && !is_configured(deploy->snapshot, plain->name))
      renamed = plain;
  }
  return renamed;
}

/* A backend that only got another name is found too: its directory is locked by it.
 * Until the next start it logs under the old name. */
static struct instance *find_plain(const struct deploy *deploy, const char *name,
                                   const uint8_t digest[EVP_MAX_MD_SIZE])
{
  struct instance *found = NULL;

  for (guint i = 0; !found && i < living_count(deploy); i++)
    found = find_plain_in(deploy, ((struct dg_deployment *)deploy->living->pdata[i])->sealed, name,
                          digest);
  return found;
}

static void on_log(void *receiver, const char *name, uint32_t level, const char *event,
                   const char *message)
{
  const struct dg_plug_services *services = ((const struct instance *)receiver)->services;

  services->log(services->receiver, name, level, event, message);
}

/* Whoever calls a backend, and whatever for: an outage shows here. */
static void on_call(void *receiver, const char *name, const char *op, int32_t error_code)
{
  const struct instance *instance = receiver;

  instance->services->count(instance->services->receiver, name, op, error_code);
  if (error_code && instance->health)
    dg_health_suspect(instance->health, error_code);
}

static int make_plain(const struct deploy *deploy, const struct dg_backend_config *config,
                      const uint8_t digest[EVP_MAX_MD_SIZE], struct instance **ret_instance,
                      struct dg_error *err)
{
  struct instance *instance = instance_new(config->name, digest);
  struct dg_plug_services services = *deploy->services;
  struct dg_health_params health = *deploy->health;
  const struct dg_module *module;

  instance->services = deploy->services;
  services.receiver = instance;
  services.log = on_log;
  services.count = on_call;
  if (dg_plug_load(deploy->table, config->plugin_name, &module, err) < 0 ||
      dg_backend_new(module, config->name, config->options, &services, &instance->backend, err) <
        0 ||
      dg_sealing_prepare(deploy->table, deploy->services, config, instance->backend, err) < 0) {
    instance_unref(instance);
    return -1;
  }
  health.backend = instance->backend;
  instance->health = dg_health_new(&health);
  *ret_instance = instance;
  return 0;
}

static int make_sealed(const struct deploy *deploy, const struct dg_backend_config *config,
                       const uint8_t digest[EVP_MAX_MD_SIZE], gboolean *ret_new,
                       struct instance **ret_instance, struct dg_error *err)
{
  uint8_t plain_digest[EVP_MAX_MD_SIZE];
  struct instance *plain;
  struct dg_backend *backend;

  digest_plain(config, plain_digest);
  plain = find_plain(deploy, config->name, plain_digest);
  *ret_new = plain == NULL;
  if (plain)
    (void)instance_ref(plain);
  else if (make_plain(deploy, config, plain_digest, &plain, err) < 0)
    return -1;
  if (dg_sealing_open(deploy->table, deploy->services, config, plain->backend, &backend, err) < 0) {
    instance_unref(plain);
    return -1;
  }
  *ret_instance = instance_new(config->name, digest);
  (*ret_instance)->backend = backend;
  (*ret_instance)->below = plain;
  return 0;
}

static int deploy_backend(const struct deploy *deploy, const struct dg_backend_config *config,
                          struct dg_error *err)
{
  uint8_t digest[EVP_MAX_MD_SIZE];
  struct dg_named_backend named = {0};
  struct instance *instance;
  gboolean is_new = FALSE;

  digest_sealed(config, digest);
  instance = find_sealed(deploy, config->name, digest);
  if (instance)
    (void)instance_ref(instance);
  else if (make_sealed(deploy, config, digest, &is_new, &instance, err) < 0)
    return -1;
  g_ptr_array_add(deploy->made->sealed, instance);
  g_array_append_val(deploy->made->is_new, is_new);
  named = (struct dg_named_backend){
    .name = instance->name, .backend = instance->backend, .health = instance->below->health};
  g_array_append_val(deploy->made->named_backends, named);
  return 0;
}

/* ---- Codecs ----------------------------------------------------------------------- */

static int deploy_codec(const struct deploy *deploy, const char *plugin,
                        const struct dg_config *options, struct dg_error *err)
{
  uint8_t digest[EVP_MAX_MD_SIZE];
  struct dg_named_codec named = {0};
  struct instance *instance;

  digest_codec(plugin, options, digest);
  instance = find_codec(deploy, plugin, digest);
  if (instance) {
    (void)instance_ref(instance);
  } else {
    const struct dg_module *module;
    struct dg_codec *codec;

    if (dg_plug_load(deploy->table, plugin, &module, err) < 0 ||
        dg_codec_new(module, plugin, options, deploy->services, &codec, err) < 0)
      return -1;
    instance = instance_new(plugin, digest);
    instance->codec = codec;
  }
  g_ptr_array_add(deploy->made->codecs, instance);
  named = (struct dg_named_codec){.name = instance->name, .codec = instance->codec};
  g_array_append_val(deploy->made->named_codecs, named);
  return 0;
}

/* ---- Whole ------------------------------------------------------------------------- */

static int deploy_all(const struct deploy *deploy, struct dg_error *err)
{
  const struct dg_snapshot *snapshot = deploy->snapshot;
  GHashTableIter iter;
  gpointer plugin, options;

  for (guint i = 0; i < snapshot->backends->len; i++)
    if (deploy_backend(deploy, snapshot->backends->pdata[i], err) < 0)
      return -1;
  g_hash_table_iter_init(&iter, snapshot->codecs);
  while (g_hash_table_iter_next(&iter, &plugin, &options))
    if (deploy_codec(deploy, plugin, options, err) < 0)
      return -1;
  return 0;
}

int dg_deployment_new(const struct dg_deploy_means *means, const struct dg_snapshot *snapshot,
                      const GPtrArray *living, struct dg_deployment **ret_deployment,
                      struct dg_error *err)
{
  struct dg_deployment *made = g_new0(struct dg_deployment, 1);
  struct deploy deploy = {means->table, means->services, means->health, snapshot, living, made};

  made->named_backends = g_array_new(FALSE, FALSE, sizeof(struct dg_named_backend));
  made->named_codecs = g_array_new(FALSE, FALSE, sizeof(struct dg_named_codec));
  made->is_new = g_array_new(FALSE, FALSE, sizeof(gboolean));
  made->sealed = g_ptr_array_new_with_free_func(instance_unref);
  made->codecs = g_ptr_array_new_with_free_func(instance_unref);
  if (deploy_all(&deploy, err) < 0) {
    dg_deployment_free(made);
    return -1;
  }
  *ret_deployment = made;
  return 0;
}

void dg_deployment_free(struct dg_deployment *deployment)
{
  if (!deployment)
    return;
  g_array_unref(deployment->named_backends);
  g_array_unref(deployment->named_codecs);
  g_array_unref(deployment->is_new);
  g_ptr_array_unref(deployment->sealed);
  g_ptr_array_unref(deployment->codecs);
  g_free(deployment);
}

const struct dg_named_backend *dg_deployment_backends(const struct dg_deployment *deployment,
                                                      size_t *ret_count)
{
  *ret_count = deployment->named_backends->len;
  return (const struct dg_named_backend *)(const void *)deployment->named_backends->data;
}

const struct dg_named_codec *dg_deployment_codecs(const struct dg_deployment *deployment,
                                                  size_t *ret_count)
{
  *ret_count = deployment->named_codecs->len;
  return (const struct dg_named_codec *)(const void *)deployment->named_codecs->data;
}

bool dg_deployment_is_new(const struct dg_deployment *deployment, size_t index)
{
  return g_array_index(deployment->is_new, gboolean, index);
}
