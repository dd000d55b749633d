/* SPDX-License-Identifier: Apache-2.0 */
/* DELETE /bucket/prefix/ as a removal of everything below it: not of S3, and off unless
 * advanced.recursive_delete is on.
 *
 * Pages are listed and removed in turn, each from behind the last key of the one before:
 * memory is that of a page, what stays (denied keys) is passed once, and a key that comes
 * behind the place reached is removed too. It stops at the first failure, at its deadline
 * and when the client leaves; what is removed by then is removed, and the same request
 * goes on with the rest. */
#include "config.h"

#include "core/http/fanout.h"
#include "core/http/op.h"
#include "core/http/policy.h"

#include "core/config/config.h"
#include "core/observe/log.h"
#include "core/plug/stream.h"

#include "common/banned.h"

struct removal {
  struct dg_exchange *x;
  GPtrArray *keys;  /* char *: of this page; a key holds no NUL */
  gint deleted, denied; /* atomic; of this page */
  gint failed;      /* atomic: the rest of the page stays */
  GMutex mutex;     /* guards err */
  struct dg_error err; /* of the first failure */
};

static void fail(struct removal *removal, const struct dg_error *err)
{
  g_mutex_lock(&removal->mutex);
  if (!g_atomic_int_get(&removal->failed))
    removal->err = *err;
  g_atomic_int_set(&removal->failed, 1);
  g_mutex_unlock(&removal->mutex);
}

static void remove_one(void *receiver, uint32_t i)
{
  struct removal *removal = receiver;
  struct dg_exchange *x = removal->x;
  struct dg_slice key = dg_slice_str(removal->keys->pdata[i]);
  struct dg_error err;

  if (g_atomic_int_get(&removal->failed))
    return;
  if (dg_policy_check_removal(x, key, &err) < 0)
    (void)g_atomic_int_add(&removal->denied, 1);
  else if (dg_call_check(&x->call, &err) < 0 ||
           dg_engine_delete(x->server->engine, &x->call, x->target.bucket, key, NULL, NULL,
                            &err) < 0)
    fail(removal, &err);
  else
    (void)g_atomic_int_add(&removal->deleted, 1);
}

static int note_key(void *receiver, const struct dg_listing_row *row)
{
  g_ptr_array_add(receiver, dg_slice_dup(row->key));
  return 0;
}

/* Removes the next page. *io_after: where it begins, and then where it ended. */
static int remove_page(struct removal *removal, GString *io_after, bool *ret_more,
                       struct dg_error *err)
{
  struct dg_exchange *x = removal->x;
  struct dg_listing_request request = {
      .bucket = x->target.bucket,
      .prefix = x->target.key,
      .start_after = dg_slice_of(io_after->str, io_after->len),
      .max_rows = x->snapshot->recursive_delete_page,
  };

  g_ptr_array_set_size(removal->keys, 0);
  if (dg_engine_list(x->server->engine, &x->call, &request, note_key, removal->keys, ret_more,
                     err) < 0)
    return -1;
  if (removal->keys->len == 0) { /* of an empty page there is nothing to go on from */
    *ret_more = false;
    return 0;
  }
  g_string_assign(io_after, removal->keys->pdata[removal->keys->len - 1]);
  dg_fan_out(removal->keys->len, remove_one, removal);
  if (!g_atomic_int_get(&removal->failed))
    return 0;
  *err = removal->err;
  return -1;
}

static int remove_pages(struct dg_exchange *x, uint64_t *ret_deleted, uint64_t *ret_denied,
                        struct dg_error *err)
{
  g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) after = g_string_new(NULL);
  struct removal removal = {.x = x, .keys = keys};
  bool more = true;
  int rc = 0;

  g_mutex_init(&removal.mutex);
  while (rc == 0 && more) {
    removal.deleted = removal.denied = 0;
    rc = remove_page(&removal, after, &more, err);
    *ret_deleted += (uint64_t)removal.deleted;
    *ret_denied += (uint64_t)removal.denied;
  }
  g_mutex_clear(&removal.mutex);
  return rc;
}

/* A condition is about one object, and nobody could say which. */
static int check_form(const struct dg_exchange *x, struct dg_error *err)
{
  dg_write_check_fn check = NULL;

  if (dg_op_refuse_version(dg_op_query(x, "versionId"), err) < 0 ||
      dg_op_write_check(x, &check, err) < 0)
    return -1;
  return check ? dg_fail(err, DG_E_INVALID_REQUEST,
                         "The removal of a prefix takes no conditions.")
               : 0;
}

static int delete_prefix_finish(struct dg_exchange *x, struct dg_error *err)
{
  uint64_t deleted = 0, denied = 0;
  GString *out;

  if (x->may_defer) { /* it may take minutes: never on all workers */
    x->deferred = true;
    return dg_fail(err, DG_E_SLOW_DOWN, "a prefix is removed behind the other requests");
  }
  if (check_form(x, err) < 0)
    return -1;
  if (remove_pages(x, &deleted, &denied, err) < 0) {
    if (deleted)
      dg_log_warn(x->server->log, "delete_prefix.stopped",
                  "request_id=%s bucket=%s prefix=%s deleted=%" G_GUINT64_FORMAT
                  " denied=%" G_GUINT64_FORMAT,
                  x->request.id, DG_LOG_QUOTED(x->target.bucket), DG_LOG_QUOTED(x->target.key),
                  deleted, denied);
    return -1;
  }
  out = g_string_new(NULL);
  g_string_append_printf(
    out, "{\"deleted\":%" G_GUINT64_FORMAT ",\"denied\":%" G_GUINT64_FORMAT "}\n", deleted, denied);
  dg_respond(x, 200, "application/json", g_string_free_to_bytes(out));
  return 0;
}

const struct dg_handler dg_op_delete_prefix = {
    .operation = "delete_object",
    .body_mode = DG_BODY_NONE,
    .finish = delete_prefix_finish,
    .slow = DG_SLOW_JSON,
};
