/* SPDX-License-Identifier: Apache-2.0 */
/* ListObjects, version 1 and 2. The engine yields one page in byte order; this
 * file is about parameters and tokens.
 *
 * A page's last row, object or common prefix, is where the next one goes on.
 * V2's token is that name in base64 behind a version letter, so that clients
 * do not come to lean on it being a key. */
#include "config.h"

#include "core/http/op.h"

#include "common/hex.h"
#include "core/s3/answers.h"

#include "common/banned.h"

#define TOKEN_VERSION   'a'
#define TOKEN_MAX_BYTES 2048

struct page {
  const struct dg_exchange *x;
  struct dg_answer_list answer;
  GString *contents, *prefixes;
  GString *last;
};

static void token_write(GString *out, const GString *name)
{
  g_autofree char *plain = g_strdup_printf("%c%s", TOKEN_VERSION, name->str);
  g_autofree char *text = g_malloc(DG_BASE64_LEN(name->len + 1) + 1);

  dg_base64_encode(plain, name->len + 1, text);
  g_string_append(out, text);
}

static int token_read(struct dg_slice token, GString *ret_name, struct dg_error *err)
{
  char plain[TOKEN_MAX_BYTES];
  size_t len;

  if (!dg_base64_decode(token, plain, sizeof plain, &len) || len < 1 || plain[0] != TOKEN_VERSION)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "The continuation token provided is incorrect.");
  g_string_append_len(ret_name, plain + 1, (gssize)(len - 1));
  return 0;
}

static void add_object(struct page *page, struct dg_answer_object *object,
                       const struct dg_object_info *info)
{
  g_autoptr(GStringChunk) names = NULL;
  g_autoptr(GArray) items = NULL;

  if (page->answer.metadata && info->meta) {
    names = g_string_chunk_new(256);
    items = g_array_new(FALSE, FALSE, sizeof(struct dg_pair));
    dg_op_list_items(page->x, info->meta, items, names);
    object->items = (const struct dg_pair *)(const void *)items->data;
    object->item_count = items->len;
  }
  dg_answer_list_object(page->contents, &page->answer, object);
}

static int list_row(void *receiver, const struct dg_listing_row *row)
{
  struct page *page = receiver;
  struct dg_answer_object object = {.key = row->key};

  page->answer.row_count++;
  g_string_truncate(page->last, 0);
  dg_slice_append(page->last, row->key);
  if (row->is_prefix) {
    dg_answer_list_prefix(page->prefixes, &page->answer, row->key);
    return 0;
  }
  object.last_modified_s = row->info->last_modified_s;
  object.etag = dg_slice_str(row->info->etag);
  object.size_bytes = row->info->size_bytes;
  if (row->info->meta)
    (void)dg_object_checksum(row->info, &object.checksum_kind);
  add_object(page, &object, row->info);
  return 0;
}

static int list_rows(struct dg_exchange *x, const struct dg_listing_request *request,
                     struct page *page, struct dg_error *err)
{
  if (x->list_prefixes)
    return dg_op_list_shown(x, x->list_prefixes, request, list_row, page, &page->answer.truncated,
                            err);
  return dg_engine_list(x->server->engine, &x->call, request, list_row, page,
                        &page->answer.truncated, err);
}

/* Both versions; they differ in where a page starts and in a few elements. */
static int list_page(struct dg_exchange *x, bool v2, struct dg_error *err)
{
  g_autoptr(GString) contents = g_string_new(NULL);
  g_autoptr(GString) prefixes = g_string_new(NULL);
  g_autoptr(GString) last = g_string_new(NULL);
  g_autoptr(GString) next = g_string_new(NULL);
  g_autoptr(GString) start = g_string_new(NULL);
  struct page page = {.x = x, .contents = contents, .prefixes = prefixes, .last = last};
  struct dg_answer_list *answer = &page.answer;
  struct dg_listing_request request;
  uint64_t max_keys;
  GString *out;

  /* Any number is taken, as S3 does: a page never holds more than 1000. */
  if (dg_op_query_uint(x, "max-keys", 0, INT32_MAX, DG_OP_MAX_PAGE, &max_keys, err) < 0 ||
      dg_op_encoding(x, &answer->encode_url, err) < 0)
    return -1;
  answer->v2 = v2;
  answer->max_keys = (uint32_t)MIN(max_keys, DG_OP_MAX_PAGE);
  answer->bucket = x->target.bucket;
  answer->prefix = dg_op_query(x, "prefix");
  answer->delimiter = dg_op_query(x, "delimiter");
  if (v2) {
    answer->metadata = dg_slice_equal_str(dg_op_query(x, "metadata"), "true");
    answer->fetch_owner = dg_slice_equal_str(dg_op_query(x, "fetch-owner"), "true");
    answer->start_after = dg_op_query(x, "start-after");
    answer->token = dg_op_query(x, "continuation-token");
  } else {
    answer->marker = dg_op_query(x, "marker");
  }
  if (!dg_slice_present(answer->token))
    dg_slice_append(start, v2 ? answer->start_after : answer->marker);
  else if (token_read(answer->token, start, err) < 0)
    return -1;
  request = (struct dg_listing_request){.bucket = answer->bucket,
                                        .prefix = answer->prefix,
                                        .delimiter = answer->delimiter,
                                        .start_after = dg_slice_of(start->str, start->len),
                                        .max_rows = answer->max_keys};
  if (list_rows(x, &request, &page, err) < 0)
    return -1;
  /* Of an empty page there is no row to go on from. */
  answer->truncated = answer->truncated && answer->row_count > 0;
  if (answer->truncated && v2) {
    token_write(next, last);
    answer->next_token = dg_slice_of(next->str, next->len);
  } else if (answer->truncated) {
    answer->next_marker = dg_slice_of(last->str, last->len);
  }
  out = g_string_sized_new(contents->len + prefixes->len + 1024);
  dg_answer_list(out, answer, contents, prefixes);
  dg_respond_xml(x, 200, out);
  return 0;
}

static int list_finish(struct dg_exchange *x, struct dg_error *err)
{
  return list_page(x, /* v2= */ false, err);
}

const struct dg_handler dg_op_list_objects = {
    .operation = "list_objects",
    .body_mode = DG_BODY_NONE,
    .finish = list_finish,
};

static int list_v2_finish(struct dg_exchange *x, struct dg_error *err)
{
  return list_page(x, /* v2= */ true, err);
}

const struct dg_handler dg_op_list_objects_v2 = {
    .operation = "list_objects",
    .body_mode = DG_BODY_NONE,
    .finish = list_v2_finish,
};
