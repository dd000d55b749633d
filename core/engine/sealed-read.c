/* SPDX-License-Identifier: Apache-2.0 */
/* The layer's get(): which bytes to ask for, what came, what to make of it. */
#include "config.h"

#include "core/engine/sealed-internal.h"

#include <errno.h>
#include <unistd.h>

#include "common/meta.h"
#include "common/slice.h"
#include "core/engine/internal.h"
#include "core/engine/readers.h"

#include "common/banned.h"

#define ATTEMPTS 4          /* an item may be replaced between two requests */
#define MAGIC "DGE1"
#define MAGIC_LEN 4u
#define SMALLEST_BODY 36u   /* that begins with it: the sealed empty body */

/* One get() under way. */
struct opening {
  struct dg_sealed *sealed;
  const struct dg_call *call;
  const struct dg_item *item;
  struct dg_range plain;      /* as asked by the engine */
  struct dg_meta *meta;       /* the engine's, with marks for now */
  struct dg_range stored;     /* what reader is over */
  struct dg_reader *reader;   /* owned; NULL: none, or given away */
  bool changed;               /* another version came: begin anew */
};

static void drop_reader(struct opening *o)
{
  dg_reader_close(o->reader);
  o->reader = NULL;
}

static bool same_range(struct dg_range a, struct dg_range b)
{
  return a.offset == b.offset && a.length == b.length;
}

static int request(struct opening *o, struct dg_range stored, struct dg_error *err)
{
  drop_reader(o);
  dg_meta_clear(o->meta);
  o->stored = stored;
  if (dg_backend_get(o->sealed->inner, o->call, o->item, stored, o->meta, &o->reader, err) == 0)
    return 0;
  o->reader = NULL;
  return -1;
}

/* A second look at the same version, for a few bytes elsewhere. */
static int request_more(struct opening *o, struct dg_range stored, struct dg_reader **ret_reader,
                        struct dg_error *err)
{
  struct dg_meta *now = dg_meta_new();
  struct dg_reader *reader;
  int rc = dg_backend_get(o->sealed->inner, o->call, o->item, stored, now, &reader, err);

  if (rc == 0 && !dg_meta_same_version(o->meta, now)) {
    dg_reader_close(reader);
    o->changed = true;
    rc = dg_fail(err, DG_E_SLOW_DOWN, "the object keeps changing while it is opened");
  } else if (rc < 0 && err->code == DG_E_NO_SUCH_KEY) {
    o->changed = true;
  }
  dg_meta_unref(now);
  if (rc == 0)
    *ret_reader = reader;
  return rc;
}

/* ---- Sealed -------------------------------------------------------------------------- */

/* Up to where the item ends. */
static uint64_t end_of(struct dg_range range, uint64_t size)
{
  return range.length > size - MIN(range.offset, size) ? size : range.offset + range.length;
}

static int fetch(void *receiver, struct dg_range stored, struct dg_reader **ret_reader,
                 struct dg_error *err)
{
  struct opening *o = receiver;
  uint64_t size = o->meta->stored_size;

  if (o->reader && stored.offset == o->stored.offset &&
      end_of(stored, size) == end_of(o->stored, size)) {
    *ret_reader = g_steal_pointer(&o->reader);
    return 0;
  }
  return request_more(o, stored, ret_reader, err);
}

/* Without any crypt: as a crypt without keys would say it. */
static int refuse_unreadable(const struct opening *o, struct dg_error *err)
{
  struct dg_slice id = dg_meta_user(o->meta, DG_MARK_KEY_ID);
  struct dg_slice algorithm = dg_meta_user(o->meta, DG_MARK_ALGORITHM);

  if (o->sealed->crypt)
    return dg_fail(err, DG_E_INTERNAL, "object is encrypted as '%.*s', which %s does not read",
                   (int)MIN(algorithm.len, 64), algorithm.data,
                   dg_crypt_plugin_name(o->sealed->crypt));
  if (id.len == 0)
    return dg_fail(err, DG_E_INTERNAL, "object is encrypted but no key is configured");
  return dg_fail(err, DG_E_INTERNAL,
                 "object was encrypted with key id '%.*s', but this backend has NO encryption key "
                 "configured. Configure the key it was written with.",
                 (int)MIN(id.len, 64), id.data);
}

/* Bytes of plaintext the metadata promises of the stored body; DG_TO_END: none. */
static uint64_t promised_size(const struct dg_meta *meta, uint32_t variant)
{
  if (meta->flags & (DG_META_UNMANAGED | DG_META_CORRUPT))
    return DG_TO_END;
  return variant == DG_VARIANT_DELTA ? meta->delta_size : meta->file_size;
}

static int open_sealed(struct opening *o, struct dg_reader **ret_reader, struct dg_error *err)
{
  uint64_t promised = promised_size(o->meta, o->item->variant), plain_size = DG_TO_END;
  struct dg_unseal_params params = {
    .struct_size = sizeof params, .meta = o->meta, .plain = o->plain, .receiver = o, .fetch = fetch};
  bool wants_some = o->plain.length != 0 && o->plain.length != DG_TO_END;

  if (!o->sealed->crypt || !dg_crypt_sealed(o->sealed->crypt, o->meta, &plain_size))
    return refuse_unreadable(o, err);
  if (plain_size == DG_TO_END || (promised != DG_TO_END && promised != plain_size))
    return dg_fail(err, DG_E_CORRUPT,
                   "%" G_GUINT64_FORMAT " sealed bytes are stored, which cannot hold the %"
                   G_GUINT64_FORMAT " that the metadata promises",
                   o->meta->stored_size, promised);
  if (o->plain.offset > plain_size || (o->plain.offset == plain_size && wants_some))
    return dg_fail(err, DG_E_INVALID_RANGE,
                   "byte %" G_GUINT64_FORMAT " of an item that has %" G_GUINT64_FORMAT,
                   o->plain.offset, plain_size);
  params.plain_size = plain_size;
  params.plain.length = MIN(o->plain.length, plain_size - o->plain.offset);
  if (dg_crypt_unseal(o->sealed->crypt, o->call, &params, ret_reader, err) == 0)
    return 0;
  if (err->code == DG_E_INVALID_RANGE) /* the backend's: the body is shorter than it was */
    err->code = DG_E_CORRUPT;
  return -1;
}

/* ---- Plain, or stripped of its marks ----------------------------------------------------- */

/* A reader with its first bytes put back. */
struct replay_reader {
  struct dg_reader reader;
  struct dg_reader *inner;
  uint8_t head[MAGIC_LEN];
  size_t at, len;
};

static int replay_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                       struct dg_error *err)
{
  struct replay_reader *self = (struct replay_reader *)reader;
  size_t part = MIN(capacity, self->len - self->at);

  if (part == 0)
    return dg_reader_read(self->inner, buffer, capacity, ret_len, err);
  memcpy(buffer, self->head + self->at, part);
  self->at += part;
  *ret_len = part;
  return 0;
}

static void replay_close(struct dg_reader *reader)
{
  struct replay_reader *self = (struct replay_reader *)reader;

  dg_reader_close(self->inner);
  g_free(self);
}

static const struct dg_reader_ops replay_ops = {
  .struct_size = sizeof replay_ops,
  .read = replay_read,
  .close = replay_close,
};

/* The item's first bytes from the reader at hand: a file is looked into, a
 * stream from byte 0 is read and put back. *ret_len 0: it cannot tell. */
static int peek_reader(struct opening *o, uint8_t head[MAGIC_LEN], size_t *ret_len,
                       struct dg_error *err)
{
  struct dg_error unused;
  uint64_t offset, length;
  int32_t fd;

  *ret_len = 0;
  if (dg_reader_file_range(o->reader, &fd, &offset, &length, &unused) == 0) {
    ssize_t got;

    do
      got = pread(fd, head, MAGIC_LEN, (off_t)(offset - o->stored.offset));
    while (got < 0 && errno == EINTR);
    dg_reader_close(o->reader);
    o->reader = dg_file_reader_new(fd, offset, length);
    if (got < 0)
      return dg_fail(err, DG_E_IO, "read the head of an object: %s", g_strerror(errno));
    *ret_len = (size_t)got;
  } else if (o->stored.offset == 0 && o->stored.length >= MAGIC_LEN) {
    struct replay_reader *replay;

    if (dg_reader_read_full(o->reader, head, MAGIC_LEN, ret_len, err) < 0)
      return -1;
    replay = g_new0(struct replay_reader, 1);
    replay->reader.ops = &replay_ops;
    replay->inner = o->reader;
    memcpy(replay->head, head, *ret_len);
    replay->len = *ret_len;
    o->reader = &replay->reader;
  }
  return 0;
}

static int peek(struct opening *o, uint8_t head[MAGIC_LEN], struct dg_error *err)
{
  struct dg_reader *reader;
  size_t len;
  int rc = peek_reader(o, head, &len, err);

  if (rc == 0 && len == 0) {
    rc = request_more(o, (struct dg_range){0, MAGIC_LEN}, &reader, err);
    if (rc == 0) {
      rc = dg_reader_read_full(reader, head, MAGIC_LEN, &len, err);
      dg_reader_close(reader);
    }
  }
  if (rc == 0 && len < MAGIC_LEN)
    memset(head, 0, MAGIC_LEN);
  return rc;
}

/* A body that was written through this server is as long as its metadata says, or
 * marked as plain, whatever it begins with. Others are looked at. */
static int open_plain(struct opening *o, struct dg_reader **ret_reader, struct dg_error *err)
{
  uint8_t head[MAGIC_LEN] = {0};

  if (o->meta->stored_size >= SMALLEST_BODY && !(o->meta->flags & DG_META_PLAIN) &&
      promised_size(o->meta, o->item->variant) != o->meta->stored_size) {
    if (peek(o, head, err) < 0)
      return -1;
    if (memcmp(head, MAGIC, MAGIC_LEN) == 0)
      return dg_fail(err, DG_E_CORRUPT,
                     "object body begins with chunked-encryption magic but metadata has no "
                     "dg-encrypted marker — xattrs may have been stripped during backup/restore. "
                     "Refusing to serve ciphertext as plaintext.");
  }
  *ret_reader = g_steal_pointer(&o->reader);
  return 0;
}

/* ---- get() --------------------------------------------------------------------------------- */

static int open_once(struct opening *o, struct dg_reader **ret_reader, struct dg_error *err)
{
  const struct dg_sealed *sealed = o->sealed;
  struct dg_range guess = sealed->seals_writes
                            ? dg_crypt_locate(sealed->crypt, o->item->variant, o->plain)
                            : o->plain;

  o->changed = false;
  if (request(o, guess, err) < 0 &&
      (err->code != DG_E_INVALID_RANGE || same_range(guess, o->plain) ||
       request(o, o->plain, err) < 0))
    return -1;
  if (!dg_sealed_is_marked(o->meta) && !same_range(o->stored, o->plain)) {
    if (request(o, o->plain, err) < 0)
      return -1;
    if (dg_sealed_is_marked(o->meta)) {
      o->changed = true;
      return dg_fail(err, DG_E_SLOW_DOWN, "the object keeps changing while it is opened");
    }
  }
  return dg_sealed_is_marked(o->meta) ? open_sealed(o, ret_reader, err)
                                      : open_plain(o, ret_reader, err);
}

int dg_sealed_get(void *self, const struct dg_call *call, const struct dg_item *item,
                  struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
                  struct dg_error *err)
{
  struct opening o = {.sealed = self, .call = call, .item = item, .plain = range, .meta = meta};
  int rc = -1;

  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    rc = open_once(&o, ret_reader, err);
    drop_reader(&o);
    if (rc == 0 || !o.changed)
      break;
  }
  if (rc == 0)
    dg_sealed_settle(o.sealed, meta);
  return rc;
}
