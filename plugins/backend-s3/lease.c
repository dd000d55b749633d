/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "lease.h"

#include <unistd.h>

#include "common/checksum.h"
#include "common/clock.h"
#include "common/hex.h"
#include "bucket.h"
#include "conditions.h"
#include "doubts.h"
#include "pages.h"
#include "run.h"

#include "common/banned.h"

#define MAGIC "deltaglider-lease 1\n"
/* Of a lease's time the holder uses so much: the rest is for clocks that tell
 * whole seconds, and for several that serve one upstream. */
#define USABLE(ttl_ms) ((uint64_t)(ttl_ms) / 4 * 3)
/* How long one signature holds: from here to the upstream's look at it. */
#define SIGNED_FOR_MS 20000u

struct dg_s3_lease {
  gint refs;
  char *bucket, *name, *prefix; /* name: of its object */

  GMutex mutex; /* guards what follows; leaf */
  char written[40];             /* what tells this version of the object from all others */
  char etag[136];
  int64_t date_s;               /* the upstream's clock ... */
  uint64_t date_mono_ms;        /* ... read at this moment of ours */
  uint64_t until_mono_ms;       /* it holds until then */
  uint64_t doubt_mono_ms;       /* until then something may still take effect; 0: nothing */
};

struct dg_s3_leases {
  GMutex mutex;     /* guards held; before a lease's own */
  GHashTable *held; /* BUCKET/NAME-OF-OBJECT -> struct dg_s3_lease *, owned */
  char *owner;      /* for people who look into the object */
};

static struct dg_s3_lease *lease_new(struct dg_slice bucket, struct dg_slice prefix)
{
  struct dg_s3_lease *lease = g_new0(struct dg_s3_lease, 1);
  uint8_t digest[32];
  char hex[65];

  dg_sha256(prefix.data, prefix.len, digest);
  dg_hex_encode(digest, sizeof digest, hex);
  lease->refs = 1;
  lease->bucket = dg_slice_dup(bucket);
  lease->prefix = dg_slice_dup(prefix);
  lease->name = g_strconcat(DG_S3_LEASES, hex, NULL);
  g_mutex_init(&lease->mutex);
  return lease;
}

static struct dg_s3_lease *lease_ref(struct dg_s3_lease *lease)
{
  g_atomic_int_inc(&lease->refs);
  return lease;
}

void dg_s3_lease_unref(struct dg_s3_lease *lease)
{
  if (!lease || !g_atomic_int_dec_and_test(&lease->refs))
    return;
  g_mutex_clear(&lease->mutex);
  g_free(lease->bucket);
  g_free(lease->name);
  g_free(lease->prefix);
  g_free(lease);
}

static void unref_held(gpointer lease)
{
  dg_s3_lease_unref(lease);
}

struct dg_s3_leases *dg_s3_leases_new(void)
{
  struct dg_s3_leases *leases = g_new0(struct dg_s3_leases, 1);

  g_mutex_init(&leases->mutex);
  leases->held = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, unref_held);
  leases->owner = g_strdup_printf("%s pid %ld", g_get_host_name(), (long)getpid());
  return leases;
}

void dg_s3_leases_free(struct dg_s3_leases *leases)
{
  if (!leases)
    return;
  g_hash_table_unref(leases->held);
  g_mutex_clear(&leases->mutex);
  g_free(leases->owner);
  g_free(leases);
}

/* A new reference, or NULL. */
static struct dg_s3_lease *find_held(struct dg_s3 *s3, struct dg_slice bucket,
                                     struct dg_slice prefix)
{
  struct dg_s3_lease *wanted = lease_new(bucket, prefix), *lease;
  g_autofree char *key = g_strconcat(wanted->bucket, "/", wanted->name, NULL);

  g_mutex_lock(&s3->leases->mutex);
  lease = g_hash_table_lookup(s3->leases->held, key);
  if (lease)
    (void)lease_ref(lease);
  g_mutex_unlock(&s3->leases->mutex);
  dg_s3_lease_unref(wanted);
  return lease;
}

static void hold(struct dg_s3 *s3, struct dg_s3_lease *lease)
{
  g_mutex_lock(&s3->leases->mutex);
  (void)g_hash_table_replace(s3->leases->held, g_strconcat(lease->bucket, "/", lease->name, NULL),
                             lease_ref(lease));
  g_mutex_unlock(&s3->leases->mutex);
}

static void drop(struct dg_s3 *s3, struct dg_s3_lease *lease)
{
  g_autofree char *key = g_strconcat(lease->bucket, "/", lease->name, NULL);

  g_mutex_lock(&s3->leases->mutex);
  if (g_hash_table_lookup(s3->leases->held, key) == lease)
    (void)g_hash_table_remove(s3->leases->held, key);
  g_mutex_unlock(&s3->leases->mutex);
}

/* ---- Requests under a lease ------------------------------------------------------------- */

static struct dg_slice prefix_of(struct dg_slice name)
{
  while (name.len && name.data[name.len - 1] != '/')
    name.len--;
  return name;
}

int dg_s3_lease_guard(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_request *request,
                      struct dg_error *err)
{
  struct dg_s3_lease *lease;

  if (dg_s3_doubt_wait(s3, call, request, err) < 0)
    return -1;
  request->changes = true;
  if (!s3->shared)
    return 0;
  lease = find_held(s3, request->bucket, prefix_of(request->name));
  if (!lease)
    return dg_fail(err, DG_E_SLOW_DOWN, "%s without the deltaspace's lease", request->method);
  request->lease = lease;
  return 0;
}

int dg_s3_lease_stamp(struct dg_s3_lease *lease, struct dg_s3_request *request,
                      struct dg_error *err)
{
  uint64_t now = dg_time_mono_ms(), left_s;

  g_mutex_lock(&lease->mutex);
  left_s = now < lease->until_mono_ms ? (lease->until_mono_ms - now) / 1000 : 0;
  /* Never later than the upstream's clock: what it reads is younger than that. */
  request->signed_at_s = lease->date_s + (int64_t)((now - lease->date_mono_ms) / 1000);
  g_mutex_unlock(&lease->mutex);
  request->valid_for_s = (uint32_t)MIN(left_s, SIGNED_FOR_MS / 1000);
  if (left_s == 0)
    return dg_fail(err, DG_E_SLOW_DOWN, "the deltaspace's lease has run out");
  return 0;
}

void dg_s3_lease_doubt(struct dg_s3_lease *lease)
{
  uint64_t until = dg_time_mono_ms() + DG_S3_DOUBT_MS;

  G_STATIC_ASSERT(DG_S3_DOUBT_MS > SIGNED_FOR_MS);
  g_mutex_lock(&lease->mutex);
  lease->doubt_mono_ms = MAX(lease->doubt_mono_ms, until);
  g_mutex_unlock(&lease->mutex);
}

int dg_s3_lease_check(struct dg_s3_lease *lease, struct dg_error *err)
{
  bool holds;

  g_mutex_lock(&lease->mutex);
  holds = dg_time_mono_ms() < lease->until_mono_ms;
  g_mutex_unlock(&lease->mutex);
  return holds ? 0
               : dg_fail(err, DG_E_SLOW_DOWN,
                         "the deltaspace's lease ran out while the upstream worked");
}

int dg_s3_lease_confirm(struct dg_s3 *s3, struct dg_slice bucket, struct dg_slice name,
                        struct dg_error *err)
{
  struct dg_s3_lease *lease;
  int rc;

  if (!s3->shared)
    return 0;
  lease = find_held(s3, bucket, prefix_of(name));
  rc = lease ? dg_s3_lease_check(lease, err)
             : dg_fail(err, DG_E_SLOW_DOWN, "the deltaspace's lease is gone");
  dg_s3_lease_unref(lease);
  return rc;
}

/* ---- The object --------------------------------------------------------------------------- */

static char *compose(const struct dg_s3 *s3, const struct dg_s3_lease *lease, const char *written,
                     uint32_t ttl_ms)
{
  return g_strdup_printf(MAGIC "%s\n%u\n%s\n%s", written, ttl_ms, s3->leases->owner,
                         lease->prefix);
}

/* As it lies there. */
struct found {
  char written[40];
  char etag[136];
  char *prefix;
  bool lapsed;
};

static void found_clear(struct found *found)
{
  g_clear_pointer(&found->prefix, g_free);
}

static void read_found(struct found *found, const struct dg_s3_answer *answer)
{
  g_auto(GStrv) lines = NULL;
  guint64 ttl_ms = 0;

  *found = (struct found){0};
  (void)g_strlcpy(found->etag, answer->etag, sizeof found->etag);
  if (!g_str_has_prefix(answer->body->str, MAGIC)) {
    found->prefix = g_strdup("");
    return; /* not ours to judge: nobody takes it over */
  }
  lines = g_strsplit(answer->body->str + strlen(MAGIC), "\n", 4);
  if (g_strv_length(lines) == 4 &&
      g_ascii_string_to_unsigned(lines[1], 10, 1, UINT32_MAX, &ttl_ms, NULL)) {
    (void)g_strlcpy(found->written, lines[0], sizeof found->written);
    found->lapsed = answer->date_s && answer->last_modified_s &&
                    answer->date_s > answer->last_modified_s + (int64_t)((ttl_ms + 999) / 1000) + 1;
  }
  found->prefix = g_strdup(g_strv_length(lines) == 4 ? lines[3] : "");
}

static int look(struct dg_s3 *s3, const struct dg_call *call, const char *bucket, const char *name,
                struct found *ret_found, struct dg_error *err)
{
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  dg_s3_request_init(&request, "GET", dg_slice_str(bucket), dg_slice_str(name));
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, err);
  if (rc == 0)
    read_found(ret_found, &answer);
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

/* Somebody else was first. AWS says 409 while two put at once; 404 means that
 * what was to be replaced is gone. */
static bool is_refusal(const struct dg_error *err)
{
  return err->code == DG_E_PRECONDITION_FAILED || err->code == DG_E_CONFLICT ||
         err->code == DG_E_NO_SUCH_KEY;
}

/* Writes the object if there is none (etag NULL), or this one. DG_E_CONFLICT when
 * it is not so. On success the lease holds from the moment before. */
static int put_lease(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_lease *lease,
                     const char *etag, uint32_t ttl_ms, struct dg_error *err)
{
  g_autofree char *written = g_uuid_string_random();
  g_autofree char *text = compose(s3, lease, written, ttl_ms);
  g_autofree char *match = dg_s3_conditions_etag(s3, etag ? etag : "");
  uint64_t began = dg_time_mono_ms(), ended;
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  struct found found = {0};
  int rc;

  dg_s3_request_init(&request, "PUT", dg_slice_str(lease->bucket), dg_slice_str(lease->name));
  dg_s3_request_seal(s3, &request);
  dg_s3_request_header(&request, etag ? "if-match" : "if-none-match",
                       etag ? dg_slice_str(match) : DG_SLICE("*"));
  dg_s3_request_text(&request, dg_slice_str(text));
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, err);
  ended = dg_time_mono_ms();
  if (rc == 0) {
    (void)g_strlcpy(found.etag, answer.etag, sizeof found.etag);
  } else if (is_refusal(err)) {
    /* What is there may be our own first attempt, whose answer was lost. */
    if (look(s3, call, lease->bucket, lease->name, &found, err) == 0 &&
        strcmp(found.written, written) == 0)
      rc = 0;
    else
      (void)dg_fail(err, DG_E_CONFLICT, "another server was first");
    found_clear(&found);
  }
  if (rc == 0 && (!answer.date_s || !found.etag[0]))
    rc = dg_fail(err, DG_E_UNAVAILABLE, "the upstream's answer has no Date or no ETag");
  if (rc == 0) {
    g_mutex_lock(&lease->mutex);
    (void)g_strlcpy(lease->written, written, sizeof lease->written);
    (void)g_strlcpy(lease->etag, found.etag, sizeof lease->etag);
    lease->date_s = answer.date_s;
    lease->date_mono_ms = ended;
    lease->until_mono_ms = began + USABLE(ttl_ms);
    g_mutex_unlock(&lease->mutex);
  }
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

/* ---- Operations ----------------------------------------------------------------------------- */

/* Somebody has it. Unless its time is over: then it is ours to take. */
static int take_over(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_lease *lease,
                     uint32_t ttl_ms, struct dg_error *err)
{
  struct found found;
  int rc;

  if (look(s3, call, lease->bucket, lease->name, &found, err) < 0) {
    if (err->code == DG_E_NO_SUCH_KEY)
      err->code = DG_E_CONFLICT; /* given back just now */
    return -1;
  }
  rc = found.lapsed ? put_lease(s3, call, lease, found.etag, ttl_ms, err)
                    : dg_fail(err, DG_E_CONFLICT, "another server holds the deltaspace's lease");
  found_clear(&found);
  return rc;
}

int dg_s3_lease_take(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice prefix, uint32_t ttl_ms, uint32_t *ret_flags,
                     struct dg_error *err)
{
  struct dg_s3_lease *lease;
  uint32_t flags = 0;
  int rc;

  if (dg_s3_conditions_sharing(s3, call, bucket, err) < 0) {
    if (err->code == DG_E_UNSUPPORTED)
      err->code = DG_E_UNAVAILABLE;
    return -1;
  }
  lease = lease_new(bucket, prefix);
  rc = put_lease(s3, call, lease, NULL, ttl_ms, err);
  if (rc < 0 && err->code == DG_E_CONFLICT) {
    flags = DG_LEASE_LAPSED;
    rc = take_over(s3, call, lease, ttl_ms, err);
  }
  if (rc == 0) {
    hold(s3, lease);
    *ret_flags = flags;
  }
  dg_s3_lease_unref(lease);
  return rc;
}

int dg_s3_lease_renew(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                      struct dg_slice prefix, uint32_t ttl_ms, struct dg_error *err)
{
  struct dg_s3_lease *lease = find_held(s3, bucket, prefix);
  char etag[136];
  int rc;

  if (!lease)
    return dg_fail(err, DG_E_CONFLICT, "the lease is not held");
  g_mutex_lock(&lease->mutex);
  (void)g_strlcpy(etag, lease->etag, sizeof etag);
  g_mutex_unlock(&lease->mutex);
  rc = put_lease(s3, call, lease, etag, ttl_ms, err);
  dg_s3_lease_unref(lease);
  return rc;
}

/* Once and signed with an end: a repeat might remove the next holder's. */
static int remove_object(struct dg_s3 *s3, const struct dg_call *call, struct dg_s3_lease *lease,
                         struct dg_error *err)
{
  struct dg_s3_request request;
  struct dg_s3_answer answer;
  int rc;

  dg_s3_request_init(&request, "DELETE", dg_slice_str(lease->bucket), dg_slice_str(lease->name));
  request.repeat = DG_S3_ONCE;
  request.lease = lease_ref(lease);
  dg_s3_answer_init(&answer);
  rc = dg_s3_run(s3, call, &request, &answer, err);
  dg_s3_request_clear(&request);
  dg_s3_answer_clear(&answer);
  return rc;
}

int dg_s3_lease_give(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     struct dg_slice prefix, bool keep, uint32_t *ret_wait_ms,
                     struct dg_error *err)
{
  struct dg_s3_lease *lease = find_held(s3, bucket, prefix);
  uint64_t now = dg_time_mono_ms(), until, doubt;
  int rc = 0;

  *ret_wait_ms = 0;
  if (!lease)
    return 0;
  g_mutex_lock(&lease->mutex);
  until = lease->until_mono_ms;
  doubt = lease->doubt_mono_ms;
  g_mutex_unlock(&lease->mutex);
  if (!keep && now < until && now < doubt) {
    *ret_wait_ms = (uint32_t)(MIN(until, doubt) - now) + 1;
    dg_s3_lease_unref(lease);
    return 0;
  }
  drop(s3, lease);
  if (!keep && now < until)
    rc = remove_object(s3, call, lease, err);
  dg_s3_lease_unref(lease);
  return rc;
}

int dg_s3_lease_list(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                     dg_lease_row_fn row, void *receiver, struct dg_error *err)
{
  g_autofree char *bucket_text = dg_slice_dup(bucket);
  const struct dg_s3_entry *entry;
  struct dg_s3_pages pages;
  int rc;

  dg_s3_pages_begin(&pages, s3, call, bucket, DG_SLICE(DG_S3_LEASES), DG_SLICE(""), DG_SLICE(""));
  while ((rc = dg_s3_pages_next(&pages, &entry, err)) > 0) {
    g_autofree char *name = g_strndup(entry->name, entry->name_len);
    struct dg_lease_row out = {.struct_size = sizeof out};
    struct found found;
    int32_t stop;

    if (look(s3, call, bucket_text, name, &found, err) < 0) {
      if (err->code == DG_E_NO_SUCH_KEY)
        continue;
      rc = -1;
      break;
    }
    out.flags = found.lapsed ? DG_LEASE_LAPSED : 0;
    out.prefix = dg_slice_str(found.prefix);
    stop = row(receiver, &out);
    found_clear(&found);
    if (stop) {
      rc = 0;
      break;
    }
  }
  dg_s3_pages_end(&pages);
  return rc;
}

/* ---- Sharing -------------------------------------------------------------------------------- */

#define TRIED_MAX 5u /* buckets that the proof may be tried in */

struct trial {
  struct dg_s3 *s3;
  const struct dg_call *call;
  uint32_t tried;
  bool proven, refused;
  struct dg_error error;
};

static int32_t try_bucket(void *receiver, const struct dg_bucket_row *row)
{
  struct trial *trial = receiver;

  if (dg_s3_conditions_sharing(trial->s3, trial->call, row->name, &trial->error) == 0)
    trial->proven = true;
  else if (trial->error.code == DG_E_UNSUPPORTED)
    trial->refused = true;
  return trial->proven || trial->refused || ++trial->tried >= TRIED_MAX;
}

int dg_s3_share(struct dg_s3 *s3, const struct dg_call *call, struct dg_error *err)
{
  struct trial trial = {.s3 = s3, .call = call};
  struct dg_error cause;

  if (!s3->access_key_id)
    return dg_fail(err, DG_E_UNSUPPORTED, "its requests are not signed: it has no access key");
  s3->shared = true;
  if (dg_s3_bucket_list(s3, call, try_bucket, &trial, &cause) < 0)
    trial.error = cause;
  if (trial.refused) {
    *err = trial.error;
    return -1;
  }
  /* Nothing to try it in: the first write will, and fail if it must. */
  if (!trial.proven)
    dg_s3_log(s3, DG_LOG_WARN, "s3.conditions.unproven", "endpoint=%s cause=\"%s\"",
              s3->endpoint.authority,
              trial.error.detail[0] ? trial.error.detail : "there is no bucket yet");
  return 0;
}
