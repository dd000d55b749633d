/* SPDX-License-Identifier: Apache-2.0 */
/* At most max_concurrent_requests are worked on at a time, over all loops. The
 * rest wait in their loop's queue, in order; nothing is refused.
 *
 * A slot is held from dispatch until the response's head leaves: a client that
 * reads its download slowly does not hold up others. */
#include "config.h"

#include "core/http/gate.h"

#include "common/banned.h"

static bool try_take(struct dg_gate *gate)
{
  unsigned active = atomic_load(&gate->active_count);

  while (active < gate->params.max_concurrent_requests)
    if (atomic_compare_exchange_weak(&gate->active_count, &active, active + 1))
      return true;
  return false;
}

static void wake(struct dg_loop *loop)
{
  if (!atomic_exchange(&loop->slot_posted, true))
    dg_loop_post(loop, &loop->slot_task);
}

static void unlink_conn(struct dg_conn *conn)
{
  struct dg_loop *loop = conn->loop;

  *conn->queue_link = conn->queue_next;
  if (conn->queue_next)
    conn->queue_next->queue_link = conn->queue_link;
  else
    loop->queue_last = conn->queue_link;
  conn->queue_link = NULL;
  atomic_fetch_sub(&loop->queue_count, 1);
  atomic_fetch_sub(&loop->gate->waiting_count, 1);
}

bool dg_slot_take(struct dg_conn *conn)
{
  struct dg_loop *loop = conn->loop;

  if (!loop->queue_first && try_take(loop->gate)) {
    conn->stream->has_slot = true;
    return true;
  }
  conn->queue_next = NULL;
  conn->queue_link = loop->queue_last;
  *loop->queue_last = conn;
  loop->queue_last = &conn->queue_next;
  atomic_fetch_add(&loop->queue_count, 1);
  atomic_fetch_add(&loop->gate->waiting_count, 1);
  /* Whoever gave a slot back before it could see us waiting has woken nobody. */
  if (atomic_load(&loop->gate->active_count) < loop->gate->params.max_concurrent_requests)
    wake(loop);
  return false;
}

void dg_slot_give(struct dg_stream *stream)
{
  struct dg_gate *gate = stream->loop->gate;

  if (!stream->has_slot)
    return;
  stream->has_slot = false;
  atomic_fetch_sub(&gate->active_count, 1);
  if (atomic_load(&gate->waiting_count) == 0)
    return;
  for (uint32_t i = 0; i < gate->loop_count; i++)
    if (atomic_load(&gate->loops[i].queue_count) > 0)
      wake(&gate->loops[i]);
}

void dg_slot_forget(struct dg_conn *conn)
{
  if (conn->queue_link)
    unlink_conn(conn);
}

static void serve(struct dg_task *task)
{
  struct dg_loop *loop = (struct dg_loop *)((char *)task - offsetof(struct dg_loop, slot_task));

  atomic_store(&loop->slot_posted, false);
  while (loop->queue_first && try_take(loop->gate)) {
    struct dg_conn *conn = loop->queue_first;

    unlink_conn(conn);
    conn->stream->has_slot = true;
    dg_conn_enter(conn);
    dg_stream_start(conn->stream);
    dg_gate_run(conn);
    dg_conn_leave(conn);
  }
}

void dg_slot_init(struct dg_loop *loop)
{
  loop->queue_last = &loop->queue_first;
  loop->slot_task.run = serve;
}
