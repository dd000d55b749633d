/* SPDX-License-Identifier: Apache-2.0 */
/* All that reads a request head after the gate: target, identity, range,
 * conditions, copy source, names. The input is `METHOD TARGET` and lines of
 * `name:value`, ended by LF. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>

#include "common/slice.h"
#include "common/uri.h"
#include "core/access/credentials.h"
#include "core/access/identity.h"
#include "core/s3/aws_chunked.h"
#include "core/s3/conditional.h"
#include "core/s3/names.h"
#include "core/s3/range.h"

#include "common/banned.h"

#define MAX_HEADERS 64
#define DAY         INT64_C(1369353600) /* of the seeds' signatures */

/* False: the gate would have refused it. */
static bool read_head(struct dg_slice text, struct dg_request *request, struct dg_pair *headers)
{
  size_t end = dg_slice_find(text, '\n', 0);
  struct dg_slice line = dg_slice_of(text.data, end == SIZE_MAX ? text.len : end), target;
  size_t space = dg_slice_find(line, ' ', 0), question;

  *request = (struct dg_request){.http_minor = 1, .content_length = -1, .headers = headers};
  if (space == SIZE_MAX || space == 0 || space >= sizeof request->method ||
      memchr(line.data, '\0', line.len))
    return false;
  memcpy(request->method, line.data, space);
  target = dg_slice_skip(line, space + 1);
  if (target.len == 0 || target.data[0] != '/')
    return false;
  question = dg_slice_find(target, '?', 0);
  request->raw_path = dg_slice_of(target.data, question == SIZE_MAX ? target.len : question);
  if (question != SIZE_MAX)
    request->raw_query = dg_slice_skip(target, question + 1);
  for (text = dg_slice_skip(text, line.len + 1); text.len && request->header_count < MAX_HEADERS;
       text = dg_slice_skip(text, line.len + 1)) {
    size_t colon;

    end = dg_slice_find(text, '\n', 0);
    line = dg_slice_of(text.data, end == SIZE_MAX ? text.len : end);
    colon = dg_slice_find(line, ':', 0);
    if (colon == SIZE_MAX || colon == 0 || memchr(line.data, '\0', line.len))
      return false;
    headers[request->header_count].name = dg_slice_of(line.data, colon);
    headers[request->header_count++].value = dg_slice_trim(dg_slice_skip(line, colon + 1));
  }
  return true;
}

static void check_headers(const struct dg_request *request)
{
  struct dg_conditions conditions;
  struct dg_slice bucket, key, version;
  struct dg_range range;
  struct dg_error err;
  char *memory = NULL, *kept;

  if (dg_range_resolve(dg_request_header(request, "range"), 1000, &range) !=
      DG_RANGE_UNSATISFIABLE) {
    FUZZ_CHECK(range.length >= 1 && range.length <= 1000 && range.offset <= 1000 - range.length);
  }
  if (dg_copy_range_parse(dg_request_header(request, "x-amz-copy-source-range"), 1000, &range,
                          &err) == 0)
    FUZZ_CHECK(range.length >= 1 && range.offset + range.length <= 1000);
  for (int copy = 0; copy < 2; copy++) {
    dg_conditions_read(request, copy, &conditions);
    (void)dg_conditions_check_read(&conditions, "\"etag\"", DAY, &err);
    (void)dg_conditions_check_form(&conditions, &err);
    (void)dg_conditions_check_write(&conditions, /* exists= */ true, "\"etag\"", &err);
  }
  if (dg_copy_source_parse(dg_request_header(request, "x-amz-copy-source"), &memory, &bucket, &key,
                           &version, &err) == 0) {
    FUZZ_CHECK(bucket.len && key.len);
    g_free(memory);
  }
  kept = dg_content_encoding_kept(dg_request_header(request, "content-encoding"));
  FUZZ_CHECK(!kept || *kept);
  g_free(kept);
  for (uint32_t i = 0; i < request->header_count; i++)
    (void)dg_user_meta_name(request->headers[i].name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const domains[] = {"s3.amazonaws.com", NULL};
  struct dg_access_params params = {.replay_window_s = 2, .lockout_failures = 100};
  struct dg_pair headers[MAX_HEADERS];
  struct dg_request request;
  struct dg_target target;
  struct dg_error err = {0};

  if (!read_head(dg_slice_of(data, size), &request, headers))
    return 0;
  check_headers(&request);
  if (dg_target_parse(&request, domains, &target, &err) < 0) {
    FUZZ_CHECK(err.code != 0);
    return 0;
  }
  FUZZ_CHECK(target.op < DG_OP_COUNT && target.key.len <= request.raw_path.len);
  (void)dg_bucket_name_check(target.bucket, &err);
  (void)dg_key_check(target.key, &err);
  for (int open = 0; open < 2; open++) {
    struct dg_credentials *credentials = dg_credentials_new();
    struct dg_access *access;
    struct dg_identity identity;

    params.open = open;
    dg_credentials_add(credentials, "AKIAIOSFODNN7EXAMPLE",
                       "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    access = dg_access_new(&params);
    if (dg_identity_verify(access, credentials, &request, &target, DAY, &identity, &err) == 0)
      FUZZ_CHECK(open || identity.kind != DG_IDENTITY_OPEN);
    else
      FUZZ_CHECK(err.code != 0 && (open || identity.failure));
    dg_identity_clear(&identity);
    dg_access_free(access);
    dg_credentials_unref(credentials);
  }
  dg_target_clear(&target);
  return 0;
}
