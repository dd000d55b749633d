/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes and parts of a configuration: shorthands, buckets, admission, TLS. */
#include "config.h"

#include "config-fixture.h"

#include "core/plug/options.h"

#define BUCKETS(text) CREDENTIALS "storage: {buckets: {" text "}}\n"
#define BLOCKS(text) CREDENTIALS "admission:\n  blocks:\n" text
#define TLS(text) CREDENTIALS "advanced: {tls: {" text "}}\n"

static const char *option(const struct dg_backend_config *backend, const char *name)
{
  return backend->options->get_text(backend->options, name);
}

/* ---- Shapes ------------------------------------------------------------------------ */

START_TEST(the_s3_shorthand_is_a_backend)
{
  struct dg_snapshot *s = config_loaded(
    CREDENTIALS "storage: {s3: 'https://up.example', region: eu-1, access_key_id: BK, "
                "secret_access_key: BS, force_path_style: no}\n");
  const struct dg_backend_config *backend = s->backends->pdata[0];

  ck_assert_uint_eq(s->backends->len, 1);
  ck_assert_str_eq(backend->name, "default");
  ck_assert_str_eq(backend->plugin_name, "backend-s3");
  ck_assert_str_eq(option(backend, "endpoint"), "https://up.example");
  ck_assert_str_eq(option(backend, "region"), "eu-1");
  ck_assert_str_eq(option(backend, "secret_access_key"), "BS");
  ck_assert(!backend->options->get_bool(backend->options, "force_path_style"));
  ck_assert_str_eq(s->access_key_id, "AK"); /* the server's own, not the backend's */
  dg_snapshot_unref(s);
  config_refused(CREDENTIALS "storage: {s3: 'ftp://x'}\n", DG_E_CONFIG,
                 "c.yaml:2:15: storage.s3: a URL");
  config_refused(CREDENTIALS "storage: {filesystem: x, region: y}\n", DG_E_CONFIG,
                 "c.yaml:2:26: storage.region goes with storage.s3");
  config_refused(CREDENTIALS "storage: {s3: 'http://x', filesystem: y}\n", DG_E_CONFIG,
                 "storage.s3 and storage.filesystem exclude each other");
  config_refused(CREDENTIALS "storage: {filesystem: a/../b}\n", DG_E_CONFIG, "'..' is not allowed");
  config_refused(CREDENTIALS "storage: {filesystem: ''}\n", DG_E_CONFIG, "a path is expected");
}
END_TEST

START_TEST(the_environment_replaces_the_whole_single_backend)
{
  static const char text[] =
    CREDENTIALS "storage: {s3: 'https://file', access_key_id: FK, secret_access_key: FS}\n";
  const struct dg_backend_config *backend;
  struct dg_snapshot *s;

  g_setenv("DGP_BE_AWS_SECRET_ACCESS_KEY", "ES", TRUE);
  s = config_loaded(text);
  backend = s->backends->pdata[0];
  ck_assert_str_eq(option(backend, "endpoint"), "https://file");
  ck_assert_str_eq(option(backend, "secret_access_key"), "ES");
  dg_snapshot_unref(s);

  g_setenv("DGP_S3_REGION", "eu-9", TRUE);
  g_setenv("DGP_DATA_DIR", "/srv/env", TRUE); /* weaker */
  s = config_loaded(text);
  backend = s->backends->pdata[0];
  ck_assert_str_eq(backend->type, "s3");
  ck_assert_str_eq(option(backend, "region"), "eu-9");
  ck_assert_ptr_null(option(backend, "endpoint"));
  ck_assert_ptr_null(option(backend, "access_key_id"));
  dg_snapshot_unref(s);

  g_unsetenv("DGP_S3_REGION");
  s = config_loaded(text);
  backend = s->backends->pdata[0];
  ck_assert_str_eq(backend->type, "filesystem");
  ck_assert_str_eq(option(backend, "path"), "/srv/env");
  dg_snapshot_unref(s);

  s = config_loaded(CREDENTIALS "storage: {backends: [{name: a, type: 'null'}]}\n");
  ck_assert_str_eq(((struct dg_backend_config *)s->backends->pdata[0])->name, "a");
  ck_assert(config_warned(s, "the single backend is ignored"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(an_instance_has_its_own_variables)
{
  static const char text[] = CREDENTIALS
    "storage:\n  backends:\n    - {name: eu-1, type: s3, endpoint: 'https://a'}\n"
    "    - {name: eu.1, type: s3, endpoint: 'https://b', allow_local: true}\n";
  struct dg_snapshot *s;
  const struct dg_backend_config *a, *b;

  g_setenv("DGP_BACKEND_EU_1_SECRET_ACCESS_KEY", "ES", TRUE);
  g_setenv("DGP_BACKEND_EU_1_FORCE_PATH_STYLE", "perhaps", TRUE);
  g_setenv("DGP_BACKEND_ALLOW_LOCAL", "no", TRUE);
  s = config_loaded(text);
  g_unsetenv("DGP_BACKEND_EU_1_SECRET_ACCESS_KEY");
  g_unsetenv("DGP_BACKEND_EU_1_FORCE_PATH_STYLE");
  a = s->backends->pdata[0];
  b = s->backends->pdata[1];
  ck_assert_str_eq(option(a, "secret_access_key"), "ES");
  ck_assert_str_eq(option(b, "secret_access_key"), "ES");
  ck_assert(!b->options->get_bool(b->options, "allow_local"));
  ck_assert(config_warned(s, "backends 'eu-1' and 'eu.1' share their environment variables"));
  ck_assert(config_warned(s, "DGP_BACKEND_EU_1_FORCE_PATH_STYLE"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(flat_keys_find_their_sections)
{
  struct dg_snapshot *s = config_loaded(
    "access_key_id: AK\nsecret_access_key: SK\ns3: 'https://up'\nregion: eu-1\ntls: {enabled: "
    "yes}\nadmission_blocks: [{name: a, action: deny}]\nbuckets: {bee: {frozen: true}}\n");
  const struct dg_backend_config *backend = s->backends->pdata[0];

  ck_assert_str_eq(s->secret_access_key, "SK");
  ck_assert_str_eq(option(backend, "region"), "eu-1");
  ck_assert_ptr_null(option(backend, "access_key_id"));
  ck_assert(s->tls.enabled);
  ck_assert_uint_eq(s->admission->len, 1);
  ck_assert(config_bucket(s, "bee")->frozen);
  dg_snapshot_unref(s);
  config_refused("listen_adr: x\n", DG_E_CONFIG,
                 "c.yaml:1:1: unknown key 'listen_adr': did you mean 'listen_addr'?");
}
END_TEST

START_TEST(a_key_in_the_wrong_place_is_sent_home)
{
  config_refused(CREDENTIALS "advanced: {buckets: {}}\n", DG_E_CONFIG,
                 "c.yaml:2:12: advanced: unknown key 'buckets': it stands in storage");
  config_refused(CREDENTIALS "storage: {bucket: {}}\n", DG_E_CONFIG,
                 "did you mean 'buckets', or 'bucket' of admission.blocks[].match?");
  config_refused(CREDENTIALS "storage: {listen_addr: x}\n", DG_E_CONFIG, "it stands in advanced");
  config_refused(CREDENTIALS "compression: no\n", DG_E_CONFIG,
                 "unknown key 'compression': it stands in storage.buckets.NAME");
  config_refused(CREDENTIALS "storage: {codecs: {xdelta3: {x: 1}}}\n", DG_E_CONFIG,
                 "storage.codecs.xdelta3: unknown key 'x'");
  config_refused(CREDENTIALS "storage: {codecs: {xdelta3: {}, codec-xdelta3: {}}}\n", DG_E_CONFIG,
                 "storage.codecs.codec-xdelta3 stands here twice");
}
END_TEST

START_TEST(places_are_those_of_the_file_before_references_are_replaced)
{
  g_setenv("TEST_LONG", "a-rather-long-value", TRUE);
  config_refused("access: {access_key_id: '${env:TEST_LONG}', \303\244: 1}\n", DG_E_CONFIG,
                 "c.yaml:1:45: access: unknown key");
  config_refused("a: $$$$$$ ]: b\n", DG_E_INVALID_ARGUMENT, "c.yaml:1:12: mapping values");
  config_refused("a: '${env:TEST_LONG}' b: c\n", DG_E_INVALID_ARGUMENT, "c.yaml:1:23");
  config_refused("\303\244: ${env:TEST_NONE}\n", DG_E_INVALID_ARGUMENT, "c.yaml:1:4");
  g_unsetenv("TEST_LONG");
}
END_TEST

START_TEST(a_secret_and_its_file_exclude_each_other)
{
  config_refused("access: {secret_access_key: x, secret_access_key_file: /dev/null}\n", DG_E_CONFIG,
                 "access.secret_access_key and access.secret_access_key_file exclude");
}
END_TEST

/* ---- Buckets ----------------------------------------------------------------------- */

START_TEST(who_is_locked_out_behind_a_proxy_is_told)
{
  static const char advice[] = "(info) advanced.trust_proxy_headers is off";
  struct dg_snapshot *s = config_loaded(CREDENTIALS);

  ck_assert(config_warned(s, advice));
  dg_snapshot_unref(s);
  s = config_loaded(CREDENTIALS "advanced: {rate_limit_max_attempts: 0}\n");
  ck_assert(!config_warned(s, advice));
  dg_snapshot_unref(s);
  s = config_loaded(CREDENTIALS
                    "advanced: {trust_proxy_headers: true, trusted_proxy_cidrs: 10.0.0.0/8}\n");
  ck_assert(!config_warned(s, advice));
  dg_snapshot_unref(s);
  s = config_loaded("access: {authentication: none}\n");
  ck_assert(!config_warned(s, advice));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(quotas_freeze_and_limit)
{
  struct dg_snapshot *s = config_loaded(
    BUCKETS("Big: {quota_bytes: 10GiB, quota_objects: 7}, ice: {quota_bytes: 0}, "
            "stop: {frozen: true, quota_bytes: 5}, sink: {replication_target_only: true}"));

  ck_assert_uint_eq(config_bucket(s, "big")->quota_bytes, UINT64_C(10) << 30);
  ck_assert_uint_eq(config_bucket(s, "big")->quota_objects, 7);
  ck_assert(!config_bucket(s, "big")->frozen);
  ck_assert(config_bucket(s, "ice")->frozen);
  ck_assert(config_warned(s, "(info) storage.buckets.ice.quota_bytes is 0"));
  ck_assert(config_bucket(s, "stop")->frozen);
  ck_assert_uint_eq(config_bucket(s, "stop")->quota_bytes, 5);
  ck_assert(config_bucket(s, "sink")->replication_target_only);
  ck_assert(config_warned(s, "storage.buckets.sink.replication_target_only: there is no rule"));
  ck_assert_uint_eq(config_bucket(s, "sink")->quota_bytes, DG_QUOTA_NONE);
  ck_assert_uint_eq(config_bucket(s, "other")->quota_bytes, DG_QUOTA_NONE);
  ck_assert_uint_eq(config_bucket(s, "other")->quota_objects, DG_QUOTA_NONE);
  dg_snapshot_unref(s);
  config_refused(BUCKETS("bee: {quota_bytes: -1}"), DG_E_CONFIG,
                 "storage.buckets.bee.quota_bytes: '-1' is not a size");
  config_refused(BUCKETS("bee: {quota_objects: 0}"), DG_E_CONFIG, "outside 1..");
  config_refused(CREDENTIALS "advanced: {clock_skew_seconds: 0}\n", DG_E_CONFIG, "outside 1..");
  config_refused(BUCKETS("bee: {}, BEE: {}"), DG_E_CONFIG, "storage.buckets.bee stands here twice");
}
END_TEST

START_TEST(public_prefixes_that_could_let_in_too_much_are_dropped)
{
  struct dg_snapshot *s = config_loaded(BUCKETS(
    "bee: {public_prefixes: [docs/, x, /, ../, a//b/, 'c,d/', docs/]}, all: {public: true}, "
    "too: {public_prefixes: ['']}, none: {public: false}"));
  char **prefixes = config_bucket(s, "bee")->public_prefixes;

  ck_assert_uint_eq(g_strv_length(prefixes), 2);
  ck_assert_str_eq(prefixes[0], "docs/");
  ck_assert_str_eq(prefixes[1], "c,d/");
  ck_assert_uint_eq(s->errors->len, 4);
  ck_assert(config_warned(s, "the public prefix 'x' does not end with '/': it is dropped"));
  ck_assert(config_warned(s, "the public prefix '../' holds '..'"));
  ck_assert_str_eq(config_bucket(s, "all")->public_prefixes[0], "");
  ck_assert_str_eq(config_bucket(s, "too")->public_prefixes[0], "");
  ck_assert(config_warned(s, "bucket 'all' is public as a whole"));
  ck_assert_ptr_null(config_bucket(s, "none")->public_prefixes);
  ck_assert_ptr_null(config_bucket(s, "other")->public_prefixes);
  dg_snapshot_unref(s);
  config_refused(BUCKETS("bee: {public: true, public_prefixes: [a/]}"), DG_E_CONFIG,
                 "public: true is the whole bucket");
  s = config_loaded(BUCKETS("bee: {public: true, public_prefixes: ['']}"));
  ck_assert_uint_eq(g_strv_length(config_bucket(s, "bee")->public_prefixes), 1);
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(unknown_routes_fall_back_or_refuse)
{
  static const char text[] = BUCKETS("bee: {backend: x}");
  struct dg_load_params params = {
    .config_file = "posted.yaml", .text = {text, sizeof text - 1}, .strict_routes = true};
  struct dg_error err = {0};
  struct dg_snapshot *s = config_loaded(BUCKETS("bee: {backend: x, alias: real}, x_: {}"));

  ck_assert_ptr_null(config_bucket(s, "bee")->backend);
  ck_assert_str_eq(config_bucket(s, "bee")->alias, "real");
  ck_assert(config_warned(
    s, "bucket 'bee' routes to unknown backend 'x' — route will be ignored"));
  ck_assert(config_warned(s, "storage.buckets.x_: no bucket can have this name"));
  dg_snapshot_unref(s);
  config_refused(CREDENTIALS "storage:\n  strict_routes: true\n  buckets:\n    bee: {backend: x}\n",
                 DG_E_CONFIG, "c.yaml:5:5: bucket 'bee' routes to unknown backend 'x'");
  ck_assert_int_eq(dg_snapshot_load(&params, config_table, &s, &err), -1);
  ck_assert(strstr(err.detail, "posted.yaml:2:21: bucket 'bee' routes to unknown backend 'x'"));
}
END_TEST

/* ---- Admission ----------------------------------------------------------------------- */

static gboolean holds(const struct dg_admission_block *block, const char *address)
{
  struct dg_ip_range range;

  ck_assert(dg_ip_range_parse(address, &range));
  for (size_t i = 0; i < block->source_count; i++)
    if (dg_ip_range_holds(&block->sources[i], range.address))
      return TRUE;
  return FALSE;
}

START_TEST(blocks_become_data)
{
  struct dg_snapshot *s = config_loaded(BLOCKS(
    "    - name: a:1\n      match:\n        method: [get, Put]\n        source_ip_list: [10.1.2.3/8, '"
    "2001:db8::/32', 192.0.2.7]\n        bucket: BEE\n        path_glob: 'x/[!]a]*'\n"
    "        authenticated: no\n        config_flag: maintenance_mode\n"
    "      action: {type: reject, status: 418, message: tea}\n"
    "    - {name: b, action: allow-anonymous}\n"
    "    - {name: c, match: {source_ip: '::1', config_flag: moon}, action: {type: deny}}\n"));
  const struct dg_admission_block *a = s->admission->pdata[0], *b = s->admission->pdata[1],
                                  *c = s->admission->pdata[2];

  ck_assert_str_eq(a->methods[0], "GET");
  ck_assert_str_eq(a->methods[1], "PUT");
  ck_assert_ptr_null(a->methods[2]);
  ck_assert(holds(a, "10.255.0.1") && holds(a, "2001:db8:1::") && holds(a, "192.0.2.7"));
  ck_assert(!holds(a, "11.0.0.1") && !holds(a, "192.0.2.6") && !holds(a, "2001:db9::"));
  ck_assert(holds(a, "::ffff:10.0.0.1"));
  ck_assert_str_eq(a->bucket, "bee");
  ck_assert_str_eq(a->path_glob, "x/[!]a]*");
  ck_assert_int_eq(a->authenticated, DG_ADMISSION_UNSIGNED);
  ck_assert_int_eq(a->action, DG_ADMISSION_REJECT);
  ck_assert_uint_eq(a->reject_status, 418);
  ck_assert_str_eq(a->reject_message, "tea");
  ck_assert_int_eq(b->action, DG_ADMISSION_ALLOW_ANONYMOUS);
  ck_assert_ptr_null(b->methods);
  ck_assert_int_eq(b->authenticated, DG_ADMISSION_ANYONE);
  ck_assert_int_eq(c->action, DG_ADMISSION_DENY);
  ck_assert_uint_eq(c->sources[0].prefix_bits, 128);
  ck_assert(config_warned(s, "'moon' is not known"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(wrong_blocks_are_refused)
{
  static const struct {
    const char *block, *words;
  } wrong[] = {
    {"{action: deny}", "c.yaml:4:7: admission.blocks[0]: the option 'name' is required"},
    {"{name: 'a b', action: deny}", "'a b': use 1 to 128"},
    {"{name: 'public-prefix:x', action: deny}", "the server's own"},
    {"{name: a}", "its action is missing"},
    {"{name: a, action: drop}", "action: 'drop' is not one of"},
    {"{name: a, action: reject}", "reject needs a status"},
    {"{name: a, action: {type: reject, status: 200}}", "outside 400..599"},
    {"{name: a, action: {type: deny, status: 404}}", "only reject takes"},
    {"{name: a, action: deny, math: {}}", "unknown key 'math': did you mean 'match'?"},
    {"{name: a, action: deny, method: GET}", "it stands in admission.blocks[].match"},
    {"{name: a, action: deny, match: {method: []}}", "at least one method"},
    {"{name: a, action: deny, match: {method: TRACE}}", "'TRACE' is not one of GET"},
    {"{name: a, action: deny, match: {source_ip: 10.0.0.0/33}}", "neither an address"},
    {"{name: a, action: deny, match: {source_ip: here}}", "'here' is neither"},
    {"{name: a, action: deny, match: {source_ip: 'fe80::/-1'}}", "neither an address"},
    {"{name: a, action: deny, match: {source_ip: '::', source_ip_list: ['::']}}", "exclude"},
    {"{name: a, action: deny, match: {path_glob: ''}}", "is empty"},
    {"{name: a, action: deny, match: {path_glob: 'a[bc'}}", "without its ']'"},
    {"{name: a, action: deny, match: {path_glob: 'a['}}", "without its ']'"},
    {"{name: a, action: deny}\n    - {name: a, action: deny}", "another block has this name"},
  };

  for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
    g_autofree char *text = g_strdup_printf(BLOCKS("    - %s\n"), wrong[i].block);

    config_refused(text, DG_E_CONFIG, wrong[i].words);
  }
  config_refused(CREDENTIALS "admission: {blocks: {}}\n", DG_E_CONFIG, "a list of blocks");
}
END_TEST

START_TEST(a_list_of_sources_has_a_limit)
{
  GString *text = g_string_new(BLOCKS("    - name: a\n      action: deny\n      match:\n"
                                      "        source_ip_list:\n"));

  for (unsigned i = 0; i <= 4096; i++)
    g_string_append(text, "          - 10.0.0.1\n");
  config_refused(text->str, DG_E_CONFIG, "at most 4096");
  g_string_free(text, TRUE);
}
END_TEST

/* ---- TLS -------------------------------------------------------------------------------- */

START_TEST(tls_is_checked)
{
  struct dg_snapshot *s = config_loaded(
    TLS("enabled: true, cert_path: c, key_path: k, client_ca_path: ca, client_cert: optional, "
        "min_version: 1.3, certificates: [{cert_path: c2, key_path: k2}]"));
  const struct dg_tls_pair *more = &g_array_index(s->tls.certificates, struct dg_tls_pair, 0);

  ck_assert(s->tls.enabled && s->tls.tls13_only && !s->tls.client_cert_required);
  ck_assert_str_eq(s->tls.main.cert_path, "c");
  ck_assert_str_eq(s->tls.main.key_path, "k");
  ck_assert_str_eq(s->tls.client_ca_path, "ca");
  ck_assert_uint_eq(s->tls.certificates->len, 1);
  ck_assert_str_eq(more->key_path, "k2");
  dg_snapshot_unref(s);
  config_refused(TLS("enabled: true, cert_path: c"), DG_E_CONFIG,
                 "c.yaml:2:17: advanced.tls: cert_path is set without key_path");
  config_refused(TLS("key_path: c"), DG_E_CONFIG, "key_path is set without cert_path");
  config_refused(TLS("certificates: [{cert_path: c}]"), DG_E_CONFIG,
                 "advanced.tls.certificates[0]: the option 'key_path' is required");
  config_refused(TLS("certificates: [{cert_path: c, key_path: k}]"), DG_E_CONFIG, "additional");
  config_refused(TLS("enabeld: true"), DG_E_CONFIG, "did you mean 'enabled'?");
  s = config_loaded(TLS("enabled: true"));
  ck_assert(config_warned(s, "self-signed"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(the_environment_replaces_tls_as_a_whole)
{
  struct dg_snapshot *s;

  g_setenv("DGP_TLS_CERT", "ec", TRUE);
  g_setenv("DGP_TLS_KEY", "ek", TRUE);
  g_setenv("DGP_TLS_ENABLED", "false", TRUE);
  s = config_loaded(TLS("enabled: true, cert_path: c, key_path: k"));
  ck_assert(s->tls.enabled);
  ck_assert_str_eq(s->tls.main.cert_path, "c");
  ck_assert(config_warned(s, "DGP_TLS_CERT has no effect"));
  dg_snapshot_unref(s);
  g_setenv("DGP_TLS_ENABLED", "true", TRUE);
  s = config_loaded(TLS("cert_path: c, key_path: k, certificates: [{cert_path: x, key_path: y}]"));
  ck_assert_str_eq(s->tls.main.cert_path, "ec");
  ck_assert_uint_eq(s->tls.certificates->len, 0);
  dg_snapshot_unref(s);
  g_unsetenv("DGP_TLS_KEY");
  config_refused(CREDENTIALS, DG_E_CONFIG, "environment DGP_TLS_*: cert_path is set without key");
}
END_TEST

int main(void)
{
  TCase *parts = tcase_create("parts");

  tcase_add_test(parts, the_s3_shorthand_is_a_backend);
  tcase_add_test(parts, the_environment_replaces_the_whole_single_backend);
  tcase_add_test(parts, an_instance_has_its_own_variables);
  tcase_add_test(parts, flat_keys_find_their_sections);
  tcase_add_test(parts, a_key_in_the_wrong_place_is_sent_home);
  tcase_add_test(parts, places_are_those_of_the_file_before_references_are_replaced);
  tcase_add_test(parts, a_secret_and_its_file_exclude_each_other);
  tcase_add_test(parts, who_is_locked_out_behind_a_proxy_is_told);
  tcase_add_test(parts, quotas_freeze_and_limit);
  tcase_add_test(parts, public_prefixes_that_could_let_in_too_much_are_dropped);
  tcase_add_test(parts, unknown_routes_fall_back_or_refuse);
  tcase_add_test(parts, blocks_become_data);
  tcase_add_test(parts, wrong_blocks_are_refused);
  tcase_add_test(parts, a_list_of_sources_has_a_limit);
  tcase_add_test(parts, tls_is_checked);
  tcase_add_test(parts, the_environment_replaces_tls_as_a_whole);
  return config_run(parts);
}
