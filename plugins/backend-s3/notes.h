/* SPDX-License-Identifier: Apache-2.0 */
/* Notes: dg_backend_ops of the same names. [worker]
 *
 * One object each, .deltaglider/notes/ID, below a prefix that no listing shows. */
#ifndef DG_S3_NOTES_H
#define DG_S3_NOTES_H

#include "s3.h"

#define DG_S3_NOTES ".deltaglider/notes/"

int dg_s3_note_put(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                   struct dg_slice id, struct dg_slice text, struct dg_error *err);
int dg_s3_note_get(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                   struct dg_slice id, char *buffer, size_t *ret_len, struct dg_error *err);
int dg_s3_note_remove(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_slice id, struct dg_error *err);

#endif
