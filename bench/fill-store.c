/* SPDX-License-Identifier: Apache-2.0 */
/* Fills one bucket of a backend-fs root with many tiny objects, as if they had
 * been put one by one, but behind the server's back and without fsync.
 *
 *   fill-store ROOT BUCKET COUNT flat|nested
 *
 * Keys: key-NNNNNNN, or DDDD/key-NNNNNNN with a thousand keys a directory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static void fail(const char *what)
{
  perror(what);
  exit(1);
}

static int open_directory(int parent, const char *name)
{
  int fd;

  if (mkdirat(parent, name, 0755) != 0 && errno != EEXIST)
    fail(name);
  fd = openat(parent, name, O_RDONLY | O_DIRECTORY);
  if (fd < 0)
    fail(name);
  return fd;
}

static void put(int directory, const char *name)
{
  char meta[512];
  int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  int len = snprintf(
    meta, sizeof meta,
    "{\"tool\":\"deltaglider_proxy/1.19.0\",\"original_name\":\"%s\",\"file_sha256\":"
    "\"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\",\"file_size\":1,"
    "\"md5\":\"9dd4e461268c8034f5c8564e155c67a6\",\"created_at\":\"2026-01-01T00:00:00Z\","
    "\"content_type\":\"application/octet-stream\",\"note\":\"passthrough\"}",
    name);

  if (fd < 0 || write(fd, "x", 1) != 1)
    fail(name);
  if (fsetxattr(fd, "user.dg.metadata", meta, (size_t)len, 0) != 0)
    fail("fsetxattr");
  close(fd);
}

int main(int argc, char **argv)
{
  int root, bucket, space, directory = -1, nested;
  long count;

  if (argc != 5) {
    fputs("usage: fill-store ROOT BUCKET COUNT flat|nested\n", stderr);
    return 2;
  }
  count = strtol(argv[3], NULL, 10);
  nested = strcmp(argv[4], "nested") == 0;
  root = open(argv[1], O_RDONLY | O_DIRECTORY);
  if (root < 0)
    fail(argv[1]);
  bucket = open_directory(root, argv[2]);
  space = open_directory(bucket, "deltaspaces");
  for (long i = 0; i < count; i++) {
    char name[32];

    if (nested && i % 1000 == 0) {
      if (directory >= 0)
        close(directory);
      (void)snprintf(name, sizeof name, "%04ld", i / 1000);
      directory = open_directory(space, name);
    }
    (void)snprintf(name, sizeof name, "key-%07ld", i);
    put(nested ? directory : space, name);
  }
  return 0;
}
