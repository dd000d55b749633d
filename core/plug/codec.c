/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/plug/codec.h"

#include "core/plug/instance.h"

#include "common/banned.h"

struct dg_codec {
  struct dg_instance instance;
  const struct dg_codec_ops *ops;
};

int dg_codec_new(const struct dg_module *module, const char *instance_name,
                 const struct dg_config *config, const struct dg_plug_services *services,
                 struct dg_codec **ret_codec, struct dg_error *err)
{
  struct dg_codec *codec = g_new0(struct dg_codec, 1);

  if (dg_instance_init(&codec->instance, module, DG_KIND_CODEC, instance_name, config, services,
                       err) < 0) {
    g_free(codec);
    return -1;
  }
  codec->ops = &module->ops.codec;
  *ret_codec = codec;
  return 0;
}

void dg_codec_free(struct dg_codec *codec)
{
  if (!codec)
    return;
  dg_instance_clear(&codec->instance);
  g_free(codec);
}

const char *dg_codec_name(const struct dg_codec *codec)
{
  return codec->instance.name;
}

const char *dg_codec_plugin_name(const struct dg_codec *codec)
{
  return codec->instance.module->plugin.name;
}

bool dg_codec_has(const struct dg_codec *codec, uint64_t caps)
{
  return (codec->ops->caps & caps) == caps;
}

/* One op between enter and leave. */
#define CALL(codec, op, ...)                   \
  (dg_instance_enter(&(codec)->instance),      \
   dg_instance_leave(&(codec)->instance, #op, (codec)->ops->op(__VA_ARGS__), err))

/* One op that cannot fail and returns nothing. */
#define CALL_VOID(codec, op, ...)                   \
  do {                                              \
    dg_instance_enter(&(codec)->instance);          \
    (codec)->ops->op(__VA_ARGS__);                  \
    if ((codec)->instance.is_serial)                \
      g_mutex_unlock(&(codec)->instance.mutex);     \
  } while (0)

static int lacks(const struct dg_codec *codec, const char *op, const char *what,
                 struct dg_error *err)
{
  return dg_fail(err, DG_E_INTERNAL, "%s: %s succeeded without a %s", codec->instance.name, op,
                 what);
}

int dg_codec_ref_open(struct dg_codec *codec, const struct dg_call *call,
                      const struct dg_codec_ref_params *params, struct dg_codec_ref **ret_ref,
                      struct dg_error *err)
{
  struct dg_codec_ref *ref = NULL;

  if (params->offset % 4096 != 0)
    return dg_fail(err, DG_E_INTERNAL, "%s: a reference must begin at a multiple of 4096",
                   codec->instance.name);
  if (CALL(codec, ref_open, codec->instance.self, call, params, &ref, err) < 0)
    return -1;
  if (!ref)
    return lacks(codec, "ref_open", "reference", err);
  *ret_ref = ref;
  return 0;
}

/* [any] functions take no mutex: the contract says that they only read what
 * never changes. */
uint64_t dg_codec_ref_bytes(struct dg_codec *codec, const struct dg_codec_ref *ref)
{
  return codec->ops->ref_bytes(ref);
}

void dg_codec_ref_close(struct dg_codec *codec, struct dg_codec_ref *ref)
{
  if (ref)
    CALL_VOID(codec, ref_close, ref);
}

int dg_codec_encode_open(struct dg_codec *codec, const struct dg_call *call,
                         const struct dg_codec_ref *ref, const struct dg_encode_params *params,
                         struct dg_encoder **ret_encoder, struct dg_error *err)
{
  struct dg_encoder *encoder = NULL;

  if (!ref && !(params->flags & DG_ENCODE_IDENTITY))
    return dg_fail(err, DG_E_INTERNAL, "%s: encoding needs a reference", codec->instance.name);
  if (CALL(codec, encode_open, codec->instance.self, call, ref, params, &encoder, err) < 0)
    return -1;
  if (!encoder)
    return lacks(codec, "encode_open", "encoder", err);
  if (codec->ops->encode_window_size(encoder) == 0) {
    CALL_VOID(codec, encode_close, encoder);
    return dg_fail(err, DG_E_INTERNAL, "%s: windows of 0 bytes", codec->instance.name);
  }
  *ret_encoder = encoder;
  return 0;
}

uint64_t dg_codec_encode_window_size(struct dg_codec *codec, const struct dg_encoder *encoder)
{
  return codec->ops->encode_window_size(encoder);
}

int dg_codec_encode_window(struct dg_codec *codec, struct dg_encoder *encoder, uint64_t number,
                           const void *target, size_t len, const void **ret_data, size_t *ret_len,
                           struct dg_error *err)
{
  return CALL(codec, encode_window, encoder, number, target, len, ret_data, ret_len, err);
}

void dg_codec_encode_release(struct dg_codec *codec, struct dg_encoder *encoder, uint64_t number)
{
  CALL_VOID(codec, encode_release, encoder, number);
}

int dg_codec_encode_finish(struct dg_codec *codec, struct dg_encoder *encoder,
                           const uint8_t target_sha256[32], struct dg_encode_summary *ret_summary,
                           const void **ret_header, struct dg_error *err)
{
  struct dg_encode_summary summary = {.struct_size = sizeof summary};

  if (CALL(codec, encode_finish, encoder, target_sha256, &summary, ret_header, err) < 0)
    return -1;
  *ret_summary = summary;
  return 0;
}

void dg_codec_encode_close(struct dg_codec *codec, struct dg_encoder *encoder)
{
  if (encoder)
    CALL_VOID(codec, encode_close, encoder);
}

int dg_codec_decode_open(struct dg_codec *codec, const struct dg_call *call,
                         const struct dg_codec_ref *ref, const struct dg_decode_params *params,
                         struct dg_decode_info *ret_info, struct dg_decoder **ret_decoder,
                         struct dg_error *err)
{
  struct dg_decode_info info = {.struct_size = sizeof info};
  struct dg_decoder *decoder = NULL;

  if (CALL(codec, decode_open, codec->instance.self, call, ref, params, &info, &decoder, err) < 0)
    return -1;
  if (!decoder)
    return lacks(codec, "decode_open", "decoder", err);
  /* A promise made only by codecs that say they can keep it. */
  if (!dg_codec_has(codec, DG_CAP_VERIFIED_WINDOWS))
    info.verified = 0;
  *ret_info = info;
  *ret_decoder = decoder;
  return 0;
}

int dg_codec_decode_range(struct dg_codec *codec, struct dg_decoder *decoder,
                          struct dg_range range, struct dg_reader **ret_reader,
                          struct dg_error *err)
{
  struct dg_reader *reader = NULL;

  if (CALL(codec, decode_range, decoder, range, &reader, err) < 0)
    return -1;
  if (!reader)
    return lacks(codec, "decode_range", "reader", err);
  *ret_reader =
    codec->instance.is_serial ? dg_reader_serialise(reader, &codec->instance.mutex) : reader;
  return 0;
}

void dg_codec_decode_close(struct dg_codec *codec, struct dg_decoder *decoder)
{
  if (decoder)
    CALL_VOID(codec, decode_close, decoder);
}
