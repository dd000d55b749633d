/* SPDX-License-Identifier: Apache-2.0 */
/* Every key a client may use, against a plain model. */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs-fixture.h"

static struct fs_fixture *fixture;

static void setup(void)
{
  fixture = fs_fixture_new(/* in_memory= */ true);
}

static void teardown(void)
{
  fs_fixture_free(fixture);
}

static char *repeat(const char *unit, size_t bytes)
{
  GString *text = g_string_new(NULL);

  while (text->len < bytes)
    g_string_append(text, unit);
  g_string_truncate(text, bytes);
  return g_string_free(text, FALSE);
}

static int compare_bytes(const void *a, const void *b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *nasty_keys(void)
{
  static const char *const keys[] = {
    "%", "%2E", "%2e", "%25", "%252E", "100%", "100%zz", "a%", "%%2E", "%2", "%2/E", "a%2Fb",
    "a%00", "%00", "%2F", "..", ".", ".a", "../x", "a/../b", "./a", "a/.", "a/..", "a/.b/c",
    "//", "a//b", "/", "/lead", "///x", "folder/", "folder//", "folder/x", "reference.bin",
    "d/reference.bin", "reference.bin/x", "reference.bin/reference.bin", "x.delta", "x.delta/y",
    "x.delta.delta", ".delta", "d/.delta", ".delta/x", "x", "x/y", "a", "a/b", "a/b/c", "a/b/c/d",
    "a-b", "a.b", "a0", "\xc3\xa4", "\xc3\xa4/\xf0\x9f\x98\x80", "sp ace", "new\nline", "tab\t",
    "\x7f", "\x01\x02", "quote\"", "back\\slash", "deltaspaces", "deltaspaces/x", ".dg",
    ".dg/x", ".dg-staging/x", ".dg_xattr_probe", "a ", "a /b", "*", "?x=y&z", "~", "-", "+",
  };
  GPtrArray *all = g_ptr_array_new_with_free_func(g_free);

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
    g_ptr_array_add(all, g_strdup(keys[i]));
  for (size_t bytes = 246; bytes <= 260; bytes++)
    g_ptr_array_add(all, repeat("n", bytes));
  g_ptr_array_add(all, repeat("k", 1024));
  g_ptr_array_add(all, repeat("\x01", 1024));
  g_ptr_array_add(all, repeat("%2E", 1024));
  g_ptr_array_add(all, repeat("/", 1024));
  g_ptr_array_add(all, repeat("./", 1024));
  g_ptr_array_add(all, repeat("s/", 1023));
  {
    g_autofree char *lengthy = repeat("L", 500);

    g_ptr_array_add(all, g_strdup_printf("%s/%s", lengthy, lengthy));
    g_ptr_array_add(all, g_strdup_printf("%s/x", lengthy));
    g_ptr_array_add(all, g_strdup(lengthy));
    g_ptr_array_add(all, g_strdup_printf("%s.zip", lengthy));
    g_ptr_array_add(all, g_strdup_printf("p/%s.delta", lengthy));
  }
  return all;
}

static char *joined(GPtrArray *keys)
{
  GPtrArray *sorted = g_ptr_array_new();
  char *text;

  for (guint i = 0; i < keys->len; i++)
    g_ptr_array_add(sorted, keys->pdata[i]);
  g_ptr_array_sort(sorted, compare_bytes);
  g_ptr_array_add(sorted, NULL);
  text = g_strjoinv("\n", (char **)sorted->pdata);
  g_ptr_array_unref(sorted);
  return text;
}

static void check_all(GPtrArray *keys)
{
  g_autofree char *expected = joined(keys);
  g_autofree char *rows = fs_list(fixture, "", "", "", 0, 0);

  for (guint i = 0; i < keys->len; i++)
    fs_must_hold(fixture, keys->pdata[i], keys->pdata[i]);
  ck_assert_str_eq(rows, expected);
}

static void empty_again(GPtrArray *keys)
{
  g_autofree char *top = fs_path(fixture, "bkt/deltaspaces");
  g_autofree char *rows = NULL;
  struct dg_error err = {0};
  GDir *dir;

  for (guint i = 0; i < keys->len; i++) {
    ck_assert_msg(fs_remove(fixture, keys->pdata[i], DG_VARIANT_PASSTHROUGH, &err) == 0,
                  "remove '%s': %s", (char *)keys->pdata[i], err.detail);
    fs_must_lack(fixture, keys->pdata[i]);
  }
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "");
  dir = g_dir_open(top, 0, NULL);
  ck_assert_msg(g_dir_read_name(dir) == NULL, "something is left on disk");
  g_dir_close(dir);
}

START_TEST(every_nasty_key_round_trips_beside_all_others)
{
  g_autoptr(GPtrArray) keys = nasty_keys();

  for (guint i = 0; i < keys->len; i++)
    fs_must_put(fixture, keys->pdata[i], keys->pdata[i]);
  check_all(keys);
  fs_fixture_restart(fixture);
  check_all(keys);
  /* Overwriting finds the same place. */
  for (guint i = 0; i < keys->len; i++)
    fs_must_put(fixture, keys->pdata[i], keys->pdata[i]);
  check_all(keys);
  empty_again(keys);
}
END_TEST

START_TEST(the_order_of_creation_does_not_matter)
{
  g_autoptr(GPtrArray) keys = nasty_keys();

  for (guint i = keys->len; i-- > 0;)
    fs_must_put(fixture, keys->pdata[i], keys->pdata[i]);
  check_all(keys);
  empty_again(keys);
}
END_TEST

START_TEST(deltas_and_references_of_nasty_keys_round_trip_too)
{
  g_autoptr(GPtrArray) keys = nasty_keys();
  struct dg_error err = {0};

  for (guint i = 0; i < keys->len; i++) {
    const char *key = keys->pdata[i];
    size_t len = strlen(key);

    ck_assert_msg(fs_put(fixture, key, DG_VARIANT_DELTA, key, len, &err) == 0, "%s", err.detail);
    if (len && key[len - 1] == '/')
      ck_assert_msg(fs_put(fixture, key, DG_VARIANT_REFERENCE, key, len, &err) == 0, "%s",
                    err.detail);
  }
  for (guint i = 0; i < keys->len; i++) {
    const char *key = keys->pdata[i];
    g_autofree char *delta = fs_get(fixture, key, DG_VARIANT_DELTA, NULL, &err);

    ck_assert_msg(delta != NULL, "%s: %s", key, err.detail);
    ck_assert_str_eq(delta, key);
    fs_must_lack(fixture, key);
    if (g_str_has_suffix(key, "/")) {
      g_autofree char *reference = fs_get(fixture, key, DG_VARIANT_REFERENCE, NULL, &err);

      ck_assert_str_eq(reference, key);
      ck_assert_int_eq(fs_remove(fixture, key, DG_VARIANT_REFERENCE, &err), 0);
    }
    ck_assert_int_eq(fs_remove(fixture, key, DG_VARIANT_DELTA, &err), 0);
  }
  g_ptr_array_set_size(keys, 0);
  empty_again(keys);
}
END_TEST

START_TEST(names_of_deltaglider_proxy_that_look_escaped_are_literal)
{
  g_autofree char *rows = NULL;

  fs_drop_file(fixture, "bkt/deltaspaces/%2Ea", "literal", NULL);
  fs_drop_file(fixture, "bkt/deltaspaces/%2Ed/x", "in literal", NULL);
  fs_drop_file(fixture, "bkt/deltaspaces/%2Ez.zip.delta", "not a delta", NULL);
  fs_must_hold(fixture, "%2Ea", "literal");
  fs_must_hold(fixture, "%2Ed/x", "in literal");
  fs_must_lack(fixture, ".a");
  fs_must_lack(fixture, ".d/x");
  /* Ours wants the same names: the literal ones move aside and stay whole. */
  fs_must_put(fixture, ".a", "ours");
  fs_must_put(fixture, ".d/x", "in ours");
  fs_must_put(fixture, ".d/y", "in ours too");
  fs_must_hold(fixture, ".a", "ours");
  fs_must_hold(fixture, "%2Ea", "literal");
  fs_must_hold(fixture, ".d/x", "in ours");
  fs_must_hold(fixture, "%2Ed/x", "in literal");
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "%2Ea\n%2Ed/x\n%2Ez.zip\n.a\n.d/x\n.d/y");
}
END_TEST

START_TEST(overwriting_a_literal_name_leaves_one_object)
{
  g_autofree char *rows = NULL;
  struct dg_error err = {0};

  fs_drop_file(fixture, "bkt/deltaspaces/%2Ea", "literal", NULL);
  fs_must_put(fixture, "%2Ea", "new");
  fs_must_hold(fixture, "%2Ea", "new");
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "%2Ea");
  ck_assert_int_eq(fs_remove(fixture, "%2Ea", DG_VARIANT_PASSTHROUGH, &err), 0);
  fs_must_lack(fixture, "%2Ea");
}
END_TEST

START_TEST(a_mark_that_does_not_fit_its_name_is_ignored)
{
  g_autofree char *path = fs_path(fixture, "bkt/deltaspaces/%2Ea");
  g_autofree char *rows = NULL;

  fs_drop_file(fixture, "bkt/deltaspaces/%2Ea", "literal", NULL);
  ck_assert_int_eq(setxattr(path, "user.dg.name", "other", 5, 0), 0);
  fs_must_hold(fixture, "%2Ea", "literal");
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "%2Ea");
}
END_TEST

START_TEST(a_file_and_a_directory_trade_places_as_they_come_and_go)
{
  struct dg_error err = {0};

  fs_must_put(fixture, "a", "file");
  fs_must_put(fixture, "a/b", "below"); /* a%2F/b */
  ck_assert_int_eq(fs_remove(fixture, "a", DG_VARIANT_PASSTHROUGH, &err), 0);
  fs_must_put(fixture, "a/c", "below too");
  fs_must_put(fixture, "a", "file again");
  fs_must_hold(fixture, "a/b", "below");
  fs_must_hold(fixture, "a/c", "below too");
  ck_assert_int_eq(fs_remove(fixture, "a/b", DG_VARIANT_PASSTHROUGH, &err), 0);
  ck_assert_int_eq(fs_remove(fixture, "a/c", DG_VARIANT_PASSTHROUGH, &err), 0);
  fs_must_hold(fixture, "a", "file again");
  ck_assert_int_eq(fs_remove(fixture, "a", DG_VARIANT_PASSTHROUGH, &err), 0);
  fs_must_put(fixture, "a/b", "plain now");
  fs_must_put(fixture, "a", "a%00 now");
  ck_assert_int_eq(fs_remove(fixture, "a/b", DG_VARIANT_PASSTHROUGH, &err), 0);
  fs_must_put(fixture, "a", "plain again");
  fs_must_hold(fixture, "a", "plain again");
  ck_assert_int_eq(fs_remove(fixture, "a", DG_VARIANT_PASSTHROUGH, &err), 0);
  fs_must_lack(fixture, "a");
}
END_TEST

START_TEST(two_directories_of_one_prefix_are_seen_as_one)
{
  g_autofree char *rows = NULL, *page = NULL;
  struct dg_error err = {0};

  fs_must_put(fixture, "a", "file");
  fs_must_put(fixture, "a/b", "1");
  fs_must_put(fixture, "a/d/x", "3");
  ck_assert_int_eq(fs_remove(fixture, "a", DG_VARIANT_PASSTHROUGH, &err), 0);
  /* DeltaGlider Proxy, run on the same store, makes the plain directory. */
  fs_drop_file(fixture, "bkt/deltaspaces/a/c", "2", NULL);
  fs_drop_file(fixture, "bkt/deltaspaces/a/d/y", "4", NULL);
  fs_must_hold(fixture, "a/b", "1");
  fs_must_hold(fixture, "a/c", "2");
  fs_must_hold(fixture, "a/d/x", "3");
  fs_must_hold(fixture, "a/d/y", "4");
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "a/b\na/c\na/d/x\na/d/y");
  page = fs_list(fixture, "a/", "/", "a/b", 0, 0);
  ck_assert_str_eq(page, "a/c\nPRE:a/d/");
  fs_must_put(fixture, "a/b", "5");
  fs_must_hold(fixture, "a/b", "5");
  g_free(rows);
  rows = fs_list(fixture, "", "", "", 0, 0);
  ck_assert_str_eq(rows, "a/b\na/c\na/d/x\na/d/y");
  ck_assert_int_eq(fs_remove(fixture, "a/b", DG_VARIANT_PASSTHROUGH, &err), 0);
  fs_must_lack(fixture, "a/b");
}
END_TEST

/* ---- Random keys against a model ------------------------------------------------ */

static char *random_key(GRand *random)
{
  static const char *const parts[] = {"a", "b", "/", "/", "/", ".", "%", "2E", "%2E", ".delta",
                                      "reference.bin", "-", "\xc3\xbc", "0", "~", "%00", "%2F"};
  GString *key = g_string_new(NULL);
  int count = g_rand_int_range(random, 1, 6);

  for (int i = 0; i < count; i++)
    g_string_append(key, parts[g_rand_int_range(random, 0, G_N_ELEMENTS(parts))]);
  return g_string_free(key, FALSE);
}

static char *model_list(GPtrArray *keys, const char *prefix, const char *delimiter,
                        const char *after, unsigned limit)
{
  g_autoptr(GPtrArray) sorted = g_ptr_array_new();
  g_autofree char *last = NULL;
  GString *rows = g_string_new(NULL);
  bool after_is_prefix = *delimiter && g_str_has_suffix(after, delimiter) &&
                         g_str_has_prefix(after, prefix) &&
                         strlen(after) >= strlen(prefix) + strlen(delimiter);
  unsigned count = 0;

  for (guint i = 0; i < keys->len; i++)
    g_ptr_array_add(sorted, keys->pdata[i]);
  g_ptr_array_sort(sorted, compare_bytes);
  for (guint i = 0; i < sorted->len && count < limit; i++) {
    const char *key = sorted->pdata[i], *cut;

    if (!g_str_has_prefix(key, prefix) || (*after && strcmp(key, after) <= 0) ||
        (after_is_prefix && g_str_has_prefix(key, after)))
      continue;
    cut = *delimiter ? strstr(key + strlen(prefix), delimiter) : NULL;
    if (cut) {
      g_autofree char *group = g_strndup(key, (gsize)(cut - key) + strlen(delimiter));

      if (g_strcmp0(group, last) == 0)
        continue;
      g_string_append_printf(rows, "%sPRE:%s", rows->len ? "\n" : "", group);
      g_free(last);
      last = g_steal_pointer(&group);
    } else {
      g_string_append_printf(rows, "%s%s", rows->len ? "\n" : "", key);
    }
    count++;
  }
  return g_string_free(rows, FALSE);
}

static void compare_listings(GRand *random, GPtrArray *keys, int rounds)
{
  static const char *const delimiters[] = {"", "/", "/", "a", "%2", ".", "b/", "\xc3\xbc"};

  for (int i = 0; i < rounds; i++) {
    g_autofree char *prefix = random_key(random), *after = random_key(random);
    const char *delimiter = delimiters[g_rand_int_range(random, 0, G_N_ELEMENTS(delimiters))];
    unsigned limit = (unsigned)g_rand_int_range(random, 1, 30);
    g_autofree char *expected = NULL, *rows = NULL;

    if (g_rand_boolean(random))
      prefix[g_rand_int_range(random, 0, 2) ? MIN(strlen(prefix), 1) : 0] = '\0';
    if (g_rand_boolean(random))
      after[0] = '\0';
    expected = model_list(keys, prefix, delimiter, after, limit);
    rows = fs_list(fixture, prefix, delimiter, after, 0, limit);
    ck_assert_msg(strcmp(rows, expected) == 0,
                  "prefix '%s' delimiter '%s' after '%s' limit %u:\n%s\n-- expected:\n%s", prefix,
                  delimiter, after, limit, rows, expected);
  }
}

START_TEST(random_keys_agree_with_a_model)
{
  GRand *random = g_rand_new_with_seed((guint32)_i + 7);
  g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);

  for (int i = 0; i < 300; i++) {
    char *key = random_key(random);
    guint found;
    struct dg_error err = {0};

    if (g_ptr_array_find_with_equal_func(keys, key, g_str_equal, &found)) {
      if (g_rand_boolean(random)) {
        ck_assert_int_eq(fs_remove(fixture, key, DG_VARIANT_PASSTHROUGH, &err), 0);
        (void)g_ptr_array_remove_index_fast(keys, found);
      }
      g_free(key);
    } else {
      fs_must_put(fixture, key, key);
      g_ptr_array_add(keys, key);
    }
  }
  check_all(keys);
  compare_listings(random, keys, 300);
  empty_again(keys);
  g_rand_free(random);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-fs: names");
  TCase *tcase = tcase_create("names");
  SRunner *runner;
  int failed;

  fs_fixture_require();
  tcase_set_timeout(tcase, 60);
  tcase_add_checked_fixture(tcase, setup, teardown);
  tcase_add_test(tcase, every_nasty_key_round_trips_beside_all_others);
  tcase_add_test(tcase, the_order_of_creation_does_not_matter);
  tcase_add_test(tcase, deltas_and_references_of_nasty_keys_round_trip_too);
  tcase_add_test(tcase, names_of_deltaglider_proxy_that_look_escaped_are_literal);
  tcase_add_test(tcase, overwriting_a_literal_name_leaves_one_object);
  tcase_add_test(tcase, a_mark_that_does_not_fit_its_name_is_ignored);
  tcase_add_test(tcase, a_file_and_a_directory_trade_places_as_they_come_and_go);
  tcase_add_test(tcase, two_directories_of_one_prefix_are_seen_as_one);
  tcase_add_loop_test(tcase, random_keys_agree_with_a_model, 0, 3);
  suite_add_tcase(suite, tcase);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
