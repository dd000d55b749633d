/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets on two backends, one of which is away. */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/slice.h"
#include "core/engine/internal.h"
#include "engine-double-private.h"

/* ---- A backend that knows names of buckets and nothing else ----------------------------- */

struct shelf {
  GMutex mutex; /* guards what follows */
  const char *names[4]; /* sorted, up to NULL */
  int64_t created_at_s;
  int32_t code;  /* what it fails with; 0: it works */
  bool stalls;   /* it waits for the call's deadline */
  bool denies_heads;
  uint32_t heads;
  struct dg_backend *backend;
  struct dg_health *health;
};

static int behave(struct shelf *shelf, const struct dg_call *call, struct dg_error *err)
{
  bool stalls;
  int32_t code;

  g_mutex_lock(&shelf->mutex);
  stalls = shelf->stalls;
  code = shelf->code;
  g_mutex_unlock(&shelf->mutex);
  if (!stalls)
    return code ? dg_fail(err, code, "as told") : 0;
  while (dg_time_mono_ms() < call->deadline_mono_ms &&
         !(call->cancelled && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED)))
    g_usleep(1000);
  return dg_fail(err, DG_E_TIMEOUT, "as told");
}

static bool has_name(const struct shelf *shelf, struct dg_slice name)
{
  for (size_t i = 0; shelf->names[i]; i++)
    if (dg_slice_equal_str(name, shelf->names[i]))
      return true;
  return false;
}

static int shelf_bucket_head(void *self, const struct dg_call *call, struct dg_slice bucket,
                             struct dg_error *err)
{
  struct shelf *shelf = self;

  g_mutex_lock(&shelf->mutex);
  shelf->heads++;
  g_mutex_unlock(&shelf->mutex);
  if (shelf->denies_heads)
    return dg_fail(err, DG_E_BACKEND_DENIED, "as told");
  if (behave(shelf, call, err) < 0)
    return -1;
  return has_name(shelf, bucket) ? 0 : dg_fail(err, DG_E_NO_SUCH_BUCKET, "no such bucket");
}

static int shelf_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                             void *receiver, struct dg_error *err)
{
  struct shelf *shelf = self;

  if (behave(shelf, call, err) < 0)
    return -1;
  for (size_t i = 0; shelf->names[i]; i++) {
    struct dg_bucket_row out = {.struct_size = sizeof out,
                                .name = dg_slice_str(shelf->names[i]),
                                .created_at_s = shelf->created_at_s};

    if (row(receiver, &out))
      break;
  }
  return 0;
}

static int shelf_probe(void *self, const struct dg_call *call, struct dg_error *err)
{
  return behave(self, call, err);
}

static void shelf_destroy(void *self)
{
  (void)self;
}

static const struct dg_backend_ops shelf_ops = {
  .struct_size = sizeof shelf_ops,
  .destroy = shelf_destroy,
  .bucket_head = shelf_bucket_head,
  .bucket_list = shelf_bucket_list,
  .probe = shelf_probe,
};

static struct shelf first, main_shelf; /* "first" stands first, "main" is the default */
static struct dg_snapshot *snapshot;
static struct dg_engine *engine;
static char *dir;
static struct dg_error err;

static void open_shelf(struct shelf *shelf, const char *name, int64_t created_at_s)
{
  struct dg_health_params params = {.gates = true, .reprobe_ms = 600000, .list_timeout_ms = 300,
                                    .list_cooldown_ms = 600000};

  memset(shelf, 0, sizeof *shelf);
  g_mutex_init(&shelf->mutex);
  shelf->created_at_s = created_at_s;
  shelf->backend = dg_backend_wrap(&shelf_ops, shelf, name, "backend-shelf");
  params.backend = shelf->backend;
  shelf->health = dg_health_new(&params);
}

static void close_shelf(struct shelf *shelf)
{
  dg_health_free(shelf->health);
  dg_backend_free(shelf->backend);
}

static void tell(struct shelf *shelf, int32_t code, bool stalls)
{
  g_mutex_lock(&shelf->mutex);
  shelf->code = code;
  shelf->stalls = stalls;
  g_mutex_unlock(&shelf->mutex);
}

static void setup(void)
{
  struct dg_named_backend backends[2];
  struct dg_engine_params params = {.backends = backends, .backend_count = 2};

  double_settings_reset();
  open_shelf(&first, "first", 1);
  open_shelf(&main_shelf, "main", 2);
  backends[0] = (struct dg_named_backend){"first", first.backend, first.health};
  backends[1] = (struct dg_named_backend){"main", main_shelf.backend, main_shelf.health};
  dir = double_real_dir();
  snapshot = double_snapshot_new(dir);
  snapshot->default_backend = (char *)(uintptr_t) "main";
  params.snapshot = snapshot;
  ck_assert_msg(dg_engine_new(&params, &engine, &err) == 0, "%s", err.detail);
}

static void teardown(void)
{
  struct double_engine rest = {.engine = engine, .snapshot = snapshot, .dir = dir,
                               .owns_dir = true};

  double_engine_close(&rest);
  close_shelf(&first);
  close_shelf(&main_shelf);
}

static void gate(struct shelf *shelf)
{
  size_t gated;

  tell(shelf, DG_E_UNAVAILABLE, false);
  ck_assert_int_eq(dg_health_probe_new(&shelf->health, 1, &gated, &err), 0);
  ck_assert_uint_eq(gated, 1);
}

static int head(const char *bucket)
{
  return dg_engine_bucket_head(engine, &double_call, dg_slice_str(bucket), &err);
}

#define assert_code(call, expected)         \
  do {                                      \
    ck_assert_int_eq((call), -1);           \
    ck_assert_int_eq(err.code, (expected)); \
  } while (0)

static int32_t take_row(void *receiver, const struct dg_bucket_row *row)
{
  g_string_append_printf(receiver, "%.*s %d,", (int)row->name.len, row->name.data,
                         (int)row->created_at_s);
  return 0;
}

static int list(GString *out)
{
  g_string_truncate(out, 0);
  return dg_engine_bucket_list(engine, &double_call, take_row, out, &err);
}

/* ---- Listing ---------------------------------------------------------------------------------- */

START_TEST(buckets_are_merged_in_order_and_the_default_backend_counts)
{
  g_autoptr(GString) out = g_string_new(NULL);

  memcpy(first.names, (const char *[]){"a", "both", "z", NULL}, sizeof first.names);
  memcpy(main_shelf.names, (const char *[]){"both", "m", NULL}, 3 * sizeof(char *));
  ck_assert_int_eq(list(out), 0);
  ck_assert_str_eq(out->str, "a 1,both 2,m 2,z 1,");
}
END_TEST

START_TEST(a_backend_that_is_away_hides_neither_the_others_nor_what_it_had)
{
  g_autoptr(GString) out = g_string_new(NULL);

  first.names[0] = "a";
  main_shelf.names[0] = "m";
  gate(&first);
  ck_assert_int_eq(list(out), 0);
  ck_assert_str_eq(out->str, "m 2,");
  tell(&first, 0, false);
  ck_assert_uint_eq(dg_health_probe_new(&first.health, 1, &(size_t){0}, &err), 0);
  ck_assert_int_eq(list(out), 0);
  ck_assert_str_eq(out->str, "a 1,m 2,");
  gate(&first);
  ck_assert_int_eq(list(out), 0);
  ck_assert_str_eq(out->str, "a 1,m 2,");
  gate(&main_shelf);
  assert_code(list(out), DG_E_UNAVAILABLE);
  ck_assert_str_eq(out->str, "");
}
END_TEST

START_TEST(when_none_can_list_all_are_asked_again)
{
  g_autoptr(GString) out = g_string_new(NULL);

  main_shelf.names[0] = "m";
  tell(&first, DG_E_SLOW_DOWN, false);
  tell(&main_shelf, DG_E_SLOW_DOWN, false);
  assert_code(list(out), DG_E_SLOW_DOWN);
  tell(&main_shelf, 0, false);
  ck_assert_int_eq(list(out), 0);
  ck_assert_str_eq(out->str, "m 2,");
}
END_TEST

/* ---- Looking -------------------------------------------------------------------------------------- */

START_TEST(a_bucket_stays_where_it_was_found_while_another_backend_is_away)
{
  first.names[0] = "a";
  ck_assert_int_eq(head("a"), 0);
  gate(&main_shelf);
  ck_assert_int_eq(head("a"), 0);
}
END_TEST

START_TEST(nobody_guesses_where_a_bucket_is)
{
  first.names[0] = "a";
  gate(&main_shelf);
  assert_code(head("a"), DG_E_BACKEND_DOWN);
  ck_assert_str_eq(err.detail,
                   "bucket 'a' is on backend 'main', which is currently unavailable: unreachable");
  ck_assert_uint_eq(main_shelf.heads, 0);
  ck_assert_uint_eq(first.heads, 0);
}
END_TEST

START_TEST(a_bucket_that_the_backend_did_not_list_is_looked_for_on_the_others)
{
  g_autoptr(GString) out = g_string_new(NULL);

  first.names[0] = "a";
  main_shelf.names[0] = "m";
  ck_assert_int_eq(list(out), 0);
  gate(&main_shelf);
  ck_assert_int_eq(head("a"), 0);
  assert_code(head("m"), DG_E_BACKEND_DOWN);
  /* one that is nowhere would be made on the default backend */
  assert_code(head("nowhere"), DG_E_BACKEND_DOWN);
}
END_TEST

START_TEST(an_error_keeps_the_bucket)
{
  first.names[0] = "a";
  tell(&main_shelf, DG_E_SLOW_DOWN, false);
  assert_code(head("a"), DG_E_SLOW_DOWN);
  ck_assert_uint_eq(first.heads, 0);
  ck_assert_uint_eq(main_shelf.heads, 2); /* the look, and the request itself */
}
END_TEST

START_TEST(a_bucket_that_is_denied_stays_unless_the_list_lacks_it)
{
  g_autoptr(GString) out = g_string_new(NULL);

  first.names[0] = "a";
  first.denies_heads = true;
  assert_code(head("a"), DG_E_BACKEND_DENIED);
  ck_assert_int_eq(list(out), 0);
  assert_code(head("a"), DG_E_BACKEND_DENIED);
  assert_code(head("somebodys"), DG_E_NO_SUCH_BUCKET);
}
END_TEST

START_TEST(a_backend_that_stalls_costs_one_look_and_not_the_request)
{
  tell(&main_shelf, 0, true);
  for (int i = 0; i < 5; i++)
    assert_code(head("a"), DG_E_BACKEND_DOWN);
  ck_assert_uint_eq(main_shelf.heads, 1);
}
END_TEST

static Suite *route_suite(void)
{
  Suite *suite = suite_create("engine routes");
  TCase *cases = tcase_create("routes");

  tcase_set_timeout(cases, 120);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, buckets_are_merged_in_order_and_the_default_backend_counts);
  tcase_add_test(cases, a_backend_that_is_away_hides_neither_the_others_nor_what_it_had);
  tcase_add_test(cases, when_none_can_list_all_are_asked_again);
  tcase_add_test(cases, a_bucket_stays_where_it_was_found_while_another_backend_is_away);
  tcase_add_test(cases, nobody_guesses_where_a_bucket_is);
  tcase_add_test(cases, a_bucket_that_the_backend_did_not_list_is_looked_for_on_the_others);
  tcase_add_test(cases, an_error_keeps_the_bucket);
  tcase_add_test(cases, a_bucket_that_is_denied_stays_unless_the_list_lacks_it);
  tcase_add_test(cases, a_backend_that_stalls_costs_one_look_and_not_the_request);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(route_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
