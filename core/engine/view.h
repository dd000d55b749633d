/* SPDX-License-Identifier: Apache-2.0 */
/* What one configuration puts in service: its policies, and the instances it
 * names. Immutable but for `next`.
 *
 * The engine holds the view of now. A request takes a reference when it begins and
 * an operation takes one for its route, so a view that was replaced stays whole
 * until the last of them has ended. Within one request an operation may see a
 * younger view than the request does, and leave a reader of its backends behind:
 * hence a view keeps all that came after it alive. */
#ifndef DG_CORE_ENGINE_VIEW_H
#define DG_CORE_ENGINE_VIEW_H

#include <glib.h>

#include "core/engine/engine.h"

struct dg_view {
  gint refs;
  gint superseded;                   /* read atomically: no longer the engine's view */
  struct dg_snapshot *snapshot;      /* shared */
  struct dg_named_backend *backends; /* names owned */
  size_t backend_count;
  struct dg_named_codec *codecs;     /* names owned */
  size_t codec_count;
  void *companion;                   /* owned */
  void (*free_companion)(void *companion);
  uint64_t serial;                   /* its own, never again */
  struct dg_view *next;              /* shared; NULL until replaced */
};

/* One reference. Copies what params name. */
struct dg_view *dg_view_new(const struct dg_engine_params *params);
struct dg_view *dg_view_ref(struct dg_view *view); /* [any] */

#endif
