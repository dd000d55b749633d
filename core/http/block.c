/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/block.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/banned.h"

#define SPARES 16 /* 4 MiB kept warm */
#define SMALL_BYTES (64u * 1024u) /* up to here malloc serves well */

static struct {
  pthread_mutex_t mutex; /* guards the rest */
  void *spare[SPARES];
  unsigned count;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void *pages_take(void)
{
  void *pages = NULL;

  pthread_mutex_lock(&pool.mutex);
  if (pool.count)
    pages = pool.spare[--pool.count];
  pthread_mutex_unlock(&pool.mutex);
  if (pages)
    return pages;
  pages = mmap(NULL, DG_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

static void pages_give(void *pages)
{
  pthread_mutex_lock(&pool.mutex);
  if (pool.count < SPARES) {
    pool.spare[pool.count++] = pages;
    pages = NULL;
  }
  pthread_mutex_unlock(&pool.mutex);
  if (pages)
    (void)munmap(pages, DG_BLOCK_BYTES);
}

struct dg_block *dg_block_new(size_t capacity)
{
  struct dg_block *block;

  if (capacity <= SMALL_BYTES) {
    block = malloc(sizeof *block + capacity);
    if (!block)
      return NULL;
    block->data = (uint8_t *)(block + 1);
    block->capacity = capacity;
  } else {
    block = malloc(sizeof *block);
    if (!block)
      return NULL;
    block->data = pages_take();
    block->capacity = DG_BLOCK_BYTES;
    if (!block->data) {
      free(block);
      return NULL;
    }
  }
  block->len = 0;
  return block;
}

void dg_block_free(struct dg_block *block)
{
  if (!block)
    return;
  if (block->capacity > SMALL_BYTES)
    pages_give(block->data);
  free(block);
}
