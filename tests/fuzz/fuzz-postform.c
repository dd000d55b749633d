/* SPDX-License-Identifier: Apache-2.0 */
/* Form uploads with the boundary `b`, and the policy they carry. Byte 0 is the
 * size of pieces. Whole or in pieces, the outcome must be the same. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <glib.h>

#include "common/slice.h"
#include "core/s3/postform.h"

#include "common/banned.h"

static int32_t parse(size_t piece, const uint8_t *data, size_t size, GString *file,
                     unsigned *ret_fields)
{
  struct dg_postform *form = NULL;
  struct dg_error err = {0};
  uint64_t low, high;
  struct dg_slice key;

  FUZZ_CHECK(dg_postform_new(DG_SLICE("multipart/form-data; boundary=b"), &form, &err) == 0);
  for (size_t at = 0; at < size && err.code == 0; at += piece) {
    g_autofree char *exact = g_memdup2(data + at, MIN(piece, size - at));
    struct dg_slice input = dg_slice_of(exact, MIN(piece, size - at)), out;

    while (input.len) {
      if (dg_postform_feed(form, &input, &out, &err) < 0)
        break;
      FUZZ_CHECK(out.len == 0 || dg_postform_file_reached(form));
      dg_slice_append(file, out);
    }
  }
  if (err.code == 0)
    (void)dg_postform_finish(form, &err);
  *ret_fields = dg_postform_field_count(form);
  if (err.code == 0) {
    struct dg_error ignored;

    (void)dg_postform_key(form, &key, &ignored);
    (void)dg_postform_policy_check(form, DG_SLICE("bucket"), 0, &low, &high, &ignored);
    (void)dg_postform_success_status(form);
  }
  dg_postform_free(form);
  return err.code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  g_autoptr(GString) whole = g_string_new(NULL);
  g_autoptr(GString) pieces = g_string_new(NULL);
  unsigned fields, fields_again;
  int32_t code;

  if (size == 0)
    return 0;
  code = parse(size, data + 1, size - 1, whole, &fields);
  FUZZ_CHECK(parse(1u + data[0] % 64, data + 1, size - 1, pieces, &fields_again) == code);
  FUZZ_CHECK(code != 0 || (fields == fields_again && g_string_equal(whole, pieces)));
  return 0;
}
