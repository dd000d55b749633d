/* SPDX-License-Identifier: Apache-2.0 */
/* The gate's reading of a head. Whatever it accepts must satisfy what the rest
 * of the server relies on, and must not change when it is read again. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "core/http/head.h"

#include "common/banned.h"

static void check_inside(struct dg_slice slice, const char *text, size_t len)
{
  if (slice.data)
    FUZZ_CHECK(slice.data >= text && slice.data + slice.len <= text + len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static struct dg_pair fields[DG_HEAD_MAX_FIELDS], again_fields[DG_HEAD_MAX_FIELDS];
  struct dg_head head = {.fields = fields}, again = {.fields = again_fields};
  struct dg_head_refusal refusal = {0};
  const char *text = (const char *)data;

  if (dg_head_parse(text, size, DG_HEAD_MAX_FIELDS, &head, &refusal) < 0) {
    FUZZ_CHECK(refusal.status >= 400 && refusal.status <= 505 && refusal.reason);
    return 0;
  }
  FUZZ_CHECK(head.method.len >= 1 && head.method.len <= DG_HEAD_MAX_METHOD);
  FUZZ_CHECK(head.raw_path.len >= 1 && (head.raw_path.data[0] == '/' || head.raw_path.data[0] == '*'));
  FUZZ_CHECK(head.field_count <= DG_HEAD_MAX_FIELDS);
  FUZZ_CHECK(head.minor_version_0 || head.host.len > 0);
  FUZZ_CHECK(head.framing != DG_FRAMING_CHUNKED || !head.has_content_length);
  FUZZ_CHECK(head.framing != DG_FRAMING_LENGTH || head.content_length > 0);
  FUZZ_CHECK(!memchr(data, '\0', size));
  check_inside(head.method, text, size);
  check_inside(head.raw_path, text, size);
  check_inside(head.raw_query, text, size);
  check_inside(head.host, text, size);
  for (uint32_t i = 0; i < head.field_count; i++) {
    check_inside(head.fields[i].name, text, size);
    check_inside(head.fields[i].value, text, size);
    FUZZ_CHECK(head.fields[i].name.len > 0);
    FUZZ_CHECK(!memchr(head.fields[i].value.data, '\r', head.fields[i].value.len));
    FUZZ_CHECK(!memchr(head.fields[i].value.data, '\n', head.fields[i].value.len));
  }
  /* A table that is too small refuses; one that just fits gives the same. */
  if (head.field_count > 0)
    FUZZ_CHECK(dg_head_parse(text, size, head.field_count - 1, &again, &refusal) < 0 &&
               refusal.status == 431);
  FUZZ_CHECK(dg_head_parse(text, size, head.field_count, &again, &refusal) == 0);
  FUZZ_CHECK(again.framing == head.framing && again.content_length == head.content_length &&
             again.keep_alive == head.keep_alive);
  return 0;
}
