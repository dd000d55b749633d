/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/target.h"

#include "common/slice.h"
#include "common/uri.h"

#include "common/banned.h"

static const struct {
  const char *name, *label;
} operations[] = {
#define DG_OP_ROW(id, name, label, handler) [DG_OP_##id] = {name, label},
#include "core/s3/operations.def"
#undef DG_OP_ROW
};

/* ---- Which operation ----
 *
 * A subresource is a query parameter that turns a request into another
 * operation. The first row that fits wins; a row without a parameter is what a
 * bare request means, and does not fit one with a subresource: to take a request
 * to remove a setting for one to remove the bucket would be a disaster. */

struct rule {
  const char *method;
  struct dg_slice param; /* empty: any query */
  enum dg_op op;
};

#define RULE(method, param, op)                                                                    \
  {                                                                                                \
    (method), {(param), sizeof(param) - 1}, (op)                                                   \
  }

static const struct rule bucket_rules[] = {
    RULE("GET", "uploads", DG_OP_LIST_MULTIPART_UPLOADS),
    RULE("GET", "location", DG_OP_GET_BUCKET_LOCATION),
    RULE("GET", "versioning", DG_OP_GET_BUCKET_VERSIONING),
    RULE("GET", "acl", DG_OP_GET_BUCKET_ACL),
    RULE("GET", "tagging", DG_OP_GET_BUCKET_TAGGING),
    RULE("GET", "policy", DG_OP_GET_BUCKET_POLICY),
    RULE("GET", "versions", DG_OP_LIST_OBJECT_VERSIONS),
    RULE("GET", "policyStatus", DG_OP_GET_BUCKET_POLICY_STATUS),
    RULE("GET", "lifecycle", DG_OP_GET_BUCKET_LIFECYCLE),
    RULE("GET", "cors", DG_OP_GET_BUCKET_CORS),
    RULE("GET", "website", DG_OP_GET_BUCKET_WEBSITE),
    RULE("GET", "logging", DG_OP_GET_BUCKET_LOGGING),
    RULE("GET", "notification", DG_OP_GET_BUCKET_NOTIFICATION),
    RULE("GET", "replication", DG_OP_GET_BUCKET_REPLICATION),
    RULE("GET", "requestPayment", DG_OP_GET_BUCKET_REQUEST_PAYMENT),
    RULE("GET", "encryption", DG_OP_GET_BUCKET_ENCRYPTION),
    RULE("GET", "accelerate", DG_OP_GET_BUCKET_ACCELERATE),
    RULE("GET", "analytics", DG_OP_GET_BUCKET_ANALYTICS),
    RULE("GET", "inventory", DG_OP_GET_BUCKET_INVENTORY),
    RULE("GET", "metrics", DG_OP_GET_BUCKET_METRICS),
    RULE("GET", "intelligent-tiering", DG_OP_GET_BUCKET_TIERING),
    RULE("GET", "metadataTable", DG_OP_GET_BUCKET_METADATA_TABLE),
    RULE("GET", "object-lock", DG_OP_GET_OBJECT_LOCK),
    RULE("GET", "publicAccessBlock", DG_OP_GET_PUBLIC_ACCESS_BLOCK),
    RULE("GET", "ownershipControls", DG_OP_GET_OWNERSHIP_CONTROLS),
    RULE("GET", "session", DG_OP_CREATE_SESSION),
    RULE("GET", "", DG_OP_LIST_OBJECTS),
    RULE("HEAD", "", DG_OP_HEAD_BUCKET),
    RULE("PUT", "acl", DG_OP_PUT_BUCKET_ACL),
    RULE("PUT", "tagging", DG_OP_PUT_BUCKET_TAGGING),
    RULE("PUT", "versioning", DG_OP_PUT_BUCKET_VERSIONING),
    RULE("PUT", "policy", DG_OP_PUT_BUCKET_POLICY),
    RULE("PUT", "lifecycle", DG_OP_PUT_BUCKET_LIFECYCLE),
    RULE("PUT", "cors", DG_OP_PUT_BUCKET_CORS),
    RULE("PUT", "website", DG_OP_PUT_BUCKET_WEBSITE),
    RULE("PUT", "logging", DG_OP_PUT_BUCKET_LOGGING),
    RULE("PUT", "notification", DG_OP_PUT_BUCKET_NOTIFICATION),
    RULE("PUT", "replication", DG_OP_PUT_BUCKET_REPLICATION),
    RULE("PUT", "requestPayment", DG_OP_PUT_BUCKET_REQUEST_PAYMENT),
    RULE("PUT", "encryption", DG_OP_PUT_BUCKET_ENCRYPTION),
    RULE("PUT", "accelerate", DG_OP_PUT_BUCKET_ACCELERATE),
    RULE("PUT", "analytics", DG_OP_PUT_BUCKET_ANALYTICS),
    RULE("PUT", "inventory", DG_OP_PUT_BUCKET_INVENTORY),
    RULE("PUT", "metrics", DG_OP_PUT_BUCKET_METRICS),
    RULE("PUT", "intelligent-tiering", DG_OP_PUT_BUCKET_TIERING),
    RULE("PUT", "object-lock", DG_OP_PUT_OBJECT_LOCK),
    RULE("PUT", "publicAccessBlock", DG_OP_PUT_PUBLIC_ACCESS_BLOCK),
    RULE("PUT", "ownershipControls", DG_OP_PUT_OWNERSHIP_CONTROLS),
    RULE("PUT", "", DG_OP_CREATE_BUCKET),
    RULE("DELETE", "tagging", DG_OP_DELETE_BUCKET_TAGGING),
    RULE("DELETE", "policy", DG_OP_DELETE_BUCKET_POLICY),
    RULE("DELETE", "lifecycle", DG_OP_DELETE_BUCKET_LIFECYCLE),
    RULE("DELETE", "cors", DG_OP_DELETE_BUCKET_CORS),
    RULE("DELETE", "website", DG_OP_DELETE_BUCKET_WEBSITE),
    RULE("DELETE", "replication", DG_OP_DELETE_BUCKET_REPLICATION),
    RULE("DELETE", "encryption", DG_OP_DELETE_BUCKET_ENCRYPTION),
    RULE("DELETE", "analytics", DG_OP_DELETE_BUCKET_ANALYTICS),
    RULE("DELETE", "inventory", DG_OP_DELETE_BUCKET_INVENTORY),
    RULE("DELETE", "metrics", DG_OP_DELETE_BUCKET_METRICS),
    RULE("DELETE", "intelligent-tiering", DG_OP_DELETE_BUCKET_TIERING),
    RULE("DELETE", "publicAccessBlock", DG_OP_DELETE_PUBLIC_ACCESS_BLOCK),
    RULE("DELETE", "ownershipControls", DG_OP_DELETE_OWNERSHIP_CONTROLS),
    RULE("DELETE", "", DG_OP_DELETE_BUCKET),
    RULE("POST", "delete", DG_OP_DELETE_OBJECTS),
    RULE("POST", "metadataTable", DG_OP_CREATE_METADATA_TABLE),
    RULE("POST", "", DG_OP_POST_OBJECT),
};

static const struct rule object_rules[] = {
    RULE("GET", "uploadId", DG_OP_LIST_PARTS),
    RULE("GET", "acl", DG_OP_GET_OBJECT_ACL),
    RULE("GET", "tagging", DG_OP_GET_OBJECT_TAGGING),
    RULE("GET", "attributes", DG_OP_GET_OBJECT_ATTRIBUTES),
    RULE("GET", "torrent", DG_OP_GET_OBJECT_TORRENT),
    RULE("GET", "retention", DG_OP_GET_OBJECT_RETENTION),
    RULE("GET", "legal-hold", DG_OP_GET_OBJECT_LEGAL_HOLD),
    RULE("GET", "", DG_OP_GET_OBJECT),
    RULE("HEAD", "", DG_OP_HEAD_OBJECT),
    RULE("PUT", "uploadId", DG_OP_UPLOAD_PART),
    RULE("PUT", "partNumber", DG_OP_UPLOAD_PART),
    RULE("PUT", "acl", DG_OP_PUT_OBJECT_ACL),
    RULE("PUT", "tagging", DG_OP_PUT_OBJECT_TAGGING),
    RULE("PUT", "retention", DG_OP_PUT_OBJECT_RETENTION),
    RULE("PUT", "legal-hold", DG_OP_PUT_OBJECT_LEGAL_HOLD),
    RULE("PUT", "renameObject", DG_OP_RENAME_OBJECT),
    RULE("PUT", "", DG_OP_PUT_OBJECT),
    RULE("DELETE", "uploadId", DG_OP_ABORT_MULTIPART_UPLOAD),
    RULE("DELETE", "tagging", DG_OP_DELETE_OBJECT_TAGGING),
    RULE("DELETE", "", DG_OP_DELETE_OBJECT),
    RULE("POST", "uploads", DG_OP_CREATE_MULTIPART_UPLOAD),
    RULE("POST", "uploadId", DG_OP_COMPLETE_MULTIPART_UPLOAD),
    RULE("POST", "restore", DG_OP_RESTORE_OBJECT),
    RULE("POST", "select", DG_OP_SELECT_OBJECT_CONTENT),
};

#undef RULE

/* Every subresource of S3, at whatever level and with whatever method. Other
 * parameters (x-id, and what clients make up) mean nothing, as in S3. */
static const char *const subresources[] = {
    "abac", "accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption",
    "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "location", "logging",
    "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable", "metadataTable",
    "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus",
    "publicAccessBlock", "renameObject", "replication", "requestPayment", "restore", "retention",
    "select", "session", "tagging", "torrent", "uploadId", "uploads", "versioning", "versions",
    "website",
};

const struct dg_param *dg_target_find(const struct dg_target *target, struct dg_slice name)
{
  for (uint32_t i = 0; i < target->param_count; i++)
    if (dg_slice_equal(target->params[i].name, name))
      return &target->params[i];
  return NULL;
}

static bool has_subresource(const struct dg_target *target)
{
  for (uint32_t i = 0; i < target->param_count; i++)
    for (size_t j = 0; j < G_N_ELEMENTS(subresources); j++)
      if (dg_slice_equal_str(target->params[i].name, subresources[j]))
        return true;
  return false;
}

static enum dg_op find_rule(const struct rule *rules, size_t count,
                            const struct dg_request *request, const struct dg_target *target)
{
  for (size_t i = 0; i < count; i++) {
    if (rules[i].param.len && !dg_target_find(target, rules[i].param))
      continue;
    if (dg_request_is(request, rules[i].method))
      return rules[i].param.len == 0 && has_subresource(target) ? DG_OP_UNKNOWN : rules[i].op;
  }
  return DG_OP_UNKNOWN;
}

static enum dg_op find_operation(const struct dg_request *request, const struct dg_target *target)
{
  enum dg_op op;

  if (dg_request_is(request, "OPTIONS"))
    return DG_OP_OPTIONS;
  if (target->bucket.len == 0) {
    if (has_subresource(target))
      return DG_OP_UNKNOWN;
    if (dg_request_is(request, "GET"))
      return DG_OP_LIST_BUCKETS;
    return dg_request_is(request, "HEAD") ? DG_OP_HEAD_ROOT : DG_OP_UNKNOWN;
  }
  if (target->key.len == 0) {
    op = find_rule(bucket_rules, G_N_ELEMENTS(bucket_rules), request, target);
    if (op == DG_OP_LIST_OBJECTS && dg_slice_equal_str(dg_target_param(target, "list-type"), "2"))
      op = DG_OP_LIST_OBJECTS_V2;
    return op;
  }
  op = find_rule(object_rules, G_N_ELEMENTS(object_rules), request, target);
  if (op == DG_OP_PUT_OBJECT || op == DG_OP_UPLOAD_PART) {
    if (dg_slice_present(dg_request_header(request, "x-amz-copy-source")))
      op = op == DG_OP_PUT_OBJECT ? DG_OP_COPY_OBJECT : DG_OP_UPLOAD_PART_COPY;
  }
  return op;
}

/* ---- Path, host and query ---- */

/* The host without its port. An IPv6 literal keeps its brackets. */
static struct dg_slice host_name(struct dg_slice host)
{
  size_t colon = SIZE_MAX;

  for (size_t i = host.len; i-- > 0;) {
    if (host.data[i] == ']')
      break;
    if (host.data[i] == ':') {
      colon = i;
      break;
    }
  }
  return colon == SIZE_MAX ? host : dg_slice_of(host.data, colon);
}

/* `bucket` of `bucket.base`; empty when the host is the base itself or foreign. */
static struct dg_slice bucket_of_host(const struct dg_request *request,
                                      const char *const *base_domains)
{
  struct dg_slice host;

  if (!base_domains || !*base_domains)
    return DG_SLICE_NONE;
  host = host_name(dg_request_header(request, "host"));
  for (; *base_domains; base_domains++) {
    struct dg_slice base = dg_slice_str(*base_domains);

    if (base.len && host.len > base.len + 1 && host.data[host.len - base.len - 1] == '.' &&
        dg_slice_equal_nocase(dg_slice_skip(host, host.len - base.len), base))
      return dg_slice_of(host.data, host.len - base.len - 1);
  }
  return DG_SLICE_NONE;
}

static size_t count_params(struct dg_slice query)
{
  struct dg_query_pair pair;
  size_t count = 0;

  while (dg_query_next(&query, &pair))
    count++;
  return count;
}

/* Decodes text at *io_place and moves that on, past a closing NUL. */
static int decode_into(char **io_place, struct dg_slice text, bool plus_is_space, const char *what,
                       struct dg_slice *ret_slice, struct dg_error *err)
{
  size_t len = dg_uri_decode(text, plus_is_space, *io_place);

  if (len == SIZE_MAX)
    return dg_fail(err, DG_E_INVALID_ARGUMENT,
                   "The %s has a '%%' that two hex digits do not follow: encode '%%' as %%25.",
                   what);
  if (memchr(*io_place, '\0', len))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The %s holds a NUL byte.", what);
  (*io_place)[len] = '\0';
  *ret_slice = dg_slice_of(*io_place, len);
  *io_place += len + 1;
  return 0;
}

static int decode_params(struct dg_slice query, struct dg_param *params, char **io_place,
                         struct dg_error *err)
{
  struct dg_query_pair pair;

  for (size_t i = 0; dg_query_next(&query, &pair); i++) {
    params[i].value = DG_SLICE_NONE;
    if (decode_into(io_place, pair.name, /* plus_is_space= */ true, "query string", &params[i].name,
                    err) < 0)
      return -1;
    if (dg_slice_present(pair.value) && decode_into(io_place, pair.value, /* plus_is_space= */ true,
                                                    "query string", &params[i].value, err) < 0)
      return -1;
  }
  return 0;
}

int dg_target_parse(const struct dg_request *request, const char *const *base_domains,
                    struct dg_target *ret_target, struct dg_error *err)
{
  struct dg_target target = {0};
  struct dg_slice path = request->raw_path, host_bucket;
  size_t param_count = count_params(request->raw_query);
  size_t params_size = param_count * sizeof(struct dg_param);
  struct dg_param *params;
  g_autofree char *memory = NULL;
  char *place;

  if (param_count > DG_TARGET_MAX_PARAMS)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "More than %d query parameters.",
                   DG_TARGET_MAX_PARAMS);
  if (path.len == 0 || path.data[0] != '/')
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The path does not begin with '/'.");
  host_bucket = bucket_of_host(request, base_domains);
  /* One block: the parameter table, then all text with one NUL per piece. */
  memory = g_malloc(params_size + path.len + request->raw_query.len + host_bucket.len +
                    2 * param_count + 4);
  params = (struct dg_param *)(void *)memory;
  place = memory + params_size;
  path = dg_slice_skip(path, 1);
  if (host_bucket.len) {
    target.virtual_host = true;
    for (size_t i = 0; i < host_bucket.len; i++)
      place[i] = g_ascii_tolower(host_bucket.data[i]);
    place[host_bucket.len] = '\0';
    target.bucket = dg_slice_of(place, host_bucket.len);
    place += host_bucket.len + 1;
  } else {
    size_t slash = dg_slice_find(path, '/', 0);
    struct dg_slice name = slash == SIZE_MAX ? path : dg_slice_of(path.data, slash);

    if (decode_into(&place, name, /* plus_is_space= */ false, "bucket name", &target.bucket, err) <
        0)
      return -1;
    path = slash == SIZE_MAX ? dg_slice_skip(path, path.len) : dg_slice_skip(path, slash + 1);
    /* "//x" names no bucket, and so no key either. */
    if (target.bucket.len == 0 && path.len)
      return dg_fail(err, DG_E_INVALID_BUCKET_NAME, "The path names no bucket.");
  }
  if (decode_into(&place, path, /* plus_is_space= */ false, "object key", &target.key, err) < 0 ||
      decode_params(request->raw_query, params, &place, err) < 0)
    return -1;
  target.params = params;
  target.param_count = (uint32_t)param_count;
  target.op = find_operation(request, &target);
  target.memory = g_steal_pointer(&memory);
  *ret_target = target;
  return 0;
}

void dg_target_clear(struct dg_target *target)
{
  g_free(target->memory);
  *target = (struct dg_target){0};
}

const char *dg_op_name(enum dg_op op)
{
  return operations[op].name;
}

const char *dg_op_label(enum dg_op op)
{
  return operations[op].label;
}

/* ---- x-amz-copy-source ---- */

int dg_copy_source_parse(struct dg_slice header, char **ret_memory, struct dg_slice *ret_bucket,
                         struct dg_slice *ret_key, struct dg_slice *ret_version,
                         struct dg_error *err)
{
  static const char what[] = "x-amz-copy-source header";
  struct dg_slice path = header, version = DG_SLICE_NONE, bucket, key;
  size_t question = dg_slice_find(header, '?', 0), slash;
  g_autofree char *memory = g_malloc(header.len + 4);
  char *place = memory;

  if (question != SIZE_MAX) {
    struct dg_slice query = dg_slice_skip(header, question + 1);

    path = dg_slice_of(header.data, question);
    if (!dg_slice_starts_with(query, DG_SLICE("versionId=")))
      return dg_fail(err, DG_E_INVALID_ARGUMENT,
                     "The %s may carry versionId and nothing else after '?'; encode a '?' of the "
                     "key as %%3F.",
                     what);
    version = dg_slice_skip(query, sizeof "versionId=" - 1);
  }
  if (path.len && path.data[0] == '/')
    path = dg_slice_skip(path, 1);
  slash = dg_slice_find(path, '/', 0);
  /* The whole may be encoded, its first slash too: some clients do that. */
  if (slash == SIZE_MAX) {
    for (size_t i = 0; i + 2 < path.len; i++) {
      if (path.data[i] == '%' && path.data[i + 1] == '2' &&
          (path.data[i + 2] == 'F' || path.data[i + 2] == 'f')) {
        slash = i;
        break;
      }
    }
    if (slash == SIZE_MAX || slash == 0 || slash + 3 == path.len)
      return dg_fail(err, DG_E_INVALID_ARGUMENT, "The %s must be /bucket/key.", what);
    bucket = dg_slice_of(path.data, slash);
    key = dg_slice_skip(path, slash + 3);
  } else {
    bucket = dg_slice_of(path.data, slash);
    key = dg_slice_skip(path, slash + 1);
  }
  if (bucket.len == 0 || key.len == 0)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The %s must be /bucket/key.", what);
  if (decode_into(&place, bucket, /* plus_is_space= */ false, what, &bucket, err) < 0 ||
      decode_into(&place, key, /* plus_is_space= */ false, what, &key, err) < 0)
    return -1;
  if (dg_slice_present(version) &&
      decode_into(&place, version, /* plus_is_space= */ false, what, &version, err) < 0)
    return -1;
  *ret_memory = g_steal_pointer(&memory);
  *ret_bucket = bucket;
  *ret_key = key;
  *ret_version = version;
  return 0;
}
