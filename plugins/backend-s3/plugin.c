/* SPDX-License-Identifier: Apache-2.0 */
/* The face of backend-s3 towards the host: options and op table. */
#include "config.h"

#include "plugin.h"

#include "bucket.h"
#include "copy.h"
#include "item.h"
#include "lease.h"
#include "list.h"
#include "native.h"
#include "notes.h"
#include "reader.h"
#include "s3.h"
#include "writer.h"

#include "common/banned.h"

static int op_create(const struct dg_host *host, const struct dg_config *config, void **ret_self,
                     struct dg_error *err)
{
  struct dg_s3 *s3;

  if (dg_s3_open(host, config, &s3, err) < 0)
    return -1;
  *ret_self = s3;
  return 0;
}

static void op_destroy(void *self)
{
  dg_s3_close(self);
}

static int op_bucket_create(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_error *err)
{
  return dg_s3_bucket_create(self, call, bucket, err);
}

static int op_bucket_delete(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_error *err)
{
  return dg_s3_bucket_delete(self, call, bucket, err);
}

static int op_bucket_head(void *self, const struct dg_call *call, struct dg_slice bucket,
                          struct dg_error *err)
{
  return dg_s3_bucket_head(self, call, bucket, err);
}

static int op_bucket_list(void *self, const struct dg_call *call, dg_bucket_row_fn row,
                          void *receiver, struct dg_error *err)
{
  return dg_s3_bucket_list(self, call, row, receiver, err);
}

static int op_head(void *self, const struct dg_call *call, const struct dg_item *item,
                   struct dg_meta *meta, struct dg_error *err)
{
  return dg_s3_head(self, call, item, meta, err);
}

static int op_head_both(void *self, const struct dg_call *call, struct dg_slice bucket,
                        struct dg_slice key, struct dg_meta *passthrough, struct dg_meta *delta,
                        uint32_t *ret_found, struct dg_error *err)
{
  return dg_s3_head_both(self, call, bucket, key, passthrough, delta, ret_found, err);
}

static int op_get(void *self, const struct dg_call *call, const struct dg_item *item,
                  struct dg_range range, struct dg_meta *meta, struct dg_reader **ret_reader,
                  struct dg_error *err)
{
  return dg_s3_get(self, call, item, range, meta, ret_reader, err);
}

static int op_put(void *self, const struct dg_call *call, const struct dg_item *item,
                  uint64_t size_hint, struct dg_writer **ret_writer, struct dg_error *err)
{
  return dg_s3_put(self, call, item, size_hint, ret_writer, err);
}

static int op_remove(void *self, const struct dg_call *call, const struct dg_item *item,
                     struct dg_error *err)
{
  return dg_s3_remove(self, call, item, err);
}

static int op_list(void *self, const struct dg_call *call, const struct dg_list_request *request,
                   dg_list_row_fn row, void *receiver, struct dg_error *err)
{
  return dg_s3_list(self, call, request, row, receiver, err);
}

static int op_set_meta(void *self, const struct dg_call *call, const struct dg_item *item,
                       const struct dg_meta *meta, struct dg_error *err)
{
  return dg_s3_set_meta(self, call, item, meta, err);
}

static int op_validate(void *self, const struct dg_call *call, const struct dg_item *item,
                       struct dg_slice validator, int32_t *ret_same, struct dg_error *err)
{
  return dg_s3_validate(self, call, item, validator, ret_same, err);
}

static int op_probe(void *self, const struct dg_call *call, struct dg_error *err)
{
  return dg_s3_probe(self, call, err);
}

static int op_seal_natively(void *self, const struct dg_pair *pairs, uint32_t count,
                            struct dg_error *err)
{
  return dg_s3_seal_natively(self, pairs, count, err);
}

static int op_share(void *self, const struct dg_call *call, struct dg_error *err)
{
  return dg_s3_share(self, call, err);
}

static int op_lease_take(void *self, const struct dg_call *call, struct dg_slice bucket,
                         struct dg_slice prefix, uint32_t ttl_ms, uint32_t *ret_flags,
                         struct dg_error *err)
{
  return dg_s3_lease_take(self, call, bucket, prefix, ttl_ms, ret_flags, err);
}

static int op_lease_renew(void *self, const struct dg_call *call, struct dg_slice bucket,
                          struct dg_slice prefix, uint32_t ttl_ms, struct dg_error *err)
{
  return dg_s3_lease_renew(self, call, bucket, prefix, ttl_ms, err);
}

static int op_lease_give(void *self, const struct dg_call *call, struct dg_slice bucket,
                         struct dg_slice prefix, int32_t keep, uint32_t *ret_wait_ms,
                         struct dg_error *err)
{
  return dg_s3_lease_give(self, call, bucket, prefix, keep != 0, ret_wait_ms, err);
}

static int op_lease_list(void *self, const struct dg_call *call, struct dg_slice bucket,
                         dg_lease_row_fn row, void *receiver, struct dg_error *err)
{
  return dg_s3_lease_list(self, call, bucket, row, receiver, err);
}

static int op_upload_begin(void *self, const struct dg_call *call, const struct dg_item *item,
                           const struct dg_meta *meta, char *ret_token, struct dg_error *err)
{
  return dg_s3_upload_begin(self, call, item, meta, ret_token, err);
}

static int op_upload_part(void *self, const struct dg_call *call, const struct dg_item *item,
                          struct dg_slice token, uint32_t part_no, uint64_t size_bytes,
                          struct dg_writer **ret_writer, struct dg_error *err)
{
  return dg_s3_upload_part(self, call, item, token, part_no, size_bytes, ret_writer, err);
}

static int op_upload_complete(void *self, const struct dg_call *call, const struct dg_item *item,
                              struct dg_slice token, const struct dg_upload_piece *pieces,
                              uint32_t count, struct dg_meta *meta, struct dg_error *err)
{
  return dg_s3_upload_complete(self, call, item, token, pieces, count, meta, err);
}

static int op_upload_abort(void *self, const struct dg_call *call, const struct dg_item *item,
                           struct dg_slice token, struct dg_error *err)
{
  return dg_s3_upload_abort(self, call, item, token, err);
}

static int op_copy(void *self, const struct dg_call *call, const struct dg_item *from,
                   struct dg_slice validator, const struct dg_item *to, const struct dg_meta *meta,
                   struct dg_error *err)
{
  return dg_s3_copy(self, call, from, validator, to, meta, err);
}

static int op_note_put(void *self, const struct dg_call *call, struct dg_slice bucket,
                       struct dg_slice id, struct dg_slice text, struct dg_error *err)
{
  return dg_s3_note_put(self, call, bucket, id, text, err);
}

static int op_note_get(void *self, const struct dg_call *call, struct dg_slice bucket,
                       struct dg_slice id, char *buffer, size_t *ret_len, struct dg_error *err)
{
  return dg_s3_note_get(self, call, bucket, id, buffer, ret_len, err);
}

static int op_note_remove(void *self, const struct dg_call *call, struct dg_slice bucket,
                          struct dg_slice id, struct dg_error *err)
{
  return dg_s3_note_remove(self, call, bucket, id, err);
}

static int op_locate_part(void *self, const struct dg_call *call, const struct dg_item *item,
                          struct dg_slice validator, uint32_t part_no,
                          struct dg_range *ret_range, struct dg_error *err)
{
  return dg_s3_locate_part(self, call, item, validator, part_no, ret_range, err);
}

static const struct dg_backend_ops ops = {
  .struct_size = sizeof ops,
  .caps = DG_CAP_PUT_ATOMIC | DG_CAP_DURABLE | DG_CAP_LATE_NAME | DG_CAP_READ_BACK |
          DG_CAP_VALIDATOR | DG_CAP_IF_ABSENT | DG_CAP_NATIVE_SEAL |
          DG_CAP_NATIVE_UPLOAD | DG_CAP_NATIVE_COPY | DG_CAP_NOTES | DG_CAP_LOCATE_PART,
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
  .seal_natively = op_seal_natively,
  .head_both = op_head_both,
  .share = op_share,
  .lease_take = op_lease_take,
  .lease_renew = op_lease_renew,
  .lease_give = op_lease_give,
  .lease_list = op_lease_list,
  .upload_begin = op_upload_begin,
  .upload_part = op_upload_part,
  .upload_complete = op_upload_complete,
  .upload_abort = op_upload_abort,
  .copy = op_copy,
  .note_put = op_note_put,
  .note_get = op_note_get,
  .note_remove = op_note_remove,
  .locate_part = op_locate_part,
};

#define MIB (INT64_C(1) << 20)
#define GIB (INT64_C(1) << 30)

static const struct dg_option options[] = {
  {.name = "endpoint",
   .type = DG_OPT_STRING,
   .help = "URL of the upstream; AWS in the region if unset."},
  {.name = "region",
   .type = DG_OPT_STRING,
   .dflt = "us-east-1",
   .help = "Region that requests are signed for and buckets are made in."},
  {.name = "force_path_style",
   .type = DG_OPT_BOOL,
   .dflt = "true",
   .help = "Puts the bucket into the path; false puts it into the host name."},
  {.name = "access_key_id",
   .type = DG_OPT_STRING,
   .help = "Access key; without one requests are not signed."},
  {.name = "secret_access_key",
   .type = DG_OPT_SECRET,
   .help = "Secret of the access key."},
  {.name = "allow_local",
   .type = DG_OPT_BOOL,
   .dflt = "false",
   .help = "Allows plain http and addresses that are not public."},
  {.name = "ca_bundle",
   .type = DG_OPT_PATH,
   .help = "PEM file of the authorities to trust instead of the system's."},
  {.name = "connect_timeout",
   .type = DG_OPT_DURATION,
   .max = 3600000,
   .help = "Time to make a connection; 10s if unset."},
  {.name = "read_timeout",
   .type = DG_OPT_DURATION,
   .max = 3600000,
   .help = "Time without a byte after which an attempt is given up; 60s if unset."},
  {.name = "attempt_timeout",
   .type = DG_OPT_DURATION,
   .max = 86400000,
   .help = "Time for one attempt at a request without a large body; 300s if unset."},
  {.name = "attempts",
   .type = DG_OPT_INT,
   .dflt = "4",
   .min = 1,
   .max = 20,
   .help = "How often a request is tried where a repeat is safe."},
  {.name = "max_requests",
   .type = DG_OPT_INT,
   .dflt = "256",
   .min = 1,
   .max = 65536,
   .help = "Requests under way at once; less while the upstream asks to slow down."},
  {.name = "multipart_threshold",
   .type = DG_OPT_SIZE,
   .dflt = "64MiB",
   .min = 5 * MIB,
   .max = 5 * GIB,
   .help = "Bodies longer than this are sent in parts."},
  {.name = "part_size",
   .type = DG_OPT_SIZE,
   .dflt = "16MiB",
   .min = 5 * MIB,
   .max = 5 * GIB,
   .help = "Size of a part; larger where ten thousand would not do."},
  {.name = "part_concurrency",
   .type = DG_OPT_INT,
   .dflt = "4",
   .min = 1,
   .max = 64,
   .help = "Parts of one object that are sent at once."},
  {.name = "native_uploads",
   .type = DG_OPT_BOOL,
   .dflt = "true",
   .help = "Lets the upstream join the parts of uploads that become no deltas."},
  {.name = "head_concurrency",
   .type = DG_OPT_INT,
   .dflt = "32",
   .min = 1,
   .max = 256,
   .help = "Objects whose metadata one listing asks for at once."},
  {.name = "metadata_index",
   .type = DG_OPT_SIZE,
   .dflt = "64MiB",
   .min = 0,
   .max = 64 * GIB,
   .help = "Memory for metadata that listings need not ask for again."},
  {.name = "spool_dir",
   .type = DG_OPT_PATH,
   .help = "Where bodies wait until they are sent; the cache directory if unset."},
  {.name = NULL},
};

const struct dg_plugin dg_s3_plugin = {
  .struct_size = sizeof dg_s3_plugin,
  .abi_major = DG_ABI_MAJOR,
  .abi_minor = DG_ABI_MINOR,
  .kind = DG_KIND_BACKEND,
  .threads = DG_THREADS_PARALLEL,
  .name = "backend-s3",
  .version = PACKAGE_VERSION,
  .summary = "Objects in buckets of another S3 server.",
  .options = options,
  .ops = &ops,
};
