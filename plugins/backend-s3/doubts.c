/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "doubts.h"

#include "common/checksum.h"
#include "common/clock.h"
#include "common/slice.h"
#include "run.h"

#include "common/banned.h"

#define SWEEP_FROM 1024u /* more entries: those that are over go first */

struct doubt {
  uint64_t until_mono_ms;
  bool removal;
  uint8_t change[32]; /* digest of what it would do */
};

struct dg_s3_doubts {
  GMutex mutex;      /* guards entries; leaf */
  GHashTable *names; /* BUCKET/NAME -> struct doubt *, both owned */
};

struct dg_s3_doubts *dg_s3_doubts_new(void)
{
  struct dg_s3_doubts *doubts = g_new0(struct dg_s3_doubts, 1);

  g_mutex_init(&doubts->mutex);
  doubts->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  return doubts;
}

void dg_s3_doubts_free(struct dg_s3_doubts *doubts)
{
  if (!doubts)
    return;
  g_hash_table_unref(doubts->names);
  g_mutex_clear(&doubts->mutex);
  g_free(doubts);
}

static char *key_of(struct dg_slice bucket, struct dg_slice name)
{
  GString *key = g_string_sized_new(bucket.len + name.len + 2);

  dg_slice_append(key, bucket);
  g_string_append_c(key, '/');
  dg_slice_append(key, name);
  return g_string_free(key, /* free_segment= */ FALSE);
}

static void add_text(struct dg_checksum *sum, const char *text)
{
  dg_checksum_update(sum, text, strlen(text) + 1);
}

/* When an object was made is the one thing that differs when a client sends it again. */
static bool tells_time(const char *header)
{
  return g_str_has_prefix(header, "x-amz-meta-dg-created-");
}

static void digest_of(const struct dg_s3_request *request, uint8_t out[32])
{
  struct dg_checksum sum = {0};

  dg_checksum_init(&sum, DG_SUM_SHA256);
  add_text(&sum, request->method);
  add_text(&sum, request->sha256);
  for (guint i = 0; i < request->query->len; i++)
    add_text(&sum, request->query->pdata[i]);
  add_text(&sum, "");
  for (guint i = 0; i + 1 < request->headers->len; i += 2)
    if (!tells_time(request->headers->pdata[i])) {
      add_text(&sum, request->headers->pdata[i]);
      add_text(&sum, request->headers->pdata[i + 1]);
    }
  (void)dg_checksum_final(&sum, out);
  dg_checksum_clear(&sum);
}

static gboolean is_over(gpointer key, gpointer value, gpointer now)
{
  (void)key;
  return ((const struct doubt *)value)->until_mono_ms <= *(const uint64_t *)now;
}

void dg_s3_doubt(struct dg_s3 *s3, const struct dg_s3_request *request)
{
  uint64_t now = dg_time_mono_ms();
  struct doubt *doubt;

  if (!request->changes)
    return;
  doubt = g_new0(struct doubt, 1);
  doubt->until_mono_ms = now + DG_S3_DOUBT_MS;
  doubt->removal = strcmp(request->method, "DELETE") == 0;
  digest_of(request, doubt->change);
  g_mutex_lock(&s3->doubts->mutex);
  if (g_hash_table_size(s3->doubts->names) >= SWEEP_FROM)
    (void)g_hash_table_foreach_remove(s3->doubts->names, is_over, &now);
  (void)g_hash_table_replace(s3->doubts->names, key_of(request->bucket, request->name), doubt);
  g_mutex_unlock(&s3->doubts->mutex);
}

/* False: nothing is in doubt. */
static bool find(struct dg_s3 *s3, struct dg_slice bucket, struct dg_slice name,
                 struct doubt *ret_doubt)
{
  g_autofree char *key = key_of(bucket, name);
  uint64_t now = dg_time_mono_ms();
  const struct doubt *doubt;
  bool found;

  g_mutex_lock(&s3->doubts->mutex);
  doubt = g_hash_table_lookup(s3->doubts->names, key);
  found = doubt && doubt->until_mono_ms > now;
  if (found)
    *ret_doubt = *doubt;
  else if (doubt)
    (void)g_hash_table_remove(s3->doubts->names, key);
  g_mutex_unlock(&s3->doubts->mutex);
  return found;
}

bool dg_s3_is_in_doubt(struct dg_s3 *s3, struct dg_slice bucket, struct dg_slice name)
{
  struct doubt doubt;

  return find(s3, bucket, name, &doubt);
}

static int wait_until(struct dg_s3 *s3, const struct dg_call *call, uint64_t until_mono_ms,
                      struct dg_error *err)
{
  struct dg_slice id = call ? call->request_id : DG_SLICE("");
  uint64_t now = dg_time_mono_ms(), wait = until_mono_ms > now ? until_mono_ms - now : 0;
  bool waits = wait < dg_s3_time_left_ms(call);

  dg_s3_log(s3, DG_LOG_WARN, "s3.doubt", "request_id=%.*s wait_ms=%u%s", DG_SLICE_ARG(id),
            (unsigned)wait, waits ? "" : " effect=refused");
  if (!waits)
    return dg_fail(err, DG_E_SLOW_DOWN,
                   "an earlier change of this name got no answer, and may still take effect");
  return dg_s3_pause(call, (uint32_t)wait, err);
}

int dg_s3_doubt_wait(struct dg_s3 *s3, const struct dg_call *call,
                     const struct dg_s3_request *request, struct dg_error *err)
{
  struct doubt doubt;
  uint8_t change[32];

  if (!find(s3, request->bucket, request->name, &doubt))
    return 0;
  digest_of(request, change);
  if (memcmp(change, doubt.change, sizeof change) == 0)
    return 0;
  return wait_until(s3, call, doubt.until_mono_ms, err);
}

int dg_s3_doubt_wait_to_stay(struct dg_s3 *s3, const struct dg_call *call, struct dg_slice bucket,
                             struct dg_slice name, struct dg_error *err)
{
  struct doubt doubt;

  if (!find(s3, bucket, name, &doubt) || !doubt.removal)
    return 0;
  return wait_until(s3, call, doubt.until_mono_ms, err);
}
