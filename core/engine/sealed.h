/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing as a layer: a backend over a backend and, perhaps, a crypt.
 *
 * Above it there is plaintext only: ranges, sizes, digests, and metadata
 * without marks. Below it lie sealed bodies, plain ones from before, or both.
 * Every backend gets this layer, with a crypt or without, as it is also what
 * refuses to serve sealed bytes as plaintext:
 *
 *   marked, no crypt or the wrong key    refused, with the ids
 *   marked, size not what metadata says  refused
 *   not marked, but begins as a DGE1 body and either unmanaged or not as long
 *   as its metadata says                 refused: the marks were stripped
 *
 * A GET is one request below in the common case: the crypt tells where a range
 * would lie, and only what turns out to be stored otherwise is asked for again. */
#ifndef DG_CORE_ENGINE_SEALED_H
#define DG_CORE_ENGINE_SEALED_H

#include <stdbool.h>

#include "core/plug/backend.h"
#include "core/plug/crypt.h"

struct dg_sealed_params {
  struct dg_backend *inner; /* borrowed: outlives the layer */
  struct dg_crypt *crypt;   /* transferred; NULL: nothing sealed can be read */
  bool seals_writes;        /* needs crypt; false: what is written stays plain */
};

/* Never NULL; dg_backend_free() frees the crypt too, not inner. [startup] */
struct dg_backend *dg_sealed_new(const struct dg_sealed_params *params);

#endif
