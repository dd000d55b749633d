/* SPDX-License-Identifier: Apache-2.0 */
/* Browser form uploads: POST to a bucket, signed by a policy among the fields.
 *
 * The fields come before the file. Once the file is reached they are complete:
 * signature, policy and key are checked there, before a byte is stored. */
#include "config.h"

#include "core/http/op.h"

#include "common/clock.h"
#include "common/uri.h"
#include "core/access/identity.h"
#include "core/http/audit.h"
#include "core/http/policy.h"
#include "core/observe/metrics.h"
#include "core/s3/answers.h"
#include "core/s3/names.h"
#include "core/s3/postform.h"

#include "common/banned.h"

struct post {
  struct dg_postform *form;
  struct dg_put *put;
  struct dg_slice key;           /* borrowed from form */
  uint64_t min_bytes, max_bytes; /* what the policy allows */
  uint64_t size_bytes;
  uint32_t checksum_kind;
  struct dg_slice checksum; /* borrowed from form */
};

static int post_begin(struct dg_exchange *x, struct dg_error *err)
{
  struct post *post = g_new0(struct post, 1);

  x->op = post;
  return dg_postform_new(dg_op_header(x, "content-type"), &post->form, err);
}

/* Fields that promise what this server does not do. */
static int refuse_fields(const struct dg_postform *form, struct dg_error *err)
{
  static const char *const unserved[] = {
      "success_action_redirect",      "redirect", "x-amz-security-token",
      "x-amz-server-side-encryption", "tagging",  "x-amz-website-redirect-location"};
  struct dg_slice acl = dg_postform_field(form, "acl");

  for (size_t i = 0; i < G_N_ELEMENTS(unserved); i++)
    if (dg_postform_field(form, unserved[i]).len)
      return dg_fail(err, DG_E_NOT_IMPLEMENTED, "The form field %s is not implemented.",
                     unserved[i]);
  if (acl.len && !dg_slice_equal_str(acl, "private") &&
      !dg_slice_starts_with(acl, DG_SLICE("bucket-owner-")))
    return dg_fail(err, DG_E_NOT_IMPLEMENTED, "The form field acl may only be private.");
  return 0;
}

static int check_identity(struct dg_exchange *x, const struct post *post, struct dg_error *err)
{
  struct dg_form_credentials credentials = {
      .policy = dg_postform_field(post->form, "policy"),
      .algorithm = dg_postform_field(post->form, "x-amz-algorithm"),
      .credential = dg_postform_field(post->form, "x-amz-credential"),
      .date = dg_postform_field(post->form, "x-amz-date"),
      .signature = dg_postform_field(post->form, "x-amz-signature"),
  };
  struct dg_metrics *metrics = x->server->metrics;
  int verified;

  /* A request that was signed in its headers needs no second proof. */
  if (x->identity.kind != DG_IDENTITY_ANONYMOUS && !credentials.policy.len)
    return 0;
  dg_identity_clear(&x->identity);
  verified = dg_identity_verify_form(x->server->access, dg_view_companion(x->view), &credentials,
                                     &x->request, dg_time_now_s(), &x->identity, err);
  dg_metrics_add(metrics, DG_METRIC_AUTH_ATTEMPTS_TOTAL, verified < 0 ? "failure" : "success", NULL,
                 NULL, 1);
  if (verified < 0)
    dg_audit_identity(x);
  if (verified < 0 && x->identity.failure)
    dg_metrics_add(metrics, DG_METRIC_AUTH_FAILURES_TOTAL, x->identity.failure, NULL, NULL, 1);
  return verified;
}

static int read_checksum(struct post *post, struct dg_error *err)
{
  for (uint32_t kind = DG_SUM_CRC32; kind <= DG_SUM_SHA256; kind++) {
    struct dg_slice value = dg_postform_field(post->form, dg_checksum_header(kind));

    if (!value.len)
      continue;
    if (!dg_checksum_valid(kind, value))
      return dg_fail(err, DG_E_INVALID_REQUEST, "Value for the form field %s is invalid.",
                     dg_checksum_header(kind));
    post->checksum_kind = kind;
    post->checksum = value;
  }
  return 0;
}

static int read_meta(const struct post *post, struct dg_meta *meta, struct dg_error *err)
{
  for (unsigned i = 0; i < dg_postform_field_count(post->form); i++) {
    struct dg_pair field = dg_postform_field_at(post->form, i);

    if (dg_op_meta_add(meta, field.name, field.value, err) < 0)
      return -1;
  }
  return dg_op_meta_check(meta, err);
}

/* All fields are known, the file's first byte comes next. */
static int open_put(struct dg_exchange *x, struct post *post, struct dg_error *err)
{
  struct dg_put_request request = {.bucket = x->target.bucket, .size_bytes = DG_TO_END};
  g_autoptr(dg_op_meta) meta = NULL;

  post->max_bytes = DG_TO_END;
  if (check_identity(x, post, err) < 0 || dg_policy_check_write(x, err) < 0 ||
      refuse_fields(post->form, err) < 0)
    return -1;
  if (dg_postform_field(post->form, "policy").len &&
      dg_postform_policy_check(post->form, x->target.bucket, dg_time_now_s(), &post->min_bytes,
                               &post->max_bytes, err) < 0)
    return -1;
  if (dg_postform_key(post->form, &post->key, err) < 0 || dg_key_check(post->key, err) < 0 ||
      read_checksum(post, err) < 0)
    return -1;
  meta = dg_meta_new();
  if (read_meta(post, meta, err) < 0)
    return -1;
  request.key = post->key;
  request.meta = meta;
  request.checksum_kind = post->checksum_kind;
  return dg_engine_put_open(x->server->engine, &x->call, &request, &post->put, err);
}

static int post_body(struct dg_exchange *x, const void *data, size_t len, struct dg_error *err)
{
  struct post *post = x->op;
  struct dg_slice input = dg_slice_of(data, len), file;

  while (input.len) {
    file = DG_SLICE_NONE;
    if (dg_postform_feed(post->form, &input, &file, err) < 0)
      return -1;
    if (dg_postform_file_reached(post->form) && !post->put && open_put(x, post, err) < 0)
      return -1;
    if (!file.len)
      continue;
    post->size_bytes += file.len;
    if (post->size_bytes > post->max_bytes)
      return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "the policy allows %" G_GUINT64_FORMAT " bytes",
                     post->max_bytes);
    if (dg_put_write(post->put, file.data, file.len, err) < 0)
      return -1;
  }
  return 0;
}

static void answer(struct dg_exchange *x, const struct post *post,
                   const struct dg_put_result *result)
{
  unsigned status = dg_postform_success_status(post->form);
  g_autoptr(GString) location = g_string_new(x->request.tls ? "https://" : "http://");

  dg_slice_append(location, dg_op_header(x, "host"));
  if (!x->target.virtual_host) {
    g_string_append_c(location, '/');
    dg_slice_append(location, x->target.bucket);
  }
  g_string_append_c(location, '/');
  dg_uri_encode(location, post->key, /* keep_slash= */ true);
  dg_response_header(x, "ETag", dg_slice_str(result->etag));
  dg_response_header(x, "Location", dg_slice_of(location->str, location->len));
  dg_op_checksum_header(x, result->checksum_kind, result->checksum_base64);
  if (status == 201) {
    GString *out = g_string_new(NULL);

    dg_answer_post(out, dg_slice_of(location->str, location->len), x->target.bucket, post->key,
                   dg_slice_str(result->etag));
    dg_respond_xml(x, 201, out);
  } else {
    dg_respond(x, (uint16_t)status, NULL, NULL);
  }
}

static int post_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct post *post = x->op;
  struct dg_put_result result = {0};
  struct dg_put_expect expect = {0};

  if (dg_postform_finish(post->form, err) < 0)
    return -1;
  /* An empty file has no first byte that would have opened it. */
  if (!post->put && open_put(x, post, err) < 0)
    return -1;
  if (post->size_bytes < post->min_bytes)
    return dg_fail(err, DG_E_ENTITY_TOO_SMALL,
                   "the policy wants at least %" G_GUINT64_FORMAT " bytes", post->min_bytes);
  expect.checksum_base64 = post->checksum;
  if (dg_put_commit(g_steal_pointer(&post->put), &expect, &result, err) < 0)
    return -1;
  answer(x, post, &result);
  return 0;
}

static void post_release(struct dg_exchange *x)
{
  struct post *post = g_steal_pointer(&x->op);

  if (!post)
    return;
  dg_put_abort(post->put);
  dg_postform_free(post->form);
  g_free(post);
}

const struct dg_handler dg_op_post_object = {
    .operation = "post_bucket",
    .body_mode = DG_BODY_STREAM,
    .raw_payload = true,
    .begin = post_begin,
    .body = post_body,
    .finish = post_finish,
    .release = post_release,
};
