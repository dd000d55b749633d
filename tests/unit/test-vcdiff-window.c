/* SPDX-License-Identifier: Apache-2.0 */
/* Random instructions of every opcode, carried out by the decoder and by a
 * model that knows nothing of wide copies. */
#include "config.h"

#include "common/vcdiff/window.h"

#include "common/vcdiff/codetable.h"
#include "common/vcdiff/header.h"
#include "common/vcdiff/varint.h"

#include <check.h>
#include <deltaglider/plugin.h>
#include <glib.h>
#include <stdlib.h>

#include "common/banned.h"

#define TARGET_MAX 6000

/* A window under construction and what it must decode to. */
struct program {
  GRand *random;
  GByteArray *section[DG_SECTIONS];
  uint8_t *reference;
  size_t reference_size, source_offset, source_size;
  uint8_t target[TARGET_MAX];
  size_t len;
  uint64_t near[4], same[768];
  unsigned next_near;
};

static void put_byte(GByteArray *out, uint8_t byte)
{
  g_byte_array_append(out, &byte, 1);
}

static void put_integer(GByteArray *out, uint64_t value)
{
  uint8_t bytes[DG_VARINT_MAX];

  g_byte_array_append(out, bytes, (guint)(dg_varint_put(bytes, value) - bytes));
}

static uint32_t below(struct program *p, uint64_t limit)
{
  return limit == 0 ? 0 : (uint32_t)(g_rand_int(p->random) % limit);
}

static uint64_t here(const struct program *p)
{
  return p->source_size + p->len;
}

static uint8_t byte_at(const struct program *p, uint64_t address)
{
  return address < p->source_size ? p->reference[p->source_offset + address]
                                  : p->target[address - p->source_size];
}

/* Appends the address of a COPY in the given mode; returns 0 if that mode can
 * name nothing now. */
static int put_address(struct program *p, unsigned mode, uint64_t *ret_address)
{
  GByteArray *out = p->section[DG_SECTION_ADDR];
  uint64_t address;

  if (here(p) == 0)
    return 0;
  if (mode >= DG_VCD_MODE_SAME) {
    uint8_t byte = (uint8_t)below(p, 256);

    address = p->same[(mode - DG_VCD_MODE_SAME) * 256 + byte];
    if (address >= here(p))
      return 0;
    put_byte(out, byte);
  } else if (mode >= DG_VCD_MODE_NEAR) {
    uint64_t base = p->near[mode - DG_VCD_MODE_NEAR];

    if (base >= here(p))
      return 0;
    address = base + below(p, here(p) - base);
    put_integer(out, address - base);
  } else {
    /* Half of them close by, to meet overlaps and the seam. */
    address = here(p) - 1 - (below(p, 2) ? below(p, MIN(here(p), 70)) : below(p, here(p)));
    put_integer(out, mode == DG_VCD_MODE_HERE ? here(p) - address : address);
  }
  p->near[p->next_near] = address;
  p->next_near = (p->next_near + 1) % 4;
  p->same[address % 768] = address;
  *ret_address = address;
  return 1;
}

/* Carries out one instruction in the model. Returns 0 if it cannot be. */
static int apply(struct program *p, unsigned type, unsigned mode, size_t size)
{
  uint64_t address;

  switch (type) {
  case DG_VCD_ADD:
    for (size_t i = 0; i < size; i++) {
      p->target[p->len] = (uint8_t)g_rand_int(p->random);
      put_byte(p->section[DG_SECTION_DATA], p->target[p->len++]);
    }
    return 1;
  case DG_VCD_RUN:
    put_byte(p->section[DG_SECTION_DATA], (uint8_t)size);
    memset(p->target + p->len, (uint8_t)size, size);
    p->len += size;
    return 1;
  default:
    if (!put_address(p, mode, &address))
      return 0;
    for (size_t i = 0; i < size; i++) {
      p->target[p->len] = byte_at(p, address + i);
      p->len++;
    }
    return 1;
  }
}

static void add_instruction(struct program *p, unsigned op)
{
  const struct dg_vcd_code *code = &dg_vcd_codes[op];
  size_t size = code->size1;
  guint inst_len = p->section[DG_SECTION_INST]->len;

  if (size == 0)
    size = below(p, 20) == 0 ? 1100 + below(p, 400) : below(p, below(p, 2) ? 40 : 200);
  if (p->len + size + code->size2 > TARGET_MAX)
    return;
  put_byte(p->section[DG_SECTION_INST], (uint8_t)op);
  if (code->size1 == 0)
    put_integer(p->section[DG_SECTION_INST], size);
  if (!apply(p, code->type1, code->mode1, size)) {
    g_byte_array_set_size(p->section[DG_SECTION_INST], inst_len);
    return;
  }
  if (code->type2 != DG_VCD_NOOP && !apply(p, code->type2, code->mode2, code->size2)) {
    /* The first half stands by itself then. */
    int follows;

    g_byte_array_set_size(p->section[DG_SECTION_INST], inst_len);
    put_byte(p->section[DG_SECTION_INST], dg_vcd_op_add(size, &follows));
  }
}

static void program_init(struct program *p, uint32_t seed)
{
  *p = (struct program){.random = g_rand_new_with_seed(seed)};
  for (unsigned i = 0; i < DG_SECTIONS; i++)
    p->section[i] = g_byte_array_new();
  p->source_size = below(p, 3) == 0 ? 0 : below(p, 3000);
  p->source_offset = below(p, 100);
  /* Often the segment ends where the reference does. */
  p->reference_size = p->source_offset + p->source_size + (below(p, 2) ? below(p, 100) : 0);
  p->reference = g_malloc(p->reference_size + 1);
  for (size_t i = 0; i < p->reference_size; i++)
    p->reference[i] = (uint8_t)g_rand_int(p->random);
}

static void program_clear(struct program *p)
{
  for (unsigned i = 0; i < DG_SECTIONS; i++)
    g_byte_array_unref(p->section[i]);
  g_free(p->reference);
  g_rand_free(p->random);
}

typedef int (*decode_fn)(const struct dg_vcd_window *, const struct dg_vcd_sections *,
                         const uint8_t *, uint64_t, uint8_t *, struct dg_error *);

/* Decodes with exact-size heap blocks, so that a sanitizer sees any step
 * outside. Returns NULL on failure. */
static uint8_t *run(decode_fn decode, const struct program *p, struct dg_error *err)
{
  struct dg_vcd_window window = {.source_size = p->source_size,
                                 .source_offset = p->source_offset,
                                 .target_size = (uint32_t)p->len};
  uint8_t *blocks[DG_SECTIONS];
  uint8_t *reference = g_memdup2(p->reference, p->reference_size);
  uint8_t *target = g_malloc(p->len + DG_VCD_SLACK);
  struct dg_vcd_sections sections;
  int result;

  for (unsigned i = 0; i < DG_SECTIONS; i++) {
    blocks[i] = g_malloc(p->section[i]->len + DG_VCD_SLACK);
    memset(blocks[i] + p->section[i]->len, 0x81, DG_VCD_SLACK);
    if (p->section[i]->len > 0)
      memcpy(blocks[i], p->section[i]->data, p->section[i]->len);
    sections.data[i] = blocks[i];
    sections.size[i] = p->section[i]->len;
  }
  result = decode(&window, &sections, reference, p->reference_size, target, err);
  for (unsigned i = 0; i < DG_SECTIONS; i++)
    g_free(blocks[i]);
  g_free(reference);
  if (result == 0)
    return target;
  g_free(target);
  return NULL;
}

START_TEST(random_instructions_of_every_kind_decode_as_the_model_says)
{
  decode_fn decode = _i == 0 ? dg_vcd_window_decode : dg_vcd_window_decode_portable;

  for (uint32_t seed = 0; seed < 1500; seed++) {
    struct program p;
    struct dg_error err = {0};
    size_t wanted;
    uint8_t *target;

    program_init(&p, seed);
    wanted = below(&p, TARGET_MAX - 1600);
    while (p.len < wanted)
      add_instruction(&p, below(&p, 256));
    target = run(decode, &p, &err);
    ck_assert_msg(target != NULL, "seed %u: %s", seed, err.detail);
    ck_assert_msg(memcmp(target, p.target, p.len) == 0, "seed %u", seed);
    g_free(target);
    program_clear(&p);
  }
}
END_TEST

START_TEST(damaged_sections_never_lead_outside_the_buffers)
{
  decode_fn decode = _i == 0 ? dg_vcd_window_decode : dg_vcd_window_decode_portable;

  for (uint32_t seed = 0; seed < 300; seed++) {
    struct program p;

    program_init(&p, seed);
    while (p.len < 2000)
      add_instruction(&p, below(&p, 256));
    for (unsigned round = 0; round < 20; round++) {
      GByteArray *section = p.section[below(&p, DG_SECTIONS)];
      struct dg_error err = {0};
      uint8_t *target;

      if (section->len == 0)
        continue;
      section->data[below(&p, section->len)] = (uint8_t)g_rand_int(p.random);
      if (below(&p, 8) == 0)
        g_byte_array_set_size(section, below(&p, section->len));
      target = run(decode, &p, &err);
      if (target == NULL)
        ck_assert_int_eq(err.code, DG_E_CORRUPT);
      g_free(target);
    }
    program_clear(&p);
  }
}
END_TEST

START_TEST(a_source_segment_outside_the_reference_is_refused)
{
  struct program p;
  struct dg_error err = {0};

  program_init(&p, 1);
  apply(&p, DG_VCD_ADD, 0, 1);
  put_byte(p.section[DG_SECTION_INST], 2);
  p.source_size = p.reference_size;
  p.source_offset = 1;
  ck_assert_ptr_null(run(dg_vcd_window_decode, &p, &err));
  ck_assert_int_eq(err.code, DG_E_CORRUPT);
  program_clear(&p);
}
END_TEST

START_TEST(a_window_header_of_xdelta3_is_understood)
{
  /* "abc" of 3 bytes, one ADD, Adler-32, source segment 5 at 7. */
  static const uint8_t bytes[] = {0x05, 5,    7,    13,   3,   0,   3,   1, 0,
                                  0x02, 0x4d, 0x01, 0x27, 'a', 'b', 'c', 4};
  struct dg_vcd_window window;
  struct dg_error err = {0};

  ck_assert_int_eq(dg_vcd_window_parse(bytes, sizeof bytes, &window, &err), 0);
  ck_assert_uint_eq(window.source_size, 5);
  ck_assert_uint_eq(window.source_offset, 7);
  ck_assert_uint_eq(window.target_size, 3);
  ck_assert_uint_eq(window.adler32, 0x024d0127);
  ck_assert_uint_eq(window.header_size, 13);
  ck_assert_uint_eq(window.size_bytes, sizeof bytes);
  for (size_t len = 0; len < 13; len++)
    ck_assert_int_eq(dg_vcd_window_parse(bytes, len, &window, &err), -1);
}
END_TEST

START_TEST(oversize_windows_and_sections_are_refused_before_memory_is_taken)
{
  uint8_t bytes[DG_VCD_WINDOW_PROBE] = {0};
  struct dg_vcd_window window;
  struct dg_error err = {0};
  uint8_t *at;

  at = dg_varint_put(bytes + 1, 100);
  at = dg_varint_put(at, DG_VCD_WINDOW_MAX + 1);
  ck_assert_int_eq(dg_vcd_window_parse(bytes, sizeof bytes, &window, &err), -1);
  ck_assert_int_eq(err.code, DG_E_LIMIT);

  at = dg_varint_put(bytes + 1, UINT64_C(1) << 40);
  at = dg_varint_put(at, 10);
  *at++ = 0;
  at = dg_varint_put(at, UINT64_C(1) << 40);
  ck_assert_int_eq(dg_vcd_window_parse(bytes, sizeof bytes, &window, &err), -1);
  ck_assert_int_eq(err.code, DG_E_LIMIT);

  bytes[0] = DG_VCD_WIN_TARGET;
  ck_assert_int_eq(dg_vcd_window_parse(bytes, sizeof bytes, &window, &err), -1);
  ck_assert_int_eq(err.code, DG_E_UNSUPPORTED);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("vcdiff-window");
  TCase *tcase = tcase_create("window");
  SRunner *runner = srunner_create(suite);
  int failed;

  tcase_set_timeout(tcase, 120);
  tcase_add_loop_test(tcase, random_instructions_of_every_kind_decode_as_the_model_says, 0, 2);
  tcase_add_loop_test(tcase, damaged_sections_never_lead_outside_the_buffers, 0, 2);
  tcase_add_test(tcase, a_source_segment_outside_the_reference_is_refused);
  tcase_add_test(tcase, a_window_header_of_xdelta3_is_understood);
  tcase_add_test(tcase, oversize_windows_and_sections_are_refused_before_memory_is_taken);
  suite_add_tcase(suite, tcase);
  srunner_run_all(runner, CK_NORMAL);
  failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
