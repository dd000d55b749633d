/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/range.h"

#include <inttypes.h>

#include "common/slice.h"

#include "common/banned.h"

/* A position with more digits than 64 bits hold is far past any end. */
static bool parse_position(struct dg_slice text, uint64_t *ret_position)
{
  if (text.len == 0)
    return false;
  for (size_t i = 0; i < text.len; i++)
    if (text.data[i] < '0' || text.data[i] > '9')
      return false;
  while (text.len > 1 && text.data[0] == '0')
    text = dg_slice_skip(text, 1);
  if (!dg_slice_to_u64(text, ret_position))
    *ret_position = UINT64_MAX;
  return true;
}

/* Splits `bytes=first-last`; both may be empty. False: not of that form. */
static bool split(struct dg_slice header, struct dg_slice *ret_first, struct dg_slice *ret_last)
{
  static const char unit[] = "bytes=";
  size_t dash;

  header = dg_slice_trim(header);
  if (header.len < sizeof unit - 1 ||
      !dg_slice_equal_nocase(dg_slice_of(header.data, sizeof unit - 1), dg_slice_str(unit)))
    return false;
  header = dg_slice_skip(header, sizeof unit - 1);
  dash = dg_slice_find(header, '-', 0);
  if (dash == SIZE_MAX)
    return false;
  *ret_first = dg_slice_trim(dg_slice_of(header.data, dash));
  *ret_last = dg_slice_trim(dg_slice_skip(header, dash + 1));
  return true;
}

enum dg_range_answer dg_range_resolve(struct dg_slice header, uint64_t size_bytes,
                                      struct dg_range *ret_range)
{
  struct dg_slice first_text, last_text;
  uint64_t first, last;

  *ret_range = (struct dg_range){0, size_bytes};
  if (!split(header, &first_text, &last_text))
    return DG_RANGE_WHOLE;
  if (first_text.len == 0) { /* the last n bytes */
    if (!parse_position(last_text, &last))
      return DG_RANGE_WHOLE;
    if (last == 0 || size_bytes == 0)
      return DG_RANGE_UNSATISFIABLE;
    if (last > size_bytes)
      last = size_bytes;
    *ret_range = (struct dg_range){size_bytes - last, last};
    return DG_RANGE_PART;
  }
  if (!parse_position(first_text, &first))
    return DG_RANGE_WHOLE;
  if (last_text.len == 0)
    last = UINT64_MAX;
  else if (!parse_position(last_text, &last) || last < first)
    return DG_RANGE_WHOLE;
  if (first >= size_bytes)
    return DG_RANGE_UNSATISFIABLE;
  if (last >= size_bytes)
    last = size_bytes - 1;
  *ret_range = (struct dg_range){first, last - first + 1};
  return DG_RANGE_PART;
}

int dg_copy_range_parse(struct dg_slice header, uint64_t size_bytes, struct dg_range *ret_range,
                        struct dg_error *err)
{
  struct dg_slice first_text, last_text;
  uint64_t first, last;

  if (!split(header, &first_text, &last_text) || !parse_position(first_text, &first) ||
      !parse_position(last_text, &last) || last < first)
    return dg_fail(
        err, DG_E_INVALID_ARGUMENT,
        "The x-amz-copy-source-range value must be of the form bytes=first-last, where "
        "first and last are the zero-based offsets of the first and last bytes to copy.");
  if (last >= size_bytes)
    return dg_fail(err, DG_E_INVALID_RANGE, "copy range ends at %" PRIu64 " of %" PRIu64, last,
                   size_bytes);
  *ret_range = (struct dg_range){first, last - first + 1};
  return 0;
}

void dg_content_range_format(char out[80], const struct dg_range *range, uint64_t size_bytes)
{
  if (range)
    (void)g_snprintf(out, 80, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, range->offset,
                     range->offset + range->length - 1, size_bytes);
  else
    (void)g_snprintf(out, 80, "bytes */%" PRIu64, size_bytes);
}
