/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "config-fixture.h"

#include <unistd.h>

#include "core/config/schema.h"
#include "core/plug/options.h"

START_TEST(credentials_and_defaults_suffice)
{
  struct dg_snapshot *s = config_loaded(CREDENTIALS);
  const struct dg_backend_config *backend = s->backends->pdata[0];

  ck_assert_str_eq(s->access_key_id, "AK");
  ck_assert_str_eq(s->listen_addr, "0.0.0.0:9000");
  ck_assert_uint_eq(s->max_object_size, UINT64_C(5) << 40);
  ck_assert_uint_eq(s->cache_bytes, 100u << 20);
  ck_assert_uint_eq(s->worker_threads, 0);
  ck_assert_uint_eq(s->multipart_idle_ttl_s, 24 * 3600);
  ck_assert_uint_eq(s->log_level, DG_LOG_INFO);
  ck_assert_str_eq(backend->name, "default");
  ck_assert_str_eq(backend->plugin_name, "backend-fs");
  ck_assert_str_eq(backend->options->get_text(backend->options, "path"), "./data");
  ck_assert(g_str_has_suffix(s->state_dir, "/data/.dg-state"));
  ck_assert(g_path_is_absolute(s->state_dir));
  ck_assert_str_eq(s->bucket_defaults.delta_suffixes[0], ".zip");
  ck_assert_str_eq(s->bucket_defaults.codec, "codec-xdelta3");
  ck_assert(s->bucket_defaults.compression);
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(no_credentials_are_refused_with_the_remedy)
{
  config_refused("", DG_E_CONFIG, "DGP_ACCESS_KEY_ID");
  config_refused("access: {authentication: off}\n", DG_E_CONFIG, "'off' is not one of none");
  config_refused("access: {access_key_id: AK}\n", DG_E_CONFIG, "without access.secret_access_key");
}
END_TEST

START_TEST(authentication_none_is_explicit_and_warned_about)
{
  struct dg_snapshot *s = config_loaded("access: {authentication: none}\n");

  ck_assert(s->authentication_none);
  ck_assert(config_warned(s, "all data is open"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(an_unknown_key_is_refused_with_its_place_and_the_nearest)
{
  config_refused("access: {authentication: none}\nadvanced:\n  cache_sise_mb: 3\n", DG_E_CONFIG,
          "c.yaml:3:3: advanced: unknown key 'cache_sise_mb': did you mean 'cache_size_mb'?");
  config_refused("acess: {}\n", DG_E_CONFIG,
                 "c.yaml:1:1: unknown key 'acess': did you mean 'access'?");
  config_refused(CREDENTIALS "storage: {backend: {type: filesystem, pth: x}}\n", DG_E_CONFIG,
          "c.yaml:2:39: storage.backend: unknown key 'pth': did you mean 'path'?");
  config_refused(CREDENTIALS "storage:\n  buckets:\n    b:\n      compresion: no\n", DG_E_CONFIG,
          "c.yaml:5:7: storage.buckets.b: unknown key 'compresion': did you mean 'compression'?");
}
END_TEST

START_TEST(a_bad_value_is_refused_with_its_place)
{
  config_refused(CREDENTIALS "advanced:\n  cache_size_mb: lots\n", DG_E_CONFIG,
          "c.yaml:3:18: advanced.cache_size_mb: 'lots' is not a whole number");
  config_refused(CREDENTIALS "advanced: {log_level: loud}\n", DG_E_CONFIG,
                 "'loud' is not a log level");
  config_refused(CREDENTIALS "advanced: [1]\n", DG_E_CONFIG, "a map of options");
  config_refused(CREDENTIALS "storage: {backend: {type: filesystem, timeout: soon}}\n", DG_E_CONFIG,
          "storage.backend.timeout: 'soon' is not a duration");
}
END_TEST

START_TEST(what_is_not_yaml_is_a_parse_error)
{
  config_refused("a: [1\n", DG_E_INVALID_ARGUMENT, "c.yaml:2:1");
  config_refused("a: 1\na: 2\n", DG_E_INVALID_ARGUMENT, "stands here twice");
  config_refused("a: &x 1\n", DG_E_INVALID_ARGUMENT, "anchors");
  config_refused("- 1\n", DG_E_INVALID_ARGUMENT, "a map of sections");
  config_refused("{}\n---\n{}\n", DG_E_INVALID_ARGUMENT, "second document");
  config_refused("a: [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]\n", DG_E_INVALID_ARGUMENT,
                 "nested");
}
END_TEST

START_TEST(known_features_of_other_versions_are_named)
{
  config_refused(CREDENTIALS "storage: {replication: {rules: []}}\n", DG_E_CONFIG,
          "storage.replication: this version does not have it yet");
  config_refused(CREDENTIALS "advanced: {encryption_key: x}\n", DG_E_CONFIG, "backend_encryption");
  config_refused("admin_password_hash: x\n", DG_E_CONFIG,
                 "advanced.admin_password_hash: this version does not have it yet");
}
END_TEST

START_TEST(the_flat_shape_works_but_does_not_mix)
{
  struct dg_snapshot *s =
    config_loaded("authentication: none\nlisten_addr: '[::1]:9'\nfilesystem: /srv/x\n");

  ck_assert_str_eq(s->listen_addr, "[::1]:9");
  ck_assert_str_eq(s->cache_dir, "/srv/x/.dg-cache");
  dg_snapshot_unref(s);
  config_refused("authentication: none\nlisten_addr: x\nadvanced: {}\naccess: {}\n",
                 DG_E_INVALID_ARGUMENT,
                 "c.yaml:3:1: sections (advanced, access) and flat keys (authentication, "
                 "listen_addr) do not mix");
}
END_TEST

START_TEST(the_environment_beats_the_file_and_the_command_line_beats_both)
{
  struct dg_load_params params = {.config_file = config_file, .listen_addr = "127.0.0.1:3"};
  struct dg_snapshot *s;
  struct dg_error err = {0};

  g_setenv("DGP_LISTEN_ADDR", "127.0.0.1:2", TRUE);
  g_setenv("DGP_DATA_DIR", "/srv/env", TRUE);
  g_setenv("DGP_DEBUG_HEADERS", "perhaps", TRUE);
  g_setenv("DGP_LISTEN_ADR", "x", TRUE);
  s = config_loaded(CREDENTIALS "advanced: {listen_addr: '127.0.0.1:1'}\n"
                                "storage: {filesystem: /file}\n");
  ck_assert_str_eq(s->listen_addr, "127.0.0.1:2");
  ck_assert_str_eq(s->spool_dir, "/srv/env/.dg-spool");
  ck_assert(config_warned(s, "DGP_DEBUG_HEADERS"));
  ck_assert(config_warned(s, "DGP_LISTEN_ADR is not known"));
  dg_snapshot_unref(s);
  ck_assert_int_eq(dg_snapshot_load(&params, config_table, &s, &err), 0);
  ck_assert_str_eq(s->listen_addr, "127.0.0.1:3");
  dg_snapshot_unref(s);
  g_setenv("DGP_CACHE_MB", "lots", TRUE);
  config_refused(CREDENTIALS, DG_E_CONFIG, "environment DGP_CACHE_MB");
  g_unsetenv("DGP_LISTEN_ADR");
}
END_TEST

START_TEST(references_to_the_environment_are_replaced)
{
  struct dg_snapshot *s;

  g_setenv("TEST_SECRET", "s3cr3t", TRUE);
  s = config_loaded("access: {access_key_id: '${env:TEST_KEY:-dflt}', secret_access_key: "
             "'${env:TEST_SECRET}$$'}\n");
  ck_assert_str_eq(s->access_key_id, "dflt");
  ck_assert_str_eq(s->secret_access_key, "s3cr3t$");
  dg_snapshot_unref(s);
  config_refused("\n  a: ${env:TEST_UNSET_X}\n", DG_E_INVALID_ARGUMENT,
          "c.yaml:2:6: ${env:TEST_UNSET_X}: the variable is not set");
  config_refused("a: ${env:1X}\n", DG_E_INVALID_ARGUMENT, "no variable name");
  config_refused("a: ${env:X\n", DG_E_INVALID_ARGUMENT, "closing brace");
  g_setenv("TEST_SECRET", "a\nb", TRUE);
  config_refused("a: ${env:TEST_SECRET}\n", DG_E_INVALID_ARGUMENT, "control character");
}
END_TEST

START_TEST(what_a_variable_holds_is_text_whatever_it_looks_like)
{
  static const char *const values[] = {
    "a #b",  "a: b", ": ",  "*a",    "&a",     "!a",   "{a: 1}", "[a]",  "'",          "\"",
    "a'b\"", "\\n",  "- a", "? a",   "%a",     "@a",   "`a",     "|",    ">",          "#",
    "null",  "~",    "a,b", " a ",   "a\tb",   "${x}", "$$",     "}",    "${env:PATH}", "\303\251",
    "a:",    "---",  "...", "\\U000F0000", "\363\260\200\200", "\342\200\250",
  };
  static const char *const forms[] = {"%s", "'%s'", "\"%s\"", "\"%s\\U000F0001\"", "|-\n    %s",
                                      ">-\n    %s\n    \363\260\200\200"};

  for (size_t v = 0; v < G_N_ELEMENTS(values); v++)
    for (size_t f = 0; f < G_N_ELEMENTS(forms); f++) {
      g_auto(GStrv) around = g_strsplit(forms[f], "%s", 2);
      g_autofree char *text = g_strconcat(
        "# ${env:TEST_SECRET} $$\naccess:\n  access_key_id: A\n  secret_access_key: ", around[0],
        "${env:TEST_SECRET}", around[1], "\n", NULL);
      g_autofree char *expected =
        g_strconcat(values[v],
                    f == 3   ? "\363\260\200\201"
                    : f == 5 ? " \363\260\200\200"
                             : "",
                    NULL);
      struct dg_snapshot *s;

      g_setenv("TEST_SECRET", values[v], TRUE);
      s = config_loaded(text);
      ck_assert_str_eq(s->secret_access_key, expected);
      dg_snapshot_unref(s);
    }
  g_setenv("TEST_SECRET", "[a, b]", TRUE);
  config_refused(CREDENTIALS "advanced: {delta_suffixes: '${env:TEST_SECRET}'}\n", DG_E_CONFIG,
                 "c.yaml:2:28: advanced.delta_suffixes: what a variable holds is text");
  g_setenv("TEST_SECRET", "\377", TRUE);
  config_refused("a: ${env:TEST_SECRET}\n", DG_E_INVALID_ARGUMENT, "not UTF-8");
  g_setenv("TEST_SECRET", "a\302\205b", TRUE);
  config_refused("a: ${env:TEST_SECRET}\n", DG_E_INVALID_ARGUMENT, "control character");
}
END_TEST

START_TEST(a_secret_may_come_from_a_file)
{
  g_autofree char *secret = g_build_filename(config_folder, "secret", NULL);
  g_autofree char *text =
    g_strdup_printf("access: {access_key_id: A, secret_access_key_file: '%s'}\n", secret);
  struct dg_snapshot *s;

  config_refused(text, DG_E_CONFIG, "secret_access_key_file");
  ck_assert(g_file_set_contents(secret, "hush\n", -1, NULL));
  s = config_loaded(text);
  ck_assert_str_eq(s->secret_access_key, "hush");
  dg_snapshot_unref(s);
  (void)unlink(secret);
}
END_TEST

START_TEST(several_backends_have_names_and_a_default)
{
  struct dg_snapshot *s =
    config_loaded(CREDENTIALS "storage:\n  default_backend: b\n  backends:\n"
                       "    - {name: a, type: filesystem, path: /a, timeout: 5s}\n"
                       "    - {name: b, type: 'null'}\n"
                       "  buckets: {x: {backend: a}, Y: {backend: zzz}}\n");
  const struct dg_backend_config *a = s->backends->pdata[0];

  ck_assert_uint_eq(s->backends->len, 2);
  ck_assert_str_eq(s->default_backend, "b");
  ck_assert_int_eq(a->options->get_int(a->options, "timeout"), 5000);
  ck_assert_str_eq(config_bucket(s, "x")->backend, "a");
  ck_assert_ptr_null(config_bucket(s, "y")->backend);
  ck_assert(config_warned(
    s, "bucket 'y' routes to unknown backend 'zzz' — route will be ignored"));
  dg_snapshot_unref(s);
  config_refused(CREDENTIALS "storage:\n  backends: [{name: a, type: 'null'}, "
                             "{name: a, type: 'null'}]\n",
          DG_E_CONFIG, "two backends are named 'a'");
  config_refused(CREDENTIALS "storage: {backends: [{type: 'null'}]}\n", DG_E_CONFIG,
          "storage.backends[0]: its name is missing");
  config_refused(CREDENTIALS "storage: {backend: {type: tape}}\n", DG_E_CONFIG,
          "plugin 'backend-tape' not found");
  config_refused(CREDENTIALS "storage: {backend: {type: 'null'}, filesystem: /x}\n", DG_E_CONFIG,
          "exclude each other");
}
END_TEST

START_TEST(verification_takes_truth_values_and_auto)
{
  struct dg_snapshot *s =
    config_loaded(CREDENTIALS "advanced: {verify_passthrough_reads: false}\n"
                       "storage:\n  buckets:\n    a: {verify_passthrough_reads: true}\n"
                       "    b: {verify_passthrough_reads: auto}\n"
                       "    c: {verify_passthrough_reads: On}\n    d: {compression: false}\n");

  ck_assert_int_eq(config_bucket(s, "a")->verify_passthrough_reads, DG_VERIFY_ON);
  ck_assert_int_eq(config_bucket(s, "b")->verify_passthrough_reads, DG_VERIFY_AUTO);
  ck_assert_int_eq(config_bucket(s, "c")->verify_passthrough_reads, DG_VERIFY_ON);
  ck_assert_int_eq(config_bucket(s, "d")->verify_passthrough_reads, DG_VERIFY_OFF);
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(timeouts_in_seconds_are_for_all_backends_of_their_type_that_set_none)
{
  static const char text[] = CREDENTIALS "storage:\n  backends:\n"
                                         "    - {name: a, type: s3}\n"
                                         "    - {name: b, type: s3, read_timeout: 5s}\n"
                                         "    - {name: c, type: 'null'}\n";
  g_autoptr(GString) shown = g_string_new(NULL);
  struct dg_snapshot *s;
  const struct dg_backend_config *a, *b;

  g_setenv("DGP_S3_READ_TIMEOUT_SECS", "7", TRUE);
  s = config_loaded(text);
  a = s->backends->pdata[0];
  b = s->backends->pdata[1];
  ck_assert_int_eq(a->options->get_int(a->options, "read_timeout"), 7000);
  ck_assert_int_eq(b->options->get_int(b->options, "read_timeout"), 5000);
  ck_assert(!config_warned(s, "DGP_S3_READ_TIMEOUT_SECS"));
  dg_snapshot_unref(s);
  dg_schema_print_env(shown);
  ck_assert_ptr_nonnull(strstr(shown->str, "\nDGP_S3_READ_TIMEOUT_SECS=7\n"));
  g_setenv("DGP_S3_READ_TIMEOUT_SECS", "1m", TRUE);
  config_refused(text, DG_E_CONFIG,
                 "environment DGP_S3_READ_TIMEOUT_SECS: '1m' is not a number of seconds");
  g_setenv("DGP_S3_READ_TIMEOUT_SECS", "86400", TRUE);
  config_refused(text, DG_E_CONFIG, "environment DGP_S3_READ_TIMEOUT_SECS: ");
  g_unsetenv("DGP_S3_READ_TIMEOUT_SECS");
}
END_TEST

START_TEST(bucket_ratios_follow_the_rules)
{
  struct dg_snapshot *s = config_loaded(
    CREDENTIALS "storage:\n  buckets:\n    a: {max_delta_ratio: 0.3}\n    b: {max_delta_ratio: 2}\n"
                "    c: {compression: false}\n    d: {compression: true, codec: codec-xdelta3}\n"
                "    e: {delta_suffixes: [.BIN, .so], verify_passthrough_reads: yes}\n"
                "    f: {delta_sniffing: true}\n");

  ck_assert_double_eq(config_bucket(s, "a")->max_delta_ratio, 0.3);
  ck_assert_double_eq(config_bucket(s, "b")->max_delta_ratio, 0.75);
  ck_assert(config_warned(s, "storage.buckets.b.max_delta_ratio is outside"));
  ck_assert(!config_bucket(s, "c")->compression);
  ck_assert(config_bucket(s, "d")->compression);
  ck_assert_str_eq(config_bucket(s, "e")->delta_suffixes[0], ".bin");
  ck_assert_str_eq(config_bucket(s, "e")->delta_suffixes[1], ".so");
  ck_assert(!config_bucket(s, "e")->delta_sniffing);
  ck_assert(config_bucket(s, "f")->delta_sniffing);
  ck_assert(!s->bucket_defaults.delta_sniffing);
  ck_assert_int_eq(config_bucket(s, "d")->verify_passthrough_reads, DG_VERIFY_AUTO);
  ck_assert_int_eq(config_bucket(s, "e")->verify_passthrough_reads, DG_VERIFY_ON);
  ck_assert_ptr_eq(config_bucket(s, "unknown"), &s->bucket_defaults);
  dg_snapshot_unref(s);

  s = config_loaded(CREDENTIALS "advanced: {max_delta_ratio: 0}\nstorage: {buckets: {d: {"
                                "compression: "
                         "true}, e: {}}}\n");
  ck_assert(!s->bucket_defaults.compression);
  ck_assert(config_bucket(s, "d")->compression);
  ck_assert_double_eq(config_bucket(s, "d")->max_delta_ratio, 0.75);
  ck_assert(!config_bucket(s, "e")->compression);
  dg_snapshot_unref(s);

  s = config_loaded(CREDENTIALS "advanced: {max_delta_ratio: nan}\n");
  ck_assert_double_eq(s->max_delta_ratio, 0.75);
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(a_missing_named_file_is_an_error_and_no_file_is_not)
{
  struct dg_load_params params = {.config_file = "/nonexistent/x.yaml"};
  struct dg_snapshot *s = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_snapshot_load(&params, config_table, &s, &err), -1);
  ck_assert_int_eq(err.code, DG_E_IO);
  g_setenv("DGP_AUTHENTICATION", "none", TRUE);
  s = config_loaded(NULL);
  dg_snapshot_unref(s);
}
END_TEST

/* Loads without --config and tells which file that read. */
static char *file_found(struct dg_error *err)
{
  struct dg_snapshot *s = NULL;
  char *name;

  *err = (struct dg_error){0};
  if (config_load(NULL, &s, err) < 0)
    return NULL;
  name = g_strdup(s->file);
  dg_snapshot_unref(s);
  return name;
}

START_TEST(the_first_file_of_the_usual_places_counts)
{
  static const char *const places[] = {"deltaglider_proxy.toml", "deltaglider_proxy.yml",
                                       "deltaglider_proxy.yaml"};
  g_autofree char *yml = NULL, *yaml = NULL, *named = NULL, *none = NULL;
  struct dg_error err;

  ck_assert(g_file_set_contents(places[0], CREDENTIALS, -1, NULL));
  ck_assert_ptr_null(file_found(&err));
  ck_assert(strstr(err.detail, "write the same keys as YAML"));
  ck_assert(g_file_set_contents(places[1], CREDENTIALS, -1, NULL));
  yml = file_found(&err);
  ck_assert_str_eq(yml, places[1]);
  ck_assert(g_file_set_contents(places[2], CREDENTIALS, -1, NULL));
  yaml = file_found(&err);
  ck_assert_str_eq(yaml, places[2]);
  g_setenv("DGP_CONFIG", "nowhere.yaml", TRUE);
  ck_assert_ptr_null(file_found(&err));
  ck_assert_int_eq(err.code, DG_E_IO);
  g_setenv("DGP_CONFIG", places[1], TRUE);
  named = file_found(&err);
  ck_assert_str_eq(named, places[1]);
  g_unsetenv("DGP_CONFIG");
  for (size_t i = 0; i < G_N_ELEMENTS(places); i++)
    (void)unlink(places[i]);
  g_setenv("DGP_AUTHENTICATION", "none", TRUE);
  none = file_found(&err);
  ck_assert_ptr_null(none);
  ck_assert_int_eq(err.code, 0);
}
END_TEST

START_TEST(a_text_may_stand_in_for_the_file)
{
  static const char text[] = "advanced: {cache_size_mb: 7}\n";
  struct dg_load_params params = {
    .config_file = "posted.yaml", .text = {text, sizeof text - 1}, .lint = true};
  struct dg_snapshot *s = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_snapshot_load(&params, config_table, &s, &err), 0);
  ck_assert_uint_eq(s->cache_bytes, 7u << 20);
  dg_snapshot_unref(s);
  params.text.len = 5;
  ck_assert_int_eq(dg_snapshot_load(&params, config_table, &s, &err), -1);
  ck_assert(strstr(err.detail, "posted.yaml:1:"));
}
END_TEST

START_TEST(lint_reads_the_file_alone)
{
  struct dg_load_params params = {.config_file = config_file, .lint = true};
  struct dg_snapshot *s = NULL;
  struct dg_error err = {0};

  ck_assert(g_file_set_contents(config_file, "advanced: {cache_size_mb: 7}\n", -1, NULL));
  g_setenv("DGP_CACHE_MB", "9", TRUE);
  ck_assert_int_eq(dg_snapshot_load(&params, config_table, &s, &err), 0);
  ck_assert_uint_eq(s->cache_bytes, 7u << 20);
  ck_assert(config_warned(s, "no credentials"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(the_printed_example_loads)
{
  g_autoptr(GString) text = g_string_new(NULL);
  struct dg_snapshot *s;

  dg_schema_print_example(text);
  g_setenv("DGP_AUTHENTICATION", "none", TRUE);
  s = config_loaded(text->str);
  dg_snapshot_unref(s);
  for (int section = 0; section < DG_SECTION_COUNT; section++) {
    struct dg_error err = {0};

    ck_assert_msg(dg_options_check(dg_schema_options((enum dg_section)section), &err) == 0, "%s",
                  err.detail);
  }
}
END_TEST

START_TEST(deadlines_come_from_the_file)
{
  struct dg_snapshot *s = config_loaded(CREDENTIALS "advanced:\n"
                                             "  max_connections: 7\n"
                                             "  idle_timeout_secs: 8\n"
                                             "  head_timeout_secs: 9\n"
                                             "  body_timeout_secs: 10\n"
                                             "  body_min_bytes: 8KiB\n"
                                             "  response_timeout_secs: 11\n");

  ck_assert_uint_eq(s->max_connections, 7);
  ck_assert_uint_eq(s->idle_timeout_s, 8);
  ck_assert_uint_eq(s->head_timeout_s, 9);
  ck_assert_uint_eq(s->body_timeout_s, 10);
  ck_assert_uint_eq(s->body_min_bytes, 8192);
  ck_assert_uint_eq(s->response_timeout_s, 11);
  dg_snapshot_unref(s);
  config_refused(CREDENTIALS "advanced:\n  idle_timeout_secs: 0\n", DG_E_CONFIG, "idle_timeout_secs");
}
END_TEST

START_TEST(an_upload_may_become_a_delta_whatever_its_size_unless_the_file_says_so)
{
  struct dg_snapshot *s = config_loaded(CREDENTIALS);

  ck_assert_uint_eq(s->mpu_delta_max_bytes, s->max_object_size);
  dg_snapshot_unref(s);
  g_setenv("DGP_MPU_DELTA_RECONSTRUCT_MAX_BYTES", "67108864", TRUE);
  s = config_loaded(CREDENTIALS);
  ck_assert_uint_eq(s->mpu_delta_max_bytes, 64u << 20);
  dg_snapshot_unref(s);
  g_unsetenv("DGP_MPU_DELTA_RECONSTRUCT_MAX_BYTES");
  s = config_loaded(CREDENTIALS "advanced: {mpu_delta_reconstruct_max_bytes: 0}\n");
  ck_assert_uint_eq(s->mpu_delta_max_bytes, 0);
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(a_bucket_may_look_at_names_alone_where_others_look_at_content)
{
  struct dg_snapshot *s = config_loaded(CREDENTIALS "advanced: {delta_sniffing: on}\n"
                                                    "storage: {buckets: {plain: "
                                                    "{delta_sniffing: off}, other: {}}}\n");

  ck_assert(s->bucket_defaults.delta_sniffing);
  ck_assert(config_bucket(s, "other")->delta_sniffing);
  ck_assert(!config_bucket(s, "plain")->delta_sniffing);
  dg_snapshot_unref(s);
  config_refused(CREDENTIALS "storage: {buckets: {plain: {delta_sniffing: some}}}\n", DG_E_CONFIG,
                 "delta_sniffing");
}
END_TEST

START_TEST(prefixes_are_removed_only_where_the_file_says_so)
{
  struct dg_snapshot *s = config_loaded(CREDENTIALS);

  ck_assert(!s->recursive_delete);
  ck_assert_uint_eq(s->recursive_delete_page, 1000);
  dg_snapshot_unref(s);
  s = config_loaded(CREDENTIALS
                    "advanced: {recursive_delete: yes, recursive_delete_page_size: 50}\n");
  ck_assert(s->recursive_delete);
  ck_assert_uint_eq(s->recursive_delete_page, 50);
  dg_snapshot_unref(s);
  config_refused(CREDENTIALS "advanced: {recursive_delete_page_size: 0}\n", DG_E_CONFIG,
                 "recursive_delete_page_size");
}
END_TEST

START_TEST(secrets_are_not_shown)
{
  g_autoptr(GString) text = g_string_new(NULL);

  g_setenv("DGP_SECRET_ACCESS_KEY", "s3cr3t", TRUE);
  dg_schema_print_env(text);
  ck_assert_ptr_nonnull(strstr(text->str, "DGP_SECRET_ACCESS_KEY=(set, not shown)"));
  ck_assert_ptr_null(strstr(text->str, "s3cr3t"));
  ck_assert_ptr_nonnull(strstr(text->str, "DGP_CONFIG="));
  g_setenv("DGP_BACKEND_UP_TOKEN", "t0k3n", TRUE);
  dg_schema_print_env(text);
  ck_assert_ptr_nonnull(strstr(text->str, "DGP_BACKEND_UP_TOKEN=(set, not shown)"));
  ck_assert_ptr_null(strstr(text->str, "t0k3n"));
  g_unsetenv("DGP_BACKEND_UP_TOKEN");
}
END_TEST

START_TEST(log_levels_are_parsed)
{
  ck_assert_int_eq(dg_log_level_parse("warn"), DG_LOG_WARN);
  ck_assert_int_eq(dg_log_level_parse("TRACE"), DG_LOG_DEBUG);
  ck_assert_int_eq(dg_log_level_parse("off"), 0);
  ck_assert_int_eq(dg_log_level_parse("deltaglider_proxy=debug,tower_http=info"), DG_LOG_DEBUG);
  ck_assert_int_eq(dg_log_level_parse("loud"), -1);
  ck_assert_int_eq(dg_log_level_parse(""), -1);
}
END_TEST

START_TEST(the_snapshot_for_tests_stands_alone)
{
  struct dg_snapshot *s = dg_snapshot_new_for_test("/tmp/x");

  ck_assert_str_eq(s->cache_dir, "/tmp/x/.dg-cache");
  ck_assert_uint_eq(s->backends->len, 1);
  ck_assert(s->bucket_defaults.compression);
  dg_snapshot_unref(dg_snapshot_ref(s));
  dg_snapshot_unref(s);
}
END_TEST

int main(void)
{
  TCase *load_case = tcase_create("load");

  tcase_add_test(load_case, credentials_and_defaults_suffice);
  tcase_add_test(load_case, no_credentials_are_refused_with_the_remedy);
  tcase_add_test(load_case, authentication_none_is_explicit_and_warned_about);
  tcase_add_test(load_case, an_unknown_key_is_refused_with_its_place_and_the_nearest);
  tcase_add_test(load_case, a_bad_value_is_refused_with_its_place);
  tcase_add_test(load_case, what_is_not_yaml_is_a_parse_error);
  tcase_add_test(load_case, known_features_of_other_versions_are_named);
  tcase_add_test(load_case, the_flat_shape_works_but_does_not_mix);
  tcase_add_test(load_case, the_environment_beats_the_file_and_the_command_line_beats_both);
  tcase_add_test(load_case, references_to_the_environment_are_replaced);
  tcase_add_test(load_case, what_a_variable_holds_is_text_whatever_it_looks_like);
  tcase_add_test(load_case, a_secret_may_come_from_a_file);
  tcase_add_test(load_case, several_backends_have_names_and_a_default);
  tcase_add_test(load_case, timeouts_in_seconds_are_for_all_backends_of_their_type_that_set_none);
  tcase_add_test(load_case, bucket_ratios_follow_the_rules);
  tcase_add_test(load_case, verification_takes_truth_values_and_auto);
  tcase_add_test(load_case, a_missing_named_file_is_an_error_and_no_file_is_not);
  tcase_add_test(load_case, the_first_file_of_the_usual_places_counts);
  tcase_add_test(load_case, a_text_may_stand_in_for_the_file);
  tcase_add_test(load_case, lint_reads_the_file_alone);
  tcase_add_test(load_case, the_printed_example_loads);
  tcase_add_test(load_case, deadlines_come_from_the_file);
  tcase_add_test(load_case,
                 an_upload_may_become_a_delta_whatever_its_size_unless_the_file_says_so);
  tcase_add_test(load_case, a_bucket_may_look_at_names_alone_where_others_look_at_content);
  tcase_add_test(load_case, prefixes_are_removed_only_where_the_file_says_so);
  tcase_add_test(load_case, secrets_are_not_shown);
  tcase_add_test(load_case, log_levels_are_parsed);
  tcase_add_test(load_case, the_snapshot_for_tests_stands_alone);
  return config_run(load_case);
}
