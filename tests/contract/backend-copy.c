/* SPDX-License-Identifier: Apache-2.0 */
/* Copies that the storage makes: DG_CAP_NATIVE_COPY. */
#include "config.h"

#include "common/meta.h"
#include "core/plug/backend.h"
#include "tests/contract/backend.h"
#include "tests/contract/contract.h"

#include "common/banned.h"

#define SIZE 300001u
#define call (&contract_call)

struct pair {
  struct dg_backend *backend;
  struct dg_item from, to;
  uint8_t *data;
  struct dg_meta *found; /* the source as head() tells it */
};

static int prepare(struct contract *contract, struct pair *pair, struct dg_backend *backend)
{
  struct dg_error err = {0};

  *pair = (struct pair){
    .backend = backend,
    .from = contract_item(CONTRACT_BUCKET, "copy/from +%\xc3\xbc.bin", DG_VARIANT_PASSTHROUGH),
    .to = contract_item(CONTRACT_BUCKET, "copy/to.bin", DG_VARIANT_PASSTHROUGH),
    .data = g_malloc(SIZE),
    .found = dg_meta_new()};
  contract_bytes(pair->data, SIZE, 11);
  if (contract_put(contract, backend, &pair->from, pair->data, SIZE) < 0)
    return -1;
  CONTRACT_INT(contract, dg_backend_head(backend, call, &pair->from, pair->found, &err) == 0,
               "head: %s", err.detail);
  CONTRACT_INT(contract, pair->found->validator.len, "the source has no validator");
  return 0;
}

static void finish(struct pair *pair)
{
  struct dg_error err;

  (void)dg_backend_remove(pair->backend, call, &pair->from, &err);
  (void)dg_backend_remove(pair->backend, call, &pair->to, &err);
  dg_meta_unref(pair->found);
  g_free(pair->data);
}

/* The source's metadata with another type, as an engine would give it. */
static struct dg_meta *target_meta(const struct pair *pair)
{
  struct dg_meta *meta = dg_meta_copy(pair->found);
  struct dg_error err;

  (void)dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, DG_SLICE("text/copied"), &err);
  (void)dg_meta_add_user(meta, DG_SLICE("copied"), DG_SLICE("yes"), &err);
  return meta;
}

static int copy(struct pair *pair, struct dg_slice validator, struct dg_error *err)
{
  struct dg_meta *meta = target_meta(pair);
  int status =
    dg_backend_copy(pair->backend, call, &pair->from, validator, &pair->to, meta, err);

  dg_meta_unref(meta);
  return status;
}

static bool same(struct dg_slice a, struct dg_slice b)
{
  return a.len == b.len && (a.len == 0 || !memcmp(a.data, b.data, a.len));
}

static void check_target(struct contract *contract, const struct pair *pair)
{
  struct dg_meta *got = dg_meta_new();
  struct dg_error err = {0};

  if (contract_expect(contract, pair->backend, &pair->to, pair->data, SIZE) < 0 ||
      contract_expect(contract, pair->backend, &pair->from, pair->data, SIZE) < 0) {
    dg_meta_unref(got);
    return;
  }
  if (dg_backend_head(pair->backend, call, &pair->to, got, &err) < 0)
    contract_fail(contract, "head: %s", err.detail);
  else if (!same(got->content_type, DG_SLICE("text/copied")) ||
           !same(dg_meta_user(got, "copied"), DG_SLICE("yes")) ||
           !same(got->md5, pair->found->md5) ||
           !same(got->file_sha256, pair->found->file_sha256) || got->flags != 0 ||
           got->created_at_s != pair->found->created_at_s)
    contract_fail(contract, "the copy has not the metadata it was given");
  dg_meta_unref(got);
}

static void a_copy_has_the_bytes_and_the_metadata_given(struct contract *contract, void *instance)
{
  struct dg_error err = {0};
  struct pair pair;

  if (prepare(contract, &pair, instance) == 0) {
    if (copy(&pair, pair.found->validator, &err) < 0)
      contract_fail(contract, "copy: %s", err.detail);
    else
      check_target(contract, &pair);
  }
  if (!contract->failure) { /* over the first one */
    if (copy(&pair, pair.found->validator, &err) < 0)
      contract_fail(contract, "over another object: %s", err.detail);
    else
      check_target(contract, &pair);
  }
  finish(&pair);
}

static void a_copy_is_of_the_version_that_is_meant(struct contract *contract, void *instance)
{
  struct dg_error err = {0};
  struct pair pair;

  if (prepare(contract, &pair, instance) == 0 &&
      contract_put(contract, instance, &pair.from, "newer", 5) == 0) {
    if (copy(&pair, pair.found->validator, &err) == 0 || err.code != DG_E_PRECONDITION_FAILED)
      contract_fail(contract, "a copy of an older version: code %d", err.code);
    else
      (void)contract_expect_error(contract, instance, &pair.to, DG_E_NO_SUCH_KEY);
  }
  if (!contract->failure) {
    (void)dg_backend_remove(instance, call, &pair.from, &err);
    if (copy(&pair, pair.found->validator, &err) == 0 ||
        (err.code != DG_E_NO_SUCH_KEY && err.code != DG_E_PRECONDITION_FAILED))
      contract_fail(contract, "a copy of nothing: code %d", err.code);
  }
  finish(&pair);
}

static void a_copy_to_a_missing_bucket_fails(struct contract *contract, void *instance)
{
  struct dg_error err = {0};
  struct pair pair;

  if (prepare(contract, &pair, instance) == 0) {
    pair.to.bucket = DG_SLICE("contract-none");
    if (copy(&pair, pair.found->validator, &err) == 0 || err.code != DG_E_NO_SUCH_BUCKET)
      contract_fail(contract, "its code is %d", err.code);
    pair.to.bucket = pair.from.bucket;
  }
  finish(&pair);
}

static void an_object_without_digests_is_copied_as_one(struct contract *contract, void *instance)
{
  struct dg_meta *meta = dg_meta_new(), *got = dg_meta_new();
  struct dg_error err = {0};
  struct pair pair;

  if (prepare(contract, &pair, instance) == 0) {
    meta->flags = DG_META_UNMANAGED | DG_META_PLAIN;
    meta->file_size = SIZE;
    (void)dg_meta_add_user(meta, DG_SLICE("copied"), DG_SLICE("yes"), &err);
    if (dg_backend_copy(instance, call, &pair.from, pair.found->validator, &pair.to, meta, &err) <
        0)
      contract_fail(contract, "copy: %s", err.detail);
    else if (contract_expect(contract, instance, &pair.to, pair.data, SIZE) == 0 &&
             dg_backend_head(instance, call, &pair.to, got, &err) < 0)
      contract_fail(contract, "head: %s", err.detail);
    else if (!contract->failure &&
             (got->flags != meta->flags || !got->unmanaged_etag.len ||
              !same(dg_meta_user(got, "copied"), DG_SLICE("yes"))))
      contract_fail(contract, "its flags are %u, or its metadata others", got->flags);
  }
  dg_meta_unref(meta);
  dg_meta_unref(got);
  finish(&pair);
}

static const struct contract_case cases[] = {
  {"a copy has the bytes and the metadata given", a_copy_has_the_bytes_and_the_metadata_given,
   DG_CAP_NATIVE_COPY},
  {"a copy is of the version that is meant", a_copy_is_of_the_version_that_is_meant,
   DG_CAP_NATIVE_COPY},
  {"a copy to a missing bucket fails", a_copy_to_a_missing_bucket_fails, DG_CAP_NATIVE_COPY},
  {"an object without digests is copied as one", an_object_without_digests_is_copied_as_one,
   DG_CAP_NATIVE_COPY | DG_CAP_NATIVE_UPLOAD},
};

void contract_backend_copy(struct contract *contract, struct dg_backend *backend)
{
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    contract_run(contract, &cases[i], backend, dg_backend_has(backend, cases[i].caps));
}
