/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a crypt instance: the contract of struct dg_crypt_ops, with the
 * instance as first argument. [worker] unless noted. */
#ifndef DG_CORE_PLUG_CRYPT_H
#define DG_CORE_PLUG_CRYPT_H

#include <stdbool.h>

#include "core/plug/plug.h"
#include "core/plug/stream.h"

const char *dg_crypt_name(const struct dg_crypt *crypt);        /* [any] the instance */
const char *dg_crypt_plugin_name(const struct dg_crypt *crypt); /* [any] */
bool dg_crypt_has(const struct dg_crypt *crypt, uint64_t caps); /* [any] all of DG_CAP_* */

/* [any] Does this metadata carry marks of this crypt? *ret_plain_size: DG_TO_END
 * when its stored_size cannot be right. */
bool dg_crypt_sealed(const struct dg_crypt *crypt, const struct dg_meta *meta,
                     uint64_t *ret_plain_size);
/* [any] DG_TO_END for DG_TO_END. */
uint64_t dg_crypt_sealed_size(const struct dg_crypt *crypt, uint32_t variant, uint64_t plain_size);
struct dg_range dg_crypt_locate(const struct dg_crypt *crypt, uint32_t variant,
                                struct dg_range plain); /* [any] */

/* marks: empty, from dg_meta_new(). inner is transferred on success. */
int dg_crypt_seal(struct dg_crypt *crypt, const struct dg_call *call,
                  const struct dg_seal_params *params, struct dg_writer *inner,
                  struct dg_meta *marks, struct dg_writer **ret_writer, struct dg_error *err);
int dg_crypt_unseal(struct dg_crypt *crypt, const struct dg_call *call,
                    const struct dg_unseal_params *params, struct dg_reader **ret_reader,
                    struct dg_error *err);

/* [startup] *ret_pairs is the instance's. */
int dg_crypt_native_headers(struct dg_crypt *crypt, const struct dg_pair **ret_pairs,
                            uint32_t *ret_count, struct dg_error *err);

#endif
