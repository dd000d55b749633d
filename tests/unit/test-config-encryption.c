/* SPDX-License-Identifier: Apache-2.0 */
/* The encryption maps: which plugin, whose options, which key, what is refused. */
#include "config.h"

#include <check.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"
#include "plugins/crypt-aesgcm/aesgcm.h"
#include "plugins/crypt-ssekms/ssekms.h"

#define HEAD "access: {authentication: none}\n"
#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_KEY "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff"
#define AES "mode: aes256-gcm-proxy"

static char *file, folder[64];
static struct dg_plug_table *table;

static const struct dg_option fs_options[] = {
  {.name = "path", .type = DG_OPT_PATH, .dflt = "./data", .help = "Where."}, {.name = NULL}};

static void add_plugin(const struct dg_plugin *plugin)
{
  struct dg_module *module = NULL;
  struct dg_error err = {0};

  ck_assert_msg(dg_module_new(plugin, "(linked)", &module, &err) == 0, "%s", err.detail);
  dg_plug_table_add(table, module);
}

/* Known by its options only; none of its operations is ever called here. */
static void add_fake(uint32_t kind, const char *name, const struct dg_option *options,
                     uint64_t caps)
{
  struct dg_module *module = g_new0(struct dg_module, 1);

  module->plugin.kind = kind;
  module->plugin.name = name;
  module->plugin.options = options;
  module->ops.backend.caps = caps;
  module->file = g_strdup("(built in)");
  dg_plug_table_add(table, module);
}

static void setup(void)
{
  static const char *const nowhere[] = {NULL};
  static const char *const variables[] = {"DGP_ENCRYPTION_KEY", "DGP_SSE_KMS_KEY_ID",
                                          "DGP_BACKEND_COLD_STORE_ENCRYPTION_KEY",
                                          "DGP_BACKEND_CLOUD_SSE_KMS_KEY_ID", "DGP_DATA_DIR",
                                          "DGP_CONFIG", "DGP_CACHE_DIR"};

  for (size_t i = 0; i < G_N_ELEMENTS(variables); i++)
    g_unsetenv(variables[i]);
  (void)g_strlcpy(folder, "/tmp/test-encryption-XXXXXX", sizeof folder);
  ck_assert_ptr_nonnull(g_mkdtemp(folder));
  ck_assert_int_eq(g_chdir(folder), 0);
  file = g_build_filename(folder, "c.yaml", NULL);
  table = dg_plug_table_new(nowhere);
  add_fake(DG_KIND_BACKEND, "backend-fs", fs_options, 0);
  add_fake(DG_KIND_BACKEND, "backend-cloud", NULL, DG_CAP_NATIVE_SEAL);
  add_fake(DG_KIND_CODEC, "codec-xdelta3", NULL, 0);
  add_plugin(&dg_aes_plugin);
  add_plugin(&dg_ssekms_plugin);
}

static void teardown(void)
{
  dg_plug_table_free(table);
  (void)g_chdir("/");
  (void)g_remove(file);
  (void)g_rmdir(folder);
  g_free(file);
}

static struct dg_snapshot *load(const char *text, bool lint, struct dg_error *err)
{
  struct dg_load_params params = {.config_file = file, .lint = lint};
  struct dg_snapshot *snapshot = NULL;

  ck_assert(g_file_set_contents(file, text, -1, NULL));
  return dg_snapshot_load(&params, table, &snapshot, err) < 0 ? NULL : snapshot;
}

static struct dg_snapshot *loaded(const char *text)
{
  struct dg_error err = {0};
  struct dg_snapshot *snapshot = load(text, /* lint= */ false, &err);

  ck_assert_msg(snapshot != NULL, "%s", err.detail);
  return snapshot;
}

static void refused(const char *text, const char *words)
{
  struct dg_error err = {0};

  ck_assert_ptr_null(load(text, /* lint= */ false, &err));
  ck_assert_int_eq(err.code, DG_E_CONFIG);
  ck_assert_msg(strstr(err.detail, words), "'%s' lacks '%s'", err.detail, words);
  ck_assert_ptr_null(strstr(err.detail, "00010203"));
}

static bool warned(const struct dg_snapshot *snapshot, const char *words)
{
  for (guint i = 0; i < snapshot->warnings->len; i++)
    if (strstr(snapshot->warnings->pdata[i], words))
      return true;
  return false;
}

static const struct dg_encryption_config *encryption_of(const struct dg_snapshot *snapshot,
                                                        guint number)
{
  return ((const struct dg_backend_config *)snapshot->backends->pdata[number])->encryption;
}

static const char *text_of(const struct dg_encryption_config *encryption, const char *name)
{
  return encryption->options->get_text(encryption->options, name);
}

START_TEST(without_a_word_there_is_none)
{
  struct dg_snapshot *s = loaded(HEAD);

  ck_assert_ptr_null(encryption_of(s, 0));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(the_mode_names_the_plugin)
{
  struct dg_snapshot *s =
    loaded(HEAD "storage:\n  backend_encryption: {" AES ", key: " KEY ", key_id: blue}\n");
  const struct dg_encryption_config *e = encryption_of(s, 0);

  ck_assert_str_eq(e->mode, "aes256-gcm-proxy");
  ck_assert_str_eq(e->crypt, "crypt-aesgcm");
  ck_assert_ptr_null(e->native);
  ck_assert(e->seals_writes);
  ck_assert_str_eq(text_of(e, "key"), KEY);
  ck_assert_str_eq(text_of(e, "seal_deltas"), "streamed");
  ck_assert(warned(s, "backend 'default' encryption key was loaded from config file (not "
                      "DGP_*_ENCRYPTION_KEY)"));
  dg_snapshot_unref(s);
  refused(HEAD "storage: {backend_encryption: {mode: rot13}}\n", "crypt-rot13");
}
END_TEST

START_TEST(the_environment_has_the_last_word_but_not_on_the_mode)
{
  struct dg_snapshot *s;

  g_setenv("DGP_ENCRYPTION_KEY", OTHER_KEY, TRUE);
  s = loaded(HEAD "storage:\n  backend_encryption: {" AES ", key: " KEY "}\n");
  ck_assert_str_eq(text_of(encryption_of(s, 0), "key"), OTHER_KEY);
  ck_assert(!warned(s, "loaded from config file"));
  ck_assert(!warned(s, "DGP_ENCRYPTION_KEY is not known"));
  dg_snapshot_unref(s);
  s = loaded(HEAD);
  ck_assert_str_eq(encryption_of(s, 0)->mode, "none");
  ck_assert_str_eq(encryption_of(s, 0)->crypt, "crypt-aesgcm");
  ck_assert(!encryption_of(s, 0)->seals_writes);
  dg_snapshot_unref(s);
  g_setenv("DGP_ENCRYPTION_KEY", "0001020304", TRUE);
  refused(HEAD, "environment DGP_ENCRYPTION_KEY: key: ");
}
END_TEST

START_TEST(each_backend_of_a_list_has_its_own)
{
  struct dg_snapshot *s;

  g_setenv("DGP_ENCRYPTION_KEY", KEY, TRUE); /* for a single backend only */
  g_setenv("DGP_BACKEND_COLD_STORE_ENCRYPTION_KEY", OTHER_KEY, TRUE);
  s = loaded(HEAD "storage:\n  backends:\n"
                  "    - {name: open, type: filesystem, path: a}\n"
                  "    - {name: cold-store, type: filesystem, path: b, encryption: {" AES "}}\n"
                  "  backend_encryption: {" AES "}\n");
  ck_assert_ptr_null(encryption_of(s, 0));
  ck_assert_str_eq(text_of(encryption_of(s, 1), "key"), OTHER_KEY);
  ck_assert(warned(s, "the single backend is ignored"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(a_mode_without_a_key_is_told_and_writes_nothing)
{
  struct dg_snapshot *s = loaded(HEAD "storage: {backend_encryption: {" AES "}}\n");

  ck_assert(warned(s, "backend 'default' has encryption mode aes256-gcm-proxy but no key is "
                      "configured"));
  ck_assert(encryption_of(s, 0)->seals_writes);
  dg_snapshot_unref(s);
  s = loaded(HEAD "storage: {backend_encryption: {" AES ", allow_plaintext_writes: yes}}\n");
  ck_assert(warned(s, "but no key is configured"));
  ck_assert(!encryption_of(s, 0)->seals_writes);
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(native_modes_need_a_storage_that_can)
{
  struct dg_snapshot *s;

  refused(HEAD "storage:\n  backend_encryption: {mode: sse-s3}\n",
          "c.yaml:3:30: storage.backend_encryption: mode sse-s3 needs a storage that encrypts by "
          "itself, which type filesystem is not: use aes256-gcm-proxy or none");
  g_setenv("DGP_BACKEND_CLOUD_SSE_KMS_KEY_ID", "alias/two", TRUE);
  s = loaded(HEAD "storage:\n  backends:\n    - name: cloud\n      type: cloud\n      encryption: "
                  "{mode: sse-kms, kms_key_id: alias/one, legacy_key: " KEY "}\n");
  ck_assert_str_eq(encryption_of(s, 0)->native, "crypt-ssekms");
  ck_assert_str_eq(encryption_of(s, 0)->crypt, "crypt-aesgcm");
  ck_assert(!encryption_of(s, 0)->seals_writes);
  ck_assert_str_eq(text_of(encryption_of(s, 0), "kms_key_id"), "alias/two");
  ck_assert_str_eq(text_of(encryption_of(s, 0), "legacy_key"), KEY);
  dg_snapshot_unref(s);
  s = loaded(HEAD "storage: {backend: {type: cloud, encryption: {mode: sse-s3}}}\n");
  ck_assert_ptr_null(encryption_of(s, 0)->crypt);
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(mistakes_are_refused_with_their_place)
{
  refused(HEAD "storage:\n  backend_encryption:\n    " AES "\n    seal_detlas: compatible\n",
          "c.yaml:5:5: storage.backend_encryption: unknown key 'seal_detlas': did you mean "
          "'seal_deltas'?");
  refused(HEAD "storage:\n  backend_encryption:\n    " AES "\n    key: 000102030405\n",
          "c.yaml:5:10: storage.backend_encryption.key: the value does not have the form");
  refused(HEAD "storage:\n  backend_encryption: {mode: none, seal_detlas: x}\n",
          "did you mean 'seal_deltas'?");
  refused(HEAD "storage:\n  backend_encryption: [1]\n", "a map with a mode");
  refused(HEAD "storage:\n  backend_encryption: {mode: [1]}\n", "its mode is plain text");
  refused(HEAD "storage: {backend: {type: filesystem, encryption: {" AES "}}, "
               "backend_encryption: {" AES "}}\n",
          "exclude each other");
}
END_TEST

#define TWO(first, second)                                                                        \
  HEAD "storage:\n  backends:\n    - {name: x, type: filesystem, encryption: {" AES ", " first     \
       "}}\n    - {name: y, type: filesystem, encryption: {" AES ", " second "}}\n"

START_TEST(one_key_id_means_one_key)
{
  struct dg_snapshot *s;

  refused(TWO("key: " KEY ", key_id: k", "key: " OTHER_KEY ", key_id: k"),
          "backends x and y share key_id but declare DIFFERENT keys");
  s = loaded(TWO("key: " KEY ", key_id: k", "key: " KEY ", key_id: k"));
  dg_snapshot_unref(s);
  s = loaded(TWO("key: " KEY ", key_id: k", "key: " OTHER_KEY ", key_id: other"));
  dg_snapshot_unref(s);
  s = loaded(TWO("key: " KEY ", key_id: 'a b'", "key: " KEY));
  ck_assert(warned(s, "backend 'x' encryption key_id should be"));
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(a_key_may_come_from_a_file)
{
  g_autofree char *path = g_build_filename(folder, "key", NULL);
  g_autofree char *text = g_strdup_printf(
    HEAD "storage: {backend_encryption: {mode: none, legacy_key_file: '%s'}}\n", path);
  struct dg_snapshot *s;

  ck_assert(g_file_set_contents(path, KEY "\n", -1, NULL));
  s = loaded(text);
  ck_assert_str_eq(text_of(encryption_of(s, 0), "legacy_key"), KEY);
  ck_assert_str_eq(encryption_of(s, 0)->crypt, "crypt-aesgcm");
  ck_assert(!warned(s, "loaded from config file"));
  dg_config_forget_secrets(encryption_of(s, 0)->options);
  ck_assert_ptr_null(text_of(encryption_of(s, 0), "legacy_key"));
  dg_snapshot_unref(s);
  (void)g_remove(path);
}
END_TEST

START_TEST(working_folders_never_default_to_a_sealed_directory)
{
  struct dg_snapshot *s =
    loaded(HEAD "storage:\n  filesystem: /srv/x\n  backend_encryption: {" AES ", key: " KEY "}\n");

  ck_assert(!g_str_has_prefix(s->cache_dir, "/srv/x"));
  ck_assert(!g_str_has_prefix(s->spool_dir, "/srv/x"));
  ck_assert(!g_str_has_prefix(s->state_dir, "/srv/x"));
  dg_snapshot_unref(s);
  s = loaded(HEAD "storage:\n  backends:\n"
                  "    - {name: x, type: filesystem, path: /srv/x, encryption: {" AES
                  ", key: " KEY "}}\n"
                  "    - {name: y, type: filesystem, path: /srv/y}\n");
  ck_assert_str_eq(s->cache_dir, "/srv/y/.dg-cache");
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(lint_looks_at_the_file_alone)
{
  struct dg_error err = {0};
  struct dg_snapshot *s;

  g_setenv("DGP_ENCRYPTION_KEY", "short", TRUE);
  s = load(HEAD "storage: {backend_encryption: {" AES ", key: " KEY "}}\n", /* lint= */ true, &err);
  ck_assert_msg(s != NULL, "%s", err.detail);
  ck_assert_str_eq(text_of(encryption_of(s, 0), "key"), KEY);
  dg_snapshot_unref(s);
}
END_TEST

START_TEST(a_backend_from_the_environment_stays_sealed)
{
  struct dg_snapshot *s;

  g_setenv("DGP_DATA_DIR", "/srv/env", TRUE);
  s = loaded(HEAD "storage: {backend: {type: filesystem, encryption: {" AES ", key: " KEY "}}}\n");
  ck_assert(encryption_of(s, 0)->seals_writes);
  dg_snapshot_unref(s);
  s = loaded(HEAD "storage: {backend_encryption: {" AES ", key: " KEY "}}\n");
  ck_assert(encryption_of(s, 0)->seals_writes);
  dg_snapshot_unref(s);
}
END_TEST

static char *exported(const struct dg_snapshot *snapshot, enum dg_export_tier tier)
{
  GString *out = g_string_new(NULL);

  dg_snapshot_export(snapshot, tier, out);
  return g_string_free(out, FALSE);
}

START_TEST(keys_leave_with_the_file_only)
{
  struct dg_snapshot *s =
    loaded(HEAD "storage: {backend_encryption: {" AES ", key: " KEY ", key_id: blue, "
                "legacy_key: '${env:TEST_OLD_KEY:-" OTHER_KEY "}', spool_limit: 1024MiB, "
                "seal_deltas: streamed}}\n");
  g_autofree char *persist = exported(s, DG_EXPORT_PERSIST);
  g_autofree char *canonical = exported(s, DG_EXPORT_CANONICAL);
  g_autofree char *api = exported(s, DG_EXPORT_API);

  ck_assert_ptr_nonnull(strstr(persist, KEY));
  ck_assert_ptr_nonnull(strstr(persist, "spool_limit: 1GiB"));
  ck_assert_ptr_null(strstr(persist, "seal_deltas")); /* a default */
  ck_assert_ptr_null(strstr(canonical, KEY));
  ck_assert_ptr_nonnull(strstr(canonical, "key_id: blue"));
  ck_assert_ptr_null(strstr(api, KEY));
  ck_assert_ptr_nonnull(strstr(api, "aes256-gcm-proxy"));
  dg_snapshot_unref(s);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("config encryption");
  TCase *cases = tcase_create("encryption");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_checked_fixture(cases, setup, teardown);
  tcase_add_test(cases, without_a_word_there_is_none);
  tcase_add_test(cases, the_mode_names_the_plugin);
  tcase_add_test(cases, the_environment_has_the_last_word_but_not_on_the_mode);
  tcase_add_test(cases, each_backend_of_a_list_has_its_own);
  tcase_add_test(cases, a_mode_without_a_key_is_told_and_writes_nothing);
  tcase_add_test(cases, native_modes_need_a_storage_that_can);
  tcase_add_test(cases, mistakes_are_refused_with_their_place);
  tcase_add_test(cases, one_key_id_means_one_key);
  tcase_add_test(cases, a_key_may_come_from_a_file);
  tcase_add_test(cases, working_folders_never_default_to_a_sealed_directory);
  tcase_add_test(cases, lint_looks_at_the_file_alone);
  tcase_add_test(cases, a_backend_from_the_environment_stays_sealed);
  tcase_add_test(cases, keys_leave_with_the_file_only);
  suite_add_tcase(suite, cases);
  srunner_run_all(runner, CK_ENV);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
