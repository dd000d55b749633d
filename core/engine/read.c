/* SPDX-License-Identifier: Apache-2.0 */
/* HEAD and GET: find the variant that counts, open exactly the bytes wanted. */
#include "config.h"

#include "core/engine/changeovers.h"
#include "core/engine/internal.h"

#include <unistd.h>

#include "common/hex.h"
#include "core/engine/readers.h"
#include "core/engine/verified.h"

#include "common/banned.h"

/* A GET may race an overwrite or a delete: what was found is gone when it is
 * opened. Looking again is then the answer, a few times. */
#define ATTEMPTS 4

/* What one attempt knows. The cache goes by where the object lies: clients may have
 * several names for it. */
struct look {
  struct dg_slice bucket, key; /* as the client named them */
  struct dg_route route;
  uint64_t ticket;
  struct dg_meta *meta;      /* owned; NULL: no such object */
  bool unconfirmed;          /* meta is remembered, and whoever opens it sees whether it holds */
  GBytes *body;              /* owned; the whole plaintext, from the cache */
  struct dg_reader *reader;  /* owned; over the whole of a passthrough, when it came for free */
  bool *ret_deferred;        /* of the request; may be NULL */
};

static void look_reset(struct look *look)
{
  dg_meta_unref(look->meta);
  g_clear_pointer(&look->body, g_bytes_unref);
  dg_reader_close(look->reader);
  look->meta = NULL;
  look->reader = NULL;
  look->unconfirmed = false;
}

static void look_clear(struct look *look)
{
  look_reset(look);
  dg_route_clear(&look->route);
}

static int find_in_backend(const struct dg_call *call, struct look *look, struct dg_error *err)
{
  struct dg_found found = {0};

  if (dg_object_find(&look->route, call, look->key, &found, err) < 0)
    return -1;
  look->meta = g_steal_pointer(&found.meta);
  dg_found_clear(&found);
  return 0;
}

/* ---- While other servers write ----------------------------------------------------
 *
 * They are not heard of, so nothing is believed without a look. And one look is
 * two requests: while an object turns from one variant into the other they may
 * see neither, or one that has been overtaken meanwhile. So what seems absent is
 * looked for again, and what was found must still be there after the look. A GET
 * that opens it sees that for itself. */

static struct dg_slice real_bucket(const struct look *look)
{
  return dg_slice_str(look->route.bucket);
}

static bool get_cached(struct dg_engine *engine, const struct look *look,
                       struct dg_cached *ret_cached)
{
  return dg_metacache_get(engine->metacache, look->route.backend, real_bucket(look), look->key,
                          ret_cached);
}

static void take_cached_body(struct dg_engine *engine, struct look *look)
{
  struct dg_cached cached = {0};

  if (!get_cached(engine, look, &cached))
    return;
  if (cached.body && dg_meta_same_version(cached.meta, look->meta))
    look->body = g_steal_pointer(&cached.body);
  dg_cached_clear(&cached);
}

static int is_still_there(const struct dg_call *call, const struct look *look, bool *ret_same,
                          struct dg_error *err)
{
  struct dg_item item = dg_route_item(&look->route, look->key, look->meta->variant);

  return dg_backend_validate(look->route.backend, call, &item, look->meta->validator, ret_same,
                             err);
}

static int look_while_shared(struct dg_engine *engine, const struct dg_call *call,
                             struct look *look, bool use_cache, bool opens, struct dg_error *err)
{
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    bool same = false;

    look_reset(look);
    if (find_in_backend(call, look, err) < 0 ||
        (!look->meta && find_in_backend(call, look, err) < 0))
      return -1;
    if (!look->meta)
      return 0;
    if (use_cache)
      take_cached_body(engine, look);
    if (opens && !look->body)
      return 0;
    if (is_still_there(call, look, &same, err) < 0)
      return -1;
    if (same)
      return 0;
  }
  return dg_fail(err, DG_E_UNAVAILABLE, "the object changes faster than it can be looked at");
}

/* ---- As the only server -------------------------------------------------------------- */

static bool is_confirmed(const struct dg_call *call, const struct look *look,
                         const struct dg_meta *meta)
{
  struct dg_item item = dg_route_item(&look->route, look->key, meta->variant);
  bool same = false;
  struct dg_error err;

  return dg_backend_validate(look->route.backend, call, &item, meta->validator, &same, &err) == 0 &&
         same;
}

/* Opening it tells which version it is: to ask before would be a second round trip. */
static bool is_confirmed_by_opening(const struct look *look, const struct dg_cached *cached)
{
  const struct dg_meta *meta = cached->meta;

  if (cached->body || meta->file_size == 0)
    return false;
  return dg_meta_is_delta(meta) ||
         (meta->stored_size == meta->file_size &&
          look->route.policy->verify_passthrough_reads != DG_VERIFY_ON);
}

/* From the cache, confirmed by the backend when it is no longer fresh. */
static bool look_in_cache(struct dg_engine *engine, const struct dg_call *call, struct look *look,
                          bool opens)
{
  struct dg_cached cached = {0};

  if (!get_cached(engine, look, &cached))
    return false;
  if (!cached.fresh && opens && is_confirmed_by_opening(look, &cached)) {
    look->unconfirmed = true;
  } else if (!cached.fresh) {
    if (!is_confirmed(call, look, cached.meta)) {
      dg_cached_clear(&cached);
      return false;
    }
    dg_metacache_confirm(engine->metacache, look->route.backend, real_bucket(look), look->key,
                         look->ticket, cached.meta);
  }
  look->meta = g_steal_pointer(&cached.meta);
  look->body = g_steal_pointer(&cached.body);
  return true;
}

/* From the backend. with_reader: a passthrough is opened in the same step. */
static int look_once(const struct dg_call *call, struct look *look, bool with_reader,
                           struct dg_error *err)
{
  struct dg_item item = dg_route_item(&look->route, look->key, DG_VARIANT_PASSTHROUGH);
  struct dg_meta *plain, *delta;

  /* Opening a file costs nothing; opening an upstream's object means to have it
   * sent, and most of the time another part of it is wanted, or its delta. */
  if (!with_reader || !dg_backend_has(look->route.backend, DG_CAP_LOCAL_FILE))
    return find_in_backend(call, look, err);
  plain = dg_meta_new();
  if (dg_backend_get(look->route.backend, call, &item, (struct dg_range){0, DG_TO_END}, plain,
                     &look->reader, err) < 0) {
    g_clear_pointer(&plain, dg_meta_unref);
    look->reader = NULL;
    if (err->code != DG_E_NO_SUCH_KEY)
      return -1;
  } else {
    plain->variant = DG_VARIANT_PASSTHROUGH;
  }
  delta = dg_meta_new();
  item.variant = DG_VARIANT_DELTA;
  if (dg_backend_head(look->route.backend, call, &item, delta, err) < 0) {
    g_clear_pointer(&delta, dg_meta_unref);
    if (err->code != DG_E_NO_SUCH_KEY) {
      dg_meta_unref(plain);
      return -1;
    }
  } else {
    delta->variant = DG_VARIANT_DELTA;
  }
  if (dg_object_younger(plain, delta) == plain) {
    look->meta = plain;
    dg_meta_unref(delta);
  } else {
    look->meta = delta;
    dg_meta_unref(plain);
    dg_reader_close(look->reader);
    look->reader = NULL;
  }
  return 0;
}

static int look_in_backend(struct dg_engine *engine, const struct dg_call *call,
                           struct look *look, bool with_reader, struct dg_error *err)
{
  uint32_t before;

  /* Of an object that changes over, one look at two names may see neither. */
  do {
    before = dg_changeover_count(engine->changeovers);
    if (look_once(call, look, with_reader, err) < 0)
      return -1;
  } while (!look->meta && dg_changeover_count(engine->changeovers) != before &&
           dg_call_check(call, err) == 0);
  return 0;
}

static int look_up(struct dg_engine *engine, const struct dg_call *call, struct look *look,
                   bool use_cache, bool with_reader, struct dg_error *err)
{
  look->ticket = dg_metacache_ticket(engine->metacache, real_bucket(look), look->key);
  if (dg_backend_is_shared(look->route.backend)) {
    if (look_while_shared(engine, call, look, use_cache, with_reader, err) < 0)
      return -1;
  } else {
    if (use_cache && look_in_cache(engine, call, look, with_reader))
      return 0;
    if (look_in_backend(engine, call, look, with_reader, err) < 0)
      return -1;
  }
  if (!look->meta) {
    if (dg_backend_bucket_head(look->route.backend, call, dg_slice_str(look->route.bucket), err) <
        0)
      return -1;
    return dg_fail(err, DG_E_NO_SUCH_KEY, "no object '%.*s'", DG_SLICE_ARG(look->key));
  }
  return dg_object_check_usable(look->meta, err);
}

static void keep(struct dg_engine *engine, const struct look *look, GBytes *body)
{
  /* The bucket may be on another backend by now. */
  if (!g_atomic_int_get(&look->route.view->superseded))
    dg_metacache_put(engine->metacache, look->route.backend, real_bucket(look), look->key,
                     look->ticket, look->meta, body);
}

int dg_engine_head(struct dg_engine *engine, const struct dg_call *call, struct dg_slice bucket,
                   struct dg_slice key, struct dg_object_info *ret_info, struct dg_error *err)
{
  struct look look = {.bucket = bucket, .key = key};
  int rc = -1;

  if (dg_route_open(engine, call, bucket, &look.route, err) < 0)
    return -1;
  if (look_up(engine, call, &look, /* use_cache= */ true, /* with_reader= */ false, err) < 0) {
    if (err->code == DG_E_CORRUPT)
      dg_engine_report_corrupt(engine, bucket, key, "metadata", err);
  } else {
    if (!look.body)
      keep(engine, &look, NULL);
    dg_object_info_fill(ret_info, look.meta);
    ret_info->cache_hit = look.body != NULL;
    rc = 0;
  }
  look_clear(&look);
  return rc;
}

int dg_engine_get_cached(struct dg_engine *engine, struct dg_slice bucket, struct dg_slice key,
                         struct dg_object_info *ret_info, GBytes **ret_body)
{
  struct look look = {.bucket = bucket, .key = key};
  struct dg_cached cached = {0};
  int found = 0;

  if (engine->leases || !dg_route_known(engine, bucket, &look.route))
    return 0;
  if (get_cached(engine, &look, &cached) && cached.fresh && cached.body) {
    dg_object_info_fill(ret_info, cached.meta);
    ret_info->cache_hit = true;
    *ret_body = g_steal_pointer(&cached.body);
    found = 1;
  }
  dg_cached_clear(&cached);
  look_clear(&look);
  return found;
}

/* ---- Opening a passthrough --------------------------------------------------- */

struct object_name {
  struct dg_engine *engine;
  char *bucket, *key;
  bool has_version; /* its ranges want to know that it was checked */
  struct dg_verified_name version;
};

static void object_name_free(gpointer receiver)
{
  struct object_name *name = receiver;

  g_free(name->bucket);
  g_free(name->key);
  g_free(name);
}

static void report_passthrough(void *receiver, const struct dg_error *err)
{
  const struct object_name *name = receiver;

  if (!err) {
    if (name->has_version)
      dg_verified_add(name->engine->verified, &name->version);
    return;
  }
  dg_engine_report_corrupt(name->engine, dg_slice_str(name->bucket), dg_slice_str(name->key),
                           "passthrough", err);
}

static struct dg_reader *verified(struct dg_engine *engine, const struct look *look,
                                  struct dg_reader *reader)
{
  bool may_be_file = look->route.policy->verify_passthrough_reads == DG_VERIFY_AUTO;
  struct object_name *name;
  uint8_t sha256[32];

  if (!dg_hex_decode(look->meta->file_sha256, sha256, sizeof sha256))
    return reader;
  name = g_new0(struct object_name, 1);
  name->engine = engine;
  name->bucket = dg_slice_dup(look->bucket);
  name->key = dg_slice_dup(look->key);
  name->has_version = !may_be_file &&
                      dg_verified_name(&look->route, look->key, look->meta, &name->version);
  return dg_verify_reader_new(reader, look->meta->file_size, sha256, may_be_file,
                              report_passthrough, name, object_name_free);
}

/* Turns a reader over the whole into one over a range, when it ends in a file. */
static bool narrow(struct dg_reader **reader, struct dg_range range)
{
  struct dg_error err;
  int32_t fd;
  uint64_t offset, length;

  if (dg_reader_file_range(*reader, &fd, &offset, &length, &err) < 0)
    return false;
  if (range.offset > length || range.length > length - range.offset) {
    (void)close(fd);
    return false;
  }
  dg_reader_close(*reader);
  *reader = dg_file_reader_new(fd, offset + range.offset, range.length);
  return true;
}

/* More or fewer bytes are stored than the metadata says. What opens them may know
 * better why: they are sealed, or were. */
static int refuse_size(const struct dg_call *call, const struct look *look,
                       struct dg_reader *reader, struct dg_error *err)
{
  struct dg_item item = dg_route_item(&look->route, look->key, look->meta->variant);
  struct dg_meta *now = dg_meta_new();
  int rc = 0;

  if (!reader)
    rc = dg_backend_get(look->route.backend, call, &item, (struct dg_range){0, 1}, now, &reader,
                        err);
  dg_meta_unref(now);
  if (rc < 0 && err->code != DG_E_INVALID_RANGE)
    return -1;
  if (rc == 0)
    dg_reader_close(reader);
  return dg_fail(err, DG_E_CORRUPT,
                 "%" G_GUINT64_FORMAT " bytes are stored, the metadata says %" G_GUINT64_FORMAT,
                 look->meta->stored_size, look->meta->file_size);
}

/* A reader over range of the passthrough that look->meta describes.
 * DG_E_NO_SUCH_KEY: it changed since, look again. */
static int open_passthrough(struct dg_engine *engine, const struct dg_call *call, struct look *look,
                            struct dg_range range, struct dg_reader **ret_reader,
                            struct dg_error *err)
{
  const struct dg_meta *meta = look->meta;
  struct dg_item item = dg_route_item(&look->route, look->key, meta->variant);
  bool whole = range.offset == 0 && range.length == meta->file_size;
  struct dg_reader *reader = g_steal_pointer(&look->reader);

  if (!(meta->flags & DG_META_UNMANAGED) && meta->file_sha256.len &&
      meta->stored_size != meta->file_size)
    return refuse_size(call, look, reader, err);
  if (meta->file_size == 0) {
    g_autoptr(GBytes) nothing = g_bytes_new_static("", 0);

    dg_reader_close(reader);
    *ret_reader = dg_bytes_reader_new(nothing, 0, 0);
    return 0;
  }
  if (!whole && look->route.policy->verify_passthrough_reads == DG_VERIFY_ON &&
      dg_verified_ensure(engine, call, &look->route, look->key, meta, look->ret_deferred, err) <
          0) {
    dg_reader_close(reader);
    return -1;
  }
  if (reader && !whole && !narrow(&reader, range)) {
    dg_reader_close(reader);
    reader = NULL;
  }
  if (!reader) {
    struct dg_meta *now = dg_meta_new();
    bool same;

    if (dg_backend_get(look->route.backend, call, &item, range, now, &reader, err) < 0) {
      dg_meta_unref(now);
      if (err->code == DG_E_INVALID_RANGE)
        err->code = DG_E_NO_SUCH_KEY; /* resolved against what was there before */
      return -1;
    }
    same = dg_meta_same_version(meta, now);
    dg_meta_unref(now);
    if (!same) {
      dg_reader_close(reader);
      return dg_fail(err, DG_E_NO_SUCH_KEY, "the object changed while it was opened");
    }
  }
  if (whole && look->route.policy->verify_passthrough_reads != DG_VERIFY_OFF)
    reader = verified(engine, look, reader);
  *ret_reader = reader;
  return 0;
}

/* Reads a small object whole, checks it and keeps it. */
static int load_body(struct dg_engine *engine, struct look *look, struct dg_reader *reader,
                     GBytes **ret_body, struct dg_error *err)
{
  size_t size = (size_t)look->meta->file_size, len = 0, more = 0;
  g_autofree char *data = g_malloc(size + 1);
  uint8_t expected[32], actual[32];

  if (dg_reader_read_full(reader, data, size, &len, err) < 0 ||
      dg_reader_read(reader, data + size, 1, &more, err) < 0)
    return -1;
  if (len + more != size)
    return dg_fail(err, DG_E_CORRUPT, "%zu bytes are stored, the metadata says %zu", len + more,
                   size);
  if (look->meta->variant == DG_VARIANT_PASSTHROUGH &&
      dg_hex_decode(look->meta->file_sha256, expected, sizeof expected)) {
    dg_sha256(data, size, actual);
    if (memcmp(actual, expected, sizeof actual) != 0)
      return dg_fail(err, DG_E_CORRUPT, "stored bytes do not match their SHA-256");
  }
  *ret_body = g_bytes_new_take(g_steal_pointer(&data), size);
  keep(engine, look, *ret_body);
  return 0;
}

/* ---- GET ----------------------------------------------------------------------- */

static bool worth_keeping(const struct dg_engine *engine, const struct dg_meta *meta)
{
  return meta->file_size > 0 && meta->file_size <= DG_MEMORY_BODY_MAX &&
         meta->file_size <= dg_metacache_body_max(engine->metacache) / 16;
}

static int open_bytes(struct dg_engine *engine, const struct dg_call *call, struct look *look,
                      struct dg_range range, struct dg_reader **ret_reader, bool *ret_hit,
                      struct dg_error *err)
{
  struct dg_range whole = {0, look->meta->file_size};
  bool load = worth_keeping(engine, look->meta);
  struct dg_range want = load ? whole : range;
  g_autoptr(GBytes) body = NULL;
  struct dg_reader *reader;
  int rc;

  *ret_hit = look->body != NULL;
  if (look->body) {
    *ret_reader = dg_bytes_reader_new(look->body, range.offset, range.length);
    return 0;
  }
  if (dg_meta_is_delta(look->meta))
    rc = dg_delta_open(engine, call, &look->route, look->bucket, look->key, look->meta, want,
                       look->ret_deferred, &reader, ret_hit, err);
  else
    rc = open_passthrough(engine, call, look, want, &reader, err);
  if (rc < 0)
    return -1;
  if (!load) {
    keep(engine, look, NULL);
    *ret_reader = reader;
    return 0;
  }
  rc = load_body(engine, look, reader, &body, err);
  dg_reader_close(reader);
  if (rc == 0)
    *ret_reader = dg_bytes_reader_new(body, range.offset, range.length);
  return rc;
}

static int get_once(struct dg_engine *engine, const struct dg_call *call,
                    const struct dg_get_request *request, struct look *look, bool use_cache,
                    struct dg_object_info *ret_info, struct dg_range *ret_range,
                    struct dg_reader **ret_reader, bool *ret_refused, struct dg_error *err)
{
  struct dg_object_info info;
  struct dg_range range;

  if (look_up(engine, call, look, use_cache, /* with_reader= */ true, err) < 0) {
    /* The backend's word on what is there now is final. */
    *ret_refused = err->code == DG_E_NO_SUCH_KEY;
    return -1;
  }
  dg_object_info_fill(&info, look->meta);
  range = (struct dg_range){0, info.size_bytes};
  if (request->resolve && request->resolve(request->receiver, &info, &range, err) < 0) {
    dg_object_info_clear(&info);
    *ret_refused = err->code != DG_E_NO_SUCH_KEY &&
                   (!look->unconfirmed || is_confirmed(call, look, look->meta));
    return *ret_refused ? -1 : dg_fail(err, DG_E_NO_SUCH_KEY, "the object changed meanwhile");
  }
  g_assert(range.offset <= info.size_bytes && range.length <= info.size_bytes - range.offset);
  if (open_bytes(engine, call, look, range, ret_reader, &info.cache_hit, err) < 0) {
    dg_object_info_clear(&info);
    return -1;
  }
  *ret_info = info;
  *ret_range = range;
  return 0;
}

int dg_engine_get(struct dg_engine *engine, const struct dg_call *call,
                  const struct dg_get_request *request, struct dg_object_info *ret_info,
                  struct dg_range *ret_range, struct dg_reader **ret_reader, struct dg_error *err)
{
  struct look look = {
    .bucket = request->bucket, .key = request->key, .ret_deferred = request->ret_deferred};
  struct dg_meta *blamed = NULL;
  bool refused = false;
  int rc = -1;

  if (dg_route_open(engine, call, request->bucket, &look.route, err) < 0)
    return -1;
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    bool delta, again;

    refused = false;
    rc = get_once(engine, call, request, &look, /* use_cache= */ attempt == 0, ret_info, ret_range,
                  ret_reader, &refused, err);
    delta = look.meta && dg_meta_is_delta(look.meta);
    again = look.meta && blamed && dg_meta_same_version(look.meta, blamed);
    dg_meta_unref(blamed);
    blamed = look.meta ? dg_meta_ref(look.meta) : NULL;
    look_reset(&look);
    if (rc == 0 || refused)
      break;
    if (err->code == DG_E_NO_SUCH_KEY || err->code == DG_E_CORRUPT)
      dg_metacache_drop(engine->metacache, real_bucket(&look), request->key);
    /* A reference that is missing, or is another one, may only mean that the
     * object was replaced or deleted meanwhile: it is corrupt if the same version
     * is found so again. */
    if (err->code == DG_E_CORRUPT && (again || !delta)) {
      dg_engine_report_corrupt(engine, request->bucket, request->key,
                               delta ? "delta" : "passthrough", err);
      refused = true;
      break;
    }
    if (err->code != DG_E_NO_SUCH_KEY && err->code != DG_E_CORRUPT)
      break;
  }
  /* Found each time and never the same when it was opened: a storage that tells two
   * tales of one object does not prove that there is none. */
  if (rc < 0 && !refused && (err->code == DG_E_NO_SUCH_KEY || err->code == DG_E_CORRUPT))
    err->code = DG_E_UNAVAILABLE;
  dg_meta_unref(blamed);
  look_clear(&look);
  return rc;
}
