/* SPDX-License-Identifier: Apache-2.0 */
/* A body on its way: written once, read back if the engine changes its mind,
 * and only then given its name.
 *
 * Rests in the backend's own writer where that can be read back and named
 * late, else in the spool directory. */
#ifndef DG_CORE_ENGINE_STAGE_H
#define DG_CORE_ENGINE_STAGE_H

#include "core/engine/internal.h"

struct dg_spool;
struct dg_spool_room;
struct dg_stage;

/* reread: the body may be read back, or be committed under another variant than
 * DG_VARIANT_PASSTHROUGH. room: what the request holds of the spool already; borrowed, NULL:
 * none, and it may wait for some. DG_E_SLOW_DOWN. route, call and key stay valid until the
 * stage ends. */
int dg_stage_open(struct dg_engine *engine, const struct dg_call *call,
                  const struct dg_route *route, struct dg_slice key, uint64_t size_hint,
                  bool reread, struct dg_spool_room *room, struct dg_stage **ret_stage,
                  struct dg_error *err);
int dg_stage_write(struct dg_stage *stage, const void *data, size_t len, struct dg_error *err);
/* Where it rests, if that is the spool directory, else NULL. Borrowed. */
const struct dg_spool *dg_stage_spool(const struct dg_stage *stage);
/* Only with reread. Close the reader before anything else happens to the stage. */
int dg_stage_read(struct dg_stage *stage, struct dg_reader **ret_reader, struct dg_error *err);
/* Frees the stage either way. */
int dg_stage_commit(struct dg_stage *stage, const struct dg_item *item, const struct dg_meta *meta,
                    struct dg_commit_result *ret_result, struct dg_error *err);
void dg_stage_abort(struct dg_stage *stage); /* NULL is fine */

#endif
