/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/admission.h"

#include "common/slice.h"
#include "core/access/claim.h"
#include "core/access/client.h"
#include "core/access/glob.h"
#include "core/access/public.h"

#include "common/banned.h"

/* ---- What is asked of a request ------------------------------------------------------ */

bool dg_admission_is_authenticated(const struct dg_request *request,
                                   const struct dg_target *target)
{
  enum dg_claim_kind kind = DG_CLAIM_NONE;
  struct dg_error ignored;

  /* Credentials that cannot be told apart are credentials. */
  return dg_claim_find(request, target, &kind, &ignored) < 0 || kind != DG_CLAIM_NONE;
}

static bool lists_objects(enum dg_op op)
{
  return op == DG_OP_LIST_OBJECTS || op == DG_OP_LIST_OBJECTS_V2;
}

static bool reads_object(enum dg_op op)
{
  return op == DG_OP_GET_OBJECT || op == DG_OP_HEAD_OBJECT;
}

void dg_admission_request_fill(const struct dg_request *request, const struct dg_target *target,
                               struct dg_admission_request *ret_request)
{
  struct dg_ip_range address;

  *ret_request = (struct dg_admission_request){
    .method = request->method,
    .bucket = target->bucket,
    .key = target->key,
    .authenticated = dg_admission_is_authenticated(request, target),
    .op = target->op,
  };
  if (lists_objects(target->op) || target->op == DG_OP_LIST_MULTIPART_UPLOADS)
    ret_request->list_prefix = dg_target_param(target, "prefix");
  if (dg_ip_range_parse(dg_client_address(request), &address)) {
    ret_request->has_source = true;
    memcpy(ret_request->source, address.address, sizeof ret_request->source);
  }
}

/* ---- The operator's blocks ------------------------------------------------------------- */

static bool method_matches(const struct dg_admission_block *block,
                           const struct dg_admission_request *request)
{
  for (char **method = block->methods; method && *method; method++)
    if (!strcmp(*method, request->method))
      return true;
  return !block->methods;
}

static bool source_matches(const struct dg_admission_block *block,
                           const struct dg_admission_request *request)
{
  for (size_t i = 0; i < block->source_count && request->has_source; i++)
    if (dg_ip_range_holds(&block->sources[i], request->source))
      return true;
  return !block->sources;
}

static bool path_matches(const struct dg_admission_block *block,
                         const struct dg_admission_request *request)
{
  return !block->path_glob ||
         dg_glob_matches(block->path_glob, request->key.len ? request->key : request->list_prefix);
}

static bool authenticated_matches(const struct dg_admission_block *block,
                                  const struct dg_admission_request *request)
{
  switch (block->authenticated) {
  case DG_ADMISSION_SIGNED:
    return request->authenticated;
  case DG_ADMISSION_UNSIGNED:
    return !request->authenticated;
  case DG_ADMISSION_ANYONE:
    break;
  }
  /* Who shows credentials wants them looked at. */
  return block->action != DG_ADMISSION_ALLOW_ANONYMOUS || !request->authenticated;
}

static bool flag_matches(const struct dg_admission_block *block,
                         const struct dg_admission_request *request)
{
  return !block->config_flag ||
         (request->maintenance && !strcmp(block->config_flag, "maintenance_mode"));
}

static bool block_matches(const struct dg_admission_block *block,
                          const struct dg_admission_request *request)
{
  return method_matches(block, request) &&
         (!block->bucket ||
          dg_slice_equal_nocase(request->bucket, dg_slice_str(block->bucket))) &&
         authenticated_matches(block, request) && flag_matches(block, request) &&
         path_matches(block, request) && source_matches(block, request);
}

/* ---- Public prefixes --------------------------------------------------------------------- */

/* Rights that the bucket's public prefixes give to an unsigned request. */
static bool is_public(const struct dg_bucket_config *bucket,
                      const struct dg_admission_request *request)
{
  if (!bucket->public_prefixes || request->authenticated)
    return false;
  if (reads_object(request->op))
    return dg_public_key(bucket->public_prefixes, request->key);
  if (lists_objects(request->op))
    return dg_public_listing(bucket->public_prefixes, request->list_prefix);
  /* A listing without a prefix tells as much. */
  return request->op == DG_OP_HEAD_BUCKET;
}

static void grant(const struct dg_bucket_config *bucket, struct dg_admission_trace *trace)
{
  trace->granted = true;
  trace->list_prefixes = bucket->public_prefixes;
}

void dg_admission_evaluate(const struct dg_snapshot *snapshot,
                           const struct dg_admission_request *request,
                           struct dg_admission_trace *ret_trace)
{
  const struct dg_bucket_config *bucket = dg_snapshot_bucket(snapshot, request->bucket);
  struct dg_admission_trace trace = {.decision = DG_ADMISSION_CONTINUE};
  bool public = is_public(bucket, request);

  for (guint i = 0; i < snapshot->admission->len && !trace.block; i++)
    if (block_matches(snapshot->admission->pdata[i], request))
      trace.block = snapshot->admission->pdata[i];
  if (trace.block) {
    trace.decision = trace.block->action;
    (void)g_strlcpy(trace.matched, trace.block->name, sizeof trace.matched);
    if (trace.decision == DG_ADMISSION_ALLOW_ANONYMOUS && !request->authenticated) {
      trace.granted = reads_object(request->op);
      if (public)
        grant(bucket, &trace);
    }
  } else if (public) {
    trace.decision = DG_ADMISSION_ALLOW_ANONYMOUS;
    (void)g_snprintf(trace.matched, sizeof trace.matched, "public-prefix:%s", bucket->name);
    grant(bucket, &trace);
  }
  *ret_trace = trace;
}
