/* SPDX-License-Identifier: Apache-2.0 */
/* DeleteObject and DeleteObjects. */
#include "config.h"

#include "core/http/op.h"

#include "core/s3/answers.h"
#include "core/s3/bodies.h"
#include "core/s3/conditional.h"
#include "core/s3/names.h"

#include "common/banned.h"

static int delete_finish(struct dg_exchange *x, struct dg_error *err)
{
  dg_write_check_fn check;

  if (dg_op_refuse_version(dg_op_query(x, "versionId"), err) < 0 ||
      dg_op_write_check(x, &check, err) < 0 ||
      dg_engine_delete(x->server->engine, &x->call, x->target.bucket, x->target.key, check, x,
                       err) < 0)
    return -1;
  dg_respond(x, 204, NULL, NULL);
  return 0;
}

const struct dg_handler dg_op_delete_object = {
    .operation = "delete_object",
    .body_mode = DG_BODY_NONE,
    .finish = delete_finish,
};

static int etag_matches(void *receiver, const struct dg_object_info *current, struct dg_error *err)
{
  const struct dg_delete_entry *entry = receiver;

  if (current && dg_etag_list_matches(dg_slice_str(entry->etag), current->etag, /* weak= */ false))
    return 0;
  return dg_fail(err, DG_E_PRECONDITION_FAILED, "the object's ETag is another one");
}

/* Each key stands alone: one failure is a row of the answer, not the answer. */
static void delete_one(struct dg_exchange *x, struct dg_delete_entry *entry, bool quiet,
                       GString *out)
{
  struct dg_slice key = dg_slice_of(entry->key, entry->key_len);
  struct dg_error err = {0};

  if (dg_op_refuse_version(dg_slice_str(entry->version_id), &err) == 0 &&
      dg_key_check(key, &err) == 0 &&
      dg_engine_delete(x->server->engine, &x->call, x->target.bucket, key,
                       entry->etag ? etag_matches : NULL, entry, &err) == 0) {
    if (!quiet)
      dg_answer_deleted_row(out, key);
    return;
  }
  dg_answer_deleted_error(out, key, &err);
}

static int delete_objects_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_delete_body *body = NULL;
  GString *out;

  if (dg_engine_bucket_head(x->server->engine, &x->call, x->target.bucket, err) < 0 ||
      dg_delete_body_parse(dg_op_collected(x), &body, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_deleted_begin(out);
  for (guint i = 0; i < body->entries->len; i++)
    delete_one(x, &g_array_index(body->entries, struct dg_delete_entry, i), body->quiet, out);
  dg_answer_deleted_end(out);
  dg_delete_body_free(body);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_delete_objects = {
    .operation = "post_bucket",
    .body_mode = DG_BODY_COLLECT,
    .collect_max = DG_DELETE_MAX_BODY,
    .finish = delete_objects_finish,
};
