/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "copy.h"

#include "bucket.h"
#include "common/uri.h"
#include "item.h"
#include "lease.h"
#include "metahdr.h"
#include "metaindex.h"
#include "names.h"
#include "native.h"
#include "run.h"
#include "upload.h"
#include "xmlread.h"

#include "common/banned.h"

/* The upstream copies no more in one request. */
#define COPY_MAX_BYTES (UINT64_C(5) << 30)

struct copy {
  struct dg_s3 *s3;
  const struct dg_call *call;
  struct dg_slice from_bucket, from_name, bucket, name;
  const struct dg_s3_facts *facts; /* of the source */
  GPtrArray *headers;              /* whole names, values: what the copy is stored with */
};

static bool is_marked(const struct dg_meta *meta)
{
  for (uint32_t i = 0; i < meta->user_count; i++)
    if (dg_slice_starts_with(meta->user[i].name, DG_SLICE("dg-encrypt")))
      return true;
  return false;
}

/* Appends what dg_s3_request_meta() would send. */
static void take_managed(GPtrArray *headers, const GPtrArray *pairs)
{
  g_ptr_array_add(headers, g_strdup("content-type"));
  g_ptr_array_add(headers, g_strdup(DG_S3_CONTENT_TYPE));
  for (guint i = 0; i + 1 < pairs->len; i += 2) {
    g_ptr_array_add(headers, g_strconcat("x-amz-meta-", pairs->pdata[i], NULL));
    g_ptr_array_add(headers, g_strdup(pairs->pdata[i + 1]));
  }
}

static void set_request(const struct copy *copy, struct dg_s3_request *request)
{
  g_autoptr(GString) source = g_string_new("/");
  g_autofree char *match = g_strdup_printf("\"%s\"", copy->facts->etag);

  dg_s3_request_init(request, "PUT", copy->bucket, copy->name);
  request->repeat = DG_S3_REPEAT;
  dg_uri_encode(source, copy->from_bucket, /* keep_slash= */ false);
  g_string_append_c(source, '/');
  dg_uri_encode(source, copy->from_name, /* keep_slash= */ true);
  dg_s3_request_header(request, "x-amz-copy-source", dg_slice_of(source->str, source->len));
  if (copy->facts->etag[0])
    dg_s3_request_header(request, "x-amz-copy-source-if-match", dg_slice_str(match));
  dg_s3_request_header(request, "x-amz-metadata-directive", DG_SLICE("REPLACE"));
  dg_s3_request_seal(copy->s3, request);
  for (guint i = 0; i + 1 < copy->headers->len; i += 2)
    dg_s3_request_header(request, copy->headers->pdata[i],
                         dg_slice_str(copy->headers->pdata[i + 1]));
}

/* Is what stands under the target's name now what was asked for? */
static bool is_there(const struct copy *copy)
{
  struct dg_s3_facts *facts;
  struct dg_error err;
  guint asked = 0;
  bool same;

  if (dg_s3_look(copy->s3, copy->call, copy->bucket, copy->name, &facts, &err) < 0)
    return false;
  same = facts->size == copy->facts->size;
  for (guint i = 0; same && i + 1 < copy->headers->len; i += 2) {
    const char *name = copy->headers->pdata[i];

    if (!g_str_has_prefix(name, "x-amz-meta-"))
      continue;
    asked++;
    same = dg_slice_equal_str(dg_s3_facts_find(facts, name + strlen("x-amz-meta-")),
                              copy->headers->pdata[i + 1]);
  }
  same = same && asked == dg_s3_facts_meta_count(facts);
  dg_s3_facts_unref(facts);
  return same;
}

/* ETags of bodies that were sent whole are their MD5: the copy has the source's. */
static int check_etag(const struct copy *copy, const struct dg_s3_answer *answer, const char *etag,
                      struct dg_error *err)
{
  char plain[136];

  dg_s3_etag_copy(plain, dg_slice_str(etag));
  if (answer->sealed_upstream || copy->facts->sealed_upstream || strlen(plain) != 32 ||
      strlen(copy->facts->etag) != 32 || strcmp(plain, copy->facts->etag) == 0)
    return 0;
  return dg_fail(err, DG_E_IO, "upstream copied other bytes: the ETag is %s", plain);
}

static int send_copy(const struct copy *copy, struct dg_error *err)
{
  g_autofree char *etag = NULL;
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  set_request(copy, &request);
  dg_s3_answer_init(&answer);
  rc = dg_s3_lease_guard(copy->s3, copy->call, &request, err);
  if (rc == 0)
    rc = dg_s3_run(copy->s3, copy->call, &request, &answer, err);
  dg_s3_metaindex_drop(copy->s3->index, copy->bucket, copy->name);
  if (rc == 0 && !dg_s3_xml_find(dg_slice_of(answer.body->str, answer.body->len), "ETag", &etag))
    rc = dg_fail(err, DG_E_IO, "upstream answered a copy with something else");
  else if (rc == 0)
    rc = check_etag(copy, &answer, etag, err);
  /* The answer may be lost, and the copy made; or made by an attempt before this one. */
  if (rc < 0 && err->code != DG_E_NO_SUCH_BUCKET && (!etag || !etag[0])) {
    struct dg_error cause = *err;

    if (is_there(copy))
      rc = dg_s3_lease_confirm(copy->s3, copy->bucket, copy->name, err);
    else
      *err = cause;
  }
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

static int name_of(const struct dg_item *item, GString *name, int32_t code, struct dg_error *err)
{
  if (!dg_s3_name_append(name, item->key, item->variant))
    return dg_fail(err, code, "the key is too long for this variant");
  return 0;
}

int dg_s3_set_meta(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                   const struct dg_meta *meta, struct dg_error *err)
{
  g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) name = g_string_new(NULL);
  struct copy copy = {.s3 = s3, .call = call, .headers = headers};
  struct dg_s3_facts *facts;
  int rc;

  if (name_of(item, name, DG_E_NO_SUCH_KEY, err) < 0 || dg_s3_meta_write(meta, pairs, err) < 0)
    return -1;
  copy.from_bucket = copy.bucket = item->bucket;
  copy.from_name = copy.name = dg_slice_of(name->str, name->len);
  if (dg_s3_look(s3, call, item->bucket, copy.name, &facts, err) < 0)
    return -1;
  copy.facts = facts;
  take_managed(headers, pairs);
  if (is_marked(meta) || facts->size > COPY_MAX_BYTES)
    rc = dg_fail(err, DG_E_UNSUPPORTED, "a sealed or huge object is not copied onto itself");
  else
    rc = send_copy(&copy, err);
  dg_s3_facts_unref(facts);
  return rc;
}

/* ---- To another name -------------------------------------------------------------------- */

static int fill_headers(const struct dg_meta *meta, GPtrArray *headers, struct dg_error *err)
{
  g_autoptr(GPtrArray) pairs = NULL;
  char mark[DG_S3_UPLOAD_MARK_SIZE];

  if (meta->flags & DG_META_UNMANAGED) {
    dg_s3_upload_mark(mark);
    return dg_s3_meta_write_plain(meta, mark, headers, err);
  }
  pairs = g_ptr_array_new_with_free_func(g_free);
  if (dg_s3_meta_write(meta, pairs, err) < 0)
    return -1;
  take_managed(headers, pairs);
  return 0;
}

static int check_source(const struct dg_s3_facts *facts, struct dg_slice validator,
                        struct dg_error *err)
{
  uint8_t now[DG_S3_VALIDATOR_BYTES];

  dg_s3_facts_validator(facts, now);
  if (validator.len != sizeof now || memcmp(validator.data, now, sizeof now) != 0)
    return dg_fail(err, DG_E_PRECONDITION_FAILED, "the source changed");
  if (facts->size > COPY_MAX_BYTES)
    return dg_fail(err, DG_E_UNSUPPORTED, "too large to be copied in one request");
  for (uint32_t i = 0; i < facts->pair_count; i++)
    if (dg_slice_starts_with(facts->pairs[i].name, DG_SLICE("user-dg-encrypt")))
      return dg_fail(err, DG_E_UNSUPPORTED, "the source is sealed");
  return 0;
}

int dg_s3_copy(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *from,
               struct dg_slice validator, const struct dg_item *to, const struct dg_meta *meta,
               struct dg_error *err)
{
  g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) from_name = g_string_new(NULL);
  g_autoptr(GString) name = g_string_new(NULL);
  struct copy copy = {.s3 = s3, .call = call, .from_bucket = from->bucket, .bucket = to->bucket,
                      .headers = headers};
  struct dg_s3_facts *facts;
  int rc;

  if (name_of(from, from_name, DG_E_NO_SUCH_KEY, err) < 0 ||
      name_of(to, name, DG_E_KEY_TOO_LONG, err) < 0 || fill_headers(meta, headers, err) < 0)
    return -1;
  copy.from_name = dg_slice_of(from_name->str, from_name->len);
  copy.name = dg_slice_of(name->str, name->len);
  if (dg_s3_look(s3, call, from->bucket, copy.from_name, &facts, err) < 0)
    return -1;
  copy.facts = facts;
  rc = check_source(facts, validator, err);
  if (rc == 0) {
    rc = send_copy(&copy, err);
    if (rc < 0 && err->code == DG_E_NO_SUCH_BUCKET)
      dg_s3_bucket_forget(s3, to->bucket);
    /* Refused as such: it knows no copies, or none like this one. */
    if (rc < 0 && (err->code == DG_E_INTERNAL || err->code == DG_E_ENTITY_TOO_LARGE))
      err->code = DG_E_UNSUPPORTED;
  }
  dg_s3_facts_unref(facts);
  return rc;
}
