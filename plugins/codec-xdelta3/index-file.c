/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/codec-xdelta3/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__x86_64__) && defined(HAVE_XXH_X86DISPATCH_H)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include "common/banned.h"

/* A file is one page of header, then the table as it stands in memory. It is
 * a cache of this machine's: host byte order, told by the mark. */
#define HEADER_SIZE  4096u
#define FILE_VERSION 2u
#define BYTE_ORDER_MARK 0x01020304u
#define SUFFIX ".xd3index"

/* A temporary file this old belongs to no write under way. */
#define ABANDONED_S 3600

struct index_header {
  char magic[8];
  uint32_t byte_order;
  uint32_t version;
  uint8_t sha256[32]; /* of the reference */
  uint64_t reference_size;
  uint64_t bucket_count;
  uint32_t anchor_limit;
  uint32_t tag_bits;
  XXH128_hash_t table_digest;
  uint64_t header_digest; /* of all that stands before it */
};

static char *index_path(const char *cache_dir, const struct dg_codec_ref *ref, const char *suffix)
{
  char hex[2 * sizeof ref->sha256 + 1];

  for (size_t i = 0; i < sizeof ref->sha256; i++)
    g_snprintf(hex + 2 * i, 3, "%02x", ref->sha256[i]);
  return g_strdup_printf("%s/%s" SUFFIX "%s", cache_dir, hex, suffix);
}

/* The header an index of this reference must have, less the table's digest. */
static void make_header(const struct dg_codec_ref *ref, struct index_header *ret_header)
{
  memset(ret_header, 0, sizeof *ret_header);
  memcpy(ret_header->magic, "DGXD3IX", 8);
  ret_header->byte_order = BYTE_ORDER_MARK;
  ret_header->version = FILE_VERSION;
  memcpy(ret_header->sha256, ref->sha256, sizeof ref->sha256);
  ret_header->reference_size = ref->size;
  ret_header->bucket_count = ref->index.shape.bucket_count;
  ret_header->anchor_limit = ref->index.shape.anchor_limit;
  ret_header->tag_bits = ref->index.shape.tag_bits;
}

static void seal_header(struct index_header *header, XXH128_hash_t table_digest)
{
  header->table_digest = table_digest;
  header->header_digest = XXH3_64bits(header, offsetof(struct index_header, header_digest));
}

int codec_index_load(const struct codec *codec, const char *cache_dir, struct dg_codec_ref *ref)
{
  g_autofree char *path = index_path(cache_dir, ref, "");
  size_t table_size = (size_t)dg_index_table_bytes(&ref->index.shape);
  struct index_header expected;
  struct stat st;
  uint8_t *map;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

  if (fd < 0)
    return -1;
  if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != HEADER_SIZE + (uint64_t)table_size)
    goto damaged;
  map = mmap(NULL, HEADER_SIZE + table_size, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    (void)close(fd);
    return -1;
  }
  /* Read once from end to end here, at random ever after. */
  (void)madvise(map, HEADER_SIZE + table_size, MADV_WILLNEED);
  make_header(ref, &expected);
  seal_header(&expected, XXH3_128bits(map + HEADER_SIZE, table_size));
  if (memcmp(map, &expected, sizeof expected) != 0) {
    (void)munmap(map, HEADER_SIZE + table_size);
    goto damaged;
  }
  (void)futimens(fd, NULL); /* used now: see prune() */
  (void)close(fd);
  ref->table = map;
  ref->table_size = HEADER_SIZE + table_size;
  ref->anonymous_size = 0;
  ref->index.buckets = (const uint32_t *)(const void *)(map + HEADER_SIZE);
  return 0;

damaged:
  codec_log(codec, DG_LOG_WARN, "codec.index_damaged", "path=%s action=rebuild", path);
  (void)g_unlink(path);
  (void)close(fd);
  return -1;
}

/* ---- A bounded directory --------------------------------------------------------- */

struct kept_file {
  char *path;
  uint64_t size;
  int64_t used_s;
};

static void kept_file_free(void *file)
{
  g_free(((struct kept_file *)file)->path);
  g_free(file);
}

static gint by_use(gconstpointer a, gconstpointer b)
{
  const struct kept_file *x = *(const struct kept_file *const *)a;
  const struct kept_file *y = *(const struct kept_file *const *)b;

  return x->used_s < y->used_s ? -1 : x->used_s > y->used_s;
}

/* Removes what a crash left behind, and the indexes least recently used once
 * all together pass the limit; never `newest`. Mappings outlive their files. */
static void prune(const struct codec *codec, const char *cache_dir, const char *newest)
{
  g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(kept_file_free);
  int64_t now_s = g_get_real_time() / G_USEC_PER_SEC;
  GDir *dir = g_dir_open(cache_dir, 0, NULL);
  uint64_t total = 0;
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *path = NULL;
    struct kept_file *file;
    struct stat st;

    if (!strstr(name, SUFFIX))
      continue;
    path = g_build_filename(cache_dir, name, NULL);
    if (g_lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
      continue;
    if (!g_str_has_suffix(name, SUFFIX)) {
      if (now_s - st.st_mtime > ABANDONED_S)
        (void)g_unlink(path);
      continue;
    }
    file = g_new0(struct kept_file, 1);
    file->size = (uint64_t)st.st_size;
    file->used_s = st.st_mtime;
    file->path = g_steal_pointer(&path);
    total += file->size;
    g_ptr_array_add(files, file);
  }
  if (dir)
    g_dir_close(dir);
  g_ptr_array_sort(files, by_use);
  for (guint i = 0; i < files->len && total > codec->index_cache_size; i++) {
    const struct kept_file *file = files->pdata[i];

    if (strcmp(file->path, newest) == 0)
      continue;
    (void)g_unlink(file->path);
    total -= file->size;
  }
}

static int write_all(int fd, const void *data, size_t len)
{
  const uint8_t *at = data;

  while (len > 0) {
    ssize_t done = write(fd, at, len);

    if (done < 0 && errno == EINTR)
      continue;
    if (done <= 0)
      return -1;
    at += done;
    len -= (size_t)done;
  }
  return 0;
}

int codec_index_store(const struct codec *codec, const char *cache_dir,
                      const struct dg_codec_ref *ref)
{
  size_t table_size = (size_t)dg_index_table_bytes(&ref->index.shape);
  g_autofree char *path = index_path(cache_dir, ref, "");
  g_autofree char *temporary = index_path(cache_dir, ref, ".tmp-XXXXXX");
  g_autofree uint8_t *page = g_malloc0(HEADER_SIZE);
  struct index_header header;
  int fd = g_mkstemp_full(temporary, O_WRONLY | O_CLOEXEC, 0600);

  if (fd < 0)
    goto failed;
  make_header(ref, &header);
  seal_header(&header, XXH3_128bits(ref->index.buckets, table_size));
  memcpy(page, &header, sizeof header);
  /* No fsync: a file torn by a power cut fails its digest and is rebuilt. */
  if (write_all(fd, page, HEADER_SIZE) < 0 ||
      write_all(fd, ref->index.buckets, table_size) < 0) {
    int saved = errno;

    (void)close(fd);
    (void)g_unlink(temporary);
    errno = saved;
    goto failed;
  }
  if (close(fd) < 0 || g_rename(temporary, path) < 0) {
    int saved = errno;

    (void)g_unlink(temporary);
    errno = saved;
    goto failed;
  }
  prune(codec, cache_dir, path);
  return 0;

failed:
  codec_log(codec, DG_LOG_WARN, "codec.index_not_kept", "path=%s error=\"%s\"", path,
            g_strerror(errno));
  return -1;
}
