/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "item.h"

#include "doubts.h"
#include "lease.h"
#include "metahdr.h"
#include "metaindex.h"
#include "names.h"
#include "run.h"

#include "common/banned.h"

static struct dg_slice last_segment(struct dg_slice key)
{
  size_t from = key.len;

  while (from && key.data[from - 1] != '/')
    from--;
  return dg_slice_skip(key, from);
}

/* The upstream name; what cannot have one cannot be there. */
static int name_of(const struct dg_item *item, GString *name, struct dg_error *err)
{
  if (!dg_s3_name_append(name, item->key, item->variant))
    return dg_fail(err, DG_E_NO_SUCH_KEY, "the key is too long for this variant");
  return 0;
}

int dg_s3_peek(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
               struct dg_slice name, struct dg_s3_facts *facts, struct dg_error *err)
{
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  if (facts->size < 3 || dg_s3_facts_find(facts, "dg-file-sha256").len ||
      dg_s3_facts_find(facts, "file-sha256").len)
    return 0;
  dg_s3_request_init(&request, "GET", bucket, name);
  dg_s3_request_header(&request, "range", DG_SLICE("bytes=0-2"));
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, err);
  if (rc == 0)
    facts->is_stray_vcdiff =
      answer.body->len >= 3 && memcmp(answer.body->str, "\xd6\xc3\xc4", 3) == 0;
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

/* What a HEAD told, remembered; NULL with rc 0 when there is nothing. */
static int finish_head(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_job *job,
                       struct dg_s3_facts **ret_facts, struct dg_error *err)
{
  struct dg_slice name = job->request.name, bucket = job->request.bucket;
  struct dg_s3_facts *facts;

  *ret_facts = NULL;
  if (job->rc < 0 && job->err.code == DG_E_NO_SUCH_KEY) {
    dg_s3_metaindex_drop(s3->index, bucket, name);
    return 0;
  }
  if (job->rc < 0) {
    *err = job->err;
    return -1;
  }
  if (job->answer.content_length == UINT64_MAX)
    return dg_fail(err, DG_E_IO, "upstream HEAD answered without a length");
  facts = dg_s3_facts_new(&job->answer, job->answer.content_length);
  if (dg_slice_ends_with(name, dg_slice_str(DG_S3_DELTA)) &&
      dg_s3_peek(s3, call, bucket, name, facts, err) < 0) {
    dg_s3_facts_unref(facts);
    return -1;
  }
  dg_s3_metaindex_put(s3->index, bucket, name, facts);
  *ret_facts = facts;
  return 0;
}

int dg_s3_look(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
               struct dg_slice name, struct dg_s3_facts **ret_facts, struct dg_error *err)
{
  struct dg_s3_job job = {0};
  struct dg_s3_facts *facts = NULL;
  int rc;

  dg_s3_request_init(&job.request, "HEAD", bucket, name);
  rc = dg_s3_run_jobs(s3, call, &job, 1, 1, 0, err);
  if (rc == 0)
    rc = finish_head(s3, call, &job, &facts, err);
  if (rc == 0 && !facts) {
    *err = job.err;
    rc = -1;
  }
  dg_s3_job_clear(&job);
  if (rc == 0)
    *ret_facts = facts;
  return rc;
}

static int look_at(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                   struct dg_s3_facts **ret_facts, struct dg_error *err)
{
  g_autoptr(GString) name = g_string_new(NULL);

  if (name_of(item, name, err) < 0)
    return -1;
  return dg_s3_look(s3, call, item->bucket, dg_slice_of(name->str, name->len), ret_facts, err);
}

static int wait_to_stay(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                        struct dg_error *err)
{
  g_autoptr(GString) name = g_string_new(NULL);

  if (name_of(item, name, err) < 0)
    return -1;
  return dg_s3_doubt_wait_to_stay(s3, call, item->bucket, dg_slice_of(name->str, name->len), err);
}

int dg_s3_head(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
               struct dg_meta *meta, struct dg_error *err)
{
  struct dg_s3_facts *facts;
  int rc;

  /* A delta is not built on a reference that may yet be removed. */
  if (item->variant == DG_VARIANT_REFERENCE && wait_to_stay(s3, call, item, err) < 0)
    return -1;
  if (look_at(s3, call, item, &facts, err) < 0)
    return -1;
  rc = dg_s3_meta_read(s3->host, facts, item->variant, last_segment(item->key), meta, err);
  dg_s3_facts_unref(facts);
  return rc;
}

int dg_s3_head_both(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                    struct dg_slice key, struct dg_meta *passthrough, struct dg_meta *delta,
                    uint32_t *ret_found, struct dg_error *err)
{
  static const uint32_t variants[2] = {DG_VARIANT_PASSTHROUGH, DG_VARIANT_DELTA};
  static const uint32_t bits[2] = {DG_FOUND_PASSTHROUGH, DG_FOUND_DELTA};
  struct dg_meta *metas[2] = {passthrough, delta};
  g_autoptr(GString) plain_name = g_string_new(NULL);
  g_autoptr(GString) delta_name = g_string_new(NULL);
  GString *names[2] = {plain_name, delta_name};
  struct dg_s3_job jobs[2] = {0};
  uint32_t found = 0, which[2];
  size_t count = 0;
  int rc;

  for (uint32_t i = 0; i < 2; i++) {
    if (!dg_s3_name_append(names[i], key, variants[i]))
      continue; /* too long: not there */
    dg_s3_request_init(&jobs[count].request, "HEAD", bucket,
                       dg_slice_of(names[i]->str, names[i]->len));
    which[count++] = i;
  }
  rc = dg_s3_run_jobs(s3, call, jobs, count, 2, 0, err);
  for (size_t i = 0; i < count; i++) {
    struct dg_s3_facts *facts = NULL;
    uint32_t n = which[i];

    if (rc == 0)
      rc = finish_head(s3, call, &jobs[i], &facts, err);
    if (rc == 0 && facts) {
      rc = dg_s3_meta_read(s3->host, facts, variants[n], last_segment(key), metas[n], err);
      found |= bits[n];
    }
    dg_s3_facts_unref(facts);
    dg_s3_job_clear(&jobs[i]);
  }
  if (rc == 0)
    *ret_found = found;
  return rc;
}

int dg_s3_validate(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                   struct dg_slice validator, int32_t *ret_same, struct dg_error *err)
{
  uint8_t now[DG_S3_VALIDATOR_BYTES];
  struct dg_s3_facts *facts;

  if (look_at(s3, call, item, &facts, err) < 0) {
    if (err->code != DG_E_NO_SUCH_KEY && err->code != DG_E_NO_SUCH_BUCKET)
      return -1;
    *ret_same = 0;
    return 0;
  }
  dg_s3_facts_validator(facts, now);
  dg_s3_facts_unref(facts);
  *ret_same = validator.len == sizeof now && memcmp(validator.data, now, sizeof now) == 0;
  return 0;
}

/* S3 does not say whether there was something to remove, so it is looked for; behind the
 * wait for what may yet be stored there. */
int dg_s3_remove(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                 struct dg_error *err)
{
  g_autoptr(GString) name = g_string_new(NULL);
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  struct dg_slice upstream;
  struct dg_s3_facts *facts;
  int rc;

  if (name_of(item, name, err) < 0)
    return -1;
  upstream = dg_slice_of(name->str, name->len);
  if ((item->flags & DG_ITEM_UNSEEN) && !dg_s3_is_in_doubt(s3, item->bucket, upstream))
    return dg_fail(err, DG_E_NO_SUCH_KEY, "nothing was there, and nothing is to come");
  dg_s3_request_init(&request, "DELETE", item->bucket, upstream);
  dg_s3_answer_init(&answer);
  rc = dg_s3_lease_guard(s3, call, &request, err);
  if (rc == 0)
    rc = dg_s3_look(s3, call, item->bucket, upstream, &facts, err);
  if (rc == 0) {
    dg_s3_facts_unref(facts);
    rc = dg_s3_run(s3, call, &request, &answer, err);
  }
  dg_s3_metaindex_drop(s3->index, item->bucket, upstream);
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}
