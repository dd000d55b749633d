/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/unit/codec-fixture.h"

#include <check.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "common/banned.h"

static void take_log(const struct dg_host *host, uint32_t level, const char *event,
                     const char *message)
{
  struct fixture *fixture = host->self;

  g_string_append_printf(fixture->log, "%u %s %s\n", level, event, message);
}

void fixture_open(struct fixture *fixture)
{
  memset(fixture, 0, sizeof *fixture);
  fixture->directory = g_dir_make_tmp("dg-codec-XXXXXX", NULL);
  ck_assert_ptr_nonnull(fixture->directory);
  fixture->cache_directory = fixture_path(fixture, "cache");
  ck_assert_int_eq(g_mkdir(fixture->cache_directory, 0700), 0);
  fixture->log = g_string_new(NULL);
  fixture->host.struct_size = sizeof fixture->host;
  fixture->host.abi_major = DG_ABI_MAJOR;
  fixture->host.abi_minor = DG_ABI_MINOR;
  fixture->host.self = fixture;
  fixture->host.log = take_log;
  fixture->host.cache_dir = fixture->cache_directory;
}

static void remove_all(const char *directory)
{
  GDir *dir = g_dir_open(directory, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(directory, name, NULL);

    if (g_file_test(path, G_FILE_TEST_IS_DIR))
      remove_all(path);
    else
      (void)g_unlink(path);
  }
  if (dir)
    g_dir_close(dir);
  (void)g_rmdir(directory);
}

void fixture_close(struct fixture *fixture)
{
  remove_all(fixture->directory);
  g_free(fixture->directory);
  g_free(fixture->cache_directory);
  g_string_free(fixture->log, TRUE);
}

char *fixture_path(const struct fixture *fixture, const char *name)
{
  return g_build_filename(fixture->directory, name, NULL);
}

void fixture_write(const struct fixture *fixture, const char *name, const void *data, size_t len)
{
  g_autofree char *path = fixture_path(fixture, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  ck_assert_int_ge(fd, 0);
  while (len > 0) {
    ssize_t done = write(fd, data, len);

    ck_assert_int_gt(done, 0);
    data = (const char *)data + done;
    len -= (size_t)done;
  }
  ck_assert_int_eq(close(fd), 0);
}

/* Room for six indexes of 300000 bytes, not for seven. */
#define INDEX_CACHE 800000

/* ---- Configuration ------------------------------------------------------------ */

struct values {
  struct dg_config config;
  const char *secondary;
  int64_t window;
};

static const char *get_text(const struct dg_config *config, const char *name)
{
  const struct values *values = config->self;

  return strcmp(name, "secondary") == 0 ? values->secondary : NULL;
}

static int64_t get_int(const struct dg_config *config, const char *name)
{
  const struct values *values = config->self;

  if (strcmp(name, "window") == 0)
    return values->window;
  return strcmp(name, "lzma_preset") == 0 ? 1 : INDEX_CACHE;
}

void *fixture_codec(struct fixture *fixture, const char *secondary, uint64_t window_size)
{
  struct values values = {.secondary = secondary, .window = (int64_t)window_size};
  struct dg_error err = {0};
  void *codec = NULL;

  values.config.struct_size = sizeof values.config;
  values.config.self = &values;
  values.config.get_text = get_text;
  values.config.get_int = get_int;
  ck_assert_msg(codec_ops.create(&fixture->host, &values.config, &codec, &err) == 0, "%s",
                err.detail);
  return codec;
}

/* ---- The codec ------------------------------------------------------------------ */

struct dg_codec_ref *fixture_ref(struct fixture *fixture, void *codec, const GByteArray *reference,
                                 uint32_t flags)
{
  g_autofree char *path = fixture_path(fixture, "reference");
  g_autoptr(GChecksum) sha256 = g_checksum_new(G_CHECKSUM_SHA256);
  struct dg_codec_ref_params params = {.struct_size = sizeof params,
                                       .flags = flags,
                                       .size_bytes = reference->len,
                                       .cache_dir = fixture->cache_directory};
  gsize digest_len = sizeof params.sha256;
  struct dg_codec_ref *ref = NULL;
  struct dg_error err = {0};

  fixture_write(fixture, "reference", reference->data, reference->len);
  g_checksum_update(sha256, reference->data, reference->len);
  g_checksum_get_digest(sha256, params.sha256, &digest_len);
  params.fd = open(path, O_RDONLY | O_CLOEXEC);
  ck_assert_int_ge(params.fd, 0);
  ck_assert_msg(codec_ops.ref_open(codec, NULL, &params, &ref, &err) == 0, "%s", err.detail);
  ck_assert_int_eq(close(params.fd), 0);
  return ref;
}

GByteArray *fixture_encode(void *codec, const struct dg_codec_ref *ref, const void *target,
                           size_t len)
{
  struct dg_encode_params params = {.struct_size = sizeof params,
                                    .flags = ref ? 0 : DG_ENCODE_IDENTITY,
                                    .target_size = len};
  struct dg_encode_summary summary = {.struct_size = sizeof summary};
  GByteArray *delta = g_byte_array_new();
  g_autoptr(GChecksum) sha256 = g_checksum_new(G_CHECKSUM_SHA256);
  uint8_t digest[32];
  gsize digest_len = sizeof digest;
  struct dg_encoder *encoder = NULL;
  struct dg_error err = {0};
  const void *data;
  size_t data_len;
  uint64_t window, number = 0, at = 0;

  ck_assert_msg(codec_ops.encode_open(codec, NULL, ref, &params, &encoder, &err) == 0, "%s",
                err.detail);
  window = codec_ops.encode_window_size(encoder);
  do {
    /* A copy of its own, so that sanitizers see a read past its end. */
    size_t part = MIN(window, len - at);
    g_autofree uint8_t *copy = g_malloc(part + 1);

    if (part > 0)
      memcpy(copy + 1, (const uint8_t *)target + at, part);
    ck_assert_msg(codec_ops.encode_window(encoder, number, copy + 1, part, &data, &data_len,
                                          &err) == 0,
                  "%s", err.detail);
    g_byte_array_append(delta, data, (guint)data_len);
    codec_ops.encode_release(encoder, number++);
    at += part;
  } while (at < len);
  g_checksum_update(sha256, target, (gssize)len);
  g_checksum_get_digest(sha256, digest, &digest_len);
  ck_assert_msg(codec_ops.encode_finish(encoder, digest, &summary, &data, &err) == 0, "%s",
                err.detail);
  ck_assert_uint_eq(summary.windows_size, delta->len);
  ck_assert_uint_eq(summary.window_count, number);
  g_byte_array_prepend(delta, data, (guint)summary.header_size);
  codec_ops.encode_close(encoder);
  return delta;
}

GByteArray *fixture_xdelta3_decode(struct fixture *fixture, const GByteArray *reference,
                                   const GByteArray *delta)
{
  g_autofree char *reference_path = fixture_path(fixture, "stock-reference");
  g_autofree char *delta_path = fixture_path(fixture, "stock-delta");
  g_autofree char *target_path = fixture_path(fixture, "stock-target");
  const char *argv[] = {"xdelta3", "-d", "-f", "-s", reference_path, delta_path, target_path, NULL};
  g_autoptr(GError) error = NULL;
  g_autofree char *messages = NULL;
  char *target;
  gsize target_len;
  int status = -1;

  fixture_write(fixture, "stock-reference", reference->data, reference->len);
  fixture_write(fixture, "stock-delta", delta->data, delta->len);
  ck_assert_msg(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                             NULL, &messages, &status, &error),
                "xdelta3 cannot be run (install the package xdelta3): %s",
                error ? error->message : "");
  ck_assert_msg(g_spawn_check_wait_status(status, NULL), "xdelta3 -d refuses our delta: %s",
                messages);
  ck_assert(g_file_get_contents(target_path, &target, &target_len, NULL));
  return g_byte_array_new_take((guint8 *)target, target_len);
}

/* ---- Noise ---------------------------------------------------------------------- */

uint64_t fixture_random(uint64_t *seed)
{
  *seed ^= *seed << 13;
  *seed ^= *seed >> 7;
  *seed ^= *seed << 17;
  return *seed;
}

void fixture_append_noise(GByteArray *out, uint64_t *seed, size_t len)
{
  guint start = out->len;

  g_byte_array_set_size(out, (guint)(start + len));
  for (size_t i = 0; i < len; i++)
    out->data[start + i] = (uint8_t)(fixture_random(seed) >> 24);
}
