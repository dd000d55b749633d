/* SPDX-License-Identifier: Apache-2.0 */
/* Backends that several servers can share: two instances over one storage. */
#include "config.h"

#include "tests/contract/backend.h"

#include "common/clock.h"
#include "common/meta.h"
#include "common/slice.h"

#include "common/banned.h"

#define BUCKET DG_SLICE(CONTRACT_BUCKET)
#define SPACE DG_SLICE("leased/")
#define LONG_MS 60000u
#define SHORT_MS 4000u
#define LAPSE_WAIT_MS 30000u

static const struct dg_call *const call = &contract_call;

struct pair {
  struct dg_backend *one, *two;
};

static struct dg_item object(void)
{
  return contract_item(CONTRACT_BUCKET, "leased/object", DG_VARIANT_PASSTHROUGH);
}

static int put(struct dg_backend *backend, const char *text, struct dg_error *err)
{
  struct dg_item item = object();
  struct dg_meta *meta = dg_meta_new();
  struct dg_writer *writer;
  int rc = dg_backend_put(backend, call, &item, strlen(text), &writer, err);

  meta->variant = DG_VARIANT_PASSTHROUGH;
  meta->file_size = strlen(text);
  if (rc == 0) {
    rc = dg_writer_write(writer, text, strlen(text), err);
    if (rc < 0)
      dg_writer_abort(writer);
    else
      rc = dg_writer_commit(writer, &item, meta, NULL, err);
  }
  dg_meta_unref(meta);
  return rc;
}

static void nothing_changes_without_a_lease(struct contract *contract, void *instance)
{
  const struct pair *pair = instance;
  struct dg_item item = object();
  struct dg_error err = {0};
  uint32_t flags, wait_ms;

  CONTRACT(contract, put(pair->one, "no", &err) < 0, "a commit without a lease succeeds");
  CONTRACT(contract,
           dg_backend_lease_take(pair->one, call, BUCKET, SPACE, LONG_MS, &flags, &err) == 0,
           "take: %s", err.detail);
  CONTRACT(contract, flags == 0, "a lease that nobody had counts as lapsed");
  CONTRACT(contract, put(pair->one, "yes", &err) == 0, "a commit under the lease: %s", err.detail);
  CONTRACT(contract, put(pair->two, "no", &err) < 0, "another instance commits under it too");
  CONTRACT(contract, dg_backend_remove(pair->two, call, &item, &err) < 0,
           "another instance removes under it too");
  if (contract_expect(contract, pair->two, &item, "yes", 3) < 0)
    return;
  CONTRACT(contract, dg_backend_remove(pair->one, call, &item, &err) == 0, "remove: %s",
           err.detail);
  CONTRACT(contract,
           dg_backend_lease_give(pair->one, call, BUCKET, SPACE, false, &wait_ms, &err) == 0 &&
             wait_ms == 0,
           "give: %s, wait_ms=%u", err.detail, wait_ms);
  CONTRACT(contract, put(pair->one, "no", &err) < 0, "a commit succeeds after the lease");
}

static void one_instance_has_a_lease(struct contract *contract, void *instance)
{
  const struct pair *pair = instance;
  struct dg_error err = {0};
  uint32_t flags, wait_ms;

  CONTRACT(contract,
           dg_backend_lease_take(pair->one, call, BUCKET, SPACE, LONG_MS, &flags, &err) == 0,
           "take: %s", err.detail);
  CONTRACT(contract,
           dg_backend_lease_take(pair->two, call, BUCKET, SPACE, LONG_MS, &flags, &err) < 0 &&
             err.code == DG_E_CONFLICT,
           "the second take: code %d", err.code);
  CONTRACT(contract,
           dg_backend_lease_take(pair->two, call, BUCKET, DG_SLICE(""), LONG_MS, &flags, &err) == 0,
           "another deltaspace's lease: %s", err.detail);
  CONTRACT(contract,
           dg_backend_lease_renew(pair->one, call, BUCKET, SPACE, LONG_MS, &err) == 0, "renew: %s",
           err.detail);
  CONTRACT(contract,
           dg_backend_lease_renew(pair->two, call, BUCKET, SPACE, LONG_MS, &err) < 0 &&
             err.code == DG_E_CONFLICT,
           "another instance's renewal: code %d", err.code);
  CONTRACT(contract,
           dg_backend_lease_give(pair->one, call, BUCKET, SPACE, false, &wait_ms, &err) == 0 &&
             dg_backend_lease_give(pair->two, call, BUCKET, DG_SLICE(""), false, &wait_ms, &err) ==
               0,
           "give: %s", err.detail);
  CONTRACT(contract,
           dg_backend_lease_take(pair->two, call, BUCKET, SPACE, LONG_MS, &flags, &err) == 0,
           "take of what was given back: %s", err.detail);
  CONTRACT(contract, flags == 0, "what was given back counts as lapsed");
  (void)dg_backend_lease_give(pair->two, call, BUCKET, SPACE, false, &wait_ms, &err);
}

struct seen {
  uint32_t count, lapsed;
};

static int32_t see(void *receiver, const struct dg_lease_row *row)
{
  struct seen *seen = receiver;

  if (dg_slice_equal(row->prefix, SPACE)) {
    seen->count++;
    seen->lapsed += (row->flags & DG_LEASE_LAPSED) != 0;
  }
  return 0;
}

static void a_lease_that_is_not_renewed_lapses(struct contract *contract, void *instance)
{
  const struct pair *pair = instance;
  uint64_t until = dg_time_mono_ms() + LAPSE_WAIT_MS;
  struct dg_error err = {0};
  struct seen seen = {0};
  uint32_t flags = 0, wait_ms;

  CONTRACT(contract,
           dg_backend_lease_take(pair->one, call, BUCKET, SPACE, SHORT_MS, &flags, &err) == 0,
           "take: %s", err.detail);
  CONTRACT(contract,
           dg_backend_lease_list(pair->two, call, BUCKET, see, &seen, &err) == 0 &&
             seen.count == 1 && seen.lapsed == 0,
           "a fresh lease in the list: %u, %u lapsed", seen.count, seen.lapsed);
  do {
    seen = (struct seen){0};
    g_usleep(100000); /* nothing tells that its time is over */
    CONTRACT(contract, dg_backend_lease_list(pair->two, call, BUCKET, see, &seen, &err) == 0,
             "list: %s", err.detail);
    CONTRACT(contract, dg_time_mono_ms() < until, "it has not lapsed after %u ms", LAPSE_WAIT_MS);
  } while (!seen.lapsed);
  CONTRACT(contract, put(pair->one, "late", &err) < 0, "a commit under a lapsed lease succeeds");
  CONTRACT(contract,
           dg_backend_lease_take(pair->two, call, BUCKET, SPACE, LONG_MS, &flags, &err) == 0,
           "take over: %s", err.detail);
  CONTRACT(contract, flags == DG_LEASE_LAPSED, "what was taken over does not count as lapsed");
  CONTRACT(contract,
           dg_backend_lease_renew(pair->one, call, BUCKET, SPACE, LONG_MS, &err) < 0 &&
             err.code == DG_E_CONFLICT,
           "a renewal of what was taken over: code %d", err.code);
  CONTRACT(contract,
           dg_backend_lease_give(pair->one, call, BUCKET, SPACE, false, &wait_ms, &err) == 0,
           "give of what was taken over: %s", err.detail);
  CONTRACT(contract, put(pair->two, "mine", &err) == 0, "the heir's commit: %s", err.detail);
  (void)dg_backend_lease_give(pair->two, call, BUCKET, SPACE, false, &wait_ms, &err);
}

static const struct contract_case cases[] = {
  {"nothing changes without a lease", nothing_changes_without_a_lease, 0},
  {"one instance has a lease", one_instance_has_a_lease, 0},
  {"a lease that is not renewed lapses", a_lease_that_is_not_renewed_lapses, 0},
};

static struct dg_backend *shared_instance(struct contract *contract)
{
  struct dg_backend *backend = NULL;
  struct dg_error err = {0};

  if (dg_backend_new(contract->module, "contract", contract->config, &contract->services, &backend,
                     &err) == 0 &&
      dg_backend_share(backend, call, &err) == 0)
    return backend;
  dg_backend_free(backend);
  return NULL;
}

void contract_backend_lease(struct contract *contract)
{
  bool can = contract->module->ops.backend.share != NULL;
  struct pair pair = {0};

  if (can)
    pair = (struct pair){shared_instance(contract), shared_instance(contract)};
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    contract_run(contract, &cases[i], &pair, pair.one && pair.two);
  dg_backend_free(pair.one);
  dg_backend_free(pair.two);
}
