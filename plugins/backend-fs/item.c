/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "item.h"

#include <errno.h>
#include <unistd.h>

#include "metaio.h"
#include "path.h"
#include "reader.h"

#include "common/banned.h"

static int open_item(struct dg_fs *fs, const struct dg_item *item, struct dg_fs_place *ret_place,
                     struct dg_fs_found *ret_found, struct dg_error *err)
{
  int errnum;

  if (dg_fs_place(item, ret_place, err) < 0)
    return -1;
  errnum = dg_fs_step(fs, "fs.get.open");
  if (errnum)
    return dg_fs_fail(err, errnum, "open an item");
  return dg_fs_find(fs, ret_place, 0, ret_found, err);
}

int dg_fs_head(struct dg_fs *fs, const struct dg_item *item, struct dg_meta *meta,
               struct dg_error *err)
{
  struct dg_fs_place place;
  struct dg_fs_found found;
  int rc;

  if (open_item(fs, item, &place, &found, err) < 0)
    return -1;
  rc = dg_fs_meta_load(fs, found.fd, &found.stat, place.role, place.name, meta, err);
  (void)close(found.fd);
  return rc;
}

/* The bytes a range stands for: cut at the end, or DG_E_INVALID_RANGE. */
static int resolve_range(struct dg_range range, uint64_t size, uint64_t *ret_length,
                         struct dg_error *err)
{
  bool wants_some = range.length != 0 && range.length != DG_TO_END;

  if (range.offset > size || (range.offset == size && wants_some))
    return dg_fail(err, DG_E_INVALID_RANGE,
                   "bytes %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                   " of an item that has %" G_GUINT64_FORMAT,
                   range.offset, range.length, size);
  *ret_length = MIN(range.length, size - range.offset);
  return 0;
}

int dg_fs_get(struct dg_fs *fs, const struct dg_item *item, struct dg_range range,
              struct dg_meta *meta, struct dg_reader **ret_reader, struct dg_error *err)
{
  struct dg_fs_place place;
  struct dg_fs_found found;
  uint64_t length = 0;

  if (open_item(fs, item, &place, &found, err) < 0)
    return -1;
  if (dg_fs_meta_load(fs, found.fd, &found.stat, place.role, place.name, meta, err) < 0 ||
      resolve_range(range, (uint64_t)found.stat.st_size, &length, err) < 0) {
    (void)close(found.fd);
    return -1;
  }
  *ret_reader = dg_fs_reader_new(fs, found.fd, range.offset, length);
  return 0;
}

static int replace_meta(struct dg_fs *fs, int fd, const struct dg_meta *meta, struct dg_error *err)
{
  int errnum;

  /* Time after attribute: whoever cached the old text under the new time
   * would never look again, the other way round they merely look once more. */
  if (dg_fs_meta_store(fs, fd, meta, "fs.meta.xattr", err) < 0 || dg_fs_stamp(fs, fd, err) < 0)
    return -1;
  errnum = dg_fs_step(fs, "fs.meta.fsync");
  if (!errnum && fsync(fd) < 0)
    errnum = errno;
  if (errnum)
    return dg_fs_fail(err, errnum, "sync changed metadata");
  (void)dg_fs_step(fs, "fs.meta.done");
  return 0;
}

int dg_fs_set_meta(struct dg_fs *fs, const struct dg_item *item, const struct dg_meta *meta,
                   struct dg_error *err)
{
  pthread_rwlock_t *lock = dg_fs_bucket_lock(fs, item->bucket);
  struct dg_fs_place place;
  struct dg_fs_found found;
  int rc;

  if (dg_fs_place(item, &place, err) < 0)
    return -1;
  (void)pthread_rwlock_rdlock(lock);
  rc = dg_fs_find(fs, &place, 0, &found, err);
  if (rc == 0) {
    rc = replace_meta(fs, found.fd, meta, err);
    (void)close(found.fd);
  }
  (void)pthread_rwlock_unlock(lock);
  return rc;
}

int dg_fs_validate(struct dg_fs *fs, const struct dg_item *item, struct dg_slice validator,
                   int32_t *ret_same, struct dg_error *err)
{
  struct dg_fs_validator now;
  struct dg_fs_place place;
  struct dg_fs_found found;

  if (dg_fs_place(item, &place, err) < 0)
    return -1;
  if (dg_fs_find(fs, &place, 0, &found, err) < 0) {
    if (err->code != DG_E_NO_SUCH_KEY && err->code != DG_E_NO_SUCH_BUCKET)
      return -1;
    *ret_same = 0;
    return 0;
  }
  (void)close(found.fd);
  dg_fs_validator(&found.stat, &now);
  *ret_same = validator.len == sizeof now && memcmp(validator.data, &now, sizeof now) == 0;
  return 0;
}
