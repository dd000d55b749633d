/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/fuzz/codec-memory.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/banned.h"

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

  return strcmp(name, "window") == 0 ? values->window : 0;
}

void *memory_codec_new(const char *secondary, int64_t window_size)
{
  static struct dg_host host = {.struct_size = sizeof host};
  struct values values = {.secondary = secondary, .window = window_size};
  struct dg_error err = {0};
  void *codec = NULL;

  values.config.struct_size = sizeof values.config;
  values.config.self = &values;
  values.config.get_text = get_text;
  values.config.get_int = get_int;
  FUZZ_CHECK(codec_ops.create(&host, &values.config, &codec, &err) == 0);
  return codec;
}

struct dg_codec_ref *memory_ref_new(void *codec, const uint8_t *bytes, size_t len, uint32_t flags)
{
  struct dg_codec_ref_params params = {
      .struct_size = sizeof params, .flags = flags, .size_bytes = len};
  struct dg_codec_ref *ref = NULL;
  struct dg_error err = {0};

  params.fd = memfd_create("reference", MFD_CLOEXEC);
  FUZZ_CHECK(params.fd >= 0);
  FUZZ_CHECK(write(params.fd, bytes, len) == (ssize_t)len);
  FUZZ_CHECK(codec_ops.ref_open(codec, NULL, &params, &ref, &err) == 0);
  close(params.fd);
  return ref;
}

static int memory_read_at(void *self, uint64_t offset, void *buffer, size_t len,
                          struct dg_error *err)
{
  const GByteArray *bytes = self;

  (void)err;
  /* The codec knows the size and must never ask for more. */
  FUZZ_CHECK(offset <= bytes->len && len <= bytes->len - offset);
  if (len > 0)
    memcpy(buffer, bytes->data + offset, len);
  return 0;
}

struct dg_source memory_source(const GByteArray *bytes)
{
  return (struct dg_source){.struct_size = sizeof(struct dg_source),
                            .self = (void *)(uintptr_t)bytes,
                            .size_bytes = bytes->len,
                            .read_at = memory_read_at};
}

GByteArray *memory_decode(void *codec, const struct dg_codec_ref *ref, const GByteArray *delta,
                          uint64_t target_size, struct dg_range range, struct dg_error *err)
{
  struct dg_source source = memory_source(delta);
  struct dg_decode_params params = {
      .struct_size = sizeof params, .delta = &source, .target_size = target_size};
  struct dg_decode_info info;
  struct dg_decoder *decoder = NULL;
  struct dg_reader *reader = NULL;
  GByteArray *out = NULL;
  uint8_t buffer[4096];
  size_t len = 1;

  if (codec_ops.decode_open(codec, NULL, ref, &params, &info, &decoder, err) < 0)
    return NULL;
  FUZZ_CHECK(!info.verified);
  if (codec_ops.decode_range(decoder, range, &reader, err) == 0) {
    out = g_byte_array_new();
    while (len > 0) {
      if (reader->ops->read(reader, buffer, sizeof buffer, &len, err) < 0) {
        g_byte_array_unref(g_steal_pointer(&out));
        break;
      }
      g_byte_array_append(out, buffer, (guint)len);
    }
    reader->ops->close(reader);
  }
  codec_ops.decode_close(decoder);
  return out;
}
