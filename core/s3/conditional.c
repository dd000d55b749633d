/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/s3/conditional.h"

#include "common/clock.h"
#include "common/slice.h"

#include "common/banned.h"

void dg_conditions_read(const struct dg_request *request, bool copy_source,
                        struct dg_conditions *ret_conditions)
{
  static const char *const names[2][4] = {
      {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"},
      {"x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match",
       "x-amz-copy-source-if-modified-since", "x-amz-copy-source-if-unmodified-since"},
  };
  const char *const *name = names[copy_source];
  struct dg_conditions c = {0};

  c.if_match = dg_request_header(request, name[0]);
  c.if_none_match = dg_request_header(request, name[1]);
  /* A date that does not parse is ignored (RFC 9110, 13.1.3). */
  c.has_modified_since =
      dg_time_parse_http(dg_request_header(request, name[2]), &c.modified_since_s);
  c.has_unmodified_since =
      dg_time_parse_http(dg_request_header(request, name[3]), &c.unmodified_since_s);
  *ret_conditions = c;
}

bool dg_conditions_any(const struct dg_conditions *conditions)
{
  return dg_slice_present(conditions->if_match) || dg_slice_present(conditions->if_none_match) ||
         conditions->has_modified_since || conditions->has_unmodified_since;
}

/* The tag between its quotes, so that a bare one compares too. */
static struct dg_slice unquote(struct dg_slice tag)
{
  if (tag.len >= 2 && tag.data[0] == '"' && tag.data[tag.len - 1] == '"')
    return dg_slice_of(tag.data + 1, tag.len - 2);
  return tag;
}

bool dg_etag_list_matches(struct dg_slice list, const char *etag, bool weak)
{
  struct dg_slice wanted = unquote(dg_slice_str(etag));

  list = dg_slice_trim(list);
  if (dg_slice_equal_str(list, "*"))
    return true;
  if (wanted.len == 0)
    return false;
  while (list.len) {
    struct dg_slice entry;
    bool entry_is_weak = dg_slice_starts_with(list, DG_SLICE("W/"));
    size_t end;

    if (entry_is_weak)
      list = dg_slice_skip(list, 2);
    /* A quoted tag may hold a comma. */
    if (list.len && list.data[0] == '"') {
      end = dg_slice_find(list, '"', 1);
      end = end == SIZE_MAX ? list.len : end + 1;
    } else {
      end = dg_slice_find(list, ',', 0);
      if (end == SIZE_MAX)
        end = list.len;
    }
    entry = dg_slice_trim(dg_slice_of(list.data, end));
    if ((weak || !entry_is_weak) && dg_slice_equal(unquote(entry), wanted))
      return true;
    list = dg_slice_skip(list, end);
    while (list.len && (list.data[0] == ',' || list.data[0] == ' ' || list.data[0] == '\t'))
      list = dg_slice_skip(list, 1);
  }
  return false;
}

int dg_conditions_check_read(const struct dg_conditions *conditions, const char *etag,
                             int64_t last_modified_s, struct dg_error *err)
{
  if (dg_slice_present(conditions->if_match)) {
    if (!dg_etag_list_matches(conditions->if_match, etag, /* weak= */ false))
      return dg_fail(err, DG_E_PRECONDITION_FAILED, "If-Match");
  } else if (conditions->has_unmodified_since && last_modified_s > conditions->unmodified_since_s) {
    return dg_fail(err, DG_E_PRECONDITION_FAILED, "If-Unmodified-Since");
  }
  if (dg_slice_present(conditions->if_none_match)) {
    if (dg_etag_list_matches(conditions->if_none_match, etag, /* weak= */ true))
      return dg_fail(err, DG_E_NOT_MODIFIED, "If-None-Match");
  } else if (conditions->has_modified_since && last_modified_s <= conditions->modified_since_s) {
    return dg_fail(err, DG_E_NOT_MODIFIED, "If-Modified-Since");
  }
  return 0;
}

int dg_conditions_check_copy(const struct dg_conditions *conditions, const char *etag,
                             int64_t last_modified_s, struct dg_error *err)
{
  struct dg_error reason;

  if (dg_conditions_check_read(conditions, etag, last_modified_s, &reason) < 0)
    return dg_fail(err, DG_E_PRECONDITION_FAILED, "x-amz-copy-source: %s", reason.detail);
  return 0;
}

int dg_conditions_check_form(const struct dg_conditions *conditions, struct dg_error *err)
{
  bool match = dg_slice_present(conditions->if_match);
  bool none_match = dg_slice_present(conditions->if_none_match);

  if (match && none_match)
    return dg_fail(err, DG_E_NOT_IMPLEMENTED,
                   "If-Match and If-None-Match cannot be used together on a write.");
  if (none_match && !dg_slice_equal_str(dg_slice_trim(conditions->if_none_match), "*"))
    return dg_fail(err, DG_E_NOT_IMPLEMENTED, "On a write, If-None-Match can only be '*'.");
  return 0;
}

int dg_conditions_check_write(const struct dg_conditions *conditions, bool exists, const char *etag,
                              struct dg_error *err)
{
  if (dg_slice_present(conditions->if_match)) {
    if (!exists)
      return dg_fail(err, DG_E_NO_SUCH_KEY, "If-Match on a key that is not there");
    if (!dg_etag_list_matches(conditions->if_match, etag, /* weak= */ false))
      return dg_fail(err, DG_E_PRECONDITION_FAILED, "If-Match");
  }
  if (dg_slice_present(conditions->if_none_match) && exists &&
      dg_etag_list_matches(conditions->if_none_match, etag, /* weak= */ true))
    return dg_fail(err, DG_E_PRECONDITION_FAILED, "If-None-Match");
  return 0;
}
