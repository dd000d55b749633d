/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "writer.h"

#include "bucket.h"
#include "conditions.h"
#include "facts.h"
#include "lease.h"
#include "metahdr.h"
#include "metaindex.h"
#include "names.h"
#include "run.h"
#include "spool.h"
#include "upload.h"

#include "common/banned.h"

/* A PutObject takes no more. */
#define SINGLE_MAX_BYTES (UINT64_C(5) << 30)

struct s3_writer {
  struct dg_writer writer; /* first: the public face */
  struct dg_s3 *s3;
  const struct dg_call *call; /* borrowed as long as the writer lives */
  struct dg_s3_spool *spool;
};

static int writer_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct s3_writer *self = (struct s3_writer *)writer;

  if (dg_s3_check_call(self->call, err) < 0)
    return -1;
  return dg_s3_spool_append(self->spool, data, len, err);
}

static void writer_free(struct s3_writer *self)
{
  dg_s3_spool_unref(self->spool);
  g_free(self);
}

static void writer_abort(struct dg_writer *writer)
{
  if (writer)
    writer_free((struct s3_writer *)writer);
}

static int writer_read_back(struct dg_writer *writer, struct dg_reader **ret_reader,
                            struct dg_error *err)
{
  struct s3_writer *self = (struct s3_writer *)writer;

  (void)err;
  *ret_reader = dg_s3_spool_reader(self->spool);
  return 0;
}

/* ---- Commit ------------------------------------------------------------------------------ */

/* Are the bytes the object's own, neither delta nor sealed? Then its digests
 * are theirs. */
static bool is_plain(const struct s3_writer *self, const struct dg_meta *meta)
{
  if (meta->variant == DG_VARIANT_DELTA || meta->file_size != self->spool->length)
    return false;
  for (uint32_t i = 0; i < meta->user_count; i++)
    if (dg_slice_starts_with(meta->user[i].name, DG_SLICE("dg-encrypt")))
      return false;
  return true;
}

static int digest_of(const struct s3_writer *self, const struct dg_meta *meta, char sha256[65],
                     struct dg_error *err)
{
  if (!is_plain(self, meta) || meta->file_sha256.len != 64 || self->spool->length <= 1024 * 1024)
    return dg_s3_spool_sha256(self->spool, 0, self->spool->length, sha256, err);
  memcpy(sha256, meta->file_sha256.data, 65);
  return 0;
}

/* An ETag that looks like the MD5 of the body, and is another one. */
static bool is_other_md5(const struct s3_writer *self, const struct dg_meta *meta,
                         const struct dg_s3_answer *answer)
{
  return is_plain(self, meta) && meta->md5.len == 32 && !answer->sealed_upstream &&
         strlen(answer->etag) == 32 && strspn(answer->etag, "0123456789abcdefABCDEF") == 32 &&
         !dg_slice_equal_nocase(meta->md5, dg_slice_str(answer->etag));
}

static int put_object(struct s3_writer *self, struct dg_slice bucket, struct dg_slice name,
                      const struct dg_meta *meta, const GPtrArray *pairs, bool if_absent,
                      struct dg_s3_answer *answer, struct dg_error *err)
{
  struct dg_s3_body body = dg_s3_spool_body(self->spool, 0, self->spool->length);
  struct dg_s3_request request;
  char sha256[65];
  int rc;

  if (digest_of(self, meta, sha256, err) < 0)
    return -1;
  dg_s3_request_init(&request, "PUT", bucket, name);
  dg_s3_request_meta(self->s3, &request, pairs);
  if (if_absent)
    dg_s3_request_header(&request, "if-none-match", DG_SLICE("*"));
  dg_s3_request_body(&request, &body, sha256);
  rc = dg_s3_lease_guard(self->s3, self->call, &request, err);
  if (rc == 0)
    rc = dg_s3_run(self->s3, self->call, &request, answer, err);
  dg_s3_request_clear(&request);
  /* What is there may be our own first attempt, whose answer was lost. */
  if (rc < 0 && if_absent && err->code == DG_E_PRECONDITION_FAILED &&
      dg_s3_stored_is(self->s3, self->call, bucket, name, self->spool->length, pairs))
    rc = dg_s3_lease_confirm(self->s3, bucket, name, err);
  if (rc == 0 && is_other_md5(self, meta, answer))
    rc = dg_fail(err, DG_E_IO, "upstream stored other bytes: its ETag is %s", answer->etag);
  return rc;
}

/* What a HEAD would tell, so that the next listing need not ask. */
static void remember(struct s3_writer *self, struct dg_slice bucket, struct dg_slice name,
                     const GPtrArray *pairs, struct dg_s3_answer *answer)
{
  struct dg_s3_facts *facts;

  if (!answer->etag[0] || !answer->date_s) {
    dg_s3_metaindex_drop(self->s3->index, bucket, name);
    return;
  }
  g_ptr_array_set_size(answer->meta, 0);
  for (guint i = 0; i < pairs->len; i++)
    g_ptr_array_add(answer->meta, g_strdup(pairs->pdata[i]));
  (void)g_strlcpy(answer->content_type, DG_S3_CONTENT_TYPE, sizeof answer->content_type);
  answer->last_modified_s = 0;
  facts = dg_s3_facts_new(answer, self->spool->length);
  dg_s3_metaindex_put(self->s3->index, bucket, name, facts);
  dg_s3_facts_unref(facts);
}

static int commit(struct s3_writer *self, const struct dg_item *item, const struct dg_meta *meta,
                  struct dg_error *err)
{
  g_autoptr(GPtrArray) pairs = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) text = g_string_new(NULL);
  uint64_t length = self->spool->length;
  struct dg_s3_answer answer;
  struct dg_slice name;
  bool if_absent = false;
  int rc;

  if (dg_s3_check_call(self->call, err) < 0)
    return -1;
  if (!dg_s3_name_append(text, item->key, item->variant))
    return dg_fail(err, DG_E_KEY_TOO_LONG, "the key is too long for this variant");
  if (dg_s3_meta_write(meta, pairs, err) < 0)
    return -1;
  name = dg_slice_of(text->str, text->len);
  if ((item->flags & DG_ITEM_IF_ABSENT) &&
      dg_s3_conditions_proven(self->s3, self->call, item->bucket, &if_absent, err) < 0)
    return -1;
  dg_s3_answer_init(&answer);
  /* In one piece if there is a condition: not every upstream knows it at the end
   * of an upload in parts. */
  if (length > SINGLE_MAX_BYTES || (length > self->s3->multipart_from && !if_absent))
    rc = dg_s3_upload(self->s3, self->call, item->bucket, name, pairs, self->spool, if_absent,
                      &answer, err);
  else
    rc = put_object(self, item->bucket, name, meta, pairs, if_absent, &answer, err);
  if (rc == 0)
    remember(self, item->bucket, name, pairs, &answer);
  else
    dg_s3_metaindex_drop(self->s3->index, item->bucket, name);
  if (rc < 0 && err->code == DG_E_NO_SUCH_BUCKET)
    dg_s3_bucket_forget(self->s3, item->bucket);
  /* An upload must find its bucket: "no such key" can mean nothing else. */
  if (rc < 0 && err->code == DG_E_NO_SUCH_KEY)
    err->code = DG_E_NO_SUCH_BUCKET;
  dg_s3_answer_clear(&answer);
  return rc;
}

static int writer_commit(struct dg_writer *writer, const struct dg_item *item,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct s3_writer *self = (struct s3_writer *)writer;
  int rc = commit(self, item, meta, err);

  if (rc == 0 && ret_result)
    ret_result->stored_size = self->spool->length;
  writer_free(self);
  return rc;
}

static const struct dg_writer_ops writer_ops = {
  .struct_size = sizeof writer_ops,
  .write = writer_write,
  .commit = writer_commit,
  .abort = writer_abort,
  .read_back = writer_read_back,
};

int dg_s3_put(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
              uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err)
{
  g_autoptr(GString) name = g_string_new(NULL);
  struct s3_writer *self;

  if (!dg_s3_name_append(name, item->key, item->variant))
    return dg_fail(err, DG_E_KEY_TOO_LONG, "the key is too long for this variant");
  if (dg_s3_bucket_expect(s3, call, item->bucket, err) < 0)
    return -1;
  self = g_new0(struct s3_writer, 1);
  self->writer.ops = &writer_ops;
  self->s3 = s3;
  self->call = call;
  self->spool = dg_s3_spool_new(s3->spool_dir);
  /* Else there is one digest, of the whole, which the metadata will tell. Were the hint
   * wrong, no part would be found among these. */
  if (size_hint != DG_TO_END && size_hint > s3->multipart_from)
    dg_s3_spool_sum_parts(self->spool, dg_s3_part_size(size_hint, s3->part_bytes), s3->crew);
  *ret_writer = &self->writer;
  return 0;
}
