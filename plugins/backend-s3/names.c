/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "names.h"

#include "common/slice.h"

#include "common/banned.h"

static struct dg_slice last_segment(struct dg_slice key)
{
  size_t from = key.len;

  while (from && key.data[from - 1] != '/')
    from--;
  return dg_slice_skip(key, from);
}

static struct dg_slice without(struct dg_slice text, const char *suffix)
{
  text.len -= strlen(suffix);
  return text;
}

bool dg_s3_name_reserved(struct dg_slice key)
{
  while (dg_slice_ends_with(key, dg_slice_str(DG_S3_MARK)))
    key = without(key, DG_S3_MARK);
  return dg_slice_ends_with(key, dg_slice_str(DG_S3_DELTA)) ||
         dg_slice_equal_str(last_segment(key), DG_S3_REFERENCE) ||
         dg_slice_starts_with(key, DG_SLICE(".deltaglider/")) ||
         dg_slice_starts_with(key, DG_SLICE("_dgp/"));
}

bool dg_s3_name_append(GString *out, struct dg_slice key, uint32_t variant)
{
  gsize before = out->len;

  dg_slice_append(out, key);
  if (variant == DG_VARIANT_REFERENCE)
    g_string_append(out, DG_S3_REFERENCE);
  else if (dg_s3_name_reserved(key))
    g_string_append(out, DG_S3_MARK);
  if (variant == DG_VARIANT_DELTA)
    g_string_append(out, DG_S3_DELTA);
  if (out->len - before <= DG_S3_NAME_MAX)
    return true;
  g_string_truncate(out, before);
  return false;
}

bool dg_s3_name_parse(struct dg_slice name, struct dg_slice *ret_key, uint32_t *ret_variant)
{
  struct dg_slice key = name, last = last_segment(name);
  uint32_t variant = DG_VARIANT_PASSTHROUGH;

  if (dg_slice_equal_str(last, DG_S3_REFERENCE)) {
    key.len -= last.len;
    variant = DG_VARIANT_REFERENCE;
  } else {
    if (dg_slice_ends_with(key, dg_slice_str(DG_S3_DELTA))) {
      key = without(key, DG_S3_DELTA);
      variant = DG_VARIANT_DELTA;
    }
    if (dg_s3_name_reserved(key)) {
      if (!dg_slice_ends_with(key, dg_slice_str(DG_S3_MARK)))
        return false;
      key = without(key, DG_S3_MARK);
    }
    if (key.len == 0)
      return false;
  }
  *ret_key = key;
  *ret_variant = variant;
  return true;
}
