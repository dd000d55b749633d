/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas in the engine: what each operation counts, buckets that were there
 * before their quota, writers beside counts, and kill -9 at every fault point. */
#include "config.h"

#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/slice.h"
#include "core/engine/quota-internal.h"
#include "core/observe/metrics.h"
#include "engine-double.h"
#include "engine-double-private.h"

#define FLEXIBLE (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)
#define WAIT_S 60

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;
static char *dir;

#define assert_ok(call) ck_assert_msg((call) == 0, "%s", err.detail)

static void setup(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  double_limited = "b";
  dir = g_dir_make_tmp("engine-quota-XXXXXX", NULL);
  store = double_store_new(FLEXIBLE);
}

static void teardown(void)
{
  engine.owns_dir = true;
  double_engine_close(&engine);
  (void)dg_fault_set(NULL, &err);
  g_free(dir);
  double_store_free(store);
}

static void open_limited(uint64_t objects, uint64_t bytes)
{
  double_settings.quota_objects = objects;
  double_settings.quota_bytes = bytes;
  double_engine_open(&engine, store, dir);
}

static void open_free(void)
{
  open_limited(0, 0);
}

static struct dg_ledger_state look(void)
{
  struct dg_quota *quota = engine.engine->quota;
  struct dg_ledger_state state = {0};
  GHashTableIter iter;
  gpointer book;

  g_mutex_lock(&quota->mutex);
  g_hash_table_iter_init(&iter, quota->books);
  if (g_hash_table_iter_next(&iter, NULL, &book))
    dg_ledger_look(((struct dg_quota_book *)book)->ledger, &state);
  g_mutex_unlock(&quota->mutex);
  return state;
}

/* How many counts ended so: "first", "same", "corrected", "failed". */
static uint32_t counts(const char *result)
{
  g_autofree char *row =
    g_strdup_printf("deltaglider_quota_counts_total{result=\"%s\"} ", result);
  g_autoptr(GString) text = g_string_new(NULL);
  const char *at;

  dg_metrics_print(engine.metrics, text);
  at = strstr(text->str, row);
  return at ? (uint32_t)strtoul(at + strlen(row), NULL, 10) : 0;
}

static void wait_for_counts(uint32_t count)
{
  gint64 until = g_get_monotonic_time() + WAIT_S * G_USEC_PER_SEC;

  while (counts("first") + counts("same") + counts("corrected") < count) {
    ck_assert_msg(g_get_monotonic_time() < until, "nobody counts");
    g_usleep(1000);
  }
}

static void wait_until_known(void)
{
  gint64 until = g_get_monotonic_time() + WAIT_S * G_USEC_PER_SEC;
  struct dg_ledger_state state = look();

  for (; !state.known || state.doubt_count > 0; state = look()) {
    ck_assert_msg(g_get_monotonic_time() < until, "nobody counts");
    g_usleep(1000);
  }
}

static void assert_use(uint64_t objects, uint64_t bytes)
{
  struct dg_ledger_state state = look();

  ck_assert(state.known);
  ck_assert_uint_eq(state.use.objects, objects);
  ck_assert_uint_eq(state.use.bytes, bytes);
  ck_assert_uint_eq(state.change_count, 0);
}

static int put(const char *key, size_t size)
{
  g_autoptr(GBytes) body = double_bytes(size, (uint32_t)size + 1);

  return double_put(&engine, "b", key, body, NULL, &err);
}

static void assert_refused(int rc)
{
  ck_assert_int_eq(rc, -1);
  ck_assert_msg(err.code == DG_E_QUOTA, "%s", err.detail);
}

/* ---- What counts ---------------------------------------------------------------------- */

START_TEST(every_operation_counts_what_clients_see)
{
  struct dg_copy_request copy = {.source_bucket = double_str("b"),
                                 .source_key = double_str("d/a.zip"),
                                 .bucket = double_str("b"),
                                 .key = double_str("copy")};
  struct dg_put_result result;
  int64_t modified_s;

  open_limited(100, 1 << 20);
  assert_ok(put("d/a.zip", 40000));
  assert_use(1, 40000);
  assert_ok(put("d/b.zip", 40000)); /* beside a reference, which is not counted */
  assert_use(2, 80000);
  assert_ok(put("d/b.zip", 100));
  assert_use(2, 40100);
  assert_ok(put("empty", 0));
  assert_use(3, 40100);
  assert_ok(dg_engine_copy(engine.engine, &double_call, &copy, &result, &modified_s, &err));
  assert_use(4, 80100);
  copy.source_key = copy.key;
  copy.replace_metadata = true;
  assert_ok(dg_engine_copy(engine.engine, &double_call, &copy, &result, &modified_s, &err));
  assert_use(4, 80100);
  assert_ok(double_delete(&engine, "b", "d/a.zip", &err));
  assert_ok(double_delete(&engine, "b", "d/a.zip", &err));
  assert_use(3, 40100);
  wait_for_counts(1);
  double_engine_close(&engine);
  double_engine_open(&engine, store, dir);
  wait_for_counts(1);
  ck_assert_uint_eq(counts("same"), 1);
  assert_use(3, 40100);
}
END_TEST

START_TEST(a_full_bucket_takes_what_replaces_and_nothing_else)
{
  open_limited(2, 1000);
  assert_ok(put("a", 600));
  assert_refused(put("b", 401));
  ck_assert_ptr_nonnull(strstr(err.detail, "bucket 'b'"));
  assert_ok(put("b", 400));
  assert_refused(put("c", 0));
  assert_ok(put("a", 600));
  assert_refused(put("a", 601));
  assert_ok(put("a", 599));
  assert_ok(put("b", 401));
  assert_ok(double_delete(&engine, "b", "a", &err));
  assert_ok(put("c", 599));
  assert_use(2, 1000);
}
END_TEST

START_TEST(a_body_of_unknown_length_is_judged_when_it_has_come)
{
  struct dg_put_request request = {
    .bucket = double_str("b"), .key = double_str("a"), .size_bytes = DG_TO_END};
  struct dg_put_result result;
  struct dg_put *put_open;
  char body[200] = {0};

  open_limited(0, 300);
  for (int i = 0; i < 2; i++) {
    request.key = i ? double_str("b") : double_str("a");
    assert_ok(dg_engine_put_open(engine.engine, &double_call, &request, &put_open, &err));
    assert_ok(dg_put_write(put_open, body, sizeof body, &err));
    if (i == 0)
      assert_ok(dg_put_commit(put_open, NULL, &result, &err));
    else
      assert_refused(dg_put_commit(put_open, NULL, &result, &err));
  }
  assert_use(1, 200);
  ck_assert(!double_store_has(store, "b", "b", DG_VARIANT_PASSTHROUGH));
  ck_assert_int_eq(double_store_open_streams(store), 0);
}
END_TEST

static int upload(const char *key, size_t size)
{
  g_autoptr(GBytes) body = double_bytes(size, 1);
  struct dg_put_request request = {.bucket = double_str("b"), .key = double_str(key)};
  struct dg_complete_part parts[1];
  struct dg_complete_request ask = {
    .bucket = request.bucket, .key = request.key, .parts = parts, .part_count = 1};
  struct dg_part_result stored;
  struct dg_put_result result;
  struct dg_part_put *part;
  char id[33];
  int rc;

  assert_ok(dg_engine_upload_create(engine.engine, &double_call, &request, id, &err));
  assert_ok(dg_engine_part_open(engine.engine, &double_call, request.bucket, request.key,
                                double_str(id), 1, DG_TO_END, DG_SUM_NONE, &part, &err));
  assert_ok(dg_part_write(part, g_bytes_get_data(body, NULL), size, &err));
  assert_ok(dg_part_commit(part, NULL, &stored, &err));
  parts[0] = (struct dg_complete_part){.part_no = 1, .etag = double_str(stored.etag)};
  ask.upload_id = double_str(id);
  rc = dg_engine_upload_complete(engine.engine, &double_call, &ask, &result, &err);
  if (rc < 0 && err.code == DG_E_QUOTA) {
    /* It can be completed once there is room. */
    assert_ok(double_delete(&engine, "b", "a", &err));
    assert_ok(dg_engine_upload_complete(engine.engine, &double_call, &ask, &result, &err));
    return 1;
  }
  return rc;
}

START_TEST(an_upload_is_judged_when_it_is_completed)
{
  open_limited(0, 1000);
  assert_ok(put("a", 500));
  ck_assert_int_eq(upload("u", 600), 1);
  assert_use(1, 600);
  ck_assert_int_eq(upload("v", 400), 0);
  assert_use(2, 1000);
}
END_TEST

START_TEST(buckets_without_a_quota_are_not_counted)
{
  g_autofree char *files = g_build_filename(dir, "state", "quota", NULL);

  open_free();
  assert_ok(put("a", 600));
  ck_assert_int_eq(engine.engine->quota->book_count, 0);
  ck_assert_ptr_null(engine.engine->quota->thread);
  ck_assert_int_eq(g_access(files, F_OK), -1);
}
END_TEST

/* ---- Failure ------------------------------------------------------------------------------ */

/* Whatever step fails, the sum is what is there. */
START_TEST(a_failed_step_counts_what_it_left)
{
  static const size_t sizes[] = {40000, 100, 50000};
  uint64_t n = 1;
  bool reached = true;

  open_limited(0, 1 << 20);
  assert_ok(put("d/sibling.zip", 40000));
  for (; reached; n++) {
    struct dg_object_info info;
    uint64_t expected = 40000;

    double_store_fail(store, n, DG_E_IO, /* crash= */ false);
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
      (void)put("d/k.zip", sizes[i]);
    (void)double_delete(&engine, "b", "d/k.zip", &err);
    (void)put("d/k.zip", 7);
    reached = double_store_failed(store);
    double_store_fail(store, 0, 0, false);
    wait_until_known();
    if (dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("d/k.zip"), &info,
                       &err) == 0) {
      expected += info.size_bytes;
      dg_object_info_clear(&info);
    }
    assert_use(expected == 40000 ? 1 : 2, expected);
  }
  ck_assert_uint_gt(n, 10);
}
END_TEST

/* The storage is away while the put fails, so nobody can look. */
START_TEST(what_nobody_could_look_at_is_settled_once_the_storage_is_back)
{
  open_limited(0, 1000);
  assert_ok(put("a", 600));
  wait_for_counts(1);
  double_store_fail(store, 2, DG_E_IO, /* crash= */ true);
  ck_assert_int_eq(put("b", 300), -1);
  ck_assert_int_eq(err.code, DG_E_IO);
  ck_assert_uint_eq(look().doubt_count, 1);
  double_store_revive(store);
  /* The next change of the same object knows. */
  assert_ok(put("b", 400));
  assert_use(2, 1000);
}
END_TEST

/* ---- Counts ---------------------------------------------------------------------------------- */

START_TEST(a_bucket_that_is_new_to_its_quota_is_counted_first)
{
  open_free();
  for (int i = 0; i < 20; i++) {
    g_autofree char *key = g_strdup_printf("d/%d.zip", i);

    assert_ok(put(key, 5000));
  }
  double_engine_close(&engine);
  open_limited(21, 0);
  assert_ok(put("one", 1));
  assert_refused(put("two", 1));
  assert_use(21, 100001);
  ck_assert_uint_eq(counts("first"), 1);
}
END_TEST

START_TEST(a_run_without_the_quota_makes_the_next_one_count)
{
  open_limited(10, 0);
  assert_ok(put("a", 1));
  double_engine_close(&engine);
  open_free();
  assert_ok(put("b", 1));
  double_engine_close(&engine);
  open_limited(2, 0);
  assert_refused(put("c", 1));
  assert_use(2, 2);
  ck_assert_uint_eq(counts("corrected"), 0);
}
END_TEST

static guint files_of_quotas(void)
{
  g_autofree char *path = g_build_filename(dir, "state", "quota", NULL);
  g_autoptr(GDir) files = g_dir_open(path, 0, NULL);
  guint count = 0;

  while (files && g_dir_read_name(files))
    count++;
  return count;
}

START_TEST(all_names_of_a_bucket_count_together)
{
  g_autoptr(GBytes) body = double_bytes(10, 1);

  double_limited = "x";
  double_settings.alias = "b";
  open_limited(4, 0);
  assert_ok(put("a", 10));
  assert_ok(double_put(&engine, "x", "b", body, NULL, &err));
  assert_ok(put("c", 10));
  wait_until_known();
  assert_use(3, 30);
  for (int i = 0; i < 20; i++) {
    /* At once after the start, by the name that has no quota. */
    double_engine_close(&engine);
    open_limited(4, 0);
    assert_ok(i % 2 ? put("d", 10) : double_delete(&engine, "b", "d", &err));
    wait_for_counts(1);
    ck_assert_uint_eq(counts("same"), 1);
    assert_use(i % 2 ? 4 : 3, i % 2 ? 40 : 30);
  }
  assert_refused(double_put(&engine, "x", "e", body, NULL, &err));
  assert_ok(put("e", 10));
  assert_refused(double_put(&engine, "x", "f", body, NULL, &err));
}
END_TEST

START_TEST(two_servers_never_share_their_files)
{
  struct double_engine first;

  open_limited(10, 0);
  assert_ok(put("a", 1));
  first = engine;
  open_limited(10, 0); /* the next one, while the first still ends */
  assert_ok(put("b", 1));
  wait_until_known();
  assert_use(2, 2);
  double_engine_close(&engine);
  engine = first;
  assert_ok(put("c", 1));
  double_engine_close(&engine);
  open_limited(10, 0);
  wait_for_counts(1);
  ck_assert_uint_eq(counts("first"), 1);
  assert_use(3, 3);
}
END_TEST

START_TEST(files_of_former_quotas_are_removed)
{
  open_limited(10, 0);
  assert_ok(put("a", 1));
  ck_assert_uint_eq(files_of_quotas(), 3); /* one counts the runs, one is a lock */
  double_engine_close(&engine);
  double_limited = "c";
  open_limited(10, 0);
  wait_for_counts(1);
  ck_assert_uint_eq(files_of_quotas(), 3);
  double_engine_close(&engine);
  open_free();
  ck_assert_uint_eq(files_of_quotas(), 1);
}
END_TEST

/* A put that began while nobody counted, and ends when somebody does. */
static gpointer put_slowly(gpointer unused)
{
  struct dg_error error;
  g_autoptr(GBytes) body = double_bytes(300, 1);

  (void)unused;
  ck_assert_int_eq(double_put(&engine, "b", "slow", body, NULL, &error), 0);
  return NULL;
}

START_TEST(a_quota_given_by_a_reload_waits_for_changes_that_began_without_it)
{
  struct dg_named_backend backend = {.name = "default"};
  struct dg_engine_params params = {.backends = &backend, .backend_count = 1};
  struct dg_view *old;
  GThread *thread;

  ck_assert_int_eq(dg_fault_set("engine.put.passthrough:delay_1500:1", &err), 0);
  open_free();
  thread = g_thread_new("slow", put_slowly, NULL);
  while (double_store_open_streams(store) == 0)
    g_usleep(1000);
  g_usleep(300000); /* into its commit; later is no error, and no test */
  double_settings.quota_objects = 10;
  dg_snapshot_unref(engine.snapshot);
  engine.snapshot = params.snapshot = double_snapshot_new(dir);
  backend.backend = engine.backend;
  backend.health = engine.health;
  dg_engine_replace(engine.engine, &params, &old);
  wait_for_counts(1);
  (void)g_thread_join(thread);
  dg_view_unref(old);
  assert_use(1, 300);
}
END_TEST

START_TEST(a_bucket_made_anew_begins_at_nothing)
{
  open_limited(1, 0);
  assert_ok(put("a", 1));
  assert_ok(double_delete(&engine, "b", "a", &err));
  assert_ok(dg_engine_bucket_delete(engine.engine, &double_call, double_str("b"), &err));
  ck_assert_int_eq(put("a", 1), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_BUCKET);
  assert_ok(dg_engine_bucket_create(engine.engine, &double_call, double_str("b"), &err));
  assert_ok(put("a", 1));
  assert_refused(put("b", 1));
  assert_use(1, 1);
}
END_TEST

START_TEST(what_others_wrote_is_found_by_the_next_count)
{
  g_autoptr(GBytes) body = double_bytes(300, 1);
  struct dg_meta *meta;

  double_settings.usage_cache_ttl_s = 1;
  open_limited(0, 1000);
  assert_ok(put("a", 300));
  meta = dg_meta_copy(double_store_meta(store, "b", "a", DG_VARIANT_PASSTHROUGH));
  double_store_put(store, "b", "theirs", DG_VARIANT_PASSTHROUGH, body, meta);
  dg_meta_unref(meta);
  while (counts("corrected") == 0)
    g_usleep(10000);
  assert_use(2, 600);
  assert_refused(put("c", 401));
  assert_ok(put("c", 400));
}
END_TEST

START_TEST(while_it_is_counted_a_bucket_may_shrink)
{
  open_free();
  for (int i = 0; i < 50; i++) {
    g_autofree char *key = g_strdup_printf("%02d", i);

    assert_ok(put(key, 100));
  }
  double_engine_close(&engine);
  /* Slow enough for what follows, on a slow machine too. */
  ck_assert_int_eq(dg_fault_set("engine.quota.row:delay_400:1-30", &err), 0);
  open_limited(1000, 0);
  ck_assert(!look().known);
  assert_ok(double_delete(&engine, "b", "00", &err));
  assert_ok(double_delete(&engine, "b", "49", &err));
  assert_ok(put("30", 50));
  ck_assert(!look().known);
  ck_assert_int_eq(put("new", 50), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  wait_until_known();
  assert_use(48, 4750);
  assert_ok(put("new", 50));
}
END_TEST

/* ---- Races --------------------------------------------------------------------------------------- */

static gint writing;

static gpointer write_on(gpointer seed)
{
  GRand *rand = g_rand_new_with_seed(GPOINTER_TO_UINT(seed));
  struct dg_error error;

  while (g_atomic_int_get(&writing)) {
    g_autofree char *key = g_strdup_printf("%d/%d.zip", g_rand_int_range(rand, 0, 3),
                                           g_rand_int_range(rand, 0, 6));
    g_autoptr(GBytes) body = double_bytes((size_t)g_rand_int_range(rand, 0, 9000), 1);

    if (g_rand_int_range(rand, 0, 3) == 0)
      ck_assert_int_eq(double_delete(&engine, "b", key, &error), 0);
    else if (double_put(&engine, "b", key, body, NULL, &error) < 0)
      ck_assert_msg(error.code == DG_E_QUOTA || error.code == DG_E_SLOW_DOWN, "%s", error.detail);
  }
  g_rand_free(rand);
  return NULL;
}

/* Counts again and again, each from nothing known. */
START_TEST(counts_beside_writers_agree_with_them)
{
  GThread *threads[4];
  struct dg_route route;
  uint32_t done;

  open_limited(12, 60000);
  wait_for_counts(1);
  g_atomic_int_set(&writing, 1);
  for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("write", write_on, GUINT_TO_POINTER(i));
  assert_ok(dg_route_open(engine.engine, &double_call, double_str("b"), &route, &err));
  for (int i = 0; i < 100; i++) {
    done = counts("first");
    dg_quota_reset(engine.engine, &route, double_str("b"));
    wait_for_counts(done + 1);
    ck_assert_uint_le(look().use.objects, 12);
  }
  g_atomic_int_set(&writing, 0);
  for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
    (void)g_thread_join(threads[i]);
  wait_until_known();
  /* Whoever counts now, alone, finds nothing to correct. */
  double_engine_close(&engine);
  double_engine_open(&engine, store, dir);
  wait_for_counts(1);
  ck_assert_uint_eq(counts("same"), 1);
  ck_assert_uint_le(look().use.bytes, 60000);
  dg_route_clear(&route);
}
END_TEST

static gint stored;

static gpointer put_on_the_edge(gpointer thread)
{
  g_autoptr(GBytes) body = double_bytes(100, 1);
  struct dg_error error;

  for (int i = 0; i < 40; i++) {
    g_autofree char *key = g_strdup_printf("%u/%d", GPOINTER_TO_UINT(thread), i);

    if (double_put(&engine, "b", key, body, NULL, &error) == 0)
      g_atomic_int_inc(&stored);
    else
      ck_assert_msg(error.code == DG_E_QUOTA, "%s", error.detail);
  }
  return NULL;
}

START_TEST(exactly_as_many_puts_succeed_as_fit)
{
  GThread *threads[8];

  stored = 0;
  open_limited(0, 10050);
  wait_for_counts(1);
  for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("put", put_on_the_edge, GUINT_TO_POINTER(i));
  for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
    (void)g_thread_join(threads[i]);
  ck_assert_int_eq(stored, 100);
  assert_use(100, 10000);
}
END_TEST

/* ---- Death ----------------------------------------------------------------------------------------- */

static void set_up_real(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  double_settings.quota_bytes = 1 << 30;
  double_limited = "bucket";
  dir = double_real_dir();
  double_real_open(&engine, dir);
  assert_ok(dg_engine_bucket_create(engine.engine, &double_call, double_str("bucket"), &err));
  wait_until_known();
  double_engine_close(&engine);
}

static void tear_down_real(void)
{
  double_real_open(&engine, dir);
  engine.owns_dir = true;
  double_engine_close(&engine);
  g_free(dir);
}

static void put_real(const char *key, GBytes *body)
{
  (void)double_put(&engine, "bucket", key, body, NULL, &err);
}

static void copy_real(const char *source, const char *key)
{
  struct dg_copy_request request = {.source_bucket = double_str("bucket"),
                                    .source_key = double_str(source),
                                    .bucket = double_str("bucket"),
                                    .key = double_str(key)};
  struct dg_put_result result;
  int64_t modified_s;

  (void)dg_engine_copy(engine.engine, &double_call, &request, &result, &modified_s, &err);
}

/* Whatever is there already: each kind of change. */
static void change_everything(void)
{
  g_autoptr(GBytes) body = double_bytes(30000, 1);
  g_autoptr(GBytes) near = double_edit(body, 10000, 10, 1);
  g_autoptr(GBytes) other = double_bytes(20000, 2);

  put_real("d/a.zip", body);
  put_real("d/b.zip", near);
  put_real("d/b.zip", other); /* plain over a delta */
  put_real("d/b.zip", body);  /* and back */
  copy_real("d/b.zip", "copy.zip");
  copy_real("d/b.zip", "d/a.zip");
  (void)double_delete(&engine, "bucket", "d/a.zip", &err);
  (void)double_delete(&engine, "bucket", "d/b.zip", &err);
  (void)double_delete(&engine, "bucket", "copy.zip", &err);
}

/* True: it was killed at its n-th fault point. */
static bool die_at(unsigned n)
{
  g_autofree char *rule = g_strdup_printf("*:kill:%u", n);
  pid_t pid = fork();
  int status;

  if (pid == 0) {
    double_real_open(&engine, dir);
    wait_for_counts(1);
    (void)dg_fault_set(rule, &err);
    change_everything();
    _exit(0);
  }
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
  return WIFSIGNALED(status);
}

START_TEST(a_kill_at_any_fault_point_leaves_figures_that_are_true)
{
  unsigned n = 1;

  for (; die_at(n); n++) {
    double_real_open(&engine, dir);
    wait_for_counts(1);
    ck_assert_msg(counts("same") == 1, "step %u: %u first, %u corrected", n, counts("first"),
                  counts("corrected"));
    ck_assert_uint_eq(look().change_count, 0);
    double_engine_close(&engine);
  }
  ck_assert_uint_gt(n, 60);
}
END_TEST

static Suite *quota_suite(void)
{
  Suite *suite = suite_create("engine quota");
  TCase *cases = tcase_create("quota");
  TCase *deaths = tcase_create("deaths");

  tcase_set_timeout(cases, 180);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, every_operation_counts_what_clients_see);
  tcase_add_test(cases, a_full_bucket_takes_what_replaces_and_nothing_else);
  tcase_add_test(cases, a_body_of_unknown_length_is_judged_when_it_has_come);
  tcase_add_test(cases, an_upload_is_judged_when_it_is_completed);
  tcase_add_test(cases, buckets_without_a_quota_are_not_counted);
  tcase_add_test(cases, a_failed_step_counts_what_it_left);
  tcase_add_test(cases, what_nobody_could_look_at_is_settled_once_the_storage_is_back);
  tcase_add_test(cases, a_bucket_that_is_new_to_its_quota_is_counted_first);
  tcase_add_test(cases, a_run_without_the_quota_makes_the_next_one_count);
  tcase_add_test(cases, all_names_of_a_bucket_count_together);
  tcase_add_test(cases, two_servers_never_share_their_files);
  tcase_add_test(cases, files_of_former_quotas_are_removed);
  tcase_add_test(cases, a_quota_given_by_a_reload_waits_for_changes_that_began_without_it);
  tcase_add_test(cases, a_bucket_made_anew_begins_at_nothing);
  tcase_add_test(cases, what_others_wrote_is_found_by_the_next_count);
  tcase_add_test(cases, while_it_is_counted_a_bucket_may_shrink);
  tcase_add_test(cases, counts_beside_writers_agree_with_them);
  tcase_add_test(cases, exactly_as_many_puts_succeed_as_fit);
  suite_add_tcase(suite, cases);
  tcase_set_timeout(deaths, 300);
  tcase_add_checked_fixture(deaths, set_up_real, tear_down_real);
  tcase_add_test(deaths, a_kill_at_any_fault_point_leaves_figures_that_are_true);
  suite_add_tcase(suite, deaths);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(quota_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
