/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/names.h"

#include "common/slice.h"

#include "common/banned.h"

static bool is_digit(char c)
{
  return c >= '0' && c <= '9';
}

static bool is_alphanumeric(char c)
{
  return is_digit(c) || (c >= 'a' && c <= 'z');
}

/* Four dotted groups of one to three digits. */
static bool looks_like_ipv4(struct dg_slice name)
{
  unsigned dots = 0, digits = 0;

  for (size_t i = 0; i < name.len; i++) {
    if (name.data[i] == '.') {
      if (digits == 0)
        return false;
      dots++;
      digits = 0;
    } else if (!is_digit(name.data[i]) || ++digits > 3) {
      return false;
    }
  }
  return dots == 3 && digits > 0;
}

int dg_bucket_name_check(struct dg_slice name, struct dg_error *err)
{
  if (name.len < 3 || name.len > 63)
    return dg_fail(err, DG_E_INVALID_BUCKET_NAME, "A bucket name has 3 to 63 characters.");
  for (size_t i = 0; i < name.len; i++) {
    char c = name.data[i];

    if (!is_alphanumeric(c) && c != '.' && c != '-')
      return dg_fail(err, DG_E_INVALID_BUCKET_NAME,
                     "A bucket name consists of lower-case letters, digits, '.' and '-'.");
    if (c == '.' && i > 0 && name.data[i - 1] == '.')
      return dg_fail(err, DG_E_INVALID_BUCKET_NAME, "A bucket name holds no '..'.");
  }
  if (!is_alphanumeric(name.data[0]) || !is_alphanumeric(name.data[name.len - 1]))
    return dg_fail(err, DG_E_INVALID_BUCKET_NAME,
                   "A bucket name begins and ends with a letter or digit.");
  if (looks_like_ipv4(name))
    return dg_fail(err, DG_E_INVALID_BUCKET_NAME, "A bucket name is no IP address.");
  if (dg_slice_starts_with(name, DG_SLICE("xn--")))
    return dg_fail(err, DG_E_INVALID_BUCKET_NAME, "A bucket name does not begin with 'xn--'.");
  return 0;
}

bool dg_utf8_valid(struct dg_slice text)
{
  const char *p = text.data;
  gssize left = (gssize)text.len;

  /* g_utf8_validate_len() takes a NUL for an error; here it is a byte. */
  while (left > 0) {
    const char *end;

    if (g_utf8_validate_len(p, (gsize)left, &end))
      return true;
    if (*end != '\0')
      return false;
    left -= end + 1 - p;
    p = end + 1;
  }
  return true;
}

int dg_key_check(struct dg_slice key, struct dg_error *err)
{
  if (key.len == 0)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The object key is empty.");
  if (key.len > DG_KEY_MAX_BYTES)
    return dg_fail(err, DG_E_KEY_TOO_LONG, "key of %zu bytes", key.len);
  if (memchr(key.data, '\0', key.len))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The object key holds a NUL byte.");
  if (!dg_utf8_valid(key))
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The object key is not valid UTF-8.");
  return 0;
}

struct dg_slice dg_user_meta_name(struct dg_slice header_name)
{
  static const char prefix[] = "x-amz-meta-";
  struct dg_slice name;

  if (header_name.len <= sizeof prefix - 1 ||
      !dg_slice_equal_nocase(dg_slice_of(header_name.data, sizeof prefix - 1),
                             dg_slice_str(prefix)))
    return DG_SLICE_NONE;
  name = dg_slice_skip(header_name, sizeof prefix - 1);
  if (name.len >= 3 && dg_slice_equal_nocase(dg_slice_of(name.data, 3), DG_SLICE("dg-")))
    return DG_SLICE_NONE;
  return name;
}
