/* SPDX-License-Identifier: Apache-2.0 */
/* Reflected CRCs of 32 or 64 bits, one engine for any polynomial.
 * Private to common/checksum.c and its tests. */
#ifndef DG_COMMON_CRC_H
#define DG_COMMON_CRC_H

#include <deltaglider/plugin.h>
#include <stdbool.h>

struct dg_crc;

extern struct dg_crc dg_crc_ieee;    /* CRC32 of zlib */
extern struct dg_crc dg_crc_iscsi;   /* CRC32C */
extern struct dg_crc dg_crc_nvme64;  /* CRC64NVME */

/* crc is a finished value, 0 to start; returns the finished value. [any] */
uint64_t dg_crc_update(struct dg_crc *crc_kind, uint64_t crc, const void *bytes, size_t len);
/* Finished value of a concatenation. [any] */
uint64_t dg_crc_combine(struct dg_crc *crc_kind, uint64_t first, uint64_t second,
                        uint64_t second_bytes);

#endif
