/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pool.h"

#include "common/banned.h"

#define IDLE_LINES_MAX 64u
#define IDLE_EASY_MAX 32u /* per line */
#define CONNECTIONS_MAX 64L /* kept open, per line */

struct dg_s3_pool {
  GMutex mutex; /* guards idle; leaf */
  GPtrArray *idle; /* struct dg_s3_line *; the last one is the warmest */
};

struct dg_s3_pool *dg_s3_pool_new(void)
{
  struct dg_s3_pool *pool = g_new0(struct dg_s3_pool, 1);

  g_mutex_init(&pool->mutex);
  pool->idle = g_ptr_array_new();
  return pool;
}

static void line_free(struct dg_s3_line *line)
{
  for (guint i = 0; i < line->idle->len; i++)
    curl_easy_cleanup(line->idle->pdata[i]);
  g_ptr_array_unref(line->idle);
  (void)curl_multi_cleanup(line->multi);
  g_free(line);
}

void dg_s3_pool_free(struct dg_s3_pool *pool)
{
  if (!pool)
    return;
  for (guint i = 0; i < pool->idle->len; i++)
    line_free(pool->idle->pdata[i]);
  g_ptr_array_unref(pool->idle);
  g_mutex_clear(&pool->mutex);
  g_free(pool);
}

struct dg_s3_line *dg_s3_line_take(struct dg_s3_pool *pool)
{
  struct dg_s3_line *line = NULL;

  g_mutex_lock(&pool->mutex);
  if (pool->idle->len)
    line = g_ptr_array_remove_index_fast(pool->idle, pool->idle->len - 1);
  g_mutex_unlock(&pool->mutex);
  if (line)
    return line;
  line = g_new0(struct dg_s3_line, 1);
  line->multi = curl_multi_init();
  g_assert(line->multi);
  (void)curl_multi_setopt(line->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX);
  line->idle = g_ptr_array_new();
  return line;
}

void dg_s3_line_give(struct dg_s3_pool *pool, struct dg_s3_line *line)
{
  g_mutex_lock(&pool->mutex);
  if (pool->idle->len < IDLE_LINES_MAX) {
    g_ptr_array_add(pool->idle, line);
    line = NULL;
  }
  g_mutex_unlock(&pool->mutex);
  if (line)
    line_free(line);
}

CURL *dg_s3_line_easy(struct dg_s3_line *line)
{
  CURL *easy;

  if (line->idle->len)
    return g_ptr_array_remove_index_fast(line->idle, line->idle->len - 1);
  easy = curl_easy_init();
  g_assert(easy);
  return easy;
}

void dg_s3_line_return(struct dg_s3_line *line, CURL *easy)
{
  if (line->idle->len >= IDLE_EASY_MAX) {
    curl_easy_cleanup(easy);
    return;
  }
  curl_easy_reset(easy);
  g_ptr_array_add(line->idle, easy);
}
