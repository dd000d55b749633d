/* SPDX-License-Identifier: Apache-2.0 */
/* DeleteObject and DeleteObjects. */
#include "config.h"

#include "core/http/fanout.h"
#include "core/http/op.h"
#include "core/http/policy.h"

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
struct outcome {
  bool done;
  struct dg_error err;
};

struct batch {
  struct dg_exchange *x;
  GArray *entries;
  struct outcome *outcomes;
};

static struct dg_slice key_of(const struct dg_delete_entry *entry)
{
  return dg_slice_of(entry->key, entry->key_len);
}

static void delete_one(void *receiver, uint32_t i)
{
  struct batch *batch = receiver;
  struct dg_exchange *x = batch->x;
  struct dg_delete_entry *entry = &g_array_index(batch->entries, struct dg_delete_entry, i);
  struct outcome *outcome = &batch->outcomes[i];

  outcome->done =
    dg_op_refuse_version(dg_slice_str(entry->version_id), &outcome->err) == 0 &&
    dg_key_check(key_of(entry), &outcome->err) == 0 &&
    dg_policy_check_removal(x, key_of(entry), &outcome->err) == 0 &&
    dg_engine_delete(x->server->engine, &x->call, x->target.bucket, key_of(entry),
                     entry->etag ? etag_matches : NULL, entry, &outcome->err) == 0;
}

static void tell_all(const struct batch *batch, bool quiet, GString *out)
{
  for (guint i = 0; i < batch->entries->len; i++) {
    const struct outcome *outcome = &batch->outcomes[i];
    struct dg_slice key = key_of(&g_array_index(batch->entries, struct dg_delete_entry, i));

    if (!outcome->done)
      dg_answer_deleted_error(out, key, &outcome->err);
    else if (!quiet)
      dg_answer_deleted_row(out, key);
  }
}

static int delete_objects_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_delete_body *body = NULL;
  struct batch batch = {.x = x};
  GString *out;

  if (dg_engine_bucket_head(x->server->engine, &x->call, x->target.bucket, err) < 0 ||
      dg_delete_body_parse(dg_op_collected(x), &body, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_deleted_begin(out);
  batch.entries = body->entries;
  batch.outcomes = g_new0(struct outcome, MAX(body->entries->len, 1));
  dg_fan_out(body->entries->len, delete_one, &batch);
  tell_all(&batch, body->quiet, out);
  g_free(batch.outcomes);
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
