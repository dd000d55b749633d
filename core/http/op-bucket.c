/* SPDX-License-Identifier: Apache-2.0 */
/* ListBuckets, CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation. */
#include "config.h"

#include "core/http/op.h"

#include "core/s3/answers.h"
#include "core/s3/bodies.h"

#include "common/banned.h"

/* ---- ListBuckets -------------------------------------------------------------- */

struct bucket_page {
  GString *out;
  struct dg_slice prefix, after;
  uint64_t max_rows, row_count;
  bool truncated;
  GString *last;
};

static int32_t list_row(void *receiver, const struct dg_bucket_row *row)
{
  struct bucket_page *page = receiver;

  if (!dg_slice_starts_with(row->name, page->prefix) ||
      (page->after.len && dg_slice_compare(row->name, page->after) <= 0))
    return 0;
  if (page->row_count == page->max_rows) {
    page->truncated = true;
    return 1;
  }
  page->row_count++;
  g_string_truncate(page->last, 0);
  dg_slice_append(page->last, row->name);
  dg_answer_buckets_row(page->out, row->name, row->created_at_s);
  return 0;
}

static int list_buckets_finish(struct dg_exchange *x, struct dg_error *err)
{
  GString *out = g_string_new(NULL);
  g_autoptr(GString) last = g_string_new(NULL);
  struct bucket_page page = {
      .out = out,
      .prefix = dg_op_query(x, "prefix"),
      .after = dg_op_query(x, "continuation-token"),
      .last = last,
  };

  if (dg_op_query_uint(x, "max-buckets", 1, 10000, 10000, &page.max_rows, err) < 0)
    goto fail;
  dg_answer_buckets_begin(out);
  if (dg_engine_bucket_list(x->server->engine, &x->call, list_row, &page, err) < 0)
    goto fail;
  dg_answer_buckets_end(out, page.prefix,
                        page.truncated ? dg_slice_of(last->str, last->len) : DG_SLICE_NONE);
  dg_respond_xml(x, 200, out);
  return 0;
fail:
  g_string_free(out, TRUE);
  return -1;
}

const struct dg_handler dg_op_list_buckets = {
    .operation = "list_buckets",
    .body_mode = DG_BODY_NONE,
    .finish = list_buckets_finish,
};

/* ---- CreateBucket ------------------------------------------------------------- */

static int create_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_slice body = dg_op_collected(x);

  if (dg_slice_equal_nocase(dg_op_header(x, "x-amz-bucket-object-lock-enabled"), DG_SLICE("true")))
    return dg_fail(err, DG_E_NOT_IMPLEMENTED, "object lock is not supported");
  if (dg_op_refuse_unkept(x, err) < 0)
    return -1;
  if (dg_create_bucket_body_check(body, err) < 0 ||
      dg_engine_bucket_create(x->server->engine, &x->call, x->target.bucket, err) < 0)
    return -1;
  dg_response_headerf(x, "Location", "/%.*s", DG_SLICE_ARG(x->target.bucket));
  dg_respond(x, 200, NULL, NULL);
  return 0;
}

const struct dg_handler dg_op_create_bucket = {
    .operation = "create_bucket",
    .body_mode = DG_BODY_COLLECT,
    .collect_max = DG_CREATE_BUCKET_MAX_BODY,
    .finish = create_finish,
};

/* ---- HeadBucket, DeleteBucket, GetBucketLocation ------------------------------ */

static int head_finish(struct dg_exchange *x, struct dg_error *err)
{
  if (dg_engine_bucket_head(x->server->engine, &x->call, x->target.bucket, err) < 0)
    return -1;
  dg_response_header(x, "x-amz-bucket-region", DG_SLICE(DG_OP_REGION));
  dg_respond(x, 200, "application/xml", NULL);
  return 0;
}

const struct dg_handler dg_op_head_bucket = {
    .operation = "head_bucket",
    .body_mode = DG_BODY_NONE,
    .finish = head_finish,
};

static int delete_finish(struct dg_exchange *x, struct dg_error *err)
{
  if (dg_engine_bucket_delete(x->server->engine, &x->call, x->target.bucket, err) < 0)
    return -1;
  dg_respond(x, 204, NULL, NULL);
  return 0;
}

const struct dg_handler dg_op_delete_bucket = {
    .operation = "delete_bucket",
    .body_mode = DG_BODY_NONE,
    .finish = delete_finish,
};

/* us-east-1 is spelt as an empty document. */
static int location_finish(struct dg_exchange *x, struct dg_error *err)
{
  GString *out;

  if (dg_engine_bucket_head(x->server->engine, &x->call, x->target.bucket, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_location(out);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_bucket_location = {
    .operation = "head_bucket",
    .body_mode = DG_BODY_NONE,
    .finish = location_finish,
};
