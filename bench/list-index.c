/* SPDX-License-Identifier: Apache-2.0 */
/* list-index DIRECTORY [LARGE [SMALL]]
 *
 * Fills four buckets of backend-fs below DIRECTORY, LARGE and SMALL keys
 * (1000000 and 10000), each flat and nested (a thousand to a directory), then
 * lists pages of 1000 keys from random places and prints the median CPU time
 * of a page, warm, with the ratio that doc/performance.md reports. The first,
 * cold, listing of each bucket and the first after a restart stand apart.
 * What it made is deleted at the end. */
#include "config.h"

#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <deltaglider/plugin.h>

#include "common/meta.h"
#include "plugins/backend-fs/plugin.h"

#define PAGE 1000u
#define PLACES 30u
#define PER_DIRECTORY 1000u

static const char json[] =
  "{\"tool\":\"bench/1\",\"original_name\":\"k\",\"file_sha256\":"
  "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"file_size\":0,"
  "\"md5\":\"d41d8cd98f00b204e9800998ecf8427e\",\"created_at\":\"2026-04-01T12:30:05Z\","
  "\"note\":\"passthrough\"}";

static const char *root, *cache;

static const char *get_text(const struct dg_config *config, const char *name)
{
  (void)config;
  return strcmp(name, "path") == 0 ? root : NULL;
}

static double seconds(clockid_t clock)
{
  struct timespec now;

  (void)clock_gettime(clock, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void die(const char *what)
{
  perror(what);
  exit(EXIT_FAILURE);
}

static void key_name(unsigned number, bool nested, char out[static 64])
{
  if (nested)
    (void)snprintf(out, 64, "d%05u/object-%07u.bin", number / PER_DIRECTORY, number);
  else
    (void)snprintf(out, 64, "object-%07u.bin", number);
}

static void fill(const char *bucket, unsigned count, bool nested)
{
  g_autofree char *top = g_build_filename(root, bucket, "deltaspaces", NULL);
  int top_fd;

  if (g_mkdir_with_parents(top, 0777) < 0 || (top_fd = open(top, O_RDONLY | O_DIRECTORY)) < 0)
    die(top);
  for (unsigned i = 0; i < count; i++) {
    char key[64];
    int fd;

    key_name(i, nested, key);
    if (nested && i % PER_DIRECTORY == 0) {
      char dir[16];

      (void)snprintf(dir, sizeof dir, "d%05u", i / PER_DIRECTORY);
      if (mkdirat(top_fd, dir, 0777) < 0)
        die(dir);
    }
    fd = openat(top_fd, key, O_WRONLY | O_CREAT, 0666);
    if (fd < 0 || fsetxattr(fd, "user.dg.metadata", json, sizeof json - 1, 0) < 0)
      die(key);
    (void)close(fd);
  }
  (void)close(top_fd);
}

static int32_t count_row(void *receiver, const struct dg_list_row *row)
{
  unsigned *count = receiver;

  (void)row;
  return ++*count == PAGE;
}

static void list_page(const struct dg_backend_ops *ops, void *self, const char *bucket,
                      const char *after)
{
  struct dg_list_request request = {.struct_size = sizeof request,
                                    .bucket = {bucket, strlen(bucket)},
                                    .start_after = {after, strlen(after)}};
  struct dg_error err = {0};
  unsigned count = 0;

  if (ops->list(self, NULL, &request, count_row, &count, &err) < 0 || count != PAGE) {
    (void)fprintf(stderr, "list %s after '%s': %u rows, %s\n", bucket, after, count, err.detail);
    exit(EXIT_FAILURE);
  }
}

static int compare(const void *a, const void *b)
{
  double left = *(const double *)a, right = *(const double *)b;

  return (left > right) - (left < right);
}

/* Median CPU milliseconds of a page, each place listed before it is timed. */
static double warm(const struct dg_backend_ops *ops, void *self, const char *bucket,
                   unsigned count, bool nested)
{
  double times[PLACES];

  for (int timed = 0; timed < 2; timed++) {
    GRand *random = g_rand_new_with_seed(42);

    for (unsigned i = 0; i < PLACES; i++) {
      char after[64];
      double start;

      key_name((unsigned)g_rand_int_range(random, 0, (gint32)(count - PAGE - 1)), nested, after);
      start = seconds(CLOCK_PROCESS_CPUTIME_ID);
      list_page(ops, self, bucket, after);
      times[i] = (seconds(CLOCK_PROCESS_CPUTIME_ID) - start) * 1e3;
    }
    g_rand_free(random);
  }
  qsort(times, PLACES, sizeof times[0], compare);
  return times[PLACES / 2];
}

static void *open_backend(const struct dg_backend_ops *ops, struct dg_host *host)
{
  struct dg_config config = {.struct_size = sizeof config, .get_text = get_text};
  struct dg_error err = {0};
  void *self;

  *host = (struct dg_host){.struct_size = sizeof *host,
                           .abi_major = DG_ABI_MAJOR,
                           .cache_dir = cache,
                           .meta_set = dg_meta_set,
                           .meta_add_user = dg_meta_add_user,
                           .meta_add_extension = dg_meta_add_extension};
  if (ops->create(host, &config, &self, &err) < 0) {
    (void)fprintf(stderr, "%s\n", err.detail);
    exit(EXIT_FAILURE);
  }
  return self;
}

int main(int argc, char **argv)
{
  const struct dg_backend_ops *ops = dg_fs_plugin.ops;
  unsigned large = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1000000u;
  unsigned small = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 10000u;
  const struct {
    const char *bucket;
    unsigned count;
    bool nested;
  } sets[] = {{"small-flat", small, false},
              {"large-flat", large, false},
              {"small-nested", small, true},
              {"large-nested", large, true}};
  double first[4], restarted[4], page[4];
  const char *remove[] = {"rm", "-rf", NULL, NULL};
  struct dg_host host;
  struct rusage usage;
  void *self;

  if (argc < 2 || small < 2 * PAGE || large < small) {
    (void)fprintf(stderr, "usage: %s DIRECTORY [LARGE [SMALL]]\n", argv[0]);
    return EXIT_FAILURE;
  }
  remove[2] = g_build_filename(argv[1], "list-index-data", NULL);
  root = g_build_filename(remove[2], "data", NULL);
  cache = g_build_filename(remove[2], "cache", NULL);
  (void)g_mkdir_with_parents(cache, 0700);
  for (size_t i = 0; i < 4; i++)
    fill(sets[i].bucket, sets[i].count, sets[i].nested);
  self = open_backend(ops, &host);
  for (size_t i = 0; i < 4; i++) {
    double start = seconds(CLOCK_MONOTONIC);

    list_page(ops, self, sets[i].bucket, "");
    first[i] = seconds(CLOCK_MONOTONIC) - start;
  }
  for (size_t i = 0; i < 4; i++)
    page[i] = warm(ops, self, sets[i].bucket, sets[i].count, sets[i].nested);
  ops->destroy(self);
  self = open_backend(ops, &host);
  for (size_t i = 0; i < 4; i++) {
    double start = seconds(CLOCK_MONOTONIC);

    list_page(ops, self, sets[i].bucket, "");
    restarted[i] = seconds(CLOCK_MONOTONIC) - start;
  }
  ops->destroy(self);
  (void)getrusage(RUSAGE_SELF, &usage);
  (void)printf("%-14s %9s %13s %13s %13s\n", "bucket", "keys", "first ms", "restarted ms",
               "warm CPU ms");
  for (size_t i = 0; i < 4; i++)
    (void)printf("%-14s %9u %13.1f %13.1f %13.2f\n", sets[i].bucket, sets[i].count,
                 first[i] * 1e3, restarted[i] * 1e3, page[i]);
  (void)printf("ratio flat %.2f, nested %.2f (owed: <= 2); peak RSS %ld MiB, mapped files "
               "included\n",
               page[1] / page[0], page[3] / page[2], usage.ru_maxrss / 1024);
  (void)g_spawn_sync(NULL, (char **)(uintptr_t)remove, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                     NULL, NULL, NULL);
  return page[1] <= 2 * page[0] && page[3] <= 2 * page[2] ? EXIT_SUCCESS : EXIT_FAILURE;
}
