/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "bucket.h"

#include <stdlib.h>

#include "common/clock.h"
#include "lease.h"
#include "names.h"
#include "notes.h"
#include "pages.h"
#include "run.h"
#include "xmlread.h"

#include "common/banned.h"

#define KNOWN_MS 30000u
#define KNOWN_MAX 4096u

/* ---- Buckets seen a moment ago ------------------------------------------------------- */

struct dg_s3_known {
  GMutex mutex; /* guards until; leaf */
  GHashTable *until; /* name -> uint64_t *, monotonic ms */
};

struct dg_s3_known *dg_s3_known_new(void)
{
  struct dg_s3_known *known = g_new0(struct dg_s3_known, 1);

  g_mutex_init(&known->mutex);
  known->until = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  return known;
}

void dg_s3_known_free(struct dg_s3_known *known)
{
  if (!known)
    return;
  g_hash_table_unref(known->until);
  g_mutex_clear(&known->mutex);
  g_free(known);
}

void dg_s3_bucket_forget(struct dg_s3 *s3, struct dg_slice bucket)
{
  g_autofree char *name = dg_slice_dup(bucket);

  g_mutex_lock(&s3->known->mutex);
  (void)g_hash_table_remove(s3->known->until, name);
  g_mutex_unlock(&s3->known->mutex);
}

static void remember(struct dg_s3 *s3, struct dg_slice bucket)
{
  uint64_t *until = g_new(uint64_t, 1);

  *until = dg_time_mono_ms() + KNOWN_MS;
  g_mutex_lock(&s3->known->mutex);
  if (g_hash_table_size(s3->known->until) >= KNOWN_MAX)
    g_hash_table_remove_all(s3->known->until);
  (void)g_hash_table_replace(s3->known->until, dg_slice_dup(bucket), until);
  g_mutex_unlock(&s3->known->mutex);
}

static bool is_known(struct dg_s3 *s3, struct dg_slice bucket)
{
  g_autofree char *name = dg_slice_dup(bucket);
  const uint64_t *until;
  bool yes;

  g_mutex_lock(&s3->known->mutex);
  until = g_hash_table_lookup(s3->known->until, name);
  yes = until && *until > dg_time_mono_ms();
  g_mutex_unlock(&s3->known->mutex);
  return yes;
}

/* ---- Operations ------------------------------------------------------------------------ */

/* One request without a body of its own; the answer is left behind. */
static int simple(struct dg_s3 *s3, const struct dg_call *call, const char *method,
                  struct dg_slice bucket, struct dg_slice body, struct dg_s3_answer *answer,
                  struct dg_error *err)
{
  struct dg_s3_request request;
  int rc;

  dg_s3_request_init(&request, method, bucket, DG_SLICE(""));
  if (body.len)
    dg_s3_request_text(&request, body);
  dg_s3_answer_init(answer);
  rc = dg_s3_run(s3, call, &request, answer, err);
  dg_s3_request_clear(&request);
  return rc;
}

/* A HEAD was denied, which has no words. Something that has them: is it this bucket
 * that is kept from us, or do our credentials no longer hold? err says so: it must
 * be an error either way. Never that there is no bucket, unless the upstream says
 * that: a policy may keep our own from us, and others would make it elsewhere. */
static void ask_why(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                    struct dg_error *err)
{
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  struct dg_error cause;

  dg_s3_request_init(&request, "GET", bucket, DG_SLICE(""));
  dg_s3_request_query(&request, "location", DG_SLICE(""));
  dg_s3_answer_init(&answer);
  if (dg_s3_run(s3, call, &request, &answer, &cause) < 0)
    *err = cause;
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
}

int dg_s3_bucket_head(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_error *err)
{
  struct dg_s3_answer answer;
  int rc = simple(s3, call, "HEAD", bucket, DG_SLICE(""), &answer, err);

  if (rc < 0 && answer.status == 403)
    ask_why(s3, call, bucket, err);
  dg_s3_answer_clear(&answer);
  if (rc == 0)
    remember(s3, bucket);
  else
    dg_s3_bucket_forget(s3, bucket);
  return rc;
}

int dg_s3_bucket_expect(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                        struct dg_error *err)
{
  return is_known(s3, bucket) ? 0 : dg_s3_bucket_head(s3, call, bucket, err);
}

int dg_s3_bucket_create(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                        struct dg_error *err)
{
  g_autofree char *where = NULL;
  struct dg_s3_answer answer;
  bool was_denied;
  int rc;

  /* Creating one's own bucket twice is a success on some upstreams. */
  if (dg_s3_bucket_head(s3, call, bucket, err) == 0)
    return dg_fail(err, DG_E_BUCKET_EXISTS, "bucket '%.*s' exists", DG_SLICE_ARG(bucket));
  /* Denied: it may be somebody else's, and only a PUT is told so. */
  was_denied = err->code == DG_E_BACKEND_DENIED;
  if (err->code != DG_E_NO_SUCH_BUCKET && !was_denied)
    return -1;
  if (strcmp(s3->region, "us-east-1") != 0)
    where = g_strdup_printf("<CreateBucketConfiguration "
                            "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                            "<LocationConstraint>%s</LocationConstraint>"
                            "</CreateBucketConfiguration>",
                            s3->region);
  rc = simple(s3, call, "PUT", bucket, dg_slice_str(where ? where : ""), &answer, err);
  dg_s3_answer_clear(&answer);
  /* A success tells nothing when it was ours all along: can it be seen now? */
  if (rc == 0 && was_denied)
    return dg_s3_bucket_head(s3, call, bucket, err);
  if (rc == 0)
    remember(s3, bucket);
  return rc;
}

static bool is_below(const struct dg_s3_entry *entry, const char *prefix)
{
  return dg_slice_starts_with(dg_slice_of(entry->name, entry->name_len), dg_slice_str(prefix));
}

/* DG_E_BUCKET_NOT_EMPTY unless all that is in the bucket are references, notes, and
 * leases of a server that had others beside it and now has none. They are appended to
 * names. References and leases that other servers may be about to use are the engine's
 * matter; the note of an object that one of them is storing may go. */
static int collect_residue(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                           GPtrArray *names, struct dg_error *err)
{
  struct dg_s3_pages pages;
  const struct dg_s3_entry *entry;
  int rc;

  dg_s3_pages_begin(&pages, s3, call, bucket, DG_SLICE(""), DG_SLICE(""), DG_SLICE(""));
  while ((rc = dg_s3_pages_next(&pages, &entry, err)) > 0) {
    struct dg_slice key;
    uint32_t variant;

    if (!is_below(entry, DG_S3_LEASES) && !is_below(entry, DG_S3_NOTES) &&
        (!dg_s3_name_parse(dg_slice_of(entry->name, entry->name_len), &key, &variant) ||
         variant != DG_VARIANT_REFERENCE)) {
      rc = dg_fail(err, DG_E_BUCKET_NOT_EMPTY, "bucket '%.*s' holds objects",
                   DG_SLICE_ARG(bucket));
      break;
    }
    if (!s3->shared || is_below(entry, DG_S3_NOTES))
      g_ptr_array_add(names, g_strndup(entry->name, entry->name_len));
  }
  dg_s3_pages_end(&pages);
  return rc;
}

static int remove_all(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      const GPtrArray *names, struct dg_error *err)
{
  g_autofree struct dg_s3_job *jobs = g_new0(struct dg_s3_job, MAX(names->len, 1));
  int rc;

  for (guint i = 0; i < names->len; i++) {
    dg_s3_request_init(&jobs[i].request, "DELETE", bucket, dg_slice_str(names->pdata[i]));
    jobs[i].request.changes = true; /* a bucket of that name may soon have such a reference */
  }
  rc = dg_s3_run_jobs(s3, call, jobs, names->len, s3->head_parallel, DG_S3_STOP_AT_FAILURE, err);
  for (guint i = 0; i < names->len; i++)
    dg_s3_job_clear(&jobs[i]);
  return rc;
}

int dg_s3_bucket_delete(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                        struct dg_error *err)
{
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  struct dg_s3_answer answer;
  int rc = simple(s3, call, "DELETE", bucket, DG_SLICE(""), &answer, err);

  dg_s3_answer_clear(&answer);
  if (rc < 0 && err->code == DG_E_BUCKET_NOT_EMPTY) {
    if (collect_residue(s3, call, bucket, names, err) < 0 ||
        remove_all(s3, call, bucket, names, err) < 0)
      return -1;
    rc = simple(s3, call, "DELETE", bucket, DG_SLICE(""), &answer, err);
    dg_s3_answer_clear(&answer);
  }
  dg_s3_bucket_forget(s3, bucket);
  return rc;
}

static int compare_buckets(const void *a, const void *b)
{
  return strcmp(((const struct dg_s3_bucket *)a)->name, ((const struct dg_s3_bucket *)b)->name);
}

static void clear_bucket(gpointer item)
{
  g_free(((struct dg_s3_bucket *)item)->name);
}

int dg_s3_bucket_list(struct dg_s3 *s3, const struct dg_call *call, dg_bucket_row_fn row,
                      void *receiver, struct dg_error *err)
{
  g_autoptr(GArray) buckets = g_array_new(FALSE, FALSE, sizeof(struct dg_s3_bucket));
  struct dg_s3_answer answer;
  int rc = simple(s3, call, "GET", DG_SLICE(""), DG_SLICE(""), &answer, err);

  g_array_set_clear_func(buckets, clear_bucket);
  if (rc == 0)
    rc = dg_s3_xml_buckets(dg_slice_of(answer.body->str, answer.body->len), buckets, err);
  dg_s3_answer_clear(&answer);
  if (rc < 0)
    return -1;
  qsort(buckets->data, buckets->len, sizeof(struct dg_s3_bucket), compare_buckets);
  for (guint i = 0; i < buckets->len; i++) {
    const struct dg_s3_bucket *bucket = &g_array_index(buckets, struct dg_s3_bucket, i);
    struct dg_bucket_row out = {.struct_size = sizeof out,
                                .name = dg_slice_str(bucket->name),
                                .created_at_s = bucket->created_s};

    if (!g_str_has_prefix(bucket->name, "__dgmigrate_") && row(receiver, &out))
      break;
  }
  return 0;
}

/* ---- Probing ----------------------------------------------------------------------------- */

/* Any name will do: what matters is that there is an answer. */
#define PROBE_BUCKET "dgp-readiness-probe"

static int knock(struct dg_s3 *s3, const struct dg_call *call, const char *method,
                 struct dg_slice bucket, struct dg_s3_answer *answer, struct dg_error *err)
{
  struct dg_s3_request request;
  int rc;

  dg_s3_request_init(&request, method, bucket, DG_SLICE(""));
  request.knocks = true;
  dg_s3_answer_init(answer);
  rc = dg_s3_run(s3, call, &request, answer, err);
  dg_s3_request_clear(&request);
  return rc;
}

/* What an upstream that answers means is told from one that does not. */
static void set_code(const struct dg_s3_answer *answer, struct dg_error *err)
{
  if (answer->status == 0 || err->code == DG_E_CANCELLED)
    return;
  if (err->code == DG_E_BACKEND_DENIED)
    err->code = DG_E_ACCESS_DENIED;
  else if (err->code == DG_E_UNAVAILABLE || err->code == DG_E_TIMEOUT)
    err->code = DG_E_IO;
}

/* Credentials that may not list all buckets are good for some bucket. */
static int probe_bucket(struct dg_s3 *s3, const struct dg_call *call, struct dg_error *err)
{
  struct dg_s3_answer answer;
  int rc = knock(s3, call, "HEAD", DG_SLICE(PROBE_BUCKET), &answer, err);

  if (rc < 0 && (answer.status == 403 || answer.status == 404))
    rc = 0;
  if (rc < 0)
    set_code(&answer, err);
  dg_s3_answer_clear(&answer);
  return rc;
}

int dg_s3_probe(struct dg_s3 *s3, const struct dg_call *call, struct dg_error *err)
{
  struct dg_s3_answer answer;
  int rc = knock(s3, call, "GET", DG_SLICE(""), &answer, err);

  if (rc < 0 && answer.status == 403 && strcmp(answer.code, "AccessDenied") == 0)
    rc = probe_bucket(s3, call, err);
  else if (rc < 0)
    set_code(&answer, err);
  dg_s3_answer_clear(&answer);
  return rc;
}
