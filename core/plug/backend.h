/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a backend instance: the contract of struct dg_backend_ops, with the
 * instance as first argument. [worker] unless noted. */
#ifndef DG_CORE_PLUG_BACKEND_H
#define DG_CORE_PLUG_BACKEND_H

#include <stdbool.h>

#include "core/plug/plug.h"
#include "core/plug/stream.h"

const char *dg_backend_name(const struct dg_backend *backend);        /* [any] the instance */
const char *dg_backend_plugin_name(const struct dg_backend *backend); /* [any] */
bool dg_backend_has(const struct dg_backend *backend, uint64_t caps); /* [any] all of DG_CAP_* */
bool dg_backend_can_set_meta(const struct dg_backend *backend);       /* [any] */
/* [any] What lies below all layers; itself if it is none. */
const struct dg_backend *dg_backend_base(const struct dg_backend *backend);
/* [any] Is it called by one thread at a time? A listing's row() must not call it then. */
bool dg_backend_is_serial(const struct dg_backend *backend);

int dg_backend_bucket_create(struct dg_backend *backend, const struct dg_call *call,
                             struct dg_slice bucket, struct dg_error *err);
int dg_backend_bucket_delete(struct dg_backend *backend, const struct dg_call *call,
                             struct dg_slice bucket, struct dg_error *err);
int dg_backend_bucket_head(struct dg_backend *backend, const struct dg_call *call,
                           struct dg_slice bucket, struct dg_error *err);
int dg_backend_bucket_list(struct dg_backend *backend, const struct dg_call *call,
                           dg_bucket_row_fn row, void *receiver, struct dg_error *err);

/* meta: empty, from dg_meta_new(). */
int dg_backend_head(struct dg_backend *backend, const struct dg_call *call,
                    const struct dg_item *item, struct dg_meta *meta, struct dg_error *err);
/* Both variants of an object; two heads where the plugin has nothing better. The
 * metas are empty, from dg_meta_new(); *ret_found: DG_FOUND_*. */
int dg_backend_head_both(struct dg_backend *backend, const struct dg_call *call,
                         struct dg_slice bucket, struct dg_slice key, struct dg_meta *passthrough,
                         struct dg_meta *delta, uint32_t *ret_found, struct dg_error *err);
int dg_backend_get(struct dg_backend *backend, const struct dg_call *call,
                   const struct dg_item *item, struct dg_range range, struct dg_meta *meta,
                   struct dg_reader **ret_reader, struct dg_error *err);
int dg_backend_put(struct dg_backend *backend, const struct dg_call *call,
                   const struct dg_item *item, uint64_t size_hint, struct dg_writer **ret_writer,
                   struct dg_error *err);
int dg_backend_remove(struct dg_backend *backend, const struct dg_call *call,
                      const struct dg_item *item, struct dg_error *err);
int dg_backend_list(struct dg_backend *backend, const struct dg_call *call,
                    const struct dg_list_request *request, dg_list_row_fn row, void *receiver,
                    struct dg_error *err);
/* DG_E_UNSUPPORTED when the plugin lacks it. */
int dg_backend_set_meta(struct dg_backend *backend, const struct dg_call *call,
                        const struct dg_item *item, const struct dg_meta *meta,
                        struct dg_error *err);
/* DG_E_UNSUPPORTED without DG_CAP_VALIDATOR. */
int dg_backend_validate(struct dg_backend *backend, const struct dg_call *call,
                        const struct dg_item *item, struct dg_slice validator, bool *ret_same,
                        struct dg_error *err);
/* [startup] DG_E_CONFIG without DG_CAP_NATIVE_SEAL. */
int dg_backend_seal_natively(struct dg_backend *backend, const struct dg_pair *pairs,
                             uint32_t count, struct dg_error *err);
int dg_backend_probe(struct dg_backend *backend, const struct dg_call *call, struct dg_error *err);

/* ---- Several servers on one storage -------------------------------------------- */

/* [startup] Could several servers share what the plugin's instances store? It has what it
 * takes; whether a storage does, dg_backend_share() finds out. */
bool dg_backend_module_can_share(const struct dg_module *module);
/* [startup] DG_E_UNSUPPORTED, with what is missing, when the storage cannot be
 * shared. */
int dg_backend_share(struct dg_backend *backend, const struct dg_call *call, struct dg_error *err);
bool dg_backend_is_shared(const struct dg_backend *backend); /* [any] share() has succeeded */
/* As dg_backend_ops has them; only of a backend that is shared. */
int dg_backend_lease_take(struct dg_backend *backend, const struct dg_call *call,
                          struct dg_slice bucket, struct dg_slice prefix, uint32_t ttl_ms,
                          uint32_t *ret_flags, struct dg_error *err);
int dg_backend_lease_renew(struct dg_backend *backend, const struct dg_call *call,
                           struct dg_slice bucket, struct dg_slice prefix, uint32_t ttl_ms,
                           struct dg_error *err);
int dg_backend_lease_give(struct dg_backend *backend, const struct dg_call *call,
                          struct dg_slice bucket, struct dg_slice prefix, bool keep,
                          uint32_t *ret_wait_ms, struct dg_error *err);
int dg_backend_lease_list(struct dg_backend *backend, const struct dg_call *call,
                          struct dg_slice bucket, dg_lease_row_fn row, void *receiver,
                          struct dg_error *err);

/* Uploads that the storage joins; DG_E_UNSUPPORTED without DG_CAP_NATIVE_UPLOAD. The
 * item is a passthrough. token: from begin, a string of its own. */
int dg_backend_upload_begin(struct dg_backend *backend, const struct dg_call *call,
                            const struct dg_item *item, const struct dg_meta *meta,
                            char **ret_token, struct dg_error *err);
int dg_backend_upload_part(struct dg_backend *backend, const struct dg_call *call,
                           const struct dg_item *item, const char *token, uint32_t part_no,
                           uint64_t size_bytes, struct dg_writer **ret_writer,
                           struct dg_error *err);
/* meta: empty, from dg_meta_new(). */
int dg_backend_upload_complete(struct dg_backend *backend, const struct dg_call *call,
                               const struct dg_item *item, const char *token,
                               const struct dg_upload_piece *pieces, uint32_t count,
                               struct dg_meta *meta, struct dg_error *err);
int dg_backend_upload_abort(struct dg_backend *backend, const struct dg_call *call,
                            const struct dg_item *item, const char *token, struct dg_error *err);

/* DG_E_UNSUPPORTED also without DG_CAP_NATIVE_COPY. */
int dg_backend_copy(struct dg_backend *backend, const struct dg_call *call,
                    const struct dg_item *from, struct dg_slice validator,
                    const struct dg_item *to, const struct dg_meta *meta, struct dg_error *err);

/* Notes; DG_E_UNSUPPORTED without DG_CAP_NOTES. DG_E_NO_SUCH_KEY of a note that is not
 * there, or whose id none can have; its removal succeeds. *ret_text: g_free(). */
int dg_backend_note_put(struct dg_backend *backend, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice id, struct dg_slice text,
                        struct dg_error *err);
int dg_backend_note_get(struct dg_backend *backend, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice id, char **ret_text,
                        size_t *ret_len, struct dg_error *err);
int dg_backend_note_remove(struct dg_backend *backend, const struct dg_call *call,
                           struct dg_slice bucket, struct dg_slice id, struct dg_error *err);
/* [any] Could a note be called so? */
bool dg_backend_note_id_valid(struct dg_slice id);

/* DG_E_UNSUPPORTED also without DG_CAP_LOCATE_PART. */
int dg_backend_locate_part(struct dg_backend *backend, const struct dg_call *call,
                           const struct dg_item *item, struct dg_slice validator,
                           uint32_t part_no, struct dg_range *ret_range, struct dg_error *err);

#endif
