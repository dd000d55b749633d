/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/trace.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/slice.h"
#include "core/access/admission.h"

#include "common/banned.h"

/* NULL, in JSON, where nothing is said. Bytes that are not UTF-8 become U+FFFD. */
static json_t *text_or_null(struct dg_slice text)
{
  g_autofree char *valid =
      text.len ? g_utf8_make_valid(text.data, (gssize)text.len) : NULL;

  return valid ? json_string(valid) : json_null();
}

static const char *decision_name(enum dg_admission_action decision)
{
  switch (decision) {
  case DG_ADMISSION_ALLOW_ANONYMOUS:
    return "allow-anonymous";
  case DG_ADMISSION_DENY:
    return "deny";
  case DG_ADMISSION_REJECT:
    return "reject";
  case DG_ADMISSION_CONTINUE:
    break;
  }
  return "continue";
}

static int fill_request(const struct dg_trace_question *question, struct dg_request *request,
                        struct dg_error *err)
{
  const char *method = question->method ? question->method : "GET";
  const char *path = question->path ? question->path : "/";
  struct dg_ip_range address;

  if (!*method || strlen(method) >= sizeof request->method ||
      strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-") != strlen(method))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "the method is one of GET, HEAD, PUT, POST, DELETE, "
                                               "PATCH, OPTIONS");
  if (*path != '/' || strpbrk(path, "?# \r\n"))
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "the path begins with '/' and has no query, which is given apart");
  if (question->source_ip && (strchr(question->source_ip, '/') ||
                              strlen(question->source_ip) >= sizeof request->peer ||
                              !dg_ip_range_parse(question->source_ip, &address)))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "'%.60s' is no address", question->source_ip);
  *request = (struct dg_request){.raw_path = dg_slice_str(path), .content_length = -1};
  for (size_t i = 0; method[i]; i++)
    request->method[i] = g_ascii_toupper(method[i]);
  if (question->query)
    request->raw_query = dg_slice_str(question->query);
  if (question->source_ip)
    (void)g_strlcpy(request->peer, question->source_ip, sizeof request->peer);
  return 0;
}

static json_t *answer(const struct dg_admission_trace *trace)
{
  json_t *object = json_pack("{s:s}", "decision", decision_name(trace->decision));

  if (trace->matched[0])
    (void)json_object_set_new(object, "matched", json_string(trace->matched));
  if (trace->decision == DG_ADMISSION_REJECT) {
    (void)json_object_set_new(object, "status", json_integer(trace->block->reject_status));
    if (trace->block->reject_message)
      (void)json_object_set_new(object, "message",
                                text_or_null(dg_slice_str(trace->block->reject_message)));
  }
  return object;
}

int dg_trace_print(const struct dg_snapshot *snapshot, const struct dg_trace_question *question,
                   GString *out, struct dg_error *err)
{
  struct dg_admission_request asked;
  struct dg_admission_trace trace;
  struct dg_request request;
  struct dg_target target = {0};
  json_t *document;
  char *text;

  if (fill_request(question, &request, err) < 0 ||
      dg_target_parse(&request, /* base_domains= */ NULL, &target, err) < 0)
    return -1;
  dg_admission_request_fill(&request, &target, &asked);
  asked.authenticated |= question->authenticated;
  dg_admission_evaluate(snapshot, &asked, &trace);
  document = json_pack("{s:{s:s,s:o,s:o,s:o,s:b},s:o}", "resolved", "method", asked.method,
                       "bucket", text_or_null(asked.bucket), "key", text_or_null(asked.key),
                       "list_prefix", text_or_null(asked.list_prefix), "authenticated",
                       (int)asked.authenticated, "admission", answer(&trace));
  dg_target_clear(&target);
  text = json_dumps(document, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
  g_string_append_printf(out, "%s\n", text);
  free(text);
  json_decref(document);
  return 0;
}
