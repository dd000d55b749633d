/* SPDX-License-Identifier: Apache-2.0 */
/* Where a part lies: in the metadata, in a note beside the object, or with a storage that
 * joined it. */
#include "config.h"

#include "core/engine/partnotes.h"
#include "core/engine/partsizes.h"

#include "common/banned.h"

/* 1: found; 0: not known there; -1. */
static int look_in_note(const struct dg_call *call, const struct dg_route *route,
                        const struct dg_object_info *info, uint32_t part_no,
                        struct dg_range *ret_range, struct dg_error *err)
{
  struct dg_slice text = dg_meta_extension(info->meta, DG_EXTENSION_PART_SIZES);
  struct dg_slice id = dg_part_note_id(info->meta);
  g_autofree char *sizes = NULL;
  struct dg_range last;

  if (id.len == 0)
    return 0;
  if (dg_part_note_read(call, route, id, &sizes, err) < 0) {
    if (err->code != DG_E_NO_SUCH_KEY && err->code != DG_E_UNSUPPORTED)
      return -1;
    return dg_part_guess_find(text, info->part_count, part_no, info->size_bytes, ret_range);
  }
  if (!dg_part_sizes_find(dg_slice_str(sizes), part_no, info->size_bytes, ret_range) ||
      !dg_part_sizes_find(dg_slice_str(sizes), info->part_count, info->size_bytes, &last) ||
      last.offset + last.length != info->size_bytes)
    return dg_fail(err, DG_E_CORRUPT, "part %u of %u is not in the note '%.*s'", part_no,
                   info->part_count, DG_SLICE_ARG(id));
  return 1;
}

/* The same. Only of an object that is the storage's own: it may have stored others in
 * parts too, which are none of the client's. */
static int ask_storage(const struct dg_call *call, const struct dg_route *route,
                       struct dg_slice key, const struct dg_object_info *info, uint32_t part_no,
                       struct dg_range *ret_range, struct dg_error *err)
{
  struct dg_item item = dg_route_item(route, key, info->meta->variant);
  struct dg_range range;

  if (!(info->meta->flags & DG_META_UNMANAGED) ||
      info->meta->variant != DG_VARIANT_PASSTHROUGH || info->meta->validator.len == 0 ||
      !dg_backend_has(route->backend, DG_CAP_LOCATE_PART))
    return 0;
  if (dg_backend_locate_part(route->backend, call, &item, info->meta->validator, part_no, &range,
                             err) < 0)
    return err->code == DG_E_UNSUPPORTED || err->code == DG_E_PRECONDITION_FAILED ||
               err->code == DG_E_NO_SUCH_KEY
             ? 0
             : -1;
  if (range.offset > info->size_bytes || range.length > info->size_bytes - range.offset)
    return dg_fail(err, DG_E_IO, "the storage tells of a part beyond the object's end");
  *ret_range = range;
  return 1;
}

/* Whoever knew may have gone with the object. */
static int check_unchanged(struct dg_engine *engine, const struct dg_call *call,
                           const struct dg_route *route, struct dg_slice key,
                           const struct dg_object_info *info, struct dg_error *err)
{
  struct dg_item item = dg_route_item(route, key, info->meta->variant);
  bool same = true;

  if (!dg_backend_has(route->backend, DG_CAP_VALIDATOR) || info->meta->validator.len == 0)
    return 0;
  if (dg_backend_validate(route->backend, call, &item, info->meta->validator, &same, err) < 0)
    return -1;
  if (same)
    return 0;
  dg_metacache_drop(engine->metacache, dg_slice_str(route->bucket), key);
  return dg_fail(err, DG_E_NO_SUCH_KEY, "the object changed meanwhile");
}

int dg_engine_part_range(struct dg_engine *engine, const struct dg_call *call,
                         struct dg_slice bucket, struct dg_slice key,
                         const struct dg_object_info *info, uint32_t part_no,
                         struct dg_range *ret_range, struct dg_error *err)
{
  struct dg_error cause;
  struct dg_route route;
  int found;

  if (dg_object_part_range(info, part_no, ret_range, err) == 0)
    return 0;
  if (err->code != DG_E_NOT_IMPLEMENTED)
    return -1;
  cause = *err;
  if (dg_route_open(engine, call, bucket, &route, err) < 0)
    return -1;
  found = look_in_note(call, &route, info, part_no, ret_range, err);
  if (found == 0)
    found = ask_storage(call, &route, key, info, part_no, ret_range, err);
  if (found == 0) {
    found = check_unchanged(engine, call, &route, key, info, err);
    if (found == 0) {
      *err = cause;
      found = -1;
    }
  }
  dg_route_clear(&route);
  return found < 0 ? -1 : 0;
}
