/* SPDX-License-Identifier: Apache-2.0 */
/* A POST policy document: JSON with an expiry and conditions on form fields.
 * Private to postform.c and its tests. Thread: one owner. */
#ifndef DG_CORE_S3_POSTPOLICY_H
#define DG_CORE_S3_POSTPOLICY_H

#include <deltaglider/plugin.h>

struct dg_post_policy;

/* DG_E_INVALID_ARGUMENT for anything that is not a policy. */
int dg_post_policy_parse(struct dg_slice json, struct dg_post_policy **ret_policy,
                         struct dg_error *err);
void dg_post_policy_free(struct dg_post_policy *policy); /* NULL is fine */

/* Expiry and every condition; value() gives a field's value, absent if it was
 * not sent. DG_E_ACCESS_DENIED names what failed. */
int dg_post_policy_check(const struct dg_post_policy *policy, struct dg_slice bucket,
                         struct dg_slice (*value)(void *receiver, const char *name),
                         void *receiver, int64_t now_s, struct dg_error *err);

/* Is this field mentioned in a condition, or one that need not be? */
int dg_post_policy_covers(const struct dg_post_policy *policy, const char *field,
                          struct dg_error *err);

/* content-length-range; 0 and UINT64_MAX without one. */
void dg_post_policy_size(const struct dg_post_policy *policy, uint64_t *ret_min_bytes,
                         uint64_t *ret_max_bytes);

#endif
