/* SPDX-License-Identifier: Apache-2.0 */
/* Which buckets are counted, and in which files. */
#include "config.h"

#include "core/engine/quota-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/hex.h"
#include "common/oserror.h"
#include "core/engine/upload.h" /* dg_dir_sync() */
#include "core/plug/options.h"

#include "common/banned.h"

#define RUN_FILE "run"
#define LOCK_FILE "lock" /* never removed: who has it open may hold it */

/* ---- Files ----------------------------------------------------------------------------- */

/* All but those with the names in `kept`; NULL: all. */
static void remove_files(const char *dir_path, GHashTable *kept)
{
  g_autoptr(GDir) dir = g_dir_open(dir_path, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(dir_path, name, NULL);

    if (strcmp(name, LOCK_FILE) != 0 && (!kept || !g_hash_table_contains(kept, name)))
      (void)g_unlink(path);
  }
}

/* 0: there is none, or none that can be read. */
static uint64_t read_run(const char *path)
{
  g_autofree char *text = NULL;
  uint64_t run = 0;

  if (g_file_get_contents(path, &text, NULL, NULL) &&
      dg_slice_to_u64(dg_slice_of(text, strcspn(text, "\n")), &run) && run < UINT64_MAX)
    return run;
  return 0;
}

/* Durable before anything is counted: a run must never share its number. */
static int write_run(const char *dir, const char *path, uint64_t run, struct dg_error *err)
{
  g_autofree char *temporary = g_strconcat(path, ".new", NULL);
  g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT "\n", run);
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fsync(fd) == 0;
  int number = errno;

  if (fd >= 0)
    (void)close(fd);
  if (good && rename(temporary, path) < 0) {
    good = false;
    number = errno;
  }
  if (!good)
    return dg_fail(err, dg_errno_code(number), "write '%s': %s", path, g_strerror(number));
  return dg_dir_sync(dir, err);
}

/* Two processes must not write the same files, not even for the time in which one
 * follows the other. */
static int lock_dir(struct dg_quota *quota, const char *dir, struct dg_error *err)
{
  g_autofree char *path = g_build_filename(dir, LOCK_FILE, NULL);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

  if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
    int number = errno;

    if (fd >= 0)
      (void)close(fd);
    return dg_fail(err, dg_errno_code(number), "lock '%s': %s", path, g_strerror(number));
  }
  quota->lock_fd = fd;
  return 0;
}

static char *dir_of(const struct dg_quota *quota)
{
  struct dg_view *view = dg_engine_view(quota->engine);
  char *dir = g_build_filename(view->snapshot->state_dir, "quota", NULL);

  dg_view_unref(view);
  return dir;
}

void dg_quota_dir_open(struct dg_quota *quota, bool used)
{
  g_autofree char *dir = dir_of(quota);
  g_autofree char *path = g_build_filename(dir, RUN_FILE, NULL);
  uint64_t before = used ? read_run(path) : 0;
  struct dg_error err = {0};

  /* Without the number of the run before, nobody knows what its files missed. */
  if (before == 0)
    remove_files(dir, NULL);
  if (!used)
    return;
  quota->prepared = true;
  quota->run = before + 1;
  quota->believe = before > 0;
  /* The number also without the lock: what this run changes, no file will tell. */
  if (g_mkdir_with_parents(dir, 0700) < 0)
    (void)dg_fail(&err, dg_errno_code(errno), "make '%s': %s", dir, g_strerror(errno));
  else if (write_run(dir, path, quota->run, &err) < 0)
    remove_files(dir, NULL);
  else if (lock_dir(quota, dir, &err) == 0)
    quota->dir = g_steal_pointer(&dir);
  if (quota->dir)
    return;
  dg_log_warn(quota->engine->log, "quota.dir", "cause=%s",
              DG_LOG_QUOTED(dg_slice_str(err.detail)));
}

#define NAME_BYTES 33 /* of a file, with its NUL */

static void name_of(const char *place, char name[NAME_BYTES])
{
  uint8_t digest[32];

  dg_sha256(place, strlen(place), digest);
  dg_hex_encode(digest, (NAME_BYTES - 1) / 2, name);
}

static char *file_of(const struct dg_quota *quota, const char *place)
{
  char name[NAME_BYTES];

  name_of(place, name);
  return quota->dir ? g_build_filename(quota->dir, name, NULL) : NULL;
}

/* Of buckets that had a quota once. Nobody believes these any more. */
static void remove_strangers_locked(const struct dg_quota *quota)
{
  g_autoptr(GHashTable) kept = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  GHashTableIter iter;
  gpointer place;

  if (!quota->dir)
    return;
  g_hash_table_add(kept, g_strdup(RUN_FILE));
  g_hash_table_iter_init(&iter, quota->books);
  while (g_hash_table_iter_next(&iter, &place, NULL)) {
    char name[NAME_BYTES];

    name_of(place, name);
    g_hash_table_add(kept, g_strdup(name));
  }
  remove_files(quota->dir, kept);
}

/* ---- Books -------------------------------------------------------------------------------- */

static char *place_of(const struct dg_route *route)
{
  return g_strconcat(dg_backend_name(route->backend), "/", route->bucket, NULL);
}

struct dg_quota_book *dg_quota_book_ref(struct dg_quota_book *book)
{
  g_atomic_int_inc(&book->refs);
  return book;
}

void dg_quota_book_unref(struct dg_quota_book *book)
{
  if (!book || !g_atomic_int_dec_and_test(&book->refs))
    return;
  dg_ledger_close(book->ledger, /* keep= */ !g_atomic_int_get(&book->dropped));
  g_ptr_array_unref(book->names);
  g_free(book->place);
  g_free(book);
}

static bool has_name(const struct dg_quota_book *book, const char *name)
{
  return g_ptr_array_find_with_equal_func(book->names, name, g_str_equal, NULL);
}

static void add_name(struct dg_quota_book *book, const char *name)
{
  if (!has_name(book, name))
    g_ptr_array_add(book->names, g_strdup(name));
}

/* The place, and what its backend is: under the same name may be other storage. */
static char *identity_of(const struct dg_route *route, const char *place)
{
  const char *backend = dg_backend_name(route->backend);
  GString *text = g_string_new(place);

  for (guint i = 0; route->snapshot->backends && i < route->snapshot->backends->len; i++) {
    const struct dg_backend_config *config = route->snapshot->backends->pdata[i];

    if (strcmp(config->name, backend) != 0)
      continue;
    g_string_append_printf(text, "\n%s", config->plugin_name);
    for (const struct dg_option *o = dg_config_table(config->options); o && o->name; o++) {
      const char *value = config->options->get_text(config->options, o->name);

      if (o->type != DG_OPT_SECRET && value)
        g_string_append_printf(text, "\n%s=%s", o->name, value);
    }
  }
  return g_string_free(text, FALSE);
}

/* start: nothing of this run has changed a bucket yet. */
static struct dg_quota_book *make_book(struct dg_quota *quota, const struct dg_route *route,
                                       const char *place, bool start)
{
  struct dg_quota_book *book = g_new0(struct dg_quota_book, 1);
  g_autofree char *identity = identity_of(route, place);
  g_autofree char *path = NULL;
  struct dg_ledger_params params = {.place = identity, .log = quota->engine->log};

  if (!quota->prepared)
    dg_quota_dir_open(quota, /* used= */ true);
  params.path = path = file_of(quota, place);
  params.run = quota->run;
  params.believe = start && quota->believe;
  book->refs = 1;
  book->place = g_strdup(place);
  book->names = g_ptr_array_new_with_free_func(g_free);
  book->fresh = !start;
  book->seen = quota->reading;
  book->backend = route->backend;
  book->ledger = dg_ledger_open(&params);
  g_hash_table_insert(quota->books, book->place, book);
  g_atomic_int_set(&quota->book_count, (gint)g_hash_table_size(quota->books));
  dg_quota_poke_locked(quota);
  return book;
}

void dg_quota_book_reset_locked(struct dg_quota *quota, struct dg_quota_book *book)
{
  dg_ledger_reset(book->ledger);
  book->resets++;
  book->wanted = true;
  dg_quota_poke_locked(quota);
}

/* A reload may have put other storage under the backend's name. */
static void compare_backend(struct dg_quota *quota, struct dg_quota_book *book,
                            const struct dg_route *route)
{
  if (book->backend == route->backend || g_atomic_int_get(&route->view->superseded))
    return;
  book->backend = route->backend;
  dg_quota_book_reset_locked(quota, book);
}

/* Nobody has changed the bucket in this run: each who did would have made its book. */
static bool at_start_locked(const struct dg_quota *quota, const struct dg_view *view)
{
  return !g_atomic_int_get(&quota->synced) && view->serial == quota->first_view;
}

/* Perhaps another name of a bucket with a quota. */
static bool shares_bucket(const struct dg_route *route)
{
  GHashTableIter iter;
  gpointer name, value;

  if (!route->snapshot->buckets)
    return false;
  g_hash_table_iter_init(&iter, route->snapshot->buckets);
  while (g_hash_table_iter_next(&iter, &name, &value)) {
    const struct dg_bucket_config *policy = value;
    const char *real = policy->alias && policy->alias[0] ? policy->alias : name;

    if (dg_quota_of(policy) && strcmp(real, route->bucket) == 0)
      return true;
  }
  return false;
}

struct dg_quota_book *dg_quota_book_find(struct dg_quota *quota, const struct dg_route *route,
                                         struct dg_slice name)
{
  bool limited = dg_quota_of(route->policy);
  /* Until the thread knows where all buckets lie. */
  bool perhaps = !limited && !g_atomic_int_get(&quota->synced) && shares_bucket(route);
  struct dg_quota_book *book;
  g_autofree char *place = NULL;

  if (!limited && !perhaps && g_atomic_int_get(&quota->book_count) == 0)
    return NULL;
  place = place_of(route);
  g_mutex_lock(&quota->mutex);
  book = g_hash_table_lookup(quota->books, place);
  if (!book) {
    bool start = at_start_locked(quota, route->view);

    if (limited || (perhaps && start))
      book = make_book(quota, route, place, start);
  }
  if (book)
    compare_backend(quota, book, route);
  if (book && limited) {
    g_autofree char *text = dg_slice_dup(name);

    add_name(book, text);
  }
  if (book)
    (void)dg_quota_book_ref(book);
  g_mutex_unlock(&quota->mutex);
  return book;
}

/* ---- As the configuration has it ------------------------------------------------------------- */

static GPtrArray *limited_names(const struct dg_snapshot *snapshot)
{
  GPtrArray *names = g_ptr_array_new();
  GHashTableIter iter;
  gpointer name, policy;

  if (!snapshot->buckets)
    return names;
  g_hash_table_iter_init(&iter, snapshot->buckets);
  while (g_hash_table_iter_next(&iter, &name, &policy))
    if (dg_quota_of(policy))
      g_ptr_array_add(names, name);
  return names;
}

static void unset_gauges(const struct dg_quota *quota, const struct dg_quota_book *book)
{
  for (guint i = 0; i < book->names->len; i++)
    dg_quota_gauges_unset(quota->engine->metrics, book->names->pdata[i]);
}

/* Nobody can say where the bucket lies: what is known of it stays. */
static void keep_books_locked(struct dg_quota *quota, const char *name)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, quota->books);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct dg_quota_book *book = value;

    if (has_name(book, name))
      book->seen = quota->reading;
  }
}

static void note_place_locked(struct dg_quota *quota, const struct dg_route *route,
                              const char *name)
{
  g_autofree char *place = place_of(route);
  struct dg_quota_book *book = g_hash_table_lookup(quota->books, place);

  if (!book)
    book = make_book(quota, route, place, at_start_locked(quota, route->view));
  compare_backend(quota, book, route);
  if (book->seen != quota->reading) { /* its names are found anew */
    unset_gauges(quota, book);
    g_ptr_array_set_size(book->names, 0);
  }
  add_name(book, name);
  book->seen = quota->reading;
}

static void note_bucket(struct dg_quota *quota, const struct dg_call *call, const char *name)
{
  struct dg_route route = {0};
  struct dg_error err;
  int rc = dg_route_find(quota->engine, call, dg_slice_str(name), &route, &err);

  g_mutex_lock(&quota->mutex);
  if (rc == 0)
    note_place_locked(quota, &route, name);
  else
    keep_books_locked(quota, name);
  g_mutex_unlock(&quota->mutex);
  dg_route_clear(&route);
}

/* Those that this reading has not seen. */
static void drop_books_locked(struct dg_quota *quota)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, quota->books);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    struct dg_quota_book *book = value;

    if (book->seen == quota->reading)
      continue;
    unset_gauges(quota, book);
    g_atomic_int_set(&book->dropped, 1);
    g_hash_table_iter_remove(&iter);
  }
  g_atomic_int_set(&quota->book_count, (gint)g_hash_table_size(quota->books));
}

void dg_quota_sync(struct dg_quota *quota, const struct dg_call *call)
{
  struct dg_view *view = dg_engine_view(quota->engine);
  g_autoptr(GPtrArray) names = limited_names(view->snapshot);

  g_mutex_lock(&quota->mutex);
  quota->reading++;
  g_mutex_unlock(&quota->mutex);
  for (guint i = 0; i < names->len; i++)
    note_bucket(quota, call, names->pdata[i]);
  g_mutex_lock(&quota->mutex);
  drop_books_locked(quota);
  if (!g_atomic_int_get(&quota->synced))
    remove_strangers_locked(quota);
  g_atomic_int_set(&quota->synced, 1);
  g_mutex_unlock(&quota->mutex);
  dg_view_unref(view);
}
