/* SPDX-License-Identifier: Apache-2.0 */
/* The small machines inside the engine: locks, permits, the metadata cache. */
#include "config.h"

#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/slice.h"
#include "core/engine/callwait.h"
#include "core/engine/locks.h"
#include "core/engine/metacache.h"
#include "core/engine/partsizes.h"
#include "core/engine/permits.h"
#include "core/engine/spool.h"

static const struct dg_call patient = {.struct_size = sizeof patient};
static struct dg_error err;

static struct dg_call hurried(void)
{
  return (struct dg_call){.struct_size = sizeof(struct dg_call),
                          .deadline_mono_ms = dg_time_mono_ms() + 20};
}

/* ---- Locks -------------------------------------------------------------------------- */

START_TEST(a_lock_is_named_by_bucket_and_prefix_together)
{
  struct dg_lock_table *table = dg_lock_table_new();
  struct dg_space_lock *one, *two, *three;

  ck_assert_int_eq(dg_space_lock_take(table, &patient, DG_SLICE("a"), DG_SLICE("x/"), &one, &err),
                   0);
  ck_assert_int_eq(dg_space_lock_take(table, &patient, DG_SLICE("b"), DG_SLICE("x/"), &two, &err),
                   0);
  ck_assert_int_eq(dg_space_lock_take(table, &patient, DG_SLICE("a"), DG_SLICE(""), &three, &err),
                   0);
  dg_space_lock_release(one);
  dg_space_lock_release(two);
  dg_space_lock_release(three);
  dg_lock_table_free(table);
}
END_TEST

START_TEST(a_waiter_gives_up_at_its_deadline_or_when_its_client_leaves)
{
  struct dg_lock_table *table = dg_lock_table_new();
  struct dg_call call = hurried();
  struct dg_space_lock *held, *other = NULL;
  int32_t left = 1;

  ck_assert_int_eq(dg_space_lock_take(table, &patient, DG_SLICE("a"), DG_SLICE("x/"), &held, &err),
                   0);
  ck_assert_int_eq(dg_space_lock_take(table, &call, DG_SLICE("a"), DG_SLICE("x/"), &other, &err),
                   -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  call.cancelled = &left;
  ck_assert_int_eq(dg_space_lock_take(table, &call, DG_SLICE("a"), DG_SLICE("x/"), &other, &err),
                   -1);
  ck_assert_int_eq(err.code, DG_E_CANCELLED);
  ck_assert_ptr_null(other);
  dg_space_lock_release(held);
  ck_assert_int_eq(dg_space_lock_take(table, &patient, DG_SLICE("a"), DG_SLICE("x/"), &held, &err),
                   0);
  dg_space_lock_release(held);
  dg_lock_table_free(table);
}
END_TEST

static int take_bucket(struct dg_lock_table *table, uint32_t mode, struct dg_bucket_lock **ret_lock)
{
  struct dg_call call = hurried();

  return dg_bucket_lock_take(table, &call, DG_SLICE("a"), mode, ret_lock, &err);
}

START_TEST(a_bucket_is_deleted_by_nobody_while_something_in_it_is_decided)
{
  struct dg_lock_table *table = dg_lock_table_new();
  struct dg_bucket_lock *one = NULL, *two = NULL, *none = NULL;
  struct dg_space_lock *space = NULL, *other = NULL;
  struct dg_call call = hurried();

  ck_assert_int_eq(take_bucket(table, DG_LOCK_SHARED, &one), 0);
  ck_assert_int_eq(take_bucket(table, DG_LOCK_SHARED, &two), 0);
  ck_assert_int_eq(take_bucket(table, DG_LOCK_EXCLUSIVE, &none), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  dg_bucket_lock_release(one);
  dg_bucket_lock_release(two);
  ck_assert_int_eq(dg_space_lock_take(table, &patient, DG_SLICE("a"), DG_SLICE("x/"), &space, &err),
                   0);
  ck_assert_int_eq(take_bucket(table, DG_LOCK_EXCLUSIVE, &none), -1);
  ck_assert_int_eq(dg_space_lock_take(table, &patient, DG_SLICE("a"), DG_SLICE("y/"), &other, &err),
                   0);
  dg_space_lock_release(space);
  dg_space_lock_release(other);
  ck_assert_int_eq(take_bucket(table, DG_LOCK_EXCLUSIVE, &one), 0);
  ck_assert_int_eq(take_bucket(table, DG_LOCK_SHARED, &none), -1);
  ck_assert_int_eq(dg_space_lock_take(table, &call, DG_SLICE("a"), DG_SLICE("x/"), &other, &err),
                   -1);
  ck_assert_int_eq(dg_space_lock_take(table, &call, DG_SLICE("b"), DG_SLICE("x/"), &space, &err),
                   0);
  dg_space_lock_release(space);
  dg_bucket_lock_release(one);
  ck_assert_ptr_null(none);
  dg_lock_table_free(table);
}
END_TEST

static gint readers, writers;

static gpointer share_or_not(gpointer number)
{
  struct dg_lock_table *table = number;
  uint32_t state = (uint32_t)(uintptr_t)&state;

  for (int i = 0; i < 3000; i++) {
    bool alone = (state = state * 1664525u + 1013904223u) >> 29 == 0;
    struct dg_bucket_lock *lock;
    struct dg_error error;

    ck_assert_int_eq(dg_bucket_lock_take(table, &patient, DG_SLICE("a"),
                                         alone ? DG_LOCK_EXCLUSIVE : DG_LOCK_SHARED, &lock, &error),
                     0);
    g_atomic_int_inc(alone ? &writers : &readers);
    ck_assert_int_le(g_atomic_int_get(&writers), 1);
    ck_assert(g_atomic_int_get(&writers) == 0 || (alone && g_atomic_int_get(&readers) == 0));
    (void)g_atomic_int_add(alone ? &writers : &readers, -1);
    dg_bucket_lock_release(lock);
  }
  return NULL;
}

START_TEST(many_share_or_one_is_alone)
{
  struct dg_lock_table *table = dg_lock_table_new();
  GThread *threads[6];

  readers = writers = 0;
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("share", share_or_not, table);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    (void)g_thread_join(threads[i]);
  dg_lock_table_free(table);
}
END_TEST

static struct dg_lock_table *shared_table;
static uint64_t counter; /* guarded by the lock under test */

static gpointer count_up(gpointer unused)
{
  (void)unused;
  for (int i = 0; i < 2000; i++) {
    struct dg_space_lock *lock;
    struct dg_error error;

    if (dg_space_lock_take(shared_table, &patient, DG_SLICE("a"), DG_SLICE(""), &lock, &error) < 0)
      return NULL;
    counter++;
    dg_space_lock_release(lock);
  }
  return NULL;
}

START_TEST(one_holder_at_a_time)
{
  GThread *threads[4];

  shared_table = dg_lock_table_new();
  counter = 0;
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("count", count_up, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    (void)g_thread_join(threads[i]);
  ck_assert_uint_eq(counter, 8000);
  dg_lock_table_free(shared_table);
}
END_TEST

/* ---- Permits -------------------------------------------------------------------------- */

/* ---- Waiting ------------------------------------------------------------------------ */

static gpointer leave_soon(gpointer cancelled)
{
  g_usleep(20000);
  __atomic_store_n((int32_t *)cancelled, 1, __ATOMIC_RELAXED);
  return NULL;
}

START_TEST(who_waits_notices_that_the_client_left_though_nobody_tells)
{
  int32_t cancelled = 0;
  struct dg_call call = {.struct_size = sizeof call, .cancelled = &cancelled};
  uint64_t until[] = {0, dg_time_mono_ms() + 600000};
  GMutex mutex;
  GCond cond;

  g_mutex_init(&mutex);
  g_cond_init(&cond);
  g_mutex_lock(&mutex);
  for (size_t i = 0; i < G_N_ELEMENTS(until); i++) {
    GThread *client = g_thread_new("client", leave_soon, &cancelled);

    while (dg_call_wait(&call, &cond, &mutex, until[i], &err) == 0)
      ;
    ck_assert_int_eq(err.code, DG_E_CANCELLED);
    g_thread_join(client);
    cancelled = 0;
  }
  call = hurried();
  while (dg_call_wait(&call, &cond, &mutex, 0, &err) == 0)
    ;
  ck_assert_int_eq(err.code, DG_E_TIMEOUT);
  /* A moment of the caller's own takes the deadline's place. */
  ck_assert_int_eq(dg_call_wait(&call, &cond, &mutex, dg_time_mono_ms() + 60000, &err), 0);
  ck_assert_int_eq(dg_call_wait(&call, &cond, &mutex, call.deadline_mono_ms, &err), 1);
  ck_assert_int_eq(dg_call_wait(NULL, &cond, &mutex, dg_time_mono_ms() + 60000, &err), 0);
  ck_assert_int_eq(dg_call_wait(NULL, &cond, &mutex, dg_time_mono_ms(), &err), 1);
  g_mutex_unlock(&mutex);
  g_cond_clear(&cond);
  g_mutex_clear(&mutex);
}
END_TEST

START_TEST(a_client_that_left_waits_for_no_permit)
{
  struct dg_permits *permits = dg_permits_new(1, NULL);
  int32_t cancelled = 0;
  struct dg_call call = {.struct_size = sizeof call, .cancelled = &cancelled};
  GThread *client;

  ck_assert(dg_permits_try(permits));
  client = g_thread_new("client", leave_soon, &cancelled);
  ck_assert_int_eq(dg_permits_take(permits, &call, 600000, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CANCELLED);
  g_thread_join(client);
  dg_permits_give(permits);
  ck_assert(dg_permits_try(permits));
  dg_permits_free(permits);
}
END_TEST

START_TEST(a_busy_codec_says_slow_down)
{
  struct dg_permits *permits = dg_permits_new(1, NULL);

  ck_assert_int_eq(dg_permits_take(permits, &patient, 10, &err), 0);
  ck_assert(!dg_permits_try(permits));
  ck_assert_int_eq(dg_permits_take(permits, &patient, 10, &err), -1);
  ck_assert_int_eq(err.code, DG_E_SLOW_DOWN);
  dg_permits_give(permits);
  ck_assert(dg_permits_try(permits));
  dg_permits_give(permits);
  dg_permits_free(permits);
}
END_TEST

/* ---- The metadata cache ----------------------------------------------------------------- */

static struct dg_meta *meta_of(uint64_t size)
{
  struct dg_meta *meta = dg_meta_new();

  meta->file_size = size;
  return meta;
}

static const char *const home = "one backend", *const other_home = "another";

static bool cached_size_of(struct dg_metacache *cache, const void *of, struct dg_slice key,
                           uint64_t *ret_size)
{
  struct dg_cached cached;

  if (!dg_metacache_get(cache, of, DG_SLICE("b"), key, &cached))
    return false;
  *ret_size = cached.meta->file_size;
  ck_assert(cached.fresh);
  dg_cached_clear(&cached);
  return true;
}

static bool cached_size(struct dg_metacache *cache, struct dg_slice key, uint64_t *ret_size)
{
  return cached_size_of(cache, home, key, ret_size);
}

START_TEST(what_was_fetched_before_a_write_ended_is_not_kept)
{
  struct dg_metacache *cache = dg_metacache_new(1 << 20, 1 << 20);
  struct dg_meta *old = meta_of(1), *fresh = meta_of(2);
  struct dg_slice b = DG_SLICE("b"), k = DG_SLICE("k");
  uint64_t before, during, size = 0;

  before = dg_metacache_ticket(cache, b, k);
  dg_metacache_put(cache, home, b, k, before, old, NULL);
  ck_assert(cached_size(cache, k, &size));
  ck_assert_uint_eq(size, 1);
  dg_metacache_write_begin(cache, b, k);
  ck_assert(!cached_size(cache, k, &size));
  dg_metacache_put(cache, home, b, k, before, old, NULL);
  during = dg_metacache_ticket(cache, b, k);
  dg_metacache_put(cache, home, b, k, during, old, NULL);
  ck_assert(!cached_size(cache, k, &size));
  dg_metacache_write_end(cache, b, k);
  dg_metacache_put(cache, home, b, k, during, old, NULL);
  ck_assert(!cached_size(cache, k, &size));
  dg_metacache_put(cache, home, b, k, dg_metacache_ticket(cache, b, k), fresh, NULL);
  ck_assert(cached_size(cache, k, &size));
  ck_assert_uint_eq(size, 2);
  dg_meta_unref(old);
  dg_meta_unref(fresh);
  dg_metacache_free(cache);
}
END_TEST

START_TEST(each_backend_has_its_own_and_a_write_takes_out_all)
{
  struct dg_metacache *cache = dg_metacache_new(1 << 20, 1 << 20);
  struct dg_meta *mine = meta_of(1), *theirs = meta_of(2);
  struct dg_slice b = DG_SLICE("b"), k = DG_SLICE("k");
  uint64_t ticket = dg_metacache_ticket(cache, b, k), size = 0, bytes, entries;

  dg_metacache_put(cache, home, b, k, ticket, mine, NULL);
  ck_assert(!cached_size_of(cache, other_home, k, &size));
  dg_metacache_put(cache, other_home, b, k, ticket, theirs, NULL);
  ck_assert(cached_size_of(cache, other_home, k, &size));
  ck_assert_uint_eq(size, 2);
  ck_assert(cached_size(cache, k, &size));
  ck_assert_uint_eq(size, 1);
  dg_metacache_write_begin(cache, b, k);
  dg_metacache_write_end(cache, b, k);
  ck_assert(!cached_size(cache, k, &size));
  ck_assert(!cached_size_of(cache, other_home, k, &size));
  dg_metacache_put(cache, other_home, b, k, ticket, theirs, NULL);
  ck_assert(!cached_size_of(cache, other_home, k, &size));
  dg_metacache_usage(cache, &bytes, &entries);
  ck_assert_uint_eq(entries, 0);
  dg_meta_unref(mine);
  dg_meta_unref(theirs);
  dg_metacache_free(cache);
}
END_TEST

START_TEST(the_budget_holds_and_the_oldest_go_first)
{
  struct dg_metacache *cache = dg_metacache_new(1 << 20, 1 << 20);
  struct dg_meta *meta = meta_of(1);
  g_autoptr(GBytes) body = g_bytes_new_take(g_malloc0(20000), 20000);
  uint64_t bytes, entries, size;

  for (uint32_t i = 0; i < 5000; i++) {
    g_autofree char *name = g_strdup_printf("key-%u", i);
    struct dg_slice key = dg_slice_str(name);

    dg_metacache_put(cache, home, DG_SLICE("b"), key,
                     dg_metacache_ticket(cache, DG_SLICE("b"), key), meta, body);
    ck_assert(cached_size(cache, key, &size));
  }
  dg_metacache_usage(cache, &bytes, &entries);
  ck_assert_uint_le(bytes, dg_metacache_body_max(cache));
  ck_assert_uint_gt(entries, 10);
  ck_assert(!cached_size(cache, DG_SLICE("key-0"), &size));
  dg_metacache_drop(cache, DG_SLICE("b"), DG_SLICE("key-4999"));
  ck_assert(!cached_size(cache, DG_SLICE("key-4999"), &size));
  dg_metacache_clear(cache);
  dg_metacache_usage(cache, &bytes, &entries);
  ck_assert_uint_eq(bytes + entries, 0);
  dg_meta_unref(meta);
  dg_metacache_free(cache);
}
END_TEST

/* ---- Sizes of parts --------------------------------------------------------------------- */

#define MANY 10000u

static void assert_all_found(const uint64_t *sizes, uint32_t count, const char *text)
{
  struct dg_slice slice = dg_slice_str(text);
  struct dg_range range;
  uint64_t offset = 0, whole = 0;

  for (uint32_t i = 0; i < count; i++)
    whole += sizes[i];
  for (uint32_t i = 0; i < count; i += i + 100 < count ? 97 : 1) {
    offset = 0;
    for (uint32_t j = 0; j < i; j++)
      offset += sizes[j];
    ck_assert(dg_part_sizes_find(slice, i + 1, whole, &range));
    ck_assert_uint_eq(range.offset, offset);
    ck_assert_uint_eq(range.length, sizes[i]);
  }
  ck_assert(!dg_part_sizes_find(slice, 0, whole, &range));
  ck_assert(!dg_part_sizes_find(slice, count + 1, whole, &range));
  /* Nothing past the end of an object that is shorter than they say. */
  ck_assert(sizes[count - 1] == 0 || !dg_part_sizes_find(slice, count, whole - 1, &range));
}

static void assert_kept(const uint64_t *sizes, uint32_t count, size_t len_max)
{
  g_autofree char *text = dg_part_sizes_write(sizes, count);

  ck_assert_uint_le(strlen(text), len_max);
  assert_all_found(sizes, count, text);
}

START_TEST(equal_parts_with_a_smaller_last_one_take_a_few_bytes)
{
  g_autofree uint64_t *sizes = g_new(uint64_t, MANY);
  g_autofree char *text = NULL;

  for (uint32_t i = 0; i < MANY; i++)
    sizes[i] = UINT64_C(5) << 30;
  sizes[MANY - 1] = 1;
  text = dg_part_sizes_write(sizes, MANY);
  ck_assert_str_eq(text, "5368709120x9999,1");
  assert_all_found(sizes, MANY, text);
  assert_kept(sizes, 1, 10);
}
END_TEST

START_TEST(ten_thousand_unequal_parts_are_kept_without_loss)
{
  g_autofree uint64_t *sizes = g_new(uint64_t, MANY);
  uint32_t state = 1;

  /* 5 to 8 MiB, as a program that cuts by content makes them. */
  for (uint32_t i = 0; i < MANY; i++) {
    state = state * 1664525u + 1013904223u;
    sizes[i] = (UINT64_C(5) << 20) + state % (3u << 20);
  }
  sizes[MANY - 1] = 77;
  assert_kept(sizes, MANY, 39000);
  /* The widest the S3 limit allows still fits an attribute of 64 KiB. */
  for (uint32_t i = 0; i < MANY; i++) {
    state = state * 1664525u + 1013904223u;
    sizes[i] = ((uint64_t)state << 1) % (UINT64_C(5) << 30);
  }
  assert_kept(sizes, MANY, 57000);
  /* Runs in between: less than a part each would take. */
  for (uint32_t i = 0; i < MANY; i++)
    sizes[i] = (UINT64_C(5) << 20) + i / 20 * 1000;
  assert_kept(sizes, MANY, 2100);
  /* Some without a byte. */
  for (uint32_t i = 0; i < MANY; i++)
    sizes[i] = i % 3 ? 0 : i;
  assert_kept(sizes, MANY, 20000);
}
END_TEST

START_TEST(a_damaged_list_of_sizes_is_never_believed)
{
  static const char *const bad[] = {"", "x", ",", "5x", "5x0", "5,x", "~", "~!", "~AAAA", "~gICAgICAgICAgICAAA==",
                                    "18446744073709551615x2,1", "1,18446744073709551615"};
  g_autofree uint64_t *sizes = g_new(uint64_t, 1000);
  g_autofree char *text = NULL;
  struct dg_range range;
  uint32_t state = 7;

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
    ck_assert_msg(!dg_part_sizes_find(dg_slice_str(bad[i]), 2, 1000, &range), "'%s'", bad[i]);
  for (uint32_t i = 0; i < 1000; i++)
    sizes[i] = i * 37 % 1009;
  text = dg_part_sizes_write(sizes, 1000);
  ck_assert_int_eq(text[0], '~');
  for (uint32_t i = 0; i < 20000; i++) {
    g_autofree char *hurt = g_strdup(text);

    state = state * 1664525u + 1013904223u;
    hurt[1 + (i < 64 ? i / 8 : state % (strlen(text) - 1))] = "ABCZaz09+/=~"[state >> 8 & 7];
    if (dg_part_sizes_find(dg_slice_of(hurt, strlen(text) - (i % 5) * 4), 1 + state % 1100, 500000,
                           &range))
      ck_assert_uint_le(range.offset + range.length, 500000);
  }
}
END_TEST

/* ---- The spool ---------------------------------------------------------------------- */

START_TEST(a_spool_file_that_a_crash_left_goes_and_nothing_else)
{
  static const struct {
    const char *name, *text;
    bool goes;
  } files[] = {{"spool-aB3xyz", "", true},    {"spool-aB3xy1", "mine", false},
               {"spool-aB3xyz4", "", false},  {"spool-", "", false},
               {"other-aB3xyz", "", false}};
  g_autofree char *dir = g_dir_make_tmp("spool-test-XXXXXX", NULL);

  for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autofree char *path = g_build_filename(dir, files[i].name, NULL);

    ck_assert(g_file_set_contents(path, files[i].text, -1, NULL));
  }
  dg_spool_sweep(dir);
  for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autofree char *path = g_build_filename(dir, files[i].name, NULL);

    ck_assert_msg(g_file_test(path, G_FILE_TEST_EXISTS) != files[i].goes, "%s", files[i].name);
    (void)g_remove(path);
  }
  ck_assert_int_eq(g_rmdir(dir), 0);
}
END_TEST

static Suite *parts_suite(void)
{
  Suite *suite = suite_create("engine parts");
  TCase *cases = tcase_create("parts");

  tcase_add_test(cases, a_lock_is_named_by_bucket_and_prefix_together);
  tcase_add_test(cases, a_waiter_gives_up_at_its_deadline_or_when_its_client_leaves);
  tcase_add_test(cases, one_holder_at_a_time);
  tcase_add_test(cases, a_bucket_is_deleted_by_nobody_while_something_in_it_is_decided);
  tcase_add_test(cases, many_share_or_one_is_alone);
  tcase_add_test(cases, who_waits_notices_that_the_client_left_though_nobody_tells);
  tcase_add_test(cases, a_client_that_left_waits_for_no_permit);
  tcase_add_test(cases, a_busy_codec_says_slow_down);
  tcase_add_test(cases, what_was_fetched_before_a_write_ended_is_not_kept);
  tcase_add_test(cases, each_backend_has_its_own_and_a_write_takes_out_all);
  tcase_add_test(cases, the_budget_holds_and_the_oldest_go_first);
  tcase_add_test(cases, equal_parts_with_a_smaller_last_one_take_a_few_bytes);
  tcase_add_test(cases, ten_thousand_unequal_parts_are_kept_without_loss);
  tcase_add_test(cases, a_damaged_list_of_sizes_is_never_believed);
  tcase_add_test(cases, a_spool_file_that_a_crash_left_goes_and_nothing_else);
  suite_add_tcase(suite, cases);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(parts_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
