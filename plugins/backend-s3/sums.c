/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "sums.h"

#include "common/checksum.h"

#include "common/banned.h"

#define SHARED_BYTES (64u * 1024u) /* worth a copy and waking another thread */

struct dg_s3_sums {
  uint64_t part_bytes, length;
  GArray *digests; /* uint8_t[32], of the parts that are complete */
  struct dg_checksum sum; /* the crew's while task is under way */
  struct dg_crew *crew;
  struct dg_crew_task task;
  char *copy; /* what task adds, and frees */
  size_t copy_len;
};

struct dg_s3_sums *dg_s3_sums_new(uint64_t part_bytes, struct dg_crew *crew)
{
  struct dg_s3_sums *sums = g_new0(struct dg_s3_sums, 1);

  g_assert(part_bytes > 0);
  sums->part_bytes = part_bytes;
  sums->digests = g_array_new(FALSE, FALSE, 32);
  sums->crew = crew;
  dg_checksum_init(&sums->sum, DG_SUM_SHA256);
  return sums;
}

void dg_s3_sums_free(struct dg_s3_sums *sums)
{
  if (!sums)
    return;
  dg_crew_join(sums->crew, &sums->task);
  dg_checksum_clear(&sums->sum);
  g_array_unref(sums->digests);
  g_free(sums);
}

static void add_copy(void *receiver)
{
  struct dg_s3_sums *sums = receiver;

  dg_checksum_update(&sums->sum, sums->copy, sums->copy_len);
  g_clear_pointer(&sums->copy, g_free);
}

/* The bytes are the caller's, who goes on: the crew needs its own. */
static void add_piece(struct dg_s3_sums *sums, const char *data, size_t len)
{
  dg_crew_join(sums->crew, &sums->task);
  if (len < SHARED_BYTES || !dg_crew_is_free(sums->crew)) {
    dg_checksum_update(&sums->sum, data, len);
    return;
  }
  sums->copy = g_memdup2(data, len);
  sums->copy_len = len;
  if (!dg_crew_offer(sums->crew, &sums->task, add_copy, sums))
    add_copy(sums);
}

static void end_part(struct dg_s3_sums *sums)
{
  uint8_t digest[DG_SUM_MAX_BYTES];

  dg_crew_join(sums->crew, &sums->task);
  (void)dg_checksum_final(&sums->sum, digest);
  g_array_append_vals(sums->digests, digest, 1);
  dg_checksum_init(&sums->sum, DG_SUM_SHA256);
}

void dg_s3_sums_add(struct dg_s3_sums *sums, const void *data, size_t len)
{
  const char *at = data;

  while (len) {
    uint64_t left = sums->part_bytes - sums->length % sums->part_bytes;
    size_t step = (size_t)MIN((uint64_t)len, left);

    add_piece(sums, at, step);
    sums->length += step;
    if (step == left)
      end_part(sums);
    at += step;
    len -= step;
  }
}

bool dg_s3_sums_find(struct dg_s3_sums *sums, uint64_t offset, uint64_t length, uint8_t out[32])
{
  uint64_t number = offset / sums->part_bytes, end = offset + length;

  if (length == 0 || offset % sums->part_bytes != 0 || end > sums->length ||
      (length != sums->part_bytes && end != sums->length) || length > sums->part_bytes)
    return false;
  if (number == sums->digests->len)
    end_part(sums); /* the last, shorter one */
  memcpy(out, sums->digests->data + number * 32, 32);
  return true;
}
