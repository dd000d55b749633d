/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/codec-xdelta3/index-file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/banned.h"

#define FILE_VERSION    2u
#define BYTE_ORDER_MARK 0x01020304u

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

char *index_path(const char *cache_dir, const struct dg_codec_ref *ref, const char *suffix)
{
  char hex[2 * sizeof ref->sha256 + 1];

  for (size_t i = 0; i < sizeof ref->sha256; i++)
    g_snprintf(hex + 2 * i, 3, "%02x", ref->sha256[i]);
  return g_strdup_printf("%s/%s" INDEX_SUFFIX "%s", cache_dir, hex, suffix);
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

static void digest_header(struct index_header *header, XXH128_hash_t table_digest)
{
  header->table_digest = table_digest;
  header->header_digest = XXH3_64bits(header, offsetof(struct index_header, header_digest));
}

void index_seal(const struct dg_codec_ref *ref, XXH128_hash_t table_digest,
                uint8_t page[INDEX_HEADER_SIZE])
{
  struct index_header header;

  make_header(ref, &header);
  digest_header(&header, table_digest);
  memset(page, 0, INDEX_HEADER_SIZE);
  memcpy(page, &header, sizeof header);
}

void index_adopt(struct dg_codec_ref *ref, uint8_t *map, struct dg_mapguard *guard)
{
  ref->table = map;
  ref->table_guard = guard;
  ref->table_size = INDEX_HEADER_SIZE + (size_t)dg_index_table_bytes(&ref->index.shape);
  ref->anonymous_size = 0;
  ref->index.buckets = (const uint32_t *)(const void *)(map + INDEX_HEADER_SIZE);
}

int codec_index_load(const struct codec *codec, const char *cache_dir, struct dg_codec_ref *ref)
{
  g_autofree char *path = index_path(cache_dir, ref, "");
  size_t table_size = (size_t)dg_index_table_bytes(&ref->index.shape);
  struct index_header expected;
  struct dg_mapguard *guard;
  struct stat st;
  uint8_t *map;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

  if (fd < 0)
    return -1;
  if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != INDEX_HEADER_SIZE + (uint64_t)table_size)
    goto damaged;
  map = mmap(NULL, INDEX_HEADER_SIZE + table_size, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    (void)close(fd);
    return -1;
  }
  guard = dg_mapguard_add(map, INDEX_HEADER_SIZE + table_size, PROT_READ);
  /* Read once from end to end here, at random ever after. */
  (void)madvise(map, INDEX_HEADER_SIZE + table_size, MADV_WILLNEED);
  make_header(ref, &expected);
  digest_header(&expected, XXH3_128bits(map + INDEX_HEADER_SIZE, table_size));
  if (memcmp(map, &expected, sizeof expected) != 0) {
    dg_mapguard_remove(guard);
    (void)munmap(map, INDEX_HEADER_SIZE + table_size);
    goto damaged;
  }
  (void)futimens(fd, NULL); /* used now: see index_prune() */
  (void)close(fd);
  index_adopt(ref, map, guard);
  return 0;

damaged:
  codec_log(codec, DG_LOG_WARN, "codec.index_damaged", "path=%s action=rebuild", path);
  (void)g_unlink(path);
  (void)close(fd);
  return -1;
}
