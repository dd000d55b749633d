/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/http/block.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/banned.h"

#define SMALL_BYTES (64u * 1024u) /* up to here malloc serves well */
#define SPARES 16

/* One stack of warm blocks for each size: 12 MiB at most. */
struct stack {
  size_t size;
  unsigned count;
  void *spare[SPARES];
};

static struct {
  pthread_mutex_t mutex; /* guards the rest */
  struct stack stacks[2];
} pool = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .stacks = {{.size = DG_BLOCK_READ_BYTES}, {.size = DG_BLOCK_BYTES}},
};

static struct stack *stack_for(size_t size)
{
  return &pool.stacks[size > pool.stacks[0].size];
}

static void *pages_take(struct stack *stack)
{
  void *pages = NULL;

  pthread_mutex_lock(&pool.mutex);
  if (stack->count)
    pages = stack->spare[--stack->count];
  pthread_mutex_unlock(&pool.mutex);
  if (pages)
    return pages;
  pages = mmap(NULL, stack->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

static void pages_give(struct stack *stack, void *pages)
{
  pthread_mutex_lock(&pool.mutex);
  if (stack->count < SPARES) {
    stack->spare[stack->count++] = pages;
    pages = NULL;
  }
  pthread_mutex_unlock(&pool.mutex);
  if (pages)
    (void)munmap(pages, stack->size);
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
    struct stack *stack = stack_for(capacity);

    block = malloc(sizeof *block);
    if (!block)
      return NULL;
    block->data = pages_take(stack);
    block->capacity = stack->size;
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
    pages_give(stack_for(block->capacity), block->data);
  free(block);
}
