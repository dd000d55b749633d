/* SPDX-License-Identifier: Apache-2.0 */
/* Keys as upstream names, and what the order of names hides from a listing. */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <stdlib.h>

#include "common/slice.h"
#include "plugins/backend-s3/list.h"
#include "plugins/backend-s3/names.h"

static char *name_of(const char *key, uint32_t variant)
{
  GString *name = g_string_new(NULL);

  ck_assert(dg_s3_name_append(name, dg_slice_str(key), variant));
  return g_string_free(name, FALSE);
}

START_TEST(the_layout_is_that_of_deltaglider_proxy)
{
  static const struct {
    const char *key;
    uint32_t variant;
    const char *name;
  } rows[] = {
    {"a/b/app-2.zip", DG_VARIANT_PASSTHROUGH, "a/b/app-2.zip"},
    {"a/b/app-2.zip", DG_VARIANT_DELTA, "a/b/app-2.zip.delta"},
    {"a/b/", DG_VARIANT_REFERENCE, "a/b/reference.bin"},
    {"", DG_VARIANT_REFERENCE, "reference.bin"},
    {"x.delta", DG_VARIANT_PASSTHROUGH, "x.delta~dg"},
    {"x.delta", DG_VARIANT_DELTA, "x.delta~dg.delta"},
    {"x.delta~dg", DG_VARIANT_PASSTHROUGH, "x.delta~dg~dg"},
    {"a/reference.bin", DG_VARIANT_PASSTHROUGH, "a/reference.bin~dg"},
    {"reference.bin/x", DG_VARIANT_PASSTHROUGH, "reference.bin/x"},
    {"areference.bin", DG_VARIANT_PASSTHROUGH, "areference.bin"},
    {".delta", DG_VARIANT_PASSTHROUGH, ".delta~dg"},
    {"a.delta/b", DG_VARIANT_PASSTHROUGH, "a.delta/b"},
    {"foo~dg", DG_VARIANT_PASSTHROUGH, "foo~dg"},
    {".deltaglider/config.db", DG_VARIANT_PASSTHROUGH, ".deltaglider/config.db~dg"},
    {"_dgp/locks/x", DG_VARIANT_DELTA, "_dgp/locks/x~dg.delta"},
    {"_dgp", DG_VARIANT_PASSTHROUGH, "_dgp"},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *name = name_of(rows[i].key, rows[i].variant);
    struct dg_slice key = DG_SLICE("untouched");
    uint32_t variant = 0;

    ck_assert_str_eq(name, rows[i].name);
    ck_assert_msg(dg_s3_name_parse(dg_slice_str(name), &key, &variant), "%s", name);
    ck_assert_msg(dg_slice_equal_str(key, rows[i].key), "%s", name);
    ck_assert_uint_eq(variant, rows[i].variant);
  }
}
END_TEST

START_TEST(names_that_no_key_leads_to_are_hidden)
{
  static const char *const hidden[] = {".deltaglider/config.db", "_dgp/locks/reference/x.json",
                                       "x.delta.delta", ".deltaglider/_cwprobe/1"};

  for (size_t i = 0; i < G_N_ELEMENTS(hidden); i++) {
    struct dg_slice key;
    uint32_t variant;

    ck_assert_msg(!dg_s3_name_parse(dg_slice_str(hidden[i]), &key, &variant), "%s", hidden[i]);
  }
}
END_TEST

/* Every key made of a few telling pieces, in every variant: no two share a
 * name, each leads back, and a name never sorts before its key. */
START_TEST(no_two_keys_share_a_name)
{
  static const char *const pieces[] = {"x", ".delta", "~dg", "reference.bin", "/", ".deltaglider",
                                       "_dgp"};
  g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  const size_t count = G_N_ELEMENTS(pieces);

  for (size_t number = 1; number < count * count * count * count; number++) {
    g_autoptr(GString) key = g_string_new(NULL);

    for (size_t rest = number; rest; rest /= count)
      g_string_append(key, pieces[rest % count]);
    for (uint32_t variant = DG_VARIANT_PASSTHROUGH; variant <= DG_VARIANT_REFERENCE; variant++) {
      char *name, *before;
      struct dg_slice back;
      uint32_t back_variant;

      if (variant == DG_VARIANT_REFERENCE && key->str[key->len - 1] != '/')
        continue;
      name = name_of(key->str, variant);
      ck_assert_msg(dg_s3_name_parse(dg_slice_str(name), &back, &back_variant), "%s", name);
      ck_assert_msg(dg_slice_equal_str(back, key->str) && back_variant == variant, "%s: %s",
                    key->str, name);
      ck_assert_int_ge(strcmp(name, key->str), 0);
      ck_assert(g_str_has_prefix(name, key->str));
      before = g_hash_table_lookup(seen, name);
      ck_assert_msg(!before || strcmp(before, key->str) == 0, "%s: %s and %s", name, before,
                    key->str);
      (void)g_hash_table_replace(seen, name, g_strdup(key->str));
    }
  }
}
END_TEST

START_TEST(a_key_too_long_for_its_variant_has_no_name)
{
  g_autofree char *key = g_strnfill(1020, 'k');
  g_autoptr(GString) name = g_string_new("before");

  ck_assert(!dg_s3_name_append(name, dg_slice_str(key), DG_VARIANT_DELTA));
  ck_assert_str_eq(name->str, "before");
  ck_assert(dg_s3_name_append(name, dg_slice_str(key), DG_VARIANT_PASSTHROUGH));
}
END_TEST

static char *late(const char *last, const char *prefix, const char *delimiter, bool references)
{
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

  dg_s3_list_late_names(dg_slice_str(last), strlen(prefix), dg_slice_str(delimiter), references,
                        names);
  g_ptr_array_add(names, NULL);
  return g_strjoinv(" ", (char **)names->pdata);
}

START_TEST(late_names_are_those_of_prefixes_that_sort_later)
{
  static const struct {
    const char *last, *prefix, *delimiter;
    bool references;
    const char *names;
  } rows[] = {
    {"app-1.2.zip", "", "", false, "app.delta app-1.delta"},
    {"app.zip", "", "", false, ""},
    {"app.aip", "", "", false, "app.delta"},
    {"a/app-1", "", "", false, "a/app.delta"},
    {"a/app-1", "a/", "/", false, "a/app.delta"},
    {"a-b/c-d", "", "/", false, "a.delta"},
    {"a-b/c-d", "", "", false, "a.delta a-b/c.delta"},
    {"a-b", "a-", "", false, ""},
    {"r/a-1", "", "", true, "reference.bin r/reference.bin r/a.delta"},
    {"zzz", "", "", true, ""},
    {"x.delta-1", "", "", false, "x.delta~dg x.delta~dg.delta"},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *names =
      late(rows[i].last, rows[i].prefix, rows[i].delimiter, rows[i].references);

    ck_assert_msg(strcmp(names, rows[i].names) == 0, "after '%s': '%s' instead of '%s'",
                  rows[i].last, names, rows[i].names);
  }
}
END_TEST

/* Against the definition: of all names, those after `last` whose key sorts
 * below it. */
START_TEST(no_late_name_is_missed)
{
  static const char alphabet[] = "-.a/";
  GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);

  for (unsigned number = 0; number < 4 * 4 * 4; number++) {
    char key[4] = {alphabet[number % 4], alphabet[number / 4 % 4], alphabet[number / 16], '\0'};

    for (unsigned len = 1; len <= 3; len++)
      if (number < 1u << 2 * len)
        g_ptr_array_add(keys, g_strndup(key, len));
  }
  for (guint i = 0; i < keys->len; i++) {
    g_autofree char *all = late(keys->pdata[i], "", "", false);
    g_autofree char *found = g_strdup_printf(" %s ", all);

    for (guint j = 0; j < keys->len; j++) {
      const char *key = keys->pdata[j];
      g_autofree char *name = name_of(key, DG_VARIANT_DELTA);
      g_autofree char *wanted = g_strdup_printf(" %s ", name);
      bool is_late = strcmp(key, keys->pdata[i]) < 0 && strcmp(name, keys->pdata[i]) > 0 &&
                     key[strlen(key) - 1] != '/';

      ck_assert_msg(is_late == (strstr(found, wanted) != NULL), "after '%s': '%s'",
                    (const char *)keys->pdata[i], name);
    }
  }
  g_ptr_array_unref(keys);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("backend-s3-names");
  TCase *names = tcase_create("names"), *order = tcase_create("order");
  SRunner *runner;
  int failed;

  tcase_add_test(names, the_layout_is_that_of_deltaglider_proxy);
  tcase_add_test(names, names_that_no_key_leads_to_are_hidden);
  tcase_add_test(names, no_two_keys_share_a_name);
  tcase_add_test(names, a_key_too_long_for_its_variant_has_no_name);
  tcase_add_test(order, late_names_are_those_of_prefixes_that_sort_later);
  tcase_add_test(order, no_late_name_is_missed);
  suite_add_tcase(suite, names);
  suite_add_tcase(suite, order);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
