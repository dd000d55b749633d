/* SPDX-License-Identifier: Apache-2.0 */
/* Listings, and looks at single objects, beside writes, on doubles. */
#include "config.h"

#include <check.h>
#include <stdlib.h>

#include "engine-double.h"

#define FLEXIBLE (DG_CAP_LATE_NAME | DG_CAP_READ_BACK | DG_CAP_VALIDATOR | DG_CAP_PUT_ATOMIC)

static struct double_store *store;
static struct double_engine engine;
static struct dg_error err;
static GBytes *version, *noise; /* one rests as a delta, one as it is */

static void setup(void)
{
  memset(&double_codec, 0, sizeof double_codec);
  double_settings_reset();
  store = double_store_new(FLEXIBLE);
  double_engine_open(&engine, store, NULL);
  version = double_bytes(40000, 1);
  noise = double_bytes(9000, 2);
}

static void teardown(void)
{
  g_bytes_unref(version);
  g_bytes_unref(noise);
  double_engine_close(&engine);
  ck_assert_int_eq(double_store_open_streams(store), 0);
  double_store_free(store);
}

static void put(const char *key, GBytes *body, uint32_t variant)
{
  struct dg_put_result result;

  ck_assert_msg(double_put(&engine, "b", key, body, &result, &err) == 0, "%s", err.detail);
  ck_assert_uint_eq(result.variant, variant);
}

static int show(void *receiver, const struct dg_listing_row *row)
{
  g_string_append_printf(receiver, "%s%.*s", ((GString *)receiver)->len ? " " : "",
                         (int)row->key.len, row->key.data);
  return 0;
}

/* The keys of a page, and "..." when more would come. */
static void assert_page(struct dg_listing_request request, const char *expected)
{
  g_autoptr(GString) rows = g_string_new(NULL);
  bool truncated = false;

  request.bucket = double_str("b");
  if (!request.max_rows)
    request.max_rows = 1000;
  ck_assert_msg(dg_engine_list(engine.engine, &double_call, &request, show, rows, &truncated,
                               &err) == 0,
                "%s", err.detail);
  if (truncated)
    g_string_append(rows, " ...");
  ck_assert_str_eq(rows->str, expected);
}

static void fill(void)
{
  put("d/a.zip", version, DG_VARIANT_DELTA);
  put("d/b.zip", version, DG_VARIANT_DELTA);
  put("d/c.zip", version, DG_VARIANT_DELTA);
  put("e/f.txt", noise, DG_VARIANT_PASSTHROUGH);
}

static void change_over(void)
{
  put("d/b.zip", noise, DG_VARIANT_PASSTHROUGH);
}

static void change_over_and_back(void)
{
  change_over();
  put("d/b.zip", version, DG_VARIANT_DELTA);
}

static void change_over_and_delete(void)
{
  change_over();
  ck_assert_int_eq(double_delete(&engine, "b", "d/b.zip", &err), 0);
}

START_TEST(an_object_that_changes_over_meanwhile_is_listed)
{
  fill();
  double_store_list_slowly(store, "d/b.zip", change_over);
  assert_page((struct dg_listing_request){0}, "d/a.zip d/b.zip d/c.zip e/f.txt");
  double_store_list_slowly(store, "d/b.zip", change_over_and_back);
  assert_page((struct dg_listing_request){.prefix = double_str("d/")}, "d/a.zip d/b.zip d/c.zip");
}
END_TEST

START_TEST(it_is_listed_at_the_end_of_a_page_too)
{
  fill();
  double_store_list_slowly(store, "d/b.zip", change_over);
  assert_page((struct dg_listing_request){.max_rows = 2}, "d/a.zip d/b.zip ...");
  double_store_list_slowly(store, "d/b.zip", change_over_and_back);
  assert_page((struct dg_listing_request){.max_rows = 1}, "d/a.zip ...");
  ck_assert_int_eq(double_delete(&engine, "b", "d/c.zip", &err), 0);
  ck_assert_int_eq(double_delete(&engine, "b", "e/f.txt", &err), 0);
  put("d/b.zip", version, DG_VARIANT_DELTA);
  double_store_list_slowly(store, "d/b.zip", change_over);
  assert_page((struct dg_listing_request){0}, "d/a.zip d/b.zip");
}
END_TEST

START_TEST(it_is_not_listed_where_it_does_not_belong)
{
  fill();
  double_store_list_slowly(store, "d/b.zip", change_over);
  assert_page((struct dg_listing_request){.start_after = double_str("d/b.zip")},
              "d/c.zip e/f.txt");
  put("d/b.zip", version, DG_VARIANT_DELTA);
  double_store_list_slowly(store, "d/b.zip", change_over);
  assert_page((struct dg_listing_request){.prefix = double_str("e/")}, "e/f.txt");
  put("d/b.zip", version, DG_VARIANT_DELTA);
  double_store_list_slowly(store, "d/b.zip", change_over_and_delete);
  assert_page((struct dg_listing_request){0}, "d/a.zip d/c.zip e/f.txt");
}
END_TEST

START_TEST(its_common_prefix_is_listed_once)
{
  struct dg_listing_request request = {.delimiter = double_str("/")};

  fill();
  double_store_list_slowly(store, "d/b.zip", change_over);
  assert_page(request, "d/ e/");
  ck_assert_int_eq(double_delete(&engine, "b", "d/a.zip", &err), 0);
  ck_assert_int_eq(double_delete(&engine, "b", "d/c.zip", &err), 0);
  double_store_list_slowly(store, "d/b.zip", change_over_and_back);
  assert_page(request, "d/ e/");
  put("d/b.zip", version, DG_VARIANT_DELTA);
  double_store_list_slowly(store, "d/b.zip", change_over);
  request.start_after = double_str("d/");
  assert_page(request, "e/");
}
END_TEST

START_TEST(an_object_that_changes_over_meanwhile_is_found)
{
  g_autoptr(GBytes) body = NULL;
  struct dg_object_info info;

  double_settings.metadata_cache_bytes = 0;
  double_engine_close(&engine);
  double_engine_open(&engine, store, NULL);
  fill();
  double_store_look_slowly(store, "d/b.zip", change_over);
  ck_assert_msg(dg_engine_head(engine.engine, &double_call, double_str("b"), double_str("d/b.zip"),
                               &info, &err) == 0,
                "%s", err.detail);
  ck_assert_uint_eq(info.size_bytes, g_bytes_get_size(noise));
  dg_object_info_clear(&info);
  put("d/b.zip", version, DG_VARIANT_DELTA);
  double_store_look_slowly(store, "d/b.zip", change_over);
  ck_assert_msg(double_get(&engine, "b", "d/b.zip", &body, &err) == 0, "%s", err.detail);
  ck_assert(g_bytes_equal(body, noise));
  put("d/b.zip", version, DG_VARIANT_DELTA);
  double_store_look_slowly(store, "d/b.zip", change_over_and_delete);
  ck_assert_int_eq(dg_engine_head(engine.engine, &double_call, double_str("b"),
                                  double_str("d/b.zip"), &info, &err),
                   -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_KEY);
}
END_TEST

static Suite *list_suite(void)
{
  Suite *suite = suite_create("engine-list");
  TCase *listings = tcase_create("listings");

  tcase_add_checked_fixture(listings, setup, teardown);
  tcase_add_test(listings, an_object_that_changes_over_meanwhile_is_listed);
  tcase_add_test(listings, it_is_listed_at_the_end_of_a_page_too);
  tcase_add_test(listings, it_is_not_listed_where_it_does_not_belong);
  tcase_add_test(listings, its_common_prefix_is_listed_once);
  tcase_add_test(listings, an_object_that_changes_over_meanwhile_is_found);
  suite_add_tcase(suite, listings);
  return suite;
}

int main(void)
{
  SRunner *runner = srunner_create(list_suite());
  int failed;

  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
