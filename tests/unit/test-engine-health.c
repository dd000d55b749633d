/* SPDX-License-Identifier: Apache-2.0 */
/* What is found out about a backend that answers, errs, stalls or hangs. */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/slice.h"
#include "core/engine/health.h"
#include "core/plug/backend.h"
#include "core/plug/plug.h"

/* ---- A backend that does as it is told ------------------------------------------------ */

enum manner {
  ANSWERS, /* with `code` */
  STALLS,  /* until the call's deadline, or it is cancelled */
  HANGS,   /* until it is let go, whatever the call says */
};

struct lame {
  GMutex mutex;
  GCond changed;
  enum manner manner;
  int32_t code;
  const char *const *buckets; /* ends at NULL */
  uint32_t probes, lists;     /* calls begun */
  struct dg_backend *backend;
  struct dg_health *health;
};

static bool is_over(const struct dg_call *call)
{
  return (call->cancelled && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED)) ||
         (call->deadline_mono_ms && dg_time_mono_ms() >= call->deadline_mono_ms);
}

static int behave(struct lame *lame, const struct dg_call *call, uint32_t *count,
                  struct dg_error *err)
{
  int32_t code;

  g_mutex_lock(&lame->mutex);
  (*count)++;
  g_cond_broadcast(&lame->changed);
  while (lame->manner != ANSWERS && (lame->manner == HANGS || !is_over(call)))
    (void)g_cond_wait_until(&lame->changed, &lame->mutex, g_get_monotonic_time() + 10000);
  code = lame->manner == STALLS ? DG_E_TIMEOUT : lame->code;
  g_mutex_unlock(&lame->mutex);
  return code ? dg_fail(err, code, "as told") : 0;
}

static int lame_probe(void *self, const struct dg_call *call, struct dg_error *err)
{
  struct lame *lame = self;

  return behave(lame, call, &lame->probes, err);
}

static int lame_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                            void *receiver, struct dg_error *err)
{
  struct lame *lame = self;
  const char *const *names;

  if (behave(lame, call, &lame->lists, err) < 0)
    return -1;
  g_mutex_lock(&lame->mutex);
  names = lame->buckets;
  g_mutex_unlock(&lame->mutex);
  for (; *names; names++) {
    struct dg_bucket_row out = {.struct_size = sizeof out, .name = dg_slice_str(*names)};

    if (row(receiver, &out))
      break;
  }
  return 0;
}

static void lame_destroy(void *self)
{
  (void)self;
}

static const struct dg_backend_ops lame_ops = {
  .struct_size = sizeof lame_ops,
  .destroy = lame_destroy,
  .probe = lame_probe,
  .bucket_list = lame_bucket_list,
};

static const char *const no_buckets[] = {NULL};
static const char *const two_buckets[] = {"alpha", "beta", NULL};
static struct dg_health_params usual;
static struct lame one, other;
static struct dg_error err;
static const struct dg_call no_hurry = {.struct_size = sizeof no_hurry};

static void open_lame(struct lame *lame, const char *name)
{
  struct dg_health_params params = usual;

  memset(lame, 0, sizeof *lame);
  g_mutex_init(&lame->mutex);
  g_cond_init(&lame->changed);
  lame->buckets = no_buckets;
  lame->backend = dg_backend_wrap(&lame_ops, lame, name, "backend-lame");
  params.backend = lame->backend;
  lame->health = dg_health_new(&params);
}

static void tell(struct lame *lame, enum manner manner, int32_t code)
{
  g_mutex_lock(&lame->mutex);
  lame->manner = manner;
  lame->code = code;
  g_cond_broadcast(&lame->changed);
  g_mutex_unlock(&lame->mutex);
}

static void close_lame(struct lame *lame)
{
  tell(lame, ANSWERS, 0);
  dg_health_free(lame->health);
  dg_backend_free(lame->backend);
}

static uint32_t count_of(struct lame *lame, const uint32_t *count)
{
  uint32_t value;

  g_mutex_lock(&lame->mutex);
  value = *count;
  g_mutex_unlock(&lame->mutex);
  return value;
}

static void await_count(struct lame *lame, const uint32_t *count, uint32_t value)
{
  g_mutex_lock(&lame->mutex);
  while (*count < value)
    g_cond_wait(&lame->changed, &lame->mutex);
  g_mutex_unlock(&lame->mutex);
}

static void await_state(struct lame *lame, enum dg_health_state state)
{
  while (dg_health_state(lame->health) != state)
    g_usleep(1000); /* the case's own timeout ends it */
}

static void setup(void)
{
  usual = (struct dg_health_params){
    .gates = true,
    .reprobe_ms = 20,
    .list_timeout_ms = 300,
    .list_cooldown_ms = 600000,
    .list_fresh_ms = 600000,
  };
  open_lame(&one, "one");
  open_lame(&other, "other");
}

static void teardown(void)
{
  close_lame(&one);
  close_lame(&other);
}

static size_t probe_both(void)
{
  struct dg_health *both[] = {one.health, other.health};
  size_t gated = 99;

  ck_assert_msg(dg_health_probe_new(both, 2, &gated, &err) == 0, "%s", err.detail);
  return gated;
}

/* ---- The gate ---------------------------------------------------------------------------- */

START_TEST(what_answers_is_healthy)
{
  ck_assert_int_eq(dg_health_state(one.health), DG_HEALTH_UNKNOWN);
  ck_assert_int_eq(dg_health_check(one.health, "one", DG_SLICE("b"), &err), 0);
  ck_assert_uint_eq(probe_both(), 0);
  ck_assert_int_eq(dg_health_state(one.health), DG_HEALTH_HEALTHY);
  ck_assert_int_eq(dg_health_check(one.health, "one", DG_SLICE("b"), &err), 0);
  ck_assert_uint_eq(one.probes, 1);
}
END_TEST

START_TEST(an_outage_and_refused_credentials_gate_and_errors_do_not)
{
  static const struct {
    int32_t code;
    enum dg_health_state state;
    const char *cause; /* NULL: open */
  } rows[] = {
    {DG_E_UNAVAILABLE, DG_HEALTH_UNREACHABLE, "unreachable"},
    {DG_E_TIMEOUT, DG_HEALTH_UNREACHABLE, "unreachable"},
    {DG_E_ACCESS_DENIED, DG_HEALTH_AUTH_REJECTED, "credentials rejected"},
    {DG_E_IO, DG_HEALTH_ERRORING, NULL},
    {DG_E_READ_ONLY, DG_HEALTH_ERRORING, NULL},
    {DG_E_SLOW_DOWN, DG_HEALTH_ERRORING, NULL},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    tell(&one, ANSWERS, rows[i].code);
    ck_assert_uint_eq(probe_both(), rows[i].cause != NULL);
    ck_assert_int_eq(dg_health_state(one.health), rows[i].state);
    ck_assert_int_eq(dg_health_state(other.health), DG_HEALTH_HEALTHY);
    if (rows[i].cause) {
      g_autofree char *text = g_strdup_printf(
        "bucket 'b' is on backend 'one', which is currently unavailable: %s", rows[i].cause);

      ck_assert_int_eq(dg_health_check(one.health, "one", DG_SLICE("b"), &err), -1);
      ck_assert_int_eq(err.code, DG_E_BACKEND_DOWN);
      ck_assert_str_eq(err.detail, text);
    } else {
      ck_assert_int_eq(dg_health_check(one.health, "one", DG_SLICE("b"), &err), 0);
    }
  }
}
END_TEST

START_TEST(what_no_waiting_mends_is_said_at_once)
{
  struct dg_health *both[] = {one.health, other.health};
  size_t gated = 99;

  tell(&one, ANSWERS, DG_E_CONFIG);
  ck_assert_int_eq(dg_health_probe_new(both, 2, &gated, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CONFIG);
  ck_assert_uint_eq(gated, 99);
  ck_assert_uint_eq(one.probes, 1);
}
END_TEST

START_TEST(a_gate_opens_as_soon_as_a_probe_in_the_background_succeeds)
{
  tell(&one, ANSWERS, DG_E_UNAVAILABLE);
  ck_assert_uint_eq(probe_both(), 1);
  await_count(&one, &one.probes, count_of(&one, &one.probes) + 3);
  ck_assert_int_eq(dg_health_state(one.health), DG_HEALTH_UNREACHABLE);
  tell(&one, ANSWERS, 0);
  await_state(&one, DG_HEALTH_HEALTHY);
  ck_assert_int_eq(dg_health_check(one.health, "one", DG_SLICE("b"), &err), 0);
}
END_TEST

START_TEST(one_that_hangs_neither_holds_up_the_others_nor_the_start)
{
  uint64_t begun = dg_time_mono_ms();

  tell(&one, HANGS, 0);
  ck_assert_uint_eq(probe_both(), 1);
  ck_assert_uint_lt(dg_time_mono_ms() - begun, 40000);
  ck_assert_int_eq(dg_health_state(one.health), DG_HEALTH_UNREACHABLE);
  ck_assert_int_eq(dg_health_state(other.health), DG_HEALTH_HEALTHY);
  tell(&one, ANSWERS, 0);
  await_state(&one, DG_HEALTH_HEALTHY);
}
END_TEST

START_TEST(a_call_that_fails_like_an_outage_makes_it_be_probed)
{
  ck_assert_uint_eq(probe_both(), 0);
  tell(&one, ANSWERS, DG_E_UNAVAILABLE);
  dg_health_suspect(one.health, DG_E_NO_SUCH_KEY);
  dg_health_suspect(one.health, DG_E_IO);
  while (dg_health_state(one.health) == DG_HEALTH_HEALTHY) {
    /* again and again: just after a probe it is not believed */
    ck_assert_uint_le(count_of(&one, &one.probes), 3);
    dg_health_suspect(one.health, DG_E_UNAVAILABLE);
    g_usleep(1000);
  }
  ck_assert_int_eq(dg_health_state(one.health), DG_HEALTH_UNREACHABLE);
  ck_assert_uint_eq(other.probes, 1);
}
END_TEST

START_TEST(a_call_that_is_denied_makes_it_be_probed)
{
  ck_assert_uint_eq(probe_both(), 0);
  tell(&one, ANSWERS, DG_E_ACCESS_DENIED);
  while (dg_health_state(one.health) == DG_HEALTH_HEALTHY) {
    dg_health_suspect(one.health, DG_E_BACKEND_DENIED);
    g_usleep(1000);
  }
  ck_assert_int_eq(dg_health_state(one.health), DG_HEALTH_AUTH_REJECTED);
}
END_TEST

START_TEST(a_false_alarm_changes_nothing)
{
  ck_assert_uint_eq(probe_both(), 0);
  g_usleep(30000); /* longer than reprobe_ms: the last probe says nothing any more */
  dg_health_suspect(one.health, DG_E_TIMEOUT);
  await_count(&one, &one.probes, 2);
  ck_assert_int_eq(dg_health_check(one.health, "one", DG_SLICE("b"), &err), 0);
  ck_assert_int_eq(dg_health_state(one.health), DG_HEALTH_HEALTHY);
}
END_TEST

START_TEST(without_a_gate_nothing_is_probed)
{
  struct dg_health *all[1];
  size_t gated = 99;

  close_lame(&one);
  usual.gates = false;
  open_lame(&one, "one");
  all[0] = one.health;
  tell(&one, ANSWERS, DG_E_UNAVAILABLE);
  ck_assert_int_eq(dg_health_probe_new(all, 1, &gated, &err), 0);
  ck_assert_uint_eq(gated, 0);
  dg_health_suspect(one.health, DG_E_UNAVAILABLE);
  ck_assert_int_eq(dg_health_check(one.health, "one", DG_SLICE("b"), &err), 0);
  close_lame(&one);
  ck_assert_uint_eq(one.probes, 0);
  usual.gates = true;
  open_lame(&one, "one");
}
END_TEST

START_TEST(the_end_does_not_wait_for_a_call_that_stalls)
{
  uint64_t begun = dg_time_mono_ms();

  usual.list_timeout_ms = 600000;
  close_lame(&one);
  open_lame(&one, "one");
  tell(&one, STALLS, 0);
  (void)dg_health_buckets_begin(one.health, /* insist= */ false);
  await_count(&one, &one.lists, 1);
  dg_health_free(one.health);
  one.health = NULL;
  ck_assert_uint_lt(dg_time_mono_ms() - begun, 60000);
}
END_TEST

/* ---- Readiness ------------------------------------------------------------------------------ */

START_TEST(readiness_asks_all_side_by_side_and_not_the_gated)
{
  struct dg_health *both[] = {one.health, other.health};
  struct dg_call call = no_hurry;
  size_t failed = 99;
  uint32_t probes;

  ck_assert_int_eq(dg_health_ask(both, 2, &call, &failed, &err), 0);
  ck_assert_uint_eq(failed, 0);
  tell(&one, HANGS, 0);
  call.deadline_mono_ms = dg_time_mono_ms() + 200;
  ck_assert_int_eq(dg_health_ask(both, 2, &call, &failed, &err), 0);
  ck_assert_uint_eq(failed, 1);
  ck_assert_int_eq(err.code, DG_E_TIMEOUT);
  tell(&other, ANSWERS, DG_E_IO);
  call.deadline_mono_ms = dg_time_mono_ms() + 200;
  ck_assert_int_eq(dg_health_ask(both, 2, &call, &failed, &err), -1);
  ck_assert_uint_eq(failed, 2);

  tell(&one, ANSWERS, DG_E_ACCESS_DENIED);
  tell(&other, ANSWERS, 0);
  ck_assert_uint_eq(probe_both(), 1);
  close_lame(&other);
  probes = other.probes;
  open_lame(&other, "other");
  both[1] = one.health;
  ck_assert_int_eq(dg_health_ask(both, 2, &no_hurry, &failed, &err), -1);
  ck_assert_uint_eq(failed, 2);
  ck_assert_uint_gt(probes, 0);
}
END_TEST

/* ---- Buckets ----------------------------------------------------------------------------------- */

/* The names, with commas; "?" when it cannot list, with what it had last. */
static char *listed(struct lame *lame)
{
  GString *text = g_string_new(NULL);
  GPtrArray *rows = NULL;
  uint64_t ticket = dg_health_buckets_begin(lame->health, /* insist= */ false);

  if (dg_health_buckets_wait(lame->health, ticket, &no_hurry, &rows, &err) < 0)
    g_string_append_c(text, '?');
  for (guint i = 0; rows && i < rows->len; i++)
    g_string_append_printf(text, "%s,", ((const struct dg_bucket_seen *)rows->pdata[i])->name);
  g_clear_pointer(&rows, g_ptr_array_unref);
  return g_string_free(text, FALSE);
}

static void assert_listed(struct lame *lame, const char *expected)
{
  g_autofree char *text = listed(lame);

  ck_assert_str_eq(text, expected);
}

START_TEST(a_listing_is_good_for_a_while_and_until_a_bucket_comes_or_goes)
{
  one.buckets = two_buckets;
  assert_listed(&one, "alpha,beta,");
  one.buckets = no_buckets;
  assert_listed(&one, "alpha,beta,");
  ck_assert_uint_eq(one.lists, 1);
  dg_health_buckets_forget(one.health);
  assert_listed(&one, "");
  ck_assert_uint_eq(one.lists, 2);
}
END_TEST

START_TEST(a_listing_under_way_when_a_bucket_comes_is_not_shown_as_fresh)
{
  uint64_t before, after;
  GPtrArray *rows = NULL;

  tell(&one, HANGS, 0);
  before = dg_health_buckets_begin(one.health, /* insist= */ false);
  await_count(&one, &one.lists, 1);
  ck_assert_uint_eq(dg_health_buckets_begin(one.health, /* insist= */ false), before);
  dg_health_buckets_forget(one.health);
  after = dg_health_buckets_begin(one.health, /* insist= */ false);
  ck_assert_uint_ne(after, before);
  g_mutex_lock(&one.mutex);
  one.buckets = two_buckets;
  g_mutex_unlock(&one.mutex);
  tell(&one, ANSWERS, 0);
  ck_assert_int_eq(dg_health_buckets_wait(one.health, after, &no_hurry, &rows, &err), 0);
  ck_assert_uint_eq(rows->len, 2);
  g_ptr_array_unref(rows);
  ck_assert_uint_eq(count_of(&one, &one.lists), 2);
}
END_TEST

START_TEST(a_backend_that_cannot_list_is_left_alone_and_its_last_answer_shown)
{
  uint64_t begun;

  usual.list_fresh_ms = 0;
  close_lame(&one);
  open_lame(&one, "one");
  one.buckets = two_buckets;
  assert_listed(&one, "alpha,beta,");
  tell(&one, ANSWERS, DG_E_IO);
  for (int i = 0; i < 5; i++)
    assert_listed(&one, "?alpha,beta,");
  ck_assert_int_eq(err.code, DG_E_IO);
  ck_assert_uint_eq(one.lists, 2);
  /* until a probe finds that it works */
  tell(&one, ANSWERS, DG_E_UNAVAILABLE);
  ck_assert_uint_eq(probe_both(), 1);
  assert_listed(&one, "?alpha,beta,");
  ck_assert_uint_eq(count_of(&one, &one.lists), 2);
  tell(&one, ANSWERS, 0);
  await_state(&one, DG_HEALTH_HEALTHY);
  assert_listed(&one, "alpha,beta,");

  begun = dg_time_mono_ms();
  tell(&other, HANGS, 0);
  assert_listed(&other, "?");
  ck_assert_int_eq(err.code, DG_E_TIMEOUT);
  for (int i = 0; i < 5; i++)
    assert_listed(&other, "?");
  ck_assert_uint_lt(dg_time_mono_ms() - begun, 20000);
  ck_assert_uint_eq(count_of(&other, &other.lists), 1);
}
END_TEST

START_TEST(two_that_stall_cost_the_time_of_one)
{
  uint64_t begun = dg_time_mono_ms(), tickets[2];
  struct lame *both[] = {&one, &other};
  GPtrArray *rows = NULL;

  tell(&one, STALLS, 0);
  tell(&other, STALLS, 0);
  for (size_t i = 0; i < 2; i++)
    tickets[i] = dg_health_buckets_begin(both[i]->health, /* insist= */ false);
  /* both are at it before anyone waits */
  await_count(&one, &one.lists, 1);
  await_count(&other, &other.lists, 1);
  for (size_t i = 0; i < 2; i++)
    ck_assert_int_eq(
      dg_health_buckets_wait(both[i]->health, tickets[i], &no_hurry, &rows, &err), -1);
  ck_assert_uint_ge(dg_time_mono_ms() - begun, 300);
  ck_assert_ptr_null(rows);
}
END_TEST

START_TEST(only_a_listing_tells_that_a_bucket_is_not_there)
{
  ck_assert(!dg_health_lacks_bucket(one.health, "gamma"));
  one.buckets = two_buckets;
  dg_health_buckets_keep(one.health);
  await_count(&one, &one.lists, 1);
  while (!dg_health_lacks_bucket(one.health, "gamma"))
    g_usleep(1000);
  ck_assert(dg_health_lacks_bucket(one.health, "a"));
  ck_assert(dg_health_lacks_bucket(one.health, "alphaa"));
  ck_assert(!dg_health_lacks_bucket(one.health, "alpha"));
  ck_assert(!dg_health_lacks_bucket(one.health, "beta"));
  dg_health_buckets_forget(one.health);
  ck_assert(!dg_health_lacks_bucket(one.health, "gamma"));
}
END_TEST

START_TEST(a_look_that_was_too_slow_is_not_repeated_until_a_probe_succeeds)
{
  ck_assert_uint_ne(dg_health_look_until(one.health), 0);
  tell(&one, HANGS, 0);
  dg_health_was_slow(one.health);
  ck_assert_uint_eq(dg_health_look_until(one.health), 0);
  ck_assert_int_eq(dg_health_fail_down(one.health, "one", DG_SLICE("b"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_BACKEND_DOWN);
  ck_assert_ptr_nonnull(strstr(err.detail, "no answer in time"));
  tell(&one, ANSWERS, 0);
  await_state(&one, DG_HEALTH_HEALTHY);
  ck_assert_uint_ne(dg_health_look_until(one.health), 0);
}
END_TEST

static Suite *health_suite(void)
{
  Suite *suite = suite_create("engine health");
  TCase *cases = tcase_create("health");

  tcase_set_timeout(cases, 120);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, what_answers_is_healthy);
  tcase_add_test(cases, an_outage_and_refused_credentials_gate_and_errors_do_not);
  tcase_add_test(cases, what_no_waiting_mends_is_said_at_once);
  tcase_add_test(cases, a_gate_opens_as_soon_as_a_probe_in_the_background_succeeds);
  tcase_add_test(cases, one_that_hangs_neither_holds_up_the_others_nor_the_start);
  tcase_add_test(cases, a_call_that_fails_like_an_outage_makes_it_be_probed);
  tcase_add_test(cases, a_call_that_is_denied_makes_it_be_probed);
  tcase_add_test(cases, a_false_alarm_changes_nothing);
  tcase_add_test(cases, without_a_gate_nothing_is_probed);
  tcase_add_test(cases, the_end_does_not_wait_for_a_call_that_stalls);
  tcase_add_test(cases, readiness_asks_all_side_by_side_and_not_the_gated);
  tcase_add_test(cases, a_listing_is_good_for_a_while_and_until_a_bucket_comes_or_goes);
  tcase_add_test(cases, a_listing_under_way_when_a_bucket_comes_is_not_shown_as_fresh);
  tcase_add_test(cases, a_backend_that_cannot_list_is_left_alone_and_its_last_answer_shown);
  tcase_add_test(cases, two_that_stall_cost_the_time_of_one);
  tcase_add_test(cases, only_a_listing_tells_that_a_bucket_is_not_there);
  tcase_add_test(cases, a_look_that_was_too_slow_is_not_repeated_until_a_probe_succeeds);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(health_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
