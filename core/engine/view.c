/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/view.h"

#include <stdatomic.h>

#include "core/config/config.h"

#include "common/banned.h"

struct dg_view *dg_view_new(const struct dg_engine_params *params)
{
  static atomic_uint_fast64_t last_serial;
  struct dg_view *view = g_new0(struct dg_view, 1);

  view->refs = 1;
  view->serial = atomic_fetch_add(&last_serial, 1) + 1;
  view->snapshot = dg_snapshot_ref(params->snapshot);
  view->companion = params->companion;
  view->free_companion = params->free_companion;
  view->backend_count = params->backend_count;
  view->backends = g_new0(struct dg_named_backend, params->backend_count + 1);
  for (size_t i = 0; i < params->backend_count; i++) {
    view->backends[i] = params->backends[i];
    view->backends[i].name = g_strdup(params->backends[i].name);
  }
  view->codec_count = params->codec_count;
  view->codecs = g_new0(struct dg_named_codec, params->codec_count + 1);
  for (size_t i = 0; i < params->codec_count; i++) {
    view->codecs[i] = params->codecs[i];
    view->codecs[i].name = g_strdup(params->codecs[i].name);
  }
  return view;
}

struct dg_view *dg_view_ref(struct dg_view *view)
{
  (void)g_atomic_int_add(&view->refs, 1);
  return view;
}

static void view_free(struct dg_view *view)
{
  for (size_t i = 0; i < view->backend_count; i++)
    g_free((char *)(uintptr_t)view->backends[i].name);
  for (size_t i = 0; i < view->codec_count; i++)
    g_free((char *)(uintptr_t)view->codecs[i].name);
  g_free(view->backends);
  g_free(view->codecs);
  if (view->free_companion)
    view->free_companion(view->companion);
  dg_snapshot_unref(view->snapshot);
  g_free(view);
}

void dg_view_unref(struct dg_view *view)
{
  /* A chain of views, each held by the one before, falls one by one. */
  while (view && g_atomic_int_dec_and_test(&view->refs)) {
    struct dg_view *next = view->next;

    view_free(view);
    view = next;
  }
}

const struct dg_snapshot *dg_view_snapshot(const struct dg_view *view)
{
  return view->snapshot;
}

void *dg_view_companion(const struct dg_view *view)
{
  return view->companion;
}

bool dg_view_is_unused(const struct dg_view *view)
{
  return g_atomic_int_get(&view->refs) == 1;
}
