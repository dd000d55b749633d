/* SPDX-License-Identifier: Apache-2.0 */
/* Listings in the order of keys, from an upstream that lists in the order of
 * its own names. [worker]
 *
 * A name sorts at or after its key, with only keys that begin with that key in
 * between: `x.delta` (the key x) comes after `x-1`. So a row may be given out
 * only when no key below it can still come. After names up to L were read, the
 * keys that can still come and sort below L are the proper prefixes of L whose
 * name sorts after L: a handful. They are asked for one by one, or the listing
 * is read on until they are passed, whichever is less. */
#ifndef DG_S3_LIST_H
#define DG_S3_LIST_H

#include "s3.h"

int dg_s3_list(struct dg_s3 *s3, const struct dg_call *call, const struct dg_list_request *request,
               dg_list_row_fn row, void *receiver, struct dg_error *err);

/* The names that may still come though their keys sort below `last`, the last
 * name read: appended to names (owned strings), shortest key first. No key
 * that holds `delimiter` behind prefix_len bytes: those are rolled up. Exposed
 * for tests. [any] */
void dg_s3_list_late_names(struct dg_slice last, size_t prefix_len, struct dg_slice delimiter,
                           bool references, GPtrArray *names);

#endif
