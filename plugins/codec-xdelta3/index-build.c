/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building an index without memory of our own: straight into the file that
 * stays mapped afterwards.
 *
 * A write to a mapping cannot fail, it faults, and the whole table would be lost.
 * So the file's blocks are claimed first, and only filesystems that keep them in
 * place get a mapping. Others get
 * the table in segments, each built in memory and written. Where no file can be
 * had, a small table is built in memory, and a large reference does without.
 */
#include "config.h"

#include "plugins/codec-xdelta3/index-file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/banned.h"

/* Of memory of our own: a segment, and the largest table without a file. */
#define SEGMENT_BUCKETS  (UINT64_C(1) << 20)
#define BUCKET_BYTES     (DG_INDEX_BUCKET * sizeof(uint32_t))
#define MEMORY_TABLE_MAX (SEGMENT_BUCKETS * BUCKET_BYTES)

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* A directory for files without a name: on a disk, unlike /tmp at times. */
#define UNNAMED_DIR "/var/tmp"

/* Whether blocks that were claimed cannot run out when their pages are written
 * back and dirtied again: not so where each write goes to a new place, as may be
 * below overlayfs. */
static int keeps_blocks(int fd, int memory_too)
{
  struct statfs fs;

  if (fstatfs(fd, &fs) < 0)
    return 0;
  switch ((unsigned long)fs.f_type) {
  case EXT4_SUPER_MAGIC:
  case XFS_SUPER_MAGIC:
    return 1;
  case TMPFS_MAGIC:
    return memory_too;
  default:
    return 0;
  }
}

/* Claims size bytes of a file and maps them. Returns NULL with errno set. */
static uint8_t *map_file(const struct codec *codec, int fd, size_t size, int memory_too)
{
  int number = codec_fault(codec, "codec.index.claim");
  void *map;

  if (number == 0 && !keeps_blocks(fd, memory_too))
    number = EOPNOTSUPP;
  if (number == 0)
    do
      number = posix_fallocate(fd, 0, (off_t)size);
    while (number == EINTR);
  if (number != 0) {
    errno = number;
    return NULL;
  }
  map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED)
    return NULL;
#if defined(MADV_POPULATE_WRITE)
  /* All pages in one call cost less than one fault each. What cannot be had is
   * an error here and would be a signal later. */
  if (madvise(map, size, MADV_POPULATE_WRITE) < 0 && errno != EINVAL) {
    int saved = errno;

    (void)munmap(map, size);
    errno = saved;
    return NULL;
  }
#endif
  return map;
}

/* Builds into a file, mapped, and makes it the reference's index. Returns -1
 * with errno set. */
static int build_mapped(const struct codec *codec, int fd, int memory_too, struct dg_codec_ref *ref)
{
  const struct dg_index_shape *shape = &ref->index.shape;
  size_t table_size = (size_t)dg_index_table_bytes(shape);
  size_t size = INDEX_HEADER_SIZE + table_size;
  uint8_t *map = map_file(codec, fd, size, memory_too);
  struct dg_mapguard *guard;
  int number;

  if (!map)
    return -1;
  guard = dg_mapguard_add(map, size, PROT_READ | PROT_WRITE);
  dg_index_build(shape, ref->data, 0, shape->bucket_count,
                 (uint32_t *)(void *)(map + INDEX_HEADER_SIZE));
  number = codec_fault(codec, "codec.index.seal");
  if (number == 0 && dg_mapguard_is_hurt(guard))
    number = EIO;
  if (number != 0) {
    dg_mapguard_remove(guard);
    (void)munmap(map, size);
    errno = number;
    return -1;
  }
  index_seal(ref, XXH3_128bits(map + INDEX_HEADER_SIZE, table_size), map);
  (void)mprotect(map, size, PROT_READ);
  index_adopt(ref, map, guard);
  return 0;
}

/* ---- Written in segments ----------------------------------------------------------- */

static int write_all_at(const struct codec *codec, int fd, const void *data, size_t len,
                        uint64_t offset)
{
  const uint8_t *at = data;
  int number = codec_fault(codec, "codec.index.write");

  if (number != 0) {
    errno = number;
    return -1;
  }
  while (len > 0) {
    ssize_t done = pwrite(fd, at, len, (off_t)offset);

    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return -1;
    at += done;
    offset += (uint64_t)done;
    len -= (size_t)done;
  }
  return 0;
}

/* Builds into a file, segment by segment: the reference is searched once for
 * each. Returns -1 with errno set. */
static int build_written(const struct codec *codec, int fd, const struct dg_codec_ref *ref)
{
  const struct dg_index_shape *shape = &ref->index.shape;
  size_t memory_size = (size_t)(MIN(SEGMENT_BUCKETS, shape->bucket_count) * BUCKET_BYTES);
  void *memory =
      mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  g_autofree uint8_t *page = g_malloc(INDEX_HEADER_SIZE);
  XXH3_state_t *digest;
  int result = 0, saved;

  if (memory == MAP_FAILED)
    return -1;
  digest = XXH3_createState();
  (void)XXH3_128bits_reset(digest);
  for (uint64_t first = 0; first < shape->bucket_count && result == 0; first += SEGMENT_BUCKETS) {
    uint64_t count = MIN(SEGMENT_BUCKETS, shape->bucket_count - first);

    memset(memory, 0, (size_t)(count * BUCKET_BYTES));
    dg_index_build(shape, ref->data, first, count, memory);
    (void)XXH3_128bits_update(digest, memory, (size_t)(count * BUCKET_BYTES));
    result = write_all_at(codec, fd, memory, (size_t)(count * BUCKET_BYTES),
                          INDEX_HEADER_SIZE + first * BUCKET_BYTES);
  }
  index_seal(ref, XXH3_128bits_digest(digest), page);
  if (result == 0)
    result = write_all_at(codec, fd, page, INDEX_HEADER_SIZE, 0);
  saved = errno;
  (void)XXH3_freeState(digest);
  (void)munmap(memory, memory_size);
  errno = saved;
  return result;
}

/* ---- Where to build ----------------------------------------------------------------- */

static int is_full(int number)
{
  return number == ENOSPC || number == EDQUOT || number == EFBIG;
}

static int has_index(const struct dg_codec_ref *ref)
{
  return ref->index.buckets != NULL;
}

static void drop_index(struct dg_codec_ref *ref)
{
  dg_mapguard_remove(ref->table_guard);
  ref->table_guard = NULL;
  (void)munmap(ref->table, ref->table_size);
  ref->table = NULL;
  ref->table_size = 0;
  ref->index.buckets = NULL;
}

/* In the cache directory, under a name that lasts. */
static int build_kept(const struct codec *codec, const char *cache_dir, struct dg_codec_ref *ref)
{
  g_autofree char *path = index_path(cache_dir, ref, "");
  g_autofree char *temporary = index_path(cache_dir, ref, ".tmp-XXXXXX");
  int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0600);
  int saved;

  if (fd < 0)
    return -1;
  if (build_mapped(codec, fd, /* memory_too= */ 1, ref) < 0 &&
      (is_full(errno) || build_written(codec, fd, ref) < 0))
    goto failed;
  if (dg_mapguard_is_hurt(ref->guard)) {
    errno = EIO; /* an index of what could not be read, under the name of what was meant */
    goto failed;
  }
  if (g_rename(temporary, path) < 0)
    goto failed;
  (void)close(fd);
  index_prune(codec, cache_dir, path);
  return has_index(ref) ? 0 : codec_index_load(codec, cache_dir, ref);

failed:
  saved = errno;
  if (has_index(ref))
    drop_index(ref);
  (void)close(fd);
  (void)g_unlink(temporary);
  errno = saved;
  return -1;
}

/* In a file that goes with its mapping. */
static int build_unnamed(const struct codec *codec, struct dg_codec_ref *ref)
{
  char path[] = UNNAMED_DIR "/dg-index-XXXXXX";
  int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
  int result;

  if (fd < 0)
    return -1;
  (void)g_unlink(path);
  /* A filesystem in memory would hide from the cache's budget what it takes. */
  result = build_mapped(codec, fd, /* memory_too= */ 0, ref);
  (void)close(fd);
  return result;
}

/* In memory of our own; huge pages spare half of the time, which goes into
 * address translation. */
static int build_in_memory(struct dg_codec_ref *ref)
{
  const struct dg_index_shape *shape = &ref->index.shape;
  size_t size = (size_t)dg_index_table_bytes(shape);
  void *table;

  if (size > MEMORY_TABLE_MAX)
    return -1;
  table = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (table == MAP_FAILED)
    return -1;
  (void)madvise(table, size, MADV_HUGEPAGE);
  dg_index_build(shape, ref->data, 0, shape->bucket_count, table);
  ref->table = table;
  ref->table_size = size;
  ref->anonymous_size = size;
  ref->index.buckets = table;
  return 0;
}

void codec_index_build(const struct codec *codec, const char *cache_dir, struct dg_codec_ref *ref)
{
  if (cache_dir) {
    if (build_kept(codec, cache_dir, ref) == 0)
      return;
    codec_log(codec, DG_LOG_WARN, "codec.index_not_kept", "directory=%s error=\"%s\"", cache_dir,
              g_strerror(errno));
  }
  if (build_unnamed(codec, ref) == 0 || build_in_memory(ref) == 0)
    return;
  codec_log(codec, DG_LOG_WARN, "codec.index_missing",
            "reference_bytes=%" G_GUINT64_FORMAT " effect=\"deltas are larger\"", ref->size);
  memset(&ref->index, 0, sizeof ref->index);
}
