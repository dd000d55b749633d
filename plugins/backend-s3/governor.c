/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "governor.h"

#include <glib.h>

#include "common/banned.h"

#define FAILURES 10u          /* in a row, until the breaker opens */
#define OPEN_FIRST_MS 500u
#define OPEN_MAX_MS 15000u
#define LIMIT_MIN 2.0
#define SHRINK 0.7
#define SHRINK_EVERY_MS 500u  /* one wave of refusals is one refusal */

enum state { CLOSED, OPEN, HALF_OPEN };

struct dg_s3_governor {
  GMutex mutex; /* guards everything; leaf */
  enum state state;
  uint32_t failures, in_flight, max;
  double limit;
  uint64_t shrunk_ms, open_until_ms;
  uint32_t open_ms;
  uint32_t probing; /* half-open: 1 while the one request is out */
};

struct dg_s3_governor *dg_s3_governor_new(uint32_t max_requests)
{
  struct dg_s3_governor *governor = g_new0(struct dg_s3_governor, 1);

  g_mutex_init(&governor->mutex);
  governor->max = MAX(max_requests, 1u);
  governor->limit = governor->max;
  governor->open_ms = OPEN_FIRST_MS;
  return governor;
}

void dg_s3_governor_free(struct dg_s3_governor *governor)
{
  if (!governor)
    return;
  g_mutex_clear(&governor->mutex);
  g_free(governor);
}

static enum dg_s3_gate enter_locked(struct dg_s3_governor *governor, uint64_t now_ms)
{
  if (governor->state == OPEN) {
    if (now_ms < governor->open_until_ms)
      return DG_S3_SHUT;
    governor->state = HALF_OPEN;
    governor->probing = 0;
  }
  if (governor->state == HALF_OPEN) {
    if (governor->probing)
      return DG_S3_SHUT;
    governor->probing = 1;
  } else if (governor->in_flight >= (uint32_t)governor->limit) {
    return DG_S3_FULL;
  }
  governor->in_flight++;
  return DG_S3_GO;
}

enum dg_s3_gate dg_s3_governor_enter(struct dg_s3_governor *governor, uint64_t now_ms)
{
  enum dg_s3_gate gate;

  g_mutex_lock(&governor->mutex);
  gate = enter_locked(governor, now_ms);
  g_mutex_unlock(&governor->mutex);
  return gate;
}

enum dg_s3_gate dg_s3_governor_knock(struct dg_s3_governor *governor)
{
  g_mutex_lock(&governor->mutex);
  governor->in_flight++;
  g_mutex_unlock(&governor->mutex);
  return DG_S3_GO;
}

static void shrink(struct dg_s3_governor *governor, uint64_t now_ms)
{
  if (now_ms - governor->shrunk_ms < SHRINK_EVERY_MS && governor->shrunk_ms)
    return;
  governor->shrunk_ms = now_ms;
  /* What was in flight was too much, whatever had been allowed. */
  governor->limit = MIN(governor->limit, (double)governor->in_flight + 1) * SHRINK;
  governor->limit = MAX(governor->limit, MIN(LIMIT_MIN, (double)governor->max));
}

static int succeed(struct dg_s3_governor *governor)
{
  int change = governor->state != CLOSED ? -1 : 0;

  governor->failures = 0;
  governor->state = CLOSED;
  governor->probing = 0;
  governor->open_ms = OPEN_FIRST_MS;
  return change;
}

static int fail(struct dg_s3_governor *governor, uint64_t now_ms)
{
  if (governor->state == OPEN)
    return 0;
  if (governor->state == CLOSED && ++governor->failures < FAILURES)
    return 0;
  governor->failures = 0;
  governor->state = OPEN;
  governor->probing = 0;
  governor->open_until_ms = now_ms + governor->open_ms;
  governor->open_ms = MIN(governor->open_ms * 2, OPEN_MAX_MS);
  return 1;
}

void dg_s3_governor_resume(struct dg_s3_governor *governor)
{
  g_mutex_lock(&governor->mutex);
  governor->in_flight++;
  g_mutex_unlock(&governor->mutex);
}

int dg_s3_governor_leave(struct dg_s3_governor *governor, uint64_t now_ms, enum dg_s3_leave how)
{
  int change = 0;

  g_mutex_lock(&governor->mutex);
  if (how == DG_S3_SLOWED)
    shrink(governor, now_ms);
  governor->in_flight--;
  switch (how) {
  case DG_S3_DONE:
    governor->limit = MIN((double)governor->max, governor->limit + 1 / governor->limit);
    change = succeed(governor);
    break;
  case DG_S3_SLOWED:
    change = succeed(governor); /* it is alive */
    break;
  case DG_S3_FAILED:
    change = fail(governor, now_ms);
    break;
  case DG_S3_NO_WORD:
    if (governor->state == HALF_OPEN)
      governor->probing = 0;
    break;
  }
  g_mutex_unlock(&governor->mutex);
  return change;
}

uint32_t dg_s3_governor_limit(struct dg_s3_governor *governor)
{
  uint32_t limit;

  g_mutex_lock(&governor->mutex);
  limit = (uint32_t)governor->limit;
  g_mutex_unlock(&governor->mutex);
  return limit;
}
