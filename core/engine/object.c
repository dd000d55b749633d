/* SPDX-License-Identifier: Apache-2.0 */
/* What the metadata of one object says: ETag, variants, parts, checksums. */
#include "config.h"

#include "core/engine/internal.h"

#include <openssl/evp.h>

#include "common/clock.h"
#include "common/hex.h"
#include "core/engine/partnotes.h"
#include "core/engine/partsizes.h"

#include "common/banned.h"

#define EMPTY_MD5 "d41d8cd98f00b204e9800998ecf8427e"

static const char *const checksum_names[] = {
  [DG_SUM_CRC32] = "checksum-crc32",         [DG_SUM_CRC32C] = "checksum-crc32c",
  [DG_SUM_CRC64NVME] = "checksum-crc64nvme", [DG_SUM_SHA1] = "checksum-sha1",
  [DG_SUM_SHA256] = "checksum-sha256",
};

const char *dg_checksum_extension(uint32_t kind)
{
  return kind < G_N_ELEMENTS(checksum_names) ? checksum_names[kind] : NULL;
}

struct dg_slice dg_key_deltaspace(struct dg_slice key)
{
  while (key.len && key.data[key.len - 1] != '/')
    key.len--;
  return key;
}

struct dg_slice dg_key_basename(struct dg_slice key)
{
  return dg_slice_skip(key, dg_key_deltaspace(key).len);
}

bool dg_key_eligible(struct dg_slice key, char *const *suffixes)
{
  struct dg_slice name = dg_key_basename(key);

  for (; suffixes && *suffixes; suffixes++) {
    size_t len = strlen(*suffixes);

    if (len && len <= name.len &&
        g_ascii_strncasecmp(name.data + (name.len - len), *suffixes, len) == 0)
      return true;
  }
  return false;
}

/* An ETag for what has no MD5: changes whenever size or date do. */
static void synthesize_etag(const struct dg_meta *meta, char etag[80])
{
  static const char label[] = "dg-unmanaged-etag-v1"; /* its NUL is part of the input */
  uint8_t input[sizeof label + 20], digest[EVP_MAX_MD_SIZE];
  uint8_t *at = input + sizeof label;
  char hex[33];

  if (meta->file_size == 0) {
    (void)g_strlcpy(etag, "\"" EMPTY_MD5 "\"", 80);
    return;
  }
  memcpy(input, label, sizeof label);
  for (int i = 0; i < 8; i++)
    *at++ = (uint8_t)(meta->file_size >> (8 * i));
  for (int i = 0; i < 8; i++)
    *at++ = (uint8_t)((uint64_t)meta->created_at_s >> (8 * i));
  for (int i = 0; i < 4; i++)
    *at++ = (uint8_t)(meta->created_at_ns >> (8 * i));
  if (EVP_Digest(input, sizeof input, digest, NULL, EVP_sha256(), NULL) != 1)
    memset(digest, 0, sizeof digest);
  dg_hex_encode(digest, 16, hex);
  (void)g_snprintf(etag, 80, "\"%s\"", hex);
}

/* `"hex-N"`: N, or 0. */
static uint32_t etag_part_count(const char *etag)
{
  const char *dash = strchr(etag, '-');
  uint64_t count;

  if (!dash || !dg_slice_to_u64(dg_slice_of(dash + 1, strcspn(dash + 1, "\"")), &count) ||
      count > 10000)
    return 0;
  return (uint32_t)count;
}

void dg_object_info_fill(struct dg_object_info *info, struct dg_meta *meta)
{
  struct dg_slice text;

  memset(info, 0, sizeof *info);
  info->meta = dg_meta_ref(meta);
  info->size_bytes = meta->file_size;
  info->stored_bytes = meta->stored_size;
  info->last_modified_s = meta->created_at_s;
  if (meta->multipart_etag.len && meta->multipart_etag.len < sizeof info->etag)
    memcpy(info->etag, meta->multipart_etag.data, meta->multipart_etag.len);
  else if ((text = meta->md5).len == 32 || (text = meta->unmanaged_etag).len)
    (void)g_snprintf(info->etag, sizeof info->etag, "\"%.*s\"", DG_SLICE_ARG(text));
  else
    synthesize_etag(meta, info->etag);
  info->part_count = etag_part_count(info->etag);
}

void dg_object_info_clear(struct dg_object_info *info)
{
  dg_meta_unref(info->meta);
  memset(info, 0, sizeof *info);
}

int dg_object_part_range(const struct dg_object_info *info, uint32_t part_no,
                         struct dg_range *ret_range, struct dg_error *err)
{
  struct dg_slice sizes = dg_meta_extension(info->meta, DG_EXTENSION_PART_SIZES);

  if (info->part_count == 0 && part_no == 1) {
    *ret_range = (struct dg_range){0, info->size_bytes};
    return 0;
  }
  if (part_no == 0 || part_no > info->part_count)
    return dg_fail(err, DG_E_INVALID_RANGE, "part %u of an object of %u parts", part_no,
                   info->part_count);
  if (sizes.len == 0 || dg_part_sizes_are_elsewhere(sizes))
    return dg_fail(err, DG_E_NOT_IMPLEMENTED,
                   "The sizes of this object's %u parts were not recorded. Read it by Range.",
                   info->part_count);
  if (!dg_part_sizes_find(sizes, part_no, info->size_bytes, ret_range))
    return dg_fail(err, DG_E_CORRUPT, "part %u of %u is not in the recorded sizes '%.*s'", part_no,
                   info->part_count, (int)MIN(sizes.len, 100), sizes.data);
  return 0;
}

struct dg_slice dg_object_checksum(const struct dg_object_info *info, uint32_t *ret_kind)
{
  for (uint32_t kind = DG_SUM_CRC32; kind <= DG_SUM_SHA256; kind++) {
    struct dg_slice value = dg_meta_extension(info->meta, checksum_names[kind]);

    if (value.len) {
      *ret_kind = kind;
      return value;
    }
  }
  *ret_kind = DG_SUM_NONE;
  return DG_SLICE("");
}

const struct dg_meta *dg_object_younger(const struct dg_meta *a, const struct dg_meta *b)
{
  if (!a || !b)
    return a ? a : b;
  if (a->created_at_s != b->created_at_s)
    return a->created_at_s > b->created_at_s ? a : b;
  if (a->created_at_ns != b->created_at_ns)
    return a->created_at_ns > b->created_at_ns ? a : b;
  return b->variant == DG_VARIANT_DELTA ? b : a;
}

bool dg_meta_same_version(const struct dg_meta *a, const struct dg_meta *b)
{
  if (a->validator.len && b->validator.len)
    return dg_slice_equal(a->validator, b->validator);
  return a->created_at_s == b->created_at_s && a->created_at_ns == b->created_at_ns &&
         a->file_size == b->file_size && dg_slice_equal(a->file_sha256, b->file_sha256);
}

void dg_found_clear(struct dg_found *found)
{
  dg_meta_unref(found->meta);
  dg_meta_unref(found->hidden);
  memset(found, 0, sizeof *found);
}

int dg_object_find(const struct dg_route *route, const struct dg_call *call, struct dg_slice key,
                   struct dg_found *ret_found, struct dg_error *err)
{
  struct dg_meta *plain = dg_meta_new(), *delta = dg_meta_new();
  uint32_t there = 0;
  int rc = dg_backend_head_both(route->backend, call, dg_slice_str(route->bucket), key, plain,
                                delta, &there, err);

  plain->variant = DG_VARIANT_PASSTHROUGH;
  delta->variant = DG_VARIANT_DELTA;
  if (!(there & DG_FOUND_PASSTHROUGH))
    g_clear_pointer(&plain, dg_meta_unref);
  if (!(there & DG_FOUND_DELTA))
    g_clear_pointer(&delta, dg_meta_unref);
  if (rc < 0)
    return -1;
  if (dg_object_younger(plain, delta) == delta)
    *ret_found = (struct dg_found){.meta = delta, .hidden = plain};
  else
    *ret_found = (struct dg_found){.meta = plain, .hidden = delta};
  return 0;
}

int dg_object_check_usable(const struct dg_meta *meta, struct dg_error *err)
{
  if (meta->flags & DG_META_CORRUPT)
    return dg_fail(err, DG_E_CORRUPT, "the object's metadata cannot be read");
  /* Unmanaged under a delta's name is no delta, or the backend had called it
   * corrupt: it is served as it is. */
  if (dg_meta_is_delta(meta) && meta->ref_sha256.len != 64)
    return dg_fail(err, DG_E_CORRUPT, "a delta that has lost its metadata");
  return 0;
}
