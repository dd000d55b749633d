/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads whose parts go to the storage at once, and that it joins itself.
 *
 *   UNDECIDED --part of 5 MiB or more--> BEGINNING -> BEGUN
 *       ^---------- on failure ------------'   '---> NEVER  (it would be a delta, the
 *                                                    storage cannot, bodies are sealed)
 *
 * Until it is BEGUN, parts are files of the server, as they are in an upload that is
 * NEVER native. S3 joins no parts below 5 MiB but the last, so only a large part begins
 * it; from then on every part of known size goes to the storage, and those that came
 * before are sent when the upload is completed. Where it was begun is kept in
 * native.json; of a part at the storage there is a file that holds its trailer alone.
 *
 * [worker] throughout. */
#ifndef DG_CORE_ENGINE_UPLOADNATIVE_H
#define DG_CORE_ENGINE_UPLOADNATIVE_H

#include "core/engine/put.h"
#include "core/engine/upload.h"

struct dg_native_part;

/* *ret_part: NULL if the part goes to a file. size_bytes: exact, or DG_TO_END. Fails with
 * DG_E_NO_SUCH_UPLOAD also when the bucket has moved since. */
int dg_native_part_open(struct dg_engine *engine, const struct dg_call *call,
                        struct dg_upload *upload, uint32_t part_no, uint64_t size_bytes,
                        struct dg_native_part **ret_part, struct dg_error *err);
int dg_native_part_write(struct dg_native_part *part, const void *data, size_t len,
                         struct dg_error *err);
/* Makes it the storage's; fills in row's tag. The part stays to be freed. */
int dg_native_part_commit(struct dg_native_part *part, struct dg_part *row, struct dg_error *err);
void dg_native_part_free(struct dg_native_part *part); /* aborts it if need be; NULL is fine */

/* Joins the parts (some of which may still be files; their tags are filled in) under
 * the object's lock, with the request's check. part_sizes: all of theirs, as
 * partsizes.h has them. */
int dg_native_complete(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_put_request *request, struct dg_upload *upload,
                       struct dg_part *parts, uint32_t count, const char *part_sizes,
                       struct dg_put_result *ret_result, struct dg_error *err);

/* Drops what the storage has of it; success if there is nothing. */
int dg_native_drop(struct dg_engine *engine, const struct dg_call *call, struct dg_upload *upload,
                   struct dg_error *err);

/* Once the object is there. joined: the storage made it; else what it was sent in vain
 * is dropped, which a later sweep repeats if it fails (it then goes on being BEGUN). */
int dg_native_end(struct dg_engine *engine, const struct dg_call *call, struct dg_upload *upload,
                  bool joined, struct dg_error *err);

#endif
