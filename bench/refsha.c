/* SPDX-License-Identifier: Apache-2.0 */
/* The yardstick for GET of a delta: prints the wall seconds that SHA-256 of a
 * file's bytes, already in memory, takes on one core.
 *
 *   refsha FILE */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <openssl/evp.h>

int main(int argc, char **argv)
{
  unsigned char digest[EVP_MAX_MD_SIZE];
  struct timespec begin, end;
  struct stat status;
  void *bytes;
  int fd;

  if (argc != 2 || (fd = open(argv[1], O_RDONLY)) < 0 || fstat(fd, &status) != 0) {
    fputs("usage: refsha FILE\n", stderr);
    return 2;
  }
  bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (bytes == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  clock_gettime(CLOCK_MONOTONIC, &begin);
  if (EVP_Digest(bytes, (size_t)status.st_size, digest, NULL, EVP_sha256(), NULL) != 1)
    return 1;
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.6f\n", (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec));
  return 0;
}
