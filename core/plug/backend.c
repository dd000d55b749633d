/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/plug/backend.h"

#include "core/plug/instance.h"

#include "common/banned.h"

#define KEY_MAX_BYTES 1024u

struct dg_backend {
  struct dg_instance instance;
  const struct dg_backend_ops *ops;
  struct dg_backend_ops own; /* of a layer: what ops points to */
  const char *plugin_name;
  const struct dg_backend *inner; /* of a layer, if it was told */
  bool is_shared;
};

int dg_backend_new(const struct dg_module *module, const char *instance_name,
                   const struct dg_config *config, const struct dg_plug_services *services,
                   struct dg_backend **ret_backend, struct dg_error *err)
{
  struct dg_backend *backend = g_new0(struct dg_backend, 1);

  if (dg_instance_init(&backend->instance, module, DG_KIND_BACKEND, instance_name, config,
                       services, err) < 0) {
    g_free(backend);
    return -1;
  }
  backend->ops = &module->ops.backend;
  backend->plugin_name = module->plugin.name;
  *ret_backend = backend;
  return 0;
}

struct dg_backend *dg_backend_wrap(const struct dg_backend_ops *ops, void *self,
                                   const char *instance_name, const char *plugin_name)
{
  struct dg_backend *backend = g_new0(struct dg_backend, 1);

  dg_instance_init_layer(&backend->instance, self, instance_name);
  backend->own = *ops;
  backend->ops = &backend->own;
  backend->plugin_name = plugin_name;
  return backend;
}

void dg_backend_set_inner(struct dg_backend *layer, struct dg_backend *inner)
{
  layer->inner = inner;
}

const struct dg_backend *dg_backend_base(const struct dg_backend *backend)
{
  while (backend->inner)
    backend = backend->inner;
  return backend;
}

bool dg_backend_is_serial(const struct dg_backend *backend)
{
  return dg_backend_base(backend)->instance.is_serial;
}

void dg_backend_free(struct dg_backend *backend)
{
  if (!backend)
    return;
  if (!backend->instance.module)
    backend->ops->destroy(backend->instance.self);
  dg_instance_clear(&backend->instance);
  g_free(backend);
}

const char *dg_backend_name(const struct dg_backend *backend)
{
  return backend->instance.name;
}

const char *dg_backend_plugin_name(const struct dg_backend *backend)
{
  return backend->plugin_name;
}

bool dg_backend_has(const struct dg_backend *backend, uint64_t caps)
{
  return (backend->ops->caps & caps) == caps;
}

bool dg_backend_can_set_meta(const struct dg_backend *backend)
{
  return backend->ops->set_meta != NULL;
}

/* One op: `call_expression` between enter and leave. */
#define CALL(backend, op, ...)                                                   \
  (dg_instance_enter(&(backend)->instance),                                      \
   dg_instance_leave(&(backend)->instance, #op,                                  \
                     (backend)->ops->op((backend)->instance.self, __VA_ARGS__), err))

/* What the engine promises about an item; a plugin may rely on it. */
static int check_item(const struct dg_backend *backend, const struct dg_item *item,
                      struct dg_error *err)
{
  bool is_reference = item->variant == DG_VARIANT_REFERENCE;

  if (item->variant < DG_VARIANT_PASSTHROUGH || item->variant > DG_VARIANT_REFERENCE)
    return dg_fail(err, DG_E_INTERNAL, "%s: an item of variant %u", backend->instance.name,
                   item->variant);
  if (item->bucket.len == 0 || (item->key.len == 0 && !is_reference))
    return dg_fail(err, DG_E_INTERNAL, "%s: an item without bucket or key", backend->instance.name);
  if (item->key.len > KEY_MAX_BYTES)
    return dg_fail(err, DG_E_KEY_TOO_LONG, "a key of %zu bytes", item->key.len);
  if (is_reference && item->key.len > 0 && item->key.data[item->key.len - 1] != '/')
    return dg_fail(err, DG_E_INTERNAL, "%s: a reference's key must end in '/'",
                   backend->instance.name);
  return 0;
}

int dg_backend_bucket_create(struct dg_backend *backend, const struct dg_call *call,
                             struct dg_slice bucket, struct dg_error *err)
{
  return CALL(backend, bucket_create, call, bucket, err);
}

int dg_backend_bucket_delete(struct dg_backend *backend, const struct dg_call *call,
                             struct dg_slice bucket, struct dg_error *err)
{
  return CALL(backend, bucket_delete, call, bucket, err);
}

int dg_backend_bucket_head(struct dg_backend *backend, const struct dg_call *call,
                           struct dg_slice bucket, struct dg_error *err)
{
  return CALL(backend, bucket_head, call, bucket, err);
}

int dg_backend_bucket_list(struct dg_backend *backend, const struct dg_call *call,
                           dg_bucket_row_fn row, void *receiver, struct dg_error *err)
{
  return CALL(backend, bucket_list, call, row, receiver, err);
}

int dg_backend_head(struct dg_backend *backend, const struct dg_call *call,
                    const struct dg_item *item, struct dg_meta *meta, struct dg_error *err)
{
  if (check_item(backend, item, err) < 0)
    return -1;
  return CALL(backend, head, call, item, meta, err);
}

static int head_one(struct dg_backend *backend, const struct dg_call *call, struct dg_item item,
                    struct dg_meta *meta, uint32_t bit, uint32_t *found, struct dg_error *err)
{
  if (dg_backend_head(backend, call, &item, meta, err) == 0)
    *found |= bit;
  else if (err->code != DG_E_NO_SUCH_KEY)
    return -1;
  return 0;
}

int dg_backend_head_both(struct dg_backend *backend, const struct dg_call *call,
                         struct dg_slice bucket, struct dg_slice key, struct dg_meta *passthrough,
                         struct dg_meta *delta, uint32_t *ret_found, struct dg_error *err)
{
  struct dg_item item = {.bucket = bucket, .key = key, .variant = DG_VARIANT_PASSTHROUGH};
  uint32_t found = 0;

  if (backend->ops->head_both) {
    if (check_item(backend, &item, err) < 0 ||
        CALL(backend, head_both, call, bucket, key, passthrough, delta, &found, err) < 0)
      return -1;
  } else {
    if (head_one(backend, call, item, passthrough, DG_FOUND_PASSTHROUGH, &found, err) < 0)
      return -1;
    item.variant = DG_VARIANT_DELTA;
    if (head_one(backend, call, item, delta, DG_FOUND_DELTA, &found, err) < 0)
      return -1;
  }
  *ret_found = found;
  return 0;
}

int dg_backend_get(struct dg_backend *backend, const struct dg_call *call,
                   const struct dg_item *item, struct dg_range range, struct dg_meta *meta,
                   struct dg_reader **ret_reader, struct dg_error *err)
{
  struct dg_reader *reader = NULL;

  if (check_item(backend, item, err) < 0 ||
      CALL(backend, get, call, item, range, meta, &reader, err) < 0)
    return -1;
  if (!reader)
    return dg_fail(err, DG_E_INTERNAL, "%s: get succeeded without a reader",
                   backend->instance.name);
  *ret_reader = backend->instance.is_serial ? dg_reader_serialise(reader, &backend->instance.mutex)
                                            : reader;
  return 0;
}

int dg_backend_put(struct dg_backend *backend, const struct dg_call *call,
                   const struct dg_item *item, uint64_t size_hint, struct dg_writer **ret_writer,
                   struct dg_error *err)
{
  struct dg_writer *writer = NULL;

  if (check_item(backend, item, err) < 0 ||
      CALL(backend, put, call, item, size_hint, &writer, err) < 0)
    return -1;
  if (!writer)
    return dg_fail(err, DG_E_INTERNAL, "%s: put succeeded without a writer",
                   backend->instance.name);
  *ret_writer = backend->instance.is_serial ? dg_writer_serialise(writer, &backend->instance.mutex)
                                            : writer;
  return 0;
}

int dg_backend_remove(struct dg_backend *backend, const struct dg_call *call,
                      const struct dg_item *item, struct dg_error *err)
{
  if (check_item(backend, item, err) < 0)
    return -1;
  return CALL(backend, remove, call, item, err);
}

int dg_backend_list(struct dg_backend *backend, const struct dg_call *call,
                    const struct dg_list_request *request, dg_list_row_fn row, void *receiver,
                    struct dg_error *err)
{
  return CALL(backend, list, call, request, row, receiver, err);
}

int dg_backend_set_meta(struct dg_backend *backend, const struct dg_call *call,
                        const struct dg_item *item, const struct dg_meta *meta,
                        struct dg_error *err)
{
  if (!backend->ops->set_meta)
    return dg_fail(err, DG_E_UNSUPPORTED, "%s cannot replace metadata alone",
                   backend->instance.name);
  if (check_item(backend, item, err) < 0)
    return -1;
  return CALL(backend, set_meta, call, item, meta, err);
}

int dg_backend_validate(struct dg_backend *backend, const struct dg_call *call,
                        const struct dg_item *item, struct dg_slice validator, bool *ret_same,
                        struct dg_error *err)
{
  int32_t same = 0;

  if (!dg_backend_has(backend, DG_CAP_VALIDATOR))
    return dg_fail(err, DG_E_UNSUPPORTED, "%s has no validators", backend->instance.name);
  if (check_item(backend, item, err) < 0 ||
      CALL(backend, validate, call, item, validator, &same, err) < 0)
    return -1;
  *ret_same = same != 0;
  return 0;
}

int dg_backend_seal_natively(struct dg_backend *backend, const struct dg_pair *pairs,
                             uint32_t count, struct dg_error *err)
{
  if (!dg_backend_has(backend, DG_CAP_NATIVE_SEAL))
    return dg_fail(err, DG_E_CONFIG, "%s (%s) cannot encrypt by itself", backend->instance.name,
                   backend->plugin_name);
  return CALL(backend, seal_natively, pairs, count, err);
}

int dg_backend_probe(struct dg_backend *backend, const struct dg_call *call, struct dg_error *err)
{
  dg_instance_enter(&backend->instance);
  return dg_instance_leave(&backend->instance, "probe",
                           backend->ops->probe(backend->instance.self, call, err), err);
}

/* ---- Several servers on one storage -------------------------------------------- */

static bool has_share(const struct dg_backend_ops *ops)
{
  return ops->share && ops->lease_take && ops->lease_renew && ops->lease_give && ops->lease_list;
}

bool dg_backend_module_can_share(const struct dg_module *module)
{
  return module->plugin.kind == DG_KIND_BACKEND && has_share(&module->ops.backend);
}

int dg_backend_share(struct dg_backend *backend, const struct dg_call *call, struct dg_error *err)
{
  if (!has_share(backend->ops))
    return dg_fail(err, DG_E_UNSUPPORTED,
                   "%s is for one server: its data belongs to the one that opened it",
                   backend->plugin_name);
  if (CALL(backend, share, call, err) < 0)
    return -1;
  backend->is_shared = true;
  return 0;
}

bool dg_backend_is_shared(const struct dg_backend *backend)
{
  return backend->is_shared;
}

int dg_backend_lease_take(struct dg_backend *backend, const struct dg_call *call,
                          struct dg_slice bucket, struct dg_slice prefix, uint32_t ttl_ms,
                          uint32_t *ret_flags, struct dg_error *err)
{
  return CALL(backend, lease_take, call, bucket, prefix, ttl_ms, ret_flags, err);
}

int dg_backend_lease_renew(struct dg_backend *backend, const struct dg_call *call,
                           struct dg_slice bucket, struct dg_slice prefix, uint32_t ttl_ms,
                           struct dg_error *err)
{
  return CALL(backend, lease_renew, call, bucket, prefix, ttl_ms, err);
}

int dg_backend_lease_give(struct dg_backend *backend, const struct dg_call *call,
                          struct dg_slice bucket, struct dg_slice prefix, bool keep,
                          uint32_t *ret_wait_ms, struct dg_error *err)
{
  return CALL(backend, lease_give, call, bucket, prefix, keep, ret_wait_ms, err);
}

int dg_backend_lease_list(struct dg_backend *backend, const struct dg_call *call,
                          struct dg_slice bucket, dg_lease_row_fn row, void *receiver,
                          struct dg_error *err)
{
  return CALL(backend, lease_list, call, bucket, row, receiver, err);
}

/* ---- Uploads ------------------------------------------------------------------------- */

static int check_upload(const struct dg_backend *backend, const struct dg_item *item,
                        struct dg_error *err)
{
  if (!backend->ops->upload_begin)
    return dg_fail(err, DG_E_UNSUPPORTED, "%s joins no parts", backend->instance.name);
  if (check_item(backend, item, err) < 0)
    return -1;
  if (item->variant != DG_VARIANT_PASSTHROUGH)
    return dg_fail(err, DG_E_INTERNAL, "%s: an upload of variant %u", backend->instance.name,
                   item->variant);
  return 0;
}

static struct dg_slice token_slice(const char *token)
{
  return (struct dg_slice){token, strlen(token)};
}

int dg_backend_upload_begin(struct dg_backend *backend, const struct dg_call *call,
                            const struct dg_item *item, const struct dg_meta *meta,
                            char **ret_token, struct dg_error *err)
{
  char token[DG_UPLOAD_TOKEN_MAX] = "";

  if (check_upload(backend, item, err) < 0 ||
      CALL(backend, upload_begin, call, item, meta, token, err) < 0)
    return -1;
  if (!token[0] || !memchr(token, '\0', sizeof token))
    return dg_fail(err, DG_E_INTERNAL, "%s: upload_begin succeeded without a token",
                   backend->instance.name);
  *ret_token = g_strdup(token);
  return 0;
}

int dg_backend_upload_part(struct dg_backend *backend, const struct dg_call *call,
                           const struct dg_item *item, const char *token, uint32_t part_no,
                           uint64_t size_bytes, struct dg_writer **ret_writer,
                           struct dg_error *err)
{
  struct dg_writer *writer = NULL;

  if (check_upload(backend, item, err) < 0 ||
      CALL(backend, upload_part, call, item, token_slice(token), part_no, size_bytes, &writer,
           err) < 0)
    return -1;
  if (!writer)
    return dg_fail(err, DG_E_INTERNAL, "%s: upload_part succeeded without a writer",
                   backend->instance.name);
  *ret_writer = backend->instance.is_serial ? dg_writer_serialise(writer, &backend->instance.mutex)
                                            : writer;
  return 0;
}

int dg_backend_upload_complete(struct dg_backend *backend, const struct dg_call *call,
                               const struct dg_item *item, const char *token,
                               const struct dg_upload_piece *pieces, uint32_t count,
                               struct dg_meta *meta, struct dg_error *err)
{
  if (check_upload(backend, item, err) < 0)
    return -1;
  return CALL(backend, upload_complete, call, item, token_slice(token), pieces, count, meta, err);
}

int dg_backend_upload_abort(struct dg_backend *backend, const struct dg_call *call,
                            const struct dg_item *item, const char *token, struct dg_error *err)
{
  if (check_upload(backend, item, err) < 0)
    return -1;
  return CALL(backend, upload_abort, call, item, token_slice(token), err);
}

int dg_backend_copy(struct dg_backend *backend, const struct dg_call *call,
                    const struct dg_item *from, struct dg_slice validator,
                    const struct dg_item *to, const struct dg_meta *meta, struct dg_error *err)
{
  if (!backend->ops->copy)
    return dg_fail(err, DG_E_UNSUPPORTED, "%s copies nothing by itself", backend->instance.name);
  if (check_item(backend, from, err) < 0 || check_item(backend, to, err) < 0)
    return -1;
  if (from->variant != DG_VARIANT_PASSTHROUGH || to->variant != DG_VARIANT_PASSTHROUGH)
    return dg_fail(err, DG_E_INTERNAL, "%s: a copy of variant %u to %u", backend->instance.name,
                   from->variant, to->variant);
  return CALL(backend, copy, call, from, validator, to, meta, err);
}

/* ---- Notes --------------------------------------------------------------------------- */

bool dg_backend_note_id_valid(struct dg_slice id)
{
  for (size_t i = 0; i < id.len; i++)
    if (!g_ascii_islower(id.data[i]) && !g_ascii_isdigit(id.data[i]) && id.data[i] != '-')
      return false;
  return id.len > 0 && id.len <= DG_NOTE_ID_MAX;
}

static int check_notes(const struct dg_backend *backend, struct dg_slice bucket,
                       struct dg_error *err)
{
  if (!dg_backend_has(backend, DG_CAP_NOTES))
    return dg_fail(err, DG_E_UNSUPPORTED, "%s keeps no notes", backend->instance.name);
  if (bucket.len == 0)
    return dg_fail(err, DG_E_INTERNAL, "%s: a note without a bucket", backend->instance.name);
  return 0;
}

int dg_backend_note_put(struct dg_backend *backend, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice id, struct dg_slice text,
                        struct dg_error *err)
{
  if (check_notes(backend, bucket, err) < 0)
    return -1;
  if (!dg_backend_note_id_valid(id) || text.len == 0 || text.len > DG_NOTE_MAX)
    return dg_fail(err, DG_E_INTERNAL, "%s: a note of %zu bytes, its id has %zu",
                   backend->instance.name, text.len, id.len);
  return CALL(backend, note_put, call, bucket, id, text, err);
}

int dg_backend_note_get(struct dg_backend *backend, const struct dg_call *call,
                        struct dg_slice bucket, struct dg_slice id, char **ret_text,
                        size_t *ret_len, struct dg_error *err)
{
  g_autofree char *text = NULL;
  size_t len = 0;

  if (check_notes(backend, bucket, err) < 0)
    return -1;
  if (!dg_backend_note_id_valid(id))
    return dg_fail(err, DG_E_NO_SUCH_KEY, "no note has such an id");
  text = g_malloc(DG_NOTE_MAX + 1);
  if (CALL(backend, note_get, call, bucket, id, text, &len, err) < 0)
    return -1;
  if (len > DG_NOTE_MAX)
    return dg_fail(err, DG_E_INTERNAL, "%s: a note of %zu bytes", backend->instance.name, len);
  text[len] = '\0';
  *ret_text = g_steal_pointer(&text);
  *ret_len = len;
  return 0;
}

int dg_backend_note_remove(struct dg_backend *backend, const struct dg_call *call,
                           struct dg_slice bucket, struct dg_slice id, struct dg_error *err)
{
  if (check_notes(backend, bucket, err) < 0)
    return -1;
  return dg_backend_note_id_valid(id) ? CALL(backend, note_remove, call, bucket, id, err) : 0;
}

int dg_backend_locate_part(struct dg_backend *backend, const struct dg_call *call,
                           const struct dg_item *item, struct dg_slice validator,
                           uint32_t part_no, struct dg_range *ret_range, struct dg_error *err)
{
  if (!dg_backend_has(backend, DG_CAP_LOCATE_PART))
    return dg_fail(err, DG_E_UNSUPPORTED, "%s knows no parts", backend->instance.name);
  if (check_item(backend, item, err) < 0)
    return -1;
  if (item->variant != DG_VARIANT_PASSTHROUGH)
    return dg_fail(err, DG_E_INTERNAL, "%s: a part of variant %u", backend->instance.name,
                   item->variant);
  return CALL(backend, locate_part, call, item, validator, part_no, ret_range, err);
}
