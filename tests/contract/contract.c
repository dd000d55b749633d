/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/contract/contract.h"

#include <stdio.h>

#include "common/banned.h"

void contract_fail(struct contract *contract, const char *format, ...)
{
  va_list args;

  if (contract->failure)
    return; /* the first cause counts */
  va_start(args, format);
  (void)g_vsnprintf(contract->reason, sizeof contract->reason, format, args);
  va_end(args);
  contract->failure = contract->reason;
}

void contract_run(struct contract *contract, const struct contract_case *one, void *instance,
                  bool applies)
{
  contract->number++;
  contract->failure = NULL;
  if (!applies) {
    contract->skipped++;
    (void)printf("ok %u - %s # SKIP not promised\n", contract->number, one->name);
    return;
  }
  one->run(contract, instance);
  if (contract->failure) {
    contract->failed++;
    (void)printf("not ok %u - %s\n# %s\n", contract->number, one->name, contract->failure);
  } else {
    (void)printf("ok %u - %s\n", contract->number, one->name);
  }
  (void)fflush(stdout);
}

/* xorshift32: speed is enough, quality is not asked for. */
void contract_bytes(uint8_t *buffer, size_t len, uint32_t seed)
{
  uint32_t state = seed * 2654435761u + 1;

  for (size_t i = 0; i < len; i++) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    buffer[i] = (uint8_t)(state >> 11);
  }
}
