/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed-size buffers between readers and sockets.
 *
 * Chunks are allocated on workers and freed on loops, at rates that make a
 * general allocator keep far more memory than is in use. These come from a
 * small shared stack and beyond it go straight back to the kernel. [any] */
#ifndef DG_CORE_HTTP_BLOCK_H
#define DG_CORE_HTTP_BLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Of an upload: two of them are what a client may make us hold, one with a
 * worker and one filling. Half the size costs a sixth more CPU per PUT. */
#define DG_BLOCK_BYTES (512u * 1024u)
/* Of a download: what a client that does not read makes us hold. */
#define DG_BLOCK_READ_BYTES (256u * 1024u)

struct dg_block {
  uint8_t *data;
  size_t len;      /* filled */
  size_t capacity;
};

/* At least `capacity` bytes are needed (at most DG_BLOCK_BYTES). NULL when
 * there is no memory. */
struct dg_block *dg_block_new(size_t capacity);
void dg_block_free(struct dg_block *block); /* NULL is fine */

#endif
