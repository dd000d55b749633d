/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "common/vcdiff/codetable.h"
#include "common/vcdiff/varint.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/banned.h"

START_TEST(integers_of_every_length_come_back)
{
  for (unsigned bit = 0; bit < 64; bit++)
    for (int delta = -1; delta <= 1; delta++) {
      uint64_t value = (UINT64_C(1) << bit) + (uint64_t)(int64_t)delta;
      uint8_t bytes[DG_VARINT_MAX];
      uint8_t *end = dg_varint_put(bytes, value);
      const uint8_t *at = bytes;
      uint64_t back = 0;

      ck_assert_uint_eq((size_t)(end - bytes), dg_varint_size(value));
      ck_assert_int_eq(dg_varint_get(&at, end, &back), 0);
      ck_assert_uint_eq(back, value);
      ck_assert_ptr_eq(at, end);
    }
}
END_TEST

START_TEST(the_rfc_example_integer_is_coded_as_printed)
{
  uint8_t bytes[DG_VARINT_MAX];

  ck_assert_ptr_eq(dg_varint_put(bytes, 123456789), bytes + 4);
  ck_assert_int_eq(memcmp(bytes, "\xba\xef\x9a\x15", 4), 0);
}
END_TEST

START_TEST(a_cut_or_too_long_integer_is_refused_and_nothing_moves)
{
  static const uint8_t cut[] = {0x81, 0x80};
  static const uint8_t wide[] = {0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
  const uint8_t *at = cut;
  uint64_t value = 7;

  ck_assert_int_eq(dg_varint_get(&at, cut + sizeof cut, &value), -1);
  ck_assert_ptr_eq(at, cut);
  at = wide;
  ck_assert_int_eq(dg_varint_get(&at, wide + sizeof wide, &value), -1);
  ck_assert_ptr_eq(at, wide);
  ck_assert_uint_eq(value, 7);
}
END_TEST

START_TEST(every_opcode_is_found_again_from_its_instructions)
{
  for (unsigned op = 0; op < 256; op++) {
    const struct dg_vcd_code *code = &dg_vcd_codes[op];
    int follows = -1;

    if (code->type2 == DG_VCD_COPY) {
      ck_assert_uint_eq(code->type1, DG_VCD_ADD);
      ck_assert_uint_eq(dg_vcd_op_add_copy(code->size1, code->mode2, code->size2), op);
    } else if (code->type2 == DG_VCD_ADD) {
      ck_assert_uint_eq(code->type1, DG_VCD_COPY);
      ck_assert_uint_eq(dg_vcd_op_copy_add(code->mode1, code->size1, code->size2), op);
    } else if (code->type1 == DG_VCD_RUN) {
      ck_assert_uint_eq(op, DG_VCD_OP_RUN);
    } else if (code->type1 == DG_VCD_ADD) {
      ck_assert_uint_eq(dg_vcd_op_add(code->size1 ? code->size1 : 18, &follows), op);
      ck_assert_int_eq(follows, code->size1 == 0);
    } else {
      ck_assert_uint_eq(code->type1, DG_VCD_COPY);
      ck_assert_uint_eq(dg_vcd_op_copy(code->mode1, code->size1 ? code->size1 : 19, &follows), op);
      ck_assert_int_eq(follows, code->size1 == 0);
    }
  }
}
END_TEST

START_TEST(pairs_outside_the_table_have_no_opcode)
{
  ck_assert_uint_eq(dg_vcd_op_add_copy(5, 0, 4), 0);
  ck_assert_uint_eq(dg_vcd_op_add_copy(0, 0, 4), 0);
  ck_assert_uint_eq(dg_vcd_op_add_copy(1, 0, 7), 0);
  ck_assert_uint_eq(dg_vcd_op_add_copy(1, 0, 3), 0);
  ck_assert_uint_eq(dg_vcd_op_add_copy(1, 6, 5), 0);
  ck_assert_uint_eq(dg_vcd_op_copy_add(0, 5, 1), 0);
  ck_assert_uint_eq(dg_vcd_op_copy_add(0, 4, 2), 0);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("vcdiff-codetable");
  TCase *tcase = tcase_create("codetable");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_add_test(tcase, integers_of_every_length_come_back);
  tcase_add_test(tcase, the_rfc_example_integer_is_coded_as_printed);
  tcase_add_test(tcase, a_cut_or_too_long_integer_is_refused_and_nothing_moves);
  tcase_add_test(tcase, every_opcode_is_found_again_from_its_instructions);
  tcase_add_test(tcase, pairs_outside_the_table_have_no_opcode);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
