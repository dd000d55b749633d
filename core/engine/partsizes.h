/* SPDX-License-Identifier: Apache-2.0 */
/* The sizes of a multipart object's parts, as the text of its metadata
 * extension DG_EXTENSION_PART_SIZES: what GET by partNumber needs.
 *
 * Runs of equal sizes, in one of two forms:
 *
 *   SIZE[xCOUNT],...   decimal: "8388608x9999,1234". Written while it is short
 *   ~BASE64            the same, packed:
 *
 *     varint  number of runs         7 bits a byte, the low ones first, the top
 *     varint  smallest size          bit set on all bytes but the last
 *     byte    S, bits of one size    0..64
 *     byte    C, bits of one count   0..32
 *     runs    each S bits of (size - smallest) and C bits of (count - 1), the
 *             highest bit first, one after the other; zeros fill the last byte
 *
 * 10 000 sizes that differ by a few MiB take 38 KiB so. What is long goes into a note
 * beside the object, and the extension is "@ID" then: partnotes.h. Where neither has
 * room it is left out, and only partNumber fails. Thread: [any]. */
#ifndef DG_CORE_ENGINE_PARTSIZES_H
#define DG_CORE_ENGINE_PARTSIZES_H

#include <stdbool.h>

#include <deltaglider/plugin.h>

/* sizes: of count >= 1 parts, in order. Free the text with g_free(). */
char *dg_part_sizes_write(const uint64_t *sizes, uint32_t count);

/* The bytes of part part_no (from 1) of an object of size_bytes. False when the
 * text, which nobody vouches for, has no such part within the object. */
bool dg_part_sizes_find(struct dg_slice text, uint32_t part_no, uint64_t size_bytes,
                        struct dg_range *ret_range);

#endif
