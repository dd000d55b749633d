/* SPDX-License-Identifier: Apache-2.0 */
/* One part of a multipart upload: straight to a file, durable before the
 * answer, replacing an earlier part of that number in one rename. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "core/engine/hashes.h"
#include "core/engine/spool.h"
#include "core/engine/upload.h"

#include "common/banned.h"

struct dg_part_put {
  struct dg_upload *upload;
  uint32_t part_no;
  uint64_t size_hint, size_bytes, size_max;
  uint32_t crc32c;
  struct dg_hashes *hashes;
  char *path; /* of the temporary file */
  int fd;
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
  g_mutex_lock(&part->upload->mutex);
  part->upload->sender_count--;
  dg_upload_touch_locked(part->upload);
  g_mutex_unlock(&part->upload->mutex);
  if (part->fd >= 0)
    (void)close(part->fd);
  if (part->path)
    (void)unlink(part->path);
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

int dg_engine_part_open(struct dg_engine *engine, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice key, struct dg_slice upload_id,
                        uint32_t part_no, uint64_t size_bytes, uint32_t checksum_kind,
                        struct dg_part_put **ret_part, struct dg_error *err)
{
  struct dg_view *view;
  struct dg_part_put *part;
  struct dg_upload *upload;
  int number, rc;

  (void)call;
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
  part->upload = upload;
  part->part_no = part_no;
  part->size_hint = size_bytes;
  part->fd = -1;
  view = dg_engine_view(engine);
  part->size_max = view->snapshot->max_object_size;
  dg_view_unref(view);
  part->hashes = dg_hashes_new(checksum_kind);
  if (size_bytes != DG_TO_END && size_bytes > part->size_max) {
    (void)dg_fail(err, DG_E_ENTITY_TOO_LARGE, "a part above max_object_size");
    goto fail;
  }
  part->path = g_strdup_printf("%s/tmp-XXXXXX", upload->dir);
  number = dg_fault("engine.part.open");
  part->fd = number ? (errno = number, -1) : mkostemp(part->path, O_CLOEXEC);
  if (part->fd < 0) {
    (void)dg_fail(err, errno == ENOENT ? DG_E_NO_SUCH_UPLOAD : dg_errno_code(errno),
                  "make '%s': %s", part->path, g_strerror(errno));
    g_clear_pointer(&part->path, g_free);
    goto fail;
  }
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
  dg_hashes_update(part->hashes, data, len);
  part->crc32c = dg_crc32c(part->crc32c, data, len);
  if (dg_write_all_at(part->fd, data, len, part->size_bytes, err) < 0)
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
  if (dg_write_all_at(part->fd, trailer, sizeof trailer, part->size_bytes, err) < 0)
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

    g_free(g_tree_lookup(upload->parts, key));
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
  rc = store(part, &row, err);
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
