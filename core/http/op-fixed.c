/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that do not depend on what is stored beyond its existence: clients
 * ask for ACLs, versioning, tags and policies before they work, and give up
 * when the answer is not S3's. Everything this server does not have is
 * NotImplemented, never an internal error. */
#include "config.h"

#include "core/http/op.h"

#include "core/s3/answers.h"

#include "common/banned.h"

static int require_bucket(struct dg_exchange *x, struct dg_error *err)
{
  return dg_engine_bucket_head(x->server->engine, &x->call, x->target.bucket, err);
}

static int require_object(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_object_info info = {0};

  if (dg_engine_head(x->server->engine, &x->call, x->target.bucket, x->target.key, &info, err) < 0)
    return -1;
  dg_object_info_clear(&info);
  return 0;
}

static int require_target(struct dg_exchange *x, struct dg_error *err)
{
  return x->target.key.len ? require_object(x, err) : require_bucket(x, err);
}

/* ---- ACL: one owner with full control ------------------------------------------ */

static int acl_finish(struct dg_exchange *x, struct dg_error *err)
{
  GString *out;

  if (require_target(x, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_acl(out);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_bucket_acl = {
    .operation = "head_bucket", .body_mode = DG_BODY_NONE, .finish = acl_finish};
const struct dg_handler dg_op_object_acl = {
    .operation = "head_object", .body_mode = DG_BODY_NONE, .finish = acl_finish};

/* ---- Never versioned, never tagged ---------------------------------------------- */

static int versioning_finish(struct dg_exchange *x, struct dg_error *err)
{
  GString *out;

  if (require_bucket(x, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_versioning(out);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_bucket_versioning = {
    .operation = "head_bucket", .body_mode = DG_BODY_NONE, .finish = versioning_finish};

/* S3 answers an object without tags with an empty set; aws s3 cp asks before a
 * large copy and gives up on anything else. */
static int object_tagging_finish(struct dg_exchange *x, struct dg_error *err)
{
  GString *out;

  if (require_object(x, err) < 0)
    return -1;
  out = g_string_new(NULL);
  dg_answer_tagging(out);
  dg_respond_xml(x, 200, out);
  return 0;
}

const struct dg_handler dg_op_object_tagging = {
    .operation = "head_object", .body_mode = DG_BODY_NONE, .finish = object_tagging_finish};

/* ---- Everything else ------------------------------------------------------------ */

/* A missing target is the more helpful answer, and the one S3 gives. */
static int not_implemented_begin(struct dg_exchange *x, struct dg_error *err)
{
  if (x->target.bucket.len && require_target(x, err) < 0)
    return -1;
  return dg_fail(err, DG_E_NOT_IMPLEMENTED, "%s is not implemented by this server.",
                 dg_op_name(x->target.op));
}

static int not_implemented_finish(struct dg_exchange *x, struct dg_error *err)
{
  (void)x;
  return dg_fail(err, DG_E_NOT_IMPLEMENTED, "operation not served");
}

const struct dg_handler dg_op_not_implemented = {
    .operation = "unknown",
    .body_mode = DG_BODY_NONE,
    .begin = not_implemented_begin,
    .finish = not_implemented_finish,
};

/* Answered on the loop: probes of load balancers must not queue. */
static int empty_ok(struct dg_exchange *x)
{
  dg_respond(x, 200, NULL, NULL);
  return 1;
}

static int empty_finish(struct dg_exchange *x, struct dg_error *err)
{
  (void)err;
  (void)empty_ok(x);
  return 0;
}

const struct dg_handler dg_op_head_root = {
    .operation = "head_root", .body_mode = DG_BODY_NONE, .fast = empty_ok, .finish = empty_finish};
const struct dg_handler dg_op_options = {
    .operation = "unknown", .body_mode = DG_BODY_NONE, .fast = empty_ok, .finish = empty_finish};
