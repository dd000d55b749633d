/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/meta.h"
#include "core/plug/backend.h"
#include "core/plug/codec.h"
#include "core/plug/options.h"
#include "core/plug/plug.h"

/* ---- A backend that only counts ------------------------------------------- */

static int fake_result;
static int32_t fake_code;
static unsigned destroyed;

static int fake_create(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                       struct dg_error *err)
{
  if (config && config->get_bool(config, "broken"))
    return dg_fail(err, DG_E_CONFIG, "broken by request");
  *ret_self = (void *)(uintptr_t)host;
  return 0;
}

static void fake_destroy(void *self)
{
  (void)self;
  destroyed++;
}

static int fake_bucket(void *self, const struct dg_call *call, struct dg_slice bucket,
                       struct dg_error *err)
{
  (void)self, (void)call, (void)bucket;
  if (fake_result != 0)
    err->code = fake_code;
  return fake_result;
}

static int fake_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                            void *receiver, struct dg_error *err)
{
  (void)self, (void)call, (void)row, (void)receiver, (void)err;
  return 0;
}

static int fake_head(void *self, const struct dg_call *call, const struct dg_item *item,
                     struct dg_meta *meta, struct dg_error *err)
{
  const struct dg_host *host = self;

  (void)call;
  return host->meta_set(meta, DG_FIELD_ORIGINAL_NAME, item->key, err);
}

struct text_reader {
  struct dg_reader reader;
  const char *rest;
};

static int text_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                     struct dg_error *err)
{
  struct text_reader *text = (struct text_reader *)reader;
  size_t len = MIN(MIN(capacity, strlen(text->rest)), 3);

  (void)err;
  memcpy(buffer, text->rest, len);
  text->rest += len;
  *ret_len = len;
  return 0;
}

static void text_close(struct dg_reader *reader)
{
  g_free(reader);
}

/* An old plugin's reader: its ops end before file_range exists. */
static const struct dg_reader_ops text_ops = {
  .struct_size = offsetof(struct dg_reader_ops, file_range),
  .read = text_read,
  .file_range = (void *)0x1,
  .close = text_close,
};

static int fake_get(void *self, const struct dg_call *call, const struct dg_item *item,
                    struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
                    struct dg_error *err)
{
  struct text_reader *text;

  (void)self, (void)call, (void)range, (void)meta, (void)err;
  if (item->key.data[0] == 'n')
    return 0; /* claims success without a reader */
  text = g_new0(struct text_reader, 1);
  text->reader.ops = &text_ops;
  text->rest = "hello world";
  *ret_reader = &text->reader;
  return 0;
}

static int fake_put(void *self, const struct dg_call *call, const struct dg_item *item,
                    uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err)
{
  (void)self, (void)call, (void)item, (void)size_hint, (void)ret_writer;
  return dg_fail(err, DG_E_NO_SPACE, "full");
}

static int fake_remove(void *self, const struct dg_call *call, const struct dg_item *item,
                       struct dg_error *err)
{
  (void)self, (void)call, (void)item, (void)err;
  return 0;
}

static int fake_list(void *self, const struct dg_call *call, const struct dg_list_request *request,
                     dg_list_row_fn row, void *receiver, struct dg_error *err)
{
  (void)self, (void)call, (void)request, (void)row, (void)receiver, (void)err;
  return 0;
}

static int fake_probe(void *self, const struct dg_call *call, struct dg_error *err)
{
  (void)self, (void)call, (void)err;
  return 0;
}

static const struct dg_option fake_options[] = {
  {.name = "root", .type = DG_OPT_PATH, .required = 1, .help = "Where."},
  {.name = "timeout", .type = DG_OPT_DURATION, .dflt = "30s", .help = "How long."},
  {.name = "broken", .type = DG_OPT_BOOL, .dflt = "false", .help = "Whether."},
  {.name = NULL},
};

static const struct dg_backend_ops fake_ops = {
  .struct_size = sizeof fake_ops,
  .create = fake_create,
  .destroy = fake_destroy,
  .bucket_create = fake_bucket,
  .bucket_delete = fake_bucket,
  .bucket_head = fake_bucket,
  .bucket_list = fake_bucket_list,
  .head = fake_head,
  .get = fake_get,
  .put = fake_put,
  .remove = fake_remove,
  .list = fake_list,
  .probe = fake_probe,
};

static const struct dg_plugin fake_plugin = {
  .struct_size = sizeof fake_plugin,
  .abi_major = DG_ABI_MAJOR,
  .abi_minor = DG_ABI_MINOR,
  .kind = DG_KIND_BACKEND,
  .threads = DG_THREADS_SERIAL,
  .name = "backend-fake",
  .version = "1",
  .summary = "A fake.",
  .options = fake_options,
  .ops = &fake_ops,
};

static const struct dg_call call = {.struct_size = sizeof call};
static const struct dg_item item = {
  .bucket = {"b", 1}, .key = {"key", 3}, .variant = DG_VARIANT_PASSTHROUGH};

static struct dg_backend *new_fake(struct dg_module **ret_module)
{
  struct dg_config *config = dg_config_of(fake_options, "archive", "root", "/tmp", NULL);
  struct dg_backend *backend = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_module_new(&fake_plugin, "(built in)", ret_module, &err), 0);
  ck_assert_msg(dg_backend_new(*ret_module, "archive", config, NULL, &backend, &err) == 0, "%s",
                err.detail);
  dg_config_free(config);
  return backend;
}

/* Expects dg_module_new() to refuse a variation, with `words` in its message. */
static void expect_refusal(const struct dg_plugin *plugin, const char *words)
{
  struct dg_module *module = (struct dg_module *)0x1;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_module_new(plugin, "/lib/x.so", &module, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CONFIG);
  ck_assert_msg(strstr(err.detail, words) && strstr(err.detail, "/lib/x.so"), "%s", err.detail);
  ck_assert_ptr_eq(module, (void *)0x1);
}

START_TEST(a_sound_plugin_becomes_a_module)
{
  struct dg_module *module = NULL;
  struct dg_backend *backend = new_fake(&module);

  ck_assert_str_eq(dg_backend_name(backend), "archive");
  ck_assert_str_eq(dg_backend_plugin_name(backend), "backend-fake");
  ck_assert(!dg_backend_can_set_meta(backend));
  destroyed = 0;
  dg_backend_free(backend);
  ck_assert_uint_eq(destroyed, 1);
  dg_module_free(module);
}
END_TEST

START_TEST(a_wrong_abi_is_refused_with_the_remedy)
{
  struct dg_plugin other = fake_plugin;

  other.abi_major = 9;
  expect_refusal(&other, "rebuild it against");
}
END_TEST

START_TEST(a_missing_operation_is_refused_by_name)
{
  struct dg_plugin other = fake_plugin;
  struct dg_backend_ops ops = fake_ops;

  ops.list = NULL;
  other.ops = &ops;
  expect_refusal(&other, "'list'");
}
END_TEST

START_TEST(an_operation_past_the_plugins_struct_reads_as_missing)
{
  struct dg_plugin other = fake_plugin;
  struct dg_backend_ops ops = fake_ops;

  ops.struct_size = offsetof(struct dg_backend_ops, probe);
  other.ops = &ops;
  expect_refusal(&other, "'probe'");
}
END_TEST

START_TEST(a_plugin_without_a_thread_mode_is_refused)
{
  struct dg_plugin other = fake_plugin;

  other.threads = 0;
  expect_refusal(&other, "DG_THREADS_");
}
END_TEST

START_TEST(a_reserved_kind_is_refused)
{
  struct dg_plugin other = fake_plugin;

  other.kind = DG_KIND_AUTH;
  expect_refusal(&other, "reserved");
}
END_TEST

START_TEST(a_name_of_another_kind_is_refused)
{
  struct dg_plugin other = fake_plugin;

  other.name = "codec-fake";
  expect_refusal(&other, "backend-NAME");
}
END_TEST

START_TEST(a_bad_option_table_is_refused)
{
  struct dg_plugin other = fake_plugin;
  struct dg_option options[] = {
    {.name = "wait", .type = DG_OPT_DURATION, .dflt = "soon", .help = "h"}, {.name = NULL}};

  other.options = options;
  expect_refusal(&other, "'soon' is not a duration");
}
END_TEST

START_TEST(a_validator_promise_needs_the_operation)
{
  struct dg_plugin other = fake_plugin;
  struct dg_backend_ops ops = fake_ops;

  ops.caps = DG_CAP_VALIDATOR;
  other.ops = &ops;
  expect_refusal(&other, "validate");
}
END_TEST

START_TEST(a_native_seal_promise_needs_the_operation)
{
  struct dg_plugin other = fake_plugin;
  struct dg_backend_ops ops = fake_ops;

  ops.caps = DG_CAP_NATIVE_SEAL;
  other.ops = &ops;
  expect_refusal(&other, "seal_natively");
}
END_TEST

START_TEST(a_crypt_seals_itself_or_names_headers)
{
  struct dg_crypt_ops ops = {.struct_size = sizeof ops,
                             .create = fake_create,
                             .destroy = fake_destroy};
  struct dg_plugin other = fake_plugin;

  other.kind = DG_KIND_CRYPT;
  other.name = "crypt-fake";
  other.ops = &ops;
  expect_refusal(&other, "'sealed'");
  ops.caps = DG_CAP_SEALS_NATIVELY;
  expect_refusal(&other, "'native_headers'");
}
END_TEST

static unsigned layer_destroyed;

static void layer_destroy(void *self)
{
  layer_destroyed += *(unsigned *)self;
}

START_TEST(a_layer_is_called_like_a_plugin)
{
  struct dg_backend_ops ops = fake_ops;
  unsigned weight = 3;
  struct dg_backend *backend;
  struct dg_error err = {0};

  ops.destroy = layer_destroy;
  ops.caps = DG_CAP_DURABLE;
  backend = dg_backend_wrap(&ops, &weight, "archive", "backend-below");
  ops.bucket_head = NULL; /* the table was copied */
  ck_assert_str_eq(dg_backend_name(backend), "archive");
  ck_assert_str_eq(dg_backend_plugin_name(backend), "backend-below");
  ck_assert(dg_backend_has(backend, DG_CAP_DURABLE));
  fake_result = -1, fake_code = DG_E_MAX + 7;
  ck_assert_int_eq(dg_backend_bucket_head(backend, &call, DG_SLICE("b"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_INTERNAL);
  fake_result = 0;
  ck_assert_int_eq(dg_backend_seal_natively(backend, NULL, 0, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CONFIG);
  layer_destroyed = 0;
  dg_backend_free(backend);
  ck_assert_uint_eq(layer_destroyed, 3);
}
END_TEST

START_TEST(a_pattern_binds_texts_and_never_shows_secrets)
{
  static const struct dg_option options[] = {
    {.name = "word", .type = DG_OPT_STRING, .choices = "^[a-z]+$", .help = "h"},
    {.name = "key", .type = DG_OPT_SECRET, .choices = "^[0-9]{4}$", .help = "h"},
    {.name = NULL}};
  struct dg_config *config = dg_config_new(options, "x");
  struct dg_error err = {0};

  ck_assert_int_eq(dg_config_set(config, "word", "blue", &err), 0);
  ck_assert_int_eq(dg_config_set(config, "word", "Blue", &err), -1);
  ck_assert_str_eq(err.detail, "word: 'Blue' does not have the form ^[a-z]+$");
  ck_assert_int_eq(dg_config_set(config, "key", "12345", &err), -1);
  ck_assert_str_eq(err.detail, "key: the value does not have the form ^[0-9]{4}$");
  ck_assert_int_eq(dg_config_set(config, "key", "1234", &err), 0);
  dg_config_forget_secrets(config);
  ck_assert_ptr_null(config->get_text(config, "key"));
  ck_assert_str_eq(config->get_text(config, "word"), "blue");
  dg_config_free(config);
}
END_TEST

START_TEST(a_failed_create_names_instance_and_cause)
{
  struct dg_config *config =
    dg_config_of(fake_options, "archive", "root", "/tmp", "broken", "yes", NULL);
  struct dg_backend *backend = NULL;
  struct dg_module *module = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_module_new(&fake_plugin, "(built in)", &module, &err), 0);
  ck_assert_int_eq(dg_backend_new(module, "archive", config, NULL, &backend, &err), -1);
  ck_assert_str_eq(err.detail, "archive (backend-fake): broken by request");
  ck_assert_ptr_null(backend);
  dg_config_free(config);
  dg_module_free(module);
}
END_TEST

START_TEST(errors_without_a_known_code_become_internal)
{
  struct dg_module *module = NULL;
  struct dg_backend *backend = new_fake(&module);
  struct dg_error err = {0};

  fake_result = -1, fake_code = 0;
  ck_assert_int_eq(dg_backend_bucket_head(backend, &call, DG_SLICE("b"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_INTERNAL);
  fake_result = -1, fake_code = DG_E_MAX + 7;
  ck_assert_int_eq(dg_backend_bucket_head(backend, &call, DG_SLICE("b"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_INTERNAL);
  fake_result = 5;
  ck_assert_int_eq(dg_backend_bucket_head(backend, &call, DG_SLICE("b"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_INTERNAL);
  fake_result = -1, fake_code = DG_E_NO_SUCH_BUCKET;
  ck_assert_int_eq(dg_backend_bucket_head(backend, &call, DG_SLICE("b"), &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SUCH_BUCKET);
  dg_backend_free(backend);
  dg_module_free(module);
}
END_TEST

START_TEST(a_read_goes_through_and_ends)
{
  struct dg_module *module = NULL;
  struct dg_backend *backend = new_fake(&module);
  struct dg_meta *meta = dg_meta_new();
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};
  uint64_t offset, length;
  char buffer[64];
  int32_t fd;
  size_t len = 99;

  ck_assert_int_eq(
    dg_backend_get(backend, &call, &item, (struct dg_range){0, DG_TO_END}, meta, &reader, &err), 0);
  /* the old reader's struct ends before file_range: it must not be called */
  ck_assert_int_eq(dg_reader_file_range(reader, &fd, &offset, &length, &err), -1);
  ck_assert_int_eq(err.code, DG_E_UNSUPPORTED);
  ck_assert_int_eq(dg_reader_read_full(reader, buffer, sizeof buffer, &len, &err), 0);
  ck_assert_uint_eq(len, strlen("hello world"));
  ck_assert(!memcmp(buffer, "hello world", len));
  dg_reader_close(reader);
  dg_meta_unref(meta);
  dg_backend_free(backend);
  dg_module_free(module);
}
END_TEST

/* Gives a byte a read, `left` times. */
struct drip {
  struct dg_reader reader; /* first */
  uint32_t left, taken;
  int32_t client_left;
  uint32_t leaves_after; /* pieces taken when the client leaves; 0: it stays */
  uint32_t enough;       /* pieces the sink wants; 0: all */
};

static int drip_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                     struct dg_error *err)
{
  struct drip *drip = (struct drip *)reader;

  (void)capacity;
  (void)err;
  *ret_len = drip->left ? 1 : 0;
  if (drip->left) {
    *(char *)buffer = 'x';
    drip->left--;
  }
  return 0;
}

static void drip_close(struct dg_reader *reader)
{
  (void)reader;
}

static const struct dg_reader_ops drip_ops = {
  .struct_size = sizeof drip_ops, .read = drip_read, .close = drip_close};

static int take_drop(void *receiver, const void *data, size_t len, struct dg_error *err)
{
  struct drip *drip = receiver;

  ck_assert_uint_eq(len, 1);
  ck_assert_int_eq(*(const char *)data, 'x');
  drip->taken++;
  drip->client_left = drip->taken == drip->leaves_after;
  if (drip->taken == drip->enough)
    return 1;
  return drip->taken == 90 ? dg_fail(err, DG_E_NO_SPACE, "full") : 0;
}

START_TEST(a_drained_stream_stops_at_its_end_or_with_its_client)
{
  struct drip drip = {.reader.ops = &drip_ops, .left = 50};
  struct dg_call asked = {.struct_size = sizeof asked, .cancelled = &drip.client_left};
  struct dg_error err = {0};

  ck_assert_int_eq(dg_reader_drain(&drip.reader, &asked, take_drop, &drip, &err), 0);
  ck_assert_uint_eq(drip.taken, 50);
  drip = (struct drip){.reader.ops = &drip_ops, .left = 50, .leaves_after = 7};
  ck_assert_int_eq(dg_reader_drain(&drip.reader, &asked, take_drop, &drip, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CANCELLED);
  ck_assert_uint_eq(drip.taken, 7);
  drip = (struct drip){.reader.ops = &drip_ops, .left = 50, .enough = 9};
  ck_assert_int_eq(dg_reader_drain(&drip.reader, &call, take_drop, &drip, &err), 0);
  ck_assert_uint_eq(drip.taken, 9);
  drip = (struct drip){.reader.ops = &drip_ops, .left = 50};
  asked.deadline_mono_ms = dg_time_mono_ms() - 1;
  ck_assert_int_eq(dg_reader_drain(&drip.reader, &asked, take_drop, &drip, &err), -1);
  ck_assert_int_eq(err.code, DG_E_TIMEOUT);
  ck_assert_uint_eq(drip.taken, 0);
  drip = (struct drip){.reader.ops = &drip_ops, .left = 100};
  ck_assert_int_eq(dg_reader_drain(&drip.reader, /* call= */ NULL, take_drop, &drip, &err), -1);
  ck_assert_int_eq(err.code, DG_E_NO_SPACE);
}
END_TEST

START_TEST(a_get_without_a_reader_is_an_error)
{
  static const struct dg_item nothing = {
    .bucket = {"b", 1}, .key = {"none", 4}, .variant = DG_VARIANT_PASSTHROUGH};
  struct dg_module *module = NULL;
  struct dg_backend *backend = new_fake(&module);
  struct dg_meta *meta = dg_meta_new();
  struct dg_reader *reader = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(
    dg_backend_get(backend, &call, &nothing, (struct dg_range){0, DG_TO_END}, meta, &reader, &err),
    -1);
  ck_assert_int_eq(err.code, DG_E_INTERNAL);
  dg_meta_unref(meta);
  dg_backend_free(backend);
  dg_module_free(module);
}
END_TEST

START_TEST(an_item_the_engine_must_not_send_is_refused)
{
  struct dg_item bad = item;
  struct dg_module *module = NULL;
  struct dg_backend *backend = new_fake(&module);
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err = {0};

  bad.variant = 0;
  ck_assert_int_eq(dg_backend_head(backend, &call, &bad, meta, &err), -1);
  bad = item;
  bad.key.len = 0;
  ck_assert_int_eq(dg_backend_head(backend, &call, &bad, meta, &err), -1);
  bad = item;
  bad.variant = DG_VARIANT_REFERENCE;
  ck_assert_int_eq(dg_backend_head(backend, &call, &bad, meta, &err), -1);
  bad.key.len = 0;
  ck_assert_int_eq(dg_backend_head(backend, &call, &bad, meta, &err), 0);
  ck_assert_int_eq(dg_backend_set_meta(backend, &call, &item, meta, &err), -1);
  ck_assert_int_eq(err.code, DG_E_UNSUPPORTED);
  dg_meta_unref(meta);
  dg_backend_free(backend);
  dg_module_free(module);
}
END_TEST

/* ---- Files --------------------------------------------------------------------- */

/* Loads one of the modules built for this test; expects refusal with `words`. */
static void expect_load_failure(const char *name, const char *words)
{
  g_autofree char *dir = g_strconcat(g_getenv("top_builddir"), "/tests/unit", NULL);
  const char *const dirs[] = {dir, NULL};
  struct dg_plug_table *table = dg_plug_table_new(dirs);
  const struct dg_module *module = NULL;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_plug_load(table, name, &module, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CONFIG);
  ck_assert_msg(strstr(err.detail, words) && strstr(err.detail, name), "%s", err.detail);
  ck_assert_ptr_null(module);
  dg_plug_table_free(table);
}

START_TEST(a_missing_symbol_is_a_load_error_with_its_name)
{
  expect_load_failure("codec-broken", "nobody_defines_this");
}
END_TEST

START_TEST(a_file_of_another_abi_is_refused)
{
  expect_load_failure("codec-old", "ABI 2.0");
}
END_TEST

START_TEST(a_file_without_operations_is_refused)
{
  expect_load_failure("backend-lame", "'create'");
}
END_TEST

START_TEST(a_library_that_is_no_plugin_is_refused)
{
  expect_load_failure("backend-mute", "DG_PLUGIN_ENTRY");
}
END_TEST

START_TEST(a_plugin_that_is_nowhere_is_named_with_the_search_path)
{
  expect_load_failure("backend-nowhere", "/tests/unit");
  expect_load_failure("../etc/passwd", "no plugin name");
}
END_TEST

START_TEST(plugins_on_the_path_are_listed_once)
{
  g_autofree char *dir = g_strconcat(g_getenv("top_builddir"), "/tests/unit", NULL);
  const char *const dirs[] = {dir, dir, NULL};
  struct dg_plug_table *table = dg_plug_table_new(dirs);
  g_auto(GStrv) names = dg_plug_names(table);
  g_autofree char *joined = g_strjoinv(" ", names);

  ck_assert_str_eq(joined, "backend-lame backend-mute codec-broken codec-old");
  dg_plug_table_free(table);
}
END_TEST

/* ---- Options ---------------------------------------------------------------- */

static int64_t parsed(uint32_t type, const char *text)
{
  struct dg_option option = {.name = "x", .type = type, .help = "h"};
  struct dg_option_value value;
  struct dg_error err = {0};
  int64_t number;

  if (dg_option_parse(&option, text, &value, &err) < 0)
    return -1;
  number = value.number;
  dg_option_value_clear(&option, &value);
  return number;
}

START_TEST(sizes_and_durations_take_units)
{
  ck_assert_int_eq(parsed(DG_OPT_SIZE, "17"), 17);
  ck_assert_int_eq(parsed(DG_OPT_SIZE, "64KiB"), 65536);
  ck_assert_int_eq(parsed(DG_OPT_SIZE, "5 TiB"), INT64_C(5) << 40);
  ck_assert_int_eq(parsed(DG_OPT_SIZE, "-1"), -1);
  ck_assert_int_eq(parsed(DG_OPT_SIZE, "1MB"), -1);
  ck_assert_int_eq(parsed(DG_OPT_SIZE, "99999999TiB"), -1);
  ck_assert_int_eq(parsed(DG_OPT_DURATION, "500ms"), 500);
  ck_assert_int_eq(parsed(DG_OPT_DURATION, "1h30m"), 5400000);
  ck_assert_int_eq(parsed(DG_OPT_DURATION, "90d"), INT64_C(90) * 86400000);
  ck_assert_int_eq(parsed(DG_OPT_DURATION, "30"), -1);
  ck_assert_int_eq(parsed(DG_OPT_DURATION, "soon"), -1);
  ck_assert_int_eq(parsed(DG_OPT_BOOL, "Yes"), 1);
  ck_assert_int_eq(parsed(DG_OPT_BOOL, "off"), 0);
  ck_assert_int_eq(parsed(DG_OPT_BOOL, "maybe"), -1);
  ck_assert_int_eq(parsed(DG_OPT_INT, "12x"), -1);
}
END_TEST

START_TEST(an_unknown_option_suggests_the_nearest)
{
  struct dg_config *config = dg_config_new(fake_options, "x");
  struct dg_error err = {0};

  ck_assert_int_eq(dg_config_set(config, "tiemout", "1s", &err), -1);
  ck_assert_str_eq(err.detail, "unknown option 'tiemout': did you mean 'timeout'?");
  ck_assert_int_eq(dg_config_set(config, "colour", "red", &err), -1);
  ck_assert_str_eq(err.detail, "unknown option 'colour'");
  dg_config_free(config);
}
END_TEST

START_TEST(a_required_option_must_be_given_and_defaults_fill_the_rest)
{
  struct dg_config *config = dg_config_new(fake_options, "x");
  struct dg_error err = {0};

  ck_assert_int_eq(dg_config_finish(config, &err), -1);
  ck_assert_ptr_nonnull(strstr(err.detail, "'root' is required"));
  ck_assert_int_eq(dg_config_set(config, "root", "/srv", &err), 0);
  ck_assert_int_eq(dg_config_finish(config, &err), 0);
  ck_assert_str_eq(config->get_text(config, "root"), "/srv");
  ck_assert_int_eq(config->get_int(config, "timeout"), 30000);
  ck_assert_int_eq(config->get_int(config, "no such"), 0);
  dg_config_free(config);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("plug");
  TCase *modules = tcase_create("modules"), *options = tcase_create("options");
  TCase *files = tcase_create("files");
  SRunner *runner;
  int failed;

  tcase_add_test(modules, a_sound_plugin_becomes_a_module);
  tcase_add_test(modules, a_wrong_abi_is_refused_with_the_remedy);
  tcase_add_test(modules, a_missing_operation_is_refused_by_name);
  tcase_add_test(modules, an_operation_past_the_plugins_struct_reads_as_missing);
  tcase_add_test(modules, a_plugin_without_a_thread_mode_is_refused);
  tcase_add_test(modules, a_reserved_kind_is_refused);
  tcase_add_test(modules, a_name_of_another_kind_is_refused);
  tcase_add_test(modules, a_bad_option_table_is_refused);
  tcase_add_test(modules, a_validator_promise_needs_the_operation);
  tcase_add_test(modules, a_native_seal_promise_needs_the_operation);
  tcase_add_test(modules, a_crypt_seals_itself_or_names_headers);
  tcase_add_test(modules, a_layer_is_called_like_a_plugin);
  tcase_add_test(modules, a_pattern_binds_texts_and_never_shows_secrets);
  tcase_add_test(modules, a_failed_create_names_instance_and_cause);
  tcase_add_test(modules, errors_without_a_known_code_become_internal);
  tcase_add_test(modules, a_read_goes_through_and_ends);
  tcase_add_test(modules, a_drained_stream_stops_at_its_end_or_with_its_client);
  tcase_add_test(modules, a_get_without_a_reader_is_an_error);
  tcase_add_test(modules, an_item_the_engine_must_not_send_is_refused);
  tcase_add_test(files, a_missing_symbol_is_a_load_error_with_its_name);
  tcase_add_test(files, a_file_of_another_abi_is_refused);
  tcase_add_test(files, a_file_without_operations_is_refused);
  tcase_add_test(files, a_library_that_is_no_plugin_is_refused);
  tcase_add_test(files, a_plugin_that_is_nowhere_is_named_with_the_search_path);
  tcase_add_test(files, plugins_on_the_path_are_listed_once);
  tcase_add_test(options, sizes_and_durations_take_units);
  tcase_add_test(options, an_unknown_option_suggests_the_nearest);
  tcase_add_test(options, a_required_option_must_be_given_and_defaults_fill_the_rest);
  suite_add_tcase(suite, modules);
  suite_add_tcase(suite, options);
  suite_add_tcase(suite, files);
  runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
