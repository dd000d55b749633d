/* SPDX-License-Identifier: Apache-2.0 */
/* What every crypt must do: what it seals it unseals, by whole and by range, and
 * no body, however broken, makes it give wrong bytes. */
#include "config.h"

#include "common/meta.h"
#include "common/slice.h"
#include "core/plug/crypt.h"
#include "tests/contract/contract.h"

#include "common/banned.h"

static const struct dg_call crypt_call = {.struct_size = sizeof crypt_call};

/* ---- A place for bodies ------------------------------------------------------------ */

struct memory_writer {
  struct dg_writer writer;
  GByteArray *body;
  struct dg_meta **meta; /* where commit leaves its own */
  unsigned *state;       /* 0 open, 1 committed, 2 aborted */
  unsigned fail_after;   /* writes; 0: never */
};

static int memory_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct memory_writer *self = (struct memory_writer *)writer;

  if (self->fail_after && --self->fail_after == 0)
    return dg_fail(err, DG_E_NO_SPACE, "full");
  g_byte_array_append(self->body, data, (guint)len);
  return 0;
}

static int memory_commit(struct dg_writer *writer, const struct dg_item *item,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct memory_writer *self = (struct memory_writer *)writer;

  (void)item, (void)err;
  *self->state = 1;
  *self->meta = dg_meta_copy(meta);
  if (ret_result)
    ret_result->stored_size = self->body->len;
  g_free(self);
  return 0;
}

static void memory_abort(struct dg_writer *writer)
{
  struct memory_writer *self = (struct memory_writer *)writer;

  *self->state = 2;
  g_free(self);
}

static const struct dg_writer_ops memory_writer_ops = {
  .struct_size = sizeof memory_writer_ops,
  .write = memory_write,
  .commit = memory_commit,
  .abort = memory_abort,
};

struct memory_reader {
  struct dg_reader reader;
  const GByteArray *body;
  size_t at, end;
};

/* Short reads, odd ones: a crypt must not care. */
static int memory_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct memory_reader *self = (struct memory_reader *)reader;
  size_t len = MIN(MIN(capacity, self->end - self->at), 30011);

  (void)err;
  if (len)
    memcpy(buffer, self->body->data + self->at, len);
  self->at += len;
  *ret_len = len;
  return 0;
}

static void memory_close(struct dg_reader *reader)
{
  g_free(reader);
}

static const struct dg_reader_ops memory_reader_ops = {
  .struct_size = sizeof memory_reader_ops,
  .read = memory_read,
  .close = memory_close,
};

/* A sealed body and its metadata. */
struct body {
  GByteArray *bytes;
  struct dg_meta *meta;
  uint64_t fetched; /* bytes asked for by the last unseal */
};

static void body_clear(struct body *body)
{
  if (body->bytes)
    g_byte_array_unref(body->bytes);
  dg_meta_unref(body->meta);
  memset(body, 0, sizeof *body);
}

static int fetch(void *receiver, struct dg_range stored, struct dg_reader **ret_reader,
                 struct dg_error *err)
{
  struct body *body = receiver;
  struct memory_reader *self;
  size_t len = body->bytes->len;

  if (stored.offset > len)
    return dg_fail(err, DG_E_INVALID_RANGE, "past the end");
  self = g_new0(struct memory_reader, 1);
  self->reader.ops = &memory_reader_ops;
  self->body = body->bytes;
  self->at = (size_t)stored.offset;
  self->end = self->at + (size_t)MIN(stored.length, len - self->at);
  body->fetched += self->end - self->at;
  *ret_reader = &self->reader;
  return 0;
}

/* ---- Sealing and unsealing ------------------------------------------------------------ */

static struct dg_item sealed_item(uint32_t variant)
{
  return (struct dg_item){
    .bucket = DG_SLICE("bucket"), .key = DG_SLICE("key/"), .variant = variant};
}

/* Seals data in writes of `step` bytes. */
static int seal(struct dg_crypt *crypt, const uint8_t *data, size_t len, size_t step,
                uint32_t variant, bool announce, unsigned fail_after, unsigned *state,
                struct body *ret_body, struct dg_error *err)
{
  struct dg_seal_params params = {.struct_size = sizeof params,
                                  .variant = variant,
                                  .plain_size = announce ? len : DG_TO_END};
  struct memory_writer *inner = g_new0(struct memory_writer, 1);
  struct dg_item item = sealed_item(variant);
  struct dg_meta *marks = dg_meta_new();
  struct dg_writer *writer = NULL;
  int rc;

  *ret_body = (struct body){.bytes = g_byte_array_new()};
  *state = 0;
  inner->writer.ops = &memory_writer_ops;
  inner->body = ret_body->bytes;
  inner->meta = &ret_body->meta;
  inner->state = state;
  inner->fail_after = fail_after;
  rc = dg_crypt_seal(crypt, &crypt_call, &params, &inner->writer, marks, &writer, err);
  if (rc < 0)
    memory_abort(&inner->writer);
  for (size_t at = 0; rc == 0 && at < len; at += step)
    if (dg_writer_write(writer, data + at, MIN(step, len - at), err) < 0) {
      dg_writer_abort(writer);
      writer = NULL;
      rc = -1;
    }
  if (rc == 0)
    rc = dg_writer_commit(writer, &item, marks, NULL, err);
  dg_meta_unref(marks);
  if (ret_body->meta) {
    ret_body->meta->stored_size = ret_body->bytes->len;
    ret_body->meta->variant = variant;
  }
  return rc;
}

static int must_seal(struct contract *contract, struct dg_crypt *crypt, const uint8_t *data,
                     size_t len, size_t step, uint32_t variant, bool announce,
                     struct body *ret_body)
{
  struct dg_error err = {0};
  unsigned state;

  if (seal(crypt, data, len, step, variant, announce, 0, &state, ret_body, &err) == 0 &&
      ret_body->meta && state == 1)
    return 0;
  body_clear(ret_body);
  contract_fail(contract, "sealing %zu bytes: %s", len, err.detail);
  return -1;
}

/* Reads a range into got (room for its length and one more), `step` at a time.
 * *ret_len: what came. */
static int unseal(struct dg_crypt *crypt, struct body *body, uint64_t plain_size,
                  struct dg_range plain, size_t step, uint8_t *got, size_t *ret_len,
                  struct dg_error *err)
{
  struct dg_unseal_params params = {.struct_size = sizeof params,
                                    .meta = body->meta,
                                    .plain_size = plain_size,
                                    .plain = plain,
                                    .receiver = body,
                                    .fetch = fetch};
  struct dg_reader *reader = NULL;
  size_t len = 0;
  int rc;

  body->fetched = 0;
  *ret_len = 0;
  if (dg_crypt_unseal(crypt, &crypt_call, &params, &reader, err) < 0)
    return -1;
  do {
    len = 0;
    rc = dg_reader_read(reader, got + *ret_len, MIN(step, plain.length + 1 - *ret_len), &len, err);
    *ret_len += rc == 0 ? len : 0;
  } while (rc == 0 && len && *ret_len <= plain.length);
  dg_reader_close(reader);
  return rc;
}

static int expect_range(struct contract *contract, struct dg_crypt *crypt, struct body *body,
                        const uint8_t *data, size_t size, struct dg_range plain, size_t step)
{
  g_autofree uint8_t *got = g_malloc(plain.length + 1);
  struct dg_error err = {0};
  uint64_t plain_size = 0;
  size_t len = 0;

  CONTRACT_INT(contract, dg_crypt_sealed(crypt, body->meta, &plain_size),
               "sealed() does not know the marks of seal()");
  CONTRACT_INT(contract, plain_size == size, "sealed() finds %llu bytes where %zu were sealed",
               (unsigned long long)plain_size, size);
  CONTRACT_INT(contract, unseal(crypt, body, size, plain, step, got, &len, &err) == 0,
               "bytes %llu+%llu of %zu: %s", (unsigned long long)plain.offset,
               (unsigned long long)plain.length, size, err.detail);
  CONTRACT_INT(contract, len == plain.length && !memcmp(got, data + plain.offset, len),
               "bytes %llu+%llu of %zu: other bytes came, or %zu", (unsigned long long)plain.offset,
               (unsigned long long)plain.length, size, len);
  return 0;
}

/* ---- Cases ----------------------------------------------------------------------------- */

#define BIG 1200007u

static const size_t sizes[] = {0,      1,      15,     16,     17,    4095,   65535,
                               65536,  65537,  131071, 131072, 131073, 262144, 262145,
                               524288, 600001, BIG};
static const uint32_t variants[] = {DG_VARIANT_PASSTHROUGH, DG_VARIANT_DELTA,
                                    DG_VARIANT_REFERENCE};

static uint8_t *some_bytes(size_t len)
{
  uint8_t *data = g_malloc(len + 1);

  contract_bytes(data, len, 4711);
  return data;
}

static void every_size_comes_back(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = some_bytes(BIG);

  for (size_t i = 0; i < G_N_ELEMENTS(sizes) * G_N_ELEMENTS(variants) * 2; i++) {
    size_t size = sizes[i / 2 % G_N_ELEMENTS(sizes)];
    uint32_t variant = variants[i / 2 / G_N_ELEMENTS(sizes)];
    struct body body;
    int rc;

    if (must_seal(contract, instance, data, size, i % 2 ? 65536 : 70001, variant, i % 2 == 1,
                  &body) < 0)
      return;
    rc = expect_range(contract, instance, &body, data, size, (struct dg_range){0, size},
                      i % 2 ? 262144 : 50021);
    body_clear(&body);
    if (rc < 0)
      return;
  }
}

static void writes_of_any_length_make_the_same_body(struct contract *contract, void *instance)
{
  static const size_t steps[] = {1, 65535, 65536, 65537, 131072, 1000000};
  g_autofree uint8_t *data = some_bytes(BIG);

  for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
    size_t size = steps[i] == 1 ? 66000 : 262144;
    struct body body;
    int rc;

    if (must_seal(contract, instance, data, size, steps[i], DG_VARIANT_PASSTHROUGH, i % 2, &body) <
        0)
      return;
    rc = expect_range(contract, instance, &body, data, size, (struct dg_range){0, size}, 999);
    body_clear(&body);
    if (rc < 0)
      return;
  }
}

static void the_sealed_size_is_told_before(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = some_bytes(BIG);

  for (size_t i = 0; i < G_N_ELEMENTS(sizes) * G_N_ELEMENTS(variants); i++) {
    size_t size = sizes[i % G_N_ELEMENTS(sizes)], sealed;
    uint32_t variant = variants[i / G_N_ELEMENTS(sizes)];
    uint64_t told = dg_crypt_sealed_size(instance, variant, size);
    struct body body;

    if (must_seal(contract, instance, data, size, 8192, variant, /* announce= */ true, &body) < 0)
      return;
    sealed = body.bytes->len;
    body_clear(&body);
    CONTRACT(contract, told == sealed, "sealed_size(%zu) is %llu, the body has %zu", size,
             (unsigned long long)told, sealed);
  }
}

static void ranges_are_exact(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = some_bytes(BIG);
  static const uint64_t edges[] = {0, 1, 65535, 65536, 65537, 131072, 600000, BIG - 1, BIG};

  for (size_t v = 0; v < G_N_ELEMENTS(variants); v++) {
    struct body body;
    int rc = must_seal(contract, instance, data, BIG, 100000, variants[v], true, &body);

    for (size_t i = 0; rc == 0 && i < G_N_ELEMENTS(edges) * G_N_ELEMENTS(edges); i++) {
      uint64_t from = edges[i / G_N_ELEMENTS(edges)], to = edges[i % G_N_ELEMENTS(edges)];

      if (from <= to)
        rc = expect_range(contract, instance, &body, data, BIG,
                          (struct dg_range){from, to - from}, 100000);
    }
    body_clear(&body);
    if (rc < 0)
      return;
  }
}

static void locate_tells_what_a_range_needs(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = some_bytes(BIG);
  struct dg_range plain = {700000, 1000}, at;
  struct body body;
  int rc;

  if (must_seal(contract, instance, data, BIG, 65536, DG_VARIANT_PASSTHROUGH, true, &body) < 0)
    return;
  at = dg_crypt_locate(instance, DG_VARIANT_PASSTHROUGH, plain);
  rc = expect_range(contract, instance, &body, data, BIG, plain, 1000);
  if (rc == 0 && body.fetched != MIN(at.length, body.bytes->len - at.offset))
    contract_fail(contract, "locate() names %llu bytes, unseal fetched %llu",
                  (unsigned long long)at.length, (unsigned long long)body.fetched);
  body_clear(&body);
}

static void nothing_of_the_plaintext_shows(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = some_bytes(200000);
  struct body body;
  bool shows = false;

  if (must_seal(contract, instance, data, 200000, 65536, DG_VARIANT_PASSTHROUGH, true, &body) < 0)
    return;
  for (size_t at = 0; at + 16 <= 200000 && !shows; at += 997)
    shows = memmem(body.bytes->data, body.bytes->len, data + at, 16) != NULL;
  body_clear(&body);
  CONTRACT(contract, !shows, "16 bytes of plaintext stand in the sealed body");
}

static void the_same_bytes_are_never_sealed_alike(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = some_bytes(100000);
  struct body a, b;
  bool alike;

  if (must_seal(contract, instance, data, 100000, 65536, DG_VARIANT_PASSTHROUGH, true, &a) < 0)
    return;
  if (must_seal(contract, instance, data, 100000, 65536, DG_VARIANT_PASSTHROUGH, true, &b) < 0) {
    body_clear(&a);
    return;
  }
  alike = memcmp(a.bytes->data + a.bytes->len - 64, b.bytes->data + b.bytes->len - 64, 64) == 0;
  body_clear(&a);
  body_clear(&b);
  CONTRACT(contract, !alike, "two seals of one body end in the same bytes");
}

/* Reads a damaged body. Whatever came before the error must be right. */
static void expect_no_wrong_bytes(struct contract *contract, struct dg_crypt *crypt,
                                  struct body *body, const uint8_t *data, size_t size,
                                  const char *what, size_t where)
{
  g_autofree uint8_t *got = g_malloc(size + 1);
  struct dg_error err = {0};
  uint64_t plain_size = 0;
  size_t len = 0;
  int rc;

  body->meta->stored_size = body->bytes->len;
  if (!dg_crypt_sealed(crypt, body->meta, &plain_size) || plain_size != size)
    return; /* the host refuses it */
  rc = unseal(crypt, body, size, (struct dg_range){0, size}, 65536, got, &len, &err);
  CONTRACT(contract, memcmp(got, data, MIN(len, size)) == 0, "%s at %zu: wrong bytes came", what,
           where);
  CONTRACT(contract, rc < 0, "%s at %zu was not noticed", what, where);
  CONTRACT(contract, err.code == DG_E_CORRUPT || err.code == DG_E_INTERNAL,
           "%s at %zu: code %d, DG_E_CORRUPT is due", what, where, err.code);
}

static void a_changed_byte_is_noticed(struct contract *contract, void *instance)
{
  size_t size = 140000;
  g_autofree uint8_t *data = some_bytes(size);

  for (size_t v = 0; v < G_N_ELEMENTS(variants) && !contract->failure; v++) {
    struct body body;

    if (must_seal(contract, instance, data, size, 65536, variants[v], true, &body) < 0)
      return;
    for (size_t i = 0; i < body.bytes->len && !contract->failure;
         i += i < 40 || i + 40 > body.bytes->len || (i > 65530 && i < 65600) ? 1 : 4001) {
      body.bytes->data[i] ^= 0x10;
      expect_no_wrong_bytes(contract, instance, &body, data, size, "a changed byte", i);
      body.bytes->data[i] ^= 0x10;
    }
    body_clear(&body);
  }
}

static void a_cut_or_grown_body_is_noticed(struct contract *contract, void *instance)
{
  size_t size = 262144;
  g_autofree uint8_t *data = some_bytes(size);
  static const size_t cuts[] = {1, 4, 16, 20, 100, 65536, 65556, 131112, 196668, 262000};

  for (size_t i = 0; i < 2 * G_N_ELEMENTS(cuts) && !contract->failure; i++) {
    size_t by = cuts[i / 2];
    struct body body;

    if (must_seal(contract, instance, data, size, 65536, DG_VARIANT_PASSTHROUGH, true, &body) < 0)
      return;
    if (i % 2)
      g_byte_array_set_size(body.bytes, body.bytes->len - (guint)by);
    else
      g_byte_array_append(body.bytes, data, (guint)by);
    expect_no_wrong_bytes(contract, instance, &body, data, size, i % 2 ? "a cut" : "growth", by);
    /* The same with a size that was never told: lengths are no evidence. */
    if (!contract->failure) {
      g_autofree uint8_t *got = g_malloc(2 * size);
      struct dg_error err = {0};
      uint64_t plain_size = 0;
      size_t len = 0;

      if (dg_crypt_sealed(instance, body.meta, &plain_size) && plain_size <= 2 * size - 1 &&
          unseal(instance, &body, plain_size, (struct dg_range){0, plain_size}, 65536, got, &len,
                 &err) == 0)
        contract_fail(contract, "a body %s by %zu bytes verifies", i % 2 ? "cut" : "grown", by);
    }
    body_clear(&body);
  }
}

static void parts_of_two_bodies_do_not_mix(struct contract *contract, void *instance)
{
  size_t size = 262144, half;
  g_autofree uint8_t *data = some_bytes(size);
  struct body a, b;

  if (must_seal(contract, instance, data, size, 65536, DG_VARIANT_PASSTHROUGH, true, &a) < 0)
    return;
  if (must_seal(contract, instance, data, size, 65536, DG_VARIANT_PASSTHROUGH, true, &b) == 0) {
    half = a.bytes->len / 2;
    memcpy(a.bytes->data + half, b.bytes->data + half, a.bytes->len - half);
    expect_no_wrong_bytes(contract, instance, &a, data, size, "another body's half", half);
    body_clear(&b);
  }
  body_clear(&a);
}

static void a_failed_write_fails_the_body(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = some_bytes(BIG);

  for (unsigned n = 1; n <= 4; n++) {
    struct dg_error err = {0};
    struct body body;
    unsigned state = 0;
    int rc = seal(instance, data, n == 1 ? 10 : BIG, 65536, DG_VARIANT_PASSTHROUGH, n % 2, n,
                  &state, &body, &err);

    body_clear(&body);
    CONTRACT(contract, rc < 0 || n > 1, "a body whose write %u failed was committed", n);
    CONTRACT(contract, rc == 0 || err.code == DG_E_NO_SPACE, "the code %d hides the cause",
             err.code);
    CONTRACT(contract, state == (rc < 0 ? 2u : 1u), "the inner writer was left open");
  }
}

static void a_length_that_lies_is_refused(struct contract *contract, void *instance)
{
  struct dg_seal_params params = {.struct_size = sizeof params,
                                  .variant = DG_VARIANT_PASSTHROUGH,
                                  .plain_size = 1000};
  g_autofree uint8_t *data = some_bytes(2000);
  struct dg_item item = sealed_item(DG_VARIANT_PASSTHROUGH);

  for (int longer = 0; longer < 2; longer++) {
    struct memory_writer *inner = g_new0(struct memory_writer, 1);
    struct dg_meta *marks = dg_meta_new(), *kept = NULL;
    GByteArray *body = g_byte_array_new();
    struct dg_writer *writer = NULL;
    struct dg_error err = {0};
    unsigned state = 0;
    int rc;

    *inner = (struct memory_writer){{&memory_writer_ops}, body, &kept, &state, 0};
    rc = dg_crypt_seal(instance, &crypt_call, &params, &inner->writer, marks, &writer, &err);
    if (rc == 0) {
      rc = dg_writer_write(writer, data, longer ? 1001 : 999, &err);
      if (rc < 0)
        dg_writer_abort(writer);
      else
        rc = dg_writer_commit(writer, &item, marks, NULL, &err);
    }
    dg_meta_unref(marks);
    dg_meta_unref(kept);
    g_byte_array_unref(body);
    CONTRACT(contract, rc < 0, "a body %s than announced was committed",
             longer ? "longer" : "shorter");
    CONTRACT(contract, state == 2, "the inner writer was not aborted");
  }
}

static void marks_are_marks(struct contract *contract, void *instance)
{
  uint8_t byte = 0;
  struct body body;
  bool good;

  if (must_seal(contract, instance, &byte, 1, 1, DG_VARIANT_PASSTHROUGH, true, &body) < 0)
    return;
  good = dg_meta_user(body.meta, DG_MARK_ALGORITHM).len > 0;
  for (uint32_t i = 0; i < body.meta->user_count; i++)
    good = good && (dg_slice_equal_str(body.meta->user[i].name, DG_MARK_ALGORITHM) ||
                    dg_slice_equal_str(body.meta->user[i].name, DG_MARK_KEY_ID));
  for (uint32_t i = 0; i < body.meta->extension_count; i++)
    good = good && dg_slice_starts_with(body.meta->extensions[i].name, DG_SLICE(DG_MARK_PREFIX));
  body_clear(&body);
  CONTRACT(contract, good, "a mark has a name that the host does not know as one");
}

static void unmarked_metadata_is_not_sealed(struct contract *contract, void *instance)
{
  struct dg_meta *meta = dg_meta_new();
  uint64_t plain_size = 0;
  struct dg_error err;
  bool claimed;

  meta->stored_size = 1000;
  claimed = dg_crypt_sealed(instance, meta, &plain_size);
  (void)dg_meta_add_user(meta, DG_SLICE(DG_MARK_ALGORITHM), DG_SLICE("rot13"), &err);
  claimed = claimed || dg_crypt_sealed(instance, meta, &plain_size);
  dg_meta_unref(meta);
  CONTRACT(contract, !claimed, "sealed() claims what it did not seal");
}

static void headers_are_given(struct contract *contract, void *instance)
{
  const struct dg_pair *pairs = NULL;
  struct dg_error err = {0};
  uint32_t count = 0;

  CONTRACT(contract, dg_crypt_native_headers(instance, &pairs, &count, &err) == 0, "%s",
           err.detail);
  CONTRACT(contract, count > 0, "native_headers gives no header");
  for (uint32_t i = 0; i < count; i++) {
    CONTRACT(contract, dg_slice_starts_with(pairs[i].name, DG_SLICE("x-amz-")),
             "the header '%.*s' does not begin with x-amz-", DG_SLICE_ARG(pairs[i].name));
    for (size_t at = 0; at < pairs[i].value.len; at++)
      CONTRACT(contract, pairs[i].value.data[at] >= ' ' && pairs[i].value.data[at] <= '~',
               "the value of '%.*s' is no header text", DG_SLICE_ARG(pairs[i].name));
  }
}

static const struct contract_case sealing[] = {
  {"every size comes back, as every variant", every_size_comes_back, 0},
  {"writes of any length make the same body", writes_of_any_length_make_the_same_body, 0},
  {"the sealed size is told before", the_sealed_size_is_told_before, 0},
  {"ranges are exact", ranges_are_exact, 0},
  {"locate tells what a range needs", locate_tells_what_a_range_needs, 0},
  {"nothing of the plaintext shows", nothing_of_the_plaintext_shows, 0},
  {"the same bytes are never sealed alike", the_same_bytes_are_never_sealed_alike, 0},
  {"a changed byte is noticed", a_changed_byte_is_noticed, 0},
  {"a cut or grown body is noticed", a_cut_or_grown_body_is_noticed, 0},
  {"parts of two bodies do not mix", parts_of_two_bodies_do_not_mix, 0},
  {"a failed write fails the body", a_failed_write_fails_the_body, 0},
  {"a length that lies is refused", a_length_that_lies_is_refused, 0},
  {"marks are marks", marks_are_marks, 0},
  {"unmarked metadata is not sealed", unmarked_metadata_is_not_sealed, 0},
};
static const struct contract_case native[] = {
  {"headers are given", headers_are_given, 0},
};

void contract_crypt(struct contract *contract)
{
  struct dg_crypt *crypt = NULL;
  struct dg_error err = {0};

  if (dg_crypt_new(contract->module, "contract", contract->config, &contract->services, &crypt,
                   &err) < 0) {
    contract->number++;
    contract->failed++;
    (void)printf("not ok %u - create\n# %s\n", contract->number, err.detail);
    return;
  }
  if (dg_crypt_has(crypt, DG_CAP_SEALS_NATIVELY))
    for (size_t i = 0; i < G_N_ELEMENTS(native); i++)
      contract_run(contract, &native[i], crypt, true);
  else
    for (size_t i = 0; i < G_N_ELEMENTS(sealing); i++)
      contract_run(contract, &sealing[i], crypt, true);
  dg_crypt_free(crypt);
}
