/* SPDX-License-Identifier: Apache-2.0 */
/* XML request bodies: byte 0 chooses which, the rest is the document. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>

#include "common/checksum.h"
#include "common/slice.h"
#include "core/s3/bodies.h"

#include "common/banned.h"

static void check_delete(struct dg_slice body)
{
  struct dg_delete_body *parsed = NULL;
  struct dg_error err = {0};

  if (dg_delete_body_parse(body, &parsed, &err) < 0) {
    FUZZ_CHECK(parsed == NULL && err.code != 0);
    return;
  }
  FUZZ_CHECK(parsed->entries->len >= 1 && parsed->entries->len <= DG_DELETE_MAX_OBJECTS);
  for (guint i = 0; i < parsed->entries->len; i++)
    FUZZ_CHECK(g_array_index(parsed->entries, struct dg_delete_entry, i).key != NULL);
  dg_delete_body_free(parsed);
}

static void check_complete(struct dg_slice body)
{
  struct dg_complete_body *parsed = NULL;
  struct dg_error err = {0};
  uint32_t last = 0;

  if (dg_complete_body_parse(body, &parsed, &err) < 0) {
    FUZZ_CHECK(parsed == NULL && err.code != 0);
    return;
  }
  for (guint i = 0; i < parsed->parts->len; i++) {
    const struct dg_complete_entry *part =
        &g_array_index(parsed->parts, struct dg_complete_entry, i);

    FUZZ_CHECK(part->part_no > last && part->part_no <= DG_COMPLETE_MAX_PARTS);
    FUZZ_CHECK(part->etag[0] && memchr(part->etag, '\0', sizeof part->etag));
    FUZZ_CHECK(part->checksum_kind == DG_SUM_NONE ||
               dg_checksum_valid(part->checksum_kind, dg_slice_str(part->checksum_base64)));
    last = part->part_no;
  }
  dg_complete_body_free(parsed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  struct dg_error err;
  struct dg_slice body;

  if (size == 0)
    return 0;
  body = dg_slice_of(data + 1, size - 1);
  switch (data[0] % 3) {
  case 0:
    check_delete(body);
    break;
  case 1:
    check_complete(body);
    break;
  default:
    (void)dg_create_bucket_body_check(body, &err);
  }
  return 0;
}
