/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "facts.h"

#include <stdlib.h>

#include "common/checksum.h"
#include "common/slice.h"

#include "common/banned.h"

static int compare_pairs(const void *a, const void *b)
{
  const struct dg_pair *x = a, *y = b;
  int order = dg_slice_compare(x->name, y->name);

  return order ? order : dg_slice_compare(x->value, y->value);
}

static struct dg_slice keep(char **at, const char *text)
{
  size_t len = strlen(text);
  struct dg_slice kept = {*at, len};

  memcpy(*at, text, len + 1);
  *at += len + 1;
  return kept;
}

struct dg_s3_facts *dg_s3_facts_new(const struct dg_s3_answer *answer, uint64_t size)
{
  struct dg_s3_facts *facts = g_new0(struct dg_s3_facts, 1);
  size_t bytes = 0;
  char *at;

  facts->refs = 1;
  facts->size = size;
  facts->modified_s = answer->last_modified_s;
  facts->seen_s = answer->date_s;
  facts->sealed_upstream = answer->sealed_upstream;
  memcpy(facts->etag, answer->etag, sizeof facts->etag);
  facts->content_type = g_strdup(answer->content_type);
  facts->pair_count = answer->meta->len / 2;
  for (guint i = 0; i < answer->meta->len; i++)
    bytes += strlen(answer->meta->pdata[i]) + 1;
  facts->pairs = g_new0(struct dg_pair, MAX(facts->pair_count, 1));
  facts->text = at = g_malloc(bytes + 1);
  for (uint32_t i = 0; i < facts->pair_count; i++) {
    facts->pairs[i].name = keep(&at, answer->meta->pdata[2 * i]);
    facts->pairs[i].value = keep(&at, answer->meta->pdata[2 * i + 1]);
  }
  qsort(facts->pairs, facts->pair_count, sizeof *facts->pairs, compare_pairs);
  return facts;
}

struct dg_s3_facts *dg_s3_facts_ref(struct dg_s3_facts *facts)
{
  g_atomic_int_inc(&facts->refs);
  return facts;
}

void dg_s3_facts_unref(struct dg_s3_facts *facts)
{
  if (!facts || !g_atomic_int_dec_and_test(&facts->refs))
    return;
  g_free(facts->content_type);
  g_free(facts->pairs);
  g_free(facts->text);
  g_free(facts);
}

struct dg_slice dg_s3_facts_find(const struct dg_s3_facts *facts, const char *name)
{
  for (uint32_t i = 0; i < facts->pair_count; i++)
    if (dg_slice_equal_str(facts->pairs[i].name, name) && facts->pairs[i].value.len)
      return facts->pairs[i].value;
  return DG_SLICE_NONE;
}

uint32_t dg_s3_facts_meta_count(const struct dg_s3_facts *facts)
{
  uint32_t count = 0;

  for (uint32_t i = 0; i < facts->pair_count; i++)
    count += facts->pairs[i].name.len == 0 || facts->pairs[i].name.data[0] != DG_S3_HEADER_MARK;
  return count;
}

void dg_s3_facts_validator(const struct dg_s3_facts *facts, uint8_t out[DG_S3_VALIDATOR_BYTES])
{
  struct dg_checksum sum = {0};
  uint8_t digest[DG_SUM_MAX_BYTES];

  dg_checksum_init(&sum, DG_SUM_SHA256);
  dg_checksum_update(&sum, &facts->size, sizeof facts->size);
  dg_checksum_update(&sum, &facts->modified_s, sizeof facts->modified_s);
  dg_checksum_update(&sum, facts->etag, strlen(facts->etag) + 1);
  dg_checksum_update(&sum, facts->content_type, strlen(facts->content_type) + 1);
  for (uint32_t i = 0; i < facts->pair_count; i++) {
    dg_checksum_update(&sum, facts->pairs[i].name.data, facts->pairs[i].name.len + 1);
    dg_checksum_update(&sum, facts->pairs[i].value.data, facts->pairs[i].value.len + 1);
  }
  (void)dg_checksum_final(&sum, digest);
  dg_checksum_clear(&sum);
  memcpy(out, digest, DG_S3_VALIDATOR_BYTES);
}
