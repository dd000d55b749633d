/* SPDX-License-Identifier: Apache-2.0 */
/* What an object is, by its first bytes: for names that say nothing. */
#ifndef DG_CORE_ENGINE_SNIFF_H
#define DG_CORE_ENGINE_SNIFF_H

#include <stdbool.h>
#include <stddef.h>

#define DG_SNIFF_BYTES 512u /* as many are looked at */

/* head: the first len bytes, DG_SNIFF_BYTES of them or the whole object if it is shorter.
 * True for archives, executables, databases and disk images that are stored in plain, of
 * which the next version has most of the bytes too. False for everything else, and so for
 * what is compressed as one stream (gzip, xz, zstd, bzip2, 7z) and for pictures, of which a
 * small change alters all. Whether a delta pays is measured later. [any] */
bool dg_sniff_suits_delta(const void *head, size_t len);

#endif
