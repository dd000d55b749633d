/* SPDX-License-Identifier: Apache-2.0 */
/* ListBuckets: what all backends have, asked side by side, under clients' names. */
#include "config.h"

#include "core/engine/internal.h"

#include "common/banned.h"

struct bucket_merge {
  const struct dg_snapshot *snapshot;
  const char *backend_name, *default_backend;
  GTree *rows; /* name -> int64_t * created; sorted, each once */
};

static bool is_here(const struct bucket_merge *merge, const struct dg_bucket_config *policy)
{
  const char *backend = policy->backend ? policy->backend : merge->default_backend;

  return backend && strcmp(backend, merge->backend_name) == 0;
}

/* The backend that comes first keeps a name that another one has, too. */
static void merge_name(const struct bucket_merge *merge, const char *name, int64_t created_at_s)
{
  if (!g_tree_lookup(merge->rows, name))
    g_tree_insert(merge->rows, g_strdup(name), g_memdup2(&created_at_s, sizeof created_at_s));
}

/* Under each name that clients have for a bucket of one backend: its aliases reversed,
 * and its own if it has no alias, or an entry besides. */
static void merge_row(const struct bucket_merge *merge, const struct dg_bucket_seen *seen)
{
  GHashTable *policies = merge->snapshot->buckets;
  const struct dg_bucket_config *own;
  bool is_named = false;
  GHashTableIter iter;
  gpointer value;

  if (!policies) {
    merge_name(merge, seen->name, seen->created_at_s);
    return;
  }
  own = g_hash_table_lookup(policies, seen->name);
  g_hash_table_iter_init(&iter, policies);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const struct dg_bucket_config *policy = value;

    if (!policy->alias || strcmp(policy->alias, seen->name) != 0 || !is_here(merge, policy))
      continue;
    merge_name(merge, policy->name, seen->created_at_s);
    is_named = true;
  }
  if (!is_named || (own && !own->alias && is_here(merge, own)))
    merge_name(merge, seen->name, seen->created_at_s);
}

static void merge_rows(const struct bucket_merge *merge, const GPtrArray *rows)
{
  for (guint i = 0; rows && i < rows->len; i++)
    merge_row(merge, rows->pdata[i]);
}

static gint compare_names(gconstpointer a, gconstpointer b, gpointer unused)
{
  (void)unused;
  return strcmp(a, b);
}

struct bucket_emit {
  dg_bucket_row_fn row;
  void *receiver;
};

static gboolean emit_bucket(gpointer name, gpointer created, gpointer receiver)
{
  const struct bucket_emit *out = receiver;
  struct dg_bucket_row row = {.struct_size = sizeof row,
                              .name = dg_slice_str(name),
                              .created_at_s = *(const int64_t *)created};

  return out->row(out->receiver, &row) != 0;
}

/* Asks whoever is due and merges what all have; a backend that fails adds what it
 * had when it last answered. *ret_asked: someone was asked. Returns how many failed. */
static size_t gather(struct dg_engine *engine, const struct dg_view *view,
                     const struct dg_call *call, bool insist, struct bucket_merge *merge,
                     bool *ret_asked, struct dg_error *err)
{
  g_autofree uint64_t *tickets = g_new0(uint64_t, view->backend_count);
  size_t default_index = dg_route_default(view), failed = 0;

  for (size_t i = 0; i < view->backend_count; i++)
    tickets[i] = dg_health_buckets_begin(view->backends[i].health, insist);
  *ret_asked = false;
  for (size_t i = 0; i < view->backend_count; i++) {
    size_t index = dg_route_turn(i, default_index);
    const struct dg_named_backend *named = &view->backends[index];
    GPtrArray *rows = NULL;

    *ret_asked = *ret_asked || tickets[index];
    if (dg_health_buckets_wait(named->health, tickets[index], call, &rows, err) < 0) {
      failed++;
      if (tickets[index])
        dg_log_warn(engine->log, "engine.bucket_list", "backend=%s cause=%s", named->name,
                    DG_LOG_QUOTED(dg_slice_str(err->detail)));
    }
    merge->backend_name = named->name;
    merge_rows(merge, rows);
    g_clear_pointer(&rows, g_ptr_array_unref);
  }
  return failed;
}

int dg_engine_bucket_list(struct dg_engine *engine, const struct dg_call *call,
                          dg_bucket_row_fn row, void *receiver, struct dg_error *err)
{
  struct dg_view *view = dg_engine_view(engine);
  struct bucket_merge merge = {.snapshot = view->snapshot,
                               .default_backend = view->snapshot->default_backend};
  size_t failed;
  bool asked;
  int rc = 0;

  merge.rows = g_tree_new_full(compare_names, NULL, g_free, g_free);
  failed = gather(engine, view, call, /* insist= */ false, &merge, &asked, err);
  /* Leaving those alone that failed is good only while another one answers. */
  if (failed == view->backend_count && !asked)
    failed = gather(engine, view, call, /* insist= */ true, &merge, &asked, err);
  if (failed == view->backend_count)
    rc = -1;
  else
    g_tree_foreach(merge.rows, emit_bucket, &(struct bucket_emit){row, receiver});
  g_tree_unref(merge.rows);
  dg_view_unref(view);
  return rc;
}
