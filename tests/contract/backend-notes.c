/* SPDX-License-Identifier: Apache-2.0 */
/* Notes: DG_CAP_NOTES. */
#include "config.h"

#include "core/plug/backend.h"
#include "tests/contract/backend.h"
#include "tests/contract/contract.h"

#include "common/banned.h"

#define call (&contract_call)
#define BUCKET DG_SLICE(CONTRACT_BUCKET)
#define ID DG_SLICE("0123456789abcdef-contract")

static int expect_note(struct contract *contract, struct dg_backend *backend, struct dg_slice id,
                       struct dg_slice wanted)
{
  g_autofree char *text = NULL;
  struct dg_error err = {0};
  size_t len = 0;

  CONTRACT_INT(contract,
               dg_backend_note_get(backend, call, BUCKET, id, &text, &len, &err) == 0, "get: %s",
               err.detail);
  CONTRACT_INT(contract, len == wanted.len && !memcmp(text, wanted.data, len),
               "a note of %zu bytes comes back as other %zu", wanted.len, len);
  return 0;
}

static int expect_none(struct contract *contract, struct dg_backend *backend, struct dg_slice id)
{
  g_autofree char *text = NULL;
  struct dg_error err = {0};
  size_t len;

  CONTRACT_INT(contract,
               dg_backend_note_get(backend, call, BUCKET, id, &text, &len, &err) < 0 &&
                 err.code == DG_E_NO_SUCH_KEY,
               "a note that is not there: code %d", err.code);
  return 0;
}

static void a_note_is_kept_until_it_is_removed(struct contract *contract, void *backend)
{
  g_autofree char *long_text = g_malloc(DG_NOTE_MAX);
  struct dg_slice longest = {long_text, DG_NOTE_MAX};
  struct dg_error err = {0};

  contract_bytes((uint8_t *)long_text, DG_NOTE_MAX, 12);
  if (expect_none(contract, backend, ID) < 0)
    return;
  CONTRACT(contract, dg_backend_note_remove(backend, call, BUCKET, ID, &err) == 0,
           "the removal of none: %s", err.detail);
  CONTRACT(contract,
           dg_backend_note_put(backend, call, BUCKET, DG_SLICE("a"), DG_SLICE("x"), &err) == 0,
           "put: %s", err.detail);
  CONTRACT(contract, dg_backend_note_put(backend, call, BUCKET, ID, longest, &err) == 0,
           "the longest: %s", err.detail);
  if (expect_note(contract, backend, DG_SLICE("a"), DG_SLICE("x")) < 0 ||
      expect_note(contract, backend, ID, longest) < 0)
    return;
  /* After a lost answer it is stored once more. */
  CONTRACT(contract, dg_backend_note_put(backend, call, BUCKET, ID, longest, &err) == 0,
           "the same again: %s", err.detail);
  CONTRACT(contract,
           dg_backend_note_remove(backend, call, BUCKET, DG_SLICE("a"), &err) == 0 &&
             dg_backend_note_remove(backend, call, BUCKET, ID, &err) == 0,
           "remove: %s", err.detail);
  if (expect_none(contract, backend, DG_SLICE("a")) == 0)
    (void)expect_none(contract, backend, ID);
}

static int32_t count_row(void *receiver, const struct dg_list_row *row)
{
  (void)row;
  ++*(uint32_t *)receiver;
  return 0;
}

static uint32_t rows(struct dg_backend *backend, struct dg_slice bucket, struct dg_slice delimiter,
                     struct dg_error *err)
{
  struct dg_list_request request = {.struct_size = sizeof request,
                                    .flags = DG_LIST_REFERENCES | DG_LIST_NO_META,
                                    .bucket = bucket,
                                    .delimiter = delimiter};
  uint32_t count = 0;

  return dg_backend_list(backend, call, &request, count_row, &count, err) == 0 ? count : 99;
}

static void a_note_is_not_listed_and_goes_with_its_bucket(struct contract *contract,
                                                          void *backend)
{
  static const struct dg_slice bucket = {"contract-notes", sizeof "contract-notes" - 1};
  g_autofree char *text = NULL;
  struct dg_error err = {0};
  size_t len;

  CONTRACT(contract,
           dg_backend_note_put(backend, call, bucket, ID, DG_SLICE("x"), &err) < 0 &&
             err.code == DG_E_NO_SUCH_BUCKET,
           "a note in no bucket: code %d", err.code);
  CONTRACT(contract, dg_backend_bucket_create(backend, call, bucket, &err) == 0, "create: %s",
           err.detail);
  CONTRACT(contract, dg_backend_note_put(backend, call, bucket, ID, DG_SLICE("x"), &err) == 0,
           "put: %s", err.detail);
  CONTRACT(contract,
           rows(backend, bucket, DG_SLICE(""), &err) == 0 &&
             rows(backend, bucket, DG_SLICE("/"), &err) == 0,
           "it is listed");
  CONTRACT(contract, dg_backend_bucket_delete(backend, call, bucket, &err) == 0, "delete: %s",
           err.detail);
  CONTRACT(contract, dg_backend_bucket_create(backend, call, bucket, &err) == 0, "again: %s",
           err.detail);
  CONTRACT(contract,
           dg_backend_note_get(backend, call, bucket, ID, &text, &len, &err) < 0 &&
             err.code == DG_E_NO_SUCH_KEY,
           "it outlived its bucket: code %d", err.code);
  (void)dg_backend_bucket_delete(backend, call, bucket, &err);
}

static const struct contract_case cases[] = {
  {"a note is kept until it is removed", a_note_is_kept_until_it_is_removed, DG_CAP_NOTES},
  {"a note is not listed and goes with its bucket", a_note_is_not_listed_and_goes_with_its_bucket,
   DG_CAP_NOTES},
};

void contract_backend_notes(struct contract *contract, struct dg_backend *backend)
{
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    contract_run(contract, &cases[i], backend, dg_backend_has(backend, cases[i].caps));
}
