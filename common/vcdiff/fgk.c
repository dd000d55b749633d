/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adaptive Huffman coding after Faller, Gallager and Knuth, as a decoder.
 *
 * The tree's nodes stand in one row by falling weight, the root first. Nodes
 * of equal weight that stand together form a block, whose first node leads
 * it. Every byte already seen has a leaf; all others share the last node of
 * the row, of weight 0, and are told apart by an index of just enough bits
 * into the list of those still unseen, which keeps its order. After each byte
 * the nodes from its leaf up to the root gain weight, each after trading
 * places with the leader of its block.
 */
#include "config.h"

#include "common/vcdiff/secondary-private.h"

#include <deltaglider/plugin.h>
#include <glib.h>

#include "common/banned.h"

#define SYMBOLS 256
#define NODES   (2 * SYMBOLS - 1)
#define BLOCKS  (2 * NODES)
#define NONE    (-1)

/* Nodes 0..255 are the leaves of the bytes; the shared leaf of the unseen is
 * node UNSEEN; joints follow. */
#define UNSEEN  SYMBOLS

struct node {
  uint64_t weight;
  int16_t parent;
  int16_t child[2]; /* of a joint; NONE for a leaf */
  int16_t place;    /* in the row */
  int16_t block;
};

struct dg_fgk {
  struct node nodes[NODES + 1];
  int16_t row[NODES + 1]; /* nodes by place */
  int16_t row_len;
  int16_t leader[BLOCKS]; /* by block; NONE: the block is free */
  int16_t root;
  int16_t next_joint;
  uint8_t unseen[SYMBOLS];
  unsigned unseen_count;
};

struct dg_fgk *dg_fgk_new(void)
{
  struct dg_fgk *fgk = g_new0(struct dg_fgk, 1);

  for (int i = 0; i <= NODES; i++)
    fgk->nodes[i] = (struct node){0, NONE, {NONE, NONE}, NONE, NONE};
  for (int i = 0; i < BLOCKS; i++)
    fgk->leader[i] = NONE;
  for (int i = 0; i < SYMBOLS; i++)
    fgk->unseen[i] = (uint8_t)i;
  fgk->unseen_count = SYMBOLS;
  fgk->next_joint = UNSEEN + 1;
  fgk->root = UNSEEN;
  fgk->nodes[UNSEEN].place = 0;
  fgk->row[0] = UNSEEN;
  fgk->row_len = 1;
  return fgk;
}

void dg_fgk_free(struct dg_fgk *fgk)
{
  g_free(fgk);
}

/* ---- The tree --------------------------------------------------------------- */

static void put_in_row(struct dg_fgk *fgk, int node, int place)
{
  fgk->row[place] = (int16_t)node;
  fgk->nodes[node].place = (int16_t)place;
}

/* The node before this one in the row, or NONE. */
static int heavier(const struct dg_fgk *fgk, int node)
{
  int place = fgk->nodes[node].place;

  return place > 0 ? fgk->row[place - 1] : NONE;
}

static int lighter(const struct dg_fgk *fgk, int node)
{
  int place = fgk->nodes[node].place;

  return place + 1 < fgk->row_len ? fgk->row[place + 1] : NONE;
}

static void start_block(struct dg_fgk *fgk, int node)
{
  int block = 0;

  /* There are more slots than nodes, so one is free; the bound only keeps a
   * mistake here from becoming a wild write. */
  while (block < BLOCKS - 1 && fgk->leader[block] != NONE)
    block++;
  fgk->leader[block] = (int16_t)node;
  fgk->nodes[node].block = (int16_t)block;
}

static int which_child(const struct dg_fgk *fgk, int node)
{
  return fgk->nodes[fgk->nodes[node].parent].child[1] == node;
}

/* Lets a byte's leaf in: a joint takes the place of the unseen leaf, with that
 * leaf as left and the new one as right child. The last byte of all takes the
 * place of the unseen leaf itself. */
static void add_leaf(struct dg_fgk *fgk, int leaf)
{
  struct node *unseen = &fgk->nodes[UNSEEN];
  int place = unseen->place;
  int before = heavier(fgk, UNSEEN);
  int joint;

  if (fgk->unseen_count == 1) {
    fgk->nodes[unseen->parent].child[which_child(fgk, UNSEEN)] = (int16_t)leaf;
    fgk->nodes[leaf].parent = unseen->parent;
    put_in_row(fgk, leaf, place);
    if (fgk->nodes[before].weight == 1)
      fgk->nodes[leaf].block = fgk->nodes[before].block;
    else
      start_block(fgk, leaf);
    unseen->place = NONE;
    return;
  }
  joint = fgk->next_joint++;
  fgk->nodes[joint].parent = unseen->parent;
  fgk->nodes[joint].child[0] = UNSEEN;
  fgk->nodes[joint].child[1] = (int16_t)leaf;
  if (fgk->root == UNSEEN) {
    fgk->root = (int16_t)joint;
    start_block(fgk, leaf);
    start_block(fgk, joint);
  } else {
    fgk->nodes[unseen->parent].child[which_child(fgk, UNSEEN)] = (int16_t)joint;
    if (fgk->nodes[before].weight == 1)
      fgk->nodes[joint].block = fgk->nodes[before].block;
    else
      start_block(fgk, joint);
    fgk->nodes[leaf].block = fgk->nodes[joint].block;
  }
  fgk->nodes[leaf].parent = (int16_t)joint;
  unseen->parent = (int16_t)joint;
  put_in_row(fgk, joint, place);
  put_in_row(fgk, leaf, place + 1);
  put_in_row(fgk, UNSEEN, place + 2);
  fgk->row_len = (int16_t)(fgk->row_len + 2);
}

/* Trades the places of node and its block's leader, in the tree and the row. */
static void move_to_front_of_block(struct dg_fgk *fgk, int node)
{
  int leader = fgk->leader[fgk->nodes[node].block];
  int node_parent = fgk->nodes[node].parent;
  int leader_parent = fgk->nodes[leader].parent;
  int node_side, leader_side;
  int place = fgk->nodes[node].place;

  if (leader == node || node_parent == leader)
    return;
  node_side = which_child(fgk, node);
  leader_side = which_child(fgk, leader);
  fgk->nodes[node_parent].child[node_side] = (int16_t)leader;
  fgk->nodes[leader_parent].child[leader_side] = (int16_t)node;
  fgk->nodes[node].parent = (int16_t)leader_parent;
  fgk->nodes[leader].parent = (int16_t)node_parent;
  put_in_row(fgk, node, fgk->nodes[leader].place);
  put_in_row(fgk, leader, place);
  fgk->leader[fgk->nodes[node].block] = (int16_t)node;
}

/* Takes node, which leads its block and is about to weigh one more, out of it
 * and into the block before, if that has the new weight. */
static void leave_block(struct dg_fgk *fgk, int node)
{
  int before = heavier(fgk, node);
  int after = lighter(fgk, node);
  int block = fgk->nodes[node].block;
  int joins = before != fgk->root && fgk->nodes[node].weight + 1 == fgk->nodes[before].weight;
  int left = fgk->nodes[node].child[0];

  /* The unseen leaf's parent follows its other child, which it trailed
   * without leaving the block: both go on together. */
  if (left != NONE && fgk->nodes[left].weight == 0 && after == fgk->nodes[node].child[1]) {
    if (joins) {
      fgk->leader[block] = NONE;
      fgk->nodes[node].block = fgk->nodes[before].block;
      fgk->nodes[after].block = fgk->nodes[before].block;
    }
    return;
  }
  if (after == UNSEEN || after == NONE)
    return;
  if (fgk->nodes[after].block == block)
    fgk->leader[block] = (int16_t)after;
  else
    fgk->leader[block] = NONE;
  if (joins)
    fgk->nodes[node].block = fgk->nodes[before].block;
  else
    start_block(fgk, node);
}

static void count_symbol(struct dg_fgk *fgk, unsigned symbol, unsigned unseen_index)
{
  int node = (int)symbol;

  if (fgk->nodes[node].weight == 0) {
    add_leaf(fgk, node);
    fgk->unseen_count--;
    memmove(fgk->unseen + unseen_index, fgk->unseen + unseen_index + 1,
            fgk->unseen_count - unseen_index);
  }
  for (; node != fgk->root; node = fgk->nodes[node].parent) {
    if (fgk->nodes[node].weight > 0) {
      move_to_front_of_block(fgk, node);
      leave_block(fgk, node);
    }
    fgk->nodes[node].weight++;
  }
  fgk->nodes[node].weight++;
}

/* ---- Decoding --------------------------------------------------------------- */

struct bit_reader {
  const uint8_t *at;
  const uint8_t *end;
  unsigned next; /* bit of *at */
};

static int read_bit(struct bit_reader *reader)
{
  int bit;

  if (reader->at >= reader->end)
    return -1;
  bit = *reader->at >> reader->next & 1;
  if (++reader->next == 8) {
    reader->next = 0;
    reader->at++;
  }
  return bit;
}

int dg_fgk_decode(struct dg_fgk *fgk, const uint8_t *coded, size_t coded_len, uint8_t *plain,
                  size_t plain_len, struct dg_error *err)
{
  struct bit_reader reader = {coded, coded + coded_len, 0};

  for (size_t i = 0; i < plain_len; i++) {
    int node = fgk->root;
    unsigned index = 0;

    while (fgk->nodes[node].child[0] != NONE) {
      int bit = read_bit(&reader);

      if (bit < 0)
        return dg_fail(err, DG_E_CORRUPT, "FGK: the section is cut off");
      node = fgk->nodes[node].child[bit];
    }
    if (node == UNSEEN) {
      /* As many bits as it takes to count up to the last of them. */
      for (unsigned rest = fgk->unseen_count - 1; rest > 0; rest >>= 1) {
        int bit = read_bit(&reader);

        if (bit < 0)
          return dg_fail(err, DG_E_CORRUPT, "FGK: the section is cut off");
        index = index << 1 | (unsigned)bit;
      }
      if (index >= fgk->unseen_count)
        return dg_fail(err, DG_E_CORRUPT, "FGK: no such unseen byte");
      node = fgk->unseen[index];
    }
    plain[i] = (uint8_t)node;
    count_symbol(fgk, (unsigned)node, index);
  }
  if (reader.end - reader.at > (reader.next > 0 ? 1 : 0))
    return dg_fail(err, DG_E_CORRUPT, "FGK: bytes left over behind the section");
  return 0;
}
