/* SPDX-License-Identifier: Apache-2.0 */
/* Leases of the backend in memory. They know no owner: a test has one server that
 * works as it should, or several. */
#include "config.h"

#include "engine-double.h"

#include "common/clock.h"
#include "common/slice.h"
#include "engine-double-private.h"

static GMutex mutex; /* guards until */
static GHashTable *until; /* "bucket NUL prefix" as GBytes -> uint64_t *, monotonic ms */

static GBytes *lease_name(struct dg_slice bucket, struct dg_slice prefix)
{
  GString *name = g_string_new_len(bucket.data, (gssize)bucket.len);

  g_string_append_c(name, '\0');
  dg_slice_append(name, prefix);
  return g_string_free_to_bytes(name);
}

static void set_locked(struct dg_slice bucket, struct dg_slice prefix, uint64_t mono_ms)
{
  g_hash_table_replace(until, lease_name(bucket, prefix), g_memdup2(&mono_ms, sizeof mono_ms));
}

void double_lease_reset(void)
{
  g_mutex_lock(&mutex);
  g_clear_pointer(&until, g_hash_table_unref);
  until = g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, g_free);
  g_mutex_unlock(&mutex);
}

void double_lease_set(const char *bucket, const char *prefix, uint32_t ttl_ms)
{
  g_mutex_lock(&mutex);
  set_locked(dg_slice_str(bucket), dg_slice_str(prefix), dg_time_mono_ms() + ttl_ms);
  g_mutex_unlock(&mutex);
}

void double_lease_remove(const char *bucket, const char *prefix)
{
  g_autoptr(GBytes) name = lease_name(dg_slice_str(bucket), dg_slice_str(prefix));

  g_mutex_lock(&mutex);
  (void)g_hash_table_remove(until, name);
  g_mutex_unlock(&mutex);
}

uint32_t double_lease_count(void)
{
  uint32_t count;

  g_mutex_lock(&mutex);
  count = g_hash_table_size(until);
  g_mutex_unlock(&mutex);
  return count;
}

int double_backend_share(void *self, const struct dg_call *call, struct dg_error *err)
{
  (void)self;
  (void)call;
  (void)err;
  return 0;
}

int double_backend_lease_take(void *self, const struct dg_call *call, struct dg_slice bucket,
                              struct dg_slice prefix, uint32_t ttl_ms, uint32_t *ret_flags,
                              struct dg_error *err)
{
  g_autoptr(GBytes) name = lease_name(bucket, prefix);
  const uint64_t *there;
  int rc = 0;

  (void)self;
  (void)call;
  g_mutex_lock(&mutex);
  there = g_hash_table_lookup(until, name);
  if (there && *there > dg_time_mono_ms()) {
    rc = dg_fail(err, DG_E_CONFLICT, "somebody has it");
  } else {
    *ret_flags = there ? DG_LEASE_LAPSED : 0;
    set_locked(bucket, prefix, dg_time_mono_ms() + ttl_ms);
  }
  g_mutex_unlock(&mutex);
  return rc;
}

int double_backend_lease_renew(void *self, const struct dg_call *call, struct dg_slice bucket,
                               struct dg_slice prefix, uint32_t ttl_ms, struct dg_error *err)
{
  (void)self;
  (void)call;
  (void)err;
  g_mutex_lock(&mutex);
  set_locked(bucket, prefix, dg_time_mono_ms() + ttl_ms);
  g_mutex_unlock(&mutex);
  return 0;
}

int double_backend_lease_give(void *self, const struct dg_call *call, struct dg_slice bucket,
                              struct dg_slice prefix, int32_t keep, uint32_t *ret_wait_ms,
                              struct dg_error *err)
{
  g_autoptr(GBytes) name = lease_name(bucket, prefix);

  (void)self;
  (void)call;
  (void)err;
  *ret_wait_ms = 0;
  g_mutex_lock(&mutex);
  if (!keep)
    (void)g_hash_table_remove(until, name);
  g_mutex_unlock(&mutex);
  return 0;
}

int double_backend_lease_list(void *self, const struct dg_call *call, struct dg_slice bucket,
                              dg_lease_row_fn row, void *receiver, struct dg_error *err)
{
  g_autoptr(GList) names = NULL;
  GList *copies = NULL;
  uint64_t now = dg_time_mono_ms();

  (void)self;
  (void)call;
  (void)err;
  g_mutex_lock(&mutex);
  names = g_hash_table_get_keys(until);
  for (GList *link = names; link; link = link->next) {
    const uint64_t *end = g_hash_table_lookup(until, link->data);

    copies = g_list_prepend(copies, *end <= now ? g_bytes_ref(link->data) : NULL);
  }
  g_mutex_unlock(&mutex);
  for (GList *link = copies; link; link = link->next) {
    size_t len;
    const char *name = link->data ? g_bytes_get_data(link->data, &len) : NULL;
    struct dg_lease_row out = {.struct_size = sizeof out, .flags = name ? DG_LEASE_LAPSED : 0};

    if (name && (strlen(name) != bucket.len || memcmp(name, bucket.data, bucket.len) != 0))
      continue;
    out.prefix = name ? dg_slice_of(name + bucket.len + 1, len - bucket.len - 1) : DG_SLICE("");
    if (row(receiver, &out))
      break;
  }
  for (GList *link = copies; link; link = link->next)
    g_clear_pointer((GBytes **)&link->data, g_bytes_unref);
  g_list_free(copies);
  return 0;
}
