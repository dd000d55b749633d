/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/front.h"

#include "common/clock.h"
#include "common/slice.h"
#include "core/access/admission.h"
#include "core/access/client.h"
#include "core/config/config.h"
#include "core/engine/engine.h"
#include "core/http/audit.h"
#include "core/http/op.h"
#include "core/http/payload.h"
#include "core/http/policy.h"
#include "core/observe/log.h"
#include "core/observe/metrics.h"
#include "core/s3/names.h"

#include "common/banned.h"

/* ---- Which handler ------------------------------------------------------------- */

static const struct dg_handler *const handlers[DG_OP_COUNT] = {
#define DG_OP_ROW(id, name, label, handler) [DG_OP_##id] = &dg_op_##handler,
#include "core/s3/operations.def"
#undef DG_OP_ROW
};

static const struct {
  const char *path;
  const struct dg_handler *handler;
} endpoints[] = {
    {"/_/health", &dg_op_health},
    {"/_/ready", &dg_op_ready},
    {"/_/stats", &dg_op_stats},
    {"/_/metrics", &dg_op_metrics},
};

static bool is_endpoint_path(struct dg_slice path)
{
  return dg_slice_starts_with(path, DG_SLICE("/_/")) || dg_slice_equal_str(path, "/_");
}

/* A key such as "a/b/" is an object like any other, or else a prefix to be emptied. One of
 * nothing but slashes names no prefix: that would be the whole bucket. */
static bool removes_prefix(const struct dg_exchange *x)
{
  struct dg_slice key = x->target.key;
  size_t slashes = 0;

  if (!x->snapshot->recursive_delete || x->target.op != DG_OP_DELETE_OBJECT ||
      key.data[key.len - 1] != '/')
    return false;
  while (slashes < key.len && key.data[slashes] == '/')
    slashes++;
  return slashes < key.len;
}

/* ---- Routing ------------------------------------------------------------------- */

static int refuse(struct dg_exchange *x, const struct dg_error *err)
{
  x->error = *err;
  dg_respond_error(x, err);
  return -1;
}

/* The operator's endpoints: no bucket, no signature. */
static int route_endpoint(struct dg_exchange *x)
{
  struct dg_error err = {0};

  if (!dg_request_is(&x->request, "GET") && !dg_request_is(&x->request, "HEAD")) {
    (void)dg_fail(&err, DG_E_METHOD_NOT_ALLOWED, "endpoints are read with GET");
    return refuse(x, &err);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(endpoints); i++) {
    if (dg_slice_equal_str(x->request.raw_path, endpoints[i].path)) {
      x->handler = endpoints[i].handler;
      return 0;
    }
  }
  (void)dg_fail(&err, DG_E_NO_SUCH_KEY, "no such endpoint");
  return refuse(x, &err);
}

static void count_identity(struct dg_exchange *x, bool passed)
{
  struct dg_metrics *metrics = x->server->metrics;

  if (passed && x->identity.kind != DG_IDENTITY_USER)
    return;
  dg_metrics_add(metrics, DG_METRIC_AUTH_ATTEMPTS_TOTAL, passed ? "success" : "failure", NULL, NULL,
                 1);
  if (!passed && x->identity.failure)
    dg_metrics_add(metrics, DG_METRIC_AUTH_FAILURES_TOTAL, x->identity.failure, NULL, NULL, 1);
}

/* ---- Who may come in ------------------------------------------------------------------ */

/* 1: the chain lets this stranger in; 0: authentication decides; -1: answered. */
static int admit(struct dg_exchange *x)
{
  const struct dg_snapshot *snapshot = x->snapshot;
  struct dg_admission_request request;
  struct dg_admission_trace trace;
  const char *message;

  if (snapshot->admission->len == 0 &&
      !dg_snapshot_bucket(snapshot, x->target.bucket)->public_prefixes)
    return 0;
  dg_admission_request_fill(&x->request, &x->target, &request);
  dg_admission_evaluate(snapshot, &request, &trace);
  switch (trace.decision) {
  case DG_ADMISSION_DENY:
    dg_log_warn(x->server->log, "admission.deny", "request_id=%s peer=%s block=%s", x->request.id,
                dg_client_address(&x->request), trace.matched);
    dg_respond_denied(x, "Access denied by the admission block '%s'.", trace.matched);
    return -1;
  case DG_ADMISSION_REJECT:
    message = trace.block->reject_message;
    dg_respond(x, (uint16_t)trace.block->reject_status, "text/plain; charset=utf-8",
               message ? g_bytes_new(message, strlen(message)) : NULL);
    return -1;
  case DG_ADMISSION_ALLOW_ANONYMOUS:
    /* Where everyone may do everything, a grant would only take away. */
    if (!trace.granted || snapshot->authentication_none)
      return 0;
    x->list_prefixes = trace.list_prefixes;
    return 1;
  case DG_ADMISSION_CONTINUE:
    break;
  }
  return 0;
}

/* A stranger's identity. What a page shows is not his to say: with response-content-type
 * any text could be served as a page of this host. */
static int identify_stranger(struct dg_exchange *x, struct dg_error *err)
{
  for (uint32_t i = 0; i < x->target.param_count; i++)
    if (dg_slice_starts_with(x->target.params[i].name, DG_SLICE("response-")))
      return dg_fail(err, DG_E_INVALID_REQUEST, "%.*s can only be used in a signed request.",
                     DG_SLICE_ARG(x->target.params[i].name));
  x->identity = (struct dg_identity){.kind = DG_IDENTITY_ANONYMOUS, .access_key = "$anonymous"};
  return 0;
}

static int identify(struct dg_exchange *x, bool admitted, struct dg_error *err)
{
  int result;

  if (admitted)
    return identify_stranger(x, err);
  result = dg_identity_verify(x->server->access, dg_view_companion(x->view), &x->request,
                              &x->target, dg_time_now_s(), &x->identity, err);
  count_identity(x, result == 0);
  if (result < 0)
    dg_audit_identity(x);
  return result;
}

/* Names are judged after the signature: a stranger learns nothing. */
static int check_names(struct dg_exchange *x, struct dg_error *err)
{
  if (x->target.bucket.len && dg_bucket_name_check(x->target.bucket, err) < 0)
    return -1;
  return x->target.key.len ? dg_key_check(x->target.key, err) : 0;
}

/* Whoever sends a form is known once its fields are read: its handler asks then. */
static int check_policy(const struct dg_exchange *x, struct dg_error *err)
{
  return x->identity.kind == DG_IDENTITY_ANONYMOUS ? 0 : dg_policy_check_write(x, err);
}

/* A stored body needs a length, or chunks that end by themselves. */
static int check_length(const struct dg_exchange *x, struct dg_error *err)
{
  if (x->handler->body_mode == DG_BODY_STREAM && x->request.content_length < 0 &&
      !x->request.chunked)
    return dg_fail(err, DG_E_MISSING_LENGTH, "neither Content-Length nor chunked");
  return 0;
}

int dg_front_route(struct dg_exchange *x)
{
  struct dg_error err = {0};
  bool endpoint = is_endpoint_path(x->request.raw_path);
  int admitted;

  x->view = dg_engine_view(x->server->engine);
  x->snapshot = dg_view_snapshot(x->view);
  if (dg_target_parse(&x->request,
                      endpoint ? NULL : (const char *const *)x->snapshot->base_domains,
                      &x->target, &err) < 0)
    return refuse(x, &err);
  dg_client_resolve(x->snapshot, &x->request);
  if (endpoint)
    return route_endpoint(x);
  if (removes_prefix(x))
    x->target.op = DG_OP_DELETE_PREFIX;
  x->handler = handlers[x->target.op];
  admitted = admit(x);
  if (admitted < 0)
    return -1;
  if (identify(x, admitted > 0, &err) < 0)
    return refuse(x, &err);
  if (check_names(x, &err) < 0 || check_policy(x, &err) < 0 ||
      dg_payload_facts_read(x, &err) < 0 || check_length(x, &err) < 0)
    return refuse(x, &err);
  return 0;
}

/* ---- Afterwards ------------------------------------------------------------------ */

/* Metric labels are literals of a closed set. */
static const char *method_label(const struct dg_exchange *x)
{
  static const char *const methods[] = {"GET", "PUT", "HEAD", "DELETE", "POST", "OPTIONS"};

  for (size_t i = 0; i < G_N_ELEMENTS(methods); i++)
    if (dg_request_is(&x->request, methods[i]))
      return methods[i];
  return "OTHER";
}

static const char *status_label(uint16_t status)
{
  static const struct {
    uint16_t status;
    const char *text;
  } known[] = {
      {200, "200"}, {204, "204"}, {206, "206"}, {304, "304"}, {400, "400"}, {403, "403"},
      {404, "404"}, {405, "405"}, {408, "408"}, {409, "409"}, {411, "411"}, {412, "412"},
      {413, "413"}, {414, "414"}, {416, "416"}, {417, "417"}, {431, "431"}, {500, "500"},
      {501, "501"}, {503, "503"}, {504, "504"}, {505, "505"}, {507, "507"}, {201, "201"},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
    if (known[i].status == status)
      return known[i].text;
  return "other";
}

static const char *operation_label(const struct dg_exchange *x)
{
  if (!x->handler)
    return "unknown";
  return is_endpoint_path(x->request.raw_path) || !x->target.memory ? x->handler->operation
                                                                    : dg_op_label(x->target.op);
}

static void count_request(struct dg_exchange *x, double seconds)
{
  struct dg_metrics *metrics = x->server->metrics;
  const char *method = method_label(x), *operation = operation_label(x);

  dg_metrics_add(metrics, DG_METRIC_HTTP_REQUESTS_TOTAL, method, status_label(x->response.status),
                 operation, 1);
  dg_metrics_observe(metrics, DG_METRIC_HTTP_REQUEST_DURATION_SECONDS, method, operation, seconds);
  dg_metrics_observe(metrics, DG_METRIC_HTTP_REQUEST_SIZE_BYTES, method, NULL,
                     (double)x->body_bytes);
  dg_metrics_observe(metrics, DG_METRIC_HTTP_RESPONSE_SIZE_BYTES, method, NULL,
                     (double)x->bytes_sent);
}

/* The query stays out: it may hold a presigned signature. */
static void log_request(struct dg_exchange *x, double seconds)
{
  uint32_t level =
      x->response.status >= 500 || x->error.code == DG_E_CORRUPT ? DG_LOG_ERROR : DG_LOG_INFO;
  const char *name = is_endpoint_path(x->request.raw_path) || !x->target.memory
                         ? operation_label(x)
                         : dg_op_name(x->target.op);
  guint64 tenths = (guint64)(seconds * 10000 + 0.5); /* of a millisecond: %f is slow */
  struct dg_log_quoted user, path;
  char took[32];

  if (!dg_log_enabled(x->server->log, level))
    return;
  (void)dg_log_quote(&user, dg_slice_str(x->identity.access_key));
  (void)dg_log_quote(&path, x->request.raw_path);
  (void)g_snprintf(took, sizeof took, "%" G_GUINT64_FORMAT ".%u", tenths / 10,
                   (unsigned)(tenths % 10));
  if (x->error.code == 0)
    dg_log_write(x->server->log, level, "http.request",
                 "request_id=%s peer=%s user=%s method=%s path=%s operation=%s status=%u "
                 "in_bytes=%" G_GUINT64_FORMAT " out_bytes=%" G_GUINT64_FORMAT " ms=%s",
                 x->request.id, dg_client_address(&x->request), user.text, x->request.method, path.text, name,
                 x->response.status, x->body_bytes, x->bytes_sent, took);
  else
    dg_log_write(
        x->server->log, level, "http.request",
        "request_id=%s peer=%s user=%s method=%s path=%s operation=%s status=%u "
        "in_bytes=%" G_GUINT64_FORMAT " out_bytes=%" G_GUINT64_FORMAT " ms=%s error=%d detail=%s",
        x->request.id, dg_client_address(&x->request), user.text, x->request.method, path.text, name,
        x->response.status, x->body_bytes, x->bytes_sent, took, x->error.code,
        DG_LOG_QUOTED(dg_slice_str(x->error.detail)));
}

/* Did everyone's rights serve this request? */
static bool is_stranger(const struct dg_exchange *x)
{
  return x->identity.kind == DG_IDENTITY_ANONYMOUS && x->identity.access_key[0] == '$';
}

void dg_front_done(struct dg_exchange *x)
{
  double seconds = (double)(g_get_monotonic_time() - (int64_t)x->started_mono_us) / 1e6;

  if (x->response.status >= 400 || x->response.status == 0)
    dg_identity_forgive(x->server->access, &x->identity);
  else if (is_stranger(x))
    dg_audit(x, "public_read");
  count_request(x, seconds);
  log_request(x, seconds);
}

void dg_front_leave(struct dg_exchange *x)
{
  dg_view_unref(x->view);
  x->view = NULL;
  x->snapshot = NULL;
}
