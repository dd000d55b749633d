/* SPDX-License-Identifier: Apache-2.0 */
/* The face of backend-fs towards the host: options and op table. */
#include "config.h"

#include "plugin.h"

#include "bucket.h"
#include "commit.h"
#include "item.h"
#include "list.h"
#include "notes.h"
#include "root.h"
#include "writer.h"

#include "common/banned.h"

static int op_create(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                     struct dg_error *err)
{
  const char *path = config->get_text(config, "path");
  const char *index_dir = config->get_text(config, "index_dir");
  struct dg_fs *fs = NULL;

  if (!path || !*path)
    return dg_fail(err, DG_E_CONFIG, "option 'path' is empty: name the data directory");
  if (!index_dir || !*index_dir)
    index_dir = host->cache_dir;
  if (dg_fs_open(host, path, index_dir, &fs, err) < 0)
    return -1;
  *ret_self = fs;
  return 0;
}

static void op_destroy(void *self)
{
  dg_fs_close(self);
}

static int op_bucket_create(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_bucket_create(self, bucket, err);
}

static int op_bucket_delete(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_bucket_delete(self, bucket, err);
}

static int op_bucket_head(void *self, const struct dg_call *call, struct dg_slice bucket,
                          struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_bucket_head(self, bucket, err);
}

static int op_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                          void *receiver, struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_bucket_list(self, row, receiver, err);
}

static int op_head(void *self, const struct dg_call *call, const struct dg_item *item,
                   struct dg_meta *meta, struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_head(self, item, meta, err);
}

static int op_get(void *self, const struct dg_call *call, const struct dg_item *item,
                  struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
                  struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1
                                         : dg_fs_get(self, item, range, meta, ret_reader, err);
}

static int op_put(void *self, const struct dg_call *call, const struct dg_item *item,
                  uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err)
{
  (void)size_hint; /* delayed allocation does better without being told */
  if (dg_fs_check_call(call, err) < 0 || dg_fs_bucket_head(self, item->bucket, err) < 0)
    return -1;
  return dg_fs_writer_open(self, call, ret_writer, err);
}

static int op_remove(void *self, const struct dg_call *call, const struct dg_item *item,
                     struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_remove(self, item, err);
}

static int op_list(void *self, const struct dg_call *call, const struct dg_list_request *request,
                   dg_list_row_fn row, void *receiver, struct dg_error *err)
{
  return dg_fs_list(self, call, request, row, receiver, err);
}

static int op_set_meta(void *self, const struct dg_call *call, const struct dg_item *item,
                       const struct dg_meta *meta, struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_set_meta(self, item, meta, err);
}

static int op_validate(void *self, const struct dg_call *call, const struct dg_item *item,
                       struct dg_slice validator, int32_t *ret_same, struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1
                                         : dg_fs_validate(self, item, validator, ret_same, err);
}

static int op_probe(void *self, const struct dg_call *call, struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_probe(self, err);
}

static int op_note_put(void *self, const struct dg_call *call, struct dg_slice bucket,
                       struct dg_slice id, struct dg_slice text, struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_note_put(self, bucket, id, text, err);
}

static int op_note_get(void *self, const struct dg_call *call, struct dg_slice bucket,
                       struct dg_slice id, char *buffer, size_t *ret_len, struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0
           ? -1
           : dg_fs_note_get(self, bucket, id, buffer, ret_len, err);
}

static int op_note_remove(void *self, const struct dg_call *call, struct dg_slice bucket,
                          struct dg_slice id, struct dg_error *err)
{
  return dg_fs_check_call(call, err) < 0 ? -1 : dg_fs_note_remove(self, bucket, id, err);
}

static const struct dg_backend_ops ops = {
  .struct_size = sizeof ops,
  .caps = DG_CAP_PUT_ATOMIC | DG_CAP_DURABLE | DG_CAP_LATE_NAME | DG_CAP_READ_BACK |
          DG_CAP_VALIDATOR | DG_CAP_LOCAL_FILE | DG_CAP_NOTES,
  .create = op_create,
  .destroy = op_destroy,
  .bucket_create = op_bucket_create,
  .bucket_delete = op_bucket_delete,
  .bucket_head = op_bucket_head,
  .bucket_list = op_bucket_list,
  .head = op_head,
  .get = op_get,
  .put = op_put,
  .remove = op_remove,
  .list = op_list,
  .set_meta = op_set_meta,
  .validate = op_validate,
  .probe = op_probe,
  .note_put = op_note_put,
  .note_get = op_note_get,
  .note_remove = op_note_remove,
};

static const struct dg_option options[] = {
  {.name = "path",
   .type = DG_OPT_PATH,
   .dflt = "./data",
   .help = "Data directory; made if missing; its filesystem needs user extended attributes."},
  {.name = "index_dir",
   .type = DG_OPT_PATH,
   .help = "Where the listing index of large directories is kept; the cache directory if unset."},
  {.name = NULL},
};

const struct dg_plugin dg_fs_plugin = {
  .struct_size = sizeof dg_fs_plugin,
  .abi_major = DG_ABI_MAJOR,
  .abi_minor = DG_ABI_MINOR,
  .kind = DG_KIND_BACKEND,
  .threads = DG_THREADS_PARALLEL,
  .name = "backend-fs",
  .version = PACKAGE_VERSION,
  .summary = "Objects as files in a local directory, metadata in extended attributes.",
  .options = options,
  .ops = &ops,
};
