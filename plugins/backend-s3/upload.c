/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "upload.h"

#include "common/xml.h"
#include "facts.h"
#include "item.h"
#include "lease.h"
#include "run.h"
#include "xmlread.h"

#include "common/banned.h"

#define PARTS_MAX 10000u
#define MIB (UINT64_C(1) << 20)
#define ABORT_MS 10000u

struct upload {
  struct dg_s3 *s3;
  const struct dg_call *call;
  struct dg_slice bucket, name;
  const struct dg_s3_spool *spool;
  char *id;
  uint64_t part_bytes;
  size_t part_count;
  struct dg_s3_job *parts;
};

uint64_t dg_s3_part_size(uint64_t length, uint64_t wanted)
{
  uint64_t least = (length + PARTS_MAX - 1) / PARTS_MAX;

  return MAX(wanted, (least + MIB - 1) / MIB * MIB);
}

int dg_s3_upload_create(struct dg_s3 *s3, const struct dg_call *call,
                        struct dg_s3_request *request, char **ret_id, struct dg_error *err)
{
  g_autofree char *id = NULL;
  struct dg_s3_answer answer;
  int rc;

  /* A second one would be left behind if the first answer was only lost. */
  request->repeat = DG_S3_REPEAT_IF_REFUSED;
  dg_s3_request_query(request, "uploads", DG_SLICE(""));
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, request, &answer, err);
  if (rc == 0 &&
      (!dg_s3_xml_find(dg_slice_of(answer.body->str, answer.body->len), "UploadId", &id) || !id[0]))
    rc = dg_fail(err, DG_E_IO, "upstream began an upload without an id");
  dg_s3_answer_clear(&answer);
  if (rc == 0)
    *ret_id = g_steal_pointer(&id);
  return rc;
}

static int create(struct upload *upload, const GPtrArray *pairs, struct dg_error *err)
{
  struct dg_s3_request request;
  int rc;

  dg_s3_request_init(&request, "POST", upload->bucket, upload->name);
  dg_s3_request_meta(upload->s3, &request, pairs);
  rc = dg_s3_upload_create(upload->s3, upload->call, &request, &upload->id, err);
  dg_s3_request_clear(&request);
  return rc;
}

int dg_s3_upload_drop(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_slice name, const char *id, struct dg_error *err)
{
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  dg_s3_request_init(&request, "DELETE", bucket, name);
  dg_s3_request_query(&request, "uploadId", dg_slice_str(id));
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, err);
  /* "No such key" can mean nothing else here. */
  if (rc < 0 && err->code == DG_E_NO_SUCH_KEY)
    err->code = DG_E_NO_SUCH_UPLOAD;
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

/* Aborts even when the call is over: what is left behind costs money. */
static void abandon(struct upload *upload)
{
  const struct dg_call *call = upload->call;
  uint64_t now_ms = (uint64_t)g_get_monotonic_time() / 1000u;
  struct dg_call own = {.struct_size = sizeof own, .deadline_mono_ms = now_ms + ABORT_MS};
  struct dg_error err;

  if (call)
    own.request_id = call->request_id;
  if (dg_s3_upload_drop(upload->s3, &own, upload->bucket, upload->name, upload->id, &err) < 0 &&
      err.code != DG_E_NO_SUCH_UPLOAD)
    dg_s3_log(upload->s3, DG_LOG_WARN, "s3.upload.left", "bucket=%.*s cause=\"%s\"",
              DG_SLICE_ARG(upload->bucket), err.detail);
}

/* ---- Parts ---------------------------------------------------------------------------------- */

/* A part that was not summed while it arrived is hashed when its turn comes, so that its
 * pages are still in memory when it is sent. */
static int prepare_part(struct dg_s3_job *job, struct dg_error *err)
{
  const struct upload *upload = job->receiver;
  uint64_t number = (uint64_t)(job - upload->parts);
  uint64_t offset = number * upload->part_bytes;
  uint64_t length = MIN(upload->part_bytes, upload->spool->length - offset);
  struct dg_s3_body body = dg_s3_spool_body(upload->spool, offset, length);
  char sha256[65], text[16];

  if (dg_s3_spool_sha256(upload->spool, offset, length, sha256, err) < 0)
    return -1;
  (void)g_snprintf(text, sizeof text, "%u", (unsigned)number + 1);
  dg_s3_request_query(&job->request, "partNumber", dg_slice_str(text));
  dg_s3_request_query(&job->request, "uploadId", dg_slice_str(upload->id));
  dg_s3_request_body(&job->request, &body, sha256);
  return 0;
}

static int send_parts(struct upload *upload, struct dg_error *err)
{
  for (size_t i = 0; i < upload->part_count; i++) {
    dg_s3_request_init(&upload->parts[i].request, "PUT", upload->bucket, upload->name);
    upload->parts[i].prepare = prepare_part;
    upload->parts[i].receiver = upload;
  }
  if (dg_s3_run_jobs(upload->s3, upload->call, upload->parts, upload->part_count,
                     upload->s3->part_parallel, DG_S3_STOP_AT_FAILURE, err) < 0)
    return -1;
  for (size_t i = 0; i < upload->part_count; i++)
    if (!upload->parts[i].answer.etag[0])
      return dg_fail(err, DG_E_IO, "upstream took part %zu without an ETag", i + 1);
  return 0;
}

GString *dg_s3_completion_new(void)
{
  return g_string_new("<CompleteMultipartUpload "
                      "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
}

void dg_s3_completion_part(GString *text, uint32_t part_no, struct dg_slice etag)
{
  g_string_append_printf(text, "<Part><PartNumber>%u</PartNumber><ETag>&quot;", part_no);
  dg_xml_escape(text, etag);
  g_string_append(text, "&quot;</ETag></Part>");
}

void dg_s3_completion_end(GString *text)
{
  g_string_append(text, "</CompleteMultipartUpload>");
}

static GString *completion(const struct upload *upload)
{
  GString *text = dg_s3_completion_new();

  for (size_t i = 0; i < upload->part_count; i++)
    dg_s3_completion_part(text, (uint32_t)i + 1, dg_slice_str(upload->parts[i].answer.etag));
  dg_s3_completion_end(text);
  return text;
}

bool dg_s3_stored_is(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice name, uint64_t length, const GPtrArray *pairs)
{
  struct dg_s3_facts *facts;
  struct dg_error err;
  bool same;

  if (dg_s3_look(s3, call, bucket, name, &facts, &err) < 0)
    return false;
  same = facts->size == length && dg_s3_facts_meta_count(facts) == pairs->len / 2;
  for (guint i = 0; same && i + 1 < pairs->len; i += 2)
    same = dg_slice_equal_str(dg_s3_facts_find(facts, pairs->pdata[i]), pairs->pdata[i + 1]);
  dg_s3_facts_unref(facts);
  return same;
}

static bool was_completed(const struct upload *upload, const GPtrArray *pairs)
{
  return dg_s3_stored_is(upload->s3, upload->call, upload->bucket, upload->name,
                         upload->spool->length, pairs);
}

static int complete(struct upload *upload, const GPtrArray *pairs, bool if_absent,
                    struct dg_s3_answer *answer, struct dg_error *err)
{
  g_autoptr(GString) text = completion(upload);
  g_autofree char *etag = NULL;
  struct dg_s3_request request;
  struct dg_error cause;
  int rc;

  dg_s3_request_init(&request, "POST", upload->bucket, upload->name);
  dg_s3_request_query(&request, "uploadId", dg_slice_str(upload->id));
  dg_s3_request_header(&request, "content-type", DG_SLICE("application/xml"));
  if (if_absent)
    dg_s3_request_header(&request, "if-none-match", DG_SLICE("*"));
  dg_s3_request_text(&request, dg_slice_of(text->str, text->len));
  rc = dg_s3_lease_guard(upload->s3, upload->call, &request, err);
  if (rc < 0) {
    dg_s3_request_clear(&request);
    return -1;
  }
  rc = dg_s3_run(upload->s3, upload->call, &request, answer, err);
  if (rc < 0) {
    cause = *err;
    if (was_completed(upload, pairs))
      rc = dg_s3_lease_confirm(upload->s3, upload->bucket, upload->name, err);
    else
      *err = cause;
  } else if (!dg_s3_xml_find(dg_slice_of(answer->body->str, answer->body->len), "ETag", &etag)) {
    rc = was_completed(upload, pairs)
           ? 0
           : dg_fail(err, DG_E_IO, "upstream answered the end of an upload with something else");
  } else {
    dg_s3_etag_copy(answer->etag, dg_slice_str(etag));
  }
  dg_s3_request_clear(&request);
  return rc;
}

int dg_s3_upload(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                 struct dg_slice name, const GPtrArray *pairs, const struct dg_s3_spool *spool,
                 bool if_absent, struct dg_s3_answer *answer, struct dg_error *err)
{
  struct upload upload = {.s3 = s3, .call = call, .bucket = bucket, .name = name, .spool = spool};
  int rc;

  if (if_absent) {
    struct dg_s3_facts *facts;

    if (dg_s3_look(s3, call, bucket, name, &facts, err) == 0) {
      dg_s3_facts_unref(facts);
      return dg_fail(err, DG_E_PRECONDITION_FAILED, "the name is taken");
    }
    if (err->code != DG_E_NO_SUCH_KEY)
      return -1;
  }
  if (create(&upload, pairs, err) < 0) {
    g_free(upload.id);
    return -1;
  }
  upload.part_bytes = dg_s3_part_size(spool->length, s3->part_bytes);
  upload.part_count = (size_t)((spool->length + upload.part_bytes - 1) / upload.part_bytes);
  upload.parts = g_new0(struct dg_s3_job, upload.part_count);
  rc = send_parts(&upload, err);
  if (rc == 0)
    rc = complete(&upload, pairs, if_absent, answer, err);
  if (rc < 0)
    abandon(&upload);
  for (size_t i = 0; i < upload.part_count; i++)
    dg_s3_job_clear(&upload.parts[i]);
  g_free(upload.parts);
  g_free(upload.id);
  return rc;
}
