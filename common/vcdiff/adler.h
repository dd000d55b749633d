/* SPDX-License-Identifier: Apache-2.0 */
/* Adler-32 at the speed of memory: every window of a delta carries one, and a
 * decoder spends its time on little else when copies are long. [any] */
#ifndef DG_COMMON_VCDIFF_ADLER_H
#define DG_COMMON_VCDIFF_ADLER_H

#include <stddef.h>
#include <stdint.h>

#define DG_ADLER32_INIT 1u

/* Continues adler (DG_ADLER32_INIT for the first piece) over len bytes. */
uint32_t dg_adler32(uint32_t adler, const void *data, size_t len);

/* The portable path, for tests and other processors. Same result. */
uint32_t dg_adler32_portable(uint32_t adler, const void *data, size_t len);

#endif
