/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/header.h"
#include "common/vcdiff/huffman.h"
#include "common/vcdiff/secondary.h"
#include "common/vcdiff/varint.h"

#include <check.h>
#include <deltaglider/plugin.h>
#include <glib.h>
#include <stdlib.h>

#include "common/banned.h"

/* Bytes of several tempers: flat, skewed, in stretches that differ, sparse. */
static void fill(GRand *random, uint8_t *bytes, size_t len)
{
  unsigned temper = g_rand_int(random) % 5;
  uint8_t base = (uint8_t)g_rand_int(random);

  for (size_t i = 0; i < len; i++) {
    uint32_t r = g_rand_int(random);

    if (temper == 3 && r % 701 == 0)
      base = (uint8_t)(r >> 24);
    switch (temper) {
    case 0:
      bytes[i] = (uint8_t)r;
      break;
    case 1:
    case 3:
      bytes[i] = (uint8_t)(base + __builtin_ctz(r | 0x800000));
      break;
    case 2:
      bytes[i] = (uint8_t)(r % 3 ? 'a' + r % 7 : 0);
      break;
    default:
      bytes[i] = base;
    }
  }
}

static int decode_one(struct dg_secondary_decoder *decoder, unsigned kind, const uint8_t *section,
                      size_t section_len, uint8_t *plain, size_t plain_len, struct dg_error *err)
{
  struct dg_secondary_piece piece = {kind, section, section_len, plain, plain_len};

  return dg_secondary_decode(decoder, &piece, 1, err);
}

static void check_decodes(uint32_t id, const uint8_t *section, size_t section_len,
                          const uint8_t *plain, size_t len)
{
  struct dg_secondary_decoder *decoder;
  struct dg_error err = {0};
  /* Exact blocks, so that a sanitizer sees any step outside. */
  uint8_t *exact = g_memdup2(section, section_len);
  uint8_t *back = g_malloc(len);
  size_t size = 0;

  ck_assert_int_eq(dg_secondary_decoder_new(id, &decoder, &err), 0);
  ck_assert_int_eq(dg_secondary_plain_size(exact, section_len, len, &size, &err), 0);
  ck_assert_uint_eq(size, len);
  ck_assert_msg(decode_one(decoder, DG_SECTION_DATA, exact, section_len, back, len, &err) == 0,
                "%s", err.detail);
  ck_assert_int_eq(memcmp(back, plain, len), 0);
  dg_secondary_decoder_free(decoder);
  g_free(back);
  g_free(exact);
}

START_TEST(djw_sections_of_all_sizes_come_back)
{
  GRand *random = g_rand_new_with_seed(7);
  unsigned coded = 0;

  for (unsigned round = 0; round < 600; round++) {
    size_t len = 1 + g_rand_int(random) % (round % 3 == 0 ? 100 : round % 3 == 1 ? 3000 : 60000);
    uint8_t *plain = g_malloc(len);
    uint8_t *section = g_malloc(len);
    size_t section_len;

    fill(random, plain, len);
    section_len = dg_djw_encode(plain, len, section);
    ck_assert_uint_lt(section_len, len);
    if (section_len > 0) {
      coded++;
      check_decodes(DG_SECONDARY_DJW, section, section_len, plain, len);
    }
    g_free(section);
    g_free(plain);
  }
  ck_assert_uint_gt(coded, 200);
  g_rand_free(random);
}
END_TEST

START_TEST(djw_sections_decode_side_by_side)
{
  GRand *random = g_rand_new_with_seed(12);

  for (unsigned round = 0; round < 200; round++) {
    struct dg_secondary_piece pieces[DG_SECONDARY_PIECES];
    uint8_t *plain[DG_SECONDARY_PIECES];
    unsigned wanted = 1 + round % DG_SECONDARY_PIECES;
    unsigned count = 0;
    struct dg_secondary_decoder *decoder;
    struct dg_error err = {0};

    ck_assert_int_eq(dg_secondary_decoder_new(DG_SECONDARY_DJW, &decoder, &err), 0);
    while (count < wanted) {
      size_t len = 200 + g_rand_int(random) % (round % 2 ? 1000 : 30000);
      uint8_t *section = g_malloc(len);
      uint8_t *bytes = g_malloc(len);
      size_t section_len;

      fill(random, bytes, len);
      section_len = dg_djw_encode(bytes, len, section);
      if (section_len > 0) {
        plain[count] = bytes;
        pieces[count++] = (struct dg_secondary_piece){0, g_memdup2(section, section_len),
                                                      section_len, g_malloc(len), len};
      } else {
        g_free(bytes);
      }
      g_free(section);
    }
    ck_assert_msg(dg_secondary_decode(decoder, pieces, count, &err) == 0, "%s", err.detail);
    for (unsigned i = 0; i < count; i++) {
      ck_assert_int_eq(memcmp(pieces[i].plain, plain[i], pieces[i].plain_len), 0);
      g_free((void *)(uintptr_t)pieces[i].section);
      g_free(pieces[i].plain);
      g_free(plain[i]);
    }
    dg_secondary_decoder_free(decoder);
  }
  g_rand_free(random);
}
END_TEST

START_TEST(djw_estimates_are_near_what_is_saved)
{
  GRand *random = g_rand_new_with_seed(8);

  for (unsigned round = 0; round < 100; round++) {
    size_t len = 5000 + g_rand_int(random) % 50000;
    uint8_t *plain = g_malloc(len);
    uint8_t *section = g_malloc(len);
    size_t estimate, section_len;

    fill(random, plain, len);
    estimate = dg_djw_estimate_saving(plain, len);
    section_len = dg_djw_encode(plain, len, section);
    if (section_len == 0)
      ck_assert_uint_lt(estimate, len / 10);
    else
      ck_assert_uint_le(estimate, (len - section_len) + len / 10);
    g_free(section);
    g_free(plain);
  }
  g_rand_free(random);
}
END_TEST

START_TEST(lzma_streams_run_through_all_windows)
{
  GRand *random = g_rand_new_with_seed(9);
  struct dg_lzma_encoder *encoder;
  struct dg_secondary_decoder *decoder;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_lzma_encoder_new(10, &encoder, &err), -1);
  ck_assert_int_eq(err.code, DG_E_INVALID_ARGUMENT);
  ck_assert_int_eq(dg_lzma_encoder_new(1, &encoder, &err), 0);
  ck_assert_int_eq(dg_secondary_decoder_new(DG_SECONDARY_LZMA, &decoder, &err), 0);
  ck_assert_int_eq(dg_secondary_decoder_is_stateless(decoder), 0);
  for (unsigned round = 0; round < 60; round++) {
    size_t len = g_rand_int(random) % 40000;
    size_t capacity = dg_lzma_bound(len);
    g_autofree uint8_t *plain = g_malloc(len + 1);
    g_autofree uint8_t *section = g_malloc(capacity);
    g_autofree uint8_t *back = g_malloc(len + 1);
    unsigned kind = round % DG_SECTIONS;
    size_t section_len = 0;

    fill(random, plain, len);
    ck_assert_int_eq(
        dg_lzma_encode(encoder, kind, plain, len, section, capacity, &section_len, &err), 0);
    if (section_len == 0)
      continue;
    ck_assert_msg(decode_one(decoder, kind, section, section_len, back, len, &err) == 0, "%s",
                  err.detail);
    ck_assert_int_eq(memcmp(plain, back, len), 0);
  }
  dg_secondary_decoder_free(decoder);
  dg_lzma_encoder_free(encoder);
  g_rand_free(random);
}
END_TEST

START_TEST(damaged_sections_are_refused_or_decoded_but_stay_inside)
{
  static const uint32_t ids[] = {DG_SECONDARY_DJW, DG_SECONDARY_LZMA, DG_SECONDARY_FGK};
  GRand *random = g_rand_new_with_seed(10);

  for (unsigned round = 0; round < 1500; round++) {
    uint32_t id = ids[round % 3];
    size_t len = 100 + g_rand_int(random) % 2000;
    g_autofree uint8_t *plain = g_malloc(len);
    g_autofree uint8_t *section = g_malloc(dg_lzma_bound(len));
    g_autofree uint8_t *exact = NULL;
    size_t section_len = 0;
    struct dg_error err = {0};
    struct dg_secondary_decoder *decoder;

    fill(random, plain, len);
    if (id == DG_SECONDARY_LZMA) {
      struct dg_lzma_encoder *encoder;

      ck_assert_int_eq(dg_lzma_encoder_new(0, &encoder, &err), 0);
      ck_assert_int_eq(
          dg_lzma_encode(encoder, 0, plain, len, section, dg_lzma_bound(len), &section_len, &err),
          0);
      dg_lzma_encoder_free(encoder);
    } else {
      section_len = dg_djw_encode(plain, len, section);
    }
    if (section_len < 4)
      continue;
    section[2 + g_rand_int(random) % (section_len - 2)] ^= (uint8_t)(1u << g_rand_int(random) % 8);
    if (round % 7 == 0)
      section_len = 3 + g_rand_int(random) % (section_len - 3);
    exact = g_memdup2(section, section_len);
    ck_assert_int_eq(dg_secondary_decoder_new(id, &decoder, &err), 0);
    if (decode_one(decoder, 0, exact, section_len, plain, len, &err) < 0)
      ck_assert(err.code == DG_E_CORRUPT || err.code == DG_E_LIMIT);
    dg_secondary_decoder_free(decoder);
  }
  g_rand_free(random);
}
END_TEST

START_TEST(a_declared_size_beyond_the_limit_is_refused)
{
  uint8_t section[DG_VARINT_MAX];
  size_t section_len = (size_t)(dg_varint_put(section, UINT64_C(1) << 50) - section);
  size_t size = 3;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_secondary_plain_size(section, section_len, 1000, &size, &err), -1);
  ck_assert_int_eq(err.code, DG_E_LIMIT);
  ck_assert_int_eq(dg_secondary_plain_size(section, 1, 1000, &size, &err), -1);
  ck_assert_int_eq(err.code, DG_E_CORRUPT);
  ck_assert_uint_eq(size, 3);
}
END_TEST

START_TEST(huffman_lengths_form_a_code_within_the_limit)
{
  GRand *random = g_rand_new_with_seed(11);

  for (unsigned round = 0; round < 500; round++) {
    uint32_t frequencies[DG_HUFFMAN_SYMBOLS] = {0};
    uint8_t lengths[DG_HUFFMAN_SYMBOLS];
    unsigned limit = 8 + round % 13;
    uint64_t used = 0;
    struct dg_huffman *code = g_new(struct dg_huffman, 1);

    for (unsigned s = 0; s < DG_HUFFMAN_SYMBOLS; s++)
      if (round % 2 == 0 || g_rand_int(random) % 3 == 0)
        frequencies[s] = UINT32_C(1) << (g_rand_int(random) % 23);
    (void)dg_huffman_lengths(frequencies, DG_HUFFMAN_SYMBOLS, limit, lengths);
    for (unsigned s = 0; s < DG_HUFFMAN_SYMBOLS; s++) {
      ck_assert_int_eq(lengths[s] == 0, frequencies[s] == 0);
      ck_assert_uint_le(lengths[s], limit);
      if (lengths[s] != 0)
        used += UINT64_C(1) << (limit - lengths[s]);
    }
    ck_assert_uint_le(used, UINT64_C(1) << limit);
    ck_assert_int_eq(dg_huffman_init(code, lengths, DG_HUFFMAN_SYMBOLS), 0);
    g_free(code);
  }
  g_rand_free(random);
}
END_TEST

START_TEST(code_lengths_that_no_code_can_have_are_refused)
{
  uint8_t lengths[4] = {1, 1, 1, 0};
  struct dg_huffman *code = g_new(struct dg_huffman, 1);

  ck_assert_int_eq(dg_huffman_init(code, lengths, 4), -1);
  g_free(code);
}
END_TEST

START_TEST(a_dgx1_index_comes_back_and_any_changed_byte_is_noticed)
{
  struct dg_dgx1_window windows[3] = {{100, {1}}, {200, {2}}, {30, {3}}};
  struct dg_dgx1 index = {.target_size = 2500000,
                          .reference_size = 99,
                          .window_size = 1 << 20,
                          .window_count = 3,
                          .target_sha256 = {9, 8, 7}};
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  struct dg_vcd_header header;
  struct dg_dgx1 back;
  struct dg_dgx1_window window;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_dgx1_write(DG_SECONDARY_DJW, &index, windows, bytes, &err), 0);
  ck_assert_int_eq(dg_vcd_header_parse(bytes->data, bytes->len, bytes->len + 330, &header, &err),
                   0);
  ck_assert_uint_eq(header.secondary, DG_SECONDARY_DJW);
  ck_assert_uint_eq(header.size_bytes, bytes->len);
  ck_assert_int_eq(
      dg_dgx1_parse(bytes->data + header.app_offset, (size_t)header.app_size, &back, &err), 0);
  ck_assert_uint_eq(back.target_size, index.target_size);
  ck_assert_uint_eq(back.reference_size, 99);
  ck_assert_uint_eq(back.window_size, 1 << 20);
  ck_assert_uint_eq(back.window_count, 3);
  ck_assert_int_eq(memcmp(back.target_sha256, index.target_sha256, 32), 0);
  dg_dgx1_entry(bytes->data + header.app_offset, 2, &window);
  ck_assert_uint_eq(window.delta_size, 30);
  ck_assert_uint_eq(window.digest[0], 3);
  for (size_t i = 0; i < header.app_size; i++) {
    bytes->data[header.app_offset + i] ^= 0x10;
    ck_assert_int_eq(
        dg_dgx1_parse(bytes->data + header.app_offset, (size_t)header.app_size, &back, &err), -1);
    bytes->data[header.app_offset + i] ^= 0x10;
    ck_assert_int_eq(dg_dgx1_parse(bytes->data + header.app_offset, i, &back, &err), -1);
  }
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("vcdiff-secondary");
  TCase *tcase = tcase_create("secondary");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_set_timeout(tcase, 120);
  tcase_add_test(tcase, djw_sections_of_all_sizes_come_back);
  tcase_add_test(tcase, djw_sections_decode_side_by_side);
  tcase_add_test(tcase, djw_estimates_are_near_what_is_saved);
  tcase_add_test(tcase, lzma_streams_run_through_all_windows);
  tcase_add_test(tcase, damaged_sections_are_refused_or_decoded_but_stay_inside);
  tcase_add_test(tcase, a_declared_size_beyond_the_limit_is_refused);
  tcase_add_test(tcase, huffman_lengths_form_a_code_within_the_limit);
  tcase_add_test(tcase, code_lengths_that_no_code_can_have_are_refused);
  tcase_add_test(tcase, a_dgx1_index_comes_back_and_any_changed_byte_is_noticed);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
