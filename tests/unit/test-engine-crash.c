/* SPDX-License-Identifier: Apache-2.0 */
/* Failure and death at every step: whatever step fails, or is the last one
 * before a crash, each object is the old one or the new one afterwards. */
#include "config.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "engine-double.h"

#define FLEXIBLE (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)
#define MAX_STEPS 400u

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;
static GBytes *one, *two, *three, *other;
static uint64_t caps;

static void setup(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  caps = FLEXIBLE;
  one = double_bytes(40000, 1);
  two = double_edit(one, 10000, 10, 1);
  three = double_edit(one, 20000, 10, 1);
  other = double_bytes(40000, 2);
}

static void teardown(void)
{
  g_bytes_unref(one);
  g_bytes_unref(two);
  g_bytes_unref(three);
  g_bytes_unref(other);
}

#define assert_ok(call) ck_assert_msg((call) == 0, "%s", err.detail)

/* An action on the object "d/k.zip", and what may be there after it. */
struct scenario {
  GBytes *old;       /* NULL: none */
  GBytes *sibling;   /* "d/s.zip", NULL: none; must survive whatever happens */
  GBytes *fresh;     /* NULL: the action is a delete */
};

static int act(const struct scenario *s)
{
  return s->fresh ? double_put(&engine, "b", "d/k.zip", s->fresh, NULL, &err)
                  : double_delete(&engine, "b", "d/k.zip", &err);
}

static GBytes *read_or_null(const char *key)
{
  GBytes *body = NULL;

  if (double_get(&engine, "b", key, &body, &err) == 0)
    return body;
  ck_assert_msg(err.code == DG_E_NO_SUCH_KEY, "%s: %s", key, err.detail);
  return NULL;
}

static bool same(GBytes *a, GBytes *b)
{
  return (!a && !b) || (a && b && g_bytes_equal(a, b));
}

static void check_after(const struct scenario *s, bool acknowledged, uint64_t n)
{
  g_autoptr(GBytes) body = read_or_null("d/k.zip");
  g_autoptr(GBytes) sibling = NULL;

  if (acknowledged)
    ck_assert_msg(same(body, s->fresh), "step %u: the acknowledged change is lost", (unsigned)n);
  else
    ck_assert_msg(same(body, s->fresh) || same(body, s->old),
                  "step %u: neither the old object nor the new one", (unsigned)n);
  if (s->sibling) {
    sibling = read_or_null("d/s.zip");
    ck_assert_msg(same(sibling, s->sibling), "step %u: the sibling is damaged", (unsigned)n);
  }
  ck_assert_uint_le(double_store_count(store, DG_VARIANT_REFERENCE), 1);
  if (double_store_count(store, DG_VARIANT_DELTA) > 0)
    ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 1);
}

static void prepare(const struct scenario *s)
{
  store = double_store_new(caps);
  double_engine_open(&engine, store, NULL);
  if (s->sibling)
    assert_ok(double_put(&engine, "b", "d/s.zip", s->sibling, NULL, &err));
  if (s->old)
    assert_ok(double_put(&engine, "b", "d/k.zip", s->old, NULL, &err));
}

static void finish(void)
{
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
}

/* Every step n in turn, until the action gets through without reaching it. */
static void run_all_steps(const struct scenario *s, bool crash)
{
  uint64_t n;

  for (n = 1; n < MAX_STEPS; n++) {
    bool reached, acknowledged;

    prepare(s);
    double_store_fail(store, n, DG_E_IO, crash);
    acknowledged = act(s) == 0;
    reached = double_store_failed(store);
    if (crash) {
      double_engine_close(&engine);
      double_store_revive(store);
      double_engine_open(&engine, store, NULL);
    } else {
      double_store_fail(store, 0, 0, false);
    }
    check_after(s, acknowledged, n);
    /* And life goes on. */
    assert_ok(act(s));
    check_after(s, true, n);
    finish();
    if (!reached)
      break;
  }
  ck_assert_uint_lt(n, MAX_STEPS);
  ck_assert_uint_gt(n, s->fresh ? 2 : 1);
}

static const struct scenario *scenarios(size_t *ret_count)
{
  static struct scenario list[10];
  const struct scenario all[] = {
    {NULL, NULL, one},    /* the seed */
    {NULL, one, two},     /* a delta beside another */
    {NULL, one, other},   /* a passthrough in a deltaspace */
    {one, NULL, two},     /* a delta over a delta */
    {one, NULL, other},   /* a passthrough over the seed's delta */
    {other, one, two},    /* a delta over a passthrough */
    {one, NULL, NULL},    /* the last object of a deltaspace goes */
    {two, one, NULL},     /* one of two goes */
    {other, one, NULL},   /* a passthrough goes */
  };

  memcpy(list, all, sizeof all);
  *ret_count = G_N_ELEMENTS(all);
  return list;
}

START_TEST(a_failed_step_leaves_the_old_object_or_the_new_one)
{
  size_t count;
  const struct scenario *list = scenarios(&count);

  for (size_t i = 0; i < count; i++)
    run_all_steps(&list[i], /* crash= */ false);
}
END_TEST

START_TEST(a_crash_at_any_step_leaves_the_old_object_or_the_new_one)
{
  size_t count;
  const struct scenario *list = scenarios(&count);

  for (size_t i = 0; i < count; i++)
    run_all_steps(&list[i], /* crash= */ true);
}
END_TEST

START_TEST(the_same_on_a_backend_that_names_early)
{
  size_t count;
  const struct scenario *list = scenarios(&count);

  caps = DG_CAP_PUT_ATOMIC;
  for (size_t i = 0; i < count; i++) {
    run_all_steps(&list[i], /* crash= */ false);
    run_all_steps(&list[i], /* crash= */ true);
  }
}
END_TEST

/* Both variants lie there, from an earlier crash; a delete that dies half way
 * must not bring the older one back. */
START_TEST(a_dying_delete_never_resurrects_the_hidden_variant)
{
  for (uint64_t n = 1; n < 6; n++) {
    const struct scenario s = {one, NULL, NULL};
    g_autoptr(GBytes) body = NULL;
    struct dg_meta *stale;

    prepare(&s);
    stale = dg_meta_copy(double_store_meta(store, "b", "d/k.zip", DG_VARIANT_DELTA));
    stale->created_at_s -= 100;
    double_store_put(store, "b", "d/k.zip", DG_VARIANT_PASSTHROUGH, other, stale);
    dg_meta_unref(stale);
    double_store_fail(store, n, DG_E_IO, /* crash= */ true);
    (void)double_delete(&engine, "b", "d/k.zip", &err);
    double_engine_close(&engine);
    double_store_revive(store);
    double_engine_open(&engine, store, NULL);
    body = read_or_null("d/k.zip");
    ck_assert_msg(!body || g_bytes_equal(body, one), "step %u", (unsigned)n);
    finish();
  }
}
END_TEST

START_TEST(a_failed_seed_takes_its_reference_away_again)
{
  const struct scenario s = {NULL, NULL, one};

  for (uint64_t n = 1; n < MAX_STEPS; n++) {
    prepare(&s);
    double_store_fail(store, n, DG_E_NO_SPACE, /* crash= */ false);
    if (act(&s) == 0) {
      finish();
      return;
    }
    ck_assert_int_eq(err.code, DG_E_NO_SPACE);
    ck_assert_uint_eq(double_store_count(store, DG_VARIANT_REFERENCE), 0);
    finish();
  }
  ck_abort_msg("the put never succeeds");
}
END_TEST

static Suite *crash_suite(void)
{
  Suite *suite = suite_create("engine crashes");
  TCase *cases = tcase_create("crashes");

  tcase_set_timeout(cases, 60);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, a_failed_step_leaves_the_old_object_or_the_new_one);
  tcase_add_test(cases, a_crash_at_any_step_leaves_the_old_object_or_the_new_one);
  tcase_add_test(cases, the_same_on_a_backend_that_names_early);
  tcase_add_test(cases, a_dying_delete_never_resurrects_the_hidden_variant);
  tcase_add_test(cases, a_failed_seed_takes_its_reference_away_again);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(crash_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
