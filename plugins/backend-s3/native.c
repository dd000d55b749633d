/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "native.h"

#include "bucket.h"
#include "conditions.h"
#include "facts.h"
#include "item.h"
#include "lease.h"
#include "metahdr.h"
#include "names.h"
#include "push.h"
#include "run.h"
#include "upload.h"
#include "xmlread.h"

#include "common/banned.h"

#define MARK_LEN (DG_S3_UPLOAD_MARK_SIZE - 1u)

struct token {
  char mark[DG_S3_UPLOAD_MARK_SIZE];
  const char *id;
};

static int read_token(struct dg_slice text, struct token *ret_token, struct dg_error *err)
{
  if (text.len < MARK_LEN + 2 || text.data[MARK_LEN] != '.')
    return dg_fail(err, DG_E_NO_SUCH_UPLOAD, "not the token of an upload here");
  memcpy(ret_token->mark, text.data, MARK_LEN);
  ret_token->mark[MARK_LEN] = '\0';
  ret_token->id = text.data + MARK_LEN + 1;
  return 0;
}

static int name_of(const struct dg_item *item, GString *name, struct dg_error *err)
{
  if (!dg_s3_name_append(name, item->key, item->variant))
    return dg_fail(err, DG_E_KEY_TOO_LONG, "the key is too long for this variant");
  return 0;
}

void dg_s3_upload_mark(char out[DG_S3_UPLOAD_MARK_SIZE])
{
  for (unsigned i = 0; i < MARK_LEN; i += 8)
    (void)g_snprintf(out + i, 9, "%08x", g_random_int());
}

static bool is_printable(const char *text)
{
  for (; *text; text++)
    if (*text <= ' ' || *text > '~')
      return false;
  return true;
}

int dg_s3_upload_begin(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                       const struct dg_meta *meta, char *ret_token, struct dg_error *err)
{
  g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) name = g_string_new(NULL);
  g_autofree char *id = NULL;
  struct dg_s3_request request;
  char mark[DG_S3_UPLOAD_MARK_SIZE];
  int rc;

  if (!s3->native_uploads)
    return dg_fail(err, DG_E_UNSUPPORTED, "native_uploads is off");
  dg_s3_upload_mark(mark);
  if (name_of(item, name, err) < 0 || dg_s3_meta_write_plain(meta, mark, headers, err) < 0)
    return -1;
  dg_s3_request_init(&request, "POST", item->bucket, dg_slice_of(name->str, name->len));
  dg_s3_request_seal(s3, &request);
  for (guint i = 0; i + 1 < headers->len; i += 2)
    dg_s3_request_header(&request, headers->pdata[i], dg_slice_str(headers->pdata[i + 1]));
  rc = dg_s3_upload_create(s3, call, &request, &id, err);
  dg_s3_request_clear(&request);
  if (rc < 0) {
    if (err->code == DG_E_NO_SUCH_KEY)
      err->code = DG_E_NO_SUCH_BUCKET;
    if (err->code == DG_E_NO_SUCH_BUCKET)
      dg_s3_bucket_forget(s3, item->bucket);
    return -1;
  }
  if (strlen(id) + MARK_LEN + 2 > DG_UPLOAD_TOKEN_MAX || !is_printable(id)) {
    (void)dg_s3_upload_drop(s3, call, item->bucket, dg_slice_of(name->str, name->len), id, err);
    return dg_fail(err, DG_E_UNSUPPORTED, "upstream's upload ids are too long, or no plain text");
  }
  (void)g_snprintf(ret_token, DG_UPLOAD_TOKEN_MAX, "%s.%s", mark, id);
  return 0;
}

int dg_s3_upload_part(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                      struct dg_slice token, uint32_t part_no, uint64_t size_bytes,
                      struct dg_writer **ret_writer, struct dg_error *err)
{
  struct token parsed = {0};

  if (read_token(token, &parsed, err) < 0)
    return -1;
  return dg_s3_push_part(s3, call, item, parsed.id, part_no, size_bytes, ret_writer, err);
}

int dg_s3_upload_abort(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                       struct dg_slice token, struct dg_error *err)
{
  g_autoptr(GString) name = g_string_new(NULL);
  struct token parsed = {0};

  if (read_token(token, &parsed, err) < 0 || name_of(item, name, err) < 0)
    return -1;
  return dg_s3_upload_drop(s3, call, item->bucket, dg_slice_of(name->str, name->len), parsed.id,
                           err);
}

/* ---- Completion -------------------------------------------------------------------------- */

/* Refusals that are about the client's own list of parts. */
static void name_refusal(const struct dg_s3_answer *answer, struct dg_error *err)
{
  static const struct {
    const char *text;
    int32_t code;
  } refusals[] = {{"InvalidPart", DG_E_INVALID_PART},
                  {"InvalidPartOrder", DG_E_INVALID_PART_ORDER},
                  {"EntityTooSmall", DG_E_ENTITY_TOO_SMALL},
                  {"EntityTooLarge", DG_E_ENTITY_TOO_LARGE}};

  for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++)
    if (strcmp(answer->code, refusals[i].text) == 0)
      err->code = refusals[i].code;
  if (err->code == DG_E_NO_SUCH_KEY)
    err->code = DG_E_NO_SUCH_UPLOAD;
}

static int send_completion(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                           struct dg_slice name, const char *id,
                           const struct dg_upload_piece *pieces, uint32_t count, bool if_absent,
                           struct dg_error *err)
{
  g_autoptr(GString) text = dg_s3_completion_new();
  g_autofree char *etag = NULL;
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  for (uint32_t i = 0; i < count; i++)
    dg_s3_completion_part(text, pieces[i].part_no, pieces[i].tag);
  dg_s3_completion_end(text);
  dg_s3_request_init(&request, "POST", bucket, name);
  dg_s3_request_query(&request, "uploadId", dg_slice_str(id));
  dg_s3_request_header(&request, "content-type", DG_SLICE("application/xml"));
  if (if_absent)
    dg_s3_request_header(&request, "if-none-match", DG_SLICE("*"));
  dg_s3_request_text(&request, dg_slice_of(text->str, text->len));
  dg_s3_answer_init(&answer);
  rc = dg_s3_lease_guard(s3, call, &request, err);
  if (rc == 0)
    rc = dg_s3_run(s3, call, &request, &answer, err);
  if (rc < 0)
    name_refusal(&answer, err);
  else if (!dg_s3_xml_find(dg_slice_of(answer.body->str, answer.body->len), "ETag", &etag))
    rc = dg_fail(err, DG_E_IO, "upstream answered the end of an upload with something else");
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

/* Some upstreams call it an internal error to complete an upload that is gone. */
static bool is_gone(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                    struct dg_slice name, const char *id)
{
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  struct dg_error err = {0};
  int rc;

  dg_s3_request_init(&request, "GET", bucket, name);
  dg_s3_request_query(&request, "uploadId", dg_slice_str(id));
  dg_s3_request_query(&request, "max-parts", DG_SLICE("1"));
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, &err);
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc < 0 && (err.code == DG_E_NO_SUCH_UPLOAD || err.code == DG_E_NO_SUCH_KEY);
}

/* Whatever was answered: the object that carries our mark is the one that was asked for. */
static int confirm(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                   struct dg_slice name, const char *mark, bool was_told, struct dg_meta *meta,
                   struct dg_error *err)
{
  struct dg_error cause = *err;
  struct dg_s3_facts *facts;
  struct dg_slice segment = item->key;
  int rc;

  if (dg_s3_look(s3, call, item->bucket, name, &facts, err) < 0) {
    /* An upload that is gone, and an object that nobody can see now: ask again. */
    if (!was_told && (err->code == DG_E_NO_SUCH_KEY || cause.code != DG_E_NO_SUCH_UPLOAD))
      *err = cause;
    else if (was_told && err->code == DG_E_NO_SUCH_KEY)
      (void)dg_fail(err, DG_E_IO, "upstream completed an upload, and has no object");
    return -1;
  }
  if (!was_told && !dg_slice_equal_str(dg_s3_facts_find(facts, DG_S3_UPLOAD_MARK), mark)) {
    *err = cause;
    rc = -1;
  } else {
    for (size_t at = segment.len; at-- > 0;)
      if (segment.data[at] == '/') {
        segment = dg_slice_skip(segment, at + 1);
        break;
      }
    rc = dg_s3_meta_read(s3->host, facts, item->variant, segment, meta, err);
    if (rc == 0 && !was_told)
      rc = dg_s3_lease_confirm(s3, item->bucket, name, err);
  }
  dg_s3_facts_unref(facts);
  return rc;
}

int dg_s3_upload_complete(struct dg_s3 *s3, const struct dg_call *call,
                          const struct dg_item *item, struct dg_slice token,
                          const struct dg_upload_piece *pieces, uint32_t count,
                          struct dg_meta *meta, struct dg_error *err)
{
  g_autoptr(GString) text = g_string_new(NULL);
  struct token parsed = {0};
  struct dg_slice name;
  bool if_absent = false, was_told;

  if (read_token(token, &parsed, err) < 0 || name_of(item, text, err) < 0)
    return -1;
  name = dg_slice_of(text->str, text->len);
  if ((item->flags & DG_ITEM_IF_ABSENT) &&
      dg_s3_conditions_proven(s3, call, item->bucket, &if_absent, err) < 0)
    return -1;
  was_told = send_completion(s3, call, item->bucket, name, parsed.id, pieces, count, if_absent,
                             err) == 0;
  if (!was_told && (err->code == DG_E_UNAVAILABLE || err->code == DG_E_IO) &&
      is_gone(s3, call, item->bucket, name, parsed.id))
    err->code = DG_E_NO_SUCH_UPLOAD;
  return confirm(s3, call, item, name, parsed.mark, was_told, meta, err);
}

/* ---- Parts of what is there -------------------------------------------------------------- */

static int read_place(const struct dg_s3_answer *answer, struct dg_slice validator,
                      struct dg_range *ret_range, struct dg_error *err)
{
  uint8_t now[DG_S3_VALIDATOR_BYTES];
  struct dg_s3_facts *facts;

  if (answer->status != 206 || answer->total_length == UINT64_MAX ||
      answer->last_byte == UINT64_MAX || answer->first_byte > answer->last_byte ||
      answer->last_byte >= answer->total_length)
    return dg_fail(err, DG_E_UNSUPPORTED, "upstream does not tell where a part lies");
  facts = dg_s3_facts_new(answer, answer->total_length);
  dg_s3_facts_validator(facts, now);
  dg_s3_facts_unref(facts);
  if (validator.len != sizeof now || memcmp(validator.data, now, sizeof now) != 0)
    return dg_fail(err, DG_E_PRECONDITION_FAILED, "upstream has another version");
  *ret_range = (struct dg_range){answer->first_byte, answer->last_byte - answer->first_byte + 1};
  return 0;
}

int dg_s3_locate_part(struct dg_s3 *s3, const struct dg_call *call, const struct dg_item *item,
                      struct dg_slice validator, uint32_t part_no, struct dg_range *ret_range,
                      struct dg_error *err)
{
  g_autoptr(GString) name = g_string_new(NULL);
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  char number[16];
  int rc;

  if (!dg_s3_name_append(name, item->key, item->variant))
    return dg_fail(err, DG_E_NO_SUCH_KEY, "the key is too long for this variant");
  (void)g_snprintf(number, sizeof number, "%u", part_no);
  dg_s3_request_init(&request, "HEAD", item->bucket, dg_slice_of(name->str, name->len));
  dg_s3_request_query(&request, "partNumber", dg_slice_str(number));
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, err);
  if (rc == 0)
    rc = read_place(&answer, validator, ret_range, err);
  else if (answer.status == 400) /* a word that it does not know */
    err->code = DG_E_UNSUPPORTED;
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}
