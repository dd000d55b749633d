/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/uploadnative.h"

#include "common/fault.h"
#include "common/hex.h"
#include "common/oserror.h"
#include "core/engine/callwait.h"
#include "core/engine/partnotes.h"

#include "common/banned.h"

#define LARGE_PART_BYTES (UINT64_C(5) << 20) /* what every storage joins, wherever it stands */

/* ---- Begin -------------------------------------------------------------------------- */

static bool may_be_native(const struct dg_route *route, const struct dg_upload *upload,
                          uint64_t part_bytes)
{
  return dg_backend_has(route->backend, DG_CAP_NATIVE_UPLOAD) &&
         dg_put_delta_chance(route, dg_slice_str(upload->key), part_bytes,
                             /* from_parts= */ true) == DG_DELTA_NEVER;
}

static bool is_at(const struct dg_upload *upload, const struct dg_route *route)
{
  return strcmp(dg_backend_name(route->backend), upload->native.backend) == 0 &&
         strcmp(route->bucket, upload->native.bucket) == 0;
}

static int ask_storage(const struct dg_call *call, const struct dg_route *route,
                       const struct dg_upload *upload, const char *part_sizes, char **ret_token,
                       struct dg_error *err)
{
  struct dg_item item =
    dg_route_item(route, dg_slice_str(upload->key), DG_VARIANT_PASSTHROUGH);
  struct dg_meta *meta = dg_meta_new();
  struct dg_slice type = upload->meta->content_type;
  int rc = type.len ? dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, type, err) : 0;

  meta->variant = DG_VARIANT_PASSTHROUGH;
  if (rc == 0)
    rc = dg_put_add_client_pairs(meta, upload->meta, err);
  if (rc == 0 && part_sizes)
    rc = dg_meta_add_extension(meta, DG_SLICE(DG_EXTENSION_PART_SIZES), dg_slice_str(part_sizes),
                               err);
  if (rc == 0)
    rc = dg_backend_upload_begin(route->backend, call, &item, meta, ret_token, err);
  dg_meta_unref(meta);
  return rc;
}

static void drop_token(const struct dg_call *call, const struct dg_route *route,
                       const struct dg_upload *upload, const char *token)
{
  struct dg_item item =
    dg_route_item(route, dg_slice_str(upload->key), DG_VARIANT_PASSTHROUGH);
  struct dg_error err;

  (void)dg_backend_upload_abort(route->backend, call, &item, token, &err);
}

/* With upload->mutex; the storage has begun. token is transferred on success. */
static int keep_locked(struct dg_upload *upload, const struct dg_route *route, char *token,
                       const char *part_sizes, struct dg_error *err)
{
  int number = dg_fault("engine.native.begin");

  if (upload->state != DG_UPLOAD_OPEN)
    return dg_fail(err, DG_E_NO_SUCH_UPLOAD, "the upload is over");
  if (number)
    return dg_fail(err, dg_errno_code(number), "injected at engine.native.begin");
  upload->native.backend = g_strdup(dg_backend_name(route->backend));
  upload->native.bucket = g_strdup(route->bucket);
  upload->native.token = token;
  upload->native.part_sizes = g_strdup(part_sizes);
  if (dg_upload_save_native(upload, err) == 0)
    return 0;
  g_clear_pointer(&upload->native.backend, g_free);
  g_clear_pointer(&upload->native.bucket, g_free);
  g_clear_pointer(&upload->native.part_sizes, g_free);
  upload->native.token = NULL;
  return -1;
}

/* The state is BEGINNING, and ours to change. part_bytes: of the first part, which most
 * clients make as large as all others but the last. */
static int begin(const struct dg_call *call, const struct dg_route *route,
                 struct dg_upload *upload, uint64_t part_bytes, struct dg_error *err)
{
  g_autofree char *part_sizes =
    dg_backend_has(route->backend, DG_CAP_NOTES) ? dg_part_guess_new(part_bytes) : NULL;
  enum dg_native_state next = DG_NATIVE_UNDECIDED;
  char *token = NULL;
  int rc;

  if (!may_be_native(route, upload, part_bytes)) {
    next = DG_NATIVE_NEVER;
    rc = 0;
  } else {
    rc = ask_storage(call, route, upload, part_sizes, &token, err);
    if (rc < 0 && err->code == DG_E_UNSUPPORTED) {
      next = DG_NATIVE_NEVER;
      rc = 0;
    }
  }
  g_mutex_lock(&upload->mutex);
  if (token) {
    rc = keep_locked(upload, route, token, part_sizes, err);
    if (rc == 0)
      next = DG_NATIVE_BEGUN;
  }
  upload->native.state = next;
  g_cond_broadcast(&upload->changed);
  g_mutex_unlock(&upload->mutex);
  if (token && rc < 0) {
    drop_token(call, route, upload, token);
    g_free(token);
  }
  return rc;
}

/* Decides, or waits until another part has decided. *ret_begun: the part goes to the
 * storage. */
static int decide(const struct dg_call *call, const struct dg_route *route,
                  struct dg_upload *upload, uint64_t part_bytes, bool *ret_begun,
                  struct dg_error *err)
{
  bool mine = false;

  g_mutex_lock(&upload->mutex);
  while (upload->native.state == DG_NATIVE_BEGINNING) {
    if (dg_call_wait(call, &upload->changed, &upload->mutex, /* until_mono_ms= */ 0, err) < 0) {
      g_mutex_unlock(&upload->mutex);
      return -1;
    }
  }
  if (upload->native.state == DG_NATIVE_UNDECIDED && part_bytes >= LARGE_PART_BYTES) {
    upload->native.state = DG_NATIVE_BEGINNING;
    mine = true;
  }
  g_mutex_unlock(&upload->mutex);
  if (mine && begin(call, route, upload, part_bytes, err) < 0)
    return -1;
  g_mutex_lock(&upload->mutex);
  *ret_begun = upload->native.state == DG_NATIVE_BEGUN;
  g_mutex_unlock(&upload->mutex);
  return 0;
}

/* Without a look at anything else. */
static bool stays_here(struct dg_upload *upload, uint64_t size_bytes)
{
  bool here;

  g_mutex_lock(&upload->mutex);
  here = size_bytes == DG_TO_END || upload->native.state == DG_NATIVE_NEVER ||
         (upload->native.state == DG_NATIVE_UNDECIDED && size_bytes < LARGE_PART_BYTES);
  g_mutex_unlock(&upload->mutex);
  return here;
}

/* What was begun stays where it is: an object there would be at the wrong place now, or
 * in plain where bodies are sealed since. */
static int check_place(const struct dg_upload *upload, const struct dg_route *route,
                       struct dg_error *err)
{
  if (is_at(upload, route) && dg_backend_has(route->backend, DG_CAP_NATIVE_UPLOAD))
    return 0;
  return dg_fail(err, DG_E_NO_SUCH_UPLOAD,
                 "the upload was begun at %s/%s, and its bucket is stored otherwise now",
                 upload->native.backend, upload->native.bucket);
}

/* ---- One part ----------------------------------------------------------------------- */

struct dg_native_part {
  struct dg_upload *upload; /* borrowed from the part's put */
  const struct dg_call *call;
  struct dg_route route;
  uint32_t part_no;
  struct dg_writer *writer; /* NULL once committed */
};

int dg_native_part_open(struct dg_engine *engine, const struct dg_call *call,
                        struct dg_upload *upload, uint32_t part_no, uint64_t size_bytes,
                        struct dg_native_part **ret_part, struct dg_error *err)
{
  struct dg_native_part *part;
  struct dg_item item;
  bool begun = false;

  *ret_part = NULL;
  if (stays_here(upload, size_bytes))
    return 0;
  part = g_new0(struct dg_native_part, 1);
  part->upload = upload;
  part->call = call;
  part->part_no = part_no;
  if (dg_route_open(engine, call, dg_slice_str(upload->bucket), &part->route, err) < 0 ||
      decide(call, &part->route, upload, size_bytes, &begun, err) < 0)
    goto fail;
  if (!begun) {
    dg_native_part_free(part);
    return 0;
  }
  item = dg_route_item(&part->route, dg_slice_str(upload->key), DG_VARIANT_PASSTHROUGH);
  if (check_place(upload, &part->route, err) < 0 ||
      dg_backend_upload_part(part->route.backend, call, &item, upload->native.token, part_no,
                             size_bytes, &part->writer, err) < 0)
    goto fail;
  *ret_part = part;
  return 0;

fail:
  dg_native_part_free(part);
  return -1;
}

void dg_native_part_free(struct dg_native_part *part)
{
  if (!part)
    return;
  dg_writer_abort(part->writer);
  dg_route_clear(&part->route);
  g_free(part);
}

int dg_native_part_write(struct dg_native_part *part, const void *data, size_t len,
                         struct dg_error *err)
{
  return dg_writer_write(part->writer, data, len, err);
}

static int commit_writer(struct dg_writer *writer, const struct dg_item *item,
                         struct dg_part *row, struct dg_error *err)
{
  struct dg_commit_result result = {.struct_size = sizeof result};
  struct dg_meta *meta = dg_meta_new();
  char md5[33];
  int rc;

  dg_hex_encode(row->md5, sizeof row->md5, md5);
  meta->variant = DG_VARIANT_PASSTHROUGH;
  meta->file_size = row->size_bytes;
  rc = dg_meta_set(meta, DG_FIELD_MD5, dg_slice_str(md5), err);
  if (rc < 0)
    dg_writer_abort(writer);
  else
    rc = dg_writer_commit(writer, item, meta, &result, err);
  dg_meta_unref(meta);
  if (rc == 0 && !memchr(result.tag, '\0', sizeof result.tag))
    rc = dg_fail(err, DG_E_INTERNAL, "a part was stored without a tag");
  if (rc == 0) {
    row->is_native = true;
    memcpy(row->tag, result.tag, sizeof row->tag);
  }
  return rc;
}

int dg_native_part_commit(struct dg_native_part *part, struct dg_part *row, struct dg_error *err)
{
  struct dg_item item =
    dg_route_item(&part->route, dg_slice_str(part->upload->key), DG_VARIANT_PASSTHROUGH);

  return commit_writer(g_steal_pointer(&part->writer), &item, row, err);
}

/* ---- Completion -------------------------------------------------------------------------- */

static int write_piece(void *writer, const void *data, size_t len, struct dg_error *err)
{
  return dg_writer_write(writer, data, len, err);
}

/* A part that came before the upload was begun. */
static int send_file(struct dg_engine *engine, const struct dg_call *call,
                     const struct dg_route *route, struct dg_upload *upload, struct dg_part *part,
                     struct dg_error *err)
{
  struct dg_item item =
    dg_route_item(route, dg_slice_str(upload->key), DG_VARIANT_PASSTHROUGH);
  struct dg_writer *writer;

  if (dg_backend_upload_part(route->backend, call, &item, upload->native.token, part->part_no,
                             part->size_bytes, &writer, err) < 0)
    return -1;
  if (dg_part_drain(engine, call, upload, part, write_piece, writer, err) < 0) {
    dg_writer_abort(writer);
    return -1;
  }
  return commit_writer(writer, &item, part, err);
}

struct joining {
  struct dg_upload *upload;
  const struct dg_part *parts;
  uint32_t count;
};

static int join_parts(void *receiver, struct dg_put *put, struct dg_meta *meta,
                      struct dg_put_result *result, struct dg_error *err)
{
  const struct joining *joining = receiver;
  g_autofree struct dg_upload_piece *pieces = g_new0(struct dg_upload_piece, joining->count);
  struct dg_item item = dg_route_item(&put->route, put->key, DG_VARIANT_PASSTHROUGH);
  int number = dg_fault("engine.native.complete");

  if (number)
    return dg_fail(err, dg_errno_code(number), "injected at engine.native.complete");
  if (check_place(joining->upload, &put->route, err) < 0)
    return -1;
  for (uint32_t i = 0; i < joining->count; i++)
    pieces[i] = (struct dg_upload_piece){.struct_size = sizeof *pieces,
                                         .part_no = joining->parts[i].part_no,
                                         .tag = dg_slice_str(joining->parts[i].tag)};
  dg_meta_clear(meta);
  if (dg_backend_upload_complete(put->route.backend, put->call, &item,
                                 joining->upload->native.token, pieces, joining->count, meta,
                                 err) < 0)
    return -1;
  if (meta->file_size != put->size_bytes)
    return dg_fail(err, DG_E_IO, "the storage joined %" G_GUINT64_FORMAT " bytes of %"
                   G_GUINT64_FORMAT, meta->file_size, put->size_bytes);
  result->variant = DG_VARIANT_PASSTHROUGH;
  result->stored_bytes = meta->stored_size;
  return 0;
}

static int send_files(struct dg_engine *engine, const struct dg_call *call,
                      struct dg_upload *upload, struct dg_part *parts, uint32_t count,
                      struct dg_error *err)
{
  struct dg_route route;
  int rc;

  if (dg_route_open(engine, call, dg_slice_str(upload->bucket), &route, err) < 0)
    return -1;
  rc = check_place(upload, &route, err);
  for (uint32_t i = 0; rc == 0 && i < count; i++)
    if (!parts[i].is_native)
      rc = send_file(engine, call, &route, upload, &parts[i], err);
  dg_route_clear(&route);
  return rc;
}

/* What the object will tell of its parts is fixed: is it true without a note? If it is
 * not, may a reader see that? */
static void judge_guess(const struct dg_upload *upload, const struct dg_part *parts,
                        uint32_t count, bool *ret_true, bool *ret_plausible)
{
  struct dg_slice text =
    dg_slice_str(upload->native.part_sizes ? upload->native.part_sizes : "");
  uint64_t size_bytes = 0;
  struct dg_range range;

  for (uint32_t i = 0; i < count; i++)
    size_bytes += parts[i].size_bytes;
  *ret_true = *ret_plausible = true;
  for (uint32_t i = 0; i < count && *ret_true; i++) {
    *ret_plausible = dg_part_guess_find(text, count, i + 1, size_bytes, &range);
    *ret_true = *ret_plausible && range.length == parts[i].size_bytes;
  }
}

int dg_native_complete(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_put_request *request, struct dg_upload *upload,
                       struct dg_part *parts, uint32_t count, const char *part_sizes,
                       struct dg_put_result *ret_result, struct dg_error *err)
{
  struct joining joining = {upload, parts, count};
  struct dg_put_ready ready = {.store = join_parts, .receiver = &joining};
  bool is_true, is_plausible;

  if (send_files(engine, call, upload, parts, count, err) < 0)
    return -1;
  judge_guess(upload, parts, count, &is_true, &is_plausible);
  if (!is_true && upload->native.part_sizes) {
    ready.part_sizes = part_sizes;
    ready.note_id = dg_part_note_id_in(dg_slice_str(upload->native.part_sizes)).data;
    ready.needs_note = is_plausible;
  }
  return dg_engine_put_ready(engine, call, request, &ready, ret_result, err);
}

/* ---- The end ------------------------------------------------------------------------------ */

int dg_native_drop(struct dg_engine *engine, const struct dg_call *call, struct dg_upload *upload,
                   struct dg_error *err)
{
  struct dg_backend *backend;
  struct dg_item item;
  struct dg_route route;
  bool begun;
  int rc = 0;

  g_mutex_lock(&upload->mutex);
  begun = upload->native.state == DG_NATIVE_BEGUN;
  g_mutex_unlock(&upload->mutex);
  if (!begun)
    return 0;
  if (dg_route_open(engine, call, dg_slice_str(upload->bucket), &route, err) < 0)
    return -1;
  backend = dg_route_backend(&route, upload->native.backend);
  item = (struct dg_item){.bucket = dg_slice_str(upload->native.bucket),
                          .key = dg_slice_str(upload->key),
                          .variant = DG_VARIANT_PASSTHROUGH};
  if (!backend)
    dg_log_warn(engine->log, "engine.upload_left", "upload=%s backend=%s is gone", upload->id,
                DG_LOG_QUOTED(dg_slice_str(upload->native.backend)));
  else
    rc = dg_backend_upload_abort(backend, call, &item, upload->native.token, err);
  dg_route_clear(&route);
  if (rc < 0 && (err->code == DG_E_NO_SUCH_UPLOAD || err->code == DG_E_NO_SUCH_BUCKET))
    rc = 0;
  return rc;
}

int dg_native_end(struct dg_engine *engine, const struct dg_call *call, struct dg_upload *upload,
                  bool joined, struct dg_error *err)
{
  if (!joined && dg_native_drop(engine, call, upload, err) < 0)
    return -1;
  g_mutex_lock(&upload->mutex);
  if (upload->native.state == DG_NATIVE_BEGUN) {
    upload->native.state = DG_NATIVE_NEVER;
    dg_upload_remove_native(upload);
  }
  g_mutex_unlock(&upload->mutex);
  return 0;
}
