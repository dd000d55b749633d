/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets that come and go under their uploads and objects, on backend-fs and
 * codec-xdelta3. DG_STORM_S: seconds of the storm, 6 by default. */
#include "config.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fault.h"
#include "core/engine/internal.h"
#include "core/s3/errors.h"
#include "engine-double.h"

static char *dir;
static struct double_engine engine;
static struct dg_error err;

#define BUCKET "comes-and-goes"

#define assert_ok(call) ck_assert_msg((call) == 0, "%s", err.detail)
#define assert_code(call, expected)         \
  do {                                      \
    ck_assert_int_eq((call), -1);           \
    ck_assert_int_eq(err.code, (expected)); \
  } while (0)

static void setup(void)
{
  double_settings_reset();
  dir = double_real_dir();
  double_real_open(&engine, dir);
  assert_ok(dg_engine_bucket_create(engine.engine, &double_call, double_str(BUCKET), &err));
}

static void teardown(void)
{
  engine.owns_dir = true;
  double_engine_close(&engine);
  g_free(dir);
}

static void reopen(void)
{
  double_engine_close(&engine);
  double_real_open(&engine, dir);
}

static int make_bucket(struct dg_error *error)
{
  return dg_engine_bucket_create(engine.engine, &double_call, double_str(BUCKET), error);
}

static int drop_bucket(struct dg_error *error)
{
  return dg_engine_bucket_delete(engine.engine, &double_call, double_str(BUCKET), error);
}

/* ---- One upload ---------------------------------------------------------------------- */

struct up {
  const char *key;
  char id[33];
  struct dg_part_result part;
};

static int begin(struct up *up, const char *key, struct dg_error *error)
{
  struct dg_put_request request = {.bucket = double_str(BUCKET), .key = double_str(key)};

  up->key = key;
  return dg_engine_upload_create(engine.engine, &double_call, &request, up->id, error);
}

static int send(struct up *up, GBytes *body, struct dg_error *error)
{
  struct dg_part_put *part;

  if (dg_engine_part_open(engine.engine, &double_call, double_str(BUCKET), double_str(up->key),
                          double_str(up->id), 1, g_bytes_get_size(body), DG_SUM_NONE, &part,
                          error) < 0)
    return -1;
  if (dg_part_write(part, g_bytes_get_data(body, NULL), g_bytes_get_size(body), error) < 0) {
    dg_part_abort(part);
    return -1;
  }
  return dg_part_commit(part, NULL, &up->part, error);
}

static int complete(struct up *up, struct dg_error *error)
{
  struct dg_complete_part parts[] = {{.part_no = 1, .etag = double_str(up->part.etag)}};
  struct dg_complete_request request = {.bucket = double_str(BUCKET),
                                        .key = double_str(up->key),
                                        .upload_id = double_str(up->id),
                                        .parts = parts,
                                        .part_count = 1};
  struct dg_put_result result;

  return dg_engine_upload_complete(engine.engine, &double_call, &request, &result, error);
}

static int stop(struct up *up, struct dg_error *error)
{
  return dg_engine_upload_abort(engine.engine, &double_call, double_str(BUCKET),
                                double_str(up->key), double_str(up->id), error);
}

static uint64_t open_uploads(void)
{
  struct dg_engine_stats stats;

  dg_engine_stats(engine.engine, &stats);
  return stats.uploads_inflight;
}

static bool has_state(const char *name)
{
  g_autofree char *path = g_build_filename(dir, "state", "uploads", name, NULL);

  return g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool has_notes(void)
{
  g_autofree char *path = g_build_filename(dir, "state", "uploads", NULL);
  g_autoptr(GDir) files = g_dir_open(path, 0, NULL);
  const char *name;

  while (files && (name = g_dir_read_name(files)))
    if (g_str_has_prefix(name, "drop-") || g_str_has_prefix(name, "tmp-"))
      return true;
  return false;
}

/* ---- One after the other ------------------------------------------------------------- */

START_TEST(a_deleted_bucket_takes_its_uploads_along)
{
  g_autoptr(GBytes) body = double_bytes(1000, 1);
  struct up old = {0}, done = {0}, fresh = {0};

  assert_ok(begin(&old, "a.txt", &err));
  assert_ok(send(&old, body, &err));
  assert_ok(begin(&done, "b.txt", &err));
  assert_ok(send(&done, body, &err));
  assert_ok(complete(&done, &err));
  assert_ok(double_delete(&engine, BUCKET, "b.txt", &err));
  assert_ok(drop_bucket(&err));
  ck_assert_uint_eq(open_uploads(), 0);
  ck_assert(!has_state(old.id));
  ck_assert(!has_notes());
  assert_ok(make_bucket(&err));
  assert_code(complete(&old, &err), DG_E_NO_SUCH_UPLOAD);
  assert_code(send(&old, body, &err), DG_E_NO_SUCH_UPLOAD);
  assert_code(stop(&old, &err), DG_E_NO_SUCH_UPLOAD);
  /* Not even the answer of one that was complete: its object is gone. */
  assert_code(complete(&done, &err), DG_E_NO_SUCH_UPLOAD);
  assert_ok(begin(&fresh, "a.txt", &err));
  assert_ok(send(&fresh, body, &err));
  assert_ok(complete(&fresh, &err));
}
END_TEST

START_TEST(a_bucket_that_cannot_be_deleted_keeps_its_uploads)
{
  g_autoptr(GBytes) body = double_bytes(1000, 1);
  struct up up = {0};

  assert_ok(begin(&up, "a.txt", &err));
  assert_ok(send(&up, body, &err));
  assert_ok(double_put(&engine, BUCKET, "o", body, NULL, &err));
  assert_code(drop_bucket(&err), DG_E_BUCKET_NOT_EMPTY);
  ck_assert(!has_notes());
  reopen();
  assert_ok(complete(&up, &err));
}
END_TEST

/* A process of its own deletes the bucket and dies at its n-th fault point.
 * False: it got through. */
static bool dies_deleting(unsigned n)
{
  pid_t child = fork();
  int status = 0;

  ck_assert_int_ge(child, 0);
  if (child == 0) {
    g_autofree char *rule = g_strdup_printf("*:kill:%u", n);

    double_real_open(&engine, dir);
    if (dg_fault_set(rule, &err) < 0)
      _exit(2);
    _exit(drop_bucket(&err) == 0 ? 0 : 3);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
  return WIFSIGNALED(status);
}

START_TEST(a_crash_in_a_deletion_keeps_bucket_and_uploads_or_drops_both)
{
  g_autoptr(GBytes) body = double_bytes(1000, 1);
  unsigned kept = 0, dropped = 0;
  bool died = true;

  for (unsigned n = 1; died; n++) {
    struct up up = {0};

    ck_assert_uint_lt(n, 100);
    assert_ok(begin(&up, "a.txt", &err));
    assert_ok(send(&up, body, &err));
    double_engine_close(&engine);
    died = dies_deleting(n);
    double_real_open(&engine, dir);
    ck_assert(!has_notes());
    if (make_bucket(&err) == 0) {
      ck_assert_msg(complete(&up, &err) < 0, "step %u: completed into the next bucket", n);
      ck_assert_int_eq(err.code, DG_E_NO_SUCH_UPLOAD);
      dropped++;
    } else {
      ck_assert_int_eq(err.code, DG_E_BUCKET_EXISTS);
      ck_assert_msg(complete(&up, &err) == 0, "step %u: %s", n, err.detail);
      assert_ok(double_delete(&engine, BUCKET, "a.txt", &err));
      kept++;
    }
    ck_assert_uint_eq(open_uploads(), 0);
  }
  ck_assert_uint_gt(kept, 0);
  ck_assert_uint_gt(dropped, 1); /* not only the one that got through */
}
END_TEST

START_TEST(uploads_stay_while_nobody_knows_whether_their_bucket_is_there)
{
  g_autoptr(GBytes) body = double_bytes(1000, 1);
  struct up up = {0};
  bool noted = false;

  assert_ok(begin(&up, "a.txt", &err));
  assert_ok(send(&up, body, &err));
  double_engine_close(&engine);
  for (unsigned n = 1; !noted; n++) { /* a death with the note written and the bucket still there */
    ck_assert_uint_lt(n, 20);
    ck_assert(dies_deleting(n));
    noted = has_notes();
  }
  assert_ok(dg_fault_set("engine.bucket.drop-head:EIO:1", &err));
  double_real_open(&engine, dir);
  ck_assert(has_notes());
  ck_assert(has_state(up.id));
  ck_assert_uint_eq(open_uploads(), 1);
  assert_ok(dg_fault_set("", &err));
  dg_engine_sweep(engine.engine);
  ck_assert(!has_notes());
  assert_ok(complete(&up, &err));
}
END_TEST

START_TEST(a_deletion_whose_outcome_is_unknown_is_settled_before_the_next_bucket)
{
  g_autoptr(GBytes) body = double_bytes(1000, 1);
  struct up up = {0};

  assert_ok(begin(&up, "a.txt", &err));
  assert_ok(send(&up, body, &err));
  assert_ok(dg_fault_set("engine.bucket.drop:EIO:1", &err)); /* deleted, but not dropped */
  assert_ok(drop_bucket(&err));
  ck_assert(has_notes());
  assert_ok(dg_fault_set("engine.bucket.drop-head:EIO:1", &err));
  assert_code(make_bucket(&err), DG_E_IO);
  assert_ok(dg_fault_set("", &err));
  assert_ok(make_bucket(&err));
  ck_assert(!has_notes());
  assert_code(complete(&up, &err), DG_E_NO_SUCH_UPLOAD);
}
END_TEST

START_TEST(a_full_bucket_is_refused_without_waiting_for_its_commits)
{
  g_autoptr(GBytes) body = double_bytes(1000, 1);
  struct dg_bucket_lock *lock = NULL;
  guint64 began;

  assert_ok(double_put(&engine, BUCKET, "o", body, NULL, &err));
  assert_ok(dg_bucket_lock_take(engine.engine->locks, &double_call, double_str(BUCKET),
                                DG_LOCK_SHARED, &lock, &err));
  began = dg_time_mono_ms();
  assert_code(drop_bucket(&err), DG_E_BUCKET_NOT_EMPTY);
  ck_assert_uint_lt(dg_time_mono_ms() - began, 4000);
  dg_bucket_lock_release(lock);
}
END_TEST

/* ---- At the same time ------------------------------------------------------------------ */

static uint32_t next(uint32_t *state)
{
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

/* The bucket's life as its only maker and breaker tells it. */
static gint generation; /* of the bucket that is there; 0: none, or it is being made */
static gint buried;     /* the last generation that was deleted */
static gint attempts;   /* deletions begun and ended: odd while one runs */
static gint over;

static int collect_key(void *receiver, const struct dg_listing_row *row)
{
  g_ptr_array_add(receiver, g_strndup(row->key.data, row->key.len));
  return 0;
}

static int list_keys(GPtrArray *keys, struct dg_error *error)
{
  struct dg_listing_request request = {.bucket = double_str(BUCKET), .max_rows = 1000};
  bool more;

  return dg_engine_list(engine.engine, &double_call, &request, collect_key, keys, &more, error);
}

/* Objects of a generation are named after it. Transferred: their keys. */
static GPtrArray *check_no_ghosts(gint born)
{
  GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);
  struct dg_error error;

  ck_assert_msg(list_keys(keys, &error) == 0, "%s", error.detail);
  for (guint i = 0; i < keys->len; i++)
    ck_assert_msg(atoi(keys->pdata[i]) == born, "'%s' in generation %d",
                  (const char *)keys->pdata[i], born);
  return keys;
}

static bool try_bury(gint born)
{
  g_autoptr(GPtrArray) keys = check_no_ghosts(born);
  struct dg_error error;
  int rc;

  for (guint i = 0; i < keys->len; i++)
    ck_assert_msg(double_delete(&engine, BUCKET, keys->pdata[i], &error) == 0, "%s", error.detail);
  g_atomic_int_inc(&attempts);
  rc = drop_bucket(&error);
  if (rc == 0)
    g_atomic_int_set(&buried, born);
  g_atomic_int_inc(&attempts);
  ck_assert_msg(rc == 0 || error.code == DG_E_BUCKET_NOT_EMPTY, "%d: %s", error.code, error.detail);
  return rc == 0;
}

static gint completed, refused;

/* Creates in one generation, completes whenever it gets there. */
static void upload_once(uint32_t *state, GBytes *body)
{
  gint born = g_atomic_int_get(&generation);
  g_autofree char *key = g_strdup_printf("%d/%u.%s", born, next(state) % 1000,
                                         next(state) % 2 ? "zip" : "txt");
  struct dg_error error;
  struct up up = {0};

  if (born == 0)
    return;
  if (begin(&up, key, &error) < 0) {
    ck_assert_msg(error.code == DG_E_NO_SUCH_BUCKET, "%d: %s", error.code, error.detail);
    return;
  }
  /* Still the same: the upload was created in it, and nowhere else. */
  if (g_atomic_int_get(&generation) != born) {
    (void)stop(&up, &error);
    return;
  }
  if (send(&up, body, &error) == 0 && complete(&up, &error) == 0) {
    g_atomic_int_inc(&completed);
    return;
  }
  ck_assert_msg(error.code == DG_E_NO_SUCH_UPLOAD || error.code == DG_E_NO_SUCH_BUCKET, "%d: %s",
                error.code, error.detail);
  g_atomic_int_inc(&refused);
  while (g_atomic_int_get(&attempts) & 1)
    g_thread_yield();
  ck_assert_msg(g_atomic_int_get(&buried) >= born, "dropped, but bucket %d is still there", born);
}

static gpointer uploader(gpointer seed)
{
  uint32_t state = GPOINTER_TO_UINT(seed);
  g_autoptr(GBytes) body = double_bytes(20000, 1);

  while (!g_atomic_int_get(&over))
    upload_once(&state, body);
  return NULL;
}

START_TEST(an_upload_never_outlives_its_bucket_and_is_never_dropped_before_it)
{
  enum { UPLOADERS = 4, GENERATIONS = 60 };
  GThread *threads[UPLOADERS];
  struct dg_error error;

  /* Slow where the old rule left room: after the look at the bucket or upload,
   * before what follows from it. */
  assert_ok(dg_fault_set(
    "engine.put.*:delay_6,engine.upload.create:delay_2,engine.bucket.drop:delay_1", &err));
  assert_ok(drop_bucket(&err));
  generation = buried = attempts = over = completed = refused = 0;
  for (uint32_t i = 0; i < UPLOADERS; i++)
    threads[i] = g_thread_new("upload", uploader, GUINT_TO_POINTER(i + 1));
  for (gint born = 1; born <= GENERATIONS; born++) {
    ck_assert_msg(make_bucket(&error) == 0, "%s", error.detail);
    g_atomic_int_set(&generation, born);
    g_usleep(1000 * (born % 7));
    /* Nothing new from here on, or some keys would never be gone. */
    if (born % 2)
      g_atomic_int_set(&generation, 0);
    while (!try_bury(born))
      g_atomic_int_set(&generation, 0);
    g_atomic_int_set(&generation, 0);
  }
  g_atomic_int_set(&over, 1);
  for (uint32_t i = 0; i < UPLOADERS; i++)
    (void)g_thread_join(threads[i]);
  assert_ok(dg_fault_set(NULL, &err));
  ck_assert_int_gt(completed, 0);
  ck_assert_int_gt(refused, 0);
  ck_assert_msg(make_bucket(&error) == 0, "%s", error.detail);
  g_ptr_array_unref(check_no_ghosts(0));
  ck_assert_uint_eq(open_uploads(), 0);
  ck_assert(!has_notes());
}
END_TEST

/* ---- The storm --------------------------------------------------------------------------- */

#define BODIES 6u
static const char *const storm_keys[] = {"d/a.zip", "d/b.zip", "d/c.zip", "d/e.txt", "top.zip"};
static GBytes *storm_bodies[BODIES];
static gint64 storm_end_us;
static gint answers[600]; /* by status; 200 for success */

/* What a client may be told while its bucket comes and goes. */
static void answer(const char *what, int rc, const struct dg_error *error)
{
  uint16_t status = rc == 0 ? 200 : dg_s3_error(error->code)->status;

  g_atomic_int_inc(&answers[status]);
  ck_assert_msg(status == 200 || status == 404 || status == 409 || status == 503,
                "%s was answered with %u: code %d, %s", what, status, error->code, error->detail);
}

static const char *storm_key(uint32_t *state)
{
  return storm_keys[next(state) % G_N_ELEMENTS(storm_keys)];
}

static void storm_read(uint32_t *state)
{
  g_autoptr(GBytes) body = NULL;
  struct dg_object_info info;
  struct dg_error error;
  bool whole = false;

  if (next(state) % 3 == 0) {
    if (dg_engine_head(engine.engine, &double_call, double_str(BUCKET),
                       double_str(storm_key(state)), &info, &error) == 0)
      dg_object_info_clear(&info);
    else
      answer("HEAD", -1, &error);
    return;
  }
  answer("GET", double_get(&engine, BUCKET, storm_key(state), &body, &error), &error);
  for (uint32_t i = 0; body && i < BODIES; i++)
    whole |= g_bytes_equal(body, storm_bodies[i]);
  ck_assert(!body || whole);
}

static void storm_list(void)
{
  g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
  struct dg_error error;

  answer("LIST", list_keys(keys, &error), &error);
}

static void storm_copy(uint32_t *state)
{
  struct dg_copy_request request = {.source_bucket = double_str(BUCKET),
                                    .source_key = double_str(storm_key(state)),
                                    .bucket = double_str(BUCKET),
                                    .key = double_str(storm_key(state)),
                                    .replace_metadata = next(state) % 2};
  struct dg_put_result result;
  struct dg_error error;
  int64_t modified_s;

  answer("COPY", dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s, &error),
         &error);
}

static void storm_upload(uint32_t *state)
{
  struct dg_error error;
  struct up up = {0};
  int rc = begin(&up, storm_key(state), &error);

  answer("CreateMultipartUpload", rc, &error);
  if (rc < 0)
    return;
  rc = send(&up, storm_bodies[next(state) % BODIES], &error);
  answer("UploadPart", rc, &error);
  if (rc == 0 && next(state) % 4)
    answer("CompleteMultipartUpload", complete(&up, &error), &error);
  else
    answer("AbortMultipartUpload", stop(&up, &error), &error);
}

static void storm_bury(void)
{
  g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
  struct dg_error error;

  if (list_keys(keys, &error) == 0)
    for (guint i = 0; i < keys->len; i++)
      answer("DELETE", double_delete(&engine, BUCKET, keys->pdata[i], &error), &error);
  answer("DeleteBucket", drop_bucket(&error), &error);
}

static gpointer storm(gpointer seed)
{
  uint32_t state = GPOINTER_TO_UINT(seed);
  struct dg_error error;

  while (g_get_monotonic_time() < storm_end_us) {
    uint32_t what = next(&state) % 20;

    if (what < 6)
      answer("PUT",
             double_put(&engine, BUCKET, storm_key(&state), storm_bodies[next(&state) % BODIES],
                        NULL, &error),
             &error);
    else if (what < 8)
      answer("DELETE", double_delete(&engine, BUCKET, storm_key(&state), &error), &error);
    else if (what < 11)
      storm_upload(&state);
    else if (what < 14)
      storm_read(&state);
    else if (what < 15)
      storm_list();
    else if (what < 16)
      storm_copy(&state);
    else if (what < 18)
      answer("CreateBucket", make_bucket(&error), &error);
    else
      storm_bury();
  }
  return NULL;
}

static void run_storm(const char *faults, double seconds)
{
  enum { THREADS = 10 };
  GThread *threads[THREADS];

  assert_ok(dg_fault_set(faults, &err));
  storm_end_us = g_get_monotonic_time() + (gint64)(seconds * 1e6);
  for (uint32_t i = 0; i < THREADS; i++)
    threads[i] = g_thread_new("storm", storm, GUINT_TO_POINTER(i * 7919 + g_random_int() % 1000));
  for (uint32_t i = 0; i < THREADS; i++)
    (void)g_thread_join(threads[i]);
  assert_ok(dg_fault_set(NULL, &err));
}

/* What the storm left is whole, and can be cleared away. */
static void check_calm(void)
{
  g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);

  if (make_bucket(&err) < 0)
    ck_assert_int_eq(err.code, DG_E_BUCKET_EXISTS);
  assert_ok(list_keys(keys, &err));
  for (guint i = 0; i < keys->len; i++) {
    g_autoptr(GBytes) body = NULL;

    ck_assert_msg(double_get(&engine, BUCKET, keys->pdata[i], &body, &err) == 0, "%s: %s",
                  (const char *)keys->pdata[i], err.detail);
    assert_ok(double_delete(&engine, BUCKET, keys->pdata[i], &err));
  }
  assert_ok(drop_bucket(&err));
  ck_assert_uint_eq(open_uploads(), 0);
}

START_TEST(a_bucket_that_comes_and_goes_makes_no_internal_errors)
{
  /* Slow where a step must hold together with the next: more meet there. */
  static const char *const slow[] = {
    NULL, "engine.put.delta:delay_2", "fs.put.rename:delay_1,fs.bucket.rename:delay_2",
    "engine.delete.reference:delay_2,engine.put.reference:delay_1",
    "engine.part.commit:delay_1,engine.complete.done:delay_2"};
  const char *asked = g_getenv("DG_STORM_S");
  double seconds = asked ? g_ascii_strtod(asked, NULL) : 6;

  storm_bodies[0] = double_bytes(40000, 1);
  for (uint32_t i = 1; i < BODIES; i++)
    storm_bodies[i] =
      i % 2 ? double_bytes(40000, i + 1) : double_edit(storm_bodies[0], i * 100, 10, i);
  for (size_t i = 0; i < G_N_ELEMENTS(slow); i++) {
    run_storm(slow[i], seconds / G_N_ELEMENTS(slow));
    check_calm();
    assert_ok(make_bucket(&err));
  }
  if (asked)
    for (size_t i = 0; i < G_N_ELEMENTS(answers); i++)
      if (answers[i])
        printf("# %zu: %d\n", i, answers[i]);
  ck_assert_int_gt(answers[200], 100);
  ck_assert_int_gt(answers[404], 10);
  ck_assert_int_lt(answers[503], answers[200] / 10 + 10);
  for (uint32_t i = 0; i < BODIES; i++)
    g_bytes_unref(storm_bodies[i]);
}
END_TEST

static Suite *bucket_suite(void)
{
  Suite *suite = suite_create("engine buckets");
  TCase *cases = tcase_create("buckets");
  const char *asked = g_getenv("DG_STORM_S");

  tcase_set_timeout(cases, 120 + (asked ? g_ascii_strtod(asked, NULL) : 0));
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, a_deleted_bucket_takes_its_uploads_along);
  tcase_add_test(cases, a_bucket_that_cannot_be_deleted_keeps_its_uploads);
  tcase_add_test(cases, a_crash_in_a_deletion_keeps_bucket_and_uploads_or_drops_both);
  tcase_add_test(cases, uploads_stay_while_nobody_knows_whether_their_bucket_is_there);
  tcase_add_test(cases, a_deletion_whose_outcome_is_unknown_is_settled_before_the_next_bucket);
  tcase_add_test(cases, a_full_bucket_is_refused_without_waiting_for_its_commits);
  tcase_add_test(cases, an_upload_never_outlives_its_bucket_and_is_never_dropped_before_it);
  tcase_add_test(cases, a_bucket_that_comes_and_goes_makes_no_internal_errors);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(bucket_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
