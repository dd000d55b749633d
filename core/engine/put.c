/* SPDX-License-Identifier: Apache-2.0 */
/* PUT: bytes arrive without any lock, the decision is made under it.
 *
 *   open    route, limits; a stage for the bytes; an encoder if a delta may pay. Where
 *           the content decides on that, stage and encoder wait for the first bytes
 *   write   hash, stage and encode each chunk
 *   commit  compare with what the client promised, then under the object's lock,
 *           or that of its whole deltaspace if a reference is to be made:
 *           condition -> new variant, durable -> other variant removed
 *
 * Between any two steps the object is the old one or the new one: of two
 * variants the younger counts, and the new one is always made younger. */
#include "config.h"

#include "core/engine/put.h"

#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "core/engine/changeovers.h"
#include "core/engine/partnotes.h"
#include "core/engine/quota.h"
#include "core/engine/space.h"
#include "core/engine/spool.h"

#include "common/banned.h"

static void put_free(struct dg_put *put)
{
  dg_encode_close(put->encode);
  dg_stage_abort(put->stage);
  dg_spool_room_unref(put->room);
  dg_hashes_free(put->hashes);
  dg_meta_unref(put->client_meta);
  dg_route_clear(&put->route);
  g_free(put->bucket_text);
  g_free(put->key_text);
  g_free(put->multipart_etag);
  g_free(put->part_sizes);
  g_free(put->note_id);
  g_free(put->checksum_text);
  g_free(put);
}

/* A delta's name has up to nine bytes more than its key's, and S3 has room for
 * 1024. Stores move between backends, so this holds for all. */
#define DELTA_KEY_MAX 1015u

static bool is_delta_size(const struct dg_snapshot *snapshot, uint64_t size_bytes, bool from_parts)
{
  return size_bytes == DG_TO_END || (size_bytes <= snapshot->max_delta_object_size &&
                                     (!from_parts || size_bytes <= snapshot->mpu_delta_max_bytes));
}

enum dg_delta_chance dg_put_delta_chance(const struct dg_route *route, struct dg_slice key,
                                         uint64_t size_bytes, bool from_parts)
{
  const struct dg_bucket_config *policy = route->policy;

  if (!route->codec || !policy->compression || policy->max_delta_ratio <= 0 || size_bytes == 0 ||
      key.len > DELTA_KEY_MAX || !is_delta_size(route->snapshot, size_bytes, from_parts))
    return DG_DELTA_NEVER;
  if (dg_key_eligible(key, policy->delta_suffixes))
    return DG_DELTA_TRIED;
  return policy->delta_sniffing ? DG_DELTA_BY_CONTENT : DG_DELTA_NEVER;
}

/* A put that has its route and keeps its limits; NULL on failure. */
static struct dg_put *put_new(struct dg_engine *engine, const struct dg_call *call,
                              const struct dg_put_request *request, struct dg_error *err)
{
  struct dg_put *put = g_new0(struct dg_put, 1);

  put->engine = engine;
  put->call = call;
  put->bucket_text = dg_slice_dup(request->bucket);
  put->key_text = dg_slice_dup(request->key);
  put->bucket = dg_slice_of(put->bucket_text, request->bucket.len);
  put->key = dg_slice_of(put->key_text, request->key.len);
  put->client_meta = request->meta ? dg_meta_copy(request->meta) : dg_meta_new();
  put->check = request->check;
  put->receiver = request->receiver;
  put->size_hint = request->size_bytes;
  put->from_parts = request->from_parts;
  put->room = request->source ? dg_spool_room_of(request->source) : NULL;
  if (dg_route_open(engine, call, request->bucket, &put->route, err) < 0)
    goto fail;
  put->size_max = put->route.snapshot->max_object_size;
  if (put->size_hint != DG_TO_END && put->size_hint > put->size_max) {
    (void)dg_fail(err, DG_E_ENTITY_TOO_LARGE,
                  "%" G_GUINT64_FORMAT " bytes are more than max_object_size (%" G_GUINT64_FORMAT
                  ")",
                  put->size_hint, put->size_max);
    goto fail;
  }
  if (dg_quota_admit(engine, call, &put->route, put->bucket, put->key, put->size_hint, err) < 0)
    goto fail;
  return put;

fail:
  put_free(put);
  return NULL;
}

/* Where the body's bytes go. */
static int open_body(struct dg_put *put, struct dg_error *err)
{
  if (dg_stage_open(put->engine, put->call, &put->route, put->key, put->size_hint, put->candidate,
                    put->room, &put->stage, err) < 0)
    return -1;
  if (!put->candidate || put->size_hint == DG_TO_END)
    return 0;
  return dg_basis_find(put, /* has_space= */ false, &put->basis, err) < 0
           ? -1
           : dg_put_encode_open(put, err);
}

int dg_engine_put_open(struct dg_engine *engine, const struct dg_call *call,
                       const struct dg_put_request *request, struct dg_put **ret_put,
                       struct dg_error *err)
{
  struct dg_put *put = put_new(engine, call, request, err);
  enum dg_delta_chance chance;

  if (!put)
    return -1;
  put->hashes = dg_hashes_new(request->checksum_kind, engine->crew);
  chance = dg_put_delta_chance(&put->route, put->key, put->size_hint, put->from_parts);
  put->candidate = chance == DG_DELTA_TRIED;
  put->undecided = chance == DG_DELTA_BY_CONTENT;
  if (!put->undecided && open_body(put, err) < 0) {
    put_free(put);
    return -1;
  }
  *ret_put = put;
  return 0;
}

void dg_put_set_extra(struct dg_put *put, const struct dg_put_extra *extra)
{
  put->multipart_etag = dg_slice_dup(extra->multipart_etag);
  put->part_sizes = dg_slice_dup(extra->part_sizes);
  if (dg_part_note_needed(&put->route, extra->part_sizes, put->client_meta))
    put->note_id = g_uuid_string_random();
  put->checksum_kind = extra->checksum_kind;
  put->checksum_text = dg_slice_dup(extra->checksum_text);
}

static int pass_on(struct dg_put *put, const void *data, size_t len, struct dg_error *err)
{
  if (put->encode && dg_put_encode_feed(put, data, len, err) < 0)
    return -1;
  return dg_stage_write(put->stage, data, len, err);
}

/* All first bytes are there: they decide, and go their way. */
static int decide(struct dg_put *put, struct dg_error *err)
{
  put->undecided = false;
  put->candidate = dg_sniff_suits_delta(put->head, put->head_len);
  if (open_body(put, err) < 0)
    return -1;
  return put->head_len ? pass_on(put, put->head, put->head_len, err) : 0;
}

int dg_put_write(struct dg_put *put, const void *data, size_t len, struct dg_error *err)
{
  if (len > put->size_max - put->size_bytes)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE,
                   "the body is longer than max_object_size (%" G_GUINT64_FORMAT ")",
                   put->size_max);
  if (put->size_hint != DG_TO_END && len > put->size_hint - put->size_bytes)
    return dg_fail(err, DG_E_INCOMPLETE_BODY, "the body is longer than announced");
  put->size_bytes += len;
  dg_hashes_update(put->hashes, data, len);
  if (put->undecided) {
    size_t first = MIN(len, sizeof put->head - put->head_len);

    memcpy(put->head + put->head_len, data, first);
    put->head_len += first;
    if (put->head_len < sizeof put->head)
      return 0;
    if (decide(put, err) < 0)
      return -1;
    data = (const char *)data + first;
    len -= first;
  }
  return pass_on(put, data, len, err);
}

static int put_piece(void *put, const void *data, size_t len, struct dg_error *err)
{
  return dg_put_write(put, data, len, err);
}

int dg_put_drain(struct dg_put *put, struct dg_reader *reader, struct dg_error *err)
{
  return dg_reader_drain(reader, put->call, put_piece, put, err);
}

void dg_put_abort(struct dg_put *put)
{
  if (put)
    put_free(put);
}

/* ---- Metadata ----------------------------------------------------------------- */

static int set_hex(struct dg_meta *meta, uint32_t field, const uint8_t *bytes, size_t len,
                   struct dg_error *err)
{
  char hex[65];

  dg_hex_encode(bytes, len, hex);
  return dg_meta_set(meta, field, dg_slice_str(hex), err);
}

/* `dg-...` names are DeltaGlider's own: from a client they would be forgeries. */
static bool is_reserved_name(struct dg_slice name)
{
  return name.len >= 3 && g_ascii_strncasecmp(name.data, "dg-", 3) == 0;
}

int dg_put_add_client_pairs(struct dg_meta *meta, const struct dg_meta *client,
                            struct dg_error *err)
{
  for (uint32_t i = 0; i < client->user_count; i++)
    if (!is_reserved_name(client->user[i].name) &&
        dg_meta_add_user(meta, client->user[i].name, client->user[i].value, err) < 0)
      return -1;
  for (uint32_t i = 0; i < client->extension_count; i++)
    if (dg_meta_add_extension(meta, client->extensions[i].name, client->extensions[i].value, err) <
        0)
      return -1;
  return 0;
}

static int add_checksum(struct dg_meta *meta, const struct dg_put *put, struct dg_error *err)
{
  char text[96];

  if (put->checksum_text)
    return dg_meta_add_extension(meta, dg_slice_str(dg_checksum_extension(put->checksum_kind)),
                                 dg_slice_str(put->checksum_text), err);
  if (put->digests.checksum_len == 0)
    return 0;
  dg_digests_checksum_text(&put->digests, text);
  return dg_meta_add_extension(meta,
                               dg_slice_str(dg_checksum_extension(put->digests.checksum_kind)),
                               dg_slice_str(text), err);
}

/* The sizes themselves, or which note they are in. */
static int add_part_sizes(struct dg_meta *meta, const struct dg_put *put, struct dg_error *err)
{
  g_autofree char *name = put->note_id ? g_strconcat("@", put->note_id, NULL) : NULL;

  return put->part_sizes
           ? dg_meta_add_extension(meta, DG_SLICE(DG_EXTENSION_PART_SIZES),
                                   dg_slice_str(name ? name : put->part_sizes), err)
           : 0;
}

struct dg_meta *dg_put_build_meta(const struct dg_put *put, struct dg_error *err)
{
  const struct dg_meta *client = put->client_meta;
  struct dg_meta *meta = dg_meta_new();

  meta->file_size = put->size_bytes;
  if (dg_meta_set(meta, DG_FIELD_TOOL, DG_SLICE(DG_PUT_TOOL), err) < 0 ||
      dg_meta_set(meta, DG_FIELD_ORIGINAL_NAME, dg_key_basename(put->key), err) < 0 ||
      set_hex(meta, DG_FIELD_FILE_SHA256, put->digests.sha256, 32, err) < 0 ||
      set_hex(meta, DG_FIELD_MD5, put->digests.md5, 16, err) < 0 ||
      (client->content_type.len &&
       dg_meta_set(meta, DG_FIELD_CONTENT_TYPE, client->content_type, err) < 0) ||
      dg_put_add_client_pairs(meta, client, err) < 0 || add_checksum(meta, put, err) < 0 ||
      (put->multipart_etag &&
       dg_meta_set(meta, DG_FIELD_MULTIPART_ETAG, dg_slice_str(put->multipart_etag), err) < 0) ||
      add_part_sizes(meta, put, err) < 0) {
    dg_meta_unref(meta);
    return NULL;
  }
  return meta;
}

/* Now, in whole microseconds (what every layout can hold), and later than
 * anything it replaces. */
void dg_put_set_created(struct dg_meta *meta, const struct dg_found *found)
{
  const struct dg_meta *old[] = {found->meta, found->hidden};

  dg_time_now(&meta->created_at_s, &meta->created_at_ns);
  meta->created_at_ns -= meta->created_at_ns % 1000;
  for (size_t i = 0; i < G_N_ELEMENTS(old); i++) {
    if (!old[i] || old[i]->created_at_s < meta->created_at_s ||
        (old[i]->created_at_s == meta->created_at_s &&
         old[i]->created_at_ns < meta->created_at_ns))
      continue;
    meta->created_at_s = old[i]->created_at_s;
    meta->created_at_ns = old[i]->created_at_ns - old[i]->created_at_ns % 1000 + 1000;
    if (meta->created_at_ns >= 1000000000u) {
      meta->created_at_ns = 0;
      meta->created_at_s++;
    }
  }
}

/* ---- Commit ----------------------------------------------------------------------- */

static int store_passthrough(struct dg_put *put, struct dg_meta *meta,
                             struct dg_put_result *result, struct dg_error *err)
{
  struct dg_item item = dg_route_item(&put->route, put->key, DG_VARIANT_PASSTHROUGH);
  struct dg_commit_result committed = {.struct_size = sizeof committed};
  int number = dg_fault("engine.put.passthrough");

  if (number)
    return dg_fail(err, dg_errno_code(number), "injected at engine.put.passthrough");
  meta->variant = DG_VARIANT_PASSTHROUGH;
  if (dg_stage_commit(g_steal_pointer(&put->stage), &item, meta, &committed, err) < 0)
    return -1;
  result->variant = DG_VARIANT_PASSTHROUGH;
  result->stored_bytes = committed.stored_size;
  return 0;
}

/* The new variant is durable; the other one is older and goes. Failing here
 * only leaves bytes behind where the younger variant is what is served. */
static int remove_other(struct dg_put *put, const struct dg_found *found, uint32_t kept,
                        struct dg_error *ret_err)
{
  const struct dg_meta *old[] = {found->meta, found->hidden};
  struct dg_error err;
  int rc = 0;

  for (size_t i = 0; i < G_N_ELEMENTS(old); i++) {
    struct dg_item item;
    int number;

    if (!old[i] || old[i]->variant == kept)
      continue;
    item = dg_route_item(&put->route, put->key, old[i]->variant);
    dg_changeover_note(put->engine->changeovers, item.bucket, put->key);
    number = dg_fault("engine.put.remove-other");
    if (number)
      (void)dg_fail(&err, dg_errno_code(number), "injected at engine.put.remove-other");
    if (number ||
        (dg_backend_remove(put->route.backend, put->call, &item, &err) < 0 &&
         err.code != DG_E_NO_SUCH_KEY)) {
      dg_log_warn(put->engine->log, "engine.stale_variant", "bucket=%s key=%s cause=%s",
                  DG_LOG_QUOTED(put->bucket), DG_LOG_QUOTED(put->key),
                  DG_LOG_QUOTED(dg_slice_str(err.detail)));
      if (put->ready) {
        *ret_err = err;
        rc = -1;
      }
    }
  }
  return rc;
}

static int check_condition(struct dg_put *put, const struct dg_found *found, struct dg_error *err)
{
  struct dg_object_info info = {0};
  int rc;

  if (!put->check)
    return 0;
  if (found->meta)
    dg_object_info_fill(&info, found->meta);
  rc = put->check(put->receiver, found->meta ? &info : NULL, err);
  dg_object_info_clear(&info);
  return rc;
}

static void fill_result(const struct dg_put *put, struct dg_meta *meta,
                        struct dg_put_result *result)
{
  struct dg_object_info info;
  struct dg_slice checksum;

  dg_object_info_fill(&info, meta);
  (void)g_strlcpy(result->etag, info.etag, sizeof result->etag);
  checksum = dg_object_checksum(&info, &result->checksum_kind);
  (void)g_snprintf(result->checksum_base64, sizeof result->checksum_base64, "%.*s",
                   DG_SLICE_ARG(checksum));
  result->size_bytes = put->size_bytes;
  dg_object_info_clear(&info);
}

static void count_decision(const struct dg_put *put, const struct dg_put_result *result)
{
  struct dg_metrics *metrics = put->engine->metrics;
  bool delta = result->variant == DG_VARIANT_DELTA;

  dg_metrics_add(metrics, DG_METRIC_DELTA_DECISIONS_TOTAL, delta ? "delta" : "passthrough", NULL,
                 NULL, 1);
  if (delta && put->size_bytes > result->stored_bytes)
    dg_metrics_add(metrics, DG_METRIC_DELTA_BYTES_SAVED_TOTAL, NULL, NULL, NULL,
                   (double)(put->size_bytes - result->stored_bytes));
}

static int store(struct dg_put *put, struct dg_meta *meta, struct dg_space *space,
                 struct dg_put_result *result, struct dg_error *err)
{
  int rc;

  if (put->ready)
    return put->ready->store(put->ready->receiver, put, meta, result, err);
  rc = put->encode ? dg_put_store_delta(put, meta, result, err)
                   : store_passthrough(put, meta, result, err);
  if (rc < 0 && put->delta_in_doubt)
    dg_space_forsake(space);
  else if (rc < 0)
    dg_space_soil(space); /* perhaps a reference was stored before */
  return rc;
}

/* The note lies there before the object that names it. */
static int write_note(struct dg_put *put, struct dg_error *err)
{
  if (!put->note_id ||
      dg_part_note_write(put->engine, put->call, &put->route, dg_slice_str(put->note_id),
                         dg_slice_str(put->part_sizes), err) == 0)
    return 0;
  return put->ready && put->ready->needs_note ? -1 : 0;
}

static int store_noted(struct dg_put *put, struct dg_meta *meta, const struct dg_found *found,
                       struct dg_space *space, struct dg_put_result *result, struct dg_error *err)
{
  struct dg_note_change notes;
  int rc;

  dg_part_notes_begin(put->engine, put->call, &put->route, put->bucket, put->key, found,
                      put->note_id, &notes);
  rc = write_note(put, err);
  if (rc == 0)
    rc = store(put, meta, space, result, err);
  if (rc == 0)
    rc = remove_other(put, found, result->variant, err);
  dg_part_notes_end(&notes, meta, rc == 0);
  return rc;
}

/* *ret_switch: nothing was done, it takes the other right (dg_put_prepare_delta()). */
static int commit_locked(struct dg_put *put, struct dg_meta *meta, struct dg_space *space,
                         bool may_share, struct dg_put_result *result, bool *ret_switch,
                         struct dg_error *err)
{
  struct dg_found found = {0};
  struct dg_quota_change change;
  int rc = -1;

  *ret_switch = false;
  if (dg_object_find(&put->route, put->call, put->key, &found, err) < 0)
    return -1;
  if (check_condition(put, &found, err) < 0)
    goto out;
  if (!put->ready && put->candidate && put->size_bytes > 0) {
    rc = dg_put_prepare_delta(put, dg_space_is_alone(space), may_share, ret_switch, err);
    if (rc < 0 || *ret_switch)
      goto out;
    rc = -1;
  }
  if (dg_quota_begin(put->engine, put->call, &put->route, put->bucket, put->key, &found,
                     dg_quota_object(put->size_bytes), &change, err) < 0)
    goto out;
  dg_put_set_created(meta, &found);
  dg_metacache_write_begin(put->engine->metacache, dg_slice_str(put->route.bucket), put->key);
  rc = store_noted(put, meta, &found, space, result, err);
  dg_quota_end(&change, rc == 0);
  dg_metacache_write_end(put->engine->metacache, dg_slice_str(put->route.bucket), put->key);
out:
  dg_found_clear(&found);
  return rc;
}

/* As far as is known without a lock; the commit sees whether it is so. */
static bool makes_reference(const struct dg_put *put)
{
  return put->candidate && put->encode && !put->basis.exists;
}

static int commit(struct dg_put *put, struct dg_meta *meta, struct dg_put_result *ret_result,
                  struct dg_error *err)
{
  struct dg_put_result result = {0};
  bool alone = makes_reference(put), again;
  /* Once: a reference that comes and goes must not send it to and fro for ever. */
  bool may_share = alone && !dg_backend_is_shared(put->route.backend);
  int rc;

  do {
    struct dg_space *space = NULL;

    if (dg_call_check(put->call, err) < 0 ||
        (alone ? dg_space_enter(put->engine, put->call, &put->route, dg_key_deltaspace(put->key),
                                &space, err)
               : dg_space_enter_key(put->engine, put->call, &put->route, put->key, &space, err)) <
          0)
      return -1;
    rc = commit_locked(put, meta, space, may_share, &result, &again, err);
    dg_space_leave(space);
    if (alone)
      may_share = false;
    alone = !alone;
  } while (rc == 0 && again);
  if (rc == 0) {
    fill_result(put, meta, &result);
    count_decision(put, &result);
    *ret_result = result;
  }
  return rc;
}

int dg_engine_put_ready(struct dg_engine *engine, const struct dg_call *call,
                        const struct dg_put_request *request, const struct dg_put_ready *ready,
                        struct dg_put_result *ret_result, struct dg_error *err)
{
  struct dg_put *put = put_new(engine, call, request, err);
  struct dg_meta *meta;
  int rc;

  if (!put)
    return -1;
  put->ready = ready;
  put->part_sizes = g_strdup(ready->part_sizes);
  put->note_id = g_strdup(ready->note_id);
  put->size_bytes = request->size_bytes;
  meta = ready->meta ? dg_meta_ref(ready->meta) : dg_meta_new();
  rc = commit(put, meta, ret_result, err);
  dg_meta_unref(meta);
  put_free(put);
  return rc;
}

int dg_put_commit(struct dg_put *put, const struct dg_put_expect *expect,
                  struct dg_put_result *ret_result, struct dg_error *err)
{
  struct dg_meta *meta = NULL;
  int rc = -1;

  if (put->size_hint != DG_TO_END && put->size_bytes != put->size_hint) {
    (void)dg_fail(err, DG_E_INCOMPLETE_BODY,
                  "%" G_GUINT64_FORMAT " bytes of %" G_GUINT64_FORMAT " arrived", put->size_bytes,
                  put->size_hint);
    goto out;
  }
  dg_hashes_finish(put->hashes, &put->digests);
  if (dg_digests_check(&put->digests, expect, err) < 0 ||
      (put->undecided && decide(put, err) < 0))
    goto out;
  /* The long work before the lock, the short decision under it. */
  meta = dg_put_build_meta(put, err);
  if (meta && dg_put_encode_finish(put, err) == 0)
    rc = commit(put, meta, ret_result, err);
out:
  dg_meta_unref(meta);
  put_free(put);
  return rc;
}
