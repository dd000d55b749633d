/* SPDX-License-Identifier: Apache-2.0 */
/* Encryption by the storage itself: nothing but the headers that ask for it. */
#include "config.h"

#include "plugins/crypt-ssekms/ssekms.h"

#include <glib.h>

#include "common/slice.h"

#include "common/banned.h"

#define MAX_PAIRS 3u

struct ssekms {
  char *kms_key_id;
  struct dg_pair pairs[MAX_PAIRS];
  uint32_t count;
};

static const struct dg_option options[] = {
  {.name = "mode",
   .type = DG_OPT_ENUM,
   .choices = "sse-kms|sse-s3",
   .required = 1,
   .help = "Who holds the key: the storage's key service, or the storage itself."},
  {.name = "kms_key_id",
   .type = DG_OPT_STRING,
   .choices = "^[!-~]{0,2048}$",
   .help = "sse-kms: id or ARN of the key; without it, the storage's default key."},
  {.name = "bucket_key_enabled",
   .type = DG_OPT_BOOL,
   .dflt = "true",
   .help = "sse-kms: let the storage ask its key service once per bucket, not per object."},
  {.name = NULL},
};

static void add(struct ssekms *self, struct dg_slice name, struct dg_slice value)
{
  g_assert(self->count < MAX_PAIRS);
  self->pairs[self->count++] = (struct dg_pair){name, value};
}

static int create(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                  struct dg_error *err)
{
  bool kms = !strcmp(config->get_text(config, "mode"), "sse-kms");
  const char *key_id = config->get_text(config, "kms_key_id");
  bool bucket_key = config->get_bool(config, "bucket_key_enabled") != 0;
  struct ssekms *self;

  (void)host;
  if (!kms && key_id && *key_id)
    return dg_fail(err, DG_E_CONFIG, "kms_key_id means nothing with sse-s3: use sse-kms, or take "
                                     "it out");
  self = g_new0(struct ssekms, 1);
  self->kms_key_id = g_strdup(key_id);
  add(self, DG_SLICE("x-amz-server-side-encryption"),
      kms ? DG_SLICE("aws:kms") : DG_SLICE("AES256"));
  if (kms && key_id && *key_id)
    add(self, DG_SLICE("x-amz-server-side-encryption-aws-kms-key-id"),
        dg_slice_str(self->kms_key_id));
  if (kms)
    add(self, DG_SLICE("x-amz-server-side-encryption-bucket-key-enabled"),
        bucket_key ? DG_SLICE("true") : DG_SLICE("false"));
  *ret_self = self;
  return 0;
}

static void destroy(void *pointer)
{
  struct ssekms *self = pointer;

  if (!self)
    return;
  g_free(self->kms_key_id);
  g_free(self);
}

static int native_headers(void *pointer, const struct dg_pair **ret_pairs, uint32_t *ret_count,
                          struct dg_error *err)
{
  const struct ssekms *self = pointer;

  (void)err;
  *ret_pairs = self->pairs;
  *ret_count = self->count;
  return 0;
}

static const struct dg_crypt_ops ops = {
  .struct_size = sizeof ops,
  .caps = DG_CAP_SEALS_NATIVELY,
  .create = create,
  .destroy = destroy,
  .native_headers = native_headers,
};

const struct dg_plugin dg_ssekms_plugin = {
  .struct_size = sizeof dg_ssekms_plugin,
  .abi_major = DG_ABI_MAJOR,
  .abi_minor = DG_ABI_MINOR,
  .kind = DG_KIND_CRYPT,
  .threads = DG_THREADS_PARALLEL,
  .name = "crypt-ssekms",
  .version = PACKAGE_VERSION,
  .summary = "Asks the storage to encrypt what it stores",
  .options = options,
  .ops = &ops,
};
