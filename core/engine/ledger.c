/* SPDX-License-Identifier: Apache-2.0 */
/* While a bucket is counted, each change is in the sum exactly once:
 *
 *   its key is past the listing     the row is in the sum: the change's difference
 *                                   is added to it
 *   its key is still to come        what the key counts is kept in `aside`, and the
 *                                   row, which shows the key before, after or in
 *                                   between, is passed over
 *
 * so that it does not matter when the backend read the page that a row came in. */
#include "config.h"

#include "core/engine/ledger.h"

#include <string.h>

#include "common/fault.h"
#include "common/slice.h"
#include "core/engine/ledgerfile.h"
#include "core/observe/log.h"

#include "common/banned.h"

#define PLACE_WAIT_US (5 * G_USEC_PER_SEC)

struct change {
  GBytes *key; /* NULL: the place is free */
  uint64_t number;
  struct dg_use before, after;
  bool doubt;
};

struct dg_ledger {
  GMutex mutex; /* guards everything; a leaf */
  GCond freed;  /* a place */
  struct dg_ledger_file *file; /* NULL: in memory alone */
  struct dg_log *log;
  struct dg_ledger_head head;
  struct change changes[DG_LEDGER_PLACES];
  uint32_t change_count, doubt_count;
  uint64_t next_number;
  struct dg_use reserved;
  /* A count. */
  bool counting;
  struct dg_use sum;
  GBytes *passed; /* the last key that the listing gave; NULL: none yet */
  GTree *aside;   /* key -> struct dg_use * */
};

/* ---- Arithmetic ------------------------------------------------------------------------- */

static uint64_t growth(uint64_t before, uint64_t after)
{
  return after > before ? after - before : 0;
}

/* Others may write behind our back: never below nothing. */
static uint64_t less(uint64_t a, uint64_t b)
{
  return a > b ? a - b : 0;
}

static void move(struct dg_use *sum, struct dg_use before, struct dg_use after)
{
  sum->objects = less(sum->objects + after.objects, before.objects);
  sum->bytes = less(sum->bytes + after.bytes, before.bytes);
}

static struct dg_slice slice_of(GBytes *bytes)
{
  gsize len;
  const void *data = g_bytes_get_data(bytes, &len);

  return dg_slice_of(data, len);
}

static gint compare_keys(gconstpointer a, gconstpointer b, gpointer unused)
{
  (void)unused;
  return dg_slice_compare(slice_of((GBytes *)(uintptr_t)a), slice_of((GBytes *)(uintptr_t)b));
}

/* ---- Life -------------------------------------------------------------------------------- */

/* A disk that does not take the file costs a count at the next start. */
static void lose_file(struct dg_ledger *ledger, const struct dg_error *err)
{
  dg_log_warn(ledger->log, "quota.file", "cause=%s", DG_LOG_QUOTED(dg_slice_str(err->detail)));
  dg_ledger_file_remove(ledger->file);
  ledger->file = NULL;
}

static void reserve(struct dg_ledger *ledger, const struct change *change)
{
  ledger->reserved.objects += growth(change->before.objects, change->after.objects);
  ledger->reserved.bytes += growth(change->before.bytes, change->after.bytes);
}

static void unreserve(struct dg_ledger *ledger, const struct change *change)
{
  ledger->reserved.objects -= growth(change->before.objects, change->after.objects);
  ledger->reserved.bytes -= growth(change->before.bytes, change->after.bytes);
}

static void load_doubt(void *receiver, uint32_t place, const struct dg_ledger_note *note)
{
  struct dg_ledger *ledger = receiver;
  struct change *change = &ledger->changes[place];

  *change = (struct change){.key = g_bytes_new(note->key.data, note->key.len),
                            .number = note->number,
                            .before = note->before,
                            .after = note->after,
                            .doubt = true};
  ledger->change_count++;
  ledger->doubt_count++;
  reserve(ledger, change);
}

static void forget_changes(struct dg_ledger *ledger)
{
  for (uint32_t i = 0; i < DG_LEDGER_PLACES; i++)
    g_clear_pointer(&ledger->changes[i].key, g_bytes_unref);
  ledger->change_count = ledger->doubt_count = 0;
  ledger->reserved = (struct dg_use){0};
}

struct dg_ledger *dg_ledger_open(const struct dg_ledger_params *params)
{
  struct dg_ledger *ledger = g_new0(struct dg_ledger, 1);
  struct dg_error err;

  g_mutex_init(&ledger->mutex);
  g_cond_init(&ledger->freed);
  ledger->log = params->log;
  if (params->path && dg_ledger_file_open(params, &ledger->head, load_doubt, ledger, &ledger->file,
                                          &err) < 0) {
    forget_changes(ledger);
    dg_log_warn(ledger->log, "quota.file", "cause=%s", DG_LOG_QUOTED(dg_slice_str(err.detail)));
  }
  for (uint32_t i = 0; i < DG_LEDGER_PLACES; i++)
    ledger->next_number =
      MAX(ledger->next_number, MAX(ledger->head.ended[i], ledger->changes[i].number));
  ledger->next_number++;
  return ledger;
}

static void end_count(struct dg_ledger *ledger)
{
  ledger->counting = false;
  g_clear_pointer(&ledger->aside, g_tree_unref);
  g_clear_pointer(&ledger->passed, g_bytes_unref);
}

void dg_ledger_close(struct dg_ledger *ledger, bool keep)
{
  if (!ledger)
    return;
  if (keep)
    dg_ledger_file_keep(ledger->file, &ledger->head);
  else
    dg_ledger_file_remove(ledger->file);
  end_count(ledger);
  forget_changes(ledger);
  g_cond_clear(&ledger->freed);
  g_mutex_clear(&ledger->mutex);
  g_free(ledger);
}

static void save_head(struct dg_ledger *ledger)
{
  struct dg_error err;

  if (ledger->file && dg_ledger_file_put_head(ledger->file, &ledger->head, &err) < 0)
    lose_file(ledger, &err);
}

/* ---- The limit ------------------------------------------------------------------------------ */

/* By how much the use could shrink at best, and the reserved growth with it, once
 * everything in doubt is known. */
static uint64_t doubtful(const struct dg_ledger *ledger, bool bytes)
{
  uint64_t sum = 0;

  for (uint32_t i = 0; ledger->doubt_count > 0 && i < DG_LEDGER_PLACES; i++) {
    const struct change *c = &ledger->changes[i];

    if (c->key && c->doubt)
      sum += bytes ? growth(c->before.bytes, c->after.bytes) + less(c->before.bytes, c->after.bytes)
                   : growth(c->before.objects, c->after.objects) +
                       less(c->before.objects, c->after.objects);
  }
  return sum;
}

static int check_one(const struct dg_ledger *ledger, bool bytes, uint64_t more,
                     const struct dg_use_limit *limit, struct dg_error *err)
{
  uint64_t most = bytes ? limit->most.bytes : limit->most.objects;
  uint64_t use = bytes ? ledger->head.use.bytes : ledger->head.use.objects;
  uint64_t reserved = bytes ? ledger->reserved.bytes : ledger->reserved.objects;
  uint64_t taken = use + reserved;

  if (most == UINT64_MAX || more == 0 || (taken <= most && more <= most - taken))
    return 0;
  taken = less(taken, doubtful(ledger, bytes));
  if (taken <= most && more <= most - taken)
    return dg_fail(err, DG_E_SLOW_DOWN, "what bucket '%s' holds is being looked at", limit->bucket);
  return dg_fail(err, DG_E_QUOTA,
                 "The quota of bucket '%s' is used up: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                 " %s are in use, %" G_GUINT64_FORMAT " are being written, this needs %" G_GUINT64_FORMAT
                 " more.",
                 limit->bucket, use, most, bytes ? "bytes" : "objects", reserved, more);
}

static int check_locked(const struct dg_ledger *ledger, struct dg_use before, struct dg_use after,
                        const struct dg_use_limit *limit, struct dg_error *err)
{
  uint64_t objects = growth(before.objects, after.objects);
  uint64_t bytes = growth(before.bytes, after.bytes);

  if (!limit || (objects == 0 && bytes == 0))
    return 0;
  if (!ledger->head.known)
    return dg_fail(err, DG_E_SLOW_DOWN, "bucket '%s' is being counted", limit->bucket);
  if (check_one(ledger, /* bytes= */ false, objects, limit, err) < 0)
    return -1;
  return check_one(ledger, /* bytes= */ true, bytes, limit, err);
}

int dg_ledger_check(struct dg_ledger *ledger, struct dg_use before, struct dg_use after,
                    const struct dg_use_limit *limit, struct dg_error *err)
{
  int rc;

  g_mutex_lock(&ledger->mutex);
  rc = check_locked(ledger, before, after, limit, err);
  g_mutex_unlock(&ledger->mutex);
  return rc;
}

/* ---- Changes ---------------------------------------------------------------------------------- */

/* The change is over, and the object counts `now`. */
static void settle(struct dg_ledger *ledger, uint32_t place, struct dg_use now)
{
  struct change *change = &ledger->changes[place];

  (void)dg_fault("engine.quota.settle");
  move(&ledger->head.use, change->before, now);
  ledger->head.ended[place] = change->number;
  save_head(ledger);
  (void)dg_fault("engine.quota.settled");
  if (ledger->counting) {
    struct dg_use *aside = g_tree_lookup(ledger->aside, change->key);

    move(aside ? aside : &ledger->sum, change->before, now);
  }
  unreserve(ledger, change);
  ledger->change_count--;
  if (change->doubt)
    ledger->doubt_count--;
  g_clear_pointer(&change->key, g_bytes_unref);
  g_cond_signal(&ledger->freed);
}

static void settle_doubt(struct dg_ledger *ledger, struct dg_slice key, struct dg_use now)
{
  for (uint32_t i = 0; ledger->doubt_count > 0 && i < DG_LEDGER_PLACES; i++)
    if (ledger->changes[i].key && ledger->changes[i].doubt &&
        dg_slice_equal(slice_of(ledger->changes[i].key), key))
      settle(ledger, i, now);
}

/* Keys that the listing has yet to come to are counted from here on. */
static void put_aside(struct dg_ledger *ledger, const struct change *change)
{
  if (!ledger->counting || g_tree_lookup(ledger->aside, change->key) ||
      (ledger->passed && compare_keys(change->key, ledger->passed, NULL) <= 0))
    return;
  g_tree_insert(ledger->aside, g_bytes_ref(change->key),
                g_memdup2(&change->before, sizeof change->before));
}

static int wait_for_place(struct dg_ledger *ledger, const struct dg_call *call,
                          struct dg_error *err)
{
  gint64 until = g_get_monotonic_time() + PLACE_WAIT_US;

  while (ledger->change_count == DG_LEDGER_PLACES)
    if ((call->cancelled && __atomic_load_n(call->cancelled, __ATOMIC_RELAXED)) ||
        !g_cond_wait_until(&ledger->freed, &ledger->mutex, until))
      return dg_fail(err, DG_E_SLOW_DOWN, "too many changes of one bucket at the same time");
  return 0;
}

static uint32_t free_place(const struct dg_ledger *ledger)
{
  uint32_t place = 0;

  while (ledger->changes[place].key)
    place++;
  return place;
}

static void note(struct dg_ledger *ledger, uint32_t place)
{
  const struct change *change = &ledger->changes[place];
  struct dg_ledger_note text = {.number = change->number,
                                .before = change->before,
                                .after = change->after,
                                .key = slice_of(change->key)};
  struct dg_error err;

  if (ledger->file && dg_ledger_file_put_note(ledger->file, place, &text, &err) < 0)
    lose_file(ledger, &err);
  (void)dg_fault("engine.quota.noted");
}

int dg_ledger_begin(struct dg_ledger *ledger, const struct dg_call *call, struct dg_slice key,
                    struct dg_use before, struct dg_use after, const struct dg_use_limit *limit,
                    uint32_t *ret_change, struct dg_error *err)
{
  struct change *change;
  uint32_t place;

  if (key.len > DG_LEDGER_KEY_MAX)
    return dg_fail(err, DG_E_KEY_TOO_LONG, "a key of %zu bytes", key.len);
  g_mutex_lock(&ledger->mutex);
  settle_doubt(ledger, key, before);
  /* First the place: waiting for it lets others in. */
  if (wait_for_place(ledger, call, err) < 0 ||
      check_locked(ledger, before, after, limit, err) < 0) {
    g_mutex_unlock(&ledger->mutex);
    return -1;
  }
  place = free_place(ledger);
  change = &ledger->changes[place];
  *change = (struct change){.key = g_bytes_new(key.data, key.len),
                            .number = ledger->next_number++,
                            .before = before,
                            .after = after};
  ledger->change_count++;
  reserve(ledger, change);
  put_aside(ledger, change);
  note(ledger, place);
  g_mutex_unlock(&ledger->mutex);
  *ret_change = place;
  return 0;
}

void dg_ledger_end(struct dg_ledger *ledger, uint32_t change, const struct dg_use *now)
{
  g_mutex_lock(&ledger->mutex);
  g_assert(change < DG_LEDGER_PLACES && ledger->changes[change].key &&
           !ledger->changes[change].doubt);
  if (now) {
    settle(ledger, change, *now);
  } else {
    ledger->changes[change].doubt = true;
    ledger->doubt_count++;
  }
  g_mutex_unlock(&ledger->mutex);
}

GBytes *dg_ledger_doubt(struct dg_ledger *ledger, uint32_t n)
{
  GBytes *key = NULL;

  g_mutex_lock(&ledger->mutex);
  for (uint32_t i = 0; !key && ledger->doubt_count > n && i < DG_LEDGER_PLACES; i++)
    if (ledger->changes[i].key && ledger->changes[i].doubt && n-- == 0)
      key = g_bytes_ref(ledger->changes[i].key);
  g_mutex_unlock(&ledger->mutex);
  return key;
}

void dg_ledger_resolve(struct dg_ledger *ledger, struct dg_slice key, struct dg_use now)
{
  g_mutex_lock(&ledger->mutex);
  settle_doubt(ledger, key, now);
  g_mutex_unlock(&ledger->mutex);
}

/* ---- Counting ------------------------------------------------------------------------------------ */

void dg_ledger_count_begin(struct dg_ledger *ledger)
{
  g_mutex_lock(&ledger->mutex);
  end_count(ledger);
  ledger->counting = true;
  ledger->sum = (struct dg_use){0};
  ledger->aside =
    g_tree_new_full(compare_keys, NULL, (GDestroyNotify)(void (*)(void))g_bytes_unref, g_free);
  for (uint32_t i = 0; i < DG_LEDGER_PLACES; i++)
    if (ledger->changes[i].key)
      put_aside(ledger, &ledger->changes[i]);
  g_mutex_unlock(&ledger->mutex);
}

/* Puts what lies aside up to `last` (NULL: all of it) into the sum. */
static void take_aside(struct dg_ledger *ledger, GBytes *last)
{
  GTreeNode *first;

  while ((first = g_tree_node_first(ledger->aside)) &&
         (!last || compare_keys(g_tree_node_key(first), last, NULL) <= 0)) {
    move(&ledger->sum, (struct dg_use){0}, *(const struct dg_use *)g_tree_node_value(first));
    (void)g_tree_remove(ledger->aside, g_tree_node_key(first));
  }
}

bool dg_ledger_count_row(struct dg_ledger *ledger, struct dg_slice key, struct dg_use use)
{
  GBytes *row = g_bytes_new(key.data, key.len);
  bool counting;

  g_mutex_lock(&ledger->mutex);
  counting = ledger->counting;
  if (counting) {
    bool changed = g_tree_lookup(ledger->aside, row) != NULL;

    take_aside(ledger, row);
    if (!changed)
      move(&ledger->sum, (struct dg_use){0}, use);
    g_clear_pointer(&ledger->passed, g_bytes_unref);
    ledger->passed = g_bytes_ref(row);
  }
  g_mutex_unlock(&ledger->mutex);
  g_bytes_unref(row);
  return counting;
}

static void look_locked(const struct dg_ledger *ledger, struct dg_ledger_state *ret_state)
{
  *ret_state = (struct dg_ledger_state){.known = ledger->head.known,
                                        .use = ledger->head.use,
                                        .reserved = ledger->reserved,
                                        .change_count = ledger->change_count,
                                        .doubt_count = ledger->doubt_count};
}

bool dg_ledger_count_end(struct dg_ledger *ledger, struct dg_ledger_state *ret_before,
                         struct dg_use *ret_use)
{
  bool counting;

  g_mutex_lock(&ledger->mutex);
  counting = ledger->counting;
  if (counting) {
    look_locked(ledger, ret_before);
    take_aside(ledger, NULL);
    *ret_use = ledger->head.use = ledger->sum;
    ledger->head.known = true;
    save_head(ledger);
    end_count(ledger);
  }
  g_mutex_unlock(&ledger->mutex);
  return counting;
}

void dg_ledger_count_drop(struct dg_ledger *ledger)
{
  g_mutex_lock(&ledger->mutex);
  end_count(ledger);
  g_mutex_unlock(&ledger->mutex);
}

void dg_ledger_reset(struct dg_ledger *ledger)
{
  g_mutex_lock(&ledger->mutex);
  end_count(ledger);
  ledger->head.known = false;
  ledger->head.use = (struct dg_use){0};
  save_head(ledger);
  g_mutex_unlock(&ledger->mutex);
}

void dg_ledger_look(struct dg_ledger *ledger, struct dg_ledger_state *ret_state)
{
  g_mutex_lock(&ledger->mutex);
  look_locked(ledger, ret_state);
  g_mutex_unlock(&ledger->mutex);
}
