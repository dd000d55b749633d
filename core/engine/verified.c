/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/verified.h"

#include "common/checksum.h"
#include "common/hex.h"
#include "core/engine/callwait.h"
#include "core/engine/internal.h"

#include "common/banned.h"

#define KEEP_MAX 4096u /* versions remembered, about 100 bytes each */

struct dg_verified {
  GMutex mutex; /* guards everything below */
  GCond ended;  /* a check */
  GHashTable *good, *checking; /* sets of names */
  GQueue order; /* the names in good, borrowed, the oldest first */
};

static guint hash_name(gconstpointer name)
{
  guint hash;

  memcpy(&hash, name, sizeof hash);
  return hash;
}

static gboolean equal_names(gconstpointer a, gconstpointer b)
{
  return memcmp(a, b, sizeof(struct dg_verified_name)) == 0;
}

struct dg_verified *dg_verified_new(void)
{
  struct dg_verified *verified = g_new0(struct dg_verified, 1);

  g_mutex_init(&verified->mutex);
  g_cond_init(&verified->ended);
  verified->good = g_hash_table_new_full(hash_name, equal_names, g_free, NULL);
  verified->checking = g_hash_table_new_full(hash_name, equal_names, g_free, NULL);
  g_queue_init(&verified->order);
  return verified;
}

void dg_verified_free(struct dg_verified *verified)
{
  if (!verified)
    return;
  g_queue_clear(&verified->order);
  g_hash_table_unref(verified->good);
  g_hash_table_unref(verified->checking);
  g_cond_clear(&verified->ended);
  g_mutex_clear(&verified->mutex);
  g_free(verified);
}

static void add_field(struct dg_checksum *sum, struct dg_slice field)
{
  uint64_t len = field.len;

  dg_checksum_update(sum, &len, sizeof len);
  if (field.len)
    dg_checksum_update(sum, field.data, field.len);
}

bool dg_verified_name(const struct dg_route *route, struct dg_slice key, const struct dg_meta *meta,
                      struct dg_verified_name *ret_name)
{
  struct dg_checksum sum = {0};

  if (!meta->file_sha256.len || !meta->validator.len)
    return false;
  dg_checksum_init(&sum, DG_SUM_SHA256);
  add_field(&sum, dg_slice_str(route->backend_name));
  add_field(&sum, dg_slice_str(route->bucket));
  add_field(&sum, key);
  add_field(&sum, meta->validator);
  add_field(&sum, meta->file_sha256);
  (void)dg_checksum_final(&sum, ret_name->sha256);
  dg_checksum_clear(&sum);
  return true;
}

static void add_locked(struct dg_verified *verified, const struct dg_verified_name *name)
{
  gpointer copy;

  if (g_hash_table_contains(verified->good, name))
    return;
  copy = g_memdup2(name, sizeof *name);
  g_hash_table_add(verified->good, copy);
  g_queue_push_tail(&verified->order, copy);
  if (verified->order.length > KEEP_MAX)
    (void)g_hash_table_remove(verified->good, g_queue_pop_head(&verified->order));
}

void dg_verified_add(struct dg_verified *verified, const struct dg_verified_name *name)
{
  g_mutex_lock(&verified->mutex);
  add_locked(verified, name);
  g_mutex_unlock(&verified->mutex);
}

/* ---- The check -------------------------------------------------------------------- */

static int add_piece(void *receiver, const void *data, size_t len, struct dg_error *err)
{
  (void)err;
  dg_checksum_update(receiver, data, len);
  return 0;
}

static int check_body(const struct dg_call *call, const struct dg_route *route,
                      struct dg_slice key, const struct dg_meta *meta, struct dg_error *err)
{
  struct dg_item item = dg_route_item(route, key, DG_VARIANT_PASSTHROUGH);
  uint8_t expected[32], actual[DG_SUM_MAX_BYTES];
  struct dg_meta *now = dg_meta_new();
  struct dg_checksum sum = {0};
  struct dg_reader *reader;
  int rc;

  if (!dg_hex_decode(meta->file_sha256, expected, sizeof expected))
    rc = dg_fail(err, DG_E_CORRUPT, "the SHA-256 of the object is malformed");
  else
    rc = dg_backend_get(route->backend, call, &item, (struct dg_range){0, DG_TO_END}, now, &reader,
                        err);
  if (rc < 0) {
    dg_meta_unref(now);
    return -1;
  }
  dg_checksum_init(&sum, DG_SUM_SHA256);
  rc = dg_meta_same_version(meta, now)
         ? dg_reader_drain(reader, call, add_piece, &sum, err)
         : dg_fail(err, DG_E_NO_SUCH_KEY, "the object changed while it was opened");
  if (rc == 0) {
    (void)dg_checksum_final(&sum, actual);
    if (memcmp(actual, expected, sizeof expected) != 0)
      rc = dg_fail(err, DG_E_CORRUPT, "stored bytes do not match their SHA-256");
  }
  dg_checksum_clear(&sum);
  dg_reader_close(reader);
  dg_meta_unref(now);
  return rc;
}

/* 1: it is known to be good; 0: the caller checks it, and ends that. */
static int begin(struct dg_verified *verified, const struct dg_call *call,
                 const struct dg_verified_name *name, bool *ret_deferred, struct dg_error *err)
{
  int rc = -2;

  g_mutex_lock(&verified->mutex);
  while (rc == -2) {
    if (g_hash_table_contains(verified->good, name)) {
      rc = 1;
    } else if (ret_deferred) {
      *ret_deferred = true;
      rc = dg_fail(err, DG_E_SLOW_DOWN, "all of the object has to be read");
    } else if (!g_hash_table_contains(verified->checking, name)) {
      g_hash_table_add(verified->checking, g_memdup2(name, sizeof *name));
      rc = 0;
    } else if (dg_call_wait(call, &verified->ended, &verified->mutex, /* until_mono_ms= */ 0,
                            err) < 0) {
      rc = -1;
    }
  }
  g_mutex_unlock(&verified->mutex);
  return rc;
}

static void end(struct dg_verified *verified, const struct dg_verified_name *name, bool good)
{
  g_mutex_lock(&verified->mutex);
  (void)g_hash_table_remove(verified->checking, name);
  if (good)
    add_locked(verified, name);
  g_cond_broadcast(&verified->ended);
  g_mutex_unlock(&verified->mutex);
}

int dg_verified_ensure(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_route *route, struct dg_slice key,
                       const struct dg_meta *meta, bool *ret_deferred, struct dg_error *err)
{
  struct dg_verified_name name;
  int rc;

  if (!meta->file_sha256.len)
    return 0;
  if (!dg_verified_name(route, key, meta, &name))
    return check_body(call, route, key, meta, err);
  rc = begin(engine->verified, call, &name, ret_deferred, err);
  if (rc != 0)
    return rc < 0 ? -1 : 0;
  rc = check_body(call, route, key, meta, err);
  end(engine->verified, &name, rc == 0);
  return rc;
}
