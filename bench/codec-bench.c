/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec-bench REFERENCE TARGET [none|djw|lzma [DELTA]]
 *
 * Runs codec-xdelta3 in this process over one pair of versions and prints CPU
 * seconds (user and system, files read and written included) and bytes, as
 * `name value` lines. The index is built once into a cache directory of its
 * own, and the most memory that took (RssAnon + RssShmem, looked at every few
 * milliseconds) is told; the encode that counts opens the reference anew and
 * maps that index.
 * DELTA receives the delta.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugins/codec-xdelta3/codec.h"

#include "common/banned.h"

struct file {
  int fd;
  uint64_t size;
  uint8_t sha256[32];
};

static const char *secondary = "djw";

static void die(const char *what, const char *why)
{
  g_printerr("codec-bench: %s: %s\n", what, why);
  exit(1);
}

static double cpu_seconds(void)
{
  struct rusage usage;

  (void)getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- Memory -------------------------------------------------------------------- */

struct watch {
  pthread_t thread;
  int ended; /* atomic */
  uint64_t most_kib;
};

/* RssAnon and RssShmem of this process. */
static uint64_t memory_kib(void)
{
  char text[4096];
  const char *anonymous, *shared;
  int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

  (void)close(fd);
  if (len < 0)
    die("/proc/self/status", g_strerror(errno));
  text[len] = '\0';
  anonymous = strstr(text, "RssAnon:");
  shared = strstr(text, "RssShmem:");
  if (!anonymous || !shared)
    die("/proc/self/status", "no RssAnon");
  return g_ascii_strtoull(anonymous + strlen("RssAnon:"), NULL, 10) +
         g_ascii_strtoull(shared + strlen("RssShmem:"), NULL, 10);
}

static void *watch_memory(void *argument)
{
  struct watch *watch = argument;

  while (!__atomic_load_n(&watch->ended, __ATOMIC_RELAXED)) {
    watch->most_kib = MAX(watch->most_kib, memory_kib());
    g_usleep(3000);
  }
  return NULL;
}

static void watch_start(struct watch *watch)
{
  *watch = (struct watch){.most_kib = memory_kib()};
  if (pthread_create(&watch->thread, NULL, watch_memory, watch) != 0)
    die("thread", "cannot be started");
}

/* Returns how many KiB above `before` there were at most. */
static uint64_t watch_end(struct watch *watch, uint64_t before_kib)
{
  __atomic_store_n(&watch->ended, 1, __ATOMIC_RELAXED);
  (void)pthread_join(watch->thread, NULL);
  return watch->most_kib - MIN(before_kib, watch->most_kib);
}

/* ---- Files --------------------------------------------------------------------- */

static void read_all(int fd, void *buffer, size_t len, uint64_t offset)
{
  uint8_t *at = buffer;

  while (len > 0) {
    ssize_t done = pread(fd, at, len, (off_t)offset);

    if (done <= 0)
      die("read", done < 0 ? g_strerror(errno) : "file too short");
    at += done;
    offset += (uint64_t)done;
    len -= (size_t)done;
  }
}

static void write_all(int fd, const void *buffer, size_t len, uint64_t offset)
{
  const uint8_t *at = buffer;

  while (len > 0) {
    ssize_t done = pwrite(fd, at, len, (off_t)offset);

    if (done <= 0)
      die("write", g_strerror(errno));
    at += done;
    offset += (uint64_t)done;
    len -= (size_t)done;
  }
}

static struct file file_open(const char *path)
{
  struct file file = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
  g_autoptr(GChecksum) sha256 = g_checksum_new(G_CHECKSUM_SHA256);
  g_autofree uint8_t *buffer = g_malloc(1 << 20);
  gsize digest_len = sizeof file.sha256;
  struct stat st;

  if (file.fd < 0 || fstat(file.fd, &st) < 0)
    die(path, g_strerror(errno));
  file.size = (uint64_t)st.st_size;
  for (uint64_t at = 0; at < file.size; at += 1 << 20) {
    size_t part = (size_t)MIN(file.size - at, 1 << 20);

    read_all(file.fd, buffer, part, at);
    g_checksum_update(sha256, buffer, (gssize)part);
  }
  g_checksum_get_digest(sha256, file.sha256, &digest_len);
  return file;
}

/* ---- The codec, configured from its own option table ------------------------- */

static const char *get_text(const struct dg_config *config, const char *name)
{
  (void)config;
  return strcmp(name, "secondary") == 0 ? secondary : NULL;
}

static int64_t get_int(const struct dg_config *config, const char *name)
{
  (void)config;
  return strcmp(name, "window") == 0 ? 1 << 20 : strcmp(name, "lzma_preset") == 0 ? 2 : INT64_MAX;
}

static void *codec_new(void)
{
  static const struct dg_config config = {
      .struct_size = sizeof config, .get_text = get_text, .get_int = get_int};
  struct dg_error err = {0};
  void *codec = NULL;

  if (codec_ops.create(NULL, &config, &codec, &err) < 0)
    die("create", err.detail);
  return codec;
}

static struct dg_codec_ref *ref_open(void *codec, const struct file *reference, uint32_t flags,
                                     const char *cache_dir)
{
  struct dg_codec_ref_params params = {.struct_size = sizeof params,
                                       .flags = flags,
                                       .fd = reference->fd,
                                       .size_bytes = reference->size,
                                       .cache_dir = cache_dir};
  struct dg_codec_ref *ref = NULL;
  struct dg_error err = {0};

  memcpy(params.sha256, reference->sha256, sizeof params.sha256);
  if (codec_ops.ref_open(codec, NULL, &params, &ref, &err) < 0)
    die("reference", err.detail);
  return ref;
}

/* Writes the windows to fd, then the header. Returns the size of the delta; a
 * second file would join them, as the server does while it stores. */
static uint64_t encode(void *codec, const struct dg_codec_ref *ref, const struct file *target,
                       int fd, uint64_t *ret_header_size)
{
  struct dg_encode_params params = {.struct_size = sizeof params, .target_size = target->size};
  struct dg_encode_summary summary = {.struct_size = sizeof summary};
  struct dg_encoder *encoder = NULL;
  struct dg_error err = {0};
  uint64_t window, number = 0, at = 0, out = 0;
  g_autofree uint8_t *buffer = NULL;
  const void *data;
  size_t len;

  if (codec_ops.encode_open(codec, NULL, ref, &params, &encoder, &err) < 0)
    die("encode", err.detail);
  window = codec_ops.encode_window_size(encoder);
  buffer = g_malloc(window);
  do {
    size_t part = (size_t)MIN(window, target->size - at);

    read_all(target->fd, buffer, part, at);
    if (codec_ops.encode_window(encoder, number, buffer, part, &data, &len, &err) < 0)
      die("encode", err.detail);
    write_all(fd, data, len, out);
    codec_ops.encode_release(encoder, number++);
    out += len;
    at += part;
  } while (at < target->size);
  if (codec_ops.encode_finish(encoder, target->sha256, &summary, &data, &err) < 0)
    die("encode", err.detail);
  write_all(fd, data, summary.header_size, out);
  *ret_header_size = summary.header_size;
  codec_ops.encode_close(encoder);
  return out + summary.header_size;
}

/* ---- Decoding ------------------------------------------------------------------ */

struct delta {
  int fd;
  uint64_t header_size, size;
};

/* The header was written last but stands first. */
static int delta_read_at(void *self, uint64_t offset, void *buffer, size_t len,
                         struct dg_error *err)
{
  const struct delta *delta = self;
  uint64_t windows_size = delta->size - delta->header_size;
  uint8_t *at = buffer;

  (void)err;
  if (offset < delta->header_size) {
    size_t part = (size_t)MIN(len, delta->header_size - offset);

    read_all(delta->fd, at, part, windows_size + offset);
    at += part;
    len -= part;
    offset += part;
  }
  read_all(delta->fd, at, len, offset - delta->header_size);
  return 0;
}

static void decode(void *codec, const struct dg_codec_ref *ref, const struct file *target,
                   struct delta *delta)
{
  struct dg_source source = {.struct_size = sizeof source,
                             .self = delta,
                             .size_bytes = delta->size,
                             .read_at = delta_read_at};
  struct dg_decode_params params = {
      .struct_size = sizeof params, .delta = &source, .target_size = target->size};
  struct dg_decode_info info = {.struct_size = sizeof info};
  struct dg_range all = {0, target->size};
  struct dg_decoder *decoder = NULL;
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};
  g_autoptr(GChecksum) sha256 = g_checksum_new(G_CHECKSUM_SHA256);
  g_autofree uint8_t *buffer = g_malloc(1 << 18);
  g_autofree uint8_t *header = g_malloc(delta->header_size);
  gsize digest_len = sizeof params.header_sha256;
  uint64_t total = 0;
  size_t len;

  memcpy(params.target_sha256, target->sha256, sizeof params.target_sha256);
  (void)delta_read_at(delta, 0, header, delta->header_size, &err);
  g_checksum_update(sha256, header, (gssize)delta->header_size);
  g_checksum_get_digest(sha256, params.header_sha256, &digest_len);
  if (codec_ops.decode_open(codec, NULL, ref, &params, &info, &decoder, &err) < 0 ||
      codec_ops.decode_range(decoder, all, &reader, &err) < 0)
    die("decode", err.detail);
  do {
    if (reader->ops->read(reader, buffer, 1 << 18, &len, &err) < 0)
      die("decode", err.detail);
    total += len;
  } while (len > 0);
  if (total != target->size)
    die("decode", "the target came back short");
  reader->ops->close(reader);
  codec_ops.decode_close(decoder);
}

static void keep_delta(struct delta *delta, const char *path)
{
  g_autofree uint8_t *bytes = g_malloc(delta->size);
  struct dg_error err = {0};
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  if (fd < 0)
    die(path, g_strerror(errno));
  (void)delta_read_at(delta, 0, bytes, delta->size, &err);
  write_all(fd, bytes, delta->size, 0);
  (void)close(fd);
}

int main(int argc, char **argv)
{
  g_autofree char *directory = NULL;
  g_autofree char *delta_path = NULL;
  struct file reference, target;
  struct dg_codec_ref *ref;
  struct delta delta;
  struct watch watch;
  uint64_t before_kib;
  gint64 start_us;
  double start;
  double best = 0;
  GDir *dir;
  const char *name;
  void *codec;

  if (argc < 3 || argc > 5) {
    g_printerr("usage: codec-bench REFERENCE TARGET [none|djw|lzma [DELTA]]\n");
    return 2;
  }
  if (argc > 3)
    secondary = argv[3];
  reference = file_open(argv[1]);
  target = file_open(argv[2]);
  directory = g_dir_make_tmp("codec-bench-XXXXXX", NULL);
  if (!directory)
    die("temporary directory", g_strerror(errno));
  delta_path = g_build_filename(directory, "delta", NULL);
  delta.fd = open(delta_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (delta.fd < 0)
    die(delta_path, g_strerror(errno));
  codec = codec_new();

  before_kib = memory_kib();
  watch_start(&watch);
  start = cpu_seconds();
  start_us = g_get_monotonic_time();
  ref = ref_open(codec, &reference, 0, directory);
  g_print("index_build_cpu %.4f\n", cpu_seconds() - start);
  g_print("index_build_wall %.4f\n", (double)(g_get_monotonic_time() - start_us) / 1e6);
  g_print("index_build_memory_kib %" G_GUINT64_FORMAT "\n", watch_end(&watch, before_kib));
  g_print("index_bytes %zu\n", ref->table_size);
  codec_ops.ref_close(ref);

  start = cpu_seconds();
  ref = ref_open(codec, &reference, 0, directory);
  g_print("index_map_cpu %.4f\n", cpu_seconds() - start);

  for (int round = 0; round < 3; round++) {
    double spent;

    start = cpu_seconds();
    delta.size = encode(codec, ref, &target, delta.fd, &delta.header_size);
    spent = cpu_seconds() - start;
    if (round == 0)
      g_print("encode_first_cpu %.4f\n", spent);
    best = round == 0 || spent < best ? spent : best;
  }
  g_print("encode_cpu %.4f\n", best);
  g_print("bytes %" G_GUINT64_FORMAT "\n", delta.size);
  g_print("target_bytes %" G_GUINT64_FORMAT "\n", target.size);
  if (codec_ops.decode_open) {
    start = cpu_seconds();
    decode(codec, ref, &target, &delta);
    g_print("decode_cpu %.4f\n", cpu_seconds() - start);
  }
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  if (argc > 4)
    keep_delta(&delta, argv[4]);
  (void)close(delta.fd);

  dir = g_dir_open(directory, 0, NULL);
  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(directory, name, NULL);

    (void)g_unlink(path);
  }
  if (dir)
    g_dir_close(dir);
  (void)g_rmdir(directory);
  return 0;
}
