/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/stage.h"

#include "core/engine/spool.h"

#include "common/banned.h"

#define SPOOL_MEMORY_BYTES (1024u * 1024u)

struct dg_stage {
  const struct dg_call *call;
  const struct dg_route *route;
  uint64_t size_hint;
  struct dg_writer *writer; /* one of these two */
  struct dg_spool *spool;
};

int dg_stage_open(struct dg_engine *engine, const struct dg_call *call,
                  const struct dg_route *route, struct dg_slice key, uint64_t size_hint,
                  bool reread, struct dg_spool_room *room, struct dg_stage **ret_stage,
                  struct dg_error *err)
{
  const uint64_t flexible = DG_CAP_LATE_NAME | DG_CAP_READ_BACK;
  struct dg_stage *stage = g_new0(struct dg_stage, 1);
  struct dg_item item = dg_route_item(route, key, DG_VARIANT_PASSTHROUGH);

  stage->call = call;
  stage->route = route;
  stage->size_hint = size_hint;
  if (!reread || dg_backend_has(route->backend, flexible)) {
    if (dg_backend_put(route->backend, call, &item, size_hint, &stage->writer, err) < 0) {
      g_free(stage);
      return -1;
    }
  } else {
    if (dg_backend_bucket_head(route->backend, call, item.bucket, err) < 0) {
      g_free(stage);
      return -1;
    }
    stage->spool = dg_spool_new(engine->spool_dir, engine->spool_budget, SPOOL_MEMORY_BYTES);
    dg_spool_join_room(stage->spool, room);
    if (size_hint != DG_TO_END &&
        dg_spool_reserve(stage->spool, call, size_hint, /* ret_deferred= */ NULL, err) < 0) {
      dg_spool_free(stage->spool);
      g_free(stage);
      return -1;
    }
  }
  *ret_stage = stage;
  return 0;
}

const struct dg_spool *dg_stage_spool(const struct dg_stage *stage)
{
  return stage->spool;
}

int dg_stage_write(struct dg_stage *stage, const void *data, size_t len, struct dg_error *err)
{
  return stage->writer ? dg_writer_write(stage->writer, data, len, err)
                       : dg_spool_append(stage->spool, data, len, err);
}

int dg_stage_read(struct dg_stage *stage, struct dg_reader **ret_reader, struct dg_error *err)
{
  return stage->writer
           ? dg_writer_read_back(stage->writer, ret_reader, err)
           : dg_spool_reader(stage->spool, 0, dg_spool_size(stage->spool), ret_reader, err);
}

static int commit_spool(struct dg_stage *stage, const struct dg_item *item,
                        const struct dg_meta *meta, struct dg_commit_result *ret_result,
                        struct dg_error *err)
{
  struct dg_writer *writer;

  if (dg_backend_put(stage->route->backend, stage->call, item, dg_spool_size(stage->spool), &writer,
                     err) < 0)
    return -1;
  if (dg_spool_copy(stage->spool, writer, err) < 0) {
    dg_writer_abort(writer);
    return -1;
  }
  return dg_writer_commit(writer, item, meta, ret_result, err);
}

int dg_stage_commit(struct dg_stage *stage, const struct dg_item *item, const struct dg_meta *meta,
                    struct dg_commit_result *ret_result, struct dg_error *err)
{
  int rc = stage->writer ? dg_writer_commit(stage->writer, item, meta, ret_result, err)
                         : commit_spool(stage, item, meta, ret_result, err);

  dg_spool_free(stage->spool);
  g_free(stage);
  return rc;
}

void dg_stage_abort(struct dg_stage *stage)
{
  if (!stage)
    return;
  if (stage->writer)
    dg_writer_abort(stage->writer);
  dg_spool_free(stage->spool);
  g_free(stage);
}
