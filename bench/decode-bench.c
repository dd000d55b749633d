/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode-bench REFERENCE DELTA [ROUNDS]
 *
 * Decodes a delta with codec-xdelta3 in this process and prints `name value`
 * lines: CPU seconds of a whole verified read and of ranges of 1 MiB (opening
 * the delta included), against one SHA-256 over the same bytes. The least of
 * ROUNDS (5). The reference is opened once and stays warm; the target goes
 * through one buffer of 256 KiB, as in a server.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "plugins/codec-xdelta3/codec.h"

#include "common/vcdiff/header.h"
#include "common/vcdiff/window.h"

#include "common/banned.h"

#define CHUNK (256u << 10)
#define RANGE (1u << 20)

static void die(const char *what, const char *why)
{
  g_printerr("decode-bench: %s: %s\n", what, why);
  exit(1);
}

static double cpu_seconds(void)
{
  struct timespec now;

  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- The codec, on its defaults ------------------------------------------------- */

static const char *get_text(const struct dg_config *config, const char *name)
{
  (void)config;
  (void)name;
  return NULL;
}

static int64_t get_int(const struct dg_config *config, const char *name)
{
  (void)config;
  return strcmp(name, "window") == 0 ? 1 << 20 : 0;
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

static struct dg_codec_ref *open_reference(void *codec, const char *path)
{
  struct dg_codec_ref_params params = {.struct_size = sizeof params,
                                       .flags = DG_CODEC_REF_DECODE_ONLY};
  struct dg_codec_ref *ref = NULL;
  struct dg_error err = {0};
  struct stat status;

  params.fd = open(path, O_RDONLY | O_CLOEXEC);
  if (params.fd < 0 || fstat(params.fd, &status) < 0)
    die(path, g_strerror(errno));
  params.size_bytes = (uint64_t)status.st_size;
  if (codec_ops.ref_open(codec, NULL, &params, &ref, &err) < 0)
    die(path, err.detail);
  (void)close(params.fd);
  return ref;
}

/* ---- What is measured ----------------------------------------------------------- */

struct run {
  void *codec;
  const struct dg_codec_ref *ref;
  struct dg_source source;
  struct dg_decode_params params;
};

/* Opens the delta and reads a range. sink may be NULL. */
static double read_range(const struct run *run, struct dg_range range, EVP_MD_CTX *sink)
{
  static uint8_t buffer[CHUNK];
  double start = cpu_seconds();
  struct dg_decode_info info;
  struct dg_decoder *decoder = NULL;
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};
  size_t len = 1;

  if (codec_ops.decode_open(run->codec, NULL, run->ref, &run->params, &info, &decoder, &err) < 0 ||
      codec_ops.decode_range(decoder, range, &reader, &err) < 0)
    die("decode", err.detail);
  while (len > 0) {
    if (reader->ops->read(reader, buffer, sizeof buffer, &len, &err) < 0)
      die("decode", err.detail);
    if (sink != NULL)
      (void)EVP_DigestUpdate(sink, buffer, len);
  }
  reader->ops->close(reader);
  codec_ops.decode_close(decoder);
  return cpu_seconds() - start;
}

/* SHA-256 over as many bytes, from one warm buffer. */
static double sha256_seconds(uint64_t size)
{
  static uint8_t buffer[CHUNK];
  EVP_MD_CTX *sha256 = EVP_MD_CTX_new();
  uint8_t digest[32];
  double start = cpu_seconds();

  (void)EVP_DigestInit_ex(sha256, EVP_sha256(), NULL);
  for (uint64_t done = 0; done < size; done += sizeof buffer)
    (void)EVP_DigestUpdate(sha256, buffer, (size_t)MIN(size - done, sizeof buffer));
  (void)EVP_DigestFinal_ex(sha256, digest, NULL);
  EVP_MD_CTX_free(sha256);
  return cpu_seconds() - start;
}

/* The size that the delta's windows, or its index, add up to. */
static uint64_t target_size(const struct run *run, struct dg_vcd_header *ret_header)
{
  uint8_t bytes[DG_VCD_WINDOW_PROBE];
  struct dg_error err = {0};
  struct dg_vcd_window window;
  uint64_t total = 0;
  size_t len = (size_t)MIN(sizeof bytes, run->source.size_bytes);

  if (file_read_at(run->source.self, 0, bytes, len, &err) < 0 ||
      dg_vcd_header_parse(bytes, len, run->source.size_bytes, ret_header, &err) < 0)
    die("delta", err.detail);
  for (uint64_t at = ret_header->size_bytes; at < run->source.size_bytes; at += window.size_bytes) {
    len = (size_t)MIN(sizeof bytes, run->source.size_bytes - at);
    if (file_read_at(run->source.self, at, bytes, len, &err) < 0 ||
        dg_vcd_window_parse(bytes, len, &window, &err) < 0)
      die("delta", err.detail);
    total += window.target_size;
  }
  return total;
}

int main(int argc, char **argv)
{
  static struct dg_host host = {.struct_size = sizeof host};
  struct dg_config config = {
      .struct_size = sizeof config, .get_text = get_text, .get_int = get_int};
  struct run run = {.params = {.struct_size = sizeof run.params}};
  double whole = 1e9, hash = 1e9, ranges = 1e9;
  struct dg_vcd_header header;
  struct dg_error err = {0};
  g_autofree uint8_t *head = NULL;
  EVP_MD_CTX *sink = EVP_MD_CTX_new();
  uint8_t digest[32];
  struct stat status;
  int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;
  int fd;

  if (argc < 3)
    die("usage", "decode-bench REFERENCE DELTA [ROUNDS]");
  fd = open(argv[2], O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &status) < 0)
    die(argv[2], g_strerror(errno));
  run.source = (struct dg_source){.struct_size = sizeof run.source,
                                  .self = &fd,
                                  .size_bytes = (uint64_t)status.st_size,
                                  .read_at = file_read_at};
  run.params.delta = &run.source;
  run.params.target_size = target_size(&run, &header);
  head = g_malloc(header.size_bytes);
  if (file_read_at(&fd, 0, head, header.size_bytes, &err) < 0)
    die(argv[2], err.detail);
  (void)EVP_Digest(head, header.size_bytes, run.params.header_sha256, NULL, EVP_sha256(), NULL);
  if (codec_ops.create(&host, &config, &run.codec, &err) < 0)
    die("codec", err.detail);
  run.ref = open_reference(run.codec, argv[1]);

  (void)EVP_DigestInit_ex(sink, EVP_sha256(), NULL);
  (void)read_range(&run, (struct dg_range){0, DG_TO_END}, sink);
  (void)EVP_DigestFinal_ex(sink, digest, NULL);
  for (int round = 0; round < rounds; round++) {
    const unsigned count = 64;
    double start, seconds = read_range(&run, (struct dg_range){0, DG_TO_END}, NULL);

    whole = MIN(whole, seconds);
    hash = MIN(hash, sha256_seconds(run.params.target_size));
    start = cpu_seconds();
    for (unsigned i = 0; i < count && run.params.target_size > RANGE; i++)
      (void)read_range(
          &run,
          (struct dg_range){(run.params.target_size - RANGE) / count * i + i * 4099 % 65536,
                            RANGE - 65536},
          NULL);
    ranges = MIN(ranges, (cpu_seconds() - start) / count);
  }
  printf("target_bytes %" G_GUINT64_FORMAT "\ndelta_bytes %" G_GUINT64_FORMAT "\n",
         run.params.target_size, run.source.size_bytes);
  printf("target_sha256 ");
  for (unsigned i = 0; i < sizeof digest; i++)
    printf("%02x", digest[i]);
  printf("\nwhole_cpu %.5f\nwhole_mb_s %.0f\nsha256_mb_s %.0f\nof_sha256_speed %.2f\n", whole,
         (double)run.params.target_size / whole / 1e6, (double)run.params.target_size / hash / 1e6,
         hash / whole);
  printf("range_cpu %.6f\nrange_part_of_whole 1/%.0f\n", ranges, whole / ranges);
  codec_ops.ref_close((struct dg_codec_ref *)(uintptr_t)run.ref);
  codec_ops.destroy(run.codec);
  EVP_MD_CTX_free(sink);
  return 0;
}
