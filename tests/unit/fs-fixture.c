/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fs-fixture.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "plugins/backend-fs/plugin.h"

static const char *config_text(const struct dg_config *config, const char *name)
{
  const struct fs_fixture *fixture = config->self;

  if (strcmp(name, "path") == 0)
    return fixture->config_path;
  return strcmp(name, "index_dir") == 0 ? fixture->config_index : NULL;
}

static int64_t config_int(const struct dg_config *config, const char *name)
{
  (void)config, (void)name;
  return 0;
}

static double config_double(const struct dg_config *config, const char *name)
{
  (void)config, (void)name;
  return 0;
}

static int32_t config_bool(const struct dg_config *config, const char *name)
{
  (void)config, (void)name;
  return 0;
}

static int32_t host_fault(const struct dg_host *host, const char *step)
{
  struct fs_fixture *fixture = host->self;

  if (fixture->steps)
    g_ptr_array_add(fixture->steps, g_strdup(step));
  if (!fixture->fault_step || strncmp(step, fixture->fault_step, strlen(fixture->fault_step)) != 0)
    return 0;
  if (++fixture->fault_seen != fixture->fault_at)
    return 0;
  if (fixture->fault_errno < 0)
    _exit(99);
  return fixture->fault_errno;
}

static void remove_tree(const char *path)
{
  const char *argv[] = {"rm", "-rf", path, NULL};

  (void)g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                     NULL, NULL, NULL);
}

/* in_memory: a tmpfs if it has attributes (Linux 6.6), for tests that make
 * many objects and learn nothing from a real sync. */
static char *make_base(bool in_memory)
{
  const char *candidates[] = {in_memory ? "/dev/shm" : NULL, getenv("TMPDIR"), "/tmp", "/var/tmp",
                              "."};

  for (size_t i = 0; i < G_N_ELEMENTS(candidates); i++) {
    char *base;

    if (!candidates[i])
      continue;
    base = g_strdup_printf("%s/dg-fs-XXXXXX", candidates[i]);
    if (g_mkdtemp(base)) {
      char *absolute = g_canonicalize_filename(base, NULL);

      g_free(base);
      if (setxattr(absolute, "user.dg.test", "1", 1, 0) == 0)
        return absolute;
      remove_tree(absolute);
      g_free(absolute);
    } else {
      g_free(base);
    }
  }
  (void)fprintf(stderr, "SKIP: neither $TMPDIR, /tmp, /var/tmp nor the build directory has user "
                        "extended attributes\n");
  exit(77);
}

int fs_fixture_open(struct fs_fixture *fixture, struct dg_error *err)
{
  struct dg_config config = {.struct_size = sizeof config,
                             .self = fixture,
                             .instance_name = "test",
                             .get_text = config_text,
                             .get_int = config_int,
                             .get_double = config_double,
                             .get_bool = config_bool};

  return fixture->ops->create(&fixture->host, &config, &fixture->self, err);
}

void fs_fixture_close(struct fs_fixture *fixture)
{
  fixture->ops->destroy(fixture->self);
  fixture->self = NULL;
}

void fs_fixture_restart(struct fs_fixture *fixture)
{
  struct dg_error err = {0};

  fs_fixture_close(fixture);
  ck_assert_msg(fs_fixture_open(fixture, &err) == 0, "%s", err.detail);
}

void fs_fixture_require(void)
{
  char *base = make_base(false);

  remove_tree(base);
  g_free(base);
}

/* As the server does at its start: a listing holds one descriptor for each level
 * of folders, and a key can have 1024. A login shell allows that many in all. */
static void allow_descriptors(void)
{
  struct rlimit limit;

  ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

struct fs_fixture *fs_fixture_new(bool in_memory)
{
  struct fs_fixture *fixture = g_new0(struct fs_fixture, 1);
  struct dg_error err = {0};

  allow_descriptors();
  fixture->base = make_base(in_memory);
  fixture->root = g_build_filename(fixture->base, "data", NULL);
  fixture->cache = g_build_filename(fixture->base, "cache", NULL);
  ck_assert_int_eq(g_mkdir(fixture->cache, 0700), 0);
  fixture->config_path = g_strdup(fixture->root);
  fixture->ops = dg_fs_plugin.ops;
  fixture->host = (struct dg_host){.struct_size = sizeof fixture->host,
                                   .abi_major = DG_ABI_MAJOR,
                                   .abi_minor = DG_ABI_MINOR,
                                   .self = fixture,
                                   .cache_dir = fixture->cache,
                                   .meta_set = dg_meta_set,
                                   .meta_add_user = dg_meta_add_user,
                                   .meta_add_extension = dg_meta_add_extension,
                                   .fault = host_fault};
  ck_assert_msg(fs_fixture_open(fixture, &err) == 0, "%s", err.detail);
  ck_assert_msg(fixture->ops->bucket_create(fixture->self, NULL, DG_SLICE("bkt"), &err) == 0, "%s",
                err.detail);
  return fixture;
}

void fs_fixture_free(struct fs_fixture *fixture)
{
  fs_fixture_close(fixture);
  remove_tree(fixture->base);
  if (fixture->steps)
    g_ptr_array_unref(fixture->steps);
  g_free(fixture->base);
  g_free(fixture->root);
  g_free(fixture->cache);
  g_free(fixture->config_path);
  g_free(fixture->config_index);
  g_free(fixture);
}

char *fs_path(const struct fs_fixture *fixture, const char *relative)
{
  return g_build_filename(fixture->root, relative, NULL);
}

struct dg_slice fs_slice(const char *text)
{
  return (struct dg_slice){text, strlen(text)};
}

struct dg_item fs_item(const char *key, uint32_t variant)
{
  return (struct dg_item){.bucket = DG_SLICE("bkt"), .key = fs_slice(key), .variant = variant};
}

int fs_put_meta(struct fs_fixture *fixture, const char *key, const void *data, size_t len,
                const struct dg_meta *meta, struct dg_error *err)
{
  struct dg_item item = fs_item(key, meta->variant);
  struct dg_commit_result result = {.struct_size = sizeof result};
  struct dg_writer *writer;

  if (fixture->ops->put(fixture->self, NULL, &item, len, &writer, err) < 0)
    return -1;
  if (writer->ops->write(writer, data, len, err) < 0) {
    writer->ops->abort(writer);
    return -1;
  }
  if (writer->ops->commit(writer, &item, meta, &result, err) < 0)
    return -1;
  ck_assert_uint_eq(result.stored_size, len);
  return 0;
}

static void set(struct dg_meta *meta, uint32_t field, const char *text)
{
  struct dg_error err = {0};

  ck_assert_int_eq(dg_meta_set(meta, field, fs_slice(text), &err), 0);
}

int fs_put(struct fs_fixture *fixture, const char *key, uint32_t variant, const void *data,
           size_t len, struct dg_error *err)
{
  struct dg_meta *meta = dg_meta_new();
  const char *slash = strrchr(key, '/');
  int rc;

  meta->variant = variant;
  meta->file_size = len;
  meta->created_at_s = 1700000000;
  set(meta, DG_FIELD_TOOL, "test/1");
  set(meta, DG_FIELD_ORIGINAL_NAME, slash ? slash + 1 : key);
  set(meta, DG_FIELD_MD5, "0123456789abcdef0123456789abcdef");
  if (variant == DG_VARIANT_DELTA) {
    set(meta, DG_FIELD_REF_PATH, "reference.bin");
    set(meta, DG_FIELD_REF_SHA256,
        "00000000000000000000000000000000000000000000000000000000000000aa");
  }
  rc = fs_put_meta(fixture, key, data, len, meta, err);
  dg_meta_unref(meta);
  return rc;
}

void fs_must_put(struct fs_fixture *fixture, const char *key, const char *text)
{
  struct dg_error err = {0};

  ck_assert_msg(fs_put(fixture, key, DG_VARIANT_PASSTHROUGH, text, strlen(text), &err) == 0,
                "put '%s': %s", key, err.detail);
}

char *fs_get(struct fs_fixture *fixture, const char *key, uint32_t variant, struct dg_meta *meta,
             struct dg_error *err)
{
  struct dg_item item = fs_item(key, variant);
  struct dg_range all = {0, DG_TO_END};
  struct dg_meta *own = meta ? NULL : dg_meta_new();
  GString *text = g_string_new(NULL);
  struct dg_reader *reader = NULL;
  size_t len = 1;
  int rc = fixture->ops->get(fixture->self, NULL, &item, all, meta ? meta : own, &reader, err);

  while (rc == 0 && len) {
    char buffer[1000];

    rc = reader->ops->read(reader, buffer, sizeof buffer, &len, err);
    if (rc == 0)
      g_string_append_len(text, buffer, (gssize)len);
  }
  if (reader)
    reader->ops->close(reader);
  dg_meta_unref(own);
  return g_string_free(text, rc < 0);
}

void fs_must_hold(struct fs_fixture *fixture, const char *key, const char *text)
{
  struct dg_error err = {0};
  g_autofree char *got = fs_get(fixture, key, DG_VARIANT_PASSTHROUGH, NULL, &err);

  ck_assert_msg(got != NULL, "get '%s': %s", key, err.detail);
  ck_assert_str_eq(got, text);
}

void fs_must_lack(struct fs_fixture *fixture, const char *key)
{
  struct dg_error err = {0};
  g_autofree char *got = fs_get(fixture, key, DG_VARIANT_PASSTHROUGH, NULL, &err);

  ck_assert_msg(got == NULL, "'%s' is there", key);
  ck_assert_msg(err.code == DG_E_NO_SUCH_KEY, "get '%s': %s", key, err.detail);
}

int fs_remove(struct fs_fixture *fixture, const char *key, uint32_t variant, struct dg_error *err)
{
  struct dg_item item = fs_item(key, variant);

  return fixture->ops->remove(fixture->self, NULL, &item, err);
}

struct listing {
  GString *text;
  unsigned count, limit;
};

static int32_t list_row(void *receiver, const struct dg_list_row *row)
{
  struct listing *listing = receiver;

  if (listing->text->len)
    g_string_append_c(listing->text, '\n');
  if (row->type == DG_ROW_PREFIX)
    g_string_append(listing->text, "PRE:");
  g_string_append_len(listing->text, row->key.data, (gssize)row->key.len);
  return ++listing->count == listing->limit;
}

char *fs_list(struct fs_fixture *fixture, const char *prefix, const char *delimiter,
              const char *start_after, uint32_t flags, unsigned limit)
{
  struct dg_list_request request = {.struct_size = sizeof request,
                                    .flags = flags,
                                    .bucket = DG_SLICE("bkt"),
                                    .prefix = fs_slice(prefix),
                                    .delimiter = fs_slice(delimiter),
                                    .start_after = fs_slice(start_after)};
  struct listing listing = {g_string_new(NULL), 0, limit};
  struct dg_error err = {0};

  ck_assert_msg(fixture->ops->list(fixture->self, NULL, &request, list_row, &listing, &err) == 0,
                "%s", err.detail);
  return g_string_free(listing.text, FALSE);
}

void fs_drop_file(struct fs_fixture *fixture, const char *relative, const char *text,
                  const char *json)
{
  g_autofree char *path = fs_path(fixture, relative);
  g_autofree char *dir = g_path_get_dirname(path);
  int fd;

  ck_assert_int_eq(g_mkdir_with_parents(dir, 0777), 0);
  fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq((int)write(fd, text, strlen(text)), (int)strlen(text));
  (void)close(fd);
  if (json)
    ck_assert_int_eq(setxattr(path, "user.dg.metadata", json, strlen(json), 0), 0);
}

unsigned fs_staged(struct fs_fixture *fixture)
{
  g_autofree char *path = fs_path(fixture, ".dg-staging");
  GDir *dir = g_dir_open(path, 0, NULL);
  unsigned count = 0;

  while (dir && g_dir_read_name(dir))
    count++;
  if (dir)
    g_dir_close(dir);
  return count;
}
