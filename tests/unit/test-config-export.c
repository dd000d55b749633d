/* SPDX-License-Identifier: Apache-2.0 */
/* What comes out of a configuration: exports, the schema, what needs a restart. */
#include "config.h"

#include "config-fixture.h"

#include <jansson.h>

#include "core/config/schema.h"

static char *exported(const struct dg_snapshot *snapshot, enum dg_export_tier tier)
{
  GString *out = g_string_new(NULL);

  dg_snapshot_export(snapshot, tier, out);
  return g_string_free(out, FALSE);
}

/* Loads text and expects its persisted export. */
static void exports_as(const char *text, const char *expected)
{
  struct dg_snapshot *s = config_loaded(text);
  g_autofree char *out = exported(s, DG_EXPORT_PERSIST);

  ck_assert_str_eq(out, expected);
  dg_snapshot_unref(s);
  if (strcmp(text, expected) != 0)
    exports_as(expected, expected);
}

START_TEST(an_export_is_sectioned_sorted_and_without_defaults)
{
  exports_as("secret_access_key: SK\naccess_key_id: AK\nfilesystem: /srv/x\nlisten_addr: "
             "0.0.0.0:9000\ncache_size_mb: 0100\nlog_level: debug\n",
             "access:\n  access_key_id: AK\n  secret_access_key: SK\nadvanced:\n"
             "  log_level: debug\nstorage:\n  backend:\n    path: /srv/x\n    type: filesystem\n");
  g_setenv("DGP_AUTHENTICATION", "none", TRUE);
  exports_as("", "{}\n");
  exports_as("storage: {filesystem: ./data}\nadvanced:\naccess: {}\n", "{}\n");
}
END_TEST

START_TEST(a_value_has_one_spelling)
{
  exports_as(CREDENTIALS
             "advanced: {max_object_size: 1073741824, debug_headers: YES, max_delta_ratio: .50, "
             "delta_suffixes: '.a, .b', base_domains: [s3.example], listen_addr: '127.0.0.1:1'}\n"
             "storage:\n  backends:\n    - {type: s3, name: z, endpoint: 'http://h:1/', part_size: "
             "65536KiB}\n    - {name: a, type: filesystem, timeout: 120s}\n"
             "  buckets: {Bee: {public_prefixes: ['']}, ant: {alias: \"q'$x\", frozen: no}, "
             "cat: {public_prefixes: [b/, a/], quota_bytes: 0, compression: false}}\n",
             "access:\n  access_key_id: AK\n  secret_access_key: SK\n"
             "advanced:\n  base_domains:\n    - s3.example\n  debug_headers: true\n"
             "  delta_suffixes:\n    - '.a'\n    - '.b'\n  listen_addr: '127.0.0.1:1'\n"
             "  max_delta_ratio: 0.5\n  max_object_size: 1GiB\n"
             "storage:\n  backends:\n    - endpoint: http://h:1/\n      name: z\n      type: s3\n"
             "    - name: a\n      timeout: 2m\n      type: filesystem\n"
             "  buckets:\n    ant:\n      alias: 'q''$$x'\n    bee:\n      public: true\n"
             "    cat:\n      compression: false\n      public_prefixes:\n        - b/\n"
             "        - a/\n      quota_bytes: 0\n");
}
END_TEST

START_TEST(blocks_and_tls_are_exported)
{
  exports_as(CREDENTIALS
             "admission:\n  blocks:\n    - {name: b, match: {source_ip: 10.0.0.0/8, authenticated: "
             "0}, action: {type: deny}}\n    - {name: a, match: {}, action: {type: reject, status: "
             "503, message: \"a: b\\n\"}}\n"
             "advanced: {tls: {enabled: 1, cert_path: c, key_path: k, min_version: 1.2, "
             "certificates: [{key_path: k2, cert_path: c2}]}}\n",
             "access:\n  access_key_id: AK\n  secret_access_key: SK\n"
             "admission:\n  blocks:\n    - action: deny\n      match:\n        authenticated: false\n"
             "        source_ip: '10.0.0.0/8'\n      name: b\n"
             "    - action:\n        message: \"a: b\\n\"\n        status: 503\n"
             "        type: reject\n      name: a\n"
             "advanced:\n  tls:\n    cert_path: c\n    certificates:\n      - cert_path: c2\n"
             "        key_path: k2\n    enabled: true\n    key_path: k\n");
}
END_TEST

START_TEST(references_survive_an_export_and_the_environment_does_not_get_in)
{
  g_setenv("TEST_SECRET", "hush", TRUE);
  g_setenv("TEST_SIZE", "7", TRUE);
  g_setenv("DGP_LOG_LEVEL", "error", TRUE);
  g_setenv("DGP_BE_AWS_ACCESS_KEY_ID", "EK", TRUE);
  exports_as("access: {access_key_id: \"${env:TEST_NONE:-AK}\", secret_access_key: "
             "'${env:TEST_SECRET}'}\nstorage: {s3: 'https://${env:TEST_SIZE}.example', "
             "secret_access_key: ${env:TEST_SECRET}}\nadvanced: {cache_size_mb: ${env:TEST_SIZE}, "
             "metadata_cache_mb: ${env:TEST_SIZE}}\n",
             "access:\n  access_key_id: AK\n  secret_access_key: '${env:TEST_SECRET}'\n"
             "advanced:\n  cache_size_mb: ${env:TEST_SIZE}\n  metadata_cache_mb: ${env:TEST_SIZE}\n"
             "storage:\n  backend:\n    endpoint: 'https://${env:TEST_SIZE}.example'\n"
             "    secret_access_key: ${env:TEST_SECRET}\n    type: s3\n");
}
END_TEST

START_TEST(a_text_with_references_among_others_is_exported_as_it_was_written)
{
  g_setenv("TEST_SECRET", "hush", TRUE);
  g_setenv("TEST_BUCKET", "Bee", TRUE);
  exports_as(CREDENTIALS
             "advanced:\n  delta_suffixes: ['.${env:TEST_SECRET}', .b]\n  cache_dir: >-\n"
             "    /a\n    ${env:TEST_SECRET}/$$x'\n"
             "  spool_dir: \"/\\t\\\\${env:TEST_SECRET}\\\"\"\n"
             "  state_dir: '/''${env:TEST_SECRET}${env:TEST_NONE:-dflt}'\n"
             "storage:\n  s3: https://user:${env:TEST_SECRET}@h.example\n"
             "  buckets: {'${env:TEST_BUCKET}': {alias: \"${env:TEST_SECRET}\", frozen: yes}}\n",
             "access:\n  access_key_id: AK\n  secret_access_key: SK\n"
             "advanced:\n  cache_dir: '/a ${env:TEST_SECRET}/$$x'''\n"
             "  delta_suffixes:\n    - '.${env:TEST_SECRET}'\n    - '.b'\n"
             "  spool_dir: \"/\\u0009\\\\${env:TEST_SECRET}\\\"\"\n"
             "  state_dir: '/''${env:TEST_SECRET}dflt'\n"
             "storage:\n  backend:\n    endpoint: https://user:${env:TEST_SECRET}@h.example\n"
             "    type: s3\n"
             "  buckets:\n    '${env:TEST_BUCKET}':\n      alias: \"${env:TEST_SECRET}\"\n"
             "      frozen: true\n");
}
END_TEST

START_TEST(what_stands_beside_a_reference_in_a_secret_is_kept_back_with_it)
{
  static const char text[] =
    "access: {access_key_id: 'LEFT1${env:TEST_SECRET}', secret_access_key: "
    "'${env:TEST_SECRET:-RIGHT1}'}\n"
    "storage: {backends: [{name: a, type: s3, endpoint: 'https://u', access_key_id: "
    "'${env:TEST_SECRET}', secret_access_key: '${env:TEST_SECRET}RIGHT2'}]}\n";
  struct dg_snapshot *s;
  g_autofree char *persist = NULL, *canonical = NULL, *api = NULL;

  g_setenv("TEST_SECRET", "hush", TRUE);
  s = config_loaded(text);
  ck_assert_str_eq(s->access_key_id, "LEFT1hush");
  persist = exported(s, DG_EXPORT_PERSIST);
  canonical = exported(s, DG_EXPORT_CANONICAL);
  api = exported(s, DG_EXPORT_API);
  ck_assert(strstr(persist, "access_key_id: 'LEFT1${env:TEST_SECRET}'") &&
            strstr(persist, "secret_access_key: '${env:TEST_SECRET:-RIGHT1}'") &&
            strstr(persist, "secret_access_key: '${env:TEST_SECRET}RIGHT2'"));
  ck_assert(!strstr(api, "LEFT") && !strstr(api, "RIGHT"));
  ck_assert(strstr(api, "access_key_id: '${env:TEST_SECRET}'"));
  ck_assert(!strstr(persist, "hush") && !strstr(canonical, "hush") && !strstr(api, "hush"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(tiers_keep_secrets_back)
{
  static const char text[] =
    "access: {access_key_id: AK1, secret_access_key: SK1}\n"
    "storage: {backends: [{name: a, type: s3, endpoint: 'https://u', access_key_id: AK2, "
    "secret_access_key: SK2}, {name: b, type: filesystem, token: '${env:TEST_SECRET}'}]}\n";
  struct dg_snapshot *s;
  g_autofree char *persist = NULL, *canonical = NULL, *api = NULL;

  g_setenv("TEST_SECRET", "SK3", TRUE);
  s = config_loaded(text);
  persist = exported(s, DG_EXPORT_PERSIST);
  canonical = exported(s, DG_EXPORT_CANONICAL);
  api = exported(s, DG_EXPORT_API);
  ck_assert(strstr(persist, "SK1") && strstr(persist, "SK2"));
  ck_assert(strstr(canonical, "SK1") && strstr(canonical, "SK2"));
  ck_assert(!strstr(api, "AK1") && !strstr(api, "SK1") && !strstr(api, "AK2") &&
            !strstr(api, "SK2") && !strstr(api, "SK3"));
  ck_assert(strstr(api, "token: '${env:TEST_SECRET}'"));
  ck_assert(strstr(api, "endpoint: https://u"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(what_the_environment_replaced_is_persisted_but_not_shown)
{
  struct dg_snapshot *s;
  g_autofree char *persist = NULL, *api = NULL;

  g_setenv("DGP_DATA_DIR", "/srv/env", TRUE);
  s = config_loaded(CREDENTIALS "storage: {s3: 'https://u', secret_access_key: SK2}\n");
  persist = exported(s, DG_EXPORT_PERSIST);
  api = exported(s, DG_EXPORT_API);
  ck_assert(strstr(persist, "secret_access_key: SK2"));
  ck_assert_str_eq(api, "storage:\n  backend:\n    type: s3\n");
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(forgotten_secrets_are_nowhere_and_references_stay)
{
  struct dg_snapshot *s;
  g_autofree char *before = NULL, *after = NULL, *persisted = NULL;
  const struct dg_backend_config *backend;

  g_setenv("TEST_SECRET", "from-the-environment", TRUE);
  s = config_loaded(
    "access: {access_key_id: AK, secret_access_key: first-secret}\n"
    "storage:\n  backend: {type: filesystem, path: replaced, secret_access_key: 'no-such-option'}\n"
    "  backends:\n    - {type: s3, name: z, endpoint: 'http://h:1/', allow_local: true, "
    "access_key_id: B, secret_access_key: second-secret}\n"
    "    - {type: s3, name: y, endpoint: 'http://h:2/', allow_local: true, access_key_id: C, "
    "secret_access_key: '${env:TEST_SECRET}'}\n"
    "    - {type: s3, name: x, endpoint: 'http://h:3/', allow_local: true, access_key_id: D, "
    "secret_access_key: '${env:TEST_SECRET:-third-secret}'}\n");
  before = exported(s, DG_EXPORT_API);
  dg_snapshot_forget_secrets(s);
  dg_snapshot_forget_secrets(s);
  after = exported(s, DG_EXPORT_API);
  ck_assert_str_eq(after, before);
  persisted = exported(s, DG_EXPORT_PERSIST);
  ck_assert_ptr_nonnull(strstr(persisted, "${env:TEST_SECRET}"));
  for (const char *const *word = (const char *const[]){"first-", "second-", "third-", "from-the",
                                                       "no-such", "fp:", NULL};
       *word; word++)
    ck_assert_msg(!strstr(persisted, *word), "%s is in:\n%s", *word, persisted);
  ck_assert_ptr_null(s->secret_access_key);
  ck_assert_str_eq(s->access_key_id, "AK");
  for (guint i = 0; i < s->backends->len; i++) {
    backend = s->backends->pdata[i];
    ck_assert_ptr_null(backend->options->get_text(backend->options, "secret_access_key"));
    ck_assert_ptr_nonnull(backend->options->get_text(backend->options, "endpoint"));
  }
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(odd_texts_come_back_as_they_were)
{
  static const char *const texts[] = {"",     "no",    "1:2",       "a: b",    "a #b",  "- a",
                                      "'",    "\"",    "$${env:X}", "$$$$",    "a\\nb", "\303\251",
                                      "~",    "null",  "a:",        "?",       "@x",    "%y",
                                      "\\x01", "\\u2028", "a  b ",  " a",      "{}",    "[1]"};

  for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
    g_autofree char *quoted = g_strdup_printf("%s", texts[i]);
    g_autofree char *text = NULL, *out = NULL, *again = NULL;
    struct dg_snapshot *first, *second;

    if (!strcmp(texts[i], "\"")) {
      g_free(quoted);
      quoted = g_strdup("\\\"");
    }
    text = g_strdup_printf(CREDENTIALS "storage: {buckets: {bee: {alias: \"%s\"}}}\n", quoted);
    first = config_loaded(text);
    out = exported(first, DG_EXPORT_PERSIST);
    second = config_loaded(out);
    again = exported(second, DG_EXPORT_PERSIST);
    ck_assert_str_eq(config_bucket(first, "bee")->alias, config_bucket(second, "bee")->alias);
    ck_assert_str_eq(out, again);
    dg_snapshot_unref(first);
    dg_snapshot_unref(second);
  }
}
END_TEST

/* ---- Restart ------------------------------------------------------------------------ */

START_TEST(only_what_a_reload_cannot_apply_is_listed)
{
  struct dg_snapshot *a = config_loaded(
    CREDENTIALS "advanced: {listen_addr: '127.0.0.1:1', log_level: warn, debug_headers: yes}\n");
  struct dg_snapshot *b = config_loaded(
    CREDENTIALS "advanced: {listen_addr: '127.0.0.1:2', log_level: info, debug_headers: true, "
                "cache_size_mb: 5, tls: {enabled: true, cert_path: c, key_path: k, certificates: "
                "[{cert_path: x, key_path: y}]}}\nstorage: {filesystem: /elsewhere}\n");
  g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
  g_autofree char *joined = NULL;

  dg_snapshot_restart_changes(a, a, paths);
  ck_assert_uint_eq(paths->len, 0);
  dg_snapshot_restart_changes(a, b, paths);
  g_ptr_array_add(paths, NULL);
  joined = g_strjoinv(" ", (char **)paths->pdata);
  ck_assert_str_eq(joined, "advanced.listen_addr advanced.cache_size_mb advanced.cache_dir "
                           "advanced.spool_dir advanced.state_dir advanced.tls.enabled");
  dg_snapshot_unref(a);
  dg_snapshot_unref(b);
}
END_TEST

/* ---- Schema ---------------------------------------------------------------------------- */

START_TEST(the_schema_is_json_and_has_every_option)
{
  g_autoptr(GPtrArray) warnings = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) out = g_string_new(NULL);
  json_t *root, *properties, *bucket, *block;

  dg_schema_print_json(config_table, warnings, out);
  root = json_loads(out->str, JSON_REJECT_DUPLICATES, NULL);
  ck_assert_ptr_nonnull(root);
  ck_assert_str_eq(json_string_value(json_object_get(root, "$schema")),
                   "http://json-schema.org/draft-07/schema#");
  properties = json_object_get(root, "properties");
  ck_assert_uint_eq(json_object_size(properties), 5);
  for (int section = 0; section < DG_SECTION_TOP_COUNT; section++) {
    json_t *own = json_object_get(
      json_object_get(properties, dg_schema_section_name((enum dg_section)section)), "properties");

    for (const struct dg_option *o = dg_schema_options((enum dg_section)section); o->name; o++)
      ck_assert_msg(json_object_get(own, o->name) != NULL, "%s", o->name);
  }
  bucket = json_object_get(
    json_object_get(json_object_get(json_object_get(properties, "storage"), "properties"),
                    "buckets"),
    "additionalProperties");
  ck_assert_ptr_nonnull(json_object_get(json_object_get(bucket, "properties"), "quota_objects"));
  block = json_object_get(
    json_object_get(json_object_get(json_object_get(properties, "admission"), "properties"),
                    "blocks"),
    "items");
  ck_assert_str_eq(json_string_value(json_array_get(json_object_get(block, "required"), 0)),
                   "name");
  json_decref(root);
}
END_TEST

int main(void)
{
  TCase *tests = tcase_create("export");

  tcase_add_test(tests, an_export_is_sectioned_sorted_and_without_defaults);
  tcase_add_test(tests, a_value_has_one_spelling);
  tcase_add_test(tests, blocks_and_tls_are_exported);
  tcase_add_test(tests, references_survive_an_export_and_the_environment_does_not_get_in);
  tcase_add_test(tests, a_text_with_references_among_others_is_exported_as_it_was_written);
  tcase_add_test(tests, what_stands_beside_a_reference_in_a_secret_is_kept_back_with_it);
  tcase_add_test(tests, tiers_keep_secrets_back);
  tcase_add_test(tests, what_the_environment_replaced_is_persisted_but_not_shown);
  tcase_add_test(tests, forgotten_secrets_are_nowhere_and_references_stay);
  tcase_add_test(tests, odd_texts_come_back_as_they_were);
  tcase_add_test(tests, only_what_a_reload_cannot_apply_is_listed);
  tcase_add_test(tests, the_schema_is_json_and_has_every_option);
  return config_run(tests);
}
