/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file that keeps a reference's index: one page of header, then the table
 * as it stands in memory. It is a cache of this machine's, in host byte order.
 *
 * A file is made under a temporary name, its header written last, and renamed:
 * a crash leaves at most a temporary file, which nobody reads. Nothing is
 * synced: what a power cut tears fails its digest and is built anew.
 */
#ifndef DG_CODEC_XDELTA3_INDEX_FILE_H
#define DG_CODEC_XDELTA3_INDEX_FILE_H

#if defined(__x86_64__) && defined(HAVE_XXH_X86DISPATCH_H)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include "plugins/codec-xdelta3/codec.h"

#define INDEX_HEADER_SIZE 4096u
#define INDEX_SUFFIX      ".xd3index"

/* Where the index of a reference is kept, with something appended. Free with
 * g_free(). */
char *index_path(const char *cache_dir, const struct dg_codec_ref *ref, const char *suffix);

/* Fills the header of a finished table. */
void index_seal(const struct dg_codec_ref *ref, XXH128_hash_t table_digest,
                uint8_t page[INDEX_HEADER_SIZE]);

/* Makes a mapped file (header and table) and its guard the reference's index; both
 * are transferred. */
void index_adopt(struct dg_codec_ref *ref, uint8_t *map, struct dg_mapguard *guard);

/* Removes what a crash left behind, and the indexes least recently used once
 * all together pass the limit; never `newest`. Mappings outlive their files. */
void index_prune(const struct codec *codec, const char *cache_dir, const char *newest);

#endif
