/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads on few keys. Run it under ThreadSanitizer too. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/plug/stream.h"
#include "engine-double.h"

#define FLEXIBLE (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)
#define THREADS 8u
#define ROUNDS 120u
#define KEYS 3u
#define BODIES 8u

static struct double_store *store;
static struct double_engine engine;
static GBytes *bodies[BODIES];
static const char *const keys[KEYS] = {"d/a.zip", "d/b.zip", "d/c.txt"};

/* What each key may hold: a put or delete notes its outcome under the key's own
 * register while it is acknowledged. With one writer per key at a time the last
 * acknowledged value is exact; readers may see it or a later one. */
static GMutex writer_mutex[KEYS];
static gint acknowledged[KEYS]; /* index of the body, -1: deleted */
static gint in_progress[KEYS];  /* the value being written; -2: none */
static gint history[KEYS];      /* number of finished writes */

static void setup(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  store = double_store_new(FLEXIBLE);
  double_engine_open(&engine, store, NULL);
  for (uint32_t i = 0; i < BODIES; i++)
    bodies[i] = i < BODIES / 2 ? double_bytes(30000, 1) : double_bytes(30000, i);
  for (uint32_t i = 1; i < BODIES / 2; i++) {
    GBytes *edited = double_edit(bodies[0], 1000 * i, 10, i);

    g_bytes_unref(bodies[i]);
    bodies[i] = edited;
  }
  for (uint32_t i = 0; i < KEYS; i++) {
    acknowledged[i] = -1;
    in_progress[i] = -2;
    history[i] = 0;
  }
}

static void teardown(void)
{
  for (uint32_t i = 0; i < BODIES; i++)
    g_bytes_unref(bodies[i]);
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
}

static int body_index(GBytes *body)
{
  for (uint32_t i = 0; i < BODIES; i++)
    if (g_bytes_equal(body, bodies[i]))
      return (int)i;
  return -3;
}

static uint32_t next(uint32_t *state)
{
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

static void write_one(uint32_t key, uint32_t *state)
{
  struct dg_error err;
  int value = (int)(next(state) % (BODIES + 2));
  int rc;

  if (value >= (int)BODIES)
    value = -1;
  g_mutex_lock(&writer_mutex[key]);
  g_atomic_int_set(&in_progress[key], value);
  rc = value < 0 ? double_delete(&engine, "b", keys[key], &err)
                 : double_put(&engine, "b", keys[key], bodies[value], NULL, &err);
  ck_assert_msg(rc == 0, "%s: %s", keys[key], err.detail);
  g_atomic_int_set(&acknowledged[key], value);
  g_atomic_int_set(&in_progress[key], -2);
  g_atomic_int_inc(&history[key]);
  g_mutex_unlock(&writer_mutex[key]);
}

static void read_one(uint32_t key)
{
  gint writes_before = g_atomic_int_get(&history[key]);
  gint before = g_atomic_int_get(&acknowledged[key]);
  gint during = g_atomic_int_get(&in_progress[key]);
  g_autoptr(GBytes) body = NULL;
  struct dg_error err;
  int seen = -1;

  if (double_get(&engine, "b", keys[key], &body, &err) == 0)
    seen = body_index(body);
  else
    ck_assert_msg(err.code == DG_E_NO_SUCH_KEY, "%s: %s", keys[key], err.detail);
  ck_assert_int_ne(seen, -3);
  /* No write ended meanwhile: only the old value or the one in the making. */
  if (g_atomic_int_get(&history[key]) == writes_before && during != -2 &&
      g_atomic_int_get(&in_progress[key]) == during)
    ck_assert_msg(seen == before || seen == during, "%s: saw %d, expected %d or %d", keys[key],
                  seen, before, during);
}

static int count_row(void *receiver, const struct dg_listing_row *row)
{
  (void)row;
  (*(uint32_t *)receiver)++;
  return 0;
}

static void list_all(void)
{
  struct dg_listing_request request = {
    .bucket = double_str("b"), .prefix = double_str("d/"), .max_rows = 100};
  struct dg_error err;
  uint32_t count = 0;
  bool more;

  ck_assert_int_eq(dg_engine_list(engine.engine, &double_call, &request, count_row, &count, &more,
                                  &err),
                   0);
  ck_assert_uint_le(count, KEYS);
}

static gpointer worker(gpointer seed)
{
  uint32_t state = GPOINTER_TO_UINT(seed);

  for (uint32_t i = 0; i < ROUNDS; i++) {
    uint32_t what = next(&state) % 10, key = next(&state) % KEYS;

    if (what < 4)
      write_one(key, &state);
    else if (what < 9)
      read_one(key);
    else
      list_all();
  }
  return NULL;
}

START_TEST(readers_never_see_anything_but_what_was_written)
{
  GThread *threads[THREADS];

  for (uint32_t i = 0; i < THREADS; i++)
    threads[i] = g_thread_new("worker", worker, GUINT_TO_POINTER(i + 1));
  for (uint32_t i = 0; i < THREADS; i++)
    g_thread_join(threads[i]);
  for (uint32_t key = 0; key < KEYS; key++) {
    g_autoptr(GBytes) body = NULL;
    struct dg_error err;
    int rc = double_get(&engine, "b", keys[key], &body, &err);

    ck_assert_int_eq(rc == 0 ? body_index(body) : -1, acknowledged[key]);
  }
  ck_assert_uint_le(double_store_count(store, DG_VARIANT_REFERENCE), 1);
}
END_TEST

/* Many first puts at once: one reference, every object readable. */
static gpointer seed_worker(gpointer number)
{
  g_autofree char *key = g_strdup_printf("s/%u.zip", GPOINTER_TO_UINT(number));
  struct dg_error err;

  ck_assert_msg(double_put(&engine, "b", key, bodies[GPOINTER_TO_UINT(number) % 4], NULL, &err) ==
                  0,
                "%s", err.detail);
  return NULL;
}

START_TEST(racing_first_puts_make_one_reference)
{
  for (uint32_t round = 0; round < 10; round++) {
    GThread *threads[THREADS];
    struct dg_error err;

    for (uint32_t i = 0; i < THREADS; i++)
      threads[i] = g_thread_new("seed", seed_worker, GUINT_TO_POINTER(i));
    for (uint32_t i = 0; i < THREADS; i++)
      g_thread_join(threads[i]);
    ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 1);
    ck_assert_uint_eq(double_store_count(store, DG_VARIANT_DELTA), THREADS);
    for (uint32_t i = 0; i < THREADS; i++) {
      g_autofree char *key = g_strdup_printf("s/%u.zip", i);
      g_autoptr(GBytes) body = NULL;

      ck_assert_int_eq(double_get(&engine, "b", key, &body, &err), 0);
      ck_assert(g_bytes_equal(body, bodies[i % 4]));
      ck_assert_int_eq(double_delete(&engine, "b", key, &err), 0);
    }
    ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 0);
  }
}
END_TEST

static int must_be_new(void *receiver, const struct dg_object_info *current, struct dg_error *err)
{
  (void)receiver;
  return current ? dg_fail(err, DG_E_PRECONDITION_FAILED, "exists") : 0;
}

static gint winners;

static gpointer create_worker(gpointer number)
{
  struct dg_error err;
  struct dg_put_result result;

  if (double_put_checked(&engine, "b", "only.zip", bodies[GPOINTER_TO_UINT(number)], must_be_new,
                         NULL, &result, &err) == 0)
    g_atomic_int_inc(&winners);
  else
    ck_assert_int_eq(err.code, DG_E_PRECONDITION_FAILED);
  return NULL;
}

START_TEST(of_many_conditional_creates_one_wins)
{
  for (uint32_t round = 0; round < 20; round++) {
    GThread *threads[THREADS];
    struct dg_error err;

    winners = 0;
    for (uint32_t i = 0; i < THREADS; i++)
      threads[i] = g_thread_new("create", create_worker, GUINT_TO_POINTER(i));
    for (uint32_t i = 0; i < THREADS; i++)
      g_thread_join(threads[i]);
    ck_assert_int_eq(winners, 1);
    ck_assert_int_eq(double_delete(&engine, "b", "only.zip", &err), 0);
  }
}
END_TEST

static void assert_reads(const char *key, GBytes *body);

/* ---- Who waits for whom --------------------------------------------------------- */

/* A put that has the right to its object, and keeps it until it is told to go on. */
static GMutex gate_mutex;
static GCond gate_changed;
static bool at_gate, gate_open;

static int wait_at_gate(void *receiver, const struct dg_object_info *current, struct dg_error *err)
{
  (void)receiver;
  (void)current;
  (void)err;
  g_mutex_lock(&gate_mutex);
  at_gate = true;
  g_cond_broadcast(&gate_changed);
  while (!gate_open)
    g_cond_wait(&gate_changed, &gate_mutex);
  g_mutex_unlock(&gate_mutex);
  return 0;
}

static gpointer gated_put(gpointer key)
{
  struct dg_error err;
  struct dg_put_result result;

  ck_assert_int_eq(
    double_put_checked(&engine, "b", key, bodies[0], wait_at_gate, NULL, &result, &err), 0);
  return NULL;
}

static GThread *put_up_to_gate(const char *key)
{
  GThread *thread;

  at_gate = gate_open = false;
  thread = g_thread_new("gated", gated_put, (gpointer)key);
  g_mutex_lock(&gate_mutex);
  while (!at_gate)
    g_cond_wait(&gate_changed, &gate_mutex);
  g_mutex_unlock(&gate_mutex);
  return thread;
}

static void open_gate(GThread *thread)
{
  g_mutex_lock(&gate_mutex);
  gate_open = true;
  g_cond_broadcast(&gate_changed);
  g_mutex_unlock(&gate_mutex);
  g_thread_join(thread);
}

static int put_within(const char *key, GBytes *body, uint32_t limit_ms)
{
  struct dg_call call = {.struct_size = sizeof call,
                         .deadline_mono_ms = (uint64_t)g_get_monotonic_time() / 1000 + limit_ms};
  struct dg_put_request request = {.bucket = double_str("b"),
                                   .key = double_str(key),
                                   .size_bytes = g_bytes_get_size(body)};
  struct dg_put_expect expect = {0};
  struct dg_put_result result;
  struct dg_error err;
  struct dg_put *put;

  ck_assert_int_eq(dg_engine_put_open(engine.engine, &call, &request, &put, &err), 0);
  ck_assert_int_eq(dg_put_write(put, g_bytes_get_data(body, NULL), g_bytes_get_size(body), &err),
                   0);
  return dg_put_commit(put, &expect, &result, &err) == 0 ? 0 : err.code;
}

START_TEST(objects_of_one_deltaspace_change_side_by_side)
{
  struct dg_error err;
  GThread *thread;

  ck_assert_int_eq(put_within("d/first.zip", bodies[0], 60000), 0);
  ck_assert_int_eq(put_within("d/gone.zip", bodies[1], 60000), 0);
  thread = put_up_to_gate("d/a.zip");
  ck_assert_int_eq(put_within("d/b.zip", bodies[1], 50000), 0);
  ck_assert_int_eq(put_within("d/plain.txt", bodies[2], 50000), 0);
  ck_assert_int_eq(double_delete(&engine, "b", "d/gone.zip", &err), 0);
  open_gate(thread);
  assert_reads("d/a.zip", bodies[0]);
  assert_reads("d/b.zip", bodies[1]);
}
END_TEST

START_TEST(one_object_changes_once_at_a_time)
{
  GThread *thread;

  ck_assert_int_eq(put_within("d/first.zip", bodies[0], 60000), 0);
  thread = put_up_to_gate("d/a.zip");
  ck_assert_int_eq(put_within("d/a.zip", bodies[1], 300), DG_E_SLOW_DOWN);
  open_gate(thread);
  assert_reads("d/a.zip", bodies[0]);
}
END_TEST

START_TEST(the_last_object_waits_for_a_put_before_its_reference_goes)
{
  struct dg_error err;
  GThread *thread;

  ck_assert_int_eq(put_within("d/first.zip", bodies[0], 60000), 0);
  thread = put_up_to_gate("d/a.zip");
  {
    struct dg_call call = {.struct_size = sizeof call,
                           .deadline_mono_ms = (uint64_t)g_get_monotonic_time() / 1000 + 300};

    ck_assert_int_eq(dg_engine_delete(engine.engine, &call, double_str("b"),
                                      double_str("d/first.zip"), NULL, NULL, &err),
                     0);
  }
  ck_assert(double_store_has(store, "b", "d/", DG_VARIANT_REFERENCE));
  open_gate(thread);
  assert_reads("d/a.zip", bodies[0]);
  ck_assert_int_eq(double_delete(&engine, "b", "d/a.zip", &err), 0);
  ck_assert(!double_store_has(store, "b", "d/", DG_VARIANT_REFERENCE));
}
END_TEST

/* The reference changes between open and commit. */
static struct dg_put *open_put(const char *key, GBytes *body)
{
  struct dg_put_request request = {.bucket = double_str("b"),
                                   .key = double_str(key),
                                   .size_bytes = g_bytes_get_size(body)};
  struct dg_error err;
  struct dg_put *put;

  ck_assert_int_eq(dg_engine_put_open(engine.engine, &double_call, &request, &put, &err), 0);
  ck_assert_int_eq(dg_put_write(put, g_bytes_get_data(body, NULL), g_bytes_get_size(body), &err),
                   0);
  return put;
}

static void assert_reads(const char *key, GBytes *body)
{
  g_autoptr(GBytes) got = NULL;
  struct dg_error err;

  ck_assert_msg(double_get(&engine, "b", key, &got, &err) == 0, "%s", err.detail);
  ck_assert(g_bytes_equal(got, body));
}

START_TEST(a_reference_that_appears_vanishes_or_changes_is_noticed)
{
  struct dg_put_result result;
  struct dg_put *put;
  struct dg_error err;

  /* Appears. */
  put = open_put("r/1.zip", bodies[1]);
  ck_assert_int_eq(double_put(&engine, "b", "r/0.zip", bodies[0], NULL, &err), 0);
  ck_assert_int_eq(dg_put_commit(put, NULL, &result, &err), 0);
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 1);
  assert_reads("r/1.zip", bodies[1]);
  /* Vanishes. */
  put = open_put("r/2.zip", bodies[2]);
  ck_assert_int_eq(double_delete(&engine, "b", "r/0.zip", &err), 0);
  ck_assert_int_eq(double_delete(&engine, "b", "r/1.zip", &err), 0);
  ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 0);
  ck_assert_int_eq(dg_put_commit(put, NULL, &result, &err), 0);
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 1);
  assert_reads("r/2.zip", bodies[2]);
  /* Changes: it was hopeless against the one, and is fine against the other. */
  put = open_put("r/3.zip", bodies[5]);
  ck_assert_int_eq(double_delete(&engine, "b", "r/2.zip", &err), 0);
  ck_assert_int_eq(double_put(&engine, "b", "r/4.zip", bodies[5], NULL, &err), 0);
  ck_assert_int_eq(dg_put_commit(put, NULL, &result, &err), 0);
  ck_assert_uint_eq(result.variant, DG_VARIANT_DELTA);
  assert_reads("r/3.zip", bodies[5]);
  assert_reads("r/4.zip", bodies[5]);
}
END_TEST

/* A reader opened before a change reads the old object to its end, or fails;
 * it never mixes. */
START_TEST(an_open_reader_outlives_its_object)
{
  struct dg_get_request request = {.bucket = double_str("b"), .key = double_str("o.zip")};
  g_autoptr(GBytes) first = double_bytes(900000, 1), second = double_bytes(900000, 2);
  g_autofree char *buffer = g_malloc(900001);
  struct dg_object_info info;
  struct dg_range range;
  struct dg_reader *reader;
  struct dg_error err;
  size_t half = 0, rest = 0;

  ck_assert_int_eq(double_put(&engine, "b", "o.zip", first, NULL, &err), 0);
  ck_assert_int_eq(dg_engine_get(engine.engine, &double_call, &request, &info, &range, &reader,
                                 &err),
                   0);
  ck_assert_int_eq(dg_reader_read_full(reader, buffer, 450000, &half, &err), 0);
  ck_assert_int_eq(double_put(&engine, "b", "o.zip", second, NULL, &err), 0);
  if (dg_reader_read_full(reader, buffer + half, 450001, &rest, &err) == 0) {
    ck_assert_uint_eq(half + rest, 900000);
    ck_assert_mem_eq(buffer, g_bytes_get_data(first, NULL), 900000);
  }
  dg_reader_close(reader);
  dg_object_info_clear(&info);
}
END_TEST

static Suite *race_suite(void)
{
  Suite *suite = suite_create("engine races");
  TCase *cases = tcase_create("races");

  tcase_set_timeout(cases, 60);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, readers_never_see_anything_but_what_was_written);
  tcase_add_test(cases, racing_first_puts_make_one_reference);
  tcase_add_test(cases, of_many_conditional_creates_one_wins);
  tcase_add_test(cases, objects_of_one_deltaspace_change_side_by_side);
  tcase_add_test(cases, one_object_changes_once_at_a_time);
  tcase_add_test(cases, the_last_object_waits_for_a_put_before_its_reference_goes);
  tcase_add_test(cases, a_reference_that_appears_vanishes_or_changes_is_noticed);
  tcase_add_test(cases, an_open_reader_outlives_its_object);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(race_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
