/* SPDX-License-Identifier: Apache-2.0 */
/* The delta side of a PUT: basis, encoder, ratio, seeding, re-validation.
 *
 * The encoder was opened against the reference seen at the start, without a
 * lock. Under the object's lock, which keeps a reference where it is, it is looked
 * up again; if it is another one the object is encoded again from its staged
 * bytes. Who has to make the reference takes the whole deltaspace. So a delta is
 * never stored without its reference, and a deltaspace never gets two. */
#include "config.h"

#include "core/engine/put.h"

#include "common/fault.h"
#include "common/hex.h"
#include "core/engine/readers.h"
#include "core/engine/space.h"
#include "core/engine/spool.h"

#include "common/banned.h"

#define REFERENCE_NAME "__reference__"

static struct dg_item reference_item(const struct dg_put *put)
{
  return dg_route_item(&put->route, dg_key_deltaspace(put->key), DG_VARIANT_REFERENCE);
}

/* ---- Healing ------------------------------------------------------------------- */

/* Copies a reference's bytes into a fresh item with metadata: for backends that
 * cannot set metadata alone. */
static int rewrite(struct dg_put *put, const struct dg_meta *meta, struct dg_error *err)
{
  struct dg_item item = reference_item(put);
  struct dg_meta *old = dg_meta_new();
  struct dg_reader *reader;
  struct dg_writer *writer;
  int rc = dg_backend_get(put->route.backend, put->call, &item, (struct dg_range){0, DG_TO_END},
                          old, &reader, err);

  dg_meta_unref(old);
  if (rc < 0)
    return -1;
  rc = dg_backend_put(put->route.backend, put->call, &item, meta->file_size, &writer, err);
  if (rc < 0) {
    dg_reader_close(reader);
    return -1;
  }
  rc = dg_reader_copy(reader, put->call, writer, err);
  dg_reader_close(reader);
  if (rc < 0) {
    dg_writer_abort(writer);
    return -1;
  }
  return dg_writer_commit(writer, &item, meta, NULL, err);
}

struct digest {
  struct dg_hashes *hashes;
  uint64_t size_bytes;
};

static int digest_piece(void *receiver, const void *data, size_t len, struct dg_error *err)
{
  struct digest *digest = receiver;

  (void)err;
  dg_hashes_update(digest->hashes, data, len);
  digest->size_bytes += len;
  return 0;
}

static int digest_reference(struct dg_put *put, struct dg_meta *meta, struct dg_error *err)
{
  struct dg_item item = reference_item(put);
  struct digest digest = {0};
  struct dg_digests digests;
  struct dg_reader *reader;
  struct dg_meta *old = dg_meta_new();
  char hex[65];
  int rc = dg_backend_get(put->route.backend, put->call, &item, (struct dg_range){0, DG_TO_END},
                          old, &reader, err);

  if (rc == 0) {
    meta->created_at_s = old->created_at_s;
    meta->created_at_ns = old->created_at_ns;
  }
  dg_meta_unref(old);
  if (rc < 0)
    return -1;
  digest.hashes = dg_hashes_new(DG_SUM_NONE, /* crew= */ NULL);
  rc = dg_reader_drain(reader, put->call, digest_piece, &digest, err);
  dg_reader_close(reader);
  dg_hashes_finish(digest.hashes, &digests);
  dg_hashes_free(digest.hashes);
  if (rc < 0)
    return -1;
  meta->file_size = digest.size_bytes;
  dg_hex_encode(digests.sha256, 32, hex);
  if (dg_meta_set(meta, DG_FIELD_FILE_SHA256, dg_slice_str(hex), err) < 0)
    return -1;
  dg_hex_encode(digests.md5, 16, hex);
  return dg_meta_set(meta, DG_FIELD_MD5, dg_slice_str(hex), err);
}

/* Gives a reference that has lost its metadata a new one, from its bytes. The
 * deltas keep their own record of the content they need. */
static int heal_locked(struct dg_put *put, struct dg_error *err)
{
  struct dg_item item = reference_item(put);
  struct dg_meta *meta = dg_meta_new();
  int rc = -1;

  meta->variant = DG_VARIANT_REFERENCE;
  if (dg_meta_set(meta, DG_FIELD_TOOL, DG_SLICE("deltaglider_proxy/" PACKAGE_VERSION), err) == 0 &&
      dg_meta_set(meta, DG_FIELD_ORIGINAL_NAME, DG_SLICE(REFERENCE_NAME), err) == 0 &&
      dg_meta_set(meta, DG_FIELD_SOURCE_NAME, DG_SLICE(REFERENCE_NAME), err) == 0 &&
      digest_reference(put, meta, err) == 0) {
    rc = dg_backend_set_meta(put->route.backend, put->call, &item, meta, err);
    if (rc < 0 && err->code == DG_E_UNSUPPORTED)
      rc = rewrite(put, meta, err);
  }
  dg_meta_unref(meta);
  if (rc == 0)
    dg_log_warn(put->engine->log, "engine.reference_healed", "bucket=%s deltaspace=%s",
                DG_LOG_QUOTED(put->bucket), DG_LOG_QUOTED(dg_key_deltaspace(put->key)));
  return rc;
}

/* ---- The basis ------------------------------------------------------------------- */

static int look_at_reference(struct dg_put *put, struct dg_basis *ret_basis, struct dg_error *err)
{
  struct dg_item item = reference_item(put);
  struct dg_basis basis = {0};
  struct dg_meta *meta = dg_meta_new();

  if (dg_backend_head(put->route.backend, put->call, &item, meta, err) == 0) {
    basis.exists = true;
    basis.needs_healing = (meta->flags & (DG_META_UNMANAGED | DG_META_CORRUPT)) ||
                          !dg_hex_decode(meta->file_sha256, basis.sha256, sizeof basis.sha256);
  } else if (err->code != DG_E_NO_SUCH_KEY) {
    dg_meta_unref(meta);
    return -1;
  }
  dg_meta_unref(meta);
  *ret_basis = basis;
  return 0;
}

int dg_basis_find(struct dg_put *put, bool has_space, struct dg_basis *ret_basis,
                  struct dg_error *err)
{
  struct dg_space *space = NULL;
  int rc;

  if (look_at_reference(put, ret_basis, err) < 0)
    return -1;
  if (!ret_basis->needs_healing)
    return 0;
  if (!has_space && dg_space_enter(put->engine, put->call, &put->route,
                                   dg_key_deltaspace(put->key), &space, err) < 0)
    return -1;
  rc = look_at_reference(put, ret_basis, err); /* another put may have healed it */
  if (rc == 0 && ret_basis->needs_healing) {
    rc = heal_locked(put, err);
    if (rc == 0)
      rc = look_at_reference(put, ret_basis, err);
  }
  dg_space_leave(space);
  if (rc == 0 && ret_basis->needs_healing)
    return dg_fail(err, DG_E_INTERNAL, "the healed reference still has no metadata");
  return rc;
}

static bool same_basis(const struct dg_basis *a, const struct dg_basis *b)
{
  return a->exists == b->exists &&
         (!a->exists || memcmp(a->sha256, b->sha256, sizeof a->sha256) == 0);
}

/* ---- Encoding ---------------------------------------------------------------------- */

int dg_put_encode_open(struct dg_put *put, struct dg_error *err)
{
  struct dg_engine *engine = put->engine;
  struct dg_encode_request request = {
    .pool = engine->encode_pool,
    .permits = engine->permits,
    .spool_dir = engine->spool_dir,
    .spool_budget = engine->spool_budget,
    .beside = dg_stage_spool(put->stage),
    .room = put->room,
    .codec = put->route.codec,
    .target_size = put->size_hint != DG_TO_END ? put->size_hint : put->size_bytes,
    .max_ratio = put->route.policy->max_delta_ratio,
  };
  bool hit;

  if (put->basis.exists &&
      dg_refcache_open(engine->refs, put->call, &put->route, engine->permits,
                       dg_key_deltaspace(put->key), put->basis.sha256, DG_REF_FOR_ENCODE,
                       /* ret_deferred= */ NULL, &request.ref, &hit, err) < 0) {
    if (err->code == DG_E_NO_SUCH_KEY)
      return 0; /* deleted just now: decided again under the lock */
    if (err->code != DG_E_CORRUPT)
      return -1;
    dg_engine_report_corrupt(engine, put->bucket, dg_key_deltaspace(put->key), "reference", err);
    put->reference_bad = true;
    return 0;
  }
  put->judged = true;
  return dg_encode_open(put->call, &request, &put->encode, err);
}

/* A codec that fails costs space, not the upload. Being too busy does not mean
 * that: the client is asked to come back. */
static int give_up_on_error(struct dg_put *put, struct dg_error *err)
{
  if (err->code == DG_E_SLOW_DOWN || err->code == DG_E_CANCELLED || err->code == DG_E_NO_SPACE)
    return -1;
  if (err->code == DG_E_CORRUPT && put->basis.exists) {
    /* It was sound when it was loaded: the next put looks at it again. */
    dg_engine_report_corrupt(put->engine, put->bucket, dg_key_deltaspace(put->key), "reference",
                             err);
    dg_refcache_evict(put->engine->refs, put->basis.sha256);
  }
  dg_log_warn(put->engine->log, "engine.encode_failed", "bucket=%s key=%s cause=%s",
              DG_LOG_QUOTED(put->bucket), DG_LOG_QUOTED(put->key),
              DG_LOG_QUOTED(dg_slice_str(err->detail)));
  g_clear_pointer(&put->encode, dg_encode_close);
  return 0;
}

int dg_put_encode_feed(struct dg_put *put, const void *data, size_t len, struct dg_error *err)
{
  gint64 start_us = g_get_monotonic_time();
  bool hopeless = false;
  int rc = dg_encode_feed(put->encode, data, len, &hopeless, err);

  put->encode_us += g_get_monotonic_time() - start_us;
  if (rc < 0)
    return give_up_on_error(put, err);
  if (hopeless)
    g_clear_pointer(&put->encode, dg_encode_close);
  return 0;
}

static int encode_piece(void *receiver, const void *data, size_t len, struct dg_error *err)
{
  struct dg_put *put = receiver;

  if (dg_put_encode_feed(put, data, len, err) < 0)
    return -1;
  return put->encode ? 0 : 1;
}

/* From the staged bytes: the reference is not the one expected at the start, or
 * the size was not known then. */
static int encode_staged(struct dg_put *put, struct dg_error *err)
{
  struct dg_reader *reader;
  int rc;

  g_clear_pointer(&put->encode, dg_encode_close);
  put->finished = false;
  put->encode_us = 0;
  if (dg_put_encode_open(put, err) < 0)
    return -1;
  if (!put->encode)
    return 0;
  if (dg_stage_read(put->stage, &reader, err) < 0)
    return -1;
  rc = dg_reader_drain(reader, put->call, encode_piece, put, err);
  dg_reader_close(reader);
  return rc;
}

/* Leaves put->encode finished and worthwhile, or NULL. */
int dg_put_encode_finish(struct dg_put *put, struct dg_error *err)
{
  gint64 start_us = g_get_monotonic_time();
  double ratio;

  if (!put->encode || put->finished)
    return 0;
  if (dg_encode_finish(put->encode, put->digests.sha256, &put->encoded, err) < 0)
    return give_up_on_error(put, err);
  put->finished = true;
  put->encode_us += g_get_monotonic_time() - start_us;
  dg_metrics_observe(put->engine->metrics, DG_METRIC_DELTA_ENCODE_DURATION_SECONDS, NULL, NULL,
                     (double)put->encode_us / 1e6);
  ratio = (double)put->encoded.delta_size / (double)put->size_bytes;
  dg_metrics_observe(put->engine->metrics, DG_METRIC_DELTA_COMPRESSION_RATIO, NULL, NULL, ratio);
  if (!(ratio < put->route.policy->max_delta_ratio))
    g_clear_pointer(&put->encode, dg_encode_close);
  return 0;
}

/* ---- Storing ----------------------------------------------------------------------- */

static int store_reference(struct dg_put *put, const struct dg_meta *meta, struct dg_error *err)
{
  struct dg_item item = reference_item(put);
  struct dg_meta *reference = dg_meta_new();
  int number = dg_fault("engine.put.reference");
  int rc = -1;

  /* Our lock does not hold other servers on the same storage: a second reference
   * would make the deltas of the first unreadable. */
  if (dg_backend_has(put->route.backend, DG_CAP_IF_ABSENT))
    item.flags = DG_ITEM_IF_ABSENT;

  reference->variant = DG_VARIANT_REFERENCE;
  reference->file_size = meta->file_size;
  reference->created_at_s = meta->created_at_s;
  reference->created_at_ns = meta->created_at_ns;
  if (number)
    (void)dg_fail(err, dg_errno_code(number), "injected at engine.put.reference");
  else if (dg_meta_set(reference, DG_FIELD_TOOL, meta->tool, err) == 0 &&
           dg_meta_set(reference, DG_FIELD_ORIGINAL_NAME, DG_SLICE(REFERENCE_NAME), err) == 0 &&
           dg_meta_set(reference, DG_FIELD_SOURCE_NAME, put->key, err) == 0 &&
           dg_meta_set(reference, DG_FIELD_FILE_SHA256, meta->file_sha256, err) == 0 &&
           dg_meta_set(reference, DG_FIELD_MD5, meta->md5, err) == 0)
    rc = dg_stage_commit(g_steal_pointer(&put->stage), &item, reference, NULL, err);
  dg_meta_unref(reference);
  /* The staged bytes are gone with the attempt: the client sends them again, and
   * finds the reference. */
  if (rc < 0 && err->code == DG_E_PRECONDITION_FAILED)
    (void)dg_fail(err, DG_E_SLOW_DOWN, "another server made the deltaspace's reference meanwhile");
  if (rc == 0)
    dg_metrics_add(put->engine->metrics, DG_METRIC_DELTA_DECISIONS_TOTAL, "reference", NULL, NULL,
                   1);
  return rc;
}

static int add_delta_fields(struct dg_put *put, struct dg_meta *meta, struct dg_error *err)
{
  struct dg_slice name = dg_key_basename(put->key);
  g_autofree char *command =
    g_strdup_printf("xdelta3 -e -9 -s reference.bin %.*s %.*s.delta", (int)name.len, name.data,
                    (int)name.len, name.data);
  char ref_hex[65], header_hex[65];

  meta->variant = DG_VARIANT_DELTA;
  meta->delta_size = put->encoded.delta_size;
  dg_hex_encode(put->basis.exists ? put->basis.sha256 : put->digests.sha256, 32, ref_hex);
  dg_hex_encode(put->encoded.header_sha256, 32, header_hex);
  if (dg_meta_set(meta, DG_FIELD_REF_PATH, DG_SLICE("reference.bin"), err) < 0 ||
      dg_meta_set(meta, DG_FIELD_REF_SHA256, dg_slice_str(ref_hex), err) < 0 ||
      dg_meta_set(meta, DG_FIELD_DELTA_CMD, dg_slice_str(command), err) < 0)
    return -1;
  return dg_meta_add_extension(meta, DG_SLICE("dgx1-sha256"), dg_slice_str(header_hex), err);
}

static int store_delta_item(struct dg_put *put, const struct dg_meta *meta,
                            struct dg_put_result *result, struct dg_error *err)
{
  struct dg_item item = dg_route_item(&put->route, put->key, DG_VARIANT_DELTA);
  struct dg_commit_result committed = {.struct_size = sizeof committed};
  struct dg_writer *writer;
  int number = dg_fault("engine.put.delta");

  if (number)
    return dg_fail(err, dg_errno_code(number), "injected at engine.put.delta");
  if (dg_backend_put(put->route.backend, put->call, &item, put->encoded.delta_size, &writer, err) < 0)
    return -1;
  if (dg_encode_copy(put->encode, writer, err) < 0) {
    dg_writer_abort(writer);
    return -1;
  }
  if (dg_writer_commit(writer, &item, meta, &committed, err) < 0)
    return -1;
  result->variant = DG_VARIANT_DELTA;
  result->stored_bytes = committed.stored_size;
  return 0;
}

/* May what failed so take effect later, when it is looked for no more? A disk of our own
 * has done what it does when it answers; a storage elsewhere may not have answered. */
static bool is_in_doubt(const struct dg_put *put, int32_t code)
{
  return !dg_backend_has(put->route.backend, DG_CAP_LOCAL_FILE) &&
         (code == DG_E_IO || code == DG_E_TIMEOUT || code == DG_E_UNAVAILABLE ||
          code == DG_E_CANCELLED || code == DG_E_SLOW_DOWN || code == DG_E_INTERNAL);
}

/* The reference this put made, and nothing uses: the deltaspace is still ours. A
 * delta whose commit failed late (the directory's fsync, say) may be visible
 * all the same, and then it must keep its reference. */
static void remove_own_reference(struct dg_put *put)
{
  struct dg_item delta = dg_route_item(&put->route, put->key, DG_VARIANT_DELTA);
  struct dg_item item = reference_item(put);
  struct dg_meta *meta = dg_meta_new();
  struct dg_error err;
  bool absent = dg_backend_head(put->route.backend, put->call, &delta, meta, &err) < 0 &&
                err.code == DG_E_NO_SUCH_KEY;

  dg_meta_unref(meta);
  if (!absent)
    return;
  if (dg_backend_remove(put->route.backend, put->call, &item, &err) < 0 &&
      err.code != DG_E_NO_SUCH_KEY)
    dg_log_warn(put->engine->log, "engine.reference_left", "bucket=%s deltaspace=%s cause=%s",
                DG_LOG_QUOTED(put->bucket), DG_LOG_QUOTED(item.key),
                DG_LOG_QUOTED(dg_slice_str(err.detail)));
  dg_refcache_forget(put->engine->refs, put->digests.sha256);
}

/* A bucket counts as empty while it holds no more than references: it may have
 * been deleted, and made anew, between the look at the reference and the delta.
 * Now that the delta is there it cannot be: one look settles it. */
static int check_reference_stayed(struct dg_put *put, struct dg_error *err)
{
  struct dg_item delta = dg_route_item(&put->route, put->key, DG_VARIANT_DELTA);
  struct dg_item item = reference_item(put);
  struct dg_meta *meta = dg_meta_new();
  struct dg_error cause;
  bool gone = dg_backend_head(put->route.backend, put->call, &item, meta, &cause) < 0 &&
              cause.code == DG_E_NO_SUCH_KEY;

  dg_meta_unref(meta);
  if (!gone)
    return 0;
  (void)dg_backend_remove(put->route.backend, put->call, &delta, &cause);
  return dg_fail(err, DG_E_SLOW_DOWN, "the bucket was deleted and made anew during the put");
}

/* The encoder's result is as good as one made now. */
static bool is_judged(const struct dg_put *put, const struct dg_basis *now)
{
  return (put->judged || put->reference_bad) && same_basis(&put->basis, now);
}

int dg_put_prepare_delta(struct dg_put *put, bool alone, bool may_share, bool *ret_switch,
                         struct dg_error *err)
{
  struct dg_basis now;

  *ret_switch = false;
  if (dg_put_delta_chance(&put->route, put->key, put->size_bytes, put->from_parts) ==
      DG_DELTA_NEVER) {
    g_clear_pointer(&put->encode, dg_encode_close); /* the size was not known at the start */
    return 0;
  }
  if ((alone ? dg_basis_find(put, alone, &now, err) : look_at_reference(put, &now, err)) < 0)
    return -1;
  if (alone)
    *ret_switch = may_share && now.exists && !is_judged(put, &now);
  else
    *ret_switch = now.needs_healing || (!now.exists && (put->encode || !is_judged(put, &now)));
  if (*ret_switch)
    return 0;
  if (!is_judged(put, &now)) {
    put->basis = now;
    put->reference_bad = false;
    if (encode_staged(put, err) < 0)
      return -1;
  }
  return dg_put_encode_finish(put, err);
}

int dg_put_store_delta(struct dg_put *put, struct dg_meta *meta, struct dg_put_result *result,
                       struct dg_error *err)
{
  int rc;

  if (add_delta_fields(put, meta, err) < 0)
    return -1;
  if (!put->basis.exists && store_reference(put, meta, err) < 0)
    return -1;
  rc = store_delta_item(put, meta, result, err);
  /* A delta without its reference would hide whatever the name still holds. */
  if (rc < 0 && !put->basis.exists) {
    put->delta_in_doubt = is_in_doubt(put, err->code);
    if (!put->delta_in_doubt)
      remove_own_reference(put);
  }
  if (rc == 0)
    rc = check_reference_stayed(put, err);
  return rc;
}
