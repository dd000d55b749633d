/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target is one function. With --enable-fuzzers and CC=clang, libFuzzer
 * calls it; else replay.c does, once for every file of tests/fuzz/corpus/NAME,
 * where the program is called fuzz-NAME. Keep a target deterministic and free
 * of state between calls.
 */
#ifndef DG_TESTS_FUZZ_FUZZ_H
#define DG_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run, whatever assert() is set to. */
#define FUZZ_CHECK(condition)                                                                      \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

#endif
