/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/op.h"

#include "common/banned.h"

/* ---- Reading the request ------------------------------------------------------ */

/* Presigners move x-amz-* headers into the query, where the signature covers
 * them: they mean the same there. */
struct dg_slice dg_op_header(const struct dg_exchange *x, const char *name)
{
  struct dg_slice value = dg_request_header(&x->request, name);

  if (dg_slice_present(value) || !x->identity.presigned || strncmp(name, "x-amz-", 6) != 0)
    return value;
  for (uint32_t i = 0; i < x->target.param_count; i++)
    if (dg_slice_equal_nocase(x->target.params[i].name, dg_slice_str(name)))
      return x->target.params[i].value;
  return value;
}

struct dg_slice dg_op_query(const struct dg_exchange *x, const char *name)
{
  return dg_target_param(&x->target, name);
}

bool dg_op_has_query(const struct dg_exchange *x, const char *name)
{
  return dg_target_has(&x->target, name);
}

int dg_op_query_uint(const struct dg_exchange *x, const char *name, uint64_t min, uint64_t max,
                     uint64_t dflt, uint64_t *ret_number, struct dg_error *err)
{
  struct dg_slice value = dg_op_query(x, name);
  uint64_t number;

  if (!value.len) {
    *ret_number = dflt;
    return 0;
  }
  if (!dg_slice_to_u64(value, &number) || number < min || number > max)
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "%s: must be a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, name,
                   min, max);
  *ret_number = number;
  return 0;
}

int dg_op_refuse_version(struct dg_slice version, struct dg_error *err)
{
  /* "null" names the only version that an unversioned bucket has. */
  if (version.len && !dg_slice_equal_str(version, "null"))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "versionId: this bucket has no versions");
  return 0;
}

struct dg_slice dg_op_collected(const struct dg_exchange *x)
{
  if (!x->collected)
    return DG_SLICE("");
  return dg_slice_of(x->collected->data, x->collected->len);
}

static bool one_of(struct dg_slice value, const char *const *choices)
{
  for (; *choices; choices++)
    if (dg_slice_equal_str(value, *choices))
      return true;
  return false;
}

int dg_op_refuse_unkept(const struct dg_exchange *x, struct dg_error *err)
{
  /* Asking for what the owner has anyway is no request for more. */
  static const char *const kept_acls[] = {"private", "bucket-owner-read",
                                          "bucket-owner-full-control", NULL};
  static const char *const classes[] = {"STANDARD",     "REDUCED_REDUNDANCY",  "STANDARD_IA",
                                        "ONEZONE_IA",   "INTELLIGENT_TIERING", "GLACIER",
                                        "DEEP_ARCHIVE", "GLACIER_IR",          "OUTPOSTS",
                                        "SNOW",         "EXPRESS_ONEZONE",     NULL};
  static const char *const unkept[] = {
      "x-amz-server-side-encryption",
      "x-amz-server-side-encryption-customer-algorithm",
      "x-amz-copy-source-server-side-encryption-customer-algorithm",
      "x-amz-object-lock-mode",
      "x-amz-object-lock-legal-hold",
      "x-amz-object-lock-retain-until-date",
      "x-amz-website-redirect-location",
      "x-amz-grant-read",
      "x-amz-grant-write",
      "x-amz-grant-read-acp",
      "x-amz-grant-write-acp",
      "x-amz-grant-full-control",
      "x-amz-tagging"};
  struct dg_slice acl = dg_op_header(x, "x-amz-acl");
  struct dg_slice storage_class = dg_op_header(x, "x-amz-storage-class");

  if (acl.len && !one_of(acl, kept_acls))
    return dg_fail(err, DG_E_NOT_IMPLEMENTED, "x-amz-acl: only private is served");
  if (storage_class.len && !one_of(storage_class, classes))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "x-amz-storage-class: no such class; use STANDARD");
  for (size_t i = 0; i < G_N_ELEMENTS(unkept); i++)
    if (dg_op_header(x, unkept[i]).len)
      return dg_fail(err, DG_E_NOT_IMPLEMENTED, "%s is not served", unkept[i]);
  return 0;
}

int dg_op_encoding(const struct dg_exchange *x, bool *ret_url_encode, struct dg_error *err)
{
  struct dg_slice value = dg_op_query(x, "encoding-type");

  if (value.len && !dg_slice_equal_str(value, "url"))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "encoding-type: only url is known");
  *ret_url_encode = value.len > 0;
  return 0;
}
