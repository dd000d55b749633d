/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/engine/changeovers.h"

#include "common/slice.h"

#include "common/banned.h"

struct dg_changeovers {
  GMutex mutex;
  GPtrArray *watches; /* borrowed; guarded */
  gint watch_count;   /* atomic: as many as that */
  gint count;         /* atomic: of notes */
};

struct dg_changeover_watch {
  struct dg_changeovers *changeovers;
  struct dg_slice bucket, prefix;
  GTree *keys; /* char * -> itself; guarded. S3 keys hold no NUL */
  gint key_count; /* atomic: as many as that */
};

struct dg_changeovers *dg_changeovers_new(void)
{
  struct dg_changeovers *changeovers = g_new0(struct dg_changeovers, 1);

  g_mutex_init(&changeovers->mutex);
  changeovers->watches = g_ptr_array_new();
  return changeovers;
}

void dg_changeovers_free(struct dg_changeovers *changeovers)
{
  if (!changeovers)
    return;
  g_assert(changeovers->watches->len == 0);
  g_ptr_array_unref(changeovers->watches);
  g_mutex_clear(&changeovers->mutex);
  g_free(changeovers);
}

uint32_t dg_changeover_count(struct dg_changeovers *changeovers)
{
  return (uint32_t)g_atomic_int_get(&changeovers->count);
}

static gint compare(gconstpointer a, gconstpointer b, gpointer unused)
{
  (void)unused;
  return strcmp(a, b); /* as unsigned bytes: the order of listings */
}

void dg_changeover_note(struct dg_changeovers *changeovers, struct dg_slice bucket,
                        struct dg_slice key)
{
  (void)g_atomic_int_add(&changeovers->count, 1);
  /* Who begins to watch after this sees the new variant. */
  if (g_atomic_int_get(&changeovers->watch_count) == 0)
    return;
  g_mutex_lock(&changeovers->mutex);
  for (guint i = 0; i < changeovers->watches->len; i++) {
    struct dg_changeover_watch *watch = changeovers->watches->pdata[i];
    char *text;

    if (!dg_slice_equal(watch->bucket, bucket) || !dg_slice_starts_with(key, watch->prefix))
      continue;
    text = dg_slice_dup(key);
    g_tree_replace(watch->keys, text, text);
    g_atomic_int_set(&watch->key_count, g_tree_nnodes(watch->keys));
  }
  g_mutex_unlock(&changeovers->mutex);
}

struct dg_changeover_watch *dg_changeover_watch_begin(struct dg_changeovers *changeovers,
                                                      struct dg_slice bucket,
                                                      struct dg_slice prefix)
{
  struct dg_changeover_watch *watch = g_new0(struct dg_changeover_watch, 1);

  watch->changeovers = changeovers;
  watch->bucket = bucket;
  watch->prefix = prefix;
  watch->keys = g_tree_new_full(compare, NULL, g_free, NULL);
  g_mutex_lock(&changeovers->mutex);
  g_ptr_array_add(changeovers->watches, watch);
  g_atomic_int_inc(&changeovers->watch_count);
  g_mutex_unlock(&changeovers->mutex);
  return watch;
}

void dg_changeover_watch_end(struct dg_changeover_watch *watch)
{
  if (!watch)
    return;
  g_mutex_lock(&watch->changeovers->mutex);
  (void)g_ptr_array_remove_fast(watch->changeovers->watches, watch);
  (void)g_atomic_int_dec_and_test(&watch->changeovers->watch_count);
  g_mutex_unlock(&watch->changeovers->mutex);
  g_tree_unref(watch->keys);
  g_free(watch);
}

bool dg_changeover_first(struct dg_changeover_watch *watch, GString *ret_key)
{
  GTreeNode *node;

  if (g_atomic_int_get(&watch->key_count) == 0)
    return false;
  g_mutex_lock(&watch->changeovers->mutex);
  node = g_tree_node_first(watch->keys);
  if (node)
    (void)g_string_assign(ret_key, g_tree_node_key(node));
  g_mutex_unlock(&watch->changeovers->mutex);
  return node != NULL;
}

void dg_changeover_drop(struct dg_changeover_watch *watch, const GString *key)
{
  g_mutex_lock(&watch->changeovers->mutex);
  (void)g_tree_remove(watch->keys, key->str);
  g_atomic_int_set(&watch->key_count, g_tree_nnodes(watch->keys));
  g_mutex_unlock(&watch->changeovers->mutex);
}
