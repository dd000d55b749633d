/* SPDX-License-Identifier: Apache-2.0 */
/* GET of a delta: reference from the cache, delta from the backend, windows
 * verified one by one. A delta that others wrote cannot be verified by window:
 * it is decoded whole into the spool and checked before its first byte leaves. */
#include "config.h"

#include "core/engine/internal.h"

#include <errno.h>
#include <unistd.h>

#include "common/hex.h"
#include "core/engine/readers.h"
#include "core/engine/spool.h"

#include "common/banned.h"

#define DELTA_IN_MEMORY (1024u * 1024u) /* a smaller delta without a file is read at once */
#define DELTA_HEAD (256u * 1024u)       /* what is read first of a larger one */
#define SKIP_MAX (256u * 1024u)         /* read and dropped rather than asked for anew */
#define SPOOL_MEMORY_BYTES (1024u * 1024u)

/* ---- The delta's bytes ----------------------------------------------------------- */

/* At rest in memory, in a local file, or on a backend that is asked for ranges: for
 * one that goes on to the end when all of the object is wanted, since windows are
 * decoded in their order, else for each window. */
struct delta_bytes {
  struct dg_source source;
  GBytes *memory; /* all of it, or its first bytes */
  int fd;
  uint64_t fd_offset;
  const struct dg_call *call;
  struct dg_backend *backend;
  char *bucket, *key;
  struct dg_meta *meta; /* of the version that all ranges must belong to */
  bool to_end;
  struct dg_reader *cursor; /* NULL: none is open */
  uint64_t cursor_at;       /* the delta's offset that it gives next */
};

static int read_memory(void *self, uint64_t offset, void *buffer, size_t len, struct dg_error *err)
{
  const struct delta_bytes *bytes = self;
  size_t size;
  const char *data = g_bytes_get_data(bytes->memory, &size);

  if (offset > size || len > size - offset)
    return dg_fail(err, DG_E_CORRUPT, "the delta is too short");
  if (len)
    memcpy(buffer, data + offset, len);
  return 0;
}

static int read_file(void *self, uint64_t offset, void *buffer, size_t len, struct dg_error *err)
{
  const struct delta_bytes *bytes = self;
  char *at = buffer;

  if (offset > bytes->source.size_bytes || len > bytes->source.size_bytes - offset)
    return dg_fail(err, DG_E_CORRUPT, "the delta is too short");
  while (len) {
    ssize_t got = pread(bytes->fd, at, len, (off_t)(bytes->fd_offset + offset));

    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return dg_fail(err, got < 0 ? DG_E_IO : DG_E_CORRUPT, "read of a delta: %s",
                     got < 0 ? g_strerror(errno) : "it is too short");
    at += got;
    offset += (uint64_t)got;
    len -= (size_t)got;
  }
  return 0;
}

static void close_cursor(struct delta_bytes *bytes)
{
  dg_reader_close(g_steal_pointer(&bytes->cursor));
}

/* One request from offset on. A reader over something else than the version of
 * bytes->meta is refused. */
static int open_cursor(struct delta_bytes *bytes, uint64_t offset, uint64_t len,
                       struct dg_error *err)
{
  struct dg_item item = {.bucket = dg_slice_str(bytes->bucket),
                         .key = dg_slice_str(bytes->key),
                         .variant = DG_VARIANT_DELTA};
  struct dg_range range = {offset, bytes->to_end ? DG_TO_END : len};
  struct dg_meta *now = dg_meta_new();
  bool same;

  close_cursor(bytes);
  if (dg_backend_get(bytes->backend, bytes->call, &item, range, now, &bytes->cursor, err) < 0) {
    bytes->cursor = NULL;
    dg_meta_unref(now);
    return -1;
  }
  bytes->cursor_at = offset;
  same = dg_meta_same_version(bytes->meta, now);
  dg_meta_unref(now);
  if (same)
    return 0;
  close_cursor(bytes);
  return dg_fail(err, DG_E_IO, "the object was replaced while it was read");
}

static int skip_to(struct delta_bytes *bytes, uint64_t offset, struct dg_error *err)
{
  g_autofree char *dropped = NULL;
  size_t len = (size_t)(offset - bytes->cursor_at), got = 0;

  if (len == 0)
    return 0;
  dropped = g_malloc(len);
  if (dg_reader_read_full(bytes->cursor, dropped, len, &got, err) < 0)
    return -1;
  bytes->cursor_at += got;
  return got == len ? 0 : dg_fail(err, DG_E_CORRUPT, "the delta is too short");
}

static int read_cursor(struct delta_bytes *bytes, uint64_t offset, void *buffer, size_t len,
                       struct dg_error *err)
{
  size_t got = 0;

  if ((!bytes->cursor || offset < bytes->cursor_at || offset - bytes->cursor_at > SKIP_MAX) &&
      open_cursor(bytes, offset, len, err) < 0)
    return -1;
  if (skip_to(bytes, offset, err) < 0 ||
      dg_reader_read_full(bytes->cursor, buffer, len, &got, err) < 0) {
    close_cursor(bytes);
    return -1;
  }
  bytes->cursor_at += got;
  if (!bytes->to_end || got < len)
    close_cursor(bytes);
  return got == len ? 0 : dg_fail(err, DG_E_CORRUPT, "the delta is too short");
}

static int read_ranges(void *self, uint64_t offset, void *buffer, size_t len, struct dg_error *err)
{
  struct delta_bytes *bytes = self;
  size_t head_len = 0, from_head;
  const char *head = bytes->memory ? g_bytes_get_data(bytes->memory, &head_len) : NULL;

  if (offset > bytes->source.size_bytes || len > bytes->source.size_bytes - offset)
    return dg_fail(err, DG_E_CORRUPT, "the delta is too short");
  from_head = offset < head_len ? MIN(len, head_len - (size_t)offset) : 0;
  if (from_head)
    memcpy(buffer, head + offset, from_head);
  if (from_head == len)
    return 0;
  return read_cursor(bytes, offset + from_head, (char *)buffer + from_head, len - from_head, err);
}

static void delta_bytes_clear(struct delta_bytes *bytes)
{
  g_clear_pointer(&bytes->memory, g_bytes_unref);
  if (bytes->fd >= 0)
    (void)close(bytes->fd);
  bytes->fd = -1;
  close_cursor(bytes);
  g_free(bytes->bucket);
  g_free(bytes->key);
  dg_meta_unref(bytes->meta);
}

/* Reads the first bytes of a delta without a file, up to max. */
static int read_head(struct delta_bytes *bytes, struct dg_reader *reader, size_t max,
                     struct dg_error *err)
{
  char *data = g_malloc(max);
  size_t len = 0;
  int rc = dg_reader_read_full(reader, data, max, &len, err);

  bytes->memory = g_bytes_new_take(data, len);
  return rc;
}

/* Opens the delta, or its first bytes. A layer that has made a file of it anyway
 * (a body sealed in one piece is decrypted whole) is better asked for all at once. */
static int open_first(const struct dg_call *call, const struct dg_route *route,
                      const struct dg_item *item, bool *to_end, struct dg_meta *meta,
                      struct dg_reader **ret_reader, struct dg_error *err)
{
  struct dg_range range = {0, *to_end ? DG_TO_END : DELTA_HEAD};
  struct dg_error refused;
  uint64_t offset, size;
  int32_t fd;

  if (dg_backend_get(route->backend, call, item, range, meta, ret_reader, err) < 0)
    return -1;
  if (*to_end || dg_reader_file_range(*ret_reader, &fd, &offset, &size, &refused) < 0)
    return 0;
  (void)close(fd);
  dg_reader_close(*ret_reader);
  dg_meta_clear(meta);
  *to_end = true;
  return dg_backend_get(route->backend, call, item, (struct dg_range){0, DG_TO_END}, meta,
                        ret_reader, err);
}

/* whole: all of the object will be read. DG_E_NO_SUCH_KEY: not, or no longer, the
 * version that meta describes. */
static int delta_bytes_open(struct delta_bytes *bytes, const struct dg_call *call,
                            const struct dg_route *route, struct dg_slice key,
                            const struct dg_meta *meta, bool whole, struct dg_error *err)
{
  struct dg_item item = dg_route_item(route, key, DG_VARIANT_DELTA);
  bool small = meta->stored_size <= DELTA_IN_MEMORY;
  bool to_end = whole || small || dg_backend_has(route->backend, DG_CAP_LOCAL_FILE);
  struct dg_meta *now = dg_meta_new();
  struct dg_reader *reader;
  int32_t fd;
  int rc = open_first(call, route, &item, &to_end, now, &reader, err);

  if (rc < 0) {
    dg_meta_unref(now);
    return -1;
  }
  bytes->meta = now;
  bytes->source.struct_size = sizeof bytes->source;
  bytes->source.self = bytes;
  if (!dg_meta_same_version(meta, now)) {
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "the object changed while it was opened");
  } else if (dg_reader_file_range(reader, &fd, &bytes->fd_offset, &bytes->source.size_bytes, err) ==
             0) {
    bytes->fd = fd;
    bytes->source.read_at = read_file;
  } else if (small) {
    rc = read_head(bytes, reader, DELTA_IN_MEMORY, err);
    bytes->source.size_bytes = g_bytes_get_size(bytes->memory);
    bytes->source.read_at = read_memory;
  } else {
    rc = read_head(bytes, reader, DELTA_HEAD, err);
    bytes->call = call;
    bytes->backend = route->backend;
    bytes->bucket = g_strdup(route->bucket);
    bytes->key = dg_slice_dup(key);
    bytes->source.size_bytes = meta->stored_size;
    bytes->source.read_at = read_ranges;
    bytes->to_end = whole;
    if (rc == 0 && to_end) {
      bytes->cursor_at = g_bytes_get_size(bytes->memory);
      bytes->cursor = g_steal_pointer(&reader);
    }
  }
  dg_reader_close(reader);
  return rc;
}

/* ---- The reader ---------------------------------------------------------------------- */

struct delta_reader {
  struct dg_reader reader;
  struct dg_engine *engine;
  const struct dg_call *call;
  struct dg_codec *codec;
  struct dg_ref *ref;
  struct delta_bytes delta;
  struct dg_decoder *decoder;
  struct dg_reader *plain; /* the codec's, over the range wanted */
  char *bucket, *key;      /* as the client named them, for reports */
  uint8_t ref_sha256[32];
  gint64 decode_us;
};

static int decode_step(struct delta_reader *self, struct dg_reader *plain, void *buffer,
                       size_t capacity, size_t *ret_len, struct dg_error *err)
{
  gint64 start_us;
  int rc;

  if (dg_permits_take(self->engine->permits, self->call, DG_PERMIT_WAIT_GET_MS, err) < 0)
    return -1;
  start_us = g_get_monotonic_time();
  rc = dg_reader_read(plain, buffer, capacity, ret_len, err);
  self->decode_us += g_get_monotonic_time() - start_us;
  dg_permits_give(self->engine->permits);
  if (rc < 0 && (err->code == DG_E_CORRUPT || err->code == DG_E_LIMIT)) {
    err->code = DG_E_CORRUPT;
    dg_refcache_evict(self->engine->refs, self->ref_sha256);
  }
  return rc;
}

static int delta_read(struct dg_reader *reader, void *buffer, size_t capacity, size_t *ret_len,
                      struct dg_error *err)
{
  struct delta_reader *self = (struct delta_reader *)reader;
  int rc = decode_step(self, self->plain, buffer, capacity, ret_len, err);

  if (rc < 0 && err->code == DG_E_CORRUPT)
    dg_engine_report_corrupt(self->engine, dg_slice_str(self->bucket), dg_slice_str(self->key),
                             "delta", err);
  return rc;
}

static void delta_close(struct dg_reader *reader)
{
  struct delta_reader *self = (struct delta_reader *)reader;

  dg_reader_close(self->plain);
  if (self->decoder)
    dg_codec_decode_close(self->codec, self->decoder);
  if (self->decode_us)
    dg_metrics_observe(self->engine->metrics, DG_METRIC_DELTA_DECODE_DURATION_SECONDS, NULL, NULL,
                       (double)self->decode_us / 1e6);
  delta_bytes_clear(&self->delta);
  dg_ref_close(self->ref);
  g_free(self->bucket);
  g_free(self->key);
  g_free(self);
}

static const struct dg_reader_ops delta_ops = {
  .struct_size = sizeof delta_ops,
  .read = delta_read,
  .close = delta_close,
};

/* Decodes everything into the spool, checks it, and reads the range from there. */
static int open_unverified(struct delta_reader *self, const struct dg_meta *meta,
                           struct dg_range range, const uint8_t sha256[32], bool *ret_deferred,
                           struct dg_reader **ret_reader, struct dg_error *err)
{
  struct dg_engine *engine = self->engine;
  struct dg_spool *spool =
    dg_spool_new(engine->spool_dir, engine->spool_budget, SPOOL_MEMORY_BYTES);
  g_autofree char *buffer = g_malloc(DG_STREAM_CHUNK);
  struct dg_checksum sum = {0};
  uint8_t actual[DG_SUM_MAX_BYTES];
  struct dg_reader *plain = NULL;
  int rc = dg_spool_reserve(spool, self->call, meta->file_size, ret_deferred, err);

  if (rc == 0)
    rc = dg_codec_decode_range(self->codec, self->decoder, (struct dg_range){0, meta->file_size},
                               &plain, err);
  dg_checksum_init(&sum, DG_SUM_SHA256);
  while (rc == 0) {
    size_t len = 0;

    rc = dg_call_check(self->call, err);
    if (rc == 0)
      rc = decode_step(self, plain, buffer, DG_STREAM_CHUNK, &len, err);
    if (rc < 0 || len == 0)
      break;
    dg_checksum_update(&sum, buffer, len);
    rc = dg_spool_append(spool, buffer, len, err);
  }
  (void)dg_checksum_final(&sum, actual);
  dg_checksum_clear(&sum);
  dg_reader_close(plain);
  if (rc == 0 && (dg_spool_size(spool) != meta->file_size || memcmp(actual, sha256, 32) != 0)) {
    dg_refcache_evict(self->engine->refs, self->ref_sha256);
    rc = dg_fail(err, DG_E_CORRUPT, "the decoded object does not match its SHA-256");
  }
  if (rc == 0)
    rc = dg_spool_reader(spool, range.offset, range.length, ret_reader, err);
  dg_spool_free(spool);
  return rc;
}

static int open_decoder(struct delta_reader *self, const struct dg_meta *meta,
                        struct dg_range range, bool *ret_deferred, struct dg_reader **ret_reader,
                        struct dg_error *err)
{
  struct dg_decode_params params = {.struct_size = sizeof params,
                                    .delta = &self->delta.source,
                                    .target_size = meta->file_size};
  struct dg_decode_info info = {.struct_size = sizeof info};
  int rc;

  if (!dg_hex_decode(meta->file_sha256, params.target_sha256, sizeof params.target_sha256))
    return dg_fail(err, DG_E_CORRUPT, "a delta without the SHA-256 of its object");
  if (!dg_hex_decode(dg_meta_extension(meta, "dgx1-sha256"), params.header_sha256,
                     sizeof params.header_sha256))
    memset(params.header_sha256, 0, sizeof params.header_sha256);
  rc = dg_codec_decode_open(self->codec, self->call, dg_ref_codec(self->ref), &params, &info,
                            &self->decoder, err);
  if (rc < 0) {
    self->decoder = NULL;
    /* What no decoder reads is no matter of the request. */
    if (err->code == DG_E_LIMIT || err->code == DG_E_UNSUPPORTED)
      err->code = DG_E_CORRUPT;
    return -1;
  }
  if (!info.verified) {
    self->delta.to_end = true;
    return open_unverified(self, meta, range, params.target_sha256, ret_deferred, ret_reader, err);
  }
  if (dg_codec_decode_range(self->codec, self->decoder, range, &self->plain, err) < 0) {
    self->plain = NULL;
    return -1;
  }
  *ret_reader = &self->reader;
  return 0;
}

int dg_delta_open(struct dg_engine *engine, const struct dg_call *call,
                  const struct dg_route *route, struct dg_slice bucket, struct dg_slice key,
                  struct dg_meta *meta, struct dg_range range, bool *ret_deferred,
                  struct dg_reader **ret_reader, bool *ret_hit, struct dg_error *err)
{
  struct delta_reader *self;
  struct dg_reader *reader = NULL;

  if (!route->codec)
    return dg_fail(err, DG_E_INTERNAL, "the object is a delta, but no codec is loaded to read it");
  self = g_new0(struct delta_reader, 1);
  self->reader.ops = &delta_ops;
  self->engine = engine;
  self->call = call;
  self->codec = route->codec;
  self->bucket = dg_slice_dup(bucket);
  self->key = dg_slice_dup(key);
  self->delta.fd = -1;
  if (delta_bytes_open(&self->delta, call, route, key, meta,
                       range.offset == 0 && range.length == meta->file_size, err) < 0)
    goto fail;
  if (!dg_hex_decode(meta->ref_sha256, self->ref_sha256, sizeof self->ref_sha256)) {
    (void)dg_fail(err, DG_E_CORRUPT, "the SHA-256 of the delta's reference is malformed");
    goto fail;
  }
  if (dg_refcache_open(engine->refs, call, route, engine->permits, dg_key_deltaspace(key),
                       self->ref_sha256, DG_REF_FOR_DECODE, ret_deferred, &self->ref, ret_hit,
                       err) < 0) {
    self->ref = NULL;
    if (err->code == DG_E_NO_SUCH_KEY)
      (void)dg_fail(err, DG_E_CORRUPT, "the reference of the delta is missing");
    goto fail;
  }
  if (open_decoder(self, meta, range, ret_deferred, &reader, err) < 0)
    goto fail;
  if (reader != &self->reader)
    delta_close(&self->reader); /* everything is in the spool */
  *ret_reader = reader;
  return 0;

fail:
  if (err->code == DG_E_CORRUPT)
    dg_refcache_evict(engine->refs, self->ref_sha256);
  delta_close(&self->reader);
  return -1;
}
