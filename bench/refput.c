/* SPDX-License-Identifier: Apache-2.0 */
/* The yardstick for PUT: one process that computes MD5 and SHA-256 of a file's
 * bytes, writes them to another file in 256 KiB pieces and fsyncs it.
 *
 *   refput SOURCE TARGET COUNT
 *
 * Prints `wall_s cpu_s bytes` over COUNT repetitions. The source is read
 * before the clock starts: a server gets its bytes from a socket, this gets
 * them for nothing, which favours the yardstick. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#define PIECE (256u * 1024u)

static double cpu_now(void)
{
  struct rusage usage;

  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static double wall_now(void)
{
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void fail(const char *what)
{
  perror(what);
  exit(1);
}

static void put_once(const unsigned char *bytes, size_t size, const char *target)
{
  EVP_MD_CTX *md5 = EVP_MD_CTX_new(), *sha256 = EVP_MD_CTX_new();
  unsigned char digest[EVP_MAX_MD_SIZE];
  int fd = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0600);

  if (fd < 0)
    fail(target);
  EVP_DigestInit_ex(md5, EVP_md5(), NULL);
  EVP_DigestInit_ex(sha256, EVP_sha256(), NULL);
  for (size_t at = 0; at < size; at += PIECE) {
    size_t len = size - at < PIECE ? size - at : PIECE;

    EVP_DigestUpdate(md5, bytes + at, len);
    EVP_DigestUpdate(sha256, bytes + at, len);
    if (write(fd, bytes + at, len) != (ssize_t)len)
      fail("write");
  }
  EVP_DigestFinal_ex(md5, digest, NULL);
  EVP_DigestFinal_ex(sha256, digest, NULL);
  if (fsync(fd) != 0 || close(fd) != 0)
    fail("fsync");
  EVP_MD_CTX_free(md5);
  EVP_MD_CTX_free(sha256);
  if (unlink(target) != 0)
    fail("unlink");
}

int main(int argc, char **argv)
{
  struct stat status;
  unsigned char *bytes;
  double cpu, wall;
  int fd;
  long count;

  if (argc != 4) {
    fputs("usage: refput SOURCE TARGET COUNT\n", stderr);
    return 2;
  }
  count = strtol(argv[3], NULL, 10);
  fd = open(argv[1], O_RDONLY);
  if (fd < 0 || fstat(fd, &status) != 0)
    fail(argv[1]);
  bytes = malloc((size_t)status.st_size + 1);
  if (!bytes)
    fail("malloc");
  for (size_t at = 0; at < (size_t)status.st_size;) {
    ssize_t n = read(fd, bytes + at, (size_t)status.st_size - at);

    if (n <= 0)
      fail("read");
    at += (size_t)n;
  }
  close(fd);
  cpu = cpu_now();
  wall = wall_now();
  for (long i = 0; i < count; i++)
    put_once(bytes, (size_t)status.st_size, argv[2]);
  printf("%.6f %.6f %lld\n", wall_now() - wall, cpu_now() - cpu,
         (long long)status.st_size * count);
  free(bytes);
  return 0;
}
