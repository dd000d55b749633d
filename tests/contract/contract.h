/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suites: what every plugin of a kind must do, and every
 * promise it makes, checked through the same wrappers the server uses. Run by
 * tools/dg-plugin-check on our plugins and on anybody's. */
#ifndef DG_TESTS_CONTRACT_H
#define DG_TESTS_CONTRACT_H

#include <glib.h>
#include <stdbool.h>

#include "core/plug/options.h"
#include "core/plug/plug.h"

struct contract {
  const struct dg_module *module;
  const struct dg_config *config;  /* for create() */
  const char *scratch;             /* an empty folder of our own */
  struct dg_plug_services services;
  unsigned number, failed, skipped; /* cases so far */
  const char *failure;             /* of the case under way: why, or NULL */
  char reason[400];
};

/* One case: sets contract->failure through CONTRACT(). */
typedef void (*contract_case_fn)(struct contract *contract, void *instance);

struct contract_case {
  const char *name;        /* a sentence */
  contract_case_fn run;
  uint64_t caps;           /* only when the plugin promises all of these */
};

/* Runs and reports one case as a TAP line. applies: false skips it, why names
 * the promise that is not made. */
void contract_run(struct contract *contract, const struct contract_case *one, void *instance,
                  bool applies);

DG_PRINTF(2, 3)
void contract_fail(struct contract *contract, const char *format, ...);

/* Ends the case with a reason unless the condition holds. */
#define CONTRACT(contract, condition, ...)        \
  do {                                            \
    if (!(condition)) {                           \
      contract_fail((contract), __VA_ARGS__);     \
      return;                                     \
    }                                             \
  } while (0)
/* The same in helpers that return 0 or -1. */
#define CONTRACT_INT(contract, condition, ...)    \
  do {                                            \
    if (!(condition)) {                           \
      contract_fail((contract), __VA_ARGS__);     \
      return -1;                                  \
    }                                             \
  } while (0)

/* The suites. */
void contract_backend(struct contract *contract);
void contract_backend_list(struct contract *contract, void *backend);
/* Makes another instance: *backend is NULL if that fails. */
struct dg_backend;
void contract_backend_copy(struct contract *contract, struct dg_backend *backend);
void contract_backend_notes(struct contract *contract, struct dg_backend *backend);
void contract_backend_upload(struct contract *contract, struct dg_backend **backend);
/* With instances of its own, in the bucket of the others. */
void contract_backend_lease(struct contract *contract);
void contract_codec(struct contract *contract);
void contract_crypt(struct contract *contract);

/* len pseudo-random bytes; the same for the same seed. */
void contract_bytes(uint8_t *buffer, size_t len, uint32_t seed);

#endif
