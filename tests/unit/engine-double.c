/* SPDX-License-Identifier: Apache-2.0 */
/* An engine on the doubles, and short forms of its calls. */
#include "config.h"

#include "engine-double.h"

#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/slice.h"
#include "core/observe/metrics.h"
#include "core/plug/backend.h"
#include "core/plug/plug.h"
#include "core/plug/stream.h"
#include "engine-double-private.h"

const struct dg_call double_call = {.struct_size = sizeof double_call};
struct double_settings double_settings;
const char *double_limited = "b";
struct dg_backend *(*double_wrap)(struct dg_backend *inner);
const struct dg_plug_services *double_services;

void double_settings_reset(void)
{
  double_settings = (struct double_settings){
    .metadata_cache_bytes = 4 << 20,
    .cache_bytes = 64 << 20,
    .max_object_size = UINT64_C(1) << 40,
    .max_delta_object_size = UINT64_C(1) << 40,
    .mpu_delta_max_bytes = UINT64_C(1) << 40,
    .max_delta_ratio = 0.75,
    .max_uploads = 100,
    .idle_ttl_s = 3600,
  };
}

/* ---- A snapshot without the configuration's parser ------------------------------ */

struct dg_snapshot *dg_snapshot_ref(struct dg_snapshot *snapshot)
{
  g_atomic_int_inc(&snapshot->refs);
  return snapshot;
}

void dg_snapshot_unref(struct dg_snapshot *snapshot)
{
  if (!g_atomic_int_dec_and_test(&snapshot->refs))
    return;
  if (snapshot->buckets)
    g_hash_table_unref(snapshot->buckets);
  g_free(snapshot->cache_dir);
  g_free(snapshot->spool_dir);
  g_free(snapshot->state_dir);
  g_free(snapshot);
}

const struct dg_bucket_config *dg_snapshot_bucket(const struct dg_snapshot *snapshot,
                                                  struct dg_slice bucket)
{
  g_autofree char *name = dg_slice_dup(bucket);
  const struct dg_bucket_config *own =
    snapshot->buckets ? g_hash_table_lookup(snapshot->buckets, name) : NULL;

  return own ? own : &snapshot->bucket_defaults;
}

static void limit_bucket(struct dg_snapshot *snapshot)
{
  struct dg_bucket_config *bucket = g_memdup2(&snapshot->bucket_defaults, sizeof *bucket);

  bucket->name = (char *)(uintptr_t)double_limited;
  bucket->alias = (char *)(uintptr_t)double_settings.alias;
  if (double_settings.quota_bytes)
    bucket->quota_bytes = double_settings.quota_bytes;
  if (double_settings.quota_objects)
    bucket->quota_objects = double_settings.quota_objects;
  snapshot->buckets = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
  g_hash_table_insert(snapshot->buckets, bucket->name, bucket);
}

struct dg_snapshot *double_snapshot_new(const char *dir)
{
  static char *suffixes[] = {(char *)(uintptr_t) ".zip", (char *)(uintptr_t) ".tar", NULL};
  struct dg_snapshot *snapshot = g_new0(struct dg_snapshot, 1);

  snapshot->refs = 1;
  snapshot->cache_dir = g_build_filename(dir, "cache", NULL);
  snapshot->spool_dir = g_build_filename(dir, "spool", NULL);
  snapshot->state_dir = g_build_filename(dir, "state", NULL);
  snapshot->default_backend = (char *)(uintptr_t) "default";
  snapshot->codec_concurrency = 2;
  snapshot->instances = double_settings.instances;
  snapshot->lease_ttl_s = double_settings.lease_ttl_s;
  snapshot->lease_wait_s = double_settings.lease_wait_s;
  snapshot->max_object_size = double_settings.max_object_size;
  snapshot->max_delta_object_size = double_settings.max_delta_object_size;
  snapshot->mpu_delta_max_bytes = double_settings.mpu_delta_max_bytes;
  snapshot->metadata_cache_bytes = double_settings.metadata_cache_bytes;
  snapshot->cache_bytes = double_settings.cache_bytes;
  snapshot->max_multipart_uploads = double_settings.max_uploads;
  snapshot->max_total_multipart_bytes = double_settings.max_part_bytes;
  snapshot->multipart_idle_ttl_s = double_settings.idle_ttl_s;
  snapshot->bucket_defaults = (struct dg_bucket_config){
    .compression = true,
    .max_delta_ratio = double_settings.max_delta_ratio,
    .delta_suffixes = suffixes,
    .delta_sniffing = double_settings.delta_sniffing,
    .verify_passthrough_reads = double_settings.verify_passthrough_reads,
    .quota_bytes = DG_QUOTA_NONE,
    .quota_objects = DG_QUOTA_NONE,
  };
  snapshot->usage_cache_ttl_s = double_settings.usage_cache_ttl_s;
  if (double_settings.quota_bytes || double_settings.quota_objects)
    limit_bucket(snapshot);
  return snapshot;
}

/* ---- Plugins ------------------------------------------------------------------------ */

static struct double_store *next_store;

static int backend_create(const struct dg_host *host, const struct dg_config *config,
                          void **ret_self, struct dg_error *err)
{
  (void)host;
  (void)config;
  (void)err;
  *ret_self = next_store;
  return 0;
}

static void backend_destroy(void *self)
{
  (void)self;
}

static struct dg_module *backend_module(struct double_store *store)
{
  static struct dg_backend_ops ops = {
    .struct_size = sizeof ops,
    .create = backend_create,
    .destroy = backend_destroy,
    .bucket_create = double_backend_bucket_create,
    .bucket_delete = double_backend_bucket_delete,
    .bucket_head = double_backend_bucket_head,
    .bucket_list = double_backend_bucket_list,
    .head = double_backend_head,
    .get = double_backend_get,
    .put = double_backend_put,
    .remove = double_backend_remove,
    .list = double_backend_list,
    .set_meta = double_backend_set_meta,
    .validate = double_backend_validate,
    .probe = double_backend_probe,
    .copy = double_backend_copy,
    .upload_begin = double_backend_upload_begin,
    .upload_part = double_backend_upload_part,
    .upload_complete = double_backend_upload_complete,
    .upload_abort = double_backend_upload_abort,
    .share = double_backend_share,
    .lease_take = double_backend_lease_take,
    .lease_renew = double_backend_lease_renew,
    .lease_give = double_backend_lease_give,
    .lease_list = double_backend_lease_list,
    .note_put = double_backend_note_put,
    .note_get = double_backend_note_get,
    .note_remove = double_backend_note_remove,
    .locate_part = double_backend_locate_part,
  };
  static const struct dg_plugin plugin = {
    .struct_size = sizeof plugin,
    .abi_major = DG_ABI_MAJOR,
    .abi_minor = DG_ABI_MINOR,
    .kind = DG_KIND_BACKEND,
    .threads = DG_THREADS_PARALLEL,
    .name = "backend-double",
    .version = "1",
    .summary = "objects in memory",
    .ops = &ops,
  };
  struct dg_module *module;
  struct dg_error err;

  ops.caps = double_store_caps(store);
  ck_assert_msg(dg_module_new(&plugin, "(double)", &module, &err) == 0, "%s", err.detail);
  return module;
}

static struct dg_module *codec_module(void)
{
  static struct dg_codec_ops ops;
  static const struct dg_plugin plugin = {
    .struct_size = sizeof plugin,
    .abi_major = DG_ABI_MAJOR,
    .abi_minor = DG_ABI_MINOR,
    .kind = DG_KIND_CODEC,
    .threads = DG_THREADS_PARALLEL,
    .name = "codec-double",
    .version = "1",
    .summary = "window by window",
    .ops = &ops,
  };
  struct dg_module *module;
  struct dg_error err;

  ops = double_codec_ops;
  if (double_codec.serial)
    ops.caps &= ~DG_CAP_PARALLEL_WINDOWS;
  ck_assert_msg(dg_module_new(&plugin, "(double)", &module, &err) == 0, "%s", err.detail);
  return module;
}

void double_engine_open(struct double_engine *engine, struct double_store *store, const char *dir)
{
  struct dg_named_backend backend = {.name = "default"};
  struct dg_health_params health = {.list_timeout_ms = 60000};
  struct dg_named_codec codec = {.name = "codec-double"};
  struct dg_engine_params params = {
    .backends = &backend, .backend_count = 1, .codecs = &codec, .codec_count = 1};
  struct dg_error err = {0};

  memset(engine, 0, sizeof *engine);
  engine->owns_dir = dir == NULL;
  engine->dir = dir ? g_strdup(dir) : g_dir_make_tmp("engine-test-XXXXXX", NULL);
  engine->snapshot = double_snapshot_new(engine->dir);
  engine->backend_module = backend_module(store);
  engine->codec_module = codec_module();
  engine->metrics = dg_metrics_new();
  next_store = store;
  ck_assert_msg(dg_backend_new(engine->backend_module, "default", NULL, double_services,
                               &engine->backend, &err) == 0,
                "%s", err.detail);
  if (double_settings.instances > 1)
    ck_assert_int_eq(dg_backend_share(engine->backend, &double_call, &err), 0);
  if (double_wrap)
    engine->backend = double_wrap(engine->plain = engine->backend);
  ck_assert_msg(dg_codec_new(engine->codec_module, "codec-double", NULL, NULL, &engine->codec,
                             &err) == 0,
                "%s", err.detail);
  backend.backend = engine->backend;
  health.backend = engine->backend;
  backend.health = engine->health = dg_health_new(&health);
  codec.codec = engine->codec;
  params.snapshot = engine->snapshot;
  params.metrics = engine->metrics;
  ck_assert_msg(dg_engine_new(&params, &engine->engine, &err) == 0, "%s", err.detail);
}

static void remove_tree(const char *path)
{
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *child = g_build_filename(path, name, NULL);

    remove_tree(child);
  }
  (void)g_remove(path);
}

void double_engine_close(struct double_engine *engine)
{
  dg_engine_free(engine->engine);
  dg_health_free(engine->health);
  dg_backend_free(engine->backend);
  dg_backend_free(engine->plain);
  dg_codec_free(engine->codec);
  dg_module_free(engine->backend_module);
  dg_module_free(engine->codec_module);
  dg_metrics_free(engine->metrics);
  dg_snapshot_unref(engine->snapshot);
  if (engine->owns_dir)
    remove_tree(engine->dir);
  g_free(engine->dir);
}

/* ---- Short forms ----------------------------------------------------------------------- */

struct dg_slice double_str(const char *text)
{
  return dg_slice_str(text);
}

GBytes *double_bytes(size_t size, uint32_t seed)
{
  uint8_t *data = g_malloc(size + 1);
  uint64_t state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

  for (size_t i = 0; i < size; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    data[i] = (uint8_t)(state >> 32);
  }
  return g_bytes_new_take(data, size);
}

GBytes *double_edit(GBytes *base, size_t at, size_t len, uint32_t seed)
{
  size_t size = g_bytes_get_size(base);
  uint8_t *data = g_memdup2(g_bytes_get_data(base, NULL), size);

  for (size_t i = at; i < at + len && i < size; i++)
    data[i] = (uint8_t)(data[i] + 1 + seed);
  return g_bytes_new_take(data, size);
}

int double_put_checked(struct double_engine *engine, const char *bucket, const char *key,
                       GBytes *body, dg_write_check_fn check, void *receiver,
                       struct dg_put_result *ret_result, struct dg_error *err)
{
  size_t size = g_bytes_get_size(body);
  const char *data = g_bytes_get_data(body, NULL);
  struct dg_put_request request = {.bucket = dg_slice_str(bucket),
                                   .key = dg_slice_str(key),
                                   .size_bytes = size,
                                   .check = check,
                                   .receiver = receiver};
  struct dg_put_result unused;
  struct dg_put *put;

  if (dg_engine_put_open(engine->engine, &double_call, &request, &put, err) < 0)
    return -1;
  for (size_t at = 0; at < size; at += 5000)
    if (dg_put_write(put, data + at, MIN(5000, size - at), err) < 0) {
      dg_put_abort(put);
      return -1;
    }
  return dg_put_commit(put, NULL, ret_result ? ret_result : &unused, err);
}

int double_put(struct double_engine *engine, const char *bucket, const char *key, GBytes *body,
               struct dg_put_result *ret_result, struct dg_error *err)
{
  return double_put_checked(engine, bucket, key, body, NULL, NULL, ret_result, err);
}

static int choose_range(void *receiver, const struct dg_object_info *info, struct dg_range *range,
                        struct dg_error *err)
{
  const struct dg_range *wanted = receiver;

  if (wanted->length == DG_TO_END)
    return 0;
  if (wanted->offset + wanted->length > info->size_bytes)
    return dg_fail(err, DG_E_INVALID_RANGE, "past the end");
  *range = *wanted;
  return 0;
}

int double_get_range(struct double_engine *engine, const char *bucket, const char *key,
                     struct dg_range range, GBytes **ret_body, struct dg_error *err)
{
  struct dg_get_request request = {.bucket = dg_slice_str(bucket),
                                   .key = dg_slice_str(key),
                                   .resolve = choose_range,
                                   .receiver = &range};
  struct dg_object_info info;
  struct dg_range chosen;
  struct dg_reader *reader;
  char *data;
  size_t len = 0;
  int rc;

  if (dg_engine_get(engine->engine, &double_call, &request, &info, &chosen, &reader, err) < 0)
    return -1;
  data = g_malloc(chosen.length + 1);
  rc = dg_reader_read_full(reader, data, chosen.length + 1, &len, err);
  dg_reader_close(reader);
  dg_object_info_clear(&info);
  if (rc == 0 && len != chosen.length)
    rc = dg_fail(err, DG_E_INTERNAL, "%zu bytes instead of %zu", len, (size_t)chosen.length);
  if (rc == 0)
    *ret_body = g_bytes_new_take(data, len);
  else
    g_free(data);
  return rc;
}

int double_get(struct double_engine *engine, const char *bucket, const char *key, GBytes **ret_body,
               struct dg_error *err)
{
  return double_get_range(engine, bucket, key, (struct dg_range){0, DG_TO_END}, ret_body, err);
}

int double_delete(struct double_engine *engine, const char *bucket, const char *key,
                  struct dg_error *err)
{
  return dg_engine_delete(engine->engine, &double_call, dg_slice_str(bucket), dg_slice_str(key),
                          NULL, NULL, err);
}

/* ---- Uploads ---------------------------------------------------------------------------- */

int double_upload_create(struct double_engine *engine, const char *key, uint32_t kind, bool full,
                         const struct dg_meta *meta, char ret_id[33], struct dg_error *err)
{
  struct dg_put_request request = {.bucket = DG_SLICE("b"),
                                   .key = dg_slice_str(key),
                                   .meta = meta,
                                   .checksum_kind = kind,
                                   .checksum_full_object = full};

  return dg_engine_upload_create(engine->engine, &double_call, &request, ret_id, err);
}

int double_upload_part(struct double_engine *engine, const char *key, const char *id,
                       uint32_t number, GBytes *body, struct dg_part_result *ret_result,
                       struct dg_error *err)
{
  struct dg_part_put *part;

  if (dg_engine_part_open(engine->engine, &double_call, DG_SLICE("b"), dg_slice_str(key),
                          dg_slice_str(id), number, g_bytes_get_size(body), DG_SUM_NONE, &part,
                          err) < 0)
    return -1;
  if (dg_part_write(part, g_bytes_get_data(body, NULL), g_bytes_get_size(body), err) < 0) {
    dg_part_abort(part);
    return -1;
  }
  return dg_part_commit(part, NULL, ret_result, err);
}

int double_upload_complete(struct double_engine *engine, const char *key, const char *id,
                           const struct dg_part_result *parts, uint32_t count,
                           const char *checksum, dg_write_check_fn check,
                           struct dg_put_result *ret_result, struct dg_error *err)
{
  g_autofree struct dg_complete_part *list = g_new0(struct dg_complete_part, count + 1);
  struct dg_complete_request request = {.bucket = DG_SLICE("b"),
                                        .key = dg_slice_str(key),
                                        .upload_id = dg_slice_str(id),
                                        .parts = list,
                                        .part_count = count,
                                        .checksum_base64 = dg_slice_str(checksum),
                                        .check = check};

  for (uint32_t i = 0; i < count; i++)
    list[i] = (struct dg_complete_part){.part_no = i + 1, .etag = dg_slice_str(parts[i].etag)};
  return dg_engine_upload_complete(engine->engine, &double_call, &request, ret_result, err);
}

/* ---- Requests on threads of their own ------------------------------------------------------ */

static gpointer run_caller(gpointer argument)
{
  struct double_caller *caller = argument;

  caller->rc = caller->request(caller);
  g_atomic_int_set(&caller->ended, 1);
  return NULL;
}

void double_caller_start(struct double_caller *caller, int (*request)(struct double_caller *caller),
                         uint64_t limit_ms)
{
  *caller = (struct double_caller){.defers = caller->defers, .request = request};
  caller->call = (struct dg_call){.struct_size = sizeof caller->call,
                                  .deadline_mono_ms = limit_ms ? dg_time_mono_ms() + limit_ms : 1,
                                  .cancelled = &caller->cancelled};
  caller->thread = g_thread_new("caller", run_caller, caller);
}

void double_caller_leave(struct double_caller *caller)
{
  __atomic_store_n(&caller->cancelled, 1, __ATOMIC_RELAXED);
}

void double_caller_join(struct double_caller *caller, int32_t code)
{
  (void)g_thread_join(caller->thread);
  ck_assert_int_eq(caller->rc, code == DG_E_OK ? 0 : -1);
  ck_assert_msg(code == DG_E_OK || caller->err.code == code, "%d %s", caller->err.code,
                caller->err.detail);
}
