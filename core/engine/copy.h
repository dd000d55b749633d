/* SPDX-License-Identifier: Apache-2.0 */
/* Copies without carrying bytes through the server. */
#ifndef DG_CORE_ENGINE_COPY_H
#define DG_CORE_ENGINE_COPY_H

#include "core/engine/internal.h"

/* [worker] dg_engine_copy() for a source and a target on one storage that can copy by
 * itself, where the copy would be stored as the source is. DG_E_UNSUPPORTED: nothing was
 * done, the bytes have to be carried. */
int dg_copy_natively(struct dg_engine *engine, const struct dg_call *call,
                     const struct dg_copy_request *request, struct dg_put_result *ret_result,
                     int64_t *ret_last_modified_s, struct dg_error *err);

/* Content type, user metadata and extensions that a copy of the object has, but its
 * checksums. Never NULL. [any] */
struct dg_meta *dg_copy_inherited(const struct dg_meta *source);

#endif
