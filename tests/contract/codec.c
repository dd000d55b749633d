/* SPDX-License-Identifier: Apache-2.0 */
/* What every codec must do: what it encodes it decodes, by whole and by range,
 * and no delta, however broken, makes it give wrong bytes as verified ones. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/plug/codec.h"
#include "tests/contract/contract.h"

#include "common/banned.h"

#define REF_BYTES (3u * 1024u * 1024u + 17u)

static const struct dg_call codec_call = {.struct_size = sizeof codec_call};

/* A reference on disk, opened by the codec. */
struct fixture {
  struct dg_codec *codec;
  struct dg_codec_ref *ref;
  uint8_t *bytes;
  int fd;
};

/* A finished delta, and what its decoding needs to know. */
struct delta {
  GByteArray *bytes;
  uint8_t target_sha256[32], header_sha256[32];
};

static void sha256(const void *data, size_t len, uint8_t out[32])
{
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  gsize out_len = 32;

  g_checksum_update(sum, data, (gssize)len);
  g_checksum_get_digest(sum, out, &out_len);
}

static int open_ref(struct contract *contract, struct dg_codec *codec, int fd, const void *bytes,
                    uint32_t flags, struct dg_codec_ref **ret_ref)
{
  struct dg_codec_ref_params params = {
    .struct_size = sizeof params,
    .flags = flags,
    .fd = fd,
    .size_bytes = REF_BYTES,
    .cache_dir = contract->services.cache_dir,
  };
  struct dg_error err = {0};

  sha256(bytes, REF_BYTES, params.sha256);
  CONTRACT_INT(contract, dg_codec_ref_open(codec, &codec_call, &params, ret_ref, &err) == 0,
               "ref_open: %s", err.detail);
  return 0;
}

/* Bytes that look like a program: noise with repeats in it. */
static void fill_reference(uint8_t *bytes)
{
  contract_bytes(bytes, REF_BYTES, 42);
  for (size_t at = 4096; at + 8192 < REF_BYTES; at += 65536)
    memmove(bytes + at, bytes + at / 2, 4096);
  memset(bytes + 100000, 0, 50000);
}

/* ---- Encoding ------------------------------------------------------------------- */

struct encoding {
  struct dg_codec *codec;
  struct dg_encoder *encoder;
  const uint8_t *target;
  size_t target_len;
  uint64_t window_size, window_count;
  GByteArray **windows;
  gint next;           /* next window for whoever is free */
  struct dg_error err;
  gint failed;
};

static int encode_one(struct encoding *e, uint64_t number)
{
  size_t at = (size_t)(number * e->window_size);
  size_t len = (size_t)MIN(e->window_size, e->target_len - at), delta_len = 0;
  const void *data = NULL;
  struct dg_error err = {0};

  if (dg_codec_encode_window(e->codec, e->encoder, number, e->target + at, len, &data, &delta_len,
                             &err) < 0) {
    if (g_atomic_int_compare_and_exchange(&e->failed, 0, 1))
      e->err = err;
    return -1;
  }
  e->windows[number] = g_byte_array_new();
  g_byte_array_append(e->windows[number], data, (guint)delta_len);
  dg_codec_encode_release(e->codec, e->encoder, number);
  return 0;
}

/* Takes windows from the end, so that they finish out of order. */
static gpointer encode_some(gpointer receiver)
{
  struct encoding *e = receiver;

  for (;;) {
    gint number = g_atomic_int_add(&e->next, -1) - 1;

    if (number < 0 || encode_one(e, (uint64_t)number) < 0)
      return NULL;
  }
}

static void encode_windows(struct encoding *e, unsigned threads)
{
  GThread *others[8];

  if (threads <= 1) {
    for (uint64_t i = 0; i < e->window_count; i++)
      if (encode_one(e, i) < 0)
        return;
    return;
  }
  e->next = (gint)e->window_count;
  for (unsigned i = 0; i < threads; i++)
    others[i] = g_thread_new("encode", encode_some, e);
  for (unsigned i = 0; i < threads; i++)
    (void)g_thread_join(others[i]);
}

static void delta_clear(struct delta *delta)
{
  if (delta->bytes)
    g_byte_array_unref(delta->bytes);
  delta->bytes = NULL;
}

static int encode(struct contract *contract, struct fixture *f, const struct dg_codec_ref *ref,
                  uint32_t flags, const uint8_t *target, size_t len, unsigned threads,
                  struct delta *ret_delta)
{
  struct dg_encode_params params = {
    .struct_size = sizeof params, .flags = flags, .target_size = len};
  struct encoding e = {.codec = f->codec, .target = target, .target_len = len};
  struct dg_encode_summary summary = {0};
  struct dg_error err = {0};
  const void *header = NULL;
  uint64_t windows_size = 0;
  int status;

  CONTRACT_INT(contract,
               dg_codec_encode_open(f->codec, &codec_call, ref, &params, &e.encoder, &err) == 0,
               "encode_open: %s", err.detail);
  e.window_size = dg_codec_encode_window_size(f->codec, e.encoder);
  e.window_count = (len + e.window_size - 1) / e.window_size;
  e.windows = g_new0(GByteArray *, e.window_count);
  encode_windows(&e, threads);
  sha256(target, len, ret_delta->target_sha256);
  err = e.err;
  status = e.failed ? -1
                    : dg_codec_encode_finish(f->codec, e.encoder, ret_delta->target_sha256,
                                             &summary, &header, &err);
  ret_delta->bytes = g_byte_array_new();
  if (status == 0) {
    g_byte_array_append(ret_delta->bytes, header, (guint)summary.header_size);
    sha256(header, summary.header_size, ret_delta->header_sha256);
  }
  for (uint64_t i = 0; i < e.window_count; i++)
    if (e.windows[i]) {
      windows_size += e.windows[i]->len;
      g_byte_array_append(ret_delta->bytes, e.windows[i]->data, e.windows[i]->len);
      g_byte_array_unref(e.windows[i]);
    }
  g_free(e.windows);
  dg_codec_encode_close(f->codec, e.encoder);
  if (status < 0)
    delta_clear(ret_delta);
  CONTRACT_INT(contract, status == 0, "encoding %zu bytes: %s", len, err.detail);
  if (summary.windows_size != windows_size || summary.window_count != e.window_count)
    delta_clear(ret_delta);
  CONTRACT_INT(contract, ret_delta->bytes, "encode_finish counts %llu windows of %llu bytes",
               (unsigned long long)summary.window_count,
               (unsigned long long)summary.windows_size);
  return 0;
}

/* ---- Decoding --------------------------------------------------------------------- */

static int read_memory(void *self, uint64_t offset, void *buffer, size_t len, struct dg_error *err)
{
  const GByteArray *bytes = self;

  if (offset + len > bytes->len)
    return dg_fail(err, DG_E_IO, "past the end");
  memcpy(buffer, bytes->data + offset, len);
  return 0;
}

/* Decodes a range into got (room for length). Returns 0, or -1 with err. */
static int decode(struct fixture *f, const struct delta *delta, uint64_t target_size,
                  struct dg_range range, uint8_t *got, struct dg_decode_info *info,
                  struct dg_error *err)
{
  struct dg_source source = {
    .struct_size = sizeof source,
    .self = delta->bytes,
    .size_bytes = delta->bytes->len,
    .read_at = read_memory,
  };
  struct dg_decode_params params = {
    .struct_size = sizeof params, .delta = &source, .target_size = target_size};
  struct dg_decoder *decoder = NULL;
  struct dg_reader *reader = NULL;
  size_t len = 0;
  int status;

  memcpy(params.target_sha256, delta->target_sha256, 32);
  memcpy(params.header_sha256, delta->header_sha256, 32);
  if (dg_codec_decode_open(f->codec, &codec_call, f->ref, &params, info, &decoder, err) < 0)
    return -1;
  status = dg_codec_decode_range(f->codec, decoder, range, &reader, err);
  if (status == 0)
    status = dg_reader_read_full(reader, got, (size_t)range.length, &len, err);
  if (status == 0 && len != range.length)
    status = dg_fail(err, DG_E_CORRUPT, "%zu bytes of %llu", len,
                     (unsigned long long)range.length);
  dg_reader_close(reader);
  dg_codec_decode_close(f->codec, decoder);
  return status;
}

static int expect_target(struct contract *contract, struct fixture *f, const struct delta *delta,
                         const uint8_t *target, size_t len, struct dg_range range)
{
  g_autofree uint8_t *got = g_malloc(range.length + 1);
  struct dg_decode_info info = {0};
  struct dg_error err = {0};

  CONTRACT_INT(contract, decode(f, delta, len, range, got, &info, &err) == 0,
               "decoding %llu bytes at %llu of %zu: %s", (unsigned long long)range.length,
               (unsigned long long)range.offset, len, err.detail);
  CONTRACT_INT(contract, !memcmp(got, target + range.offset, (size_t)range.length),
               "decoding %llu bytes at %llu of %zu gave other bytes",
               (unsigned long long)range.length, (unsigned long long)range.offset, len);
  return 0;
}

/* A later version of the reference: edits, an insertion, a tail of noise. */
static uint8_t *new_version(const uint8_t *ref, size_t len)
{
  uint8_t *target = g_malloc(len + 1);

  for (size_t at = 0; at < len; at++) {
    size_t from = at < 500000 ? at : at + 333;

    target[at] = from < REF_BYTES ? ref[from] : (uint8_t)(from * 31 >> 3);
    if (from % 4099 < 3)
      target[at] ^= 0x5a;
  }
  return target;
}

/* ---- Cases --------------------------------------------------------------------------- */

static uint64_t window_size_of(struct fixture *f, uint64_t target_size)
{
  struct dg_encode_params params = {.struct_size = sizeof params, .target_size = target_size};
  struct dg_encoder *encoder = NULL;
  struct dg_error err = {0};
  uint64_t size;

  if (dg_codec_encode_open(f->codec, &codec_call, f->ref, &params, &encoder, &err) < 0)
    return 0;
  size = dg_codec_encode_window_size(f->codec, encoder);
  dg_codec_encode_close(f->codec, encoder);
  return size;
}

static void every_size_comes_back(struct contract *contract, void *instance)
{
  struct fixture *f = instance;
  uint64_t w = window_size_of(f, 4u << 20);
  uint64_t sizes[] = {1, 2, 1000, w - 1, w, w + 1, 2 * w, 2 * w + 5};

  CONTRACT(contract, w > 0, "encode_open fails");
  for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
    g_autofree uint8_t *target = NULL;
    struct delta delta = {0};
    int status;

    if (sizes[i] > (16u << 20))
      continue;
    target = new_version(f->bytes, (size_t)sizes[i]);
    status = encode(contract, f, f->ref, 0, target, (size_t)sizes[i], 1, &delta);
    if (status == 0)
      status = expect_target(contract, f, &delta, target, (size_t)sizes[i],
                             (struct dg_range){0, sizes[i]});
    delta_clear(&delta);
    if (status < 0)
      return;
  }
}

static void every_kind_of_target_comes_back(struct contract *contract, void *instance)
{
  struct fixture *f = instance;
  size_t len = 1500000;
  g_autofree uint8_t *target = g_malloc0(len);

  for (int kind = 0; kind < 4; kind++) {
    struct delta delta = {0};
    int status;

    if (kind == 1)
      contract_bytes(target, len, 99); /* nothing in common */
    if (kind == 2)
      memcpy(target, f->bytes, len); /* a prefix of the reference */
    if (kind == 3)
      for (size_t at = 0; at < len; at++) /* repeats of itself */
        target[at] = (uint8_t)(at % 1009 * 7);
    status = encode(contract, f, f->ref, 0, target, len, 1, &delta);
    if (status == 0)
      status = expect_target(contract, f, &delta, target, len, (struct dg_range){0, len});
    if (status == 0 && kind == 2 && delta.bytes->len > len / 20)
      contract_fail(contract, "a copy of the reference takes %u bytes", delta.bytes->len);
    delta_clear(&delta);
    if (contract->failure)
      return;
  }
}

static void the_reference_itself_is_a_small_delta(struct contract *contract, void *instance)
{
  struct fixture *f = instance;
  struct delta delta = {0};

  if (encode(contract, f, NULL, DG_ENCODE_IDENTITY, f->bytes, REF_BYTES, 1, &delta) == 0)
    (void)expect_target(contract, f, &delta, f->bytes, REF_BYTES,
                        (struct dg_range){0, REF_BYTES});
  if (!contract->failure && delta.bytes->len > 4096)
    contract_fail(contract, "it takes %u bytes", delta.bytes->len);
  delta_clear(&delta);
}

static void windows_may_be_encoded_in_parallel(struct contract *contract, void *instance)
{
  struct fixture *f = instance;
  size_t len = 8u << 20;
  g_autofree uint8_t *target = new_version(f->bytes, len);
  struct delta delta = {0};

  if (encode(contract, f, f->ref, 0, target, len, 4, &delta) == 0)
    (void)expect_target(contract, f, &delta, target, len, (struct dg_range){0, len});
  delta_clear(&delta);
}

static void ranges_are_exact(struct contract *contract, void *instance)
{
  struct fixture *f = instance;
  size_t len = 3u << 20;
  g_autofree uint8_t *target = new_version(f->bytes, len);
  struct delta delta = {0};
  uint32_t state = 12345;

  if (encode(contract, f, f->ref, 0, target, len, 1, &delta) == 0)
    for (int i = 0; i < 40 && !contract->failure; i++) {
      struct dg_range range;

      state = state * 1664525u + 1013904223u;
      range.offset = state % len;
      range.length = 1 + (state >> 7) % (len - range.offset);
      if (i % 2)
        range.length = MIN(range.length, 1000);
      (void)expect_target(contract, f, &delta, target, len, range);
    }
  delta_clear(&delta);
}

static void a_reference_for_decoding_alone_decodes(struct contract *contract, void *instance)
{
  struct fixture *f = instance, plain = *f;
  size_t len = 1u << 20;
  g_autofree uint8_t *target = new_version(f->bytes, len);
  struct delta delta = {0};

  plain.ref = NULL;
  if (encode(contract, f, f->ref, 0, target, len, 1, &delta) == 0 &&
      open_ref(contract, f->codec, f->fd, f->bytes, DG_CODEC_REF_DECODE_ONLY, &plain.ref) == 0)
    (void)expect_target(contract, &plain, &delta, target, len, (struct dg_range){0, len});
  dg_codec_ref_close(f->codec, plain.ref);
  delta_clear(&delta);
}

/* A second ref_open may load what the first one left in the cache folder. */
static void a_reopened_reference_gives_the_same_deltas(struct contract *contract, void *instance)
{
  struct fixture *f = instance;
  size_t len = 1u << 20;
  g_autofree uint8_t *target = new_version(f->bytes, len);
  struct dg_codec_ref *again = NULL;
  struct delta first = {0}, second = {0};

  if (encode(contract, f, f->ref, 0, target, len, 1, &first) == 0 &&
      open_ref(contract, f->codec, f->fd, f->bytes, 0, &again) == 0 &&
      encode(contract, f, again, 0, target, len, 1, &second) == 0 &&
      expect_target(contract, f, &second, target, len, (struct dg_range){0, len}) == 0 &&
      second.bytes->len != first.bytes->len)
    contract_fail(contract, "the delta has %u bytes at first and %u later", first.bytes->len,
                  second.bytes->len);
  dg_codec_ref_close(f->codec, again);
  delta_clear(&first);
  delta_clear(&second);
}

/* A decode that succeeds must give the right bytes when it says verified; one
 * that does not say so may give anything, but never crash or hang. */
static void judge_broken(struct contract *contract, struct fixture *f, const struct delta *delta,
                         const uint8_t *target, size_t len, const char *what)
{
  g_autofree uint8_t *got = g_malloc(len);
  struct dg_decode_info info = {0};
  struct dg_error err = {0};
  int status = decode(f, delta, len, (struct dg_range){0, len}, got, &info, &err);

  if (status == 0 && info.verified && memcmp(got, target, len) != 0)
    contract_fail(contract, "%s: wrong bytes were called verified", what);
}

static void broken_deltas_never_give_wrong_bytes(struct contract *contract, void *instance)
{
  struct fixture *f = instance;
  size_t len = 600000;
  g_autofree uint8_t *target = new_version(f->bytes, len);
  struct delta delta = {0};
  uint32_t state = 777;

  if (encode(contract, f, f->ref, 0, target, len, 1, &delta) < 0)
    return;
  for (int i = 0; i < 300 && !contract->failure; i++) {
    guint at;
    uint8_t bit;

    state = state * 1664525u + 1013904223u;
    at = (state >> 4) % (i < 150 ? MIN(delta.bytes->len, 200u) : delta.bytes->len);
    bit = (uint8_t)(1u << (state & 7));
    delta.bytes->data[at] ^= bit;
    judge_broken(contract, f, &delta, target, len, "one bit flipped");
    delta.bytes->data[at] ^= bit;
  }
  for (guint cut = delta.bytes->len; cut > 0 && !contract->failure; cut = cut * 7 / 9) {
    g_byte_array_set_size(delta.bytes, cut);
    judge_broken(contract, f, &delta, target, len, "cut short");
  }
  delta_clear(&delta);
}

static void wrong_facts_are_noticed(struct contract *contract, void *instance)
{
  struct fixture *f = instance, other = *f;
  size_t len = 1u << 20;
  g_autofree uint8_t *target = new_version(f->bytes, len);
  g_autofree uint8_t *got = g_malloc(2 * len);
  struct delta delta = {0};
  struct dg_decode_info info = {0};
  struct dg_error err = {0};
  int status;

  if (encode(contract, f, f->ref, 0, target, len, 1, &delta) < 0)
    return;
  status = decode(f, &delta, len + 1, (struct dg_range){0, len + 1}, got, &info, &err);
  if (status == 0)
    contract_fail(contract, "a wrong target size was not noticed");
  delta.header_sha256[0] ^= 1;
  status = decode(f, &delta, len, (struct dg_range){0, len}, got, &info, &err);
  if (status == 0 && info.verified)
    contract_fail(contract, "a header with another digest was called verified");
  delta.header_sha256[0] ^= 1;
  /* another reference: noise at the same size */
  if (lseek(f->fd, 0, SEEK_SET) == 0) {
    g_autofree uint8_t *noise = g_malloc(REF_BYTES);
    g_autofree char *path = g_build_filename(contract->scratch, "other-reference", NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    contract_bytes(noise, REF_BYTES, 4711);
    other.ref = NULL;
    if (fd >= 0 && write(fd, noise, REF_BYTES) == (ssize_t)REF_BYTES &&
        open_ref(contract, f->codec, fd, noise, DG_CODEC_REF_DECODE_ONLY, &other.ref) == 0)
      judge_broken(contract, &other, &delta, target, len, "another reference");
    dg_codec_ref_close(f->codec, other.ref);
    if (fd >= 0)
      (void)close(fd);
    (void)unlink(path);
  }
  delta_clear(&delta);
}

static void own_deltas_are_verified_and_seekable(struct contract *contract, void *instance)
{
  struct fixture *f = instance;
  size_t len = 3u << 20;
  g_autofree uint8_t *target = new_version(f->bytes, len), *got = g_malloc(len);
  struct delta delta = {0};
  struct dg_decode_info info = {0};
  struct dg_error err = {0};

  if (encode(contract, f, f->ref, 0, target, len, 1, &delta) < 0)
    return;
  if (decode(f, &delta, len, (struct dg_range){0, len}, got, &info, &err) < 0)
    contract_fail(contract, "decode: %s", err.detail);
  else if (!info.verified || !info.seekable)
    contract_fail(contract, "verified=%u seekable=%u", info.verified, info.seekable);
  delta_clear(&delta);
}

static const struct contract_case cases[] = {
  {"targets of every size come back", every_size_comes_back, 0},
  {"targets of every kind come back", every_kind_of_target_comes_back, 0},
  {"the reference itself is a small delta", the_reference_itself_is_a_small_delta, 0},
  {"windows may be encoded in parallel and out of order", windows_may_be_encoded_in_parallel,
   DG_CAP_PARALLEL_WINDOWS},
  {"ranges are exact", ranges_are_exact, 0},
  {"a reference opened for decoding alone decodes", a_reference_for_decoding_alone_decodes, 0},
  {"a reopened reference gives the same deltas", a_reopened_reference_gives_the_same_deltas, 0},
  {"own deltas are verified and seekable", own_deltas_are_verified_and_seekable,
   DG_CAP_VERIFIED_WINDOWS},
  {"broken deltas never give wrong bytes as verified", broken_deltas_never_give_wrong_bytes, 0},
  {"wrong facts about a delta are noticed", wrong_facts_are_noticed, 0},
};

void contract_codec(struct contract *contract)
{
  g_autofree char *path = g_build_filename(contract->scratch, "reference", NULL);
  struct fixture f = {.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  struct dg_error err = {0};

  f.bytes = g_malloc(REF_BYTES);
  fill_reference(f.bytes);
  if (f.fd < 0 || write(f.fd, f.bytes, REF_BYTES) != (ssize_t)REF_BYTES)
    contract_fail(contract, "%s: %s", path, g_strerror(errno));
  else if (dg_codec_new(contract->module, "contract", contract->config, &contract->services,
                        &f.codec, &err) < 0)
    contract_fail(contract, "%s", err.detail);
  else if (open_ref(contract, f.codec, f.fd, f.bytes, 0, &f.ref) == 0)
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
      contract_run(contract, &cases[i], &f, dg_codec_has(f.codec, cases[i].caps));
  if (contract->number == 0) {
    g_print("Bail out! %s\n", contract->failure);
    contract->failed++;
  }
  if (f.ref)
    dg_codec_ref_close(f.codec, f.ref);
  dg_codec_free(f.codec);
  if (f.fd >= 0)
    (void)close(f.fd);
  g_free(f.bytes);
  (void)unlink(path);
}
