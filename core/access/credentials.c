/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/access/credentials.h"

#include <openssl/crypto.h>
#include <pthread.h>

#include "common/slice.h"

#include "common/banned.h"

/* Enough for a few users in a few regions around midnight; a miss costs four
 * HMACs. */
#define CACHE_SLOTS 64u

struct cached_key {
  pthread_mutex_t mutex;                  /* guards the slot */
  const struct dg_credential *credential; /* NULL: free */
  char date[8];
  char region[DG_REGION_MAX];
  size_t region_len;
  uint8_t key[32];
};

struct dg_credentials {
  gint refs;
  GPtrArray *rows; /* struct dg_credential *, sorted by access key */
  struct cached_key cache[CACHE_SLOTS];
};

static void credential_free(gpointer row)
{
  struct dg_credential *credential = row;

  OPENSSL_cleanse((char *)(uintptr_t)credential->secret.data, credential->secret.len);
  g_free((char *)(uintptr_t)credential->secret.data);
  g_free((char *)(uintptr_t)credential->access_key.data);
  g_free(credential);
}

struct dg_credentials *dg_credentials_new(void)
{
  struct dg_credentials *table = g_new0(struct dg_credentials, 1);

  table->refs = 1;
  table->rows = g_ptr_array_new_with_free_func(credential_free);
  for (size_t i = 0; i < CACHE_SLOTS; i++)
    (void)pthread_mutex_init(&table->cache[i].mutex, NULL);
  return table;
}

struct dg_credentials *dg_credentials_ref(struct dg_credentials *table)
{
  (void)g_atomic_int_add(&table->refs, 1);
  return table;
}

void dg_credentials_unref(void *pointer)
{
  struct dg_credentials *table = pointer;

  if (!table || !g_atomic_int_dec_and_test(&table->refs))
    return;
  for (size_t i = 0; i < CACHE_SLOTS; i++)
    (void)pthread_mutex_destroy(&table->cache[i].mutex);
  g_ptr_array_unref(table->rows);
  OPENSSL_cleanse(table, sizeof *table);
  g_free(table);
}

static gint compare_rows(gconstpointer a, gconstpointer b)
{
  const struct dg_credential *const *x = a, *const *y = b;

  return dg_slice_compare((*x)->access_key, (*y)->access_key);
}

void dg_credentials_add(struct dg_credentials *table, const char *access_key, const char *secret)
{
  struct dg_credential *credential = g_new0(struct dg_credential, 1);

  credential->access_key = dg_slice_str(g_strdup(access_key));
  credential->secret = dg_slice_str(g_strdup(secret));
  g_ptr_array_add(table->rows, credential);
  g_ptr_array_sort(table->rows, compare_rows);
}

const struct dg_credential *dg_credentials_find(const struct dg_credentials *table,
                                                struct dg_slice access_key)
{
  guint low = 0, high = table->rows->len;

  while (low < high) {
    guint middle = low + (high - low) / 2;
    const struct dg_credential *row = g_ptr_array_index(table->rows, middle);
    int order = dg_slice_compare(access_key, row->access_key);

    if (order == 0)
      return row;
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

/* Only verified scopes get in, so a plain hash does. */
static struct cached_key *slot_of(struct dg_credentials *table,
                                  const struct dg_credential *credential,
                                  const struct dg_sigv4_scope *scope)
{
  uint32_t hash = 2166136261u;
  struct dg_slice parts[] = {credential->access_key, scope->date, scope->region};

  for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
    for (size_t j = 0; j < parts[i].len; j++)
      hash = (hash ^ (uint8_t)parts[i].data[j]) * 16777619u;
  return &table->cache[(hash ^ hash >> 16) % CACHE_SLOTS];
}

bool dg_credentials_key(struct dg_credentials *table, const struct dg_credential *credential,
                        const struct dg_sigv4_scope *scope, uint8_t out[32])
{
  struct cached_key *slot = slot_of(table, credential, scope);
  bool hit;

  (void)pthread_mutex_lock(&slot->mutex);
  hit = slot->credential == credential &&
        dg_slice_equal(scope->date, dg_slice_of(slot->date, sizeof slot->date)) &&
        dg_slice_equal(scope->region, dg_slice_of(slot->region, slot->region_len));
  if (hit)
    memcpy(out, slot->key, 32);
  (void)pthread_mutex_unlock(&slot->mutex);
  if (!hit)
    dg_sigv4_key(credential->secret, scope, out);
  return hit;
}

void dg_credentials_remember(struct dg_credentials *table, const struct dg_credential *credential,
                             const struct dg_sigv4_scope *scope, const uint8_t key[32])
{
  struct cached_key *slot = slot_of(table, credential, scope);

  if (scope->date.len != sizeof slot->date || scope->region.len > sizeof slot->region)
    return;
  (void)pthread_mutex_lock(&slot->mutex);
  slot->credential = credential;
  memcpy(slot->date, scope->date.data, sizeof slot->date);
  if (scope->region.len)
    memcpy(slot->region, scope->region.data, scope->region.len);
  slot->region_len = scope->region.len;
  memcpy(slot->key, key, 32);
  (void)pthread_mutex_unlock(&slot->mutex);
}
