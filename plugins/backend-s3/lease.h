/* SPDX-License-Identifier: Apache-2.0 */
/* Who of several servers may change a deltaspace: a small object per deltaspace,
 *
 *   .deltaglider/leases/SHA256-OF-PREFIX
 *
 * made with If-None-Match: *, taken over and renewed with If-Match, removed when
 * done. It lapses when the upstream's own clock (Date against Last-Modified) is
 * past its time: no server's clock counts.
 *
 * A holder that was stopped for long must not change anything when it wakes up.
 * S3 has no condition that says so for a DELETE, but it has signatures with an
 * end: whatever changes a deltaspace is signed in the query, with the upstream's
 * time and an X-Amz-Expires that ends before the lease does. The upstream itself
 * refuses what comes late.
 *
 * An answer that never came leaves a doubt: the request may still be under way.
 * Until its signature has ended the lease is not given back. */
#ifndef DG_S3_LEASE_H
#define DG_S3_LEASE_H

#include "request.h"
#include "s3.h"

#define DG_S3_LEASES ".deltaglider/leases/"

struct dg_s3_leases;
struct dg_s3_lease;

struct dg_s3_leases *dg_s3_leases_new(void);
void dg_s3_leases_free(struct dg_s3_leases *leases); /* NULL is fine */

/* ---- dg_backend_ops of the same names ------------------------------------------------ */

int dg_s3_share(struct dg_s3 *s3, const struct dg_call *call, struct dg_error *err);
int dg_s3_lease_take(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice prefix, uint32_t ttl_ms, uint32_t *ret_flags,
                     struct dg_error *err);
int dg_s3_lease_renew(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_slice prefix, uint32_t ttl_ms, struct dg_error *err);
int dg_s3_lease_give(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice prefix, bool keep, uint32_t *ret_wait_ms,
                     struct dg_error *err);
int dg_s3_lease_list(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     dg_lease_row_fn row, void *receiver, struct dg_error *err);

/* ---- For requests ----------------------------------------------------------------------- */

/* [worker] Before a request, complete but for its signature, that changes an object: waits
 * until no earlier change of it is in doubt (doubts.h), and puts it under the lease of its
 * deltaspace, if other servers write here too. DG_E_SLOW_DOWN without that lease. */
int dg_s3_lease_guard(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_request *request,
                      struct dg_error *err);
/* [any] Sets when the next attempt is signed and for how long. DG_E_SLOW_DOWN:
 * the lease has run out. */
int dg_s3_lease_stamp(struct dg_s3_lease *lease, struct dg_s3_request *request,
                      struct dg_error *err);
/* [any] The attempt got no answer that tells whether it was done. */
void dg_s3_lease_doubt(struct dg_s3_lease *lease);
/* [any] It was done: while the lease held? Else nobody knows what others made of
 * it: DG_E_SLOW_DOWN. */
int dg_s3_lease_check(struct dg_s3_lease *lease, struct dg_error *err);
/* [any] The same after a look has shown that it was done, whatever the answer was. */
int dg_s3_lease_confirm(struct dg_s3 *s3, struct dg_slice bucket, struct dg_slice name,
                        struct dg_error *err);
void dg_s3_lease_unref(struct dg_s3_lease *lease); /* NULL is fine */

#endif
