/* SPDX-License-Identifier: Apache-2.0 */
/* PutObject: the body streams from the connection into the engine. */
#include "config.h"

#include "core/http/op.h"

#include "common/banned.h"

static int put_begin(struct dg_exchange *x, struct dg_error *err)
{
  g_autoptr(dg_op_meta) meta = NULL;
  struct dg_put_request request = {
      .bucket = x->target.bucket,
      .key = x->target.key,
      .size_bytes = x->payload.decoded_length,
      .checksum_kind = x->payload.checksum_kind,
      .receiver = x,
  };
  struct dg_put_expect expect;
  struct dg_put *put;

  /* A digest that cannot be one is refused before the body is sent. */
  if (dg_op_refuse_unkept(x, err) < 0 || dg_op_write_check(x, &request.check, err) < 0 ||
      dg_op_expect(x, &expect, err) < 0 || dg_op_meta_from_head(x, &meta, err) < 0)
    return -1;
  request.meta = meta;
  if (dg_engine_put_open(x->server->engine, &x->call, &request, &put, err) < 0)
    return -1;
  x->op = put;
  return 0;
}

static int put_body(struct dg_exchange *x, const void *data, size_t len, struct dg_error *err)
{
  return dg_put_write(x->op, data, len, err);
}

static int put_finish(struct dg_exchange *x, struct dg_error *err)
{
  struct dg_put *put = g_steal_pointer(&x->op);
  struct dg_put_result result = {0};
  struct dg_put_expect expect;

  if (dg_op_expect(x, &expect, err) < 0) {
    dg_put_abort(put);
    return -1;
  }
  if (dg_put_commit(put, &expect, &result, err) < 0)
    return -1;
  dg_response_header(x, "ETag", dg_slice_str(result.etag));
  dg_op_checksum_header(x, result.checksum_kind, result.checksum_base64);
  dg_op_stored_headers(x, result.variant, result.stored_bytes);
  dg_respond(x, 200, NULL, NULL);
  return 0;
}

static void put_release(struct dg_exchange *x)
{
  dg_put_abort(x->op);
  x->op = NULL;
}

const struct dg_handler dg_op_put_object = {
    .operation = "put_object",
    .body_mode = DG_BODY_STREAM,
    .begin = put_begin,
    .body = put_body,
    .finish = put_finish,
    .release = put_release,
};
