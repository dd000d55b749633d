/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/meta.h"

#include <stdatomic.h>
#include <stdlib.h>

#include <glib.h>

#include "common/banned.h"

#define CHUNK_BYTES 1024u

struct chunk {
  struct chunk *next;
  size_t used, capacity;
  char bytes[];
};

struct meta_owner {
  struct dg_meta meta; /* first: the public face */
  atomic_int refs;
  struct chunk *chunks;
  size_t text_bytes; /* live and replaced text together: what the cap bounds */
  struct dg_pair *user, *extensions;
  uint32_t user_capacity, extension_capacity;
};

static struct meta_owner *owner_of(const struct dg_meta *meta)
{
  return (struct meta_owner *)(uintptr_t)meta;
}

struct dg_meta *dg_meta_new(void)
{
  struct meta_owner *owner = g_new0(struct meta_owner, 1);

  owner->meta.struct_size = sizeof owner->meta;
  atomic_init(&owner->refs, 1);
  return &owner->meta;
}

struct dg_meta *dg_meta_ref(struct dg_meta *meta)
{
  atomic_fetch_add_explicit(&owner_of(meta)->refs, 1, memory_order_relaxed);
  return meta;
}

static void free_chunks(struct meta_owner *owner)
{
  while (owner->chunks) {
    struct chunk *next = owner->chunks->next;

    g_free(owner->chunks);
    owner->chunks = next;
  }
}

void dg_meta_unref(struct dg_meta *meta)
{
  struct meta_owner *owner = owner_of(meta);

  if (!meta || atomic_fetch_sub_explicit(&owner->refs, 1, memory_order_acq_rel) != 1)
    return;
  free_chunks(owner);
  g_free(owner->user);
  g_free(owner->extensions);
  g_free(owner);
}

void dg_meta_clear(struct dg_meta *meta)
{
  struct meta_owner *owner = owner_of(meta);

  free_chunks(owner);
  owner->text_bytes = 0;
  memset(meta, 0, sizeof *meta);
  meta->struct_size = sizeof *meta;
  meta->user = owner->user;
  meta->extensions = owner->extensions;
}

/* Copies text into the arena, NUL-terminated. NULL when the cap is reached. */
static const char *keep(struct meta_owner *owner, struct dg_slice text)
{
  struct chunk *chunk = owner->chunks;
  size_t need = text.len + 1;
  char *at;

  if (text.len > DG_META_MAX_TEXT - owner->text_bytes)
    return NULL;
  if (!chunk || chunk->capacity - chunk->used < need) {
    size_t capacity = MAX(need, CHUNK_BYTES);

    chunk = g_malloc(sizeof *chunk + capacity);
    chunk->next = owner->chunks;
    chunk->used = 0;
    chunk->capacity = capacity;
    owner->chunks = chunk;
  }
  at = chunk->bytes + chunk->used;
  if (text.len)
    memcpy(at, text.data, text.len);
  at[text.len] = '\0';
  chunk->used += need;
  owner->text_bytes += text.len;
  return at;
}

static struct dg_slice *field_slot(struct dg_meta *meta, uint32_t field)
{
  switch (field) {
  case DG_FIELD_TOOL:
    return &meta->tool;
  case DG_FIELD_ORIGINAL_NAME:
    return &meta->original_name;
  case DG_FIELD_FILE_SHA256:
    return &meta->file_sha256;
  case DG_FIELD_MD5:
    return &meta->md5;
  case DG_FIELD_MULTIPART_ETAG:
    return &meta->multipart_etag;
  case DG_FIELD_CONTENT_TYPE:
    return &meta->content_type;
  case DG_FIELD_SOURCE_NAME:
    return &meta->source_name;
  case DG_FIELD_REF_PATH:
    return &meta->ref_path;
  case DG_FIELD_REF_SHA256:
    return &meta->ref_sha256;
  case DG_FIELD_DELTA_CMD:
    return &meta->delta_cmd;
  case DG_FIELD_UNMANAGED_ETAG:
    return &meta->unmanaged_etag;
  case DG_FIELD_VALIDATOR:
    return &meta->validator;
  default:
    return NULL;
  }
}

int dg_meta_set(struct dg_meta *meta, uint32_t field, struct dg_slice value, struct dg_error *err)
{
  struct dg_slice *slot = field_slot(meta, field);
  const char *text;

  if (!slot)
    return dg_fail(err, DG_E_INTERNAL, "unknown metadata field %u", field);
  text = keep(owner_of(meta), value);
  if (!text)
    return dg_fail(err, DG_E_METADATA_TOO_LARGE, "metadata exceeds %u bytes of text",
                   DG_META_MAX_TEXT);
  slot->data = text;
  slot->len = value.len;
  return 0;
}

static int add_pair(struct meta_owner *owner, struct dg_pair **pairs, uint32_t *count,
                    uint32_t *capacity, struct dg_slice name, struct dg_slice value,
                    struct dg_error *err)
{
  const char *kept_name, *kept_value;

  if (*count >= DG_META_MAX_PAIRS)
    return dg_fail(err, DG_E_METADATA_TOO_LARGE, "more than %u metadata entries",
                   DG_META_MAX_PAIRS);
  kept_name = keep(owner, name);
  kept_value = kept_name ? keep(owner, value) : NULL;
  if (!kept_value)
    return dg_fail(err, DG_E_METADATA_TOO_LARGE, "metadata exceeds %u bytes of text",
                   DG_META_MAX_TEXT);
  if (*count == *capacity) {
    *capacity = *capacity ? *capacity * 2 : 4;
    *pairs = g_renew(struct dg_pair, *pairs, *capacity);
  }
  (*pairs)[(*count)++] = (struct dg_pair){{kept_name, name.len}, {kept_value, value.len}};
  return 0;
}

int dg_meta_add_user(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                     struct dg_error *err)
{
  struct meta_owner *owner = owner_of(meta);
  int rc = add_pair(owner, &owner->user, &meta->user_count, &owner->user_capacity, name, value, err);

  meta->user = owner->user;
  return rc;
}

int dg_meta_add_extension(struct dg_meta *meta, struct dg_slice name, struct dg_slice value,
                          struct dg_error *err)
{
  struct meta_owner *owner = owner_of(meta);
  int rc = add_pair(owner, &owner->extensions, &meta->extension_count, &owner->extension_capacity,
                    name, value, err);

  meta->extensions = owner->extensions;
  return rc;
}

static uint32_t remove_pairs(struct dg_pair *pairs, uint32_t count,
                             bool (*match)(struct dg_slice name))
{
  uint32_t kept = 0;

  for (uint32_t i = 0; i < count; i++)
    if (!match(pairs[i].name))
      pairs[kept++] = pairs[i];
  return kept;
}

void dg_meta_remove_user(struct dg_meta *meta, bool (*match)(struct dg_slice name))
{
  meta->user_count = remove_pairs(owner_of(meta)->user, meta->user_count, match);
}

void dg_meta_remove_extensions(struct dg_meta *meta, bool (*match)(struct dg_slice name))
{
  meta->extension_count = remove_pairs(owner_of(meta)->extensions, meta->extension_count, match);
}

struct dg_meta *dg_meta_copy(const struct dg_meta *meta)
{
  struct dg_meta *copy = dg_meta_new();
  struct dg_error err;

  copy->variant = meta->variant;
  copy->file_size = meta->file_size;
  copy->stored_size = meta->stored_size;
  copy->created_at_s = meta->created_at_s;
  copy->created_at_ns = meta->created_at_ns;
  copy->flags = meta->flags;
  copy->delta_size = meta->delta_size;
  /* The source passed the same caps, so none of these can fail. */
  for (uint32_t field = DG_FIELD_TOOL; field <= DG_FIELD_VALIDATOR; field++) {
    const struct dg_slice *text = field_slot((struct dg_meta *)(uintptr_t)meta, field);

    if (text->len)
      (void)dg_meta_set(copy, field, *text, &err);
  }
  for (uint32_t i = 0; i < meta->user_count; i++)
    (void)dg_meta_add_user(copy, meta->user[i].name, meta->user[i].value, &err);
  for (uint32_t i = 0; i < meta->extension_count; i++)
    (void)dg_meta_add_extension(copy, meta->extensions[i].name, meta->extensions[i].value, &err);
  return copy;
}

static struct dg_slice find(const struct dg_pair *pairs, uint32_t count, const char *name)
{
  size_t len = strlen(name);

  for (uint32_t i = 0; i < count; i++)
    if (pairs[i].name.len == len && memcmp(pairs[i].name.data, name, len) == 0)
      return pairs[i].value;
  return DG_SLICE("");
}

struct dg_slice dg_meta_extension(const struct dg_meta *meta, const char *name)
{
  return find(meta->extensions, meta->extension_count, name);
}

struct dg_slice dg_meta_user(const struct dg_meta *meta, const char *name)
{
  return find(meta->user, meta->user_count, name);
}

size_t dg_meta_memory(const struct dg_meta *meta)
{
  const struct meta_owner *owner = owner_of(meta);
  size_t bytes = sizeof *owner + (owner->user_capacity + owner->extension_capacity) *
                                   sizeof(struct dg_pair);

  for (const struct chunk *chunk = owner->chunks; chunk; chunk = chunk->next)
    bytes += sizeof *chunk + chunk->capacity;
  return bytes;
}
