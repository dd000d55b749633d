/* SPDX-License-Identifier: Apache-2.0 */
/* Browser form uploads: multipart/form-data, parsed as it arrives, and the
 * POST policy that its fields must satisfy.
 *
 * Fields before `file` are collected (bounded); the file's bytes are handed out
 * as spans of the input; anything after the file is ignored, as on S3.
 *
 *   new -> feed ... -> fields complete (dg_postform_file_reached)
 *       -> check signature (core/access) and dg_postform_policy_check()
 *       -> feed ... -> finish
 *
 * One owner at a time. */
#ifndef DG_CORE_S3_POSTFORM_H
#define DG_CORE_S3_POSTFORM_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

#define DG_POSTFORM_MAX_FIELDS       100
#define DG_POSTFORM_MAX_FIELDS_BYTES (64u * 1024) /* names and values before the file */

struct dg_postform;

/* content_type: the request's header; gives the boundary.
 * DG_E_MALFORMED_POST if it is not multipart/form-data with a boundary. */
int dg_postform_new(struct dg_slice content_type, struct dg_postform **ret_form,
                    struct dg_error *err);
void dg_postform_free(struct dg_postform *form); /* NULL is fine */

/* Consumes from *io_input; yields at most one span of the file's bytes in
 * *ret_file (empty: none this time), which may point into the input or into the
 * form and stays valid until the next call. Returns early, with input left,
 * when the file's first byte is reached, so that the fields can be checked.
 * Fails with DG_E_MALFORMED_POST, DG_E_ENTITY_TOO_LARGE (fields). */
int dg_postform_feed(struct dg_postform *form, struct dg_slice *io_input,
                     struct dg_slice *ret_file, struct dg_error *err);

/* All fields are known, the file's bytes come next. */
bool dg_postform_file_reached(const struct dg_postform *form);

/* The body has ended. DG_E_MALFORMED_POST without the closing boundary,
 * DG_E_INVALID_ARGUMENT without a file. */
int dg_postform_finish(struct dg_postform *form, struct dg_error *err);

/* A field by name (any case); absent if not sent. Borrowed. */
struct dg_slice dg_postform_field(const struct dg_postform *form, const char *name);
unsigned dg_postform_field_count(const struct dg_postform *form);
struct dg_pair dg_postform_field_at(const struct dg_postform *form, unsigned number);
/* The file's name without folders, and its content type; may be empty. */
struct dg_slice dg_postform_file_name(const struct dg_postform *form);

/* The key with ${filename} replaced; DG_E_INVALID_ARGUMENT without a key field.
 * Borrowed from the form. */
int dg_postform_key(struct dg_postform *form, struct dg_slice *ret_key, struct dg_error *err);

/* Checks the fields against the decoded policy: expiry, every condition, every
 * field covered by one. bucket: from the URL. The range bounds the file's size
 * (0, UINT64_MAX without a content-length-range): enforce it while it arrives.
 * DG_E_ACCESS_DENIED when a condition fails, DG_E_INVALID_ARGUMENT when the
 * policy is malformed. */
int dg_postform_policy_check(struct dg_postform *form, struct dg_slice bucket, int64_t now_s,
                             uint64_t *ret_min_bytes, uint64_t *ret_max_bytes,
                             struct dg_error *err);

/* success_action_status: 200, 201 or 204 (also for anything else). */
unsigned dg_postform_success_status(const struct dg_postform *form);

#endif
