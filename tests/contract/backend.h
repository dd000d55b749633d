/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers shared by the backend suites. */
#ifndef DG_TESTS_CONTRACT_BACKEND_H
#define DG_TESTS_CONTRACT_BACKEND_H

#include "core/plug/backend.h"
#include "tests/contract/contract.h"

#define CONTRACT_BUCKET "contract-bucket"

extern const struct dg_call contract_call;

struct dg_slice contract_slice(const char *text);
struct dg_item contract_item(const char *bucket, const char *key, uint32_t variant);

/* Each returns 0, or -1 with contract->failure set. */
int contract_put(struct contract *contract, struct dg_backend *backend, const struct dg_item *item,
                 const void *data, size_t len);
int contract_expect(struct contract *contract, struct dg_backend *backend,
                    const struct dg_item *item, const void *data, size_t len);
int contract_expect_error(struct contract *contract, struct dg_backend *backend,
                          const struct dg_item *item, int32_t code);

#endif
