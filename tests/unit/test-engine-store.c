/* SPDX-License-Identifier: Apache-2.0 */
/* The engine on backend-fs and codec-xdelta3: round trips, and kill -9 at every
 * fault point of a put, an overwrite, a delete and a complete. */
#include "config.h"

#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fault.h"
#include "engine-double.h"

static char *dir;
static struct double_engine engine;
static struct dg_error err;

#define assert_ok(call) ck_assert_msg((call) == 0, "%s", err.detail)

static void setup(void)
{
  double_settings_reset();
  dir = double_real_dir();
  double_real_open(&engine, dir);
  assert_ok(dg_engine_bucket_create(engine.engine, &double_call, double_str("bucket"), &err));
}

static void teardown(void)
{
  engine.owns_dir = true;
  double_engine_close(&engine);
  g_free(dir);
}

static void put_ok(const char *key, GBytes *body, uint32_t variant)
{
  struct dg_put_result result;

  assert_ok(double_put(&engine, "bucket", key, body, &result, &err));
  ck_assert_uint_eq(result.variant, variant);
}

static void assert_reads(const char *key, GBytes *body)
{
  g_autoptr(GBytes) got = NULL;

  assert_ok(double_get(&engine, "bucket", key, &got, &err));
  ck_assert(g_bytes_equal(got, body));
}

START_TEST(objects_of_every_size_come_back)
{
  const size_t sizes[] = {0, 1, 300000, 1048575, 1048576, 1048577, 5000000};

  for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
    g_autofree char *zip = g_strdup_printf("s%zu/a.zip", i);
    g_autofree char *next = g_strdup_printf("s%zu/b.zip", i);
    g_autoptr(GBytes) body = double_bytes(sizes[i], (uint32_t)i);
    g_autoptr(GBytes) edited = double_edit(body, sizes[i] / 2, 100, 1);

    put_ok("plain.bin", body, DG_VARIANT_PASSTHROUGH);
    assert_reads("plain.bin", body);
    put_ok(zip, body, sizes[i] < 1000 ? DG_VARIANT_PASSTHROUGH : DG_VARIANT_DELTA);
    put_ok(next, edited, sizes[i] < 1000 ? DG_VARIANT_PASSTHROUGH : DG_VARIANT_DELTA);
    assert_reads(zip, body);
    assert_reads(next, edited);
  }
}
END_TEST

START_TEST(ranges_of_a_delta_are_exact)
{
  g_autoptr(GBytes) body = double_bytes(5000000, 1);
  g_autoptr(GBytes) edited = double_edit(body, 2000000, 100000, 1);
  const size_t at[] = {0, 1, 1048575, 1048576, 1999999, 2097151, 4999999};
  const size_t len[] = {1, 2, 1000, 1048576, 3000000};

  put_ok("r/a.zip", body, DG_VARIANT_DELTA);
  put_ok("r/b.zip", edited, DG_VARIANT_DELTA);
  for (size_t i = 0; i < G_N_ELEMENTS(at); i++)
    for (size_t j = 0; j < G_N_ELEMENTS(len); j++) {
      size_t take = MIN(len[j], 5000000 - at[i]);
      g_autoptr(GBytes) got = NULL, expected = g_bytes_new_from_bytes(edited, at[i], take);

      assert_ok(double_get_range(&engine, "bucket", "r/b.zip", (struct dg_range){at[i], take}, &got,
                                 &err));
      ck_assert(g_bytes_equal(got, expected));
    }
}
END_TEST

START_TEST(a_restart_finds_everything)
{
  g_autoptr(GBytes) body = double_bytes(3000000, 1);
  g_autoptr(GBytes) edited = double_edit(body, 2000000, 100, 1);

  put_ok("r/a.zip", body, DG_VARIANT_DELTA);
  put_ok("r/b.zip", edited, DG_VARIANT_DELTA);
  double_engine_close(&engine);
  double_real_open(&engine, dir);
  assert_reads("r/b.zip", edited);
  put_ok("r/c.zip", edited, DG_VARIANT_DELTA);
  assert_ok(double_delete(&engine, "bucket", "r/a.zip", &err));
  assert_reads("r/c.zip", edited);
}
END_TEST

/* ---- Death ------------------------------------------------------------------------- */

struct scenario {
  GBytes *old, *fresh; /* fresh NULL: a delete */
  bool multipart;
};

static GBytes *sibling_body;

static int complete(GBytes *body)
{
  struct dg_put_request request = {.bucket = double_str("bucket"), .key = double_str("k/k.zip")};
  struct dg_complete_part parts[1];
  struct dg_complete_request ask = {.bucket = request.bucket,
                                    .key = request.key,
                                    .parts = parts,
                                    .part_count = 1};
  struct dg_part_result stored;
  struct dg_put_result result;
  struct dg_part_put *part;
  char id[33];

  if (dg_engine_upload_create(engine.engine, &double_call, &request, id, &err) < 0)
    return -1;
  if (dg_engine_part_open(engine.engine, &double_call, request.bucket, request.key,
                          double_str(id), 1, DG_TO_END, DG_SUM_NONE, &part, &err) < 0)
    return -1;
  if (dg_part_write(part, g_bytes_get_data(body, NULL), g_bytes_get_size(body), &err) < 0) {
    dg_part_abort(part);
    return -1;
  }
  if (dg_part_commit(part, NULL, &stored, &err) < 0)
    return -1;
  ask.upload_id = double_str(id);
  parts[0] = (struct dg_complete_part){.part_no = 1, .etag = double_str(stored.etag)};
  return dg_engine_upload_complete(engine.engine, &double_call, &ask, &result, &err);
}

static int act(const struct scenario *s)
{
  if (s->multipart)
    return complete(s->fresh);
  return s->fresh ? double_put(&engine, "bucket", "k/k.zip", s->fresh, NULL, &err)
                  : double_delete(&engine, "bucket", "k/k.zip", &err);
}

static GBytes *read_or_null(const char *key)
{
  GBytes *body = NULL;

  if (double_get(&engine, "bucket", key, &body, &err) == 0)
    return body;
  ck_assert_msg(err.code == DG_E_NO_SUCH_KEY, "%s: %s", key, err.detail);
  return NULL;
}

static bool same(GBytes *a, GBytes *b)
{
  return (!a && !b) || (a && b && g_bytes_equal(a, b));
}

static void check_after(const struct scenario *s, bool acknowledged, unsigned n)
{
  g_autoptr(GBytes) body = read_or_null("k/k.zip");
  g_autoptr(GBytes) sibling = read_or_null("k/s.zip");

  ck_assert_msg(same(sibling, sibling_body), "step %u: the sibling is damaged", n);
  if (acknowledged)
    ck_assert_msg(same(body, s->fresh), "step %u: the acknowledged change is lost", n);
  else
    ck_assert_msg(same(body, s->fresh) || same(body, s->old),
                  "step %u: neither the old object nor the new one", n);
}

/* A process of its own does it and dies at its n-th fault point. Returns
 * whether it died; *ret_acknowledged: it had been told of success before. */
static bool act_and_die(const struct scenario *s, unsigned n, bool *ret_acknowledged)
{
  int said[2], status;
  char byte = 0;
  pid_t pid;

  ck_assert_int_eq(pipe(said), 0);
  pid = fork();
  ck_assert_int_ge(pid, 0);
  if (pid == 0) {
    g_autofree char *rule = g_strdup_printf("*:kill:%u", n);

    double_real_open(&engine, dir);
    if (dg_fault_set(rule, &err) < 0)
      _exit(2);
    if (act(s) < 0 || write(said[1], "x", 1) != 1)
      _exit(3);
    _exit(0);
  }
  (void)close(said[1]);
  *ret_acknowledged = read(said[0], &byte, 1) == 1;
  (void)close(said[0]);
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "the child failed: %d", status);
  return WIFSIGNALED(status);
}

static void run_deaths(const struct scenario *s)
{
  unsigned n;

  for (n = 1; n < 200; n++) {
    bool died, acknowledged;

    if (s->old)
      assert_ok(double_put(&engine, "bucket", "k/k.zip", s->old, NULL, &err));
    else
      assert_ok(double_delete(&engine, "bucket", "k/k.zip", &err));
    double_engine_close(&engine);
    died = act_and_die(s, n, &acknowledged);
    double_real_open(&engine, dir);
    check_after(s, acknowledged, n);
    assert_ok(act(s));
    check_after(s, true, n);
    if (!died)
      break;
  }
  ck_assert_uint_gt(n, 2);
  ck_assert_uint_lt(n, 200);
}

START_TEST(death_at_any_step_leaves_the_old_object_or_the_new_one)
{
  g_autoptr(GBytes) one = double_bytes(200000, 1);
  g_autoptr(GBytes) two = double_edit(one, 1000, 100, 1);
  g_autoptr(GBytes) other = double_bytes(200000, 2);
  const struct scenario list[] = {
    {NULL, two, false}, {one, two, false},  {one, other, false}, {other, two, false},
    {two, NULL, false}, {other, NULL, false}, {one, two, true},
  };

  sibling_body = one;
  put_ok("k/s.zip", one, DG_VARIANT_DELTA);
  for (size_t i = 0; i < G_N_ELEMENTS(list); i++)
    run_deaths(&list[i]);
  sibling_body = NULL;
  assert_ok(double_delete(&engine, "bucket", "k/s.zip", &err));
  /* Alone in its deltaspace: the reference comes and goes too. */
  run_deaths(&(struct scenario){NULL, one, false});
  run_deaths(&(struct scenario){one, NULL, false});
}
END_TEST

START_TEST(a_failing_step_leaves_the_old_object_or_the_new_one)
{
  g_autoptr(GBytes) one = double_bytes(200000, 1);
  g_autoptr(GBytes) two = double_edit(one, 1000, 100, 1);
  g_autoptr(GBytes) other = double_bytes(200000, 2);
  const struct scenario list[] = {{one, two, false}, {one, other, false}, {other, two, false},
                                  {two, NULL, false}};
  bool acknowledged = false;

  sibling_body = one;
  put_ok("k/s.zip", one, DG_VARIANT_DELTA);
  for (size_t i = 0; i < G_N_ELEMENTS(list); i++) {
    for (unsigned n = 1; n < 60; n++) {
      g_autofree char *rule = g_strdup_printf("*:ENOSPC:%u", n);

      if (list[i].old)
        assert_ok(double_put(&engine, "bucket", "k/k.zip", list[i].old, NULL, &err));
      assert_ok(dg_fault_set(rule, &err));
      acknowledged = act(&list[i]) == 0;
      assert_ok(dg_fault_set(NULL, &err));
      check_after(&list[i], acknowledged, n);
    }
    ck_assert(acknowledged);
  }
}
END_TEST

static Suite *store_suite(void)
{
  Suite *suite = suite_create("engine on plugins");
  TCase *cases = tcase_create("store");

  tcase_set_timeout(cases, 120);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, objects_of_every_size_come_back);
  tcase_add_test(cases, ranges_of_a_delta_are_exact);
  tcase_add_test(cases, a_restart_finds_everything);
#ifdef DG_FAULT_POINTS
  tcase_add_test(cases, death_at_any_step_leaves_the_old_object_or_the_new_one);
  tcase_add_test(cases, a_failing_step_leaves_the_old_object_or_the_new_one);
#endif
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(store_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
