/* SPDX-License-Identifier: Apache-2.0 */
/* One part of a multipart upload: straight to a file, or to the storage that will join
 * it, durable before the answer. It replaces an earlier part of that number in one
 * rename. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "core/engine/callwait.h"
#include "core/engine/hashes.h"
#include "core/engine/readers.h"
#include "core/engine/spool.h"
#include "core/engine/uploadnative.h"

#include "common/banned.h"

struct dg_part_put {
  struct dg_engine *engine;
  const struct dg_call *call;
  struct dg_upload *upload;
  uint32_t part_no;
  uint64_t size_hint, size_bytes, size_max;
  uint64_t room_bytes, room_max; /* on disk: taken; what all may take */
  uint32_t crc32c;
  struct dg_hashes *hashes;
  char *path; /* of the temporary file */
  int fd;
  struct dg_native_part *native; /* NULL: the bytes go to the file */
};

static int check_open(const struct dg_upload *upload, struct dg_error *err)
{
  if (upload->state == DG_UPLOAD_COMPLETING)
    return dg_fail(err, DG_E_INVALID_REQUEST, "the upload is being completed");
  if (upload->state != DG_UPLOAD_OPEN)
    return dg_fail(err, DG_E_NO_SUCH_UPLOAD, "the upload is over");
  return 0;
}

static void part_free(struct dg_part_put *part)
{
  dg_native_part_free(part->native);
  g_mutex_lock(&part->upload->mutex);
  part->upload->sender_count--;
  dg_upload_touch_locked(part->upload);
  g_mutex_unlock(&part->upload->mutex);
  if (part->fd >= 0)
    (void)close(part->fd);
  if (part->path)
    (void)unlink(part->path);
  dg_upload_room_give(part->engine->uploads, part->room_bytes);
  dg_hashes_free(part->hashes);
  dg_upload_unref(part->upload);
  g_free(part->path);
  g_free(part);
}

static int choose_kind(const struct dg_upload *upload, uint32_t *kind, struct dg_error *err)
{
  if (*kind == DG_SUM_NONE)
    *kind = upload->checksum_kind;
  if (upload->checksum_kind != DG_SUM_NONE && *kind != upload->checksum_kind)
    return dg_fail(err, DG_E_INVALID_REQUEST, "the upload was created with %s, the part sends %s",
                   dg_checksum_name(upload->checksum_kind), dg_checksum_name(*kind));
  return 0;
}

/* What the storage has takes no room here. */
static int take_room(struct dg_part_put *part, uint64_t bytes, struct dg_error *err)
{
  if (part->native)
    return 0;
  if (dg_upload_room_take(part->engine->uploads, bytes, part->room_max, err) < 0)
    return -1;
  part->room_bytes += bytes;
  return 0;
}

/* With upload->mutex: the part takes the place of another one, and its room is the
 * upload's. */
static void leave_room_locked(struct dg_part_put *part, const struct dg_part *former)
{
  struct dg_upload *upload = part->upload;
  uint64_t freed = former && !former->is_native ? former->size_bytes : 0;

  upload->file_bytes += part->room_bytes - freed;
  part->room_bytes = freed; /* until part_free() */
}

static int make_file(struct dg_part_put *part, struct dg_error *err)
{
  int number = dg_fault("engine.part.open");

  part->path = g_strdup_printf("%s/tmp-XXXXXX", part->upload->dir);
  part->fd = number ? (errno = number, -1) : mkostemp(part->path, O_CLOEXEC);
  if (part->fd >= 0)
    return 0;
  (void)dg_fail(err, errno == ENOENT ? DG_E_NO_SUCH_UPLOAD : dg_errno_code(errno),
                "make '%s': %s", part->path, g_strerror(errno));
  g_clear_pointer(&part->path, g_free);
  return -1;
}

int dg_engine_part_open(struct dg_engine *engine, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice key, struct dg_slice upload_id,
                        uint32_t part_no, uint64_t size_bytes, uint32_t checksum_kind,
                        struct dg_part_put **ret_part, struct dg_error *err)
{
  struct dg_view *view;
  struct dg_part_put *part;
  struct dg_upload *upload;
  int rc;

  if (part_no < 1 || part_no > DG_PART_MAX)
    return dg_fail(err, DG_E_INVALID_ARGUMENT, "Part number must be between 1 and %u", DG_PART_MAX);
  if (dg_upload_find(engine->uploads, bucket, key, upload_id, &upload, err) < 0)
    return -1;
  g_mutex_lock(&upload->mutex);
  rc = check_open(upload, err);
  if (rc == 0)
    rc = choose_kind(upload, &checksum_kind, err);
  if (rc == 0) {
    upload->sender_count++;
    dg_upload_touch_locked(upload);
  }
  g_mutex_unlock(&upload->mutex);
  if (rc < 0) {
    dg_upload_unref(upload);
    return -1;
  }
  part = g_new0(struct dg_part_put, 1);
  part->engine = engine;
  part->call = call;
  part->upload = upload;
  part->part_no = part_no;
  part->size_hint = size_bytes;
  part->fd = -1;
  view = dg_engine_view(engine);
  part->size_max = view->snapshot->max_object_size;
  part->room_max = view->snapshot->max_total_multipart_bytes;
  dg_view_unref(view);
  part->hashes = dg_hashes_new(checksum_kind, engine->crew);
  if (size_bytes != DG_TO_END && size_bytes > part->size_max) {
    (void)dg_fail(err, DG_E_ENTITY_TOO_LARGE, "a part above max_object_size");
    goto fail;
  }
  if (dg_native_part_open(engine, call, upload, part_no, size_bytes, &part->native, err) < 0 ||
      (size_bytes != DG_TO_END && take_room(part, size_bytes, err) < 0) ||
      make_file(part, err) < 0)
    goto fail;
  *ret_part = part;
  return 0;

fail:
  part_free(part);
  return -1;
}

int dg_part_write(struct dg_part_put *part, const void *data, size_t len, struct dg_error *err)
{
  if (len > part->size_max - part->size_bytes)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "a part above max_object_size");
  if (part->size_hint != DG_TO_END && len > part->size_hint - part->size_bytes)
    return dg_fail(err, DG_E_INCOMPLETE_BODY, "the part is longer than announced");
  if (part->size_hint == DG_TO_END && take_room(part, len, err) < 0)
    return -1;
  dg_hashes_update(part->hashes, data, len);
  part->crc32c = dg_crc32c(part->crc32c, data, len);
  if (part->native) {
    if (dg_native_part_write(part->native, data, len, err) < 0)
      return -1;
  } else if (dg_write_all_at(part->fd, data, len, part->size_bytes, err) < 0)
    return -1;
  part->size_bytes += len;
  return 0;
}

/* Trailer, fsync, rename, fsync of the directory. */
static int store(struct dg_part_put *part, const struct dg_part *row, struct dg_error *err)
{
  struct dg_upload *upload = part->upload;
  g_autofree char *path = dg_upload_part_path(upload, part->part_no);
  uint8_t trailer[DG_PART_TRAILER];
  int number = dg_fault("engine.part.commit");
  int rc;

  dg_part_encode(row, trailer);
  if (dg_write_all_at(part->fd, trailer, sizeof trailer, row->is_native ? 0 : row->size_bytes,
                      err) < 0)
    return -1;
  if (number == 0 && fsync(part->fd) < 0)
    number = errno;
  if (number)
    return dg_fail(err, dg_errno_code(number), "sync '%s': %s", part->path, g_strerror(number));
  g_mutex_lock(&upload->mutex);
  rc = check_open(upload, err);
  if (rc == 0)
    rc = dg_upload_load_parts_locked(upload, err);
  if (rc == 0 && rename(part->path, path) < 0)
    rc = dg_fail(err, errno == ENOENT ? DG_E_NO_SUCH_UPLOAD : dg_errno_code(errno),
                 "rename '%s': %s", part->path, g_strerror(errno));
  if (rc == 0) {
    gpointer key = GUINT_TO_POINTER(part->part_no);

    struct dg_part *former = g_tree_lookup(upload->parts, key);

    leave_room_locked(part, former);
    g_free(former);
    g_tree_replace(upload->parts, key, g_memdup2(row, sizeof *row));
    g_clear_pointer(&part->path, g_free);
  }
  g_mutex_unlock(&upload->mutex);
  if (rc == 0 && dg_dir_sync(upload->dir, err) < 0) {
    /* Aborted since, and its directory with it? Then that is the answer. */
    rc = -1;
    g_mutex_lock(&upload->mutex);
    if (upload->state == DG_UPLOAD_GONE)
      (void)check_open(upload, err);
    g_mutex_unlock(&upload->mutex);
  }
  return rc;
}

/* The storage's part and our note of it change together: two parts of one number would
 * else leave the bytes of one and the note of the other. */
static int take_turn(struct dg_part_put *part, struct dg_error *err)
{
  struct dg_upload *upload = part->upload;
  gpointer number = GUINT_TO_POINTER(part->part_no);
  int rc = 0;

  g_mutex_lock(&upload->mutex);
  while (rc == 0 && g_hash_table_contains(upload->native.busy, number))
    rc = dg_call_wait(part->call, &upload->changed, &upload->mutex, /* until_mono_ms= */ 0, err);
  if (rc == 0)
    rc = check_open(upload, err);
  if (rc == 0)
    g_hash_table_add(upload->native.busy, number);
  g_mutex_unlock(&upload->mutex);
  return rc;
}

static void end_turn(struct dg_part_put *part)
{
  g_mutex_lock(&part->upload->mutex);
  g_hash_table_remove(part->upload->native.busy, GUINT_TO_POINTER(part->part_no));
  g_cond_broadcast(&part->upload->changed);
  g_mutex_unlock(&part->upload->mutex);
}

static int store_native(struct dg_part_put *part, struct dg_part *row, struct dg_error *err)
{
  bool stored;
  int rc;

  if (take_turn(part, err) < 0)
    return -1;
  rc = dg_native_part_commit(part->native, row, err);
  stored = rc == 0;
  if (stored)
    rc = store(part, row, err);
  end_turn(part);
  /* Aborted meanwhile: an abort does not reach a part that arrives after it. */
  if (stored && rc < 0 && err->code == DG_E_NO_SUCH_UPLOAD) {
    struct dg_error unused;

    (void)dg_native_drop(part->engine, part->call, part->upload, &unused);
  }
  return rc;
}

static void fill_result(const struct dg_part *row, struct dg_part_result *result)
{
  char hex[33];

  memset(result, 0, sizeof *result);
  dg_hex_encode(row->md5, sizeof row->md5, hex);
  (void)g_snprintf(result->etag, sizeof result->etag, "\"%s\"", hex);
  if (row->checksum_len) {
    dg_base64_encode(row->checksum, row->checksum_len, result->checksum_base64);
    result->checksum_kind = row->checksum_kind;
  }
  result->size_bytes = row->size_bytes;
  result->last_modified_s = row->modified_s;
}

int dg_part_commit(struct dg_part_put *part, const struct dg_put_expect *expect,
                   struct dg_part_result *ret_result, struct dg_error *err)
{
  struct dg_digests digests;
  struct dg_part row;
  int rc = -1;

  if (part->size_hint != DG_TO_END && part->size_bytes != part->size_hint) {
    (void)dg_fail(err, DG_E_INCOMPLETE_BODY, "the part is shorter than announced");
    goto out;
  }
  dg_hashes_finish(part->hashes, &digests);
  if (dg_digests_check(&digests, expect, err) < 0)
    goto out;
  row = (struct dg_part){.part_no = part->part_no,
                         .checksum_kind = digests.checksum_kind,
                         .checksum_len = digests.checksum_len,
                         .crc32c = part->crc32c,
                         .size_bytes = part->size_bytes,
                         .modified_s = dg_time_now_s()};
  memcpy(row.md5, digests.md5, sizeof row.md5);
  memcpy(row.checksum, digests.checksum, sizeof row.checksum);
  rc = part->native ? store_native(part, &row, err) : store(part, &row, err);
  if (rc == 0)
    fill_result(&row, ret_result);
out:
  part_free(part);
  return rc;
}

void dg_part_abort(struct dg_part_put *part)
{
  if (part)
    part_free(part);
}

/* ---- Reading a part ---------------------------------------------------------------------- */

struct draining {
  dg_sink_fn sink;
  void *receiver;
  uint32_t crc32c;
};

static int drain_piece(void *receiver, const void *data, size_t len, struct dg_error *err)
{
  struct draining *draining = receiver;

  draining->crc32c = dg_crc32c(draining->crc32c, data, len);
  return draining->sink(draining->receiver, data, len, err);
}

int dg_part_drain(struct dg_engine *engine, const struct dg_call *call,
                  const struct dg_upload *upload, const struct dg_part *part, dg_sink_fn sink,
                  void *receiver, struct dg_error *err)
{
  g_autofree char *path = dg_upload_part_path(upload, part->part_no);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct draining draining = {sink, receiver, 0};
  struct dg_reader *reader;
  int rc;

  if (fd < 0)
    return dg_fail(err, dg_errno_code(errno), "open '%s': %s", path, g_strerror(errno));
  (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  reader = dg_file_reader_new(fd, 0, part->size_bytes);
  rc = dg_reader_drain(reader, call, drain_piece, &draining, err);
  dg_reader_close(reader);
  if (rc == 0 && draining.crc32c != part->crc32c) {
    rc = dg_fail(err, DG_E_CORRUPT, "part %u of upload %s was damaged at rest", part->part_no,
                 upload->id);
    dg_engine_report_corrupt(engine, dg_slice_str(upload->bucket), dg_slice_str(upload->key),
                             "part", err);
  }
  return rc;
}

/* ---- ListParts -------------------------------------------------------------------------- */

struct part_walk {
  uint32_t after, max_rows;
  GArray *rows; /* struct dg_part */
};

static gboolean collect(gpointer number, gpointer value, gpointer receiver)
{
  struct part_walk *walk = receiver;

  if (GPOINTER_TO_UINT(number) <= walk->after)
    return FALSE;
  g_array_append_vals(walk->rows, value, 1);
  return walk->rows->len > walk->max_rows;
}

int dg_engine_part_list(struct dg_engine *engine, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice key, struct dg_slice upload_id,
                        uint32_t after_part_no, uint32_t max_rows,
                        int (*row)(void *receiver, const struct dg_part_row *row), void *receiver,
                        bool *ret_truncated, struct dg_error *err)
{
  struct part_walk walk = {.after = after_part_no, .max_rows = max_rows};
  struct dg_upload *upload;
  int rc;

  (void)call;
  if (dg_upload_find(engine->uploads, bucket, key, upload_id, &upload, err) < 0)
    return -1;
  walk.rows = g_array_new(FALSE, FALSE, sizeof(struct dg_part));
  g_mutex_lock(&upload->mutex);
  rc = upload->state == DG_UPLOAD_OPEN || upload->state == DG_UPLOAD_COMPLETING
         ? dg_upload_load_parts_locked(upload, err)
         : dg_fail(err, DG_E_NO_SUCH_UPLOAD, "the upload is over");
  if (rc == 0) {
    g_tree_foreach(upload->parts, collect, &walk);
    dg_upload_touch_locked(upload);
  }
  g_mutex_unlock(&upload->mutex);
  if (rc == 0) {
    *ret_truncated = max_rows > 0 && walk.rows->len > max_rows;
    for (guint i = 0; i < MIN(walk.rows->len, max_rows); i++) {
      const struct dg_part *part = &g_array_index(walk.rows, struct dg_part, i);
      struct dg_part_result result;

      fill_result(part, &result);
      if (row(receiver, &(struct dg_part_row){part->part_no, &result}) != 0) {
        *ret_truncated = true;
        break;
      }
    }
  }
  g_array_unref(walk.rows);
  dg_upload_unref(upload);
  return rc;
}
