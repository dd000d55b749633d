/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "plugins/crypt-aesgcm/sealer.h"

#include "common/banned.h"

static int sealer_write(struct dg_writer *writer, const void *data, size_t len,
                        struct dg_error *err)
{
  struct dg_sealer *sealer = (struct dg_sealer *)writer;

  if (sealer->failed)
    return dg_fail(err, DG_E_INTERNAL, "write after a failed write");
  sealer->failed = true;
  if (len > sealer->format->max_size - sealer->written)
    return dg_fail(err, DG_E_ENTITY_TOO_LARGE, "the format of this body holds at most %llu bytes",
                   (unsigned long long)sealer->format->max_size);
  if (sealer->plain_size != DG_TO_END && len > sealer->plain_size - sealer->written)
    return dg_fail(err, DG_E_INCOMPLETE_BODY, "the body is longer than announced");
  if (sealer->format->take(sealer, data, len, err) < 0)
    return -1;
  sealer->written += len;
  sealer->failed = false;
  return 0;
}

static void free_sealer(struct dg_sealer *sealer)
{
  EVP_CIPHER_CTX_free(sealer->ctx);
  sealer->format->release(sealer);
}

static void sealer_abort(struct dg_writer *writer)
{
  struct dg_sealer *sealer = (struct dg_sealer *)writer;

  if (!sealer)
    return;
  sealer->inner->ops->abort(sealer->inner);
  free_sealer(sealer);
}

static int finish(struct dg_sealer *sealer, struct dg_error *err)
{
  if (sealer->failed)
    return dg_fail(err, DG_E_INTERNAL, "commit after a failed write");
  if (sealer->plain_size != DG_TO_END && sealer->written != sealer->plain_size)
    return dg_fail(err, DG_E_INCOMPLETE_BODY, "the body is shorter than announced");
  return sealer->format->finish(sealer, err);
}

static int sealer_commit(struct dg_writer *writer, const struct dg_item *item,
                         const struct dg_meta *meta, struct dg_commit_result *ret_result,
                         struct dg_error *err)
{
  struct dg_sealer *sealer = (struct dg_sealer *)writer;
  int rc = finish(sealer, err);

  if (rc < 0)
    sealer->inner->ops->abort(sealer->inner);
  else
    rc = sealer->inner->ops->commit(sealer->inner, item, meta, ret_result, err);
  free_sealer(sealer);
  return rc;
}

static const struct dg_writer_ops writer_ops = {
  .struct_size = sizeof writer_ops,
  .write = sealer_write,
  .commit = sealer_commit,
  .abort = sealer_abort,
};

void dg_sealer_init(struct dg_sealer *sealer, const struct dg_sealer_format *format,
                    struct dg_writer *inner, EVP_CIPHER_CTX *ctx, uint64_t plain_size)
{
  *sealer = (struct dg_sealer){
    .writer.ops = &writer_ops,
    .format = format,
    .inner = inner,
    .ctx = ctx,
    .plain_size = plain_size,
  };
}
