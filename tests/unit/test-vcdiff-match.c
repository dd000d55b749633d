/* SPDX-License-Identifier: Apache-2.0 */
/* Adler-32, the reference index and the matcher. */
#include "config.h"

#include <check.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "common/vcdiff/adler.h"
#include "common/vcdiff/match.h"

#include "common/banned.h"

static uint64_t seed;

static uint64_t next_random(void)
{
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static void fill_random(uint8_t *out, size_t len)
{
  for (size_t i = 0; i < len; i++)
    out[i] = (uint8_t)(next_random() >> 24);
}

/* A reference with its index; free with index_free(). */
static struct dg_index index_new(const uint8_t *reference, size_t len)
{
  struct dg_index index = {0};
  size_t size;
  void *buckets = NULL;

  dg_index_shape_for(len, &index.shape);
  size = (size_t)dg_index_table_bytes(&index.shape);
  if (size > 0) {
    ck_assert_int_eq(posix_memalign(&buckets, 64, size), 0);
    memset(buckets, 0, size);
    dg_index_build(&index.shape, reference, 0, index.shape.bucket_count, buckets);
  }
  index.buckets = buckets;
  return index;
}

static void index_free(struct dg_index *index)
{
  free((void *)(uintptr_t)index->buckets);
}

/* Every match says the truth and keeps the order. Returns the bytes matched. */
static size_t check_matches(const struct dg_matches *matches, const struct dg_match_input *in)
{
  uint32_t end = 0;
  size_t covered = 0;

  for (size_t i = 0; i < matches->count; i++) {
    const struct dg_match *match = &matches->items[i];

    ck_assert_uint_ge(match->at, end);
    ck_assert_uint_gt(match->len, 0);
    end = match->at + match->len;
    ck_assert_uint_le(end, in->window_size);
    if (match->kind == DG_MATCH_SOURCE) {
      ck_assert_uint_ge(match->from, matches->source_low);
      ck_assert_uint_le(match->from + match->len, matches->source_high);
      ck_assert_uint_le(matches->source_high, in->reference_size);
      ck_assert_mem_eq(in->window + match->at, in->reference + match->from, match->len);
    } else if (match->kind == DG_MATCH_TARGET) {
      ck_assert_uint_lt(match->from, match->at);
      for (uint32_t k = 0; k < match->len; k++)
        ck_assert_uint_eq(in->window[match->at + k], in->window[match->from + k]);
    } else {
      for (uint32_t k = 1; k < match->len; k++)
        ck_assert_uint_eq(in->window[match->at + k], in->window[match->at]);
    }
    covered += match->len;
  }
  return covered;
}

START_TEST(adler_agrees_with_its_definition_at_every_length)
{
  g_autofree uint8_t *bytes = g_malloc(200000);

  seed = 7;
  fill_random(bytes, 200000);
  memset(bytes + 50000, 0xff, 100000);
  for (size_t len = 0; len <= 200000; len = len < 200 ? len + 1 : len * 3 / 2) {
    uint32_t low = 1, high = 0;

    for (size_t i = 0; i < len; i++) {
      low = (low + bytes[i]) % 65521;
      high = (high + low) % 65521;
    }
    ck_assert_uint_eq(dg_adler32(DG_ADLER32_INIT, bytes, len), high << 16 | low);
    ck_assert_uint_eq(dg_adler32_portable(DG_ADLER32_INIT, bytes, len), high << 16 | low);
    ck_assert_uint_eq(dg_adler32(dg_adler32(DG_ADLER32_INIT, bytes, len / 3), bytes + len / 3,
                                 len - len / 3),
                      high << 16 | low);
  }
}
END_TEST

START_TEST(an_index_has_a_third_of_a_byte_or_so_per_byte)
{
  struct dg_index_shape shape;

  dg_index_shape_for(100 << 20, &shape);
  ck_assert_uint_le(dg_index_table_bytes(&shape), (100 << 20) * 2 / 5);
  dg_index_shape_for(UINT64_C(20) << 30, &shape);
  ck_assert_uint_gt(shape.bucket_count, 0);
  ck_assert_uint_le(dg_index_table_bytes(&shape), UINT64_C(1) << 30);
  dg_index_shape_for(5, &shape);
  ck_assert_uint_eq(shape.bucket_count, 0);
}
END_TEST

START_TEST(an_index_is_the_same_whole_or_in_ranges)
{
  enum { SIZE = 8000000, RANGES = 5 };
  g_autofree uint8_t *reference = g_malloc(SIZE);
  struct dg_index whole;
  uint32_t *range = NULL;
  uint64_t count;
  size_t entries = 0;

  seed = 13;
  fill_random(reference, SIZE);
  memcpy(reference + SIZE / 2, reference, SIZE / 4); /* with entries that crowd each other out */
  whole = index_new(reference, SIZE);
  count = whole.shape.bucket_count;
  for (size_t i = 0; i < count * DG_INDEX_BUCKET; i++)
    entries += whole.buckets[i] != 0;
  ck_assert_uint_gt(entries, SIZE / 13);
  for (unsigned i = 0; i < RANGES; i++) {
    uint64_t first = count * i / RANGES;
    uint64_t some = count * (i + 1) / RANGES - first;
    size_t size = (size_t)some * DG_INDEX_BUCKET * sizeof *range;

    ck_assert_int_eq(posix_memalign((void **)&range, 64, size), 0);
    memset(range, 0, size);
    dg_index_build(&whole.shape, reference, first, some, range);
    ck_assert_mem_eq(range, whole.buckets + first * DG_INDEX_BUCKET, size);
    free(range);
  }
  index_free(&whole);
}
END_TEST

START_TEST(content_that_moved_is_found)
{
  enum { SIZE = 400000 };
  g_autofree uint8_t *reference = g_malloc(SIZE);
  g_autofree uint8_t *window = g_malloc(SIZE);
  struct dg_matcher *matcher = dg_matcher_new();
  struct dg_index index;
  struct dg_match_input in;
  size_t covered;

  seed = 11;
  fill_random(reference, SIZE);
  index = index_new(reference, SIZE);
  /* The halves change places and every thousandth byte differs. */
  memcpy(window, reference + SIZE / 2, SIZE / 2);
  memcpy(window + SIZE / 2, reference, SIZE / 2);
  for (size_t i = 0; i < SIZE; i += 1000)
    window[i] ^= 0x55;
  in = (struct dg_match_input){.index = &index,
                               .reference = reference,
                               .reference_size = SIZE,
                               .window = window,
                               .window_size = SIZE};
  covered = check_matches(dg_matcher_run(matcher, &in), &in);
  ck_assert_uint_ge(covered, SIZE - SIZE / 100);
  dg_matcher_free(matcher);
  index_free(&index);
}
END_TEST

START_TEST(a_window_repeats_itself_without_a_reference)
{
  uint8_t window[6000];
  struct dg_matcher *matcher = dg_matcher_new();
  struct dg_match_input in = {.window = window, .window_size = sizeof window};

  seed = 3;
  fill_random(window, 1000);
  memcpy(window + 1000, window, 1000);
  memset(window + 2000, 'a', 3000);
  memcpy(window + 5000, window + 500, 1000);
  ck_assert_uint_ge(check_matches(dg_matcher_run(matcher, &in), &in), 4900);
  dg_matcher_free(matcher);
}
END_TEST

START_TEST(random_edits_never_yield_a_false_match)
{
  struct dg_matcher *matcher = dg_matcher_new();
  g_autofree uint8_t *reference = g_malloc(70000);
  g_autofree uint8_t *window = g_malloc(70000);

  for (unsigned round = 0; round < 300; round++) {
    size_t reference_size, size;
    struct dg_index index;
    struct dg_match_input in;

    seed = 1000 + round;
    reference_size = next_random() % (round % 3 ? 3000 : 70000);
    size = 0;
    for (size_t i = 0; i < reference_size; i++)
      reference[i] = (uint8_t)(next_random() >> (round % 5 ? 24 : 62));
    while (size < 60000 && next_random() % 50) {
      size_t len = next_random() % 700;
      size_t from = reference_size ? next_random() % reference_size : 0;

      if (next_random() % 4 == 0 || reference_size == 0)
        fill_random(window + size, len);
      else
        memcpy(window + size, reference + from, len = MIN(len, reference_size - from));
      size += len;
    }
    index = index_new(reference, reference_size);
    in = (struct dg_match_input){.index = index.shape.bucket_count ? &index : NULL,
                                 .reference = reference,
                                 .reference_size = reference_size,
                                 .window = window,
                                 .window_size = (uint32_t)size,
                                 .window_offset = next_random() % 5000};
    (void)check_matches(dg_matcher_run(matcher, &in), &in);
    index_free(&index);
  }
  dg_matcher_free(matcher);
}
END_TEST

START_TEST(a_result_does_not_depend_on_earlier_windows)
{
  enum { SIZE = 100000 };
  g_autofree uint8_t *bytes = g_malloc(2 * SIZE);
  struct dg_matcher *used = dg_matcher_new();
  struct dg_matcher *fresh = dg_matcher_new();
  struct dg_index index;
  struct dg_match_input in;
  const struct dg_matches *a, *b;

  seed = 5;
  fill_random(bytes, 2 * SIZE);
  index = index_new(bytes, SIZE);
  for (size_t i = 0; i < SIZE; i++)
    bytes[SIZE + i] = next_random() % 9 ? bytes[i / 2] : bytes[SIZE + i];
  in = (struct dg_match_input){.index = &index,
                               .reference = bytes,
                               .reference_size = SIZE,
                               .window = bytes + SIZE,
                               .window_size = SIZE};
  (void)dg_matcher_run(used, &in);
  in.window_size = SIZE - 77;
  a = dg_matcher_run(used, &in);
  b = dg_matcher_run(fresh, &in);
  ck_assert_uint_eq(a->count, b->count);
  for (size_t i = 0; i < a->count; i++) {
    ck_assert_uint_eq(a->items[i].at, b->items[i].at);
    ck_assert_uint_eq(a->items[i].len, b->items[i].len);
    ck_assert_uint_eq(a->items[i].from, b->items[i].from);
  }
  dg_matcher_free(used);
  dg_matcher_free(fresh);
  index_free(&index);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("vcdiff-match");
  TCase *tcase = tcase_create("match");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_test(tcase, adler_agrees_with_its_definition_at_every_length);
  tcase_add_test(tcase, an_index_has_a_third_of_a_byte_or_so_per_byte);
  tcase_add_test(tcase, an_index_is_the_same_whole_or_in_ranges);
  tcase_add_test(tcase, content_that_moved_is_found);
  tcase_add_test(tcase, a_window_repeats_itself_without_a_reference);
  tcase_add_test(tcase, random_edits_never_yield_a_false_match);
  tcase_add_test(tcase, a_result_does_not_depend_on_earlier_windows);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
