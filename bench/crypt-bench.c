/* SPDX-License-Identifier: Apache-2.0 */
/* crypt-bench FOLDER MIB: one whole PUT and one whole GET through crypt-aesgcm and
 * backend-fs, as the server makes them (256 KiB a step), and the CPU seconds that
 * passed inside the crypt plugin alone: what the backend takes is taken off.
 * Prints `put SECONDS` and `get SECONDS`. */
#include "config.h"

#include <glib.h>
#include <stdio.h>
#include <time.h>

#include "common/meta.h"
#include "common/slice.h"
#include "core/plug/backend.h"
#include "core/plug/crypt.h"
#include "core/plug/options.h"
#include "plugins/backend-fs/plugin.h"
#include "plugins/crypt-aesgcm/aesgcm.h"

#define STEP (256u * 1024u)
#define SOURCE_BYTES (64u << 20) /* larger than any cache */

static const struct dg_call call = {.struct_size = sizeof call};
static const struct dg_item item = {.bucket = {"bench", 5}, .key = {"k", 1},
                                    .variant = DG_VARIANT_PASSTHROUGH};
static double below; /* CPU seconds below the plugin */

static double cpu_now(void)
{
  struct timespec now;

  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void must(int rc, const struct dg_error *err)
{
  if (rc == 0)
    return;
  (void)fprintf(stderr, "crypt-bench: %s\n", err->detail);
  exit(1);
}

struct timed_writer {
  struct dg_writer writer;
  struct dg_writer *inner;
};

static int timed_write(struct dg_writer *writer, const void *data, size_t len,
                       struct dg_error *err)
{
  double start = cpu_now();
  int rc = dg_writer_write(((struct timed_writer *)writer)->inner, data, len, err);

  below += cpu_now() - start;
  return rc;
}

static int timed_commit(struct dg_writer *writer, const struct dg_item *named,
                        const struct dg_meta *meta, struct dg_commit_result *ret_result,
                        struct dg_error *err)
{
  double start = cpu_now();
  int rc = dg_writer_commit(((struct timed_writer *)writer)->inner, named, meta, ret_result, err);

  below += cpu_now() - start;
  return rc;
}

static void timed_abort(struct dg_writer *writer)
{
  dg_writer_abort(((struct timed_writer *)writer)->inner);
}

static const struct dg_writer_ops timed_writer_ops = {
  .struct_size = sizeof timed_writer_ops,
  .write = timed_write,
  .commit = timed_commit,
  .abort = timed_abort,
};

struct timed_reader {
  struct dg_reader reader;
  struct dg_reader *inner;
};

static int timed_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                      struct dg_error *err)
{
  double start = cpu_now();
  int rc = dg_reader_read(((struct timed_reader *)reader)->inner, buffer, capacity, ret_len, err);

  below += cpu_now() - start;
  return rc;
}

static void timed_close(struct dg_reader *reader)
{
  dg_reader_close(((struct timed_reader *)reader)->inner);
}

static const struct dg_reader_ops timed_reader_ops = {
  .struct_size = sizeof timed_reader_ops, .read = timed_read, .close = timed_close};

struct object {
  struct dg_backend *backend;
  struct dg_crypt *crypt;
  struct dg_meta *meta;
  struct timed_reader reader;
};

static int fetch(void *receiver, struct dg_range stored, struct dg_reader **ret_reader,
                 struct dg_error *err)
{
  struct object *object = receiver;
  struct dg_meta *meta = dg_meta_new();
  double start = cpu_now();
  int rc = dg_backend_get(object->backend, &call, &item, stored, meta, &object->reader.inner, err);

  below += cpu_now() - start;
  dg_meta_unref(meta);
  object->reader.reader.ops = &timed_reader_ops;
  *ret_reader = &object->reader.reader;
  return rc;
}

static double put(struct object *object, const uint8_t *source, uint64_t size)
{
  struct dg_seal_params params = {.struct_size = sizeof params,
                                  .variant = DG_VARIANT_PASSTHROUGH,
                                  .plain_size = size};
  struct timed_writer timed = {{&timed_writer_ops}, NULL};
  struct dg_writer *writer = NULL;
  struct dg_error err = {0};
  double start;

  must(dg_backend_put(object->backend, &call, &item, DG_TO_END, &timed.inner, &err), &err);
  object->meta->file_size = size;
  object->meta->variant = DG_VARIANT_PASSTHROUGH;
  below = 0;
  start = cpu_now();
  must(dg_crypt_seal(object->crypt, &call, &params, &timed.writer, object->meta, &writer, &err),
       &err);
  for (uint64_t at = 0; at < size; at += STEP)
    must(dg_writer_write(writer, source + at % SOURCE_BYTES, STEP, &err), &err);
  must(dg_writer_commit(writer, &item, object->meta, NULL, &err), &err);
  return cpu_now() - start - below;
}

static double get(struct object *object, uint64_t size)
{
  struct dg_unseal_params params = {.struct_size = sizeof params,
                                    .meta = object->meta,
                                    .plain = {0, size},
                                    .receiver = object,
                                    .fetch = fetch};
  g_autofree uint8_t *buffer = g_malloc(STEP);
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};
  uint64_t total = 0;
  double start;
  size_t len;

  object->meta->stored_size =
    dg_crypt_sealed_size(object->crypt, DG_VARIANT_PASSTHROUGH, size);
  if (!dg_crypt_sealed(object->crypt, object->meta, &params.plain_size))
    must(dg_fail(&err, DG_E_INTERNAL, "not sealed"), &err);
  below = 0;
  start = cpu_now();
  must(dg_crypt_unseal(object->crypt, &call, &params, &reader, &err), &err);
  do {
    must(dg_reader_read(reader, buffer, STEP, &len, &err), &err);
    total += len;
  } while (len);
  dg_reader_close(reader);
  start = cpu_now() - start - below;
  if (total != size)
    must(dg_fail(&err, DG_E_INTERNAL, "only %llu bytes came", (unsigned long long)total), &err);
  return start;
}

int main(int argc, char **argv)
{
  uint64_t size = argc == 3 ? g_ascii_strtoull(argv[2], NULL, 10) << 20 : 0;
  struct object object = {.meta = dg_meta_new()};
  struct dg_module *backend_module, *crypt_module;
  struct dg_config *backend_config, *crypt_config;
  g_autofree uint8_t *source = g_malloc(SOURCE_BYTES);
  struct dg_error err = {0};

  if (!size) {
    (void)fprintf(stderr, "Usage: crypt-bench FOLDER MIB\n");
    return 2;
  }
  for (size_t i = 0; i < SOURCE_BYTES; i++)
    source[i] = (uint8_t)(i * 2654435761u >> 13);
  backend_config = dg_config_of(dg_fs_plugin.options, "default", "path", argv[1], NULL);
  crypt_config = dg_config_of(
    dg_aes_plugin.options, "default", "key",
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", NULL);
  must(dg_module_new(&dg_fs_plugin, "(linked)", &backend_module, &err), &err);
  must(dg_module_new(&dg_aes_plugin, "(linked)", &crypt_module, &err), &err);
  must(dg_backend_new(backend_module, "default", backend_config, NULL, &object.backend, &err),
       &err);
  must(dg_crypt_new(crypt_module, "default", crypt_config, NULL, &object.crypt, &err), &err);
  if (dg_backend_bucket_create(object.backend, &call, item.bucket, &err) < 0 &&
      err.code != DG_E_BUCKET_EXISTS)
    must(-1, &err);
  (void)printf("put %.6f\n", put(&object, source, size));
  (void)printf("get %.6f\n", get(&object, size));
  (void)dg_backend_remove(object.backend, &call, &item, &err);
  dg_crypt_free(object.crypt);
  dg_backend_free(object.backend);
  dg_module_free(crypt_module);
  dg_module_free(backend_module);
  dg_config_free(crypt_config);
  dg_config_free(backend_config);
  dg_meta_unref(object.meta);
  return 0;
}
