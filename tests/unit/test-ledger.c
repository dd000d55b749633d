/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of a quota: changes side by side, counts that run along, and
 * death between any two writes. */
#include "config.h"

#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/slice.h"
#include "core/engine/ledger.h"
#include "core/engine/ledgerfile.h"

#define NONE UINT64_MAX

static const struct dg_call call = {.struct_size = sizeof call};
static const struct dg_use nothing;
static struct dg_error err;
static struct dg_ledger *ledger;
static char *dir, *path;

static struct dg_use object(uint64_t bytes)
{
  return (struct dg_use){1, bytes};
}

static struct dg_use_limit most(uint64_t objects, uint64_t bytes)
{
  return (struct dg_use_limit){.bucket = "b", .most = {objects, bytes}};
}

static struct dg_ledger *open_run(uint64_t run)
{
  return dg_ledger_open(&(struct dg_ledger_params){
    .path = path, .place = "default/b", .run = run, .believe = true});
}

static void count_empty(void)
{
  struct dg_ledger_state before;
  struct dg_use use;

  dg_ledger_count_begin(ledger);
  ck_assert(dg_ledger_count_end(ledger, &before, &use));
}

static void setup(void)
{
  dir = g_dir_make_tmp("ledger-test-XXXXXX", NULL);
  path = g_build_filename(dir, "file", NULL);
  ledger = open_run(1);
  count_empty();
}

static void teardown(void)
{
  dg_ledger_close(ledger, /* keep= */ false);
  ck_assert_int_eq(g_access(path, F_OK), -1);
  (void)g_rmdir(dir);
  g_free(path);
  g_free(dir);
}

static int begin(const char *key, struct dg_use before, struct dg_use after,
                 const struct dg_use_limit *limit, uint32_t *ret_change)
{
  return dg_ledger_begin(ledger, &call, dg_slice_str(key), before, after, limit, ret_change, &err);
}

static int change(const char *key, struct dg_use before, struct dg_use after,
                  const struct dg_use_limit *limit)
{
  uint32_t number;

  if (begin(key, before, after, limit, &number) < 0)
    return -1;
  dg_ledger_end(ledger, number, &after);
  return 0;
}

static void assert_use(uint64_t objects, uint64_t bytes)
{
  struct dg_ledger_state state;

  dg_ledger_look(ledger, &state);
  ck_assert(state.known);
  ck_assert_uint_eq(state.use.objects, objects);
  ck_assert_uint_eq(state.use.bytes, bytes);
}

/* ---- The limit ------------------------------------------------------------------------- */

START_TEST(an_overwrite_nets_out)
{
  ck_assert_int_eq(change("k", nothing, object(100), NULL), 0);
  assert_use(1, 100);
  ck_assert_int_eq(change("k", object(100), object(30), NULL), 0);
  assert_use(1, 30);
  ck_assert_int_eq(change("l", nothing, object(0), NULL), 0);
  assert_use(2, 30);
  ck_assert_int_eq(change("k", object(30), nothing, NULL), 0);
  assert_use(1, 0);
}
END_TEST

START_TEST(what_grows_beyond_a_limit_is_refused_to_the_byte)
{
  struct dg_use_limit limit = most(NONE, 100);

  ck_assert_int_eq(change("k", nothing, object(100), &limit), 0);
  ck_assert_int_eq(change("l", nothing, object(1), &limit), -1);
  ck_assert_int_eq(err.code, DG_E_QUOTA);
  ck_assert_ptr_nonnull(strstr(err.detail, "bucket 'b'"));
  ck_assert_ptr_nonnull(strstr(err.detail, "100 of 100 bytes"));
  ck_assert_int_eq(change("l", nothing, object(0), &limit), 0);
  ck_assert_int_eq(change("k", object(100), object(101), &limit), -1);
  ck_assert_int_eq(change("k", object(100), object(100), &limit), 0);
  ck_assert_int_eq(change("k", object(100), object(99), &limit), 0);
  ck_assert_int_eq(change("l", object(0), object(1), &limit), 0);
  assert_use(2, 100);
}
END_TEST

START_TEST(objects_are_limited_too)
{
  struct dg_use_limit limit = most(1, NONE);

  ck_assert_int_eq(change("k", nothing, object(100), &limit), 0);
  ck_assert_int_eq(change("l", nothing, object(0), &limit), -1);
  ck_assert_int_eq(err.code, DG_E_QUOTA);
  ck_assert_ptr_nonnull(strstr(err.detail, "1 of 1 objects"));
  ck_assert_int_eq(change("k", object(100), object(UINT64_C(1) << 50), &limit), 0);
}
END_TEST

START_TEST(what_is_above_its_limit_may_still_shrink)
{
  struct dg_use_limit limit = most(1, 10);

  ck_assert_int_eq(change("k", nothing, object(100), NULL), 0);
  ck_assert_int_eq(change("l", nothing, object(100), NULL), 0);
  ck_assert_int_eq(change("k", object(100), object(99), &limit), 0);
  ck_assert_int_eq(change("k", object(99), object(100), &limit), -1);
  ck_assert_int_eq(change("k", object(99), nothing, &limit), 0);
  assert_use(1, 100);
}
END_TEST

START_TEST(growth_is_reserved_while_it_is_written)
{
  struct dg_use_limit limit = most(NONE, 100);
  uint32_t first, second;

  ck_assert_int_eq(begin("k", nothing, object(60), &limit, &first), 0);
  ck_assert_int_eq(begin("l", nothing, object(60), &limit, &second), -1);
  ck_assert_int_eq(err.code, DG_E_QUOTA);
  ck_assert_int_eq(begin("l", nothing, object(40), &limit, &second), 0);
  dg_ledger_end(ledger, first, &nothing); /* it failed, and gives its room back */
  dg_ledger_end(ledger, second, &(struct dg_use){1, 40});
  assert_use(1, 40);
  ck_assert_int_eq(change("m", nothing, object(60), &limit), 0);
  assert_use(2, 100);
}
END_TEST

START_TEST(a_change_that_shrinks_makes_room_once_it_has_ended)
{
  struct dg_use_limit limit = most(NONE, 100);
  uint32_t number;

  ck_assert_int_eq(change("k", nothing, object(100), &limit), 0);
  ck_assert_int_eq(begin("k", object(100), nothing, &limit, &number), 0);
  ck_assert_int_eq(change("l", nothing, object(1), &limit), -1);
  dg_ledger_end(ledger, number, &nothing);
  ck_assert_int_eq(change("l", nothing, object(1), &limit), 0);
}
END_TEST

#define EDGE 500u

static gint let_in;

static gpointer put_until_full(gpointer thread)
{
  struct dg_use_limit limit = most(EDGE, NONE);
  struct dg_error error;

  for (uint32_t i = 0; i < EDGE; i++) {
    g_autofree char *key = g_strdup_printf("%u/%u", GPOINTER_TO_UINT(thread), i);
    struct dg_use after = object(i);
    uint32_t number;

    if (dg_ledger_begin(ledger, &call, dg_slice_str(key), nothing, after, &limit, &number,
                        &error) < 0) {
      ck_assert_int_eq(error.code, DG_E_QUOTA);
      continue;
    }
    g_atomic_int_inc(&let_in);
    dg_ledger_end(ledger, number, &after);
  }
  return NULL;
}

START_TEST(threads_on_the_edge_never_pass_it_together)
{
  struct dg_ledger_state state;
  GThread *threads[8];

  let_in = 0;
  for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("put", put_until_full, GUINT_TO_POINTER(i));
  for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
    (void)g_thread_join(threads[i]);
  ck_assert_int_eq(let_in, EDGE);
  dg_ledger_look(ledger, &state);
  ck_assert_uint_eq(state.use.objects, EDGE);
  ck_assert_uint_eq(state.reserved.objects + state.reserved.bytes + state.change_count, 0);
}
END_TEST

START_TEST(more_changes_than_places_wait_for_each_other)
{
  static const char *const keys = "k";
  uint32_t numbers[DG_LEDGER_PLACES], number;
  int32_t left = 1;
  struct dg_call gone = {.struct_size = sizeof gone, .cancelled = &left};

  for (uint32_t i = 0; i < DG_LEDGER_PLACES; i++) {
    g_autofree char *key = g_strdup_printf("%s%u", keys, i);

    ck_assert_int_eq(begin(key, nothing, object(1), NULL, &numbers[i]), 0);
  }
  ck_assert_int_eq(dg_ledger_begin(ledger, &gone, dg_slice_str("late"), nothing, object(1), NULL,
                                   &number, &err),
                   -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  for (uint32_t i = 0; i < DG_LEDGER_PLACES; i++)
    dg_ledger_end(ledger, numbers[i], &(struct dg_use){1, 1});
  ck_assert_int_eq(change("late", nothing, object(1), NULL), 0);
  assert_use(DG_LEDGER_PLACES + 1, DG_LEDGER_PLACES + 1);
}
END_TEST

/* ---- Not known, or in doubt ----------------------------------------------------------------- */

START_TEST(nothing_grows_in_a_bucket_that_was_not_counted)
{
  struct dg_use_limit limit = most(NONE, 100);

  dg_ledger_reset(ledger);
  ck_assert_int_eq(change("k", nothing, object(1), &limit), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  ck_assert_int_eq(change("k", object(5), object(5), &limit), 0);
  ck_assert_int_eq(change("k", object(5), nothing, &limit), 0);
  ck_assert_int_eq(change("l", nothing, object(1), NULL), 0);
  count_empty();
  ck_assert_int_eq(change("k", nothing, object(1), &limit), 0);
  assert_use(1, 1);
}
END_TEST

START_TEST(what_is_in_doubt_counts_as_the_worst_until_somebody_looked)
{
  struct dg_use_limit limit = most(NONE, 100);
  struct dg_ledger_state state;
  GBytes *key;
  uint32_t number;

  ck_assert_int_eq(change("k", nothing, object(50), &limit), 0);
  ck_assert_int_eq(begin("l", nothing, object(50), &limit, &number), 0);
  dg_ledger_end(ledger, number, NULL);
  dg_ledger_look(ledger, &state);
  ck_assert_uint_eq(state.doubt_count, 1);
  ck_assert_int_eq(change("m", nothing, object(1), &limit), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  ck_assert_int_eq(change("m", nothing, object(51), &limit), -1);
  ck_assert_int_eq(err.code, DG_E_QUOTA); /* whatever comes out */
  key = dg_ledger_doubt(ledger, 0);
  ck_assert_ptr_nonnull(key);
  ck_assert_ptr_null(dg_ledger_doubt(ledger, 1));
  ck_assert_uint_eq(g_bytes_get_size(key), 1);
  ck_assert_int_eq(*(const char *)g_bytes_get_data(key, NULL), 'l');
  g_bytes_unref(key);
  dg_ledger_resolve(ledger, dg_slice_str("l"), nothing);
  ck_assert_ptr_null(dg_ledger_doubt(ledger, 0));
  ck_assert_int_eq(change("m", nothing, object(50), &limit), 0);
  assert_use(2, 100);
}
END_TEST

START_TEST(the_next_change_of_a_key_settles_the_doubt_about_it)
{
  struct dg_ledger_state state;
  uint32_t number;

  ck_assert_int_eq(begin("l", nothing, object(50), NULL, &number), 0);
  dg_ledger_end(ledger, number, NULL);
  ck_assert_int_eq(change("l", object(50), object(7), NULL), 0);
  dg_ledger_look(ledger, &state);
  ck_assert_uint_eq(state.doubt_count, 0);
  assert_use(1, 7);
}
END_TEST

/* ---- Counts --------------------------------------------------------------------------------------- */

START_TEST(a_count_corrects_what_others_did)
{
  struct dg_ledger_state before;
  struct dg_use use;

  ck_assert_int_eq(change("k", nothing, object(50), NULL), 0);
  dg_ledger_count_begin(ledger);
  ck_assert(dg_ledger_count_row(ledger, dg_slice_str("a"), object(5)));
  ck_assert(dg_ledger_count_row(ledger, dg_slice_str("k"), object(60)));
  ck_assert(dg_ledger_count_end(ledger, &before, &use));
  ck_assert(before.known);
  ck_assert_uint_eq(before.use.bytes, 50);
  ck_assert_uint_eq(use.bytes, 65);
  assert_use(2, 65);
}
END_TEST

START_TEST(a_reset_voids_the_count_that_runs)
{
  struct dg_ledger_state before;
  struct dg_use use;

  dg_ledger_count_begin(ledger);
  ck_assert(dg_ledger_count_row(ledger, dg_slice_str("a"), object(5)));
  dg_ledger_reset(ledger);
  ck_assert(!dg_ledger_count_row(ledger, dg_slice_str("b"), object(5)));
  ck_assert(!dg_ledger_count_end(ledger, &before, &use));
  dg_ledger_look(ledger, &before);
  ck_assert(!before.known);
  count_empty();
}
END_TEST

/* A bucket of few keys. Each has a lock, as its deltaspace has; `size` is what a
 * backend would tell at any moment, NONE: no object. */
#define KEYS 40u
#define WRITERS 4u

static struct {
  GMutex mutex;
  gint64 size;
} things[KEYS];
static gint writing;

static void key_of(uint32_t i, char key[16])
{
  (void)g_snprintf(key, 16, "k%03u", i);
}

static struct dg_use use_of(gint64 size)
{
  return size < 0 ? nothing : object((uint64_t)size);
}

static gint64 look(uint32_t i)
{
  return __atomic_load_n(&things[i].size, __ATOMIC_SEQ_CST);
}

/* Now and then a change fails, and what it left is told, or nobody can tell. */
static void write_one(GRand *rand)
{
  uint32_t i = (uint32_t)g_rand_int_range(rand, 0, KEYS), number;
  gint64 after = g_rand_int_range(rand, -40, 100), outcome;
  struct dg_use now;
  struct dg_error error;
  char key[16];

  key_of(i, key);
  g_mutex_lock(&things[i].mutex);
  ck_assert_int_eq(dg_ledger_begin(ledger, &call, dg_slice_str(key), use_of(look(i)),
                                   use_of(after), NULL, &number, &error),
                   0);
  outcome = g_rand_int_range(rand, 0, 8) == 0 ? look(i) : after;
  if (g_rand_int_range(rand, 0, 3) == 0)
    g_thread_yield();
  __atomic_store_n(&things[i].size, outcome, __ATOMIC_SEQ_CST);
  now = use_of(outcome);
  dg_ledger_end(ledger, number, g_rand_int_range(rand, 0, 20) == 0 ? NULL : &now);
  g_mutex_unlock(&things[i].mutex);
}

static gpointer write_on(gpointer seed)
{
  GRand *rand = g_rand_new_with_seed(GPOINTER_TO_UINT(seed));

  while (g_atomic_int_get(&writing))
    write_one(rand);
  g_rand_free(rand);
  return NULL;
}

/* In pages, which are read a while before their rows are given. */
static void count_all(GRand *rand)
{
  struct dg_ledger_state before;
  struct dg_use use;
  char key[16];

  dg_ledger_count_begin(ledger);
  for (uint32_t at = 0; at < KEYS;) {
    uint32_t rows = (uint32_t)g_rand_int_range(rand, 1, 12);
    gint64 page[12];

    rows = MIN(rows, KEYS - at);
    for (uint32_t i = 0; i < rows; i++)
      page[i] = look(at + i);
    g_thread_yield();
    for (uint32_t i = 0; i < rows; i++) {
      key_of(at + i, key);
      if (page[i] >= 0)
        ck_assert(dg_ledger_count_row(ledger, dg_slice_str(key), object((uint64_t)page[i])));
    }
    at += rows;
  }
  ck_assert(dg_ledger_count_end(ledger, &before, &use));
}

static void resolve_all(void)
{
  GBytes *doubt;

  while ((doubt = dg_ledger_doubt(ledger, 0))) {
    struct dg_slice key = dg_slice_of(g_bytes_get_data(doubt, NULL), g_bytes_get_size(doubt));
    g_autofree char *text = dg_slice_dup(key);
    uint32_t i = (uint32_t)strtoul(text + 1, NULL, 10);

    g_mutex_lock(&things[i].mutex);
    dg_ledger_resolve(ledger, key, use_of(look(i)));
    g_mutex_unlock(&things[i].mutex);
    g_bytes_unref(doubt);
  }
}

static void assert_true_sum(uint32_t round)
{
  struct dg_ledger_state state;
  uint64_t objects = 0, bytes = 0;

  for (uint32_t i = 0; i < KEYS; i++) {
    objects += use_of(look(i)).objects;
    bytes += use_of(look(i)).bytes;
  }
  dg_ledger_look(ledger, &state);
  ck_assert_uint_eq(state.change_count, 0);
  ck_assert_msg(state.known && state.use.objects == objects && state.use.bytes == bytes,
                "round %u: %u objects and %u bytes instead of %u and %u", round,
                (unsigned)state.use.objects, (unsigned)state.use.bytes, (unsigned)objects,
                (unsigned)bytes);
}

START_TEST(a_count_beside_writers_gives_what_is_there)
{
  GRand *rand = g_rand_new_with_seed(1);

  for (uint32_t i = 0; i < KEYS; i++) {
    g_mutex_init(&things[i].mutex);
    things[i].size = -1;
  }
  for (uint32_t round = 0; round < 60; round++) {
    GThread *threads[WRITERS];

    g_atomic_int_set(&writing, 1);
    for (uint32_t i = 0; i < WRITERS; i++)
      threads[i] = g_thread_new("write", write_on, GUINT_TO_POINTER(round * WRITERS + i));
    /* Begins with nothing known, in the middle of changes. */
    dg_ledger_reset(ledger);
    for (int i = 0; i < 3; i++) {
      count_all(rand);
      resolve_all();
    }
    g_atomic_int_set(&writing, 0);
    for (uint32_t i = 0; i < WRITERS; i++)
      (void)g_thread_join(threads[i]);
    resolve_all();
    assert_true_sum(round);
  }
  g_rand_free(rand);
}
END_TEST

/* ---- The file --------------------------------------------------------------------------------------- */

static void reopen(uint64_t run, bool keep)
{
  dg_ledger_close(ledger, keep);
  ledger = open_run(run);
}

static bool known(void)
{
  struct dg_ledger_state state;

  dg_ledger_look(ledger, &state);
  return state.known;
}

START_TEST(the_next_run_believes_what_was_closed)
{
  ck_assert_int_eq(change("k", nothing, object(50), NULL), 0);
  reopen(2, /* keep= */ true);
  assert_use(1, 50);
  ck_assert_int_eq(change("k", object(50), object(60), NULL), 0);
  reopen(3, /* keep= */ true);
  assert_use(1, 60);
  reopen(4, /* keep= */ false);
  ck_assert(!known());
}
END_TEST

START_TEST(a_run_that_did_not_have_it_open_makes_it_worthless)
{
  ck_assert_int_eq(change("k", nothing, object(50), NULL), 0);
  reopen(3, /* keep= */ true);
  ck_assert(!known());
}
END_TEST

START_TEST(the_file_of_another_place_is_not_believed)
{
  dg_ledger_close(ledger, /* keep= */ true);
  ledger = dg_ledger_open(&(struct dg_ledger_params){
    .path = path, .place = "other/b", .run = 2, .believe = true});
  ck_assert(!known());
}
END_TEST

static void damage(long at)
{
  g_autofree char *data = NULL;
  gsize len;

  ck_assert(g_file_get_contents(path, &data, &len, NULL));
  ck_assert_uint_gt(len, (gsize)at);
  data[at] ^= 1;
  ck_assert(g_file_set_contents(path, data, (gssize)len, NULL));
}

START_TEST(a_damaged_file_is_not_believed)
{
  const long places[] = {0, 20, 130, 4096, 4096 + 30};

  for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
    ck_assert_int_eq(change("k", nothing, object(50), NULL), 0);
    dg_ledger_close(ledger, /* keep= */ true);
    damage(places[i]);
    ledger = open_run(2 * i + 2);
    ck_assert_msg(!known(), "damaged at %ld", places[i]);
    reopen(2 * i + 3, /* keep= */ true);
    count_empty();
  }
}
END_TEST

START_TEST(a_disk_that_takes_no_more_costs_only_a_count)
{
  ck_assert_int_eq(change("k", nothing, object(50), NULL), 0);
  ck_assert_int_eq(dg_fault_set("engine.quota.write:ENOSPC", &err), 0);
  ck_assert_int_eq(change("k", object(50), object(60), NULL), 0);
  ck_assert_int_eq(dg_fault_set(NULL, &err), 0);
  assert_use(1, 60);
  reopen(2, /* keep= */ true);
  ck_assert(!known());
}
END_TEST

/* ---- Death -------------------------------------------------------------------------------------------- */

/* In a process of its own: what the last completed step left. `reached`: how far
 * the object itself came, in a file of one byte. */
static void die_at(const char *step, unsigned hit, const char *object_path)
{
  pid_t pid = fork();
  int status;

  if (pid == 0) {
    g_autofree char *rule = g_strdup_printf("%s:kill:%u", step, hit);
    uint32_t number;

    ledger = open_run(2);
    (void)dg_fault_set(rule, &err);
    for (uint64_t size = 1; size < 4; size++) {
      struct dg_use before = size > 1 ? object(size - 1) : nothing, after = object(size);
      const char text[2] = {(char)('0' + size), '\0'};

      (void)begin("k", before, after, NULL, &number);
      (void)g_file_set_contents(object_path, text, 1, NULL);
      dg_ledger_end(ledger, number, &after);
    }
    _exit(0);
  }
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_msg(WIFSIGNALED(status), "%s was not reached %u times", step, hit);
}

START_TEST(a_kill_between_any_two_writes_loses_nothing)
{
  const char *const steps[] = {"engine.quota.noted", "engine.quota.settle", "engine.quota.settled"};
  g_autofree char *object_path = g_build_filename(dir, "object", NULL);

  for (size_t i = 0; i < G_N_ELEMENTS(steps); i++)
    for (unsigned hit = 1; hit <= 3; hit++) {
      g_autofree char *text = NULL;
      uint64_t size = 0;
      GBytes *doubt;

      dg_ledger_close(ledger, /* keep= */ false);
      ledger = open_run(1);
      count_empty();
      dg_ledger_close(ledger, /* keep= */ true);
      (void)g_unlink(object_path);
      die_at(steps[i], hit, object_path);
      if (g_file_get_contents(object_path, &text, NULL, NULL))
        size = (uint64_t)(text[0] - '0');
      ledger = open_run(3);
      doubt = dg_ledger_doubt(ledger, 0);
      ck_assert_int_eq(doubt == NULL, i == 2);
      if (doubt)
        g_bytes_unref(doubt);
      dg_ledger_resolve(ledger, dg_slice_str("k"), size ? object(size) : nothing);
      assert_use(size > 0, size);
    }
  (void)g_unlink(object_path);
}
END_TEST

static Suite *ledger_suite(void)
{
  Suite *suite = suite_create("ledger");
  TCase *cases = tcase_create("ledger");

  tcase_set_timeout(cases, 120);
  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, an_overwrite_nets_out);
  tcase_add_test(cases, what_grows_beyond_a_limit_is_refused_to_the_byte);
  tcase_add_test(cases, objects_are_limited_too);
  tcase_add_test(cases, what_is_above_its_limit_may_still_shrink);
  tcase_add_test(cases, growth_is_reserved_while_it_is_written);
  tcase_add_test(cases, a_change_that_shrinks_makes_room_once_it_has_ended);
  tcase_add_test(cases, threads_on_the_edge_never_pass_it_together);
  tcase_add_test(cases, more_changes_than_places_wait_for_each_other);
  tcase_add_test(cases, nothing_grows_in_a_bucket_that_was_not_counted);
  tcase_add_test(cases, what_is_in_doubt_counts_as_the_worst_until_somebody_looked);
  tcase_add_test(cases, the_next_change_of_a_key_settles_the_doubt_about_it);
  tcase_add_test(cases, a_count_corrects_what_others_did);
  tcase_add_test(cases, a_reset_voids_the_count_that_runs);
  tcase_add_test(cases, a_count_beside_writers_gives_what_is_there);
  tcase_add_test(cases, the_next_run_believes_what_was_closed);
  tcase_add_test(cases, a_run_that_did_not_have_it_open_makes_it_worthless);
  tcase_add_test(cases, the_file_of_another_place_is_not_believed);
  tcase_add_test(cases, a_damaged_file_is_not_believed);
  tcase_add_test(cases, a_disk_that_takes_no_more_costs_only_a_count);
  tcase_add_test(cases, a_kill_between_any_two_writes_loses_nothing);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(ledger_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
