/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/fanout.h"

#include <glib.h>
#include <stdbool.h>

#include "common/banned.h"

#define HELPERS_MAX 64 /* of all requests together */

struct fan {
  uint32_t count;
  gint next; /* atomic */
  void (*run)(void *receiver, uint32_t i);
  void *receiver;
};

static gint helper_count; /* atomic */

static bool take_helper(void)
{
  if (g_atomic_int_add(&helper_count, 1) < HELPERS_MAX)
    return true;
  (void)g_atomic_int_dec_and_test(&helper_count);
  return false;
}

static gpointer work(gpointer data)
{
  struct fan *fan = data;
  gint i;

  while ((i = g_atomic_int_add(&fan->next, 1)) < (gint)fan->count)
    fan->run(fan->receiver, (uint32_t)i);
  return NULL;
}

void dg_fan_out(uint32_t count, void (*run)(void *receiver, uint32_t i), void *receiver)
{
  struct fan fan = {.count = count, .run = run, .receiver = receiver};
  GThread *helpers[DG_FANOUT_THREADS - 1];
  guint started = 0;

  g_assert(count <= G_MAXINT - 2 * DG_FANOUT_THREADS);
  while (started + 1 < MIN(count, DG_FANOUT_THREADS) && take_helper()) {
    helpers[started] = g_thread_try_new("dg-fan", work, &fan, NULL);
    if (!helpers[started]) { /* the others do */
      (void)g_atomic_int_dec_and_test(&helper_count);
      break;
    }
    started++;
  }
  (void)work(&fan);
  for (guint i = 0; i < started; i++) {
    g_thread_join(helpers[i]);
    (void)g_atomic_int_dec_and_test(&helper_count);
  }
}
