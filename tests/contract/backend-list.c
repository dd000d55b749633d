/* SPDX-License-Identifier: Apache-2.0 */
/* Listings: order, delimiters, pages, and keys that are hard to store. */
#include "config.h"

#include <stdlib.h>

#include "tests/contract/backend.h"

#include "common/banned.h"

struct listing {
  GString *text; /* rows joined by a blank; prefixes in brackets, references with '*' */
  guint rows, stop_at;
  bool no_meta_seen;
};

static int32_t collect(void *receiver, const struct dg_list_row *row)
{
  struct listing *listing = receiver;

  if (listing->text->len > 0)
    g_string_append_c(listing->text, ' ');
  if (row->type == DG_ROW_PREFIX)
    g_string_append_printf(listing->text, "[%.*s]", (int)row->key.len, row->key.data);
  else
    g_string_append_len(listing->text, row->key.data, (gssize)row->key.len);
  if (row->type == DG_ROW_OBJECT && row->meta && row->meta->variant == DG_VARIANT_REFERENCE)
    g_string_append_c(listing->text, '*');
  if (row->type == DG_ROW_OBJECT && !row->meta)
    listing->no_meta_seen = true;
  return ++listing->rows >= listing->stop_at;
}

/* The rows as text. Free it. NULL, with the failure set, on an error. */
static char *listed(struct contract *contract, struct dg_backend *backend, const char *prefix,
                    const char *delimiter, const char *start_after, guint stop_at, uint32_t flags)
{
  struct listing listing = {.text = g_string_new(NULL), .stop_at = stop_at};
  struct dg_list_request request = {
    .struct_size = sizeof request,
    .flags = flags,
    .bucket = DG_SLICE(CONTRACT_BUCKET),
    .prefix = contract_slice(prefix),
    .delimiter = contract_slice(delimiter),
    .start_after = contract_slice(start_after),
  };
  struct dg_error err = {0};

  if (dg_backend_list(backend, &contract_call, &request, collect, &listing, &err) < 0) {
    contract_fail(contract, "list: %s", err.detail);
    g_string_free(listing.text, TRUE);
    return NULL;
  }
  if (listing.no_meta_seen && !(flags & DG_LIST_NO_META))
    contract_fail(contract, "a row without metadata though metadata was asked for");
  return g_string_free(listing.text, FALSE);
}

static void expect_listing(struct contract *contract, struct dg_backend *backend,
                           const char *prefix, const char *delimiter, const char *start_after,
                           guint stop_at, const char *expected)
{
  g_autofree char *got =
    listed(contract, backend, prefix, delimiter, start_after, stop_at, 0);

  if (got && strcmp(got, expected) != 0)
    contract_fail(contract, "prefix '%s' delimiter '%s' after '%s': got '%s' instead of '%s'",
                  prefix, delimiter, start_after, got, expected);
}

static const char *const tree[] = {
  "a.txt", "a/1.zip", "a/2.zip", "a/b/3.zip", "a0", "ab/x", "b/c/d/e", "z",
};

static int plant(struct contract *contract, struct dg_backend *backend, const char *const *keys,
                 size_t count)
{
  for (size_t i = 0; i < count; i++) {
    struct dg_item item = contract_item(CONTRACT_BUCKET, keys[i], DG_VARIANT_PASSTHROUGH);

    if (contract_put(contract, backend, &item, keys[i], strlen(keys[i])) < 0)
      return -1;
  }
  return 0;
}

static void uproot(struct dg_backend *backend, const char *const *keys, size_t count)
{
  for (size_t i = 0; i < count; i++) {
    struct dg_item item = contract_item(CONTRACT_BUCKET, keys[i], DG_VARIANT_PASSTHROUGH);
    struct dg_error err = {0};

    (void)dg_backend_remove(backend, &contract_call, &item, &err);
  }
}

static void listings_have_order_prefix_and_delimiter(struct contract *contract, void *instance)
{
  struct dg_backend *b = instance;

  if (plant(contract, b, tree, G_N_ELEMENTS(tree)) == 0) {
    expect_listing(contract, b, "", "", "", 1000,
                   "a.txt a/1.zip a/2.zip a/b/3.zip a0 ab/x b/c/d/e z");
    expect_listing(contract, b, "", "/", "", 1000, "a.txt [a/] a0 [ab/] [b/] z");
    expect_listing(contract, b, "a/", "/", "", 1000, "a/1.zip a/2.zip [a/b/]");
    expect_listing(contract, b, "a", "/", "", 1000, "a.txt [a/] a0 [ab/]");
    expect_listing(contract, b, "a/b", "/", "", 1000, "[a/b/]");
    expect_listing(contract, b, "a/", "", "", 1000, "a/1.zip a/2.zip a/b/3.zip");
    expect_listing(contract, b, "b/c/", "/", "", 1000, "[b/c/d/]");
    expect_listing(contract, b, "nope", "", "", 1000, "");
    expect_listing(contract, b, "", "zip", "", 1000,
                   "a.txt [a/1.zip] [a/2.zip] [a/b/3.zip] a0 ab/x b/c/d/e z");
  }
  uproot(b, tree, G_N_ELEMENTS(tree));
}

static void listings_go_on_where_they_stopped(struct contract *contract, void *instance)
{
  struct dg_backend *b = instance;

  if (plant(contract, b, tree, G_N_ELEMENTS(tree)) == 0) {
    expect_listing(contract, b, "", "", "", 3, "a.txt a/1.zip a/2.zip");
    expect_listing(contract, b, "", "", "a/2.zip", 3, "a/b/3.zip a0 ab/x");
    expect_listing(contract, b, "", "", "a/1", 1000,
                   "a/1.zip a/2.zip a/b/3.zip a0 ab/x b/c/d/e z");
    expect_listing(contract, b, "", "/", "a/", 1000, "a0 [ab/] [b/] z");
    expect_listing(contract, b, "", "/", "a/1.zip", 2, "[a/] a0");
    expect_listing(contract, b, "a/", "/", "a/b/", 1000, "");
    expect_listing(contract, b, "", "", "z", 1000, "");
    expect_listing(contract, b, "a/", "", "Z", 1, "a/1.zip");
  }
  uproot(b, tree, G_N_ELEMENTS(tree));
}

static void references_are_listed_only_when_asked_for(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item object = contract_item(CONTRACT_BUCKET, "r/x.zip", DG_VARIANT_DELTA);
  struct dg_item reference = contract_item(CONTRACT_BUCKET, "r/", DG_VARIANT_REFERENCE);
  struct dg_error err = {0};

  if (contract_put(contract, backend, &object, "d", 1) == 0 &&
      contract_put(contract, backend, &reference, "r", 1) == 0) {
    g_autofree char *with = NULL;

    expect_listing(contract, backend, "r/", "", "", 1000, "r/x.zip");
    with = listed(contract, backend, "r/", "", "", 1000, DG_LIST_REFERENCES);
    if (with && !strstr(with, "r/*"))
      contract_fail(contract, "with DG_LIST_REFERENCES: '%s' lacks the reference", with);
    if (with && !strstr(with, "r/x.zip"))
      contract_fail(contract, "with DG_LIST_REFERENCES: '%s' lacks the object", with);
  }
  (void)dg_backend_remove(backend, &contract_call, &object, &err);
  (void)dg_backend_remove(backend, &contract_call, &reference, &err);
}

static void both_variants_of_a_key_are_rows(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  struct dg_item plain = contract_item(CONTRACT_BUCKET, "two/x.zip", DG_VARIANT_PASSTHROUGH);
  struct dg_item delta = contract_item(CONTRACT_BUCKET, "two/x.zip", DG_VARIANT_DELTA);
  struct dg_error err = {0};

  if (contract_put(contract, backend, &plain, "p", 1) == 0 &&
      contract_put(contract, backend, &delta, "d", 1) == 0)
    expect_listing(contract, backend, "two/", "", "", 1000, "two/x.zip two/x.zip");
  (void)dg_backend_remove(backend, &contract_call, &plain, &err);
  (void)dg_backend_remove(backend, &contract_call, &delta, &err);
}

/* ---- Hard keys ------------------------------------------------------------------- */

static gint compare_keys(gconstpointer a, gconstpointer b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* No valid S3 key may be refused or changed. Free with g_ptr_array_unref(). */
static GPtrArray *hard_keys(void)
{
  static const char *const fixed[] = {
    "%", "%2E", "%41", ".", "..", "./a", "../a", "a/./b", "a/../b", "//", "/", "/lead", "a//b",
    "a/", "a", "a/b", ".hidden", "x.delta", "reference.bin", "d/reference.bin", "d/x.delta",
    "d/", "d", "dir/sub/", "caf\xc3\xa9", "cafe\xcc\x81", "\xf0\x9f\x92\xbe", "sp ace", "tab\there",
    "new\nline", "quo\"te", "back\\slash", "star*?", "~", "-dash", "CON", "con", "Con",
    "\x01", "\x7f", "a.delta/b", "x", "x/", "x/y.delta", ".dg-staging", ".dg_xattr_probe",
    "deltaspaces/x", "\xc3\xbf", "\xef\xbf\xbf",
  };
  GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);
  g_autofree char *slashes = g_strnfill(1000, '/');

  for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
    g_ptr_array_add(keys, g_strdup(fixed[i]));
  g_ptr_array_add(keys, g_strnfill(1024, 'k'));
  g_ptr_array_add(keys, g_strnfill(255, 'l'));
  g_ptr_array_add(keys, g_strnfill(256, 'm'));
  g_ptr_array_add(keys, g_strconcat("deep/", slashes, NULL));
  g_ptr_array_sort(keys, compare_keys);
  return keys;
}

static void hard_keys_are_kept_apart_and_in_order(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  GPtrArray *keys = hard_keys();
  g_autoptr(GString) expected = g_string_new(NULL);
  g_autofree char *got = NULL;

  if (plant(contract, backend, (const char *const *)keys->pdata, keys->len) == 0) {
    for (guint i = 0; i < keys->len; i++) {
      const char *key = keys->pdata[i];
      struct dg_item item = contract_item(CONTRACT_BUCKET, key, DG_VARIANT_PASSTHROUGH);

      if (contract_expect(contract, backend, &item, key, strlen(key)) < 0)
        break;
      g_string_append_printf(expected, "%s%s", i > 0 ? " " : "", key);
    }
    if (!contract->failure)
      got = listed(contract, backend, "", "", "", G_MAXUINT, 0);
    if (got && strcmp(got, expected->str) != 0) {
      size_t at = 0;

      while (got[at] && got[at] == expected->str[at])
        at++;
      contract_fail(contract, "the listing differs at byte %zu: got '%.40s', expected '%.40s'", at,
                    got + at, expected->str + at);
    }
  }
  uproot(backend, (const char *const *)keys->pdata, keys->len);
  if (!contract->failure)
    expect_listing(contract, backend, "", "", "", 1000, "");
  g_ptr_array_unref(keys);
}

/* Pages of every size give the same rows as one listing. */
static void pages_add_up_to_the_whole(struct contract *contract, void *instance)
{
  struct dg_backend *backend = instance;
  GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);

  for (unsigned i = 0; i < 120; i++)
    g_ptr_array_add(keys, g_strdup_printf("p/%u/%u", i * 7919 % 13, i));
  if (plant(contract, backend, (const char *const *)keys->pdata, keys->len) == 0) {
    g_autofree char *whole = listed(contract, backend, "p/", "", "", G_MAXUINT, 0);

    for (guint page = 1; page <= 50 && whole && !contract->failure; page += 7) {
      g_autoptr(GString) sum = g_string_new(NULL);
      g_autofree char *after = g_strdup("");

      for (guint guard = 0; guard < 400 && !contract->failure; guard++) {
        g_autofree char *rows = listed(contract, backend, "p/", "", after, page, 0);

        if (!rows || !*rows)
          break;
        g_string_append_printf(sum, "%s%s", sum->len ? " " : "", rows);
        g_free(after);
        after = g_strdup(strrchr(rows, ' ') ? strrchr(rows, ' ') + 1 : rows);
      }
      if (!contract->failure && strcmp(sum->str, whole) != 0)
        contract_fail(contract, "pages of %u rows do not add up", page);
    }
  }
  uproot(backend, (const char *const *)keys->pdata, keys->len);
  g_ptr_array_unref(keys);
}

static const struct contract_case cases[] = {
  {"listings have order, prefix and delimiter", listings_have_order_prefix_and_delimiter, 0},
  {"listings go on where they stopped", listings_go_on_where_they_stopped, 0},
  {"references are listed only when asked for", references_are_listed_only_when_asked_for, 0},
  {"both variants of a key are rows", both_variants_of_a_key_are_rows, 0},
  {"hard keys are kept apart and in order", hard_keys_are_kept_apart_and_in_order, 0},
  {"pages add up to the whole", pages_add_up_to_the_whole, 0},
};

void contract_backend_list(struct contract *contract, void *backend)
{
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
    contract_run(contract, &cases[i], backend, true);
}
