/* SPDX-License-Identifier: Apache-2.0 */
/* A listing of which only the keys below some prefixes are shown.
 *
 * Each prefix is listed by itself, in byte order, so that pages are full and what
 * lies between the prefixes, be it millions of keys, is never read. Where the
 * delimiter groups a whole prefix into one row, as `a/` does with `a/b/`, the row
 * is shown if the prefix holds an object: what else lies in `a/` is not told. */
#include "config.h"

#include "core/http/op.h"

#include "core/access/public.h"

#include "common/banned.h"

struct shown {
  const struct dg_exchange *x;
  const struct dg_listing_request *request;
  int (*row)(void *receiver, const struct dg_listing_row *row);
  void *receiver;
  uint32_t row_count;
  bool full;              /* one row more than asked for is there */
  struct dg_slice group;  /* the last grouped prefix that was shown */
};

static int take_row(void *receiver, const struct dg_listing_row *row)
{
  struct shown *shown = receiver;

  if (shown->row_count == shown->request->max_rows) {
    shown->full = true;
    return 1;
  }
  shown->row_count++;
  return shown->row(shown->receiver, row);
}

static int note_row(void *receiver, const struct dg_listing_row *row)
{
  (void)row;
  *(bool *)receiver = true;
  return 1;
}

/* Where a listing of this prefix goes on; false: the page begins behind all of it. */
static bool start_within(const struct shown *shown, struct dg_slice prefix,
                         struct dg_slice *ret_start)
{
  struct dg_slice start = shown->request->start_after;
  bool within = dg_slice_starts_with(start, prefix);

  *ret_start = within ? start : DG_SLICE_NONE;
  return within || dg_slice_compare(start, prefix) < 0;
}

/* The row into which the delimiter groups all of a prefix; absent if it does not. */
static struct dg_slice group_of(const struct shown *shown, struct dg_slice prefix)
{
  struct dg_slice delimiter = shown->request->delimiter;

  for (size_t at = shown->request->prefix.len; delimiter.len && at + delimiter.len <= prefix.len;
       at++)
    if (dg_slice_starts_with(dg_slice_skip(prefix, at), delimiter))
      return dg_slice_of(prefix.data, at + delimiter.len);
  return DG_SLICE_NONE;
}

static int show_group(struct shown *shown, struct dg_slice prefix, struct dg_slice group,
                      struct dg_error *err)
{
  struct dg_listing_request request = {
      .bucket = shown->request->bucket, .prefix = prefix, .max_rows = 1};
  bool any = false, truncated;

  if (dg_slice_equal(group, shown->group) || dg_slice_equal(group, shown->request->start_after) ||
      !start_within(shown, prefix, &request.start_after))
    return 0;
  if (dg_engine_list(shown->x->server->engine, &shown->x->call, &request, note_row, &any,
                     &truncated, err) < 0)
    return -1;
  if (any) {
    shown->group = group;
    (void)take_row(shown, &(struct dg_listing_row){.is_prefix = true, .key = group});
  }
  return 0;
}

static int show_prefix(struct shown *shown, struct dg_slice prefix, struct dg_error *err)
{
  struct dg_listing_request request = *shown->request;
  struct dg_slice group = group_of(shown, prefix);
  bool truncated;

  if (group.len)
    return show_group(shown, prefix, group, err);
  request.prefix = prefix;
  /* One more tells whether the page is cut. */
  request.max_rows = shown->request->max_rows - shown->row_count + 1;
  if (!start_within(shown, prefix, &request.start_after))
    return 0;
  return dg_engine_list(shown->x->server->engine, &shown->x->call, &request, take_row, shown,
                        &truncated, err);
}

static int compare_texts(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In byte order, without those that lie in another one: borrowed texts. */
static GPtrArray *sort_prefixes(char *const *prefixes)
{
  GPtrArray *all = g_ptr_array_new(), *outer = g_ptr_array_new();

  for (; *prefixes; prefixes++)
    g_ptr_array_add(all, *prefixes);
  g_ptr_array_sort(all, compare_texts);
  for (guint i = 0; i < all->len; i++)
    if (outer->len == 0 ||
        !g_str_has_prefix(all->pdata[i], outer->pdata[outer->len - 1]))
      g_ptr_array_add(outer, all->pdata[i]);
  g_ptr_array_unref(all);
  return outer;
}

int dg_op_list_shown(const struct dg_exchange *x, char *const *prefixes,
                     const struct dg_listing_request *request,
                     int (*row)(void *receiver, const struct dg_listing_row *row), void *receiver,
                     bool *ret_truncated, struct dg_error *err)
{
  struct shown shown = {.x = x, .request = request, .row = row, .receiver = receiver};
  g_autoptr(GPtrArray) outer = NULL;

  if (request->max_rows == 0 || dg_public_key(prefixes, request->prefix))
    return dg_engine_list(x->server->engine, &x->call, request, row, receiver, ret_truncated, err);
  outer = sort_prefixes(prefixes);
  for (guint i = 0; i < outer->len && !shown.full; i++) {
    struct dg_slice prefix = dg_slice_str(outer->pdata[i]);

    if (dg_slice_starts_with(prefix, request->prefix) && show_prefix(&shown, prefix, err) < 0)
      return -1;
  }
  *ret_truncated = shown.full;
  return 0;
}
