/* SPDX-License-Identifier: Apache-2.0 */
/* What sealed.c and sealed-read.c share. */
#ifndef DG_CORE_ENGINE_SEALED_INTERNAL_H
#define DG_CORE_ENGINE_SEALED_INTERNAL_H

#include "core/engine/sealed.h"

struct dg_sealed {
  struct dg_backend *inner;
  struct dg_crypt *crypt; /* may be NULL */
  bool seals_writes;
};

/* Does the item say that it is sealed, by whomever? */
bool dg_sealed_is_marked(const struct dg_meta *meta);
/* Sizes as the plaintext has them, and no marks: what the engine sees. */
void dg_sealed_settle(const struct dg_sealed *sealed, struct dg_meta *meta);

/* The layer's get(). [worker] */
int dg_sealed_get(void *self, const struct dg_call *call, const struct dg_item *item,
                  struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
                  struct dg_error *err);

#endif
