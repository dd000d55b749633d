/* SPDX-License-Identifier: Apache-2.0 */
/* The table of multipart uploads: create, find, abort, list, expire. */
#include "config.h"

#include "core/engine/upload.h"

#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/hex.h"
#include "core/engine/partnotes.h"
#include "core/engine/uploadnative.h"

#include "common/banned.h"

#define SWEEP_ABORT_MS 3000u
#define SWEEP_FAILURES_MAX 1u

struct dg_upload_table {
  struct dg_engine *engine;
  GMutex mutex; /* guards uploads */
  GHashTable *uploads; /* id -> struct dg_upload * */
  GMutex count_mutex; /* guards what follows, and that the metrics say the same */
  uint64_t open_count; /* uploads OPEN, COMPLETING or ABORTING, and those being created */
  uint64_t part_bytes; /* of parts that are files, and of those being sent */
};

static struct dg_upload *upload_ref(struct dg_upload *upload)
{
  g_atomic_int_inc(&upload->refs);
  return upload;
}

static gboolean free_part(gpointer number, gpointer part, gpointer unused)
{
  (void)number;
  (void)unused;
  g_free(part);
  return FALSE;
}

void dg_upload_unref(struct dg_upload *upload)
{
  if (!upload || !g_atomic_int_dec_and_test(&upload->refs))
    return;
  g_tree_foreach(upload->parts, free_part, NULL);
  g_tree_unref(upload->parts);
  g_mutex_clear(&upload->mutex);
  g_cond_clear(&upload->changed);
  dg_meta_unref(upload->meta);
  g_free(upload->dir);
  g_free(upload->bucket);
  g_free(upload->key);
  g_free(upload->native.backend);
  g_free(upload->native.bucket);
  g_free(upload->native.token);
  g_free(upload->native.part_sizes);
  g_hash_table_unref(upload->native.busy);
  g_free(upload);
}

void dg_upload_touch_locked(struct dg_upload *upload)
{
  upload->touched_mono_ms = dg_time_mono_ms();
}

/* ---- How many are open ---------------------------------------------------------------- */

static void set_count_locked(struct dg_upload_table *table, uint64_t count)
{
  table->open_count = count;
  dg_metrics_set(table->engine->metrics, DG_METRIC_MULTIPART_UPLOADS_INFLIGHT, NULL, NULL,
                 (double)count);
}

/* A place for one more, which the caller gives back or fills with an upload. */
static int take_place(struct dg_upload_table *table, uint64_t open_max, struct dg_error *err)
{
  int rc = 0;

  g_mutex_lock(&table->count_mutex);
  if (open_max && table->open_count >= open_max)
    rc = dg_fail(err, DG_E_SLOW_DOWN,
                 "%" G_GUINT64_FORMAT " multipart uploads are open (max_multipart_uploads)",
                 table->open_count);
  else
    set_count_locked(table, table->open_count + 1);
  g_mutex_unlock(&table->count_mutex);
  return rc;
}

static void give_place_back(struct dg_upload_table *table)
{
  g_mutex_lock(&table->count_mutex);
  set_count_locked(table, table->open_count - 1);
  g_mutex_unlock(&table->count_mutex);
}

void dg_upload_end_locked(struct dg_upload_table *table, struct dg_upload *upload,
                          enum dg_upload_state state)
{
  if (upload->state == DG_UPLOAD_OPEN || upload->state == DG_UPLOAD_COMPLETING ||
      upload->state == DG_UPLOAD_ABORTING)
    give_place_back(table);
  upload->state = state;
}

uint64_t dg_upload_table_open_count(struct dg_upload_table *table)
{
  uint64_t count;

  g_mutex_lock(&table->count_mutex);
  count = table->open_count;
  g_mutex_unlock(&table->count_mutex);
  return count;
}

/* ---- How much waits on disk -------------------------------------------------------------- */

static void set_bytes_locked(struct dg_upload_table *table, uint64_t bytes)
{
  table->part_bytes = bytes;
  dg_metrics_set(table->engine->metrics, DG_METRIC_MULTIPART_PART_BYTES, NULL, NULL,
                 (double)bytes);
}

int dg_upload_room_take(struct dg_upload_table *table, uint64_t bytes, uint64_t bytes_max,
                        struct dg_error *err)
{
  int rc = 0;

  g_mutex_lock(&table->count_mutex);
  if (bytes_max && (table->part_bytes > bytes_max || bytes > bytes_max - table->part_bytes))
    rc = dg_fail(err, DG_E_SLOW_DOWN,
                 "%" G_GUINT64_FORMAT " bytes of parts wait on disk, and %" G_GUINT64_FORMAT
                 " more are too many (max_total_multipart_bytes)",
                 table->part_bytes, bytes);
  else
    set_bytes_locked(table, table->part_bytes + bytes);
  g_mutex_unlock(&table->count_mutex);
  return rc;
}

void dg_upload_room_give(struct dg_upload_table *table, uint64_t bytes)
{
  if (bytes == 0)
    return;
  g_mutex_lock(&table->count_mutex);
  set_bytes_locked(table, table->part_bytes - bytes);
  g_mutex_unlock(&table->count_mutex);
}

void dg_upload_room_leave(struct dg_upload_table *table, struct dg_upload *upload)
{
  uint64_t bytes;

  g_mutex_lock(&upload->mutex);
  bytes = upload->file_bytes;
  upload->file_bytes = 0;
  g_mutex_unlock(&upload->mutex);
  dg_upload_room_give(table, bytes);
}

uint64_t dg_upload_table_part_bytes(struct dg_upload_table *table)
{
  uint64_t bytes;

  g_mutex_lock(&table->count_mutex);
  bytes = table->part_bytes;
  g_mutex_unlock(&table->count_mutex);
  return bytes;
}

/* The room of an upload that was loaded: each file has a trailer besides the bytes. */
static void take_room_again(struct dg_upload_table *table, struct dg_upload *upload)
{
  g_autoptr(GDir) files = g_dir_open(upload->dir, 0, NULL);
  const char *name;

  while (files && (name = g_dir_read_name(files))) {
    g_autofree char *path = g_build_filename(upload->dir, name, NULL);
    struct stat facts;

    if (g_str_has_prefix(name, "part-") && lstat(path, &facts) == 0 &&
        facts.st_size > (off_t)DG_PART_TRAILER)
      upload->file_bytes += (uint64_t)facts.st_size - DG_PART_TRAILER;
  }
  (void)dg_upload_room_take(table, upload->file_bytes, /* bytes_max= */ 0, NULL);
}

/* What a crash left half done goes; what was acknowledged is loaded. */
static void load_all(struct dg_upload_table *table)
{
  const char *root = table->engine->state_dir;
  g_autoptr(GDir) dir = g_dir_open(root, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    struct dg_upload *upload;

    if (!dg_hex_is(dg_slice_str(name), DG_UPLOAD_ID_LEN, /* lower_only= */ true))
      continue;
    upload = dg_upload_new(root, name);
    if (dg_upload_load(upload)) {
      g_autoptr(GDir) files = g_dir_open(upload->dir, 0, NULL);
      const char *file;

      while (files && (file = g_dir_read_name(files)))
        if (g_str_has_prefix(file, "tmp-") ||
            (upload->state == DG_UPLOAD_DONE && g_str_has_prefix(file, "part-"))) {
          g_autofree char *path = g_build_filename(upload->dir, file, NULL);

          if (unlink(path) == 0)
            dg_metrics_add(table->engine->metrics,
                           DG_METRIC_MULTIPART_SWEEP_ORPHAN_RELAY_FILES_TOTAL, NULL, NULL, NULL,
                           1);
        }
      if (upload->state == DG_UPLOAD_OPEN)
        (void)take_place(table, /* open_max= */ 0, NULL);
      take_room_again(table, upload);
      g_hash_table_insert(table->uploads, upload->id, upload);
    } else {
      (void)dg_upload_remove_dir(upload->dir);
      dg_metrics_add(table->engine->metrics, DG_METRIC_MULTIPART_SWEEP_ORPHAN_RELAY_DIRS_TOTAL,
                     NULL, NULL, NULL, 1);
      dg_upload_unref(upload);
    }
  }
}

GPtrArray *dg_upload_table_all(struct dg_upload_table *table)
{
  GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)dg_upload_unref);
  GHashTableIter iter;
  gpointer value;

  g_mutex_lock(&table->mutex);
  g_hash_table_iter_init(&iter, table->uploads);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    g_ptr_array_add(all, upload_ref(value));
  g_mutex_unlock(&table->mutex);
  return all;
}

static void sweep(struct dg_upload_table *table, bool is_start);

int dg_upload_table_new(struct dg_engine *engine, struct dg_upload_table **ret_table,
                        struct dg_error *err)
{
  struct dg_upload_table *table = g_new0(struct dg_upload_table, 1);

  (void)err;
  table->engine = engine;
  g_mutex_init(&table->mutex);
  g_mutex_init(&table->count_mutex);
  table->uploads =
    g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)dg_upload_unref);
  load_all(table);
  dg_upload_drop_recover(table, engine, /* is_start= */ true);
  sweep(table, /* is_start= */ true);
  *ret_table = table;
  return 0;
}

void dg_upload_table_free(struct dg_upload_table *table)
{
  if (!table)
    return;
  g_hash_table_unref(table->uploads);
  g_mutex_clear(&table->mutex);
  g_mutex_clear(&table->count_mutex);
  g_free(table);
}

/* ---- Create, find, abort ------------------------------------------------------------------ */

static int check_checksum_type(const struct dg_put_request *request, bool *ret_full,
                               struct dg_error *err)
{
  bool sha = request->checksum_kind == DG_SUM_SHA1 || request->checksum_kind == DG_SUM_SHA256;

  if (request->checksum_full_object && sha)
    return dg_fail(err, DG_E_INVALID_REQUEST,
                   "the FULL_OBJECT checksum type cannot be used with %s",
                   dg_checksum_name(request->checksum_kind));
  *ret_full = request->checksum_kind == DG_SUM_CRC64NVME || request->checksum_full_object;
  return 0;
}

/* On disk and in the table, from a place already taken. */
static int add_upload(struct dg_engine *engine, const struct dg_put_request *request, bool full,
                      char ret_id[33], struct dg_error *err)
{
  struct dg_upload_table *table = engine->uploads;
  struct dg_upload *upload;
  uint8_t random[DG_UPLOAD_ID_LEN / 2];
  char id[DG_UPLOAD_ID_LEN + 1];

  if (RAND_bytes(random, sizeof random) != 1)
    return dg_fail(err, DG_E_INTERNAL, "no random bytes for an upload id");
  dg_hex_encode(random, sizeof random, id);
  upload = dg_upload_new(engine->state_dir, id);
  upload->bucket = dg_slice_dup(request->bucket);
  upload->key = dg_slice_dup(request->key);
  if (request->meta) {
    dg_meta_unref(upload->meta);
    upload->meta = dg_meta_copy(request->meta);
  }
  upload->checksum_kind = request->checksum_kind;
  upload->checksum_full_object = full;
  upload->initiated_s = dg_time_now_s();
  upload->parts_loaded = true;
  if (dg_upload_save(upload, err) < 0) {
    dg_upload_unref(upload);
    return -1;
  }
  g_mutex_lock(&table->mutex);
  g_hash_table_insert(table->uploads, upload->id, upload);
  g_mutex_unlock(&table->mutex);
  memcpy(ret_id, id, sizeof id);
  return 0;
}

/* Under the bucket's lock, so that it is not deleted between the look at it and
 * the upload. */
static int create_locked(struct dg_engine *engine, const struct dg_call *call,
                         const struct dg_route *route, const struct dg_put_request *request,
                         bool full, char ret_id[33], struct dg_error *err)
{
  int rc;

  if (dg_backend_bucket_head(route->backend, call, dg_slice_str(route->bucket), err) < 0 ||
      take_place(engine->uploads, route->snapshot->max_multipart_uploads, err) < 0)
    return -1;
  rc = add_upload(engine, request, full, ret_id, err);
  if (rc < 0)
    give_place_back(engine->uploads);
  return rc;
}

int dg_engine_upload_create(struct dg_engine *engine, const struct dg_call *call,
                            const struct dg_put_request *request, char ret_id[33],
                            struct dg_error *err)
{
  struct dg_bucket_lock *lock = NULL;
  struct dg_route route;
  bool full = false;
  int rc;

  if (check_checksum_type(request, &full, err) < 0 ||
      dg_route_open(engine, call, request->bucket, &route, err) < 0)
    return -1;
  rc = dg_bucket_lock_take(engine->locks, call, dg_slice_str(route.bucket), DG_LOCK_SHARED, &lock,
                           err);
  if (rc == 0)
    rc = create_locked(engine, call, &route, request, full, ret_id, err);
  dg_bucket_lock_release(lock);
  dg_route_clear(&route);
  return rc;
}

int dg_upload_find(struct dg_upload_table *table, struct dg_slice bucket, struct dg_slice key,
                   struct dg_slice id, struct dg_upload **ret_upload, struct dg_error *err)
{
  struct dg_upload *upload = NULL;
  char text[DG_UPLOAD_ID_LEN + 1] = "";

  if (dg_hex_is(id, DG_UPLOAD_ID_LEN, /* lower_only= */ true)) {
    memcpy(text, id.data, DG_UPLOAD_ID_LEN);
    g_mutex_lock(&table->mutex);
    upload = g_hash_table_lookup(table->uploads, text);
    if (upload && dg_slice_equal_str(bucket, upload->bucket) &&
        dg_slice_equal_str(key, upload->key))
      upload_ref(upload);
    else
      upload = NULL;
    g_mutex_unlock(&table->mutex);
  }
  if (!upload)
    return dg_fail(err, DG_E_NO_SUCH_UPLOAD, "no multipart upload '%.*s'", DG_SLICE_ARG(id));
  *ret_upload = upload;
  return 0;
}

uint64_t dg_upload_remove(struct dg_upload_table *table, struct dg_upload *upload)
{
  uint64_t freed = dg_upload_remove_dir(upload->dir);

  dg_upload_room_leave(table, upload);
  g_mutex_lock(&table->mutex);
  if (g_hash_table_lookup(table->uploads, upload->id) == upload)
    (void)g_hash_table_remove(table->uploads, upload->id);
  g_mutex_unlock(&table->mutex);
  return freed;
}

/* An upload that was turned ABORTING: out of the storage, then out of the table. *ret_freed:
 * bytes of files. */
static int abort_begun(struct dg_upload_table *table, const struct dg_call *call,
                       struct dg_upload *upload, uint64_t *ret_freed, struct dg_error *err)
{
  int rc = dg_native_drop(table->engine, call, upload, err);

  g_mutex_lock(&upload->mutex);
  if (upload->state == DG_UPLOAD_ABORTING && rc < 0) {
    upload->state = DG_UPLOAD_OPEN;
  } else if (upload->state != DG_UPLOAD_GONE) {
    dg_upload_end_locked(table, upload, DG_UPLOAD_GONE);
  } else {
    rc = 0; /* its bucket was deleted meanwhile */
  }
  g_cond_broadcast(&upload->changed);
  g_mutex_unlock(&upload->mutex);
  if (rc == 0)
    *ret_freed = dg_upload_remove(table, upload);
  return rc;
}

int dg_engine_upload_abort(struct dg_engine *engine, const struct dg_call *call,
                           struct dg_slice bucket, struct dg_slice key, struct dg_slice upload_id,
                           struct dg_error *err)
{
  struct dg_upload *upload;
  uint64_t freed;
  int rc = 0;

  if (dg_upload_find(engine->uploads, bucket, key, upload_id, &upload, err) < 0)
    return -1;
  g_mutex_lock(&upload->mutex);
  if (upload->state == DG_UPLOAD_COMPLETING)
    rc = dg_fail(err, DG_E_INVALID_REQUEST, "the upload is being completed");
  else if (upload->state != DG_UPLOAD_OPEN)
    rc = dg_fail(err, DG_E_NO_SUCH_UPLOAD, "the upload is over");
  else
    upload->state = DG_UPLOAD_ABORTING;
  g_mutex_unlock(&upload->mutex);
  if (rc == 0)
    rc = abort_begun(engine->uploads, call, upload, &freed, err);
  dg_upload_unref(upload);
  return rc;
}

/* ---- Expiry --------------------------------------------------------------------------------- */

/* Uploads at a storage that does not answer wait for the next sweep, and so does the
 * start for all of them. */
static bool may_abort(const struct dg_upload *upload, bool is_start, uint32_t failures)
{
  return upload->native.state == DG_NATIVE_UNDECIDED || upload->native.state == DG_NATIVE_NEVER ||
         (!is_start && failures < SWEEP_FAILURES_MAX);
}

/* True once it is gone. */
static bool expire(struct dg_upload_table *table, struct dg_upload *upload, uint64_t *freed,
                   uint32_t *failures)
{
  struct dg_call call = {.struct_size = sizeof call,
                         .deadline_mono_ms = dg_time_mono_ms() + SWEEP_ABORT_MS};
  uint64_t bytes = 0;
  struct dg_error err;

  if (abort_begun(table, &call, upload, &bytes, &err) < 0) {
    ++*failures;
    dg_log_warn(table->engine->log, "engine.upload_kept", "upload=%s cause=%s", upload->id,
                DG_LOG_QUOTED(dg_slice_str(err.detail)));
    return false;
  }
  *freed += bytes;
  dg_metrics_add(table->engine->metrics, DG_METRIC_MULTIPART_SWEPT_UPLOADS_TOTAL, "open", NULL,
                 NULL, 1);
  dg_log_info(table->engine->log, "engine.upload_expired", "upload=%s bucket=%s key=%s",
              upload->id, DG_LOG_QUOTED(dg_slice_str(upload->bucket)),
              DG_LOG_QUOTED(dg_slice_str(upload->key)));
  return true;
}

/* Of an upload that is DONE: what the storage was sent and did not join. */
static void drop_left(struct dg_upload_table *table, struct dg_upload *upload, uint32_t *failures)
{
  struct dg_call call = {.struct_size = sizeof call,
                         .deadline_mono_ms = dg_time_mono_ms() + SWEEP_ABORT_MS};
  struct dg_error err;

  if (dg_native_end(table->engine, &call, upload, /* joined= */ false, &err) == 0)
    return;
  ++*failures;
  dg_log_warn(table->engine->log, "engine.upload_left", "upload=%s cause=%s", upload->id,
              DG_LOG_QUOTED(dg_slice_str(err.detail)));
}

static void sweep(struct dg_upload_table *table, bool is_start)
{
  const char *phase = is_start ? "startup" : "periodic";
  struct dg_metrics *metrics = table->engine->metrics;
  struct dg_view *view = dg_engine_view(table->engine);
  uint64_t idle_max_ms = (uint64_t)view->snapshot->multipart_idle_ttl_s * 1000;
  g_autoptr(GPtrArray) all = dg_upload_table_all(table);
  gint64 start_us = g_get_monotonic_time();
  uint64_t removed = 0, freed = 0, now_ms = dg_time_mono_ms();
  uint32_t failures = 0;

  dg_view_unref(view);
  for (guint i = 0; i < all->len; i++) {
    struct dg_upload *upload = all->pdata[i];
    bool idle, left, old;

    g_mutex_lock(&upload->mutex);
    left = upload->state == DG_UPLOAD_DONE && upload->native.state == DG_NATIVE_BEGUN &&
           may_abort(upload, is_start, failures);
    g_mutex_unlock(&upload->mutex);
    if (left)
      drop_left(table, upload, &failures);
    g_mutex_lock(&upload->mutex);
    idle = idle_max_ms && upload->state == DG_UPLOAD_OPEN && upload->sender_count == 0 &&
           now_ms - upload->touched_mono_ms >= idle_max_ms &&
           may_abort(upload, is_start, failures);
    old = upload->state == DG_UPLOAD_DONE && upload->native.state != DG_NATIVE_BEGUN &&
          dg_time_now_s() - upload->done_s >= DG_REPLAY_S;
    if (old)
      dg_upload_end_locked(table, upload, DG_UPLOAD_GONE);
    else if (idle)
      upload->state = DG_UPLOAD_ABORTING;
    g_mutex_unlock(&upload->mutex);
    if (old)
      freed += dg_upload_remove(table, upload);
    else if (idle)
      removed += expire(table, upload, &freed, &failures);
  }
  dg_metrics_add(metrics, DG_METRIC_MULTIPART_SWEEP_RUNS_TOTAL, phase, NULL, NULL, 1);
  dg_metrics_add(metrics, DG_METRIC_MULTIPART_SWEEP_RECLAIMED_BYTES_TOTAL, NULL, NULL, NULL,
                 (double)freed);
  dg_metrics_set(metrics, DG_METRIC_MULTIPART_SWEEP_LAST_UPLOADS_RECLAIMED, NULL, NULL,
                 (double)removed);
  dg_metrics_set(metrics, DG_METRIC_MULTIPART_SWEEP_LAST_RECLAIMED_BYTES, NULL, NULL,
                 (double)freed);
  dg_metrics_observe(metrics, DG_METRIC_MULTIPART_SWEEP_DURATION_SECONDS, phase, NULL,
                     (double)(g_get_monotonic_time() - start_us) / 1e6);
}

void dg_engine_sweep(struct dg_engine *engine)
{
  dg_upload_drop_recover(engine->uploads, engine, /* is_start= */ false);
  sweep(engine->uploads, /* is_start= */ false);
  dg_part_notes_sweep(engine);
}

/* ---- Listing ---------------------------------------------------------------------------------- */

static gint compare_uploads(gconstpointer a, gconstpointer b)
{
  const struct dg_upload *x = *(struct dg_upload *const *)a, *y = *(struct dg_upload *const *)b;
  int order = strcmp(x->key, y->key);

  return order ? order : strcmp(x->id, y->id);
}

/* The common prefix a key folds into, or an empty slice. */
static struct dg_slice fold(struct dg_slice key, struct dg_slice prefix, struct dg_slice delimiter)
{
  for (size_t at = prefix.len; delimiter.len && at + delimiter.len <= key.len; at++)
    if (memcmp(key.data + at, delimiter.data, delimiter.len) == 0)
      return dg_slice_of(key.data, at + delimiter.len);
  return DG_SLICE("");
}

static bool is_after(const struct dg_upload *upload, struct dg_slice folded,
                     struct dg_slice key_marker, struct dg_slice id_marker)
{
  int order;

  if (!key_marker.len)
    return true;
  if (folded.len && dg_slice_equal(folded, key_marker))
    return false;
  order = dg_slice_compare(dg_slice_str(upload->key), key_marker);
  if (order == 0)
    return id_marker.len && dg_slice_compare(dg_slice_str(upload->id), id_marker) > 0;
  return order > 0;
}

int dg_engine_upload_list(struct dg_engine *engine, const struct dg_call *call,
                          struct dg_slice bucket, struct dg_slice prefix,
                          struct dg_slice delimiter, struct dg_slice key_marker,
                          struct dg_slice upload_id_marker, uint32_t max_rows,
                          int (*row)(void *receiver, const struct dg_upload_row *row),
                          void *receiver, bool *ret_truncated, struct dg_error *err)
{
  g_autoptr(GPtrArray) all = NULL;
  struct dg_slice last_folded = DG_SLICE("");
  uint32_t count = 0;

  if (dg_engine_bucket_head(engine, call, bucket, err) < 0)
    return -1;
  all = dg_upload_table_all(engine->uploads);
  g_ptr_array_sort(all, compare_uploads);
  *ret_truncated = false;
  for (guint i = 0; i < all->len; i++) {
    struct dg_upload *upload = all->pdata[i];
    struct dg_slice key = dg_slice_str(upload->key), folded;
    struct dg_upload_row out = {.key = key,
                                .upload_id = dg_slice_str(upload->id),
                                .initiated_s = upload->initiated_s,
                                .checksum_kind = upload->checksum_kind,
                                .checksum_full_object = upload->checksum_full_object};
    bool open;

    g_mutex_lock(&upload->mutex);
    open = upload->state == DG_UPLOAD_OPEN || upload->state == DG_UPLOAD_COMPLETING;
    g_mutex_unlock(&upload->mutex);
    if (!open || !dg_slice_equal_str(bucket, upload->bucket) || !dg_slice_starts_with(key, prefix))
      continue;
    folded = fold(key, prefix, delimiter);
    if (!is_after(upload, folded, key_marker, upload_id_marker) ||
        (folded.len && dg_slice_equal(folded, last_folded)))
      continue;
    if (count == max_rows) {
      *ret_truncated = max_rows > 0;
      break;
    }
    if (folded.len) {
      last_folded = folded;
      out = (struct dg_upload_row){.is_prefix = true, .key = folded};
    }
    count++;
    if (row(receiver, &out) != 0) {
      *ret_truncated = true;
      break;
    }
  }
  return 0;
}
