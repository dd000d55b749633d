/* SPDX-License-Identifier: Apache-2.0 */
/* The engine on backend-fs and codec-xdelta3, without HTTP: what a put or a get
 * costs below the front.
 *
 *   engine-bench DIR put FILE COUNT          PUT under a name that is stored as it is
 *   engine-bench DIR hopeless REF FILE COUNT the same bytes as a version of REF
 *   engine-bench DIR version REF FILE COUNT  PUT of a version, reference warm
 *   engine-bench DIR get REF FILE COUNT      GET of that version
 *   engine-bench DIR range REF FILE COUNT    1 MiB from its middle
 *   engine-bench DIR small SIZE COUNT        GET of a small object, nothing cached
 *
 * Prints `wall_s cpu_s bytes stored` for all repetitions together. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/engine/engine.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"
#include "core/plug/stream.h"
#include "plugins/backend-fs/plugin.h"
#include "plugins/codec-xdelta3/codec.h"

#define PIECE (256u * 1024u)

static const struct dg_call no_call = {.struct_size = sizeof no_call};
static struct dg_engine *engine;
static struct dg_error err;

struct dg_snapshot *dg_snapshot_ref(struct dg_snapshot *snapshot)
{
  g_atomic_int_inc(&snapshot->refs);
  return snapshot;
}

void dg_snapshot_unref(struct dg_snapshot *snapshot)
{
  (void)g_atomic_int_dec_and_test(&snapshot->refs);
}

const struct dg_bucket_config *dg_snapshot_bucket(const struct dg_snapshot *snapshot,
                                                  struct dg_slice bucket)
{
  (void)bucket;
  return &snapshot->bucket_defaults;
}

static void must(int rc)
{
  if (rc == 0)
    return;
  (void)fprintf(stderr, "engine-bench: error %d: %s\n", err.code, err.detail);
  exit(1);
}

static double cpu_now(void)
{
  struct rusage usage;

  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static double wall_now(void)
{
  return (double)g_get_monotonic_time() / 1e6;
}

static void open_engine(const char *dir, uint64_t metadata_cache_bytes)
{
  static const struct dg_plugin codec_plugin = {
    .struct_size = sizeof codec_plugin,
    .abi_major = DG_ABI_MAJOR,
    .abi_minor = DG_ABI_MINOR,
    .kind = DG_KIND_CODEC,
    .threads = DG_THREADS_PARALLEL,
    .name = "codec-xdelta3",
    .version = PACKAGE_VERSION,
    .summary = "linked in",
    .options = codec_options,
    .ops = &codec_ops,
  };
  static char *suffixes[] = {(char *)(uintptr_t) ".tar", NULL};
  static struct dg_snapshot snapshot = {.refs = 1};
  static struct dg_named_backend backend = {.name = "default"};
  static struct dg_named_codec codec = {.name = "codec-xdelta3"};
  struct dg_engine_params params = {.snapshot = &snapshot,
                                    .backends = &backend,
                                    .backend_count = 1,
                                    .codecs = &codec,
                                    .codec_count = 1};
  g_autofree char *data = g_build_filename(dir, "data", NULL);
  struct dg_plug_services services = {.cache_dir = g_build_filename(dir, "cache", NULL)};
  struct dg_module *module;

  (void)g_mkdir_with_parents(data, 0700);
  snapshot.cache_dir = g_build_filename(dir, "cache", NULL);
  snapshot.spool_dir = g_build_filename(dir, "spool", NULL);
  snapshot.state_dir = g_build_filename(dir, "state", NULL);
  snapshot.codec_concurrency = 16;
  snapshot.max_object_size = snapshot.max_delta_object_size = UINT64_C(1) << 42;
  snapshot.metadata_cache_bytes = metadata_cache_bytes;
  snapshot.cache_bytes = 400 << 20;
  snapshot.bucket_defaults = (struct dg_bucket_config){
    .compression = true, .max_delta_ratio = 0.75, .delta_suffixes = suffixes};
  must(dg_module_new(&dg_fs_plugin, "(linked in)", &module, &err));
  must(dg_backend_new(module, "default",
                      dg_config_of(dg_fs_plugin.options, "default", "path", data, NULL), &services,
                      &backend.backend, &err));
  must(dg_module_new(&codec_plugin, "(linked in)", &module, &err));
  must(dg_codec_new(module, "codec-xdelta3", dg_config_of(codec_options, "codec-xdelta3", NULL),
                    &services, &codec.codec, &err));
  must(dg_engine_new(&params, &engine, &err));
  if (dg_engine_bucket_create(engine, &no_call, DG_SLICE("bench"), &err) < 0 &&
      err.code != DG_E_BUCKET_EXISTS)
    must(-1);
}

static GMappedFile *open_file(const char *path)
{
  GMappedFile *file = g_mapped_file_new(path, FALSE, NULL);
  volatile char sum = 0;

  if (!file) {
    perror(path);
    exit(1);
  }
  for (size_t i = 0; i < g_mapped_file_get_length(file); i += 4096)
    sum = (char)(sum + g_mapped_file_get_contents(file)[i]);
  return file;
}

static uint64_t put(const char *key, GMappedFile *file)
{
  size_t size = g_mapped_file_get_length(file);
  struct dg_put_request request = {.bucket = DG_SLICE("bench"),
                                   .key = {key, strlen(key)},
                                   .size_bytes = size};
  struct dg_put_result result;
  struct dg_put *one;

  must(dg_engine_put_open(engine, &no_call, &request, &one, &err));
  for (size_t at = 0; at < size; at += PIECE)
    must(dg_put_write(one, g_mapped_file_get_contents(file) + at, MIN(PIECE, size - at), &err));
  must(dg_put_commit(one, NULL, &result, &err));
  return result.stored_bytes;
}

static int choose(void *receiver, const struct dg_object_info *info, struct dg_range *range,
                  struct dg_error *error)
{
  const struct dg_range *wanted = receiver;

  (void)info;
  (void)error;
  if (wanted->length != DG_TO_END)
    *range = *wanted;
  return 0;
}

static uint64_t get(const char *key, struct dg_range wanted)
{
  static char buffer[PIECE];
  struct dg_get_request request = {.bucket = DG_SLICE("bench"),
                                   .key = {key, strlen(key)},
                                   .resolve = choose,
                                   .receiver = &wanted};
  struct dg_object_info info;
  struct dg_range range;
  struct dg_reader *reader;
  uint64_t total = 0;

  must(dg_engine_get(engine, &no_call, &request, &info, &range, &reader, &err));
  for (;;) {
    size_t len = 0;

    must(dg_reader_read(reader, buffer, sizeof buffer, &len, &err));
    if (len == 0)
      break;
    total += len;
  }
  dg_reader_close(reader);
  dg_object_info_clear(&info);
  return total;
}

int main(int argc, char **argv)
{
  const char *mode = argc > 2 ? argv[2] : "";
  bool pair = !strcmp(mode, "hopeless") || !strcmp(mode, "version") || !strcmp(mode, "get") ||
              !strcmp(mode, "range");
  GMappedFile *file = NULL;
  uint64_t bytes = 0, stored = 0;
  double wall, cpu;
  long count;

  if (argc != (pair ? 6 : 5)) {
    (void)fprintf(stderr, "usage: see the head of bench/engine-bench.c\n");
    return 2;
  }
  count = strtol(argv[argc - 1], NULL, 10);
  open_engine(argv[1], !strcmp(mode, "small") ? 0 : 16 << 20);
  if (!strcmp(mode, "small")) {
    g_autofree char *path = g_build_filename(argv[1], "small.bin", NULL);
    size_t size = (size_t)strtoul(argv[3], NULL, 10);
    g_autofree char *data = g_malloc0(size + 1);

    if (!g_file_set_contents(path, data, (gssize)size, NULL))
      return 1;
    file = open_file(path);
    stored = put("small.bin", file);
  } else {
    file = open_file(argv[argc - 2]);
    if (pair) {
      (void)put("ref.tar", open_file(argv[3]));
      stored = put("version.tar", file); /* warms the reference */
    }
  }
  wall = wall_now();
  cpu = cpu_now();
  for (long i = 0; i < count; i++) {
    if (!strcmp(mode, "put"))
      stored = put("plain.bin", file);
    else if (!strcmp(mode, "version") || !strcmp(mode, "hopeless"))
      stored = put("version.tar", file);
    else if (!strcmp(mode, "get"))
      bytes += get("version.tar", (struct dg_range){0, DG_TO_END});
    else if (!strcmp(mode, "range"))
      bytes += get("version.tar",
                   (struct dg_range){g_mapped_file_get_length(file) / 2, 1 << 20});
    else
      bytes += get("small.bin", (struct dg_range){0, DG_TO_END});
  }
  wall = wall_now() - wall;
  cpu = cpu_now() - cpu;
  if (!bytes)
    bytes = g_mapped_file_get_length(file) * (uint64_t)count;
  (void)printf("%.4f %.4f %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "  %.0f MB/s, %.0f MB per CPU s\n",
               wall, cpu, bytes, stored, (double)bytes / wall / 1e6, (double)bytes / cpu / 1e6);
  return 0;
}
