/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "metaio.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "metajson.h"

#include "common/banned.h"

/* The kernel's own limit on one attribute. */
#define XATTR_MAX 65536u

void dg_fs_validator(const struct stat *stat, struct dg_fs_validator *ret_validator)
{
  memset(ret_validator, 0, sizeof *ret_validator);
  ret_validator->device = (uint64_t)stat->st_dev;
  ret_validator->inode = (uint64_t)stat->st_ino;
  ret_validator->size = (uint64_t)stat->st_size;
  ret_validator->mtime_s = stat->st_mtim.tv_sec;
  ret_validator->mtime_ns = (uint32_t)stat->st_mtim.tv_nsec;
  ret_validator->ctime_s = stat->st_ctim.tv_sec;
  ret_validator->ctime_ns = (uint32_t)stat->st_ctim.tv_nsec;
}

static void put_le(uint8_t *out, uint64_t value, unsigned bytes)
{
  for (unsigned i = 0; i < bytes; i++)
    out[i] = (uint8_t)(value >> (8 * i));
}

void dg_fs_unmanaged_etag(uint64_t size, int64_t mtime_s, uint32_t mtime_ns, char out[static 33])
{
  static const char label[] = "dg-unmanaged-etag-v1"; /* with its NUL */
  uint8_t text[sizeof label + 20], digest[EVP_MAX_MD_SIZE];
  unsigned digest_len = 0;

  if (size == 0) {
    memcpy(out, "d41d8cd98f00b204e9800998ecf8427e", 33);
    return;
  }
  memcpy(text, label, sizeof label);
  put_le(text + sizeof label, size, 8);
  put_le(text + sizeof label + 8, (uint64_t)mtime_s, 8);
  put_le(text + sizeof label + 16, mtime_ns, 4);
  (void)EVP_Digest(text, sizeof text, digest, &digest_len, EVP_sha256(), NULL);
  for (unsigned i = 0; i < 16; i++)
    (void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static int fill_unmanaged(const struct dg_fs *fs, const struct stat *stat, uint32_t variant,
                          struct dg_meta *meta, struct dg_error *err)
{
  char etag[33];

  dg_fs_unmanaged_etag((uint64_t)stat->st_size, stat->st_mtim.tv_sec,
                       (uint32_t)stat->st_mtim.tv_nsec, etag);
  meta->flags |= DG_META_UNMANAGED;
  meta->variant = variant;
  meta->file_size = (uint64_t)stat->st_size;
  meta->created_at_s = stat->st_mtim.tv_sec;
  meta->created_at_ns = (uint32_t)stat->st_mtim.tv_nsec;
  return fs->host->meta_set(meta, DG_FIELD_UNMANAGED_ETAG, (struct dg_slice){etag, 32}, err);
}

static int begins_as_vcdiff(int fd, bool *ret_yes, struct dg_error *err)
{
  static const uint8_t magic[3] = {0xD6, 0xC3, 0xC4};
  uint8_t head[sizeof magic];
  ssize_t got = pread(fd, head, sizeof head, 0);

  if (got < 0)
    return dg_fs_fail(err, errno, "read the head of a delta without metadata");
  *ret_yes = got == sizeof head && memcmp(head, magic, sizeof magic) == 0;
  return 0;
}

static uint32_t variant_of(enum dg_fs_role role)
{
  return role == DG_FS_ROLE_DELTA       ? DG_VARIANT_DELTA
         : role == DG_FS_ROLE_REFERENCE ? DG_VARIANT_REFERENCE
                                        : DG_VARIANT_PASSTHROUGH;
}

/* The attribute in `buffer`, or in *ret_heap when it is longer; its length, or
 * -1 with errno. */
static ssize_t read_attribute(int fd, char *buffer, size_t capacity, char **ret_heap)
{
  ssize_t len = fgetxattr(fd, DG_FS_XATTR_META, buffer, capacity);

  if (len >= 0 || errno != ERANGE)
    return len;
  *ret_heap = g_malloc(XATTR_MAX);
  return fgetxattr(fd, DG_FS_XATTR_META, *ret_heap, XATTR_MAX);
}

/* Metadata that belongs to another kind of file than the name says. */
static bool misplaced(enum dg_fs_role role, uint32_t variant)
{
  return role != DG_FS_ROLE_REFERENCE && variant != variant_of(role);
}

static void mark_corrupt(const struct dg_fs *fs, const struct stat *stat, enum dg_fs_role role,
                         struct dg_slice name, const char *why, struct dg_meta *meta)
{
  meta->flags = DG_META_CORRUPT;
  meta->variant = variant_of(role);
  meta->file_size = (uint64_t)stat->st_size;
  meta->created_at_s = stat->st_mtim.tv_sec;
  meta->created_at_ns = (uint32_t)stat->st_mtim.tv_nsec;
  dg_fs_log(fs, DG_LOG_WARN, "fs.metadata.corrupt", "name=\"%.*s\" inode=%ju why=\"%s\"",
            (int)MIN(name.len, 200), name.len ? name.data : "", (uintmax_t)stat->st_ino, why);
}

static int load_managed(const struct dg_fs *fs, const struct stat *stat, char *json, size_t len,
                        enum dg_fs_role role, struct dg_slice name, struct dg_meta *meta,
                        struct dg_error *err)
{
  struct dg_error why;

  if (!dg_fs_json_unseal(json, &len)) {
    mark_corrupt(fs, stat, role, name,
                 "its checksum dg_sum is another one: it was damaged, or edited with dg_sum left in",
                 meta);
    return 0;
  }
  if (dg_fs_json_read(fs->host, (struct dg_slice){json, len}, meta, &why) < 0) {
    mark_corrupt(fs, stat, role, name, why.detail, meta);
    return 0;
  }
  if (role == DG_FS_ROLE_REFERENCE && meta->variant != DG_VARIANT_REFERENCE)
    return fill_unmanaged(fs, stat, DG_VARIANT_REFERENCE, meta, err);
  if (misplaced(role, meta->variant)) {
    mark_corrupt(fs, stat, role, name, "metadata of another kind of file", meta);
    return 0;
  }
  if (!meta->original_name.len && role != DG_FS_ROLE_REFERENCE && name.len)
    return fs->host->meta_set(meta, DG_FIELD_ORIGINAL_NAME, name, err);
  return 0;
}

int dg_fs_meta_load(const struct dg_fs *fs, int fd, const struct stat *stat, enum dg_fs_role role,
                    struct dg_slice name, struct dg_meta *meta, struct dg_error *err)
{
  struct dg_fs_validator validator;
  g_autofree char *heap = NULL;
  char buffer[4096];
  ssize_t len = read_attribute(fd, buffer, sizeof buffer, &heap);
  int rc;

  if (len < 0 && errno != ENODATA && errno != ENOTSUP)
    return dg_fs_fail(err, errno, "read attribute " DG_FS_XATTR_META);
  if (len >= 0) {
    rc = load_managed(fs, stat, heap ? heap : buffer, (size_t)len, role, name, meta, err);
  } else {
    bool vcdiff = false;

    if (role == DG_FS_ROLE_DELTA && begins_as_vcdiff(fd, &vcdiff, err) < 0)
      return -1;
    if (vcdiff) {
      mark_corrupt(fs, stat, role, name, "a VCDIFF file that lost its metadata", meta);
      rc = 0;
    } else {
      rc = fill_unmanaged(fs, stat, variant_of(role), meta, err);
    }
  }
  if (rc < 0)
    return -1;
  meta->stored_size = (uint64_t)stat->st_size;
  dg_fs_validator(stat, &validator);
  return fs->host->meta_set(meta, DG_FIELD_VALIDATOR,
                            (struct dg_slice){(const char *)&validator, sizeof validator}, err);
}

/* ext4 says ENOSPC both when the disk is full and when attributes outgrow
 * their block; only the first goes away by freeing space. */
static bool too_large(int fd, int errnum)
{
  struct statvfs vfs;

  if (errnum == E2BIG || errnum == ERANGE)
    return true;
  return errnum == ENOSPC && fstatvfs(fd, &vfs) == 0 && vfs.f_bavail > 16 && vfs.f_favail > 0;
}

static int store_json(int fd, const struct dg_meta *meta, unsigned flags, struct dg_error *err)
{
  g_autoptr(GString) json = g_string_sized_new(1024);
  int errnum;

  if (dg_fs_json_write(meta, flags, json, err) < 0)
    return -1;
  dg_fs_json_seal(json);
  if (fsetxattr(fd, DG_FS_XATTR_META, json->str, json->len, 0) == 0)
    return 0;
  errnum = errno;
  if (too_large(fd, errnum))
    return dg_fail(err, DG_E_METADATA_TOO_LARGE,
                   "%zu bytes of metadata do not fit this filesystem's attributes: send less "
                   "user metadata",
                   json->len);
  return dg_fs_fail(err, errnum, "write attribute " DG_FS_XATTR_META);
}

int dg_fs_meta_store(const struct dg_fs *fs, int fd, const struct dg_meta *meta, const char *step,
                     struct dg_error *err)
{
  /* What is missed least goes first. */
  static const unsigned tries[] = {0, DG_FS_JSON_TERSE, DG_FS_JSON_NO_PART_SIZES,
                                   DG_FS_JSON_TERSE | DG_FS_JSON_NO_PART_SIZES};
  int errnum = dg_fs_step(fs, step);

  if (errnum == E2BIG)
    return dg_fail(err, DG_E_METADATA_TOO_LARGE, "metadata does not fit: %s", g_strerror(errnum));
  if (errnum)
    return dg_fs_fail(err, errnum, "write attribute " DG_FS_XATTR_META);
  for (size_t i = 0; i < G_N_ELEMENTS(tries); i++) {
    if (store_json(fd, meta, tries[i], err) == 0)
      return 0;
    if (err->code != DG_E_METADATA_TOO_LARGE)
      return -1;
  }
  return -1;
}

int dg_fs_mark_store(const struct dg_fs *fs, int fd, struct dg_slice segment, struct dg_error *err)
{
  (void)fs;
  if (!segment.data) {
    if (fremovexattr(fd, DG_FS_XATTR_NAME) < 0 && errno != ENODATA)
      return dg_fs_fail(err, errno, "remove attribute " DG_FS_XATTR_NAME);
    return 0;
  }
  if (fsetxattr(fd, DG_FS_XATTR_NAME, segment.data, segment.len, 0) < 0) {
    int errnum = errno;

    if (too_large(fd, errnum))
      return dg_fail(err, DG_E_METADATA_TOO_LARGE,
                     "a name of %zu bytes does not fit this filesystem's attributes", segment.len);
    return dg_fs_fail(err, errnum, "write attribute " DG_FS_XATTR_NAME);
  }
  return 0;
}

int dg_fs_stamp(struct dg_fs *fs, int fd, struct dg_error *err)
{
  struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
  int64_t last = atomic_load_explicit(&fs->last_stamp_ns, memory_order_relaxed), stamp;

  do {
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    stamp = MAX((int64_t)now.tv_sec * 1000000000 + now.tv_nsec, last + 1);
  } while (!atomic_compare_exchange_weak(&fs->last_stamp_ns, &last, stamp));
  times[1].tv_sec = stamp / 1000000000;
  times[1].tv_nsec = stamp % 1000000000;
  return futimens(fd, times) < 0 ? dg_fs_fail(err, errno, "set a file's time") : 0;
}
