/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec-stream [MIB [DIRECTORY [none|djw|lzma [stock]]]]
 *
 * A delta object of any size through codec-xdelta3 in bounded memory: makes a
 * reference of MIB (24) megabytes in DIRECTORY (/tmp), encodes a target of that
 * size window by window, reads it back whole and by ranges, and compares every
 * byte. Both are generated, so neither is ever held. Anonymous memory must stay
 * below a constant; with 1024 MiB and more, a range of 1 MiB must cost less
 * than a two-hundredth of the whole. `stock` also runs xdelta3 -d on the delta.
 *
 * codec-stream 5120 needs 5 GiB of disk and about a minute and a half.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "plugins/codec-xdelta3/codec.h"

#include "common/banned.h"

#define BLOCK      (1u << 20)
#define MEMORY_MAX (96u << 20) /* beyond what the process held before the codec */

static uint64_t block_count;
static const char *secondary = "djw";

static void die(const char *what, const char *why)
{
  g_printerr("codec-stream: %s: %s\n", what, why);
  exit(1);
}

#define CHECK(condition, what)                                                                     \
  do {                                                                                             \
    if (!(condition))                                                                              \
      die(#condition, (what));                                                                     \
  } while (0)

static double cpu_seconds(void)
{
  struct timespec now;

  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- Content -------------------------------------------------------------------- */

static uint64_t step(uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* Noise with a little structure: some words repeat. */
static void noise_block(uint64_t seed, uint8_t *block)
{
  uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 88172645463325252;
  uint64_t word = 0;

  for (size_t i = 0; i < BLOCK; i += sizeof word) {
    uint64_t next = step(&state);

    if (next & 7)
      word = next;
    memcpy(block + i, &word, sizeof word);
  }
}

/* Block number t of the target: blocks of the reference, neighbours and halves
 * of the file swapped, edited and shifted within; one in sixteen is new. */
static void target_block(uint64_t t, uint8_t *block)
{
  uint64_t state = t + 1;
  uint64_t from = t ^ 1;
  size_t shift;

  if (from >= block_count)
    from = t;
  if (t % 5 == 0 && t + block_count / 2 < block_count)
    from = t + block_count / 2;
  if (t % 16 == 7) {
    noise_block(t + (UINT64_C(1) << 40), block);
    return;
  }
  noise_block(from, block);
  shift = (size_t)(step(&state) % 60);
  memmove(block + shift, block, BLOCK - shift);
  for (size_t at = 0; at < BLOCK; at += (size_t)(step(&state) % 9000) + 1)
    block[at] ^= (uint8_t)(state | 1);
}

/* ---- Memory ---------------------------------------------------------------------- */

static uint64_t anonymous_bytes(void)
{
  g_autofree char *status = NULL;
  const char *line;

  if (!g_file_get_contents("/proc/self/status", &status, NULL, NULL))
    return 0;
  line = strstr(status, "RssAnon:");
  return line != NULL ? g_ascii_strtoull(line + strlen("RssAnon:"), NULL, 10) * 1024 : 0;
}

static uint64_t memory_before, memory_peak;

static void watch_memory(void)
{
  uint64_t now = anonymous_bytes();

  if (now > memory_before && now - memory_before > memory_peak)
    memory_peak = now - memory_before;
}

/* ---- Files ----------------------------------------------------------------------- */

static void write_all(int fd, const void *data, size_t len)
{
  while (len > 0) {
    ssize_t done = write(fd, data, len);

    CHECK(done > 0, g_strerror(errno));
    data = (const uint8_t *)data + done;
    len -= (size_t)done;
  }
}

static int open_new(const char *path)
{
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  CHECK(fd >= 0, g_strerror(errno));
  return fd;
}

static int file_read_at(void *self, uint64_t offset, void *buffer, size_t len, struct dg_error *err)
{
  uint8_t *at = buffer;

  while (len > 0) {
    ssize_t done = pread(*(int *)self, at, len, (off_t)offset);

    if (done <= 0)
      return dg_fail(err, DG_E_IO, "read: %s", done < 0 ? g_strerror(errno) : "file too short");
    at += done;
    offset += (uint64_t)done;
    len -= (size_t)done;
  }
  return 0;
}

/* ---- The codec -------------------------------------------------------------------- */

static const char *get_text(const struct dg_config *config, const char *name)
{
  (void)config;
  return strcmp(name, "secondary") == 0 ? secondary : NULL;
}

static int64_t get_int(const struct dg_config *config, const char *name)
{
  (void)config;
  return strcmp(name, "window") == 0 ? BLOCK : 0;
}

/* The whole delta into a file: the windows first, to a spool, then the header
 * before them. */
static void encode(void *codec, const struct dg_codec_ref *ref, const char *spool_path,
                   int delta_fd, struct dg_decode_params *params)
{
  struct dg_encode_params encode_params = {.struct_size = sizeof encode_params,
                                           .target_size = params->target_size};
  struct dg_encode_summary summary = {.struct_size = sizeof summary};
  EVP_MD_CTX *sha256 = EVP_MD_CTX_new();
  g_autofree uint8_t *window = NULL;
  struct dg_encoder *encoder = NULL;
  struct dg_error err = {0};
  uint64_t window_size, number = 0;
  const void *data;
  size_t len;
  int spool = open_new(spool_path);

  (void)EVP_DigestInit_ex(sha256, EVP_sha256(), NULL);
  CHECK(codec_ops.encode_open(codec, NULL, ref, &encode_params, &encoder, &err) == 0, err.detail);
  window_size = codec_ops.encode_window_size(encoder);
  window = g_malloc(window_size);
  for (uint64_t t = 0; t < block_count; number++) {
    size_t filled = 0;

    for (; filled < window_size && t < block_count; t++, filled += BLOCK)
      target_block(t, window + filled);
    (void)EVP_DigestUpdate(sha256, window, filled);
    CHECK(codec_ops.encode_window(encoder, number, window, filled, &data, &len, &err) == 0,
          err.detail);
    write_all(spool, data, len);
    codec_ops.encode_release(encoder, number);
    watch_memory();
  }
  (void)EVP_DigestFinal_ex(sha256, params->target_sha256, NULL);
  EVP_MD_CTX_free(sha256);
  CHECK(codec_ops.encode_finish(encoder, params->target_sha256, &summary, &data, &err) == 0,
        err.detail);
  write_all(delta_fd, data, (size_t)summary.header_size);
  (void)EVP_Digest(data, (size_t)summary.header_size, params->header_sha256, NULL, EVP_sha256(),
                   NULL);
  for (uint64_t done = 0; done < summary.windows_size; done += len) {
    len = (size_t)MIN(window_size, summary.windows_size - done);
    CHECK(file_read_at(&spool, done, window, len, &err) == 0, err.detail);
    write_all(delta_fd, window, len);
  }
  codec_ops.encode_close(encoder);
  (void)close(spool);
  (void)g_unlink(spool_path);
}

/* Compares a stream with the target from an offset on. */
struct comparison {
  uint64_t position;
  uint64_t have; /* the block in `block`, or UINT64_MAX */
  uint8_t block[BLOCK];
};

static void compare(struct comparison *c, const uint8_t *data, size_t len)
{
  while (len > 0) {
    size_t within = (size_t)(c->position % BLOCK);
    size_t part = MIN(len, BLOCK - within);

    if (c->have != c->position / BLOCK) {
      c->have = c->position / BLOCK;
      target_block(c->have, c->block);
    }
    CHECK(memcmp(data, c->block + within, part) == 0, "other bytes came back");
    c->position += part;
    data += part;
    len -= part;
  }
}

/* Reads a range and compares it. Returns the CPU seconds of the codec alone. */
static double read_range(struct dg_decoder *decoder, struct comparison *c, struct dg_range range)
{
  g_autofree uint8_t *buffer = g_malloc(BLOCK);
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};
  double spent = 0, start = cpu_seconds();
  size_t len = 1;

  CHECK(codec_ops.decode_range(decoder, range, &reader, &err) == 0, err.detail);
  c->position = range.offset;
  while (len > 0) {
    CHECK(reader->ops->read(reader, buffer, BLOCK, &len, &err) == 0, err.detail);
    spent += cpu_seconds() - start;
    compare(c, buffer, len);
    watch_memory();
    start = cpu_seconds();
  }
  reader->ops->close(reader);
  CHECK(c->position == range.offset + range.length, "the range came back short");
  return spent + (cpu_seconds() - start);
}

static void run_stock(const char *reference_path, const char *delta_path, struct comparison *c)
{
  const char *argv[] = {"xdelta3", "-d", "-c", "-s", reference_path, delta_path, NULL};
  g_autofree uint8_t *buffer = g_malloc(BLOCK);
  g_autoptr(GError) error = NULL;
  GPid child = 0;
  ssize_t len;
  int out = -1;

  CHECK(g_spawn_async_with_pipes(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL,
                                 NULL, &child, NULL, &out, NULL, &error),
        error->message);
  c->position = 0;
  while ((len = read(out, buffer, BLOCK)) > 0)
    compare(c, buffer, (size_t)len);
  CHECK(c->position == block_count * BLOCK, "xdelta3 -d stopped early");
  (void)close(out);
}

int main(int argc, char **argv)
{
  static struct dg_host host = {.struct_size = sizeof host};
  const char *parent = argc > 2 ? argv[2] : g_get_tmp_dir();
  g_autofree char *directory = g_build_filename(parent, "codec-stream-XXXXXX", NULL);
  g_autofree char *reference_path = NULL, *delta_path = NULL, *spool_path = NULL;
  g_autofree struct comparison *c = g_new(struct comparison, 1);
  struct dg_config config = {
      .struct_size = sizeof config, .get_text = get_text, .get_int = get_int};
  struct dg_codec_ref_params ref_params = {.struct_size = sizeof ref_params};
  struct dg_decode_params params = {.struct_size = sizeof params};
  struct dg_source source = {.struct_size = sizeof source, .read_at = file_read_at};
  struct dg_decode_info info;
  struct dg_codec_ref *ref = NULL;
  struct dg_decoder *decoder = NULL;
  struct dg_error err = {0};
  void *codec = NULL;
  uint64_t state = 5;
  double start, index_cpu, encode_cpu, whole_cpu, range_cpu = 0;
  const unsigned range_count = 50;
  int delta_fd;

  block_count = argc > 1 ? g_ascii_strtoull(argv[1], NULL, 10) : 24;
  if (argc > 3)
    secondary = argv[3];
  CHECK(block_count > 1, "give the size in MiB");
  CHECK(g_mkdtemp(directory) != NULL, g_strerror(errno));
  reference_path = g_build_filename(directory, "reference", NULL);
  delta_path = g_build_filename(directory, "delta", NULL);
  spool_path = g_build_filename(directory, "spool", NULL);
  c->have = UINT64_MAX;
  ref_params.fd = open_new(reference_path);
  for (uint64_t t = 0; t < block_count; t++) {
    noise_block(t, c->block);
    write_all(ref_params.fd, c->block, BLOCK);
  }
  ref_params.size_bytes = params.target_size = block_count * BLOCK;
  ref_params.cache_dir = directory;

  memory_before = anonymous_bytes();
  CHECK(codec_ops.create(&host, &config, &codec, &err) == 0, err.detail);
  start = cpu_seconds();
  CHECK(codec_ops.ref_open(codec, NULL, &ref_params, &ref, &err) == 0, err.detail);
  /* Opened anew, the index is mapped, not held. */
  codec_ops.ref_close(ref);
  CHECK(codec_ops.ref_open(codec, NULL, &ref_params, &ref, &err) == 0, err.detail);
  index_cpu = cpu_seconds() - start;
  memory_before = anonymous_bytes();
  start = cpu_seconds();
  delta_fd = open_new(delta_path);
  encode(codec, ref, spool_path, delta_fd, &params);
  encode_cpu = cpu_seconds() - start;

  source.self = &delta_fd;
  source.size_bytes = (uint64_t)lseek(delta_fd, 0, SEEK_END);
  params.delta = &source;
  CHECK(codec_ops.decode_open(codec, NULL, ref, &params, &info, &decoder, &err) == 0, err.detail);
  CHECK(info.verified, "the delta is ours and must verify");
  whole_cpu = read_range(decoder, c, (struct dg_range){0, params.target_size});
  for (unsigned i = 0; i < range_count && info.seekable; i++)
    range_cpu += read_range(decoder, c,
                            (struct dg_range){step(&state) % (params.target_size - BLOCK), BLOCK});
  range_cpu /= range_count;
  codec_ops.decode_close(decoder);
  if (argc > 4)
    run_stock(reference_path, delta_path, c);
  codec_ops.ref_close(ref);
  codec_ops.destroy(codec);
  (void)close(ref_params.fd);
  (void)close(delta_fd);

  printf("target_bytes %" G_GUINT64_FORMAT "\ndelta_bytes %" G_GUINT64_FORMAT "\n",
         params.target_size, source.size_bytes);
  printf("index_cpu %.2f\nencode_cpu %.2f (the target's making and hash included)\n", index_cpu,
         encode_cpu);
  printf("whole_cpu %.3f\nrange_cpu %.6f\nrange_part_of_whole 1/%.0f\n", whole_cpu, range_cpu,
         range_cpu > 0 ? whole_cpu / range_cpu : 0.0);
  printf("anonymous_memory_mib %.1f\n", (double)memory_peak / (1 << 20));
  {
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
      g_autofree char *path = g_build_filename(directory, name, NULL);

      (void)g_unlink(path);
    }
  }
  (void)g_rmdir(directory);
#if !defined(DG_SANITIZERS)
  CHECK(memory_peak < MEMORY_MAX, "anonymous memory grew beyond its bound");
  if (block_count >= 1024 && info.seekable)
    CHECK(range_cpu * 200 < whole_cpu, "a range costs too much");
#endif
  return 0;
}
