/* SPDX-License-Identifier: Apache-2.0 */
/* CompleteMultipartUpload: the parts, in order, through the same put as any other
 * object, or joined by the storage that has them. Asked twice, it answers twice: a second Complete waits for the
 * first, or gets its answer from done.json, even after a restart. */
#include "config.h"

#include "common/clock.h"
#include "common/fault.h"
#include "common/hex.h"
#include "core/engine/callwait.h"
#include "core/engine/partsizes.h"
#include "core/engine/put.h"
#include "core/engine/upload.h"
#include "core/engine/uploadnative.h"

#include "common/banned.h"

#define MIN_PART_BYTES (5u * 1024u * 1024u) /* S3's; enforced only when configured */
#define JOIN_WAIT_MS UINT64_C(3600000)

/* What is completed: fixed when the state turns to COMPLETING. */
struct plan {
  const struct dg_complete_request *request;
  struct dg_upload *upload;
  struct dg_part *parts;
  bool min_part_size;       /* MIN_PART_BYTES is enforced */
  uint64_t size_bytes;
  char etag[80];
  char *part_sizes;
  char checksum_text[96];   /* composite: base64-N */
  bool composite;
  bool native;              /* the storage has some of the parts */
};

static void request_digest(const struct dg_complete_request *request, uint8_t sha256[32])
{
  g_autoptr(GString) text = g_string_new(NULL);

  for (uint32_t i = 0; i < request->part_count; i++) {
    const struct dg_complete_part *part = &request->parts[i];

    g_string_append_printf(text, "%u\n", part->part_no);
    dg_slice_append(text, part->etag);
    g_string_append_c(text, '\n');
    dg_slice_append(text, part->checksum_base64);
    g_string_append_c(text, '\n');
  }
  g_string_append_c(text, '=');
  dg_slice_append(text, request->checksum_base64);
  dg_sha256(text->str, text->len, sha256);
}

static struct dg_slice unquoted(struct dg_slice etag)
{
  if (etag.len >= 2 && etag.data[0] == '"' && etag.data[etag.len - 1] == '"')
    return dg_slice_of(etag.data + 1, etag.len - 2);
  return etag;
}

static int check_part(const struct dg_complete_part *asked, const struct dg_part *part,
                      struct dg_error *err)
{
  char text[96];

  if (!part)
    return dg_fail(err, DG_E_INVALID_PART, "part %u was not uploaded", asked->part_no);
  dg_hex_encode(part->md5, sizeof part->md5, text);
  if (!dg_slice_equal_nocase(unquoted(asked->etag), dg_slice_str(text)))
    return dg_fail(err, DG_E_INVALID_PART, "part %u has the ETag \"%s\"", asked->part_no, text);
  if (asked->checksum_base64.len && part->checksum_len) {
    dg_base64_encode(part->checksum, part->checksum_len, text);
    if (!dg_slice_equal_str(asked->checksum_base64, text))
      return dg_fail(err, DG_E_INVALID_PART, "part %u has the checksum %s", asked->part_no, text);
  }
  return 0;
}

static char *sizes_text(const struct plan *plan)
{
  uint32_t count = plan->request->part_count;
  g_autofree uint64_t *sizes = g_new(uint64_t, count);

  for (uint32_t i = 0; i < count; i++)
    sizes[i] = plan->parts[i].size_bytes;
  return dg_part_sizes_write(sizes, count);
}

/* ETag, and the checksum of checksums. */
static void combine(struct plan *plan)
{
  const struct dg_upload *upload = plan->upload;
  struct dg_checksum md5 = {0}, sum = {0};
  uint8_t digest[DG_SUM_MAX_BYTES];
  uint32_t count = plan->request->part_count;
  char text[96];
  size_t len;

  dg_checksum_init(&md5, DG_SUM_MD5);
  dg_checksum_init(&sum, upload->checksum_kind);
  for (uint32_t i = 0; i < count; i++) {
    dg_checksum_update(&md5, plan->parts[i].md5, sizeof plan->parts[i].md5);
    if (upload->checksum_kind != DG_SUM_NONE)
      dg_checksum_update(&sum, plan->parts[i].checksum, plan->parts[i].checksum_len);
  }
  (void)dg_checksum_final(&md5, digest);
  dg_hex_encode(digest, 16, text);
  (void)g_snprintf(plan->etag, sizeof plan->etag, "\"%s-%u\"", text, count);
  plan->composite = upload->checksum_kind != DG_SUM_NONE && !upload->checksum_full_object;
  if (plan->composite) {
    len = dg_checksum_final(&sum, digest);
    dg_base64_encode(digest, len, text);
    (void)g_snprintf(plan->checksum_text, sizeof plan->checksum_text, "%s-%u", text, count);
  }
  dg_checksum_clear(&md5);
  dg_checksum_clear(&sum);
}

/* The whole-object checksum of a composite upload, with or without its -N. */
static int check_composite(const struct plan *plan, struct dg_error *err)
{
  struct dg_slice asked = plan->request->checksum_base64;
  struct dg_slice full = dg_slice_str(plan->checksum_text);
  const char *dash = strrchr(plan->checksum_text, '-');

  if (!plan->composite || asked.len == 0 || dg_slice_equal(asked, full) ||
      dg_slice_equal(asked, dg_slice_of(full.data, (size_t)(dash - full.data))))
    return 0;
  return dg_fail(err, DG_E_CHECKSUM_MISMATCH, "the parts have the checksum %s",
                 plan->checksum_text);
}

static int make_plan_locked(struct plan *plan, struct dg_error *err)
{
  const struct dg_complete_request *request = plan->request;

  if (request->part_count == 0)
    return dg_fail(err, DG_E_MALFORMED_XML, "a Complete without parts");
  if (dg_upload_load_parts_locked(plan->upload, err) < 0)
    return -1;
  plan->parts = g_new0(struct dg_part, request->part_count);
  for (uint32_t i = 0; i < request->part_count; i++) {
    const struct dg_complete_part *asked = &request->parts[i];
    const struct dg_part *part;

    if (i > 0 && asked->part_no <= request->parts[i - 1].part_no)
      return dg_fail(err, DG_E_INVALID_PART_ORDER, "part %u after part %u", asked->part_no,
                     request->parts[i - 1].part_no);
    part = g_tree_lookup(plan->upload->parts, GUINT_TO_POINTER(asked->part_no));
    if (check_part(asked, part, err) < 0)
      return -1;
    if (plan->min_part_size && i + 1 < request->part_count && part->size_bytes < MIN_PART_BYTES)
      return dg_fail(err, DG_E_ENTITY_TOO_SMALL,
                     "part %u has %" G_GUINT64_FORMAT " bytes, and is not the last",
                     asked->part_no, part->size_bytes);
    plan->parts[i] = *part;
    plan->native |= part->is_native;
    if (__builtin_add_overflow(plan->size_bytes, part->size_bytes, &plan->size_bytes))
      return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "the parts are too large together");
  }
  plan->part_sizes = sizes_text(plan);
  combine(plan);
  return check_composite(plan, err);
}

static void plan_clear(struct plan *plan)
{
  g_free(plan->parts);
  g_free(plan->part_sizes);
}

/* ---- Bytes ---------------------------------------------------------------------------------- */

static int feed_put(void *put, const void *data, size_t len, struct dg_error *err)
{
  return dg_put_write(put, data, len, err);
}

/* Under the lock of its key, which keeps the bucket too: from here to the end of
 * the commit nobody deletes it. */
static int check_not_dropped(void *receiver, const struct dg_object_info *current,
                             struct dg_error *err)
{
  const struct plan *plan = receiver;
  struct dg_upload *upload = plan->upload;
  bool dropped;

  g_mutex_lock(&upload->mutex);
  dropped = upload->state == DG_UPLOAD_GONE;
  g_mutex_unlock(&upload->mutex);
  if (dropped)
    return dg_fail(err, DG_E_NO_SUCH_UPLOAD, "the bucket was deleted");
  return plan->request->check ? plan->request->check(plan->request->receiver, current, err) : 0;
}

/* Nobody reads the parts again: what the object's checksum is follows from theirs. */
static int check_full_object(struct plan *plan, struct dg_error *err)
{
  uint32_t kind = plan->upload->checksum_kind;
  uint8_t sum[DG_SUM_MAX_BYTES];
  struct dg_slice asked = plan->request->checksum_base64;

  if (kind == DG_SUM_NONE || plan->composite)
    return 0;
  memcpy(sum, plan->parts[0].checksum, sizeof sum);
  for (uint32_t i = 1; i < plan->request->part_count; i++)
    if (!dg_checksum_combine(kind, sum, plan->parts[i].checksum, plan->parts[i].size_bytes, sum))
      return dg_fail(err, DG_E_INTERNAL, "parts with %s make no full-object checksum",
                     dg_checksum_name(kind));
  dg_base64_encode(sum, dg_checksum_len(kind), plan->checksum_text);
  if (asked.len && !dg_slice_equal_str(asked, plan->checksum_text))
    return dg_fail(err, DG_E_CHECKSUM_MISMATCH, "the parts have the checksum %s",
                   plan->checksum_text);
  return 0;
}

static int assemble_native(struct dg_engine *engine, const struct dg_call *call,
                           struct plan *plan, const struct dg_put_request *put_request,
                           struct dg_put_result *ret_result, struct dg_error *err)
{
  if (check_full_object(plan, err) < 0 ||
      dg_native_complete(engine, call, put_request, plan->upload, plan->parts,
                         plan->request->part_count, plan->part_sizes, ret_result, err) < 0)
    return -1;
  ret_result->checksum_kind = plan->upload->checksum_kind;
  (void)g_strlcpy(ret_result->checksum_base64, plan->checksum_text,
                  sizeof ret_result->checksum_base64);
  return 0;
}

static int assemble(struct dg_engine *engine, const struct dg_call *call, struct plan *plan,
                    struct dg_put_result *ret_result, struct dg_error *err)
{
  const struct dg_upload *upload = plan->upload;
  const struct dg_complete_request *request = plan->request;
  struct dg_put_request put_request = {
    .bucket = request->bucket,
    .key = request->key,
    .size_bytes = plan->size_bytes,
    .meta = upload->meta,
    .checksum_kind = plan->composite ? DG_SUM_NONE : upload->checksum_kind,
    .from_parts = true,
    .check = check_not_dropped,
    .receiver = plan,
  };
  struct dg_put_extra extra = {
    .multipart_etag = dg_slice_str(plan->etag),
    .part_sizes = dg_slice_str(plan->part_sizes),
    .checksum_kind = upload->checksum_kind,
    .checksum_text = plan->composite ? dg_slice_str(plan->checksum_text) : DG_SLICE_NONE,
  };
  struct dg_put_expect expect = {0};
  struct dg_put *put;
  int rc = 0;

  if (plan->native)
    return assemble_native(engine, call, plan, &put_request, ret_result, err);
  if (!plan->composite)
    expect.checksum_base64 = request->checksum_base64;
  if (dg_engine_put_open(engine, call, &put_request, &put, err) < 0)
    return -1;
  dg_put_set_extra(put, &extra);
  for (uint32_t i = 0; rc == 0 && i < request->part_count; i++)
    rc = dg_part_drain(engine, call, upload, &plan->parts[i], feed_put, put, err);
  if (rc < 0) {
    dg_put_abort(put);
    return -1;
  }
  return dg_put_commit(put, &expect, ret_result, err);
}

/* ---- State ------------------------------------------------------------------------------------ */

/* Waits for another Complete of the same upload. */
static int join_locked(struct dg_upload *upload, const struct dg_call *call, struct dg_error *err)
{
  uint64_t deadline_ms =
    call->deadline_mono_ms ? call->deadline_mono_ms : dg_time_mono_ms() + JOIN_WAIT_MS;

  while (upload->state == DG_UPLOAD_COMPLETING) {
    int rc = dg_call_wait(call, &upload->changed, &upload->mutex, deadline_ms, err);

    if (rc != 0)
      return rc < 0 ? -1 : dg_fail(err, DG_E_SLOW_DOWN, "the upload is still being completed");
  }
  return 0;
}

/* 1: the answer is in *ret_result; 0: the caller completes. */
static int enter(struct plan *plan, const struct dg_call *call, const uint8_t digest[32],
                 struct dg_put_result *ret_result, struct dg_error *err)
{
  struct dg_upload *upload = plan->upload;
  int rc = 0;

  g_mutex_lock(&upload->mutex);
  if (upload->state == DG_UPLOAD_COMPLETING) {
    if (memcmp(upload->request_sha256, digest, 32) != 0)
      rc = dg_fail(err, DG_E_INVALID_REQUEST, "the upload is being completed with other parts");
    else
      rc = join_locked(upload, call, err);
  }
  if (rc == 0 && upload->state == DG_UPLOAD_DONE &&
      memcmp(upload->request_sha256, digest, 32) == 0) {
    *ret_result = upload->result;
    rc = 1;
  } else if (rc == 0 && upload->state != DG_UPLOAD_OPEN) {
    rc = dg_fail(err, DG_E_NO_SUCH_UPLOAD, "the upload is over");
  } else if (rc == 0) {
    rc = make_plan_locked(plan, err);
    if (rc == 0) {
      upload->state = DG_UPLOAD_COMPLETING;
      memcpy(upload->request_sha256, digest, 32);
    }
  }
  g_mutex_unlock(&upload->mutex);
  return rc;
}

/* The object is committed; from here on nothing may fail the answer. */
static void leave_done(struct dg_engine *engine, const struct dg_call *call,
                       struct dg_upload *upload, bool joined, const struct dg_put_result *result)
{
  struct dg_error err;
  int rc;

  upload->result = *result;
  upload->done_s = dg_time_now_s();
  rc = dg_fault("engine.complete.done") ? -1 : dg_upload_save_done(upload, &err);
  if (rc < 0)
    dg_log_warn(engine->log, "engine.replay_lost", "upload=%s", upload->id);
  (void)dg_upload_remove_parts(upload);
  dg_upload_room_leave(engine->uploads, upload);
  if (dg_native_end(engine, call, upload, joined, &err) < 0)
    dg_log_warn(engine->log, "engine.upload_left", "upload=%s cause=%s", upload->id,
                DG_LOG_QUOTED(dg_slice_str(err.detail)));
}

int dg_engine_upload_complete(struct dg_engine *engine, const struct dg_call *call,
                              const struct dg_complete_request *request,
                              struct dg_put_result *ret_result, struct dg_error *err)
{
  struct plan plan = {.request = request};
  struct dg_put_result result = {0};
  struct dg_view *view;
  uint8_t digest[32];
  int rc;

  if (dg_upload_find(engine->uploads, request->bucket, request->key, request->upload_id,
                     &plan.upload, err) < 0)
    return -1;
  view = dg_engine_view(engine);
  plan.min_part_size = view->snapshot->enforce_min_part_size;
  dg_view_unref(view);
  request_digest(request, digest);
  rc = enter(&plan, call, digest, &result, err);
  if (rc == 0) {
    rc = assemble(engine, call, &plan, &result, err);
    if (rc == 0)
      leave_done(engine, call, plan.upload, plan.native, &result);
    g_mutex_lock(&plan.upload->mutex);
    if (plan.upload->state == DG_UPLOAD_GONE) {
      /* Dropped meanwhile, its files with it: whatever failed, failed of that. */
      if (rc < 0)
        (void)dg_fail(err, DG_E_NO_SUCH_UPLOAD, "the bucket was deleted");
    } else if (rc == 0) {
      dg_upload_end_locked(engine->uploads, plan.upload, DG_UPLOAD_DONE);
    } else {
      plan.upload->state = DG_UPLOAD_OPEN;
    }
    dg_upload_touch_locked(plan.upload);
    g_cond_broadcast(&plan.upload->changed);
    g_mutex_unlock(&plan.upload->mutex);
  }
  plan_clear(&plan);
  dg_upload_unref(plan.upload);
  if (rc < 0)
    return -1;
  *ret_result = result;
  return 0;
}
