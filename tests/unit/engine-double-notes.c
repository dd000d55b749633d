/* SPDX-License-Identifier: Apache-2.0 */
/* The notes of the backend in memory, and what it knows of parts. */
#include "config.h"

#include "engine-double.h"

#include "common/slice.h"
#include "engine-double-private.h"

static GMutex mutex; /* guards all tables of notes, and what is known of parts */
static struct double_place place;

static char *name_of(struct dg_slice bucket, struct dg_slice id)
{
  return g_strdup_printf("%.*s/%.*s", DG_SLICE_ARG(bucket), DG_SLICE_ARG(id));
}

int double_backend_note_put(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_slice id, struct dg_slice text, struct dg_error *err)
{
  if (double_backend_bucket_head(self, call, bucket, err) < 0 || double_store_step(self, err) < 0)
    return -1;
  g_mutex_lock(&mutex);
  (void)g_hash_table_replace(double_store_notes(self), name_of(bucket, id),
                             g_bytes_new(text.data, text.len));
  g_mutex_unlock(&mutex);
  /* The answer may be lost when all is done. */
  return double_store_step(self, err);
}

int double_backend_note_get(void *self, const struct dg_call *call, struct dg_slice bucket,
                            struct dg_slice id, char *buffer, size_t *ret_len,
                            struct dg_error *err)
{
  g_autofree char *name = name_of(bucket, id);
  GBytes *note;
  int rc = 0;

  (void)call;
  g_mutex_lock(&mutex);
  note = g_hash_table_lookup(double_store_notes(self), name);
  if (note) {
    *ret_len = g_bytes_get_size(note);
    memcpy(buffer, g_bytes_get_data(note, NULL), *ret_len);
  } else {
    rc = dg_fail(err, DG_E_NO_SUCH_KEY, "no note '%s'", name);
  }
  g_mutex_unlock(&mutex);
  return rc;
}

int double_backend_note_remove(void *self, const struct dg_call *call, struct dg_slice bucket,
                               struct dg_slice id, struct dg_error *err)
{
  g_autofree char *name = name_of(bucket, id);

  (void)call;
  if (double_store_step(self, err) < 0)
    return -1;
  g_mutex_lock(&mutex);
  (void)g_hash_table_remove(double_store_notes(self), name);
  g_mutex_unlock(&mutex);
  return 0;
}

uint32_t double_store_note_count(struct double_store *store)
{
  uint32_t count;

  g_mutex_lock(&mutex);
  count = g_hash_table_size(double_store_notes(store));
  g_mutex_unlock(&mutex);
  return count;
}

bool double_store_has_note(struct double_store *store, const char *bucket, struct dg_slice id)
{
  g_autofree char *name = name_of(double_str(bucket), id);
  bool found;

  g_mutex_lock(&mutex);
  found = g_hash_table_contains(double_store_notes(store), name);
  g_mutex_unlock(&mutex);
  return found;
}

void double_store_change_notes(struct double_store *store, const char *text)
{
  GHashTableIter iter;

  g_mutex_lock(&mutex);
  g_hash_table_iter_init(&iter, double_store_notes(store));
  while (g_hash_table_iter_next(&iter, NULL, NULL)) {
    if (text)
      g_hash_table_iter_replace(&iter, g_bytes_new(text, strlen(text)));
    else
      g_hash_table_iter_remove(&iter);
  }
  g_mutex_unlock(&mutex);
}

void double_store_place(const struct double_place *known)
{
  g_mutex_lock(&mutex);
  place = *known;
  g_mutex_unlock(&mutex);
}

uint32_t double_store_asked(void)
{
  uint32_t asked;

  g_mutex_lock(&mutex);
  asked = place.asked;
  g_mutex_unlock(&mutex);
  return asked;
}

int double_backend_locate_part(void *self, const struct dg_call *call, const struct dg_item *item,
                               struct dg_slice validator, uint32_t part_no,
                               struct dg_range *ret_range, struct dg_error *err)
{
  struct double_place now;

  (void)self;
  (void)call;
  (void)item;
  (void)validator;
  g_mutex_lock(&mutex);
  place.asked++;
  now = place;
  g_mutex_unlock(&mutex);
  if (now.code)
    return dg_fail(err, now.code, "part %u", part_no);
  *ret_range = now.range;
  return 0;
}
