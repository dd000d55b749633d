/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "indexfile.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/mapguard.h"

#include "common/banned.h"

#define MAGIC UINT64_C(0x3158444953464744) /* "DGFSIDX1", little-endian */
#define BUFFER_BYTES (256u * 1024u)
#define ROW_HEAD 5u
#define TEXT_MAX 4096u /* no segment, no name is as long */

struct dg_indexfile_header {
  uint64_t magic;
  struct dg_indexfile_stamp stamp;
  uint64_t count, offsets_at, file_size, body_hash;
  uint64_t reserved[3];
  uint64_t header_hash; /* of what stands before it */
};
G_STATIC_ASSERT(sizeof(struct dg_indexfile_header) == 120);

/* Rows begin here. */
#define BODY_AT 128u

struct dg_indexfile {
  atomic_int refs;
  int fd;
  struct dg_indexfile_header header;
  const uint8_t *map;
  struct dg_mapguard *guard;
  const uint64_t *offsets;
};

struct dg_indexfile_writer {
  int fd, errnum;
  uint64_t at; /* bytes of the file so far, the buffer included */
  GArray *offsets;
  XXH3_state_t *hash;
  size_t buffered;
  uint8_t buffer[BUFFER_BYTES];
};

static uint64_t header_hash(const struct dg_indexfile_header *header)
{
  return XXH3_64bits(header, offsetof(struct dg_indexfile_header, header_hash));
}

struct dg_indexfile_writer *dg_indexfile_writer_new(int fd)
{
  struct dg_indexfile_writer *writer = g_malloc(sizeof *writer);

  writer->fd = fd;
  writer->errnum = 0;
  writer->at = BODY_AT;
  writer->offsets = g_array_new(FALSE, FALSE, sizeof(uint64_t));
  writer->hash = XXH3_createState();
  (void)XXH3_64bits_reset(writer->hash);
  writer->buffered = 0;
  return writer;
}

static int write_at(int fd, const void *data, size_t len, uint64_t at)
{
  const char *from = data;

  while (len) {
    ssize_t put = pwrite(fd, from, len, (off_t)at);

    if (put < 0 && errno == EINTR)
      continue;
    if (put < 0)
      return errno;
    from += put;
    at += (uint64_t)put;
    len -= (size_t)put;
  }
  return 0;
}

static void flush(struct dg_indexfile_writer *writer)
{
  if (!writer->errnum && writer->buffered)
    writer->errnum =
      write_at(writer->fd, writer->buffer, writer->buffered, writer->at - writer->buffered);
  (void)XXH3_64bits_update(writer->hash, writer->buffer, writer->buffered);
  writer->buffered = 0;
}

static void append(struct dg_indexfile_writer *writer, const void *data, size_t len)
{
  const uint8_t *from = data;

  while (len) {
    size_t part = MIN(len, BUFFER_BYTES - writer->buffered);

    memcpy(writer->buffer + writer->buffered, from, part);
    writer->buffered += part;
    writer->at += part;
    from += part;
    len -= part;
    if (writer->buffered == BUFFER_BYTES)
      flush(writer);
  }
}

void dg_indexfile_add(struct dg_indexfile_writer *writer, const struct dg_fs_entry *entry)
{
  uint16_t lengths[2] = {(uint16_t)entry->sort.len, (uint16_t)entry->disk.len};
  uint8_t kind = (uint8_t)entry->kind;

  g_array_append_val(writer->offsets, writer->at);
  append(writer, lengths, sizeof lengths);
  append(writer, &kind, 1);
  append(writer, entry->sort.data, entry->sort.len);
  append(writer, entry->disk.data, entry->disk.len);
}

void dg_indexfile_writer_abort(struct dg_indexfile_writer *writer)
{
  if (!writer)
    return;
  dg_fs_close_fd(&writer->fd);
  g_array_unref(writer->offsets);
  (void)XXH3_freeState(writer->hash);
  g_free(writer);
}

static int map_file(int fd, const struct dg_indexfile_header *header,
                    struct dg_indexfile **ret_file, struct dg_error *err)
{
  struct dg_indexfile *file;
  void *map = mmap(NULL, header->file_size, PROT_READ, MAP_SHARED, fd, 0);

  if (map == MAP_FAILED)
    return dg_fs_fail(err, errno, "map a directory index");
  file = g_new0(struct dg_indexfile, 1);
  atomic_init(&file->refs, 1);
  file->fd = fd;
  file->header = *header;
  file->map = map;
  file->guard = dg_mapguard_add(map, header->file_size, PROT_READ);
  file->offsets = (const uint64_t *)(const void *)(file->map + header->offsets_at);
  *ret_file = file;
  return 0;
}

int dg_indexfile_finish(struct dg_indexfile_writer *writer, const struct dg_indexfile_stamp *stamp,
                        struct dg_indexfile **ret_file, struct dg_error *err)
{
  static const uint8_t zeros[8];
  struct dg_indexfile_header header = {.magic = MAGIC, .count = writer->offsets->len};
  int rc;

  append(writer, zeros, (8 - writer->at % 8) % 8);
  header.offsets_at = writer->at;
  append(writer, writer->offsets->data, writer->offsets->len * sizeof(uint64_t));
  flush(writer);
  header.file_size = writer->at;
  header.body_hash = XXH3_64bits_digest(writer->hash);
  if (stamp)
    header.stamp = *stamp;
  header.header_hash = header_hash(&header);
  if (!writer->errnum)
    writer->errnum = write_at(writer->fd, &header, sizeof header, 0);
  if (!writer->errnum && header.file_size == BODY_AT && ftruncate(writer->fd, BODY_AT) < 0)
    writer->errnum = errno;
  if (writer->errnum)
    rc = dg_fs_fail(err, writer->errnum, "write a directory index");
  else
    rc = map_file(writer->fd, &header, ret_file, err);
  if (rc == 0)
    writer->fd = -1;
  dg_indexfile_writer_abort(writer);
  return rc;
}

/* Everything a reader relies on, so that no later access leaves the map. */
static bool body_is_sound(const struct dg_indexfile *file)
{
  const struct dg_indexfile_header *header = &file->header;

  if (XXH3_64bits(file->map + BODY_AT, header->file_size - BODY_AT) != header->body_hash)
    return false;
  for (uint64_t i = 0; i < header->count; i++) {
    uint64_t at = file->offsets[i];
    uint16_t lengths[2];

    if (at < BODY_AT || at > header->offsets_at - ROW_HEAD)
      return false;
    memcpy(lengths, file->map + at, sizeof lengths);
    if (header->offsets_at - at - ROW_HEAD < (uint64_t)lengths[0] + lengths[1])
      return false;
  }
  return true;
}

int dg_indexfile_map(int fd, struct dg_indexfile **ret_file, struct dg_error *err)
{
  struct dg_indexfile_header header;
  DG_FS_AUTO_FD held = fd;
  struct dg_indexfile *file;
  struct stat stat;

  if (fstat(fd, &stat) < 0 || pread(fd, &header, sizeof header, 0) != sizeof header ||
      header.magic != MAGIC || header.header_hash != header_hash(&header) ||
      header.file_size != (uint64_t)stat.st_size || header.offsets_at < BODY_AT ||
      header.offsets_at % 8 || header.offsets_at > header.file_size ||
      (header.file_size - header.offsets_at) / 8 != header.count ||
      (header.count && header.offsets_at < BODY_AT + ROW_HEAD))
    return dg_fail(err, DG_E_CORRUPT, "not a directory index");
  if (map_file(fd, &header, &file, err) < 0)
    return -1;
  held = -1;
  if (!body_is_sound(file)) {
    dg_indexfile_unref(file);
    return dg_fail(err, DG_E_CORRUPT, "a damaged directory index");
  }
  *ret_file = file;
  return 0;
}

struct dg_indexfile *dg_indexfile_ref(struct dg_indexfile *file)
{
  (void)atomic_fetch_add(&file->refs, 1);
  return file;
}

void dg_indexfile_unref(struct dg_indexfile *file)
{
  if (!file || atomic_fetch_sub(&file->refs, 1) != 1)
    return;
  dg_mapguard_remove(file->guard);
  (void)munmap((void *)(uintptr_t)file->map, file->header.file_size);
  dg_fs_close_fd(&file->fd);
  g_free(file);
}

int dg_indexfile_restamp(struct dg_indexfile *file, const struct dg_indexfile_stamp *stamp,
                         struct dg_error *err)
{
  int errnum;

  file->header.stamp = *stamp;
  file->header.header_hash = header_hash(&file->header);
  errnum = write_at(file->fd, &file->header, sizeof file->header, 0);
  return errnum ? dg_fs_fail(err, errnum, "write a directory index") : 0;
}

const struct dg_indexfile_stamp *dg_indexfile_stamp(const struct dg_indexfile *file)
{
  return &file->header.stamp;
}

bool dg_indexfile_is_hurt(const struct dg_indexfile *file)
{
  struct stat stat;

  /* Zeros stand for what is cut from the last page; only what lies beyond it
   * faults. */
  return dg_mapguard_is_hurt(file->guard) || fstat(file->fd, &stat) < 0 ||
         (uint64_t)stat.st_size != file->header.file_size;
}

uint64_t dg_indexfile_count(const struct dg_indexfile *file)
{
  return file->header.count;
}

struct dg_fs_entry dg_indexfile_at(const struct dg_indexfile *file, uint64_t number)
{
  static const struct dg_fs_entry none = {{"", 0}, {"", 0}, 0};
  uint64_t at = file->offsets[number], end = file->header.offsets_at;
  const uint8_t *row;
  const char *text;
  uint16_t lengths[2];

  /* What was sound at first may be zeros by now, or an offset cut in two. */
  if (at < BODY_AT || at > end - ROW_HEAD)
    return none;
  row = file->map + at;
  text = (const char *)row + ROW_HEAD;
  memcpy(lengths, row, sizeof lengths);
  if (lengths[0] > TEXT_MAX || lengths[1] > TEXT_MAX ||
      end - at - ROW_HEAD < (uint64_t)lengths[0] + lengths[1])
    return none;
  return (struct dg_fs_entry){{text, lengths[0]}, {text + lengths[0], lengths[1]}, row[4]};
}

uint64_t dg_indexfile_bound(const struct dg_indexfile *file, const struct dg_fs_entry *entry,
                            bool after)
{
  uint64_t low = 0, high = file->header.count;

  while (low < high) {
    uint64_t middle = low + (high - low) / 2;
    struct dg_fs_entry there = dg_indexfile_at(file, middle);
    int order = dg_fs_entry_compare(&there, entry);

    if (order < 0 || (after && order == 0))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}
