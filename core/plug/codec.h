/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a codec instance: the contract of struct dg_codec_ops, with the
 * instance as first argument. [worker] unless noted. */
#ifndef DG_CORE_PLUG_CODEC_H
#define DG_CORE_PLUG_CODEC_H

#include <stdbool.h>

#include "core/plug/plug.h"
#include "core/plug/stream.h"

const char *dg_codec_name(const struct dg_codec *codec);        /* [any] the instance */
const char *dg_codec_plugin_name(const struct dg_codec *codec); /* [any] */
bool dg_codec_has(const struct dg_codec *codec, uint64_t caps); /* [any] all of DG_CAP_* */

int dg_codec_ref_open(struct dg_codec *codec, const struct dg_call *call,
                      const struct dg_codec_ref_params *params, struct dg_codec_ref **ret_ref,
                      struct dg_error *err);
uint64_t dg_codec_ref_bytes(struct dg_codec *codec, const struct dg_codec_ref *ref); /* [any] */
void dg_codec_ref_close(struct dg_codec *codec, struct dg_codec_ref *ref); /* NULL is fine */

int dg_codec_encode_open(struct dg_codec *codec, const struct dg_call *call,
                         const struct dg_codec_ref *ref, const struct dg_encode_params *params,
                         struct dg_encoder **ret_encoder, struct dg_error *err);
uint64_t dg_codec_encode_window_size(struct dg_codec *codec,
                                     const struct dg_encoder *encoder); /* [any], > 0 */
/* Parallel calls only with DG_CAP_PARALLEL_WINDOWS. */
int dg_codec_encode_window(struct dg_codec *codec, struct dg_encoder *encoder, uint64_t number,
                           const void *target, size_t len, const void **ret_data, size_t *ret_len,
                           struct dg_error *err);
void dg_codec_encode_release(struct dg_codec *codec, struct dg_encoder *encoder, uint64_t number);
int dg_codec_encode_finish(struct dg_codec *codec, struct dg_encoder *encoder,
                           const uint8_t target_sha256[32], struct dg_encode_summary *ret_summary,
                           const void **ret_header, struct dg_error *err);
void dg_codec_encode_close(struct dg_codec *codec, struct dg_encoder *encoder); /* NULL is fine */

int dg_codec_decode_open(struct dg_codec *codec, const struct dg_call *call,
                         const struct dg_codec_ref *ref, const struct dg_decode_params *params,
                         struct dg_decode_info *ret_info, struct dg_decoder **ret_decoder,
                         struct dg_error *err);
int dg_codec_decode_range(struct dg_codec *codec, struct dg_decoder *decoder,
                          struct dg_range range, struct dg_reader **ret_reader,
                          struct dg_error *err);
void dg_codec_decode_close(struct dg_codec *codec, struct dg_decoder *decoder); /* NULL is fine */

#endif
