/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads that the storage joins: DG_CAP_NATIVE_UPLOAD. */
#include "config.h"

#include "common/checksum.h"
#include "common/hex.h"
#include "common/meta.h"
#include "core/plug/backend.h"
#include "tests/contract/backend.h"
#include "tests/contract/contract.h"

#include "common/banned.h"

#define LARGE (5u << 20)
#define call (&contract_call)

/* An upload of one key under way. */
struct upload {
  struct dg_backend *backend;
  struct dg_item item;
  char *token;
  struct dg_upload_piece pieces[4];
  char tags[4][DG_PART_TAG_MAX];
  uint32_t count;
};

static int begin(struct contract *contract, struct upload *upload, struct dg_backend *backend,
                 const char *key)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};
  int status;

  *upload = (struct upload){
    .backend = backend, .item = contract_item(CONTRACT_BUCKET, key, DG_VARIANT_PASSTHROUGH)};
  (void)dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, DG_SLICE("text/x-parts"), &err);
  (void)dg_meta_add_user(meta, DG_SLICE("colour"), DG_SLICE("gr\xc3\xbcn"), &err);
  (void)dg_meta_add_extension(meta, DG_SLICE("cache-control"), DG_SLICE("no-store"), &err);
  status = dg_backend_upload_begin(backend, call, &upload->item, meta, &upload->token, &err);
  dg_meta_unref(meta);
  CONTRACT_INT(contract, status == 0, "begin: %s", err.detail);
  return 0;
}

static void end(struct upload *upload)
{
  struct dg_error err;

  if (upload->token)
    (void)dg_backend_upload_abort(upload->backend, call, &upload->item, upload->token, &err);
  (void)dg_backend_remove(upload->backend, call, &upload->item, &err);
  g_free(upload->token);
}

static int open_part(struct upload *upload, uint32_t part_no, const uint8_t *data, size_t len,
                     size_t sent, struct dg_writer **ret_writer, struct dg_error *err)
{
  struct dg_writer *writer;

  if (dg_backend_upload_part(upload->backend, call, &upload->item, upload->token, part_no, len,
                             &writer, err) < 0)
    return -1;
  for (size_t at = 0, step = 1; at < sent; step = step * 3 + 1) {
    size_t part = MIN(step, sent - at);

    if (dg_writer_write(writer, data + at, part, err) < 0) {
      dg_writer_abort(writer);
      return -1;
    }
    at += part;
  }
  *ret_writer = writer;
  return 0;
}

/* Makes piece number `piece` of it, a part of that number plus one. */
static int try_part(struct upload *upload, uint32_t piece, const uint8_t *data, size_t len,
                    struct dg_error *err)
{
  struct dg_commit_result result = {.struct_size = sizeof result};
  struct dg_meta *meta = dg_meta_new();
  struct dg_checksum sum = {0};
  struct dg_writer *writer;
  uint8_t digest[DG_SUM_MAX_BYTES];
  char hex[33];
  int status = open_part(upload, piece + 1, data, len, len, &writer, err);

  dg_checksum_init(&sum, DG_SUM_MD5);
  dg_checksum_update(&sum, data, len);
  (void)dg_checksum_final(&sum, digest);
  dg_checksum_clear(&sum);
  dg_hex_encode(digest, 16, hex);
  meta->file_size = len;
  (void)dg_meta_set(meta, DG_FIELD_MD5, contract_slice(hex), err);
  if (status == 0)
    status = dg_writer_commit(writer, &upload->item, meta, &result, err);
  dg_meta_unref(meta);
  if (status < 0)
    return -1;
  (void)g_strlcpy(upload->tags[piece], result.tag, sizeof upload->tags[piece]);
  upload->pieces[piece] = (struct dg_upload_piece){.struct_size = sizeof upload->pieces[piece],
                                                   .part_no = piece + 1,
                                                   .tag = contract_slice(upload->tags[piece])};
  upload->count = MAX(upload->count, piece + 1);
  return 0;
}

static int send_part(struct contract *contract, struct upload *upload, uint32_t piece,
                     const uint8_t *data, size_t len)
{
  struct dg_error err = {0};

  CONTRACT_INT(contract, try_part(upload, piece, data, len, &err) == 0, "part %u: %s", piece + 1,
               err.detail);
  CONTRACT_INT(contract, upload->tags[piece][0], "part %u has no tag", piece + 1);
  return 0;
}

static int complete(struct upload *upload, struct dg_meta *meta, struct dg_error *err)
{
  return dg_backend_upload_complete(upload->backend, call, &upload->item, upload->token,
                                    upload->pieces, upload->count, meta, err);
}

static bool same(struct dg_slice a, struct dg_slice b)
{
  return a.len == b.len && (a.len == 0 || !memcmp(a.data, b.data, a.len));
}

/* What complete() told is what head() tells. */
static int check_told(struct contract *contract, const struct upload *upload,
                      const struct dg_meta *told, size_t size)
{
  struct dg_meta *head = dg_meta_new();
  struct dg_error err = {0};
  int status = dg_backend_head(upload->backend, call, &upload->item, head, &err);
  bool equal = status == 0 && same(head->unmanaged_etag, told->unmanaged_etag) &&
               same(head->validator, told->validator) && head->flags == told->flags &&
               head->file_size == told->file_size && head->created_at_s == told->created_at_s;

  dg_meta_unref(head);
  CONTRACT_INT(contract, status == 0, "head: %s", err.detail);
  CONTRACT_INT(contract, equal, "completion and head tell different things");
  CONTRACT_INT(contract, told->flags == (DG_META_UNMANAGED | DG_META_PLAIN), "its flags are %u",
               told->flags);
  CONTRACT_INT(contract, told->file_size == size && told->stored_size == size,
               "it has %llu bytes of %zu", (unsigned long long)told->file_size, size);
  CONTRACT_INT(contract, told->unmanaged_etag.len, "it has no ETag");
  CONTRACT_INT(contract, same(told->content_type, DG_SLICE("text/x-parts")),
               "its content type is '%.*s'", (int)told->content_type.len, told->content_type.data);
  CONTRACT_INT(contract, same(dg_meta_user(told, "colour"), DG_SLICE("gr\xc3\xbcn")),
               "its user metadata are not kept");
  CONTRACT_INT(contract, same(dg_meta_extension(told, "cache-control"), DG_SLICE("no-store")),
               "its headers are not kept");
  return 0;
}

static void parts_in_any_order_become_an_object(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = g_malloc(2 * LARGE + 1000);
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};
  struct upload upload = {0};

  contract_bytes(data, 2 * LARGE + 1000, 7);
  if (begin(contract, &upload, instance, "up/parts.bin") < 0 ||
      send_part(contract, &upload, 2, data + 2 * LARGE, 1000) < 0 ||
      send_part(contract, &upload, 0, data, LARGE) < 0 ||
      send_part(contract, &upload, 1, data + LARGE, LARGE) < 0 ||
      contract_expect_error(contract, instance, &upload.item, DG_E_NO_SUCH_KEY) < 0)
    goto out;
  if (complete(&upload, meta, &err) < 0)
    contract_fail(contract, "complete: %s", err.detail);
  else if (check_told(contract, &upload, meta, 2 * LARGE + 1000) == 0)
    (void)contract_expect(contract, instance, &upload.item, data, 2 * LARGE + 1000);
out:
  dg_meta_unref(meta);
  end(&upload);
}

static void a_completion_may_be_repeated(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = g_malloc(100000);
  struct dg_meta *meta = dg_meta_new(), *again = dg_meta_new();
  struct dg_error err = {0};
  struct upload upload = {0};

  contract_bytes(data, 100000, 8);
  if (begin(contract, &upload, instance, "up/again.bin") < 0 ||
      send_part(contract, &upload, 0, data, 100000) < 0)
    goto out;
  if (complete(&upload, meta, &err) < 0)
    contract_fail(contract, "the first: %s", err.detail);
  else if (complete(&upload, again, &err) < 0)
    contract_fail(contract, "the second: %s", err.detail);
  else if (!same(meta->validator, again->validator))
    contract_fail(contract, "the second made another object");
  dg_meta_clear(again);
  if (contract->failure)
    goto out;
  if (dg_backend_remove(instance, call, &upload.item, &err) < 0)
    contract_fail(contract, "remove: %s", err.detail);
  else if (complete(&upload, again, &err) == 0 || err.code != DG_E_NO_SUCH_UPLOAD)
    contract_fail(contract, "once the object is gone: code %d", err.code);
out:
  dg_meta_unref(meta);
  dg_meta_unref(again);
  end(&upload);
}

static void a_part_is_replaced_whole_or_not_at_all(struct contract *contract, void *instance)
{
  g_autofree uint8_t *old = g_malloc(LARGE), *new = g_malloc(LARGE);
  struct dg_meta *meta = dg_meta_new();
  struct dg_writer *writer;
  struct dg_error err = {0};
  struct upload upload = {0};

  contract_bytes(old, LARGE, 9);
  contract_bytes(new, LARGE, 10);
  if (begin(contract, &upload, instance, "up/replaced.bin") < 0 ||
      send_part(contract, &upload, 0, old, LARGE) < 0 ||
      send_part(contract, &upload, 1, old, 1000) < 0 ||
      send_part(contract, &upload, 1, new, 2000) < 0)
    goto out;
  if (open_part(&upload, 1, new, LARGE, LARGE, &writer, &err) < 0) {
    contract_fail(contract, "a part that is aborted: %s", err.detail);
    goto out;
  }
  dg_writer_abort(writer); /* with all its bytes written */
  if (complete(&upload, meta, &err) < 0) {
    contract_fail(contract, "complete: %s", err.detail);
    goto out;
  }
  old = g_realloc(old, LARGE + 2000);
  memcpy(old + LARGE, new, 2000);
  (void)contract_expect(contract, instance, &upload.item, old, LARGE + 2000);
out:
  dg_meta_unref(meta);
  end(&upload);
}

static void parts_that_are_not_there_are_refused(struct contract *contract, void *instance)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};
  struct upload upload = {0};

  if (begin(contract, &upload, instance, "up/wrong.bin") < 0 ||
      send_part(contract, &upload, 0, (const uint8_t *)"first", 5) < 0)
    goto out;
  upload.pieces[0].tag = DG_SLICE("0123456789abcdef0123456789abcdef");
  if (complete(&upload, meta, &err) == 0 || err.code != DG_E_INVALID_PART)
    contract_fail(contract, "another tag: code %d", err.code);
  upload.pieces[0].tag = contract_slice(upload.tags[0]);
  upload.pieces[1] = upload.pieces[0];
  upload.pieces[1].part_no = 2;
  upload.count = 2;
  dg_meta_clear(meta);
  if (complete(&upload, meta, &err) == 0 || err.code != DG_E_INVALID_PART)
    contract_fail(contract, "a part that was not sent: code %d", err.code);
  if (contract_expect_error(contract, instance, &upload.item, DG_E_NO_SUCH_KEY) < 0)
    goto out;
  upload.count = 1;
  dg_meta_clear(meta);
  if (complete(&upload, meta, &err) < 0)
    contract_fail(contract, "after the refusals: %s", err.detail);
  else
    (void)contract_expect(contract, instance, &upload.item, "first", 5);
out:
  dg_meta_unref(meta);
  end(&upload);
}

static void an_aborted_upload_leaves_nothing(struct contract *contract, void *instance)
{
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};
  struct upload upload = {0};

  if (begin(contract, &upload, instance, "up/aborted.bin") < 0 ||
      send_part(contract, &upload, 0, (const uint8_t *)"gone", 4) < 0)
    goto out;
  if (dg_backend_upload_abort(instance, call, &upload.item, upload.token, &err) < 0)
    contract_fail(contract, "abort: %s", err.detail);
  else if (dg_backend_upload_abort(instance, call, &upload.item, upload.token, &err) == 0 ||
           err.code != DG_E_NO_SUCH_UPLOAD)
    contract_fail(contract, "a second abort: code %d", err.code);
  else if (try_part(&upload, 1, (const uint8_t *)"late", 4, &err) == 0 ||
           err.code != DG_E_NO_SUCH_UPLOAD)
    contract_fail(contract, "a part after the abort: code %d", err.code);
  else if (complete(&upload, meta, &err) == 0 || err.code != DG_E_NO_SUCH_UPLOAD)
    contract_fail(contract, "a completion after the abort: code %d", err.code);
  else
    (void)contract_expect_error(contract, instance, &upload.item, DG_E_NO_SUCH_KEY);
out:
  dg_meta_unref(meta);
  end(&upload);
}

static void an_upload_outlives_the_instance(struct contract *contract, void *instance)
{
  struct dg_backend **backend = instance;
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};
  struct upload upload = {0};

  if (begin(contract, &upload, *backend, "up/durable.bin") < 0 ||
      send_part(contract, &upload, 0, (const uint8_t *)"still here", 10) < 0)
    goto out;
  dg_backend_free(*backend);
  *backend = upload.backend = NULL;
  if (dg_backend_new(contract->module, "contract", contract->config, &contract->services, backend,
                     &err) < 0) {
    contract_fail(contract, "the second create: %s", err.detail);
    dg_meta_unref(meta);
    g_free(upload.token);
    return;
  }
  upload.backend = *backend;
  if (complete(&upload, meta, &err) < 0)
    contract_fail(contract, "complete: %s", err.detail);
  else
    (void)contract_expect(contract, *backend, &upload.item, "still here", 10);
out:
  dg_meta_unref(meta);
  end(&upload);
}

/* The version is that of head(); a storage may not know the parts. */
static int locate(struct upload *upload, uint32_t part_no, struct dg_range *ret_range,
                  struct dg_error *err)
{
  struct dg_meta *meta = dg_meta_new();
  int status = dg_backend_head(upload->backend, call, &upload->item, meta, err);

  if (status == 0)
    status = dg_backend_locate_part(upload->backend, call, &upload->item, meta->validator, part_no,
                                    ret_range, err);
  dg_meta_unref(meta);
  return status;
}

static void a_part_is_found_or_not_known(struct contract *contract, void *instance)
{
  g_autofree uint8_t *data = g_malloc(LARGE + 1000);
  struct dg_meta *meta = dg_meta_new();
  struct dg_range range = {1, 1};
  struct dg_error err = {0};
  struct upload upload = {0};

  contract_bytes(data, LARGE + 1000, 13);
  if (begin(contract, &upload, instance, "up/located.bin") < 0 ||
      send_part(contract, &upload, 0, data, LARGE) < 0 ||
      send_part(contract, &upload, 1, data + LARGE, 1000) < 0)
    goto out;
  if (complete(&upload, meta, &err) < 0) {
    contract_fail(contract, "complete: %s", err.detail);
  } else if (locate(&upload, 2, &range, &err) < 0) {
    if (err.code != DG_E_UNSUPPORTED)
      contract_fail(contract, "part 2: code %d: %s", err.code, err.detail);
    else if (range.offset != 1 || range.length != 1)
      contract_fail(contract, "a failure leaves a range");
  } else if (range.offset != LARGE || range.length != 1000) {
    contract_fail(contract, "part 2 has %llu bytes from %llu", (unsigned long long)range.length,
                  (unsigned long long)range.offset);
  } else if (locate(&upload, 3, &range, &err) == 0 || err.code != DG_E_INVALID_RANGE) {
    contract_fail(contract, "part 3 of 2: code %d", err.code);
  } else if (dg_backend_locate_part(instance, call, &upload.item, DG_SLICE("another version"), 1,
                                    &range, &err) == 0 ||
             err.code != DG_E_PRECONDITION_FAILED) {
    contract_fail(contract, "another version: code %d", err.code);
  }
out:
  dg_meta_unref(meta);
  end(&upload);
}

static const struct contract_case cases[] = {
  {"parts in any order become an object", parts_in_any_order_become_an_object,
   DG_CAP_NATIVE_UPLOAD},
  {"a completion may be repeated", a_completion_may_be_repeated, DG_CAP_NATIVE_UPLOAD},
  {"a part is replaced whole or not at all", a_part_is_replaced_whole_or_not_at_all,
   DG_CAP_NATIVE_UPLOAD},
  {"parts that are not there are refused", parts_that_are_not_there_are_refused,
   DG_CAP_NATIVE_UPLOAD},
  {"an aborted upload leaves nothing", an_aborted_upload_leaves_nothing, DG_CAP_NATIVE_UPLOAD},
  {"a part is found or not known", a_part_is_found_or_not_known,
   DG_CAP_NATIVE_UPLOAD | DG_CAP_LOCATE_PART},
};

static const struct contract_case outlives = {"an upload outlives the instance",
                                              an_upload_outlives_the_instance,
                                              DG_CAP_NATIVE_UPLOAD};

void contract_backend_upload(struct contract *contract, struct dg_backend **backend)
{
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    contract_run(contract, &cases[i], *backend, dg_backend_has(*backend, cases[i].caps));
  contract_run(contract, &outlives, backend, dg_backend_has(*backend, outlives.caps));
}
