/* SPDX-License-Identifier: Apache-2.0 */
/* Small inline helpers on struct dg_slice, the borrowed view of bytes.
 *
 * An absent value is a slice whose data is NULL; an empty one has data and
 * len 0. Comparisons treat both as length 0. Thread: [any]. */
#ifndef DG_COMMON_SLICE_H
#define DG_COMMON_SLICE_H

#include <deltaglider/plugin.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define DG_SLICE_NONE ((struct dg_slice){NULL, 0})

static inline struct dg_slice dg_slice_of(const void *data, size_t len)
{
  return (struct dg_slice){(const char *)data, len};
}

/* text may be NULL: then the result is absent. */
static inline struct dg_slice dg_slice_str(const char *text)
{
  return (struct dg_slice){text, text ? strlen(text) : 0};
}

static inline bool dg_slice_present(struct dg_slice slice)
{
  return slice.data != NULL;
}

static inline bool dg_slice_equal(struct dg_slice a, struct dg_slice b)
{
  return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool dg_slice_equal_str(struct dg_slice a, const char *b)
{
  return dg_slice_equal(a, dg_slice_str(b));
}

static inline char dg_ascii_lower(char c)
{
  return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* ASCII case is ignored, the locale too. */
static inline bool dg_slice_equal_nocase(struct dg_slice a, struct dg_slice b)
{
  if (a.len != b.len)
    return false;
  for (size_t i = 0; i < a.len; i++)
    if (a.data[i] != b.data[i] && dg_ascii_lower(a.data[i]) != dg_ascii_lower(b.data[i]))
      return false;
  return true;
}

static inline bool dg_slice_starts_with(struct dg_slice slice, struct dg_slice prefix)
{
  return slice.len >= prefix.len &&
         (prefix.len == 0 || memcmp(slice.data, prefix.data, prefix.len) == 0);
}

static inline bool dg_slice_ends_with(struct dg_slice slice, struct dg_slice suffix)
{
  return slice.len >= suffix.len &&
         (suffix.len == 0 ||
          memcmp(slice.data + (slice.len - suffix.len), suffix.data, suffix.len) == 0);
}

/* Byte order; a prefix sorts first. */
static inline int dg_slice_compare(struct dg_slice a, struct dg_slice b)
{
  size_t shorter = a.len < b.len ? a.len : b.len;
  int order = shorter ? memcmp(a.data, b.data, shorter) : 0;

  return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* Bytes from `from` on; empty past the end. */
static inline struct dg_slice dg_slice_skip(struct dg_slice slice, size_t from)
{
  if (from > slice.len)
    from = slice.len;
  return (struct dg_slice){slice.data ? slice.data + from : NULL, slice.len - from};
}

/* Without leading and trailing spaces and tabs. */
static inline struct dg_slice dg_slice_trim(struct dg_slice slice)
{
  while (slice.len && (slice.data[0] == ' ' || slice.data[0] == '\t')) {
    slice.data++;
    slice.len--;
  }
  while (slice.len && (slice.data[slice.len - 1] == ' ' || slice.data[slice.len - 1] == '\t'))
    slice.len--;
  return slice;
}

/* Position of a byte at or after `from`, or SIZE_MAX. */
static inline size_t dg_slice_find(struct dg_slice slice, char byte, size_t from)
{
  const char *hit;

  if (from >= slice.len)
    return SIZE_MAX;
  hit = memchr(slice.data + from, byte, slice.len - from);
  return hit ? (size_t)(hit - slice.data) : SIZE_MAX;
}

/* The common prefix a listed key falls into: up to the first delimiter behind the
 * listing's prefix, of prefix_len bytes. Absent when the key stands for itself, or
 * the delimiter is empty. */
static inline struct dg_slice dg_slice_roll_up(struct dg_slice key, size_t prefix_len,
                                               struct dg_slice delimiter)
{
  struct dg_slice rest = dg_slice_skip(key, prefix_len);
  const char *at;

  if (!delimiter.len || rest.len < delimiter.len)
    return DG_SLICE_NONE;
  at = memmem(rest.data, rest.len, delimiter.data, delimiter.len);
  return at ? dg_slice_of(key.data, (size_t)(at - key.data) + delimiter.len) : DG_SLICE_NONE;
}

/* Decimal digits only, 1 to 20 of them, no sign, no overflow. */
static inline bool dg_slice_to_u64(struct dg_slice slice, uint64_t *ret_number)
{
  uint64_t number = 0;

  if (slice.len == 0 || slice.len > 20)
    return false;
  for (size_t i = 0; i < slice.len; i++) {
    if (slice.data[i] < '0' || slice.data[i] > '9')
      return false;
    if (__builtin_mul_overflow(number, UINT64_C(10), &number) ||
        __builtin_add_overflow(number, (uint64_t)(slice.data[i] - '0'), &number))
      return false;
  }
  *ret_number = number;
  return true;
}

/* A NUL-terminated copy; free with g_free(). Absent becomes NULL. */
static inline char *dg_slice_dup(struct dg_slice slice)
{
  return slice.data ? g_strndup(slice.data, slice.len) : NULL;
}

static inline void dg_slice_append(GString *out, struct dg_slice slice)
{
  if (slice.len)
    g_string_append_len(out, slice.data, (gssize)slice.len);
}

/* For printf's %.*s, cut at 200 bytes: error details are short. */
#define DG_SLICE_ARG(slice) ((slice).len > 200 ? 200 : (int)(slice).len), ((slice).data ? (slice).data : "")

#endif
