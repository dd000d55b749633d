/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "answer.h"

#include "common/clock.h"
#include "common/slice.h"

#include "common/banned.h"

#define META_MAX 512u /* entries; S3 allows 2 KiB in all */

static void forget(struct dg_s3_answer *answer)
{
  GPtrArray *meta = answer->meta;
  GString *body = answer->body;

  g_ptr_array_set_size(meta, 0);
  g_string_truncate(body, 0);
  *answer = (struct dg_s3_answer){
    .content_length = UINT64_MAX, .total_length = UINT64_MAX, .first_byte = UINT64_MAX,
    .last_byte = UINT64_MAX, .meta = meta, .body = body};
}

void dg_s3_answer_init(struct dg_s3_answer *answer)
{
  answer->meta = g_ptr_array_new_with_free_func(g_free);
  answer->body = g_string_new(NULL);
  forget(answer);
}

void dg_s3_answer_reset(struct dg_s3_answer *answer)
{
  forget(answer);
}

void dg_s3_answer_clear(struct dg_s3_answer *answer)
{
  g_clear_pointer(&answer->meta, g_ptr_array_unref);
  if (answer->body)
    g_string_free(g_steal_pointer(&answer->body), TRUE);
}

void dg_s3_etag_copy(char out[136], struct dg_slice value)
{
  value = dg_slice_trim(value);
  if (dg_slice_starts_with(value, DG_SLICE("W/")))
    value = dg_slice_skip(value, 2);
  if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"')
    value = dg_slice_of(value.data + 1, value.len - 2);
  if (value.len >= 136)
    value.len = 0;
  if (value.len)
    memcpy(out, value.data, value.len);
  out[value.len] = '\0';
}

static void copy_text(char *out, size_t size, struct dg_slice value)
{
  size_t len = MIN(value.len, size - 1);

  if (len)
    memcpy(out, value.data, len);
  out[len] = '\0';
}

static void take_status(struct dg_s3_answer *answer, struct dg_slice line)
{
  size_t space = dg_slice_find(line, ' ', 0);
  uint64_t status = 0;

  forget(answer);
  if (space != SIZE_MAX && line.len >= space + 4 &&
      dg_slice_to_u64(dg_slice_of(line.data + space + 1, 3), &status))
    answer->status = (long)status;
}

/* bytes FIRST-LAST/TOTAL, or bytes * /TOTAL */
static void take_content_range(struct dg_s3_answer *answer, struct dg_slice value)
{
  size_t slash = dg_slice_find(value, '/', 0), space = dg_slice_find(value, ' ', 0);
  size_t dash = dg_slice_find(value, '-', 0);

  if (slash == SIZE_MAX)
    return;
  (void)dg_slice_to_u64(dg_slice_skip(value, slash + 1), &answer->total_length);
  if (space < dash && dash < slash) {
    (void)dg_slice_to_u64(dg_slice_of(value.data + space + 1, dash - space - 1),
                          &answer->first_byte);
    (void)dg_slice_to_u64(dg_slice_of(value.data + dash + 1, slash - dash - 1),
                          &answer->last_byte);
  }
}

static void take_meta(struct dg_s3_answer *answer, struct dg_slice name, struct dg_slice value)
{
  if (answer->meta->len >= 2 * META_MAX)
    return;
  g_ptr_array_add(answer->meta, g_ascii_strdown(name.data, (gssize)name.len));
  g_ptr_array_add(answer->meta, g_strndup(value.data ? value.data : "", value.len));
}

bool dg_s3_is_kept_header(struct dg_slice name)
{
  static const char *const kept[] = {"cache-control", "content-disposition", "content-encoding",
                                     "content-language", "expires"};

  for (size_t i = 0; i < G_N_ELEMENTS(kept); i++)
    if (dg_slice_equal_nocase(name, dg_slice_str(kept[i])))
      return true;
  return false;
}

static void take_kept(struct dg_s3_answer *answer, struct dg_slice name, struct dg_slice value)
{
  g_autofree char *lower = g_ascii_strdown(name.data, (gssize)name.len);

  if (answer->meta->len >= 2 * META_MAX)
    return;
  g_ptr_array_add(answer->meta, g_strdup_printf("%c%s", DG_S3_HEADER_MARK, lower));
  g_ptr_array_add(answer->meta, g_strndup(value.data ? value.data : "", value.len));
}

static void take_header(struct dg_s3_answer *answer, struct dg_slice name, struct dg_slice value)
{
  static const struct dg_slice prefix = {"x-amz-meta-", sizeof "x-amz-meta-" - 1};
  uint64_t number;

  if (name.len > prefix.len && g_ascii_strncasecmp(name.data, prefix.data, prefix.len) == 0)
    take_meta(answer, dg_slice_skip(name, prefix.len), value);
  else if (dg_slice_equal_nocase(name, DG_SLICE("content-length")))
    (void)dg_slice_to_u64(value, &answer->content_length);
  else if (dg_slice_equal_nocase(name, DG_SLICE("content-range")))
    take_content_range(answer, value);
  else if (dg_slice_equal_nocase(name, DG_SLICE("etag")))
    dg_s3_etag_copy(answer->etag, value);
  else if (dg_slice_equal_nocase(name, DG_SLICE("last-modified")))
    (void)dg_time_parse_http(value, &answer->last_modified_s);
  else if (dg_slice_equal_nocase(name, DG_SLICE("date")))
    (void)dg_time_parse_http(value, &answer->date_s);
  else if (dg_slice_equal_nocase(name, DG_SLICE("content-type")))
    copy_text(answer->content_type, sizeof answer->content_type, value);
  else if (dg_slice_equal_nocase(name, DG_SLICE("x-amz-request-id")))
    copy_text(answer->request_id, sizeof answer->request_id, value);
  else if (dg_slice_equal_nocase(name, DG_SLICE("retry-after")) && dg_slice_to_u64(value, &number))
    answer->retry_after_s = (uint32_t)MIN(number, 86400u);
  else if (dg_slice_equal_nocase(name, DG_SLICE("x-amz-server-side-encryption")) ||
           dg_slice_equal_nocase(name, DG_SLICE("x-amz-server-side-encryption-customer-algorithm")))
    answer->sealed_upstream = true;
  else if (dg_s3_is_kept_header(name))
    take_kept(answer, name, value);
}

void dg_s3_answer_line(struct dg_s3_answer *answer, struct dg_slice line)
{
  size_t colon;

  while (line.len && (line.data[line.len - 1] == '\n' || line.data[line.len - 1] == '\r'))
    line.len--;
  if (dg_slice_starts_with(line, DG_SLICE("HTTP/"))) {
    take_status(answer, line);
    return;
  }
  colon = dg_slice_find(line, ':', 0);
  if (colon != SIZE_MAX)
    take_header(answer, dg_slice_of(line.data, colon), dg_slice_trim(dg_slice_skip(line, colon + 1)));
}
