/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the doubles. */
#ifndef TESTS_UNIT_ENGINE_DOUBLE_PRIVATE_H
#define TESTS_UNIT_ENGINE_DOUBLE_PRIVATE_H

#include "engine-double.h"

uint64_t double_store_caps(const struct double_store *store);

int double_backend_head(void *self, const struct dg_call *call, const struct dg_item *item,
                        struct dg_meta *meta, struct dg_error *err);
int double_backend_get(void *self, const struct dg_call *call, const struct dg_item *item,
                       struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
                       struct dg_error *err);
int double_backend_put(void *self, const struct dg_call *call, const struct dg_item *item,
                       uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err);
int double_backend_remove(void *self, const struct dg_call *call, const struct dg_item *item,
                          struct dg_error *err);
int double_backend_set_meta(void *self, const struct dg_call *call, const struct dg_item *item,
                            const struct dg_meta *meta, struct dg_error *err);
int double_backend_validate(void *self, const struct dg_call *call, const struct dg_item *item,
                            struct dg_slice validator, int32_t *ret_same, struct dg_error *err);
int double_backend_probe(void *self, const struct dg_call *call, struct dg_error *err);
int double_backend_list(void *self, const struct dg_call *call,
                        const struct dg_list_request *request, dg_list_row_fn row, void *receiver,
                        struct dg_error *err);
int double_backend_bucket_create(void *self, const struct dg_call *call, struct dg_slice bucket,
                                 struct dg_error *err);
int double_backend_bucket_delete(void *self, const struct dg_call *call, struct dg_slice bucket,
                                 struct dg_error *err);
int double_backend_bucket_head(void *self, const struct dg_call *call, struct dg_slice bucket,
                               struct dg_error *err);
int double_backend_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                               void *receiver, struct dg_error *err);

/* Counts a changing step, and fails it if that was asked for. */
int double_store_step(struct double_store *store, struct dg_error *err);
/* Uploads under way: token -> what engine-double-upload.c keeps. Never NULL. */
GHashTable *double_store_uploads(struct double_store *store);
void double_upload_free(gpointer upload);
GHashTable *double_store_notes(struct double_store *store);

int double_backend_note_put(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_slice id, struct dg_slice text, struct dg_error *err);
int double_backend_note_get(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_slice id, char *buffer, size_t *ret_len,
                            struct dg_error *err);
int double_backend_note_remove(void *self, const struct dg_call *call, struct dg_slice bucket,
                               struct dg_slice id, struct dg_error *err);
int double_backend_locate_part(void *self, const struct dg_call *call, const struct dg_item *item,
                               struct dg_slice validator, uint32_t part_no,
                               struct dg_range *ret_range, struct dg_error *err);

int double_backend_copy(void *self, const struct dg_call *call, const struct dg_item *from,
                        struct dg_slice validator, const struct dg_item *to,
                        const struct dg_meta *meta, struct dg_error *err);
int double_backend_upload_begin(void *self, const struct dg_call *call,
                                const struct dg_item *item, const struct dg_meta *meta,
                                char *ret_token, struct dg_error *err);
int double_backend_upload_part(void *self, const struct dg_call *call,
                               const struct dg_item *item, struct dg_slice token,
                               uint32_t part_no, uint64_t size_bytes,
                               struct dg_writer **ret_writer, struct dg_error *err);
int double_backend_upload_complete(void *self, const struct dg_call *call,
                                   const struct dg_item *item, struct dg_slice token,
                                   const struct dg_upload_piece *pieces, uint32_t count,
                                   struct dg_meta *meta, struct dg_error *err);
int double_backend_upload_abort(void *self, const struct dg_call *call,
                                const struct dg_item *item, struct dg_slice token,
                                struct dg_error *err);
int double_backend_share(void *self, const struct dg_call *call, struct dg_error *err);
int double_backend_lease_take(void *self, const struct dg_call *call, struct dg_slice bucket,
                              struct dg_slice prefix, uint32_t ttl_ms, uint32_t *ret_flags,
                              struct dg_error *err);
int double_backend_lease_renew(void *self, const struct dg_call *call, struct dg_slice bucket,
                               struct dg_slice prefix, uint32_t ttl_ms, struct dg_error *err);
int double_backend_lease_give(void *self, const struct dg_call *call, struct dg_slice bucket,
                              struct dg_slice prefix, int32_t keep, uint32_t *ret_wait_ms,
                              struct dg_error *err);
int double_backend_lease_list(void *self, const struct dg_call *call, struct dg_slice bucket,
                              dg_lease_row_fn row, void *receiver, struct dg_error *err);

struct dg_snapshot *double_snapshot_new(const char *dir);

extern const struct dg_codec_ops double_codec_ops;

#endif
