/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/codec-xdelta3/codec.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/banned.h"

/* What the file is called, as far as the system knows. */
static char *path_of(int fd)
{
  g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);

  return g_file_read_link(link, NULL);
}

/* Maps the reference and refuses a file that is shorter than promised. */
static int map_reference(const struct dg_codec_ref_params *params, struct dg_codec_ref *ref,
                         struct dg_error *err)
{
  struct stat st;
  void *data;

  if (params->size_bytes == 0) {
    ref->data = (const uint8_t *)"";
    return 0;
  }
  if (params->size_bytes > SIZE_MAX / 2)
    return dg_fail(err, DG_E_LIMIT, "reference of %" G_GUINT64_FORMAT " bytes cannot be mapped",
                   params->size_bytes);
  if (fstat(params->fd, &st) < 0)
    return dg_fail(err, DG_E_IO, "stat the reference: %s", g_strerror(errno));
  if (st.st_size < 0 || params->offset > (uint64_t)st.st_size ||
      params->size_bytes > (uint64_t)st.st_size - params->offset)
    return dg_fail(err, DG_E_CORRUPT,
                   "reference file has %" G_GINT64_FORMAT " bytes, %" G_GUINT64_FORMAT
                   " at %" G_GUINT64_FORMAT " are needed",
                   (gint64)st.st_size, params->size_bytes, params->offset);
  data = mmap(NULL, (size_t)params->size_bytes, PROT_READ, MAP_SHARED, params->fd,
              (off_t)params->offset);
  if (data == MAP_FAILED)
    return dg_fail(err, DG_E_IO, "map the reference: %s", g_strerror(errno));
  ref->data = data;
  ref->size = params->size_bytes;
  ref->guard = dg_mapguard_add(data, (size_t)ref->size, PROT_READ);
  ref->path = path_of(params->fd);
  return 0;
}

int codec_ref_open(void *self, const struct dg_call *call,
                   const struct dg_codec_ref_params *params, struct dg_codec_ref **ret_ref,
                   struct dg_error *err)
{
  struct codec *codec = self;
  struct dg_codec_ref *ref = g_new0(struct dg_codec_ref, 1);
  struct dg_index_shape shape;

  (void)call;
  memcpy(ref->sha256, params->sha256, sizeof ref->sha256);
  if (map_reference(params, ref, err) < 0) {
    g_free(ref);
    return -1;
  }
  dg_index_shape_for(ref->size, &shape);
  if ((params->flags & DG_CODEC_REF_DECODE_ONLY) || shape.bucket_count == 0) {
    *ret_ref = ref;
    return 0;
  }
  ref->index.shape = shape;
  if (!params->cache_dir || codec_index_load(codec, params->cache_dir, ref) < 0)
    codec_index_build(codec, params->cache_dir, ref);
  if (codec_ref_check(ref, err) < 0) {
    codec_ref_close(ref);
    return -1;
  }
  *ret_ref = ref;
  return 0;
}

int codec_ref_check(const struct dg_codec_ref *ref, struct dg_error *err)
{
  if (!dg_mapguard_is_hurt(ref->guard))
    return 0;
  return dg_fail(err, DG_E_CORRUPT, "the reference cannot be read any more: '%.180s' was cut short, "
                                    "or its disk fails",
                 ref->path ? ref->path : "a file without a name");
}

uint64_t codec_ref_bytes(const struct dg_codec_ref *ref)
{
  return sizeof *ref + ref->anonymous_size;
}

void codec_ref_close(struct dg_codec_ref *ref)
{
  if (!ref)
    return;
  dg_mapguard_remove(ref->table_guard);
  if (ref->table)
    (void)munmap(ref->table, ref->table_size);
  dg_mapguard_remove(ref->guard);
  if (ref->size > 0)
    (void)munmap((void *)(uintptr_t)ref->data, (size_t)ref->size);
  g_free(ref->path);
  g_free(ref);
}
