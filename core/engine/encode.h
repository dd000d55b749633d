/* SPDX-License-Identifier: Apache-2.0 */
/* One object being turned into a delta, while its bytes arrive.
 *
 *   feed -> window full -> queue -> pool thread or the feeding worker encodes
 *        -> results, in order -> spool -> finish: header + windows
 *
 * The feeding worker never depends on the pool: when every slot is taken it
 * encodes the oldest queued window itself. Used by one thread at a time. */
#ifndef DG_CORE_ENGINE_ENCODE_H
#define DG_CORE_ENGINE_ENCODE_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

struct dg_codec;
struct dg_encode;
struct dg_permits;
struct dg_ref;
struct dg_spool;
struct dg_spool_budget;

/* Threads that encode windows for every put of an engine. */
struct dg_encode_pool;
struct dg_encode_pool *dg_encode_pool_new(uint32_t thread_count);
void dg_encode_pool_free(struct dg_encode_pool *pool); /* every encode closed; NULL is fine */

struct dg_encode_request {
  struct dg_encode_pool *pool; /* borrowed */
  struct dg_permits *permits;  /* borrowed */
  const char *spool_dir;       /* borrowed, as is the next */
  struct dg_spool_budget *spool_budget;
  const struct dg_spool *beside; /* of the same request, or NULL; borrowed for the call */
  struct dg_spool_room *room;    /* else what the request holds of the spool; borrowed, or NULL */
  struct dg_codec *codec;      /* borrowed */
  struct dg_ref *ref;          /* transferred; NULL: the object is its own reference */
  uint64_t target_size;        /* exact, not 0 */
  double max_ratio;            /* at or above it a delta is worthless */
};
/* [worker] Takes ref even on failure. */
int dg_encode_open(const struct dg_call *call, const struct dg_encode_request *request,
                   struct dg_encode **ret_encode, struct dg_error *err);
/* [worker] Sets *ret_hopeless once the delta cannot, or will not, pay: then
 * close it. */
int dg_encode_feed(struct dg_encode *encode, const void *data, size_t len, bool *ret_hopeless,
                   struct dg_error *err);

struct dg_encode_result {
  uint64_t delta_size;
  uint8_t header_sha256[32];
};
/* [worker] After the last byte. */
int dg_encode_finish(struct dg_encode *encode, const uint8_t target_sha256[32],
                     struct dg_encode_result *ret_result, struct dg_error *err);
/* [worker] After finish: writes the whole delta. */
int dg_encode_copy(struct dg_encode *encode, struct dg_writer *writer, struct dg_error *err);
void dg_encode_close(struct dg_encode *encode); /* [worker] any time; NULL is fine */

#endif
